"""Hypotheses that several statements of the paper share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from overparam.objectives import KLDivergence
from overparam.state import State
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Setting

__all__ = ["DIMENSION", "PAPER", "Target", "components", "dimension", "enough_students", "in_coordinates", "largest_ln_c0", "ln_c0",
           "ln_least_dimension", "other_problem", "start_weights", "target", "unique_largest"]

PAPER = "Zhang, Xu, Fazel, Zhou and Du 2026 (Is sqrt(d) separation necessary)"

#: The constant of the least dimension; 0 stands for no condition on it.
DIMENSION = Constant("C0", None, "unknown")


@dataclass(frozen=True, eq=False)
class Target:
    r"""The mixture :math:`p^*`: means (m, d), weights (m,) in falling order, and the distances of every pair of means."""

    means: np.ndarray
    weights: np.ndarray
    distances: np.ndarray

    @property
    def m(self) -> int:
        """Number of components."""
        return len(self.weights)

    @property
    def gap(self) -> float:
        r""":math:`\pi_{gap}^*`, the largest weight less the next."""
        return float(self.weights[0] - self.weights[1]) if self.m > 1 else 1.0

    @property
    def least(self) -> float:
        r""":math:`\pi_{\min}^*`."""
        return float(self.weights[-1])

    @property
    def rho(self) -> float:
        r""":math:`\rho=\min\{\pi_{\min}^*,\pi_{gap}^*\}`."""
        return min(self.least, self.gap)


def target(setting: Setting) -> Target:
    """The target of a setting; ValueError if the loss is not the Kullback-Leibler divergence from a Gaussian mixture."""
    objective = setting.objective
    means = getattr(getattr(objective, "teacher", None), "means", None)
    if not isinstance(objective, KLDivergence) or means is None:
        raise ValueError("the paper is about the Kullback-Leibler divergence from a mixture of Gaussians: the objective must be an "
                         f"op.KLDivergence of an op.Gaussian or op.GaussianMixture; got {objective!r}"[:300])
    weights = objective.teacher.weights
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    means = means[order]
    pairs = [float(np.linalg.norm(means[i] - means[j])) for i in range(len(means)) for j in range(i)]
    return Target(means, weights[order], np.array(pairs))


def in_coordinates(state: State, means: np.ndarray) -> np.ndarray:
    """Points of the full space in a state's coordinates, of whose span they are part."""
    shifted = means if state.origin is None else means - state.origin
    return shifted if state.basis is None else shifted @ state.basis


def start_weights(setting: Setting) -> np.ndarray:
    """(n,) weights at the start: those of a run's first record, whatever they became."""
    run = setting.run
    if run is None or run.weights is None:
        return setting.weights
    return run.weights if run.weights.ndim == 1 else run.weights[0]


# --- hypotheses -------------------------------------------------------------------------------------------------------


def other_problem(setting: Setting) -> list[Hypothesis]:
    """The hypothesis that fails where the loss is not the Kullback-Leibler divergence from a mixture; none where it is."""
    try:
        target(setting)
    except ValueError as error:
        return [Hypothesis("the loss is the Kullback-Leibler divergence from a Gaussian mixture", r"\mathcal L=KL(p^*\|p)", fact=False,
                           structural=True, note=str(error))]
    return []


def components(m: int) -> Hypothesis:
    """At least three components; the paper's own experiments have two."""
    return Hypothesis("the target has at least three components", r"m\ge3", m, ">=", 3,
                      note="the paper's own experiments have two" if m == 2 else "")


def unique_largest(gap: float) -> Hypothesis:
    """One component is heavier than all others."""
    return Hypothesis("one weight is larger than all others", r"\pi_{gap}^*>0", gap, ">", 0.0)


def enough_students(n: int, m: int, least: float) -> Hypothesis:
    r""":math:`n\ge\frac3{\pi^*_{\min}}\ln m`."""
    return Hypothesis("there are enough students", r"n\ge\frac3{\pi^*_{\min}}\log m", n, ">=", 3 * math.log(m) / least)


def ln_c0(constants: Mapping[str, Constant]) -> float | None:
    """Its logarithm, -inf for 0, as it is given; None if it is not."""
    value = constants["C0"].value
    return None if value is None else math.log(value) if value > 0 else -math.inf


def ln_least_dimension(ln_c: float, eps: float, n: int, rho: float) -> float:
    r""":math:`\ln\max\{C_0(100n/\rho)^{15/\epsilon},e^{\frac{C_0}\epsilon\ln\frac{C_0}\epsilon}\}`.

    Examples
    --------
    >>> from overparam.theory.zhang2026.common import ln_least_dimension
    >>> round(ln_least_dimension(0.0, 0.01, n=10, rho=0.1), 1)      # 1500 ln(1e4): C0 = 1
    13815.5
    """
    if not (rho > 0 and eps > 0):
        return math.inf
    if ln_c == -math.inf:
        return 0.0
    ratio = ln_c - math.log(eps)
    return max(ln_c + 15 / eps * math.log(100 * n / rho), math.exp(ratio) * ratio if ratio < 690 else math.inf)


def largest_ln_c0(ln_d: float, eps: float, n: int, rho: float) -> float:
    r"""The largest :math:`\ln C_0` for which the dimension is large enough: the inverse of :func:`ln_least_dimension`."""
    from scipy.special import lambertw

    if not (rho > 0 and eps > 0):
        return -math.inf
    other = math.log(eps) + (math.log(ln_d / float(lambertw(ln_d).real)) if ln_d > 0 else 0.0)  # y ln y = ln d
    return min(ln_d - 15 / eps * math.log(100 * n / rho), other)


def dimension(ln_d: float, eps: float, n: int, rho: float, constants: Mapping[str, Constant]) -> Hypothesis:
    """The dimension is as large as the paper asks, in logarithms."""
    words = "the dimension is large"
    latex = r"d\ge\max\{C_0(100n/\rho)^{15/\epsilon},\exp(\tfrac{C_0}\epsilon\log\tfrac{C_0}\epsilon)\}"
    value = ln_c0(constants)
    if value is None:
        return Hypothesis(words, latex, ln_d, ">=", math.nan, tag="unknown", logarithmic=True, tested=False,
                          note=f"C0 is not given by the paper: holds for ln C0 <= {largest_ln_c0(ln_d, eps, n, rho):.6g}; give C0=")
    return Hypothesis(words, latex, ln_d, ">=", ln_least_dimension(value, eps, n, rho), logarithmic=True, tag=constants["C0"].tag)
