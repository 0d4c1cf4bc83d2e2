r"""How two far means in different directions act on each other: the leading law of their loss, and the angle that follows from it.

Means at the target and at distance :math:`\rho` in two directions at the angle :math:`\theta`; :math:`\delta=2\rho\sin\frac\theta2` is
their distance from each other and :math:`r=\rho\cos\frac\theta2` that of their middle from the target. Along the bisector let
:math:`u=rx_1-\frac{\rho^2}2\sim N(-\frac{\rho^2}2,r^2)`, across it :math:`z=x_2`, and :math:`S=2\cosh\frac{\delta z}2`. Then
:math:`v=rp\,e_1+\frac\delta2p\tanh\frac{\delta z}2\,e_2` with :math:`p=Se^u/(1+Se^u)`. The loss lives where :math:`s=u+\ln S` is of order
one; there the density of u is :math:`e^{-\rho^2/(8\cos^2(\theta/2))}\,e^{-au-u^2/2r^2}` with :math:`a=1/(2\cos^2\frac\theta2)`, and
:math:`\int p^2e^{-as}ds=B(2-a,a)`. Leaving out :math:`e^{-s^2/2r^2}` alone, with :math:`\sigma=\ln S` and :math:`\tilde a=a-\sigma/r^2`,

.. math:: L\simeq\frac{r}{\sqrt{2\pi}}\,e^{-\rho^2/(8\cos^2\frac\theta2)}\;
          \mathbb E_z\Big[S^ae^{-\sigma^2/2r^2}B(2-\tilde a,\tilde a)\big(1+\tan^2\tfrac\theta2\tanh^2\tfrac{\delta z}2\big)\Big],
          \qquad\theta<120^\circ .

The loss of one far mean, in the same coordinates and so approximated (:math:`S=e^{\delta z/2}`, and 1 for tanh), depends on
:math:`\theta` through what was left out alone. What two do to each other is the quotient Q of the two, and
:math:`L=L_1(\rho)\,Q(\rho,\theta)` with :math:`L_1=\sqrt{\pi/8}\,\rho\,e^{-\rho^2/8}`; Q tends to 2 where they are far apart.

To leading order, for small angles, :math:`Q\simeq\sqrt2\,G(\delta)` with
:math:`G(\delta)=e^{-\delta^2/32}\,\mathbb E\cosh^{1/2}\frac{\delta z}2`, which rises from 1 to :math:`\sqrt2`: at a given distance from the
target far means attract each other. Gradient flow turns them and moves them outwards at the same time, so that

.. math:: \frac{d\theta}{d\rho}=\frac4{\rho^2}\,\frac{\partial_\theta\ln L}{\partial_\rho\ln L}
          \simeq-\frac{16}{\rho^2}\frac{G'(\delta)}{G(\delta)} .

Small :math:`\delta`: :math:`G'\simeq\delta/16`, hence :math:`\theta\propto1/\rho`: the angle closes like
:math:`(8\ln t)^{-1/2}` while :math:`\delta` stays as it is. (To next order :math:`\delta` grows, :math:`\delta^{-2}` falling by
:math:`\frac14\ln\rho^2/\rho_0^2`.) Large :math:`\delta`: :math:`G'` is of the order :math:`e^{-\delta^2/32}`, and the angle stands
still. [derived]
"""

from __future__ import annotations

import numpy as np

__all__ = ["attraction", "log_loss", "log_quotient", "turn"]

_STEP, _WIDTH = 0.05, 9.0  # of the trapezoid rule in z: a Gaussian times what is analytic up to |Im z| = pi / delta
_LEAST = 0.02  # of both arguments of B: one is below only where z is eight standard deviations from where the integrand lives


def attraction(delta: float) -> float:
    r"""Return :math:`G(\delta)=e^{-\delta^2/32}\,\mathbb E\cosh^{1/2}\frac{\delta z}2`, :math:`z\sim N(0,1)`.

    Parameters
    ----------
    delta : float
        Distance of the two far means.

    Returns
    -------
    float
        Between 1 (together) and the root of 2 (far apart).

    Examples
    --------
    >>> from overparam.experiments.zhang2025.far_geometry_law import attraction
    >>> [round(attraction(delta), 4) for delta in (0.0, 0.8, 30.0)]      # 1 + delta^2/32 where small
    [1.0, 1.0188, 1.4142]
    """
    z = _nodes(delta, delta / 4)
    y = np.abs(delta * z / 2)
    logs = (y + np.log1p(np.exp(-2 * y)) - np.log(2)) / 2 - z**2 / 2 - delta**2 / 32
    return float(np.exp(logs).sum() * (z[1] - z[0]) / np.sqrt(2 * np.pi))


