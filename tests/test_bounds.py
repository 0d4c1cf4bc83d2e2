"""The inequalities that the bounds are made of, each by itself."""

from __future__ import annotations

from fractions import Fraction
from math import factorial

import numpy as np
import pytest
from configurations import KINDS, draw
from numpy.testing import assert_allclose
from scipy import integrate, stats

from overparam._softmax import log_softmax
from overparam.bounds import Majorant, hermite_error, hermite_order, hermite_room, trapezoid_error, trapezoid_step
from overparam.geometry import Integrand
from overparam.quadrature import hermite_axis, trapezoid_axis


def moments(order, highest):
    """Moments 0, 2, ..., 2 `highest` of the Gauss–Hermite rule of `order`, exactly: powers of its Jacobi matrix in integers."""
    found, vector = [], [1] + [0] * (order - 1)
    for _ in range(highest + 1):
        found.append(vector[0])
        for _ in range(2):  # rows of the similar matrix with 1 above and k below the diagonal
            vector = [(vector[k - 1] * k if k else 0) + (vector[k + 1] if k + 1 < order else 0) for k in range(order)]
    return found


@pytest.mark.parametrize("order", range(2, 49))
def test_peano_kernel_of_gauss_hermite_has_at_most_the_moments_of_a_normal(order):
    """mean of ξ^2j under the kernel <= (2j)!/(2^j j!), the moment of N(0, 1): in exact arithmetic up to j = 60."""
    rule = moments(order, order + 60)
    for j in range(61):
        exact = Fraction(factorial(2 * (order + j)), 2 ** (order + j) * factorial(order + j))
        derivative = Fraction(factorial(2 * order) * factorial(2 * j), factorial(2 * (order + j)) * factorial(order))
        kernel = (exact - rule[order + j]) * derivative
        assert kernel <= Fraction(factorial(2 * j), 2**j * factorial(j))
        if j == 0:
            assert kernel == 1
        if j == 1:
            assert kernel == Fraction(2 * (order**2 + order + 1), (2 * order + 1) * (2 * order + 2))
    # beyond j = 60 even without the rule's own moments the series for rates up to 6 adds next to nothing
    rest = sum(Fraction(18**j * factorial(2 * order), factorial(order) * 2**order * factorial(order + j)) for j in range(61, 160))
    assert rest < Fraction(1, 100)


def test_integer_moments_are_those_of_scipys_nodes():
    axis = hermite_axis(6)
    assert_allclose([axis.weights @ axis.nodes ** (2 * q) for q in range(9)], moments(6, 8), rtol=1e-12)


def softmax_row(x, means):
    w = np.exp(log_softmax(np.multiply.outer(x, means) - means**2 / 2))
    return w[:, 0] * (w @ np.abs(means))


@pytest.mark.parametrize("spread", [0.02, 0.3, 1.0, 3.0, 8.0])
def test_one_dimensional_rules_keep_their_bounds(spread):
    """A product of two weights against every rule: the error is below the bound, and the bound not absurd where a rule is used."""
    means = spread * np.array([-0.5, 0.5])
    x = np.linspace(-14, 14, 40_001)
    truth = (softmax_row(x, means) * stats.norm.pdf(x)).sum() * (28 / 40_000)
    size = Majorant(np.array([truth]), np.zeros(1), np.zeros(1), np.ones(1))
    for step in (1.4, 0.8, 0.4, 0.2, 0.1):
        axis = trapezoid_axis(-14, 14, step)
        error = abs(axis.weights @ softmax_row(axis.nodes, means) - truth)
        bound = trapezoid_error([step], spread, 0.0, size)[0, 0]
        assert error <= bound + 1e-15
    if spread <= 1:
        for order in (2, 3, 5, 9, 16):
            axis = hermite_axis(order)
            error = abs(axis.weights @ softmax_row(axis.nodes, means) - truth)
            bound = hermite_error([order], [spread], [0.0], size, spread)[0, 0]
            assert error <= bound + 1e-15


def test_steps_orders_and_room_just_meet_their_target():
    unit = np.ones(1)
    size = Majorant(1e9 * unit, 3e9 * unit, 1e9 * unit, unit)
    step = trapezoid_step(4.0, 0.0, size)
    assert trapezoid_error([step], 4.0, 0.0, size)[0, 0] <= 1 < trapezoid_error([1.03 * step], 4.0, 0.0, size)[0, 0]
    order = hermite_order(0.3, 0.0, size, 5.0)
    assert hermite_error([order], [0.3], [0.0], size, 5.0)[0, 0] <= 1 < hermite_error([order - 1], [0.3], [0.0], size, 5.0)[0, 0]
    room = hermite_room(np.array([order]), np.array([0.3]), np.array([0.0]), size, 5.0)[0]
    assert room >= 0.3 and hermite_error([order], [room], [0.0], size, 5.0)[0, 0] <= 1
    assert hermite_error([2], [0.0], [0.0], size, 5.0)[0, 0] == 0


