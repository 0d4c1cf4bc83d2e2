"""Gradient descent on the population loss."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam.drivers._overloads import one_or_many
from overparam.drivers._step_sizes import StepSizes, check_precondition, check_step_size, factors_of, resumed_step_size
from overparam.drivers._velocity import VelocityStepper
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.loop import by_sampling, check_progress, check_steps, check_stop, course, start_of, steps_to_record
from overparam.drivers.stepper import Advance, Stepper
from overparam.objectives.base import Objective, Plan
from overparam.objectives.bursts import driven
from overparam.objectives.evaluation import Evaluation
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

if TYPE_CHECKING:
    from overparam._core.descent import Job

__all__ = ["gradient_descent"]


class _Descent(Stepper):
    """Bursts of compiled steps under one plan after another."""

    def __init__(self, objective: Objective, step_size: float) -> None:
        self._objective = objective
        self._step_size = step_size
        self._plan: Plan | Any = None
        self._spent: Plan | None = None
        self._made_for: State | None = None
        self.evaluations = 0

    def _plan_for(self, state: State) -> Plan:
        if self._plan is None or not self._plan.covers(state):
            self._plan, self._made_for = self._objective.plan(state, self._plan or self._spent), state
        return self._plan

    def look(self, state: State) -> Evaluation:
        self.evaluations += 1
        return self._plan_for(state).evaluate(state)

    def rough_look(self, state: State) -> Evaluation:
        return by_sampling(self._objective, state)

    def moves(self, state: State, steps: int) -> Generator[Job, None, Advance]:
        plan = self._plan if self._plan is not None and self._plan.resumes(state) else self._plan_for(state)
        burst = yield from plan.moves(state, self._step_size, steps, self.ceiling)
        if burst.reason == "replan" and burst.steps == 0 and self._made_for is not state:
            # an older plan ends just here, where the burst before paused: a run must not depend on where that was
            self._plan, self._spent = None, plan
            plan = self._plan_for(state)
            burst = yield from plan.moves(state, self._step_size, steps, self.ceiling)
        self.evaluations += burst.steps
        if burst.reason in ("diverged", "not_finite"):
            return Advance(burst.state, burst.steps, burst.reason)
        if burst.reason == "replan":
            self._plan, self._spent = None, plan
            if burst.steps == 0:
                return self._insist(burst.state)
        return Advance(burst.state, burst.steps)

    def _insist(self, state: State) -> Advance:
        """One step under a new plan, whatever that plan says of the state it was made for: a run must not stand still."""
        found = self.look(state)
        if found.value > self.ceiling:
            return Advance(state, 0, "diverged")
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return Advance(self._plan.step(state, found, self._step_size), 1)
        except ValueError:  # a State holds finite numbers only
            return Advance(state, 0, "not_finite")

    def time(self, step: int) -> float:
        return step * self._step_size


@one_or_many
def gradient_descent(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int,
                     precondition: str | None = None, record: Schedule | None = None, stop: Callable[..., Any] | None = None,
                     observe: dict[str, Callable[..., Any]] | None = None,
                     progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Gradient descent :math:`\mu_i \leftarrow \mu_i - \eta\,\nabla_{\mu_i}L(\mu)` with exact gradients.

    Parameters
    ----------
    objective : Objective
    params0 : (n, d) array or State
        The start. A batch, (R, n, d) array or list of States, gives a list of R trajectories, each to the last bit what its start gives
        alone; their compiled steps are taken side by side, on several threads with ``op.threads``. A State with a ``log_scale``, whose
        deviations are below float64's range, needs equal weights: its deviations are followed by their linear law until float64
        holds them, and ``trajectory.log_scales`` says how far.
    step_size : float or function
        :math:`\eta > 0`; or a schedule, :math:`\eta_\tau` = ``step_size(tau)``, not below 0, of the steps taken so far (0 at the first),
        that depends on nothing else. Saved files keep its name only: ``extend(steps=..., step_size=function)`` needs it again.
    steps : int
        Number of steps, at least 0.
    precondition : "weights", optional
        Divide every row by the student's weight: :math:`\mu_i\leftarrow\mu_i-\frac{\eta}{\pi_i}\nabla_{\mu_i}L`. Parameters at one place
        then keep together whatever their weights are, up to rounding, which unequal weights leave in their differences. With equal
        weights it is descent with the step size :math:`n\eta`.
    record : Schedule, optional
        ``log_spaced(200)`` by default, or ``every(k)``. The first and last step are always recorded.
    stop : function, optional
        ``stop(record)`` is asked at every record, which has step, time, loss, loss_error, grad_norm, params and state; where it is
        true the run ends with status ``converged``.
    observe : dict of functions, optional
        ``{"name": function of params}``: what each returns at a record goes to ``trajectory.observed[name]``.
    progress : bool, optional
        A progress bar: by default on a terminal after two seconds.

    Returns
    -------
    Trajectory
        However the run ended: see its ``status`` and ``message``. Times are flow times, :math:`\eta\tau` or the sum of the step sizes.
        Its ``driver`` is "gradient_descent", or "scheduled_descent" or "preconditioned_descent" (with a schedule or not), which statements
        about gradient descent are not about.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done. A start of a batch at which nothing can be evaluated is named; the runs that had ended
        are the error's ``runs``.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.gradient_descent(obj, [[2.0], [1.5]], step_size=0.1, steps=100)
    >>> traj.status, bool(traj.loss[-1] < traj.loss[0])
    ('completed', True)
    """
    settings: dict[str, Any] = {"step_size": check_step_size(step_size), "steps": check_steps(steps),
                                "precondition": check_precondition(precondition),
                                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                                "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    return for_each_start(_descend, objective, params0, **settings)


def _descend(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, record: Schedule,
             precondition: str | None = None, first_step: int = 0, first_loss: float | None = None, **options: Any) -> Course:
    state, sizes = start_of(objective, params0), StepSizes(step_size)
    stepper: Stepper
    if sizes.constant is not None and precondition is None:
        name, stepper = "gradient_descent", _Descent(objective, sizes.constant)
    else:
        name = "scheduled_descent" if precondition is None else "preconditioned_descent"
        stepper = VelocityStepper(objective, sizes, factors_of(objective, state.n, precondition), first_step=first_step)
    settings = {**sizes.settings(), "steps": first_step + steps, "record": record.describe()}
    return course(stepper, objective, state, driver=name, schedule=steps_to_record(record, steps, first_step),
               first_loss=first_loss, settings=settings if precondition is None else {**settings, "precondition": precondition}, **options)


def _resume(trajectory: Trajectory, *, steps: int, step_size: Any = None, record: Schedule | None = None,
            stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
            progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps; settings that are not given stay."""
    stored = trajectory.settings
    return driven(_descend(trajectory.objective, trajectory.final_state, step_size=resumed_step_size(trajectory, step_size),
                    steps=check_steps(steps), precondition=stored.get("precondition"),
                    record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                    stop=check_stop(stop), observe=check_observe(observe), progress=progress, first_step=int(trajectory.steps[-1]),
                    first_loss=trajectory.continuation.get("first_loss")))


DRIVERS.update(dict.fromkeys(("gradient_descent", "scheduled_descent", "preconditioned_descent"), _resume))
