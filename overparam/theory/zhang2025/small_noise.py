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
from overparam.theory.zhang2025 import common, far_start
from overparam.theory.zhang2025.enclosing import smallest_ball
from overparam.theory.zhang2025.laws_growth import border

__all__ = ["Theorem32"]


@register
class Theorem32(Theorem):
    r"""Theorem 3.2: all students start within :math:`\frac1{108nd}e^{-106ndM_0^3}` of one point at distance :math:`M_0` from the target.

    Any point will do (the paper's origin): tried are the smallest ball's centre, the students, their mean, the target, and points a little
    nearer to it. The hypothesis fails only where no point can serve. With A the distance of the mean, a point within :math:`\rho` of all
    students is at :math:`M_0\ge A-\rho`, so that :math:`\rho\le\rho^*`, the largest with :math:`\rho\le r(A-\rho)`,
    :math:`r(M)=\frac1{108nd}e^{-106ndM^3}`; and no :math:`\rho` is below the smallest ball's radius.
    """

    name = "zhang2025.theorem_3_2"
    title = "Theorem 3.2"
    source = common.PAPER
    statement = ("From a start that is exponentially close together at distance M0 from the target every student converges to it. "
                 "Reconstructed: after T steps, T = n/(2 eta) ln(6 n M0), the loss is O(n^3 d^2 / sqrt(eta (tau - T))).")
    latex = (r"\|\mu_i^{(0)}\|\le\tfrac1{108nd}e^{-106ndM_0^3}\ \Rightarrow\ \mu_i\to\mu^*\qquad"
             r"[\text{reconstructed: }L\le O(n^3d^2/\sqrt{\eta(\tau-T)}),\ \eta T=\tfrac n2\ln(6nM_0)]")
    constants = (common.STEP_CONSTANT, Constant("C_L", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        start = self._close(setting)
        return [common.single_gaussian(setting), common.equal_weights(setting),
                Hypothesis("there are at least two students", r"n\ge2", setting.n, ">=", 2), start, common.small_step(setting, constants)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        needed, constant = self._needed(setting), constants["C_L"]
        words, latex = "the loss stays below its reconstructed bound", r"L\le C_L\,n^3d^2/\sqrt{\eta(\tau-T)}"
        if math.isnan(needed):
            bound = Conclusion(words, latex, tag="reconstructed", note="the run ends before T: a longer one would decide")
        elif constant.value is None:
            bound = Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for C_L >= {needed:.3g}; give C_L=; T is reconstructed")
        else:
            bound = Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag,
                               error=needed * far_start.relative_loss_error(setting), note="its form and T are reconstructed")
        return [common.all_converge(setting), bound]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        found: dict[str, Any] = {"smallest C_L of this run (T reconstructed)": self._needed(setting)}
        distance, kappa = self._distance(setting), border(setting.n)
        if kappa is not None and distance >= 2:
            found[f"sharp threshold of ln(rms deviation along the centre), n = {setting.n}, lowest and highest over profiles (derived)"] = [
                kappa[0] - distance**2, kappa[1] - distance**2]
        return found

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
                "five steps": Example("undecided", short, "the horizon is too short"),
                "too small a constant": Example("violated", lambda: {**holds(), "C_L": 1e-9}, "given a C_L that is not the theorem's")}

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

    @staticmethod
    def _close(setting: Setting) -> Hypothesis:
        """The hypothesis at the point that serves best; open where none was found and none was excluded."""
        n, d, ball = setting.n, setting.d, smallest_ball(setting.state)
        words, latex = "the students start exponentially close together", r"\max_i\|\mu_i^{(0)}-c\|\le\frac1{108nd}e^{-106ndM_0^3}"
        offset = -math.log(108 * n * d)

        def log_allowed(distance: float) -> float:
            return offset - 106 * n * d * min(max(distance, 0.0), 1e90) ** 3  # farther, no float64 start differs from a common point

        mean, most = Theorem32._distance(setting), math.exp(offset)
        for _ in range(60):  # falls to the largest fixed point
            most = math.exp(max(log_allowed(mean - most), -700.0))
        radius = math.exp(max(ball.log_radius, -700.0))
        limit = log_allowed(mean - most)
        if ball.log_least > limit + 1e-12 * (1 + abs(limit)):
            return Hypothesis(words, latex, ball.log_least, "<=", limit, logarithmic=True,
                              note=f"about no point c: on the left the least radius of a ball around them, on the right what is allowed as "
                                   f"near to the target as its centre can be, M0 = {max(mean - most, 0.0):.6g}")
        # moving the centre by s towards the target adds at most s to the radius
        shift = max(most - radius, 0.0)
        tried = [(ball.distance, ball.log_radius), (max(ball.distance - shift, 0.0), float(np.logaddexp(ball.log_radius, _log(shift))))]
        points = setting.state.coordinates
        tried += [(0.0, _log(float(np.linalg.norm(points, axis=1).max()))), *_about_students(setting)]
        distance, extent = max(tried, key=lambda one: log_allowed(one[0]) - one[1])
        if extent > log_allowed(distance):
            return Hypothesis(words, latex, note=f"not about the point tried that serves best, M0 = {distance:.6g}: exp({extent:.6g}) "
                                                 f"is above exp({log_allowed(distance):.6g}); another may do")
        return Hypothesis(words, latex, extent, "<=", log_allowed(distance), logarithmic=True,
                          note=f"c is the point that serves best, at distance M0 = {distance:.6g} from the target (the paper's origin)")


def _about_students(setting: Setting) -> list[tuple[float, float]]:
    """M0 and ln of the extent about each student, and about their mean."""
    state = setting.state
    apart = state.deviations - state.deviations[0]
    found = []
    for place in (*apart, apart.mean(axis=0)):
        rows = apart - place
        peak = float(np.abs(rows).max())
        at = state.centre + math.exp(state.log_scale) * (state.deviations[0] + place)
        size = _log(float(np.linalg.norm(rows / peak, axis=1).max())) + math.log(peak) + state.log_scale if peak > 0 else -math.inf
        found.append((float(np.linalg.norm(at)), size))
    return found


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf
