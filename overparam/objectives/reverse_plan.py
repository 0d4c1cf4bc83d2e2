"""The plan of the reverse Fisher divergence: one rule at every student mean, which moves with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np

from overparam._softmax import posterior_mean
from overparam.certificate import Bounds, Demand, Parts
from overparam.geometry import align
from overparam.nodes import NEUTRAL, Axis, Frame, Grid, Layout, fixed_layout, hermite_axis
from overparam.objectives.base import _DIFFERENCE, Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.quadrature_plan import known
from overparam.objectives.remembered import Remembered
from overparam.objectives.reverse_bounds import Kept, Lengths, grid_error, smallest_axis
from overparam.objectives.reverse_rounding import SATURATES, logit_sizes, rounding, saturated, tight_scales
from overparam.planning import Auto, TooHardError
from overparam.quadrature import GaussHermite, Rule, Trapezoid
from overparam.state import State

__all__ = ["ReversePlan", "losses"]

_EPS = np.finfo(np.float64).eps
_TIGHT = 0.25  # a state wider than this part of its distance to the target is seen from the target
_MOVING = 0.05  # spread up to which all logits are small on the few nodes that are needed then, and the centre moves on its own
_SHRUNK = 0.9  # a plan is made anew at the latest when the loss or a row falls to this part of what it was planned for
_AIM = 0.4  # part of the tolerance that a plan for a run aims at: the rest is for what changes inside the box
_GROWTH, _GROWTH_ALONE = 1.12, 1.4  # by which a spread may grow
_BESIDE = 0.1  # part of the teacher's spread along an axis up to which the students' may grow at once: it asks for no more nodes
_ROOM = 0.25  # part of the largest distance from the teacher by which means may move
_STORED = 20_000_000  # nodes that are written out; with three axes 640 MB
_SCALED_HIGH = 1e-100  # stored spread of a state with a log_scale, per axis: well above state.LARGEST_STORED
_UNSEEN = 1e-280  # an integrand of this size has rounding at the end of float64's range
_HALF_WIDTH = 8.3  # the normal tail beyond it is 5e-17
_TRIES = 8
_SUMMED = 30_000_000  # logits that are looked at one by one for the sake of a sharper bound on their rounding: a few seconds
_HOPELESS = 256  # samples err by about this part of the integrand, 1/sqrt(65536)
_MOST_UNSEEN = 1000  # steps between two looks at means that are left out


def _mean(rows: np.ndarray) -> list[float]:
    """(k,) means of the columns, rounded once."""
    return [fsum(column) / len(rows) for column in rows.T]


def losses(z: np.ndarray, params: np.ndarray, weights: np.ndarray, means: np.ndarray, teacher_weights: np.ndarray) -> np.ndarray:
    r"""(N,) integrand of the loss at standard normal points z (N, k): :math:`\sum_i\pi_i\|D(\mu_i+z)\|^2`."""
    total = np.zeros(len(z))
    for mean, share in zip(params, weights, strict=True):
        apart = posterior_mean(mean + z, params, weights) - posterior_mean(mean + z, means, teacher_weights)
        total += share * (apart**2).sum(axis=1)
    return total


@dataclass(frozen=True, eq=False)
class _Look:
    """What a rule finds at a state, in the plan's frame, and what bounds and tolerances are proportional to: (q,) arrays."""

    evaluation: Evaluation
    demand: Demand


