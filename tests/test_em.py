"""Expectation maximisation: closed forms, definitions by adaptive integration, scikit-learn, laws of descent, and what can go wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture as SklearnMixture

import overparam as op
from overparam import config
from overparam._softmax import responsibilities
from overparam.certificate import pair_majorants
from overparam.drivers import expectation_maximization
from overparam.nodes import Frame
from overparam.objectives.shares import meets, renewed, reweighted

MIXTURE = op.GaussianMixture([[-2.0], [0.5], [3.0]], [0.5, 0.2, 0.3])
START, WEIGHTS = np.array([[-1.0], [1.0], [1.5], [2.5]]), np.array([0.1, 0.4, 0.2, 0.3])
X = np.random.default_rng(2).standard_normal((60, 3)) * [3.0, 1.0, 1.0]
KINDS = {"full": {}, "full, fixed weights": {"update_weights": False}, "hybrid": {"step_size": 0.8},
         "gradient": {"step_size": 0.8, "update_weights": False}}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def integrals(means, weights, teacher):
    """E[w_i] and E[w_i x] in one dimension, each integral adaptive, from the densities as they are written."""
    def density(x, centres):
        return np.exp(-((x - np.ravel(centres)) ** 2) / 2)

    def share(x, i):
        parts = weights * density(x, means)
        return parts[i] / parts.sum() * (teacher.weights @ density(x, teacher.means)) / np.sqrt(2 * np.pi)

    span = {"epsabs": 1e-13, "epsrel": 1e-13, "limit": 200}
    moments = [[quad(lambda x, i=i, p=p: x**p * share(x, i), -14, 15, **span)[0] for i in range(len(means))] for p in (0, 1)]
    return np.array(moments)


def expected(means, weights, shares, firsts, step_size=None, update_weights=True):
    """The formulas of one step."""
    moved = firsts / shares if step_size is None else means[:, 0] + step_size * (firsts - shares * means[:, 0])
    return moved[:, None], shares if update_weights else weights


# --- steps ------------------------------------------------------------------------------------------------------------


@every_kind
def test_a_population_step_is_its_definition(kind):
    run = op.em(op.KLDivergence(MIXTURE), START, weights0=WEIGHTS, steps=1, **kind)
    means, weights = expected(START, WEIGHTS, *integrals(START, WEIGHTS, MIXTURE), **kind)
    assert_allclose(run.final, means, rtol=1e-9)  # the rule's 1e-10, divided by shares of a tenth
    assert_allclose(run.final_weights, weights, rtol=1e-9)
    assert_array_equal(run.weights[0], WEIGHTS)


def test_steps_on_data_are_those_of_scikit_learn():
    mixture = SklearnMixture(4, covariance_type="spherical")
    mixture.weights_, mixture.means_ = WEIGHTS, X[:4]
    mixture.covariances_ = mixture.precisions_cholesky_ = np.ones(4)
    obj, run = op.KLDivergence(op.DataSet(X), weights=WEIGHTS), op.em(
        op.KLDivergence(op.DataSet(X)), X[:4], weights0=WEIGHTS, steps=12, record=op.every(1))
    hybrid = op.em(obj, X[:4], steps=1, step_size=0.7)
    for record in range(12):
        means = mixture.means_
        score, log_shares = mixture._e_step(X)
        mixture._m_step(X, log_shares)
        mixture.covariances_ = mixture.precisions_cholesky_ = np.ones(4)  # the one thing that differs: its covariances move
        assert_allclose(run.loss[record], -score, rtol=1e-13)
        assert_allclose(run.params[record + 1], mixture.means_, atol=1e-12)
        assert_allclose(run.weights[record + 1], mixture.weights_, rtol=1e-12)
        if record == 0:
            shares = np.exp(log_shares)
            assert_allclose(hybrid.final, means + 0.7 * (shares.T @ X - shares.sum(axis=0)[:, None] * means) / len(X), atol=1e-13)
            assert_allclose(hybrid.final_weights, mixture.weights_, rtol=1e-12)


def test_gradient_em_is_gradient_descent_on_the_divergence():
    obj = op.KLDivergence(MIXTURE, weights=WEIGHTS)
    one, other = op.em(obj, START, step_size=0.3, steps=40, update_weights=False), op.gradient_descent(obj, START, step_size=0.3, steps=40)
    assert_array_equal(one.final, other.final)
    assert_array_equal(one.loss, other.loss)
    assert_array_equal(one.times, other.times)
    assert one.weights.shape == (len(one), 4) and (one.weights == WEIGHTS).all()


@pytest.mark.parametrize("kind", ["full", "hybrid"])
def test_one_student_in_closed_form(kind):
    """The mean goes to the teacher's; a gradient step leaves 1 - eta of the distance."""
    middle = float(MIXTURE.weights @ MIXTURE.means[:, 0])
    run = op.em(op.KLDivergence(MIXTURE), [[5.0]], steps=8, record=op.every(1), **KINDS[kind])
    left = 0.0 if kind == "full" else 0.2
    assert_allclose(np.ravel(run.params), middle + (5.0 - middle) * left ** np.arange(9.0), atol=1e-9)
    assert (run.weights == 1.0).all()


