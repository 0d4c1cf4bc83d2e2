"""Do means that diverge in different directions merge? Their angle against flow time, beside a law that has no fitted number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers, check_several
from overparam.experiments.zhang2025.far_geometry_law import turn
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Fan", "FarGeometryResult", "far_geometry"]

NAME = "zhang2025.far_geometry"
_RECORDS = 160
_MOST = 3  # far means: with the one at the target they span the plane, and the fan stays below half a turn's third each
_WIDEST = 2.0  # radians: the law ends at 2 pi / 3


@dataclass(frozen=True, eq=False)
class Fan:
    """Far means in a plane, in the order of their angles, while they move away.

    Attributes
    ----------
    angle : float
        Angle between neighbours at the start, radians.
    times : (T,) array
        Flow times.
    radii : (T, m) array
        Distances of the far means from the target.
    directions : (T, m) array
        Their polar angles.
    loss : (T,) array
    law : (T,) array or None
        For two that start at one distance: the angle by the law, from the measured distances.
    status, message : str
        How the run ended.
    """

    angle: float
    times: np.ndarray
    radii: np.ndarray
    directions: np.ndarray
    loss: np.ndarray
    law: np.ndarray | None
    status: str
    message: str

    @property
    def gaps(self) -> np.ndarray:
        """(T, m - 1) angles between neighbours."""
        return np.diff(self.directions, axis=1)

    @property
    def gap(self) -> np.ndarray:
        """(T,) mean angle between neighbours."""
        found: np.ndarray = self.gaps.mean(axis=1)
        return found

    @property
    def separation(self) -> np.ndarray:
        """(T,) smallest distance between neighbours."""
        points = self.radii[..., None] * np.stack([np.cos(self.directions), np.sin(self.directions)], axis=-1)
        found: np.ndarray = np.linalg.norm(np.diff(points, axis=1), axis=-1).min(axis=1)
        return found

    @property
    def unevenness(self) -> np.ndarray:
        """(T,) difference of the largest and smallest distance from the target."""
        found: np.ndarray = np.ptp(self.radii, axis=1)
        return found


@dataclass(frozen=True, eq=False)
class FarGeometryResult(StoppableResult):
    """Result of :func:`far_geometry`.

    Attributes
    ----------
    name : str
    settings : dict
    fans : dict
        A :class:`Fan` for each (number of far means, angle at the start).
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    fans: dict[tuple[int, float], Fan]

    def finished(self) -> FarGeometryResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.fans else None

    def figure(self) -> Figure:
        """Return the picture: for each number of far means their angle against flow time, and the distance between neighbours."""
        from matplotlib.figure import Figure

        numbers = self.settings["far"]
        figure = Figure(figsize=(3.4 * (len(numbers) + 1) + 0.8, 3.4), layout="constrained")
        axes = figure.subplots(1, len(numbers) + 1, squeeze=False)[0]
        styles = ("-", ":", "-.")
        for m, ax in zip(numbers, axes, strict=False):
            self._draw(ax, m, lambda fan: fan.gap)
            ax.set_title(f"{m} far means", fontsize="medium")
            ax.set_ylabel("angle between neighbours (radians)")
        for place, m in enumerate(numbers):
            self._draw(axes[-1], m, lambda fan: fan.separation, linestyle=styles[place % len(styles)], law=False, labels=False)
            axes[-1].plot([], [], color="black", linestyle=styles[place % len(styles)], label=f"{m} far")
        axes[-1].set_title("distance", fontsize="medium")
        axes[-1].set_ylabel("distance between neighbours")
        axes[-1].legend(frameon=False, fontsize="small")
        for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes):
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlabel("flow time $t$")
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        handles = {label: handle for ax in axes[:-1] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        order = sorted(handles, key=lambda label: label.startswith("law"))  # the angles first
        figure.legend([handles[label] for label in order], order, loc="outside right center", frameon=False, fontsize="small",
                      title="at the start")
        return figure

    def _draw(self, ax: Axes, m: int, what: Any, linestyle: str = "-", law: bool = True, labels: bool = True) -> None:
        for number, angle in enumerate(self.settings["angle"]):
            fan = self.fans.get((m, angle))
            if fan is None:
                continue
            late = fan.times > 0
            colour = plotting.COLOURS[number % len(plotting.COLOURS)]
            ax.plot(fan.times[late], what(fan)[late], color=colour, linestyle=linestyle, linewidth=1.2,
                    label=f"{angle:g}" if labels else None)
            if law and fan.law is not None:
                ax.plot(fan.times[late], fan.law[late], color="black", linestyle="--", linewidth=0.8, label="law (no fit)")

    def to_xarray(self) -> Dataset:
        """Return angles, distances and losses over far, angle and record; NaN where there is none."""
        import xarray

        numbers, angles = self.settings["far"], self.settings["angle"]
        records = max((len(fan.times) for fan in self.fans.values()), default=0)
        shape = len(numbers), len(angles), records
        names = ("time", "gap", "law", "separation", "unevenness", "radius", "loss")
        fields = {name: np.full(shape, np.nan) for name in names}
        for (m, angle), fan in self.fans.items():
            at = (numbers.index(m), angles.index(angle), slice(0, len(fan.times)))
            found = {"time": fan.times, "gap": fan.gap, "separation": fan.separation, "unevenness": fan.unevenness,
                     "radius": fan.radii.mean(axis=1), "loss": fan.loss}
            for name, values in found.items():
                fields[name][at] = values
            if fan.law is not None:
                fields["law"][at] = fan.law
        data = {name: (("far", "angle", "record"), values) for name, values in fields.items()}
        return xarray.Dataset(data, coords={"far": list(numbers), "angle": list(angles)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return for each run how angle, distance and radii went, beside the law."""
        lines = ["far  angle: start     end      law    distance between: start    end   radius: start    end   spread of radii   last "
                 "factor 100 of time"]
        for (m, angle), fan in self.fans.items():
            law = "        -" if fan.law is None else f"{fan.law[-1]:9.5f}"
            before = int(np.searchsorted(fan.times, fan.times[-1] / 100))
            lines.append(f"{m:3d}  {angle:12.4f}  {fan.gap[-1]:9.5f} {law}  {fan.separation[0]:16.4f} {fan.separation[-1]:9.4f} "
                         f"{fan.radii[0].mean():12.3f} {fan.radii[-1].mean():8.3f}  {fan.unevenness[-1]:14.2e}  "
                         f"angle {100 * (fan.gap[-1] / fan.gap[before] - 1):+.3f} %")
            if fan.status != "completed":
                lines.append(f"     ended {fan.status} at flow time {fan.times[-1]:.3g}: {fan.message}")
        two = [(fan.law, fan.gap) for fan in self.fans.values() if fan.law is not None]
        if two:
            off = max(abs(law[-1] / gap[-1] - 1) for law, gap in two)
            lines.append(f"law: largest relative difference of the last angle {100 * off:.2f} %")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the runs that were finished")
        return "\n".join(lines)


def _checked(angle: Any, far: Any, radius: Any, ahead: Any, t_end: Any, tol: Any, rtol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    numbers = check_numbers(far, "far", 2)
    if max(numbers) > _MOST:
        raise ValueError(f"far must be at most {_MOST}; got {far!r}")
    return {"angle": check_several(angle, "angle", f"a number from 1e-6 to {_WIDEST:g}, in radians",
                                   lambda item: check_real(item, "angle", minimum=1e-6, maximum=_WIDEST)),
            "far": numbers, "radius": check_real(radius, "radius", minimum=4.0, maximum=15.0),
            "ahead": check_real(ahead, "ahead", minimum=0.0, maximum=5.0),
            "t_end": check_real(t_end, "t_end", minimum=1.0, maximum=1e15), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


@register(NAME, check=_checked, result=FarGeometryResult)
def far_geometry(angle: float | Sequence[float] = (0.05, 0.2, 0.5, 1.0, 2.0), far: int | Sequence[int] = (2, 3), radius: float = 6.0,
                 ahead: float = 0.0, t_end: float = 1e14, tol: float = 1e-8, rtol: float = 1e-8, n_jobs: int | None = None,
                 progress: bool | None = None) -> FarGeometryResult:
    r"""Do means that diverge in different directions merge? While they are close their angle closes, but not the distance between them.

    Gradient flow in the plane, one mean at the target and two or three at the distance `radius` from it, in a fan with the angle
    :math:`\theta` between neighbours. Two at distance :math:`\rho` from the target, :math:`\delta\approx\rho\theta` apart, have the loss
    :math:`\sqrt2L_1(\rho)G(\delta)`, G rising from 1 to :math:`\sqrt2`, which draws them together in angle and pushes them outwards
    (:mod:`overparam.experiments.zhang2025.far_geometry_law`). The law is integrated over the measured distances; nothing is fitted.
    About half a minute.

    Parameters
    ----------
    angle : float or sequence of float
        :math:`\theta` at the start, at most 2: the law is for less than 120 degrees.
    far : int or sequence of int
        2 or 3 far means.
    radius : float
        Their distance from the target at the start.
    ahead : float
        How much further out the last one starts; there is no law then.
    t_end : float
        Flow time.
    tol : float
        Relative tolerance of each gradient row.
    rtol : float
        Relative tolerance of the integrator.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    FarGeometryResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.5 [published: all but one diverge]; their geometry [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.far_geometry", angle=0.1, far=2, t_end=1e6)
    >>> fan = result.fans[2, 0.1]
    >>> [round(float(number), 2) for number in (fan.gap[-1] / fan.law[-1], fan.separation[0], fan.separation[-1])]
    [0.99, 0.6, 0.63]
    """
    settings = _checked(angle, far, radius, ahead, t_end, tol, rtol, n_jobs, progress)
    tasks = [(m, theta, settings) for m in settings["far"] for theta in settings["angle"]]
    found, where = gather(_run, tasks, n_jobs, progress, "runs")
    fans = {(m, theta): fan for (m, theta, _), fan in zip(tasks, found, strict=False)}
    return FarGeometryResult(NAME, settings, fans, stopped=where)


def _run(m: int, angle: float, settings: dict[str, Any]) -> Fan:
    """One fan of far means, from its start to the end."""
    directions = angle * (np.arange(m) - (m - 1) / 2)
    radii = np.full(m, settings["radius"])
    radii[-1] += settings["ahead"]
    start = np.zeros((m + 1, 2))
    start[1:] = radii[:, None] * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    run = gradient_flow(ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=settings["tol"])), start, t_end=settings["t_end"],
                        rtol=settings["rtol"], record=log_spaced(_RECORDS), progress=False)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    points = np.stack([run.params[k][1:] for k in range(len(run.times))])
    distances = np.linalg.norm(points, axis=2)
    polar = np.unwrap(np.arctan2(points[..., 1], points[..., 0]), axis=0)
    law = turn(distances.mean(axis=1), angle) if m == 2 and settings["ahead"] == 0 else None
    return Fan(angle, np.asarray(run.times), distances, polar, np.asarray(run.loss), law, run.status, run.message)
