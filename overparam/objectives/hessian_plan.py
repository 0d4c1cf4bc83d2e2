r"""Hessians over nodes: what every objective's has in common, its error bound and the grid that meets a tolerance.

An objective's Hessian is quadratic in x off the span of the differences, where one node, the mean, would miss the variance: what it
adds to there is its *outside* sum. The derivation of all bounds is in docs/numerics.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lgamma
from typing import Any, ClassVar

import numpy as np

from overparam._softmax import posterior_mean
from overparam.certificate import Demand
from overparam.nodes import NEUTRAL, Axis, Cloud, Frame, Grid, Layout, hermite_axis, trapezoid_axis
from overparam.objectives.measure import Measure
from overparam.planning import TooHardError

__all__ = ["SAFETY", "Curvature", "HessianKind", "blocks", "flat_axes"]

_BLOCK = 8192  # nodes written out at a time: 200 kB in rank 3
_WHOLE = 200  # reduced coordinates up to which the norm is taken of the whole Hessian
SAFETY, _TRUST = 1.1, 0.03  # as in overparam.bounds
_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])
_CIRCLE = 2.5
_WIDEST_CIRCLE = 1e20  # a bound falls like its square at least; more would overflow
_ORDERS = np.arange(2, 49)  # up to 48 the moments of Peano's kernel were checked
_WIDEST_STEP, _LEAST_STEP = 1.2, 0.005
_PER_WIDTH = 0.1  # steps down to this over the spread: at the nearest pole, pi/spread, that is e^-190


@dataclass(frozen=True, eq=False)
class Curvature:
    """What is known of the Hessian at a state, in the coordinates of the state (or of a plan's frame).

    Attributes
    ----------
    hessian : (n, k, n, k) array, or None
        None when only a product was asked for.
    product : (n, k) array, or None
        The Hessian times a direction.
    outside : (n, n) array, or None
        The block along every direction outside the basis is ``outside[i, j] * I``; None if it was not asked for.
    error : float
        Bound on the spectral norm of the error, rounding not counted; NaN for nodes that come without one.
    nodes : int
    """

    hessian: np.ndarray | Any
    product: np.ndarray | Any
    outside: np.ndarray | Any
    error: float
    nodes: int


def blocks(layout: Layout, frame: Frame, most: int = _BLOCK) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Nodes (N, k), weights (N,) and targets (N, k) or (1, k) of a layout, `most` nodes at a time."""
    if layout.sampled:
        measure: Any = Measure.of(layout, frame)  # with nodes and weights: a cloud is written out
        target = np.atleast_2d(measure.target)
        for first in range(0, len(measure.nodes), most):
            part = slice(first, first + most)
            yield measure.nodes[part], measure.weights[part], target if len(target) == 1 else target[part]
        return
    single = len(frame.means) == 1
    for grid, mean, share in zip(layout.grids, frame.means, frame.teacher_weights, strict=True):
        for z, weights in _pieces(grid, most):
            nodes = mean + z
            yield nodes, share * weights, mean[None] if single else posterior_mean(nodes, frame.means, frame.teacher_weights)


def _pieces(grid: Grid, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    orders = tuple(axis.order for axis in grid.axes)
    for first in range(0, grid.size, most):
        places = np.unravel_index(np.arange(first, min(first + most, grid.size)), orders)
        z = np.stack([axis.nodes[place] for axis, place in zip(grid.axes, places, strict=True)], axis=1)
        yield z, np.prod([axis.weights[place] for axis, place in zip(grid.axes, places, strict=True)], axis=0)


def flat_axes(layout: Layout) -> np.ndarray:
    """(k,) whether an axis has one node, the mean, and the variance along it is missing."""
    grid = layout.grids[0]
    if isinstance(grid, Cloud):
        return np.logical_not(grid.nodes.any(axis=0))
    return np.array([axis.order == 1 for axis in grid.axes])


class HessianKind(ABC):
    """The Hessian of one kind of objective: its sums over nodes, and what bounds them."""

    #: Numbers of student and of teacher factors in the integrand.
    powers: ClassVar[tuple[int, int]]

    @abstractmethod
    def sums(self, layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, direction: np.ndarray | None = None,
             outside: bool = True) -> Curvature:
        """The Hessian at ``centre + deviations`` in the frame, or its product with `direction` (n, k), over a layout's nodes.

        Without `outside` a product is not burdened with the (n, n) sums for directions off the basis.
        """

    @abstractmethod
    def majorant(self, layout: Layout, frame: Frame) -> np.ndarray:
        r"""(3,) array M: the integrand's Frobenius norm, summed over blocks, is at most :math:`E[M_0+bM_1+b^2M_2]` times the strip factors.

        Here each :math:`\|e_i\|` may be larger by b; products of two of them are bounded by squares, which are smooth.
        """

    @abstractmethod
    def effect(self, omega: float, k: int) -> float:
        r"""Factor by which the weight of means that are left out bounds what this changes in the Hessian's spectral norm.

        :math:`\Omega` is the largest distance of a student mean from a teacher mean, k the number of axes; see
        :mod:`overparam.objectives.far_means`.
        """

    @abstractmethod
    def tail(self, edge: np.ndarray, k: int, widest: float, far: float) -> np.ndarray:
        """Bound on what lies beyond `edge` standard deviations on one side of an axis, for the Hessian's norm.

        `widest` bounds the distances between student means, `far` those to a teacher mean.
        """

    def refined(self, layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, tol: float,
                    max_nodes: int) -> tuple[Layout, float]:
        """A layout on which the Hessian's error is below `tol` times its spectral norm, and the bound.

        `layout` serves the gradient; its edges are kept where they reach further. Raises TooHardError above `max_nodes`.
        """
        widths = np.maximum(frame.spreads, frame.teacher_spreads)
        live = np.flatnonzero(widths > NEUTRAL * widths.max()) if widths.max() > 0 else np.zeros(0, dtype=int)
        if live.size == 0:  # coincident means: the integrand is a quadratic, and the missing variance is added in closed form
            return layout, 0.0
        found = layout
        for _ in range(5):
            norm, M = self._norm(found, frame, centre, deviations), self.majorant(found, frame)
            target = max(tol * norm, Demand.LEVEL * M[0])
            if found is not layout:
                error = self._error(found, frame, live, M)
                if error <= target:
                    return found, error
            grids = self._design(layout, frame, live, M, target)
            size = sum(grid.size for grid in grids)
            if size > max_nodes:
                raise TooHardError(f"the Hessian to tol={tol:g} needs {size:.3g} nodes, more than max_nodes={max_nodes}: the "
                                   f"{len(frame.params)} means differ along {live.size} axes. Raise max_nodes or tol, or use a sampling "
                                   "rule (op.Sobol, op.MonteCarlo)")
            found = replace(layout, grids=grids)
        raise TooHardError(f"the Hessian cannot be certified to tol={tol:g}: it is too small against its integrand. Raise tol")

    def _design(self, layout: Layout, frame: Frame, live: np.ndarray, M: np.ndarray, target: float) -> tuple[Grid, ...]:
        share = 0.5 * target / live.size
        edges = np.arange(3.0, 40.0, 0.25)
        tails = self.tail(edges, frame.params.shape[1], *_extent(frame))
        enough = tails <= 0.3 * target / (2 * live.size * len(frame.means))
        plain = float(edges[enough.argmax()])  # at 40 a tail is exp(-800): there is always one
        rules: dict[int, int | float] = {}
        for axis in live:
            spread, teacher_spread = float(frame.spreads[axis]), float(frame.teacher_spreads[axis])
            steps = np.geomspace(_WIDEST_STEP, min(_LEAST_STEP, _PER_WIDTH / max(spread, teacher_spread)), 160)
            good = _strip_error(steps, spread, teacher_spread, M, self.powers) <= share
            rules[axis] = float(steps[good.argmax() if good.any() else -1])
            if max(spread, teacher_spread) < 1.5:
                good = _circle_error(_ORDERS, spread, teacher_spread, M, frame.offset, self.powers) <= share
                order = int(_ORDERS[good.argmax()])
                if good.any() and order <= 2 * plain / rules[axis]:
                    rules[axis] = order
        return tuple(Grid(tuple(_axis(rules.get(axis), old, plain) for axis, old in enumerate(grid.axes))) for grid in layout.grids)

    def _error(self, layout: Layout, frame: Frame, live: np.ndarray, M: np.ndarray) -> float:
        """Bound on the error of a designed layout: axes, and both sides of every trapezoid axis for each teacher component."""
        total, k = 0.0, frame.params.shape[1]
        for axis in live:
            spread, teacher_spread = float(frame.spreads[axis]), float(frame.teacher_spreads[axis])
            first = layout.grids[0].axes[axis]
            if first.step is None:
                total += float(_circle_error(np.array([first.order]), spread, teacher_spread, M, frame.offset, self.powers)[0])
                continue
            total += float(_strip_error(np.array([first.step]), spread, teacher_spread, M, self.powers)[0])
            for grid, share in zip(layout.grids, frame.teacher_weights, strict=True):
                ends = np.abs([grid.axes[axis].nodes[0], grid.axes[axis].nodes[-1]])
                total += share * float(self.tail(ends, k, *_extent(frame)).sum())
        return total

    def _norm(self, layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> float:
        """Spectral norm of the Hessian within the frame, or (many coordinates) a lower bound from a few products."""
        size = deviations.size
        if size <= _WHOLE:
            return float(np.abs(np.linalg.eigvalsh(self.sums(layout, frame, centre, deviations).hessian.reshape(size, size))).max())
        vector = np.random.default_rng(0).standard_normal(deviations.shape)
        for _ in range(4):
            vector = vector / np.linalg.norm(vector)
            vector = self.sums(layout, frame, centre, deviations, vector, outside=False).product
        return float(np.linalg.norm(vector))


def _strip_error(steps: np.ndarray, spread: float, teacher_spread: float, M: np.ndarray, powers: tuple[int, int]) -> np.ndarray:
    r"""Bound for trapezoid axes of `steps` (S,).

    .. math:: \min_a\frac{2e^{a^2/2}}{e^{2\pi a/h}-1}(M_0+aM_1+a^2M_2)\cos^{-p}\frac{as}2\cos^{-p^*}\frac{as^*}2
    """
    steps = np.asarray(steps, dtype=np.float64)[:, None]
    a = np.minimum(1.2 * 2 * np.pi / steps, np.pi / max(spread, teacher_spread, 1e-300)) * _FRACTIONS
    turns = 2 * np.pi * a / steps
    front = np.log(2 * SAFETY) + a * a / 2 - turns - np.log(-np.expm1(-turns))
    front -= powers[0] * np.log(np.cos(a * spread / 2)) + powers[1] * np.log(np.cos(a * teacher_spread / 2))
    return _trusted(front, M[0] + a * M[1] + a * a * M[2], a * a, M)


def _circle_error(orders: np.ndarray, spread: float, teacher_spread: float, M: np.ndarray, offset: float,
                  powers: tuple[int, int]) -> np.ndarray:
    r"""Bound for Gauss–Hermite axes of `orders` (S,), with :math:`\tau=ps+p^*s^*` and :math:`c=a+r`, r the offset.

    .. math:: \min_a\frac{2\,m!}{a^{2m}}e^{\tau(a+1)+\tau^2/2}\Big[M_0+(c+1+\frac{\tau^2}2)M_1+2(c^2+1+\tau^2)M_2\Big]
    """
    orders = np.asarray(orders)
    factorials = np.array([lgamma(order + 1) for order in orders])[:, None]
    a = min(_CIRCLE / max(spread, teacher_spread, 1e-300), _WIDEST_CIRCLE) * np.geomspace(0.01, 1.0, 40)
    rate, c = powers[0] * spread + powers[1] * teacher_spread, a + offset
    front = np.log(2 * SAFETY) + factorials - 2 * orders[:, None] * np.log(a) + rate * (a + 1) + rate**2 / 2
    square = 2 * (c * c + 1 + rate**2)
    return _trusted(front, M[0] + (c + 1 + rate**2 / 2) * M[1] + square * M[2], square, M)


def _trusted(front: np.ndarray, size: np.ndarray, square: np.ndarray, M: np.ndarray) -> np.ndarray:
    r"""The least of :math:`e^{front}\,size` over the last axis, or inf where the rule cannot vouch for its own majorants.

    They are taken on the rule's own nodes and obey a bound of the same kind: with :math:`\|e_i\|` larger by b on the shifted
    line it is :math:`e^{front}(2M_0+2b^2(M_1+M_2))`. A rule that may miss them by 3 % proves nothing.
    """
    with np.errstate(over="ignore"):
        errors = np.exp((front + np.log(size)).min(axis=-1))
        own = (front + np.log(2 * M[0] + 2 * square * (M[1] + M[2]))).min(axis=-1)
    return np.where(own < np.log(_TRUST * M[0]), errors, np.inf)


def _axis(rule: int | float | None, old: Axis, plain: float) -> Axis:
    if rule is None:
        return hermite_axis(1)
    if isinstance(rule, int):
        return hermite_axis(rule)
    low, high = (old.nodes.min(), old.nodes.max()) if old.step is not None else (0.0, 0.0)
    return trapezoid_axis(min(low, -plain), max(high, plain), rule)


def _extent(frame: Frame) -> tuple[float, float]:
    """Twice the largest distance of a student mean from their mean, and its largest distance from a teacher mean."""
    apart = np.linalg.norm(frame.deviations - frame.deviations.mean(axis=0), axis=1)
    return 2 * float(apart.max()), float(frame.distances.max())
