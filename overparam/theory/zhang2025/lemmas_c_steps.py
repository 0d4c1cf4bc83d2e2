"""Lemma C.15: what one step does to the closest far student."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from overparam.state import State
from overparam.theory.inequality import Bound
from overparam.theory.report import Constant
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_gradients import start
from overparam.theory.zhang2025.lemmas_c_points import FarLemma, FarPoint

__all__ = ["LemmaC15"]

_EPS = np.finfo(np.float64).eps


@register
class LemmaC15(FarLemma):
    r"""Lemma C.15: a step moves the closest far student outwards, by an exponentially small amount.

    The power of M is not known; with 2 the constant levels off [derived]. The difference is formed from the step, not from the two
    distances, which agree in all their digits. Both sides are divided by :math:`\eta M^2e^{-M^2/8}`.
    """

    name = "zhang2025.lemma_c_15"
    title = "Lemma C.15"
    source = common.PAPER
    statement = "In a step M grows, by no more than the order eta M^2 e^(-M^2/8)."
    latex = r"0\le M^+-M\le C\,\eta\,M^2e^{-M^2/8}"
    constants = (Constant("C", None, "unknown"),)
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("M does not fall", r"M^+-M\ge0", relation=">="),
        Bound("it grows by an exponentially small amount", r"M^+-M\le C\,\eta\,M^2e^{-M^2/8}", constant="C", tag="reconstructed"))

    def sample(self, rng: np.random.Generator, scale: float) -> FarPoint:
        found: FarPoint = replace(super().sample(rng, scale), step_size=float(10 ** rng.uniform(-3, -0.5)))
        return found

    def point(self, setting: Setting, state: State) -> FarPoint:
        if setting.step_size is None:
            raise ValueError("Lemma C.15 is about a step of gradient descent: give step_size=, or a run of op.gradient_descent")
        return FarPoint.of(setting, state)

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        M, far, eta = point.M, point.far, point.step_size
        before, rows, errors = point.means[far], point.found.grad[far], point.errors[1][far]
        after = np.linalg.norm(before - eta * rows, axis=1)
        ahead = point.distances[far] - M
        ahead[ahead <= 4 * _EPS * M] = 0.0  # equally far
        unit = math.exp(min(M * M / 8, 700.0)) / (eta * M * M)
        with np.errstate(over="ignore"):
            moves = (-2 * eta * (before * rows).sum(axis=1) + eta**2 * (rows**2).sum(axis=1)) / (after + point.distances[far]) * unit
            totals = ahead * unit + moves
        j = int(totals.argmin())
        error = float(eta * errors[j] * unit + 8 * _EPS * abs(moves[j]))
        return [(float(totals[j]), 0.0, error), (float(totals[j]), 1.0, error)]

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "in the plane": Example("verified", lambda: start(step_size=0.1, C=1.0), "n=3, d=2, M=7, eta=0.1"),
                "not near": Example("vacuous", lambda: start(0.1, step_size=0.1), "the near student is at 0.1, too far for M=7")}
