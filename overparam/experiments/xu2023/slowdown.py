"""One neuron against several: exponential convergence and the slow law of the cube, over random starts, n and d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, rates
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers
from overparam.objectives import ReLUNeuron
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Slowdown", "SlowdownResult", "slowdown"]

NAME = "xu2023.slowdown"
QUANTILES = (0.1, 0.5, 0.9)
DECADE = 10  # records
MOST = 300_000  # gradients of a flow: with ten neurons some 20 000 do, and one that misses how stiff it is never ends
FLOOR = 1e-20  # of |v|^2: below, the loss of one neuron is what the integrator leaves


@dataclass(frozen=True, eq=False)
class Slowdown:
    r"""One flow.

    Attributes
    ----------
    n, d, seed : int
    times, loss, loss_error : (T,) arrays
    exponent : float
        Of the loss over the last decade; NaN without three records that have one.
    ratio : float
        Longest over shortest neuron at the end.
    message : str
        Empty, or how the run ended.
    """

    n: int
    d: int
    seed: int
    times: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    loss_error: np.ndarray = field(repr=False)
    exponent: float
    ratio: float
    message: str = ""


@dataclass(frozen=True, eq=False)
class SlowdownResult(StoppableResult):
    """Result of :func:`slowdown`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Slowdown
        n by n, then d by d, then seed by seed; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    runs: tuple[Slowdown, ...]

    def finished(self) -> SlowdownResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.runs else None

    def of(self, n: int, d: int) -> list[Slowdown]:
        """The whole runs with n neurons in d dimensions."""
        return [run for run in self.runs if (run.n, run.d) == (n, d) and not run.message]

    def quantiles(self, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
        """Times (T,) and the 10 %, 50 % and 90 % quantiles (3, T) of the loss over the starts."""
        runs = self.of(n, d)
        return (runs[0].times, np.quantile([run.loss for run in runs], QUANTILES, axis=0)) if runs else (np.zeros(0), np.zeros((3, 0)))

    def figure(self) -> Figure:
        """Return the picture: the loss over time for each n, its local slope, and L t^3 at the end against n for each d."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.4, 3.5), layout="constrained")
        loss, slope, last_panel = axes = figure.subplots(1, 3)
        d = self.settings["d"][-1]
        for number, n in enumerate(self.settings["n"]):
            times, (low, middle, high) = self.quantiles(n, d)
            self._draw_loss(loss, slope, times, low, middle, high, plotting.COLOURS[number % len(plotting.COLOURS)], f"$n={n}$")
        last = np.geomspace(30.0, self.settings["t_end"], 20) if self.settings["t_end"] > 30 else np.zeros(0)
        if 2 in self.settings["n"]:
            loss.plot(last, math.pi**2 / 6 * last**-3.0, "k--", linewidth=0.9, label=r"$\frac{\pi^2}{6}t^{-3}$, two of one length")
        if 1 in self.settings["n"]:
            early = np.linspace(2.0, 70.0, 100)
            loss.plot(early, 0.5 * np.exp(-early), "k:", linewidth=1.1, label=r"slope of $e^{-t}$")
        ends = [run.loss[-1] for run in self.runs if run.n > 1 and not run.message]
        loss.set_ylim(bottom=min([FLOOR, *(end / 10 for end in ends)]))
        loss.set_ylabel(r"loss $L$ ($\|v\|=1$)")
        slope.axhline(-3, color="0.6", linewidth=0.8)
        slope.set_ylim(-4.0, 0.2)
        slope.set_ylabel(r"local slope $d\ln L/d\ln t$")
        for ax in (loss, slope):
            ax.set_xscale("log")
            ax.set_xlim(0.1, self.settings["t_end"])
            ax.set_xlabel("flow time $t$")
            ax.set_title(f"$d={d}$, {self.settings['starts']} starts", fontsize="medium")
        loss.set_yscale("log")
        loss.legend(frameon=False, fontsize="small", handlelength=1.6, loc="lower left")
        self._draw_ends(last_panel)
        plotting.finish(axes)
        return figure

    @staticmethod
    def _draw_loss(loss: Axes, slope: Axes, times: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray, colour: str,
                   label: str) -> None:
        below = np.flatnonzero(middle < FLOOR) if label == "$n=1$" else np.zeros(0, dtype=int)
        seen = (times > 0) & (np.arange(times.size) < (below[0] if below.size else times.size))
        if not seen.any():
            return
        loss.plot(times[seen], middle[seen], color=colour, linewidth=1.5, label=label)
        loss.fill_between(times[seen], low[seen], high[seen], color=colour, alpha=0.2, linewidth=0)
        if seen.sum() > 2:
            slope.plot(times[seen], np.gradient(np.log(middle[seen]), np.log(times[seen])), color=colour, linewidth=1.5, label=label)

    def _draw_ends(self, ax: Axes) -> None:
        several = [n for n in self.settings["n"] if n > 1]
        for number, d in enumerate(self.settings["d"]):
            known = [(n, np.quantile([self._cubed(run) for run in self.of(n, d)], QUANTILES)) for n in several if self.of(n, d)]
            if known:
                n, (low, middle, high) = np.array([n for n, _ in known]), np.array([found for _, found in known]).T
                place = n * 1.04 ** (number - (len(self.settings["d"]) - 1) / 2)  # so that equal values do not hide each other
                ax.errorbar(place, middle, yerr=[middle - low, high - middle], fmt="o-", markersize=4, linewidth=0.9, capsize=2,
                            color=plotting.COLOURS[number % len(plotting.COLOURS)], label=f"$d={d}$")
        ax.axhline(math.pi**2 / 6, color="0.6", linewidth=0.8)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(several, [str(n) for n in several])
        ax.minorticks_off()
        ax.set_xlabel("number of neurons $n$")
        ax.set_ylabel(r"$L\,t^3$ at the end")
        ax.set_title(rf"$t={_power(self.settings['t_end'])}$; line: $\pi^2/6$", fontsize="medium")
        if ax.get_legend_handles_labels()[1]:
            ax.legend(frameon=False, fontsize="small")

    @staticmethod
    def _cubed(run: Slowdown) -> float:
        return float(run.loss[-1] * run.times[-1] ** 3)

    def to_xarray(self) -> Dataset:
        """Return loss and bound over run and time, and what is known of each run; NaN where a run ended early."""
        import xarray

        times = max((run.times for run in self.runs), key=len, default=np.zeros(0))
        loss, error = (np.full((len(self.runs), times.size), np.nan) for _ in range(2))
        for row, run in enumerate(self.runs):
            loss[row, :run.loss.size], error[row, :run.loss.size] = run.loss, run.loss_error
        data: dict[str, Any] = {"loss": (("run", "time"), loss), "loss_error": (("run", "time"), error)}
        for name in ("n", "d", "seed", "exponent", "ratio", "message"):
            data[name] = "run", [getattr(run, name) for run in self.runs]
        return xarray.Dataset(data, coords={"time": times}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each n and d."""
        lines = [self.heading, "", f"{'n':>3} {'d':>5} {'runs':>5}   {'last loss, median':>17}   {'exponent, 10 50 90 %':>26}   "
                                   f"{'L t^3 at the end, 10 50 90 %':>31}   {'longest/shortest':>16}"]
        for n in self.settings["n"]:
            for d in self.settings["d"]:
                runs = self.of(n, d)
                if not runs:
                    continue
                start = f"{n:3d} {d:5d} {len(runs):5d}   {np.median([run.loss[-1] for run in runs]):17.3g}   "
                if n == 1:
                    below = [run.times[np.argmax(run.loss < 1e-16)] if (run.loss < 1e-16).any() else np.inf for run in runs]
                    lines.append(f"{start}exponential: L < 1e-16 from flow time {np.median(below):.3g} on (median)")
                    continue
                exponents = np.quantile([run.exponent for run in runs], QUANTILES)
                cubes = np.quantile([self._cubed(run) for run in runs], QUANTILES)
                lines.append(f"{start}{' '.join(f'{x:8.4f}' for x in exponents)}   {' '.join(f'{x:10.4g}' for x in cubes)}   "
                             f"{np.median([run.ratio for run in runs]):16.3g}")
        lines += [f"  n={run.n}, d={run.d}, seed {run.seed}: {run.message}" for run in self.runs if run.message]
        lines += ["", "exponent: of the loss over the last decade. Published: L = O(T^-3), and no faster for n >= 2.",
                  f"law of two neurons of one length: L t^3 -> pi^2/6 = {math.pi**2 / 6:.4f}."]
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the runs that were finished")
        return "\n".join(lines)


def _power(value: float) -> str:
    exponent = math.log10(value)
    return f"10^{{{round(exponent)}}}" if abs(exponent - round(exponent)) < 1e-9 else f"{value:g}"


def _checked(n: Any, d: Any, starts: Any, scale: Any, t_end: Any, seed: Any, rtol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    return {"n": check_numbers(n, "n", 1), "d": check_numbers(d, "d", 2), "starts": check_integer(starts, "starts", minimum=1),
            "scale": check_positive(scale, "scale"), "t_end": check_real(t_end, "t_end", minimum=10.0, maximum=1e9),
            "seed": check_integer(seed, "seed", minimum=0), "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


def _run(n: int, d: int, number: int, settings: dict[str, Any]) -> Slowdown:
    start = init.gaussian(n, np.zeros(d), scale=settings["scale"], rng=np.random.default_rng([settings["seed"], n, d, number]))
    decades = math.log10(settings["t_end"]) + 2
    run = gradient_flow(ReLUNeuron(np.eye(d)[0]), start, t_end=settings["t_end"], rtol=settings["rtol"],
                        max_evaluations=MOST, record=log_spaced(math.ceil(DECADE * decades)), progress=False)
    try:
        exponent = rates.fit_power_law(run).exponent if n > 1 else math.nan
    except ValueError:
        exponent = math.nan
    lengths = np.linalg.norm(run.states[-1].coordinates, axis=1)
    return Slowdown(n, d, number, run.times, run.loss, run.loss_error, exponent, float(lengths.max() / lengths.min()),
                    "" if run.status == "completed" else f"{run.status}: {run.message}")


@register(NAME, check=_checked, result=SlowdownResult)
def slowdown(n: int | Sequence[int] = (1, 2, 3, 5, 10), d: int | Sequence[int] = (5, 20, 100), starts: int = 10, scale: float = 0.01,
             t_end: float = 1e6, seed: int = 0, rtol: float = 1e-9, n_jobs: int | None = None,
             progress: bool | None = None) -> SlowdownResult:
    r"""One ReLU neuron learned by one converges exponentially, by two or more only like t⁻³, whatever n and d.

    Gradient flow on the population loss from :math:`w_i\sim N(0,\sigma^2I)`, :math:`v=e_1`. Three panels: the loss for each n in the
    last of the dimensions, median and 10 % to 90 % of the starts; its local slope; :math:`Lt^3` at the end against n, for each d. Dotted:
    :math:`e^{-t}`; dashed: the sharp law of two neurons of one length. About half a minute.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of neurons.
    d : int or sequence of int
        Dimensions, 2 at least.
    starts : int
        Random starts for each n and d.
    scale : float
        :math:`\sigma`.
    t_end : float
        Flow time, 10 to 1e9.
    seed : int
        Of all starts.
    rtol : float
        Relative tolerance of the integrator. Late the loss is of third order in the angles, and what the integrator leaves in
        :math:`\sum w_i-v` goes into it by its square: 1e-9 serves to 1e6 for ten neurons.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SlowdownResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Xu and Du, arXiv 2302.10034 [published: exponential against T^-3; recalled: the picture]; law of two [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("xu2023.slowdown", n=2, d=5, starts=1, t_end=1e5)
    >>> round(result.runs[0].exponent, 2)
    -3.0
    """
    settings = _checked(n, d, starts, scale, t_end, seed, rtol, n_jobs, progress)
    tasks = [(count, dimension, number, settings) for count in settings["n"] for dimension in settings["d"]
             for number in range(settings["starts"])]
    runs, where = gather(_run, tasks, n_jobs, progress, "runs")
    return SlowdownResult(NAME, settings, runs, stopped=where)
