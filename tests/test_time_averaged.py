"""Score matching over many noise times: against single times, a NumPy twin on fixed nodes, differences; its plans, runs and files."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam._core import descent
from overparam._core.weighted_sum import WeightedSum
from overparam.objectives import BUILT_IN, TimeAveraged, from_description
from overparam.objectives.averaged_plan import AveragedPlan
from overparam.objectives.bursts import driven
from overparam.objectives.time_averaged import time_quadrature

TEACHER = op.Gaussian([0.3, 0.1, -0.2])
MIXTURE = op.GaussianMixture([[-1.0], [1.2]], [0.3, 0.7])
GENERIC = np.array([[0.5, -0.2, 0.9], [-1.1, 0.7, 0.1], [0.3, 0.4, -1.5]])
TIGHT = np.array([4.0, 0.0, 0.0]) + 1e-6 * GENERIC
FAR = np.array([[0.1, 0.0, 0.0], [14.0, 0.0, 0.0], [-3.0, 1.0, 0.0]])
GONE = np.array([[0.1, 0.0, 0.0], [94.0, 0.0, 0.0], [-3.0, 1.0, 0.0]])  # at early times too far for float64 to see
NO_WEIGHT = [0.5, 0.0, 0.5]
CASES = {
    "generic": (TEACHER, GENERIC, None), "unequal": (TEACHER, GENERIC, [0.2, 0.3, 0.5]),
    "one without weight": (TEACHER, GENERIC, NO_WEIGHT), "tight": (TEACHER, TIGHT, None), "far": (TEACHER, FAR, None),
    "gone": (TEACHER, GONE, None), "mixture": (MIXTURE, GENERIC[:, :1], None),
    "half tight": (TEACHER, 0.05 * GENERIC + [3.0, 0.0, 0.0], None),
}
TIMES, LAMBDAS = [0.0, 0.3, 0.9, 1.6], [0.4, 0.0, 0.5, 0.7]
every_case = pytest.mark.parametrize(("teacher", "params", "weights"), CASES.values(), ids=CASES)


def single_times(teacher, params, weights, times=TIMES, lambdas=LAMBDAS):
    """Value and gradient from one objective for each time."""
    value, grad = 0.0, 0.0
    for t, weight in zip(times, lambdas, strict=True):
        one = op.ScoreMatching(teacher, t=t, weights=weights, rule=op.Auto(tol=1e-13))
        found = one.value_and_grad(np.exp(-t) * params)
        value, grad = value + weight * found[0], grad + weight * np.exp(-t) * found[1]
    return value, grad


def twin(params, weights, times, lambdas, order=60):
    """Loss and gradient against N(0, I) by Gauss–Hermite with fixed nodes, written from the definition."""
    n, d = params.shape
    x, q = np.polynomial.hermite_e.hermegauss(order)
    q = q / q.sum()
    mesh = np.stack(np.meshgrid(*[x] * d, indexing="ij"), axis=-1).reshape(-1, d)
    share = q
    for _ in range(d - 1):
        share = np.multiply.outer(share, q)
    share = share.ravel()
    value, grad = 0.0, np.zeros((n, d))
    for t, weight in zip(times, lambdas, strict=True):
        means = np.exp(-t) * params
        logits = mesh @ means.T - (means**2).sum(axis=1) / 2 + np.log(weights)
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        v = w @ means
        value += weight * share @ (v**2).sum(axis=1)
        for i in range(n):
            arm = ((means[i] - v) * v).sum(axis=1)
            rows = w[:, i, None] * (v + arm[:, None] * (mesh - means[i]))
            grad[i] += 2 * weight * np.exp(-t) * share @ rows
    return value, grad


@every_case
def test_is_the_sum_of_its_times_within_bounds_and_tolerance(teacher, params, weights):
    for tol in (1e-5, 1e-9):
        obj = op.TimeAveraged(teacher, TIMES, LAMBDAS, weights=weights, rule=op.Auto(tol=tol))
        value, grad = single_times(teacher, params, weights)
        found = obj.estimate(params)
        sizes = np.linalg.norm(grad, axis=1)
        apart = np.linalg.norm(found.grad - grad, axis=1)
        level = 3e-13  # of the single times' own tolerance
        assert abs(found.value - value) <= found.value_error + level * value
        assert (apart <= found.grad_error + level * sizes).all()
        known = found.bounds.discretisation + found.bounds.truncation
        assert known.value <= tol * value
        # a mean so far that its own rows are below the rounding of the sum's logits is held to that level alone
        assert (known.grad <= 1.2 * tol * sizes + found.bounds.rounding.grad).all()
        assert found.reliable
        assert_allclose(obj.value(params), value, rtol=tol)


def test_is_its_twin_on_fixed_nodes():
    params, weights = 0.7 * GENERIC[:, :2], np.array([0.2, 0.5, 0.3])
    value, grad = twin(params, weights, TIMES, LAMBDAS)
    obj = op.TimeAveraged(op.Gaussian([0.0, 0.0]), TIMES, LAMBDAS, weights=weights)
    found, rows = obj.value_and_grad(params)
    assert_allclose(found, value, rtol=1e-9)
    assert_allclose(rows, grad, rtol=0, atol=1e-9 * np.abs(grad).max())


@pytest.mark.parametrize("rule", [op.Auto(tol=1e-11), op.GaussHermite(40), op.Sobol(2**8, rng=1)], ids=["auto", "hermite", "sobol"])
def test_gradient_is_that_of_the_value(rule):
    obj, params = op.TimeAveraged(MIXTURE, TIMES, LAMBDAS, rule=rule), GENERIC[:, :1]
    grad, step = obj.grad(params), 1e-3
    for i in range(3):
        unit = np.zeros_like(params)
        unit[i] = step
        near, far = (obj.value(params + m * unit) - obj.value(params - m * unit) for m in (1, 2))
        # the value's tolerance over the step; truncation, of fourth order, is below 1e-11
        assert_allclose((8 * near - far) / (12 * step), grad[i, 0], rtol=0, atol=2e-8)


@pytest.mark.parametrize("weights", [None, NO_WEIGHT])
def test_hessian_is_the_derivative_of_the_gradient(weights):
    obj = op.TimeAveraged(TEACHER, TIMES, LAMBDAS, weights=weights, rule=op.Auto(tol=1e-11))
    direction = np.random.default_rng(0).standard_normal(GENERIC.shape)
    product, step = obj.hvp(GENERIC, direction), 1e-3
    near, far = (obj.grad(GENERIC + m * step * direction) - obj.grad(GENERIC - m * step * direction) for m in (1, 2))
    assert_allclose(product, (8 * near - far) / (12 * step), rtol=0, atol=2e-7)
    assert_allclose(np.einsum("iajb,jb->ia", obj.hessian(GENERIC), direction), product, rtol=0, atol=1e-10)
    outside = op.TimeAveraged(op.Gaussian(np.zeros(6)), TIMES, LAMBDAS)  # more dimensions than means: blocks beyond the span
    params = np.pad(GENERIC[:2], ((0, 0), (0, 3)))
    whole = outside.hessian(params)
    direction = np.random.default_rng(1).standard_normal(params.shape)
    assert_allclose(np.einsum("iajb,jb->ia", whole, direction), outside.hvp(params, direction), rtol=0, atol=1e-10)
    near, far = (outside.grad(params + m * step * direction) - outside.grad(params - m * step * direction) for m in (1, 2))
    assert_allclose(outside.hvp(params, direction), (8 * near - far) / (12 * step), rtol=0, atol=1e-6)


def test_small_terms_need_not_be_accurate_relative_to_themselves():
    far = np.array([[0.0], [30.0]])  # at time 0 the far row is 1e-48 of what it is later
    early = op.TimeAveraged(op.Gaussian([0.0]), [0.0, 3.0], [1.0, 1.0], rule=op.Auto(tol=1e-8))
    plan = early.plan(early.start(far))
    alone = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    assert plan._plans[0].nodes < 0.5 * alone.plan(alone.start(far)).nodes
    value, grad = single_times(op.Gaussian([0.0]), far, None, [0.0, 3.0], [1.0, 1.0])
    assert_allclose(early.grad(far), grad, rtol=1e-8)
    assert_allclose(early.value(far), value, rtol=1e-8)


def test_steps_and_bursts():
    """Gradient descent is the textbook loop; compiled bursts are the Python loop under the same plan."""
    for params, weights in ((GENERIC, None), (TIGHT, None), (GENERIC, NO_WEIGHT)):
        obj = op.TimeAveraged(TEACHER, TIMES, LAMBDAS, weights=weights, rule=op.Auto(tol=1e-10))
        run = op.gradient_descent(obj, params, step_size=0.1, steps=8)
        mu = params.copy()
        for _ in range(8):
            mu = mu - 0.1 * single_times(TEACHER, mu, weights)[1]
        assert_allclose(run.final, mu, rtol=0, atol=1e-8)
    whole = op.TimeAveraged(op.Gaussian([0.1, 0.3]), TIMES, LAMBDAS)
    state = whole.start(GENERIC[:, :2])
    plan = whole.plan(state)
    assert isinstance(plan, AveragedPlan) and plan.compiled is not None
    compiled = plan.burst(state, 0.01, 3, np.inf)
    looped = driven(super(AveragedPlan, plan).moves(state, 0.01, 3, np.inf))
    assert compiled.steps == looped.steps == 3
    assert_allclose(compiled.state.params, looped.state.params, rtol=0, atol=1e-13)
    assert_allclose(compiled.value, looped.value, rtol=1e-12)


@pytest.mark.parametrize("params", [GENERIC, TIGHT, GONE], ids=["wide", "tight", "gone"])
def test_the_fast_gradient_is_that_of_the_records(params):
    obj = op.TimeAveraged(TEACHER, TIMES, LAMBDAS)
    state = obj.start(params)
    plan = obj.plan(state)
    settled, moving = plan.settle(state)
    found = plan.evaluate(state)
    common, rows = plan.gradient(settled, settled.centre, settled.deviations)
    assert moving == (params is TIGHT) and (plan.compiled is None) == (params is GONE)
    assert_allclose(common, found.centre_grad, rtol=0, atol=1e-13)
    assert_allclose(rows, found.grad, rtol=0, atol=1e-12 * np.abs(found.grad).max())


def test_a_flow_follows_deviations_below_the_range_of_float64():
    """All of a cluster's differences grow by M² <e^-4t> / <e^-2t> nats on the way in, whatever their size: the law of first order."""
    M, T = 5.0, 1.0
    obj = op.TimeAveraged.over(op.Gaussian([0.0]), T, nodes=4, rule=op.Auto(tol=1e-8))
    start = op.init.around([M], np.array([[1.0], [0.2], [-1.2]]), log_scale=-1000.0)
    flow = op.gradient_flow(obj, start, t_end=60.0, record=op.log_spaced(5))
    predicted = (1 + np.exp(-2 * T)) / 2 * M**2  # of the centre's whole way, of which 1e-5 is left
    assert flow.status == "completed" and flow.log_scales[-1] < 0
    assert_allclose(flow.final_state.log_spread - start.log_spread, predicted, atol=2e-3)


