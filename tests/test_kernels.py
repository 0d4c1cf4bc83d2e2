"""The compiled kernels against their NumPy twins, against mpmath, and against themselves on every instruction set."""

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtri

from overparam import _reference as twin
from overparam._core import cpu, descent, sampling
from overparam._core.score_matching import Evaluator

# Kernel and twin round differently: logits of size l carry l * 2e-16 into the weights, sums of N terms sqrt(N) times
# that. With the sizes used here l < 100 and N < 3000, so errors stay near 1e-13 of the largest entry.
ROUNDING = 1e-12


def problem(n, k, nodes, *, scale=1.0, constant=False, equal=False, zero=False, rng=0):
    """A random measure (weights of both signs) and a student, in the twin's layout."""
    rng = np.random.default_rng([n, k, nodes, rng])
    x, q = rng.normal(size=(nodes, k)), rng.normal(size=nodes)
    target = rng.normal(size=k if constant else (nodes, k))
    weights = np.full(n, 1 / n) if equal else rng.dirichlet(np.ones(n))
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.where(zero & (np.arange(n) == n // 2), 0.0, weights))
    return x, q, target, rng.normal(size=k), scale * rng.normal(size=(n, k)), log_weights


def explicit(x, q, target, log_weights):
    """The evaluator of a measure in the twin's layout."""
    target = target.reshape(-1, x.shape[1])
    return Evaluator.from_nodes(np.ascontiguousarray(x.T), q, np.ascontiguousarray(target.T), log_weights)


def evaluate(evaluator, centre, deviations, form=1):
    mean_row, rows = np.full(evaluator.k, 7.0), np.full((evaluator.n, evaluator.k), 7.0)
    value = evaluator.evaluate(centre, deviations, form, mean_row, rows)
    return value, mean_row, rows


def majorants(evaluator, centre, deviations):
    out = np.empty((3, evaluator.n))
    return *out, evaluator.majorants(centre, deviations, *out)


def stein(evaluator, params):
    rows = np.empty_like(params)
    return evaluator.evaluate_stein(params, rows), rows


def trapezoid(orders, half_width=9.0):
    """Axis nodes and weights of a tensor trapezoid rule for the standard normal."""
    axes = [np.linspace(-half_width, half_width, order) if order > 1 else np.zeros(1) for order in orders]
    weights = [np.exp(-0.5 * axis**2) / np.exp(-0.5 * axis**2).sum() for axis in axes]
    return axes, weights


def multiplied_out(axes, weights):
    x = np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")], axis=1)
    q = np.ones(1)
    for weight in weights:
        q = np.multiply.outer(q, weight)
    return x, q.ravel()


def tensor(axes, weights, target, log_weights):
    orders = np.array([len(axis) for axis in axes], dtype=np.intp)
    return Evaluator.from_tensor(np.concatenate(axes), np.concatenate(weights), orders, target, log_weights)


def close(actual, desired, rtol=ROUNDING):
    """Relative to the largest entry: single entries of a gradient can be 0 by symmetry."""
    assert_allclose(actual, desired, rtol=0, atol=rtol * np.max(np.abs(desired)))


SIZES = [
    # n = 1, N = 1, a node count that is no multiple of a vector, every specialised rank, generic ranks up to 20
    *[(1, 1, 1), (2, 1, 8), (5, 1, 130), (1, 3, 9), (7, 2, 65), (5, 3, 13), (5, 3, 576), (6, 3, 1000)],
    *[(3, 4, 9), (4, 5, 33), (9, 6, 40), (8, 7, 24), (50, 10, 300), (200, 20, 100), (65, 2, 40), (64, 1, 17)],
]


class TestTwin:
    """Scale 1e-4 is in the small regime, where weights are formed as differences from the prior; 3 is not."""

    @pytest.mark.parametrize(("n", "k", "nodes"), SIZES)
    @pytest.mark.parametrize("scale", [3.0, 1e-4])
    @pytest.mark.parametrize("constant", [True, False])
    @pytest.mark.parametrize("prior", ["equal", "unequal", "zero"])
    def test_explicit_nodes(self, n, k, nodes, scale, constant, prior):
        if prior == "zero" and n == 1:
            pytest.skip("a single parameter has weight 1")
        x, q, t, c, delta, log_weights = problem(
            n, k, nodes, scale=scale / np.sqrt(k), constant=constant, equal=prior == "equal", zero=prior == "zero"
        )
        evaluator = explicit(x, q, t, log_weights)
        assert (evaluator.n, evaluator.k, evaluator.nodes) == (n, k, nodes)
        value, grad = twin.score_matching(x, q, t, c + delta, log_weights)
        # the value is a sum of both signs: its rounding is relative to the sum of absolute values
        size = twin.score_matching(x, np.abs(q), t, c + delta, log_weights)[0]
        got, mean_row, rows = evaluate(evaluator, c, delta)
        assert_allclose(got, value, rtol=0, atol=ROUNDING * size)
        close(rows, grad)
        assert_allclose(mean_row, grad.mean(axis=0), rtol=0, atol=ROUNDING * np.abs(grad).max())
        assert evaluator.evaluate(c, delta, 0, None, None) == got
        got, mean_row, rows = evaluate(evaluator, c, delta, 2)
        _, mean, deviations = twin.deviation_rows(x, q, t, c, delta, log_weights)
        assert_allclose(mean_row, mean, rtol=0, atol=ROUNDING * np.abs(grad).max())
        assert_allclose(rows, deviations, rtol=0, atol=ROUNDING * np.abs(grad).max())
        for ours, theirs in zip(majorants(evaluator, c, delta), twin.majorants(x, q, t, c + delta, log_weights)):
            # distances |mu_i - mu_j| of 1e-4 are formed by the twin from parameters of size 1: 1e-12 of their size
            close(ours, theirs, 1e-11)
        if constant:
            value, grad = twin.score_matching_stein(x, q, t, c + delta, log_weights)
            got, rows = stein(evaluator, c + delta)
            assert_allclose(got, value, rtol=0, atol=ROUNDING * size)
            close(rows, grad)

    @pytest.mark.parametrize("orders", [(5,), (130,), (4, 60), (64, 3), (64, 3, 3), (3, 65, 3), (20, 9, 14), (5, 6, 7, 8), (49, 2, 1, 40)])
    @pytest.mark.parametrize("scale", [3.0, 1e-4, 30.0])
    @pytest.mark.parametrize("zero", [True, False])
    def test_tensor_is_explicit_nodes(self, orders, scale, zero):
        """Factors and streamed axes against all nodes multiplied out. Scale 30 is beyond the range of the factors."""
        k, n = len(orders), 5
        axes, weights = trapezoid(orders, 4.0)
        x, q = multiplied_out(axes, weights)
        _, _, t, c, delta, log_weights = problem(n, k, 3, scale=scale, constant=True, zero=zero)
        one, other = tensor(axes, weights, t, log_weights), explicit(x, q, t, log_weights)
        assert one.nodes == len(q)
        # at scale 30 logits reach 1e4, and a difference of two of them 1e-12; the twin would round in absolute
        # coordinates on top of that, so the two kernels are compared
        rtol = 1e-11 if scale == 30.0 else ROUNDING
        for form in (1, 2):
            for ours, theirs in zip(evaluate(one, c, delta, form), evaluate(other, c, delta, form)):
                close(ours, theirs, rtol)
        for ours, theirs in zip(majorants(one, c, delta), majorants(other, c, delta)):
            close(ours, theirs, rtol)
        for ours, theirs in zip(stein(one, c + delta), stein(other, c + delta)):
            close(ours, theirs, 10 * rtol)  # fourth powers of the parameters

    def test_many_outer_nodes(self):
        """More outer nodes than one slab holds, and not a multiple of it."""
        axes, weights = trapezoid((50, 11, 13), 4.0)
        x, q = multiplied_out(axes, weights)
        _, _, t, c, delta, log_weights = problem(4, 3, 3, constant=True)
        value, grad = twin.score_matching(x, q, t, c + delta, log_weights)
        got, _, rows = evaluate(tensor(axes, weights, t, log_weights), c, delta)
        assert_allclose(got, value, rtol=ROUNDING)
        close(rows, grad)


class TestMathematics:
    @pytest.mark.parametrize(("n", "orders"), [(5, (96,)), (4, (64, 64)), (3, (52, 52, 52))])
    def test_pathwise_is_stein(self, n, orders):
        """In expectation, hence on a rule that is exact to rounding: step 0.35 and spreads below 1.6 leave
        exp(-2 pi^2/(1.6 * 0.35)) = 5e-16, the half-width 9 leaves 2e-19."""
        rng = np.random.default_rng(3)
        k = len(orders)
        delta, c = rng.uniform(-0.8, 0.8, size=(n, k)), rng.normal(size=k)
        evaluator = tensor(*trapezoid(orders), np.zeros(k), np.log(rng.dirichlet(np.ones(n))))
        value, _, rows = evaluate(evaluator, c, delta)
        stein_value, stein_rows = stein(evaluator, c + delta)
        assert_allclose(stein_value, value, rtol=1e-12)
        close(stein_rows, rows, 1e-12)

    @pytest.mark.parametrize(("n", "k"), [(2, 1), (5, 3), (6, 5)])
    def test_gradient_is_the_derivative(self, n, k):
        x, q, t, c, delta, log_weights = problem(n, k, 40)
        evaluator = explicit(x, np.abs(q), t, log_weights)
        _, mean_row, rows = evaluate(evaluator, c, delta)
        h = 1e-3  # sixth-order differences: truncation about h^6 = 1e-18 times derivatives, rounding 1e-15/h = 1e-12

        def derivative(value):
            return sum(w * (value(s * h) - value(-s * h)) for s, w in [(1, 0.75), (2, -0.15), (3, 1 / 60)]) / h

        for i, a in itertools.product(range(n), range(k)):
            unit = np.zeros((n, k))
            unit[i, a] = 1.0
            slope = derivative(lambda s, unit=unit: evaluator.evaluate(c, delta + s * unit, 0, None, None))
            assert_allclose(rows[i, a], slope, rtol=0, atol=1e-10 * np.abs(rows).max())
        for a in range(k):  # the centre moves all parameters
            slope = derivative(lambda s, a=a: evaluator.evaluate(c + s * np.eye(k)[a], delta, 0, None, None))
            assert_allclose(n * mean_row[a], slope, rtol=0, atol=1e-10 * n * np.abs(rows).max())

    def test_permutations(self):
        x, q, t, c, delta, log_weights = problem(6, 3, 50)
        order = np.array([3, 0, 5, 1, 4, 2])
        value, _, rows = evaluate(explicit(x, q, t, log_weights), c, delta)
        permuted, _, permuted_rows = evaluate(explicit(x, q, t, log_weights[order]), c, delta[order])
        assert_allclose(permuted, value, rtol=ROUNDING)
        close(permuted_rows, rows[order])

    def test_split_between_centre_and_deviations_does_not_matter(self):
        x, q, t, c, delta, log_weights = problem(5, 2, 50)
        evaluator = explicit(x, q, t, log_weights)
        value, _, rows = evaluate(evaluator, c, delta)
        moved, _, moved_rows = evaluate(evaluator, np.zeros(2), c + delta)
        assert_allclose(moved, value, rtol=ROUNDING)
        close(moved_rows, rows)

    def test_the_small_regime_is_continuous(self):
        """On both sides of its border the same formula: rows at scales 2 % apart differ by a few per cent at most,
        and each agrees with the twin. (c + delta loses 1e-16 / 1e-2 of the deviations in the twin.)"""
        x, q, t, c, delta, log_weights = problem(5, 3, 50, equal=True)
        evaluator = explicit(x, np.abs(q), t, log_weights)
        for scale in np.geomspace(5e-3, 5e-2, 60):
            _, _, rows = evaluate(evaluator, c, scale * delta, 2)
            close(rows, twin.deviation_rows(x, np.abs(q), t, c, scale * delta, log_weights)[2], 1e-12)


def exact_deviation_rows(x, q, target, centre, deviations):
    """Mean row and rows minus mean of an equal-weight student on the same finite rule, in mpmath."""
    n, k = deviations.shape
    smallest = np.abs(deviations[deviations != 0]).min()
    mpmath.mp.dps = 60 + int(2 * max(0.0, -np.log10(smallest)))  # the second order must not drown in the first
    exact = np.vectorize(mpmath.mpf, otypes=[object])
    mu, t = exact(centre) + exact(deviations), exact(target)
    rows = exact(np.zeros((n, k)))
    for node, weight in zip(exact(x), exact(q)):
        densities = [mpmath.exp(mu_i @ node - (mu_i @ mu_i) / 2) for mu_i in mu]
        w = np.array([density / mpmath.fsum(densities) for density in densities])
        v = w @ mu
        for i in range(n):
            rows[i] += 2 * weight * w[i] * (v - t + ((mu[i] - v) @ (v - t)) * (node - mu[i]))
    mean = rows.sum(axis=0) / n
    return mean, rows - mean


@pytest.fixture
def precision():
    before = mpmath.mp.dps
    yield
    mpmath.mp.dps = before


@pytest.mark.usefixtures("precision")
class TestTinyDeviations:
    @pytest.mark.parametrize("scale", [1e-2, 1e-7, 1e-100, 1e-300])
    @pytest.mark.parametrize("build", ["tensor", "explicit"])
    def test_rows_keep_their_relative_accuracy(self, scale, build):
        """1e-13: some 200 nodes, each with a few roundings, in rows that lose about one digit to cancellation."""
        deviations = scale * np.random.default_rng(5).normal(size=(5, 3))
        centre, target, log_weights = np.array([6.0, 0.0, 0.0]), np.zeros(3), np.full(5, -np.log(5))
        axes, weights = trapezoid((51, 2, 2), 6.0)
        x, q = multiplied_out(axes, weights)
        mean, exact = exact_deviation_rows(x, q, target, centre, deviations)
        make = tensor(axes, weights, target, log_weights) if build == "tensor" else explicit(x, q, target, log_weights)
        _, mean_row, rows = evaluate(make, centre, deviations, 2)
        assert_allclose(mean_row, mean.astype(float), rtol=0, atol=1e-13 * float(max(abs(mean))))
        errors, sizes = rows - exact, np.sqrt((exact**2).sum(axis=1))
        assert max(np.abs((errors / sizes[:, None]).astype(float)).ravel()) < 1e-13

    @pytest.mark.parametrize("scale", [1e-2, 1e-7, 1e-100])
    def test_around_the_target(self, scale):
        """With centre = target even u is of second order, and every row of third (far below float64 at 1e-300)."""
        deviations = scale * np.random.default_rng(6).normal(size=(4, 2))
        deviations -= deviations.mean(axis=0)
        axes, weights = trapezoid((20, 19), 6.0)
        x, q = multiplied_out(axes, weights)
        mean, exact = exact_deviation_rows(x, q, np.zeros(2), np.zeros(2), deviations)
        evaluator = tensor(axes, weights, np.zeros(2), np.full(4, -np.log(4)))
        _, mean_row, rows = evaluate(evaluator, np.zeros(2), deviations, 2)
        # Rows are sums over x of terms of size scale^2 that cancel to scale^3, and at rounding level stay scale^2.
        mean, exact = mean.astype(float), exact.astype(float)
        assert_allclose(rows, exact, rtol=0, atol=1e-13 * np.abs(exact).max() + 1e-15 * scale**2)
        assert_allclose(mean_row, mean, rtol=0, atol=1e-13 * np.abs(mean).max() + 1e-15 * scale**2)

    def test_coincident_parameters_stay_together(self):
        x, q, t, c, _, log_weights = problem(5, 3, 40, equal=True)
        _, mean_row, rows = evaluate(explicit(x, q, t, log_weights), c, np.zeros((5, 3)), 2)
        assert_array_equal(rows, 0.0)
        assert np.all(mean_row != 0.0)

    def test_majorants_do_not_underflow(self):
        x, q, t, c, delta, log_weights = problem(5, 2, 40, equal=True)
        evaluator = explicit(x, q, t, log_weights)
        _, B, C, _ = majorants(evaluator, c, 1e-3 * delta)
        _, tiny_B, tiny_C, _ = majorants(evaluator, c, 1e-300 * delta)
        # linear in the spread up to its relative size
        assert_allclose(tiny_B * 1e297, B, rtol=0.05)
        assert_allclose(tiny_C * 1e297, C, rtol=0.05)


class TestExtremes:
    @pytest.mark.parametrize("scale", [1e3, 1e12, 1e60])
    @pytest.mark.parametrize("build", ["tensor", "explicit"])
    def test_separations(self, scale, build):
        _, _, t, c, delta, log_weights = problem(5, 3, 3, constant=True, zero=True)
        axes, weights = trapezoid((64, 3, 3))
        x, q = multiplied_out(axes, weights)
        make = tensor(axes, weights, t, log_weights) if build == "tensor" else explicit(x, q, t, log_weights)
        for form in (1, 2):
            value, mean_row, rows = evaluate(make, c, scale * delta, form)
            assert np.isfinite(value)
            assert np.all(np.isfinite(mean_row))
            assert np.all(np.isfinite(rows))
        assert np.all(np.isfinite(np.hstack(majorants(make, c, scale * delta))))

    @pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-14])
    def test_distant_centre(self, scale):
        x, q, t, c, delta, log_weights = problem(5, 3, 40, equal=True)
        value, mean_row, rows = evaluate(explicit(x, q, t, log_weights), 1e12 * c, scale * delta, 2)
        assert np.isfinite(value)
        assert np.all(np.isfinite(mean_row))
        assert np.all(np.isfinite(rows))

    def test_a_far_parameter_is_frozen(self):
        """Its weight is below exp(-600) at every node and counts as 0: nothing of it is left in any row."""
        axes, weights = trapezoid((40,))
        evaluator = tensor(axes, weights, np.zeros(1), np.log([0.5, 0.5]))
        value, _, rows = evaluate(evaluator, np.zeros(1), np.array([[0.5], [1e9]]))
        assert_allclose(value, 0.25, rtol=1e-14)
        assert_array_equal(rows[1], 0.0)

    @pytest.mark.parametrize("where", ["nodes", "weights", "target", "log_weights", "centre", "deviations"])
    @pytest.mark.parametrize("scale", [1.0, 1e-5])
    def test_nan_comes_out(self, where, scale):
        for n, k, count in [(5, 3, 21), (4, 5, 9), (2, 1, 8)]:
            x, q, t, c, delta, log_weights = problem(n, k, count, scale=scale)
            names = ["nodes", "weights", "target", "centre", "deviations", "log_weights"]
            broken = dict(zip(names, (x, q, t, c, delta, log_weights)))[where]
            broken.flat[broken.size // 2] = np.nan
            value, mean_row, rows = evaluate(explicit(x, q, t, log_weights), c, delta)
            assert np.isnan(value)
            assert np.isnan(rows).any()
            assert np.isnan(mean_row).any()

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("scale", [1.0, 1e-5])
    def test_nan_comes_out_of_tensors(self, axis, scale):
        _, _, t, c, delta, log_weights = problem(4, 3, 3, constant=True, scale=scale)
        axes, weights = trapezoid((50, 4, 5))
        broken = delta.copy()
        broken[2, axis] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), c, broken)[0])
        broken = c.copy()
        broken[axis] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), broken, delta)[0])
        axes[axis][1] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), c, delta)[0])

    def test_nan_passes_where_the_argument_of_exp_is_clamped(self):
        x, q, t, c, delta, log_weights = problem(3, 1, 9)
        delta[0], delta[1] = 1e8, np.nan
        assert np.isnan(evaluate(explicit(x, q, t, log_weights), c, delta)[0])


