"""The forward and the reverse Fisher divergence from the same bad starts: one keeps a single parameter, the other brings all home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.result import ExperimentResult
from overparam.objectives import ReverseFisher, ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["ForwardVsReverseResult", "Run", "forward_vs_reverse"]

NAME = "tyurin2026.forward_vs_reverse"
CLOSE = 0.3  # distance of the one that is near
LOSSES: dict[str, type[Objective]] = {"forward": ScoreMatching, "reverse": ReverseFisher}


@dataclass(frozen=True, eq=False)
class Run:
    """One flow.

    Attributes
    ----------
    start : str
        A key of ``STARTS``.
    loss : str
        A key of ``LOSSES``.
    trajectory : Trajectory
    regime : Regime
    """

    start: str
    loss: str
    trajectory: Trajectory
    regime: regimes.Regime

    @property
    def name(self) -> str:
        """Start and loss in words."""
        return f"{self.start}, {self.loss}"

    @property
    def farthest(self) -> np.ndarray:
        """(T,) distance of the farthest parameter from the target at the records."""
        return regimes.distances(self.trajectory).max(axis=1)

    @property
    def spread(self) -> np.ndarray:
        """(T,) largest deviation from the parameters' mean at the records."""
        return np.array([np.linalg.norm(_centred(state), axis=1).max() for state in self.trajectory.states])

    def time_to(self, threshold: float) -> float:
        """Flow time of the first record from which the loss stays below `threshold`; infinite if it is not below at the end."""
        return _from_when_below(self.trajectory.times, self.trajectory.loss, threshold)

    def time_home(self, distance: float) -> float:
        """As :meth:`time_to`, for the farthest parameter to be within `distance` of the target."""
        return _from_when_below(self.trajectory.times, self.farthest, distance)


def _centred(state: Any) -> np.ndarray:
    """Deviations from the mean, without the rounding of the centre that `params` has."""
    return (state.deviations - state.deviations.mean(axis=0)) * np.exp(state.log_scale)


def _from_when_below(times: np.ndarray, values: np.ndarray, threshold: float) -> float:
    above = np.flatnonzero(~(values < threshold))
    if not above.size:
        return float(times[0])
    return float("inf") if above[-1] == len(values) - 1 else float(times[above[-1] + 1])


