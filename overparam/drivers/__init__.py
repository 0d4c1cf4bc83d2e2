"""Drivers, one file each; all run through `loop.run`. `BY_NAME` is the table that configurations go by."""

from collections.abc import Callable
from typing import Any

from overparam.drivers.adaptive import adam
from overparam.drivers.descent import gradient_descent
from overparam.drivers.expectation_maximization import em
from overparam.drivers.flow import gradient_flow
from overparam.drivers.minibatch import sgd
from overparam.drivers.momentum import momentum

__all__ = ["BY_NAME", "adam", "em", "gradient_descent", "gradient_flow", "momentum", "sgd"]

#: What begins a run, by the name that the trajectory carries: called with (objective, params0, **settings).
BY_NAME: dict[str, Callable[..., Any]] = {
    "gradient_descent": gradient_descent, "gradient_flow": gradient_flow, "momentum": momentum, "adam": adam, "sgd": sgd, "em": em,
}
