"""Objectives over stacks of parameters, in NumPy: what the wrappers of other libraries call."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam.objectives.base import Objective, value_and_grad_of

__all__ = ["batch_of", "hessian_products", "values_and_gradients"]


def batch_of(objective: Objective, shape: tuple[int, ...], is_complex: bool) -> tuple[int, ...]:
    """The axes of `shape` that come before those of one set of parameters."""
    axes = objective.params_ndim
    if len(shape) < axes:
        raise ValueError(f"params must have {axes} axes, as {type(objective).__name__} takes them, or more, the first of them a batch; "
                         f"got shape {shape}")
    if is_complex and not objective.complex_params:
        raise ValueError(f"params must be real for {type(objective).__name__}; got complex ones")
    return tuple(shape[:len(shape) - axes])


def _wide(array: Any) -> np.ndarray:
    """The array in double precision."""
    array = np.asarray(array)
    wide: np.ndarray = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64, copy=False)
    return wide


def values_and_gradients(objective: Objective, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """(*batch) values and (*batch, *shape) gradients at (*batch, *shape) parameters, in double precision."""
    params = _wide(params)
    batch = batch_of(objective, params.shape, params.dtype.kind == "c")
    values, grads = np.empty(batch), np.empty_like(params)
    for at in np.ndindex(*batch):
        values[at], grads[at] = value_and_grad_of(objective, params[at])
    return values, grads


def hessian_products(objective: Objective, params: Any, directions: Any) -> np.ndarray:
    """(*batch, *shape) products of the Hessians at `params` with `directions` of the same shape, in double precision."""
    params, directions = _wide(params), _wide(directions)
    found: np.ndarray = np.empty_like(params)
    for at in np.ndindex(*batch_of(objective, params.shape, params.dtype.kind == "c")):
        found[at] = objective.hvp(params[at], directions[at])
    return found
