"""The one loop of every driver: advance to the next record, write it down, stop when there is a reason to.

A driver hands in a :class:`Stepper`, which knows how to advance a state and how to look at one. The loop knows records, stop tests,
statuses, progress and Ctrl-C.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_integer
from overparam._version import __version__
from overparam.drivers.stepper import Advance, Record, Stepper
from overparam.objectives.base import Objective
from overparam.objectives.evaluation import Evaluation
from overparam.planning import TooHardError
from overparam.state import State
from overparam.trajectory import Schedule, Trajectory, check_observe, check_schedule

if TYPE_CHECKING:
    from overparam._core.descent import Job

__all__ = [
    "by_sampling",
    "check_progress",
    "check_steps",
    "check_stop",
    "course",
    "progress_bar",
    "start_of",
    "steps_to_record",
]

_BURST_SECONDS = 0.05  # how long compiled code may run before Python looks at signals and the progress bar
_BAR_SECONDS = 2.0
_GROWTH = 1e6  # a loss above this times (first loss + 1) is a run that has blown up


def check_steps(value: Any) -> int:
    """Return ``steps=``: below 2^62, so that a run and its extension still count in 64 bits."""
    steps = check_integer(value, "steps", minimum=0)
    if steps >= 2**62:
        raise ValueError(f"steps must be a whole number below 2**62; got {steps}")
    return steps


def check_stop(value: Any) -> Callable[[Record], Any] | None:
    """Return ``stop=``: None or a function of a record."""
    if value is not None and not callable(value):
        raise ValueError(f"stop must be a function of a record, such as lambda record: record.loss < 1e-6; got {value!r}"[:300])
    stop: Callable[[Record], Any] | None = value
    return stop


def check_progress(value: Any) -> bool | None:
    """Return ``progress=``: None, True or False."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"progress must be None (a bar on a terminal after two seconds), True or False; got {value!r}"[:300])
    return None if value is None else bool(value)


def start_of(objective: Objective, params0: Any) -> State:
    """The state that a run starts from. Deviations below float64's range are refused where steps could not follow them."""
    state = objective.start(params0)
    if state.log_scale:
        said = f"params0 has deviations below float64's range (log_spread {state.log_spread:.6g})"
        if not objective.follows_log_scale:
            raise ValueError(f"{said}, and a {type(objective).__name__} is evaluated at parameters in which they vanish: start from "
                             "deviations of at least 1e-150, or from coincident parameters")
        weights = objective.weights
        if weights is not None and np.ptp(weights) > 0:
            raise ValueError(f"{said}, which only equal weights can follow: unequal ones split coincident parameters in one step. Start "
                             "from coincident parameters, or leave weights= out")
    return state


class _Log:
    """The records so far."""

    def __init__(self, observe: dict[str, Callable[..., Any]]) -> None:
        self._observe = observe
        self.records: list[Record] = []
        self.observed: dict[str, list[np.ndarray]] = {name: [] for name in observe}

    def add(self, record: Record) -> None:
        seen = {}
        for name, function in self._observe.items():
            try:
                seen[name] = np.asarray(function(record.params))
            except Exception as error:
                raise ValueError(f"observe[{name!r}] failed at step {record.step}: {type(error).__name__}: {error}") from error
        for name, value in seen.items():
            if value.dtype.kind not in "biufc":
                raise ValueError(f"observe[{name!r}] must return numbers; it returned dtype {value.dtype}")
            if self.observed[name] and value.shape != self.observed[name][0].shape:
                raise ValueError(f"observe[{name!r}] must always return the same shape; it returned {value.shape} after "
                                 f"{self.observed[name][0].shape}")
        for name, value in seen.items():
            self.observed[name].append(value)
        self.records.append(record)


def steps_to_record(record: Schedule, steps: int, first_step: int = 0) -> np.ndarray:
    """The steps, counted from the beginning of the whole run, at which `steps` further ones are recorded."""
    schedule = check_schedule(record).steps(first_step + steps)
    return np.unique(np.append(schedule[schedule >= first_step], [first_step, first_step + steps]))


def by_sampling(objective: Objective, state: State) -> Evaluation:
    """Value and gradient by sampling, with their standard error: what is left where a tolerance is out of reach."""
    found = objective.estimate(state)
    grad = found.grad if state.basis is None else found.grad @ state.basis
    return Evaluation(found.value, 0.0 * state.centre, grad, found.value_error, found.grad_error)


