"""Pictures of a sweep's results: a heat map over two swept parameters, lines over one, points for a list of points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import DataArray, Dataset

__all__ = ["draw", "heat_map", "lines"]

SEED = "seed"  # the axis that is averaged over
_FEW = 12  # whole numbers up to this many have a colour each
_GREY = "0.85"  # no result


def draw(data: Dataset, variable: str | None = None, at: Mapping[str, Any] | None = None) -> Figure:
    """Draw one result of a sweep.

    Parameters
    ----------
    data : xarray.Dataset
        What ``Store.collect`` returned.
    variable : str, optional
        Which result: "k" if there is one, else the first that is a number.
    at : dict, optional
        Values at which swept parameters are held.

    Returns
    -------
    matplotlib Figure
        With two parameters that vary a heat map, with one a line; over seeds the mean, and for a line the range as a band.

    Raises
    ------
    ValueError
        If the result or a value is not there, or more than two parameters vary.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.sweep_plots import draw
    >>> store = op.sweep(lambda x, y: {"sum": x + y}, {"x": [1, 2, 3], "y": [0, 1]})
    >>> figure = draw(store.collect())
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('x', 'y')
    """
    from matplotlib.figure import Figure

    chosen = _variable(data, variable)
    values = data[chosen]
    for name, value in (at or {}).items():
        check_choice(name, "at:", [str(dim) for dim in values.dims])
        known = data[name].values
        place = np.flatnonzero([_same(one, value) for one in known])
        if not place.size:
            raise ValueError(f"at: {name} has no value {value!r}; it has {', '.join(map(str, known[:12].tolist()))}"
                             f"{' ...' if known.size > 12 else ''}")
        values = values.isel({name: int(place[0])})
    if (more := [str(dim) for dim in values.dims if str(dim).startswith(f"{chosen}_axis")]):
        raise ValueError(f"{chosen} is an array at every point (axis {', '.join(more)}): give a variable that is a number")
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    ax = figure.subplots()
    varying = [str(dim) for dim in values.dims if values.sizes[dim] > 1]
    values = values.squeeze(drop=True)
    if varying == ["point"]:
        _scatter(ax, data, values, chosen)
    elif len([name for name in varying if name != SEED]) == 2:
        heat_map(values, ax)
    elif len(varying) == 1 or (len(varying) == 2 and SEED in varying):
        lines(values, ax)
    else:
        raise ValueError(f"{len(varying)} parameters vary ({', '.join(varying) or 'none'}): one or two can be drawn; hold others at "
                         "a value")
    return figure


def heat_map(values: DataArray, ax: Axes) -> Axes:
    """Draw values over two parameters, the first along the horizontal axis; over "seed" the mean. Grey: no result."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    name, values, texts = str(values.name), *_numbers(values)
    if SEED in values.dims and values.ndim == 3:
        values, name, texts = values.mean(SEED, skipna=True), f"{name} (mean over seeds)" if texts is None else name, texts
    horizontal, vertical = map(str, values.dims)
    places = [_scale(ax, values[dim], axis) for dim, axis in ((horizontal, "x"), (vertical, "y"))]
    found = np.asarray(values.values, dtype=np.float64).T
    seen = np.unique(found[np.isfinite(found)])
    options: dict[str, Any] = {}
    discrete = 0 < seen.size and (seen == np.round(seen)).all() and np.ptp(seen) < _FEW
    colours = colormaps["viridis"]
    if discrete:
        levels = np.arange(seen[0], seen[-1] + 1)
        colours = colours.resampled(max(levels.size, 2))
        options["norm"] = BoundaryNorm(np.append(levels - 0.5, levels[-1] + 0.5), max(levels.size, 2))
    ax.set_facecolor(_GREY)  # masked points are not drawn
    edges = [_edges(one, scale == "log") for one, scale in zip(places, (ax.get_xscale(), ax.get_yscale()), strict=True)]
    mesh = ax.pcolormesh(*edges, np.ma.masked_invalid(found), cmap=colours, rasterized=True, **options)
    if seen.size:
        bar = ax.figure.colorbar(mesh, ax=ax, label=name, ticks=levels if discrete else None)
        if texts is not None:
            bar.set_ticks(range(len(texts)), labels=texts)
    if not np.isfinite(found).all():
        ax.set_title("grey: no result", fontsize="small", loc="right")
    return ax


