"""The inequalities that the bounds are made of, each by itself."""

from __future__ import annotations

from fractions import Fraction
from math import factorial

import numpy as np
import pytest
from configurations import KINDS, draw
from numpy.testing import assert_allclose
from scipy import integrate, stats

import overparam as op
from overparam._softmax import log_softmax
from overparam.bounds import Majorant, arms, hermite_error, hermite_order, hermite_room, trapezoid_error, trapezoid_step
from overparam.geometry import Integrand, _full_lattices
from overparam.nodes import hermite_axis, trapezoid_axis


def moments(order, highest):
    """Moments 0, 2, ..., 2 `highest` of the Gauss–Hermite rule of `order`, exactly: powers of its Jacobi matrix in integers."""
    found, vector = [], [1] + [0] * (order - 1)
    for _ in range(highest + 1):
        found.append(vector[0])
        for _ in range(2):  # rows of the similar matrix with 1 above and k below the diagonal
            vector = [(vector[k - 1] * k if k else 0) + (vector[k + 1] if k + 1 < order else 0) for k in range(order)]
    return found


@pytest.mark.parametrize("order", range(1, 49))
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


@pytest.mark.parametrize("step", [0.3, 0.9, 1.6, 2.5, 4.0, 9.0])
def test_full_lattices_sum_a_gaussian_and_its_second_moment_to_no_more(step):
    """Wherever the lattice lies; and coarse ones do sum it to more than its integral."""
    masses, squares = _full_lattices(np.array([step]))
    z = np.linspace(0, step, 41)[:, None] + step * np.arange(-60, 61)
    mass, square = (step * (stats.norm.pdf(z) * z**power).sum(axis=1).max() for power in (0, 2))
    assert mass <= masses[0] + 1e-14 and square <= squares[0] + 1e-14
    assert step < 1.6 or (mass > 1 + 1e-4 and square > 1 + 1e-3)
    assert masses[0] - 1 < 4 * (mass - 1) + 1e-12 and squares[0] - 1 < 4 * (square - 1) + 1e-9  # nor far more than needed


@pytest.mark.parametrize("order", [1, 2, 3, 7, 20, 64])
def test_gauss_hermite_sums_an_envelope_to_no_more(order):
    """Around any centre: the envelope to 1, with the squared distance to e."""
    axis = hermite_axis(order)
    centres = np.linspace(0, 12, 241)
    envelope = axis.weights * np.exp(np.multiply.outer(centres, axis.nodes) - centres[:, None] ** 2 / 2)
    assert envelope.sum(axis=1).max() <= 1 + 1e-12
    assert (envelope * (axis.nodes - centres[:, None]) ** 2).sum(axis=1).max() <= np.e


@pytest.mark.parametrize("step", [0.2, 0.8, 1.6, 3.0, 5.0])
@pytest.mark.parametrize(("params", "weights"), [([[0.1], [8.0]], [0.3, 0.7]), ([[4.0], [4.3]], [0.5, 0.5]), ([[3.0]], [1.0])])
def test_lattices_beyond_an_edge_before_the_centre(step, params, weights):
    """A lattice sum beyond an edge is not of a falling function where the edge comes before the envelope's centre."""
    params, weights = np.array(params), np.array(weights)
    integrand = single(params, weights)
    modes, apart = integrand.modes(), np.abs(params - params[:, 0])
    worst = 0.0
    for edge in np.arange(-6.0, 8.0, 0.25):
        rows, loss = integrand.left_out(0, 1, np.array([edge]), modes, np.array([step]))
        x = edge + step * np.arange(1, 400)
        w = np.exp(log_softmax(np.multiply.outer(x, params[:, 0]) - params[:, 0] ** 2 / 2, weights))
        u, v, arm = w @ np.abs(params[:, 0]), w @ apart, np.abs(x[:, None] - params[:, 0])
        q = step * stats.norm.pdf(x)
        lost = (q * u) @ (2 * w * (1 + v * arm))  # the majorant of a row: more than its own integrand
        assert (lost <= rows[0]).all() and q @ u**2 <= loss[0], edge
        rows, loss = integrand.left_out(0, 1, np.array([edge]), modes)
        worst = max(worst, (lost / rows[0]).max(), q @ u**2 / loss[0])
    assert step < 5 or worst > 1  # one node may carry all: what integrals would say is then too small


@pytest.mark.parametrize("half_width", [2.0, 3.5, 5.0, 6.5])
@pytest.mark.parametrize("orders", [6, 12, 60])
def test_a_fixed_half_width_that_ends_before_the_crossing(half_width, orders):
    """One mean at 0, one at 10: its row lives at 5."""
    params = np.array([[0.0], [10.0]])
    truth = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-13)).estimate(params)
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(orders, half_width=half_width)).estimate(params)
    assert abs(found.value - truth.value) <= found.value_error + truth.value_error
    assert (np.linalg.norm(found.grad - truth.grad, axis=1) <= found.grad_error + truth.grad_error).all()


