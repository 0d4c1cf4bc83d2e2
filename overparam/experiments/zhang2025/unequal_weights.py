"""Unequal weights create spread from nothing: how many parameters converge from one point, and what dividing by the weights restores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_several
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, bisect, check_distances, profile
from overparam.experiments.zhang2025.unequal_weights_runs import (
    Pair,
    decided_number,
    equal_weights_border,
    log_amplification,
    pair,
    weights_of,
)
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["UnequalWeightsResult", "unequal_weights"]

NAME = "zhang2025.unequal_weights"
_LARGEST = 0.6  # of the weights' perturbation: the equispaced profile's largest entry is below 1.74, and weights must stay above 0
_FARTHEST = 6.0  # where the border is at 3e-14: closer to rounding, weights no longer have the perturbation they are given
_SPREAD = 1e-12  # of the starts of pairs: below the border of equal weights up to M = 5.4
_PAIR_M, _PAIR_PERTURBATION = (2.0, 5.0), (1e-4, 0.5)  # between which pairs are drawn


@dataclass(frozen=True, eq=False)
class UnequalWeightsResult(StoppableResult):
    r"""Result of :func:`unequal_weights`.

    Attributes
    ----------
    name : str
    settings : dict
    numbers : dict
        k for each (M, perturbation); None where the run stayed undecided.
    borders : dict
        For each M a :class:`~overparam.experiments.zhang2025.phase_boundary_runs.Bracket` of
        :math:`\ln(|\delta\pi|/\pi)+\ln\int_0^Me^{m^2}dm`: at ``low`` all parameters converge, at ``high`` fewer do.
    reference : Bracket or None
        Of :math:`\ln\varepsilon+M^2` for equal weights and the same profile of places: what the borders are predicted to be.
    pairs : tuple of Pair
        Descents from the same starts, plain and divided by the weights.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    numbers: dict[tuple[float, float], int | None]
    borders: dict[float, Bracket] = field(default_factory=dict)
    reference: Bracket | None = None
    pairs: tuple[Pair, ...] = ()

    def finished(self) -> UnequalWeightsResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.numbers else None

    def restored(self) -> tuple[int, int, int]:
        """Of how many pairs all parameters converge in plain descent, in descent divided by the weights, and how many pairs there are."""
        n = self.settings["n"]
        return sum(one.plain == n for one in self.pairs), sum(one.divided == n for one in self.pairs), len(self.pairs)

    def figure(self) -> Figure:
        """Return the picture: k over the plane with the border, and k of plain and divided descent from the same starts."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        first, second = figure.subplots(1, 2)
        found = [(M, size, k) for (M, size), k in self.numbers.items()]
        self._points(first, found, marker="s", size=34)
        M = np.linspace(0.9 * min(self.settings["M"]), 1.05 * max(self.settings["M"]), 100)
        scale = np.array([log_amplification(m) for m in M])
        first.plot(M, np.exp(-(M**2)), color="0.5", linestyle=":", linewidth=1.0, label=r"$e^{-M^2}$")
        if self.reference is not None and self.reference.found:
            line = np.exp(self.reference.middle - scale)
            for ax in (first, second):
                ax.plot(M, np.minimum(line, 1.0), color="black", linestyle="--", linewidth=1.0,
                        label=r"$e^{\kappa}\,/\int_0^M e^{m^2}dm$ (no fit)")
        known = {m: border for m, border in self.borders.items() if border.found}
        first.plot(list(known), [math.exp(border.middle - log_amplification(m)) for m, border in known.items()], "kx", markersize=6,
                   label="border, measured")
        first.set_ylabel(r"perturbation of the weights $|\delta\pi|/\pi$")
        first.set_title(f"one point, gradient flow, $n={self.settings['n']}$", fontsize="medium")
        self._points(second, [(one.M, one.perturbation, one.plain) for one in self.pairs], marker="o", size=30)
        for k in range(self.settings["n"] + 1):
            at = [one for one in self.pairs if one.divided == k]
            second.scatter([one.M for one in at], [one.perturbation for one in at], s=110, facecolors="none", linewidths=1.3,
                           edgecolors=_colour(k, self.settings["n"]))
        if self.pairs:
            sizes = [one.perturbation for one in self.pairs]
            second.set_ylim(min(sizes) / 3, 3 * max(sizes))
            second.set_xlim(_PAIR_M[0] - 0.3, _PAIR_M[1] + 0.3)
        second.set_ylabel(r"perturbation of the weights $|\delta\pi|/\pi$")
        second.set_title("dot: plain descent, ring: divided", fontsize="medium")
        handles: dict[str, Any] = {}
        for letter, ax in zip("ab", (first, second), strict=True):
            ax.set_yscale("log")
            ax.set_xlabel("distance $M$ of the start")
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
            handles.update({label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)})
        order = sorted(handles, key=lambda label: (not label.startswith("$k"), label))
        figure.legend([handles[label] for label in order], order, loc="outside right center", frameon=False, fontsize="small")
        return figure

    def _points(self, ax: Axes, found: list[tuple[float, float, int | None]], marker: str, size: float) -> None:
        for k in range(self.settings["n"] + 1):
            at = [(M, height) for M, height, number in found if number == k]
            if at:
                near, heights = zip(*at, strict=True)
                ax.scatter(near, heights, s=size, marker=marker, color=_colour(k, self.settings["n"]), label=f"$k={k}$")
        open_ = [(M, height) for M, height, number in found if number is None]
        if open_:
            near, heights = zip(*open_, strict=True)
            ax.scatter(near, heights, s=size, marker="x", color="0.6", label="undecided")

    def to_xarray(self) -> Dataset:
        """Return k over M and perturbation, the borders over M, and the pairs; NaN where there is none or a run is undecided."""
        import xarray

        distances, sizes = self.settings["M"], self.settings["perturbation"]
        numbers = np.full((len(distances), len(sizes)), np.nan)
        for (M, size), k in self.numbers.items():
            numbers[distances.index(M), sizes.index(size)] = np.nan if k is None else k
        ends = np.full((2, len(distances)), np.nan)
        for M, border in self.borders.items():
            ends[:, distances.index(M)] = np.array([border.low, border.high]) - log_amplification(M)
        plain, divided = (np.array([np.nan if k is None else k for k in column], dtype=np.float64)
                          for column in ([one.plain for one in self.pairs], [one.divided for one in self.pairs]))
        data = {"converged": (("M", "perturbation"), numbers), "border_low": ("M", ends[0]), "border_high": ("M", ends[1]),
                "pair_M": ("pair", [one.M for one in self.pairs]), "pair_perturbation": ("pair", [one.perturbation for one in self.pairs]),
                "pair_plain": ("pair", plain), "pair_divided": ("pair", divided)}
        return xarray.Dataset(data, coords={"M": list(distances), "perturbation": list(sizes)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return k over the plane, the borders beside the law, and what division by the weights restored."""
        sizes = self.settings["perturbation"]
        lines = [f"n = {self.settings['n']}, all at one point at distance M: how many converge (flow), by |delta pi|/pi",
                 "     M  " + "".join(f"{size:>8.0e}" for size in sizes)]
        for M in self.settings["M"]:
            row = [self.numbers.get((M, size), "") for size in sizes]
            lines.append(f"{M:6.2f}  " + "".join(f"{'open' if k is None else k:>8}" for k in row))
        for M, border in self.borders.items():
            shift = log_amplification(M)
            lines.append(f"M = {M:g}: all converge up to ln(|delta pi|/pi) = [{border.low - shift:.3f}, {border.high - shift:.3f}]: "
                         f"-ln int_0^M exp(m^2) dm + [{border.low:.3f}, {border.high:.3f}]  {border.message}".rstrip())
        if self.reference is not None:
            lines.append(f"equal weights, same profile of places: ln(spread) + M^2 = [{self.reference.low:.3f}, {self.reference.high:.3f}] "
                         f"at M = 4  {self.reference.message}".rstrip())
        if self.pairs:
            plain, divided, count = self.restored()
            undecided = sum((one.plain is None) + (one.divided is None) for one in self.pairs)
            lines.append(f"descent from spread {_SPREAD:g} with random weights: all converge in {plain} of {count} starts; divided by the "
                         f"weights in {divided} of {count}; {undecided} of {2 * count} runs undecided")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the parts that were finished")
        return "\n".join(lines)


