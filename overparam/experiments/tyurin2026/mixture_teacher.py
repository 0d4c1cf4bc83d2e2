"""The reverse Fisher divergence of a mixture of three far modes: students go to the nearest mode, and a mode without any is hardly seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import distances, init, plotting
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_descent
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.modes import nearest, polygon
from overparam.experiments.registry import register
from overparam.experiments.running import RunsResult, one_by_one
from overparam.experiments.settings import check_several
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["MixtureTeacherResult", "Run", "mixture_teacher"]

NAME = "tyurin2026.mixture_teacher"
MODES = 3
DISTANCE_TOL = 1e-4  # absolute, of the total variation
LEAST = 12.0  # separation: nearer modes are another regime
WITHOUT = "one mode without"


@dataclass(frozen=True, eq=False)
class Run:
    """One descent.

    Attributes
    ----------
    start : str
        "seed 0" and so on, or "one mode without".
    trajectory : Trajectory
    assigned : (T, n) integer array
        The nearest mode of each parameter at the records.
    farthest : (T,) array
        Largest distance of a parameter from its nearest mode.
    total_variation, total_variation_error : (T,) array
        Of student and teacher, with its bound.
    """

    start: str
    trajectory: Trajectory
    assigned: np.ndarray
    farthest: np.ndarray
    total_variation: np.ndarray
    total_variation_error: np.ndarray

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of parameters of each mode at the end."""
        return tuple(np.bincount(self.assigned[-1], minlength=MODES).tolist())

    @property
    def students(self) -> str:
        """The same in words: "3/5/0"."""
        return "/".join(map(str, self.counts))

    @property
    def kept(self) -> bool:
        """Whether every parameter is at the end in the mode that was nearest at the start."""
        return bool((self.assigned[-1] == self.assigned[0]).all())

    @property
    def law(self) -> np.ndarray:
        r"""(T,) what F should be late, with no fitted constant; NaN at t = 0.

        A mode with c of the n parameters is a problem of its own in which each has the weight 1/c and time goes by c/n as fast: it gives
        :math:`\frac cn\,r\,n^2/(64t^2)`, :math:`t=\gamma k`, r = min(2, c - 1) directions. A mode without parameters gives nothing.
        """
        n = self.trajectory.n
        directions = sum(count / n * min(2, count - 1) for count in self.counts if count)
        return directions * n**2 / (64 * np.where(self.trajectory.times > 0, self.trajectory.times, np.nan) ** 2)

    @property
    def least(self) -> float:
        """Total variation of these counts from equal weights, were every parameter at its mode and the modes infinitely far apart."""
        counts = np.array(self.counts)
        return float(np.abs(counts / counts.sum() - 1 / MODES).sum()) / 2


