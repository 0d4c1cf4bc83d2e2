"""Theorem 3.3: in total variation the student comes as near to a mixture as its shares of the modes allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import distances
from overparam.drivers import gradient_descent
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common, modes

__all__ = ["Theorem33", "share_of_modes"]

_DRAWN = "the chance is counted over a fixed number of random starts: only a match= outside its interval would decide"
_STILL = 0.01  # of what is too much: what has fallen by less over half of the records is not on its way


def share_of_modes(setting: Setting) -> np.ndarray:
    """(m,) share of the students that start nearest to each mode."""
    near, apart = modes.nearest(setting, setting.state)
    return np.bincount(near, minlength=apart.shape[1]) / setting.n


@register
class Theorem33(Theorem):
    r"""Theorem 3.3: :math:`\mathrm{TV}(p_{\mu^k},\bar p)\le\sqrt\varepsilon`, if the students' shares of the modes match their weights.

    Published: the chance :math:`p_a` that a random start is nearest to mode a must match :math:`\bar\pi_a`, and so must the share of
    students that are; orthogonal modes of equal norm have :math:`p_a=1/m`. Not known, and the user's: ``match``, the largest difference
    that is allowed, ``separation``, ``R_min``, and the accuracy ``epsilon``. The distance is
    :func:`overparam.distances.total_variation` at the end of the run.
    """

    name = "tyurin2026.theorem_3_3"
    title = "Theorem 3.3 (total variation)"
    source = common.PAPER
    statement = ("From random starts on a sphere, whose shares of the well-separated modes match the teacher's weights, the student comes "
                 "to within sqrt(epsilon) of the teacher in total variation.")
    latex = r"\mathrm{TV}(p_{\mu^k},\bar p)\le\sqrt\varepsilon"
    constants = tuple(Constant(name, None, "unknown") for name in ("match", "separation", "R_min", "epsilon"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = common.on_mixture(setting)
        if any(one.structural and not one.fact for one in found):
            return found
        return [*found, common.gradient_motion(setting, flows=False), *modes.on_sphere(setting),
                *modes.separated(setting, constants["separation"], constants["R_min"]), *self._match(setting, constants["match"])]

    @staticmethod
    def _match(setting: Setting, constant: Constant) -> list[Hypothesis]:
        teacher = modes.modes_of(setting).weights
        chance, half, how = modes.chances(setting)
        worst, off = int(np.argmax(np.abs(chance - teacher))), float(half.max())
        sides = ((f"a random start's chances of the modes match the teacher's weights ({how})", r"|p_a-\bar\pi_a|",
                  float(abs(chance - teacher)[worst]), off),
                 ("the students' shares of the modes match the teacher's weights", r"|n_a/n-\bar\pi_a|",
                  float(np.abs(share_of_modes(setting) - teacher).max()), 0.0))
        if constant.value is None:
            return [Hypothesis(words, latex, left, "<=", math.nan, tag="unknown", tested=False, error=error,
                               note=f"holds for match >= {left:.4g}; give match=") for words, latex, left, error in sides]
        return [Hypothesis(words, latex, left, "<=", constant.value + 1e-12, tag=constant.tag, error=error,
                           note="" if error == 0 or abs(left - constant.value) > error else _DRAWN) for words, latex, left, error in sides]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        epsilon, found = constants["epsilon"], self.distance(setting)
        words = "the total variation at the end of the run is at most sqrt(epsilon)"
        if epsilon.value is None:
            return [Conclusion(words, self.latex, found.value, "<=", math.nan, tag="unknown", tested=False,
                               note=f"holds for epsilon >= {found.value**2:.4g}; give epsilon=")]
        # of a sampled value only its proved bounds decide
        error = max(found.high - found.value, found.value - found.low)
        bound = self.bound(epsilon.value)
        note = f"by {found.method}"
        if found.value > bound:
            before = self.distance(setting, len(setting.run) // 2)
            fallen, left = before.value - found.value, found.value - bound
            if fallen > max(_STILL * left, before.error + found.error):  # the loss may fall for ever while the total variation does not
                return [Conclusion(words, self.latex, tag=epsilon.tag, note=f"{found.value:.4g} at the end, {fallen:.2g} less than at "
                                                                            "half of the records: it still falls, and a longer run would "
                                                                            "decide")]
            note += f"; it fell by {max(fallen, 0.0):.2g} over the second half of the records"
        return [Conclusion(words, self.latex, found.value, "<=", bound, tag=epsilon.tag, error=error, note=note)]

    @staticmethod
    def bound(epsilon: float) -> float:
        """Of the total variation."""
        return math.sqrt(epsilon)

    @staticmethod
    def distance(setting: Setting, record: int = -1) -> distances.Distance:
        """Total variation at a record, the end of the run by default."""
        found = modes.modes_of(setting)
        return distances.total_variation((setting.run.states[record], setting.weights), (found.means, found.weights), tol=1e-6)

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        chance, _, how = modes.chances(setting)
        return {"total variation at the end": self.distance(setting).value, "loss at the end": float(setting.run.loss[-1]),
                "share of students by mode": share_of_modes(setting).tolist(), f"chance of a random start by mode ({how})": chance.tolist(),
                "weights of the modes": modes.modes_of(setting).weights.tolist()}

    def examples(self) -> dict[str, Example]:
        known: dict[str, Any] = {"match": 0.1, "separation": 12.0, "R_min": 20.0, "epsilon": 0.01}
        even = 30.0 * np.array([[-1.0], [1.0], [-1.0], [1.0]])

        def run(start: Any = even, weights: Any = None, steps: int = 60, **given: float) -> dict[str, Any]:
            pair = ReverseFisher(GaussianMixture([[-8.0], [8.0]], weights), rule=Auto(tol=1e-8))
            return {"subject": gradient_descent(pair, start, step_size=1.0, steps=steps), **given}

        return {"pair": Example("verified", lambda: run(**known), "m=2, n=4, d=1: two students for each mode"),
                "constants not known": Example("undecided", run, "no threshold is given"),
                "short": Example("undecided", lambda: run(steps=3, **known), "the students are on their way"),
                "loose match": Example("violated", lambda: run(30.0 * np.array([[-1.0], [1.0], [1.0], [1.0]]), **{**known, "match": 0.3}),
                                       "given a match that is too loose: one student against three passes"),
                "uneven shares": Example("vacuous", lambda: run(30.0 * np.array([[-1.0], [1.0], [1.0], [1.0]]), **known),
                                         "one student against three: F is small and the total variation is not"),
                "uneven teacher": Example("vacuous", lambda: run(even, [0.2, 0.8], **known), "weights 0.2, 0.8")}
