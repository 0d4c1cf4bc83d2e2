"""The theorem for one Gaussian: gradient descent on the reverse Fisher divergence converges from any start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common
from overparam.theory.tyurin2026.step_size import largest_step, squared_distances

__all__ = ["SingleTeacher", "needed_rate"]


def needed_rate(setting: Setting) -> float:
    r"""The smallest C with :math:`\sum_i\|\mu_i-\bar\mu\|^2\le C/t` at all records of the run, t the flow time."""
    return float((np.asarray(setting.run.times) * squared_distances(setting)).max())


@register
class SingleTeacher(Theorem):
    r"""Global convergence for a single Gaussian: from an arbitrary start, with fixed weights and identity covariances.

    The statement is published; its step size and its rate are not known to us. ``gamma_max`` is the step size that the user grants; a flow
    is the limit of small ones. ``C_rate`` is the constant of :math:`\sum\|\mu_i-\bar\mu\|^2\le C_{rate}/t`, a form that goes beyond the
    statement, t the flow time :math:`\gamma k`. A step size with a proof is that of ``tyurin2026.law_step_size``.
    """

    name = "tyurin2026.theorem_single_teacher"
    title = "Theorem for a single Gaussian (global convergence)"
    source = common.PAPER
    statement = "With a small enough step size gradient descent with fixed weights converges to a single Gaussian from any start."
    latex = r"\mu_i^k\to\bar\mu\quad(i=1,\dots,n)"
    constants = (Constant("gamma_max", None, "unknown"), Constant("C_rate", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting),
                Hypothesis("all weights are positive", r"\pi_{\min}>0", float(setting.weights.min()), ">", 0.0),
                self._small_step(setting, constants["gamma_max"])]

    @staticmethod
    def _small_step(setting: Setting, constant: Constant) -> Hypothesis:
        words, latex = "the step size is small", r"\gamma\le\gamma_{\max}"
        if common.flow(setting):
            return Hypothesis(words, latex, fact=True, note="gradient flow: the limit of small steps")
        if setting.step_size is None:
            return Hypothesis(words, latex, tag="unknown", note="no step size was given")
        if constant.value is None:
            own = largest_step(float((setting.state.coordinates**2).sum()), float(setting.weights.max()))
            return Hypothesis(words, latex, setting.step_size, "<=", math.nan, tag="unknown", tested=False,
                              note=f"the paper's is not known: give gamma_max= (this library's own theorem has {own:.4g})")
        return Hypothesis(words, latex, setting.step_size, "<=", constant.value, tag=constant.tag)

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        # within the unit ball, where classify looks, the sum of squares cannot grow under this loss either
        regime, rate = regimes.classify(setting.run), constants["C_rate"]
        fact = True if len(regime.converged) == setting.n else None  # a finite run does not refute a limit
        note = f"{regime.name} {regime.reason}" + ("" if fact else ": a longer run would decide")
        if setting.run.status == "unstable":  # but a run that has left for infinity does
            fact, note = False, f"the run is unstable: {setting.run.message or 'its loss grew without bound'}"
        limit = Conclusion("every student converges to the teacher's mean", r"\mu_i\to\bar\mu", fact=fact, note=note)
        needed = needed_rate(setting)
        words, latex = "the sum of squared distances is at most C_rate/t", r"\sum_i\|\mu_i-\bar\mu\|^2\le C_{rate}/t"
        if rate.value is None:
            bound = Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False, strengthening=True,
                               note=f"no rate is known: this run needs C_rate >= {needed:.4g}")
        else:
            tol = float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0)) + setting.run.settings.get("rtol", 0.0)
            bound = Conclusion(words, latex, needed, "<=", rate.value, tag=rate.tag, error=needed * tol * 10, strengthening=True)
        return [limit, bound]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        return {"smallest C_rate of this run": needed_rate(setting)}

    def examples(self) -> dict[str, Example]:
        line = common.at_target(1, tol=1e-8)

        def descent(**given: float) -> dict[str, Any]:
            return {"subject": gradient_descent(line, [[3.0], [-0.5], [1.0]], step_size=0.05, steps=3000), **given}

        def diverging() -> dict[str, Any]:
            return {"subject": gradient_descent(line, [[1.0], [-1.0]], step_size=5.0, steps=200), "gamma_max": 10.0}

        def mixture() -> dict[str, Any]:
            two = ReverseFisher(GaussianMixture([[-1.0], [1.0]]), rule=Auto(tol=1e-8))
            return {"subject": gradient_descent(two, [[1.0], [0.0]], step_size=0.1, steps=2)}

        cluster = init.cluster(3, [6.0], 0.5, rng=0)
        return {"far cluster": Example("verified", lambda: {"subject": gradient_flow(line, cluster, t_end=1e4)},
                                       "n=3, M0=6: under score matching one converges"),
                "descent": Example("verified", lambda: descent(gamma_max=0.1, C_rate=100.0), "step size and rate granted"),
                "step size granted too large": Example("violated", diverging,
                                                       "given a gamma_max that is too large: at step size 5 the run leaves for infinity"),
                "step size not granted": Example("undecided", descent, "the paper's step size is not known"),
                "short": Example("undecided", lambda: {"subject": gradient_flow(line, cluster, t_end=0.1)}, "nothing has arrived yet"),
                "mixture": Example("vacuous", mixture, "two components")}
