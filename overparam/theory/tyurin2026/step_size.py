r"""This library's step-size theorem for a single Gaussian: :math:`\gamma\le1/(2\pi_{\max}\max(1,V_0))` and what it brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam._schedules import every
from overparam.drivers import gradient_descent
from overparam.objectives import ReverseFisher
from overparam.planning import Auto
from overparam.teachers import GaussianMixture
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common
from overparam.theory.tyurin2026.integrals import expectations

__all__ = ["StepSize", "largest_step", "log_distance_bound", "squared_distances"]

_EPS = float(np.finfo(np.float64).eps)
_LOOKED_AT = 10  # pairs of consecutive records, at most, at which the gain of one step is compared


def squared_distances(setting: Setting) -> np.ndarray:
    r""":math:`V=\sum_i\|\mu_i-\bar\mu\|^2` at the records of the run."""
    return np.array([float((state.coordinates**2).sum()) for state in setting.run.states])


def largest_step(total: float, heaviest: float) -> float:
    r"""Return :math:`1/(2\pi_{\max}\max(1,V_0))`.

    Examples
    --------
    >>> from overparam.theory.tyurin2026.step_size import largest_step
    >>> largest_step(total=5.0, heaviest=0.5)
    0.2
    """
    return 1 / (2 * heaviest * max(1.0, total))


def log_distance_bound(total: float, step: float, least: float, rank: int, steps: np.ndarray) -> np.ndarray:
    r"""Logarithm of the bound of :math:`V_k` that the theorem gives.

    By :math:`V_{k+1}\le V_k-2\gamma\min\{\frac12\pi_{\min}V_k,\frac1{4r}\pi_{\min}^2V_k^2\}`: as long as :math:`\pi_{\min}V>2r` it falls by
    the factor :math:`1-\gamma\pi_{\min}` a step; from then on its inverse rises by :math:`\gamma\pi_{\min}^2/(2r)`, so that
    :math:`V_k=O(r/(\gamma\pi_{\min}^2k))`. The map is increasing for the theorem's step sizes, which is why bounds may be put in.

    Parameters
    ----------
    total, step, least : float
        :math:`V_0`, :math:`\gamma` and :math:`\pi_{\min}`, all above 0.
    rank : int
        r; 0 for a single student, whose distance only falls by the factor.
    steps : (T,) array
        k.

    Returns
    -------
    (T,) array

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.tyurin2026.step_size import log_distance_bound
    >>> np.exp(log_distance_bound(total=1.0, step=0.5, least=0.5, rank=1, steps=np.array([0, 16]))).round(12).tolist()
    [1.0, 0.5]
    """
    steps, factor = np.asarray(steps, dtype=np.float64), math.log1p(-step * least)
    geometric = math.log(total) + steps * factor
    if rank == 0:
        return geometric
    lacking = math.log(2 * rank / least) - math.log(total)
    first = max(0, math.ceil(lacking / factor)) if lacking < 0 else 0
    start = math.exp(math.log(total) + first * factor)
    late = -np.log(1 / start + np.maximum(steps - first, 0.0) * step * least**2 / (2 * rank))
    return np.where(steps <= first, geometric, late)


@register
class StepSize(Theorem):
    r"""Gradient descent for a single Gaussian, from any start, with fixed weights of any kind.

    .. math:: \gamma\le\frac1{2\pi_{\max}\max(1,V_0)}\ \Rightarrow\ V_{k+1}\le V_k-2\gamma Q_k,\quad
              \min_{j<K}F_j\le\frac{V_0}{2\gamma K},\quad V_k=O\Big(\frac r{\gamma\pi_{\min}^2k}\Big)

    with :math:`V=\sum_i\|\mu_i-\bar\mu\|^2`, :math:`Q=E_{p_\mu}[\|v-\bar\mu\|^2+\|C\|_F^2]`, :math:`r=\min(d,n-1)`. From
    ``tyurin2026.law_lyapunov`` and ``tyurin2026.law_gradient_norm``: :math:`V^+=V-4\gamma Q+\gamma^2\sum\|\nabla_iF\|^2`. The last bound is
    compared with its constants (:func:`log_distance_bound`). The step size is this library's own: the paper's is not known.
    """

    name = "tyurin2026.law_step_size"
    title = "Step-size theorem of this library"
    source = common.OWN
    statement = ("With gamma at most 1/(2 pi_max max(1, V0)) a step of gradient descent lowers V, the sum of |mu_i - m|^2, by at least "
                 "2 gamma Q; so that min F is at most V0/(2 gamma K) and V is O(r/(gamma pi_min^2 k)).")
    latex = (r"\gamma\le\frac1{2\pi_{\max}\max(1,V_0)}\ \Rightarrow\ V_{k+1}\le V_k-2\gamma Q_k,\ \min_{j<K}F_j\le\frac{V_0}{2\gamma K},\ "
             r"V_k=O\Big(\frac r{\gamma\pi_{\min}^2k}\Big)")
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        words, latex = "the step size is small", r"\gamma\le1/(2\pi_{\max}\max(1,V_0))"
        if setting.step_size is None:
            small = Hypothesis(words, latex, tag="derived", note="no step size")
        else:
            total = float((setting.state.coordinates**2).sum())
            small = Hypothesis(words, latex, setting.step_size, "<=", largest_step(total, float(setting.weights.max())), tag="derived")
        return [*common.on_one_gaussian(setting), common.gradient_motion(setting, flows=False, tag="derived"), small,
                Hypothesis("all weights are positive", r"\pi_{\min}>0", float(setting.weights.min()), ">", 0.0, tag="derived")]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        run, total = setting.run, squared_distances(setting)
        if run.steps[-1] < 1 or total[0] == 0 or setting.step_size is None:
            return [Conclusion("V falls", r"V_{k+1}\le V_k-2\gamma Q_k", tag="derived", note="there is no step to look at, or V0 = 0")]
        # a gradient's relative error moves V by that much of a step; rounding by a few last digits of V
        slip = (16 * _EPS + _tol(setting)) * (1 + np.diff(run.steps))
        rises = np.diff(total) / np.maximum(total[:-1], 1e-300) - slip
        falls = Conclusion("V is never larger at a record than at the one before", r"V_{k+1}\le V_k", fact=bool(rises.max() <= 0),
                           tag="derived", note=f"largest relative increase beyond the steps' error: {max(float(rises.max()), 0.0):.3g}")
        return [falls, *self._gain(setting, total), self._least_loss(setting, total), self._distance(setting, total)]

    def _gain(self, setting: Setting, total: np.ndarray) -> list[Conclusion]:
        """What single steps gain, where records are consecutive, with Q on a grid of its own."""
        run, step, claims = setting.run, setting.step_size, []
        for place in np.flatnonzero(np.diff(run.steps) == 1)[:_LOOKED_AT]:
            exact = expectations(run.states[place].coordinates, setting.weights)
            claims.append((float(total[place] - total[place + 1]), self.gain() * step * exact.progress,
                           self.gain() * step * exact.progress_error + (64 * _EPS + _tol(setting)) * float(total[place])))
        if not claims:
            return []
        left, right, error = min(claims, key=lambda one: one[0] - one[1])
        return [Conclusion("a step lowers V by at least 2 gamma Q", r"V_k-V_{k+1}\ge2\gamma Q_k", left, ">=", right, tag="derived",
                           error=error, attained=True, note=f"the least room of {len(claims)} steps")]

    @staticmethod
    def gain() -> float:
        """Of gamma Q a step."""
        return 2.0

    @staticmethod
    def _least_loss(setting: Setting, total: np.ndarray) -> Conclusion:
        run = setting.run
        before = int(np.argmin(run.loss[:-1]))
        left, right = float(run.loss[before]), float(total[0] / (2 * setting.step_size * run.steps[-1]))
        words, latex = "the least loss is at most V0/(2 gamma K)", r"\min_{j<K}F_j\le V_0/(2\gamma K)"
        error = float(run.loss_error[before]) + 16 * _EPS * right
        if left > right and len(run) <= run.steps[-1]:  # steps without a record may have had less
            return Conclusion(words, latex, tag="derived", note=f"{left:.6g} at the records against {right:.6g}: record every step")
        return Conclusion(words, latex, left, "<=", right, tag="derived", error=error)

    @staticmethod
    def _distance(setting: Setting, total: np.ndarray) -> Conclusion:
        run, rank = setting.run, min(setting.d, setting.n - 1)
        bound = log_distance_bound(float(total[0]), setting.step_size, float(setting.weights.min()), rank, run.steps)
        with np.errstate(divide="ignore"):
            left = np.log(total)
        worst = 1 + int(np.argmax(left[1:] - bound[1:]))
        return Conclusion("V stays below its bound of order r/(gamma pi_min^2 k)", r"V_k=O(r/(\gamma\pi_{\min}^2k))", float(left[worst]),
                          "<=", float(bound[worst]), tag="derived", logarithmic=True, attained=True,
                          error=(64 * _EPS + _tol(setting)) * (1 + int(run.steps[worst])), note=f"least room at step {run.steps[worst]}")

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        total = squared_distances(setting)
        return {"V at the start": float(total[0]), "V at the end": float(total[-1]),
                "largest step size": largest_step(float(total[0]), float(setting.weights.max()))}

    def examples(self) -> dict[str, Example]:
        line, uneven = common.at_target(1, tol=1e-8), common.at_target(2, np.array([0.2, 0.3, 0.5]), tol=1e-8)

        def run(step: float) -> dict[str, Any]:
            return {"subject": gradient_descent(line, [[2.0], [-1.0], [1.5]], step_size=step, steps=100, record=every(1))}

        def plane() -> dict[str, Any]:
            start = [[1.0, 0.5], [-0.5, 1.0], [0.2, -0.8]]
            return {"subject": gradient_descent(uneven, start, step_size=0.25, steps=100)}

        def mixture() -> dict[str, Any]:
            two = ReverseFisher(GaussianMixture([[-1.0], [1.0]]), rule=Auto(tol=1e-8))
            return {"subject": gradient_descent(two, [[1.0], [0.0]], step_size=0.1, steps=2)}

        return {"line": Example("verified", lambda: run(0.2), "n=3, d=1, V0=7.25"),
                "unequal weights": Example("verified", plane, "n=3, d=2"),
                "larger step": Example("vacuous", lambda: run(1.0), "a step size above the bound (V falls all the same)"),
                "mixture": Example("vacuous", mixture, "two components"),
                "no run": Example("undecided", lambda: {"subject": line, "params0": [[2.0], [-1.0]], "step_size": 0.1},
                                  "the hypotheses alone")}


def _tol(setting: Setting) -> float:
    """Relative error of the library's gradients."""
    return float(getattr(getattr(setting.objective, "rule", None), "tol", 0.0))
