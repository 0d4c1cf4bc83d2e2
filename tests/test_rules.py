"""Rules: convergence to Auto's value, honest standard errors, ranks, descriptions."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import binom

import overparam as op
from overparam.nodes import hermite_axis, trapezoid_axis
from overparam.quadrature import rule_from_description

PARAMS = np.array([[1.9, -0.4], [-0.7, 0.8], [0.6, 0.3]])
TEACHERS = {"single": op.Gaussian([0.2, 0.1]), "mixture": op.GaussianMixture([[-0.8, 0.0], [0.9, 0.5]], [0.4, 0.6])}
SAMPLED = (op.MonteCarlo, op.Stratified, op.Sobol)
every_teacher = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)
every_sampled = pytest.mark.parametrize("kind", SAMPLED, ids=lambda kind: kind.__name__)


@cache
def _exact(teacher, points):
    return op.ScoreMatching(teacher, rule=op.Auto(tol=1e-13)).value_and_grad(np.array(points))


def exact(teacher, params=PARAMS):
    return _exact(teacher, tuple(map(tuple, np.asarray(params).tolist())))


def errors(rule, teacher, params=PARAMS):
    """Relative errors of the loss and of the gradient."""
    value, grad = exact(teacher, params)
    found = op.ScoreMatching(teacher, rule=rule).estimate(params)
    return abs(found.value - value) / value, np.abs(found.grad - grad).max() / np.abs(grad).max()


@every_teacher
@pytest.mark.parametrize("make", [op.GaussHermite, op.Trapezoid])
def test_grids_converge_geometrically(make, teacher):
    """Twice the orders: the error falls by at least 10 until 1e-12, the rounding of sums of some 1e4 terms."""
    worst = [max(errors(make(order), teacher)) for order in (8, 16, 32, 64, 128)]
    for coarse, fine in pairwise(worst):
        assert fine < max(coarse / 10, 1e-12), worst
    assert worst[-1] < 1e-11


@every_teacher
@pytest.mark.parametrize("make", [op.GaussHermite, op.Trapezoid])
@pytest.mark.parametrize("order", [12, 24, 48, 96])
def test_the_bound_of_a_fixed_grid_holds(make, order, teacher):
    value, grad = exact(teacher)
    found = op.ScoreMatching(teacher, rule=make(order)).estimate(PARAMS)
    assert abs(found.value - value) <= found.value_error + 1e-13 * value
    assert (np.linalg.norm(found.grad - grad, axis=1) <= found.grad_error + 1e-13).all()


def test_bound_sees_a_half_width_that_is_too_short():
    """The far row lives at 8: a grid that ends at 6 misses it, and says so; its own refinement would not."""
    params = [[0.0], [16.0]]
    teacher = op.Gaussian([0.0])
    value, grad = exact(teacher, params)
    for order in (200, 400):
        found = op.ScoreMatching(teacher, rule=op.Trapezoid(order, half_width=6.0)).estimate(params)
        assert abs(found.value - value) > 0.5 * value
        assert found.value_error >= abs(found.value - value)
        assert found.grad_error[1] >= np.abs(found.grad - grad)[1, 0]
    wide = op.ScoreMatching(teacher, rule=op.Trapezoid(800, half_width=16.0)).estimate(params)
    assert_allclose(wide.value, value, rtol=1e-10)
    reaching = op.ScoreMatching(teacher, rule=op.Trapezoid(800)).estimate(params)
    # its tails are 1e-12 of majorants that are some hundred times the loss
    assert_allclose(reaching.value, value, rtol=1e-9)
    assert abs(reaching.value - value) <= reaching.value_error
    assert (np.abs(reaching.grad - grad)[:, 0] <= reaching.grad_error).all()


@every_teacher
@every_sampled
def test_sampling_converges_at_its_rate(kind, teacher):
    """Root mean square error over 12 seeds, from 2^8 to 2^13 points: slope about -1/2 for Monte Carlo, steeper for the others."""
    def rms(n):
        return np.sqrt(np.mean([errors(kind(n, rng=seed), teacher)[0] ** 2 for seed in range(12)]))

    slope = np.log(rms(2**13) / rms(2**8)) / np.log(2**5)
    # the logarithm of a root mean square of 12 scatters by 1/sqrt(24) = 0.2: the slope by 0.29/3.47 = 0.083, 3.4 times that is 0.28
    low, high = {op.MonteCarlo: (-0.78, -0.22), op.Stratified: (-1.3, -0.6), op.Sobol: (-2.0, -0.6)}[kind]
    assert low < slope < high


@every_teacher
@every_sampled
def test_standard_errors_are_honest(kind, teacher):
    """|error| < 2.13 standard errors, the 95 % point of Student's t with 15 degrees, in 95 % of 100 seeds."""
    value, grad = exact(teacher)
    hits = rows = 0
    for seed in range(100):
        found = op.ScoreMatching(teacher, rule=kind(16 * 64, rng=1000 + seed)).estimate(PARAMS)
        hits += abs(found.value - value) < 2.131 * found.value_error
        # a row's error is the root of its coordinates' summed squares: less than three times it nearly always
        rows += bool((np.linalg.norm(found.grad - grad, axis=1) < 3 * found.grad_error).all())
    low, high = binom.ppf([1e-5, 1 - 1e-5], 100, 0.95)  # 84 and 100
    # replicates of scrambled or jittered points are close to normal, not exactly: three hits either way
    assert low - 3 <= hits <= high, hits
    assert rows >= 90


