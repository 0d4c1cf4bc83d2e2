"""Stationary points: Theorem 3.1's numbers, spectra, kinds, and searches that end elsewhere."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

# n, s*, L of Theorem 3.1 of Zhang et al. 2025, to 8 decimals (independent one-dimensional maximisation)
PAIRS = [(3, 2.55055099, 0.94380027), (4, 2.60810850, 0.58925152), (5, 2.67374938, 0.43761680), (10, 2.89140402, 0.20273839)]


def search(n, d, start=2.4, **options):
    obj = op.ScoreMatching(op.Gaussian(np.zeros(d)))
    return op.stationary.find(obj, op.init.symmetric_pair(n, start, d), **options)


@pytest.mark.parametrize(("n", "distance", "loss"), PAIRS)
@pytest.mark.parametrize("d", [1, 2])
def test_theorem_3_1(n, distance, loss, d):
    found = search(n, d, tol=1e-12)
    assert found.converged and found.grad_norm <= 1e-12
    assert_allclose(found.params, op.init.symmetric_pair(n, distance, d), rtol=0, atol=1e-8)
    assert_allclose(found.value, loss, rtol=0, atol=1e-8)
    assert found.kind == "saddle"


def test_spectrum_in_one_dimension():
    found = search(3, 1)
    assert_allclose(found.hessian_eigenvalues, [-0.339, -0.322, 1.793], rtol=0, atol=1e-3)
    assert (found.negative, found.null, found.positive) == (2, 0, 1)


@pytest.mark.parametrize(("n", "weak"), [(3, -0.016), (4, -0.0043)])
@pytest.mark.parametrize("d", [2, 3])
def test_spectrum_in_more_dimensions(n, weak, d):
    """d - 1 rotations and, per further direction, n - 3 flat ones: the means on the target may part there at no cost of second order."""
    line, found = search(n, 1), search(n, d)
    assert found.null == (d - 1) * (n - 2)
    assert found.null >= d - 1
    null = np.sort(np.abs(found.hessian_eigenvalues))[:found.null]
    assert null.max() < 1e-10 * found.hessian_eigenvalues[-1]
    assert found.negative == line.negative + d - 1
    assert_allclose(found.hessian_eigenvalues[2:2 + d - 1], weak, rtol=0, atol=5e-4 if n == 3 else 5e-5)
    for value in line.hessian_eigenvalues:  # the line's own modes are modes of the whole
        assert np.abs(found.hessian_eigenvalues - value).min() < 1e-8


def test_a_turned_start_turns_the_point():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    obj = op.ScoreMatching(op.Gaussian([1.0, -1.0, 0.5]))
    found = op.stationary.find(obj, obj.teacher.mean + op.init.symmetric_pair(4, 2.3, 3) @ turn.T)
    straight = search(4, 3)
    assert found.converged
    assert_allclose(found.value, straight.value, rtol=1e-9)
    assert_allclose(found.hessian_eigenvalues, straight.hessian_eigenvalues, rtol=0, atol=1e-8)


def test_minimum_of_one_gaussian():
    found = op.stationary.find(op.ScoreMatching(op.Gaussian([1.0, 2.0])), [[4.0, -3.0]])
    assert found.kind == "minimum" and found.positive == 2
    assert_allclose(found.params, [[1.0, 2.0]], atol=1e-10)


def test_degenerate_minimum():
    """All on the target is a minimum of fourth order in the differences: Newton steps converge linearly, and the spectrum says so."""
    found = op.stationary.find(op.ScoreMatching(op.Gaussian([0.0])), [[0.2], [-0.2]], tol=1e-9)
    assert found.converged and found.value < 1e-9
    assert np.abs(found.params).max() < 1e-2
    at_target = op.stationary.find(op.ScoreMatching(op.Gaussian([0.0])), np.zeros((2, 1)))
    assert at_target.iterations == 0 and at_target.kind == "degenerate, none negative"
    assert (at_target.negative, at_target.null, at_target.positive) == (0, 1, 1)


def test_a_common_point_is_not_stationary():
    found = op.stationary.find(op.ScoreMatching(op.Gaussian([0.0])), [[1.0], [1.0]], max_iterations=0)
    assert found.status == "max_iterations" and found.kind == "not stationary" and found.iterations == 0
    assert_allclose(found.hessian_eigenvalues, [1.0 - 4 / 2 - 1.0, 1.0], atol=1e-10)  # (2/n)(-2 m^2) and 2/n


class Polynomial(op.Objective):
    """L = sum of f(x), for one's own objective: Hessians by differences of the gradient."""

    def __init__(self, value, slope):
        self.value_of, self.slope = value, slope

    def value_and_grad(self, params):
        return float(self.value_of(params).sum()), self.slope(params)


def test_kinds_of_an_objective_of_ones_own():
    signs = np.array([[1.0, -1.0]])
    saddle = op.stationary.find(Polynomial(lambda x: signs * (x - 1) ** 2, lambda x: 2 * signs * (x - 1)), [[3.0, -2.0]])
    assert (saddle.kind, saddle.negative, saddle.positive) == ("saddle", 1, 1)
    assert_allclose(saddle.params, 1.0, atol=1e-9)
    top = op.stationary.find(Polynomial(lambda x: -(x**2), lambda x: -2 * x), [[3.0, -2.0]])
    assert top.kind == "maximum" and top.negative == 2
    flat = op.stationary.find(Polynomial(lambda x: -(x**2) * [1.0, 0.0], lambda x: -2 * x * [1.0, 0.0]), [[3.0, -2.0]])
    assert (flat.kind, flat.null) == ("degenerate, none positive", 1)
    assert_allclose(flat.params[0, 1], -2.0)  # nothing moves along a null mode
    nothing = op.stationary.find(Polynomial(lambda x: 0 * x, lambda x: 0 * x), [[3.0, -2.0]])
    assert (nothing.kind, nothing.null) == ("degenerate, all null", 2)


