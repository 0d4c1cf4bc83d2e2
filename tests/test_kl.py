"""The Kullback–Leibler divergence: kernel, value to late stages, bounds that hold, Hessian, and the laws of its runs."""

from __future__ import annotations

import dataclasses
import itertools

import configurations
import mpmath
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam import _reference
from overparam._core.score_matching import Evaluator
from overparam.log_bounds import FarLogs, NearLogs, log_size
from overparam.nodes import hermite_axis
from overparam.objectives.far_means import FarPlan

EPS = np.finfo(float).eps
ONE = op.KLDivergence(op.Gaussian([0.0]))


def teacher_of(means, shares):
    return op.Gaussian(means[0]) if len(means) == 1 else op.GaussianMixture(means, shares)


# --- the kernel ------------------------------------------------------------------------------------------------------


def tensor(orders):
    axes = [hermite_axis(order) for order in orders]
    mesh = np.meshgrid(*(axis.nodes for axis in axes), indexing="ij")
    weights = axes[0].weights
    for axis in axes[1:]:
        weights = np.multiply.outer(weights, axis.weights)
    arrays = np.concatenate([axis.nodes for axis in axes]), np.concatenate([axis.weights for axis in axes]), np.array(orders, dtype=np.intp)
    return arrays, np.stack([part.ravel() for part in mesh], axis=1), weights.ravel()


@pytest.mark.parametrize("orders", [[9], [70], [30, 20], [60, 9], [20, 11, 5], [9, 7, 3, 2]])
@pytest.mark.parametrize("scale", [3.0, 0.3, 0.01])
@pytest.mark.parametrize("offset", [0.0, 1e-3, 0.5])
def test_kernel_is_its_twin(orders, scale, offset):
    rng = np.random.default_rng(len(orders) + 10)
    n, k = 5, len(orders)
    arrays, nodes, weights = tensor(orders)
    log_weights = np.log(rng.dirichlet(np.ones(n)))
    centre, deviations = offset * rng.standard_normal(k), scale * rng.standard_normal((n, k))
    makers = (Evaluator.from_tensor(*arrays, np.zeros(k), log_weights, True),
              Evaluator.from_nodes(np.ascontiguousarray(nodes.T), weights, np.zeros((k, 1)), log_weights, True))
    for evaluator in makers:
        near = evaluator.near(centre, deviations)
        logs = -(nodes**2).sum(axis=1) / 2
        value, grad, shares = _reference.likelihood(nodes, weights, np.zeros(k), logs, centre + deviations, log_weights, near)
        rows, mean, found_shares = np.empty((n, k)), np.empty(k), np.empty(n)
        # the twin's r is a difference of numbers of size |x|^2/2
        slack = 200 * EPS * (np.sqrt(value) if near else 1.0) + 1e-12 * value
        assert abs(evaluator.evaluate(centre, deviations, 1, mean, rows) - value) < slack
        assert_allclose(rows, grad, rtol=0, atol=1e-14)
        assert_allclose(mean, grad.mean(axis=0), rtol=0, atol=1e-14)
        again = np.empty((n, k))
        assert evaluator.evaluate_shares(centre, deviations, found_shares, again) == evaluator.evaluate(centre, deviations, 0, None, None)
        assert_array_equal(again, rows)
        assert_allclose(found_shares, shares, rtol=0, atol=4e-15)
        evaluator.evaluate(centre, deviations, 2, mean, again)
        assert_allclose(again + mean, rows, rtol=0, atol=1e-14)


def test_kernel_with_a_mixture():
    rng = np.random.default_rng(0)
    nodes, weights, params = rng.standard_normal((77, 2)), rng.random(77), rng.standard_normal((4, 2))
    means, shares = rng.standard_normal((3, 2)), np.array([0.2, 0.5, 0.3])
    logs = _reference.log_density(nodes, means, np.log(shares))
    target = _reference.softmax_weights(nodes, means, np.log(shares)) @ means
    evaluator = Evaluator.from_nodes(np.ascontiguousarray(nodes.T), weights, np.ascontiguousarray(target.T), np.log(np.full(4, 0.25)), True,
                                     logs)
    for spread in (1.0, 1e-3):
        rows = np.empty((4, 2))
        value, grad, _ = _reference.likelihood(nodes, weights, target, logs, 0.3 + spread * params, np.log(np.full(4, 0.25)))
        assert_allclose(evaluator.evaluate(np.full(2, 0.3), spread * params, 1, np.empty(2), rows), value, rtol=1e-13)
        assert_allclose(rows, grad, atol=1e-13)


