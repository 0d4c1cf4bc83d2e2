"""The three parts of an error bound at a state: discretisation, truncation, rounding.

What they are proportional to comes from the kernel's majorants (:class:`Demand`); what bounds each part is in
:mod:`overparam.bounds` and :mod:`overparam.geometry`, and the derivation in docs/numerics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._softmax import softmax
from overparam.bounds import Majorant, arms, hermite_error, trapezoid_error
from overparam.geometry import DROPPED
from overparam.nodes import Frame, Grid, Layout

__all__ = ["Bounds", "Demand", "Parts", "discretisation", "logit_range", "mixture_majorants", "pair_majorants", "rounding", "tight_scales",
           "truncation"]

_BLOCK, _FEWEST = 65_536, 256  # weights (n times nodes) that stay in the cache while they are summed; and no fewer nodes than this


@dataclass(frozen=True, eq=False)
class Demand:
    """What was found with some nodes: quantities (gradient rows, their mean if it moves on its own, the loss last).

    Attributes
    ----------
    size : Majorant
        Majorants of the q quantities.
    magnitudes : (q,) array
        Their absolute values (norms for rows).
    scales : (q,) array
        Integral of the absolute integrand, or somewhat more: what rounding is proportional to.
    slopes : (q,) array, optional
        How much they may change per unit by which D does (mixture teachers).
    plain : (q,) array, optional
        The scales without what is known of tight states, where that is more.
    blurred : (q,) array, optional
        In runs against mixtures: what the rounding of positions beside the farthest component changes at every step anyway.
    """

    size: Majorant | Any  # None, as the others may be, where nobody asks for it
    magnitudes: np.ndarray
    scales: np.ndarray
    slopes: np.ndarray | Any = None
    plain: np.ndarray | Any = None
    blurred: np.ndarray | Any = None

    #: Rounding seen, relative to the scales: below 10 eps over the tests' configurations. No tolerance asks for less.
    LEVEL = 32 * np.finfo(np.float64).eps

    @property
    def floors(self) -> np.ndarray:
        """(q,) level of rounding."""
        return self.LEVEL * self.scales + (0.0 if self.blurred is None else self.blurred)

    def targets(self, tol: float) -> np.ndarray:
        """(q,) largest error that is allowed at relative tolerance `tol`."""
        found: np.ndarray = np.maximum(tol * self.magnitudes, self.floors)
        return found


@dataclass(frozen=True, eq=False)
class Parts:
    """A bound on the loss and on the norm of each gradient row's error, (n,) array."""

    value: float
    grad: np.ndarray

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.value + other.value, self.grad + other.grad)


@dataclass(frozen=True, eq=False)
class Bounds:
    """An error bound by its parts, each for the loss and for every gradient row.

    Attributes
    ----------
    discretisation, truncation, rounding : Parts
        Absolute bounds; ``bounds.truncation.grad[i]`` is what the grid's edges may cost row i.
    """

    discretisation: Parts
    truncation: Parts
    rounding: Parts

    @property
    def total(self) -> Parts:
        """The sum of the parts; inf where one is beyond float64's range, and so not known."""
        with np.errstate(over="ignore", invalid="ignore"):
            whole = self.discretisation + self.truncation + self.rounding
        return Parts(math.inf if math.isnan(whole.value) else whole.value, np.where(np.isnan(whole.grad), np.inf, whole.grad))

    def relative(self, value: float, grad: np.ndarray) -> Bounds:
        """The same relative to the loss and to the norm of each row; inf where those are 0 and the bound is not."""
        norms = np.linalg.norm(grad, axis=1)

        def divided(part: Parts) -> Parts:
            with np.errstate(divide="ignore", invalid="ignore"):
                rows = np.where(part.grad == 0, 0.0, part.grad / norms)
                return Parts(float(np.where(part.value == 0, 0.0, np.float64(part.value) / value)), rows)

        return Bounds(divided(self.discretisation), divided(self.truncation), divided(self.rounding))


def discretisation(layout: Layout, spreads: np.ndarray, teacher_spreads: np.ndarray, size: Majorant, offset: float) -> np.ndarray:
    """(q,) bound on the discretisation error of a layout of grids: the sum of its axes' bounds.

    `offset` is the largest distance of a student mean from a teacher mean along an axis. With several teacher components the
    coarsest axis counts for all (the majorants are summed over components).
    """
    total = np.zeros_like(size.two)
    wide = np.array([axis.step is not None for axis in layout.grids[0].axes])
    lengths = np.where(wide, *arms(spreads, teacher_spreads, wide)[::-1])
    fixed = []
    for axis in range(len(spreads)):
        axes: list[Any] = [grid.axes[axis] for grid in layout.grids]
        if axes[0].step is None:
            fixed.append((min(one.order for one in axes), spreads[axis], teacher_spreads[axis], offset + lengths[axis]))
        else:
            steps = np.array([max(one.step for one in axes)])
            total += trapezoid_error(steps, spreads[axis], teacher_spreads[axis], size, lengths[axis])[0]
    if fixed:
        orders, own, others, offsets = np.array(fixed).T
        total += hermite_error(orders, own, others, size, offsets).sum(axis=0)
    return total


