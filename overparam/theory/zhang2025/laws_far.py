"""This library's asymptotics of far parameters: weights, loss and push of a far group beside one on the target."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from overparam import _softmax
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.quadrature import GaussHermite
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.certainty import certain
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.laws_gradient import SOURCE
from overparam.theory.zhang2025.lemmas_b import at_target

__all__ = ["FarField", "FarPoint"]

_EPS = float(np.finfo(np.float64).eps)


class FarPoint(NamedTuple):
    """An objective, its parameters (n, k) relative to the target, the state that stands for them, and which are far."""

    objective: Objective
    params: np.ndarray
    state: State
    far: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(n,) mixture weights."""
        weights = self.objective.weights
        return np.full(len(self.params), 1 / len(self.params)) if weights is None else weights

    @property
    def radius(self) -> float:
        """Distance of the far group."""
        return float(np.linalg.norm(self.params[self.far][0])) if self.far.any() else 0.0


@register
class FarField(Inequality):
    r"""One group of parameters on the target, one at distance r; :math:`\rho` the ratio of their weights, w the far group's weight.

    With :math:`y=rx-r^2/2` the normal density is :math:`\phi(r/2)e^{-y/2-y^2/2r^2}`, and dropping the last factor gives

    .. math:: E[w]\simeq\sqrt{\rho\pi/2}\,\frac{e^{-r^2/8}}r,\quad E[w^2]\simeq\sqrt{\rho\pi/8}\,\frac{e^{-r^2/8}}r,\quad
              L\simeq\sqrt{\rho\pi/8}\,re^{-r^2/8},\quad-\partial_rL\simeq\sqrt{\rho\pi/8}\,\frac{r^2}4e^{-r^2/8}.

    From :math:`1-z\le e^{-z}\le1` the relative errors are within bands that shrink like :math:`r^{-2}`: with
    :math:`K_1=\pi^2+\ln^2\rho` for E[w] and :math:`K_2=K_1-4\ln\rho` for the others, at most 0 and at least :math:`-K/(2r^2)`; for the
    derivative at most :math:`-4/r^2` and at least :math:`(1-4/r^2)(1-K_2/2r^2)-4K_2/r^4-1`.
    """

    name = "zhang2025.law_far_field"
    title = "Asymptotics of far parameters"
    source = SOURCE
    statement = "Weights, loss and push of far parameters are known powers of r times exp(-r^2/8), up to relative errors of order 1/r^2."
    latex = r"L\simeq\sqrt{\rho\pi/8}\,r\,e^{-r^2/8}"
    tag = "derived"
    logarithmic = True
    bounds = tuple(Bound(f"{words} is at {most} its asymptotic value{correction}", latex_, relation, tag="derived", logarithmic=True)
                   for words, latex_ in (("E[w]", r"\mathbb E[w]"), ("E[w^2]", r"\mathbb E[w^2]"), ("L", "L"), ("-dL/dr", r"-\partial_rL"))
                   for most, relation, correction in (("most", "<=", ""), ("least", ">=", " less the band of order 1/r^2")))
    scales = (6.0, 8.0, 10.0, 12.0, 16.0)
    samples, shapes = 12, 3

    def sample(self, rng: np.random.Generator, scale: float) -> FarPoint:
        n, d = int(rng.choice([2, 3, 5, 10])), int(rng.integers(1, 4))
        far = np.arange(n) < (1 if rng.random() < 0.5 else n - 1)
        direction = rng.standard_normal(d)
        params = np.where(far[:, None], scale * direction / np.linalg.norm(direction), 0.0)
        return FarPoint(at_target(d), params, State.of(params), far)

    def point(self, setting: Setting, state: State) -> FarPoint:
        params = state.coordinates
        norms = np.linalg.norm(params, axis=1)
        return FarPoint(setting.objective, params, state, norms > 0.5 * norms.max())

    def hypotheses_at(self, point: FarPoint) -> list[Hypothesis]:
        near, far = point.params[~point.far], point.params[point.far]
        grouped = bool(len(near) and len(far) and not near.any() and np.ptp(far, axis=0).max() == 0)
        means = getattr(getattr(point.objective, "teacher", None), "means", ())
        return [common.target(point.objective, len(means) == 1),
                Hypothesis("one group of parameters is on the target, the others are at one far point", r"\mu_i\in\{0,re_1\}", fact=grouped,
                           tag="derived"),
                Hypothesis("the far point is at least 6 away", r"r\ge6", point.radius * (1 + 1e-12), ">=", 6.0, tag="derived")]

    def sides(self, point: FarPoint) -> list[tuple[float, float, float]]:
        r, weights = point.radius, point.weights
        if r <= 2 or point.far.all():  # outside the domain, where the bands mean nothing
            return [(math.nan, math.nan, math.nan)] * len(self.bounds)
        log_ratio = math.log(weights[point.far].sum() / weights[~point.far].sum())
        first = math.pi**2 + log_ratio**2
        second = first - 4 * log_ratio
        common = 0.5 * log_ratio - r * r / 8
        found = certain(point.objective.estimate(point.state))
        rows = found.grad if point.state.basis is None else found.grad @ point.state.basis
        push = -float((rows[point.far] @ (point.params[point.far][0] / r)).sum())
        w, w_error = self._weights(r, log_ratio)
        slope = (1 - 4 / r**2) * (1 - second / (2 * r**2)) - 4 * second / r**4
        rounding = 16 * _EPS * (1 + r * r)
        table = [(w[0], w_error[0], 0.5 * math.log(math.pi / 2) - math.log(r), 1.0, 1 - first / (2 * r**2)),
                 (w[1], w_error[1], 0.5 * math.log(math.pi / 8) - math.log(r), 1.0, 1 - second / (2 * r**2)),
                 (found.value, found.value_error, 0.5 * math.log(math.pi / 8) + math.log(r), 1.0, 1 - second / (2 * r**2)),
                 (push, float(found.grad_error[point.far].sum()), 0.5 * math.log(math.pi / 8) + 2 * math.log(r / 2), 1 - 4 / r**2, slope)]
        sides = []
        for value, error, constant, upper, lower in table:
            left = math.log(value) if value > 0 else math.nan
            off = error / value + rounding if value > 0 else math.nan
            sides += [(left, common + constant + math.log(upper), off),
                      (left, common + constant + (math.log(lower) if lower > 0 else -math.inf), off)]
        return sides

    @staticmethod
    def _weights(r: float, log_ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """E[w] and E[w^2] of the far group by an equispaced sum, with what every second node gives for an error."""
        step = 0.1 / r  # the logistic has its poles at pi/r
        index = np.arange(-round(10 / step), round((r / 2 + 10) / step) + 1)
        x = index * step
        density = step * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        w = _softmax.softmax(np.stack([np.zeros_like(x), r * x - r * r / 2 + log_ratio], axis=1))[:, 1]
        values = np.stack([w, w * w], axis=1)
        total = density @ values
        return total, np.abs(total - 2 * (density[index % 2 == 0] @ values[index % 2 == 0])) + 64 * _EPS * total

    def examples(self) -> dict[str, Example]:
        obj = at_target(1)
        return {**super().examples(),
                "one at 10": Example("verified", lambda: {"subject": obj, "params0": [[0.0], [10.0]]}, "n=2, d=1, r=10"),
                "eight nodes": Example("undecided", lambda: {"subject": ScoreMatching(Gaussian([0.0]), rule=GaussHermite(8)),
                                                             "params0": [[0.0], [10.0]]}, "by eight nodes nothing is resolved"),
                "too near": Example("vacuous", lambda: {"subject": obj, "params0": [[0.0], [3.0]]}, "r=3")}
