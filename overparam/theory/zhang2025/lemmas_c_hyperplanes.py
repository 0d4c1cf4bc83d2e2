"""Lemmas C.7 and C.8: how likely x is near the hyperplane on which two students weigh the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_points import FarLemma, FarPoint

__all__ = ["LemmaC7", "LemmaC8", "log_slab"]

_LN = 1e-13  # relative rounding of ln of a normal probability


def log_slab(b: float, width: float) -> float:
    r""":math:`\ln\Pr[b\le Z\le b+width]`, Z standard normal, however far out the slab or thin it is.

    Thin slabs, :math:`(|b|+width)\,width\le1`, by :math:`\int e^{-bs-s^2/2}ds` on 20 Gauss–Legendre nodes, which is exact to
    rounding; others from the two tails.
    """
    from scipy.special import log_ndtr

    if b + width / 2 < 0:
        b = -b - width  # the mirrored slab: then the upper tails are the smaller ones
    if (abs(b) + width) * width <= 1:
        nodes, weights = np.polynomial.legendre.leggauss(20)
        s = width / 2 * (nodes + 1)
        inner = float(weights @ np.exp(-b * s - s * s / 2)) * width / 2
        return -0.5 * (b * b + math.log(2 * math.pi)) + math.log(inner)
    near, far = float(log_ndtr(-b)), float(log_ndtr(-b - width))
    return near + math.log(-math.expm1(far - near))


@dataclass(frozen=True, eq=False)
class _Slab:
    """Two students, seen from the target, and the half-width of a slab around the hyperplane between them."""

    first: np.ndarray
    second: np.ndarray
    half_width: float


@register
class LemmaC7(Inequality):
    r"""Lemma C.7: x is not close to a hyperplane, such as that between two students.

    Its density along any direction is at most :math:`1/\sqrt{2\pi}`; :math:`\|x-\mu_i\|^2-\|x-\mu_j\|^2` is linear in x with the slope
    :math:`2\|\mu_i-\mu_j\|`. The paper's constant is unknown; these are the best that hold for all hyperplanes: in
    the limit b = 0, :math:`\epsilon\to0` both sides are equal.
    """

    name = "zhang2025.lemma_c_7"
    title = "Lemma C.7"
    source = common.PAPER
    statement = "x is close to a hyperplane with a probability of at most C times the distance."
    latex = r"\Pr[|\langle u,x\rangle-b|\le\epsilon]\le C\epsilon"
    tag = "reconstructed"
    constants = (Constant("C", math.sqrt(2 / math.pi), "derived"),)
    scales: ClassVar[tuple[float, ...]] = (0.01, 0.1, 1.0, 10.0, 30.0)
    samples: ClassVar[int] = 300
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("x is rarely close to the hyperplane between two students", r"\Pr[|\langle u,x\rangle-b|\le\epsilon]\le C\epsilon",
              constant="C", logarithmic=True, attained=True),
        Bound("its squared distances to the two are rarely close",
              r"\Pr[|\|x-\mu_i\|^2-\|x-\mu_j\|^2|\le s]\le\frac{s}{\sqrt{2\pi}\|\mu_i-\mu_j\|}", tag="derived", logarithmic=True,
              attained=True),
        Bound("the hyperplane's own distance b from the target counts",
              r"\Pr[|\langle u,x\rangle-b|\le\epsilon]\le C\epsilon\,e^{-(|b|-\epsilon)_+^2/2}", constant="C", logarithmic=True,
              tag="derived", attained=True))

    def sample(self, rng: np.random.Generator, scale: float) -> _Slab:
        d = int(rng.integers(1, 5))
        first, second = scale * rng.standard_normal((2, d)) * np.array([[10 ** rng.uniform(-3, 0)], [1.0]])
        return _Slab(first, second, float(10 ** rng.uniform(-4, 1)))

    supposes = common.of_students

    def point(self, setting: Setting, state: State) -> _Slab:
        """The two closest students that differ, and a slab of width 0.1."""
        means = state.coordinates
        gaps = np.linalg.norm(means[:, None] - means, axis=-1)
        gaps[gaps == 0] = np.inf
        i, j = np.unravel_index(gaps.argmin(), gaps.shape)
        return _Slab(means[i], means[j], 0.05)

    def hypotheses_at(self, point: _Slab) -> list[Hypothesis]:
        return [Hypothesis("two students differ", r"\mu_i\ne\mu_j", fact=bool((point.first != point.second).any()), tag="derived",
                           structural=True)]

    def sides(self, point: _Slab) -> Sequence[tuple[float, float, float]]:
        step = point.second - point.first
        length = float(np.linalg.norm(step))
        b = float((point.second + point.first) @ step) / (2 * length)
        eps = point.half_width
        log_probability = log_slab(b - eps, 2 * eps)
        error = _LN * (1 + abs(log_probability)) + 4 * np.finfo(np.float64).eps * (abs(b) + eps) ** 2
        right = [math.log(eps), math.log(2 * eps * length / (math.sqrt(2 * math.pi) * length)),
                 math.log(eps) - 0.5 * max(abs(b) - eps, 0.0) ** 2]
        return [(log_probability, one, error) for one in right]

    def examples(self) -> dict[str, Example]:
        def start() -> dict[str, Any]:
            return {"subject": ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-8)), "params0": [[0.0, 0.0], [7.0, 0.0], [0.0, 8.0]]}

        def together() -> dict[str, Any]:
            return {**start(), "params0": [[1.0, 0.0], [1.0, 0.0]]}

        return {**super().examples(), "a start": Example("verified", start, "the hyperplane between the two closest of n=3, d=2"),
                "together": Example("vacuous", together, "both students at one point: there is no hyperplane between them")}


@register
class LemmaC8(FarLemma):
    r"""Lemma C.8: where a far student outweighs the near one, it most likely does so by a power of M only.

    Both events are half-spaces, whatever the dimension and the other students: with D, b of
    :meth:`~overparam.theory.zhang2025.lemmas_c_points.FarPoint.crossing`, :math:`w_j\ge w_a` is :math:`z\ge b` and :math:`w_j>M^2w_a` is
    :math:`z>b+\delta`, :math:`\delta=2\ln M/D`, z standard normal; :math:`\Pr[z>b+\delta]\le e^{-b\delta-\delta^2/2}\Pr[z>b]` for
    :math:`b\ge0`.
    """

    name = "zhang2025.lemma_c_8"
    title = "Lemma C.8"
    source = common.PAPER
    statement = "Given that a far student outweighs the near one, with high probability the two weights are comparable: within M^2."
    latex = r"\Pr[w_j>M^2w_{i_0}\mid w_j\ge w_{i_0}]\le C/M"
    tag = "reconstructed"
    constants = (Constant("C", None, "unknown"),)
    scales: ClassVar[tuple[float, ...]] = (6.0, 10.0, 20.0, 60.0, 200.0, 1e3, 1e4)
    samples: ClassVar[int] = 100
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("it is unlikely that they are not", r"\Pr[w_j>M^2w_{i_0}\mid w_j\ge w_{i_0}]\le C/M", constant="C", logarithmic=True),
        Bound("it is at most what the normal tail gives", r"\Pr[\cdot\mid\cdot]\le e^{-b\delta-\delta^2/2},\ \delta=\frac{2\ln M}D",
              tag="derived", logarithmic=True))

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        from scipy.special import erfcx

        worst = []
        for j in point.far:
            D, b, _ = point.crossing(int(j))
            delta = 2 * math.log(point.M) / D
            main = -b * delta - delta**2 / 2  # the tail at b + delta over that at b is exp(main) times a ratio of Mills ratios
            mills = math.log(erfcx((b + delta) / math.sqrt(2)) / erfcx(b / math.sqrt(2)))
            worst.append((main + mills, main, _LN * (1 + abs(main))))
        first = max(worst)
        second = max(worst, key=lambda one: one[0] - one[1])
        return [(first[0], -math.log(point.M), first[2]), second]

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0, 0.0, 0.0]), rule=Auto(tol=1e-8))

        def start(near: float) -> dict[str, Any]:
            return {"subject": obj, "params0": [[near, 0.0, 0.0], [7.0, 0.0, 0.0], [3.0, -6.5, 0.0], [0.0, 0.0, 9.0]]}

        return {**super().examples(), "a start": Example("verified", lambda: {**start(1e-4), "C": 1.0}, "n=4, d=3, M=7"),
                "not near": Example("vacuous", lambda: start(0.1), "the near student is at 0.1, too far for M=7")}