def test_runs_go_on_are_saved_and_verified(tmp_path):
    obj = op.TimeAveraged.over(op.Gaussian([0.5, 0.0]), 1.0, weight="1-exp(-2t)", nodes=3, rule=op.Auto(tol=1e-8))
    params = GENERIC[:, :2]
    run = op.gradient_descent(obj, params, step_size=0.1, steps=20, record=op.every(10))
    longer = op.gradient_descent(obj, params, step_size=0.1, steps=10, record=op.every(10)).extend(steps=10)
    assert_allclose(longer.final, run.final, rtol=0, atol=1e-8)
    run.save(tmp_path / "run.nc")
    loaded = op.load(tmp_path / "run.nc")
    assert isinstance(loaded.objective, TimeAveraged)
    assert_array_equal(loaded.objective.times, obj.times)
    assert loaded.extend(steps=1).status == "completed"
    assert op.verify(run).params_difference.max() < 1e-6
    batch = op.gradient_flow(obj, np.stack([params, 2 * params]), t_end=1.0, record=op.log_spaced(3))
    assert [one.status for one in batch] == ["completed"] * 2
    again = from_description(obj.describe())
    assert again.describe() == obj.describe() and repr(again) == repr(obj) and TimeAveraged in BUILT_IN


def test_minibatches_are_unbiased_and_know_their_error():
    obj = op.TimeAveraged(TEACHER, TIMES, LAMBDAS, weights=NO_WEIGHT)
    rng = np.random.default_rng(0)
    found = [obj.minibatch(GENERIC, 50, rng, errors=True) for _ in range(400)]
    value, grad = single_times(TEACHER, GENERIC, NO_WEIGHT)
    values, rows = np.array([one.value for one in found]), np.array([one.rows for one in found])
    spread = values.std(ddof=1)
    assert abs(values.mean() - value) < 4 * spread / 20  # four standard errors of the mean of 400
    assert (np.abs(rows.mean(axis=0) - grad) <= 4 * rows.std(axis=0, ddof=1) / 20 + 1e-15).all()
    assert_allclose(np.sqrt(np.mean([one.value_error**2 for one in found])), spread, rtol=0.15)  # spread is known to 3.5 %
    assert op.sgd(obj, GENERIC, step_size=0.05, steps=5, batch_size=20, rng=0).status == "completed"


