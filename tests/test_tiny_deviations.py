"""Deviations of 1e-200, and of e^-2000: followed exactly until they leave the small regime."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam.state import LARGEST_STORED

EPS = np.finfo(float).eps
PROFILE = np.array([[1.1], [0.2], [-1.3]])
ONE = op.ScoreMatching(op.Gaussian([0.0]))


def growth(distance, step_size, n, steps):
    """ln of the exact growth of deviations along the centre, after each of `steps` steps from the common distance."""
    distances = distance * (1 - 2 * step_size / n) ** np.arange(steps)
    return np.concatenate([[0.0], np.cumsum(np.log1p(4 * step_size * distances**2 / n))])


def log_spreads(run):
    return np.array([state.log_spread for state in run.states])


# --- 1e-200 against 300 digits ----------------------------------------------------------------------------------------


def descend_in_mpmath(centre, deviations, step_size, steps):
    """Gradient descent on absolute parameters in 300 digits: the pathwise gradient by a trapezoid rule of 35 nodes.

    The integrands are a normal density times what is a polynomial to relative 1e-200, so the rule of step h errs by about
    exp(-2 pi^2/h^2) = 1e-17 at h = 0.7.
    """
    with mpmath.workdps(300):
        h = mpmath.mpf("0.7")
        nodes = [h * k for k in range(-17, 18)]
        weights = [h * mpmath.npdf(x) for x in nodes]
        means = [mpmath.mpf(centre) + mpmath.mpf(delta) for delta in deviations]
        for _ in range(steps):
            grad = [mpmath.mpf(0)] * len(means)
            for x, q in zip(nodes, weights, strict=True):
                terms = [mpmath.exp(x * mean - mean**2 / 2) for mean in means]
                total = mpmath.fsum(terms)
                w = [term / total for term in terms]
                v = mpmath.fsum(a * b for a, b in zip(w, means, strict=True))
                grad = [g + 2 * q * a * (v + (mean - v) * v * (x - mean)) for g, a, mean in zip(grad, w, means, strict=True)]
            means = [mean - mpmath.mpf(step_size) * g for mean, g in zip(means, grad, strict=True)]
        middle = mpmath.fsum(means) / len(means)
        return float(middle), [float(mean - middle) for mean in means]


def test_1e_200_against_300_digits():
    deviations = 1e-200 * np.array([1.0, 0.35, -0.8])
    start = op.State([2.1], deviations[:, None])
    run = op.gradient_descent(ONE, start, step_size=0.01, steps=100)
    middle, exact = descend_in_mpmath(2.1, deviations.tolist(), 0.01, 100)
    found = run.final_state
    own = found.deviations[:, 0] - found.deviations.mean()
    assert_allclose(own, exact, rtol=1e-10)
    assert_allclose(found.centre[0], middle, rtol=1e-13)


def test_the_passages_between_deviations_and_absolute_parameters_are_smooth():
    """From 1e-300 to a spread of one and on to the target: where the plan begins to see the state from the target, and where it comes back
    to centre and deviations, runs that start afresh from the state or from its parameters take the same steps."""
    step_size, records = 0.001, op.every(200)
    run = op.gradient_descent(ONE, op.State([29.3], 1e-300 * PROFILE), step_size=step_size, steps=40_000, record=records)
    assert run.status == "completed" and max(state.spread for state in run.states) > 1.0  # e^691 times that of the start
    absolute = run.centres[:, 0] == 0
    passages = np.flatnonzero(np.diff(absolute.astype(int)))
    assert len(passages) >= 1 and not absolute[0] and absolute[passages[0] + 1]
    for record in np.unique(np.concatenate([passages + shift for shift in (-2, -1, 0, 1, 2)])):
        again = op.gradient_descent(ONE, run.states[record], step_size=step_size, steps=200, record=records)
        assert_allclose(again.final, run.params[record + 1], rtol=1e-9)
        plain = op.gradient_descent(ONE, run.params[record], step_size=step_size, steps=200, record=records)
        assert_allclose(plain.final, run.params[record + 1], rtol=1e-9)
        assert_allclose(run.loss[record], ONE.value(run.params[record]), rtol=1e-9)
        assert_allclose(again.loss, run.loss[record:record + 2], rtol=1e-9)


# --- below float64's range -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beyond", "name"), [(0.5, "all converge"), (20.0, "one converges")])
def test_border_of_the_small_regime_far_out(beyond, name):
    """From distance 30 deviations grow by e^718 at this step size; the border lies about e^3 above the inverse of that growth."""
    step_size, steps = 0.001, 40_000
    total = growth(30.0, step_size, 3, steps)
    profile = PROFILE / np.sqrt((PROFILE**2).mean())
    start = op.init.around([30.0], profile, log_scale=beyond - total[-1])
    assert start.log_scale < 0 and start.spread < 1e-300
    run = op.gradient_descent(ONE, start, step_size=step_size, steps=steps)
    assert run.status == "completed" and run.log_scales[-1] == 0.0
    assert op.regimes.classify(run).name == name
    found = log_spreads(run)
    linear = found < -30  # relative deviations from the linear law are of the size of the spread times the distance
    assert found[linear][-1] - found[0] > 600
    assert_allclose(found[linear] - found[0], total[run.steps[linear]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("d", [2, 40])
def test_growth_does_not_depend_on_the_scale_and_transverse_deviations_are_neutral(d):
    rng = np.random.default_rng(d)
    target, along = rng.standard_normal((2, d))
    along /= np.linalg.norm(along)
    objective = op.ScoreMatching(op.Gaussian(target))
    z = rng.standard_normal((4, d))
    z -= z.mean(axis=0)
    runs = [op.gradient_descent(objective, start, step_size=0.01, steps=400, record=op.every(100))
            for start in (op.init.around(target + 4 * along, z, log_scale=-2000.0), op.init.around(target + 4 * along, 1e-200 * z))]
    for run, scale in zip(runs, (-2000.0, np.log(1e-200)), strict=True):
        ratio = []
        for state in run.states:
            deviations = state.expand_gradient(state.deviations - state.deviations.mean(axis=0))
            deviations = np.ldexp(deviations, 430) if scale == -2000.0 else deviations * 1e200
            deviations *= np.exp(state.log_scale + 430 * -np.log(2) - scale) if scale == -2000.0 else 1.0
            longitudinal = deviations @ along
            ratio.append(longitudinal / (z @ along))
            assert_allclose(deviations - np.outer(longitudinal, along), z - np.outer(z @ along, along),
                            rtol=0, atol=1e-11 * np.abs(longitudinal).max())
        expected = np.exp(growth(4.0, 0.01, 4, 400)[run.steps])
        assert_allclose(ratio, np.broadcast_to(expected[:, None], np.shape(ratio)), rtol=1e-10)
    assert runs[0].log_scales[0] < -1500 and not runs[1].log_scales.any()
    assert_allclose(np.diff(log_spreads(runs[0])), np.diff(log_spreads(runs[1])), rtol=0, atol=2e-12)  # 2000 eps, and some
    assert_allclose(runs[0].loss, runs[1].loss, rtol=1e-13)


def test_beside_a_mixture_the_scale_does_not_matter_either():
    """Deviation rows are homogeneous: relative to the deviations they are those of 1e-100."""
    objective = op.ScoreMatching(op.GaussianMixture([[0.0, 0.0], [3.0, 1.0]], weights=[0.6, 0.4]), rule=op.Auto(tol=1e-8))
    z = np.random.default_rng(1).standard_normal((3, 2))
    z -= z.mean(axis=0)
    tiny, small = (op.gradient_descent(objective, start, step_size=0.02, steps=20, record=op.every(10))
                   for start in (op.init.around([5.0, 2.0], z, log_scale=-5000.0), op.init.around([5.0, 2.0], 1e-100 * z)))
    for one, two in zip(tiny.states, small.states, strict=True):
        assert_allclose(one.centre, two.centre, rtol=1e-12)
        ratio = np.linalg.norm(one.deviations) / np.linalg.norm(two.deviations)
        assert_allclose(one.deviations, ratio * two.deviations, rtol=0, atol=1e-11 * np.abs(one.deviations).max())
    assert_allclose(np.diff(log_spreads(tiny)), np.diff(log_spreads(small)), rtol=0, atol=1e-10)


def test_loss_and_gradient_are_those_at_the_centre():
    centre, z = np.array([1.5, -2.0, 0.5]), np.random.default_rng(0).standard_normal((4, 3))
    start = op.init.around(centre, z, log_scale=-3000.0)
    for weights in (None, [0.4, 0.3, 0.2, 0.1]):
        objective = op.ScoreMatching(op.Gaussian(np.ones(3)), weights=weights)
        value, grad = objective.value_and_grad(start)
        assert_allclose(value, ((centre - 1) ** 2).sum(), rtol=1e-13)
        pi = np.full(4, 0.25) if weights is None else np.array(weights)
        assert_allclose(grad, 2 * pi[:, None] * (centre - 1), rtol=1e-12)  # at a common point
        estimate = objective.estimate(start)
        assert estimate.value_error < 1e-8 * value and (estimate.grad_error < 1e-8 * np.linalg.norm(grad, axis=1)).all()


def test_on_the_target_nothing_moves():
    start = op.init.around([1.0, 2.0], [[1.0, 0.5], [-1.0, 0.25]], log_scale=-1000.0)
    objective = op.ScoreMatching(op.Gaussian([1.0, 2.0]))
    run = op.gradient_descent(objective, start, step_size=0.1, steps=50)
    assert run.status == "completed"
    assert (run.loss < 1e-280).all() and (run.grad_norm < 1e-140).all()  # rounding of stored deviations of 1e-130
    assert_allclose(log_spreads(run), start.log_spread, rtol=1e-15)
    wide = op.ScoreMatching(op.Gaussian(np.arange(30.0)))  # here a basis is found, which must not put a deviation into the centre
    found = wide.start(op.init.around(np.arange(30.0), np.random.default_rng(0).standard_normal((3, 30)), log_scale=-1000.0))
    assert_array_equal(found.centre, 0.0)
    assert found.basis is not None and found.log_scale < -600


def test_a_run_that_approaches_the_target_ends_calmly():
    """Deviations that stay far below everything: the centre falls by its own law, as far as float64 goes."""
    run = op.gradient_descent(ONE, op.init.around([3.0], PROFILE, log_scale=-2000.0), step_size=0.1, steps=5000)
    assert run.status == "completed"
    total = growth(3.0, 0.1, 3, 5000)
    assert_allclose(log_spreads(run) - log_spreads(run)[0], total[run.steps], rtol=0, atol=1e-9)
    seen = run.loss > 1e-250
    assert_allclose(run.loss[seen], 9 * (1 - 0.2 / 3) ** (2.0 * run.steps[seen]), rtol=1e-9)


def test_stored_deviations_stay_small():
    run = op.gradient_descent(ONE, op.init.around([30.0], PROFILE, log_scale=-2500.0), step_size=0.002, steps=2000, record=op.every(1))
    scaled = run.log_scales < 0
    assert scaled.all() and len(np.unique(run.log_scales)) > 5  # it was renormalised several times
    assert np.abs(run.deviations).max() <= LARGEST_STORED
    assert_allclose(log_spreads(run) - log_spreads(run)[0], growth(30.0, 0.002, 3, 2000), rtol=0, atol=1e-9)


class Quadratic(op.Objective):
    def value_and_grad(self, params):
        return float((np.asarray(params) ** 2).sum()), 2 * np.asarray(params)


@pytest.mark.parametrize(("objective", "match"), [
    (Quadratic(), r"params0 has deviations below float64's range \(log_spread -1999\.12.*a Quadratic is evaluated"),
    (op.ScoreMatching(op.Gaussian([0.0]), weights=[0.5, 0.3, 0.2]), "only equal weights can follow"),
])
def test_where_such_deviations_cannot_be_followed(objective, match):
    start = op.init.around([3.0], PROFILE, log_scale=-2000.0)
    with pytest.raises(ValueError, match=match):
        op.gradient_descent(objective, start, step_size=0.1, steps=10)
    with pytest.raises(ValueError, match=match):
        op.gradient_descent(objective, [start, start], step_size=0.1, steps=10)


def test_sgd_says_that_it_cannot():
    with pytest.raises(ValueError, match=r"op\.sgd, that moves absolute parameters"):
        op.sgd(ONE, op.init.around([3.0], PROFILE, log_scale=-2000.0), step_size=0.1, steps=10, batch_size=10)


def test_a_run_is_saved_extended_and_verified(tmp_path):
    start = op.init.around([25.0], PROFILE, log_scale=-700.0)
    whole = op.gradient_descent(ONE, start, step_size=0.005, steps=1500, record=op.every(100))
    part = op.gradient_descent(ONE, start, step_size=0.005, steps=500, record=op.every(100))
    part.save(tmp_path / "part.nc")
    again = op.load(tmp_path / "part.nc")
    assert_array_equal(again.log_scales, part.log_scales)
    assert again.states[3].log_scale == part.states[3].log_scale == part.log_scales[3] < 0
    longer = again.extend(steps=1000)
    assert_array_equal(longer.steps, whole.steps)
    assert_allclose(log_spreads(longer), log_spreads(whole), rtol=0, atol=1e-10)
    assert (longer.log_scales[:3] < 0).all() and longer.log_scales[-1] == 0 == whole.log_scales[-1]
    data = part.to_xarray()
    assert data["log_scale"].dims == ("record",)
    assert_array_equal(data["log_scale"], part.log_scales)
    assert_allclose(op.regimes.distances(part), np.abs(part.centres) + 0 * part.deviations[:, :, 0], rtol=1e-14)
    found = op.verify(part)
    assert found.status == "completed" and found.params_difference.max() < 1e-10


@pytest.mark.parametrize("scale", [1e-140, 1e-160, 1e-200, 1e-290])
def test_plans_of_small_deviations_do_not_depend_on_their_size(scale):
    """Beside a mixture deviation rows ask for more nodes than their mean: also where their squares underflow."""
    objective = op.ScoreMatching(op.GaussianMixture([[0.0], [3.0]], weights=[0.6, 0.4]), rule=op.Auto(tol=1e-6))
    z = np.array([[1.0], [0.25], [-1.25]])

    def found(factor, obj):
        state = obj.start(op.State([5.0], factor * z))
        plan = obj.plan(state)
        return plan.nodes, plan.evaluate(state).grad / factor

    nodes, rows = found(scale, objective)
    assert nodes == found(1e-100, objective)[0]
    assert_allclose(rows, found(1e-100, objective.with_rule(op.Auto(tol=1e-13)))[1], rtol=0, atol=1e-6 * np.abs(rows).max())


@pytest.mark.parametrize("scale", [2.0**-200, 2.0**-332, 2.0**-432, 2.0**-664])  # their mean stays exactly 0
def test_around_the_target_cubes_may_leave_float64(scale):
    """Rows of the size of the deviations' cubes, and losses of their fourth power: 0 where float64 has no number for them."""
    deviations = np.array([[1.0, 0.5], [-1.0, 0.25], [0.0, -0.75]])
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    run = op.gradient_descent(objective, op.init.around([0.0, 0.0], scale * deviations), step_size=0.1, steps=20)
    assert run.status == "completed"
    assert_allclose(run.final_state.deviations, scale * deviations, rtol=0, atol=1e-13 * scale)
    S = deviations.T @ deviations / 3
    assert_allclose(run.loss[0], scale**2 * scale**2 * np.trace(S @ S), rtol=1e-6, atol=1e-300)
