"""Lemmas A.1 to A.3: the Gaussian tail, Mill's ratio, Stein's identity."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from overparam.theory.inequality import Bound, Inequality
from overparam.theory.theorem import register
from overparam.theory.zhang2025 import common

__all__ = ["LemmaA1", "LemmaA2", "LemmaA3", "log_chi_tail"]

_EPS = float(np.finfo(np.float64).eps)


def log_chi_tail(d: int, radius: float) -> float:
    r"""Return :math:`\ln\Pr[\|x\|\ge r]` for :math:`x\sim N(0,I_d)`, where the probability itself may underflow.

    With :math:`y=r^2/2` the recurrence :math:`Q(a+1,y)=Q(a,y)+y^ae^{-y}/\Gamma(a+1)` from Q(1/2, y) = erfc or Q(1, y) = exp to a = d/2:
    positive terms, added in logarithms.

    Parameters
    ----------
    d : int
    radius : float
        At least 0.

    Examples
    --------
    >>> import math
    >>> from overparam.theory.zhang2025.lemmas_a import log_chi_tail
    >>> round(log_chi_tail(2, 3.0), 12), round(log_chi_tail(1, 1.959963984540054), 6) == round(math.log(0.05), 6)
    (-4.5, True)
    """
    from scipy.special import gammaln, log_ndtr  # loaded here: importing overparam stays light

    y = radius * radius / 2
    a = 0.5 if d % 2 else 1.0
    tail = math.log(2) + float(log_ndtr(-radius)) if d % 2 else -y
    while a < d / 2:
        if y > 0:
            tail = float(np.logaddexp(tail, a * math.log(y) - y - gammaln(a + 1)))
        a += 1
    return tail


@register
class LemmaA1(Inequality):
    r"""Lemma A.1: :math:`\Pr_{N(0,I_d)}[\|x\|\ge t+\sqrt d]\le e^{-t^2/2}` for t > 0.

    Reconstructed: the inequality is that of a lemma of another paper by the same first author, with the same attribution.
    """

    name = "zhang2025.lemma_a_1"
    title = "Lemma A.1 (Gaussian tail)"
    source = common.PAPER
    statement = "The norm of a standard normal vector exceeds sqrt(d) + t with probability at most exp(-t^2/2)."
    tag = "reconstructed"
    latex = r"\Pr_{N(0,I_d)}[\|x\|\ge t+\sqrt d]\le e^{-t^2/2}"
    bounds = (Bound("P(|x| >= t + sqrt(d)) <= exp(-t^2/2) (read off another paper of the same authors)", latex,
                    tag="reconstructed", logarithmic=True),)
    scales = tuple(10.0 ** np.arange(-6, 7))
    samples, shapes = 200, 20

    def sample(self, rng: np.random.Generator, scale: float) -> tuple[int, float]:
        return int(rng.integers(1, 201)), scale * rng.exponential()

    def sides(self, point: tuple[int, float]) -> tuple[float, float, float]:
        d, t = point
        left, right = log_chi_tail(d, t + math.sqrt(d)), -t * t / 2
        return left, right, 8 * _EPS * (d + abs(left) + abs(right))


@register
class LemmaA2(Inequality):
    r"""Lemma A.2: :math:`\Pr[x\ge t]\le\frac1te^{-t^2/2}` for a standard normal x and t > 0.

    Reconstructed: the inequality is that of a lemma of another paper by the same first author, with the same attribution.
    """

    name = "zhang2025.lemma_a_2"
    title = "Lemma A.2 (Mill)"
    source = common.PAPER
    statement = "A standard normal number exceeds t with probability at most exp(-t^2/2)/t."
    tag = "reconstructed"
    latex = r"\Pr[x\ge t]\le\frac1te^{-t^2/2}"
    bounds = (Bound("P(x >= t) <= exp(-t^2/2)/t (read off another paper of the same authors)", latex, tag="reconstructed",
                    logarithmic=True),)
    scales = LemmaA1.scales
    samples, shapes = 200, 20

    def sample(self, rng: np.random.Generator, scale: float) -> float:
        return scale * rng.exponential()

    def sides(self, point: float) -> tuple[float, float, float]:
        from scipy.special import log_ndtr

        left, right = float(log_ndtr(-point)), -point * point / 2 - math.log(point)
        return left, right, 8 * _EPS * (1 + abs(left) + abs(right))


class SteinPoint(NamedTuple):
    r"""A function :math:`g(x)=(1+c\cdot x)\tanh(a\cdot x+b)`, the law :math:`N(\mu,\sigma^2I)`, and a direction u."""

    mean: np.ndarray
    sigma: float
    a: np.ndarray
    b: float
    c: np.ndarray
    u: np.ndarray


@register
class LemmaA3(Inequality):
    r"""Lemma A.3: :math:`E[(x-\mu)g(x)]=\sigma^2E[\nabla g(x)]` for :math:`x\sim N(\mu,\sigma^2I)`.

    By quadrature on both sides, for random functions :math:`(1+c\cdot x)\tanh(a\cdot x+b)`: the tanh along a, where halving the step
    tells the error, the linear rest across it by Gauss-Hermite nodes that are exact for it.
    """

    name = "zhang2025.lemma_a_3"
    title = "Lemma A.3 (Stein)"
    source = common.PAPER
    statement = "For x from N(mu, sigma^2 I) the mean of (x - mu) g(x) is sigma^2 times the mean gradient of g."
    latex = r"\mathbb E[(x-\mu)g(x)]=\sigma^2\,\mathbb E[\nabla g(x)]"
    tag = "standard"
    relation = "=="
    scales = (0.01, 0.1, 1.0, 10.0)
    samples, shapes = 30, 5

    def sample(self, rng: np.random.Generator, scale: float) -> SteinPoint:
        d = int(rng.integers(1, 4))
        mean, a, c, u = rng.standard_normal((4, d))
        return SteinPoint(mean, float(rng.uniform(0.3, 2.0)), scale * a, float(rng.standard_normal()), c, u / np.linalg.norm(u))

    def sides(self, point: SteinPoint) -> tuple[float, float, float]:
        mean, sigma, a, b, c, u = point
        d, steep = len(mean), float(np.linalg.norm(a))
        turn = np.linalg.svd(a[None])[2] if steep else np.eye(d)  # its first row is along a
        across, weight = _polynomial_nodes(d - 1)
        step = min(0.25, 0.1 / (sigma * steep) if steep else 0.25)  # tanh has its poles at pi/2 over the slope
        count = math.ceil(9.5 / step)
        z = np.arange(-count, count + 1) * step
        density = step * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        left, right = np.zeros(len(z)), np.zeros(len(z))
        for other, share in zip(across, weight, strict=True):
            x = mean + sigma * (z[:, None] * turn[0] + other @ turn[1:])
            inner = np.tanh(x @ a + b)
            left += share * ((x - mean) @ u) * (1 + x @ c) * inner
            right += share * sigma**2 * ((c @ u) * inner + (1 + x @ c) * (1 - inner**2) * (a @ u))
        even = np.arange(-count, count + 1) % 2 == 0
        apart = density @ (left - right) - 2 * density[even] @ (left - right)[even]
        error = abs(float(apart)) + 64 * _EPS * float(density @ (np.abs(left) + np.abs(right)))
        return float(density @ left), float(density @ right), error


def _polynomial_nodes(axes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, axes) nodes and weights exact for cubics in each coordinate of a standard normal vector."""
    nodes, weights = np.array([-math.sqrt(3), 0.0, math.sqrt(3)]), np.array([1, 4, 1]) / 6
    if axes == 0:
        return np.zeros((1, 0)), np.ones(1)
    mesh = np.stack([part.ravel() for part in np.meshgrid(*[nodes] * axes, indexing="ij")], axis=1)
    total: Any = weights
    for _ in range(axes - 1):
        total = np.multiply.outer(total, weights)
    return mesh, np.ravel(total)
