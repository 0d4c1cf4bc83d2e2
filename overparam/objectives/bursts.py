"""Compiled bursts as generators: a plan says what is to be run; who drives it runs that, alone or beside what other plans ask for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from overparam._core.descent import Job
    from overparam.objectives.evaluation import Burst

__all__ = ["Moves", "compiled_steps", "driven"]

Result = TypeVar("Result")
Moves: TypeAlias = "Generator[Job, None, Burst]"


def compiled_steps(capsule: Any, centre: np.ndarray, deviations: np.ndarray, step_size: float, steps: int, moving: bool,
                   box: Any, row_floor: np.ndarray, value_floor: float, ceiling: float) -> Generator[Job, None, tuple[int, str, float]]:
    """Steps of descent, in place on `centre` and `deviations`, while the box holds them and no row or value is below its floor.

    Returns
    -------
    tuple
        Steps taken; "done", "replan", "diverged" or "not_finite"; the last value seen, NaN if none.
    """
    from overparam._core.descent import REASONS, Job

    low, high, least, most = box
    job = Job(capsule, centre, deviations, step_size, steps, moving, low, high, least, most, row_floor, value_floor, ceiling)
    yield job
    done, code, value = job.found
    names = {REASONS[name]: name for name in ("done", "diverged", "not_finite")}
    return done, names.get(code, "replan"), value


def driven(course: Generator[Job, None, Result]) -> Result:
    """What `course` comes to, with each of its jobs run by itself. Ctrl-C, and whatever else stops a job, is told to the course."""
    from overparam._core.descent import run

    error: BaseException | None = None
    while True:
        try:
            job = next(course) if error is None else course.throw(error)
            error = None
            run([job])
        except StopIteration as end:
            result: Result = end.value
            return result
        except BaseException as raised:
            if course.gi_frame is None:  # type: ignore[attr-defined]  # it is the course that raised this
                raise
            error = raised
