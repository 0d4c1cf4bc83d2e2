"""The Hessian: kernel = twin, the objective's against oracles of another kind, its bound, products, and what it refuses."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import configurations
import mpmath
import numpy as np
import oracles
import pytest
from kernel_problems import ROUNDING, close, problem
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import special_ortho_group

import overparam as op
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.hessian import hessian

EPS = np.finfo(np.float64).eps


# --- the kernel -------------------------------------------------------------------------------------------------------


def kernel(x, q, target, c, delta, log_weights, direction=None):
    """(Hessian (n, k, n, k) or product (n, k), square, unit) of the compiled kernel."""
    n, k = delta.shape
    result = np.full((n * k, n * k) if direction is None else (n, k), 7.0)
    square, unit = np.full((2, n, n), 7.0)
    hessian(x, q, np.ascontiguousarray(target.reshape(-1, k)), c, delta, log_weights, direction, result, square, unit)
    return result.reshape((n, k, n, k) if direction is None else (n, k)), square, unit


SIZES = [(1, 1, 1), (2, 1, 8), (5, 1, 130), (1, 3, 9), (7, 2, 65), (5, 3, 576), (3, 4, 9), (9, 6, 40), (30, 5, 24)]


@pytest.mark.parametrize(("n", "k", "nodes"), SIZES)
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("prior", ["equal", "unequal", "zero"])
def test_kernel_is_the_twin(n, k, nodes, constant, prior):
    x, q, t, c, delta, log_weights = problem(n, k, nodes, scale=1 / np.sqrt(k), constant=constant, equal=prior == "equal",
                                             zero=prior == "zero" and n > 1)
    expected = twin.score_matching_hessian(x, q, t, c + delta, log_weights)
    found = kernel(x, q, t, c, delta, log_weights)
    size = np.abs(expected[0]).max()  # the sums cancel from terms of the Hessian's size
    for ours, theirs in zip(found, expected, strict=True):
        assert_allclose(ours, theirs, rtol=0, atol=ROUNDING * max(size, np.abs(theirs).max()))
    assert_array_equal(found[0], found[0].transpose(2, 3, 0, 1))
    direction = np.random.default_rng(0).standard_normal((n, k))
    product, square, unit = kernel(x, q, t, c, delta, log_weights, direction)
    assert_allclose(product, np.einsum("iajb,jb->ia", expected[0], direction), rtol=0, atol=n * k * ROUNDING * size)
    assert_array_equal(square, found[1])
    assert_array_equal(unit, found[2])
    alone = np.empty((n, k))
    hessian(x, q, np.ascontiguousarray(t.reshape(-1, k)), c, delta, log_weights, direction, alone, None, None)
    assert_array_equal(alone, product)


@pytest.mark.parametrize(("n", "k"), [(1, 2), (2, 1), (4, 3)])
def test_twin_is_the_derivative_of_its_gradient(n, k):
    x, q, t, c, delta, log_weights = problem(n, k, 40)
    params, h = c + delta, 1e-3  # sixth-order differences: truncation h^6 = 1e-18 times derivatives, rounding 1e-15/h

    def grad(unit, s):
        return twin.score_matching(x, np.abs(q), t, params + s * h * unit, log_weights)[1]

    found = twin.score_matching_hessian(x, np.abs(q), t, params, log_weights)[0]
    for i, a in np.ndindex(n, k):
        unit = np.zeros((n, k))
        unit[i, a] = 1.0
        slope = sum(w * (grad(unit, s) - grad(unit, -s)) for s, w in [(1, 0.75), (2, -0.15), (3, 1 / 60)]) / h
        assert_allclose(found[:, :, i, a], slope, rtol=0, atol=1e-10 * np.abs(found).max())


@pytest.mark.parametrize("scale", [1e3, 1e12, 1e60])
def test_kernel_far_apart(scale):
    x, q, t, c, delta, log_weights = problem(5, 3, 21, constant=True, zero=True)
    assert all(np.isfinite(part).all() for part in kernel(x, q, t, c, scale * delta, log_weights))


def test_kernel_nan_comes_out():
    x, q, t, c, delta, log_weights = problem(3, 2, 21)
    x[13, 1] = np.nan
    assert np.isnan(kernel(x, q, t, c, delta, log_weights)[0]).all()


def test_kernel_checks_shapes():
    x, q, t, c, delta, log_weights = problem(3, 2, 5)
    result, square, unit = np.empty((6, 6)), np.empty((3, 3)), np.empty((3, 3))
    good = [x, q, t, c, delta, log_weights, None, result, square, unit]
    wrong = {0: x[:, :1].copy(), 1: q[:4].copy(), 2: t[:4].copy(), 3: c[:1].copy(), 5: log_weights[:2].copy(), 6: delta[:2].copy(),
             7: np.empty((3, 2)), 8: np.empty((2, 3)), 9: np.empty((3, 2))}
    for place, bad in wrong.items():
        with pytest.raises(ValueError, match="must have shape"):
            hessian(*good[:place], bad, *good[place + 1:])
    with pytest.raises(ValueError, match="square and unit are needed"):
        hessian(*good[:8], None, None)


def test_kernel_in_threads():
    starts = [problem(5, 3, 200, rng=seed) for seed in range(16)]
    alone = [kernel(*start) for start in starts]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(lambda start: kernel(*start), starts), strict=True):
            for ours, theirs in zip(one, other, strict=True):
                assert_array_equal(ours, theirs)


PATH_SCRIPT = """
import json, sys
import numpy as np
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.hessian import hessian

