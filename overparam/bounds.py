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

__all__ = ["Majorant", "hermite_error", "hermite_order", "hermite_room", "trapezoid_error", "trapezoid_step"]

_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])  # of the largest strip
_MAX_ORDER = 48  # above this a trapezoid axis is always the smaller one
_LOG_FACTORIAL = np.array([lgamma(order + 1) for order in range(4096)])


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


def _strips(limits: np.ndarray, spreads: np.ndarray, teacher_spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, A) candidate heights a with cos(as/2) and cos(as*/2); `limits` caps a where the spread does not."""
    widest = np.maximum(spreads, teacher_spread)
    with np.errstate(divide="ignore", over="ignore"):
        top = np.minimum(limits, np.pi / widest)
    a = top[:, None] * _FRACTIONS
    return a, np.cos(a * spreads[:, None] / 2), np.cos(a * teacher_spread / 2)


def _smallest(log_front: np.ndarray, a: np.ndarray, cos: np.ndarray, cos_teacher: np.ndarray, size: Majorant) -> np.ndarray:
    """(S, q) minimum over a of front [A/cos² + (B + aC)/cos³] cos*^-p*, in logarithms so that nothing overflows on the way."""
    with np.errstate(divide="ignore", over="ignore", under="ignore"):
        two, three, moment = (np.log(part)[:, None] for part in (size.two, size.three, size.moment))
        log_a, log_cos = np.log(a)[:, None], np.log(cos)[:, None]
        parts = np.logaddexp(two, np.logaddexp(three, moment + log_a) - log_cos) - 2 * log_cos
        parts = parts - size.teacher_powers[:, None] * np.log(cos_teacher)[:, None]
        return np.exp((log_front[:, None] + parts).min(axis=-1))


def trapezoid_error(steps: np.ndarray, spread: float, teacher_spread: float, size: Majorant) -> np.ndarray:
    r"""Bound on the discretisation error of trapezoid rules of `steps` (S,) on one axis: (S, q) array.

    .. math:: \min_a \frac{2e^{a^2/2}}{e^{2\pi a/h}-1}\Big[\frac{A}{\cos^2} + \frac{B+aC}{\cos^3}\Big]\cos^{-p^*}
    """
    steps = np.asarray(steps, dtype=np.float64)
    a, cos, cos_teacher = _strips(1.2 * 2 * np.pi / steps, np.full(len(steps), spread), teacher_spread)
    turns = 2 * np.pi * a / steps[:, None]
    return _smallest(np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns)), a, cos, cos_teacher, size)


def trapezoid_step(spread: float, teacher_spread: float, size: Majorant) -> float:
    """Largest step, to 1 %, whose bound is below 1 for `size` (relative to its target)."""
    steps = np.geomspace(2.5, 0.005, 40)
    for _ in range(2):
        enough = trapezoid_error(steps, spread, teacher_spread, size)[:, 0] <= 1
        first = int(enough.argmax()) if enough.any() else len(steps) - 1
        if first == 0:
            break
        steps = np.geomspace(steps[first - 1], steps[first], 18)
    return float(steps[first])


def hermite_error(orders: np.ndarray, spreads: np.ndarray, teacher_spread: float, size: Majorant) -> np.ndarray:
    r"""Bound on the error of Gauss–Hermite rules of `orders` (S,) on one axis, for student spreads (S,): (S, q) array.

    A disc of radius a around a point of the Peano kernel reaches off the axis' middle by up to a + 1.5, over which every factor
    changes by at most :math:`e^{s(a+1.5)}`; hence the factor :math:`e^{3s(a+1.5)}` on the majorants, which are averages.
    """
    orders, spreads = np.broadcast_arrays(np.asarray(orders, dtype=np.float64), np.asarray(spreads, dtype=np.float64))
    widest = np.maximum(spreads, teacher_spread)
    if not widest.any():
        return np.zeros((len(orders), len(size.two)))
    a, cos, cos_teacher = _strips(np.full(len(orders), 1e300), spreads, teacher_spread)
    with np.errstate(over="ignore"):
        log_front = _LOG_FACTORIAL[orders.astype(int)][:, None] - 2 * orders[:, None] * np.log(a) + 3 * widest[:, None] * (a + 1.5)
    return _smallest(log_front, a, cos, cos_teacher, size)


def hermite_order(spread: float, teacher_spread: float, size: Majorant) -> int | None:
    """Smallest order from 2 whose bound is below 1 for `size` (relative to its target); None above 48."""
    few = hermite_error(np.array([2]), np.array([spread]), teacher_spread, size)
    if few[0, 0] <= 1:
        return 2
    orders = np.arange(3, _MAX_ORDER + 1)
    enough = hermite_error(orders, np.full(len(orders), spread), teacher_spread, size)[:, 0] <= 1
    return int(orders[enough.argmax()]) if enough.any() else None


def hermite_room(order: int, spread: float, teacher_spread: float, size: Majorant) -> float:
    """Largest student spread, from `spread` up to 1, for which a Gauss–Hermite rule of `order` still meets `size`."""
    candidates = np.geomspace(1.0, max(spread, 1e-12), 40) if spread < 1 else np.array([spread])
    enough = hermite_error(np.full(len(candidates), order), candidates, teacher_spread, size)[:, 0] <= 1
    return max(spread, float(candidates[enough.argmax()])) if enough.any() else spread
