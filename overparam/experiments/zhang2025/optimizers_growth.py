r"""How much small deviations grow on the way to the target under each optimizer: its own iteration, linear in the deviations.

Equal weights, one Gaussian target at 0, a common point at the distance c. To first order the gradient rows are
:math:`\frac2nc-\frac4nc^2\delta_i` along c: the common part feeds the optimizer of the centre, the rest that of the deviations.
Small steps of descent make the growth :math:`e^{M^2}`; what an optimizer does to it is inertia, or its own scale of steps [derived].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["GROWTHS", "adam_growth", "descent_growth", "momentum_growth"]

_FAR_ENOUGH = 1e-9  # of the start: deviations have stopped growing where the centre has come so near
_MOST = 2_000_000  # steps


def descent_growth(M: float, n: int, step_size: float) -> float:
    r""":math:`\ln\prod(1+4\eta c_k^2/n)`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.optimizers_growth import descent_growth
    >>> round(descent_growth(4.0, 5, 1e-4), 2)
    16.0
    """
    return momentum_growth(M, n, step_size, 0.0)


def momentum_growth(M: float, n: int, step_size: float, momentum: float, nesterov: bool = False) -> float:
    r"""Of heavy ball or Nesterov: centre and deviations have velocities of their own.

    With the mass :math:`m=\eta/(1-\beta)^2` and the time :math:`t=\eta\tau/(1-\beta)` heavy ball is
    :math:`m\ddot\delta+\dot\delta=\frac4nc^2\delta` for small steps: where :math:`\frac4nc^2m` is not small deviations grow at the rate
    :math:`(\sqrt{1+16c^2m/n}-1)/(2m)` and not at :math:`\frac4nc^2`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.optimizers_growth import momentum_growth
    >>> [round(momentum_growth(6.0, 5, step_size, 0.9), 1) for step_size in (1e-2, 1e-3, 1e-4)]      # 36 in the limit
    [12.2, 22.4, 32.4]
    """
    c, velocity = M, 0.0
    delta, speed, log = 1.0, 0.0, 0.0
    for _ in range(_MOST):
        at, around = (c + momentum * velocity, delta + momentum * speed) if nesterov else (c, delta)
        velocity = momentum * velocity - step_size * 2 / n * at
        speed = momentum * speed + step_size * 4 / n * at * at * around
        c, delta = c + velocity, delta + speed
        if abs(delta) > 1e100:
            delta, speed, log = delta * 1e-100, speed * 1e-100, log + 100 * np.log(10)
        if abs(c) + abs(velocity) / (1 - momentum) < _FAR_ENOUGH * M:
            break
    return float(np.log(abs(delta) + abs(speed) / (1 - momentum)) + log)


def adam_growth(M: float, n: int, step_size: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> float:
    r"""Of Adam, whose step :math:`\hat m/(\sqrt{\hat s}+\epsilon)` is differentiated.

    A factor that all gradients of a coordinate have in common cancels: only that :math:`2c\,\delta_i`, the relative difference of the
    gradients, changes on the way makes deviations grow.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.optimizers_growth import adam_growth
    >>> round(adam_growth(6.0, 5, 0.01), 1)
    18.1
    """
    c, delta, log = M, 1.0, 0.0
    m = s = dm = ds = 0.0
    power1 = power2 = 1.0
    for _ in range(_MOST):
        g, dg = 2 / n * c, -4 / n * c * c * delta
        m, dm = beta1 * m + (1 - beta1) * g, beta1 * dm + (1 - beta1) * dg
        s, ds = beta2 * s + (1 - beta2) * g * g, beta2 * ds + (1 - beta2) * 2 * g * dg
        power1, power2 = power1 * beta1, power2 * beta2
        mean, root = m / (1 - power1), np.sqrt(s / (1 - power2))
        droot = ds / (1 - power2) / (2 * root) if root > 0 else 0.0
        c = c - step_size * mean / (root + eps)
        delta = delta - step_size * (dm / (1 - power1) / (root + eps) - mean * droot / (root + eps) ** 2)
        if abs(delta) > 1e100:
            delta, dm, ds, log = delta * 1e-100, dm * 1e-100, ds * 1e-100, log + 100 * np.log(10)
        if abs(c) < 1e-3 * M and abs(m) < 1e-3 / n * M:
            break
    return float(np.log(abs(delta)) + log)


#: The growth under each method of the experiment, from its settings.
GROWTHS: dict[str, Callable[[float, dict[str, Any]], float]] = {
    "descent": lambda M, s: descent_growth(M, s["n"], s["step_size"]),
    "heavy ball": lambda M, s: momentum_growth(M, s["n"], s["step_size"], s["momentum"]),
    "Nesterov": lambda M, s: momentum_growth(M, s["n"], s["step_size"], s["momentum"], nesterov=True),
    "Adam": lambda M, s: adam_growth(M, s["n"], s["adam_step_size"]),
}
