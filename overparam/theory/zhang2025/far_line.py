r"""Gradients of students on a line far from the target, in logarithms: at the distances of Theorem 3.5 they are below any float.

With the nearest student at :math:`\mu_0`, the others at :math:`\mu_j=\mu_0+t_je` and :math:`\alpha=\langle\mu_0,e\rangle` only
:math:`x=\langle x,e\rangle` matters, and :math:`\ln(w_j/w_0)=t_jx-G_j`, :math:`G_j=t_j(\alpha+t_j/2)`. Both gradients are sums over the
others of :math:`E[w_jg_j(x)]` with :math:`g_j` of moderate size; :math:`-x^2/2+\ln w_j` is concave, so its peak and the stretch around it
that counts are found by bisection, and an equispaced sum over that stretch is taken with the peak factored out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from overparam.state import State

__all__ = ["Line", "far_gradient", "line_through", "near_remainder"]

_EPS = float(np.finfo(np.float64).eps)
_DROP = 45.0  # nats below the peak at which an integrand is left off
_MOST = 2_000_000  # nodes

Terms = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of nodes (N,) and weights (N, n): the vectors (N, 2) along and across


class Line(NamedTuple):
    r"""Students on a line.

    Attributes
    ----------
    near : int
        Index of the one that :math:`t_j` is counted from.
    t : (n,) array
        Places :math:`t_j`, 0 at `near`.
    along, across : float
        :math:`\alpha`, and the length h of the part of :math:`\mu_0` across the line.
    rounding : float
        What :math:`\alpha` may be wrong by.
    """

    near: int
    t: np.ndarray
    along: float
    across: float
    rounding: float

    @property
    def odds(self) -> np.ndarray:
        r"""(n,) :math:`G_j`: log odds of `near` against j at the target."""
        return self.t * (self.along + self.t / 2)

    @property
    def error(self) -> float:
        """What logarithms of expectations are wrong by for the line's own rounding."""
        return float(np.abs(self.t).max()) * self.rounding + 8 * _EPS * float(np.abs(self.odds).max())


def line_through(state: State, near: int) -> Line | None:
    """The line on which a state's students are; None if they are on none, or all at one place.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.theory.zhang2025.far_line import line_through
    >>> line = line_through(op.State.of([[3.0, 4.0], [3.0, 6.0], [3.0, 5.0]]), 0)
    >>> line.t.tolist(), line.along, line.across
    ([0.0, 2.0, 1.0], 4.0, 3.0)
    """
    scale = math.exp(state.log_scale)
    apart = scale * (state.deviations - state.deviations[near])
    lengths = np.linalg.norm(apart, axis=1)
    if not lengths.max() > 0:
        return None
    axis = apart[int(np.argmax(lengths))] / lengths.max()
    t = apart @ axis
    if np.abs(apart - np.outer(t, axis)).max() > 64 * _EPS * lengths.max():
        return None
    place = state.centre + scale * state.deviations[near]
    along = float(place @ axis)
    rounding = 4 * _EPS * float(np.abs(axis) @ (np.abs(state.centre) + scale * np.abs(state.deviations[near])))
    return Line(near, t, along, float(np.linalg.norm(place - along * axis)), rounding)


def far_gradient(line: Line, j: int) -> tuple[float, float]:
    r"""ln of :math:`\|\nabla_jL\|` for equal weights and one of the others, and its error.

    :math:`\nabla_jL=2E[w_j(v+((\mu_j-v)\cdot v)(x-\mu_j))]`, with :math:`v=\mu_0+\tau e`, :math:`\tau=\sum_kw_kt_k`.
    """
    def terms(x: np.ndarray, w: np.ndarray) -> np.ndarray:
        tau = w @ line.t
        pull = (line.t[j] - tau) * (line.along + tau)
        return np.stack([line.along + tau + pull * (x - line.along - line.t[j]), line.across * (1 - pull)], axis=1)

    return _norm(line, [(j, terms)])


