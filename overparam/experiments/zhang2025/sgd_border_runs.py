r"""Minibatch descents of many seeds side by side, and what their draws do to small deviations.

To first order about a common point c the draws :math:`x_b` of a batch enter through their mean alone: on one draw the gradient of
:math:`\mu_i=c+\delta_i` is :math:`\frac2n[c+2c(x-c)\delta_i]`, so that

.. math:: \delta_i\leftarrow\Big(1+\frac{4\eta}nc^2-\frac{4\eta}nc\,\bar x\Big)\delta_i,\qquad c\leftarrow\Big(1-\frac{2\eta}n\Big)c,\qquad
          \bar x\sim N(0,1/B).

The noise multiplies, and the centre has none. The logarithm of the growth has the variance
:math:`\sum_k\frac{(4\eta c_k/n)^2/B}{(1+4\eta c_k^2/n)^2}`, :math:`4\eta M^2/(nB)` for small steps, and its mean is smaller by half of
that [derived].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overparam._softmax import softmax
from overparam.experiments.zhang2025.phase_boundary_runs import growth
from overparam.objectives import ScoreMatching
from overparam.teachers import Gaussian

__all__ = ["Borders", "borders", "centres", "log_variance"]

TOGETHER = 250  # draws up to which the seeds step side by side in NumPy; a compiled minibatch for each seed serves larger batches
HORIZON = 30.0  # times n, of flow time: near a threshold runs are decided at about that time
LOOK = 50  # steps between looks at whether all seeds are decided
INSIDE, OUTSIDE = 0.5, 1.0  # decided: all within this of the target, or one that much farther than the start
FIRST = (0.0, 5.0)  # ln eps plus growth between which all thresholds are looked for


def centres(M: float, n: int, step_size: float, steps: int) -> np.ndarray:
    """(steps,) distances of the common point from the target before each step."""
    return M * (1 - 2 * step_size / n) ** np.arange(steps)


def log_variance(M: float, n: int, step_size: float, batch_size: float) -> float:
    """Variance of the logarithm of the growth, summed over the steps of the descent."""
    c = centres(M, n, step_size, int(np.ceil(20 * n / step_size)))
    rate = 4 * step_size / n
    return float((((rate * c) ** 2 / batch_size) / (1 + rate * c * c) ** 2).sum())


@dataclass(frozen=True)
class Borders:
    """Thresholds of one batch size.

    Attributes
    ----------
    batch_size : int
    found : (S,) array
        ln ε plus the exact growth up to which all parameters converge, one for each seed; NaN where it is not in the interval searched.
    expected : (S,) array
        By how much the linear law moves each of them, from that seed's own batch means.
    undecided : int
        Runs that were not decided at the horizon, and count as runs in which not all converge.
    """

    batch_size: int
    found: np.ndarray
    expected: np.ndarray
    undecided: int

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.nanmean(self.found))

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN of one seed."""
        found: float = self.deviation / np.sqrt(np.isfinite(self.found).sum())
        return found

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; NaN of one."""
        known = self.found[np.isfinite(self.found)]
        return float(known.std(ddof=1)) if len(known) > 1 else np.nan

    @property
    def correlation(self) -> float:
        """Of the thresholds with what the linear law expects of their draws; NaN of less than eight seeds."""
        known = np.isfinite(self.found)
        return float(np.corrcoef(self.found[known], self.expected[known])[0, 1]) if known.sum() >= 8 else np.nan


def rows(params: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(S, n) gradient rows on the draws x (S, B) of each of S runs with parameters (S, n) on a line, the target at 0."""
    w = softmax(x[:, :, None] * params[:, None] - params[:, None] ** 2 / 2)
    v = (w * params[:, None]).sum(axis=-1, keepdims=True)
    found: np.ndarray = 2 * (w * v * (1 + (params[:, None] - v) * (x[:, :, None] - params[:, None]))).mean(axis=1)
    return found


class _Draws:
    """The same draws at every call of `begin`, a stream for all seeds, or one for each where the compiled kernel draws."""

    def __init__(self, seed: int, seeds: int, batch_size: int) -> None:
        self._seed, self._seeds, self.batch_size = seed, seeds, batch_size
        self._objective = ScoreMatching(Gaussian([0.0]))
        self.together = batch_size <= TOGETHER

    def begin(self) -> None:
        names = [[self._seed, self.batch_size]] if self.together else [[self._seed, self.batch_size, s] for s in range(self._seeds)]
        self._rngs = [np.random.default_rng(name) for name in names]

    def next(self) -> np.ndarray:
        """(S, B) draws."""
        if self.together:
            return self._rngs[0].standard_normal((self._seeds, self.batch_size))
        return np.stack([self._objective.teacher.sample(self.batch_size, rng)[:, 0] for rng in self._rngs])

    def gradient(self, params: np.ndarray) -> np.ndarray:
        """(S, n) gradient rows on the next draws."""
        if self.together:
            return rows(params, self.next())
        return np.stack([self._objective.minibatch(own[:, None], self.batch_size, rng).grad[:, 0]
                         for own, rng in zip(params, self._rngs, strict=True)])


def _all_converge(draws: _Draws, M: float, z: np.ndarray, log_epsilon: np.ndarray, step_size: float) -> tuple[np.ndarray, int]:
    """(S,) whether all parameters converge, and how many runs the horizon leaves undecided."""
    params = M + np.exp(log_epsilon)[:, None] * z
    draws.begin()
    for step in range(int(np.ceil(HORIZON * len(z) / step_size))):
        params = params - step_size * draws.gradient(params)
        if step % LOOK == 0:
            farthest = np.abs(params).max(axis=1)
            if ((farthest < INSIDE) | (farthest > M + OUTSIDE)).all():
                break
    farthest = np.abs(params).max(axis=1)
    return farthest < 1, int(((farthest >= 1) & (farthest <= max(M, 2.5508))).sum())


def _expected(draws: _Draws, M: float, n: int, step_size: float) -> np.ndarray:
    """(S,) by how much the draws change the logarithm of the growth, with the sign by which that moves the threshold."""
    rate = 4 * step_size / n
    draws.begin()
    change = np.zeros(draws._seeds)
    for c in centres(M, n, step_size, int(np.ceil(np.log(M / 0.3) * n / (2 * step_size)))):
        change -= np.log1p(-rate * c * draws.next().mean(axis=1) / (1 + rate * c * c))
    return change


def borders(M: float, z: np.ndarray, step_size: float, batch_size: int, seeds: int, resolution: float, seed: int) -> Borders:
    """Bisect the threshold of every seed, all at once; each keeps its own draws.

    Parameters
    ----------
    M : float
        Distance of the cluster from the target.
    z : (n,) array
        Profile of mean 0 and root mean square 1.
    step_size : float
    batch_size : int
    seeds : int
        S.
    resolution : float
        Width of the intervals at the end.
    seed : int
        Of all draws.
    """
    G, draws = growth(M, len(z), step_size), _Draws(seed, seeds, batch_size)
    low, high, undecided = np.full(seeds, FIRST[0]), np.full(seeds, FIRST[1]), 0
    while (high - low).max() > resolution * (1 + 1e-9):
        middle = (low + high) / 2
        holds, open_ = _all_converge(draws, M, z, middle - G, step_size)
        low, high, undecided = np.where(holds, middle, low), np.where(holds, high, middle), undecided + open_
    outside = (low == FIRST[0]) | (high == FIRST[1])
    return Borders(batch_size, np.where(outside, np.nan, (low + high) / 2), _expected(draws, M, len(z), step_size), undecided)
