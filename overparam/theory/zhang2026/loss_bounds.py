"""Lemmas 11 and 43: a loss that cannot be small while students are far, and one that is small when all is near."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from overparam._total_variation import Signed, by_projections
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import GaussianMixture
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2026 import common

__all__ = ["Lemma11", "Lemma43", "Pair", "matching"]

_RHO = 0.1  # of the triangles below: their least weight and weight gap are larger


class Pair(NamedTuple):
    """A target and a student in reduced coordinates, the dimension they stand in, and the loss where it is known already."""

    d: float
    means: np.ndarray
    weights: np.ndarray
    students: np.ndarray
    shares: np.ndarray
    loss: tuple[float, float] | None = None

    def enclosed(self) -> tuple[float, float]:
        r"""Proved bounds on the divergence of means far apart: Pinsker's inequality for a projection, and a coupling's

        :math:`\sum\gamma_{ij}\|a_i-b_j\|^2/2`.
        """
        both = Signed(np.concatenate([self.means, self.students]), np.concatenate([self.weights, self.shares]), len(self.weights))
        _, _, shares, apart = both.coupling()
        return 2 * by_projections(both) ** 2, float(shares @ apart**2) / 2

    def divergence(self) -> tuple[float, float]:
        """KL divergence and its error: the record's own where the pair is one."""
        if self.loss is not None:
            return self.loss
        found = KLDivergence(GaussianMixture(self.means, self.weights), weights=self.shares, rule=Auto(tol=1e-6)).estimate(self.students)
        return found.value, found.value_error


class _OfMixtures(Inequality):
    """A lemma about a target and a student: at a start, or at records of a run with the weights that they have there."""

    def _at_setting(self, setting: Setting, known: Mapping[str, Constant]) -> Report:
        other = common.other_problem(setting)
        return self._found(known, tuple(other)) if other else super()._at_setting(setting, known)

    def _points(self, setting: Setting) -> list[Pair]:
        if setting.run is None:
            return [self.point(setting, setting.state)]
        run: Any = setting.run
        last = len(run.states) - 1
        places = np.unique(np.linspace(0, last, min(last + 1, self.records)).round().astype(int))
        moving = run.weights is not None and run.weights.ndim == 2
        sampled = "sampled_from_step" in run.attributes  # then errors are standard errors, which are no bounds
        return [self._pair(setting, run.states[place], run.weights[place] if moving else setting.weights,
                           (float(run.loss[place]), math.inf if sampled else float(run.loss_error[place]))) for place in places]

    def point(self, setting: Setting, state: State) -> Pair:
        return self._pair(setting, state, setting.weights, None)

    @staticmethod
    def _pair(setting: Setting, state: State, shares: np.ndarray, loss: tuple[float, float] | None) -> Pair:
        target = common.target(setting)
        if loss is None:
            found = setting.objective.estimate(state)
            loss = found.value, found.value_error if found.replicates is None else math.inf  # a standard error is no bound
        return Pair(state.d, common.in_coordinates(state, target.means), target.weights, state.coordinates, np.asarray(shares), loss)


# --- Lemma 11 ---------------------------------------------------------------------------------------------------------


