"""Descent, heavy ball, Nesterov, Adam and preconditioning from the same starts: how many converge, how fast, and where the border lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting, rates, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs
from overparam.experiments.zhang2025.optimizers_growth import GROWTHS
from overparam.experiments.zhang2025.optimizers_runs import METHODS, cluster_run, holds_at, late_run
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, bisect, check_distances
from overparam.planning import Auto
from overparam.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["OptimizerRun", "OptimizersResult", "optimizers"]

NAME = "zhang2025.optimizers"
_FARTHEST = 8.0  # where Adam's border is at 3e-14: absolute parameters are rounded by 1e-15 there
_BORDER = (1.0, 3.0)  # ln eps plus growth between which borders are looked for first
_KAPPA = {2: 3.11, 3: 2.73, 5: 2.55, 10: 2.50}  # of gradient flow, n equispaced parameters (zhang2025.phase_boundary)


@dataclass(frozen=True, eq=False)
class OptimizerRun:
    """A run from the cluster, its verdict, and the exponent of its loss over the last decade of steps.

    Attributes
    ----------
    method : str
    M : float
    trajectory : Trajectory
    regime : Regime
    rate : PowerLaw or None
        None where the run ended early or the loss is 0.
    """

    method: str
    M: float
    trajectory: Trajectory
    regime: regimes.Regime
    rate: rates.PowerLaw | None


@dataclass(frozen=True, eq=False)
class OptimizersResult(StoppableResult):
    r"""Result of :func:`optimizers`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : dict
        An :class:`OptimizerRun` for each (method, M); fewer if Ctrl-C came in between.
    borders : dict
        For each (method, M) a :class:`~overparam.experiments.zhang2025.phase_boundary_runs.Bracket` of :math:`\ln\varepsilon^*+G`, G
        the growth under the method: at ``low`` all parameters converge, at ``high`` fewer do.
    late : dict
        For each method an :class:`OptimizerRun` that begins around the target, on a line, where all converge.
    stopped : str
    """

    runs: dict[tuple[str, float], OptimizerRun]
    borders: dict[tuple[str, float], Bracket] = field(default_factory=dict)
    late: dict[str, OptimizerRun] = field(default_factory=dict)

    def finished(self) -> OptimizersResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.runs else None

    def growth(self, method: str, M: float) -> float:
        """Logarithm of the growth of small deviations under a method, from its linearised iteration."""
        return GROWTHS[method](M, self.settings)

    def constant(self, method: str) -> float:
        r"""The last :math:`64Lt^2/n^2` around the target: 1 for gradient flow.

        t is the sum of step sizes; divided by weights, which are about 1/n, they count n times as much.
        """
        run = self.late[method].trajectory
        t = run.times[-1] * (self.settings["n"] if method == "preconditioned" else 1)
        return float(64 * run.loss[-1] * t**2 / self.settings["n"] ** 2)

    def figure(self) -> Figure:
        """Return the picture: losses from the nearest and the farthest cluster, and the borders beside the growth."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.0, 3.7), layout="constrained")
        axes = figure.subplots(1, 3)
        for ax, M in zip(axes, (self.settings["M"][0], self.settings["M"][-1]), strict=False):
            self._draw_losses(ax, M)
        self._draw_borders(axes[2])
        handles: dict[str, Any] = {}
        for ax in axes:
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True) if label not in handles}
        figure.legend(list(handles.values()), list(handles), loc="outside right center", frameon=False, fontsize="small")
        plotting.finish(axes)
        return figure

    def _draw_losses(self, ax: Axes, M: float) -> None:
        for number, method in enumerate(METHODS):
            run = self.runs.get((method, M))
            if run is not None:
                steps, loss = run.trajectory.steps[1:], run.trajectory.loss[1:]
                ax.loglog(steps[loss > 0], loss[loss > 0], color=plotting.COLOURS[number % len(plotting.COLOURS)], linewidth=1.3,
                          linestyle="--" if method == "preconditioned" else "-", label=method)
        ax.set_title(f"$M={M:g}$, spread {self.settings['scale']:g}", fontsize="medium")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")

    def _draw_borders(self, ax: Axes) -> None:
        M, kappa = np.linspace(self.settings["M"][0], self.settings["M"][-1], 30), _KAPPA.get(self.settings["n"])
        for number, method in enumerate(METHODS):
            if method not in GROWTHS:
                continue
            colour = plotting.COLOURS[number % len(plotting.COLOURS)]
            if kappa is not None:
                ax.plot(M, [kappa - self.growth(method, m) for m in M], color=colour, linewidth=1.0, linestyle=":")
            borders = {m: point for (name, m), point in self.borders.items() if name == method and point.found}
            known = {m: point.middle - self.growth(method, m) for m, point in borders.items()}
            ax.plot(list(known), list(known.values()), "o", color=colour, markersize=5)
        ax.plot([], [], "o", color="0.4", label="border, measured")
        if kappa is not None:
            ax.plot([], [], ":", color="0.4", label=rf"${kappa:.2f}-G$ (no fit)")
            ax.plot(M, -(M**2) + kappa, color="black", linewidth=0.8, linestyle="--", label=rf"gradient flow, ${kappa:.2f}-M^2$")
        ax.axhline(np.log(self.settings["scale"]), color="0.7", linewidth=0.8, label=f"spread {self.settings['scale']:g}")
        ax.set_xlabel("distance $M$ of the start")
        ax.set_ylabel(r"border $\ln\varepsilon^*$")

    def to_xarray(self) -> Dataset:
        """Return k, the late exponent, the last loss and the borders over method and M; NaN where there is none."""
        import xarray

        M, shape = self.settings["M"], (len(METHODS), len(self.settings["M"]))
        k, exponent, loss, low, high, grown = np.full((6, *shape), np.nan)
        for place in np.ndindex(*shape):
            key = METHODS[place[0]], M[place[1]]
            if key in self.runs:
                run = self.runs[key]
                k[place] = np.nan if run.regime.k is None else run.regime.k
                exponent[place] = np.nan if run.rate is None else run.rate.exponent
                loss[place] = run.trajectory.loss[-1]
            if key in self.borders:
                grown[place] = self.growth(*key)
                low[place], high[place] = self.borders[key].low - grown[place], self.borders[key].high - grown[place]
        over = ("optimizer", "M")
        late = np.full((2, len(METHODS)), np.nan)
        for number, method in enumerate(METHODS):
            if method in self.late:
                rate = self.late[method].rate
                late[:, number] = np.nan if rate is None else rate.exponent, self.constant(method)
        data = {"late_exponent": ("optimizer", late[0]), "late_constant": ("optimizer", late[1]), "converged": (over, k),
                "exponent": (over, exponent), "final_loss": (over, loss), "log_growth": (over, grown),
                "border_low": (over, low), "border_high": (over, high)}
        return xarray.Dataset(data, coords={"optimizer": list(METHODS), "M": list(M)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return k and late exponents from the cluster, and the borders beside the growth under each method."""
        s = self.settings
        rows = [["method", *(f"M = {M:g}" for M in s["M"])],
                *([method, *(self._said(self.runs.get((method, M))) for M in s["M"])] for method in METHODS)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"n = {s['n']}, d = {s['d']}, spread {s['scale']:g}, {s['steps']} steps: k converge, loss ~ step^p over the last decade, "
                 "last loss (no p for Adam, whose loss has spikes)"]
        lines += ["  ".join(f"{one:<{width}}" for one, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if self.late:
            lines.append("around the target, where all converge: p over the last decade, and 64 L t^2/n^2 (gradient flow: -2 and 1), t the "
                         "sum of step sizes, n times that where rows are divided by weights; Adam has neither")
        for method, run in self.late.items():
            rate = "none" if run.rate is None else f"{run.rate.exponent:.3f}"
            rate, constant = ("-", "-") if method == "Adam" else (rate, f"{self.constant(method):.4g}")
            lines.append(f"  {method:<16} p = {rate}, 64 L t^2/n^2 = {constant}, loss {run.trajectory.loss[-1]:.1e}")
        if self.borders:
            lines.append("all converge up to ln eps = -G + b, equispaced on a line; G from the method's iteration, linear in deviations:")
        for (method, M), point in self.borders.items():
            G = self.growth(method, M)
            lines.append(f"  {method:<11} M = {M:g}: G = {G:7.3f} (M^2 = {M * M:g}), ln eps* = [{point.low - G:.3f}, "
                         f"{point.high - G:.3f}], b = [{point.low:.3f}, {point.high:.3f}]  {point.message}".rstrip())
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the parts that were finished")
        return "\n".join(lines)

    @staticmethod
    def _said(run: OptimizerRun | None) -> str:
        if run is None:
            return ""
        rate = "" if run.rate is None or run.method == "Adam" else f", p = {run.rate.exponent:.2f}"
        k = "open" if run.regime.k is None else str(run.regime.k)
        early = "" if run.trajectory.status == "completed" else f" ({run.trajectory.status})"
        return f"k = {k}{rate}, {run.trajectory.loss[-1]:.0e}{early}"


def _checked(M: Any, n: Any, d: Any, scale: Any, step_size: Any, momentum: Any, adam_step_size: Any, weight_spread: Any, steps: Any,
             resolution: Any, seed: Any, tol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    distances = check_distances(M)
    if max(distances) > _FARTHEST:
        raise ValueError(f"M must not be above {_FARTHEST:g}: beyond, Adam's absolute parameters do not resolve its border; got {M!r}")
    return {"M": tuple(sorted(distances)), "n": check_integer(n, "n", minimum=2), "d": check_integer(d, "d", minimum=1),
            "scale": check_positive(scale, "scale"), "step_size": check_positive(step_size, "step_size"),
            "momentum": check_real(momentum, "momentum", minimum=0.0, maximum=0.999),
            "adam_step_size": check_positive(adam_step_size, "adam_step_size"),
            "weight_spread": check_real(weight_spread, "weight_spread", minimum=0.0, maximum=0.3), "steps": check_steps(steps),
            "resolution": check_real(resolution, "resolution", minimum=1e-3, maximum=2.0), "seed": check_integer(seed, "seed"),
            "tol": Auto(tol=tol).tol}


@register(NAME, check=_checked, result=OptimizersResult)
def optimizers(M: float | Sequence[float] = (4.0, 5.0, 6.0, 8.0), n: int = 5, d: int = 3, scale: float = 1e-7, step_size: float = 0.01,
               momentum: float = 0.9, adam_step_size: float = 0.01, weight_spread: float = 0.01, steps: int = 10_000,
               resolution: float = 0.2, seed: int = 0, tol: float = 1e-8, n_jobs: int | None = None,
               progress: bool | None = None) -> OptimizersResult:
    r"""Which optimizer converges from the paper's clusters: the growth of small deviations under its own iteration says it.

    First part: the same cluster for descent, heavy ball, Nesterov and Adam; and, with weights
    :math:`\pi_i=\frac1n(1+\rho z_i)`, descent ("unequal weights") and descent divided by the weights ("preconditioned", with the step size
    :math:`\eta/n`, which equal weights make descent again). k, and the exponent of the loss over the last decade of steps. The same methods
    from places around the target show the late rate: a small cluster has to spread out again before it gets there.

    Second part, in one dimension from :math:`\mu_i=M+\varepsilon z_i`, z equispaced: the border :math:`\ln\varepsilon^*` up to which all
    converge, beside :math:`-G+\kappa`, G the growth under the optimizer's iteration linear in the deviations. Inertia and Adam's scaling
    make it much smaller than :math:`M^2` at usual step sizes, so that clusters converge which descent tears apart. About a minute.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the cluster from the target, at most 8.
    n, d : int
        Numbers of parameters and, in the first part, of dimensions.
    scale : float
        Standard deviation of the first part's cluster.
    step_size : float
        :math:`\eta` of descent and of both kinds of momentum.
    momentum : float
        :math:`\beta`.
    adam_step_size : float
    weight_spread : float
        :math:`\rho`; z is normal, of mean 0 and root mean square 1.
    steps : int
        Of each run of the first part.
    resolution : float
        Width of the intervals of borders.
    seed : int
        Of cluster and weights.
    tol : float
        Relative tolerance of each gradient row.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    OptimizersResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, experiments: clusters at M = 4 and 6, n = 5, d = 3, spread 1e-7, descent with step size 0.01
    [published]; growth and border under the others [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.optimizers", M=2.0, n=3, d=1, steps=1000, resolution=1.0)
    >>> result.runs["heavy ball", 2.0].regime.name
    'all converge'
    """
    settings = _checked(M, n, d, scale, step_size, momentum, adam_step_size, weight_spread, steps, resolution, seed, tol, n_jobs, progress)
    tasks = [("run", method, distance, settings) for distance in settings["M"] for method in METHODS]
    tasks += [("late", method, 0.0, settings) for method in METHODS]
    tasks += [("border", method, distance, settings) for method in GROWTHS for distance in settings["M"]]
    found, where = gather(_part, tasks, n_jobs, progress, "parts")
    parts: dict[str, dict[tuple[str, float], Any]] = {"run": {}, "late": {}, "border": {}}
    for (kind, method, distance, _), part in zip(tasks, found, strict=False):
        parts[kind][method, distance] = part
    late = {method: part for (method, _), part in parts["late"].items()}
    return OptimizersResult(NAME, settings, parts["run"], parts["border"], late, stopped=where)


def _part(kind: str, method: str, M: float, settings: dict[str, Any]) -> OptimizerRun | Bracket:
    """One run from the cluster, one around the target, or one border."""
    if kind == "border":
        G = GROWTHS[method](M, settings)
        return bisect(lambda b: holds_at(method, M, b - G, settings), *_BORDER, settings["resolution"], reach=6.0)
    traj = late_run(method, settings) if kind == "late" else cluster_run(method, M, settings)
    if traj.status == "interrupted":
        raise KeyboardInterrupt
    try:
        rate = rates.fit_power_law(traj) if traj.status == "completed" else None
    except ValueError:  # a loss of 0 all along
        rate = None
    return OptimizerRun(method, M, traj, regimes.classify(traj), rate)
