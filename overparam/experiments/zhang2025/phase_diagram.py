"""The phase diagram of the small-noise regime: how many parameters converge, over the distance and the spread of the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_array, check_integer, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, swept
from overparam.experiments.settings import check_jobs, check_store
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, check_profiles, profile_label
from overparam.experiments.zhang2025.phase_boundary_runs import profile as positions_of
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Line", "PhaseDiagramResult", "phase_diagram"]

NAME = "zhang2025.phase_diagram"
RECORDS = 7  # for each decade of time: two or more for each e-fold, which is what verdicts look at
SMALL = 0.02  # spread up to which the line is fitted: beyond, differences do not grow by the linear law alone
_PANELS = 3  # profiles with a panel each; of more the mean is shown
_BELOW = 6.0  # how far the diagram goes below the lines, at the largest M


@dataclass(frozen=True)
class Line:
    r"""The line :math:`\ln\varepsilon=-M^2+c_k` below which at least k parameters converge.

    Attributes
    ----------
    k : int
    low, high : float
        Interval of :math:`c_k`: what all columns of the diagram allow in common. Where nothing is (low > high), the columns disagree by
        ``low - high``.
    columns : int
        Distances M that tell of it.
    """

    k: int
    low: float
    high: float
    columns: int

    @property
    def middle(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2


@dataclass(frozen=True, eq=False)
class PhaseDiagramResult(StoppableResult):
    r"""Result of :func:`phase_diagram`.

    Attributes
    ----------
    name : str
    settings : dict
    M : (P,) array
    log_epsilon : (P,) array
    k : (profiles, P, P) array
        How many parameters converge, over profile, M and :math:`\ln\varepsilon`; NaN where a run stayed undecided or was not made.
    reasons : dict
        Why runs stayed undecided, by their place in `k`.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    M: np.ndarray
    log_epsilon: np.ndarray
    k: np.ndarray
    reasons: dict[tuple[int, int, int], str]

    def finished(self) -> PhaseDiagramResult | None:
        """Return what was computed; None if there is nothing."""
        return self if np.isfinite(self.k).any() else None

    def line(self, number: int, k: int) -> Line | None:
        """The line of k for profile `number`, from columns where its spread is small; None if none of them meets it."""
        lows, highs = [], []
        for M, column in zip(self.M, self.k[number], strict=True):
            known = np.flatnonzero(np.isfinite(column))
            enough = column[known] >= k
            if enough.all() or not enough.any():
                continue
            last = int(np.flatnonzero(enough)[-1])  # above it fewer than k converge
            if not enough[:last + 1].all() or np.exp(self.log_epsilon[known[last + 1]]) > SMALL:
                continue
            lows.append(self.log_epsilon[known[last]] + M**2)
            highs.append(self.log_epsilon[known[last + 1]] + M**2)
        return Line(k, float(max(lows)), float(min(highs)), len(lows)) if lows else None

    def figure(self) -> Figure:
        """Return the picture: k over M and ln eps, with the lines; a panel for each profile, or the mean of many."""
        from matplotlib import colormaps
        from matplotlib.colors import BoundaryNorm
        from matplotlib.figure import Figure

        profiles, n = self.settings["profile"], self.settings["n"]
        single = len(profiles) <= _PANELS
        maps = list(self.k) if single else [self._mean()]
        figure = Figure(figsize=(1.4 + 3.3 * len(maps), 3.6), layout="constrained")
        axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
        colours = colormaps["viridis"].resampled(n)
        norm = BoundaryNorm(np.arange(n + 1) + 0.5, n) if single else None
        for number, (ax, values) in enumerate(zip(axes, maps, strict=True)):
            ax.set_facecolor("0.85")
            options = {"norm": norm, "cmap": colours} if single else {"vmin": 1, "vmax": n, "cmap": "viridis"}
            mesh = ax.pcolormesh(self.M, self.log_epsilon, np.ma.masked_invalid(values).T, shading="nearest", rasterized=True, **options)
            self._draw_lines(ax, number if single else None)
            ax.set_xlabel("distance $M$ of the start")
            ax.set_title(profile_label(profiles[number]) if single else f"mean of {len(profiles)} profiles", fontsize="medium")
        axes[0].set_ylabel(r"spread $\ln\varepsilon$")
        bar = figure.colorbar(mesh, ax=axes, label="parameters that converge $k$")
        bar.set_ticks(range(1, n + 1))
        if len(axes) > 1:
            plotting.finish(axes)
        return figure

    def _mean(self) -> np.ndarray:
        known = np.isfinite(self.k)
        total = np.where(known, self.k, 0.0).sum(axis=0)
        found: np.ndarray = np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))
        return found

    def _draw_lines(self, ax: Axes, number: int | None) -> None:
        """The lines of k = n and k = 2, and thin ones between, where they lie in the picture."""
        M = np.linspace(self.M[0], self.M[-1], 200)
        step = (self.log_epsilon[-1] - self.log_epsilon[0]) / (self.log_epsilon.size - 1) / 2
        n = self.settings["n"]
        for k in range(n, 1, -1):
            found = self.line(number, k) if number is not None else None
            if found is None:
                continue
            ends = k in (2, n)
            values = found.middle - M**2
            values[(values < self.log_epsilon[0] - step) | (values > self.log_epsilon[-1] + step)] = np.nan
            label = rf"$\ln\varepsilon=-M^2{found.middle:+.2f}$" + (f": below, all {n}" if k == n else ": above, one")
            ax.plot(M, values, color="black" if k > 2 else plotting.COLOURS[1], linestyle="-" if ends else ":",
                    linewidth=1.4 if ends else 0.9, label=label if ends else None)
        if ax.lines:
            ax.legend(fontsize="small", loc="lower left", framealpha=0.9, edgecolor="none")

    def to_xarray(self) -> Dataset:
        """Return k over profile, M and log_epsilon, and the constants of the lines over profile and k."""
        import xarray

        names, levels = self.settings["profile"], np.arange(2, self.settings["n"] + 1)
        low, high = (np.full((len(names), levels.size), np.nan) for _ in range(2))
        for number in range(len(names)):
            for place, k in enumerate(levels):
                if (found := self.line(number, int(k))) is not None:
                    low[number, place], high[number, place] = found.low, found.high
        data = {"k": (("profile", "M", "log_epsilon"), self.k), "line_low": (("profile", "level"), low),
                "line_high": (("profile", "level"), high)}
        coords = {"profile": [str(name) for name in names], "M": self.M, "log_epsilon": self.log_epsilon, "level": levels}
        return xarray.Dataset(data, coords=coords, attrs=self.attributes())

    def summary(self) -> str:
        """Return how many runs came to which k, and the constants of the lines."""
        lines = [self.heading, "", f"{self.k.size} runs of gradient flow"]
        for number, name in enumerate(self.settings["profile"]):
            counts = ", ".join(f"k={k}: {int((self.k[number] == k).sum())}" for k in range(1, self.settings["n"] + 1))
            lines.append(f"{profile_label(name)}:  {counts}, undecided: {int(np.isnan(self.k[number]).sum())}")
            for k in range(self.settings["n"], 1, -1):
                if (found := self.line(number, k)) is not None:
                    agree = f"in [{found.low:.3f}, {found.high:.3f}]" if found.low <= found.high else (
                        f"= {found.middle:.3f}, though columns differ by {found.low - found.high:.3f}")
                    lines.append(f"  at least {k} converge below ln eps = -M^2 + c, c {agree}   ({found.columns} columns)")
        lines.append(f"lines from columns where eps <= {SMALL:g}; the intervals are what all of these allow in common")
        lines += [f"undecided at M = {self.M[i]:.4g}, ln eps = {self.log_epsilon[j]:.5g}: {why}"
                  for (_, i, j), why in list(self.reasons.items())[:5]]
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the runs that were finished")
        return "\n".join(lines)


