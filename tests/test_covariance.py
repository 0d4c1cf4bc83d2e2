"""Score matching against a Gaussian with a covariance: an oracle of its own, bounds, closed forms, the closed span, runs, errors."""

import pickle

import numpy as np
import pytest
from covariance_oracle import loss_over_nodes, oracle
from numpy.testing import assert_allclose

import overparam as op
from overparam.covariance import CovarianceGaussian, closed_state
from overparam.geometry import reduce_state

EPSILON = np.finfo(np.float64).eps


def configuration(seed):
    """A random student and teacher in one or two dimensions: wide and narrow ones, equal and unequal weights."""
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(1, 3)), int(rng.integers(1, 6))
    root = rng.normal(size=(d, d)) * 10 ** rng.uniform(-0.3, 0.3)
    covariance, mean = root @ root.T + 0.2 * np.eye(d), rng.normal(size=d)
    params = mean + rng.normal(size=d) * rng.uniform(0, 3) + rng.normal(size=(n, d)) * 10 ** rng.uniform(-4, 0.6)
    return params, rng.dirichlet(np.ones(n)) if seed % 2 else np.full(n, 1 / n), mean, covariance


@pytest.mark.parametrize("seed", range(30))
def test_value_and_rows_are_within_their_bounds_of_the_oracle(seed):
    params, weights, mean, covariance = configuration(seed)
    value, rows = oracle(params, weights, mean, covariance)
    for tol in (1e-10, 1e-4):
        found = op.ScoreMatching(op.Gaussian(mean, covariance=covariance), weights=weights, rule=op.Auto(tol)).estimate(params)
        own = 1e-13 * (1 + value + np.abs(rows).max()) * max(1.0, np.abs(params).max()) * np.linalg.cond(covariance)  # of the oracle
        assert abs(found.value - value) <= found.value_error + own
        assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error + own).all()
        assert found.value_error <= 1.2 * tol * value + 1e-9 * value * (tol < 1e-9)


@pytest.mark.parametrize("rule", [op.GaussHermite(12), op.Trapezoid(17), op.Trapezoid(24, half_width=3.0)])
@pytest.mark.parametrize("seed", range(0, 30, 5))
def test_bounds_of_fixed_rules_hold_where_they_are_coarse(rule, seed):
    params, weights, mean, covariance = configuration(seed)
    value, rows = oracle(params, weights, mean, covariance)
    found = op.ScoreMatching(op.Gaussian(mean, covariance=covariance), weights=weights, rule=rule).estimate(params)
    own = 1e-13 * (1 + value + np.abs(rows).max()) * max(1.0, np.abs(params).max()) * np.linalg.cond(covariance)
    assert abs(found.value - value) <= found.value_error + own
    assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error + own).all()


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_the_difference_quotient_of_the_loss_in_six_dimensions(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6))
    objective = op.ScoreMatching(op.Gaussian(rng.normal(size=6), covariance=root @ root.T + 0.5 * np.eye(6)), rule=op.Auto(1e-12))
    params = rng.normal(size=(2, 6))
    found, step = objective.estimate(params), 2e-3
    for place in [(0, 0), (1, 3), (0, 5)]:
        unit = np.zeros(params.shape)
        unit[place] = step
        near, far = (objective.value(params + m * unit) - objective.value(params - m * unit) for m in (1, 2))
        # the fifth derivative times step^4 / 30, by the same quotient at twice the step; and the values' own bounds
        wider, widest = (objective.value(params + m * unit) - objective.value(params - m * unit) for m in (2, 4))
        quotient, coarse = (8 * near - far) / (12 * step), (8 * wider - widest) / (24 * step)
        assert abs(quotient - found.grad[place]) <= found.grad_error[place[0]] + abs(quotient - coarse) + 2 * found.value_error / step


