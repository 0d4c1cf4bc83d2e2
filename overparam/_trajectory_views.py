"""What a trajectory shows of its parameters: sequences that expand on access only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam.state import State

if TYPE_CHECKING:
    from overparam.trajectory import Trajectory

__all__ = ["Params", "States"]


class Params(Sequence[Any]):
    """A trajectory's parameters as a lazy (T, n, d) array, or (T, *shape) for parameters of another shape.

    It takes every index that an array takes and expands the chosen records only: ``params[k]`` is the (n, d) array of
    record k, ``params[:, i]`` the path of parameter i. What it gives is read-only; `np.asarray` expands everything.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, n, d), or (T, *shape)."""
        run = self._trajectory
        return len(run), *((run.n, run.d) if run.layout is None else run.layout.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """float64 or complex128."""
        layout = self._trajectory.layout
        return np.dtype(np.float64) if layout is None else layout.dtype

    def __len__(self) -> int:
        return len(self._trajectory)

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key if isinstance(key, tuple) and key else (key,)
        if first is None or first is Ellipsis or isinstance(first, tuple):
            return np.asarray(self)[key]
        chosen = np.arange(len(self))[first]
        local: Any
        if isinstance(first, slice):
            needed, local = chosen, slice(None)
        elif chosen.ndim == 0:
            needed, local = chosen[None], 0
        else:
            needed, local = np.unique(chosen, return_inverse=True)
            local = local.reshape(chosen.shape)
        block = np.empty((len(needed), *self.shape[1:]), dtype=self.dtype)
        for row, record in enumerate(needed):
            block[row] = self._expanded(record)
        block.flags.writeable = False
        picked = block[(local, *rest)]
        if isinstance(picked, np.ndarray):
            picked.flags.writeable = False  # a copy where the key holds arrays
        return picked

    def _expanded(self, record: int) -> np.ndarray:
        run = self._trajectory
        # one record at a time: the same product as State.params, so both agree to the last bit
        scale = run.log_scales[record]
        points = run.centres[record] + (run.deviations[record] if scale == 0.0 else run.deviations[record] * math.exp(scale))
        if run.basis is not None:
            points = points @ run.basis.T
        points = points if run.origin is None else points + run.origin
        return points if run.layout is None else run.layout.unpack(points)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("lazy parameters cannot become an array without a copy")
        return np.asarray(self[:], dtype=dtype)

    def __repr__(self) -> str:
        return f"<lazy parameters of shape {self.shape}>"


class States(Sequence[Any]):
    """A trajectory's records as `State` objects; a slice gives a list of them."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory

    def __len__(self) -> int:
        return len(self._trajectory)

    def __getitem__(self, key: Any) -> Any:
        run = self._trajectory
        chosen = np.arange(len(run))[key]
        made = [State(run.centres[r], run.deviations[r], run.basis, run.origin, run.log_scales[r], run.layout)
                for r in np.atleast_1d(chosen)]
        return made if np.ndim(chosen) else made[0]

    def __repr__(self) -> str:
        return f"<{len(self)} states of {self._trajectory.n} parameters>"
