"""Losses in closed form: time of a step over that of its matrix products at dgemm's peak, and over PyTorch's autograd.

    python benchmarks/closed_forms.py          # half a minute on one core

Fifty ReLU neurons in 200 dimensions, whose products are the two of (n, n) by (n, d); and four real factors of 200 rows with a balancing
term, with 3 (N - 1) products of (d, d) matrices and 4 (N - 1) more for the balancing, half of which are symmetric: the library computes
their halves. A step is one of gradient descent, in the compiled loop. Peak is the best rate of dgemm at 1000 rows, in the same run: what
the products alone would cost a library that lost nothing. The neuron's states live in the span of students and target, n + 1
coordinates, so that it may take less. PyTorch, where it is installed,
gets the same formulas, float64, one thread.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  one thread comes first

import overparam as op  # noqa: E402

N, D = 50, 200  # neurons, dimension
ROWS, DEPTH, BALANCE = 200, 4, 1.0
ROUNDS = 5


def best(work: Callable[[], object], repeat: int) -> float:
    """Least processor time of one of `repeat` calls, over a few rounds, in seconds."""
    work()
    found = math.inf
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeat):
            work()
        found = min(found, (time.process_time() - started) / repeat)
    return found


def peak() -> float:
    """Floating-point operations a second of dgemm at 1000 rows."""
    one, two, out = np.random.default_rng(0).random((1000, 1000)), np.random.default_rng(1).random((1000, 1000)), np.empty((1000, 1000))
    return 2e9 / best(lambda: np.dot(one, two, out=out), 3)


def step(objective: op.Objective, start: np.ndarray, steps: int) -> float:
    """Time of a step of gradient descent: that of a long run less that of a short one."""
    def run(count: int) -> float:
        return best(lambda: op.gradient_descent(objective, start, step_size=1e-4, steps=count, record=op.every(count), progress=False), 1)

    return (run(11 * steps) - run(steps)) / (10 * steps)


def torch_neurons(start: np.ndarray, target: np.ndarray) -> Callable[[], object]:
    """A step of the neuron's closed form by autograd, angles by atan2 of half angles as far as it goes."""
    import torch

    w, v, count = torch.tensor(start, requires_grad=True), torch.tensor(target), len(start)
    eye, signs = torch.eye(count + 1, dtype=torch.float64), torch.ones(count + 1, dtype=torch.float64)
    signs[-1] = -1

    def work() -> object:
        rows = torch.cat([w, v[None]])
        norms = rows.norm(dim=1)
        units = rows / norms[:, None]
        cosines = ((units @ units.T) * (1 - eye)).clamp(-1, 1)
        angles = torch.arccos(cosines)
        values = torch.sin(angles) + (math.pi - angles) * cosines
        pairs = (signs * norms)[:, None] * (signs * norms) * (values * (1 - eye) + math.pi * eye) / (2 * math.pi)
        (grad,) = torch.autograd.grad(pairs.sum() / 2, w)
        with torch.no_grad():
            w.sub_(grad, alpha=1e-4)
        return grad

    return work


def torch_factors(start: np.ndarray, target: np.ndarray) -> Callable[[], object]:
    """A step of the factorization by autograd."""
    import torch

    w, goal = torch.tensor(start, requires_grad=True), torch.tensor(target)

    def work() -> object:
        product = w[0]
        for j in range(1, DEPTH):
            product = w[j] @ product
        loss = ((product - goal) ** 2).sum() / 2
        for j in range(DEPTH - 1):
            loss = loss + BALANCE / 4 * ((w[j] @ w[j].T - w[j + 1].T @ w[j + 1]) ** 2).sum()
        (grad,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.sub_(grad, alpha=1e-4)
        return grad

    return work


def installed(name: str) -> bool:
    """Whether a module can be imported."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def main() -> None:
    rng = np.random.default_rng(0)
    neurons, target = 0.1 * rng.standard_normal((N, D)), np.eye(D)[0]
    factors, goal = 0.5 * np.linalg.qr(rng.standard_normal((DEPTH, ROWS, ROWS)))[0], np.eye(ROWS)
    cases = [(f"ReLU neurons, n={N}, d={D}", op.ReLUNeuron(target), neurons, 2 * 2 * N * N * D, 300, torch_neurons, target),
             (f"{DEPTH} factors, d={ROWS}", op.MatrixFactorization(goal, depth=DEPTH, balance=BALANCE), factors,
              (3 + 4) * (DEPTH - 1) * 2 * ROWS**3, 3, torch_factors, goal)]
    torch = installed("torch")
    if torch:
        import torch as library

        library.set_num_threads(1)
    print(f"{'':<26} {'dgemm peak':>11} {'products':>10} {'step':>10} {'step/products':>13}   PyTorch's step")
    for words, objective, start, operations, steps, peer, goal_of in cases:
        rate, taken = peak(), step(objective, start, steps)
        products = operations / max(rate, peak())  # a machine that others use too: the better of before and after
        line = f"{words:<26} {rate / 1e9:6.1f} GF/s {products * 1e6:7.1f} us {taken * 1e6:7.1f} us {taken / products:13.2f}   "
        if torch:
            other = best(peer(start, goal_of), max(3, steps // 3))
            line += f"{other * 1e6:.1f} us, {other / taken:.1f} times as long"
        print(line + ("" if torch else "not installed"))


if __name__ == "__main__":
    main()
