"""The published gradient at points, and the loss near the optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam.objectives import ReLUNeuron
from overparam.state import State
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.xu2023 import common

__all__ = ["Gradient", "NearOptimum", "Point", "published"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Point:
    """An objective and a state."""

    objective: Any  # a ReLUNeuron where the hypotheses hold
    state: State


def published(params: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The gradient (n, d) as it is published, with angles by arccos.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> from overparam.theory.xu2023.gradients import published
    >>> params, target = np.array([[1.0, 2.0], [-0.5, 0.3]]), np.array([0.0, 1.0])
    >>> bool(abs(published(params, target) - op.ReLUNeuron(target).grad(params)).max() < 1e-15)
    True
    """
    lengths, size = np.linalg.norm(params, axis=1), float(np.linalg.norm(target))
    units, goal = params / lengths[:, None], target / size
    pairs, own = np.arccos(np.clip(units @ units.T, -1, 1)), np.arccos(np.clip(units @ goal, -1, 1))
    np.fill_diagonal(pairs, 0.0)
    radial = np.sin(pairs) @ lengths - size * np.sin(own)
    found: np.ndarray = (params.sum(axis=0) - target) / 2 + (radial[:, None] * units - pairs @ params + own[:, None] * target) / (2 * np.pi)
    return found


class _Points(Inequality):
    """Points of the loss against one neuron."""

    samples, shapes = 6, 2

    def point(self, setting: Setting, state: State) -> Point:
        return Point(setting.objective, state)

    def hypotheses_at(self, point: Point) -> list[Hypothesis]:
        return [common.neuron(point.objective)]


