"""Lemma 1: the gradient for a mixture teacher; and the derivative with respect to the weights."""

from __future__ import annotations

import numpy as np

from overparam.objectives import KLDivergence, ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.xu2024.gradients import derivative, largest_gap
from overparam.theory.xu2024.integrals import Expectations, over_mixture
from overparam.theory.zhang2025.lemmas_b import GradientPoint
from overparam.theory.zhou2025 import common

__all__ = ["Lemma1", "MixturePoint", "WeightGradient"]


class MixturePoint(GradientPoint):
    """A point of the divergence from a mixture: objective, state, and directions to move it in."""

    def hypotheses(self, equal: bool = False) -> list[Hypothesis]:
        """The divergence from a mixture of Gaussians."""
        return common.on_mixture(self.objective)

    def expectations(self) -> Expectations:
        """The paper's expectations, on a grid of their own."""
        return over_mixture(self.state.coordinates, self.weights, *common.teacher_in(self.objective, self.state))


class _Points(Inequality):
    """Random students and teachers of two or three components on the line, any weights."""

    samples, shapes = 3, 1
    scales = (0.1, 1.0, 3.0)
    relation = "=="

    def sample(self, rng: np.random.Generator, scale: float) -> MixturePoint:
        n, m = int(rng.choice([2, 3, 5])), int(rng.choice([2, 3]))
        teacher = GaussianMixture(scale * rng.standard_normal((m, 1)), weights=rng.dirichlet(np.full(m, 4.0)))
        obj = KLDivergence(teacher, weights=rng.dirichlet(np.full(n, 4.0)), rule=Auto(tol=1e-11))
        direction = rng.standard_normal((n, 1))
        return MixturePoint(obj, obj.start(scale * rng.standard_normal((n, 1))), direction / np.linalg.norm(direction))

    def point(self, setting: Setting, state: State) -> MixturePoint:
        direction = np.random.default_rng(self.seed).standard_normal((state.n, state.k))
        return MixturePoint(setting.objective, state, direction / np.linalg.norm(direction))

    def hypotheses_at(self, point: MixturePoint) -> list[Hypothesis]:
        return point.hypotheses()

    def examples(self) -> dict[str, Example]:
        other = {"subject": ScoreMatching(Gaussian([0.0])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "another loss": Example("vacuous", lambda: other, "score matching")}


#: Sides of a statement that is not about the point.
_SKIPPED = (float("nan"),) * 3


@register
class Lemma1(_Points):
    r"""Lemma 1: :math:`\nabla_{\mu_i}L=\sum_j\pi_j^*E_{x\sim N(\mu_j^*,I)}\big[w_i\sum_kw_k(\mu_k-\mu_j^*)\big]`.

    By Stein's identity it is :math:`-E_{p^*}[w_i(x-\mu_i)]`, what a step of gradient EM moves along. Of a run with moving weights the
    points are taken with the objective's own weights.
    """

    name = "zhou2025.lemma_1"
    title = "Lemma 1 (gradient for a mixture teacher)"
    source = common.PAPER
    statement = ("The gradient of the divergence is the mean over the teacher's components of w_i times the student's posterior mean about "
                 "each.")
    latex = (r"\nabla_{\mu_i}L=\sum_j\pi_j^*\,\mathbb E_{N(\mu_j^*,I)}\Big[w_i\sum_kw_k(\mu_k-\mu_j^*)\Big]"
             r"=-\mathbb E_{p^*}[w_i(x-\mu_i)]")
    bounds = (Bound("the library's gradient is that of the lemma", latex, "=="),
              Bound("and -E[w_i (x - mu_i)], a step of gradient EM", latex, "=="),
              Bound("and the derivative of the library's loss along a random direction, by central differences", r"\nabla L", "==",
                    tag="derived"))

    def sides(self, point: MixturePoint) -> list[tuple[float, float, float]]:
        if not common.is_mixture(point.objective):
            return [_SKIPPED] * 3
        grad, error = point.gradient()
        exact = point.expectations()
        return [largest_gap(grad, exact.grad, exact.grad_error + error[:, None]),
                largest_gap(grad, -exact.moved, exact.moved_error + error[:, None]), derivative(point)]


@register
class WeightGradient(_Points):
    r""":math:`\partial_{\pi_i}L=-E[w_i]/\pi_i`: along a direction e of the simplex the loss changes by :math:`-\sum_ie_iE[w_i]/\pi_i`.

    At EM's fixed points of the weights, :math:`E[w_i]=\pi_i`, it vanishes on the simplex.
    """

    name = "zhou2025.law_weight_gradient"
    title = "Derivative with respect to the weights"
    source = common.OWN
    statement = "The derivative of the divergence with respect to the weight pi_i is -E[w_i]/pi_i."
    latex = r"\partial_{\pi_i}L=-\frac{\mathbb E[w_i]}{\pi_i}"
    tag = "derived"

    def hypotheses_at(self, point: MixturePoint) -> list[Hypothesis]:
        return [*point.hypotheses(),
                Hypothesis("all weights are positive", r"\pi_i>0", float(point.weights.min()), ">", 0.0, tag="derived")]

    def sides(self, point: MixturePoint) -> tuple[float, float, float]:
        weights = point.weights
        if not (isinstance(point.objective, KLDivergence) and common.is_mixture(point.objective) and weights.min() > 0):
            return _SKIPPED
        direction = point.direction[:, 0] - point.direction[:, 0].mean()
        step = 0.05 * float((weights / np.maximum(np.abs(direction), 1e-12)).min())  # far inside the simplex
        found = {m: point.objective.with_weights(weights + m * step * direction).estimate(point.state) for m in (-2, -1, -0.5, 0.5, 1, 2)}

        def difference(m: float) -> float:
            return (8 * (found[m].value - found[-m].value) - (found[2 * m].value - found[-2 * m].value)) / (12 * m * step)

        fine, coarse = difference(0.5), difference(1.0)
        exact = point.expectations()
        error = abs(fine - coarse) + 3 * max(one.value_error for one in found.values()) / step
        error += float((np.abs(direction) * exact.shares_error / weights).sum())
        return fine, -float((direction * exact.shares / weights).sum()), error

    def examples(self) -> dict[str, Example]:
        obj = KLDivergence(GaussianMixture([[-1.0], [1.0]]), weights=[0.0, 1.0])
        return {**super().examples(), "no weight": Example("vacuous", lambda: {"subject": obj, "params0": [[1.0], [-0.5]]}, "0 and 1")}
