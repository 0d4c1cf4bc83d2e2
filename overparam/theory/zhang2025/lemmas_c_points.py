"""Where the lemmas of appendix C live: one student near the target, the others far from it; and what the far ones weigh."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from overparam import _softmax
from overparam.bounds import Majorant, trapezoid_error, trapezoid_step
from overparam.objectives import ScoreMatching
from overparam.objectives.base import Objective
from overparam.objectives.evaluation import Estimate
from overparam.planning import Auto
from overparam.state import State
from overparam.teachers import Gaussian
from overparam.theory.certainty import certain
from overparam.theory.inequality import Inequality
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Setting
from overparam.theory.zhang2025 import common

__all__ = ["LEAST", "FarLemma", "FarPoint", "domain", "log_mean", "near_excess", "tail_nodes"]

#: Distance from which on the far students count as far. The paper's own is of the order of M0 > 1e9 sqrt(d) n^10 [reconstructed], where
#: nothing moves in float64; from 6 on the lemmas are asked for more than they say.
LEAST = 6.0

_TOL = 1e-10  # of the tail integrals, relative
_RULE = 1e-9  # of losses and gradients at sampled points, relative, row by row
_TAIL = 9.0  # from a crossing at distance r/2 >= 3 on, exp(-9 r/2 - 81/2) is below 1e-29
_MOST = 6_000_000  # nodes of a tail integral


@dataclass(frozen=True, eq=False)
class FarPoint:
    r"""Students seen from the target, in at least as many coordinates as they span.

    Attributes
    ----------
    means : (n, k) array
        :math:`\mu_i-\mu^*`.
    single, equal : bool
        Whether the target is one Gaussian, and whether the students' weights are equal.
    objective : Objective, optional
        A user's, whose loss may be another than score matching.
    rule : Rule
        How losses and gradients are computed.
    step_size : float or None
        Of gradient descent, for lemmas about one step.
    """

    means: np.ndarray
    single: bool = True
    equal: bool = True
    objective: Objective | None = None
    rule: Any = field(default_factory=lambda: Auto(tol=_RULE))
    step_size: float | Any = None

    @classmethod
    def of(cls, setting: Setting, state: State) -> FarPoint:
        """A state of a user's objective."""
        rule = getattr(setting.objective, "rule", None)
        return cls(state.coordinates, setting.single_teacher, setting.equal_weights, setting.objective,
                   Auto(tol=_RULE) if rule is None else rule, setting.step_size)

    @cached_property
    def distances(self) -> np.ndarray:
        """(n,) distances from the target."""
        peak = np.abs(self.means).max(axis=1)
        peak = np.where(peak > 0, peak, 1.0)  # scaled: 1e200 squared would be infinite
        found: np.ndarray = peak * np.linalg.norm(self.means / peak[:, None], axis=1)
        return found

    @property
    def near(self) -> int:
        """The student nearest to the target."""
        return int(self.distances.argmin())

    @cached_property
    def far(self) -> np.ndarray:
        """(n - 1,) indices of the others."""
        return np.delete(np.arange(len(self.means)), self.near)

    @property
    def M(self) -> float:
        """The smallest distance of the others."""
        return float(self.distances[self.far].min())

    @property
    def closest(self) -> int:
        """The closest of the others."""
        return int(self.far[self.distances[self.far].argmin()])

    @cached_property
    def found(self) -> Estimate:
        """Loss and gradient, with bounds on their errors: inf from a sampled rule, which rarely draws what matters here."""
        obj = ScoreMatching(Gaussian(np.zeros(self.means.shape[1])), rule=self.rule)
        return certain(obj.estimate(self.means))

    @property
    def errors(self) -> tuple[float, np.ndarray]:
        """Bounds on the errors of the loss and of each gradient row."""
        return self.found.value_error, self.found.grad_error

    def crossing(self, j: int) -> tuple[float, float, float]:
        r"""The half-space in which student `j` outweighs the near one :math:`a`: distance D of the two, :math:`b`, and :math:`\kappa`.

        :math:`w_j/w_a=e^{D(\langle u,x\rangle-b)}` with :math:`u=(\mu_j-a)/D`,
        :math:`b=(\|\mu_j\|^2-\|a\|^2)/(2D)=D/2+\kappa`, :math:`\kappa=\langle a,u\rangle`.
        """
        a, mu = self.means[self.near], self.means[j]
        D = float(np.linalg.norm(mu - a))
        kappa = float(a @ (mu - a)) / D
        return D, D / 2 + kappa, kappa


