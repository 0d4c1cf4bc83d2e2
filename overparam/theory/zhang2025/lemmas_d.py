"""Lemmas 3.3 = D.2 (gradient near a common point), D.1 (weights there) and D.5 (how a gap grows)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from overparam.state import State
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_b import GradientPoint, at_target

__all__ = ["Lemma33", "LemmaD1", "LemmaD2", "LemmaD5", "WeightsPoint", "cluster_point", "first_order"]

_EPS = float(np.finfo(np.float64).eps)


def first_order(centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    r"""Return the rows :math:`\frac2n[m+\bar\delta-2mm^\top(\delta_i-\bar\delta)]`: the gradient of :math:`m+\delta_i` to first order.

    Parameters
    ----------
    centre : (d,) array
        m, relative to the target.
    deviations : (n, d) array

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.zhang2025.lemmas_d import first_order
    >>> first_order(np.array([2.0]), np.array([[0.01], [-0.01]])).ravel().round(12).tolist()
    [1.92, 2.08]
    """
    mean = deviations.mean(axis=0)
    found: np.ndarray = 2 / len(deviations) * (centre + mean - 2 * np.outer((deviations - mean) @ centre, centre))
    return found


def cluster_point(rng: np.random.Generator, scale: float, farthest: float) -> GradientPoint:
    """n = 2, 3, 5 parameters in d = 1, 2, the largest `scale` from a common point at most `farthest` from the target."""
    n, d = int(rng.choice([2, 3, 5])), int(rng.integers(1, 3))
    direction, deviations = rng.standard_normal(d), rng.standard_normal((n, d))
    centre = farthest * rng.uniform() * direction / np.linalg.norm(direction)
    deviations *= scale / np.linalg.norm(deviations, axis=1).max()
    return GradientPoint(at_target(d, tol=1e-12), State(centre=centre, deviations=deviations), deviations)


class _FirstOrder(Inequality):
    """What is left of the gradient beyond its first order about a common point is of second order."""

    scales = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    limits = ("small",)
    samples, shapes = 40, 4
    farthest = 2.0  #: distance of the common point from the target at the samples

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        return cluster_point(rng, scale, self.farthest)

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, state.true_deviations)

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        return point.hypotheses()

    @staticmethod
    def about(point: GradientPoint) -> tuple[np.ndarray, np.ndarray]:
        """The students' mean m, and the deviations from it."""
        deviations = point.state.true_deviations
        mean = deviations.mean(axis=0)
        return point.state.centre + mean, deviations - mean

    def sides(self, point: GradientPoint) -> tuple[float, float, float]:
        grad, error = point.gradient()
        centre, deviations = self.about(point)
        apart = np.linalg.norm(grad - first_order(centre, deviations), axis=1)
        i, size = int(np.argmax(apart)), float(np.linalg.norm(deviations, axis=1).max())
        return float(apart[i]), size**2, float(error[i]) + 8 * _EPS * float(np.linalg.norm(grad[i]))


@register
class Lemma33(_FirstOrder):
    r"""Lemma 3.3: the gradient near a common point m is close to :math:`\frac2nm`.

    The published right side is not recoverable: one note has :math:`\frac1nAe_1` where the exact gradient at the point is
    :math:`\frac2nAe_1`, and no constant times :math:`A^3\delta` bounds the difference near the target, where a common shift
    :math:`\delta` changes the gradient by :math:`2\delta/n`. Tested is this library's first-order law in its place,

    .. math:: \Big\|\nabla_iL-\frac2n\big[m-2mm^\top\delta_i\big]\Big\|\le C\delta^2,\qquad\bar\delta=0,\ \delta=\max_i\|\delta_i\|,

    with C measured for :math:`\|m\|\le2`.
    """

    name = "zhang2025.lemma_3_3"
    title = "Lemma 3.3 (gradient near a common point)"
    source = common.PAPER + "; its right side is lost, the first-order law is this library's"
    statement = "Near a common point m every gradient row is 2m/n, plus a first order that is known, up to C times the squared distance."
    latex = r"\|\nabla_iL-\tfrac2n[m-2mm^\top\delta_i]\|\le C\delta^2"
    tag = "derived"
    constants = (Constant("C", None, "unknown"),)
    bounds = (Bound("the gradient is (2/n)(m - 2 m m'delta_i) up to C delta^2", latex, constant="C", tag="derived"),)

    def examples(self) -> dict[str, Example]:
        obj, uneven = at_target(1), at_target(1, np.array([0.4, 0.6]))
        start = [[1.01], [0.99]]
        return {**super().examples(),
                "C = 10 given": Example("verified", lambda: {"subject": obj, "params0": start, "C": 10.0}, "n=2, d=1 about m=1"),
                "unequal weights": Example("vacuous", lambda: {"subject": uneven, "params0": start, "C": 10.0}, "they part")}