@register
class Gradient(_Points):
    r"""The gradient by its angles; here against the published form, whose angles come from arccos, at points where that serves.

    arccos loses :math:`\epsilon/\sin\theta` of an angle; that is the error allowed, and near the optimum nothing is left to compare.
    """

    name = "xu2023.gradient"
    title = "Gradient"
    source = common.OWN
    statement = "The library's gradient is the published one."
    latex = (r"\nabla_{w_i}L=\tfrac12\Big(\sum_jw_j-v\Big)+\tfrac1{2\pi}\Big[\Big(\sum_{j\ne i}\|w_j\|\sin\theta_{ij}"
             r"-\|v\|\sin\theta_i\Big)\bar w_i-\sum_{j\ne i}\theta_{ij}w_j+\theta_iv\Big]")
    tag = "derived"
    relation = "=="
    scales = (0.01, 0.3, 3.0)

    def sample(self, rng: np.random.Generator, scale: float) -> Point:
        n, d = int(rng.choice([1, 2, 3, 7])), int(rng.integers(2, 6))
        return Point(ReLUNeuron(rng.standard_normal(d)), State.of(scale * rng.standard_normal((n, d))))

    def sides(self, point: Point) -> tuple[float, ...]:
        params = point.state.params
        target = point.objective.target
        found, expected = point.objective.estimate(params), published(params, target)
        units = np.concatenate([params / np.linalg.norm(params, axis=1)[:, None], target[None] / np.linalg.norm(target)])
        cosines = np.clip(units @ units.T, -1, 1)[~np.eye(len(units), dtype=bool)]
        sine = math.sqrt(max(1 - float(np.abs(cosines).max()) ** 2, 0.0))
        sizes = float(np.linalg.norm(params, axis=1).sum() + np.linalg.norm(target))
        off = found.grad_error[:, None] + (len(params) + 16) * _EPS * sizes * (1 + (1 / sine if sine > 0 else math.inf))
        worst = np.unravel_index(int(np.argmax(np.abs(found.grad - expected) - off)), expected.shape)
        return float(found.grad[worst]), float(expected[worst]), float(np.broadcast_to(off, expected.shape)[worst]), sizes

    def examples(self) -> dict[str, Example]:
        from overparam.objectives import ScoreMatching
        from overparam.teachers import Gaussian

        other = {"subject": ScoreMatching(Gaussian([0.0])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "another loss": Example("vacuous", lambda: other, "score matching has another gradient")}


@register
class NearOptimum(_Points):
    r"""Near the optimum the loss is of third order in the angles.

    With :math:`R=\sum_iw_i-v` the loss is :math:`\frac14\|R\|^2` and a sum of :math:`g(\theta)=\sin\theta-\theta\cos\theta`, and
    :math:`|g-\theta^3/3|\le\theta^5/30`.
    """

    name = "xu2023.law_near_optimum"
    title = "Loss near the optimum"
    source = common.OWN
    statement = ("The loss is |R|^2/4 and a sum over pairs, of the target too, of lengths times the cubed angle over 12 pi, up to fifth "
                 "powers of the angles over 120 pi.")
    latex = (r"\Big|L-\tfrac14\|R\|^2-\tfrac1{12\pi}\Big[\sum_{i\ne j}\|w_i\|\|w_j\|\theta_{ij}^3-2\|v\|\sum_i\|w_i\|\theta_i^3\Big]\Big|"
             r"\le\tfrac1{120\pi}\Big[\sum_{i\ne j}\|w_i\|\|w_j\|\theta_{ij}^5+2\|v\|\sum_i\|w_i\|\theta_i^5\Big]")
    tag = "derived"
    bounds = (Bound("the loss is its third-order part up to fifth powers of the angles", latex, tag="derived", attained=True),)
    scales = (1e-6, 1e-3, 0.1, 1.0)

    def sample(self, rng: np.random.Generator, scale: float) -> Point:
        n, d = int(rng.choice([2, 3, 7])), int(rng.integers(2, 5))  # one neuron with R = 0 is the target
        rows = scale / n * rng.standard_normal((n, d))
        rows[:, 0] += rng.dirichlet(np.full(n, 3.0))
        rows -= (rows.sum(axis=0) - np.eye(d)[0]) / n
        return Point(ReLUNeuron(np.eye(d)[0]), State.of(rows))

    def sides(self, point: Point) -> tuple[float, float, float, float]:
        found, rows = point.objective.estimate(point.state), point.objective.start(point.state).coordinates
        seen = common.neurons(point.objective, point.state)
        lengths = np.append(seen.lengths, -seen.target)
        units = np.concatenate([rows, np.eye(1, rows.shape[1])]) / np.append(seen.lengths, 1.0)[:, None]
        units[:, 0] -= 1
        near = units[:, 0] > -1  # 1 - cos without cancellation
        units[:, 0] = np.where(near, -(units[:, 1:] ** 2).sum(axis=1) / (2 + units[:, 0]), units[:, 0])
        apart = np.linalg.norm(units[:, None] - units, axis=2)
        angles = 2 * np.arcsin(np.minimum(apart / 2, 1))
        pairs = np.outer(lengths, lengths)
        third = seen.residual**2 / 4 + float((pairs * angles**3).sum()) / (12 * math.pi)
        fifth = float((np.abs(pairs) * angles**5).sum()) / (120 * math.pi)
        size = float((np.abs(pairs) * angles**3).sum()) / (12 * math.pi)
        # arcsin loses a root of eps near pi, and nothing before a right angle
        lost = 64 * _EPS if float(angles.max()) < 2 else 1e-6
        return abs(found.value - third), fifth, found.value_error + lost * size + 8 * _EPS * found.value, max(found.value, size)

    def examples(self) -> dict[str, Example]:
        obj = ReLUNeuron([1.0, 0.0])
        return {**super().examples(),
                "a start": Example("verified", lambda: {"subject": obj, "params0": [[0.4, 0.2], [0.6, -0.25]]}, "angles of 0.4"),
                "a point": Example("verified", lambda: {"subject": obj, "params0": [[2.0, 1.0], [-1.0, 0.5]]}, "far from the optimum")}
