"""Zhang et al. 2025 to the end of time: both regimes to flow time 1e14, and the crossing from one direction to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, rates, regimes, verification
from overparam._validation import check_array, check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.experiments.registry import register
from overparam.experiments.running import RunsResult, one_by_one
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.rates import Comparison, PowerLaw
from overparam.regimes import Regime
from overparam.teachers import Gaussian
from overparam.theory.zhang2025 import laws
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

    from overparam.verification import Verification

__all__ = ["LongHorizonResult", "Run", "long_horizon"]

NAME = "zhang2025.long_horizon"
PAPER = "arXiv 2511.22069"
NEAR = 1e-4  # largest eigenvalue of the second moment from which the matrix law is followed: its corrections are of that order
OFFSET = 0.05  # of the spread of order one from the target: its mean is not there at the start
CLOSE, FAR = 0.3, (5.5, 6.5)  # distances of the one near and of the far ones
LONGEST = 1e30  # flow time: the law's matrices S of size n/(8t) are squared, weighed by t^2, and squared again by fits
SETTLED, SETTLED_FAR = 10.0, 6.0  # flow time and distance from which the law of far parameters is worth drawing
SMALL_RADIUS, LARGE_RADIUS = 4.0, 6.0  # the paper's starts: all converge, one converges


@dataclass(frozen=True, eq=False)
class Run:
    """One flow and what its end says.

    Attributes
    ----------
    start : str
        A key of ``STARTS``.
    n : int
    trajectory : Trajectory
    regime : Regime
    """

    start: str
    n: int
    trajectory: Trajectory
    regime: Regime

    @property
    def name(self) -> str:
        """Start and n in words."""
        return f"{self.start}, n={self.n}"

    @property
    def converges(self) -> bool:
        """Whether all parameters converge."""
        return len(self.regime.converged) == self.n

    @property
    def slope(self) -> PowerLaw | None:
        """The exponent of the loss over the third and the second last decade; None where they hold too few records."""
        end = float(self.trajectory.times[-1])
        try:
            return rates.fit_power_law(self.trajectory, window=(end / 1e3, end / 10))
        except ValueError:
            return None

    @property
    def law(self) -> np.ndarray:
        """(T,) predicted losses; NaN where no law applies (yet)."""
        traj = self.trajectory
        found = np.full(len(traj), np.nan)
        if self.converges:
            first = self.reference
            if first is not None:
                values, _ = laws.second_moment(_offsets(traj, first), traj.times[first:] - traj.times[first])
                found[first:] = (values**2).sum(axis=-1)
        elif self.regime.diverged and not self.regime.undecided:
            radius = regimes.distances(traj)[:, list(self.regime.diverged)]
            later = (traj.times > SETTLED) & (radius.min(axis=1) > SETTLED_FAR)
            found[later] = laws.far_parameters(traj.times[later], radius[later])
        return found

    @property
    def reference(self) -> int | None:
        """The first record from which the matrix law is followed: all parameters are near the target, their mean far nearer."""
        for record in range(len(self.trajectory)):
            offsets = _offsets(self.trajectory, record)
            mean = offsets.mean(axis=0)
            square = ((offsets - mean) ** 2).sum() / self.n
            if square < NEAR and mean @ mean < NEAR * square:
                return record
        return None

    @property
    def comparison(self) -> Comparison | None:
        """Loss against law over the last two decades."""
        end = float(self.trajectory.times[-1])
        try:
            return rates.compare(self.trajectory, self.law, window=(end / 100, end))
        except ValueError:
            return None

    @property
    def moment_deviation(self) -> np.ndarray:
        r"""(T,) by how much the whole matrix S is off its law: :math:`\|P^{-1/2}SP^{-1/2}-1\|`, P the law's matrix; NaN before it applies.

        Relative in every direction, however small S is there.
        """
        traj = self.trajectory
        found = np.full(len(traj), np.nan)
        first = self.reference if self.converges else None
        if first is None:
            return found
        values, axes = laws.second_moment(_offsets(traj, first), traj.times[first:] - traj.times[first])
        for record, expected in zip(range(first, len(traj)), values, strict=True):
            seen = _offsets(traj, record) @ axes / np.sqrt(self.n * expected)
            found[record] = np.linalg.norm(seen.T @ seen - np.eye(len(expected)), ord=2)
        return found

    @property
    def constant(self) -> np.ndarray:
        r"""(T,) what tends to a constant: :math:`64t^2L/n^2` to the number of directions, or :math:`Ltr^2/16` to that of far parameters."""
        traj = self.trajectory
        if self.converges:
            found: np.ndarray = traj.loss * 64 * traj.times**2 / self.n**2
            return found
        diverged = list(self.regime.diverged)
        if not diverged:
            return np.full(len(traj), np.nan)
        inverse = (regimes.distances(traj)[:, diverged] ** -2.0).mean(axis=1)
        found = traj.loss * traj.times / (16 * inverse)
        return found

    @property
    def expected_constant(self) -> float:
        """What the law predicts for the last value of `constant`."""
        if self.converges:
            return float(self.law[-1]) * 64 * float(self.trajectory.times[-1]) ** 2 / self.n**2
        return float(len(self.regime.diverged)) if self.regime.diverged else float("nan")


@dataclass(frozen=True, eq=False)
class LongHorizonResult(RunsResult):
    """Result of :func:`long_horizon`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Start by start; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def run(self, start: str, n: int) -> Run:
        """The run from `start` with n parameters."""
        for run in self.runs:
            if (run.start, run.n) == (start, n):
                found: Run = run
                return found
        raise ValueError(f"there is no run {start!r} with n={n}; there are: {'; '.join(run.name for run in self.runs)}")

    def verify(self, progress: bool | None = None) -> dict[str, Verification]:
        """Repeat every run at a hundredth of both tolerances: see :func:`overparam.verify`."""
        return {run.name: verification.verify(run.trajectory, progress=progress) for run in self.runs}

    def figure(self) -> Figure:
        """Return the picture: losses of both regimes with their laws, local slopes, and the crossing."""
        from overparam.experiments.zhang2025 import long_horizon_views

        return long_horizon_views.panels(self)

    def to_xarray(self) -> Dataset:
        """Return the data over run and record; NaN behind the last record of a run."""
        from overparam.experiments.zhang2025 import long_horizon_views

        return long_horizon_views.dataset(self)

    def summary(self) -> str:
        """Return a table with a row for each run."""
        from overparam.experiments.zhang2025 import long_horizon_views

        return long_horizon_views.table(self)


