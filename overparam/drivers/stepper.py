"""What the loop needs of a driver: how to move a state, how to look at one, and what is seen there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam.objectives.evaluation import Evaluation
from overparam.state import State

if TYPE_CHECKING:
    from overparam._core.descent import Job

__all__ = ["Advance", "OwnSteps", "Record", "Stepper"]


@dataclass(frozen=True, eq=False)
class Record:
    """What a stop test is given: ``stop(record)``.

    Attributes
    ----------
    step, time : int and float
        Steps taken and flow time.
    loss, loss_error, grad_norm : float
    state : State
    weights : (n,) array or None
        The student's mixture weights, where the driver moves them.
    params : (n, d) array
        Expanded on access; ``np.asarray(record)`` is the same.
    """

    step: int
    time: float
    loss: float
    loss_error: float
    grad_norm: float
    state: State = field(repr=False)
    weights: np.ndarray | None = field(default=None, repr=False)

    @property
    def params(self) -> np.ndarray:
        """(n, d) parameters."""
        return self.state.params

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.params, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Advance:
    """Where a stepper got to: `reason` is None while all is well, else "diverged" or "not_finite"."""

    state: State
    steps: int
    reason: str | None = None


class Stepper(ABC):
    """What the loop needs of a driver."""

    evaluations: int = 0
    ceiling: float = np.inf

    @abstractmethod
    def look(self, state: State) -> Evaluation:
        """Value and gradient at a record."""

    @abstractmethod
    def moves(self, state: State, steps: int) -> Generator[Job, None, Advance]:
        """At least one and up to `steps` steps from `state`: a generator of the compiled jobs they take, which others may run."""

    @abstractmethod
    def time(self, step: int) -> float:
        """Flow time after `step` steps."""

    def count(self, step: int) -> int:
        """What the trajectory calls `step`, where the driver's own steps are others."""
        return step

    def place(self, step: int) -> str:
        """`step` in words."""
        return f"step {step}"

    def rough_look(self, state: State) -> Evaluation:
        """Value and gradient where the tolerance is out of reach."""
        return self.look(state)

    def weights_of(self, state: State) -> np.ndarray | None:
        """(n,) mixture weights that belong to `state`, where the driver moves them; None where they are the objective's."""
        return None

    def remark(self) -> str:
        """What else there is to say of the run, for its message."""
        return ""

    def continuation(self) -> dict[str, Any]:
        """What is needed to go on later, JSON-able."""
        return {}


class OwnSteps(Stepper):
    """A stepper that takes its steps by itself."""

    @abstractmethod
    def advance(self, state: State, steps: int) -> Advance:
        """At least one and up to `steps` steps from `state`."""

    def moves(self, state: State, steps: int) -> Generator[Job, None, Advance]:
        yield from ()
        return self.advance(state, steps)
