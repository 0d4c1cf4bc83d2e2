"""Objective and Plan: what a loss has to offer, and what a driver may ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from overparam._validation import check_array
from overparam.objectives.bursts import Moves, driven
from overparam.objectives.evaluation import Burst, Estimate, Evaluation, check_representable
from overparam.state import State

__all__ = ["Objective", "Plan", "check_direction", "check_hessian_size", "check_objective", "value_and_grad_of"]

_DIFFERENCE = np.finfo(np.float64).eps ** 0.2  # where the truncation of fourth-order differences meets rounding
_MOST_COORDINATES = 5000  # of a Hessian that is written out: 200 MB


def check_hessian_size(coordinates: int) -> None:
    """Raise ValueError if a Hessian in so many coordinates is not to be written out."""
    if coordinates > _MOST_COORDINATES:
        raise ValueError(f"params have {coordinates} coordinates, and their Hessian {coordinates:,}² entries; up to {_MOST_COORDINATES} "
                         "coordinates are written out. Use hvp(params, direction), which needs no more than the gradient")


def _point(params: Any, complex: bool) -> np.ndarray:
    return params.params if isinstance(params, State) else check_array(params, "params", ndim=(1, 2, 3, 4), complex=complex)


def check_direction(params: Any, direction: Any, complex: bool = False) -> np.ndarray:
    """`direction` as an array of the shape of `params`, array or State."""
    shape = params.params.shape if isinstance(params, State) else np.shape(params)
    array = check_array(direction, "direction", ndim=(1, 2, 3, 4), complex=complex)
    if array.shape != shape:
        raise ValueError(f"direction must have the shape of params, {shape}; got {array.shape}")
    return array


class Plan(ABC):
    """How an objective is evaluated around a state: which rule, which kernel, valid where, how accurate.

    A plan must implement :meth:`evaluate`; :meth:`covers` and :meth:`moves` have defaults that always work.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> state = obj.start([[2.0], [-1.0]])
    >>> plan = obj.plan(state)
    >>> plan.covers(state), plan.covers(obj.start([[9.0], [-1.0]]))
    (True, False)
    >>> abs(plan.evaluate(state).value - obj.value([[2.0], [-1.0]])) < 1e-12
    True
    """

    nodes: int = 0
    rule: str = "closed form"

    @abstractmethod
    def evaluate(self, state: State) -> Evaluation:
        """Value, gradient and their errors at `state`."""

    def covers(self, state: State) -> bool:
        """Whether the plan may be used at `state`."""
        return True

    def resumes(self, state: State) -> bool:
        """Whether `state` is where :meth:`moves` paused between two looks at :meth:`covers`: a pause must not bring another look."""
        return False

    def hessian(self, state: State) -> np.ndarray:
        """(n, k, n, k) Hessian at `state` in the state's coordinates, for implicit steps.

        By differences of :meth:`evaluate` unless the plan knows better.
        """
        step = _DIFFERENCE * (1 + np.abs(state.coordinates).max())

        def column(unit: np.ndarray) -> np.ndarray:
            rows = [self.evaluate(state.moved(state.centre, state.deviations + m * step * unit)).rows for m in (1, -1, 2, -2)]
            found: np.ndarray = (8 * (rows[0] - rows[1]) - (rows[2] - rows[3])) / (12 * step)
            return found

        size, shape = state.n * state.k, (state.n, state.k)
        columns = np.stack([column(unit.reshape(shape)).ravel() for unit in np.eye(size)])
        found: np.ndarray = ((columns + columns.T) / 2).reshape(2 * shape)
        return found

    def settle(self, state: State) -> tuple[State, bool]:
        """The same parameters split into centre and deviations as this plan moves them, and whether the centre moves on its own."""
        return state.moved(np.zeros(state.k), state.coordinates), False

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What centre (k,) and deviations (n, k) move along, without errors: for integrators, which ask often.

        The coordinates are those of `template`, split as :meth:`settle` splits them; where the centre moves, deviations are meant to have
        mean 0.
        """
        found = self.evaluate(template.moved(centre, deviations))
        return found.centre_grad, found.grad

    @property
    def compiled(self) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Evaluator capsule, (k, k) axes of its coordinates as columns, and its box.

        The box is (4, k): lowest and highest coordinates, least and largest spreads on these axes. None for a plan without a compiled
        evaluator.
        """
        return None

    def step(self, state: State, evaluation: Evaluation, step_size: float) -> State:
        """One step of gradient descent from `state`, `step_size` times its `evaluation`."""
        return state.moved(state.centre - step_size * evaluation.centre_grad, state.deviations - step_size * evaluation.grad)

    def burst(self, state: State, step_size: float, steps: int, ceiling: float) -> Burst:
        """Up to `steps` steps of gradient descent by `step_size`, while the loss is not above `ceiling`."""
        return driven(self.moves(state, step_size, steps, ceiling))

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """The steps of :meth:`burst` as a generator of the compiled jobs that they take, for which others may care; this loop takes none.

        `step_size`, `steps` and `ceiling` are those of :meth:`burst`.
        """
        yield from ()
        value = np.nan
        for done in range(steps):
            if not self.covers(state):
                return Burst(state, done, "replan", value)
            found = self.evaluate(state)
            value = found.value
            if not np.isfinite(value) or not np.isfinite(found.grad).all():
                return Burst(state, done, "not_finite", value)
            if value > ceiling:
                return Burst(state, done, "diverged", value)
            with np.errstate(over="ignore"):
                centre = state.centre - step_size * found.centre_grad
                deviations = state.deviations - step_size * found.grad
            if not (np.isfinite(centre).all() and np.isfinite(deviations).all()):
                return Burst(state, done, "not_finite", value)
            state = state.moved(centre, deviations)
        return Burst(state, steps, "done", value)


def value_and_grad_of(objective: Objective, params: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient as a user's own objective returns them; ValueError for a shape that would be broadcast silently."""
    found = objective.value_and_grad(params)
    try:
        value, grad = found
    except (TypeError, ValueError):
        raise ValueError(f"{type(objective).__name__}.value_and_grad must return two things, the loss and its gradient; got "
                         f"{found!r}"[:300]) from None
    grad = np.asarray(grad)
    if np.size(value) != 1 or grad.shape != params.shape:
        raise ValueError(f"{type(objective).__name__}.value_and_grad must return one number and a gradient of the shape of params, "
                         f"{params.shape}; got shapes {np.shape(value)} and {grad.shape}")
    return value, grad


