"""Sampled rules: Monte Carlo, stratified and scrambled Sobol points, with replicates that tell the standard error."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from overparam._validation import check_integer, check_rng
from overparam.nodes import Cloud, Frame, Layout, fixed_layout
from overparam.quadrature import MOST_NODES, Rule

__all__ = ["MonteCarlo", "SampledRule", "Sobol", "Stratified"]


class SampledRule(Rule):
    """Sampled standard normal points in independent replicates; the seed is fixed at construction.

    Because the points depend only on the seed and the rank of the reduced space, ``value(params)`` is a function. The
    standard error comes from the spread of the replicates.

    Parameters
    ----------
    n, rng, replicates, entropy
        As for :class:`MonteCarlo`.

    Examples
    --------
    A rule of one's own says how a replicate's points are drawn.

    >>> import overparam as op
    >>> from overparam.sampling import SampledRule
    >>> class Antithetic(SampledRule):
    ...     def _draw(self, size, rank, rng):
    ...         half = rng.standard_normal((size // 2, rank))
    ...         return np.concatenate([half, -half])
    >>> import numpy as np
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=Antithetic(16_000, rng=0))
    >>> bool(obj.estimate([[1.0], [-0.5]]).value_error < 0.02)
    True
    """

    def __init__(self, n: int, rng: Any = None, replicates: int = 16, *, entropy: list[int] | None = None) -> None:
        self.replicates = check_integer(replicates, "replicates", minimum=2)
        self.n = check_integer(n, "n", minimum=self.replicates, maximum=MOST_NODES)
        if entropy is None:
            entropy = [int(word) for word in check_rng(rng).integers(0, 2**32, size=4)]
        self._entropy = list(entropy)

    def settings(self) -> dict[str, Any]:
        return {"n": self.n, "replicates": self.replicates, "entropy": self._entropy}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.n}, replicates={self.replicates})"

    @abstractmethod
    def _draw(self, size: int, rank: int, rng: np.random.Generator) -> np.ndarray:
        """(size', rank) standard normal points of one replicate, size' <= size."""

    def layout(self, frame: Frame, probe: Callable[..., Any] | None = None) -> Layout:
        rank, k = frame.rank, frame.params.shape[1]
        rng = np.random.default_rng([*self._entropy, rank])
        size = self.n // self.replicates
        clouds = []
        for _ in frame.means:  # one cloud for all components would add up their outermost points, instead of averaging over them
            groups = [self._draw(size, rank, rng) if rank else np.zeros((1, 0)) for _ in range(self.replicates)]
            nodes = np.zeros((sum(len(group) for group in groups), k))
            nodes[:, :rank] = np.concatenate(groups)
            clouds.append(Cloud(nodes, np.full(len(nodes), 1 / len(nodes)), self.replicates))
        return fixed_layout(frame, tuple(clouds), np.zeros(len(frame.params)), 0.0)


class MonteCarlo(SampledRule):
    """Independent standard normal points in the reduced space.

    Parameters
    ----------
    n : int
        Number of points in all; a mixture teacher has as many, drawn independently, for every component.
    rng : seed or numpy.random.Generator, optional
        Drawn from once, at construction.
    replicates : int
        Independent groups the standard error is taken from; `n` is cut to a multiple of it.
    entropy : list of int, optional
        What `rng` drew, as ``describe()`` tells it: makes the same rule again.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(16_000, rng=0))
    >>> found = obj.estimate([[1.0], [-0.5]])
    >>> low, high = found.interval(0.999)[0]
    >>> bool(low < op.ScoreMatching(op.Gaussian([0.0])).value([[1.0], [-0.5]]) < high)
    True
    """

    def _draw(self, size: int, rank: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((size, rank))


class Stratified(SampledRule):
    """Stratified standard normal points: one uniform point in every cell of equal probability.

    In rank 1 a replicate of N points has N strata. In rank r it has ``floor(N**(1/r))`` strata *per axis* and one point in
    each cell of their product (a jittered grid), so N is cut to that power; where it falls to 1 the rule is plain Monte Carlo.

    Parameters
    ----------
    n, rng, replicates, entropy
        As for :class:`MonteCarlo`.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Stratified(4096, rng=0))
    >>> found = obj.estimate([[1.0], [-0.5]])
    >>> found.replicates, bool(found.value_error < 1e-3)
    (16, True)
    """

    def _draw(self, size: int, rank: int, rng: np.random.Generator) -> np.ndarray:
        from overparam._core.sampling import stratified_normal

        per_axis = int(np.floor(size ** (1 / rank) + 1e-9))
        cells = np.stack(np.meshgrid(*[np.arange(per_axis)] * rank, indexing="ij"), axis=-1).reshape(-1, rank)
        if per_axis == 1:
            cells = np.zeros((size, rank), dtype=np.intp)
        out = np.empty(cells.shape)
        stratified_normal(rng.random(cells.shape), np.ascontiguousarray(cells, dtype=np.intp),
                          np.full(rank, per_axis, dtype=np.intp), out)
        return out


class Sobol(SampledRule):
    """Sobol points (SciPy's) under nested uniform scrambling, independent for every replicate.

    Parameters
    ----------
    n, rng, replicates, entropy
        As for :class:`MonteCarlo`; a replicate's size is cut to a power of two.

    Notes
    -----
    Under nested scrambling (Owen 1995) the error of a replicate tends to a normal one (Loh 2003, for smooth integrands). The
    linear scrambling that SciPy offers has the same variance, but a few bad matrices make most of it: t intervals from 16
    replicates then cover too seldom.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Sobol(2**14, rng=0))
    >>> found = obj.estimate([[1.0, 0.5], [-0.5, 1.0]])
    >>> found.nodes, bool(found.value_error < 1e-3)
    (16384, True)
    """

    def _draw(self, size: int, rank: int, rng: np.random.Generator) -> np.ndarray:
        from scipy.special import ndtri
        from scipy.stats import qmc

        levels = size.bit_length() - 1
        count = 2**levels
        digits = (qmc.Sobol(rank, scramble=False).random_base2(levels) * count).astype(np.int64)  # a permutation on every axis
        scrambled = np.zeros_like(digits)
        for level in range(levels):  # a binary digit is flipped, or not, together with all that share the digits before it
            flips = rng.integers(0, 2, (2**level, rank))
            before, own = digits >> (levels - level), digits >> (levels - 1 - level) & 1
            scrambled = 2 * scrambled + (own ^ np.take_along_axis(flips, before, axis=0))
        # the digits that follow are no two points' common prefix: independent of all others
        found: np.ndarray = ndtri(np.clip((scrambled + rng.random(scrambled.shape)) / count, 1e-16, 1 - 1e-16))
        return found
