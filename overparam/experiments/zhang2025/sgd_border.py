"""The border of the small-noise regime under minibatches of 1 to 20 000 draws, beside what multiplicative noise should do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, Dynamics, bisect, check_distances, growth, profile
from overparam.experiments.zhang2025.sgd_border_runs import Borders, borders, log_variance
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["SgdBorderResult", "sgd_border"]

NAME = "zhang2025.sgd_border"
_DRAWS = 6400  # a step over all seeds, about: large batches have fewer seeds
_FEWEST, _SEVERAL = 2, 8  # seeds; a standard error or deviation of fewer than the latter says little


@dataclass(frozen=True, eq=False)
class SgdBorderResult(StoppableResult):
    r"""Result of :func:`sgd_border`.

    Attributes
    ----------
    name : str
    settings : dict
    exact : Bracket
        :math:`\ln\varepsilon^*+G` of descent with exact gradients, G its growth.
    batches : tuple of Borders
        Thresholds of every seed, for each batch size; fewer if Ctrl-C came in between.
    stopped : str
    """

    exact: Bracket
    batches: tuple[Borders, ...] = field(default=())

    def finished(self) -> SgdBorderResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.batches else None

    def estimate(self, batch_size: float) -> float:
        r"""The estimate :math:`4\eta M^2/(nB)` of the variance of the logarithm of the growth."""
        found: float = 4 * self.settings["step_size"] * self.settings["M"] ** 2 / (self.settings["n"] * batch_size)
        return found

    def variance(self, batch_size: float) -> float:
        """The same variance without the assumption that steps are small."""
        return log_variance(self.settings["M"], self.settings["n"], self.settings["step_size"], batch_size)

    def figure(self) -> Figure:
        """Return the picture: mean border, its scatter over seeds, and single seeds against what their draws should do."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.0, 3.5), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        sizes = np.geomspace(min(self.settings["batch_size"]), max(self.settings["batch_size"]), 100)
        known = [one for one in self.batches if np.isfinite(one.found).any()]
        B = [one.batch_size for one in known]
        left.axhspan(self.exact.low, self.exact.high, color="0.8", label="exact gradients")
        exact = np.array([self.variance(size) for size in sizes])
        left.plot(sizes, self.exact.middle + exact / 2, color="black", linewidth=1.0, linestyle="--", label="exact + half the variance")
        errors = [one.error if len(one.found) >= _SEVERAL else np.nan for one in known]
        left.errorbar(B, [one.mean for one in known], errors, fmt="o", color=plotting.COLOURS[0], markersize=4, capsize=2,
                      label="mean over seeds")
        left.set_ylabel(r"border $\ln\varepsilon^*+G$")
        middle.plot(sizes, np.sqrt([self.estimate(size) for size in sizes]), color="0.5", linestyle=":",
                    label=r"$\sqrt{4\eta M^2/(nB)}$")
        middle.plot(sizes, np.sqrt(exact), color="black", linewidth=1.0, linestyle="--", label="the same, summed over steps")
        scattered = [one for one in known if len(one.found) >= _SEVERAL]
        middle.errorbar([one.batch_size for one in scattered], [one.deviation for one in scattered],
                        [one.deviation / np.sqrt(2 * (len(one.found) - 1)) for one in scattered], fmt="o", color=plotting.COLOURS[0],
                        markersize=4, capsize=2, label=r"over seeds ($\geq8$)")
        middle.set_yscale("log")
        middle.set_ylabel(r"standard deviation of $\ln\varepsilon^*$")
        for ax in (left, middle):
            ax.set_xscale("log")
            ax.set_xlabel("batch size $B$")
        for number, one in enumerate(scattered):
            right.scatter(one.expected, one.found - self.exact.middle, s=9, color=plotting.COLOURS[number % len(plotting.COLOURS)],
                          label=f"$B={one.batch_size}$")
        ends = np.array(right.get_xlim())
        right.plot(ends, ends, color="black", linewidth=0.8)
        right.set_xlabel("expected of the seed's draws")
        right.set_ylabel(r"measured shift of $\ln\varepsilon^*$")
        for ax in (left, middle, right):
            if ax.get_legend_handles_labels()[0]:
                ax.legend(frameon=False, fontsize="x-small")
        plotting.finish((left, middle, right))
        return figure

    def to_xarray(self) -> Dataset:
        """Return thresholds and what was expected of them over batch size and seed (NaN where there is none), and the predictions."""
        import xarray

        sizes = self.settings["batch_size"]
        most = max((len(one.found) for one in self.batches), default=1)
        found, expected = np.full((2, len(sizes), most), np.nan)
        for place, one in enumerate(self.batches):
            found[place, :len(one.found)], expected[place, :len(one.found)] = one.found, one.expected
        data = {"border": (("batch_size", "seed"), found), "expected_shift": (("batch_size", "seed"), expected),
                "estimate": ("batch_size", [self.estimate(size) for size in sizes]),
                "variance": ("batch_size", [self.variance(size) for size in sizes]),
                "exact_low": self.exact.low, "exact_high": self.exact.high,
                "growth": growth(self.settings["M"], self.settings["n"], self.settings["step_size"])}
        return xarray.Dataset(data, coords={"batch_size": list(sizes)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return mean and scatter of the border for each batch size, beside the predictions."""
        s = self.settings
        lines = [f"n = {s['n']}, M = {s['M']:g}, step size {s['step_size']:g}: all converge up to ln eps = -G + b, G = "
                 f"{growth(s['M'], s['n'], s['step_size']):.3f}; b of each seed to {s['resolution'] / 2:g}",
                 f"exact gradients: b = [{self.exact.low:.3f}, {self.exact.high:.3f}]  "
                 f"{self.exact.message}".rstrip(),
                 "     B  seeds   b (mean over seeds)   expected   deviation  expected  4 eta M^2/(nB), root  correlation by seed   "
                 f"(+- and correlation: {_SEVERAL} seeds or more)"]
        for one in self.batches:
            expected, estimate = self.variance(one.batch_size), self.estimate(one.batch_size)
            spread = f"{one.deviation:.4f}" if len(one.found) > _FEWEST else "-"
            together = f"{one.correlation:.3f}" if np.isfinite(one.correlation) else "-"  # of too few seeds
            error = f"+- {one.error:.3f}" if len(one.found) >= _SEVERAL else "-"  # brackets of two seeds may be the same
            shifted = self.exact.middle + expected / 2
            lines.append(f"{one.batch_size:6d} {len(one.found):6d}   {one.mean:8.3f} {error:<8}    {shifted:8.3f}"
                         f"   {spread:>9} {expected**0.5:9.4f} {estimate**0.5:21.4f} {together:>20}"
                         + (f"   {one.undecided} runs undecided" if one.undecided else "")
                         + ("" if np.isfinite(one.found).all() else f"   {np.isnan(one.found).sum()} seeds outside the search"))
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the parts that were finished")
        return "\n".join(lines)


def _checked(batch_size: Any, M: Any, n: Any, step_size: Any, seeds: Any, resolution: Any, seed: Any, tol: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    distances = check_distances(M)
    if len(distances) != 1 or distances[0] > 5.5:  # absolute parameters: rounding would be seen beyond
        raise ValueError(f"M must be one number, not above 5.5; got {M!r}")
    settings: dict[str, Any] = {"batch_size": tuple(sorted(check_numbers(batch_size, "batch_size", 1))), "M": distances[0],
                                "n": check_integer(n, "n", minimum=2), "step_size": check_positive(step_size, "step_size"),
                                "seeds": check_integer(seeds, "seeds", minimum=_FEWEST),
                                "resolution": check_real(resolution, "resolution", minimum=1e-3, maximum=1.0),
                                "seed": check_integer(seed, "seed"),
                                "tol": Auto(tol=tol).tol}
    if 4 * settings["step_size"] * settings["M"] ** 2 > 2 * settings["n"]:
        raise ValueError(f"step_size must keep deviations from more than tripling in a step, 4 step_size M^2/n <= 2; got {step_size!r}")
    return settings


@register(NAME, check=_checked, result=SgdBorderResult)
def sgd_border(batch_size: int | Sequence[int] = (1, 3, 10, 30, 100, 300, 1000, 20_000), M: float = 4.0, n: int = 5,
               step_size: float = 0.05, seeds: int = 64, resolution: float = 0.02, seed: int = 0, tol: float = 1e-8,
               n_jobs: int | None = None, progress: bool | None = None) -> SgdBorderResult:
    r"""The border under minibatches: it scatters by what the batch means do to the growth, and hardly moves, down to one draw a step.

    Stochastic descent in one dimension from :math:`\mu_i=M+\varepsilon z_i`, z equispaced with root mean square 1. Every seed has a
    threshold :math:`\ln\varepsilon^*` up to which all parameters converge, bisected with the same draws. To first order about a common
    point c a batch with mean :math:`\bar x` multiplies deviations by :math:`1+\frac{4\eta}nc(c-\bar x)` and leaves the centre's path alone,
    so that the logarithm of the growth, and with it the threshold, gets the variance :math:`4\eta M^2/(nB)` for small steps; its mean
    rises by half of that. About a minute.

    Parameters
    ----------
    batch_size : int or sequence of int
        B.
    M : float
        Distance of the start from the target, at most 5.5.
    n : int
        Number of parameters.
    step_size : float
        :math:`\eta`.
    seeds : int
        Seeds of each batch size, at least 2; fewer where B is large, so that a step has about 6400 draws.
    resolution : float
        Width of the intervals of thresholds.
    seed : int
        Of all draws.
    tol : float
        Relative tolerance of each gradient row of the exact descent.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SgdBorderResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    The noise is multiplicative in every state in which the student is right: at the target it vanishes, so that batches of one draw still
    converge. Where the linear law ends (deviations of order one) single thresholds move a little on their own.

    References
    ----------
    Zhang et al., arXiv 2511.22069, experiments: batches of 20 000 [published]; the law of the scatter [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.sgd_border", batch_size=10, M=2.0, n=3, step_size=0.1, seeds=8, resolution=0.5)
    >>> bool(abs(result.batches[0].mean - result.exact.middle) < 1)
    True
    """
    settings = _checked(batch_size, M, n, step_size, seeds, resolution, seed, tol, n_jobs, progress)
    tasks: list[tuple[int | None, dict[str, Any]]] = [(None, settings), *((size, settings) for size in settings["batch_size"])]
    found, where = gather(_part, tasks, n_jobs, progress, "parts")
    return SgdBorderResult(NAME, settings, found[0], tuple(found[1:]), stopped=where)


def _part(batch_size: int | None, settings: dict[str, Any]) -> Bracket | Borders:
    """The border of exact descent (None), or those of a batch size."""
    M, n, eta, resolution = (settings[key] for key in ("M", "n", "step_size", "resolution"))
    z = profile("equispaced", n)
    if batch_size is not None:
        seeds = int(np.clip(_DRAWS // batch_size, _FEWEST, settings["seeds"]))
        return borders(M, z, eta, batch_size, seeds, resolution, settings["seed"])
    dynamics, G = Dynamics(eta, settings["tol"]), growth(M, n, eta)

    def holds(b: float) -> tuple[bool | None, str]:
        fate = dynamics.fate(M, 1, z, b - G)
        return None if fate.k is None else fate.k == n, fate.reason

    return bisect(holds, 2.0, 3.0, resolution)
