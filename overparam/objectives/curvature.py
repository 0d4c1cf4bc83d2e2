r"""The Hessian of score matching over nodes: sums, the error bound, and the grid that meets a tolerance.

With :math:`e_i=x-\mu_i`, :math:`m_i=\mu_i-v`, :math:`g_i=D+\langle m_i,D\rangle e_i`,

.. math:: H_{ij}=2\,\mathbb E\big[w_iw_j\{(I+e_im_i^\top)(I+m_je_j^\top)-g_ie_j^\top-e_ig_j^\top\}
          +\delta_{ij}w_i\{g_ie_i^\top+e_iD^\top-\langle m_i,D\rangle I\}\big].

It is quadratic in x off the span of the differences, where one node, the mean, would miss the variance: along such a direction the
block is :math:`I` times the *outside* sum :math:`2\,\mathbb E[w_iw_j(1+\langle m_i,m_j\rangle-\langle m_i+m_j,D\rangle)]`, and on an
axis of the frame that has one node the coefficient of :math:`e_ie_j^\top` is added. The derivation of all bounds is in docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import lgamma

import numpy as np

from overparam._softmax import posterior_mean, responsibilities
from overparam.certificate import Demand
from overparam.planning import TooHardError
from overparam.quadrature import NEUTRAL, Axis, Cloud, Frame, Grid, Layout, hermite_axis, trapezoid_axis

__all__ = ["Curvature", "refined", "sums"]

_BLOCK = 8192  # nodes written out at a time: 200 kB in rank 3
_WORK = 2e9  # multiplications in one call of the kernel, some seconds at most: Python looks at signals in between
_PAIRS = 64  # parameters up to which distances are taken pair by pair, as in the gradient's majorants
_WHOLE = 200  # reduced coordinates up to which the norm is taken of the whole Hessian
_SAFETY, _TRUST = 1.1, 0.03  # as in overparam.bounds
_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])
_CIRCLE = 2.5
_WIDEST_CIRCLE = 1e20  # a bound falls like its square at least; more would overflow
_ORDERS = np.arange(2, 49)  # up to 48 the moments of Peano's kernel were checked
_STEPS = np.geomspace(1.2, 0.005, 160)


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

    hessian: np.ndarray | None
    product: np.ndarray | None
    outside: np.ndarray | None
    error: float
    nodes: int


def blocks(layout: Layout, frame: Frame, most: int = _BLOCK) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Nodes (N, k), weights (N,) and targets (N, k) or (1, k) of a layout, `most` nodes at a time."""
    if layout.sampled:
        from overparam.objectives.quadrature_plan import Measure

        measure = Measure.of(layout, frame)
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
        return ~grid.nodes.any(axis=0)
    return np.array([axis.order == 1 for axis in grid.axes])


def sums(layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, direction: np.ndarray | None = None,
         outside: bool = True) -> Curvature:
    """The Hessian at ``centre + deviations`` in the frame, or its product with `direction` (n, k), over a layout's nodes.

    Without `outside` a product is not burdened with the (n, n) sums for directions off the basis.
    """
    from overparam._core.hessian import hessian

    n, k = deviations.shape
    flat = np.flatnonzero(flat_axes(layout))
    shapes = [(n * k, n * k) if direction is None else (n, k)]
    if direction is None or outside or flat.size:
        shapes += [(n, n), (n, n)]
    totals, parts = [np.zeros(shape) for shape in shapes], [np.empty(shape) for shape in shapes]
    with np.errstate(divide="ignore"):
        log_weights = np.log(frame.weights)
    centre, deviations = np.ascontiguousarray(centre), np.ascontiguousarray(deviations)
    direction = None if direction is None else np.ascontiguousarray(direction)
    most = int(np.clip(_WORK / ((k + 2) * n * k * (n * k if direction is None else n)), 64, _BLOCK))
    for nodes, weights, target in blocks(layout, frame, most):
        hessian(nodes, weights, target, centre, deviations, log_weights, direction, *(*parts, None, None)[:3])
        for whole, part in zip(totals, parts, strict=True):
            whole += part
    total, square, unit = totals if len(totals) == 3 else (*totals, None, None)
    whole_outside = None if square is None else square + unit
    if direction is not None:
        if flat.size:
            total[:, flat] += square @ direction[:, flat]
        return Curvature(None, total, whole_outside, np.nan, layout.size)
    total = total.reshape(n, k, n, k)
    total[:, flat, :, flat] += square
    return Curvature(total, None, whole_outside, np.nan, layout.size)


