"""What the Kullback–Leibler divergence integrates: the first part of score matching's rows, and a log ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._softmax import log_density
from overparam.certificate import Parts, pair_majorants, tight_scales
from overparam.geometry import Integrand
from overparam.geometry import _full_lattices as full_lattices
from overparam.log_bounds import FarLogs, NearLogs, log_size, second_moments
from overparam.nodes import Frame, Grid, offset_of
from overparam.objectives.integrands import Integrands, Sizes, compiled, row_majorants
from overparam.objectives.likelihood_curvature import LikelihoodHessian
from overparam.objectives.measure import Measure

__all__ = ["LikelihoodIntegrands", "LikelihoodTails"]

_UNSEEN = 1e-280  # a loss of this size has rounding at the end of float64's range
_SMALL = 0.34  # up to which the kernel takes e^r - 1 - r
_PEAK = 1.5  # beyond this z^2 phi(z) falls


def _mean_size(frame: Frame, params: np.ndarray, grids: tuple[Any, ...], k: int) -> float:
    r"""Bound on :math:`E|\ln Z^*-\ln Z|`, however axes are integrated or summed by the rule."""
    mass, square = second_moments(grids, k)
    length = np.sqrt(mass * square)
    flat = 0.0
    for mean, share in zip(frame.means, frame.teacher_weights, strict=True):
        for points, weights in ((params, frame.weights), (frame.means, frame.teacher_weights)):
            constant, slope, reach = log_size(points, weights, mean)
            flat += share * (constant * mass + slope * length + min(reach * length, square / 2))
    return float(flat)


@dataclass(frozen=True, eq=False)
class LikelihoodTails(Integrand):
    r"""What edges leave out of :math:`E[w_iD]` and of :math:`E[\ln p^*-\ln p]`.

    Parameters
    ----------
    near : NearLogs, optional
        Where the kernel takes :math:`e^r-1-r`, what bounds it.
    """

    near: NearLogs | None = None

    def left_out(self, axis: int, side: int, edges: np.ndarray, modes: np.ndarray,
                 steps: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        r"""Bound on what lies beyond each of `edges` (E,) on one side of an axis: of each row (E, n), of the loss (E,).

        With G of :meth:`beyond` row i loses at most :math:`\sum_l\omega_l\min\{G_i,G_l\}`, and a tenth more is what the sums that
        discretisation bounds are made of miss. The loss's modulus is at most :math:`A+B\|z\|+\min(C\|z\|,\|z\|^2/2)`, twice (student
        and teacher): beyond L its sums over a lattice are those of :math:`1,z,z^2` against the normal density.
        """
        steps = np.zeros(self.params.shape[1]) if steps is None else steps
        tails = self.beyond(axis, side, edges, modes, steps)[0]
        rows = 1.1 * (np.minimum(tails[:, :, None], tails[:, None, :]) @ self.distances)
        return rows, self.share * self._loss_beyond(axis, side * (edges - self.component[axis]), steps)

    def _loss_beyond(self, axis: int, lengths: np.ndarray, steps: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        masses, squares = full_lattices(steps)
        others = np.arange(len(steps)) != axis
        theta, rest = masses[others].prod(), squares[others].sum()
        if self.near is not None:
            return np.array([self.near.tail(length, steps[axis], theta) for length in lengths])
        density = np.exp(-lengths**2 / 2) / np.sqrt(2 * np.pi)
        far = lengths >= _PEAK
        mass = np.where(far, ndtr(-lengths), masses[axis])
        square = np.where(far, lengths * density + ndtr(-lengths), masses[axis] * squares[axis])
        first = np.where(far, density, np.sqrt(mass * square)) + np.sqrt(rest) * mass  # of ||z||
        second = square + rest * mass
        total = np.zeros(len(lengths))
        for points, weights in ((self.params, self.weights), self.teacher or (self.component[None], np.ones(1))):
            constant, slope, reach = log_size(points, weights, self.component)
            total += constant * mass + slope * first + np.minimum(reach * first, second / 2)
        found: np.ndarray = theta * total
        return found


class LikelihoodIntegrands(Integrands):
    r""":math:`\ln p^*-\ln p` and :math:`w_iD`; docs/numerics.md, section 12."""

    tails = LikelihoodTails
    hessian = LikelihoodHessian()

    def evaluator(self, measure: Measure, log_weights: np.ndarray) -> Any:
        return compiled(measure, log_weights, likelihood=True)

    def sizes(self, evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> Sizes:
        n, k = deviations.shape
        grids = (measure.grid,) if measure.grid is not None else measure.grids
        params, slopes = centre + deviations, None
        if measure.teacher is None:
            two = row_majorants(evaluator, measure, frame, centre, deviations)[0]
        else:
            two, shares = pair_majorants(measure.nodes, measure.weights, measure.teacher, frame, centre, deviations)
            slopes = np.append(shares, np.sqrt(k) + np.linalg.norm(params[:, None] - frame.means, axis=-1).max())
        zeros = np.zeros(n)
        near = evaluator.near(centre, deviations)
        if near:
            shift = centre - frame.means[0]
            logs = NearLogs(shift + deviations, frame.weights, measure.grid)
            return Sizes(two / 2, zeros, zeros, 0.0, max(logs.rounding_scale(shift, deviations, near == 1), _UNSEEN), slopes, logs)
        flat = _mean_size(frame, params, grids, k)
        return Sizes(two / 2, zeros, zeros, 0.0, 1.0 + flat, slopes, FarLogs(flat, offset_of(params, frame.means)))

    def trivial(self, params: np.ndarray, frame: Frame, mass: float, moment: float) -> Parts:
        far = np.linalg.norm(params[:, None] - frame.means, axis=-1).max()
        flat, summed = _mean_size(frame, params, (), params.shape[1]), 0.0
        for mean, share in zip(frame.means, frame.teacher_weights, strict=True):
            for points, weights in ((params, frame.weights), (frame.means, frame.teacher_weights)):
                constant, slope, reach = log_size(points, weights, mean)
                summed += share * (constant * mass + (slope + reach) * moment)
        return Parts(float(flat + max(summed, _SMALL**2 * mass)), np.full(len(params), (1 + mass) * far))

    def tight_scales(self, grid: Grid, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        scales = tight_scales(grid, centre, deviations) / 2  # w_i D is less than half of what is bounded there
        scales[-1] = np.inf
        return scales

    def facts(self, evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> dict[str, Any]:
        near = evaluator.near(centre, deviations)
        return {"near": NearLogs(centre - frame.means[0] + deviations, frame.weights, measure.grid) if near else None}

    def effects(self, omega: float, k: int) -> tuple[float, float]:
        return 3 * omega, max(1.0, omega)

    def offset(self, kept: float) -> float:
        return -float(np.log(kept))

    def losses(self, measure: Measure, params: np.ndarray, weights: np.ndarray) -> np.ndarray:
        teacher = measure.log_teacher
        if teacher is None:
            teacher = -((measure.nodes - measure.target) ** 2).sum(axis=1) / 2
        ratio = log_density(measure.nodes, params, weights) - teacher
        found: np.ndarray = np.expm1(ratio) - ratio if np.abs(ratio).max() < _SMALL else -ratio
        return found