worst = 0.0
for n, k, nodes in [(1, 1, 1), (5, 3, 100), (4, 2, 40), (9, 7, 24), (17, 1, 33)]:
    rng = np.random.default_rng([n, k, nodes])
    x, q, t = rng.normal(size=(nodes, k)), rng.random(nodes), rng.normal(size=(nodes, k))
    c, delta, log_weights = rng.normal(size=k), rng.normal(size=(n, k)), np.log(rng.dirichlet(np.ones(n)))
    direction, product = rng.normal(size=(n, k)), np.empty((n, k))
    result, square, unit = np.empty((n * k, n * k)), np.empty((n, n)), np.empty((n, n))
    hessian(x, q, t, c, delta, log_weights, None, result, square, unit)
    whole, *sums = twin.score_matching_hessian(x, q, t, c + delta, log_weights)
    whole = whole.reshape(n * k, n * k)
    hessian(x, q, t, c, delta, log_weights, direction, product, np.empty((n, n)), np.empty((n, n)))
    expected = whole @ direction.ravel()
    for ours, theirs in [(result, whole), (square, sums[0]), (unit, sums[1]), (product.ravel(), expected)]:
        worst = max(worst, float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), np.abs(whole).max())))
json.dump({"worst": worst, **cpu.info()}, sys.stdout)
"""


@pytest.mark.parametrize("name", cpu.info()["supported"])
def test_every_path_is_the_twin(name, tmp_path):
    run = subprocess.run([sys.executable, "-c", PATH_SCRIPT], env={**os.environ, "OVERPARAM_KERNEL": name}, cwd=tmp_path,
                         capture_output=True, text=True, check=True)
    info = json.loads(run.stdout)
    assert info["path"] == name and "warning" not in info
    assert info["worst"] < ROUNDING


# --- the objective against oracles ------------------------------------------------------------------------------------

THREE = np.array([[1.0, -0.6], [-0.4, 0.9], [0.3, 0.2]])
MIXTURE = ([[1.0, 0.0, 0.3], [-1.0, 0.5, 0.0]], [0.3, 0.7])
CASES = {
    "1-D": (op.Gaussian([0.3]), [[1.5], [-1.2], [0.4]], None),
    "full rank": (op.Gaussian([0.0, 0.5]), THREE, None),
    "d above the rank": (op.Gaussian(np.arange(5) / 3), np.linspace(-1, 1.2, 10).reshape(2, 5) ** 3, [0.3, 0.7]),
    "a plane in space": (op.Gaussian([0.0, 0.1, 0.2]), [[1.0, 0, 0.5], [-1.0, 0.4, 0], [0.2, 1.0, -0.7]], None),
    "neutral axis": (op.Gaussian(np.zeros(3)), [[1.0, 2, 0], [-1.0, 2, 0], [0.3, 2, 0]], [0.2, 0.5, 0.3]),
    "coincident": (op.Gaussian(np.zeros(3)), [[1.0, 2, 0]] * 3, [0.2, 0.3, 0.5]),
    "two coincide": (op.Gaussian(np.zeros(2)), [[1.0, 2], [1.0, 2], [-1.0, 0.5]], None),
    "nearly coincident": (op.Gaussian(np.zeros(2)), [[3.0, 0], [3.1, 0.05], [2.9, -0.03]], None),
    "one far": (op.Gaussian([0.0]), [[0.1], [9.0], [9.5]], None),
    "one": (op.Gaussian([0.0, 1.0]), [[3.0, 1.0]], None),
    "no weight": (op.Gaussian([0.0]), [[1.0], [-1.0], [0.5]], [0.5, 0.5, 0.0]),
    "mixture": (op.GaussianMixture(*MIXTURE), [[0.7, 0.2, 0.0], [-0.3, 0.8, 0.4]], [0.4, 0.6]),
    "mixture, d above the rank": (op.GaussianMixture(np.eye(4)[:2], [0.5, 0.5]), [[-0.7, 0.9, 0.4, 0.3], [0.8, -0.6, 0.4, 0.3]], None),
}
every_case = pytest.mark.parametrize("case", CASES)


def made(case, tol=1e-11):
    teacher, params, weights = CASES[case]
    return op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=tol)), np.array(params, dtype=float)


def as_matrix(found):
    return found.reshape(found.shape[0] * found.shape[1], -1)


@every_case
def test_is_the_derivative_of_the_gradient(case):
    """Sixth-order differences, step 4e-3: truncation about (4e-3)^6 = 4e-15 times seventh derivatives, and the gradient's 1e-13 over
    the step."""
    (obj, params), h = made(case), 4e-3
    fine = made(case, tol=1e-13)[0]
    found = obj.hessian(params)
    assert found.shape == 2 * params.shape
    for i, a in np.ndindex(params.shape):
        unit = np.zeros_like(params)
        unit[i, a] = h
        slope = sum(w * (fine.grad(params + s * unit) - fine.grad(params - s * unit)) for s, w in [(1, 0.75), (2, -0.15), (3, 1 / 60)]) / h
        assert_allclose(found[:, :, i, a], slope, rtol=0, atol=1e-10 * np.abs(found).max())


@every_case
def test_is_symmetric(case):
    obj, params = made(case)
    found = as_matrix(obj.hessian(params))
    assert_allclose(found, found.T, rtol=0, atol=100 * EPS * np.abs(found).max())


@every_case
def test_hvp_is_a_product(case):
    obj, params = made(case)
    direction = np.random.default_rng(1).standard_normal(params.shape)
    found = obj.hessian(params)
    assert_allclose(obj.hvp(params, direction), np.einsum("iajb,jb->ia", found, direction), rtol=0, atol=1e-12 * np.abs(found).max())
    assert_array_equal(obj.hvp(params, 0 * direction), 0.0)


def by_complex_steps(params, weights, nodes):
    """Hessian against N(0, I): complex steps through Lemma 2.2's gradient, on an equispaced grid over the space itself.

    Error about exp(-2 pi^2/(s h)) at spread s and step h: 3e-26 for the widest (2.1, 0.16), 4e-17 in three dimensions (1.2, 0.4).
    """
    n, d = params.shape
    line = np.linspace(-9.5, 9.5, nodes)
    x = np.stack([part.ravel() for part in np.meshgrid(*[line] * d, indexing="ij")], axis=1)
    density = np.exp(-0.5 * (x**2).sum(axis=1)) * ((line[1] - line[0]) / np.sqrt(2 * np.pi)) ** d
    x, density = x[density > 1e-25], density[density > 1e-25]

    def grad(mu):
        w, v = oracles._weights_and_mean(x, mu, weights)
        inner, gram = v @ mu.T, mu @ mu.T
        Mmu, Mv = (w[:, None, :] * gram) @ mu, (w * inner) @ mu
        rows = v[:, None] + Mmu - 2 * v[:, None] * inner[:, :, None] - 2 * Mv[:, None] + 3 * ((v**2).sum(axis=1)[:, None] * v)[:, None]
        return 2 * np.einsum("b,bi,bia->ia", density, w, rows)

    found = np.empty((n, d, n, d))
    for i, a in np.ndindex(n, d):
        moved = params.astype(complex)
        moved[i, a] += 1e-30j
        found[:, :, i, a] = grad(moved).imag / 1e-30
    return found


@pytest.mark.parametrize(("params", "weights", "nodes"), [
    ([[1.2], [-0.9], [0.3]], [0.2, 0.5, 0.3], 120), (THREE, [1 / 3] * 3, 90), ([[0.8, 0.1, -0.5], [-0.4, 0.6, 0.2]], [0.6, 0.4], 48),
    ([[0.8, 0.1, -0.5]] * 2, [0.6, 0.4], 44)])
def test_against_complex_steps(params, weights, nodes):
    params = np.array(params)
    obj = op.ScoreMatching(op.Gaussian(np.zeros(params.shape[1])), weights=weights, rule=op.Auto(tol=1e-12))
    expected = by_complex_steps(params, np.array(weights), nodes)
    assert_allclose(obj.hessian(params), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_against_mpmath():
    """Second differences of the loss itself in 40 digits: step 1e-8, error 1e-16 times fourth derivatives."""
    params, weights = np.array([[1.7], [-1.1]]), [0.3, 0.7]
    with mpmath.workdps(40):
        def loss(a, b):
            def density(x):
                one, two = weights[0] * mpmath.exp(-((x - a) ** 2) / 2), weights[1] * mpmath.exp(-((x - b) ** 2) / 2)
                return mpmath.npdf(x) * ((one * a + two * b) / (one + two)) ** 2

            return mpmath.quad(density, [-12, -4, 0, 4, 12])

        a, b, h = mpmath.mpf(params[0, 0]), mpmath.mpf(params[1, 0]), mpmath.mpf("1e-8")
        here = loss(a, b)
        expected = [[(loss(a + h, b) - 2 * here + loss(a - h, b)) / h**2,
                     (loss(a + h, b + h) - loss(a + h, b - h) - loss(a - h, b + h) + loss(a - h, b - h)) / (4 * h**2)],
                    [0, (loss(a, b + h) - 2 * here + loss(a, b - h)) / h**2]]
        expected = np.array(expected, dtype=float)
    expected[1, 0] = expected[0, 1]
    obj = op.ScoreMatching(op.Gaussian([0.0]), weights=weights, rule=op.Auto(tol=1e-13))
    assert_allclose(as_matrix(obj.hessian(params)), expected, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_one_gaussian(d):
    """The loss of one parameter is |mu - mu*|^2."""
    obj = op.ScoreMatching(op.Gaussian(np.full(d, 0.5)))
    assert_allclose(as_matrix(obj.hessian(np.arange(d)[None])), 2 * np.eye(d), rtol=0, atol=200 * EPS)


@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize("distance", [1.0, 1e4])
def test_common_point(d, distance):
    """To first order about a common point m: gradient (2/n) [mean - 2 m m'(delta_i - mean delta)], so the Hessian is its matrix."""
    n, m = 3, distance * np.linspace(0.5, 1.5, d)
    obj = op.ScoreMatching(op.Gaussian(np.zeros(d)))
    apart = np.eye(n) - 1 / n
    expected = 2 / n * (np.einsum("ij,ab->iajb", np.full((n, n), 1 / n), np.eye(d)) - 2 * np.einsum("ij,a,b->iajb", apart, m, m))
    close(obj.hessian(np.tile(m, (n, 1))), expected, 1e-14)
    close(obj.hessian(op.init.around(m, 1e-150 * np.eye(n, d))), expected, 1e-14)


@every_case
def test_rotation_and_permutation(case):
    obj, params = made(case)
    n, d = params.shape
    found = obj.hessian(params)
    order = np.random.default_rng(2).permutation(n)
    weights = None if obj.weights is None else obj.weights[order]
    permuted = op.ScoreMatching(obj.teacher, weights=weights, rule=obj.rule).hessian(params[order])
    assert_allclose(permuted, found[order][:, :, order], rtol=0, atol=3e-11 * np.abs(found).max())
    if d == 1:
        return
    turn = special_ortho_group.rvs(d, random_state=3)
    teacher = op.GaussianMixture(obj.teacher.means @ turn.T, obj.teacher.weights)
    turned = op.ScoreMatching(teacher, weights=obj.weights, rule=obj.rule).hessian(params @ turn.T)
    assert_allclose(turned, np.einsum("pa,iajb,qb->ipjq", turn, found, turn), rtol=0, atol=3e-11 * np.abs(found).max())


# --- the bound, and rules ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", configurations.KINDS)
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("tol", [1e-3, 1e-7])
def test_error_is_below_its_bound(kind, rank, tol):
    """The spectral norm of the error against a rule a million times finer; what is seen beyond the bound is rounding."""
    rng = np.random.default_rng([rank, configurations.KINDS.index(kind)])
    for _ in range(3):
        params, weights = configurations.draw(rng, rank, kind, high=5.0)
        teacher = op.Gaussian(np.zeros(rank + 1))
        params = np.column_stack([params, np.full(len(params), 0.3)])
        obj, fine = (op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=t)) for t in (tol, 1e-11))
        _, found = obj._curvature(params)
        norm = np.linalg.norm(as_matrix(fine.hessian(params)), 2)
        assert found.error <= tol * norm * (1 + tol) + 1e-10 * norm
        apart = np.linalg.norm(as_matrix(obj.hessian(params) - fine.hessian(params)), 2)
        assert apart <= found.error + 1e-11 * norm + 1e-13 * norm * (1 + np.abs(params).max() ** 2)


