r"""Distances between mixtures of identity-covariance Gaussians: total variation, Kullback–Leibler, Fisher.

All live in the span of the means, so that a million dimensions cost no more than reading them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._total_variation import Signed, by_boxes, by_coupling, by_overlap, by_projections, by_samples
from overparam._validation import check_positive, check_rng
from overparam.objectives import KLDivergence, ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture

__all__ = ["Distance", "fisher", "kullback_leibler", "total_variation"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


_EPS = float(np.finfo(np.float64).eps)
_LARGEST = 1e150
_MOST_BOXES = {1: 400_000, 2: 200_000, 3: 30_000}  # by rank: a second or two each
_MOST_WORK = 2_000_000  # boxes times components, where they are many
_SAMPLES, _MOST_SAMPLED = 2**12, 2**24  # of each replicate and component; of each replicate, times the square of their number


@dataclass(frozen=True)
class Distance:
    """A distance and how well it is known.

    Attributes
    ----------
    value : float
    error : float
        A proved bound, or the standard error where `method` is a sampled one.
    reliable : bool
        False where a standard error is not to be trusted: see :class:`overparam.Estimate`. Finite bounds are always reliable.
    method : str
        What it was found with.
    nodes : int
        Nodes, boxes or points used.
    low, high : float
        Between these the distance lies for sure, whatever the method.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.distances.total_variation(op.Gaussian([0.0]), op.Gaussian([1.0]))
    >>> found.low <= found.value <= found.high, found.reliable
    (True, True)
    >>> round(found.value, 6)      # erf(1 / sqrt(8))
    0.382925
    """

    value: float
    error: float
    reliable: bool
    method: str
    nodes: int
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("value", "error", "low", "high"):
            object.__setattr__(self, name, float(getattr(self, name)))

    def __float__(self) -> float:
        return self.value


def total_variation(p: Any, q: Any, *, tol: float = 1e-8, rng: Any = None) -> Distance:
    r"""Total variation :math:`\mathrm{TV}(p,q)=\frac12\int|p-q|=\sup_A|p(A)-q(A)|` of two mixtures, between 0 and 1.

    Where the means span one axis the roots of p - q are enclosed by a certificate on every interval, and between them the integral is a sum
    of normal distribution functions; where they span two or three, boxes take the place of intervals. From there on, and where the boxes
    do not reach `tol` and samples do better, it is a scrambled Sobol estimate with a standard error, beside the proved bounds: the largest
    total variation of a projection on a line, and a coupling of the components.

    Parameters
    ----------
    p, q : Gaussian, GaussianMixture, (n, d) array, State, or a pair (means, weights)
        Means without weights stand for a mixture with equal ones. ``(traj.final_state, traj.final_weights)`` is a trained student.
    tol : float
        Absolute error that is asked for. It is met in rank 1, down to the rounding of the means: those at distance r from the first
        mean of p cost :math:`\varepsilon r/\sqrt{2\pi}` of their weight, 4e-5 for half of it at r = 1e12. In rank 2 about 1e-7 is
        reached at most, in rank 3 about 1e-3, and `error` says what was.
    rng : seed or numpy.random.Generator, optional
        Of the samples; a fixed seed by default, so that the same mixtures give the same number.

    Returns
    -------
    Distance

    Raises
    ------
    ValueError
        If an argument is no mixture of identity-covariance Gaussians, dimensions differ, coordinates are above 1e150, or `tol` is not
        above 0.

    Notes
    -----
    Two Gaussians have :math:`2\Phi(\|a-b\|/2)-1` [standard]. Components of weight 0 are left out. Axes that carry less than a quarter of
    `tol` are left out and counted in the error: moving a component by :math:`\delta` costs at most :math:`\delta/\sqrt{2\pi}` of its
    weight.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.distances.total_variation(op.Gaussian([0.0]), op.Gaussian([2.0]))
    >>> round(found.value, 9), found.error < 1e-8                          # 2 Phi(1) - 1
    (0.682689492, True)
    >>> op.distances.total_variation(op.Gaussian([0.0, 0.0]), [[1.0, 0.0], [-1.0, 0.0]]).method
    'intervals'
    """
    first, second = _mixture(p, "p"), _mixture(q, "q")
    _check_pair(first, second)
    tol = check_positive(tol, "tol")
    rng = check_rng(0 if rng is None else rng)
    signed, slip = _reduced(first, second, tol)
    moved = float((signed.weights * slip).sum()) / math.sqrt(2 * math.pi)  # what leaving axes out and rounding may change
    rank = signed.means.shape[1]
    if rank == 0:
        return Distance(0.0, moved, True, "coincident", 0, 0.0, min(moved, 1.0))
    low, high = max(by_overlap(signed, slip), 0.0), min(by_coupling(signed) + moved, 1.0)
    nodes, method = 0, "bounds"
    if high - low <= (1e-14 if rank == 1 else 2 * tol):  # all is far apart, or nearly coincides
        pass
    elif rank in _MOST_BOXES:
        value, error, nodes = by_boxes(signed, max(tol / 2, 1e-15), min(_MOST_BOXES[rank], _MOST_WORK // len(signed.weights) + 2000))
        error, method = error + moved, "intervals" if rank == 1 else "boxes"
        low, high = max(low, value - error), min(high, value + error)
    else:
        low = max(by_projections(signed) - moved, low)
    high = max(low, high)  # they may cross by the last digit
    value, error = (low + high) / 2, (high - low) / 2 + 2 * _EPS * high
    if error > tol and rank > 1:
        sampled, spread, reliable, points = by_samples(signed, tol, rng, max(min(_SAMPLES, _MOST_SAMPLED // len(signed.weights) ** 2), 64))
        if spread + moved < error:
            return Distance(min(max(sampled, low), high), spread + moved, reliable, "Sobol points", points, low, high)
    return Distance(value, error, True, method, nodes, low, high)


def kullback_leibler(p: Any, q: Any, *, tol: float = 1e-8) -> Distance:
    r"""Kullback–Leibler divergence :math:`\mathrm{KL}(p\,\|\,q)=\mathbb E_p[\ln p-\ln q]` of two mixtures.

    Parameters
    ----------
    p, q : Gaussian, GaussianMixture, (n, d) array, State, or a pair (means, weights)
        As in :func:`total_variation`.
    tol : float
        Relative error that is asked for, of the gradient rows of :class:`overparam.KLDivergence`, which does the work: its nodes, its
        bounds, and Sobol points where they cannot meet the tolerance.

    Returns
    -------
    Distance
        Of a sampled value `low` and `high` are 0 and a coupling's :math:`\frac12\sum\gamma_{ij}\|a_i-b_j\|^2`.

    Raises
    ------
    ValueError
        As :func:`total_variation`.

    Examples
    --------
    >>> import overparam as op
    >>> round(op.distances.kullback_leibler(op.Gaussian([0.0]), op.Gaussian([3.0])).value, 9)      # half the squared distance
    4.5
    """
    first, second = _mixture(p, "p"), _mixture(q, "q")
    _check_pair(first, second)
    _, _, shares, apart = _whole(first, second).coupling()
    return _estimated(KLDivergence, first, second, tol, float(shares @ apart**2) / 2)


def fisher(p: Any, q: Any, *, tol: float = 1e-8) -> Distance:
    r"""Fisher divergence :math:`\mathbb E_p\|\nabla\ln p-\nabla\ln q\|^2` of two mixtures, the expectation under p.

    Parameters
    ----------
    p, q, tol
        As in :func:`kullback_leibler`; :class:`overparam.ScoreMatching` does the work.

    Returns
    -------
    Distance
        Of a sampled value `low` and `high` are 0 and the largest squared distance of a mean of p from one of q: scores differ by convex
        combinations of the means.

    Raises
    ------
    ValueError
        As :func:`total_variation`.

    Examples
    --------
    >>> import overparam as op
    >>> round(op.distances.fisher(op.Gaussian([0.0]), op.Gaussian([3.0])).value, 9)      # the squared distance
    9.0
    """
    first, second = _mixture(p, "p"), _mixture(q, "q")
    _check_pair(first, second)
    largest = max(float(np.linalg.norm(second.means - mean, axis=1).max()) for mean in first.means)
    return _estimated(ScoreMatching, first, second, tol, largest**2)


# --- mixtures ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Means and weights, without components of weight 0; the state that they came from, if any."""

    means: np.ndarray
    weights: np.ndarray
    state: State | None = None


