"""Lemmas 12, 14 and 15: the density of the norm of a Gaussian vector, its tails, and Chernoff's bound far out."""

from __future__ import annotations

import math

import numpy as np

from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import register
from overparam.theory.zhang2025.lemmas_a import log_chi_tail
from overparam.theory.zhang2026 import common

__all__ = ["Lemma12", "Lemma14", "Lemma15", "log_chi_cdf", "log_count_tail"]

_EPS = float(np.finfo(np.float64).eps)


@register
class Lemma12(Inequality):
    r"""Lemma 12: the density of :math:`\|x\|`, :math:`x\sim N(0,I_d)`, is at most 1 for :math:`d\ge2`.

    It is largest at :math:`\sqrt{d-1}`, where it falls from 0.6065 for d = 2 to its limit :math:`1/\sqrt\pi=0.5642`.
    """

    name = "zhang2026.lemma_12"
    title = "Lemma 12 (density of the norm)"
    source = common.PAPER
    statement = "The density of the norm of a standard normal vector in at least two dimensions is at most 1."
    latex = r"\|f_{\chi_d}\|_\infty\le1"
    logarithmic = True
    scales = tuple(10.0 ** np.arange(0, 9))
    samples, shapes = 100, 10

    def sample(self, rng: np.random.Generator, scale: float) -> int:
        return 2 + int(scale * rng.exponential())

    def hypotheses_at(self, point: int) -> list[Hypothesis]:
        return [Hypothesis("there are at least two dimensions", r"d\ge2", point, ">=", 2)]

    def sides(self, point: int) -> tuple[float, float, float]:
        from scipy.special import gammaln

        parts = ((point - 1) / 2 * math.log(point - 1) if point > 1 else 0.0, -(point - 1) / 2, -(point / 2 - 1) * math.log(2),
                 -float(gammaln(point / 2)))
        return math.fsum(parts), 0.0, 8 * _EPS * math.fsum(map(abs, parts))


def log_chi_cdf(d: int, radius: float) -> float:
    r"""Return :math:`\ln\Pr[\|x\|\le r]` for :math:`x\sim N(0,I_d)` and :math:`0<r\le\sqrt d`, where the probability itself may underflow.

    With :math:`a=d/2`, :math:`y=r^2/2` the series :math:`\frac{y^ae^{-y}}{\Gamma(a+1)}\sum_k\frac{y^k}{(a+1)\cdots(a+k)}` of positive
    terms.

    Examples
    --------
    >>> import math
    >>> from overparam.theory.zhang2026.tails import log_chi_cdf
    >>> round(log_chi_cdf(2, 1.0), 12) == round(math.log(-math.expm1(-0.5)), 12)
    True
    """
    from scipy.special import gammaln

    a, y = d / 2, radius * radius / 2
    total = term = 1.0
    k = 0
    while term > _EPS * total / 16:
        k += 1
        term *= y / (a + k)
        total += term
    return a * math.log(y) - y - float(gammaln(a + 1)) + math.log(total)


@register
class Lemma14(Inequality):
    r"""Lemma 14: :math:`\Pr[\|x\|\ge\sqrt d+t]\le e^{-t^2/2}` for :math:`x\sim N(0,I_d)`, and the same below.

    The side above is published; of the one below the source says that the lemma is two-sided, and the same form is taken.
    """

    name = "zhang2026.lemma_14"
    title = "Lemma 14 (Gaussian tails)"
    source = common.PAPER
    statement = "The norm of a standard normal vector is farther than t above, or below, sqrt(d) with probability at most exp(-t^2/2) each."
    latex = r"\Pr[\|x\|\ge\sqrt d+t]\le e^{-t^2/2},\quad\Pr[\|x\|\le\sqrt d-t]\le e^{-t^2/2}"
    bounds = (Bound("P(|x| >= sqrt(d) + t) <= exp(-t^2/2)", r"\Pr[\|x\|\ge\sqrt d+t]\le e^{-t^2/2}", logarithmic=True),
              Bound("P(|x| <= sqrt(d) - t) <= exp(-t^2/2)", r"\Pr[\|x\|\le\sqrt d-t]\le e^{-t^2/2}", tag="reconstructed",
                    logarithmic=True))
    scales = tuple(10.0 ** np.arange(-6, 5))
    samples, shapes = 150, 15

    def sample(self, rng: np.random.Generator, scale: float) -> tuple[int, float]:
        return int(rng.integers(1, 201)), scale * rng.exponential()

    def sides(self, point: tuple[int, float]) -> list[tuple[float, float, float]]:
        d, t = point
        inside = math.sqrt(d) * -math.expm1(-t / math.sqrt(d))  # below: t brought between 0 and sqrt(d)
        inside = min(inside, 0.999 * math.sqrt(d))
        found = [(log_chi_tail(d, t + math.sqrt(d)), -t * t / 2), (log_chi_cdf(d, math.sqrt(d) - inside), -inside * inside / 2)]
        return [(left, right, 16 * _EPS * (d * (1 + math.log(d)) + abs(left) + abs(right))) for left, right in found]


def log_count_tail(probabilities: np.ndarray, least: int) -> float:
    """Return the logarithm of the probability that at least so many of independent events of these probabilities happen.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> from overparam.theory.zhang2026.tails import log_count_tail
    >>> round(math.exp(log_count_tail(np.array([0.5, 0.5, 0.5]), 2)), 12)
    0.5
    """
    counts = np.zeros(len(probabilities) + 1)
    counts[0] = 1.0
    for one in probabilities:
        counts[1:] = counts[1:] * (1 - one) + counts[:-1] * one
        counts[0] *= 1 - one
    tail = math.fsum(counts[least:])
    return math.log(tail) if tail > 0 else -math.inf


@register
class Lemma15(Inequality):
    r"""Lemma 15: a sum X of independent 0-1 variables of mean :math:`\mu` has :math:`\Pr[X\ge\nu]\le2^{-\nu}` for :math:`\nu\ge6\mu`.

    On samples the probability is summed exactly, for up to 40 variables of unequal probabilities.
    """

    name = "zhang2026.lemma_15"
    title = "Lemma 15 (Chernoff)"
    source = common.PAPER
    statement = "A sum of independent 0-1 variables of mean mu reaches nu >= 6 mu with probability at most 2^(-nu)."
    latex = r"\Pr[X\ge\nu]\le2^{-\nu},\ \nu\ge6\mu"
    logarithmic = True
    scales = (1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0)
    samples, shapes = 150, 15

    def sample(self, rng: np.random.Generator, scale: float) -> tuple[np.ndarray, float]:
        count = int(rng.integers(1, 41))
        probabilities = np.minimum(scale * rng.uniform(size=count) / 3, 1.0)
        least = 6 * float(probabilities.sum())
        return probabilities, least + float(rng.uniform() ** 3) * max(count - least, 0.0)

    def hypotheses_at(self, point: tuple[np.ndarray, float]) -> list[Hypothesis]:
        probabilities, nu = point
        mean = float(probabilities.sum())
        return [Hypothesis("nu is at least six times the mean", r"\nu\ge6\mu", nu, ">=", 6 * mean, error=0.0),
                Hypothesis("the sum can reach nu", r"\nu\le n", nu, "<=", len(probabilities), tag="derived",
                           note="beyond, the probability is 0")]

    def sides(self, point: tuple[np.ndarray, float]) -> tuple[float, float, float]:
        probabilities, nu = point
        left, right = log_count_tail(probabilities, math.ceil(nu)), -nu * math.log(2)
        return left, right, 8 * _EPS * (len(probabilities) + abs(right))
