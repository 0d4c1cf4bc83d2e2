r"""Stationary points of an objective and the spectrum of its Hessian there.

The search solves :math:`\nabla L=0` by Levenberg–Marquardt steps with the exact Hessian, so saddles and maxima are found like minima,
and null modes (rotations, directions in which the loss is flat) do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from overparam._validation import check_array, check_integer, check_positive, check_real
from overparam.objectives import Objective
from overparam.objectives.base import check_hessian_size
from overparam.state import State

__all__ = ["StationaryPoint", "find"]

_PSEUDO = 1e-10  # eigenvalues below this part of the largest take no part in a step: they are rounding of a null mode
_TINY = 4 * np.finfo(np.float64).eps  # a step shorter than this part of the parameters changes nothing
_DAMPING = 1e-3  # of the first step, relative to the largest squared eigenvalue (Marquardt's usual choice)


@dataclass(frozen=True, eq=False)
class StationaryPoint:
    """What :func:`find` reached.

    Attributes
    ----------
    params : (n, d) array
    value : float
        Loss there.
    grad_norm : float
        Norm of the whole gradient there.
    hessian_eigenvalues : (n·d,) array
        Ascending.
    null_tolerance : float
        Eigenvalues count as null up to this part of the largest absolute one.
    status : str
        "converged", "max_iterations", "stalled" (no step makes the gradient smaller), "failed" (the objective could not be evaluated
        further on) or "interrupted".
    message : str
        The same in words, with what was reached.
    iterations : int
        Steps tried, each with a gradient at least.
    """

    params: np.ndarray = field(repr=False)
    value: float
    grad_norm: float
    hessian_eigenvalues: np.ndarray = field(repr=False)
    null_tolerance: float
    status: str
    message: str
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether the gradient is below the tolerance."""
        return self.status == "converged"

    @property
    def _null(self) -> np.ndarray:
        size = np.abs(self.hessian_eigenvalues)
        return size <= self.null_tolerance * size.max()

    @property
    def negative(self) -> int:
        """Number of negative eigenvalues, null ones not counted."""
        return int(((self.hessian_eigenvalues < 0) & ~self._null).sum())

    @property
    def null(self) -> int:
        """Number of null eigenvalues."""
        return int(self._null.sum())

    @property
    def positive(self) -> int:
        """Number of positive eigenvalues, null ones not counted."""
        return int(((self.hessian_eigenvalues > 0) & ~self._null).sum())

    @property
    def kind(self) -> str:
        """What the spectrum says.

        "minimum", "maximum", "saddle" (negative and positive eigenvalues, null ones or not), "degenerate, none negative", "degenerate,
        none positive", "degenerate, all null" (where second derivatives do not decide), or "not stationary" if the search did not
        converge.
        """
        if not self.converged:
            return "not stationary"
        if self.negative and self.positive:
            return "saddle"
        if not self.null:
            return "minimum" if self.positive else "maximum"
        return "degenerate, none negative" if self.positive else "degenerate, none positive" if self.negative else "degenerate, all null"