def _norm(layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> float:
    """Spectral norm of the Hessian within the frame, or (many coordinates) a lower bound from a few products."""
    size = deviations.size
    if size <= _WHOLE:
        return float(np.abs(np.linalg.eigvalsh(sums(layout, frame, centre, deviations).hessian.reshape(size, size))).max())
    vector = np.random.default_rng(0).standard_normal(deviations.shape)
    for _ in range(4):
        vector = vector / np.linalg.norm(vector)
        vector = sums(layout, frame, centre, deviations, vector, outside=False).product
    return float(np.linalg.norm(vector))


# --- the bound -----------------------------------------------------------------------------------------------------------


def _majorant(layout: Layout, frame: Frame) -> np.ndarray:
    r"""(3,) array M: the integrand's Frobenius norm, summed over blocks, is at most :math:`E[M_0+bM_1+b^2M_2]` times the strip factors.

    Here each :math:`\|e_i\|` may be larger by b; products of two of them are bounded by squares, which are smooth.
    """
    params, deviations, k = frame.params, frame.deviations, frame.params.shape[1]
    to_target = np.linalg.norm(params[:, None] - frame.means, axis=-1)
    apart = np.linalg.norm(deviations - deviations.mean(axis=0), axis=1)
    pairs = np.linalg.norm(deviations[:, None] - deviations, axis=-1) if len(params) <= _PAIRS else None
    root, missing, total = np.sqrt(k), flat_axes(layout).sum(), np.zeros(3)
    middle = params.mean(axis=0)
    for nodes, q, _ in blocks(layout, frame):
        w = responsibilities(nodes - middle, params - middle, frame.weights)
        teacher = np.ones((len(nodes), 1)) if len(frame.means) == 1 else responsibilities(nodes, frame.means, frame.teacher_weights)
        U = ((w @ to_target) * teacher).sum(axis=1)
        V = w @ pairs if pairs is not None else (w @ apart)[:, None] + apart
        e2 = ((nodes**2).sum(axis=1)[:, None] - 2 * nodes @ params.T + (params**2).sum(axis=1)).clip(min=0) + missing
        wV, we = (w * V).sum(axis=1), (w * e2).sum(axis=1)
        wVe = (w * V * e2).sum(axis=1)
        one = wV + wVe + 2 * U * (1 + we)
        two = 2 * wV * wVe + 2 * U * (wVe + wV * we) + 2 * U * wVe
        off = wV**2 + 2 * U * wV
        total += 2 * np.array([q @ (root * (1 + U * wV) + one + two + off), q @ (2 * wV + 4 * U), q @ (2 * wV**2 + 6 * U * wV)])
    return total


def _strip_error(steps: np.ndarray, spread: float, teacher_spread: float, M: np.ndarray) -> np.ndarray:
    r"""Bound for trapezoid axes of `steps` (S,).

    .. math:: \min_a\frac{2e^{a^2/2}}{e^{2\pi a/h}-1}(M_0+aM_1+a^2M_2)\cos^{-4}\frac{as}2\cos^{-1}\frac{as^*}2
    """
    steps = np.asarray(steps, dtype=np.float64)[:, None]
    a = np.minimum(1.2 * 2 * np.pi / steps, np.pi / max(spread, teacher_spread, 1e-300)) * _FRACTIONS
    turns = 2 * np.pi * a / steps
    front = np.log(2 * _SAFETY) + a * a / 2 - turns - np.log(-np.expm1(-turns))
    front -= 4 * np.log(np.cos(a * spread / 2)) + np.log(np.cos(a * teacher_spread / 2))
    return _trusted(front, M[0] + a * M[1] + a * a * M[2], a * a, M)


def _circle_error(orders: np.ndarray, spread: float, teacher_spread: float, M: np.ndarray, offset: float) -> np.ndarray:
    r"""Bound for Gauss–Hermite axes of `orders` (S,), with :math:`\tau=4s+s^*` and :math:`c=a+r`, r the offset.

    .. math:: \min_a\frac{2\,m!}{a^{2m}}e^{\tau(a+1)+\tau^2/2}\Big[M_0+(c+1+\frac{\tau^2}2)M_1+2(c^2+1+\tau^2)M_2\Big]
    """
    orders = np.asarray(orders)
    factorials = np.array([lgamma(order + 1) for order in orders])[:, None]
    a = min(_CIRCLE / max(spread, teacher_spread, 1e-300), _WIDEST_CIRCLE) * np.geomspace(0.01, 1.0, 40)
    rate, c = 4 * spread + teacher_spread, a + offset
    front = np.log(2 * _SAFETY) + factorials - 2 * orders[:, None] * np.log(a) + rate * (a + 1) + rate**2 / 2
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


def _tail(edge: np.ndarray, k: int, widest: float, far: float) -> np.ndarray:
    r"""Bound on what lies beyond `edge` standard deviations on one side of an axis, for the Hessian's norm.

    Pointwise the integrand is at most :math:`\alpha+\beta\max_i\|e_i\|^2` with all :math:`V_i\le P`, :math:`U\le\omega`, and
    :math:`\|e_i\|^2\le2\|z\|^2+2\omega^2`.
    """
    from scipy.special import ndtr

    linear, square = 2 * widest + 4 * far, widest**2 + 3 * widest * far
    constant = 2 * (np.sqrt(k) * (1 + widest * far) + widest**2 + 2 * widest * far + linear / 2)
    slope = linear + 2 * square
    mass, density = ndtr(-edge), np.exp(-edge**2 / 2) / np.sqrt(2 * np.pi)
    return _SAFETY * ((constant + 2 * slope * far**2) * mass + 2 * slope * (k * mass + edge * density))


# --- the grid ------------------------------------------------------------------------------------------------------------


def refined(layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, tol: float,
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
        norm, M = _norm(found, frame, centre, deviations), _majorant(found, frame)
        target = max(tol * norm, Demand.LEVEL * M[0])
        if found is not layout:
            error = _error(found, frame, live, M)
            if error <= target:
                return found, error
        grids = _design(layout, frame, live, M, target)
        size = sum(grid.size for grid in grids)
        if size > max_nodes:
            raise TooHardError(f"the Hessian to tol={tol:g} needs {size:.3g} nodes, more than max_nodes={max_nodes}: the "
                               f"{len(frame.params)} means differ along {live.size} axes. Raise max_nodes or tol, or use a sampling rule "
                               "(op.Sobol, op.MonteCarlo)")
        found = replace(layout, grids=grids)
    raise TooHardError(f"the Hessian cannot be certified to tol={tol:g}: it is too small against its integrand. Raise tol")


def _design(layout: Layout, frame: Frame, live: np.ndarray, M: np.ndarray, target: float) -> tuple[Grid, ...]:
    share = 0.5 * target / live.size
    edges = np.arange(3.0, 40.0, 0.25)
    tails = _tail(edges, frame.params.shape[1], *_extent(frame))
    enough = tails <= 0.3 * target / (2 * live.size * len(frame.means))
    plain = float(edges[enough.argmax()])  # at 40 a tail is exp(-800): there is always one
    rules: dict[int, int | float] = {}
    for axis in live:
        spread, teacher_spread = float(frame.spreads[axis]), float(frame.teacher_spreads[axis])
        good = _strip_error(_STEPS, spread, teacher_spread, M) <= share
        rules[axis] = float(_STEPS[good.argmax() if good.any() else -1])
        if max(spread, teacher_spread) < 1.5:
            good = _circle_error(_ORDERS, spread, teacher_spread, M, frame.offset) <= share
            order = int(_ORDERS[good.argmax()])
            if good.any() and order <= 2 * plain / rules[axis]:
                rules[axis] = order
    return tuple(Grid(tuple(_axis(rules.get(axis), old, plain) for axis, old in enumerate(grid.axes))) for grid in layout.grids)


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


def _error(layout: Layout, frame: Frame, live: np.ndarray, M: np.ndarray) -> float:
    """Bound on the error of a designed layout: axes, and both sides of every trapezoid axis for each teacher component."""
    total, k = 0.0, frame.params.shape[1]
    for axis in live:
        spread, teacher_spread = float(frame.spreads[axis]), float(frame.teacher_spreads[axis])
        first = layout.grids[0].axes[axis]
        if first.step is None:
            total += float(_circle_error([first.order], spread, teacher_spread, M, frame.offset)[0])
            continue
        total += float(_strip_error([first.step], spread, teacher_spread, M)[0])
        for grid, share in zip(layout.grids, frame.teacher_weights, strict=True):
            ends = np.abs([grid.axes[axis].nodes[0], grid.axes[axis].nodes[-1]])
            total += share * float(_tail(ends, k, *_extent(frame)).sum())
    return total
