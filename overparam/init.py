"""Starting points, named after what they do; each says which theorem or figure uses it.

Results about a single Gaussian depend on the parameters relative to its mean :math:`\\mu^*` alone. Plain (n, d) arrays
serve where float64 holds the start; where it does not, the start is a `State` of centre and deviations, which drivers
take alike, and where not even the deviations fit it carries them beside the logarithm of their scale.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from overparam._matrix_starts import balanced_gaussian, small_gaussian
from overparam._mixture_starts import bad_region, directions, from_teacher, on_sphere
from overparam._validation import check_array, check_count, check_params, check_positive, check_real, check_rng
from overparam.covariance import CovarianceGaussian
from overparam.state import State
from overparam.teachers import Gaussian

__all__ = ["around", "bad_region", "balanced_gaussian", "cluster", "exponentially_small", "from_teacher", "gaussian", "log_radius",
           "on_sphere", "one_offset", "small_gaussian", "symmetric_pair"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


#: Below this, products with numbers of order 1 lose digits to the denormal range of float64.
SMALLEST = 1e-300

#: Logarithms of sizes go down to this.
_LOWEST = -1e300


def cluster(n: int, center: Any, scale: float, rng: Any = None) -> np.ndarray:
    r"""Return :math:`\mu_i=c+\sigma z_i` with :math:`z_i\sim N(0,I_d)`: a tight cloud around one point.

    The start of Zhang et al. 2025 (arXiv 2511.22069), figure 1: n = 5, c = (M, 0, 0), scale 1e-7, with M = 4 and M = 6.

    Parameters
    ----------
    n : int
        Number of parameter vectors.
    center : (d,) array or float
        :math:`c`.
    scale : float
        :math:`\sigma\ge0`. Where it falls below the spacing of float64 at the centre the cloud collapses (a warning
        says so); `around` keeps it.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If an argument is out of range or not finite.

    Examples
    --------
    >>> import overparam as op
    >>> params = op.init.cluster(n=5, center=[6.0, 0, 0], scale=1e-7, rng=0)
    >>> params.shape, bool(abs(params - [6, 0, 0]).max() < 1e-6)
    ((5, 3), True)
    """
    n, center = check_count(n, "n"), _vector(center, "center")
    scale = check_real(scale, "scale", minimum=0.0)
    if 0.0 < scale < np.spacing(np.abs(center).max()):
        warnings.warn(
            f"scale {scale:g} is below the spacing of float64 at the center, {np.spacing(np.abs(center).max()):.1e}: "
            "the deviations are lost; init.around(center, deviations) keeps them",
            stacklevel=2,
        )
    found: np.ndarray = center + scale * check_rng(rng).standard_normal((n, center.size))
    return found


def gaussian(n: int, mean: Any, scale: float = 1.0, rng: Any = None) -> np.ndarray:
    r"""Return independent :math:`\mu_i\sim N(m,\sigma^2I_d)`: the random start of Corollary 3.6 of Zhang et al. 2025.

    The corollary asks for :math:`M_0=\|m-\mu^*\|>10^9\sqrt d\,n^{10}`. From about 1e12 on float64 rounds such a start
    by more than the gaps that matter: draw the deviations around 0 and give them to `around`.

    Parameters
    ----------
    n : int
        Number of parameter vectors.
    mean : (d,) array or float
        :math:`m`.
    scale : float
        :math:`\sigma\ge0`.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If an argument is out of range or not finite.

    Examples
    --------
    >>> import overparam as op
    >>> op.init.gaussian(n=3, mean=[8.0], rng=0).shape
    (3, 1)
    """
    n, mean = check_count(n, "n"), _vector(mean, "mean")
    scale = check_real(scale, "scale", minimum=0.0)
    found: np.ndarray = mean + scale * check_rng(rng).standard_normal((n, mean.size))
    return found


def log_radius(n: int, target: Any) -> float:
    r"""Return the natural logarithm of the radius that Theorem 3.2 of Zhang et al. 2025 asks for.

    .. math:: \ln r=-\ln(108\,n\,d)-106\,n\,d\,M_0^3,\qquad M_0=\|\mu^*\|

    Parameters
    ----------
    n : int
        Number of parameter vectors.
    target : (d,) array, float or Gaussian
        :math:`\mu^*`.

    Returns
    -------
    float
        :math:`\ln r`: the radius itself is below float64's range where n, d or M₀ are not small.

    Raises
    ------
    ValueError
        If an argument is out of range or not finite.

    Examples
    --------
    >>> import overparam as op
    >>> round(op.init.log_radius(n=2, target=[0.5]), 3)      # ln(1/216) - 212/8
    -31.875
    """
    n, target = check_count(n, "n"), _target(target)
    d = target.size
    distance = _norm(target)
    found: float = -math.log(108.0 * n * d) - 106.0 * n * d * (distance * distance * distance)  # ** would raise on overflow
    return found


def exponentially_small(n: int, target: Any, rng: Any = None, *, radius: float | None = None, log_scale: float = 0.0) -> State:
    r"""Return a start in an exponentially small ball around the origin: :math:`\|\mu_i\|\le r`, uniform in the ball.

    Theorem 3.2 of Zhang et al. 2025: with :math:`r=\frac1{108nd}\exp(-106\,n\,d\,M_0^3)`, :math:`M_0=\|\mu^*\|`, every
    parameter converges to the target.

    Parameters
    ----------
    n : int
        Number of parameter vectors.
    target : (d,) array, float or Gaussian
        :math:`\mu^*`.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.
    radius : float, optional
        :math:`r`, at least 1e-300. None stands for the theorem's.
    log_scale : float
        Multiplies the radius by :math:`e^{\text{log\_scale}}`, at most 0: radii below float64's range.

    Returns
    -------
    State
        Centre 0, deviations in the ball; with a ``log_scale`` where float64 does not hold them, as for most :math:`n\,d\,M_0^3`.

    Raises
    ------
    ValueError
        If the logarithm of the theorem's radius is below -1e300, or an argument is out of range.

    Examples
    --------
    >>> import overparam as op
    >>> start = op.init.exponentially_small(n=2, target=[1.0], rng=0)
    >>> 1e-96 < start.spread < 1e-94
    True
    >>> start = op.init.exponentially_small(n=5, target=[6.0, 0.0, 0.0], rng=0)
    >>> bool(abs(start.log_spread - op.init.log_radius(n=5, target=[6.0, 0.0, 0.0])) < 1), start.spread
    (True, 0.0)
    """
    n, target = check_count(n, "n"), _target(target)
    d = target.size
    log_scale = check_real(log_scale, "log_scale", minimum=_LOWEST, maximum=0.0)
    if radius is None:
        log_scale, radius = log_scale + log_radius(n, target), 1.0
        if log_scale < _LOWEST:
            raise ValueError(f"the natural logarithm of the radius of Theorem 3.2 for n = {n}, d = {d}, M0 = {_norm(target):g} is below "
                             f"{_LOWEST:g}; give radius=, or a target nearer to the origin")
    else:
        radius = check_real(radius, "radius", minimum=SMALLEST)
    rng = check_rng(rng)
    towards = directions(n, d, rng)
    lengths = rng.uniform(size=(n, 1)) ** (1.0 / d)
    # four ulps inside, so that rounding does not leave the ball
    return State(centre=np.zeros(d), deviations=towards * lengths * (radius * (1.0 - 4 * np.finfo(float).eps)), log_scale=log_scale)


def one_offset(n: int, target: Any, offset: float | None = None) -> np.ndarray:
    r"""Return :math:`\mu_1=\epsilon_0\,\mu^*/\|\mu^*\|` and all others exactly 0: one starts nearer the target.

    Theorem 3.4 of Zhang et al. 2025, with :math:`\epsilon_0=e^{-M_0/100}`, :math:`M_0=\|\mu^*\|`: the first parameter
    converges to the target and all others diverge.

    Parameters
    ----------
    n : int
        Number of parameter vectors, at least 2.
    target : (d,) array, float or Gaussian
        :math:`\mu^*`, not 0.
    offset : float, optional
        :math:`\epsilon_0>0`. None stands for the theorem's, which float64 holds for :math:`M_0` up to 69 000.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If the target is 0, the theorem's offset is below 1e-300, or an argument is out of range.

    Examples
    --------
    >>> import overparam as op
    >>> op.init.one_offset(n=3, target=[10.0, 0.0], offset=0.5).tolist()
    [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    n, target = check_count(n, "n", minimum=2), _target(target)
    distance = _norm(target)
    if distance == 0.0:
        raise ValueError("target must not be 0: the offset points towards it")
    if offset is None:
        if -distance / 100.0 < math.log(SMALLEST):
            raise ValueError(
                f"the offset of Theorem 3.4 for M0 = {distance:g} is 10**({-distance / 100.0 / math.log(10):.6g}), "
                f"below the {SMALLEST:g} that float64 holds safely; give offset="
            )
        offset = math.exp(-distance / 100.0)
    else:
        offset = check_positive(offset, "offset")
    params = np.zeros((n, target.size))
    params[0] = offset * (target / distance)
    return params


def symmetric_pair(n: int, s: float, dimension: int | None = None, target: Any = None) -> np.ndarray:
    r"""Return :math:`\mu_1=\mu^*+s\,e_1`, :math:`\mu_2=\mu^*-s\,e_1`, the rest at :math:`\mu^*`.

    Theorem 3.1 of Zhang et al. 2025: for :math:`n\ge3` the s that maximises the loss along this curve is a stationary
    point with positive loss (s = 2.55055099 for n = 3, 2.60810850 for n = 4, 2.67374938 for n = 5, 2.89140402 for n =
    10, in any dimension).

    Parameters
    ----------
    n : int
        Number of parameter vectors, at least 2 (the theorem needs 3).
    s : float
        Half the distance of the pair.
    dimension : int, optional
        The space's, d. None stands for that of the target, or 1.
    target : (d,) array, float or Gaussian, optional
        :math:`\mu^*`. None stands for 0.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If an argument is out of range or `dimension` is not that of the target.

    Examples
    --------
    >>> import overparam as op
    >>> op.init.symmetric_pair(n=3, s=2.55055099).ravel().tolist()
    [2.55055099, -2.55055099, 0.0]
    """
    n, s = check_count(n, "n", minimum=2), check_real(s, "s")
    given = None if target is None else _target(target)
    d = (1 if given is None else given.size) if dimension is None else check_count(dimension, "dimension")
    if given is not None and given.size != d:
        raise ValueError(f"dimension is {d} and the target has {given.size} coordinate(s): they must agree")
    params = np.zeros((n, d))
    params[0, 0], params[1, 0] = s, -s
    return params if given is None else params + given


def around(center: Any, deviations: Any, *, log_scale: float = 0.0) -> State:
    r"""Return the state :math:`\mu_i=c+e^\lambda\delta_i`, kept as centre and deviations so that nothing is rounded.

    It serves the starts that float64 arrays cannot hold: clouds of 1e-97 around a far centre (the border of the
    small-noise regime lies at :math:`\ln\varepsilon\approx-M_0^2`), and the starts of Theorems 3.5 to 3.7 of Zhang et
    al. 2025.

    Parameters
    ----------
    center : (d,) array or float
        :math:`c`.
    deviations : (n, d) array
        :math:`\delta_i`, one row per parameter vector.
    log_scale : float
        :math:`\lambda\le0`: deviations below float64's range (spread :math:`e^{-2000}`, say) are carried beside this logarithm.

    Returns
    -------
    State

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite or `log_scale` is above 0.

    Examples
    --------
    >>> import overparam as op
    >>> start = op.init.around(center=[15.0], deviations=[[1e-97], [-1e-97]])
    >>> start.spread == 2e-97
    True
    >>> start = op.init.around(center=[30.0], deviations=[[1.0], [-1.0]], log_scale=-900.0)
    >>> round(start.log_spread, 9)      # ln 2 - 900
    -899.306852819
    """
    log_scale = check_real(log_scale, "log_scale", minimum=_LOWEST, maximum=0.0)
    return State(centre=_vector(center, "center"), deviations=check_params(deviations, "deviations"), log_scale=log_scale)


def _vector(value: Any, name: str) -> np.ndarray:
    return np.atleast_1d(check_array(value, name, ndim=(0, 1)))


def _target(target: Any) -> np.ndarray:
    return target.mean if isinstance(target, Gaussian | CovarianceGaussian) else _vector(target, "target")


def _norm(vector: np.ndarray) -> float:
    return math.hypot(*vector)  # scaled: neither overflows nor underflows on the way
