r"""Theorems 1 and 2: how often random starts converge to a multiple of the identity, and by when.

The checkers draw starts of their own and run them. The polynomials of the paper (how small the start and the step, how large the balancing
term, by when) are not known: constants stand for their values, and where they are not given the report shows what was measured.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import factors, init
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import MatrixFactorization
from overparam.theory.luo2025 import common
from overparam.theory.luo2025.determinant import least_loss
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["Theorem1", "Theorem2", "waiting_time"]

_CONFIDENCE = 0.999  # of intervals of frequencies
_RECORDS = 80  # of each run
_SIGNS = 4000  # draws of which only the determinant is looked at


def waiting_time(run: Trajectory, level: float) -> float:
    r"""Return the flow time of the first record from which on every loss is below `level`; inf if the last one is not.

    Parameters
    ----------
    run : Trajectory
    level : float

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> from overparam.theory.luo2025.convergence import waiting_time
    >>> obj = op.MatrixFactorization(np.eye(1), depth=2)
    >>> run = op.gradient_descent(obj, np.full((2, 1, 1), 0.5), step_size=0.1, steps=200, record=op.every(10))
    >>> waiting_time(run, 1e-6), waiting_time(run, 0.0)
    (4.0, inf)
    """
    above = np.flatnonzero(~(run.loss < level))
    if not above.size:
        return float(run.times[0])
    return float(run.times[above[-1] + 1]) if above[-1] + 1 < len(run) else math.inf


class _Convergence(Theorem):
    """Base: draws, runs, frequencies."""

    source = common.PAPER
    own = (Constant("d", 3, "given"), Constant("eps", 0.4, "given"), Constant("sigma", 1.0, "given"), Constant("delta", 0.5, "given"),
           Constant("complex", 1, "given"), Constant("loss", 1e-6, "given"), Constant("samples", 40, "given"), Constant("seed", 0, "given"))
    unknown: tuple[str, ...]

    @abstractmethod
    def start(self, d: int, eps: float, complex: bool, rng: np.random.Generator) -> np.ndarray:
        """A random start."""

    @abstractmethod
    def follow(self, objective: MatrixFactorization, start: np.ndarray, t_end: float, known: Mapping[str, Constant]) -> Trajectory:
        """Its run to a flow time."""

    @abstractmethod
    def supposed(self, known: Mapping[str, Constant]) -> list[Hypothesis]:
        """What is supposed of the polynomials."""

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on runs from a sample of starts; the constants say which, and `T` by which flow time they are to have converged."""
        if subject is not None or params0 is not None or step_size is not None:
            raise ValueError(f"{self.name} is about random starts and draws its own: check(name, d=3, eps=0.4, complex=1, samples=40)")
        known = self.given(constants)
        d, samples, seed = (check_integer(known[key].value, key, minimum=least) for key, least in (("d", 1), ("samples", 1), ("seed", 0)))
        complex = bool(check_integer(known["complex"].value, "complex", maximum=1))
        eps, sigma, level, t_end = (check_positive(known[key].value, key) for key in ("eps", "sigma", "loss", "t_end"))
        delta = check_real(known["delta"].value, "delta", minimum=0.0)
        hypotheses = (*self.supposed(known), Hypothesis("the probability of failing is between 0 and 1", r"0<\delta<1",
                                                        fact=0 < delta < 1, note=f"delta = {delta:g}"))
        shown = tuple(known[key] for key in self.unknown)
        if any(one.tested and one.holds is False for one in hypotheses):
            return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, (), shown)
        until = t_end if known["T"].value is None else max(float(known["T"].value), 0.0)
        objective = MatrixFactorization(sigma * np.eye(d), balance=known["a"].value if "a" in known else 0.0)
        rng = np.random.default_rng(seed)
        starts = [self.start(d, eps, complex, rng) for _ in range(samples)]
        runs = [self.follow(objective, start, until, known) for start in starts]
        waits = np.array([waiting_time(run, level) for run in runs])
        negative = np.array([not complex and factors.determinant_sign(start) < 0 for start in starts])
        conclusions = [self._often(waits, delta, complex, level, until, known["T"]), *self.never(runs, negative, d, eps, sigma, rng)]
        never = "" if known["T"].value is not None else "the time by which the runs are to have converged is not known"
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, tuple(conclusions), shown,
                      self._measured(waits, negative, complex, until), never_verified=never)

    @staticmethod
    def _often(waits: np.ndarray, delta: float, complex: bool, level: float, until: float, constant: Constant) -> Conclusion:
        bound = 1 - delta if complex else (1 - delta) / 2
        words, latex = f"the loss is below {level:g} from T on at least as often as promised", r"\Pr[L(t)<\epsilon_{conv},\ t>T]\ge" + (
            r"1-\delta" if complex else r"\tfrac12(1-\delta)")
        hits, trials = int(np.isfinite(waits).sum()), len(waits)
        low, high = binomial_interval(hits, trials, _CONFIDENCE)
        note = f"{hits} of {trials} runs by t = {until:g}, {100 * _CONFIDENCE:g} % interval {low:.4g} to {high:.4g}"
        if constant.value is None:
            return Conclusion(words, latex, hits / trials, ">=", math.nan, tag="unknown", tested=False,
                              note=f"{note}, against {bound:g}; T is not known: give T=")
        share = hits / trials
        return Conclusion(words, latex, share, ">=", bound, tag=constant.tag, error=share - low if share >= bound else high - share,
                          note=note)

    def never(self, runs: list[Trajectory], negative: np.ndarray, d: int, eps: float, sigma: float,
              rng: np.random.Generator) -> list[Conclusion]:
        """What is said of runs that do not converge."""
        return []

    @staticmethod
    def _measured(waits: np.ndarray, negative: np.ndarray, complex: bool, until: float) -> dict[str, Any]:
        horizons = [until / 12, until / 4, until / 2, until]

        def shares(of: np.ndarray) -> list[str]:
            return [f"{int((of <= horizon).sum())} of {of.size}" for horizon in horizons]

        found: dict[str, Any] = {"flow times": horizons}
        if complex:
            found["converged by then"] = shares(waits)
        else:
            found["converged by then, positive determinant"] = shares(waits[~negative])
            found["converged by then, negative determinant"] = shares(waits[negative])
        done = waits[np.isfinite(waits)]
        if done.size:
            found["median flow time of those that did"] = float(np.median(done))
        return found

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:  # pragma: no cover - about no setting
        return []

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:  # pragma: no cover - about no setting
        return []


