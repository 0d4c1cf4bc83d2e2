"""The runs of the comparison of optimizers: from the paper's cluster, and from the places between which a border is bisected."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam import init, regimes
from overparam.drivers import adam, gradient_descent, momentum
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, profile
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["METHODS", "cluster_run", "holds_at", "late_run"]

METHODS = ("descent", "heavy ball", "Nesterov", "Adam", "unequal weights", "preconditioned")
HORIZON = 200.0  # times n, in units of time in which a settled velocity moves as far as gradient flow
ADAM_STEPS = 40_000  # near a threshold Adam is decided after ten thousand steps of 0.01
RECORDS = 25  # for each decade of steps


def weights_of(settings: dict[str, Any]) -> np.ndarray:
    """Weights of the last two methods."""
    n = settings["n"]
    z = np.random.default_rng([settings["seed"], 1]).standard_normal(n)
    z -= z.mean()
    weights = 1 + settings["weight_spread"] * z / np.sqrt((z**2).mean())
    found: np.ndarray = weights / weights.sum()
    return found


def cluster_run(method: str, M: float, settings: dict[str, Any]) -> Trajectory:
    """A run from the cluster at distance M."""
    n, d = settings["n"], settings["d"]
    start = init.cluster(n=n, center=[M, *np.zeros(d - 1)], scale=settings["scale"], rng=settings["seed"])
    weights = weights_of(settings) if method in ("unequal weights", "preconditioned") else None
    objective = ScoreMatching(Gaussian(np.zeros(d)), weights=weights, rule=Auto(tol=settings["tol"]))
    return _drive(method, objective, start, settings, settings["steps"], record=log_spaced(120))


def late_run(method: str, settings: dict[str, Any]) -> Trajectory:
    """A run from normal places on a line around the target, inside the unit ball, where all converge."""
    n = settings["n"]
    z = np.random.default_rng([settings["seed"], 2]).standard_normal(n)
    weights = weights_of(settings) if method in ("unequal weights", "preconditioned") else None
    objective = ScoreMatching(Gaussian([0.0]), weights=weights, rule=Auto(tol=settings["tol"]))
    return _drive(method, objective, 0.9 * (z / np.abs(z).max())[:, None], settings, settings["steps"], record=log_spaced(120))


def _drive(method: str, objective: ScoreMatching, start: Any, settings: dict[str, Any], steps: int, **options: Any) -> Trajectory:
    eta = settings["step_size"]
    found: Trajectory
    if method == "Adam":
        found = adam(objective, start, step_size=settings["adam_step_size"], steps=steps, progress=False, **options)
    elif method == "preconditioned":
        found = gradient_descent(objective, start, step_size=eta / settings["n"], steps=steps, precondition="weights", progress=False,
                                 **options)
    elif method in ("heavy ball", "Nesterov"):
        found = momentum(objective, start, step_size=eta, steps=steps, momentum=settings["momentum"], nesterov=method == "Nesterov",
                         progress=False, **options)
    else:
        found = gradient_descent(objective, start, step_size=eta, steps=steps, progress=False, **options)
    return found


def holds_at(method: str, M: float, log_epsilon: float, settings: dict[str, Any]) -> tuple[bool | None, str]:
    """Whether all equispaced parameters of spread exp(log_epsilon) around M converge, on a line; None and why where that stays open."""
    n = settings["n"]
    z = profile("equispaced", n)
    if method == "descent":
        fate = Dynamics(settings["step_size"], settings["tol"]).fate(M, 1, z, log_epsilon)
        return None if fate.k is None else fate.k == n, fate.reason
    objective = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=settings["tol"]))
    steps = ADAM_STEPS if method == "Adam" else int(np.ceil(HORIZON * n * (1 - settings["momentum"]) / settings["step_size"]))
    traj = _drive(method, objective, init.around([M], np.exp(log_epsilon) * z[:, None]), settings, steps,
                  record=log_spaced(int(RECORDS * np.log10(steps))), stop=regimes.until_decided([0.0]))
    if traj.status == "interrupted":
        raise KeyboardInterrupt
    found = regimes.classify(traj)
    return None if found.k is None else found.k == n, found.reason if traj.status in ("completed", "converged") else traj.message
