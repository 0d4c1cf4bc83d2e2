"""Drivers, one file each; all run through `loop.run`."""

from overparam.drivers.descent import gradient_descent
from overparam.drivers.flow import gradient_flow
from overparam.drivers.minibatch import sgd

__all__ = ["gradient_descent", "gradient_flow", "sgd"]