@pytest.mark.parametrize(("order", "spread"), [(2, 0.1), (3, 0.02), (4, 0.2), (8, 0.3)])
def test_arms_bound_the_kink(order, spread):
    """B integrated on any axes is at most 1.1 (B + cC) summed on all: one trapezoid axis, two of Gauss–Hermite."""
    rng = np.random.default_rng(order)
    means = rng.uniform(-0.5, 0.5, (4, 3)) * [3.0, spread, spread / 3]
    means[:, 1] += 0.2 / spread  # far along a narrow axis the kink does not matter, near it does
    spreads, zeros = np.ptp(means, axis=0), np.zeros(3)
    fine = [trapezoid_axis(-9, 9, 0.4), trapezoid_axis(-6, 6, 0.25), trapezoid_axis(-6, 6, 0.25)]
    rules = [trapezoid_axis(-9, 9, 0.5), hermite_axis(order), hermite_axis(order)]
    one = np.ones(1)
    size = Majorant(one, one, one, one, axes=3)
    assert np.isfinite(trapezoid_error([0.5], spreads[0], 0.0, size)).all()
    assert np.isfinite(hermite_error([order] * 2, spreads[1:], zeros[1:], size, 1.0)).all()

    def sums(axes, target):
        x = np.stack([part.ravel() for part in np.meshgrid(*(axis.nodes for axis in axes), indexing="ij")], axis=1)
        q = np.einsum("i,j,k->ijk", *(axis.weights for axis in axes)).ravel()
        w = np.exp(log_softmax(x @ means.T - (means**2).sum(axis=1) / 2))
        three = (q * (w @ np.linalg.norm(means, axis=1)))[:, None] * w * (w @ np.linalg.norm(means[:, None] - means, axis=2))
        arm = np.linalg.norm((x[:, None] - means)[:, :, target], axis=2)
        return (three * arm).sum(axis=0), three.sum(axis=0)

    lengths = arms(spreads, zeros, np.array([True, False, False]))
    for axis, own in ((0, 1), (1, 0), (2, 0)):
        kept = [0, 1, 2] if own else [k for k in range(3) if k != axis]
        found, moment = sums(rules, [0, 1, 2])
        for finer in ((0, 1, 2), (1, 2), (2,), (0,)):
            integrated = sums([fine[k] if k in finer else rules[k] for k in range(3)], kept)[0]
            assert (integrated <= 1.1 * (found + lengths[own, axis] * moment)).all()


def test_a_kink_at_a_node_is_not_seen_by_the_rule():
    """Without the arm three nodes, one of them at the kink, sum |t| to 0.58; it integrates to 0.80."""
    axis = hermite_axis(3)
    seen, true = axis.weights @ np.abs(axis.nodes), np.sqrt(2 / np.pi)
    freed = arms(np.full(2, 1e-3), np.zeros(2), np.zeros(2, dtype=bool))[0, 0]
    assert 1.1 * seen < true <= 1.1 * (seen + freed)


def test_gauss_hermite_is_trusted_on_narrow_axes_only():
    """Spreads of 1 and more, the student's or the teacher's: no order up to 200 integrates its own majorants."""
    size = Majorant(np.ones(1), np.ones(1), np.ones(1), np.ones(1))
    orders = np.arange(1, 201)
    for spread, teacher in ((1.0, 0.0), (0.0, 1.0), (3.0, 0.5), (0.5, 9.0)):
        assert np.isinf(hermite_error(orders, spread, teacher, size, 0.0)).all()
    assert np.isfinite(hermite_error([20], 0.5, 0.0, size, 0.0)).all()


def test_many_axes_share_what_their_majorants_may_be_off_by():
    one = np.ones(1)
    few, many = (Majorant(one, one, one, one, axes=axes) for axes in (3, 12))
    assert np.isclose(np.exp(few.trust), 0.03) and np.isclose(np.exp(many.trust), 0.09 / 12)
    assert (1 - np.exp(few.trust)) ** -3 < 1.1 and (1 - np.exp(many.trust)) ** -12 < 1.1
    assert np.isfinite(trapezoid_error([1.5], 1e-3, 0.0, few)) and np.isinf(trapezoid_error([1.5], 1e-3, 0.0, many))


@pytest.mark.parametrize("off", [3e-15, 5e-14, 1e-12])
def test_directions_that_almost_coincide_are_kept_or_bounded(off):
    """Means along e1 and, off by a little, e2, in more dimensions than means: the row along e2 is small, and not lost unseen."""
    params = np.zeros((3, 8))
    params[:, 0], params[2, 1] = (0.5, -1.0, 2.0), 2.0 * off
    found = op.ScoreMatching(op.Gaussian(np.zeros(8)), rule=op.Auto(tol=1e-12)).estimate(params)
    plain = op.ScoreMatching(op.Gaussian(np.zeros(2)), rule=op.Trapezoid((200, 60))).estimate(params[:, :2] * [1.0, 1e-3 / off])
    across = plain.grad[:, 1] * off / 1e-3  # odd in the direction: linear up to its cube
    assert (np.abs(found.grad[:, 1] - across) <= found.grad_error + 1e-5 * np.abs(across)).all()
    if off > 1e-14:
        assert (np.abs(found.grad[:, 1]) > 0.9 * np.abs(across)).all()


def test_a_mean_beside_the_teacher_keeps_its_own_precision_in_the_reduced_space():
    """The first mean is far, the second 1e-9 from the teacher: with differences from the first it would lose seven digits."""
    turn = stats.special_ortho_group.rvs(12, random_state=3)
    params = np.zeros((3, 12))
    params[0, :2], params[1, 1:3], params[2, 1] = (9.0, -4.0), (0.6e-9, 0.8e-9), 11.0
    found = op.ScoreMatching(op.Gaussian(np.zeros(12)), rule=op.Auto(tol=1e-10)).estimate(params @ turn)
    plain = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=1e-10)).estimate(params[:, :3])
    back = found.grad @ turn.T
    assert (np.linalg.norm(back[:, :3] - plain.grad, axis=1) <= found.grad_error + plain.grad_error).all()
    assert_allclose(back[1, :3], plain.grad[1], rtol=1e-9)
    assert np.abs(back[1, 3:]).max() < 1e-16
