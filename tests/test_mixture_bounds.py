"""Bounds against mixture teachers, whose weights have phases of their own off the real axis."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from configurations import KINDS, draw_mixture
from numpy.testing import assert_allclose
from scipy import stats

import overparam as op
from overparam._softmax import responsibilities
from overparam.certificate import mixture_majorants, pair_majorants, rounding
from overparam.nodes import Frame, hermite_axis


@pytest.mark.parametrize("tol", [0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("apart", [1e-3, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("components", [2, 3])
def test_close_components_with_students_between(tol, apart, components):
    """Where the target at real nodes lies near the students, the majorant must still know how far each component is."""
    rng = np.random.default_rng(components)
    means = apart * np.linspace(-1, 1, components)[:, None]
    teacher = op.GaussianMixture(means, rng.dirichlet(np.full(components, 3.0)))
    for n in (1, 2, 5):
        params = 0.3 * apart * rng.standard_normal((n, 1))
        truth = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-13)).estimate(params)
        for rule in (op.Auto(tol=tol), op.Trapezoid(13), op.GaussHermite(2)):
            found = op.ScoreMatching(teacher, rule=rule).estimate(params)
            assert abs(found.value - truth.value) <= found.value_error + truth.value_error
            assert (np.linalg.norm(found.grad - truth.grad, axis=1) <= found.grad_error + truth.grad_error).all()


@pytest.mark.parametrize(("far", "light"), [(2.0, 1e-3), (4.0, 1e-3), (4.0, 1e-6)])
def test_a_light_component_does_not_hang_on_a_few_points(far, light):
    """Every point counts by all components' densities; plain weights covered 63 % here, and were off by up to 145 standard errors."""
    teacher = op.GaussianMixture([[0.0], [far]], [1 - light, light])
    truth = op.ScoreMatching(teacher).value([[0.1], [-0.1]])
    off = []
    for seed in range(60):
        found = op.ScoreMatching(teacher, rule=op.MonteCarlo(4096, rng=seed)).estimate([[0.1], [-0.1]])
        off.append(abs(found.value - truth) / found.value_error)
    assert np.mean(np.array(off) < 2.13) > 0.85  # t quantile of 95 % with 15 degrees of freedom; binomial noise 0.028
    assert np.max(off) < 6


@pytest.mark.parametrize("light", [1e-8, 1e-12, 1e-18])
def test_light_student_rows_are_accurate_by_themselves(light):
    """The row of a mean of weight w is about 2 w m: it must not be lost beside the others' rows."""
    found = op.ScoreMatching(op.Gaussian([0.0]), weights=[1 - light, light], rule=op.Auto(tol=1e-10)).estimate([[1.05], [0.95]])
    long = op.Trapezoid(4001, half_width=20.0)
    truth = op.ScoreMatching(op.Gaussian([0.0]), weights=[1 - light, light], rule=long).estimate([[1.05], [0.95]])
    assert (found.grad_error < 1e-9 * np.abs(found.grad[:, 0])).all()
    np.testing.assert_allclose(found.grad, truth.grad, rtol=1e-9)


@pytest.mark.parametrize("nodes", [100_001, 1_000_001])
def test_the_step_of_a_long_trapezoid_is_not_rounded(nodes):
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(nodes, half_width=9.1)).estimate([[1.0], [-0.5]])
    truth = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-13)).estimate([[1.0], [-0.5]])
    assert abs(found.value - truth.value) <= found.value_error + truth.value_error


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("number", range(8))
def test_random_teachers_with_light_components(rank, number):
    """Weights down to 1e-6, against adaptive cubature of the loss and its complex steps: more in benchmarks/bounds_accuracy.py."""
    rng = np.random.default_rng([rank, number])
    tol = (1e-3, 1e-6)[number % 2]
    params, weights, means, shares = draw_mixture(rng, rank, KINDS[number % len(KINDS)], high={1: 8.0, 2: 3.0}[rank])
    found = op.ScoreMatching(op.GaussianMixture(means, shares), weights=weights, rule=op.Auto(tol=tol)).estimate(params)
    sizes = np.concatenate([[found.value], np.linalg.norm(found.grad, axis=1)])
    value, grad = oracles.mixture_score_matching(params, weights, means, shares, sizes, rtol=1e-3 * tol)
    errors = np.concatenate([[abs(found.value - value)], np.linalg.norm(found.grad - grad, axis=1)])
    bounds = np.concatenate([[found.value_error], found.grad_error])
    assert found.reliable and (errors <= bounds + 1e-3 * tol * sizes).all()
    assert (errors <= 2 * tol * sizes).all()


