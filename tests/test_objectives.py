"""The contract of every objective: kernel = twin, gradient = difference quotient, symmetries, closed forms, any sensible input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import oracles
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import special_ortho_group

import overparam as op
from overparam import _reference
from overparam.objectives.quadrature_plan import Measure

TOL = 1e-10
EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Case:
    """One objective and a point at which it is looked at; `make(teacher arguments, rule)` rebuilds it elsewhere in space."""

    name: str
    means: Any
    params: Any
    teacher_weights: Any = None
    weights: Any = None
    rule: op.Rule = field(default_factory=lambda: op.Auto(tol=TOL))
    objective: type = op.ScoreMatching

    def make(self, means=None, weights=None, rule=None):
        means = np.array(self.means if means is None else means, dtype=float)
        single = len(means) == 1 and self.teacher_weights is None
        teacher = op.Gaussian(means[0]) if single else op.GaussianMixture(means, self.teacher_weights)
        return self.objective(teacher, weights=self.weights if weights is None else weights, rule=self.rule if rule is None else rule)

    def point(self):
        return np.array(self.params, dtype=float)

    @property
    def exact(self):
        """Whether the rule promises a tolerance."""
        return isinstance(self.rule, op.Auto)


THREE = [[0.9, -0.4], [-0.7, 0.8], [1.6, 0.3]]
FIVE = [[2.0, 0.1, 0.0], [-1.0, 0.4, 0.3], [0.2, -0.6, 0.1], [0.5, 0.5, -0.2], [-0.3, 0.0, 0.4]]
LINE = [[1.3, 0.0, 0.5], [1.1, 0.2, 0.5]]
OBJECTIVES = [
    Case("one parameter", [[0.5, -1.0]], [[2.0, 1.0]]),
    Case("two parameters", [[0.5]], [[2.0], [-0.5]]),
    Case("two parameters in 3-D", [[0.0, 0.3, 1.0]], LINE),
    Case("five parameters", [[0.1, 0.2, -0.3]], FIVE, rule=op.Auto(tol=1e-8)),
    Case("unequal weights", [[0.2, 0.0]], THREE, weights=[0.7, 0.2, 0.1]),
    Case("mixture of one", [[0.2, 0.0]], THREE, teacher_weights=[1.0]),
    Case("mixture of two", [[-1.0, 0.0], [1.2, 0.5]], THREE),
    Case("mixture of three", [[-2.0], [0.3], [1.5]], [[1.0], [-1.0], [0.2], [2.5]],
         teacher_weights=[0.5, 0.2, 0.3], weights=[0.4, 0.3, 0.2, 0.1]),
    Case("tight and far", [[0.0, 0.0]], [[4.0 + 1e-5, 0.0], [4.0, 2e-5], [4.0, -1e-5]]),
    Case("Gauss-Hermite", [[0.2, 0.0]], THREE, rule=op.GaussHermite((120, 90))),
    Case("Gauss-Hermite, mixture", [[-1.0, 0.0], [1.2, 0.5]], THREE, rule=op.GaussHermite((60, 50))),
    Case("trapezoid", [[0.2, 0.0]], THREE, rule=op.Trapezoid((80, 70))),
    Case("Sobol", [[0.2, 0.0]], THREE, rule=op.Sobol(2**12, rng=1)),
    Case("stratified, mixture", [[-2.0], [0.3]], [[1.0], [-1.0]], rule=op.Stratified(2**12, rng=1)),
    Case("Monte Carlo", [[0.2, 0.0]], THREE, rule=op.MonteCarlo(2**12, rng=1)),
]
OBJECTIVES += [replace(case, name=f"{name}, {case.name}", objective=objective) for case in OBJECTIVES
               for name, objective in (("KL", op.KLDivergence), ("reverse", op.ReverseFisher))]
SAMPLED = (op.Sobol, op.MonteCarlo, op.Stratified)
every_case = pytest.mark.parametrize("case", OBJECTIVES, ids=lambda case: case.name)


def relative(found, wanted):
    """Largest error of a row relative to the largest row."""
    return np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max()


def _by_one_rule(plan, state):
    """Value and rows (in the plan's frame) over all of a plan's nodes at once, whatever its replicates."""
    centre, deviations = plan.enter(state)
    mean, rows = np.empty(len(centre)), np.empty(deviations.shape)
    return plan._evaluator.evaluate(centre, deviations, 1, mean, rows), rows


@every_case
def test_kernel_is_its_twin_on_the_same_nodes(case):
    obj, params = case.make(), case.point()
    state = obj.start(params)
    plan = obj._plan_with(state, obj.rule, roomy=False)
    frame = plan._frame
    if case.objective is op.ReverseFisher:
        nodes, weights = plan._layout.grids[0].points()
        value, grad = _reference.reverse_fisher(nodes, weights / weights.sum(), frame.params, np.log(frame.weights), frame.means,
                                                np.log(frame.teacher_weights))
        found, rows = _by_one_rule(plan, state)
        assert_allclose(found, value, rtol=1e-12)
        assert relative(rows, grad) < 1e-12
        return
    measure = Measure.of(plan._layout, frame)
    nodes, weights = measure.nodes, measure.weights
    if measure.grid is not None:
        nodes, weights = measure.grid.points()
        nodes = nodes + measure.target
    if case.objective is op.KLDivergence:
        logs = -((nodes - measure.target) ** 2).sum(axis=1) / 2 if measure.log_teacher is None else measure.log_teacher
        value, grad, _ = _reference.likelihood(nodes, weights, measure.target, logs, frame.params, np.log(frame.weights))
    else:
        value, grad = _reference.score_matching(nodes, weights, measure.target, frame.params, np.log(frame.weights))
    found, rows = obj.value_and_grad(params)
    # two orders of summing some 1e4 terms; the tight case's rows are seen by the twin in absolute coordinates
    assert_allclose(found, value, rtol=1e-12)
    assert relative(rows, state.expand_gradient(grad @ plan._axes.T)) < 1e-12


BY_QUOTIENTS = [case for case in OBJECTIVES if not (case.objective is op.ReverseFisher and isinstance(case.rule, SAMPLED))]


@pytest.mark.parametrize("case", BY_QUOTIENTS, ids=lambda case: case.name)
def test_gradient_is_the_difference_quotient_of_the_value(case):
    """Of a fixed set of nodes for sampled rules (the frame turns with the parameters); of the loss itself for grids.

    The likelihood's rows are those after Stein's identity, equal in expectation: a grid may miss them by its own bound, and of sampled
    nodes the derivative of the value is the form before it. So are those of the reverse divergence, where the form before it is not
    known in the library: grids only.
    """
    params = case.point()
    # the reverse divergence asks for n times the nodes: less is asked of it, and counted below
    obj = case.make(rule=op.Auto(tol=1e-10 if case.objective is op.ReverseFisher else 1e-13)) if case.exact else case.make()
    sampled = isinstance(obj.rule, SAMPLED)
    if sampled:
        plan = obj.plan(obj.start(params))

        def value(at):
            return plan.evaluate(obj.start(at)).value
    else:
        value = obj.value
    grad, missed = obj.grad(params), np.zeros(len(params))
    if case.objective is not op.ScoreMatching and not sampled:
        missed = obj.estimate(params).grad_error
    elif case.objective is op.KLDivergence:
        measure, frame, state = Measure.of(plan._layout, plan._frame), plan._frame, obj.start(params)
        w = _reference.softmax_weights(measure.nodes, frame.params, np.log(frame.weights))
        before = -np.einsum("b,bi,bik->ik", measure.weights, w, measure.nodes[:, None] - frame.params)
        grad = state.expand_gradient(before @ plan._axes.T)
    step = 1e-3
    if case.objective is op.ReverseFisher:
        missed = missed + obj.estimate(params).value_error * 2 / step
    for i, k in np.ndindex(params.shape):
        bump = np.zeros_like(params)
        bump[i, k] = step
        quotient = 0.0
        for shift, factor in ((1, 3 / 4), (2, -3 / 20), (3, 1 / 60)):
            quotient += factor * (value(params + shift * bump) - value(params - shift * bump)) / step
        # sixth order: step^6 f^(7)/140 is below 1e-14 here; the values' rounding is amplified by 2/step
        assert abs(quotient - grad[i, k]) < 1e-13 * 2 / step * (1 + value(params)) + missed[i], (i, k)


@every_case
def test_value_and_grad_are_the_separate_calls(case):
    obj, params = case.make(), case.point()
    value, grad = obj.value_and_grad(params)
    assert obj.value(params) == value
    assert_array_equal(obj.grad(params), grad)
    found = obj.estimate(params)
    assert found.value == value and found.reliable and found.nodes > 0
    assert_array_equal(found.grad, grad)
    assert isinstance(value, float) and grad.shape == params.shape and grad.dtype == np.float64
    assert found.grad_error.shape == (len(params),)


@every_case
def test_permutation(case):
    params = case.point()
    order = np.random.default_rng(0).permutation(len(params))
    weights = None if case.weights is None else np.array(case.weights)[order]
    value, grad = case.make().value_and_grad(params)
    other, permuted = case.make(weights=weights).value_and_grad(params[order])
    # the frame's signs may depend on the order: an even rule does not notice, a sampled one sees mirrored points
    slack = 1e-11 if case.exact or isinstance(case.rule, (op.GaussHermite, op.Trapezoid)) else 0.2
    assert_allclose(other, value, rtol=slack)
    assert relative(permuted, grad[order]) < slack * 10


EXACT = [case for case in OBJECTIVES if case.exact]


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_rotation_and_translation(case):
    """L(R mu + a; R mu* + a) = L(mu; mu*), and the gradient turns along: to twice the tolerance, for the plans may differ."""
    params, means = case.point(), np.array(case.means, dtype=float)
    d = params.shape[1]
    turn = special_ortho_group.rvs(d, random_state=3) if d > 1 else -np.eye(1)
    shift = np.linspace(-3.0, 7.0, d)
    value, grad = case.make().value_and_grad(params)
    moved, turned = case.make(means=means @ turn.T + shift).value_and_grad(params @ turn.T + shift)
    # moving the tight case rounds its deviations of 1e-5 at 1e-16 * 10
    slack = 2 * case.rule.tol + 1e-11
    assert_allclose(moved, value, rtol=slack)
    assert relative(turned, grad @ turn.T) < slack


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_more_coordinates_do_not_matter(case):
    """The same points in a space of 40 dimensions: the reduced space is the same."""
    params, means = case.point(), np.array(case.means, dtype=float)
    d = params.shape[1]
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((40, d)))[0]
    value, grad = case.make().value_and_grad(params)
    wide, rows = case.make(means=means @ basis.T).value_and_grad(params @ basis.T)
    assert_allclose(wide, value, rtol=2 * case.rule.tol + 1e-11)
    assert relative(rows, grad @ basis.T) < 2 * case.rule.tol + 1e-11


def test_mixture_of_one_is_the_single_gaussian():
    single = op.ScoreMatching(op.Gaussian([0.2, 0.0]))
    mixture = op.ScoreMatching(op.GaussianMixture([[0.2, 0.0]]))
    twice = op.ScoreMatching(op.GaussianMixture([[0.2, 0.0], [0.2, 0.0]], [0.25, 0.75]))
    value, grad = single.value_and_grad(THREE)
    for other in (mixture, twice):
        found, rows = other.value_and_grad(THREE)
        assert_allclose(found, value, rtol=2 * TOL)
        assert relative(rows, grad) < 2 * TOL


MIXTURES = [case for case in OBJECTIVES if len(case.means) > 1 and case.exact] + [
    Case("far apart", [[-4.0], [4.0]], [[5.0], [-3.0], [0.0]]),
    Case("student at one component", [[-2.0, 0.0], [2.0, 0.0]], [[2.0, 0.0], [2.1, 0.1]]),
    Case("tight between", [[-1.0], [1.5]], [[4.0], [4.01], [4.02]]),
    Case("rare component", [[0.0, 0.0], [3.0, 1.0]], THREE, teacher_weights=[0.999, 0.001]),
]


@pytest.mark.parametrize("case", MIXTURES, ids=lambda case: case.name)
def test_mixture_teacher_against_adaptive_cubature(case):
    params, means = case.point(), np.array(case.means)
    equal = [np.full(len(rows), 1 / len(rows)) for rows in (params, means)]
    weights, shares = (np.array(even if given is None else given) for even, given in zip(equal, (case.weights, case.teacher_weights)))
    found = case.make().estimate(params)
    scale = np.concatenate([[found.value], np.linalg.norm(found.grad, axis=1)])
    oracle = {op.ScoreMatching: oracles.mixture_score_matching, op.KLDivergence: oracles.likelihood,
              op.ReverseFisher: oracles.reverse_fisher}[case.objective]
    value, grad = oracle(params, weights, means, shares, scale, rtol=0.05 * TOL)
    errors = np.concatenate([[abs(found.value - value)], np.linalg.norm(found.grad - grad, axis=1)])
    assert found.reliable
    assert (errors < 1.1 * TOL * scale).all(), errors / scale
    # the bound, less what the oracle itself may be off
    assert (errors <= np.append(found.value_error, found.grad_error) + 0.1 * TOL * scale).all()
    assert (np.append(found.value_error, found.grad_error) < 1.01 * TOL * scale + 1e-12).all()


# --- closed forms ----------------------------------------------------------------------------------------------------


def test_one_parameter_is_a_quadratic():
    """n = 1: v = mu, so L = |mu - mu*|^2 and the gradient is 2 (mu - mu*)."""
    mean, mu = np.array([0.5, -1.0, 2.0]), np.array([[2.0, 1.0, 1.5]])
    value, grad = op.ScoreMatching(op.Gaussian(mean)).value_and_grad(mu)
    assert_allclose(value, ((mu - mean) ** 2).sum(), rtol=8 * EPS)
    assert_allclose(grad, 2 * (mu - mean), rtol=8 * EPS)


def test_one_parameter_against_a_mixture():
    """n = 1: L = E|mu - v*|^2 = |mu - m|^2 + E|v*|^2 - |m|^2 with m = E v* the teacher's mean; the gradient is 2 (mu - m)."""
    means, shares = np.array([[-1.0, 0.0], [2.0, 0.5]]), np.array([0.3, 0.7])
    mu = np.array([[0.4, 1.0]])
    obj = op.ScoreMatching(op.GaussianMixture(means, shares))
    middle = shares @ means
    value, grad = obj.value_and_grad(mu)
    assert_allclose(grad[0], 2 * (mu[0] - middle), rtol=TOL)
    assert_allclose(value - obj.value(middle[None]), ((mu[0] - middle) ** 2).sum(), rtol=3 * TOL)


@pytest.mark.parametrize("means", [[[0.3, 0.1]], [[-1.0, 0.0], [1.2, 0.5]], [[-2.0, 1.0], [0.3, 0.0], [2.0, -3.0]]])
def test_student_equal_to_its_teacher_has_no_loss(means):
    teacher = op.GaussianMixture(means, np.arange(1, len(means) + 1) / sum(range(1, len(means) + 1)))
    obj = op.ScoreMatching(teacher, weights=teacher.weights)
    value, grad = obj.value_and_grad(means)
    assert abs(value) < 1e-28  # squares of rounding errors
    assert np.abs(grad).max() < 1e-14
    x = np.random.default_rng(0).standard_normal((50, 2)) * 3
    assert_allclose(obj.responsibilities(x, means), teacher.responsibilities(x), rtol=1e-12)
    assert_allclose(obj.score(x, means), teacher.score(x), atol=1e-13)


def test_symmetric_pair():
    """Means at +-s, teacher at 0: v = s tanh(s x), so L = s^2 E tanh^2(s x)."""
    s = 1.7
    expected = quad(lambda x: np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * (s * np.tanh(s * x)) ** 2, -12, 12, epsabs=0, epsrel=1e-12)[0]
    assert_allclose(op.ScoreMatching(op.Gaussian([0.0])).value([[s], [-s]]), expected, rtol=1.01 * TOL)


def test_zero_weight_takes_no_part():
    """A parameter of weight 0 neither acts nor is acted on."""
    teacher = op.GaussianMixture([[-1.0], [1.0]])
    value, grad = op.ScoreMatching(teacher, weights=[0.5, 0.5]).value_and_grad([[2.0], [-0.5]])
    found, rows = op.ScoreMatching(teacher, weights=[0.5, 0.0, 0.5]).value_and_grad([[2.0], [9.0], [-0.5]])
    assert_allclose(found, value, rtol=2 * TOL)
    assert_allclose(rows[[0, 2]], grad, rtol=2 * TOL)
    assert rows[1, 0] == 0


ABSENT = {  # weights, of which some are exactly 0
    "one of three": [0.5, 0.0, 0.5],
    "the first": [0.0, 0.3, 0.7],
    "all but one": [0.0, 0.0, 1.0],
}
FAR = [[1e6, -2e5, 0.0], [-3e7, 1.0, 4.0]]
NEAR = [[0.9, -0.4, 0.1], [-0.7, 0.8, 0.2]]


def _with_absent(weights, far=FAR, near=NEAR):
    """(params with far means where the weight is 0, which rows are present, their params and weights)."""
    weights = np.array(weights)
    present = weights > 0
    params = np.empty((3, len(near[0])))
    params[present], params[~present] = near[:present.sum()], far[:3 - present.sum()]
    return params, present, params[present], weights[present]


@pytest.mark.parametrize("weights", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("means", [[[0.2, 0.0, 0.0]], [[-1.0, 0.0, 0.0], [1.2, 0.5, 0.0]]], ids=["single", "mixture"])
@pytest.mark.parametrize("rule", [op.Auto(tol=TOL), op.Sobol(2**10, rng=1), op.GaussHermite(12)], ids=lambda rule: type(rule).__name__)
def test_zero_weight_asks_for_nothing_however_far(rule, means, weights):
    """Value, rows, errors and nodes are those without it; its row, and its row's error, are exactly 0."""
    params, present, near, shares = _with_absent(weights)
    teacher = op.Gaussian(means[0]) if len(means) == 1 else op.GaussianMixture(means)
    alone = op.ScoreMatching(teacher, weights=shares, rule=rule).estimate(near)
    found = op.ScoreMatching(teacher, weights=weights, rule=rule).estimate(params)
    assert found.nodes == alone.nodes and found.rule == alone.rule and found.reliable == alone.reliable
    assert_allclose(found.value, alone.value, rtol=1e-12)  # the same nodes: only rounding may differ
    assert_allclose(found.grad[present], alone.grad, rtol=1e-10, atol=1e-13)
    assert_array_equal(found.grad[~present], 0.0)
    assert_array_equal(found.grad_error[~present], 0.0)
    assert_allclose(found.value_error, alone.value_error, rtol=1e-6, atol=1e-13)
    assert_allclose(found.grad_error[present], alone.grad_error, rtol=1e-6, atol=1e-13)
    if found.bounds is not None:
        assert all((part.grad[~present] == 0).all() and len(part.grad) == 3 for part in
                   (found.bounds.discretisation, found.bounds.truncation, found.bounds.rounding))
    else:
        assert_array_equal(found.interval()[1][1][~present], 0.0)
        assert_array_equal(found.effective_samples[~present], np.inf)


@pytest.mark.parametrize("weights", ABSENT.values(), ids=ABSENT)
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_run_with_a_zero_weight_is_the_run_without(weights, shift):
    """Also in a tight state, whose centre moves on its own (shift 30): the absent means stay where they are."""
    near = np.array(NEAR) if shift == 0 else shift + 1e-3 * np.array(NEAR)
    params, present, near, shares = _with_absent(weights, near=near)
    target = op.Gaussian([0.2, 0.0, 0.1])
    alone = op.gradient_descent(op.ScoreMatching(target, weights=shares), near, step_size=0.1, steps=120)
    run = op.gradient_descent(op.ScoreMatching(target, weights=weights), params, step_size=0.1, steps=120)
    assert run.status == alone.status == "completed"
    assert run.params.shape[1:] == params.shape
    assert_allclose(run.loss, alone.loss, rtol=1e-12, atol=1e-25)
    assert_allclose(run.params[:, present], alone.params, rtol=1e-12, atol=1e-12)
    # in the run's basis, and as differences from a centre that moves by some 30: roundings of their whole length
    moved = np.linalg.norm(run.params[:, ~present] - params[~present], axis=2)
    assert (moved < 20 * EPS * np.linalg.norm(params[~present], axis=1)).all()


def test_flow_sgd_and_hessian_with_a_zero_weight():
    params, present, near, shares = _with_absent(ABSENT["one of three"], far=[[5.0, -2.0, 1.0]])
    both = [op.ScoreMatching(op.Gaussian([0.2, 0.0, 0.1]), weights=w) for w in (ABSENT["one of three"], shares)]
    flow, flow_alone = (op.gradient_flow(obj, p, t_end=2.0, rtol=1e-8) for obj, p in zip(both, (params, near)))
    sgd, sgd_alone = (op.sgd(obj, p, step_size=0.05, steps=30, batch_size=16, rng=0) for obj, p in zip(both, (params, near)))
    # two integrations of rtol 1e-8, local errors of some ten steps each
    for run, alone, slack in ((flow, flow_alone, 1e-6), (sgd, sgd_alone, 1e-12)):
        assert_allclose(run.params[-1][present], alone.params[-1], rtol=slack, atol=slack)
        assert_allclose(run.params[-1][~present], params[~present], rtol=slack)
    whole, part = both[0].hessian(params), both[1].hessian(near)
    assert_allclose(whole[np.ix_(present, range(3), present, range(3))], part, rtol=1e-9, atol=1e-10)
    assert_array_equal(whole[~present], 0.0)
    assert_array_equal(whole[:, :, ~present], 0.0)


def test_many_dimensions_with_a_zero_weight_far_away():
    """The span is taken from differences to a mean that takes part: 1e6 away rounds nothing here."""
    rng = np.random.default_rng(2)
    near, far = rng.standard_normal((3, 40)), 1e6 * rng.standard_normal((1, 40))
    obj = op.ScoreMatching(op.Gaussian(np.zeros(40)), weights=[0.0, 0.2, 0.3, 0.5], rule=op.Auto(tol=1e-8))
    alone = op.ScoreMatching(op.Gaussian(np.zeros(40)), weights=[0.2, 0.3, 0.5], rule=op.Auto(tol=1e-8)).estimate(near)
    found = obj.estimate(np.concatenate([far, near]))
    assert found.nodes == alone.nodes
    assert_allclose(found.value, alone.value, rtol=1e-12)
    assert_allclose(found.grad[1:], alone.grad, atol=1e-12)


def test_a_tiny_weight_is_not_left_out():
    """Its row is accurate relative to itself: 1e-200 of the others, and proportional to the weight."""
    rows = [op.ScoreMatching(op.Gaussian([0.2]), weights=[1 - tiny, tiny]).grad([[1.0], [-0.5]])[1, 0] / tiny for tiny in (1e-20, 1e-200)]
    assert_allclose(rows[1], rows[0], rtol=2 * TOL)
    # w_2 = tiny e^l and D = mu_1 - m up to order tiny: the row over tiny is 2 E[e^l (D + <mu_2 - mu_1, D>(x - mu_2))]
    expected = quad(lambda x: 2 * np.exp(-(x - 0.2) ** 2 / 2 - 1.5 * x + 0.375) / np.sqrt(2 * np.pi) * (0.8 - 1.5 * 0.8 * (x + 0.5)),
                    -12, 12, epsabs=0, epsrel=1e-12)[0]
    assert_allclose(rows[1], expected, rtol=2 * TOL)


@pytest.mark.parametrize("first", [True, False])
def test_teacher_component_of_zero_weight_takes_no_part(first):
    means = [[1e6, 0.0], [0.2, 0.0]] if first else [[0.2, 0.0], [1e6, 0.0]]
    value, grad = op.ScoreMatching(op.Gaussian([0.2, 0.0])).value_and_grad(THREE)
    found, rows = op.ScoreMatching(op.GaussianMixture(means, [0.0, 1.0] if first else [1.0, 0.0])).value_and_grad(THREE)
    assert_allclose(found, value, rtol=2 * TOL)
    assert relative(rows, grad) < 2 * TOL


def test_time_shrinks_the_teacher():
    means, params = np.array([[-1.0, 0.0], [1.2, 0.5]]), THREE
    at_time = op.ScoreMatching(op.GaussianMixture(means), t=0.7)
    by_hand = op.ScoreMatching(op.GaussianMixture(np.exp(-0.7) * means))
    assert at_time.value(params) == by_hand.value(params)


# --- input -----------------------------------------------------------------------------------------------------------


def _read_only(params):
    params.flags.writeable = False
    return params


FORMS = {
    "list": lambda p: p.tolist(),
    "read-only": _read_only,
    "Fortran order": np.asfortranarray,
    "strided": lambda p: np.repeat(p, 2, axis=0)[::2],
    "reversed": lambda p: p[::-1].copy()[::-1],
    "big-endian": lambda p: p.astype(">f8"),
    "long double": lambda p: p.astype(np.longdouble),
    "State": op.State.of,
    "integers": lambda p: p.astype(int),
    "small integers": lambda p: p.astype(np.int8),
    "float32": lambda p: p.astype(np.float32),
    "float16": lambda p: p.astype(np.float16),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_real_array_will_do(form):
    params = np.array([[1.0, -2.0], [0.0, 1.0], [3.0, 0.0]])  # whole numbers: every form holds them exactly
    obj = op.ScoreMatching(op.Gaussian([0.5, 0.0]))
    value, grad = obj.value_and_grad(params.copy())
    found, rows = obj.value_and_grad(FORMS[form](params.copy()))
    assert found == value
    assert_array_equal(rows, grad)
    assert obj.estimate(FORMS[form](params.copy())).value == value


def test_input_is_not_changed():
    params = np.array(THREE)
    op.ScoreMatching(op.Gaussian([0.5, 0.0])).value_and_grad(params)
    assert_array_equal(params, THREE)


@pytest.mark.parametrize("split", [0.0, 0.3, 100.0])
def test_state_equals_its_array(split):
    params = np.array(THREE)
    centre = np.array([split, -split])
    state = op.State(centre=centre, deviations=params - centre)
    obj = op.ScoreMatching(op.Gaussian([0.5, 0.0]))
    value, grad = obj.value_and_grad(params)
    found, rows = obj.value_and_grad(state)
    # the parts round at eps * split
    assert_allclose(found, value, rtol=2 * TOL + 100 * EPS * (1 + split))
    assert relative(rows, grad) < 2 * TOL + 100 * EPS * (1 + split)


def test_state_with_basis_and_origin_equals_its_array():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0]
    origin = np.linspace(-1, 1, 6)
    state = op.State(centre=np.array([0.5, 0.1]), deviations=np.array(THREE), basis=basis, origin=origin)
    for teacher in (op.Gaussian(np.full(6, 0.3)), op.GaussianMixture(np.random.default_rng(1).standard_normal((2, 6)))):
        obj = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-8))
        value, grad = obj.value_and_grad(state.params)
        found, rows = obj.value_and_grad(state)
        assert_allclose(found, value, rtol=2e-8)
        assert relative(rows, grad) < 2e-8
        x = np.linspace(0, 1, 12).reshape(2, 6)
        assert_allclose(obj.score(x, state), obj.score(x, state.params), atol=1e-12)
        assert_allclose(obj.responsibilities(x, state), obj.responsibilities(x, state.params), atol=1e-13)


