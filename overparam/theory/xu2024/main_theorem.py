"""The main theorem: gradient EM with fixed weights converges from any start, at least like 1/sqrt(t)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import em, gradient_flow
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2024 import common

__all__ = ["MainTheorem", "largest_gamma", "log_rate", "log_step"]


def log_step(params: np.ndarray, weights: np.ndarray) -> float:
    r"""Logarithm of the recalled order of the step size, :math:`e^{-8U}\pi_{\min}^2/(n^2d^2(\mu_{\max}^{-1}+\mu_{\max})^2)`.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2024.main_theorem import log_step
    >>> round(log_step(np.array([[1.0]]), np.ones(1)), 6)      # e^-8/4
    -9.386294
    """
    n, d = params.shape
    largest = float(np.linalg.norm(params, axis=1).max())
    with np.errstate(divide="ignore"):
        return float(-8 * (params**2).sum() + 2 * np.log(weights.min()) - 2 * np.log(n * d) - 2 * np.log(1 / largest + largest))


def log_rate(params: np.ndarray, weights: np.ndarray) -> float:
    r"""Logarithm of the recalled order of :math:`\gamma/\eta`: :math:`e^{-16U}\pi_{\min}^4/(n^2d^2(1+\mu_{\max}\sqrt{dn})^4)`.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2024.main_theorem import log_rate
    >>> round(log_rate(np.array([[1.0]]), np.ones(1)), 6)      # e^-16/16
    -18.772589
    """
    n, d = params.shape
    largest = float(np.linalg.norm(params, axis=1).max())
    with np.errstate(divide="ignore"):
        return float(-16 * (params**2).sum() + 4 * np.log(weights.min()) - 2 * np.log(n * d)
                     - 4 * np.log1p(largest * math.sqrt(d * n)))


def largest_gamma(times: np.ndarray, loss: np.ndarray) -> float:
    r"""The largest :math:`\gamma` with :math:`L\le1/\sqrt{\gamma t}` at all these times; infinite without a time above 0.

    Examples
    --------
    >>> from overparam.theory.xu2024.main_theorem import largest_gamma
    >>> largest_gamma([0.0, 1.0, 4.0], [9.0, 0.5, 0.5])
    1.0
    """
    times, loss = np.asarray(times, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    after = (times > 0) & (loss > 0)
    return float((1 / (times[after] * loss[after] ** 2)).min()) if after.any() else math.inf


@register
class MainTheorem(Theorem):
    r"""Global convergence: :math:`L(\mu(t))\le1/\sqrt{\gamma t}` from any start, for any fixed positive weights.

    The rate :math:`O(1/\sqrt t)` is published. The orders of the step size and of :math:`\gamma` are recalled,

    .. math:: \eta\le O\!\Big(\frac{e^{-8U(0)}\pi_{\min}^2}{n^2d^2(\frac1{\mu_{\max}}+\mu_{\max})^2}\Big),\qquad
              \gamma=\Omega\!\Big(\frac{\eta\,e^{-16U(0)}\pi_{\min}^4}{n^2d^2(1+\mu_{\max}\sqrt{dn})^4}\Big),\qquad
              U=\sum_i\|\mu_i\|^2

    and shown, not tested. ``gamma`` is given in units of flow time :math:`\eta t`: the paper's :math:`\gamma` over :math:`\eta`. The true
    local rate is :math:`t^{-2}` (``xu2024.law_late``).
    """

    name = "xu2024.main_theorem"
    title = "Main theorem (global convergence)"
    source = common.PAPER
    statement = "With a small enough step size gradient EM with fixed weights converges to a single Gaussian from any start, as 1/sqrt(t)."
    latex = r"L(\mu(t))\le\frac1{\sqrt{\gamma t}}"
    constants = (Constant("C_eta", None, "unknown"), Constant("gamma", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting),
                Hypothesis("all weights are positive", r"\pi_{\min}>0", float(setting.weights.min()), ">", 0.0),
                self._small_step(setting, constants["C_eta"])]

    @staticmethod
    def _small_step(setting: Setting, constant: Constant) -> Hypothesis:
        words = "the step size is small"
        latex = r"\eta\le C_\eta\,e^{-8U}\pi_{\min}^2/(n^2d^2(\mu_{\max}^{-1}+\mu_{\max})^2)"
        if setting.run is not None and common.flow(setting):
            return Hypothesis(words, latex, fact=True, note="gradient flow: the limit of small steps")
        if setting.step_size is None:
            return Hypothesis(words, latex, note="no step size was given")
        order, step = log_step(setting.state.coordinates, setting.weights), math.log(setting.step_size)
        if constant.value is None:
            return Hypothesis(words, latex, step, "<=", order, tag="recalled", logarithmic=True,
                              note=f"the order is recalled: it holds for ln C_eta >= {step - order:.4g}; give C_eta=")
        bound = order + math.log(constant.value) if constant.value > 0 else -math.inf
        return Hypothesis(words, latex, step, "<=", bound, tag=constant.tag, logarithmic=True, note="the order is recalled")

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, gamma = setting.run, constants["gamma"]
        found = largest_gamma(run.times, run.loss)
        seen, slope = common.fallen(run)
        rate = Conclusion("the loss falls at least like 1/sqrt(t) at the end of the run", r"\frac{d\ln L}{d\ln t}\le-\frac12",
                          fact=True if seen else None, note=slope + ("" if seen else ": a longer run would decide"))
        words, latex = "the loss stays below its bound", r"L\le1/\sqrt{\gamma t}"
        if gamma.value is None:
            bound = Conclusion(words, latex, found, ">=", math.nan, tag="unknown", tested=False,
                               note=f"holds for gamma <= {found:.4g} of flow time; give gamma=")
        else:
            after = run.loss > 0  # those of which largest_gamma is made
            error = 2 * float((run.loss_error[after] / run.loss[after]).max(initial=0.0))
            bound = Conclusion(words, latex, found, ">=", gamma.value, tag=gamma.tag, error=found * error if math.isfinite(found) else 0.0)
        return [rate, bound]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        return {"largest gamma of this run": largest_gamma(setting.run.times, setting.run.loss),
                "ln of its order with the constant 1 (recalled)": log_rate(setting.state.coordinates, setting.weights),
                "U at the start": float((setting.state.coordinates**2).sum())}

    def examples(self) -> dict[str, Example]:
        line = common.at_target(1, tol=1e-8)
        uneven = common.at_target(1, np.array([0.2, 0.3, 0.5]), tol=1e-8)
        start = [[1.0], [-0.5], [2.0]]

        def descent(**given: float) -> dict[str, Any]:
            return {"subject": em(uneven, start, steps=300, step_size=0.5, update_weights=False), "gamma": 0.1, **given}

        return {"flow": Example("verified", lambda: {"subject": gradient_flow(line, start, t_end=1e4), "gamma": 0.5}, "n=3, d=1"),
                "gradient EM": Example("verified", lambda: descent(C_eta=1e22), "weights 0.2, 0.3, 0.5; a constant that admits eta=0.5"),
                "step size": Example("undecided", descent, "the step size's order is recalled, its constant unknown"),
                "bad region": Example("undecided", lambda: {"subject": gradient_flow(line, init.bad_region(3, 1), t_end=1e3)},
                                      "nothing has moved yet"),
                "weights move": Example("vacuous", lambda: {"subject": em(line, start, steps=50)}, "full EM")}
