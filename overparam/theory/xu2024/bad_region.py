"""The bad region: a start that gradient EM does not leave for a time exponential in the dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import em, gradient_flow
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2024 import common
from overparam.theory.xu2024.pair import log_least_time, log_time

__all__ = ["BadRegion", "PairStays", "pair_distance"]

_EPS = float(np.finfo(np.float64).eps)
_PART = 5 / 6  # of its start, to which the law follows the pair: 10 of 12, as in the theorem


def pair_distance(params: np.ndarray) -> float | None:
    r"""Distance a of the pair :math:`\pm a\,u` where all other students are on the target; None for other parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2024.bad_region import pair_distance
    >>> pair_distance(np.array([[3.0], [0.0], [-3.0]])), pair_distance(np.array([[3.0], [1.0], [-3.0]]))
    (3.0, None)
    """
    if len(params) < 2:
        return None
    norms = np.linalg.norm(params, axis=1)
    order = np.argsort(-norms)
    one, two = order[:2]
    rounding = 16 * _EPS * norms[one]
    if norms[one] == 0 or np.abs(params[one] + params[two]).max() > rounding or norms[order[2:]].max(initial=0.0) > rounding:
        return None
    return float(norms[one])


def _largest_norms(setting: Setting, log_until: float) -> np.ndarray:
    """Largest distance from the target at the records up to a flow time."""
    with np.errstate(divide="ignore"):
        early = np.log(setting.run.times) <= log_until
    return np.array([np.linalg.norm(setting.run.states[place].coordinates, axis=1).max() for place in np.flatnonzero(early)])


def _drift(setting: Setting) -> float:
    """Relative error of a distance at the end of a run."""
    run = setting.run
    per_step = run.settings["rtol"] if common.flow(setting) else float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0))
    return per_step + 16 * _EPS * math.sqrt(1 + int(run.steps[-1]))


@register
class BadRegion(Theorem):
    r"""The lower bound: from a bad start some :math:`\|\mu_i(t)\|\ge10\sqrt d` for all :math:`t\le T=\frac1{30\eta}e^d`.

    That there is such a region is published. What it is exactly is recalled: :math:`n\ge3`, equal weights,
    :math:`\mu_1=12\sqrt d\,e_1`, :math:`\mu_2=-12\sqrt d\,e_1`, all others 0. So the claims are shown and not tested, and no run verifies
    the theorem; ``xu2024.law_bad_region`` is the library's own form, which can be. A run shows it up to its end; beyond, the least time
    that the force on the pair allows. The bound is conservative: the true time grows like :math:`e^{12.5d}`.
    """

    name = "xu2024.bad_region"
    title = "Bad region"
    source = common.PAPER
    statement = ("From a pair at +-12 sqrt(d) e_1, all others on the target, some |mu_i| stays at least 10 sqrt(d) for e^d/(30 eta) "
                 "steps.")
    latex = r"t\le\tfrac1{30\eta}e^d\ \Rightarrow\ \max_i\|\mu_i(t)\|\ge10\sqrt d"
    constants = (Constant("start", 12.0, "recalled"), Constant("radius", 10.0, "recalled"), Constant("horizon", 30.0, "recalled"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        start, tag, distance = constants["start"], "recalled", pair_distance(setting.state.coordinates)
        expected = start.value * math.sqrt(setting.d)
        placed = distance is not None and abs(distance - expected) <= 16 * _EPS * expected
        words = f"the start is a pair at +-{start.value:g} sqrt(d), all others on the target"
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting),
                Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights, tag=tag),
                Hypothesis("there are at least three students", r"n\ge3", setting.n, ">=", 3, tag=tag),
                Hypothesis(words, r"\mu_{1,2}=\pm12\sqrt d\,e_1", fact=placed, tag=tag,
                           note="no such pair" if distance is None else f"the pair is at {distance / math.sqrt(setting.d):.6g} sqrt(d)")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        tag = "recalled"
        radius, until = constants["radius"].value * math.sqrt(setting.d), setting.d - math.log(constants["horizon"].value)
        norms, distance = _largest_norms(setting, until), pair_distance(setting.state.coordinates)
        words = f"some |mu_i| is at least {constants['radius'].value:g} sqrt(d) at the records up to T"
        found = [Conclusion(words, r"\max_i\|\mu_i\|\ge10\sqrt d", float(norms.min()), ">=", radius, tag=tag,
                            error=radius * _drift(setting),
                            note=f"T = exp({until:.6g}) of flow time; the run ends at {setting.run.times[-1]:.4g}")]
        beyond, latex = "the force allows no earlier time than T", r"\frac{(12-10)\sqrt d}{\max g}\ge\frac{e^d}{30}"
        if distance is None or setting.n < 3 or not distance > radius > 0:
            return [*found, Conclusion(beyond, latex, tag=tag, note="the start is no pair outside the radius")]
        return [*found, Conclusion(beyond, latex, log_least_time(distance, radius, setting.n), ">=", until, tag=tag, logarithmic=True,
                                   error=1e-9, note="the largest force between the start and the radius, by quadrature")]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        radius, distance = constants["radius"].value * math.sqrt(setting.d), pair_distance(setting.state.coordinates)
        if distance is None or setting.n < 3 or not distance > radius > 0:
            return {}
        return {"ln of the least flow time (derived)": log_least_time(distance, radius, setting.n),
                "ln of the flow's own time (derived)": log_time(distance, radius, setting.n),
                "radius^2/8, its exponent (derived)": radius**2 / 8}

    def examples(self) -> dict[str, Example]:
        def run() -> dict[str, Any]:
            return {"subject": gradient_flow(common.at_target(1, tol=1e-8), init.bad_region(3, 1), t_end=10.0)}

        def mixture() -> dict[str, Any]:
            two = KLDivergence(GaussianMixture([[-1.0], [1.0]]), rule=Auto(tol=1e-8))
            return {"subject": em(two, init.bad_region(3, 1), steps=2, step_size=1.0, update_weights=False)}

        def far() -> dict[str, Any]:
            return {"subject": em(common.at_target(20, tol=1e-8), init.bad_region(3, 20), steps=3, step_size=1.0, update_weights=False)}

        return {"recalled": Example("undecided", run, "n=3, d=1: seen, but recalled numbers are not tested"),
                "beyond the run": Example("undecided", far, "d=20, eta=1: T = 1.6e7 steps, three of which are run"),
                "mixture": Example("vacuous", mixture, "two components")}


@register
class PairStays(Theorem):
    r"""The library's own form, for any pair: from :math:`\pm a_0` to :math:`\frac56a_0` it takes at least :math:`\frac{a_0/6}{\max g}`.

    :math:`g(a)=\frac a2E[(w_1-w_2)^2]` is the force on the pair, of order :math:`e^{-a^2/8}`; all others stay on the target, and no step
    of gradient EM is longer than :math:`\eta\max g`. The flow passes a at the time :math:`\int_a^{a_0}da/g`.
    """

    name = "xu2024.law_bad_region"
    title = "How long a pair stays"
    source = common.OWN
    statement = "A pair at +-a, all other students on the target, keeps 5/6 of its distance at least for (a/6)/max g of flow time."
    latex = r"\eta t\le\frac{a_0/6}{\max_{5a_0/6\le a\le a_0}g(a)}\ \Rightarrow\ \max_i\|\mu_i\|\ge\tfrac56a_0"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        placed = pair_distance(setting.state.coordinates) is not None
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting),
                Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=setting.equal_weights, tag="derived"),
                Hypothesis("there are at least three students", r"n\ge3", setting.n, ">=", 3, tag="derived"),
                Hypothesis("the start is a pair, all others on the target", r"\mu_{1,2}=\pm a_0u", fact=placed, tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        words, latex = "some |mu_i| is at least 5/6 of the start's up to that time", r"\max_i\|\mu_i\|\ge\tfrac56a_0"
        distance = pair_distance(setting.state.coordinates)
        if distance is None or setting.n < 3:
            return [Conclusion(words, latex, tag="derived", note="the start is no such pair")]
        until = log_least_time(distance, _PART * distance, setting.n)
        norms, drift = _largest_norms(setting, until), _drift(setting)
        found = [Conclusion(words, latex, float(norms.min()), ">=", _PART * distance, tag="derived", error=drift * distance,
                            note=f"up to exp({until:.6g}) of flow time; the run ends at {setting.run.times[-1]:.4g}")]
        return found + (self._timed(setting, distance, drift) if common.flow(setting) else [])

    @staticmethod
    def _timed(setting: Setting, start: float, drift: float) -> list[Conclusion]:
        """The flow's time to the record nearest to 5/6 of the start, against the quadrature; nothing if none is near."""
        words, latex = "the flow gets there at the time of the quadrature", r"t=\int_a^{a_0}\frac{da}{g(a)}"
        sizes = np.array([np.linalg.norm(state.coordinates, axis=1).max() for state in setting.run.states])
        place = int(np.argmin(np.abs(sizes - _PART * start)))
        if place == 0 or not 0.5 * start < sizes[place] < 0.95 * start:
            return []
        error = 20 * drift * (1 + start**2) + 1e-9  # of the time: a relative error of a enters it as exp(a^2/8)
        return [Conclusion(words, latex, log_time(start, float(sizes[place]), setting.n), "==", math.log(setting.run.times[place]),
                           tag="derived", logarithmic=True, error=error, note=f"at distance {sizes[place]:.4g}")]

    def examples(self) -> dict[str, Example]:
        line = common.at_target(1, tol=1e-8)
        pair = init.symmetric_pair(3, 6.0)
        return {"flow": Example("verified", lambda: {"subject": gradient_flow(line, pair, t_end=1e3)}, "n=3, d=1, a=6"),
                "gradient EM": Example("verified", lambda: {"subject": em(line, pair, steps=200, step_size=1.0, update_weights=False)},
                                       "eta = 1"),
                "no pair": Example("vacuous", lambda: {"subject": gradient_flow(line, [[6.0], [-5.0], [0.0]], t_end=10.0)}, "6 and -5")}