def _checked(points: Any, M: Any, log_epsilon: Any, n: Any, profile: Any, tol: Any, rtol: Any, store: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    check_store(store)
    ends = _ends(M, "M", 0.1, 50.0)
    spread = (-(ends[1] ** 2) - _BELOW, 1.0) if log_epsilon is None else _ends(log_epsilon, "log_epsilon", -1e4, 3.0)
    return {"points": check_integer(points, "points", minimum=2, maximum=1000), "M": ends, "log_epsilon": spread,
            "n": check_integer(n, "n", minimum=2, maximum=100), "profile": check_profiles(profile), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


def _ends(value: Any, name: str, least: float, most: float) -> tuple[float, float]:
    array = check_array(value, name, ndim=1)
    if array.shape != (2,) or not least <= array[0] < array[1] <= most:
        raise ValueError(f"{name} must be two numbers, the smaller first, between {least:g} and {most:g}; got {value!r}")
    return float(array[0]), float(array[1])


def _point(M: float, log_epsilon: float, profile: str | int, *, n: int, tol: float, rtol: float) -> dict[str, Any]:
    """How many parameters converge from a cluster at M of spread exp(log_epsilon)."""
    fate = Dynamics(None, tol, rtol, RECORDS).fate(M, 1, positions_of(profile, n), log_epsilon)
    return {"k": fate.k, "reason": "" if fate.k is not None else fate.reason}


@register(NAME, check=_checked, result=PhaseDiagramResult)
def phase_diagram(points: int = 25, M: Sequence[float] = (1.0, 6.0), log_epsilon: Sequence[float] | None = None, n: int = 5,
                  profile: str | int | Sequence[str | int] = "equispaced", tol: float = 1e-4, rtol: float = 1e-3, store: str | None = None,
                  n_jobs: int | None = None, progress: bool | None = None) -> PhaseDiagramResult:
    r"""The phase diagram: how many parameters converge over distance and spread, with the lines ln ε = −M² + c_k.

    Gradient flow in one dimension from :math:`\mu_i=M+\varepsilon z_i`, z of mean 0 and root mean square 1, on a square grid of M and
    :math:`\ln\varepsilon`; each run ends as soon as every parameter converges or diverges. About half a minute; ``points=100`` is the
    whole diagram, 10 000 runs and some minutes: give it a ``store`` to go on with if it is cut short, and ``n_jobs=-1``.

    Parameters
    ----------
    points : int
        Values of M and of :math:`\ln\varepsilon`.
    M : (float, float)
        Smallest and largest distance of the cluster from the target.
    log_epsilon : (float, float), optional
        Smallest and largest :math:`\ln\varepsilon`. None stands for 6 below :math:`-M^2` at the largest M, and 1.
    n : int
        Number of parameters.
    profile : str, int, or sequence
        z: "equispaced", "one near", "one far", or the seed of normal draws; several give a diagram each.
    tol : float
        Relative tolerance of each gradient row.
    rtol : float
        Relative tolerance of the integrator.
    store : str, optional
        Folder of the sweep's results, which the same settings go on with.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    PhaseDiagramResult

    Raises
    ------
    ValueError
        If a setting is out of range, or the store is of other settings.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.2, 3.4 and Corollary 3.6 [published: k = n and k = 1]; the lines [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.phase_diagram", points=3, M=(2.0, 3.0), n=2)
    >>> result.k[0, :, 0].tolist(), float(result.k[0, -1, -1])
    ([2.0, 2.0, 2.0], 1.0)
    """
    settings = _checked(points, M, log_epsilon, n, profile, tol, rtol, store, n_jobs, progress)
    (nearest, farthest), (narrowest, widest) = settings["M"], settings["log_epsilon"]
    grid: dict[str, Any] = {"M": np.linspace(nearest, farthest, settings["points"]),
                            "log_epsilon": np.linspace(narrowest, widest, settings["points"]), "profile": list(settings["profile"])}
    point = partial(_point, n=settings["n"], tol=settings["tol"], rtol=settings["rtol"])
    with swept(point, grid, store, n_jobs, progress, failures=True) as (found, interrupted):
        where = f"after {found.status().done} of {len(found)} runs" if interrupted else ""
        if interrupted and not found.status().done:
            raise KeyboardInterrupt(where)
        data = found.collect()
    k = data.k.transpose("profile", "M", "log_epsilon").values.astype(np.float64)
    reasons = data.reason.transpose("profile", "M", "log_epsilon").values
    told: dict[Any, str] = {tuple(map(int, at)): str(reasons[tuple(at)]) for at in np.argwhere(reasons != "")}
    return PhaseDiagramResult(NAME, settings, grid["M"], grid["log_epsilon"], k, told, stopped=where)
