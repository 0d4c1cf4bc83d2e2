"""Figure 1 of Zhang et al. 2025, without sampling noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from overparam import init, rates, regimes
from overparam._validation import check_array, check_choice, check_integer, check_positive, check_real
from overparam.drivers import gradient_descent, sgd
from overparam.experiments.registry import register
from overparam.experiments.result import ExperimentResult
from overparam.experiments.zhang2025 import laws
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Figure1Result", "Law", "Run", "figure_1"]

PAPER = "arXiv 2511.22069, Figure 1"
LATE = np.e  # "late" is the last e-fold of flow time, as in regimes.classify


@dataclass(frozen=True, eq=False)
class Law:
    """The late-time law that goes with a run's verdict.

    Attributes
    ----------
    formula : str
        As mathematical text.
    formula_plain : str
        For a terminal.
    values : (T,) array
        Its loss at the run's records, NaN where it says nothing.
    """

    formula: str
    formula_plain: str
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Run:
    """All that was computed for one M.

    Attributes
    ----------
    M : float
        Distance of the start from the target.
    trajectory : Trajectory
        The exact run.
    regime : Regime
        What it did.
    minibatch : tuple of Trajectory
        The paper's minibatch runs from the same start; empty unless asked for.
    """

    M: float
    trajectory: Trajectory
    regime: regimes.Regime
    minibatch: tuple[Trajectory, ...] = ()

    @property
    def norms(self) -> np.ndarray:
        """(T, n) array of distances from the target."""
        return regimes.distances(self.trajectory)

    @property
    def law(self) -> Law | None:
        """The law of the late loss; None while a parameter is undecided or none converges."""
        traj, regime = self.trajectory, self.regime
        if regime.undecided or not regime.converged:
            return None
        times = np.where(traj.times > 0, traj.times, np.nan)
        if regime.diverged:
            m = len(regime.diverged)
            values = laws.far_parameters(times, self.norms[:, list(regime.diverged)])
            return Law(rf"$16m/[t\,(r^2-16)]$, $m={m}$", f"16 m / (t (r^2 - 16)), m = {m}", values)
        k = laws.shrinking_directions(traj.final, float(traj.times[-1]))  # the target is 0
        if k == 0:
            return None
        factor, plain = ("", "") if k == 1 else (f"{k}\\,", f"{k} ")
        return Law(rf"${factor}n^2/(64\,t^2)$", f"{plain}n^2 / (64 t^2)", laws.all_converge(times, traj.n, k))

    @property
    def law_ratio(self) -> float:
        """The law's loss over the measured one at the end; NaN without a law."""
        law = self.law
        return float("nan") if law is None else float(law.values[-1] / self.trajectory.loss[-1])

    @property
    def late_slope(self) -> float:
        """Exponent of the loss over the last e-fold of flow time; NaN where that holds fewer than three records."""
        end = float(self.trajectory.times[-1])
        try:
            return rates.fit_power_law(self.trajectory, window=(end / LATE, end)).exponent
        except ValueError:
            return float("nan")