def _blocks(nodes: np.ndarray, weights: np.ndarray, teacher: np.ndarray, frame: Frame, centre: np.ndarray,
            deviations: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    r"""Nodes (k, b), |q| (b,), w (n, b) and U (b,), with :math:`U=\sum_{l,a}w_lw^*_a\|\mu_l-m_a\|`, block by block.

    Nodes are the last axis: sums over the few means are then sums of rows. `teacher` (m, N) are the teacher's weights at the nodes.
    """
    apart = np.linalg.norm((centre + deviations)[:, None] - frame.means, axis=-1)
    squares = (deviations**2).sum(axis=1)[:, None] / 2
    size = max(_FEWEST, _BLOCK // len(deviations))
    for first in range(0, len(nodes), size):
        block = slice(first, first + size)
        x = np.ascontiguousarray(nodes[block].T)
        w = softmax((deviations @ (x - centre[:, None]) - squares).T, frame.weights).T
        yield x, np.abs(weights[block]), w, ((apart.T @ w) * teacher[:, block]).sum(axis=0)


def pair_majorants(nodes: np.ndarray, weights: np.ndarray, teacher: np.ndarray, frame: Frame, centre: np.ndarray,
                   deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""A :math:`=2E[w_iU]` and :math:`E[w_i]`, (n,) each, for a mixture teacher: all that rows with two factors need."""
    two, shares = np.zeros((2, len(deviations)))
    for _, q, w, u in _blocks(nodes, weights, teacher, frame, centre, deviations):
        two += 2 * (w @ (q * u))
        shares += w @ q
    return two, shares


def mixture_majorants(nodes: np.ndarray, weights: np.ndarray, teacher: np.ndarray, frame: Frame, centre: np.ndarray,
                      deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray]:
    r"""A, B, C (n,), :math:`E\,U^2` and slopes for a mixture teacher, with :math:`U=\sum_{l,a}w_lw^*_a\|\mu_l-m_a\|`.

    The kernel's majorants take the target as it is at real nodes, :math:`\sum_lw_l\|\mu_l-t\|`, which is smaller: off the real axis
    the teacher's weights have phases of their own, and only the double sum bounds D. The slopes (n + 1,) are
    :math:`2E[w_i(1+V_i\|x-\mu_i\|)]` and, of the loss, :math:`2E\,U`: what a row and the loss change by per unit of D. `teacher` (m, N)
    are the teacher's weights at the nodes.
    """
    n, params = len(deviations), centre + deviations
    between = np.linalg.norm(deviations[:, None] - deviations, axis=-1)
    two, three, moment, slopes = np.zeros((4, n))
    square = slope = 0.0
    for x, q, w, u in _blocks(nodes, weights, teacher, frame, centre, deviations):
        arm = np.sqrt(sum((row - params[:, axis, None]) ** 2 for axis, row in enumerate(x)))
        wide = w * (between @ w)
        long = wide * arm
        two += w @ (q * u)
        three += long @ (q * u)
        moment += wide @ (q * u)
        square += float(q @ u**2)
        slopes += w @ q + long @ q
        slope += float(q @ u)
    return 2 * two, 2 * three, 2 * moment, square, 2 * np.append(slopes, slope)


def truncation(layout: Layout, params: np.ndarray, deviations: np.ndarray, frame: Frame, **facts: Any) -> tuple[np.ndarray, float]:
    """Bound on what a layout of grids leaves out of each gradient row (n,) and of the loss, at means `params` (n, k).

    `deviations` are the means less a centre; `frame` gives weights and teacher, `facts` go to the integrands. The envelopes are found
    anew at `params`, from those of the layout.
    """
    rows, loss = np.zeros(len(params)), 0.0
    wide = [axis for axis, one in enumerate(layout.grids[0].axes) if one.step is not None]
    if not wide:
        return rows, loss
    starts = layout.modes or (None,) * len(frame.means)
    for grid, integrand, start in zip(layout.grids, frame.integrands_at(params, deviations, **facts), starts, strict=True):
        modes = integrand.modes(start)
        steps = np.array([axis.step or 0.0 for axis in grid.axes])
        for axis in wide:
            nodes = grid.axes[axis].nodes
            for side, end in ((-1, nodes[0]), (1, nodes[-1])):
                more, most = integrand.left_out(axis, side, np.array([integrand.component[axis] + end]), modes, steps)
                rows, loss = rows + more[0], loss + float(most[0])
    return rows, loss


def tight_scales(grid: Grid, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    r"""(n + 2,) scales of deviation rows, mean row and loss where all logits are small; inf where they are not.

    One Gaussian at 0, equal weights, centre c, :math:`\delta=\max\|\delta_i\|`, :math:`y=x-c`. While every logit is within 1/4 the
    kernel forms :math:`w_i-\frac1n` from expm1, of size at most :math:`3.1\,\delta(\|y\|+\frac\delta2)/n`, and D from it: at most
    :math:`\tilde D=\|c\|+\|\bar\delta\|+3.1\,\delta^2(\|y\|+\frac\delta2)`. A row is then at most
    :math:`\frac{2\delta}n\tilde D\,(6.4\|y\|+8.2\,\delta)`, their mean :math:`\frac2n\tilde D\,(1+3.3\,\delta^2)`. Near the target these
    fall like the cube and the square of the deviations, as rows and root of the loss do. A logit's rounding counts against
    :math:`\delta\|y\|` itself here, and not against 1, which is the last factor.
    """
    n, k = deviations.shape
    longest, distance = float(np.linalg.norm(deviations, axis=1).max()), float(np.linalg.norm(centre))
    reach = float(np.linalg.norm([np.abs(axis.nodes).max() for axis in grid.axes]))
    if not longest * (reach + distance) + longest**2 / 2 < 0.25:
        return np.full(n + 2, np.inf)
    sums = np.array([axis.weights.sum() for axis in grid.axes])
    mass = float(sums.prod())
    second = mass * float(sum((axis.weights @ axis.nodes**2) / total for axis, total in zip(grid.axes, sums, strict=True)))
    second = 2 * second + 2 * mass * distance**2  # of y
    first = np.sqrt(mass * second)
    apart = distance + float(np.linalg.norm(deviations.mean(axis=0)))
    rise = 3.1 * longest**2  # of D~ with |y|
    row = 2 * longest / n * (apart * (6.4 * first + 8.2 * longest * mass)
                             + rise * (6.4 * second + 11.4 * longest * first + 4.1 * longest**2 * mass))
    mean = 2 / n * (apart * mass + rise * (first + longest / 2 * mass)) * (1 + 3.3 * longest**2)
    loss = 2 * apart**2 * mass + 2 * rise**2 * (2 * second + longest**2 / 2 * mass)
    found: np.ndarray = np.concatenate([np.full(n, row), [mean, loss]]) * (1 + (k + 2) / 4)
    return found


def logit_range(centre: np.ndarray, deviations: np.ndarray, radius: float) -> float:
    r"""Largest size of a logit :math:`\langle x-c,\delta_i\rangle-\|\delta_i\|^2/2` over nodes within `radius` of the origin."""
    with np.errstate(over="ignore"):
        longest = np.linalg.norm(deviations, axis=1).max()
        return float(longest * (radius + np.linalg.norm(centre)) + longest**2 / 2)


def rounding(demand: Demand, nodes: int, centre: np.ndarray, deviations: np.ndarray, radius: float,
             teacher: np.ndarray | None = None, extent: float = 0.0, reduced: bool = False) -> np.ndarray:
    r"""(q,) bound on rounding, in units of :math:`\varepsilon` times the scales:

    .. math:: N/64+24+6(k+2)\Lambda+4(k+2)\Lambda^*+\rho\,(6+12\Lambda+4\Lambda^*).

    Sums run over slabs of 64 nodes; logits of size up to :math:`\Lambda` are wrong by at most :math:`(k+2)\varepsilon\Lambda`, and up
    to three weights, each a quotient of such exponentials, make a term. The weights of a mixture `teacher`, (m, k) means with nodes
    within `extent` of one of them, have logits up to :math:`\Lambda^*`, and the loss two of them. Where the space was `reduced`,
    differences lost at most :math:`\rho\varepsilon` of their length, :math:`\rho` being 12 times the root of their number; those of a
    mixture are taken from its first mean, and D may be off by :math:`4\rho\varepsilon` times the farthest of the others as well.
    """
    epsilon, k = np.finfo(np.float64).eps, deviations.shape[1]
    logit = logit_range(centre, deviations, radius)
    several = teacher is not None and len(teacher) > 1
    apart = np.linalg.norm(teacher[:, None] - teacher, axis=-1).max() if teacher is not None and several else 0.0
    target = apart * (extent + apart / 2)  # logits are taken from the component nearest to a node
    factor = nodes / 64 + 24 + 6 * (k + 2) * logit + 4 * (k + 2) * target
    if not reduced:
        found: np.ndarray = epsilon * factor * demand.scales
        return found
    lost = DROPPED * np.sqrt(len(deviations) + (len(teacher) - 1 if teacher is not None and several else 0))
    plain = demand.scales if demand.plain is None else demand.plain
    off = epsilon * (factor * demand.scales + lost * (6 + 12 * logit + 4 * target) * plain)
    found = off + epsilon * 4 * lost * apart * demand.slopes if several else off
    return found