class _DirectPlan(Plan):
    """The plan of an objective that only has value and gradient: everywhere valid, no bounds."""

    rule = "direct"

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def evaluate(self, state: State) -> Evaluation:
        value, grad = value_and_grad_of(self._objective, state.params)
        if state.layout is not None:
            grad = state.layout.pack(grad)
        if state.basis is not None:
            grad = grad @ state.basis
        return Evaluation(float(value), np.zeros(state.k), np.asarray(grad, dtype=np.float64), np.nan, np.full(state.n, np.nan))


class Objective(ABC):
    r"""Base of all objectives; derive from it for a loss of your own.

    A subclass must implement :meth:`value_and_grad` for (n, d) arrays; every driver then works with it. To offer bounds or
    compiled steps it also implements :meth:`plan`. Parameters of another shape, a stack of matrices say, need `params_ndim`, the number
    of their axes; complex ones `complex_params`, with the gradient :math:`\partial_{\Re}L+i\,\partial_{\Im}L`.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> class Quadratic(op.Objective):
    ...     def value_and_grad(self, params):
    ...         return float((params**2).sum()), 2 * params
    >>> traj = op.gradient_descent(Quadratic(), np.ones((2, 3)), step_size=0.25, steps=4)
    >>> float(traj.loss[-1]) == 6 * 0.5**8
    True
    """

    #: Whether plans move centre and deviations apart, by deviation rows that are homogeneous in deviations far below everything else.
    #: Only then can a run start from a State with a `log_scale`.
    follows_log_scale: ClassVar[bool] = False

    #: Number of axes of the parameters; drivers take one more for a batch of starts.
    params_ndim: ClassVar[int] = 2
    #: Whether they may be complex.
    complex_params: ClassVar[bool] = False

    @abstractmethod
    def value_and_grad(self, params: Any) -> tuple[float, np.ndarray]:
        """Loss and its gradient, of the same shape as `params`."""

    def value(self, params: Any) -> float:
        """Loss at `params`."""
        return self.value_and_grad(params)[0]

    def grad(self, params: Any) -> np.ndarray:
        """Gradient at `params`."""
        return self.value_and_grad(params)[1]

    def hvp(self, params: Any, direction: Any) -> np.ndarray:
        r"""Product of the Hessian at `params` with `direction`, an array of the same shape.

        This default takes fourth-order central differences of the gradient, four of them, a step
        :math:`h=\epsilon^{1/5}(1+\max|\mu|)` long: right to about 1e-12 of :math:`(1+\max|\mu|)^4` times the fifth derivatives for a
        gradient that is right to rounding, and to the gradient's relative error over 7e-4 otherwise.

        Raises
        ------
        ValueError
            If `direction` has another shape than `params`, or the product overflows.
        """
        params, direction = _point(params, self.complex_params), check_direction(params, direction, self.complex_params)
        size = np.abs(direction).max()
        if size == 0:
            return np.zeros_like(direction)
        step, unit = _DIFFERENCE * (1 + np.abs(params).max()), direction / size
        near, far = ((self.grad(params + m * step * unit) - self.grad(params - m * step * unit)) for m in (1, 2))
        with np.errstate(over="ignore", invalid="ignore"):
            found: np.ndarray = (8 * near - far) / (12 * step) * size
        if not np.isfinite(found).all():
            raise ValueError("the Hessian's product with direction overflows at these params (largest coordinate "
                             f"{np.abs(params).max():.3g})")
        return found

    def hessian(self, params: Any) -> np.ndarray:
        """Hessian at `params`, of shape ``(*params.shape, *params.shape)`` and symmetric.

        This default takes one :meth:`hvp` for each coordinate and the symmetric part of what they give.

        Raises
        ------
        ValueError
            If there are more than 5000 coordinates: use :meth:`hvp`.
        """
        params = _point(params, complex=False)
        if params.dtype.kind == "c":
            raise ValueError("a Hessian is written out for real parameters only; use hvp(params, direction), which takes complex ones")
        check_hessian_size(params.size)
        columns = np.stack([self.hvp(params, unit.reshape(params.shape)).ravel() for unit in np.eye(params.size)])
        found: np.ndarray = ((columns + columns.T) / 2).reshape(2 * params.shape)
        return found

    def estimate(self, params: Any) -> Estimate:
        """Value and gradient with their errors; never raises for accuracy, but where the loss or its gradient overflows."""
        state = self.start(params)
        plan = self.plan(state)
        found = plan.evaluate(state)
        if found.bounds is not None:  # a user's own loss may be infinite where it likes
            check_representable(state, found.value, found.rows)
        finite = not (np.isinf(found.value) or np.isinf(found.value_error) or np.isinf(found.grad_error).any())  # NaN: no error is known
        return Estimate(found.value, state.shaped(state.expand_gradient(found.rows)), found.value_error, found.grad_error, bool(finite),
                        plan.nodes, plan.rule, found.bounds)

    def start(self, params: Any) -> State:
        """Validate `params` and return the state a driver starts from, reduced where that is exact."""
        if isinstance(params, State):
            return params
        return State.laid_out(check_array(params, "params", ndim=self.params_ndim, complex=self.complex_params))

    def plan(self, state: State, previous: Plan | None = None) -> Plan:
        """How to evaluate the objective around `state`; `previous` is the plan that no longer serves."""
        return _DirectPlan(self)

    def minibatch(self, params: np.ndarray, batch_size: int, rng: np.random.Generator, errors: bool = False) -> Evaluation:
        """Value and gradient at `params` on `batch_size` fresh draws by `rng`, for ``op.sgd``.

        At a record (`errors`) with the standard error of the value.
        """
        raise TypeError(f"{type(self).__name__} has no minibatch(params, batch_size, rng, errors=False), which op.sgd needs: implement "
                        "it, or use op.gradient_descent")

    @property
    def weights(self) -> np.ndarray | None:
        """The student's mixture weights, for objectives that have them."""
        return None

    def describe(self) -> dict[str, Any]:
        """JSON-able description; built-in objectives can be made again from it."""
        return {"kind": type(self).__name__}

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value!r}" for key, value in self.describe().items() if key != "kind")
        return f"{type(self).__name__}({inside})"


def check_objective(value: Any) -> Objective:
    """Return `value` if it is an Objective."""
    if not isinstance(value, Objective):
        raise ValueError(f"objective must be an overparam.Objective such as op.ScoreMatching(teacher); got {value!r}"[:300])
    return value
