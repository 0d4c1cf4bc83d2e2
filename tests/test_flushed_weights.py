"""Weights below e^-600, which the kernels take for 0: the bounds say so, and rows that do not suffer keep theirs."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.nodes import Frame
from overparam.objectives.flushed import flushed

TARGET = op.Gaussian([0.0])
# The row of a mean at -1 of weight pi -> 0 beside one at 2: to first order in pi, closed forms of E[e^(3/2 - 3x) p(x)] for
# p = 2 D and 2 [D + <mu_1 - v, D>(x - mu_1)], D = 2, v = 2
CLOSED = {op.ScoreMatching: 28 * np.exp(6), op.KLDivergence: 2 * np.exp(6)}


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("weight", [1e-200, 1e-250, 1e-257, 1e-260, 1e-262, 1e-265, 1e-270, 1e-285, 1e-300])
def test_a_tiny_weight_has_an_honest_bound(kind, weight):
    found = kind(TARGET, weights=[1 - weight, weight]).estimate([[2.0], [-1.0]])
    true = CLOSED[kind] * weight
    assert abs(found.grad[1, 0] - true) <= found.grad_error[1]
    assert found.grad_error[1] < 100 * true  # no worse than a row that is not known at all
    if weight >= 1e-250:  # what is promised relative to itself
        assert found.grad_error[1] < 1e-9 * true
    assert found.grad_error[0] < 1e-8 * abs(found.grad[0, 0])  # the other row does not suffer


def test_the_closed_forms():
    """Against adaptive integration at a weight at which nothing is lost."""
    from scipy.integrate import quad

    weight = 1e-30
    for kind, closed in CLOSED.items():
        def row(x, kind=kind):
            quotient = weight * np.exp(-3 * x + 1.5)
            w = quotient / (1 + quotient)
            v = 2 - 3 * w
            whole = w * v if kind is op.KLDivergence else 2 * w * (v + (-1 - v) * v * (x + 1))
            return whole * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) / weight

        assert_allclose(quad(row, -14, 10, limit=300, epsabs=0, epsrel=1e-11, points=[-3.0])[0], closed, rtol=1e-9)


@pytest.mark.parametrize("kind", CLOSED)
def test_close_to_the_prior_weights_nothing_is_lost(kind):
    """All logits small: weights are formed from the prior ones, and a row of 1e-292 is exact; its majorants are not, hence the bound."""
    weight = 1e-290
    found = kind(TARGET, weights=[1 - weight, weight]).estimate([[0.01], [-0.01]])
    # w_1 = pi e^(-0.02 x), v = 0.01, in closed form: E e^(-0.02x) = e^0.0002, E x e^(-0.02x) = -0.02 e^0.0002
    factor = np.exp(0.0002) * weight
    true = {op.KLDivergence: 0.01 * factor, op.ScoreMatching: 2 * factor * (0.01 - 0.0002 * (-0.02 + 0.01))}[kind]
    assert abs(found.grad[1, 0] - true) < 1e-12 * true
    assert abs(found.grad[1, 0] - true) <= found.grad_error[1] < 100 * true
    # deviations of that size have no such weights, and keep their bounds
    tiny = kind(TARGET).estimate(op.State([1.0], [[1e-300], [-1e-300]]))
    assert tiny.bounds.rounding.grad.max() < 1e-11


@pytest.mark.parametrize("params", [[0.1, 69.0], [0.1, 72.0], [0.1, 74.9], [70.0, -60.0, 0.1]])
def test_far_rows_keep_their_bounds(params):
    """Rows of e^(-r^2/8) at r = 69 to 75 come from the crossing, where no weight is lost, not from where they are."""
    found = op.ScoreMatching(TARGET).estimate(np.array(params)[:, None])
    far = int(np.argmax(np.abs(params)))
    true = _row(params, far)
    assert abs(found.grad[far, 0] - float(true)) <= found.grad_error[far] < 1e-9 * abs(float(true))


def _row(params, index):
    """A row by a trapezoid rule in 40 digits around the crossing with the mean near the target."""
    with mpmath.workdps(40):
        means = [mpmath.mpf(one) for one in params]
        middle, h = means[index] / 2, mpmath.mpf("0.004")
        total = mpmath.mpf(0)
        for step in range(-3000, 3001):
            x = middle + step * h
            terms = [mpmath.exp(x * mean - mean**2 / 2 - x * x / 2) for mean in means]
            w = [term / mpmath.fsum(terms) for term in terms]
            v = mpmath.fsum(a * b for a, b in zip(w, means, strict=True))
            total += mpmath.npdf(x) * 2 * w[index] * (v + (means[index] - v) * v * (x - means[index]))
        return total * h


def test_the_lost_weight_is_bounded():
    """Random students: E[w_i; w_i < e^-600 max w_j], on a fine grid of logarithms, is below what the bound takes for it."""
    rng = np.random.default_rng(5)
    x = np.linspace(-40.0, 40.0, 80_001)
    normal = -x * x / 2 - np.log(np.sqrt(2 * np.pi)) + np.log(x[1] - x[0])
    seen = 0
    for _ in range(40):
        n = int(rng.integers(2, 5))
        params, logs = 40 * rng.normal(size=n), -600 * rng.random(n) * (rng.random(n) < 0.5)
        logs -= np.logaddexp.reduce(logs)
        logits = logs[:, None] + np.outer(params, x) - params[:, None] ** 2 / 2
        below = logits - logits.max(axis=0)
        shares = below - np.logaddexp.reduce(below, axis=0) + normal
        exact = np.array([np.logaddexp.reduce(row, where=row_below < -600.0, initial=-np.inf) for row, row_below in
                          zip(shares, below, strict=True)])
        frame = Frame(params=params[:, None], deviations=params[:, None], weights=np.exp(logs), means=np.zeros((1, 1)),
                      teacher_weights=np.ones(1))
        bound = flushed(_Plain(), frame, np.zeros(1), params[:, None], 40.0, np.inf, 1.0)
        found = np.full(n, -np.inf) if bound is None else np.log(np.maximum(bound.grad, 1e-320))
        assert (exact[exact > -730] <= found[exact > -730] + 1e-6).all()
        seen += int((exact > -730).sum())
    assert seen > 20


class _Plain:
    """Effects of 1: what is left is the lost weight itself."""

    def effects(self, omega, k):
        return 1.0, 1.0
