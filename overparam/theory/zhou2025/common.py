"""What the statements share: the setting of the paper, and a teacher seen in the coordinates of a state."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam.objectives.base import Objective
from overparam.state import State
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Setting
from overparam.theory.xu2024.common import divergence

__all__ = ["OWN", "PAPER", "hybrid_motion", "is_mixture", "on_mixture", "teacher_in", "weights_at"]

PAPER = "Zhou et al. 2025 (arXiv 2506.06584)"
OWN = "this library, for the setting of Zhou et al. 2025 (arXiv 2506.06584)"


def is_mixture(objective: Objective) -> bool:
    """Whether the teacher is a mixture of Gaussians (of one, perhaps)."""
    return getattr(getattr(objective, "teacher", None), "means", None) is not None


def on_mixture(objective: Objective) -> list[Hypothesis]:
    """The divergence from a mixture of identity-covariance Gaussians."""
    return [divergence(objective), Hypothesis("the target is a mixture of Gaussians", r"p^*=\sum_j\pi_j^*N(\mu_j^*,I)",
                                              fact=is_mixture(objective), structural=True)]


def hybrid_motion(setting: Setting) -> Hypothesis:
    """The run is the hybrid: weights by EM, means by a gradient step."""
    words = "the run is the hybrid of EM for the weights and a gradient step for the means"
    latex = r"\pi_i^+=\mathbb E[w_i],\ \mu_i^+=\mu_i-\eta\nabla_iL"
    if setting.run is None:
        return Hypothesis(words, latex, note="no run was given")
    hybrid = setting.run.driver == "em" and setting.step_size is not None and bool(setting.run.settings.get("update_weights"))
    return Hypothesis(words, latex, fact=hybrid, note=f"the driver is {setting.run.driver}")


def teacher_in(objective: Any, state: State) -> tuple[np.ndarray, np.ndarray]:
    """(m, k) means of the teacher's components in a state's coordinates, and their (m,) weights; those of weight 0 are left out."""
    teacher = objective.teacher
    present = teacher.weights > 0
    means = teacher.means[present] - (0.0 if state.origin is None else state.origin)
    return means if state.basis is None else means @ state.basis, teacher.weights[present]


def weights_at(setting: Setting, place: int) -> np.ndarray:
    """(n,) the student's weights at a record."""
    weights = setting.run.weights
    return setting.weights if weights is None else weights if weights.ndim == 1 else weights[place]