OBJ = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
BAD_PARAMS = {
    "vector": ([1.0, 2.0], r"params must have 2 dimension.*\(2,\)"),
    "cube": (np.zeros((2, 2, 2)), r"params must have 2 dimension.*\(2, 2, 2\)"),
    "number": (3.0, r"params must have 2 dimension"),
    "wrong d": (np.zeros((2, 3)), r"params have 3 coordinates.*2 dimension.*\(n, 2\)"),
    "no rows": (np.zeros((0, 2)), r"params is empty \(shape \(0, 2\)\)"),
    "no columns": (np.zeros((2, 0)), r"params is empty"),
    "empty list": ([], r"params must have 2 dimension|params is empty"),
    "ragged": ([[1.0, 2.0], [3.0]], r"params is not a rectangular array"),
    "complex": (np.zeros((2, 2), complex), r"params must hold real numbers; got dtype complex128"),
    "object": (np.array([[1, None], [2, 3]], dtype=object), r"params must hold real numbers; got dtype object"),
    "text": ([["a", "b"]], r"params must hold real numbers"),
    "None": (None, r"params must hold real numbers"),
    "dates": (np.zeros((2, 2), "datetime64[s]"), r"params must hold real numbers"),
    "NaN": ([[0.0, np.nan], [1.0, 1.0]], r"params must be finite; entry \(0, 1\) is nan"),
    "infinite": ([[0.0, 0.0], [-np.inf, 1.0]], r"params must be finite; entry \(1, 0\) is -inf"),
    "long double too large": (np.full((2, 2), np.longdouble("1e4000")), r"params must be finite"),
}


