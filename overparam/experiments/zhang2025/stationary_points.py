"""Theorem 3.1 of Zhang et al. 2025: stationary points that are no global minima, and their spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, stationary
from overparam._validation import check_array, check_integer, check_real
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.stationary import StationaryPoint
from overparam.teachers import Gaussian

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["StationaryPointsResult", "stationary_points"]

NAME = "zhang2025.stationary_points"
MOST = 2000  # coordinates n·d: the Hessian's eigenvalues then take some seconds
SCAN = np.arange(1.0, 8.01, 0.5)  # where the maximum of L(s) is looked for: it lies at 2.55 for n = 3 and at 3.53 for n = 100


@dataclass(frozen=True, eq=False)
class StationaryPointsResult(StoppableResult):
    """Result of :func:`stationary_points`.

    Attributes
    ----------
    name : str
    settings : dict
    points : dict
        A :class:`~overparam.stationary.StationaryPoint` for each (n, d); fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    points: dict[tuple[int, int], StationaryPoint]

    def finished(self) -> StationaryPointsResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.points else None

    def distance(self, n: int, d: int) -> float:
        """Half the distance of the pair: s*."""
        first, second = self.points[n, d].params[:2]
        return float(np.linalg.norm(first - second)) / 2

    def figure(self) -> Figure:
        """Return the picture: s* and the loss against n, and for each d the spectrum against n."""
        from matplotlib.figure import Figure

        dimensions = self.settings["d"]
        figure = Figure(figsize=(3.4 * (2 + len(dimensions)), 3.2), layout="constrained")
        axes = figure.subplots(1, 2 + len(dimensions), squeeze=False)[0]
        self._draw_curve(axes[0], lambda n, d: self.distance(n, d), r"distance $s^*$")
        self._draw_curve(axes[1], lambda n, d: self.points[n, d].value, r"loss $L(s^*)$")
        for d, ax in zip(dimensions, axes[2:], strict=True):
            self._draw_spectra(ax, d)
            if d == dimensions[0]:
                ax.legend(frameon=False, fontsize="small", loc="center right", bbox_to_anchor=(1.0, 0.3))
        for ax in axes:
            ax.set_xlabel("number of parameters $n$")
        plotting.finish(axes)
        return figure

    def _draw_curve(self, ax: Axes, value: Any, label: str) -> None:
        """A curve for each d, its markers wider than those before: the curves coincide."""
        for place, d in enumerate(self.settings["d"]):
            known = [n for n in self.settings["n"] if (n, d) in self.points]
            ax.plot(known, [value(n, d) for n in known], marker="o", markersize=2 + 3 * place, markerfacecolor="none", linewidth=0.8,
                    color=plotting.COLOURS[place % len(plotting.COLOURS)], label=f"$d={d}$")
        ax.set_ylabel(label)
        ax.legend(frameon=False, fontsize="small")

    def _draw_spectra(self, ax: Axes, d: int) -> None:
        signs = {"negative": (plotting.COLOURS[1], "v"), "null": ("0.5", "o"), "positive": (plotting.COLOURS[0], "^")}
        for label, (colour, marker) in signs.items():
            places, values = [], []
            for (n, dimension), point in self.points.items():
                if dimension == d:
                    chosen = _eigenvalues(point)[label]
                    places += [n] * len(chosen)
                    values += chosen.tolist()
            ax.scatter(places, values, s=14, marker=marker, facecolors="none", edgecolors=colour, linewidths=0.9, label=label)
        ax.set_yscale("symlog", linthresh=1e-4)
        ax.set_title(f"$d={d}$", fontsize="medium")
        ax.set_ylabel("eigenvalues of the Hessian")

    def to_xarray(self) -> Dataset:
        """Return the data over n, d and number of the eigenvalue; NaN where there is none."""
        import xarray

        numbers, dimensions = self.settings["n"], self.settings["d"]
        shape = len(numbers), len(dimensions)
        fields = {name: np.full(shape, np.nan) for name in ("distance", "loss", "grad_norm")}
        counts = {name: np.zeros(shape, dtype=np.int64) for name in ("negative", "null", "positive", "iterations")}
        words = {name: np.full(shape, "", dtype=object) for name in ("kind", "status")}
        spectra = np.full((*shape, max(numbers) * max(dimensions)), np.nan)
        for (n, d), point in self.points.items():
            at = numbers.index(n), dimensions.index(d)
            fields["distance"][at], fields["loss"][at], fields["grad_norm"][at] = self.distance(n, d), point.value, point.grad_norm
            for group in (counts, words):
                for name in group:
                    group[name][at] = getattr(point, name)
            spectra[at][:n * d] = point.hessian_eigenvalues
        data: dict[str, Any] = {name: (("n", "d"), values) for name, values in {**fields, **counts}.items()}
        data |= {name: (("n", "d"), values.astype(str)) for name, values in words.items()}
        data["eigenvalue"] = (("n", "d", "mode"), spectra)
        return xarray.Dataset(data, coords={"n": list(numbers), "d": list(dimensions)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each n and d."""
        lines = ["  n   d          s*             L     |grad|  negative  null  positive  lowest     kind"]
        for (n, d), point in self.points.items():
            lines.append(f"{n:3d} {d:3d}  {self.distance(n, d):.8f}  {point.value:12.8f}  {point.grad_norm:9.1e}  {point.negative:8d}  "
                         f"{point.null:4d}  {point.positive:8d}  {point.hessian_eigenvalues[0]:9.6f}  {point.kind}")
        return "\n".join(lines)


def _eigenvalues(point: StationaryPoint) -> dict[str, np.ndarray]:
    """The ascending spectrum by sign; null ones shown as 0."""
    values = point.hessian_eigenvalues
    return {"negative": values[:point.negative], "null": np.zeros(point.null), "positive": values[len(values) - point.positive:]}


def _checked(n: Any, d: Any, tol: Any, null_tolerance: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    settings: dict[str, Any] = {"n": _integers(n, "n", 3), "d": _integers(d, "d", 1), "tol": Auto(tol=tol).tol,
                                "null_tolerance": check_real(null_tolerance, "null_tolerance", minimum=0.0, maximum=1.0)}
    largest = max(settings["n"]) * max(settings["d"])
    if largest > MOST:
        raise ValueError(f"n and d must not make more than {MOST} coordinates n·d; got {max(settings['n'])}·{max(settings['d'])}")
    return settings


def _integers(value: Any, name: str, least: int) -> tuple[int, ...]:
    try:
        if isinstance(value, bool):
            raise ValueError
        numbers = tuple(check_integer(number, name, minimum=least) for number in check_array(value, name, ndim=(0, 1)).ravel().tolist())
    except ValueError:
        raise ValueError(f"{name} must be a whole number not below {least}, or several; got {value!r}") from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name} must not name a number twice; got {value!r}")
    return numbers


@register(NAME, check=_checked, result=StationaryPointsResult)
def stationary_points(n: int | Sequence[int] = (3, 4, 5, 6, 7, 8, 9, 10), d: int | Sequence[int] = (1, 2, 3), tol: float = 1e-10,
                      null_tolerance: float = 1e-7) -> StationaryPointsResult:
    r"""Stationary points with positive loss: a pair at ±s*, the rest on the target; saddles in the whole space.

    Theorem 3.1: for :math:`n\ge3` the point :math:`\mu_1=se_1,\ \mu_2=-se_1`, the rest at the target, is stationary for the s that
    maximises the loss along this curve. The paper calls it a local maximum, which it is along the curve: the Hessian has negative and
    positive eigenvalues, and for :math:`d\ge2` null ones, the :math:`d-1` rotations and (from n = 4 on) flat directions. The maximum on
    a coarse scan of s is the start of the search, :func:`overparam.stationary.find`, in the whole space.

    Parameters
    ----------
    n, d : int or sequence of int
        Numbers of parameters (3 at least), dimensions.
    tol : float
        Relative tolerance of loss, gradient rows and Hessian.
    null_tolerance : float
        Eigenvalues up to this part of the largest absolute one count as null.

    Returns
    -------
    StationaryPointsResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.1 [published: existence]; numbers and spectra [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.stationary_points", n=3, d=1)
    >>> point = result.points[3, 1]
    >>> round(result.distance(3, 1), 6), point.kind, point.hessian_eigenvalues.round(3).tolist()
    (2.550551, 'saddle', [-0.339, -0.322, 1.793])
    """
    settings = _checked(n, d, tol, null_tolerance)
    rule, points = Auto(tol=settings["tol"]), {}
    where = "before any search"
    try:
        for number in settings["n"]:
            line = ScoreMatching(Gaussian([0.0]), rule=rule)
            start = SCAN[np.argmax([line.value(init.symmetric_pair(number, s)) for s in SCAN])]
            for dimension in settings["d"]:
                where = f"in the search for n = {number}, d = {dimension}"
                objective = ScoreMatching(Gaussian(np.zeros(dimension)), rule=rule)
                found = stationary.find(objective, init.symmetric_pair(number, start, dimension),
                                        null_tolerance=settings["null_tolerance"])
                if found.status == "interrupted":
                    raise KeyboardInterrupt
                points[number, dimension] = found
    except KeyboardInterrupt:
        if not points:
            raise KeyboardInterrupt(where) from None
        return StationaryPointsResult(NAME, settings, points, stopped=where)
    return StationaryPointsResult(NAME, settings, points)
