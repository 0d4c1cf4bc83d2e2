"""What the statements share: the setting of the paper, and the points that its formulas are about."""

from __future__ import annotations

import numpy as np

from overparam import rates
from overparam.objectives import KLDivergence
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Setting
from overparam.theory.zhang2025.lemmas_b import GradientPoint
from overparam.trajectory import Trajectory

__all__ = ["OWN", "PAPER", "LikelihoodPoint", "at_target", "divergence", "fallen", "fixed_weights", "flow", "gradient_motion",
           "on_one_gaussian"]

PAPER = "Xu et al. 2024 (arXiv 2407.00490)"
OWN = "this library, for the setting of Xu et al. 2024 (arXiv 2407.00490)"

_TOL = 1e-11  # of the library's gradients at sampled points


def at_target(d: int, weights: np.ndarray | None = None, tol: float = _TOL) -> KLDivergence:
    """Kullback–Leibler divergence from N(0, I) in d dimensions."""
    return KLDivergence(Gaussian(np.zeros(d)), weights=weights, rule=Auto(tol=tol))


def divergence(objective: Objective) -> Hypothesis:
    """The loss is the divergence, which gradient EM descends."""
    return Hypothesis("the loss is the Kullback-Leibler divergence from the teacher", r"L=\mathrm{KL}(p^*\|p_\mu)",
                      fact=isinstance(objective, KLDivergence), structural=True)


def fallen(run: Trajectory, exponent: float = -0.5, strict: bool = False, time: str = "t") -> tuple[bool, str]:
    """Whether the loss falls at least like a power of time at the end of a run (`strict`: faster), and a note on it.

    A loss that is exactly 0 at the end has fallen below any power; a run with too few losses above 0 has no slope.
    """
    if run.status in ("unstable", "failed"):
        return False, f"the run is {run.status}"
    if run.loss[-1] == 0 and run.times[-1] > 0:
        return True, "the loss is exactly 0 at the end"
    if ((run.times > 0) & (run.loss > 0)).sum() < 2:
        return False, "fewer than two records have flow time and loss above 0"
    slope = float(rates.local_slope(run).slope[-1])
    return bool(slope < exponent if strict else slope <= exponent), f"d ln L/d ln {time} = {slope:.4g} at the end"


def on_one_gaussian(setting: Setting) -> list[Hypothesis]:
    """The divergence from a single Gaussian of identity covariance."""
    return [divergence(setting.objective),
            Hypothesis("the target is a single Gaussian", r"p^*=N(\mu^*,I)", fact=setting.single_teacher, structural=True)]


def fixed_weights(setting: Setting) -> bool:
    """Whether a run leaves the mixture weights alone."""
    return not setting.run.settings.get("update_weights", False)


def flow(setting: Setting) -> bool:
    """Whether the run is a gradient flow."""
    return setting.run.driver == "gradient_flow"


def gradient_motion(setting: Setting) -> Hypothesis:
    """The run is gradient EM with weights that stay, or its limit of small steps."""
    words, latex = "the run is gradient EM with fixed weights, or its flow", r"\mu_i^+=\mu_i-\eta\nabla_iL"
    if setting.run is None:
        return Hypothesis(words, latex, note="no run was given")
    descent = setting.run.driver in ("gradient_descent", "em") and setting.step_size is not None and fixed_weights(setting)
    return Hypothesis(words, latex, fact=descent or flow(setting), note=f"the driver is {setting.run.driver}")


class LikelihoodPoint(GradientPoint):
    """A point of the divergence from one Gaussian: objective, state, and directions to move it in."""

    def hypotheses(self, equal: bool = True) -> list[Hypothesis]:
        """The divergence, a single Gaussian target, and equal weights."""
        means = getattr(getattr(self.objective, "teacher", None), "means", ())
        found = [divergence(self.objective),
                 Hypothesis("the target is a single Gaussian", r"p^*=N(\mu^*,I)", fact=len(means) == 1, structural=True)]
        if equal:
            found.append(Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=bool(np.ptp(self.weights) == 0)))
        return found
