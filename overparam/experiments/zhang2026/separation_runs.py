"""Hybrid EM on two components in any dimension: the population in the span of the means, or fresh batches beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam import init
from overparam.drivers import em
from overparam.experiments.zhang2026.batches import Students
from overparam.objectives import KLDivergence
from overparam.quadrature import Rule
from overparam.teachers import GaussianMixture
from overparam.trajectory import Schedule

__all__ = ["ACTIVE", "Run", "by_batches", "collapse_constant", "pair", "population"]

ACTIVE = 0.01  # weight from which a component counts as active [published]
WEIGHTS = (0.3, 0.7)  # [published]


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes
    ----------
    d, n : int
        Dimension, number of students.
    separation : float
        Distance of the two true means.
    method : str
        "population" or "minibatch".
    exact : bool
        Whether every step's expectation is certified, and errors are bounds; else it is sampled, and they are standard errors.
    times : (T,) array
        Steps times step size.
    weights, along, across : (T, n) array
        Weights, first coordinates, and norms of all other coordinates.
    loss, loss_error : (T,) array
        KL divergence and its bound or standard error; NaN of batches.
    status, message : str
        How the run ended.
    """

    d: int
    n: int
    separation: float
    method: str
    exact: bool
    times: np.ndarray
    weights: np.ndarray
    along: np.ndarray
    across: np.ndarray
    loss: np.ndarray
    loss_error: np.ndarray
    status: str = "completed"
    message: str = ""

    @property
    def active(self) -> int:
        """Number of students of weight 0.01 at least, at the end."""
        return int((self.weights[-1] >= ACTIVE).sum())

    @property
    def shares(self) -> tuple[float, float]:
        """Weight of the students on the side of each true mean, at the end."""
        first = self.along[-1] > 0
        return float(self.weights[-1][first].sum()), float(self.weights[-1][~first].sum())


def pair(d: int, separation: float) -> GaussianMixture:
    r"""Two components of weights 0.3 and 0.7 at :math:`\pm\frac\Delta2e_1`.

    Examples
    --------
    >>> from overparam.experiments.zhang2026.separation_runs import pair
    >>> pair(2, 6.0).means.tolist()
    [[3.0, 0.0], [-3.0, 0.0]]
    """
    means = np.zeros((2, d))
    means[:, 0] = separation / 2, -separation / 2
    return GaussianMixture(means, WEIGHTS)


def collapse_constant(weights: tuple[float, float] = WEIGHTS) -> float:
    r"""Return g: two students, one drawn from each component, end as one if :math:`\Delta^2<g\,d`, for large d.

    Parts across the true means shrink as :math:`\sqrt d\,e^{-\pi_i^*t}`, the heavier student's first; it takes a point of the other
    component as soon as :math:`\Delta^2<d\,(e^{-2\pi_1^*t}-e^{-2\pi_2^*t})`, whose largest value is g.

    .. math:: g=\max_t\big(e^{-2\pi_1^*t}-e^{-2\pi_2^*t}\big),\qquad t=\frac{\ln(\pi_2^*/\pi_1^*)}{2(\pi_2^*-\pi_1^*)}

    Examples
    --------
    >>> from overparam.experiments.zhang2026.separation_runs import collapse_constant
    >>> round(collapse_constant(), 4)
    0.3027
    """
    light, heavy = sorted(weights)
    t = math.log(heavy / light) / (2 * (heavy - light))
    return math.exp(-2 * light * t) - math.exp(-2 * heavy * t)


def population(d: int, separation: float, n: int, rule: Rule, fallback: Rule, step_size: float, steps: int, seed: int, record: Schedule,
               progress: bool | None) -> Run:
    """:func:`overparam.em` in the span of true means and start, which the expectation does not leave.

    Where `rule` cannot meet its tolerance at some step, the whole run is that under `fallback`, and says so.
    """
    teacher = pair(d, separation)
    start = init.from_teacher(teacher, n, rng=seed)
    settings: dict[str, Any] = {"steps": steps, "step_size": step_size, "record": record, "progress": progress}
    traj, said = em(KLDivergence(teacher, rule=rule), start, **settings), ""
    if traj.status == "too_hard":
        said = f"sampled, since {traj.message}"
        traj = em(KLDivergence(teacher, rule=fallback), start, **settings)
    seen = [_seen(traj.params[k]) for k in range(len(traj))]
    message = "; ".join(part for part in (said, traj.message) if part)
    return Run(d, n, separation, "population", not said and rule is not fallback, np.asarray(traj.times), np.asarray(traj.weights),
               np.array([one[0] for one in seen]), np.array([one[1] for one in seen]), np.asarray(traj.loss), np.asarray(traj.loss_error),
               traj.status, message)


def by_batches(d: int, separation: float, n: int, batch_size: int, step_size: float, steps: int, seed: int, record: Schedule) -> Run:
    """The same start and update on `batch_size` fresh draws a step in the whole space, whose noise leaves the span."""
    teacher, rng = pair(d, separation), np.random.default_rng([seed, batch_size, n])
    students = Students.of(init.from_teacher(teacher, n, rng=seed), np.full(n, 1 / n))
    looks, found = {int(step) for step in record.steps(steps)}, []
    for step in range(steps + 1):
        if step in looks:
            found.append((step * step_size, students.weights, *_seen(students.means)))
        if step < steps:
            students = students.stepped(separation, WEIGHTS[0], step_size, batch_size, rng)
    times, shares, along, across = (np.array(column) for column in zip(*found, strict=True))
    nothing = np.full(len(times), np.nan)
    return Run(d, n, separation, "minibatch", False, times, shares, along, across, nothing, nothing)


def _seen(params: Any) -> tuple[np.ndarray, np.ndarray]:
    """First coordinates, and norms of all others."""
    return params[:, 0].copy(), np.linalg.norm(params[:, 1:], axis=1)
