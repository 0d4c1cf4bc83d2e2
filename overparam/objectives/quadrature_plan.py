"""The plan of every objective that is an expectation: nodes in an aligned, reduced frame and a compiled evaluator over them."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from functools import cached_property
from math import fsum
from typing import Any

import numpy as np

from overparam._softmax import posterior_mean, responsibilities
from overparam.bounds import Majorant
from overparam.certificate import Bounds, Demand, Parts, discretisation, logit_range, rounding, truncation
from overparam.geometry import align
from overparam.nodes import Frame, Grid, Layout, offset_of
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.flushed import flushed
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.integrands import Integrands
from overparam.objectives.measure import Measure
from overparam.objectives.remembered import Remembered
from overparam.planning import Auto, TooHardError
from overparam.quadrature import GaussHermite, Rule
from overparam.state import State

__all__ = ["Measure", "QuadraturePlan", "seen_from"]

_TIGHT = 0.25  # a state wider than this part of its distance to the target is seen from the target
_SCALED_HIGH = 1e-100  # stored spread of a state with a log_scale, per axis: well above state.LARGEST_STORED
_SQUARED, _LIFTED = 1e-150, 1e-130  # deviations below the first have no squares; where they are taken instead
_UNSEEN = 1e-280  # an integrand of this size has rounding at the end of float64's range
_ALIKE = 10.0  # weights within this factor give rows of one order
_TURN = 0.05  # of the widest spread: no more is allowed for on an axis across means that turn
_SHRUNK = 0.4  # a plan is made anew when the loss or a row falls to this part of what it was planned for


def seen_from(state: State, means: np.ndarray, weights: np.ndarray) -> tuple[bool, bool]:
    """Whether `state` is best seen from its own mean rather than from the target, and whether that mean moves on its own.

    It is seen from its mean while its extent is small against its distance to the nearest of the teacher's `means` (m, k): small
    deviations around a far centre are then not rounded. The mean moves on its own (a *tight* state) while the means sit so close
    together that all responsibilities are of one order (logits differ by less than about one): then every row is near the mean
    row, and the differences are what the run is about; with equal weights that holds around the target too, where the rows fall
    like the cube of the deviations and a difference of absolute rows would be rounding. Further apart, or under unequal `weights`
    (n,), single rows may be far smaller than their mean, and each must be accurate by itself. A state with a `log_scale` stands for
    one that is tighter than float64 can say: it is always tight, however near the target its mean has come.
    """
    if state.log_scale:
        return True, bool(np.ptp(weights) == 0)
    centred = state.deviations - state.deviations.mean(axis=0)
    extent = np.linalg.norm(centred, axis=1).max()
    middle = state.centre + state.deviations.mean(axis=0)
    distance = np.linalg.norm(middle - means, axis=1).min()
    own = bool(extent < _TIGHT * distance)
    tight = bool(extent * (distance + 4) < 1) and bool(weights.max() <= _ALIKE * weights.min())
    moving = tight and (own or bool(np.ptp(weights) == 0))
    return own or moving, moving


def known(errors: Any) -> np.ndarray:
    """The errors, inf for NaN: beyond float64's range nothing is known of them."""
    return np.where(np.isnan(errors), np.inf, errors)


