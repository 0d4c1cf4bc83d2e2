"""One run from a small random start: the neurons align, grow, and converge locally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, rates
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult
from overparam.objectives import ReLUNeuron
from overparam.theory.xu2023 import common
from overparam.theory.xu2023.phases import grown
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["PhasesResult", "phases"]

NAME = "xu2023.phases"


@dataclass(frozen=True, eq=False)
class PhasesResult(StoppableResult):
    r"""Result of :func:`phases`.

    Attributes
    ----------
    name : str
    settings : dict
    trajectory : Trajectory
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    trajectory: Trajectory

    def finished(self) -> PhasesResult | None:
        """Return the result; None if Ctrl-C cut the run short."""
        return None if self.interrupted else self

    @property
    def neurons(self) -> list[common.Neurons]:
        """The geometry at each record."""
        return [common.neurons(self.trajectory.objective, state) for state in self.trajectory.states]

    @property
    def borders(self) -> tuple[float, float]:
        """Flow times at which the sum has half the target's length, and all lengths are balanced; NaN where they are not reached."""
        run = self.trajectory
        places = grown(run), common.local_phase(run)
        return tuple(np.nan if place is None else float(run.times[place]) for place in places)  # type: ignore[return-value]

    def figure(self) -> Figure:
        """Return the picture: angles to the target, lengths, and the loss beside pairwise distances, over time."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.4, 3.4), layout="constrained")
        angles, lengths, falls = axes = figure.subplots(1, 3)
        run, found, n = self.trajectory, self.neurons, self.settings["n"]
        seen = run.times > 0
        times = run.times[seen]
        for one in range(n):
            colour = plotting.COLOURS[one % len(plotting.COLOURS)]
            angles.plot(times, np.array([at.angles[one] for at in found])[seen], color=colour, linewidth=1.1)
            lengths.plot(times, n * np.array([at.lengths[one] for at in found])[seen], color=colour, linewidth=1.1)
        lengths.axhspan(1 / 3, 3, color="0.9", zorder=0)
        lengths.text(times[0], 3, r" published at $T_2$", va="bottom", fontsize="small", color="0.4")
        potential = np.array([at.potential for at in found])[seen]
        falls.plot(times, run.loss[seen], color=plotting.COLOURS[0], linewidth=1.5, label="loss $L$")
        if n > 1:
            falls.plot(times, potential, color=plotting.COLOURS[1], linewidth=1.5, label=r"distances $Z=\sum_{i<j}\|z_i-z_j\|$")
            late = times > max(100.0, times[-1] / 1e3)
            if late.any():
                for series, power in ((run.loss[seen], -3), (potential, -1)):
                    guide = 2.5 * series[late][-1] * (times[late] / times[late][-1]) ** power
                    falls.plot(times[late], guide, "k--", linewidth=0.8, label="slopes $-3$ and $-1$" if power == -3 else None)
        angles.set_ylabel(r"angle to the target $\theta_i$")
        lengths.set_ylabel(r"length $n\,\|w_i\|/\|v\|$")
        for ax in axes:
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel("flow time $t$")
            for place in self.borders:
                if np.isfinite(place):
                    ax.axvline(place, color="0.6", linewidth=0.8, linestyle=":")
        falls.legend(frameon=False, fontsize="small", loc="lower left")
        plotting.finish(axes)
        return figure

    def to_xarray(self) -> Dataset:
        """Return angles and lengths over time and neuron, loss and pairwise distances over time."""
        import xarray

        run, found = self.trajectory, self.neurons
        data = {"angle": (("time", "neuron"), np.array([at.angles for at in found])),
                "length": (("time", "neuron"), np.array([at.lengths for at in found])),
                "loss": ("time", run.loss), "loss_error": ("time", run.loss_error),
                "potential": ("time", np.array([at.potential for at in found]))}
        return xarray.Dataset(data, coords={"time": run.times},
                              attrs={**self.attributes(), "half_grown": self.borders[0], "local_phase": self.borders[1]})

    def summary(self) -> str:
        """Return what the phases look like in figures."""
        run, found, n = self.trajectory, self.neurons, self.settings["n"]
        lines = [self.heading, "", f"{run.status}, loss {run.loss[0]:.4g} -> {run.loss[-1]:.4g}"]
        marks = [("start", 0), ("half grown", grown(run)), ("local phase", common.local_phase(run)), ("end", len(run) - 1)]
        lines.append(f"{'':>12} {'flow time':>10}  {'largest angle':>13}  {'n |w|: least':>12} {'most':>8}  {'ratio':>6}  {'Z':>10}")
        for name, place in marks:
            if place is None:
                lines.append(f"{name:>12}  not reached")
                continue
            at = found[place]
            low, high = n * at.lengths.min(), n * at.lengths.max()
            lines.append(f"{name:>12} {run.times[place]:10.4g}  {at.angles.max():13.4g}  {low:12.4g} {high:8.4g}  {high / low:6.3g}  "
                         f"{at.potential:10.4g}")
        late = (run.times >= run.times[-1] / 10) & (run.loss > 0)
        if n > 1 and np.count_nonzero(late) > 3:
            law = rates.fit_power_law(run)
            lines.append(f"exponent of the loss over the last decade: {law.exponent:.4f}; L t^3 = {run.loss[-1] * run.times[-1] ** 3:.4g}, "
                         f"Z t = {found[-1].potential * run.times[-1]:.4g} at the end")
        lines.append("half grown: |sum w_i| = |v|/2; local phase: all n |w_i|/|v| in [1/3, 3], what is published of T_2.")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}")
        return "\n".join(lines)


def _checked(n: Any, d: Any, scale: Any, t_end: Any, seed: Any, rtol: Any, records: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"n": check_integer(n, "n", minimum=1), "d": check_integer(d, "d", minimum=2), "scale": check_positive(scale, "scale"),
            "t_end": check_real(t_end, "t_end", minimum=1.0, maximum=1e9), "seed": check_integer(seed, "seed", minimum=0),
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2), "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=PhasesResult)
def phases(n: int = 6, d: int = 10, scale: float = 0.003, t_end: float = 1e5, seed: int = 0, rtol: float = 1e-9, records: int = 200,
           progress: bool | None = None) -> PhasesResult:
    r"""Three phases of ReLU neurons from a small start: they turn to the target, grow along it, and converge like t⁻³.

    Gradient flow from :math:`w_i\sim N(0,\sigma^2I)`, :math:`v=e_1`. Panels: each neuron's angle to the target; its length in units of
    :math:`\|v\|/n`, with the interval that is published for :math:`T_2`; the loss and the pairwise distances across the target. Dotted
    lines: the sum has half the target's length; all lengths are in the interval. A second. The smaller the start, the more alike the
    neurons are when they have grown.

    Parameters
    ----------
    n, d : int
        Neurons and dimension.
    scale : float
        :math:`\sigma`.
    t_end : float
        Flow time.
    seed : int
        Of the start.
    rtol : float
        Relative tolerance of the integrator.
    records : int
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    PhasesResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Xu and Du, arXiv 2302.10034 [published: alignment, tangential growth, local convergence; the interval of the lengths].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("xu2023.phases", n=3, d=5, t_end=1e4, records=60)
    >>> first, second = result.borders
    >>> bool(0 < second < 1 and result.neurons[-1].angles.max() < 1e-2)
    True
    """
    settings = _checked(n, d, scale, t_end, seed, rtol, records, progress)
    start = init.gaussian(settings["n"], np.zeros(settings["d"]), scale=settings["scale"], rng=settings["seed"])
    run = gradient_flow(ReLUNeuron(np.eye(settings["d"])[0]), start, t_end=settings["t_end"], rtol=settings["rtol"],
                        record=log_spaced(settings["records"]), progress=progress)
    return PhasesResult(NAME, settings, run, stopped=run.message if run.status == "interrupted" else "")