@register
class Lemma11(_OfMixtures):
    r"""Lemma 11: if all students but one are at least :math:`\sqrt d/2` from every true mean, :math:`L\ge(1-\pi_1^*)^2/3`.

    The one left out is the student whose nearest true mean is nearest of all. The paper's standing assumptions are part of it:
    three components, one weight larger than the others, all pairs of means :math:`d^{1/2-\epsilon}` apart with
    :math:`0<\epsilon\le0.01`, and a large d. Without them it is not so: on the line, where :math:`\sqrt d/2` is half a standard deviation,
    students between and beyond the true means have a loss well below the bound.

    On samples, whose means are up to a thousand apart, the loss is not computed but enclosed: from below by Pinsker's inequality for the
    total variation of a projection on a line.
    """

    name = "zhang2026.lemma_11"
    title = "Lemma 11 (far students)"
    source = common.PAPER
    statement = ("While all students but one are at least sqrt(d)/2 from every true mean, the loss is at least (1 - pi_1*)^2/3, with pi_1* "
                 "the largest true weight.")
    latex = r"\|\mu_j-\mu_i^*\|\ge\tfrac{\sqrt d}2\ (j\ge2)\ \Rightarrow\ \mathcal L\ge\tfrac{(1-\pi_1^*)^2}3"
    bounds = (Bound("the loss is at least (1 - pi_1*)^2/3", r"\mathcal L\ge(1-\pi_1^*)^2/3", ">="),)
    constants = (common.DIMENSION,)
    scales = (100.0, 1e3, 1e4, 1e6)
    samples, shapes = 12, 3

    def sample(self, rng: np.random.Generator, scale: float) -> Pair:
        side = scale ** (0.5 - rng.uniform(0.001, 0.01))
        triangle = side / math.sqrt(3) * np.array([[math.cos(turn), math.sin(turn)] for turn in 2 * math.pi / 3 * np.arange(3)])
        light = rng.uniform(_RHO, 0.25)
        middle = light + rng.uniform(0, 0.05)
        first = rng.choice(4)
        near = triangle[0] if first == 0 else np.zeros(2) if first == 1 else triangle.mean(axis=0) + side * rng.normal(size=2) * 0.3
        turns = rng.uniform(0, 2 * math.pi, 3)
        far = (side + math.sqrt(scale) / 2) * rng.uniform(1.0, 1.5, 3)[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        weights = np.array([1 - middle - light, middle, light])
        return Pair(scale, triangle, weights, np.concatenate([near[None], far]), rng.dirichlet([5.0, 1.0, 1.0, 1.0]))

    def hypotheses_at(self, point: Pair) -> list[Hypothesis]:
        apart = np.linalg.norm(point.students[:, None] - point.means[None], axis=2).min(axis=1)
        apart = np.sort(apart)[1:]
        pairs = _pair_distances(point.means)
        gap = float(point.weights[0] - point.weights[1]) if len(point.weights) > 1 else 1.0
        exponents = np.log(pairs) / math.log(point.d) if point.d > 1 and len(pairs) and (pairs > 0).all() else np.array([math.nan])
        between = bool((exponents < 0.5).all() and (exponents >= 0.49 - 1e-12).all())
        standing = "a standing assumption of the section, not printed in the lemma"
        return [common.components(len(point.weights)), common.unique_largest(gap),
                Hypothesis("all students but one are far from every true mean", r"\|\mu_j-\mu_i^*\|\ge\sqrt d/2,\ j\ge2",
                           float(apart.min()) if len(apart) else math.inf, ">=", math.sqrt(point.d) / 2),
                Hypothesis("the true means are d^(1/2 - eps) apart, 0 < eps <= 0.01", r"\|\mu_i^*-\mu_j^*\|=d^{0.5-\epsilon}", fact=between,
                           tag="reconstructed", note=standing)]

    def sides(self, point: Pair) -> tuple[float, float, float]:
        right = self._least(float(point.weights[0]))
        if point.loss is not None:
            return point.loss[0], right, point.loss[1]
        low, high = point.enclosed()
        if low >= right:
            return low, right, 0.0
        return (high, right, 0.0) if high < right else ((low + high) / 2, right, (high - low) / 2)

    @staticmethod
    def _least(heaviest: float) -> float:
        return (1 - heaviest) ** 2 / 3

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on the lemma's own triangles of means in dimensions 100 to 1e6, at a start, or at records of a run; the dimension, which
        the lemma supposes large, is compared in logarithms once ``C0`` is given.
        """
        report = super().check(subject, params0, step_size=step_size, confirm=confirm, **constants)
        if subject is None:
            d, n, rho = self.scales[0], 4, _RHO
        else:
            setting = Setting.of(subject, params0, step_size)
            if common.other_problem(setting):
                return report
            point = self._points(setting)[0]
            d, n = point.d, len(point.students)
            rho = min(float(point.weights[-1]), float(point.weights[0] - point.weights[1]) if len(point.weights) > 1 else 1.0)
        known = {one.name: one for one in report.constants}
        large = common.dimension(math.log(d), 0.01, n, rho, known)
        large = replace(large, note=(large.note + "; " if large.note else "") + "a standing assumption of the section, with eps = 0.01")
        return replace(report, hypotheses=(*report.hypotheses, large))

    def examples(self) -> dict[str, Example]:
        def line() -> dict[str, Any]:
            teacher = GaussianMixture([[0.0], [1.2], [2.4]], [0.4, 0.3, 0.3])
            return {"subject": KLDivergence(teacher, rule=Auto(tol=1e-8)), "params0": [[-0.55], [0.6], [1.8], [2.95]]}

        return {"own samples": Example("undecided", dict, "triangles of means in dimensions 100 to 1e6; C0 is not known"),
                "given C0": Example("verified", lambda: {"C0": 0.0}, "the same, without a condition on the dimension (C0 = 0)"),
                "on the line": Example("vacuous", line, "d=1, students half a standard deviation off: the loss is small")}


def _pair_distances(means: np.ndarray) -> np.ndarray:
    return np.array([np.linalg.norm(means[i] - means[j]) for i in range(len(means)) for j in range(i)])


# --- Lemma 43 ---------------------------------------------------------------------------------------------------------


def matching(point: Pair) -> float:
    r"""Return :math:`\delta`: how far weights and means of the students that stand for the true components are off, infinite for too few.

    Each component gets a student of its own; of all assignments the one with the least sum is taken.
    """
    from scipy.optimize import linear_sum_assignment

    apart = np.linalg.norm(point.means[:, None] - point.students[None], axis=2)
    costs = np.maximum(apart, np.abs(point.weights[:, None] - point.shares[None]))
    if costs.shape[1] < costs.shape[0]:
        return math.inf
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].max())


@register
class Lemma43(_OfMixtures):
    r"""Lemma 43: weights and means within :math:`\delta\le e^{-d/100}` of the true ones give :math:`L\le2m\delta+\delta^2/2`.

    That each weight keeps half its size, :math:`\delta\le\pi_{\min}^*/2`, follows from the paper's large d and is checked by itself: with
    it the lemma is a line, since :math:`L\le\sum_i\pi_i^*\ln\frac{\pi_i^*}{\pi_i}+\frac12\sum_i\pi_i^*\|\mu_i-\mu_i^*\|^2` and
    :math:`\ln\frac{\pi^*}\pi\le\frac{\pi^*-\pi}\pi` [derived]. Students beyond the m matched ones do no harm to it.
    """

    name = "zhang2026.lemma_43"
    title = "Lemma 43 (near students)"
    source = common.PAPER
    statement = "If weights and means are within delta <= exp(-d/100) of the true ones, the loss is at most 2 m delta + delta^2/2."
    latex = r"|\pi_i-\pi_i^*|,\|\mu_i-\mu_i^*\|\le\delta\le e^{-d/100}\ \Rightarrow\ \mathcal L\le2m\delta+\tfrac{\delta^2}2"
    bounds = (Bound("the loss is at most 2 m delta + delta^2/2", r"\mathcal L\le2m\delta+\delta^2/2"),)
    scales = (1e-8, 1e-6, 1e-4, 1e-2, 0.1)
    samples, shapes = 25, 4

    def sample(self, rng: np.random.Generator, scale: float) -> Pair:
        m, d = int(rng.integers(2, 5)), int(rng.integers(1, 101))  # on a line, whatever the dimension around it
        weights = -np.sort(-(0.6 * rng.dirichlet(np.ones(m)) + 0.4 / m))
        means = rng.normal(0, 3, (m, 1))
        students = means + scale * rng.uniform(-1, 1, (m, 1))
        change = rng.uniform(-1, 1, m)
        change -= change.mean()
        change *= rng.uniform() / np.abs(change).max()
        shares = weights + scale * change
        if rng.uniform() < 0.3 and shares[0] > 2 * scale:  # a student too many
            shares = np.append(shares, 0.3 * scale)
            shares[0] -= 0.3 * scale
            students = np.concatenate([students, rng.normal(0, 3, (1, 1))])
        return Pair(d, means, weights, students, shares / shares.sum())

    def hypotheses_at(self, point: Pair) -> list[Hypothesis]:
        off = matching(point)
        ln = math.log(off) if off > 0 else -math.inf
        return [Hypothesis("there is a student for every component", r"n\ge m", len(point.students), ">=", len(point.means)),
                Hypothesis("they are near", r"\delta\le e^{-d/100}", ln, "<=", -point.d / 100, logarithmic=True),
                Hypothesis("no weight is off by more than half of itself", r"\delta\le\pi_{\min}^*/2", ln, "<=",
                           math.log(float(point.weights[-1]) / 2), logarithmic=True, tag="derived",
                           note="implied where d is as large as the paper has it")]

    def sides(self, point: Pair) -> tuple[float, float, float]:
        value, error = point.divergence()
        off = matching(point)
        return value, 2 * len(point.means) * off + off * off / 2, error

    def examples(self) -> dict[str, Example]:
        teacher = GaussianMixture([[-6.0], [0.0], [6.0]], [0.5, 0.3, 0.2])

        def learned() -> dict[str, Any]:
            return {"subject": KLDivergence(teacher, weights=[0.5, 0.3, 0.2], rule=Auto(tol=1e-8)),
                    "params0": [[-6.0001], [0.0], [6.0002]]}

        def far() -> dict[str, Any]:
            return {"subject": KLDivergence(teacher, rule=Auto(tol=1e-8)), "params0": [[-6.0], [-5.0], [6.0]]}

        return {"own samples": Example("verified", dict, "mixtures of up to four components on a line in up to 100 dimensions"),
                "a learned mixture": Example("verified", learned, "m=3, d=1, off by 2e-4"),
                "two on one": Example("vacuous", far, "no student at one of the means")}