@every_sampled
def test_value_is_a_function_and_seeds_differ(kind):
    teacher = TEACHERS["mixture"]
    one, same, other = (op.ScoreMatching(teacher, rule=kind(512, rng=seed)) for seed in (1, 1, 2))
    assert one.value(PARAMS) == one.value(PARAMS) == same.value(PARAMS)
    assert one.value(PARAMS) != other.value(PARAMS)
    one.value(2 * PARAMS)  # looking elsewhere changes nothing
    assert one.value(PARAMS) == same.value(PARAMS)


@every_sampled
def test_generator_is_drawn_from_once(kind):
    rng = np.random.default_rng(3)
    rule = kind(512, rng=rng)
    state = rng.bit_generator.state
    value = op.ScoreMatching(TEACHERS["single"], rule=rule).value(PARAMS)
    assert rng.bit_generator.state == state
    assert op.ScoreMatching(TEACHERS["single"], rule=kind(512, rng=np.random.default_rng(3))).value(PARAMS) == value
    assert op.ScoreMatching(TEACHERS["single"], rule=kind(512, rng=rng)).value(PARAMS) != value


@every_sampled
def test_replicates(kind):
    found = op.ScoreMatching(TEACHERS["single"], rule=kind(4096, rng=0, replicates=4)).estimate(PARAMS)
    assert found.nodes == 4096
    assert op.ScoreMatching(TEACHERS["mixture"], rule=kind(4096, rng=0, replicates=4)).estimate(PARAMS).nodes == 2 * 4096
    # 1000 // 16 = 62 points each; a power of two for Sobol, a square for Stratified in rank 2
    per = {op.MonteCarlo: 62, op.Stratified: 49, op.Sobol: 32}[kind]
    assert op.ScoreMatching(TEACHERS["single"], rule=kind(1000, rng=0)).estimate(PARAMS).nodes == 16 * per


def test_stratified_above_rank_one_falls_back_to_monte_carlo():
    """One point per cell in rank 3 needs 8 per replicate: below that the points are independent, all of them used."""
    params = np.random.default_rng(0).standard_normal((5, 3))
    obj = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Stratified(16 * 7, rng=0))
    assert obj.estimate(params).nodes == 16 * 7


def test_stratified_has_one_point_in_every_cell():
    from scipy.special import ndtr

    rule = op.Stratified(16 * 36, rng=0)
    points = rule._draw(36, 2, np.random.default_rng(0))
    cells = np.floor(ndtr(points) * 6).astype(int)
    assert sorted(map(tuple, cells.tolist())) == [(i, j) for i in range(6) for j in range(6)]


ORDERED = (op.GaussHermite, op.Trapezoid)


@pytest.mark.parametrize("make", ORDERED)
def test_longer_orders_are_cut_to_the_rank(make):
    line = np.array([[1.0, 0.0], [-0.5, 0.0], [0.2, 0.0]])
    teacher = op.Gaussian([0.0, 0.3])
    long, short = (op.ScoreMatching(teacher, rule=make(orders)).estimate(line) for orders in ((20, 7, 5), (20,)))
    assert long.nodes == short.nodes == 20
    assert long.value == short.value