def test_a_symmetric_pair_in_closed_form():
    """Two students at -a and a under N(0, 1): a full step leads to E[x tanh(ax)]."""
    run = op.em(op.KLDivergence(op.Gaussian([0.0])), [[-1.7], [1.7]], steps=3, record=op.every(1))
    a = 1.7
    for record in range(3):
        a = quad(lambda x, a=a: x * np.tanh(a * x) * np.exp(-x * x / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-14, epsrel=1e-13)[0]
        assert_allclose(run.params[record + 1].ravel(), [-a, a], rtol=1e-9)
        assert_allclose(run.weights[record + 1], 0.5, rtol=1e-13)


@pytest.mark.parametrize("kind", ["full", "hybrid"])
def test_a_large_sample_takes_the_step_of_the_population(kind):
    teacher, count = op.GaussianMixture([[-2.0, 0.0], [1.0, 1.0]], [0.4, 0.6]), 100_000
    start, weights = np.array([[-1.0, 0.5], [0.5, 0.0]]), np.array([0.3, 0.7])
    x = teacher.sample(count, rng=8)
    sample = op.em(op.KLDivergence(op.DataSet(x)), start, weights0=weights, steps=1, **KINDS[kind])
    population = op.em(op.KLDivergence(teacher, rule=op.Auto(tol=1e-8)), start, weights0=weights, steps=1, **KINDS[kind])
    w = op.KLDivergence(teacher, weights=weights).responsibilities(x, start)
    centre = population.final if kind == "full" else start
    scale = 1 / w.mean(axis=0)[:, None] if kind == "full" else 0.8
    errors = (w[:, :, None] * (x[:, None] - centre)).std(axis=0) * scale / np.sqrt(count)
    assert (np.abs(sample.final - population.final) < 5 * errors).all()
    assert (np.abs(sample.final_weights - population.final_weights) < 5 * w.std(axis=0) / np.sqrt(count)).all()


# --- laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_size", [None, 1.0, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_no_step_increases_the_divergence_and_weights_sum_to_one(step_size, seed):
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 4), rng.integers(2, 6)
    teacher = op.GaussianMixture(2.5 * rng.standard_normal((m, 1)), rng.dirichlet(np.ones(m)))
    run = op.em(op.KLDivergence(teacher), op.init.from_teacher(teacher, n, rng), weights0=rng.dirichlet(np.ones(n)), steps=60,
                step_size=step_size, record=op.log_spaced(25))
    assert run.status == "completed" and run.weights.shape == (len(run), n)
    assert (np.diff(run.loss) <= run.loss_error[1:] + run.loss_error[:-1]).all()
    assert np.abs(run.weights.sum(axis=1) - 1).max() < 1e-14


def test_no_step_increases_the_divergence_in_the_plane():
    teacher = op.GaussianMixture([[-2.0, 0.0], [1.0, 1.5]], [0.35, 0.65])
    for kind in ({}, {"step_size": 1.0}):
        run = op.em(op.KLDivergence(teacher, rule=op.Auto(tol=1e-7)), op.init.from_teacher(teacher, 4, 1), steps=40,
                    record=op.log_spaced(10), **kind)
        assert (np.diff(run.loss) <= run.loss_error[1:] + run.loss_error[:-1]).all()
        assert np.abs(run.weights.sum(axis=1) - 1).max() < 1e-14


