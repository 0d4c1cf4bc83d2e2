"""The reverse Fisher divergence: kernel, tiny deviations, bounds that hold, the Lyapunov identity, and the laws of its runs."""

from __future__ import annotations

import os
import subprocess
import sys

import mpmath
import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam import _reference
from overparam._core.reverse_fisher import Evaluator
from overparam.objectives import from_description
from overparam.objectives.reverse_bounds import Kept, Lengths
from overparam.objectives.reverse_rounding import saturated

EPS = np.finfo(float).eps


def teacher_of(means, shares):
    return op.Gaussian(means[0]) if len(means) == 1 else op.GaussianMixture(means, shares)


def fine_grid(k, half_width=10.5, step=None):
    """Standard normal nodes and weights of sum 1: multiples of a small step, in coordinates that no plan turns."""
    z = np.arange(-half_width, half_width, step or {1: 0.01, 2: 0.09}[k])
    q = np.exp(-z * z / 2)
    q /= q.sum()
    mesh = np.meshgrid(*[z] * k, indexing="ij")
    weights = q if k == 1 else np.multiply.outer(q, q).ravel()
    return np.stack([part.ravel() for part in mesh], axis=1), weights


def random_problem(rng, k, spread=1.0):
    """(means (n, k), weights or None, teacher means (m, k), teacher weights)."""
    n, m = rng.integers(1, 5), rng.choice([1, 1, 2, 3])
    params = spread * rng.standard_normal((n, k)) + rng.choice([0.0, 2.0]) * rng.standard_normal(k)
    return params, rng.choice([None, 1]) and rng.dirichlet(np.ones(n)), 1.5 * rng.standard_normal((m, k)), rng.dirichlet(np.ones(m))


def exact(params, weights, means, shares, step=None):
    n = len(params)
    weights = np.full(n, 1 / n) if weights is None else weights
    return _reference.reverse_fisher(*fine_grid(params.shape[1], step=step), params, np.log(weights), means, np.log(shares))


# --- the kernel ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "m"), [(1, 1, 1), (4, 1, 2), (3, 2, 1), (5, 2, 3), (4, 3, 2), (3, 5, 2), (12, 4, 1)])
@pytest.mark.parametrize("scale", [40.0, 2.0, 0.3, 0.005])
def test_kernel_is_its_twin(n, k, m, scale):
    """Softmax from factors and from logits, differences from pi where all logits are small; absolute rows and deviation rows."""
    rng = np.random.default_rng(n + 10 * k)
    z = rng.standard_normal((77, k))
    z = np.concatenate([z, -z])  # odd terms, of expectation 0, are left out of the rows where logits are small
    q = np.tile(rng.dirichlet(np.ones(77)), 2) / 2
    centre, deviations = 0.3 * rng.standard_normal(k), scale * rng.standard_normal((n, k))
    means, log_teacher = rng.standard_normal((m, k)), np.log(rng.dirichlet(np.ones(m)))
    for log_weights in (np.log(rng.dirichlet(np.ones(n))), np.zeros(n)):
        evaluator = Evaluator(np.ascontiguousarray(z.T), q, means, log_teacher, log_weights)
        value, grad = _reference.reverse_fisher(z, q, centre + deviations, log_weights, means, log_teacher)
        mean, rows = np.empty(k), np.empty((n, k))
        for form in (0, 1, 2):
            found = evaluator.evaluate(centre, deviations, form, *((mean, rows) if form else (None, None)))
            assert_allclose(found, value, rtol=1e-13)
            if form:
                whole = rows + (mean if form == 2 else 0.0)
                assert np.abs(whole - grad).max() < 3e-14 * max(np.abs(grad).max(), scale)
                assert_allclose(mean, whole.mean(axis=0), atol=1e-14 * max(1, scale))
        scales, slopes = np.empty(n), np.empty(n + 1)
        assert evaluator.scales(centre, deviations, scales, slopes) >= value * (1 - 1e-12)
        assert (scales >= np.linalg.norm(grad, axis=1) * (1 - 1e-12)).all()