def lines(values: DataArray, ax: Axes) -> Axes:
    """Draw values over one parameter; over "seed" the mean as a line and the range as a band."""
    name, values, texts = str(values.name), *_numbers(values)
    seeded = SEED in values.dims and values.ndim == 2
    (along,) = [str(dim) for dim in values.dims if not (seeded and dim == SEED)]
    places = _scale(ax, values[along], "x")
    spread = values.transpose(along, SEED).values if seeded else values.values[:, None]
    known = np.isfinite(spread).any(axis=1)
    middle, low, high = (np.full(len(spread), np.nan) for _ in range(3))
    middle[known], low[known], high[known] = (fold(spread[known], axis=1) for fold in (np.nanmean, np.nanmin, np.nanmax))
    ax.plot(places, middle, "o-", markersize=3, linewidth=1.4, color=plotting.COLOURS[0], label="mean over seeds" if seeded else None)
    if seeded:
        ax.fill_between(places, low, high, color=plotting.COLOURS[0], alpha=0.2, linewidth=0, label="range over seeds")
        ax.legend(frameon=False, fontsize="small")
    finite = middle[known]
    if texts is not None:
        ax.set_yticks(range(len(texts)), labels=texts)
    elif finite.size and (finite > 0).all() and finite.max() > 50 * finite.min():
        ax.set_yscale("log")
    ax.set_ylabel(name)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _scatter(ax: Axes, data: Dataset, values: DataArray, name: str) -> None:
    """Points of a list: over their first two parameters that are numbers and vary, coloured; over the only one, as heights."""
    found, texts = _numbers(values)
    columns = [str(one) for one, column in data.coords.items()
               if one != "point" and column.dims == ("point",) and column.dtype.kind in "iuf" and np.unique(column.values).size > 1]
    if not columns:
        raise ValueError("the points have no parameter that is a number and varies")
    x = _scale(ax, data[columns[0]], "x")
    if len(columns) == 1:
        ax.plot(x, found.values, "o", markersize=3, color=plotting.COLOURS[0])
        ax.set_ylabel(name)
        if texts is not None:
            ax.set_yticks(range(len(texts)), labels=texts)
    else:
        y = _scale(ax, data[columns[1]], "y")
        known = np.isfinite(found.values)
        ax.plot(x[~known], y[~known], "x", color="0.6", markersize=4)
        drawn = ax.scatter(x[known], y[known], c=found.values[known], s=16, cmap="viridis")
        bar = ax.figure.colorbar(drawn, ax=ax, label=name)
        if texts is not None:
            bar.set_ticks(range(len(texts)), labels=texts)
    ax.spines[["top", "right"]].set_visible(False)


def _variable(data: Dataset, variable: str | None) -> str:
    names = [str(name) for name in data.data_vars]
    if variable is not None:
        return check_choice(variable, "variable", names)
    numbers = [name for name in names if data[name].dtype.kind in "biuf" and not name.startswith("state")
               and not any(str(dim).startswith(f"{name}_axis") for dim in data[name].dims)]
    if not numbers:
        raise ValueError(f"there is no result that is a number at every point; there are {', '.join(names) or 'none'}")
    return "k" if "k" in numbers else numbers[0]


def _numbers(values: DataArray) -> tuple[DataArray, list[str] | None]:
    """The values as numbers (NaN: none), and the texts that they stand for if they were texts."""
    if values.dtype.kind in "OUST":
        given = values.values.astype(str)
        texts = sorted(set(given.ravel().tolist()) - {""})
        places = np.array([[texts.index(one) if one else np.nan for one in given.ravel()]]).reshape(given.shape)
        return values.copy(data=places), texts
    if values.dtype.kind == "c":
        raise ValueError(f"{values.name} is complex")
    return values.astype(np.float64), None


def _scale(ax: Axes, column: DataArray, axis: str) -> np.ndarray:
    """Label an axis, logarithmic for steps of equal ratio; return where the values lie on it."""
    set_ = {"label": getattr(ax, f"set_{axis}label"), "scale": getattr(ax, f"set_{axis}scale"), "ticks": getattr(ax, f"set_{axis}ticks")}
    set_["label"](str(column.name))
    values = column.values
    if values.dtype.kind not in "iuf":
        set_["ticks"](range(values.size), labels=[str(one) for one in values], rotation=30)
        return np.arange(values.size, dtype=np.float64)
    values = values.astype(np.float64)
    ordered = np.unique(values)
    if ordered.size > 2 and ordered[0] > 0 and ordered[-1] > 20 * ordered[0]:
        if np.ptp(np.diff(np.log(ordered))) < np.ptp(np.diff(ordered)) / np.abs(ordered).max():
            set_["scale"]("log")
    return values


def _edges(values: np.ndarray, log: bool) -> np.ndarray:
    """Borders of the cells around values, half way between neighbours as the axis shows them."""
    at = np.log(values) if log else values
    middle = (at[1:] + at[:-1]) / 2
    edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(edges) if log else edges


def _same(one: Any, value: Any) -> bool:
    if isinstance(one, np.str_ | str):
        return str(one) == str(value)
    try:
        return bool(np.isclose(float(one), float(value), rtol=1e-9, atol=0.0))
    except (TypeError, ValueError):
        return False
