"""This library's laws of the gradient: identities, unequal weights, and the first order about a common point."""

from __future__ import annotations

import math

import numpy as np

from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.quadrature import GaussHermite
from overparam.sampling import MonteCarlo
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import cubic
from overparam.theory.zhang2025.lemmas_b import GradientPoint, Lemma22, at_target
from overparam.theory.zhang2025.lemmas_d import first_order

__all__ = ["SOURCE", "CommonPoint", "FirstOrder", "GradientIdentity", "UnequalGradient", "UnitBall"]

SOURCE = "this library, for the setting of Zhang et al. 2025 (arXiv 2511.22069)"


def _other_examples() -> dict[str, Example]:
    """A target that the laws are not about, and a rule that is too coarse to tell."""
    params = [[1.0], [-1.5]]
    mixture = ScoreMatching(GaussianMixture([[-2.0], [2.0]]), rule=Auto(tol=1e-8))
    coarse = ScoreMatching(Gaussian([0.0]), rule=GaussHermite(2))
    return {"mixture": Example("vacuous", lambda: {"subject": mixture, "params0": params}, "the target is a mixture of two Gaussians"),
            "two nodes": Example("undecided", lambda: {"subject": coarse, "params0": params}, "by two nodes nothing is resolved")}


@register
class UnequalGradient(Lemma22):
    """Lemma 2.2's formula for fixed weights that are not equal, which the paper does not claim."""

    name = "zhang2025.law_gradient_weights"
    title = "The cubic form of the gradient, any weights"
    source = SOURCE
    statement = "Lemma 2.2's cubic form is the gradient for unequal fixed weights too."
    tag = "derived"
    equal = False
    bounds = (Bound("the library's gradient is the cubic form", Lemma22.latex, "==", tag="derived"),
              Bound("and the derivative of the library's loss along a random direction, by central differences", r"\nabla L", "==",
                    tag="derived"))

    def examples(self) -> dict[str, Example]:
        return {"own samples": Example("verified", dict, "random parameters and weights"), **_other_examples()}


class _Sum(Inequality):
    """About the sum of <grad_i, mu_i> of the library's gradient."""

    source = SOURCE
    tag = "derived"
    samples, shapes = 6, 1
    largest = math.inf  #: norm of the parameters

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5, 10])), int(rng.integers(1, 3))
        weights = None if rng.random() < 0.5 else rng.dirichlet(np.full(n, 2.0))
        params = scale * rng.standard_normal((n, d))
        params *= min(1.0, self.largest * scale / np.linalg.norm(params, axis=1).max())
        return GradientPoint(at_target(d, weights), State.of(params), np.zeros((n, d)))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, np.zeros((state.n, state.k)))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        return point.hypotheses(equal=False)

    @staticmethod
    def total(point: GradientPoint) -> tuple[float, float, cubic.Integrals]:
        """The sum with its error, and what it is compared with."""
        grad, error = point.gradient()
        params = point.state.coordinates
        off = float(error @ np.linalg.norm(params, axis=1)) + 8 * np.finfo(np.float64).eps * float(np.abs(grad * params).sum())
        return float((grad * params).sum()), off, cubic.integrals(params, point.weights)


@register
class GradientIdentity(_Sum):
    r""":math:`\sum_i\langle\nabla_iL,\mu_i\rangle=2E[\|v\|^2+\|M\|_F^2-4v^\top Mv+3\|v\|^4]`: the paper's (2), reconstructed."""

    name = "zhang2025.law_gradient_identity"
    title = "Sum of <gradient, parameter> (the paper's equation (2), reconstructed)"
    statement = "The sum of <grad_i, mu_i> is 2 E[|v|^2 + |M - 2 v v'|^2 - |v|^4]."
    latex = r"\sum_i\langle\nabla_iL,\mu_i\rangle=2\mathbb E[\|v\|^2+\|M-2vv^\top\|_F^2-\|v\|^4]"
    relation = "=="
    scales = (0.01, 0.1, 1.0, 1.5)

    def sides(self, point: GradientPoint) -> tuple[float, float, float]:
        total, error, exact = self.total(point)
        return total, 2 * exact.squares, error + 2 * exact.squares_error

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), **_other_examples()}


