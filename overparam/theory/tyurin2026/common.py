"""What the statements share: the setting of the paper, and the points that its formulas are about."""

from __future__ import annotations

import numpy as np

from overparam.objectives import ReverseFisher
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Setting
from overparam.theory.zhang2025.lemmas_b import GradientPoint

__all__ = ["OWN", "PAPER", "ReversePoint", "at_target", "flow", "gradient_motion", "on_mixture", "on_one_gaussian", "reverse"]

PAPER = "Tyurin 2026 (arXiv 2606.19876)"
OWN = "this library, for the setting of Tyurin 2026 (arXiv 2606.19876)"

_TOL = 1e-11  # of the library's gradients at sampled points


def at_target(d: int, weights: np.ndarray | None = None, tol: float = _TOL) -> ReverseFisher:
    """Reverse Fisher divergence from N(0, I) in d dimensions."""
    return ReverseFisher(Gaussian(np.zeros(d)), weights=weights, rule=Auto(tol=tol))


def reverse(objective: Objective) -> Hypothesis:
    """The loss is the reverse Fisher divergence."""
    return Hypothesis("the loss is the reverse Fisher divergence", r"F=\mathbb E_{p_\mu}\|\nabla\ln p_\mu-\nabla\ln\bar p\|^2",
                      fact=isinstance(objective, ReverseFisher), structural=True)


def on_one_gaussian(setting: Setting) -> list[Hypothesis]:
    """The divergence from a single Gaussian of identity covariance."""
    return [reverse(setting.objective),
            Hypothesis("the teacher is a single Gaussian", r"\bar p=N(\bar\mu,I)", fact=setting.single_teacher, structural=True)]


def on_mixture(setting: Setting) -> list[Hypothesis]:
    """The divergence from a mixture of at least two components, the students' weights equal."""
    means = getattr(getattr(setting.objective, "teacher", None), "means", ())
    return [reverse(setting.objective),
            Hypothesis("the teacher is a mixture", r"\bar p=\sum_a\bar\pi_aN(\bar\mu_a,I),\ m\ge2", fact=len(means) >= 2, structural=True),
            Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights)]


def flow(setting: Setting) -> bool:
    """Whether the run is a gradient flow."""
    return setting.run is not None and setting.run.driver == "gradient_flow"


def gradient_motion(setting: Setting, flows: bool = True, tag: str = "published") -> Hypothesis:
    """The run is gradient descent; or, with `flows`, its limit of small steps."""
    words, latex = "the run is gradient descent" + (", or gradient flow" if flows else ""), r"\mu_i^+=\mu_i-\gamma\nabla_iF"
    if setting.run is None:
        return Hypothesis(words, latex, tag=tag, note="no run was given")
    fact = setting.run.driver == "gradient_descent" or (flows and flow(setting))
    return Hypothesis(words, latex, fact=fact, tag=tag, note=f"the driver is {setting.run.driver}")


class ReversePoint(GradientPoint):
    """A point of the divergence from one Gaussian: objective, state, and directions to move it in."""

    def hypotheses(self, equal: bool = True) -> list[Hypothesis]:
        """The divergence, a single Gaussian teacher, and equal weights."""
        means = getattr(getattr(self.objective, "teacher", None), "means", ())
        found = [reverse(self.objective),
                 Hypothesis("the teacher is a single Gaussian", r"\bar p=N(\bar\mu,I)", fact=len(means) == 1, structural=True)]
        if equal:
            found.append(Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=bool(np.ptp(self.weights) == 0)))
        return found
