r"""Laws of gradient EM on a single Gaussian, equal weights, at flow time :math:`t=\eta\tau`. Derived, with no fitted constant.

The paper proves a bound :math:`O(1/\sqrt t)` on the loss, and that a start exists from which it takes a time exponential in d.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["escape_speed", "escape_time", "late_distance", "late_loss"]


def late_loss(times: Any, n: int, k: int) -> np.ndarray:
    r"""Return :math:`L=kn^2/(16t^2)`.

    Near the target the second moment :math:`S=\frac1n\sum\mu_i\mu_i^\top` obeys :math:`S^{-1}(t)=S^{-1}(0)+\frac2nt`, and
    :math:`L=\frac14\mathrm{tr}\,S^2`.

    Parameters
    ----------
    times : array
        Flow times t > 0.
    n : int
        Number of parameters.
    k : int
        Number of directions in which S is not tiny: min(d, n - 1) from a start in general position.

    Returns
    -------
    array

    Examples
    --------
    >>> from overparam.theory.xu2024 import laws
    >>> float(laws.late_loss(10.0, n=8, k=2))
    0.08
    """
    return k * n**2 / (16 * np.asarray(times, dtype=np.float64) ** 2)


def late_distance(times: Any, n: int, k: int) -> np.ndarray:
    r"""Return :math:`\sum_i\pi_i\|\mu_i-\mu^*\|^2=\mathrm{tr}\,S=kn/(2t)`.

    Parameters
    ----------
    times, n, k
        As in :func:`late_loss`.

    Returns
    -------
    array

    Examples
    --------
    >>> from overparam.theory.xu2024 import laws
    >>> float(laws.late_distance(10.0, n=8, k=2))
    0.8
    """
    return k * n / (2 * np.asarray(times, dtype=np.float64))


def escape_speed(radius: Any, n: int) -> np.ndarray:
    r"""Return :math:`\sqrt{\pi/8}\,e^{-r^2/8}/\sqrt{n-2}`, the speed at which a pair at ±r comes back when the n - 2 others are at 0.

    To leading order in 1/r. The responsibility of one of the pair crosses that of the others at :math:`r/2+\ln(n-2)/r`, where the gradient
    :math:`E[w^2]\,r` has its mass: :math:`r\,\varphi(r/2)\int\sigma(y)^2e^{-y/2}dy/r` over :math:`\sqrt{n-2}`, the integral being
    :math:`\pi/2`.

    Parameters
    ----------
    radius : array
        r.
    n : int
        Number of parameters, at least 3.

    Returns
    -------
    array

    Examples
    --------
    >>> from overparam.theory.xu2024 import laws
    >>> round(float(laws.escape_speed(4.0, n=3)) / 2.718281828459045**-2, 6)
    0.626657
    """
    return math.sqrt(math.pi / 8) * np.exp(-np.asarray(radius, dtype=np.float64) ** 2 / 8) / math.sqrt(n - 2)


def escape_time(outer: float, inner: float, n: int) -> float:
    r"""Return the flow time in which the pair goes from `outer` to `inner` at :func:`escape_speed`: about
    :math:`\sqrt{8(n-2)/\pi}\,\frac4{r}e^{r^2/8}`, r the outer radius, since the way is slowest where it begins.

    Parameters
    ----------
    outer, inner : float
        Radii, outer > inner > 0.
    n : int
        Number of parameters, at least 3.

    Returns
    -------
    float

    Examples
    --------
    >>> from overparam.theory.xu2024 import laws
    >>> f"{laws.escape_time(12.0, 10.0, n=3):.3g}"
    '3.58e+07'
    """
    from scipy.special import dawsn

    root = math.sqrt(8.0)
    # the integral of e^{r^2/8} is sqrt(8) e^{r^2/8} D(r / sqrt(8)), D Dawson's
    ends = dawsn(outer / root) - math.exp((inner**2 - outer**2) / 8) * dawsn(inner / root)
    return math.sqrt(8 * (n - 2) / math.pi) * root * math.exp(outer**2 / 8) * float(ends)