class FarLemma(Inequality):
    r"""Base of the lemmas of appendix C that are about one state: its domain, and points of it on a line through the target.

    Own points have up to six students, the far ones on both sides at M (one of them) up to M + 3, some of them on top of each other.
    Constants depend on n: m far students at one place weigh :math:`\sqrt m` times what one does there [derived].
    """

    scales: ClassVar[tuple[float, ...]] = (6.0, 8.0, 11.0, 15.0, 20.0, 27.0, 35.0, 45.0)
    limits: ClassVar[tuple[str, ...]] = ("large",)
    samples: ClassVar[int] = 24
    shapes: ClassVar[int] = 5

    def sample(self, rng: np.random.Generator, scale: float) -> Any:  # a FarPoint, or one with more beside it
        n = int(rng.integers(2, 7))
        signs, kinds, gaps = rng.choice([-1.0, 1.0], n - 1), rng.integers(0, 3, n - 1), rng.random(n - 1)
        gaps = np.choose(kinds, [np.zeros(n - 1), gaps**4, 3 * gaps])
        gaps[0] = 0.0
        near = rng.integers(0, 4) and rng.uniform(-1, 1)  # exactly 0 in one of four
        return FarPoint(np.concatenate([[near * self.radius(scale)], signs * (scale + gaps)])[:, None])

    def radius(self, M: float) -> float:
        """How far from the target the near student of an own point may be."""
        return 1 / (8 * M**3)

    def point(self, setting: Setting, state: State) -> Any:
        return FarPoint.of(setting, state)

    def hypotheses_at(self, point: Any) -> list[Hypothesis]:
        return domain(point)


def domain(point: FarPoint) -> list[Hypothesis]:
    """What all lemmas of appendix C suppose of a state; a single student has no others, and what is supposed of those is left out."""
    own = ScoreMatching(Gaussian([0.0])) if point.objective is None else point.objective
    found = [common.target(own, point.single), Hypothesis("the student's weights are equal", r"\pi_i=1/n", fact=point.equal),
             Hypothesis("there are at least two students", r"n\ge2", len(point.means), ">=", 2, structural=True)]
    if len(point.means) < 2:
        return found
    M, near = point.M, float(point.distances.min())
    return [*found,
            Hypothesis("all students but one are far from the target", r"M=\min_{j\ne i_0}\|\mu_j-\mu^*\|\ge6", M, ">=", LEAST,
                       tag="derived", note="the paper's own bound, of the order of 1e9 sqrt(d) n^10 [reconstructed], lets nothing move "
                                           "in float64: the lemma is asked for more"),
            Hypothesis("one student is near the target", r"M^3\|\mu_{i_0}-\mu^*\|\le\frac18", near * M * M * M, "<=", 0.125,
                       tag="reconstructed")]


