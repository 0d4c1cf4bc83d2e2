"""Plans of losses in closed form: valid everywhere, compiled, wrong by rounding alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam.certificate import Bounds, Parts
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.state import State

__all__ = ["ClosedFormPlan", "by_rounding"]


def by_rounding(value: float, grad: np.ndarray) -> Bounds:
    """Bounds of which rounding is the only part."""
    nothing = Parts(0.0, np.zeros(len(grad)))
    return Bounds(nothing, nothing, Parts(value, grad))


class ClosedFormPlan(Plan):
    """A compiled evaluator that serves at every state.

    Parameters
    ----------
    evaluator
        Has a ``capsule``, see _core/evaluator.h, and ``k``, the columns of its rows.
    bound : function
        ``bound(coordinates, value, rows) -> Bounds``, what rounding can have done to a value and its rows.
    """

    def __init__(self, evaluator: Any, bound: Callable[[np.ndarray, float, np.ndarray], Bounds]) -> None:
        self._capsule, self._bound = evaluator.capsule, bound
        wide = np.full(evaluator.k, np.inf)
        self._box: Any = np.stack([-wide, wide, -wide, wide])

    def evaluate(self, state: State) -> Evaluation:
        coordinates = np.ascontiguousarray(state.coordinates)
        value, rows = self._asked(np.zeros(state.k), coordinates)
        with np.errstate(over="ignore", invalid="ignore"):
            bounds = self._bound(coordinates, value, rows)
        total = bounds.total
        grad_error = np.where(np.isnan(total.grad), np.inf, total.grad)  # of numbers that overflow
        return Evaluation(value, np.zeros(state.k), rows, total.value, grad_error, bounds)

    def _asked(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[float, np.ndarray]:
        from overparam._core.descent import evaluate

        mean_row, rows = np.empty(deviations.shape[1]), np.empty(deviations.shape)
        return evaluate(self._capsule, centre, deviations, 1, mean_row, rows), rows

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the deviations (n, k) move along, without errors; the centre (k,) does not move on its own."""
        return np.zeros(len(centre)), self._asked(np.ascontiguousarray(centre), np.ascontiguousarray(deviations))[1]

    @property
    def compiled(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Capsule, axes and a box without walls: see :class:`Plan`."""
        return self._capsule, np.eye(len(self._box[0])), self._box

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        """Compiled steps of gradient descent until done or something is wrong."""
        centre, deviations = np.zeros(state.k), np.array(state.coordinates)
        done, reason, value = yield from compiled_steps(self._capsule, centre, deviations, step_size, steps, False, self._box,
                                                        np.zeros(state.n), -np.inf, ceiling)
        reason = "not_finite" if reason == "replan" else reason  # a box without walls is left by what is not a number alone
        return Burst(state.moved(centre, deviations), done, reason, value)