def test_shapes_are_checked():
    arrays, nodes, weights = tensor([5])
    plain = Evaluator.from_tensor(*arrays, np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="likelihood"):
        plain.evaluate_shares(np.zeros(1), np.zeros((1, 1)), np.empty(1), np.empty((1, 1)))
    with pytest.raises(ValueError, match=r"shares must have shape \(1,\)"):
        Evaluator.from_tensor(*arrays, np.zeros(1), np.zeros(1), True).evaluate_shares(np.zeros(1), np.zeros((1, 1)), np.empty(2),
                                                                                      np.empty((1, 1)))
    with pytest.raises(ValueError, match="log_teacher needs 5 entries"):
        Evaluator.from_nodes(np.ascontiguousarray(nodes.T), weights, np.zeros((1, 5)), np.zeros(1), True)


def test_one_step_of_em_from_shares_and_rows():
    """E[w_i x]/E[w_i] = mu_i - grad_i/E[w_i], integrated here from its definition."""
    params, x = np.array([[1.5], [-0.4]]), np.linspace(-10, 10, 2001)[:, None]
    density = np.exp(-x[:, 0] ** 2 / 2) * 0.01 / np.sqrt(2 * np.pi)
    w = _reference.softmax_weights(x, params, np.log([0.3, 0.7]))
    evaluator = Evaluator.from_nodes(np.ascontiguousarray(x.T), density, np.zeros((1, 1)), np.log([0.3, 0.7]), True)
    shares, rows = np.empty(2), np.empty((2, 1))
    evaluator.evaluate_shares(np.zeros(1), params, shares, rows)
    assert_allclose(shares, density @ w, rtol=1e-13)
    assert_allclose(params[:, 0] - rows[:, 0] / shares, (density * x[:, 0]) @ w / (density @ w), rtol=1e-12)


# --- the value -------------------------------------------------------------------------------------------------------


def test_one_parameter_is_half_a_quadratic():
    mean, mu = np.array([0.5, -1.0, 2.0]), np.array([[2.0, 1.0, 1.5]])
    value, grad = op.KLDivergence(op.Gaussian(mean)).value_and_grad(mu)
    assert_allclose(value, ((mu - mean) ** 2).sum() / 2, rtol=8 * EPS)
    assert_allclose(grad, mu - mean, rtol=8 * EPS)
    for distance in (1e-3, 1e-9, 1e3):  # coincident parameters are one
        same = np.repeat(mean[None] + distance * np.eye(3)[:1], 4, axis=0)
        exact = ((same[0] - mean) ** 2).sum() / 2
        assert_allclose(op.KLDivergence(op.Gaussian(mean)).value(same), exact, rtol=1e-13)


def test_one_parameter_against_a_mixture():
    """L = |mu - m|^2/2 + a constant, m the teacher's mean; the gradient is mu - m."""
    means, shares, mu = np.array([[-1.0, 0.0], [2.0, 0.5]]), np.array([0.3, 0.7]), np.array([[0.4, 1.0]])
    obj, middle = op.KLDivergence(op.GaussianMixture(means, shares)), shares @ means
    value, grad = obj.value_and_grad(mu)
    assert_allclose(grad[0], mu[0] - middle, rtol=1e-10)
    assert_allclose(value - obj.value(middle[None]), ((mu[0] - middle) ** 2).sum() / 2, rtol=3e-10)


