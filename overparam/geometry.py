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
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._softmax import log_softmax
from overparam.state import State

if TYPE_CHECKING:
    from overparam._core.envelopes import Envelopes

__all__ = ["DROPPED", "Integrand", "align", "reduce_state"]

_NEUTRAL = 1e-13  # a spread below this multiple of the widest one is rounding of the rotation, not an axis
_ALIEN = 8 * np.finfo(np.float64).eps  # singular values below this, times the root of the number of rows, are rounding and dropped
_FAINTEST = 1e-3  # a row counts for less the more its coordinates' own rounding is of it, down to this
_FLAT = 0.01  # squared gradient of F that will do for a mode
_COMPILED = 100_000  # n n k up to which envelopes are found by compiled loops; BLAS is faster above
_PAIRS = 256  # means up to which all pairs are looked at
DROPPED = 12.0  # what is dropped of a difference, in units of eps times its length times the root of the number of rows


def reduce_state(state: State, teacher_means: np.ndarray) -> State:
    """Return `state` with origin at the first teacher mean and, where it is smaller, in a basis of the invariant span.

    The basis is found once from differences, every row scaled to length 1 before the SVD: directions 1e-7 apart are as
    exact as those of order one. They are taken from the mean nearest to the teacher's, so that what a mean near the teacher loses in
    the reduction is small against its own distance, however far the others are.
    """
    origin = teacher_means[0]
    if state.basis is not None:
        return _rebase(state, teacher_means)
    shift = origin if state.origin is None else origin - state.origin
    centre = state.centre - shift
    first = int(np.linalg.norm(centre + state.deviations, axis=1).argmin())
    deviations, middle = state.deviations - state.deviations[first], centre + state.deviations[first]
    differences = np.concatenate([np.delete(deviations, first, axis=0), middle[None], teacher_means[1:] - origin])
    if state.d <= differences.shape[0]:
        return State(centre=centre, deviations=state.deviations, origin=origin)
    own, means = np.linalg.norm(state.deviations, axis=1), np.linalg.norm(teacher_means, axis=1)
    start = np.linalg.norm(state.centre) + np.linalg.norm(shift) + own[first]
    basis = _span(differences, np.concatenate([np.delete(own, first) + own[first], [start], means[1:] + means[0]]))
    return State(centre=middle @ basis, deviations=deviations @ basis, basis=basis, origin=origin)


