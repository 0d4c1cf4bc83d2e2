"""How far from sharp the conditions of Zhang et al. 2025 are: published thresholds beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_array, check_integer, check_positive
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult
from overparam.theory.thresholds import Sharpness
from overparam.theory.thresholds import sharpness as measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["SharpnessResult", "sharpness"]

NAME = "zhang2025.sharpness"
#: Theorems whose condition is on M0, and their markers.
DISTANCES = {"theorem_3_4": "o", "theorem_3_5": "s", "theorem_3_7": "^", "corollary_3_6": "D"}


@dataclass(frozen=True, eq=False)
class SharpnessResult(StoppableResult):
    """Result of :func:`sharpness`.

    Attributes
    ----------
    name : str
    settings : dict
    thresholds : tuple of Sharpness
        What :func:`overparam.theory.sharpness` found for each theorem, condition and problem; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    thresholds: tuple[Sharpness, ...]

    def finished(self) -> SharpnessResult | None:
        """Return what was measured; None if there is nothing."""
        return self if self.thresholds else None

    def of(self, theorem: str, vary: str) -> list[Sharpness]:
        """The thresholds of one condition, such as ``of("theorem_3_2", "spread")``."""
        return [one for one in self.thresholds if one.name == f"zhang2025.{theorem}" and one.vary == vary]

    def figure(self) -> Figure:
        """Return the picture: spread and weights against M0, distances against n, noise time and step size against n."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        axes = figure.subplots(2, 2)
        self._draw_spread(axes[0, 0])
        self._draw_weights(axes[0, 1])
        self._draw_distances(axes[1, 0])
        self._draw_large_noise(axes[1, 1])
        for ax in axes.ravel():
            if ax.get_legend_handles_labels()[0]:
                ax.legend(frameon=False, fontsize="small")
        plotting.finish(axes.ravel())
        return figure

    def _draw_spread(self, ax: Axes) -> None:
        found = self.of("theorem_3_2", "spread")
        for number, n in enumerate(self.settings["n"]):
            mine = [one for one in found if one.problem["n"] == n and one.measured is not None]
            colour = plotting.COLOURS[number % len(plotting.COLOURS)]
            if mine:
                distances = [one.problem["M0"] for one in mine]
                ax.plot(distances, [-one.published for one in mine], ":", color=colour, label=f"published, $n={n}$")
                ax.plot(distances, [-one.measured for one in mine], "o", color=colour, markerfacecolor="none", label=f"measured, $n={n}$")
        M0 = np.linspace(min(self.settings["M0"]), max(self.settings["M0"]), 50)
        ax.plot(M0, M0**2 - 3, "--", color="0.5", label="$M_0^2-3$")
        ax.set_yscale("log")
        ax.set_xlabel("distance $M_0$")
        ax.set_ylabel(r"$-\ln$ of the spread allowed (3.2)")

    def _draw_weights(self, ax: Axes) -> None:
        for number, n in enumerate(self.settings["n"]):
            mine = [one for one in self.of("theorem_3_2", "weights") if one.problem["n"] == n and one.measured is not None]
            if mine:
                distances, colour = [one.problem["M0"] for one in mine], plotting.COLOURS[number % len(plotting.COLOURS)]
                ax.plot(distances, [one.measured for one in mine], "o", color=colour, markerfacecolor="none", label=f"measured, $n={n}$")
                law = [one for one in mine if one.derived is not None]
                if law:
                    ax.plot([one.problem["M0"] for one in law], [one.derived for one in law], "--", color=colour,
                            label=r"$-M_0^2+\kappa-\ln D(M_0)$")
        ax.set_xlabel("distance $M_0$")
        ax.set_ylabel(r"$\ln(|\delta\pi|/\pi)$ allowed (3.2; published: none)")

    def _draw_distances(self, ax: Axes) -> None:
        numbers = sorted({one.problem["n"] for theorem in DISTANCES for one in self.of(theorem, "M0")})
        if numbers:
            ax.plot(numbers, [1e9 * n**10 for n in numbers], "k:", label=r"published $10^9\sqrt{d}\,n^{10}$")
        for number, (theorem, marker) in enumerate(DISTANCES.items()):
            mine = [one for one in self.of(theorem, "M0") if one.interval is not None]
            if mine:
                middle = np.exp([one.measured for one in mine])
                ends = np.exp(np.array([one.interval for one in mine]).T)
                ax.errorbar([one.problem["n"] + 0.04 * number for one in mine], middle, yerr=np.abs(ends - middle), fmt=marker,
                            markersize=5, markerfacecolor="none", capsize=2, color=plotting.COLOURS[number],
                            label=theorem.replace("_", " ", 1).replace("_", ".").capitalize())
        ax.set_yscale("log")
        ax.set_xlabel("number of students $n$")
        ax.set_ylabel("distance $M_0$ needed")
        ax.set_xticks(numbers)

    def _draw_large_noise(self, ax: Axes) -> None:
        for vary, label, colour, marker in (("noise_time", r"$t-\ln M$ needed", plotting.COLOURS[0], "o"),
                                            ("step_size", r"$\ln\eta$ allowed", plotting.COLOURS[1], "s")):
            mine = [one for one in self.of("theorem_2_1", vary) if one.measured is not None]
            if mine:
                numbers = [one.problem["n"] for one in mine]
                ax.plot(numbers, [one.published for one in mine], ":", color=colour, marker=".",
                        label=f"{label}, published" + (" order" if vary == "step_size" else ""))
                ax.plot(numbers, [one.measured for one in mine], marker, color=colour, markerfacecolor="none", label=f"{label}, measured")
                ax.set_xticks(sorted({*ax.get_xticks(), *numbers} & set(self.settings["n"]) | set(numbers)))
        ax.set_xlabel("number of students $n$ (Theorem 2.1)")
        ax.set_ylabel("natural logarithm")

    def to_xarray(self) -> Dataset:
        """Return one row for each threshold; NaN where nothing was found or does not apply."""
        import xarray

        def column(values: list[Any]) -> tuple[str, np.ndarray]:
            return "threshold", np.array([np.nan if value is None else value for value in values], dtype=np.float64)

        found = self.thresholds
        data: dict[str, Any] = {name: column([getattr(one, name) for one in found])
                                for name in ("published", "holds", "fails", "measured", "nats", "derived", "undecided")}
        data |= {name: column([one.problem.get(name) for one in found]) for name in ("n", "d", "M0", "M", "failure", "eps")}
        data |= {"runs": column([len(one.probes) for one in found]),
                 "tag": ("threshold", np.array([one.tag for one in found], dtype=str)),
                 "quantity": ("threshold", np.array([one.quantity for one in found], dtype=str))}
        return xarray.Dataset(data, coords={"threshold": np.array([f"{one.name} {one.vary} {number}" for number, one in enumerate(found)],
                                                                  dtype=str)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each threshold; all numbers are natural logarithms, a noise time as it is."""
        lines = ["theorem        condition   problem             published [tag]            measured             room   expected"]
        for one in self.thresholds:
            given = " ".join(f"{key}={one.problem[key]:g}" for key in ("n", "M0", "failure", "eps") if key in one.problem)
            ends = "" if one.interval is None else f"{one.interval[0]:.3f} to {one.interval[1]:.3f}"
            room = "" if one.nats is None else f"{one.nats:.5g}"
            expected = "" if one.derived is None else f"{one.derived:.3f}"
            lines.append(f"{one.name.split('.')[1]:14s} {one.vary:11s} {given:18s} {one.published:11.5g} {'[' + one.tag + ']':15s} "
                         f"{ends:>20s} {room:>8s}   {expected:>8s}" + (f"  not found: {one.stopped}" if one.interval is None else ""))
        return "\n".join(lines)


