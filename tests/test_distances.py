"""Distances between mixtures: closed forms, adaptive integration, inequalities and symmetries."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import erf

import overparam as op
from overparam import _total_variation as parts
from overparam.distances import fisher, kullback_leibler, total_variation

P = op.GaussianMixture([[-2.0], [0.3], [2.0]], [0.3, 0.3, 0.4])
Q = op.GaussianMixture([[-1.0], [0.0], [1.5], [4.0]], [0.2, 0.3, 0.4, 0.1])


def density(mixture, x):
    x = np.atleast_1d(x)
    return (mixture.weights * np.exp(-((x[:, None] - mixture.means.ravel()) ** 2) / 2)).sum(axis=1) / math.sqrt(2 * math.pi)


def gaussians(distance):
    return float(erf(distance / math.sqrt(8)))  # 2 Phi(distance / 2) - 1


# --- total variation on a line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1e-12, 1e-6, 0.1, 1.0, 5.0, 12.0, 1e3, 1e6, 1e12, 1e149])
def test_two_gaussians(distance):
    for tol in (1e-4, 1e-8, 1e-13):
        found = total_variation(op.Gaussian([3.0]), op.Gaussian([3.0 + distance]), tol=tol)
        assert found.error < 1.1 * tol
        exact = gaussians(3.0 + distance - 3.0)
        assert abs(found.value - exact) <= found.error
        assert found.low <= exact <= found.high
        assert found.reliable and found.method == ("bounds" if distance > 50 else "intervals")


def test_against_adaptive_integration():
    roots = [-14, -6, -3.5, -2.5, -1.5, -1, -0.3, 0.3, 0.8, 1.2, 1.7, 2.2, 3, 5, 16]
    exact = sum(quad(lambda x: abs(density(P, x) - density(Q, x))[0], a, b, limit=500, epsabs=1e-13)[0] for a, b in
                itertools.pairwise(roots)) / 2
    for tol in (1e-3, 1e-6, 1e-11):
        found = total_variation(P, Q, tol=tol)
        assert abs(found.value - exact) <= found.error + 1e-11
        assert found.error <= tol
        assert found.low - 1e-11 <= exact <= found.high + 1e-11


def test_random_mixtures_on_a_line_against_a_fine_grid():
    rng = np.random.default_rng(0)
    for _ in range(20):
        m, n = rng.integers(1, 6, size=2)
        p = op.GaussianMixture(rng.normal(0, 3, (m, 1)), rng.dirichlet(np.ones(m)))
        q = op.GaussianMixture(rng.normal(0, 3, (n, 1)), rng.dirichlet(np.ones(n)))
        x = np.linspace(-22, 22, 200_001)
        exact = np.abs(density(p, x) - density(q, x)).sum() * (x[1] - x[0]) / 2  # kinks cost h^2
        found = total_variation(p, q)
        assert abs(found.value - exact) < found.error + 2e-8
        assert abs(total_variation(q, p).value - found.value) <= 2 * found.error
        order = rng.permutation(m)
        other = total_variation((p.means[order], p.weights[order]), q)
        assert abs(other.value - found.value) <= found.error + other.error


def test_a_root_without_a_change_of_sign():
    """p = N(0) and a symmetric q with 2 phi(a) cosh(0) = phi(0) at the middle: f touches 0 there."""
    a = math.sqrt(2 * math.log(2))
    q = op.GaussianMixture([[-a], [a], [0.0]], [0.5, 0.5, 0.0])
    grown = op.GaussianMixture([[-a], [a], [20.0]], [0.25, 0.25, 0.5])
    thin = op.GaussianMixture([[0.0], [20.0]], [0.25, 0.75])
    x = np.linspace(-12, 32, 1_000_001)
    for one, other in ((op.Gaussian([0.0]), q), (thin, grown)):
        exact = np.abs(density(one, x) - density(other, x)).sum() * (x[1] - x[0]) / 2
        found = total_variation(one, other, tol=1e-10)
        assert abs(found.value - exact) < 1e-9 and found.error <= 1e-10


def test_coincident_mixtures():
    assert total_variation(P, (P.means[::-1], P.weights[::-1])).value < 1e-14
    same = total_variation(op.Gaussian([1.0, 2.0]), [[1.0, 2.0], [1.0, 2.0]])
    assert (same.value, same.method, same.reliable) == (0.0, "coincident", True)
    split = total_variation(P, (np.repeat(P.means, 2, axis=0), np.repeat(P.weights / 2, 2)))
    assert split.value <= split.error < 1e-14


def test_far_apart_and_tiny_weights():
    far = total_variation(P, P.means + 1e3)
    assert 1 - far.value <= far.error <= 1e-8 and far.high == 1.0
    assert 1 - total_variation(P, P.means + 1e3, tol=1e-13).value < 2e-13
    small = total_variation(op.Gaussian([0.0]), ([[0.0], [1e3]], [1 - 1e-12, 1e-12]), tol=1e-15)
    assert abs(small.value - 1e-12) <= small.error < 2e-14
    none = total_variation(op.Gaussian([0.0]), ([[0.0], [1e3]], [1.0, 0.0]))
    assert none.value == 0.0


# --- more axes --------------------------------------------------------------------------------------------------------


def grid_of_two(p, q, step=0.01):
    x = np.arange(-9, 9, step)
    axes = [[np.exp(-((x - m[k]) ** 2) / 2) / math.sqrt(2 * math.pi) for k in (0, 1)] for m in (*p.means, *q.means)]
    f = sum(c * np.multiply.outer(a, b) for c, (a, b) in zip((*p.weights, *-q.weights), axes))
    return np.abs(f).sum() * step**2 / 2


def test_a_plane_by_boxes():
    p = op.GaussianMixture([[-1.0, 0.0], [1.0, 0.5], [0.0, 1.0]], [0.5, 0.3, 0.2])
    q = op.GaussianMixture([[0.5, -1.0], [-1.0, 1.0]])
    exact = grid_of_two(p, q)
    found = total_variation(p, q, tol=1e-4)
    assert found.method == "boxes" and found.reliable
    assert found.error <= 1e-4 and abs(found.value - exact) <= found.error + 1e-5
    assert found.low <= exact + 1e-5 and exact - 1e-5 <= found.high
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 2)))[0]  # the same in a plane of five dimensions
    turned = total_variation((p.means @ turn.T + 7, p.weights), (q.means @ turn.T + 7, q.weights), tol=1e-4)
    assert abs(turned.value - found.value) <= turned.error + found.error


def test_samples_agree_with_boxes_and_know_their_error():
    rng = np.random.default_rng(1)
    shifts = []
    for seed in range(8):
        means = rng.normal(0, 1.5, (5, 2))
        signed = parts.Signed(means, np.array([0.6, 0.4, 0.3, 0.3, 0.4]), 2)
        exact, bound, _ = parts.by_boxes(signed, 2e-5, 50_000)
        value, error, reliable, nodes = parts.by_samples(signed, 1e-8, np.random.default_rng(seed), 512)
        assert reliable and nodes == 512 * 16 * 5
        assert bound < 5e-5
        shifts.append((value - exact) / math.hypot(error, bound))
        assert parts.by_projections(signed) <= exact + bound
        assert parts.by_coupling(signed) >= exact - bound
        assert parts.by_overlap(signed, np.zeros(5)) <= exact + bound
    assert max(map(abs, shifts)) < 5 and np.mean(np.square(shifts)) < 4


def test_many_axes_between_proved_bounds():
    means = 2 * np.eye(6)
    found = total_variation(means[:3], means[3:], rng=3)
    assert found.method == "Sobol points" and found.reliable
    assert found.low < found.value < found.high
    x = np.random.default_rng(0).normal(size=(200_000, 6)) + means[np.random.default_rng(1).integers(0, 3, 200_000)]
    logits = [np.log(np.exp(x @ part.T).sum(axis=1)) for part in (means[:3], means[3:])]  # equal lengths
    seen = np.maximum(1 - np.exp(logits[1] - logits[0]), 0)  # TV = E_p (1 - q/p)_+
    assert abs(found.value - seen.mean()) < 5 * math.hypot(seen.std() / math.sqrt(len(seen)), found.error)
    assert total_variation(means[:3], means[3:], rng=3) == found
    far = total_variation(100 * means[:3], 100 * means[3:])
    assert far.value == pytest.approx(1, abs=1e-8) and far.reliable and far.error < 1e-8


def test_samples_that_see_nothing_are_not_trusted():
    means = np.zeros((4, 4))
    means[1, 0], means[3, 1] = 6.0, 6.0
    signed = parts.Signed(means, np.array([1 - 1e-6, 1e-6, 1 - 1e-6, 1e-6]), 2)
    value, error, reliable, _ = parts.by_samples(signed, 1e-8, np.random.default_rng(0), 64)
    assert not reliable and error < value < 1.1e-6
    assert parts.by_samples(signed, 0.5, np.random.default_rng(0), 64)[2]  # good enough for half the range


def test_a_million_dimensions():
    d = 10**6
    a, b = np.zeros(d), np.zeros(d)
    a[3], b[5] = 1.0, 2.0
    found = total_variation(op.Gaussian(a), op.Gaussian(b))
    assert abs(found.value - gaussians(math.sqrt(5))) <= found.error <= 1e-8
    assert_allclose(kullback_leibler(op.Gaussian(a), b[None]).value, 2.5, rtol=1e-12)
    assert_allclose(fisher(op.Gaussian(a), b[None]).value, 5.0, rtol=1e-12)


# --- divergences ------------------------------------------------------------------------------------------------------


def test_divergences_against_adaptive_integration():
    def ratio(x):
        return math.log(density(P, x)[0] / density(Q, x)[0])

    def scores(x):
        return (P.score([[x]]) - Q.score([[x]]))[0, 0]

    divergence = quad(lambda x: density(P, x)[0] * ratio(x), -14, 14, limit=500, epsabs=1e-12)[0]
    squared = quad(lambda x: density(P, x)[0] * scores(x) ** 2, -14, 14, limit=500, epsabs=1e-12)[0]
    for function, exact in ((kullback_leibler, divergence), (fisher, squared)):
        found = function(P, Q)
        assert abs(found.value - exact) <= found.error + 1e-11
        assert found.low <= exact + 1e-11 and exact - 1e-11 <= found.high
        assert found.reliable and found.nodes > 0 and "Auto" in found.method and found.error < 1e-7


def test_pinskers_inequality():
    rng = np.random.default_rng(2)
    for _ in range(10):
        p = op.GaussianMixture(rng.normal(0, 1.5, (2, 1)), rng.dirichlet([1, 1]))
        q = op.GaussianMixture(rng.normal(0, 1.5, (3, 1)), rng.dirichlet([1, 1, 1]))
        distance, divergence = total_variation(p, q), kullback_leibler(p, q)
        assert distance.low <= math.sqrt(divergence.high / 2)


def test_a_student_and_its_state():
    teacher = op.GaussianMixture([[-2.0], [2.0]], [0.3, 0.7])
    run = op.em(op.KLDivergence(teacher), [[-1.0], [1.0]], steps=5)
    student = op.GaussianMixture(run.final, run.final_weights)
    for function in (total_variation, kullback_leibler, fisher):
        plain, state = function(teacher, student), function(teacher, (run.final_state, run.final_weights))
        assert abs(plain.value - state.value) <= plain.error + state.error
        assert float(plain) == plain.value
    assert abs(kullback_leibler(teacher, student).value - run.loss[-1]) <= run.loss_error[-1] + 1e-8 * run.loss[-1]


def test_tiny_deviations_of_a_state_are_kept():
    start = op.init.around([3.0], [[1e-60], [-1e-60]])
    assert_allclose(kullback_leibler(op.Gaussian([3.0]), start).value, 0.25e-240, rtol=1e-8)  # tr S^2 / 4 with S = 1e-120
    assert total_variation(op.Gaussian([3.0]), start).value < 1e-15


@pytest.mark.parametrize("function", [total_variation, kullback_leibler, fisher])
def test_errors_name_the_argument(function):
    with pytest.raises(ValueError, match=r"p lives in 1 dimension\(s\) and q in 2"):
        function(P, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="p must be a mixture of identity-covariance Gaussians"):
        function(op.DataSet([[1.0], [2.0]]), Q)
    with pytest.raises(ValueError, match=r"q is no mixture.*one entry per component"):
        function(P, ([[1.0], [2.0]], [1.0]))
    with pytest.raises(ValueError, match=r"q is no mixture.*finite"):
        function(P, [[math.nan]])
    with pytest.raises(ValueError, match=r"at most 1e\+150"):
        function(P, [[1e151]])
    with pytest.raises(ValueError, match="tol"):
        function(P, Q, tol=0.0)


def test_it_is_loaded_when_first_used(tmp_path):
    code = "import sys, overparam as op; print('overparam.distances' in sys.modules, op.distances.__name__)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert shown.split() == ["False", "overparam.distances"]
