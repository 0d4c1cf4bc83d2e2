"""Lemmas C.1 and C.13: a run of the second stage, from one student near the target and the others far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_points import FarPoint, domain

__all__ = ["LemmaC1", "LemmaC13"]

_EPS = np.finfo(np.float64).eps
_WINDOW = 100.0  # a slope is taken over two decades of time


class _StageTwo(Theorem):
    """Base: the start, and what a run does to the near and to the far ones."""

    source = common.PAPER

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = domain(FarPoint.of(setting, setting.state))
        return [*found, common.small_step(setting, constants)]

    def _report(self, setting: Setting, constants: Mapping[str, Constant]) -> Report:
        report = super()._report(setting, constants)
        unknown = [one.name for one in constants.values() if one.value is None and one.name != "C_eta"]
        return replace(report, never_verified=f"no run proves that there is a constant {', '.join(unknown)}: what this one needs is "
                                              "shown") if unknown else report

    @staticmethod
    def distances(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        """(K,) distance of the near student, and M, at the records."""
        near = FarPoint.of(setting, setting.state).near
        distances = np.array([np.linalg.norm(state.coordinates, axis=1) for state in setting.run.states])
        return distances[:, near], np.delete(distances, near, axis=1).min(axis=1)


def compared(words: str, latex: str, needed: float, constant: Constant, error: float = 0.0) -> Conclusion:
    """``needed <= constant``; where that is not known, only shown."""
    if constant.value is None:
        return Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                          note=f"holds for {constant.name} >= {needed:.6g}; give {constant.name}=")
    return Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag, error=error)


def limiting_slope(times: np.ndarray, loss: np.ndarray) -> tuple[float, float, float] | None:
    r"""Slope of :math:`\ln L` against :math:`\ln t` over the last two decades, its limit, and how far that may be off.

    The limit for :math:`t\to\infty` is taken in :math:`1/\ln t`, in which the slope of a late run is linear
    (:math:`-1-O(1/\ln t)`), from the slope over the two decades before; what may be off is the whole extrapolation. None for a run that
    has no four decades after t = 10.
    """
    end = float(times[-1])
    if end < 10 * _WINDOW**2:
        return None
    after = times > 0
    marks = end / np.array([_WINDOW**2, _WINDOW, 1.0])
    values = np.interp(np.log(marks), np.log(times[after]), np.log(loss[after]))
    before, last = np.diff(values) / math.log(_WINDOW)
    x = 1 / np.log(np.sqrt(marks[1:] * marks[:-1]))
    limit = last - x[1] * (before - last) / (x[0] - x[1])
    return float(last), float(limit), abs(float(limit - last))


@register
class LemmaC1(_StageTwo):
    r"""Lemma C.1, the second stage: M grows, the near student stays near, the loss falls like :math:`1/\tau` up to less than a power.

    A finite run shows neither an :math:`O(1/\tau)` nor a :math:`c\,\tau^{-1-\epsilon}`: the constants it needs are shown, and whether
    there can be any is judged by the slope of the loss over the last two decades of time and by what it tends to
    (:func:`limiting_slope`).
    The library's own law, :math:`L\sim16m/(\tau\eta M^2)` for m far students at equal distances [derived], is in ``measured``.
    """

    name = "zhang2025.lemma_c_1"
    title = "Lemma C.1"
    statement = ("From one student near the target and the others at distance M or more, M never falls, the near one stays within O(M^-3), "
                 "and the loss is between c / tau^(1 + eps) and O(1 / tau).")
    latex = r"M\uparrow,\ \|\mu_{i_0}\|=O(M^{-3}),\ c\,\tau^{-1-\epsilon}\le L\le O(1/\tau)"
    constants = (common.STEP_CONSTANT, Constant("C_near", None, "unknown"), Constant("C_L", None, "unknown"),
                 Constant("eps", None, "unknown"))
    direction: ClassVar[int] = 1
    upper, lower = 1.0, 1.0  # the powers of the time

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        near, M = self.distances(setting)
        times, loss = common.flow_times(setting), setting.run.loss
        after = times > 0
        scaled = loss[after] * times[after] ** self.upper
        worst = int(scaled.argmax())
        slope = limiting_slope(times, loss) if M[-1] - M[0] > 4 / M[0] else None
        return [self._monotone(M, setting), compared("the near student stays near", r"M^3\|\mu_{i_0}\|\le C_{near}",
                                                     float((near * M**3).max()), constants["C_near"]),
                compared("the loss is at most of the order 1/tau", r"L\le C_L/(\eta\tau)", float(scaled[worst]), constants["C_L"],
                         float((setting.run.loss_error[after] * times[after] ** self.upper)[worst])),
                self._falls(slope), self._not_faster(slope, constants["eps"])]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        _, M = self.distances(setting)
        times, loss = common.flow_times(setting), setting.run.loss
        slope = limiting_slope(times, loss)
        found = {"M at the end": float(M[-1]), "L eta tau M^2/16 at the end (tends to the number of far students at M; derived)":
                 float(loss[-1] * times[-1] * M[-1] ** 2 / 16)}
        return found if slope is None else {**found, "slope of the loss over the last two decades, and its limit": list(slope[:2])}

    def _monotone(self, M: np.ndarray, setting: Setting) -> Conclusion:
        steps = self.direction * np.diff(M)
        allowed = 4 * _EPS * M.max() + setting.run.settings.get("rtol", 0.0) * float(np.ptp(M))
        fact = True if steps.min() >= 0 else None if steps.min() >= -allowed else False
        return Conclusion("M never falls", r"M^{(\tau+1)}\ge M^{(\tau)}", fact=fact,
                          note=f"from {M[0]:.8g} to {M[-1]:.8g}; the least difference between records is {steps.min():.3g}")

    def _falls(self, slope: tuple[float, float, float] | None) -> Conclusion:
        words, latex = "the loss falls at least like 1/tau in the end", r"\limsup\frac{d\ln L}{d\ln\tau}\le-1"
        if slope is None:
            return Conclusion(words, latex, tag="derived", note=_SHORT)
        last, limit, off = slope
        fact = True if last <= -self.upper else False if min(last, limit) - off > -self.upper else None
        return Conclusion(words, latex, fact=fact, tag="derived", note=f"the slope is {last:.4f}, with the limit {limit:.4f}")

    def _not_faster(self, slope: tuple[float, float, float] | None, eps: Constant) -> Conclusion:
        words, latex = "the loss falls no faster than tau^-(1 + eps) in the end", r"\liminf\frac{d\ln L}{d\ln\tau}>-(1+\epsilon)"
        if slope is None:
            return Conclusion(words, latex, tag="published", note=_SHORT)
        last, limit, off = slope
        note = f"the slope is {last:.4f}, with the limit {limit:.4f}"
        if eps.value is None:
            return Conclusion(words, latex, last, ">", math.nan, tag="unknown", tested=False, note=f"{note}; give eps=")
        least = -(self.lower + eps.value)
        fact = True if min(last, limit) > least else False if max(last, limit) + off < least else None
        return Conclusion(words, latex, fact=fact, tag=eps.tag, note=f"{note}, against {least:g}")

    def examples(self) -> dict[str, Example]:
        given = {"C_near": 1.0, "C_L": 1.0, "eps": 0.1}

        def run(near: float, t_end: float) -> Mapping[str, Any]:
            obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
            return {"subject": gradient_flow(obj, [[near], [12.0]], t_end=t_end, rtol=1e-7)}

        return {"to 1e12": Example("verified", lambda: {**run(5e-5, 1e12), **given}, "n=2, d=1, M=12"),
                "not near": Example("vacuous", lambda: {**run(0.1, 1e12), **given}, "the near student starts at 0.1"),
                "to 1e6": Example("undecided", lambda: {**run(5e-5, 1e6), **given}, "the far student has not moved yet"),
                "no constants": Example("undecided", lambda: run(5e-5, 1e12), "what the run needs is shown")}


_SHORT = "the far students have hardly moved, or there are no four decades of time: a longer run would decide"


@register
class LemmaC13(_StageTwo):
    r"""Lemma C.13: how many steps the near student takes until it no longer counts.

    Its own contribution to the loss is :math:`\|\mu_{i_0}\|^2`, that of the others :math:`e^{-M^2/8}` up to powers of M, so the goal
    :math:`e^{-M^2/16}` is what "no longer counts" means here [reconstructed]. Since :math:`\nabla_{i_0}L\simeq2\mu_{i_0}` (Lemma C.12)
    the time is :math:`\frac12\ln(\|\mu_{i_0}^{(0)}\|e^{M^2/16})` in the limit of small steps [derived]. A flow holds its tolerance
    relative to M, and does not see a near student that is smaller than that: use gradient descent.
    """

    name = "zhang2025.lemma_c_13"
    title = "Lemma C.13"
    statement = "The near student has shrunk to e^(-M^2/16) after O(ln(|mu_i0| e^(M^2/16)) / eta) steps."
    latex = r"\eta T\le C_T\ln\frac{\|\mu_{i_0}^{(0)}\|}{e^{-M^2/16}}"
    tag = "reconstructed"
    constants = (common.STEP_CONSTANT, Constant("C_T", None, "unknown"))

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        arrival, ratio = self._arrival(setting)[:2]
        words, latex = "the near student arrives", r"\|\mu_{i_0}^{(T)}\|\le e^{-M^2/16}"
        M = self.distances(setting)[1][0]
        seen = setting.run.settings.get("rtol", 0.0) * M
        if seen > math.exp(-M * M / 16):
            return [Conclusion(words, latex, tag="reconstructed", note=f"this flow sees nothing below {seen:.2g}; gradient descent does")]
        if arrival is None:
            return [Conclusion(words, latex, tag="reconstructed", note="not yet: a longer run would decide")]
        needed = 0.0 if ratio <= 0 else arrival / ratio
        return [Conclusion(words, latex, fact=True, tag="reconstructed", note=f"by the flow time {arrival:.6g}"),
                compared("it does so within C_T ln(...) units of flow time", self.latex, needed, constants["C_T"])]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        _, ratio, crossing = self._arrival(setting)
        if crossing is None or ratio <= 0:
            return {}
        step = setting.run.settings.get("step_size")
        rate = 2.0 if step is None else -math.log1p(-2 * step) / step
        return {"time of arrival over its law (derived: tends to 1)": crossing * rate / ratio}

    def _arrival(self, setting: Setting) -> tuple[float | None, float, float | None]:
        """Time of the first record at which it has arrived, ln of the factor to shrink by, and the time interpolated between records."""
        near, M = self.distances(setting)
        goal = math.exp(-M[0] ** 2 / 16)
        ratio = math.log(near[0] / goal) if near[0] > 0 else -math.inf
        there = np.flatnonzero(near <= goal)
        if not there.size:
            return None, ratio, None
        times, k = common.flow_times(setting), int(there[0])
        if k == 0 or near[k] == 0:
            return float(times[k]), ratio, float(times[k]) if k == 0 else None
        share = math.log(near[k - 1] / goal) / math.log(near[k - 1] / near[k])
        return float(times[k]), ratio, float(times[k - 1] + share * (times[k] - times[k - 1]))

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))

        def run(near: float, steps: int) -> Mapping[str, Any]:
            return {"subject": gradient_descent(obj, [[near], [20.0]], step_size=0.05, steps=steps), "C_eta": 1.0, "C_T": 1.0}

        def flow() -> Mapping[str, Any]:
            return {"subject": gradient_flow(obj, [[1.5e-5], [20.0]], t_end=20.0), "C_T": 1.0}

        return {"arrives": Example("verified", lambda: run(1.5e-5, 400), "n=2, d=1, M=20, eta=0.05"),
                "not near": Example("vacuous", lambda: run(0.1, 400), "the near student starts at 0.1"),
                "too short": Example("undecided", lambda: run(1.5e-5, 40), "the run ends before it arrives"),
                "a flow": Example("undecided", flow, "its tolerance is above the goal")}
