r"""This library's laws of gradient EM from any start: :math:`U=\sum\|\mu_i\|^2` falls, and every student converges, at any step below 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam.drivers import em, gradient_flow
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2024 import common
from overparam.theory.zhang2025 import cubic

__all__ = ["GlobalConvergence", "SumOfSquares", "sums_of_squares"]

_EPS = float(np.finfo(np.float64).eps)
_LOOKED_AT = 10  # consecutive records, at most, at which the decrease of one step is compared


def sums_of_squares(setting: Setting) -> np.ndarray:
    r""":math:`U=\sum_i\|\mu_i-\mu^*\|^2` at the records of the run."""
    return np.array([float((state.coordinates**2).sum()) for state in setting.run.states])


def _steps_of_gradient_em(setting: Setting, strict: bool) -> list[Hypothesis]:
    """Gradient EM, its weights fixed or moving, of a step of at most 2; or its flow."""
    words, latex = "the run is gradient EM, or its flow", r"\mu_i^+=\mu_i-\eta\nabla_iL"
    small, order = "the step size is small", r"\eta<2" if strict else r"\eta\le2"
    if setting.run is None:
        motion = Hypothesis(words, latex, tag="derived", note="no run was given")
    else:
        descent = setting.run.driver in ("gradient_descent", "em") and setting.step_size is not None
        motion = Hypothesis(words, latex, fact=descent or common.flow(setting), tag="derived", note=f"the driver is {setting.run.driver}")
    if setting.step_size is None:
        moved = setting.run is not None and common.flow(setting)
        return [motion, Hypothesis(small, order, fact=True if moved else None, tag="derived", note="" if moved else "no step size")]
    return [motion, Hypothesis(small, order, setting.step_size, "<" if strict else "<=", 2.0, tag="derived")]


@register
class SumOfSquares(Theorem):
    r"""For a single Gaussian :math:`U=\sum_i\|\mu_i\|^2` never increases: along the flow :math:`\dot U=-2E\|v\|^2`, and for a step

    .. math:: U^+=U-2\eta E\|v\|^2+\eta^2\sum_i\|E[w_iv]\|^2\le U-\eta(2-\eta)\,E\|v\|^2,

    since :math:`\|E[w_iv]\|^2\le E[w_i]\,E[w_i\|v\|^2]`. The weights may be any, and may move between steps. Step sizes up to 2 will do,
    which one student shows to be sharp: it ends at :math:`(1-\eta)\mu`.
    """

    name = "xu2024.law_sum_of_squares"
    title = "The sum of squared distances never increases"
    source = common.OWN
    statement = "Under gradient EM of a step size of at most 2, and under its flow, the sum of |mu_i|^2 never increases."
    latex = r"U(t)=\sum_i\|\mu_i(t)\|^2,\qquad U^+\le U-\eta(2-\eta)\,\mathbb E\|v\|^2"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [*common.on_one_gaussian(setting), *_steps_of_gradient_em(setting, strict=False)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, sums = setting.run, sums_of_squares(setting)
        step_error = run.settings.get("rtol", 0.0) + 16 * _EPS  # a gradient's relative error cannot turn the sign of what a step does
        with np.errstate(divide="ignore", invalid="ignore"):
            rises = np.diff(sums) / sums[:-1] - step_error * (1 + np.diff(run.steps))
        worst = float(np.nanmax(rises, initial=-math.inf))
        found = [Conclusion("U is never larger at a record than at the one before", r"U^+\le U", fact=worst <= 0, tag="derived",
                            note=f"largest relative increase beyond the steps' error: {max(worst, 0.0):.3g}, over {len(sums)} records")]
        return found + self._each_step(setting, sums)

    @staticmethod
    def _each_step(setting: Setting, sums: np.ndarray) -> list[Conclusion]:
        """The decrease of single steps, where records are consecutive, against E|v|^2 on a grid of its own."""
        run, step = setting.run, setting.step_size
        places = np.flatnonzero(np.diff(run.steps) == 1)[:_LOOKED_AT]
        if step is None or not len(places):
            return []
        claims = []
        for place in places:
            state = run.states[place]
            weights = setting.weights if run.weights is None or run.weights.ndim == 1 else run.weights[place]
            exact = cubic.integrals(state.coordinates, weights)
            claims.append((sums[place] - sums[place + 1], step * (2 - step) * exact.loss,
                           step * abs(2 - step) * exact.loss_error + (64 * _EPS + _tol(setting)) * sums[place]))
        left, right, error = min(claims, key=lambda one: one[0] - one[1])
        return [Conclusion("a step lowers U by at least eta (2 - eta) E|v|^2", r"U-U^+\ge\eta(2-\eta)\mathbb E\|v\|^2",
                           fact=None if math.isnan(right) else bool(left >= right - error), tag="derived",
                           note=f"{left:.6g} against {right:.6g}, error {error:.2g}: the least room of {len(claims)} steps")]

    def examples(self) -> dict[str, Example]:
        obj, start = common.at_target(1, tol=1e-8), [[3.0], [-0.5], [1.0]]
        return {"flow": Example("verified", lambda: {"subject": gradient_flow(obj, start, t_end=1e6)}, "n=3, d=1"),
                "hybrid": Example("verified", lambda: {"subject": em(obj, start, steps=60, step_size=1.9)}, "eta=1.9, moving weights"),
                "large step": Example("vacuous", lambda: {"subject": em(obj, [[1.0]], steps=20, step_size=2.5)},
                                      "one student, eta=2.5: it diverges")}


def _tol(setting: Setting) -> float:
    """Relative error of the library's gradients."""
    return float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0))


