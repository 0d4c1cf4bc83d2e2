"""Hypotheses and conclusions that several theorems of the paper share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import regimes
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Setting

__all__ = ["PAPER", "STEP_CONSTANT", "all_converge", "equal_weights", "flow_times", "gradient_motion", "horizon_lacks", "log_extent",
           "scores", "single_gaussian", "small_step", "target"]

PAPER = "Zhang et al. 2025 (arXiv 2511.22069)"

#: The constant of the step size's order, eta <= O(1/(n^4 d^2)), which the paper does not give.
STEP_CONSTANT = Constant("C_eta", None, "unknown")


#: By this factor the sum of squared distances must have fallen before students are said to converge.
FALL = 10.0

#: So many records the last e-fold of flow time must have.
LEAST_RECORDS = 3


def single_gaussian(setting: Setting) -> Hypothesis:
    """The loss is score matching of one Gaussian of identity covariance: which of the two fails, if one does."""
    return target(setting.objective, setting.single_teacher)


def target(objective: Objective, single: bool) -> Hypothesis:
    """As :func:`single_gaussian`; without it the paper's statements have no meaning."""
    if not scores(objective):
        return Hypothesis("the loss is score matching", r"L=\mathbb E\|s_\mu-s^*\|^2", fact=False, structural=True,
                          note=f"it is {type(objective).__name__}")
    return Hypothesis("the target is a single Gaussian", r"p^*=N(\mu^*,I)", fact=single, structural=True)


def scores(objective: Objective) -> bool:
    """Whether the loss is score matching, which the paper is about."""
    return isinstance(objective, ScoreMatching)


def of_students(lemma: Any, setting: Setting) -> list[Hypothesis]:
    """What lemmas about softmax weights suppose of an objective, as their `supposes`: its parameters are a Gaussian mixture's means."""
    if hasattr(setting.objective, "responsibilities"):
        return []
    return [Hypothesis("the parameters are the means of a Gaussian mixture", r"w_i=\pi_i\phi(x|\mu_i)/\sum_j\pi_j\phi(x|\mu_j)", fact=False,
                       structural=True, note=f"those of {type(setting.objective).__name__} are not")]


def equal_weights(setting: Setting) -> Hypothesis:
    """All mixture weights of the student are the same."""
    return Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights)


def gradient_motion(setting: Setting) -> Hypothesis:
    """The run is gradient descent, or gradient flow: no mini-batches, no expectation maximisation, no driver of a user's own."""
    words, latex = "the run is gradient descent, or gradient flow", r"\mu^+=\mu-\eta\nabla L"
    if setting.run is None:
        return Hypothesis(words, latex, note="no run was given")
    return Hypothesis(words, latex, fact=setting.run.driver in ("gradient_descent", "gradient_flow"),
                      note=f"the driver is {setting.run.driver}")


def small_step(setting: Setting, constants: Mapping[str, Constant]) -> Hypothesis:
    r""":math:`\eta\le C_\eta/(n^4d^2)`: only the order is published. Gradient flow is the limit of small steps.

    A run by another driver fails it: the step sizes of the paper are those of gradient descent.
    """
    words, latex = "the step size is small", r"\eta\le C_\eta/(n^4d^2)"
    if setting.run is not None:
        motion = gradient_motion(setting)
        if not motion.fact:
            return motion
        if setting.run.driver == "gradient_flow":
            return Hypothesis(words, latex, fact=True, note="gradient flow: the limit of small steps")
    constant, order = constants["C_eta"], 1 / (setting.n**4 * setting.d**2)
    if setting.step_size is None:
        return Hypothesis(words, latex, note="no step size was given", tag=constant.tag)
    if constant.value is None:
        return Hypothesis(words, latex, setting.step_size, "<=", math.nan, tag="unknown", tested=False,
                          note=f"only the order 1/(n^4 d^2) = {order:.3g} is published: holds for C_eta >= "
                               f"{setting.step_size / order:.3g}; give C_eta=")
    return Hypothesis(words, latex, setting.step_size, "<=", constant.value * order, tag=constant.tag)


def log_extent(setting: Setting) -> float:
    """ln of the largest distance of a student from their common mean; -inf if all coincide."""
    deviations = setting.state.deviations - setting.state.deviations.mean(axis=0)
    peak = float(np.abs(deviations).max())
    if peak == 0:
        return -math.inf
    return math.log(peak) + math.log(float(np.linalg.norm(deviations / peak, axis=1).max())) + setting.state.log_scale


def horizon_lacks(setting: Setting) -> str:
    r"""What a run lacks to show which students converge, however near or far they are; empty if nothing.

    The flow time must reach n/2, the time constant of the students' mean near the target, and the last e-fold of it must hold
    :data:`LEAST_RECORDS` records, the first of them after the start.
    """
    times, least = flow_times(setting), setting.n / 2
    if not times[-1] >= least:
        return f"the flow time {times[-1]:.3g} is below n/2 = {least:g}, the time constant of the students' mean"
    if np.count_nonzero(times[times > 0] >= times[-1] / math.e) < LEAST_RECORDS or not (times[times > 0] <= times[-1] / math.e).any():
        return f"the last e-fold of flow time has less than {LEAST_RECORDS} records"
    return ""


def all_converge(setting: Setting) -> Conclusion:
    r"""Every :math:`\mu_i\to\mu^*`, as far as a run shows a limit.

    :func:`overparam.regimes.classify` says so over an e-fold of flow time (:func:`horizon_lacks`), and the sum of the squared distances
    has fallen by a factor of :data:`FALL` from its start: inside the unit ball that sum only falls, but a run on which it has hardly
    fallen shows no limit. That some student does not converge is decided by the same e-fold.
    """
    words, latex = "every student converges to the target", r"\mu_i\to\mu^*"
    regime, lacks = regimes.classify(setting.run), horizon_lacks(setting)
    shown = f"{regime.name} {regime.reason}"
    if regime.undecided or lacks:
        return Conclusion(words, latex, note="; ".join(filter(None, (shown, lacks, "a longer run would decide"))))
    if len(regime.converged) < setting.n:
        return Conclusion(words, latex, fact=False, note=shown)
    distances = regimes.distances(setting.run)[[0, -1]]
    peak = float(distances.max()) or 1.0
    first, last = ((distances / peak) ** 2).sum(axis=1)
    shown += f"; the sum of squared distances has fallen to {last / first:.3g} of its start" if first else "; they start on it"
    if last * FALL > first:
        return Conclusion(words, latex, note=f"{shown}: a longer run, on which it falls to 1/{FALL:g}, would decide")
    return Conclusion(words, latex, fact=True, note=shown)


def flow_times(setting: Setting) -> np.ndarray:
    r""":math:`\eta\tau` at the records of the run."""
    return np.asarray(setting.run.times, dtype=np.float64)
