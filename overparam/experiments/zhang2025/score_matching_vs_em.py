"""Score matching and gradient EM from the same starts: one keeps a single parameter where the other brings all of them home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from overparam.experiments import two_losses, two_losses_views
from overparam.experiments.registry import register
from overparam.objectives import KLDivergence, ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.xu2024.laws import late_loss
from overparam.theory.zhang2025.laws import shrinking_directions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Run", "ScoreMatchingVsEMResult", "score_matching_vs_em"]

NAME = "zhang2025.score_matching_vs_em"
LOSSES: dict[str, type[Objective]] = {"score matching": ScoreMatching, "gradient EM": KLDivergence}
#: What the flows start from.
STARTS: dict[str, two_losses.Start] = {
    "tight cluster": two_losses.cluster, "one near, others far": two_losses.one_near, "random directions": two_losses.on_sphere,
    "Gaussian at M": two_losses.gaussian}
LATE = 10.0  # times n: from here on the divergence with far parameters is drawn


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
    divergence : (T,) array
        KL divergence of the student from the teacher at the records, whatever the flow descends: one yardstick for both.
    """

    divergence: np.ndarray

    @property
    def law(self) -> np.ndarray:
        r"""(T,) what the divergence should be, with no fitted constant; NaN where no law holds.

        :math:`\ln(n/k)` with k of n at the target and the others far; under gradient EM near the target :math:`rn^2/(16t^2)`, r the
        number of directions that shrink.
        """
        traj, n, k = self.trajectory, self.trajectory.n, self.regime.k
        times = np.where(traj.times > 0, traj.times, np.nan)
        if k and k < n:
            return np.where(times > LATE * n, np.log(n / k), np.nan)
        if k != n or self.loss != "gradient EM":
            return np.full(len(traj), np.nan)
        directions = shrinking_directions(traj.final, float(traj.times[-1]) / 4)  # n/(2t) takes the place of n/(8t)
        return np.where(self.farthest < 1.0, late_loss(times, n, directions) if directions else np.nan, np.nan)

    def time_to(self, threshold: float) -> float:
        """Flow time from which the divergence stays below `threshold`; infinite if it is not below at the end."""
        return two_losses.time_below(self.trajectory.times, self.divergence, threshold)


@dataclass(frozen=True, eq=False)
class ScoreMatchingVsEMResult(two_losses.TwoLossesResult):
    """Result of :func:`score_matching_vs_em`.

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
        """Return the picture: for each start the distances under both losses above the divergence of both students and its laws."""
        return two_losses_views.panels(self, lambda run: run.divergence, "KL divergence of the student", lambda run: run.law, "linear")

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN behind the last record of a run."""
        return two_losses_views.dataset(self, {"divergence": lambda run: run.divergence, "law": lambda run: run.law},
                                        {"time_to_threshold": lambda run: run.time_to(self.settings["threshold"])})

    def summary(self) -> str:
        """Return a table with a row for each run."""
        threshold, n = self.settings["threshold"], self.settings["n"]
        lines = [self.heading, "",
                 f"{'start':<22}{'loss descended':<16}{f'k of {n}':>7}  {'farthest':>9}  {'its loss':>9}  {'KL at the end':>13}  "
                 f"{'/ law':>6}  time to KL < {threshold:g}"]
        for run in self.runs:
            traj, reached = run.trajectory, run.time_to(threshold)
            ratio = "-" if np.isnan(run.law[-1]) else format(run.divergence[-1] / run.law[-1], ".4f")
            lines.append(f"{run.start:<22}{run.loss:<16}{run.k:>7}  {run.farthest[-1]:9.4g}  {traj.loss[-1]:9.3g}  "
                         f"{run.divergence[-1]:13.4e}  {ratio:>6}  {'never' if np.isinf(reached) else format(reached, '.4g')}")
            if traj.status != "completed":
                lines.append(f"  {traj.status}: {traj.message}")
        lines += ["", "k: parameters that converge. farthest: distance of the farthest from the target at the end.",
                  "KL: of the student from the teacher, whichever loss is descended; score matching's own is near 0 with all but one far.",
                  f"/ law: ln(n/k) with k at the target and the others far (ln n = {np.log(n):.4f}); r n^2/(16 t^2) where all converge in",
                  "r directions under gradient EM (no fit). Time: from when KL stays below that value."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


@register(NAME, check=two_losses.checked, result=ScoreMatchingVsEMResult)
def score_matching_vs_em(n: int = 5, d: int = 2, M: float = 6.0, scale: float = 1e-7, t_end: float = 1e6, threshold: float = 1e-3,
                         seed: int = 0, tol: float = 1e-7, rtol: float = 1e-6, records: int = 120,
                         progress: bool | None = None) -> ScoreMatchingVsEMResult:
    r"""The same starts under both losses: one of n parameters converges in score matching, all of them in gradient EM.

    Gradient flow from four starts: a cluster at :math:`Me_1` of spread `scale`; random directions at distance M with the first
    moved to 0.3 from the target; random directions, all at M; standard normal draws around :math:`Me_1`. Both students are
    measured by their KL divergence from the teacher.

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
        KL divergence whose time is asked for.
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
    ScoreMatchingVsEMResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.5 and Corollary 3.6 [published: one converges]; Xu et al. 2024, arXiv 2407.00490 [published:
    gradient EM converges from every start].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.score_matching_vs_em", n=3, d=1, records=60)
    >>> [result.run("tight cluster", loss).regime.k for loss in ("score matching", "gradient EM")]
    [1, 3]
    """
    settings = two_losses.checked(n, d, M, scale, t_end, threshold, seed, tol, rtol, records, progress)
    yardstick = KLDivergence(Gaussian(np.zeros(settings["d"])), rule=Auto(tol=settings["tol"]))

    def measured(run: two_losses.Run) -> Run:
        traj = run.trajectory
        if LOSSES[run.loss] is KLDivergence:
            return Run(**vars(run), divergence=np.array(traj.loss))
        return Run(**vars(run), divergence=np.array([yardstick.estimate(traj.states[record]).value for record in range(len(traj))]))

    runs, where = two_losses.follow(LOSSES, STARTS, settings, progress, measured)
    return ScoreMatchingVsEMResult(NAME, settings, runs, stopped=where)