def _mixture(value: Any, name: str) -> _Mixture:
    weights: Any
    if isinstance(value, (Gaussian, GaussianMixture)):
        means, weights, state = value.means, value.weights, None
    else:
        pair = isinstance(value, tuple) and len(value) == 2 and (isinstance(value[0], State) or np.ndim(value[0]) == 2)
        points, weights = value if pair else (value, None)
        if not isinstance(points, (State, np.ndarray, list, tuple)):
            raise ValueError(f"{name} must be a mixture of identity-covariance Gaussians: an op.Gaussian, an op.GaussianMixture, an (n, d) "
                             f"array or State of means, or a pair (means, weights); got {value!r}"[:400])
        state = points if isinstance(points, State) else None
        try:
            mixture = GaussianMixture(points if state is None else state.params, weights)
        except ValueError as error:
            raise ValueError(f"{name} is no mixture of identity-covariance Gaussians: {error}") from None
        means, weights = mixture.means, mixture.weights
    present = weights > 0
    if not present.all():
        means, weights = means[present], weights[present]
        state = None if state is None or state.log_scale else State(state.centre, state.deviations[present], state.basis, state.origin)
    return _Mixture(means, weights, state)


def _check_pair(first: _Mixture, second: _Mixture) -> None:
    if first.means.shape[1] != second.means.shape[1]:
        raise ValueError(f"p lives in {first.means.shape[1]} dimension(s) and q in {second.means.shape[1]}: they must agree")
    largest = max(float(np.abs(one.means).max()) for one in (first, second))
    if largest > _LARGEST:
        raise ValueError(f"means must have coordinates of at most {_LARGEST:g}, so that their squares are float64 numbers; got {largest:g}")


