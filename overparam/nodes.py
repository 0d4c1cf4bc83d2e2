"""Nodes: the frame that a rule is given, and what it makes of it: axes, grids and clouds of points, laid out for each component."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from overparam.geometry import Integrand

__all__ = ["Axis", "Cloud", "Frame", "Grid", "Layout", "offset_of"]

NEUTRAL = 1e-13  # spread, relative to the widest axis, below which an axis counts as having none


def offset_of(params: np.ndarray, means: np.ndarray) -> float:
    """Largest distance of a student mean (n, k) from a teacher mean (m, k) along an axis."""
    return float(max((params.max(axis=0) - means.min(axis=0)).max(), (means.max(axis=0) - params.min(axis=0)).max()))


@dataclass(frozen=True, eq=False)
class Frame:
    """Student and teacher in the rotated, reduced coordinates of a plan, axes widest first.

    Attributes
    ----------
    params, deviations : (n, k) arrays
        Student means, origin at the first teacher mean; and the same less a centre, in which small differences are exact.
    weights, means, teacher_weights : (n,), (m, k), (m,) arrays
    roomy : bool
        Whether a run goes on from here, so that the layout should leave room to move.
    known : Demand, optional
        What an earlier plan finds here, for rules that plan (see :mod:`overparam.planning`).
    starts : sequence of (n, k) arrays, optional
        Where modes were found before, one array per teacher component.
    turning : float
        Spread to allow for on axes along which the means hardly differ: more than 0 where an earlier plan was left because they turned.
    integrand : type
        The objective's kind of :class:`overparam.geometry.Integrand`: what lies beyond a grid's edges.

    Examples
    --------
    >>> import overparam as op
    >>> class Looking(op.Trapezoid):
    ...     def layout(self, frame, probe=None):
    ...         print(frame.params.shape, frame.rank, round(float(frame.spreads[0]), 6))
    ...         return super().layout(frame, probe)
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=Looking(40))
    >>> _ = obj.value([[3.0, 4.0], [0.0, 0.0]])               # a distance of 5 on one axis, whatever the plane's axes
    (2, 2) 1 5.0
    """

    params: np.ndarray
    deviations: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    teacher_weights: np.ndarray
    roomy: bool = True
    known: Any = None
    starts: tuple[np.ndarray, ...] | None = None
    turning: float = 0.0
    integrand: type[Integrand] = Integrand

    @cached_property
    def integrands(self) -> tuple[Integrand, ...]:
        """The functions φ·wᵢ, one set for each teacher component."""
        return self.integrands_at(self.params, self.deviations)

    def integrands_at(self, params: np.ndarray, deviations: np.ndarray, **facts: Any) -> tuple[Integrand, ...]:
        """The same at other means (`params`, `deviations`), with the `facts` that the objective's kind of integrand wants to know."""
        distances = np.linalg.norm(params[:, None] - self.means, axis=-1).max(axis=1)
        return tuple(self.integrand(params, deviations, self.weights, mean, float(share), distances,
                                    (self.means, self.teacher_weights), **facts)
                     for mean, share in zip(self.means, self.teacher_weights, strict=True))

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """(n, k) modes of φ·wᵢ for each teacher component."""
        starts = self.starts or (None,) * len(self.means)
        return tuple(one.modes(start) for one, start in zip(self.integrands, starts, strict=True))

    @cached_property
    def spreads(self) -> np.ndarray:
        """Extent of the student's means along each axis."""
        found: np.ndarray = np.ptp(self.deviations, axis=0)
        return found

    @cached_property
    def teacher_spreads(self) -> np.ndarray:
        """Extent of the teacher's means along each axis; 0 for a single Gaussian."""
        found: np.ndarray = np.ptp(self.means, axis=0)
        return found

    @property
    def rank(self) -> int:
        """Number of axes along which any means differ: those that a quadrature rule must resolve."""
        widths = np.maximum(self.spreads, self.teacher_spreads)
        return int((widths > NEUTRAL * widths.max()).sum()) if widths.max() > 0 else 0

    @property
    def offset(self) -> float:
        """Largest distance of a student mean from a teacher mean along an axis."""
        return offset_of(self.params, self.means)

    @property
    def distances(self) -> np.ndarray:
        """(n,) largest distance of each student mean from a teacher mean."""
        found: np.ndarray = np.linalg.norm(self.params[:, None] - self.means, axis=-1).max(axis=1)
        return found


@dataclass(frozen=True, eq=False)
class Axis:
    """A one-dimensional rule for the standard normal weight; `step` is None unless it is a trapezoid rule.

    Attributes
    ----------
    nodes, weights : (m,) arrays
        Nodes, in units of the normal distribution's standard deviation, and weights that sum to about 1.
    step : float or None
        Distance of the nodes of a trapezoid rule.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.nodes import Axis
    >>> axis = Axis(np.array([-1.0, 1.0]), np.array([0.5, 0.5]))      # Gauss-Hermite of order 2
    >>> axis.order, float(axis.weights @ axis.nodes**2)
    (2, 1.0)
    """

    nodes: np.ndarray
    weights: np.ndarray
    step: float | None = None

    @property
    def order(self) -> int:
        """Number of nodes."""
        return len(self.nodes)


