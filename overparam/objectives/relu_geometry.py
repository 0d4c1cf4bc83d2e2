"""Directions against one axis: lengths, offsets from it, and the reflection that turns the first axis into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Sums", "turned", "unit_offsets"]


def turned(rows: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(n, d) rows reflected so that the first coordinate axis and the unit vector `axis` change places.

    Twice is the identity: the same call leads into coordinates whose first axis is `axis`, and back.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.objectives.relu_geometry import turned
    >>> turned(np.eye(2), np.array([0.6, -0.8])).round(12).tolist()
    [[0.6, -0.8], [-0.8, -0.6]]
    """
    sign = 1.0 if axis[0] > 0 else -1.0  # of the mirror's two normals the one that cancels nothing
    mirror = axis.copy()
    mirror[0] += sign
    found: np.ndarray = sign * (rows @ (2 * mirror / float(mirror @ mirror)))[:, None] * mirror - sign * rows
    return found


def unit_offsets(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Lengths (n,) and :math:`\bar w_i-e_1` (n, k) of rows whose first axis is the target's, small ones without cancellation.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.objectives.relu_geometry import unit_offsets
    >>> lengths, offsets = unit_offsets(np.array([[1.0, 2e-10]]))
    >>> [float(f"{x:.12g}") for x in offsets[0]]
    [-2e-20, 2e-10]
    """
    peaks = np.abs(rows).max(axis=1)
    scaled = rows / np.where(peaks > 0, peaks, 1.0)[:, None]
    lengths = np.linalg.norm(scaled, axis=1)
    units = scaled / np.where(lengths > 0, lengths, 1.0)[:, None]
    square = (units[:, 1:] ** 2).sum(axis=1)
    near = units[:, 0] > 0
    units[:, 0] = np.where(near, -square / (1 + np.abs(units[:, 0])), units[:, 0] - (lengths > 0))
    return lengths * peaks, units


@dataclass(frozen=True)
class Sums:
    r"""Sums over lengths s and offsets :math:`a_i=\|\bar w_i-\bar v\|`: an angle is at most :math:`\frac\pi2(a_i+a_j)`.

    Attributes
    ----------
    lengths, offsets : (n,) arrays
        s, a.
    s0, s1, s2, s3 : float
        :math:`\sum_js_ja_j^p` over students and target, for which a = 0.
    """

    lengths: np.ndarray
    offsets: np.ndarray
    s0: float
    s1: float
    s2: float
    s3: float

    @classmethod
    def of(cls, rows: np.ndarray, target: float) -> Sums:
        lengths, units = unit_offsets(rows)
        a = np.linalg.norm(units, axis=1)
        return cls(lengths, a, float(lengths.sum()) + target, *(float(lengths @ a**p) for p in (1, 2, 3)))

    @property
    def squares(self) -> np.ndarray:
        r"""(n,) :math:`\sum_js_j(a_i+a_j)^2`."""
        return self.s0 * self.offsets**2 + 2 * self.s1 * self.offsets + self.s2

    @property
    def cubes(self) -> np.ndarray:
        r"""(n,) :math:`\sum_js_j(a_i+a_j)^3`."""
        a = self.offsets
        return self.s0 * a**3 + 3 * self.s1 * a**2 + 3 * self.s2 * a + self.s3
