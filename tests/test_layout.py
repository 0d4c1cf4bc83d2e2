"""Parameters of other shapes than (n, d): drivers, records and files take them as they are."""

import numpy as np
import pytest

import overparam as op
from overparam.layout import Layout


class Stack(op.Objective):
    """|A B - target|^2 / 2 of two complex matrices, written out by hand."""

    params_ndim, complex_params = 3, True

    def __init__(self, target):
        self.target = target

    def value_and_grad(self, params):
        a, b = np.asarray(params)
        rest = a @ b - self.target
        return 0.5 * float((abs(rest) ** 2).sum()), np.stack([rest @ b.conj().T, a.conj().T @ rest])


class Line(op.Objective):
    """A quadratic in a single vector of weights."""

    params_ndim = 1

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params


def factors(dtype, seed=0):
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(2, 3, 3))
    return real if dtype is float else real + 1j * rng.normal(size=(2, 3, 3))


@pytest.mark.parametrize("dtype", [float, complex])
def test_descent_is_the_textbook_iteration(dtype):
    objective, start = Stack(np.eye(3)), factors(dtype)
    run = op.gradient_descent(objective, start, step_size=0.03, steps=40, record=op.every(10))
    expected = start.astype(dtype)
    for _ in range(40):
        expected = expected - 0.03 * objective.value_and_grad(expected)[1]
    np.testing.assert_allclose(run.final, expected, rtol=1e-12)
    assert run.params.shape == (5, 2, 3, 3) and run.final.dtype == np.dtype(dtype)
    assert run.weights is None and "shape (2, 3, 3)" in run.summary() and "shape=(2, 3, 3)" in repr(run)
    np.testing.assert_array_equal(run.params[:, 0], np.asarray(run.params)[:, 0])


def test_flow_agrees_with_an_integrator_of_scipys():
    from scipy.integrate import solve_ivp

    objective, start = Stack(np.eye(3)), factors(complex)
    flow = op.gradient_flow(objective, start, t_end=1.5, rtol=1e-9)

    def slope(t, y):
        return -objective.value_and_grad(y.reshape(2, 3, 3))[1].ravel()

    found = solve_ivp(slope, (0, 1.5), start.ravel(), rtol=1e-11, atol=1e-12, method="DOP853")
    np.testing.assert_allclose(flow.final.ravel(), found.y[:, -1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_file_keeps_shape_and_numbers_and_runs_go_on(tmp_path, dtype):
    objective = Stack(np.eye(3))
    whole = op.gradient_descent(objective, factors(dtype), step_size=0.03, steps=40, record=op.every(10))
    half = op.gradient_descent(objective, factors(dtype), step_size=0.03, steps=20, record=op.every(10))
    half.save(tmp_path / "run.nc")
    again = op.load(tmp_path / "run.nc", objective=objective)
    assert again.layout == half.layout
    np.testing.assert_array_equal(again.final, half.final)
    np.testing.assert_array_equal(again.extend(steps=20).final, whole.final)
    assert again.to_xarray()["params"].shape == (3, 2, 3, 3)


def test_observers_and_stop_tests_see_the_parameters_own_shape():
    seen = []
    op.gradient_descent(Stack(np.eye(3)), factors(complex), step_size=0.03, steps=3, observe={"trace": lambda p: np.trace(p[0])},
                        stop=lambda record: seen.append(record.params.shape))
    assert set(seen) == {(2, 3, 3)}


def test_a_batch_has_one_axis_more():
    starts = np.stack([factors(float), factors(float, 1)])
    runs = op.gradient_descent(Stack(np.eye(3)), starts, step_size=0.03, steps=3)
    assert [run.params.shape[1:] for run in runs] == [(2, 3, 3)] * 2
    lines = op.gradient_descent(Line(), np.ones((4, 2)), step_size=0.1, steps=3)
    assert len(lines) == 4 and lines[0].final.shape == (2,)
    np.testing.assert_allclose(lines[0].final, 0.8**3)
    assert op.gradient_descent(Line(), np.ones(2), step_size=0.1, steps=3).final.shape == (2,)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"params0 must have 3 or 4 dimension"):
        op.gradient_descent(Stack(np.eye(3)), np.ones((3, 3)), step_size=0.1, steps=1)
    with pytest.raises(ValueError, match="real numbers; got dtype complex128"):
        op.gradient_descent(Line(), np.ones(2) * 1j, step_size=0.1, steps=1)
    with pytest.raises(ValueError, match="must be finite"):
        op.gradient_descent(Stack(np.eye(3)), np.full((2, 3, 3), 1j * np.nan), step_size=0.1, steps=1)
    with pytest.raises(ValueError, match="rows and columns"):
        op.State(np.zeros(3), np.ones((4, 3)), layout=Layout((2, 3, 3)))


def test_products_with_the_hessian_agree_with_differences():
    objective, start, direction = Stack(np.eye(3)), factors(complex), factors(complex, 2)
    found = objective.hvp(start, direction)
    step = 1e-6
    expected = (objective.grad(start + step * direction) - objective.grad(start - step * direction)) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_a_hessian_is_for_real_parameters():
    found, direction = Stack(np.eye(3)).hessian(factors(float)), factors(float, 2)
    assert found.shape == (2, 3, 3, 2, 3, 3)
    product = Stack(np.eye(3)).hvp(factors(float), direction)
    np.testing.assert_allclose(found.reshape(18, 18) @ direction.ravel(), product.ravel(), atol=1e-8)
    with pytest.raises(ValueError, match="real numbers"):
        Stack(np.eye(3)).hessian(factors(complex))
    with pytest.raises(ValueError, match="real parameters only"):
        Stack(np.eye(3)).hessian(op.State.laid_out(factors(complex)))


@pytest.mark.parametrize("driver", [op.momentum, op.adam])
def test_other_drivers_take_other_shapes_too(driver):
    run = driver(Stack(np.eye(3)), factors(complex), step_size=0.01, steps=30)
    assert run.params.shape[1:] == (2, 3, 3) and run.loss[-1] < run.loss[0]
    np.testing.assert_array_equal(driver(Stack(np.eye(3)), factors(complex), step_size=0.01, steps=20).extend(steps=10).final, run.final)
    assert driver(op.MatrixFactorization(np.eye(3)), 0.5 * np.stack([np.eye(3)] * 4), step_size=0.01, steps=10).loss[-1] < 1.4
