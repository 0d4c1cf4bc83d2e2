r"""Random starts of which exactly one student does not converge alone: how they are drawn so that rare failures are seen.

On the line, a start :math:`\mu_i\sim N(M,1)` fails where a second student survives beside the first, which takes two students at c that
are closer than about :math:`e^{-c^2+\kappa}`. Such a start is drawn as a pair: its middle c from the density proportional to
:math:`\varphi(c-M)^2G(c)`, its difference uniform up to :math:`G(c)=\min(e^{\kappa-c^2},6)`, any two students being the pair; the others
from :math:`N(M,1)`. With every fourth start drawn plainly, the weights (true over drawn density, the latter the mixture over all pairs
and the plain draw) are at most 4, whatever fails and wherever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["KAPPA", "PairProposal", "interval"]

KAPPA = {2: 4.6}  # of G: above the 3.8 up to which the second of two students survives, so that failures lie inside,
_KAPPA = 5.4  # and above the 4.8 for more of them
_PLAIN = 0.25  # share of plain draws
_WIDEST = 6.0
_CELL = 0.01


@dataclass(frozen=True, eq=False)
class PairProposal:
    """Draws starts of n students on the line around M, and knows their weights.

    Attributes
    ----------
    M : float
    n : int
    edges : (K + 1,) array
        Cells of the middle c of a pair.
    shares : (K,) array
        Their probabilities; within a cell c is uniform.
    """

    M: float
    n: int
    edges: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, M: float, n: int) -> PairProposal:
        """The proposal for n students at distance M."""
        edges = np.arange(-6.0, M + 7.0, _CELL)
        middles = (edges[:-1] + edges[1:]) / 2
        shares = np.exp(-((middles - M) ** 2)) * _widths(middles, n)
        return cls(M, n, edges, shares / shares.sum())

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`count` starts, (count, n), and the logarithms of their weights."""
        starts = self.M + rng.standard_normal((count, self.n))
        paired = np.flatnonzero(rng.random(count) >= _PLAIN)
        cells = rng.choice(len(self.shares), size=len(paired), p=self.shares)
        middles = self.edges[cells] + _CELL * rng.random(len(paired))
        differences = rng.uniform(-1, 1, len(paired)) * self._width(middles)
        first = rng.integers(self.n, size=len(paired))
        second = (first + rng.integers(1, self.n, size=len(paired))) % self.n
        starts[paired, first], starts[paired, second] = middles + differences / 2, middles - differences / 2
        return starts, self.log_weights(starts)

    def log_weights(self, starts: np.ndarray) -> np.ndarray:
        """ln of true density over drawn density, (R,), for (R, n) starts."""
        terms = [np.full(len(starts), math.log(_PLAIN))]
        pairs = [(i, j) for i in range(self.n) for j in range(i)]
        for i, j in pairs:
            a, b = starts[:, i], starts[:, j]
            plain = -((a - self.M) ** 2 + (b - self.M) ** 2) / 2 - math.log(2 * math.pi)
            terms.append(self._log_pair(a, b) - plain + math.log((1 - _PLAIN) / len(pairs)))
        found: np.ndarray = -np.logaddexp.reduce(terms, axis=0)
        return found

    def _cell(self, middles: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.clip(((middles - self.edges[0]) / _CELL).astype(int), 0, len(self.shares) - 1)
        return found

    def _width(self, middles: np.ndarray) -> np.ndarray:
        """G at the centre of the cell: the same number where it is drawn and where it is weighed."""
        cells = self._cell(middles)
        return _widths((self.edges[cells] + self.edges[cells + 1]) / 2, self.n)

    def _log_pair(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """ln of the density at which a pair (a, b), in either order, is drawn: of the middle times of the difference."""
        middles = (a + b) / 2
        width = self._width(middles)
        inside = (np.abs(a - b) <= width) & (middles >= self.edges[0]) & (middles < self.edges[-1])
        with np.errstate(divide="ignore"):
            share = np.log(self.shares[self._cell(middles)] / _CELL)
            density = np.where(width > 0, share - np.log(2 * np.maximum(width, np.finfo(np.float64).tiny)), -np.inf)
        return np.where(inside, density, -np.inf)


def _widths(middles: np.ndarray, n: int) -> np.ndarray:
    """G(c)."""
    return np.minimum(np.exp(KAPPA.get(n, _KAPPA) - middles**2), _WIDEST)


def interval(failed: np.ndarray, weights: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    r"""Estimate and interval of :math:`E[w\,1_{failed}]` from draws with bounded weights.

    The standard error's interval, widened to what an empty sample allows: without a failure, :math:`\max w\,(1-(1-level)^{1/R})`.
    """
    from scipy.special import ndtri

    terms = np.where(failed, weights, 0.0)
    count, estimate = len(terms), float(terms.mean())
    if not failed.any():
        return 0.0, 0.0, float(weights.max()) * (1 - (1 - level) ** (1 / count))
    half = float(ndtri(0.5 + level / 2) * terms.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    return estimate, max(0.0, estimate - half), min(1.0, estimate + half)
