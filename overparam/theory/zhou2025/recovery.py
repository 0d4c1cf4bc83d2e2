"""The main theorem: the hybrid recovers a well separated mixture from draws of it, polynomially fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import em
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2024.common import fallen
from overparam.theory.zhou2025 import common
from overparam.theory.zhou2025.clusters import ClusterWeights
from overparam.theory.zhou2025.hybrid import example_objective

__all__ = ["MainTheorem", "separation"]

_RARE = math.log(1e-6)  # a start that fewer than one in a million draws would exceed is none


def separation(means: np.ndarray) -> float:
    r"""Smallest distance :math:`\Delta` of two of the teacher's means; infinite for one.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.zhou2025.recovery import separation
    >>> separation(np.array([[0.0, 0.0], [3.0, 4.0], [20.0, 0.0]]))
    5.0
    """
    apart = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(apart, math.inf)
    return float(apart.min())


@register
class MainTheorem(Theorem):
    r"""Global convergence: separation :math:`\Delta\ge C\sqrt d`, :math:`n\ge C\,m\log m` students drawn from the teacher, equal weights.

    The assumptions are published, their constants are not known: C_sep, C_n, and the largest step size, are to be given. The rate
    :math:`O(1/T^2)` is published as a summary has it; over a run's horizon the slope of the loss is between -1 and -2 and steepens while
    the weights still drift, so that a slope below -1 is asked for, and :math:`L\,(\eta T)^2\le C_L` where C_L is given. What "general
    position" of the means is in the paper is not known: that they differ is tested. That a start was drawn from the teacher cannot be
    seen; what is tested is that no student is farther from all components than one draw in a million has one.
    """

    name = "zhou2025.main_theorem"
    title = "Main theorem (recovery of a mixture)"
    source = common.PAPER
    statement = ("From n = Omega(m log m) draws of a mixture of separation Omega(sqrt d) the hybrid converges globally, at the rate "
                 "O(1/T^2).")
    latex = r"\Delta\ge C\sqrt d,\ n\ge C\,m\log m\ \Rightarrow\ L\le O(1/T^2)"
    constants = (Constant("C_sep", None, "unknown"), Constant("C_n", None, "unknown"), Constant("largest_step", None, "unknown"),
                 Constant("C_L", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = [*common.on_mixture(setting.objective), common.hybrid_motion(setting)]
        if not common.is_mixture(setting.objective):
            return found
        means, _ = common.teacher_in(setting.objective, setting.state)
        m, apart = len(means), separation(means)
        students = m * math.log(m)
        return [*found,
                _least("the components are well separated", r"\Delta\ge C_{sep}\sqrt d", apart, math.sqrt(setting.d), constants["C_sep"]),
                Hypothesis("no two components coincide", r"\mu_j^*\ne\mu_l^*", apart, ">", 0.0, tag="reconstructed",
                           note="the least that general position can mean"),
                _least("there are enough students", r"n\ge C_n\,m\log m", float(setting.n), students, constants["C_n"]),
                Hypothesis("the weights start equal", r"\pi_i^{(0)}=1/n", fact=setting.equal_weights),
                self._drawn(setting, means), self._small_step(setting, constants["largest_step"])]

    @staticmethod
    def _drawn(setting: Setting, means: np.ndarray) -> Hypothesis:
        from scipy.special import gammaincc  # loaded here: importing overparam stays light

        # the distance from the nearest component is at most that from a student's own, which is chi in d dimensions
        squares = ((setting.state.coordinates[:, None] - means) ** 2).sum(axis=2).min(axis=1)
        chance = setting.n * float(gammaincc(setting.d / 2, float(squares.max()) / 2))
        return Hypothesis("the students may be draws from the teacher", r"\mu_i^{(0)}\sim p^*",
                          math.log(min(chance, 1.0)) if chance else -math.inf, ">=", _RARE, logarithmic=True,
                          note=f"the farthest is {math.sqrt(squares.max()):.4g} from its nearest component")

    @staticmethod
    def _small_step(setting: Setting, constant: Constant) -> Hypothesis:
        words, latex = "the step size is small", r"\eta\le\eta_{\max}"
        if setting.step_size is None:
            return Hypothesis(words, latex, note="no step size", tag=constant.tag)
        if constant.value is None:
            return Hypothesis(words, latex, setting.step_size, "<=", math.nan, tag="unknown", tested=False, note="give largest_step=")
        return Hypothesis(words, latex, setting.step_size, "<=", constant.value, tag=constant.tag)

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, constant = setting.run, constants["C_L"]
        seen, note = fallen(run, -1.0, strict=True, time="T")
        needed = float((run.loss * run.times**2).max())
        words, latex = "the loss stays below its bound", r"L\le C_L/(\eta T)^2"
        if constant.value is None:
            bound = Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for C_L >= {needed:.3g} up to this horizon; give C_L=")
        else:
            bound = Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag,
                               error=float((run.loss_error * run.times**2).max()))
        found = [Conclusion("the loss falls faster than 1/T at the end", r"\frac{d\ln L}{d\ln T}<-1", fact=True if seen else None,
                            tag="derived", note=note + ("" if seen else ": a longer run would decide")), bound]
        return [*found, ClusterWeights.claim(setting, -1)] if common.is_mixture(setting.objective) else found

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        return {**ClusterWeights().measured(setting, {}),
                "smallest C_L of this run": float((setting.run.loss * setting.run.times**2).max())}

    def examples(self) -> dict[str, Example]:
        obj = example_objective(1e-7)
        start = init.from_teacher(obj.teacher, 5, rng=1)
        given = {"C_sep": 4.0, "C_n": 2.0, "largest_step": 1.0, "C_L": 2.0}

        def run(steps: int, params0: Any = start) -> dict[str, Any]:
            return {"subject": em(obj, params0, steps=steps, step_size=1.0)}

        return {"given": Example("verified", lambda: {**run(300), **given}, "n=5, m=2, d=1, separation 6"),
                "constants unknown": Example("undecided", lambda: run(300), "none is given"),
                "short": Example("undecided", lambda: {**run(2), **given}, "two steps"),
                "elsewhere": Example("vacuous", lambda: {**run(10, start + 20.0), **given}, "students that the teacher would not draw")}


def _least(words: str, latex: str, value: float, unit: float, constant: Constant) -> Hypothesis:
    """``value >= constant unit``; where the constant is not known, only shown."""
    if constant.value is None:
        most = f"{value / unit:.4g}" if unit > 0 else "any"
        return Hypothesis(words, latex, value, ">=", math.nan, tag="unknown", tested=False, note=f"holds up to the constant {most}; give "
                                                                                                 f"{constant.name}=")
    return Hypothesis(words, latex, value, ">=", constant.value * unit, tag=constant.tag)