@pytest.mark.parametrize("make", ORDERED)
def test_shorter_orders_are_an_error(make):
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=make((20,)))
    with pytest.raises(ValueError, match=r"orders has 1 entries and the means differ along 2 axes.*at least 2"):
        obj.value(PARAMS)
    with pytest.raises(ValueError, match="orders has 1 entries"):
        op.gradient_descent(obj, PARAMS, step_size=0.1, steps=5)


def test_widest_axis_takes_the_first_order():
    """Spread 6 along y, 0.1 along x: 60 nodes belong to y."""
    params = np.array([[0.0, 3.0], [0.1, -3.0], [0.05, 0.4]])
    teacher = op.Gaussian([0.0, 0.0])
    assert max(errors(op.Trapezoid((160, 24)), teacher, params)) < 1e-9
    assert max(errors(op.Trapezoid((24, 160)), teacher, params)) > 1e-4


@pytest.mark.parametrize("make", ORDERED)
def test_a_teacher_that_differs_where_the_student_does_not(make):
    """Rank counts the teacher's axes too."""
    student = np.array([[1.0, 0.3], [-0.5, 0.3]])
    teacher = op.GaussianMixture([[0.0, -1.0], [0.0, 1.0]])
    assert max(errors(make((64, 64)), teacher, student)) < 1e-8
    with pytest.raises(ValueError, match="differ along 2 axes"):
        op.ScoreMatching(teacher, rule=make((64,))).value(student)


@pytest.mark.parametrize("rule", [op.GaussHermite(3), op.Trapezoid(4), op.MonteCarlo(64, rng=0),
                                  op.Sobol(64, rng=0), op.Stratified(64, rng=0)],
                         ids=lambda rule: type(rule).__name__)
def test_rank_zero(rule):
    """Coincident means: the responsibilities are constant, so every rule is exact."""
    mean = np.array([1.5, -2.0])
    found = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=rule).estimate(np.tile(mean, (3, 1)))
    assert_allclose(found.value, mean @ mean, rtol=1e-12)
    assert_allclose(found.grad, np.tile(2 * mean / 3, (3, 1)), rtol=1e-12)


RULES = [op.Auto(tol=1e-7, max_nodes=100_000), op.GaussHermite(20), op.GaussHermite((30, 20)), op.Trapezoid(40),
         op.Trapezoid((40, 30), half_width=7.5),
         op.MonteCarlo(320, rng=5), op.Stratified(320, rng=6, replicates=4), op.Sobol(512, rng=None)]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_description_round_trip(rule):
    import json

    again = rule_from_description(json.loads(json.dumps(rule.describe())))
    assert type(again) is type(rule) and again.describe() == rule.describe() and repr(again) == repr(rule)
    for teacher in TEACHERS.values():
        value, grad = op.ScoreMatching(teacher, rule=rule).value_and_grad(PARAMS)
        found, rows = op.ScoreMatching(teacher, rule=again).value_and_grad(PARAMS)
        assert found == value
        assert_array_equal(rows, grad)