@pytest.mark.parametrize(("n", "m", "k"), [(1, 2, 1), (4, 3, 2), (300, 2, 3)])
def test_majorants_are_the_double_sums_they_stand_for(n, m, k):
    """Over more nodes than a block has; from a far centre as well."""
    rng = np.random.default_rng([n, m, k])
    centre, deviations, means = 30.0 * np.ones(k), rng.standard_normal((n, k)), 30.0 + 2 * rng.standard_normal((m, k))
    frame = Frame(centre + deviations, deviations, rng.dirichlet(np.ones(n)), means, rng.dirichlet(np.ones(m)))
    nodes, q = 30.0 + 3 * rng.standard_normal((700, k)), rng.uniform(0, 1, 700)
    star = responsibilities(nodes, means, frame.teacher_weights)
    w = responsibilities(nodes, frame.params, frame.weights)
    u = np.einsum("xl,xa,la->x", w, star, np.linalg.norm(frame.params[:, None] - means, axis=-1))
    v = w @ np.linalg.norm(deviations[:, None] - deviations, axis=-1)
    arm = np.linalg.norm(nodes[:, None] - frame.params, axis=-1)
    wanted = (2 * (q * u) @ w, 2 * np.einsum("x,xi,xi,xi->i", q * u, w, v, arm), 2 * np.einsum("x,xi,xi->i", q * u, w, v), q @ u**2,
              np.append(2 * q @ (w * (1 + v * arm)), 2 * q @ u))
    for one, other in zip(mixture_majorants(nodes, q, star.T, frame, centre, deviations), wanted, strict=True):
        assert_allclose(one, other, rtol=1e-11)  # logits near 1e2
    two, shares = pair_majorants(nodes, q, star.T, frame, centre, deviations)
    assert_allclose(two, wanted[0], rtol=1e-11)
    assert_allclose(shares, q @ w, rtol=1e-11)


@pytest.mark.parametrize(("spread", "apart"), [(1e-6, 0.02), (1e-4, 0.1), (1e-3, 1.0), (1e-3, 6.0)])
def test_tight_states_are_narrow_off_the_real_axis(spread, apart):
    """The mean of |2 (w_i - 1/n) D| on lines and on the real axis, far tails included, against the factor on 2 E[w_i U]."""
    teacher = op.GaussianMixture([[0.0], [apart]], [0.7, 0.3])
    state = op.State(centre=np.array([7.0]), deviations=spread * np.array([[-0.5], [0.1], [0.4]]))
    obj = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-8))
    plan = obj.plan(obj.start(state))
    narrow = plan._narrowness(np.array([7.0]), state.deviations, 9.0)
    assert 0 < narrow < 1
    x, closest = np.linspace(-12, 12 + apart, 8001), 0.0
    density = (0.7 * stats.norm.pdf(x) + 0.3 * stats.norm.pdf(x - apart)) * (x[1] - x[0])
    means, mus = np.array([0.0, apart]), 7.0 + state.deviations[:, 0]
    real, real_star = responsibilities(x[:, None] - 7.0, state.deviations, np.full(3, 1 / 3)), teacher.responsibilities(x[:, None])
    two = 2 * (density * ((real @ np.abs(mus[:, None] - means)) * real_star).sum(axis=1)) @ real
    for a in np.array([0.0, 0.05, 0.3, 0.9]) * min(40.0, np.pi / apart):
        z = x + 1j * a
        logits = np.multiply.outer(z - 7.0, state.deviations[:, 0]) - state.deviations[:, 0] ** 2 / 2
        powers = np.expm1(logits)
        off = (powers - powers.mean(axis=1)[:, None]) / (3 * (1 + powers.mean(axis=1)[:, None]))  # w - 1/n without cancelling
        star = np.exp(np.multiply.outer(z, means) - means**2 / 2 - np.maximum(x * apart - apart**2 / 2, 0)[:, None]) * [0.7, 0.3]
        target = (star @ means) / star.sum(axis=1)
        mean = 7.0 + (off + 1 / 3) @ state.deviations[:, 0]
        first = 2 * density @ np.abs(off * (mean - target)[:, None])
        strip = np.cos(a * spread / 2) ** -2 / np.cos(a * apart / 2)
        assert (first <= narrow * strip * two).all()
        closest = max(closest, (first / (narrow * strip * two)).max())
    assert closest > 1e-3


