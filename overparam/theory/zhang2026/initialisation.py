"""Lemma 6: what a start drawn from the target looks like in high dimension, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from overparam._validation import check_integer, check_real
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.theory.zhang2026 import common

__all__ = ["Events", "Lemma6", "draw_events", "events_at"]

_CONFIDENCE = 0.999  # of intervals of frequencies
_LIMIT = math.log(1e12)  # from this dimension on norms are drawn from their limit law, which is then right to 1e-6
_MOST = 20_000_000  # random numbers at most


class Events(NamedTuple):
    """What Lemma 6 says of a start: arrays over draws for sampled ones, numbers for a given one."""

    fewest: Any       #: least number of students of a component
    gap: Any          #: least difference of two norms of the parts orthogonal to the true means
    inside: Any       #: largest distance of a student's part in the span of the true means from its own true mean
    norm: Any         #: largest difference of the orthogonal part's norm from sqrt(d)

    def hold(self, n: int) -> list[Any]:
        """Whether each of the four events holds."""
        return [self.fewest >= 1, self.gap >= n**-3.0, self.inside <= n, self.norm <= n]


def draw_events(weights: np.ndarray, n: int, ln_d: float, draws: int, rng: np.random.Generator) -> Events:
    r"""Events of `draws` starts of n students from a mixture of m = len(weights) components in :math:`e^{ln_d}\ge m+1` dimensions.

    Nothing of length d is drawn: the part of :math:`\mu_j-\mu_i^*` in the span of the true means is normal in m coordinates, the norm of
    the rest has a chi distribution of d - m degrees, which from :math:`d=10^{12}` on is :math:`\sqrt d+N(0,\frac12)`.
    """
    m = len(weights)
    counts = rng.multinomial(n, weights, size=draws)
    inside = np.sqrt(rng.chisquare(m, (draws, n)))
    if ln_d < _LIMIT:
        d = math.exp(ln_d)
        off = np.sqrt(rng.chisquare(max(round(d) - m, 1), (draws, n))) - math.sqrt(d)
    else:
        off = rng.standard_normal((draws, n)) / math.sqrt(2)
    gap = np.diff(np.sort(off, axis=1), axis=1).min(axis=1) if n > 1 else np.full(draws, math.inf)
    return Events(counts.min(axis=1), gap, inside.max(axis=1), np.abs(off).max(axis=1))


def events_at(setting: Setting) -> tuple[Events, float]:
    """Events of a given start, each student taken as drawn from the nearest true mean; and the largest cosine of two orthogonal parts.

    Parallel is what lies in the affine span of the true means, one axis less than their span with the origin, which is nowhere special.
    """
    target, state = common.target(setting), setting.state
    means = common.in_coordinates(state, target.means)
    points = state.coordinates
    nearest = np.linalg.norm(points[:, None] - means[None], axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=target.m)
    origin = means[0]
    _, sizes, axes = np.linalg.svd(means - origin, full_matrices=False)
    axes = axes[sizes > 1e-12 * max(float(sizes.max()), 1e-300)]
    offsets = points - means[nearest]
    inside = offsets @ axes.T
    across = offsets - inside @ axes
    norms = np.linalg.norm(across, axis=1)
    gap = float(np.diff(np.sort(norms)).min()) if len(norms) > 1 else math.inf
    units = across / np.maximum(norms, 1e-300)[:, None]
    cosines = np.abs(units @ units.T)[~np.eye(len(norms), dtype=bool)]
    events = Events(int(counts.min()), gap, float(np.linalg.norm(inside, axis=1).max()), float(np.abs(norms - math.sqrt(state.d)).max()))
    return events, float(cosines.max()) if cosines.size else 0.0


@register
class Lemma6(Theorem):
    r"""Lemma 6: the events that a start drawn from the target has.

    With :math:`S_i` the students drawn from component i, :math:`\mu_j^\parallel` the part of a student in the span of the true means:
    every :math:`|S_i|\ge1`; norms of the orthogonal parts at least :math:`n^{-3}` apart; :math:`\|\mu_j^\parallel-\mu_i^*\|\le n`;
    :math:`|\,\|\mu_j-\mu_j^\parallel\|-\sqrt d|\le n`. A fifth, that the orthogonal parts are nearly orthogonal to each other, has no
    constant in our source and is left out; `measured` shows its order.

    The frequency of all four, over ``samples`` draws of ``n`` students from ``m`` components of which the heaviest weighs ``gap`` more than
    each of the others, which are equal, has a Clopper-Pearson interval. The probability :math:`1-\frac1m` is that of Theorems 2 and 4,
    whose only chance is the start.
    """

    name = "zhang2026.lemma_6"
    title = "Lemma 6 (starts drawn from the target)"
    source = common.PAPER
    statement = ("A start drawn from the target meets every component, and has well-separated orthogonal norms close to sqrt(d) and "
                 "parallel parts close to the true means, with probability at least 1 - 1/m.")
    latex = (r"\Pr\big[|S_i|\ge1,\ \min_{j\ne k}\big|\|\mu_j^\perp\|-\|\mu_k^\perp\|\big|\ge n^{-3},\ \|\mu_j^\parallel-\mu_i^*\|\le n,\ "
             r"\big|\|\mu_j^\perp\|-\sqrt d\big|\le n\big]\ge1-\tfrac1m")
    constants = (Constant("m", 3, "given"), Constant("n", 11, "given"), Constant("gap", 0.1, "given"), Constant("ln_d", 14_000.0, "given"),
                 Constant("eps", 0.01, "given"), Constant("samples", 20_000, "given"), Constant("seed", 0, "given"), common.DIMENSION)

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on a sample of starts; the constants m, n, gap (of weights), ln_d, eps, samples and seed say which."""
        if subject is not None or params0 is not None or step_size is not None:
            raise ValueError(f"{self.name} is about random starts and draws its own: check(name, m=3, n=11, gap=0.1, ln_d=14000)")
        known = self.given(constants)
        m, n, samples, seed = (check_integer(known[key].value, key, minimum=least) for key, least in
                               (("m", 2), ("n", 1), ("samples", 1), ("seed", 0)))
        gap = check_real(known["gap"].value, "gap", minimum=0.0, maximum=1.0)
        ln_d = check_real(known["ln_d"].value, "ln_d", minimum=math.log(m + 1))
        eps = check_real(known["eps"].value, "eps", minimum=0.0)
        if samples * n > _MOST:
            raise ValueError(f"samples must not be above {_MOST // n} for n = {n}; got {samples}")
        weights = np.full(m, (1 - gap) / m)
        weights[0] += gap
        least = float(weights.min())
        if least <= 0:
            raise ValueError(f"gap must be below 1, so that every component has a weight; got {gap:g}")
        hypotheses = (common.components(m), common.unique_largest(gap), common.enough_students(n, m, least),
                      Hypothesis("the exponent is small", r"0<\epsilon\le0.01", eps, "<=", 0.01) if eps > 0 else
                      Hypothesis("the exponent is positive", r"\epsilon>0", eps, ">", 0.0),
                      common.dimension(ln_d, eps, n, min(least, gap), known))
        found = draw_events(weights, n, ln_d, samples, np.random.default_rng(seed))
        marks = found.hold(n)
        hits = int(np.logical_and.reduce(marks).sum())
        low, high = binomial_interval(hits, samples, _CONFIDENCE)
        share, bound = hits / samples, self._promised(m)
        frequency = Conclusion("the events hold at least as often as promised", r"\Pr\ge1-\frac1m", share, ">=", bound,
                               error=share - low if share >= bound else high - share, tag="reconstructed",
                               note=f"{hits} of {samples} draws, {100 * _CONFIDENCE:g} % interval {low:.6g} to {high:.6g}")
        names = ("every component is met", "norms are apart", "parallel parts are near", "orthogonal norms are near sqrt(d)")
        measured: dict[str, Any] = {f"share of draws: {words}": float(mark.mean()) for words, mark in zip(names, marks, strict=True)}
        measured["most that components are missed, m (1 - pi_min)^n (derived)"] = m * (1 - least) ** n
        measured["ln of the order of the largest cosine of two orthogonal parts, sqrt(2 ln n(n-1)) / sqrt(d) (derived)"] = \
            math.log(2 * math.log(max(n * (n - 1), 2))) / 2 - ln_d / 2
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, (frequency,), (known["C0"],), measured)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:  # pragma: no cover - about no setting
        return []

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:  # pragma: no cover - about no setting
        return []

    def examples(self) -> dict[str, Example]:
        return {"given C0": Example("verified", lambda: {"C0": 1.0}, "m=3, n=11, d=exp(14000), large enough for C0 = 1"),
                "C0 not known": Example("undecided", dict, "the same"),
                "ten thousand dimensions": Example("vacuous", lambda: {"ln_d": math.log(1e4), "C0": 1.0},
                                                   "d=1e4 is far too small for C0 = 1; the events are as frequent all the same"),
                "too few students": Example("vacuous", lambda: {"n": 4, "C0": 1.0}, "components are missed")}

    @staticmethod
    def _promised(m: int) -> float:
        return 1 - 1 / m