class _Clock:
    """Seconds that a run takes itself: while its jobs wait for their turn, those of others pass."""

    def __init__(self) -> None:
        self._passed, self._since = 0.0, time.perf_counter()

    @property
    def now(self) -> float:
        """Seconds so far."""
        return self._passed + time.perf_counter() - self._since

    def around(self, moves: Generator[Job, None, Advance]) -> Generator[Job, None, Advance]:
        """The same moves; while others care for a job, what counts is how long it took."""
        error: BaseException | None = None
        while True:
            try:
                job = next(moves) if error is None else moves.throw(error)
            except StopIteration as end:
                advance: Advance = end.value
                return advance
            passed, error = self.now, None
            try:
                yield job
            except BaseException as raised:
                error = raised
            self._passed, self._since = passed + job.seconds, time.perf_counter()


def course(stepper: Stepper, objective: Objective, state: State, *, driver: str, schedule: np.ndarray, settings: dict[str, Any],
        stop: Callable[..., Any] | None = None, observe: Any = None, progress: bool | None = None, first_loss: float | None = None,
        attributes: dict[str, Any] | None = None, unit: str = "step", bar: Any = None) -> Generator[Job, None, Trajectory]:
    """Run `stepper` from `state` to the end of `schedule` and return the trajectory, however it ended: a generator of the compiled jobs
    that are to be run on the way.

    Parameters
    ----------
    stepper : Stepper
    objective : Objective
        Only kept in the result.
    state : State
    driver : str
        Name under which the result can be extended.
    schedule : (T,) int array
        The steps to record; the first is where `state` stands.
    stop, observe, progress
        As in every driver.
    first_loss : float, optional
        Loss at the beginning of the whole run, for the blow-up test; by default that of the first record.
    unit : str
        What the progress bar counts.
    bar : object, optional
        Its ``update(part)`` is told which further part of the run is done; by default the run has a bar of its own, of steps.
    """
    first_step, end = int(schedule[0]), int(schedule[-1])
    log, clock = _Log(check_observe(observe)), _Clock()
    status, message, step, noted = "completed", "", first_step, -1
    sampled_from: int | None = None
    pressed = False  # Ctrl-C while an ended run was looked at

    def note(look: Callable[[State], Evaluation]) -> Record | None:
        """Record the state as it is; None if its loss or gradient is not finite."""
        nonlocal sampled_from, noted
        with np.errstate(over="ignore", invalid="ignore"):
            found = look(state)
            norm = found.grad_norm
        if not (np.isfinite(found.value) and np.isfinite(norm)):
            return None
        if sampled_from is None and found.sampled:
            sampled_from = stepper.count(step)
        entry = Record(stepper.count(step), stepper.time(step), found.value, found.value_error, norm, state, stepper.weights_of(state))
        log.add(entry)
        noted = step
        return entry

    def settle(look: Callable[[State], Evaluation]) -> Record | None:
        """Record where an ended run stands, unless that fails (or is interrupted) too: what was recorded before is kept."""
        nonlocal pressed
        try:
            return note(look)
        except (Exception, KeyboardInterrupt) as error:
            if not log.records:
                raise
            pressed = pressed or isinstance(error, KeyboardInterrupt)
            return log.records[-1]

    def first_or_floor() -> float:
        return _GROWTH * (max(log.records[0].loss if first_loss is None else first_loss, 0.0) + 1)  # rounding may make it negative

    def blown(what: str) -> tuple[str, str]:
        return "unstable", f"{what} after {stepper.place(step)}: the step size is too large for this start; take a smaller one"

    chunk = 64
    shown: AbstractContextManager[Any] = progress_bar(end - first_step, unit, progress) if bar is None else nullcontext(bar)
    counted = 1 if bar is None else 1 / max(end - first_step, 1)
    with shown as bar:
        try:
            for target in schedule:
                while step < target:
                    started = clock.now
                    moved = yield from clock.around(stepper.moves(state, int(min(chunk, target - step))))
                    state, step = moved.state, step + moved.steps
                    elapsed = max(clock.now - started, 1e-7)
                    chunk = int(np.clip(_BURST_SECONDS * max(moved.steps, 1) / elapsed, 1, 10 * chunk))
                    bar.update(counted * moved.steps)
                    if moved.reason is not None:
                        status, message = blown("the loss exceeds 1e6 (start + 1)" if moved.reason == "diverged"
                                                else "the loss or the gradient is not finite")
                        break
                if status == "unstable":
                    if step > noted:
                        settle(stepper.rough_look)
                    break
                entry = note(stepper.look)
                if entry is None:
                    status, message = blown("the loss or the gradient is not finite")
                    break
                stepper.ceiling = first_or_floor()
                if entry.loss > stepper.ceiling:
                    status, message = blown("the loss exceeds 1e6 (start + 1)")
                    break
                if stop is not None and bool(stop(entry)):
                    status, message = "converged", f"the stop test held at {stepper.place(step)}"
                    break
        except KeyboardInterrupt:
            status, message = "interrupted", f"interrupted by the user after {stepper.place(step)} of {stepper.place(end).split()[-1]}"
            if not log.records:
                raise
            if step > noted:
                settle(stepper.look)
        except TooHardError as error:
            status, message = "too_hard", f"at {stepper.place(step)}: {error}"
            entry = settle(stepper.rough_look) if step > noted else log.records[-1]
            if entry is not None and entry.loss > log.records[0].loss:
                message += f" The loss has grown from {log.records[0].loss:.3g} to {entry.loss:.3g}: perhaps the step size is too large."
            if log.records and (entry is None or entry.loss > first_or_floor()):
                status, message = blown("the loss exceeds 1e6 (start + 1)" if entry else "the loss or the gradient is not finite")
        except Exception as error:
            if not log.records:
                raise
            status, message = "failed", f"after {stepper.place(step)}: {type(error).__name__}: {error}"
    if not log.records:
        raise ValueError("the loss or the gradient is not finite at params0; start closer to the target")
    message = "; ".join(filter(None, (message, stepper.remark())))
    if pressed and status != "interrupted":
        attributes = {"interrupted": "its last state was not looked at", **(attributes or {})}
    if sampled_from is not None:
        attributes = {"sampled_from_step": sampled_from, **(attributes or {})}
    return _trajectory(log, status, message, driver, settings, objective, stepper, clock.now, attributes or {})


