"""This library's laws of gradient EM near a point: growth of a small spread about it, and the late law at the target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import rates
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Setting, register
from overparam.theory.xu2024 import common
from overparam.theory.zhang2025 import laws_growth, laws_late

__all__ = ["Growth", "Late", "SecondMoment"]


def _equal(setting: Setting) -> Hypothesis:
    return Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights, tag="derived")


@register
class Growth(laws_growth.Growth):
    r"""A tight cluster's spread along its centre grows by :math:`e^{(M_0^2-M(t)^2)/2}` in a flow.

    In steps it grows by :math:`\prod(1+\eta M_k^2/n)`. M is the centre's distance from the target, :math:`M_k=(1-\eta/n)^kM_0`; across
    the centre the spread stands still. In all :math:`e^{M_0^2/2}`, the square root of score matching's. Compared at the last record at
    which the spread is below 1e-6. Whatever it grows to, all converge: ``xu2024.law_global_convergence``.
    """

    name = "xu2024.law_growth"
    title = "Growth of the spread"
    source = common.OWN
    statement = ("Under gradient EM a tight cluster's spread along its centre grows by exp((M0^2 - M(t)^2)/2) in a flow and by "
                 "prod(1 + eta M_k^2/n) in steps.")
    latex = r"\ln\frac{\mathrm{spread}(t)}{\mathrm{spread}(0)}=\tfrac12(M_0^2-M(t)^2)"

    def supposed(self, setting: Setting) -> list[Hypothesis]:
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting), _equal(setting)]

    def expected(self, distance: float, now: float, n: int, step_size: float | None, steps: int) -> float:
        if step_size is None:
            return (distance**2 - now**2) / 2
        places = distance * (1 - step_size / n) ** np.arange(float(steps))
        return float(np.log1p(step_size / n * places**2).sum())

    @staticmethod
    def objective() -> KLDivergence:
        return KLDivergence(Gaussian([0.0]), rule=Auto(tol=1e-10))


@register
class SecondMoment(laws_late.SecondMoment):
    r"""At small parameters of mean 0, equal weights: :math:`\dot S=-\frac2nS^2` and :math:`L=\frac14\mathrm{tr}\,S^2`.

    Both up to relative errors of order :math:`\max\|\mu_i\|^2`, whose constants are measured along parameters that shrink to nothing.
    """

    name = "xu2024.law_second_moment"
    title = "Second moment and loss near the target"
    source = common.OWN
    statement = ("Near the target a flow's second moment obeys S' = -(2/n) S^2, and the loss is tr S^2/4, up to relative errors "
                 "C max|mu_i|^2.")
    latex = r"\dot S=-\tfrac2nS^2,\ L=\tfrac14\mathrm{tr}\,S^2"
    bounds = (Bound("|S' + (2/n) S^2| <= C_S max|mu_i|^2 (2/n) |S|^2", r"\dot S=-\tfrac2nS^2", constant="C_S", tag="derived"),
              Bound("|L - tr S^2/4| <= C_L max|mu_i|^2 tr S^2/4", r"L=\tfrac14\mathrm{tr}\,S^2", constant="C_L", tag="derived"))
    rate, level = 2.0, 0.25
    kind = common.LikelihoodPoint

    @staticmethod
    def objective(d: int) -> KLDivergence:
        return common.at_target(d)


@register
class Late(laws_late.AllConverge):
    r"""Late in a flow: :math:`S^{-1}(t)=S^{-1}(t_0)+\frac2n(t-t_0)` as a matrix, and :math:`L=\frac14\mathrm{tr}\,S^2`.

    From the first record at which all are within 0.3 of the target and their mean has settled (:math:`\|\bar\mu\|\le\max\|\mu_i\|^3`), to
    the last; up to :math:`C\max\|\mu_i(t_0)\|^2`. Where the start is forgotten :math:`L\sim kn^2/(16t^2)`, k the number of directions that
    the students span: slope -2 for the loss, -1 for :math:`\sum\pi_i\|\mu_i\|^2`, far from the published bound of slope -1/2.
    """

    name = "xu2024.law_late"
    title = "Late law"
    source = common.OWN
    statement = "Late in a flow S^-1(t) = S0^-1 + 2 (t - t0)/n as a matrix, and the loss is tr S^2/4, up to C max |mu_i|^2."
    latex = r"S^{-1}(t)=S_0^{-1}+\tfrac2n(t-t_0),\ L=\tfrac14\mathrm{tr}\,S^2"
    rate, level = 2.0, 0.25
    words = ("S^-1 rises by 2/n a unit of flow time, as a matrix", "the loss is tr S^2/4")
    formulas = (r"S^{-1}(t)=S_0^{-1}+\tfrac2n(t-t_0)", r"L=\tfrac14\mathrm{tr}\,S^2")

    def supposed(self, setting: Setting) -> list[Hypothesis]:
        moves = None if setting.run is None else common.flow(setting)
        return [*common.on_one_gaussian(setting), _equal(setting),
                Hypothesis("the run is a gradient flow", r"\dot\mu_i=-\nabla_iL", fact=moves, tag="derived")]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        run = setting.run
        slope = rates.local_slope(run).slope
        if len(run) < 3 or not len(slope):
            return {}
        sizes = [float((run.states[place].coordinates**2).sum()) for place in (-2, -1)]
        logs = np.log(run.times[-2:])
        return {"slope of the loss at the end": float(slope[-1]),
                "slope of the sum of pi_i |mu_i|^2 at the end": float(np.diff(np.log(sizes))[0] / np.diff(logs)[0])}

    @staticmethod
    def objective() -> KLDivergence:
        return KLDivergence(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-10))
