r"""Error bounds of rules against :math:`N(m,\Sigma)`: the strips of the identity after whitening, with integrands that grow like squares.

With :math:`x=m+Az`, :math:`AA^\top=\Sigma`, the logits are linear in the standard normal z with differences
:math:`\xi_i-\xi_j=A^\top(\mu_i-\mu_j)`, so a product of p weights grows by :math:`\cos^{-p}(as/2)` on the line
:math:`\mathrm{Im}\,z_k=a`, s the extent of the :math:`\xi` along the axis. The target is :math:`m+Rz`, :math:`R=A-A^{-\top}`, and every
integrand is a weight times two factors that grow like :math:`\|z\|`. docs/numerics.md, section 14, has the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import lgamma
from typing import Any

import numpy as np

from overparam._softmax import log_softmax, softmax
from overparam.covariance import Covariance
from overparam.geometry import Integrand, _full_lattices, align

__all__ = ["Envelopes", "Factors", "Whitened", "axis_error", "best_rule", "edges_error", "envelopes_at", "rooms", "strip_error",
           "trusted", "weights_at", "with_shares"]

_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])  # of the largest strip
_CIRCLE = 2.5  # radius times spread up to which a product of weights is largest where the circle meets the real axis
_RADII = np.concatenate([np.linspace(0.04, 1.0, 25), np.geomspace(1e-8, 0.04, 25)])  # of the largest circle
_WIDEST = 1e8  # circle that is looked at: a spread of 0 allows any
_MAX_ORDER = 48  # moments of the Peano kernel are those of a normal variable up to here
_SAFETY = 1.25  # mixed sums and integrals, and E w from the rule's own sum: 1.094 / 0.9 at most
_TRUST, _TRUST_ALL = 0.03, 0.09  # what an axis, and all together, may be off by in a weight times a square
_FLAT = 1e-13  # spread below this multiple of the widest one: rounding of the rotation


@dataclass(frozen=True, eq=False)
class Envelopes(Integrand):
    r"""As its base for :math:`\varphi(z)\,w_i`, with logits :math:`\langle z,\xi_i\rangle+b_i` of any offsets b (n,)."""

    offsets: np.ndarray | None = None

    def slopes(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Value, gradient, w and differences for the Hessian at points y (..., n, k), row i at its own."""
        log_w = log_softmax(y @ self.deviations.T + self.offsets)
        w = np.exp(log_w)
        off = self.deviations - (w @ self.deviations)[..., None, :]
        own = np.arange(len(self.params))
        return log_w[..., own, own] - (y**2).sum(axis=-1) / 2, -y + off[..., own, own, :], w, off


