"""Above the border of the small-noise regime: how many parameters converge, and what a second one needs to survive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers, check_several
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, Dynamics, bisect, check_distances, check_profiles, profile_label
from overparam.experiments.zhang2025.phase_boundary_runs import profile as positions_of
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Staircase", "StaircaseResult", "staircase"]

NAME = "zhang2025.staircase"
FIRST, REACH, STEP = 2.0, 16.0, 1.0  # b of a staircase's first run, largest b tried, distance of runs before thresholds are narrowed
GAP = (3.5, 5.0)  # where ln g + M^2 is looked for first


@dataclass(frozen=True)
class Staircase:
    r"""How many parameters converge, against :math:`b=\ln\varepsilon+M^2`.

    Attributes
    ----------
    b : tuple of float
        Where runs were made, ascending.
    k : tuple of (int or None)
        How many parameters converge there; None where the run stayed undecided.
    reasons : tuple of str
        Why a run stayed undecided; empty otherwise.
    """

    b: tuple[float, ...]
    k: tuple[int | None, ...]
    reasons: tuple[str, ...] = ()

    def threshold(self, k: int) -> tuple[float, float]:
        """Interval of b at whose low end at least k parameters converge and at whose high end fewer do; infinite where not met."""
        low = max((b for b, found in zip(self.b, self.k, strict=True) if found is not None and found >= k), default=-np.inf)
        high = min((b for b, found in zip(self.b, self.k, strict=True) if found is not None and found < k and b > low), default=np.inf)
        return low, high


@dataclass(frozen=True, eq=False)
class StaircaseResult(StoppableResult):
    r"""Result of :func:`staircase`.

    Attributes
    ----------
    name : str
    settings : dict
    stairs : dict
        A :class:`Staircase` for each (n, profile); fewer if Ctrl-C came in between.
    survival : dict
        A :class:`~overparam.experiments.zhang2025.phase_boundary_runs.Bracket` of :math:`\ln g+M^2` for each (n, b): at ``low`` the second
        mean converges, at ``high`` it does not.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    stairs: dict[tuple[int, str | int], Staircase]
    survival: dict[tuple[int, float], Bracket] = field(default_factory=dict)

    def finished(self) -> StaircaseResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.stairs or self.survival else None

    def figure(self) -> Figure:
        """Return the picture: for each n the staircases of its profiles, and the largest gap at which the second mean survives."""
        from matplotlib.figure import Figure

        numbers = self.settings["n"]
        figure = Figure(figsize=(3.0 * (len(numbers) + 1), 3.1), layout="constrained")
        axes = figure.subplots(1, len(numbers) + 1, squeeze=False)[0]
        for n, ax in zip(numbers, axes, strict=False):
            self._draw_stairs(ax, n)
        for number, n in enumerate(numbers):
            known = [(b, point) for (m, b), point in self.survival.items() if m == n and point.found]
            axes[-1].errorbar([b for b, _ in known], [point.middle for _, point in known],
                              yerr=[(point.high - point.low) / 2 for _, point in known], fmt="o-", markersize=4, markerfacecolor="none",
                              linewidth=0.9, capsize=2, color=plotting.COLOURS[number % len(plotting.COLOURS)], label=f"$n={n}$")
        axes[-1].set_xlabel(r"spread of the others $\ln\varepsilon+M^2$")
        axes[-1].set_ylabel(r"largest surviving gap $\ln g^*+M^2$")
        axes[-1].legend(frameon=False, fontsize="small")
        plotting.finish(axes)
        return figure

    def _draw_stairs(self, ax: Axes, n: int) -> None:
        profiles = self.settings["profile"]
        for number, name in enumerate(profiles):
            stair = self.stairs.get((n, name))
            if stair is None:
                continue
            known = [(b, k) for b, k in zip(stair.b, stair.k, strict=True) if k is not None]
            shift = 0.04 * (number - (len(profiles) - 1) / 2)  # so that equal stretches do not hide each other
            ax.step([b for b, _ in known], [k + shift for _, k in known], where="post", linewidth=1.3,
                    color=plotting.COLOURS[number % len(plotting.COLOURS)], label=profile_label(name))
        ax.set_title(f"$n={n}$", fontsize="medium")
        ax.set_xlabel(r"$b=\ln\varepsilon+M^2$")
        ax.set_ylabel("parameters that converge $k$")
        ax.set_yticks(range(1, n + 1))
        ax.legend(frameon=False, fontsize="x-small")

    def to_xarray(self) -> Dataset:
        """Return thresholds over n, profile and k, all runs in the order of b, and the gaps over n and b; NaN where there is none."""
        import xarray

        numbers, names, spreads = self.settings["n"], self.settings["profile"], self.settings["others"]
        runs = max((len(stair.b) for stair in self.stairs.values()), default=0)
        levels = np.arange(2, max(numbers) + 1)
        low, high = (np.full((len(numbers), len(names), levels.size), np.nan) for _ in range(2))
        places, counts = (np.full((len(numbers), len(names), runs), np.nan) for _ in range(2))
        gap_low, gap_high = (np.full((len(numbers), len(spreads)), np.nan) for _ in range(2))
        for (n, name), stair in self.stairs.items():
            at = numbers.index(n), names.index(name)
            for place, k in enumerate(levels[levels <= n]):
                low[*at, place], high[*at, place] = stair.threshold(int(k))
            places[at][:len(stair.b)] = stair.b
            counts[at][:len(stair.b)] = [np.nan if k is None else k for k in stair.k]
        for (n, b), point in self.survival.items():
            gap_low[numbers.index(n), spreads.index(b)], gap_high[numbers.index(n), spreads.index(b)] = point.low, point.high
        stairs, gaps = ("n", "profile"), ("n", "others")
        data = {"threshold_low": ((*stairs, "k"), low), "threshold_high": ((*stairs, "k"), high), "b": ((*stairs, "run"), places),
                "converged": ((*stairs, "run"), counts), "gap_low": (gaps, gap_low), "gap_high": (gaps, gap_high)}
        coords = {"n": list(numbers), "profile": [str(name) for name in names], "k": levels, "others": list(spreads)}
        return xarray.Dataset(data, coords=coords, attrs=self.attributes())

    def summary(self) -> str:
        """Return the thresholds of every staircase, and the largest gaps at which the second mean survives."""
        lines = ["b = ln eps + M^2 up to which at least k parameters converge:"]
        for (n, name), stair in self.stairs.items():
            steps = []
            for k in range(n, 1, -1):
                low, high = stair.threshold(k)
                steps.append(f"k={k}: [{low:.3f}, {high:.3f}]")
            lines.append(f"  n={n:2d} {profile_label(name):>10}  " + "  ".join(steps))
            lines += [f"    undecided at b = {b:.4f}: {why}" for b, why in zip(stair.b, stair.reasons, strict=False) if why]
        lines.append("gap to the nearest up to which the second mean converges, the others fixed:")
        for (n, b), point in self.survival.items():
            lines.append(f"  n={n:2d}  others at b = {b:5.2f}   ln g + M^2 = [{point.low:.3f}, {point.high:.3f}]  {point.message}".rstrip())
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the parts that were finished")
        return "\n".join(lines)