def test_kernel_refuses_wrong_shapes():
    z, q = np.zeros((2, 3)), np.full(3, 1 / 3)
    make = lambda **other: Evaluator(**{"nodes": z, "weights": q, "means": np.zeros((1, 2)), "log_teacher": np.zeros(1),  # noqa: E731
                                        "log_weights": np.zeros(2), **other})
    for name, wrong in (("weights", q[:2]), ("means", np.zeros((1, 3))), ("log_teacher", np.zeros(2)), ("log_weights", np.zeros(0))):
        with pytest.raises(ValueError):
            make(**{name: wrong})
    evaluator = make()
    with pytest.raises(ValueError, match="deviations"):
        evaluator.evaluate(np.zeros(2), np.zeros((3, 2)), 1, np.zeros(2), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="form"):
        evaluator.evaluate(np.zeros(2), np.zeros((2, 2)), 3, np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="rows"):
        evaluator.evaluate(np.zeros(2), np.zeros((2, 2)), 1, np.zeros(2), None)
    with pytest.raises(ValueError, match="slopes"):
        evaluator.scales(np.zeros(2), np.zeros((2, 2)), np.zeros(2), np.zeros(2))


PATHS = """
import numpy as np
from overparam import _reference
from overparam._core.reverse_fisher import Evaluator
rng = np.random.default_rng(0)
z, q, p, m = rng.standard_normal((50, 2)), rng.dirichlet(np.ones(50)), rng.standard_normal((4, 2)), rng.standard_normal((2, 2))
rows, mean = np.empty((4, 2)), np.empty(2)
value = Evaluator(np.ascontiguousarray(z.T), q, m, np.zeros(2), np.zeros(4)).evaluate(np.zeros(2), p, 1, mean, rows)
wanted, grad = _reference.reverse_fisher(z, q, p, np.zeros(4), m, np.zeros(2))
assert abs(value / wanted - 1) < 1e-13 and abs(rows - grad).max() < 1e-13
"""


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64", "portable"])
def test_every_instruction_set(name, tmp_path):
    subprocess.run([sys.executable, "-c", PATHS], env={**os.environ, "OVERPARAM_KERNEL": name}, cwd=tmp_path, check=True)


# --- small deviations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0.0, 6.0])
def test_rows_of_small_deviations_against_30_digits(distance):
    """n = 3 around one Gaussian on a line: differences of rows are of third order and keep their relative accuracy."""
    delta = [0.011, -0.004, -0.007]
    state = op.State(centre=np.array([distance]), deviations=np.array(delta)[:, None])
    obj = op.ReverseFisher(op.Gaussian([0.0]), rule=op.Auto(tol=1e-13))
    plan = obj.plan(obj.start(state))
    found = plan.evaluate(obj.start(state))
    with mpmath.workdps(30):
        mus = [mpmath.mpf(distance) + mpmath.mpf(d) for d in delta]

        def row(mu):
            def integrand(z):
                w = [mpmath.exp(-((mu + z - other) ** 2) / 2) for other in mus]
                w = [one / mpmath.fsum(w) for one in w]
                v = mpmath.fsum(one * other for one, other in zip(w, mus, strict=True))
                C = mpmath.fsum(one * (other - v) ** 2 for one, other in zip(w, mus, strict=True))
                return mpmath.npdf(z) * mpmath.mpf(2) / 3 * (v + C * (mu - v))
            return mpmath.quad(integrand, [-14, -5, 0, 5, 14])

        rows = [row(mu) for mu in mus]
        middle = mpmath.fsum(rows) / 3
        apart = np.array([float(one - middle) for one in rows])
        mean = float(middle)
    assert_allclose(found.centre_grad, mean, rtol=1e-13, atol=1e-18)
    assert_allclose(found.grad[:, 0], apart, rtol=1e-10)
    assert (np.abs(found.grad[:, 0] - apart) <= found.grad_error).all()


@pytest.mark.parametrize("size", [2.0**-17, 2.0**-66, 2.0**-200])
@pytest.mark.parametrize("far", [0.0, 8.0])
def test_leading_order_of_small_deviations(size, far):
    """F = |c|^2 + tr S^2, S = sum delta delta'/n, so rows differ by (4/n) S delta_i, to relative order delta^2."""
    delta = size * np.array([[3.0, -1.0], [-2.0, 2.0], [1.0, 0.0], [-1.0, -4.0], [-1.0, 3.0]])  # of mean 0 without rounding
    obj = op.ReverseFisher(op.Gaussian([0.0, 0.0]))
    state = obj.start(op.State(centre=np.array([far, 0.0]), deviations=delta))
    found = obj.plan(state).evaluate(state)
    S = delta.T @ delta / 5
    assert_allclose(found.grad, 4 / 5 * delta @ S, rtol=400 * size**2 + 1e-12, atol=1e-13 * size**3)
    wanted, slack = far**2 + np.trace(S @ S), 400 * size**2 + 1e-12
    assert abs(obj.value(state) - wanted) <= slack * wanted + (obj.estimate(state).value_error if size < 1e-50 else 0.0)


