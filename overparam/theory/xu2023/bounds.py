r"""The two bounds of the paper: the loss falls like :math:`T^{-3}`, and for two neurons or more no faster."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init, rates
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ReLUNeuron
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2023 import common

__all__ = ["LowerBound", "UpperBound", "example_flow"]


def example_flow(n: int = 3, d: int = 5, t_end: float = 1e5, seed: int = 0) -> Any:
    """A flow from the paper's start, N(0, 1e-4 I), towards e_1."""
    return gradient_flow(ReLUNeuron(np.eye(d)[0]), init.gaussian(n, np.zeros(d), scale=0.01, rng=seed), t_end=t_end, rtol=1e-10)


def _relative_error(run: Any, record: int) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        found = run.loss_error[record:] / run.loss[record:]
    return float(np.nanmax(found)) if np.isfinite(found).any() else math.inf


class _Cubic(Theorem):
    r"""What both bounds compare: :math:`L\,T^3` from the first balanced record on."""

    upper = True
    constant = "C"

    @abstractmethod
    def unit(self, setting: Setting) -> float:
        r"""What :math:`L\,T^3` is compared with, without the constant."""

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, start = setting.run, common.local_phase(setting.run)
        words = ("L T^3 stays bounded", "the loss stays below its bound") if self.upper else \
            ("L T^3 stays away from 0", "the loss stays above its bound")
        latex = r"L\,T^3=O(1)" if self.upper else r"L\,T^3=\Omega(1)"
        if start is None or start >= len(run) - 3:
            why = "the local phase has not begun: a longer run would decide"
            return [Conclusion(one, fact=None, note=why) for one in words]
        # the upper bound counts T from T_2; the lower one from the start, and says nothing before T_2
        times = common.since(run, start) if self.upper else run.times
        later = (times > 0) & (np.arange(len(times)) >= start)
        cubes, off = run.loss[later] * times[later] ** 3 / self.unit(setting), _relative_error(run, start)
        level, note = common.levels(times[later], cubes, self.upper, off)
        trend = Conclusion(words[0], latex, fact=level, note=f"{note}; {_slopes(run)}", tag="published")
        extreme = float(cubes.max() if self.upper else cubes.min())
        constant, relation = constants[self.constant], "<=" if self.upper else ">="
        if constant.value is None:
            side = ">=" if self.upper else "<="
            return [trend, Conclusion(words[1], self.latex, extreme, relation, math.nan, tag="unknown", tested=False,
                                      note=f"holds at this run's records for {constant.name} {side} {extreme:.4g}; give {constant.name}=")]
        return [trend, Conclusion(words[1], self.latex, extreme, relation, constant.value, tag=constant.tag, error=off * extreme)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        run, start = setting.run, common.local_phase(setting.run)
        if start is None or start >= len(run) - 3:
            return {}
        law = rates.fit_power_law(run)
        return {"exponent over the last decade": law.exponent, "its interval, of a straight line": list(law.interval),
                "slope at the end": float(rates.local_slope(run).slope[-1]),
                "flow time at which the local phase begins": float(run.times[start]),
                "L t^3 at the end": float(run.loss[-1] * run.times[-1] ** 3)}


def _slopes(run: Any) -> str:
    slopes = rates.local_slope(run).slope
    return f"d ln L/d ln t = {slopes[-1]:.4g} at the end"


@register
class UpperBound(_Cubic):
    r"""Upper bound: from a small random start gradient descent comes to a local phase, :math:`T_2`, and there :math:`L=O(T^{-3})`.

    The rate is published. The factor :math:`n^4` is recalled, with little confidence, and goes into the unit of C only; the exponents of
    :math:`\sigma`, :math:`\eta` and d are not known. :math:`T_2` is the first record at which all lengths are in
    :math:`[\|v\|/(3n),3\|v\|/n]`, and T is flow time :math:`\eta\tau` from there. Measured beside it: the exponent over the last decade.
    """

    name = "xu2023.upper_bound"
    title = "Upper bound"
    source = common.PAPER
    statement = ("From a small random start in high dimension gradient descent reaches a local phase at some T_2 and from there on "
                 "L <= C n^4 |v|^2/T^3.")
    latex = r"L(w(T_2+T))\le C\,\frac{n^4\|v\|^2}{(\eta T)^3}"
    constants = (*common.OPEN, Constant("C_eta", None, "unknown"), Constant("C", None, "unknown"))

    def unit(self, setting: Setting) -> float:
        return float(setting.n**4 * setting.objective.length**2)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [common.neuron(setting.objective), common.motion(setting), *common.random_start(setting, constants),
                self._small_step(setting, constants["C_eta"])]

    @staticmethod
    def _small_step(setting: Setting, constant: Constant) -> Hypothesis:
        words, latex = "the step size is small", r"\eta\le C_\eta"
        if setting.run is not None and setting.run.driver == "gradient_flow":
            return Hypothesis(words, latex, fact=True, note="gradient flow: the limit of small steps")
        if setting.step_size is None:
            return Hypothesis(words, latex, note="no step size was given")
        if constant.value is None:
            return Hypothesis(words, latex, setting.step_size, "<=", math.nan, tag="unknown", tested=False,
                              note="what is needed is a polynomial that is not known: give C_eta=")
        return Hypothesis(words, latex, setting.step_size, "<=", constant.value, tag=constant.tag)

    def examples(self) -> dict[str, Example]:
        def descent(**given: float) -> dict[str, Any]:
            run = gradient_descent(ReLUNeuron(np.eye(5)[0]), init.gaussian(3, np.zeros(5), scale=0.01, rng=1), step_size=0.1, steps=300_000)
            return {"subject": run, **given}

        enough = {"C_sigma": 0.1, "C_d": 2.0, "C_eta": 0.1}
        far = {"subject": ReLUNeuron([1.0, 0.0]), "params0": [[3.0, 1.0], [2.0, -1.0]], "step_size": 0.1, **enough}
        return {"descent": Example("verified", lambda: descent(**enough, C=0.1), "n=3, d=5, eta=0.1, constants that admit the start"),
                "flow": Example("verified", lambda: {"subject": example_flow(), **enough, "C": 0.1}, "n=3, d=5"),
                "constants": Example("undecided", lambda: {"subject": example_flow()}, "the paper's constants are not known"),
                "too small": Example("violated", lambda: {"subject": example_flow(), **enough, "C": 1e-4},
                                     "given a C that is a hundred times below what the run needs"),
                "large start": Example("vacuous", lambda: far, "lengths of 2 and 3; the hypotheses alone")}


@register
class LowerBound(_Cubic):
    r"""Lower bound: for :math:`n\ge2` the flow from a random start has :math:`L=\Omega(T^{-3})`: over-parameterization slows down.

    The rate is published; a constant like :math:`\kappa^2\|v\|^2n^{-17}` is recalled with very little confidence and is not used: c is
    counted in units of :math:`\|v\|^2`, at the records from :math:`T_2` on. One neuron converges linearly:
    ``xu2023.law_one_neuron``.
    """

    name = "xu2023.lower_bound"
    title = "Lower bound"
    source = common.PAPER
    statement = "With two neurons or more the gradient flow from a random start has L >= c |v|^2/T^3."
    latex = r"L(w(T))\ge c\,\|v\|^2\,T^{-3}"
    constants = (*common.OPEN, Constant("c", None, "unknown"))
    upper, constant = False, "c"

    def unit(self, setting: Setting) -> float:
        return float(setting.objective.length**2)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [common.neuron(setting.objective), common.several(setting), common.flow(setting), *common.random_start(setting, constants)]

    def examples(self) -> dict[str, Example]:
        enough = {"C_sigma": 0.1, "C_d": 2.0}
        return {"flow": Example("verified", lambda: {"subject": example_flow(), **enough, "c": 1e-3}, "n=3, d=5"),
                "ten": Example("verified", lambda: {"subject": example_flow(10, 20, 1e4), **enough, "c": 1e-6}, "n=10, d=20"),
                "constants": Example("undecided", lambda: {"subject": example_flow()}, "the paper's constants are not known"),
                "too large": Example("violated", lambda: {"subject": example_flow(), **enough, "c": 100.0},
                                     "given a c that is a hundred times above what the run has"),
                "one neuron": Example("vacuous", lambda: {"subject": example_flow(1, 5, 50.0), **enough}, "n=1 converges linearly")}
