r"""Total variation of two identity-covariance mixtures in a few coordinates: boxes with certified signs, projections, couplings, samples.

Nothing here validates. A pair of mixtures is one signed mixture :math:`f=p-q=\sum_lc_l\varphi(x-m_l)`; its positive part has mass TV.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam._softmax import softmax
from overparam.sampling import Sobol

__all__ = ["Signed", "by_boxes", "by_coupling", "by_overlap", "by_projections", "by_samples"]

_EPS = float(np.finfo(np.float64).eps)
_REACH = 9.0  # beyond it a standard normal number has a probability of 1.2e-19
_OUTSIDE = 1.2e-19
_THIRD = 2.62  # largest value of (r^3 + 3r) exp(-r^2/2)
_BLOCK = 2_000_000  # numbers at a time
_FEW = 100  # effective samples below which a mean is not to be trusted


@dataclass(frozen=True, eq=False)
class Signed:
    r"""The signed mixture :math:`p-q`.

    Parameters
    ----------
    means : (N, r) array
        Those of p, then those of q.
    weights : (N,) array
        Positive, both.
    first : int
        How many belong to p.
    """

    means: np.ndarray
    weights: np.ndarray
    first: int

    @property
    def signs(self) -> np.ndarray:
        """(N,) weights, those of q negative."""
        signed = self.weights.copy()
        signed[self.first:] *= -1
        return signed

    def coupling(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Pairs of components of p and q, their shares and distances: a coupling of the weights, nearest first."""
        a, b = self.means[:self.first], self.means[self.first:]
        apart = np.stack([np.linalg.norm(b - one, axis=1) for one in a])  # row by row: there may be a million columns
        left, right = self.weights[:self.first].copy(), self.weights[self.first:].copy()
        rows, columns, shares = [], [], []
        for pair in np.argsort(apart, axis=None, kind="stable"):
            i, j = divmod(int(pair), len(b))
            share = min(left[i], right[j])
            if share > 0:
                rows.append(i)
                columns.append(j)
                shares.append(share)
                left[i] -= share
                right[j] -= share
        first, second = np.array(rows), np.array(columns)
        return first, second + self.first, np.array(shares), apart[first, second]


# --- boxes ------------------------------------------------------------------------------------------------------------