@dataclass(frozen=True, eq=False)
class Figure1Result(ExperimentResult):
    """Result of :func:`figure_1`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        One for each M; fewer if Ctrl-C came in between.
    """

    runs: tuple[Run, ...]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C cut the experiment short; the data then are those reached."""
        return any(traj.status == "interrupted" for run in self.runs for traj in (run.trajectory, *run.minibatch))

    def figure(self) -> Figure:
        """Return the picture: for each M a column of norms, loss and local slope against steps."""
        from overparam.experiments.zhang2025.figure_1_views import panels

        return panels(self)

    def to_xarray(self) -> Dataset:
        """Return the data over M, step, parameter and coordinate; NaN where a run ended early."""
        from overparam.experiments.zhang2025.figure_1_views import dataset

        return dataset(self)

    def summary(self) -> str:
        """Return a table with one column for each M."""
        from overparam.experiments.zhang2025.figure_1_views import table

        return table(self)


@register("zhang2025.figure_1")
def figure_1(M: float | Sequence[float] = (4.0, 6.0), n: int = 5, d: int = 3, scale: float = 1e-7, step_size: float = 0.01,
             steps: int = 20_000, seed: int = 0, tol: float = 1e-10, records: int = 200, minibatch: bool = False,
             batch_size: int = 20_000, minibatch_runs: int = 1, progress: bool | None = None) -> Figure1Result:
    r"""Two fates of gradient descent on score matching: from M = 4 all parameters converge, from M = 6 only one does.

    A student of n identity-covariance Gaussians of equal weight learns the single Gaussian N(0, I). The parameters start in a
    tight cluster, :math:`\mu_i=(M,0,\dots,0)+\sigma z_i` with :math:`z_i\sim N(0,I_d)`, and follow gradient descent on the
    exact loss. A small spread grows by :math:`e^{M^2}` on the cluster's way to the target, so :math:`M^2=\ln(1/\sigma)` plus a
    constant parts the two fates.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the cluster from the target.
    n, d : int
        Number of parameters, dimension.
    scale : float
        :math:`\sigma`.
    step_size : float
        :math:`\eta`; flow time is :math:`t=\eta\tau`.
    steps : int
        Number of steps.
    seed : int
        Seed of the :math:`z_i`. All M share one draw, so that a given M starts alike in whichever company.
    tol : float
        Relative tolerance of the loss and of each gradient row.
    records : int
        Number of records, evenly spaced in the logarithm of the step.
    minibatch : bool
        Also do as the paper did: gradients from fresh batches, from the same start. Minutes instead of a second.
    batch_size, minibatch_runs : int
        Size of a batch, and number of such runs for each M.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    Figure1Result

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Figure 1 [published: setting and both outcomes].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)
    >>> [run.regime.name for run in result.runs]
    ['all converge']
    """
    distances = tuple(check_array(M, "M", ndim=(0, 1)).ravel().tolist())
    if len(set(distances)) < len(distances):
        raise ValueError(f"M must not name a distance twice; got {M!r}")
    n, d = check_integer(n, "n", minimum=1), check_integer(d, "d", minimum=1)
    scale, step_size, tol = check_real(scale, "scale", minimum=0.0), check_positive(step_size, "step_size"), check_positive(tol, "tol")
    steps, seed = check_integer(steps, "steps"), check_integer(seed, "seed")
    records = check_integer(records, "records", minimum=1)
    batch_size = check_integer(batch_size, "batch_size", minimum=1)
    minibatch_runs = check_integer(minibatch_runs, "minibatch_runs", minimum=1)
    if not isinstance(minibatch, bool | np.bool_):
        raise ValueError(f"minibatch must be True or False; got {minibatch!r}")
    if progress is not None:
        check_choice(str(progress), "progress", ("True", "False", "None"))
    settings = {"M": distances, "n": n, "d": d, "scale": scale, "step_size": step_size, "steps": steps, "seed": seed, "tol": tol,
                "records": records, "minibatch": bool(minibatch), "batch_size": batch_size, "minibatch_runs": minibatch_runs}

    objective = ScoreMatching(Gaussian(mean=np.zeros(d)), rule=Auto(tol=tol))
    common = {"step_size": step_size, "steps": steps, "record": log_spaced(records), "progress": progress}
    runs: list[Run] = []
    for distance in distances:
        center = np.zeros(d)
        center[0] = distance
        start = init.cluster(n, center=center, scale=scale, rng=seed)
        exact = gradient_descent(objective, start, **common)
        noisy: list[Trajectory] = []
        stopped = exact.status == "interrupted"
        for repetition in range(minibatch_runs if minibatch and not stopped else 0):
            noisy.append(sgd(objective, start, batch_size=batch_size, rng=np.random.default_rng([seed, repetition]), **common))
            stopped = noisy[-1].status == "interrupted"
            if stopped:
                break
        runs.append(Run(distance, exact, regimes.classify(exact), tuple(noisy)))
        if stopped:
            break
    return Figure1Result("zhang2025.figure_1", settings, tuple(runs))