@register
class UnitBall(_Sum):
    r"""If all :math:`\|\mu_i\|\le1`: :math:`\sum_i\langle\nabla_iL,\mu_i\rangle\ge2E[\|v\|^2(1-\|v\|^2)]\ge0`."""

    name = "zhang2025.law_unit_ball"
    title = "Inside the unit ball the sum of squared distances cannot grow"
    statement = "Within distance 1 of the target the sum of <grad_i, mu_i> is at least 2 E[|v|^2 (1 - |v|^2)], which is not negative."
    latex = r"\max_i\|\mu_i\|\le1\Rightarrow\sum_i\langle\nabla_iL,\mu_i\rangle\ge2\mathbb E[\|v\|^2(1-\|v\|^2)]\ge0"
    bounds = (Bound("the sum of <grad_i, mu_i> is at least 2 E[|v|^2 (1 - |v|^2)]", latex, ">=", tag="derived"),
              Bound("and that is at least 0", r"\mathbb E[\|v\|^2(1-\|v\|^2)]\ge0", ">=", tag="derived"))
    scales = (0.01, 0.1, 0.3, 1.0)
    largest = 1.0

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        size = float(np.linalg.norm(point.state.coordinates, axis=1).max())
        return [*super().hypotheses_at(point), Hypothesis("all parameters are within 1 of the target", r"\max_i\|\mu_i\|\le1", size, "<=",
                                                          1.0 + 1e-12, tag="derived")]

    def sides(self, point: GradientPoint) -> list[tuple[float, float, float]]:
        total, error, exact = self.total(point)
        return [(total, 2 * exact.quartic, error + 2 * exact.quartic_error), (2 * exact.quartic, 0.0, 2 * exact.quartic_error)]

    def examples(self) -> dict[str, Example]:
        obj = at_target(1)
        sampled = {"subject": ScoreMatching(Gaussian([0.0]), rule=MonteCarlo(200, rng=0)), "params0": [[0.9], [-0.9]]}
        return {**super().examples(), "far": Example("vacuous", lambda: {"subject": obj, "params0": [[3.0], [-3.0], [0.0]]}, "distance 3"),
                "sampled": Example("undecided", lambda: sampled, "standard errors bound nothing")}


@register
class CommonPoint(Inequality):
    r"""At a common point m the gradient is :math:`\nabla_i=2\pi_im`: unequal weights part coincident parameters."""

    name = "zhang2025.law_common_point"
    title = "Gradient at a common point, any weights"
    source = SOURCE
    statement = "If all parameters coincide at m the gradient rows are 2 pi_i m, so that unequal weights create spread from nothing."
    latex = r"\mu_1=\dots=\mu_n=m\Rightarrow\nabla_iL=2\pi_im"
    tag = "derived"
    relation = "=="
    scales = (1e-3, 1.0, 1e3)
    samples, shapes = 20, 4

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5, 10])), int(rng.integers(1, 4))
        state = State(centre=scale * rng.standard_normal(d), deviations=np.zeros((n, d)))
        return GradientPoint(at_target(d, rng.dirichlet(np.full(n, 2.0))), state, np.zeros((n, d)))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, np.zeros((state.n, state.k)))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        together = bool(np.ptp(point.state.deviations, axis=0).max() == 0)
        return [*point.hypotheses(equal=False), Hypothesis("all parameters coincide", r"\mu_1=\dots=\mu_n", fact=together, tag="derived")]

    def sides(self, point: GradientPoint) -> tuple[float, float, float]:
        grad, error = point.gradient()
        exact = 2 * point.weights[:, None] * point.state.coordinates
        errors = error[:, None] + 4 * np.finfo(np.float64).eps * np.abs(exact)
        worst = np.unravel_index(int(np.argmax(np.abs(grad - exact) - errors)), grad.shape)
        return float(grad[worst]), float(exact[worst]), float(errors[worst])

    def examples(self) -> dict[str, Example]:
        apart = {"subject": at_target(1, np.array([0.4, 0.6])), "params0": [[1.0], [1.1]]}
        return {**super().examples(), "apart": Example("vacuous", lambda: apart, "1 and 1.1"), "sampled": _sampled_example()}


