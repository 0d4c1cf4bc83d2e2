"""What makes teachers immutable: fields that are put once, and arrays that cannot be written."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["Frozen"]


class Frozen:
    """Base of classes whose instances get their fields once, through :meth:`__setstate__`, and keep them.

    Examples
    --------
    >>> import overparam as op
    >>> op.Gaussian([1.0]).means = 2.0
    Traceback (most recent call last):
        ...
    AttributeError: Gaussian is frozen: make a new one instead of setting means
    """

    #: Name in messages; None for the class's own.
    shown_as: str | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:  # unpickled arrays come back writable, too
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        vars(self).update(state)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.shown_as or type(self).__name__} is frozen: make a new one instead of setting {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self.shown_as or type(self).__name__} is frozen: {name} cannot be deleted")
