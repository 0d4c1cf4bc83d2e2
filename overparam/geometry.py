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

__all__ = ["Integrand", "align", "reduce_state"]

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
class Integrand:
    r"""The functions :math:`\varphi(x-m)\,w_i(x)` for one teacher component, and Gaussian envelopes of them.

    Parameters
    ----------
    params, deviations, weights : (n, k), (n, k) and (n,) arrays
        Student: its means, their differences from any common centre (exact where the means themselves are rounded), its weights.
    component : (k,) array
        The teacher mean m.
    share : float
        The component's weight.
    distances : (n,) array
        :math:`\omega_l`, largest distance of :math:`\mu_l` from any teacher mean.
    """

    params: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    component: np.ndarray
    share: float
    distances: np.ndarray

    def slopes(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        r""":math:`F_i=\ln w_i-\|x-m\|^2/2` at points y (..., n, k), row i at its own: value, gradient, w, and offsets for the Hessian."""
        tilt = self.deviations - self.deviations.mean(axis=0)
        offset = -np.einsum("nk,nk->n", tilt, self.params + self.params.mean(axis=0)) / 2
        log_w = log_softmax(y @ tilt.T + offset, self.weights)
        w = np.exp(log_w)
        off = tilt - (w @ tilt)[..., None, :]
        own = np.arange(len(self.params))
        value = log_w[..., own, own] - ((y - self.component) ** 2).sum(axis=-1) / 2
        return value, self.component - y + off[..., own, own, :], w, off

    def envelopes(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Centres (..., n, k) and log peaks (..., n) of Gaussians of unit width that lie above.

        F is strongly concave with constant 1: with gradient g at *any* y it lies below
        :math:`F(y)+\|g\|^2/2-\|x-(y+g)\|^2/2`.
        """
        value, gradient, _, _ = self.slopes(y)
        return y + gradient, value + (gradient**2).sum(axis=-1) / 2

    def modes(self, start: np.ndarray | None = None) -> np.ndarray:
        """(n, k) points within 0.1 or so of the modes, by damped Newton steps from `start` or from the component's mean.

        They need not be exact: the envelope there costs less than 0.5 % of the peak.
        """
        n, k = self.params.shape
        x = np.repeat(self.component[None], n, axis=0) if start is None else start
        best, gradient, w, off = self.slopes(x)
        for _ in range(100):
            if (gradient**2).sum(axis=1).max() < 0.01:
                break
            hessian = np.eye(k) + np.einsum("bn,bnk,bnl->bkl", w, off, off)
            step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            gain = 1e-4 * np.einsum("nk,nk->n", gradient, step)  # Armijo's: a tie is no progress, and two of them a cycle
            size = np.ones((n, 1))
            trial = self.slopes(x + step)[0]
            short = trial < best + gain
            while short.any() and size[short].min() > 1e-12:
                size[short] /= 4
                trial = self.slopes(x + size * step)[0]
                short = trial < best + size[:, 0] * gain
            size[short] = 0.0  # rounding decides: stay
            if not size.any():
                break
            x = x + size * step
            best, gradient, w, off = self.slopes(x)
        return x

    def left_out(self, axis: int, side: int, edges: np.ndarray, modes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Bound on what lies beyond each of `edges` (E,) on one side of an axis: of each row (E, n), of the loss (E,).

        Beyond an edge at distance :math:`L_i` from the envelope of :math:`\varphi w_i` at most :math:`G_i=e^{p_i}Q(L_i)` of its mass
        is left, Q the normal tail, and at most :math:`G_i(\|x_i^*-\mu_j\|+L_i+\sqrt k+1)` of its integral against
        :math:`\|x-\mu_j\|`. Products of weights are bounded by either factor, so row i loses at most
        :math:`2\sum_l\omega_l\min\{G_i[1+P_i(\|x_i^*-\mu_i\|+L_i+\sqrt k+1)],\,G_l[1+P_i(\|x_l^*-\mu_i\|+L_l+\sqrt k+1)]\}`,
        :math:`P_i=\max_j\|\mu_i-\mu_j\|`. Of the envelopes at the mode and at the mode moved to the edge the one that leaves less
        is taken. A lattice sum beyond its last node is at most the integral beyond it, since the envelope falls.

        Parameters
        ----------
        axis, side : int
            Axis, and -1 for its low end or +1 for its high end.
        modes : (n, k) array
        """
        from scipy.special import log_ndtr

        n, k = self.params.shape
        points = np.repeat(modes[None], 2 * len(edges), axis=0)
        points[len(edges):, :, axis] = edges[:, None]
        centres, peaks = self.envelopes(points)
        lengths = np.maximum(side * (np.tile(edges, 2)[:, None] - centres[:, :, axis]), 0.0)
        with np.errstate(under="ignore", over="ignore"):
            tails = self.share * np.exp(peaks + log_ndtr(-lengths) + np.where(lengths > 0, 0.0, np.log(2.0)))
        better = tails[len(edges):] < tails[:len(edges)]
        tails, lengths = (np.where(better, part[len(edges):], part[:len(edges)]) for part in (tails, lengths))
        centres = np.where(better[:, :, None], centres[len(edges):], centres[:len(edges)])
        widest = np.linalg.norm(self.deviations[:, None] - self.deviations, axis=-1).max(axis=1) if n <= 256 \
            else np.full(n, 2 * np.linalg.norm(self.deviations - self.deviations.mean(axis=0), axis=1).max())
        arms = np.linalg.norm(self.params[:, None] - centres[:, None], axis=-1) + np.sqrt(k) + 1  # (E, i, l)
        weighted = tails[:, None, :] * (1 + widest[:, None] * (arms + lengths[:, None, :]))
        own = weighted[:, np.arange(n), np.arange(n)]
        shared = np.minimum(tails[:, :, None], tails[:, None, :]) @ self.distances
        return 2 * np.minimum(own[:, :, None], weighted) @ self.distances, shared @ self.distances

    def reach(self, axis: int, side: int, modes: np.ndarray, targets: np.ndarray, loss_target: float) -> tuple[float, np.ndarray, float]:
        """Where a grid may end on one side of an axis: (edge, what is left out of each row, what is left out of the loss).

        `targets` (n,) and `loss_target` are what may be left out; `modes` is what :meth:`modes` found.
        """
        outermost = (side * modes[:, axis]).max()
        edges = side * (outermost + np.arange(2.0, 16.0, 0.25))
        chunk = max(1, 100_000 // len(self.params) ** 2)
        for first in range(0, len(edges), chunk):
            rows, losses = self.left_out(axis, side, edges[first:first + chunk], modes)
            enough = (rows <= targets).all(axis=1) & (losses <= loss_target)
            if enough.any():
                break
        index = int(enough.argmax()) if enough.any() else len(enough) - 1
        return float(edges[first + index]), rows[index], float(losses[index])
