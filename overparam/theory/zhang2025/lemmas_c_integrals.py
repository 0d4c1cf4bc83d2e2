"""Lemmas C.2 to C.4: how little a far student weighs on average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from overparam.drivers import gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.inequality import Bound
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, register
from overparam.theory.zhang2025 import common
from overparam.theory.zhang2025.lemmas_c_points import FarLemma, FarPoint, log_mean, tail_nodes

__all__ = ["LemmaC2", "LemmaC3", "LemmaC4", "log_sharp", "log_split", "log_weight"]

_ERROR = 1e-9  # of the logarithm of a tail integral: ten times its bound, for rounding
_LOG_2PI = math.log(2 * math.pi)


def log_weight(point: FarPoint, j: int, power: int = 0) -> float:
    r""":math:`\ln\mathbb E[w_j(x)\,\|x\|^{power}]`, x in the students' span."""
    nodes, log_weights, log_w = tail_nodes(point)
    values = log_w[:, j]
    if power:
        with np.errstate(divide="ignore"):
            values = values + 0.5 * power * np.log((nodes**2).sum(axis=1))
    return log_mean(log_weights, values)


def log_sharp(point: FarPoint, j: int) -> float:
    r"""ln of the library's sharp bound on :math:`\mathbb E\,w_j`, whatever the other far students are.

    Let D be the distance from the near student, :math:`b=D/2+\kappa` that of the hyperplane on which both weigh the same
    (:meth:`FarPoint.crossing`). Then :math:`w_j\le1/(1+e^{-D(\langle u,x\rangle-b)})`, and with :math:`\langle u,x\rangle=b+s`

    .. math:: \mathbb E\,w_j\le\varphi(b)\int e^{-s^2/2}\frac{\cosh\kappa s}{2\cosh(Ds/2)}ds\le\varphi(b)\,\frac{\pi}{D\cos(\pi\kappa/D)} .

    With the near student on the target that is :math:`\sqrt{\pi/2}\,e^{-r^2/8}/r`, the limit law itself.
    """
    D, b, kappa = point.crossing(j)
    return -0.5 * (b * b + _LOG_2PI) + math.log(math.pi / D) - math.log(math.cos(math.pi * kappa / D))


def log_split(point: FarPoint, j: int) -> float:
    r"""ln of what splitting at the crossing gives: :math:`P[\langle u,x\rangle\ge b]+e^{D^2/2-Db}P[\langle u,x\rangle\le b-D]`."""
    from scipy.special import log_ndtr

    D, b, _ = point.crossing(j)
    return float(np.logaddexp(log_ndtr(-b), D * D / 2 - D * b + log_ndtr(b - D)))


def _planar() -> dict[str, Any]:
    return {"subject": ScoreMatching(Gaussian([0.0, 0.0]), rule=Auto(tol=1e-8)), "params0": [[1e-4, 0.0], [7.0, 0.0], [3.0, -6.5]]}


def _close() -> dict[str, Any]:
    return {**_planar(), "params0": [[0.1, 0.0], [7.0, 0.0], [3.0, -6.5]]}