def reduced_without_the_correction(params, mean, covariance, step=0.02):
    """One axis, the conditional mean of x and no more: what is exact for the identity."""
    line = np.arange(-9, 9, step)
    q = step / np.sqrt(2 * np.pi) * np.exp(-(line**2) / 2)
    along = (params[1] - params[0]) / np.linalg.norm(params[1] - params[0])
    x = mean + np.outer(line, covariance @ along / np.sqrt(along @ covariance @ along))
    weights = np.full(2, 0.5)
    rows = np.empty(params.shape)
    for place in np.ndindex(params.shape):
        moved = params.astype(complex)
        moved[place] += 1e-30j
        rows[place] = loss_over_nodes(moved, weights, mean, covariance, x, q).imag / 1e-30
    return loss_over_nodes(params, weights, mean, covariance, x, q), rows


def test_the_conditional_covariance_counts_in_loss_and_gradient():
    params, mean = np.array([[1.0, 0.4], [-0.6, 0.8]]), np.zeros(2)
    covariance = np.array([[2.5, 0.8], [0.8, 0.6]])
    value, rows = oracle(params, np.full(2, 0.5), mean, covariance)
    wrong, wrong_rows = reduced_without_the_correction(params, mean, covariance)
    found = op.ScoreMatching(op.Gaussian(mean, covariance=covariance)).estimate(params)
    assert abs(found.value - value) <= found.value_error + 1e-12
    assert (np.linalg.norm(found.grad - rows, axis=1) <= found.grad_error + 1e-12).all()
    assert abs(wrong - value) > 0.1 * value
    assert (np.linalg.norm(wrong_rows - rows, axis=1) > 0.1 * np.linalg.norm(rows, axis=1)).any()


def test_closed_form_for_one_parameter():
    covariance = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 0.7]])
    mean, params = np.array([1.0, 0.0, -1.0]), np.array([[0.5, 2.0, 0.0]])
    value, grad = op.ScoreMatching(op.Gaussian(mean, covariance=covariance)).value_and_grad(params)
    assert_allclose(value, ((params[0] - mean) ** 2).sum() + np.trace(covariance) - 6 + np.trace(np.linalg.inv(covariance)), rtol=1e-13)
    assert_allclose(grad, 2 * (params - mean), rtol=1e-13)


def test_the_identity_is_the_plain_gaussian():
    plain = op.Gaussian([1.0, 2.0])
    assert op.Gaussian([1.0, 2.0], covariance=np.eye(2)) == plain == op.Gaussian([1.0, 2.0], covariance=[1.0, 1.0])
    near = op.ScoreMatching(op.Gaussian([1.0, 2.0], covariance=[1.0 + 1e-9, 1.0]))
    params = np.array([[2.0, 1.0], [0.0, 0.5], [1.0, -1.0]])
    assert_allclose(near.grad(params), op.ScoreMatching(plain).grad(params), atol=1e-7)


def test_first_order_law_about_a_common_point():
    """grad_i = (2/n)[c + mean - 2 (c c' + S - I)(delta_i - mean)], deviations of 1e-40 included."""
    rng, n = np.random.default_rng(4), 4
    covariance, c = np.array([[1.8, 0.4], [0.4, 0.6]]), np.array([3.0, -1.0])
    deviations = 1e-40 * rng.normal(size=(n, 2))
    objective = op.ScoreMatching(op.Gaussian(np.zeros(2), covariance=covariance))
    state = objective.start(op.init.around(c, deviations))
    found = objective.plan(state).evaluate(state)
    centred = deviations - deviations.mean(axis=0)
    law = -4 / n * centred @ (np.outer(c, c) + covariance - np.eye(2))
    basis = np.eye(2) if state.basis is None else state.basis
    assert_allclose(found.grad @ basis.T, law, rtol=1e-9, atol=1e-9 * np.abs(law).max())
    assert_allclose(found.centre_grad @ basis.T, 2 / n * c, rtol=1e-12)
    assert (found.grad_error <= 1e-9 * np.linalg.norm(found.rows, axis=1)).all()