@pytest.mark.parametrize("means", [[[0.3, 0.1]], [[-1.0, 0.0], [1.2, 0.5]], [[-2.0, 1.0], [0.3, 0.0], [2.0, -3.0]]])
def test_student_equal_to_its_teacher(means):
    teacher = op.GaussianMixture(means, np.arange(1, len(means) + 1) / sum(range(1, len(means) + 1)))
    found = op.KLDivergence(teacher, weights=teacher.weights).estimate(means)
    assert abs(found.value) < 1e-14 and abs(found.value) <= found.value_error
    assert np.abs(found.grad).max() < 1e-14


def test_rewriting_the_weights_of_coincident_means_changes_nothing():
    two, five = op.KLDivergence(op.Gaussian([0.0]), weights=[0.4, 0.6]), op.KLDivergence(op.Gaussian([0.0]))
    assert_allclose(two.value([[1.0], [-2.0]]), five.value([[1.0], [1.0], [-2.0], [-2.0], [-2.0]]), rtol=3e-10)


def exact_value(params):
    """KL from N(0, 1) in 60 digits, equal weights: -E ln sum exp(l_i)/n on a lattice that errs by exp(-2 pi^2/(s h)) at most."""
    with mpmath.workdps(60):
        params = [mpmath.mpf(float(p)) for p in params]
        total, h = mpmath.mpf(0), mpmath.mpf(1) / 8
        for j in range(-13 * 8, 13 * 8 + 1):
            x = j * h
            total -= mpmath.exp(-x * x / 2) * mpmath.log(mpmath.fsum(mpmath.exp(x * p - p * p / 2) for p in params) / len(params))
        return total * h / mpmath.sqrt(2 * mpmath.pi)


