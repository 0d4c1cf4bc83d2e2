"""One ReLU neuron learned by n of them: the population loss over Gaussian inputs, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from overparam._validation import check_array
from overparam.certificate import Bounds
from overparam.objectives.base import Objective, Plan
from overparam.objectives.closed_form import ClosedFormPlan, by_rounding
from overparam.objectives.evaluation import Estimate, Evaluation, check_representable
from overparam.objectives.relu_geometry import Sums, turned
from overparam.state import State

__all__ = ["ReLUNeuron"]

_EPS = np.finfo(np.float64).eps
_ALIEN = 8 * _EPS  # singular values of unit rows below this, times the root of their number, are rounding


class ReLUNeuron(Objective):
    r"""Loss of n ReLU neurons whose sum learns one, over standard Gaussian inputs.

    .. math:: L(w)=\tfrac12\,\mathbb E_{x\sim N(0,I)}\Big(\sum_{i=1}^n[w_i^\top x]_+-[v^\top x]_+\Big)^2

    With :math:`\theta_{ij}` the angle between :math:`w_i` and :math:`w_j`, :math:`\theta_i` that between :math:`w_i` and v, and bars for
    unit vectors,

    .. math:: \nabla_{w_i}L=\tfrac12\Big(\sum_jw_j-v\Big)+\tfrac1{2\pi}\Big[\Big(\sum_{j\ne i}\|w_j\|\sin\theta_{ij}
              -\|v\|\sin\theta_i\Big)\bar w_i-\sum_{j\ne i}\theta_{ij}w_j+\theta_iv\Big].

    Parameters
    ----------
    target : (d,) array
        The neuron to be learned, v; not 0.

    Raises
    ------
    ValueError
        If the target is no vector of finite numbers, or 0.

    Notes
    -----
    Parameters have shape (n, d). A neuron :math:`w_i=0` is silent on both sides of every plane and has gradient 0 here
    (:math:`[0>0]=0`); the loss has no gradient there. A neuron opposite to the target may come to 0 in finite time, where others are many
    and the dimension is small: a flow ends there (``too_hard``), gradient descent goes on around it.

    Both formulas cancel near the optimum, where the loss is of third order in the angles; what is computed does not: with
    :math:`R=\sum_iw_i-v`, :math:`g(\theta)=\sin\theta-\theta\cos\theta`,

    .. math:: L=\tfrac14\|R\|^2+\tfrac1{4\pi}\Big[\sum_{i\ne j}\|w_i\|\|w_j\|g(\theta_{ij})-2\|v\|\sum_i\|w_i\|g(\theta_i)\Big].

    The motion stays in the span of the start and v. States have :math:`k\le\min(d,n+1)` coordinates in a basis whose first axis is
    :math:`\bar v`, so that what a neuron has across it keeps its own relative accuracy however small. Errors are bounds on rounding: at a
    state, of the evaluation alone; ``estimate`` of an array counts the change of basis too.

    References
    ----------
    Xu and Du 2023 (arXiv 2302.10034): setting [published; the factor 1/2 recalled]. The arc-cosine kernel and both forms [derived].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> obj = op.ReLUNeuron([1.0, 0.0])
    >>> value, grad = obj.value_and_grad([[0.5, 1e-9], [0.5, -1e-9]])
    >>> round(value * 3 * np.pi / 4 * 1e27, 6), grad.shape          # zeta^3/(3 pi lambda_1 lambda_2)
    (1.0, (2, 2))
    >>> flow = op.gradient_flow(obj, [[0.3, 0.2], [0.5, -0.1]], t_end=1e6)
    >>> bool(abs(op.rates.local_slope(flow).slope[-1] + 3) < 0.01)
    True
    """

    def __init__(self, target: Any) -> None:
        self.target = check_array(target, "target", ndim=1).copy()
        self.target.flags.writeable = False
        largest = float(np.abs(self.target).max())
        if largest == 0.0:
            raise ValueError("target must not be 0: a neuron without weights has no direction to learn")
        scaled = self.target / largest
        self._length = largest * float(np.linalg.norm(scaled))
        self._axis = scaled / np.linalg.norm(scaled)
        self._plans: dict[tuple[int, int], ClosedFormPlan] = {}

    @property
    def d(self) -> int:
        """Dimension of the inputs."""
        return len(self.target)

    @property
    def length(self) -> float:
        r""":math:`\|v\|`."""
        return self._length

    def start(self, params: Any) -> State:
        """The state of neurons (n, d), reduced to the span that they and the target have."""
        state = params if isinstance(params, State) else super().start(params)
        if state.layout is not None or state.d != self.d:
            shape = (state.n, state.d) if state.layout is None else state.layout.shape
            raise ValueError(f"params must have shape (n, {self.d}), one row per neuron; got {shape}")
        return state if self._is_reduced(state) else self._reduced(state.params)

    def _is_reduced(self, state: State) -> bool:
        if state.origin is not None:
            return False
        first = np.eye(self.d, 1)[:, 0] if state.basis is None else state.basis[:, 0]
        small = state.basis is not None or self.d <= state.n + 1
        return small and bool(np.array_equal(first, self._axis))

    def _reduced(self, params: np.ndarray) -> State:
        n, axis = len(params), self._axis
        along = params @ axis
        across = params - along[:, None] * axis
        left = across @ axis
        across -= left[:, None] * axis
        if self.d > n + 1:
            peaks = np.abs(across).max(axis=1)
            rows = across[peaks > 0] / peaks[peaks > 0, None]
            rows /= np.linalg.norm(rows, axis=1)[:, None]
            _, sizes, found = np.linalg.svd(rows, full_matrices=False)
            others = found[sizes > _ALIEN * math.sqrt(n)].T
        elif np.array_equal(axis, np.eye(self.d)[0]):
            return State(centre=np.zeros(self.d), deviations=params)
        else:
            others = turned(np.eye(self.d), axis)[:, 1:]
        basis = np.ascontiguousarray(np.concatenate([axis[:, None], others], axis=1))
        rows = np.concatenate([(along + left)[:, None], across @ others], axis=1)
        return State(centre=np.zeros(rows.shape[1]), deviations=rows, basis=basis)

    def plan(self, state: State, previous: Plan | None = None) -> Plan:
        """The one plan for as many neurons and coordinates, which serves everywhere."""
        inside = self._is_reduced(state)
        shape = state.n, state.k if inside else self.d
        if shape not in self._plans:
            from overparam._core.relu import Evaluator

            self._plans[shape] = _NeuronPlan(Evaluator(*shape, self._length), self._rounding)
        return self._plans[shape] if inside else _TurnedPlan(self._plans[shape], self._axis, self._with_turn)

    def value_and_grad(self, params: Any) -> tuple[float, np.ndarray]:
        state = self.start(params)
        found = self.plan(state).evaluate(state)
        check_representable(state, found.value, found.rows)
        return found.value, state.expand(found.rows)

    def estimate(self, params: Any) -> Estimate:
        """Value and gradient at `params` with bounds on their rounding, that of the change of basis included."""
        found, state = super().estimate(params), self.start(params)
        if state is params or state.basis is None:
            return found
        known: Any = found.bounds  # not None: a closed form has bounds
        bounds = self._with_turn(known, state.coordinates, found.grad)
        return replace(found, value_error=bounds.total.value, grad_error=bounds.total.grad, bounds=bounds)

    def _rounding(self, rows: np.ndarray, value: float, grad: np.ndarray) -> Bounds:
        """What rounding does to value and rows: constants from the operations of _core/relu_kernel.h, in docs/numerics.md."""
        n, k = rows.shape
        c = ((n + k) / 2 + 8) * _EPS
        sums = Sums.of(rows, self._length)
        sizes = np.abs(rows).sum(axis=0)
        sizes[0] += self._length
        rest = (n + 2) * _EPS * float(np.linalg.norm(sizes))
        whole = rows.sum(axis=0)
        whole[0] -= self._length
        residual = float(np.linalg.norm(whole)) + rest
        of_value = residual * rest / 2 + (k + 2) * _EPS * residual**2 / 4 + 5 * c * (sums.s0 * sums.s3 + 3 * sums.s1 * sums.s2)
        of_grad = rest / 2 + 2 * _EPS * np.linalg.norm(grad, axis=1) + c * (5 * sums.cubes + 2 * sums.squares)
        return by_rounding(of_value + _EPS * value, of_grad)

    def _with_turn(self, bounds: Bounds, rows: np.ndarray, grad: np.ndarray) -> Bounds:
        """Bounds at coordinates `rows`, with what their own rounding does, r of the lengths: the Hessian's blocks off the diagonal are at
        most 1/2, those on it 1/2 and what the kinks give.
        """
        r = (self.d + 2 * rows.shape[1] + 16) * _EPS
        sums, sizes = Sums.of(rows, self._length), np.linalg.norm(grad, axis=1)
        moved = r * (sums.s0 / 2 + (sums.s0 * sums.offsets + sums.s1) / math.pi)
        whole = rows.sum(axis=0)
        whole[0] -= self._length
        of_target = float(np.linalg.norm(whole)) / 2 + 0.5 * sums.s2 + r * sums.s0
        value = r * (float(sums.lengths @ (sizes + moved)) + self._length * of_target)
        return by_rounding(bounds.total.value + value, bounds.total.grad + moved + r * sizes)

    def describe(self) -> dict[str, Any]:
        """JSON-able description."""
        return {"kind": type(self).__name__, "target": self.target.tolist()}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> ReLUNeuron:
        """Make the objective whose ``describe()`` returned `description`."""
        return cls(description["target"])

    def __repr__(self) -> str:
        shown = self.target.tolist() if self.d <= 6 else f"{self.d} numbers"
        return f"ReLUNeuron(target={shown})"


class _NeuronPlan(ClosedFormPlan):
    """The compiled plan. Flows follow each column of the deviations by its size, which must not pass through 0: a neuron that starts
    behind the target's plane crosses it, so what they follow along the target is counted from a place behind all neurons.
    """

    def settle(self, state: State) -> tuple[State, bool]:
        """The same parameters, deviations along the target counted from twice the longest neuron's length behind; the centre is fixed."""
        rows, centre = state.coordinates, np.zeros(state.k)
        centre[0] = -2 * float(np.linalg.norm(rows, axis=1).max())
        return state.moved(centre, rows - centre), False


class _TurnedPlan(Plan):
    """For states in other coordinates than those of ``start``, as Adam's, which are the parameters' own: turned at every evaluation."""

    def __init__(self, inner: ClosedFormPlan, axis: np.ndarray, with_turn: Callable[[Bounds, np.ndarray, np.ndarray], Bounds]) -> None:
        self._inner, self._axis, self._with_turn = inner, axis, with_turn

    def evaluate(self, state: State) -> Evaluation:
        rows = turned(state.expand(state.coordinates), self._axis)
        found = self._inner.evaluate(State.of(rows))
        bounds, grad = self._with_turn(found.bounds, rows, found.rows), turned(found.rows, self._axis)
        grad = grad if state.basis is None else grad @ state.basis
        return Evaluation(found.value, np.zeros(state.k), grad, bounds.total.value, bounds.total.grad, bounds)