def test_the_span_is_closed_under_the_covariance_and_no_larger():
    rng = np.random.default_rng(0)
    d = 40
    values = np.repeat([3.0, 1.0, 0.5], [1, 37, 2])
    teacher = op.Gaussian(np.zeros(d), covariance=values)
    state = op.ScoreMatching(teacher).start(rng.normal(size=(2, d)))
    assert state.k == 5  # two means in each eigenspace, of which one is a line
    image = values[:, None] * state.basis
    assert_allclose(state.basis @ (state.basis.T @ image), image, atol=1e-12)
    assert_allclose(state.basis.T @ state.basis, np.eye(5), atol=1e-13)
    along = np.zeros((3, d))
    along[:, 0] = [1.0, 2.0, -1.0]
    assert op.ScoreMatching(teacher).start(along).k == 1
    full = op.Gaussian(np.zeros(3), covariance=[[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    reduced = reduce_state(op.ScoreMatching(op.Gaussian(np.zeros(3))).start([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]), np.zeros((1, 3)))
    assert closed_state(reduced, full.shape).basis is None


def test_many_dimensions_cost_what_the_closed_span_does():
    d, rng = 100_000, np.random.default_rng(1)
    values = np.ones(d)
    values[0], values[1] = 2.0, 0.5
    params = np.zeros((2, d))
    params[:, :2] = rng.normal(size=(2, 2))
    big = op.ScoreMatching(op.Gaussian(np.zeros(d), covariance=values)).estimate(params)
    small = op.ScoreMatching(op.Gaussian(np.zeros(2), covariance=values[:2])).estimate(params[:, :2])
    assert_allclose(big.value, small.value, rtol=1e-12)
    assert_allclose(big.grad[:, :2], small.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", [op.Sobol(2**13, rng=0), op.MonteCarlo(2**13, rng=0), op.Stratified(2**12, rng=1)])
def test_sampled_rules_count_every_axis(rule):
    covariance = np.array([[2.5, 0.8, 0.0], [0.8, 0.6, 0.1], [0.0, 0.1, 1.5]])
    params = np.array([[1.0, 0.4, 0.0], [-0.6, 0.8, 0.3]])
    exact = op.ScoreMatching(op.Gaussian(np.zeros(3), covariance=covariance)).estimate(params)
    found = op.ScoreMatching(op.Gaussian(np.zeros(3), covariance=covariance), rule=rule).estimate(params)
    assert found.reliable and found.replicates == 16
    assert abs(found.value - exact.value) < 5 * found.value_error
    assert (np.linalg.norm(found.grad - exact.grad, axis=1) < 4 * found.grad_error).all()


def test_runs_in_the_closed_span_and_turned_are_the_same():
    """Compiled steps along the axes, bursts between looks off them, and plain steps by the oracle's gradient."""
    covariance, start = np.diag([2.0, 0.7]), np.array([[1.5, 0.3], [-1.0, 0.2], [0.3, -1.0]])
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    straight = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=covariance)), start, step_size=0.1, steps=60)
    turned = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=turn @ covariance @ turn.T)), start @ turn.T,
                                 step_size=0.1, steps=60)
    assert straight.status == turned.status == "completed"
    assert_allclose(turned.final @ turn, straight.final, atol=1e-10)
    params = start
    for _ in range(5):
        params = params - 0.1 * oracle(params, np.full(3, 1 / 3), np.zeros(2), covariance)[1]
    five = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=covariance)), start, step_size=0.1, steps=5)
    assert_allclose(five.final, params, atol=1e-10)
    assert (np.diff(straight.loss) < 0).all()


def test_flow_comes_to_a_stationary_point_and_a_narrow_teacher_pulls_all_to_its_mean():
    wide = op.ScoreMatching(op.Gaussian([0.0], covariance=[2.0]))
    flow = op.gradient_flow(wide, [[1.5], [-1.0], [0.3]], t_end=500.0)
    assert flow.status == "completed" and np.abs(wide.grad(flow.final)).max() < 1e-7
    assert 1 < np.abs(flow.final).max() < 1.5
    narrow = op.ScoreMatching(op.Gaussian([0.0], covariance=[0.5]))
    flow = op.gradient_flow(narrow, op.init.around([4.0], 1e-9 * np.array([[1.0], [-0.5], [-0.5]])), t_end=1e4)
    assert flow.status == "completed" and np.abs(flow.final).max() < 1e-6
    assert_allclose(flow.loss[-1], 0.5, rtol=1e-12)


