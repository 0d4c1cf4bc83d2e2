r"""Mixture teachers, component by component: nodes along the student's own axes, wherever the teacher's means are.

.. math:: \mathrm{KL}(p^*\|p_\mu)=\sum_j\pi_j^*\,\mathrm{KL}(N_j\|p_\mu)-I,\qquad I=\sum_j\pi_j^*\,\mathrm{KL}(N_j\|p^*),

with :math:`N_j=N(m_j,I)`. I, the mutual information of a draw and its component, is the teacher's alone: rows and :math:`E[w_i]` are
those of the single Gaussians, added up. Each of these needs the axes along which the students that it can see differ, at most n - 1, and
not the teacher's: two students in any dimension take one. A student that is out of sight of a component takes none there. The plan of one
Gaussian is that of :func:`overparam.objectives.expectation.plan_for`, with its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overparam.certificate import Bounds, Demand, Parts
from overparam.geometry import DROPPED, align
from overparam.nodes import Frame, Layout
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.expectation import plan_for, scene_of
from overparam.objectives.far_means import FarPlan, Scene
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.integrands import Integrands
from overparam.objectives.partial_plan import PartialPlan
from overparam.objectives.quadrature_plan import seen_from
from overparam.objectives.shares import Shares, reweighted, shares
from overparam.planning import Auto, TooHardError
from overparam.quadrature import Rule
from overparam.state import State

__all__ = ["ComponentPlan", "Mixture", "plan_of_mixture"]

_EPS = np.finfo(np.float64).eps
_FLOOR = 4e-14  # of what the components' rows are summed from: a row that cancels between them is asked for no more
_FULL_RANGE = Scene.faint
_FAINT = math.log(1e-25)  # what a mean may change unseen where the full range of float64 takes too many nodes
_CUT = 0.1  # of the smallest allowed error: what means may change unseen where leaving them out saves nodes,
_ROVING = math.log(30.0)  # in a run planned with this much less for each of them, so that the means may move
_FEW = 20_000  # nodes up to which there is little to gain,
_FEWEST = 2000  # and up to which there is none, even where every component sees one student
_INFORMATION_TOL = 1e-13
_UNSEEN = math.log(1e-20)  # of I, which is known to rounding
_ROOM = 30.0  # spread from which a plan is for one state: room for the means to move, a part of the spread, is wider than the grid


class _Allowed(Auto):
    """Auto for one component: (q,) absolute errors `allowed`, of the rows that are seen and of the value, in place of relative ones."""

    def __init__(self, tol: float, max_nodes: int, allowed: np.ndarray) -> None:
        super().__init__(tol, max_nodes)
        self.allowed = allowed

    def layout(self, frame: Frame, probe: Callable[[Layout], Demand] | None = None) -> Layout:
        def told(demand: Demand) -> Demand:
            rows = self.allowed
            if len(demand.magnitudes) > len(rows):  # means that sit close together: differences from their mean row, and that row
                rows = np.insert(rows, -1, rows[:-1].min())
                rows[:-1] /= 2
            return _Told(**vars(demand), allowed=rows / self.tol)

        if frame.known is not None:
            frame = replace(frame, known=told(frame.known))
        return super().layout(frame, None if probe is None else lambda layout: told(probe(layout)))


@dataclass(frozen=True, eq=False)
class _Told(Demand):
    """A demand with (q,) errors `allowed` in units of the tolerance."""

    allowed: np.ndarray | Any = None

    def targets(self, tol: float) -> np.ndarray:
        found: np.ndarray = np.maximum(tol * self.allowed, self.floors)
        return found


@dataclass(frozen=True, eq=False)
class Mixture:
    """Teacher means (m, k) in the state's coordinates, its weights (m,), the student's weights (n,), and what is integrated."""

    means: np.ndarray
    shares: np.ndarray
    weights: np.ndarray
    integrands: Integrands

    def seen_from(self, state: State, number: int) -> State:
        """`state` with its coordinates from component `number`'s mean, where the plans of one Gaussian have theirs.

        A basis of the whole space, which no plan needs but copies, is replaced by one of the reduced space itself.
        """
        k = state.k
        return State(state.centre - self.means[number], state.deviations, None if state.basis is None else np.eye(k),
                     None if state.basis is None else np.zeros(k))

    def component(self, state: State, number: int, rule: Rule, previous: Plan | None, roomy: bool, **faint: float) -> Plan:
        """The plan of one Gaussian, for states as :meth:`seen_from` it. An :class:`_Allowed` has errors for all n rows and the value."""
        seen, origin = self.seen_from(state, number), np.zeros((1, state.k))
        if isinstance(rule, _Allowed):
            _, present, kept = scene_of(seen, origin, np.ones(1), self.weights, self.integrands, **faint)
            rows = np.append(np.flatnonzero(present)[kept], state.n)
            rule = _Allowed(rule.tol, rule.max_nodes, rule.allowed[rows])
        return plan_for(seen, origin, np.ones(1), self.weights, rule, self.integrands, previous, roomy, **faint)

    def information(self) -> tuple[float, float]:
        """I and its bound."""
        state, value, error = State(np.zeros(self.means.shape[1]), self.means), 0.0, 0.0
        own = replace(self, weights=self.shares)
        for number, share in enumerate(self.shares):
            found = own.component(state, number, Auto(_INFORMATION_TOL), None, False, faint=_UNSEEN).evaluate(self.seen_from(state, number))
            value, error = value + share * found.value, error + share * found.value_error
        return float(value), float(error)

    def expected_nodes(self, state: State, tol: float) -> tuple[float, float, float]:
        """About how many nodes a plan on the axes of student and teacher takes, one on the student's for each component, and the latter
        where means are left out that change less than about the tolerance."""
        own = [0.0, 0.0]
        for number in range(len(self.means)):
            seen, origin = self.seen_from(state, number), np.zeros((1, state.k))
            for way, faint in enumerate(({}, {"faint": _first_cut(tol)})):
                _, present, kept = scene_of(seen, origin, np.ones(1), self.weights, self.integrands, **faint)
                own[way] += _nodes(seen.deviations[present][kept], origin, tol)
        _, present, kept = scene_of(state, self.means, self.shares, self.weights, self.integrands)
        return len(self.means) * _nodes(state.deviations[present][kept], self.means, tol), own[0], own[1]


def _first_cut(tol: float) -> float:
    return math.log(1e-3 * tol)


def _nodes(deviations: np.ndarray, means: np.ndarray, tol: float) -> float:
    axes = align(deviations, means)
    spreads = np.maximum(np.ptp(deviations @ axes, axis=0), np.ptp(means @ axes, axis=0))
    spreads = spreads[spreads > tol**(1 / 3) * min(1.0, spreads.max())] if spreads.max() > 0 else spreads[:0]
    return float(np.prod(6 + 0.8 * spreads * (4 - math.log(tol))))


def plan_of_mixture(mixture: Mixture, state: State, rule: Rule, previous: Plan | None, roomy: bool,
                    ordinary: Callable[[State, Rule, Plan | None, bool], Plan]) -> Plan:
    """The `ordinary` plan, on the axes of student and teacher, or that by components where it takes far fewer nodes."""
    known = previous if isinstance(previous, ComponentPlan) else None

    def plain() -> Plan:
        return ordinary(state, rule, None if known else previous, roomy)

    if not isinstance(rule, Auto) or len(mixture.means) < 2 or state.log_scale or not _workable(state) \
            or seen_from(state, mixture.means, mixture.weights)[1]:
        return plain()
    exact = Auto(rule.tol, rule.max_nodes) if rule.sampling else rule
    joint, full, own = mixture.expected_nodes(state, rule.tol)
    if joint <= max(_FEWEST if own < 10 * len(mixture.means) else _FEW, 1.5 * own):
        try:
            return ordinary(state, exact, None if known else previous, roomy)
        except TooHardError:
            pass
    try:
        return ComponentPlan.of(mixture, state, exact, known, roomy, cut=full > max(_FEW, 2 * own))
    except TooHardError:
        return plain()


def _workable(state: State) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.square(state.coordinates).sum()))


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the components find: values (m,), rows (m, n, k), E[w_i] (m, n)."""

    values: np.ndarray
    rows: np.ndarray
    shares: np.ndarray


