"""The checks at the boundary.

Every helper returns the converted value or raises a ``ValueError`` that names the argument, what was given and what is
allowed. Nothing behind the boundary checks again.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = [
    "check_array",
    "check_choice",
    "check_count",
    "check_integer",
    "check_params",
    "check_positive",
    "check_real",
    "check_rng",
    "check_weights",
]


_MOST = 2**48  # entries of an axis


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _shapes(value: Any) -> str:
    """What the entries of a ragged list look like, or nothing where they are ragged themselves."""
    try:
        return f"its entries have the shapes {', '.join(dict.fromkeys(str(np.shape(entry)) for entry in value))}"[:200]
    except ValueError:
        return ""


def check_array(value: Any, name: str, *, ndim: int | tuple[int, ...], empty: bool = False, complex: bool = False) -> np.ndarray:
    """Return `value` as a C-contiguous float64 array of real, finite numbers with `ndim` dimensions.

    Where `complex` allows complex numbers and they come, the array is complex128.
    """
    dims = (ndim,) if isinstance(ndim, int) else tuple(ndim)
    wanted = " or ".join(str(n) for n in dims)
    if np.ma.is_masked(value):
        raise ValueError(f"{name} is a masked array with masked entries; fill or drop them first")
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested lists
        raise ValueError(f"{name} is not a rectangular array of numbers: {_shapes(value) or error}") from None
    if array.dtype.kind not in ("biufc" if complex else "biuf"):
        raise ValueError(f"{name} must hold {'numbers' if complex else 'real numbers'}; got dtype {array.dtype}")
    if array.ndim not in dims:
        hint = ". Write [[...]] for a single row" if array.ndim == 1 and 2 in dims else ""
        raise ValueError(f"{name} must have {wanted} dimension(s); got shape {array.shape}{hint}")
    if array.size == 0 and not empty:
        raise ValueError(f"{name} is empty (shape {array.shape}); it must hold at least one number")
    dtype = np.complex128 if array.dtype.kind == "c" else np.float64
    with np.errstate(over="ignore"):  # a long double may overflow: said below, not by NumPy
        array = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name} must be finite; entry {where} is {array[where]}")
    return array


def check_params(value: Any, name: str = "params", *, dimension: int | None = None) -> np.ndarray:
    """Return `value` as an (n, d) float64 array; `dimension` is the d that is allowed."""
    array = check_array(value, name, ndim=2)
    if dimension is not None and array.shape[1] != dimension:
        raise ValueError(f"{name} has shape {array.shape}, so its vectors have {array.shape[1]} coordinates; "
                         f"the teacher lives in {dimension} dimension(s): (n, {dimension}) is needed")
    return array


def check_weights(value: Any, n: int, name: str = "weights") -> np.ndarray:
    """Return mixture weights: n numbers, non-negative, summing to 1 within 1e-9 (then normalised); None means equal."""
    if value is None:
        return np.full(n, 1.0 / n)
    array = check_array(value, name, ndim=1)
    if array.shape != (n,):
        raise ValueError(f"{name} must have one entry per component: {n} expected, got shape {array.shape}")
    if (array < 0).any():
        raise ValueError(f"{name} must not be negative; got {_shown(array.tolist())}")
    total = float(array.sum())
    if abs(total - 1.0) > 1e-9:
        raise ValueError(f"{name} must sum to 1; they sum to {total!r}. Divide them by their sum if that is what you mean")
    exact = abs(total - 1.0) <= n * np.finfo(np.float64).eps  # as near to 1 as n rounded numbers get: left as they are
    return array if exact else array / total


def check_real(value: Any, name: str, *, minimum: float = -np.inf, maximum: float = np.inf) -> float:
    """Return a finite float in [minimum, maximum]."""
    number = _number(value, name)
    if not np.isfinite(number) or not minimum <= number <= maximum:
        raise ValueError(f"{name} must be a finite number{_range(minimum, maximum)}; got {_shown(value)}")
    return number


def check_positive(value: Any, name: str) -> float:
    """Return a finite float above 0."""
    number = _number(value, name)
    if not np.isfinite(number) or number <= 0:
        raise ValueError(f"{name} must be a finite number above 0; got {_shown(value)}")
    return number


def _number(value: Any, name: str) -> float:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists
        array = np.empty(0)
    if array.ndim != 0 or array.dtype.kind not in "iuf" or np.ma.is_masked(value):
        raise ValueError(f"{name} must be one real number; got {_shown(value)}")
    return float(array)


def _range(minimum: float, maximum: float) -> str:
    parts = []
    if np.isfinite(minimum):
        parts.append(f"not below {minimum:g}")
    if np.isfinite(maximum):
        parts.append(f"not above {maximum:g}")
    return " " + " and ".join(parts) if parts else ""


def check_integer(value: Any, name: str, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return an int in [minimum, maximum]; 1e4 and other whole floats are accepted."""
    try:
        if isinstance(value, bool):
            raise TypeError
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            value = int(value)
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number; got {_shown(value)}") from None
    if number < minimum or (maximum is not None and number > maximum):
        upper = "" if maximum is None else f" and not above {maximum}"
        raise ValueError(f"{name} must be a whole number not below {minimum}{upper}; got {number}")
    return number


def check_count(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return how many of something an array is to have, `minimum` or more: up to 2^48, which NumPy refuses for want of memory."""
    return check_integer(check_integer(value, name, minimum=minimum), name, minimum=minimum, maximum=_MOST)


def check_rng(value: Any, name: str = "rng") -> np.random.Generator:
    """Return a Generator from None, a seed, a SeedSequence, a BitGenerator or a Generator (SPEC 7)."""
    try:
        return np.random.default_rng(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a seed or a numpy.random.Generator; got {_shown(value)} ({error})") from None


def check_choice(value: Any, name: str, allowed: Iterable[str], near: float = 0.4) -> str:
    """Return `value` if it is one of the strings `allowed`; otherwise the error names the nearest, if it is `near` (0 to 1)."""
    names = sorted(allowed)
    if isinstance(value, str) and value in names:
        return value
    found = difflib.get_close_matches(str(value), names, n=1, cutoff=near)
    hint = f" Did you mean {found[0]!r}?" if found else ""
    raise ValueError(f"{name} {_shown(value)} is not known.{hint} Known: {', '.join(names) or 'none'}")
