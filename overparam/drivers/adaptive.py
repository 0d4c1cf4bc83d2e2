"""Adam with exact gradients, in full coordinates: a step that looks at coordinates one by one leaves every span."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam._validation import check_positive
from overparam.drivers._absolute import check_followed, loss_of_differences, remark_on
from overparam.drivers._gradients import Gradients
from overparam.drivers._overloads import one_or_many
from overparam.drivers._step_sizes import StepSizes, check_decay, check_step_size, resumed_step_size
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.loop import check_progress, check_steps, check_stop, course, start_of, steps_to_record
from overparam.drivers.stepper import Advance, OwnSteps
from overparam.objectives.base import Objective, check_objective
from overparam.objectives.bursts import driven
from overparam.objectives.evaluation import Evaluation
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["adam"]


class _Adam(OwnSteps):
    """Steps in Python; `moments` are the two running means, (n, d) each, after `step` steps."""

    def __init__(self, objective: Objective, sizes: StepSizes, beta1: float, beta2: float, eps: float, step: int,
                 moments: tuple[np.ndarray, np.ndarray], remark: str) -> None:
        self._remark = remark
        self._gradients, self._sizes = Gradients(objective), sizes
        self._beta1, self._beta2, self._eps = beta1, beta2, eps
        self._now = step, moments  # one assignment: Ctrl-C must not come between the two

    @property
    def evaluations(self) -> int:  # type: ignore[override]  # the loop reads it and never puts it
        """Gradients so far."""
        return self._gradients.evaluations

    def look(self, state: State) -> Evaluation:
        return self._gradients.look(state)

    def rough_look(self, state: State) -> Evaluation:
        return self._gradients.rough_look(state)

    def advance(self, state: State, steps: int) -> Advance:
        step, (first, second) = self._now
        reason, done = None, 0
        with np.errstate(over="ignore", invalid="ignore"):
            while done < steps and reason is None:
                found = self._gradients.at(state)
                if not found.finite:
                    reason = "not_finite"
                elif found.value > self.ceiling:
                    reason = "diverged"
                else:
                    grad, t = found.centre_grad + found.grad, step + done + 1
                    new = self._beta1 * first + (1 - self._beta1) * grad, self._beta2 * second + (1 - self._beta2) * grad * grad
                    unbiased = new[0] / (1 - self._beta1**t), new[1] / (1 - self._beta2**t)
                    coordinates = state.deviations - self._sizes.at(t - 1) * unbiased[0] / (np.sqrt(unbiased[1]) + self._eps)
                    if not np.isfinite(coordinates).all():
                        reason = "not_finite"
                    else:
                        state, (first, second), done = state.moved(state.centre, coordinates), new, done + 1
        self._now = step + done, (first, second)
        return Advance(state, done, reason)

    def time(self, step: int) -> float:
        return self._sizes.time(step)

    def remark(self) -> str:
        return self._remark

    def continuation(self) -> dict[str, Any]:
        step, (first, second) = self._now
        return {"moments": {"step": step, "first": first, "second": second}}


@one_or_many
def adam(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, beta1: float = 0.9,
         beta2: float = 0.999, eps: float = 1e-8, record: Schedule | None = None, stop: Callable[..., Any] | None = None,
         observe: dict[str, Callable[..., Any]] | None = None, progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Adam with exact gradients :math:`g=\nabla L(\mu)`, from moments of 0.

    At step :math:`\tau=1,2,\dots`, coordinate by coordinate,

    .. math:: m\leftarrow\beta_1m+(1-\beta_1)g,\quad s\leftarrow\beta_2s+(1-\beta_2)g^2,\quad
              \mu\leftarrow\mu-\eta\,\frac{m/(1-\beta_1^\tau)}{\sqrt{s/(1-\beta_2^\tau)}+\epsilon}.

    Parameters
    ----------
    objective : Objective
    params0 : (n, d) array or State
        The start, or a batch of starts. Adam moves absolute parameters: deviations are known to :math:`10^{-16}` of the distance from the
        target. A State of whose deviations nothing would be left, or that are below float64's range, is refused; where they lose more
        than a thousandth, ``trajectory.message`` says how much.
    step_size, steps, record, stop, observe, progress
        As in :func:`overparam.gradient_descent`. The step size is about the distance that a coordinate moves in a step.
    beta1, beta2 : float
        Decay of the two means, from 0 on and below 1.
    eps : float
        :math:`\epsilon>0`, in the unit of the gradient: below it steps fall like those of descent with the step size
        :math:`\eta/\epsilon`.

    Returns
    -------
    Trajectory
        Times are sums of step sizes, and not flow times: Adam has no gradient flow as its limit. ``trajectory.extend(steps=...)`` goes on
        with the moments where they were; saved files keep them.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.

    Notes
    -----
    The method depends on the axes of the space: a rotated problem has another run, unlike those of the other drivers.

    References
    ----------
    Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1 [published].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.adam(obj, [[2.0], [1.5]], step_size=0.01, steps=100)
    >>> traj.status, round(float(traj.params[1][0, 0]), 6)      # the first step has length step_size
    ('completed', 1.99)
    """
    settings: dict[str, Any] = {"step_size": check_step_size(step_size), "steps": check_steps(steps),
                                "beta1": check_decay(beta1, "beta1"), "beta2": check_decay(beta2, "beta2"),
                                "eps": check_positive(eps, "eps"),
                                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                                "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    check_followed(params0, lambda given: _in_full(check_objective(objective), given).deviations, "op.adam",
                   "op.momentum or op.gradient_descent")
    found: Trajectory | list[Trajectory] = for_each_start(_run, objective, params0, **settings)
    return found


