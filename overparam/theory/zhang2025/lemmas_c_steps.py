"""Lemma C.15 and the library's own sharp law: what one step does, and one near and one far student to the last constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_gradients import start
from overparam.theory.zhang2025.lemmas_c_points import FarLemma, FarPoint

__all__ = ["LemmaC15", "OneFar", "one_far"]

_EPS = np.finfo(np.float64).eps


@register
class LemmaC15(FarLemma):
    r"""Lemma C.15: a step moves the closest far student outwards, by an exponentially small amount.

    The power of M is not known; with 2 the constant levels off [derived]. The difference is formed from the step, not from the two
    distances, which agree in all their digits. Both sides are divided by :math:`\eta M^2e^{-M^2/8}`.
    """

    name = "zhang2025.lemma_c_15"
    title = "Lemma C.15"
    source = common.PAPER
    statement = "In a step M grows, by no more than the order eta M^2 e^(-M^2/8)."
    latex = r"0\le M^+-M\le C\,\eta\,M^2e^{-M^2/8}"
    constants = (Constant("C", None, "unknown"),)
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("M does not fall", r"M^+-M\ge0", relation=">="),
        Bound("it grows by an exponentially small amount", r"M^+-M\le C\,\eta\,M^2e^{-M^2/8}", constant="C", tag="reconstructed"))

    def sample(self, rng: np.random.Generator, scale: float) -> FarPoint:
        return replace(super().sample(rng, scale), step_size=float(10 ** rng.uniform(-3, -0.5)))

    def point(self, setting: Setting, state: State) -> FarPoint:
        if setting.step_size is None:
            raise ValueError("Lemma C.15 is about a step of gradient descent: give step_size=, or a run of op.gradient_descent")
        return FarPoint.of(setting, state)

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        M, far, eta = point.M, point.far, point.step_size
        before, rows, errors = point.means[far], point.found.grad[far], point.errors[1][far]
        after = np.linalg.norm(before - eta * rows, axis=1)
        ahead = point.distances[far] - M
        ahead[ahead <= 4 * _EPS * M] = 0.0  # equally far
        unit = math.exp(min(M * M / 8, 700.0)) / (eta * M * M)
        with np.errstate(over="ignore"):
            moves = (-2 * eta * (before * rows).sum(axis=1) + eta**2 * (rows**2).sum(axis=1)) / (after + point.distances[far]) * unit
            totals = ahead * unit + moves
        j = int(totals.argmin())
        error = float(eta * errors[j] * unit + 8 * _EPS * abs(moves[j]))
        return [(float(totals[j]), 0.0, error), (float(totals[j]), 1.0, error)]

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "in the plane": Example("verified", lambda: start(step_size=0.1, C=1.0), "n=3, d=2, M=7, eta=0.1"),
                "not near": Example("vacuous", lambda: start(0.1, step_size=0.1), "the near student is at 0.1, too far for M=7")}


def one_far(r: float) -> tuple[float, float]:
    r"""For one student on the target and one at distance `r`: :math:`\ln(L/\ell)`, :math:`\ell=\sqrt{\pi/8}\,re^{-r^2/8}`, and
    :math:`-\partial_r\ln L`.

    With :math:`x=r/2+s` along the axis :math:`w(x)\,\varphi(x)=\varphi(r/2)e^{-s^2/2}/(2\cosh(rs/2))`, so
    :math:`\mathbb E\,w=\varphi(r/2)\frac1r\int e^{-2y^2/r^2}\mathrm{sech}\,y\,dy`; since the integrand is even,
    :math:`\mathbb E\,w^2=\frac12\mathbb E\,w`, and :math:`L=r^2\,\mathbb E\,w^2`. The integral, at most :math:`\pi`, is taken by the
    trapezoid rule with step 1/8 (error below :math:`e^{-78}`: the poles of sech are :math:`\pi/2` from the axis), at any r.

    Examples
    --------
    >>> from overparam.theory.zhang2025.lemmas_c_steps import one_far
    >>> [round(side, 6) for side in one_far(8.0)]
    [-0.067811, 1.8599]
    """
    y = np.arange(-360, 361) / 8
    terms = np.exp(-2 * (y / r) ** 2) / np.cosh(y)
    integral = float(terms.sum()) / 8
    moment = float((4 * y**2 / r**3 * terms).sum()) / 8  # the integral's derivative by r
    return math.log(integral / math.pi), r / 4 - 1 / r - moment / integral


@register
class OneFar(FarLemma):
    r"""One student on the target, one far: the loss and its slope between bounds without an open constant.

    From :math:`1-x\le e^{-x}\le1` in :func:`one_far` and :math:`\int y^2\,\mathrm{sech}\,y\,dy=\pi^3/4`. Up to distance 60 the sides are
    the library's own loss and gradient, beyond that :func:`one_far`.
    """

    name = "zhang2025.one_far"
    title = "One far student"
    source = "this library: the sharp form of Lemmas C.10, C.11 and C.14 of Zhang et al. 2025 for two students"
    statement = "With one student on the target and one at distance r the loss is sqrt(pi/8) r e^(-r^2/8), up to a relative pi^2/(2 r^2)."
    latex = r"1-\frac{\pi^2}{2r^2}\le\frac{L}{\sqrt{\pi/8}\,re^{-r^2/8}}\le1"
    tag = "derived"
    scales: ClassVar[tuple[float, ...]] = (4.0, 6.0, 10.0, 20.0, 45.0, 100.0, 400.0)
    limits: ClassVar[tuple[str, ...]] = ()
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the loss is at most the law", r"L\le\sqrt{\pi/8}\,re^{-r^2/8}", tag="derived", logarithmic=True),
        Bound("it is at least (1 - pi^2/(2 r^2)) times the law", r"L\ge(1-\frac{\pi^2}{2r^2})\sqrt{\pi/8}\,re^{-r^2/8}", relation=">=",
              tag="derived", logarithmic=True),
        Bound("it falls at most at the rate r/4 - 1/r", r"-\partial_r\ln L\le\frac r4-\frac1r", tag="derived"),
        Bound("it falls at least at the rate r/4 - 2/r", r"-\partial_r\ln L\ge\frac r4-\frac2r", relation=">=", tag="derived"))

    def sample(self, rng: np.random.Generator, scale: float) -> FarPoint:
        return FarPoint(np.array([[0.0], [scale * rng.choice([-1.0, 1.0])]]))

    def hypotheses_at(self, point: FarPoint) -> list[Hypothesis]:
        n = len(point.means)
        return [Hypothesis("the target is a single Gaussian", r"p^*=N(\mu^*,I)", fact=point.single, tag="derived"),
                Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=point.equal, tag="derived"),
                Hypothesis("there are two students", "n=2", n, "==", 2, tag="derived"),
                Hypothesis("one of them is on the target", r"\mu_{i_0}=\mu^*", float(point.distances.min()), "<=", 0.0, tag="derived"),
                Hypothesis("the other is not", r"r\ge\pi", float(point.distances.max()), ">=", math.pi, tag="derived")]

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        j = int(point.distances.argmax())
        r = float(point.distances[j])
        if not r > 0:
            raise ValueError("all students are on the target: there is no far one")
        if r <= 60:
            loss, wrong = point.found.value, point.errors[0] / point.found.value
            ratio = math.log(loss) + r * r / 8 - math.log(r) - 0.5 * math.log(math.pi / 8)
            slope = -float(point.found.grad[j] @ point.means[j]) / (r * loss)
            errors = wrong + _EPS * r * r, abs(slope) * wrong + float(point.errors[1][j]) / loss
        else:
            ratio, slope = one_far(r)
            errors = 1e-14, 1e-14 * r
        least = math.log1p(-math.pi**2 / (2 * r * r)) if 2 * r * r > math.pi**2 else -math.inf
        return [(ratio, 0.0, errors[0]), (ratio, least, errors[0]), (slope, r / 4 - 1 / r, errors[1]), (slope, r / 4 - 2 / r, errors[1])]

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-8))

        def at(*means: list[float]) -> dict[str, Any]:
            return {"subject": obj, "params0": list(means)}

        return {**super().examples(), "in the plane": Example("verified", lambda: at([0.0, 0.0], [6.0, 8.0]), "n=2, d=2, r=10"),
                "two far ones": Example("vacuous", lambda: at([0.0, 0.0], [6.0, 8.0], [-6.0, 8.0]), "n=3: the law is another")}