def test_a_small_spread_far_away_does_not_grow():
    """Forward score matching multiplies a spread at distance 6 by e^36; here it is there to second order only."""
    start = op.init.around(center=[6.0, 0.0], deviations=1e-90 * np.random.default_rng(0).standard_normal((4, 2)))
    run = op.gradient_descent(op.ReverseFisher(op.Gaussian([0.0, 0.0])), start, step_size=0.2, steps=400)
    assert run.status == "completed" and run.loss[-1] < 1e-30
    assert_allclose(run.final_state.spread, op.State.of(start).spread, rtol=1e-12)


def test_deviations_below_the_range_of_float64_stand_still():
    start = op.init.around(center=[6.0, 0.0], deviations=np.random.default_rng(0).standard_normal((4, 2)), log_scale=-2000.0)
    run = op.gradient_descent(op.ReverseFisher(op.Gaussian([0.0, 0.0])), start, step_size=0.2, steps=50)
    assert run.status == "completed"
    assert run.final_state.log_spread == pytest.approx(start.log_spread, abs=1e-9)
    assert_allclose(run.loss[-1], 36 * (1 - 2 * 0.2 / 4) ** 100, rtol=1e-10)
    with pytest.raises(ValueError, match="log_s"):
        op.gradient_descent(op.ReverseFisher(op.GaussianMixture([[0.0, 0.0], [1.0, 0.0]])), start, step_size=0.2, steps=5)


# --- accuracy and bounds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "means"), [
    ([[1.2], [-0.4], [3.0]], [[0.3]]),
    ([[7.0], [0.1]], [[0.0]]),
    ([[1.0, -0.5], [0.2, 0.9], [-1.4, 0.3]], [[0.1, 0.2]]),
    ([[2.0], [-1.0], [0.5]], [[-2.0], [0.0], [3.0]]),
], ids=["line", "one far", "plane", "three modes"])
@pytest.mark.parametrize("weights", [None, [0.1, 0.3, 0.6]], ids=["equal", "unequal"])
def test_against_adaptive_cubature(params, means, weights):
    """Value and rows by SciPy's adaptive rule from the divergence's definition alone, derivatives by complex steps."""
    params, means, tol = np.array(params), np.array(means), 1e-10
    shares = np.full(len(means), 1 / len(means))
    if weights is not None:
        weights = np.array(weights[:len(params)]) / sum(weights[:len(params)])
    found = op.ReverseFisher(teacher_of(means, shares), weights=weights).estimate(params)
    pi = np.full(len(params), 1 / len(params)) if weights is None else weights
    scale = np.append(found.value, np.linalg.norm(found.grad, axis=1))
    value, grad = oracles.reverse_fisher(params, pi, means, shares, scale, rtol=0.05 * tol)
    errors = np.append(abs(found.value - value), np.linalg.norm(found.grad - grad, axis=1))
    assert (errors < 1.1 * tol * scale).all()
    assert (np.append(found.value_error, found.grad_error) < 1.01 * tol * scale).all()


@pytest.mark.parametrize("case", range(60))
def test_bounds_hold(case):
    """Coarse rules, whose errors are seen, and Auto: the bound is above the true error, part for part of the loss and of every row."""
    rng = np.random.default_rng(100 + case)
    k = 1 + case % 2
    params, weights, means, shares = random_problem(rng, k, spread=10 ** rng.uniform(-2, 0.6))
    value, grad = exact(params, weights, means, shares)
    auto = op.ReverseFisher(teacher_of(means, shares), weights=weights).estimate(params)
    noise = 200 * EPS * np.append(auto.value + 1e-3, 1e-3 + np.linalg.norm(grad, axis=1))  # of the sums on the fine grid
    for rule in (op.Auto(tol=1e-10), op.Auto(tol=1e-3), op.GaussHermite(int(rng.integers(2, 12))), op.Trapezoid(int(rng.integers(4, 30))),
                 op.Trapezoid(61, half_width=rng.uniform(1.0, 5.0))):
        found = op.ReverseFisher(teacher_of(means, shares), weights=weights, rule=rule).estimate(params)
        errors = np.append(abs(found.value - value), np.linalg.norm(found.grad - grad, axis=1))
        bounds = np.append(found.value_error, found.grad_error)
        assert (errors <= bounds + noise).all(), (rule, errors, bounds)
        if isinstance(rule, op.Auto):
            floors = 1e-12 * np.append(1 + found.value, np.full(len(params), 1 + np.linalg.norm(params) ** 2))
            assert (bounds <= np.maximum(rule.tol * np.append(found.value, np.linalg.norm(found.grad, axis=1)), floors)).all()


