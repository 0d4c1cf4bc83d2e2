"""Two components a given distance apart, learned by hybrid EM in few and in many dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_integer, check_positive
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.result import ExperimentResult
from overparam.experiments.zhang2025.phase_boundary_runs import check_several
from overparam.experiments.zhang2026.separation_runs import ACTIVE, Run, by_batches, collapse_constant, population
from overparam.sampling import Sobol
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["SeparationResult", "separation"]

NAME = "zhang2026.separation"
NEAR = 6.0  # distance of the true means in the first part [published: +-3 e_1]


@dataclass(frozen=True, eq=False)
class SeparationResult(ExperimentResult):
    """Result of :func:`separation`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Problem by problem, population before minibatch; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    runs: tuple[Run, ...]
    stopped: str = ""

    @property
    def reached(self) -> str:
        """Where Ctrl-C cut the experiment short, in words; empty if it ran to its end."""
        return self.stopped

    def finished(self) -> SeparationResult | None:
        """Return the result without the run that Ctrl-C cut short; None if no run came to its end."""
        whole = tuple(run for run in self.runs if run.status != "interrupted")
        return replace(self, runs=whole) if whole else None

    def of(self, method: str) -> list[Run]:
        """The runs by "population" or by "minibatch"."""
        return [run for run in self.runs if run.method == method]

    def figure(self) -> Figure:
        """Return the picture: a column for each problem, the students' places above their weights against time."""
        from matplotlib.figure import Figure

        problems = list(dict.fromkeys((run.d, run.separation) for run in self.runs))
        figure = Figure(figsize=(2.7 * max(len(problems), 1) + 0.4, 4.8), layout="constrained")
        axes = figure.subplots(2, max(len(problems), 1), squeeze=False, sharey="row")
        for column, (d, apart) in enumerate(problems):
            self._draw(axes[0, column], axes[1, column], d, apart)
        for line, method in (("-", "population"), (":", "minibatch")):
            axes[1, 0].plot([], [], color="0.4", linestyle=line, linewidth=1.0, label=method)
        axes[1, 0].legend(frameon=False, fontsize="small", loc="upper left")
        axes[0, 0].set_ylabel(r"$\|\mu_{i,2:d}\|/\sqrt{d}$")
        axes[1, 0].set_ylabel(r"weights $\pi_i$")
        for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes.ravel()):
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        return figure

    def _draw(self, top: Any, bottom: Any, d: int, apart: float) -> None:
        for run in self.runs:
            if (run.d, run.separation) != (d, apart):
                continue
            line, marker = ("-", "o") if run.method == "population" else (":", "s")
            for i in range(run.n):
                colour = plotting.COLOURS[i % len(plotting.COLOURS)]
                top.plot(run.along[:, i] / apart, run.across[:, i] / math.sqrt(d), color=colour, linestyle=line, linewidth=0.8)
                top.plot(run.along[-1, i] / apart, run.across[-1, i] / math.sqrt(d), color=colour, markerfacecolor="none",
                         marker=marker, markersize=2 + 8 * math.sqrt(run.weights[-1, i]))
                bottom.plot(run.times, run.weights[:, i], color=colour, linestyle=line, linewidth=1.0)
        top.plot([0.5, -0.5], [0.0, 0.0], "k+", markersize=9)
        top.set_title(f"$d={d}$, $\\Delta={apart:.4g}$", fontsize="medium")
        top.set_xlabel(r"$\mu_{i,1}/\Delta$")
        bottom.set_xlabel("time (steps times step size)")
        bottom.set_xscale("symlog", linthresh=0.1)
        bottom.set_ylim(-0.03, 1.03)

    def to_xarray(self) -> Dataset:
        """Return the data over run, record and student; NaN where there is none."""
        import xarray

        shape = len(self.runs), max((len(run.times) for run in self.runs), default=0)
        students = max((run.n for run in self.runs), default=0)
        fields = {name: np.full(shape, np.nan) for name in ("time", "loss", "loss_error")}
        places = {name: np.full((*shape, students), np.nan) for name in ("weight", "along", "across")}
        for row, run in enumerate(self.runs):
            for name, values in zip(fields, (run.times, run.loss, run.loss_error), strict=True):
                fields[name][row, :len(values)] = values
            for name, values in zip(places, (run.weights, run.along, run.across), strict=True):
                places[name][row, :len(values), :run.n] = values
        data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
        data |= {name: (("run", "record", "student"), values) for name, values in places.items()}
        data |= {name: ("run", [getattr(run, name) for run in self.runs])
                 for name in ("d", "n", "separation", "method", "active", "status")}
        return xarray.Dataset(data, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run."""
        lines = [f"{self.name}: " + ", ".join(f"{key}={value}" for key, value in self.settings.items()), "",
                 f"{'d':>8} {'Delta':>8} {'Delta/sqrt d':>12} {'n':>3}  {'method':<11}{'active':>6}  {'weight at +, -':<16}"
                 f"{'loss at the end':>22}  heaviest at (x_1, |rest|)"]
        for run in self.runs:
            top = int(run.weights[-1].argmax())
            loss = "-" if np.isnan(run.loss[-1]) else f"{run.loss[-1]:.4g} +- {run.loss_error[-1]:.1g}"
            lines.append(f"{run.d:8d} {run.separation:8.5g} {run.separation / math.sqrt(run.d):12.3g} {run.n:3d}  {run.method:<11}"
                         f"{run.active:6d}  {'{:.3f}, {:.3f}'.format(*run.shares):<16}{loss:>22}  "
                         f"({run.along[-1, top]:.4g}, {run.across[-1, top]:.3g})")
            if run.status != "completed":
                lines.append(f"  {run.status}: {run.message}")
            elif run.message and run.n == 2:
                lines.append(f"  {run.message}")
        lines += ["", f"active: weight of at least {ACTIVE:g}. Weights at +, -: of the students on the side of each true mean (0.3, 0.7).",
                  f"Two students, one of each component, end as one if Delta/sqrt d < {math.sqrt(collapse_constant()):.3f} (large d)."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _checked(d: Any, n: Any, step_size: Any, steps: Any, batch_size: Any, far_d: Any, far_n: Any, far_steps: Any, far_batch_size: Any,
             far_batch_steps: Any, points: Any, seed: Any, records: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"d": check_several(d, "d", "a whole number not below 2", lambda one: check_integer(one, "d", minimum=2)),
            "n": check_integer(n, "n", minimum=2), "step_size": check_positive(step_size, "step_size"), "steps": check_steps(steps),
            "batch_size": check_integer(batch_size, "batch_size", minimum=1), "far_d": check_integer(far_d, "far_d", minimum=2),
            "far_n": check_integer(far_n, "far_n", minimum=2), "far_steps": check_steps(far_steps),
            "far_batch_size": check_integer(far_batch_size, "far_batch_size", minimum=1),
            "far_batch_steps": check_steps(far_batch_steps), "points": check_integer(points, "points", minimum=32),
            "seed": check_integer(seed, "seed", minimum=0), "records": check_integer(records, "records", minimum=2)}


def _tasks(settings: dict[str, Any], progress: bool | None) -> list[tuple[str, Callable[[], Run]]]:
    """All runs, each with its name."""
    eta, seed, record = settings["step_size"], settings["seed"], log_spaced(settings["records"])
    far = settings["far_d"]
    problems = [(d, NEAR, settings["n"], settings["steps"], settings["batch_size"], settings["steps"]) for d in settings["d"]]
    problems += [(far, apart, settings["far_n"], settings["far_steps"], settings["far_batch_size"], settings["far_batch_steps"])
                 for apart in (far**0.45, 10 * far**0.5)]
    tasks: list[tuple[str, Callable[[], Run]]] = []
    for d, apart, n, steps, batch, batch_steps in problems:
        rule = Sobol(settings["points"], rng=0)
        tasks.append((f"d={d}, Delta={apart:.4g}, population",
                      lambda d=d, apart=apart, n=n, k=steps, rule=rule: population(d, apart, n, rule, eta, k, seed, record, progress)))
        if batch_steps:
            tasks.append((f"d={d}, Delta={apart:.4g}, minibatch",
                          lambda d=d, apart=apart, n=n, b=batch, k=batch_steps: by_batches(d, apart, n, b, eta, k, seed, record)))
    return tasks


@register(NAME, check=_checked, result=SeparationResult)
def separation(d: Any = (10, 500), n: int = 10, step_size: float = 0.05, steps: int = 2000, batch_size: int = 128, far_d: int = 1_000_000,
               far_n: int = 2, far_steps: int = 200, far_batch_size: int = 16, far_batch_steps: int = 40, points: int = 512, seed: int = 0,
               records: int = 30, progress: bool | None = None) -> SeparationResult:
    r"""Hybrid EM on two components: one student takes all where they are nearer than about √d, both are found where they are farther.

    Target: weights 0.3 and 0.7 at :math:`\pm\frac\Delta2e_1`; students start at draws from it, with equal weights. First part: n students,
    :math:`\Delta=6`, dimensions `d`. Second part: `far_n` students in dimension `far_d`, :math:`\Delta=d^{0.45}` and
    :math:`10\sqrt d`. Each problem is run with the population's expectation, taken in the span of true means and start (rank n + 1) by
    scrambled Sobol points, and on fresh batches in the whole space beside it. A minute or two.

    Parameters
    ----------
    d : int or sequence of int
        Dimensions of the first part.
    n : int
        Students of the first part.
    step_size : float
        :math:`\eta`.
    steps : int
        Steps of the first part.
    batch_size : int
        Draws a step of the first part's batches.
    far_d, far_n : int
        Dimension and students of the second part.
    far_steps, far_batch_size, far_batch_steps : int
        Of the second part: steps, draws a step, and steps on batches; 0 leaves batches out.
    points : int
        Sobol points for each component.
    seed : int
        Of starts and batches.
    records : int
        Records of each run, evenly spaced in the logarithm of the step.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SeparationResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    The paper's batches are of 8192 and its second part has 500 steps; its theorems are about at least three components, these experiments
    have two. With seed 0 the two students of the second part are drawn from different components: two from the same one cannot find both.
    In :math:`d=10^6` the smaller distance is :math:`0.501\sqrt d`, close to the constant 0.550 below which two students end as one. The
    shares that batches of 16 see in the first twenty steps are 0.3 ± 0.03, and the constant moves with them: on batches such a run may
    end either way.

    References
    ----------
    Zhang, Xu, Fazel, Zhou, Du 2026, experiments [published: target, n, step size, distances, dimensions]; that the population is seen
    without batches, and the constant of :func:`~overparam.experiments.zhang2026.separation_runs.collapse_constant` [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2026.separation", d=500, n=2, steps=40, batch_size=16, far_d=1000, far_steps=40, points=64)
    >>> [run.active for run in result.of("population")]
    [1, 2, 2]
    """
    settings = _checked(d, n, step_size, steps, batch_size, far_d, far_n, far_steps, far_batch_size, far_batch_steps, points, seed, records,
                        progress)
    runs: list[Run] = []
    where = "before any run"
    try:
        for name, work in _tasks(settings, progress):
            where = f"in the run {name}"
            runs.append(work())
            if runs[-1].status == "interrupted":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(where) from None
        return SeparationResult(NAME, settings, tuple(runs), where)
    return SeparationResult(NAME, settings, tuple(runs))
