r"""A-priori error bounds of rules whose nodes move with the student's means, in closed form, and grids that meet a tolerance.

At :math:`x=\mu_i+z` everything the reverse Fisher divergence integrates is bounded on the real axis, and grows on strips only by the
softmax weights' factors :math:`1/\cos(as/2)`: no sums over nodes are needed, and nothing depends on where :math:`\mu_i` is. With
:math:`\Delta_i=\max_j\|\mu_i-\mu_j\|`, :math:`\Delta` the largest of these, :math:`\Delta_i^*` and :math:`\Delta^*` the same of the
teacher's means seen from the one nearest to :math:`\mu_i`, :math:`e_i` the distance to it and :math:`\omega_i` to the farthest one,

.. math:: |\text{row}_i-\text{const}|\le2\pi_i\Big[\frac{\Delta_i}{\cos}+\frac{\Delta_i^*}{\cos_*}+\frac{\Delta^2\Delta_i}{2\cos^3}
          +\frac{\Delta^{*2}\omega_i}{2\cos_*^3}\Big],\qquad
          |\text{loss}-\text{const}|\le\sum_i\pi_i(2e_ig_i+g_i^2),\quad g_i=\frac{\Delta_i}{\cos}+\frac{\Delta_i^*}{\cos_*} .

The derivation is in docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import lgamma
from typing import Any

import numpy as np

from overparam.nodes import Axis, Grid, hermite_axis

__all__ = ["Kept", "Lengths", "axis_error", "grid_error", "lattice", "smallest_axis"]

_FRACTIONS = np.concatenate([np.linspace(0.02, 0.9, 40), 1 - np.geomspace(0.08, 1e-3, 10)])  # of the largest strip
_ORDERS = np.arange(2, 65)  # above this a trapezoid axis is always the smaller one
_STEPS = np.geomspace(2.5, 5e-3, 220)
_FINE_STEPS = np.geomspace(5e-3, 5e-7, 180)  # where the former are too coarse: means of a teacher that are farther apart than 50
_EDGE = 4.5  # a tail on both sides counts twice, once because the sum of the weights is made 1
_WIDEST_EDGE = 37.0  # the normal density leaves float64's range there


@dataclass(frozen=True, eq=False)
class Lengths:
    """Distances that bound the integrands: see the module's text; (n,) arrays but for the two largest ones."""

    weights: np.ndarray
    own: np.ndarray
    widest: float
    teacher: np.ndarray
    teacher_widest: float
    nearest: np.ndarray
    farthest: np.ndarray

    @classmethod
    def of(cls, params: np.ndarray, deviations: np.ndarray, weights: np.ndarray, means: np.ndarray) -> Lengths:
        """At means `params` (n, k), whose differences are those of `deviations`, against a teacher of `means` (m, k)."""
        own = np.linalg.norm(deviations[:, None] - deviations, axis=-1).max(axis=1)
        apart = np.linalg.norm(params[:, None] - means, axis=-1)
        between = np.linalg.norm(means[:, None] - means, axis=-1)
        return cls(weights, own, float(own.max()), between.max(axis=1)[apart.argmin(axis=1)], float(between.max()), apart.min(axis=1),
                   apart.max(axis=1))

    def grown(self, factor: float, more: float = 0.0) -> Lengths:
        """The same for student means that are `factor` times as far apart, and `more` beyond that."""
        return replace(self, own=factor * self.own + more, widest=factor * self.widest + more)

    def sizes(self, cos: np.ndarray, cos_teacher: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds for cosines (A,) of `rows` (r,), and of what their nodes add to the loss: two (r, A) arrays."""
        own, teacher = self.own[rows, None] / cos, self.teacher[rows, None] / cos_teacher
        found = own + teacher + self.widest**2 / 2 * self.own[rows, None] / cos**3
        found += self.teacher_widest**2 / 2 * self.farthest[rows, None] / cos_teacher**3
        off, share = own + teacher, self.weights[rows, None]
        return 2 * share * found, share * off * (2 * self.nearest[rows, None] + off)

    def real(self, moving: bool) -> np.ndarray:
        """(q,) bounds on the real axis: of the rows (or deviation rows and their mean, where the centre moves) and of the loss."""
        rows, loss = self.sizes(np.ones(1), np.ones(1), np.arange(len(self.own)))
        return _joined(rows[:, 0], loss.sum(), moving)


def _joined(rows: np.ndarray, loss: float, moving: bool) -> np.ndarray:
    """(q,) array for rows (n,) and loss; a deviation row is a row less the mean of all."""
    return np.append(np.append(rows + rows.mean(), rows.mean()) if moving else rows, loss)


@dataclass(frozen=True, eq=False)
class Kept:
    r"""Which means a row's integrand is taken to consist of: the others are too far away to be seen from its nodes.

    At :math:`\mu_i+z` the weight of a mean at distance r is at most :math:`(w_j/w_i)^{1/2}`, in the mean at most
    :math:`(\pi_j/\pi_i)^{1/2}e^{-r^2/8}`. Without it the spread along an axis may be much less, and with it the number of nodes.

    Attributes
    ----------
    students, components : (n, n) and (n, m) bool arrays
        Row i sees student j, component a.
    """

    students: np.ndarray
    components: np.ndarray

    @classmethod
    def everything(cls, n: int, m: int) -> Kept:
        """All are seen from everywhere."""
        return cls(np.ones((n, n), dtype=bool), np.ones((n, m), dtype=bool))

    @classmethod
    def enough(cls, lengths: Lengths, where: tuple[Any, ...], targets: np.ndarray) -> Kept:
        """As few as possible, at a cost below a tenth of `targets` (q,), at ``where = (params, deviations, means, teacher_weights)``."""
        n = len(lengths.own)
        found = []
        for faint, own, total in _faintness(lengths, where):
            order = np.argsort(faint, axis=1)
            sums = np.cumsum(np.take_along_axis(faint, order, axis=1), axis=1)
            with np.errstate(invalid="ignore", over="ignore"):
                unseen = (sums * own[:, None] <= 0.05 * targets[:n, None]) & (sums * total[:, None] <= 0.05 / n * targets[-1])
            mask = np.empty_like(unseen)
            np.put_along_axis(mask, order, ~unseen, axis=1)
            found.append(mask)
        return cls(*found)

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return bool(self.students.all() and self.components.all())

    def left(self, lengths: Lengths, where: tuple[Any, ...]) -> np.ndarray:
        """(n + 1,) what the others change in rows and loss, in the integral and in the rule together."""
        rows, loss = np.zeros(len(lengths.own)), 0.0
        for (faint, own, total), mask in zip(_faintness(lengths, where), (self.students, self.components), strict=True):
            sums = np.where(mask, 0.0, faint).sum(axis=1)
            rows, loss = rows + own * sums, loss + float(total @ sums)
        return np.append(rows, loss)

    def spreads(self, deviations: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) spreads of the students and of the components that each row sees."""
        def extent(points: np.ndarray, mask: np.ndarray) -> np.ndarray:
            if mask.all():
                return np.broadcast_to(np.ptp(points, axis=0), (len(mask), points.shape[1]))
            return np.array([np.ptp(points[row], axis=0) for row in mask])

        return extent(deviations, self.students), extent(means, self.components)


def _faintness(lengths: Lengths, where: tuple[Any, ...]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For students and components: (n, .) bounds on their weights around every mean, and (n,) what a unit of it costs row and loss.

    Infinite for the mean itself and for the component nearest to it: these are always seen.
    """
    params, deviations, means, shares = where
    n, k = params.shape
    both = 1 + 2.3**k  # the integral's share is 1; a lattice of steps up to 2.5 sums a Gaussian, its weights made 1, to less than 2.3
    off = 4 * lengths.weights * (lengths.nearest + lengths.own + lengths.teacher)
    square = ((deviations[:, None] - deviations) ** 2).sum(axis=-1)
    with np.errstate(under="ignore"):
        students = both * np.sqrt(lengths.weights / lengths.weights[:, None]) * np.exp(-square / 8)
    students[np.arange(n), np.arange(n)] = np.inf
    widest, apart = lengths.widest, np.linalg.norm(params[:, None] - means, axis=-1)
    out = [(students, 2 * lengths.weights * lengths.own * (2 + 3 * widest**2), off * lengths.own)]
    first = apart.argmin(axis=1)
    to = means - means[first][:, None]
    square = (to**2).sum(axis=-1)
    gap = np.einsum("iak,iak->ia", to, to / 2 - (params - means[first])[:, None])  # half the difference of squared distances
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        theta = np.where(square > 0, np.clip(gap / square, 0.0, 1.0), 0.0)
        components = both * np.exp(theta * np.log(shares / shares[first][:, None]) - theta * gap + theta**2 * square / 2)
    components[np.arange(n), first] = np.inf
    widest = lengths.teacher_widest
    out.append((components, 2 * lengths.weights * (2 * lengths.teacher + widest**2 * (2 * lengths.farthest + lengths.teacher)),
                off * lengths.teacher))
    return out


def _strips(spread: float, teacher_spread: float, top: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half-widths a (A,) below the poles, and the two cosines there."""
    a = min(top, np.pi / max(spread, teacher_spread, 1e-300)) * _FRACTIONS
    return a, np.cos(a * spread / 2), np.cos(a * teacher_spread / 2)


def _alike(spreads: np.ndarray, teacher_spreads: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """Rows (r,) with the same two spreads, and these."""
    pairs, group = np.unique(np.column_stack([spreads, teacher_spreads]), axis=0, return_inverse=True)
    return [(*pair, np.flatnonzero(group.ravel() == number)) for number, pair in enumerate(pairs)]


def _trapezoid_front(steps: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(S, A) factors 2 exp(a²/2)/(exp(2πa/h) - 1)."""
    turns = 2 * np.pi * a / steps[:, None]
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        found: np.ndarray = np.exp(np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns)))
        return found


def _hermite_front(orders: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(S, A) factors m!/a^{2m}."""
    logs = np.array([lgamma(order + 1) for order in orders])[:, None] - 2 * np.asarray(orders)[:, None] * np.log(a)
    with np.errstate(over="ignore", under="ignore"):
        found: np.ndarray = np.exp(np.minimum(logs, 700.0))
        return found


def axis_error(axis: Axis, spreads: np.ndarray, teacher_spreads: np.ndarray, lengths: Lengths,
               moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (q,) and (q,) on what an axis errs by: discretisation, and truncation with what making its weights' sum 1 costs.

    The spreads (n,) are those that each row sees.
    """
    from scipy.special import ndtr

    rows, loss = np.zeros(len(spreads)), 0.0
    for spread, other, some in _alike(spreads, teacher_spreads):
        if max(spread, other) == 0:
            continue
        a, cos, cos_teacher = _strips(spread, other, 1e100 if axis.step is None else 1.2 * 2 * np.pi / axis.step)
        front = _hermite_front(np.array([axis.order]), a)[0] if axis.step is None else _trapezoid_front(np.array([axis.step]), a)[0]
        with np.errstate(over="ignore", under="ignore"):
            own, whole = ((front * part).min(axis=1) for part in lengths.sizes(cos, cos_teacher, some))
        rows[some], loss = own, loss + float(whole.sum())
    edges = 0.0
    if axis.step is not None:  # the whole lattice sums the density to 1 within 2/(exp(y) - 1) (Poisson), the grid to a tail less
        y = 2 * np.pi**2 / max(axis.step, 1e-150) ** 2
        edges = 2 * float(ndtr(axis.nodes[0]) + ndtr(-axis.nodes[-1])) + 2 * float(np.exp(-y) / -np.expm1(-y))
    return _joined(rows, loss, moving), edges * lengths.real(moving)


def grid_error(grid: Grid, spreads: np.ndarray, teacher_spreads: np.ndarray, lengths: Lengths,
               moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same of a tensor grid, for spreads (n, k): the sums over its axes, neither above the trivial bound."""
    parts = [axis_error(axis, own, other, lengths, moving)
             for axis, own, other in zip(grid.axes, spreads.T, teacher_spreads.T, strict=True)]
    most = 2 * lengths.real(moving)
    return tuple(np.minimum(sum(part[kind] for part in parts), most) for kind in (0, 1))


def lattice(half_width: float, step: float) -> Axis:
    """The trapezoid rule on multiples of `step`, at least from -`half_width` to `half_width`; its weights are not yet made to sum to 1."""
    count = int(np.ceil(half_width / step))
    z = step * np.arange(-count, count + 1)
    return Axis(z, step / np.sqrt(2 * np.pi) * np.exp(-z * z / 2), step)


def smallest_axis(spreads: np.ndarray, teacher_spreads: np.ndarray, lengths: Lengths, moving: bool, shares: np.ndarray,
                  most: float = np.inf) -> Axis | float:
    """The axis of fewest nodes that errs by no more than `shares` (q,), as far as there is one; a fourth of it is for the edges. The number
    of its nodes alone if these are more than `most`.
    """
    from scipy.special import ndtri

    groups = _alike(spreads, teacher_spreads)

    def worst(part: slice | np.ndarray, rows: np.ndarray, loss: np.ndarray) -> np.ndarray:
        """(A,) largest ratio to the shares; a deviation row and its mean are both within twice the largest of all rows."""
        allowed = np.full(len(rows), shares[:-1].min() / 2) if moving else shares[:-1][part]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratios = np.where(rows > 0, rows / allowed[:, None], 0.0).max(axis=0)
            found: np.ndarray = np.maximum(ratios, len(groups) * np.where(loss.sum(axis=0) > 0, loss.sum(axis=0) / shares[-1], 0.0))
            return found

    def first(fronts: Callable[[np.ndarray], np.ndarray], count: int, top: float, limit: float) -> int | None:
        """Index of the first of `count` rules that serves all groups."""
        enough = np.ones(count, dtype=bool)
        for spread, other, some in groups:
            if max(spread, other) > 0:
                a, cos, cos_teacher = _strips(spread, other, top)
                with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                    enough &= (fronts(a) * worst(some, *lengths.sizes(cos, cos_teacher, some))).min(axis=1) <= limit
        return int(enough.argmax()) if enough.any() else None

    index = first(lambda a: _hermite_front(_ORDERS, a), len(_ORDERS), 1e100, 1.0)
    order = None if index is None else int(_ORDERS[index])
    if order == 2:
        return hermite_axis(2)
    for steps in (_STEPS, _FINE_STEPS):
        index = first(partial(_trapezoid_front, steps), len(steps), 1.2 * 2 * np.pi / steps[-1], 0.75)
        step = float(steps[-1 if index is None else index])
        if index is not None:
            break
    with np.errstate(divide="ignore", invalid="ignore"):
        size = lengths.real(moving)
        tail = 0.25 / max(_EDGE * float(np.where(size > 0, size / shares, 0.0).max()), 100.0)
    edge = -float(ndtri(tail)) if tail > 1e-300 else _WIDEST_EDGE
    if order is not None and order <= 2 * edge / step + 1:
        return hermite_axis(order)
    return lattice(edge, step) if 2 * edge / step < most else 2 * edge / step