BAD = {
    "order 0": (lambda: op.GaussHermite(0), r"orders must be a whole number not below 1 and not above 20000; got 0"),
    "half an order": (lambda: op.GaussHermite(2.5), r"orders must be a whole number; got 2.5"),
    "no orders": (lambda: op.GaussHermite(()), r"orders is empty"),
    "order in a tuple": (lambda: op.GaussHermite((4, -1)), r"orders must be a whole number not below 1 and not above 20000; got -1"),
    "text": (lambda: op.GaussHermite("40"), r"orders must be a whole number; got '40'"),
    "trapezoid of one": (lambda: op.Trapezoid(1), r"orders must be a whole number not below 2 and not above 100000000; got 1"),
    "half-width 0": (lambda: op.Trapezoid(9, half_width=0), r"half_width must be a finite number above 0; got 0"),
    "infinite half-width": (lambda: op.Trapezoid(9, half_width=np.inf), r"half_width must be a finite number above 0; got inf"),
    "too few points": (lambda: op.MonteCarlo(8), r"n must be a whole number not below 16 and not above 100000000; got 8"),
    "one replicate": (lambda: op.Sobol(64, replicates=1), r"replicates must be a whole number not below 2; got 1"),
    "seed": (lambda: op.Stratified(64, rng="x"), r"rng must be a seed or a numpy.random.Generator; got 'x'"),
    "negative seed": (lambda: op.Stratified(64, rng=-1), r"rng must be a seed"),
    "kind": (lambda: rule_from_description({"kind": "GaussHermit", "orders": 3}), r"GaussHermit.*Did you mean 'GaussHermite'"),
    "no kind": (lambda: rule_from_description({"orders": 3}), r"rule None is not known"),
    "setting": (lambda: rule_from_description({"kind": "GaussHermite", "order": 3}), r"GaussHermite.*order"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("order", [1, 2, 5, 30, 400])
def test_hermite_axis_is_exact_for_polynomials(order):
    """E z^(2p) = (2p - 1)!! for 2p <= 2 order - 1."""
    axis = hermite_axis(order)
    moment = 1.0
    for p in range(min(order, 8)):
        assert_allclose(axis.weights @ axis.nodes ** (2 * p), moment, rtol=1e-12)
        moment *= 2 * p + 1


def test_trapezoid_axis_covers_its_ends_and_passes_zero():
    axis = trapezoid_axis(-3.3, 9.1, 0.25)
    assert axis.nodes[0] <= -3.3 and axis.nodes[-1] >= 9.1 and 0.0 in axis.nodes
    assert_allclose(trapezoid_axis(-9, 9, 0.25).weights.sum(), 1.0, rtol=1e-14)


def test_users_own_rule():
    """A rule is only nodes and weights: one more class serves objective and driver."""
    from overparam.nodes import Cloud, fixed_layout
    from overparam.quadrature import Rule

    class Halton(Rule):
        def __init__(self, n):
            self.n = n

        def settings(self):
            return {"n": self.n}

        def layout(self, frame, probe=None):
            from scipy.special import ndtri
            from scipy.stats import qmc

            nodes = ndtri(qmc.Halton(frame.params.shape[1], scramble=True, rng=0).random(self.n))
            cloud = Cloud(nodes, np.full(self.n, 1 / self.n), 4)
            return fixed_layout(frame, (cloud,) * len(frame.means), np.zeros(len(frame.params)), 0.0)

    try:
        teacher = TEACHERS["single"]
        assert max(errors(Halton(4000), teacher)) < 0.02
        run = op.gradient_descent(op.ScoreMatching(teacher, rule=Halton(400)), PARAMS, step_size=0.1, steps=20)
        assert run.status == "completed" and run.loss[-1] < run.loss[0]
    finally:
        Rule.registry.pop("Halton")


def test_fixed_grids_without_measure_are_refused_at_once():
    params = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.raises(ValueError, match=r"make 1.25e\+11 nodes, more than 1e\+08"):
        op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.GaussHermite(5000)).value(params)


@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 9.0])
def test_gauss_hermite_errors_are_bounded_and_fall_with_the_order(spread):
    """The remainder promises nothing for wide spreads; then a certified trapezoid vouches."""
    params = np.array([[0.3], [0.3 + spread], [0.1 + spread / 2]])
    target = op.Gaussian([0.0])
    truth = op.ScoreMatching(target, rule=op.Auto(tol=1e-13)).estimate(params)
    bounds = []
    for order in (2, 6, 20, 60, 200):
        found = op.ScoreMatching(target, rule=op.GaussHermite(order)).estimate(params)
        assert abs(found.value - truth.value) <= found.value_error + truth.value_error
        assert (np.linalg.norm(found.grad - truth.grad, axis=1) <= found.grad_error + truth.grad_error).all()
        bounds.append(found.value_error / found.value)
    assert np.isfinite(bounds).all() and bounds[-1] < 1e-4 * bounds[0] and bounds[0] < 10


def draw_mixture(rng, rank):
    """(means (m, rank), weights (m,)) of a teacher: one heavy component, 1 or 2 light ones 1 to 6 away, weights down to 1e-6."""
    count = int(rng.integers(2, 4))
    directions = rng.standard_normal((count - 1, rank))
    means = np.zeros((count, rank))
    means[1:] = directions / np.linalg.norm(directions, axis=1)[:, None] * rng.uniform(1.0, 6.0, (count - 1, 1))
    weights = np.append(1.0, 10.0 ** rng.uniform(-6.0, -0.3, count - 1))
    return means, weights / weights.sum()