def test_regimes_measure_distances_and_do_not_judge():
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([1.0], covariance=[2.0])), [[2.0], [0.5]], step_size=0.1, steps=3)
    assert_allclose(op.regimes.distances(run)[0], [1.0, 0.5])
    with pytest.raises(ValueError, match="covariance"):
        op.regimes.classify(run)
    assert op.theory.check("zhang2025.theorem_3_2", run).verdict == "vacuous"


def test_minibatches_agree_with_the_exact_gradient():
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    objective, params = op.ScoreMatching(op.Gaussian([1.0, 0.0], covariance=covariance)), np.array([[1.0, 1.0], [0.0, -1.0]])
    rng = np.random.default_rng(0)
    batches = [objective.minibatch(params, 4000, rng, errors=True) for _ in range(12)]
    value, grad = objective.value_and_grad(params)
    error = np.std([one.value for one in batches], ddof=1) / np.sqrt(12)
    assert abs(np.mean([one.value for one in batches]) - value) < 4 * error
    assert 0.5 < np.mean([one.value_error for one in batches]) / (error * np.sqrt(12)) < 2
    spread = np.std([one.grad for one in batches], axis=0, ddof=1) / np.sqrt(12)
    assert (np.abs(np.mean([one.grad for one in batches], axis=0) - grad) < 5 * spread).all()
    run = op.sgd(objective, params, step_size=0.05, steps=20, batch_size=64, rng=0)
    assert run.status == "completed"


def test_hessian_is_that_of_differences():
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=[2.0, 0.5]), rule=op.Auto(1e-13))
    params, step = np.array([[1.0, 0.3], [-0.5, 0.2]]), 1e-3
    direction = np.array([[0.3, -0.2], [0.5, 1.0]])
    near, far = (objective.grad(params + m * step * direction) - objective.grad(params - m * step * direction) for m in (1, 2))
    assert_allclose(objective.hvp(params, direction), (8 * near - far) / (12 * step), atol=1e-8)
    assert_allclose(np.einsum("iajb,jb->ia", objective.hessian(params), direction), objective.hvp(params, direction), atol=1e-7)


# --- the teacher -------------------------------------------------------------------------------------------------------


def test_samples_score_and_noise():
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    teacher = op.Gaussian([1.0, -1.0], covariance=covariance)
    x = teacher.sample(40_000, rng=0)
    assert_allclose(x.mean(axis=0), teacher.mean, atol=5 * np.sqrt(2.0 / 40_000))
    assert_allclose(np.cov(x.T), covariance, atol=6 * 2 * np.sqrt(2 / 40_000))
    assert_allclose(teacher.score(x[:5]), -(x[:5] - teacher.mean) @ np.linalg.inv(covariance), rtol=1e-12)
    noised = teacher.at_time(0.7)
    assert_allclose(noised.mean, np.exp(-0.7) * teacher.mean)
    assert_allclose(noised.covariance, np.exp(-1.4) * covariance + (1 - np.exp(-1.4)) * np.eye(2), rtol=1e-14)
    assert op.ScoreMatching(teacher, t=0.7).teacher == noised and teacher.at_time(0.0) == teacher
    assert op.Gaussian([1.0], covariance=[2.0]).at_time(60.0) == op.Gaussian([np.exp(-60.0)])  # the noise has taken over