def _checked(n: Any, profile: Any, M: Any, others: Any, resolution: Any, tol: Any, rtol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    distances = check_distances(M)
    if len(distances) != 1:
        raise ValueError(f"M must be one number; got {M!r}")
    return {"n": check_numbers(n, "n", 2), "profile": check_profiles(profile), "M": distances[0],
            "others": check_several(others, "others", "a number from 4 to 20",
                                    lambda item: check_real(item, "others", minimum=4.0, maximum=20.0)),
            "resolution": check_real(resolution, "resolution", minimum=1e-6, maximum=1.0), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


def _stairs(n: int, name: str | int, settings: dict[str, Any]) -> Staircase:
    """Runs from below the first threshold to above the last, then between neighbours of different k until they are close."""
    M, dynamics, positions = settings["M"], Dynamics(None, settings["tol"], settings["rtol"]), positions_of(name, n)
    last = 2 if positions[1] - positions[0] < 1e-12 else 1  # two nearest that coincide stay together
    found: dict[float, tuple[int | None, str]] = {}

    def look(b: float) -> int | None:
        if b not in found:
            fate = dynamics.fate(M, 1, positions, b - M**2)
            found[b] = fate.k, "" if fate.k is not None else fate.reason
        return found[b][0]

    def narrow(low: float, high: float) -> None:
        if high - low > settings["resolution"] * (1 + 1e-9) and None not in (look(low), look(high)) and look(low) != look(high):
            middle = (low + high) / 2
            look(middle)
            narrow(low, middle)
            narrow(middle, high)

    b = FIRST
    while look(b) not in (n, None) and b > FIRST - REACH:
        b -= STEP
    b = FIRST
    while look(b) != last and b < REACH:
        b += STEP
    places = sorted(found)
    for low, high in pairwise(places):
        narrow(low, high)
    places = sorted(found)
    return Staircase(tuple(places), tuple(found[b][0] for b in places), tuple(found[b][1] for b in places))


def _survival(n: int, others: float, settings: dict[str, Any]) -> Bracket:
    """Largest gap of the second mean to the nearest, the rest equispaced at the spread `others` and further away than both."""
    M, dynamics = settings["M"], Dynamics(None, settings["tol"], settings["rtol"])
    places = positions_of("equispaced", n)

    def survives(gap: float) -> tuple[bool | None, str]:
        positions = places.copy()
        positions[1] = positions[0] + np.exp(gap - others)  # in units of the others' spread
        fate = dynamics.fate(M, 1, positions, others - M**2)
        return None if fate.k is None else fate.k >= 2, fate.reason

    return bisect(survives, *GAP, settings["resolution"])


def _part(kind: str, n: int, which: Any, settings: dict[str, Any]) -> Any:
    return {"stairs": _stairs, "survival": _survival}[kind](n, which, settings)


@register(NAME, check=_checked, result=StaircaseResult)
def staircase(n: int | Sequence[int] = (3, 5, 10), profile: str | int | Sequence[str | int] = ("equispaced", 0, 1), M: float = 6.0,
              others: float | Sequence[float] = (6.0, 8.0, 10.0), resolution: float = 0.05, tol: float = 1e-7, rtol: float = 1e-6,
              n_jobs: int | None = None, progress: bool | None = None) -> StaircaseResult:
    r"""How many parameters converge above the border: k falls from n to 1, a step at a time, as the spread grows.

    Gradient flow in one dimension from :math:`\mu_i=M+\varepsilon z_i`, against :math:`b=\ln\varepsilon+M^2`, z of mean 0 and root mean
    square 1. Second part: the second nearest is put at the gap g from the nearest, the others stay equispaced at :math:`b=` `others`; it
    converges beside the nearest up to a largest g. Two nearest at one place would stay together for every spread. About a minute.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of parameters, 2 at least.
    profile : str, int, or sequence
        "equispaced", "one near", "one far", or the seed of normal draws.
    M : float
        Distance of the cluster from the target; thresholds do not depend on it.
    others : float or sequence of float
        b of the other parameters in the second part.
    resolution : float
        Width of the intervals of thresholds.
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
    StaircaseResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.2, 3.4 and Corollary 3.6 [published: k = n and k = 1]; the stairs between [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.staircase", n=3, profile="equispaced", others=6.0, resolution=0.5)
    >>> stair = result.stairs[3, "equispaced"]
    >>> stair.k[0], stair.k[-1]
    (3, 1)
    """
    settings = _checked(n, profile, M, others, resolution, tol, rtol, n_jobs, progress)
    tasks = [("stairs", number, name, settings) for number in settings["n"] for name in settings["profile"]]
    tasks += [("survival", number, b, settings) for number in settings["n"] if number > 2 for b in settings["others"]]
    parts: dict[str, dict[Any, Any]] = {"stairs": {}, "survival": {}}
    done, where = gather(_part, tasks, n_jobs, progress, "parts")
    for (kind, number, which, _), found in zip(tasks, done, strict=False):
        parts[kind][number, which] = found
    return StaircaseResult(NAME, settings, **parts, stopped=where)