@dataclass(frozen=True, eq=False)
class Whitened:
    r"""A covariance in those axes z that have nodes: columns of `root` (k, a) are those of A, of `target` (k, a) those of R.

    Attributes
    ----------
    root, target : (k, a) arrays
    leading : int
        How many axes the weights depend on; they come first, and `frame` (k, leading) has them as columns.
    rest : float
        :math:`\|R_{rest}\|_F^2` of the axes without nodes: what they add to the loss.
    rank : int
        How many axes the differences of the means extend over: more than `leading` where a frame does not serve a state.
    dropped : float
        Largest difference along axes that the weights are taken not to depend on, as a part of the largest one.
    nearest : float
        Cosine of the largest angle between the frame and the one that it follows.
    """

    root: np.ndarray
    target: np.ndarray
    leading: int
    frame: np.ndarray
    rest: float = 0.0
    rank: int = 0
    dropped: float = 0.0
    nearest: float = 1.0

    @classmethod
    def of(cls, shape: Covariance, deviations: np.ndarray) -> Whitened:
        """All axes, aligned with the differences of `deviations` (n, k) after whitening, widest first."""
        k = deviations.shape[1]
        turn = align(shape.apply(np.sqrt, deviations), np.zeros((1, k)))
        return cls(*_columns(shape, turn), k, turn, rank=k)

    @classmethod
    def spanning(cls, shape: Covariance, deviations: np.ndarray, like: np.ndarray | None = None, extra: int | None = None) -> Whitened:
        r"""Axes of the span of the whitened differences of `deviations` (n, k), and those that carry squares into the rows.

        A row's :math:`\langle\mu_i-v,D\rangle(x-\mu_i)` is quadratic in a coordinate :math:`z_o` outside the span only through
        :math:`A_o^\top\Sigma^{-1}(\mu_i-v)`: axes on which that vanishes enter linearly, and their mean, z = 0, is exact. The others are
        no more than the span has. With `like` (k, r) the frame is the one of the span that is nearest to it, and there are `extra` axes
        of the second kind, perhaps of length 0.
        """
        k, centred = deviations.shape[1], deviations - deviations.mean(axis=0)
        peak = np.abs(centred).max()
        centred = centred / peak if peak > 0 else centred
        frame, rank, dropped, nearest = _span(shape.apply(np.sqrt, centred), like)
        lengths = np.linalg.norm(centred, axis=1)
        crossed = centred[lengths > 0] / lengths[lengths > 0, None]
        squares = np.zeros((k, 0))
        if len(crossed) and frame.shape[1] < k:
            crossed = shape.apply(lambda values: values**-0.5, crossed)
            for _ in range(2):
                crossed = crossed - crossed @ frame @ frame.T
            _, sizes, rows = np.linalg.svd(crossed, full_matrices=False)
            most = min(k - frame.shape[1], rank)
            squares = rows[:most][sizes[:most] > 1e-14 * shape.modes[0].min() ** -0.5].T
        if extra is not None:
            squares = np.pad(squares[:, :extra], ((0, 0), (0, max(0, extra - squares.shape[1]))))
        root, target = _columns(shape, np.concatenate([frame, squares], axis=1))
        values = shape.modes[0]
        rest = max(0.0, float(((values - 1) ** 2 / values).sum() - (target**2).sum())) if root.shape[1] < k else 0.0
        return cls(root, target, frame.shape[1], frame, rest, rank, dropped, nearest)

    @property
    def sizes(self) -> tuple[float, float]:
        """Spectral norms of A and R, on the axes with nodes."""
        return float(np.linalg.norm(self.root, 2)), float(np.linalg.norm(self.target, 2))

    def spreads(self, deviations: np.ndarray) -> np.ndarray:
        """(leading,) extents of the whitened `deviations` (n, k)."""
        found: np.ndarray = np.ptp(deviations @ self.root[:, :self.leading], axis=0)
        return found


