"""The measure: what is left of a teacher and a rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from overparam._softmax import log_density, responsibilities
from overparam.nodes import Frame, Grid, Layout

__all__ = ["Measure"]


@dataclass(frozen=True, eq=False)
class Measure:
    r"""Nodes, weights and targets: all that a kernel sees of a teacher and a rule.

    Attributes
    ----------
    grid : Grid or None
        A tensor grid, streamed by the kernel and never stored; then `nodes` and `weights` are None and the target constant.
    nodes, weights : (N, k) and (N,) arrays, or None
    target : (k,) array, constant, or (N, k) array
    log_teacher : (N,) array, optional
        :math:`\ln\sum_a\pi^*_ae^{-\|x-m_a\|^2/2}` at the nodes, where the target is not constant: what likelihoods need.
    teacher : (m, N) array, optional
        The teacher's weights at the nodes, where the target is not constant.
    grids : tuple of Grid
        Where the nodes come from; empty for clouds.
    """

    grid: Grid | Any
    nodes: np.ndarray | Any
    weights: np.ndarray | Any
    target: np.ndarray
    log_teacher: np.ndarray | Any = None
    teacher: np.ndarray | Any = None
    grids: tuple[Grid, ...] = ()

    @cached_property
    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (k, N) and targets (k, N) or (k, 1), as kernels read them."""
        target = self.target[:, None] if self.target.ndim == 1 else self.target.T
        return np.ascontiguousarray(self.nodes.T), np.ascontiguousarray(target)

    @classmethod
    def of(cls, layout: Layout, frame: Frame) -> Measure:
        """The measure of a layout: of a single Gaussian a grid or cloud with constant target, of a mixture its components' union."""
        if len(frame.means) == 1:
            only = layout.grids[0]
            if isinstance(only, Grid):
                return cls(only, None, None, frame.means[0], grids=layout.grids)
            return cls(None, only.nodes + frame.means[0], only.weights, frame.means[0])
        parts = [grid.points() for grid in layout.grids]
        nodes = np.concatenate([mean + z for mean, (z, _) in zip(frame.means, parts, strict=True)])
        if layout.sampled:  # a point counts by all components' densities: a light one then never hangs on a few heavy points
            equal = np.full(len(frame.means), 1 / len(frame.means))
            weights = responsibilities(nodes, frame.means, equal) @ frame.teacher_weights * (len(frame.means) / len(nodes))
        else:
            weights = np.concatenate([share * q for share, (_, q) in zip(frame.teacher_weights, parts, strict=True)])
        return replace(cls.at(nodes, weights, frame.means, frame.teacher_weights), grids=() if layout.sampled else layout.grids)

    @classmethod
    def at(cls, nodes: np.ndarray, weights: np.ndarray, means: np.ndarray, teacher_weights: np.ndarray) -> Measure:
        """Points that come from elsewhere, under a teacher of `means` (m, k)."""
        if len(means) == 1:
            return cls(None, nodes, weights, means[0])
        shares, middle = responsibilities(nodes, means, teacher_weights), means.mean(axis=0)
        return cls(None, nodes, weights, middle + shares @ (means - middle), log_density(nodes, means, teacher_weights), shares.T)

    def replicate(self, number: int, replicates: int, components: int) -> Measure:
        """The nodes of one replicate of a cloud (of each component), weighted to a whole expectation."""
        size = len(self.nodes) // components
        group = size // replicates
        index = (np.arange(components)[:, None] * size + number * group + np.arange(group)).ravel()
        target = self.target if self.target.ndim == 1 else self.target[index]
        logs = None if self.log_teacher is None else self.log_teacher[index]
        return Measure(None, self.nodes[index], self.weights[index] * replicates, target, logs)