def test_many_parameters():
    """More coordinates than the norm is taken of exactly: products give a lower bound of it, and the tolerance is met a fortiori."""
    params = 0.5 * np.random.default_rng(0).standard_normal((210, 1))
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6))
    exact = op.ScoreMatching(op.Gaussian([0.0])).hessian(params)
    _, found = obj._curvature(params)
    norm = np.linalg.norm(as_matrix(exact), 2)
    assert np.linalg.norm(as_matrix(found.hessian - exact), 2) <= found.error <= 1e-6 * norm
    close(obj.hvp(params, params), np.einsum("iajb,jb->ia", exact, params), 1e-6)


def test_bound_of_a_mixture():
    obj, params = made("mixture", tol=1e-4)
    _, found = obj._curvature(params)
    exact = made("mixture", tol=1e-11)[0].hessian(params)
    assert np.linalg.norm(as_matrix(obj.hessian(params) - exact), 2) <= found.error <= 1e-4 * np.linalg.norm(as_matrix(exact), 2)


def test_fixed_and_sampled_rules():
    params = THREE
    exact = op.ScoreMatching(op.Gaussian([0.0, 0.0])).hessian(params)
    for rule, rtol in [(op.Trapezoid(60), 1e-10), (op.GaussHermite(60), 1e-6), (op.Sobol(2**14, rng=0), 1e-3),
                       (op.MonteCarlo(2**16, rng=0), 0.05)]:
        found = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=rule).hessian(params)
        close(found, exact, rtol)
    mixture, point = made("mixture")
    sampled = op.ScoreMatching(mixture.teacher, weights=mixture.weights, rule=op.Sobol(2**14, rng=0))
    close(sampled.hessian(point), mixture.hessian(point), 1e-3)


