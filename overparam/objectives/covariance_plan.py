r"""The plan of score matching against :math:`N(m,\Sigma)`: nodes in whitened axes, and a closed form for the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from math import fsum
from typing import Any

import numpy as np

from overparam.certificate import Bounds, Parts, logit_range
from overparam.covariance import Covariance
from overparam.geometry import DROPPED
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.covariance_bounds import Factors, Whitened, envelopes_at, weights_at, with_shares
from overparam.objectives.covariance_layout import Found, Nodes, discretisation, fixed_nodes, left_out, nodes_for, sampled_nodes
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.remembered import Remembered
from overparam.planning import Auto, TooHardError
from overparam.quadrature import GaussHermite, Rule
from overparam.sampling import SampledRule
from overparam.state import State

__all__ = ["CovariancePlan"]

_TIGHT = 0.25  # a state wider than this part of its distance to the target is seen from the target
_SQUARED, _LIFTED = 1e-150, 1e-130  # deviations below the first have no squares; where they are taken instead
_SHRUNK = 0.4  # a plan is made anew when the loss or a row falls to this part of what it was planned for
_CHUNK = 16384  # nodes looked at together
_FLUSHED = math.exp(-600.0)  # the kernel takes exponentials below this for 0
_ARRIVED = 1e-7  # narrow teachers pull all means to theirs; this near, times what targets extend over, rounding of these takes over
_MISSED = 1e3  # part of the tolerance beyond which a bound on rounding is said to miss it
_NEAR = 0.3  # cosine of the angle by which axes may turn before a plan is made anew
_BETWEEN = 32  # steps between looks at the spreads, where axes of the whitened space are not those of the kernel


class CovariancePlan(Plan):
    """A plan over whitened nodes.

    Parameters
    ----------
    state : State
        Where the plan is made; its origin is the teacher's mean, its space closed under the covariance.
    shape : Covariance
        The covariance of the state's coordinates.
    outside : float
        What the loss has from outside the state's space.
    weights : (n,) array
        The student's mixture weights, all above 0.
    rule : Rule
    roomy : bool
        Whether the plan is for a run, and should leave room to move, or for this state alone.
    """

    def __init__(self, state: State, shape: Covariance, outside: float, weights: np.ndarray, rule: Rule, roomy: bool = True) -> None:
        self._remembered, self._since = Remembered(), 0  # steps since the spreads were looked at
        self._shape, self._outside, self._weights, self._rule = shape, outside, weights, rule
        self._own, self._moving = _seen(state, weights, float(np.sqrt(shape.modes[0].max())))
        self._arrived = self._near(state)
        if self._arrived:  # seen from the teacher's mean: charts of flows have nothing to follow then
            self._own = self._moving = False
        self._log_weights = np.log(weights)
        centre, deviations = self.enter(state)
        sampled = isinstance(rule, SampledRule)
        white = Whitened.spanning(shape, deviations)
        #: whether the axes with nodes follow the differences of the means, which extend over fewer axes than the space has
        self._follows = white.leading < state.k and not (roomy and (sampled or state.k < 3))
        if not self._follows:
            white = Whitened.of(shape, deviations)
        elif roomy:
            white = Whitened.spanning(shape, deviations, white.frame, min(white.leading, state.k - white.leading))
        self._white, self._known, squares = white, deviations, white.root.shape[1] - white.leading
        if sampled:
            self._nodes = sampled_nodes(rule, white.root.shape[1])
        elif isinstance(rule, Auto):
            self._nodes = self._planned(rule, centre, deviations, squares, roomy)
        else:
            self._nodes = fixed_nodes(rule, white.spreads(deviations), squares, envelopes_at(white, centre, deviations, weights))
        self._frame = white.frame
        self._install()
        self._row_floor, self._value_floor = np.zeros(state.n), 0.0
        if isinstance(rule, Auto) and not self._nodes.sampled:
            found = self._find(centre, deviations)[1]
            limits = np.where(found.magnitudes > 4 * found.targets(0.0), _SHRUNK * found.magnitudes, 0.0)
            self._row_floor, self._value_floor = limits[:state.n].copy(), max(0.0, float(limits[-1]) - self._added)
        params = centre + deviations
        pad = 0.2 * np.ptp(params, axis=0) + 0.05 * np.abs(params).max() + 0.01 if self._nodes.wide else np.full(state.k, np.inf)
        self._low, self._high = params.min(axis=0) - pad, params.max(axis=0) + pad
        self._reduced = state.basis is not None
        self._remake: Any = lambda at, other: CovariancePlan(at, shape, outside, weights, other, roomy=False)
        self.nodes = self._nodes.size
        self.rule = repr(rule.fallback if isinstance(rule, Auto) and self._nodes.sampled else rule)

    def _planned(self, rule: Auto, centre: np.ndarray, deviations: np.ndarray, squares: int, roomy: bool) -> Nodes:
        envelopes = envelopes_at(self._white, centre, deviations, self._weights)
        first = Factors.of(self._white, centre, deviations, np.ones(len(self._weights)), self._moving)

        def look(nodes: Nodes) -> Found:
            self._nodes = nodes
            self._install()
            return self._find(centre, deviations)[1]

        try:
            with np.errstate(over="ignore", invalid="ignore"):
                return nodes_for(rule, self._white.spreads(deviations), squares, envelopes, first, roomy, look)
        except TooHardError:
            if not rule.sampling:
                raise
            if roomy and self._follows:  # samples stay where they are, on all axes
                self._follows, self._white = False, Whitened.of(self._shape, deviations)
            return sampled_nodes(rule.fallback, self._white.root.shape[1])

    def _install(self) -> None:
        """Points, targets and kernel of the nodes."""
        self._z, self._q = self._nodes.points()
        self._place()

    def _place(self) -> None:
        """Points, targets and kernel of the nodes on the present axes."""
        x, t = self._z @ self._white.root.T, self._z @ self._white.target.T
        self._targets = t
        self._evaluator = self._compiled(x, t, self._q)
        self._radius = float(np.linalg.norm(x, axis=1).max())
        #: what the loss has from axes without nodes, and from outside
        self._added = self._outside + self._white.rest

    def _turn(self, deviations: np.ndarray) -> bool:
        """Turn axes that follow the differences of the means into those of `deviations`; and say whether they are enough."""
        if self._follows and not np.array_equal(deviations, self._known):
            self._white = Whitened.spanning(self._shape, deviations, self._frame, self._white.root.shape[1] - self._white.leading)
            self._known = np.array(deviations)
            self._place()
        return self._white.rank <= self._white.leading

    def _compiled(self, x: np.ndarray, t: np.ndarray, q: np.ndarray) -> Any:
        from overparam._core.score_matching import Evaluator

        return Evaluator.from_nodes(np.ascontiguousarray(x.T), np.ascontiguousarray(q), np.ascontiguousarray(t.T), self._log_weights)

    # --- coordinates -------------------------------------------------------------------------------------------------

    def _split(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre and deviations as the plan keeps them: around the student's own mean, or around the teacher's."""
        if not self._own:
            return np.zeros(state.k), state.coordinates
        mean = state.deviations.mean(axis=0)
        centred = state.deviations - mean
        if np.abs(mean).max() <= np.abs(centred).max():  # well centred as it is: nothing is rounded
            return state.centre, state.deviations
        return state.centre + mean, centred

    def enter(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Centre (k,) and deviations (n, k) as the kernel sees them."""
        known = self._remembered.of(state)
        if known is not None:
            return known
        centre, deviations = self._split(state)
        return np.ascontiguousarray(centre), np.ascontiguousarray(deviations)

    def settle(self, state: State) -> tuple[State, bool]:
        """The same parameters around the centre from which this plan sees them, and whether that centre moves on its own."""
        return state.moved(*self._split(state)), self._moving

    def _near(self, state: State) -> bool:
        """Whether all means have come to that of a teacher with no eigenvalue above 1: then they are at rest for flows.

        They close in exponentially, or along an eigenvalue of 1 like the root of time, and what moves them falls below the rounding of
        a sum of targets of order one; the loss would change by less than 1e-13 of itself.
        """
        values = self._shape.modes[0]
        extent = np.abs((values - 1) / np.sqrt(values)).max()
        return bool(values.max() <= 1) and bool(np.abs(state.coordinates).max() < _ARRIVED * extent)

    # --- evaluation --------------------------------------------------------------------------------------------------

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What centre (k,) and deviations (n, k) move along, without errors."""
        mean_row, rows = np.empty(len(centre)), np.empty(deviations.shape)
        if self._arrived:
            return np.zeros(len(centre)), np.zeros(deviations.shape)
        middle, deviations = np.array(centre, dtype=np.float64), np.ascontiguousarray(deviations)
        if not self._turn(deviations):
            return self._beyond(template.moved(centre, deviations))
        if self._moving:  # their mean is meant to be 0: what rounding makes of it is taken from the centre, which moves by less
            middle -= [fsum(column) / len(deviations) for column in deviations.T]
        self._evaluator.evaluate(middle, deviations, 2 if self._moving else 1, mean_row, rows)
        return (mean_row if self._moving else np.zeros(len(centre))), rows

    def _beyond(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """What centre and deviations move along where the means differ along more axes than this plan has."""
        rows = self._remake(state, self._rule).evaluate(state).rows
        mean_row = rows.mean(axis=0) if self._moving else np.zeros(state.k)
        return mean_row, rows - mean_row

    def _find(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[Evaluation, Found, np.ndarray]:
        """Value and rows (errors not yet known); what bounds and tolerances need; and per row and loss what a change of D by 1 does."""
        n, k = deviations.shape
        peak, lift = np.abs(deviations).max(), 0
        if self._moving and 0 < peak < _SQUARED:  # squares would underflow; the rows are homogeneous, so they are taken further up
            lift = round(math.log2(_LIFTED) - math.log2(peak))
            deviations = np.ldexp(deviations, lift)
        mean_row, rows = np.empty(k), np.empty((n, k))
        value = self._evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, rows) + self._added
        shares, scales, slopes = self._sums(centre, deviations)
        factors = Factors.of(self._white, centre, deviations, shares, self._moving)
        if self._nodes.wide:
            _, masses = left_out(self._nodes, envelopes_at(self._white, centre, deviations, self._weights), factors)
            factors = with_shares(factors, shares + masses)
        magnitudes = np.linalg.norm(rows, axis=1)
        if self._moving:
            magnitudes = np.append(magnitudes, np.linalg.norm(mean_row))
        magnitudes = np.append(magnitudes, value)
        scales[-1] += self._outside + self._white.rest + float((self._white.target**2).sum())  # what sums of eigenvalues are taken from
        if lift:
            rows = np.ldexp(rows, -lift)
            down = np.ldexp(np.append(np.ones(n), 2.0**lift * np.ones(2)), -lift)  # deviation rows alone
            magnitudes, scales, slopes = magnitudes * down, scales * down, slopes * down
            factors = replace(factors, mass=factors.mass * down)
        found = Evaluation(value, mean_row if self._moving else np.zeros(k), rows, np.nan, np.full(n, np.nan))
        return found, Found(factors, magnitudes, scales), slopes

    def _sums(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Over the nodes: E w (n,), the integrals of absolute integrands (q,), and the same without the factor D."""
        n = len(deviations)
        apart = np.linalg.norm(deviations[:, None] - deviations, axis=-1).max(axis=1) if n <= 256 \
            else np.full(n, 2 * np.linalg.norm(deviations - deviations.mean(axis=0), axis=1).max())
        longest = float(np.linalg.norm(deviations, axis=1).max())
        shares, square, plain = np.zeros(n), 0.0, 0.0
        parts, free = np.zeros((2, n)), np.zeros((2, n))
        differing = np.zeros(2)
        spread = float(np.linalg.norm(np.ptp(deviations @ self._white.root, axis=0)))
        middle = float(np.linalg.norm(centre))
        for start in range(0, len(self._q), _CHUNK):
            z, q = self._z[start:start + _CHUNK], np.abs(self._q[start:start + _CHUNK])
            w = weights_at(self._white, z, centre, deviations, self._weights)
            off = np.linalg.norm(centre + w @ deviations - self._targets[start:start + _CHUNK], axis=1)
            arm = np.linalg.norm(z @ self._white.root.T - centre, axis=1) + longest
            qw = w * q[:, None]
            shares += qw.sum(axis=0)
            parts += np.stack([off @ qw, (off * arm) @ qw])
            free += np.stack([qw.sum(axis=0), arm @ qw])
            square, plain = square + float(q @ off**2), plain + float(q @ off)
            logits = spread * np.linalg.norm(z, axis=1) + float(apart.max()) * (middle + longest)
            differing += [q @ (off * logits), q @ logits]
        if self._moving:  # (w - 1/n) D + a (x - c) - (a delta - mean), and D/n - mean
            rows = [2 * (differing[i] / n + (part[1] * apart)) for i, part in enumerate((parts, free))]
            means = [2 * (plain / n + longest * (apart * parts[0]).mean()), 2 * (1 / n + longest * (apart * free[0]).mean())]
            scales, slopes = (np.concatenate([row, [mean]]) for row, mean in zip(rows, means, strict=True))
        else:
            scales, slopes = (2 * (part[0] + apart * part[1]) for part in (parts, free))
        return shares, np.append(scales, square), np.append(slopes, 2 * plain)

    def evaluate(self, state: State) -> Evaluation:
        """Value, gradient and their errors at `state`: bounds for grids, standard errors for clouds."""
        centre, deviations = self.enter(state)
        if not self._turn(deviations):
            found = self._remake(state, self._rule).evaluate(state)
            mean_row, rows = (found.rows.mean(axis=0), found.rows) if self._moving else (np.zeros(state.k), found.rows)
            result: Evaluation = replace(found, centre_grad=mean_row, grad=rows - mean_row)
            return result
        with np.errstate(over="ignore", invalid="ignore"):
            found, known, slopes = self._find(centre, deviations)
            rounded = self._rounding(centre, deviations, known, slopes)
            if self._nodes.sampled:
                return self._sampled(centre, deviations, found, rounded)
            bounds = self._bounds(centre, deviations, known, rounded)
            if isinstance(self._rule, GaussHermite):
                bounds = self._vouched(state, found, bounds)
        return replace(found, value_error=bounds.total.value, grad_error=bounds.total.grad, bounds=bounds)

    def _parts(self, errors: np.ndarray, n: int) -> Parts:
        """A row of a tight state has its own error and that of the mean row."""
        return Parts(float(errors[-1]), errors[:n] + (errors[n] if self._moving else 0.0))

    def _bounds(self, centre: np.ndarray, deviations: np.ndarray, known: Found, rounded: np.ndarray) -> Bounds:
        n = len(deviations)
        factors = known.factors
        errors = discretisation(self._nodes, self._white.spreads(deviations), factors)
        steps = self._parts(np.minimum(errors, self._most(factors)), n)
        edges = Parts(0.0, np.zeros(n))
        if self._nodes.wide:
            edges = self._parts(left_out(self._nodes, envelopes_at(self._white, centre, deviations, self._weights), factors)[0], n)
        return Bounds(steps, edges, self._parts(rounded, n))

    def _most(self, factors: Factors) -> np.ndarray:
        """(q,) what no rule can miss by: the integrals' own bounds, with weights of 1, and the rule's sums of what bounds them."""
        lengths, q = np.linalg.norm(self._z, axis=1), np.abs(self._q)
        first0, first1, second0, second1 = factors.parts
        mass = np.append(np.full(len(factors.mass) - 1, 2.0), 1.0)
        summed = mass * (first0 * second0 * q.sum() + (first0 * second1 + first1 * second0) * (q @ lengths)
                         + first1 * second1 * (q @ lengths**2))
        found: np.ndarray = mass * factors.first * factors.second + summed
        return found

    def _rounding(self, centre: np.ndarray, deviations: np.ndarray, known: Found, slopes: np.ndarray) -> np.ndarray:
        """(q,) bound on rounding: that of the identity, and what roots and inverses of a full matrix are off by."""
        epsilon, (n, k) = np.finfo(np.float64).eps, deviations.shape
        logit = 1 + logit_range(centre, deviations, self._radius)
        condition = self._shape.condition
        factor = self.nodes / 64 + 24 + 6 * (k + 2) * logit * np.sqrt(condition)
        if self._reduced:
            factor += DROPPED * np.sqrt(n + k) * (6 + 12 * logit)
        # differences that the weights are taken not to depend on, against standard normal coordinates
        factor += 6 * self._white.dropped / epsilon * np.sqrt(k) * (1.0 if self._moving else logit)
        arm, pull = self._white.sizes
        off = 4 * pull
        if condition > 1 or self._reduced:
            smallest, largest = self._shape.modes[0].min(), self._shape.modes[0].max()
            off += 8 * k * largest * (smallest**-0.5 + smallest**-1.5)
        reach = float(np.linalg.norm(self._z, axis=1).max())
        lost = epsilon * (factor * known.scales + off * reach * slopes)
        omega = float(np.linalg.norm(centre + deviations, axis=1).max()) + pull * reach
        lost[:-1] += 2 * n * _FLUSHED * omega * (1 + np.linalg.norm(np.ptp(deviations, axis=0)) * (arm * reach + omega))
        found: np.ndarray = lost
        return found

    def _vouched(self, state: State, found: Evaluation, bounds: Bounds) -> Bounds:
        """Where the remainder of Gauss–Hermite promises little: the difference to a certified plan, and that one's bound."""
        if bounds.discretisation.value <= 1e-12 * found.value and (bounds.discretisation.grad <= 1e-12 * np.abs(found.rows).max()).all():
            return bounds
        try:
            other = self._remake(state, Auto(tol=1e-10))
        except TooHardError:
            return bounds
        truth = other.evaluate(state)
        apart = Parts(abs(found.value - truth.value) + truth.value_error,
                      np.linalg.norm(found.rows - truth.rows, axis=1) + truth.grad_error)
        known = bounds.discretisation
        return replace(bounds, discretisation=Parts(min(known.value, apart.value), np.minimum(known.grad, apart.grad)))

    def _sampled(self, centre: np.ndarray, deviations: np.ndarray, found: Evaluation, floor: np.ndarray) -> Evaluation:
        """Mean over the replicates with its standard error; the level of rounding is the floor of each."""
        n, k = deviations.shape
        cloud: Any = self._nodes.grid
        count, x = cloud.replicates, self._z @ self._white.root.T
        size = len(self._q) // count
        values, means, rows = [], [], []
        for number in range(count):
            part = slice(number * size, (number + 1) * size)
            mean_row, row = np.empty(k), np.empty((n, k))
            evaluator = self._compiled(x[part], self._targets[part], self._q[part] * count)
            values.append(evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, row) + self._added)
            means.append(mean_row if self._moving else np.zeros(k))
            rows.append(row)
        whole = np.array(rows) + np.array(means)[:, None]
        spread = np.linalg.norm(whole.std(axis=0, ddof=1), axis=1) / np.sqrt(count)
        return replace(found, value=float(np.mean(values)), centre_grad=np.mean(means, axis=0), grad=np.mean(rows, axis=0),
                       value_error=float(np.hypot(np.std(values, ddof=1) / np.sqrt(count), floor[-1])),
                       grad_error=np.hypot(spread, self._parts(floor, n).grad), replicates=whole)

    def effective_samples(self, state: State) -> np.ndarray | None:
        r"""(n,) effective sample sizes :math:`(\sum q_kw_i)^2/\sum(q_kw_i)^2` of a sampled plan; else None."""
        if not self._nodes.sampled:
            return None
        qw = self._q[:, None] * weights_at(self._white, self._z, *self.enter(state), self._weights)
        peak = qw.max(axis=0)
        qw = qw / np.where(peak > 0, peak, 1.0)
        with np.errstate(invalid="ignore"):
            return np.where(peak > 0, qw.sum(axis=0) ** 2 / (qw**2).sum(axis=0), 0.0)

    def carries_integrand(self, state: State, few: float) -> bool:
        """Whether a sampled loss rests on at least `few` effective samples."""
        centre, deviations = self.enter(state)
        w = weights_at(self._white, self._z, centre, deviations, self._weights)
        square = self._q * ((centre + w @ deviations - self._targets) ** 2).sum(axis=1)
        square = square / (square.max() or 1.0)
        return bool(square.sum() ** 2 >= few * (square**2).sum())

    def meets_tolerance(self, state: State) -> bool:
        """Whether bounds are within a thousand times what `Auto` asks for; True for other rules."""
        if self._nodes.sampled or not isinstance(self._rule, Auto):
            return True
        centre, deviations = self.enter(state)
        if not self._turn(deviations):
            found: bool = self._remake(state, self._rule).meets_tolerance(state)
            return found
        with np.errstate(over="ignore", invalid="ignore"):
            _, known, slopes = self._find(centre, deviations)
            return bool((self._rounding(centre, deviations, known, slopes) <= _MISSED * known.targets(self._rule.tol)).all())

    def logits_are_exact(self, state: State) -> bool:
        """Whether rounding leaves the logits two digits or more."""
        return bool(logit_range(*self.enter(state), self._radius) * (state.k + 2) * np.finfo(np.float64).eps < 0.01)

    # --- validity and steps ------------------------------------------------------------------------------------------

    def covers(self, state: State) -> bool:
        """Whether coordinates, and spreads after whitening, are inside the plan's box."""
        centre, deviations = self.enter(state)
        if self._near(state) != self._arrived:
            return False
        if not self._turn(deviations) or self._white.nearest < _NEAR:
            return False
        params, spreads = centre + deviations, self._white.spreads(deviations)
        return bool((params >= self._low).all() and (params <= self._high).all() and (spreads >= self._nodes.spread_low).all()
                    and (spreads <= self._nodes.spread_high).all())

    @property
    def _aligned(self) -> np.ndarray | None:
        """(k,) the whitened axis of each coordinate, where whitening stretches the coordinates alone; else None."""
        if self._follows:
            return None
        return None if (np.count_nonzero(self._white.root, axis=1) != 1).any() else np.argmax(self._white.root != 0, axis=1)

    def _box(self) -> tuple[np.ndarray, np.ndarray]:
        """(k,) least and largest spreads of the coordinates; what cannot be said of coordinates is for :meth:`covers`."""
        axes = self._aligned
        if axes is None:
            return np.zeros(len(self._low)), np.full(len(self._low), np.inf)
        stretch = np.abs(self._white.root[np.arange(len(axes)), axes])
        return self._nodes.spread_low[axes] / stretch, self._nodes.spread_high[axes] / stretch

    @property
    def compiled(self) -> tuple[Any, np.ndarray, np.ndarray] | None:
        """Capsule, axes and box: see :class:`Plan`; None where a box of coordinates does not say where the plan serves."""
        if self._aligned is None or self._arrived:
            return None
        return self._evaluator.capsule, np.eye(len(self._low)), np.stack([self._low, self._high, *self._box()])

    def resumes(self, state: State) -> bool:
        """Whether its steps paused here before the next look at the spreads was due."""
        return self._since > 0 and self._remembered.of(state) is not None

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """Compiled steps of gradient descent until done, the box is left, a row has shrunk, or something is wrong."""
        if self._follows:
            return self._followed(state, step_size, steps, ceiling)
        walls = self._low, self._high, *self._box()
        taken, value, ceiling = 0, np.nan, ceiling - self._added
        while True:
            centre, deviations = (part.copy() for part in self.enter(state))
            now = steps - taken if self._aligned is not None else min(_BETWEEN - self._since, steps - taken)
            done, reason, seen = yield from compiled_steps(self._evaluator.capsule, centre, deviations, step_size, now, self._moving, walls,
                                                           self._row_floor, self._value_floor, ceiling)
            value = value if np.isnan(seen) else seen + self._added
            state, taken = self._remembered.keep(replace(state, centre=centre, deviations=deviations), centre, deviations), taken + done
            if reason != "done":
                return Burst(state, taken, reason, value)
            if self._aligned is None:  # the clock may pause in between: looks come after as many steps all the same
                self._since = (self._since + done) % _BETWEEN
                if self._since == 0 and not self.covers(state):
                    return Burst(state, taken, "replan", value)
            if taken >= steps:
                return Burst(state, taken, reason, value)

    def _followed(self, state: State, step_size: float, steps: int, ceiling: float) -> Burst:
        """The same, with axes that turn at every step."""
        value, floors = np.nan, np.append(self._row_floor, self._value_floor)
        for taken in range(steps):
            if not self.covers(state):
                return Burst(state, taken, "replan", value)
            centre, deviations = self.enter(state)
            mean_row, rows = np.empty(len(centre)), np.empty(deviations.shape)
            seen = self._evaluator.evaluate(centre, deviations, 2 if self._moving else 1, mean_row, rows)
            value = seen + self._added
            if not (np.isfinite(value) and np.isfinite(rows).all()):
                return Burst(state, taken, "not_finite", value)
            if value > ceiling:
                return Burst(state, taken, "diverged", value)
            if taken and (np.append(np.linalg.norm(rows, axis=1), seen) < floors).any():
                return Burst(state, taken, "replan", value)
            centre = centre - step_size * mean_row if self._moving else centre
            state = replace(state, centre=centre, deviations=deviations - step_size * rows)
        return Burst(state, steps, "done", value)


def _seen(state: State, weights: np.ndarray, arm: float) -> tuple[bool, bool]:
    """Whether `state` is best seen from its own mean rather than from the teacher's, and whether that mean moves on its own.

    As for identity covariances: small deviations around a far centre are then not rounded; and the mean moves on its own while all
    logits, which the root of the covariance stretches by up to `arm`, are small and weights equal.
    """
    mean = state.deviations.mean(axis=0)
    extent = np.linalg.norm(state.deviations - mean, axis=1).max()
    distance = np.linalg.norm(state.centre + mean)
    moving = bool(extent * (distance + 4 * (1 + arm)) < 0.5) and bool(np.ptp(weights) == 0)
    return bool(extent < _TIGHT * distance) or moving, moving
