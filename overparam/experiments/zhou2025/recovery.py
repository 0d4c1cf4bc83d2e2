"""How often an over-parameterized student finds every component of a mixture, against its number of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting
from overparam._validation import check_integer, check_positive, check_real
from overparam.data_sets import DataSet
from overparam.drivers import em
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.modes import nearest, polygon
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, swept
from overparam.experiments.settings import check_jobs, check_numbers, check_store
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Outcome", "Point", "RecoveryResult", "grid", "recovery", "surjections"]

NAME = "zhou2025.recovery"
RECORDS = 25  # looks at KL and weights; a run ends at the first that finds the teacher recovered
CERTIFIED = 1e-4  # relative tolerance of the KL of the first run of every m and n, by which the grid's is judged
LEAST = 1e-12  # nodes of less weight are left out


def grid(target: GaussianMixture, nodes: int) -> DataSet:
    """Gauss–Hermite nodes around every component as a data set with weights: population EM at the cost of EM on a thousand points.

    Nothing is planned anew as the student moves. The components are smooth on the scale of the student's, so that the grid need not
    follow it; what the grid makes of KL is judged against the exact rules.

    Examples
    --------
    >>> from overparam.experiments.modes import polygon
    >>> from overparam.experiments.zhou2025.recovery import grid
    >>> nodes = grid(polygon(2, 8.0), 20)
    >>> nodes.dimension, round(float(nodes.weights.sum()), 12)
    (2, 1.0)
    """
    x, weights = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    shares = np.outer(weights, weights).ravel() / weights.sum() ** 2
    points, shares = points[shares > LEAST], shares[shares > LEAST]
    shares = np.outer(target.weights, shares).ravel()
    return DataSet((target.means[:, None] + points).reshape(-1, 2), weights=shares / shares.sum())


def surjections(n: int, m: int) -> float:
    r"""Probability that n draws from m equal components meet every one: :math:`\sum_j(-1)^j\binom mj(1-j/m)^n`.

    What recovery would be if a component were found exactly when a parameter starts in it.

    Examples
    --------
    >>> from overparam.experiments.zhou2025.recovery import surjections
    >>> round(surjections(2, 2), 12), round(surjections(3, 3), 12)
    (0.5, 0.222222222222)
    """
    found: float = sum((-1) ** j * math.comb(m, j) * (m - j) ** n for j in range(m + 1)) / m**n  # whole numbers: exactly 0 for n < m
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of one start.

    Attributes
    ----------
    met : bool
        Whether every component had a parameter among its nearest at the start.
    divergence : float
        KL at the end.
    shares : tuple of float
        Total weight of the parameters nearest to each component, at the end.
    recovered : bool
    steps : int
    status : str
    """

    met: bool
    divergence: float
    shares: tuple[float, ...]
    recovered: bool
    steps: int
    status: str


@dataclass(frozen=True)
class Point:
    """All starts with one n and one m.

    Attributes
    ----------
    m, n : int
    outcomes : tuple of Outcome
    grid_error : float
        By how much the grid's KL at the end of the first run is off the certified one.
    """

    m: int
    n: int
    outcomes: tuple[Outcome, ...]
    grid_error: float = float("nan")

    @property
    def recovered(self) -> int:
        """Number of starts that recovered the teacher."""
        return sum(one.recovered for one in self.outcomes)

    @property
    def met(self) -> int:
        """Number of starts in which every component was met."""
        return sum(one.met for one in self.outcomes)

    @property
    def probability(self) -> float:
        """Share of starts that recovered it."""
        return self.recovered / len(self.outcomes)

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's 95 % interval."""
        return binomial_interval(self.recovered, len(self.outcomes))


