"""What is kept of a run in a sweep: functions of a trajectory by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from overparam import regimes
from overparam._validation import check_choice
from overparam.trajectory import Trajectory

__all__ = ["MEASURES", "check_measures", "measured"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


def _exponent(traj: Trajectory) -> float:
    from overparam import rates

    try:
        return rates.fit_power_law(traj).exponent
    except ValueError:  # too few records, or a loss that is 0
        return np.nan


def _count(traj: Trajectory) -> float:
    k = regimes.count(traj)
    return np.nan if k is None else float(k)


#: Name -> function of a trajectory that returns a number, a text or an array.
MEASURES: dict[str, Callable[[Trajectory], Any]] = {
    "k": _count,
    "regime": lambda traj: regimes.classify(traj).name,
    "loss": lambda traj: traj.loss[-1],
    "loss_error": lambda traj: traj.loss_error[-1],
    "grad_norm": lambda traj: traj.grad_norm[-1],
    "steps": lambda traj: traj.steps[-1],
    "time": lambda traj: traj.times[-1],
    "status": lambda traj: traj.status,
    "exponent": _exponent,
    "distances": lambda traj: regimes.distances(traj)[-1],
    "params": lambda traj: traj.final,
    "weights": lambda traj: traj.final_weights,
    "evaluations": lambda traj: traj.evaluations,
    "steps_recorded": lambda traj: traj.steps,
    "times_recorded": lambda traj: traj.times,
    "loss_recorded": lambda traj: traj.loss,
}

#: What each is, for messages and documentation.
MEANINGS: dict[str, str] = {
    "k": "how many parameters converge (NaN: undecided); on a single Gaussian",
    "regime": "the same in words",
    "loss": "the last loss",
    "loss_error": "its bound or standard error",
    "grad_norm": "the last gradient's norm",
    "steps": "steps taken",
    "time": "flow time reached",
    "status": "how the run ended",
    "exponent": "exponent of the power law fitted to the loss (NaN where none fits)",
    "distances": "last distances from the target, one for each parameter",
    "params": "the last parameters",
    "weights": "the last mixture weights",
    "evaluations": "gradients computed",
    "steps_recorded": "steps of all records",
    "times_recorded": "flow times of all records",
    "loss_recorded": "losses of all records",
}

Measures = dict[str, "str | Callable[[Trajectory], Any]"]


def check_measures(value: Any) -> Measures:
    """``measure=`` as a dict of names of `MEASURES` and functions.

    Parameters
    ----------
    value : str, sequence of str, or dict
        Names; or a function (or a name) for each name.

    Raises
    ------
    ValueError
        If a name is not known or a value is no function.
    """
    if isinstance(value, str):
        value = (value,)
    if isinstance(value, Mapping):
        for name, one in value.items():
            if not isinstance(name, str) or not name:
                raise ValueError(f"measure: names must be texts; got {name!r}")
            if not callable(one):
                check_choice(one, f"measure[{name!r}]", MEASURES)
        return dict(value)
    if not isinstance(value, Sequence):
        raise ValueError(f"measure must be names ({', '.join(MEASURES)}) or a dict of functions; got {value!r}"[:400])
    return {check_choice(one, "measure", MEASURES): one for one in value}


def measured(traj: Trajectory, measures: Measures) -> dict[str, Any]:
    """What the measures say of a trajectory, by name.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.measures import check_measures, measured
    >>> run = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[0.3], [-0.1]], step_size=0.1, steps=50)
    >>> found = measured(run, check_measures(["k", "status"]))
    >>> found["k"], found["status"]
    (2.0, 'completed')
    """
    return {name: (one if callable(one) else MEASURES[one])(traj) for name, one in measures.items()}
