"""What is lost where a State's deviations become differences of absolute parameters, which some drivers move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam.objectives.averaged_terms import norms
from overparam.state import State

__all__ = ["check_followed", "loss_of_differences", "remark_on"]

_NO_DIGIT = 0.5  # relative error of a difference of which nothing is left: coincident parameters have 1
_WORTH_SAYING = 1e-3
_HELD = 1e4 * np.finfo(np.float64).eps  # differences smaller than this part of the deviations are not held by the State itself


def loss_of_differences(given: State, rows: np.ndarray) -> float:
    r"""The largest :math:`|(r_i-r_j)-(\delta_i-\delta_j)|/|\delta_i-\delta_j|`: how well `rows` (n, d) keep the differences of `given`.

    Coincident parameters have none, and differences of neighbouring floats of the deviations are noise: neither counts.
    """
    deviations = given.true_deviations
    sizes, worst = norms(deviations), 0.0  # squares of 1e-300 would be 0
    for i in range(len(rows) - 1):
        wanted = deviations[i + 1:] - deviations[i]
        length = norms(wanted)
        held = length > _HELD * np.maximum(sizes[i + 1:], sizes[i])
        if held.any():
            apart = norms(rows[i + 1:][held] - rows[i] - given.expand_gradient(wanted[held]))
            worst = max(worst, float((apart / length[held]).max()))
    return worst


def check_followed(params0: Any, rows_of: Callable[[State], np.ndarray], driver: str, others: str) -> None:
    """Raise ValueError for a State, or one of a list, whose deviations would be lost in the rows that `driver` moves."""
    for given in params0 if isinstance(params0, (list, tuple)) else [params0]:
        if not isinstance(given, State):
            continue  # an array has absolute parameters only
        said = None
        if given.log_scale:
            said = f"below float64's range (log_spread {given.log_spread:.6g})"
        elif loss_of_differences(given, rows_of(given)) > _NO_DIGIT:
            said = f"that vanish when they are added to the centre (spread {given.spread:.3g})"
        if said:
            raise ValueError(f"params0 has deviations {said}, and {driver}, that moves absolute parameters, does not follow them: use "
                             f"{others}, or start from params0.params, which is what absolute parameters hold of it")


def remark_on(loss: float) -> str:
    """What is to be said in a run's message."""
    if loss <= _WORTH_SAYING:
        return ""
    return f"differences of the start's parameters are rounded by up to {loss:.1%} of themselves: this driver moves absolute parameters"
