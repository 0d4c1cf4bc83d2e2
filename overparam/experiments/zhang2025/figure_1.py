"""Figure 1 of Zhang et al. 2025, without sampling noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, rates, regimes
from overparam._validation import check_array, check_integer, check_real
from overparam.drivers import gradient_descent, sgd
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.zhang2025 import laws
from overparam.trajectory import Trajectory, log_spaced
from overparam.verification import Verification, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Figure1Result", "Law", "Run", "figure_1"]

NAME = "zhang2025.figure_1"
PAPER = "arXiv 2511.22069, Figure 1"
MOST = 10**8  # parameters, dimensions, records, draws: far above what fits into memory together
LATE = math.e  # "late" is the last e-fold of flow time, as in regimes.classify


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
class Figure1Result(StoppableResult):
    """Result of :func:`figure_1`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        One for each M; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    runs: tuple[Run, ...]

    def finished(self) -> Figure1Result | None:
        """Return the result without the runs that Ctrl-C cut short; None if no run came to its end."""
        kept = [replace(run, minibatch=tuple(traj for traj in run.minibatch if traj.status != "interrupted"))
                for run in self.runs if run.trajectory.status != "interrupted"]
        return replace(self, runs=tuple(kept)) if kept else None

    def verify(self, progress: bool | None = None) -> dict[str, Verification]:
        """Repeat the exact run of every M at a hundredth of its tolerance: see :func:`overparam.verify`.

        Parameters
        ----------
        progress : bool, optional
            As in the drivers.

        Returns
        -------
        dict
            A :class:`~overparam.verification.Verification` for each run: ``"M = 4"``, ``"M = 6"``.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C: half a check says nothing.

        Examples
        --------
        >>> import overparam as op
        >>> result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)
        >>> bool(result.verify()["M = 1"].params_difference.max() < 1e-5)
        True
        """
        found = {}
        for run in self.runs:
            check = found[f"M = {run.M:g}"] = verify(run.trajectory, progress=progress)
            # a repetition that Ctrl-C cut short has no status of its own where it is the nudged one: it is only short
            if check.status == "interrupted" or (check.status == run.trajectory.status and len(check.steps) < len(run.trajectory)):
                raise KeyboardInterrupt(f"in the check of M = {run.M:g}")
        return found

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