@pytest.mark.parametrize("size", [0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_value_late_in_a_run(size, shift):
    """Deviations of `size` around the target, their mean off by its square: L is of the order of size^4."""
    z = np.array([0.61, -1.47, 0.22, 0.64])
    params = size * z + shift * size**2
    found = ONE.estimate(params[:, None])
    with mpmath.workdps(60):
        exact = exact_value(params)
        error = float(abs(mpmath.mpf(found.value) - exact))
    assert error <= found.value_error
    # below: e^r - 1 - r from expm1; above: from r, which is right to 1e-16; at 0.3 r itself is summed
    assert error < (1e-13 if size < 0.04 else 1e-11) * exact
    assert found.value_error < (1e-10 if size < 0.04 else 1e-9) * exact


def test_value_is_continuous_where_its_form_changes():
    """Around the deviations at which the kernel goes from e^r - 1 - r by expm1 to the same by r, and to -r."""
    sizes = np.geomspace(0.02, 0.4, 120)
    points = [np.array([[s], [-s], [0.5 * s], [-0.5 * s]]) for s in sizes]
    quotients = np.array([ONE.value(point) for point in points]) / sizes**4
    forms = {plan._evaluator.near(*plan.enter(state)) for point in points for state in [ONE.start(point)]
             for plan in [ONE._plan_with(state, ONE.rule, roomy=False)]}
    assert forms == {0, 1, 2}
    assert (np.abs(np.diff(quotients, 3)) < 1e-4 * quotients[:-3]).all()


# --- bounds ----------------------------------------------------------------------------------------------------------


def lattice(params, weights, means, shares, step=1 / 32):
    """(1 + n, ...) loss and rows from -ln p and -w_i (x - mu_i), neither of which the library integrates, on a fine lattice."""
    reach = 10.0
    lines = [np.arange(min(m.min() - reach, (m.min() + p.min()) / 2 - reach), max(m.max() + reach, (m.max() + p.max()) / 2 + reach), step)
             for m, p in zip(means.T, params.T, strict=True)]
    x = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")], axis=1)
    log_teacher = _reference.log_density(x, means, np.log(shares))
    q = np.exp(log_teacher) * (step / np.sqrt(2 * np.pi)) ** x.shape[1]
    logs = _reference.log_density(x, params, np.log(weights))
    w = np.exp(np.log(weights) - 0.5 * ((x[:, None] - params) ** 2).sum(axis=2) - logs[:, None])
    rows = -np.einsum("b,bi,bik->ik", q, w, x[:, None] - params)
    return q @ (log_teacher - logs), rows, q @ np.abs(log_teacher - logs), q @ (w * np.linalg.norm(x[:, None] - params, axis=2))


@pytest.mark.parametrize("mixture", [False, True], ids=["one Gaussian", "mixture"])
@pytest.mark.parametrize("rank", [1, 2])
def test_errors_are_below_their_bounds(rank, mixture):
    rng = np.random.default_rng(7 + rank)
    for number in range(36 if rank == 1 else 18):
        kind = configurations.KINDS[number % 6]
        high = 9.0 if rank == 1 else 3.0
        if mixture:
            params, weights, means, shares = configurations.draw_mixture(rng, rank, kind, high)
        else:
            params, weights = configurations.draw(rng, rank, kind, high=high)
            means, shares = np.zeros((1, rank)), np.ones(1)
        tol = 10 ** rng.uniform(-10, -3)
        rule = (op.Auto(tol=tol), op.Trapezoid(int(rng.integers(8, 60))), op.GaussHermite(int(rng.integers(2, 30))))[number % 3]
        found = op.KLDivergence(teacher_of(means, shares), weights=weights, rule=rule).estimate(params)
        value, rows, size, sizes = lattice(params, weights, means, shares, 1 / 32 if rank == 1 else 1 / 8)
        # the oracle's own rounding: its r is a difference of numbers up to |x|^2/2
        slack = np.append(1e-13 * size + 1e-15, 1e-13 * sizes)
        errors = np.append(abs(found.value - value), np.linalg.norm(found.grad - rows, axis=1))
        bounds = np.append(found.value_error, found.grad_error)
        assert (errors <= bounds + slack).all(), (number, kind, rule, errors, bounds)
        if number % 3 == 0:
            asked = tol * np.append(abs(value), np.linalg.norm(rows, axis=1))
            assert (bounds <= 1.001 * asked + 1e4 * EPS * np.append(1 + size, sizes + 1)).all(), (number, kind, tol, bounds, asked)


def test_each_part_of_the_bound_has_its_own_reason():
    params = np.array([[2.0], [-1.0]])
    coarse = op.KLDivergence(op.Gaussian([0.0]), rule=op.Trapezoid(9, half_width=9.0)).estimate(params)
    short = op.KLDivergence(op.Gaussian([0.0]), rule=op.Trapezoid(200, half_width=3.0)).estimate(params)
    exact = ONE.value(params)
    assert coarse.bounds.discretisation.value > 1e3 * coarse.bounds.truncation.value
    assert short.bounds.truncation.value > 1e3 * short.bounds.discretisation.value
    assert 1e-5 < abs(short.value - exact) <= short.value_error


def test_a_tight_state_on_a_short_trapezoid():
    """The tail of e^r - 1 - r is bounded by itself: a fixed lattice around deviations of 1e-3 leaves out 1e-9 of a loss of 1e-12."""
    params = np.array([[1e-3], [-1e-3], [0.0]])
    found = op.KLDivergence(op.Gaussian([0.0]), rule=op.Trapezoid(60, half_width=8.0)).estimate(params)
    with mpmath.workdps(60):
        exact = exact_value(params[:, 0])
        assert float(abs(mpmath.mpf(found.value) - exact)) <= found.value_error < 1e-6 * exact
    cut = op.KLDivergence(op.Gaussian([0.0]), rule=op.Trapezoid(60, half_width=2.5)).estimate(params)
    assert float(abs(cut.value - exact)) <= cut.value_error


def test_what_bounds_the_logarithm():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n, k = int(rng.integers(1, 7)), int(rng.integers(1, 4))
        params, mean = rng.standard_normal((n, k)) * 10 ** rng.uniform(-2, 1), rng.standard_normal(k)
        weights = rng.dirichlet(np.full(n, 0.5)) * 0.999 + 0.001 / n
        constant, slope, reach = log_size(params, weights, mean)
        z = rng.standard_normal((50, k)) * 3
        ratio = _reference.log_density(mean + z, params, np.log(weights)) + (z**2).sum(axis=1) / 2
        length = np.linalg.norm(z, axis=1)
        assert (np.abs(ratio) <= constant + slope * length + np.minimum(reach * length, length**2 / 2) + 1e-12 * (1 + np.abs(ratio))).all()


@pytest.mark.parametrize("near", [False, True])
def test_strips_and_circles_against_the_complex_function(near):
    """|f| off the real axis, integrated, is below what the bounds take for it."""
    rng = np.random.default_rng(5)
    x = np.linspace(-10, 10, 401)
    phi = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0])

    def modulus(z, params, weights):
        """|f| with the branch of ln that is continuous from the real axis."""
        def total(at):
            return np.sum(weights * np.exp(at[:, None] * params - params**2 / 2), axis=1)

        path = [total(x + (z - x) * part) for part in np.linspace(0, 1, 25)]
        r = np.log(path[0]).astype(complex) + sum(np.log(after / before) for before, after in itertools.pairwise(path))
        return np.abs(np.exp(r) - 1 - r if near else r)

    for _ in range(25):
        n = int(rng.integers(2, 6))
        params, weights = rng.standard_normal(n) * (0.02 if near else 10 ** rng.uniform(-1, 0.7)), rng.dirichlet(np.ones(n))
        spread = np.ptp(params)
        if near:
            size = NearLogs(params[:, None], weights, None)
        else:
            constant, slope, reach = log_size(params[:, None], weights, np.zeros(1))
            size = FarLogs(constant + slope + min(reach, 0.5), np.abs(params).max())
        for part in (0.2, 0.6, 0.9):
            a = np.array([min(part * np.pi / spread, 12.0)])
            assert phi @ modulus(x + 1j * a, params, weights) <= np.exp(size.log_strip(a, np.log(np.cos(a * spread / 2)), 0 * a))[0]
            a = np.minimum(a, 2.5 / spread)
            around = max(phi @ modulus(x + a * np.exp(1j * angle), params, weights) for angle in np.linspace(0, np.pi, 5))
            assert around <= np.exp(size.log_circle(a, np.log(np.cos(a * spread / 2)), 0 * a))[0]


