r"""Theorems 2 and 4: hybrid EM is stuck where means are :math:`d^{1/2-\epsilon}` apart, and learns where they are :math:`10\sqrt d` apart.

Both are about :math:`\eta\le1/(n^{10}d^{0.6})` and times up to :math:`e^{d/100}/\eta`: no run gets there, so neither can come out
verified. A run at a larger step shows what it shows, and the report says which hypothesis it leaves.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import em
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2026 import common
from overparam.theory.zhang2026.initialisation import events_at
from overparam.trajectory import Trajectory

__all__ = ["Theorem2", "Theorem4", "triangle"]

_ROUNDING = 1e-9  # relative, of distances that are to be equal
_HYPOTHESES = "m=3, n=11, d=400, without a condition on the dimension (C0 = 0)"


def triangle(d: int, side: float, weights: Any = (0.4, 0.3, 0.3)) -> GaussianMixture:
    """Three means in d dimensions, every two of them `side` apart."""
    means = np.zeros((3, d))
    means[1, 0], means[2, 0], means[2, 1] = side, side / 2, side * math.sqrt(0.75)
    return GaussianMixture(means, weights)


class _Separation(Theorem):
    """What both theorems suppose and how they are judged."""

    source = common.PAPER
    constants = (common.DIMENSION, Constant("largest_cosine", None, "unknown"))

    @abstractmethod
    def _separation(self, setting: Setting, target: common.Target) -> list[Hypothesis]:
        """What is supposed of the distances of the true means."""

    @abstractmethod
    def _exponent(self, setting: Setting, target: common.Target) -> float:
        r""":math:`\epsilon` of the least dimension."""

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        other = common.other_problem(setting)
        if other:
            return other
        target, n = common.target(setting), setting.n
        return [common.components(target.m), common.unique_largest(target.gap), common.enough_students(n, target.m, target.least),
                *self._separation(setting, target),
                common.dimension(math.log(setting.d), self._exponent(setting, target), n, target.rho, constants),
                *_steps(setting), *_start(setting, constants)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        target, run = common.target(setting), setting.run
        weights = run.final_weights
        return {"flow time of the last record": float(run.times[-1]), "loss at the last record": float(run.loss[-1]),
                "students with a weight of at least 0.01 at the last record": 0 if weights is None else int((weights >= 0.01).sum()),
                "flow time of stage 2, ln(d)/pi_1*": math.log(setting.d) / float(target.weights[0])}


def _steps(setting: Setting) -> list[Hypothesis]:
    r"""Hybrid EM with :math:`0<\eta\le1/(n^{10}d^{0.6})`."""
    run, n, d = setting.run, setting.n, setting.d
    found = []
    if run is not None:
        hybrid = run.driver == "em" and run.settings.get("step_size") is not None and bool(run.settings.get("update_weights"))
        found.append(Hypothesis("the run is hybrid EM", r"\pi_i^+=\mathbb E\psi_i,\ \mu_i^+=\mu_i-\eta\nabla_i\mathcal L", fact=hybrid,
                                note="" if hybrid else "op.em(..., step_size=...) with weights that move"))
    words, latex = "the step size is small", r"\eta\le n^{-10}d^{-0.6}"
    most = -10 * math.log(n) - 0.6 * math.log(d)
    if setting.step_size is None:
        return [*found, Hypothesis(words, latex, note="no step size was given" if run is None else "the run has no step size")]
    return [*found, Hypothesis(words, latex, math.log(setting.step_size), "<=", most, logarithmic=True)]


def _start(setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
    """The start is one of those that Lemma 6 is about: what a draw from the target is with the theorems' probability."""
    n = setting.n
    events, cosine = events_at(setting)
    weights = common.start_weights(setting)
    near = "each student counts for its nearest true mean"
    bound = constants["largest_cosine"]
    words, latex = "orthogonal parts are nearly orthogonal", r"|\cos(\mu_j^\perp,\mu_k^\perp)|\ll1"
    across = (Hypothesis(words, latex, cosine, "<=", math.nan, tag="unknown", tested=False,
                         note=f"the paper's constant is not known: holds for largest_cosine >= {cosine:.3g}; give largest_cosine=")
              if bound.value is None else Hypothesis(words, latex, cosine, "<=", bound.value, tag=bound.tag))
    return [Hypothesis("all weights start as 1/n", r"\pi_i^{(0)}=1/n", float(np.ptp(weights)), "<=", 1e-12),
            Hypothesis("every true mean has a student (Lemma 6)", r"|S_i|\ge1", events.fewest, ">=", 1, note=near),
            Hypothesis("orthogonal norms are apart (Lemma 6)", r"\big|\|\mu_j^\perp\|-\|\mu_k^\perp\|\big|\ge n^{-3}", events.gap, ">=",
                       n**-3.0),
            Hypothesis("parallel parts are near the true means (Lemma 6)", r"\|\mu_j^\parallel-\mu_i^*\|\le n", events.inside, "<=", n),
            Hypothesis("orthogonal norms are near sqrt(d) (Lemma 6)", r"\big|\|\mu_j^\perp\|-\sqrt d\big|\le n", events.norm, "<=", n),
            across]