def _checked(M: Any, n: Any, d: Any, scale: Any, step_size: Any, steps: Any, seed: Any, tol: Any, records: Any, minibatch: Any,
             batch_size: Any, minibatch_runs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    if not isinstance(minibatch, bool | np.bool_):
        raise ValueError(f"minibatch must be True or False; got {minibatch!r}")
    check_progress(progress)
    settings: dict[str, Any] = {"M": _distances(M), "n": check_integer(n, "n", minimum=1, maximum=MOST),
                                "d": check_integer(d, "d", minimum=1, maximum=MOST),
                                "scale": _number(scale, "scale", "not below 0", lambda value: value >= 0),
                                "step_size": _number(step_size, "step_size", "above 0", lambda value: value > 0),
                                "steps": check_steps(steps), "seed": check_integer(seed, "seed"),
                                "tol": _number(tol, "tol", "above 0", lambda value: value > 0),
                                "records": check_integer(records, "records", minimum=1, maximum=MOST), "minibatch": bool(minibatch),
                                "batch_size": check_integer(batch_size, "batch_size", minimum=1, maximum=MOST),
                                "minibatch_runs": check_integer(minibatch_runs, "minibatch_runs", minimum=1)}
    Auto(tol=settings["tol"])  # their own checks belong before any work too
    log_spaced(settings["records"]).steps(settings["steps"])
    return settings


def _number(value: Any, name: str, allowed: str, within: Callable[[float], bool]) -> float:
    """A finite number; whatever is given instead, the message says what is allowed."""
    try:
        number = check_real(value, name)
        if not within(number):
            raise ValueError
    except ValueError:
        raise ValueError(f"{name} must be a finite number {allowed}; got {_shown(value)}") from None
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _distances(M: Any) -> tuple[float, ...]:
    """``M=`` as a tuple."""
    try:
        if isinstance(M, bool):
            raise ValueError
        distances = tuple(check_array(M, "M", ndim=(0, 1)).ravel().tolist())
    except (ValueError, TypeError):
        raise ValueError(f"M must be a number or a tuple of numbers, all finite; got {_shown(M)}") from None
    if len(set(distances)) < len(distances):
        raise ValueError(f"M must not name a distance twice; got {_shown(M)}")
    return distances


@contextmanager
def _announcer(wanted: bool, progress: bool | None) -> Iterator[Callable[[str], None]]:
    """What says above the drivers' bars which run they belong to: a line on the terminal, where those of minutes are to come."""
    if not wanted:
        yield lambda text: None
        return
    from overparam._progress import tqdm

    with tqdm(total=0, bar_format="{desc}", leave=False, disable=None if progress is None else not progress) as line:
        yield line.set_description_str


@register(NAME, check=_checked, result=Figure1Result)
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
    settings = _checked(M, n, d, scale, step_size, steps, seed, tol, records, minibatch, batch_size, minibatch_runs, progress)
    distances, n, d, seed = (settings[key] for key in ("M", "n", "d", "seed"))
    repetitions = settings["minibatch_runs"] if minibatch else 0
    objective = ScoreMatching(Gaussian(mean=np.zeros(d)), rule=Auto(tol=settings["tol"]))
    common = {"step_size": settings["step_size"], "steps": settings["steps"], "record": log_spaced(settings["records"]),
              "progress": progress}
    runs: list[Run] = []
    where = "before any run"
    with _announcer(repetitions > 0, progress) as announce:
        try:
            for number, distance in enumerate(distances):
                name = f"the exact run of M = {distance:g}"
                where = f"before the first step of {name}"
                center = np.zeros(d)
                center[0] = distance
                start = init.cluster(n, center=center, scale=settings["scale"], rng=seed)
                exact = _noted(gradient_descent(objective, start, **common), distance, seed)
                where = _standing(name, exact)
                runs.append(Run(distance, exact, regimes.classify(exact)))
                if exact.status == "interrupted":
                    return Figure1Result(NAME, settings, tuple(runs), stopped=where)
                for repetition in range(repetitions):
                    name = f"minibatch run {repetition + 1} of {repetitions} of M = {distance:g}"
                    where = f"before the first step of {name}"
                    announce(f"{name}, batch {settings['batch_size']} "
                             f"({number * repetitions + repetition + 1} of {len(distances) * repetitions} such runs)")
                    rng = np.random.default_rng([seed, repetition])
                    noisy = _noted(sgd(objective, start, batch_size=settings["batch_size"], rng=rng, **common), distance, seed,
                                   repetition=repetition)
                    where = _standing(name, noisy)
                    runs[-1] = replace(runs[-1], minibatch=(*runs[-1].minibatch, noisy))
                    if noisy.status == "interrupted":
                        return Figure1Result(NAME, settings, tuple(runs), stopped=where)
        except KeyboardInterrupt:  # in between, or before a run had anything to show
            if not runs:
                raise KeyboardInterrupt(where) from None
            return Figure1Result(NAME, settings, tuple(runs), stopped=where)
    return Figure1Result(NAME, settings, tuple(runs))


def _standing(name: str, traj: Trajectory) -> str:
    """Where an experiment stands after a run of that name."""
    if traj.status != "interrupted":
        return f"after {name}"
    return f"in {name}, at step {traj.steps[-1]} of {traj.settings['steps']}"


def _noted(traj: Trajectory, distance: float, seed: int, **facts: int) -> Trajectory:
    """The trajectory with its origin in its attributes; the minibatches of repetition r come from ``default_rng([seed, r])``."""
    return replace(traj, attributes={**traj.attributes, "paper": PAPER, "experiment": NAME, "M": distance, "seed": seed, **facts})
