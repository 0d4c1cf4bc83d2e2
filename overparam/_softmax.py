"""The one softmax of the Python side: responsibilities of identity-covariance mixtures from differences of their means.

Nothing here validates; callers pass float64 arrays of fitting shapes. Everything depends on differences only, so that a
state with a far centre passes ``x - centre`` and its deviations and loses nothing.
"""

from __future__ import annotations

import numpy as np

__all__ = ["log_density", "log_softmax", "posterior_mean", "responsibilities", "softmax"]

_LARGEST = 1e140  # of coordinates whose squares are float64 numbers, whatever is summed of them


def softmax(logits: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    r"""Return :math:`\pi_i e^{l_i}/\sum_j\pi_j e^{l_j}` over the last axis, with the largest term subtracted first.

    Parameters
    ----------
    logits : (..., n) array
        :math:`l_i`; -inf is allowed as long as one entry with positive weight is finite.
    weights : (n,) array, optional
        :math:`\pi_i\ge0`; a weight of 0 gives exactly 0. None stands for equal weights.
    """
    if weights is not None:
        with np.errstate(divide="ignore"):  # log 0 = -inf is the right answer for a weight of 0
            logits = logits + np.log(weights)
    with np.errstate(over="ignore"):  # a difference beyond float64 is -inf, whose exponential is rightly 0
        terms = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: np.ndarray = terms / terms.sum(axis=-1, keepdims=True)
    return found


def log_softmax(logits: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the logarithm of :func:`softmax`, accurate where the softmax itself underflows; -inf for a weight of 0."""
    if weights is not None:
        with np.errstate(divide="ignore"):
            logits = logits + np.log(weights)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def responsibilities(x: np.ndarray, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Return :math:`w_i(x)=\pi_i\phi(x|\mu_i)/\sum_j\pi_j\phi(x|\mu_j)`.

    The logits of a point are taken from the mean :math:`\mu_r` nearest to it,
    :math:`l_i=(\mu_i-\mu_r)\cdot(x-\mu_r-\tfrac12(\mu_i-\mu_r))\le0`: no large number common to all components is ever
    formed, and only components that are negligible anyway carry large rounding.

    Parameters
    ----------
    x : (..., d) array
    means : (m, d) array
    weights : (m,) array

    Returns
    -------
    (..., m) array, summing to 1 over the last axis.
    """
    points = x.reshape(-1, x.shape[-1])
    if max(np.abs(points).max(initial=0.0), np.abs(means).max()) > _LARGEST:
        return softmax(_far_logits(points, means), weights).reshape(*x.shape[:-1], len(means))
    middle = means.mean(axis=0)
    offsets = means - middle
    # the nearest mean maximises (x - c).(mu_i - c) - |mu_i - c|^2 / 2; a tie decided by rounding does no harm
    nearest = np.argmax((points - middle) @ offsets.T - 0.5 * (offsets**2).sum(axis=1), axis=1)
    logits = np.empty((len(points), len(means)))
    for r in np.unique(nearest):
        here = nearest == r
        from_nearest = means - means[r]
        logits[here] = (points[here] - means[r]) @ from_nearest.T - 0.5 * (from_nearest**2).sum(axis=1)
    return softmax(logits, weights).reshape(*x.shape[:-1], len(means))


def _far_logits(points: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(N, m) logits seen from each point's nearest mean where squares leave float64's range: from the differences where that can be
    done, else from the distances, -inf beyond the range.
    """
    distances = np.zeros((len(points), len(means)))
    logits = np.empty_like(distances)
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in range(points.shape[1]):
            distances = np.hypot(distances, points[:, axis, None] - means[:, axis])
        nearest = np.argmin(distances, axis=1)
        for r in np.unique(nearest):
            here = nearest == r
            from_nearest = means - means[r]
            logits[here] = (points[here] - means[r]) @ from_nearest.T - 0.5 * (from_nearest**2).sum(axis=1)
        least = distances.min(axis=1, keepdims=True)
        from_distances = np.where(distances > least, (least - distances) / 2 * (least + distances), 0.0)
    logits = np.where(np.isnan(logits), from_distances, logits)
    beyond = logits == np.inf  # nearer than the one that rounding calls the nearest
    return np.where(beyond.any(axis=1, keepdims=True), np.where(beyond, 0.0, -np.inf), logits)


def log_density(x: np.ndarray, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Return :math:`\ln\sum_i\pi_ie^{-\|x-\mu_i\|^2/2}` at points x (N, d), with the largest term subtracted first."""
    squares = np.zeros((len(x), len(means)))
    for axis in range(x.shape[1]):
        squares += (x[:, axis, None] - means[:, axis]) ** 2
    with np.errstate(divide="ignore"):
        logits = np.log(weights) - squares / 2
    top = logits.max(axis=1)
    found: np.ndarray = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return found


def posterior_mean(x: np.ndarray, means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Return :math:`v(x)=\sum_iw_i(x)\mu_i`, shape (..., d); exact where all means coincide.

    The score of the mixture is :math:`v(x)-x`.
    """
    middle = means.mean(axis=0)
    found: np.ndarray = middle + responsibilities(x, means, weights) @ (means - middle)
    return found