def test_bounds_are_not_far_above_the_error():
    """A factor of 1e4 or so costs a seventh of the nodes: over lines with visible errors the median is far below that."""
    ratios = []
    for case in range(12):
        rng = np.random.default_rng(case)
        params = 2 * rng.standard_normal((3, 1))
        value, _ = exact(params, None, np.zeros((1, 1)), np.ones(1))
        found = op.ReverseFisher(op.Gaussian([0.0]), rule=op.Trapezoid(int(rng.integers(8, 16)))).estimate(params)
        ratios.append(found.value_error / abs(found.value - value))
    assert np.median(ratios) < 1e4


def test_a_far_mean_is_not_seen():
    """A row asks for nodes for the means that it sees, within a bound: on a circle of radius 30 each sees itself alone."""
    angles = 2 * np.pi * np.arange(8) / 8
    obj = op.ReverseFisher(op.GaussianMixture([[-6.0, 0.0], [6.0, 0.0], [0.0, 9.0]]), rule=op.Auto(tol=1e-8))
    state = obj.start(30 * np.column_stack([np.cos(angles), np.sin(angles)]))
    plan = obj._plan_with(state, obj.rule, roomy=False)
    assert not plan._kept.whole and plan._kept.students.sum() == 8
    params, means, shares = np.array([[-31.0], [-13.0], [4.0], [25.0]]), np.array([[-6.0], [6.0], [26.0]]), np.array([0.2, 0.5, 0.3])
    obj = op.ReverseFisher(op.GaussianMixture(means, shares), rule=op.Auto(tol=1e-8))
    state = obj.start(params)
    plan = obj._plan_with(state, obj.rule, roomy=False)
    assert plan._kept.students.sum() < 10 and plan._kept.components.sum() < 10
    found = obj.estimate(params)
    value, grad = exact(params, None, means, shares)
    errors = np.append(abs(found.value - value), np.linalg.norm(found.grad - grad, axis=1))
    bounds = np.append(found.value_error, found.grad_error)
    assert (errors <= bounds + 1e-13).all() and (bounds < 1e-8 * np.append(value, np.linalg.norm(grad, axis=1)) + 1e-11).all()


def test_what_is_not_seen_costs_less_than_it_says():
    """Rows and loss of the means that are kept, against those of all, from nodes around each mean."""
    params, means, shares = np.array([[0.0], [7.0], [-9.0]]), np.array([[0.5], [9.0]]), np.array([0.7, 0.3])
    lengths = Lengths.of(params, params, np.full(3, 1 / 3), means)
    where = (params, params, means, shares)
    z, q = fine_grid(1)
    whole = [_reference.reverse_fisher(z, q, params, np.zeros(3), means, np.log(shares))]
    for row, one in enumerate(params):
        for mask, components in ((np.arange(3) == row, [True, True]), (np.ones(3, bool), [row != 1, row == 1])):
            kept = Kept(np.tile(mask, (3, 1)) | np.eye(3, dtype=bool), np.tile(components, (3, 1)))
            pi = np.where(mask, 1 / 3, 0.0)
            w, teacher = (_reference.softmax_weights(one + z, p, log) for p, log in
                          ((params[mask], np.zeros(mask.sum())), (means[components], np.log(shares[components]))))
            v, t = w @ params[mask], teacher @ means[components]
            C = np.einsum("bj,bj->b", w, (params[mask][:, 0] - v) ** 2)
            C_teacher = np.einsum("bj,bj->b", teacher, (means[components][:, 0] - t) ** 2)
            found = 2 / 3 * q @ ((v - t)[:, 0] + C * (one - v)[:, 0] - C_teacher * (one - t)[:, 0])
            assert pi.sum() > 0 and abs(found - whole[0][1][row, 0]) <= kept.left(lengths, where)[row] + 1e-15


def test_means_that_come_near_each_other_are_seen_again():
    """A run in which two means start out of sight of each other and end on one mode is that of a hundredth of the tolerance."""
    teacher, start = op.GaussianMixture([[-2.0], [4.0]], [0.4, 0.6]), np.array([[-26.0], [1.0], [30.0]])
    runs = [op.gradient_descent(op.ReverseFisher(teacher, rule=op.Auto(tol=tol)), start, step_size=0.3, steps=60) for tol in (1e-8, 1e-10)]
    assert all(run.status == "completed" for run in runs)
    assert_allclose(runs[0].params[:], runs[1].params[:], rtol=1e-6, atol=1e-6)
    assert (runs[0].loss_error < 1e-8 * runs[0].loss).all()


