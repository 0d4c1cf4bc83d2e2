"""The compiled kernels against their NumPy twins and against mpmath."""

import itertools

import mpmath
import numpy as np
import pytest
from kernel_problems import ROUNDING, close, evaluate, explicit, majorants, multiplied_out, problem, stein, tensor, trapezoid
from numpy.testing import assert_allclose, assert_array_equal

from overparam import _reference as twin

SIZES = [
    # n = 1, N = 1, a node count that is no multiple of a vector, every specialised rank, generic ranks up to 20
    *[(1, 1, 1), (2, 1, 8), (5, 1, 130), (1, 3, 9), (7, 2, 65), (5, 3, 13), (5, 3, 576), (6, 3, 1000)],
    *[(3, 4, 9), (4, 5, 33), (9, 6, 40), (8, 7, 24), (50, 10, 300), (200, 20, 100), (24, 20, 700), (65, 2, 40), (64, 1, 17)],
]


class TestTwin:
    """Scale 1e-4 is in the small regime, where weights are formed as differences from the prior; 3 is not."""

    @pytest.mark.parametrize(("n", "k", "nodes"), SIZES)
    @pytest.mark.parametrize("scale", [3.0, 1e-4])
    @pytest.mark.parametrize("constant", [True, False])
    @pytest.mark.parametrize("prior", ["equal", "unequal", "zero"])
    def test_explicit_nodes(self, n, k, nodes, scale, constant, prior):
        x, q, t, c, delta, log_weights = problem(
            n, k, nodes, scale=scale / np.sqrt(k), constant=constant, equal=prior == "equal", zero=prior == "zero" and n > 1
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
