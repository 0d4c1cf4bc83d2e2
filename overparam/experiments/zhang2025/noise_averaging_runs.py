r"""What the experiment on averaging over noise times measures: borders, and the radius below which an escaped mean comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam import regimes
from overparam.drivers import gradient_flow
from overparam.experiments.zhang2025.phase_boundary_runs import HORIZON, MOST, RECORDS, Bracket, Dynamics, bisect, profile
from overparam.objectives import Objective, TimeAveraged
from overparam.objectives.time_averaged import time_quadrature
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import log_spaced

__all__ = ["AveragedDynamics", "Border", "averaged", "border", "exponent", "radius_at_rest", "returns", "wide_clusters"]

FIRST, STEP = 2.0, 1.5  # radius from which a mean is drawn back whatever the weight, and ratio of those at which the force is looked at
NEAR_SPREAD = 0.1  # of the means around the target beside an escaped one, normal on every axis
NEAR_SEED = 0
CLOSEST = 4.0  # a cluster starts from beyond this, or its own spread at the border is no longer small
EXPECTED = (-2.65, 0.7, 0.6)  # kappa is near the first plus the second times the exponent at r_c, to the third (measured, n = 5)


def exponent(weight: str | Callable[..., Any], T: float, nodes: int = 32) -> float:
    r"""Return :math:`\langle e^{-4t}\rangle/\langle e^{-2t}\rangle`: the part of M² by which small differences grow on the way in.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.noise_averaging_runs import exponent
    >>> round(exponent("uniform", 2.0), 12)         # (1 + exp(-4)) / 2
    0.509157819444
    """
    t, weights = time_quadrature(T, weight, nodes)
    return float(weights @ np.exp(-4 * t) / (weights @ np.exp(-2 * t)))


def averaged(weight: str | Callable[..., Any], T: float, d: int, nodes: int, tol: float) -> TimeAveraged:
    r"""Return the averaged loss over :math:`[0,T]`, times a factor that gives parameters near the target the speed they have at T = 0.

    A factor is a change of the unit of time alone.
    """
    times, weights = time_quadrature(T, weight, nodes)
    return TimeAveraged(Gaussian(np.zeros(d)), times, weights / (weights @ np.exp(-2 * times)), rule=Auto(tol=tol))


def radius_at_rest(weight: str | Callable[..., Any], T: float, n: int, nodes: int = 48, tol: float = 1e-6, most: float = 60.0,
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
    """Gradient flow of the averaged loss; a run is decided once what escapes is `beyond` the radius from which it would come back."""

    weight: str | Callable[..., Any] = "uniform"
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


@dataclass(frozen=True)
class Border:
    r"""The border of the small-noise regime in one dimension d, at several distances.

    Attributes
    ----------
    predicted : float
        :math:`\langle e^{-4t}\rangle/\langle e^{-2t}\rangle`.
    M : tuple of float
    points : tuple of Bracket
        Of :math:`\kappa=\ln\varepsilon^*+M^2\langle e^{-4t}\rangle/\langle e^{-2t}\rangle`, one for each M.
    """

    predicted: float
    M: tuple[float, ...]
    points: tuple[Bracket, ...]

    @property
    def log_epsilon(self) -> np.ndarray:
        r""":math:`\ln\varepsilon^*` at each M; NaN where it was not found."""
        middle = np.array([point.middle if point.found else np.nan for point in self.points])
        return middle - self.predicted * np.square(self.M)

    @property
    def measured(self) -> float:
        r"""Minus the slope of :math:`\ln\varepsilon^*` over M²; NaN for less than two points."""
        square, border = np.square(self.M), self.log_epsilon
        square, border = square[np.isfinite(border)], border[np.isfinite(border)]
        return float(-np.polyfit(square, border, 1)[0]) if len(square) > 1 else np.nan

    @property
    def error(self) -> float:
        """What the widths of the intervals leave open of the slope."""
        widths = [point.high - point.low for point in self.points]
        return float(max(widths) / (max(self.M) ** 2 - min(self.M) ** 2)) if len(self.M) > 1 else np.nan


def border(dynamics: AveragedDynamics, n: int, d: int, multiples: tuple[float, ...], resolution: float) -> Border:
    r"""Find the border at distances that are `multiples` of :math:`r_c`: farther in, what escapes would come back."""
    radius, power, positions = dynamics.beyond, exponent(dynamics.weight, dynamics.T, dynamics.nodes), profile("equispaced", n)
    found: list[Bracket] = []
    distances = tuple(multiple * max(radius, CLOSEST) for multiple in multiples)
    middle = EXPECTED[0] + EXPECTED[1] * power * radius**2
    low, high = middle - EXPECTED[2], middle + EXPECTED[2]
    for M in distances:
        def all_converge(b: float, M: float = M) -> tuple[bool | None, str]:
            fate = dynamics.fate(M, d, positions, b - power * M**2)
            return None if fate.k is None else fate.k == n, fate.reason

        found.append(bisect(all_converge, low, high, resolution))
        if found[-1].found:
            low, high = found[-1].low - resolution / 2, found[-1].high + resolution / 2
    return Border(power, distances, tuple(found))


def wide_clusters(dynamics: AveragedDynamics, n: int, multiples: tuple[float, ...]) -> tuple[int | None, ...]:
    r"""How many of a cluster of spread 1 converge, at distances that are `multiples` of :math:`r_c`; None where undecided."""
    return tuple(dynamics.fate(multiple * dynamics.beyond, 1, profile("equispaced", n), 0.0).k for multiple in multiples)
