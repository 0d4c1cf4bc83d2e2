r"""Runs against :math:`N(0,\Sigma)` of one eigenvalue :math:`\lambda` other than 1: growth of small differences, who stays, the border.

About a common point :math:`\mu^*+c` equal weights have, to first order in the deviations,

.. math:: \nabla_{\mu_i}L=\frac2n\big[c+\bar\delta-2\,(cc^\top+\Sigma-I)(\delta_i-\bar\delta)\big],

so the centre falls as for the identity, and a deviation along an eigenvector of the eigenvalue :math:`\lambda`, along c, grows at the rate
:math:`\frac4n(\|c\|^2+\lambda-1)`: by :math:`M^2-1+2(\lambda-1)\ln M` in all while the centre goes from M to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import init
from overparam.drivers import gradient_flow
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, bisect
from overparam.experiments.zhang2025.phase_boundary_runs import profile as positions_of
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.regimes import FAR
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["DIRECTIONS", "Point", "border", "growth"]

DIRECTIONS = ("along", "across")
HORIZON, LONGER, ATTEMPTS = 1000.0, 10.0, 3  # flow time over n of a run; an undecided one goes on to ten times it, twice
RECORDS = 10  # for each decade of flow time
MOST = 200_000  # gradients of a flow: runs that end take some thousands
NEAR = 0.3  # spread about the teacher's mean of a run that shows where parameters rest if none escapes
WIDE = -0.5  # ln of a spread that is no longer small
ACROSS_SEED = 0  # of the differences across the start, normal with the standard deviation that the profile has along it


def growth(M: float, variance: float = 1.0) -> float:
    r"""Logarithm of what small differences along the start grow by while the centre goes from M to 1, and 1: :math:`M^2+2(\lambda-1)\ln M`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.covariance_runs import growth
    >>> growth(4.0), round(growth(4.0, 2.0), 4)
    (16.0, 18.7726)
    """
    return M**2 + 2 * (variance - 1) * math.log(M)


@dataclass(frozen=True)
class Point:
    r"""The border for one eigenvalue, direction and distance.

    Attributes
    ----------
    n : int
    direction : str
        "along": the start lies along the eigenvector of `variance`; "across": across it, with differences in both directions.
    variance : float
        The eigenvalue :math:`\lambda`; the others are 1.
    M : float
    border : Bracket
        Of :math:`b=\ln\varepsilon+` growth: at ``low`` all parameters stay, at ``high`` one escapes at least.
    radius : float
        Distance from the teacher's mean of the farthest parameter where all stay.
    staying : int or None
        How many stay just above the border.
    """

    n: int
    direction: str
    variance: float
    M: float
    border: Bracket
    radius: float
    staying: int | None = None

    @property
    def log_epsilon(self) -> float:
        """The border itself, in the middle of its interval."""
        return self.border.middle - growth(self.M, self.variance if self.direction == "along" else 1.0)


def run(n: int, direction: str, variance: float, M: float, profile: str | int, log_epsilon: float, horizon: float, tol: float,
        rtol: float) -> Trajectory:
    """Flow from ``M + exp(log_epsilon) * positions`` along the first axis, which is the eigenvector of `variance`, or the other one."""
    positions = positions_of(profile, n)[:, None]
    covariance = [variance]
    if direction == "across":
        covariance = [1.0, variance]
        positions = np.column_stack([positions, np.random.default_rng(ACROSS_SEED).standard_normal(n)])
    d = len(covariance)
    objective = ScoreMatching(Gaussian(np.zeros(d), covariance=covariance), rule=Auto(tol=tol))
    start = init.around(np.eye(d)[0] * M, positions * math.exp(log_epsilon))
    record = log_spaced(int(RECORDS * math.log10(horizon / 0.01)) + 2)
    found = gradient_flow(objective, start, t_end=horizon, rtol=rtol, record=record, max_evaluations=MOST, progress=False)
    if found.status == "interrupted":
        raise KeyboardInterrupt
    return found


def staying(traj: Trajectory, radius: float) -> tuple[int | None, str]:
    """How many parameters stay within `radius`, about; None, and why, while one neither does nor escapes.

    One escapes if over the last e-fold of flow time it is farther out than `radius` + 2.55 and does not come back.
    """
    if traj.status != "completed":
        return None, f"{traj.status}: {traj.message}"
    last = int(np.searchsorted(traj.times, traj.times[-1] / np.e))
    distances = np.array([np.linalg.norm(traj.params[k], axis=1) for k in range(last, len(traj.times))])
    out = (distances > radius + FAR).all(axis=0) & (np.diff(distances, axis=0) >= -1e-9 * distances.max()).all(axis=0)
    stay = (distances <= radius + 1.0).all(axis=0)
    if (out | stay).all():
        return int(stay.sum()), ""
    return None, f"at flow time {traj.times[-1]:.3g} one is at {distances[-1][~(out | stay)][0]:.4g}"


def border(n: int, direction: str, variance: float, M: float, profile: str | int, resolution: float, tol: float, rtol: float) -> Point:
    """The largest spread at which all parameters stay, by bisection."""
    grown = growth(M, variance if direction == "along" else 1.0)
    rest = run(n, direction, variance, 0.0, profile, math.log(NEAR), HORIZON * n, tol, rtol)
    radius = float(np.linalg.norm(rest.final, axis=1).max())
    counts: dict[float, int | None] = {}

    def all_stay(b: float) -> tuple[bool | None, str]:
        if b - grown > WIDE:
            return None, f"the spread is {math.exp(b - grown):.3g}, not small against 1"
        horizon = HORIZON * n
        for _ in range(ATTEMPTS):
            k, why = staying(run(n, direction, variance, M, profile, b - grown, horizon, tol, rtol), radius)
            if k is not None:
                break
            horizon *= LONGER
        counts[b] = k
        return None if k is None else k == n, why

    middle = 2.5 * variance if variance < 1 else 2.5 + 5 * (variance - 1) + (variance - 1) ** 2 / 2  # about, for five
    middle = middle if direction == "along" else 2.5
    found = bisect(all_stay, middle - 8 * resolution, middle + 8 * resolution, resolution)
    return Point(n, direction, variance, M, found, radius, counts.get(found.high))