# --- what objectives offer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "m"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (2, 3, 1), (3, 2, 2)])
def test_hessian(n, d, m):
    rng = np.random.default_rng(n + d + m)
    means, shares = rng.standard_normal((m, d)), rng.dirichlet(np.ones(m))
    obj = op.KLDivergence(teacher_of(means, shares), weights=rng.dirichlet(np.ones(n)), rule=op.Auto(tol=1e-12))
    params, direction = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    hessian = obj.hessian(params)
    assert_allclose(hessian, op.Objective.hessian(obj, params), atol=3e-10)  # differences of gradients that are right to 1e-12
    assert_allclose(obj.hvp(params, direction), np.einsum("iajb,jb->ia", hessian, direction), atol=1e-13)
    assert_allclose(hessian, hessian.transpose(2, 3, 0, 1), atol=1e-14)


def test_hessian_is_its_twin():
    rng = np.random.default_rng(2)
    params, nodes = rng.standard_normal((3, 2)), rng.standard_normal((64, 2))
    obj = op.KLDivergence(op.Gaussian([0.0, 0.0]), rule=op.GaussHermite(12))
    state = obj.start(params)
    plan = obj.plan(state)
    nodes, weights = plan._measure.grid.points()
    twin = _reference.likelihood_hessian(nodes, weights, plan._frame.params, np.log(np.full(3, 1 / 3)))
    turned = np.einsum("pa,iajb,qb->ipjq", plan._axes, twin, plan._axes)
    assert_allclose(plan.hessian(state), turned, atol=1e-13)


def test_hessian_of_coincident_parameters():
    """Equal parameters at c: H_ij = delta_ij/n - (delta_ij/n - 1/n^2)(I + c c')."""
    c = np.array([0.7, -0.2])
    own = np.eye(3)[:, None, :, None] / 3
    expected = own * np.eye(2)[:, None] - (own - 1 / 9) * (np.eye(2) + np.outer(c, c))[:, None]
    assert_allclose(op.KLDivergence(op.Gaussian([0.0, 0.0])).hessian(np.repeat(c[None], 3, axis=0)), expected, atol=1e-12)