def _bound(words: str, latex: str, value: float, relation: str, constant: Constant) -> Hypothesis:
    """A hypothesis whose right side is a polynomial's value, where it is given."""
    if constant.value is None:
        return Hypothesis(words, latex, value, relation, math.nan, tag="unknown", tested=False,
                          note=f"the paper's polynomial is not known; give {constant.name}=")
    return Hypothesis(words, latex, value, relation, constant.value, tag=constant.tag)


@register
class Theorem1(_Convergence):
    r"""Theorem 1: four Gaussian factors of scale :math:`\epsilon`, gradient descent, target :math:`\sigma_1I` (``sigma``). Where

    .. math:: \epsilon\le\frac{\sigma_1^{1/4}}{\mathrm{poly}(\frac1\delta,d)},\quad
              a\ge\sigma_1\mathrm{poly}(\tfrac1\delta,d,\ln\tfrac{\sigma_1^{1/4}}\epsilon),\quad
              \eta=O\Big(\frac1{\sigma_1^{3/2}\mathrm{poly}(\frac a{\sigma_1},\frac1\delta,d,\frac{\sigma_1^{1/4}}\epsilon)}\Big),

    the loss is below :math:`\epsilon_{conv}` (``loss``) for all :math:`t>T`, with probability :math:`1-\delta` for complex factors and
    about :math:`\frac12(1-\delta)` for real ones. ``eps_max``, ``a_min``, ``eta_max`` and ``T`` (flow time) stand for the right sides.

    The waiting time is heavy-tailed: a share belongs to a horizon. Real factors that are not balanced may turn the sign of their
    determinant, so that at moderate scale more than half converge.
    """

    name = "luo2025.theorem_1"
    title = "Theorem 1 (global convergence)"
    statement = ("From small Gaussian factors, with a large balancing term and a small step, gradient descent converges to a multiple of "
                 "the identity with probability 1 - delta if the factors are complex, and about half of that if they are real.")
    latex = r"\Pr[L(t)<\epsilon_{conv}\ \forall t>T]\ge1-\delta\ (\mathbb C),\ \approx\tfrac12(1-\delta)\ (\mathbb R)"
    unknown = ("eps_max", "a_min", "eta_max", "T")
    constants = (*_Convergence.own, Constant("a", 4.0, "given"), Constant("eta", 0.01, "given"), Constant("t_end", 100.0, "given"),
                 *(Constant(name, None, "unknown") for name in unknown))

    def supposed(self, known: Mapping[str, Constant]) -> list[Hypothesis]:
        return [_bound("the start is small", r"\epsilon\le\sigma_1^{1/4}/\mathrm{poly}", known["eps"].value, "<=", known["eps_max"]),
                _bound("the balancing term is large", r"a\ge\sigma_1\mathrm{poly}", known["a"].value, ">=", known["a_min"]),
                _bound("the step size is small", r"\eta\le O(1/[\sigma_1^{3/2}\mathrm{poly}])", known["eta"].value, "<=", known["eta_max"])]

    def start(self, d: int, eps: float, complex: bool, rng: np.random.Generator) -> np.ndarray:
        return init.small_gaussian(4, d, eps, rng, complex)

    def follow(self, objective: MatrixFactorization, start: np.ndarray, t_end: float, known: Mapping[str, Constant]) -> Trajectory:
        step = check_positive(known["eta"].value, "eta")
        found: Trajectory = gradient_descent(objective, start, step_size=step, steps=math.ceil(t_end / step), record=log_spaced(_RECORDS),
                                             progress=False)
        return found

    def examples(self) -> dict[str, Example]:
        given = {"eps_max": 0.4, "a_min": 4.0, "eta_max": 0.01, "T": 100.0}
        return {"complex": Example("verified", lambda: given, "d=3, eps=0.4, a=4, eta=0.01, delta=1/2, by t=100"),
                "real": Example("verified", lambda: {**given, "complex": 0, "delta": 0.7}, "against (1 - delta)/2 = 0.15"),
                "polynomials not known": Example("undecided", lambda: {"t_end": 50.0}, "the same as the first, to t=50"),
                "too early": Example("violated", lambda: {**given, "T": 2.0}, "given a constant T = 2 that is not the statement's"),
                "too large": Example("vacuous", lambda: {**given, "eps_max": 0.1}, "eps=0.4 where 0.1 is allowed")}


