"""Students and the modes of a mixture: starts on a sphere, the nearest modes, and what the statements suppose of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from overparam.state import State
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Setting
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.theory.zhou2025.common import teacher_in

__all__ = ["Modes", "chances", "largest_norm", "modes_of", "nearest", "on_sphere", "radius", "separated"]

_EPS = float(np.finfo(np.float64).eps)
_DRAWS = 20_000  # directions of which chances are estimated
_CONFIDENCE = 0.999  # of their intervals, all together


class Modes(NamedTuple):
    """A teacher's modes: (m, d) means in full coordinates, (m,) weights, and the least distance of two."""

    means: np.ndarray
    weights: np.ndarray
    separation: float


def modes_of(setting: Setting) -> Modes:
    """The modes of positive weight."""
    teacher = setting.objective.teacher
    present = teacher.weights > 0
    means = teacher.means[present]
    gaps = [float(np.linalg.norm(one - other)) for place, one in enumerate(means) for other in means[:place]]
    return Modes(means, teacher.weights[present], min(gaps, default=math.inf))


def nearest(setting: Setting, state: State) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the mode nearest to each student at a state, and (n, m) all distances."""
    means, _ = teacher_in(setting.objective, state)
    points = state.coordinates
    apart = np.linalg.norm(points[:, None] - means[None], axis=2)
    return apart.argmin(axis=1), apart


def radius(setting: Setting) -> tuple[float, float]:
    """Mean norm of the starts, and the largest relative difference from it."""
    norms = np.linalg.norm(setting.state.params, axis=1)
    mean = float(norms.mean())
    return mean, float(np.abs(norms - mean).max()) / mean if mean else 0.0


def on_sphere(setting: Setting) -> list[Hypothesis]:
    """The students start on a sphere about the origin that holds the modes."""
    mean, off = radius(setting)
    return [Hypothesis("the students start on a sphere about the origin", r"\mu_\ell^0=R_0\eta_\ell/\|\eta_\ell\|", fact=off <= 1e-12,
                       note=f"R0 = {mean:.6g}, norms differ by {off:.2g} of it"),
            Hypothesis("the modes are inside it", r"\|\bar\mu_a\|\le R_0", largest_norm(setting), "<=", mean * (1 + 8 * _EPS))]


def largest_norm(setting: Setting) -> float:
    """Of the modes."""
    return float(np.linalg.norm(modes_of(setting).means, axis=1).max())


def _at_least(words: str, latex: str, value: float, constant: Constant) -> Hypothesis:
    if constant.value is None:
        return Hypothesis(words, latex, value, ">=", math.nan, tag="unknown", tested=False,
                          note=f"the threshold is not known: holds for {constant.name} <= {value:.6g}; give {constant.name}=")
    return Hypothesis(words, latex, value, ">=", constant.value, tag=constant.tag)


def separated(setting: Setting, separation: Constant, start: Constant) -> list[Hypothesis]:
    """Modes and starts are as far apart as the paper's thresholds, which are unknown, ask."""
    return [_at_least("the modes are far apart", r"\min_{a\ne b}\|\bar\mu_a-\bar\mu_b\|\ge\tilde\Omega(1)", modes_of(setting).separation,
                      separation),
            _at_least("the sphere is large", r"R_0\ge R_{\min}", radius(setting)[0], start)]


def chances(setting: Setting) -> tuple[np.ndarray, np.ndarray, str]:
    r"""Chances :math:`p_a` that a start on the sphere is nearest to mode a, (m,); half-widths of their intervals; how they were found.

    Modes that any exchange of two leaves as they are, about the origin (equal norms, equal inner products: orthogonal ones, a simplex),
    have 1/m each. Others are counted over random starts, with Clopper-Pearson intervals.
    """
    found, size = modes_of(setting), radius(setting)[0]
    m = len(found.weights)
    gram = found.means @ found.means.T
    own, other = np.diag(gram), gram[~np.eye(m, dtype=bool)]
    if np.ptp(own) <= 1e-12 * own.max() and np.ptp(other) <= 1e-12 * own.max():
        return np.full(m, 1 / m), np.zeros(m), "by symmetry"
    # of a random direction only its part in the span of the modes matters, which needs no array of the full dimension
    _, sizes, axes = np.linalg.svd(found.means, full_matrices=False)
    axes, rng = axes[sizes > 1e-14 * sizes.max()], np.random.default_rng(0)
    inside, off = rng.standard_normal((_DRAWS, len(axes))), setting.d - len(axes)
    squares = (inside**2).sum(axis=1) + (rng.chisquare(off, _DRAWS) if off else 0.0)
    starts = size * inside / np.sqrt(squares)[:, None]
    hits = np.bincount(np.argmax(starts @ (axes @ found.means.T) - own / 2, axis=1), minlength=m)
    ends = np.array([binomial_interval(int(one), _DRAWS, 1 - (1 - _CONFIDENCE) / m) for one in hits])
    share = hits / _DRAWS
    return share, np.maximum(share - ends[:, 0], ends[:, 1] - share), f"of {_DRAWS} random starts"
