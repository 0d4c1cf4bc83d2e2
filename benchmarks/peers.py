"""What one would run instead: the paper's experiment (n=5, d=3) step by step, in the ways people write it today.

Every peer is a function (params, steps) -> params that takes whole steps of gradient descent, value and gradient each.
"""

from __future__ import annotations

import numpy as np

from overparam import _reference as twin

STEP_SIZE = 0.01
BATCH = 20_000


def start(M: float, n: int = 5, d: int = 3, seed: int = 0) -> np.ndarray:
    """The paper's start: a cluster of width 1e-7 at distance M."""
    params = 1e-7 * np.random.default_rng(seed).standard_normal((n, d))
    params[:, 0] += M
    return params


def numpy_quadrature(params: np.ndarray, steps: int) -> np.ndarray:
    """The NumPy twin on a Gauss–Hermite grid of 64×3×3 nodes (accurate to 1e-2 on the M=6 run)."""
    axes = [np.polynomial.hermite_e.hermegauss(order) for order in (64, 3, 3)]
    nodes = np.stack([part.ravel() for part in np.meshgrid(*(axis[0] for axis in axes), indexing="ij")], axis=1)
    weights = np.ones(1)
    for _, axis_weights in axes:
        weights = np.multiply.outer(weights, axis_weights / axis_weights.sum())
    log_weights = np.full(len(params), -np.log(len(params)))
    for _ in range(steps):
        _, grad = twin.score_matching(nodes, weights.ravel(), np.zeros(3), params, log_weights)
        params = params - STEP_SIZE * grad
    return params


def numpy_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """NumPy, a fresh batch of 20 000 draws a step."""
    rng = np.random.default_rng(0)
    weights = np.full(BATCH, 1 / BATCH)
    log_weights = np.full(len(params), -np.log(len(params)))
    for _ in range(steps):
        x = rng.standard_normal((BATCH, params.shape[1]))
        _, grad = twin.score_matching(x, weights, np.zeros(params.shape[1]), params, log_weights)
        params = params - STEP_SIZE * grad
    return params


def torch_monte_carlo(params: np.ndarray, steps: int) -> np.ndarray:
    """PyTorch eager autograd in float64, a fresh batch of 20 000 draws a step: the way the paper's experiment is written."""
    import torch

    torch.manual_seed(0)
    mu = torch.tensor(params, dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        x = torch.randn(BATCH, mu.shape[1], dtype=torch.float64)
        w = torch.softmax(x @ mu.T - 0.5 * (mu**2).sum(dim=1), dim=1)
        loss = ((w @ mu) ** 2).sum(dim=1).mean()
        (grad,) = torch.autograd.grad(loss, mu)
        with torch.no_grad():
            mu -= STEP_SIZE * grad
    return mu.detach().numpy()