def test_bounds_fall_with_finer_rules_and_narrower_spreads():
    size = Majorant(np.ones(2), np.ones(2), np.ones(2), np.array([1.0, 2.0]))
    steps, spreads = np.geomspace(0.05, 1.5, 30), np.geomspace(1e-9, 1.0, 30)
    for errors in (trapezoid_error(steps, 3.0, 1.0, size), hermite_error([4] * 30, spreads, 0.0, size, 3.0)):
        usable = np.isfinite(errors).all(axis=1)
        assert usable[:15].all() and not usable[-1]  # a rule too coarse for its own majorants promises nothing
        assert (np.diff(usable.astype(int)) <= 0).all() and (np.diff(errors[usable], axis=0) >= 0).all()
    assert (hermite_error([4, 4], [0.1, 0.1], [0.0, 0.4], size, 3.0)[1] > hermite_error([4], [0.1], [0.0], size, 3.0)[0]).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_envelopes_lie_above(rank, kind):
    """φ w_i <= exp(p_i - |x - x_i|²/2) at random points, touching anywhere."""
    rng = np.random.default_rng([rank, KINDS.index(kind)])
    for _ in range(20):
        params, weights = draw(rng, rank, kind, high=20.0)
        component = rng.standard_normal(rank)
        x = component + 6 * rng.standard_normal((400, rank))
        log_w = log_softmax(x @ params.T - (params**2).sum(axis=1) / 2, weights)
        below = log_w - ((x - component) ** 2).sum(axis=1)[:, None] / 2
        integrand = Integrand(params, params, weights, component, 1.0, np.ones(len(params)))
        for y in (integrand.modes(), component + 3 * rng.standard_normal(params.shape)):
            centres, peaks = integrand.envelopes(y)
            above = peaks - ((x[:, None] - centres) ** 2).sum(axis=-1) / 2
            assert (below <= above + 1e-9).all()


def single(params, weights):
    return Integrand(params, params, weights, np.zeros(1), 1.0, np.abs(params[:, 0]))


def test_modes_of_two_means_sit_at_the_crossing():
    """One mean at 0, one at r: the far one's integrand peaks near r/2, shifted where weights differ by ln(π₁/π₂)/r."""
    for r in (6.0, 9.0, 12.0):
        for ratio in (1.0, 1e-8):
            weights = np.array([1.0, ratio]) / (1 + ratio)
            modes = single(np.array([[0.0], [r]]), weights).modes()
            crossing = r / 2 - np.log(ratio) / r
            expected = min(crossing, r)  # where even that is beyond the mean itself, the mode stays with the mean
            assert abs(modes[1, 0] - expected) < 1.0
            assert abs(modes[0, 0]) < 0.2


@pytest.mark.parametrize("edge", [3.0, 5.0, 7.0])
def test_what_is_left_out_is_below_its_bound(edge):
    params = np.array([[0.1], [7.0]])
    weights = np.array([0.3, 0.7])
    integrand = single(params, weights)
    rows, loss = integrand.left_out(0, 1, np.array([edge]), integrand.modes())

    def parts(x):
        w = np.exp(log_softmax(x * params[:, 0] - params[:, 0] ** 2 / 2, weights))
        v = w @ params[:, 0]
        return stats.norm.pdf(x) * np.append(2 * w * (v + (params[:, 0] - v) * v * (x - params[:, 0])), v * v)

    lost = integrate.quad_vec(lambda x: np.abs(parts(x)), edge, 30, epsabs=1e-30, epsrel=1e-8)[0]
    assert (lost[:2] <= rows[0]).all() and lost[2] <= loss[0]
    assert rows[0, 1] <= 1e3 * lost[1]  # where the far mean's weight is all, the envelope from the edge is tight


def test_reach_goes_no_further_than_it_must():
    params, weights = np.array([[0.0], [8.0]]), np.array([0.5, 0.5])
    integrand = single(params, weights)
    targets = np.full(2, 1e-12)
    edge, rows, loss = integrand.reach(0, 1, integrand.modes(), targets, 1e-12)
    assert (rows <= targets).all() and loss <= 1e-12
    before, less = integrand.left_out(0, 1, np.array([edge - 0.25]), integrand.modes())
    assert (before > targets).any() or less > 1e-12
