"""Gradient flow from the same starts under two losses: runs, starts and settings of the experiments that compare losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.running import RunsResult, one_by_one
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import Trajectory, log_spaced

__all__ = ["Run", "TwoLossesResult", "checked", "cluster", "follow", "gaussian", "on_sphere", "one_near", "time_below"]

CLOSE = 0.3  # distance of the one that is near
Start = Callable[[dict[str, Any]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Run:
    """One flow towards the origin.

    Attributes
    ----------
    start, loss : str
        Names of both.
    trajectory : Trajectory
    regime : Regime
    """

    start: str
    loss: str
    trajectory: Trajectory
    regime: regimes.Regime

    @property
    def name(self) -> str:
        """Start and loss in words."""
        return f"{self.start}, {self.loss}"

    @property
    def k(self) -> str:
        """Number of parameters that converge, a question mark where undecided."""
        return "?" if self.regime.k is None else str(self.regime.k)

    @property
    def distances(self) -> np.ndarray:
        """(T, n) distances of the parameters from the target at the records."""
        return regimes.distances(self.trajectory)

    @property
    def farthest(self) -> np.ndarray:
        """(T,) distance of the farthest parameter."""
        found: np.ndarray = self.distances.max(axis=1)
        return found


@dataclass(frozen=True, eq=False)
class TwoLossesResult(RunsResult):
    """Base of the results: every start under both losses.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Start by start, both losses each; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def run(self, start: str, loss: str) -> Any:
        """The run from `start` on `loss`."""
        for run in self.runs:
            if (run.start, run.loss) == (start, loss):
                return run
        raise ValueError(f"there is no run {start!r} on {loss!r}; there are: {'; '.join(run.name for run in self.runs)}")


def time_below(times: np.ndarray, values: np.ndarray, threshold: float) -> float:
    """Return the time from which `values` stay below `threshold`; infinite if they are not below at the end.

    Between the record before and the one after it is interpolated, both axes logarithmic: exact for powers of time.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.experiments.two_losses import time_below
    >>> times = np.array([1.0, 10.0, 100.0])
    >>> round(time_below(times, times**-2, 1 / 400), 9), time_below(times, times**-2, 1e-9)
    (20.0, inf)
    """
    above = np.flatnonzero(~(values < threshold))
    if not above.size:
        return float(times[0])
    if above[-1] == len(values) - 1:
        return float("inf")
    ends = slice(above[-1], above[-1] + 2)
    if not (times[ends] > 0).all() or not (values[ends] > 0).all():
        return float(times[ends][1])
    (early, late), (high, low) = np.log(times[ends]), np.log(values[ends])
    return float(np.exp(early + (late - early) * (high - np.log(threshold)) / (high - low)))


def _centre(settings: dict[str, Any]) -> np.ndarray:
    centre = np.zeros(settings["d"])
    centre[0] = settings["M"]
    return centre


def cluster(settings: dict[str, Any]) -> np.ndarray:
    """A cloud of spread `scale` around (M, 0, ...)."""
    return init.cluster(settings["n"], center=_centre(settings), scale=settings["scale"], rng=settings["seed"])


def gaussian(settings: dict[str, Any]) -> np.ndarray:
    """Standard normal draws around (M, 0, ...)."""
    return init.gaussian(settings["n"], mean=_centre(settings), rng=settings["seed"])


def on_sphere(settings: dict[str, Any]) -> np.ndarray:
    """Random directions at distance M."""
    return init.on_sphere(settings["n"], settings["M"], settings["d"], rng=settings["seed"])


def one_near(settings: dict[str, Any]) -> np.ndarray:
    """The same with the first of them moved to 0.3 from the target."""
    params = on_sphere(settings)
    params[0] *= CLOSE / settings["M"]
    return params


def checked(n: Any, d: Any, M: Any, scale: Any, t_end: Any, threshold: Any, seed: Any, tol: Any, rtol: Any, records: Any,
            progress: Any) -> dict[str, Any]:
    """The settings that these experiments have in common, converted."""
    check_progress(progress)
    return {"n": check_integer(n, "n", minimum=2), "d": check_integer(d, "d", minimum=1), "M": check_positive(M, "M"),
            "scale": check_positive(scale, "scale"), "t_end": check_positive(t_end, "t_end"),
            "threshold": check_positive(threshold, "threshold"), "seed": check_integer(seed, "seed", minimum=0), "tol": Auto(tol=tol).tol,
            "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2), "records": check_integer(records, "records", minimum=10)}


def follow(losses: Mapping[str, Callable[..., Objective]], starts: Mapping[str, Start], settings: dict[str, Any], progress: bool | None,
           finish: Callable[[Run], Any] = lambda run: run) -> tuple[tuple[Any, ...], str]:
    """Flow from every start on every loss of a standard Gaussian at the origin.

    Parameters
    ----------
    losses, starts : mapping
        Objectives and functions of the settings, by name.
    settings : dict
        Those of :func:`checked`.
    progress : bool, optional
        As in the drivers.
    finish : callable
        What becomes of each run.

    Returns
    -------
    runs : tuple
    where : str
        As in :func:`~overparam.experiments.running.one_by_one`.
    """
    rule, teacher = Auto(tol=settings["tol"]), Gaussian(np.zeros(settings["d"]))

    def work(start: str, loss: str) -> Any:
        traj = gradient_flow(losses[loss](teacher, rule=rule), starts[start](settings), t_end=settings["t_end"], rtol=settings["rtol"],
                             record=log_spaced(settings["records"]), progress=progress)
        return finish(Run(start, loss, traj, regimes.classify(traj)))

    return one_by_one(work, [(f"in the run {start}, {loss}", (start, loss)) for start in starts for loss in losses])
