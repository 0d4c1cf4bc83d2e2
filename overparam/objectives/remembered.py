"""Where a plan left a state, in the plan's own frame."""

from __future__ import annotations

import numpy as np

from overparam.state import State

__all__ = ["Remembered"]


class Remembered:
    """Coordinates, in a plan's frame, of the state that it left last.

    Turned out of the frame and in again they would be rounded. A run that stops on its way, for a record or to look for Ctrl-C, must
    not depend on where it stopped.
    """

    def __init__(self) -> None:
        self._last: tuple[State, np.ndarray, np.ndarray] | None = None

    def keep(self, state: State, centre: np.ndarray, deviations: np.ndarray) -> State:
        """Return `state`, which has coordinates `centre` (k,) and `deviations` (n, k) in the frame."""
        self._last = state, centre.copy(), deviations.copy()
        return state

    def of(self, state: State) -> tuple[np.ndarray, np.ndarray] | None:
        """Copies of what was kept of this very state; None for any other."""
        last = self._last
        return (last[1].copy(), last[2].copy()) if last is not None and last[0] is state else None
