"""What one would run instead: the paper's experiment (n=5, d=3) step by step, in the ways people write it today.

Every peer is a function (params, steps) -> params that takes whole steps of gradient descent, value and gradient each. The first call of
those that compile compiles; call it once before timing. :func:`missing` says why one cannot run here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
from problems import multiplied_out

STEP_SIZE = 0.01
BATCH = 20_000


def start(M: float, n: int = 5, d: int = 3, seed: int = 0) -> np.ndarray:
    """The paper's start: a cluster of width 1e-7 at distance M."""
    params = 1e-7 * np.random.default_rng(seed).standard_normal((n, d))
    params[:, 0] += M
    return params


def grid_axes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Nodes and weights of each axis of the fixed grid, 64×3×3 Gauss–Hermite, without an error estimate."""
    axes = [np.polynomial.hermite_e.hermegauss(order) for order in (64, 3, 3)]
    return [(nodes, weights / weights.sum()) for nodes, weights in axes]


def grid() -> tuple[np.ndarray, np.ndarray]:
    """The same multiplied out: nodes (N, 3), weights (N,)."""
    return multiplied_out(grid_axes())


def _numpy_fused(mu: np.ndarray, x: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient with x (d, N), nodes in the fastest dimension: five products and one softmax."""
    w = mu @ x
    w -= 0.5 * (mu**2).sum(axis=1, keepdims=True)
    w -= w.max(axis=0)
    np.exp(w, out=w)
    w /= w.sum(axis=0)
    v = mu.T @ w
    squares = (v**2).sum(axis=0)
    w *= weights
    a = mu @ v
    a -= squares
    a *= w
    return weights @ squares, 2.0 * (w @ v.T + a @ x.T - a.sum(axis=1, keepdims=True) * mu)


def numpy_quadrature(params: np.ndarray, steps: int) -> np.ndarray:
    """NumPy, the gradient fused by hand, on the fixed grid."""
    nodes, weights = grid()
    x = np.ascontiguousarray(nodes.T)
    for _ in range(steps):
        _, grad = _numpy_fused(params, x, weights)
        params = params - STEP_SIZE * grad
    return params


def numpy_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """NumPy, the gradient fused by hand, a fresh batch of 20 000 draws a step."""
    rng = np.random.default_rng(0)
    weights = np.full(BATCH, 1 / BATCH)
    for _ in range(steps):
        _, grad = _numpy_fused(params, rng.standard_normal((params.shape[1], BATCH)), weights)
        params = params - STEP_SIZE * grad
    return params


def _torch_loss(mu, x):
    import torch

    w = torch.softmax(x @ mu.T - 0.5 * (mu**2).sum(dim=1), dim=1)
    return ((w @ mu) ** 2).sum(dim=1).mean()


