"""Theorem 3.2: an exponentially small start at small noise, from which every student converges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common

__all__ = ["Theorem32"]


@register
class Theorem32(Theorem):
    r"""Theorem 3.2: all students start within :math:`\frac1{108nd}e^{-106ndM_0^3}` of one point at distance :math:`M_0` from the target."""

    name = "zhang2025.theorem_3_2"
    title = "Theorem 3.2"
    source = common.PAPER
    statement = ("From a start that is exponentially close together at distance M0 from the target every student converges to it, and the "
                 "loss is O(n^3 d^2 / sqrt(eta (tau - T))) after T steps.")
    latex = r"\|\mu_i^{(0)}\|\le\tfrac1{108nd}e^{-106ndM_0^3}\ \Rightarrow\ \mu_i\to\mu^*,\ L\le O(n^3d^2/\sqrt{\eta(\tau-T)})"
    constants = (common.STEP_CONSTANT, Constant("C_L", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        distance, n, d = self._distance(setting), setting.n, setting.d
        start = Hypothesis("the students start exponentially close together", r"\max_i\|\mu_i^{(0)}-c\|\le\frac1{108nd}e^{-106ndM_0^3}",
                           common.log_extent(setting), "<=", -math.log(108 * n * d) - 106 * n * d * distance**3, logarithmic=True,
                           note=f"c is their mean, at distance M0 = {distance:.6g} from the target (the paper's origin)")
        return [common.single_gaussian(setting), common.equal_weights(setting),
                Hypothesis("there are at least two students", r"n\ge2", setting.n, ">=", 2), start, common.small_step(setting, constants)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        needed, constant = self._needed(setting), constants["C_L"]
        words, latex = "the loss stays below its bound", r"L\le C_L\,n^3d^2/\sqrt{\eta(\tau-T)}"
        if math.isnan(needed):
            bound = Conclusion(words, latex, tag="reconstructed", note="the run ends before T: a longer one would decide")
        elif constant.value is None:
            bound = Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for C_L >= {needed:.3g}; give C_L=")
        else:
            bound = Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag, error=needed * self._relative_error(setting),
                               note="T is reconstructed")
        return [common.all_converge(setting), bound]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        return {"smallest C_L of this run": self._needed(setting),
                "sharp threshold ln(spread) = -M0^2 + 2.5 (derived)": -self._distance(setting) ** 2 + 2.5}

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.5]), rule=Auto(tol=1e-8))

        def holds() -> dict[str, Any]:
            start = init.exponentially_small(n=2, target=[0.5], rng=0)
            return {"subject": gradient_flow(obj, start, t_end=1e4), "C_L": 1.0}

        def wide() -> dict[str, Any]:
            start = init.cluster(n=2, center=[0.0], scale=1e-3, rng=0)
            return {"subject": gradient_flow(obj, start, t_end=1e4), "C_L": 1.0}

        def short() -> dict[str, Any]:
            start = init.exponentially_small(n=2, target=[0.5], rng=0)
            return {"subject": gradient_descent(obj, start, step_size=0.01, steps=5), "C_eta": 1.0, "C_L": 1.0}

        return {"exponentially small": Example("verified", holds, "n=2, d=1, M0=1/2, at the theorem's radius"),
                "a thousandth": Example("vacuous", wide, "n=2, d=1, M0=1/2, spread 1e-3: it converges all the same"),
                "five steps": Example("undecided", short, "the horizon is too short")}

    @staticmethod
    def _distance(setting: Setting) -> float:
        """M0, from the students' mean."""
        return float(np.linalg.norm(setting.state.centre + math.exp(setting.state.log_scale) * setting.state.deviations.mean(axis=0)))

    def _needed(self, setting: Setting) -> float:
        r"""Smallest :math:`C_L` at the records after :math:`\eta T=\frac n2\ln(6nM_0)`; NaN if the run ends before."""
        n, d, times = setting.n, setting.d, common.flow_times(setting)
        late = n / 2 * math.log(max(6 * n * self._distance(setting), 1.0))
        after = times > late
        if not after.any():
            return math.nan
        return float((setting.run.loss[after] * np.sqrt(times[after] - late)).max() / (n**3 * d**2))

    def _relative_error(self, setting: Setting) -> float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nanmax(setting.run.loss_error / setting.run.loss))
