r"""Means too far from every teacher component to matter in float64: left out of nodes and kernel, with a bound on what that costs.

For a mean j and any other mean r, :math:`w_j\le\min(1,w_j/w_r)\le(w_j/w_r)^\theta` for :math:`\theta\in[0,1]`, and the logarithm of
the quotient is linear in x. With :math:`\Delta=\mu_j-\mu_r` and the gap :math:`G=\tfrac12\|\mu_j-m\|^2-\tfrac12\|\mu_r-m\|^2`, formed
from differences, a Gaussian integral gives

.. math:: E_{x\sim N(m,I)}\,w_j\le e^\kappa,\qquad E\,w_j\|x-\mu_i\|\le e^\kappa(\|m+\theta\Delta-\mu_i\|+\sqrt k),\qquad
          \kappa=\theta\ln\frac{\pi_j}{\pi_r}+\tfrac12\theta^2\|\Delta\|^2-\theta G .

With :math:`\Omega` the largest distance of a student mean from a teacher mean, leaving out means of total weight W changes v by at most
:math:`2\Omega W`; score matching's loss by :math:`4\Omega^2E\,W` and any of its gradient rows, those left out included, by
:math:`2[3\Omega+8\Omega^2(3\Omega+\sqrt k)]\,E\,W`; its Hessian, in the spectral norm, by
:math:`[48+20\Omega^2+164\Omega^2(9\Omega^2+k)]\,E\,W` (docs/numerics.md, section 11). What it changes in another objective is for
its `effects`, and its Hessian's `effect`, to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from overparam.certificate import Parts
from overparam.objectives.base import Plan
from overparam.objectives.bursts import Moves
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.integrands import Integrands, ScoreMatchingIntegrands
from overparam.objectives.partial_plan import PartialPlan
from overparam.state import State

__all__ = ["FarPlan", "Scene"]

_FAINT = math.log(1e-300)  # a mean is left out where all that it could change is below this,
_SLACK = math.log(1e10)  # and a plan without it serves as long as that stays below this times as much, if not told otherwise
_PADS = (0.05, 0.005, 5e-4, 5e-6)  # room for the means that stay, as parts of the extent of means and teacher


@dataclass(frozen=True, eq=False)
class Scene:
    """Student and teacher: weights (n,), teacher means (m, k) in the state's coordinates, teacher weights (m,); and their objective.

    A mean is left out where all that it could change is below :math:`e^{faint}`, and a plan without it serves up to
    :math:`e^{faint+slack}`.
    """

    weights: np.ndarray
    means: np.ndarray
    teacher_weights: np.ndarray
    integrands: Integrands = field(default_factory=ScoreMatchingIntegrands)
    faint: float = _FAINT
    slack: float = _SLACK

    @property
    def limit(self) -> float:
        """Logarithm below which what is left out must stay for a plan to serve."""
        return self.faint + self.slack

    def log_shares(self, centre: np.ndarray, deviations: np.ndarray, kept: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bounds on the logarithm of each mean's total weight, against the `kept` mean nearest to each component; which those are.

        Rounding is taken off the gaps: the state's numbers are exact, but for sums and products of them.
        """
        n = len(deviations)
        log_weights, everyone = np.log(self.weights), np.arange(n)
        allowed = everyone if kept is None else np.flatnonzero(kept)
        total, nearest = np.full(n, -np.inf), []
        for mean, share in zip(self.means, self.teacher_weights, strict=True):
            offset = centre - mean
            first = self._gaps(offset, deviations, deviations[allowed[0]])[0] - log_weights
            near = allowed[np.argmin(first[allowed])]
            gap, slack, square = self._gaps(offset, deviations, deviations[near])
            total = np.logaddexp(total, math.log(share) + _exponent(gap - slack, square, log_weights - log_weights[near]))
            nearest.append(near)
        return np.minimum(total, 0.0), np.array(nearest)

    @staticmethod
    def _gaps(offset: np.ndarray, deviations: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        apart = deviations - near
        size = np.abs(deviations) + np.abs(near)
        slack = (len(near) + 8) * np.finfo(np.float64).eps * (size * (np.abs(offset) + size)).sum(axis=1)
        return (apart * (offset + (deviations + near) / 2)).sum(axis=1), slack, (apart * apart).sum(axis=1)

    def effects(self, centre: np.ndarray, deviations: np.ndarray) -> tuple[float, float]:
        """Logarithms of what a weight of one could change in a gradient row and in the loss."""
        return self._effects(np.linalg.norm((centre + deviations)[:, None] - self.means, axis=-1).max(), len(centre))

    def kept(self, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """(n,) which means stay: those that could change something in float64, and the nearest to each component."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            shares, nearest = self.log_shares(centre, deviations)
            stay = ~(shares + max(self.effects(centre, deviations)) < self.faint)
        stay[nearest] = True
        return stay

    def left_out(self, centre: np.ndarray, deviations: np.ndarray, kept: np.ndarray) -> tuple[float, float]:
        """Logarithms of the bounds on what leaving out all but the `kept` means changes in any row and in the loss."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            share = float(np.logaddexp.reduce(self.log_shares(centre, deviations, kept)[0][~kept]))
            rows, loss = self.effects(centre, deviations)
        return share + rows, share + loss

    def left_out_of_hessian(self, centre: np.ndarray, deviations: np.ndarray, kept: np.ndarray) -> float:
        """Bound on what leaving out all but the `kept` means changes in the Hessian's spectral norm."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            share = float(np.logaddexp.reduce(self.log_shares(centre, deviations, kept)[0][~kept]))
            omega = np.linalg.norm((centre + deviations)[:, None] - self.means, axis=-1).max()
            return float(np.exp(share + math.log(self.integrands.hessian.effect(omega, len(centre)))))

    def holds_in(self, low: np.ndarray, high: np.ndarray, outside: np.ndarray, kept: np.ndarray) -> bool:
        """Whether the means at `outside` can be left out wherever in the box the kept ones are."""
        k = len(low)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            total = np.full(len(outside), -np.inf)
            farthest = 0.0
            ratio = np.log(self.weights[~kept]) - np.log(self.weights[kept].min())
            square = np.maximum((outside - low) ** 2, (outside - high) ** 2).sum(axis=1)
            for mean, share in zip(self.means, self.teacher_weights, strict=True):
                end = np.where(np.abs(low - mean) > np.abs(high - mean), low, high)
                slack = (k + 8) * np.finfo(np.float64).eps * ((np.abs(outside) + np.abs(end) + np.abs(mean)) ** 2).sum(axis=1)
                gap = ((outside - end) * (outside + end - 2 * mean)).sum(axis=1) / 2 - slack
                total = np.logaddexp(total, math.log(share) + _exponent(gap, square, ratio))
                farthest = max(farthest, np.linalg.norm(end - mean), np.linalg.norm(outside - mean, axis=1).max())
            return bool(np.logaddexp.reduce(total) + max(self._effects(farthest, k)) < self.limit)

    def _effects(self, omega: float, k: int) -> tuple[float, float]:
        if not 0 < omega < 1e100:
            return math.inf, math.inf
        rows, loss = self.integrands.effects(omega, k)
        return math.log(rows), math.log(loss)


def _exponent(gap: np.ndarray, square: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The smallest κ over θ, for gaps G, squares |Δ|² and ln of the weights' quotient."""
    theta = np.clip((gap - ratio) / np.maximum(square, 1e-300), 0.0, 1.0)
    found: np.ndarray = theta * ratio + theta * theta * square / 2 - theta * gap
    return found


class FarPlan(Plan):
    """A plan of some means (`part`, which has rows of 0 for all others) with the bound that the others cost.

    Its steps are taken inside a box in which the bound holds wherever the means are; where even the smallest box allows none, one at a
    time, each at a state for which it was checked.
    """

    def __init__(self, part: PartialPlan, scene: Scene, present: np.ndarray, kept: np.ndarray, state: State) -> None:
        self.part, self._scene, self._present, self.kept = part, scene, present, kept
        self.nodes, self.rule = part.nodes, part.rule
        self._offset = scene.integrands.offset(float(scene.weights[kept].sum()))
        self._free = self._confine(state)

    def _confine(self, state: State) -> bool:
        """Give the inner plan the largest box in which its means can move and the others stay out of sight."""
        inner, used = self.part.inner, self.part.view.axes
        unused = np.setdiff1d(np.arange(state.k), used)  # on these axes the means that stay are exactly at 0

        def turned(points: np.ndarray) -> np.ndarray:
            return np.concatenate([points[:, used] @ inner.axes, points[:, unused]], axis=1)

        params, scene = turned(state.centre + state.deviations[self._present]), replace(self._scene, means=turned(self._scene.means))
        hull, moving = np.concatenate([params[self.kept], scene.means]), np.arange(state.k) < len(used)
        low, high = hull.min(axis=0), hull.max(axis=0)
        extent = float((high - low).max())
        for pad in (0.05 * extent + 1.0, *(share * extent for share in _PADS)):
            room = np.where(moving, pad, 0.0)
            if scene.holds_in(low - room, high + room, params[~self.kept], self.kept):
                inner.confine((low - room)[moving], (high + room)[moving])
                return True
        return False

    def _left_out(self, state: State) -> tuple[float, float]:
        return self._scene.left_out(state.centre, state.deviations[self._present], self.kept)

    def evaluate(self, state: State) -> Evaluation:
        found = self.part.evaluate(state)
        rows, loss = np.exp(self._left_out(state))
        bounds = found.bounds
        if bounds is not None:
            known = bounds.truncation
            bounds = replace(bounds, truncation=Parts(known.value + float(loss), known.grad + np.where(self._present, rows, 0.0)))
        return replace(found, value=found.value + self._offset, value_error=found.value_error + float(loss), bounds=bounds,
                       grad_error=found.grad_error + np.where(self._present, rows, 0.0))

    def left_out(self, state: State) -> tuple[float, float]:
        """Bounds on what the means that are left out change in any row and in the loss."""
        rows, loss = np.exp(self._left_out(state))
        return float(rows), float(loss)

    def covers(self, state: State) -> bool:
        return self.part.covers(state) and max(self._left_out(state)) < self._scene.limit

    def moves(self, state: State, step_size: float, steps: int, ceiling: float) -> Moves:
        done = yield from self.part.moves(state, step_size, steps if self._free else min(steps, 1), ceiling - self._offset)
        done = replace(done, value=done.value + self._offset)
        if done.reason == "done" and done.steps < steps:
            done = replace(done, reason="replan")
        return replace(done, state=self._resting(state, done.state))

    def _resting(self, before: State, after: State) -> State:
        """Where one mean moves alone and the others are as far from it as from the target, `after` with the target for its centre: a
        centre that moves with the one would round the others, who stand still, at every step."""
        rows = self.part.view.rows
        if rows.sum() > 1 or np.abs(after.deviations[~rows]).max() < 0.25 * np.abs(after.centre).max():
            return after
        return after.moved(np.zeros(after.k), np.where(rows[:, None], after.coordinates, before.coordinates))

    def settle(self, state: State) -> tuple[State, bool]:
        return self.part.settle(state)

    def gradient(self, template: State, centre: np.ndarray, deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.part.gradient(template, centre, deviations)

    def hessian(self, state: State) -> np.ndarray:
        return self.part.hessian(state)

    def curvature(self, state: State, direction: np.ndarray | None = None, tol: float | None = None, max_nodes: int = 0) -> Curvature:
        """The part's, with zeros for the others, whose blocks are below the bound that is added to the error."""
        found = self.part.curvature(state, direction, tol, max_nodes)
        return replace(found, error=found.error + self._scene.left_out_of_hessian(state.centre, state.deviations[self._present], self.kept))

    def effective_samples(self, state: State) -> np.ndarray | None:
        return self.part.effective_samples(state)

    def carries_integrand(self, state: State, few: float) -> bool:
        return self.part.carries_integrand(state, few)

    def logits_are_exact(self, state: State) -> bool:
        return self.part.logits_are_exact(state)
