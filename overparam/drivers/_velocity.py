r"""Steps of descent with a velocity, a factor for each row and a step size that may change.

.. math:: v\leftarrow\beta v-\eta_\tau PG,\quad x\leftarrow x+v,\qquad P=\mathrm{diag}(f_i),

G the gradient at x, or at :math:`x+\beta v` (Nesterov). All of it is linear in x and v: with :math:`x_i=c+\delta_i`,
:math:`v_i=v_c+v_{\delta,i}` and a gradient that comes as a common row and deviation rows, deviations and their velocities are followed
apart from the centre's, however small they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from overparam.drivers._gradients import Found, Gradients
from overparam.drivers._step_sizes import StepSizes
from overparam.drivers.stepper import Advance, Stepper
from overparam.objectives.base import Objective
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.quadrature_plan import QuadraturePlan
from overparam.state import State

if TYPE_CHECKING:
    from overparam._core.descent import Job

__all__ = ["Velocities", "VelocityStepper", "resumed_velocities"]


class Velocities(NamedTuple):
    """Of the centre (k,) and of the stored deviations (n, k); a centre that does not move on its own has none."""

    moving: bool
    centre: np.ndarray
    deviations: np.ndarray

    @classmethod
    def none(cls, state: State) -> Velocities:
        """Rest."""
        return cls(False, np.zeros(state.k), np.zeros((state.n, state.k)))

    def split(self, moving: bool, log_scale: float) -> Velocities:
        """The same velocities for a centre that moves on its own, or does not."""
        if moving == self.moving:
            return self
        if not moving:
            return Velocities(False, np.zeros_like(self.centre), self.deviations + math.exp(-log_scale) * self.centre)
        mean = self.deviations.mean(axis=0)
        return Velocities(True, self.centre + math.exp(log_scale) * mean, self.deviations - mean)

    def rescaled(self, before: State, after: State) -> Velocities:
        """The same velocities where the stored deviations have got another scale."""
        change = before.log_scale - after.log_scale
        if change == 0.0:
            return self
        if after.log_scale:  # a power of two was moved
            return self._replace(deviations=np.ldexp(self.deviations, round(change / math.log(2))))
        half = math.exp(change / 2)  # as in State: the whole factor may underflow
        return self._replace(deviations=self.deviations * half * half)

    def turned(self, axes: np.ndarray) -> Velocities:
        """In coordinates of other axes, the columns of `axes`."""
        return Velocities(self.moving, np.ascontiguousarray(self.centre @ axes), np.ascontiguousarray(self.deviations @ axes))


def resumed_velocities(saved: dict[str, Any] | None, step: int, state: State) -> Velocities:
    """What a saved run left; rest where it had not moved."""
    if saved is None or saved["step"] != step:
        if step == 0:
            return Velocities.none(state)
        raise ValueError(f"this run cannot be extended from step {step}: the velocities that were kept are those of step "
                         f"{None if saved is None else saved['step']}. Start a new run from trajectory.final_state")
    return Velocities(bool(saved["moving"]), np.array(saved["centre"]), np.array(saved["deviations"]).reshape(state.n, state.k))


class VelocityStepper(Stepper):
    """Compiled bursts where the plan is made of nodes alone, steps in Python elsewhere.

    Parameters
    ----------
    objective : Objective
    sizes : StepSizes
    factors : (n,) array, optional
        Of the gradient rows.
    velocities : Velocities, optional
        None for plain descent.
    momentum : float
    look_ahead : bool
        Gradients at :math:`x+\\beta v`.
    first_step : int
    """

    def __init__(self, objective: Objective, sizes: StepSizes, factors: np.ndarray | None = None, velocities: Velocities | None = None,
                 momentum: float = 0.0, look_ahead: bool = False, first_step: int = 0) -> None:
        self._gradients, self._sizes, self._factors = Gradients(objective), sizes, factors
        self._momentum, self._look_ahead = momentum, look_ahead
        self._kept: tuple[QuadraturePlan, Velocities, Velocities] | None = None  # plan, velocities, and the same along its axes
        self._now = first_step, velocities  # one assignment: Ctrl-C must not come between the two

    # --- what the loop asks ------------------------------------------------------------------------------------------

    @property
    def evaluations(self) -> int:  # type: ignore[override]  # the loop reads it and never puts it
        """Gradients so far."""
        return self._gradients.evaluations

    def look(self, state: State) -> Evaluation:
        return self._gradients.look(state)

    def rough_look(self, state: State) -> Evaluation:
        return self._gradients.rough_look(state)

    def time(self, step: int) -> float:
        return self._sizes.time(step)

    def continuation(self) -> dict[str, Any]:
        step, velocities = self._now
        return {} if velocities is None else {"velocities": {"step": step, "moving": velocities.moving, "centre": velocities.centre,
                                                             "deviations": velocities.deviations}}

    def moves(self, state: State, steps: int) -> Generator[Job, None, Advance]:
        for _ in range(2):  # a plan that is worn out where it stands is renewed once
            point = self._point(state, self._now[1])
            if point is None:
                return Advance(state, 0, "not_finite")
            plan = self._gradients.plan_for(point)
            if type(plan) is not QuadraturePlan:  # others have more to say of where they hold than a box
                return self._walk(state, steps, self._gradients.at)
            moved = yield from self._burst(plan, state, steps)
            if moved.steps or moved.reason:
                return moved
        return self._walk(state, 1, self._gradients.here)

    # --- steps -------------------------------------------------------------------------------------------------------

    def _point(self, state: State, velocities: Velocities | None) -> State | None:
        """Where the gradient is taken; None where that is not finite."""
        if velocities is None or not self._look_ahead:
            return state
        return _moved(state, state.centre + self._momentum * velocities.centre,
                      state.deviations + self._momentum * velocities.deviations)

    def _burst(self, plan: QuadraturePlan, state: State, steps: int) -> Generator[Job, None, Advance]:
        """Compiled steps; a plan that they have worn out is renewed."""
        from overparam._core.descent import REASONS, Job

        step, velocities = self._now
        gradients, sizes, moving = self._gradients, None, plan.settle(state)[1]
        centre, deviations = (np.array(part) for part in plan.enter(state))
        compiled: Any = plan.compiled  # not None: a quadrature plan has a compiled evaluator
        capsule, axes, (low, high, least, most) = compiled
        if self._sizes.constant is None:
            sizes = self._sizes.array(step, steps)
            steps = len(sizes)
        turned = None if velocities is None else self._turned(plan, velocities, moving, state.log_scale, axes)
        own = (None, None) if turned is None else (turned.centre, turned.deviations)
        job = Job(capsule, centre, deviations, self._sizes.constant or 0.0, steps, moving, low, high, least, most, gradients.row_floor,
                  gradients.value_floor, self.ceiling, sizes, self._factors, self._momentum, self._look_ahead, *own)
        yield job
        done, code, _ = job.found
        gradients.evaluations += done
        after, new = plan.leave(state, centre, deviations), None
        if turned is not None:
            new = turned.turned(axes.T).rescaled(state, after)
            self._kept = (plan, new, turned) if after.log_scale == state.log_scale else None
        if code == REASONS["shrunk"]:  # before the run is said to be further: Ctrl-C may come while this takes its time
            gradients.renewed(self._point(after, new) or after)
        self._now = step + done, new
        if code in (REASONS["diverged"], REASONS["not_finite"]):
            return Advance(after, done, "diverged" if code == REASONS["diverged"] else "not_finite")
        return Advance(after, done)

    def _turned(self, plan: QuadraturePlan, velocities: Velocities, moving: bool, log_scale: float, axes: np.ndarray) -> Velocities:
        """Velocities along the plan's axes: those that the burst before left there, for where it paused must not round them."""
        if self._kept is not None and self._kept[0] is plan and self._kept[1] is velocities and self._kept[2].moving == moving:
            return Velocities(moving, *(part.copy() for part in self._kept[2][1:]))
        return velocities.split(moving, log_scale).turned(axes)

    def _walk(self, state: State, steps: int, gradient: Callable[[State], Found]) -> Advance:
        """The same steps in Python."""
        step, velocities = self._now
        reason, done = None, 0
        with np.errstate(over="ignore", invalid="ignore"):
            while done < steps and reason is None:
                point = self._point(state, velocities)
                found = None if point is None else gradient(point)
                if point is None or found is None or not found.finite:
                    reason = "not_finite"
                elif found.value > self.ceiling:
                    reason = "diverged"
                else:
                    moved = self._stepped(state, point, velocities, found, self._sizes.at(step + done))
                    if moved is None:
                        reason = "not_finite"
                    else:
                        (state, velocities), done = moved, done + 1
        self._now = step + done, velocities
        return Advance(state, done, reason)

    def _stepped(self, state: State, point: State, velocities: Velocities | None, found: Found,
                 size: float) -> tuple[State, Velocities | None] | None:
        """One step with the gradient found at `point`; None where it would not be finite."""
        start = found.settle(state)
        _, common, rows = Velocities(found.moving, found.centre_grad, found.grad).rescaled(point, start)
        if self._factors is not None:
            mean = self._factors.mean()
            rows = self._factors[:, None] * rows + ((self._factors - mean)[:, None] * common if found.moving else 0.0)
            common = mean * common
        if velocities is None:
            after = _moved(start, start.centre - size * common, start.deviations - size * rows)
            return None if after is None else (after, None)
        old = velocities.rescaled(state, start).split(found.moving, start.log_scale)
        new = Velocities(found.moving, self._momentum * old.centre - size * common, self._momentum * old.deviations - size * rows)
        after = _moved(start, start.centre + new.centre, start.deviations + new.deviations)
        return None if after is None else (after, new.rescaled(start, after))


def _moved(state: State, centre: np.ndarray, deviations: np.ndarray) -> State | None:
    """The state with other coordinates; None where one is not finite, which a State does not hold."""
    return state.moved(centre, deviations) if np.isfinite(centre).all() and np.isfinite(deviations).all() else None
