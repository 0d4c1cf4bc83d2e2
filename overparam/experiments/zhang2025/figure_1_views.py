"""Picture, data set and summary table of Figure 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting, rates
from overparam.experiments.zhang2025.figure_1 import PAPER, Figure1Result, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["dataset", "panels", "table"]

NOISE = "0.3"
LAW = plotting.COLOURS[1]
PUBLISHED = "black"
STEEPEST = -8.0  # slopes below are cut off: the loss of a run that passes through a stationary point dives
COLUMNS = 3  # of the table, before it goes on below

# --- the picture ------------------------------------------------------------------------------------------------------


def panels(result: Figure1Result) -> Figure:
    """Return the figure: for each M norms above loss above local slope."""
    from matplotlib.figure import Figure

    columns = len(result.runs)
    figure = Figure(figsize=(3.6 * max(columns, 1), 6.6), layout="constrained")
    axes = figure.subplots(3, columns, sharex="col", squeeze=False, gridspec_kw={"height_ratios": [3, 3, 1.7]})
    for column, run in enumerate(result.runs):
        top, middle, bottom = axes[:, column]
        _draw_norms(top, run, legend=column == 0)
        _draw_loss(middle, run)
        _draw_slope(bottom, run)
        for ax in (top, middle):
            ax.set_xlabel("")
        bottom.set_xlabel(rf"step $\tau$  (flow time $t={result.settings['step_size']:g}\,\tau$)")
        if run.trajectory.steps[-1] > 1:
            bottom.set_xlim(1, run.trajectory.steps[-1])
        if column:
            for ax in (top, middle, bottom):
                ax.set_ylabel("")
    plotting.finish(axes.ravel())
    return figure


def _draw_norms(ax: Axes, run: Run, legend: bool) -> None:
    plotting.norms(run.trajectory, ax, labels=None if legend else False, x="steps", target=np.zeros(run.trajectory.d))
    for noisy in run.minibatch:  # on top: they hardly leave the exact lines, and would hide behind them
        for series in _norms_of(noisy).T:
            ax.plot(_steps(noisy), series, color=NOISE, linewidth=0.8, linestyle=(0, (1, 3)))
    ax.set_title(f"$M={run.M:g}$: {_verdict(run)}", fontsize="medium")
    ax.set_ylabel(r"distance to target $\|\mu_i\|$")


def _draw_loss(ax: Axes, run: Run) -> None:
    plotting.loss(run.trajectory, ax, x="steps")
    ax.lines[-1].set_label("exact")
    for number, noisy in enumerate(run.minibatch):
        ax.plot(_steps(noisy), _logarithmic(noisy.loss), color=NOISE, linewidth=0.6, label=None if number else "minibatches")
    late = _last_decade(run)
    steps, loss = _steps(run.trajectory), np.asarray(run.trajectory.loss)
    law = run.law
    if law is not None:
        ax.plot(steps[late], law.values[late], color=LAW, linestyle="--", linewidth=1.8, label=f"law {law.formula}")
    if law is not None and run.regime.diverged:
        first = np.flatnonzero(late)[0]
        guide = 2.5 * loss[first] * (steps[late] / steps[first]) ** -1.0  # above the curve: a slope has no height of its own
        ax.plot(steps[late], guide, color=PUBLISHED, linestyle=":", linewidth=1.4, label="published slope $-1$")
    ax.legend(frameon=False, fontsize="small", loc="lower left", handlelength=1.8)


def _draw_slope(ax: Axes, run: Run) -> None:
    try:
        plotting.local_slope(run.trajectory, ax, x="steps")
    except ValueError:  # a run of one step has no slope to show
        return
    finally:
        ax.set_ylabel("local slope\nof the loss")
    slopes = ax.lines[0].get_ydata()
    ax.set_ylim(max(np.floor(np.min(slopes)), STEEPEST) - 0.3, max(0.4, min(np.max(slopes), 2.0) + 0.3))
    if run.law is not None:
        published = bool(run.regime.diverged)
        slope, colour = (-1, PUBLISHED) if published else (-2, LAW)
        ax.axhline(slope, color=colour, linestyle=":" if published else "--", linewidth=1.2)
        ax.annotate(f"published ${slope}$" if published else f"law ${slope}$", (0.02, slope), xycoords=("axes fraction", "data"),
                    xytext=(0, -3), textcoords="offset points", color=colour, fontsize="small", ha="left", va="top")


def _verdict(run: Run) -> str:
    status = run.trajectory.status
    if status not in ("completed", "converged"):
        return f"{status} at step {run.trajectory.steps[-1]}"
    converged, diverged, undecided = (len(group) for group in (run.regime.converged, run.regime.diverged, run.regime.undecided))
    if undecided:
        return f"{undecided} undecided"
    if not diverged:
        return f"all {converged} converge" if converged > 1 else "converges"
    return f"{converged} converge{'s' if converged == 1 else ''}, {diverged} diverge{'s' if diverged == 1 else ''}"


def _steps(traj: Any) -> np.ndarray:
    return _logarithmic(traj.steps)


def _logarithmic(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.where(values > 0, values, np.nan)


def _norms_of(traj: Any) -> np.ndarray:
    from overparam.regimes import distances

    return distances(traj, np.zeros(traj.d))


def _last_decade(run: Run) -> np.ndarray:
    times = run.trajectory.times
    found: np.ndarray = (times > 0) & (times >= times[-1] / 10)
    return found


# --- the data set -----------------------------------------------------------------------------------------------------


def dataset(result: Figure1Result) -> Dataset:
    """Return everything that was computed over the union of the recorded steps."""
    import xarray

    exact = [run.trajectory for run in result.runs]
    noisy = [traj for run in result.runs for traj in run.minibatch]
    steps = np.unique(np.concatenate([np.zeros(0, dtype=np.int64)] + [traj.steps for traj in exact + noisy]))
    n, d, columns = result.settings["n"], result.settings["d"], len(result.runs)
    shapes = {"loss": (), "loss_error": (), "grad_norm": (), "local_slope": (), "law": (), "norm": (n,), "params": (n, d)}
    data = {name: np.full((columns, steps.size, *shape), np.nan) for name, shape in shapes.items()}
    for column, run in enumerate(result.runs):
        for name, values in _series(run).items():
            data[name][column, np.searchsorted(steps, run.trajectory.steps)] = values
    dims = {"norm": ("parameter",), "params": ("parameter", "coordinate")}
    meaning = {"loss": "exact loss", "loss_error": "bound of its error", "grad_norm": "norm of the whole gradient",
               "local_slope": "d ln loss / d ln time", "law": "late-time law that goes with the verdict",
               "norm": "distance of a parameter from the target", "params": "parameters"}
    variables: dict[str, Any] = {name: (("M", "step", *dims.get(name, ())), values, {"long_name": meaning[name]})
                                 for name, values in data.items()}
    facts = {"regime": [run.regime.name for run in result.runs], "status": [traj.status for traj in exact],
             "converged": [len(run.regime.converged) for run in result.runs],
             "diverged": [len(run.regime.diverged) for run in result.runs],
             "late_slope": [run.late_slope for run in result.runs], "law_ratio": [run.law_ratio for run in result.runs],
             "wall_time": [traj.wall_time for traj in exact], "evaluations": [traj.evaluations for traj in exact]}
    variables |= {name: ("M", values) for name, values in facts.items()}
    if noisy:
        variables |= _minibatch_variables(result, steps)
    coords = {"M": [run.M for run in result.runs], "step": steps, "time": ("step", steps * result.settings["step_size"])}
    facts = {**result.attributes(), "paper": PAPER, "seed": result.settings["seed"]}
    return xarray.Dataset(variables, coords, facts)


def _series(run: Run) -> dict[str, np.ndarray]:
    traj = run.trajectory
    slope = np.full(len(traj.times), np.nan)
    try:
        found = rates.local_slope(traj)
        slope[np.isin(traj.times, found.times)] = found.slope
    except ValueError:  # too short a run
        pass
    law = np.full(len(traj.times), np.nan) if run.law is None else run.law.values
    return {"loss": traj.loss, "loss_error": traj.loss_error, "grad_norm": traj.grad_norm, "local_slope": slope, "law": law,
            "norm": run.norms, "params": np.asarray(traj.params)}


def _minibatch_variables(result: Figure1Result, steps: np.ndarray) -> dict[str, Any]:
    most = max(len(run.minibatch) for run in result.runs)
    shape = (len(result.runs), most, steps.size)
    loss, norm = np.full(shape, np.nan), np.full((*shape, result.settings["n"]), np.nan)
    for column, run in enumerate(result.runs):
        for repetition, traj in enumerate(run.minibatch):
            where = np.searchsorted(steps, traj.steps)
            loss[column, repetition, where] = traj.loss
            norm[column, repetition, where] = _norms_of(traj)
    return {"minibatch_loss": (("M", "repetition", "step"), loss, {"long_name": "loss of one batch"}),
            "minibatch_norm": (("M", "repetition", "step", "parameter"), norm, {"long_name": "distance of a parameter from the target"})}


# --- the summary ------------------------------------------------------------------------------------------------------


def table(result: Figure1Result) -> str:
    """Return a table with one column for each M."""
    shown = ("n", "d", "scale", "step_size", "steps", "seed", "tol")
    head = f"{result.name}: " + ", ".join(f"{key}={result.settings[key]}" for key in shown)
    parts = [head]
    for first in range(0, len(result.runs), COLUMNS):
        columns = [_column(run, result.settings["tol"]) for run in result.runs[first:first + COLUMNS]]
        names = list(dict.fromkeys(name for column in columns for name in column))
        widths = [max(len(value) for value in column.values()) for column in columns]
        parts.append("")
        for name in names:
            cells = [column.get(name, "-").ljust(width) for column, width in zip(columns, widths, strict=True)]
            parts.append(f"  {name:<22}{'   '.join(cells)}".rstrip())
    if result.interrupted:
        parts += ["", f"interrupted {result.reached}: these are the runs as far as they came"]
    return "\n".join(parts)


def _column(run: Run, tol: float) -> dict[str, str]:
    traj, regime = run.trajectory, run.regime
    cells = {
        "": f"M = {run.M:g}",
        "verdict": regime.name,
        "converged, diverged": ", ".join(str(len(group)) for group in (regime.converged, regime.diverged))
                               + (f" ({len(regime.undecided)} undecided)" if regime.undecided else ""),
        "final norms": _several(np.sort(run.norms[-1])),
        "final loss": f"{traj.loss[-1]:.6g} (error <= {traj.loss_error[-1]:.1e})",
        "late slope": _number(run.late_slope, ".3f"),
        "law": "-" if run.law is None else run.law.formula_plain,
        "law / loss at the end": _number(run.law_ratio, ".3f"),
        "requested tolerance": f"{tol:g}",
        "evaluations": f"{traj.evaluations}" + (f" of {traj.attributes['nodes']} nodes" if "nodes" in traj.attributes else ""),
        "wall time": f"{traj.wall_time:.3g} s",
    }
    if traj.status != "completed":
        cells["status"] = f"{traj.status} at step {traj.steps[-1]}"
    for number, noisy in enumerate(run.minibatch, start=1):
        name = "minibatch" if len(run.minibatch) == 1 else f"minibatch {number}"
        cells[f"{name} norms"] = _several(np.sort(_norms_of(noisy)[-1]))
        cells[f"{name} loss"] = f"{noisy.loss[-1]:.3g} +- {noisy.loss_error[-1]:.1g}"
        cells[f"{name} time"] = f"{noisy.wall_time:.3g} s"
    return cells


def _several(values: np.ndarray, most: int = 6) -> str:
    texts = [f"{value:.3g}" for value in values]
    return " ".join(texts) if len(texts) <= most else f"{texts[0]} {texts[1]} ... {texts[-1]} ({len(texts)})"


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)
