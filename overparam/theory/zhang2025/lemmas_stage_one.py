"""Lemmas D.3 (how likely a random start is as Theorem 3.5 wants it) and D.4 (the first stage from there)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from overparam.state import State
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common, cubic, far_line, far_start
from overparam.theory.zhang2025.lemmas_b import GradientPoint, at_target

__all__ = ["LemmaD3", "LemmaD4", "conditions_hold"]

_DRAWS = 4000
_CONFIDENCE = 0.999  # of each point's interval
_EPS = float(np.finfo(np.float64).eps)


def conditions_hold(deviations: np.ndarray, distance: float) -> np.ndarray:
    r"""Whether starts :math:`\mu+z_i`, :math:`\mu-\mu^*=M_0e_1`, meet conditions (1) and (2) of Theorem 3.5 as reconstructed.

    (1) :math:`\|z_i\|\le M_0^{1/3}`; (2) one is nearer the target than all others by :math:`\frac12M_0^{-1/3}`. Distances enter by their
    excess over :math:`M_0`, :math:`(2M_0z_1+\|z\|^2)/(\|\mu+z-\mu^*\|+M_0)`, which does not cancel.

    Parameters
    ----------
    deviations : (..., n, d) array
        :math:`z_i`.
    distance : float
        :math:`M_0`.

    Returns
    -------
    (...) bool array

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.zhang2025.lemmas_stage_one import conditions_hold
    >>> conditions_hold(np.array([[[-1.0], [0.0]], [[-0.01], [0.0]]]), 1e3).tolist()     # 1e3**(-1/3) / 2 = 0.05
    [True, False]
    """
    squares = (deviations**2).sum(axis=-1)
    norms = np.sqrt(np.maximum(distance**2 + 2 * distance * deviations[..., 0] + squares, 0.0))
    excess = np.sort((2 * distance * deviations[..., 0] + squares) / (norms + distance), axis=-1)
    gap = excess[..., 1] - excess[..., 0] if excess.shape[-1] > 1 else np.full(excess.shape[:-1], np.inf)
    near = gap >= 0.5 * distance ** (-1 / 3)
    found: np.ndarray = near & (np.sqrt(squares.max(axis=-1)) <= distance ** (1 / 3))
    return found


class RandomStart(NamedTuple):
    """n parameters from N(mu, I_d), mu at this distance from the target; and a seed."""

    n: int
    d: int
    distance: float
    seed: int


@register
class LemmaD3(Inequality):
    r"""Lemma D.3: a start :math:`\mu_i\sim N(\mu,I_d)` meets Theorem 3.5's conditions with probability at least :math:`1-n^2M_0^{-1/3}`.

    By 4000 draws at each point, with the lower end of a 99.9 % Clopper-Pearson interval. The bound is published; the conditions' exponents
    are reconstructed (:func:`conditions_hold`).
    """

    name = "zhang2025.lemma_d_3"
    title = "Lemma D.3 (random starts)"
    source = common.PAPER
    statement = "A random start meets the conditions of Theorem 3.5 with probability at least 1 - n^2 M0^(-1/3)."
    latex = r"\Pr\ge1-n^2M_0^{-1/3}"
    bounds = (Bound("the conditions, as reconstructed, hold with probability >= 1 - n^2 M0^(-1/3)", latex, ">=", tag="reconstructed"),)
    scales = (2.0, 10.0, 1e2, 1e4, 1e6)
    samples, shapes = 12, 3

    def sample(self, rng: np.random.Generator, scale: float) -> RandomStart:
        n, d = int(rng.choice([2, 3, 5])), int(rng.choice([1, 2, 3, 5]))
        return RandomStart(n, d, scale * float(n) ** 6, int(rng.integers(2**32)))  # from n^6 on the bound is above 0

    supposes = common.of_students

    def point(self, setting: Setting, state: State) -> RandomStart:
        mean = state.centre + state.true_deviations.mean(axis=0)
        return RandomStart(setting.n, setting.d, float(np.linalg.norm(mean)), self.seed)

    def hypotheses_at(self, point: RandomStart) -> list[Hypothesis]:
        return [Hypothesis("there are at least two students", r"n\ge2", point.n, ">=", 2)]

    def sides(self, point: RandomStart) -> tuple[float, float, float]:
        from scipy.special import betaincinv

        draws = np.random.default_rng(point.seed).standard_normal((_DRAWS, point.n, point.d))
        seen = int(conditions_hold(draws, point.distance).sum())
        low = float(betaincinv(seen, _DRAWS - seen + 1, (1 - _CONFIDENCE) / 2)) if seen else 0.0
        high = float(betaincinv(seen + 1, _DRAWS - seen, (1 + _CONFIDENCE) / 2)) if seen < _DRAWS else 1.0
        share = seen / _DRAWS
        return share, 1 - point.n**2 * point.distance ** (-1 / 3), max(share - low, high - share)

    def examples(self) -> dict[str, Example]:
        obj, start = at_target(1), [[1000.0], [1000.0]]
        return {**super().examples(), "n=2, M0=1000": Example("verified", lambda: {"subject": obj, "params0": start}, "bound 0.6"),
                "n=1": Example("vacuous", lambda: {"subject": obj, "params0": [[1000.0]]}, "one student has nothing to compare with")}


@register
class LemmaD4(Inequality):
    r"""Lemma D.4 (first stage), reconstructed: :math:`\|\nabla_{i_0}L-2\mu_{i_0}\|` and :math:`\|\nabla_jL\|` are exponentially small.

    The paper's exponent is not known. From the reconstructed conditions of Theorem 3.5 follows one: at the target the log odds of
    :math:`i_0` are :math:`G\gtrsim\frac12M_0^{2/3}` with a standard deviation of at most :math:`s\le2M_0^{1/3}`, so that
    :math:`E[w_j]\lesssim e^{-G^2/(2s^2)}=e^{-M_0^{2/3}/32}`. Tested is :math:`M_0^3e^{-cM_0^{2/3}}` with c = 1/32 along
    :math:`M_0\to\infty`, at distances that the theorem is about (its :math:`M_0>10^9\sqrt d\,n^{10}`), for students on a line, whose
    gradients are known there in logarithms (:mod:`overparam.theory.zhang2025.far_line`). Lines across the way to the target, with the
    gap that condition (2) just admits, come within a per cent of that exponent, so that one a tenth larger is contradicted.
    `scales` are multiples of the least distance.
    """

    name = "zhang2025.lemma_d_4"
    title = "Lemma D.4 (first stage)"
    source = common.PAPER + "; its exponent is lost, M0^(2/3)/32 is this library's"
    statement = ("From the starts of Theorem 3.5 the nearest is drawn to the target as if alone, and the others stand, up to "
                 "M0^3 exp(-M0^(2/3)/32).")
    latex = r"\|\nabla_{i_0}L-2\mu_{i_0}\|,\ \|\nabla_jL\|\le M_0^3e^{-cM_0^{2/3}},\ c=\tfrac1{32}"
    tag = "reconstructed"
    constants = (Constant("c", 1 / 32, "derived"),)
    bounds = (Bound("ln(M0^3/|grad - 2 mu|) of the nearest is at least c M0^(2/3)", r"\|\nabla_{i_0}L-2\mu_{i_0}\|\le M_0^3e^{-cM_0^{2/3}}",
                    ">=", constant="c", tag="derived"),
              Bound("ln(M0^3/|grad|) of the others is at least c M0^(2/3)", r"\|\nabla_jL\|\le M_0^3e^{-cM_0^{2/3}}", ">=", constant="c",
                    tag="derived"))
    scales = (2.0, 20.0, 2e2, 2e3, 2e4, 2e5)
    samples, shapes = 24, 6

    def sample(self, rng: np.random.Generator, scale: float) -> GradientPoint:
        """On a line across the way to the target, or (d = 1) on it; half of them with no more than the gap that condition (2) asks for."""
        n, d = int(rng.choice([2, 3])), int(rng.integers(1, 4))
        distance = scale * far_start.least_distance(n, d)
        third, more = distance ** (1 / 3), float(rng.exponential()) * float(rng.integers(2))
        if d == 1:
            places = np.concatenate([[0.0], 0.5 * (1.001 + more) / third + np.cumsum(rng.uniform(0, third / n, n - 1))])
            return GradientPoint(at_target(1), State(centre=np.array([distance]), deviations=places[:, None]), np.zeros((n, 1)))
        # in units of M0^(1/3): squared distances from the target's foot on the line differ by twice the gap
        places = np.concatenate([[-0.999], 0.999 - 0.1 * np.sort(rng.uniform(0, 1, n - 1) ** 2)])
        t = float(places[1:].min() - places[0])
        foot = places[0] + (t * t - (1.001 + more)) / (2 * t)
        centre, deviations = np.zeros(d), np.zeros((n, d))
        deviations[:, 0] = third * places
        centre[:2] = -third * foot, distance
        return GradientPoint(at_target(d), State(centre=centre, deviations=deviations), np.zeros((n, d)))

    def point(self, setting: Setting, state: State) -> GradientPoint:
        return GradientPoint(setting.objective, state, np.zeros((state.n, state.k)))

    def hypotheses_at(self, point: GradientPoint) -> list[Hypothesis]:
        distance, _, size, gap = _conditions(point)
        n, d = point.state.n, point.state.d
        return [*point.hypotheses(), Hypothesis("there are at least two students", r"n\ge2", n, ">=", 2),
                Hypothesis("the start is far from the target, as in Theorem 3.5", r"M_0>10^9\sqrt d\,n^{10}", distance, ">",
                           far_start.least_distance(n, d), tag="reconstructed"),
                Hypothesis("all start within M0^(1/3) of their mean", r"\|\mu_i-\mu\|\le M_0^{1/3}", size, "<=", distance ** (1 / 3),
                           tag="reconstructed"),
                Hypothesis("one is nearer the target than all others by M0^(-1/3)/2", r"\|\mu_j\|\ge\|\mu_{i_0}\|+\frac12M_0^{-1/3}",
                           gap, ">=", 0.5 * distance ** (-1 / 3) if distance > 0 else math.inf, tag="reconstructed")]

    def sides(self, point: GradientPoint) -> list[tuple[float, float, float]]:
        distance, near, _, _ = _conditions(point)
        if not distance > 0 or point.state.n < 2:
            return [(math.nan, math.nan, math.nan)] * 2
        right, most = distance ** (2 / 3), 3 * math.log(distance)
        line = far_line.line_through(point.state, near)
        if line is not None:
            left, off = far_line.near_remainder(line)
            far, error = max(far_line.far_gradient(line, j) for j in range(point.state.n) if j != near)
        else:
            grad, errors = point.gradient()
            norms = np.linalg.norm(grad, axis=1)
            norms[near] = -1.0
            j = int(np.argmax(norms))
            remainder, off = cubic.stage_one(point.state.coordinates, near)
            left, off, far, error = _log(remainder), _relative(off, remainder), _log(norms[j]), _relative(errors[j], norms[j])
        return [(most - left, right, off), (most - far, right, error)]

    def further(self, families: Sequence[np.ndarray]) -> dict[str, Any]:
        return {"32 c by scale: what the exponent over M0^(2/3)/32 may be": [
            round(32 * float((one[:, :, 0] / one[:, :, 1]).min()), 5) for one in families]}

    def examples(self) -> dict[str, Example]:
        obj = at_target(1)
        shape = np.array([[-0.5], [0.5]])

        def at(distance: float, width: float = 1.0) -> dict[str, Any]:
            return {"subject": obj, "params0": State(centre=np.array([distance]), deviations=width * shape)}

        return {**super().examples(), "at 2e12": Example("verified", lambda: at(2e12), "n=2, d=1, M0=2e12"),
                "sixty-four": Example("vacuous", lambda: at(64.0), "n=2, d=1, M0=64: it holds all the same"),
                "no gap": Example("vacuous", lambda: at(2e12, 1e-6), "both are equally near")}


def _conditions(point: GradientPoint) -> tuple[float, int, float, float]:
    """M0 from the mean, the nearest, the largest distance from the mean, and the gap to the second nearest."""
    state = point.state
    deviations = state.true_deviations - state.true_deviations.mean(axis=0)
    centre = state.centre + state.true_deviations.mean(axis=0)
    distance = float(np.linalg.norm(centre))
    excess = (2 * deviations @ centre + (deviations**2).sum(axis=1)) / (np.linalg.norm(centre + deviations, axis=1) + distance)
    order = np.argsort(excess)
    gap = float(excess[order[1]] - excess[order[0]]) if len(order) > 1 else math.inf
    return distance, int(order[0]), float(np.linalg.norm(deviations, axis=1).max()), gap


def _log(value: float) -> float:
    return math.log(value) if value > 0 else (math.nan if math.isnan(value) else -math.inf)


def _relative(error: float, value: float) -> float:
    """Error of a logarithm: without end where the number is not above its error."""
    return math.log1p(error / (value - error)) if value > error else math.inf
