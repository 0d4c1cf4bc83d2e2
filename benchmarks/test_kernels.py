"""The score-matching kernel against its NumPy twin on the same nodes.

Each round is STEPS steps of gradient descent, of value and gradient each: the kernel in its burst loop, the twin in a
Python loop. Compare the rows of one group in one run, never times of different runs.
"""

import numpy as np
import pytest

from overparam import _reference as twin
from overparam._core import cpu, descent
from overparam._core.score_matching import Evaluator

STEPS = 20

# (n, orders of the tensor rule)
CASES = [(5, (64, 3, 3)), (5, (2, 2, 2)), (5, (130,)), (5, (64, 5)), (5, (48, 16, 16)), (50, (64, 4, 4))]


def rule(orders):
    axes = [np.linspace(-7.0, 7.0, order) for order in orders]
    weights = [np.exp(-0.5 * axis**2) / np.exp(-0.5 * axis**2).sum() for axis in axes]
    return axes, weights


def multiplied_out(axes, weights):
    x = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    q = np.ones(1)
    for weight in weights:
        q = np.multiply.outer(q, weight).ravel()
    return x, q


def start(n, k, spread):
    deviations = spread * np.random.default_rng(0).normal(size=(n, k))
    return np.eye(k)[0], deviations, np.full(n, -np.log(n))


@pytest.mark.parametrize("spread", [1.0, 1e-6])
@pytest.mark.parametrize("how", ["tensor", "explicit", "twin"])
@pytest.mark.parametrize(("n", "orders"), CASES)
def test_score_matching(benchmark, n, orders, how, spread):
    k = len(orders)
    axes, weights = rule(orders)
    x, q = multiplied_out(axes, weights)
    centre, deviations, log_weights = start(n, k, spread)
    benchmark.group = f"n={n}, orders={orders}, spread={spread:g}"
    benchmark.extra_info.update(n=n, k=k, nodes=len(q), spread=spread, steps=STEPS, path=cpu.info()["path"])
    step_size = 1e-30  # moves nothing: every evaluation costs the same
    if how == "twin":
        params = centre + deviations
        benchmark(twin.descent, x, q, np.zeros(k), params, log_weights, step_size, STEPS)
        return
    if how == "tensor":
        flat = np.concatenate(axes), np.concatenate(weights), np.array(orders, dtype=np.intp)
        evaluator = Evaluator.from_tensor(*flat, np.zeros(k), log_weights)
    else:
        evaluator = Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.zeros((k, 1)), log_weights)
    wide = np.full(k, np.inf)
    limits = (-wide, wide, -wide, wide, np.zeros(n), -np.inf, np.inf)
    args = (evaluator.capsule, centre, deviations, step_size, STEPS, True, *limits)
    done, reason, _ = benchmark(descent.burst, *args)
    assert (done, reason) == (STEPS, descent.REASONS["done"])


def test_call_from_python(benchmark):
    """What a single evaluation costs from Python, at eight nodes: nearly all of it is the call."""
    axes, weights = rule((2, 2, 2))
    centre, deviations, log_weights = start(5, 3, 1.0)
    flat = np.concatenate(axes), np.concatenate(weights), np.array([2, 2, 2], dtype=np.intp)
    evaluator = Evaluator.from_tensor(*flat, np.zeros(3), log_weights)
    mean_row, rows = np.empty(3), np.empty((5, 3))
    benchmark.extra_info["nodes"] = 8
    benchmark(evaluator.evaluate, centre, deviations, 1, mean_row, rows)