class TestBoundary:
    def test_read_only_inputs(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        arrays = [np.ascontiguousarray(x.T), q, np.ascontiguousarray(t.T), log_weights]
        for array in [*arrays, c, delta]:
            array.setflags(write=False)
        value = Evaluator.from_nodes(*arrays).evaluate(c, delta, 0, None, None)
        assert_allclose(value, twin.score_matching(x, q, t, c + delta, log_weights)[0], rtol=1e-10)
        orders = np.array([4, 3])
        flat = [np.arange(7.0), np.ones(7), orders, np.zeros(2), log_weights]
        for array in flat:
            array.setflags(write=False)
        assert Evaluator.from_tensor(*flat).nodes == 12

    def test_inputs_are_copied(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        evaluator = explicit(x, q, t, log_weights)
        before = evaluate(evaluator, c, delta)[0]
        for array in (q, log_weights):
            array[:] = np.nan
        assert evaluate(evaluator, c, delta)[0] == before

    @pytest.mark.parametrize(
        ("nodes", "weights", "target", "log_weights"),
        [
            ((3, 8), 7, (3, 8), 5),
            ((3, 8), 8, (3, 7), 5),
            ((3, 8), 8, (2, 8), 5),
            ((3, 8), 8, (2, 1), 5),
            ((3, 0), 0, (3, 1), 5),
            ((0, 8), 8, (0, 8), 5),
            ((3, 8), 8, (3, 8), 0),
        ],
    )
    def test_shapes_of_nodes(self, nodes, weights, target, log_weights):
        with pytest.raises(ValueError):
            Evaluator.from_nodes(np.ones(nodes), np.ones(weights), np.ones(target), np.ones(log_weights))

    @pytest.mark.parametrize(
        ("nodes", "weights", "orders", "target", "log_weights"),
        [
            (7, 7, [4, 4], 2, 5),
            (7, 6, [4, 3], 2, 5),
            (6, 7, [4, 3], 2, 5),
            (7, 7, [7, 0], 2, 5),
            (7, 7, [8, -1], 2, 5),
            (7, 7, [4, 3], 3, 5),
            (7, 7, [4, 3], 2, 0),
            (0, 0, [], 0, 5),
        ],
    )
    def test_shapes_of_tensors(self, nodes, weights, orders, target, log_weights):
        with pytest.raises(ValueError):
            Evaluator.from_tensor(np.ones(nodes), np.ones(weights), np.array(orders, dtype=np.intp), np.ones(target), np.ones(log_weights))

    def test_shapes_of_evaluate(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40, constant=True)
        evaluator = explicit(x, q, t, log_weights)
        mean_row, rows, vector = np.empty(3), np.empty((5, 3)), np.empty(5)
        for module_call in (evaluator.evaluate, lambda *args: descent.evaluate(evaluator.capsule, *args)):
            for args in [
                (c[:2], delta, 1, mean_row, rows),
                (c, delta[:4], 1, mean_row, rows),
                (c, np.ones((5, 2)), 1, mean_row, rows),
                (c, delta, 1, mean_row[:2], rows),
                (c, delta, 1, mean_row, rows[:4]),
                (c, delta, 1, None, rows),
                (c, delta, 2, mean_row, None),
                (c, delta, 3, mean_row, rows),
                (c, delta, -1, mean_row, rows),
            ]:
                with pytest.raises(ValueError):
                    module_call(*args)
        for args in [(delta[:4], rows), (delta, rows[:4])]:
            with pytest.raises(ValueError):
                evaluator.evaluate_stein(*args)
        for args in [(c[:2], delta, vector, vector, vector), (c, delta, vector, vector[:4], vector)]:
            with pytest.raises(ValueError):
                evaluator.majorants(*args)

    def test_none_is_no_array(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        evaluator = explicit(x, q, t, log_weights)
        for call in [
            lambda: evaluator.evaluate(None, delta, 0, None, None),
            lambda: evaluator.evaluate(c, None, 0, None, None),
            lambda: evaluator.majorants(c, delta, None, None, None),
            lambda: evaluator.evaluate_stein(None, None),
            lambda: Evaluator.from_nodes(None, None, None, None),
            lambda: Evaluator.from_tensor(None, None, None, None, None),
        ]:
            with pytest.raises((TypeError, ValueError)):
                call()

    def test_stein_needs_a_constant_target(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        with pytest.raises(ValueError, match="constant target"):
            explicit(x, q, t, log_weights).evaluate_stein(c + delta, np.empty((5, 3)))

    def test_no_bare_construction(self):
        with pytest.raises(TypeError, match="from_nodes"):
            Evaluator()

    def test_a_capsule_keeps_its_evaluator_alive(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        expected = evaluate(explicit(x, q, t, log_weights), c, delta)[0]
        capsule = explicit(x, q, t, log_weights).capsule
        assert descent.evaluate(capsule, c, delta, 0, None, None) == expected

    def test_foreign_capsules_are_rejected(self):
        import datetime

        with pytest.raises(ValueError):
            descent.evaluate(datetime.datetime_CAPI, np.zeros(1), np.zeros((1, 1)), 0, None, None)


class TestThreads:
    def test_identical_results(self):
        """Results depend on the input alone: same bits from eight threads at once as from one."""
        axes, weights = trapezoid((64, 9, 9))
        evaluator = tensor(axes, weights, np.zeros(3), np.full(5, -np.log(5)))
        starts = [problem(5, 3, 1, rng=seed)[3:5] for seed in range(40)]
        alone = [evaluate(evaluator, *start) for start in starts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda start: evaluate(evaluator, *start), starts))
        for one, other in zip(alone, together):
            for ours, theirs in zip(one, other):
                assert_array_equal(ours, theirs)


PATH_SCRIPT = """
import json, sys
import numpy as np
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.score_matching import Evaluator

worst = 0.0
for n, k, nodes in [(5, 3, 100), (5, 1, 13), (4, 2, 40), (9, 7, 24), (70, 2, 17)]:
    for scale in (1.0, 1e-4):
        rng = np.random.default_rng([n, k, nodes])
        x, q, t = rng.normal(size=(nodes, k)), rng.random(nodes), rng.normal(size=k)
        c, delta, log_weights = rng.normal(size=k), scale * rng.normal(size=(n, k)), np.log(rng.dirichlet(np.ones(n)))
        orders = np.array([53, 5, 3][:k]) if k <= 3 else np.full(k, 2)
        flat, flat_weights = rng.normal(size=orders.sum()), rng.random(orders.sum())
        axes = np.split(flat, np.cumsum(orders)[:-1])
        grid = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
        grid_weights = np.ones(1)
        for weight in np.split(flat_weights, np.cumsum(orders)[:-1]):
            grid_weights = np.multiply.outer(grid_weights, weight).ravel()
        explicit = Evaluator.from_nodes(np.ascontiguousarray(x.T), q, t[:, None].copy(), log_weights)
        tensor = Evaluator.from_tensor(flat, flat_weights, orders, t, log_weights)
        for evaluator, where, how in [(explicit, x, q), (tensor, grid, grid_weights)]:
            def compare(ours, theirs):
                global worst
                worst = max(worst, float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))))
            mean_row, rows, ABC = np.empty(k), np.empty((n, k)), np.empty((3, n))
            value, grad = twin.score_matching(where, how, t, c + delta, log_weights)
            compare(evaluator.evaluate(c, delta, 1, mean_row, rows), value)
            compare(rows, grad)
            compare(mean_row, grad.mean(axis=0))
            compare(evaluator.evaluate_stein(c + delta, rows), value)
            compare(rows, twin.score_matching_stein(where, how, t, c + delta, log_weights)[1])
            U2 = evaluator.majorants(c, delta, *ABC)
            *exact, exact_U2 = twin.majorants(where, how, t, c + delta, log_weights)
            compare(ABC[0], exact[0])
            compare(U2, exact_U2)
json.dump({"worst": worst, **cpu.info()}, sys.stdout)
"""


def on_path(name, tmp_path):
    """Runs the script above in a fresh process, outside the clone."""
    run = subprocess.run(
        [sys.executable, "-c", PATH_SCRIPT],
        env={**os.environ, "OVERPARAM_KERNEL": name},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


class TestPaths:
    @pytest.mark.parametrize("name", cpu.info()["supported"])
    def test_every_path_is_the_twin(self, name, tmp_path):
        info = on_path(name, tmp_path)
        assert info["path"] == name
        assert "warning" not in info
        assert info["worst"] < ROUNDING

    def test_an_unknown_path_falls_back(self, tmp_path):
        info = on_path("vax", tmp_path)
        assert info["path"] == info["supported"][0]
        assert "vax" in info["warning"]

    def test_info(self):
        info = cpu.info()
        assert info["path"] in info["supported"]
        assert "portable" in info["supported"]
        assert all(isinstance(feature, str) for feature in info["features"])


def box(n, k, **changes):
    """Arguments of burst that never stop it."""
    wide = np.full(k, np.inf)
    limits = {
        "low": -wide,
        "high": wide,
        "spread_low": -wide,
        "spread_high": wide,
        "row_floor": np.zeros(n),
        "value_floor": -np.inf,
        "value_ceiling": np.inf,
    }
    return {**limits, **changes}


class TestBurst:
    def setup_method(self):
        # positive weights: descent on a bounded-below loss, and a well-conditioned trajectory
        x, q, self.target, self.c, self.delta, self.log_weights = problem(5, 3, 60, constant=True, equal=True)
        self.x, self.q = x, np.abs(q) / np.abs(q).sum()
        self.evaluator = explicit(self.x, self.q, self.target, self.log_weights)

    def burst(self, steps=1, moving=False, step_size=0.05, **changes):
        self.c, self.delta = self.c.copy(), self.delta.copy()
        return descent.burst(self.evaluator.capsule, self.c, self.delta, step_size, steps, moving, **box(5, 3, **changes))

    def value(self):
        return self.evaluator.evaluate(self.c, self.delta, 0, None, None)

    @pytest.mark.parametrize("moving", [False, True])
    def test_is_the_loop_of_the_twin(self, moving):
        params = self.c + self.delta
        centre = self.c
        expected = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 100)
        before_last = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 99)
        steps, reason, value = self.burst(100, moving)
        assert (steps, reason) == (100, descent.REASONS["done"])
        # 100 contracting steps add up to 100 roundings of 1e-15
        assert_allclose(self.c + self.delta, expected, rtol=0, atol=1e-12)
        last = twin.score_matching(self.x, self.q, self.target, before_last, self.log_weights)[0]
        assert_allclose(value, last, rtol=1e-11)
        assert np.array_equal(self.c, centre) != moving

    def test_bursts_concatenate(self):
        c, delta = self.c, self.delta
        self.burst(60, True)
        whole = self.c, self.delta
        self.c, self.delta = c, delta
        for steps in (1, 20, 39):
            self.burst(steps, True)
        assert_array_equal(self.c, whole[0])
        assert_array_equal(self.delta, whole[1])

    def test_no_steps(self):
        steps, reason, value = self.burst(0)
        assert (steps, reason) == (0, descent.REASONS["done"])
        assert np.isnan(value)

    @pytest.mark.parametrize("side", ["low", "high"])
    def test_leaves_the_box(self, side):
        """With a wall just where the first step crosses it, the state beyond and the last value inside come back."""
        params = self.c + self.delta
        after = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 1)
        before, then = (edge(axis=0) for edge in ((params.min, after.min) if side == "low" else (params.max, after.max)))
        outwards = before - then if side == "low" else then - before
        axis = int(np.argmax(outwards))
        if outwards[axis] <= 0:  # everything moves inwards on this side: push the other way
            self.target = self.target + (-50.0 if side == "low" else 50.0)
            self.evaluator = explicit(self.x, self.q, self.target, self.log_weights)
            axis = 0
        wall = np.full(3, -np.inf if side == "low" else np.inf)
        wall[axis] = before[axis] - 1e-9 if side == "low" else before[axis] + 1e-9
        value = self.value()
        assert self.burst(1000, **{side: wall}) == (1, descent.REASONS["left_box"], value)
        reached = self.c[axis] + self.delta[:, axis]
        assert reached.min() < wall[axis] if side == "low" else reached.max() > wall[axis]

    @pytest.mark.parametrize("bound", ["low", "high", "spread_low", "spread_high"])
    def test_starts_outside_the_box(self, bound):
        limit = np.full(3, np.inf if bound.endswith("low") else -np.inf)
        steps, reason, value = self.burst(10, **{bound: limit})
        assert (steps, reason) == (0, descent.REASONS["left_box"])
        assert np.isnan(value)

    def test_shrunk_value(self):
        floor = 0.9 * self.value()
        steps, reason, value = self.burst(1000, value_floor=floor)
        assert reason == descent.REASONS["shrunk"]
        assert 0 < steps < 1000
        assert value < floor
        assert value == self.value()  # no step was taken from there

    def test_shrunk_row(self):
        _, _, rows = evaluate(self.evaluator, self.c, self.delta)
        norms = np.linalg.norm(rows, axis=1)
        floor = np.zeros(5)
        floor[3] = norms[3] * (1 + 1e-12)
        before = self.delta
        assert self.burst(5, row_floor=floor)[:2] == (0, descent.REASONS["shrunk"])
        assert_array_equal(self.delta, before)
        floor[3] = norms[3] * (1 - 1e-12)
        assert self.burst(1, row_floor=floor)[:2] == (1, descent.REASONS["done"])

    def test_tiny_rows_are_not_zero(self):
        self.delta = 1e-300 * self.delta
        _, _, rows = evaluate(self.evaluator, self.c, self.delta, 2)
        floor = 0.5 * np.abs(rows).max(axis=1)
        assert self.burst(1, True, row_floor=floor)[:2] == (1, descent.REASONS["done"])
        assert self.burst(1, True, row_floor=10 * floor)[:2] == (0, descent.REASONS["shrunk"])

    def test_diverged(self):
        steps, reason, value = self.burst(5, value_ceiling=0.5 * self.value())
        assert (steps, reason) == (0, descent.REASONS["diverged"])
        assert value == self.value()

    def test_not_finite(self):
        before = self.delta.copy()
        steps, reason, _ = self.burst(5, step_size=np.inf)
        assert (steps, reason) == (0, descent.REASONS["not_finite"])
        assert_array_equal(self.delta, before)
        self.delta[0, 0] = np.nan
        assert self.burst(5)[:2] == (0, descent.REASONS["not_finite"])

    def test_wrong_shapes(self):
        for name in ("low", "high", "spread_low", "spread_high"):
            with pytest.raises(ValueError, match=name):
                self.burst(1, **{name: np.zeros(2)})
        with pytest.raises(ValueError, match="row_floor"):
            self.burst(1, row_floor=np.zeros(4))


class TestSampling:
    def test_stratified_normal(self):
        rng = np.random.default_rng(0)
        counts = np.array([4, 3])
        strata = np.stack([grid.ravel() for grid in np.meshgrid(range(4), range(3), indexing="ij")], axis=1)
        uniforms = rng.random((12, 2))
        out = np.empty((12, 2))
        sampling.stratified_normal(uniforms, strata, counts, out)
        assert_allclose(out, ndtri((strata + uniforms) / counts), rtol=1e-15)

    def test_always_finite(self):
        uniforms = np.array([[0.0], [np.nextafter(1.0, 0.0)], [1.0]])
        out = np.empty((3, 1))
        sampling.stratified_normal(uniforms, np.zeros((3, 1), dtype=np.intp), np.ones(1, dtype=np.intp), out)
        assert np.all(np.isfinite(out))
        assert_allclose(out[0], -out[1], rtol=1e-12)

    def test_wrong_shapes(self):
        integers = np.zeros((3, 2), dtype=np.intp)
        for uniforms, counts, out in [((2, 2), 2, (3, 2)), ((3, 2), 1, (3, 2)), ((3, 2), 2, (3, 1))]:
            with pytest.raises(ValueError):
                sampling.stratified_normal(np.zeros(uniforms), integers, np.ones(counts, dtype=np.intp), np.empty(out))
