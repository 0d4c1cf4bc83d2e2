"""Auto: the rule that chooses nodes for a tolerance."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np

from overparam._validation import check_integer, check_real
from overparam.bounds import Majorant, arms, hermite_error, hermite_order, hermite_room, trapezoid_step
from overparam.certificate import Demand, discretisation
from overparam.nodes import Frame, Grid, Layout, box, hermite_axis, trapezoid_axis
from overparam.quadrature import Rule
from overparam.sampling import Sobol

__all__ = ["Auto", "TooHardError"]


_FALLBACK_NODES = 2**16
_NARROW = 0.3  # spread below which a Gauss-Hermite axis is always the smaller one
_BETWEEN = 0.9  # spread above which other axes are taken to have a trapezoid rule, before their rules are known
_GROWTH, _GROWTH_ALONE = 1.12, 1.4  # by which a spread may grow: nodes go with it, and on one axis they cost less than plans
_NEVER_TWO = 2.0  # two nodes bear no wider spread at any tolerance
_AIM = 0.4  # part of the tolerance that is planned for: the rest is for what changes inside the box


class TooHardError(ValueError):
    """A tolerance cannot be met within `max_nodes`; a ValueError.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-10, max_nodes=20))
    >>> try:
    ...     obj.value([[3.0], [-3.0]])
    ... except op.TooHardError as error:
    ...     print(str(error)[:19])
    tol=1e-10 needs abo
    """


class Auto(Rule):
    r"""Chooses reduced axes, a rule per axis, steps and half-widths for a relative tolerance, and plans anew when a run moves on.

    Parameters
    ----------
    tol : float
        Relative tolerance of the loss and of every gradient row (of every deviation row and their mean for a state that is
        tight around its centre). A row that cancels to its rounding level is only asked for that level.
    max_nodes : int
        Above this many nodes the tolerance counts as out of reach: ``value`` raises, a driver ends with status
        ``too_hard``, ``estimate`` samples instead.

    sampling : bool
        Above `max_nodes` take 2**16 scrambled Sobol points in 16 replicates instead, here and in drivers. Errors are then
        standard errors, ``trajectory.attributes["sampled_from_step"]`` says since when, and `tol` is not met.

    Raises
    ------
    ValueError
        For a tolerance outside [1e-14, 0.1] or ``max_nodes`` below 1.

    Notes
    -----
    Per axis the smaller of a Gauss–Hermite and a trapezoid rule is taken, both by the bounds of :mod:`overparam.bounds`; the
    grid ends where the envelopes of :mod:`overparam.geometry` allow it. Two nodes suffice on an axis along which the means differ by
    less than about the cube root of the tolerance.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-12))
    >>> round(obj.value([[2.55055099], [-2.55055099], [0.0]]), 8)
    0.94380027
    """

    def __init__(self, tol: float = 1e-10, max_nodes: int = 4_000_000, sampling: bool = False) -> None:
        self.tol = check_real(tol, "tol", minimum=1e-14, maximum=0.1)
        self.max_nodes = check_integer(max_nodes, "max_nodes", minimum=1)
        if not isinstance(sampling, (bool, np.bool_)):
            raise ValueError(f"sampling must be True or False; got {sampling!r}")
        self.sampling = bool(sampling)
        self.fallback = Sobol(_FALLBACK_NODES, rng=0)
        self._reserve = 1.0

    def settings(self) -> dict[str, Any]:
        return {"tol": self.tol, "max_nodes": self.max_nodes, **({"sampling": True} if self.sampling else {})}

    def sparing(self, part: float) -> Auto:
        """The same rule, which plans for `part` of its tolerance (and its square of the loss's) where `max_nodes` allows it.

        Rows may then fall to that part of what they are before nodes are too few, and the loss to its square.
        """
        other = copy(self)
        other._reserve = part
        return other

    def layout(self, frame: Frame, probe: Callable[[Layout], Demand] | None = None) -> Layout:
        """Nodes for the means in `frame`; `probe` evaluates what a layout finds."""
        try:
            return self._certified(frame, probe)
        except TooHardError:
            if self._reserve < 1:
                return self.sparing(1.0).layout(frame, probe)
            if not self.sampling:
                raise
            return self.fallback.layout(frame)

    def _certified(self, frame: Frame, probe: Callable[[Layout], Demand] | None) -> Layout:
        if frame.rank == 0 or probe is None:
            return self._points(frame)
        if 2.0**frame.rank > self.max_nodes or not np.isfinite(np.square(frame.params).sum()):
            raise self._too_hard(frame, 2.0**frame.rank)
        demand = frame.known
        if demand is None:
            unit = np.ones(1)
            demand = probe(self._design(frame, Majorant(unit * 1e3, unit * 1e3, unit * 0, unit * 2, axes=frame.rank), None))
        sharing = frame.params.shape[1] if frame.roomy else max(1, frame.rank)  # with room to move even an axis of spread 0 takes its part
        for _ in range(6):
            aim = np.append(np.full(len(demand.magnitudes) - 1, self._reserve), self._reserve**2)  # the loss falls like rows squared
            targets = demand.targets((_AIM if frame.roomy else 0.9) * aim * self.tol)
            layout = self._design(frame, demand.size.relative_to(0.6 * targets / sharing), targets)
            demand = probe(layout)
            error = discretisation(layout, layout.spread_high if frame.roomy else frame.spreads, frame.teacher_spreads, demand.size,
                                   frame.offset)
            if len(error) == len(layout.lost_rows) + 1:  # of a tight state the edges are judged by the loss: its rows are differences
                error[:-1] += layout.lost_rows
            error[-1] += layout.lost_loss
            if (error <= demand.targets(self.tol)).all():
                return layout
        raise self._too_hard(frame, layout.size, cancels=True)

    def _points(self, frame: Frame) -> Layout:
        """All means coincide: the responsibilities are constant and one node, the teacher's mean, is exact while they do."""
        n, k = frame.params.shape
        anywhere = np.full(k, np.inf)
        return Layout((Grid((hermite_axis(1),) * k),) * len(frame.means), -anywhere, anywhere, np.zeros(k), np.zeros(k), np.zeros(n))

    def _design(self, frame: Frame, size: Majorant, targets: np.ndarray | None) -> Layout:
        """Axes for `size` (relative to the targets), grown spreads included; `targets` None: a first, coarse look."""
        teacher_spreads, spreads = frame.teacher_spreads, frame.spreads
        growth = _GROWTH_ALONE if frame.rank == 1 else _GROWTH
        high = np.where(spreads > _NARROW, growth * spreads + 0.01, np.maximum(growth, 1.2) * spreads) if frame.roomy else spreads.copy()
        high = np.where(spreads < frame.turning, np.maximum(high, frame.turning), high) if frame.roomy else high
        twos = np.full(len(high), 2)
        narrower, wider = arms(high, teacher_spreads, np.maximum(high, teacher_spreads) > _BETWEEN)
        offsets = frame.offset + narrower
        few = np.zeros(len(high), dtype=bool)  # as they stay where all spreads are wide
        if (np.maximum(high, teacher_spreads) < _NEVER_TWO).any():
            few = hermite_error(twos, np.maximum(high, 1e-300), teacher_spreads, size, offsets)[:, 0] <= 1
        rules: list[Any] = []  # an int: the order of a Gauss–Hermite axis; a float: the step of a trapezoid axis
        for axis, (spread, teacher_spread) in enumerate(zip(high, teacher_spreads, strict=True)):
            widest = max(spread, teacher_spread)
            order = 2 if few[axis] else hermite_order(spread, teacher_spread, size, offsets[axis]) if widest < 1.5 else None
            step = trapezoid_step(spread, teacher_spread, size, wider[axis]) if widest > _NARROW or order is None else None
            rules.append(order if order and (step is None or order <= 15 / step) else step)
        if frame.roomy:
            narrow = np.array([isinstance(rule, int) for rule in rules])
            orders = np.array([rule if isinstance(rule, int) else 2 for rule in rules])
        if frame.roomy and narrow.any():
            high = np.where(narrow, hermite_room(orders, high, teacher_spreads, size, offsets), high)
        wide = np.array([isinstance(rule, float) for rule in rules])
        kind: dict[str, Any] = box(frame, wide, np.where(wide, 0.7 * spreads, 0.0) - 1e-300, high)
        room = kind["high"] - frame.params.max(axis=0) if frame.roomy else np.zeros(len(high))
        modes: Any = frame.modes if wide.any() else None
        steps = np.array([rule if isinstance(rule, float) else 0.0 for rule in rules])
        shares = None if targets is None else 0.3 * targets / max(1, 2 * wide.sum() * len(frame.means))
        spans: list[dict[int, Any]] = []
        lost_rows, lost_loss = np.zeros(len(frame.params)), 0.0
        for number, mean in enumerate(frame.means):
            spans.append({})
            for axis in np.flatnonzero(wide).tolist():
                ends = []
                for side in (-1, 1):
                    if shares is None:
                        end = side * ((side * modes[number][:, axis]).max() + 5.0)
                    else:
                        end, rows, loss = frame.integrands[number].reach(axis, side, modes[number], shares[:len(frame.params)],
                                                                         shares[-1], steps)
                        lost_rows, lost_loss = lost_rows + rows, lost_loss + loss
                    ends.append(end + side * room[axis] - mean[axis])  # modes move about as far as the means
                spans[-1][axis] = ends
        count = sum(np.prod([(span[axis][1] - span[axis][0]) / rule + 1 if axis in span else rule for axis, rule in enumerate(rules)])
                    for span in spans)
        if not count <= self.max_nodes:
            raise self._too_hard(frame, count)
        grids = tuple(Grid(tuple(trapezoid_axis(span[axis][0], span[axis][1], rule) if axis in span else hermite_axis(rule)
                                 for axis, rule in enumerate(rules))) for span in spans)
        return Layout(grids, **kind, lost_rows=lost_rows, lost_loss=lost_loss, modes=modes)

    def _too_hard(self, frame: Frame, nodes: float, cancels: bool = False, ratio: float = 0.0) -> TooHardError:
        """The error to raise; with the `ratio` of an integrand to its row where samples would err by more than that row."""
        shown = frame.spreads[:max(1, min(frame.rank, 4))]
        spreads = ", ".join(f"{spread:.3g}" for spread in shown) + (", ..." if frame.rank > 4 else "")
        where = f"{len(frame.params)} means differ along {frame.rank} ax{'is' if frame.rank == 1 else 'es'} with spreads {spreads}"
        if ratio:
            why = f"cannot be certified with {nodes:.3g}" if cancels else f"needs about {nodes:.3g}"
            return TooHardError(f"tol={self.tol:g} {why} nodes (max_nodes={self.max_nodes}): the {where}. Raise tol or max_nodes. A "
                                f"sampling rule would not do: a gradient row is 1/{ratio:.0g} of its integrand, and would be "
                                "lost in its standard error")
        if cancels:
            return TooHardError(f"tol={self.tol:g} cannot be certified: the loss or a gradient row is too small against its integrand, "
                                f"even with {nodes:.3g} nodes ({where}). Raise tol, or use a sampling rule (op.Sobol, op.MonteCarlo)")
        return TooHardError(f"tol={self.tol:g} needs about {nodes:.3g} nodes, more than max_nodes={self.max_nodes}: the {where}. Raise "
                            "max_nodes or tol, allow sampling (op.Auto(..., sampling=True)), or use a sampling rule (op.Sobol, "
                            "op.MonteCarlo), whose standard error estimate() reports")
