"""What an objective integrates: all that plans over nodes need to know of it beyond the nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from overparam._softmax import posterior_mean
from overparam.certificate import Parts, mixture_majorants, tight_scales
from overparam.geometry import Integrand
from overparam.log_bounds import LogMajorant
from overparam.nodes import Frame, Grid
from overparam.objectives.curvature import ScoreMatchingHessian
from overparam.objectives.hessian_plan import HessianKind
from overparam.objectives.measure import Measure

__all__ = ["Integrands", "ScoreMatchingIntegrands", "Sizes"]


@dataclass(frozen=True, eq=False)
class Sizes:
    """Majorants of gradient rows and loss at a state.

    Attributes
    ----------
    two, three, moment : (n,) arrays
        Of the rows, by number of softmax factors (see :class:`overparam.bounds.Majorant`).
    loss : float
        Of the loss, as a product of two factors of student and teacher each; 0 where `logs` bounds it.
    loss_scale : float
        What the loss's rounding is proportional to.
    slopes : (n + 1,) array, optional
        Mixture teachers: how much rows and loss may change per unit by which positions beside a component do.
    logs : LogMajorant, optional
        What bounds a loss that is no product of weights.
    """

    two: np.ndarray
    three: np.ndarray
    moment: np.ndarray
    loss: float
    loss_scale: float
    slopes: np.ndarray | None = None
    logs: LogMajorant | None = None


class Integrands(ABC):
    """Kernel, majorants, tails and scales of one kind of objective.

    :class:`overparam.objectives.quadrature_plan.QuadraturePlan` asks one of these for everything that depends on the objective;
    `tails` is the kind of integrand that bounds what edges leave out, `hessian` that of the second derivatives.
    """

    tails: ClassVar[type[Integrand]] = Integrand
    hessian: ClassVar[HessianKind]

    @abstractmethod
    def evaluator(self, measure: Measure, log_weights: np.ndarray) -> Any:
        """The compiled evaluator of a measure, with evaluate, majorants, capsule and nodes."""

    @abstractmethod
    def sizes(self, evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> Sizes:
        """Majorants at ``centre + deviations`` in the frame, over the measure's nodes."""

    @abstractmethod
    def trivial(self, params: np.ndarray, frame: Frame, mass: float, moment: float) -> Parts:
        """What no rule can miss by: the integrands' range on both sides, with the rule's own `mass` and its sum of lengths, `moment`."""

    @abstractmethod
    def tight_scales(self, grid: Grid, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        """(n + 2,) scales of deviation rows, mean row and loss of a tight state of equal weights around a target at 0; inf if unknown."""

    def facts(self, evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> dict[str, Any]:
        """What `tails` wants to know of the state."""
        return {}

    @abstractmethod
    def effects(self, omega: float, k: int) -> tuple[float, float]:
        r"""Factors by which the weight of means that are left out bounds what this changes in a row and in the loss.

        :math:`\Omega` is the largest distance of a student mean from a teacher mean, k the number of axes.
        """

    def offset(self, kept: float) -> float:
        """What is added to the loss of a student of the kept means alone, whose weights add up to `kept`."""
        return 0.0

    @abstractmethod
    def losses(self, measure: Measure, params: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(N,) integrand of the loss at a measure's points, for standard errors."""


class ScoreMatchingIntegrands(Integrands):
    r""":math:`\|D\|^2` and :math:`2[w_iD+a_i(x-\mu_i)]`; docs/numerics.md, sections 3 to 7."""

    hessian = ScoreMatchingHessian()

    def evaluator(self, measure: Measure, log_weights: np.ndarray) -> Any:
        return compiled(measure, log_weights, likelihood=False)

    def sizes(self, evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray, deviations: np.ndarray) -> Sizes:
        two, three, moment, square, slopes = row_majorants(evaluator, measure, frame, centre, deviations)
        return Sizes(two, three, moment, square, square, slopes)

    def trivial(self, params: np.ndarray, frame: Frame, mass: float, moment: float) -> Parts:
        distances = np.linalg.norm(params[:, None] - frame.means, axis=-1)
        far, wide = distances.max(), 2 * np.linalg.norm(params - params.mean(axis=0), axis=1).max()
        nearest = 2 * far * (1 + mass + wide * (np.sqrt(params.shape[1]) + moment + (1 + mass) * distances.max(axis=1)))
        return Parts(float(max(1.0, mass) * far**2), nearest)

    def tight_scales(self, grid: Grid, centre: np.ndarray, deviations: np.ndarray) -> np.ndarray:
        return tight_scales(grid, centre, deviations)

    def effects(self, omega: float, k: int) -> tuple[float, float]:
        return 2 * (3 * omega + 8 * omega**2 * (3 * omega + np.sqrt(k))), 4 * omega**2

    def losses(self, measure: Measure, params: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = ((posterior_mean(measure.nodes, params, weights) - measure.target) ** 2).sum(axis=1)
        return found


def row_majorants(evaluator: Any, measure: Measure, frame: Frame, centre: np.ndarray,
                  deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray | None]:
    r"""A, B, C (n,), :math:`E\,U^2`, and slopes for a mixture teacher (else None), over a measure's nodes."""
    n = len(deviations)
    if len(frame.means) > 1:
        return mixture_majorants(measure.nodes, measure.weights, measure.teacher, frame, centre, deviations)
    two, three, moment = np.empty(n), np.empty(n), np.empty(n)
    square = evaluator.majorants(centre, deviations, two, three, moment)
    return two, three, moment, square, None


def compiled(measure: Measure, log_weights: np.ndarray, likelihood: bool) -> Any:
    """The compiled evaluator of a measure: one kernel serves score matching and likelihood."""
    from overparam._core.score_matching import Evaluator

    if measure.grid is not None:
        axes = measure.grid.axes
        return Evaluator.from_tensor(np.concatenate([axis.nodes for axis in axes]), np.concatenate([axis.weights for axis in axes]),
                                     np.array([axis.order for axis in axes], dtype=np.intp), measure.target, log_weights, likelihood)
    nodes, target = measure.columns
    return Evaluator.from_nodes(nodes, measure.weights, target, log_weights, likelihood, measure.log_teacher)
