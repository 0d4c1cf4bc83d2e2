"""Theorem 2.1: at a large noise time every student converges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import regimes
from overparam._validation import check_real
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common, far_start

__all__ = ["Theorem21", "local_law_ratio"]


@register
class Theorem21(Theorem):
    r"""Theorem 2.1: noise time :math:`t>\ln n+\ln M+2`, where :math:`M=\max_i\|\tilde\mu_i^{(0)}-\tilde\mu^*\|` before noise.

    The students of a run are those at noise time t, :math:`\mu_{i,t}=e^{-t}\tilde\mu_i`. So :math:`\ln M=t+\ln\max_i\|\mu_{i,t}-\mu_t^*\|`,
    and t drops out of the hypothesis: it says that all students start within :math:`e^{-2}/n` of the target. Shown at the objective's own
    noise time (``op.ScoreMatching(teacher, t=...)``), or at the one that is given where it has none.
    """

    name = "zhang2025.theorem_2_1"
    title = "Theorem 2.1"
    source = common.PAPER
    statement = ("At a noise time t > ln n + ln M + 2, M the largest distance of a student from the target without noise, every student "
                 "converges, and the loss is O(n^3 d^2 / sqrt(eta tau)).")
    latex = r"t>\ln n+\ln M+2\ \Rightarrow\ \mu_{i,t}\to\mu_t^*,\ L_t\le O(n^3d^2/\sqrt{\eta\tau})"
    constants = (common.STEP_CONSTANT, Constant("C_L", None, "unknown"), Constant("t", None, "unknown"))

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on a run or a start: see :func:`overparam.theory.check`; ``t`` is the objective's own noise time where it knows it."""
        self._time(getattr(subject, "objective", subject), self.given(constants)["t"])  # an error rather than an open hypothesis
        return super().check(subject, params0, step_size=step_size, confirm=confirm, **constants)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        distance, n, time = float(setting.distances.max()), setting.n, self._time(setting.objective, constants["t"])
        shift = 0.0 if time is None else time
        reach = -math.inf if distance == 0 else math.log(distance) + shift + math.log(n) + 2
        note = (f"ln M = {reach - math.log(n) - 2:.6g}" if time is not None else
                "in the variables at time t, M = e^t max|mu_i - mu*| and t drops out: shown for t = 0")
        noise = Hypothesis("the noise time is large", r"t>\ln n+\ln M+2", shift, ">", reach, logarithmic=True, note=note)
        return [common.single_gaussian(setting), common.equal_weights(setting), far_start.at_least_two(setting), noise,
                common.small_step(setting, constants)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        needed, constant = self._needed(setting), constants["C_L"]
        words, latex = "the loss stays below its bound", r"L\le C_L\,n^3d^2/\sqrt{\eta\tau}"
        if constant.value is None:
            bound = Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for C_L >= {needed:.3g}; give C_L=")
        else:
            bound = Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag,
                               error=needed * far_start.relative_loss_error(setting))
        return [common.all_converge(setting), bound]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        k, ratio = local_law_ratio(setting)
        return {"largest distance at the start times 3n (published: at most 1)": 3 * setting.n * float(setting.distances.max()),
                "smallest C_L of this run": self._needed(setting), "directions k of the local law (derived)": k,
                "loss over k n^2/(64 t^2) at the end (derived: tends to 1)": ratio}

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))

        def holds() -> dict[str, Any]:
            return {"subject": gradient_flow(obj, [[0.06], [-0.05]], t_end=1e4), "C_L": 1.0, "t": 3.0}

        def little() -> dict[str, Any]:
            return {"subject": gradient_flow(obj, [[0.9], [-0.5]], t_end=1e4), "C_L": 1.0}

        def descent() -> dict[str, Any]:
            return {"subject": gradient_descent(obj, [[0.06], [-0.05]], step_size=0.01, steps=2000), "C_L": 1.0}

        return {"large noise": Example("verified", holds, "n=2, d=1, within exp(-2)/2 of the target"),
                "little noise": Example("vacuous", little, "n=2, d=1, within 1: it converges all the same"),
                "step size": Example("undecided", descent, "gradient descent: the constant of the step size is not published"),
                "too small a constant": Example("violated", lambda: {**holds(), "C_L": 1e-9}, "given a C_L that is not the theorem's")}

    @staticmethod
    def _time(objective: Any, constant: Constant) -> float | None:
        """The noise time: the objective's own, or the one that was given; None where neither is known."""
        known = getattr(objective, "noise_time", None)
        if constant.value is None:
            return known
        given = check_real(constant.value, "t", minimum=0.0)
        if known is not None and abs(given - known) > 1e-12 * known:
            raise ValueError(f"t must be the objective's own noise time {known!r} (or left out); got {given!r}")
        return given

    @staticmethod
    def _needed(setting: Setting) -> float:
        r"""Smallest :math:`C_L` at the records."""
        return float((setting.run.loss * np.sqrt(common.flow_times(setting))).max() / (setting.n**3 * setting.d**2))


def local_law_ratio(setting: Setting) -> tuple[int, float]:
    r"""Number k of directions that obey :math:`L\sim kn^2/(64t^2)` at the end of a run, and the loss over that law; NaN if there is none.

    A direction obeys it where :math:`S=\frac1n\sum\mu_i\mu_i^\top` is above half of :math:`n/(8t)`; where it was far smaller at the start
    it has not moved yet.
    """
    run, time = setting.run, float(setting.run.times[-1])
    if not time > 0 or len(regimes.classify(run).converged) != setting.n:
        return 0, math.nan
    sizes = np.linalg.svd(run.final_state.coordinates, compute_uv=False) ** 2 / setting.n
    k = int(np.count_nonzero(sizes > setting.n / (16 * time)))
    return k, float(run.loss[-1] * 64 * time**2 / (k * setting.n**2)) if k else math.nan
