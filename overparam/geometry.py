r"""Where a softmax integrand lives: reduced space, axes, modes and reach.

For identity covariances the responsibilities depend on x only through the span of the differences of the means, and given
that projection a Gaussian x is linear in the rest; so expectations need only the axes of that span, and the dynamics never
leave the affine span of student and teacher means.

Under a teacher component :math:`N(m, I)` the function :math:`\varphi(x-m)\,w_i(x)` is log-concave with Hessian
:math:`-(I+C(x))`, :math:`C` the posterior covariance. Its mode solves :math:`x + v(x) = m + \mu_i`, and away from the mode it
falls at least like :math:`e^{-\|x-x^*\|^2/2}`. That bounds what a grid leaves out, far means and unequal weights included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overparam._softmax import log_softmax
from overparam.state import State

__all__ = ["Modes", "align", "find_modes", "left_out", "reach", "reduce_state"]

_NEUTRAL = 1e-13  # a spread below this multiple of the widest one is rounding of the rotation, not an axis


def reduce_state(state: State, teacher_means: np.ndarray) -> State:
    """Return `state` with origin at the first teacher mean and, where it is smaller, in a basis of the invariant span.

    The basis is found once from differences, every row scaled to length 1 before the SVD: directions 1e-7 apart are as
    exact as those of order one.
    """
    origin = teacher_means[0]
    if state.basis is not None:
        return _rebase(state, teacher_means)
    shift = origin if state.origin is None else origin - state.origin
    centre = state.centre - shift
    rows = [state.deviations[1:] - state.deviations[0], (centre + state.deviations[0])[None], teacher_means[1:] - origin]
    differences = np.concatenate(rows)
    if state.d <= differences.shape[0]:
        return State(centre=centre, deviations=state.deviations, origin=origin)
    basis = _span(differences)
    return State(centre=(centre + state.deviations[0]) @ basis, deviations=(state.deviations - state.deviations[0]) @ basis,
                 basis=basis, origin=origin)


def _span(rows: np.ndarray) -> np.ndarray:
    """(d, k) orthonormal basis of the span of `rows`, k >= 1."""
    peaks = np.abs(rows).max(axis=1)
    kept = rows[peaks > 0] / peaks[peaks > 0, None]
    if kept.size == 0:
        return np.eye(rows.shape[1], 1)
    kept = kept / np.linalg.norm(kept, axis=1)[:, None]
    _, sizes, axes = np.linalg.svd(kept, full_matrices=False)
    return np.ascontiguousarray(axes[sizes > _NEUTRAL * sizes[0]].T)


def _rebase(state: State, teacher_means: np.ndarray) -> State:
    """A state that brings its own basis: move the origin, add axes only where the teacher leaves the span."""
    basis, origin = state.basis, np.zeros(state.d) if state.origin is None else state.origin
    offsets = np.concatenate([(origin - teacher_means[0])[None], teacher_means[1:] - teacher_means[0]])
    inside = offsets @ basis
    outside = offsets - inside @ basis.T
    loose = np.linalg.norm(outside, axis=1) > 1e-13 * np.maximum(np.linalg.norm(offsets, axis=1), 1e-300)
    centre, deviations = state.centre, state.deviations
    if loose.any():
        extra = _span(outside[loose])
        basis = np.ascontiguousarray(np.concatenate([basis, extra], axis=1))
        pad = np.zeros((state.n, extra.shape[1]))
        centre, deviations = np.concatenate([centre, pad[0]]), np.concatenate([deviations, pad], axis=1)
    return State(centre=centre + offsets[0] @ basis, deviations=deviations, basis=basis, origin=teacher_means[0])


def align(deviations: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """(k, k) orthonormal axes, widest first, for the differences of `deviations` (n, k) and of `teacher` (m, k).

    The coordinate axes themselves (permuted) are kept unless principal axes make the box clearly smaller: a permutation
    rounds nothing.
    """
    k = deviations.shape[1]
    centred = deviations - deviations.mean(axis=0)
    if teacher.shape[0] > 1:
        centred = np.concatenate([centred, teacher - teacher.mean(axis=0)])
    spreads = np.maximum(np.ptp(deviations, axis=0), np.ptp(teacher, axis=0))
    order = np.argsort(-spreads, kind="stable")
    plain = np.eye(k)[:, order]
    if k == 1 or spreads.max() == 0:
        return plain
    axes = np.linalg.svd(centred / np.abs(centred).max())[2].T
    turned = np.maximum(np.ptp(deviations @ axes, axis=0), np.ptp(teacher @ axes, axis=0))
    order = np.argsort(-turned, kind="stable")
    small = max(0.05, 1e-3 * spreads.max()) if spreads.max() > 0.05 else _NEUTRAL * spreads.max()
    cost = [np.log(np.maximum(s, small)).sum() for s in (spreads, turned)]
    return plain if cost[0] <= cost[1] + 0.1 else np.ascontiguousarray(axes[:, order])


@dataclass(frozen=True, eq=False)
class Modes:
    r"""Gaussian envelopes of :math:`\varphi(x-m)\,w_i(x)` for one teacher component.

    Attributes
    ----------
    points : (n, k) array
        Centres of the envelopes.
    log_peaks : (n,) array
        Logarithm of :math:`e^{-\|x-m\|^2/2}w_i(x)` at its largest, or slightly more: the function lies below
        :math:`e^{p_i-\|x-x_i\|^2/2}` everywhere.
    """

    points: np.ndarray
    log_peaks: np.ndarray


def find_modes(params: np.ndarray, weights: np.ndarray, component: np.ndarray, start: np.ndarray | None = None) -> Modes:
    r"""Envelopes from a few steps of Newton's method on the concave :math:`F_i = \ln\varphi(x-m)w_i(x)`, all i at once.

    The steps need not converge: because F is strongly concave with constant 1, at any point y with gradient g it lies below
    :math:`F(y)+\|g\|^2/2-\|x-(y+g)\|^2/2`. They stop where that costs less than 0.5 % of the peak.

    Parameters
    ----------
    params : (n, k) array
    weights : (n,) array
    component : (k,) array
        The teacher mean m.
    start : (n, k) array, optional
        Where to begin, such as the points found for parameters nearby.
    """
    n, k = params.shape
    tilt = params - params.mean(axis=0)
    offset = -np.einsum("nk,nk->n", tilt, params + params.mean(axis=0)) / 2
    own = np.arange(n)

    def look(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_w = log_softmax(x @ tilt.T + offset, weights)
        return log_w[own, own] - ((x - component) ** 2).sum(axis=1) / 2, log_w

    def slope(x: np.ndarray, log_w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w = np.exp(log_w)
        off = tilt - (w @ tilt)[:, None, :]
        return component - x + off[own, own], w, off

    x = np.repeat(component[None], n, axis=0) if start is None else start
    best, log_w = look(x)
    gradient, w, off = slope(x, log_w)
    for _ in range(100):
        if (gradient**2).sum(axis=1).max() < 0.01:
            break
        hessian = np.eye(k) + np.einsum("bn,bnk,bnl->bkl", w, off, off)
        step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        gain = 1e-4 * np.einsum("nk,nk->n", gradient, step)  # Armijo's: a tie is no progress, and two of them a cycle
        size = np.ones((n, 1))
        trial, log_w = look(x + step)
        short = trial < best + gain
        while short.any() and size[short].min() > 1e-12:
            size[short] /= 4
            trial, log_w = look(x + size * step)
            short = trial < best + size[:, 0] * gain
        size[short] = 0.0  # rounding decides: stay
        x, (best, log_w) = x + size * step, look(x + size * step)
        gradient, w, off = slope(x, log_w)
        if not size.any():
            break
    return Modes(points=x + gradient, log_peaks=best + (gradient**2).sum(axis=1) / 2)


def left_out(axis: int, side: int, edges: np.ndarray, modes: Modes, params: np.ndarray, distances: np.ndarray,
             share: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound on what lies beyond each of `edges` (E,) on one side of an axis: of each row (E, n), of the loss (E,).

    Beyond an edge at distance :math:`L_i` from the envelope of :math:`\varphi w_i` at most :math:`G_i=e^{p_i}Q(L_i)` of its mass is
    left, Q the normal tail, and at most :math:`G_i(\|x_i^*-\mu_j\|+L_i+\sqrt k+1)` of its integral against
    :math:`\|x-\mu_j\|`. Products of weights are bounded by either factor, so row i loses at most
    :math:`2\sum_l\omega_l\min\{G_i[1+P_i(\|x_i^*-\mu_i\|+L_i+\sqrt k+1)],\,G_l[1+P_i(\|x_l^*-\mu_i\|+L_l+\sqrt k+1)]\}`, with
    :math:`P_i=\max_j\|\mu_i-\mu_j\|` and :math:`\omega_l` the largest distance of :math:`\mu_l` from a teacher mean. A lattice
    sum beyond its last node is at most the integral beyond it, since the envelope falls.

    Parameters
    ----------
    axis, side : int
        Axis, and -1 for its low end or +1 for its high end.
    modes, params, distances
        Envelopes (n), means (n, k) and :math:`\omega` (n,).
    share : float
        Weight of the teacher component.
    """
    from scipy.special import log_ndtr

    lengths = side * edges[:, None] - side * modes.points[:, axis]
    with np.errstate(under="ignore", over="ignore"):
        tails = share * np.exp(modes.log_peaks + log_ndtr(-lengths))
    n, k = params.shape
    widest = np.linalg.norm(params[:, None] - params, axis=-1).max(axis=1) if n <= 256 \
        else np.full(n, 2 * np.linalg.norm(params - params.mean(axis=0), axis=1).max())
    arms = np.linalg.norm(params[:, None] - modes.points, axis=-1) + np.sqrt(k) + 1  # (i, l)
    weighted = tails[:, None, :] * (1 + widest[:, None] * (arms + np.maximum(lengths, 0)[:, None, :]))
    own = weighted[:, np.arange(n), np.arange(n)]
    shared = np.minimum(tails[:, :, None], tails[:, None, :]) @ distances
    return 2 * np.minimum(own[:, :, None], weighted) @ distances, shared @ distances


def reach(axis: int, side: int, modes: Modes, params: np.ndarray, distances: np.ndarray, share: float,
          targets: np.ndarray, loss_target: float) -> tuple[float, np.ndarray, float]:
    """Where a grid may end on one side of an axis: (edge, what is left out of each row, what is left out of the loss).

    `targets` (n,) and `loss_target` are what may be left out; the other arguments are those of :func:`left_out`.
    """
    outermost = (side * modes.points[:, axis]).max()
    edges = side * (outermost + np.arange(4.0, 16.0, 0.25))
    chunk = max(1, 200_000 // len(params) ** 2)
    for first in range(0, len(edges), chunk):
        rows, losses = left_out(axis, side, edges[first:first + chunk], modes, params, distances, share)
        enough = (rows <= targets).all(axis=1) & (losses <= loss_target)
        if enough.any():
            break
    index = int(enough.argmax()) if enough.any() else len(enough) - 1
    return float(edges[first + index]), rows[index], float(losses[index])
