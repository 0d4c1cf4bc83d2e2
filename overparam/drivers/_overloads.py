"""What drivers return, told to type checkers: a trajectory from one start, a list of them from a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

if TYPE_CHECKING:
    from overparam.objectives.base import Objective
    from overparam.state import State
    from overparam.trajectory import Trajectory

__all__ = ["Driver", "one_or_many"]

Settings = ParamSpec("Settings")
Loss = TypeVar("Loss", bound="Objective", contravariant=True)


class Driver(Protocol[Loss, Settings]):
    """A driver: a State is one start; of an array only its shape, which types do not hold, says whether it is one or a batch."""

    __name__: str

    @overload
    def __call__(self, objective: Loss, params0: State, *args: Settings.args, **settings: Settings.kwargs) -> Trajectory: ...

    @overload
    def __call__(self, objective: Loss, params0: Any, *args: Settings.args, **settings: Settings.kwargs) -> Any: ...


def one_or_many(
    function: Callable[Concatenate[Loss, Any, Settings], Trajectory | list[Trajectory]],
) -> Driver[Loss, Settings]:
    """The same function, with the two types of :class:`Driver`."""
    return cast("Driver[Loss, Settings]", function)
