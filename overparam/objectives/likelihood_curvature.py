r"""The Hessian of the Kullback–Leibler divergence over nodes, and what bounds it.

With :math:`e_i=x-\mu_i`, from :math:`\nabla_i(-\ln p)=-w_ie_i`,

.. math:: H_{ij}=\mathbb E\big[w_iw_j\,e_ie_j^\top+\delta_{ij}w_i(I-e_ie_i^\top)\big].

No teacher factor enters. Off the span of the differences the block is :math:`\mathbb E[w_iw_j]\,I`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam._softmax import responsibilities
from overparam.nodes import Frame, Layout
from overparam.objectives.hessian_plan import SAFETY, Curvature, HessianKind, blocks, flat_axes

__all__ = ["LikelihoodHessian"]

_ENTRIES = 2_000_000  # of the largest array of a block


class LikelihoodHessian(HessianKind):
    """Two student factors and none of the teacher."""

    powers = (2, 0)

    def sums(self, layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, direction: np.ndarray | None = None,
             outside: bool = True) -> Curvature:
        n, k = deviations.shape
        flat = np.flatnonzero(flat_axes(layout))
        whole = np.zeros((n * k, n * k) if direction is None else (n, k))
        own, shares = np.zeros((n, k, k)), np.zeros(n)
        pairs: Any = np.zeros((n, n)) if direction is None or outside or flat.size else None
        for nodes, q, _ in blocks(layout, frame, max(64, _ENTRIES // (n * k))):
            y = nodes - centre
            w = responsibilities(y, deviations, frame.weights)
            arms = y[:, None] - deviations
            weighted = w[:, :, None] * arms
            shares += q @ w
            if pairs is not None:
                pairs += w.T @ (q[:, None] * w)
            if direction is None:
                rows = weighted.reshape(len(q), n * k)
                whole += rows.T @ (q[:, None] * rows)
                own += np.einsum("bia,bic->iac", q[:, None, None] * weighted, arms, optimize=True)
            else:
                along = np.einsum("bia,ia->bi", arms, direction)
                whole += np.einsum("bia,bi->ia", weighted, q[:, None] * ((w * along).sum(axis=1, keepdims=True) - along))
        if direction is not None:
            whole += shares[:, None] * direction
            if flat.size:  # the variance of x on axes with one node, the mean
                whole[:, flat] += pairs @ direction[:, flat] - shares[:, None] * direction[:, flat]
            return Curvature(None, whole, pairs, np.nan, layout.size)
        hessian = whole.reshape(n, k, n, k)
        index = np.arange(n)
        hessian[index, :, index, :] += shares[:, None, None] * np.eye(k) - own
        for axis in flat:
            hessian[:, axis, :, axis] += pairs - np.diag(shares)
        return Curvature(hessian, None, pairs, np.nan, layout.size)

    def majorant(self, layout: Layout, frame: Frame) -> np.ndarray:
        params, k = frame.params, frame.params.shape[1]
        missing, total, middle = flat_axes(layout).sum(), np.zeros(3), frame.params.mean(axis=0)
        for nodes, q, _ in blocks(layout, frame):
            w = responsibilities(nodes - middle, params - middle, frame.weights)
            squares = ((nodes**2).sum(axis=1)[:, None] - 2 * nodes @ params.T + (params**2).sum(axis=1)).clip(min=0) + missing
            total += [q @ (np.sqrt(k) + 4 * (w * squares).sum(axis=1)), 0.0, 4 * q.sum()]
        return total

    def effect(self, omega: float, k: int) -> float:
        found: float = 2 * np.sqrt(k) + 6 * (9 * omega**2 + k)
        return found

    def tail(self, edge: np.ndarray, k: int, widest: float, far: float) -> np.ndarray:
        r"""The integrand is at most :math:`\sqrt k+2\max_i\|e_i\|^2`, and :math:`\|e_i\|^2\le2\|z\|^2+2\omega^2`."""
        from scipy.special import ndtr

        mass, density = ndtr(-edge), np.exp(-edge**2 / 2) / np.sqrt(2 * np.pi)
        found: np.ndarray = SAFETY * ((np.sqrt(k) + 4 * far**2) * mass + 4 * (k * mass + edge * density))
        return found
