"""Deep matrix factorization: a product of square matrices that learns a target, with a balancing term."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from overparam._validation import check_array, check_integer, check_real
from overparam.certificate import Bounds
from overparam.layout import Layout
from overparam.objectives.base import Objective, Plan
from overparam.objectives.closed_form import ClosedFormPlan, by_rounding
from overparam.objectives.evaluation import check_representable
from overparam.state import State

__all__ = ["MatrixFactorization"]

_EPS = np.finfo(np.float64).eps


class MatrixFactorization(Objective):
    r"""Loss of N square factors, real or complex, whose product learns a target.

    .. math:: L(W) = \tfrac12\|\Sigma-W_N\cdots W_1\|_F^2+\tfrac a4\sum_{j=1}^{N-1}\|\Delta_{j,j+1}\|_F^2,\qquad
              \Delta_{j,j+1}=W_jW_j^H-W_{j+1}^HW_{j+1},

    .. math:: \nabla_{W_j}L = -(W_N\cdots W_{j+1})^H(\Sigma-W_N\cdots W_1)(W_{j-1}\cdots W_1)^H
              +a\,(\Delta_{j,j+1}W_j-W_j\Delta_{j-1,j}),\qquad \Delta_{0,1}=\Delta_{N,N+1}=0.

    For complex factors the gradient is :math:`\partial_{\Re}L+i\,\partial_{\Im}L`: a step along it is one of gradient descent in real and
    imaginary parts.

    Parameters
    ----------
    target : (d, d) array
        :math:`\Sigma`. A complex one needs complex factors.
    depth : int
        N, at least 2.
    balance : float
        :math:`a\ge0`.

    Raises
    ------
    ValueError
        If the target is not a square matrix of finite numbers, depth is below 2, or balance is negative.

    Notes
    -----
    Parameters have shape (depth, d, d); ``params[0]`` is :math:`W_1`. Errors are bounds on rounding, one per row of a factor: to first
    order, from the norms of the factors, doubled.

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925): loss and gradient of four layers [published]; other depths are the same formula.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> obj = op.MatrixFactorization(np.eye(2), depth=3, balance=0.5)
    >>> value, grad = obj.value_and_grad(np.stack([np.eye(2)] * 3))
    >>> value, grad.shape, float(abs(grad).max())
    (0.0, (3, 2, 2), 0.0)
    >>> run = op.gradient_descent(obj, 0.9 * np.stack([np.eye(2)] * 3), step_size=0.1, steps=200)
    >>> bool(run.loss[-1] < 1e-25), run.params.shape[1:]
    (True, (3, 2, 2))
    """

    params_ndim: ClassVar[int] = 3
    complex_params: ClassVar[bool] = True

    def __init__(self, target: Any, depth: int = 4, balance: float = 1.0) -> None:
        target = check_array(target, "target", ndim=2, complex=True)
        if target.shape[0] != target.shape[1]:
            raise ValueError(f"target must be a square matrix; got shape {target.shape}")
        self.target = target.copy()
        self.target.flags.writeable = False
        self.depth = check_integer(depth, "depth", minimum=2)
        self.balance = check_real(balance, "balance", minimum=0.0)
        self._plans: dict[bool, ClosedFormPlan] = {}

    @property
    def d(self) -> int:
        """Rows of a factor."""
        return len(self.target)

    def start(self, params: Any) -> State:
        """The state of factors (depth, d, d)."""
        wanted = (self.depth, self.d, self.d)
        state = params if isinstance(params, State) else super().start(params)
        layout = state.layout
        if layout is None or layout.shape != wanted:
            given = (state.n, state.d) if layout is None else layout.shape
            raise ValueError(f"params must have shape {wanted}, the factors W_1 to W_{self.depth} as (d, d) matrices; got {given}")
        if self.target.dtype.kind == "c" and not layout.complex:
            raise ValueError("params are real and the target is complex, which no product of real factors is: give complex params")
        return state

    def plan(self, state: State, previous: Plan | None = None) -> Plan:
        """The one plan, which serves everywhere."""
        layout: Any = self.start(state).layout  # starts of stacks of matrices have one
        if layout.complex not in self._plans:
            from overparam._core.factorization import Evaluator

            target = Layout((self.d, self.d), layout.complex).pack(self.target)
            self._plans[layout.complex] = ClosedFormPlan(Evaluator(target, self.depth, self.balance), self._rounding(layout))
        return self._plans[layout.complex]

    def value_and_grad(self, params: Any) -> tuple[float, np.ndarray]:
        state = self.start(params)
        found = self.plan(state).evaluate(state)
        check_representable(state, found.value, found.rows)
        return found.value, state.shaped(found.rows)

    def product(self, params: Any) -> np.ndarray:
        r"""(d, d) product :math:`W_N\cdots W_1`.

        Parameters
        ----------
        params : (depth, d, d) array or State
        """
        factors = self.start(params).params
        found = factors[0]
        with np.errstate(over="ignore", invalid="ignore"):
            for factor in factors[1:]:
                found = factor @ found
        if not np.isfinite(found).all():
            raise ValueError("params are too large: their product overflows")
        result: np.ndarray = found
        return result

    def _rounding(self, layout: Layout) -> Any:
        """A bound on what rounding does to value and rows."""
        count, size = self.depth, self.d**2 * (2 if layout.complex else 1)
        step = (self.d + 4) * _EPS * (2 if layout.complex else 1)  # of a product, by the norms of its factors
        target = float(np.linalg.norm(self.target))

        def bound(rows: np.ndarray, value: float, grad: np.ndarray) -> Bounds:
            norms = np.linalg.norm(rows.reshape(count, -1), axis=1)
            others = np.array([math.prod(np.delete(norms, j)) for j in range(count)])
            whole = float(others[0] * norms[0])
            rest = math.sqrt(2 * value)
            of_rest = count * step * whole + _EPS * (whole + target)
            of_value = rest * of_rest + of_rest**2 / 2 + size * _EPS * value
            of_grad = others * (of_rest + count * step * rest)
            if self.balance:
                squares = norms[:-1] ** 2 + norms[1:] ** 2
                apart = math.sqrt(4 * value / self.balance)  # every |Delta| is at most this
                of_apart = step * squares
                of_value += self.balance / 4 * float((2 * np.minimum(apart, squares) * of_apart + of_apart**2).sum())
                around = np.concatenate([[0.0], of_apart + step * np.minimum(apart, squares), [0.0]])
                of_grad += self.balance * norms * (around[1:] + around[:-1])
            sums = 4 * _EPS * np.linalg.norm(grad.reshape(count, -1), axis=1)
            return by_rounding(2 * of_value, np.repeat(2 * of_grad + sums, self.d))

        return bound

    def describe(self) -> dict[str, Any]:
        """JSON-able description."""
        target = self.target
        parts = {"real": target.real.tolist(), "imaginary": target.imag.tolist()} if target.dtype.kind == "c" else target.tolist()
        return {"kind": type(self).__name__, "target": parts, "depth": self.depth, "balance": self.balance}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> MatrixFactorization:
        """Make the objective whose ``describe()`` returned `description`."""
        target = description["target"]
        if isinstance(target, dict):
            target = np.array(target["real"]) + 1j * np.array(target["imaginary"])
        return cls(target, depth=description["depth"], balance=description["balance"])

    def __repr__(self) -> str:
        return f"MatrixFactorization(target of shape {self.target.shape}, depth={self.depth}, balance={self.balance:g})"
