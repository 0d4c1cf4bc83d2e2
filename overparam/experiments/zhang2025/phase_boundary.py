"""The border between the regimes of Zhang et al. 2025: how small a cluster must be for all parameters to converge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting
from overparam._validation import check_positive, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, in_parallel
from overparam.experiments.settings import check_jobs, check_numbers
from overparam.experiments.zhang2025.phase_boundary_em import Growth, measure_growth
from overparam.experiments.zhang2025.phase_boundary_runs import (
    Bracket,
    Dynamics,
    bisect,
    check_distances,
    check_profiles,
    first_order_bias,
    growth,
    profile_label,
)
from overparam.experiments.zhang2025.phase_boundary_runs import profile as positions_of
from overparam.planning import Auto

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["PhaseBoundaryResult", "phase_boundary"]

NAME = "zhang2025.phase_boundary"
EXPECTED = (2.0, 3.6)  # where b is looked for first; the search goes on outside where that is wrong
NEAR = 3.0  # resolutions on either side of the value at another M

Key = tuple[int, int, "str | int", float]


@dataclass(frozen=True, eq=False)
class PhaseBoundaryResult(StoppableResult):
    r"""Result of :func:`phase_boundary`.

    Attributes
    ----------
    name : str
    settings : dict
    points : dict
        A :class:`~overparam.experiments.zhang2025.phase_boundary_runs.Bracket` of :math:`\kappa=\ln\varepsilon^*+G` for each
        (n, d, profile, M): all parameters converge at ``low`` and not at ``high``. Fewer if Ctrl-C came in between.
    em : dict
        A :class:`~overparam.experiments.zhang2025.phase_boundary_em.Growth` for each (n, M): under gradient EM.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    points: dict[Key, Bracket]
    em: dict[tuple[int, float], Growth] = field(default_factory=dict)

    def finished(self) -> PhaseBoundaryResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.points or self.em else None

    def growth(self, M: float, n: int) -> float:
        """G: M² in gradient flow, the exact sum in gradient descent."""
        return growth(M, n, self.settings["step_size"])

    def log_epsilon(self, n: int, d: int, profile: str | int, M: float) -> tuple[float, float]:
        r"""Interval of :math:`\ln\varepsilon^*`."""
        point, G = self.points[n, d, profile, M], self.growth(M, n)
        return point.low - G, point.high - G

    def curve(self, n: int, d: int, profile: str | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r"""The M that were finished, and the lower and upper ends of :math:`\kappa`, NaN where one was not found."""
        known = [M for M in self.settings["M"] if (n, d, profile, M) in self.points]
        ends = np.array([[self.points[n, d, profile, M].low, self.points[n, d, profile, M].high] for M in known]).reshape(-1, 2)
        ends[~np.isfinite(ends).all(axis=1)] = np.nan
        return np.array(known), *ends.T

    def curves(self) -> list[tuple[int, int, str | int]]:
        """The (n, d, profile) with at least one point."""
        return list(dict.fromkeys(key[:3] for key in self.points))

    def figure(self) -> Figure:
        r"""Return the picture: :math:`\ln\varepsilon^*` against M², κ against M with its intervals, and the growth under both losses."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11.4, 3.4), layout="constrained")
        left, right, growths = figure.subplots(1, 3)
        kinds = list(dict.fromkeys((n, profile) for n, _, profile in self.curves()))
        for n, d, profile in self.curves():
            M, low, high = self.curve(n, d, profile)
            middle, colour = (low + high) / 2, plotting.COLOURS[kinds.index((n, profile)) % len(plotting.COLOURS)]
            size = 3.0 + 2.5 * self.settings["d"].index(d)  # those of d = 2 coincide with those of d = 1
            left.plot(M**2, middle - [self.growth(value, n) for value in M], "o", markersize=size, markerfacecolor="none", color=colour)
            right.errorbar(M, middle, yerr=(high - low) / 2, fmt="o-", markersize=size, markerfacecolor="none", linewidth=0.8, capsize=2,
                           color=colour, label=f"$n={n}$, {profile_label(profile)}" if d == self.settings["d"][0] else None)
        for number, d in enumerate(self.settings["d"]):
            right.plot([], [], "o", markersize=3.0 + 2.5 * number, markerfacecolor="none", color="0.4", label=f"$d={d}$")
        squares = np.array([min(self.settings["M"]), max(self.settings["M"])]) ** 2
        kappas = [point.middle for point in self.points.values() if point.found]
        if kappas:
            mean = float(np.mean(kappas))
            left.plot(squares, mean - squares, "--", color="0.4", linewidth=1, label=rf"$-M^2+\kappa$, mean $\kappa={mean:.2f}$")
            left.plot([], [], "o", markerfacecolor="none", color="0.4", label="every curve of panel b")
            left.legend(frameon=False, fontsize="small")
        left.set_xlabel("$M^2$")
        left.set_ylabel(r"border $\ln\varepsilon^*$")
        right.set_xlabel("distance $M$")
        right.set_ylabel(r"$\kappa=\ln\varepsilon^*+M^2$" if self.settings["step_size"] is None
                         else r"$\kappa=\ln\varepsilon^*+\sum\ln(1+4\eta M_k^2/n)$")
        right.legend(frameon=False, fontsize="x-small")
        self._draw_growth(growths)
        plotting.finish((left, right, growths))
        return figure

    def _draw_growth(self, ax: Axes) -> None:
        """Growth of a small spread in nats: measured under gradient EM, and what score matching's border rests on."""
        numbers = list(dict.fromkeys(n for n, _ in self.em))
        for number, n in enumerate(numbers):
            found = sorted((M, one.measured, one.predicted) for (m, M), one in self.em.items() if m == n)
            M, measured, predicted = np.array(found).T
            colour = plotting.COLOURS[number % len(plotting.COLOURS)]
            ax.plot(M**2, measured, "os^vD"[number % 5], markersize=4 + 3 * number, markerfacecolor="none", color=colour,
                    label=f"gradient EM, $n={n}$")
            ax.plot(M**2, predicted, "--", color=colour, linewidth=1)
            ax.plot(M**2, [self.growth(value, n) for value in M], ":", color=colour if self.settings["step_size"] else "0.4", linewidth=1.2)
        flow = self.settings["step_size"] is None
        ax.plot([], [], "--", color="0.4", linewidth=1, label=r"$M^2/2$, no fit" if flow else r"$\sum\ln(1+\eta M_k^2/n)$, no fit")
        ax.plot([], [], ":", color="0.4", linewidth=1.2, label="score matching" + (", $M^2$" if flow else ""))
        ax.set_xlabel("$M^2$")
        ax.set_ylabel("growth of a small spread, nats")
        ax.legend(frameon=False, fontsize="x-small")

    def to_xarray(self) -> Dataset:
        """Return the data over n, d, profile and M; NaN where nothing was computed."""
        import xarray

        axes = {key: list(self.settings[key]) for key in ("n", "d", "profile", "M")}
        shape = tuple(len(values) for values in axes.values())
        fields = {name: np.full(shape, np.nan) for name in ("kappa_low", "kappa_high", "log_epsilon_low", "log_epsilon_high", "growth")}
        runs, messages = np.zeros(shape, dtype=np.int64), np.full(shape, "", dtype=object)
        for key, point in self.points.items():
            at = tuple(values.index(value) for values, value in zip(axes.values(), key, strict=True))
            fields["kappa_low"][at], fields["kappa_high"][at] = point.low, point.high
            fields["log_epsilon_low"][at], fields["log_epsilon_high"][at] = self.log_epsilon(*key)
            fields["growth"][at] = self.growth(key[3], key[0])
            runs[at], messages[at] = point.runs, point.message
        data = {name: (tuple(axes), values) for name, values in {**fields, "runs": runs, "message": messages.astype(str)}.items()}
        em = {name: np.full((shape[0], shape[3]), np.nan) for name in ("em_growth", "em_growth_predicted")}
        for (n, M), one in self.em.items():
            at = axes["n"].index(n), axes["M"].index(M)
            em["em_growth"][at], em["em_growth_predicted"][at] = one.measured, one.predicted
        data |= {name: (("n", "M"), values) for name, values in em.items()}
        return xarray.Dataset(data, coords={**axes, "profile": [str(name) for name in axes["profile"]]}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each n, d, profile and M, and for each curve how far κ moves."""
        eta = self.settings["step_size"]
        head = f"{'n':>3} {'d':>2} {'profile':>11} {'M':>6}  {'ln eps*':>22}  {'kappa':>19}  {'published':>10}  runs"
        lines = [self.heading, "",
                 "Border of a cluster at distance M under score matching: all parameters converge at the lower end, not at the upper one.",
                 f"eps* multiplies the profile; kappa = ln eps* + {'M^2' if eta is None else 'sum ln(1 + 4 eta M_k^2/n)'}; "
                 "published: ln of the radius of Theorem 3.2.", "", head if eta is None else head + "   bias: exact  first order"]
        for key, point in self.points.items():
            n, d, profile, M = key
            low, high = self.log_epsilon(*key)
            line = (f"{n:3d} {d:2d} {profile_label(profile):>11} {M:6g}  [{low:10.4f},{high:10.4f}]  [{point.low:8.4f},{point.high:8.4f}]  "
                    f"{init.log_radius(n, [M] + [0.0] * (d - 1)):10.4g}  {point.runs:4d}")
            if eta is not None:
                line += f"  {M**2 - self.growth(M, n):12.4f} {first_order_bias(M, n, eta):12.4f}"
            lines.append(f"{line}  {point.message}".rstrip())
        lines.append("")
        for n, d, profile in self.curves():
            along, below, above = self.curve(n, d, profile)
            known = np.isfinite(below + above)
            far, middle = along[known], ((below + above) / 2)[known]
            if far.size:
                later = far > far.min() if far.size > 1 else far >= far.min()
                nearest = f", {middle[far.argmin()]:.4f} at M = {far.min():g}" if far.size > 1 else ""
                lines.append(f"n={n}, d={d}, {profile_label(profile)}: kappa {middle[later].min():.4f} to {middle[later].max():.4f} "
                             f"over M = {far[later].min():g} to {far.max():g}{nearest}")
        if self.em:
            lines += ["", "Gradient EM has no border. Nats by which a spread of 1e-200 grew on the way to the target, and to first order"
                      + (" (M^2/2, M^2):" if eta is None else ":"),
                      f"{'n':>3} {'M':>6}  {'measured':>10}  {'predicted':>10}  score matching"]
        for (n, M), one in self.em.items():
            lines.append(f"{n:3d} {M:6g}  {one.measured:10.4f}  {one.predicted:10.4f}  {self.growth(M, n):14.4f}  {one.message}".rstrip())
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the points that were finished")
        return "\n".join(lines)


def _checked(n: Any, d: Any, M: Any, profile: Any, step_size: Any, resolution: Any, tol: Any, rtol: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    settings: dict[str, Any] = {"n": check_numbers(n, "n", 2), "d": check_numbers(d, "d", 1), "M": check_distances(M),
                                "profile": check_profiles(profile),
                                "step_size": None if step_size is None else check_positive(step_size, "step_size"),
                                "resolution": check_real(resolution, "resolution", minimum=1e-6, maximum=1.0), "tol": Auto(tol=tol).tol,
                                "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}
    if settings["step_size"] is not None and 2 * settings["step_size"] >= min(settings["n"]):
        raise ValueError(f"step_size must be below n/2, or the centre oscillates; got {step_size!r} for n = {min(settings['n'])}")
    return settings


def _point(key: Key, low: float, high: float, settings: dict[str, Any]) -> Bracket:
    n, d, profile, M = key
    dynamics = Dynamics(settings["step_size"], settings["tol"], settings["rtol"])
    positions, G = positions_of(profile, n), growth(M, n, settings["step_size"])

    def all_converge(b: float) -> tuple[bool | None, str]:
        fate = dynamics.fate(M, d, positions, b - G)
        return None if fate.k is None else fate.k == n, fate.reason

    return bisect(all_converge, low, high, settings["resolution"])


def _em(n: int, M: float, settings: dict[str, Any]) -> Growth:
    return measure_growth(n, M, positions_of(settings["profile"][0], n), settings["step_size"], settings["tol"], settings["rtol"])


@register(NAME, check=_checked, result=PhaseBoundaryResult)
def phase_boundary(n: int | Sequence[int] = (3, 5), d: int | Sequence[int] = (1, 2),
                   M: float | Sequence[float] = (2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0),
                   profile: str | int | Sequence[str | int] = ("equispaced", 0), step_size: float | None = None, resolution: float = 0.01,
                   tol: float = 1e-7, rtol: float = 1e-6, n_jobs: int | None = None,
                   progress: bool | None = None) -> PhaseBoundaryResult:
    r"""How small a cluster at distance M must be for all parameters to converge: ln ε* = -M² + κ, by bisection.

    Parameters start at :math:`\mu_i=(M+\varepsilon z_i)e_1`, z a profile of mean 0 and root mean square 1, with normal differences of
    standard deviation :math:`\varepsilon` along the other axes. To first order differences along :math:`e_1` grow by
    :math:`e^G` on the way to the target, :math:`G=M^2` in gradient flow and :math:`\sum_k\ln(1+4\eta M_k^2/n)`,
    :math:`M_{k+1}=(1-2\eta/n)M_k`, in gradient descent; so :math:`\kappa=\ln\varepsilon^*+G` should not depend on M.

    Under gradient EM the same spread grows by :math:`M^2/2` only, and all parameters converge however large it is: there is no border. That
    growth is measured from a spread of 1e-200 in one dimension.

    About a minute on two cores in gradient flow. ``joblib.parallel_config(n_jobs=2)`` or `n_jobs` share the points out.

    Parameters
    ----------
    n, d : int or sequence of int
        Numbers of parameters (2 at least), dimensions.
    M : float or sequence of float
        Distances of the cluster from the target.
    profile : str, int, or sequence
        "equispaced", "one near", "one far" (one nearer the target, or farther, than all others), or the seed of normal draws.
    step_size : float, optional
        Gradient descent with this step size; None is gradient flow.
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
    PhaseBoundaryResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    Differences across :math:`e_1`, which do not grow, are left out once they are 1e-8 of those along it: they then
    change the others by their square. A run ends with the verdict of :func:`overparam.regimes.classify`; one that stays undecided is
    started again with a longer horizon, and a point that stays undecided says so.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.2 and 3.4 [published: an exponentially small start suffices, a larger one fails]; the law
    and its constants [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.phase_boundary", n=2, d=1, M=(3, 6), profile="equispaced", resolution=0.1)
    >>> [bool(point.low <= 3.11 <= point.high) for point in result.points.values()]
    [True, True]
    """
    settings = _checked(n, d, M, profile, step_size, resolution, tol, rtol, n_jobs, progress)
    groups = [(n, d, profile) for n in settings["n"] for d in settings["d"] for profile in settings["profile"]]
    middle = sorted(settings["M"])[len(settings["M"]) // 2]
    first = [((*group, middle), *EXPECTED, settings) for group in groups]
    found: dict[Key, Bracket] = {}
    pairs = [(n, M, settings) for n in settings["n"] for M in settings["M"]]
    em: dict[tuple[int, float], Growth] = {}
    total, where = len(groups) * len(settings["M"]), "before the first point"
    try:
        for (key, *_), point in in_parallel(_point, first, n_jobs, progress, total):
            found[key] = point
            where = f"after {len(found)} of {total} points"
        others = [((*group, M), *_around(found[*group, middle], settings["resolution"]), settings)
                  for group in groups for M in settings["M"] if M != middle]
        for (key, *_), point in in_parallel(_point, others, n_jobs, progress, total, done=len(first)):
            found[key] = point
            where = f"after {len(found)} of {total} points"
        for (number, distance, _), one in in_parallel(_em, pairs, n_jobs, progress, len(pairs)):
            em[number, distance] = one
            where = f"after {len(em)} of {len(pairs)} runs under gradient EM"
    except KeyboardInterrupt:
        if not found:
            raise KeyboardInterrupt(where) from None
        return PhaseBoundaryResult(NAME, settings, _ordered(found, settings), em, stopped=where)
    return PhaseBoundaryResult(NAME, settings, _ordered(found, settings), em)


def _around(point: Bracket, resolution: float) -> tuple[float, float]:
    """Where to look at another M."""
    return EXPECTED if not point.found else (point.middle - NEAR * resolution, point.middle + NEAR * resolution)


def _ordered(found: dict[Key, Bracket], settings: dict[str, Any]) -> dict[Key, Bracket]:
    return {key: found[key] for key in ((n, d, profile, M) for n in settings["n"] for d in settings["d"] for profile in settings["profile"]
                                        for M in settings["M"]) if key in found}
