"""Lemmas 2.2 = B.1 (the exact gradient), B.2 (an exponential moment) and B.3 (local smoothness)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.certainty import certain
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common, cubic

__all__ = ["GradientPoint", "Lemma22", "LemmaB1", "LemmaB2", "LemmaB3", "at_target"]

_TOL = 1e-11  # of the library's gradients at sampled points


class GradientPoint(NamedTuple):
    """An objective with a single Gaussian target, a state, and directions (n, k) to move it in."""

    objective: Objective
    state: State
    direction: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """(n,) mixture weights."""
        weights = self.objective.weights
        return np.full(self.state.n, 1 / self.state.n) if weights is None else weights

    def gradient(self, state: State | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) rows of the library's gradient in the state's coordinates, and their (n,) errors."""
        found = certain(self.objective.estimate(self.state if state is None else state))
        return found.grad if self.state.basis is None else found.grad @ self.state.basis, found.grad_error

    def moved(self, by: float) -> State:
        """The state moved `by` times the direction."""
        return replace(self.state, deviations=self.state.true_deviations + by * self.direction, log_scale=0.0)

    def hypotheses(self, equal: bool = True) -> list[Hypothesis]:
        """A single Gaussian target, and equal weights."""
        means = getattr(getattr(self.objective, "teacher", None), "means", ())
        found = [common.target(self.objective, len(means) == 1)]
        if equal:
            found.append(Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=bool(np.ptp(self.weights) == 0)))
        return found


def at_target(d: int, weights: np.ndarray | None = None, tol: float = _TOL) -> ScoreMatching:
    """Score matching of N(0, I) in d dimensions."""
    return ScoreMatching(Gaussian(np.zeros(d)), weights=weights, rule=Auto(tol=tol))


def _unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    direction = rng.standard_normal((n, d))
    return direction / np.linalg.norm(direction)


class _Gradient(Inequality):
    """The library's gradient against the cubic form and against central differences of the library's loss."""

    equal = True
    relation = "=="
    scales = (0.01, 0.1, 1.0, 2.0)
    samples, shapes = 5, 1

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5])), int(rng.integers(1, 3))
        weights = None if self.equal else rng.dirichlet(np.full(n, 2.0))
        return GradientPoint(at_target(d, weights), State.of(scale * rng.standard_normal((n, d))), _unit(rng, n, d))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, _unit(np.random.default_rng(self.seed), state.n, state.k))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        return point.hypotheses(self.equal)

    def sides(self, point: GradientPoint) -> list[tuple[float, float, float, float]]:
        grad, error = point.gradient()
        exact = cubic.integrals(point.state.coordinates, point.weights)
        errors = error[:, None] + exact.grad_error
        with np.errstate(invalid="ignore"):
            share = np.abs(grad - exact.grad) / errors
        worst = np.unravel_index(int(np.argmax(np.nan_to_num(share))), grad.shape)
        along = float((grad * point.direction).sum())
        slope, off = self._slope(point)
        size = float(np.linalg.norm(exact.grad))  # single entries, and slopes, may be 0
        return [(float(grad[worst]), float(exact.grad[worst]), float(errors[worst]), size),
                (along, slope, off + float(error @ np.linalg.norm(point.direction, axis=1)), size)]

    @staticmethod
    def _slope(point: GradientPoint) -> tuple[float, float]:
        """Fourth-order central difference of the loss along the direction; the error as half the step shows it, with the losses' own."""
        step = 0.005 * (1 + np.abs(point.state.coordinates).max())
        near = {m: certain(point.objective.estimate(point.moved(m * step))) for m in (-2, -1, -0.5, 0.5, 1, 2)}

        def difference(m: float) -> float:
            found: float = (8 * (near[m].value - near[-m].value) - (near[2 * m].value - near[-2 * m].value)) / (12 * m * step)
            return found

        fine, coarse = difference(0.5), difference(1.0)
        return fine, abs(fine - coarse) + 3 * max(one.value_error for one in near.values()) / step


_LATEX = (r"\nabla_{\mu_i}L=2\,\mathbb E[w_iv+w_iM\mu_i-2w_ivv^\top\mu_i-2w_iMv+3w_i\|v\|^2v]")


@register
class Lemma22(_Gradient):
    r"""Lemma 2.2: :math:`\nabla_{\mu_i}L=2E[w_iv+w_iM\mu_i-2w_ivv^\top\mu_i-2w_iMv+3w_i\|v\|^2v]`, :math:`M=\sum_jw_j\mu_j\mu_j^\top`."""

    name = "zhang2025.lemma_2_2"
    title = "Lemma 2.2 (exact gradient)"
    source = common.PAPER
    statement = "The gradient of the loss is the expectation of a cubic form of the parameters."
    latex = _LATEX
    bounds = (Bound("the library's gradient is the cubic form", _LATEX, "=="),
              Bound("and the derivative of the library's loss along a random direction, by central differences", r"\nabla L", "==",
                    tag="derived"))

    def examples(self) -> dict[str, Example]:
        obj = at_target(1, np.array([0.3, 0.7]))
        return {**super().examples(), "unequal weights": Example("vacuous", lambda: {"subject": obj, "params0": [[1.0], [-0.5]]},
                                                                 "the paper's weights are equal (the formula holds all the same)")}


