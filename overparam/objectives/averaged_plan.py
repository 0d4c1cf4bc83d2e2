r"""The plan of a sum :math:`\sum_k\lambda_kL_k(s_k\mu)`: one plan for each term, made together so that their sum is accurate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from overparam.certificate import Bounds, Parts
from overparam.geometry import align
from overparam.objectives.averaged_terms import Seen, Terms, Total, norms, share
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.far_means import FarPlan
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.quadrature_plan import QuadraturePlan, seen_from
from overparam.objectives.remembered import Remembered
from overparam.planning import Auto, TooHardError
from overparam.quadrature import Rule
from overparam.state import State

__all__ = ["AveragedPlan"]

_ATTEMPTS = 5
_SHRUNK = 0.4  # the plan is made anew when the sum or a row of it falls to this part of what it was planned for, as that of a single term


class AveragedPlan(Plan):
    """One plan for each term, at its scale, and where they are alike a compiled evaluator of their sum.

    Parameters
    ----------
    state : State
        Where the plan is made.
    terms : Terms
    weights : (n,) array
        The student's mixture weights, none of them 0.
    rule : Rule
        Of ``Auto`` the tolerance is one of the sum, row by row; any other rule is taken for every term.
    previous : AveragedPlan, optional
        The plan that no longer serves.
    roomy : bool
        Whether the plan is for a run.
    """

    def __init__(self, state: State, terms: Terms, weights: np.ndarray, rule: Rule, previous: AveragedPlan | None = None,
                 roomy: bool = True) -> None:
        self._remembered = Remembered()
        self._terms, self._scaled, self._reduced = terms, state.log_scale != 0, state.basis is not None
        views = [seen_from(_at_scale(state, scale), scale * terms.means, weights) for scale in terms.scales]
        self._each_moves = [moving for _, moving in views]
        self._moving = all(self._each_moves)
        self._own = self._moving or views[int(np.argmax(terms.scales))][0]
        axes = align(self._split(state)[1], terms.means)
        if previous is not None and not np.array_equal(axes, previous._axes):
            self._axes = previous._axes
            self._make(state, rule, previous, roomy)
            if all(_permutes(plan) for plan in self._plans):
                axes, previous = self._axes, None
            else:  # other axes serve clearly better
                self._axes, previous = axes, None
                self._make(state, rule, None, roomy)
        else:
            self._axes = axes
            self._make(state, rule, previous, roomy)
        self.nodes = sum(plan.nodes for plan in self._plans)
        ruled = {repr(rule.fallback) if _sampled(plan) and isinstance(rule, Auto) else repr(rule) for plan in self._plans}
        self.rule = " and ".join(sorted(ruled))
        self._evaluator, self._box = self._compile() if all(_permutes(plan) for plan in self._plans) else (None, None)

    # --- planning ----------------------------------------------------------------------------------------------------

    _axes: np.ndarray
    _plans: list[Any]  # QuadraturePlan or FarPlan
    _evaluator: Any  # both None where terms have frames of their own
    _box: Any

    def _make(self, state: State, rule: Rule, previous: AveragedPlan | None, roomy: bool) -> None:
        """Plans of all terms in the frame."""
        states = self._scales_of(state)
        olds: list[Any] = [None] * len(self._terms.scales) if previous is None else previous._plans
        self._row_floor, self._value_floor = np.zeros(state.n), 0.0
        if not isinstance(rule, Auto):
            self._plans = self._made(states, [rule] * len(states), olds, roomy)
            return
        alike = previous is not None and all(not _sampled(plan) and _moves(plan) == moves
                                             for plan, moves in zip(olds, self._each_moves, strict=True))
        if not alike:  # an old plan sees other quantities
            olds = self._made(states, [share(rule)] * len(states), olds, roomy)
        believed = self._sum(olds, states)
        for _ in range(_ATTEMPTS):
            rules = [share(rule, self._part_of(plan, part)) for plan, part in zip(olds, believed.parts, strict=True)]
            self._plans = self._made(states, rules, olds, roomy)
            if any(_sampled(plan) for plan in self._plans):
                return
            found = self._sum(self._plans, states)
            if found.confirms(believed, rule.tol):
                limits = np.where(found.sizes > 4 * found.floors, _SHRUNK * found.sizes, 0.0)
                self._row_floor, self._value_floor = limits[:state.n].copy(), float(limits[-1])
                return
            believed, olds = found, self._plans
        raise TooHardError(f"tol={rule.tol:g} cannot be certified: the {len(states)} terms of the sum cancel in a gradient row. Raise tol, "
                           "or use a sampling rule (op.Sobol, op.MonteCarlo)")

    def _made(self, states: list[State], rules: Sequence[Rule], olds: Sequence[Plan | None], roomy: bool) -> list[Plan]:
        turned = self._terms.means @ self._axes
        return [self._terms.make(scale * turned)(state, rule, old, roomy)
                for scale, state, rule, old in zip(self._terms.scales, states, rules, olds, strict=True)]

    def _sum(self, plans: Sequence[Plan], states: Sequence[State]) -> Total:
        seen = [Seen.of(plan, state) for plan, state in zip(plans, states, strict=True)]
        if not self._scaled:
            return Total.of(seen, self._terms, self._moving)
        scales = self._terms.scales  # rows of a term are in units of deviations at its own scale
        found = Total.of([replace(one, rows=scale * one.rows) for one, scale in zip(seen, scales, strict=True)], self._terms, self._moving)
        return replace(found, parts=tuple(np.append(part[:-2] / scale, part[-2:])
                                          for part, scale in zip(found.parts, scales, strict=True)))

    def _part_of(self, plan: Plan, part: np.ndarray) -> np.ndarray:
        """A term's parts of the quantities that its plan has: those of the means that are near enough to matter."""
        if not isinstance(plan, FarPlan):
            return part
        n = len(plan.part.view.rows)
        return np.append(part[:n][plan.part.view.rows], part[n:])

    def _compile(self) -> tuple[Any, np.ndarray]:
        """The evaluator of the sum, and the box in which all terms' plans serve, on the frame's axes."""
        from overparam._core.weighted_sum import WeightedSum

        turns = np.ascontiguousarray([plan.axes for plan in self._plans])
        evaluator = WeightedSum([plan.compiled[0] for plan in self._plans], turns, self._terms.scales, self._terms.weights)
        boxes = []
        for plan, scale in zip(self._plans, self._terms.scales, strict=True):
            box = np.empty_like(plan.compiled[2])
            box[:, plan.axes.argmax(axis=0)] = plan.compiled[2] / scale
            if self._scaled:  # stored deviations are the same at every scale
                box[2:] *= scale
            boxes.append(box)
        low, high, least, most = np.stack(boxes, axis=1)
        return evaluator, np.stack([low.max(axis=0), high.min(axis=0), least.max(axis=0), most.min(axis=0)])

    # --- coordinates -------------------------------------------------------------------------------------------------

    def _split(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre and deviations as the plan keeps them: around the student's own mean, or around the target."""
        if not self._own:
            return np.zeros(state.k), state.coordinates
        mean = state.deviations.mean(axis=0)
        centred = state.deviations - mean
        if state.log_scale == 0.0 and np.abs(mean).max() <= np.abs(centred).max():
            return state.centre, state.deviations
        return state.centre + math.exp(state.log_scale) * mean, centred

    def enter(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre (k,) and deviations (n, k) in the plan's frame."""
        known = self._remembered.of(state)
        if known is not None:
            return known
        centre, deviations = self._split(state)
        return np.ascontiguousarray(centre @ self._axes), np.ascontiguousarray(deviations @ self._axes)

    def settle(self, state: State) -> tuple[State, bool]:
        return state.moved(*self._split(state)), self._moving

    def _scales_of(self, state: State) -> list[State]:
        """The state at each scale, in the frame."""
        centre, deviations = self.enter(state)
        basis = np.eye(state.k) if self._reduced else None
        turned = State(centre, deviations, basis, log_scale=state.log_scale)
        return [_at_scale(turned, scale) for scale in self._terms.scales]

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, state: State) -> Evaluation:
        """Value, gradient and their errors at `state`: the sums of those of all terms.

        Standard errors are added too, as if all terms had erred together: with one seed they use the same points.
        """
        found = [plan.evaluate(own) for plan, own in zip(self._plans, self._scales_of(state), strict=True)]
        factors, weights = self._terms.factors, self._terms.weights
        inner = self._terms.scales if self._scaled else np.ones(len(found))
        value, axes = float(weights @ [one.value for one in found]), self._axes
        common = np.tensordot(factors, [one.centre_grad for one in found], 1)
        rows = np.tensordot(factors * inner, [one.grad for one in found], 1)
        if not self._moving:
            common, rows = np.zeros(state.k), common + rows
        value_error = float(weights @ [one.value_error for one in found])
        grad_error = factors @ [one.grad_error for one in found]
        bounds = replicates = None
        if all(one.bounds is not None for one in found):
            bounds = self._bounds(found)
            value_error, grad_error = bounds.total.value, bounds.total.grad
        elif any(one.replicates is not None for one in found):
            replicates = sum(factor * (one.rows if one.replicates is None else one.replicates)
                             for factor, one in zip(factors, found, strict=True)) @ axes.T
        return Evaluation(value, common @ axes.T, rows @ axes.T, value_error, grad_error, bounds, replicates)

    def _bounds(self, found: Sequence[Evaluation]) -> Bounds:
        r"""The sums of the terms' bounds. Rounding counts twice, and once more for the sum.

        Scaled parameters are rounded: centre, deviations and teacher means by relative :math:`\varepsilon/2` each, which a logit sees as a
        relative error of less than the :math:`(k+2)\varepsilon` that its own evaluation is granted.
        """
        def added(parts: Sequence[Parts]) -> Parts:
            return Parts(float(self._terms.weights @ [one.value for one in parts]), self._terms.factors @ [one.grad for one in parts])

        bounds = [one.bounds for one in found]
        rounded = added([one.rounding for one in bounds])
        level = np.finfo(np.float64).eps * (len(found) + 2 * found[0].grad.shape[1] + 2)
        rows = self._terms.factors @ norms([one.rows for one in found])
        whole = Parts(level * float(self._terms.weights @ [abs(one.value) for one in found]), level * rows)
        return Bounds(added([one.discretisation for one in bounds]), added([one.truncation for one in bounds]), rounded + rounded + whole)

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = template.moved(centre, deviations)
        factors = self._terms.factors
        common, rows = np.zeros(state.k), np.zeros((state.n, state.k))
        middle, turned = np.ascontiguousarray(centre @ self._axes), np.ascontiguousarray(deviations @ self._axes)
        if self._evaluator is not None:
            if self._moving:  # their mean is meant to be 0: what rounding makes of it is taken from the centre, which moves by less
                middle -= [math.fsum(column) / len(turned) for column in turned.T]
            self._evaluator.evaluate(middle, turned, 2 if self._moving else 1, common, rows)
            return (common @ self._axes.T if self._moving else np.zeros(state.k)), rows @ self._axes.T
        inner = self._terms.scales if state.log_scale else np.ones(len(factors))
        for plan, own, factor, unit in zip(self._plans, self._scales_of(state), factors, inner, strict=True):
            settled, _ = plan.settle(own)
            mean, apart = plan.gradient(settled, settled.centre, settled.deviations)
            common, rows = common + factor * mean, rows + factor * unit * apart
        if not self._moving:
            common, rows = np.zeros(state.k), common + rows
        return common @ self._axes.T, rows @ self._axes.T

    def hessian(self, state: State) -> np.ndarray:
        return self.curvature(state).hessian

    def curvature(self, state: State, direction: np.ndarray | None = None, tol: float | None = None, max_nodes: int = 0) -> Curvature:
        """The sum of the terms' Hessians; `tol` is relative to the largest eigenvalue of each."""
        axes, squares = self._axes, self._terms.factors * self._terms.scales
        turned = None if direction is None else direction @ axes
        found = [plan.curvature(own, turned, tol, max_nodes) for plan, own in zip(self._plans, self._scales_of(state), strict=True)]
        hessian = product = outside = None
        if direction is None:
            whole = np.tensordot(squares, [one.hessian for one in found], 1)
            hessian = np.einsum("pa,iajb,qb->ipjq", axes, whole, axes, optimize=True)
        else:
            product = np.tensordot(squares, [one.product for one in found], 1) @ axes.T
        if all(one.outside is not None for one in found):
            outside = np.tensordot(squares, [one.outside for one in found], 1)
        return Curvature(hessian, product, outside, float(squares @ [one.error for one in found]), sum(one.nodes for one in found))

    # --- sampled rules -----------------------------------------------------------------------------------------------

    def effective_samples(self, state: State) -> np.ndarray | None:
        """(n,) the least effective sample sizes of all terms that are sampled; None if none is."""
        known = [one for one in self._over_terms("effective_samples", state) if one is not None]
        return reduce(np.minimum, known) if known else None

    def carries_integrand(self, state: State, few: float) -> bool:
        """Whether the integrands of all sampled terms rest on at least `few` effective samples."""
        return all(plan.carries_integrand(own, few)
                   for plan, own in zip(self._plans, self._scales_of(state), strict=True) if _sampled(plan))

    def logits_are_exact(self, state: State) -> bool:
        """Whether rounding leaves all logits two digits or more."""
        return all(self._over_terms("logits_are_exact", state))

    def _over_terms(self, method: str, state: State) -> list[Any]:
        return [getattr(plan, method)(own) for plan, own in zip(self._plans, self._scales_of(state), strict=True)]

    # --- validity and steps ------------------------------------------------------------------------------------------

    @property
    def compiled(self) -> tuple[Any, np.ndarray, np.ndarray] | None:
        return None if self._evaluator is None else (self._evaluator.capsule, self._axes, self._box)

    def covers(self, state: State) -> bool:
        """Whether every term's plan covers the state at its scale."""
        if state.log_scale and not self._scaled:
            return False
        if self._box is None:
            return all(self._over_terms("covers", state))
        (centre, deviations), (low, high, least, most) = self.enter(state), self._box
        params, spreads = centre + deviations, np.ptp(deviations, axis=0)
        return bool((params.min(axis=0) >= low).all() and (params.max(axis=0) <= high).all()
                    and (spreads >= least).all() and (spreads <= most).all())

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """Compiled steps of gradient descent; one after the other where the terms' plans are of different kinds."""
        if self._evaluator is None:
            return (yield from super().moves(state, step_size, steps, ceiling))
        centre, deviations = (part.copy() for part in self.enter(state))
        done, reason, value = yield from compiled_steps(self._evaluator.capsule, centre, deviations, step_size, steps, self._moving,
                                                        self._box, self._row_floor, self._value_floor, ceiling)
        after = replace(state, centre=centre @ self._axes.T, deviations=deviations @ self._axes.T)
        if after.log_scale == state.log_scale:  # else stored deviations have got another scale
            self._remembered.keep(after, centre, deviations)
        return Burst(after, done, reason, value)


def _at_scale(state: State, scale: float) -> State:
    """The state with all coordinates times `scale`; of deviations below float64's range it is their own scale that changes."""
    if state.log_scale:
        return replace(state, centre=scale * state.centre, log_scale=state.log_scale + math.log(scale))
    return replace(state, centre=scale * state.centre, deviations=scale * state.deviations)


def _permutes(plan: Plan) -> bool:
    """Whether a term's plan has all means, and the axes of the frame, perhaps in another order."""
    if not isinstance(plan, QuadraturePlan):
        return False
    return bool((np.count_nonzero(plan.axes, axis=0) == 1).all() and (plan.axes.sum(axis=0) == 1).all())


def _sampled(plan: Any) -> bool:
    return bool((plan.part.inner if isinstance(plan, FarPlan) else plan)._layout.sampled)


def _moves(plan: Plan) -> bool:
    return isinstance(plan, QuadraturePlan) and plan._moving  # a plan that leaves out far means does not