def find(obj: Objective, params0: Any, *, tol: float = 1e-10, max_iterations: int = 200,
         null_tolerance: float = 1e-7) -> StationaryPoint:
    r"""Search for a stationary point from `params0` on.

    Each step is :math:`-\sum_k\frac{\lambda_k}{\lambda_k^2+\nu}\langle g,v_k\rangle v_k` over the eigenpairs of the Hessian with
    :math:`|\lambda_k|>10^{-10}\max|\lambda|`, the damping :math:`\nu` adapted so that :math:`\|\nabla L\|` falls at every step taken.

    Parameters
    ----------
    obj : Objective
        Built-in or your own; its ``hessian`` is used.
    params0 : (n, d) array or State
    tol : float
        The search has converged when the norm of the whole gradient is not above it.
    max_iterations : int
        Steps tried at most; 0 asks for the spectrum at `params0` alone.
    null_tolerance : float
        Eigenvalues up to this part of the largest absolute one count as null.

    Returns
    -------
    StationaryPoint
        Also if the search did not converge: see its status and message.

    Raises
    ------
    ValueError
        For arguments of the wrong kind, more than 5000 coordinates, or if the objective cannot be evaluated at `params0`.

    Notes
    -----
    Where parameters are so far apart that their gradients are exponentially small the gradient is below any `tol` without a
    stationary point near; the eigenvalues of these parameters then count as null.

    Examples
    --------
    Theorem 3.1 of Zhang et al. 2025 (arXiv 2511.22069): the loss has stationary points that are no global minima.

    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> found = op.stationary.find(obj, [[2.5], [-2.5], [0.0]])
    >>> found.status, round(found.value, 8), found.kind, found.negative
    ('converged', 0.94380027, 'saddle', 2)
    """
    if not isinstance(obj, Objective):
        raise ValueError(f"obj must be an overparam.Objective such as op.ScoreMatching(teacher); got {obj!r}")
    params = np.array(params0.params if isinstance(params0, State) else check_array(params0, "params0", ndim=(2, 3)))
    check_hessian_size(params.size)
    tol, null_tolerance = check_positive(tol, "tol"), check_real(null_tolerance, "null_tolerance", minimum=0.0, maximum=1.0)
    max_iterations = check_integer(max_iterations, "max_iterations")
    here = _Point.at(obj, params)
    damping, growth, iterations, status, why = None, 2.0, 0, "max_iterations", ""
    try:
        while here.grad_norm > tol and iterations < max_iterations:
            damping = _DAMPING * here.largest**2 if damping is None else damping
            step = here.step(damping)
            if np.abs(step).max() <= _TINY * np.abs(here.params).max():
                status = "stalled"
                break
            iterations += 1
            value, grad = obj.value_and_grad(here.params + step)
            norm = float(np.linalg.norm(grad))
            if not norm < here.grad_norm:
                damping, growth = damping * growth, 2 * growth
                continue
            # how much of the fall that the quadratic model foresaw came true (Nielsen's update)
            foreseen = here.grad_norm**2 - here.foreseen(step) ** 2
            gain = (here.grad_norm**2 - norm**2) / foreseen if foreseen > 0 else 0.0
            damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
            here = _Point.of(obj, here.params + step, value, grad)
    except KeyboardInterrupt:
        status = "interrupted"
    except ValueError as error:  # a step led where the objective cannot be evaluated
        status, why = "failed", f": {error}"
    if here.grad_norm <= tol:
        status, why = "converged", ""
    words = {"converged": "the gradient is below tol", "max_iterations": "max_iterations reached", "interrupted": "interrupted",
             "stalled": "no step makes the gradient smaller", "failed": "the objective cannot be evaluated further on"}[status]
    message = f"{words}{why}; after {iterations} steps |grad| = {here.grad_norm:.3g} (tol = {tol:g}), loss {here.value:.9g}"
    return StationaryPoint(here.params, here.value, here.grad_norm, here.eigenvalues, null_tolerance, status, message, iterations)


@dataclass(frozen=True, eq=False)
class _Point:
    """Parameters with value, gradient and the Hessian's eigenpairs."""

    params: np.ndarray
    value: float
    grad: np.ndarray
    eigenvalues: np.ndarray
    vectors: np.ndarray

    @classmethod
    def at(cls, obj: Objective, params: np.ndarray) -> _Point:
        return cls.of(obj, params, *obj.value_and_grad(params))

    @classmethod
    def of(cls, obj: Objective, params: np.ndarray, value: float, grad: np.ndarray) -> _Point:
        size = params.size
        eigenvalues, vectors = np.linalg.eigh(np.asarray(obj.hessian(params)).reshape(size, size))
        return cls(params, float(value), np.asarray(grad), eigenvalues, vectors)

    @property
    def grad_norm(self) -> float:
        return float(np.linalg.norm(self.grad))

    @property
    def largest(self) -> float:
        return float(np.abs(self.eigenvalues).max())

    def step(self, damping: float) -> np.ndarray:
        """The damped pseudo-inverse of the Hessian times minus the gradient."""
        kept = np.abs(self.eigenvalues) > _PSEUDO * self.largest
        factors = np.zeros_like(self.eigenvalues)
        factors[kept] = -self.eigenvalues[kept] / (self.eigenvalues[kept] ** 2 + damping)
        return (self.vectors @ (factors * (self.grad.ravel() @ self.vectors))).reshape(self.params.shape)

    def foreseen(self, step: np.ndarray) -> float:
        """Norm of the gradient after a step, to first order."""
        along = self.vectors @ (self.eigenvalues * (step.ravel() @ self.vectors))
        return float(np.linalg.norm(self.grad.ravel() + along))
