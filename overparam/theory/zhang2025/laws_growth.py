"""This library's laws of the small-noise regime: how a tight cluster's spread grows, and how many of it converge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam.drivers import gradient_descent, gradient_flow
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.laws_gradient import SOURCE

__all__ = ["Growth", "Staircase", "border", "log_amplification", "split"]

_TIGHT = math.log(1e-6)  # spread up to which second order stays below the integrators' own errors
#: kappa of ln eps* = -M0^2 + kappa by number of students: lowest and highest over the profiles that were measured.
_BORDER = {2: (3.11, 3.11), 3: (2.73, 3.17), 5: (2.52, 2.81), 10: (2.47, 2.53)}
_ROUNDED = 0.005  # half a unit of the last decimal of these
#: ln(gap of the two nearest) + M0^2 below which a second one surely converges, and above which it surely does not.
_SECOND = (3.8, 4.8)


def border(n: int) -> tuple[float, float] | None:
    r""":math:`\kappa(n)` of :math:`\ln\varepsilon^*=-M_0^2+\kappa`, lowest and highest over profiles; None for n other than 2, 3, 5, 10.

    Examples
    --------
    >>> from overparam.theory.zhang2025.laws_growth import border
    >>> border(2), border(4)
    ((3.11, 3.11), None)
    """
    return _BORDER.get(n)


def split(state: State, axis: np.ndarray | None = None) -> tuple[np.ndarray, float, float]:
    r"""The students' mean c, and ln of the root mean square of their deviations along an axis and across it.

    Parameters
    ----------
    state : State
    axis : (k,) array, optional
        Unit vector; None takes the direction of c. At late times c is rounding, and has a direction only in name: give that of the start.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> from overparam.theory.zhang2025.laws_growth import split
    >>> state = op.State(centre=np.array([3.0, 0.0]), deviations=np.array([[1e-200, 0.0], [-1e-200, 0.0]]))
    >>> centre, along, across = split(state)
    >>> centre.tolist(), round(float(along / np.log(10)), 9), across
    ([3.0, 0.0], -200.0, -inf)
    """
    centre, deviations = _parts(state)
    if axis is None:
        axis = _direction(centre)
    along = deviations @ axis
    across = deviations - np.outer(along, axis)

    def size(rows: np.ndarray) -> float:
        peak = float(np.abs(rows).max(initial=0.0))
        if peak <= 1e-15 * float(np.abs(deviations).max(initial=0.0)):  # rounding of the projection
            return -math.inf
        return math.log(peak) + 0.5 * math.log(float(((rows / peak) ** 2).sum()) / len(rows)) + state.log_scale

    return centre, size(along), size(across)


def _parts(state: State) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the stored deviations from it.

    Differences to one student are exact where the deviations are far below the centre that they are stored with; those to the rounded
    mean of all are not.
    """
    apart = state.deviations - state.deviations[0]
    mean = state.deviations[0] + apart.mean(axis=0)
    return state.centre + math.exp(state.log_scale) * mean, apart - apart.mean(axis=0)


def _rounding(states: Sequence[State], steps: int) -> float:
    """Relative error of the deviations from states that store them with the centre: a unit in the last place of it at every step.

    The start is left out: whatever was rounded when it was made, the run is about the numbers that it holds.
    """
    worst = 0.0
    for state in states:
        _, deviations = _parts(state)
        size = float(np.abs(deviations).max(initial=0.0))
        stored = float(np.abs(state.deviations).max(initial=0.0))
        worst = max(worst, 2.0**-52 * stored / size) if size > 0 else worst
    return worst * math.sqrt(1 + steps)


def _direction(centre: np.ndarray) -> np.ndarray:
    return centre / max(float(np.linalg.norm(centre)), 1e-300)


def log_amplification(distance: float, n: int, step_size: float | None, steps: int | None = None) -> float:
    r"""Logarithm of what the spread along the centre grows by: :math:`M_0^2` of a flow, else :math:`\sum_k\ln(1+4\eta M_k^2/n)`.

    :math:`M_k=(1-2\eta/n)^kM_0`, over `steps` steps or all.

    Examples
    --------
    >>> from overparam.theory.zhang2025.laws_growth import log_amplification
    >>> log_amplification(3.0, 5, None), round(log_amplification(3.0, 5, 0.01), 3)      # finite steps amplify less
    (9.0, 8.86)
    """
    if step_size is None:
        return distance**2
    shrink = 1 - 2 * step_size / n
    if steps is None:
        # what is left out is below 1e-17 of the first term
        steps = 1 if shrink <= 0 else math.ceil(20 / -math.log(shrink))
    squares = distance**2 * shrink ** (2.0 * np.arange(steps))
    return float(np.log1p(4 * step_size / n * squares).sum())