def by_boxes(signed: Signed, tol: float, most: int) -> tuple[float, float, int]:
    r"""Total variation, a proved bound on its error, and the number of boxes.

    Where f has one sign in a box its integral there is a product of normal distribution functions. The sign is certified by Taylor's
    formula around the middle c of a box of half widths h: the largest of :math:`|f(x)-f(c)|` is at most

    .. math:: \sum_k|\partial_kf(c)|h_k+\tfrac12\|h\|^2\sup|D^2f|,

    and a box of volume V where that exceeds :math:`|f(c)|` adds at most :math:`V` times the excess to what is missed if f is taken to have
    the sign of f(c) all over it. Boxes that miss most are halved until the sum is within `tol`, or there are `most`.
    """
    i, j, shares, apart = signed.coupling()
    rank = signed.means.shape[1]
    alone = signed.weights.copy()  # what rounding of the weights leaves without a partner
    np.subtract.at(alone, i, shares)
    np.subtract.at(alone, j, shares)
    alone = np.maximum(alone, 0.0) + _EPS * signed.weights

    def block(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) bounds on the mass of the wrong sign, and the sign at the middle."""
        middle = (low + high) / 2
        half = np.maximum(middle - low, high - middle)
        offsets = middle[:, None] - signed.means
        squares = (offsets**2).sum(axis=2)
        density = np.exp(-squares / 2) / (2 * math.pi) ** (rank / 2)
        terms = density * signed.signs
        value = terms.sum(axis=1)
        noise = _EPS * (np.abs(terms) * (8 + len(signed.weights) + (rank + 4) * squares)).sum(axis=1)
        slope = np.abs(np.einsum("bl,blk->bk", terms, offsets))
        nearest = (np.maximum(np.abs(offsets) - half[:, None], 0.0) ** 2).sum(axis=2)
        bend = np.where(nearest >= 3, np.maximum(nearest - 1, 0) * np.exp(-nearest / 2),
                        np.maximum(np.exp(-nearest / 2), 2 * math.exp(-1.5)))
        bends = ((shares * np.minimum(bend[:, i] + bend[:, j], _THIRD * apart)).sum(axis=1) + bend @ alone) / (2 * math.pi) ** (rank / 2)
        length = (half**2).sum(axis=1)
        swing = (slope * half).sum(axis=1) + bends * length / 2 + noise * (1 + np.sqrt(squares.max(axis=1)) * np.sqrt(length))
        lost = np.prod(high - low, axis=1) * np.maximum((1 + 1e-12) * swing - np.abs(value), 0.0)
        return np.where(np.isnan(lost), np.inf, lost), np.where(value < 0, -1.0, 1.0)

    def missed(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = max(1, _BLOCK // signed.means.size)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # boxes too large for float64's squares miss all
            parts = [block(low[first:first + size], high[first:first + size]) for first in range(0, len(low), size)]
        return np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])

    low, high = signed.means.min(axis=0)[None] - _REACH, signed.means.max(axis=0)[None] + _REACH
    lost, sign = missed(low, high)
    closed: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    count = 1
    while lost.sum() > tol and count < most:
        order = np.argsort(lost)
        ends = np.searchsorted(np.cumsum(lost[order]), tol / 2)
        chosen = order[max(ends, len(order) - (most - count)):]
        axes = np.argmax(high[chosen] - low[chosen], axis=1)
        start, end = low[chosen, axes], high[chosen, axes]
        cut = (start + end) / 2
        fine = (start < cut) & (cut < end) & (end - start > 8 * _EPS * np.maximum(np.abs(start), np.abs(end)))
        chosen, axes, cut = chosen[fine], axes[fine], cut[fine]
        if not len(chosen):
            break
        rest = np.ones(len(lost), dtype=bool)
        rest[chosen] = False
        upper, lower = low[chosen].copy(), high[chosen].copy()
        upper[np.arange(len(chosen)), axes] = lower[np.arange(len(chosen)), axes] = cut
        new_low, new_high = np.concatenate([low[chosen], upper]), np.concatenate([lower, high[chosen]])
        new_lost, new_sign = missed(new_low, new_high)
        count += len(chosen)
        low, high = np.concatenate([low[rest], new_low]), np.concatenate([high[rest], new_high])
        lost, sign = np.concatenate([lost[rest], new_lost]), np.concatenate([sign[rest], new_sign])
        done = lost == 0
        closed.append((low[done], high[done], sign[done]))
        low, high, lost, sign = low[~done], high[~done], lost[~done], sign[~done]
    missing = float(lost.sum())
    low, high, sign = (np.concatenate([part, *(one[place] for one in closed)]) for place, part in enumerate((low, high, sign)))
    if rank == 1:
        low, high, sign = _runs(low, high, sign)
    masses, rounding = _masses(low, high, signed)
    # f integrates to 0: its positive and its negative part have the same mass, and half their sum rounds less than either
    least = float(sign @ masses) / 2
    error = missing / 2 + rounding + _OUTSIDE * 2 * rank + 4 * _EPS * len(signed.weights)
    return min(max(least + missing / 2, 0.0), 1.0), error, count


def _runs(low: np.ndarray, high: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbouring intervals of the same sign joined: their ends are the roots, and nothing else is rounded."""
    order = np.argsort(low[:, 0])
    low, high, sign = low[order], high[order], sign[order]
    begins = np.flatnonzero(np.append(True, sign[1:] != sign[:-1]))
    return low[begins], high[np.append(begins[1:], len(sign)) - 1], sign[begins]