def _in_full(objective: Objective, params0: Any) -> State:
    """The start in full coordinates, around the origin that the objective's plans measure from."""
    start = start_of(objective, params0)
    return State(np.zeros(start.d), start.expand_gradient(start.coordinates), None, start.origin, layout=start.layout)


def _run(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, beta1: float, beta2: float,
         eps: float, record: Schedule, first_step: int = 0, moments: tuple[np.ndarray, np.ndarray] | None = None,
         **options: Any) -> Course:
    state, lost = _in_full(objective, params0) if first_step == 0 else params0, 0.0
    if first_step == 0 and isinstance(params0, State):
        lost = loss_of_differences(params0, state.deviations)
    if moments is None:
        moments = np.zeros((state.n, state.d)), np.zeros((state.n, state.d))
    sizes = StepSizes(step_size)
    stepper = _Adam(objective, sizes, beta1, beta2, eps, first_step, moments, remark_on(lost))
    return course(stepper, objective, state, driver="adam", schedule=steps_to_record(record, steps, first_step),
               settings={**sizes.settings(), "steps": first_step + steps, "beta1": beta1, "beta2": beta2, "eps": eps,
                         "record": record.describe()}, **options)


def _resume(trajectory: Trajectory, *, steps: int, step_size: Any = None, record: Schedule | None = None,
            stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
            progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps with the moments that were reached."""
    stored, step, state = trajectory.settings, int(trajectory.steps[-1]), trajectory.final_state
    saved = trajectory.continuation.get("moments")
    moments: Any = None
    if step > 0:
        if saved is None or saved["step"] != step:
            raise ValueError(f"this run cannot be extended from step {step}: the moments that were kept are those of step "
                             f"{None if saved is None else saved['step']}. Start a new run from trajectory.final_state")
        moments = tuple(np.array(saved[name]).reshape(state.n, state.d) for name in ("first", "second"))
    return driven(_run(trajectory.objective, state, step_size=resumed_step_size(trajectory, step_size), steps=check_steps(steps),
                beta1=stored["beta1"], beta2=stored["beta2"], eps=stored["eps"], moments=moments,
                record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                stop=check_stop(stop), observe=check_observe(observe), progress=progress, first_step=step,
                first_loss=trajectory.continuation.get("first_loss")))


DRIVERS["adam"] = _resume
