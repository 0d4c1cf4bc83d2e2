"""What rounding decides in Figure 1 of Zhang et al. 2025: of the start, and of the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_descent
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs
from overparam.experiments.zhang2025.phase_boundary_runs import check_distances
from overparam.experiments.zhang2025.rounding_script import MOST_AXES, descend
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Outcome", "RoundingResult", "rounding", "starting_point"]

NAME = "zhang2025.rounding"
#: The starts, and the arithmetics in which a run is made from each.
STARTS: dict[str, tuple[str, ...]] = {
    "drawn": ("exact",),
    "drawn, float64": ("exact", "float64"),
    "drawn, float32": ("exact", "float32"),
    "coincident": ("exact", "float64", "float32"),
    "one ulp in float64": ("exact", "float64"),
    "one ulp in float32": ("exact", "float32"),
}
ARITHMETICS = ("exact", "float64", "float32")
STYLES = {"exact": ("-", 2.4), "float64": ("--", 1.3), "float32": (":", 1.6)}

Key = tuple[float, str, str]


def starting_point(name: str, M: float, n: int, d: int, scale: float, seed: int) -> State:
    r"""Return a start of the experiment, exact as centre :math:`Me_1` and deviations; on the line of :math:`e_1` where it lies there.

    "drawn" is :math:`Me_1+\sigma z_i`; "drawn, float32" what is left of it in float32; "coincident" has all parameters at
    :math:`Me_1`; in "one ulp in float32" the first is nearer to the target than the others by the least that float32 can tell.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.rounding import starting_point
    >>> start = starting_point("one ulp in float64", 6.0, n=5, d=3, scale=1e-7, seed=0)
    >>> start.spread == 2.0**-50
    True
    """
    centre = np.zeros(d)
    centre[0] = M
    small = scale * np.random.default_rng(seed).standard_normal((n, d))
    if name == "drawn":
        return init.around(centre, small)
    if name == "coincident":
        return init.around(centre, np.zeros((n, d)))
    dtype = np.dtype(name.split()[-1]).type
    if name.startswith("drawn"):
        params = (centre + small).astype(dtype)
    else:
        params = np.tile(centre.astype(dtype), (n, 1))
        centre = params[1].astype(np.float64)
        params[0, 0] = np.nextafter(params[0, 0], dtype(0))
    deviations = params.astype(np.float64) - centre
    if deviations[:, 1:].any() or d == 1:
        return init.around(centre, deviations)
    return State(centre[:1], deviations[:, :1], basis=np.eye(d)[:, :1])  # nothing leaves the line


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one run did.

    Attributes
    ----------
    start : State
    trajectory : Trajectory
    regime : Regime
    """

    start: State
    trajectory: Trajectory
    regime: regimes.Regime

    @property
    def norms(self) -> np.ndarray:
        """(n,) distances from the target at the end, ascending."""
        return np.sort(regimes.distances(self.trajectory)[-1])

    @property
    def spread(self) -> float:
        """Extent of the start along its first axis, the one that grows."""
        return float(np.ptp(self.start.true_deviations[:, 0]))


