"""Lemmas C.10, C.11, C.12 and C.14: gradient and loss with one student near the target and the others far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_integrals import log_sharp
from overparam.theory.zhang2025.lemmas_c_points import FarLemma, FarPoint, near_excess

__all__ = ["LemmaC10", "LemmaC11", "LemmaC12", "LemmaC14"]

_TIE = 1e-12  # relative: far students that close in distance are all "the closest"


def start(near: float = 1e-4, **constants: float) -> dict[str, Any]:
    """A start in the plane, for examples."""
    return {"subject": ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-8)), "params0": [[near, 0.0], [7.0, 0.0], [3.0, -6.5]],
            **constants}


def _near_half() -> dict[str, Any]:
    return start(0.1)


NOT_NEAR = Example("vacuous", _near_half, "the near student is at 0.1, too far for M=7")


def log_rows(point: FarPoint) -> tuple[np.ndarray, np.ndarray]:
    r"""(n - 1,) :math:`\ln\|\nabla_jL\|` of the far students, and the errors of these logarithms."""
    rows, errors = np.linalg.norm(point.found.grad[point.far], axis=1), point.errors[1][point.far]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(rows), np.where(errors < rows, -np.log1p(-np.minimum(errors / rows, 1.0)), np.inf)


@register
class LemmaC10(FarLemma):
    r"""Lemma C.10: the closest far student is pushed outwards.

    Both sides are multiplied by :math:`e^{M^2/8}/M^3`, on which scale the left one tends to :math:`-\frac14\sqrt{\pi/8}=-0.157` for
    two students [derived].
    """

    name = "zhang2025.lemma_c_10"
    title = "Lemma C.10"
    source = common.PAPER
    statement = "With one student near the target, descent pushes the closest of the far ones outwards."
    latex = r"\langle\nabla_jL,\mu_j\rangle<0,\ \|\mu_j\|=M"
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the gradient of the closest far student points inwards", r"\langle\nabla_jL,\mu_j\rangle e^{M^2/8}/M^3\le0"),)
    limits: ClassVar[tuple[str, ...]] = ()

    def sides(self, point: FarPoint) -> tuple[float, float, float]:
        M, tied = point.M, [j for j in point.far if point.distances[j] <= point.M * (1 + _TIE)]
        unit = math.exp(min(M * M / 8, 700.0)) / M**3
        slopes = [(float(point.found.grad[j] @ point.means[j]) * unit, float(point.errors[1][j] * point.distances[j]) * unit) for j in tied]
        left, error = max(slopes, key=lambda one: one[0] + one[1])
        return left, 0.0, error

    def examples(self) -> dict[str, Example]:
        def coarse() -> dict[str, Any]:
            from overparam.quadrature import Trapezoid

            return {**start(), "subject": ScoreMatching(Gaussian([0.0, 0.0]), rule=Trapezoid(12, half_width=3.0))}

        return {**super().examples(), "in the plane": Example("verified", start, "n=3, d=2, M=7"), "not near": NOT_NEAR,
                "a coarse rule": Example("undecided", coarse, "12 nodes an axis, up to 3, see nothing of what happens at 3.5")}


@register
class LemmaC11(FarLemma):
    r"""Lemma C.11: far students feel an exponentially small gradient.

    The power of M in front is not known; with 2 the constant levels off, for two students at :math:`\frac14\sqrt{\pi/8}=0.157` [derived].
    """

    name = "zhang2025.lemma_c_11"
    title = "Lemma C.11"
    source = common.PAPER
    statement = "With one student near the target, the gradient at a far one is of the order M^2 e^(-M^2/8)."
    latex = r"\|\nabla_jL\|\le C\,M^2e^{-M^2/8}"
    constants = (Constant("C", None, "unknown"),)
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the gradient at far students is exponentially small", r"\|\nabla_jL\|\le C\,M^2e^{-M^2/8}", constant="C",
              tag="reconstructed", logarithmic=True),)

    def sides(self, point: FarPoint) -> tuple[float, float, float]:
        rows, errors = log_rows(point)
        j = int(rows.argmax())
        return float(rows[j]), 2 * math.log(point.M) - point.M**2 / 8, float(errors[j])

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "in the plane": Example("verified", lambda: start(C=1.0), "n=3, d=2, M=7"), "not near": NOT_NEAR}


@register
class LemmaC12(FarLemma):
    r"""Lemma C.12: the near student moves little in a step: by :math:`2\eta\mu_{i_0}`, up to what is exponentially small.

    :math:`\nabla_{i_0}L-2\mu_{i_0}` is integrated as it stands, every term with the weight of a far student in it
    (:func:`~overparam.theory.zhang2025.lemmas_c_points.near_excess`), and not taken as a difference, which rounding would swallow.
    """

    name = "zhang2025.lemma_c_12"
    title = "Lemma C.12"
    source = common.PAPER
    statement = "A step moves the near student by 2 eta mu_i0, up to the order eta M^2 e^(-M^2/8)."
    latex = r"\|\nabla_{i_0}L-2\mu_{i_0}\|\le C\,M^2e^{-M^2/8}"
    tag = "reconstructed"
    constants = (Constant("C", None, "unknown"),)
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the near student moves little", r"\|\nabla_{i_0}L-2\mu_{i_0}\|\le C\,M^2e^{-M^2/8}", constant="C", tag="reconstructed",
              logarithmic=True),)

    def sides(self, point: FarPoint) -> tuple[float, float, float]:
        scale = point.M**2 / 8
        vector, error = near_excess(point, scale)
        size = float(np.linalg.norm(vector))
        if size == 0.0:  # far students in equal numbers on both sides
            return math.log(error) if error else -math.inf, 2 * math.log(point.M), 0.0
        return math.log(size) - scale, 2 * math.log(point.M) - scale, -math.log1p(-error / size) if error < size else math.inf

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "in the plane": Example("verified", lambda: start(C=1.0), "n=3, d=2, M=7"), "not near": NOT_NEAR}


@register
class LemmaC14(FarLemma):
    r"""Lemma C.14: the loss is exponentially small in M, from both sides.

    The powers of M are not known; with 1 both constants level off, for two students at :math:`\sqrt{\pi/8}=0.627` [derived]. The near
    student adds :math:`\|\mu_{i_0}\|^2` to the loss, so the upper bound asks more of it than :math:`O(M^{-3})`: it holds once that
    square is itself below :math:`e^{-M^2/8}`, which is where Lemma C.13 takes it [derived].
    """

    name = "zhang2025.lemma_c_14"
    title = "Lemma C.14"
    source = common.PAPER
    statement = "Once the near student has arrived, the loss is of the order M e^(-M^2/8), from above and from below."
    latex = r"c\,Me^{-M^2/8}\le L\le C\,Me^{-M^2/8}"
    constants = (Constant("c", None, "unknown"), Constant("C", None, "unknown"))
    limits: ClassVar[tuple[str, ...]] = ("large",)
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the loss is at least of that order", r"L\ge c\,Me^{-M^2/8}", relation=">=", constant="c", tag="reconstructed",
              logarithmic=True),
        Bound("the loss is at most of that order", r"L\le C\,Me^{-M^2/8}", constant="C", tag="reconstructed", logarithmic=True),
        Bound("it is at most what the sharp bounds on the weights give", r"\sqrt L\le\|\mu_{i_0}\|+\sum_j\|\mu_j\|\sqrt{\mathbb E\,w_j}",
              tag="derived", logarithmic=True))

    def radius(self, M: float) -> float:
        return min(math.exp(-M * M / 16), super().radius(M))

    def hypotheses_at(self, point: FarPoint) -> list[Hypothesis]:
        found = super().hypotheses_at(point)
        if len(point.means) < 2:
            return found
        size = float(point.distances.min())
        goal, arrived = -point.M * point.M / 8, 2 * math.log(size) if size else -math.inf
        return [*found, Hypothesis("the near student has arrived", r"\|\mu_{i_0}\|^2\le e^{-M^2/8}", arrived, "<=", goal, tag="derived",
                                   logarithmic=True)]

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        loss, error = point.found.value, point.errors[0]
        wrong = -math.log1p(-error / loss) if error < loss else math.inf
        left, right = math.log(loss) if loss > 0 else -math.inf, math.log(point.M) - point.M**2 / 8
        # Minkowski, with w^2 <= w and the bound of Lemma C.2 for the mean weights
        shares = [0.5 * log_sharp(point, int(j)) + math.log(point.distances[j]) for j in point.far]
        near = float(point.distances.min())
        sharp = 2 * float(np.logaddexp.reduce([math.log(near) if near else -math.inf, *shares]))
        return [(left, right, wrong), (left, right, wrong), (left, sharp, wrong)]

    def examples(self) -> dict[str, Example]:
        def late() -> dict[str, Any]:
            return start(2e-4, c=0.1, C=10.0)

        def early() -> dict[str, Any]:
            return {"subject": ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8)), "params0": [[5e-5], [13.0]], "c": 0.1, "C": 10.0}

        return {**super().examples(), "in the plane": Example("verified", late, "n=3, d=2, M=7"),
                "not there yet": Example("vacuous", early, "at M=13 a near student at 5e-5 < 1/(8 M^3) counts as much as the far one")}