# --- identities ------------------------------------------------------------------------------------------------------


def test_one_parameter_is_a_quadratic():
    value, grad = op.ReverseFisher(op.Gaussian([0.5, -1.0])).value_and_grad([[2.0, 1.0]])
    assert value == pytest.approx(1.5**2 + 2.0**2, rel=8 * EPS)
    assert_allclose(grad, [[3.0, 4.0]], rtol=8 * EPS)
    assert_allclose(op.ReverseFisher(op.Gaussian([0.5, -1.0])).hessian([[2.0, 1.0]]).reshape(2, 2), 2 * np.eye(2), atol=1e-10)


def test_at_a_common_point_it_is_score_matching():
    params = np.tile([[1.3, -0.4, 2.0]], (4, 1))
    teacher = op.Gaussian([0.3, 0.0, 0.0])
    reverse, forward = op.ReverseFisher(teacher), op.ScoreMatching(teacher)
    assert_allclose(reverse.value(params), forward.value(params), rtol=8 * EPS)
    assert_allclose(reverse.value(params), 1 + 0.16 + 4, rtol=8 * EPS)
    assert_allclose(reverse.grad(params), forward.grad(params), rtol=8 * EPS)


def test_a_student_equal_to_its_teacher_has_no_divergence():
    teacher = op.GaussianMixture([[-1.0, 0.0], [1.2, 0.5]], [0.3, 0.7])
    value, grad = op.ReverseFisher(teacher, weights=teacher.weights).value_and_grad(teacher.means)
    assert abs(value) < 1e-28 and np.abs(grad).max() < 1e-14


@pytest.mark.parametrize("case", range(10))
def test_lyapunov_identity(case):
    """sum_i <grad_i, mu_i - mu*> = 2 E[|v - mu*|^2 + |C|_F^2] over the student, for every weights."""
    rng = np.random.default_rng(case)
    k = 1 + case % 2
    params, weights, mean = 1.5 * rng.standard_normal((3, k)), rng.dirichlet(np.ones(3)), rng.standard_normal(k)
    grad = op.ReverseFisher(op.Gaussian(mean), weights=weights, rule=op.Auto(tol=1e-13)).grad(params)
    z, q = fine_grid(k, step={1: 0.02, 2: 0.07}[k])
    right = 0.0
    for share, own in zip(weights, params, strict=True):
        w = _reference.softmax_weights(own + z, params, np.log(weights))
        v = w @ params
        C = np.einsum("bj,bja,bjc->bac", w, params - v[:, None], params - v[:, None])
        right += 2 * share * (q @ (((v - mean) ** 2).sum(axis=1) + (C**2).sum(axis=(1, 2))))
    assert_allclose((grad * (params - mean)).sum(), right, rtol=1e-12)


def test_the_lyapunov_function_never_increases():
    """V = sum |mu_i - mu*|^2 along 200 runs, random weights, at the step size 1/(2 pi_max max(1, V_0))."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, d = rng.integers(2, 5), rng.integers(1, 3)
        weights, start = rng.dirichlet(np.ones(n)), rng.uniform(0.2, 2.5) * rng.standard_normal((n, d))
        gamma = 1 / (2 * weights.max() * max(1.0, (start**2).sum()))
        run = op.gradient_descent(op.ReverseFisher(op.Gaussian(np.zeros(d)), weights=weights, rule=op.Auto(tol=1e-5)), start,
                                  step_size=gamma, steps=5, record=op.every(1), progress=False)
        V = (run.params[:] ** 2).sum(axis=(1, 2))
        assert len(V) == 6 and (np.diff(V) < 0).all()


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (5, 2)])
def test_late_law(n, d):
    """F = r n^2/(64 t^2) and V = r n^2/(8 t) within 1 % from flow time 1e4 on, r = min(d, n - 1); the slopes are -2 and -1."""
    start = 1.5 * np.random.default_rng(n).standard_normal((n, d))
    r = min(d, n - 1)
    flow = op.gradient_flow(op.ReverseFisher(op.Gaussian(np.zeros(d))), start, t_end=1e6)
    late = flow.times >= 1e4
    assert flow.status == "completed" and late.sum() > 10
    t, V = flow.times[late], (flow.params[:][late] ** 2).sum(axis=(1, 2))
    assert_allclose(flow.loss[late] * 64 * t**2 / (r * n**2), 1, rtol=0.01)
    assert_allclose(V * 8 * t / (r * n**2), 1, rtol=0.01)
    assert (flow.loss_error[late] < 1e-9 * flow.loss[late]).all()


def test_late_law_of_gradient_descent():
    run = op.gradient_descent(op.ReverseFisher(op.Gaussian([0.0])), [[1.5], [-0.5], [0.4]], step_size=1.0, steps=20_000)
    assert_allclose(run.loss[-1] * 64 * run.times[-1] ** 2 / 9, 1, rtol=0.01)


@pytest.mark.parametrize("start", [[[0.1, 0.0], [8.0, 1.0], [7.0, -4.0]], [[6.0, 0.0], [6.01, 0.02], [5.99, 0.01]]],
                         ids=["one near and two far", "far cluster"])
def test_starts_that_are_bad_for_score_matching_converge(start):
    """To the late law's distance: all of them, and in a time of order n."""
    flow = op.gradient_flow(op.ReverseFisher(op.Gaussian([0.0, 0.0])), start, t_end=200.0)
    assert flow.status == "completed" and np.linalg.norm(flow.final, axis=1).max() < 0.3


