r"""What the experiment on averaging over noise times measures: borders, and the radius below which an escaped mean comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam import regimes
from overparam.drivers import gradient_flow
from overparam.experiments.zhang2025.phase_boundary_runs import HORIZON, MOST, RECORDS, Bracket, Dynamics, bisect
from overparam.objectives import Objective, TimeAveraged
from overparam.objectives.time_averaged import time_quadrature
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import log_spaced

__all__ = ["AveragedDynamics", "averaged", "exponent", "radius_at_rest", "returns"]

FIRST, STEP = 2.0, 1.5  # radius from which a mean is drawn back whatever the weight, and ratio of those at which the force is looked at
NEAR_SPREAD = 0.1  # of the means around the target beside an escaped one, normal on every axis
NEAR_SEED = 0


def exponent(weight: str | Callable, T: float, nodes: int = 32) -> float:
    r"""Return :math:`\langle e^{-4t}\rangle/\langle e^{-2t}\rangle`: the part of M² by which small differences grow on the way in.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.experiments.zhang2025.noise_averaging_runs import exponent
    >>> round(exponent("uniform", 2.0), 12) == round((1 + np.exp(-4)) / 2, 12)
    True
    """
    t, weights = time_quadrature(T, weight, nodes)
    return float(weights @ np.exp(-4 * t) / (weights @ np.exp(-2 * t)))


def averaged(weight: str | Callable, T: float, d: int, nodes: int, tol: float) -> TimeAveraged:
    r"""Return the averaged loss over :math:`[0,T]`, times a factor that gives parameters near the target the speed they have at T = 0.

    A factor is a change of the unit of time alone.
    """
    times, weights = time_quadrature(T, weight, nodes)
    return TimeAveraged(Gaussian(np.zeros(d)), times, weights / (weights @ np.exp(-2 * times)), rule=Auto(tol=tol))


def radius_at_rest(weight: str | Callable, T: float, n: int, nodes: int = 48, tol: float = 1e-6, most: float = 60.0,
                   resolution: float = 1e-3) -> float:
    r"""Return :math:`r_c`: the radius at which one mean feels no force while the other n-1 are at the target.

    With :math:`\mu_1=re_1` and the others at 0 the loss at time t is :math:`\ell(re^{-t})`, whatever the dimension, and the mean is
    drawn back where :math:`\int\lambda e^{-t}\ell'(re^{-t})dt>0`. From the target outwards that is so up to :math:`r_c`.

    Parameters
    ----------
    weight, T, nodes
        As in :func:`overparam.objectives.time_averaged.time_quadrature`.
    n : int
        Number of means.
    tol : float
        Relative tolerance of the force.
    most : float
        Largest radius that is looked at.
    resolution : float
        Relative accuracy.

    Returns
    -------
    float
        Infinite where the mean is drawn back up to `most`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.noise_averaging_runs import radius_at_rest
    >>> round(radius_at_rest("uniform", 0.0, 5), 2), round(radius_at_rest("uniform", 1.0, 5, nodes=16), 2)
    (2.72, 4.19)
    """
    from scipy.optimize import brentq

    objective, others = averaged(weight, T, 1, nodes, tol), [[0.0]] * (n - 1)

    def force(r: float) -> float:
        return float(objective.grad([[r], *others])[0, 0])

    low, high = FIRST, STEP * FIRST
    while force(high) > 0:
        if high >= most:
            return np.inf
        low, high = high, min(STEP * high, most)
    return float(brentq(force, low, high, xtol=resolution * low))


@dataclass(frozen=True)
class AveragedDynamics(Dynamics):
    """Gradient flow of the averaged loss; a run is decided once what escapes is beyond the radius `beyond` from which it would come back."""

    weight: str | Callable = "uniform"
    T: float = 1.0
    nodes: int = 8
    beyond: float = 0.0

    def objective(self, d: int) -> Objective:
        return averaged(self.weight, self.T, d, self.nodes, self.tol)

    def decided(self, d: int) -> Callable[[Any], bool]:
        settled = regimes.until_decided(np.zeros(d))

        def test(record: Any) -> bool:
            r = np.linalg.norm(np.asarray(record.params), axis=1)
            return settled(record) and bool(((r <= regimes.NEAR) | (r > self.beyond)).all())

        return test


def returns(dynamics: AveragedDynamics, n: int, d: int, low: float, high: float, resolution: float) -> Bracket:
    """Bracket the largest radius from which one mean comes back while the other n-1 are free, normal about the target at the start.

    They move: what they become under the pull of the far one is what the radius at rest leaves out.
    """
    near = NEAR_SPREAD * np.random.default_rng(NEAR_SEED).standard_normal((n - 1, d))
    objective = dynamics.objective(d)

    def comes_back(r: float) -> tuple[bool | None, str]:
        start = np.concatenate([r * np.eye(1, d), near])
        horizon = HORIZON * n
        for _ in range(3):
            traj = gradient_flow(objective, start, t_end=horizon, rtol=dynamics.rtol, stop=dynamics.decided(d), max_evaluations=MOST,
                                 progress=False, record=log_spaced(int(RECORDS * np.log10(horizon / 0.01)) + 2))
            if traj.status == "interrupted":
                raise KeyboardInterrupt
            if traj.status != "completed":
                break
            horizon *= 10
        regime = regimes.classify(traj)
        return (None, f"{regime.reason} ({traj.status}: {traj.message})") if traj.status != "converged" else (regime.k == n, regime.reason)

    return bisect(comes_back, low, high, resolution, reach=high)
