"""Gradient flow: gradient descent in the limit of small steps, to flow time 1e14 and beyond."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers._chart import Chart, Opened
from overparam.drivers._overloads import one_or_many
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.loop import by_sampling, check_progress, check_stop, course, start_of
from overparam.drivers.stepper import Advance, OwnSteps
from overparam.objectives.base import Objective, Plan
from overparam.objectives.bursts import driven
from overparam.objectives.evaluation import Evaluation
from overparam.planning import TooHardError
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["gradient_flow"]

_LEAST_RTOL, _MOST_RTOL = 1e-13, 1e-2
_SHORTEST = 1e-25  # step in logarithmic time below which there is no way on
_OPENING, _FINER = 1e-6, 1e-4
_LATE = 9.0  # ln of the flow time from which on an integrator begins with implicit steps: LSODA would take 20 others first, and at
# a point where nothing but rounding is left to see it never learns that it needs them
_INCREMENT = 2.0**-26  # root of epsilon
_NEARER = 1e-100  # a centre at this distance neither moves deviations below float64's range nor is moved by them
_AGREE = 0.1  # part of rtol by which an old plan may be off where a step has ended outside its box
_SHRUNK = 0.4  # a plan is looked at again when velocities fall to this part of what they were


class _Flow(OwnSteps):
    """LSODA in logarithmic time and a chart's variables, plan after plan. A step of the loop leads to the next record."""

    def __init__(self, objective: Objective, times: np.ndarray, rtol: float, most: int, first_step: int) -> None:
        self._objective, self._rtol, self._most = objective, rtol, most
        self._times, self._logs = times, np.log1p(times)
        self._tol = getattr(getattr(objective, "rule", None), "tol", None)
        self._plan: Plan | Any = None  # under which the integrator works
        self._record_plan: Plan | None = None  # of records that it does not serve: they lie a little behind
        self._speed, self._least = 0.0, 0.0  # of the deviations, and below which the plan is looked at again
        self._frame: np.ndarray | None = None
        self._solver: Any = None  # of what comes next
        self._last: Any = None  # (solver, chart, logarithmic time where it began) of the last step
        self._motion: Any = None  # the compiled slope of the chart under the plan, where there is one
        self._reached: tuple[float, State | None] | Any = None  # logarithmic time, and the state where it was asked for
        self._opening = _OPENING  # length of the first step to try next where an integrator cannot begin
        self._first: float | None = None  # length of the next integrator's first step, where it is known
        self._taken, self._record = first_step, 0
        self.evaluations = 0

    # --- what the loop asks ------------------------------------------------------------------------------------------

    def look(self, state: State) -> Evaluation:
        for plan in (self._plan, self._record_plan):
            if plan is not None and plan.covers(state):
                self.evaluations += 1
                found = plan.evaluate(state)
                used = self._used(found)
                if used <= 1:
                    if plan is self._plan:
                        self._seen(used)
                    return found
        self._record_plan = plan = self._objective.plan(state, self._plan if self._record_plan is None else self._record_plan)
        self._plan = plan if self._plan is None else self._plan
        self.evaluations += 1
        return plan.evaluate(state)

    def rough_look(self, state: State) -> Evaluation:
        return by_sampling(self._objective, state)

    def time(self, step: int) -> float:
        return float(self._times[step])

    def count(self, step: int) -> int:
        return self._taken

    def place(self, step: int) -> str:
        return f"flow time {self._times[step]:.6g}"

    def advance(self, state: State, steps: int) -> Advance:
        if self._reached is None:
            self._reached = float(self._logs[0]), state
        target = float(self._logs[self._record + 1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what LSODA has to say is in the message
            while self._reached[0] < target:
                if self._solver is None:
                    self._begin()
                self._step()
        self._record += 1
        solver, chart, base = self._last
        return Advance(chart.state(solver.y if target - base == solver.t else solver.dense_output()(min(target - base, solver.t))), 1)

    # --- integration -------------------------------------------------------------------------------------------------

    def _used(self, found: Evaluation) -> float:
        """The part of its tolerance that a plan needs where it found this: it was made where loss and gradient were larger, perhaps.

        Rows that have fallen below their rounding, as at a stationary point, are not asked for more than that.
        """
        if self._tol is None or found.bounds is None:
            return 0.0
        steps, edges, lost = found.bounds.discretisation, found.bounds.truncation, found.bounds.rounding
        errors = np.append(steps.grad + edges.grad, steps.value + edges.value)
        sizes = self._tol * np.append(np.full(len(steps.grad), np.linalg.norm(found.rows, axis=1).max()), found.value)
        allowed = np.maximum(sizes, np.append(lost.grad, lost.value))
        with np.errstate(divide="ignore"):
            return float(np.divide(errors, allowed, out=np.zeros_like(errors), where=errors > 0).max())

    def _seen(self, used: float = 1.0) -> None:
        """The plan serves now, and will until velocities have fallen to a part; the loss falls a little faster than they do."""
        self._least = self._speed * min(max(3 * used, _SHRUNK / 20), _SHRUNK)

    def _worn(self, state: State) -> bool:
        """Whether the plan has to be replaced: outside its box, or because what it was made for has shrunk."""
        if not self._plan.covers(state):
            return True
        if self._speed >= self._least:
            return False
        self.evaluations += 1
        used = self._used(self._plan.evaluate(state))
        self._seen(used)
        return used > 1

    def _plan_at(self, state: State) -> None:
        self._plan = self._objective.plan(state, self._plan)
        self._motion = None
        self._seen()

    def _plan_ahead(self, y: np.ndarray, state: State) -> None:
        """A plan for `state` where deviations grow: made where they will soon be, since a box has more room below than above."""
        ahead = self._chart.ahead(y, self._rate)
        if ahead is not None:
            with suppress(TooHardError):  # there; not here, perhaps
                plan = self._objective.plan(ahead, self._plan)
                if plan.covers(state):
                    self._plan, self._motion = plan, None
                    self._seen()
                    return
        self._plan_at(state)

    def _begin(self) -> None:
        """A chart for the state that was reached, and a fresh integrator."""
        from scipy.integrate import BDF, LSODA

        s, state = self._reached
        if state is None:
            state = self._last[1].state(self._last[0].y)
        if self._plan is None or not self._plan.covers(state):
            self._plan_at(state)
        settled, moving = self._plan.settle(state)
        if self._frame is None:
            self._frame = _frame_along(settled.centre)
        pull, velocity = self._drawn(settled, moving)
        self._chart = Chart(settled, moving, self._frame, _moving_rows(self._plan), pull, velocity)
        self._motion, self._rate = self._chart.motion(self._plan), np.empty(len(self._chart.start))
        self._cut_around(self._chart.start)
        # records are interpolated: the last step may go beyond the last of them
        end = float(self._logs[-1]) + 1e-3
        # the integrator's time is counted from here: late in a run its first steps are far below the spacing of ln(1+t)
        self._base = s
        kind = LSODA if s < _LATE else BDF
        self._solver = kind(self._slope, 0.0, self._chart.start, end - s, rtol=self._rtol, atol=self._chart.tolerances(self._rtol),
                            jac=self._jacobian, first_step=None if self._first is None else min(self._first, end - s))
        self._first = None

    def _drawn(self, settled: State, moving: bool) -> tuple[float, np.ndarray | None]:
        """Speed of the centre at the origin, and what deviations move along here."""
        origin, pull = np.zeros_like(settled.centre), 0.0
        if moving:
            self.evaluations += 1
            pull = float(np.linalg.norm(self._plan.gradient(settled.moved(origin, 0 * settled.deviations), origin,
                                                            0 * settled.deviations)[0]))
        if settled.log_scale:
            return pull, None
        self.evaluations += 1
        return pull, -self._plan.gradient(settled, settled.centre, settled.deviations)[1]

    def _slope(self, s: float, y: np.ndarray) -> np.ndarray:
        """dy/ds."""
        self.evaluations += 1
        if self.evaluations > self._most:
            raise TooHardError(f"rtol={self._rtol:g} needs more than max_evaluations={self._most} gradients; flow time {self._now():.6g} "
                               f"of {self._times[-1]:.6g} was reached. Raise max_evaluations or rtol; if it comes no further then, "
                               "the flow ends there, as where a loss has a kink")
        chart, motion = self._chart, self._motion
        if motion is not None and motion.slope(y, self._lowest, self._highest, self._rate):
            self._speed = motion.speed
        else:
            y = np.minimum(np.maximum(y, self._lowest), self._highest)
            opened = chart.open(y)
            velocities = self._velocity(self._plan, opened)
            self._speed = float(np.abs(velocities[1]).max())
            self._rate = chart.slope(y, opened, *velocities)
        return math.exp(self._base + s) * self._rate

    def _jacobian(self, s: float, y: np.ndarray) -> np.ndarray:
        """d(dy/ds)/dy by differences: a gradient for each column is less than the exact Hessian for the usual few parameters."""
        motion, size = self._motion, len(y)
        if motion is not None:
            found = np.empty((size, size))
            if motion.jacobian(y, self._lowest, self._highest, _INCREMENT, found):
                self.evaluations += size + 1
                return math.exp(self._base + s) * found
        here, columns = self._slope(s, y), []
        for unit in np.eye(size):
            step = _INCREMENT * max(1.0, float(abs(unit @ y)))
            columns.append((self._slope(s, y + step * unit) - here) / step)
        return np.stack(columns, axis=1)

    def _velocity(self, plan: Plan, opened: Opened) -> tuple[np.ndarray, np.ndarray]:
        chart = self._chart
        centre, deviations = chart.parts(opened)
        if opened.shift and opened.scale < _NEARER:  # deviations handed over rescaled would be wider than the centre: they do not matter
            deviations = np.zeros_like(deviations)
        return chart.velocity(*plan.gradient(chart.template, centre, deviations))

    def _step(self) -> None:
        """One step of the integrator, and a new plan where it ends outside the box of the present one."""
        solver, chart = self._solver, self._chart
        fresh = solver.t_old is None
        said = solver.step()
        if solver.status == "failed" and not fresh:  # a new integrator may find the way from where this one got to
            self._solver = None
            return
        if solver.status == "failed" and self._opening > _SHORTEST:  # it begins without implicit steps, which late in a run must be tiny
            self._solver, self._first, self._opening = None, self._opening, self._opening * _FINER
            return
        if solver.status == "failed":
            raise RuntimeError(f"the integrator gave up at flow time {self._now():.6g} of {self._times[-1]:.6g} (rtol={self._rtol:g}): "
                               f"{said} Raise rtol, or lower the rule's tolerance")
        if not np.isfinite(solver.y).all():  # LSODA takes a step that no number contradicts
            self._solver, self._first = None, (solver.t - (0.0 if fresh else solver.t_old)) / 10
            if not self._first > _SHORTEST:
                raise RuntimeError(f"the gradient is not finite just after flow time {self._now():.6g}")
            return
        state, same = None, True
        if self._speed < self._least or self._motion is None or not self._motion.inside(solver.y):
            state = chart.state(solver.y)
        if state is not None and self._worn(state):
            old = self._plan
            self._plan_ahead(solver.y, state)
            settled, moving = self._plan.settle(state)
            same = moving == chart.moving and (moving or np.array_equal(settled.centre, chart.template.centre)) \
                and np.array_equal(_moving_rows(self._plan), chart.rows)  # type: ignore[arg-type]  # equal for None, too
            if same and not self._agree(old, self._plan, solver.y, state):
                self._plan, self._solver, self._first = None, None, (solver.t - solver.t_old) / 4
                return  # the step is taken again from where it began, under a plan made there
            self._motion = chart.motion(self._plan)
        self._taken += 1
        self._opening = _OPENING
        self._last, self._reached = (solver, chart, self._base), (self._base + solver.t, state)
        self._cut_around(solver.y)
        if chart.faded(solver.y):
            raise TooHardError("all parameters have come so close to the target that float64 has nothing left to follow: "
                               f"set t_end to at most {self._times[self._record]:.3g}")
        if not same or chart.outgrown(solver.y):
            self._solver = None

    def _cut_around(self, y: np.ndarray) -> None:
        """Where the iterates of Newton's method leave what a step may do, they are cut."""
        self._lowest, self._highest = self._chart.room(y)

    def _agree(self, old: Plan, new: Plan, y: np.ndarray, state: State) -> bool:
        """Whether the velocities at y, which is `state`, under two plans are the same to the integrator, or differ by rounding only.

        A centre at rest is pulled back at the rate 2/n: there its velocity is rounding, and that is nothing against its own unit.
        """
        most = _AGREE * max(self._rtol, getattr(getattr(self._objective, "rule", None), "tol", 0.0))
        opened = self._chart.open(y)
        (centre, deviations), (other_centre, others) = self._velocity(old, opened), self._velocity(new, opened)
        if np.abs(centre - other_centre).max() > most * max(np.abs(other_centre).max(), opened.scale / len(opened.z)):
            return False
        apart = float(np.abs(deviations - others).max())
        return apart <= most * np.abs(others).max() or (not self._chart.moving and apart <= self._blur(old, state) + self._blur(new, state))

    def _blur(self, plan: Plan, state: State) -> float:
        """What rounding may do to the velocities that a plan finds: where they cancel, as at a stationary point, nothing else is left."""
        self.evaluations += 1
        bounds = plan.evaluate(state).bounds
        return 0.0 if bounds is None else float(bounds.rounding.grad.max())

    def _now(self) -> float:
        return float(np.expm1(self._reached[0]))


def _moving_rows(plan: Plan) -> np.ndarray | None:
    """(n,) which parameters move under a plan, None if all: those without weight, or too far to matter, stay where they are."""
    view = getattr(getattr(plan, "part", plan), "view", None)
    return None if view is None else view.rows


def _frame_along(centre: np.ndarray) -> np.ndarray:
    """Orthonormal axes, the first along `centre`: what grows first, and what stays, then have columns of their own."""
    k, length = len(centre), np.linalg.norm(centre)
    if length == 0 or np.count_nonzero(centre) == 1:
        return np.eye(k)
    return np.linalg.qr(np.column_stack([centre / length, np.eye(k)]))[0][:, :k]


@one_or_many
def gradient_flow(objective: Objective, params0: Any, *, t_end: float, rtol: float = 1e-8, record: Schedule | None = None,
                  stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
                  max_evaluations: int = 2_000_000,
                  progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Gradient flow :math:`\dot\mu_i=-\nabla_{\mu_i}L(\mu)`, the limit of gradient descent for :math:`\eta\to0`, :math:`t=\eta\tau`.

    Parameters
    ----------
    objective : Objective
    params0 : (n, d) array or State
        The start. A batch, (R, n, d) array or list of States, gives a list of R trajectories.
    t_end : float
        Flow time to end at, above 0.
    rtol : float
        Relative tolerance of the integrator per step, in every column of the deviations (so that directions that stay 1e-7 apart are
        as exact as those that grow) and in the centre; from 1e-13 to 1e-2. The rule's tolerance should not be above it.
    record : Schedule, optional
        ``log_spaced(200)`` by default: about that many records evenly spaced in log t. ``every(k)``: at flow times k, 2k, ...
    stop, observe, progress
        As in :func:`gradient_descent`; a record's ``step`` counts the integrator's steps.
    max_evaluations : int
        Gradients after which the run ends with status ``too_hard``, with what was reached.

    Returns
    -------
    Trajectory
        ``times`` are flow times, ``steps`` the integrator's steps so far. ``trajectory.extend(t_end=...)`` goes on.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.

    Notes
    -----
    SciPy's LSODA integrates in :math:`s=\ln(1+t)`: the late laws are powers of t, so steps of a constant ratio do. Its variables give
    every column of the deviations a logarithmic amplitude: an instability that takes deviations from 1e-100 to 1 is a straight line
    there, and amplitudes below float64's range are no exception. Values at records are interpolated at the integrator's own
    accuracy. A run that goes on late (``extend``) begins with SciPy's BDF. Where all converge deviations fall to 1e-25 near flow time
    1e49: float64 has nothing to follow beyond, and the run ends there, ``too_hard``. How far a whole run can be trusted is seen by
    ``op.verify(trajectory)``, which divides both tolerances by 100.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> flow = op.gradient_flow(obj, [[0.9], [-0.8], [0.1]], t_end=1e10)
    >>> flow.status, round(float(flow.loss[-1] * 64 * 1e20 / 9), 4)      # the law L = n^2 / (64 t^2)
    ('completed', 1.0)
    """
    settings: dict[str, Any] = {"t_end": check_positive(t_end, "t_end"),
                                "rtol": check_real(rtol, "rtol", minimum=_LEAST_RTOL, maximum=_MOST_RTOL),
                                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                                "observe": check_observe(observe),
                                "max_evaluations": check_integer(max_evaluations, "max_evaluations", minimum=1),
                                "progress": check_progress(progress)}
    settings["record"].times(settings["t_end"])  # too many records are refused here, before any work
    found: Trajectory | list[Trajectory] = for_each_start(_flow, objective, params0, **settings)
    return found


def _flow(objective: Objective, params0: Any, *, t_end: float, rtol: float, record: Schedule, max_evaluations: int, first_step: int = 0,
          t_start: float = 0.0, **options: Any) -> Course:
    state, times = start_of(objective, params0), record.times(t_end, t_start)
    settings = {"t_end": t_end, "rtol": rtol, "record": record.describe(), "max_evaluations": max_evaluations}
    return course(_Flow(objective, times, rtol, max_evaluations, first_step), objective, state, driver="gradient_flow",
               schedule=np.arange(len(times)), settings=settings, unit="record", **options)


def _resume(trajectory: Trajectory, *, t_end: float | None = None, steps: Any = None, rtol: float | None = None,
            record: Schedule | None = None, max_evaluations: int | None = None, stop: Callable[..., Any] | None = None,
            observe: dict[str, Callable[..., Any]] | None = None, progress: bool | None = None) -> Trajectory:
    """Go on to a later flow time; settings that are not given stay."""
    if steps is not None or t_end is None:
        raise ValueError("a gradient flow is extended to a flow time: trajectory.extend(t_end=...)")
    stored, now = trajectory.settings, float(trajectory.times[-1])
    if not check_positive(t_end, "t_end") > now:
        raise ValueError(f"t_end must be above the flow time {now:g} that was reached; got {t_end!r}")
    rtol = stored["rtol"] if rtol is None else check_real(rtol, "rtol", minimum=_LEAST_RTOL, maximum=_MOST_RTOL)
    most = stored["max_evaluations"] if max_evaluations is None else check_integer(max_evaluations, "max_evaluations", minimum=1)
    return driven(_flow(trajectory.objective, trajectory.final_state, t_end=float(t_end), rtol=rtol,
                 record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                 max_evaluations=most, stop=check_stop(stop), observe=check_observe(observe), progress=progress,
                 first_step=int(trajectory.steps[-1]), t_start=now, first_loss=trajectory.continuation.get("first_loss")))


DRIVERS["gradient_flow"] = _resume
