"""The figure of Xu et al. 2024, without sampling noise: loss and parametric distance of gradient EM, and the effect of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting, rates, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import em
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import RunsResult, one_by_one
from overparam.experiments.settings import check_numbers, check_several
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.xu2024 import laws
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

    from overparam.rates import PowerLaw

__all__ = ["Figure1Result", "Run", "figure_1"]

NAME = "xu2024.figure_1"
PAPER = "arXiv 2407.00490"


@dataclass(frozen=True, eq=False)
class Run:
    """Gradient EM with one n and one set of weights.

    Attributes
    ----------
    n : int
    weights_name : str
        "equal", or the concentration that the weights were drawn with.
    weights : (n,) array
    trajectory : Trajectory
    """

    n: int
    weights_name: str
    weights: np.ndarray
    trajectory: Trajectory

    @property
    def equal(self) -> bool:
        """Whether the weights are equal, so that the laws apply."""
        return self.weights_name == "equal"

    @property
    def directions(self) -> int:
        """k = min(d, n - 1)."""
        return min(self.trajectory.d, self.n - 1)

    @property
    def distance(self) -> np.ndarray:
        r"""(T,) parametric distance :math:`\sum_i\pi_i\|\mu_i-\mu^*\|^2`."""
        found: np.ndarray = regimes.distances(self.trajectory) ** 2 @ self.weights
        return found

    @property
    def loss_law(self) -> np.ndarray:
        """(T,) :func:`overparam.theory.xu2024.laws.late_loss`; NaN at t = 0."""
        return laws.late_loss(_later(self.trajectory), self.n, self.directions)

    @property
    def distance_law(self) -> np.ndarray:
        """(T,) :func:`overparam.theory.xu2024.laws.late_distance`; NaN at t = 0."""
        return laws.late_distance(_later(self.trajectory), self.n, self.directions)

    @property
    def loss_slope(self) -> PowerLaw | None:
        """Exponent of the loss over the last decade; None where it holds too few records."""
        return _slope(self.trajectory.times, self.trajectory.loss)

    @property
    def distance_slope(self) -> PowerLaw | None:
        """Exponent of the distance over the last decade."""
        return _slope(self.trajectory.times, self.distance)


def _later(traj: Trajectory) -> np.ndarray:
    return np.where(traj.times > 0, traj.times, np.nan)


def _slope(times: np.ndarray, values: np.ndarray) -> PowerLaw | None:
    try:
        shaped: Any = SimpleNamespace(times=times, loss=values)  # all that is read of a trajectory
        return rates.fit_power_law(shaped)
    except ValueError:  # too few records
        return None


@dataclass(frozen=True, eq=False)
class Figure1Result(RunsResult):
    """Result of :func:`figure_1`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Those with equal weights, then those with drawn ones; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def figure(self) -> Figure:
        """Return the picture: loss and parametric distance against the iteration for every n, and the loss for several weights."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.8, 3.8), layout="constrained")
        loss, distance, weights = axes = figure.subplots(1, 3)
        for run in self.runs:
            if not run.equal:
                continue
            colour = plotting.COLOURS[self.settings["n"].index(run.n) % len(plotting.COLOURS)]
            for ax, values, law in ((loss, run.trajectory.loss, run.loss_law), (distance, run.distance, run.distance_law)):
                _draw(ax, run, values, colour, f"$n={run.n}$")
                late = run.trajectory.times > run.n  # the start is forgotten some times n later
                ax.plot(run.trajectory.steps[late], law[late], "k--", linewidth=0.9)
        n = self.settings["weights_n"]
        for number, run in enumerate(run for run in self.runs if run.n == n):
            own = self.settings["n"].index(n) if run.equal and n in self.settings["n"] else number + 2
            colour = plotting.COLOURS[own % len(plotting.COLOURS)]
            label = "equal" if run.equal else rf"Dirichlet({run.weights_name}), $\min\pi={run.weights.min():.2g}$"
            _draw(weights, run, run.trajectory.loss, colour, label)
            if run.equal:
                late = run.trajectory.times > run.n
                weights.plot(run.trajectory.steps[late], run.loss_law[late], "k--", linewidth=0.9)
        loss.plot([], [], "k--", linewidth=0.9, label=r"$kn^2/(16\,\eta^2\tau^2)$")
        distance.plot([], [], "k--", linewidth=0.9, label=r"$kn/(2\,\eta\tau)$")
        steps = np.geomspace(1, max(self.settings["steps"], 1), 50)
        for ax in (loss, weights):
            ax.plot(steps, max(run.trajectory.loss[0] for run in self.runs) / np.sqrt(steps), ":", color="0.5", linewidth=1.2,
                    label=r"slope of the published rate $\tau^{-1/2}$" if ax is loss else None)
        loss.set_title("loss, equal weights", fontsize="medium")
        distance.set_title("parametric distance, equal weights", fontsize="medium")
        loss.set_ylabel("KL divergence")
        distance.set_ylabel(r"$\Sigma_i\,\pi_i\,\|\mu_i-\mu^*\|^2$")
        weights.set_ylabel("KL divergence")
        weights.set_title(f"loss for several weights, $n={n}$", fontsize="medium")
        for ax in axes:
            ax.set_xlabel(r"iteration $\tau$")
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.legend(frameon=False, fontsize="small", handlelength=1.6, loc="lower left")
        plotting.finish(axes)
        return figure

    def to_xarray(self) -> Dataset:
        """Return the data over run and step; NaN where a run ended early."""
        import xarray

        longest = max((run.trajectory for run in self.runs), key=len, default=None)
        steps = np.zeros(0, dtype=np.int64) if longest is None else longest.steps
        names = ("loss", "loss_error", "distance", "loss_law", "distance_law")
        fields = {name: np.full((len(self.runs), steps.size), np.nan) for name in names}
        weights = np.full((len(self.runs), max((run.n for run in self.runs), default=0)), np.nan)
        for row, run in enumerate(self.runs):
            values = (run.trajectory.loss, run.trajectory.loss_error, run.distance, run.loss_law, run.distance_law)
            for name, series in zip(names, values, strict=True):
                if run.equal or not name.endswith("law"):
                    fields[name][row, np.isin(steps, run.trajectory.steps)] = series[np.isin(run.trajectory.steps, steps)]
            weights[row, :run.n] = run.weights
        data: dict[str, Any] = {name: (("run", "step"), values) for name, values in fields.items()}
        data |= {"n": ("run", [run.n for run in self.runs]), "weights_name": ("run", [run.weights_name for run in self.runs]),
                 "status": ("run", [run.trajectory.status for run in self.runs]), "weights": (("run", "parameter"), weights)}
        for name in ("loss_slope", "distance_slope"):
            found = [getattr(run, name) for run in self.runs]
            data[name] = "run", [np.nan if one is None else one.exponent for one in found]
        return xarray.Dataset(data, coords={"step": steps}, attrs={**self.attributes(), "paper": PAPER})

    def summary(self) -> str:
        """Return a table with a row for each run."""
        lines = [self.heading, "",
                 f"{'n':>3}  {'weights':<14} {'min pi':>8}  {'last loss':>10}  {'slope':>8}  {'loss/law':>8}  "
                 f"{'distance':>10}  {'slope':>8}  {'dist./law':>9}"]
        for run in self.runs:
            traj, slopes = run.trajectory, [f"{'-' if one is None else format(one.exponent, '.4f'):>8}"
                                            for one in (run.loss_slope, run.distance_slope)]
            ratios = [f"{'-':>8}", f"{'-':>9}"]
            if run.equal and traj.times[-1] > 0:
                ratios = [f"{traj.loss[-1] / run.loss_law[-1]:8.5f}", f"{run.distance[-1] / run.distance_law[-1]:9.5f}"]
            name = run.weights_name if run.equal else f"Dirichlet({run.weights_name})"
            lines.append(f"{run.n:3d}  {name:<14} {run.weights.min():8.2g}  {traj.loss[-1]:10.4g}  {slopes[0]}  {ratios[0]}  "
                         f"{run.distance[-1]:10.4g}  {slopes[1]}  {ratios[1]}")
            if traj.status != "completed":
                lines.append(f"  {traj.status}: {traj.message}")
        lines += ["", "last loss: KL; distance: sum pi_i |mu_i - mu*|^2; slope: exponent of the iteration over the last decade.",
                  "laws for equal weights, no fit: k n^2/(16 t^2) and k n/(2 t), k = min(d, n - 1), t = step_size * iteration.",
                  "published: loss <= 1/sqrt(gamma * iteration), a slope of -1/2; what is measured tends to -2, with uneven weights later.",
                  "recalled, not checked against the paper: d = 5, step size 0.7, Dirichlet weights (the start is not known)."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _draw(ax: Axes, run: Run, values: np.ndarray, colour: str, label: str) -> None:
    later = run.trajectory.steps > 0
    ax.plot(run.trajectory.steps[later], values[later], color=colour, linewidth=1.6, label=label)


def _checked(n: Any, weights_n: Any, concentration: Any, d: Any, scale: Any, step_size: Any, steps: Any, seed: Any, tol: Any,
             max_nodes: Any, records: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    drawn = () if isinstance(concentration, tuple | list) and not concentration else check_several(
        concentration, "concentration", "a number not below 0.001, or ()", lambda item: check_real(item, "concentration", minimum=1e-3))
    rule = Auto(tol=tol, max_nodes=max_nodes)
    return {"n": check_numbers(n, "n", 2), "weights_n": check_integer(weights_n, "weights_n", minimum=2), "concentration": drawn,
            "d": check_integer(d, "d", minimum=1), "scale": check_positive(scale, "scale"),
            "step_size": check_positive(step_size, "step_size"), "steps": check_steps(steps),
            "seed": check_integer(seed, "seed", minimum=0), "tol": rule.tol, "max_nodes": rule.max_nodes,
            "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=Figure1Result)
def figure_1(n: int | Sequence[int] = (2, 5, 10), weights_n: int = 5, concentration: float | Sequence[float] = (10.0, 1.0), d: int = 3,
             scale: float = 1.0, step_size: float = 0.7, steps: int = 20_000, seed: int = 0, tol: float = 1e-6, max_nodes: int = 4_000_000,
             records: int = 120, progress: bool | None = None) -> Figure1Result:
    r"""Gradient EM with n = 2, 5, 10 on one Gaussian: loss and distance fall like τ⁻² and τ⁻¹, whatever the weights, only later.

    Three panels: KL loss and parametric distance :math:`\sum_i\pi_i\|\mu_i-\mu^*\|^2` against the iteration for equal weights, and the loss
    for weights drawn from symmetric Dirichlet laws beside equal ones. Parameters start at ``scale`` times standard normal draws; the
    paper's Monte-Carlo gradient is replaced by the exact one. Dashed: :math:`L=kn^2/(16t^2)` and :math:`\mathrm{tr}\,S=kn/(2t)`,
    :math:`k=\min(d,n-1)`, :math:`t=\eta\tau`.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of parameters, at least 2.
    weights_n : int
        Number of parameters in the panel of weights.
    concentration : float or sequence of float
        Of the Dirichlet laws: small ones make uneven weights. ``()`` for equal weights only.
    d : int
        Dimension. The paper's 5 needs min(d, n - 1) axes: ``d=5, tol=1e-3, scale=0.5, max_nodes=20_000_000`` takes minutes.
    scale : float
        Of the start.
    step_size : float
        :math:`\eta`.
    steps : int
        Number of iterations.
    seed : int
        Of start and weights.
    tol, max_nodes : float and int
        As in ``Auto``.
    records : int
        Records of each run, evenly spaced in the logarithm of the iteration.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    Figure1Result

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Xu et al. 2024, arXiv 2407.00490 [published: the three panels and n = 2, 5, 10; recalled: d = 5, step size 0.7, Dirichlet
    weights]; laws [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("xu2024.figure_1", n=2, weights_n=2, concentration=(), d=2, steps=20_000, records=60)
    >>> run = result.runs[0]
    >>> round(run.loss_slope.exponent, 2), round(run.distance_slope.exponent, 2)
    (-2.0, -1.0)
    """
    settings = _checked(n, weights_n, concentration, d, scale, step_size, steps, seed, tol, max_nodes, records, progress)
    equal = dict.fromkeys((*settings["n"], settings["weights_n"]))
    tasks = [(number, "equal", np.full(number, 1 / number)) for number in equal]
    number = settings["weights_n"]
    tasks += [(number, f"{alpha:g}", np.random.default_rng([settings["seed"], 1]).dirichlet(np.full(number, alpha)))
              for alpha in settings["concentration"]]

    def work(number: int, name: str, weights: np.ndarray) -> Run:
        start = settings["scale"] * np.random.default_rng(settings["seed"]).standard_normal((number, settings["d"]))
        objective = KLDivergence(Gaussian(np.zeros(settings["d"])), weights=None if name == "equal" else weights,
                                 rule=Auto(tol=settings["tol"], max_nodes=settings["max_nodes"]))
        return Run(number, name, weights, em(objective, start, steps=settings["steps"], step_size=settings["step_size"],
                                             update_weights=False, record=log_spaced(settings["records"]), progress=progress))

    runs, where = one_by_one(work, [(f"in the run n={task[0]}, weights {task[1]}", task) for task in tasks])
    return Figure1Result(NAME, settings, runs, stopped=where)
