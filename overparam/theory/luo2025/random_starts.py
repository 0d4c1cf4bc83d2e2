r"""Theorems 3 and 6: what random starts look like, and how often.

Both hold with probability :math:`1-\delta`, for factors of O(1/δ) and the like whose constants the paper does not give. The checkers draw
starts of their own: with the constants given, the frequency of the events has a Clopper-Pearson interval; without, the report shows the
smallest constants that serve these draws, for several δ.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from overparam import factors, init
from overparam._validation import check_integer, check_positive
from overparam.theory.luo2025 import common
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025.random_start import binomial_interval

__all__ = ["Drawn", "Theorem3", "Theorem6"]

_CONFIDENCE = 0.999  # of intervals of frequencies
_DELTAS = (0.5, 0.2, 0.1, 0.05, 0.02)  # for which needed constants are shown
_MOST = 4_000_000  # entries of all factors at most


class Drawn(NamedTuple):
    """Numbers of S starts, lengths in units of eps."""

    large: np.ndarray      #: (S,) what f_1 bounds
    small: np.ndarray      #: (S,) the least singular value that f_2 bounds from below
    small_error: np.ndarray  #: (S,) its numerical error
    negative: np.ndarray   #: (S,) whether the determinant of a real product is negative


class _RandomStart(Theorem):
    """Base: draws, frequencies, needed constants."""

    source = common.PAPER
    constants = (Constant("N", 4, "given"), Constant("d", 3, "given"), Constant("delta", 0.1, "given"), Constant("complex", 1, "given"),
                 Constant("samples", 2000, "given"), Constant("seed", 0, "given"), Constant("C1", None, "unknown"),
                 Constant("C2", None, "unknown"))
    words: tuple[str, str, str]
    formulas: tuple[str, str, str]

    @abstractmethod
    def draw(self, depth: int, d: int, complex: bool, count: int, rng: np.random.Generator) -> Drawn:
        """Starts of scale 1: the statement is homogeneous in eps."""

    @abstractmethod
    def factors_of_delta(self, depth: int, delta: float) -> tuple[float, float]:
        """f_1 and f_2 for constants of 1."""

    @abstractmethod
    def least_bound(self, depth: int, d: int) -> float:
        """What `small` is at least, for f_2 = 1."""

    def supposed(self, depth: int) -> list[Hypothesis]:
        """What the statement supposes of N."""
        return []

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on a sample of starts; the constants N, d, delta, complex (1 or 0), samples and seed say which; C1 and C2 are O's."""
        if subject is not None or params0 is not None or step_size is not None:
            raise ValueError(f"{self.name} is about random starts and draws its own: check(name, N=4, d=3, delta=0.1, complex=1)")
        known = self.given(constants)
        depth, d, samples, seed = (check_integer(known[key].value, key, minimum=least)
                                   for key, least in (("N", 2), ("d", 1), ("samples", 1), ("seed", 0)))
        complex = bool(check_integer(known["complex"].value, "complex", maximum=1))
        delta = check_positive(known["delta"].value, "delta")
        if samples * depth * d * d > _MOST:
            raise ValueError(f"samples must not be above {_MOST // (depth * d * d)} for N = {depth} and d = {d}; got {samples}")
        hypotheses = (*self.supposed(depth), Hypothesis("the probability of failing is below 1", r"\delta<1", delta, "<", 1.0))
        shown = tuple(known[key] for key in ("C1", "C2"))
        if any(one.holds is False for one in hypotheses):
            return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, (), shown)
        found = self.draw(depth, d, complex, samples, np.random.default_rng(seed))
        good = np.ones(samples, dtype=bool) if complex else ~found.negative
        conclusions = [self._frequency(found, good, depth, d, delta, known)]
        if not complex:
            conclusions += self._signs(found)
        never = "" if all(one.value is not None for one in shown) else "no sample proves that there are constants C1 and C2"
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, tuple(conclusions), shown,
                      self._measured(found, good, depth, d), never_verified=never)

    def _needed(self, found: Drawn, good: np.ndarray, depth: int, d: int, delta: float) -> tuple[float, float]:
        """The smallest C1 and C2 for which either fails in half of delta of the draws."""
        first, second = self.factors_of_delta(depth, delta)
        share = 1 - delta / 2
        with np.errstate(divide="ignore"):
            lowest = self.least_bound(depth, d) / found.small[good]
        return float(np.quantile(found.large, share, method="higher")) / first, \
            float(np.quantile(lowest, share, method="higher")) / second if good.any() else math.nan

    def _frequency(self, found: Drawn, good: np.ndarray, depth: int, d: int, delta: float, known: Mapping[str, Constant]) -> Conclusion:
        words, latex = self.words[0], self.formulas[0]
        one, two = (known[key].value for key in ("C1", "C2"))
        if one is None or two is None:
            needed = self._needed(found, good, depth, d, delta)
            return Conclusion(words, latex, needed[0], "<=", math.nan, tag="unknown", tested=False,
                              note=f"holds at these draws for C1 >= {needed[0]:.4g} and C2 >= {needed[1]:.4g}, delta/2 to either; give C1= "
                                   "and C2=")
        first, second = self.factors_of_delta(depth, delta)
        with np.errstate(divide="ignore"):
            least = self.least_bound(depth, d) / (two * second) if two * second > 0 else math.inf
        hold = (found.large <= one * first) & (found.small >= least)
        hits, trials = int(hold[good].sum()), int(good.sum())
        low, high = binomial_interval(hits, trials, _CONFIDENCE)
        share = hits / trials if trials else math.nan
        return Conclusion(words, latex, share, ">=", 1 - delta, tag="given", error=share - low if share >= 1 - delta else high - share,
                          note=f"{hits} of {trials} draws, {100 * _CONFIDENCE:g} % interval {low:.4g} to {high:.4g}")

    def _signs(self, found: Drawn) -> list[Conclusion]:
        negative, trials = int(found.negative.sum()), len(found.negative)
        low, high = binomial_interval(negative, trials, _CONFIDENCE)
        share = negative / trials
        half = Conclusion(self.words[1], self.formulas[1], share, "==", 0.5, error=max(share - low, high - share),
                          note=f"{negative} of {trials} draws, {100 * _CONFIDENCE:g} % interval {low:.4g} to {high:.4g}")
        if not negative:
            return [half]
        values, errors = found.small[found.negative], found.small_error[found.negative]
        worst = int(np.argmax(values - errors))
        return [half, Conclusion(self.words[2], self.formulas[2], float(values[worst]), "==", 0.0, error=float(errors[worst]), scale=1.0,
                                 note="in units of the scale; of all negative draws the one farthest beyond its rounding")]

    def _measured(self, found: Drawn, good: np.ndarray, depth: int, d: int) -> dict[str, Any]:
        needed = [self._needed(found, good, depth, d, delta) for delta in _DELTAS]
        shown: dict[str, Any] = {"delta": list(_DELTAS), "C1 needed": [one for one, _ in needed], "C2 needed": [two for _, two in needed],
                                 "median of the least singular value, over its bound's power of d and eps":
                                     float(np.median(found.small[good])) / self.least_bound(depth, d) if good.any() else math.nan}
        return shown

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:  # pragma: no cover - about no setting
        return []

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:  # pragma: no cover - about no setting
        return []


