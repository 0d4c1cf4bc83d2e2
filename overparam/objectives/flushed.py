r"""Weights below the kernels' smallest exponential: at a node where :math:`w_i<e^{-600}w_j` for some j they are 0.

What that may cost is bounded like means that are left out (:mod:`overparam.objectives.far_means`): there
:math:`w_i\le(w_i/w_r)^\theta e^{-600(1-\theta)}` for every mean r and :math:`\theta\in[0,1]`, whose mean is a Gaussian integral. The
derivation is in docs/numerics.md, section 6.
"""

from __future__ import annotations

import numpy as np

from overparam.certificate import Parts
from overparam.nodes import Frame
from overparam.objectives.integrands import Integrands

__all__ = ["flushed"]

_LOWEST = -600.0  # OP_EXP_LOWEST of the kernels
_PAIRS = 256  # students up to which pairs are looked at
_DOUBLE = 2.0  # weights of the others, and majorants, miss as much once more


def flushed(integrands: Integrands, frame: Frame, centre: np.ndarray, deviations: np.ndarray, radius: float, logit: float,
            mass: float) -> Parts | None:
    r"""Bound on what weights of :math:`e^{-600}` and less cost the loss and each row, or its majorants; None where there are none.

    Where all logits are small the kernel forms weights from the prior ones, however small these are, but not the majorants.

    `radius` bounds the nodes' norms, `logit` the size of all logits without the prior weights; `mass` is by how much a rule's sum
    of a shifted Gaussian, or of one times a distance, may exceed its integral.
    """
    present = np.flatnonzero(frame.weights > 0)
    logs = np.log(frame.weights[present])
    if 2 * logit + np.ptp(logs) < -_LOWEST:
        return None
    n, k = deviations.shape
    omega = float(np.linalg.norm((centre + deviations)[:, None] - frame.means, axis=-1).max())
    with np.errstate(over="ignore", invalid="ignore"):
        own, shares = np.zeros(n), np.ones(n)
        if len(present) <= _PAIRS:
            own[present], shares[present] = _lost(frame, logs, centre, deviations[present], radius)
        else:
            own[present] = np.exp(_LOWEST)
        # a row loses its own weight, and a part n e^-600 of what it has when the others lose theirs
        effect, loss = integrands.effects(omega, k)
        rows = _DOUBLE * mass * effect * (own + n * np.exp(_LOWEST) * shares)
        value = _DOUBLE * mass * max(loss, 2.0) * own.sum()
    if not own.any():
        return None
    return Parts(float(value), np.where(frame.weights > 0, rows, 0.0))


def _lost(frame: Frame, logs: np.ndarray, centre: np.ndarray, deviations: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """(p,) bounds on the mean of the weight that each present mean loses, and of all that it has."""
    apart, sides = deviations[:, None] - deviations, deviations[:, None] + deviations
    square, ratio = (apart**2).sum(axis=-1), logs[:, None] - logs
    lost, shares = np.zeros(len(logs)), np.zeros(len(logs))
    for mean, part in zip(frame.means, frame.teacher_weights, strict=True):
        gap = (apart * (centre - mean + sides / 2)).sum(axis=-1)
        gap -= 16 * np.finfo(np.float64).eps * (np.abs(apart) * (np.abs(centre - mean) + np.abs(sides))).sum(axis=-1)
        # ln(w_i/w_j) = ratio - gap + <x - m, apart>, at least that at a node
        reached = (ratio - gap - (radius + np.linalg.norm(mean)) * np.sqrt(square) < _LOWEST).any(axis=1)
        for least, total, where in ((_LOWEST, lost, reached), (0.0, shares, True)):
            theta = np.clip((gap - ratio + least) / np.maximum(square, 1e-300), 0.0, 1.0)
            exponent = theta * ratio + theta**2 * square / 2 - theta * gap + least * (1 - theta)
            total += part * np.where(where, np.exp(np.minimum(exponent.min(axis=1), least)), 0.0)
    return lost, shares