def test_a_node_off_the_axes_is_not_enough():
    """Sampled points lie in the span of the differences, and the variance off it is added: exact for coincident means."""
    params = np.tile([1.0, 0.5, -0.2], (2, 1))
    teacher = op.Gaussian(np.zeros(3))
    close(op.ScoreMatching(teacher, rule=op.MonteCarlo(32, rng=0)).hessian(params), op.ScoreMatching(teacher).hessian(params), 1e-12)


def test_too_hard():
    rng = np.random.default_rng(0)
    params = rng.standard_normal((2, 1)) * 3
    with pytest.raises(op.TooHardError):
        op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(max_nodes=20)).hessian(params)
    exact = op.ScoreMatching(op.Gaussian([0.0])).hessian(params)
    most = op.ScoreMatching(op.Gaussian([0.0])).estimate(params).nodes  # enough for the gradient, not for the Hessian
    with pytest.raises(op.TooHardError, match=r"the Hessian to tol=1e-10 needs .* more than max_nodes"):
        op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(max_nodes=most)).hessian(params)
    close(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(max_nodes=20, sampling=True)).hessian(params), exact, 1e-3)
    close(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(max_nodes=most, sampling=True)).hessian(params), exact, 1e-3)


@every_case
def test_a_plans_own_hessian(case):
    """On a run's nodes: narrow axes have few, so only about a per cent is asked for."""
    obj, params = made(case)
    state = obj.start(params)
    found, basis = obj.plan(state).hessian(state), np.eye(state.k) if state.basis is None else state.basis
    exact = np.einsum("pa,ipjq,qb->iajb", basis, obj.hessian(params), basis)
    assert found.shape == (state.n, state.k, state.n, state.k)
    close(found, exact, 0.02)