@pytest.mark.parametrize("r", [60.0, 74.0, 76.0, 1e6])
def test_means_that_float64_cannot_see(r):
    """They keep their weight: the loss is that of the others plus ln 3/2, and nothing happens where they begin to be left out."""
    params = np.array([[0.7], [-0.4], [r]])
    assert isinstance(ONE.plan(ONE.start(params)), FarPlan) == (r > 75)
    found, two = ONE.estimate(params), ONE.estimate(params[:2])
    assert_allclose(found.value, two.value + np.log(1.5), rtol=1e-9)
    assert_allclose(found.grad[:2], two.grad, rtol=1e-9)
    assert found.grad_error[2] < 1e-200
    traj = op.gradient_descent(ONE, params, step_size=0.1, steps=300)
    assert traj.status == "completed" and abs(traj.final[2, 0] - r) < 1e-14 * r
    assert_allclose(traj.loss[-1], ONE.value(traj.final), rtol=1e-9)


def test_zero_weight_asks_for_nothing():
    obj, two = (op.KLDivergence(op.Gaussian([0.0, 0.0]), weights=w) for w in ([0.5, 0.5, 0.0], [0.5, 0.5]))
    value, grad = obj.value_and_grad([[1.0, 0.0], [0.0, 1.0], [1e8, 0.0]])
    expected, rows = two.value_and_grad([[1.0, 0.0], [0.0, 1.0]])
    assert_allclose(value, expected, rtol=3e-10)
    assert_allclose(grad[:2], rows, rtol=3e-10)
    assert_array_equal(grad[2], 0.0)


@pytest.mark.parametrize("rule", [op.Sobol, op.Stratified, op.MonteCarlo])
def test_sampled_rules_know_their_error(rule):
    params = np.array([[0.9, -0.4], [-0.7, 0.8], [1.6, 0.3]])
    for teacher in (op.Gaussian([0.2, 0.0]), op.GaussianMixture([[-1.0, 0.0], [1.2, 0.5]], [0.9, 0.1])):
        found, exact = op.KLDivergence(teacher, rule=rule(2**12, rng=4)).estimate(params), op.KLDivergence(teacher).estimate(params)
        assert found.reliable and found.value_error < 0.05
        assert abs(found.value - exact.value) < 5 * found.value_error
        assert (np.linalg.norm(found.grad - exact.grad, axis=1) < 5 * found.grad_error).all()


def test_minibatches_and_their_error():
    teacher, params = op.GaussianMixture([[-1.0], [1.5]]), np.array([[2.0], [0.0], [-0.5]])
    obj, rng = op.KLDivergence(teacher), np.random.default_rng(0)
    found = [obj.minibatch(params, 500, rng, errors=True) for _ in range(200)]
    values, errors = np.array([one.value for one in found]), np.array([one.value_error for one in found])
    assert abs(values.mean() - obj.value(params)) < 5 * values.std() / np.sqrt(200)
    assert_allclose(errors.mean(), values.std(), rtol=0.2)  # of 200 draws a standard deviation is known to 5 %
    rows = np.mean([one.grad for one in found], axis=0)
    assert_allclose(rows, obj.grad(params), atol=0.01)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d"), [(3, 1), (4, 2)])
