"""Deep matrix factorization: value and gradient against other methods, bounds, starts, runs."""

import itertools

import mpmath
import numpy as np
import pytest

import overparam as op

CASES = [(False, 2, 2), (False, 4, 3), (True, 4, 3), (True, 3, 1), (False, 4, 14), (True, 3, 14)]  # 14 rows go through BLAS


def problem(complex, depth, d, balance=0.7, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(depth, d, d)) + (1j * rng.normal(size=(depth, d, d)) if complex else 0)
    target = rng.normal(size=(d, d)) + (1j * rng.normal(size=(d, d)) if complex else 0)
    return op.MatrixFactorization(target, depth=depth, balance=balance), factors / np.sqrt(d), rng


def loss(objective, factors):
    """The formula as it stands, one NumPy product after the other."""
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    total = 0.5 * np.linalg.norm(objective.target - product) ** 2
    for one, two in itertools.pairwise(factors):
        total += objective.balance / 4 * np.linalg.norm(one @ one.conj().T - two.conj().T @ two) ** 2
    return total


def gradient(objective, factors):
    """The published gradient, with its products taken one by one."""
    depth, d = len(factors), objective.d

    def product(some):
        found = np.eye(d)
        for factor in some:
            found = factor @ found
        return found

    apart = [np.zeros((d, d)), *(one @ one.conj().T - two.conj().T @ two for one, two in itertools.pairwise(factors)), np.zeros((d, d))]
    rest = objective.target - product(factors)
    return np.stack([-product(factors[j + 1:]).conj().T @ rest @ product(factors[:j]).conj().T
                     + objective.balance * (apart[j + 1] @ factors[j] - factors[j] @ apart[j]) for j in range(depth)])


@pytest.mark.parametrize(("complex", "depth", "d"), CASES)
def test_value_and_gradient_are_the_formulas(complex, depth, d):
    objective, factors, _ = problem(complex, depth, d)
    value, grad = objective.value_and_grad(factors)
    assert value == pytest.approx(loss(objective, factors), rel=1e-12)
    np.testing.assert_allclose(grad, gradient(objective, factors), rtol=1e-10, atol=1e-11 * np.abs(grad).max())
    assert grad.shape == factors.shape and grad.dtype == factors.dtype


