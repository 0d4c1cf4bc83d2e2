"""Lemma 1 (the gradient), its sum against the parameters, and what the proof bounds that by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from overparam.state import State
from overparam.theory.certainty import certain
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.xu2024 import common
from overparam.theory.xu2024.integrals import expectations
from overparam.theory.zhang2025 import cubic
from overparam.theory.zhang2025.lemmas_b import LemmaB2

__all__ = ["GradientInner", "Lemma1", "Lemma12", "Lemma18", "derivative", "largest_gap"]

_EPS = float(np.finfo(np.float64).eps)


def largest_gap(found: np.ndarray, exact: np.ndarray, errors: np.ndarray) -> tuple[float, float, float]:
    """The entries of two arrays that differ most beyond their errors, with the error there: sides of an equality."""
    if not np.isfinite(exact).all():
        return math.nan, math.nan, math.nan
    worst = np.unravel_index(int(np.argmax(np.abs(found - exact) - errors)), found.shape)
    return float(found[worst]), float(exact[worst]), float(np.broadcast_to(errors, found.shape)[worst])


def derivative(point: Any) -> tuple[float, float, float]:
    """Derivative of the library's loss along the point's direction by central differences, the gradient's, and the error of both."""
    step = 0.02
    found = {m: certain(point.objective.estimate(point.moved(m * step))) for m in (-2, -1, -0.5, 0.5, 1, 2)}

    def difference(m: float) -> float:
        result: float = (8 * (found[m].value - found[-m].value) - (found[2 * m].value - found[-2 * m].value)) / (12 * m * step)
        return result

    fine, coarse = difference(0.5), difference(1.0)
    grad, error = point.gradient()
    # the halved step is 16 times as accurate: the difference of the two is more than its error
    off = abs(fine - coarse) + 3 * max(one.value_error for one in found.values()) / step
    return fine, float((grad * point.direction).sum()), off + float(error @ np.linalg.norm(point.direction, axis=1))


class _Points(Inequality):
    """Points of the divergence from N(0, I), with any weights."""

    samples, shapes = 3, 1

    def sample(self, rng: np.random.Generator, scale: float) -> common.LikelihoodPoint:
        n, d = int(rng.choice([2, 3, 5])), int(rng.integers(1, 3))
        weights = None if rng.random() < 0.5 else rng.dirichlet(np.full(n, 2.0))
        direction = rng.standard_normal((n, d))
        return common.LikelihoodPoint(common.at_target(d, weights), State.of(scale * rng.standard_normal((n, d))),
                                      direction / np.linalg.norm(direction))

    def point(self, setting: Setting, state: State) -> common.LikelihoodPoint:
        direction = np.random.default_rng(self.seed).standard_normal((state.n, state.k))
        return common.LikelihoodPoint(setting.objective, state, direction / np.linalg.norm(direction))

    def hypotheses_at(self, point: common.LikelihoodPoint) -> list[Hypothesis]:
        return point.hypotheses(equal=False)