@pytest.mark.parametrize("method", ["value", "grad", "value_and_grad", "estimate", "start"])
@pytest.mark.parametrize("kind", BAD_PARAMS)
def test_bad_params(kind, method):
    params, message = BAD_PARAMS[kind]
    with pytest.raises(ValueError, match=message):
        getattr(OBJ, method)(params)


BAD_OBJECTIVES = {
    "teacher": (lambda: op.ScoreMatching([0.0]), r"teacher must be an overparam.Teacher.*got \[0.0\]"),
    "rule": (lambda: op.ScoreMatching(op.Gaussian([0.0]), rule=1e-9), r"rule must be an overparam.Rule.*got 1e-09"),
    "negative time": (lambda: op.ScoreMatching(op.Gaussian([0.0]), t=-1.0), r"t must be a finite number not below 0; got -1.0"),
    "infinite time": (lambda: op.ScoreMatching(op.Gaussian([0.0]), t=np.inf), r"t must be a finite number.*got inf"),
    "negative weight": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[1.5, -0.5]),
                        r"weights must not be negative; got \[1.5, -0.5\]"),
    "sum of weights": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[0.5, 0.6]), r"weights must sum to 1; they sum to 1.1"),
    "no weights": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[]), r"weights is empty"),
    "NaN weight": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[np.nan, 1.0]), r"weights must be finite; entry \(0,\) is nan"),
    "complex weights": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[1j, 1.0]), r"weights must hold real numbers"),
    "shape of weights": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[[1.0]]), r"weights must have 1 dimension"),
    "number of weights": (lambda: op.ScoreMatching(op.Gaussian([0.0]), weights=[0.5, 0.5]).value([[1.0]]),
                          r"weights has 2 entries and params 1 rows"),
    "x of the score": (lambda: OBJ.score([[1.0]], THREE), r"x must have shape \(\.\.\., 2\).*\(1, 1\)"),
    "x of the responsibilities": (lambda: OBJ.responsibilities([np.nan, 1.0], THREE), r"x must be finite"),
    "tolerance": (lambda: op.Auto(tol=1e-20), r"tol must be a finite number not below 1e-14 and not above 0.1; got 1e-20"),
    "tolerance 0": (lambda: op.Auto(tol=0), r"tol must be"),
    "max_nodes": (lambda: op.Auto(max_nodes=0), r"max_nodes must be a whole number not below 1; got 0"),
}