def _masses(low: np.ndarray, high: np.ndarray, signed: Signed) -> tuple[np.ndarray, float]:
    """(B,) integrals of f over boxes, and a bound on the rounding of their sum."""
    from scipy.special import ndtr

    masses, rounding = np.empty(len(low)), 0.0
    size = max(1, _BLOCK // signed.means.size)
    for first in range(0, len(low), size):
        part = slice(first, first + size)
        product, error = np.ones((len(low[part]), len(signed.weights))), 0.0
        for axis in range(low.shape[1]):
            start, end = (edge[part, axis, None] - signed.means[:, axis] for edge in (low, high))
            left = start + end < 0  # of the two tails the one that is smaller holds the difference to more digits
            far, near = np.where(left, end, -start), np.where(left, start, -end)
            tail = ndtr(far)
            share = tail - ndtr(near)
            # an edge less a mean is rounded too: at most as a relative change of it
            slip = 4 * _EPS * tail + _EPS * (np.abs(start) * np.exp(-start**2 / 2) + np.abs(end) * np.exp(-end**2 / 2))
            error = error * (share + slip) + product * slip
            product = product * share
        masses[part] = product @ signed.signs
        rounding += float((error @ signed.weights + 4 * _EPS * (product @ signed.weights) * len(signed.weights)).sum())
    return masses, rounding


# --- bounds in any rank -----------------------------------------------------------------------------------------------


def by_coupling(signed: Signed) -> float:
    r"""Upper bound :math:`\sum\gamma_{ij}(2\Phi(\|a_i-b_j\|/2)-1)`: total variation is convex in the pair."""
    from scipy.special import erf

    _, _, shares, apart = signed.coupling()
    return min(float(shares @ erf(apart / math.sqrt(8))) * (1 + 16 * _EPS) + 4 * _EPS * len(signed.weights), 1.0)


def by_overlap(signed: Signed, slip: np.ndarray) -> float:
    r"""Lower bound :math:`1-\sum_{ij}\sqrt{\pi_i\pi_j'}\,e^{-\|a_i-b_j\|^2/8}`, for means known to `slip` (N,); near 1 if all are far."""
    total = 0.0
    for mean, weight, own in zip(signed.means[:signed.first], signed.weights, slip, strict=False):
        apart = np.linalg.norm(signed.means[signed.first:] - mean, axis=1) - own - slip[signed.first:]
        with np.errstate(over="ignore", under="ignore"):
            total += float((np.sqrt(weight * signed.weights[signed.first:]) * np.exp(-(np.maximum(apart, 0.0) ** 2) / 8)).sum())
    return 1 - total * (1 + 1e-12) - 4 * _EPS * len(signed.weights)


def by_projections(signed: Signed, most: int = 12) -> float:
    """Lower bound: no projection on a line has a larger total variation."""
    i, j, shares, apart = signed.coupling()
    order = np.argsort(-shares * apart)[:most]
    directions = [signed.means[i[one]] - signed.means[j[one]] for one in order if apart[one] > 0]
    directions.append(np.eye(signed.means.shape[1])[0])
    best = 0.0
    for direction in directions:
        line = Signed((signed.means @ (direction / np.linalg.norm(direction)))[:, None], signed.weights, signed.first)
        value, error, _ = by_boxes(line, 1e-4, 2000)
        slip = 8 * _EPS * np.linalg.norm(signed.means, axis=1) @ signed.weights  # of the projection
        best = max(best, value - error - float(slip))
    return best


# --- samples ----------------------------------------------------------------------------------------------------------


def by_samples(signed: Signed, tol: float, rng: np.random.Generator, size: int, replicates: int = 16) -> tuple[float, float, bool, int]:
    r"""Total variation by scrambled Sobol points, its standard error, whether that is to be trusted, and the number of points.

    :math:`\frac12\sum_l|c_l|\,\mathbb E_{N(m_l,I)}\frac{|p-q|}{p+q}`: every component with points of its own, so that a rare one
    is not left to chance, and a function between 0 and 1.
    """
    rank, first = signed.means.shape[1], signed.first
    sampler = Sobol(size * replicates, rng=rng, replicates=replicates)
    squares = ((signed.means[:, None] - signed.means) ** 2).sum(axis=2) / 2
    means, sums, powers = np.zeros((replicates, len(signed.weights))), np.zeros(len(signed.weights)), np.zeros(len(signed.weights))
    for one in range(replicates):
        points = sampler._draw(size, rank, rng)
        along = points @ signed.means.T
        for component in range(len(signed.weights)):
            # ln of the densities at the points around this mean, but for what all have in common
            shares = softmax(along - along[:, component, None] - squares[component], signed.weights)
            seen = np.abs(shares[:, :first].sum(axis=1) - shares[:, first:].sum(axis=1))
            means[one, component] = seen.mean()
            sums[component] += seen.sum()
            powers[component] += (seen**2).sum()
    values = means @ signed.weights / 2
    error = float(values.std(ddof=1) / math.sqrt(replicates))
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = np.where(powers > 0, sums**2 / powers, 0.0)
    count = len(points) * replicates
    unseen = float(signed.weights[effective < _FEW].sum()) * _FEW / count / 2  # what so few samples may have missed
    return float(values.mean()), error, unseen <= max(error, tol), count * len(signed.weights)
