"""The conditions of the paper's theorems that :func:`overparam.theory.sharpness` pushes until the conclusion fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from overparam import init, regimes
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.theorem import Setting
from overparam.theory.thresholds import Edge, Probe, register_edge
from overparam.theory.zhang2025.far_start import least_distance
from overparam.theory.zhang2025.laws_growth import border
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.theory.zhang2025.slow_loss import lasting_slope
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["flow_outcome", "profile"]

_RULE = Auto(tol=1e-6)  # an outcome, not a number, is asked for: at 1e-8 the thresholds are the same to 0.01 nats
_RTOL = 1e-5
_HORIZON = 1e6
_MOST_UNEQUAL = math.log(0.9)  # weights 1 + delta z with |z| <= 1 stay positive
_FIRST_ORDER = -2.5  # ln of the relative differences of weights up to which the law of first order is shown


def profile(n: int) -> np.ndarray:
    """(n,) equispaced numbers from -1 to 1."""
    return np.linspace(-1.0, 1.0, n)


def _flow(start: State | np.ndarray, d: int, weights: np.ndarray | None = None, *, t_end: float = _HORIZON, rtol: float = _RTOL,
          records: int = 200, until: bool = True) -> Trajectory:
    target = np.zeros(d)
    objective = ScoreMatching(Gaussian(target), weights=weights, rule=_RULE)
    return gradient_flow(objective, start, t_end=t_end, rtol=rtol, record=log_spaced(records),
                         stop=regimes.until_decided(target) if until else None, progress=False)


def _axis(values: Any, d: int) -> np.ndarray:
    """(n, d) array with `values` on the first axis."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([values[:, None], np.zeros((len(values), d - 1))], axis=1)


def flow_outcome(run: Trajectory, value: float, wanted: int) -> Probe:
    """Whether exactly `wanted` students converged and all others diverged."""
    regime = regimes.classify(run)
    return Probe(value, None if regime.k is None else regime.k == wanted, regime.name if regime.k is not None else regime.reason)


@register_edge
class NoiseTime(Edge):
    """Theorem 2.1: a pair at opposite sides of the target, the rest on it, at less and less noise; n >= 3.

    Two students alone come back from everywhere as long as they stay opposite each other, which they do not: rounding parts them.
    """

    name, vary = "zhang2025.theorem_2_1", "noise_time"
    quantity, latex, rises = "the noise time t, from a pair at distance M on both sides of the target", "t", False
    tag, tag_words = "published", "ln n + ln M + 2"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 3, "d": 1, "M": 1.0}
    limits = (-40.0, math.inf)

    def least(self, key: str) -> int:
        return 3 if key == "n" else super().least(key)

    def published(self, problem: Mapping[str, Any]) -> float:
        return math.log(problem["n"]) + math.log(problem["M"]) + 2

    def guess(self, problem: Mapping[str, Any]) -> float:
        return math.log(problem["M"]) - 1.0

    def derived(self, problem: Mapping[str, Any]) -> float | None:
        from overparam.theory.zhang2025.stationary_point import DERIVED

        known = DERIVED.get(problem["n"])  # the pair of Theorem 3.1 stands still: nearer ones come back, others escape
        return None if known is None else math.log(problem["M"]) - math.log(known[0])

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d = problem["n"], problem["d"]
        return flow_outcome(_flow(init.symmetric_pair(n, problem["M"] * math.exp(-value), d), d), value, n)


@register_edge
class StepSize(Edge):
    """Theorem 2.1: gradient descent from inside the published ball, with larger and larger steps."""

    name, vary, first = "zhang2025.theorem_2_1", "step_size", False
    quantity, latex, rises = "the logarithm of the step size, from within exp(-2)/n of the target", r"\ln\eta", True
    tag, tag_words = "unknown", "the order 1/(n^4 d^2), its constant taken as 1"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 3, "d": 1}

    def published(self, problem: Mapping[str, Any]) -> float:
        return -4 * math.log(problem["n"]) - 2 * math.log(problem["d"])

    def guess(self, problem: Mapping[str, Any]) -> float:
        return math.log(problem["n"]) - 0.7

    def derived(self, problem: Mapping[str, Any]) -> float:
        return math.log(problem["n"])  # the mean has curvature 2/n at the target: stable below 2 over that

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d, eta = problem["n"], problem["d"], math.exp(value)
        start = _axis(np.linspace(-0.5, 0.99, n) * math.exp(-2) / n, d)
        objective = ScoreMatching(Gaussian(np.zeros(d)), rule=_RULE)
        run = gradient_descent(objective, start, step_size=eta, steps=max(200, math.ceil(400 / eta)), record=log_spaced(100),
                               progress=False)
        if run.status == "unstable" or not run.loss[-1] < run.loss[0]:
            return Probe(value, False, f"the loss does not fall ({run.status})")
        return flow_outcome(run, value, n)


