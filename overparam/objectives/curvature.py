r"""The Hessian of score matching: its sums over nodes, and what bounds them.

With :math:`e_i=x-\mu_i`, :math:`m_i=\mu_i-v`, :math:`g_i=D+\langle m_i,D\rangle e_i`,

.. math:: H_{ij}=2\,\mathbb E\big[w_iw_j\{(I+e_im_i^\top)(I+m_je_j^\top)-g_ie_j^\top-e_ig_j^\top\}
          +\delta_{ij}w_i\{g_ie_i^\top+e_iD^\top-\langle m_i,D\rangle I\}\big].

It is quadratic in x off the span of the differences, where one node, the mean, would miss the variance: along such a direction the
block is :math:`I` times the *outside* sum :math:`2\,\mathbb E[w_iw_j(1+\langle m_i,m_j\rangle-\langle m_i+m_j,D\rangle)]`, and on an
axis of the frame that has one node the coefficient of :math:`e_ie_j^\top` is added. The derivation of all bounds is in docs/numerics.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam._softmax import responsibilities
from overparam.nodes import Frame, Layout
from overparam.objectives.hessian_plan import SAFETY, Curvature, HessianKind, blocks, flat_axes

__all__ = ["ScoreMatchingHessian"]

_BLOCK = 8192  # nodes in one call of the kernel at most
_WORK = 2e9  # multiplications in one call of the kernel, some seconds at most: Python looks at signals in between
_PAIRS = 64  # parameters up to which distances are taken pair by pair, as in the gradient's majorants


class ScoreMatchingHessian(HessianKind):
    """Four student factors, and one of the teacher."""

    powers = (4, 1)

    def sums(self, layout: Layout, frame: Frame, centre: np.ndarray, deviations: np.ndarray, direction: np.ndarray | None = None,
                 outside: bool = True) -> Curvature:
        from overparam._core.hessian import hessian

        n, k = deviations.shape
        flat = np.flatnonzero(flat_axes(layout))
        shapes = [(n * k, n * k) if direction is None else (n, k)]
        if direction is None or outside or flat.size:
            shapes += [(n, n), (n, n)]
        totals, parts = [np.zeros(shape) for shape in shapes], [np.empty(shape) for shape in shapes]
        with np.errstate(divide="ignore"):
            log_weights = np.log(frame.weights)
        centre, deviations = np.ascontiguousarray(centre), np.ascontiguousarray(deviations)
        direction = None if direction is None else np.ascontiguousarray(direction)
        most = int(np.clip(_WORK / ((k + 2) * n * k * (n * k if direction is None else n)), 64, _BLOCK))
        for nodes, weights, target in blocks(layout, frame, most):
            written: Any = (*parts, None, None)[:3]
            hessian(nodes, weights, target, centre, deviations, log_weights, direction, *written)
            for whole, part in zip(totals, parts, strict=True):
                whole += part
        total: Any
        square: Any
        unit: Any
        total, square, unit = totals if len(totals) == 3 else (*totals, None, None)
        whole_outside = None if square is None else square + unit
        if direction is not None:
            if flat.size:
                total[:, flat] += square @ direction[:, flat]
            return Curvature(None, total, whole_outside, np.nan, layout.size)
        total = total.reshape(n, k, n, k)
        total[:, flat, :, flat] += square
        return Curvature(total, None, whole_outside, np.nan, layout.size)

    def majorant(self, layout: Layout, frame: Frame) -> np.ndarray:
        params, deviations, k = frame.params, frame.deviations, frame.params.shape[1]
        to_target = np.linalg.norm(params[:, None] - frame.means, axis=-1)
        apart = np.linalg.norm(deviations - deviations.mean(axis=0), axis=1)
        pairs = np.linalg.norm(deviations[:, None] - deviations, axis=-1) if len(params) <= _PAIRS else None
        root, missing, total = np.sqrt(k), flat_axes(layout).sum(), np.zeros(3)
        middle = params.mean(axis=0)
        for nodes, q, _ in blocks(layout, frame):
            w = responsibilities(nodes - middle, params - middle, frame.weights)
            teacher = np.ones((len(nodes), 1)) if len(frame.means) == 1 else responsibilities(nodes, frame.means, frame.teacher_weights)
            U = ((w @ to_target) * teacher).sum(axis=1)
            V = w @ pairs if pairs is not None else (w @ apart)[:, None] + apart
            e2 = ((nodes**2).sum(axis=1)[:, None] - 2 * nodes @ params.T + (params**2).sum(axis=1)).clip(min=0) + missing
            wV, we = (w * V).sum(axis=1), (w * e2).sum(axis=1)
            wVe = (w * V * e2).sum(axis=1)
            one = wV + wVe + 2 * U * (1 + we)
            two = 2 * wV * wVe + 2 * U * (wVe + wV * we) + 2 * U * wVe
            off = wV**2 + 2 * U * wV
            total += 2 * np.array([q @ (root * (1 + U * wV) + one + two + off), q @ (2 * wV + 4 * U), q @ (2 * wV**2 + 6 * U * wV)])
        return total

    def effect(self, omega: float, k: int) -> float:
        return 48 + 20 * omega**2 + 164 * omega**2 * (9 * omega**2 + k)

    def tail(self, edge: np.ndarray, k: int, widest: float, far: float) -> np.ndarray:
        r"""Pointwise the integrand is at most :math:`\alpha+\beta\max_i\|e_i\|^2` with all :math:`V_i\le P`, :math:`U\le\omega`, and
        :math:`\|e_i\|^2\le2\|z\|^2+2\omega^2`.
        """
        from scipy.special import ndtr

        linear, square = 2 * widest + 4 * far, widest**2 + 3 * widest * far
        constant = 2 * (np.sqrt(k) * (1 + widest * far) + widest**2 + 2 * widest * far + linear / 2)
        slope = linear + 2 * square
        mass, density = ndtr(-edge), np.exp(-edge**2 / 2) / np.sqrt(2 * np.pi)
        found: np.ndarray = SAFETY * ((constant + 2 * slope * far**2) * mass + 2 * slope * (k * mass + edge * density))
        return found