@register
class GlobalConvergence(Theorem):
    r"""Every student of positive weight converges, whatever the start: gradient EM has no border like score matching's.

    From :math:`U^+\le U-\eta(2-\eta)E\|v\|^2` the sum over all steps of :math:`E\|v\|^2` is at most :math:`U_0/(\eta(2-\eta))`. The
    parameters stay bounded and :math:`E\|v\|^2\to0`, so at every limit point v vanishes: there the mixture is the target, and a mixture of
    positive fixed weights is :math:`N(0,I)` only with all means at 0. For :math:`0<\eta<2`, and for the flow.
    """

    name = "xu2024.law_global_convergence"
    title = "Every student converges"
    source = common.OWN
    statement = ("With fixed positive weights, at any step size below 2 and along the flow, every student converges to a single "
                 "Gaussian's mean.")
    latex = r"0<\eta<2\ \Rightarrow\ \mu_i(t)\to\mu^*"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        fixed = None if setting.run is None else common.fixed_weights(setting)
        return [*common.on_one_gaussian(setting), *_steps_of_gradient_em(setting, strict=True),
                Hypothesis("the weights stay", r"\pi_i(t)=\pi_i", fact=fixed, tag="derived"),
                Hypothesis("all weights are positive", r"\pi_{\min}>0", float(setting.weights.min()), ">", 0.0, tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        # within the unit ball, where classify looks, U cannot grow under this loss either
        words, latex = "every student converges to the target", r"\mu_i\to\mu^*"
        if not setting.single_teacher:
            return [Conclusion(words, latex, tag="derived", note="the target is a mixture")]
        regime = regimes.classify(setting.run)
        fact = True if len(regime.converged) == setting.n else None
        return [Conclusion(words, latex, fact=fact, tag="derived",
                           note=f"{regime.name} {regime.reason}" + ("" if fact else ": a longer run would decide"))]

    def examples(self) -> dict[str, Example]:
        obj = common.at_target(1, tol=1e-8)
        profile = np.linspace(-1, 1, 5)[:, None] * math.exp(5.5 - 9.0) * math.sqrt(2)  # of root mean square 1

        def run(t_end: float) -> dict[str, Any]:
            return {"subject": gradient_flow(obj, init.around([3.0], profile), t_end=t_end)}

        def mixture() -> dict[str, Any]:
            two = KLDivergence(GaussianMixture([[-1.0], [1.0]]), rule=Auto(tol=1e-8))
            return {"subject": em(two, [[1.0], [0.0]], steps=2, step_size=1.0, update_weights=False)}

        return {"above the border": Example("verified", lambda: run(1e4), "n=5, M0=3, b=5.5: under score matching one converges"),
                "short": Example("undecided", lambda: run(0.1), "the horizon is too short"),
                "mixture": Example("vacuous", mixture, "two components")}
