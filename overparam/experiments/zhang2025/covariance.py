"""Does anisotropy move the border of the small-noise regime? Teachers whose covariance has one eigenvalue other than 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_integer, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_several
from overparam.experiments.zhang2025.covariance_runs import DIRECTIONS, Point, border
from overparam.experiments.zhang2025.phase_boundary_runs import check_profiles
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["CovarianceResult", "covariance"]

NAME = "zhang2025.covariance"
FARTHEST = 15.0  # spreads are e^(-M^2) times less than 1, and float64 ends at e^-708


@dataclass(frozen=True, eq=False)
class CovarianceResult(StoppableResult):
    """Result of :func:`covariance`.

    Attributes
    ----------
    name : str
    settings : dict
    points : tuple of Point
        One for each direction, eigenvalue and M; fewer if Ctrl-C came in between.
    stopped : str
    """

    points: tuple[Point, ...]

    def finished(self) -> CovarianceResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.points else None

    def exponent(self, direction: str, variance: float) -> float:
        r"""Measured slope of :math:`\ln\varepsilon^*+M^2` over :math:`\ln M`; NaN for fewer than two borders.

        The first-order law says :math:`-2(\lambda-1)` along the start and 0 across it.
        """
        known = [point for point in self._of(direction, variance) if point.border.found]
        if len(known) < 2:
            return float("nan")
        return float(np.polyfit([np.log(point.M) for point in known], [point.log_epsilon + point.M**2 for point in known], 1)[0])

    def _of(self, direction: str, variance: float) -> list[Point]:
        return [point for point in self.points if (point.direction, point.variance) == (direction, variance)]

    def figure(self) -> Figure:
        """Return the picture: the border over the distance beside the law, and its constant over the eigenvalue."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        self._draw_borders(panels[0])
        self._draw_constants(panels[1])
        plotting.finish(panels)
        return figure

    def _draw_borders(self, ax: Axes) -> None:
        number = 0
        for direction in DIRECTIONS:
            for variance in self.settings[direction]:
                known = [point for point in self._of(direction, variance) if point.border.found]
                if not known:
                    continue
                colour, along = plotting.COLOURS[number % len(plotting.COLOURS)], direction == "along"
                distances = np.array([point.M for point in known])
                ax.plot(distances, [point.log_epsilon + point.M**2 for point in known], "o" if along else "s", color=colour,
                        markerfacecolor=colour if along else "none", markersize=4, label=rf"$\lambda={variance:g}$ {direction}")
                fine = np.geomspace(distances.min(), distances.max(), 50) if len(distances) > 1 else distances
                constant = np.mean([point.border.middle for point in known])
                ax.plot(fine, constant - (2 * (variance - 1) if along else 0.0) * np.log(fine), "-" if along else ":", color=colour,
                        linewidth=0.9)
                number += 1
        ax.set_xscale("log")
        ax.set_xticks(self.settings["M"], [f"{M:g}" for M in self.settings["M"]])
        ax.minorticks_off()
        ax.set_xlabel("distance of the start $M$")
        ax.set_ylabel(r"border $\ln\varepsilon^*+M^2$")
        ax.legend(frameon=False, fontsize="x-small", title="lines: first-order law", title_fontsize="x-small", loc="center left",
                  bbox_to_anchor=(1.0, 0.5))

    def _draw_constants(self, ax: Axes) -> None:
        for direction, marker, fill in (("along", "o", None), ("across", "s", "none")):
            known = [point for point in self.points if point.direction == direction and point.border.found]
            ax.plot([point.variance for point in known], [point.border.middle for point in known], marker, markersize=4, linestyle="none",
                    color=plotting.COLOURS[direction != "along"], markerfacecolor=fill, label=f"start {direction} its eigenvector")
        ax.set_xlabel(r"eigenvalue $\lambda$ of $\Sigma$, others 1")
        ax.set_ylabel(r"constant $\kappa=\ln\varepsilon^*+$ growth")
        ax.legend(frameon=False, fontsize="x-small")

    def to_xarray(self) -> Dataset:
        """Return borders, constants, radii and how many stay above the border, over direction, eigenvalue and M; NaN where none is."""
        import xarray

        variances = sorted({variance for direction in DIRECTIONS for variance in self.settings[direction]})
        distances = list(self.settings["M"])
        shape = (len(DIRECTIONS), len(variances), len(distances))
        data = {name: np.full(shape, np.nan) for name in ("constant_low", "constant_high", "log_epsilon", "radius", "staying")}
        for point in self.points:
            at = DIRECTIONS.index(point.direction), variances.index(point.variance), distances.index(point.M)
            data["constant_low"][at], data["constant_high"][at] = point.border.low, point.border.high
            data["log_epsilon"][at], data["radius"][at] = point.log_epsilon, point.radius
            data["staying"][at] = np.nan if point.staying is None else point.staying
        dims = ("direction", "variance", "M")
        return xarray.Dataset({name: (dims, values) for name, values in data.items()},
                              coords={"direction": list(DIRECTIONS), "variance": variances, "M": distances}, attrs=self.attributes())

    def summary(self) -> str:
        """Return the borders beside the law, and the slopes over ln M."""
        lines = [f"n={self.settings['n']}: all parameters stay up to ln eps* = -M^2 - 2(lambda-1) ln M + kappa along the eigenvector of "
                 "lambda, -M^2 + kappa across it:"]
        for direction in DIRECTIONS:
            for variance in self.settings[direction]:
                points = self._of(direction, variance)
                for point in points:
                    lines.append(f"  {direction:6s} lambda={variance:<5g} M={point.M:<5g} kappa = [{point.border.low:.3f}, "
                                 f"{point.border.high:.3f}]  {'' if point.staying is None else f'{point.staying} stay above it'}  "
                                 f"those that stay rest within {point.radius:.4g}  {point.border.message}".rstrip())
                slope, law = self.exponent(direction, variance), 2 * (1 - variance) if direction == "along" else 0.0
                if np.isfinite(slope):
                    x = np.log([point.M for point in points if point.border.found])
                    x = x - x.mean()  # of a fitted slope each middle may move by half the resolution
                    apart = self.settings["resolution"] / 2 * np.abs(x).sum() / (x @ x)
                    lines.append(f"    slope of ln eps* + M^2 over ln M: {slope:+.2f}, within {apart:.2f} (first-order law {law:+.2f})")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the points that were finished")
        return "\n".join(lines)


