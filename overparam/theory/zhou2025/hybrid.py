"""The hybrid update: what a step is, that the weights stay on the simplex, and that the divergence never increases."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam.drivers import em
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2024.common import divergence
from overparam.theory.xu2024.integrals import over_mixture
from overparam.theory.zhou2025 import common

__all__ = ["HybridUpdate", "Monotone", "SumOfWeights", "example_objective"]

_EPS = float(np.finfo(np.float64).eps)
_LOOKED_AT = 10  # pairs of consecutive records, at most, whose step is made again


def example_objective(tol: float = 1e-8) -> KLDivergence:
    """The divergence from two components at -3 and 3 of weights 0.4 and 0.6."""
    return KLDivergence(GaussianMixture([[-3.0], [3.0]], weights=[0.4, 0.6]), rule=Auto(tol=tol))


_START = [[-2.5], [2.0], [3.5], [-4.0]]


@register
class HybridUpdate(Theorem):
    r"""The published update, step by step, from the parameters before the step and not divided by the weight.

    .. math:: \pi_i^+=\mathbb E_{p^*}[w_i],\qquad \mu_i^+=\mu_i+\eta\,\mathbb E_{p^*}[w_i(x-\mu_i)]

    Both expectations on a grid of their own, at up to 10 pairs of records that are one step apart, spread over the run.
    """

    name = "zhou2025.hybrid_update"
    title = "The hybrid update"
    source = common.PAPER
    statement = "A step sets pi_i to E[w_i] and adds eta E[w_i (x - mu_i)] to mu_i, both with the parameters before the step."
    latex = r"\pi_i^+=\mathbb E[w_i],\quad\mu_i^+=\mu_i+\eta\,\mathbb E[w_i(x-\mu_i)]"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [*common.on_mixture(setting.objective), common.hybrid_motion(setting)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        words = ("the weights are those of the update", "the means are those of the update")
        pairs = np.flatnonzero(np.diff(setting.run.steps) == 1)
        places = pairs[np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _LOOKED_AT)).round().astype(int))]  # all over the run
        if not len(places) or setting.step_size is None or not common.is_mixture(setting.objective):
            return [Conclusion(word, note="no two records are one step apart: record=op.every(1) would decide") for word in words]
        gaps = np.array([self._gaps(setting, place) for place in places])
        return [self._judged(word, gaps[:, 2 * row:2 * row + 2], len(pairs)) for row, word in enumerate(words)]

    @staticmethod
    def _judged(words: str, gaps: np.ndarray, pairs: int) -> Conclusion:
        worst = gaps[int(np.argmax(gaps[:, 0] / gaps[:, 1]))]
        fact = None if np.isnan(worst).any() else bool(worst[0] <= worst[1])
        return Conclusion(words, fact=fact, note=f"they differ by {worst[0]:.2g}, the error being {worst[1]:.2g}, "
                               f"over {len(gaps)} of the {pairs} steps between consecutive records, spread over the run")

    @staticmethod
    def _gaps(setting: Setting, place: int) -> tuple[float, float, float, float]:
        """Difference of weights with its error, and of means, at the entry that is worst."""
        run, step = setting.run, setting.step_size
        before, after = run.states[place], run.states[place + 1]
        params, weights = before.coordinates, common.weights_at(setting, place)
        found = over_mixture(params, weights, *common.teacher_in(setting.objective, before))
        tol = float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0))
        shares = np.abs(common.weights_at(setting, place + 1) - found.shares)
        moved = np.abs(after.coordinates - params - step * found.moved)
        # a row's tolerance is relative to it, with nodes for weights up to 5 % off; a share's to the sum of all, 1
        share_error = found.shares_error + 2 * tol + 8 * _EPS
        row_error = (step * (found.moved_error + 2 * tol * np.linalg.norm(found.moved, axis=1, keepdims=True))
                     + 64 * _EPS * (1 + step) * np.abs(params).max())
        one, two = int(np.argmax(shares / share_error)), np.unravel_index(int(np.argmax(moved / row_error)), moved.shape)
        return float(shares[one]), float(share_error[one]), float(moved[two]), float(row_error[two])

    def examples(self) -> dict[str, Example]:
        obj = example_objective()
        return {"hybrid": Example("verified", lambda: {"subject": em(obj, _START, steps=20, step_size=0.8)}, "n=4, m=2, d=1"),
                "one record": Example("undecided", lambda: {"subject": em(obj, _START, steps=0, step_size=0.8)}, "no step was made"),
                "full EM": Example("vacuous", lambda: {"subject": em(obj, _START, steps=5)}, "means divided by the weight")}


@register
class SumOfWeights(Theorem):
    r""":math:`\sum_i\pi_i=\sum_iE[w_i]=1` at every step: conserved to rounding, :math:`n\epsilon`."""

    name = "zhou2025.law_sum_of_weights"
    title = "The weights stay on the simplex"
    source = common.OWN
    statement = "EM's update of the weights keeps their sum 1 and none negative."
    latex = r"\sum_i\pi_i^+=\mathbb E\Big[\sum_iw_i\Big]=1"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        moves = None
        if setting.run is not None:
            moves = setting.run.driver == "em" and bool(setting.run.settings.get("update_weights"))
        return [divergence(setting.objective), Hypothesis("the weights move by EM", r"\pi_i^+=\mathbb E[w_i]", fact=moves, tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        rows = [common.weights_at(setting, place) for place in range(len(setting.run))]
        off, least = max(abs(math.fsum(row) - 1) for row in rows), min(float(row.min()) for row in rows)
        return [Conclusion("the weights' sum is 1 at every record", r"|\sum_i\pi_i-1|\le n\epsilon", off, "<=", setting.n * _EPS,
                           tag="derived"),
                Conclusion("no weight is negative", r"\pi_i\ge0", least, ">=", 0.0, tag="derived")]

    def examples(self) -> dict[str, Example]:
        obj = example_objective()
        return {"hybrid": Example("verified", lambda: {"subject": em(obj, _START, steps=50, step_size=0.8)}, "n=4, m=2, d=1"),
                "weights stay": Example("vacuous", lambda: {"subject": em(obj, _START, steps=5, step_size=0.8, update_weights=False)},
                                        "gradient EM with fixed weights")}


@register
class Monotone(Theorem):
    r"""The divergence never increases for :math:`0<\eta\le2`: weights and means raise EM's lower bound of the likelihood separately.

    The bound's part in :math:`\mu_i` is :math:`-\frac12E[w_i]\|\mu_i-\mu_i^{EM}\|^2`, and a gradient step multiplies the distance from
    :math:`\mu_i^{EM}` by :math:`1-\eta E[w_i]`, of size at most 1 as long as :math:`\eta E[w_i]\le2`. So it is for full EM, for gradient
    EM and for the hybrid, of mixtures and of data sets. One student, for which :math:`E[w]=1`, diverges beyond.
    """

    name = "zhou2025.law_monotone"
    title = "The divergence never increases"
    source = common.OWN
    statement = "Under full EM, and under gradient EM and the hybrid at step sizes up to 2, the divergence never increases."
    latex = r"0<\eta\le2\ \Rightarrow\ L(\pi^+,\mu^+)\le L(\pi,\mu)"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        words, latex = "the run is full EM, gradient EM or the hybrid", r"\mu_i^+=\mu_i-\eta\nabla_iL"
        small, order = "the step size is at most 2", r"\eta\le2"
        if setting.run is None:
            motion = Hypothesis(words, latex, tag="derived", note="no run was given")
        else:
            known = setting.run.driver in ("em", "gradient_descent", "gradient_flow")
            motion = Hypothesis(words, latex, fact=known, tag="derived", note=f"the driver is {setting.run.driver}")
        if setting.step_size is None:
            step = Hypothesis(small, order, fact=None if setting.run is None else True, tag="derived", note="no step size")
        else:
            step = Hypothesis(small, order, setting.step_size, "<=", 2.0, tag="derived")
        return [divergence(setting.objective), motion, step]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        loss, error = setting.run.loss, setting.run.loss_error
        rises = np.diff(loss) - error[1:] - error[:-1]
        worst = float(rises.max(initial=-math.inf))
        return [Conclusion("the divergence is never larger at a record than at the one before", r"L^+\le L", tag="derived",
                           fact=None if math.isnan(worst) else worst <= 0,
                           note=f"largest increase beyond the losses' errors: {max(worst, 0.0):.3g}, over {len(loss)} records")]

    def examples(self) -> dict[str, Example]:
        obj = example_objective()

        def one(step_size: float) -> dict[str, Any]:
            return {"subject": em(KLDivergence(GaussianMixture([[0.0]]), rule=Auto(tol=1e-8)), [[1.0]], steps=20, step_size=step_size)}

        return {"hybrid": Example("verified", lambda: {"subject": em(obj, _START, steps=40, step_size=1.0)}, "eta=1"),
                "largest step": Example("verified", lambda: one(2.0), "one student, eta=2: it swings from side to side"),
                "full EM": Example("verified", lambda: {"subject": em(obj, _START, steps=40)}, "no step size"),
                "diverges": Example("vacuous", lambda: one(2.5), "one student, eta=2.5")}
