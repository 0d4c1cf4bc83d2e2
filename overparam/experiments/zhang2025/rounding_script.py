"""Gradient descent as a script does it: absolute parameters, a fixed rule, NumPy in float64 or float32."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from overparam._reference import score_matching
from overparam.objectives import ScoreMatching
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["descend", "rule"]

HALF_WIDTH, ALONG = 9.0, 61  # of the trapezoid rule along the first axis: spreads up to 10 with an error below 1e-3
MOST_AXES = 8  # two nodes across for each further axis


@cache
def rule(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (N, d) and weights (N,) for means that differ along the first axis: a trapezoid rule there, two nodes ±1 on each other axis."""
    line = np.linspace(-HALF_WIDTH, HALF_WIDTH, ALONG)
    weights = np.exp(-(line**2) / 2)
    axes = [line] + [np.array([-1.0, 1.0])] * (d - 1)
    nodes = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)
    return nodes, np.repeat(weights / weights.sum(), 2 ** (d - 1)) / 2 ** (d - 1)


def descend(objective: ScoreMatching, params: np.ndarray, dtype: Any, step_size: float, steps: int, records: int) -> Trajectory:
    """Run ``params -= step_size * gradient`` in `dtype` and return the records; Ctrl-C passes through.

    Parameters
    ----------
    objective : ScoreMatching
        Of the single Gaussian N(0, I); only kept in the result.
    params : (n, d) array
        The start, rounded to `dtype`.
    dtype : dtype
        float32 or float64: of parameters, nodes, weights and all that is computed.
    step_size, steps, records
        As in the experiment.

    Returns
    -------
    Trajectory
        Its loss is that of the script.
    """
    params = np.array(params, dtype=dtype)
    n, d = params.shape
    nodes, weights = (part.astype(dtype) for part in rule(d))
    target, log_weights, eta = np.zeros(d, dtype), np.zeros(n, dtype), dtype(step_size)
    schedule = log_spaced(records).steps(steps)
    due, kept, losses, norms = set(schedule.tolist()), [], [], []
    for step in range(steps + 1):
        value, grad = score_matching(nodes, weights, target, params, log_weights)
        if step in due:
            kept.append(params.astype(np.float64))
            losses.append(float(value))
            norms.append(float(np.linalg.norm(grad)))
        params = params - eta * grad
    return Trajectory(steps=schedule, times=schedule * step_size, loss=np.array(losses), loss_error=np.zeros(len(losses)),
                      grad_norm=np.array(norms), centres=np.zeros((len(kept), d)), deviations=np.array(kept),
                      objective=objective, problem=objective.describe(),
                      driver="script", attributes={"dtype": np.dtype(dtype).name})
