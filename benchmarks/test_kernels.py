"""The score-matching kernel against its NumPy twin on the same nodes.

Each round is STEPS steps of gradient descent, of value and gradient each: the kernel in its burst loop, the twin in a
Python loop. Compare the rows of one group in one run, never times of different runs.
"""

import numpy as np
import pytest

import overparam as op
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


def problem(n, orders, how, spread):
    """Evaluator, centre and deviations, around a target at 0."""
    k = len(orders)
    axes, weights = rule(orders)
    centre, deviations, log_weights = start(n, k, spread)
    if how == "tensor":
        flat = np.concatenate(axes), np.concatenate(weights), np.array(orders, dtype=np.intp)
        return Evaluator.from_tensor(*flat, np.zeros(k), log_weights), centre, deviations
    x, q = multiplied_out(axes, weights)
    return Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.zeros((k, 1)), log_weights), centre, deviations


def steps_of(evaluator, centre, deviations):
    """Arguments of a burst that moves nothing: every evaluation costs the same."""
    n, k = deviations.shape
    wide = np.full(k, np.inf)
    return evaluator.capsule, centre, deviations, 1e-30, STEPS, True, -wide, wide, -wide, wide, np.zeros(n), -np.inf, np.inf


@pytest.mark.parametrize("spread", [1.0, 1e-6])
@pytest.mark.parametrize("how", ["tensor", "explicit", "twin"])
@pytest.mark.parametrize(("n", "orders"), CASES)
def test_score_matching(benchmark, n, orders, how, spread):
    k = len(orders)
    evaluator, centre, deviations = problem(n, orders, "tensor" if how == "tensor" else "explicit", spread)
    benchmark.group = f"n={n}, orders={orders}, spread={spread:g}"
    benchmark.extra_info.update(n=n, k=k, nodes=evaluator.nodes, spread=spread, steps=STEPS, path=cpu.info()["path"])
    if how == "twin":
        x, q = multiplied_out(*rule(orders))
        benchmark(twin.descent, x, q, np.zeros(k), centre + deviations, np.full(n, -np.log(n)), 1e-30, STEPS)
        return
    assert benchmark(descent.burst, *steps_of(evaluator, centre, deviations))[:2] == (STEPS, descent.REASONS["done"])


def test_call_from_python(benchmark):
    """What a single evaluation costs from Python, at eight nodes: nearly all of it is the call."""
    axes, weights = rule((2, 2, 2))
    centre, deviations, log_weights = start(5, 3, 1.0)
    flat = np.concatenate(axes), np.concatenate(weights), np.array([2, 2, 2], dtype=np.intp)
    evaluator = Evaluator.from_tensor(*flat, np.zeros(3), log_weights)
    mean_row, rows = np.empty(3), np.empty((5, 3))
    benchmark.extra_info["nodes"] = 8
    benchmark(evaluator.evaluate, centre, deviations, 1, mean_row, rows)


# Spread 1 and spread 200 on the same nodes: at 200 weights are 1 or below e^-600, and none may be denormal, which would cost 15 times and
# more. Compare the rows of a group: lists of nodes cost the same. A tensor rule also gives up its tables of factors at such ranges of
# logits, and then costs what the list of its nodes does.
@pytest.mark.parametrize("spread", [1.0, 200.0])
@pytest.mark.parametrize("how", ["tensor", "explicit"])
@pytest.mark.parametrize(("n", "orders"), [(5, (64, 3, 3)), (5, (130,)), (50, (64, 4, 4))])
def test_spread_costs_nothing(benchmark, n, orders, how, spread):
    evaluator, centre, deviations = problem(n, orders, how, spread)
    benchmark.group = f"spread, n={n}, orders={orders}, {how}"
    benchmark.extra_info.update(n=n, k=len(orders), nodes=evaluator.nodes, spread=spread, steps=STEPS, path=cpu.info()["path"])
    args = steps_of(evaluator, centre, deviations)
    assert benchmark(descent.burst, *args)[:2] == (STEPS, descent.REASONS["done"])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("n", "orders", "how"), [(5, (64, 3, 3), "tensor"), (5, (120, 40, 20), "tensor"), (5, (120, 60, 40), "tensor"),
                                                  (10, (64, 32, 32), "explicit")])
def test_threads(benchmark, n, orders, how, count):
    """One and two threads; the first case is too short for two. Needs two processors that nobody else uses."""
    evaluator, centre, deviations = problem(n, orders, how, 1.0)
    benchmark.group = f"threads, n={n}, orders={orders}, {how}"
    benchmark.extra_info.update(n=n, k=len(orders), nodes=evaluator.nodes, threads=count, pieces=evaluator.pieces, steps=STEPS)
    with op.threads(count):
        assert benchmark(descent.burst, *steps_of(evaluator, centre, deviations), seconds=60.0)[:2] == (STEPS, descent.REASONS["done"])
