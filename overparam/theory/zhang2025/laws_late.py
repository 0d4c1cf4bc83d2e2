r"""This library's late laws: :math:`S^{-1}=S_0^{-1}+8t/n` where all students are near, and :math:`L\,t\,r^2/16\to m` where m are far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import regimes
from overparam.drivers import gradient_flow
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.certainty import certain
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register, without_meaning
from overparam.theory.zhang2025 import common, laws
from overparam.theory.zhang2025.laws_gradient import SOURCE
from overparam.theory.zhang2025.lemmas_b import GradientPoint, at_target

__all__ = ["AllConverge", "OneConverges", "SecondMoment", "second_moment"]

_EPS = float(np.finfo(np.float64).eps)
_NEAR = 0.3  # norm of the parameters from which on the late law is followed
_FAR = 7.0  # distance from which on the expansion in 1/r is: its second term is a tenth there


def second_moment(state: State) -> np.ndarray:
    r"""Return :math:`S=\frac1n\sum_i\mu_i\mu_i^\top` about the target, in the state's coordinates.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.theory.zhang2025.laws_late import second_moment
    >>> second_moment(op.State.of([[1.0, 0.0], [-1.0, 2.0]])).tolist()
    [[1.0, -1.0], [-1.0, 2.0]]
    """
    params = state.coordinates
    found: np.ndarray = params.T @ params / len(params)
    return found


@register
class SecondMoment(Inequality):
    r"""At small parameters of mean 0, equal weights: :math:`\dot S=-\frac8nS^2` and :math:`L=\mathrm{tr}\,S^2`.

    Both up to relative errors of order :math:`\max\|\mu_i\|^2`, whose constants are measured along parameters that shrink to nothing.
    """

    name = "zhang2025.law_second_moment"
    title = "Second moment and loss near the target"
    source = SOURCE
    statement = "Near the target a flow's second moment obeys S' = -(8/n) S^2, and the loss is tr S^2, up to relative errors C max|mu_i|^2."
    latex = r"\dot S=-\tfrac8nS^2,\ L=\mathrm{tr}\,S^2"
    tag = "derived"
    constants = (Constant("C_S", None, "unknown"), Constant("C_L", None, "unknown"))
    bounds = (Bound("|S' + (8/n) S^2| <= C_S max|mu_i|^2 (8/n) |S|^2", r"\dot S=-\tfrac8nS^2", constant="C_S", tag="derived"),
              Bound("|L - tr S^2| <= C_L max|mu_i|^2 tr S^2", r"L=\mathrm{tr}\,S^2", constant="C_L", tag="derived"))
    scales = (1e-4, 1e-3, 1e-2, 1e-1, 0.3)
    limits = ("small",)
    samples, shapes = 40, 4
    rate, level = 8.0, 1.0  #: of S' = -(rate/n) S^2 and L = level tr S^2
    kind = GradientPoint  #: of points, which says what the law supposes of an objective

    @staticmethod
    def objective(d: int) -> Objective:
        """The loss that the law is about, in d dimensions."""
        return at_target(d)

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        n, d = int(rng.choice([2, 3, 5, 10])), int(rng.integers(1, 3))
        params = rng.standard_normal((n, d))
        params -= params.mean(axis=0)
        params *= scale / np.linalg.norm(params, axis=1).max()
        return self.kind(self.objective(d), State.of(params), np.zeros((n, d)))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return self.kind(setting.objective, state, np.zeros((state.n, state.k)))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        params = point.state.coordinates
        size = float(np.linalg.norm(params, axis=1).max())
        off = float(np.linalg.norm(params.mean(axis=0)))
        return [*point.hypotheses(),
                Hypothesis("the parameters are near the target", r"\max_i\|\mu_i\|\le0.3", size, "<=", _NEAR * (1 + 1e-12), tag="derived"),
                Hypothesis("their mean is the target, to third order", r"\|\bar\mu\|\le\max_i\|\mu_i\|^3", off, "<=", size**3 + _EPS * size,
                           tag="derived")]

    def sides(self, point: GradientPoint) -> list[tuple[float, float, float]]:
        found, n = certain(point.objective.estimate(point.state)), point.state.n
        grad, error = point.gradient()
        params, moment = point.state.coordinates, second_moment(point.state)
        square = moment @ moment
        change = -(params.T @ grad + grad.T @ params) / n
        size = float((params**2).sum(axis=1).max())
        scale = float(np.linalg.norm(square))
        rounding, loss = 16 * _EPS * scale, self.level * float(np.trace(square))
        return [(float(np.linalg.norm(change + self.rate / n * square)), size * self.rate / n * scale,
                 2 / n * float(error @ np.linalg.norm(params, axis=1)) + rounding),
                (abs(found.value - loss), size * loss, found.value_error + rounding)]

    def examples(self) -> dict[str, Example]:
        obj = self.objective(1)
        given = {"subject": obj, "C_S": 10.0, "C_L": 10.0}
        return {**super().examples(), "given": Example("verified", lambda: {**given, "params0": [[0.1], [-0.1]]}, "n=2, d=1"),
                "far": Example("vacuous", lambda: {**given, "params0": [[1.0], [-1.0]]}, "distance 1")}


@register
class AllConverge(Theorem):
    r"""Where all students are near: :math:`S^{-1}(t)=S^{-1}(t_0)+\frac8n(t-t_0)` as a matrix, and :math:`L=\mathrm{tr}\,S^2`.

    From the first record at which all are within 0.3 of the target and their mean has settled (:math:`\|\bar\mu\|\le\max\|\mu_i\|^3`), to
    the last; :math:`\|S^{1/2}(S_0^{-1}+\frac8n(t-t_0))S^{1/2}-I\|\le C\max\|\mu_i(t_0)\|^2` on the directions that S has.
    """

    name = "zhang2025.law_all_converge"
    title = "Late law where all converge"
    source = SOURCE
    statement = "Where all students converge S^-1(t) = S0^-1 + 8 (t - t0)/n as a matrix, and the loss is tr S^2, up to C max |mu_i|^2."
    latex = r"S^{-1}(t)=S_0^{-1}+\tfrac8n(t-t_0),\ L=\mathrm{tr}\,S^2"
    tag = "derived"
    constants = (Constant("C", None, "unknown"),)
    rate, level = 8.0, 1.0  #: of S' = -(rate/n) S^2 and L = level tr S^2
    words = ("S^-1 rises by 8/n a unit of flow time, as a matrix", "the loss is tr S^2")
    formulas = (r"S^{-1}(t)=S_0^{-1}+\tfrac8n(t-t_0)", r"L=\mathrm{tr}\,S^2")

    def supposed(self, setting: Setting) -> list[Hypothesis]:
        """What the law is about: target, weights, motion."""
        return [common.single_gaussian(setting), common.equal_weights(setting),
                Hypothesis("the run is a gradient flow", r"\dot\mu_i=-\nabla_iL", tag="derived",
                           fact=None if setting.run is None else setting.run.driver == "gradient_flow")]

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        late = None if setting.run is None else self._late(setting) is not None
        return [*self.supposed(setting),
                Hypothesis("all students come near the target", r"\max_i\|\mu_i\|\le0.3,\ \|\bar\mu\|\le\max_i\|\mu_i\|^3", fact=late,
                           tag="derived", note="" if late else "not at the run's records")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        late = self._late(setting)
        if late is None or late >= len(setting.run.states) - 1:
            return [Conclusion(word, tag="derived", note="no two records are late: a longer run would decide") for word in self.words]
        apart, off, size = self._compared(setting, late)
        end = setting.run.states[-1]
        moment = second_moment(end)
        square = self.level * float(np.trace(moment @ moment))
        small = float((end.coordinates**2).sum(axis=1).max())
        loss = abs(float(setting.run.loss[-1]) / square - 1)
        return [self._judged(self.words[0], self.formulas[0], apart, size, off, constants["C"]),
                self._judged(self.words[1], self.formulas[1], loss, small, float(setting.run.loss_error[-1]) / square + 64 * _EPS,
                             constants["C"])]

    @staticmethod
    def _judged(words: str, latex: str, left: float, size: float, error: float, constant: Constant) -> Conclusion:
        if constant.value is None:
            return Conclusion(words, latex, left, "<=", math.nan, tag="unknown", tested=False,
                              note=f"relative error {left:.3g} at max|mu|^2 = {size:.3g}: holds for C >= {left / size:.3g}; give C=")
        if left <= error:  # the run cannot tell the law from the truth: it holds
            return Conclusion(words, latex, fact=True, tag=constant.tag, note=f"relative error {left:.3g}, the run's own being {error:.3g}")
        return Conclusion(words, latex, left, "<=", constant.value * size, tag=constant.tag, error=error)

    @staticmethod
    def _late(setting: Setting) -> int | None:
        for place, state in enumerate(setting.run.states):
            params = state.coordinates
            size = float(np.linalg.norm(params, axis=1).max())
            if size <= _NEAR and float(np.linalg.norm(params.mean(axis=0))) <= size**3:
                return place
        return None

    def _compared(self, setting: Setting, late: int) -> tuple[float, float, float]:
        """Relative difference of S^-1 from the law at the last record, its error, and max |mu|^2 where it starts."""
        states, times = setting.run.states, setting.run.times
        first, last = second_moment(states[late]), second_moment(states[-1])
        values, axes = np.linalg.eigh(first)
        axes = axes[:, values > 1e3 * _EPS * values.max()]  # others are rounding of directions that the students do not span
        inverse = axes @ np.diag(1 / np.diag(axes.T @ first @ axes)) @ axes.T
        law = axes.T @ inverse @ axes + self.rate / setting.n * float(times[-1] - times[late]) * np.eye(axes.shape[1])
        factor = np.linalg.cholesky(axes.T @ last @ axes)
        apart = float(np.linalg.norm(factor.T @ law @ factor - np.eye(len(law)), 2))
        error = (setting.run.settings.get("rtol", 0.0) + 1e3 * _EPS) * (1 + int(setting.run.steps[-1]))
        return apart, error, float((states[late].coordinates**2).sum(axis=1).max())

    @staticmethod
    def objective() -> Objective:
        """The loss of the examples."""
        return ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-10))

    def examples(self) -> dict[str, Example]:
        obj = self.objective()
        start = [[0.1, 0.02], [-0.08, 0.05], [-0.02, -0.07]]

        def run(t_end: float, scale: float = 1.0) -> dict[str, Any]:
            return {"subject": gradient_flow(obj, scale * np.array(start), t_end=t_end), "C": 10.0}

        return {"near": Example("verified", lambda: run(1e6), "n=3, d=2"),
                "no constant": Example("undecided", lambda: {"subject": run(1e6)["subject"]}, "C is not given"),
                "not there yet": Example("vacuous", lambda: run(0.1, 10.0), "the students are still far")}


@register
class OneConverges(Theorem):
    r"""Where m students are at distances :math:`r_i` and the others on the target :math:`Lt\to\sum16/r_i^2`.

    :math:`Lt\big/\sum_i\frac{16}{r_i^2-16}=1+O(r^{-4})`. The band is :math:`2(16/r^2)^2`, twice the square of the first correction, r
    the smallest of the distances; it is 17 % at r = 7.45, 2.5 % at 12, 0.6 % at 17. The flow takes time in proportion to
    :math:`e^{r^2/8}`: what the start at :math:`r_0` adds to t is :math:`e^{-(r^2-r_0^2)/8}` of it, and must be below a tenth of the band.
    """

    name = "zhang2025.law_one_converges"
    title = "Late law where some diverge"
    source = SOURCE
    statement = "Where m students are far the loss is 16/t times the sum of 1/r_i^2 to leading order, so that L t r^2/16 tends to m."
    latex = r"L\,t\,r^2/16\to m"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        words = "some students are at least 7 from the target, the others within 1"
        found = [common.single_gaussian(setting), common.equal_weights(setting)]
        if without_meaning(found):
            return found
        if setting.run is None:
            return [*found, Hypothesis(words, r"r_i\ge7", tag="derived", note="no run was given")]
        norms = self._norms(setting)
        settled = bool(((norms <= regimes.NEAR) | (norms >= _FAR)).all())
        regime = regimes.classify(setting.run)
        fact = bool((norms >= _FAR).any() and (norms <= regimes.NEAR).any()) if settled else None
        if fact is not True and not regime.undecided and not (regime.diverged and regime.converged):
            fact = False  # and it will stay so
        return [*found, Hypothesis("the run is a gradient flow", r"\dot\mu_i=-\nabla_iL", tag="derived",
                                   fact=setting.run.driver == "gradient_flow"),
                Hypothesis(words, r"r_i\ge7", fact=fact, tag="derived", note=f"{regime.name} {regime.reason}"), self._forgotten(setting)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        radius, run = self._radius(setting), setting.run
        words = "L t over the sum of 16/(r_i^2 - 16) is 1 up to the band of order r^-4"
        if not radius.size or radius.min() <= 4:
            return [Conclusion(words, self.latex, tag="derived", note="no student is far enough for an expansion in 1/r")]
        ratio = float(run.loss[-1] / laws.far_parameters(run.times[-1], radius))
        error = float(run.loss_error[-1] / run.loss[-1])
        leading = float(run.loss[-1] / laws.far_parameters(run.times[-1], radius, leading=True)) * radius.size
        band = 2 * (16 / float(radius.min()) ** 2) ** 2
        return [Conclusion(words, r"\big|Lt/\sum\tfrac{16}{r_i^2-16}-1\big|\le2(16/r^2)^2", abs(ratio - 1), "<=", band, tag="derived",
                           error=error, note=f"L t r^2/16 = {leading:.5g} for m = {radius.size}, at r = {radius.min():.5g}")]

    @staticmethod
    def _norms(setting: Setting, record: int = -1) -> np.ndarray:
        found: np.ndarray = np.linalg.norm(setting.run.states[record].coordinates, axis=1)
        return found

    def _radius(self, setting: Setting, record: int = -1) -> np.ndarray:
        """Distances, at a record, of those that end far."""
        return self._norms(setting, record)[self._norms(setting) >= _FAR]

    def _forgotten(self, setting: Setting) -> Hypothesis:
        start, end = self._radius(setting, 0), self._radius(setting)
        words, latex = "the start is forgotten", r"e^{-(r^2-r_0^2)/8}\le\frac15(16/r^2)^2"
        if not end.size:
            return Hypothesis(words, latex, tag="derived", note="no student is far")
        band = math.log(0.2) + 2 * math.log(16 / float(end.min()) ** 2)
        return Hypothesis(words, latex, float(((start**2 - end**2) / 8).max()), "<=", band, tag="derived", logarithmic=True)

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
        return {"one far": Example("verified", lambda: {"subject": gradient_flow(obj, [[0.1], [4.0]], t_end=1e8)}, "n=2, d=1"),
                "early": Example("undecided", lambda: {"subject": gradient_flow(obj, [[1.5], [2.2]], t_end=0.1)}, "nothing is decided yet"),
                "all near": Example("vacuous", lambda: {"subject": gradient_flow(obj, [[0.1], [-0.2]], t_end=1e4)}, "none diverges")}
