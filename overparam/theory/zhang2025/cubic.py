r"""Lemma 2.2's cubic form and its kin by a grid of their own: what the library's gradient is compared with.

The library integrates the pathwise gradient by planned rules; here the integrands of the paper's Stein form are summed on an
equispaced grid over the space that the differences of the means span, and compared with the sum over every second node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import _softmax

__all__ = ["Integrals", "grid", "integrals", "stage_one", "sums"]

_TAIL = 9.0  # half-width beyond which the Gaussian weight is below 1e-17
_MOST = 400_000  # nodes


@dataclass(frozen=True, eq=False)
class Integrals:
    r"""Expectations over :math:`x\sim N(0,I)` with the errors of the grid and of rounding; NaN where the grid would be too large.

    Attributes
    ----------
    grad : (n, d) array
        Lemma 2.2's right side.
    loss, squares, quartic : float
        :math:`E\|v\|^2`; :math:`E[\|v\|^2+\|M\|_F^2-4v^\top Mv+3\|v\|^4]`; :math:`E[\|v\|^2(1-\|v\|^2)]`.
    grad_error : (n, d) array
    loss_error, squares_error, quartic_error : float
    """

    grad: np.ndarray
    grad_error: np.ndarray
    loss: float
    loss_error: float
    squares: float
    squares_error: float
    quartic: float
    quartic_error: float


def grid(params: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """(N, d) nodes on the span of the differences, (N,) weights, which nodes have even indices, and the rank; None if too many."""
    differences = params - params.mean(axis=0)
    _, sizes, axes = np.linalg.svd(differences, full_matrices=False)
    axes = axes[sizes > 1e-14 * max(sizes.max(), 1e-300)]
    if not len(axes):
        return np.zeros((1, params.shape[1])), np.ones(1), np.ones(1, dtype=bool), 0
    lines, weights, even = [], [], []
    for axis in axes:
        along = params @ axis
        # every second node errs by exp(-pi^2/(s h)) for means s apart, by exp(-pi^2/(2 h^2)) for the Gaussian alone: 1e-16 and 1e-17
        step = min(math.pi**2 / (36 * max(np.ptp(along), 1.0)), 0.35)
        count = math.ceil(reach / step)
        index = np.arange(-count, count + 1)
        lines.append(index * step)
        weights.append(step * np.exp(-0.5 * lines[-1] ** 2) / math.sqrt(2 * math.pi))
        even.append(index % 2 == 0)
        if math.prod(len(line) for line in lines) > _MOST:
            return None
    mesh = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")], axis=1)
    total, kept = weights[0], even[0]
    for weight, one in zip(weights[1:], even[1:], strict=True):
        total, kept = np.multiply.outer(total, weight), np.logical_and.outer(kept, one)
    return mesh @ axes, total.ravel(), kept.ravel(), len(axes)


def sums(values: np.ndarray, weights: np.ndarray, even: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of (N, K) values and their errors: what every second node gives instead, and rounding."""
    total = weights @ values
    coarse = 2**rank * (weights[even] @ values[even])
    return total, np.abs(total - coarse) + 64 * np.finfo(np.float64).eps * (weights @ np.abs(values))


def integrals(params: np.ndarray, weights: np.ndarray) -> Integrals:
    r"""Integrate for a student against :math:`N(0,I)`.

    Parameters
    ----------
    params : (n, d) array
        Means relative to the target's.
    weights : (n,) array

    Returns
    -------
    Integrals

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.zhang2025 import cubic
    >>> found = cubic.integrals(np.array([[1.0], [1.0]]), np.array([0.25, 0.75]))       # 2 pi_i m at a common point
    >>> found.grad.ravel().round(12).tolist()
    [0.5, 1.5]
    """
    n, d = params.shape
    found = grid(params, _TAIL + float(np.abs(params).max()) / 2)
    if found is None:
        nan = math.nan
        return Integrals(np.full((n, d), nan), np.full((n, d), nan), *[nan] * 6)
    x, q, even, rank = found
    w = _softmax.responsibilities(x, params, weights)
    v = w @ params
    inner = v @ params.T
    square = (v**2).sum(axis=1)
    second = np.einsum("bi,ik,il->bkl", w, params, params, optimize=True)
    second_v = np.einsum("bkl,bl->bk", second, v)
    own = np.einsum("bkl,il->bik", second, params) - 2 * v[:, None] * inner[:, :, None]
    rows = 2 * w[:, :, None] * (v[:, None] + own - 2 * second_v[:, None] + 3 * (square[:, None] * v)[:, None])
    frobenius, vmv = (second**2).sum(axis=(1, 2)), (second_v * v).sum(axis=1)
    values = np.column_stack([rows.reshape(len(x), n * d), square, square + frobenius - 4 * vmv + 3 * square**2, square * (1 - square)])
    # rounding is that of the terms, not of their sum
    size = np.abs(params).max()
    total, error = sums(values, q, even, rank)
    error = error + 64 * np.finfo(np.float64).eps * (size + size**3) * (1 + size)
    return Integrals(total[:-3].reshape(n, d), error[:-3].reshape(n, d), float(total[-3]), float(error[-3]), float(total[-2]),
                     float(error[-2]), float(total[-1]), float(error[-1]))


def stage_one(params: np.ndarray, near: int) -> tuple[float, float]:
    r"""Norm of :math:`\nabla_{i_0}L-2\mu_{i_0}` for equal weights, without the difference, and its error.

    With :math:`\varepsilon=1-w_{i_0}` and :math:`u=v-\mu_{i_0}=\sum_{j\ne i_0}w_j(\mu_j-\mu_{i_0})` it is
    :math:`2E[-\varepsilon\mu_{i_0}+(1-\varepsilon)(u-(u\cdot v)(x-\mu_{i_0}))]`: every term is as small as the other weights are.

    Parameters
    ----------
    params : (n, d) array
        Means relative to the target's.
    near : int
        :math:`i_0`.

    Returns
    -------
    float, float
        NaN where the grid would be too large.
    """
    n = len(params)
    found = grid(params, _TAIL + 4 * math.sqrt(2 * max(float(_gap(params, near)), 0.0)))
    if found is None:
        return math.nan, math.nan
    x, q, even, rank = found
    w = _softmax.responsibilities(x, params, np.full(n, 1 / n))
    others = np.arange(n) != near
    eps = w[:, others].sum(axis=1)
    u = w[:, others] @ (params[others] - params[near])
    uv = (u * (params[near] + u)).sum(axis=1)
    # x off the grid's space has mean 0 and does not enter: x - mu there is -mu
    inside = -eps[:, None] * params[near] + (1 - eps)[:, None] * (u - uv[:, None] * (x - params[near]))
    total, error = sums(2 * inside, q, even, rank)
    return float(np.linalg.norm(total)), float(np.linalg.norm(error))


def _gap(params: np.ndarray, near: int) -> float:
    """Half the difference of the squared distances of the second nearest and the nearest: their log odds at the target."""
    squares = (params**2).sum(axis=1)
    return 0.5 * float(np.delete(squares, near).min() - squares[near])
