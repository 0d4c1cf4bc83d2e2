"""Objectives inside torch, JAX and scipy.optimize: values and derivatives against central differences, batches, dtypes, messages."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize

import overparam as op
from overparam.interop import scipy as with_scipy

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"
RNG = np.random.default_rng(12)


class Quartic(op.Objective):
    """A user's own: the sum of fourth powers over four, with neither Hessian nor bounds."""

    def value_and_grad(self, params):
        return float((params**4).sum() / 4), params**3


THREE = np.array([[0.9, -0.4], [-0.7, 0.8], [1.6, 0.3]])
FACTORS = 0.4 * RNG.normal(size=(3, 2, 2)) + np.eye(2)
OBJECTIVES = {
    "score matching": (op.ScoreMatching(op.GaussianMixture([[-1.0, 0.0], [1.2, 0.5]]), rule=op.Auto(tol=1e-11)), THREE),
    "KL": (op.KLDivergence(op.Gaussian([0.5, 0.0]), rule=op.Auto(tol=1e-11)), THREE),
    "reverse Fisher": (op.ReverseFisher(op.Gaussian([0.5, 0.0]), rule=op.Auto(tol=1e-10)), THREE),
    "ReLU": (op.ReLUNeuron([1.0, 0.5]), THREE),
    "factors": (op.MatrixFactorization([[1.0, 0.3], [0.0, 2.0]], depth=3, balance=0.7), FACTORS),
    "complex factors": (op.MatrixFactorization([[1.0, 0.3j], [0.0, 2.0]], depth=3, balance=0.7),
                        FACTORS + 0.3j * RNG.normal(size=(3, 2, 2))),
    "own": (Quartic(), THREE),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
TOL = 1e-7  # central differences of values that are right to 1e-10: 2e-10 / 1e-3 at worst, far less as a rule


def units(params):
    """Directions along every real coordinate: 1 and, for complex parameters, i."""
    for at in np.ndindex(params.shape):
        for unit in ((1.0, 1.0j) if params.dtype.kind == "c" else (1.0,)):
            direction = np.zeros_like(params)
            direction[at] = unit
            yield at, unit, direction


def difference(function, params, direction, h=1e-3):
    """Derivative of `function` along `direction` by a fourth-order quotient: an oracle that knows no gradient."""
    near, far = ((np.asarray(function(params + m * h * direction)) - np.asarray(function(params - m * h * direction))) for m in (1, 2))
    return (8 * near - far) / (12 * h)


def by_differences(objective, params):
    """The gradient d/dRe + i d/dIm by differences of values."""
    found = np.zeros_like(params)
    for at, unit, direction in units(params):
        found[at] += unit * difference(objective.value, params, direction)
    return found


# --- torch -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def with_torch(torch):
    from overparam.interop import torch as module

    return module


@every_objective
def test_torch_gradient_is_the_difference_quotient(torch, with_torch, name):
    objective, point = OBJECTIVES[name]
    params = torch.tensor(point, requires_grad=True)
    value = with_torch.wrap(objective)(params)
    assert value.shape == () and value.dtype == torch.float64 and value.item() == objective.value(point)
    value.backward()
    assert_allclose(params.grad.numpy(), by_differences(objective, point), atol=TOL)


def test_torch_complex_gradients_are_those_of_torch_itself(torch, with_torch):
    objective, point = OBJECTIVES["complex factors"]
    params = torch.tensor(point, requires_grad=True)

    def plain(w):
        product = torch.tensor(objective.target) - w[2] @ w[1] @ w[0]
        apart = [w[j] @ w[j].mH - w[j + 1].mH @ w[j + 1] for j in (0, 1)]
        return product.abs().square().sum() / 2 + objective.balance / 4 * sum(one.abs().square().sum() for one in apart)

    weight = 3.0  # of the loss in a longer expression, with a term that torch differentiates
    wanted, = torch.autograd.grad(weight * plain(params) + params.abs().square().sum(), params)
    found, = torch.autograd.grad(weight * with_torch.wrap(objective)(params) + params.abs().square().sum(), params)
    assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-12)
    direction = torch.tensor(RNG.normal(size=point.shape) + 1j * RNG.normal(size=point.shape))
    products = [torch.autograd.functional.vhp(loss, params.detach(), direction)[1] for loss in (plain, with_torch.wrap(objective))]
    assert_allclose(products[1].numpy(), products[0].numpy(), atol=1e-8)


