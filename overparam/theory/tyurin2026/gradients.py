"""The gradient for a single Gaussian, its sum against the means (the Lyapunov identity), and what the step-size theorem bounds it by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from overparam.state import State
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.tyurin2026 import common
from overparam.theory.tyurin2026.integrals import expectations
from overparam.theory.xu2024.gradients import derivative, largest_gap

__all__ = ["Gradient", "GradientNorm", "LyapunovIdentity", "Progress"]

_EPS = float(np.finfo(np.float64).eps)


class _Points(Inequality):
    """Points of the divergence from N(0, I), with any weights."""

    samples, shapes = 3, 1
    scales = (0.01, 0.3, 3.0)

    def sample(self, rng: np.random.Generator, scale: float) -> common.ReversePoint:
        n, d = int(rng.choice([2, 3, 5])), int(rng.integers(1, 3))
        weights = None if rng.random() < 0.5 else rng.dirichlet(np.full(n, 2.0))
        direction = rng.standard_normal((n, d))
        return common.ReversePoint(common.at_target(d, weights), State.of(scale * rng.standard_normal((n, d))),
                                   direction / np.linalg.norm(direction))

    def point(self, setting: Setting, state: State) -> common.ReversePoint:
        direction = np.random.default_rng(self.seed).standard_normal((state.n, state.k))
        return common.ReversePoint(setting.objective, state, direction / np.linalg.norm(direction))

    def hypotheses_at(self, point: common.ReversePoint) -> list[Hypothesis]:
        return point.hypotheses(equal=False)

    def examples(self) -> dict[str, Example]:
        from overparam.objectives import ScoreMatching
        from overparam.teachers import Gaussian

        other: dict[str, Any] = {"subject": ScoreMatching(Gaussian([0.0])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "score matching": Example("vacuous", lambda: other, "the expectation is the teacher's")}


@register
class Gradient(_Points):
    r"""The gradient for one Gaussian: :math:`\nabla_iF=2\pi_i\,E_{N(\mu_i,I)}[v-\bar\mu+C(\mu_i-v)]`, C the posterior covariance."""

    name = "tyurin2026.gradient"
    title = "Gradient for a single Gaussian"
    source = common.PAPER
    statement = "The gradient is 2 pi_i E[v - m + C (mu_i - v)] under N(mu_i, I), m the teacher's mean."
    latex = r"\nabla_{\mu_i}F=2\pi_i\,\mathbb E_{N(\mu_i,I)}\big[v-\bar\mu+C(\mu_i-v)\big]"
    bounds = (Bound("the library's gradient is this", latex, "=="),
              Bound("and the derivative of the library's loss along a random direction, by central differences", r"\nabla F", "==",
                    tag="derived"))

    def sides(self, point: common.ReversePoint) -> list[tuple[float, float, float]]:
        grad, error = point.gradient()
        exact = expectations(point.state.coordinates, point.weights)
        return [largest_gap(grad, exact.grad, exact.grad_error + error[:, None]), derivative(point)]


@register
class LyapunovIdentity(_Points):
    r"""The sum of the gradient against the means is twice :math:`Q=E_{p_\mu}[\|v-\bar\mu\|^2+\|C\|_F^2]\ge F`.

    So :math:`V=\sum_i\|\mu_i-\bar\mu\|^2` falls along the flow, :math:`\dot V=-4Q`. And V weighted by the mixture is the sum of two
    parts, :math:`\sum_i\pi_i\|\mu_i-\bar\mu\|^2=F+E\,\mathrm{tr}\,C`.
    """

    name = "tyurin2026.law_lyapunov"
    title = "Lyapunov identity"
    source = common.OWN
    statement = "The sum of <grad_i F, mu_i - m> is 2 E[|v - m|^2 + |C|^2], m the teacher's mean."
    latex = r"\sum_i\langle\nabla_iF,\mu_i-\bar\mu\rangle=2\,\mathbb E_{p_\mu}\big[\|v-\bar\mu\|^2+\|C\|_F^2\big]=2Q"
    tag = "derived"
    bounds = (Bound("the sum of <grad_i, mu_i - m> is 2 E[|v - m|^2 + |C|^2]", latex, "==", tag="derived"),
              Bound("the sum of pi_i |mu_i - m|^2 is F + E tr C", r"\sum_i\pi_i\|\mu_i-\bar\mu\|^2=F+\mathbb E\,\mathrm{tr}\,C", "==",
                    tag="derived"))

    def sides(self, point: common.ReversePoint) -> list[tuple[float, float, float]]:
        grad, error = point.gradient()
        params = point.state.coordinates
        exact = expectations(params, point.weights)
        off = float(error @ np.linalg.norm(params, axis=1)) + 8 * _EPS * float(np.abs(grad * params).sum())
        weighted = float(point.weights @ (params**2).sum(axis=1))
        return [(float((grad * params).sum()), self.factor() * exact.progress, off + 2 * exact.progress_error),
                (weighted, exact.loss + exact.trace, exact.loss_error + exact.trace_error + 8 * _EPS * weighted)]

    @staticmethod
    def factor() -> float:
        """Of Q in the identity."""
        return 2.0


@register
class GradientNorm(_Points):
    r"""The gradient is bounded by what it gains: :math:`\sum_i\|\nabla_iF\|^2\le4\pi_{\max}\max(1,R^2)\,Q`.

    For :math:`\sum_iw_i(\mu_i-v)=0`, :math:`\sum_iw_i\|C(\mu_i-v)\|^2=\mathrm{tr}\,C^3` and :math:`\lambda_{\max}(C)\le R^2`, with
    :math:`R=\max_i\|\mu_i-\bar\mu\|`.
    """

    name = "tyurin2026.law_gradient_norm"
    title = "Bound of the gradient"
    source = common.OWN
    statement = "The sum of |grad_i F|^2 is at most 4 pi_max max(1, R^2) Q, R the largest distance of a mean from the teacher's."
    latex = r"\sum_i\|\nabla_iF\|^2\le4\pi_{\max}\max(1,R^2)\,Q"
    tag = "derived"
    samples, shapes = 4, 1
    bounds = (Bound("the sum of |grad_i|^2 is at most 4 pi_max max(1, R^2) Q", latex, "<=", tag="derived", attained=True),)

    def sides(self, point: common.ReversePoint) -> list[tuple[float, float, float]]:
        grad, error = point.gradient()
        params = point.state.coordinates
        exact = expectations(params, point.weights)
        rows, far = np.linalg.norm(grad, axis=1), float((params**2).sum(axis=1).max())
        factor = self.factor() * float(point.weights.max()) * max(1.0, far)
        return [(float((rows**2).sum()), factor * exact.progress,
                 float((2 * rows * error + error**2).sum()) + factor * exact.progress_error)]

    @staticmethod
    def factor() -> float:
        """Of the bound."""
        return 4.0


@register
class Progress(_Points):
    r"""The gain is bounded below by the distance: :math:`Q\ge\min\{\frac12V_\pi,\frac1{4r}V_\pi^2\}`.

    With :math:`V_\pi=\sum_i\pi_i\|\mu_i-\bar\mu\|^2=F+E\,\mathrm{tr}\,C` and :math:`r=\min(d,n-1)`, the largest rank of C: one of the two
    parts is at least half of it, and :math:`\|C\|_F^2\ge(\mathrm{tr}\,C)^2/r`.
    """

    name = "tyurin2026.law_progress"
    title = "Lower bound of the gain"
    source = common.OWN
    statement = "Q is at least min(V/2, V^2/(4 r)), V the sum of pi_i |mu_i - m|^2 and r = min(d, n - 1)."
    latex = r"Q\ge\min\Big\{\frac{V_\pi}2,\frac{V_\pi^2}{4r}\Big\},\qquad r=\min(d,n-1)"
    tag = "derived"
    samples, shapes = 4, 1
    bounds = (Bound("Q is at least min(V/2, V^2/(4 r))", latex, ">=", tag="derived"),)

    def sides(self, point: common.ReversePoint) -> list[tuple[float, float, float]]:
        params = point.state.coordinates
        exact = expectations(params, point.weights)
        total, rank = float(point.weights @ (params**2).sum(axis=1)), min(point.state.d, point.state.n - 1)
        right = min(total / 2, total**2 / (4 * rank) if rank else math.inf)
        return [(exact.progress, right, exact.progress_error + 16 * _EPS * right)]