def _kappa(problem: Mapping[str, Any]) -> float | None:
    r""":math:`\kappa` of the border :math:`\ln\varepsilon^*=-M_0^2+\kappa` for :func:`profile`; None below the distances it is known for.

    For profiles of root mean square 1: the middle of what :func:`overparam.theory.zhang2025.laws_growth.border` has over profiles.
    """
    known = border(problem["n"])
    if known is None or problem["M0"] < 2.5:
        return None
    kappa = sum(known) / 2
    return kappa - math.log(float(np.sqrt((profile(problem["n"]) ** 2).mean())))


@register_edge
class Spread(Edge):
    """Theorem 3.2: a cluster at distance M0, wider and wider."""

    name, vary = "zhang2025.theorem_3_2", "spread"
    quantity, latex, rises = "the logarithm of the students' largest distance from their mean", r"\ln\max_i\|\mu_i-c\|", True
    tag, tag_words = "published", "-ln(108 n d) - 106 n d M0^3"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 2, "d": 1, "M0": 3.0}
    step = 0.5

    def published(self, problem: Mapping[str, Any]) -> float:
        n, d = problem["n"], problem["d"]
        found: float = -math.log(108 * n * d) - 106 * n * d * problem["M0"] ** 3
        return found

    def guess(self, problem: Mapping[str, Any]) -> float:
        expected = self.derived(problem)
        return -problem["M0"] ** 2 + 3.0 if expected is None else expected - 0.2

    def derived(self, problem: Mapping[str, Any]) -> float | None:
        kappa = _kappa(problem)
        return None if kappa is None else -problem["M0"] ** 2 + kappa

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d = problem["n"], problem["d"]
        shape = _axis(profile(n), d)
        centre = _axis([problem["M0"]], d)[0]
        start = (init.around(centre, shape, log_scale=value) if value <= 0 else init.around(centre, math.exp(value) * shape))
        return flow_outcome(_flow(start, d), value, n)


@register_edge
class Weights(Edge):
    """Theorem 3.2's equal weights: students that coincide at distance M0, of weights more and more unequal."""

    name, vary, first = "zhang2025.theorem_3_2", "weights", False
    quantity, latex, rises = "the logarithm of the weights' relative differences, from coincident students", r"\ln(|\delta\pi|/\pi)", True
    tag, tag_words = "published", "equal weights: none at all"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 2, "d": 1, "M0": 3.0}
    step = 0.5
    limits = (-33.0, _MOST_UNEQUAL)  # below, float64 does not hold the difference

    def published(self, problem: Mapping[str, Any]) -> float:
        return -math.inf

    def guess(self, problem: Mapping[str, Any]) -> float:
        expected = self.derived(problem)
        return min(-problem["M0"] ** 2 + 4.0 if expected is None else expected - 0.2, _MOST_UNEQUAL - 0.1)

    def derived(self, problem: Mapping[str, Any]) -> float | None:
        r"""The weights feed the spread at the rate :math:`\frac2n\delta m`, and what is fed at m grows by :math:`e^{m^2}`.

        In all :math:`\delta\int_0^{M_0}e^{m^2}dm=\delta\,e^{M_0^2}D(M_0)`, D Dawson's integral, which may reach :math:`e^\kappa`. To first
        order in :math:`\delta`: very unequal weights let all converge again, and at :math:`M_0=2.5`, n = 2, all of them do.
        """
        from scipy.special import dawsn

        kappa = _kappa(problem)
        expected = None if kappa is None else -problem["M0"] ** 2 + kappa - math.log(dawsn(problem["M0"]))
        return None if expected is None or expected > _FIRST_ORDER else expected

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d = problem["n"], problem["d"]
        weights = 1 + math.exp(value) * profile(n)
        start = init.around(_axis([problem["M0"]], d)[0], np.zeros((n, d)))
        return flow_outcome(_flow(start, d, weights / weights.sum()), value, n)


class _Distance(Edge):
    """Conditions on M0."""

    rises = False
    defaults: ClassVar[Mapping[str, Any]] = {"n": 2, "d": 1}
    tag, tag_words = "published", "ln(10^9 sqrt(d) n^10)"
    limits = (-3.0, math.inf)
    step = 0.25

    def published(self, problem: Mapping[str, Any]) -> float:
        return math.log(least_distance(problem["n"], problem["d"]))

    def guess(self, problem: Mapping[str, Any]) -> float:
        return math.log(2.0)