@dataclass(frozen=True, eq=False)
class RoundingResult(StoppableResult):
    """Result of :func:`rounding`.

    Attributes
    ----------
    name : str
    settings : dict
    outcomes : dict
        An :class:`Outcome` for each (M, start, arithmetic); fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    outcomes: dict[Key, Outcome]

    def finished(self) -> RoundingResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.outcomes else None

    def k(self, M: float, start: str, arithmetic: str = "exact") -> int | None:
        """Number of parameters that converge; None if undecided or not reached."""
        outcome = self.outcomes.get((M, start, arithmetic))
        return None if outcome is None else outcome.regime.k

    def decided_by(self, M: float) -> list[str]:
        """What changes how many parameters converge from M, in words."""
        drawn, said = self.k(M, "drawn"), []
        for start, arithmetics in STARTS.items():
            exact = self.k(M, start)
            if exact is not None and drawn is not None and exact != drawn:
                said.append(f"start {start}: k = {exact} instead of {drawn} as drawn")
            for arithmetic in arithmetics[1:]:
                found = self.k(M, start, arithmetic)
                if found is not None and exact is not None and found != exact:
                    said.append(f"{arithmetic} arithmetic from start {start}: k = {found} instead of {exact}")
        return said

    def figure(self) -> Figure:
        """Return the picture: for each M (rows) and start (columns) the distances from the target in each arithmetic."""
        from matplotlib.figure import Figure

        distances = self.settings["M"]
        figure = Figure(figsize=(2.5 * len(STARTS), 2.4 * len(distances)), layout="constrained")
        axes = figure.subplots(len(distances), len(STARTS), squeeze=False, sharex=True, sharey="row")
        for row, M in zip(axes, distances, strict=True):
            for ax, (start, arithmetics) in zip(row, STARTS.items(), strict=True):
                said = []
                for arithmetic in arithmetics:
                    outcome = self.outcomes.get((M, start, arithmetic))
                    if outcome is None:
                        continue
                    steps, norms = outcome.trajectory.steps, regimes.distances(outcome.trajectory)
                    dash, width = STYLES[arithmetic]
                    lines = ax.plot(np.where(steps > 0, steps, np.nan), norms, linestyle=dash, linewidth=width,
                                    color=plotting.COLOURS[ARITHMETICS.index(arithmetic)])
                    k = "?" if outcome.regime.k is None else outcome.regime.k
                    lines[0].set_label(f"{arithmetic}: $k={k}$")
                    said.append(k)
                ax.set_xscale("log")
                ax.set_title(f"$M={M:g}$, {start}", fontsize="small")
                ax.spines[["top", "right"]].set_visible(False)
                ax.tick_params(labelsize="small")
                if said:
                    ax.legend(frameon=False, fontsize="x-small", loc="lower left")
            row[0].set_ylabel(r"distance $\|\mu_i\|$")
        for ax in axes[-1]:
            ax.set_xlabel(r"step $\tau$")
        return figure

    def to_xarray(self) -> Dataset:
        """Return final distances, numbers that converge and verdicts over M, start and arithmetic; NaN where no run was made."""
        import xarray

        distances, names = self.settings["M"], list(STARTS)
        shape = len(distances), len(names), len(ARITHMETICS)
        converged, norms = np.full(shape, np.nan), np.full((*shape, self.settings["n"]), np.nan)
        spread, verdict, status = np.full(shape[:2], np.nan), np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
        for (M, start, arithmetic), outcome in self.outcomes.items():
            at = distances.index(M), names.index(start), ARITHMETICS.index(arithmetic)
            converged[at] = np.nan if outcome.regime.k is None else outcome.regime.k
            norms[at], spread[at[:2]] = outcome.norms, outcome.spread
            verdict[at], status[at] = outcome.regime.name, outcome.trajectory.status
        dims = ("M", "start", "arithmetic")
        data = {"converged": (dims, converged), "norm": ((*dims, "parameter"), norms), "spread": (dims[:2], spread),
                "verdict": (dims, verdict.astype(str)), "status": (dims, status.astype(str))}
        coords = {"M": list(distances), "start": names, "arithmetic": list(ARITHMETICS)}
        return xarray.Dataset(data, coords=coords, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run, and what rounding decides for each M."""
        lines = [f"{'M':>6}  {'start':<21} {'spread along c':>14}  {'arithmetic':<10} {'verdict':<15} norms at the end"]
        for (M, start, arithmetic), outcome in self.outcomes.items():
            norms = " ".join(f"{value:.3g}" for value in outcome.norms)
            note = "" if outcome.trajectory.status == "completed" else f"  ({outcome.trajectory.status})"
            lines.append(f"{M:6g}  {start:<21} {outcome.spread:14.3g}  {arithmetic:<10} {outcome.regime.name:<15} {norms}{note}")
        for M in self.settings["M"]:
            said = self.decided_by(M)
            lines.append(f"M = {M:g}: " + ("; ".join(said) if said else "rounding changes nothing in how many parameters converge"))
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the runs that were finished")
        return "\n".join(lines)


