r"""Expectations under the student on a grid of their own: what the library's gradient and loss are compared with.

The library integrates by planned rules around every mean; here the integrands are summed on the equispaced grid of
:mod:`overparam.theory.zhang2025.cubic` around each mean, over the space that the differences of the means span.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import _softmax
from overparam.theory.zhang2025.cubic import grid, sums

__all__ = ["Expectations", "expectations"]

_TAIL = 9.0  # half-width beyond which the Gaussian weight is below 1e-17; all integrands are bounded by polynomials of the means
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Expectations:
    r"""Expectations under :math:`p_\mu`, means relative to the teacher's; NaN where the grid would be too large.

    Attributes
    ----------
    grad : (n, d) array
        :math:`2\pi_i\,E_{N(\mu_i,I)}[v+C(\mu_i-v)]`.
    loss, squares, trace : float
        :math:`E\|v\|^2`; :math:`E\|C\|_F^2`; :math:`E\,\mathrm{tr}\,C`.
    grad_error : (n, d) array
    loss_error, squares_error, trace_error : float
    """

    grad: np.ndarray
    grad_error: np.ndarray
    loss: float
    loss_error: float
    squares: float
    squares_error: float
    trace: float
    trace_error: float

    @property
    def progress(self) -> float:
        r""":math:`Q=E[\|v\|^2+\|C\|_F^2]`, half of :math:`\sum_i\langle\nabla_iF,\mu_i\rangle`."""
        return self.loss + self.squares

    @property
    def progress_error(self) -> float:
        """Error of :attr:`progress`."""
        return self.loss_error + self.squares_error


def expectations(params: np.ndarray, weights: np.ndarray) -> Expectations:
    r"""Integrate under the mixture of these means.

    Parameters
    ----------
    params : (n, d) array
        Means relative to the teacher's.
    weights : (n,) array

    Returns
    -------
    Expectations

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.tyurin2026 import integrals
    >>> found = integrals.expectations(np.array([[2.0], [2.0]]), np.array([0.25, 0.75]))        # 2 pi_i m at a common point
    >>> found.grad.ravel().round(12).tolist(), round(found.loss, 12), round(found.squares, 12)
    ([1.0, 3.0], 4.0, 0.0)
    """
    n, d = params.shape
    nodes = grid(params, _TAIL)
    if nodes is None:
        return Expectations(np.full((n, d), math.nan), np.full((n, d), math.nan), *[math.nan] * 6)
    z, q, even, rank = nodes
    grad, grad_error, scalars, errors = np.zeros((n, d)), np.zeros((n, d)), np.zeros(3), np.zeros(3)
    middle = params.mean(axis=0)
    for i in np.flatnonzero(weights):
        w = _softmax.responsibilities(params[i] + z, params, weights)
        off = w @ (params - middle)  # about the middle: a posterior covariance of a far tight cluster loses nothing
        v = middle + off
        gaps = params[None] - middle - off[:, None]
        cov = np.einsum("bj,bjk,bjl->bkl", w, gaps, gaps, optimize=True)
        row = v + np.einsum("bkl,bl->bk", cov, gaps[:, i])
        values = np.column_stack([row, (v**2).sum(axis=1), (cov**2).sum(axis=(1, 2)), np.trace(cov, axis1=1, axis2=2)])
        total, error = sums(values, q, even, rank)
        grad[i], grad_error[i] = 2 * weights[i] * total[:d], 2 * weights[i] * error[:d]
        scalars += weights[i] * total[d:]
        errors += weights[i] * error[d:]
    # responsibilities carry the rounding of logits of the size of the spread squared
    size = float(np.abs(params - middle).max())
    slip = 64 * _EPS * (1 + size**2)
    far = float(np.abs(params).max())
    grad_error += slip * weights[:, None] * (size + far + size**3)
    errors += slip * np.array([size * (far + size), size**4, size**2])
    return Expectations(grad, grad_error, float(scalars[0]), float(errors[0]), float(scalars[1]), float(errors[1]), float(scalars[2]),
                        float(errors[2]))
