r"""A-priori error bounds of one-dimensional rules for softmax integrands under a Gaussian weight.

Along an axis on which the student's means spread over :math:`s` and the teacher's over :math:`s^*`, every softmax weight
obeys :math:`|w_i(x+iy)|\le w_i(x)/\cos(ys/2)` for :math:`|y|<\pi/s` (multiply numerator and denominator by
:math:`e^{-iym}`, :math:`m` the midrange: the real part of the denominator is at least :math:`\cos(ys/2)` times its value at
:math:`y=0`), and :math:`w_i(x')\le e^{s|x'-x|}w_i(x)` for real points.

* Trapezoid rule of step :math:`h`: error at most :math:`2M_a/(e^{2\pi a/h}-1)`, :math:`M_a` the integral of the modulus on the
  lines shifted by :math:`\pm ia` (Trefethen and Weideman 2014, Theorem 5.1); the Gaussian weight grows by :math:`e^{a^2/2}`
  there, a product of p weights by :math:`\cos(as/2)^{-p}`.
* Gauss–Hermite rule of order :math:`m`: :math:`\int K f^{(2m)}` with the Peano kernel :math:`K\ge0`, :math:`\int K=m!/(2m)!`,
  and Cauchy's estimate on circles of radius :math:`a\le2.5/s`, on which p weights grow by at most :math:`e^{psa}`.

The gradient's majorant of row i has the three parts A, B, C that the kernel's ``majorants`` returns: with
:math:`U=\sum_l w_l\|\mu_l-t\|` and :math:`V_i=\sum_j w_j\|\mu_i-\mu_j\|`,
:math:`A=2E[w_iU]` (p = 2), :math:`B=2E[w_iV_iU\|x-\mu_i\|]` and :math:`C=2E[w_iV_iU]` (p = 3, C for
:math:`|x+ia-\mu_i|\le|x-\mu_i|+a`). The loss has :math:`E[U^2]` (p = 2). A mixture teacher adds :math:`p^*` factors of its own:
1 for a row, 2 for the loss. The derivation is in docs/numerics.md.
"""

from __future__ import annotations

from math import lgamma

import numpy as np

from overparam.log_bounds import LogMajorant

__all__ = ["Majorant", "arms", "hermite_error", "hermite_order", "hermite_room", "trapezoid_error", "trapezoid_step"]

_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])  # of the largest strip
_CIRCLE = 2.5  # radius times spread up to which a product of weights is largest where the circle meets the real axis
_CIRCLES = np.linspace(0.04, 1.0, 25)
_NEAR = 40.0  # the height up to which a Majorant's `near` holds
_MAX_ORDER = 48  # above this a trapezoid axis is always the smaller one
_SQUARES = np.log(0.3)  # then a coordinate of Gauss–Hermite has a mean square of at most 1.7 (1 + tau^2)
_SAFETY = np.log(1.1)  # the majorants are taken on the rule's own nodes, which integrate them to 3 % on an axis ...
_TRUST = 0.03  # ... or the bound is inf: positive products of three weights obey the same bound, relative to themselves;
_ARM = np.log(10.0)  # ten times that for what a shift adds to ||x - mu||
_TRUST_ALL = 0.09  # over all axes together it is 9 %, and 1 / (1 - 0.09) < 1.1