def _span(rows: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """(d, k) orthonormal basis of the span of `rows`, k >= 1, that are differences of `coordinates` of these lengths.

    A row is known to the rounding of its coordinates: what it has outside the span of the others counts only above that.
    """
    peaks = np.abs(rows).max(axis=1)
    kept = rows[peaks > 0] / peaks[peaks > 0, None]
    if kept.size == 0:
        return np.eye(rows.shape[1], 1)
    norms = np.linalg.norm(kept, axis=1)
    known = _known(norms * peaks[peaks > 0], coordinates[peaks > 0])
    _, sizes, axes = np.linalg.svd(kept * (_ALIEN / known / norms)[:, None], full_matrices=False)
    return np.ascontiguousarray(axes[sizes > _ALIEN * np.sqrt(len(kept))].T)


def _known(lengths: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Part of differences of these lengths that is rounding: of themselves, or of their coordinates."""
    own = np.finfo(np.float64).eps * coordinates / np.maximum(lengths, 1e-300)
    found: np.ndarray = np.clip(own, _ALIEN, _ALIEN / _FAINTEST)
    return found


def _rebase(state: State, teacher_means: np.ndarray) -> State:
    """A state that brings its own basis: move the origin, add axes only where the teacher leaves the span."""
    basis: Any = state.basis
    origin = np.zeros(state.d) if state.origin is None else state.origin
    offsets = np.concatenate([(origin - teacher_means[0])[None], teacher_means[1:] - teacher_means[0]])
    inside = offsets @ basis
    outside = offsets - inside @ basis.T
    outside -= (outside @ basis) @ basis.T  # the first difference is orthogonal only to the rounding of `offsets`
    lengths, means = np.linalg.norm(offsets, axis=1), np.linalg.norm(teacher_means, axis=1)
    coordinates = means[0] + np.append(np.linalg.norm(origin), means[1:])
    loose = np.linalg.norm(outside, axis=1) > _known(lengths, coordinates) * np.maximum(lengths, 1e-300)
    centre, deviations = state.centre, state.deviations
    if loose.any():
        extra = _span(outside[loose], coordinates[loose])
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
    small = max(0.05, 1e-3 * spreads.max()) if spreads.max() > 0.05 else max(_NEUTRAL * spreads.max(), 5e-324)
    cost = [np.log(np.maximum(s, small)).sum() for s in (spreads, turned)]
    return plain if cost[0] <= cost[1] + 0.1 else np.ascontiguousarray(axes[:, order])


def _full_lattices(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Bounds on sums over full lattices of :math:`\varphi` and of :math:`z^2\varphi`, wherever they lie, for `steps` (k,).

    Poisson's sum gives :math:`1+2\sum_je^{-yj^2}` and :math:`1+2\sum_j(1+2yj^2)e^{-yj^2}`, :math:`y=2\pi^2/h^2`; a function with one
    peak (two) is summed to its integral and h times the peak (twice) at most. An axis without a lattice has a Gauss–Hermite rule of
    any order, which sums :math:`\varphi` to 1 at most and :math:`z^2\varphi` to e.
    """
    y = 2 * np.pi**2 / np.maximum(steps, 0.1) ** 2
    one, two = 2 * np.exp(-y) / -np.expm1(-y), 2.02 * (1 + 2 * y) * np.exp(-y)
    peak, peaks = steps / np.sqrt(2 * np.pi), 4 * steps / (np.e * np.sqrt(2 * np.pi))
    masses = 1 + np.minimum(one, peak)
    squares = 1 + np.where(steps <= 3, np.minimum(two, peaks), peaks)
    return np.where(steps > 0, masses, 1.0), np.where(steps > 0, squares, np.e)


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
    teacher : tuple, optional
        Means (m, k) and weights (m,) of the whole teacher.
    """

    params: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    component: np.ndarray
    share: float
    distances: np.ndarray
    teacher: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def widest(self) -> np.ndarray:
        """(n,) largest distance of each mean from another, or a little more."""
        if len(self.params) <= _PAIRS:
            found: np.ndarray = np.linalg.norm(self.deviations[:, None] - self.deviations, axis=-1).max(axis=1)
            return found
        return np.full(len(self.params), 2 * np.linalg.norm(self.deviations - self.deviations.mean(axis=0), axis=1).max())

    @cached_property
    def compiled(self) -> Envelopes | None:
        """The same functions in compiled loops, where there are few means; None where there are many, or the functions are others."""
        n, k = self.params.shape
        if n * n * k > _COMPILED or type(self).slopes is not Integrand.slopes:
            return None
        from overparam._core.envelopes import Envelopes

        arrays: Any = (np.ascontiguousarray(array) for array in (self.params, self.deviations, self.weights, self.component))
        params, deviations, weights, component = arrays
        return Envelopes(params, deviations, weights, component, self.share, np.ascontiguousarray(self.distances), self.widest)

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
        x = np.repeat(self.component[None], n, axis=0) if start is None else np.ascontiguousarray(start)
        if self.compiled is not None and self.compiled.steepest(x) < _FLAT:
            return x
        best, gradient, w, off = self.slopes(x)
        for _ in range(100):
            if (gradient**2).sum(axis=1).max() < _FLAT:
                break
            hessian = np.eye(k) + np.einsum("bn,bnk,bnl->bkl", w, off, off)
            try:
                step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
            except np.linalg.LinAlgError:  # beside means that are 1e8 apart the identity is rounded away
                break
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

    def beyond(self, axis: int, side: int, edges: np.ndarray, modes: np.ndarray,
               steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""What lies beyond each of `edges` (E,) on one side of an axis: G (E, n), H (E, n), and whose envelopes' centres (E, n, k).

        Beyond an edge at distance :math:`L_i` (negative where the edge comes first) from the envelope of :math:`\varphi w_i` a lattice
        of step h sums it to at most :math:`G_i=e^{p_i}T_0\Theta` and its product with the distance along the axis to
        :math:`H_i=e^{p_i}T_1\Theta`,

        .. math:: T_0=Q(L)+h\varphi(0)[L<0],\qquad T_1=\begin{cases}\varphi(L)+h\varphi(1)[L<1]&L\ge0\\
                  2\varphi(0)-\varphi(L)+2h\varphi(1)&L<0,\end{cases}

        Q the normal tail, :math:`\Theta` what full lattices on the other axes add. Of the envelopes at the mode and at the mode moved to
        the edge the one that leaves less is taken. `axis`, `side`, `modes` and `steps` (k,) are as for :meth:`left_out`.
        """
        if self.compiled is not None:
            shape = len(edges), len(self.params)
            tails, moments, centres = np.empty(shape), np.empty(shape), np.empty((*shape, len(steps)))
            self.compiled.beyond(axis, side, edges, modes, steps, tails, moments, centres)
            return tails, moments, centres
        from scipy.special import log_ndtr

        masses = _full_lattices(steps)[0]
        theta = masses[np.arange(len(steps)) != axis].prod()
        step, density, top = steps[axis], 1 / np.sqrt(2 * np.pi), np.exp(-0.5) / np.sqrt(2 * np.pi)
        points = np.repeat(modes[None], 2 * len(edges), axis=0)
        points[len(edges):, :, axis] = edges[:, None]
        centres, peaks = self.envelopes(points)
        lengths = side * (np.tile(edges, 2)[:, None] - centres[:, :, axis])
        with np.errstate(under="ignore", over="ignore"):
            scale = self.share * theta * np.exp(peaks)
            tails = self.share * theta * np.exp(peaks + log_ndtr(-lengths))
            falling = density * self.share * theta * np.exp(peaks - lengths**2 / 2)
            before = lengths < 0
            tails = np.where(before, np.minimum(tails + step * density * scale, masses[axis] * scale), tails)
            moments = np.where(before, (2 * density + 2 * step * top) * scale - falling, falling)
            moments += np.where((lengths >= 0) & (lengths < 1), step * top * scale, 0.0)
        better = tails[len(edges):] < tails[:len(edges)]
        tails, moments = (np.where(better, part[len(edges):], part[:len(edges)]) for part in (tails, moments))
        centres = np.where(better[:, :, None], centres[len(edges):], centres[:len(edges)])
        return tails, moments, centres

    def left_out(self, axis: int, side: int, edges: np.ndarray, modes: np.ndarray,
                 steps: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        r"""Bound on what lies beyond each of `edges` (E,) on one side of an axis: of each row (E, n), of the loss (E,).

        With G and H of :meth:`beyond`, products of weights are bounded by either factor, so
        row i loses at most :math:`2\sum_l\omega_l\min\{R_{ii},R_{il}\}`,
        :math:`R_{il}=G_l[1+P_i(\|x_l^*-\mu_i\|+\sqrt S)]+P_iH_l`, :math:`P_i=\max_j\|\mu_i-\mu_j\|`, S the second moments of the
        other axes. A tenth more, and of the part with three weights a tenth of :math:`10+10.9\sqrt k+\max\omega`, is what the sums that
        discretisation bounds are made of miss beyond the same edge.

        Parameters
        ----------
        axis, side : int
            Axis, and -1 for its low end or +1 for its high end.
        modes : (n, k) array
        steps : (k,) array, optional
            Steps of the lattices, 0 for axes without one; without it all are 0, and sums are integrals.
        """
        n, k = self.params.shape
        steps = np.zeros(k) if steps is None else steps
        if self.compiled is not None:
            rows, losses = np.empty((len(edges), n)), np.empty(len(edges))
            self.compiled.left_out(axis, side, edges, modes, steps, rows, losses)
            return rows, losses
        tails, moments, centres = self.beyond(axis, side, edges, modes, steps)
        rest = np.sqrt(_full_lattices(steps)[1][np.arange(k) != axis].sum())
        widest = self.widest
        unseen = 0.1 * (10 + 10.9 * np.sqrt(k) + self.distances.max())
        arms = 1.1 * (np.linalg.norm(self.params[:, None] - centres[:, None], axis=-1) + rest) + unseen  # (E, i, l)
        weighted = tails[:, None, :] * (1.1 + widest[:, None] * arms) + 1.1 * widest[:, None] * moments[:, None, :]
        own = weighted[:, np.arange(n), np.arange(n)]
        shared = np.minimum(tails[:, :, None], tails[:, None, :]) @ self.distances
        return 2 * np.minimum(own[:, :, None], weighted) @ self.distances, 1.1 * (shared @ self.distances)

    def reach(self, axis: int, side: int, modes: np.ndarray, targets: np.ndarray, loss_target: float,
              steps: np.ndarray | None = None) -> tuple[float, np.ndarray, float]:
        """Where a grid may end on one side of an axis: (edge, what is left out of each row, what is left out of the loss).

        `targets` (n,) and `loss_target` are what may be left out; `modes` is what :meth:`modes` found; `steps` as for :meth:`left_out`.
        """
        outermost = (side * modes[:, axis]).max()
        edges = side * (outermost + np.arange(2.0, 16.0, 0.25))
        if self.compiled is not None and type(self).left_out is Integrand.left_out:
            rows = np.empty(len(self.params))
            none = np.zeros(self.params.shape[1]) if steps is None else steps
            index, loss = self.compiled.reach(axis, side, edges, modes, none, np.ascontiguousarray(targets), loss_target, rows)
            return float(edges[index]), rows, loss
        chunk = max(1, 100_000 // len(self.params) ** 2)
        for first in range(0, len(edges), chunk):
            rows, losses = self.left_out(axis, side, edges[first:first + chunk], modes, steps)
            enough = (rows <= targets).all(axis=1) & (losses <= loss_target)
            if enough.any():
                break
        index = int(enough.argmax()) if enough.any() else len(enough) - 1
        return float(edges[first + index]), rows[index], float(losses[index])
