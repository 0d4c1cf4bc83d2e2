"""Between the extremes of Zhang et al. 2025: how many parameters converge from random starts of every width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers, check_several
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["IntermediateResult", "Numbers", "intermediate"]

NAME = "zhang2025.intermediate"
_HORIZON, _RECORDS = 1e14, 130  # a far parameter behind another waits until that one comes by; hardly any other run takes as long
_RTOL = 1e-4  # an outcome is asked for
_KAPPA = 3.0  # of the border ln(sigma) = -M^2 + kappa: 2.5 to 3.2 for n = 2 to 10 and any profile


@dataclass(frozen=True)
class Numbers:
    """How many parameters converged from the starts of one width in one dimension.

    Attributes
    ----------
    d : int
    sigma : float
    counts : tuple of int
        ``counts[k]`` starts of which exactly k parameters converge, k = 0 ... n.
    undecided : int
        Starts of which at least one parameter is undecided; they are in no count.
    reasons : tuple of str
        What was said of the undecided ones, each once.
    """

    d: int
    sigma: float
    counts: tuple[int, ...]
    undecided: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Number of starts."""
        return sum(self.counts) + self.undecided

    def share(self, *ks: int) -> tuple[float, float, float]:
        """Share of the starts with k among `ks`, and Clopper and Pearson's 95 % interval.

        Undecided starts count as none of them at the lower end, and as some of them at the upper one.

        Examples
        --------
        >>> from overparam.experiments.zhang2025.intermediate import Numbers
        >>> [round(end, 3) for end in Numbers(1, 1.0, (0, 8, 2)).share(2)]
        [0.2, 0.025, 0.556]
        """
        hits, trials = sum(self.counts[k] for k in ks), self.samples
        low, high = binomial_interval(hits, trials)[0], binomial_interval(hits + self.undecided, trials)[1]
        return hits / trials, low, high

    @property
    def several(self) -> tuple[float, float, float]:
        """Share and interval of two or more."""
        return self.share(*range(2, len(self.counts)))

    @property
    def mean(self) -> float:
        """Mean of k over the decided starts; NaN if there is none."""
        decided = sum(self.counts)
        return sum(k * count for k, count in enumerate(self.counts)) / decided if decided else math.nan


