"""Trajectories made of formulas, for tests of what only reads a trajectory."""

import numpy as np

from overparam.trajectory import Trajectory


def make_run(times, loss=None, positions=None, *, target=None, loss_error=0.0, **fields):
    """A Trajectory with the given times; `positions` (T, n) are distances along the first axis, or (T, n, d) parameters."""
    times = np.asarray(times, dtype=float)
    loss = np.ones(times.size) if loss is None else np.asarray(loss, dtype=float)
    positions = np.zeros((times.size, 1)) if positions is None else np.asarray(positions, dtype=float)
    params = positions[:, :, None] if positions.ndim == 2 else positions
    target = np.zeros(params.shape[2]) if target is None else np.asarray(target, dtype=float)
    given = {"steps": np.round(100 * times).astype(int), "centres": np.zeros((times.size, params.shape[2])), "deviations": params,
             "problem": {"kind": "ScoreMatching", "teacher": {"kind": "Gaussian", "mean": target.tolist()}}}
    return Trajectory(times=times, loss=loss, loss_error=np.broadcast_to(loss_error, times.shape), grad_norm=np.zeros(times.size),
                      **{**given, **fields})