def _tight_start(setting: Setting, largest: float) -> Hypothesis:
    return Hypothesis("the students start close together", r"\max_{ij}\|\mu_i-\mu_j\|", setting.state.log_spread, "<=", largest,
                      logarithmic=True, tag="derived")


@register
class Growth(Theorem):
    r"""A tight cluster's spread along its centre grows by :math:`e^{M_0^2-M(t)^2}` in a flow; in descent by :math:`\prod(1+4\eta M_k^2/n)`.

    M is the centre's distance from the target, :math:`M_k=(1-2\eta/n)^kM_0`; across the centre the spread stands still. Compared at
    the last record at which the spread is below 1e-6.
    """

    name = "zhang2025.law_growth"
    title = "Growth of the spread"
    source = SOURCE
    statement = "A tight cluster's spread along its centre grows by exp(M0^2 - M(t)^2) in a flow and by prod(1 + 4 eta M_k^2/n) in descent."
    latex = r"\ln\frac{\mathrm{spread}(t)}{\mathrm{spread}(0)}=M_0^2-M(t)^2"
    tag = "derived"

    def supposed(self, setting: Setting) -> list[Hypothesis]:
        """What the law is about: target, weights, motion."""
        return [common.single_gaussian(setting), common.equal_weights(setting), common.gradient_motion(setting)]

    def expected(self, distance: float, now: float, n: int, step_size: float | None, steps: int) -> float:
        """ln of the growth from the centre's distance `distance` to `now`, or over so many steps."""
        return distance**2 - now**2 if step_size is None else log_amplification(distance, n, step_size, steps)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        _, along, _ = split(setting.state)
        return [*self.supposed(setting),
                Hypothesis("there are at least two students", r"n\ge2", setting.n, ">=", 2), _tight_start(setting, _TIGHT),
                Hypothesis("they differ along their centre", r"\langle\mu_i-\mu_j,c\rangle\ne0", fact=math.isfinite(along), tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, n = setting.run, setting.n
        tight = [place for place, state in enumerate(run.states) if state.log_spread <= _TIGHT]
        words = ("the spread along the centre grows as it should", "the spread across the centre stands still")
        if len(tight) < 2:
            return [Conclusion(word, tag="derived", note="no later record is tight: record more often") for word in words[:1]]
        last = tight[-1]
        start, along, across = split(run.states[0])
        end, along_now, across_now = split(run.states[last], _direction(start))
        distance, now, time = float(np.linalg.norm(start)), float(np.linalg.norm(end)), float(run.times[last])
        # second order: rates change by spread (1 + M)^3
        error = math.exp(run.states[last].log_spread) * (1 + distance) ** 3 * (1 + time)
        expected = self.expected(distance, now, n, setting.step_size, int(run.steps[last]))
        # and the rule by its tolerance, a flow's integrator by its own, in every step
        off = 1e-15 + float(getattr(setting.objective.rule, "tol", 0.0)) + float(run.settings.get("rtol", 0.0))
        error += off * (1 + int(run.steps[last])) * (1 + distance**2)
        error += _rounding(run.states[1:last + 1], int(run.steps[last]))
        note = f"ln of the growth at flow time {time:.6g}, from M = {distance:.6g} to {now:.6g}"
        found = [self._judged(setting, words[0], self.latex, along_now - along, expected, error, note)]
        if math.isfinite(across) and math.isfinite(across_now):
            found.append(self._judged(setting, words[1], r"\ln\mathrm{spread}_\perp", across_now - across, 0.0, error, ""))
        return found

    @staticmethod
    def _judged(setting: Setting, words: str, latex: str, left: float, right: float, error: float, note: str) -> Conclusion:
        """The comparison; open where it fails and the run's rule bounds nothing, so that the rule may be what fails."""
        if isinstance(getattr(setting.objective, "rule", None), Auto) or abs(left - right) <= error:
            return Conclusion(words, latex, left, "==", right, tag="derived", error=error, scale=1.0, note=note)  # logarithms of ratios
        return Conclusion(words, latex, tag="derived",
                          note=f"{left:.6g} is not {right:.6g}, and the run's rule has no tolerance: rule=op.Auto() would decide")

    @staticmethod
    def objective() -> Objective:
        """The loss of the examples."""
        return ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-10))

    def examples(self) -> dict[str, Example]:
        obj = self.objective()
        start = State(centre=np.array([3.0]), deviations=np.array([[1e-20], [-1e-20]]))

        def late() -> dict[str, Any]:
            return {"subject": gradient_flow(obj, State(centre=np.array([3.0]), deviations=np.array([[1e-7], [-1e-7]])), t_end=1.0,
                                             stop=lambda record: True)}

        return {"flow": Example("verified", lambda: {"subject": gradient_flow(obj, start, t_end=100.0)}, "n=2, d=1, M0=3"),
                "descent": Example("verified", lambda: {"subject": gradient_descent(obj, start, step_size=0.05, steps=200)}, "eta=0.05"),
                "wide": Example("vacuous", lambda: {"subject": gradient_flow(obj, [[3.1], [2.9]], t_end=1.0)}, "spread 0.2"),
                "no second record": Example("undecided", late, "the run was stopped at its start")}


