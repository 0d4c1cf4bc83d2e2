"""Objects that several threads share: kernels release the GIL, and a free-threaded Python has none."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import overparam as op

THREADS, REPEATS = 4, 3
POINT = np.random.default_rng(0).normal(size=(3, 2))
TARGET = np.array([[2.0, 0.3], [0.0, 1.0]])
DATA = np.random.default_rng(1).normal(size=(50, 2))

OBJECTIVES = {
    "score matching": (op.ScoreMatching(op.Gaussian(np.zeros(2))), POINT),
    "covariance": (op.ScoreMatching(op.Gaussian(np.zeros(2), np.diag([2.0, 0.5]))), POINT),
    "mixture": (op.KLDivergence(op.GaussianMixture([[2.0, 0.0], [-2.0, 0.0]])), POINT),
    "data": (op.KLDivergence(op.DataSet(DATA)), POINT),
    "reverse Fisher": (op.ReverseFisher(op.Gaussian(np.zeros(2))), POINT),
    "times": (op.TimeAveraged(op.Gaussian(np.zeros(2)), times=[0.0, 0.5], time_weights=[1.0, 2.0]), POINT),
    "neuron": (op.ReLUNeuron([1.0, 0.0]), POINT),
    "factors": (op.MatrixFactorization(TARGET, depth=3, balance=1.0), np.random.default_rng(2).normal(size=(3, 2, 2))),
}


@pytest.fixture
def eager_switches():
    """Threads take turns every microsecond instead of every 5 ms, so that they meet in the middle of things."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def all_at_once(work):
    """What `work` returns in each of several threads that begin together."""
    gate, results, errors = threading.Barrier(THREADS), [], []

    def call():
        try:
            gate.wait(30)
            results.extend(work() for _ in range(REPEATS))
        except BaseException as error:
            errors.append(error)

    callers = [threading.Thread(target=call) for _ in range(THREADS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not errors and len(results) == THREADS * REPEATS
    return results


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_objective_in_many_threads(name, eager_switches):
    """Values, gradients and bounds to the same bits as alone, whichever thread is the first to fill a cache."""
    objective, params = OBJECTIVES[name]
    found = all_at_once(lambda: objective.estimate(params))
    alone = objective.estimate(params)
    for each in found:
        assert (each.value, each.value_error) == (alone.value, alone.value_error)
        assert_array_equal(each.grad, alone.grad)
        assert_array_equal(each.grad_error, alone.grad_error)


@pytest.mark.parametrize("name", ["score matching", "mixture", "neuron", "factors"])
def test_one_objective_in_many_runs(name, eager_switches):
    objective, params = OBJECTIVES[name]

    def run():
        return op.gradient_descent(objective, params, step_size=0.01, steps=50, record=op.every(10), progress=False)

    alone = run()
    for each in all_at_once(run):
        assert_array_equal(each.loss, alone.loss)
        assert_array_equal(each.final, alone.final)