@register
class LemmaD2(Lemma33):
    """Lemma D.2: Lemma 3.3, restated in the appendix."""

    name = "zhang2025.lemma_d_2"
    title = "Lemma D.2 (= Lemma 3.3, gradient near a common point)"


class WeightsPoint(NamedTuple):
    """A point x, the common point m, and deviations (n, d) from it."""

    x: np.ndarray
    centre: np.ndarray
    deviations: np.ndarray
    equal: bool = True


@register
class LemmaD1(Inequality):
    r"""Lemma D.1, with constants of this library's own: near a common point the weights are near 1/n.

    The paper's are not known. Safe: :math:`e^{-B}\le w_i(x)/w_j(x)\le e^B`, :math:`B=2\delta(\|x\|+A+\delta)`, if all
    :math:`\|\mu_i-m\|\le\delta`, :math:`A=\|m\|`, and the weights :math:`\pi` are equal.
    """

    name = "zhang2025.lemma_d_1"
    title = "Lemma D.1 (weights near a common point)"
    source = common.PAPER + "; the constants are this library's"
    statement = ("If all parameters lie within delta of a point at distance A from the target, ln(w_i(x)/w_j(x)) is at most "
                 "2 delta (|x| + A + delta).")
    latex = r"|\ln w_i(x)-\ln w_j(x)|\le2\delta(\|x\|+A+\delta)"
    tag = "derived"
    bounds = (Bound("the weights' logarithms differ by at most 2 delta (|x| + A + delta)", latex, tag="derived"),)
    scales = tuple(10.0 ** np.arange(-12, 4, 3))

    def sample(self, rng: np.random.Generator, scale: float) -> WeightsPoint:
        n, d = int(rng.integers(2, 11)), int(rng.integers(1, 6))
        deviations = rng.standard_normal((n, d))
        centre = rng.standard_normal(d) * math.exp(rng.uniform(-3, 5))
        return WeightsPoint(rng.standard_normal(d) * 2, centre, scale * deviations / np.linalg.norm(deviations, axis=1).max())

    supposes = common.of_students

    def point(self, setting: Setting, state: State) -> WeightsPoint:
        deviations = state.true_deviations - state.true_deviations.mean(axis=0)
        x = np.random.default_rng(self.seed).standard_normal(state.k)
        return WeightsPoint(x, state.centre + state.true_deviations.mean(axis=0), deviations, setting.equal_weights)

    def hypotheses_at(self, point: WeightsPoint) -> list[Hypothesis]:
        return [Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=point.equal)]

    def sides(self, point: WeightsPoint) -> tuple[float, float, float]:
        delta = float(np.linalg.norm(point.deviations, axis=1).max())
        logits = (point.x - point.centre) @ point.deviations.T - 0.5 * (point.deviations**2).sum(axis=1)
        reach = float(np.linalg.norm(point.x) + np.linalg.norm(point.centre)) + delta
        return float(np.ptp(logits)), 2 * delta * reach, 16 * _EPS * delta * reach  # ln(w_i/w_j) is the difference of their logits

    def examples(self) -> dict[str, Example]:
        uneven = at_target(1, np.array([0.4, 0.6]))
        return {**super().examples(), "unequal weights": Example("vacuous", lambda: {"subject": uneven, "params0": [[1.01], [0.99]]},
                                                                 "their ratio is not near 1")}