def test_rounding_knows_the_teachers_logits():
    """Two components one apart, but 300 from the first: logits near 1e5, and a student close to them whose own are near 30."""
    import mpmath

    means, shares, params = np.array([0.0, 300.0, 301.0]), np.array([1e-3, 0.4995, 0.4995]), np.array([302.5, 302.6])
    found = op.ScoreMatching(op.GaussianMixture(means[:, None], shares), rule=op.GaussHermite(24)).estimate(params[:, None])
    axis = hermite_axis(24)
    with mpmath.workdps(40):
        def posterior(x, centres, weights):
            terms = [mpmath.mpf(q) * mpmath.exp(-((x - mpmath.mpf(c)) ** 2) / 2) for c, q in zip(centres, weights, strict=True)]
            return [term / mpmath.fsum(terms) for term in terms]

        value = mpmath.mpf(0)
        for mean, share in zip(means, shares, strict=True):
            for z, q in zip(axis.nodes, axis.weights, strict=True):
                x = mpmath.mpf(mean + z)
                v, t = (mpmath.fsum(w * mpmath.mpf(c) for w, c in zip(posterior(x, centres, weights), centres, strict=True))
                        for centres, weights in ((params, (0.5, 0.5)), (means, shares)))
                value += mpmath.mpf(share) * mpmath.mpf(q) * (v - t) ** 2
        error = abs(mpmath.mpf(found.value) - value)
    assert error <= found.bounds.rounding.value


def test_rounding_grows_with_what_is_rounded():
    obj = op.ScoreMatching(op.GaussianMixture([[0.0], [2.0]]), rule=op.Auto(tol=1e-8))
    plan = obj.plan(obj.start(np.array([[0.3], [1.1]])))
    demand, centre, deviations = plan._demand(plan._evaluator, plan._measure, np.zeros(1), np.array([[0.3], [1.1]]))[1], np.zeros(1), \
        np.array([[0.3], [1.1]])
    teacher = np.array([[0.0], [2.0]])
    plain, one, two, far, less = (rounding(demand, 100, centre, deviations, 12.0, *more) for more in (
        (), (teacher[:1], 8.0), (teacher, 8.0), (10 * teacher, 8.0), (teacher, 8.0, True)))
    assert_allclose(plain, one)
    # 4 (k + 2) eps times the largest logit 2 * 8 + 2 of the scales
    assert_allclose(two - plain, 12 * 18 * np.finfo(float).eps * demand.scales, rtol=1e-9)
    assert (far > 5 * (two - plain)).all() and (less > two).all()


@pytest.mark.parametrize("far", [3.0, 12.0])
def test_a_mean_beside_a_far_component_in_a_reduced_space(far):
    """Positions are kept from the first component: beside another one 1e-9 away they are good to the rounding of `far`, and it shows."""
    means, params = np.zeros((2, 9)), np.zeros((2, 9))
    means[1, :2] = far * np.array([0.6, 0.8])
    params[0, 4], params[1] = 1.0, means[1] + 1e-9 * np.array([0.8, -0.6, 0, 0, 0, 0, 0, 0, 0])
    found = op.ScoreMatching(op.GaussianMixture(means), rule=op.Auto(tol=1e-8)).estimate(params)
    turn = np.array([[0.6, 0.8, 0], [0.8, -0.6, 0], [0, 0, 1]]).T  # along the components, across, towards the first mean
    places, seen = means[:, [0, 1, 4]] @ turn, params[:, [0, 1, 4]] @ turn
    places[1], seen[1] = (far, 0, 0), (far, 1e-9, 0)  # as it is meant, without rounding
    plain = op.ScoreMatching(op.GaussianMixture(places), rule=op.Auto(tol=1e-8)).estimate(seen)
    assert found.bounds is not None and plain.bounds is not None
    assert (np.linalg.norm(found.grad[:, [0, 1, 4]] @ turn - plain.grad, axis=1) <= found.grad_error + plain.grad_error).all()
    assert found.bounds.rounding.grad[1] > np.finfo(float).eps * far


@pytest.mark.parametrize("mean", [[2.0], [0.0], [2.0, -1.0]])
@pytest.mark.parametrize(("components", "students"), [(2, 1), (2, 2), (3, 2)])
def test_students_on_components_that_coincide(mean, components, students):
    """The loss and the majorant of its integrand are zero: no warning (an error here), and nothing moves."""
    teacher, params = op.GaussianMixture([mean] * components), np.array([mean] * students)
    obj = op.KLDivergence(teacher)
    found = obj.estimate(params)
    assert abs(found.value) <= found.value_error < 1e-12 and (np.linalg.norm(found.grad, axis=1) <= found.grad_error).all()
    assert np.abs(obj.grad(params)).max() < 1e-14
    hessian = obj.hessian(params).reshape(2 * (params.size,))
    assert_allclose(hessian, np.kron(np.full((students, students), 1 / students**2), np.eye(len(mean))), atol=1e-12)
    runs = [op.em(obj, params, steps=2, progress=False), op.gradient_descent(obj, params, step_size=0.1, steps=2, progress=False),
            op.gradient_flow(obj, params, t_end=0.5, progress=False)]
    for run in runs:
        assert run.status == "completed"
        assert_allclose(run.final, params, atol=1e-14)
    other = op.GaussianMixture(params) if students > 1 else op.Gaussian(mean)
    for distance in (op.distances.kullback_leibler, op.distances.fisher, op.distances.total_variation):
        assert abs(distance(teacher, other).value) < 1e-12