def _checked(M: Any, n: Any, d: Any, scale: Any, step_size: Any, steps: Any, seed: Any, tol: Any, records: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    settings: dict[str, Any] = {"M": check_distances(M), "n": check_integer(n, "n", minimum=2, maximum=1000),
                                "d": check_integer(d, "d", minimum=1, maximum=MOST_AXES),
                                "scale": check_real(scale, "scale", minimum=0.0), "step_size": check_positive(step_size, "step_size"),
                                "steps": check_steps(steps), "seed": check_integer(seed, "seed", minimum=0), "tol": Auto(tol=tol).tol,
                                "records": check_integer(records, "records", minimum=1, maximum=10**6)}
    if settings["scale"] > 1e-3:
        raise ValueError(f"scale must not be above 1e-3: a script's rule serves means that differ along one axis; got {scale!r}")
    return settings


def _outcome(key: Key, settings: dict[str, Any]) -> Outcome:
    M, name, arithmetic = key
    start = starting_point(name, M, *(settings[word] for word in ("n", "d", "scale", "seed")))
    objective = ScoreMatching(Gaussian(np.zeros(settings["d"])), rule=Auto(tol=settings["tol"]))
    step_size, steps, records = (settings[word] for word in ("step_size", "steps", "records"))
    if arithmetic == "exact":
        traj = gradient_descent(objective, start, step_size=step_size, steps=steps, record=log_spaced(records), progress=False)
        if traj.status == "interrupted":
            raise KeyboardInterrupt
    else:
        traj = descend(objective, start.params, getattr(np, arithmetic), step_size, steps, records)
    return Outcome(start, traj, regimes.classify(traj))


@register(NAME, check=_checked, result=RoundingResult)
def rounding(M: float | Sequence[float] = (4.0, 6.0), n: int = 5, d: int = 3, scale: float = 1e-7, step_size: float = 0.01,
             steps: int = 20_000, seed: int = 0, tol: float = 1e-10, records: int = 200, n_jobs: int | None = None,
             progress: bool | None = None) -> RoundingResult:
    r"""Figure 1 started from rounded, exact and as a script: what does rounding decide?

    Differences along the way to the target grow by :math:`e^{M^2}`, those of rounding too: one ulp at distance M can part the
    regimes. From each start (see ``starting_point``) the exact dynamics, and NumPy scripts that step absolute parameters in float64
    or float32 with a fixed rule. About a minute: a script takes two seconds, an exact run a fraction of one.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the cluster from the target.
    n, d : int
        Number of parameters, dimension (8 at most).
    scale : float
        :math:`\sigma`, at most 1e-3.
    step_size : float
        :math:`\eta`.
    steps : int
        Number of steps.
    seed : int
        Seed of the :math:`z_i`, those of ``zhang2025.figure_1``.
    tol : float
        Relative tolerance of loss and gradient rows of the exact runs.
    records : int
        Number of records, evenly spaced in the logarithm of the step.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    RoundingResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Figure 1 [published: the setting]; the role of rounding [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.rounding", M=1.0, n=2, d=1, steps=400, step_size=0.05, tol=1e-6, records=20)
    >>> result.k(1.0, "coincident"), result.decided_by(1.0)
    (2, [])
    """
    settings = _checked(M, n, d, scale, step_size, steps, seed, tol, records, n_jobs, progress)
    keys = [(distance, start, arithmetic) for distance in settings["M"] for start, run_in in STARTS.items() for arithmetic in run_in]
    outcomes, where = gather(_outcome, [(key, settings) for key in keys], n_jobs, progress, "runs")
    return RoundingResult(NAME, settings, dict(zip(keys, outcomes, strict=False)), stopped=where)
