"""Step sizes: one number, or a function of the step, and the flow time that they add up to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_positive, check_real
from overparam.objectives.base import Objective

if TYPE_CHECKING:
    from overparam.trajectory import Trajectory

__all__ = ["StepSizes", "check_decay", "check_precondition", "check_step_size", "factors_of", "resumed_step_size"]

_AT_ONCE = 4096  # values of a function computed ahead of a burst, some of which it may not use


def check_step_size(value: Any) -> float | Callable[[int], float]:
    """Return ``step_size=``: a number above 0, or a function of the step, which is tried at step 0."""
    if not callable(value):
        return check_positive(value, "step_size")
    try:
        inspect.signature(value).bind(0)
    except TypeError as error:
        raise ValueError(f"step_size must be a number or a function of one argument, the step; {value!r} cannot be called as "
                         f"step_size(0): {error}"[:400]) from None
    except ValueError:
        pass  # some compiled functions do not say what they take
    _value(value, 0)
    found: float | Callable[[int], float] = value
    return found


def check_decay(value: Any, name: str) -> float:
    """Return a finite float from 0 on and below 1."""
    number = check_real(value, name)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{name} must be a finite number not below 0 and below 1; got {value!r}"[:200])
    return number


def _value(function: Callable[[int], float], step: int) -> float:
    """The function at a step."""
    try:
        found = function(step)
    except Exception as error:
        raise ValueError(f"step_size({step}) failed: {type(error).__name__}: {error}"[:400]) from error
    try:
        return check_real(found, "step_size", minimum=0.0)
    except ValueError:
        raise ValueError(f"step_size({step}) must be a finite number not below 0; got {found!r}"[:200]) from None


def _name(function: Callable[..., Any]) -> str:
    """What a file says of a function, which it cannot hold."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return repr(function)[:200] if name is None else f"{module}.{name}"


class StepSizes:
    """The step sizes of a run: `given` as :func:`check_step_size` returns it."""

    def __init__(self, given: float | Callable[[int], float]) -> None:
        self._given: Any = given
        self.constant = None if callable(given) else given
        self._step, self._time, self._carry = 0, 0.0, 0.0

    def at(self, step: int) -> float:
        """Size of the step from `step` to the next."""
        return self.constant if self.constant is not None else _value(self._given, step)

    def array(self, step: int, steps: int) -> np.ndarray:
        """(steps,) sizes of the steps from `step` on, or fewer: a part of a long burst."""
        return np.array([self.at(step + later) for later in range(min(steps, _AT_ONCE))])

    def time(self, step: int) -> float:
        """Flow time after `step` steps: the sizes of all of them, summed with compensation where they are not one number."""
        if self.constant is not None:
            return step * self.constant
        if step < self._step:
            self._step, self._time, self._carry = 0, 0.0, 0.0
        while self._step < step:
            part = self.at(self._step) + self._carry
            total = self._time + part
            self._time, self._carry, self._step = total, part - (total - self._time), self._step + 1
        return self._time

    def settings(self) -> dict[str, Any]:
        """What a trajectory says of them: a function by its name."""
        if self.constant is not None:
            return {"step_size": self.constant}
        return {"step_size": None, "step_size_function": _name(self._given)}


def resumed_step_size(trajectory: Trajectory, given: Any) -> float | Callable[[int], float]:
    """The step size of a run that is extended: the stored number, or the function, which must be given again."""
    stored, step, time = trajectory.settings, int(trajectory.steps[-1]), float(trajectory.times[-1])
    was, name = stored["step_size"], stored.get("step_size_function")
    if was is not None:
        if given is not None and (callable(given) or given != was):
            raise ValueError(f"step_size of a run that is extended must stay {was!r}, or its times would not fit; got "
                             f"{given!r}. Start a new run from trajectory.final_state instead")
        result: float | Callable[[int], float] = was
        return result
    if not callable(given):
        raise ValueError(f"step_size of this run is a function ({name}), which is not stored: give it again, "
                         f"extend(steps=..., step_size=function); got {given!r}"[:400])
    found = StepSizes(given).time(step)
    if found != time:
        raise ValueError(f"step_size must be the function of this run ({name}), whose first {step} steps make a flow time of {time!r}; "
                         f"those of the one given make {found!r}. Start a new run from trajectory.final_state instead")
    result = given
    return result


def check_precondition(value: Any) -> str | None:
    """Return ``precondition=``: None or "weights"."""
    if value is not None and not (isinstance(value, str) and value == "weights"):
        raise ValueError(f"precondition must be None or 'weights' (gradient rows divided by the student's weights); got {value!r}"[:200])
    found: str | None = value
    return found


def factors_of(objective: Objective, n: int, precondition: str | None) -> np.ndarray | None:
    """(n,) factors of the gradient rows: 1/π_i, and 0 where π_i is 0, whose row is 0 as well; None for 1 throughout."""
    if precondition is None:
        return None
    weights = np.full(n, 1 / n) if objective.weights is None else np.asarray(objective.weights, dtype=np.float64)
    found: np.ndarray | None = np.divide(1.0, weights, out=np.zeros(n), where=weights > 0)
    return found