@register
class Lemma1(_Points):
    r"""Lemma 1: :math:`\nabla_{\mu_i}L=E[w_i\sum_kw_k\mu_k]`, so that gradient EM is gradient descent on the divergence.

    :math:`\mu_i-\eta\nabla_iL=\mu_i+\eta E[w_i(x-\mu_i)]` by Stein's identity. Weights are any, and fixed.
    """

    name = "xu2024.lemma_1"
    title = "Lemma 1 (gradient)"
    source = common.PAPER
    statement = "The gradient of the divergence is E[w_i v], v the student's posterior mean, and gradient EM descends it."
    latex = r"\nabla_{\mu_i}L=\mathbb E\Big[w_i\sum_kw_k\mu_k\Big]=-\mathbb E[w_i(x-\mu_i)]"
    bounds = (Bound("the library's gradient is E[w_i v]", latex, "=="),
              Bound("and -E[w_i (x - mu_i)], a step of gradient EM", latex, "=="),
              Bound("and the derivative of the library's loss along a random direction, by central differences", r"\nabla L", "==",
                    tag="derived"))
    scales = (0.01, 0.3, 3.0)

    def sides(self, point: common.LikelihoodPoint) -> list[tuple[float, float, float]]:
        grad, error = point.gradient()
        exact = expectations(point.state.coordinates, point.weights)
        return [largest_gap(grad, exact.grad, exact.grad_error + error[:, None]),
                largest_gap(grad, -exact.moved, exact.moved_error + error[:, None]), derivative(point)]

    def examples(self) -> dict[str, Example]:
        from overparam.objectives import ScoreMatching
        from overparam.teachers import Gaussian

        other = {"subject": ScoreMatching(Gaussian([0.0])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "another loss": Example("vacuous", lambda: other, "score matching has another gradient")}


@register
class GradientInner(_Points):
    r""":math:`\sum_i\langle\nabla_iL,\mu_i\rangle=E\|v\|^2\ge0`, so that :math:`U=\sum\|\mu_i\|^2` falls along the flow."""

    name = "xu2024.law_gradient_inner"
    title = "Sum of <gradient, parameter>"
    source = common.OWN
    statement = "The sum of <grad_i, mu_i> is E|v|^2."
    latex = r"\sum_i\langle\nabla_iL,\mu_i\rangle=\mathbb E\|v\|^2"
    tag = "derived"
    relation = "=="
    scales = (0.01, 0.3, 3.0)

    def sides(self, point: common.LikelihoodPoint) -> tuple[float, float, float]:
        grad, error = point.gradient()
        params = point.state.coordinates
        exact = cubic.integrals(params, point.weights)
        off = float(error @ np.linalg.norm(params, axis=1)) + 8 * _EPS * float(np.abs(grad * params).sum())
        return float((grad * params).sum()), exact.loss, off + exact.loss_error

    def examples(self) -> dict[str, Example]:
        from overparam.objectives import KLDivergence
        from overparam.teachers import GaussianMixture

        two = {"subject": KLDivergence(GaussianMixture([[-1.0], [1.0]])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "two components": Example("vacuous", lambda: two, "the target is a mixture")}


@register
class Lemma12(_Points):
    r"""Lemma 12, recalled with little confidence: a lower bound of :math:`E\|v\|^2` by :math:`\mu_{\max}^4`.

    It is shown and never tested; the smallest ratio of the two sides comes out beside it. In logarithms: :math:`e^{-8U}` underflows.
    """

    name = "xu2024.lemma_12"
    title = "Lemma 12 (lower bound of E|v|^2)"
    source = common.PAPER + ", as remembered: no source at hand"
    statement = "E|v|^2 is at least C exp(-8U) pi_min^2 mu_max^4/(d (1 + mu_max sqrt(d))^2), with U the sum of |mu_i|^2."
    latex = r"\mathbb E\|v\|^2\ge C\,\frac{e^{-8U}\pi_{\min}^2}{d(1+\mu_{\max}\sqrt d)^2}\,\mu_{\max}^4"
    tag = "recalled"
    constants = (Constant("C", None, "unknown"),)
    bounds = (Bound("ln E|v|^2 is at least ln C plus that of the right side", latex, ">=", constant="C", tag="recalled", logarithmic=True),)
    scales = (0.01, 0.1, 0.5, 1.0)
    samples, shapes = 20, 2

    def sides(self, point: common.LikelihoodPoint) -> tuple[float, float, float]:
        params, d = point.state.coordinates, point.state.d
        exact = cubic.integrals(params, point.weights)
        largest, total = float(np.linalg.norm(params, axis=1).max()), float((params**2).sum())
        if not (exact.loss > 0 and largest > 0 and point.weights.min() > 0):
            return math.nan, math.nan, math.nan
        right = (-8 * total + 2 * math.log(point.weights.min()) - math.log(d) - 2 * math.log1p(largest * math.sqrt(d))
                 + 4 * math.log(largest))
        return math.log(exact.loss), right, exact.loss_error / exact.loss


@register
class Lemma18(LemmaB2):
    r"""Lemma 18, recalled: :math:`E e^{c\|x\|}\le1+5\sqrt d\,c` for :math:`0<c\le\frac1{3d}`; Lemma B.2 of Zhang et al. 2025."""

    name = "xu2024.lemma_18"
    title = "Lemma 18 (exponential moment of the norm)"
    source = common.PAPER + ", as remembered: no source at hand"
