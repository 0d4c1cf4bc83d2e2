"""Starting points."""

import math
import warnings

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from overparam import init
from overparam.data_sets import DataSet
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture

EPS = np.finfo(float).eps


def test_cluster_is_center_plus_scaled_normals():
    z = np.random.default_rng(4).standard_normal((5, 3))
    params = init.cluster(n=5, center=[6.0, 0, 0], scale=1e-7, rng=4)
    assert_array_equal(params, np.array([6.0, 0, 0]) + 1e-7 * z)
    assert params.dtype == np.float64
    assert init.cluster(n=2, center=3.0, scale=0.0).tolist() == [[3.0], [3.0]]


def test_cluster_says_when_float64_cannot_hold_it():
    with pytest.warns(UserWarning, match="init.around"):
        init.cluster(n=3, center=[6.0], scale=1e-17, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        init.cluster(n=3, center=[6.0], scale=1e-15, rng=0)
        init.cluster(n=3, center=[0.0], scale=1e-300, rng=0)


def test_gaussian_moments_and_seed():
    params = init.gaussian(n=100_000, mean=[8.0, -1.0], scale=2.0, rng=1)
    assert_allclose(params.mean(axis=0), [8.0, -1.0], atol=5 * 2.0 / np.sqrt(1e5))  # five standard errors
    assert_allclose(params.std(axis=0), 2.0, atol=5 * 2.0 / np.sqrt(2e5))
    assert_array_equal(init.gaussian(3, [0.0], rng=7), init.gaussian(3, [0.0], rng=np.random.default_rng(7)))
    rng = np.random.default_rng(7)
    assert not np.array_equal(init.gaussian(3, [0.0], rng=rng), init.gaussian(3, [0.0], rng=rng))


@pytest.mark.parametrize(("n", "target"), [(2, [0.5]), (3, [0.3, 0.4]), (1, [1.0]), (4, [0.0, 0.0])])
def test_exponentially_small_fills_the_ball_of_theorem_3_2(n, target):
    d, distance = len(target), float(np.linalg.norm(target))
    with mpmath.workdps(50):
        radius = mpmath.exp(-106 * n * d * mpmath.mpf(distance) ** 3) / (108 * n * d)
    assert_allclose(init.log_radius(n, target), float(mpmath.log(radius)), rtol=8 * EPS)
    rng = np.random.default_rng(0)
    starts = [init.exponentially_small(n, target, rng) for _ in range(500)]
    assert all(isinstance(start, State) and start.n == n and start.d == d for start in starts)
    assert_array_equal(starts[0].centre, 0.0)
    # exp of a logarithm of up to -700 carries 700 eps
    scaled = np.array([start.deviations for start in starts]) / float(radius)
    lengths = np.linalg.norm(scaled, axis=-1).ravel()
    assert lengths.max() <= 1.0 + 1000 * EPS
    # uniform in the ball: length^d is uniform on [0, 1]; mean 1/2 within five standard errors
    assert abs((lengths**d).mean() - 0.5) < 5 / np.sqrt(12 * lengths.size)


def test_exponentially_small_never_leaves_a_given_radius():
    for seed in range(200):
        start = init.exponentially_small(5, [1.0, 0.0, 0.0], seed, radius=1.0)
        assert np.linalg.norm(start.deviations, axis=1).max() <= 1.0


def test_exponentially_small_goes_on_below_float64():
    for d, distance in ((3, 1.0), (2, 30.0)):
        target = np.append(distance, np.zeros(d - 1))
        start = init.exponentially_small(5, target, rng=0)
        log_r = init.log_radius(5, target)
        assert start.log_scale < 0 and start.spread == 0.0 and start.centre.tolist() == [0.0] * d
        lengths = np.log(np.linalg.norm(start.deviations, axis=1)) + start.log_scale - log_r
        assert (lengths < 1e-9).all() and lengths.max() > -1.0  # five uniform in the ball: the longest is nearly a radius long
    shifted = init.exponentially_small(5, [1.0, 0.0, 0.0], 0, radius=0.5, log_scale=-1e6)
    assert -1e6 - 2 < shifted.log_spread < -1e6
    same = init.exponentially_small(5, [1.0, 0.0, 0.0], 0, radius=1.0, log_scale=-3.0)
    assert same.log_scale == 0.0
    assert_allclose(same.deviations, init.exponentially_small(5, [1.0, 0.0, 0.0], 0, radius=np.exp(-3.0)).deviations, rtol=8 * EPS)
    assert init.log_radius(5, [1e150]) == -math.inf
    with pytest.raises(ValueError, match=r"radius of Theorem.*radius="):
        init.exponentially_small(5, [1e150])
    assert 1e-291 < init.exponentially_small(5, [1.0, 0.0, 0.0], 0, radius=1e-290).spread < 2e-290


def test_around_carries_a_scale():
    z = np.array([[1.0], [-1.0 / 3]])
    start = init.around(15.0, z, log_scale=-2000.0)
    assert_allclose(start.log_spread, -2000 + math.log(4 / 3), rtol=4 * EPS)
    assert_allclose(start.deviations[0] / start.deviations[1], -3.0, rtol=4 * EPS)
    held = init.around(15.0, z, log_scale=-200.0)
    assert held.log_scale == 0.0
    assert_allclose(held.deviations, z * math.exp(-200.0), rtol=4 * EPS)


def test_one_offset_points_at_the_target():
    params = init.one_offset(n=4, target=[0.0, 200.0])
    assert_allclose(params[0], [0.0, math.exp(-2.0)], rtol=4 * EPS)
    assert_array_equal(params[1:], 0.0)
    assert init.one_offset(3, Gaussian([-2.0]), offset=0.25).ravel().tolist() == [-0.25, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"10\*\*\(-434\.294\).*offset="):
        init.one_offset(3, [1e5])
    assert init.one_offset(3, [1e200], offset=1e-3)[0, 0] == 1e-3


def test_symmetric_pair():
    assert init.symmetric_pair(n=4, s=2.5, dimension=2).tolist() == [[2.5, 0], [-2.5, 0], [0, 0], [0, 0]]
    assert init.symmetric_pair(n=3, s=1.0).shape == (3, 1)
    assert init.symmetric_pair(3, 1.0, target=[1.0, 5.0]).tolist() == [[2, 5], [0, 5], [1, 5]]
    with pytest.raises(ValueError, match="must agree"):
        init.symmetric_pair(3, 1.0, dimension=3, target=[1.0, 5.0])


def test_around_loses_nothing():
    z = np.array([[1.0], [-1.0 / 3]])
    state = init.around(center=[15.0], deviations=1e-97 * z)
    assert isinstance(state, State)
    assert_array_equal(state.deviations, 1e-97 * z)
    assert state.centre.tolist() == [15.0]
    assert init.around(2.0, z).centre.tolist() == [2.0]


def test_from_teacher_draws_what_the_teacher_draws():
    teacher = GaussianMixture([[-30.0, 0.0], [0.0, 30.0]], weights=[0.25, 0.75])
    params = init.from_teacher(teacher, 4000, rng=3)
    assert_array_equal(params, teacher.sample(4000, rng=3))
    assert abs((params[:, 0] < -15).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)  # five standard errors
    data = DataSet([[1.0, 2.0], [3.0, 4.0]])
    assert {tuple(row) for row in init.from_teacher(data, 50, rng=0).tolist()} == {(1.0, 2.0), (3.0, 4.0)}
    rng = np.random.default_rng(1)
    assert not np.array_equal(init.from_teacher(teacher, 3, rng), init.from_teacher(teacher, 3, rng))


@pytest.mark.parametrize(("radius", "dimension"), [(30.0, 3), (0.0, 2), (1e-200, 2), (1e200, 5), (2.0, 1)])
def test_on_sphere_has_the_radius_and_no_direction(radius, dimension):
    params = init.on_sphere(4000, radius, dimension, rng=5)
    lengths = np.abs(params).max(axis=1)
    lengths = lengths * np.linalg.norm(params / np.where(lengths == 0, 1.0, lengths)[:, None], axis=1)
    assert_allclose(lengths, radius, rtol=8 * EPS)
    if radius:  # every coordinate of a uniform direction has mean 0 and mean square 1/d
        assert np.abs(params.mean(axis=0)).max() < 5 * radius / np.sqrt(4000 * dimension)
        assert_allclose(((params / radius) ** 2).mean(axis=0), 1 / dimension, atol=5 / np.sqrt(4000))


def test_bad_region_is_the_start_of_the_lower_bound():
    params = init.bad_region(5, 9)
    assert params[:2, 0].tolist() == [36.0, -36.0] and np.count_nonzero(params) == 2
    assert np.linalg.norm(init.bad_region(3, 2), axis=1).max() >= 10 * np.sqrt(2)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: init.from_teacher(GaussianMixture, 3), "teacher must be"),
        (lambda: init.from_teacher(Gaussian(0.0), 0), "n must be"),
        (lambda: init.from_teacher(Gaussian(0.0), 2, rng="seed"), "rng must be"),
        (lambda: init.on_sphere(0, 1.0, 2), "n must be"),
        (lambda: init.on_sphere(2, -1.0, 2), "radius must be"),
        (lambda: init.on_sphere(2, 1.0, 0), "dimension must be"),
        (lambda: init.bad_region(2, 3), "n must be"),
        (lambda: init.bad_region(3, 0), "dimension must be"),
        (lambda: init.cluster(0, [1.0], 1.0), "n must be"),
        (lambda: init.cluster(True, [1.0], 1.0), "n must be"),
        (lambda: init.cluster(2, [], 1.0), "center is empty"),
        (lambda: init.cluster(2, [[1.0]], 1.0), "center must have"),
        (lambda: init.cluster(2, [np.nan], 1.0), "center must be finite"),
        (lambda: init.cluster(2, [1.0], -1.0), "scale must be"),
        (lambda: init.cluster(2, [1.0], [1.0]), "scale must be"),
        (lambda: init.cluster(2, [1.0], 1.0, rng="seed"), "rng must be"),
        (lambda: init.gaussian(2, [np.inf]), "mean must be finite"),
        (lambda: init.gaussian(2, [1.0], scale=np.nan), "scale must be"),
        (lambda: init.exponentially_small(2, [0.1], radius=0.0), "radius must be"),
        (lambda: init.exponentially_small(2, [0.1], radius=1e-305), "radius must be"),
        (lambda: init.exponentially_small(2, "here"), "target must hold"),
        (lambda: init.one_offset(1, [3.0]), "n must be"),
        (lambda: init.one_offset(3, [0.0, 0.0]), "target must not be 0"),
        (lambda: init.one_offset(3, [3.0], offset=-1.0), "offset must be"),
        (lambda: init.symmetric_pair(1, 1.0), "n must be"),
        (lambda: init.symmetric_pair(3, np.nan), "s must be"),
        (lambda: init.symmetric_pair(3, 1.0, dimension=0), "dimension must be"),
        (lambda: init.exponentially_small(2, [0.1], log_scale=1.0), "log_scale must be"),
        (lambda: init.around([1.0], [[1.0]], log_scale=0.5), "log_scale must be"),
        (lambda: init.around([1.0], [[1.0]], log_scale=-np.inf), "log_scale must be"),
        (lambda: init.around([1.0], [1.0, 2.0]), "deviations must have"),
        (lambda: init.around([1.0], [[1.0, 2.0]]), "must agree"),
        (lambda: init.around([1.0], [[1j]]), "deviations must hold real"),
    ],
)
def test_hostile_input_is_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()