@dataclass(frozen=True, eq=False)
class IntermediateResult(StoppableResult):
    """Result of :func:`intermediate`.

    Attributes
    ----------
    name : str
    settings : dict
    cells : tuple of Numbers
        By dimension, then by width; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    cells: tuple[Numbers, ...]

    def finished(self) -> IntermediateResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.cells else None

    def of(self, d: int) -> list[Numbers]:
        """The cells of one dimension, by width."""
        return [cell for cell in self.cells if cell.d == d]

    def rebound(self, d: int) -> tuple[Numbers, Numbers | None] | None:
        """The width at which two or more converge most rarely, and the one beyond at which they do most often.

        The second is None where the widest starts are the rarest: nothing comes back. None altogether below two widths.
        """
        cells = self.of(d)
        if len(cells) < 2:
            return None
        lowest = min(range(len(cells)), key=lambda at: (cells[at].several[0], cells[at].sigma))
        return cells[lowest], max(cells[lowest + 1:], key=lambda cell: cell.several[0], default=None)

    def figure(self) -> Figure:
        """Return the picture: for each dimension the share of every k against the width of the starts."""
        from matplotlib.figure import Figure

        dimensions, n = self.settings["d"], self.settings["n"]
        figure = Figure(figsize=(1.2 + 2.9 * len(dimensions), 3.3), layout="constrained")
        axes = figure.subplots(1, len(dimensions), squeeze=False, sharey=True, sharex=True)[0]
        border = math.exp(_KAPPA - self.settings["M"] ** 2)
        for letter, d, ax in zip("abcdefghijklmnopqrstuvwxyz", dimensions, axes):
            cells = self.of(d)
            widths = [cell.sigma for cell in cells]
            for k in range(1, n + 1):
                found = np.array([cell.share(k) for cell in cells]).reshape(-1, 3)
                ends = np.abs(found[:, 1:] - found[:, :1]).T
                ax.errorbar(widths, found[:, 0], yerr=ends, fmt="o-", markersize=3.5, linewidth=1.0, elinewidth=0.7, capsize=1.5,
                            color=plotting.COLOURS[(k - 1) % len(plotting.COLOURS)], label=f"$k={k}$")
            if any(cell.counts[0] for cell in cells):
                ax.plot(widths, [cell.share(0)[0] for cell in cells], "x-", color="black", linewidth=0.8, label="$k=0$")
            if any(cell.undecided for cell in cells):
                ax.bar(widths, [cell.undecided / cell.samples for cell in cells], width=[0.4 * width for width in widths], color="0.8",
                       label="undecided")
            ax.axvline(border, color="0.6", linestyle=":", linewidth=0.9, label=rf"$e^{{{_KAPPA:g}-M^2}}$")
            ax.set_xscale("log")
            ax.set_title(f"$d={d}$", fontsize="medium")
            ax.set_xlabel(r"width of the starts $\sigma$")
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        axes[0].set_ylabel("share of the starts")
        axes[0].set_ylim(-0.02, 1.02)
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles, loc="outside right center", frameon=False, fontsize="small")
        return figure

    def to_xarray(self) -> Dataset:
        """Return the counts over d, sigma and k, the shares with their intervals, and the undecided; NaN and 0 where there is no cell."""
        import xarray

        dimensions, widths, n = self.settings["d"], self.settings["sigma"], self.settings["n"]
        counts = np.zeros((len(dimensions), len(widths), n + 1), dtype=np.int64)
        undecided = np.zeros(counts.shape[:2], dtype=np.int64)
        shares = np.full((3, *counts.shape), np.nan)
        for cell in self.cells:
            at = dimensions.index(cell.d), widths.index(cell.sigma)
            counts[at], undecided[at] = cell.counts, cell.undecided
            for k in range(n + 1):
                shares[:, *at, k] = cell.share(k)
        dims = ("d", "sigma", "k")
        data = {"count": (dims, counts), "undecided": (dims[:2], undecided), "share": (dims, shares[0]), "share_low": (dims, shares[1]),
                "share_high": (dims, shares[2])}
        coords = {"d": list(dimensions), "sigma": list(widths), "k": np.arange(n + 1)}
        return xarray.Dataset(data, coords=coords, attrs=self.attributes())

    def summary(self) -> str:
        """Return a row for each dimension and width, and for each dimension where two or more are rarest and where they then come back."""
        n = self.settings["n"]
        lines = [f"n = {n}, M = {self.settings['M']:g}: starts of which k parameters converge, and P(k >= 2) with its 95 % interval",
                 "  d     sigma  " + "".join(f"{f'k={k}':>5}" for k in range(n + 1)) + "  open   mean k  P(k >= 2)"]
        for cell in self.cells:
            share, low, high = cell.several
            lines.append(f"{cell.d:3d}  {cell.sigma:8.3g}  " + "".join(f"{count:5d}" for count in cell.counts)
                         + f"  {cell.undecided:4d}  {cell.mean:7.3f}  {share:.3f} [{low:.3f}, {high:.3f}]")
            lines += [f"       undecided: {why}" for why in cell.reasons]
        for d in self.settings["d"]:
            found = self.rebound(d)
            if found is None:
                continue
            least, most = ("" if cell is None else "{:.3f} [{:.3f}, {:.3f}] at sigma = {:g}".format(*cell.several, cell.sigma)
                           for cell in found)
            if found[1] is None:
                lines.append(f"d = {d}: P(k >= 2) is least, {least}, the widest of these starts: it does not come back")
                continue
            apart = "above it by its interval" if found[1].several[1] > found[0].several[2] else "not above it by the intervals"
            lines.append(f"d = {d}: P(k >= 2) is least, {least}; beyond, at most {most}: {apart}")
        left = [f"{sigma:g} in d = {d}" for d in self.settings["d"] for sigma in self.settings["sigma"] if not self._wanted(d, sigma)]
        if left:
            lines.append(f"left out, wider than reach = {self.settings['reach']:g}: sigma = {', '.join(left)}")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the widths that were finished")
        return "\n".join(lines)

    def _wanted(self, d: int, sigma: float) -> bool:
        return _wanted(d, sigma, self.settings)


def _wanted(d: int, sigma: float, settings: dict[str, Any]) -> bool:
    """Whether starts of this width are within reach: on a line, or of two parameters, all are."""
    found: bool = min(d, settings["n"] - 1) == 1 or sigma * math.sqrt(d) <= settings["reach"]
    return found


def _checked(d: Any, sigma: Any, M: Any, n: Any, samples: Any, reach: Any, seed: Any, tol: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    widths = check_several(sigma, "sigma", "a number from 1e-100 to 1000",
                           lambda item: check_real(item, "sigma", minimum=1e-100, maximum=1e3))
    settings: dict[str, Any] = {"d": check_numbers(d, "d", 1), "sigma": tuple(sorted(widths)),
                                "M": check_real(M, "M", minimum=0.0, maximum=100.0),
                                "n": check_integer(n, "n", minimum=2), "samples": check_integer(samples, "samples", minimum=1),
                                "reach": check_positive(reach, "reach"), "seed": check_integer(seed, "seed", minimum=0),
                                "tol": Auto(tol=tol).tol}
    for dimension in settings["d"]:
        if not any(_wanted(dimension, width, settings) for width in widths):
            raise ValueError(f"reach={settings['reach']:g} leaves no sigma in d = {dimension}: sigma sqrt(d) must not be above it for at "
                             f"least one; got sigma={sigma!r}")
    return settings


@register(NAME, check=_checked, result=IntermediateResult)
def intermediate(d: int | Sequence[int] = (1, 3, 10),
                 sigma: float | Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-2, 1, 2, 4, 8), M: float = 4.0, n: int = 3,
                 samples: int = 32, reach: float = 5.0, seed: int = 0, tol: float = 1e-6, n_jobs: int | None = None,
                 progress: bool | None = None) -> IntermediateResult:
    r"""How many parameters converge from random starts of every width: the number falls, and rises again, with the width.

    Gradient flows from :math:`\mu_i\sim N(Me_1,\sigma^2I_d)`, stopped when :func:`overparam.regimes.until_decided` knows what becomes of
    every parameter. For :math:`\sigma\ll e^{-M^2}` all converge (Theorem 3.2), for intermediate widths one does (Corollary 3.6); when
    starts reach around the target, two or more can again, until they are so wide that no two are near. An undecided start is in no count;
    intervals of shares take it for either.

    Three parameters span a plane in any dimension, where quadrature is exact; five in d = 10 would span four dimensions. In a plane and
    beyond, starts much wider than :math:`\sigma\sqrt d` = `reach` need millions of nodes and are left out; on a line none is. About a
    minute.

    Parameters
    ----------
    d : int or sequence of int
        Dimensions.
    sigma : float or sequence of float
        Widths of the starts.
    M : float
        Distance of their mean from the target.
    n : int
        Number of parameters.
    samples : int
        Starts of each width and dimension.
    reach : float
        Largest :math:`\sigma\sqrt d` unless the starts span a line.
    seed : int
        The starts of dimension d and width number j are ``default_rng([seed, d, j])``'s.
    tol : float
        Relative tolerance of the gradient rows.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    IntermediateResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.2 and Corollary 3.6 [published: both ends]; everything measured between [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.intermediate", d=1, sigma=(1e-8, 1e-2), samples=4)
    >>> [cell.counts for cell in result.cells]
    [(0, 0, 0, 4), (0, 4, 0, 0)]
    """
    settings = _checked(d, sigma, M, n, samples, reach, seed, tol, n_jobs, progress)
    tasks = [(dimension, number, settings) for dimension in settings["d"] for number, width in enumerate(settings["sigma"])
             if _wanted(dimension, width, settings)]
    cells, where = gather(_cell, tasks, n_jobs, progress, "widths")
    return IntermediateResult(NAME, settings, cells, stopped=where)


def _cell(d: int, number: int, settings: dict[str, Any]) -> Numbers:
    """Starts of one width in one dimension, run as a batch."""
    n, width = settings["n"], settings["sigma"][number]
    draws = np.random.default_rng([settings["seed"], d, number]).standard_normal((settings["samples"], n, d))
    target, centre = np.zeros(d), np.zeros(d)
    centre[0] = settings["M"]
    runs = gradient_flow(ScoreMatching(Gaussian(target), rule=Auto(tol=settings["tol"])), [init.around(centre, width * z) for z in draws],
                         t_end=_HORIZON, rtol=_RTOL, record=log_spaced(_RECORDS), stop=regimes.until_decided(target), progress=False)
    counts, reasons = [0] * (n + 1), []
    for run in runs:
        if run.status == "interrupted":
            raise KeyboardInterrupt
        regime = regimes.classify(run)
        if regime.k is None:
            reasons.append(regime.reason + ("" if run.status == "completed" else f" ({run.status}: {run.message})"))
        else:
            counts[regime.k] += 1
    return Numbers(d, width, tuple(counts), len(reasons), tuple(dict.fromkeys(reasons)))