@register
class LemmaC2(FarLemma):
    r"""Lemma C.2: a far student weighs :math:`O(e^{-M^2/8})` on average, also times powers of :math:`\|x\|`."""

    name = "zhang2025.lemma_c_2"
    title = "Lemma C.2"
    source = common.PAPER
    statement = "With one student near the target and the others at distance at least M, every far weight is of the order e^(-M^2/8)."
    latex = r"\mathbb E\,[w_j\cdots]\lesssim e^{-M^2/8}"
    constants = (Constant("C_0", None, "unknown"), Constant("C_2", None, "unknown"))
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("a far weight is small on average", r"\mathbb E\,w_j\le C_0e^{-M^2/8}", constant="C_0", logarithmic=True),
        Bound("so it is times |x|^2", r"\mathbb E\,w_j\|x\|^2\le C_2M^2e^{-M^2/8}", constant="C_2", logarithmic=True, tag="reconstructed"),
        Bound("it is at most what splitting at the crossing gives", r"\mathbb E\,w_j\le\Pr[\langle u,x\rangle\ge b]+\dots", tag="derived",
              logarithmic=True),
        Bound("it is at most its limit law", r"\mathbb E\,w_j\le\varphi(b)\frac{\pi}{D\cos(\pi\kappa/D)}", tag="derived", logarithmic=True))

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        nodes, log_weights, log_w = tail_nodes(point)
        with np.errstate(divide="ignore"):
            squares = np.log((nodes**2).sum(axis=1))
        means = {int(j): log_mean(log_weights, log_w[:, j]) for j in point.far}
        second = max(log_mean(log_weights, log_w[:, j] + squares) for j in point.far)
        scale = -point.M**2 / 8

        def worst(bound: dict[int, float]) -> tuple[float, float, float]:
            j = max(means, key=lambda one: means[one] - bound[one])
            return means[j], bound[j], _ERROR

        return [(max(means.values()), scale, _ERROR), (second, scale + 2 * math.log(point.M), _ERROR),
                worst({j: log_split(point, j) for j in means}), worst({j: log_sharp(point, j) for j in means})]

    def examples(self) -> dict[str, Example]:
        obj = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))

        def run() -> dict[str, Any]:
            return {"subject": gradient_flow(obj, [[1e-5], [12.0], [-13.0]], t_end=1e3), "C_0": 1.0, "C_2": 1.0}

        return {**super().examples(), "in the plane": Example("verified", lambda: {**_planar(), "C_0": 1.0, "C_2": 1.0}, "n=3, d=2, M=7"),
                "a run": Example("verified", run, "all records of a flow, n=3, d=1"),
                "not near": Example("vacuous", _close, "the near student is at 0.1, too far for M=7")}


@register
class LemmaC3(FarLemma):
    r"""Lemma C.3: the same with powers of :math:`\|\mu_j\|`, which may be far larger than M."""

    name = "zhang2025.lemma_c_3"
    title = "Lemma C.3"
    source = common.PAPER
    statement = "With one student near the target and the others at distance at least M, E[w_j] |mu_j|^k is of the order M^k e^(-M^2/8)."
    latex = r"\mathbb E[w_j]\,\|\mu_j\|^k\lesssim M^ke^{-M^2/8}"
    constants = tuple(Constant(f"C_{k}", None, "unknown") for k in (1, 2, 3))
    bounds: ClassVar[tuple[Bound, ...]] = (
        *(Bound(f"a far weight times |mu_j|^{k} is small", rf"\mathbb E[w_j]\|\mu_j\|^{k}\le C_{k}M^{k}e^{{-M^2/8}}", constant=f"C_{k}",
                logarithmic=True, tag="reconstructed") for k in (1, 2, 3)),
        *(Bound(f"it is at most the limit law at distance M, k = {k}",
                rf"\mathbb E[w_j]\|\mu_j\|^{k}\le\sqrt{{\pi/2}}\,M^{k}\frac{{e^{{-y^2/8}}}}{{y\cos(\pi|a|/y)}},\ y=M-|a|", tag="derived",
                logarithmic=True) for k in (1, 2, 3)))

    def sides(self, point: FarPoint) -> Sequence[tuple[float, float, float]]:
        _, log_weights, log_w = tail_nodes(point)
        means = np.array([log_mean(log_weights, log_w[:, j]) for j in point.far])
        logs, M = np.log(point.distances[point.far]), point.M
        powers = [float((means + k * logs).max()) for k in (1, 2, 3)]
        return [*((left, k * math.log(M) - M * M / 8, _ERROR) for k, left in zip((1, 2, 3), powers, strict=True)),
                *((left, log_cut_off(M, float(point.distances.min()), k), _ERROR) for k, left in zip((1, 2, 3), powers, strict=True))]

    def examples(self) -> dict[str, Example]:
        ones = {f"C_{k}": 1.0 for k in (1, 2, 3)}
        return {**super().examples(), "in the plane": Example("verified", lambda: {**_planar(), **ones}, "n=3, d=2, M=7"),
                "not near": Example("vacuous", _close, "the near student is at 0.1, too far for M=7")}