def test_sampled_rules_carry_standard_errors():
    obj = op.TimeAveraged(TEACHER, TIMES, LAMBDAS, rule=op.Sobol(2**12, rng=3))
    value, grad = single_times(TEACHER, GENERIC, None)
    found = obj.estimate(GENERIC)
    assert found.replicates == 16 and found.bounds is None and found.reliable and found.nodes == 3 * 2**12
    assert abs(found.value - value) < 5 * found.value_error
    assert (np.linalg.norm(found.grad - grad, axis=1) < 5 * found.grad_error).all()
    hard = op.TimeAveraged(TEACHER, TIMES, LAMBDAS, rule=op.Auto(tol=1e-10, max_nodes=30))
    with pytest.raises(op.TooHardError, match="max_nodes=30"):
        hard.value(GENERIC)
    assert "Sobol" in hard.estimate(GENERIC).rule


def test_the_student_at_a_time():
    obj, x = op.TimeAveraged(TEACHER, TIMES, LAMBDAS), np.array([[0.1, 0.2, -0.3], [2.0, 0.0, 1.0]])
    one = obj.at_time(0.9)
    assert_allclose(obj.score(x, GENERIC, t=0.9), one.score(x, np.exp(-0.9) * GENERIC), rtol=1e-13)
    assert_allclose(obj.responsibilities(x, GENERIC), op.ScoreMatching(TEACHER).responsibilities(x, GENERIC), rtol=1e-13)


