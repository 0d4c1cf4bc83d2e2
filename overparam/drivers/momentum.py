"""Descent with momentum: Polyak's heavy ball and Nesterov's accelerated gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam.drivers._overloads import one_or_many
from overparam.drivers._step_sizes import StepSizes, check_decay, check_precondition, check_step_size, factors_of, resumed_step_size
from overparam.drivers._velocity import VelocityStepper, resumed_velocities
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.loop import check_progress, check_steps, check_stop, course, start_of, steps_to_record
from overparam.objectives.base import Objective
from overparam.objectives.bursts import driven
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["momentum"]


@one_or_many
def momentum(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, momentum: float = 0.9,
             nesterov: bool = False, precondition: str | None = None, record: Schedule | None = None,
             stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
             progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Descent with momentum and exact gradients, from rest (:math:`v=0`).

    .. math:: v\leftarrow\beta v-\eta\,\nabla L(\mu)\;\text{ (heavy ball)}\quad\text{or}\quad
              v\leftarrow\beta v-\eta\,\nabla L(\mu+\beta v)\;\text{ (Nesterov)},\qquad\mu\leftarrow\mu+v.

    The span of parameters and target is left alone, so that runs go in reduced coordinates as those of
    :func:`overparam.gradient_descent` do; centre and deviations have velocities of their own, so that deviations of 1e-100, or below
    float64's range, keep their relative accuracy.

    Parameters
    ----------
    objective : Objective
    params0 : (n, d) array or State
        The start, or a batch of starts.
    step_size, steps, precondition, record, stop, observe, progress
        As in :func:`overparam.gradient_descent`. With a schedule, :math:`\eta_\tau` multiplies the gradient of step :math:`\tau`.
    momentum : float
        :math:`\beta`, from 0 on and below 1; 0 is gradient descent.
    nesterov : bool
        Gradients at :math:`\mu+\beta v`.

    Returns
    -------
    Trajectory
        Loss, gradient and parameters are those at :math:`\mu`, also for Nesterov. Times are sums of step sizes, as in gradient descent:
        once the velocity has settled, a unit of time moves :math:`1/(1-\beta)` times as far as one of gradient flow.
        ``trajectory.extend(steps=...)`` goes on with the velocity where it was; saved files keep it.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.

    References
    ----------
    Polyak 1964, Some methods of speeding up the convergence of iteration methods; Nesterov 1983, A method of solving a convex
    programming problem with convergence rate O(1/k²) [published].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> ball = op.momentum(obj, [[2.0], [1.5]], step_size=0.01, steps=300, momentum=0.9)
    >>> plain = op.gradient_descent(obj, [[2.0], [1.5]], step_size=0.01, steps=300)
    >>> ball.status, bool(ball.loss[-1] < plain.loss[-1])
    ('completed', True)
    """
    if not isinstance(nesterov, (bool, np.bool_)):
        raise ValueError(f"nesterov must be True or False; got {nesterov!r}"[:200])
    settings: dict[str, Any] = {"step_size": check_step_size(step_size), "steps": check_steps(steps),
                                "momentum": check_decay(momentum, "momentum"), "nesterov": bool(nesterov),
                                "precondition": check_precondition(precondition),
                                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                                "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    found: Trajectory | list[Trajectory] = for_each_start(_run, objective, params0, **settings)
    return found


def _run(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, momentum: float, nesterov: bool,
         precondition: str | None, record: Schedule, first_step: int = 0, saved: dict[str, Any] | None = None,
         **options: Any) -> Course:
    state, sizes = start_of(objective, params0), StepSizes(step_size)
    velocities = resumed_velocities((saved or {}).get("velocities"), first_step, state)
    stepper = VelocityStepper(objective, sizes, factors_of(objective, state.n, precondition), velocities, momentum, nesterov, first_step)
    return course(stepper, objective, state, driver="momentum", schedule=steps_to_record(record, steps, first_step),
               settings={**sizes.settings(), "steps": first_step + steps, "momentum": momentum, "nesterov": nesterov,
                         "precondition": precondition, "record": record.describe()}, **options)


def _resume(trajectory: Trajectory, *, steps: int, step_size: Any = None, record: Schedule | None = None,
            stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
            progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps with the velocity that was reached."""
    stored, saved = trajectory.settings, trajectory.continuation
    return driven(_run(trajectory.objective, trajectory.final_state, step_size=resumed_step_size(trajectory, step_size),
                steps=check_steps(steps), momentum=stored["momentum"], nesterov=stored["nesterov"], precondition=stored["precondition"],
                record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                stop=check_stop(stop), observe=check_observe(observe), progress=progress, first_step=int(trajectory.steps[-1]),
                saved=saved, first_loss=saved.get("first_loss")))


DRIVERS["momentum"] = _resume