def log_cut_off(R: float, near: float, k: int) -> float:
    r"""ln of a bound on :math:`\mathbb E[w_j]\,\|\mu_j\|^k` for all students at distance R or more, the near one at distance `near`.

    :func:`log_sharp` at its worst over directions is :math:`\sqrt{\pi/2}\,e^{-y^2/8}/(y\cos(\pi|a|/y))`, :math:`y=\|\mu_j\|-|a|`, and
    times :math:`(y+|a|)^k` it falls with y from :math:`y^2=4k` on.

    Raises
    ------
    ValueError
        If R is below :math:`2\sqrt k` + `near`, where it does not fall yet.
    """
    y = R - near
    if y * y < 4 * k:
        raise ValueError(f"R must be at least 2 sqrt(k) + near = {2 * math.sqrt(k) + near:.6g}; got {R!r}")
    return 0.5 * math.log(math.pi / 2) + k * math.log(R) - y * y / 8 - math.log(y * math.cos(math.pi * near / y))


@dataclass(frozen=True, eq=False)
class _Cut:
    """A state, one of its far students, by what it moves outwards, and a power."""

    point: FarPoint
    j: int
    factor: float
    k: int


@register
class LemmaC4(FarLemma):
    r"""Lemma C.4: what counts is the closest far student: contributions fall monotonically with the distance."""

    name = "zhang2025.lemma_c_4"
    title = "Lemma C.4"
    source = common.PAPER
    statement = ("A far student's contribution E[w_j] |mu_j|^k falls as it moves outwards, so that all beyond a cut-off count no more than "
                 "one at the cut-off.")
    latex = r"\|\mu_j\|\ge R\Rightarrow\mathbb E[w_j]\|\mu_j\|^k\le g_k(R),\ g_k\downarrow"
    tag = "reconstructed"
    samples = 40
    bounds: ClassVar[tuple[Bound, ...]] = (
        Bound("the contribution falls as the student moves outwards", r"\mathbb E[w_j(t\mu_j)]\,t^k\le\mathbb E[w_j(\mu_j)],\ t\ge1",
              tag="reconstructed", logarithmic=True),
        Bound("beyond a cut-off it is at most that at the cut-off", r"\mathbb E[w_j]\|\mu_j\|^k\le\sqrt{\pi/2}R^{k-1}e^{-R^2/8}(1+\dots)",
              tag="derived", logarithmic=True))

    def sample(self, rng: np.random.Generator, scale: float) -> _Cut:
        point = super().sample(rng, scale)
        return _Cut(point, int(point.far[rng.integers(len(point.far))]), 1 + 0.5 * rng.random() / scale, int(rng.integers(0, 5)))

    def point(self, setting: Setting, state: State) -> _Cut:
        point = FarPoint.of(setting, state)
        return _Cut(point, point.closest if state.n > 1 else 0, 1.1, 2)

    def hypotheses_at(self, point: _Cut) -> list[Hypothesis]:
        return super().hypotheses_at(point.point)

    def sides(self, point: _Cut) -> Sequence[tuple[float, float, float]]:
        before, j, k = point.point, point.j, point.k
        moved = before.means.copy()
        moved[j] *= point.factor
        after = FarPoint(moved)
        start, end = log_weight(before, j), log_weight(after, j)
        R, near = float(before.distances[j]), float(before.distances.min())
        return [(end + k * math.log(point.factor), start, 2 * _ERROR),
                (end + k * math.log(point.factor * R), log_cut_off(R, near, k), _ERROR)]

    def examples(self) -> dict[str, Example]:
        return {**super().examples(), "in the plane": Example("verified", _planar, "n=3, d=2, M=7, the closest one moved out by 10 %, k=2"),
                "not near": Example("vacuous", _close, "the near student is at 0.1, too far for M=7")}
