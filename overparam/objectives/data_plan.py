"""The plan of a data set: a finite sum over given nodes, in full coordinates, where the only error is rounding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from overparam._softmax import posterior_mean, softmax
from overparam.bounds import Majorant
from overparam.certificate import Bounds, Demand, Parts, rounding
from overparam.data_sets import NO_SCORE, DataSet
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves, compiled_steps
from overparam.objectives.evaluation import Burst, Evaluation
from overparam.objectives.partial_plan import spread_rows
from overparam.state import State

__all__ = ["DataPlan", "DataSums", "LikelihoodSums", "ScoreMatchingSums"]


class DataSums(ABC):
    """Value and gradient rows of one objective over nodes x (N, d) of weight q (N,), for a student with weights (n,), all above 0."""

    #: For the compiled burst loop; None where there is none.
    capsule: Any = None
    #: Whether the loss compares with a score.
    needs_targets: ClassVar[bool] = False
    #: Nodes whose terms are added up one after the other, for the rounding of sums.
    chain: float

    def __init__(self, x: np.ndarray, q: np.ndarray, targets: np.ndarray | None, weights: np.ndarray) -> None:
        self.x, self.q, self.targets, self.weights = x, q, targets, weights

    @classmethod
    def accept(cls, data: DataSet) -> None:
        """Raise ValueError if the objective is not defined on this data set."""
        if cls.needs_targets and data.targets is None:
            raise ValueError(NO_SCORE)

    def evaluation(self, params: np.ndarray, present: np.ndarray, errors: bool) -> Evaluation:
        """Value and rows at absolute `params` (n, d), with the standard error of the value if `errors`; of draws of equal weight."""
        n, d = params.shape
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.ascontiguousarray(params[present])
            value, rows = self.rows(np.zeros(d), means)
            error = np.nan
            if errors and len(self.q) > 1:
                error = float(self.losses(means).std(ddof=1) / np.sqrt(len(self.q)))
        return Evaluation(value, np.zeros(d), spread_rows(rows, present), error, np.full(n, np.nan))

    @abstractmethod
    def rows(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient rows (n, d)."""

    @abstractmethod
    def scales(self, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """(n + 1,) sums of the absolute values of what the rows and the value are summed from."""

    def seen(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Centre, deviations and the largest length of a node, as logits are formed from them."""
        return centre, deviations, float(np.linalg.norm(self.x, axis=1).max())

    @abstractmethod
    def losses(self, params: np.ndarray) -> np.ndarray:
        """(N,) the loss at every node."""


class ScoreMatchingSums(DataSums):
    r""":math:`\sum_kq_k\|v(x_k)-t_k\|^2` with the targets of denoising score matching, compiled."""

    needs_targets = True

    def __init__(self, x: np.ndarray, q: np.ndarray, targets: np.ndarray | Any, weights: np.ndarray) -> None:
        from overparam._core.score_matching import Evaluator

        super().__init__(x, q, targets, weights)
        self._evaluator = Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.ascontiguousarray(targets.T), np.log(weights))
        self.capsule, self.chain = self._evaluator.capsule, len(x) / 64

    def rows(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[float, np.ndarray]:
        mean_row, rows = np.empty(deviations.shape[1]), np.empty(deviations.shape)
        return self._evaluator.evaluate(centre, deviations, 1, mean_row, rows), rows

    def scales(self, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        two, three, moment = np.empty((3, len(deviations)))
        square = self._evaluator.majorants(centre, deviations, two, three, moment)
        return np.append(two + three + moment, square)

    def losses(self, params: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((posterior_mean(self.x, params, self.weights) - self.targets) ** 2).sum(axis=1)
        return found


class LikelihoodSums(DataSums):
    r""":math:`-\sum_kq_k\ln p_\mu(x_k)` and :math:`\sum_kq_kw_i(x_k)(\mu_i-x_k)`, in coordinates around the mean of the nodes.

    The rows are those before Stein's identity, which a data set does not obey; they are products of matrices.
    """

    def __init__(self, x: np.ndarray, q: np.ndarray, targets: np.ndarray | None, weights: np.ndarray) -> None:
        super().__init__(x, q, targets, weights)
        self._middle = q @ x
        self._y = x - self._middle
        with np.errstate(over="ignore", invalid="ignore"):
            self._squares = (self._y**2).sum(axis=1)
        if not np.isfinite(self._squares).all():
            raise ValueError(f"the data set is too wide for a likelihood: squares of its coordinates (largest {np.abs(x).max():.3g}) "
                             "overflow float64; rescale the data")
        self.chain = len(x)

    def reweighted(self, weights: np.ndarray) -> LikelihoodSums:
        other = copy(self)
        other.weights = weights
        return other

    def shares(self, params: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        r"""Value, rows (n, d) and :math:`E[w_i]` (n,)."""
        logs, w = self._logs(params)
        qw = w * self.q[:, None]
        shares = qw.sum(axis=0)
        return -float(self.q @ logs), shares[:, None] * (params - self._middle) - qw.T @ self._y, shares

    def _logs(self, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln p (N,) and responsibilities (N, n) at the nodes."""
        means = params - self._middle
        logits = self._y @ means.T - (means**2).sum(axis=1) / 2
        w = softmax(logits, self.weights)
        best = w.argmax(axis=1)[:, None]  # its share is at least 1/n, so that its logarithm is exact to rounding
        top = np.take_along_axis(logits + np.log(self.weights), best, axis=1) - np.log(np.take_along_axis(w, best, axis=1))
        return top[:, 0] - (self._squares + params.shape[1] * np.log(2 * np.pi)) / 2, w

    def rows(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[float, np.ndarray]:
        return self.shares(centre + deviations)[:2]

    def scales(self, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        params = centre + deviations
        logs, w = self._logs(params)
        means, lengths = np.linalg.norm(params - self._middle, axis=1), np.sqrt(self._squares)
        qw = w * self.q[:, None]
        largest = self._squares / 2 + (w @ means) * (lengths + means.max())  # what a logarithm is summed from
        return np.append(qw.sum(axis=0) * means + lengths @ qw, self.q @ (np.abs(logs) + 2 * largest))

    def seen(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        return np.zeros(len(centre)), centre + deviations - self._middle, float(np.sqrt(self._squares.max()))

    def losses(self, params: np.ndarray) -> np.ndarray:
        return -self._logs(params)[0]


def in_full(state: State) -> State:
    """The same parameters without basis and origin: a data set has no reduced space."""
    if state.log_scale:
        raise ValueError(f"params have deviations below float64's range (log_spread {state.log_spread:.6g}), which a data set does not "
                         "move: start from deviations of at least 1e-150, or from coincident parameters")
    if state.basis is None and state.origin is None:
        return state
    return State(state.expand(state.centre), state.expand_gradient(state.deviations))


class DataPlan(Plan):
    """A plan over the nodes of a data set: valid everywhere, without discretisation or truncation.

    Parameters
    ----------
    sums : DataSums
        For the means that have a weight.
    present : (n,) bool array
        Which these are. The others have rows of exactly 0 and stay where they are.
    """

    rule = "data"

    def __init__(self, sums: DataSums, present: np.ndarray) -> None:
        self._sums: Any = sums  # of a likelihood where shares are asked for
        self.present = present
        self.nodes = len(sums.x)

    def _enter(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(state.centre), np.ascontiguousarray(state.deviations[self.present])

    def evaluate(self, state: State) -> Evaluation:
        centre, deviations = self._enter(state)
        with np.errstate(over="ignore", invalid="ignore"):
            value, rows = self._sums.rows(centre, deviations)
            scales = self._sums.scales(centre, deviations)
            nothing = np.zeros(len(scales))
            demand = Demand(Majorant(nothing, nothing, nothing, nothing), np.append(np.linalg.norm(rows, axis=1), abs(value)), scales)
            errors = rounding(demand, 64 * self._sums.chain, *self._sums.seen(centre, deviations))
        zero = Parts(0.0, np.zeros(state.n))
        bound = Parts(float(errors[-1]), spread_rows(errors[:-1], self.present))
        return Evaluation(value, np.zeros(state.k), spread_rows(rows, self.present), bound.value, bound.grad, Bounds(zero, zero, bound))

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        state = template.moved(centre, deviations)
        return np.zeros(state.k), spread_rows(self._sums.rows(*self._enter(state))[1], self.present)

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        if self._sums.capsule is None:
            return self._slow_burst(state, step_size, steps, ceiling)
        centre, deviations = (part.copy() for part in self._enter(state))
        free = np.full(state.k, np.inf)
        done, reason, value = yield from compiled_steps(self._sums.capsule, centre, deviations, step_size, steps, False,
                                                        (-free, free, np.zeros(state.k), free), np.zeros(len(deviations)), 0.0, ceiling)
        return Burst(self._left(state, deviations), done, reason, value)

    def _slow_burst(self, state: State, step_size: float, steps: int, ceiling: float) -> Burst:
        centre, deviations = self._enter(state)
        value, reason, taken = np.nan, "done", steps
        with np.errstate(over="ignore", invalid="ignore"):
            for done in range(steps):
                value, rows = self._sums.rows(centre, deviations)
                moved = deviations - step_size * rows
                if not (np.isfinite(value) and np.isfinite(moved).all()):
                    reason, taken = "not_finite", done
                    break
                if value > ceiling:
                    reason, taken = "diverged", done
                    break
                deviations = moved
        return Burst(self._left(state, deviations), taken, reason, value)

    def _left(self, state: State, deviations: np.ndarray) -> State:
        return replace(state, deviations=spread_rows(deviations, self.present, state.deviations[~self.present]))

    def reweighted(self, weights: np.ndarray) -> DataPlan:
        """The same nodes for a likelihood with other weights (n,), 0 where the plan's are."""
        return DataPlan(self._sums.reweighted(weights[self.present]), self.present)

    def shares(self, state: State, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        r"""Value, gradient rows (n, d) and :math:`E[w_i]` (n,) of a likelihood for these weights, 0 where the plan's are."""
        centre, deviations = self._enter(state)
        with np.errstate(over="ignore", invalid="ignore"):
            value, rows, shares = self._sums.reweighted(weights[self.present]).shares(centre + deviations)
        return value, spread_rows(rows, self.present), spread_rows(shares, self.present)

    def effective_samples(self, state: State) -> None:
        """None: a data set is not a sample of anything else here."""
        return None