def _checked(n: Any, d: Any, M0: Any, samples: Any, resolution: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"n": tuple(check_integer(value, "n", minimum=2) for value in _several(n, "n")), "d": check_integer(d, "d", minimum=1),
            "M0": tuple(check_positive(value, "M0") for value in _several(M0, "M0")), "samples": check_integer(samples, "samples"),
            "resolution": check_positive(resolution, "resolution")}


def _several(value: Any, name: str) -> list[float]:
    try:
        if isinstance(value, bool):
            raise ValueError
        numbers = check_array(value, name, ndim=(0, 1)).ravel().tolist()
    except ValueError:
        raise ValueError(f"{name} must be a number or several; got {value!r}") from None
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"{name} must name each number once; got {value!r}")
    return numbers


def _problems(settings: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Theorem, condition and problem of every threshold."""
    shared, found = {"d": settings["d"]}, []
    for n in settings["n"]:
        for distance in settings["M0"]:
            found += [("theorem_3_2", vary, {"n": n, "M0": distance, **shared}) for vary in ("spread", "weights")]
        found += [(theorem, "M0", {"n": n, **shared}) for theorem in ("theorem_3_4", "theorem_3_5", "theorem_3_7")]
        found += [("theorem_2_1", "noise_time", {"n": n, **shared})] if n >= 3 else []
        found += [("theorem_2_1", "step_size", {"n": n, **shared})]
    if settings["samples"]:
        found.append(("corollary_3_6", "M0", {"n": settings["n"][0], "samples": settings["samples"], **shared}))
    return found


@register(NAME, check=_checked, result=SharpnessResult)
def sharpness(n: int | Sequence[int] = (2, 3), d: int = 1, M0: float | Sequence[float] = (3.0, 4.0, 5.0), samples: int = 40,
              resolution: float = 0.1, progress: bool | None = None) -> SharpnessResult:
    r"""How far from sharp the theorems' conditions are: published thresholds beside measured ones.

    For each condition its value is pushed until the conclusion fails, by bisection on runs (:func:`overparam.theory.sharpness`): the
    initial spread and the equal weights of Theorem 3.2; the distance M0 of Theorems 3.4, 3.5, 3.7 and of Corollary 3.6; the noise time
    and the step size of Theorem 2.1. The published spread :math:`e^{-106ndM_0^3}` meets :math:`e^{-M_0^2+3}`, the published
    :math:`M_0>10^9\sqrt d\,n^{10}` some 2.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of students.
    d : int
        Dimension.
    M0 : float or sequence of float
        Distances for Theorem 3.2.
    samples : int
        Random starts at each M0 tried for Corollary 3.6 (with the first n, failures in a tenth); 0 leaves it out.
    resolution : float
        Width of the intervals in nats; 0.2 at least for Corollary 3.6.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SharpnessResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069 [published, and for 3.4 reconstructed: the thresholds]; what is measured [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.sharpness", n=2, M0=2.0, samples=0, resolution=0.5)
    >>> [one.nats > 20 for one in result.of("theorem_3_5", "M0")]
    [True]
    """
    settings = _checked(n, d, M0, samples, resolution, progress)
    from overparam._progress import tqdm

    found: list[Sharpness] = []
    where = "before any threshold"
    try:
        problems = _problems(settings)
        with tqdm(total=len(problems), delay=2.0, leave=False, disable=None if progress is None else not progress) as bar:
            for theorem, vary, problem in problems:
                where = f"in {theorem}, {vary}, n = {problem['n']}" + (f", M0 = {problem['M0']:g}" if "M0" in problem else "")
                bar.set_description(where)
                width = max(settings["resolution"], 0.2) if theorem == "corollary_3_6" else settings["resolution"]
                found.append(measure(f"zhang2025.{theorem}", vary=vary, resolution=width, progress=False, **problem))
                bar.update()
    except KeyboardInterrupt:
        if not found:
            raise KeyboardInterrupt(where) from None
        return SharpnessResult(NAME, settings, tuple(found), stopped=where)
    return SharpnessResult(NAME, settings, tuple(found))
