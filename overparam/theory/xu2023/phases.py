"""The phases of a run from a small random start: alignment, growth, local convergence; and how evenly the neurons grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam.objectives import ReLUNeuron
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.xu2023 import common
from overparam.theory.xu2023.bounds import example_flow

__all__ = ["Balancing", "Phases", "Potential", "grown"]

_EPS = float(np.finfo(np.float64).eps)
_ARRIVED = 1e-3  # of |v|^2: a loss from which on the growth is over


def grown(run: Any) -> int | None:
    """The first record at which the neurons' sum has half the target's length; None if there is none."""
    for record, state in enumerate(run.states):
        found = common.neurons(run.objective, state)
        if float(np.hypot(found.along.sum(), np.linalg.norm(found.across.sum(axis=0)))) >= found.target / 2:
            return record
    return None


class _FromSmallStart(Theorem):
    """Statements about runs from a small random start."""

    source = common.PAPER
    constants = common.OPEN

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [common.neuron(setting.objective), common.motion(setting), *common.random_start(setting, constants)]

    def examples(self) -> dict[str, Example]:
        enough = {"C_sigma": 0.1, "C_d": 2.0}
        far = {"subject": ReLUNeuron([1.0, 0.0]), "params0": [[3.0, 1.0], [2.0, -1.0]], **enough}
        return {"three": Example("verified", lambda: {"subject": example_flow(t_end=1e4), **enough}, "n=3, d=5, constants that admit it"),
                "ten": Example("verified", lambda: {"subject": example_flow(10, 20, 1e4), **enough}, "n=10, d=20"),
                "constants": Example("undecided", lambda: {"subject": example_flow(t_end=1e3)}, "how small the start must be is not known"),
                "short": Example("undecided", lambda: {"subject": example_flow(t_end=0.1), **enough}, "the neurons have not grown yet"),
                "large start": Example("vacuous", lambda: far, "lengths of 2 and 3; the hypotheses alone")}


@register
class Phases(_FromSmallStart):
    r"""Three phases: the neurons turn to the target while small, grow along it, and converge locally from lengths of order
    :math:`\|v\|/n`.

    At :math:`T_2` all :math:`\|w_i\|\in[\|v\|/(3n),3\|v\|/n]` [published, in a review of a follow-up]. That the largest angle has
    fallen when the sum of the neurons has half the target's length is what alignment before growth means at the least [reconstructed].
    """

    name = "xu2023.phases"
    title = "Three phases"
    statement = ("From a small random start the neurons first align with the target, then grow, and at some T_2 all lengths are between "
                 "|v|/(3n) and 3|v|/n.")
    latex = r"\|w_i(T_2)\|\in\Big[\frac{\|v\|}{3n},\frac{3\|v\|}n\Big]"

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, words = setting.run, "the largest angle to the target has fallen when the neurons have grown to half of it"
        half, start, last = grown(run), common.local_phase(run), common.neurons(run.objective, run.states[-1])
        first = common.neurons(run.objective, run.states[0])
        if half is None or half == 0:
            aligned = Conclusion(words, fact=None, tag="reconstructed",
                                 note="the neurons have not grown at this run's records: a longer run, or more records, would decide")
        else:
            angles = [float(one.angles.max()) for one in (common.neurons(run.objective, run.states[half]), first)]
            aligned = Conclusion(words, r"\max\theta_i(T_1)<\max\theta_i(0)", angles[0], "<", angles[1], tag="reconstructed",
                                 error=64 * _EPS)
        over = bool(run.loss[-1] <= _ARRIVED * last.target**2)
        sizes = last.lengths * setting.n / last.target
        note = f"n |w_i|/|v| from {sizes.min():.3g} to {sizes.max():.3g} at the end" + ("" if over else ": a longer run would decide")
        reached = Conclusion("at some record all lengths are between |v|/(3n) and 3|v|/n", self.latex,
                             fact=True if start is not None else False if over else None,
                             note=note if start is None else f"first at flow time {run.times[start]:.4g}")
        stays = None if start is None else all(common.balanced(common.neurons(run.objective, one)) for one in run.states[start:])
        kept = Conclusion("and they stay so to the end of the run", fact=stays, tag="reconstructed", strengthening=True,
                          note="the local phase has not begun: a longer run would decide" if stays is None else "")
        return [aligned, reached, kept]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        run = setting.run
        for name, record in (("half grown", grown(run)), ("local phase", common.local_phase(run))):
            if record is not None:
                at = common.neurons(run.objective, run.states[record])
                found |= {f"{name}: flow time": float(run.times[record]), f"{name}: largest angle": float(at.angles.max()),
                          f"{name}: n |w_i|/|v|": [float(x) * setting.n / at.target for x in (at.lengths.min(), at.lengths.max())]}
        return found


@register
class Balancing(_FromSmallStart):
    r"""Automatic balancing: however different the lengths of the start are, the neurons enter the local phase within a factor 9.

    Published without a number; 9 is what the published interval of the lengths leaves.
    """

    name = "xu2023.balancing"
    title = "Automatic balancing"
    statement = "When the local phase begins the longest neuron is at most 9 times as long as the shortest."
    latex = r"\frac{\max_i\|w_i(T_2)\|}{\min_i\|w_i(T_2)\|}\le9"

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run = setting.run
        start, over = common.local_phase(run), run.loss[-1] <= _ARRIVED * setting.objective.length**2
        if start is None and not over:
            return [Conclusion("the lengths are within a factor 9", self.latex, fact=None,
                               note="the local phase has not begun: a longer run would decide")]
        record = len(run) - 1 if start is None else start  # arrived without having been in the interval: the end stands for T_2
        return [Conclusion("the lengths are within a factor 9", self.latex, _ratio(setting, record), "<=", 9.0, error=64 * _EPS)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        last = len(setting.run) - 1
        return {"longest over shortest at the start": _ratio(setting, 0), "longest over shortest at the end": _ratio(setting, last)}


def _ratio(setting: Setting, record: int) -> float:
    lengths = common.neurons(setting.objective, setting.run.states[record]).lengths
    return float(lengths.max() / lengths.min()) if lengths.min() > 0 else math.inf


@register
class Potential(Theorem):
    r"""Late in a flow the pairwise distances across the target fall like 1/T and the loss like their cube.

    :math:`Z=\sum_{i<j}\|z_i-z_j\|`, :math:`z_i=w_i-\langle w_i,\bar v\rangle\bar v`. That the proof's potential is made of the pairwise
    distances is published; Z itself is recalled. Near the optimum the motion across the target is homogeneous of second order, so that
    self-similar solutions have :math:`Z\propto1/T`, and the loss is of third order; tested is whether :math:`ZT` and :math:`L/Z^3` level
    off.
    """

    name = "xu2023.potential"
    title = "Pairwise distances"
    source = common.PAPER
    statement = ("Late in a flow of two neurons or more the sum Z of pairwise distances across the target falls like 1/T, and the loss "
                 "like Z^3.")
    latex = r"Z=\sum_{i<j}\|z_i-z_j\|\asymp\frac1T,\qquad L\asymp Z^3"
    tag = "reconstructed"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        ours = setting.run is not None and isinstance(setting.objective, ReLUNeuron)
        begins = ours and common.local_phase(setting.run) is not None
        return [common.neuron(setting.objective), common.several(setting), common.flow(setting),
                Hypothesis("the local phase has begun", self.latex, fact=begins or None, tag="published",
                           note="" if begins else "all lengths between |v|/(3n) and 3|v|/n: a longer run would decide")]

    def _series(self, setting: Setting) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        start: Any = common.local_phase(setting.run)  # which has begun: a hypothesis
        run = setting.run
        times = common.since(run, start)
        later = np.flatnonzero(times > 0)
        return times[later], np.array([common.neurons(run.objective, run.states[at]).potential for at in later]), run.loss[later], \
            run.loss_error[later]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        times, potential, loss, errors = self._series(setting)
        found = []
        with np.errstate(divide="ignore", invalid="ignore"):
            off = float(np.nanmax(errors / loss)) if len(loss) else 0.0
            for name, latex, values, error in (("Z T", r"ZT", potential * times, 1e-12), ("L/Z^3", r"L/Z^3", loss / potential**3, off)):
                for upper, words in ((True, "stays bounded"), (False, "stays away from 0")):
                    level, note = common.levels(times, values, upper, error)
                    found.append(Conclusion(f"{name} {words}", latex, fact=level, note=note, tag="reconstructed"))
        return found

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        times, potential, loss, _ = self._series(setting)
        if len(times) < 2:
            return {}
        slope = np.diff(np.log(potential[-2:]))[0] / np.diff(np.log(times[-2:]))[0]
        return {"Z T at the end": float(potential[-1] * times[-1]), "L/Z^3 at the end": float(loss[-1] / potential[-1] ** 3),
                "d ln Z/d ln T at the end": float(slope)}

    def examples(self) -> dict[str, Example]:
        return {"three": Example("verified", lambda: {"subject": example_flow()}, "n=3, d=5"),
                "short": Example("undecided", lambda: {"subject": example_flow(t_end=0.1)}, "the neurons have not grown yet"),
                "one neuron": Example("vacuous", lambda: {"subject": example_flow(1, 5, 50.0)}, "n=1 has no pair")}