# --- input ------------------------------------------------------------------------------------------------------------


def test_every_real_array_will_do():
    params = np.array([[1.0, -2.0], [0.0, 1.0], [3.0, 0.0]])
    obj = op.ScoreMatching(op.Gaussian([0.5, 0.0]), rule=op.Auto(tol=1e-8))
    expected, direction = obj.hessian(params), np.ones((3, 2))
    product = obj.hvp(params, direction)
    frozen = params.copy()
    frozen.flags.writeable = False
    for form in (frozen, params.astype(np.float32), np.asfortranarray(params), params.astype(int), params.tolist()):
        assert_array_equal(obj.hessian(form), expected)
        assert_array_equal(obj.hvp(form, np.asfortranarray(direction).astype(np.float32)), product)
    state = op.State(centre=np.array([1.0, 0.0]), deviations=params - [1.0, 0.0])
    close(obj.hessian(state), expected, 1e-8)
    close(obj.hvp(state, direction), product, 1e-7)


def test_what_is_refused():
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    with pytest.raises(ValueError, match=r"direction must have the shape of params, \(3, 2\); got \(2, 2\)"):
        obj.hvp(THREE, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="direction must be finite"):
        obj.hvp(THREE, np.full((3, 2), np.nan))
    with pytest.raises(ValueError, match=r"direction must hold real numbers"):
        obj.hvp(THREE, np.zeros((3, 2), complex))
    for call in (obj.hessian, lambda params: obj.hvp(params, params)):
        with pytest.raises(ValueError, match=r"params have 3 coordinates"):
            call(np.zeros((2, 3)))
        with pytest.raises(ValueError, match="params must be finite"):
            call([[np.nan, 0.0]])
    wide = op.ScoreMatching(op.Gaussian(np.zeros(2501)))
    with pytest.raises(ValueError, match=r"5002 coordinates.*hvp"):
        wide.hessian(np.zeros((2, 2501)))