class ComponentPlan(Plan):
    """The plans of a teacher's components, added up.

    Parameters
    ----------
    mixture : Mixture
    state : State
    rule : Auto
        Its tolerance is that of the sums: component rows that are small beside these are asked for no more than they need.
    parts : tuple of Plan
        One for each component.
    asked : (n + 1,) array, optional
        Errors of rows and value that the parts were asked for; None if each has the rule's tolerance.
    information : (float, float)
        I and its bound.
    roomy : bool
    """

    def __init__(self, mixture: Mixture, state: State, rule: Auto, parts: tuple[Any, ...], asked: np.ndarray | None,
                 information: tuple[float, float], roomy: bool) -> None:
        self.mixture, self.parts, self.asked, self.information = mixture, parts, asked, information
        self._rule, self._roomy, self._reduced = rule, roomy, state.basis is not None
        self._apart = np.linalg.norm(mixture.means - mixture.means[0], axis=1)
        self.nodes, self.rule = sum(part.nodes for part in parts), repr(rule)

    @classmethod
    def of(cls, mixture: Mixture, state: State, rule: Auto, previous: ComponentPlan | None = None, roomy: bool = True,
           cut: bool = False) -> ComponentPlan:
        """The plan at `state`; raises TooHardError where a component takes more than the rule's nodes.

        With `cut` means are left out under a component where all that they change there is a part of the error that is allowed. Where
        rows are so small that this saves too little, means may be left out that change less than 1e-25: rows below are known to that
        only, as their bounds say.
        """
        information = mixture.information() if previous is None else previous.information
        parts = previous.parts if previous is not None else (None,) * len(mixture.means)
        ways: list[dict[str, Any]] = [{"roomy": False}, {"roomy": False, "faint": _FAINT}]
        if roomy and np.ptp(state.deviations, axis=0).max() < _ROOM:
            ways.insert(0, {"roomy": True})
        slack = math.log(state.n) + (_ROVING if roomy else 0.0)

        def made(asked: np.ndarray | None, limit: float) -> ComponentPlan:
            own = Auto(rule.tol, rule.max_nodes) if asked is None else _Allowed(rule.tol, rule.max_nodes, asked)
            while True:
                way = ways[0]
                if limit - slack > way.get("faint", _FULL_RANGE):
                    way = {**way, "faint": limit - slack, "slack": slack}
                try:
                    new = tuple(mixture.component(state, number, own, one, **way) for number, one in enumerate(parts))
                    return cls(mixture, state, rule, new, asked, information, roomy)
                except TooHardError:
                    if len(ways) == 1:
                        raise
                    del ways[0]

        limit = _first_cut(rule.tol) if cut else -math.inf
        if previous is None:
            plan = made(None, limit)
        else:
            if cut:
                limit = previous.unseen(state)
            plan = made(previous.allowed(previous.sums(state, mixture.weights)) / 2, limit)
        for _ in range(4):
            allowed = plan.allowed(plan.sums(state, mixture.weights))
            most = plan.unseen(state) if cut else -math.inf
            if plan.asked is not None and (plan.asked <= allowed).all() and limit <= most + math.log(2):
                return plan
            parts, limit = plan.parts, most
            plan = made(allowed / 2, limit)
        raise TooHardError(f"tol={rule.tol:g} cannot be certified: the rows of the teacher's components cancel. Raise tol, or use a "
                           "sampling rule (op.Sobol, op.MonteCarlo)")

    def unseen(self, state: State) -> float:
        """Logarithm of what means that are left out under a component may change there, of rows and of the loss: a tenth of the smallest
        error that is allowed or that rounding makes, and so little that the Hessian has its tolerance as well.

        Minus infinity where a row is not seen for what this plan leaves out.
        """
        sums, found = self.sums(state, self.mixture.weights), self.evaluate(state)
        hidden = float(self.mixture.shares @ [part.left_out(state)[0] if isinstance(part, FarPlan) else 0.0 for part, state in
                                              zip(self.parts, self._seen(state), strict=True)])
        present = self.mixture.weights > 0
        rows = np.linalg.norm(found.rows, axis=1)
        known = np.maximum(rows, found.bounds.rounding.grad)[present]
        if (known <= 10 * hidden).any():
            return -math.inf
        allowed = np.maximum(self.allowed(sums), np.append(found.bounds.rounding.grad, found.bounds.rounding.value))
        least = float(allowed[np.append(present, True)].min())
        omega = np.linalg.norm((state.centre + state.deviations)[:, None] - self.mixture.means, axis=-1).max()
        curved = self.mixture.integrands.hessian.effect(omega, state.k) / self.mixture.integrands.effects(omega, state.k)[0]
        least = min(least, self._rule.tol * float((self.mixture.shares @ sums.shares).max()) / curved)
        return math.log(_CUT * least) if least > 0 else -math.inf

    def _seen(self, state: State) -> list[State]:
        return [self.mixture.seen_from(state, number) for number in range(len(self.parts))]

    # --- tolerances --------------------------------------------------------------------------------------------------

    def allowed(self, found: _Sums) -> np.ndarray:
        """(n + 1,) largest errors of rows and value at the rule's tolerance: as large for each component, whose weights add up to 1.

        In a run, whose steps do not hang on it, the value is asked for relative to what it is summed from. Where the components' rows
        or values cancel, they are asked for no more than 4e-14 of what is summed.
        """
        share, tol = self.mixture.shares, self._rule.tol
        sizes = share @ np.linalg.norm(found.rows, axis=2)
        rows = np.maximum(tol * np.linalg.norm(np.einsum("j,jnk->nk", share, found.rows), axis=1), _FLOOR * sizes)
        most = float(share @ found.values)
        value = max(tol * (most if self._roomy else abs(most - self.information[0])), 5 * _FLOOR * (1 + most))
        if self._roomy:
            rows += _EPS / 2 * self._apart.max() * (share @ found.shares)
        return np.append(rows, value)

    def _holds(self, found: _Sums) -> bool:
        return self.asked is None or bool((self.asked[:-1] <= self.allowed(found)[:-1]).all())

    # --- evaluation --------------------------------------------------------------------------------------------------

    def sums(self, state: State, weights: np.ndarray) -> _Sums:
        """Values, rows and E[w_i] of every component, without errors, for a student with these weights."""
        found = [shares(part, self.mixture.seen_from(state, number), weights) for number, part in enumerate(self.parts)]
        return _Sums(np.array([one.value for one in found]), np.array([one.rows for one in found]), np.array([one.shares for one in found]))

    def added(self, found: _Sums) -> Shares:
        """The mixture's value, rows and E[w_i]."""
        share = self.mixture.shares
        return Shares(float(share @ found.values) - self.information[0], np.einsum("j,jnk->nk", share, found.rows), share @ found.shares,
                      self._holds(found))

    def evaluate(self, state: State) -> Evaluation:
        found = [part.evaluate(self.mixture.seen_from(state, number)) for number, part in enumerate(self.parts)]
        share, n = self.mixture.shares, state.n
        seen = self.sums(state, self.mixture.weights).shares
        value, rows = -self.information[0], np.zeros(state.deviations.shape)
        kinds = [Parts(0.0, np.zeros(n)), Parts(0.0, np.zeros(n)), Parts(self.information[1], np.zeros(n))]
        far = np.linalg.norm((state.centre + state.deviations)[:, None] - self.mixture.means, axis=-1).max() + math.sqrt(state.k)
        total = 0.0
        for number, (one, part) in enumerate(zip(found, self.parts, strict=True)):
            value, rows, total = value + share[number] * one.value, rows + share[number] * one.rows, total + share[number] * abs(one.value)
            wider, moved = 1.0, 0.0
            if self._reduced:  # the basis was made of all means' differences; positions beside component j are rounded by its distance
                count = n + len(share) - 1
                wider = math.sqrt(count / max(1, _number_kept(part, n)))
                moved = 4 * DROPPED * math.sqrt(count) * _EPS * self._apart[number]
            for kind, (known, factor) in enumerate(zip((one.bounds.discretisation, one.bounds.truncation, one.bounds.rounding),
                                                       (1.0, 1.0, wider), strict=True)):
                kinds[kind] += Parts(share[number] * factor * known.value, share[number] * factor * known.grad)
            kinds[2] += Parts(share[number] * moved * far, share[number] * moved * seen[number])
        kinds[2] += Parts((len(share) + 2) * _EPS * (total + self.information[0]), np.zeros(n))
        bounds = Bounds(*kinds)
        return Evaluation(float(value), np.zeros(state.k), rows, bounds.total.value, bounds.total.grad, bounds)

    def covers(self, state: State) -> bool:
        return all(part.covers(self.mixture.seen_from(state, number)) for number, part in enumerate(self.parts))

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self.sums(template.moved(centre, deviations), self.mixture.weights)
        return np.zeros(len(centre)), np.einsum("j,jnk->nk", self.mixture.shares, found.rows)

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        yield from ()
        value = np.nan
        for done in range(steps):
            if not self.covers(state):
                return Burst(state, done, "replan", value)
            found = self.added(self.sums(state, self.mixture.weights))
            value = found.value
            if not (np.isfinite(value) and np.isfinite(found.rows).all()):
                return Burst(state, done, "not_finite", value)
            if value > ceiling:
                return Burst(state, done, "diverged", value)
            if done and not found.holds:
                return Burst(state, done, "replan", value)
            with np.errstate(over="ignore"):
                deviations = state.deviations - step_size * found.rows
            if not np.isfinite(deviations).all():
                return Burst(state, done, "not_finite", value)
            state = state.moved(state.centre, deviations)
        return Burst(state, steps, "done", value)

    def hessian(self, state: State) -> np.ndarray:
        return self.curvature(state).hessian

    def curvature(self, state: State, direction: np.ndarray | None = None, tol: float | None = None, max_nodes: int = 0) -> Curvature:
        """The components' Hessians, added up. With `tol` the whole Hessian is formed, whose norm the errors' sum is to be held against."""
        share = self.mixture.shares

        def added(asked: float | None, along: np.ndarray | None) -> Curvature:
            found = [part.curvature(self.mixture.seen_from(state, number), along, asked, max_nodes)
                     for number, part in enumerate(self.parts)]
            names = [name for name in ("hessian", "product", "outside", "error") if getattr(found[0], name) is not None]
            sums = {name: sum(p * getattr(one, name) for p, one in zip(share, found, strict=True)) for name in names}
            result: Curvature = replace(found[0], **sums, nodes=sum(one.nodes for one in found))
            return result

        if tol is None:
            return added(None, direction)
        asked = tol
        for _ in range(3):
            found = added(asked, None)
            norm = float(np.linalg.norm(found.hessian.reshape(2 * (state.n * state.k,)), 2))
            if found.error <= tol * (norm - found.error):
                product = None if direction is None else np.einsum("iajb,jb->ia", found.hessian, direction)
                return replace(found, product=product)
            asked = max(asked * 0.4 * tol * norm / found.error, 1e-14)
        raise TooHardError(f"the Hessian to tol={tol:g}: the components' cancel to {norm:.3g}, with a bound of {found.error:.3g}")

    def with_weights(self, weights: np.ndarray, parts: tuple[Plan, ...]) -> ComponentPlan:
        """The same nodes for a student with other weights, for which `parts` are."""
        other = copy(self)
        other.mixture, other.parts = replace(self.mixture, weights=weights), parts
        return other

    def effective_samples(self, state: State) -> None:
        return None


def _number_kept(part: Plan, n: int) -> int:
    view = part.part.view if isinstance(part, FarPlan) else part.view if isinstance(part, PartialPlan) else None
    return n if view is None else int(view.rows.sum())


@shares.register
def _(plan: ComponentPlan, state: State, weights: np.ndarray) -> Shares:
    return plan.added(plan.sums(state, weights))


@reweighted.register
def _(plan: ComponentPlan, weights: np.ndarray) -> ComponentPlan | None:
    parts: tuple[Any, ...] = tuple(reweighted(part, weights) for part in plan.parts)
    if any(part is None for part in parts):
        return None
    return plan.with_weights(weights, parts)
