"""One start or many: the runs of a batch go on side by side, with the compiled steps of several in one call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from overparam._validation import check_array
from overparam.drivers.loop import progress_bar, start_of
from overparam.objectives.base import Objective, check_objective
from overparam.objectives.bursts import driven
from overparam.state import State
from overparam.trajectory import Trajectory

if TYPE_CHECKING:
    from overparam._core.descent import Job

__all__ = ["Course", "for_each_start"]

_SIDE_BY_SIDE = 8  # runs at a time for each thread: enough to keep it busy while Python plans; each holds a plan of its own

Course: TypeAlias = "Generator[Job, None, Trajectory]"


def for_each_start(driver: Callable[..., Course], objective: Objective, params0: Any,
                   **settings: Any) -> Trajectory | list[Trajectory]:
    """Run `driver` from `params0`, or from each of a batch of starts (one axis more, or a list): then a list of trajectories.

    A setting ``rng`` (a Generator) gives every run of a batch its own stream. Ctrl-C ends the batch: the list is then that of the runs
    that had begun.
    """
    check_objective(objective)
    axes, complex = objective.params_ndim, objective.complex_params
    batch = isinstance(params0, (list, tuple)) and any(isinstance(start, State) for start in params0)
    if batch:
        params0 = [start if isinstance(start, State) else check_array(start, f"params0[{number}]", ndim=axes, complex=complex)
                   for number, start in enumerate(params0)]
        for start in params0:  # their shapes may differ: a bad one is found before the first run, not after it
            start_of(objective, start)
    elif not isinstance(params0, State):
        params0 = check_array(params0, "params0", ndim=(axes, axes + 1), complex=complex)
        batch = params0.ndim == axes + 1
    if not batch:
        return driven(driver(objective, params0, **settings))
    streams = settings["rng"].spawn(len(params0)) if "rng" in settings else [None] * len(params0)
    with progress_bar(len(params0), "run", settings.pop("progress", None), fractions=True) as bar:
        parts = [_Part(bar) for _ in params0]
        courses = (driver(objective, start, **({**settings, "rng": stream} if stream else settings), bar=part)
                   for start, stream, part in zip(params0, streams, parts, strict=True))
        return _together(courses, parts)


class _Part:
    """A run's part of the bar of a batch, which counts runs."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._done = bar, 0.0

    def update(self, part: float) -> None:
        """So much more of the run is done."""
        self._done += part
        self._bar.update(part)

    def end(self) -> None:
        """The run is over, wherever it stands."""
        self.update(1.0 - self._done)


class _Run:
    """A course on its way: the job that it waits for, or what it came to."""

    def __init__(self, course: Course, number: int, part: _Part) -> None:
        self._course, self._number, self._part = course, number, part
        self.job: Job | None = None
        self.result: Trajectory | None = None

    def go_on(self, error: BaseException | None = None) -> None:
        """To the next job or to the end. What the course raises names its start."""
        try:
            self.job = next(self._course) if error is None else self._course.throw(error)
        except StopIteration as end:
            self.job, self.result = None, end.value
            self._part.end()
        except Exception as raised:
            raised.add_note(f"(the start was params0[{self._number}])")
            raise

    def stopped(self) -> bool:
        """Whether Ctrl-C came while it went on: one ends the batch, not one run of it."""
        return self.result is not None and (self.result.status == "interrupted" or "interrupted" in self.result.attributes)

    def interrupt(self) -> bool:
        """Let a waiting course record where it stands; whether there was anything to keep."""
        if self._course.gi_frame is None:  # type: ignore[attr-defined]
            return self.result is not None
        try:
            self.go_on(KeyboardInterrupt())
        except KeyboardInterrupt:
            return False
        return True


def _together(courses: Iterator[Course], parts: list[_Part]) -> list[Trajectory]:
    """The trajectories of all courses, in their order. What a course raises has those that had ended as its ``runs``."""
    from overparam._core import threads
    from overparam._core.descent import run

    begun: list[_Run] = []
    under_way: list[_Run] = []
    try:
        while True:
            for course in islice(courses, _SIDE_BY_SIDE * threads.count() - len(under_way)):
                begun.append(_Run(course, len(begun), parts[len(begun)]))
                under_way.append(begun[-1])
                begun[-1].go_on()
                if begun[-1].stopped():
                    raise KeyboardInterrupt
            ended = [one for one in under_way if one.job is None]
            under_way = [one for one in under_way if one.job is not None]
            if not ended and not under_way:
                return [one.result for one in begun if one.result is not None]
            run([one.job for one in under_way if one.job is not None])
            for one in under_way:
                one.go_on()
                if one.stopped():
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        kept = [one for one in begun if one.interrupt()]
        if not kept:
            raise
        return [one.result for one in kept if one.result is not None]
    except Exception as error:
        ended = [one for one in begun if one.result is not None]
        error.runs = [one.result for one in ended]  # type: ignore[attr-defined]
        if ended:
            error.add_note(f"(the {len(ended)} runs that had ended are this error's attribute `runs`)")
        raise