# --- many dimensions, weights, rules, runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_a_run_in_a_million_dimensions_is_the_run_in_its_span(several):
    rng = np.random.default_rng(4)
    means = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])[:1 + several]
    start = np.array([[1.0, 0.5, 0.0], [-0.7, 1.2, 0.3]])
    basis = np.linalg.qr(rng.standard_normal((1_000_000, 3)))[0]
    settings = {"step_size": 0.2, "steps": 25, "record": op.every(25)}
    small = op.gradient_descent(op.ReverseFisher(teacher_of(means, None), rule=op.Auto(tol=1e-8)), start, **settings)
    large = op.gradient_descent(op.ReverseFisher(teacher_of(means @ basis.T, None), rule=op.Auto(tol=1e-8)), start @ basis.T, **settings)
    assert_allclose(large.loss, small.loss, rtol=1e-10)
    assert_allclose(large.final @ basis, small.final, rtol=1e-10, atol=1e-10)


def test_zero_weight_takes_no_part():
    teacher = op.GaussianMixture([[-1.0, 0.0], [1.0, 0.0]])
    near, far = np.array([[2.0, 0.3], [-0.5, 0.0]]), np.array([[1e6, 5.0]])
    params, weights = np.insert(near, 1, far, axis=0), [0.4, 0.0, 0.6]
    alone, whole = op.ReverseFisher(teacher, weights=[0.4, 0.6]), op.ReverseFisher(teacher, weights=weights)
    found = whole.estimate(params)
    assert_allclose(found.value, alone.value(near), rtol=1e-12)
    assert_allclose(found.grad[[0, 2]], alone.grad(near), rtol=1e-10)
    assert_array_equal(found.grad[1], 0.0)
    runs = [op.gradient_descent(obj, at, step_size=0.2, steps=30) for obj, at in ((whole, params), (alone, near))]
    assert_allclose(runs[0].final[[0, 2]], runs[1].final, rtol=1e-10)
    assert_allclose(runs[0].final[1], far[0], rtol=20 * EPS)
    flow = op.gradient_flow(whole, params, t_end=2.0)
    assert_allclose(flow.final[[0, 2]], op.gradient_flow(alone, near, t_end=2.0).final, rtol=1e-6, atol=1e-7)
    state = whole.start(params)
    hessian = whole.plan(state).hessian(state)
    assert_array_equal(hessian[1], 0.0)


def test_hessian_is_the_gradients_derivative():
    params, direction = np.array([[1.0, -0.5], [0.2, 0.9], [-1.4, 0.3]]), np.random.default_rng(0).standard_normal((3, 2))
    obj = op.ReverseFisher(op.GaussianMixture([[-1.0, 0.0], [1.2, 0.5]]), rule=op.Auto(tol=1e-12))
    hessian, product = obj.hessian(params), obj.hvp(params, direction)
    wanted = np.einsum("iajb,jb->ia", hessian, direction)
    # differences of rows that are right to 1e-12, over 7e-4
    assert_allclose(product, wanted, atol=1e-8)
    step = 1e-3
    grads = [exact(params + m * step * direction, None, obj.teacher.means, obj.teacher.weights)[1] for m in (1, -1, 2, -2)]
    assert_allclose(product, (8 * (grads[0] - grads[1]) - (grads[2] - grads[3])) / (12 * step), atol=1e-8)
    state = obj.start(params)
    assert_allclose(np.einsum("iajb,jb->ia", obj.plan(state).hessian(state), direction), product, atol=1e-7)