@register_edge
class OffsetDistance(_Distance):
    """Theorem 3.4: all at one point but one, which is exp(-M0/100) nearer."""

    name, vary = "zhang2025.theorem_3_4", "M0"
    quantity, latex = "ln M0, one student exp(-M0/100) nearer than the others", r"\ln M_0"
    tag = "reconstructed"

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d, distance = problem["n"], problem["d"], math.exp(value)
        shape = np.zeros(n)
        shape[0] = -1.0
        return flow_outcome(_flow(init.around(_axis([distance], d)[0], _axis(shape, d), log_scale=-distance / 100), d), value, 1)


def _gap_start(distance: float, n: int, d: int) -> State:
    r"""The start that condition (2) of Theorem 3.5 just admits: the nearest, then the others :math:`\frac12M_0^{-1/3}` behind."""
    gap = distance ** (-1 / 3) / 2
    return init.around(_axis([distance], d)[0], _axis(np.concatenate([[0.0], np.linspace(1.0, 2.0, n - 1)]) * gap, d))


@register_edge
class GapDistance(_Distance):
    """Theorem 3.5: one student nearer than all others by the least gap that is allowed."""

    name, vary = "zhang2025.theorem_3_5", "M0"
    quantity, latex = "ln M0, one student nearer than all others by M0^(-1/3)/2 [reconstructed]", r"\ln M_0"

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        return flow_outcome(_flow(_gap_start(math.exp(value), problem["n"], problem["d"]), problem["d"]), value, 1)


@register_edge
class SlowLossDistance(_Distance):
    """Theorem 3.7: the same start; the loss's slope must rise above -(1 + eps)."""

    name, vary = "zhang2025.theorem_3_7", "M0"
    quantity, latex = "ln M0, one student nearer than all others by M0^(-1/3)/2 [reconstructed]", r"\ln M_0"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 2, "d": 1, "eps": 0.1}

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        distance, d = math.exp(value), problem["d"]
        run = _flow(_gap_start(distance, problem["n"], d), d, t_end=1e8, until=False)
        regime = regimes.classify(run)
        if regime.k is None:
            return Probe(value, None, regime.reason)
        if regime.k == problem["n"]:
            return Probe(value, False, "all converge: the slope tends to -2")
        if distance > 30:
            return Probe(value, None, f"{regime.name}; the law's time exp(r^2/8) is beyond any run: see the checker of the theorem")
        slope, _, why = lasting_slope(Setting.of(run))
        enough = slope is not None and slope > -(1 + problem["eps"])
        return Probe(value, True if enough else None, f"{regime.name}, {why}" + ("" if slope is None else f" ({slope:.4f})"))


@register_edge
class RandomDistance(_Distance):
    """Corollary 3.6: students drawn at random; exactly one converges but for a share of starts."""

    name, vary = "zhang2025.corollary_3_6", "M0"
    quantity, latex = "ln M0, students drawn from N(M0 e_1, I), failing in at most a given share of starts", r"\ln M_0"
    tag_words = "ln max(10^9 sqrt(d) n^10, (n^2/failure)^3)"
    defaults: ClassVar[Mapping[str, Any]] = {"n": 2, "d": 1, "failure": 0.1, "samples": 40, "seed": 0}
    resolution = 0.2
    splits = (0.5,)  # a sample that leaves a value open leaves its neighbours open too

    def checked(self, problem: Mapping[str, Any]) -> dict[str, Any]:
        found = super().checked(problem)
        if not found["failure"] < 1:
            raise ValueError(f"failure must be a share below 1; got {found['failure']!r}")
        return found

    def published(self, problem: Mapping[str, Any]) -> float:
        return max(super().published(problem), 3 * math.log(problem["n"] ** 2 / problem["failure"]))

    def guess(self, problem: Mapping[str, Any]) -> float:
        return math.log(4.0)

    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        n, d, trials = problem["n"], problem["d"], problem["samples"]
        if value > math.log(1e6):
            return Probe(value, None, "failures are too rare there for a sample to show")
        draws = np.random.default_rng(problem["seed"]).standard_normal((trials, n, d))  # the same at every M0
        centre = _axis([math.exp(value)], d)[0]
        ks = [regimes.count(_flow(init.around(centre, z), d, t_end=1e4, rtol=1e-4, records=60)) for z in draws]
        failed, unclear = sum(k is not None and k != 1 for k in ks), sum(k is None for k in ks)
        low, high = binomial_interval(failed, trials)[0], binomial_interval(failed + unclear, trials)[1]
        holds = True if high <= problem["failure"] else False if low > problem["failure"] else None
        return Probe(value, holds, f"{failed} of {trials} starts fail, {unclear} undecided: 95 % interval {low:.3g} to {high:.3g}")
