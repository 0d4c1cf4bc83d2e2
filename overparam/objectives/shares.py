r"""Expected responsibilities :math:`E[w_i]` on a plan's nodes: what expectation maximisation needs beside the gradient.

A plan is made for one set of weights. Its nodes serve others near by, which is what `weights` are for: those of a student whose weights
move from step to step.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import singledispatch
from typing import NamedTuple

import numpy as np

from overparam.objectives.base import Plan
from overparam.objectives.data_plan import DataPlan
from overparam.objectives.far_means import FarPlan
from overparam.objectives.partial_plan import PartialPlan, spread_rows
from overparam.objectives.quadrature_plan import QuadraturePlan
from overparam.planning import Auto
from overparam.state import State

__all__ = ["Apart", "Shares", "apart", "reweighted", "shares"]


class Shares(NamedTuple):
    """Value, gradient rows (n, k) and :math:`E[w_i]` (n,); `holds` says whether value and rows are as large as the plan needs them."""

    value: float
    rows: np.ndarray
    shares: np.ndarray
    holds: bool = True


class Apart(NamedTuple):
    """A tight state of equal weights, split, with the mean gradient row (k,), what each row differs by (n, k), and :math:`E[w_i]-1/n`."""

    state: State
    centre_grad: np.ndarray
    grad: np.ndarray
    excess: np.ndarray


@singledispatch
def shares(plan: Plan, state: State, weights: np.ndarray) -> Shares:
    r"""Value, gradient and :math:`E[w_i]` of a likelihood at `state` for a student with these weights (n,), on the plan's nodes."""
    raise TypeError(f"a {type(plan).__name__} has no responsibilities")


@shares.register
def _(plan: QuadraturePlan, state: State, weights: np.ndarray) -> Shares:
    centre, deviations = plan.enter(state)
    evaluator = plan._evaluator
    if not np.array_equal(weights, plan._frame.weights):
        with np.errstate(divide="ignore"):
            evaluator = plan._integrands.evaluator(plan._measure, np.log(weights))
    found, rows = np.empty(len(weights)), np.empty(deviations.shape)
    value = evaluator.evaluate_shares(centre, deviations, found, rows)
    seen = rows - rows.mean(axis=0) if plan._moving else rows
    with np.errstate(over="ignore", invalid="ignore"):
        holds = value >= plan._value_floor and (np.linalg.norm(seen, axis=1) >= plan._row_floor).all()
    return Shares(value, rows @ plan.axes.T, found, bool(holds))


@shares.register
def _(plan: PartialPlan, state: State, weights: np.ndarray) -> Shares:
    rows = plan.view.rows
    total = weights[rows].sum()  # below 1 where far means are left out that have some
    found = shares(plan.inner, plan.view.part(state), weights[rows] / total)
    return Shares(found.value - np.log(total), plan.view.array(state, found.rows), spread_rows(found.shares, rows), found.holds)


@shares.register
def _(plan: FarPlan, state: State, weights: np.ndarray) -> Shares:
    return shares(plan.part, state, weights)


@shares.register
def _(plan: DataPlan, state: State, weights: np.ndarray) -> Shares:
    return Shares(*plan.shares(state, weights))


@singledispatch
def reweighted(plan: Plan, weights: np.ndarray) -> Plan | None:
    """The same nodes and box for a student with other weights (n,), 0 where they were; None where a new plan is as cheap, or needed.

    What it then says of errors is a bound for these weights. That it meets the tolerance is not said.
    """
    return None


@reweighted.register
def _(plan: QuadraturePlan, weights: np.ndarray) -> Plan | None:
    if not isinstance(plan._rule, Auto) or plan._layout.sampled:
        return None
    other = copy(plan)
    other._frame = replace(plan._frame, weights=weights)
    other._evaluator = plan._integrands.evaluator(plan._measure, np.log(weights))
    return other


@reweighted.register
def _(plan: PartialPlan, weights: np.ndarray) -> Plan | None:
    inner = reweighted(plan.inner, weights[plan.view.rows] / weights[plan.view.rows].sum())
    return None if inner is None else PartialPlan(inner, plan.view)


def apart(plan: Plan, state: State) -> Apart | None:
    r"""What a tight state of equal weights moves along in full EM, to full relative accuracy; None where the plan does not move it apart.

    From :math:`E[w_i]` itself the excess over 1/n would be rounding for deviations below 1e-16.
    """
    if not isinstance(plan, QuadraturePlan) or not plan._moving:
        return None
    settled, _ = plan.settle(state)
    common, rows = plan.gradient(settled, settled.centre, settled.deviations)
    centre, deviations = plan.enter(settled)
    measure = plan._measure
    points, weights = (measure.nodes, measure.weights) if measure.grid is None else measure.grid.points()
    logits = (points - centre) @ deviations.T - (deviations**2).sum(axis=1) / 2
    near = np.expm1(logits)  # tight: all logits are of order one
    mean = near.mean(axis=1, keepdims=True)
    excess = weights @ ((near - mean) / (1 + mean)) / len(deviations)
    return Apart(settled, common, rows, excess)