def _columns(shape: Covariance, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of A and R along orthonormal `axes` (k, a)."""
    rows = np.ascontiguousarray(axes.T)
    return shape.apply(np.sqrt, rows).T, shape.apply(lambda values: (values - 1) / np.sqrt(values), rows).T


def _span(whitened: np.ndarray, like: np.ndarray | None) -> tuple[np.ndarray, int, float, float]:
    """A frame (k, r) of the span of the rows of `whitened` (n, k), its rank, what it drops, and how near to `like` it is."""
    k, peak = whitened.shape[1], np.abs(whitened).max()
    if peak == 0:  # nothing differs: any axis does
        return (np.eye(k)[:, :1] if like is None else like), 0, 0.0, 1.0
    _, sizes, axes = np.linalg.svd(whitened / peak, full_matrices=False)
    rank = int((sizes > _FLAT * sizes[0]).sum())
    if like is None:
        own = np.flatnonzero(np.abs(whitened).max(axis=0) > _FLAT * peak)
        if len(own) == rank:  # coordinate axes round nothing
            frame = np.eye(k)[:, own] @ align(whitened[:, own], np.zeros((1, rank)))
        else:
            frame = axes[:rank].T
        return frame, rank, float(sizes[rank] / sizes[0]) if rank < len(sizes) else 0.0, 1.0
    wanted = like.shape[1]
    frame = axes[:min(rank, wanted)].T
    if frame.shape[1] < wanted:  # fewer axes than before: those of `like` serve for the others
        more = like - frame @ (frame.T @ like)
        more = np.linalg.svd(more, full_matrices=False)[0][:, :wanted - frame.shape[1]]
        frame = np.linalg.qr(np.concatenate([frame, more], axis=1))[0]
    left, cosines, right = np.linalg.svd(frame.T @ like)
    return frame @ (left @ right), rank, float(sizes[rank] / sizes[0]) if rank < len(sizes) else 0.0, float(cosines.min())


@dataclass(frozen=True, eq=False)
class Factors:
    r"""What bounds q integrands: on :math:`\mathrm{Im}\,z_k=a` they are at most :math:`W(f_0+f_1\|z\|+a\rho_k)(g_0+g_1\|z\|+a\gamma_k)`.

    W is :math:`\cos^{-p}` times a weight (of expectation `mass` in all), or times 1.

    Attributes
    ----------
    mass, power : (q,) arrays
    first, second : (q,) arrays
        :math:`f_0+f_1\sqrt M` and :math:`g_0+g_1\sqrt M`, M a bound on the mean of :math:`\|z\|^2` against the weight.
    first_rise : (k,) array
        :math:`\rho_k`.
    second_rise : (q, k) array
        :math:`\gamma_k`.
    weighted : bool
        Whether the weights count, or all of them are replaced by 1 (tight states).
    parts : tuple
        f0, f1, g0, g1 as (q,) arrays: what the edges need.
    """

    mass: np.ndarray
    power: np.ndarray
    first: np.ndarray
    second: np.ndarray
    first_rise: np.ndarray
    second_rise: np.ndarray
    weighted: bool
    parts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, white: Whitened, centre: np.ndarray, deviations: np.ndarray, shares: np.ndarray, moving: bool) -> Factors:
        r"""Of the gradient rows, their mean (tight states) and the loss, at means :math:`m+c+\delta_i`; `shares` (n,) bounds E w.

        Rows: :math:`2w_i\,(\Omega+\|R\|\|z\|)(1+\Delta_i(e_i+\|A\|\|z\|))`, :math:`e_i=\|\mu_i-m\|`, :math:`\Omega=\max e_i`,
        :math:`\Delta_i=\max_j\|\mu_i-\mu_j\|`. Loss: :math:`(\Omega+\|R\|\|z\|)^2`. In tight states :math:`|w_i-\frac1n|` is at most the
        difference of logits, :math:`s_\xi\|z\|+s(\|c\|+\delta)`, and the rows start with that.
        """
        n, axes = len(deviations), white.root.shape[1]
        whitened = deviations @ white.root
        arm, pull = white.sizes
        far = np.linalg.norm(centre + deviations, axis=1)
        omega = float(far.max())
        apart = _apart(deviations)
        rise, lift = np.linalg.norm(white.target, axis=0), np.linalg.norm(white.root, axis=0)
        if moving:
            wide, spread = float(_apart(whitened).max()), float(apart.max())
            middle, longest = float(np.linalg.norm(centre)), float(np.linalg.norm(deviations, axis=1).max())
            moments = np.full(n + 2, float(axes))
            second0 = np.concatenate([np.full(n, spread * (2 * middle + 3 * longest)), [1 / n + spread * longest, omega]])
            second1 = np.concatenate([np.full(n, wide + spread * arm), [0.0, pull]])
            second_rise = np.concatenate([np.tile(wide + spread * lift, (n, 1)), np.zeros((1, axes)), rise[None]])
            mass = np.append(np.full(n + 1, 2.0), 1.0)
        else:
            moments = np.append(axes + _apart(whitened) ** 2, float(axes))
            second0 = np.append(1 + apart * far, omega)
            second1 = np.append(apart * arm, pull)
            second_rise = np.concatenate([apart[:, None] * lift, rise[None]])
            mass = np.append(2 * shares, 1.0)
        quantities = len(mass)
        power = np.append(np.full(quantities - 1, 3.0), 2.0)
        first0, first1 = np.full(quantities, omega), np.full(quantities, pull)
        root = np.sqrt(moments)
        return cls(mass, power, first0 + first1 * root, second0 + second1 * root, rise, second_rise, not moving,
                   (first0, first1, second0, second1))

    def on(self, axis: int, a: np.ndarray) -> np.ndarray:
        """(q, ...) sizes of the integrals over the line at height `a`, without what rule, weight function and cosines do."""
        a = a[None]
        grow = self.second_rise[:, axis].reshape(-1, *(1,) * (a.ndim - 1))
        shape = grow.shape
        found: np.ndarray = _SAFETY * self.mass.reshape(shape) * (self.first.reshape(shape) + a * self.first_rise[axis]) \
                         * (self.second.reshape(shape) + a * grow)
        return found

    @property
    def whole(self) -> np.ndarray:
        """(q,) bound on the integrals themselves."""
        found: np.ndarray = _SAFETY * self.mass * self.first * self.second
        return found


def _apart(points: np.ndarray) -> np.ndarray:
    """(n,) largest distance of each of `points` (n, k) from another; for very many of them an upper bound."""
    if len(points) > 256:
        return np.full(len(points), 2 * np.linalg.norm(points - points.mean(axis=0), axis=1).max())
    found: np.ndarray = np.linalg.norm(points[:, None] - points, axis=-1).max(axis=1)
    return found


def _strip(step: float, spread: float, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights a (S,), and (q, S) logarithms of what a trapezoid rule of `step` makes of an integral over lines at them."""
    top = min(1.2 * 2 * np.pi / step, np.pi / max(spread, 1e-305))
    a = top * _FRACTIONS
    turns = 2 * np.pi * a / step
    front = np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns))
    return a, front - np.asarray(power)[:, None] * np.log(np.cos(a * spread / 2))


