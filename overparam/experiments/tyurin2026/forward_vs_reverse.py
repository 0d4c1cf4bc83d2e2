"""The forward and the reverse Fisher divergence from the same bad starts: one keeps a single parameter, the other brings all home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_positive
from overparam.experiments import two_losses, two_losses_views
from overparam.experiments.registry import register
from overparam.objectives import ReverseFisher, ScoreMatching
from overparam.objectives.base import Objective
from overparam.theory.zhang2025 import laws

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["ForwardVsReverseResult", "Run", "forward_vs_reverse"]

NAME = "tyurin2026.forward_vs_reverse"
LOSSES: dict[str, type[Objective]] = {"forward": ScoreMatching, "reverse": ReverseFisher}
#: What the flows start from.
STARTS: dict[str, two_losses.Start] = {
    "tight cluster": two_losses.cluster, "one near, others far": two_losses.one_near, "random directions": two_losses.on_sphere}
LATE = 10.0  # times n: from here on the law of far parameters is drawn


@dataclass(frozen=True, eq=False)
class Run(two_losses.Run):
    """One flow.

    Attributes
    ----------
    start : str
        A key of ``STARTS``.
    loss : str
        A key of ``LOSSES``.
    trajectory : Trajectory
    regime : Regime
    """

    @property
    def spread(self) -> np.ndarray:
        """(T,) largest deviation from the parameters' mean at the records."""
        return np.array([np.linalg.norm(_centred(state), axis=1).max() for state in self.trajectory.states])

    @property
    def law(self) -> np.ndarray:
        r"""(T,) what the loss should be, with no fitted constant; NaN where no law holds.

        Near the target, either loss: :math:`rn^2/(64t^2)`, r the number of directions that shrink. Those that stay as small as they
        were leave a mean that comes home linearly under the reverse loss, :math:`\|\bar\mu(0)\|^2e^{-4t/n}`. Far parameters under the
        forward one: :func:`overparam.theory.zhang2025.laws.far_parameters`.
        """
        traj, n = self.trajectory, self.trajectory.n
        times = np.where(traj.times > 0, traj.times, np.nan)
        if self.regime.diverged:
            far = laws.far_parameters(times, self.distances[:, list(self.regime.diverged)])
            return np.where(times > LATE * n, far, np.nan)
        if self.regime.k != n:
            return np.full(len(traj), np.nan)
        directions = laws.shrinking_directions(traj.final, float(traj.times[-1]))
        if directions:
            return np.where(self.farthest < 1.0, laws.all_converge(times, n, directions), np.nan)
        mean = np.linalg.norm(traj.params[0].mean(axis=0)) ** 2 * np.exp(-4 * times / n)
        return np.where((self.loss == "reverse") & (self.farthest > 10 * self.spread), mean, np.nan)

    def time_to(self, threshold: float) -> float:
        """Flow time from which the loss stays below `threshold`; infinite if it is not below at the end."""
        return two_losses.time_below(self.trajectory.times, self.trajectory.loss, threshold)

    def time_home(self, distance: float) -> float:
        """As :meth:`time_to`, for the farthest parameter to be within `distance` of the target."""
        return two_losses.time_below(self.trajectory.times, self.farthest, distance)


def _centred(state: Any) -> np.ndarray:
    """Deviations from the mean, without the rounding of the centre that `params` has."""
    found: np.ndarray = (state.deviations - state.deviations.mean(axis=0)) * np.exp(state.log_scale)
    return found