def _torch_descent(loss: Callable, params: np.ndarray, steps: int) -> np.ndarray:
    import torch

    torch.manual_seed(0)
    mu = torch.tensor(params, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        x = torch.randn(BATCH, mu.shape[1], dtype=torch.float64)
        (grad,) = torch.autograd.grad(loss(mu, x), mu)
        with torch.no_grad():
            mu -= STEP_SIZE * grad
    return mu.detach().numpy()


def torch_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """PyTorch eager autograd in float64, a fresh batch of 20 000 draws a step: the way the paper's experiment is written."""
    return _torch_descent(_torch_loss, params, steps)


@lru_cache(maxsize=1)
def _compiled_loss() -> Callable:
    import torch

    return torch.compile(_torch_loss)


def torch_compile_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """The same with the loss and its gradient compiled by torch.compile."""
    return _torch_descent(_compiled_loss(), params, steps)


@lru_cache(maxsize=1)
def _jax():
    """JAX in float64 on one thread. Its pool is as large as the processors that the process may use while it starts."""
    import jax

    jax.config.update("jax_enable_x64", True)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if allowed:
        os.sched_setaffinity(0, {min(allowed)})
    jax.block_until_ready(jax.numpy.zeros(1) + 1)
    if allowed:
        os.sched_setaffinity(0, allowed)
    return jax


def _jax_loss(mu, x, weights):
    """x is (N, d)."""
    jax = _jax()
    w = jax.nn.softmax(x @ mu.T - 0.5 * (mu**2).sum(axis=1), axis=1)
    return weights @ ((w @ mu) ** 2).sum(axis=1)


def _jax_fused(mu, x, weights):
    """Value and gradient by hand, x (d, N) with the nodes in the fastest dimension: five products and one softmax."""
    jnp = _jax().numpy
    logits = mu @ x - 0.5 * (mu**2).sum(axis=1, keepdims=True)
    e = jnp.exp(logits - logits.max(axis=0))
    w = e / e.sum(axis=0)
    v = mu.T @ w
    a = w * (mu @ v - (v**2).sum(axis=0)) * weights
    return weights @ (v**2).sum(axis=0), 2.0 * ((w * weights) @ v.T + a @ x.T - a.sum(axis=1, keepdims=True) * mu)


@lru_cache(maxsize=8)
def _jax_scan(kind: str, steps: int, step_size: float) -> Callable:
    """(params, key) -> params after `steps` steps in one compiled scan."""
    jax = _jax()
    jnp = jax.numpy
    nodes, weights = (jnp.asarray(part) for part in grid())
    batch_weights = jnp.full(BATCH, 1 / BATCH)

    def value_and_grad(mu, key):
        if kind == "fused":
            return _jax_fused(mu, nodes.T, weights)
        if kind == "autodiff":
            return jax.value_and_grad(_jax_loss)(mu, nodes, weights)
        return jax.value_and_grad(_jax_loss)(mu, jax.random.normal(key, (BATCH, mu.shape[1])), batch_weights)

    def step(mu, key):
        value, grad = value_and_grad(mu, key)
        return mu - step_size * grad, value

    def run(mu, key):
        return jax.lax.scan(step, mu, jax.random.split(key, steps))

    return jax.jit(run)


def _jax_descent(kind: str, params: np.ndarray, steps: int, step_size: float) -> np.ndarray:
    jax = _jax()
    final, _ = _jax_scan(kind, steps, step_size)(jax.numpy.asarray(params), jax.random.key(0))
    return np.asarray(final)


def jax_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """JAX, jit of a scan, autodiff, a fresh batch of 20 000 draws a step."""
    return _jax_descent("monte carlo", params, steps, STEP_SIZE)


def jax_quadrature(params: np.ndarray, steps: int, step_size: float = STEP_SIZE) -> np.ndarray:
    """JAX, jit of a scan, autodiff, on the fixed grid."""
    return _jax_descent("autodiff", params, steps, step_size)


def jax_fused_quadrature(params: np.ndarray, steps: int, step_size: float = STEP_SIZE) -> np.ndarray:
    """JAX, jit of a scan, on the fixed grid, with the gradient fused by hand."""
    return _jax_descent("fused", params, steps, step_size)


@lru_cache(maxsize=1)
def _numba_descent() -> Callable:
    import numba

    @numba.njit(fastmath=True)
    def descent(params, steps, step_size, batch, seed):
        n, d = params.shape
        np.random.seed(seed)  # noqa: NPY002  numba's own generator, the only one it has in loops without arrays
        mu = params.copy()
        x, v, w, grad = np.empty(d), np.empty(d), np.empty(n), np.empty((n, d))
        for _ in range(steps):
            half = 0.5 * (mu**2).sum(axis=1)
            grad[:] = 0.0
            for _ in range(batch):
                for k in range(d):
                    x[k] = np.random.standard_normal()  # noqa: NPY002
                top = -np.inf
                for i in range(n):
                    logit = -half[i]
                    for k in range(d):
                        logit += x[k] * mu[i, k]
                    w[i] = logit
                    top = max(top, logit)
                total = 0.0
                for i in range(n):
                    w[i] = np.exp(w[i] - top)
                    total += w[i]
                v[:] = 0.0
                for i in range(n):
                    w[i] /= total
                    for k in range(d):
                        v[k] += w[i] * mu[i, k]
                for i in range(n):
                    a = 0.0
                    for k in range(d):
                        a += (mu[i, k] - v[k]) * v[k]
                    for k in range(d):
                        grad[i, k] += w[i] * (v[k] + a * (x[k] - mu[i, k]))
            mu -= step_size * 2.0 / batch * grad
        return mu

    return descent


def numba_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """numba, the gradient fused by hand, a fresh batch of 20 000 draws a step."""
    return _numba_descent()(params, steps, STEP_SIZE, BATCH, 0)


# label, peer, the packages it needs, steps that take some tenths of a second
PEERS: dict[str, tuple[Callable, tuple[str, ...], int]] = {
    "NumPy, fixed grid of 64×3×3 nodes": (numpy_quadrature, (), 1000),
    "JAX jit, same grid, autodiff": (jax_quadrature, ("jax",), 5000),
    "JAX jit, same grid, gradient fused by hand": (jax_fused_quadrature, ("jax",), 5000),
    "NumPy Monte Carlo, batch 20 000": (numpy_monte_carlo, (), 20),
    "PyTorch eager autograd, batch 20 000": (torch_monte_carlo, ("torch",), 20),
    "torch.compile, batch 20 000": (torch_compile_monte_carlo, ("torch",), 20),
    "JAX jit, autodiff, batch 20 000": (jax_monte_carlo, ("jax",), 20),
    "numba, batch 20 000": (numba_monte_carlo, ("numba",), 20),
}


def missing(peer: Callable) -> str:
    """Why this peer cannot run here, in words; empty if it can. PyTorch is put on one thread."""
    packages = next(needed for function, needed, _ in PEERS.values() if function is peer)
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        return f"{', '.join(absent)} not installed: pip install '.[bench]'"
    if "torch" in packages:
        import torch

        torch.set_num_threads(1)
    return ""
