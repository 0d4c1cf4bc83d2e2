"""The picture of runs on two components: where the students go, and their weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from overparam import plotting
from overparam.experiments.zhang2026.separation_runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]

_LINES = {"exact": "-", "sampled": "--", "minibatch": ":"}
_LABELS = {"exact": "population, certified", "sampled": "population, Sobol points", "minibatch": "fresh batches"}


def draw(runs: tuple[Run, ...]) -> Figure:
    """A column for each problem: places (of the run with the most students) above, then weights against time, a row for each n."""
    from matplotlib.figure import Figure

    problems = list(dict.fromkeys((run.d, run.separation) for run in runs))
    counts = sorted({run.n for run in runs})
    columns = max(len(problems), 1)
    figure = Figure(figsize=(2.8 * columns + 0.6, 2.0 * (1 + len(counts)) + 0.8), layout="constrained")
    axes = figure.subplots(1 + len(counts), columns, squeeze=False, gridspec_kw={"height_ratios": [1.3] + [1.0] * len(counts)})
    for column, (d, apart) in enumerate(problems):
        here = [run for run in runs if (run.d, run.separation) == (d, apart)]
        _places(axes[0, column], [run for run in here if run.n == max(run.n for run in here)])
        title = f"$d={_number(d)}$, $\\Delta={_number(round(apart, 1))}={apart / math.sqrt(d):.2g}\\sqrt{{d}}$"
        axes[0, column].set_title(title, fontsize="medium")
        for row, n in enumerate(counts, 1):
            own = [run for run in here if run.n == n]
            if own:
                _weights(axes[row, column], own)
            else:
                axes[row, column].set_visible(False)
        last = max(row for row, n in enumerate(counts, 1) if any(run.n == n for run in here))
        axes[last, column].set_xlabel("time (steps times step size)")
    axes[0, 0].set_ylabel(r"part across, $\|\mu_{i,2:d}\|/\sqrt{d}$")
    for row, n in enumerate(counts, 1):
        axes[row, 0].set_ylabel(f"weights $\\pi_i$, $n={n}$")
    handles = [axes[0, 0].plot([], [], color="0.3", linestyle=line, linewidth=1.2)[0] for line in _LINES.values()]
    figure.legend(handles, list(_LABELS.values()), loc="outside lower center", ncols=3, frameon=False, fontsize="small")
    for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", [ax for ax in axes.ravel() if ax.get_visible()]):
        ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize="small")
    return figure


def _kind(run: Run) -> str:
    return "minibatch" if run.method == "minibatch" else "exact" if run.exact else "sampled"


def _number(value: float) -> str:
    power = round(math.log10(value))
    return f"10^{{{power}}}" if power > 3 and 10**power == value else f"{value:g}"


def _places(ax: Any, runs: list[Run]) -> None:
    for run in runs:
        apart, root, batch = run.separation, math.sqrt(run.d), run.method == "minibatch"
        for i in range(run.n):
            colour = plotting.COLOURS[i % len(plotting.COLOURS)]
            ax.plot(run.along[:, i] / apart, run.across[:, i] / root, color=colour, linestyle=_LINES[_kind(run)], linewidth=0.9)
            ax.plot(run.along[-1, i] / apart, run.across[-1, i] / root, color=colour, markerfacecolor="none" if batch else colour,
                    marker="s" if batch else "o", markersize=2 + 6 * math.sqrt(run.weights[-1, i]), linestyle="none", alpha=0.8)
    ax.plot([0.5, -0.5], [0.0, 0.0], "k+", markersize=9, zorder=5)
    ax.set_ylim(bottom=-0.06)
    ax.set_xlabel(r"$\mu_{i,1}/\Delta$" + f"   ($n={runs[0].n}$)")


def _weights(ax: Any, runs: list[Run]) -> None:
    said = ""
    for run in runs:
        for i in range(run.n):
            ax.plot(run.times, run.weights[:, i], color=plotting.COLOURS[i % len(plotting.COLOURS)], linestyle=_LINES[_kind(run)],
                    linewidth=1.2)
        if run.method == "population":
            said = f"certified: loss ± {run.loss_error[-1]:.0e}" if run.exact else f"sampled: loss ± {run.loss_error[-1]:.0e} (s.e.)"
    ax.text(0.97, 0.5, said, transform=ax.transAxes, fontsize="x-small", ha="right", va="center", color="0.3",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8})
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_xlim(left=0.0)
    ax.set_ylim(-0.03, 1.03)
