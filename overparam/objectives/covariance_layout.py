r"""Nodes for score matching against :math:`N(m,\Sigma)`: what each kind of rule makes of a state in whitened axes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from overparam.nodes import Axis, Cloud, Frame, Grid, hermite_axis, trapezoid_axis
from overparam.objectives.covariance_bounds import Envelopes, Factors, best_rule, edges_error, rooms, strip_error, trusted
from overparam.planning import Auto, TooHardError
from overparam.quadrature import Rule

__all__ = ["Found", "Nodes", "discretisation", "fixed_nodes", "left_out", "nodes_for", "sampled_nodes"]

_AIM, _AIM_ALONE = 0.4, 0.9  # part of the tolerance that is planned for: in a run the rest is for what changes inside the box
_GROWTH, _GROWTH_ALONE = 1.12, 1.4  # by which a spread may grow
_TURNS = (0.02, 2e-3, 1e-4)  # of the widest spread: room on axes along which means hardly differ, since the dynamics turn them
_MOST_IN_RUNS = 200_000  # nodes of a run along three axes or more: a step takes about a second then
_LEVEL = 32 * np.finfo(np.float64).eps  # rounding seen, relative to the scales: no tolerance asks for less
_ENDS = np.linspace(1.0, 20.0, 77)  # how far beyond the outermost mode a grid may end


@dataclass(frozen=True, eq=False)
class Nodes:
    """Standard normal points z on the axes of a :class:`Whitened`, and spreads along its leading ones in which they serve.

    Attributes
    ----------
    grid : Grid or Cloud
        On the leading axes; a cloud is on all.
    squares : int
        How many more axes there are, which enter as squares at most: corners of a simplex are exact for them.
    spread_low, spread_high : (leading,) arrays
    modes : (n, a) array, optional
    """

    grid: Grid | Cloud
    squares: int
    spread_low: np.ndarray
    spread_high: np.ndarray
    modes: np.ndarray | None = field(default=None, repr=False)

    @property
    def sampled(self) -> bool:
        """Whether errors are statistical."""
        return isinstance(self.grid, Cloud)

    @property
    def size(self) -> int:
        """Number of points."""
        return self.grid.size * (self.squares + 1)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, a) points and (N,) weights."""
        z, q = self.grid.points()
        if not self.squares:
            return z, q
        corners = simplex(self.squares)
        count = len(corners)
        return np.concatenate([np.repeat(z, count, axis=0), np.tile(corners, (len(z), 1))], axis=1), np.repeat(q / count, count)

    @property
    def rules(self) -> list[int | float]:
        """The rule of each leading axis: an order, or a step."""
        return [axis.order if axis.step is None else axis.step for axis in self.grid.axes]

    @property
    def steps(self) -> np.ndarray:
        """(a,) steps of the axes, 0 for those without one."""
        return np.array([axis.step or 0.0 for axis in self.grid.axes] + [0.0] * self.squares)

    @property
    def wide(self) -> list[int]:
        """Axes with edges."""
        return [number for number, axis in enumerate(self.grid.axes) if axis.step is not None]


def simplex(m: int) -> np.ndarray:
    """(m + 1, m) corners, of equal weights, with the means and the covariances of a standard normal vector: exact for its squares."""
    helmert = np.zeros((m + 1, m))
    for column in range(m):
        helmert[:column + 1, column], helmert[column + 1, column] = 1.0, -(column + 1.0)
        helmert[:, column] /= np.sqrt((column + 1) * (column + 2))
    found: np.ndarray = np.sqrt(m + 1) * helmert
    return found


@dataclass(frozen=True, eq=False)
class Found:
    """What some nodes find: factors of the bounds with bounds on E w in them, and (q,) magnitudes and rounding scales."""

    factors: Factors
    magnitudes: np.ndarray
    scales: np.ndarray

    def targets(self, tol: float) -> np.ndarray:
        """(q,) largest error that is allowed."""
        return np.maximum(tol * self.magnitudes, _LEVEL * self.scales)