@register
class LemmaD5(_FirstOrder):
    r"""Lemma D.5, in this library's first-order form: how the gap of one parameter to the others grows in a step.

    With :math:`p=\mu_1` and :math:`q=\mu_2=\dots=\mu_n` on a line through the target (the start of Theorem 3.4; any of them may be the
    first), m their mean,
    :math:`\big|(p-q)^+-(1+\frac{4\eta}nm^2)(p-q)\big|\le C\eta(p-q)^2`. The paper's bounds have constants that are not known.
    """

    name = "zhang2025.lemma_d_5"
    title = "Lemma D.5 (growth of a gap)"
    source = common.PAPER + "; its constants are lost, the first-order law is this library's"
    statement = "In a step the gap p - q of the first parameter to the others grows by the factor 1 + 4 eta m^2/n, to first order."
    latex = r"(p-q)^+=(1+\tfrac{4\eta}nm^2)(p-q)+O(\eta(p-q)^2)"
    tag = "derived"
    constants = (Constant("C", None, "unknown"),)
    bounds = (Bound("the step of the gap, over eta, is (4 m^2/n)(p - q) up to C (p - q)^2", latex, constant="C", tag="derived"),)

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n = int(rng.choice([2, 3, 5, 10]))
        deviations = np.zeros((n, 1))
        deviations[0] = scale * rng.choice([-1.0, 1.0])
        return GradientPoint(at_target(1, tol=1e-12), State(centre=self.farthest * rng.uniform(size=1), deviations=deviations), deviations)

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        centre, (one, other, coincide) = self.about(point)[0], self.apart(point)
        axis = point.state.deviations[one] - point.state.deviations[other]  # as stored: their scale does not turn them
        axis = axis / max(float(np.abs(axis).max()), 1e-300)
        across = float(np.linalg.norm(centre - axis * (centre @ axis) / max(float(axis @ axis), 1e-300)))
        return [*point.hypotheses(),
                Hypothesis("all but one coincide, as at Theorem 3.4's start", r"\mu_2=\dots=\mu_n", fact=coincide),
                Hypothesis("they lie on a line through the target", r"\mu_i\in\mathbb R e_1",
                           fact=across <= 8 * _EPS * float(np.linalg.norm(centre)))]

    def sides(self, point: GradientPoint) -> tuple[float, float, float]:
        grad, error = point.gradient()
        centre, deviations = self.about(point)
        one, other, _ = self.apart(point)
        gap = deviations[one] - deviations[other]
        step = grad[other] - grad[one]  # of the gap, over eta
        remainder = float(np.linalg.norm(step - 4 * float(centre @ centre) / len(grad) * gap))
        return remainder, float(gap @ gap), float(error[one] + error[other]) + 8 * _EPS * float(np.linalg.norm(grad[one]))

    @staticmethod
    def apart(point: GradientPoint) -> tuple[int, int, bool]:
        """The one, one of the others, and whether these coincide; the first and the last where no choice makes them."""
        deviations = point.state.deviations
        for one in range(len(deviations)):
            rest = np.delete(deviations, one, axis=0)
            if len(rest) and np.ptp(rest, axis=0).max() == 0:
                return one, (one + 1) % len(deviations), True
        return 0, len(deviations) - 1, False

    def examples(self) -> dict[str, Example]:
        given = {"subject": at_target(1), "C": 10.0}
        return {**super().examples(),
                "C = 10 given": Example("verified", lambda: {**given, "params0": [[0.99], [1.0], [1.0]]}, "n=3 about m=1"),
                "all apart": Example("vacuous", lambda: {**given, "params0": [[0.99], [1.0], [1.02]]}, "q is not one point")}
