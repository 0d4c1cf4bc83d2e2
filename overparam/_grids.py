"""The points of a sweep: a product of axes, or a list of points; described in JSON's own types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from overparam._trajectory_file import plain
from overparam._validation import check_choice, check_integer, check_positive, check_real, check_rng

__all__ = ["Grid", "sampled"]

_MOST = 10_000_000  # points; an axis too many is told before memory is gone


@dataclass(frozen=True)
class Grid:
    """The points of a sweep, in order.

    Attributes
    ----------
    axes : dict of lists, optional
        Of a product, by parameter; the last one runs fastest. None for a list of points.
    points : sequence of dicts
    """

    axes: dict[str, list[Any]] | None
    points: Sequence[dict[str, Any]]

    @classmethod
    def of(cls, grid: Any) -> Grid:
        """From a mapping of sequences (their product) or a sequence of mappings; ValueError for anything else."""
        if isinstance(grid, Grid):
            return grid
        if isinstance(grid, Mapping):
            return cls._product(grid)
        if isinstance(grid, str | bytes) or not isinstance(grid, Sequence):
            raise ValueError(f"grid must be a dict of lists (their product) or a list of dicts; got {_shown(grid)}")
        if not grid:
            raise ValueError("grid is an empty list: a sweep needs a point")
        points = []
        for i, one in enumerate(grid):
            if not isinstance(one, Mapping):
                raise ValueError(f"grid[{i}] must be a dict of parameters; got {_shown(one)}")
            _check_names(one)
            points.append(plain(one, f"grid[{i}]"))
        return cls(None, points)

    @classmethod
    def _product(cls, grid: Mapping[str, Any]) -> Grid:
        _check_names(grid)
        axes = {}
        for name, values in grid.items():
            values = values.tolist() if isinstance(values, np.ndarray) else values
            if isinstance(values, str | bytes) or not isinstance(values, Sequence):
                raise ValueError(f"grid[{name!r}] must be a list of values; got {_shown(values)}")
            axes[name] = plain(list(values), f"grid[{name!r}]")
            if not axes[name]:
                raise ValueError(f"grid[{name!r}] is empty: it must hold at least one value")
            if len({json.dumps(value) for value in axes[name]}) < len(axes[name]):
                raise ValueError(f"grid[{name!r}] must not name a value twice; got {_shown(values)}")
        size = math.prod(map(len, axes.values()))
        if size > _MOST:
            raise ValueError(f"grid has {size} points; at most {_MOST} are possible")
        return cls(axes, [dict(zip(axes, values, strict=True)) for values in product(*axes.values())])

    def describe(self) -> dict[str, Any]:
        """What :meth:`from_description` makes an equal grid of, in JSON's own types."""
        return {"axes": self.axes} if self.axes is not None else {"points": list(self.points)}

    @classmethod
    def from_description(cls, described: Mapping[str, Any]) -> Grid:
        """The grid that :meth:`describe` told of."""
        return cls.of(described["axes"] if "axes" in described else described["points"])

    def __len__(self) -> int:
        return len(self.points)


def sampled(ranges: Mapping[str, Any], n: int, rng: Any) -> list[dict[str, Any]]:
    """Return n random points: a grid for :func:`sweep` where a product would have too many.

    Parameters
    ----------
    ranges : dict
        For each parameter ``("uniform", low, high)`` (or just ``(low, high)``), ``("log_uniform", low, high)``,
        ``("integers", low, high)`` with both ends, or a list of values to choose from.
    n : int
        Number of points.
    rng : int or Generator
        Seed of the draws. To go on with a store the same points are needed: give a number.

    Returns
    -------
    list of dicts

    Raises
    ------
    ValueError
        If a range is none of these, or `rng` is None.

    Examples
    --------
    >>> import overparam as op
    >>> points = op.sweeps.sampled({"M": (2.0, 6.0), "scale": ("log_uniform", 1e-9, 1e-3), "n": [2, 3, 5]}, 4, rng=0)
    >>> len(points), sorted(points[0]), all(2 <= point["M"] <= 6 for point in points)
    (4, ['M', 'n', 'scale'], True)
    """
    if rng is None:
        raise ValueError("rng must be a seed: without one the same points could not be drawn again")
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(f"ranges must be a dict of ranges; got {_shown(ranges)}")
    n, rng = check_integer(n, "n", minimum=1), check_rng(rng)
    _check_names(ranges)
    columns = {name: _draw(given, f"ranges[{name!r}]", n, rng) for name, given in ranges.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


_DRAWS = ("uniform", "log_uniform", "integers")


def _draw(given: Any, name: str, n: int, rng: np.random.Generator) -> list[Any]:
    if isinstance(given, list | np.ndarray):
        values = plain(list(given), name)
        if not values:
            raise ValueError(f"{name} is empty: it must hold at least one value")
        return [values[i] for i in rng.integers(len(values), size=n)]
    if not isinstance(given, tuple) or len(given) not in (2, 3):
        raise ValueError(f"{name} must be (low, high), (kind, low, high) with kind one of {', '.join(_DRAWS)}, or a list of values; "
                         f"got {_shown(given)}")
    kind, low, high = given if len(given) == 3 else ("uniform", *given)
    kind = check_choice(kind, f"{name}: kind", _DRAWS)
    if kind == "integers":
        low, high = (check_integer(one, name, minimum=-2**62, maximum=2**62) for one in (low, high))
    else:
        low, high = ((check_positive if kind == "log_uniform" else check_real)(one, name) for one in (low, high))
    if not low < high:
        raise ValueError(f"{name}: the low end must be below the high one; got {_shown(given)}")
    if kind == "integers":
        found: list[Any] = rng.integers(low, high, size=n, endpoint=True).tolist()
        return found
    if kind == "log_uniform":
        found = np.exp(rng.uniform(np.log(low), np.log(high), size=n)).clip(low, high).tolist()
        return found
    found = rng.uniform(low, high, size=n).tolist()
    return found


def _check_names(names: Mapping[Any, Any]) -> None:
    if not names:
        raise ValueError("grid has no parameters: it needs one at least")
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"grid: the name of a parameter must be a text; got {_shown(name)}")
        if name == "rng":
            raise ValueError("grid: 'rng' is the generator that every point is given; name a swept seed otherwise")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
