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

from dataclasses import dataclass, replace
from math import lgamma

import numpy as np

from overparam.quadrature import Axis, Grid, hermite_axis

__all__ = ["Lengths", "axis_error", "grid_error", "lattice", "smallest_axis"]

_FRACTIONS = np.concatenate([np.linspace(0.02, 0.9, 40), 1 - np.geomspace(0.08, 1e-3, 10)])  # of the largest strip
_ORDERS = np.arange(2, 65)  # above this a trapezoid axis is always the smaller one
_STEPS = np.geomspace(2.5, 5e-3, 220)
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

    def grown(self, factor: float) -> Lengths:
        """The same for student means that are `factor` times as far apart."""
        return replace(self, own=factor * self.own, widest=factor * self.widest)

    def sizes(self, moving: bool, cos: np.ndarray, cos_teacher: np.ndarray) -> np.ndarray:
        """(q, A) bounds for cosines (A,): of the n rows, or of n deviation rows and their mean where the centre moves, and of the loss."""
        own, teacher = self.own[:, None] / cos, self.teacher[:, None] / cos_teacher
        rows = own + teacher + self.widest**2 / 2 * self.own[:, None] / cos**3
        rows += self.teacher_widest**2 / 2 * self.farthest[:, None] / cos_teacher**3
        rows *= 2 * self.weights[:, None]
        off = own + teacher
        loss = self.weights @ (off * (2 * self.nearest[:, None] + off))
        mean = rows.mean(axis=0)
        return np.concatenate([rows + mean, mean[None], loss[None]] if moving else [rows, loss[None]])

    def real(self, moving: bool) -> np.ndarray:
        """(q,) bounds on the real axis."""
        return self.sizes(moving, np.ones(1), np.ones(1))[:, 0]


def _strips(spread: float, teacher_spread: float, top: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half-widths a (A,) below the poles, and the two cosines there."""
    a = min(top, np.pi / max(spread, teacher_spread, 1e-300)) * _FRACTIONS
    return a, np.cos(a * spread / 2), np.cos(a * teacher_spread / 2)


def _trapezoid_front(steps: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(S, A) factors 2 exp(a²/2)/(exp(2πa/h) - 1)."""
    turns = 2 * np.pi * a / steps[:, None]
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return np.exp(np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns)))


def _hermite_front(orders: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(S, A) factors m!/a^{2m}."""
    logs = np.array([lgamma(order + 1) for order in orders])[:, None] - 2 * np.asarray(orders)[:, None] * np.log(a)
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(np.minimum(logs, 700.0))


def axis_error(axis: Axis, spread: float, teacher_spread: float, lengths: Lengths, moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (q,) and (q,) on what an axis errs by: discretisation, and truncation with what making its weights' sum 1 costs."""
    from scipy.special import ndtr

    if axis.step is None:
        if max(spread, teacher_spread) == 0:
            return np.zeros(len(lengths.own) + 1 + moving), np.zeros(len(lengths.own) + 1 + moving)
        a, cos, cos_teacher = _strips(spread, teacher_spread, 1e100)
        front = _hermite_front(np.array([axis.order]), a)[0]
        with np.errstate(over="ignore", under="ignore"):
            return (front * lengths.sizes(moving, cos, cos_teacher)).min(axis=1), np.zeros(len(lengths.own) + 1 + moving)
    a, cos, cos_teacher = _strips(spread, teacher_spread, 1.2 * 2 * np.pi / axis.step)
    with np.errstate(over="ignore", under="ignore"):
        steps = (_trapezoid_front(np.array([axis.step]), a)[0] * lengths.sizes(moving, cos, cos_teacher)).min(axis=1)
    tails = float(ndtr(axis.nodes[0]) + ndtr(-axis.nodes[-1])) + abs(axis.weights.sum() - 1)
    return steps, tails * lengths.real(moving)


def grid_error(grid: Grid, spreads: np.ndarray, teacher_spreads: np.ndarray, lengths: Lengths,
               moving: bool) -> tuple[np.ndarray, np.ndarray]:
    """The same of a tensor grid: the sums over its axes, neither above the trivial bound."""
    parts = [axis_error(axis, spread, other, lengths, moving)
             for axis, spread, other in zip(grid.axes, spreads, teacher_spreads, strict=True)]
    most = 2 * lengths.real(moving)
    return tuple(np.minimum(sum(part[kind] for part in parts), most) for kind in (0, 1))


def lattice(half_width: float, step: float) -> Axis:
    """The trapezoid rule on multiples of `step`, at least from -`half_width` to `half_width`; its weights are not yet made to sum to 1."""
    count = int(np.ceil(half_width / step))
    z = step * np.arange(-count, count + 1)
    return Axis(z, step / np.sqrt(2 * np.pi) * np.exp(-z * z / 2), step)


def smallest_axis(spread: float, teacher_spread: float, lengths: Lengths, moving: bool, shares: np.ndarray) -> Axis:
    """The axis of fewest nodes that errs by no more than `shares` (q,), as far as there is one; a fourth of it is for the edges."""
    from scipy.special import ndtri

    def worst(sizes: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(sizes > 0, sizes / shares[:, None], 0.0).max(axis=0)

    a, cos, cos_teacher = _strips(spread, teacher_spread, 1e100)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        enough = (_hermite_front(_ORDERS, a) * worst(lengths.sizes(moving, cos, cos_teacher))).min(axis=1) <= 1
    order = int(_ORDERS[enough.argmax()]) if enough.any() else None
    if order == 2:
        return hermite_axis(2)
    a, cos, cos_teacher = _strips(spread, teacher_spread, 1.2 * 2 * np.pi / _STEPS[-1])
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        enough = (_trapezoid_front(_STEPS, a) * worst(lengths.sizes(moving, cos, cos_teacher))).min(axis=1) <= 0.75
    step = float(_STEPS[enough.argmax()]) if enough.any() else float(_STEPS[-1])
    tail = 0.25 / max(_EDGE * float(worst(lengths.real(moving)[:, None])[0]), 1.0)
    edge = -float(ndtri(tail)) if tail > 1e-300 else _WIDEST_EDGE
    if order is not None and order <= 2 * edge / step + 1:
        return hermite_axis(order)
    return lattice(edge, step)
