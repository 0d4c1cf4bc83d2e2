r"""A-priori error bounds of one-dimensional rules for softmax integrands under a Gaussian weight.

Along an axis on which the student's means spread over :math:`s` and the teacher's over :math:`s^*`, every softmax weight
obeys :math:`|w_i(x+iy)|\le w_i(x)/\cos(ys/2)` for :math:`|y|<\pi/s` (multiply numerator and denominator by
:math:`e^{-iym}`, :math:`m` the midrange: the real part of the denominator is at least :math:`\cos(ys/2)` times its value at
:math:`y=0`). An integrand with :math:`p` such factors is therefore bounded on the shifted line by its majorant on the real
line times :math:`\cos(as/2)^{-p}`, and the Gaussian weight by :math:`e^{a^2/2}`.

* Trapezoid rule of step :math:`h`: error at most :math:`2M_a/(e^{2\pi a/h}-1)`, :math:`M_a` the integral on the shifted
  lines (Trefethen and Weideman 2014, Theorem 5.1).
* Gauss–Hermite rule of order :math:`m`: error at most :math:`m!\sup|f|/a^{2m}` over discs of radius :math:`a` (remainder
  formula and Cauchy's estimate), and for :math:`x f(x)` at most
  :math:`m!\sup|f|\,(a^{-2m}\,\overline{|\xi|}+a^{1-2m})` with :math:`\overline{|\xi|}<1` the mean of :math:`|\xi|` under the
  rule's Peano kernel.
* Truncation: :math:`\varphi w_i` is log-concave with curvature at least 1, so it falls at least as fast as a standard normal
  density around its mode (see :mod:`overparam.geometry`).

The gradient's majorant of row i has the three parts A, B, C that the kernel's ``majorants`` returns: with
:math:`U=\sum_l w_l\|\mu_l-t\|` and :math:`V_i=\sum_j w_j\|\mu_i-\mu_j\|`,
:math:`A=2E[w_iU]` (two factors), :math:`B=2E[w_iV_iU\|x-\mu_i\|]` and :math:`C=2E[w_iV_iU]` (three factors, the last for
:math:`|x+ia-\mu_i|\le|x-\mu_i|+a`). A mixture teacher adds one factor :math:`1/\cos(as^*/2)` to each.
"""

from __future__ import annotations

from math import lgamma

import numpy as np

__all__ = ["Majorant", "hermite_error", "hermite_order", "trapezoid_error", "trapezoid_step"]

_FRACTIONS = np.concatenate([np.linspace(0.02, 0.9, 45), 1 - np.geomspace(0.09, 1e-3, 15)])
_MAX_ORDER = 48  # above this a trapezoid axis is always the smaller one


class Majorant:
    r"""What the bounds need to know of an integrand: its size by number of softmax factors, and the spreads on an axis.

    Parameters
    ----------
    two, three, moment : (q,) arrays
        Sizes of the parts of q quantities with two factors (A; for the loss :math:`E\,U^2`), with three (B), and with three
        and a factor `a` (C). For the loss B = C = 0.
    teacher_powers : (q,) array
        Number of factors :math:`1/\cos(as^*/2)`: 1 for a gradient row, 2 for the loss.
    """

    def __init__(self, two: np.ndarray, three: np.ndarray, moment: np.ndarray, teacher_powers: np.ndarray) -> None:
        self.two, self.three, self.moment, self.teacher_powers = two, three, moment, teacher_powers

    def relative_to(self, targets: np.ndarray) -> Majorant:
        """The envelope over the quantities of size / target: one quantity that is at least as hard as each of them."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            parts = [np.where(part > 0, part / targets, 0.0).max(keepdims=True)
                     for part in (self.two, self.three, self.moment)]
        return Majorant(*parts, self.teacher_powers.max(keepdims=True))

    def scale(self) -> np.ndarray:
        """(q,) sum of the parts: the size of the integral of the absolute integrand, up to a small factor."""
        return self.two + self.three


def _heights(limit: float, spread: float, teacher_spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidate heights a of the strip with cos(as/2) and cos(as*/2); `limit` caps a where the spread does not."""
    widest = max(spread, teacher_spread)
    top = limit if widest * limit <= np.pi else np.pi / widest
    a = top * _FRACTIONS
    return a, np.cos(a * spread / 2), np.cos(a * teacher_spread / 2)


def trapezoid_error(step: float, spread: float, teacher_spread: float, size: Majorant) -> np.ndarray:
    r"""Bound on the discretisation error of the trapezoid rule of `step` on one axis, (q,) array.

    .. math:: \min_a \frac{2e^{a^2/2}}{e^{2\pi a/h}-1}\Big[\frac{A}{\cos^2} + \frac{B+aC}{\cos^3}\Big]\cos^{-p^*}
    """
    a, cos, cos_teacher = _heights(1.2 * 2 * np.pi / step, spread, teacher_spread)
    with np.errstate(over="ignore"):
        front = np.log(2.0) + a * a / 2 - np.log(-np.expm1(-2 * np.pi * a / step)) - 2 * np.pi * a / step
        front = np.exp(front - 2 * np.log(cos))
    parts = size.two[:, None] + (size.three[:, None] + a * size.moment[:, None]) / cos
    return (front * parts * cos_teacher ** -size.teacher_powers[:, None]).min(axis=1)


def trapezoid_step(spread: float, teacher_spread: float, size: Majorant) -> float:
    """Largest step whose bound is below 1 for `size` (relative to its target), to 0.5 %."""
    low, high = 1e-4, 2.5
    if trapezoid_error(high, spread, teacher_spread, size)[0] <= 1:
        return high
    while high / low > 1.005:
        middle = np.sqrt(low * high)
        if trapezoid_error(middle, spread, teacher_spread, size)[0] <= 1:
            low = middle
        else:
            high = middle
    return float(low)


def hermite_error(order: int, spread: float, teacher_spread: float, size: Majorant) -> np.ndarray:
    r"""Bound on the error of the Gauss–Hermite rule of `order` on one axis, (q,) array.

    A disc of radius a around a node of the Peano kernel reaches off the real point by up to a + 1.5, over which every factor
    changes by at most :math:`e^{s(a+1.5)}`; hence the factor :math:`e^{3s(a+1.5)}` on the majorants, which are averages.
    """
    widest = max(spread, teacher_spread)
    if widest == 0:
        return np.zeros_like(size.two)
    a, cos, cos_teacher = _heights(4 * np.pi / widest, spread, teacher_spread)
    logs = lgamma(order + 1) - 2 * order * np.log(a) + 3 * widest * (a + 1.5) - 2 * np.log(cos)
    with np.errstate(over="ignore"):
        front = np.exp(logs)
    parts = size.two[:, None] + (size.three[:, None] + a * size.moment[:, None]) / cos
    return (front * parts * cos_teacher ** -size.teacher_powers[:, None]).min(axis=1)


def hermite_order(spread: float, teacher_spread: float, size: Majorant, highest: int = _MAX_ORDER) -> int | None:
    """Smallest order from 2 whose bound is below 1 for `size` (relative to its target); None above `highest`."""
    for order in range(2, highest + 1):
        if hermite_error(order, spread, teacher_spread, size)[0] <= 1:
            return order
    return None
