"""Means so far out that float64 cannot see them: what leaving them out costs, and the starts of Theorem 3.5."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam.objectives.far_means import FarPlan, Scene

ONE = op.ScoreMatching(op.Gaussian([0.0]))


def gradient_in_mpmath(params, weights=None, step="0.02"):
    """Loss and rows for a 1-D student, target 0, by a trapezoid rule in 50 digits that reaches every crossing.

    At a spread s it errs by about exp(-2 pi^2/(s h)) relative to each integrand: 1e-21 and less at s = 20, h = 0.02.
    """
    with mpmath.workdps(50):
        means = [mpmath.mpf(value) for value in params]
        shares = [mpmath.mpf(1)] * len(means) if weights is None else [mpmath.mpf(w) for w in weights]
        h, ends = mpmath.mpf(step), [min(0, min(params)) / 2 - 14, max(0, max(params)) / 2 + 14]
        loss, rows = mpmath.mpf(0), [mpmath.mpf(0)] * len(means)
        for number in range(int(ends[0] / h), int(ends[1] / h) + 1):
            x = h * number
            q = h * mpmath.npdf(x)
            terms = [share * mpmath.exp(x * mean - mean**2 / 2) for mean, share in zip(means, shares, strict=True)]
            total = mpmath.fsum(terms)
            w = [term / total for term in terms]
            v = mpmath.fsum(a * b for a, b in zip(w, means, strict=True))
            loss += q * v * v
            rows = [row + 2 * q * a * (v + (mean - v) * v * (x - mean)) for row, a, mean in zip(rows, w, means, strict=True)]
        return loss, rows


def scene_of(objective, state, weights=None):
    n = state.n
    return Scene(np.full(n, 1 / n) if weights is None else np.asarray(weights), objective.teacher.means - state.origin,
                 objective.teacher.weights)


# --- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("params", "weights"), [
    ([0.3, -0.5, 12.0], None), ([0.1, 17.0, 15.0], None), ([2.0, -1.0, -20.0], [0.1, 0.1, 0.8]), ([6.0, 6.5, 19.0], None),
    ([0.0, 1.0, 14.0], [0.98, 0.019, 0.001]),
])
def test_bounds_on_what_leaving_out_changes(params, weights):
    state = ONE.start(np.array(params)[:, None])
    scene = scene_of(ONE, state, weights)
    kept = np.abs(params) < 10
    log_rows, log_loss = scene.left_out(state.centre, state.deviations, kept)
    loss, rows = gradient_in_mpmath(params, weights)
    some = [p for p, keep in zip(params, kept, strict=True) if keep]
    left_loss, left_rows = gradient_in_mpmath(some, None if weights is None else np.asarray(weights)[kept])
    left = iter(left_rows)
    changes = [abs(row - (next(left) if keep else 0)) for row, keep in zip(rows, kept, strict=True)]
    largest = mpmath.log(max(changes))
    assert largest <= log_rows  # a bound,
    assert log_rows - largest < 14  # and no exponent given away: the rest is powers of the distances
    assert mpmath.log(abs(loss - left_loss)) <= log_loss


def test_a_box_in_which_the_bound_holds_is_one():
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [2.0, -1.0]])
    scene = Scene(np.array([0.3, 0.3, 0.1, 0.3]), means, np.array([0.7, 0.3]))
    kept = np.array([True, True, False, False])
    held = 0
    for _ in range(300):
        outside = rng.choice([-1, 1], (2, 1)) * rng.uniform(60, 110, (2, 2)) * [1.0, rng.uniform(0, 0.5)]
        middle, half = rng.uniform(-3, 3, 2), rng.uniform(0.0, 6.0, 2)
        low, high = np.minimum(middle - half, means.min(axis=0)), np.maximum(middle + half, means.max(axis=0))
        if not scene.holds_in(low, high, outside, kept):
            continue
        held += 1
        for _ in range(20):
            inside = rng.choice([low, high, rng.uniform(low, high)], axis=0) if rng.random() < 0.5 else rng.uniform(low, high)
            params = np.concatenate([[inside], rng.uniform(low, high, (1, 2)), outside])
            assert max(scene.left_out(np.zeros(2), params, kept)) < np.log(1e-290) + 1e-9
    assert 50 < held < 290


def test_gaps_are_formed_from_differences():
    """At 1e12 one float64 step is 1e-4; a gap of 5e-5 is told from none, and 1e-20 is not."""
    z = np.array([[0.0, 0.0], [5e-5, 0.0], [1e-20, 0.0]])
    state = op.ScoreMatching(op.Gaussian([0.0, 0.0])).start(op.init.around([1e12, 0.0], z))
    scene = Scene(np.full(3, 1 / 3), np.zeros((1, 2)), np.ones(1))
    shares, nearest = scene.log_shares(state.centre, state.deviations)
    assert nearest.tolist() == [0] and -2e-8 < shares[2] <= 0.0
    assert_allclose(shares[1], -5e7, rtol=1e-6)
    assert scene.kept(state.centre, state.deviations).tolist() == [True, False, True]


# --- the threshold ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [60.0, 74.0, 76.0, 90.0])
def test_nothing_happens_at_the_threshold(r):
    params = np.array([0.7, -0.4, r])
    state = ONE.start(params[:, None])
    plan = ONE.plan(state)
    assert isinstance(plan, FarPlan) == (r > 75)
    estimate = ONE.estimate(params[:, None])
    loss, rows = gradient_in_mpmath(params, step="0.008")  # exp(-2 pi^2/(76 h)) = 1e-14
    assert abs(estimate.value - loss) <= estimate.value_error < 1e-9 * loss
    for i, row in enumerate(rows):
        assert abs(mpmath.mpf(float(estimate.grad[i, 0])) - row) <= estimate.grad_error[i] + 1e-307  # bounds of 1e-400 are 0
        if i < 2:
            assert estimate.grad_error[i] < 1e-9 * abs(row)
    if r > 75:
        assert estimate.grad[2, 0] == 0.0 and estimate.grad_error[2] < 1e-290
    else:
        assert estimate.grad_error[2] < 1e-8 * abs(rows[2])
    total = estimate.bounds.total
    assert_allclose(total.grad, estimate.grad_error, rtol=1e-12)


def test_a_plan_without_far_means_ends_where_they_matter():
    state = ONE.start(np.array([[0.7], [-0.4], [80.0]]))
    plan = ONE.plan(state)
    assert isinstance(plan, FarPlan) and plan.covers(state)
    assert not plan.covers(state.moved(state.centre, np.array([[0.7], [-0.4], [60.0]])))
    assert not plan.covers(state.moved(state.centre, np.array([[30.0], [-0.4], [80.0]])))
    burst = plan.burst(state, 0.05, 40, np.inf)
    assert burst.state.deviations.shape == (3, 1)
    assert_array_equal(burst.state.coordinates[2], 80.0)


def test_beside_a_mixture_every_component_is_asked():
    """A mean far from one component and near the other stays; one far from both goes, and changes nothing that is seen."""
    teacher = op.GaussianMixture([[0.0, 0.0], [200.0, 0.0]], weights=[0.5, 0.5])
    objective = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-8))
    near = np.array([[0.5, 0.2], [201.0, -0.5]])
    far = np.array([[0.0, 1e6]])
    whole = objective.start(np.concatenate([near, far]))
    weights = np.full(3, 1 / 3)
    kept = Scene(weights, teacher.means - whole.origin, teacher.weights).kept(whole.centre, whole.deviations)
    assert kept.tolist() == [True, True, False]


def test_a_far_mean_costs_neither_nodes_nor_digits():
    rng = np.random.default_rng(3)
    near, target = rng.standard_normal((3, 4)), rng.standard_normal(4)
    for weights in (None, np.array([0.4, 0.2, 0.1, 0.3])):
        objective = op.ScoreMatching(op.Gaussian(target), weights=weights)
        alone = op.ScoreMatching(op.Gaussian(target), weights=None if weights is None else weights[:3] / weights[:3].sum())
        params = np.concatenate([near, [[1e8, 1.0, 2.0, 1e5]]])
        estimate, other = objective.estimate(params), alone.estimate(near)
        assert estimate.nodes <= 2.2 * other.nodes  # two nodes on an axis that the three alone do not have
        assert_allclose(estimate.value, other.value, rtol=1e-9)
        assert_allclose(estimate.grad[:3], other.grad, rtol=0, atol=1e-8 * np.abs(other.grad).max())
        assert (estimate.grad[3] == 0).all()
        sampled = objective.with_rule(op.Sobol(2**12, rng=0)).estimate(params)
        assert abs(sampled.value - other.value) < 6 * sampled.value_error


# --- Theorem 3.5 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1e12, 1e5, 1e3, 100.0])
@pytest.mark.parametrize("nearest", [0, 1])
def test_the_nearest_mean_converges_and_the_others_stay(distance, nearest):
    """Zhang et al. 2025, Theorem 3.5: deviations of order one, distances to the target that differ by M^(-1/3)/2."""
    gap = 0.525 * distance ** (-1 / 3)
    z = np.array([[-1.0, 0.3], [-1.0 + gap, -0.2], [0.4, 0.5]])
    if nearest == 1:
        z = z[[1, 0, 2]]
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    start = op.init.around([distance, 0.0], z)
    value, grad = objective.value_and_grad(start)
    mean = start.params[nearest]
    if distance > 200:
        assert_allclose(grad[nearest], 2 * mean, rtol=1e-9)
        assert_allclose(value, (mean**2).sum(), rtol=1e-9)
    run = op.gradient_descent(objective, start, step_size=0.05, steps=2000, record=op.every(1),
                              stop=lambda record: np.linalg.norm(record.params[nearest]) < 1e-3)
    assert run.status == "converged"
    others = [i for i in range(3) if i != nearest]
    moved = np.abs(np.asarray(run.params)[:, others] - start.params[others]).max()
    # at 100 the next mean still has a share of the weight before the first step (gap times distance is 11)
    assert moved < (0.01 if distance == 100 else 4 * np.spacing(distance))
    assert_allclose(np.linalg.norm(run.params[-1][nearest]), np.linalg.norm(run.params[1][nearest]) * 0.9 ** (run.steps[-1] - 1), rtol=1e-6)
    final = objective.grad(run.final_state)
    assert (final[others] == 0).all()
    regime = op.regimes.classify(run)
    if distance > 200:
        assert regime.name in ("one converges", "undecided")


@pytest.mark.parametrize("case", ["far", "without weight"])
def test_flow_of_some_means_beside_others_that_stand_still(case):
    """Gradient flow is the limit of small steps for them, too."""
    weights, last = (None, 500.0) if case == "far" else ([0.5, 0.5, 0.0], 0.5)
    objective = op.ScoreMatching(op.Gaussian([0.0]), weights=weights)
    start = op.init.around([4.0], [[0.01], [-0.01], [last]])
    flow = op.gradient_flow(objective, start, t_end=0.5)
    small, large = (op.gradient_descent(objective, start, step_size=step, steps=round(0.5 / step)).final for step in (2.5e-5, 5e-5))
    assert_allclose(flow.final, 2 * small - large, rtol=0, atol=1e-7 * start.params[2, 0])  # the flow has rtol 1e-8 of a column
    assert_allclose(flow.final[2], start.params[2], rtol=1e-8)
    assert np.abs(small - flow.final).max() > 2e-5  # it can be told from a step size of 2.5e-5


def test_hessians_leave_out_what_float64_cannot_see():
    """A mean at 1e12 has no second derivatives in float64; those of the other are as if it were alone."""
    score, likelihood = op.ScoreMatching(op.Gaussian([0.0])), op.KLDivergence(op.Gaussian([0.0]))
    for obj, own in ((score, 2.0), (likelihood, 1.0)):
        for far in (1e12, -80.0):
            assert_allclose(obj.hessian([[0.3], [far]]).reshape(2, 2), [[own, 0.0], [0.0, 0.0]], rtol=1e-12)
            assert_allclose(obj.hvp([[0.3], [far]], [[1.0], [1.0]]), [[own], [0.0]], rtol=1e-12)


@pytest.mark.parametrize("kind", [op.ScoreMatching, op.KLDivergence])
def test_the_bound_on_what_a_hessian_loses_holds(kind):
    """Means that are near enough to be seen: the Hessian with them, less the one without, in the spectral norm."""
    rng = np.random.default_rng(3)
    for _ in range(12):
        n, k = int(rng.integers(2, 5)), int(rng.integers(1, 3))
        kept = np.arange(n) < n - 1
        params = rng.normal(size=(n, k))
        params[-1] += rng.uniform(2, 7)
        weights = rng.dirichlet(np.ones(n))
        rule = op.Trapezoid(90, half_width=9.0)
        whole = kind(op.Gaussian(np.zeros(k)), weights=weights, rule=rule)
        part = kind(op.Gaussian(np.zeros(k)), weights=weights[kept] / weights[kept].sum(), rule=rule)
        apart = whole.hessian(params)
        apart[np.ix_(kept, range(k), kept, range(k))] -= part.hessian(params[kept])
        scene = Scene(weights, np.zeros((1, k)), np.ones(1), whole.integrands)
        bound = scene.left_out_of_hessian(np.zeros(k), params, kept)
        assert np.abs(np.linalg.eigvalsh(apart.reshape(n * k, n * k))).max() <= bound


def test_a_hessian_between_means_far_apart():
    """At +-60 the Hessian of the pair is 1e-190 of the middle one's, which is that of a single Gaussian."""
    found = op.ScoreMatching(op.Gaussian([0.0])).hessian([[60.0], [-60.0], [0.1]]).reshape(3, 3)
    assert_allclose(found[2, 2], 2.0, rtol=1e-12)
    assert np.abs(found[:2]).max() < 1e-180


def test_params_whose_squares_overflow_are_called_that():
    with pytest.raises(ValueError, match="squares of these params overflow"):
        op.ScoreMatching(op.Gaussian([0.0, 0.0])).value(np.array([[1.0, 2.0], [0.0, -1.0]]) * 1e160)
