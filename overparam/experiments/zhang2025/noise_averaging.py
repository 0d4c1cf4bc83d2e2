"""One set of parameters for many noise times: does averaging remove the bad regime of Zhang et al. 2025?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import plotting
from overparam._validation import check_choice, check_integer, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs, check_numbers, check_several
from overparam.experiments.zhang2025.noise_averaging_runs import AveragedDynamics, Border, border, radius_at_rest, returns, wide_clusters
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket
from overparam.objectives.time_averaged import TIME_WEIGHTS
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["NoiseAveragingResult", "noise_averaging"]

NAME = "zhang2025.noise_averaging"
MULTIPLES = (1.5, 2.2)  # of r_c: where the border is measured
WIDE = (0.5, 0.65, 0.8, 1.25)  # of r_c: where a wide cluster is started
AROUND = (0.95, 1.03)  # of r_c at rest: where means that are free let one come back, at most
REST_NODES = {3.0: 16, 6.0: 32}  # times for r_c at rest, up to a T: with them it is right to 1e-3
FARTHEST = 1000.0  # radius up to which r_c is looked for
LABELS = {"uniform": "uniform", "1-exp(-2t)": "$1-e^{-2t}$", "exp(2t)": "$e^{2t}$"}


@dataclass(frozen=True, eq=False)
class NoiseAveragingResult(StoppableResult):
    r"""Result of :func:`noise_averaging`; fewer entries if Ctrl-C came in between.

    Attributes
    ----------
    name : str
    settings : dict
    borders : dict
        A :class:`~overparam.experiments.zhang2025.noise_averaging_runs.Border` for each (weight, T, d).
    radii : dict
        :math:`r_c` with the others at rest on the target, for each (weight, T): the same in every dimension.
    returns : dict
        A :class:`~overparam.experiments.zhang2025.phase_boundary_runs.Bracket` for each (weight, T, d): at ``low`` an escaped mean comes
        back while the others, free to move, start about the target; at ``high`` it does not.
    wide : dict
        For each (weight, T) how many means of a cluster of spread 1 converge from `WIDE` times :math:`r_c`; None where undecided.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    borders: dict[tuple[str, float, int], Border] = field(default_factory=dict)
    radii: dict[tuple[str, float], float] = field(default_factory=dict)
    returns: dict[tuple[str, float, int], Bracket] = field(default_factory=dict)
    wide: dict[tuple[str, float], tuple[int | None, ...]] = field(default_factory=dict)

    def finished(self) -> NoiseAveragingResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.borders or self.radii or self.returns or self.wide else None

    def radius(self, weight: str) -> tuple[np.ndarray, np.ndarray]:
        """The T that were finished, and :math:`r_c`, infinite where none was found up to 1000."""
        known = [(T, r) for (one, T), r in self.radii.items() if one == weight]
        return np.array([T for T, _ in known]), np.array([r for _, r in known])

    def figure(self) -> Figure:
        """Return the picture: borders less their constants over the predicted exponents, radii over T, the fate of wide clusters."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.4, 3.4), layout="constrained")
        left, middle, right = axes = figure.subplots(1, 3)
        self._draw_borders(left)
        self._draw_radii(middle)
        self._draw_wide(right)
        plotting.finish(axes)
        return figure

    def _colour(self, weight: str) -> str:
        return plotting.COLOURS[self.settings["weight"].index(weight) % len(plotting.COLOURS)]

    def _draw_borders(self, ax: Axes) -> None:
        horizons, longest = sorted({T for _, T, _ in self.borders}), 0.0
        for (weight, T, d), one in self.borders.items():
            x = one.predicted * np.square(one.M)
            kappa = np.nanmean(one.log_epsilon + x)
            size = 4 + 3 * self.settings["d"].index(d)
            ax.plot(x, one.log_epsilon - kappa, "osD^v<>"[horizons.index(T) % 7], color=self._colour(weight), markerfacecolor="none",
                    markersize=size)
            longest = max(longest, float(x.max()))
        for weight in self.settings["weight"]:
            ax.plot([], [], "-", color=self._colour(weight), label=LABELS[weight])
        for number, T in enumerate(horizons):
            ax.plot([], [], "osD^v<>"[number % 7], color="0.3", markerfacecolor="none", linestyle="none", label=f"$T={T:g}$")
        ax.plot([0, longest], [0, -longest], "--", color="0.4", linewidth=1, zorder=0)
        ax.set_xlabel(r"$M^2\langle e^{-4t}\rangle/\langle e^{-2t}\rangle$")
        ax.set_ylabel("border $\\ln\\varepsilon^*-\\kappa$\n($\\kappa$ fitted: mean over the $M$)")
        ax.legend(frameon=False, fontsize="x-small")

    def _draw_radii(self, ax: Axes) -> None:
        highest = 1.0
        for weight in self.settings["weight"]:
            T, r = self.radius(weight)
            known = np.isfinite(r)
            if known.any():
                ax.plot(T[known], r[known], "o-", color=self._colour(weight), markersize=4, markerfacecolor="none", linewidth=1,
                        label=LABELS[weight])
                highest = max(highest, float(r[known].max()))
        for (weight, T_, d), point in self.returns.items():
            if point.found:
                ax.plot(T_, point.middle, "x+"[self.settings["d"].index(d) % 2], color=self._colour(weight), markersize=6)
        for number, d in enumerate(self.settings["d"]):
            ax.plot([], [], "x+"[number % 2], color="0.3", linestyle="none", label=f"others free, $d={d}$")
        ax.set_yscale("log")
        ticks = [tick for tick in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick < 1.5 * highest]
        ax.set_yticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("largest noise time $T$")
        ax.set_ylabel("radius $r_c$: from below, means come back")
        ax.legend(frameon=False, fontsize="x-small")

    def _draw_wide(self, ax: Axes) -> None:
        for number, ((weight, T), counts) in enumerate(self.wide.items()):
            known = [(multiple, k) for multiple, k in zip(WIDE, counts, strict=True) if k is not None]
            shift = 0.05 * (number - (len(self.wide) - 1) / 2)  # so that equal counts do not hide each other
            ax.plot([multiple for multiple, _ in known], [k + shift for _, k in known], "o-", color=self._colour(weight), markersize=4,
                    markerfacecolor="none", linewidth=0.9, label=f"{LABELS[weight]}, $T={T:g}$")
        ax.axvline(1.0, color="0.6", linestyle=":", linewidth=1)
        ax.set_xlabel(r"distance $M/r_c$ of a cluster of spread 1")
        ax.set_ylabel("means that converge $k$")
        ax.set_yticks(range(1, self.settings["n"] + 1))
        if self.wide:
            ax.legend(frameon=False, fontsize="x-small")

    def to_xarray(self) -> Dataset:
        """Return exponents and borders over weight, T, d and M; radii over weight and rest_T; NaN where nothing was computed."""
        import xarray

        settings = self.settings
        weights, horizons, d, rest = (list(settings[key]) for key in ("weight", "T", "d", "rest_T"))
        shape = (len(weights), len(horizons), len(d))
        fields = {name: np.full(shape, np.nan) for name in ("exponent", "exponent_predicted", "return_low", "return_high")}
        points = {name: np.full((*shape, len(MULTIPLES)), np.nan) for name in ("M", "kappa_low", "kappa_high", "log_epsilon")}
        radii, wide = np.full((len(weights), len(rest)), np.nan), np.full((*shape[:2], len(WIDE)), np.nan)
        for (weight, T, one), found in self.borders.items():
            at = weights.index(weight), horizons.index(T), d.index(one)
            fields["exponent"][at], fields["exponent_predicted"][at] = found.measured, found.predicted
            points["M"][at], points["log_epsilon"][at] = found.M, found.log_epsilon
            points["kappa_low"][at] = [point.low for point in found.points]
            points["kappa_high"][at] = [point.high for point in found.points]
        for (weight, T, one), point in self.returns.items():
            at = weights.index(weight), horizons.index(T), d.index(one)
            fields["return_low"][at], fields["return_high"][at] = point.low, point.high
        for (weight, T), r in self.radii.items():
            radii[weights.index(weight), rest.index(T)] = r
        for (weight, T), counts in self.wide.items():
            wide[weights.index(weight), horizons.index(T)] = [np.nan if k is None else k for k in counts]
        axes = ("weight", "T", "d")
        data: dict[str, Any] = {name: (axes, values) for name, values in fields.items()}
        data |= {name: ((*axes, "point"), values) for name, values in points.items()}
        data |= {"radius_at_rest": (("weight", "rest_T"), radii), "wide_converged": (("weight", "T", "multiple"), wide)}
        coords = {"weight": weights, "T": horizons, "d": d, "rest_T": rest, "multiple": list(WIDE)}
        return xarray.Dataset(data, coords=coords, attrs=self.attributes())

    def summary(self) -> str:
        """Return the exponents, the radii, and what becomes of wide clusters."""
        lines = ["border ln eps* = -A M^2 + kappa; A measured between two distances, and <exp(-4t)>/<exp(-2t)>:"]
        for (weight, T, d), one in self.borders.items():
            kappas = "  ".join(f"[{point.low:.2f}, {point.high:.2f}] at M = {M:.2f}" for M, point in zip(one.M, one.points, strict=True))
            notes = "; ".join(point.message for point in one.points if point.message)
            lines.append(f"  {weight:>10} T={T:<4g} d={d}  A = {one.measured:.4f} +- {one.error:.4f}, {one.predicted:.4f} predicted "
                         f"({one.measured / one.predicted - 1:+.2%})  kappa {kappas}  {notes}".rstrip())
        lines.append("r_c: one mean is drawn back from below, the others at the target (any dimension):")
        for weight in self.settings["weight"]:
            lines.append(f"  {weight:>10} " + "  ".join(f"T={t:g}: {'none up to 1000' if np.isinf(x) else format(x, '.2f')}"
                                                       for t, x in zip(*self.radius(weight), strict=True)))
        lines.append("and with the others free, normal about the target at the start:")
        for (weight, T, d), point in self.returns.items():
            lines.append(f"  {weight:>10} T={T:<4g} d={d}  [{point.low:.3f}, {point.high:.3f}]  {point.message}".rstrip())
        lines.append(f"means that converge from a cluster of spread 1 at M = {', '.join(f'{one:g}' for one in WIDE)} r_c:")
        for (weight, T), counts in self.wide.items():
            lines.append(f"  {weight:>10} T={T:<4g} {', '.join('undecided' if k is None else str(k) for k in counts)}")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the parts that were finished")
        return "\n".join(lines)


def _checked(weight: Any, T: Any, d: Any, n: Any, rest_T: Any, nodes: Any, resolution: Any, tol: Any, rtol: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)

    def horizon(name: str, most: float) -> Any:
        return lambda item: check_real(item, name, minimum=0.0, maximum=most)

    return {"weight": check_several(weight, "weight", f"one of {', '.join(map(repr, TIME_WEIGHTS))}",
                                    lambda item: check_choice(item, "weight", TIME_WEIGHTS)),
            "T": check_several(T, "T", "a number from 0 to 4", horizon("T", 4.0)), "d": check_numbers(d, "d", 1),
            "n": check_integer(n, "n", minimum=2),
            "rest_T": check_several(rest_T, "rest_T", "a number from 0 to 6", horizon("rest_T", 6.0)),
            "nodes": check_integer(nodes, "nodes", minimum=4, maximum=200),
            "resolution": check_real(resolution, "resolution", minimum=1e-6, maximum=1.0), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}


def _part(kind: str, weight: str, T: float, d: Any, settings: dict[str, Any]) -> Any:
    """One entry of a result."""
    n, nodes, tol = settings["n"], settings["nodes"], settings["tol"]
    if kind == "radii":
        return radius_at_rest(weight, T, n, max(nodes, next(many for most, many in REST_NODES.items() if T <= most)), most=FARTHEST)
    radius = radius_at_rest(weight, T, n, nodes, most=FARTHEST)
    dynamics = AveragedDynamics(None, tol, settings["rtol"], weight=weight, T=T, nodes=nodes, beyond=radius)
    if kind == "wide":
        return wide_clusters(dynamics, n, WIDE)
    if kind == "returns":
        return returns(dynamics, n, d, AROUND[0] * radius, AROUND[1] * radius, 0.02 * radius)
    return border(dynamics, n, d, MULTIPLES, settings["resolution"])


@register(NAME, check=_checked, result=NoiseAveragingResult)
def noise_averaging(weight: str | Sequence[str] = ("uniform", "1-exp(-2t)", "exp(2t)"),
                    T: float | Sequence[float] = (0.5, 1.0, 2.0), d: int | Sequence[int] = (1, 3), n: int = 5,
                    rest_T: float | Sequence[float] = (0.0, 1.0, 2.0, 3.0, 5.0), nodes: int = 6, resolution: float = 0.2,
                    tol: float = 1e-6, rtol: float = 1e-6, n_jobs: int | None = None,
                    progress: bool | None = None) -> NoiseAveragingResult:
    r"""Averaging over noise times: the border moves to ln ε* = -M²⟨e⁻⁴ᵗ⟩/⟨e⁻²ᵗ⟩ + κ, and escaped means come back from below a radius.

    The loss is the mean over :math:`[0,T]` with a weight :math:`\lambda(t)` of score matching at time t, with one set of means
    :math:`e^{-t}\mu_i`. Three questions, by gradient flow and bisection:

    * How small must a cluster at distance M be for all means to converge? The exponent is the slope of :math:`\ln\varepsilon^*` over M²
      between 1.5 and 2.2 times :math:`r_c` (or 4, where that is more): for all T in the smallest d under the first weight, and for the
      last T in the other dimensions or under the other weights.
    * From where is an escaped mean drawn back? :math:`r_c` is the root of the force on one mean at radius r with the others at rest on
      the target, in any dimension; beside it the largest radius from which it comes back when the others are free, for the last T.
    * Is there a bad regime at all? A cluster of spread 1 from 0.5 to 1.25 times :math:`r_c`, for the last T.

    A minute and a half; ``n_jobs=2`` shares the parts out.

    Parameters
    ----------
    weight : str or sequence of str
        "uniform", "1-exp(-2t)", "exp(2t)".
    T : float or sequence of float
        Largest noise times of the runs, up to 4.
    d : int or sequence of int
        Dimensions.
    n : int
        Number of means, 2 at least.
    rest_T : float or sequence of float
        Largest noise times for :math:`r_c`, up to 6.
    nodes : int
        Noise times of the Gauss–Legendre rule, 4 at least; up to T = 2 six give :math:`r_c` to 0.2 %. (For `rest_T` 16 at least, beyond 3
        32.)
    resolution : float
        Width of the intervals of κ.
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
    NoiseAveragingResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    With the others at rest the loss is :math:`\langle\ell(re^{-t})\rangle`, :math:`\ell` the loss at time 0, which rises like
    :math:`r^2/n^2` and falls like :math:`re^{-r^2/8}`. For the uniform weight the force is :math:`(\ell(r)-\ell(re^{-T}))/r`, so
    :math:`r_c\simeq4\sqrt T` at last; it grows like :math:`e^{T/2}` for :math:`1-e^{-2t}` and like :math:`e^T` for :math:`e^{2t}`.

    References
    ----------
    Zhang et al., arXiv 2511.22069, leave averaging open; exponents and radii are this library's own [derived to first order, measured].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.noise_averaging", weight="uniform", T=0.5, d=1, rest_T=1.0, resolution=0.5)
    >>> one = result.borders["uniform", 0.5, 1]
    >>> abs(one.measured / one.predicted - 1) < 0.02, round(result.radii["uniform", 1.0], 2)
    (True, 4.19)
    """
    settings = _checked(weight, T, d, n, rest_T, nodes, resolution, tol, rtol, n_jobs, progress)
    weights, horizons, dimensions = settings["weight"], settings["T"], settings["d"]
    last, first = horizons[-1], min(dimensions)
    tasks = [("radii", one, horizon, None, settings) for one in weights for horizon in settings["rest_T"]]
    tasks += [("borders", one, horizon, k, settings) for one in weights for horizon in horizons for k in dimensions
              if (one == weights[0] or k == first) and (horizon == last or (one == weights[0] and k == first))]
    tasks += [("returns", one, last, k, settings) for one in weights for k in dimensions]
    tasks += [("wide", one, last, None, settings) for one in weights]
    parts: dict[str, dict[Any, Any]] = {"radii": {}, "borders": {}, "returns": {}, "wide": {}}
    done, where = gather(_part, tasks, n_jobs, progress, "parts")
    for (kind, one, horizon, k, _), found in zip(tasks, done, strict=False):
        parts[kind][(one, horizon) if k is None else (one, horizon, k)] = found
    return NoiseAveragingResult(NAME, settings, **parts, stopped=where)