def _trajectory(log: _Log, status: str, message: str, driver: str, settings: dict[str, Any], objective: Objective, stepper: Stepper,
                seconds: float, attributes: dict[str, Any]) -> Trajectory:
    records = log.records
    states = [record.state for record in records]
    last = states[-1]
    same = all(state.basis is last.basis and state.origin is last.origin for state in states)
    if not same:  # a plan never changes the basis; only a stepper that says so does
        raise RuntimeError("the states of a run must share one basis")
    weights = objective.weights
    if weights is None and last.layout is None:
        weights = np.full(last.n, 1 / last.n)
    if records[-1].weights is not None:
        weights = np.array([record.weights for record in records])
    rule = getattr(objective, "rule", None)
    facts = {"versions": versions(), "rule": None if rule is None else repr(rule), "tolerance": getattr(rule, "tol", None)}
    return Trajectory(
        steps=np.array([record.step for record in records]), times=np.array([record.time for record in records]),
        loss=np.array([record.loss for record in records]), loss_error=np.array([record.loss_error for record in records]),
        grad_norm=np.array([record.grad_norm for record in records]), centres=np.array([state.centre for state in states]),
        deviations=np.array([state.deviations for state in states]), basis=last.basis, origin=last.origin,
        log_scales=np.array([state.log_scale for state in states]), layout=last.layout, weights=weights,
        status=status, message=message, observed={name: np.array(values) for name, values in log.observed.items()}, driver=driver,
        settings=settings, problem=objective.describe(), objective=objective, attributes={**facts, **attributes},
        evaluations=stepper.evaluations, wall_time=seconds, continuation={**stepper.continuation(), "first_loss": float(records[0].loss)})


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    import scipy

    return {"overparam": __version__, "numpy": np.__version__, "scipy": scipy.__version__, "python": platform.python_version()}


def progress_bar(total: int, unit: str, progress: bool | None, fractions: bool = False) -> Any:
    """A tqdm bar: after two seconds on a terminal (None), at once (True), or never (False). With `fractions` it shows tenths of a unit."""
    from overparam._progress import tqdm

    words = f"{{l_bar}}{{bar}}| {{n:.1f}}/{{total}} {unit}s [{{elapsed}}<{{remaining}}]" if fractions else None
    delay, disable = (_BAR_SECONDS, None) if progress is None else (0.0, not progress)
    return tqdm(total=total, unit=unit, delay=delay, disable=disable, leave=False, mininterval=0.2, bar_format=words)