@pytest.mark.parametrize(("weight", "mean"), [
    ("uniform", lambda T: (1 - np.exp(-2 * T)) / (2 * T)), ("exp(2t)", lambda T: 2 * T / np.expm1(2 * T)),
    (lambda t: t, lambda T: (1 - np.exp(-2 * T) * (1 + 2 * T)) / (2 * T**2))])
def test_time_quadrature_means(weight, mean):
    t, weights = time_quadrature(2.5, weight, 24)
    assert_allclose(weights @ np.exp(-2 * t), mean(2.5), rtol=1e-13)
    assert_allclose(weights.sum(), 1, rtol=1e-14)
    assert time_quadrature(0.0)[0].tolist() == [0.0]


def test_weights_of_one_time_at_a_time():
    for weight in (math.exp, lambda t: math.exp(t), lambda t: float(np.exp(t)) if t < 9 else 0.0):
        assert_allclose(time_quadrature(2.5, weight, 8)[1], time_quadrature(2.5, np.exp, 8)[1], rtol=1e-14)
    assert_array_equal(time_quadrature(2.5, lambda t: 3, 8)[1], time_quadrature(2.5, "uniform", 8)[1])


@pytest.mark.parametrize("factor", [1e-100, 1e99])
def test_the_scale_of_time_weights_is_that_of_the_loss(factor):
    plain, scaled = (op.TimeAveraged(TEACHER, TIMES, np.multiply(LAMBDAS, one)) for one in (1.0, factor))
    one, other = plain.estimate(GENERIC), scaled.estimate(GENERIC)
    assert_allclose([other.value, other.value_error], np.multiply(factor, [one.value, one.value_error]), rtol=1e-9)
    assert_allclose(other.grad, factor * one.grad, rtol=0, atol=1e-9 * factor)


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(times=[-1.0], time_weights=[1.0]), "times must be numbers from 0"), (dict(times=[0.0, 1.0], time_weights=[1.0]), "1 entries"),
    (dict(times=[0.0], time_weights=[0.0]), "not all 0"), (dict(times=[0.0], time_weights=[-1.0]), "not below 0"),
    (dict(times=[0.0, 1.0], time_weights=[1e308, 1e308]), r"time_weights must sum to a number from 1e-100 to 1e\+100.*sum to inf"),
    (dict(times=[0.0, 1.0], time_weights=[1e-320, 0.0]), r"time_weights must sum to a number from 1e-100 .*sum to .*e-321"),
    (dict(times=[0.0], time_weights=[1.0], rule=3), "rule must be"), (dict(times=0.0, time_weights=[1.0]), "times"),
])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        op.TimeAveraged(TEACHER, **arguments)


