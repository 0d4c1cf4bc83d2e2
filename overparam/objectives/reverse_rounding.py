"""What rounding does to the reverse Fisher divergence: the scales it is proportional to, and the factor in front of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overparam._softmax import softmax
from overparam.certificate import Demand
from overparam.geometry import DROPPED
from overparam.objectives.reverse_bounds import Lengths

__all__ = ["SATURATES", "logit_sizes", "rounding", "saturated", "tight_scales"]

SATURATES = 20.0  # sizes of logits from which weights may be so near 0 and 1 that their errors do not matter
_BLOCK = 4096  # nodes at a time
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
    found: np.ndarray | None = np.concatenate([rows, [2 / n * (still + summed), loss]]) * (1 + (k + 2) / 4)
    return found


def logit_sizes(lengths: Lengths, reach: float) -> tuple[float, float]:
    """Largest sizes of the student's and of the teacher's logits at nodes of lengths up to `reach`."""
    apart = lengths.teacher_widest
    return lengths.widest * (reach + lengths.widest / 2), apart * (reach + float(lengths.nearest.max()) + apart / 2) if apart else 0.0


def rounding(demand: Demand, lengths: Lengths, reach: float, nodes: int, k: int, differences: int,
             logits: np.ndarray | None = None) -> np.ndarray:
    r"""(q,) bound on rounding, in units of :math:`\varepsilon` times the scales:

    .. math:: \min(N/8,32)+N/256+24+6(k+2)(\Lambda+\Lambda^*).

    Chunks of 8 of the N nodes are summed 32 at a time; logits are of sizes up to :math:`\Lambda` and, the teacher's,
    :math:`\Lambda^*`. Positions beside the teacher's other means than the first are known to the rounding of their distance. A space
    reduced by so many `differences` (0: it was not) has lost a few :math:`\varepsilon` of their length, as
    :func:`overparam.certificate.rounding` says. With `logits` (q,), what :func:`saturated` found, that is their part.
    """
    epsilon, apart = np.finfo(np.float64).eps, lengths.teacher_widest
    logit, target = logit_sizes(lengths, reach) if logits is None else (0.0, 0.0)
    factor = min(nodes / 8, 32) + nodes / 256 + 24 + 6 * (k + 2) * (logit + target)
    off = epsilon * factor * demand.scales + 2 * epsilon * apart * demand.slopes
    if differences:
        lost = DROPPED * np.sqrt(differences)
        off += epsilon * lost * ((6 + 12 * logit + 12 * target) * demand.plain + 4 * apart * demand.slopes)
    return off if logits is None else off + logits


def saturated(nodes: np.ndarray, node_weights: np.ndarray, params: np.ndarray, deviations: np.ndarray, weights: np.ndarray,
              means: np.ndarray, teacher_weights: np.ndarray, differences: int) -> np.ndarray:
    r"""(n + 1,) what rounded logits cost rows and loss, summed over the nodes: next to nothing where one weight is nearly 1.

    Let logits err by up to :math:`e_j`, and let r be the largest weight at a node. With :math:`\rho_j=w_j/w_r`,
    :math:`d_j=\rho_j(e^{2(e_j+e_r)}-1)` and :math:`d=\sum_jd_j`, weights that err so differ by at most :math:`d_j+d\,w_j`, and

    .. math:: |\Delta v|\le x_1=\sum_jd_j\ell_j+dV,\qquad \|\Delta C\|\le\sum_jd_j\ell_j^2+dW+2x_1V+x_1^2,

    :math:`\ell_j` the distance of the means j and r, :math:`V=\sum w_j\ell_j`, :math:`W=\sum w_j\ell_j^2\ge\|C\|`; the teacher's
    alike. Of the row :math:`D+C(\mu_i-v)-C^*(\mu_i-v^*)` and of :math:`\|D\|^2` the changes follow. The weights here are rounded as
    those of the kernel are: hence 2 in the exponent, and twice the sum.

    Parameters
    ----------
    nodes, node_weights : (N, k) and (N,) arrays
    params, deviations, weights : (n, k), (n, k) and (n,) arrays
        Of the student, params in the teacher's coordinates.
    means, teacher_weights : (m, k) and (m,) arrays
    differences : int
        As for :func:`rounding`.
    """
    k, reach = nodes.shape[1], float(np.linalg.norm(nodes, axis=1).max())
    unit = np.finfo(np.float64).eps * (k + 2 + (2 * DROPPED * np.sqrt(differences) if differences else 0.0))
    with np.errstate(divide="ignore"):
        logs, teacher_logs = np.log(weights), np.log(teacher_weights)
    own = deviations[:, None] - deviations
    rows, loss = np.zeros(len(params)), 0.0
    tilts, teacher_tilts = (np.linalg.norm(points - points.mean(axis=0), axis=1) for points in (deviations, means))
    for i, (mean, share) in enumerate(zip(params, weights, strict=True)):
        to = means - means[np.linalg.norm(mean - means, axis=1).argmin()]
        away = mean - means[np.linalg.norm(mean - means, axis=1).argmin()]
        length, apart = np.linalg.norm(to, axis=1), np.linalg.norm(own[i], axis=1)
        off = unit * (reach * tilts + apart**2 / 2 + np.abs(logs))
        known = np.linalg.norm(away) + np.linalg.norm(mean) + np.linalg.norm(mean - away)
        teacher_off = unit * (reach * teacher_tilts + length * (known + length / 2) + np.abs(teacher_logs))
        for part in (slice(at, at + _BLOCK) for at in range(0, len(nodes), _BLOCK)):
            z, q = nodes[part], node_weights[part]
            student = _Shifted.of(z, -own[i], logs - apart**2 / 2, off)
            teacher = _Shifted.of(z, to, teacher_logs + to @ away - length**2 / 2, teacher_off)
            arm = np.linalg.norm(away - teacher.mean, axis=1)
            apart_now, moved = np.linalg.norm(away + student.mean - teacher.mean, axis=1), student.first + teacher.first
            rows[i] += 4 * share * float(q @ (moved + student.turned(np.linalg.norm(student.mean, axis=1)) + teacher.turned(arm)))
            loss += 2 * share * float(q @ (2 * apart_now * moved + moved**2))
    return np.append(rows, loss)


@dataclass(frozen=True, eq=False)
class _Shifted:
    """At N nodes: the posterior mean beside the nearest point, and by how much it, and the covariance, may change; (N,) arrays."""

    mean: np.ndarray
    first: np.ndarray
    second: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, z: np.ndarray, points: np.ndarray, gap: np.ndarray, off: np.ndarray) -> _Shifted:
        """Points (m, k) whose logits are ``z @ points.T + gap``, known up to `off` (m,)."""
        logits = z @ points.T + gap
        top = logits.argmax(axis=1)
        weights = softmax(logits)
        with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
            wide = 2 * (off + off[top, None])
            # log(exp(x) - 1), which must not overflow where a weight of 0 is multiplied with it
            lifts = np.where(wide > 1, wide, np.log(np.expm1(np.minimum(wide, 1.0))))
            shares = np.exp(np.minimum(logits - logits[np.arange(len(z)), top][:, None] + lifts, 700.0))
            shares = np.where(np.arange(len(points)) == top[:, None], 0.0, shares)
            apart = np.linalg.norm(points[:, None] - points, axis=-1)[top]
            total, near, wider = shares.sum(axis=1), (weights * apart).sum(axis=1), (weights * apart**2).sum(axis=1)
            first = (shares * apart).sum(axis=1) + total * near
            second = (shares * apart**2).sum(axis=1) + total * wider + 2 * first * near + first**2
        return cls(weights @ points, first, second, wider)

    def turned(self, arm: np.ndarray) -> np.ndarray:
        """(N,) change of the covariance times a vector of length `arm` that ends at the mean."""
        found: np.ndarray = self.second * (arm + self.first) + self.covariance * self.first
        return found
