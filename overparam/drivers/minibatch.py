"""Stochastic gradient descent: the papers' own experiments, with fresh draws from the teacher at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam._validation import check_integer, check_positive, check_rng
from overparam.drivers.loop import (
    Advance,
    Stepper,
    check_progress,
    check_steps,
    check_stop,
    for_each_start,
    run,
    start_of,
    steps_to_record,
)
from overparam.objectives.base import Evaluation, Objective
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["sgd"]


class _Minibatch(Stepper):
    """One fresh batch a step, in full coordinates: the draws leave the span."""

    def __init__(self, objective: Objective, step_size: float, batch_size: int, rng: np.random.Generator,
                 look_rng: np.random.Generator) -> None:
        self._objective, self._step_size, self._batch_size = objective, step_size, batch_size
        self._rng, self._look_rng = rng, look_rng
        self.evaluations = 0

    def look(self, state: State) -> Evaluation:
        """On a batch of its own, so that looking does not change the run."""
        self.evaluations += 1
        return self._objective.minibatch(state.params, self._batch_size, self._look_rng, errors=True)

    def advance(self, state: State, steps: int) -> Advance:
        params = state.params
        for done in range(steps):
            found = self._objective.minibatch(params, self._batch_size, self._rng)
            self.evaluations += 1
            if not np.isfinite(found.value) or not np.isfinite(found.grad).all():
                return Advance(State.of(params), done, "not_finite")
            if found.value > self.ceiling:
                return Advance(State.of(params), done, "diverged")
            with np.errstate(over="ignore"):
                moved = params - self._step_size * found.grad
            if not np.isfinite(moved).all():
                return Advance(State.of(params), done, "not_finite")
            params = moved
        return Advance(State.of(params), steps)

    def time(self, step: int) -> float:
        return step * self._step_size

    def continuation(self) -> dict[str, Any]:
        return {"rng": _stored(self._rng), "look_rng": _stored(self._look_rng)}


def _stored(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's state as JSON allows it."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    return plain(rng.bit_generator.state)


def _restored(stored: dict[str, Any]) -> np.random.Generator:
    """The generator whose state was stored."""
    bits = getattr(np.random, stored["bit_generator"])()
    bits.state = stored
    return np.random.Generator(bits)


def sgd(objective: Objective, params0: Any, *, step_size: float, steps: int, batch_size: int, rng: Any = None,
        record: Schedule | None = None, stop: Callable | None = None, observe: dict[str, Callable] | None = None,
        progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Gradient descent on fresh minibatches: :math:`\mu_i \leftarrow \mu_i - \eta\,\hat\nabla_{\mu_i}L(\mu)`.

    The gradient is that of the loss on `batch_size` new draws from the teacher at every step, in full coordinates.

    Parameters
    ----------
    objective : Objective
        One that has ``minibatch``, such as ScoreMatching.
    params0, step_size, steps, record, stop, observe, progress
        As in :func:`overparam.gradient_descent`.
    batch_size : int
        Draws per step, at least 1.
    rng : seed or numpy.random.Generator, optional
        At a given seed a run is reproducible; the runs of a batch have streams of their own.

    Returns
    -------
    Trajectory
        Its loss at a record is a minibatch's too, drawn for that record alone, and ``loss_error`` is its standard error; use
        ``objective.value(trajectory.params[k])`` for the exact loss.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.
    TypeError
        If the objective has no minibatches.

    References
    ----------
    Zhang et al. 2025 (arXiv 2511.22069), experiments: batch 20 000, step size 0.01 [published].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.sgd(obj, [[2.0], [1.5]], step_size=0.1, steps=50, batch_size=100, rng=0)
    >>> traj.status
    'completed'
    """
    seed = int(rng) if isinstance(rng, (int, np.integer)) else None
    rng = check_rng(rng)
    settings = {"attributes": {"seed": seed}, "step_size": check_positive(step_size, "step_size"), "steps": check_steps(steps),
                "batch_size": check_integer(batch_size, "batch_size", minimum=1), "rng": rng,
                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    return for_each_start(_run, objective, params0, **settings)


def _run(objective: Objective, params0: Any, *, step_size: float, steps: int, batch_size: int, rng: np.random.Generator, record: Schedule,
         look_rng: np.random.Generator | None = None, first_step: int = 0, **options: Any) -> Trajectory:
    start = start_of(objective, params0)
    if start.log_scale:
        raise ValueError(f"params0 has deviations below float64's range (log_spread {start.log_spread:.6g}), in which op.sgd, that moves "
                         "absolute parameters, does not move them; use op.gradient_descent, or coincident parameters")
    # its checks are all that is used; the coordinates stay as they are, for moving the origin and back would round them
    state = State.of(State.of(params0).params)
    if look_rng is None:
        look_rng = np.random.default_rng(rng.integers(0, 2**32, size=4).tolist())
    stepper = _Minibatch(objective, step_size, batch_size, rng, look_rng)
    return run(stepper, objective, state, driver="sgd", schedule=steps_to_record(record, steps, first_step),
               settings={"step_size": step_size, "steps": first_step + steps, "batch_size": batch_size, "record": record.describe()},
               **options)


def _resume(trajectory: Trajectory, *, steps: int, record: Schedule | None = None, stop: Callable | None = None,
            observe: dict[str, Callable] | None = None, progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps with the same streams of random numbers."""
    stored, saved = trajectory.settings, trajectory.continuation
    return _run(trajectory.objective, trajectory.final_state, step_size=stored["step_size"], steps=check_steps(steps),
                batch_size=stored["batch_size"], rng=_restored(saved["rng"]), look_rng=_restored(saved["look_rng"]),
                record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                stop=check_stop(stop), observe=check_observe(observe), progress=progress, first_step=int(trajectory.steps[-1]),
                first_loss=saved.get("first_loss"))


DRIVERS["sgd"] = _resume
