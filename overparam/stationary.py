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


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


_PSEUDO = 1e-10  # eigenvalues below this part of the largest take no part in a step: they are rounding of a null mode
_TINY = 4 * np.finfo(np.float64).eps  # a step shorter than this part of the parameters changes nothing
_NEAR = 1e-2  # a Newton step of this part of the distances ends a search: along flat minima steps are a third of the way
_FLAT = 1e-7  # a parameter vector whose second derivatives are below this part of the largest is flat: it is judged by itself,
_EXACT = 1e-6  # and stationary only if its own Newton step is this part of its distance
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
        Ascending; NaN where the Hessian could not be evaluated.
    null_tolerance : float
        Eigenvalues count as null up to this part of the largest absolute one.
    status : str
        "converged", "undecided" (gradient and curvature of some parameters are too small for float64 to tell a stationary point from
        parameters on their way to infinity), "max_iterations", "stalled" (no step makes the gradient smaller), "failed" (the objective
        or its Hessian could not be evaluated) or "interrupted".
    message : str
        The same in words, with what was reached.
    iterations : int
        Steps tried, each with a gradient at least.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.stationary.find(op.ScoreMatching(op.Gaussian([0.0])), [[2.5], [-2.5], [0.0]])
    >>> found.status, found.kind, found.hessian_eigenvalues.shape
    ('converged', 'saddle', (3,))
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
        """Whether the gradient is below the tolerance, and small against the curvature as well."""
        return self.status == "converged"

    @property
    def _null(self) -> np.ndarray:
        size = np.abs(self.hessian_eigenvalues)
        found: np.ndarray = size <= self.null_tolerance * size.max()
        return found

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
        none positive", "degenerate, all null" (where second derivatives do not decide), "undecided: flat to float64", or "not
        stationary" if the search did not converge.
        """
        if self.status == "undecided":
            return "undecided: flat to float64"
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
        The search has converged when the norm of the whole gradient is not above it and the gradient is small against the curvature
        as well: see Notes.
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
        For arguments of the wrong kind, more than 5000 coordinates, or if value and gradient cannot be evaluated at `params0`.

    Notes
    -----
    Where parameters are far apart their gradients are exponentially small: below any `tol` without a stationary point near. So
    Newton's step has to be below a hundredth of the distances (or of 1, where they are smaller). For a pair at distance r that runs
    away it is about 4/r, however small the gradient, :math:`e^{-r^2/8}`, has become. A
    parameter vector with second derivatives below 1e-7 of the largest (each relative to its weight) is flat, and judged by its own
    gradient against its own block of the Hessian: one that explains the other to 1e-6 is stationary, anything else "undecided".

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
    params = np.array(params0.params if isinstance(params0, State) else check_array(params0, "params0", ndim=2))
    check_hessian_size(params.size)
    tol, null_tolerance = check_positive(tol, "tol"), check_real(null_tolerance, "null_tolerance", minimum=0.0, maximum=1.0)
    max_iterations = check_integer(max_iterations, "max_iterations")
    value, grad = obj.value_and_grad(params)
    damping, growth, iterations, status, why = None, 2.0, 0, "max_iterations", ""
    here = _Point.blank(params, value, grad)
    try:
        here = _Point.of(obj, params, value, grad)
        while here.verdict(tol) is None and iterations < max_iterations:
            damping = _DAMPING * float(here.largest) * float(here.largest) if damping is None else damping
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
            before = here.grad_norm  # products, since a power would raise on overflow
            foreseen = before * before - here.foreseen(step) * here.foreseen(step)
            gain = (before * before - norm * norm) / foreseen if foreseen > 0 else 0.0
            damping, growth = damping * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
            here = _Point.of(obj, here.params + step, value, grad)
    except KeyboardInterrupt:
        status = "interrupted"
    except ValueError as error:  # a step led where the objective cannot be evaluated
        status, why = "failed", f": {error}"
    verdict = here.verdict(tol)
    if verdict is not None:
        status, why = verdict, ""
    words = {"converged": "the gradient is below tol", "max_iterations": "max_iterations reached", "interrupted": "interrupted",
             "undecided": "undecided, flat to float64: gradient and curvature of parameters "
                          f"{', '.join(map(str, here.flat_rows))} are both exponentially small; perhaps they are on their way to infinity",
             "stalled": "no step makes the gradient smaller", "failed": "the objective cannot be evaluated further on"}[status]
    message = f"{words}{why}; after {iterations} steps |grad| = {here.grad_norm:.3g} (tol = {tol:g}), loss {here.value:.9g}"
    return StationaryPoint(here.params, here.value, here.grad_norm, here.eigenvalues, null_tolerance, status, message, iterations)


@dataclass(frozen=True, eq=False)
class _Point:
    """Parameters with value, gradient and the Hessian's eigenpairs."""

    params: np.ndarray
    value: float
    grad: np.ndarray
    hessian: np.ndarray
    eigenvalues: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, obj: Objective, params: np.ndarray, value: float, grad: np.ndarray) -> _Point:
        size, weights = params.size, obj.weights
        hessian = np.asarray(obj.hessian(params))
        eigenvalues, vectors = np.linalg.eigh(hessian.reshape(size, size))
        weights = np.ones(len(params)) if weights is None else len(params) * np.asarray(weights)
        return cls(params, float(value), np.asarray(grad), hessian.reshape(*params.shape, *params.shape), eigenvalues, vectors, weights)

    @classmethod
    def blank(cls, params: np.ndarray, value: float, grad: np.ndarray) -> _Point:
        """Before the Hessian is known, or where it is not."""
        size = params.size
        return cls(params, float(value), np.asarray(grad), np.full((*params.shape, *params.shape), np.nan), np.full(size, np.nan),
                   np.full((size, size), np.nan), np.ones(len(params)))

    def verdict(self, tol: float) -> str | None:
        """"converged" or "undecided" where the gradient is below `tol`; None where there is still a way to go, or nothing is known."""
        if not self.grad_norm <= tol or np.isnan(self.eigenvalues).any():
            return None
        if self.flat_rows.size:
            return "undecided"
        step = np.linalg.norm(self.step(0.0), axis=1)
        return "converged" if (step <= _NEAR * self._sizes).all() else None

    @property
    def _sizes(self) -> np.ndarray:
        found: np.ndarray = np.maximum(1.0, np.linalg.norm(self.params, axis=1))
        return found

    @property
    def flat_rows(self) -> np.ndarray:
        """Parameters with second derivatives that are small against the largest, and no stationary point by their own block."""
        n = len(self.params)
        present = self.weights > 0
        norms = np.zeros(n)
        norms[present] = np.linalg.norm(self.hessian.reshape(n, -1)[present], axis=1) / self.weights[present]
        flat = np.flatnonzero(present & (norms <= _FLAT * norms.max())) if norms.max() > 0 else np.zeros(0, dtype=int)
        return np.array([i for i in flat if not self._explained(self.hessian[i, :, i], self.grad[i], self._sizes[i])], dtype=int)

    @staticmethod
    def _explained(block: np.ndarray, row: np.ndarray, size: float) -> bool:
        """Whether a stationary point of this block is so near that the gradient is explained by it."""
        largest = np.abs(block).max()
        if not largest > 0:
            return False
        step = np.linalg.lstsq(block / largest, row / largest, rcond=_FLAT)[0]
        left = np.linalg.norm(row / largest - block / largest @ step)
        return bool(np.linalg.norm(step) + left <= _EXACT * size)

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
        with np.errstate(over="ignore"):
            factors[kept] = -self.eigenvalues[kept] / (self.eigenvalues[kept] ** 2 + damping)
        found: np.ndarray = (self.vectors @ (factors * (self.grad.ravel() @ self.vectors))).reshape(self.params.shape)
        return found

    def foreseen(self, step: np.ndarray) -> float:
        """Norm of the gradient after a step, to first order."""
        along = self.vectors @ (self.eigenvalues * (step.ravel() @ self.vectors))
        return float(np.linalg.norm(self.grad.ravel() + along))
