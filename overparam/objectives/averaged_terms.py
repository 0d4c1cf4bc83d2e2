r"""The terms of a sum :math:`\sum_k\lambda_kL_k(s_k\mu)`: what each one's plan finds, and which part of the sum's tolerance is its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overparam.bounds import Majorant
from overparam.certificate import Demand
from overparam.nodes import Frame, Layout
from overparam.objectives.base import Plan
from overparam.objectives.far_means import FarPlan
from overparam.objectives.partial_plan import spread_rows
from overparam.planning import Auto, TooHardError
from overparam.quadrature import Rule
from overparam.state import State

__all__ = ["Seen", "Terms", "Total", "norms", "share"]

_OVERRATED = 0.8  # a row that turns out to be a smaller part than this of what its tolerance was taken from is planned for again


class _Share(Auto):
    """Auto for one term of a sum: its tolerance is relative to `magnitudes` (q,), the term's part in the sum's quantities.

    Without magnitudes it is a first, coarse look, from which they are found.
    """

    def __init__(self, rule: Auto, magnitudes: np.ndarray | None = None) -> None:
        super().__init__(rule.tol, rule.max_nodes, rule.sampling)
        self.fallback, self._magnitudes = rule.fallback, magnitudes

    def layout(self, frame: Frame, probe: Callable[[Layout], Demand] | None = None) -> Layout:
        if self._magnitudes is None:
            return self._coarse(frame)
        known = None if frame.known is None else self._of_the_sum(frame.known)
        return super().layout(replace(frame, known=known), None if probe is None else lambda layout: self._of_the_sum(probe(layout)))

    def _of_the_sum(self, demand: Demand) -> Demand:
        magnitudes: Any = self._magnitudes  # not None: a plan of the sum is what asks for this
        return replace(demand, magnitudes=magnitudes)

    def _coarse(self, frame: Frame) -> Layout:
        if frame.rank == 0:
            return self._points(frame)
        try:
            if 2.0**frame.rank > self.max_nodes or not np.isfinite(np.square(frame.params).sum()):
                raise self._too_hard(frame, 2.0**frame.rank)
            unit = np.ones(1)
            return self._design(frame, Majorant(unit * 1e3, unit * 1e3, unit * 0, unit * 2, axes=frame.rank), None)
        except TooHardError:
            if not self.sampling:
                raise
            return self.fallback.layout(frame)


def share(rule: Auto, magnitudes: np.ndarray | None = None) -> Auto:
    """Return the rule of one term under `rule`, which is the sum's: see above. It is of this library's own use, and not registered."""
    return _Share(rule, magnitudes)


@dataclass(frozen=True, eq=False)
class Terms:
    r"""The terms of the sum.

    Attributes
    ----------
    scales, weights : (K,) arrays
        :math:`s_k>0` of the parameters and :math:`\lambda_k>0`.
    means : (m, k) array
        The teacher's means in the coordinates of the state, where the scale is 1.
    make : callable
        Takes the means at a scale, in a frame, and returns what makes a plan there: ``(scaled state, rule, previous, roomy) -> Plan``.
    """

    scales: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    make: Callable[[np.ndarray], Callable[[State, Rule, Plan | None, bool], Plan]]

    @property
    def factors(self) -> np.ndarray:
        """(K,) what a term's gradient row counts in the sum's: the chain rule."""
        found: np.ndarray = self.weights * self.scales
        return found


@dataclass(frozen=True, eq=False)
class Seen:
    """What one term's plan finds at a state, in the sum's frame: mean row (k,), rows (n, k) and value, and their levels of rounding."""

    common: np.ndarray
    rows: np.ndarray
    value: float
    floors: np.ndarray  # (n + 2,): rows, mean row, value
    moving: bool

    @classmethod
    def of(cls, plan: Plan, state: State) -> Seen:
        inner: Any = plan.part.inner if isinstance(plan, FarPlan) else plan
        demand = inner._probed[3]
        floors = demand.floors
        if not inner._moving:
            floors = np.insert(floors, len(floors) - 1, 0.0)
        if isinstance(plan, FarPlan):
            found = plan.evaluate(state)
            floors = np.append(spread_rows(floors[:-2], plan.part.view.rows), floors[-2:])
            return cls(found.centre_grad, found.grad, found.value, floors, inner._moving)
        centre, deviations = inner.enter(state)
        common, rows = np.empty(state.k), np.empty(deviations.shape)
        value = inner._evaluator.evaluate(centre, deviations, 2 if inner._moving else 1, common, rows)
        common = common @ inner.axes.T if inner._moving else np.zeros(state.k)
        return cls(common, rows @ inner.axes.T, value, floors, inner._moving)


@dataclass(frozen=True, eq=False)
class Total:
    """Sizes of the sum's quantities (n rows, mean row where it moves on its own, value), their rounding, and the terms' parts in them."""

    sizes: np.ndarray
    floors: np.ndarray
    parts: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, seen: Sequence[Seen], terms: Terms, moving: bool) -> Total:
        # a row's part is half by what the term is of the sum of all terms' sizes, and half the same for all: together they make the sum,
        # and no term has to be accurate to less than it matters
        factors, weights = terms.factors, terms.weights
        rows = [one.rows if moving else one.common + one.rows for one in seen]
        values = np.array([[abs(one.value)] for one in seen])
        lengths = np.concatenate([norms(rows), norms([one.common[None] for one in seen]), values], axis=1)
        n = lengths.shape[1] - 2
        units = np.concatenate([np.repeat(factors[:, None], n + 1, axis=1), weights[:, None]], axis=1)
        sizes = np.concatenate([norms([np.tensordot(factors, rows, 1)])[0],
                                norms([np.tensordot(factors, [one.common for one in seen], 1)[None]])[0],
                                [abs(float(weights @ [one.value for one in seen]))]])
        floors = np.array([one.floors for one in seen])
        if not moving:
            floors[:, :n] += floors[:, n:n + 1]
        floors = (units * floors).sum(axis=0)
        total = (units * lengths).sum(axis=0)
        relative = np.divide(units * lengths, total, out=np.zeros_like(lengths), where=total > 0)
        parts = sizes * (relative + 1 / len(seen)) / 2 / units
        found = []
        for part, one in zip(parts, seen, strict=True):
            if not one.moving:
                part = np.delete(part, n)
            elif not moving:  # of its own mean and what rows differ from it by: half for each
                part = np.concatenate([part[:n] / 2, [part[:n].min() / 2], part[-1:]])
            found.append(part)
        kept = np.ones(n + 2, dtype=bool)
        kept[n] = moving
        return cls(sizes[kept], floors[kept], tuple(found))

    def confirms(self, believed: Total, tol: float) -> bool:
        """Whether quantities are as large as was believed, or so small that only their rounding counts."""
        return bool(((self.sizes >= _OVERRATED * believed.sizes) | (tol * believed.sizes <= self.floors)).all())


def norms(rows: Any) -> np.ndarray:
    """Norms over the last axis; of the smallest too."""
    rows = np.asarray(rows)
    largest = np.abs(rows).max(axis=-1)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    found: np.ndarray = unit * np.linalg.norm(rows / unit[..., None], axis=-1)
    return found
