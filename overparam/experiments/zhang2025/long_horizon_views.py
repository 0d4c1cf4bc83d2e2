"""Picture, data set and summary table of the flows to the end of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting, rates
from overparam.experiments.zhang2025.long_horizon import PAPER, STARTS, LongHorizonResult, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["dataset", "panels", "table"]

SPREAD, ONE_NEAR, SMALL, LARGE = STARTS
STEEPEST = -3.2  # slopes below are cut off: the loss dives where a run passes a stationary point

# --- the picture ------------------------------------------------------------------------------------------------------


def panels(result: LongHorizonResult) -> Figure:
    """Return the figure: losses above local slopes for both regimes, and the crossing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 6.0), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, (line, cluster, title) in enumerate(((SPREAD, SMALL, "all converge"), (ONE_NEAR, LARGE, "one converges"))):
        _losses(axes[0, column], result, line, cluster)
        axes[0, column].set_title(title, fontsize="medium")
        _slopes(axes[1, column], result, line, cluster)
    axes[1, 0].axhline(-2, color="black", linestyle=":", linewidth=1)
    axes[1, 1].axhline(-1, color="black", linestyle=":", linewidth=1)
    _constants(axes[0, 2], result, SMALL, r"$64\,t^2L/n^2$", "directions that shrink")
    _constants(axes[1, 2], result, ONE_NEAR, r"$L\,t\,r^2/(16\,m)$", "$m$ far parameters", per_far=True)
    for ax in axes.T.ravel():
        ax.set_xscale("log")
        ax.set_xlabel("flow time $t$")
    plotting.finish(axes.T.ravel())
    return figure


def _chosen(result: LongHorizonResult, start: str) -> list[tuple[Run, str]]:
    """The runs from a start with their colours, one for each n."""
    numbers = result.settings["n"]
    return [(run, plotting.COLOURS[numbers.index(run.n) % len(plotting.COLOURS)]) for run in result.runs if run.start == start]


def _losses(ax: Axes, result: LongHorizonResult, line: str, cluster: str) -> None:
    """Losses from both starts, the paper's thinner, with the laws dashed on them."""
    for start, width in ((line, 1.6), (cluster, 0.8)):
        for run, colour in _chosen(result, start):
            later = run.trajectory.times > 0
            ax.plot(run.trajectory.times[later], run.trajectory.loss[later], color=colour, linewidth=width,
                    label=f"$n={run.n}$" if start == line else None)
            if start == line:
                ax.plot(run.trajectory.times[later], run.law[later], color="black", linestyle="--", linewidth=0.9)
    ax.plot([], [], color="black", linestyle="--", linewidth=0.9, label="law")
    ax.plot([], [], color="0.4", linewidth=0.8, label=f"from {cluster}")
    ax.set_yscale("log")
    ax.set_ylabel("loss $L$")
    ax.legend(frameon=False, fontsize="small", loc="lower left", handlelength=1.6)


def _slopes(ax: Axes, result: LongHorizonResult, line: str, cluster: str) -> None:
    for start, width in ((line, 1.6), (cluster, 0.8)):
        for run, colour in _chosen(result, start):
            try:
                found = rates.local_slope(run.trajectory)
            except ValueError:  # too short a run
                continue
            ax.plot(found.times, found.slope, color=colour, linewidth=width)
    ax.set_ylim(STEEPEST, 0.3)
    ax.set_ylabel(r"local slope $d\,\ln L\,/\,d\,\ln t$")


def _constants(ax: Axes, result: LongHorizonResult, start: str, label: str, title: str, per_far: bool = False) -> None:
    """What tends to a constant, with what the law says dashed."""
    for run, colour in _chosen(result, start):
        traj = run.trajectory
        late = (traj.times > 1e-10 * traj.times[-1]) & (traj.times > 1)
        share = max(1, len(run.regime.diverged)) if per_far else 1
        ax.plot(traj.times[late], run.constant[late] / share, color=colour, linewidth=1.6, label=f"$n={run.n}$")
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = run.constant * run.law / traj.loss / share
        ax.plot(traj.times[late], expected[late], color="black", linestyle="--", linewidth=0.9)
    ax.set_ylabel(label)
    ax.set_title(f"{start}: {title}", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="best", handlelength=1.4)


# --- the data set -----------------------------------------------------------------------------------------------------


