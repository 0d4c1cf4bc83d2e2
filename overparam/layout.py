"""How parameters of another shape than (n, d) are laid out as the rows that states are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Parameters of any shape, real or complex, as (n, k) real rows.

    The last axis stays a row; all axes before it are flattened. A complex row of d numbers is a real one of 2d, real and imaginary parts
    in turn: a step along the packed gradient :math:`\\partial_{\\Re}L+i\\,\\partial_{\\Im}L` is a step of gradient descent.

    Parameters
    ----------
    shape : tuple of int
        The parameters' own shape, at least one axis.
    complex : bool

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.layout import Layout
    >>> layout = Layout((4, 3, 3), complex=True)
    >>> factors = np.ones((4, 3, 3)) * 1j
    >>> layout.pack(factors).shape
    (12, 6)
    >>> bool((layout.unpack(layout.pack(factors)) == factors).all())
    True
    """

    shape: tuple[int, ...]
    complex: bool = False

    @classmethod
    def of(cls, array: np.ndarray) -> Layout | None:
        """The layout of an array; None for (n, d) real numbers, which need none."""
        needed = array.ndim != 2 or array.dtype.kind == "c"
        return cls(array.shape, array.dtype.kind == "c") if needed else None

    @property
    def dtype(self) -> np.dtype:
        """Of the parameters."""
        return np.dtype(np.complex128 if self.complex else np.float64)

    @property
    def rows(self) -> tuple[int, int]:
        """(n, k), the shape of the rows."""
        return math.prod(self.shape[:-1]), self.shape[-1] * (2 if self.complex else 1)

    def pack(self, array: np.ndarray) -> np.ndarray:
        """(..., n, k) rows of (..., *shape) parameters."""
        before = array.shape[:array.ndim - len(self.shape)]
        flat = np.ascontiguousarray(array, dtype=self.dtype)
        return flat.view(np.float64).reshape(*before, *self.rows)

    def unpack(self, rows: np.ndarray) -> np.ndarray:
        """(..., *shape) parameters of (..., n, k) rows."""
        return np.ascontiguousarray(rows).view(self.dtype).reshape(*rows.shape[:-2], *self.shape)

    def describe(self) -> dict[str, Any]:
        """JSON-able description."""
        return {"shape": list(self.shape), "complex": self.complex}

    @classmethod
    def from_description(cls, description: Mapping[str, Any] | None) -> Layout | None:
        """The layout that was described; None stays None."""
        return None if description is None else cls(tuple(int(size) for size in description["shape"]), bool(description["complex"]))
