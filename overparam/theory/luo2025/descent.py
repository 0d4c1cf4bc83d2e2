"""Gradient descent: what one step does to the singular values, and the rate of local convergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from overparam import factors, init
from overparam.drivers import gradient_descent
from overparam.objectives import MatrixFactorization
from overparam.state import State
from overparam.theory.luo2025 import balanced_flow, common
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.trajectory import every

__all__ = ["Theorem8", "Theorem11"]

_RECORDS = 40  # of a run that are looked at


class _Step(NamedTuple):
    """One step of gradient descent from a state: extremes before and after, and the largest gradient of the loss without balancing."""

    least: float
    largest: float
    least_after: float
    largest_after: float
    grad: float
    step_size: float
    balance: float

    @property
    def second_order(self) -> float:
        r""":math:`\eta^2(g+a\,\sigma_{\max}^3)^2`."""
        return self.step_size**2 * (self.grad + self.balance * self.largest**3) ** 2


def step_at(objective: MatrixFactorization, state: State, step_size: float) -> _Step:
    """The step from a state."""
    params = common.factors_of(state)
    plain = MatrixFactorization(objective.target, depth=objective.depth, balance=0.0)
    after = params - step_size * objective.grad(params)
    least, largest = factors.factor_extremes(params)
    least_after, largest_after = factors.factor_extremes(after)
    grad = float(np.linalg.norm(plain.grad(params), ord=2, axis=(1, 2)).max())
    return _Step(float(least), float(largest), float(least_after), float(largest_after), grad, step_size, objective.balance)


@register
class Theorem8(Theorem):
    r"""Theorem 8: how far one step moves the extreme singular values :math:`\sigma_{\max},\sigma_{\min}` over all factors. With
    :math:`g=\max_j\|\nabla_{W_j}L_{ori}\|_{op}`, :math:`L_{ori}` the loss without balancing,

    .. math:: \sigma_{\max}^{2\prime}\le\sigma_{\max}^2+2\eta\sigma_{\max}g+O(\eta^2a^2),\qquad
              \sigma_{\min}^{2\prime}\ge\sigma_{\min}^2-2\eta\sigma_{\min}g-O(\eta^2a^2).

    The paper's constants in O are not known; that the second line has :math:`\sigma_{\min}` in the middle is reconstructed ("the
    analogous"). Here O is :math:`C\,\eta^2(g+a\sigma_{\max}^3)^2`, for which C = 4 serves [derived] where
    :math:`4\eta a\sigma_{\max}^2\le1` and :math:`\eta a(4\sigma_{\max}^2+\sigma_{\max}^4/(2\sigma_{\min}^2))+\eta g/\sigma_{\min}\le1`:
    to first order the balancing term lowers the largest singular value and lifts the least, and where a step is that small the second order
    is all that is left, at most :math:`\eta^2\max_j\|\nabla_{W_j}L\|^2`, and of one sign for the least.
    """

    name = "luo2025.theorem_8"
    title = "Theorem 8 (one step and the extreme singular values)"
    source = common.PAPER
    statement = ("In one step of gradient descent sigma_max^2 over all factors rises by no more than 2 eta sigma_max g, and sigma_min^2 "
                 "falls by no more than 2 eta sigma_min g, up to second order; g is the largest gradient of the loss without balancing.")
    latex = (r"\sigma_{\max}^{2\prime}\le\sigma_{\max}^2+2\eta\sigma_{\max}g+O(\eta^2a^2),\quad"
             r"\sigma_{\min}^{2\prime}\ge\sigma_{\min}^2-2\eta\sigma_{\min}g-O(\eta^2a^2)")
    constants = (Constant("C", 4.0, "derived"),)
    needs_run = False

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        words, moves = "the run is gradient descent", r"W_j'=W_j-\eta\nabla_{W_j}L"
        if setting.step_size is None:
            driver = "no step size was given" if setting.run is None else f"the driver is {setting.run.driver}"
            return [common.factorization(setting.objective),
                    Hypothesis(words, moves, fact=None if setting.run is None else False, structural=True, note=driver)]
        of_run = setting.run is None or setting.run.driver == "gradient_descent"
        steps = self._steps(setting)
        upper = max(4 * one.step_size * one.balance * one.largest**2 for one in steps)
        lower = max(self._lower(one) for one in steps)
        return [common.factorization(setting.objective), Hypothesis(words, moves, fact=of_run, structural=True),
                Hypothesis("the step is small for the largest singular value", r"4\eta a\sigma_{\max}^2\le1", upper, "<=", 1.0,
                           tag="derived"),
                Hypothesis("the step is small for the least",
                           r"\eta a(4\sigma_{\max}^2+\tfrac{\sigma_{\max}^4}{2\sigma_{\min}^2})+\tfrac{\eta g}{\sigma_{\min}}\le1",
                           lower, "<=", 1.0, tag="derived")]

    @staticmethod
    def _lower(one: _Step) -> float:
        if one.least == 0:
            return math.inf
        return one.step_size * (one.balance * (4 * one.largest**2 + one.largest**4 / (2 * one.least**2)) + one.grad / one.least)

    @staticmethod
    def _steps(setting: Setting) -> list[_Step]:
        states = [setting.state]
        if setting.run is not None:
            last = len(setting.run.states) - 1
            states = [setting.run.states[place] for place in np.unique(np.linspace(0, last, min(last + 1, _RECORDS)).round().astype(int))]
        return [step_at(setting.objective, state, setting.step_size) for state in states]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        if setting.step_size is None:
            return []
        constant, steps = constants["C"], self._steps(setting)

        def claim(one: _Step, top: bool) -> Conclusion:
            size = one.largest if top else one.least
            before, after = size**2, (one.largest_after if top else one.least_after) ** 2
            allowed = 2 * one.step_size * size * one.grad + constant.value * one.second_order
            error = 32 * common.EPS * one.largest**2 * setting.state.d
            words = f"the {'largest rises' if top else 'least falls'} by no more than the bound"
            latex = (r"\sigma_{\max}^{2\prime}-\sigma_{\max}^2\le2\eta\sigma_{\max}g+C\eta^2(g+a\sigma_{\max}^3)^2" if top else
                     r"\sigma_{\min}^2-\sigma_{\min}^{2\prime}\le2\eta\sigma_{\min}g+C\eta^2(g+a\sigma_{\max}^3)^2")
            return Conclusion(words, latex, after - before if top else before - after, "<=", allowed, tag=constant.tag, error=error,
                              attained=True, scale=one.largest**2, note=f"the steps from {len(steps)} records, that with the least room")

        def room(one: Conclusion) -> float:
            return (one.right - one.left) / max(one.right, one.error)

        return [min((claim(one, top) for one in steps), key=room) for top in (True, False)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        if setting.step_size is None:
            return {}
        upper = [(one.largest_after**2 - one.largest**2 - 2 * one.step_size * one.largest * one.grad) / one.second_order
                 for one in self._steps(setting) if one.second_order > 0]
        lower = [(one.least**2 - one.least_after**2 - 2 * one.step_size * one.least * one.grad) / one.second_order
                 for one in self._steps(setting) if one.second_order > 0]
        return {"C needed for the largest": max([0.0, *upper]), "C needed for the least": max([0.0, *lower])}

    def examples(self) -> dict[str, Example]:
        def run(scale: float = 0.5, step_size: float = 0.01, balance: float = 1.0, **given: float) -> dict[str, Any]:
            start = init.small_gaussian(4, 2, scale, 3, complex=True)
            return {"subject": gradient_descent(MatrixFactorization(np.eye(2), balance=balance), start, step_size=step_size, steps=2000),
                    **given}

        def alone(**given: float) -> dict[str, Any]:
            return {"subject": MatrixFactorization([[1.0]]), "params0": np.full((4, 1, 1), 0.5), "step_size": 0.1, **given}

        return {"a run": Example("verified", run, "N=4, d=2, complex, not balanced, eta=0.01, a=1"),
                "one number": Example("verified", alone, "d=1, W_j = 1/2, eta=0.1: every factor rises with the largest gradient"),
                "no second order": Example("violated", lambda: alone(C=0.0), "given a constant C = 0 that is not the statement's"),
                "large steps": Example("vacuous", lambda: run(balance=20.0), "a=20"),
                "no step size": Example("undecided", lambda: {"subject": MatrixFactorization([[1.0]]), "params0": np.full((4, 1, 1), 0.5)},
                                        "a start alone")}


@register
class Theorem11(Theorem):
    r"""Theorem 11: local convergence at a linear rate. After alignment and saddle avoidance,

    .. math:: L(t)\le L_{ori}(t_0)\,e^{-\eta\sigma_1^{3/2}(t-t_0)},\quad
              \sigma_{\min}(W_1+W_2^{-1}W_3^HW_4^H)\ge2^{3/4}\sigma_1^{1/4},\quad\|W_1-W_2^{-1}W_3^HW_4^H\|_F\le3f_1d\epsilon.

    :math:`t_0=T_1+T_2` is taken to be the first record at which the second holds, and the third where its right side is given. What the
    theorem supposes of a, of the step size and of the start is that of Theorem 1, whose polynomials are not known: ``a_min``, ``eta_max``
    and ``skew`` (:math:`=3f_1d\epsilon`) stand for their values. `measured` has the rate that is seen; from
    :math:`W_j=\sigma_1^{1/4}Q_{j+1}Q_j^H` the loss itself falls 8 times as fast as the bound [derived].
    """

    name = "luo2025.theorem_11"
    title = "Theorem 11 (local convergence)"
    source = common.PAPER
    statement = ("Once the least singular value of the layers' Hermitian part is at least 2^(3/4) sigma_1^(1/4) it stays so, and the loss "
                 "falls at least like exp(-eta sigma_1^(3/2) t).")
    latex = r"L(t)\le L_{ori}(t_0)e^{-\eta\sigma_1^{3/2}(t-t_0)},\quad\sigma_{\min}(W_1+W_2^{-1}W_3^HW_4^H)\ge2^{3/4}\sigma_1^{1/4}"
    constants = (Constant("eta_max", None, "unknown"), Constant("a_min", None, "unknown"), Constant("skew", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        if not common.is_one(setting.objective):
            return [common.factorization(setting.objective)]
        known = [common.factorization(setting.objective), common.depth(setting.objective), common.identical(setting.objective)]
        words, latex = "the run is gradient descent, or its flow", r"W_j'=W_j-\eta\nabla_{W_j}L"
        if setting.run is None:
            return [*known, Hypothesis(words, latex, note="no run was given")]
        moves = setting.run.driver in ("gradient_descent", "gradient_flow")
        return [*known, Hypothesis(words, latex, fact=moves, note=f"the driver is {setting.run.driver}"),
                self._step(setting, constants["eta_max"]), self._balance(setting, constants["a_min"]), self._reached(setting, constants)]

    @staticmethod
    def _step(setting: Setting, constant: Constant) -> Hypothesis:
        words, latex = "the step size is small", r"\eta\le\eta_{\max}"
        if common.flow(setting):
            return Hypothesis(words, latex, fact=True, note="gradient flow: the limit of small steps")
        if setting.step_size is None or constant.value is None:
            return Hypothesis(words, latex, setting.step_size or math.nan, "<=", math.nan, tag="unknown", tested=False,
                              note="the paper's polynomial is not known; give eta_max=")
        return Hypothesis(words, latex, setting.step_size, "<=", constant.value, tag=constant.tag)

    @staticmethod
    def _balance(setting: Setting, constant: Constant) -> Hypothesis:
        words, latex = "the balancing term is large, or the start balanced", r"a\ge a_{\min}"
        if common.balanced(setting).holds:
            return Hypothesis(words, latex, fact=True, note="the start is balanced")
        if constant.value is None:
            return Hypothesis(words, latex, setting.objective.balance, ">=", math.nan, tag="unknown", tested=False,
                              note="the paper's polynomial is not known; give a_min=")
        return Hypothesis(words, latex, setting.objective.balance, ">=", constant.value, tag=constant.tag)

    def _reached(self, setting: Setting, constants: Mapping[str, Constant]) -> Hypothesis:
        least, skew = self._sides(setting)
        place = self._place(setting, constants, least, skew)
        words = "the run reaches the local stage"
        if place is None:
            return Hypothesis(words, r"t_0=T_1+T_2", note=f"the Hermitian part's least singular value is {least[-1]:.4g} at the end, "
                              f"not {self._level(setting):.4g}: a longer run would decide")
        return Hypothesis(words, r"t_0=T_1+T_2", fact=True, note=f"at t = {setting.run.times[place]:.6g}")

    @staticmethod
    def _level(setting: Setting) -> float:
        found: float = 2**0.75 * float(common.sizes_of_target(setting.objective)[0]) ** 0.25
        return found

    @staticmethod
    def _sides(setting: Setting) -> tuple[np.ndarray, np.ndarray]:
        moved = np.array([common.in_frame(setting, state) for state in setting.run.states])
        least = np.linalg.svd(factors.layer_hermitian(moved), compute_uv=False)[:, -1]
        return least, np.linalg.norm(factors.layer_skew(moved), axis=(1, 2))

    def _place(self, setting: Setting, constants: Mapping[str, Constant], least: np.ndarray, skew: np.ndarray) -> int | None:
        good = least >= self._level(setting)
        if constants["skew"].value is not None:
            good &= skew <= constants["skew"].value
        return int(np.argmax(good)) if good.any() else None

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        least, skew = self._sides(setting)
        place = self._place(setting, constants, least, skew)
        if place is None or place == len(least) - 1:
            return [Conclusion("the loss falls at least like the bound", r"L\le L_{ori}(t_0)e^{-\eta\sigma_1^{3/2}(t-t_0)}",
                               note="no record lies in the local stage: a longer run would decide")]
        error = common.drift(setting)
        stays = Conclusion("the Hermitian part's least singular value stays large", r"\sigma_{\min}\ge2^{3/4}\sigma_1^{1/4}",
                           float(least[place:].min()), ">=", self._level(setting), error=error)
        words, latex = "the skew part stays small", r"\|W_1-W_2^{-1}W_3^HW_4^H\|_F\le3f_1d\epsilon"
        largest, constant = float(skew[place:].max()), constants["skew"]
        if constant.value is None:
            small = Conclusion(words, latex, largest, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for 3 f_1 d eps >= {largest:.4g}; give skew=")
        else:
            small = Conclusion(words, latex, largest, "<=", constant.value, tag=constant.tag, error=error)
        return [self._falls(setting, place), stays, small]

    def _falls(self, setting: Setting, place: int) -> Conclusion:
        run, words, latex = setting.run, "the loss falls at least like the bound", r"L\le L_{ori}(t_0)e^{-\eta\sigma_1^{3/2}(t-t_0)}"
        plain = MatrixFactorization(setting.objective.target, depth=4, balance=0.0)
        rate = float(common.sizes_of_target(setting.objective)[0]) ** 1.5
        first = plain.value(common.factors_of(run.states[place]))
        after = np.arange(place + 1, len(run))
        bounds = np.log(first) - rate * (run.times[after] - run.times[place])
        seen = (np.exp(bounds) > 10 * run.loss_error[after]) & (run.loss[after] > 2 * run.loss_error[after])
        if not seen.any():
            return Conclusion(words, latex, note="no later record is above the numerical error: denser records would decide")
        logs, errors = np.log(run.loss[after][seen]), 2 * run.loss_error[after][seen] / run.loss[after][seen]
        worst = int(np.argmin(bounds[seen] - logs - errors))
        return Conclusion(words, latex, float(logs[worst]), "<=", float(bounds[seen][worst]), logarithmic=True, error=float(errors[worst]),
                          note=f"t = {run.times[after][seen][worst]:.6g}, from t0 = {run.times[place]:.6g}; {int(seen.sum())} records "
                               "above the numerical error")

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        least, skew = self._sides(setting)
        place = self._place(setting, constants, least, skew)
        if place is None:
            return {}
        run, rate = setting.run, float(common.sizes_of_target(setting.objective)[0]) ** 1.5
        seen = np.flatnonzero(run.loss > 10 * run.loss_error)
        seen = seen[seen >= place]
        found = {"t0": float(run.times[place]), "largest skew part from t0 on": float(skew[place:].max())}
        if len(seen) > 1:
            fallen = math.log(run.loss[seen[-1]] / run.loss[seen[0]])
            found["rate that is seen, over sigma_1^(3/2) (the bound has 1)"] = -fallen / (run.times[seen[-1]] - run.times[seen[0]]) / rate
        return found

    def examples(self) -> dict[str, Example]:
        def run(seed: int = 0, steps: int = 4000, unbalanced: bool = False, **given: float) -> dict[str, Any]:
            start = init.small_gaussian(4, 3, 0.3, seed, True) if unbalanced else init.balanced_gaussian(4, 3, 0.4, seed, True)
            objective = MatrixFactorization(np.eye(3), balance=4.0 if unbalanced else 1.0)
            return {"subject": gradient_descent(objective, start, step_size=0.01, steps=steps, record=every(25)), **given}

        return {"balanced": Example("verified", lambda: run(5, 8000, eta_max=0.01, skew=1.0), "d=3, complex, eps=0.4, eta=0.01"),
                "not balanced": Example("verified", lambda: run(1, 8000, True, eta_max=0.01, a_min=4.0, skew=1.0), "eps=0.3, a=4"),
                "polynomials not known": Example("undecided", lambda: run(5, 8000), "the same, without the constants"),
                "still at the saddle": Example("undecided", lambda: run(0, 500, eta_max=0.01, skew=1.0), "500 steps"),
                "a large step": Example("vacuous", lambda: run(5, 8000, eta_max=0.001, skew=1.0), "eta=0.01 where 0.001 is allowed"),
                "another target": Example("vacuous", lambda: balanced_flow.example(target=np.diag([2.0, 1.0, 0.5])), "diag(2, 1, 1/2)")}
