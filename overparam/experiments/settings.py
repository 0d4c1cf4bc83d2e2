"""Checks of settings that several experiments have: one value or several, numbers, joblib's jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from overparam._validation import check_integer

__all__ = ["check_jobs", "check_numbers", "check_several", "check_store"]


def check_several(value: Any, name: str, allowed: str, convert: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Return a value or several as a tuple, each converted.

    Parameters
    ----------
    value : any
        One value, or a list, tuple, range or array of them.
    name : str
        The setting's name, and
    allowed : str
        what each value may be, for the message.
    convert : callable
        Returns a value converted; raises ValueError or TypeError where it is not allowed.

    Returns
    -------
    tuple

    Raises
    ------
    ValueError
        If there is none, one is not allowed, or one is named twice.

    Examples
    --------
    >>> from overparam.experiments.settings import check_several
    >>> check_several([1, 2.5], "M", "a number", float), check_several(3, "M", "a number", float)
    ((1.0, 2.5), (3.0,))
    """
    try:
        items = value.tolist() if isinstance(value, np.ndarray) else value
        items = tuple(items) if isinstance(items, list | tuple | range) else (items,)
        if not items or any(isinstance(item, bool) for item in items):
            raise ValueError
        items = tuple(convert(item) for item in items)
    except (ValueError, TypeError):
        shown = repr(value)
        raise ValueError(f"{name} must be {allowed}, or several; got {shown if len(shown) <= 80 else shown[:77] + '...'}") from None
    if len(set(items)) < len(items):
        raise ValueError(f"{name} must not name one twice; got {value!r}")
    return items


def check_numbers(value: Any, name: str, least: int) -> tuple[int, ...]:
    """Return whole numbers not below `least` as a tuple: see :func:`check_several`."""
    return check_several(value, name, f"a whole number not below {least}", lambda item: check_integer(item, name, minimum=least))


def check_store(value: Any) -> str | None:
    """Return ``store=``, the name of a folder or None; ValueError for anything else."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"store must be the name of a folder, or None; got {value!r}"[:200])
    return value


def check_jobs(value: Any) -> int | None:
    """Return ``n_jobs=`` as joblib takes it; ValueError for 0 and what is no whole number."""
    if value is None:
        return None
    jobs = check_integer(value, "n_jobs")
    if jobs == 0:
        raise ValueError("n_jobs must be None (joblib's own setting) or a whole number other than 0; got 0")
    return jobs
