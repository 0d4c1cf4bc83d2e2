"""Score matching and gradient EM from the same starts: one keeps a single parameter where the other brings all of them home."""

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
from overparam.objectives import KLDivergence, ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Run", "ScoreMatchingVsEMResult", "score_matching_vs_em"]

NAME = "zhang2025.score_matching_vs_em"
CLOSE = 0.3  # distance of the one that is near


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
    divergence : (T,) array
        KL divergence of the student from the teacher at the records, whatever the flow descends: one yardstick for both.
    """

    start: str
    loss: str
    trajectory: Trajectory
    regime: regimes.Regime
    divergence: np.ndarray

    @property
    def name(self) -> str:
        """Start and loss in words."""
        return f"{self.start}, {self.loss}"

    def time_to(self, threshold: float) -> float:
        """Flow time of the first record from which the divergence stays below `threshold`; infinite if it is not below at the end."""
        above = np.flatnonzero(~(self.divergence < threshold))
        if not above.size:
            return float(self.trajectory.times[0])
        return float("inf") if above[-1] == len(self.divergence) - 1 else float(self.trajectory.times[above[-1] + 1])


@dataclass(frozen=True, eq=False)
class ScoreMatchingVsEMResult(ExperimentResult):
    """Result of :func:`score_matching_vs_em`.

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

    def finished(self) -> ScoreMatchingVsEMResult | None:
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
        """Return the picture: for each start the distances under both losses above the divergence of both students."""
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
                bottom.plot(times[later], run.divergence[later], color=colour, linewidth=1.6, label=label)
            bottom.axhline(self.settings["threshold"], color="0.5", linestyle=":", linewidth=1)
            top.set_title(start, fontsize="medium")
            bottom.set_xlabel("flow time $t$")
            bottom.set_xscale("log")
            bottom.set_yscale("log")
            bottom.legend(frameon=False, fontsize="small", loc="lower left", handlelength=1.4)
        axes[0, 0].set_ylabel(r"distance $\|\mu_i-\mu^*\|$")
        axes[1, 0].set_ylabel("KL divergence of the student")
        for letter, ax in zip("abcdefgh", axes.ravel()):
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        return figure

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN behind the last record of a run."""
        import xarray

        longest = max((len(run.trajectory) for run in self.runs), default=0)
        fields = {name: np.full((len(self.runs), longest), np.nan) for name in ("time", "loss", "loss_error", "divergence")}
        norms = np.full((len(self.runs), longest, self.settings["n"]), np.nan)
        for row, run in enumerate(self.runs):
            traj = run.trajectory
            for name, values in zip(fields, (traj.times, traj.loss, traj.loss_error, run.divergence), strict=True):
                fields[name][row, :len(traj)] = values
            norms[row, :len(traj)] = regimes.distances(traj)
        data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
        facts = {"start": [run.start for run in self.runs], "objective": [run.loss for run in self.runs],
                 "status": [run.trajectory.status for run in self.runs],
                 "converged": [np.nan if run.regime.k is None else run.regime.k for run in self.runs],
                 "time_to_threshold": [run.time_to(self.settings["threshold"]) for run in self.runs]}
        data |= {"norm": (("run", "record", "parameter"), norms)} | {name: ("run", values) for name, values in facts.items()}
        return xarray.Dataset(data, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run."""
        threshold = self.settings["threshold"]
        lines = [f"{self.name}: " + ", ".join(f"{key}={value}" for key, value in self.settings.items()), "",
                 f"{'start':<22}{'loss':<16}{'k':>3} of {self.settings['n']}  {'farthest':>9}  {'its loss':>10}  {'KL at the end':>13}  "
                 f"time to KL < {threshold:g}"]
        for run in self.runs:
            traj, reached = run.trajectory, run.time_to(threshold)
            k = "?" if run.regime.k is None else str(run.regime.k)
            lines.append(f"{run.start:<22}{run.loss:<16}{k:>3}     {regimes.distances(traj)[-1].max():>11.4g}  {traj.loss[-1]:10.3e}  "
                         f"{run.divergence[-1]:13.4e}  {'never' if np.isinf(reached) else format(reached, '.4g')}")
            if traj.status != "completed":
                lines.append(f"  {traj.status}: {traj.message}")
        lines += ["", "k: parameters that converge. KL of the student from the teacher, whichever loss is descended; with one of n at",
                  f"the target and the others far it is ln n = {np.log(self.settings['n']):.4f}; score matching's own loss is near 0."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _centre(settings: dict[str, Any]) -> np.ndarray:
    centre = np.zeros(settings["d"])
    centre[0] = settings["M"]
    return centre


def _cluster(settings: dict[str, Any]) -> np.ndarray:
    return init.cluster(settings["n"], center=_centre(settings), scale=settings["scale"], rng=settings["seed"])


def _one_near(settings: dict[str, Any]) -> np.ndarray:
    params = init.on_sphere(settings["n"], settings["M"], settings["d"], rng=settings["seed"])
    params[0] *= CLOSE / settings["M"]
    return params


def _sphere(settings: dict[str, Any]) -> np.ndarray:
    return init.on_sphere(settings["n"], settings["M"], settings["d"], rng=settings["seed"])


def _gaussian(settings: dict[str, Any]) -> np.ndarray:
    return init.gaussian(settings["n"], mean=_centre(settings), rng=settings["seed"])


#: What the flows start from.
STARTS: dict[str, Callable[[dict[str, Any]], np.ndarray]] = {
    "tight cluster": _cluster, "one near, others far": _one_near, "random directions": _sphere, "Gaussian at M": _gaussian}
LOSSES: dict[str, type[Objective]] = {"score matching": ScoreMatching, "gradient EM": KLDivergence}


def _checked(n: Any, d: Any, M: Any, scale: Any, t_end: Any, threshold: Any, seed: Any, tol: Any, rtol: Any, records: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"n": check_integer(n, "n", minimum=2), "d": check_integer(d, "d", minimum=1), "M": check_positive(M, "M"),
            "scale": check_positive(scale, "scale"), "t_end": check_positive(t_end, "t_end"),
            "threshold": check_positive(threshold, "threshold"), "seed": check_integer(seed, "seed", minimum=0), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2), "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=ScoreMatchingVsEMResult)
def score_matching_vs_em(n: int = 5, d: int = 2, M: float = 6.0, scale: float = 1e-7, t_end: float = 1e6, threshold: float = 1e-3,
                         seed: int = 0, tol: float = 1e-7, rtol: float = 1e-6, records: int = 120,
                         progress: bool | None = None) -> ScoreMatchingVsEMResult:
    r"""The same starts under both losses: one of n parameters converges in score matching, all of them in gradient EM.

    Gradient flow from four starts: a cluster at :math:`Me_1` of spread `scale`; random directions at distance M with the first
    moved to 0.3 from the target; random directions, all at M; standard normal draws around :math:`Me_1`. Both students are
    measured by their KL divergence from the teacher.

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
        KL divergence whose time is asked for.
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
    ScoreMatchingVsEMResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.5 and Corollary 3.6 [published: one converges]; Xu et al. 2024, arXiv 2407.00490 [published:
    gradient EM converges from every start].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.score_matching_vs_em", n=3, d=1, records=60)
    >>> [result.run("tight cluster", loss).regime.k for loss in ("score matching", "gradient EM")]
    [1, 3]
    """
    settings = _checked(n, d, M, scale, t_end, threshold, seed, tol, rtol, records, progress)
    rule = Auto(tol=settings["tol"])
    teacher = Gaussian(np.zeros(settings["d"]))
    yardstick = KLDivergence(teacher, rule=rule)
    runs: list[Run] = []
    where = "before any run"
    try:
        for start, make in STARTS.items():
            for loss, kind in LOSSES.items():
                where = f"in the run {start}, {loss}"
                traj = gradient_flow(kind(teacher, rule=rule), make(settings), t_end=settings["t_end"], rtol=settings["rtol"],
                                     record=log_spaced(settings["records"]), progress=progress)
                if kind is KLDivergence:
                    divergence = np.array(traj.loss)
                else:
                    divergence = np.array([yardstick.estimate(traj.states[record]).value for record in range(len(traj))])
                runs.append(Run(start, loss, traj, regimes.classify(traj), divergence))
                if traj.status == "interrupted":
                    raise KeyboardInterrupt
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(where) from None
        return ScoreMatchingVsEMResult(NAME, settings, tuple(runs), where)
    return ScoreMatchingVsEMResult(NAME, settings, tuple(runs))