class ReversePlan(Plan):
    """A plan over nodes :math:`\\mu_i+z`.

    Parameters
    ----------
    state : State
        Where the plan is made.
    means, teacher_weights : (m, k) and (m,) arrays
        Teacher means in the state's coordinates.
    weights : (n,) array
        The student's mixture weights.
    rule : Rule
    previous : ReversePlan, optional
        The plan that no longer serves.
    roomy : bool
        Whether the plan is for a run, and should leave room to move, or for this state alone.
    """

    def __init__(self, state: State, means: np.ndarray, teacher_weights: np.ndarray, weights: np.ndarray, rule: Rule,
                 previous: Any = None, roomy: bool = True) -> None:
        self._remembered = Remembered()
        self._rule, self._weights, self._means, self._shares = rule, weights, means, teacher_weights
        centred = state.deviations - state.deviations.mean(axis=0)
        extent = np.linalg.norm(centred, axis=1).max()
        distance = np.linalg.norm(state.centre + state.deviations.mean(axis=0) - means, axis=1).min()
        self._alike = len(means) == 1 and bool(np.ptp(weights) == 0)
        self._moving = bool(state.log_scale) or (self._alike and bool(extent < _MOVING))
        self._own = self._moving or bool(extent < _TIGHT * distance)
        centre, deviations = self._split(state)
        self._axes = align(deviations, means)
        deviations = deviations @ self._axes
        self._frame = Frame(params=centre @ self._axes + deviations, deviations=deviations, weights=weights, means=means @ self._axes,
                            teacher_weights=teacher_weights, roomy=roomy)
        self._teacher = np.ascontiguousarray(self._frame.means)
        self._roomy, self._reduced, self._scaled = roomy, state.basis is not None, state.log_scale != 0
        self._kept, self._allowed = Kept.everything(state.n, len(means)), np.full(state.n + 1, np.inf)
        self._found: Any = None  # layout, evaluator and demand of the last look

        def probe(layout: Layout) -> Demand:
            evaluator = self._evaluator_of(layout)
            look = self._look(evaluator, layout, *self.enter(state))
            self._found = layout, evaluator, look.demand
            return look.demand

        known = None
        if previous is not None and previous._moving == self._moving and not previous._layout.sampled:
            known = previous._look(previous._evaluator, previous._layout, *previous.enter(state)).demand
        self._row_floor, self._value_floor = np.zeros(state.n), 0.0
        self._layout = self._laid_out(probe, known)
        if self._found is None or self._found[0] is not self._layout:
            probe(self._layout)
        found: Any = self._found
        self._evaluator, demand = found[1:]
        if isinstance(rule, Auto) and not self._layout.sampled:
            self._set_floors(demand, rule.tol)
        self._remake: Any = lambda at, other: ReversePlan(at, means, teacher_weights, weights, other, roomy=False)
        self.nodes = self._layout.grids[0].size * state.n
        self.rule = repr(rule.fallback if isinstance(rule, Auto) and self._layout.sampled else rule)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _laid_out(self, probe: Callable[[Layout], Demand], known: Demand | None) -> Layout:
        """The layout of the rule: one grid or cloud of standard normal points, the same around every mean."""
        rule, frame = self._rule, self._frame
        if isinstance(rule, Auto):
            try:
                return self._certified(rule, probe, known)
            except TooHardError:
                if not rule.sampling:
                    raise
                layout = rule.fallback.layout(frame)
        elif isinstance(rule, Trapezoid):
            orders = (rule.orders,) * frame.rank if isinstance(rule.orders, int) else rule.orders
            if len(orders) < frame.rank:
                raise ValueError(f"orders has {len(orders)} entries and the means differ along {frame.rank} axes: give one number or at "
                                 f"least {frame.rank} (widest axis first)")
            self._check_stored(float(np.prod([float(order) for order in orders[:frame.rank]])))
            half = _HALF_WIDTH if rule.half_width is None else rule.half_width
            axes = tuple(_spaced(order, half) for order in orders[:frame.rank])
            layout = fixed_layout(frame, (Grid(axes + (hermite_axis(1),) * (frame.params.shape[1] - frame.rank)),), np.zeros(0), 0.0)
        else:
            layout = rule.layout(frame)
        self._check_stored(layout.grids[0].size)
        return replace(layout, grids=layout.grids[:1])

    @staticmethod
    def _check_stored(size: float) -> None:
        if size > _STORED:
            raise ValueError(f"the rule makes {size:.3g} nodes, more than the {_STORED:g} that fit around every mean: use smaller orders, "
                             "one per axis (widest axis first), or op.Auto(tol)")

    def _certified(self, rule: Auto, probe: Callable[[Layout], Demand], known: Demand | None) -> Layout:
        """Grids of fewer and more nodes until the bound meets the tolerance."""
        frame, (n, k) = self._frame, self._frame.params.shape
        anywhere = np.full(k, np.inf)
        if frame.rank == 0 or self._scaled:  # below float64's range nothing moves but the centre, and two nodes see all there is
            order, high = (1, np.zeros(k)) if frame.rank == 0 else (2, np.full(k, _SCALED_HIGH))
            return Layout((Grid((hermite_axis(order),) * k),), -anywhere, anywhere, np.zeros(k), high, np.zeros(n))
        if not np.isfinite(np.square(frame.params).sum()):
            raise self._too_hard(rule, np.inf)
        aim, lengths = (_AIM if frame.roomy else 0.9) * rule.tol, self._lengths
        targets = 1e-3 * lengths.real(self._moving) if known is None else known.targets(aim)
        for _ in range(_TRIES):
            if not self._moving:
                self._kept = Kept.enough(lengths, self._where, targets)
            layout = self._designed(rule, 0.8 * targets)
            demand = probe(layout)
            targets, error = demand.targets(aim), self._promised(layout)
            if (error <= demand.targets(rule.tol)).all():
                return layout
        raise self._too_hard(rule, layout.size * n, cancels=True)

    def _too_hard(self, rule: Auto, nodes: float, cancels: bool = False) -> TooHardError:
        """The rule's error, which advises sampling only where a standard error would leave something of the rows."""
        ratio = 0.0
        if self._found is not None:
            demand = self._found[2]
            seen = demand.magnitudes > demand.floors
            ratio = float((demand.scales[seen] / demand.magnitudes[seen]).max(initial=0.0))
        return rule._too_hard(self._frame, nodes, cancels, ratio if ratio > _HOPELESS else 0.0)

    def _promised(self, layout: Layout) -> np.ndarray:
        """(q,) bound at the largest spreads of the plan's box."""
        own, others = self._kept.spreads(self._frame.deviations, self._frame.means)
        steps, edges = grid_error(layout.grids[0], self._grown(own, others), others, self._lengths_in_box(others), self._moving)
        error = steps + edges
        found: np.ndarray = error if self._moving else error + self._kept.left(self._lengths, self._where)
        return found

    @property
    def _growth(self) -> float:
        """By how much spreads may grow before a plan is made anew."""
        return 1.0 if not self._roomy else _GROWTH_ALONE if self._frame.rank == 1 else _GROWTH

    @property
    def _margin(self) -> np.ndarray:
        """(k,) and a little more on wide axes: bursts of a few steps are not worth their plan."""
        return 0.001 * (self._frame.spreads > 0.01) if self._roomy else np.zeros_like(self._frame.spreads)

    def _grown(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(..., k) spreads that students may come to, from their own and those of the components beside them."""
        return np.maximum(self._growth * own + self._margin, _BESIDE * others) if self._roomy else own

    def _lengths_in_box(self, others: np.ndarray) -> Lengths:
        """Lengths at the largest spreads of the plan's box, for components of spreads (n, k)."""
        return self._lengths.grown(self._growth, _BESIDE * float(np.linalg.norm(others.min(axis=0))) if self._roomy else 0.0)

    @property
    def _where(self) -> tuple[Any, ...]:
        return self._frame.params, self._frame.deviations, self._frame.means, self._frame.teacher_weights

    def _designed(self, rule: Auto, targets: np.ndarray) -> Layout:
        """The grid whose bound in the whole box is below `targets` (q,), with that box."""
        frame, n = self._frame, len(self._frame.params)
        own, others = self._kept.spreads(frame.deviations, frame.means)
        lengths, high = self._lengths_in_box(others), self._grown(frame.spreads, others.min(axis=0))
        widest = np.maximum(high, frame.teacher_spreads)
        axes = []
        for spreads, teacher_spreads, size in zip(self._grown(own, others).T, others.T, widest, strict=True):
            if size <= NEUTRAL * widest.max():
                axes.append(hermite_axis(1))
            else:
                axis = smallest_axis(spreads, teacher_spreads, lengths, self._moving, targets / frame.rank, most=rule.max_nodes)
                if isinstance(axis, float):
                    raise self._too_hard(rule, axis * n)
                axes.append(axis)
        size = float(np.prod([float(axis.order) for axis in axes]))
        if size * n > rule.max_nodes or size > _STORED:
            raise self._too_hard(rule, size * n)
        # other axes have their nodes for the teacher's sake
        wide = np.array([axis.step is not None for axis in axes]) & (high > frame.teacher_spreads)
        pad = _ROOM * lengths.farthest.max()
        if not frame.roomy:
            return Layout((Grid(tuple(axes)),), frame.params.min(axis=0), frame.params.max(axis=0), high, high, np.zeros(n))
        low = np.where(wide, 0.7 * frame.spreads, 0.0) - 1e-300
        if self._alike and not self._moving:  # closer together the centre moves on its own: late in a run nothing else is as exact
            first = int(np.argmax(frame.spreads))
            low[first] = max(low[first], min(0.7 * frame.spreads[first], 0.5 * _MOVING / np.sqrt(frame.rank)))
        return Layout((Grid(tuple(axes)),), frame.params.min(axis=0) - pad, frame.params.max(axis=0) + pad, low, high, np.zeros(n))

    def _set_floors(self, demand: Demand, tol: float) -> None:
        """Rows and loss below which the plan's bound would miss the tolerance; 0 where it is below their rounding anyway."""
        self._allowed = _AIM * np.maximum(tol * np.delete(demand.magnitudes, self._means_at), np.delete(demand.floors, self._means_at))
        if not self._roomy or self._frame.rank == 0 or self._scaled:
            return
        error = self._promised(self._layout)
        floors = np.where(error <= demand.floors, 0.0, np.minimum(error / tol, _SHRUNK * demand.magnitudes))
        self._row_floor, self._value_floor = np.ascontiguousarray(floors[:len(self._weights)]), float(floors[-1])

    @property
    def _means_at(self) -> list[int]:
        """Where quantities have the mean row, if the centre moves."""
        return [len(self._weights)] if self._moving else []

    @property
    def _lengths(self) -> Lengths:
        return Lengths.of(self._frame.params, self._frame.deviations, self._weights, self._frame.means)

    def _evaluator_of(self, layout: Layout, part: slice = slice(None)) -> Any:
        from overparam._core.reverse_fisher import Evaluator

        nodes, weights = (array[part] for array in self._points(layout)[:2])
        with np.errstate(divide="ignore"):
            return Evaluator(np.ascontiguousarray(nodes.T), np.ascontiguousarray(weights / weights.sum()), self._teacher,
                             np.log(self._frame.teacher_weights), np.log(self._weights))

    # --- coordinates -------------------------------------------------------------------------------------------------

    def _split(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre and deviations as the plan keeps them: around the student's own mean, or around the origin."""
        if not self._own:
            return np.zeros(state.k), state.coordinates
        mean = state.deviations.mean(axis=0)
        centred = state.deviations - mean
        if state.log_scale == 0.0 and np.abs(mean).max() <= np.abs(centred).max():  # well centred as it is: nothing is rounded
            return state.centre, state.deviations
        return state.centre + np.exp(state.log_scale) * mean, centred

    def enter(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre (k,) and deviations (n, k) in the plan's frame."""
        known = self._remembered.of(state)
        if known is not None:
            return known
        centre, deviations = self._split(state)
        middle, turned = np.ascontiguousarray(centre @ self._axes), np.ascontiguousarray(deviations @ self._axes)
        if self._moving and not state.log_scale:  # what turning them rounds must not move their mean: late states are far nearer the target
            middle += np.array(_mean(deviations)) @ self._axes - _mean(turned)
        return middle, turned

    def settle(self, state: State) -> tuple[State, bool]:
        """The same parameters around the centre from which this plan sees them, and whether that centre moves on its own."""
        return state.moved(*self._split(state)), self._moving

    # --- evaluation --------------------------------------------------------------------------------------------------

    @property
    def compiled(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Capsule, axes and box: see :class:`Plan`."""
        box = self._layout
        return self._evaluator.capsule, self._axes, np.stack([box.low, box.high, box.spread_low, box.spread_high])

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What centre (k,) and deviations (n, k) move along, without errors."""
        mean_row, rows = np.empty(len(centre)), np.empty(deviations.shape)
        turned, middle = np.ascontiguousarray(deviations @ self._axes), np.ascontiguousarray(centre @ self._axes)
        if self._moving:  # their mean is meant to be 0: what rounding makes of it is taken from the centre, which moves by less
            middle -= _mean(turned)
        self._evaluator.evaluate(middle, turned, 2 if self._moving else 1, mean_row, rows)
        return (mean_row @ self._axes.T if self._moving else np.zeros(len(centre))), rows @ self._axes.T

    def hessian(self, state: State) -> np.ndarray:
        """(n, k, n, k) Hessian at `state` in the state's coordinates, by fourth-order differences of the rows on the plan's own nodes."""
        centre, deviations = self.enter(state)
        (n, k), step = deviations.shape, _DIFFERENCE * (1 + np.abs(centre + deviations).max())
        columns = []
        for unit in np.eye(n * k):
            rows, spare = np.empty((4, n, k)), np.empty(k)
            for row, factor in zip(rows, (1, -1, 2, -2), strict=True):
                self._evaluator.evaluate(centre, deviations + factor * step * unit.reshape(n, k), 1, spare, row)
            columns.append(((8 * (rows[0] - rows[1]) - (rows[2] - rows[3])) / (12 * step)).ravel())
        found = np.array(columns)
        found = ((found + found.T) / 2).reshape(n, k, n, k)
        result: np.ndarray = np.einsum("pa,iajb,qb->ipjq", self._axes, found, self._axes, optimize=True)
        return result

    def _look(self, evaluator: Any, layout: Layout, centre: np.ndarray, deviations: np.ndarray) -> _Look:
        """Value and rows (errors not yet known), and what bounds and tolerances need."""
        n, k = deviations.shape
        mean_row, rows, scales, slopes = np.empty(k), np.empty((n, k)), np.empty(n), np.empty(n + 1)
        value = evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, rows)
        scale = evaluator.scales(centre, deviations, scales, slopes)
        magnitudes = np.append(np.linalg.norm(rows, axis=1), abs(value))
        plain = scales = np.append(scales, scale)
        tight = None
        if len(self._means) == 1:
            tight = tight_scales(*self._points(layout)[2:], centre - self._teacher[0], deviations, self._weights, self._moving)
        if tight is not None:
            scales = np.minimum(scales, np.delete(tight, n))
        scales = np.maximum(scales, _UNSEEN)
        if self._moving:
            means = scales[:n].mean() if tight is None else tight[n]
            scales, plain = np.insert(scales, n, means), np.insert(plain, n, plain[:n].mean())
            magnitudes, slopes = np.insert(magnitudes, n, np.linalg.norm(mean_row)), np.insert(slopes, n, slopes[:n].mean())
        blurred = None
        if len(self._means) > 1 and self._roomy:
            apart = np.linalg.norm(self._teacher - self._teacher[0], axis=1).max()
            blurred = np.append(_EPS / 2 * apart * slopes[:-1], 0.0)
        found = Evaluation(value, mean_row if self._moving else np.zeros(k), rows, np.nan, np.full(n, np.nan))
        return _Look(found, Demand(None, magnitudes, scales, slopes, plain, blurred))

    def _points(self, layout: Layout) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Nodes and weights of a layout, the farthest node's distance from 0 and their mean square; kept for the last one."""
        known = getattr(self, "_known_points", None)
        if known is None or known[0] is not layout:
            nodes, weights = layout.grids[0].points()
            known = self._known_points = (layout, nodes, weights, float(np.linalg.norm(nodes, axis=1).max()),
                                          float(weights @ (nodes**2).sum(axis=1)) / (float(weights.sum()) or 1.0))
        return known[1:]

    def _rounding(self, demand: Demand, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """(q,) bound on rounding."""
        lengths = Lengths.of(centre + deviations, deviations, self._weights, self._frame.means)
        differences = len(deviations) + len(self._means) - 1 if self._reduced else 0
        nodes, node_weights, reach = self._points(self._layout)[:3]
        known = demand, lengths, reach, self._layout.grids[0].size, deviations.shape[1], differences
        found = rounding(*known)
        tol = self._rule.tol if isinstance(self._rule, Auto) else 1e-10
        entries = len(nodes) * len(deviations) * (len(deviations) + len(self._means))
        if self._moving or entries > _SUMMED or max(logit_sizes(lengths, reach)) < SATURATES:
            return found
        if (found <= 0.1 * tol * demand.magnitudes).all():
            return found
        logits = saturated(nodes, node_weights / node_weights.sum(), centre + deviations, deviations, self._weights, self._frame.means,
                           self._frame.teacher_weights, differences)
        result: np.ndarray = np.fmin(found, rounding(*known, logits))
        return result

    def evaluate(self, state: State) -> Evaluation:
        """Value, gradient and their errors at `state`: bounds for grids, standard errors for clouds."""
        centre, deviations = self.enter(state)
        look = self._look(self._evaluator, self._layout, centre, deviations)
        if self._layout.sampled:
            found = self._sampled(look.demand, centre, deviations)
        else:
            bounds = self._bounds(look.demand, centre, deviations)
            if isinstance(self._rule, GaussHermite):
                bounds = self._vouched(state, look.evaluation, bounds)
            found = replace(look.evaluation, value_error=bounds.total.value, grad_error=bounds.total.grad, bounds=bounds)
        rows = None if found.replicates is None else found.replicates @ self._axes.T
        return replace(found, centre_grad=found.centre_grad @ self._axes.T, grad=found.grad @ self._axes.T, replicates=rows)

    def _bounds(self, demand: Demand, centre: np.ndarray, deviations: np.ndarray) -> Bounds:
        """The bound at a state by its parts; a row of a tight state has its own error and that of the mean row."""
        n = len(deviations)
        lengths = Lengths.of(centre + deviations, deviations, self._weights, self._frame.means)

        def parts(errors: np.ndarray) -> Parts:
            return Parts(float(errors[-1]), errors[:n] + (errors[n] if self._moving else 0.0))

        steps, edges = grid_error(self._layout.grids[0], *self._kept.spreads(deviations, self._frame.means), lengths, self._moving)
        if not self._kept.whole:
            steps = steps + self._kept.left(lengths, (centre + deviations, deviations, *self._where[2:]))
        return Bounds(parts(steps), parts(edges), parts(self._rounding(demand, centre, deviations)))

    def _vouched(self, state: State, found: Evaluation, bounds: Bounds) -> Bounds:
        """Where the remainder of Gauss–Hermite promises little: the difference to a certified plan, and that one's bound."""
        if bounds.discretisation.value <= 1e-12 * found.value:
            return bounds
        try:
            other = self._remake(state, Auto(tol=1e-10))
        except TooHardError:
            return bounds
        truth, known = other.evaluate(state), bounds.discretisation
        rows = (found.centre_grad + found.grad) @ self._axes.T
        value = abs(found.value - truth.value) + truth.value_error
        grad = np.linalg.norm(rows - truth.rows, axis=1) + truth.grad_error
        return replace(bounds, discretisation=Parts(min(known.value, value), np.minimum(known.grad, grad)))

    @cached_property
    def _replicates(self) -> list[Any]:
        cloud = self._layout.grids[0]
        size = len(cloud.nodes) // cloud.replicates
        return [self._evaluator_of(self._layout, slice(size * number, size * (number + 1))) for number in range(cloud.replicates)]

    def _sampled(self, demand: Demand, centre: np.ndarray, deviations: np.ndarray) -> Evaluation:
        """Mean over the replicates with its standard error (of a row: the root of its components' summed squares)."""
        n, k = deviations.shape
        values, means, rows = [], [], []
        for evaluator in self._replicates:
            mean_row, row = np.empty(k), np.empty((n, k))
            values.append(evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, row))
            means.append(mean_row if self._moving else np.zeros(k))
            rows.append(row)
        whole = np.array(rows) + np.array(means)[:, None]
        root, floor = np.sqrt(len(values)), self._rounding(demand, centre, deviations)
        return Evaluation(float(np.mean(values)), np.mean(means, axis=0), np.mean(rows, axis=0),
                          known(np.hypot(np.std(values, ddof=1) / root, floor[-1])).item(),
                          known(np.hypot(np.linalg.norm(whole.std(axis=0, ddof=1) / root, axis=1), floor[:n])), replicates=whole)

    def effective_samples(self, state: State) -> np.ndarray | None:
        """(n,) number of points around each mean for a sampled plan: all of them count alike there. None for grids."""
        return np.full(state.n, float(self._layout.grids[0].size)) if self._layout.sampled else None

    def carries_integrand(self, state: State, few: float) -> bool:
        """Whether a sampled loss rests on at least `few` effective samples."""
        centre, deviations = self.enter(state)
        shares = losses(self._layout.grids[0].nodes, centre + deviations, self._weights, self._teacher, self._frame.teacher_weights)
        shares = shares / (shares.max() or 1.0)  # squares may overflow, or underflow
        return bool(shares.max() == 0 or shares.sum() ** 2 >= few * (shares**2).sum())

    def logits_are_exact(self, state: State) -> bool:
        """Whether rounding leaves the logits two digits or more."""
        centre, deviations = self.enter(state)
        lengths = Lengths.of(centre + deviations, deviations, self._weights, self._frame.means)
        return bool(max(logit_sizes(lengths, self._points(self._layout)[2])) * (state.k + 2) * _EPS < 0.01)

    # --- validity and steps ------------------------------------------------------------------------------------------

    def covers(self, state: State) -> bool:
        """Whether coordinates and spreads are inside the plan's box."""
        if state.log_scale and not self._moving:
            return False
        centre, deviations = self.enter(state)
        params, spreads, box = centre + deviations, np.ptp(deviations, axis=0), self._layout
        if not self._kept.whole:  # means that were too far away to be seen may have come nearer
            lengths = Lengths.of(params, deviations, self._weights, self._frame.means)
            if (self._kept.left(lengths, (params, deviations, *self._where[2:])) > self._allowed).any():
                return False
        return bool((params.min(axis=0) >= box.low).all() and (params.max(axis=0) <= box.high).all()
                    and (spreads >= box.spread_low).all() and (spreads <= box.spread_high).all())

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """Compiled steps of gradient descent until done, the box is left, a row has shrunk, or something is wrong."""
        if self._kept.whole:
            return (yield from self._moves(state, step_size, steps, ceiling))
        done = 0
        while True:  # only here is seen which means come near each other: at the latest after half a unit of length, if they go on as now
            fastest = float(np.linalg.norm(self.gradient(state, *self._split(state))[1], axis=1).max())
            few = min(steps - done, max(1, int(0.5 / max(step_size * fastest, 0.5 / _MOST_UNSEEN))))
            found = yield from self._moves(state, step_size, few, ceiling)
            done, state = done + found.steps, found.state
            if found.reason != "done" or done == steps:
                return replace(found, steps=done)
            if not self.covers(state):
                return Burst(state, done, "replan", found.value)

    def _moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        centre, deviations = (part.copy() for part in self.enter(state))
        box = self._layout
        walls = box.low, box.high, box.spread_low, box.spread_high
        done, reason, value = yield from compiled_steps(self._evaluator.capsule, centre, deviations, step_size, steps, self._moving, walls,
                                                        self._row_floor, self._value_floor, ceiling)
        after = replace(state, centre=centre @ self._axes.T, deviations=deviations @ self._axes.T)
        if after.log_scale == state.log_scale:  # else stored deviations have got another scale
            self._remembered.keep(after, centre, deviations)
        return Burst(after, done, reason, value)


def _spaced(order: int, half_width: float) -> Axis:
    """A trapezoid axis of so many nodes, symmetric around 0."""
    step = 2 * half_width / (order - 1)
    z = step * (np.arange(order) - (order - 1) / 2)
    return Axis(z, step / np.sqrt(2 * np.pi) * np.exp(-z * z / 2), step)