def _effective(shares: np.ndarray) -> np.ndarray:
    """(q,) effective sample sizes (Σs)²/Σs² of non-negative shares (N, q); 0 where all are 0: no point saw what is to be summed."""
    largest = shares.max(axis=0)
    scaled = shares / np.where(largest > 0, largest, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(largest > 0, scaled.sum(axis=0) ** 2 / (scaled**2).sum(axis=0), 0.0)


class QuadraturePlan(Plan):
    """A plan over nodes.

    Parameters
    ----------
    state : State
        Where the plan is made.
    means, teacher_weights : (m, k) and (m,) arrays
        Teacher means in the state's coordinates.
    weights : (n,) array
        The student's mixture weights.
    rule : Rule
    integrands : Integrands
        What the objective integrates: its compiled evaluator, majorants, tails and scales.
    previous : QuadraturePlan, optional
        The plan that no longer serves.
    roomy : bool
        Whether the plan is for a run, and should leave room to move, or for this state alone.
    """

    _evaluator: Any
    _measure: Measure

    def __init__(self, state: State, means: np.ndarray, teacher_weights: np.ndarray, weights: np.ndarray, rule: Rule,
                 integrands: Integrands, previous: QuadraturePlan | None = None, roomy: bool = True) -> None:
        self._rule, self._integrands, self._remembered = rule, integrands, Remembered()
        self._own, self._moving = seen_from(state, means, weights)
        centre, deviations = self._split(state)
        self._axes = align(deviations, means)
        deviations = deviations @ self._axes
        self._frame = Frame(params=centre @ self._axes + deviations, deviations=deviations, weights=weights, means=means @ self._axes,
                            teacher_weights=teacher_weights, roomy=roomy, integrand=integrands.tails, **self._inherited(previous, state))
        with np.errstate(divide="ignore"):
            log_weights = np.log(weights)
        self._probed: Any = None  # layout, evaluator, measure and demand of the last look

        def probe(layout: Layout) -> Demand:
            measure = Measure.of(layout, self._frame)
            evaluator = integrands.evaluator(measure, log_weights)
            demand = self._demand(evaluator, measure, *self.enter(state))[1]
            self._probed = layout, evaluator, measure, demand
            return demand

        self._layout = rule.layout(self._frame, probe)
        if self._probed is None or self._probed[0] is not self._layout:
            probe(self._layout)
        probed: Any = self._probed
        _, self._evaluator, self._measure, demand = probed
        if state.log_scale:  # stored deviations are scaled down again long before any equation sees that they are larger than the true
            self._layout = replace(self._layout, spread_high=np.minimum(self._layout.spread_high, _SCALED_HIGH))
        self._scaled = state.log_scale != 0
        self._row_floor, self._value_floor = np.zeros(state.n), 0.0
        self._floor_shares: np.ndarray | None = None  # E[w_i] where the floors were taken, if they fall with it
        if isinstance(rule, Auto) and not self._layout.sampled:
            limits = np.where(demand.magnitudes > 4 * demand.floors, _SHRUNK * demand.magnitudes, 0.0)
            self._row_floor, self._value_floor = limits[:state.n].copy(), float(limits[-1])
        self._radius, self._extent = self._reach()
        self._reduced = state.basis is not None
        self._given = means, teacher_weights
        self._replicates = self._groups(log_weights)
        self.nodes = self._layout.size
        self.rule = repr(rule.fallback if isinstance(rule, Auto) and self._layout.sampled else rule)

    def _groups(self, log_weights: np.ndarray) -> list[Any]:
        """Evaluators of a cloud's replicates; none for grids."""
        if not self._layout.sampled:
            return []
        count, components = self._layout.grids[0].replicates, len(self._frame.means)
        return [self._integrands.evaluator(self._measure.replicate(number, count, components), log_weights) for number in range(count)]

    def reweighted(self, weights: np.ndarray) -> QuadraturePlan:
        """The same nodes and box for a student with other weights (n,), all above 0.

        What it says of errors is a bound for these weights. That it meets a tolerance is not said.
        """
        other, log_weights = copy(self), np.log(weights)
        other._frame = replace(self._frame, weights=weights)
        other._evaluator = self._integrands.evaluator(self._measure, log_weights)
        other._replicates = other._groups(log_weights)
        return other

    def _inherited(self, previous: QuadraturePlan | None, state: State) -> dict[str, Any]:
        """What the plan that no longer serves still tells about the state: magnitudes there, where the modes are, whether means turn."""
        if previous is None or previous._layout.sampled:
            return {}
        turning = previous._turned(state)
        if previous._moving != self._moving:
            return {"turning": turning}
        known = previous._demand(previous._evaluator, previous._measure, *previous.enter(state))[1]
        starts = None
        if previous._layout.modes is not None:
            turn = previous._axes.T @ self._axes
            starts = tuple(modes @ turn for modes in previous._layout.modes)
        return {"known": known, "starts": starts, "turning": turning}

    def _turned(self, state: State) -> float:
        """Spread to allow for on narrow axes of the next plan.

        Where means turn (two of them in a plane, say) an axis across them is left at once: its two nodes bear a spread of the cube root
        of the tolerance. Every time that this happens the next plan allows for eight times as much, up to a part of the widest spread.
        """
        spreads, high = np.ptp(self.enter(state)[1], axis=0), self._layout.spread_high
        left = (spreads > high) & (high < _TURN * spreads.max())
        if not left.any():
            return self._frame.turning / 2
        return float(min(8 * max(self._frame.turning, high[left].max()), _TURN * spreads.max()))

    def _reach(self) -> tuple[float, float]:
        """Norm of the node farthest from the origin, or a little more, and largest distance of a node from its own component."""
        radius, extent = 0.0, 0.0
        for grid, mean in zip(self._layout.grids, self._frame.means, strict=True):
            if isinstance(grid, Grid):
                own = np.linalg.norm([np.abs(axis.nodes).max() for axis in grid.axes])
            else:
                own = np.linalg.norm(grid.nodes, axis=1).max()
            radius, extent = max(radius, float(own + np.linalg.norm(mean))), max(extent, float(own))
        return radius, extent

    # --- coordinates -------------------------------------------------------------------------------------------------

    def _split(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre and deviations as the plan keeps them: around the student's own mean, or around the origin."""
        if not self._own:
            return np.zeros(state.k), state.coordinates
        mean = state.deviations.mean(axis=0)
        centred = state.deviations - mean
        if state.log_scale == 0.0 and np.abs(mean).max() <= np.abs(centred).max():  # well centred as it is: nothing is rounded
            return state.centre, state.deviations
        return state.centre + math.exp(state.log_scale) * mean, centred

    def enter(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre (k,) and deviations (n, k) in the plan's frame."""
        known = self._remembered.of(state)
        if known is not None:
            return known
        centre, deviations = self._split(state)
        return np.ascontiguousarray(centre @ self._axes), np.ascontiguousarray(deviations @ self._axes)

    def leave(self, state: State, centre: np.ndarray, deviations: np.ndarray) -> State:
        """The state with these coordinates of the plan's frame."""
        left = replace(state, centre=centre @ self._axes.T, deviations=deviations @ self._axes.T)
        if left.log_scale != state.log_scale:  # stored deviations have got another scale
            return left
        return self._remembered.keep(left, centre, deviations)

    def settle(self, state: State) -> tuple[State, bool]:
        """The same parameters around the centre from which this plan sees them, and whether that centre moves on its own."""
        centre, deviations = self._split(state)
        return state.moved(centre, deviations), self._moving

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
            middle -= [fsum(column) / len(turned) for column in turned.T]
        self._evaluator.evaluate(middle, turned, 2 if self._moving else 1, mean_row, rows)
        return (mean_row @ self._axes.T if self._moving else np.zeros(len(centre))), rows @ self._axes.T

    def _demand(self, evaluator: Any, measure: Measure, centre: np.ndarray, deviations: np.ndarray) -> tuple[Evaluation, Demand]:
        """Value and rows in the plan's frame (errors not yet known), and what bounds and tolerances need."""
        n, k = deviations.shape
        peak, lift = np.abs(deviations).max(), 0
        if self._moving and 0 < peak < _SQUARED:  # squares would underflow; the rows are homogeneous, so they are taken further up
            lift = round(math.log2(_LIFTED) - math.log2(peak))
            deviations = np.ldexp(deviations, lift)
        mean_row, rows = np.empty(k), np.empty((n, k))
        value = evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, rows)
        sizes = self._integrands.sizes(evaluator, measure, self._frame, centre, deviations)
        two, three, moment, square, slopes = sizes.two, sizes.three, sizes.moment, sizes.loss, sizes.slopes
        if slopes is not None and self._moving:
            slopes = np.insert(slopes, n, slopes[:n].mean())
        magnitudes, near = np.linalg.norm(rows, axis=1), two
        scales = two + three + moment
        if self._moving:
            # rows are (w - 1/n) D + a (x - mu) + mean(a delta), their mean is D/n - mean(a delta)
            common = (moment * np.linalg.norm(deviations, axis=1)).mean()
            narrow = self._narrowness(centre, deviations, self._farthest(measure))
            two, three = np.append(two + two.mean(), two.mean()), np.append(three + common, common)
            moment = np.append(moment, 0.0)
            near = two * np.append(np.full(n, narrow), 1.0)
            scales = near + three + moment
            magnitudes = np.append(magnitudes, np.linalg.norm(mean_row))
        scales = plain = np.append(scales, sizes.loss_scale)
        if self._moving and not lift and measure.grid is not None and np.ptp(self._frame.weights) == 0:
            scales = self._integrands.tight_scales(measure.grid, centre - self._frame.means[0], deviations)
            scales = np.minimum(plain, np.maximum(scales, _UNSEEN))  # cubes of deviations leave float64 long before these do
        if lift:
            rows = np.ldexp(rows, -lift)
            for part in (three, moment, near, scales, magnitudes):  # scales and plain are one array then
                part[:n] = np.ldexp(part[:n], -lift)
        size = Majorant(np.append(two, square), np.append(three, 0.0), np.append(moment, 0.0),
                        np.append(np.ones(len(two)), 2.0), near=np.append(near, square), axes=self._frame.rank, loss=sizes.logs)
        blurred = None
        if slopes is not None and self._frame.roomy and not self._moving:
            apart = np.linalg.norm(self._frame.means - self._frame.means[0], axis=1).max()
            blurred = np.append(np.finfo(np.float64).eps / 2 * apart * slopes[:n], 0.0)
        demand = Demand(size, np.append(magnitudes, abs(value)), scales, slopes, plain, blurred)
        unknown = np.full(n, np.nan)
        return Evaluation(value, mean_row if self._moving else np.zeros(k), rows, np.nan, unknown), demand

    def _farthest(self, measure: Measure) -> float:
        """Bound on the distance of a node from the teacher component it belongs to."""
        if measure.grid is not None:
            return float(np.linalg.norm([np.abs(axis.nodes).max() for axis in measure.grid.axes]))
        return float(np.linalg.norm(measure.nodes, axis=1).max() + np.linalg.norm(self._frame.means, axis=1).max())

    def _narrowness(self, centre: np.ndarray, deviations: np.ndarray, farthest_node: float) -> float:
        r"""By how much a deviation row's first part is smaller than :math:`2E[w_iD]+\frac2nE[D]`.

        Logits of equally weighted parameters within s of each other differ by at most :math:`\lambda=s(\|x-m\|+\rho+a)` at a distance
        a from the real axis, :math:`\rho` the largest distance of a student mean from a teacher mean, and
        :math:`|nw_i-1|\le(e^\lambda-1)\,n|w_i|`. Up to a = 40 the mean of that against the integrand is at most
        :math:`\Lambda e^\Lambda`, :math:`\Lambda=s(45+3\rho+\sqrt k+8s+z)`, z the farthest node: x is sub-Gaussian around a point
        within :math:`2\rho+2s` where it is integrated. It is 0 for coincident parameters, whose rows are equal and ask for nothing.
        """
        if np.ptp(self._frame.weights) > 0:
            return 1.0
        farthest = np.linalg.norm((centre + deviations)[:, None] - self._frame.means, axis=-1).max()
        spread = float(np.linalg.norm(np.ptp(deviations, axis=0)))
        wide = spread * (45 + 3 * farthest + np.sqrt(len(centre)) + 8 * spread + farthest_node)
        return float(min(1.0, wide * np.exp(min(wide, 1.0))))

    def evaluate(self, state: State) -> Evaluation:
        """Value, gradient and their errors at `state`: bounds for grids, standard errors for clouds."""
        centre, deviations = self.enter(state)
        if self._layout.sampled:
            found = self._sampled(centre, deviations)
        else:
            found, demand = self._demand(self._evaluator, self._measure, centre, deviations)
            bounds = self._bounds(demand, centre, deviations)
            if isinstance(self._rule, GaussHermite):
                bounds = self._vouched(state, found, bounds)
            found = replace(found, value_error=bounds.total.value, grad_error=bounds.total.grad, bounds=bounds)
        rows = None if found.replicates is None else found.replicates @ self._axes.T
        return replace(found, centre_grad=found.centre_grad @ self._axes.T, grad=found.grad @ self._axes.T, replicates=rows)

    def hessian(self, state: State) -> np.ndarray:
        """(n, k, n, k) Hessian at `state` in the state's coordinates, on the plan's own nodes.

        A Jacobian for implicit steps: the plan's bounds are about value and gradient, and along an axis with two nodes the
        Hessian is off by about the square of the spread.
        """
        return self.curvature(state).hessian

    def curvature(self, state: State, direction: np.ndarray | None = None, tol: float | None = None,
                  max_nodes: int = 0) -> Curvature:
        """The Hessian at `state`, or its product with `direction` (n, k), in the state's coordinates.

        With `tol` at the state the plan was made for, on nodes of its own that bound the error: see
        the objective's :class:`overparam.objectives.hessian_plan.HessianKind`.
        """
        centre, deviations = self.enter(state)
        layout, error = self._layout, np.nan
        if tol is not None and not layout.sampled:
            layout, error = self._integrands.hessian.refined(layout, self._frame, centre, deviations, tol, max_nodes)
        turned = None if direction is None else direction @ self._axes
        found = self._integrands.hessian.sums(layout, self._frame, centre, deviations, turned)
        turned = None if found.hessian is None else np.einsum("pa,iajb,qb->ipjq", self._axes, found.hessian, self._axes, optimize=True)
        return replace(found, hessian=turned, product=None if direction is None else found.product @ self._axes.T, error=error)

    def effective_samples(self, state: State) -> np.ndarray | None:
        r"""(n,) effective sample sizes :math:`(\sum q_kw_i)^2/\sum(q_kw_i)^2` of a sampled plan, inf for weights of 0; else None."""
        if not self._layout.sampled:
            return None
        centre, deviations = self.enter(state)
        measure = self._measure
        return _effective(measure.weights[:, None] * responsibilities(measure.nodes - centre, deviations, self._frame.weights))

    def carries_integrand(self, state: State, few: float) -> bool:
        """Whether a sampled loss, and every teacher component, rests on at least `few` effective samples."""
        centre, deviations = self.enter(state)
        nodes, weights = self._measure.nodes, self._measure.weights
        apart = posterior_mean(nodes - centre, deviations, self._frame.weights) + centre - self._measure.target
        teacher = responsibilities(nodes, self._frame.means, self._frame.teacher_weights)
        return bool((_effective(weights[:, None] * np.column_stack([teacher, (apart**2).sum(axis=1)])) >= few).all())

    def logits_are_exact(self, state: State) -> bool:
        """Whether rounding leaves the logits two digits or more."""
        centre, deviations = self.enter(state)
        return bool(logit_range(centre, deviations, self._radius) * (state.k + 2) * np.finfo(np.float64).eps < 0.01)

    def _vouched(self, state: State, found: Evaluation, bounds: Bounds) -> Bounds:
        """Where the remainder of Gauss–Hermite promises little: the difference to a certified trapezoid, and that one's bound."""
        if bounds.discretisation.value <= 1e-12 * found.value:
            return bounds
        try:
            other = QuadraturePlan(state, *self._given, self._frame.weights, Auto(tol=1e-10), self._integrands, roomy=False)
        except TooHardError:
            return bounds
        truth = other.evaluate(state)
        own = found.rows @ self._axes.T
        apart = Parts(abs(found.value - truth.value) + truth.value_error, np.linalg.norm(own - truth.rows, axis=1) + truth.grad_error)
        known = bounds.discretisation
        return replace(bounds, discretisation=Parts(min(known.value, apart.value), np.minimum(known.grad, apart.grad)))

    def _bounds(self, demand: Demand, centre: np.ndarray, deviations: np.ndarray) -> Bounds:
        """The bound at a state by its parts; a row of a tight state has its own error and that of the mean row."""
        n, params = len(deviations), centre + deviations

        def parts(errors: np.ndarray) -> Parts:
            return Parts(float(errors[-1]), errors[:n] + (errors[n] if self._moving else 0.0))

        steps = parts(discretisation(self._layout, np.ptp(deviations, axis=0), self._frame.teacher_spreads, demand.size,
                                     offset_of(params, self._frame.means)))
        most = self._integrands.trivial(params, self._frame, *self._masses)
        steps = Parts(min(steps.value, most.value), np.minimum(steps.grad, most.grad))
        facts = self._integrands.facts(self._evaluator, self._measure, self._frame, centre, deviations)
        rows, loss = truncation(self._layout, params, deviations, self._frame, **facts)
        if self._moving:  # a row's discretisation then has the majorants of the mean row in it, which miss what all rows do
            rows = rows + 0.2 * rows.mean()
        rounded = rounding(demand, self.nodes, centre, deviations, self._radius, self._frame.means, self._extent,
                           self._reduced)
        known = parts(rounded)
        lost = self._flushed(centre, deviations)
        return Bounds(steps, Parts(loss, rows), known if lost is None else known + lost)

    def _flushed(self, centre: np.ndarray, deviations: np.ndarray) -> Parts | None:
        """Bound on what weights below the kernel's smallest exponential cost; in a tight state the mean row shares it."""
        mass = 1.0
        for grid in self._layout.grids:
            if isinstance(grid, Grid):
                mass = max(mass, float(np.prod([1 + 0.6 * (axis.step or 0.0) for axis in grid.axes])))
        lost = flushed(self._integrands, self._frame, centre, deviations, self._radius, logit_range(centre, deviations, self._radius), mass)
        return Parts(lost.value, lost.grad + lost.grad.max()) if lost is not None and self._moving else lost

    @cached_property
    def _masses(self) -> tuple[float, float]:
        """The largest sum of a grid's weights, and bound on its sum of weights times the distance from the teacher's mean."""
        found = []
        for grid in self._layout.grids:
            sums = np.array([axis.weights.sum() for axis in grid.axes])
            squares = np.array([axis.weights @ axis.nodes**2 for axis in grid.axes])
            mass = float(sums.prod())
            found.append((mass, float(np.sqrt(mass * (squares / sums).sum() * mass))))
        return tuple(np.max(found, axis=0))

    def _sampled(self, centre: np.ndarray, deviations: np.ndarray) -> Evaluation:
        """Mean over the replicates with its standard error (of a row: the root of its components' summed squares).

        The level of rounding is the floor of each: replicates that agree to the last digit are not exact.
        """
        n, k = deviations.shape
        values, means, rows = [], [], []
        for evaluator in self._replicates:
            mean_row, row = np.empty(k), np.empty((n, k))
            values.append(evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, row))
            means.append(mean_row if self._moving else np.zeros(k))
            rows.append(row)
        count = len(values)
        whole = np.array(rows) + np.array(means)[:, None]
        with np.errstate(over="ignore", invalid="ignore"):
            spread = whole.std(axis=0, ddof=1) / np.sqrt(count)
        floor = rounding(self._demand(self._evaluator, self._measure, centre, deviations)[1], self.nodes, centre, deviations, self._radius)
        lost = self._flushed(centre, deviations)
        if lost is not None:
            floor = np.append(floor[:n] + lost.grad, floor[-1] + lost.value)
        return Evaluation(float(np.mean(values)), np.mean(means, axis=0), np.mean(rows, axis=0),
                          known(np.hypot(np.std(values, ddof=1) / np.sqrt(count), floor[-1])).item(),
                          known(np.hypot(np.linalg.norm(spread, axis=1), floor[:n])), replicates=whole)

    # --- validity and steps ------------------------------------------------------------------------------------------

    def covers(self, state: State) -> bool:
        """Whether coordinates and spreads are inside the plan's box."""
        if state.log_scale and not self._scaled:
            return False
        centre, deviations = self.enter(state)
        params, spreads, box = centre + deviations, np.ptp(deviations, axis=0), self._layout
        return bool((params.min(axis=0) >= box.low).all() and (params.max(axis=0) <= box.high).all()
                    and (spreads >= box.spread_low).all() and (spreads <= box.spread_high).all())

    @property
    def axes(self) -> np.ndarray:
        """(k, k) axes of the plan's frame in the state's coordinates, as columns."""
        return self._axes

    def confine(self, low: np.ndarray, high: np.ndarray) -> None:
        """Serve only while coordinates in the plan's frame are between `low` and `high` (k,)."""
        box = self._layout
        self._layout = replace(box, low=np.maximum(box.low, low), high=np.minimum(box.high, high))

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """Compiled steps of gradient descent until done, the box is left, a row has shrunk, or something is wrong."""
        centre, deviations = (part.copy() for part in self.enter(state))
        box = self._layout
        walls = box.low, box.high, box.spread_low, box.spread_high
        done, reason, value = yield from compiled_steps(self._evaluator.capsule, centre, deviations, step_size, steps, self._moving, walls,
                                                        self._row_floor, self._value_floor, ceiling)
        return Burst(self.leave(state, centre, deviations), done, reason, value)