@dataclass(frozen=True, eq=False)
class RecoveryResult(StoppableResult):
    """Result of :func:`recovery`.

    Attributes
    ----------
    name : str
    settings : dict
    points : tuple of Point
        m by m, over n; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    points: tuple[Point, ...]

    def finished(self) -> RecoveryResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.points else None

    def figure(self) -> Figure:
        """Return the picture: probability of recovery against n, beside that of meeting every component, and against n/(m ln m)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4, 3.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        counts = self.settings["m"]
        for number, m in enumerate(counts):
            points = [point for point in self.points if point.m == m]
            if not points:
                continue
            colour, shift = plotting.COLOURS[number % len(plotting.COLOURS)], 0.2 * (number - (len(counts) - 1) / 2)
            n, share = np.array([point.n for point in points]), np.array([point.probability for point in points])
            ends = np.array([point.interval for point in points])
            style = {"yerr": np.abs(ends - share[:, None]).T, "markersize": 4, "capsize": 2, "linewidth": 1, "color": colour,
                     "label": f"$m={m}$"}
            left.errorbar(n + shift, share, fmt="o", **style)
            right.errorbar(n / (m * np.log(m)), share, fmt="o-", **style)
            span = np.arange(n.min(), n.max() + 1)
            left.plot(span, [surjections(int(one), m) for one in span], color=colour, linestyle="--", linewidth=1)
        left.plot([], [], "--", color="0.4", linewidth=1, label="$n$ draws meet every component")
        left.set_xlabel("parameters $n$")
        right.set_xlabel(r"$n\,/\,(m\,\ln m)$: published $n=\Omega(m\log m)$")
        for ax in (left, right):
            ax.set_ylim(-0.03, 1.03)
            ax.set_ylabel("probability of recovery, 95 % interval")
            ax.legend(frameon=False, fontsize="small", loc="lower right")
        plotting.finish((left, right))
        return figure

    def to_xarray(self) -> Dataset:
        """Return the data over m, n and start; NaN where nothing was computed."""
        import xarray

        axes = {key: list(self.settings[key]) for key in ("m", "n")}
        shape = (len(axes["m"]), len(axes["n"]))
        fields = {name: np.full(shape, np.nan) for name in ("probability", "low", "high", "all_met", "grid_error")}
        each = {name: np.full((*shape, self.settings["starts"]), np.nan) for name in ("divergence", "recovered", "met", "steps")}
        for point in self.points:
            at = axes["m"].index(point.m), axes["n"].index(point.n)
            found = (point.probability, *point.interval, surjections(point.n, point.m), point.grid_error)
            for name, value in zip(fields, found, strict=True):
                fields[name][at] = value
            for name, values in each.items():
                values[at] = [getattr(one, name) for one in point.outcomes]
        data: dict[str, Any] = {name: (("m", "n"), values) for name, values in fields.items()}
        data |= {name: (("m", "n", "start"), values) for name, values in each.items()}
        return xarray.Dataset(data, coords=axes, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each m and n."""
        lines = [self.heading, "",
                 f"{'m':>2} {'n':>3}  {'n/(m ln m)':>10}  {'recovered':>9}  {'95 % interval':>15}  {'all met':>7}  {'expected':>8}  "
                 f"{'though not met':>14}  {'met but not':>11}"]
        for point in self.points:
            m, n, (low, high) = point.m, point.n, point.interval
            gained = sum(one.recovered and not one.met for one in point.outcomes)
            lost = sum(one.met and not one.recovered for one in point.outcomes)
            lines.append(f"{m:2d} {n:3d}  {n / (m * math.log(m)):10.2f}  {point.recovered:4d}/{len(point.outcomes):<4d}  "
                         f"[{low:6.3f},{high:7.3f}]  {point.met / len(point.outcomes):7.3f}  {surjections(n, m):8.3f}  "
                         f"{gained:14d}  {lost:11d}")
            odd = sorted({one.status for one in point.outcomes} - {"completed", "converged"})
            if odd:
                lines.append(f"  some runs ended {', '.join(odd)}")
        lines += ["", f"recovered: KL < {self.settings['threshold']:g} and every component's parameters have its weight within "
                  f"{self.settings['weight_error']:g}.",
                  "all met: share of starts in which every component is nearest to some parameter; expected: its probability.",
                  "though not met: recovered though not all were met; met but not: the reverse.",
                  "published: n = Omega(m log m) parameters suffice; the constant is not known."]
        left = [one.divergence for point in self.points for one in point.outcomes if not one.recovered and np.isfinite(one.divergence)]
        if left:
            lines.append(f"runs that did not recover it ended at KL {min(left):.2g} to {max(left):.2g}.")
        errors = [point.grid_error for point in self.points if np.isfinite(point.grid_error)]
        if errors:
            lines.append(f"KL on the grid is off the certified one by at most {max(errors):.1e} (last of the first run of every m and n).")
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the points that were finished")
        return "\n".join(lines)


def _checked(m: Any, n: Any, starts: Any, separation: Any, step_size: Any, steps: Any, threshold: Any, weight_error: Any, nodes: Any,
             seed: Any, store: Any, n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    check_store(store)
    return {"m": check_numbers(m, "m", 2), "n": check_numbers(n, "n", 1), "starts": check_integer(starts, "starts", minimum=1),
            "separation": check_positive(separation, "separation"), "step_size": check_positive(step_size, "step_size"),
            "steps": check_steps(steps), "threshold": check_positive(threshold, "threshold"),
            "weight_error": check_real(weight_error, "weight_error", minimum=1e-6, maximum=1.0),
            "nodes": check_integer(nodes, "nodes", minimum=8, maximum=200), "seed": check_integer(seed, "seed", minimum=0)}


def _shares(params: np.ndarray, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    return np.bincount(nearest(params, means), weights=weights, minlength=len(means))


@lru_cache(maxsize=8)
def _problem(m: int, separation: float, nodes: int) -> tuple[GaussianMixture, KLDivergence, float]:
    """The teacher, the loss on its grid, and what the sum over nodes is at the teacher itself."""
    target = polygon(m, separation)
    points = grid(target, nodes)
    return target, KLDivergence(points), KLDivergence(points, weights=target.weights).value(target.means)


def _point(m: int, n: int, start: int, *, separation: float, step_size: float, steps: int, threshold: float, weight_error: float,
           nodes: int, seed: int) -> dict[str, Any]:
    """What becomes of one start: an :class:`Outcome`, and for the first one by how much the grid's KL is off."""
    target, objective, entropy = _problem(m, separation, nodes)

    def right(loss: float, params: np.ndarray, weights: np.ndarray) -> bool:
        shares = _shares(params, weights, target.means)
        return bool(loss < threshold and np.abs(shares - target.weights).max() < weight_error)

    drawn = init.from_teacher(target, n, rng=np.random.default_rng([seed, m, n, start]))
    traj = em(objective, drawn, steps=steps, step_size=step_size, record=log_spaced(RECORDS), progress=False,
              stop=lambda record: right(record.loss - entropy, record.params, record.weights))
    if traj.status == "interrupted":
        raise KeyboardInterrupt
    loss, weights, error = float(traj.loss[-1]) - entropy, traj.final_weights, np.nan
    if start == 0:
        error = abs(loss - float(KLDivergence(target, weights=weights, rule=Auto(tol=CERTIFIED)).estimate(traj.final).value))
    return {"met": len(set(nearest(drawn, target.means).tolist())) == m, "divergence": loss,
            "shares": _shares(traj.final, weights, target.means), "recovered": right(loss, traj.final, weights),
            "steps": traj.steps[-1], "status": traj.status, "grid_error": error}


def _outcome(found: dict[str, np.ndarray]) -> Outcome:
    return Outcome(bool(found["met"]), float(found["divergence"]), tuple(found["shares"].tolist()), bool(found["recovered"]),
                   int(found["steps"]), str(found["status"]))


@register(NAME, check=_checked, result=RecoveryResult)
def recovery(m: int | Sequence[int] = (2, 3, 4), n: int | Sequence[int] = (2, 3, 4, 6, 8, 12), starts: int = 50, separation: float = 8.0,
             step_size: float = 1.0, steps: int = 300, threshold: float = 0.01, weight_error: float = 0.02, nodes: int = 20, seed: int = 0,
             store: str | None = None, n_jobs: int | None = None, progress: bool | None = None) -> RecoveryResult:
    r"""How often hybrid gradient EM recovers a mixture of m components from n draws: far more often than every one is drawn.

    Teacher: m components of equal weight in the plane, neighbours `separation` apart. Student: :math:`\mu_i\sim p^*`,
    :math:`\pi_i=1/n`, trained by the hybrid update, :math:`\mu_i\leftarrow\mu_i-\eta\nabla_iL` and
    :math:`\pi_i\leftarrow E[w_i]`, on a fixed Gauss–Hermite grid around every component. It has recovered the teacher when KL is
    below `threshold` and the parameters nearest each component have its weight. Dashed beside it: the probability that n draws meet
    every component, which :math:`n=\Omega(m\log m)` makes near 1. Meeting all is not needed: where a component has several
    parameters, one of them goes over to a neighbour that has none. About a minute.

    Parameters
    ----------
    m, n : int or sequence of int
        Numbers of components (2 at least) and of parameters.
    starts : int
        Starts for each m and n.
    separation : float
        Distance of neighbouring components.
    step_size : float
        :math:`\eta`.
    steps : int
        Steps after which a run ends, recovered or not.
    threshold : float
        KL divergence below which the teacher is recovered.
    weight_error : float
        By how much a component's weight may be wrong.
    nodes : int
        Nodes of the Gauss–Hermite rule along each axis.
    seed : int
        Of the starts.
    store : str, optional
        Folder of the outcomes, a file for each start, which the same settings go on with.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    RecoveryResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhou et al. 2025, arXiv 2506.06584 [published: update, start, n = Ω(m log m)]; the setting of this picture is the library's own.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhou2025.recovery", m=2, n=(1, 6), starts=3, steps=100)
    >>> [point.recovered for point in result.points]
    [0, 3]
    """
    settings = _checked(m, n, starts, separation, step_size, steps, threshold, weight_error, nodes, seed, store, n_jobs, progress)
    constants = {key: value for key, value in settings.items() if key not in ("m", "n", "starts")}
    axes = {"m": settings["m"], "n": settings["n"], "start": range(settings["starts"])}
    points: list[Point] = []
    with swept(partial(_point, **constants), axes, store, n_jobs, progress) as (kept, interrupted):
        for number, (count, parameters) in enumerate(product(settings["m"], settings["n"])):
            block = range(number * settings["starts"], (number + 1) * settings["starts"])
            if all(kept.has(index) for index in block):  # not, where Ctrl-C came
                found = [kept.get(index) for index in block]
                points.append(Point(count, parameters, tuple(map(_outcome, found)), float(found[0]["grid_error"])))
        total = len(settings["m"]) * len(settings["n"])
        where = f"after {len(points)} of {total} points" if interrupted else ""
    if interrupted and not points:
        raise KeyboardInterrupt(where)
    return RecoveryResult(NAME, settings, tuple(points), stopped=where)
