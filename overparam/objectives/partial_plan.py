"""The plan of some of a student's means: those that have a weight, or that float64 can see. The others stand still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overparam.certificate import Bounds
from overparam.geometry import _span as span
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.quadrature_plan import QuadraturePlan
from overparam.state import State

__all__ = ["Part", "PartialPlan", "rejoined", "spread_rows"]

_INSIDE = 1e-13  # part of a mean that may lie outside a basis which holds it: rounding


def spread_rows(rows: np.ndarray, present: np.ndarray, fill: Any = 0.0) -> np.ndarray:
    """(n, ...) array with `rows` at the `present` means and `fill` elsewhere."""
    out = np.zeros((len(present), *rows.shape[1:]))
    out[present], out[~present] = rows, fill
    return out


def rejoined(state: State, part: State, present: np.ndarray) -> State:
    """The reduced state `part` of the present means of `state`, with the others, for which axes are added where they need any."""
    others = state.deviations[~present]
    origin: Any = part.origin  # a reduced state has one
    if part.basis is not None and state.basis is None:
        offset = state.centre - part.origin if state.origin is None else state.centre + state.origin - part.origin
        others = offset + others
        beyond = others - (others @ part.basis) @ part.basis.T
        basis = part.basis
        if (np.linalg.norm(beyond, axis=1) > _INSIDE * np.linalg.norm(others, axis=1)).any():
            coordinates = np.linalg.norm(others, axis=1) + np.linalg.norm(state.centre) + np.linalg.norm(origin)
            basis = np.ascontiguousarray(np.linalg.qr(np.concatenate([basis, span(beyond, coordinates)], axis=1))[0])
            basis[:, :part.k] = part.basis
        part = _padded(part, basis)
        others = others @ basis - part.centre
    elif part.k > others.shape[1]:
        others = np.pad(others, ((0, 0), (0, part.k - others.shape[1])))
    return replace(part, deviations=spread_rows(part.deviations, present, others))


def _padded(state: State, basis: np.ndarray) -> State:
    """`state` in a `basis` that has more axes behind its own."""
    more = basis.shape[1] - state.k
    return replace(state, basis=basis, centre=np.pad(state.centre, (0, more)), deviations=np.pad(state.deviations, ((0, 0), (0, more))))


@dataclass(frozen=True, eq=False)
class Part:
    """Which means take part, and the axes that these and the teacher take up: the others are theirs who have no weight."""

    rows: np.ndarray
    axes: np.ndarray
    basis: np.ndarray | None

    @classmethod
    def of(cls, state: State, means: np.ndarray, present: np.ndarray) -> Part:
        there = np.abs(means).max(axis=0)
        used = (state.centre != 0) | (state.deviations[present] != 0).any(axis=0) | (there > _INSIDE * there.max())
        axes = np.flatnonzero(used) if used.any() else np.zeros(1, dtype=np.intp)
        return cls(present, axes, None if state.basis is None else np.ascontiguousarray(state.basis[:, axes]))

    def like(self, other: Part) -> bool:
        return np.array_equal(self.axes, other.axes) and np.array_equal(self.rows, other.rows)

    def part(self, state: State) -> State:
        """The present means on their own axes."""
        basis = self.basis if state.basis is not None or len(self.axes) == state.k else np.eye(state.k)[:, self.axes]
        return State(state.centre[self.axes], state.deviations[np.ix_(self.rows, self.axes)], basis, state.origin, state.log_scale)

    def whole(self, state: State, part: State) -> State:
        """`state` with its present means as in `part`; the others stay where they are."""
        centre = state.centre.copy()
        centre[self.axes] = part.centre
        deviations = state.deviations + (state.centre - centre)
        deviations[np.ix_(self.rows, self.axes)] = part.deviations
        return replace(state, centre=centre, deviations=deviations)

    def vector(self, state: State, short: np.ndarray) -> np.ndarray:
        """(k,) from what is on the present means' axes."""
        out = np.zeros(state.k)
        out[self.axes] = short
        return out

    def array(self, state: State, short: np.ndarray, others: Any = 0.0) -> np.ndarray:
        """(n, k) rows from those of the present means; `others` on their axes elsewhere."""
        out = np.zeros((state.n, state.k))
        out[:, self.axes] = spread_rows(short, self.rows, others)
        return out


class PartialPlan(Plan):
    """The plan of the means in a :class:`Part`; the others have rows of exactly 0, ask for no nodes, and stay where they are."""

    def __init__(self, inner: QuadraturePlan, view: Part) -> None:
        self.inner, self.view = inner, view
        self.nodes, self.rule = inner.nodes, inner.rule

    def evaluate(self, state: State) -> Evaluation:
        view, found = self.view, self.inner.evaluate(self.view.part(state))
        bounds, rows = found.bounds, found.replicates
        if bounds is not None:
            bounds = Bounds(*(replace(part, grad=spread_rows(part.grad, view.rows))
                              for part in (bounds.discretisation, bounds.truncation, bounds.rounding)))
        if rows is not None:
            rows = np.array([view.array(state, one) for one in rows])
        # where the centre moves, a mean that does not has to move against it
        return replace(found, centre_grad=view.vector(state, found.centre_grad), grad=view.array(state, found.grad, -found.centre_grad),
                       grad_error=spread_rows(found.grad_error, view.rows), bounds=bounds, replicates=rows)

    def covers(self, state: State) -> bool:
        return self.inner.covers(self.view.part(state))

    def settle(self, state: State) -> tuple[State, bool]:
        part, moving = self.inner.settle(self.view.part(state))
        return self.view.whole(state, part), moving

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As for all means; where the centre moves, it is the deviations of the means that take part whose mean is meant to be 0."""
        view = self.view
        common, rows = self.inner.gradient(view.part(template), centre[view.axes], deviations[np.ix_(view.rows, view.axes)])
        return view.vector(template, common), view.array(template, rows, -common)

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        done = yield from self.inner.moves(self.view.part(state), step_size, steps, ceiling)
        return replace(done, state=self.view.whole(state, done.state))

    def hessian(self, state: State) -> np.ndarray:
        return self.curvature(state).hessian

    def curvature(self, state: State, direction: np.ndarray | None = None, tol: float | None = None, max_nodes: int = 0) -> Curvature:
        rows, axes = self.view.rows, self.view.axes
        inside = None if direction is None else direction[np.ix_(rows, axes)]
        found = self.inner.curvature(self.view.part(state), inside, tol, max_nodes)
        outside = np.zeros((state.n, state.n))
        outside[np.ix_(rows, rows)] = found.outside
        beyond = np.eye(state.k)
        beyond[axes, axes] = 0.0
        hessian = product = None
        if found.hessian is not None:
            hessian = np.einsum("ij,kl->ikjl", outside, beyond)
            hessian[np.ix_(rows, axes, rows, axes)] = found.hessian
        if direction is not None:
            product = self.view.array(state, found.product) + outside @ (direction @ beyond)
        return replace(found, hessian=hessian, product=product, outside=outside)

    def effective_samples(self, state: State) -> np.ndarray | None:
        found = self.inner.effective_samples(self.view.part(state))
        return None if found is None else spread_rows(found, self.view.rows, np.inf)

    def carries_integrand(self, state: State, few: float) -> bool:
        return self.inner.carries_integrand(self.view.part(state), few)

    def logits_are_exact(self, state: State) -> bool:
        return self.inner.logits_are_exact(self.view.part(state))
