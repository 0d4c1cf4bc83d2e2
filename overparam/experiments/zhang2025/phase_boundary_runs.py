r"""What the experiments on the border of the small-noise regime share: profiles, runs that end with a verdict, and bisection.

A cluster about :math:`c=Me_1` has the spread :math:`\ln\varepsilon=b-G`, with G the logarithm of the factor by which small differences
along c grow on the way to the target: :math:`M^2` in gradient flow. Then b, and not :math:`\varepsilon`, says what happens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam._validation import check_array, check_integer
from overparam.drivers import gradient_descent, gradient_flow
from overparam.experiments.settings import check_several
from overparam.objectives import Objective, ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.trajectory import LogSpaced, Trajectory, log_spaced

__all__ = [
    "Bracket",
    "Dynamics",
    "Fate",
    "bisect",
    "check_distances",
    "check_profiles",
    "first_order_bias",
    "growth",
    "profile",
    "profile_label",
]

PROFILES = ("equispaced", "one near", "one far")
HORIZON = 200.0  # times n: most runs are decided at t = 10 n, near a threshold at 30 n
ATTEMPTS = 4  # a run that is undecided starts again with a horizon as long as the verdict says, or ten times as long
RECORDS = 10  # for each decade of time: four or more for each e-fold, which verdicts look at
MOST = 100_000  # gradients of a flow: runs that get to a verdict take some hundreds
# Differences across c do not grow. Where they are 1e-14 of those along c their velocities are rounding alone, which an integrator of
# logarithmic amplitudes cannot step over and a plan cannot certify. From this part on the run goes on along the line of c: what is
# left out enters squared.
ACROSS = 1e-8
NATS = 3.0  # by which differences along c may grow between two records at which that is looked at
ACROSS_SEED = 0  # of the differences across c, normal with the standard deviation that the profile has along c


def profile(name: str | int, n: int) -> np.ndarray:
    """Positions along c of mean 0 and root mean square 1, ascending distance from the target.

    Parameters
    ----------
    name : str or int
        "equispaced"; "one near" (one nearer the target, the others at one place), "one far"; or the seed of normal draws.
    n : int
        Number of parameters, at least 2.

    Returns
    -------
    (n,) array

    Examples
    --------
    >>> from overparam.experiments.zhang2025.phase_boundary_runs import profile
    >>> profile("one near", 5).round(12).tolist(), profile("one far", 2).tolist()
    ([-2.0, 0.5, 0.5, 0.5, 0.5], [-1.0, 1.0])
    """
    if name == "equispaced":
        z = np.arange(n, dtype=np.float64)
    elif name in PROFILES:
        z = np.zeros(n)
        z[[0, -1][name == "one far"]] = [-1.0, 1.0][name == "one far"]
    else:
        seed: Any = name
        z = np.sort(np.random.default_rng(seed).standard_normal(n))
    z = z - z.mean()
    found: np.ndarray = z / np.sqrt((z**2).mean())
    return found


def growth(M: float, n: int, step_size: float | None = None) -> float:
    r"""Logarithm of the factor by which small differences along c grow while the centre goes from M to the target.

    Gradient flow: :math:`M^2`. Gradient descent: :math:`\sum_k\ln(1+4\eta M_k^2/n)` with :math:`M_{k+1}=(1-2\eta/n)M_k`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.phase_boundary_runs import growth
    >>> growth(6.0, 5), round(growth(6.0, 5, 1e-4), 2), round(growth(6.0, 5, 0.02), 2)
    (36.0, 35.97, 31.93)
    """
    if step_size is None:
        return float(M) ** 2
    part = 4 * step_size / n * float(M) ** 2
    ratio = (1 - 2 * step_size / n) ** 2
    steps = int(np.ceil(np.log(1e-18 / part) / np.log(ratio))) if part > 1e-18 else 1
    return float(np.log1p(part * ratio ** np.arange(steps)).sum())


def first_order_bias(M: float, n: int, step_size: float) -> float:
    r"""How much smaller the growth is than M², to first order in the step size: :math:`\eta(M^4-M^2)/n`."""
    return step_size * (M**4 - M**2) / n


@dataclass(frozen=True)
class Fate:
    """How many parameters of a run converge (None: undecided), and the reason."""

    k: int | None
    reason: str


@dataclass(frozen=True)
class Dynamics:
    """Gradient flow, or gradient descent where there is a step size, the accuracy of both, and records for each decade of time."""

    step_size: float | None = None
    tol: float = 1e-7
    rtol: float = 1e-6
    records: float = RECORDS

    def fate(self, M: float, d: int, positions: np.ndarray, log_epsilon: float) -> Fate:
        """What becomes of parameters at ``M + exp(log_epsilon) * positions`` along the first axis."""
        n = len(positions)
        deviations = np.random.default_rng(ACROSS_SEED).standard_normal((n, d))
        deviations[:, 0] = positions
        centre = np.zeros(d)
        centre[0] = M
        if log_epsilon > 0:
            deviations, log_epsilon = deviations * np.exp(log_epsilon), 0.0
        start = init.around(centre, deviations, log_scale=log_epsilon)
        regime: Any = None
        horizon = HORIZON * n
        for _ in range(ATTEMPTS):
            traj = self._run(start, horizon)
            if traj.status == "interrupted":
                raise KeyboardInterrupt
            regime = regimes.classify(traj)
            if not regime.undecided or traj.status not in ("completed", "converged"):
                break
            horizon = max(2 * (regime.horizon or 0.0), 10 * horizon)
        stopped = "" if traj.status in ("completed", "converged") else f" ({traj.status}: {traj.message})"
        return Fate(regime.k, regime.reason + stopped)

    def objective(self, d: int) -> Objective:
        """The loss whose regimes are asked for, in d dimensions."""
        return ScoreMatching(Gaussian(np.zeros(d)), rule=Auto(tol=self.tol))

    def decided(self, d: int) -> Callable[[Any], bool]:
        """A new stop test, for one run."""
        return regimes.until_decided(np.zeros(d))

    def _run(self, start: State, horizon: float) -> Trajectory:
        decided = self.decided(start.d)
        if start.d > 1:
            # growth between records where it is fastest, t = n/4
            fast = float(start.centre @ start.centre) * np.log(10) / self.records / np.e
            traj = self._drive(start, horizon, lambda record: decided(record) or _across(record.state) < ACROSS,
                               self.records * max(1.0, fast / NATS))
            if traj.status != "converged" or regimes.count(traj) is not None:
                return traj
            start = _on_line(traj.final_state)
        return self._drive(start, horizon, self.decided(1), self.records)

    def _drive(self, start: State, horizon: float, stop: Callable[[Any], bool], for_a_decade: float) -> Trajectory:
        objective = self.objective(start.d)
        if self.step_size is None:
            return gradient_flow(objective, start, t_end=horizon, rtol=self.rtol, stop=stop, max_evaluations=MOST, progress=False,
                                 record=_records(horizon / 0.01, for_a_decade))
        steps = int(np.ceil(horizon / self.step_size))
        return gradient_descent(objective, start, step_size=self.step_size, steps=steps, stop=stop, progress=False,
                                record=_records(steps + 1, for_a_decade))


def _records(ratio: float, for_a_decade: float) -> LogSpaced:
    """Records of a run whose last one is `ratio` times later than its first."""
    return log_spaced(int(np.ceil(for_a_decade * np.log10(ratio))) + 2)


def _axis(state: State) -> np.ndarray:
    """The first axis of the space in the state's coordinates."""
    found: np.ndarray = np.eye(state.d)[0] if state.basis is None else state.basis[0] / np.linalg.norm(state.basis[0])
    return found