@dataclass(frozen=True, eq=False)
class ForwardVsReverseResult(ExperimentResult):
    """Result of :func:`forward_vs_reverse`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Start by start, both losses each; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    runs: tuple[Run, ...]
    stopped: str = ""

    @property
    def reached(self) -> str:
        """Where Ctrl-C cut the experiment short, in words; empty if it ran to its end."""
        return self.stopped

    def finished(self) -> ForwardVsReverseResult | None:
        """Return the result without the run that Ctrl-C cut short; None if no run came to its end."""
        whole = tuple(run for run in self.runs if run.trajectory.status != "interrupted")
        return replace(self, runs=whole) if whole else None

    def run(self, start: str, loss: str) -> Run:
        """The run from `start` on `loss`."""
        for run in self.runs:
            if (run.start, run.loss) == (start, loss):
                return run
        raise ValueError(f"there is no run {start!r} on {loss!r}; there are: {'; '.join(run.name for run in self.runs)}")

    def figure(self) -> Figure:
        """Return the picture: for each start the distances under both losses above the losses themselves."""
        from matplotlib.figure import Figure

        starts = list(dict.fromkeys(run.start for run in self.runs))
        figure = Figure(figsize=(2.9 * max(len(starts), 1) + 0.4, 4.8), layout="constrained")
        axes = figure.subplots(2, max(len(starts), 1), squeeze=False, sharex=True, sharey="row")
        for column, start in enumerate(starts):
            top, bottom = axes[:, column]
            for run in self.runs:
                if run.start != start:
                    continue
                colour = plotting.COLOURS[list(LOSSES).index(run.loss)]
                times = run.trajectory.times
                later, label = times > 0, f"{run.loss}: $k={'?' if run.regime.k is None else run.regime.k}$"
                top.plot(times[later], regimes.distances(run.trajectory)[later], color=colour, linewidth=1.0)
                bottom.plot(times[later], run.trajectory.loss[later], color=colour, linewidth=1.6, label=label)
            bottom.axhline(self.settings["threshold"], color="0.5", linestyle=":", linewidth=1)
            top.set_title(start, fontsize="medium")
            top.set_yscale("log")
            bottom.set_xlabel("flow time $t$")
            bottom.set_xscale("log")
            bottom.set_yscale("log")
            bottom.legend(frameon=False, fontsize="small", loc="lower left", handlelength=1.4)
        axes[0, 0].set_ylabel(r"distance $\|\mu_i-\mu^*\|$")
        axes[1, 0].set_ylabel("the loss descended")
        for letter, ax in zip("abcdefgh", axes.ravel()):
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        return figure

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN behind the last record of a run."""
        import xarray

        longest = max((len(run.trajectory) for run in self.runs), default=0)
        fields = {name: np.full((len(self.runs), longest), np.nan) for name in ("time", "loss", "loss_error", "spread")}
        norms = np.full((len(self.runs), longest, self.settings["n"]), np.nan)
        for row, run in enumerate(self.runs):
            traj = run.trajectory
            for name, values in zip(fields, (traj.times, traj.loss, traj.loss_error, run.spread), strict=True):
                fields[name][row, :len(traj)] = values
            norms[row, :len(traj)] = regimes.distances(traj)
        data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
        facts = {"start": [run.start for run in self.runs], "objective": [run.loss for run in self.runs],
                 "status": [run.trajectory.status for run in self.runs],
                 "converged": [np.nan if run.regime.k is None else run.regime.k for run in self.runs],
                 "time_to_threshold": [run.time_to(self.settings["threshold"]) for run in self.runs],
                 "time_home": [run.time_home(self.settings["home"]) for run in self.runs]}
        data |= {"norm": (("run", "record", "parameter"), norms)} | {name: ("run", values) for name, values in facts.items()}
        return xarray.Dataset(data, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run."""
        threshold, home = self.settings["threshold"], self.settings["home"]
        lines = [f"{self.name}: " + ", ".join(f"{key}={value}" for key, value in self.settings.items()), "",
                 f"{'start':<22}{'loss':<9}{'k':>3} of {self.settings['n']}  {'farthest':>9}  {'largest spread':>14}  {'its loss':>10}  "
                 f"time to loss < {threshold:g}  all within {home:g}"]
        for run in self.runs:
            traj = run.trajectory
            k = "?" if run.regime.k is None else str(run.regime.k)
            times = ["never" if np.isinf(time) else format(time, ".4g") for time in (run.time_to(threshold), run.time_home(home))]
            lines.append(f"{run.start:<22}{run.loss:<9}{k:>3}     {run.farthest[-1]:>11.4g}  {run.spread.max():14.4g}  "
                         f"{traj.loss[-1]:10.3e}  {times[0]:>{15 + len(format(threshold, 'g'))}}  {times[1]:>10}")
            if traj.status != "completed":
                lines.append(f"  {traj.status}: {traj.message}")
        lines += ["", "k: parameters that converge. Each loss is the one that was descended: the forward one is near 0 with all but one of",
                  "the parameters far, so that the distance of the farthest is what compares them."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _cluster(settings: dict[str, Any]) -> np.ndarray:
    centre = np.zeros(settings["d"])
    centre[0] = settings["M"]
    return init.cluster(settings["n"], center=centre, scale=settings["scale"], rng=settings["seed"])


def _one_near(settings: dict[str, Any]) -> np.ndarray:
    params = _sphere(settings)
    params[0] *= CLOSE / settings["M"]
    return params


def _sphere(settings: dict[str, Any]) -> np.ndarray:
    return init.on_sphere(settings["n"], settings["M"], settings["d"], rng=settings["seed"])


#: What the flows start from.
STARTS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "tight cluster": _cluster, "one near, others far": _one_near, "random directions": _sphere}


def _checked(n: Any, d: Any, M: Any, scale: Any, t_end: Any, threshold: Any, home: Any, seed: Any, tol: Any, rtol: Any, records: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"n": check_integer(n, "n", minimum=2), "d": check_integer(d, "d", minimum=1), "M": check_positive(M, "M"),
            "scale": check_positive(scale, "scale"), "t_end": check_positive(t_end, "t_end"),
            "threshold": check_positive(threshold, "threshold"), "home": check_positive(home, "home"),
            "seed": check_integer(seed, "seed", minimum=0), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2), "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=ForwardVsReverseResult)
def forward_vs_reverse(n: int = 3, d: int = 2, M: float = 6.0, scale: float = 1e-7, t_end: float = 1e6, threshold: float = 1e-4,
                       home: float = 0.1, seed: int = 0, tol: float = 1e-7, rtol: float = 1e-6, records: int = 120,
                       progress: bool | None = None) -> ForwardVsReverseResult:
    r"""The same bad starts under both Fisher divergences: one parameter converges in the forward one, all of them in the reverse one.

    Gradient flow from three starts: a cluster at :math:`Me_1` of spread `scale`; random directions at distance M with the first moved to
    0.3 from the target; random directions, all at M. Forward is score matching, the expectation under the teacher; reverse takes it under
    the student. A tight cluster that is far comes home under the reverse one as :math:`e^{-2t/n}`, and its spread never grows.

    Parameters
    ----------
    n, d : int
        Number of parameters, dimension.
    M : float
        Distance of the starts from the target.
    scale : float
        Spread of the tight cluster.
    t_end : float
        Flow time to end at.
    threshold : float
        Loss whose time is asked for.
    home : float
        Distance of the farthest parameter whose time is asked for.
    seed : int
        Of the draws.
    tol, rtol : float
        Relative tolerances of loss and gradient, and of the integrator.
    records : int
        Records of each run, evenly spaced in log t.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    ForwardVsReverseResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.4 and 3.5 [published: one converges]; Tyurin 2026, arXiv 2606.19876 [published: descent of
    the reverse divergence converges from every start]. The starts of this picture are the library's own.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("tyurin2026.forward_vs_reverse", d=1, records=60)
    >>> [result.run("one near, others far", loss).regime.k for loss in ("forward", "reverse")]
    [1, 3]
    """
    settings = _checked(n, d, M, scale, t_end, threshold, home, seed, tol, rtol, records, progress)
    rule, teacher = Auto(tol=settings["tol"]), Gaussian(np.zeros(settings["d"]))
    runs: list[Run] = []
    where = "before any run"
    try:
        for start, make in STARTS.items():
            for loss, kind in LOSSES.items():
                where = f"in the run {start}, {loss}"
                traj = gradient_flow(kind(teacher, rule=rule), make(settings), t_end=settings["t_end"], rtol=settings["rtol"],
                                     record=log_spaced(settings["records"]), progress=progress)
                runs.append(Run(start, loss, traj, regimes.classify(traj)))
                if traj.status == "interrupted":
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(where) from None
        return ForwardVsReverseResult(NAME, settings, tuple(runs), where)
    return ForwardVsReverseResult(NAME, settings, tuple(runs))
