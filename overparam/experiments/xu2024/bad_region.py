"""The bad region of Xu et al. 2024: how long gradient EM takes to leave it, against the dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_array, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers, check_several
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.xu2024 import laws
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["BadRegionResult", "Escape", "bad_region"]

NAME = "xu2024.bad_region"
START, END = 12.0, 10.0  # radii of start and region in units of the root of d [recalled]
LARGEST = 3.0  # d: at 4 the integrator gives up before the pair has moved
FOR_A_DECADE = 5  # records
MOST = 200_000  # gradients of a flow: at d = 3 some 10 000 do
NARROW = 1e-3  # width of the interval of an escape time, relative to it
PART = 0.9  # of the time to the edge that a stage takes: the law is at most a few per cent long
STAGES = 60


@dataclass(frozen=True)
class Escape:
    r"""When the pair leaves the region :math:`\max\|\mu_i\|\ge10\sqrt d`.

    Attributes
    ----------
    n : int
    d : float
    low, high : float
        Flow time of the last record inside and of the first one outside; NaN if the run ended before.
    message : str
        Empty, or how the run ended.
    """

    n: int
    d: float
    low: float
    high: float
    message: str = ""

    @property
    def time(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2

    @property
    def law(self) -> float:
        """:func:`overparam.theory.xu2024.laws.escape_time`."""
        return laws.escape_time(START * math.sqrt(self.d), END * math.sqrt(self.d), self.n)

    @property
    def published(self) -> float:
        """The bound :math:`e^d/30` on flow time."""
        return math.exp(self.d) / 30


@dataclass(frozen=True, eq=False)
class BadRegionResult(StoppableResult):
    """Result of :func:`bad_region`.

    Attributes
    ----------
    name : str
    settings : dict
    escapes : tuple of Escape
        n by n, over d; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    escapes: tuple[Escape, ...]

    def finished(self) -> BadRegionResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.escapes else None

    def of(self, n: int) -> list[Escape]:
        """The escapes that were found with n parameters, over d."""
        return [one for one in self.escapes if one.n == n and np.isfinite(one.time)]

    def exponent(self, n: int) -> tuple[float, float] | None:
        r"""a and its standard error in the least-squares fit :math:`\ln t=ad+b-\frac12\ln d`; None below three dimensions.

        The power of d is the one in :func:`~overparam.theory.xu2024.laws.escape_time`, whose a is :math:`12^2/8=18`.
        """
        found = self.of(n)
        if len(found) < 3:
            return None
        d = np.array([one.d for one in found])
        y = np.log([one.time for one in found]) + np.log(d) / 2
        centred = d - d.mean()
        slope = centred @ y / (centred @ centred)
        rest = y - y.mean() - slope * centred
        return float(slope), float(np.sqrt(rest @ rest / (len(d) - 2) / (centred @ centred)))

    def figure(self) -> Figure:
        """Return the picture: escape time against d beside the published bound, and the ratio to the law."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, n in enumerate(self.settings["n"]):
            found = self.of(n)
            if not found:
                continue
            d, colour = [one.d for one in found], plotting.COLOURS[number % len(plotting.COLOURS)]
            style = {"markersize": 4 + 2.5 * number, "markerfacecolor": "none", "color": colour, "label": self._label(n)}
            left.plot(d, [one.time for one in found], "o", **style)
            left.plot(d, [one.law for one in found], color=colour, linewidth=0.8)
            right.errorbar(d, [one.time / one.law for one in found],
                           yerr=[(one.high - one.low) / 2 / one.law for one in found], fmt="o-", linewidth=0.8, capsize=2, **style)
        span = np.linspace(min(self.settings["d"]), max(self.settings["d"]), 100)
        left.plot([], [], color="0.4", linewidth=0.8, label="law, no fit")
        left.plot(span, np.exp(span) / 30, "k:", linewidth=1.4, label="published lower bound $e^d/30$")
        left.set_yscale("log")
        left.set_ylabel(r"escape time $t=\eta\tau$")
        left.legend(frameon=False, fontsize="small")
        right.axhline(1.0, color="0.6", linewidth=0.8)
        right.set_ylim(bottom=0.98)
        right.set_ylabel("escape time: measured / law")
        for ax in (left, right):
            ax.set_xlabel(r"dimension $d$ (start at $\pm12\sqrt{d}$)")
        plotting.finish((left, right))
        return figure

    def _label(self, n: int) -> str:
        exponent = self.exponent(n)
        return f"$n={n}$" if exponent is None else rf"$n={n}$: $\propto d^{{-1/2}}e^{{{exponent[0]:.2f}\,d}}$"

    def to_xarray(self) -> Dataset:
        """Return the data over n and d; NaN where nothing was found."""
        import xarray

        axes = {key: list(self.settings[key]) for key in ("n", "d")}
        names = ("time_low", "time_high", "law", "published")
        fields = {name: np.full([len(values) for values in axes.values()], np.nan) for name in names}
        for one in self.escapes:
            at = axes["n"].index(one.n), axes["d"].index(one.d)
            for name, value in zip(names, (one.low, one.high, one.law, one.published), strict=True):
                fields[name][at] = value
        return xarray.Dataset({name: (tuple(axes), values) for name, values in fields.items()}, coords=axes, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each n and d, and the exponents."""
        lines = [self.heading, "",
                 "Flow time t = step size * iteration until max |mu_i| < 10 sqrt(d), from a pair at +-12 sqrt(d) with the others at 0.",
                 "measured: last record inside and first one outside the region; published: some |mu_i| >= 10 sqrt(d) up to e^d/30.", "",
                 f"{'n':>3} {'d':>6}  {'measured':>25}  {'law, no fit':>11}  {'/ law':>6}  {'published':>9}  {'/ published':>11}"]
        for one in self.escapes:
            lines.append(f"{one.n:3d} {one.d:6g}  [{one.low:.5e},{one.high:.5e}]  {one.law:11.5e}  {one.time / one.law:6.3f}  "
                         f"{one.published:9.4g}  {one.time / one.published:11.3g}  {one.message}".rstrip())
        lines.append("")
        for n in self.settings["n"]:
            found = self.exponent(n)
            if found is not None:
                lines.append(f"n={n}: escape time ~ d^(-1/2) e^(a d), a = {found[0]:.3f} +- {found[1]:.3f} measured, 1 published")
        lines += ["law: a = 12^2/8 = 18, the start is where the pair is slowest (12.5 = 10^2/8 is the speed at the region's edge).",
                  "Published: that a bad region exists. Recalled, not checked against the paper: radii 12 and 10, the factor 1/30."]
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the dimensions that were finished")
        return "\n".join(lines)


