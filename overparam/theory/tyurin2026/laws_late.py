"""This library's late laws of the reverse Fisher divergence at a single Gaussian, with equal weights: as score matching's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam.drivers import gradient_flow
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common
from overparam.theory.zhang2025 import laws_late

__all__ = ["Late", "LateLoss", "SecondMoment"]

_EPS = float(np.finfo(np.float64).eps)
_LATE = 1e4  # flow time from which on the leading law is compared


def _equal(setting: Setting) -> Hypothesis:
    return Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights, tag="derived")


@register
class SecondMoment(laws_late.SecondMoment):
    r"""At small parameters of mean 0, equal weights: :math:`\dot S=-\frac8nS^2` and :math:`F=\mathrm{tr}\,S^2`.

    Both up to relative errors of order :math:`\max\|\mu_i\|^2`, whose constants are measured along parameters that shrink to nothing.
    """

    name = "tyurin2026.law_second_moment"
    source = common.OWN
    latex = r"\dot S=-\tfrac8nS^2,\ F=\mathrm{tr}\,S^2"
    kind = common.ReversePoint

    @staticmethod
    def objective(d: int) -> ReverseFisher:
        return common.at_target(d)


@register
class Late(laws_late.AllConverge):
    r"""Late in a flow: :math:`S^{-1}(t)=S^{-1}(t_0)+\frac8n(t-t_0)` as a matrix, and :math:`F=\mathrm{tr}\,S^2`.

    From the first record at which all are within 0.3 of the teacher and their mean has settled (:math:`\|\bar\mu\|\le\max\|\mu_i\|^3`),
    to the last; up to :math:`C\max\|\mu_i(t_0)\|^2`.
    """

    name = "tyurin2026.law_late"
    title = "Late law"
    source = common.OWN
    statement = "Late in a flow S^-1(t) = S0^-1 + 8 (t - t0)/n as a matrix, and the loss is tr S^2, up to C max |mu_i|^2."
    latex = r"S^{-1}(t)=S_0^{-1}+\tfrac8n(t-t_0),\ F=\mathrm{tr}\,S^2"
    formulas = (r"S^{-1}(t)=S_0^{-1}+\tfrac8n(t-t_0)", r"F=\mathrm{tr}\,S^2")

    def supposed(self, setting: Setting) -> list[Hypothesis]:
        moves = None if setting.run is None else common.flow(setting)
        return [*common.on_one_gaussian(setting), _equal(setting),
                Hypothesis("the run is a gradient flow", r"\dot\mu_i=-\nabla_iF", fact=moves, tag="derived")]

    @staticmethod
    def objective() -> ReverseFisher:
        return ReverseFisher(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-10))


@register
class LateLoss(Theorem):
    r"""Where the start is forgotten :math:`F\sim\frac{rn^2}{64t^2}` and :math:`V=\sum\|\mu_i-\bar\mu\|^2\sim\frac{rn^2}{8t}`.

    With t the flow time :math:`\gamma k` and r the number of directions that the students' second moment S has where all have come within
    0.3 of the teacher, at :math:`t_0`. By ``tyurin2026.law_late`` what S was there adds :math:`n/(8(t-t_0)\lambda_{\min}(S(t_0)))` to 1:
    that is to be below a tenth of ``band``, and the flow time at least 1e4.
    """

    name = "tyurin2026.law_late_loss"
    title = "Late loss"
    source = common.OWN
    statement = "Late in a run F is r n^2/(64 t^2) and V is r n^2/(8 t), t the flow time gamma k, up to a relative difference of `band`."
    latex = r"F\sim\frac{rn^2}{64\gamma^2k^2},\qquad V\sim\frac{rn^2}{8\gamma k}"
    tag = "derived"
    constants = (Constant("band", 0.01, "given"),)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = [*common.on_one_gaussian(setting), _equal(setting), common.gradient_motion(setting, tag="derived")]
        words, latex = "the run is long", r"\gamma k\ge10^4"
        forgotten = ("the start is forgotten", r"\frac n{8(t-t_0)\lambda_{\min}(S(t_0))}\le\frac1{10}\text{band}")
        if setting.run is None:
            return [*found, *(Hypothesis(*one, tag="derived", note="no run was given") for one in ((words, latex), forgotten))]
        time, band = float(setting.run.times[-1]), constants["band"].value
        late = Late._late(setting)
        if late is None:
            return [*found, Hypothesis(words, latex, time, ">=", _LATE, tag="derived"),
                    Hypothesis(*forgotten, tag="derived", note="the students are not near the teacher: a longer run would decide")]
        values, since = self._values(setting), time - float(setting.run.times[late])
        share = setting.n / (8 * since * float(values.min())) if values.size and since > 0 else math.inf
        return [*found, Hypothesis(words, latex, time, ">=", _LATE, tag="derived"),
                Hypothesis(*forgotten, share, "<=", band / 10, tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, n, band, rank = setting.run, setting.n, constants["band"].value, len(self._values(setting))
        time, total = float(run.times[-1]), float((run.states[-1].coordinates ** 2).sum())
        if rank == 0 or time == 0:
            return [Conclusion("F is r n^2/(64 t^2)", tag="derived", note="the students are not near, or no time has passed")]
        slip = (run.settings.get("rtol", 0.0) + 64 * _EPS) * (1 + int(run.steps[-1]) if common.flow(setting) else 1)
        loss = float(run.loss[-1]) / (self.level() * rank * n**2 / time**2)
        spread = total / (rank * n**2 / (8 * time))
        return [Conclusion("F is r n^2/(64 t^2)", r"|F\cdot64t^2/(rn^2)-1|\le\text{band}", abs(loss - 1), "<=", band, tag="derived",
                           error=2 * slip + float(run.loss_error[-1] / run.loss[-1]), note=f"the ratio is {loss:.6g} for r = {rank}"),
                Conclusion("V is r n^2/(8 t)", r"|V\cdot8t/(rn^2)-1|\le\text{band}", abs(spread - 1), "<=", band, tag="derived",
                           error=slip, note=f"the ratio is {spread:.6g}")]

    @staticmethod
    def level() -> float:
        """Of r n^2/t^2."""
        return 1 / 64

    @staticmethod
    def _values(setting: Setting) -> np.ndarray:
        """Eigenvalues of the second moment where all have come near, without those that are rounding; empty if they have not."""
        late = Late._late(setting)
        if late is None:
            return np.empty(0)
        values = np.linalg.eigvalsh(laws_late.second_moment(setting.run.states[late]))
        found: np.ndarray = values[values > 1e3 * _EPS * values.max()]
        return found

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        run = setting.run
        if len(run) < 2 or not run.times[-2] > 0:
            return {}
        sizes = np.log([float((run.states[place].coordinates ** 2).sum()) for place in (-2, -1)])
        over = float(np.diff(np.log(run.times[-2:]))[0])
        return {"slope of F at the end": float(np.diff(np.log(run.loss[-2:]))[0]) / over,
                "slope of V at the end": float(np.diff(sizes)[0]) / over}

    def examples(self) -> dict[str, Example]:
        line, plane = common.at_target(1, tol=1e-8), common.at_target(2, tol=1e-8)
        start = [[1.0, 0.2], [-0.8, 0.9], [-0.2, -0.7]]
        return {"plane": Example("verified", lambda: {"subject": gradient_flow(plane, start, t_end=1e6)}, "n=3, d=2: r=2"),
                "line": Example("verified", lambda: {"subject": gradient_flow(line, [[1.0], [-2.0], [0.5]], t_end=1e5)}, "n=3, d=1"),
                "short": Example("vacuous", lambda: {"subject": gradient_flow(line, [[1.0], [-2.0]], t_end=10.0)}, "t=10"),
                "no run": Example("undecided", lambda: {"subject": line, "params0": [[1.0], [-2.0]]}, "the hypotheses alone")}
