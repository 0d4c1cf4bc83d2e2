"""What benchmarks/fuzz.py found: arguments that got a traceback from deep down, a warning or NaN, and get an error or a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam._softmax import responsibilities
from overparam._validation import check_choice, check_positive

RUN = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[1.0], [0.5]], step_size=0.1, steps=20)
HUGE = np.full((2, 2, 2), 1e300)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: op.regimes.classify(3), "traj must be an overparam.Trajectory"),
    (lambda: op.regimes.count("text", [0.0]), "traj must be an overparam.Trajectory"),
    (lambda: op.regimes.distances(op.Gaussian([0.0]), [0.0]), "traj must be an overparam.Trajectory"),
    (lambda: op.plotting.loss([1.0]), "traj must be an overparam.Trajectory"),
    (lambda: RUN.joined(3), "other must be an overparam.Trajectory"),
    (lambda: op.regimes.outward_speed("text"), "radius must hold real numbers"),
    (lambda: op.regimes.outward_speed(np.ones(3), np.ones(2)), "radius and weight must have shapes that fit"),
    (lambda: op.regimes.outward_speed(3.0, 2.0), "weight must hold mixture weights"),
    (lambda: op.rates.compare(RUN, "text"), "law must give one loss"),
    (lambda: op.rates.compare(RUN, 10**400), "law must give one loss"),
    (lambda: op.adam(RUN.objective, [[1.0]], step_size=len, steps=3), r"step_size\(0\) failed: TypeError"),
    (lambda: op.theory.get(np.zeros(0)), "theorem .* is not known"),
    (lambda: op.Gaussian([0.0]).at_time([[1.0], [2.0, 3.0]]), "t must be one real number"),
    (lambda: op.Gaussian([0.0]).sample(2**64), "n must be a whole number"),
    (lambda: op.DataSet([[0.0]]).draw(2**64), "n must be a whole number"),
    (lambda: op.DataSet([[0.0]]).at_time(1.0, draws=10**400), "draws must be a whole number"),
    (lambda: op.init.cluster(2**64, [0.0], 1.0), "n must be a whole number"),
    (lambda: op.init.small_gaussian(2, 2, 1.0, complex=np.zeros(2)), "complex must be True or False"),
    (lambda: RUN.objective.with_weights("text"), "weights must hold real numbers"),
    (lambda: RUN.objective.with_weights([2.0, -1.0]), "weights must not be negative"),
    (lambda: op.config.loads(3), "text must be TOML text"),
    (lambda: op.gradient_descent(RUN.objective, [[1.0]], step_size=0.1, steps=1, precondition=np.ones(2)), "precondition must be None or"),
    (lambda: op.GaussHermite(op.State.of([[1.0]])), "orders must be a whole number"),
    (lambda: op.sgd(RUN.objective, [[1.0]], step_size=0.1, steps=1, batch_size=2**64), "batch_size must be a whole number"),
    (lambda: op.factors.product([[1.0], [2.0, 3.0]]), "params is not a rectangular array"),
    (lambda: RUN.objective.score([[1.0], [2.0, 3.0]], [[1.0]]), "x is not a rectangular array"),
    (lambda: op.Trajectory(**{**vars(RUN), "steps": np.array([1j] * len(RUN))}), "steps must be an array of real numbers"),
    (lambda: op.Trajectory(**{**vars(RUN), "loss": type}), "loss must be an array of real numbers"),
])
def test_the_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", [name for name in op.factors.__all__ if name != "determinant_sign"])
def test_factors_beyond_the_range(name):
    try:
        found = getattr(op.factors, name)(HUGE)
    except ValueError as error:
        assert "params" in str(error)
    else:
        assert np.isfinite(found).all()


@pytest.mark.parametrize(("objective", "params"), [
    (op.ReLUNeuron([1e300, 1.0]), [[1.0, 0.0]]), (op.MatrixFactorization(np.eye(2), depth=2), HUGE),
    (op.ScoreMatching(op.Gaussian([0.0])), [[1e300]])])
@pytest.mark.parametrize("asked", ["value", "grad", "value_and_grad", "estimate", "hessian"])
def test_overflow_is_said_by_all_alike(objective, params, asked):
    with pytest.raises(ValueError, match="overflows at these params"):
        getattr(objective, asked)(params)


def test_a_hessian_product_of_any_length():
    obj, params = op.MatrixFactorization(np.eye(2), depth=2), np.stack([np.eye(2), 2 * np.eye(2)])
    direction = np.arange(8.0).reshape(2, 2, 2)
    for size in (5e-324, 1e-300, 1e250):
        with np.errstate(under="ignore"):
            whole = direction / 7 * size
        assert_allclose(obj.hvp(params, whole), obj.hvp(params, direction / 7) * size, rtol=1e-6, atol=max(1e-10 * size, 1e-322))
    with pytest.raises(ValueError, match="overflows"):
        obj.hvp(params, np.full((2, 2, 2), 1e308))


def test_responsibilities_beyond_squares():
    """Of the nearest mean, 1; of two that are alike, 1/2; where differences are float64 numbers, as without the far mean."""
    means, equal = np.array([[0.0, 0.0], [1.0, 0.0], [1e200, 1e200]]), np.full(3, 1 / 3)
    points = np.array([[0.5, 3.0], [0.0, -2.0], [1e200, 1e200], [-1e300, 0.0], [1e200, 0.0]])
    found = responsibilities(points, means, equal)
    near = responsibilities(points[:2], means[:2], np.full(2, 0.5))
    assert_allclose(found[:2], np.column_stack([near, np.zeros(2)]), rtol=1e-12)
    assert_array_equal(found[2], [0, 0, 1])
    assert_array_equal(found[3], [1, 0, 0])
    assert_allclose(found.sum(axis=1), 1)
    assert_array_equal(responsibilities(points, np.full((2, 2), 1e300), np.full(2, 0.5)), np.full((5, 2), 0.5))


def test_errors_beyond_the_range_are_infinite_and_not_reliable():
    for rule, last in ((op.GaussHermite(7), 1e300), (op.Stratified(64, rng=0), 1e150)):
        found = op.KLDivergence(op.Gaussian([-0.98]), rule=rule).estimate([[-22.4], [69.1], [last]])
        assert not np.isnan(found.value_error) and not np.isnan(found.grad_error).any()
        assert found.reliable is False or np.isfinite(found.value_error)


def test_denormal_spreads_have_axes():
    state = op.State(np.zeros(2), [[-5e-324, 0.0], [5e-324, 0.0], [0.0, 5e-324]])
    assert math.isfinite(op.ScoreMatching(op.Gaussian([1.0, 2.0]), rule=op.GaussHermite(2)).value(state))


def test_speeds_far_out_are_0():
    assert_array_equal(op.regimes.outward_speed([1e200, np.float64(1e3)]), 0.0)


def test_masked_and_foreign_words():
    with pytest.raises(ValueError, match="x must be one real number"):
        check_positive(np.ma.masked, "x")
    for value in (np.array(["a", "b"]), [], {}, None):
        with pytest.raises(ValueError, match="is not known"):
            check_choice(value, "x", ("a", "b"))


def test_intervals_of_stacks_of_matrices():
    obj, params = op.MatrixFactorization(np.diag([1.0, 1j]), depth=2), np.full((2, 2, 2), 0.5 + 0.25j)
    found = obj.estimate(params)
    (low, high), (below, above) = found.interval()
    assert low <= found.value <= high and below.shape == params.shape
    widths = np.repeat(2 * found.grad_error, 2)
    assert_allclose((above - below).real.ravel(), widths, atol=1e-15)
    assert_allclose((above - below).imag.ravel(), widths, atol=1e-15)


@pytest.mark.parametrize("orders", [[[3], [2, 3]], [object()], "text", np.ones((2, 2)), [2.5]])
def test_orders(orders):
    with pytest.raises(ValueError, match="orders"):
        op.Trapezoid(orders)


def test_a_batch_whose_squares_overflow():
    obj = op.TimeAveraged(op.Gaussian([1e85, 0.0]), [0.1, 1.0], [0.5, 0.5])
    with np.errstate(over="ignore", invalid="ignore"):
        found = obj.minibatch(np.array([[1e8, 1.0]]), 4, np.random.default_rng(0), errors=True)
    assert found.value > 1e165 and found.value_error == np.inf


def test_far_starts_of_the_reverse_divergence_end_at_once():
    """More nodes than allowed are counted, not made."""
    obj = op.ReverseFisher(op.Gaussian([5.76e79]), rule=op.GaussHermite(7))
    assert obj.value([[-7.7e149], [-1.8e150], [1.1e150]]) > 1e297
    with pytest.raises(op.TooHardError, match="nodes"):
        op.ReverseFisher(op.GaussianMixture([[-1e141], [0.0]]), rule=op.Auto(1e-6)).value([[0.0], [1.0]])


def test_a_lattice_of_no_width():
    state = np.random.default_rng(0).normal(size=(2, 3)) * 1e16
    for rule in (op.Trapezoid(9, half_width=1e-300), op.Trapezoid(3, half_width=1e-160)):
        for kind in (op.ReverseFisher, op.ScoreMatching):
            try:
                found = kind(op.GaussianMixture(np.eye(3)), rule=rule).estimate(state)
            except ValueError as error:
                assert "params" in str(error)
            else:
                assert not np.isnan(found.value_error)


def test_flows_of_no_time():
    run = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[1.0]], t_end=5e-324)
    assert run.times[-1] == 5e-324 and run.status == "completed"


def test_modes_beside_means_far_apart():
    """The Hessian's identity is rounded away; any point serves."""
    obj = op.ScoreMatching(op.Gaussian(np.zeros(2)), rule=op.Auto(1e-6, max_nodes=300))
    rng = np.random.default_rng(0)
    for size in (1e8, 1e10, 1e16):
        found = obj.estimate(size * rng.normal(size=(5, 2)))
        assert np.isfinite(found.value) and not np.isnan(found.value_error)