@dataclass(frozen=True, eq=False)
class ForwardVsReverseResult(two_losses.TwoLossesResult):
    """Result of :func:`forward_vs_reverse`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Start by start, both losses each; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def figure(self) -> Figure:
        """Return the picture: for each start the distances under both losses above the losses themselves and their laws."""
        return two_losses_views.panels(self, lambda run: run.trajectory.loss, "the loss descended", lambda run: run.law, "log")

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN behind the last record of a run."""
        return two_losses_views.dataset(self, {"spread": lambda run: run.spread, "law": lambda run: run.law},
                                        {"time_to_threshold": lambda run: run.time_to(self.settings["threshold"]),
                                         "time_home": lambda run: run.time_home(self.settings["home"])})

    def summary(self) -> str:
        """Return a table with a row for each run."""
        threshold, home, n = self.settings["threshold"], self.settings["home"], self.settings["n"]
        within = f"all within {home:g}"
        lines = [self.heading, "",
                 f"{'start':<22}{'loss':<9}{f'k of {n}':>7}  {'farthest':>9}  {'spread: first':>13} {'largest':>9}  {'its loss':>9}  "
                 f"{'/ law':>6}  {f'time to < {threshold:g}':>16}  {within:>16}"]
        for run in self.runs:
            traj, spread = run.trajectory, run.spread
            times = ["never" if np.isinf(time) else format(time, ".4g") for time in (run.time_to(threshold), run.time_home(home))]
            ratio = "-" if np.isnan(run.law[-1]) else format(traj.loss[-1] / run.law[-1], ".4f")
            lines.append(f"{run.start:<22}{run.loss:<9}{run.k:>7}  {run.farthest[-1]:9.3g}  {spread[0]:13.3g} {spread.max():9.3g}  "
                         f"{traj.loss[-1]:9.3g}  {ratio:>6}  {times[0]:>16}  {times[1]:>16}")
            if traj.status != "completed":
                lines.append(f"  {traj.status}: {traj.message}")
        lines += ["", "k: parameters that converge. farthest: distance of the farthest from the target at the end. its loss: the one",
                  "descended; the two are different functions, so that the farthest is what compares them.", *self._small_but_far(),
                  f"times: from when the loss stays below {threshold:g}, from when all parameters are within {home:g} of the target.",
                  "/ law: r n^2/(64 t^2) where all converge in r directions, (16/t) sum 1/(r_i^2 - 16) over far parameters (no fit)."]
        lines += [_linear(run) for run in self.runs if (run.start, run.loss) == ("tight cluster", "reverse")]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)

    def _small_but_far(self) -> list[str]:
        """The forward runs that end with a loss below the threshold and a parameter that is not home."""
        found = [run for run in self.runs if run.loss == "forward" and run.trajectory.status == "completed"
                 and run.trajectory.loss[-1] < self.settings["threshold"] and run.farthest[-1] > self.settings["home"]]
        return [f"The forward loss is {run.trajectory.loss[-1]:.2g} with a parameter {run.farthest[-1]:.3g} away: {run.start}."
                for run in found]


def _linear(run: Run) -> str:
    """What the tight cluster's rate is while it is farther from the target than it is wide."""
    times, far = run.trajectory.times, (run.farthest > 10 * run.spread) & (run.trajectory.times > 0)
    if np.count_nonzero(far) < 2:
        return "tight cluster, reverse: as wide as it is far, so that it has no rate"
    first, last = np.flatnonzero(far)[[0, -1]]
    early, late = (np.linalg.norm(run.trajectory.params[record].mean(axis=0)) for record in (first, last))
    rate = np.log(early / late) / (times[last] - times[first])
    return (f"tight cluster, reverse: its mean's distance falls like e^(-a t) up to t = {times[last]:.3g}, a = {rate:.4f} "
            f"(2/n = {2 / run.trajectory.n:.4f}), and its spread grows by a factor {run.spread.max() / run.spread[0]:.4f}")


def _checked(n: Any, d: Any, M: Any, scale: Any, t_end: Any, threshold: Any, home: Any, seed: Any, tol: Any, rtol: Any, records: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted."""
    return {**two_losses.checked(n, d, M, scale, t_end, threshold, seed, tol, rtol, records, progress),
            "home": check_positive(home, "home")}


@register(NAME, check=_checked, result=ForwardVsReverseResult)
def forward_vs_reverse(n: int = 3, d: int = 2, M: float = 6.0, scale: float = 1e-7, t_end: float = 1e6, threshold: float = 1e-4,
                       home: float = 0.1, seed: int = 0, tol: float = 1e-7, rtol: float = 1e-6, records: int = 120,
                       progress: bool | None = None) -> ForwardVsReverseResult:
    r"""The same bad starts under both Fisher divergences: one parameter converges in the forward one, all of them in the reverse one.

    Gradient flow from three starts: a cluster at :math:`Me_1` of spread `scale`; random directions at distance M with the first moved to
    0.3 from the target; random directions, all at M. Forward is score matching, the expectation under the teacher; reverse takes it under
    the student. A tight cluster that is far comes home under the reverse one as :math:`e^{-2t/n}`, and its spread never grows.

    Parameters
    ----------
    n, d : int
        Number of parameters, dimension.
    M : float
        Distance of the starts from the target.
    scale : float
        Spread of the tight cluster.
    t_end : float
        Flow time to end at.
    threshold : float
        Loss whose time is asked for.
    home : float
        Distance of the farthest parameter whose time is asked for.
    seed : int
        Of the draws.
    tol, rtol : float
        Relative tolerances of loss and gradient, and of the integrator.
    records : int
        Records of each run, evenly spaced in log t.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    ForwardVsReverseResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.4 and 3.5 [published: one converges]; Tyurin 2026, arXiv 2606.19876 [published: descent of
    the reverse divergence converges from every start]. The starts of this picture are the library's own.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("tyurin2026.forward_vs_reverse", d=1, records=60)
    >>> [result.run("one near, others far", loss).regime.k for loss in ("forward", "reverse")]
    [1, 3]
    """
    settings = _checked(n, d, M, scale, t_end, threshold, home, seed, tol, rtol, records, progress)
    runs, where = two_losses.follow(LOSSES, STARTS, settings, progress, lambda run: Run(**vars(run)))
    return ForwardVsReverseResult(NAME, settings, runs, stopped=where)
