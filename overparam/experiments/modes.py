"""Mixtures of modes at the corners of a polygon, and whose mode is nearest."""

from __future__ import annotations

import math

import numpy as np

from overparam.teachers import GaussianMixture

__all__ = ["nearest", "polygon"]


def polygon(m: int, separation: float) -> GaussianMixture:
    """m modes of equal weight at the corners of a regular polygon in the plane, around the origin, neighbours `separation` apart.

    Examples
    --------
    >>> from overparam.experiments.modes import polygon
    >>> polygon(3, 12.0).means.round(3).tolist()
    [[6.928, 0.0], [-3.464, 6.0], [-3.464, -6.0]]
    """
    angles = 2 * np.pi * np.arange(m) / m
    return GaussianMixture(separation / (2 * math.sin(math.pi / m)) * np.column_stack([np.cos(angles), np.sin(angles)]))


def nearest(params: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Index of the nearest mean for each row of `params`."""
    found: np.ndarray = np.linalg.norm(params[:, None] - means, axis=-1).argmin(axis=1)
    return found