@dataclass(frozen=True, eq=False)
class MixtureTeacherResult(RunsResult):
    """Result of :func:`mixture_teacher`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Seed by seed, last the start that leaves a mode without a parameter; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def run(self, start: str) -> Run:
        """The run from `start`."""
        for run in self.runs:
            if run.start == start:
                found: Run = run
                return found
        raise ValueError(f"there is no run from {start!r}; there are: {', '.join(run.start for run in self.runs)}")

    def figure(self) -> Figure:
        """Return the picture: the paths in the plane, and loss and total variation against steps."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.2, 3.7), layout="constrained")
        plane, left, right = figure.subplots(1, 3)
        for number, run in enumerate(self.runs):
            colour, steps = plotting.COLOURS[number % len(plotting.COLOURS)], np.asarray(run.trajectory.steps)
            paths = np.array([run.trajectory.params[record] for record in range(len(run.trajectory))])
            plane.plot(paths[:, :, 0], paths[:, :, 1], color=colour, linewidth=0.8)
            plane.plot(*paths[0].T, "o", color=colour, markersize=3)
            later, style = steps > 0, {"color": colour, "linestyle": "-." if run.start == WITHOUT else "-", "linewidth": 1.6}
            left.plot(steps[later], run.trajectory.loss[later], **style)
            left.plot(steps[later], np.where(run.farthest < 1.0, run.law, np.nan)[later], "k--", linewidth=0.8)
            right.plot(steps[later], run.total_variation[later], label=f"{run.start}: {run.students} students", **style)
            right.axhline(run.least, color=colour, linestyle=":", linewidth=0.8)
        means = polygon(MODES, self.settings["separation"]).means
        plane.plot(*means.T, "k+", markersize=10, label="mode")
        plane.plot([], [], "o", color="0.4", markersize=3, label="start of a student")
        plane.set_aspect("equal")
        plane.set_xlabel("$x_1$")
        plane.set_ylabel("$x_2$")
        left.plot([], [], "k--", linewidth=0.8, label="late law, no fit")
        left.set_yscale("log")
        left.set_ylabel("reverse Fisher divergence $F$")
        right.plot([], [], ":", color="0.4", linewidth=0.8, label="these counts, every student at its mode")
        right.set_ylabel("total variation")
        right.set_ylim(0.0, 1.03)
        known = [pair for ax in (right, left, plane) for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
        figure.legend(*zip(*known, strict=True), frameon=False, fontsize="small", loc="outside lower center", ncols=4)
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_xlabel("steps $k$")
        plotting.finish((plane, left, right))
        return figure

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN, and -1 of what is whole, behind the last record of a run."""
        import xarray

        shape = len(self.runs), max((len(run.trajectory) for run in self.runs), default=0)
        names = ("step", "loss", "loss_error", "law", "total_variation", "total_variation_error", "farthest")
        fields = {name: np.full(shape, np.nan) for name in names}
        assigned, params = np.full((*shape, self.settings["n"]), -1), np.full((*shape, self.settings["n"], 2), np.nan)
        for row, run in enumerate(self.runs):
            traj, end = run.trajectory, len(run.trajectory)
            measured = (traj.steps, traj.loss, traj.loss_error, run.law, run.total_variation, run.total_variation_error, run.farthest)
            for name, values in zip(names, measured, strict=True):
                fields[name][row, :end] = values
            assigned[row, :end] = run.assigned
            params[row, :end] = [traj.params[record] for record in range(end)]
        data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
        data["mode"] = (("run", "record", "parameter"), assigned)
        data["params"] = (("run", "record", "parameter", "axis"), params)
        data["status"] = ("run", [run.trajectory.status for run in self.runs])
        return xarray.Dataset(data, coords={"run": [run.start for run in self.runs]}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run."""
        lines = [self.heading, "",
                 f"{'start':<18}{'students':<10}{'nearest kept':<14}{'farthest':>8}  {'F at the end':>12}  {'/ law':>6}  "
                 f"{'total variation':>16}  of the counts"]
        for run in self.runs:
            tv = f"{run.total_variation[-1]:.4f} +- {run.total_variation_error[-1]:.0e}"
            lawful = run.law[-1] > 0 and run.trajectory.status == "completed"
            ratio = "-" if not lawful else format(run.trajectory.loss[-1] / run.law[-1], ".4f")
            lines.append(f"{run.start:<18}{run.students:<10}{'yes' if run.kept else 'no':<14}{run.farthest[-1]:8.4f}  "
                         f"{run.trajectory.loss[-1]:12.3e}  {ratio:>6}  {tv:>16}  {run.least:13.4f}")
            if run.trajectory.status != "completed":
                lines.append(f"  {run.trajectory.status}: {run.trajectory.message}")
        lines += ["", "students: their numbers at the three modes. nearest kept: whether each ends at the mode it started nearest to.",
                  "farthest: largest distance of a student from its mode. / law: (n^2/(64 t^2)) sum (c/n) min(2, c - 1) over modes with c",
                  "students, t = step size * step (no fit). Total variation with its bound, and what it is with every student at its mode:",
                  "sum |c/n - 1/3| / 2.", *self._blind()]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)

    def _blind(self) -> list[str]:
        """The runs that end far from the teacher in total variation although F has fallen to a millionth."""
        found = [run for run in self.runs if run.trajectory.status == "completed" and run.total_variation[-1] > 0.05
                 and run.trajectory.loss[-1] < 1e-6 * run.trajectory.loss[0]]
        return [f"F does not see it: from {run.start} it fell by {run.trajectory.loss[-1] / run.trajectory.loss[0]:.1e} and the total "
                f"variation is {run.total_variation[-1]:.3f} still." for run in found]


