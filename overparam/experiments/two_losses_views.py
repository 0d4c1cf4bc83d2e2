"""Picture and data of the experiments that compare two losses: distances above what is measured, a column for each start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam.experiments.two_losses import Run, TwoLossesResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["dataset", "panels"]

Series = Callable[[Any], np.ndarray]


def panels(result: TwoLossesResult, measured: Series, label: str, law: Series, distances: str) -> Figure:
    """Return the figure.

    Parameters
    ----------
    result : TwoLossesResult
    measured, law : callable
        (T,) values of a run for the lower row, and what is expected of them, NaN where nothing is.
    label : str
        Of the lower row's axis.
    distances : {"linear", "log"}
        Scale of the distances.
    """
    from matplotlib.figure import Figure

    starts = list(dict.fromkeys(run.start for run in result.runs))
    losses = list(dict.fromkeys(run.loss for run in result.runs))
    figure = Figure(figsize=(2.9 * max(len(starts), 1) + 0.4, 5.3), layout="constrained")
    axes = figure.subplots(2, max(len(starts), 1), squeeze=False, sharex=True, sharey="row")
    for (top, bottom), start in zip(axes.T, starts, strict=False):
        shown = [run for run in result.runs if run.start == start]
        for run in shown:
            _draw(top, bottom, run, plotting.COLOURS[losses.index(run.loss)], measured, law)
        bottom.plot([], [], "k--", linewidth=0.9, label="law, no fit")
        bottom.axhline(result.settings["threshold"], color="0.5", linestyle=":", linewidth=1, label="threshold whose time is in the table")
        verdict = " against ".join(run.k for run in shown) + f" of {result.settings['n']} converge"
        top.set_title(f"{start}\n{verdict}", fontsize="medium")
        top.set_yscale(distances)
        bottom.set_xscale("log")
        bottom.set_yscale("log")
        bottom.set_xlabel("flow time $t$")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), frameon=False, fontsize="small", loc="outside lower center", ncols=4)
    axes[0, 0].set_ylabel(r"distance $\|\mu_i-\mu^*\|$")
    axes[1, 0].set_ylabel(label)
    plotting.finish(axes.ravel())
    return figure


def _draw(top: Any, bottom: Any, run: Run, colour: str, measured: Series, law: Series) -> None:
    later = run.trajectory.times > 0
    times = run.trajectory.times[later]
    top.plot(times, run.distances[later], color=colour, linewidth=1.0)
    bottom.plot(times, measured(run)[later], color=colour, linewidth=1.8, label=run.loss)
    bottom.plot(times, law(run)[later], "k--", linewidth=0.9)


def dataset(result: TwoLossesResult, series: Mapping[str, Series], facts: Mapping[str, Callable[[Any], Any]]) -> Dataset:
    """Return the data over run and record, NaN behind the last record of a run: time, loss, distances, and what else is given.

    Parameters
    ----------
    result : TwoLossesResult
    series, facts : mapping
        More (T,) values of a run, and numbers of it, by name.
    """
    import xarray

    longest = max((len(run.trajectory) for run in result.runs), default=0)
    every: dict[str, Series] = {"time": lambda run: run.trajectory.times, "loss": lambda run: run.trajectory.loss,
                                "loss_error": lambda run: run.trajectory.loss_error, **series}
    fields = {name: np.full((len(result.runs), longest), np.nan) for name in every}
    norms = np.full((len(result.runs), longest, result.settings["n"]), np.nan)
    for row, run in enumerate(result.runs):
        for name, values_of in every.items():
            fields[name][row, :len(run.trajectory)] = values_of(run)
        norms[row, :len(run.trajectory)] = run.distances
    data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
    data["norm"] = ("run", "record", "parameter"), norms
    known: dict[str, Callable[[Any], Any]] = {
        "start": lambda run: run.start, "objective": lambda run: run.loss, "status": lambda run: run.trajectory.status,
        "converged": lambda run: np.nan if run.regime.k is None else run.regime.k, **facts}
    data |= {name: ("run", [value(run) for run in result.runs]) for name, value in known.items()}
    return xarray.Dataset(data, attrs=result.attributes())