@every_objective
def test_torch_double_backward_is_the_hessian(torch, with_torch, name):
    objective, point = OBJECTIVES[name]
    params = torch.tensor(point, requires_grad=True)
    direction = RNG.normal(size=point.shape) + (1j * RNG.normal(size=point.shape) if point.dtype.kind == "c" else 0)
    grad, = torch.autograd.grad(2 * with_torch.wrap(objective)(params) ** 2, params, create_graph=True)  # the chain rule as well
    inner = (grad * torch.tensor(direction).conj()).real.sum() if grad.is_complex() else (grad * torch.tensor(direction)).sum()
    product, = torch.autograd.grad(inner, params)
    wanted = difference(lambda at: 4 * objective.value(at) * objective.grad(at), point, direction)
    assert_allclose(product.numpy(), wanted, atol=TOL * max(1.0, np.abs(wanted).max()))


def test_torch_hessians_batches_and_vmap(torch, with_torch):
    objective, point = OBJECTIVES["score matching"]
    loss, params = with_torch.wrap(objective), torch.tensor(point)
    wanted = objective.hessian(point)
    assert_allclose(torch.autograd.functional.hessian(loss, params).numpy(), wanted, atol=1e-9)
    assert_allclose(torch.func.jacrev(torch.func.grad(loss))(params).numpy(), wanted, atol=1e-9)
    batch = torch.tensor(point + 0.1 * RNG.normal(size=(2, 3, *point.shape)), requires_grad=True)
    values, weights = loss(batch), torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    (weights * values).sum().backward()
    for at in np.ndindex(2, 3):
        value, grad = objective.value_and_grad(batch[at].detach().numpy())
        assert values[at].item() == value
        assert_allclose(batch.grad[at].numpy(), weights[at].item() * grad, rtol=1e-14)
    some = batch.detach()[:, 0]
    assert_array_equal(torch.func.vmap(torch.func.grad(loss))(some).numpy(), [objective.grad(one) for one in some.numpy()])
    moved = torch.func.vmap(loss, in_dims=1)(some.movedim(0, 1))
    assert_array_equal(moved.numpy(), [objective.value(one) for one in some.numpy()])


def test_torch_dtypes_follow_the_parameters(torch, with_torch):
    objective, point = OBJECTIVES["KL"]
    loss = with_torch.wrap(objective)
    single = torch.tensor(point, dtype=torch.float32, requires_grad=True)
    value = loss(single)
    value.backward()
    wide = single.detach().double().numpy()  # the rounded parameters, whose exact value it is
    assert value.dtype == single.grad.dtype == torch.float32
    assert value.item() == np.float32(objective.value(wide))
    assert_array_equal(single.grad.numpy(), objective.grad(wide).astype(np.float32))
    assert loss(torch.ones(2, 2, dtype=torch.int64)).dtype == torch.get_default_dtype()
    assert loss(torch.tensor(point, dtype=torch.bfloat16)).dtype == torch.bfloat16
    complex_loss = with_torch.wrap(OBJECTIVES["complex factors"][0])
    assert complex_loss(torch.tensor(OBJECTIVES["complex factors"][1]).to(torch.complex64)).dtype == torch.float32
    strided = torch.tensor(point, requires_grad=True)
    assert loss(strided.flip(0).T.T) == loss(strided.flip(0))
    with torch.no_grad():
        assert not loss(single).requires_grad


