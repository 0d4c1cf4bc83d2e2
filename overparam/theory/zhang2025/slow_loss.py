"""Theorem 3.7: where one student converges, the loss does not fall faster than any power above the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import rates, regimes
from overparam.drivers import gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common, far_start
from overparam.theory.zhang2025.random_start import conditions, far_example

__all__ = ["Theorem37", "lasting_slope"]

_RISE = 1e-3  # by how much a slope may fall from record to record and count as rising: differences of ln L over ln t carry the
# integrator's error, at most about 1e-4 at rtol 1e-6 and twenty records in a decade


@register
class Theorem37(Theorem):
    r"""Theorem 3.7: :math:`L\ge c\,\tau^{-(1+\epsilon)}` for :math:`\epsilon>0` and late :math:`\tau`, from the starts of Theorem 3.5.

    A constant c that may depend on the problem always exists for a finite run. So the statement is judged by the logarithmic slope
    :math:`d\ln L/d\ln t`: above :math:`-(1+\epsilon)` from some record on, and rising (to :math:`-1`, like :math:`-1-8/r^2` [derived]).
    """

    name = "zhang2025.theorem_3_7"
    title = "Theorem 3.7"
    source = common.PAPER
    statement = "From the starts of Theorem 3.5 the loss is at least c tau^-(1 + eps) for every eps > 0, some c > 0 and late tau."
    latex = r"\forall\epsilon>0\ \exists c>0:\ L^{(\tau)}\ge c\,\tau^{-(1+\epsilon)}\ \text{for large}\ \tau"
    constants = (common.STEP_CONSTANT, Constant("eps", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = [common.single_gaussian(setting), common.equal_weights(setting), far_start.at_least_two(setting),
                 far_start.far_from_target(setting), *conditions(setting), common.small_step(setting, constants)]
        eps = constants["eps"].value
        return found if eps is None else [*found, Hypothesis("eps is positive", r"\epsilon>0", eps, ">", 0.0)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        words, latex, eps = "the loss falls no faster than tau^-(1 + eps)", r"\frac{d\ln L}{d\ln\tau}>-(1+\epsilon)", constants["eps"].value
        slope, tag, why = self._slope(setting)
        if slope is None:
            return [Conclusion(words, latex, note=why)]
        if eps is None:
            return [Conclusion(words, latex, slope, ">", math.nan, tag="unknown", tested=False,
                               note=f"{why}; shown for eps > {-1 - slope:.3g}; give eps=")]
        if tag == "derived" or slope > -(1 + eps):
            return [Conclusion(words, latex, slope, ">", -(1 + eps), tag=tag, note=why)]
        regime = regimes.classify(setting.run)
        if regime.undecided or len(regime.converged) == 1:  # it rises: a later record may be above
            return [Conclusion(words, latex, note=f"{why}: {slope:.5g} is not above {-(1 + eps):.5g} yet; a longer run would decide")]
        return [Conclusion(words, latex, slope, ">", -(1 + eps), tag="derived", note=why)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        slope, tag, _ = self._slope(setting)
        return {} if slope is None else {f"slope of the loss in the end [{tag}]": slope}

    def examples(self) -> dict[str, Example]:
        def near() -> dict[str, Any]:
            objective = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
            return {"subject": gradient_flow(objective, [[6.0], [7.0]], t_end=1e8, rtol=1e-6), "eps": 0.1}

        def short() -> dict[str, Any]:
            return {**far_example(t_end=20.0), "eps": 0.1}

        return {"published distance": Example("verified", lambda: {**far_example(), "eps": 1e-6}, "n=2, d=1, M0=1e13"),
                "seven": Example("vacuous", near, "n=2, d=1, M0=6.5: the slope is above -1.1 all the same"),
                "stage 1 cut short": Example("undecided", short, "the nearest has not arrived yet")}

    @staticmethod
    def _slope(setting: Setting) -> tuple[float | None, str, str]:
        """The lasting slope, where it comes from, and in words what it rests on; None where it is open."""
        nearest, _ = far_start.gaps(setting.state.centre, setting.state.deviations, setting.state.log_scale)
        away = [i for i in range(setting.n) if i != nearest]
        closest = float(regimes.distances(setting.run)[-1, away].min()) if away else 0.0
        if closest < far_start.MOST_VISIBLE:
            return lasting_slope(setting)
        diverge = far_start.others_diverge(setting, nearest)
        if diverge.holds is not True:
            return None, "derived", diverge.note
        return (-1 - 8 / (closest**2 - 12), "derived",
                f"below float64: from ln t = {closest**2 / 8:.4g} on L is about 16/(r^2 t) with r^2/8 like ln t, so the slope is "
                "-1 - 8/(r^2 - 12) and rises; before that the loss stands still above it")


def lasting_slope(setting: Setting) -> tuple[float | None, str, str]:
    """The slope of the loss at the end of a run if it has been rising over the last decade of flow time; None if not."""
    try:
        local = rates.local_slope(setting.run)
    except ValueError:
        return None, "published", "too few records: a longer run would decide"
    late = local.times >= local.times[-1] / 10
    slopes = local.slope[late][:-1]  # the last one is one-sided
    if slopes.size < 3:
        return None, "published", "too few records in the last decade: a longer run would decide"
    if (np.diff(slopes) < -_RISE).any():
        return None, "published", "the slope is not rising over the last decade: a longer run would decide"
    return float(slopes[-1]), "published", "slope at the end of the run, rising over its last decade"