def test_a_search_that_does_not_converge_says_so():
    slow = search(3, 1, max_iterations=2)
    assert slow.status == "max_iterations" and slow.kind == "not stationary" and slow.iterations == 2
    assert slow.message.startswith("max_iterations reached; after 2 steps |grad| = ")
    # x + e^x/10 has no stationary point: the gradient falls towards 1 without end, and no step gets there
    none = op.stationary.find(Polynomial(lambda x: x + np.exp(x) / 10, lambda x: 1 + np.exp(x) / 10), [[1.0]], max_iterations=500)
    assert none.status in ("stalled", "max_iterations") and none.kind == "not stationary"
    assert 1.0 <= none.grad_norm < 1.01 and f"{none.grad_norm:.3g}" in none.message


def test_the_gradient_falls_at_every_step_taken():
    norms = [search(5, 2, start=1.5, max_iterations=k).grad_norm for k in range(8)]
    assert all(after <= before for before, after in pairwise(norms))


def test_an_objective_that_fails_further_on():
    def slope(x):
        if (x < 2).any():
            raise ValueError("x must not be below 2")
        return 2 * x

    found = op.stationary.find(Polynomial(lambda x: x**2, slope), [[3.0]])
    assert found.status == "failed" and "x must not be below 2" in found.message
    assert_array_equal(found.params, [[3.0]])


@pytest.mark.parametrize("distance", [12.0, 20.0, 60.0])
@pytest.mark.parametrize("tol", [1e-10, 1e-6])
def test_a_pair_on_its_way_to_infinity_is_no_stationary_point(distance, tol):
    """Its gradient falls like exp(-r^2/8), and so does its curvature: the one is about r/4 times the other, whatever r."""
    found = op.stationary.find(op.ScoreMatching(op.Gaussian([0.0])), [[distance], [-distance], [0.1]], tol=tol)
    assert found.status == "undecided" and found.kind == "undecided: flat to float64"
    assert "on their way to infinity" in found.message and "parameters 0, 1 " in found.message
    assert found.grad_norm <= tol and abs(found.params[2, 0]) < 1e-2


def test_light_parameters_are_judged_by_themselves():
    """A weight of 1e-9 has second derivatives of that size; against its weight they are not small, and Newton's steps see them."""
    light = op.ScoreMatching(op.Gaussian([0.0]), weights=[1 - 1e-9, 1e-9])
    assert op.stationary.find(light, [[0.0], [0.0]]).kind != "undecided: flat to float64"


class Blind(op.Objective):
    """x^2 with a Hessian that fails."""

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params

    def hessian(self, params):
        raise ValueError("the Hessian is too hard here")


def test_a_hessian_that_fails_at_the_start_is_a_status():
    found = op.stationary.find(Blind(), [[3.0]])
    assert (found.status, found.kind, found.value, found.iterations) == ("failed", "not stationary", 9.0, 0)
    assert "the Hessian is too hard here" in found.message and np.isnan(found.hessian_eigenvalues).all()
    assert (found.negative, found.null, found.positive) == (0, 0, 0)


def test_interrupted():
    class Impatient(Polynomial):
        calls = 0

        def value_and_grad(self, params):
            Impatient.calls += 1
            if Impatient.calls > 20:
                raise KeyboardInterrupt
            return super().value_and_grad(params)

    found = op.stationary.find(Impatient(lambda x: x**4, lambda x: 4 * x**3), [[3.0]])
    assert found.status == "interrupted" and found.grad_norm < 108


def test_a_state_and_unequal_weights():
    obj = op.ScoreMatching(op.Gaussian([0.0]), weights=[0.4, 0.4, 0.2])
    found = op.stationary.find(obj, op.State(centre=np.zeros(1), deviations=np.array([[2.4], [-2.4], [0.0]])))
    assert found.converged and found.value > 0.1
    value, grad = obj.value_and_grad(found.params)
    assert value == found.value and np.linalg.norm(grad) == found.grad_norm
    assert_allclose(found.hessian_eigenvalues, np.linalg.eigvalsh(obj.hessian(found.params).reshape(3, 3)))


@pytest.mark.parametrize(("change", "message"), [
    ({"obj": 3.0}, "obj must be an overparam.Objective"), ({"params0": [1.0]}, "params0 must have 2 dimension"),
    ({"params0": [[np.nan]]}, "params0 must be finite"), ({"params0": np.zeros((1, 5001))}, "coordinates"),
    ({"params0": [[1.0, 2.0]]}, "params have 2 coordinates"), ({"tol": 0.0}, "tol must be a finite number above 0"),
    ({"max_iterations": -1}, "max_iterations must be a whole number"), ({"null_tolerance": 2.0}, "null_tolerance must be"),
])
def test_bad_arguments(change, message):
    arguments = {"obj": op.ScoreMatching(op.Gaussian([0.0])), "params0": [[1.0]]} | change
    with pytest.raises(ValueError, match=message):
        op.stationary.find(**arguments)