def test_descriptions_pickles_and_files_bring_it_back(tmp_path):
    for covariance in ([2.0, 0.5], [[2.0, 0.1], [0.1, 1.0]]):
        teacher = op.Gaussian([0.0, 1.0], covariance=covariance)
        assert op.Teacher.from_description(teacher.describe()) == teacher == pickle.loads(pickle.dumps(teacher)) == eval(
            repr(teacher), {"Gaussian": op.Gaussian})
        assert hash(teacher) == hash(op.Gaussian([0.0, 1.0], covariance=covariance)) and isinstance(teacher, CovarianceGaussian)
    run = op.gradient_descent(op.ScoreMatching(teacher), [[1.0, 0.0], [0.0, 2.0]], step_size=0.1, steps=10)
    run.save(tmp_path / "run.nc")
    again = op.load(tmp_path / "run.nc")
    assert again.objective.teacher == teacher
    assert_allclose(again.extend(steps=5).final, run.extend(steps=5).final, rtol=1e-13)
    with pytest.raises(AttributeError, match="frozen"):
        teacher.mean = 1.0
    plain = op.Gaussian([0.0, 1.0])
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_starts_about_it_and_draws_from_it():
    teacher = op.Gaussian([1.0, 0.0], covariance=[2.0, 1.0])
    assert_allclose(op.init.symmetric_pair(n=3, s=0.5, target=teacher).mean(axis=0), teacher.mean, atol=1e-15)
    assert op.init.from_teacher(teacher, n=4, rng=0).shape == (4, 2)


def test_toml():
    from overparam import config

    problem = config.loads('teacher = {kind = "Gaussian", mean = [0.0, 0.0], covariance = [2.0, 1.0], t = 0.1}\n'
                           'start = {params = [[2.0, 0.0], [1.5, 0.5]]}\ndriver = {kind = "gradient_descent", step_size = 0.1, steps = 5}')
    assert_allclose(problem.objective.teacher.covariance, np.diag([np.exp(-0.2) * 2 - np.expm1(-0.2), 1.0]))
    assert problem.run().status == "completed"
    assert config.loads(problem.dump()).objective.teacher == problem.objective.teacher


@pytest.mark.parametrize(("covariance", "said"), [
    ([[1.0, 0.5], [0.4, 1.0]], "symmetric"), ([[1.0, 1.0], [1.0, 1.0]], "eigenvalues above 0"), ([1.0, 0.0], "eigenvalues above 0"),
    ([1.0, -1.0], "eigenvalues above 0"), ([[1.0, 2.0], [2.0, 1.0]], "eigenvalues above 0"), (np.eye(3), "shape"), ([1.0], "shape"),
    (2.0, "shape"), ([1.0, np.nan], "finite"), ([[1.0, 0.0], [0.0, np.inf]], "finite"), ("wide", "real numbers")])
def test_covariances_that_are_refused(covariance, said):
    with pytest.raises(ValueError, match=f"covariance.*{said}"):
        op.Gaussian([0.0, 0.0], covariance=covariance)


