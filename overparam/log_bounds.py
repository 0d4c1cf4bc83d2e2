r"""A-priori error bounds for expectations of the log ratio of two mixtures.

With :math:`Z(x)=\sum_i\pi_ie^{\langle x,\mu_i\rangle-\|\mu_i\|^2/2}` the loss is :math:`E f`, :math:`f=\ln Z^*-\ln Z`; the quadratics of
the two densities cancel. Off the real axis :math:`\ln Z(x+iye_k)-iym_k`, m the midrange of the means on the axis, has a real part in
:math:`[\ln Z+\ln\cos\frac{ys}2,\ln Z]` and an imaginary part of at most :math:`|y|s/2`, and on it f changes by at most
:math:`R=\max_{i,a}|(\mu_i-m_a)_k|` per unit. Where all means lie close to a single Gaussian target, :math:`f=e^r-1-r` with
:math:`r=\ln(p/p^*)`, which is of the order of the fourth power of the deviations. The derivation is in docs/numerics.md, section 12.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from math import lgamma
from typing import Any

import numpy as np

__all__ = ["FarLogs", "LogMajorant", "NearLogs", "axis_moments", "log_size", "second_moments"]

_FRACTIONS = np.concatenate([np.linspace(0.04, 0.9, 24), 1 - np.geomspace(0.08, 1e-3, 8)])  # of the largest strip
_CIRCLES = np.geomspace(0.01, 1.0, 40)
_CIRCLE, _WIDEST = 2.5, 1e60  # of radius times spread; of a radius, so that its powers stay in float64
_MAX_ORDER = 48  # up to which the moments of Peano's kernel are below the normal ones


def log_size(params: np.ndarray, weights: np.ndarray, mean: np.ndarray) -> tuple[float, float, float]:
    r"""(A, B, C) with :math:`|\ln(p/\varphi_m)(m+z)|\le A+B\|z\|+\min(C\|z\|,\frac12\|z\|^2)`, p a mixture and m = `mean`.

    From above :math:`\ln\sum_i\pi_ie^{l_i}\le\max_il_i`, :math:`l_i=\langle z,d_i\rangle-\frac12\|d_i\|^2`, :math:`d_i=\mu_i-m`.
    From below, for any subset S of total weight W, Jensen's inequality gives :math:`\ln W+\sum_S\frac{\pi_i}Wl_i`; S is one of the sets
    of nearest means, that for which :math:`A+B\sqrt k` is smallest.
    """
    apart = params - mean
    lengths = np.linalg.norm(apart, axis=1)
    order = np.argsort(lengths, kind="stable")
    shares = weights[order]
    total = np.cumsum(shares)
    constant = -np.log(np.minimum(total, 1.0)) + np.cumsum(shares * lengths[order] ** 2) / (2 * total)
    slope = np.linalg.norm(np.cumsum(shares[:, None] * apart[order], axis=0), axis=1) / total
    best = int((constant + slope * np.sqrt(params.shape[1])).argmin())
    return float(constant[best]), float(slope[best]), float(lengths.max())


def second_moments(grids: tuple[Any, ...], k: int) -> tuple[float, float]:
    r"""Bounds on :math:`1` and :math:`\|z\|^2`, integrated over a standard normal or summed by any of `grids`, axis by axis in any mixture.

    Without grids (sampled points) those of the normal itself, half as much again.
    """
    if not grids:
        return 1.0, 1.5 * k
    masses = np.array([[max(1.0, axis.weights.sum()) for axis in grid.axes] for grid in grids])
    squares = np.array([[max(1.0, axis.weights @ axis.nodes**2) for axis in grid.axes] for grid in grids])
    whole = masses.prod(axis=1)
    return float(whole.max()), float((whole * (squares / masses).sum(axis=1)).max())


def axis_moments(grid: Any, d: float) -> tuple[float, float, float]:
    r"""Bounds on the integrals and sums of :math:`\|z\|^pe^{d\sum_j|z_j|}`, p = 0, 2, 4, as :func:`second_moments`.

    On one axis :math:`E|z|^pe^{d|z|}\le e^{d^2/2}[E(|z|+d)^p+d^{p+1}]`.
    """
    root = np.sqrt(2 / np.pi)
    exact = np.exp(d * d / 2) * np.array([1 + d, 1 + 2 * root * d + d**2 + d**3,
                                          3 + 8 * root * d + 6 * d**2 + 4 * root * d**3 + d**4 + d**5])
    found = [exact]
    for axis in () if grid is None else grid.axes:
        lengths = np.abs(axis.nodes)
        terms = axis.weights * np.exp(d * lengths)
        found.append(np.maximum(exact, [terms @ lengths**p for p in (0, 2, 4)]))
    zero, two, four = np.array(found[1:] or found).T
    mass, ratio = float(zero.prod()), two / zero
    return mass, float(mass * ratio.sum()), float(mass * ((four / zero).sum() + ratio.sum() ** 2 - (ratio**2).sum()))


class LogMajorant(ABC):
    r"""What bounds the loss's modulus off the real axis.

    :meth:`log_strip` does on the lines :math:`\mathrm{Im}\,x_k=\pm a`, :meth:`log_circle` on circles of radius a: each is the logarithm of
    an integral over everything else.
    """

    rise = 0.0  # the farthest mean, where circles must stay small against it as well
    log_unit = 0.0

    @abstractmethod
    def log_strip(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        """ln of the bound for strips of half-width `a`, with ln cos(as/2) of student and teacher there."""

    @abstractmethod
    def log_circle(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        """The same on circles of radius `a`."""

    def over(self, target: float) -> LogMajorant:
        """The same relative to `target`."""
        scaled = copy(self)
        scaled.log_unit = self.log_unit + float(np.log(target))
        return scaled

    def trapezoid(self, steps: np.ndarray, spread: float, teacher_spread: float) -> np.ndarray:
        r"""(S,) bounds :math:`\min_a\frac2{e^{2\pi a/h}-1}e^{a^2/2}M(a)` for trapezoid rules of `steps` (S,) on one axis."""
        top = np.minimum(1.2 * 2 * np.pi / steps, np.pi / max(spread, teacher_spread, 1e-305))
        a = top[:, None] * _FRACTIONS
        turns = 2 * np.pi * a / steps[:, None]
        front = np.log(2.0) + a * a / 2 - turns - np.log(-np.expm1(-turns))
        size = self.log_strip(a, np.log(np.cos(a * spread / 2)), np.log(np.cos(a * teacher_spread / 2)))
        with np.errstate(over="ignore", under="ignore"):
            found: np.ndarray = np.exp((front + size).min(axis=1) - self.log_unit)
            return found

    def hermite(self, orders: np.ndarray, spreads: np.ndarray, teacher_spreads: np.ndarray) -> np.ndarray:
        r"""(S,) bounds :math:`\min_a\frac{m!}{a^{2m}}M(a)` for Gauss–Hermite rules of `orders` on axes with these spreads (S,)."""
        widest = np.maximum(spreads, teacher_spreads)
        reach = np.where(orders > 1, np.maximum(widest, self.rise), widest)
        a = np.minimum(_CIRCLE / np.maximum(reach, 1e-305), _WIDEST)[:, None] * _CIRCLES
        factorials = np.array([lgamma(order + 1) for order in orders])[:, None]
        size = self.log_circle(a, np.log(np.cos(a * spreads[:, None] / 2)), np.log(np.cos(a * teacher_spreads[:, None] / 2)))
        size = np.where((orders > _MAX_ORDER)[:, None], size + orders[:, None] * np.log(2.0), size)
        with np.errstate(over="ignore", under="ignore"):
            errors = np.exp((factorials - 2 * orders[:, None] * np.log(a) + size).min(axis=1) - self.log_unit)
        # without any spread f is linear on the axis; of an axis with one node the kernel takes what is left to second order
        return np.where((widest > 0) | ((self.rise > 0) & (orders > 1)), errors, 0.0)


class FarLogs(LogMajorant):
    r"""For :math:`f=\ln Z^*-\ln Z`: `flat` bounds :math:`E|f|`, `slope` is R.

    .. math:: \text{strip: }E|f|+aR-\ln\min(\cos,\cos_*),\qquad\text{circle: }E|f|+2aR-\ln\min(\cos,\cos_*).
    """

    def __init__(self, flat: float, slope: float) -> None:
        self.flat, self.slope = flat, slope

    def log_strip(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        return self._log(self.flat + a * self.slope - np.minimum(log_cos, log_cos_teacher))

    def log_circle(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        return self._log(self.flat + 2 * a * self.slope - np.minimum(log_cos, log_cos_teacher))

    @staticmethod
    def _log(size: np.ndarray) -> np.ndarray:
        """Minus infinity for the loss that is zero: of a student whose means all are where the components' are."""
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.log(size)
            return found


