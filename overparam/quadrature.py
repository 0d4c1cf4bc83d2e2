"""Rules: how an expectation under a teacher becomes nodes and weights.

A rule is only (nodes, weights); nothing behind it can tell Gauss–Hermite from a sample. It is handed a :class:`Frame` (where the
means are, along which axes) and returns a :class:`Layout`: a grid or a cloud of standard normal points per teacher component,
with the box of parameters in which it may be used. Fixed rules follow their orders; :mod:`overparam.sampling` has the sampled
ones; :class:`overparam.planning.Auto` plans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np

from overparam._validation import check_choice, check_integer, check_positive
from overparam.geometry import Integrand

__all__ = ["Axis", "Cloud", "Frame", "GaussHermite", "Grid", "Layout", "Rule", "Trapezoid", "offset_of", "rule_from_description"]

MOST_NODES = 100_000_000  # of a fixed rule: a grid beyond it runs for minutes without a word, and is surely a mistake
MOST_NODES_HERMITE = 20_000  # per axis: the rule is found by an eigenvalue problem
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
    >>> from overparam.quadrature import Axis
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
    >>> from overparam.quadrature import Axis, Grid
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
    >>> from overparam.quadrature import Cloud
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


class Rule(ABC):
    """Base of all rules: `layout(frame)` returns the nodes for student and teacher as they stand in `frame`.

    A user's own rule implements :meth:`layout` and :meth:`settings`; a rule of sampled points may derive from
    :class:`overparam.sampling.SampledRule` and implement only ``_draw``.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> from overparam.sampling import SampledRule
    >>> class Antithetic(SampledRule):
    ...     def _draw(self, size, rank, rng):
    ...         half = rng.standard_normal((size // 2, rank))
    ...         return np.concatenate([half, -half])
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=Antithetic(4096, rng=0))
    >>> obj.estimate([[1.0], [-0.5]]).reliable
    True
    """

    registry: ClassVar[dict[str, type[Rule]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):  # a rule of the library's own use is none that a description names
            Rule.registry[cls.__name__] = cls

    @abstractmethod
    def layout(self, frame: Frame, probe: Callable[[Layout], Any] | None = None) -> Layout:
        """Nodes for the means in `frame`; a rule with a tolerance asks `probe` what a layout finds."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The arguments that make an equal rule."""

    def describe(self) -> dict[str, Any]:
        """JSON-able description, the inverse of ``rule_from_description``."""
        return {"kind": type(self).__name__, **self.settings()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings().items())})"


def rule_from_description(description: dict[str, Any]) -> Rule:
    """Make the rule that `describe` described."""
    settings = dict(description)
    kind = check_choice(settings.pop("kind", None), "rule", Rule.registry)
    try:
        return Rule.registry[kind](**settings)
    except TypeError as error:
        raise ValueError(f"description of the rule {kind} does not fit: {error}") from None


def _orders(value: Any, least: int, most: int) -> int | tuple[int, ...]:
    if not isinstance(value, list | tuple | np.ndarray) or np.asarray(value, dtype=object).ndim == 0:
        return check_integer(value, "orders", minimum=least, maximum=most)
    orders = tuple(check_integer(order, "orders", minimum=least, maximum=most) for order in value)
    if not orders:
        raise ValueError("orders is empty; give one number, or one per axis")
    return orders


def _orders_for(orders: int | tuple[int, ...], rank: int) -> tuple[int, ...]:
    if isinstance(orders, int):
        return (orders,) * rank
    if len(orders) < rank:
        raise ValueError(f"orders has {len(orders)} entries and the means differ along {rank} axes: give one number or at "
                         f"least {rank} (widest axis first)")
    return orders[:rank]


def _check_total(orders: tuple[int, ...], components: int) -> None:
    total = components * float(np.prod([float(order) for order in orders]))
    if total > MOST_NODES:
        raise ValueError(f"orders {orders} along {len(orders)} axes make {total:.3g} nodes, more than {MOST_NODES:g}: use smaller orders, "
                         "one per axis (widest axis first), or op.Auto(tol)")


def fixed_layout(frame: Frame, grids: tuple[Grid | Cloud, ...], lost_rows: np.ndarray, lost_loss: float) -> Layout:
    """The layout of a rule without a tolerance: its box is where the axes need no new alignment."""
    wide = np.maximum(frame.spreads, frame.teacher_spreads) > 0
    slack = 0.1 * frame.spreads.max() + 1e-12
    limits: dict[str, Any] = box(frame, wide, 0.5 * frame.spreads - 1e-300, 1.2 * frame.spreads + 0.01 * slack)
    return Layout(grids, **limits, lost_rows=lost_rows, lost_loss=lost_loss)


