"""Gradients along a run under one plan after another, for steps that are not plain descent."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from overparam.drivers.loop import by_sampling
from overparam.objectives.base import Objective, Plan
from overparam.objectives.evaluation import Evaluation
from overparam.planning import Auto
from overparam.state import State

__all__ = ["Found", "Gradients"]

_SHRUNK = 0.4  # a plan is made anew when the loss or a row falls to this part of what it was made for, as in bursts of descent
_ROUNDED = 4.0  # times their rounding: what is smaller may fall as it likes


class Found(NamedTuple):
    """Value and gradient at a state: what its centre moves along, and its deviations (in the unit of the stored ones)."""

    plan: Plan
    moving: bool
    value: float
    centre_grad: np.ndarray
    grad: np.ndarray

    def settle(self, state: State) -> State:
        """`state` split into centre and deviations as the plan moves them, where it has a say in that."""
        return self.plan.settle(state)[0] if _split_by(self.plan) else state

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        return bool(np.isfinite(self.value) and np.isfinite(self.grad).all() and np.isfinite(self.centre_grad).all())


def _split_by(plan: Plan) -> bool:
    """Whether a plan has coordinates of its own, and a compiled evaluator in them."""
    return hasattr(plan, "enter") and plan.compiled is not None


class Gradients:
    """What a stepper asks for at its states. Plans are kept as long as they serve; a row that has shrunk asks for a new one."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._tolerant = isinstance(getattr(objective, "rule", None), Auto)
        self._plan: Plan | None = None
        self._aside: Plan | None = None
        self.row_floor, self.value_floor = np.zeros(0), 0.0
        self.evaluations = 0

    def plan_for(self, state: State) -> Plan:
        """A plan that covers `state`."""
        return self._plan if self._plan is not None and self._plan.covers(state) else self.renewed(state)

    def renewed(self, state: State) -> Plan:
        """A plan made for `state`, and what rows and value may fall to under it."""
        self._plan = plan = self._objective.plan(state, self._plan)
        self.row_floor, self.value_floor = np.zeros(state.n), 0.0
        if self._tolerant:
            found = plan.evaluate(state)
            self.evaluations += 1
            if found.bounds is not None:
                rounding, rows = found.bounds.rounding, np.linalg.norm(found.grad, axis=1)
                # a deviation row has its own rounding, far below that of the mean row, which the bound includes
                known = np.full(state.n, plan.settle(state)[1]) | (rows > _ROUNDED * rounding.grad)
                self.row_floor = np.where(known, _SHRUNK * rows, 0.0)
                self.value_floor = _SHRUNK * found.value if found.value > _ROUNDED * rounding.value else 0.0
        return plan

    def at(self, state: State) -> Found:
        """Value and gradient at `state`."""
        plan = self.plan_for(state)
        found = self._evaluated(plan, state)
        if found.finite and (found.value < self.value_floor or (np.linalg.norm(found.grad, axis=1) < self.row_floor).any()):
            found = self._evaluated(self.renewed(state), state)
        return found

    def here(self, state: State) -> Found:
        """The same under a plan made for this very state, whatever that says of its box: a run must not stand still."""
        return self._evaluated(self.renewed(state), state)

    def _evaluated(self, plan: Plan, state: State) -> Found:
        self.evaluations += 1
        if not _split_by(plan):
            found = plan.evaluate(state)
            return Found(plan, bool(found.centre_grad.any()), found.value, found.centre_grad, found.grad)
        from overparam._core.descent import evaluate

        split: Any = plan  # one that has a compiled evaluator and a frame of its own
        (centre, deviations), (capsule, axes, _), moving = split.enter(state), split.compiled, plan.settle(state)[1]
        mean_row, rows = np.empty(len(centre)), np.empty(deviations.shape)
        value = evaluate(capsule, np.ascontiguousarray(centre), np.ascontiguousarray(deviations), 2 if moving else 1, mean_row, rows)
        return Found(plan, moving, value, mean_row @ axes.T if moving else np.zeros(state.k), rows @ axes.T)

    def look(self, state: State) -> Evaluation:
        """Value, gradient and errors at a record, which may be off the points that steps ask for."""
        self.evaluations += 1
        for plan in (self._plan, self._aside):
            if plan is not None and plan.covers(state):
                return plan.evaluate(state)
        if self._plan is None:
            return self.plan_for(state).evaluate(state)
        self._aside = self._objective.plan(state, self._plan)
        return self._aside.evaluate(state)

    def rough_look(self, state: State) -> Evaluation:
        """By sampling, where a tolerance is out of reach."""
        return by_sampling(self._objective, state)
