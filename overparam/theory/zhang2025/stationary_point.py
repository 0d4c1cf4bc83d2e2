"""Theorem 3.1: stationary points with positive loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from overparam import init, stationary
from overparam._validation import check_integer
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common

__all__ = ["DERIVED", "Theorem31"]

#: s* and L(s*) by n, in any dimension [derived]: maximisation in one dimension, independent of the search.
DERIVED = {3: (2.55055099, 0.94380027), 4: (2.60810850, 0.58925152), 5: (2.67374938, 0.43761680), 10: (2.89140402, 0.20273839)}

_SCAN = np.arange(1.0, 8.01, 0.5)
_SMALL = 1e-6  # of the loss: the gradient and its error at a point that is called stationary
_STEP = 1e-4  # to both sides of s*, where the derivative must have changed sign beyond its bound


@register
class Theorem31(Theorem):
    r"""Theorem 3.1: for :math:`n\ge3` a point with zero gradient and positive loss exists.

    Checked at a point: ``check(name, obj, params)``; without one at the pair of the proof, found for ``n=`` and ``d=``. The statement is
    about some point, so that no point can refute it: where nothing is seen the report is undecided. That the gradient
    vanishes *exactly* near a pair :math:`\mu_1=se_1,\ \mu_2=-se_1`, rest 0, is shown by a change of sign: by symmetry only
    :math:`\langle\nabla_1L,e_1\rangle` and its mirror image are not 0 along that curve, and it is positive on one side of s and negative on
    the other, beyond its error bound. At any other point only smallness can be seen. Where the pair stands, its loss and its kind are this
    library's numbers: shown, and no part of the statement.
    """

    name = "zhang2025.theorem_3_1"
    title = "Theorem 3.1"
    source = common.PAPER
    statement = "For n >= 3 students there is a stationary point with positive loss: a pair at +-s, the rest on the target."
    latex = r"n\ge3\ \Rightarrow\ \exists\,\mu:\ \nabla L(\mu)=0,\ L(\mu)>0"
    constants = (Constant("n", 3, "given"), Constant("d", 1, "given"))
    needs_run = False

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check at the point `params0` of the objective `subject`, or at the pair found for the constants ``n`` and ``d``."""
        known = self.given(constants)
        if subject is None:
            n, d = (check_integer(known[name].value, name, minimum=least) for name, least in (("n", 2), ("d", 1)))
            subject = ScoreMatching(Gaussian(np.zeros(d)), rule=Auto(tol=1e-10))
            line = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
            start = float(_SCAN[np.argmax([line.value(init.symmetric_pair(n, s)) for s in _SCAN])])
            params0 = init.symmetric_pair(n, start, d) if n < 3 else stationary.find(subject, init.symmetric_pair(n, start, d)).params
        elif not isinstance(subject, Objective):
            raise ValueError(f"{self.name} is about a point: check(name, obj, params), or check(name, n=3, d=1); got {subject!r}"[:300])
        elif constants:
            raise ValueError(f"{self.name}: the point brings its own n and d; leave them out")
        setting = Setting.of(subject, params0)
        return replace(self._report(setting, known), constants=())  # n and d are no constants of the statement

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [common.single_gaussian(setting), common.equal_weights(setting),
                Hypothesis("there are at least three students", r"n\ge3", setting.n, ">=", 3)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        estimate, words = setting.objective.estimate(setting.state), "there is a stationary point of positive loss"
        if estimate.replicates is not None:
            return [Conclusion(words, r"\nabla L=0,\ L>0",
                               note=f"{estimate.rule} has standard errors and no bounds: rule=op.Auto() would decide")]
        positive = Conclusion("the loss is positive", r"L(\mu)>0", estimate.value, ">", 0.0, error=float(estimate.value_error))
        size = f"|grad| = {np.linalg.norm(estimate.grad):.3g} up to {np.linalg.norm(estimate.grad_error):.3g}"
        changes = self._sign_changes(setting)
        if not self._small(estimate) or positive.holds is not True or changes is False:  # the statement is about some point, not this one
            return [Conclusion(words, r"\nabla L=0,\ L>0", note=f"not seen at this point ({size}, L = {estimate.value:.3g}); "
                                                                  "another may be, a smaller error may show it")]
        shown = "no pair, so only its size is seen" if changes is None else \
            f"the derivative along the pair changes sign within {_STEP:g}, beyond its bound"
        return [Conclusion("the gradient vanishes", r"\nabla L(\mu)=0", fact=True, note=f"{size}; {shown}"), positive]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        estimate = setting.objective.estimate(setting.state)
        found: dict[str, Any] = {"loss": float(estimate.value), "norm of the gradient": float(np.linalg.norm(estimate.grad))}
        if setting.n * setting.d <= 400 and self._small(estimate):
            spectrum = stationary.find(setting.objective, setting.state.params, max_iterations=0, tol=1e-6)
            found |= {"kind in the whole space (derived; the paper's maximum is along the curve)": spectrum.kind,
                      "lowest eigenvalue": float(spectrum.hessian_eigenvalues[0]), "negative, null, positive eigenvalues":
                      [spectrum.negative, spectrum.null, spectrum.positive]}
        pair = self._pair(setting)
        if pair is None:
            return found
        known = DERIVED.get(setting.n)
        return {"s": pair, **found} if known is None else {"s": pair, "s* of the pair (derived)": known[0],
                                                           "loss at s* (derived)": known[1], **found}

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
        return {"three": Example("verified", lambda: {"n": 3}, "n=3, d=1, at the pair that the search finds"),
                "two": Example("vacuous", lambda: {"n": 2}, "n=2: the loss grows without bound along the curve"),
                "elsewhere": Example("undecided", lambda: {"subject": obj, "params0": [[1.0], [-1.0], [0.0]]}, "no stationary point")}

    @staticmethod
    def _small(estimate: Any) -> bool:
        """Whether the gradient and its error are both below 1e-6 of the loss."""
        size = float(np.linalg.norm(estimate.grad)) + float(np.linalg.norm(estimate.grad_error))
        return estimate.replicates is None and size <= _SMALL * max(abs(float(estimate.value)), 1e-300)

    @staticmethod
    def _pair(setting: Setting) -> float | None:
        """s, if two students are opposite each other and all others on the target."""
        points = setting.state.coordinates
        order = np.argsort(-np.linalg.norm(points, axis=1))
        s = float(np.linalg.norm(points[order[0]]))
        if s == 0 or setting.n < 2:
            return None
        rest = np.abs(points[order[2:]]).max() if setting.n > 2 else 0.0
        return s if max(np.abs(points[order[0]] + points[order[1]]).max(), rest) <= 1e-8 * s else None

    def _sign_changes(self, setting: Setting) -> bool | None:
        """Whether the derivative along the pair changes sign around s beyond its bound; None where the point is no pair."""
        s = self._pair(setting)
        if s is None:
            return None
        line = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-10))
        signs = []
        for at in (s - _STEP, s + _STEP):
            estimate = line.estimate(init.symmetric_pair(setting.n, at))
            slope, error = float(estimate.grad[0, 0]), float(estimate.grad_error[0])
            signs.append(math.copysign(1.0, slope) if abs(slope) > error else 0.0)
        return signs[0] * signs[1] < 0
