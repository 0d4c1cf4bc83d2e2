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
