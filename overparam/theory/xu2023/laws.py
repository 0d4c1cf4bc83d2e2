"""This library's laws of neurons near the optimum: one neuron in closed form, and the sharp law of two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import rates
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ReLUNeuron
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2023 import common

__all__ = ["OneNeuron", "Pair"]

_EPS = float(np.finfo(np.float64).eps)
_NEAR = 0.03  # |w - v|/|v| from which on one neuron is followed: the law's own error is three times that
_NARROW = 0.05  # angle to the target from which on two are followed
_FAINT = 1e5  # times rtol: where the integrator begins to show
_RESOLVED = 0.01  # of the loss: the part of it that rounding may have


@register
class OneNeuron(Theorem):
    r"""One neuron converges linearly: :math:`L(t)=L(t_0)\,e^{-(t-t_0)}` in a flow, :math:`(1-\eta/2)^2` a step.

    With :math:`e=w-v`, :math:`\epsilon=\|e\|/\|v\|\le\frac12` the gradient is :math:`e/2` and terms of second order in the angle,
    :math:`\theta\le1.05\,\epsilon`: together at most :math:`0.21\,\epsilon\|e\|`, and :math:`L=\|e\|^2/4` but for at most
    :math:`0.4\,\epsilon` of it. From a record with :math:`\epsilon_0\le0.03` on that moves :math:`\ln L` by at most
    :math:`3\epsilon_0`, for :math:`\eta\le1`, all the way down.
    """

    name = "xu2023.law_one_neuron"
    title = "One neuron"
    source = common.OWN
    statement = "With one neuron ln L falls by t in a flow and by -2 ln(1 - eta/2) a step, up to 3 |w(t_0) - v|/|v|, once it is near."
    latex = r"\ln\frac{L(t)}{L(t_0)}=-(t-t_0)\pm3\epsilon_0"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = [common.neuron(setting.objective),
                 Hypothesis("there is one neuron", "n=1", fact=setting.n == 1, structural=True, tag="derived"),
                 common.motion(setting, tag="derived")]
        if setting.step_size is not None:
            found.append(Hypothesis("the step size is at most 1", r"\eta\le1", setting.step_size, "<=", 1.0, tag="derived"))
        return found

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, words = setting.run, "ln L falls at its rate"
        resolved = np.flatnonzero(run.loss_error <= _RESOLVED * run.loss)
        rtol = run.settings.get("rtol", 0.0)  # an integrator's steps are right to that part of |v|, not of what is left
        sizes = [common.neurons(run.objective, run.states[record]).residual / setting.objective.length for record in resolved]
        near = [(record, size) for record, size in zip(resolved, sizes, strict=True) if _FAINT * rtol <= size <= _NEAR]
        if len(near) < 2 or near[0][0] == near[-1][0]:
            return [Conclusion(words, self.latex, fact=None, tag="derived",
                               note="no two records are near the target and above rounding: a longer run, or more records, would decide")]
        (first, size), (last, least) = near[0], near[-1]
        rate = 1.0 if setting.step_size is None else -2 * math.log1p(-setting.step_size / 2) / setting.step_size
        passed = float(run.times[last] - run.times[first])
        off = 3 * size + 2 * _RESOLVED + 2 * rtol * (1 + int(run.steps[-1])) / least
        fallen = float(np.log(run.loss[first] / run.loss[last]))
        return [Conclusion(words, self.latex, fallen, "==", rate * passed, tag="derived", error=off,
                           note=f"from |w - v|/|v| = {size:.3g} on, over {passed:.4g} of flow time")]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        below = np.flatnonzero(setting.run.loss < 1e-16 * setting.objective.length**2)
        return {"last loss": float(setting.run.loss[-1]),
                "flow time at which L < 1e-16 |v|^2": float(setting.run.times[below[0]]) if len(below) else math.nan}

    def examples(self) -> dict[str, Example]:
        obj, start = ReLUNeuron([1.0, 0.0, 0.0]), [[0.01, -0.02, 0.005]]
        return {"flow": Example("verified", lambda: {"subject": gradient_flow(obj, start, t_end=40.0)}, "d=3"),
                "descent": Example("verified", lambda: {"subject": gradient_descent(obj, start, step_size=0.1, steps=400)}, "d=3, eta=0.1"),
                "short": Example("undecided", lambda: {"subject": gradient_flow(obj, start, t_end=2.0)}, "not near yet"),
                "two": Example("vacuous", lambda: {"subject": gradient_flow(obj, start * 2, t_end=2.0)}, "n=2")}


@register
class Pair(Theorem):
    r"""Two neurons, :math:`w_i\approx\lambda_iv\pm\zeta u`: :math:`L=\frac{\zeta^3}{3\pi\lambda_1\lambda_2\|v\|}` and
    :math:`\frac1\zeta` rises by :math:`\frac1{2\pi\lambda_1\lambda_2\|v\|}` a unit of flow time.

    So :math:`L\sim\frac{8\pi^2}3(\lambda_1\lambda_2)^2\|v\|^2t^{-3}`, :math:`\frac{\pi^2}6\|v\|^2t^{-3}` for a balanced pair. Followed from
    the first record at which both angles are at most 0.05 and :math:`\|w_1+w_2-v\|\le\theta^2\|v\|`; up to :math:`C\,\theta^2` with
    :math:`\theta` the larger angle there (of the loss: at the last record).
    """

    name = "xu2023.law_pair"
    title = "Sharp law of two neurons"
    source = common.OWN
    statement = "For two neurons L = zeta^3/(3 pi l1 l2 |v|) and 1/zeta rises by 1/(2 pi l1 l2 |v|) a unit of flow time, up to C theta^2."
    latex = r"L=\frac{\zeta^3}{3\pi\lambda_1\lambda_2\|v\|},\qquad\dot\zeta=-\frac{\zeta^2}{2\pi\lambda_1\lambda_2\|v\|}"
    tag = "derived"
    constants = (Constant("C", None, "unknown"),)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        late = None if setting.run is None or not isinstance(setting.objective, ReLUNeuron) else self._late(setting)
        return [common.neuron(setting.objective),
                Hypothesis("there are two neurons", "n=2", fact=setting.n == 2, structural=True, tag="derived"),
                common.flow(setting, tag="derived"),
                Hypothesis("both come near the target's direction, and their sum to the target", r"\theta_i\le0.05",
                           fact=None if setting.run is None or late is None else True, tag="derived",
                           note="" if late is not None else "not at the run's records: a longer run would decide")]

    @staticmethod
    def _late(setting: Setting) -> int | None:
        for record, state in enumerate(setting.run.states):
            found = common.neurons(setting.objective, state)
            angle = float(found.angles.max())
            if 0 < angle <= _NARROW and found.residual <= angle**2 * found.target:
                return record
        return None

    def _pairs(self, setting: Setting, record: int) -> tuple[float, float, float]:
        """zeta, lambda_1 lambda_2 |v| and the larger angle at a record."""
        found = common.neurons(setting.objective, setting.run.states[record])
        zeta = float(np.linalg.norm(found.across[0] - found.across[1])) / 2
        return zeta, float(found.along[0] * found.along[1]) / found.target, float(found.angles.max())

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, late, words = setting.run, self._late(setting), ("1/zeta rises at its rate", "the loss is zeta^3/(3 pi l1 l2 |v|)")
        formulas = (r"\frac{d}{dt}\frac1\zeta=\frac1{2\pi\lambda_1\lambda_2\|v\|}", r"L=\frac{\zeta^3}{3\pi\lambda_1\lambda_2\|v\|}")
        if late is None or late >= len(run) - 1:
            return [Conclusion(one, fact=None, tag="derived", note="no two records are late: a longer run would decide") for one in words]
        (zeta, _, angle), (end, product, small) = self._pairs(setting, late), self._pairs(setting, len(run) - 1)
        rise = (1 / end - 1 / zeta) * 2 * math.pi * product / float(run.times[-1] - run.times[late])
        law = end**3 / (3 * math.pi * product)
        tolerance = (run.settings.get("rtol", 0.0) + 64 * _EPS) * (1 + int(run.steps[-1]))
        # what the integrator leaves in the sum is a part of the loss that the law knows nothing of
        found = common.neurons(setting.objective, run.states[-1])
        left = found.residual**2 / 4
        return [self._judged(words[0], formulas[0], abs(rise - 1), angle**2, tolerance, constants["C"]),
                self._judged(words[1], formulas[1], abs(float(run.loss[-1]) / law - 1), small**2,
                             (float(run.loss_error[-1]) + left) / law + 64 * _EPS, constants["C"])]

    @staticmethod
    def _judged(words: str, latex: str, left: float, size: float, error: float, constant: Constant) -> Conclusion:
        if constant.value is None:
            return Conclusion(words, latex, left, "<=", math.nan, tag="unknown", tested=False,
                              note=f"relative error {left:.3g} at theta^2 = {size:.3g}: holds for C >= {left / size:.3g}; give C=")
        if left <= error:  # the run cannot tell the law from the truth: it holds
            return Conclusion(words, latex, fact=True, tag=constant.tag, note=f"relative error {left:.3g}, the run's own being {error:.3g}")
        return Conclusion(words, latex, left, "<=", constant.value * size, tag=constant.tag, error=error)

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        run = setting.run
        _, product, _ = self._pairs(setting, len(run) - 1)
        target = setting.objective.length
        return {"L t^3 at the end": float(run.loss[-1] * run.times[-1] ** 3), "of the law": 8 * math.pi**2 / 3 * product**2,
                "lambda_1 lambda_2": product / target, "slope at the end": float(rates.local_slope(run).slope[-1])}

    def examples(self) -> dict[str, Example]:
        obj = ReLUNeuron([1.0, 0.0])

        def run(start: list[list[float]], t_end: float = 1e5, **given: float) -> dict[str, Any]:
            return {"subject": gradient_flow(obj, start, t_end=t_end, rtol=1e-10), **given}

        even, uneven = [[0.5, 0.3], [0.5, -0.3]], [[0.2, 0.3], [0.8, -0.1]]
        return {"balanced": Example("verified", lambda: run(even, C=1.0), "n=2, d=2"),
                "uneven": Example("verified", lambda: run(uneven, C=1.0), "lengths that stay unequal"),
                "parallel": Example("verified", lambda: run([[0.02, 0.01], [0.04, 0.02]], C=1.0),
                                    "w_2 = 2 w_1, which is no exception: both move alike, and what lies between them across v stays"),
                "constant": Example("undecided", lambda: run(even), "nobody gives C"),
                "too small": Example("violated", lambda: run([[0.3, 0.2], [0.7, -0.3]], 1e3, C=1e-3), "given a C of 0.001"),
                "short": Example("undecided", lambda: run(even, 1.0), "not near yet"),
                "three": Example("vacuous", lambda: run([*even, [0.1, 0.1]], 10.0), "n=3")}
