r"""Hybrid EM on fresh batches in any dimension, in law: a step in :math:`d=10^6` costs what it does in d = 20.

The true means lie on the first axis, and responsibilities depend on a draw x only through the span of that axis and of n students. What
B draws have outside of it is a matrix Z of standard normal entries, (B, r), which enters the students as :math:`W^\top Z`, W their
responsibilities; and only the Gram matrix of the students matters later on. :math:`Z=LQ` with rows of Q orthonormal and independent
of L, whose entries are those of Bartlett's decomposition: :math:`L_{ii}^2\sim\chi^2_{r-i}`, i from 0, standard normal below. So the
students get :math:`W^\top L` on axes of their own, and are turned into n axes again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._softmax import responsibilities

__all__ = ["Students", "lower_factor"]


def lower_factor(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """(rows, min(rows, columns)) L of Z = LQ, for a (rows, columns) matrix Z of standard normal entries.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.experiments.zhang2026.batches import lower_factor
    >>> found = lower_factor(2, 1_000_000, np.random.default_rng(0))
    >>> found.shape, bool(abs(np.linalg.norm(found[1]) - 1000) < 5)
    ((2, 2), True)
    """
    width = min(rows, columns)
    factor = np.tril(rng.standard_normal((rows, width)), -1)
    factor[np.arange(width), np.arange(width)] = np.sqrt(rng.chisquare(columns - np.arange(width)))
    return factor


@dataclass(frozen=True, eq=False)
class Students:
    """n students of a teacher on the first axis of `d` dimensions.

    Attributes
    ----------
    means : (n, k) array
        The first coordinate, and all others turned into as few axes as hold them: lengths and inner products are the true ones.
    weights : (n,) array
    d : int
    """

    means: np.ndarray
    weights: np.ndarray
    d: int

    @classmethod
    def of(cls, params: np.ndarray, weights: np.ndarray) -> Students:
        """Students at `params` (n, d)."""
        return cls(_turned(params), weights, params.shape[1])

    def stepped(self, separation: float, share: float, step_size: float, batch_size: int, rng: np.random.Generator) -> Students:
        r"""After a step on fresh draws: from :math:`\frac\Delta2e_1` with probability `share`, else from the other mean."""
        x = rng.standard_normal((batch_size, self.means.shape[1]))
        x[:, 0] += np.where(rng.random(batch_size) < share, separation / 2, -separation / 2)
        outside = self.d - self.means.shape[1]
        return self.updated(x, lower_factor(batch_size, outside, rng) if outside else None, step_size)

    def updated(self, x: np.ndarray, beyond: np.ndarray | None, step_size: float) -> Students:
        """After a step on draws `x` (B, k) that have `beyond` (B, r) on r further axes."""
        w = responsibilities(x, self.means, self.weights)
        weights = w.mean(axis=0)
        means = self.means + step_size * (w.T @ x / len(x) - weights[:, None] * self.means)
        if beyond is not None:
            means = np.concatenate([means, step_size / len(x) * w.T @ beyond], axis=1)
        return Students(_turned(means), weights, self.d)


def _turned(means: np.ndarray) -> np.ndarray:
    """The first coordinate, and the others on as many axes as there are rows."""
    if means.shape[1] - 1 <= len(means):
        return means
    triangle: Any = np.linalg.qr(means[:, 1:].T, mode="r")
    return np.concatenate([means[:, :1], triangle.T], axis=1)
