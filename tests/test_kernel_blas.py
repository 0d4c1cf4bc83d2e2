"""The likelihood's kernel where its products are BLAS's, and every instruction set on such sizes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from kernel_problems import ROUNDING, close, problem
from numpy.testing import assert_allclose

from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.score_matching import Evaluator

SIZES = [(24, 20, 700), (50, 10, 300), (8, 50, 40), (60, 8, 257)]  # blocks of 256 nodes


def likelihood(x, q, target, log_teacher, log_weights):
    target = target.reshape(-1, x.shape[1])
    return Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.ascontiguousarray(target.T), log_weights, True, log_teacher)


@pytest.mark.parametrize(("n", "k", "nodes"), SIZES)
@pytest.mark.parametrize("scale", [3.0, 1e-4])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("zero", [True, False])
def test_likelihood_is_its_twin(n, k, nodes, scale, constant, zero):
    x, q, t, c, delta, log_weights = problem(n, k, nodes, scale=scale / np.sqrt(k), constant=constant, zero=zero)
    log_weights = log_weights - np.log(np.exp(log_weights).sum())  # a likelihood is not the same for weights of another sum
    q = np.abs(q) / np.abs(q).sum()
    log_teacher = -0.5 * ((x - t) ** 2).sum(axis=1) if constant else np.sin(x).sum(axis=1)
    evaluator = likelihood(x, q, t, None if constant else log_teacher, log_weights)
    near = evaluator.near(c, delta)
    value, grad, shares = twin.likelihood(x, q, t, log_teacher, c + delta, log_weights, near > 0)
    size = q @ np.abs(twin.log_density(x, c + delta, log_weights)) + q @ np.abs(log_teacher)
    got_shares, rows = np.empty(n), np.empty((n, k))
    assert_allclose(evaluator.evaluate_shares(c, delta, got_shares, rows), value, rtol=0, atol=ROUNDING * size)
    close(rows, grad)
    close(got_shares, shares)
    mean_row = np.empty(k)
    assert_allclose(evaluator.evaluate(c, delta, 2, mean_row, rows), value, rtol=0, atol=ROUNDING * size)
    assert_allclose(rows + mean_row, grad, rtol=0, atol=ROUNDING * np.abs(grad).max())


@pytest.mark.parametrize("scale", [1e-100, 1e-7])
def test_tiny_deviations_keep_their_digits(scale):
    """Rows are homogeneous in deviations that small: those at 2 delta are twice those at delta."""
    x, q, t, c, delta, log_weights = problem(24, 20, 300, scale=scale, constant=True, equal=True)
    evaluator = Evaluator.from_nodes(np.ascontiguousarray(x.T), np.abs(q), t.reshape(-1, 1), log_weights)
    rows, twice, mean_row = np.empty((24, 20)), np.empty((24, 20)), np.empty(20)
    delta -= delta.mean(axis=0)
    evaluator.evaluate(c, delta, 2, mean_row, rows)
    evaluator.evaluate(c, 2 * delta, 2, mean_row, twice)
    assert_allclose(twice, 2 * rows, rtol=0, atol=max(1e-9 * scale, 20 * scale**2 * 400))


SCRIPT = """
import json, sys
import numpy as np
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.score_matching import Evaluator
worst = 0.0
for n, k, nodes in ((24, 20, 700), (50, 10, 300)):
    rng = np.random.default_rng(n)
    x, q, t = rng.normal(size=(nodes, k)), rng.normal(size=nodes), rng.normal(size=(nodes, k))
    delta, c, prior = rng.normal(size=(n, k)) / np.sqrt(k), rng.normal(size=k), np.full(n, -np.log(n))
    evaluator = Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.ascontiguousarray(t.T), prior)
    rows, mean = np.empty((n, k)), np.empty(k)
    evaluator.evaluate(c, delta, 1, mean, rows)
    exact = twin.score_matching(x, q, t, c + delta, prior)[1]
    worst = max(worst, np.abs(rows - exact).max() / np.abs(exact).max())
json.dump({"worst": worst, "path": cpu.info()["path"]}, sys.stdout)
"""


@pytest.mark.parametrize("name", cpu.info()["supported"])
def test_every_path_is_the_twin(name, tmp_path):
    run = subprocess.run([sys.executable, "-c", SCRIPT], env={**os.environ, "OVERPARAM_KERNEL": name}, cwd=tmp_path, capture_output=True,
                         text=True, check=True)
    found = json.loads(run.stdout)
    assert found["path"] == name and found["worst"] < ROUNDING