@pytest.mark.parametrize("family", ["single", "mixture"])
@every_sampled
def test_intervals_of_sampled_rules_cover(kind, family):
    """Nominal 95 % intervals of loss and components over 12 configurations and 12 seeds each: the demand is 92 to 98 %."""
    shares = []
    for number in range(12):
        rng = np.random.default_rng([31, number])
        rank = 1 + number % 2
        params = rng.uniform(-1.5, 1.5, (3, rank))
        teacher = op.Gaussian(np.zeros(rank)) if family == "single" else op.GaussianMixture(*draw_mixture(rng, rank))
        truth = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-8)).estimate(params)
        for seed in range(12):
            found = op.ScoreMatching(teacher, rule=kind(2048, rng=100 * number + seed)).estimate(params)
            if found.reliable:
                (low, high), (below, above) = found.interval(0.95)
                shares.append(np.mean([low <= truth.value <= high, *((below <= truth.grad) & (truth.grad <= above)).ravel()]))
    assert len(shares) > 0.7 * 12 * 12
    # components of one draw go together: their share scatters at most as one draw does. A coverage at an end of [0.92, 0.98] passes
    # but for one in a million
    low, high = (binom.ppf(level, len(shares), end) / len(shares) for level, end in ((1e-6, 0.92), (1 - 1e-6, 0.98)))
    assert low <= np.mean(shares) <= high


def test_unreliable_samples_say_so():
    """Means 10 apart: the far one's weight is carried by a handful of draws, and its interval is worth nothing."""
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(16_000, rng=0)).estimate([[0.0], [10.0]])
    assert not found.reliable and found.effective_samples[1] < 100 < found.effective_samples[0]
    again = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(1600, rng=0)).estimate([[1e150], [-1e150]])
    assert not again.reliable and again.value_error == np.inf  # rounding of the logits is the floor of the standard error


def test_bounds_come_in_parts():
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(40, half_width=5.0)).estimate([[2.0], [-1.0]])
    parts = found.bounds
    assert_allclose(parts.total.value, parts.discretisation.value + parts.truncation.value + parts.rounding.value)
    assert parts.truncation.value > 1e3 * parts.rounding.value  # a half-width of 5 leaves 1e-6
    finer = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(80, half_width=5.0)).estimate([[2.0], [-1.0]]).bounds
    assert finer.discretisation.value < 1e-3 * parts.discretisation.value  # halving the step does not see the edge
    assert_allclose(finer.truncation.value, parts.truncation.value, rtol=1e-6)
    relative = parts.relative(found.value, found.grad)
    assert_allclose(relative.total.grad * np.linalg.norm(found.grad, axis=1), found.grad_error)


@pytest.mark.parametrize(("orders", "half_width"), [(2, 1.0), (3, 10.0), (3, 100.0), (2, 30.0), (4, 0.1)])
def test_even_absurd_trapezoids_keep_their_bounds(orders, half_width):
    """Three nodes ten apart have weights of sum 4: the bound must know that, and be finite."""
    params = np.array([[2.0], [-1.0], [5.0]])
    truth = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-12)).estimate(params)
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(orders, half_width=half_width)).estimate(params)
    assert abs(found.value - truth.value) <= found.value_error < np.inf
    assert (np.linalg.norm(found.grad - truth.grad, axis=1) <= found.grad_error).all() and np.isfinite(found.grad_error).all()


def test_a_sample_that_sees_no_far_mean_is_not_reliable():
    """No point lies where the far means have weight: losses and rows of exactly 0 would not be a finding."""
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Sobol(4096, rng=0)).estimate([[0.0], [60.0], [-60.0]])
    assert found.value == 0 and not found.reliable


@pytest.mark.parametrize("far", [60.0, 74.0])
def test_auto_certifies_far_means_on_both_sides(far):
    """Spreads of 148: the loss is e^{-r^2/8} small and has its law, with a relative bound."""
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9)).estimate([[0.0], [far], [-far]])
    law = 2 * np.sqrt(np.pi / 8) * far * np.exp(-(far**2) / 8)
    assert found.bounds is not None and found.value_error <= 1e-9 * found.value
    assert abs(found.value / law - 1) < 5 / far**2  # the next order is pi^2 / (2 r^2)