def discretisation(nodes: Nodes, spreads: np.ndarray, factors: Factors) -> np.ndarray:
    """(q,) bound on the discretisation error: the sum over the axes; inf where the rule is too coarse for its own majorants."""
    total, rules = np.zeros(len(factors.mass)), nodes.rules
    for axis, rule in enumerate(rules):
        if not trusted(rule, float(spreads[axis]), factors.weighted, len(rules)):
            return np.full_like(total, np.inf)
        total += strip_error(rule, float(spreads[axis]), factors, axis)
    return total


def left_out(nodes: Nodes, envelopes: Envelopes, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """What lies beyond the edges: of the quantities (q,), and of E w (n,)."""
    lost, masses, wide = np.zeros(len(factors.mass)), np.zeros(len(envelopes.params)), nodes.wide
    if not wide:
        return lost, masses
    modes = envelopes.modes(nodes.modes) if factors.weighted else None
    steps = nodes.steps
    for axis in wide:
        ends = nodes.grid.axes[axis].nodes
        for side, end in ((-1, ends[0]), (1, ends[-1])):
            more, mass = edges_error(envelopes, factors, axis, side, np.array([end]), modes, steps)
            lost, masses = lost + more[0], masses + mass[0]
    return lost, masses


def nodes_for(rule: Auto, spreads: np.ndarray, squares: int, envelopes: Envelopes, first: Factors, roomy: bool,
              look: Callable[[Nodes], Found]) -> Nodes:
    """Nodes for the tolerance of `rule`; `look` says what some nodes find, `first` are the factors with E w = 1.

    In a run axes along which means hardly differ get less room where there would be too many nodes.
    """
    for turn in _TURNS[:-1] if roomy else ():
        with suppress(TooHardError):
            return _nodes_for(rule, spreads, squares, envelopes, first, roomy, look, turn)
    return _nodes_for(rule, spreads, squares, envelopes, first, roomy, look, _TURNS[-1])


def _nodes_for(rule: Auto, spreads: np.ndarray, squares: int, envelopes: Envelopes, first: Factors, roomy: bool,
               look: Callable[[Nodes], Found], turn: float) -> Nodes:
    k = len(spreads)
    if 2.0**k > rule.max_nodes:
        raise _too_hard(rule, 2.0**k, spreads)
    nodes = _design(rule, spreads, squares, envelopes, first, roomy, 1e-4 * first.whole, turn)
    aim = _AIM if roomy else _AIM_ALONE
    for _ in range(6):
        found = look(nodes)
        nodes = _design(rule, spreads, squares, envelopes, found.factors, roomy, found.targets(aim * rule.tol), turn)
        found = look(nodes)
        error = discretisation(nodes, nodes.spread_high if roomy else spreads, found.factors)
        error += left_out(nodes, envelopes, found.factors)[0]
        if (error <= found.targets(rule.tol)).all():
            return nodes
    raise _too_hard(rule, nodes.size, spreads, cancels=True)


def _design(rule: Auto, spreads: np.ndarray, squares: int, envelopes: Envelopes, factors: Factors, roomy: bool,
            targets: np.ndarray, turn: float) -> Nodes:
    k = len(spreads)
    high = spreads.copy()
    if roomy:
        high = (_GROWTH_ALONE if (spreads > 0).sum() == 1 else _GROWTH) * spreads + 0.01 * (spreads > 0.3)
        high = np.maximum(high, turn * spreads.max())
    share = 0.6 * targets / max(1, k)
    rules = [best_rule(float(high[axis]), factors, axis, k, share) for axis in range(k)]
    wide = [axis for axis in range(k) if isinstance(rules[axis], float)]
    if wide and not factors.weighted:
        raise _too_hard(rule, np.inf, spreads, cancels=True)
    if roomy:
        for axis in range(k):
            if axis not in wide:
                high[axis] = rooms(int(rules[axis]), float(high[axis]), factors, axis, k, share)
    modes: Any = envelopes.modes() if wide else None
    steps = np.array([one if isinstance(one, float) else 0.0 for one in rules] + [0.0] * squares)
    axes: list[Axis] = []
    for axis, one in enumerate(rules):
        if isinstance(one, int):
            axes.append(hermite_axis(one))
            continue
        ends = []
        for side in (-1, 1):
            edges = side * ((side * modes[:, axis]).max() + _ENDS)
            lost = edges_error(envelopes, factors, axis, side, edges, modes, steps)[0]
            allowed = 0.3 * targets / (2 * len(wide))
            enough = (lost <= allowed).all(axis=1)
            end = edges[int(enough.argmax())] if enough.any() else edges[-1]
            ends.append(end + side * (0.1 + 0.12 * high[axis] if roomy else 0.0))  # modes move about as far as the means
        if not (ends[1] - ends[0]) / one <= rule.max_nodes:
            raise _too_hard(rule, (ends[1] - ends[0]) / one, spreads)
        axes.append(trapezoid_axis(ends[0], ends[1], one))
    count = (squares + 1) * float(np.prod([float(axis.order) for axis in axes]))
    if roomy and k > 2 and _MOST_IN_RUNS < count <= rule.max_nodes:
        raise _too_hard(rule, count, spreads, run=True)
    if count > rule.max_nodes:
        raise _too_hard(rule, count, spreads)
    low = np.array([0.7 * spreads[axis] if axis in wide else 0.0 for axis in range(k)])
    return Nodes(Grid(tuple(axes)), squares, low - 1e-300, high, modes)


def _too_hard(rule: Auto, nodes: float, spreads: np.ndarray, cancels: bool = False, run: bool = False) -> TooHardError:
    shown = ", ".join(f"{spread:.3g}" for spread in spreads[:4]) + (", ..." if len(spreads) > 4 else "")
    where = f"after whitening the means differ along {len(spreads)} axes by {shown}"
    if cancels:
        return TooHardError(f"tol={rule.tol:g} cannot be certified: the loss or a gradient row is too small against its integrand "
                            f"({where}). Raise tol, or use a sampling rule (op.Sobol, op.MonteCarlo)")
    if run:
        return TooHardError(f"tol={rule.tol:g} needs about {nodes:.3g} nodes at every step, more than the {_MOST_IN_RUNS} that a run along "
                            f"three axes or more takes: {where}. Raise tol, or use a sampling rule (op.Sobol, op.MonteCarlo)")
    return TooHardError(f"tol={rule.tol:g} needs about {nodes:.3g} nodes, more than max_nodes={rule.max_nodes}: {where}. Raise max_nodes "
                        "or tol, allow sampling (op.Auto(..., sampling=True)), or use a sampling rule (op.Sobol, op.MonteCarlo)")


def sampled_nodes(rule: Rule, k: int) -> Nodes:
    """A cloud on all k axes: squares of coordinates count on those that weights do not depend on, too."""
    apart = np.vstack([np.zeros(k), np.ones(k)])
    frame = Frame(params=apart, deviations=apart, weights=np.full(2, 0.5), means=np.zeros((1, k)), teacher_weights=np.ones(1))
    everywhere = np.full(1, np.inf)
    return Nodes(rule.layout(frame).grids[0], 0, -everywhere, everywhere)


def fixed_nodes(rule: Rule, spreads: np.ndarray, squares: int, envelopes: Envelopes) -> Nodes:
    """What a rule without a tolerance makes of the student that whitening leaves: one of the same logits, against N(0, I)."""
    k = len(spreads)
    whitened = envelopes.deviations[:, :k]
    logs = envelopes.offsets + (whitened**2).sum(axis=1) / 2
    weights = np.maximum(np.exp(logs - logs.max()), 1e-300)
    frame = Frame(params=whitened, deviations=whitened, weights=weights / weights.sum(), means=np.zeros((1, k)), teacher_weights=np.ones(1))
    grid = rule.layout(frame).grids[0]
    if isinstance(grid, Cloud):  # a sampled rule of the user's own
        return sampled_nodes(rule, k + squares)
    pair = hermite_axis(2)  # exact for the squares of axes that weights do not depend on
    axes = [pair if axis >= frame.rank else one for axis, one in enumerate(grid.axes)]
    slack = 0.1 * spreads.max() + 1e-12
    return Nodes(Grid(tuple(axes)), squares, 0.5 * spreads - 1e-300, 1.2 * spreads + 0.01 * slack)