def test_torch_training_takes_the_steps_of_gradient_descent(torch, with_torch):
    objective, point = OBJECTIVES["score matching"]
    params = torch.nn.Parameter(torch.tensor(point))
    optimizer, loss = torch.optim.SGD([params], lr=0.05), with_torch.wrap(objective)
    for _ in range(20):
        optimizer.zero_grad()
        loss(params).backward()
        optimizer.step()
    assert_allclose(params.detach().numpy(), op.gradient_descent(objective, point, step_size=0.05, steps=20).final, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by torch's compiler about tensors of its own
def test_torch_compile_leaves_the_function_alone(torch, with_torch):
    objective, point = OBJECTIVES["own"]
    loss = with_torch.wrap(objective)
    params = torch.tensor(point, requires_grad=True)
    value = torch.compile(lambda at: 2 * loss(at) + at.sum(), backend="eager")(params)
    value.backward()
    assert value.item() == pytest.approx(2 * objective.value(point) + point.sum(), rel=1e-14)
    assert_allclose(params.grad.numpy(), 2 * objective.grad(point) + 1, rtol=1e-14)


def test_torch_errors_say_what_is_wrong(torch, with_torch):
    with pytest.raises(ValueError, match=r"objective must be an overparam\.Objective.*got 3"):
        with_torch.wrap(3)
    loss = with_torch.wrap(Quartic())
    with pytest.raises(ValueError, match=r"2 axes, as Quartic takes them.*shape \(3,\)"):
        loss(torch.ones(3))
    with pytest.raises(ValueError, match="must be real for Quartic"):
        loss(torch.ones(3, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match=r"params must be a torch\.Tensor; got ndarray"):
        loss(THREE)
    with pytest.raises(ValueError, match=r"must have shape \(n, 2\)"):
        with_torch.wrap(OBJECTIVES["score matching"][0])(torch.ones(3, 3))
    params = torch.tensor(THREE, requires_grad=True)
    grad, = torch.autograd.grad(loss(params), params, create_graph=True)
    product, = torch.autograd.grad(grad.sum(), params, create_graph=True)
    with pytest.raises(NotImplementedError, match="third derivatives of Quartic"):
        product.sum().backward()


# --- JAX -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jax():
    found = pytest.importorskip("jax")
    found.config.update("jax_enable_x64", True)
    yield found
    found.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def with_jax(jax):
    from overparam.interop import jax as module

    return module


@every_objective
def test_jax_gradient_is_the_difference_quotient(jax, with_jax, name):
    objective, point = OBJECTIVES[name]
    loss = with_jax.wrap(objective)
    for function in (jax.value_and_grad(loss), jax.jit(jax.value_and_grad(loss))):
        value, grad = function(point)
        assert value.shape == () and value.dtype == np.float64 and value == objective.value(point)
        assert_allclose(np.conj(grad), by_differences(objective, point), atol=TOL)  # JAX: d/dRe - i d/dIm


def test_jax_complex_gradients_are_those_of_jax_itself(jax, with_jax):
    objective, point = OBJECTIVES["complex factors"]
    np_ = jax.numpy

    def plain(w):
        rest = objective.target - w[2] @ w[1] @ w[0]
        apart = [w[j] @ w[j].conj().T - w[j + 1].conj().T @ w[j + 1] for j in (0, 1)]
        return (np_.abs(rest) ** 2).sum() / 2 + objective.balance / 4 * sum((one * one.conj()).real.sum() for one in apart)

    def inside(loss):
        return lambda w: 3 * loss(w) + (w * w.conj()).real.sum()

    loss = with_jax.wrap(objective)
    assert_allclose(jax.grad(inside(loss))(point), jax.grad(inside(plain))(point), rtol=1e-12)
    direction = RNG.normal(size=point.shape) + 1j * RNG.normal(size=point.shape)
    products = [jax.jvp(jax.grad(inside(one)), (point,), (direction,))[1] for one in (plain, loss)]
    assert_allclose(products[1], products[0], atol=1e-8)


@pytest.mark.parametrize("name", ["score matching", "reverse Fisher", "factors", "own"])
def test_jax_hessians(jax, with_jax, name):
    objective, point = OBJECTIVES[name]
    loss, wanted = with_jax.wrap(objective), objective.hessian(point)
    assert_allclose(jax.hessian(loss)(point), wanted, atol=1e-8)
    assert_allclose(jax.jit(jax.hessian(loss))(point), wanted, atol=1e-8)
    assert_allclose(jax.hessian(jax.jit(loss))(point), wanted, atol=1e-8)
    direction = RNG.normal(size=point.shape)
    product = jax.jvp(jax.grad(loss), (point,), (direction,))[1]
    assert_allclose(product, difference(objective.grad, point, direction), atol=TOL)


def test_jax_batches_and_vmap(jax, with_jax):
    objective, point = OBJECTIVES["score matching"]
    loss = with_jax.wrap(objective)
    batch = point + 0.1 * RNG.normal(size=(2, 3, *point.shape))
    wanted = [[objective.value_and_grad(one) for one in row] for row in batch]
    values, grads = (np.array([[one[part] for one in row] for row in wanted]) for part in (0, 1))
    assert_array_equal(loss(batch), values)
    assert_array_equal(jax.jit(jax.vmap(jax.vmap(loss)))(batch), values)
    found = jax.vmap(jax.vmap(jax.value_and_grad(loss)))(batch)
    assert_array_equal(found[0], values)
    assert_allclose(found[1], grads, rtol=1e-14)
    assert_allclose(jax.grad(lambda at: (loss(at) * np.arange(6.0).reshape(2, 3)).sum())(batch),
                    np.arange(6.0).reshape(2, 3, 1, 1) * grads, rtol=1e-14)
    assert_array_equal(jax.vmap(loss, in_axes=1)(batch), values.T)
    hessians = jax.vmap(jax.hessian(loss))(batch[0])
    assert_allclose(hessians, [objective.hessian(one) for one in batch[0]], atol=1e-9)


def test_jax_dtypes_follow_the_parameters(jax, with_jax):
    objective, point = OBJECTIVES["KL"]
    loss = with_jax.wrap(objective)
    single = point.astype(np.float32)
    value, grad = jax.value_and_grad(loss)(single)
    assert value.dtype == grad.dtype == np.float32
    assert value == np.float32(objective.value(single.astype(float)))
    assert_array_equal(grad, objective.grad(single.astype(float)).astype(np.float32))
    assert loss(np.ones((2, 2), dtype=int)).dtype == np.float64
    jax.config.update("jax_enable_x64", False)
    try:
        value, grad = jax.jit(jax.value_and_grad(loss))(point)  # float64 comes in, JAX makes float32 of it
        assert value.dtype == grad.dtype == np.float32
        assert_allclose(value, objective.value(single.astype(float)), rtol=1e-6)
        assert loss([[1, 0], [0, 1]]).dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", True)
    complex_objective, factors = OBJECTIVES["complex factors"]
    assert with_jax.wrap(complex_objective)(factors.astype(np.complex64)).dtype == np.float32


def test_jax_loops_take_the_steps_of_gradient_descent(jax, with_jax):
    objective, point = OBJECTIVES["score matching"]
    slope = jax.grad(with_jax.wrap(objective))
    final = jax.jit(lambda start: jax.lax.fori_loop(0, 20, lambda _, at: at - 0.05 * slope(at), start))(point)
    assert_allclose(final, op.gradient_descent(objective, point, step_size=0.05, steps=20).final, rtol=1e-9)


def test_jax_errors_say_what_is_wrong(jax, with_jax):
    with pytest.raises(ValueError, match=r"objective must be an overparam\.Objective.*got None"):
        with_jax.wrap(None)
    loss = with_jax.wrap(Quartic())
    with pytest.raises(ValueError, match=r"2 axes, as Quartic takes them.*shape \(3,\)"):
        loss(np.ones(3))
    with pytest.raises(ValueError, match="must be real for Quartic"):
        jax.jit(loss)(np.ones((3, 2)) * 1j)
    with pytest.raises(Exception, match=r"must have shape \(n, 2\)"):
        with_jax.wrap(OBJECTIVES["score matching"][0])(np.ones((3, 3)))


# --- scipy -----------------------------------------------------------------------------------------------------------


@every_objective
def test_flat_functions_are_the_objective(name):
    objective, point = OBJECTIVES[name]
    flat = with_scipy.wrap(objective, point)
    assert flat.x0.ndim == 1 and flat.x0.dtype == np.float64
    assert_array_equal(flat.params(flat.x0), point)
    value, grad = flat(flat.x0)
    assert value == objective.value(point)
    wanted = [difference(lambda x: flat(x)[0], flat.x0, unit) for unit in np.eye(flat.x0.size)]
    assert_allclose(grad, wanted, atol=TOL)
    p = RNG.normal(size=flat.x0.size)
    assert_allclose(flat.hessp(flat.x0, p), difference(lambda x: flat(x)[1], flat.x0, p), atol=TOL)
    if point.dtype.kind == "c":
        with pytest.raises(ValueError, match="use hessp"):
            flat.hess(flat.x0)
    else:
        assert_allclose(flat.hess(flat.x0) @ p, flat.hessp(flat.x0, p), atol=1e-8)


@pytest.mark.parametrize("name", ["KL", "factors", "complex factors"])
@pytest.mark.parametrize("method", ["L-BFGS-B", "trust-ncg"])
def test_minimize_arrives(name, method):
    objective, point = OBJECTIVES[name]
    flat = with_scipy.wrap(objective, point)
    second = {} if method == "L-BFGS-B" else {"hessp": flat.hessp}
    found = minimize(flat, flat.x0, jac=True, method=method, options={"gtol": 1e-6}, **second)  # every minimum here has the value 0
    value, grad = objective.value_and_grad(flat.params(found.x))
    assert found.success and value == found.fun < 1e-4 * objective.value(point)
    assert np.abs(grad).max() < (1e-6 if second else 1e-4)  # L-BFGS-B may stop by its test on the value


def test_minimize_with_a_written_out_hessian():
    objective, point = OBJECTIVES["KL"]
    flat = with_scipy.wrap(objective, point)
    found = minimize(flat, flat.x0, jac=True, hess=flat.hess, method="trust-exact", options={"gtol": 1e-6})
    assert found.success and np.abs(objective.grad(flat.params(found.x))).max() < 1e-6


def test_flat_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"objective must be an overparam\.Objective"):
        with_scipy.wrap(np.sum, THREE)
    with pytest.raises(ValueError, match="params0 must have 2"):
        with_scipy.wrap(Quartic(), np.ones(3))
    flat = with_scipy.wrap(Quartic(), THREE)
    assert "Quartic" in repr(flat) and "(3, 2)" in repr(flat)
    with pytest.raises(ValueError, match="x must have 6 entries"):
        flat(np.ones(5))
    with pytest.raises(ValueError, match="shape of params0"):
        flat.flat(np.ones((2, 3)))


# --- documentation, imports ------------------------------------------------------------------------------------------


def examples(library):
    """The page's examples for one library."""
    section = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return next(one for one in section if one.lower().startswith(library.lower()))


@pytest.mark.parametrize("library", ["scipy", "torch", "jax"])
def test_documented_examples_run(library, request):
    if library != "scipy":
        request.getfixturevalue(library)
    module = __import__(f"overparam.interop.{library}", fromlist=["wrap"])
    failed, attempted = doctest.testmod(module)
    assert attempted and not failed
    test = doctest.DocTestParser().get_doctest(examples(library), {}, library, str(PAGE), 0)
    output: list[str] = []
    assert test.examples and doctest.DocTestRunner().run(test, out=output.append).failed == 0, "".join(output)


@pytest.mark.parametrize(("library", "extra"), [("torch", "overparam[torch]"), ("jax", "overparam[jax]")])
def test_a_missing_library_says_what_to_install(library, extra, tmp_path):
    code = (f"import sys\nsys.modules[{library!r}] = None\nimport overparam.interop\n"
            f"try:\n    import overparam.interop.{library}\nexcept ImportError as error:\n    print(error)")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert f"pip install '{extra}'" in found.stdout, found.stderr