def _colour(k: int, n: int) -> tuple[float, ...]:
    """From light (none) to dark (all)."""
    from matplotlib import colormaps

    return colormaps["viridis_r"](k / n) if k else colormaps["Greys"](0.4)


def _checked(M: Any, perturbation: Any, n: Any, weights_profile: Any, pairs: Any, step_size: Any, resolution: Any, seed: Any, tol: Any,
             rtol: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    distances = check_distances(M)
    if max(distances) > _FARTHEST:
        raise ValueError(f"M must not be above {_FARTHEST:g}: beyond, weights cannot be as equal as the border asks; got {M!r}")
    sizes = check_several(perturbation, "perturbation", f"a number from 1e-15 to {_LARGEST:g}",
                          lambda item: check_real(item, "perturbation", minimum=1e-15, maximum=_LARGEST))
    if not isinstance(weights_profile, str) or weights_profile not in ("equispaced", "one near", "one far"):
        raise ValueError(f"weights_profile must be 'equispaced', 'one near' or 'one far'; got {weights_profile!r}")
    settings: dict[str, Any] = {"M": tuple(sorted(distances)), "perturbation": tuple(sorted(sizes)), "n": check_integer(n, "n", minimum=2),
                                "weights_profile": weights_profile, "pairs": check_integer(pairs, "pairs", minimum=0),
                                "step_size": check_positive(step_size, "step_size"),
                                "resolution": check_real(resolution, "resolution", minimum=1e-6, maximum=1.0),
                                "seed": check_integer(seed, "seed", minimum=0), "tol": Auto(tol=tol).tol,
                                "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}
    least = profile(weights_profile, settings["n"]).min() * max(sizes)
    if least <= -1:
        raise ValueError(f"perturbation must leave every weight above 0; {max(sizes):g} times the profile's smallest entry is {least:.3g}")
    return settings


@register(NAME, check=_checked, result=UnequalWeightsResult)
def unequal_weights(M: float | Sequence[float] = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0),
                    perturbation: float | Sequence[float] = (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.5), n: int = 5,
                    weights_profile: str = "equispaced", pairs: int = 20, step_size: float = 0.02, resolution: float = 0.05, seed: int = 0,
                    tol: float = 1e-7, rtol: float = 1e-6, n_jobs: int | None = None,
                    progress: bool | None = None) -> UnequalWeightsResult:
    r"""Exactly coincident starts with unequal weights split as if they had a spread: k over the perturbation of the weights and M.

    Weights :math:`\pi_i=\frac1n(1+\rho z_i)` with z of mean 0 and root mean square 1, :math:`\rho=|\delta\pi|/\pi`. At a common point m
    the gradient is :math:`2\pi_im`: the heavier move faster. To first order deviations along m obey
    :math:`\dot\delta_i=-2\,\delta\pi_i\,m+\frac4n\|m\|^2\delta_i`, so that they arrive as :math:`-\rho z_i\int_0^Me^{m^2}dm`, as places
    :math:`-\varepsilon z_i` arrive as :math:`-\varepsilon e^{M^2}z_i` with equal weights. Hence all converge up to
    :math:`\ln\rho=\kappa-\ln\int_0^Me^{m^2}dm\approx\kappa-M^2+\ln2M` with the :math:`\kappa` of equal weights.

    Second part: gradient descent with random weights from places 1e-12 apart, plain and with each row divided by :math:`n\pi_i`
    (``precondition="weights"``). Divided, a common point moves as one and deviations grow as with equal weights. About a minute.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the start from the target, at most 6.
    perturbation : float or sequence of float
        :math:`\rho`.
    n : int
        Number of parameters.
    weights_profile : str
        z: "equispaced", "one near" (one of small weight), or "one far" (one of large weight).
    pairs : int
        Starts of the second part, with M from 2 to 5, :math:`\rho` from 1e-4 to 0.5 and normal z.
    step_size : float
        Of the second part's descents; with division by :math:`n\pi_i` both are alike at equal weights.
    resolution : float
        Width of the intervals of borders.
    seed : int
        The second part's starts are ``default_rng([seed, number])``'s.
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
    UnequalWeightsResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.2 [published: equal weights are a hypothesis]; the law of the border [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.unequal_weights", M=3.0, perturbation=(1e-6, 0.1), n=3, pairs=0, resolution=0.5)
    >>> result.numbers
    {(3.0, 1e-06): 3, (3.0, 0.1): 1}
    """
    settings = _checked(M, perturbation, n, weights_profile, pairs, step_size, resolution, seed, tol, rtol, n_jobs, progress)
    tasks: list[tuple[str, Any, dict[str, Any]]] = [("numbers", m, settings) for m in settings["M"]]
    tasks += [("border", m, settings) for m in settings["M"]] + [("reference", None, settings)]
    tasks += [("pair", number, settings) for number in range(settings["pairs"])]
    found, where = gather(_part, tasks, n_jobs, progress, "parts")
    numbers: dict[tuple[float, float], int | None] = {}
    for (kind, m, _), part in zip(tasks, found, strict=False):
        if kind == "numbers":
            numbers |= {(m, size): k for size, k in part.items()}
    of = {kind: {which: part for (name, which, _), part in zip(tasks, found, strict=False) if name == kind}
          for kind in ("border", "reference", "pair")}
    return UnequalWeightsResult(NAME, settings, numbers, of["border"], of["reference"].get(None), tuple(of["pair"].values()), stopped=where)


def _part(kind: str, which: Any, settings: dict[str, Any]) -> Any:
    """One part: a column of the plane, a border, the border of equal weights, or a pair of descents."""
    n, shape = settings["n"], profile(settings["weights_profile"], settings["n"])
    accuracy = settings["tol"], settings["rtol"]
    if kind == "numbers":
        return {size: decided_number(which, weights_of(shape, size), *accuracy)[0] for size in settings["perturbation"]}
    if kind == "reference":
        return equal_weights_border(shape, *accuracy, settings["resolution"])
    if kind == "pair":
        rng = np.random.default_rng([settings["seed"], which])
        return pair(rng, n, _PAIR_M, _PAIR_PERTURBATION, _SPREAD, settings["step_size"], settings["tol"])

    def holds(b: float) -> tuple[bool | None, str]:
        size = math.exp(b - log_amplification(which))
        if size * -shape.min() >= 1:
            return None, f"a weight of 0 or below at |delta pi|/pi = {size:.3g}"
        k, reason = decided_number(which, weights_of(shape, size), *accuracy)
        return None if k is None else k == n, reason

    return bisect(holds, 2.0, 3.0, settings["resolution"], reach=4.0)