def _without(teacher: GaussianMixture, settings: dict[str, Any]) -> np.ndarray:
    """3/8 of the parameters around the first mode, the rest around the second one, none around the third."""
    first = max(1, round(3 * settings["n"] / 8))
    modes = np.repeat([0, 1], [first, settings["n"] - first])
    found: np.ndarray = teacher.means[modes] + np.random.default_rng(settings["seeds"][0]).standard_normal((settings["n"], 2))
    return found


def _checked(n: Any, separation: Any, radius: Any, steps: Any, step_size: Any, seeds: Any, tol: Any, records: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    settings = {"n": check_integer(n, "n", minimum=2), "separation": check_real(separation, "separation", minimum=LEAST),
                "radius": check_positive(radius, "radius"), "steps": check_steps(steps),
                "step_size": None if step_size is None else check_positive(step_size, "step_size"),
                "seeds": check_several(seeds, "seeds", "a whole number not below 0", lambda seed: check_integer(seed, "seeds", minimum=0)),
                "tol": Auto(tol=tol).tol, "records": check_integer(records, "records", minimum=2)}
    least = settings["separation"] / np.sqrt(3)
    if settings["radius"] < least:
        raise ValueError(f"radius must be at least the modes' distance from the origin, {least:.6g}; got {radius!r}")
    return settings


def _run(start: str, params: np.ndarray, teacher: GaussianMixture, settings: dict[str, Any], progress: bool | None) -> Run:
    step_size = settings["n"] / 4 if settings["step_size"] is None else settings["step_size"]
    traj = gradient_descent(ReverseFisher(teacher, rule=Auto(tol=settings["tol"])), params, step_size=step_size, steps=settings["steps"],
                            record=log_spaced(settings["records"]), progress=progress)
    found = [traj.params[record] for record in range(len(traj))]
    assigned = np.array([nearest(one, teacher.means) for one in found])
    farthest = [np.linalg.norm(one - teacher.means[mode], axis=1).max() for one, mode in zip(found, assigned, strict=True)]
    apart = [distances.total_variation(teacher, one, tol=DISTANCE_TOL) for one in found]
    return Run(start, traj, assigned, np.array(farthest), np.array([one.value for one in apart]), np.array([one.error for one in apart]))


@register(NAME, check=_checked, result=MixtureTeacherResult)
def mixture_teacher(n: int = 8, separation: float = 12.0, radius: float = 30.0, steps: int = 400, step_size: float | None = None,
                    seeds: Any = (0, 1), tol: float = 1e-6, records: int = 30, progress: bool | None = None) -> MixtureTeacherResult:
    r"""Reverse Fisher descent on three far modes: each parameter goes to the mode it started nearest to; a mode without one is not missed.

    The teacher has three modes of equal weight in the plane. Parameters start at :math:`R_0\eta_i/\|\eta_i\|`; one more run starts with 3/8
    of them around the first mode, the rest around the second and none around the third: F falls to about nothing, while the total variation
    stays where the counts leave it. About half a minute.

    Parameters
    ----------
    n : int
        Number of parameters, of equal weight.
    separation : float
        Distance of every two modes, at least 12.
    radius : float
        :math:`R_0`, at least the modes' distance from the origin.
    steps : int
        Number of steps.
    step_size : float, optional
        n/4 by default: a lone parameter's distance to its mode is halved by a step.
    seeds : int or sequence of int
        Of the random directions, a run each.
    tol : float
        Relative tolerance of loss and gradient rows.
    records : int
        Records of each run, evenly spaced in the logarithm of the step.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    MixtureTeacherResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Tyurin 2026, arXiv 2606.19876, Theorem E.1 [published: start and assignment]; modes, sizes and the blindness to weights [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("tyurin2026.mixture_teacher", n=2, steps=20, seeds=0, tol=1e-4, records=4)
    >>> result.run("seed 0").kept, result.run("one mode without").counts
    (True, (1, 1, 0))
    """
    settings = _checked(n, separation, radius, steps, step_size, seeds, tol, records, progress)
    teacher = polygon(MODES, settings["separation"])
    starts = {f"seed {seed}": init.on_sphere(settings["n"], settings["radius"], 2, rng=seed) for seed in settings["seeds"]}
    starts[WITHOUT] = _without(teacher, settings)
    runs, where = one_by_one(lambda start: _run(start, starts[start], teacher, settings, progress),
                             [(f"in the run from {start}", (start,)) for start in starts])
    return MixtureTeacherResult(NAME, settings, runs, stopped=where)