@pytest.mark.parametrize(("complex", "depth", "d"), CASES)
def test_gradient_agrees_with_differences(complex, depth, d):
    objective, factors, rng = problem(complex, depth, d)
    grad = objective.grad(factors)
    for _ in range(3):
        direction = rng.normal(size=factors.shape) + (1j * rng.normal(size=factors.shape) if complex else 0)
        direction /= np.linalg.norm(direction)
        step = 1e-3
        moved = [objective.value(factors + m * step * direction) for m in (1, -1, 2, -2)]
        found = (8 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / (12 * step)
        assert found == pytest.approx(float(np.vdot(direction, grad).real), abs=1e-8 * np.linalg.norm(grad))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("complex", [False, True])
def test_bounds_hold_against_exact_arithmetic(complex, seed):
    objective, factors, _ = problem(complex, 3, 2, seed=seed)
    if seed == 3:  # a loss that is all cancellation
        factors = np.stack([np.eye(2)] * 3) * (1 + 1e-9)
        objective = op.MatrixFactorization(np.eye(2), depth=3, balance=0.7)
        factors = factors + 0j if complex else factors
    found = objective.estimate(factors)
    with mpmath.workdps(60):
        exact = [mpmath.matrix(2, 2) for _ in factors]
        for matrix, factor in zip(exact, factors):
            for index in np.ndindex(2, 2):
                matrix[index] = mpmath.mpc(factor[index].real, factor[index].imag)
        target = mpmath.matrix(2, 2)
        for index in np.ndindex(2, 2):
            target[index] = mpmath.mpc(objective.target[index].real, objective.target[index].imag)
        balance = mpmath.mpf(objective.balance)
        rest = target - exact[2] * exact[1] * exact[0]
        apart = [mpmath.zeros(2), *(a * a.H - b.H * b for a, b in itertools.pairwise(exact)), mpmath.zeros(2)]
        square = lambda m: sum(abs(entry) ** 2 for entry in m)  # noqa: E731
        value = square(rest) / 2 + balance / 4 * sum(map(square, apart))
        one = mpmath.eye(2)
        before, after = [one, exact[0], exact[1] * exact[0]], [exact[2] * exact[1], exact[2], one]
        error = abs(float(value - mpmath.mpf(found.value)))
        assert error <= found.value_error
        for j in range(3):
            rows = -after[j].H * rest * before[j].H + balance * (apart[j + 1] * exact[j] - exact[j] * apart[j])
            wrong = max(abs(mpmath.mpc(found.grad[j][i].real, found.grad[j][i].imag) - rows[i]) for i in np.ndindex(2, 2))
            assert float(wrong) <= found.grad_error[2 * j]


def test_products_with_the_hessian_agree_with_differences_of_the_gradient():
    objective, factors, rng = problem(True, 4, 3)
    direction = rng.normal(size=factors.shape)
    found = objective.hvp(factors, direction)
    expected = (gradient(objective, factors + 1e-6 * direction) - gradient(objective, factors - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("complex", [False, True])
def test_compiled_descent_is_the_textbook_iteration(complex):
    objective, factors, _ = problem(complex, 4, 3, seed=3)
    run = op.gradient_descent(objective, 0.5 * factors, step_size=0.01, steps=50)
    expected = 0.5 * factors
    for _ in range(50):
        expected = expected - 0.01 * gradient(objective, expected)
    np.testing.assert_allclose(run.final, expected, rtol=1e-10, atol=1e-12)
    assert run.loss_error[-1] < 1e-10


@pytest.mark.parametrize("complex", [False, True])
def test_balanced_starts_are_balanced_and_flow_without_the_term_keeps_them_so(complex):
    start = op.init.balanced_gaussian(depth=4, d=3, scale=0.4, rng=0, complex=complex)
    objective = op.MatrixFactorization(np.eye(3), depth=4, balance=0.0)

    def apart(W):
        return max(np.abs(one @ one.conj().T - two.conj().T @ two).max() for one, two in itertools.pairwise(W))

    assert apart(start) < 1e-15
    flow = op.gradient_flow(objective, start, t_end=10.0, rtol=1e-10)
    assert flow.status == "completed" and apart(flow.final) < 1e-7
    assert np.ptp(np.linalg.svd(start, compute_uv=False), axis=0).max() < 1e-14


def test_haar_turns_have_both_determinants_and_complex_entries_their_variance():
    signs = [np.sign(np.linalg.det(op.init.balanced_gaussian(depth=2, d=3, scale=1.0, rng=seed)[0])) for seed in range(60)]
    assert 15 < signs.count(1.0) < 45
    entries = op.init.small_gaussian(depth=4, d=40, scale=2.0, rng=0, complex=True)
    assert np.var(entries.real) == pytest.approx(2.0, rel=0.1) and np.var(entries.imag) == pytest.approx(2.0, rel=0.1)


def test_files_bring_the_objective_back(tmp_path):
    for complex in (False, True):
        objective, factors, _ = problem(complex, 3, 2)
        run = op.gradient_descent(objective, 0.3 * factors, step_size=0.01, steps=20)
        run.save(tmp_path / "run.nc")
        again = op.load(tmp_path / "run.nc").extend(steps=10)
        whole = op.gradient_descent(objective, 0.3 * factors, step_size=0.01, steps=30)
        np.testing.assert_array_equal(again.final, whole.final)


def test_read_only_and_fortran_ordered_factors_and_float32():
    objective, factors, _ = problem(False, 3, 4)
    expected = objective.grad(factors)
    frozen = np.asfortranarray(factors)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(objective.grad(frozen), expected)
    assert objective.grad(factors.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize(("make", "words"), [
    (lambda: op.MatrixFactorization(np.ones((2, 3))), "square matrix"),
    (lambda: op.MatrixFactorization([[np.nan]]), "must be finite"),
    (lambda: op.MatrixFactorization(np.eye(2), depth=1), "depth must be a whole number not below 2"),
    (lambda: op.MatrixFactorization(np.eye(2), balance=-1), "balance must be a finite number not below 0"),
    (lambda: op.MatrixFactorization(np.eye(2)).value(np.ones((3, 2, 2))), r"shape \(4, 2, 2\).*got \(3, 2, 2\)"),
    (lambda: op.MatrixFactorization(np.eye(2)).value(np.ones((4, 2))), "params must have 3 dimension"),
    (lambda: op.MatrixFactorization(1j * np.eye(2)).value(np.ones((4, 2, 2))), "give complex params"),
    (lambda: op.gradient_descent(op.MatrixFactorization(np.eye(2)), np.ones((4, 2)), step_size=0.1, steps=1), "params0 must have 3 or 4"),
    (lambda: op.init.small_gaussian(depth=1, d=2, scale=0.1), "depth must be"),
    (lambda: op.init.balanced_gaussian(depth=3, d=2, scale=0.0), "scale must be a finite number above 0"),
])
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_step_size_that_is_too_large_is_said():
    objective = op.MatrixFactorization(np.eye(3))
    assert op.gradient_descent(objective, 3 * np.stack([np.eye(3)] * 4), step_size=1.0, steps=100).status == "unstable"


def test_what_is_about_something_else_says_so():
    run = op.gradient_descent(op.MatrixFactorization(np.eye(2)), op.init.balanced_gaussian(4, 2, 0.4, rng=2), step_size=0.01, steps=100)
    for name in ("lemma_c_5", "lemma_c_6", "lemma_c_7", "lemma_c_9", "lemma_d_1", "lemma_d_3", "law_one_converges", "theorem_3_5"):
        report = op.theory.check(f"zhang2025.{name}", run)
        assert report.verdict == "vacuous", (name, report.reason)
    with pytest.raises(TypeError, match=r"has no minibatch"):
        op.sgd(op.MatrixFactorization(np.eye(2)), np.stack([np.eye(2)] * 4), step_size=0.1, steps=5, batch_size=8)


def test_an_estimate_that_overflows_is_refused_like_a_value():
    for objective, params in ((op.MatrixFactorization(np.eye(2)), np.stack([0.5e90 * np.eye(2)] * 4)),
                              (op.ReLUNeuron([1.0, 0.0]), [[1e200, 1e200], [1.0, 0.0]])):
        for asked in (objective.estimate, objective.value, objective.grad):
            with pytest.raises(ValueError, match="overflows at these params"):
                asked(params)


def test_descent_sees_infinities_in_compiled_steps():
    run = op.gradient_descent(op.MatrixFactorization(np.eye(3)), 2 * np.stack([np.eye(3)] * 4), step_size=1e200, steps=50)
    assert run.status == "unstable" and np.isfinite(np.asarray(run.params)).all()
