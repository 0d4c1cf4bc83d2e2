"""Mixture teachers component by component: against plans on all axes, adaptive integrals, bounds, tolerances, students out of sight."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import expit, log_expit

import overparam as op
from overparam.objectives.student_axes import ComponentPlan, Mixture
from overparam.planning import Auto, TooHardError

CASES = [(3, 2, 2, 0), (2, 3, 3, 1), (4, 2, 2, 2), (1, 2, 3, 3)]  # d, n, m, seed


def problem(d, n, m, seed):
    rng = np.random.default_rng(seed)
    teacher = op.GaussianMixture(1.5 * rng.standard_normal((m, d)), weights=rng.dirichlet(np.ones(m)))
    return teacher, 1.5 * rng.standard_normal((n, d)), rng.dirichlet(np.ones(n))


def by_components(obj, state, roomy=False):
    mixture = Mixture(obj._reduced_means(state), obj.teacher.weights, obj.weights, obj.integrands)
    return ComponentPlan.of(mixture, state, obj.rule, roomy=roomy)


@pytest.mark.parametrize("roomy", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_values_rows_and_hessians_are_those_on_all_axes(case, roomy):
    teacher, params, weights = problem(*case)
    obj = op.KLDivergence(teacher, weights=weights, rule=Auto(tol=1e-7))
    state = obj.start(params)
    truth = super(op.KLDivergence, obj)._plan_with(state, Auto(tol=1e-11), roomy=False)
    plan = by_components(obj, state, roomy)
    found, exact = plan.evaluate(state), truth.evaluate(state)
    assert abs(found.value - exact.value) <= found.value_error + exact.value_error
    assert (np.linalg.norm(found.rows - exact.rows, axis=1) <= found.grad_error + exact.grad_error).all()
    assert (found.grad_error <= 1.1e-7 * np.linalg.norm(exact.rows, axis=1)).all()
    if not roomy:
        assert found.value_error <= 1.1e-7 * exact.value
    assert_allclose(plan.hessian(state), truth.hessian(state), atol=1e-6)
    bounded = plan.curvature(state, tol=1e-7, max_nodes=4_000_000)
    best = truth.curvature(state, tol=1e-10, max_nodes=4_000_000)
    apart = np.linalg.norm((bounded.hessian - best.hessian).reshape(2 * (params.size if state.basis is None else state.n * state.k,)), 2)
    assert apart <= bounded.error + best.error


@pytest.mark.parametrize(("d", "apart"), [(3, 2.0), (50, 6.0), (1000, 20.0)])
def test_two_students_against_adaptive_integrals(d, apart):
    """Rows and value on the one axis along which responsibilities vary; the bound is kept, in any dimension."""
    means = np.zeros((2, d))
    means[:, 0] = apart / 2, -apart / 2
    teacher, weights = op.GaussianMixture(means, [0.3, 0.7]), np.array([0.4, 0.6])
    params = op.init.from_teacher(teacher, 2, rng=0)
    found = op.KLDivergence(teacher, weights=weights, rule=Auto(tol=1e-9)).estimate(params)
    assert found.bounds is not None and found.nodes < 20_000
    u, middle = params[0] - params[1], params.mean(axis=0)
    length, rows, value = np.linalg.norm(params[0] - params[1]), np.zeros((2, d)), 0.0
    for mean, share in zip(means, (0.3, 0.7), strict=True):
        shift = u @ (mean - middle) + np.log(weights[0] / weights[1])
        edge = np.clip(-shift / length, -9, 9)

        def integral(function, edge=edge):
            return quad(lambda z: function(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -10, 10, points=[edge - 0.5, edge, edge + 0.5],
                        epsabs=1e-13, epsrel=1e-12, limit=500)[0]

        for i, sign in enumerate((1, -1)):
            weight = integral(lambda z, s=sign, shift=shift: expit(s * (shift + length * z)))
            moment = integral(lambda z, s=sign, shift=shift: z * expit(s * (shift + length * z)))
            rows[i] -= share * (weight * (mean - params[i]) + moment * u / length)
        other = integral(lambda z, shift=shift: -log_expit(shift + length * z))
        value += share * (((mean - params[0]) ** 2).sum() / 2 - np.log(weights[0]) - other)  # KL(N_j|p) = |m-mu_1|^2/2 - ln pi_1 + E ln w_1
    information = 0.0
    for share, rest in ((0.3, 0.7), (0.7, 0.3)):
        logit = np.log(share / rest) + apart**2 / 2
        information -= share * (np.log(share) - quad(lambda z, logit=logit: log_expit(logit + apart * z) * np.exp(-z * z / 2)
                                                     / np.sqrt(2 * np.pi), -10, 10, epsabs=1e-13, points=[np.clip(-logit / apart, -9, 9)],
                                                     limit=500)[0])
    assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error + 1e-11 * np.abs(params).max()).all()
    assert (found.grad_error <= 1.1e-9 * np.linalg.norm(rows, axis=1)).all()
    assert abs(found.value - (value - information)) <= found.value_error + 1e-10


def test_rows_that_cancel_between_components_meet_the_tolerance():
    """One student at the mixture's mean, one a little beside: each component's row is of order one, their sum is not."""
    teacher = op.GaussianMixture([[2.0, 0.0, 0.0], [-2.0, 0.0, 0.0]])
    params = np.array([[1e-5, 0.0, 0.0], [0.0, 3.0, 30.0]])
    obj = op.KLDivergence(teacher, weights=np.array([1 - 1e-9, 1e-9]), rule=Auto(tol=1e-6))
    state = obj.start(params)
    found = by_components(obj, state).evaluate(state)
    assert 0 < np.linalg.norm(found.rows[0]) < 1e-4
    error = found.bounds.discretisation.grad + found.bounds.truncation.grad  # of tolerances: rounding is beside them
    assert error[0] <= 1.1e-6 * np.linalg.norm(found.rows[0])


def test_students_out_of_sight_of_a_component_take_no_axis_there():
    d, rng = 6, np.random.default_rng(0)
    means = np.zeros((2, d))
    means[:, 0] = 200.0, -200.0
    params = means[[0, 0, 1, 1]] + rng.standard_normal((4, d))
    obj = op.KLDivergence(op.GaussianMixture(means), rule=Auto(tol=1e-8))
    estimate = obj.estimate(params)
    single = [op.KLDivergence(op.Gaussian(mean), rule=Auto(tol=1e-10)).grad(params[rows]) for mean, rows in zip(means, ([0, 1], [2, 3]),
                                                                                                             strict=True)]
    assert estimate.bounds is not None and estimate.nodes < 3000  # along a spread of 400, some 10^5
    assert_allclose(estimate.grad, np.concatenate(single) / 2, atol=1e-9)
    with pytest.raises(TooHardError, match="max_nodes"):
        op.KLDivergence(op.GaussianMixture(means), rule=Auto(tol=1e-8, max_nodes=10)).value(params)


def test_descent_and_em_step_as_on_all_axes(monkeypatch):
    teacher, params, _ = problem(3, 2, 2, 0)
    obj = op.KLDivergence(teacher, rule=Auto(tol=1e-9))
    runs = []
    for few in (0, 1e99):
        monkeypatch.setattr("overparam.objectives.student_axes._FEW", few)
        runs.append((op.gradient_descent(obj, params, step_size=0.5, steps=10, progress=False),
                     op.em(obj, params, step_size=0.5, steps=10, progress=False), op.em(obj, params, steps=10, progress=False),
                     op.gradient_flow(obj, params, t_end=2.0, progress=False)))
    for one, other in zip(*runs, strict=True):
        assert one.status == other.status == "completed"
        assert_allclose(one.final, other.final, atol=1e-6)
        assert_allclose(one.loss, other.loss, atol=1e-7)


def corners(apart, last):
    teacher = op.GaussianMixture([[0.0, 0.0], [apart, 0.0], [0.0, apart]])
    return teacher, np.array([[0.0, 1.0], [apart - 1, 1.0], [1.0, apart - 1], last])


def by_trapezoids(teacher, params, step=0.04):
    """Value and rows on a fine lattice around each component, in NumPy."""
    z = np.arange(-11.0, 11.0 + step / 2, step)
    points = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    masses = np.exp(-(points**2).sum(axis=1) / 2) * step**2 / (2 * np.pi)
    value, rows = 0.0, np.zeros(params.shape)
    for mean in teacher.means:
        x = mean + points
        logs = [-((x[:, None] - means) ** 2).sum(axis=2) / 2 - np.log(len(means)) for means in (params, teacher.means)]
        own, other = (np.logaddexp.reduce(part, axis=1) for part in logs)
        value += masses @ (other - own) / len(teacher.means)
        for i, param in enumerate(params):  # seen from the mean, and pairwise sums: others lose three digits
            share = masses * np.exp(logs[0][:, i] - own)
            rows[i] += [(share * (gap - points[:, axis])).sum() / len(teacher.means) for axis, gap in enumerate(param - mean)]
    return value, rows


@pytest.mark.parametrize(("apart", "last"), [(20.0, [5.0, 5.0]), (30.0, [5.0, 5.0]), (40.0, [5.0, 5.0]), (60.0, [5.0, 5.0]),
                                             (20.0, [10.0, 10.0])])
def test_students_far_below_the_tolerance_take_no_nodes(apart, last):
    """In the last case a row of 3e-13, which is as accurate as the others relative to itself."""
    teacher, params = corners(apart, last)
    obj = op.KLDivergence(teacher, rule=Auto(tol=1e-9))
    value, rows = by_trapezoids(teacher, params)
    found = obj.estimate(params)
    assert found.bounds is not None
    assert last[0] > 5 or found.nodes < 5000  # without the cut 10^6 and more
    sizes = np.linalg.norm(rows, axis=1)
    assert (found.grad_error <= 1e-9 * sizes).all() and found.value_error <= 1e-9 * value
    assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error + 1e-12 * sizes).all()
    assert abs(found.value - value) <= found.value_error + 1e-12
    state = obj.start(params)
    moving = obj.plan(state).evaluate(state)  # a run's
    apart_by = np.linalg.norm(state.expand_gradient(moving.rows) - rows, axis=1)
    assert (apart_by <= moving.grad_error + 1e-12 * sizes).all() and (moving.grad_error <= 1e-9 * sizes).all()


def test_runs_between_far_components():
    teacher, params = corners(30.0, [5.0, 5.0])
    obj = op.KLDivergence(teacher, rule=Auto(tol=1e-8))
    run = op.gradient_descent(obj, params, step_size=0.5, steps=3, progress=False)
    em = op.em(obj, params, steps=1, progress=False)
    assert run.status == em.status == "completed"
    moved = params
    for _ in range(3):
        moved = moved - 0.5 * by_trapezoids(teacher, moved, 0.1)[1]
    assert_allclose(run.final, moved, atol=1e-7)
    assert run.loss[-1] < run.loss[0] and em.loss[-1] < em.loss[0]


@pytest.mark.parametrize("roomy", [False, True])
def test_what_is_left_out_is_in_the_bounds(roomy):
    """Plans with the cut and without it, where both can be had: in all of these some means are left out."""
    for apart, last in ((12.0, [5.0, 5.0]), (16.0, [2.0, 2.0])):
        teacher, params = corners(apart, last)
        obj = op.KLDivergence(teacher, rule=Auto(tol=1e-4))
        state = obj.start(params)
        mixture = Mixture(obj._reduced_means(state), obj.teacher.weights, np.full(4, 0.25), obj.integrands)
        exact = by_trapezoids(teacher, params, 0.08)
        cut, full = (ComponentPlan.of(mixture, state, obj.rule, roomy=roomy, cut=cut) for cut in (True, False))
        assert cut.nodes < full.nodes
        found = cut.evaluate(state)
        assert (np.linalg.norm(state.expand_gradient(found.rows) - exact[1], axis=1) <= found.grad_error + 1e-13).all()
        assert abs(found.value - exact[0]) <= found.value_error + 1e-13
        assert (found.grad_error <= 1e-4 * np.linalg.norm(exact[1], axis=1)).all()


def test_rows_too_small_for_any_plan_have_their_floor_said():
    """Students on the components themselves, out of sight of each other: rows are below 1e-130, and the bound, 1e-25 at most, says so."""
    teacher, _ = corners(50.0, [0.0, 0.0])
    found = op.KLDivergence(teacher).estimate(teacher.means)
    assert found.bounds is not None and found.nodes < 5000
    assert (np.linalg.norm(found.grad, axis=1) <= found.grad_error).all() and found.grad_error.max() < 1e-25
    assert abs(found.value) <= found.value_error < 1e-13