def _checked(n: Any, along: Any, across: Any, M: Any, profile: Any, resolution: Any, tol: Any, rtol: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    profiles = check_profiles(profile)
    if len(profiles) != 1:
        raise ValueError(f"profile must be one name or seed; got {profile!r}")

    def variances(value: Any, name: str) -> tuple[float, ...]:
        if isinstance(value, list | tuple) and not value:
            return ()
        return check_several(value, name, "a number from 0.01 to 10", lambda item: check_real(item, name, minimum=0.01, maximum=10.0))

    found = {"n": check_integer(n, "n", minimum=2, maximum=20), "along": variances(along, "along"), "across": variances(across, "across"),
             "M": check_several(M, "M", f"a number from 2 to {FARTHEST:g}",
                                lambda item: check_real(item, "M", minimum=2.0, maximum=FARTHEST)),
             "profile": profiles[0], "resolution": check_real(resolution, "resolution", minimum=1e-4, maximum=1.0),
             "tol": Auto(tol=tol).tol, "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}
    if not (found["along"] or found["across"]):
        raise ValueError("along and across are both empty: at least one eigenvalue is needed")
    return found


@register(NAME, check=_checked, result=CovarianceResult)
def covariance(n: int = 5, along: float | Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0), across: float | Sequence[float] = (0.5, 2.0),
               M: float | Sequence[float] = (4.0, 6.0, 8.0), profile: str | int = "equispaced", resolution: float = 0.05, tol: float = 1e-7,
               rtol: float = 1e-6, n_jobs: int | None = None, progress: bool | None = None) -> CovarianceResult:
    r"""Does anisotropy move the border? Along the start it does, by a power of M, and across it does not, to first order.

    Gradient flow against :math:`N(0,\Sigma)`, :math:`\Sigma` with one eigenvalue :math:`\lambda` and the others 1, from
    :math:`\mu_i=Me+\varepsilon z_i`. The student cannot represent this teacher: the smallest loss is above 0, and for :math:`\lambda>1`
    parameters do not come to the target's mean but rest about it. So the border is here the largest :math:`\varepsilon` for which all
    parameters *stay*, within 1 of the largest distance at which they rest when started near the mean; one escapes that is 2.55 farther
    out than that over the last e-fold of flow time, and does not come back. For :math:`\lambda=1` that is the border of all converging.
    The law to first order about a common point says :math:`\ln\varepsilon^*=-M^2-2(\lambda-1)\ln M+\kappa` for a start along the
    eigenvector of :math:`\lambda`, :math:`-M^2+\kappa` across it. About a minute.

    Across it, flows keep differences still that are 13 orders of magnitude below the widest ones: from about M = 7 on those along the
    eigenvector do not grow within the run, as they would in the end, long after it is decided who stays.

    Parameters
    ----------
    n : int
        Number of parameters, 2 to 20, of equal weights.
    along, across : float or sequence of float
        Eigenvalues :math:`\lambda` for starts along their eigenvector (in one dimension, the rest being at rest), and across it (in two,
        with normal differences along the eigenvector as well). Either may be empty.
    M : float or sequence of float
        Distance of the start from the teacher's mean, 2 to 15.
    profile : str or int
        z along the start: "equispaced", "one near", "one far", or the seed of normal draws.
    resolution : float
        Width of the intervals of :math:`\kappa`.
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
    CovarianceResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.2 [published for the identity]; the law with a covariance [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.covariance", n=3, along=(0.5, 1.0), across=(), M=4.0, resolution=0.5)
    >>> narrow, plain = result.points
    >>> narrow.border.high < plain.border.low     # a teacher narrower along the start: the constant of the law is smaller
    True
    """
    settings = _checked(n, along, across, M, profile, resolution, tol, rtol, n_jobs, progress)
    tasks = [(settings["n"], direction, variance, distance, settings["profile"], settings["resolution"], settings["tol"], settings["rtol"])
             for direction in DIRECTIONS for variance in settings[direction] for distance in settings["M"]]
    points, where = gather(border, tasks, n_jobs, progress)
    return CovarianceResult(NAME, settings, points, stopped=where)