class NearLogs(LogMajorant):
    r"""For :math:`f=e^r-1-r` around a single Gaussian target, d the means seen from it.

    With :math:`q=\frac12\sum\pi_i\|d_i\|^2`, :math:`\bar d=\sum\pi_id_i`, D the largest distance between two means and
    :math:`\rho=\max\|d_i\|`, moments :math:`M_0,M_2,M_4` those of :func:`axis_moments`,

    .. math:: \tfrac32\big[q^2M_0+2\|\bar d\|^2(M_2+a^2M_0)+\tfrac12D^4\cos^{-4}\big(M_4+(a+\rho)^4M_0\big)\big]

    on strips, and :math:`2e^{a\rho}` times that on circles.
    """

    def __init__(self, apart: np.ndarray, weights: np.ndarray, grid: Any) -> None:
        self.apart, self.weights = apart, weights
        self.rise = float(np.linalg.norm(apart, axis=1).max())
        self._square = float(weights @ (apart**2).sum(axis=1)) / 2
        self._mean = float(np.linalg.norm(weights @ apart))
        middle = apart - apart.mean(axis=0)
        self._wide = float(min(np.linalg.norm(np.ptp(apart, axis=0)), 2 * np.linalg.norm(middle, axis=1).max()))
        self._moments = axis_moments(grid, self.rise)

    def log_strip(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        mass, two, four = self._moments
        with np.errstate(divide="ignore", over="ignore"):
            found: np.ndarray = np.log(1.5 * (self._square**2 * mass + 2 * self._mean**2 * (two + a * a * mass)
                                              + 0.5 * self._wide**4 * np.exp(-4 * log_cos) * (four + (a + self.rise) ** 4 * mass)))
            return found

    def log_circle(self, a: np.ndarray, log_cos: np.ndarray, log_cos_teacher: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.log_strip(a, log_cos, log_cos_teacher) + np.log(2.0) + a * self.rise
        return found

    def tail(self, edge: float, step: float, masses: float) -> float:
        r"""What a lattice of `step` sums :math:`|f|` to beyond `edge` on one axis, times `masses`, what the others sum up to.

        On the real axis the bound above has a = 0; beyond :math:`L\ge2.2` all of :math:`|z|^pe^{\rho|z|}\varphi` fall for
        :math:`\rho\le0.34`.
        """
        from scipy.special import ndtr

        mass, two, four = self._moments
        low = edge - self.rise
        density, tail = np.exp(-low * low / 2) / np.sqrt(2 * np.pi), ndtr(-low)
        if edge < 2.2:  # all of it, and the peaks that a coarse lattice may meet
            own = np.array([1.0, 1.0, 3.0]) + 4 * step
        else:  # integrals of y^p phi from `low` on; (y + rise)^p is at most 2^(p-1) (y^p + rise^p)
            square, fourth = low * density + tail, (low**3 + 3 * low) * density + 3 * tail
            own = np.exp(self.rise**2 / 2) * np.array([tail, 2 * (square + self.rise**2 * tail), 8 * (fourth + self.rise**4 * tail)])
        zero = own[0] * mass
        second = own[1] * mass + own[0] * two
        whole = own[2] * mass + 2 * own[1] * two + own[0] * four
        return float(masses * 1.5 * (self._square**2 * zero + 2 * self._mean**2 * second
                                     + 0.5 * self._wide**4 * (whole + self.rise**4 * zero)))

    def rounding_scale(self, shift: np.ndarray, deviations: np.ndarray, logarithm: bool = False) -> float:
        r"""Integral of the square of what :math:`P=e^r-1` is summed from, for means ``target + shift + deviations``.

        That is :math:`(\|s\|+\|\bar\delta\|)\|y\|+\frac12(\|s\|^2+\delta^2)+0.6\,\delta^2(\|y\|+\frac\delta2)^2` at most, with
        :math:`y=z-s` and :math:`\delta=\max\|\delta_i\|`: the kernel takes the first part from the mean of the deviations, so that what
        cancels in it is never formed. A logit's rounding counts against itself, which is the factor :math:`1+(k+2)/4`. Where r comes
        from a `logarithm`, which is wrong by rounding of 1, it is the integral of :math:`|e^r-1|`, 1.2 times the root of the square.
        """
        mass, two, four = self._moments
        length, longest = float(np.linalg.norm(shift)), float(np.linalg.norm(deviations, axis=1).max())
        linear = length + float(np.linalg.norm(self.weights @ deviations))
        square = 2 * (two + length**2 * mass)  # of |y|
        fourth = 8 * (four + (length + longest / 2) ** 4 * mass)
        whole = 3 * (linear**2 * square + mass * ((length**2 + longest**2) / 2) ** 2 + 0.36 * longest**4 * fourth)
        return float(1.2 * np.sqrt(mass * whole) if logarithm else (1 + (len(shift) + 2) / 4) * whole)
