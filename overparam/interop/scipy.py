r"""Objectives in ``scipy.optimize.minimize``, which knows flat vectors only."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam._validation import check_array
from overparam.layout import Layout
from overparam.objectives.base import Objective, check_objective, value_and_grad_of

__all__ = ["Flat", "wrap"]


class Flat:
    """An objective as a function of flat vectors; :func:`overparam.interop.scipy.wrap` makes it.

    Parameters
    ----------
    objective : Objective
        What is to be minimised.
    params0 : array or State
        The start; gives the shape of the parameters.

    Attributes
    ----------
    objective : Objective
    x0 : (size,) array
        The start as a vector: rows one after the other; real and imaginary parts of complex numbers in turn.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.interop import scipy
    >>> flat = scipy.wrap(op.ScoreMatching(op.Gaussian([0.0, 0.0])), [[2.0, 0.0], [1.5, 1.0]])
    >>> flat.x0.tolist(), flat.params(flat.x0).shape
    ([2.0, 0.0, 1.5, 1.0], (2, 2))
    >>> value, grad = flat(flat.x0)
    >>> grad.shape
    (4,)
    """

    def __init__(self, objective: Objective, params0: Any) -> None:
        self.objective = check_objective(objective)
        params = check_array(params0, "params0", ndim=objective.params_ndim, complex=objective.complex_params)
        self._layout = Layout(params.shape, params.dtype.kind == "c")
        self.x0: np.ndarray = self.flat(params)

    def flat(self, params: Any) -> np.ndarray:
        """(size,) vector of `params`."""
        params = np.asarray(params)
        if params.shape != self._layout.shape:
            raise ValueError(f"params must have the shape of params0, {self._layout.shape}; got {params.shape}")
        vector: np.ndarray = self._layout.pack(params).ravel()
        return vector

    def params(self, x: Any) -> np.ndarray:
        """Parameters, in their own shape, of a (size,) vector `x`."""
        n, k = self._layout.rows
        x = check_array(x, "x", ndim=1)
        if x.size != n * k:
            raise ValueError(f"x must have {n * k} entries, the numbers in params0; got {x.size}")
        found: np.ndarray = self._layout.unpack(x.reshape(n, k))
        return found

    def __call__(self, x: Any) -> tuple[float, np.ndarray]:
        """Value and (size,) gradient, what ``jac=True`` asks for."""
        value, grad = value_and_grad_of(self.objective, self.params(x))
        return float(value), self.flat(grad)

    def hessp(self, x: Any, p: Any) -> np.ndarray:
        """(size,) product of the Hessian at `x` with `p`."""
        return self.flat(self.objective.hvp(self.params(x), self.params(p)))

    def hess(self, x: Any) -> np.ndarray:
        """(size, size) Hessian at `x`, of real parameters."""
        if self._layout.complex:
            raise ValueError("a Hessian is written out for real parameters only; use hessp")
        size = np.size(x)
        return np.asarray(self.objective.hessian(self.params(x))).reshape(size, size)

    def __repr__(self) -> str:
        return f"Flat({self.objective!r}, shape {self._layout.shape})"


def wrap(objective: Objective, params0: Any) -> Flat:
    """Make a function of flat vectors of an objective, as ``scipy.optimize.minimize(..., jac=True)`` takes it.

    Parameters
    ----------
    objective : Objective
        Any, your own included.
    params0 : (n, d) array
        Where to start, in the objective's own shape; complex where the objective takes that.

    Returns
    -------
    Flat
        Call it for (value, gradient); ``x0`` is the start, ``hessp`` and ``hess`` the second derivative, ``params(x)`` the way back.

    Raises
    ------
    ValueError
        If `objective` is none, or `params0` has another number of axes than it takes.

    Examples
    --------
    >>> from scipy.optimize import minimize
    >>> import overparam as op
    >>> from overparam.interop.scipy import wrap
    >>> flat = wrap(op.ScoreMatching(op.Gaussian([1.0, 2.0])), [[0.5, 0.0], [0.0, -0.5]])
    >>> found = minimize(flat, flat.x0, jac=True, hessp=flat.hessp, method="trust-ncg", tol=1e-6)
    >>> found.success, bool(found.fun < 1e-6), flat.params(found.x).shape
    (True, True, (2, 2))
    """
    return Flat(objective, params0)