def dataset(result: LongHorizonResult) -> Dataset:
    """Return everything over run and record."""
    import xarray

    longest = max((len(run.trajectory) for run in result.runs), default=0)
    most = max(result.settings["n"])
    names = ("time", "loss", "loss_error", "law", "constant", "moment_deviation", "local_slope")
    shapes = {**dict.fromkeys(names, ()), "norm": (most,)}
    data = {name: np.full((len(result.runs), longest, *shape), np.nan) for name, shape in shapes.items()}
    for row, run in enumerate(result.runs):
        for name, values in _series(run).items():
            target = data[name][row, :len(run.trajectory)]
            target[(..., slice(run.n)) if name == "norm" else ...] = values
    meaning = {"time": "flow time", "loss": "exact loss", "loss_error": "bound of its error", "law": "late-time law",
               "constant": "64 t^2 L / n^2 where all converge, L t r^2 / 16 where one does",
               "moment_deviation": "relative distance of the second moment from its law", "local_slope": "d ln loss / d ln time",
               "norm": "distance of a parameter from the target"}
    variables: dict[str, Any] = {name: (("run", "record", "parameter") if name == "norm" else ("run", "record"), values,
                                        {"long_name": meaning[name]}) for name, values in data.items()}
    slopes = [run.slope for run in result.runs]
    facts = {"start": [run.start for run in result.runs], "n": [run.n for run in result.runs],
             "regime": [run.regime.name for run in result.runs], "status": [run.trajectory.status for run in result.runs],
             "slope": [np.nan if one is None else one.exponent for one in slopes],
             "slope_low": [np.nan if one is None else one.interval[0] for one in slopes],
             "slope_high": [np.nan if one is None else one.interval[1] for one in slopes],
             "expected_constant": [run.expected_constant for run in result.runs],
             "evaluations": [run.trajectory.evaluations for run in result.runs],
             "wall_time": [run.trajectory.wall_time for run in result.runs]}
    variables |= {name: ("run", values) for name, values in facts.items()}
    attributes = {**result.attributes(), "paper": PAPER}
    return xarray.Dataset(variables, attrs=attributes)


def _series(run: Run) -> dict[str, np.ndarray]:
    from overparam.regimes import distances

    traj = run.trajectory
    slope = np.full(len(traj), np.nan)
    try:
        found = rates.local_slope(traj)
        slope[np.isin(traj.times, found.times)] = found.slope
    except ValueError:  # too short a run
        pass
    return {"time": traj.times, "loss": traj.loss, "loss_error": traj.loss_error, "law": run.law, "constant": run.constant,
            "moment_deviation": run.moment_deviation, "local_slope": slope, "norm": distances(traj)}


# --- the summary ------------------------------------------------------------------------------------------------------


def table(result: LongHorizonResult) -> str:
    """Return a table with a row for each run."""
    lines = [result.heading, "",
             "start                 n  regime         flow time  slope, 95 % interval          constant  predicted  law off by  "
             "matrix off by"]
    for run in result.runs:
        slope, compared, traj = run.slope, run.comparison, run.trajectory
        fitted = "-" if slope is None else f"{slope.exponent:.5f} ({slope.interval[0]:.5f}, {slope.interval[1]:.5f})"
        off = run.moment_deviation
        late = off[traj.times >= traj.times[-1] / 1e6]
        matrix = "-" if not np.isfinite(late).any() else f"{np.nanmax(late):.1e}"
        law = "-" if compared is None else f"{compared.deviation:.1e}"
        lines.append(f"{run.start:<20}{run.n:>3}  {run.regime.name:<13}  {traj.times[-1]:>9.3g}  {fitted:<28}  {run.constant[-1]:>8.5f}  "
                     f"{run.expected_constant:>9.5f}  {law:>10}  {matrix:>13}")
        if traj.status != "completed":
            lines.append(f"  {traj.status}: {traj.message}")
    lines += ["", "constant: 64 t^2 L / n^2 where all converge, L t r^2 / 16 where some diverge (predicted: their number, reached like "
              "1 + 16/r^2).",
              "slope over the third and second last decades; law over the last two, with the next order; whole matrix S over the last six."]
    if result.interrupted:
        lines += ["", f"interrupted {result.reached}: these are the runs as far as they came"]
    return "\n".join(lines)
