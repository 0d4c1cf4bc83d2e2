r"""Expectations of gradient EM on a grid of their own: what the library's gradient is compared with.

The library integrates by planned rules in a reduced frame; here the papers' integrands are summed on the equispaced grid of
:mod:`overparam.theory.zhang2025.cubic` over the space that the differences of the means span.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import _softmax
from overparam.theory.zhang2025.cubic import grid, sums

__all__ = ["Expectations", "expectations", "over_mixture"]

_TAIL = 9.0  # half-width beyond which the Gaussian weight is below 1e-17
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Expectations:
    r"""Expectations over a teacher with the errors of the grid and of rounding; NaN where the grid would be too large.

    Attributes
    ----------
    grad : (n, d) array
        :math:`\sum_j\pi_j^*E_{N(\mu_j^*,I)}[w_i\sum_kw_k(\mu_k-\mu_j^*)]`.
    moved : (n, d) array
        :math:`E[w_i(x-\mu_i)]`, which is its negative.
    shares : (n,) array
        :math:`E[w_i]`.
    grad_error, moved_error, shares_error : arrays of these shapes
    """

    grad: np.ndarray
    grad_error: np.ndarray
    moved: np.ndarray
    moved_error: np.ndarray
    shares: np.ndarray
    shares_error: np.ndarray


def expectations(params: np.ndarray, weights: np.ndarray) -> Expectations:
    r"""Integrate over :math:`N(0,I)`.

    Parameters
    ----------
    params : (n, d) array
        Means relative to the target's.
    weights : (n,) array

    Returns
    -------
    Expectations

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2024 import integrals
    >>> found = integrals.expectations(np.array([[2.0], [2.0]]), np.array([0.25, 0.75]))        # pi_i m at a common point
    >>> found.grad.ravel().round(12).tolist(), found.moved.ravel().round(12).tolist(), found.shares.round(12).tolist()
    ([0.5, 1.5], [-0.5, -1.5], [0.25, 0.75])
    """
    n, d = params.shape
    nodes = grid(params, _TAIL + float(np.abs(params).max()) / 2)
    if nodes is None:
        rows, one = np.full((n, d), math.nan), np.full(n, math.nan)
        return Expectations(rows, rows, rows, rows, one, one)
    x, q, even, rank = nodes
    w = _softmax.responsibilities(x, params, weights)
    rows = w[:, :, None] * (w @ params)[:, None]
    # x off the grid's space has mean 0 and does not enter: x - mu there is -mu
    moved = w[:, :, None] * (x[:, None] - params)
    total, error = sums(np.column_stack([rows.reshape(len(x), n * d), moved.reshape(len(x), n * d), w]), q, even, rank)
    size = float(np.abs(params).max())
    error = error + 64 * _EPS * np.abs(total).max() * (1 + size)  # responsibilities carry the rounding of logits of this size
    cut = (slice(n * d), slice(n * d, 2 * n * d), slice(2 * n * d, None))
    return Expectations(total[cut[0]].reshape(n, d), error[cut[0]].reshape(n, d), total[cut[1]].reshape(n, d),
                        error[cut[1]].reshape(n, d), total[cut[2]], error[cut[2]])


def over_mixture(params: np.ndarray, weights: np.ndarray, means: np.ndarray, teacher_weights: np.ndarray) -> Expectations:
    """Integrate over a mixture of identity-covariance Gaussians, component by component.

    Parameters
    ----------
    params : (n, d) array
    weights : (n,) array
    means : (m, d) array
        The teacher's, in the coordinates of `params`.
    teacher_weights : (m,) array

    Returns
    -------
    Expectations

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2024 import integrals
    >>> one = integrals.over_mixture(np.array([[1.0]]), np.ones(1), np.array([[-2.0], [2.0]]), np.array([0.5, 0.5]))
    >>> one.grad.round(12).tolist()             # one student: its distance from the mean of all
    [[1.0]]
    """
    parts = [expectations(params - mean, weights) for mean in means]
    return Expectations(*[sum(weight * getattr(part, name) for weight, part in zip(teacher_weights, parts, strict=True))
                          for name in ("grad", "grad_error", "moved", "moved_error", "shares", "shares_error")])