@register
class Staircase(Theorem):
    r"""The border of the small-noise regime: with :math:`b=\ln\varepsilon+M_0^2` the number k of students that converge falls as b rises.

    :math:`\varepsilon` is the root mean square of the deviations along the centre; for descent :math:`M_0^2` is replaced by
    :math:`\sum_k\ln(1+4\eta M_k^2/n)`. All converge below :math:`\kappa(n)`, above the band of the profiles not all do. A second student
    converges if the gap g of the two nearest has :math:`\ln g+M_0^2<3.8`, and none does above 4.8. In between nothing is claimed.
    """

    name = "zhang2025.law_staircase"
    title = "Border and staircase"
    source = SOURCE
    statement = "All students converge below ln eps = -M0^2 + kappa(n), fewer above; a second one does if its gap has ln g + M0^2 < 3.8."
    latex = r"\ln\varepsilon^*=-M_0^2+\kappa"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        centre, along, _ = split(setting.state)
        known = setting.n in _BORDER
        return [common.single_gaussian(setting), common.equal_weights(setting),
                Hypothesis("kappa was measured for this number of students", r"n\in\{2,3,5,10\}", fact=known, tag="derived"),
                Hypothesis("the centre is far enough", r"M_0\ge3", float(np.linalg.norm(centre)), ">=", 3.0, tag="derived"),
                Hypothesis("the students differ along their centre", r"\langle\mu_i-\mu_j,c\rangle\ne0", fact=math.isfinite(along),
                           tag="derived"),
                _tight_start(setting, 0.0)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        regime = regimes.classify(setting.run)
        k = None if regime.undecided else len(regime.converged)
        b, gap = self._levels(setting)
        low, high = _BORDER.get(setting.n, (math.nan, math.nan))
        note = regime.name + ("" if k is not None else f": {regime.reason}; a longer run would decide")
        found = []
        if b < low - _ROUNDED:
            found.append(Conclusion(f"all converge: b = {b:.3f} is below kappa = {low}", "k=n", fact=None if k is None else k == setting.n,
                                    tag="derived", note=note))
        elif b > high + _ROUNDED:
            found.append(Conclusion(f"not all converge: b = {b:.3f} is above kappa = {high}", "k<n",
                                    fact=None if k is None else k < setting.n, tag="derived", note=note))
        if gap < _SECOND[0]:
            found.append(Conclusion(f"a second student converges: ln g + M0^2 = {gap:.3f}", r"k\ge2", fact=None if k is None else k >= 2,
                                    tag="derived", note=note))
        elif gap > _SECOND[1]:
            found.append(Conclusion(f"only one student converges: ln g + M0^2 = {gap:.3f}", "k=1", fact=None if k is None else k == 1,
                                    tag="derived", note=note))
        return found or [Conclusion("how many students converge", "k", tag="derived",
                                    note=f"{note}; b = {b:.3f} and ln g + M0^2 = {gap:.3f} lie where it depends on the profile, and "
                                         "nothing is claimed")]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        b, gap = self._levels(setting)
        regime = regimes.classify(setting.run)
        return {"b = ln eps + M0^2": b, "ln g + M0^2": gap, "k": regime.name}

    @staticmethod
    def _levels(setting: Setting) -> tuple[float, float]:
        """b, and the same with the gap between the two nearest to the target along the centre."""
        state = setting.state
        centre, along, _ = split(state)
        distance = float(np.linalg.norm(centre))
        growth = log_amplification(distance, setting.n, setting.step_size)
        near = np.sort(_parts(state)[1] @ _direction(centre))[:2]
        gap = float(near[1] - near[0]) if len(near) > 1 else math.inf
        return along + growth, (math.log(gap) + state.log_scale if gap > 0 else -math.inf) + growth

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))

        def run(b: float, n: int = 5, t_end: float = 1e4, distance: float = 3.0) -> dict[str, Any]:
            profile = np.linspace(-1, 1, n)
            profile *= math.exp(b - distance**2) / math.sqrt(float((profile**2).mean()))
            return {"subject": gradient_flow(obj, init.around([distance], profile[:, None]), t_end=t_end)}

        return {"below": Example("verified", lambda: run(2.0), "n=5, b=2: all converge"),
                "above": Example("verified", lambda: run(5.5), "n=5, b=5.5: one converges"),
                "between": Example("undecided", lambda: run(3.112, n=2), "n=2, b=3.112: on the border"),
                "short": Example("undecided", lambda: run(2.0, t_end=1.0), "the horizon is too short"),
                "near": Example("vacuous", lambda: run(2.0, distance=1.0), "M0=1")}
