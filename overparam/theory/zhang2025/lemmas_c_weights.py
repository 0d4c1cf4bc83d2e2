"""Lemmas C.5, C.6 and C.9: weights at a point, from its distances to the students and from its own norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from overparam import _softmax
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common

__all__ = ["LemmaC5", "LemmaC6", "LemmaC9"]

_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, eq=False)
class _At:
    """Students, points x (N, d) to look at them from, and a factor by which those are moved outwards."""

    means: np.ndarray
    x: np.ndarray
    factor: float = 1.0
    equal: bool = True

    @property
    def half_squares(self) -> np.ndarray:
        r"""(N, n): :math:`\frac12\|x-\mu_i\|^2`."""
        found: np.ndarray = 0.5 * ((self.x[:, None] - self.means) ** 2).sum(axis=-1)
        return found

    @property
    def log_w(self) -> np.ndarray:
        r"""(N, n): :math:`\ln w_i(x)`."""
        return _softmax.log_softmax(self.x @ self.means.T - 0.5 * (self.means**2).sum(axis=1))

    @property
    def error(self) -> float:
        """Rounding of differences of logits or of squares, generously: a term for each coordinate."""
        size = np.abs(self.x).max() * np.abs(self.means).max() + np.abs(self.means).max() ** 2 + np.abs(self.x).max() ** 2
        return float(8 * (self.means.shape[1] + 4) * _EPS * (size * self.means.shape[1] + 1))


class _Pointwise(Inequality):
    """Base: students anywhere, points anywhere; nothing needs to be far."""

    tag = "reconstructed"
    scales: ClassVar[tuple[float, ...]] = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
    samples: ClassVar[int] = 200
    looks: ClassVar[int] = 50  # points from which a user's state is looked at

    def sample(self, rng: np.random.Generator, scale: float) -> _At:
        n, d = int(rng.integers(2, 8)), int(rng.integers(1, 5))
        means = scale * rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 0, (n, 1))
        return _At(means, scale * rng.standard_normal((1, d)) * 10 ** rng.uniform(-1, 1), 1 + 3 * rng.random())

    supposes = common.of_students

    def point(self, setting: Setting, state: State) -> _At:
        means = state.coordinates
        rng = np.random.default_rng([self.seed, 3])
        spread = np.abs(means).max() + 1
        return _At(means, spread * rng.standard_normal((self.looks, means.shape[1])), 1 + 3 * rng.random(), setting.equal_weights)

    def hypotheses_at(self, point: _At) -> list[Hypothesis]:
        return [Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=point.equal),
                Hypothesis("there are at least two students", r"n\ge2", len(point.means), ">=", 2, structural=True)]

    def examples(self) -> dict[str, Example]:
        def start(weights: list[float] | None) -> dict[str, Any]:
            return {"subject": ScoreMatching(Gaussian([0.0, 0.0]), weights=weights, rule=Auto(tol=1e-8)),
                    "params0": [[0.0, 0.0], [7.0, 0.0], [0.0, 8.0]]}

        return {**super().examples(), "a start": Example("verified", lambda: start(None), "n=3, d=2, from 50 points"),
                "unequal weights": Example("vacuous", lambda: start([0.5, 0.3, 0.2]), "the weights are a hypothesis"),
                "one student": Example("vacuous", lambda: {**start(None), "params0": [[7.0, 0.0]]}, "n=1: there is no other")}


@register
class LemmaC5(_Pointwise):
    r"""Lemma C.5: a student farther from x than another weighs less, by the exponential of half the difference of squares."""

    name = "zhang2025.lemma_c_5"
    title = "Lemma C.5"
    source = common.PAPER
    statement = "A student that is farther from x than another weighs less than that one, exponentially in the difference of squares."
    latex = r"w_i\le e^{-\frac12(\|x-\mu_i\|^2-\|x-\mu_j\|^2)}w_j"
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("every weight is at most exp(-(|x - mu_i|^2 - |x - mu_j|^2)/2), j the nearest",
              r"w_i\le e^{-\frac12(\|x-\mu_i\|^2-\|x-\mu_j\|^2)}", logarithmic=True, tag="reconstructed", attained=True),
        Bound("the ratio of two weights is that very exponential", r"\ln\frac{w_i}{w_j}=\tfrac12(\|x-\mu_j\|^2-\|x-\mu_i\|^2)",
              relation="==", tag="derived"))

    def sides(self, point: _At) -> Sequence[tuple[float, ...]]:
        log_w, halves = point.log_w, point.half_squares
        nearest = halves.argmin(axis=1)[:, None]
        gaps = halves - np.take_along_axis(halves, nearest, axis=1)
        ratios = log_w - np.take_along_axis(log_w, nearest, axis=1)
        others = np.arange(halves.shape[1]) != nearest
        room = np.where(others, -gaps - log_w, np.inf)
        x, i = np.unravel_index(room.argmin(), room.shape)
        apart = np.unravel_index(np.abs(ratios + gaps).argmax(), gaps.shape)
        # equality where the nearest weighs 1; the ratios are logarithms, so 1 is their scale
        return [(float(log_w[x, i]), float(-gaps[x, i]), point.error), (float(ratios[apart]), float(-gaps[apart]), point.error, 1.0)]


@register
class LemmaC6(_Pointwise):
    r"""Lemma C.6: the student nearest to x has at least its share, and nearly all where the others are clearly farther."""

    name = "zhang2025.lemma_c_6"
    title = "Lemma C.6"
    source = common.PAPER
    statement = "The student nearest to x has a weight of at least 1/n, and of nearly 1 where all others are clearly farther."
    latex = r"w_j\ge\frac1n,\quad w_j\ge\frac1{1+(n-1)e^{-s}}"
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the nearest student has at least the weight 1/n", r"\max_jw_j\ge\frac1n", relation=">=", logarithmic=True, tag="derived",
              attained=True),
        Bound("its weight is at least 1/(1 + (n-1) e^-s), s half the least difference of squares", r"w_j\ge\frac1{1+(n-1)e^{-s}}",
              relation=">=", logarithmic=True, tag="reconstructed", attained=True))

    def sides(self, point: _At) -> Sequence[tuple[float, ...]]:
        log_w, halves = point.log_w, point.half_squares
        n = halves.shape[1]
        order = np.sort(halves, axis=1)
        own = np.take_along_axis(log_w, halves.argmin(axis=1)[:, None], axis=1)[:, 0]
        least = -np.log1p((n - 1) * np.exp(-(order[:, 1] - order[:, 0])))
        worst = int((own - least).argmin())
        # equality occurs: where all are equally far, and for two students in the second bound
        return [(float(own.min()), -math.log(n), point.error), (float(own[worst]), float(least[worst]), point.error)]


@register
class LemmaC9(_Pointwise):
    r"""Lemma C.9: as x moves outwards along a ray, the weights go over to the students that lie farther out along it."""

    name = "zhang2025.lemma_c_9"
    title = "Lemma C.9"
    source = common.PAPER
    statement = "Along a ray the posterior mean moves outwards with |x|, and a weight gains on those of students that lie less far out."
    latex = r"\frac{d}{ds}\langle x,v(sx)\rangle=x^\top C(sx)\,x\ge0"
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the posterior mean moves outwards along the ray", r"\langle\hat x,v(sx)\rangle\uparrow s", tag="derived", attained=True),
        Bound("the student farthest out along the ray gains weight", r"\ln w_{j}(sx)\uparrow s,\ j=\arg\max_i\langle x,\mu_i\rangle",
              tag="reconstructed", logarithmic=True, attained=True),
        Bound("the weight of the student least far out falls", r"\ln w_{i}(sx)\downarrow s,\ i=\arg\min_i\langle x,\mu_i\rangle",
              tag="reconstructed", logarithmic=True, attained=True))

    def sides(self, point: _At) -> Sequence[tuple[float, ...]]:
        along = point.x @ point.means.T
        moved = replace(point, x=point.factor * point.x)
        unit = along / np.linalg.norm(point.x, axis=1, keepdims=True)
        before, after = point.log_w, moved.log_w
        error = moved.error
        size = float(np.abs(unit).max())

        def worst(left: np.ndarray, right: np.ndarray, rounding: float, scale: float) -> tuple[float, float, float, float]:
            """The comparison with the least room; equality occurs, where weights are 1."""
            one = int((right - left).argmin())
            return float(left[one]), float(right[one]), rounding, scale

        first, last = along.argmax(axis=1)[:, None], along.argmin(axis=1)[:, None]
        means = [(np.exp(logs) * unit).sum(axis=1) for logs in (before, after)]
        gains = [np.take_along_axis(logs, first, axis=1)[:, 0] for logs in (before, after)]
        losses = [np.take_along_axis(logs, last, axis=1)[:, 0] for logs in (after, before)]
        return [worst(means[0], means[1], 2 * size * error, size), worst(gains[0], gains[1], 2 * error, 1.0),
                worst(losses[0], losses[1], 2 * error, 1.0)]