class Majorant:
    r"""What the bounds need to know of q integrands: their sizes by number of softmax factors.

    Parameters
    ----------
    two, three, moment : (q,) arrays
        Sizes of the parts with two factors (A; for the loss :math:`E\,U^2`), with three (B), and with three and a factor that
        the shift adds (C). For the loss B = C = 0.
    teacher_powers : (q,) array
        Number of the teacher's factors: 1 for a gradient row, 2 for the loss.
    near : (q,) array, optional
        What the two-factor part is up to 40 from the real axis, where that is less (deviation rows of a tight state).
    axes : int
        Number of axes that carry a rule: they share what the majorants themselves may be off by.
    loss : LogMajorant, optional
        What bounds the last quantity where that is no product of weights (see :mod:`overparam.log_bounds`); its two-factor part is then 0.
    """

    def __init__(self, two: np.ndarray, three: np.ndarray, moment: np.ndarray, teacher_powers: np.ndarray,
                 near: np.ndarray | None = None, axes: int = 1, loss: LogMajorant | None = None) -> None:
        self.two, self.three, self.moment, self.teacher_powers = two, three, moment, teacher_powers
        self.near = two if near is None else near
        self.axes = axes
        self.loss = loss

    @property
    def trust(self) -> float:
        """ln of what a product of three weights may be off by on one axis."""
        return float(np.log(min(_TRUST, _TRUST_ALL / max(1, self.axes))))

    def relative_to(self, targets: np.ndarray) -> Majorant:
        """The envelope over the quantities of size / target: one quantity that is at least as hard as each of them."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            two, three, moment, near = (np.where(part > 0, part / targets, 0.0).max(keepdims=True)
                                        for part in (self.two, self.three, self.moment, self.near))
        loss = None if self.loss is None else self.loss.over(float(targets[-1]))
        return Majorant(two, three, moment, self.teacher_powers.max(keepdims=True), near, self.axes, loss)

    def log_two(self, a: np.ndarray) -> np.ndarray:
        """ln of the two-factor part for strips of half-width `a` (S, 1, A): (S, q, A)."""
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.where(a <= _NEAR, np.log(self.near)[:, None], np.log(self.two)[:, None])
            return found

    def log_three(self) -> tuple[np.ndarray, np.ndarray]:
        """ln B and ln C, each (q, 1); -inf for parts that vanish."""
        with np.errstate(divide="ignore"):
            return np.log(self.three)[:, None], np.log(self.moment)[:, None]


def arms(spreads: np.ndarray, teacher_spreads: np.ndarray, wide: np.ndarray) -> np.ndarray:
    r"""(2, k) lengths c such that B + cC, summed by a rule, bounds B integrated on some axes and summed on the others.

    B has the factor :math:`\|x-\mu_i\|`, which no rule integrates well. Along the r axes of trapezoid rules (`wide`) it is replaced
    by its mean over a unit Gaussian, which is analytic and larger by at most :math:`\sqrt r`; along the others it is freed from the
    coordinate, whose mean square against :math:`\varphi` times products of weights is at most :math:`1.7(1+\tau^2)`,
    :math:`\tau=3s+s^*`: once for the integral and once for the rule. The first row holds for an axis with a Gauss–Hermite rule, on
    which its own coordinate does not enter, the second for one with a trapezoid rule, `wide` saying what the others have.
    """
    narrow = ~wide & (np.maximum(spreads, teacher_spreads) > 0)
    squares = np.where(narrow, 1.7 * (1 + (3 * spreads + teacher_spreads) ** 2), 0.0)
    freed = 2 * np.sqrt(np.maximum(squares.sum() - squares, 0.0))
    smoothed = wide.sum() - wide.astype(int)
    return np.array([freed + np.sqrt(smoothed), freed + np.sqrt(smoothed + 1)])


def trapezoid_error(steps: np.ndarray, spread: float, teacher_spread: float, size: Majorant, arm: float = 0.0) -> np.ndarray:
    r"""Bound on the discretisation error of trapezoid rules of `steps` (S,) on one axis: (S, q) array.

    .. math:: \min_a \frac{2e^{a^2/2}}{e^{2\pi a/h}-1}\Big[\frac{A}{\cos^2} + \frac{B+(c+a)C}{\cos^3}\Big]\cos_*^{-p^*},\qquad
              \cos=\cos\frac{as}2,\ \cos_*=\cos\frac{as^*}2,\ a<\frac\pi{\max(s,s^*)}

    with c = `arm` (see :func:`arms`); inf where the rule is too coarse for its own majorants.
    """
    steps = np.asarray(steps, dtype=np.float64)
    top = np.minimum(1.2 * 2 * np.pi / steps, np.pi / max(spread, teacher_spread, 1e-305))
    a = top[:, None] * _FRACTIONS
    turns = 2 * np.pi * a / steps[:, None]
    front = _SAFETY + np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns))
    a = a[:, None]
    log_cos = np.log(np.cos(a * spread / 2))
    three, moment = size.log_three()
    parts = np.logaddexp(size.log_two(a), np.logaddexp(three, moment + np.log(arm + a)) - log_cos) - 2 * log_cos
    teacher = size.teacher_powers[:, None] * np.log(np.cos(a * teacher_spread / 2))
    own = front[:, None] - 3 * log_cos - teacher  # what three weights and no more may be off by
    with np.errstate(over="ignore", under="ignore"):
        fine = (own <= size.trust) & (own + np.log1p(a) <= size.trust + _ARM)
        errors = np.exp(np.where(fine, front[:, None] + parts - teacher, np.inf).min(axis=-1))
        smoothed = ((own + a * a / 2).min(axis=-1) <= size.trust) | (size.three <= 0)  # three weights and the smoothed arm
        errors = np.where(smoothed, errors, np.inf)
    if size.loss is not None:
        errors[:, -1] += size.loss.trapezoid(steps, spread, teacher_spread)
    return errors


def trapezoid_step(spread: float, teacher_spread: float, size: Majorant, arm: float = 0.0) -> float:
    """Largest step, to 1 %, whose bound is below 1 for `size` (relative to its target)."""
    steps = np.geomspace(1.6, 5e-4, 44)  # beyond 1.6 no rule integrates its own majorants; spreads of 150 still leave logits in range
    first = _first(steps, spread, teacher_spread, size, arm)
    if first > 0:
        steps = np.geomspace(steps[first - 1], steps[first], 22)
        first = _first(steps, spread, teacher_spread, size, arm)
    return float(steps[first])


def _first(steps: np.ndarray, spread: float, teacher_spread: float, size: Majorant, arm: float) -> int:
    """Index of the first of the falling `steps` that is small enough; the last one if none is."""
    enough = trapezoid_error(steps, spread, teacher_spread, size, arm)[:, 0] <= 1
    return int(enough.argmax()) if enough.any() else len(steps) - 1


def hermite_error(orders: np.ndarray, spreads: np.ndarray, teacher_spreads: np.ndarray, size: Majorant,
                  offset: float | np.ndarray) -> np.ndarray:
    r"""Bound on the error of Gauss–Hermite rules on axes with `orders`, `spreads`, `teacher_spreads` (S,): (S, q) array.

    .. math:: \min_a \frac{2\,m!}{a^{2m}}\Big[e^{\tau_2(a+1)+\tau_2^2/2}A
              + e^{\tau_3(a+1)+\tau_3^2/2}\big(B+(r+\tfrac12e^{\tau_3^2/2}+a)\,C\big)\Big],\qquad \tau_p=ps+p^*s^*

    (times :math:`2^m` for orders above 48) over :math:`a\max(s,s^*)\le2.5`, with r = `offset` (one, or one per axis) the largest
    distance along the axis of a student mean from the teacher's mean, plus the axis's :func:`arms`. Zero where all spreads are; inf
    where the rule is too coarse for its own majorants, or for the mean square of its coordinate.
    """
    together = np.broadcast_arrays(orders, spreads, teacher_spreads)
    orders, spreads, teacher_spreads = (np.asarray(part, dtype=np.float64) for part in together)
    widest = np.maximum(spreads, teacher_spreads)
    top = _CIRCLE / np.maximum(widest, 1e-305)[:, None]
    a = np.concatenate([top * _CIRCLES, np.minimum(top, _NEAR)], axis=1)[:, None]  # the last one: where `near` still holds
    factorials = np.array([lgamma(order + 1) + (order > _MAX_ORDER) * order * np.log(2.0) for order in orders])
    front = _SAFETY + np.log(2.0) + factorials[:, None, None] - 2 * orders[:, None, None] * np.log(a)
    two, (three, moment) = size.log_two(a), size.log_three()
    rate = size.teacher_powers[:, None] * teacher_spreads[:, None, None]
    rate_two, rate_three = rate + 2 * spreads[:, None, None], rate + 3 * spreads[:, None, None]
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.exp(np.minimum(rate_three**2 / 2, 700)) / 2 + a
        shifted = np.logaddexp(three, moment + np.log(np.broadcast_to(offset, orders.shape)[:, None, None] + lengths))
        parts = np.logaddexp(two + rate_two * (a + 1) + rate_two**2 / 2, shifted + rate_three * (a + 1) + rate_three**2 / 2)
        own = front + rate_three * (a + 1) + rate_three**2 / 2  # what three weights and no more may be off by
        fine = (own <= size.trust) & (own + np.log1p(lengths) <= size.trust + _ARM)
        errors = np.exp(np.where(fine, front + parts, np.inf).min(axis=-1))
        squares = (own + np.log1p(a * a / (1 + rate_three**2))).min(axis=-1)  # and three weights with the squared coordinate
        errors = np.where((squares <= _SQUARES) | (orders <= 2)[:, None], errors, np.inf)
    errors = np.where(widest[:, None] > 0, errors, 0.0)
    if size.loss is not None:
        errors[:, -1] += size.loss.hermite(orders, spreads, teacher_spreads)
    return errors


def hermite_order(spread: float, teacher_spread: float, size: Majorant, offset: float) -> int | None:
    """Smallest order from 3 whose bound is below 1 for `size` (relative to its target); None above 48."""
    orders = np.arange(3, _MAX_ORDER + 1)
    enough = hermite_error(orders, np.asarray(spread), np.asarray(teacher_spread), size, offset)[:, 0] <= 1
    return int(orders[enough.argmax()]) if enough.any() else None


def hermite_room(orders: np.ndarray, spreads: np.ndarray, teacher_spreads: np.ndarray, size: Majorant,
                 offset: float | np.ndarray) -> np.ndarray:
    """Student spreads, from `spreads` up to 1, for which Gauss–Hermite rules of `orders` still meet `size`: (S,) array.

    The bound grows like the spread to a power between 2m - 1 and 2m: that tells how far to go, and the bound itself whether it was too
    far.
    """
    floor = np.maximum(spreads, 1e-6)  # from smaller ones, where bounds underflow, the power would not lead far enough
    here = np.maximum(hermite_error(orders, floor, teacher_spreads, size, offset)[:, 0], 1e-300)
    room = spreads
    for power in (2 * orders, 2 * orders - 1):
        further = np.minimum(0.7 * floor * here ** (-1 / power), 1.0)
        fits = hermite_error(orders, further, teacher_spreads, size, offset)[:, 0] <= 1
        room = np.where(fits, np.maximum(further, room), room)
    return room