@pytest.mark.parametrize("step_size", [None, 1.0])
def test_no_step_on_data_increases_the_likelihoods_negative(step_size):
    for seed in range(4):
        start = np.random.default_rng(seed).standard_normal((5, 3))
        run = op.em(op.KLDivergence(op.DataSet(X)), start, steps=150, step_size=step_size, record=op.every(1))
        assert (np.diff(run.loss) <= run.loss_error[1:] + run.loss_error[:-1]).all()
        assert np.abs(run.weights.sum(axis=1) - 1).max() < 1e-14


def test_bounds_at_records_hold_for_weights_that_have_moved():
    """Against plans of their own, made for a tolerance a thousand times tighter."""
    run = op.em(op.KLDivergence(MIXTURE, rule=op.Auto(tol=1e-8)), START, weights0=WEIGHTS, steps=40, step_size=1.0, record=op.every(5))
    for record in range(1, len(run)):
        exact = op.KLDivergence(MIXTURE, weights=run.weights[record], rule=op.Auto(tol=1e-11)).value(run.params[record])
        assert abs(run.loss[record] - exact) <= run.loss_error[record] <= 1e-7 * run.loss[record]


def test_a_component_with_one_student_of_its_own_does_not_end_a_run():
    """After one full step its mean is exact, and its gradient row is exp(-50): nothing in float64 depends on it."""
    teacher = op.GaussianMixture([[-10.0], [10.0]])
    for kind in ({}, {"step_size": 1.0}):
        run = op.em(op.KLDivergence(teacher), [[-9.0], [-11.0], [9.5]], steps=60, **kind)
        assert run.status == "completed" and abs(run.final[2, 0] - 10.0) < 1e-12
        assert abs(run.final_weights[:2].sum() - 0.5) < 1e-12


# --- plans ------------------------------------------------------------------------------------------------------------


def divergence(params, weights, teacher, step=1 / 16, reach=9.0):
    """KL by its definition, on a lattice that ends `reach` beyond all means: it errs by exp(-2 pi a / step), a about pi / (2 spread)."""
    centres = np.concatenate([params, teacher.means])
    axes = [np.arange(low - reach, high + reach, step) for low, high in zip(centres.min(axis=0), centres.max(axis=0), strict=True)]
    x = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)

    def log_density(means, shares):
        return logsumexp(-((x[:, None] - means) ** 2).sum(axis=-1) / 2, axis=1, b=shares) - x.shape[1] * np.log(2 * np.pi) / 2

    true = log_density(teacher.means, teacher.weights)
    return step ** x.shape[1] * np.exp(true) @ (true - log_density(params, weights))


@pytest.fixture
def plans(monkeypatch):
    """The steppers' new plans and renewals, counted."""
    counted, stepper, renewed = {"made": 0, "renewed": 0}, expectation_maximization._Maximization, expectation_maximization.renewed

    def made(self, state, whole=stepper._made):
        counted["made"] += 1
        return whole(self, state)

    def kept(*arguments):
        found = renewed(*arguments)
        counted["renewed"] += found is not None
        return found

    monkeypatch.setattr(stepper, "_made", made)
    monkeypatch.setattr(expectation_maximization, "renewed", kept)
    return counted


@pytest.mark.parametrize(("m", "n", "d", "step_size"), [(1, 3, 1, 0.5), (3, 5, 1, None), (1, 3, 2, 1.0), (2, 4, 2, 0.5), (3, 3, 2, 1.0),
                                                       (3, 10, 2, 0.5)])
def test_plans_are_few_and_bounds_hold(m, n, d, step_size, plans):
    """A tenth of the steps is what a run may need of new plans; the divergence at records is that of a lattice of its own."""
    rng, steps = np.random.default_rng([m, n, d]), 100
    teacher = op.GaussianMixture(2.5 * rng.standard_normal((m, d)), rng.dirichlet(np.full(m, 5.0)))
    run = op.em(op.KLDivergence(teacher, rule=op.Auto(tol=1e-6)), op.init.from_teacher(teacher, n, rng), steps=steps, step_size=step_size,
                record=op.every(34))
    assert run.status == "completed" and 1 <= plans["made"] <= steps / 10
    assert (np.diff(run.loss) <= run.loss_error[1:] + run.loss_error[:-1]).all()
    assert np.abs(run.weights.sum(axis=1) - 1).max() < 1e-14
    for record in range(len(run)):
        exact = divergence(run.params[record], run.weights[record], teacher)
        assert abs(run.loss[record] - exact) <= run.loss_error[record] + 1e-13  # of the lattice's own sums
        assert run.loss_error[record] <= 1e-6 * run.loss[record] + 1e-10  # rounding: logits up to 1e3, times 1e2 operations