def test_many_dimensions():
    """Nothing d x d is formed: in 100 000 dimensions that would be 80 GB."""
    d, rng = 100_000, np.random.default_rng(0)
    params, direction = rng.standard_normal((2, d)) * 3e-3, rng.standard_normal((2, d))
    obj = op.ScoreMatching(op.Gaussian(np.zeros(d)), rule=op.Auto(tol=1e-12))
    found, h = obj.hvp(params, direction), 1e-5
    slope = (8 * (obj.grad(params + h * direction) - obj.grad(params - h * direction))
             - (obj.grad(params + 2 * h * direction) - obj.grad(params - 2 * h * direction))) / (12 * h)
    # the direction is some 450 long, so that h moves the params by 4.5e-3: truncation (4.5e-3)^4 = 4e-10 times fifth derivatives
    assert_allclose(found, slope, rtol=0, atol=1e-7 * np.abs(found).max())


# --- an objective of one's own ----------------------------------------------------------------------------------------


class Quartic(op.Objective):
    """L = sum of (|mu_i|^2)^2 / 4, whose Hessian has the blocks |mu|^2 I + 2 mu mu'."""

    def value_and_grad(self, params):
        square = (params**2).sum(axis=1)
        return float((square**2).sum() / 4), square[:, None] * params


def test_differences_of_the_gradient():
    """Fourth-order differences of a cubic gradient are exact up to rounding over the step, 1e-16/7e-4."""
    obj, params = Quartic(), np.array([[1.0, -0.5, 0.2], [0.3, 0.0, 2.0]])
    expected = np.zeros((2, 3, 2, 3))
    for i, mu in enumerate(params):
        expected[i, :, i] = (mu @ mu) * np.eye(3) + 2 * np.outer(mu, mu)
    close(obj.hessian(params), expected, 3e-12)
    assert_array_equal(obj.hessian(params), obj.hessian(params).transpose(2, 3, 0, 1))
    direction = np.arange(6.0).reshape(2, 3)
    close(obj.hvp(params, direction), np.einsum("iajb,jb->ia", expected, direction), 3e-12)
    close(obj.hvp(params, 1e-200 * direction) * 1e200, np.einsum("iajb,jb->ia", expected, direction), 3e-12)
    assert_array_equal(obj.hvp(params, np.zeros((2, 3))), 0.0)
    state = obj.start(params)
    close(obj.plan(state).hessian(state), expected, 3e-12)
    with pytest.raises(ValueError, match="direction must have the shape of params"):
        obj.hvp(params, np.zeros(3))
    with pytest.raises(ValueError, match="hvp"):
        obj.hessian(np.zeros((1, 5001)))