def _whole(first: _Mixture, second: _Mixture) -> Signed:
    return Signed(np.concatenate([first.means, second.means]), np.concatenate([first.weights, second.weights]), len(first.weights))


def _reduced(first: _Mixture, second: _Mixture, tol: float) -> tuple[Signed, np.ndarray]:
    """Both in coordinates of the span of the means, and (N,) bounds on how far leaving axes out and rounding moves each mean."""
    whole = _whole(first, second)
    rows = whole.means - first.means[0]
    lengths = np.linalg.norm(rows, axis=1)
    slip = 0.0 if first.state is None and second.state is None else 4 * _EPS * np.linalg.norm(whole.means, axis=1)
    if rows.shape[1] == 1 or not lengths.any():
        coordinates = rows if lengths.any() else rows[:, :0]
        slip = slip + _EPS * lengths
    else:
        peak = lengths.max()
        axes = np.linalg.svd(rows / peak, full_matrices=False)[2]
        turned = rows @ axes.T
        left = np.sqrt(np.cumsum(turned[:, ::-1] ** 2, axis=1))[:, ::-1]  # [:, r]: what axes from r on hold
        costs = np.append(whole.weights @ left, 0.0) / math.sqrt(2 * math.pi)
        allowed = max(tol / 4, 64 * _EPS * peak)
        rank = int(np.argmax(costs <= allowed))
        coordinates = turned[:, :rank]
        slip = slip + np.linalg.norm(rows - coordinates @ axes[:rank], axis=1) + 64 * _EPS * lengths
    return Signed(np.ascontiguousarray(coordinates), whole.weights, whole.first), slip


def _estimated(objective: type, first: _Mixture, second: _Mixture, tol: float, largest: float) -> Distance:
    """A divergence as an objective's value at the means of q."""
    loss = objective(GaussianMixture(first.means, first.weights), weights=second.weights, rule=Auto(tol=check_positive(tol, "tol")))
    found = loss.estimate(second.means if second.state is None else second.state)
    if found.replicates is not None:
        return Distance(found.value, found.value_error, found.reliable, found.rule, found.nodes, 0.0, largest)
    low, high = max(found.value - found.value_error, 0.0), max(found.value + found.value_error, 0.0)
    return Distance(found.value, found.value_error, found.reliable, found.rule, found.nodes, low, high)