def _circle(order: int, spread: float, power: np.ndarray, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Radii a (S,), and (q, S) logarithms of what a Gauss–Hermite rule of `order` makes of maxima over circles of these radii."""
    a = min(_CIRCLE / max(spread, 1e-305), _WIDEST) * _RADII
    front = lgamma(order + 1) + (order > _MAX_ORDER) * order * np.log(2.0) - 2 * order * np.log(a)
    if weighted:  # what the weight that is kept grows by, under the Peano kernel and against a square
        front = front + np.log(2.0) + spread + spread * spread / 2 + np.log1p(spread * spread)  # ** would raise on overflow
    return a, front + np.asarray(power)[:, None] * spread * a


def _heights(rule: int | float, spread: float, power: np.ndarray, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """By the kind of rule: an order (int) or a step (float)."""
    return _circle(rule, spread, power, weighted) if isinstance(rule, int) else _strip(rule, spread, power)


def strip_error(rule: int | float, spread: float, factors: Factors, axis: int) -> np.ndarray:
    """(q,) bound on the discretisation error on one axis of a Gauss–Hermite rule of an order (int), or a trapezoid of a step (float)."""
    if spread == 0 and isinstance(rule, int) and rule > 1:
        return np.zeros(len(factors.mass))  # quadratic in z: two nodes are exact
    a, log_part = _heights(rule, spread, factors.power, factors.weighted)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):  # a weight below float64's range asks for nothing
        found: np.ndarray = np.exp(log_part + np.log(factors.on(axis, a))).min(axis=1)
        return found


def trusted(rule: int | float, spread: float, weighted: bool, axes: int) -> bool:
    """Whether a rule sums a weight times a square to what the bounds take it for."""
    if isinstance(rule, int) and rule > 1 and (spread == 0 or not weighted):
        return True
    a, log_part = _heights(rule, spread, np.array([1.0 if weighted else 0.0]), weighted)
    return bool((log_part[0] + np.log(2 + 2 * a * a)).min() <= np.log(min(_TRUST, _TRUST_ALL / max(1, axes))))


def axis_error(rule: int | float, spread: float, factors: Factors, axis: int, axes: int) -> np.ndarray:
    """As :func:`strip_error`, and inf where the rule is too coarse for its own majorants."""
    known = strip_error(rule, spread, factors, axis)
    return known if trusted(rule, spread, factors.weighted, axes) else np.full_like(known, np.inf)


def best_rule(spread: float, factors: Factors, axis: int, axes: int, targets: np.ndarray) -> int | float:
    """The rule with the fewest nodes whose errors are within `targets` (q,): an order, or a step; the finest step if none is."""
    def enough(rule: int | float) -> bool:
        return bool((axis_error(rule, spread, factors, axis, axes) <= targets).all())

    order = None
    if spread < 1.5 or not factors.weighted:
        order = next((m for m in range(2, _MAX_ORDER + 1) if enough(m)), None)
        if order is not None and (order < 16 or not factors.weighted):
            return order
    steps = np.geomspace(1.6, 5e-6, 100)
    low, high = 0, len(steps) - 1
    while low < high:  # the bounds grow with the step
        middle = (low + high) // 2
        low, high = (low, middle) if enough(float(steps[middle])) else (middle + 1, high)
    step = float(steps[low])
    return order if order is not None and order <= 15 / step else step


def rooms(rule: int, spread: float, factors: Factors, axis: int, axes: int, targets: np.ndarray) -> float:
    """The largest spread, from `spread` on, for which a Gauss–Hermite rule is still within `targets`."""
    room = spread
    for wider in np.geomspace(max(spread, 1e-8), 1.0, 40):
        if not (wider >= spread and (axis_error(rule, float(wider), factors, axis, axes) <= targets).all()):
            break
        room = float(wider)
    return room


def edges_error(envelopes: Envelopes, factors: Factors, axis: int, side: int, edges: np.ndarray, modes: np.ndarray | None,
                steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""What lies beyond each of `edges` (E,) on one side of an axis: of the quantities (E, q), and of :math:`E\,w_i` (E, n).

    :math:`\varphi w_i` lies below Gaussians of unit width around :math:`z_i^*`; with u the distance along the axis and o that along the
    others, :math:`\|z\|\le\|z_i^*\|+|u|+o`, and lattices sum :math:`\varphi`, :math:`|u|\varphi`, :math:`u^2\varphi` beyond an edge to at
    most their integrals plus h times their peaks. Where weights do not count, :math:`\varphi` itself is the envelope.
    """
    masses, squares = _full_lattices(steps)
    others = np.arange(len(steps)) != axis
    theta, rest, step = masses[others].prod(), squares[others].sum(), float(steps[axis])
    first0, first1, second0, second1 = factors.parts
    if not factors.weighted:
        zeroth, one, two = (theta * part for part in _tails((side * edges)[:, None], step))
        return factors.mass * _against(factors.parts, 0.0, rest, zeroth, one, two), np.zeros((len(edges), len(envelopes.params)))
    known: Any = modes  # given where weights count
    points = np.repeat(known[None], 2 * len(edges), axis=0)
    points[len(edges):, :, axis] = edges[:, None]
    centres, peaks = envelopes.envelopes(points)
    scale = theta * np.exp(np.minimum(peaks, 700.0))
    with np.errstate(under="ignore", over="ignore"):
        parts = [scale * part for part in _tails(side * (np.tile(edges, 2)[:, None] - centres[:, :, axis]), step)]
    better = parts[0][len(edges):] < parts[0][:len(edges)]
    zeroth, one, two, away = (np.where(better, part[len(edges):], part[:len(edges)]) for part in (*parts, np.linalg.norm(centres, axis=2)))
    rows = 2 * _against((first0[:-1], first1[:-1], second0[:-1], second1[:-1]), away, rest, zeroth, one, two)
    loss = _against((first0[-1], first1[-1], second0[-1], second1[-1]), away, rest, zeroth, one, two).sum(axis=1)
    return np.column_stack([rows, loss]), zeroth


def _tails(lengths: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a lattice sums of 1, |u| and u^2 times a normal density beyond `lengths`, its first node a step further."""
    from scipy.special import log_ndtr

    top = 1 / np.sqrt(2 * np.pi)
    density, normal = top * np.exp(-lengths**2 / 2), np.exp(log_ndtr(-lengths))
    zeroth = normal + step * top * (lengths < 0)
    one = np.where(lengths >= 0, density, 2 * top - density) + 2 * step * top * np.exp(-0.5) * (lengths < 1)
    two = normal + lengths * density + 4 * step * top * np.exp(-1.0) * (lengths < np.sqrt(2.0))
    return zeroth, one, np.maximum(two, 0.0)


def _against(parts: tuple[Any, Any, Any, Any], away: Any, rest: float, zeroth: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Sums of the two factors against envelopes `away` from 0, the others' mean square being `rest`."""
    f0, f1, g0, g1 = parts
    near, tall = f0 + f1 * away, g0 + g1 * away
    found: np.ndarray
    found = near * tall * zeroth + (near * g1 + tall * f1) * (one + np.sqrt(rest) * zeroth) + 2 * f1 * g1 * (two + rest * zeroth)
    return found


def offsets_of(centre: np.ndarray, deviations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""(n,) logits :math:`b_i` of :math:`\mu_i=m+c+\delta_i` at x = m."""
    found: np.ndarray = np.log(weights) - deviations @ centre - (deviations**2).sum(axis=1) / 2
    return found


def envelopes_at(white: Whitened, centre: np.ndarray, deviations: np.ndarray, weights: np.ndarray) -> Envelopes:
    """The envelopes of a state in the axes of `white`."""
    whitened, n = deviations @ white.root, len(weights)
    return Envelopes(whitened, whitened, weights, np.zeros(whitened.shape[1]), 1.0, np.zeros(n),
                     offsets=offsets_of(centre, deviations, weights))


def weights_at(white: Whitened, z: np.ndarray, centre: np.ndarray, deviations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, n) weights at points z (N, k)."""
    return softmax(z @ (deviations @ white.root).T + offsets_of(centre, deviations, weights))


def with_shares(factors: Factors, shares: np.ndarray) -> Factors:
    """The same, with other bounds (n,) on the mean weights."""
    return factors if not factors.weighted else replace(factors, mass=np.append(2 * shares, 1.0))
