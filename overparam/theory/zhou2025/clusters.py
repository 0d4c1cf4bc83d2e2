r"""Cluster weights: how much weight the students near each component of the teacher carry together.

A student belongs to the component whose mean is nearest. By Pinsker's inequality the divergence bounds what the two mixtures give to each
cell of that division differently, and Gaussian tails bound what a component has outside its own cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam.drivers import em
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhou2025 import common
from overparam.theory.zhou2025.hybrid import example_objective

__all__ = ["ClusterWeights", "clusters"]

_EPS = float(np.finfo(np.float64).eps)


def clusters(params: np.ndarray, weights: np.ndarray, means: np.ndarray,
             teacher_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    r"""Assign students to components, and bound what lies outside of the cells.

    A Gaussian at a in the cell of :math:`\mu_j^*` has at most :math:`\sum_{l\ne j}\Phi(-s_l)` outside it, :math:`s_l` the distance of a
    from the border between j and l.

    Parameters
    ----------
    params : (n, k) array
    weights : (n,) array
    means : (m, k) array
    teacher_weights : (m,) array

    Returns
    -------
    owner : (n,) array of int
        Nearest component.
    sums : (m,) array
        Weight of the students of each.
    outside : float
        Bound of the students' mass outside of their cells plus the teacher's outside of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.zhou2025.clusters import clusters
    >>> owner, sums, outside = clusters(np.array([[-2.0], [1.5], [2.0]]), np.array([0.5, 0.2, 0.3]), np.array([[-2.0], [2.0]]), [0.5, 0.5])
    >>> owner.tolist(), sums.tolist(), 0.04 < outside < 0.06          # Phi(-2) = 0.023 twice
    ([0, 1, 1], [0.5, 0.5], True)
    """
    from scipy.special import ndtr  # loaded here: importing overparam stays light

    def away(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
        squares = ((points[:, None] - means) ** 2).sum(axis=2)
        own = squares[np.arange(len(points)), owner][:, None]
        apart = np.linalg.norm(means[owner][:, None] - means, axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            tails = ndtr(-(squares - own) / (2 * apart))
        tails[np.arange(len(points)), owner] = 0.0
        found: np.ndarray = np.minimum(np.nan_to_num(tails, nan=1.0).sum(axis=1), 1.0)  # coincident components part nothing
        return found

    owner = ((params[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    sums = np.bincount(owner, weights=weights, minlength=len(means))
    outside = weights @ away(params, owner) + np.asarray(teacher_weights) @ away(means, np.arange(len(means)))
    return owner, sums, float(outside)


@register
class ClusterWeights(Theorem):
    r"""At every state, and so late in a run, where it means something:

    .. math:: \Big|\sum_{i\in c_j}\pi_i-\pi_j^*\Big|\le\sqrt{L/2}+\varepsilon,

    :math:`c_j` the students whose nearest component is j, :math:`\varepsilon` the mass that components have outside of their cells: the
    student's :math:`\sum_i\pi_i\sum_{l\ne j}\Phi(-s_{il})`, and the teacher's.
    """

    name = "zhou2025.law_cluster_weights"
    title = "Cluster weights"
    source = common.OWN
    statement = "The students nearest to a component carry its weight together, up to sqrt(L/2) and the mass outside of the cells."
    latex = r"\Big|\sum_{i\in c_j}\pi_i-\pi_j^*\Big|\le\sqrt{L/2}+\varepsilon"
    tag = "derived"

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return common.on_mixture(setting.objective)

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        if not common.is_mixture(setting.objective):
            return [Conclusion("every cluster has its component's weight", tag="derived", note="the target has no components")]
        claims = [self.claim(setting, place) for place in range(len(setting.run))]
        return [min(claims[:-1] or claims, key=lambda one: one.margin), claims[-1]][-min(len(claims), 2):]

    @staticmethod
    def claim(setting: Setting, place: int) -> Conclusion:
        """The comparison at a record, for the cluster that is farthest off."""
        run, state = setting.run, setting.run.states[place]
        means, teacher_weights = common.teacher_in(setting.objective, state)
        _, sums, outside = clusters(state.coordinates, common.weights_at(setting, place), means, teacher_weights)
        off = np.abs(sums - teacher_weights)
        divergence = max(float(run.loss[place] + run.loss_error[place]), 0.0)
        when = "at the end" if place in (-1, len(run) - 1) else f"at step {int(run.steps[place])}"
        return Conclusion(f"every cluster has its component's weight, {when}", ClusterWeights.latex, float(off.max()), "<=",
                          float(np.sqrt(divergence / 2) + outside), tag="derived", error=len(sums) * 4 * _EPS,
                          note=f"component {int(off.argmax())} of {len(sums)}; mass outside of the cells {outside:.2g}")

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        if not common.is_mixture(setting.objective):
            return {}
        state = setting.run.final_state
        owner, sums, _ = clusters(state.coordinates, common.weights_at(setting, -1), *common.teacher_in(setting.objective, state))
        return {"students of each component at the end": np.bincount(owner, minlength=len(sums)).tolist(),
                "their weights": [round(float(one), 9) for one in sums]}

    def examples(self) -> dict[str, Example]:
        other = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
        start = [[-2.5], [2.0], [3.5], [-4.0]]
        return {"hybrid": Example("verified", lambda: {"subject": em(example_objective(), start, steps=100, step_size=1.0)},
                                  "n=4, m=2, d=1"),
                "another loss": Example("vacuous", lambda: {"subject": other, "params0": start}, "score matching")}
