"""Rules: how an expectation under a teacher becomes nodes and weights.

A rule is only (nodes, weights); nothing behind it can tell Gauss–Hermite from a sample. It is handed a :class:`~overparam.nodes.Frame`
(where the means are, along which axes) and returns a :class:`~overparam.nodes.Layout`: a grid or a cloud of standard normal points for
each teacher component, with the box of parameters in which it may be used. Fixed rules follow their orders; :mod:`overparam.sampling` has
the sampled ones; :class:`overparam.planning.Auto` plans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from overparam._validation import check_choice, check_integer, check_positive
from overparam.nodes import Axis, Frame, Grid, Layout, fixed_layout, hermite_axis

__all__ = ["GaussHermite", "Rule", "Trapezoid", "rule_from_description"]

MOST_NODES = 100_000_000  # of a fixed rule: a grid beyond it runs for minutes without a word, and is surely a mistake
MOST_NODES_HERMITE = 20_000  # per axis: the rule is found by an eigenvalue problem


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