def _across(state: State) -> float:
    """Differences across the first axis over those along it."""
    along = state.deviations @ _axis(state)
    across = state.deviations - np.outer(along, _axis(state))
    return float(np.abs(across).max() / np.ptp(along)) if np.ptp(along) > 0 else np.inf


def _on_line(state: State) -> State:
    """The state on the line of the first axis."""
    axis = _axis(state)
    return State(centre=np.array([state.centre @ axis]), deviations=(state.deviations @ axis)[:, None], log_scale=state.log_scale)


@dataclass(frozen=True)
class Bracket:
    """Where something ceases to hold.

    Attributes
    ----------
    low, high : float
        It holds at `low` and no longer at `high`; infinite where no such point was met, NaN where nothing was decided.
    runs : int
        Runs it took.
    message : str
        Empty if the interval is as narrow as was asked for, else what came in between.
    """

    low: float
    high: float
    runs: int
    message: str = ""

    @property
    def found(self) -> bool:
        """Whether both ends are known."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def middle(self) -> float:
        """The middle of the interval."""
        return (self.low + self.high) / 2


def bisect(holds: Callable[[float], tuple[bool | None, str]], low: float, high: float, resolution: float, reach: float = 30.0) -> Bracket:
    """Bracket the point where `holds` turns from True to False.

    Parameters
    ----------
    holds : callable
        Takes b, returns True, False or None (undecided), and a reason.
    low, high : float
        Where it is expected to be; each is moved out, by more every time, until it encloses the point.
    resolution : float
        Width to end with.
    reach : float
        How far outside to look at most.

    Returns
    -------
    Bracket
    """
    runs, floor, ceiling, step = 0, -np.inf, np.inf, high - low
    place = low
    while True:
        said, reason = holds(place)
        runs += 1
        if said is None:
            return Bracket(floor, ceiling, runs, f"undecided at b = {place:.6g}: {reason}")
        if said:
            floor = place
        else:
            ceiling = place
        if floor > -np.inf and ceiling < np.inf:
            if ceiling - floor <= resolution * (1 + 1e-9):
                return Bracket(floor, ceiling, runs)
            place = (floor + ceiling) / 2
            continue
        if not low - reach <= place <= high + reach:
            return Bracket(floor, ceiling, runs, f"no change up to b = {place:.6g}")
        if said:  # nothing is known above
            place = high if place < high else place + step
        else:
            place = place - step
        step = step * 2 if not low <= place <= high else step


def profile_label(name: str | int) -> str:
    """A profile's name in a table."""
    return name if isinstance(name, str) else f"seed {name}"


def check_profiles(value: Any) -> tuple[str | int, ...]:
    """``profile=`` as a tuple of names and seeds."""
    def one(item: Any) -> str | int:
        if isinstance(item, str):
            if item not in PROFILES:
                raise ValueError
            return item
        return check_integer(item, "profile", minimum=0)

    return check_several(value, "profile", f"one of {', '.join(map(repr, PROFILES))} or a seed, a whole number not below 0", one)


def check_distances(value: Any) -> tuple[float, ...]:
    """``M=`` as a tuple of numbers above 0."""
    def one(item: Any) -> float:
        number = float(check_array(item, "M", ndim=0))
        if not 0 < number <= 1e3:
            raise ValueError
        return number

    return check_several(value, "M", "a number above 0 and not above 1000", one)