def tail_nodes(point: FarPoint) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Nodes (N, k), ln of their weights (N,) and ln of the responsibilities (N, n), for expectations that are small because far
    students weigh little: products of up to three :math:`w_j` are integrated to 1e-10 of themselves.

    The trapezoid rule of docs/numerics.md, section 3, with its bound, which is relative to the positive integrand and so does not see how
    small it is; it reaches 9 beyond the outermost crossing of two students on each axis.

    Raises
    ------
    ValueError
        For students that span more than two dimensions, or too far out for a grid.
    """
    means = point.means
    turned = means if means.shape[1] <= 2 else _turned(means)
    k = turned.shape[1]
    if k > 2:
        raise ValueError(f"tail integrals are computed for students that span up to two dimensions with the target; these span {k}")
    axes: list[np.ndarray] = []
    log_cells = 0.0
    for axis in range(k):
        column = np.sort(turned[:, axis])
        size = Majorant(np.zeros(1), np.array([k / _TOL]), np.zeros(1), np.zeros(1), axes=k)
        spread = float(np.ptp(column))
        step = trapezoid_step(spread, 0.0, size)
        if not trapezoid_error(np.array([step]), spread, 0.0, size)[0, 0] <= 1:
            raise ValueError(f"students that spread over {spread:.4g} (M = {point.M:.4g}) are too far apart for a tail integral: no step "
                             f"of its rule is certified to {_TOL:g}")
        low, high = min(0.0, column[:2].mean()) - _TAIL, max(0.0, column[-2:].mean()) + _TAIL
        nodes = step * np.arange(math.floor(low / step), math.ceil(high / step) + 1)
        axes.append(nodes)
        log_cells += math.log(step) - 0.5 * math.log(2 * math.pi)
    count = math.prod(map(len, axes))
    if count > _MOST:
        raise ValueError(f"tail integrals would need {count:,} nodes (up to {_MOST:,}): the students are too far out, M = {point.M:.4g}")
    nodes = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1)
    logits = nodes @ turned.T - 0.5 * (turned**2).sum(axis=1)
    log_weights = log_cells - 0.5 * (nodes**2).sum(axis=1)  # as logarithms: those of the outer nodes are no numbers of float64
    return nodes, log_weights, _softmax.log_softmax(logits)


def _turned(means: np.ndarray) -> np.ndarray:
    """Coordinates in the span of the students: the target, the origin, stays where it is."""
    left, sizes, _ = np.linalg.svd(means, full_matrices=False)
    kept = sizes > 1e-13 * sizes[0]
    found: np.ndarray = left[:, kept] * sizes[kept]
    return found


def log_mean(log_weights: np.ndarray, log_values: np.ndarray) -> float:
    """ln of a sum of positive terms given by their logarithms."""
    terms = log_weights + log_values
    top = float(terms.max())
    return top + math.log(np.exp(terms - top).sum())


def near_excess(point: FarPoint, log_scale: float) -> tuple[np.ndarray, float]:
    r""":math:`e^{log\_scale}(\nabla_{i_0}L-2\mu_{i_0})` in coordinates of the students' span, and the error of its norm.

    With a the near student, :math:`W=\sum_{j\ne i_0}w_j` and :math:`F=\sum_{j\ne i_0}w_j\mu_j` the integrand is

    .. math:: 2\big[(W^2-2W)\,a+(1-W)F+(1-W)\langle Wa-F,v\rangle(x-a)\big],\qquad v=(1-W)a+F,

    where the deviation of a Gaussian's x from its mean in other directions averages out. The error is 1e-9 of the mean norm of
    the three terms: these are products of at most three weights, times :math:`\|x-a\|`.
    """
    nodes, log_weights, log_w = tail_nodes(point)
    means = point.means if point.means.shape[1] <= 2 else _turned(point.means)
    a = means[point.near]
    scaled = np.exp(log_weights[:, None] + log_scale + log_w[:, point.far])  # e^scale q w_j: sums to about 1
    w = np.exp(log_w[:, point.far])
    W, F = w.sum(axis=1)[:, None], w @ means[point.far]
    mass, pull = scaled.sum(axis=1)[:, None], scaled @ means[point.far]  # the same with e^scale q
    v = (1 - W) * a + F
    terms = [(W - 2) * mass * a, (1 - W) * pull, (1 - W) * (((mass * a - pull) * v).sum(axis=1)[:, None]) * (nodes - a)]
    size = sum(float(np.linalg.norm(term, axis=1).sum()) for term in terms)
    return 2 * sum(term.sum(axis=0) for term in terms), 2e-9 * size
