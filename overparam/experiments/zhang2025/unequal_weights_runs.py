r"""Runs of the experiment on unequal weights, and the law of its border.

At a common point m the gradient of score matching is :math:`2\pi_im`, so that weights :math:`\pi_i=\frac1n(1+\rho z_i)` pull coincident
parameters apart. To first order, along m, :math:`\dot\delta_i=-\frac{2\rho z_i}nm+\frac4nm^2\delta_i` while :math:`\dot m=-\frac2nm`: with
m for time, :math:`\frac{d\delta_i}{dm}=\rho z_i-2m\delta_i`, hence :math:`\delta_i=-\rho z_i\,e^{-m^2}\int_m^Me^{u^2}du`. [derived]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import init, regimes
from overparam.drivers import gradient_descent, gradient_flow
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket, Dynamics, bisect
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["Pair", "decided_number", "equal_weights_border", "log_amplification", "pair", "weights_of"]

_HORIZON, _LONGER, _RECORDS = 200.0, 1e4, 120  # horizons times n: nearly all runs are decided at the first
_REFERENCE_M = 4.0


@dataclass(frozen=True)
class Pair:
    """Two descents from one start with the same unequal weights.

    Attributes
    ----------
    M : float
        Distance of the start.
    perturbation : float
        Root mean square of the weights' relative perturbation.
    plain, divided : int or None
        How many parameters converge in plain descent, and with each gradient row divided by n times its weight; None: undecided.
    """

    M: float
    perturbation: float
    plain: int | None
    divided: int | None


def log_amplification(M: float, m: float = 0.0) -> float:
    r"""Return :math:`\ln\big(e^{-m^2}\int_m^Me^{u^2}du\big)`: by what a perturbation of the weights becomes a spread, in logarithms.

    Parameters
    ----------
    M : float
        Distance of the start.
    m : float
        Distance of the centre, below M, where the spread is looked at.

    Returns
    -------
    float

    Examples
    --------
    >>> from overparam.experiments.zhang2025.unequal_weights_runs import log_amplification
    >>> round(log_amplification(1.0), 6), round(log_amplification(6.0), 3)     # ln 1.462652; close to 36 - ln 12
    (0.380251, 33.53)
    """
    from scipy.special import dawsn

    start = dawsn(M) - (dawsn(m) * math.exp(m**2 - M**2) if m else 0.0)
    return M**2 - m**2 + math.log(start)


def weights_of(shape: np.ndarray, perturbation: float) -> np.ndarray:
    """Weights (1 + perturbation * shape) / n."""
    return (1 + perturbation * shape) / len(shape)


def decided_number(M: float, weights: np.ndarray, tol: float, rtol: float) -> tuple[int | None, str]:
    """How many parameters converge in gradient flow from one point at distance M, and the reason; None if one is undecided."""
    objective = ScoreMatching(Gaussian([0.0]), weights=weights, rule=Auto(tol=tol))
    start = np.full((len(weights), 1), float(M))
    for horizon in (_HORIZON, _LONGER):
        run = gradient_flow(objective, start, t_end=horizon * len(weights), rtol=rtol, record=log_spaced(_RECORDS),
                            stop=regimes.until_decided([0.0]), progress=False)
        k, reason = _outcome(run)
        if k is not None:
            break
    return k, reason


def equal_weights_border(shape: np.ndarray, tol: float, rtol: float, resolution: float) -> Bracket:
    r"""Bracket :math:`\kappa=\ln\varepsilon+M^2` up to which all converge with equal weights from :math:`M-\varepsilon z_i`, at M = 4."""
    dynamics = Dynamics(None, tol, rtol)

    def holds(b: float) -> tuple[bool | None, str]:
        fate = dynamics.fate(_REFERENCE_M, 1, -shape, b - _REFERENCE_M**2)
        return None if fate.k is None else fate.k == len(shape), fate.reason

    return bisect(holds, 2.0, 3.0, resolution)


def pair(rng: np.random.Generator, n: int, distances: tuple[float, float], perturbations: tuple[float, float], spread: float,
         step_size: float, tol: float) -> Pair:
    """Plain and divided descent from one random start with random weights; what is drawn is uniform, the perturbation in its logarithm."""
    M, size = float(rng.uniform(*distances)), float(np.exp(rng.uniform(*np.log(perturbations))))
    shape = rng.standard_normal(n)
    shape -= shape.mean()
    shape /= max(np.sqrt((shape**2).mean()), size * -shape.min() / 0.9)  # no weight below a tenth of the mean
    weights = weights_of(shape, size)
    objective = ScoreMatching(Gaussian([0.0]), weights=weights, rule=Auto(tol=tol))
    start = init.around([M], spread * rng.standard_normal((n, 1)))
    numbers = []
    steps = int(np.ceil(_HORIZON * n / step_size))
    for precondition, eta in ((None, step_size), ("weights", step_size / n)):
        run = gradient_descent(objective, start, step_size=eta, steps=steps, precondition=precondition, record=log_spaced(_RECORDS),
                               stop=regimes.until_decided([0.0]), progress=False)
        numbers.append(_outcome(run)[0])
    return Pair(M, float(np.sqrt(((n * weights - 1) ** 2).mean())), *numbers)


def _outcome(run: Trajectory) -> tuple[int | None, str]:
    if run.status == "interrupted":
        raise KeyboardInterrupt
    regime = regimes.classify(run)
    return regime.k, regime.reason + ("" if run.status in ("completed", "converged") else f" ({run.status}: {run.message})")
