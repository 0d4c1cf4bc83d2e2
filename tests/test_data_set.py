"""Data sets as teachers: likelihood and denoising score matching over given points."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.mixture import GaussianMixture as SklearnMixture

import overparam as op

EPS = np.finfo(float).eps
RNG = np.random.default_rng(5)
X = RNG.standard_normal((40, 2)) * [2.0, 0.7] + RNG.choice([-1.5, 1.5], size=(40, 1))
Q = RNG.dirichlet(np.ones(40))
PARAMS = np.array([[1.0, 0.2], [-1.2, 0.1], [0.3, -0.8]])
WEIGHTS = np.array([0.5, 0.3, 0.2])


def student(x, params, weights):
    """Log density (N,) and responsibilities (N, n), as the formulas say them."""
    densities = weights * np.exp(-((x[:, None] - params) ** 2).sum(axis=2) / 2) / (2 * np.pi) ** (x.shape[1] / 2)
    return np.log(densities.sum(axis=1)), densities / densities.sum(axis=1, keepdims=True)


def denoising_terms(x, targets, params, weights):
    """Loss (N,) and gradient (N, n, d) of score matching at each node."""
    w = student(x, params, weights)[1]
    v = w @ params
    D = v - targets
    a = w * np.einsum("knd,kd->kn", params - v[:, None], D)
    return (D**2).sum(axis=1), 2 * (w[:, :, None] * D[:, None] + a[:, :, None] * (x[:, None] - params))


def differences(value, params, h=1e-5):
    """Central differences: truncation h^2 f''' = 1e-10, rounding eps/h = 2e-11, of numbers of order 10."""
    grad = np.zeros_like(params)
    for index in np.ndindex(*params.shape):
        step = np.zeros_like(params)
        step[index] = h
        grad[index] = (value(params + step) - value(params - step)) / (2 * h)
    return grad


OBJECTIVES = {
    "likelihood": lambda data, weights=None: op.KLDivergence(data, weights=weights),
    "noised likelihood": lambda data, weights=None: op.KLDivergence(data, t=0.4, weights=weights),
    "denoising": lambda data, weights=None: op.ScoreMatching(data, t=0.4, weights=weights),
}
every_objective = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)


# --- values -----------------------------------------------------------------------------------------------------------


def test_the_likelihood_is_its_definition_and_what_scikit_learn_says():
    found = op.KLDivergence(op.DataSet(X, Q), weights=WEIGHTS).estimate(PARAMS)
    logs, w = student(X, PARAMS, WEIGHTS)
    assert_allclose(found.value, -(Q @ logs), rtol=1e-14)
    assert_allclose(found.grad, np.einsum("k,kn,knd->nd", Q, w, PARAMS - X[:, None]), atol=1e-14)
    assert abs(found.value + Q @ logs) <= found.value_error < 1e-11
    mixture = SklearnMixture(3, covariance_type="spherical")
    mixture.weights_, mixture.means_ = WEIGHTS, PARAMS
    mixture.covariances_ = mixture.precisions_cholesky_ = np.ones(3)
    assert_allclose(op.KLDivergence(op.DataSet(X), weights=WEIGHTS).value(PARAMS), -mixture.score(X), rtol=1e-14)


def test_denoising_is_its_definition():
    noised = op.DataSet(X, Q).at_time(0.4, draws=3, rng=1)
    obj = op.ScoreMatching(noised, weights=WEIGHTS)
    losses, rows = denoising_terms(noised.nodes, noised.targets, PARAMS, WEIGHTS)
    found = obj.estimate(PARAMS)
    assert_allclose(found.value, noised.node_weights @ losses, rtol=1e-14)
    assert_allclose(found.grad, np.einsum("k,knd->nd", noised.node_weights, rows), atol=1e-13)
    assert (found.rule, found.nodes, found.reliable) == ("data", 120, True)
    assert not found.bounds.discretisation.value and not found.bounds.truncation.grad.any()


@every_objective
@pytest.mark.parametrize("weights", [None, WEIGHTS, [0.6, 0.0, 0.4]], ids=["equal", "unequal", "one without"])
def test_gradient_is_the_difference_quotient(make, weights):
    obj = make(op.DataSet(X, Q), weights)
    value, grad = obj.value_and_grad(PARAMS)
    assert value == obj.value(PARAMS)
    assert_allclose(grad, differences(obj.value, PARAMS), atol=2e-9)
    assert_array_equal(grad, obj.grad(op.State(np.zeros(2), PARAMS)))


@every_objective
def test_the_hessian_is_that_of_the_gradient(make):
    obj = make(op.DataSet(X, Q), WEIGHTS)
    direction = np.arange(6.0).reshape(3, 2) - 2.0
    h = 1e-5
    quotient = (obj.grad(PARAMS + h * direction) - obj.grad(PARAMS - h * direction)) / (2 * h)
    assert_allclose(obj.hvp(PARAMS, direction), quotient, atol=2e-8)  # h^2 times third derivatives of order 100
    assert_allclose(np.einsum("iajb,jb->ia", obj.hessian(PARAMS), direction), quotient, atol=2e-8)


@every_objective
def test_weights_count_like_copies(make):
    counts = np.array([3, 1, 2])
    one, other = op.DataSet(X[:3], counts / 6), op.DataSet(np.repeat(X[:3], counts, axis=0))
    if make is OBJECTIVES["likelihood"]:
        assert_allclose(make(one).value(PARAMS), make(other).value(PARAMS), rtol=1e-14)
        assert_allclose(make(one).grad(PARAMS), make(other).grad(PARAMS), atol=1e-14)
    else:
        assert_array_equal(make(one).teacher.node_weights, np.repeat(counts / 6, 16) / 16)


def test_far_points_and_far_students_do_not_lose_digits():
    shift = np.array([1e6, -3e5])
    near, far = op.KLDivergence(op.DataSet(X), weights=WEIGHTS), op.KLDivergence(op.DataSet(X + shift), weights=WEIGHTS)
    found = far.estimate(PARAMS + shift)
    assert_allclose(found.value, near.value(PARAMS), rtol=1e-9)  # the points themselves are rounded by 1e-10
    assert found.value_error < 1e-11
    params = np.array([[0.0, 0.0], [1e6, 0.0]])  # exp(-5e11): its responsibility is exactly 0
    grad = op.KLDivergence(op.DataSet(X)).grad(params)
    assert np.isfinite(grad).all() and not grad[1].any()


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_fixed_and_has_the_moments_of_the_process():
    data, t = op.DataSet([[3.0, -1.0]]), 0.7
    noised = data.at_time(t, draws=20_000)
    sigma = np.sqrt(1 - np.exp(-2 * t))
    z = (noised.nodes - np.exp(-t) * data.x) / sigma
    assert_allclose(noised.targets, noised.nodes - z / sigma, atol=1e-13)
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(20_000) and np.abs((z**2).mean(axis=0) - 1).max() < 5 * np.sqrt(2 / 20_000)
    assert data.at_time(t) == data.at_time(t) and data.at_time(t) != data.at_time(t, rng=1) and data.at_time(t) != data
    assert data.at_time(0.0) is data
    later = noised.at_time(0.3, draws=2)  # noise times add up, and start again from the data
    assert later.t == pytest.approx(1.0) and later.nodes.shape == (2, 2) and later == data.at_time(later.t, draws=2)


def test_the_score_of_noised_data_is_that_of_their_mixture():
    data, t, h = op.DataSet(X, Q).at_time(0.5), 0.5, 1e-5
    variance, means = 1 - np.exp(-2 * t), np.exp(-t) * X

    def log_density(x):
        return np.log(Q @ np.exp(-((x - means) ** 2).sum(axis=1) / (2 * variance)))

    points = RNG.standard_normal((4, 2))
    wanted = [[(log_density(x + h * e) - log_density(x - h * e)) / (2 * h) for e in np.eye(2)] for x in points]
    assert_allclose(data.score(points), wanted, atol=1e-8)
    assert_array_equal(data.score(points.reshape(2, 2, 2)), data.score(points).reshape(2, 2, 2))


def test_denoising_has_the_gradient_of_the_population_in_the_limit():
    teacher, t, count = op.GaussianMixture([[-2.0, 0.0], [1.0, 1.5]], [0.4, 0.6]), 0.5, 40_000
    noised = op.DataSet(teacher.sample(count, rng=3)).at_time(t, draws=1, rng=4)
    losses, rows = denoising_terms(noised.nodes, noised.targets, PARAMS, WEIGHTS)
    population = op.ScoreMatching(teacher, t=t, weights=WEIGHTS, rule=op.Auto(tol=1e-6))
    value, grad = population.value_and_grad(PARAMS)
    found = op.ScoreMatching(noised, weights=WEIGHTS).grad(PARAMS)
    errors = rows.std(axis=0) / np.sqrt(count)
    assert (np.abs(found - grad) < 5 * errors).all() and errors.max() < 0.1 * np.abs(grad).max()
    # the constant: E|z|^2/sigma^2 - E|s_t|^2, estimated by other draws
    sigma2 = 1 - np.exp(-2 * t)
    other = teacher.at_time(t)
    squares = (other.score(other.sample(count, rng=6)) ** 2).sum(axis=1)
    error = np.hypot(losses.std(), squares.std()) / np.sqrt(count)
    assert abs(losses.mean() - (value + 2 / sigma2 - squares.mean())) < 5 * error


# --- runs -------------------------------------------------------------------------------------------------------------


@every_objective
def test_compiled_runs_take_the_steps_that_gradients_say(make):
    obj = make(op.DataSet(X, Q), [0.6, 0.0, 0.4])
    run = op.gradient_descent(obj, PARAMS, step_size=0.2, steps=6)
    params = PARAMS.copy()
    for _ in range(6):
        params = params - 0.2 * obj.grad(params)
    assert_allclose(run.final, params, atol=1e-13)
    assert_array_equal(run.final[1], PARAMS[1])
    assert run.status == "completed" and (np.diff(run.loss) < 0).all() and (run.loss_error < 1e-10).all()


@every_objective
def test_minibatches_are_drawn_from_the_data(make):
    obj, rng = make(op.DataSet(X, Q), WEIGHTS), np.random.default_rng(0)
    batches = [obj.minibatch(PARAMS, 500, rng, errors=True) for _ in range(40)]
    grads, values = np.array([one.grad for one in batches]), np.array([one.value for one in batches])
    parts = 1 / 40
    if make is not OBJECTIVES["likelihood"]:  # the limit of many draws of the noise, by 40 * 2000 of them
        obj = type(obj)(op.DataSet(X, Q).at_time(0.4, draws=2000), weights=WEIGHTS)
        parts += 500 / (40 * 2000)
    assert (np.abs(grads.mean(axis=0) - obj.grad(PARAMS)) < 5 * grads.std(axis=0, ddof=1) * np.sqrt(parts)).all()
    assert abs(values.mean() - obj.value(PARAMS)) < 5 * values.std(ddof=1) * np.sqrt(parts)
    assert np.mean([one.value_error for one in batches]) == pytest.approx(values.std(ddof=1), rel=5 / np.sqrt(2 * 40))
    assert op.sgd(obj, PARAMS, step_size=0.05, steps=20, batch_size=50, rng=0).status == "completed"


def test_flows_and_reduced_states_run_in_full_coordinates():
    population = op.KLDivergence(op.Gaussian(np.zeros(5)))
    reduced = population.start(np.eye(5)[:2])
    assert reduced.k == 2
    data = op.KLDivergence(op.DataSet(RNG.standard_normal((30, 5))))
    assert data.start(reduced).k == 5
    assert_allclose(data.value(reduced), data.value(np.eye(5)[:2]), rtol=1e-14)
    assert op.gradient_flow(data, reduced, t_end=1.0).status == "completed"


def test_a_step_that_is_too_large_says_so():
    run = op.gradient_descent(op.KLDivergence(op.DataSet(X)), PARAMS[:1], step_size=2.5, steps=400)
    assert run.status == "unstable" and np.isfinite(run.final).all()


def test_saving_says_that_data_are_needed_again(tmp_path):
    obj = op.ScoreMatching(op.DataSet(X), t=0.3)
    run = op.gradient_descent(obj, PARAMS, step_size=0.1, steps=4)
    run.save(tmp_path / "run.nc")
    loaded = op.load(tmp_path / "run.nc")
    with pytest.raises(ValueError, match=r"described by its hash and not saved.*objective="):
        loaded.extend(steps=2)
    with pytest.raises(ValueError, match="objective differs"):
        op.load(tmp_path / "run.nc", objective=op.ScoreMatching(op.DataSet(X + 1e-9), t=0.3))
    longer = op.load(tmp_path / "run.nc", objective=op.ScoreMatching(op.DataSet(X.copy()), t=0.3)).extend(steps=2)
    assert_array_equal(longer.final, op.gradient_descent(obj, PARAMS, step_size=0.1, steps=6).final)


# --- the class --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [op.DataSet(X), op.DataSet(X, Q), op.DataSet(X, Q).at_time(0.2, draws=2)], ids=repr)
def test_data_sets_are_frozen_described_and_pickled(data):
    again = pickle.loads(pickle.dumps(data))
    assert again == data and hash(again) == hash(data) and not again.nodes.flags.writeable
    assert json.loads(json.dumps(data.describe())) == data.describe()
    with pytest.raises(AttributeError, match="frozen"):
        data.t = 1.0
    with pytest.raises(ValueError, match="described by its hash"):
        op.Teacher.from_description(data.describe())
    assert data.sample(7, rng=0).shape == (7, 2) and data.dimension == 2
    if not data.t:
        assert {tuple(row) for row in data.sample(300, rng=0)} <= {tuple(row) for row in X}


def test_given_arrays_are_copied():
    x = X.copy()
    data = op.DataSet(x)
    x[:] = 0.0
    assert_array_equal(data.x, X)


@pytest.mark.parametrize(("make", "match"), [
    (lambda: op.DataSet([1.0, 2.0]), r"x must have shape \(N, d\)"),
    (lambda: op.DataSet([[np.nan]]), "x must be finite"),
    (lambda: op.DataSet([[1.0]], [0.5]), "weights must sum to 1"),
    (lambda: op.DataSet([[1.0], [2.0]], [1.0]), "weights must have one entry"),
    (lambda: op.DataSet(X).score([0.0, 0.0]), "no score at noise time t = 0"),
    (lambda: op.DataSet(X).at_time(0.1).score([0.0]), "x must have shape"),
    (lambda: op.DataSet(X).at_time(-0.1), "t must be"),
    (lambda: op.DataSet(X).at_time(0.1, draws=0), "draws must be"),
    (lambda: op.DataSet(X).sample(0), "n must be"),
    (lambda: op.ScoreMatching(op.DataSet(X)), r"no score at noise time t = 0.*t > 0.*KLDivergence"),
    (lambda: op.KLDivergence(op.DataSet(X), rule=op.Auto()), "rule does not apply to a data set"),
    (lambda: op.KLDivergence(op.DataSet(X)).value([[1.0]]), "params have 1 coordinates"),
    (lambda: op.KLDivergence(op.DataSet(X)).value([[1e200, 0.0]]), "overflows"),
    (lambda: op.KLDivergence(op.DataSet(X)).value(op.init.around([1.0, 1.0], [[1.0, 0.0]], log_scale=-900.0)), "below float64's range"),
])
def test_bad_input_is_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()
