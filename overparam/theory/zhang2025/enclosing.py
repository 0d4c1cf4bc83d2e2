r"""The smallest ball around a start: hypotheses of the paper say "within r of one point" and leave the point open."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam.state import State

__all__ = ["Ball", "smallest_ball"]

_ROUNDS = 400  # of the iteration in several dimensions: its gap is then one or two thousandths of the radius


@dataclass(frozen=True, eq=False)
class Ball:
    r"""A ball that encloses all students of a state, and how much smaller another could be.

    Attributes
    ----------
    centre : (k,) array
        Its centre, relative to the target.
    log_radius, log_least : float
        ln of its radius, and of what the radius of any enclosing ball is at least; -inf for students that coincide.
    """

    centre: np.ndarray
    log_radius: float
    log_least: float

    @property
    def distance(self) -> float:
        """Distance of the centre from the target."""
        return float(np.linalg.norm(self.centre))


def smallest_ball(state: State) -> Ball:
    r"""The smallest ball around the students: exact on a line, else to some thousandths, with a proved lower bound.

    For every :math:`\lambda_i\ge0,\ \sum\lambda_i=1` any enclosing radius R has
    :math:`R^2\ge\sum_i\lambda_i\|x_i\|^2-\|\sum_i\lambda_ix_i\|^2`, with equality at the best ball (the dual problem); the weights are
    those of Bădoiu and Clarkson's iteration, which moves the centre by 1/(k+1) of the way to the farthest point.

    Parameters
    ----------
    state : State

    Returns
    -------
    Ball

    Examples
    --------
    >>> import math
    >>> import overparam as op
    >>> from overparam.theory.zhang2025.enclosing import smallest_ball
    >>> ball = smallest_ball(op.State.of([[1.0], [2.0], [5.0]]))
    >>> ball.centre.tolist(), round(math.exp(ball.log_radius), 12)
    ([3.0], 2.0)
    """
    apart = state.deviations - state.deviations[0]  # exact, where the deviations are far below the centre that they are stored with
    size = float(np.abs(apart).max())
    if size == 0:
        return Ball(state.centre + math.exp(state.log_scale) * state.deviations[0], -math.inf, -math.inf)
    points = apart / size
    spanned = np.linalg.matrix_rank(points)
    if spanned == 1:
        farthest = points[int(np.argmax(np.linalg.norm(points, axis=1)))]
        place = points @ farthest / float(farthest @ farthest)
        middle = farthest * (place.max() + place.min()) / 2
        radius = least = float(np.linalg.norm(farthest)) * (place.max() - place.min()) / 2
    else:
        middle, least = _iterated(points)
        radius = float(np.linalg.norm(points - middle, axis=1).max())
    centre = state.centre + math.exp(state.log_scale) * (state.deviations[0] + size * middle)
    unit = math.log(size) + state.log_scale
    return Ball(centre, math.log(radius) + unit, math.log(min(least, radius)) + unit)


def _iterated(points: np.ndarray) -> tuple[np.ndarray, float]:
    """A centre, and the lower bound of the radius."""
    shares = np.full(len(points), 1 / len(points))
    best, least = points.mean(axis=0), 0.0
    squares = (points**2).sum(axis=1)
    for k in range(_ROUNDS):
        centre = shares @ points
        gaps = np.linalg.norm(points - centre, axis=1)
        if gaps.max() < np.linalg.norm(points - best, axis=1).max():
            best = centre
        least = max(least, float(shares @ squares - centre @ centre))
        shares = shares * (k + 1) / (k + 2)
        shares[int(np.argmax(gaps))] += 1 / (k + 2)
    return best, math.sqrt(max(least, np.finfo(np.float64).tiny)) * (1 - 1e-12)  # rounding of the squares