def near_remainder(line: Line) -> tuple[float, float]:
    r"""ln of :math:`\|\nabla_{i_0}L-2\mu_{i_0}\|` for equal weights, and its error.

    :math:`2\sum_jE[w_j(-\mu_0+w_0t_j(e-(\alpha+\tau)(x-\mu_0)))]`: see :func:`overparam.theory.zhang2025.cubic.stage_one`.
    """
    def of(j: int) -> tuple[int, Terms]:
        def terms(x: np.ndarray, w: np.ndarray) -> np.ndarray:
            tau, own = w @ line.t, w[:, line.near] * line.t[j]
            return np.stack([-line.along + own * (1 - (line.along + tau) * (x - line.along)),
                             line.across * (-1 + own * (line.along + tau))], axis=1)

        return j, terms

    return _norm(line, [of(j) for j in range(len(line.t)) if j != line.near])


def _norm(line: Line, parts: list[tuple[int, Terms]]) -> tuple[float, float]:
    """ln of the norm of twice a sum of E[w_j terms_j], and its error; NaN where the grid would be too large."""
    found: list[Any] = [_expectation(line, j, terms) for j, terms in parts]
    if any(one is None for one in found):
        return math.nan, math.nan
    top = max(peak for peak, _, _ in found)
    total = sum(math.exp(peak - top) * value for peak, value, _ in found)
    off = sum(math.exp(peak - top) * error for peak, _, error in found)
    size, error = float(np.linalg.norm(2 * total)), float(np.linalg.norm(2 * off))
    if not size > error:
        return (math.log(size) if size > 0 else -math.inf) + top, math.inf
    return math.log(size) + top, math.log1p(error / (size - error)) + line.error


def _expectation(line: Line, j: int, terms: Terms) -> tuple[float, np.ndarray, np.ndarray] | None:
    """E[w_j terms] over exp(peak): the peak, the values, and their errors."""
    t, odds = line.t, line.odds

    def log_sum(x: np.ndarray) -> np.ndarray:
        logits = np.outer(x, t) - odds
        most = logits.max(axis=1)
        found: np.ndarray = most + np.log(np.exp(logits - most[:, None]).sum(axis=1))
        return found

    def height(x: float) -> float:  # but for the odds, which may be far larger than all that varies
        found: float = -x * x / 2 + t[j] * x - float(log_sum(np.array([x]))[0])
        return found

    def slope(x: float) -> float:
        logits = x * t - odds
        w = np.exp(logits - logits.max())
        found: float = -x + t[j] - float(w @ t) / float(w.sum())
        return found

    reach = float(np.ptp(t)) + 1.0
    peak_at = _bisect(slope, -reach, reach)
    peak = height(peak_at)
    low = _bisect(lambda x: peak - _DROP - height(x), peak_at - 2 * math.sqrt(_DROP), peak_at)
    high = _bisect(lambda x: height(x) - peak + _DROP, peak_at, peak_at + 2 * math.sqrt(_DROP))
    others = np.arange(len(t)) != line.near
    smooth = float((np.outer([low, high], t[others]) - odds[others]).max()) < -_DROP  # the nearest has all the weight: exponentials
    step = 0.1 if smooth else min(0.1, 0.3 / float(np.ptp(t)))  # weights have their poles at pi over the extent of t
    if (high - low) / step > _MOST:
        return None
    x = low + step * np.arange(math.ceil((high - low) / step) + 1)
    sums = log_sum(x)
    density = np.exp(t[j] * x - sums - x * x / 2 - peak) * step / math.sqrt(2 * math.pi)
    values = density[:, None] * terms(x, np.exp(np.outer(x, t) - odds - sums[:, None]))
    total, size = values.sum(axis=0), np.abs(values).sum(axis=0)
    rounding = 64 * _EPS * (1 + float(np.abs(x).max()) * float(np.abs(t).max()))  # of the exponents
    return peak - float(odds[j]), total, np.abs(total - 2 * values[::2].sum(axis=0)) + rounding * size


def _bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function changes its sign between two places; the nearer end if it does not."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