def log_quotient(rho: float, theta: float) -> float:
    r"""Return :math:`\ln Q(\rho,\theta)`: the law's loss of two far means over that of one.

    Parameters
    ----------
    rho, theta : float
        Distance of both from the target, 4 or more, and the angle between them in radians, from 0 to below :math:`2\pi/3`.

    Returns
    -------
    float
        From about ln 2 / 2 (together; so at large rho) to ln 2 (far apart).

    Raises
    ------
    ValueError
        For an angle outside :math:`[0,2\pi/3)`.

    Examples
    --------
    >>> import math
    >>> from overparam.experiments.zhang2025.far_geometry_law import log_quotient
    >>> [round(math.exp(log_quotient(12.0, theta)), 3) for theta in (0.0, 0.3, 1.5)]
    [1.426, 1.723, 2.0]
    """
    if not 0 <= theta < 2 * np.pi / 3:
        raise ValueError(f"theta must lie in [0, 2 pi/3): beyond, two far means do not meet where all weights are alike; got {theta!r}")
    cosine, tangent = np.cos(theta / 2), np.tan(theta / 2)
    delta = 2 * rho * np.sin(theta / 2)
    z = _nodes(delta, delta / 4)
    half = delta * z / 2
    both = np.abs(half) + np.log1p(np.exp(-2 * np.abs(half)))
    two = _log_sum(both, (tangent * np.tanh(half)) ** 2, z, rho * cosine, 1 / (2 * cosine**2))
    return two - _log_sum(half, np.full(len(z), tangent**2), z, rho * cosine, 1 / (2 * cosine**2))


def log_loss(rho: float, theta: float) -> float:
    r"""Return the law's :math:`\ln L=\ln L_1(\rho)+\ln Q(\rho,\theta)`: see :func:`log_quotient`.

    Parameters
    ----------
    rho, theta : float

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np, overparam as op
    >>> from overparam.experiments.zhang2025.far_geometry_law import log_loss
    >>> exact = op.ScoreMatching(op.Gaussian([0.0, 0.0])).value([[0.0, 0.0], [12.0, 0.0], [12 * np.cos(0.3), 12 * np.sin(0.3)]])
    >>> round(float(np.log(exact)) - log_loss(12.0, 0.3), 2)
    -0.03
    """
    return float(np.log(np.pi / 8) / 2 + np.log(rho) - rho**2 / 8) + log_quotient(rho, theta)


def _log_sum(sigma: np.ndarray, across: np.ndarray, z: np.ndarray, r: float, a: float) -> float:
    """ln of the sum over z of S^a e^(-sigma^2 / 2 r^2) B(2 - a', a') (1 + across) e^(-z^2 / 2), a' = a - sigma / r^2."""
    from scipy.special import betaln

    tilt = np.clip(a - sigma / r**2, _LEAST, 2 - _LEAST)
    logs = a * sigma - sigma**2 / (2 * r**2) + betaln(2 - tilt, tilt) + np.log1p(across) - z**2 / 2
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).sum()))


def _nodes(delta: float, centre: float) -> np.ndarray:
    """Nodes in z around both places, at +-centre, where the integrand lives; their step follows the poles at pi / delta."""
    reach = centre + _WIDTH
    count = int(np.ceil(reach / min(_STEP, 1.0 / max(delta, 1.0))))
    return np.linspace(-reach, reach, 2 * count + 1)


def turn(rho: np.ndarray, theta0: float) -> np.ndarray:
    r"""Return the angle at each distance while two far means move outwards: the law's :math:`d\theta/d\rho`, integrated.

    Parameters
    ----------
    rho : (T,) array
        Distances from the target, ascending; the first is that of the start.
    theta0 : float
        Angle there, above 0 and below :math:`2\pi/3`.

    Returns
    -------
    (T,) array

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.experiments.zhang2025.far_geometry_law import turn
    >>> [np.round(turn(np.array([8.0, 16.0]), start), 3).tolist() for start in (0.02, 1.2)]
    [[0.02, 0.01], [1.2, 1.199]]
    """
    from scipy.integrate import solve_ivp

    rho = np.asarray(rho, dtype=np.float64)
    steps = np.flatnonzero(np.append(True, np.diff(rho) > 0))  # a record may repeat a distance to rounding

    def slope(distance: float, angle: np.ndarray) -> list[float]:
        theta = float(angle[0])
        h, k = 1e-3 * theta, 1e-3
        across = (log_quotient(distance, theta + h) - log_quotient(distance, theta - h)) / (2 * h)
        along = (log_loss(distance + k, theta) - log_loss(distance - k, theta)) / (2 * k)
        return [4 / distance**2 * across / along]

    if rho[-1] <= rho[0]:
        return np.full(len(rho), float(theta0))
    found = solve_ivp(slope, (rho[0], rho[-1]), [theta0], t_eval=rho[steps], rtol=1e-6, atol=1e-8 * theta0)
    result: np.ndarray = np.interp(rho, rho[steps], found.y[0])
    return result