def _offsets(traj: Trajectory, record: int) -> np.ndarray:
    """(n, k) parameters minus the target, which is the origin of the reduced coordinates."""
    found: np.ndarray = traj.states[record].coordinates
    return found


def _spread(n: int, settings: dict[str, Any]) -> np.ndarray:
    return np.linspace(-1.0, 1.0, n)[:, None] + OFFSET


def _one_near(n: int, settings: dict[str, Any]) -> np.ndarray:
    return np.concatenate([[CLOSE], np.linspace(*FAR, n - 1)])[:, None]


def _paper(radius: float) -> Any:
    def start(n: int, settings: dict[str, Any]) -> np.ndarray:
        centre = np.zeros(settings["d"])
        centre[0] = radius
        return init.cluster(n, center=centre, scale=settings["scale"], rng=settings["seed"])

    return start


#: What the flows start from, and the setting that says how long they last.
STARTS = {
    "spread of order one": (_spread, "t_end"),
    "one near": (_one_near, "t_end"),
    f"M={SMALL_RADIUS:g}": (_paper(SMALL_RADIUS), "t_crossing"),
    f"M={LARGE_RADIUS:g}": (_paper(LARGE_RADIUS), "t_end"),
}


def _checked(n: Any, t_end: Any, t_crossing: Any, d: Any, scale: Any, seed: Any, tol: Any, rtol: Any, records: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    try:
        numbers = tuple(check_integer(one, "n", minimum=2) for one in check_array(n, "n", ndim=(0, 1)).ravel().tolist())
    except ValueError:
        raise ValueError(f"n must be a whole number not below 2, or several; got {n!r}") from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"n must not name a number twice; got {n!r}")
    ends = {name: check_positive(value, name) for name, value in (("t_end", t_end), ("t_crossing", t_crossing))}
    for name, value in ends.items():
        if value > LONGEST:
            raise ValueError(f"{name} must not be above {LONGEST:g}: the losses fall like 1/t^2 and are drawn times t^2, which float64 "
                             f"holds with room up to there, and no law changes after that; got {value:g}")
    return {"n": numbers, **ends,
            "d": check_integer(d, "d", minimum=1), "scale": check_positive(scale, "scale"), "seed": check_integer(seed, "seed", minimum=0),
            "tol": Auto(tol=tol).tol, "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2),
            "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=LongHorizonResult)
def long_horizon(n: int | Sequence[int] = (2, 3, 5, 10), t_end: float = 1e14, t_crossing: float = 1e17, d: int = 3, scale: float = 1e-7,
                 seed: int = 0, tol: float = 1e-10, rtol: float = 1e-8, records: int = 200) -> LongHorizonResult:
    r"""Both regimes to flow time 1e14 against their late laws, and the crossing from one direction to all at about 6e13.

    Four starts for each n. In 1-D, a spread of order one around the target (all converge) and one parameter near with n - 1 far (one
    converges); in d dimensions the paper's clusters at M = 4 (all converge) and M = 6 (one converges). Where all converge the second
    moment obeys :math:`S^{-1}=S_0^{-1}+8t/n` and :math:`L=\mathrm{tr}\,S^2`: in the paper's start the transverse spread of 1e-7 waits
    until :math:`8t\lambda/n` is of order one, so that :math:`64t^2L/n^2` rises from 1 to min(d, n - 1) around 6e13: that start runs to
    `t_crossing`. Where one converges :math:`Ltr^2/16` tends to the number of far parameters, slowly.

    Parameters
    ----------
    n : int or sequence of int
        Numbers of parameters, at least 2.
    t_end, t_crossing : float
        Flow time at which runs end; that of the M = 4 start. At most 1e30.
    d : int
        Dimension of the paper's starts.
    scale : float
        Their scale: M e_1 + scale z.
    seed : int
        Of z.
    tol, rtol : float
        Tolerances of loss and gradient, and of the integrator.
    records : int
        Records of each run, evenly spaced in log t.

    Returns
    -------
    LongHorizonResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.2, 3.5, 3.7 [published: bounds]; laws and constants [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.long_horizon", n=3, t_end=1e8, t_crossing=1e8, records=60)
    >>> [run.regime.name for run in result.runs]
    ['all converge', 'one converges', 'all converge', 'one converges']
    >>> round(float(result.run("spread of order one", 3).constant[-1]), 4)
    1.0
    """
    settings = _checked(n, t_end, t_crossing, d, scale, seed, tol, rtol, records)

    def work(start: str, number: int) -> Run:
        make, end = STARTS[start]
        params0 = make(number, settings)
        objective = ScoreMatching(Gaussian(np.zeros(params0.shape[1])), rule=Auto(tol=settings["tol"]))
        traj = gradient_flow(objective, params0, t_end=settings[end], rtol=settings["rtol"], record=log_spaced(settings["records"]))
        return Run(start, number, traj, regimes.classify(traj))

    runs, where = one_by_one(work, [(f"in the run {start}, n={number}", (start, number)) for start in STARTS for number in settings["n"]])
    return LongHorizonResult(NAME, settings, runs, stopped=where)