@register
class LemmaB1(Lemma22):
    """Lemma B.1: Lemma 2.2, restated in the appendix."""

    name = "zhang2025.lemma_b_1"
    title = "Lemma B.1 (= Lemma 2.2, exact gradient)"


@register
class LemmaB2(Inequality):
    r"""Lemma B.2, recalled: :math:`E e^{c\|x\|}\le1+5\sqrt d\,c` for :math:`0<c\le\frac1{3d}`; the left side less 1 by its power series.

    Shown and never tested: no source of it is at hand. ``measured`` has the smallest constant that the samples need.
    """

    name = "zhang2025.lemma_b_2"
    title = "Lemma B.2 (exponential moment of the norm)"
    source = common.PAPER + ", as remembered: no source at hand"
    statement = "For a standard normal x in d dimensions and 0 < c <= 1/(3d) the mean of exp(c |x|) is at most 1 + 5 sqrt(d) c."
    latex = r"\mathbb E_{N(0,I_d)}e^{c\|x\|}\le1+5\sqrt d\,c"
    tag = "recalled"
    constants = (Constant("C", 5.0, "recalled"),)
    bounds = (Bound("E exp(c|x|) - 1 <= C sqrt(d) c", latex, constant="C", tag="recalled"),)
    scales = tuple(10.0 ** np.arange(-8, 1))
    limits = ("small",)

    def sample(self, rng: np.random.Generator, scale: float) -> tuple[int, float]:
        d = int(rng.choice([1, 2, 3, 5, 10, 50, 200]))
        return d, min(scale, 1.0) * rng.uniform(0.5, 1.0) / (3 * d)

    def sides(self, point: tuple[int, float]) -> tuple[float, float, float]:
        from scipy.special import gammaln

        d, c = point
        k = np.arange(1, 80)  # terms fall like (c sqrt(d))^k / sqrt(k!) with c sqrt(d) <= 1/3
        terms = np.exp(k * (math.log(c) + math.log(2) / 2) + gammaln((d + k) / 2) - gammaln(d / 2) - gammaln(k + 1))
        left = float(terms.sum())
        return left, math.sqrt(d) * c, 1e-13 * left

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "C = 5 given": Example("undecided", lambda: {"C": 5.0}, "a recalled constant is not tested, whoever "
                                                                                              "gives it")}


@register
class LemmaB3(Inequality):
    r"""Lemma B.3: :math:`\|\nabla_iL(\mu+\delta)-\nabla_iL(\mu)\|\le C\sum_k\|\delta_k\|` for small parameters and perturbations.

    Neither C nor what counts as small is known. The samples have :math:`\|\mu_i\|\le1`, :math:`\|\delta_i\|\le1`, n = 2, 3, 5, d = 1, 2.
    """

    name = "zhang2025.lemma_b_3"
    title = "Lemma B.3 (local smoothness)"
    source = common.PAPER
    statement = "Near the target the gradient changes by at most C times the sum of the parameters' changes."
    latex = r"\|\nabla_iL(\mu+\delta)-\nabla_iL(\mu)\|\le C\sum_k\|\delta_k\|"
    constants = (Constant("C", None, "unknown"),)
    bounds = (Bound("the gradient changes by at most C sum_k |delta_k|", latex, constant="C"),)
    scales = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    limits = ("small",)
    samples, shapes = 40, 4
    radius = 1.0  #: of the ball of small parameters and of perturbations, which the paper does not give

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5])), int(rng.integers(1, 3))
        delta = _in_ball(rng, n, d) * self.radius * min(scale, 1.0)
        return GradientPoint(at_target(d), State.of(self.radius * _in_ball(rng, n, d)), delta)

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, 1e-3 * _in_ball(np.random.default_rng(self.seed), state.n, state.k))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        size = float(np.linalg.norm(point.state.coordinates, axis=1).max())
        # a point drawn in the ball may lie an ulp outside
        return [*point.hypotheses(), Hypothesis("the parameters are small", r"\max_i\|\mu_i\|\le1", size, "<=", self.radius * (1 + 1e-12),
                                                tag="reconstructed")]

    def sides(self, point: GradientPoint) -> tuple[float, float, float]:
        (here, error), (there, other) = point.gradient(), point.gradient(point.moved(1.0))
        change = np.linalg.norm(there - here, axis=1)
        i = int(np.argmax(change))
        return float(change[i]), float(np.linalg.norm(point.direction, axis=1).sum()), float(error[i] + other[i])

    def examples(self) -> dict[str, Example]:
        obj = at_target(1)
        return {**super().examples(),
                "C = 4 given": Example("verified", lambda: {"subject": obj, "params0": [[0.3], [-0.4]], "C": 4.0}, "two small parameters"),
                "far away": Example("vacuous", lambda: {"subject": obj, "params0": [[3.0], [-0.4]], "C": 4.0}, "a parameter is not small")}


def _in_ball(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = rng.standard_normal((n, d))
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True) * rng.uniform(0, 1, (n, 1)) ** (1 / d)
    return found