def test_a_dying_student_asks_for_few_plans(plans):
    """One weight falls by twelve orders: rows are judged against their own shares."""
    teacher, steps = op.Gaussian([0.0, 0.0]), 400
    run = op.em(op.KLDivergence(teacher, rule=op.Auto(tol=1e-8)), [[0.3, 0.1], [-0.4, 0.2], [5.0, 1.0]], steps=steps, step_size=0.02,
                record=op.log_spaced(12))
    assert run.final_weights[2] < 1e-12 and plans["made"] <= steps / 10 and plans["renewed"] > 10
    for record in range(len(run)):
        exact = divergence(run.params[record], run.weights[record], op.GaussianMixture(teacher.mean[None]))
        assert abs(run.loss[record] - exact) <= run.loss_error[record] + 1e-13


def test_steps_between_records_are_as_good_as_at_records():
    """Errors of rows add up along the way, and EM forgets them: what is left is of the order of the tolerance."""
    rng = np.random.default_rng(4)
    teacher = op.GaussianMixture(2 * rng.standard_normal((2, 2)))
    start = op.init.from_teacher(teacher, 4, rng)
    rough, fine = (op.em(op.KLDivergence(teacher, rule=op.Auto(tol=tol)), start, steps=120, step_size=1.0, record=op.every(120))
                   for tol in (1e-5, 1e-10))
    assert 0 < np.abs(rough.final - fine.final).max() < 1e-4
    assert np.abs(rough.final_weights - fine.final_weights).max() < 1e-4


@pytest.mark.parametrize("rule", [op.Trapezoid(48), op.Trapezoid(40, half_width=8.0), op.GaussHermite(20), op.Sobol(2**12, rng=0)],
                         ids=repr)
def test_fixed_rules_are_planned_once_for_drifting_weights(rule, plans):
    """Means that hardly move, weights that do: bounds (or six standard errors) are those of the record's own weights."""
    teacher = op.GaussianMixture([[-1.5, 0.0], [1.5, 0.5]], [0.9, 0.1])
    run = op.em(op.KLDivergence(teacher, rule=rule), teacher.means + 0.05, steps=25, step_size=1e-3, record=op.every(5))
    assert plans["made"] == 1 and np.ptp(run.weights[:, 0]) > 0.3
    for record in range(len(run)):
        exact = divergence(run.params[record], run.weights[record], teacher)
        assert abs(run.loss[record] - exact) <= (6 if isinstance(rule, op.Sobol) else 1) * run.loss_error[record] + 1e-13


def test_a_plan_is_renewed_only_where_its_bounds_allow_it():
    teacher = op.GaussianMixture([[-2.0], [2.0]])
    obj = op.KLDivergence(teacher, weights=np.array([0.5, 0.5]), rule=op.Auto(tol=1e-8))
    state = obj.start(np.array([[-1.0], [1.5]]))
    plan = obj.plan(state)
    near, far = state.moved(state.centre, state.deviations + np.array([[0.1], [-0.05]])), state.moved(state.centre, 6 * state.deviations)
    again = renewed(plan, near, np.array([0.4, 0.6]))
    assert again.nodes == plan.nodes and again.covers(near) and again is not plan
    found = again.evaluate(near)
    assert meets(again, found)
    truth = op.KLDivergence(teacher, weights=np.array([0.4, 0.6]), rule=op.Auto(tol=1e-12)).estimate(near)
    assert (np.linalg.norm(found.rows - truth.grad, axis=1) <= found.grad_error + truth.grad_error).all()
    assert renewed(plan, far, np.array([0.5, 0.5])) is None  # edges and steps are of means four apart
    assert renewed(plan, state, np.array([1.0, 0.0])) is None  # a mean without weight takes no part in a plan
    assert not meets(reweighted(plan, np.array([0.5, 0.5])), plan.evaluate(far))