def test_more_bad_arguments():
    with pytest.raises(ValueError, match="teacher must be"):
        op.TimeAveraged(op.DataSet([[0.0], [1.0]]), [0.1], [1.0])
    with pytest.raises(ValueError, match="weight must be a function"):
        op.TimeAveraged.over(TEACHER, 1.0, weight=lambda t: -t)
    for weight in (lambda t: "x", lambda t: None, lambda t: [1.0, 2.0], lambda t: 1j, lambda: 1.0, lambda t: "x" + t):
        with pytest.raises(ValueError, match=r"weight must be a function of a .* array of times, or of one"):
            op.TimeAveraged.over(TEACHER, 1.0, weight=weight)
    with pytest.raises(ValueError, match="weight"):
        op.TimeAveraged.over(TEACHER, 1.0, weight=lambda t: math.inf)
    with pytest.raises(ValueError, match="uniform"):
        op.TimeAveraged.over(TEACHER, 1.0, weight="unifrom")
    with pytest.raises(ValueError, match="params"):
        op.TimeAveraged(TEACHER, TIMES, LAMBDAS).value([[0.0]])


class TestWeightedSum:
    """The compiled sum alone: turned parts, forms, shapes."""

    def setup_method(self):
        self.parts = []
        for t in (0.2, 1.1):
            one = op.ScoreMatching(op.Gaussian(np.zeros(2)), rule=op.Auto(tol=1e-9))
            self.parts.append(one.plan(one.start(np.exp(-t) * GENERIC[:, :2])))
        angle = 0.7
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self.turns = np.ascontiguousarray([np.eye(2), turn])
        self.scales, self.weights = np.array([0.9, 0.3]), np.array([0.5, 2.0])
        self.capsules = [plan.compiled[0] for plan in self.parts]

    def test_is_the_sum(self):
        total = WeightedSum(self.capsules, self.turns, self.scales, self.weights)
        centre, deviations = np.array([0.3, -0.2]), np.ascontiguousarray(GENERIC[:, :2])
        for form in (0, 1, 2):
            mean, rows = np.zeros(2), np.zeros((3, 2))
            wanted_mean, wanted_rows, wanted = np.zeros(2), np.zeros((3, 2)), 0.0
            for capsule, turn, scale, weight in zip(self.capsules, self.turns, self.scales, self.weights, strict=True):
                one_mean, one_rows = np.zeros(2), np.zeros((3, 2))
                wanted += weight * descent.evaluate(capsule, scale * (centre @ turn), scale * (deviations @ turn), form, one_mean, one_rows)
                wanted_mean, wanted_rows = wanted_mean + weight * scale * turn @ one_mean, wanted_rows + weight * scale * one_rows @ turn.T
            for value in (total.evaluate(centre, deviations, form, mean, rows),
                          descent.evaluate(total.capsule, centre, deviations, form, mean, rows)):
                assert_allclose(value, wanted, rtol=1e-13)
                assert_allclose(mean, wanted_mean, rtol=0, atol=1e-13)
                assert_allclose(rows, wanted_rows, rtol=0, atol=1e-13)

    def test_capsules_stay_alive(self):
        capsule = WeightedSum(self.capsules, self.turns, self.scales, self.weights).capsule
        self.capsules, self.parts = None, None
        assert np.isfinite(descent.evaluate(capsule, np.zeros(2), np.ones((3, 2)), 1, np.empty(2), np.empty((3, 2))))

    def test_wrong_shapes(self):
        for turns, scales in ((self.turns[:1], self.scales), (self.turns, self.scales[:1]), (np.ones((2, 3, 3)), self.scales)):
            with pytest.raises(ValueError, match=r"must have|must all have"):
                WeightedSum(self.capsules, turns, scales, self.weights)
        total = WeightedSum(self.capsules, self.turns, self.scales, self.weights)
        for centre, deviations, form in ((np.zeros(3), np.zeros((3, 2)), 0), (np.zeros(2), np.zeros((2, 2)), 0),
                                         (np.zeros(2), np.zeros((3, 2)), 3), (np.zeros(2), np.zeros((3, 2)), 1)):
            with pytest.raises(ValueError, match=r"must|needed"):
                total.evaluate(centre, deviations, form, None, None)