@dataclass(frozen=True, eq=False)
class Grid:
    """Tensor product of axes: standard normal points relative to a teacher mean, never stored.

    Attributes
    ----------
    axes : tuple of Axis
        One rule for each coordinate.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.nodes import Axis, Grid
    >>> two, one = Axis(np.array([-1.0, 1.0]), np.array([0.5, 0.5])), Axis(np.zeros(1), np.ones(1))
    >>> points, weights = Grid((two, one)).points()
    >>> points.tolist(), weights.tolist()
    ([[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5])
    """

    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Number of points."""
        return int(np.prod([axis.order for axis in self.axes], dtype=object))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, k) points and (N,) weights, written out."""
        mesh = np.meshgrid(*(axis.nodes for axis in self.axes), indexing="ij")
        weights = self.axes[0].weights
        for axis in self.axes[1:]:
            weights = np.multiply.outer(weights, axis.weights)
        return np.stack([part.ravel() for part in mesh], axis=1), weights.ravel()


@dataclass(frozen=True, eq=False)
class Cloud:
    """Sampled standard normal points in `replicates` independent groups of equal size, one after the other.

    Attributes
    ----------
    nodes, weights : (N, k) and (N,) arrays
        Points, and weights that sum to 1.
    replicates : int
        Number of groups.
    axes : tuple of Axis
        Empty: what tells a cloud from a grid.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.nodes import Cloud
    >>> cloud = Cloud(np.random.default_rng(0).normal(size=(32, 2)), np.full(32, 1 / 32), replicates=16)
    >>> cloud.size
    32
    """

    nodes: np.ndarray
    weights: np.ndarray
    replicates: int
    axes: tuple[Axis, ...] = ()

    @property
    def size(self) -> int:
        """Number of points."""
        return len(self.nodes)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, k) points and (N,) weights."""
        return self.nodes, self.weights


@dataclass(frozen=True, eq=False)
class Layout:
    """What a rule decided: one grid or cloud per teacher component, and the box in which it may be used.

    Attributes
    ----------
    grids : tuple of Grid or of Cloud
        One for each component of the teacher.
    low, high, spread_low, spread_high : (k,) arrays
        Box of the parameters' coordinates and of their spread, per axis.
    lost_rows, lost_loss : (n,) array and float
        Bound on what truncation leaves out of each gradient row and of the loss, anywhere in the box.
    modes : tuple of (n, k) arrays, optional
        Where the integrands live, if that was looked for.

    Examples
    --------
    >>> import overparam as op
    >>> class Counting(op.GaussHermite):
    ...     def layout(self, frame, probe=None):
    ...         made = super().layout(frame, probe)
    ...         print(made.size, made.sampled, len(made.grids))
    ...         return made
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=Counting((20, 10)))
    >>> _ = obj.value([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    200 False 1
    """

    grids: tuple[Any, ...]  # Grid or Cloud, all of one kind
    low: np.ndarray
    high: np.ndarray
    spread_low: np.ndarray
    spread_high: np.ndarray
    lost_rows: np.ndarray = field(repr=False)
    lost_loss: float = 0.0
    modes: tuple[np.ndarray, ...] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Total number of nodes."""
        return sum(grid.size for grid in self.grids)

    @property
    def sampled(self) -> bool:
        """Whether errors are statistical."""
        return isinstance(self.grids[0], Cloud)


def pads(widths: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """How far coordinates may move along each axis before a plan is made anew.

    `wide` marks the axes on which the grid has edges. On the others a shift moves only the crossings, by the ratio of the
    spreads; where no axis is wide nothing does.
    """
    if not wide.any():
        return np.full(len(widths), np.inf)
    main = widths[wide].max()
    with np.errstate(divide="ignore"):
        return np.where(wide, (0.07 if wide.sum() > 1 else 0.2) * widths + 0.01, 0.1 * main / widths)


def box(frame: Frame, wide: np.ndarray, spread_low: np.ndarray, spread_high: np.ndarray) -> dict[str, np.ndarray]:
    """The box of a layout around the frame's parameters."""
    pad = pads(np.maximum(frame.spreads, frame.teacher_spreads), wide)
    return {"low": frame.params.min(axis=0) - pad, "high": frame.params.max(axis=0) + pad,
            "spread_low": spread_low, "spread_high": spread_high}


@lru_cache(maxsize=256)
def hermite_axis(order: int) -> Axis:
    """Gauss–Hermite rule for the standard normal weight (SciPy's nodes: NumPy's fail near order 400)."""
    if order == 1:
        return Axis(np.zeros(1), np.ones(1))
    from scipy.special import roots_hermitenorm

    nodes, weights = roots_hermitenorm(order)
    return Axis(nodes, weights / weights.sum())


def trapezoid_axis(low: float, high: float, step: float) -> Axis:
    """Equispaced nodes on a lattice through 0 that covers [low, high], weights h φ(z)."""
    z = step * np.arange(np.floor(low / step), np.ceil(high / step) + 1)
    return Axis(z, step / np.sqrt(2 * np.pi) * np.exp(-z * z / 2), step)


def fixed_layout(frame: Frame, grids: tuple[Grid | Cloud, ...], lost_rows: np.ndarray, lost_loss: float) -> Layout:
    """The layout of a rule without a tolerance: its box is where the axes need no new alignment."""
    wide = np.maximum(frame.spreads, frame.teacher_spreads) > 0
    slack = 0.1 * frame.spreads.max() + 1e-12
    limits: dict[str, Any] = box(frame, wide, 0.5 * frame.spreads - 1e-300, 1.2 * frame.spreads + 0.01 * slack)
    return Layout(grids, **limits, lost_rows=lost_rows, lost_loss=lost_loss)