def _error(run: Trajectory, record: int) -> float:
    """Bound on the error of the loss at a record: none where the run was sampled."""
    return math.inf if "sampled_from_step" in run.attributes else float(run.loss_error[record])


def _no_run(seed: int, side: float) -> dict[str, Any]:
    """A start in 400 dimensions, in arguments of ``check``, without a condition on the dimension."""
    teacher = triangle(400, side)
    return {"subject": KLDivergence(teacher, rule=Auto(tol=1e-6)), "params0": init.from_teacher(teacher, 11, rng=seed), "step_size": 1e-13,
            "C0": 0.0, "largest_cosine": 0.5}


def _small(side: float, step_size: float = 0.05, steps: int = 200) -> dict[str, Any]:
    """The paper's experiment with fewer students and dimensions: two components, weights 0.3 and 0.7."""
    teacher = GaussianMixture([[-side / 2], [side / 2]], [0.3, 0.7])
    start = init.from_teacher(teacher, 4, rng=0)
    return {"subject": em(KLDivergence(teacher, rule=Auto(tol=1e-6)), start, step_size=step_size, steps=steps)}


# --- Theorem 2 --------------------------------------------------------------------------------------------------------


@register
class Theorem2(_Separation):
    r"""Theorem 2: for means :math:`d^{1/2-\epsilon}` apart the loss stays above :math:`(1-\pi_1^*)^2/3` for :math:`e^{d/100}/\eta` steps.

    The theorem says that there are such means; that all pairs are that far apart is all that is checked of them. That the start is a
    draw from the target is checked as what Lemma 6 says of it, which is where the probability :math:`1-\frac1m` comes from.
    """

    name = "zhang2026.theorem_2"
    title = "Theorem 2 (stuck below sqrt(d) separation)"
    statement = ("In large dimension, with true means d^(1/2 - eps) apart, hybrid EM from a draw of the target keeps a loss of at least "
                 "(1 - pi_1*)^2/3 for exp(d/100)/eta steps, with probability at least 1 - 1/m.")
    latex = (r"\|\mu_i^*-\mu_j^*\|=d^{0.5-\epsilon},\ 0<\eta\le\tfrac1{n^{10}d^{0.6}}\ \Rightarrow\ \mathcal L\ge\tfrac{(1-\pi_1^*)^2}3\ "
             r"\text{for all}\ t\le e^{d/100}/\eta")

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        target, run = common.target(setting), setting.run
        bound = self._bound(target)
        words, latex = "the loss stays large", r"\mathcal L\ge(1-\pi_1^*)^2/3,\ t\le e^{d/100}/\eta"
        with np.errstate(divide="ignore"):
            early = np.log(run.times) <= setting.d / 100
        lowest = int(np.argmin(np.where(early, run.loss, np.inf)))
        loss, error = float(run.loss[lowest]), _error(run, lowest)
        done = setting.d / 100 <= math.log(max(float(run.times[-1]), 1e-300))
        if done or loss < bound:
            return [Conclusion(words, latex, loss, ">=", bound, error=error)]
        return [Conclusion(words, latex, note=f"at the records it is at least {loss:.4g}, of {bound:.4g}; but they end at flow time "
                                              f"{run.times[-1]:.3g} of exp({setting.d / 100:.4g})")]

    def examples(self) -> dict[str, Example]:
        return {"the paper's experiment, small": Example("vacuous", lambda: _small(6.0), "m=2, d=1, n=4, eta=0.05"),
                "no run": Example("undecided", lambda: _no_run(1, 400**0.4901), _HYPOTHESES)}

    @staticmethod
    def _bound(target: common.Target) -> float:
        return (1 - float(target.weights[0])) ** 2 / 3

    def _exponent(self, setting: Setting, target: common.Target) -> float:
        side = float(target.distances.mean()) if target.m > 1 else math.nan
        return 0.5 - math.log(side) / math.log(setting.d) if setting.d > 1 and side > 0 else math.nan

    def _separation(self, setting: Setting, target: common.Target) -> list[Hypothesis]:
        words, latex = "all true means are equally far apart", r"\|\mu_i^*-\mu_j^*\|=d^{0.5-\epsilon}"
        if target.m < 2:
            return [Hypothesis(words, latex, fact=False, note="there is one component")]
        eps = self._exponent(setting, target)
        side = float(target.distances.mean())
        return [Hypothesis(words, latex, float(target.distances.max()), "==", float(target.distances.min()), error=_ROUNDING * side,
                           note=f"eps = {eps:.4g}"),
                Hypothesis("the separation is a little below sqrt(d)", r"0<\epsilon\le0.01", fact=bool(0 < eps <= 0.01),
                           note=f"eps = {eps:.4g}, from ln of the distance over ln d")]