def test_what_it_is_refused_by():
    teacher = op.Gaussian([0.0, 0.0], covariance=[2.0, 1.0])
    for kind in (op.KLDivergence, op.ReverseFisher):
        with pytest.raises(ValueError, match="identity covariance"):
            kind(teacher)
    with pytest.raises(ValueError, match="weights must be above 0"):
        op.ScoreMatching(teacher, weights=[1.0, 0.0]).value([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="below float64's range"):
        op.gradient_flow(op.ScoreMatching(teacher), op.init.around([9.0, 0.0], [[1.0, 0.0], [-1.0, 0.0]], log_scale=-900.0), t_end=1.0)
    with pytest.raises(op.TooHardError, match="max_nodes"):
        op.ScoreMatching(teacher, rule=op.Auto(max_nodes=50)).value([[3.0, 0.0], [0.0, 3.0], [-3.0, 1.0]])
    sampled = op.ScoreMatching(teacher, rule=op.Auto(max_nodes=50)).estimate([[3.0, 0.0], [0.0, 3.0], [-3.0, 1.0]])
    assert "Sobol" in sampled.rule and sampled.replicates


# --- many eigenvalues, and extreme ones --------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, 65, 1000])
def test_nodes_do_not_grow_with_the_number_of_eigenvalues(d):
    """By difference quotients of the loss, and the loss by samples."""
    rng = np.random.default_rng(d)
    params, teacher = rng.normal(size=(2, d)) / np.sqrt(d), op.Gaussian(np.zeros(d), covariance=np.linspace(0.5, 2.0, d))
    objective = op.ScoreMatching(teacher)
    found, step = objective.estimate(params), 1e-3
    assert found.reliable and found.nodes < 150
    direction = rng.normal(size=params.shape)
    direction /= np.linalg.norm(direction)
    near, far = (objective.value(params + m * step * direction) - objective.value(params - m * step * direction) for m in (1, 2))
    assert_allclose((8 * near - far) / (12 * step), (direction * found.grad).sum(), atol=2 * found.value_error / step + 1e-9)
    x = teacher.sample(4000, rng=0)
    losses = ((objective.score(x, params) - teacher.score(x)) ** 2).sum(axis=1)
    assert abs(losses.mean() - found.value) < 5 * losses.std() / np.sqrt(len(x))


@pytest.mark.parametrize("turned", [False, True])
def test_runs_with_many_eigenvalues_follow_the_differences(turned):
    """Descent by plain steps with the gradient at each state alone; and the loss at its end."""
    rng, d = np.random.default_rng(2), 8
    root = np.linalg.qr(rng.normal(size=(d, d)))[0] if turned else np.eye(d)
    objective = op.ScoreMatching(op.Gaussian(np.zeros(d), covariance=root @ np.diag(np.linspace(0.4, 3.0, d)) @ root.T))
    start = rng.normal(size=(3, d))
    run = op.gradient_descent(objective, start, step_size=0.1, steps=10)
    params = start
    for _ in range(10):
        params = params - 0.1 * objective.grad(params)
    assert run.status == "completed"
    assert_allclose(run.final, params, atol=1e-8)
    found = objective.estimate(run.final)
    assert abs(run.loss[-1] - found.value) <= 1e-9 * found.value


def test_means_that_leave_their_line_are_seen():
    """Implicit steps and difference quotients look off the span that a plan was made for."""
    objective = op.ScoreMatching(op.Gaussian(np.zeros(4), covariance=[0.5, 1.0, 2.0, 3.0]))
    line = np.outer([1.0, 0.2, -0.7], [0.5, 0.3, -0.4, 0.2])
    off = line + 0.1 * np.random.default_rng(0).normal(size=line.shape)
    state = objective.start(off)
    plan, there = objective.plan(state.moved(np.zeros(4), line)), state.moved(np.zeros(4), off)
    assert not plan.covers(there)
    assert_allclose(plan.evaluate(there).rows, objective.grad(off), atol=1e-9)
    centre, rows = plan.gradient(state, np.zeros(4), off)
    assert_allclose(centre + rows, objective.grad(off), atol=1e-9)


def test_a_run_that_would_crawl_is_too_hard():
    params = 3 * np.random.default_rng(0).normal(size=(6, 5))
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian(np.zeros(5), covariance=np.linspace(0.5, 2, 5))), params, step_size=0.1, steps=5)
    assert run.status == "too_hard" and ("200000" in run.message or "max_nodes" in run.message)


@pytest.mark.parametrize("covariance", [[1e300, 1.0], [1e-300, 1.0], [1e-15, 1e15]])
def test_eigenvalues_beyond_what_can_be_bounded_are_refused(covariance):
    with pytest.raises(ValueError, match=r"covariance.*eigenvalues from 1e-20 to 1e\+20"):
        op.Gaussian([0.0, 0.0], covariance=covariance)


def test_near_singular_covariances_say_that_the_tolerance_is_missed():
    turn, params = np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([[1.0, 0.4], [-0.6, 0.8]])
    fine = op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=turn @ np.diag([1.0, 0.1]) @ turn.T)).estimate(params)
    poor = op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=turn @ np.diag([1.0, 1e-8]) @ turn.T)).estimate(params)
    assert fine.reliable and not poor.reliable
    plain = op.ScoreMatching(op.Gaussian([0.0, 0.0], covariance=[1.0, 1e-8])).estimate(params @ turn)
    assert abs(plain.value - poor.value) <= plain.value_error + poor.value_error
    assert (np.linalg.norm(poor.grad @ turn - plain.grad, axis=1) <= plain.grad_error + poor.grad_error).all()