def test_majorants_follow_shares_when_weights_move():
    """Relative to its share a row's majorant grows at most by the square of what weights moved against each other."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        m, n = rng.integers(1, 4), rng.integers(2, 6)
        frame = Frame(3 * rng.standard_normal((n, 2)), np.zeros((n, 2)), rng.dirichlet(np.ones(n)), 3 * rng.standard_normal((m, 2)),
                      rng.dirichlet(np.ones(m)))
        x = 4 * rng.standard_normal((400, 2))
        q, star = rng.dirichlet(np.ones(400)), responsibilities(x, frame.means, frame.teacher_weights).T
        other = replace(frame, weights=rng.dirichlet(np.ones(n)))
        moved = other.weights / frame.weights
        (one, shares), (two, others) = (pair_majorants(x, q, star, one, np.zeros(2), frame.params) for one in (frame, other))
        assert (two / others <= (1 + 1e-9) * (moved.max() / moved.min()) ** 2 * one / shares).all()


# --- equal weights that stay ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 1e-97, 1e-200])
def test_full_em_keeps_tiny_deviations(scale):
    """From a common point c one step leads to the target plus the deviations from their mean, to first order: E[w_ix]/E[w_i] with
    n w_i = 1 + (x - c)(delta_i - mean). A second one changes them by their cubes.
    """
    deviations = scale * np.array([[1.0], [-2.0], [0.5]])
    run = op.em(op.KLDivergence(op.Gaussian([0.5])), op.init.around([6.0], deviations), steps=2, update_weights=False, record=op.every(1))
    wanted = deviations - deviations.mean()
    for state in run.states[1:]:
        found = state.true_deviations - state.true_deviations.mean(axis=0)
        assert_allclose(found, wanted, rtol=max(1e-9, 20 * scale))  # second order: (x - c) delta with |x - c| about 6
    assert_allclose(run.final, 0.5, atol=max(1e-12, 3 * scale))


def test_split_steps_are_those_of_absolute_parameters():
    start = np.array([6.0, 1.0]) + 0.02 * np.random.default_rng(0).standard_normal((4, 2))
    obj = op.KLDivergence(op.Gaussian([0.0, 0.0]))
    tight = op.em(obj, start, steps=1, update_weights=False).final
    moved = op.em(obj, start, steps=1)  # whose weights move, so that it is not split; the means of the first step are the same
    assert_allclose(tight, moved.final, atol=1e-11)


# --- the trajectory ---------------------------------------------------------------------------------------------------


@every_kind
def test_runs_are_saved_loaded_and_extended(kind, tmp_path):
    for obj, exact in ((op.KLDivergence(MIXTURE, weights=WEIGHTS), False), (op.KLDivergence(op.DataSet(X[:, :1]), weights=WEIGHTS), True)):
        run = op.em(obj, START, steps=12, record=op.every(4), observe={"first": lambda params: params[0, 0]}, **kind)
        run.save(tmp_path / "run.nc")
        again = op.load(tmp_path / "run.nc", objective=obj)
        assert_array_equal(again.weights, run.weights)
        assert again.weights.shape == (4, 4) and again.to_xarray().weights.dims == ("record", "parameter")
        whole, longer = op.em(obj, START, steps=20, record=op.every(4), **kind), again.extend(steps=8)
        assert longer.weights.shape == (6, 4) and longer.steps.tolist() == [0, 4, 8, 12, 16, 20]
        for name in ("loss", "times", "weights", "params"):
            assert_allclose(getattr(longer, name), getattr(whole, name), **({"rtol": 1e-14} if exact else {"rtol": 1e-8, "atol": 1e-12}))
        assert longer.final_weights.shape == (4,) and len(longer.attributes["pieces"]) == 2


def test_what_reads_trajectories_reads_these():
    obj = op.KLDivergence(op.Gaussian([0.0]))
    run = op.em(obj, [[1.0], [-0.5], [0.2]], steps=300)
    assert op.regimes.classify(run).name == "all converge"
    assert op.verify(op.em(obj, [[1.0], [-0.5]], steps=30)).params_difference.max() < 1e-6
    assert run.states[0].params.shape == (3, 1) and "em" in repr(run)
    seen = []
    op.em(obj, [[1.0], [-0.5]], steps=4, record=op.every(2), stop=lambda record: seen.append(record.weights))
    assert [weights.shape for weights in seen] == [(2,)] * 3
    assert op.gradient_descent(obj, [[1.0]], step_size=0.1, steps=1).final_weights.tolist() == [1.0]


@pytest.mark.parametrize("teacher", ['{kind = "GaussianMixture", means = [[-2.0], [1.0]]}',
                                     '{kind = "DataSet", x = [[-2.0], [1.0], [1.5]]}'])
def test_a_configuration_makes_the_run_that_python_makes(teacher):
    text = (f'teacher = {teacher}\nobjective = {{kind = "KLDivergence"}}\nstart = {{kind = "from_teacher", n = 3, rng = 1}}\n'
            '[driver]\nkind = "em"\nsteps = 6\nstep_size = 0.5\nweights0 = [0.2, 0.3, 0.5]\n')
    problem = config.loads(text)
    run, again = problem.run(progress=False), config.loads(problem.dump()).run(progress=False)
    start = op.init.from_teacher(problem.objective.teacher, 3, 1)
    known = op.em(problem.objective, start, steps=6, step_size=0.5, weights0=[0.2, 0.3, 0.5])
    for other in (again, known):
        assert_array_equal(run.final, other.final)
        assert_array_equal(run.weights, other.weights)


def test_a_batch_gives_a_list():
    starts = np.random.default_rng(0).standard_normal((3, 4, 3))
    runs = op.em(op.KLDivergence(op.DataSet(X)), starts, steps=5)
    for start, run in zip(starts, runs, strict=True):
        assert_array_equal(run.final, op.em(op.KLDivergence(op.DataSet(X)), start, steps=5).final)


def test_ctrl_c_leaves_means_and_weights_of_one_step(monkeypatch):
    calls, shares = [], expectation_maximization.shares

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return shares(*arguments)

    monkeypatch.setattr(expectation_maximization, "shares", interrupted)
    obj = op.KLDivergence(op.DataSet(X))
    run = op.em(obj, X[:4], steps=500, record=op.every(10))
    assert run.status == "interrupted" and 0 < run.steps[-1] < 25
    assert_allclose(run.loss[-1], op.KLDivergence(op.DataSet(X), weights=run.final_weights).value(run.final), rtol=1e-14)
    assert_array_equal(run.final, op.em(obj, X[:4], steps=int(run.steps[-1])).final)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def finite(run):
    return np.isfinite(run.weights).all() and np.isfinite(run.params).all() and np.isfinite(run.loss).all()


@pytest.mark.parametrize("update_weights", [True, False])
def test_a_step_that_is_too_large_is_unstable(update_weights):
    run = op.em(op.KLDivergence(op.Gaussian([1.0, 0.0])), [[5.0, 1.0]], step_size=2.5, steps=300, update_weights=update_weights)
    assert run.status == "unstable" and "step size" in run.message and finite(run)


@every_kind
@pytest.mark.parametrize("teacher", [MIXTURE, op.DataSet(X[:, :1])], ids=["mixture", "data"])
def test_a_weight_of_zero_stays_zero(kind, teacher):
    run = op.em(op.KLDivergence(teacher), START, weights0=[0.4, 0.0, 0.5, 0.1], steps=5, **kind)
    assert run.status == "completed" and finite(run) and "parameters [1] have weight 0" in run.message
    assert_array_equal(run.final[1], START[1])
    assert not run.weights[:, 1].any()
    without = op.em(op.KLDivergence(teacher), START[[0, 2, 3]], weights0=[0.4, 0.5, 0.1], steps=5, **kind)
    assert_allclose(run.final[[0, 2, 3]], without.final, rtol=1e-8)


@pytest.mark.parametrize("teacher", [op.Gaussian([1.0]), op.DataSet(X[:, :1])], ids=["gaussian", "data"])
@pytest.mark.parametrize("kind", ["full", "full, fixed weights", "hybrid"])
def test_a_student_that_loses_all_responsibility_stays_and_is_named(kind, teacher):
    run = op.em(op.KLDivergence(teacher), [[1.0], [120.0], [0.3]], steps=10, **KINDS[kind])
    assert run.status == "completed" and finite(run)
    assert run.final[1, 0] == 120.0 and "parameters [1] lost all responsibility" in run.message
    if kind != "full, fixed weights":
        assert run.final_weights[1] == 0.0 and abs(run.final_weights.sum() - 1) < 1e-14
    else:
        assert_allclose(run.final_weights, 1 / 3)


def test_gradient_em_names_a_student_without_responsibility():
    objective = op.KLDivergence(op.GaussianMixture([[-2.0], [2.0]]))
    run = op.em(objective, [[1.0], [-1.0], [1e3]], steps=3, step_size=0.5, update_weights=False)
    assert run.final[2, 0] == 1e3 and "parameters [2] have no responsibility" in run.message


def test_overflow_is_not_blamed_on_a_step_size():
    run = op.em(op.KLDivergence(op.GaussianMixture([[-1e150], [1e150]])), [[-1e150 + 1], [1e150]], steps=3)
    assert run.status == "too_hard" and "overflow" in run.message and "step size" not in run.message


def test_full_em_has_no_flow_time_and_wide_data_are_named():
    assert "flow time" not in op.em(op.KLDivergence(op.Gaussian([0.0])), [[1.0], [2.0]], steps=2).summary()
    with pytest.raises(ValueError, match="the data set is too wide"):
        op.KLDivergence(op.DataSet([[1e160], [2.0]])).value([[0.0], [1.0]])


def test_coincident_components_are_one():
    twice, once = op.GaussianMixture([[1.0], [1.0], [-2.0]]), op.GaussianMixture([[1.0], [-2.0]], [2 / 3, 1 / 3])
    runs = [op.em(op.KLDivergence(teacher), [[0.0], [-1.0]], steps=20) for teacher in (twice, once)]
    assert_allclose(runs[0].final, runs[1].final, atol=1e-9)
    assert_allclose(runs[0].final_weights, runs[1].final_weights, atol=1e-9)
    same = op.em(op.KLDivergence(twice), [[0.0], [0.0]], steps=3)  # students that coincide stay together
    assert same.status == "completed" and same.final[0] == same.final[1] and same.final_weights[0] == same.final_weights[1]


@pytest.mark.parametrize("far", [1e5, 1e9])
def test_far_apart_components_are_taken_one_by_one(far):
    run = op.em(op.KLDivergence(op.GaussianMixture([[-far], [far]])), [[1 - far], [far - 1]], steps=5)
    assert run.status == "completed" and finite(run) and run.final.ravel().tolist() == [-far, far]
    assert_allclose(run.final_weights, 0.5, rtol=1e-14)
    data = op.em(op.KLDivergence(op.DataSet([[-far], [far], [far]])), [[1 - far], [far - 1]], steps=5)
    assert data.status == "completed" and data.final.ravel().tolist() == [-far, far]
    assert_allclose(data.final_weights, [1 / 3, 2 / 3], rtol=1e-14)


@pytest.mark.parametrize("make", [lambda far: op.GaussianMixture([[-far], [far]]), lambda far: op.DataSet([[-far], [far]])])
def test_logits_that_overflow_are_refused_in_words(make):
    with pytest.raises(ValueError, match=r"not finite at params0|overflow|max_nodes|nodes"):
        op.em(op.KLDivergence(make(1e200)), [[0.3], [0.2]], steps=5)


@pytest.mark.parametrize(("arguments", "match"), [
    ({"step_size": 0.0}, "step_size must be"),
    ({"step_size": "full"}, "step_size must be"),
    ({"update_weights": 1}, "update_weights must be"),
    ({"steps": -1}, "steps must be"),
    ({"weights0": [0.5, 0.6, 0.0, 0.0]}, "weights0 must sum to 1"),
    ({"weights0": [1.5, -0.5, 0.0, 0.0]}, "weights0 must not be negative"),
    ({"weights0": [0.5, 0.5]}, "weights has 2 entries and params 4 rows"),
    ({"record": 5}, "record must be"),
    ({"objective": op.ScoreMatching(MIXTURE)}, "objective must be an op.KLDivergence"),
    ({"params0": op.init.around([3.0], [[1.0], [-1.0]], log_scale=-900.0)}, "below float64's range.*step_size= and update_weights=False"),
])
def test_bad_input_is_named(arguments, match):
    whole = {"objective": op.KLDivergence(MIXTURE), "params0": START, "steps": 3, **arguments}
    with pytest.raises(ValueError, match=match):
        op.em(whole.pop("objective"), whole.pop("params0"), **whole)