# --- Theorem 4 --------------------------------------------------------------------------------------------------------


@register
class Theorem4(_Separation):
    r"""Theorem 4: for means :math:`10\sqrt d` apart the loss is at most :math:`e^{-d/200}` from :math:`10d/(\eta\pi_{\min}^*)` steps on.

    The window ends at :math:`e^{d/50}/\eta`; it is empty for d below about 500. That the start is a draw from the target is checked as
    what Lemma 6 says of it.
    """

    name = "zhang2026.theorem_4"
    title = "Theorem 4 (learned above sqrt(d) separation)"
    statement = ("In large dimension, with true means at least 10 sqrt(d) apart, hybrid EM from a draw of the target has a loss of at most "
                 "exp(-d/200) from 10 d/(eta pi_min*) to exp(d/50)/eta steps, with probability at least 1 - 1/m.")
    latex = (r"\|\mu_i^*-\mu_j^*\|\ge10\sqrt d,\ 0<\eta\le\tfrac1{n^{10}d^{0.6}}\ \Rightarrow\ \mathcal L\le e^{-d/200}\ \text{for}\ "
             r"\tfrac{10d}{\eta\pi_{\min}^*}\le t\le e^{d/50}/\eta")

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        target, run = common.target(setting), setting.run
        words, latex = "the loss is small in the window", r"\mathcal L\le e^{-d/200},\ \tfrac{10d}{\eta\pi_{\min}^*}\le t\le e^{d/50}/\eta"
        begin, end = self._window(setting.d, target.least)
        if end < begin:
            return [Conclusion(words, latex, fact=True, note=f"the window exp({begin:.4g}) to exp({end:.4g}) of flow time is empty")]
        with np.errstate(divide="ignore"):
            times = np.log(run.times)
        inside = (times >= begin) & (times <= end)
        worst = int(np.argmax(np.where(inside, run.loss, -np.inf)))
        bound = math.exp(self._ln_bound(setting.d))
        loss, error = float(run.loss[worst]), _error(run, worst)
        if inside.any() and (loss > bound or times[-1] >= end):
            return [Conclusion(words, latex, loss, "<=", bound, error=error)]
        seen = f"at its records so far it is at most {loss:.4g}, of {bound:.4g}" if inside.any() else "no record is in it"
        return [Conclusion(words, latex, note=f"the window goes from exp({begin:.4g}) to exp({end:.4g}) of flow time: {seen}")]

    def examples(self) -> dict[str, Example]:
        return {"two components": Example("vacuous", lambda: _small(40.0, 1.0, 60), "m=2, d=1, n=4, eta=1: the window is empty"),
                "no run": Example("undecided", lambda: _no_run(1, 10 * math.sqrt(400)), _HYPOTHESES)}

    @staticmethod
    def _window(d: int, least: float) -> tuple[float, float]:
        """Logarithms of the flow times at which it begins and ends."""
        return math.log(10 * d / least), d / 50

    @staticmethod
    def _ln_bound(d: int) -> float:
        return -d / 200

    def _exponent(self, setting: Setting, target: common.Target) -> float:
        return 0.01

    def _separation(self, setting: Setting, target: common.Target) -> list[Hypothesis]:
        least = float(target.distances.min()) if target.m > 1 else math.inf
        return [Hypothesis("all true means are far apart", r"\|\mu_i^*-\mu_j^*\|\ge10\sqrt d", least, ">=", 10 * math.sqrt(setting.d))]