def test_late_law_of_gradient_flow(n, d):
    """L = tr S^2/4, and S^-1 grows by 2t/n (theory of the late stage, equal weights)."""
    start = np.random.default_rng(n).standard_normal((n, d))
    flow = op.gradient_flow(op.KLDivergence(op.Gaussian(np.zeros(d))), start - start.mean(axis=0) + 0.3, t_end=1e6)
    late = [k for k, t in enumerate(flow.times) if t >= 1e4]
    covariances = [flow.params[k].T @ flow.params[k] / n for k in late]
    losses, times = flow.loss[late], flow.times[late]
    assert len(late) > 5
    assert_allclose(losses, [np.trace(s @ s) / 4 for s in covariances], rtol=0.01)
    first = np.linalg.inv(covariances[0])
    grown = [np.linalg.inv(s) - first for s in covariances[1:]]
    for change, t in zip(grown, times[1:], strict=True):
        assert_allclose(change, 2 * (t - times[0]) / n * np.eye(d), rtol=0.01, atol=0.01 * 2 * (t - times[0]) / n)
    assert (np.diff([(flow.params[k] ** 2).sum() for k in range(len(flow.times))]) < 0).all()  # U never rises


def test_late_law_of_gradient_descent():
    start = np.array([[1.0, 0.2], [-0.4, 1.1], [0.3, -0.9], [-0.2, 0.1]])
    traj = op.gradient_descent(op.KLDivergence(op.Gaussian([0.0, 0.0])), start, step_size=0.5, steps=60_000)
    t = 0.5 * traj.steps[-1]
    assert_allclose(traj.loss[-1], 2 * 16 / (16 * t**2), rtol=0.01)
    assert (np.diff(traj.loss) < 0).all()


@pytest.mark.parametrize("distance", [6.0, 9.0])
def test_a_small_spread_grows_by_half_the_square_of_the_distance(distance):
    """To first order about a common point deviations along it grow at |c|^2/n while |c| falls like e^(-t/n): e^(M^2/2) in flow."""
    start = op.init.around([distance], 1e-200 * np.array([[1.0], [-1.0], [0.5], [-0.5]]))
    flow = op.gradient_flow(ONE, start, t_end=100.0)
    last = flow.states[-1]
    grown = np.log(np.abs(last.deviations).max()) + last.log_scale - np.log(1e-200)
    # the centre is at e^-25 of where it started: e^-50 of the exponent is missing, the flow's rtol is 1e-8 an e-fold
    assert_allclose(grown, distance**2 / 2, rtol=1e-6)


def test_deviations_below_float64_follow_the_same_sum():
    start = dataclasses.replace(op.init.around([6.0], np.array([[1.0], [-1.0], [0.5], [-0.5]])), log_scale=-900.0)
    traj = op.gradient_descent(ONE, start, step_size=0.1, steps=1500)
    last, total, c = traj.states[-1], 0.0, 6.0
    for _ in range(1500):
        total, c = total + np.log1p(0.1 / 4 * c * c), c * (1 - 0.1 / 4)
    assert_allclose(last.log_scale + np.log(np.abs(last.deviations).max()), total - 900.0, rtol=1e-10)


def test_loss_never_rises_against_a_mixture():
    teacher = op.GaussianMixture([[-2.0], [0.5], [3.0]], [0.3, 0.3, 0.4])
    start = np.array([[1.0], [-1.5], [0.2], [2.0], [-0.3]])
    traj = op.gradient_descent(op.KLDivergence(teacher), start, step_size=0.5, steps=2000, record=op.every(20))
    assert traj.status == "completed" and traj.loss[-1] < 1e-2 * traj.loss[0]
    assert (np.diff(traj.loss) <= traj.loss_error[1:] + traj.loss_error[:-1]).all()


def test_against_adaptive_cubature_in_the_plane():
    params, weights = np.array([[0.9, -0.4], [-0.7, 0.8], [1.6, 0.3]]), np.array([0.5, 0.2, 0.3])
    found = op.KLDivergence(op.Gaussian([0.2, 0.0]), weights=weights).estimate(params)
    scale = np.append(found.value, np.linalg.norm(found.grad, axis=1))
    value, grad = oracles.likelihood(params, weights, np.array([[0.2, 0.0]]), np.ones(1), scale, rtol=5e-12)
    errors = np.append(abs(found.value - value), np.linalg.norm(found.grad - grad, axis=1))
    assert (errors <= np.append(found.value_error, found.grad_error) + 1e-11 * scale).all()
    assert (errors < 1.1e-10 * scale).all()
