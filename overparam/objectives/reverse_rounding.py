"""What rounding does to the reverse Fisher divergence: the scales it is proportional to, and the factor in front of them."""

from __future__ import annotations

import numpy as np

from overparam.certificate import Demand
from overparam.geometry import DROPPED
from overparam.objectives.reverse_bounds import Lengths

__all__ = ["logit_sizes", "rounding", "tight_scales"]

_SMALL = 0.25  # bound on the logits up to which the kernel forms weights as a difference from pi


def tight_scales(farthest: float, second: float, shift: np.ndarray, deviations: np.ndarray, weights: np.ndarray,
                 moving: bool) -> np.ndarray | None:
    r"""(n + 2,) scales of rows, mean row and loss where all logits are small, against one Gaussian; None elsewhere.

    With :math:`\delta` the longest deviation, :math:`\delta_c` the longest from their mean and A the length of what D is without z,
    :math:`\|D\|\le A+3.1\,\delta\,\ell`, :math:`\ell=2\delta_c(\|z\|+\delta_c)`, and what is summed for a row is at most
    :math:`\delta\,\delta_c^2(19\|z\|^2+12)`. Logits are wrong relative to themselves, hence the last factor.

    Parameters
    ----------
    farthest, second : float
        Largest length of a node, and mean square of all.
    shift : (k,) array
        Centre less the teacher's mean.
    deviations, weights : (n, k) and (n,) arrays
    moving : bool
        Whether the centre moves on its own, and rows are differences.
    """
    tilt = np.linalg.norm(deviations - deviations.mean(axis=0), axis=1).max()
    widest = np.linalg.norm(deviations[:, None] - deviations, axis=-1).max()
    if not farthest * tilt + widest**2 / 2 < 0.99 * _SMALL:
        return None
    n, k = deviations.shape
    longest = float(np.linalg.norm(deviations, axis=1).max())
    still = float(np.linalg.norm(shift) + np.linalg.norm(weights @ deviations))
    summed = longest * tilt**2 * (19 * second + 12)
    loss = 2 * still**2 + 2 * (3.1 * longest) ** 2 * 8 * tilt**2 * (second + tilt**2)
    rows = 2 * weights * (summed if moving else still + summed)
    return np.concatenate([rows, [2 / n * (still + summed), loss]]) * (1 + (k + 2) / 4)


def logit_sizes(lengths: Lengths, reach: float) -> tuple[float, float]:
    """Largest sizes of the student's and of the teacher's logits at nodes of lengths up to `reach`."""
    apart = lengths.teacher_widest
    return lengths.widest * (reach + lengths.widest / 2), apart * (reach + float(lengths.nearest.max()) + apart / 2) if apart else 0.0


def rounding(demand: Demand, lengths: Lengths, reach: float, nodes: int, k: int, differences: int) -> np.ndarray:
    r"""(q,) bound on rounding, in units of :math:`\varepsilon` times the scales:

    .. math:: \min(N/8,32)+N/256+24+6(k+2)(\Lambda+\Lambda^*).

    Chunks of 8 of the N nodes are summed 32 at a time; logits are of sizes up to :math:`\Lambda` and, the teacher's,
    :math:`\Lambda^*`. Positions beside the teacher's other means than the first are known to the rounding of their distance. A space
    reduced by so many `differences` (0: it was not) has lost a few :math:`\varepsilon` of their length, as
    :func:`overparam.certificate.rounding` says.
    """
    epsilon, apart = np.finfo(np.float64).eps, lengths.teacher_widest
    logit, target = logit_sizes(lengths, reach)
    factor = min(nodes / 8, 32) + nodes / 256 + 24 + 6 * (k + 2) * (logit + target)
    off = epsilon * factor * demand.scales + 2 * epsilon * apart * demand.slopes
    if differences:
        lost = DROPPED * np.sqrt(differences)
        off += epsilon * lost * ((6 + 12 * logit + 12 * target) * demand.plain + 4 * apart * demand.slopes)
    return off
