"""Hypotheses and conclusions that several theorems of the paper share."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from overparam import regimes
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Setting

__all__ = ["PAPER", "STEP_CONSTANT", "all_converge", "equal_weights", "flow_times", "log_extent", "other_loss", "scores",
           "single_gaussian", "small_step"]

PAPER = "Zhang et al. 2025 (arXiv 2511.22069)"

#: The constant of the step size's order, eta <= O(1/(n^4 d^2)), which the paper does not give.
STEP_CONSTANT = Constant("C_eta", None, "unknown")


def single_gaussian(setting: Setting) -> Hypothesis:
    """The target is one Gaussian of identity covariance."""
    return Hypothesis("the target is a single Gaussian", r"p^*=N(\mu^*,I)", fact=setting.single_teacher and scores(setting.objective),
                      note=other_loss(setting.objective))


def scores(objective: Objective) -> bool:
    """Whether the loss is score matching, which the paper is about."""
    return isinstance(objective, ScoreMatching)


def other_loss(objective: Objective) -> str:
    """What to say where it is not."""
    return "" if scores(objective) else f"the loss is {type(objective).__name__}, and the statement is about score matching"


def equal_weights(setting: Setting) -> Hypothesis:
    """All mixture weights of the student are the same."""
    return Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights)


def small_step(setting: Setting, constants: Mapping[str, Constant]) -> Hypothesis:
    r""":math:`\eta\le C_\eta/(n^4d^2)`: only the order is published. Gradient flow is the limit of small steps."""
    words, latex = "the step size is small", r"\eta\le C_\eta/(n^4d^2)"
    if setting.run is not None and setting.step_size is None:
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


def all_converge(setting: Setting) -> Conclusion:
    r"""Every :math:`\mu_i\to\mu^*`, as :func:`overparam.regimes.classify` sees it at the end of the run."""
    regime = regimes.classify(setting.run)
    fact = None if regime.undecided else len(regime.converged) == setting.n
    note = f"{regime.name} {regime.reason}" + ("; a longer run would decide" if fact is None else "")
    return Conclusion("every student converges to the target", r"\mu_i\to\mu^*", fact=fact, note=note)


def flow_times(setting: Setting) -> np.ndarray:
    r""":math:`\eta\tau` at the records of the run."""
    return np.asarray(setting.run.times, dtype=np.float64)
