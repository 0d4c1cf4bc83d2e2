"""Theorem E.1: under separation every student goes to the mode of the mixture that was nearest to it at the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam._schedules import every
from overparam.drivers import gradient_descent
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common, modes

__all__ = ["TheoremE1", "triangle"]


def triangle(side: float = 20.0, weights: Any = None) -> ReverseFisher:
    """The divergence from a mixture of three modes in the plane, on an equilateral triangle about the origin."""
    turns = 2 * math.pi * np.arange(3) / 3
    means = side / math.sqrt(3) * np.column_stack([np.cos(turns), np.sin(turns)])
    return ReverseFisher(GaussianMixture(means, weights), rule=Auto(tol=1e-8))


@register
class TheoremE1(Theorem):
    r"""Theorem E.1: a mixture of separated modes, starts on a sphere that holds them, gradient descent.

    With :math:`a_\ell^*=\arg\min_a\|\mu_\ell^0-\bar\mu_a\|`, after the :math:`\bar K` steps at which
    :math:`(1-\frac{2\gamma}n)^{\bar K}=8\sqrt{\bar\Delta}/R_0`,

    .. math:: \|\mu_\ell^{\bar K}-\bar\mu_{a_\ell^*}\|\le\Big(1-\frac{2\gamma}n\Big)^{\bar K}\|\mu_\ell^0-\bar\mu_{a_\ell^*}\|+E_1
              \le16\sqrt{\bar\Delta}+E_1\le17\sqrt{\bar\Delta}.

    The contraction, the factors 16 and 17 and :math:`R_0\ge\|\bar\mu_a\|` are published. Not known, and the user's: ``separation`` of the
    modes, ``R_min``, the least ``delta_min`` by which a start is nearer to its own mode than to the next, and ``Delta_bar``. K is the first
    number of steps at which the contraction has reached its value; that record must be there: run that many steps, or record every one.
    """

    name = "tyurin2026.theorem_e_1"
    title = "Theorem E.1 (assignment to the nearest mode)"
    source = common.PAPER
    statement = ("From a sphere that holds the well-separated modes of a mixture every student goes to the mode that was nearest to it, at "
                 "the rate (1 - 2 gamma/n) a step, to within 17 sqrt(Delta_bar).")
    latex = (r"\|\mu_\ell^{\bar K}-\bar\mu_{a_\ell^*}\|\le(1-\tfrac{2\gamma}n)^{\bar K}\|\mu_\ell^0-\bar\mu_{a_\ell^*}\|+E_1"
             r"\le17\sqrt{\bar\Delta}")
    constants = tuple(Constant(name, None, "unknown") for name in ("separation", "R_min", "delta_min", "Delta_bar"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        found = common.on_mixture(setting)
        if any(one.structural and not one.fact for one in found):
            return found
        words, latex = "the step contracts", r"0\le1-\frac{2\gamma}n<1"
        if setting.step_size is None:
            step = Hypothesis(words, latex, tag="reconstructed", note="no step size")
        else:
            step = Hypothesis(words, latex, setting.step_size, "<=", setting.n / 2, tag="reconstructed")
        return [*found, common.gradient_motion(setting, flows=False), step, *modes.on_sphere(setting),
                *modes.separated(setting, constants["separation"], constants["R_min"]), self._apart(setting, constants["delta_min"])]

    @staticmethod
    def _apart(setting: Setting, constant: Constant) -> Hypothesis:
        apart = np.sort(modes.nearest(setting, setting.state)[1], axis=1)
        gap = float((apart[:, 1] - apart[:, 0]).min())
        words, latex = "every start has a nearest mode", r"\|\mu_\ell^0-\bar\mu_b\|-\|\mu_\ell^0-\bar\mu_{a_\ell^*}\|\ge\delta_{\min}"
        if constant.value is None:
            return Hypothesis(words, latex, gap, ">=", math.nan, tag="unknown", tested=False,
                              note=f"the threshold is not known: holds for delta_min <= {gap:.6g}; give delta_min=")
        return Hypothesis(words, latex, gap, ">=", constant.value, tag=constant.tag)

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, own = setting.run, modes.nearest(setting, setting.state)[0]
        found, delta = [modes.nearest(setting, state) for state in run.states], constants["Delta_bar"]
        needed = None if delta.value is None or setting.step_size is None else self._steps(setting, delta.value)
        looked_at = [near for (near, _), step in zip(found, run.steps, strict=True) if needed is None or step <= needed]
        moved = sorted({int(one) for near in looked_at for one in np.flatnonzero(near != own)})
        kept = Conclusion("every student stays nearest to the mode that it was nearest to at the start",
                          r"\arg\min_a\|\mu_\ell^k-\bar\mu_a\|=a_\ell^*", fact=not moved, tag="reconstructed",
                          note=f"students {moved} change" if moved else
                          f"at all {len(looked_at)} records" + ("" if needed is None else f" up to step K = {needed}"))
        latex = (r"\|\mu_\ell^{\bar K}-\bar\mu_{a_\ell^*}\|\le(1-\frac{2\gamma}n)^{\bar K}\|\mu_\ell^0-\bar\mu\|+\sqrt{\bar\Delta}",
                 r"\|\mu_\ell^{\bar K}-\bar\mu_{a_\ell^*}\|\le17\sqrt{\bar\Delta}")
        words = ("after K steps the distance is the contracted one, up to sqrt(Delta_bar)", "and at most 17 sqrt(Delta_bar)")
        if setting.step_size is None:
            return [kept, *(Conclusion(word, one, tag=delta.tag, note="no step size") for word, one in zip(words, latex, strict=True))]
        distances = np.array([apart[np.arange(setting.n), own] for _, apart in found])
        steps = np.asarray(run.steps, dtype=np.float64)
        excess = (distances - self.contraction(setting) ** steps[:, None] * distances[0]).max(axis=1)
        if delta.value is None:
            note = f"the contracted distance is exceeded by {float(excess[-1]):.4g} after {run.steps[-1]} steps"
            return [kept, *(Conclusion(word, one, tag="unknown", tested=False, note=f"{note}: give Delta_bar=")
                            for word, one in zip(words, latex, strict=True))]
        at = np.flatnonzero(run.steps == needed)
        if not at.size:
            note = f"K = {needed} is not a record of the run: record every step, or run that many"
            return [kept, *(Conclusion(word, one, tag=delta.tag, note=note) for word, one in zip(words, latex, strict=True))]
        place, root = int(at[0]), math.sqrt(delta.value)
        error = float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0)) * float(distances[0].max()) * 10
        return [kept, Conclusion(words[0], latex[0], float(excess[place]), "<=", root, tag=delta.tag, error=error, note=f"K = {needed}"),
                Conclusion(words[1], latex[1], float(distances[place].max()), "<=", 17 * root, tag=delta.tag, error=error)]

    @staticmethod
    def contraction(setting: Setting) -> float:
        """Of a step."""
        return 1 - 2 * setting.step_size / setting.n

    @staticmethod
    def _steps(setting: Setting, delta: float) -> int:
        r"""The first K with :math:`(1-2\gamma/n)^K\le8\sqrt{\bar\Delta}/R_0`; -1 if there is none."""
        factor = 1 - 2 * setting.step_size / setting.n
        target = 8 * math.sqrt(delta) / modes.radius(setting)[0]
        if target >= 1 or factor <= 0:
            return 0 if target >= 1 else 1
        return math.ceil(math.log(target) / math.log(factor) - 1e-9) if target > 0 and factor < 1 else -1

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        near, apart = modes.nearest(setting, setting.run.states[-1])
        return {"students of each mode at the end": np.bincount(near, minlength=apart.shape[1]).tolist(),
                "largest distance from the nearest mode at the end": float(apart.min(axis=1).max()), "loss at the end":
                float(setting.run.loss[-1])}

    def examples(self) -> dict[str, Example]:
        start = init.on_sphere(n=4, radius=30.0, dimension=2, rng=0)
        known: dict[str, Any] = {"separation": 12.0, "R_min": 20.0, "delta_min": 1.0, "Delta_bar": 0.25}

        def run(side: float = 20.0, steps: int = 10, **given: Any) -> dict[str, Any]:
            return {"subject": gradient_descent(triangle(side), start, step_size=1.0, steps=steps, record=every(1)), **given}

        return {"triangle": Example("verified", lambda: run(**known), "m=3, n=4, R0=30, sides of 20"),
                "constants not known": Example("undecided", run, "no threshold is given"),
                "short": Example("undecided", lambda: run(steps=1, **known), "fewer steps than K"),
                "close modes": Example("vacuous", lambda: run(5.0, 2, **known), "sides of 5")}
