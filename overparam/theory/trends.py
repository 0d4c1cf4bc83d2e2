"""Whether a constant can exist: ratios of two sides, what chance adds to their maximum, and how they go with the scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from overparam._validation import check_choice

if TYPE_CHECKING:
    from overparam.theory.inequality import Bound

__all__ = ["LogRatios", "levels_off", "log_ratios", "slack"]

_CHANCE = 1e-3  # that a true lemma's held-out sample exceeds what it may
_CONFIDENCE = 0.99  # of a trend's slope


@dataclass(frozen=True, eq=False)
class LogRatios:
    r""":math:`\ln(left/right)`, or its negative for a lower bound, at the points where it is resolved.

    Attributes
    ----------
    values : (P,) array
    error : float
        Numerical error of the largest value.
    unresolved : int
        Number of points whose left side is not above its error; they are left out.
    """

    values: np.ndarray
    error: float
    unresolved: int

    @property
    def largest(self) -> float:
        """ln of the smallest constant that serves; -inf if no point is resolved."""
        return float(self.values.max()) if self.values.size else -np.inf


def log_ratios(sides: np.ndarray, bound: Bound) -> LogRatios:
    """From (P, 3) left, right and error; further columns are passed over."""
    left, right, error = np.asarray(sides, dtype=np.float64)[:, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        if bound.logarithmic:
            values, errors = left - right, error
            kept = ~np.isnan(values) & np.isfinite(error)  # an error that is NaN or inf is none that is known
        else:
            # a lower bound asks nothing where right <= 0
            kept = (left > error) if bound.relation == "<=" else (right > 0) & np.isfinite(error)
            # nothing but an infinite constant makes right <= 0 serve, or left <= 0 under a lower bound
            values = np.where((left > 0) & (right > 0), np.log(np.abs(left)) - np.log(np.abs(right)),
                              np.inf if bound.relation == "<=" else -np.inf)
            errors = error / np.abs(left)
    values = -values if bound.relation == ">=" else values
    values, errors = values[kept], errors[kept]
    if not values.size:
        return LogRatios(values, 0.0, len(left))
    return LogRatios(values, float(errors[int(np.argmax(values))]), int(len(left) - kept.sum()))


def slack(values: np.ndarray, held: int) -> float:
    r"""How far the largest of `held` new values may lie above the largest of N `values` of the same law, in a thousand cases all but one.

    Values in the upper quarter are taken to exceed it by exponential amounts, of mean :math:`\theta` (the ratio is a power law there; one
    that is bounded falls faster, so this is generous). With :math:`\hat\theta` the mean excess of the k = N/4 largest over the next, the
    new maximum lies more than s above the old one with probability at most :math:`\frac{held}{N}(1+s/(k\hat\theta))^{-k}`.

    Parameters
    ----------
    values : (N,) array
        Logarithms of ratios.
    held : int
        Number of new ones.

    Returns
    -------
    float
        s; 0 if there are fewer than 4 values or the largest coincide.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.trends import slack
    >>> rng = np.random.default_rng(0)
    >>> draws = rng.exponential(size=(2000, 2, 100))
    >>> exceeded = [new.max() > old.max() + slack(old, 100) for old, new in draws]
    >>> bool(sum(exceeded) < 12)
    True
    """
    finite = np.sort(values[np.isfinite(values)])[::-1]
    if finite.size < 4 or held == 0:
        return 0.0
    k = max(2, finite.size // 4)
    mean = float(finite[:k].mean() - finite[k])
    found: float = k * mean * max((held / (finite.size * _CHANCE)) ** (1 / k) - 1, 0.0)
    return found


def levels_off(scales: Sequence[float], tops: np.ndarray, error: float, end: str) -> tuple[bool | None, str]:
    r"""Whether the largest log ratio at each scale stays bounded towards one end of the scales, as far as a finite family shows.

    On the outer half of the family (at least four scales) :math:`\ln C` is fitted by a straight line in ln scale. It grows if its slope
    towards the end is above 0 by more than its 99 % interval (from the residuals) and the numerical error allow, or if it rises from each
    scale to the next; a growth that slows, to less than half from one half of the line to the other, is slower than a power, which keeps
    its pace, and does not count: a finite family does not tell one to a limit from that of a logarithm.

    Parameters
    ----------
    scales : (K,) floats, rising
    tops : (K,) array
        Logarithm of the constant needed at each scale.
    error : float
        Numerical error of `tops`.
    end : {"small", "large"}

    Returns
    -------
    (bool or None, str)
        None with fewer than four scales, or where the left side is not resolved; and the slope in words.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.trends import levels_off
    >>> scales = np.geomspace(1e-6, 1.0, 9)
    >>> levels_off(scales, np.log(2 + scales), 1e-12, "small")[0], levels_off(scales, np.log(scales**-0.1), 1e-12, "small")[0]
    (True, False)
    """
    x, y = np.log(np.asarray(scales, dtype=np.float64)), np.asarray(tops, dtype=np.float64)
    if check_choice(end, "end", ("small", "large")) == "small":
        x, y = -x[::-1], y[::-1]
    size = max(4, (len(x) + 1) // 2)
    if len(x) < 4:
        return None, f"{len(x)} scales show no trend: at least 4 would"
    x, y = x[-size:], y[-size:]
    if np.isposinf(y).any():
        return False, "no constant serves at one of the scales"
    if np.isneginf(y).any():
        vanishes = bool(np.isneginf(y[-1]))
        return (True, "the left side vanishes there") if vanishes else (None, "the left side is not resolved at some scales: a smaller "
                                                                              "numerical error would decide")
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    half = _quantile(size - 2) * float(np.sqrt(residual @ residual / (size - 2) / (centred @ centred)))
    half += 2 * error / float(x[-1] - x[0])
    middle = size // 2
    inner = (y[middle] - y[0]) / (x[middle] - x[0])
    outer = (y[-1] - y[middle]) / (x[-1] - x[middle])
    text = f"ln C against ln scale towards the end: slope {slope:+.3g} ± {half:.2g} over the last {size} scales"
    if slope <= half and not (np.diff(y) > 2 * error).all():  # a steady rise is one, however bent it is
        return True, text
    if outer < 0.5 * inner:
        return True, text + f", slowing from {inner:+.3g} to {outer:+.3g}: no power"
    return False, text + f": it grows and does not slow ({inner:+.3g}, then {outer:+.3g})"


def _quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # loaded here: importing overparam stays light

    return float(stdtrit(freedom, 0.5 + _CONFIDENCE / 2))