@pytest.mark.parametrize("rule", [op.MonteCarlo(2**12, rng=1), op.Sobol(2**12, rng=1), op.Stratified(2**12, rng=1)],
                         ids=lambda rule: type(rule).__name__)
def test_sampled_rules_know_their_error(rule):
    """The standard errors of replicates: within five of them of the exact value and rows, and not far too large."""
    params, means = np.array([[1.0, -0.5], [0.2, 0.9], [-1.4, 0.3]]), np.array([[-1.0, 0.0], [1.2, 0.5]])
    value, grad = exact(params, None, means, np.full(2, 0.5))
    found = op.ReverseFisher(op.GaussianMixture(means), rule=rule).estimate(params)
    assert found.reliable and found.replicates == 16 and found.nodes == 3 * (found.effective_samples[0])
    assert abs(found.value - value) < 5 * found.value_error < 0.5 * value
    assert (np.linalg.norm(found.grad - grad, axis=1) < 5 * found.grad_error).all()
    assert found.component_error.shape == params.shape and found.bounds is None


def test_above_max_nodes():
    params = 3 * np.random.default_rng(0).standard_normal((4, 5))
    obj = op.ReverseFisher(op.Gaussian(np.zeros(5)), rule=op.Auto(tol=1e-8, max_nodes=10_000))
    with pytest.raises(op.TooHardError, match="max_nodes"):
        obj.value(params)
    found = obj.estimate(params)
    assert found.replicates == 16 and found.rule.startswith("Sobol")
    sampling = op.ReverseFisher(op.Gaussian(np.zeros(5)), rule=op.Auto(tol=1e-8, max_nodes=10_000, sampling=True))
    assert sampling.value(params) == found.value
    with pytest.raises(ValueError, match="orders"):
        op.ReverseFisher(op.Gaussian(np.zeros(5)), rule=op.Trapezoid((9, 9))).value(params)


@pytest.mark.parametrize(("apart", "tol"), [(100.0, 1e-10), (300.0, 1e-6), (1000.0, 1e-6)])
def test_midway_between_far_modes(apart, tol):
    """All that happens there happens in a strip of width 1/apart: a fine grid is enough, and samples see nothing of it."""
    params, means, shares = np.array([[0.0], [0.1]]), np.array([[-apart / 2], [apart / 2]]), np.full(2, 0.5)
    found = op.ReverseFisher(op.GaussianMixture(means), rule=op.Auto(tol=tol)).estimate(params)
    value, rows = exact(params, None, means, shares, step=0.2 / apart)
    assert found.bounds is not None and found.reliable and found.value_error < 1e-10 * value
    assert abs(found.value - value) <= found.value_error
    assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error).all()
    assert (found.grad_error[:2] < 0.01 * np.linalg.norm(rows, axis=1)).all()


def test_sampling_is_not_advised_where_it_is_hopeless():
    obj = op.ReverseFisher(op.GaussianMixture([[-500.0], [500.0]]), rule=op.Auto(tol=1e-6, max_nodes=20_000))
    with pytest.raises(op.TooHardError, match="sampling rule would not do: a gradient row is 1/"):
        obj.value([[0.0], [0.1]])
    found = obj.estimate([[0.0], [0.1]])
    assert found.replicates == 16 and not found.reliable
    assert (found.grad_error > np.linalg.norm(found.grad, axis=1)).any()


@pytest.mark.parametrize("size", [1e5, 1e8, 1e100])
@pytest.mark.parametrize("m", [1, 2])
def test_rounding_of_far_means_is_no_more_than_it_is(size, m):
    """Every weight is 0 or 1 there, whatever the rounding of the logits: F is the mean squared distance from the nearest component."""
    teacher = op.Gaussian([0.0]) if m == 1 else op.GaussianMixture([[size], [0.0]])
    found = op.ReverseFisher(teacher).estimate([[size], [-size]])
    moved = np.array([size, -size]) if m == 1 else np.array([0.0, -size])
    assert_allclose(found.value, (moved**2).mean(), rtol=1e-9)
    assert found.reliable and found.value_error <= 1e-9 * (moved**2).mean()
    assert (np.abs(found.grad[:, 0] - moved) <= found.grad_error).all()


