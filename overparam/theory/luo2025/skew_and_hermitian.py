r"""Equation (11): the singular values of the product between those of its Hermitian and skew parts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from overparam import factors, init
from overparam.objectives import MatrixFactorization, ScoreMatching
from overparam.objectives.base import Objective
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.luo2025 import common
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Example, Setting, register

__all__ = ["Equation11", "Point"]


class Point(NamedTuple):
    """Factors in the frame of the target, and the objective they were met in."""

    params: np.ndarray | None
    objective: Objective | None = None


@register
class Equation11(Inequality):
    r"""Equation (11), with :math:`A=(U+V)\Sigma_w`, :math:`B=(U-V)\Sigma_w`:

    .. math:: \tfrac12\sigma_k(A)\le\sigma_k(\Sigma_w)\le\tfrac{\sqrt2}2\sqrt{\sigma_k^2(A)+\|B\|_{op}^2},

    and with 1/2 in place of :math:`\sqrt2/2` for the least singular value. Since :math:`A^HA+B^HB=4\Sigma_w^2`, Weyl's inequality gives
    the 1/2 for every k [derived]. The points drawn are balanced starts of 2 to 5 factors; any other factors do as well.
    """

    name = "luo2025.equation_11"
    title = "Equation (11)"
    source = common.PAPER
    statement = ("Singular values of Sigma_w are at least half of the Hermitian part's and at most sqrt(2)/2 (for the least: 1/2) times "
                 "the root of the Hermitian part's square plus the skew part's largest square.")
    latex = (r"\tfrac12\sigma_k((U+V)\Sigma_w)\le\sigma_k(\Sigma_w)\le\tfrac{\sqrt2}2\sqrt{\sigma_k^2((U+V)\Sigma_w)+"
             r"\|(U-V)\Sigma_w\|_{op}^2}")
    bounds = (Bound("half of the Hermitian part's singular value is no larger", r"\tfrac12\sigma_k(A)\le\sigma_k(\Sigma_w)", attained=True),
              Bound("sqrt(2)/2 of the root is no smaller", r"\sigma_k(\Sigma_w)\le\tfrac{\sqrt2}2\sqrt{\sigma_k^2(A)+\|B\|_{op}^2}"),
              Bound("for the least singular value 1/2 serves", r"\sigma_{\min}(\Sigma_w)\le\tfrac12\sqrt{\sigma_{\min}^2(A)+\|B\|_{op}^2}",
                    attained=True),
              Bound("and so it does for all", r"\sigma_k(\Sigma_w)\le\tfrac12\sqrt{\sigma_k^2(A)+\|B\|_{op}^2}", attained=True,
                    tag="derived"))
    scales = (0.01, 0.1, 1.0, 10.0)

    def sample(self, rng: np.random.Generator, scale: float) -> Point:
        depth, d, complex = int(rng.integers(2, 6)), int(rng.integers(1, 6)), bool(rng.integers(2))
        return Point(init.balanced_gaussian(depth, d, scale, rng, complex))

    def point(self, setting: Setting, state: State) -> Point:
        known = common.is_one(setting.objective)
        return Point(common.in_frame(setting, state) if known else None, setting.objective)

    def hypotheses_at(self, point: Point) -> list[Hypothesis]:
        if point.objective is None:
            return []
        return [common.factorization(point.objective)]

    def sides(self, point: Point) -> list[tuple[float, ...]]:
        if point.params is None:
            return [(math.nan,) * 3] * 4
        sizes = factors.frames(point.params)[1]
        plus, skew = factors.hermitian_values(point.params), factors.skew_values(point.params)[0]
        root = np.sqrt(plus**2 + skew**2)
        error = 32 * len(sizes) * common.EPS * float(sizes[0])

        def worst(left: np.ndarray, right: np.ndarray) -> tuple[float, ...]:
            k = int(np.argmin(right - left))
            return float(left[k]), float(right[k]), error, float(sizes[0])

        return [worst(plus / 2, sizes), worst(sizes, math.sqrt(0.5) * root), worst(sizes[-1:], root[-1:] / 2), worst(sizes, root / 2)]

    def examples(self) -> dict[str, Example]:
        start = {"subject": MatrixFactorization(np.diag([2.0, 1.0, 0.5])), "params0": init.balanced_gaussian(4, 3, 0.4, 0, True)}
        other = {"subject": ScoreMatching(Gaussian([0.0])), "params0": [[1.0], [-0.5]]}
        return {**super().examples(), "a start": Example("verified", lambda: start, "N=4, d=3, complex, target diag(2, 1, 1/2)"),
                "another loss": Example("vacuous", lambda: other, "score matching")}
