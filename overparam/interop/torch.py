r"""Objectives in PyTorch: an ``autograd.Function`` around any of them.

PyTorch is an extra: ``pip install 'overparam[torch]'``.

The objective is evaluated in double precision on the CPU, whatever the parameters' dtype and device; value and gradient come back in
these. For complex parameters PyTorch's gradient of a real loss is :math:`\partial_{\Re}L+i\,\partial_{\Im}L`, which is the objective's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import torch
except ImportError as error:
    raise ImportError("overparam.interop.torch needs PyTorch, which is not installed: pip install 'overparam[torch]', or torch itself "
                      f"as https://pytorch.org says ({error})", name="torch") from error

from overparam.interop._host import batch_of, hessian_products, values_and_gradients
from overparam.objectives.base import Objective, check_objective

__all__ = ["wrap"]

# Not dtype.to_real(): in torch 2.2 every call of it loses a reference to the dtype, until that is freed.
_REAL = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


def wrap(objective: Objective) -> Callable[[torch.Tensor], torch.Tensor]:
    r"""Make a differentiable PyTorch function of an objective.

    Parameters
    ----------
    objective : Objective
        Any, your own included.

    Returns
    -------
    function
        ``loss(params)``: a tensor of shape ``(*batch)`` for a tensor of shape ``(*batch, n, d)``, or ``(*batch, *shape)`` where the
        objective's parameters have another shape. Its dtype is the parameters' (the real one of complex parameters, the default one for
        integers), its device theirs.

    Raises
    ------
    ImportError
        On import of this module, if PyTorch is not installed.
    ValueError
        If `objective` is none. The function raises it for params with too few axes, for complex ones where the objective takes none, and
        for what the objective itself refuses; :class:`~overparam.TooHardError` where a rule cannot meet its tolerance.
    NotImplementedError
        By the function's third derivatives.

    Notes
    -----
    The first derivative is :meth:`Objective.grad`, the second :meth:`Objective.hvp`: ``create_graph=True``,
    ``torch.autograd.functional.hessian``, ``torch.func.grad``, ``vmap`` and ``jacrev`` work. Forward-mode derivatives
    (``jvp``, ``jacfwd``) do not. Every member of a batch is evaluated on its own. In float32 the value is right to float32's rounding
    *at the rounded parameters*: what is below 1e-7 of them is lost before it comes here, so use float64 for tiny deviations.
    ``torch.compile`` leaves the function alone.

    Examples
    --------
    >>> import torch
    >>> import overparam as op
    >>> from overparam.interop.torch import wrap
    >>> loss = wrap(op.ScoreMatching(op.Gaussian([0.0, 0.0])))
    >>> params = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    >>> value = loss(params) + params.sum()          # one Gaussian: the loss is |params|^2
    >>> value.backward()
    >>> round(value.item(), 9), params.grad.numpy().round(9).tolist()
    (2.75, [[3.0, 2.0]])
    """
    check_objective(objective)

    def loss(params: torch.Tensor) -> torch.Tensor:
        if not isinstance(params, torch.Tensor):
            raise ValueError(f"params must be a torch.Tensor; got {type(params).__name__}. objective.value(params) takes arrays")
        batch_of(objective, tuple(params.shape), params.is_complex())
        value: torch.Tensor = _value_and_gradient(params, objective)[0]
        return value

    not_compiled: Any = torch.compiler.disable
    made: Callable[[torch.Tensor], torch.Tensor] = not_compiled(loss)
    return made


def _array(tensor: torch.Tensor) -> Any:
    """The NumPy array of a tensor of any dtype and device, in double precision."""
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().resolve_conj().resolve_neg().cpu().to(wide).numpy()  # in this order: not every device has doubles


def _like(array: Any, params: torch.Tensor, real: bool) -> torch.Tensor:
    """The tensor of an array, on the device and in the precision of `params`."""
    dtype = params.dtype if params.is_complex() or params.is_floating_point() else torch.get_default_dtype()
    return torch.as_tensor(array).to(_REAL.get(dtype, dtype) if real else dtype).to(params.device)


def _at_front(tensor: torch.Tensor, axis: int | None, size: int) -> torch.Tensor:
    """The tensor with the axis that vmap maps over in front, made where there is none."""
    return tensor.expand(size, *tensor.shape) if axis is None else tensor.movedim(axis, 0)


class _ValueAndGradient(torch.autograd.Function):  # type: ignore[misc,unused-ignore]  # Any where torch is not installed
    """(values, gradients); the gradient is an output so that it can be differentiated."""

    @staticmethod
    def forward(params: torch.Tensor, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
        values, grads = values_and_gradients(objective, _array(params))
        return _like(values, params, real=True), _like(grads, params, real=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
        ctx.objective = inputs[1]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[0], output[1])

    @staticmethod
    def backward(ctx: Any, weight: torch.Tensor | None, direction: torch.Tensor | None) -> tuple[torch.Tensor | None, None]:
        params, grads = ctx.saved_tensors
        total = None
        if weight is not None:
            total = weight.reshape(*weight.shape, *(1,) * ctx.objective.params_ndim) * grads
        if direction is not None:
            product = _hessian_product(params, direction, ctx.objective)
            total = product if total is None else total + product
        return total, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], params: torch.Tensor, objective: Objective) -> tuple[Any, tuple[int, int]]:
        return _value_and_gradient(_at_front(params, in_dims[0], info.batch_size), objective), (0, 0)


class _HessianProduct(torch.autograd.Function):  # type: ignore[misc,unused-ignore]  # Any where torch is not installed
    """Products of Hessians with directions: linear in the direction and symmetric, so the derivative for it is the same product."""

    @staticmethod
    def forward(params: torch.Tensor, direction: torch.Tensor, objective: Objective) -> torch.Tensor:
        return _like(hessian_products(objective, _array(params), _array(direction)), params, real=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.objective = inputs[2]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, weight: torch.Tensor) -> tuple[None, torch.Tensor | None, None]:
        (params,) = ctx.saved_tensors
        if ctx.needs_input_grad[0]:
            raise NotImplementedError(f"third derivatives of {type(ctx.objective).__name__} are not known: value, gradient and Hessian are")
        return None, _hessian_product(params, weight, ctx.objective) if ctx.needs_input_grad[1] else None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None, None], params: torch.Tensor, direction: torch.Tensor,
             objective: Objective) -> tuple[torch.Tensor, int]:
        both = (_at_front(one, axis, info.batch_size) for one, axis in zip((params, direction), in_dims))
        return _hessian_product(*both, objective), 0


_value_and_gradient: Any = _ValueAndGradient.apply
_hessian_product: Any = _HessianProduct.apply