@register
class Theorem3(_RandomStart):
    r"""Theorem 3: balanced Gaussian starts, N even, :math:`W=U\Sigma_w^NV^H`. With probability :math:`1-\delta`

    .. math:: \|\Sigma_w\|_{op}\le f_1\sqrt d\,\epsilon,\quad\|(U-V)\Sigma_w\|_F\le2f_1d\,\epsilon,\quad
              \sigma_{\min}((U+V)\Sigma_w)\ge\frac{\epsilon}{f_2'd^{3/2}},\qquad f_1=\frac{C_1}\delta,\ f_2'=\frac{C_2}{\delta^2};

    of real factors the last where the sign of the determinant is +1, which it is with probability 1/2, else it is 0. The second follows
    from the first [derived], and is left out. The paper writes the sign as :math:`s\det Q_{N,N+1}\det Q_{01}`; for even d it has to be
    that of :math:`UV^T`, in which s counts d times [derived].
    """

    name = "luo2025.theorem_3"
    title = "Theorem 3 (balanced random starts)"
    statement = ("A balanced Gaussian start has singular values of order eps, and its Hermitian part is not small: with probability "
                 "1 - delta for complex factors, and for real ones if the determinant is positive, which it is in half of the cases; else "
                 "the Hermitian part is singular.")
    latex = (r"\Pr\big[\|\Sigma_w\|_{op}\le f_1\sqrt d\epsilon,\ \|(U-V)\Sigma_w\|_F\le2f_1d\epsilon,\ "
             r"\sigma_{\min}((U+V)\Sigma_w)\ge\epsilon/(f_2'd^{3/2})\big]\ge1-\delta")
    words = ("the bounds hold at least as often as promised", "half of the real products have a negative determinant",
             "their Hermitian part is singular")
    formulas = (r"\Pr\ge1-\delta", r"\Pr[\det UV^T=-1]=\tfrac12", r"\sigma_{\min}((U+V)\Sigma_w)=0")

    def supposed(self, depth: int) -> list[Hypothesis]:
        return [Hypothesis("the number of factors is even", r"N\ \text{even}", fact=depth % 2 == 0, note=f"N = {depth}")]

    def draw(self, depth: int, d: int, complex: bool, count: int, rng: np.random.Generator) -> Drawn:
        starts = np.stack([init.balanced_gaussian(depth, d, 1.0, rng, complex) for _ in range(count)])
        sizes = np.linalg.svd(starts[:, 0], compute_uv=False)
        small = np.linalg.svd(factors.layer_hermitian(starts), compute_uv=False)[:, -1]  # rounded like one factor, not like the product
        error = 64 * d * depth * common.EPS * sizes[:, 0] * (sizes[:, 0] / sizes[:, -1]) ** (depth // 2 - 1)
        return Drawn(sizes[:, 0] / math.sqrt(d), small, error, factors.determinant_sign(starts).real < 0)

    def factors_of_delta(self, depth: int, delta: float) -> tuple[float, float]:
        return 1 / delta, 1 / delta**2

    def least_bound(self, depth: int, d: int) -> float:
        found: float = d**-1.5
        return found

    def examples(self) -> dict[str, Example]:
        return {"complex": Example("verified", lambda: {"C1": 1.0, "C2": 1.0}, "N=4, d=3, delta=0.1, constants of 1"),
                "real": Example("verified", lambda: {"complex": 0, "C1": 1.0, "C2": 1.0}, "the same with signs"),
                "constants not known": Example("undecided", dict, "the smallest that serve"),
                "too small": Example("violated", lambda: {"C1": 0.05, "C2": 1.0}, "given a constant C1 = 0.05 that is not the statement's"),
                "odd": Example("vacuous", lambda: {"N": 3}, "N=3")}


@register
class Theorem6(_RandomStart):
    r"""Theorem 6: independent Gaussian factors :math:`W_j=\epsilon G_j`. With probability :math:`1-\delta`

    .. math:: \max_{j,k}\sigma_k(W_j)\le f_1\sqrt d\,\epsilon,\quad\min_{j,k}\sigma_k(W_j)\ge\frac\epsilon{f_1\sqrt d},\quad
              \sigma_{\min}(W+(WW^H)^{1/2})\ge\frac{\epsilon^N}{f_2d^{N/2+1}},\quad f_1=\frac{C_1N}\delta,\ f_2=\frac{C_2N^N}{\delta^{N+1}};

    of real factors the last where :math:`\det W>0`, else it is 0. The text prints :math:`\le` in the second bound, which must be
    :math:`\ge` [reconstructed]: it is needed as a lower bound, and would fail for most draws as an upper one. That real determinants are
    negative in half of the cases is by symmetry.
    """

    name = "luo2025.theorem_6"
    title = "Theorem 6 (independent random starts)"
    statement = ("Independent Gaussian factors have singular values between eps/(f_1 sqrt(d)) and f_1 sqrt(d) eps, and W + (W W^H)^(1/2) "
                 "is not small: with probability 1 - delta for complex factors, and for real ones if the determinant is positive; else it "
                 "is singular.")
    latex = (r"\Pr\big[\max\sigma\le f_1\sqrt d\epsilon,\ \min\sigma\ge\epsilon/(f_1\sqrt d),\ "
             r"\sigma_{\min}(W+(WW^H)^{1/2})\ge\epsilon^N/(f_2d^{N/2+1})\big]\ge1-\delta")
    words = ("the bounds hold at least as often as promised", "half of the real products have a negative determinant",
             "their W + (W W^H)^(1/2) is singular")
    formulas = (r"\Pr\ge1-\delta", r"\Pr[\det W<0]=\tfrac12", r"\sigma_{\min}(W+(WW^T)^{1/2})=0")

    def draw(self, depth: int, d: int, complex: bool, count: int, rng: np.random.Generator) -> Drawn:
        starts = np.stack([init.small_gaussian(depth, d, 1.0, rng, complex) for _ in range(count)])
        extremes = factors.factor_extremes(starts)
        with np.errstate(divide="ignore"):
            large = np.maximum(extremes[:, 1] / math.sqrt(d), 1 / (extremes[:, 0] * math.sqrt(d)))
        error = 64 * d * depth * common.EPS * np.prod(np.linalg.norm(starts, axis=(2, 3)), axis=1)
        return Drawn(large, factors.polar_values(starts)[:, -1], error, factors.determinant_sign(starts).real < 0)

    def factors_of_delta(self, depth: int, delta: float) -> tuple[float, float]:
        return depth / delta, depth**depth / delta ** (depth + 1)

    def least_bound(self, depth: int, d: int) -> float:
        found: float = float(d) ** -(depth / 2 + 1)
        return found

    def examples(self) -> dict[str, Example]:
        return {"complex": Example("verified", lambda: {"C1": 1.0, "C2": 1.0}, "N=4, d=3, delta=0.1, constants of 1"),
                "real": Example("verified", lambda: {"complex": 0, "C1": 2.0, "C2": 1.0}, "with signs, C1 = 2"),
                "constants not known": Example("undecided", dict, "the smallest that serve"),
                "too small": Example("violated", lambda: {"C1": 0.01, "C2": 1.0}, "given a constant C1 = 0.01 that is not the statement's"),
                "no probability": Example("vacuous", lambda: {"delta": 1.0}, "delta=1")}