def _checked(n: Any, d: Any, tol: Any, rtol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)

    def dimension(item: Any) -> float:
        return check_real(float(check_array(item, "d", ndim=0)), "d", minimum=0.1, maximum=LARGEST)

    return {"n": check_numbers(n, "n", 3), "d": check_several(d, "d", f"a number from 0.1 to {LARGEST:g}", dimension),
            "tol": Auto(tol=tol).tol, "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


def _escape(n: int, d: float, settings: dict[str, Any]) -> Escape:
    """Stages up to the first record outside, then others from the last one inside, until the interval between is narrow."""
    edge = END * math.sqrt(d)
    state: Any = START * math.sqrt(d) * np.array([[1.0], [-1.0], [0.0]])
    weights = None if n == 3 else [1 / n, 1 / n, (n - 2) / n]  # those at 0 stay there, and count by their weight only
    objective = KLDivergence(Gaussian([0.0]), weights=weights, rule=Auto(tol=settings["tol"]))

    def left(record: Any) -> bool:
        return bool(np.abs(record.params).max() < edge)

    begin, span = 0.0, _span(state, edge, n)
    for _ in range(STAGES):
        records = log_spaced(int(FOR_A_DECADE * (np.log10(max(span, 1.0)) + 2)) + 2)
        traj = gradient_flow(objective, state, t_end=span, rtol=settings["rtol"], stop=left, record=records,
                             max_evaluations=MOST, progress=False)
        if traj.status == "interrupted":
            raise KeyboardInterrupt
        if traj.status == "completed":  # still inside
            begin, state = begin + span, traj.final_state
            span = _span(traj.final, edge, n)
            continue
        if traj.status != "converged":
            return Escape(n, d, np.nan, np.nan, f"{traj.status}: {traj.message}")
        low, high = begin + float(traj.times[-2]), begin + float(traj.times[-1])
        if high - low <= NARROW * high:
            return Escape(n, d, low, high)
        begin, state, span = low, traj.states[len(traj) - 2], 1.01 * (high - low)
    return Escape(n, d, np.nan, np.nan, f"still inside at flow time {begin:.6g}")


def _span(params: np.ndarray, edge: float, n: int) -> float:
    """How long the next stage should be.

    Once it has left, the pair falls in within :math:`e^{-r^2/8}` of the time that went by, which is soon below what a clock that started
    with the run resolves: the run gets there in stages, of most of the time that the law leaves and with a clock of their own.
    """
    outer = float(np.abs(params).max())
    after = laws.escape_time(edge, edge / 2, n)
    left = laws.escape_time(outer, edge, n) if outer > edge * (1 + 1e-12) else 0.0
    return PART * left if left > after else left + after


@register(NAME, check=_checked, result=BadRegionResult)
def bad_region(n: int | Sequence[int] = (3, 10), d: float | Sequence[float] = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0),
               tol: float = 1e-10, rtol: float = 1e-9, n_jobs: int | None = None, progress: bool | None = None) -> BadRegionResult:
    r"""Gradient EM from the bad region: the time to leave it grows like e^(18 d), far beyond the published bound e^d/30.

    Equal weights, teacher :math:`N(0,I_d)`, :math:`\mu_1=12\sqrt d\,e_1`, :math:`\mu_2=-12\sqrt d\,e_1`, all others 0. The published
    theorem says that some :math:`\|\mu_i\|\ge10\sqrt d` up to :math:`t=e^d/30`. The loss depends on the first coordinate only: the problem
    is one-dimensional, d enters through the radii alone and may be any number. Gradient flow in logarithmic time; some ten seconds.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of parameters, at least 3.
    d : float or sequence of float
        Dimensions, from 0.1 to 3.
    tol, rtol : float
        Relative tolerances of each gradient row, and of the integrator.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    BadRegionResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Xu et al. 2024, arXiv 2407.00490 [published: a bad region exists; recalled: its radii and the bound]; the law [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("xu2024.bad_region", n=3, d=(0.5, 1, 2))
    >>> [f"{one.time:.1e}" for one in result.escapes][1], bool(17 < result.exponent(3)[0] < 19)
    ('3.7e+07', True)
    """
    settings = _checked(n, d, tol, rtol, n_jobs, progress)
    tasks = [(number, dimension, settings) for number in settings["n"] for dimension in settings["d"]]
    found, where = gather(_escape, tasks, n_jobs, progress)
    return BadRegionResult(NAME, settings, found, stopped=where)