@register
class Theorem2(_Convergence):
    r"""Theorem 2: four balanced Gaussian factors, gradient flow, target :math:`\sigma_1I` (``sigma``).

    Real factors: with probability at least 1/2 the loss does not converge to 0 (the determinant is negative, which the flow cannot change:
    ``luo2025.law_determinant``); with :math:`\frac12(1-\delta)` it is below :math:`\epsilon_{conv}` (``loss``) from
    :math:`T=\sigma_1^{-3/2}\mathrm{poly}` on. Complex ones: with :math:`1-\delta`. The polynomial is not known: ``T``, in flow time.
    """

    name = "luo2025.theorem_2"
    title = "Theorem 2 (balanced starts)"
    statement = ("From balanced Gaussian factors gradient flow converges to a multiple of the identity with probability 1 - delta if they "
                 "are complex, and half of that if they are real; with probability at least 1/2 real ones do not.")
    latex = (r"\Pr[L\to0]\ge1-\delta\ (\mathbb C),\quad\Pr[L\to0]\ge\tfrac12(1-\delta),\ \Pr[L\not\to0]\ge\tfrac12\ (\mathbb R)")
    unknown = ("T",)
    constants = (*_Convergence.own, Constant("t_end", 150.0, "given"), Constant("T", None, "unknown"))

    def supposed(self, known: Mapping[str, Constant]) -> list[Hypothesis]:
        return []

    def start(self, d: int, eps: float, complex: bool, rng: np.random.Generator) -> np.ndarray:
        return init.balanced_gaussian(4, d, eps, rng, complex)

    def follow(self, objective: MatrixFactorization, start: np.ndarray, t_end: float, known: Mapping[str, Constant]) -> Trajectory:
        found: Trajectory = gradient_flow(objective, start, t_end=t_end, rtol=1e-8, record=log_spaced(_RECORDS), progress=False)
        return found

    def never(self, runs: list[Trajectory], negative: np.ndarray, d: int, eps: float, sigma: float,
              rng: np.random.Generator) -> list[Conclusion]:
        if runs[0].final.dtype.kind == "c":
            return []
        hits = sum(bool(factors.determinant_sign(self.start(d, eps, False, rng)) < 0) for _ in range(_SIGNS))
        low, high = binomial_interval(hits, _SIGNS, _CONFIDENCE)
        share = hits / _SIGNS
        found = [Conclusion("at least half of the real starts have a negative determinant, which does not converge",
                            r"\Pr[L\not\to0]\ge\tfrac12", share, ">=", 0.5, attained=True, error=max(share - low, high - share),
                            note=f"{hits} of {_SIGNS} draws, {100 * _CONFIDENCE:g} % interval {low:.4g} to {high:.4g}")]
        stuck = [run for run, one in zip(runs, negative, strict=True) if one]
        if stuck:
            least = min(float(run.loss.min()) for run in stuck)
            errors = max(float(run.loss_error.max()) for run in stuck) + 16 * common.EPS
            found.append(Conclusion("their loss never falls below half of sigma_1^2", r"L\ge\tfrac12\sigma_1^2", least, ">=",
                                    float(least_loss(sigma * np.eye(d))), tag="derived", attained=True, error=errors,
                                    note=f"the least of {len(stuck)} runs"))
        return found

    def examples(self) -> dict[str, Example]:
        return {"complex": Example("verified", lambda: {"T": 150.0}, "d=3, eps=0.4, delta=1/2, by t=150"),
                "real": Example("verified", lambda: {"T": 150.0, "complex": 0, "delta": 0.8}, "against (1 - delta)/2 = 0.1"),
                "time not known": Example("undecided", lambda: {"complex": 0, "t_end": 40.0}, "real, T not given, to t=40"),
                "too early": Example("violated", lambda: {"T": 2.0}, "given a constant T = 2 that is not the statement's"),
                "delta": Example("vacuous", lambda: {"T": 150.0, "delta": 1.5}, "delta=1.5")}
