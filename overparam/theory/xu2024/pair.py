r"""The pair :math:`\pm a\,e_1` with all other students on the target: its force by one-dimensional quadrature, in logarithms.

Equal weights keep the others at 0 and the pair symmetric, so that gradient EM is one equation,

.. math:: \dot a=-g(a),\qquad g(a)=\mathbb E[w_1v_1]=\frac a2\,\mathbb E_{x\sim N(0,1)}[(w_1-w_2)^2],

of order :math:`e^{-a^2/8}`: what the other students leave to the pair.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

__all__ = ["log_force", "log_least_time", "log_time"]

_LEFT, _RIGHT = 80.0, 160.0  # of a (x - a/2): the integrand falls like exp(3u/2) and exp(-u/2)
_TAIL = 12.0  # and like exp(-y^2/2) beyond the border at x = a/2
_POINTS = 101


def log_force(a: float, n: int) -> float:
    r"""Return :math:`\ln g(a)`.

    Parameters
    ----------
    a : float
        Distance of both from the target, above 0.
    n : int
        Number of students, at least 3: without one at the target the force is another.

    Returns
    -------
    float

    Examples
    --------
    >>> import math
    >>> import overparam as op
    >>> from overparam.theory.xu2024.pair import log_force
    >>> grad = op.KLDivergence(op.Gaussian([0.0])).grad([[2.0], [-2.0], [0.0]])
    >>> bool(abs(log_force(2.0, 3) - math.log(grad[0, 0])) < 1e-9)
    True
    """
    half = a / 2
    low, high = max(0.0, half - _LEFT / a), half + min(_RIGHT / a, _TAIL)
    count = math.ceil((high - low) / min(0.25, 0.25 / a))
    x = np.linspace(low, high, count + 1)
    share = np.ones(count + 1)
    share[0] = 0.5  # the integrand is even: a whole grid's half, or a far end where nothing is
    # logits against the students at 0
    right, left, rest = a * x - a**2 / 2, -a * x - a**2 / 2, math.log(n - 2)
    top = np.maximum(right, rest)
    with np.errstate(divide="ignore"):
        total = top + np.log(np.exp(right - top) + np.exp(left - top) + np.exp(rest - top))
        logs = -(x**2) / 2 + 2 * (right - total + np.log(-np.expm1(left - right)))
    peak = float(logs.max())
    integral = peak + math.log(float(share @ np.exp(logs - peak))) + math.log(2 * (x[1] - x[0]) / math.sqrt(2 * math.pi))
    return math.log(half) + integral


@lru_cache(maxsize=64)
def log_least_time(start: float, end: float, n: int) -> float:
    r"""Return the logarithm of a flow time before which the pair cannot get from `start` to `end`: distance over the largest force.

    .. math:: \eta t\ge\frac{a_0-a_1}{\max_{a_1\le a\le a_0}g(a)}

    The maximum is that of 101 points, with the largest difference of neighbours added where g is not monotone. It holds for gradient EM
    of any step size, since no step is longer than :math:`\eta\max g`.

    Parameters
    ----------
    start, end : float
        :math:`a_0>a_1>0`.
    n : int

    Returns
    -------
    float

    Examples
    --------
    >>> import math
    >>> from overparam.theory.xu2024.pair import log_least_time
    >>> bool(math.exp(log_least_time(12.0, 10.0, 3)) > 8.8e5)           # d = 1, against e/30 = 0.09
    True
    """
    forces = np.array([log_force(a, n) for a in np.linspace(end, start, _POINTS)])
    steps = np.diff(forces)
    monotone = bool((steps <= 0).all() or (steps >= 0).all())
    return math.log(start - end) - float(forces.max()) - (0.0 if monotone else float(np.abs(steps).max()))


@lru_cache(maxsize=64)
def log_time(start: float, end: float, n: int, nodes: int = 200) -> float:
    r"""Return the logarithm of the flow's time from `start` to `end`, :math:`\int_{a_1}^{a_0}da/g(a)`, by Gauss–Legendre quadrature.

    Parameters
    ----------
    start, end : float
    n : int
    nodes : int
        Of the quadrature; 200 serve as long as the forces differ by less than some 200 nats.

    Returns
    -------
    float

    Examples
    --------
    >>> from overparam.theory.xu2024.pair import log_least_time, log_time
    >>> log_time(12.0, 10.0, 3) > log_least_time(12.0, 10.0, 3)
    True
    """
    places, weights = np.polynomial.legendre.leggauss(nodes)
    half = (start - end) / 2
    logs = np.log(weights) - np.array([log_force(end + half * (1 + place), n) for place in places])
    peak = float(logs.max())
    return math.log(half) + peak + math.log(float(np.exp(logs - peak).sum()))