@pytest.mark.parametrize("kind", BAD_OBJECTIVES)
def test_bad_arguments(kind):
    call, message = BAD_OBJECTIVES[kind]
    with pytest.raises(ValueError, match=message):
        call()


@every_case
def test_description_makes_the_same_objective(case):
    from overparam.objectives import from_description

    obj = case.make()
    again = from_description(obj.describe())
    assert again.describe() == obj.describe()
    assert again.value(case.point()) == obj.value(case.point())


def test_minibatch_is_the_mean_over_the_draws():
    params, batch = np.array(THREE), 500
    for teacher in (op.Gaussian([0.2, 0.0]), op.GaussianMixture([[-1.0, 0.0], [1.2, 0.5]])):
        obj = op.ScoreMatching(teacher, weights=[0.5, 0.3, 0.2])
        found = obj.minibatch(params, batch, np.random.default_rng(5), errors=True)
        x = teacher.sample(batch, np.random.default_rng(5))
        target = x + teacher.score(x)
        value, grad = _reference.score_matching(x, np.full(batch, 1 / batch), target, params, np.log([0.5, 0.3, 0.2]))
        losses = ((obj.score(x, params) - teacher.score(x)) ** 2).sum(axis=1)
        assert_allclose(found.value, value, rtol=1e-13)
        assert relative(found.rows, grad) < 1e-13
        assert_allclose(found.value_error, losses.std(ddof=1) / np.sqrt(batch), rtol=1e-12)
