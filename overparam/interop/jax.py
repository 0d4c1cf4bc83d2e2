r"""Objectives in JAX: a ``custom_vjp`` around a ``pure_callback``, for any of them.

JAX is an extra: ``pip install 'overparam[jax]'``.

The objective is evaluated in double precision on the CPU, whatever the parameters' dtype; value and gradient come back in theirs. JAX makes
float32 of what it is given unless ``jax.config.update("jax_enable_x64", True)`` was called before: then results are float32 as well. For
complex parameters JAX's gradient of a real loss is :math:`\partial_{\Re}L-i\,\partial_{\Im}L`, the conjugate of the objective's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError(f"overparam.interop.jax needs JAX, which is not installed: pip install 'overparam[jax]' ({error})",
                      name="jax") from error

from overparam.interop._host import batch_of, hessian_products, values_and_gradients
from overparam.objectives.base import Objective, check_objective

__all__ = ["wrap"]

_shape: Any = jax.ShapeDtypeStruct


def wrap(objective: Objective) -> Callable[[Any], jax.Array]:
    r"""Make a differentiable JAX function of an objective.

    Parameters
    ----------
    objective : Objective
        Any, your own included.

    Returns
    -------
    function
        ``loss(params)``: an array of shape ``(*batch)`` for params of shape ``(*batch, n, d)``, or ``(*batch, *shape)`` where the
        objective's parameters have another shape. Its dtype is the parameters' (the real one of complex parameters, JAX's default for
        integers).

    Raises
    ------
    ImportError
        On import of this module, if JAX is not installed.
    ValueError
        If `objective` is none. The function raises it for params with too few axes and for complex ones where the objective takes none;
        what the objective itself refuses, JAX reports as an error of its own that quotes the reason.

    Notes
    -----
    ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``hessian`` work, and so does ``jvp`` of the gradient: the second derivative is
    :meth:`Objective.hvp`. Forward-mode derivatives of the loss itself do not (no ``custom_vjp`` has them), nor do ``grad`` of ``grad`` and
    third derivatives: JAX cannot transpose a callback. Every member of a batch is evaluated on its own. In float32 the value is
    right to float32's rounding *at the rounded parameters*: what is below 1e-7 of them is lost before it comes here. JAX may call the
    objective from a thread of its own and more or less often than the program says, as for every ``pure_callback``.

    Examples
    --------
    >>> import jax
    >>> import overparam as op
    >>> from overparam.interop.jax import wrap
    >>> loss = wrap(op.ScoreMatching(op.Gaussian([0.0, 0.0])))
    >>> value, grad = jax.jit(jax.value_and_grad(loss))(jax.numpy.array([[1.0, 0.5]]))     # one Gaussian: the loss is |params|^2
    >>> round(float(value), 5), grad.round(5).tolist()
    (1.25, [[2.0, 1.0]])
    """
    check_objective(objective)
    gradients = _conjugate_gradients(objective)

    def forward(params: Any) -> tuple[jax.Array, jax.Array]:
        values, conjugates = gradients(params)
        return values, conjugates

    def backward(conjugates: jax.Array, weight: jax.Array) -> tuple[jax.Array]:
        return (weight.reshape(*weight.shape, *(1,) * objective.params_ndim) * conjugates,)

    inner = jax.custom_vjp(lambda params: gradients(params)[0])
    inner.defvjp(forward, backward)

    def loss(params: Any) -> jax.Array:
        params = jnp.asarray(params)
        batch_of(objective, params.shape, jnp.iscomplexobj(params))
        if not jnp.issubdtype(params.dtype, jnp.inexact):
            params = params.astype(jnp.result_type(float))
        found: jax.Array = inner(params)
        return found

    return loss


def _conjugate_gradients(objective: Objective) -> Callable[[Any], tuple[jax.Array, jax.Array]]:
    """A function of params that gives values and conjugate gradients, JAX's own, and that knows its derivatives."""

    def values_on_host(params: Any) -> tuple[np.ndarray, np.ndarray]:
        params = np.asarray(params)
        values, grads = values_and_gradients(objective, params)
        return values.astype(params.real.dtype), grads.conj().astype(params.dtype)

    def products_on_host(params: Any, direction: Any) -> np.ndarray:
        params = np.asarray(params)
        return hessian_products(objective, params, direction).conj().astype(params.dtype)

    def called(params: Any) -> tuple[jax.Array, jax.Array]:
        batch = params.shape[:params.ndim - objective.params_ndim]
        shapes = _shape(batch, params.real.dtype), _shape(params.shape, params.dtype)
        values, conjugates = jax.pure_callback(values_on_host, shapes, params, vmap_method="broadcast_all")
        return values, conjugates

    def product(params: Any, direction: Any) -> Any:
        return jax.pure_callback(products_on_host, _shape(params.shape, params.dtype), params, direction, vmap_method="broadcast_all")

    def derivative(primals: tuple[Any], tangents: tuple[Any]) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        (params,), (direction,) = primals, tangents
        values, conjugates = gradients(params)
        axes = tuple(range(-objective.params_ndim, 0))
        along = (conjugates * direction).real.sum(axis=axes)
        return (values, conjugates), (along, product(params, direction))

    gradients: Any = jax.custom_jvp(called)
    gradients.defjvp(derivative)
    differentiable: Callable[[Any], tuple[jax.Array, jax.Array]] = gradients
    return differentiable
