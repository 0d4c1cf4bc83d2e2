r"""Expected responsibilities :math:`E[w_i]` on a plan's nodes: what expectation maximisation needs beside the gradient.

A plan is made for one set of weights. Its nodes serve others, which is what `weights` are for: those of a student whose weights move
from step to step. Whether they still serve well is for :func:`renewed` to say; docs/numerics.md, under "Weights that move".
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np

from overparam.certificate import discretisation, truncation
from overparam.nodes import Axis, Grid, Layout, box
from overparam.objectives.base import Plan
from overparam.objectives.data_plan import DataPlan
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.far_means import FarPlan
from overparam.objectives.partial_plan import PartialPlan, spread_rows
from overparam.objectives.quadrature_plan import QuadraturePlan, seen_from
from overparam.planning import Auto
from overparam.state import State

__all__ = ["Apart", "Shares", "apart", "meets", "renewed", "reweighted", "shares"]

_FULL = 0.7  # part of the tolerance up to which an error leaves room to go on
_FALL = 0.1  # of a row against its share, before it is looked at again; from the error that is known then it may be less
_SHRUNK = 0.5  # part of the spread that was planned for, below which a plan has more nodes than it needs
_TINY = np.finfo(np.float64).tiny
_GROWTH = 1.12  # by which spreads may grow before nodes are looked at again


class Shares(NamedTuple):
    """Value, gradient rows (n, k) and :math:`E[w_i]` (n,); `holds` says whether rows are as large as the plan needs them."""

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
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        before = plan._floor_shares
        fallen = 1.0 if before is None else np.minimum(np.where(before > 0, found / before, 1.0), 1.0)
        holds = (np.linalg.norm(seen, axis=1) >= plan._row_floor * fallen).all()
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


# --- other weights ----------------------------------------------------------------------------------------------------


@singledispatch
def reweighted(plan: Plan, weights: np.ndarray) -> Plan | None:
    """The same nodes and box for a student with other weights (n,); None where a new plan is needed.

    What it then says of errors is a bound for these weights. That it meets the tolerance is not said.
    """
    return None


@reweighted.register
def _(plan: QuadraturePlan, weights: np.ndarray) -> Plan | None:
    return plan.reweighted(weights) if (weights > 0).all() else None


@reweighted.register
def _(plan: PartialPlan, weights: np.ndarray) -> Plan | None:
    rows = plan.view.rows
    return PartialPlan(plan.inner.reweighted(weights[rows]), plan.view) if np.array_equal(weights > 0, rows) else None


@reweighted.register
def _(plan: DataPlan, weights: np.ndarray) -> Plan | None:
    return plan.reweighted(weights) if np.array_equal(weights > 0, plan.present) else None


# --- whether a plan goes on -------------------------------------------------------------------------------------------


@singledispatch
def renewed(plan: Plan, state: State, weights: np.ndarray) -> Plan | None:
    """The same nodes for these weights (n,), with their box around `state`, where the bounds there leave room to go on; else None."""
    return None


def _shortened(layout: Layout, lengths: np.ndarray) -> Layout:
    """A layout whose grids end `lengths` (k,) earlier on both sides of each axis."""
    def cut(axis: Axis, length: float) -> Axis:
        kept = (axis.nodes >= axis.nodes[0] + length) & (axis.nodes <= axis.nodes[-1] - length)
        return axis if length == 0 or not kept.any() else replace(axis, nodes=axis.nodes[kept], weights=axis.weights[kept])

    return replace(layout, grids=tuple(Grid(tuple(map(cut, grid.axes, lengths))) for grid in layout.grids))


@renewed.register
def _(plan: QuadraturePlan, state: State, weights: np.ndarray) -> Plan | None:
    other: Any = reweighted(plan, weights)
    if other is None or not isinstance(plan._rule, Auto) or plan._layout.sampled:
        return other if other is not None and plan.covers(state) else None
    means = plan._frame.means @ plan.axes.T
    if (plan._own, plan._moving) != seen_from(state, means, weights):
        return None
    centre, deviations = other.enter(state)
    frame = replace(other._frame, params=centre + deviations, deviations=deviations)
    wide = np.array([axis.step is not None for axis in plan._layout.grids[0].axes])
    planned = np.maximum(plan._frame.spreads, frame.teacher_spreads)
    if (wide & (np.maximum(frame.spreads, frame.teacher_spreads) < _SHRUNK * planned)).any():
        return None
    high = np.maximum(np.where(wide, 0.0, plan._layout.spread_high), _GROWTH * frame.spreads + np.where(wide, 0.01, 0.0))
    limits: dict[str, Any] = box(frame, wide, np.where(wide, 0.7 * frame.spreads, 0.0) - 1e-300, high)
    layout = replace(plan._layout, **limits)
    demand = other._demand(other._evaluator, other._measure, centre, deviations)[1]
    error = discretisation(layout, high, frame.teacher_spreads, demand.size, frame.offset)
    room = layout.high - frame.params.max(axis=0)  # the means may come that much nearer to the edges, as Auto allows for
    rows, loss = truncation(_shortened(layout, np.where(wide, room, 0.0)), frame.params, deviations, frame,
                            **other._integrands.facts(other._evaluator, other._measure, frame, centre, deviations))
    if plan._moving:  # the edges of a tight state are judged by the loss, as Auto does: its rows are differences
        error[-1] += loss
    else:  # the loss is for records to judge
        error[:-1] += rows
        error[-1] = 0.0
    targets = demand.targets(plan._rule.tol)
    if not (error <= _FULL * targets).all():
        return None
    used = np.where(error > 0, error / np.maximum(targets, _TINY), 0.0)
    floors = np.where(demand.magnitudes > 4 * demand.floors, np.maximum(used / _FULL, _FALL) * demand.magnitudes, 0.0)
    other._layout, other._row_floor, other._value_floor = layout, floors[:state.n].copy(), 0.0
    found = np.empty(state.n)
    other._evaluator.evaluate_shares(centre, deviations, found, np.empty(deviations.shape))
    other._floor_shares = found
    result: Plan | None = other
    return result


@renewed.register
def _(plan: PartialPlan, state: State, weights: np.ndarray) -> Plan | None:
    rows = plan.view.rows
    inner: Any = renewed(plan.inner, plan.view.part(state), weights[rows]) if np.array_equal(weights > 0, rows) else None
    return None if inner is None else PartialPlan(inner, plan.view)


@renewed.register
def _(plan: DataPlan, state: State, weights: np.ndarray) -> Plan | None:
    return reweighted(plan, weights)


def meets(plan: Plan, found: Evaluation) -> bool:
    """Whether bounds that a plan found are within its tolerance, or as rounding allows; so for rules without one."""
    inner = plan.inner if isinstance(plan, PartialPlan) else plan
    if not (isinstance(inner, QuadraturePlan) and isinstance(inner._rule, Auto)) or found.bounds is None or inner._moving:
        return True
    known, allowed = found.bounds.discretisation + found.bounds.truncation, found.bounds.rounding
    tol, sizes = inner._rule.tol, np.linalg.norm(found.grad, axis=1)
    return bool(known.value <= max(tol * abs(found.value), allowed.value) and (known.grad <= np.maximum(tol * sizes, allowed.grad)).all())


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
