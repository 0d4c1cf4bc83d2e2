"""Random measures and students for the kernel tests, and short calls of the kernels."""

import numpy as np
from numpy.testing import assert_allclose

from overparam._core.score_matching import Evaluator

# Kernel and twin round differently: logits of size l carry l * 2e-16 into the weights, sums of N terms sqrt(N) times
# that. With the sizes used here l < 100 and N < 3000, so errors stay near 1e-13 of the largest entry.
ROUNDING = 1e-12


def problem(n, k, nodes, *, scale=1.0, constant=False, equal=False, zero=False, rng=0):
    """A random measure (weights of both signs) and a student, in the twin's layout."""
    rng = np.random.default_rng([n, k, nodes, rng])
    x, q = rng.normal(size=(nodes, k)), rng.normal(size=nodes)
    target = rng.normal(size=k if constant else (nodes, k))
    weights = np.full(n, 1 / n) if equal else rng.dirichlet(np.ones(n))
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.where(zero & (np.arange(n) == n // 2), 0.0, weights))
    return x, q, target, rng.normal(size=k), scale * rng.normal(size=(n, k)), log_weights


def explicit(x, q, target, log_weights):
    """The evaluator of a measure in the twin's layout."""
    target = target.reshape(-1, x.shape[1])
    return Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.ascontiguousarray(target.T), log_weights)


def evaluate(evaluator, centre, deviations, form=1):
    mean_row, rows = np.full(evaluator.k, 7.0), np.full((evaluator.n, evaluator.k), 7.0)
    value = evaluator.evaluate(centre, deviations, form, mean_row, rows)
    return value, mean_row, rows


def majorants(evaluator, centre, deviations):
    out = np.empty((3, evaluator.n))
    return *out, evaluator.majorants(centre, deviations, *out)


def stein(evaluator, params):
    rows = np.empty_like(params)
    return evaluator.evaluate_stein(params, rows), rows


def trapezoid(orders, half_width=9.0):
    """Axis nodes and weights of a tensor trapezoid rule for the standard normal."""
    axes = [np.linspace(-half_width, half_width, order) if order > 1 else np.zeros(1) for order in orders]
    weights = [np.exp(-0.5 * axis**2) / np.exp(-0.5 * axis**2).sum() for axis in axes]
    return axes, weights


def multiplied_out(axes, weights):
    x = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    q = np.ones(1)
    for weight in weights:
        q = np.multiply.outer(q, weight)
    return x, q.ravel()


def tensor(axes, weights, target, log_weights):
    orders = np.array([len(axis) for axis in axes], dtype=np.intp)
    return Evaluator.from_tensor(np.concatenate(axes), np.concatenate(weights), orders, target, log_weights)


def close(actual, desired, rtol=ROUNDING):
    """Relative to the largest entry: single entries of a gradient can be 0 by symmetry."""
    assert_allclose(actual, desired, rtol=0, atol=rtol * np.max(np.abs(desired)))