def test_rounding_of_logits_is_bounded():
    """Weights computed from logits that are moved by as much as rounding may: the change is below the bound, and not far below."""
    rng = np.random.default_rng(5)
    z, q = fine_grid(1, step=0.01)
    ratios = []
    for apart in (5.0, 20.0, 200.0):
        params, means = apart * rng.standard_normal((3, 1)), apart * rng.standard_normal((2, 1))
        weights, shares = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(2))
        bound = saturated(z, q, params, params, weights, means, shares, 0)
        value, rows = _reference.reverse_fisher(z, q, params, np.log(weights), means, np.log(shares))
        longs = _reference.reverse_fisher(*(part.astype(np.longdouble) for part in (z, q, params, np.log(weights), means, np.log(shares))))
        off = np.append(np.abs(rows - longs[1])[:, 0], abs(value - longs[0])).astype(float)
        plain = 1e-14 * (np.append(np.abs(params[:, 0]), (params**2).sum()) + (means**2).sum())  # of sums, which another part bounds
        assert (off <= bound + plain).all()
        nudged = _reference.reverse_fisher(z, q, params * (1 + 1e-15), np.log(weights) + 1e-15, means, np.log(shares))
        ratios.append(bound[:3].max() / max(np.abs(nudged[1] - rows).max(), 1e-300))
    assert max(ratios) < 1e6


def test_minibatches_are_unbiased():
    """Mean value and rows of many batches against the exact ones, in units of their own standard errors."""
    params, means, shares = np.array([[1.0, -0.5], [0.2, 0.9], [-1.4, 0.3]]), np.array([[-1.0, 0.0], [1.2, 0.5]]), np.array([0.3, 0.7])
    weights, rng = [0.5, 0.2, 0.3], np.random.default_rng(0)
    obj = op.ReverseFisher(op.GaussianMixture(means, shares), weights=weights)
    batches = [obj.minibatch(params, 50, rng, errors=True) for _ in range(400)]
    value, grad = exact(params, np.array(weights), means, shares)
    for found, wanted in ((np.array([b.value for b in batches]), value), (np.array([b.grad for b in batches]), grad)):
        error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
        assert (np.abs(found.mean(axis=0) - wanted) < 5 * error).all()
    assert_allclose(np.mean([b.value_error for b in batches]), np.std([b.value for b in batches]), rtol=0.15)
    run = op.sgd(obj, params, step_size=0.3, steps=200, batch_size=64, rng=0)
    assert run.status == "completed" and run.loss[-1] < 0.2 * run.loss[0]


# --- input and description -------------------------------------------------------------------------------------------


FORMS = {"list": lambda p: p.tolist(), "Fortran order": np.asfortranarray, "float32": lambda p: p.astype(np.float32),
         "integers": lambda p: p.astype(int), "reversed": lambda p: p[::-1].copy()[::-1], "State": op.State.of}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_real_array_will_do(form):
    params = np.array([[1.0, -2.0], [0.0, 1.0], [3.0, 0.0]])
    obj = op.ReverseFisher(op.Gaussian([0.5, 0.0]))
    value, grad = obj.value_and_grad(params)
    params.flags.writeable = False
    found, rows = obj.value_and_grad(form(params))
    assert found == value
    assert_array_equal(rows, grad)


def test_description():
    obj = op.ReverseFisher(op.GaussianMixture([[0.0], [2.0]], [0.25, 0.75]), weights=[0.5, 0.25, 0.25], rule=op.Auto(tol=1e-8))
    again = from_description(obj.describe())
    assert isinstance(again, op.ReverseFisher) and again.describe() == obj.describe() and repr(again) == repr(obj)
    params = [[1.0], [0.0], [-2.0]]
    assert again.value(params) == obj.value(params)
    assert_allclose(obj.score([[0.3]], params), op.ScoreMatching(obj.teacher, weights=obj.weights).score([[0.3]], params))
    assert_allclose(obj.responsibilities([0.3], params).sum(), 1)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: op.ReverseFisher(op.DataSet([[0.0], [1.0]])), "DataSet"),
    (lambda: op.ReverseFisher([0.0]), "teacher"),
    (lambda: op.ReverseFisher(op.Gaussian([0.0]), rule=3), "rule"),
    (lambda: op.ReverseFisher(op.Gaussian([0.0]), weights=[0.5, 0.5]).value([[1.0]]), "weights"),
    (lambda: op.ReverseFisher(op.Gaussian([0.0])).value([[1.0, 2.0]]), "coordinates"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