@register
class FirstOrder(Inequality):
    r"""The derivative of the gradient at a common point m, equal weights, by central differences.

    :math:`\nabla_i=\frac2n[m+\bar\delta-2mm^\top(\delta_i-\bar\delta)]+O(\|\delta\|^2)`: the centre contracts at the rate 2/n,
    differences along m grow at :math:`\frac4n\|m\|^2`, those across it stand still.
    """

    name = "zhang2025.law_first_order"
    title = "First order about a common point"
    source = SOURCE
    statement = "About a common point m the centre contracts at the rate 2/n, differences along m grow at 4 |m|^2/n, others stand still."
    latex = r"\nabla_iL=\tfrac2n[m+\bar\delta-2mm^\top(\delta_i-\bar\delta)]+O(\|\delta\|^2)"
    tag = "derived"
    bounds = (Bound("a common shift contracts at the rate 2/n", r"\tfrac2n\bar\delta", "==", tag="derived"),
              Bound("differences along m grow at the rate 4 |m|^2/n", r"-\tfrac4nmm^\top(\delta_i-\bar\delta)", "==", tag="derived"),
              Bound("differences across m stand still", "0", "==", tag="derived"))
    scales = (0.1, 1.0, 4.0)
    samples, shapes = 5, 1

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5, 10])), int(rng.integers(1, 3))
        centre = rng.standard_normal(d)
        state = State(centre=scale * centre / np.linalg.norm(centre), deviations=np.zeros((n, d)))
        return GradientPoint(at_target(d, tol=1e-12), state, rng.standard_normal((n, d)))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        mean = state.centre + state.true_deviations.mean(axis=0)
        flat = State(centre=mean, deviations=np.zeros_like(state.deviations), basis=state.basis, origin=state.origin)
        return GradientPoint(setting.objective, flat, np.random.default_rng(self.seed).standard_normal(state.deviations.shape))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        return point.hypotheses()

    def sides(self, point: GradientPoint) -> list[tuple[float, ...]]:
        centre = point.state.centre
        axis = centre / max(float(np.linalg.norm(centre)), 1e-300)
        mixed = point.direction - point.direction.mean(axis=0)
        along = np.outer(mixed @ axis, axis)
        shift = np.broadcast_to(point.direction.mean(axis=0), mixed.shape)
        return [self._derivative(point, one) for one in (shift, along, mixed - along)]

    @staticmethod
    def _derivative(point: GradientPoint, direction: np.ndarray) -> tuple[float, ...]:
        """Worst entry of the derivative of the gradient rows along a direction, its expected value, the difference's error, its scale."""
        size = float(np.abs(direction).max())
        if size < 1e-12:  # rounding: there is nothing across m in one dimension
            return 0.0, 0.0, 0.0
        direction, centre = direction / size, point.state.centre
        step = 0.02 / (1 + float(np.linalg.norm(centre)))
        found = {m: point._replace(direction=direction).gradient(point.state.moved(centre, m * step * direction))
                 for m in (-2, -1, -0.5, 0.5, 1, 2)}

        def difference(m: float) -> np.ndarray:
            result: np.ndarray = (8 * (found[m][0] - found[-m][0]) - (found[2 * m][0] - found[-2 * m][0])) / (12 * m * step)
            return result

        fine, coarse = difference(0.5), difference(1.0)
        errors = np.abs(fine - coarse) + 3 * max(error.max() for _, error in found.values()) / step
        exact = first_order(centre, direction) - first_order(centre, np.zeros_like(direction))
        worst = np.unravel_index(int(np.argmax(np.abs(fine - exact) - errors)), fine.shape)
        scale = 2 / len(direction) * (1 + 2 * float(centre @ centre))  # of the derivative; one of its parts is 0
        return float(fine[worst]), float(exact[worst]), float(errors[worst]), scale

    def examples(self) -> dict[str, Example]:
        uneven = {"subject": at_target(1, np.array([0.4, 0.6])), "params0": [[1.0], [1.0]]}
        return {**super().examples(), "unequal weights": Example("vacuous", lambda: uneven, "0.4 and 0.6"), "sampled": _sampled_example()}


def _sampled_example() -> Example:
    """Two parameters at 1 under a Monte-Carlo rule."""
    subject = {"subject": ScoreMatching(Gaussian([0.0]), rule=MonteCarlo(200, rng=0)), "params0": [[1.0], [1.0]]}
    return Example("undecided", lambda: subject, "standard errors bound nothing")