class GaussHermite(Rule):
    """Tensor Gauss–Hermite rule along the principal axes of the means' differences.

    Parameters
    ----------
    orders : int or sequence of int
        Nodes per axis of the reduced space, widest axis first; one number serves all. Longer tuples are cut to the rank,
        shorter ones are an error. Axes along which no means differ take one node, which is exact.

    Raises
    ------
    ValueError
        For an order below 1; when used, if `orders` is shorter than the rank.

    Notes
    -----
    Best below a spread of about 0.8; at wide spreads the trapezoid rule needs half the nodes or fewer.

    Examples
    --------
    >>> import overparam as op
    >>> op.ScoreMatching(op.Gaussian([0.0]), rule=op.GaussHermite(64)).value([[1.0], [-0.5]]) > 0
    True
    """

    def __init__(self, orders: int | tuple[int, ...]) -> None:
        self.orders = _orders(orders, 1, MOST_NODES_HERMITE)

    def settings(self) -> dict[str, Any]:
        return {"orders": self.orders if isinstance(self.orders, int) else list(self.orders)}

    def layout(self, frame: Frame, probe: Callable[[Layout], Any] | None = None) -> Layout:
        orders = _orders_for(self.orders, frame.rank)
        _check_total(orders, len(frame.means))
        axes = tuple(hermite_axis(order) for order in orders + (1,) * (frame.params.shape[1] - frame.rank))
        return fixed_layout(frame, (Grid(axes),) * len(frame.means), np.zeros(len(frame.params)), 0.0)


class Trapezoid(Rule):
    """Tensor trapezoid (equispaced) rule along the principal axes of the means' differences.

    Parameters
    ----------
    orders : int or sequence of int
        Nodes per axis, as for :class:`GaussHermite`.
    half_width : float, optional
        The grid spans teacher mean ± `half_width` on every axis. By default it reaches, on each side, every place where the
        integrand of a gradient row lives (the modes of φ·wᵢ), plus a tail of relative size 1e-12.

    Raises
    ------
    ValueError
        For orders below 2 or a half-width that is not above 0.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(160))
    >>> found = obj.estimate([[2.0], [-2.0]])
    >>> bool(found.value_error < 1e-9 * found.value)
    True
    """

    def __init__(self, orders: int | tuple[int, ...], half_width: float | None = None) -> None:
        self.orders = _orders(orders, 2, MOST_NODES)
        self.half_width = None if half_width is None else check_positive(half_width, "half_width")

    def settings(self) -> dict[str, Any]:
        return {"orders": self.orders if isinstance(self.orders, int) else list(self.orders), "half_width": self.half_width}

    def layout(self, frame: Frame, probe: Callable[[Layout], Any] | None = None) -> Layout:
        rank = frame.rank
        orders = _orders_for(self.orders, rank)
        _check_total(orders, len(frame.means))
        n, k = frame.params.shape
        grids, lost_rows, lost_loss = [], np.zeros(n), 0.0
        for number, mean in enumerate(frame.means):
            integrand, modes = frame.integrands[number], frame.modes[number]
            ends = np.full((2, rank), self.half_width or np.nan) * [[-1.0], [1.0]]
            if self.half_width is None:
                sizes = integrand.share * frame.distances * np.exp(integrand.envelopes(modes)[1])
                least = 1e-12 * sizes, 1e-12 * float(sizes @ frame.distances)
                ends = np.array([[integrand.reach(axis, side, modes, *least)[0] - mean[axis] for axis in range(rank)] for side in (-1, 1)])
            steps = np.zeros(k)
            steps[:rank] = (ends[1] - ends[0]) / (np.array(orders) - 1)
            for axis in range(rank):
                for side, end in zip((-1, 1), ends[:, axis], strict=True):
                    rows, loss = integrand.left_out(axis, side, np.array([mean[axis] + end]), modes, steps)
                    lost_rows, lost_loss = lost_rows + rows[0], lost_loss + float(loss[0])
            axes = []
            for order, low, step in zip(orders, ends[0], steps[:rank], strict=True):
                z = low + step * np.arange(order)
                axes.append(Axis(z, step / np.sqrt(2 * np.pi) * np.exp(-z * z / 2), step))
            grids.append(Grid(tuple(axes) + (hermite_axis(1),) * (k - rank)))
        return fixed_layout(frame, tuple(grids), lost_rows, lost_loss)
