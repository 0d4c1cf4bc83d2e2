"""Teachers and the softmax behind them."""

import copy
import json
import pickle

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from overparam._softmax import posterior_mean, responsibilities, softmax
from overparam.teachers import Gaussian, GaussianMixture, Teacher, teacher_from_description

TEACHERS = [
    Gaussian(0.0),
    Gaussian([1.0, -2.0, 0.5]),
    GaussianMixture([[-2.0], [2.0]], weights=[0.25, 0.75]),
    GaussianMixture(np.arange(12.0).reshape(4, 3) % 5, weights=[0.1, 0.2, 0.3, 0.4]),
]
EPS = np.finfo(float).eps


def exact_responsibilities(x, means, weights):
    """The definition, in 80 digits."""
    with mpmath.workdps(80):
        logs = []
        for mean in means:
            square = mpmath.fsum((mpmath.mpf(float(a)) - mpmath.mpf(float(b))) ** 2 for a, b in zip(x, mean, strict=True))
            logs.append(-square / 2)
        top = max(logs)
        terms = [mpmath.mpf(float(w)) * mpmath.exp(value - top) for w, value in zip(weights, logs, strict=True)]
        return [term / mpmath.fsum(terms) for term in terms]


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_score_is_the_gradient_of_the_log_density(teacher):
    def log_density(x):
        squares = ((x - teacher.means) ** 2).sum(axis=1)
        return np.log((teacher.weights * np.exp(-squares / 2)).sum())

    h = 1e-5  # central differences: truncation h^2 = 1e-10, rounding eps/h = 2e-11
    for x in np.random.default_rng(0).normal(size=(5, teacher.dimension)):
        differences = [(log_density(x + h * e) - log_density(x - h * e)) / (2 * h) for e in np.eye(teacher.dimension)]
        assert_allclose(teacher.score(x), differences, atol=1e-8)


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_shapes_and_batches(teacher):
    d, m = teacher.dimension, len(teacher.weights)
    x = np.random.default_rng(1).normal(size=(2, 3, d))
    scores, weights = teacher.score(x), teacher.responsibilities(x)
    assert scores.shape == (2, 3, d)
    assert weights.shape == (2, 3, m)
    assert_allclose(weights.sum(axis=-1), 1.0, rtol=4 * EPS)
    assert_allclose(teacher.score(x[1, 2]), scores[1, 2], rtol=1e-13, atol=1e-14)
    assert teacher.score(np.empty((0, d))).shape == (0, d)


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_sample_has_the_moments_of_the_mixture(teacher):
    n = 200_000
    x = teacher.sample(n, rng=3)
    mean = teacher.weights @ teacher.means
    spread = teacher.means - mean
    covariance = np.eye(teacher.dimension) + (teacher.weights[:, None] * spread).T @ spread
    assert x.shape == (n, teacher.dimension)
    assert x.dtype == np.float64
    # five standard errors, coordinate by coordinate
    assert (abs(x.mean(axis=0) - mean) < 5 * np.sqrt(np.diag(covariance) / n)).all()
    # the fourth moment of a coordinate is at most 3 (largest variance)^2 here up to a factor below 2
    assert_allclose(np.atleast_2d(np.cov(x.T)), covariance, atol=5 * np.sqrt(6.0 / n) * covariance.max())
    # E[score] = 0 (integration by parts); its variance per coordinate is at most 1
    assert (abs(teacher.score(x).mean(axis=0)) < 5 / np.sqrt(n)).all()


def test_sampling_follows_the_rng():
    teacher = TEACHERS[2]
    assert_array_equal(teacher.sample(10, rng=5), teacher.sample(10, rng=np.random.default_rng(5)))
    rng = np.random.default_rng(5)
    assert not np.array_equal(teacher.sample(10, rng=rng), teacher.sample(10, rng=rng))


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_noise_time_shrinks_the_means_and_composes(teacher):
    later = teacher.at_time(0.7)
    assert type(later) is type(teacher)
    assert_allclose(later.means, np.exp(-0.7) * teacher.means, rtol=2 * EPS)
    assert_array_equal(later.weights, teacher.weights)
    assert_allclose(teacher.at_time(0.3).at_time(0.4).means, later.means, rtol=8 * EPS)
    assert teacher.at_time(0) == teacher
    assert_array_equal(teacher.at_time(1e4).means, 0.0)


def test_noise_time_is_the_process_simulated():
    # X_t = e^-t X_0 + sqrt(1 - e^-2t) Z exactly; compare second moments of the two samplers
    teacher, t, n = TEACHERS[2], 0.5, 200_000
    rng = np.random.default_rng(8)
    noised = np.exp(-t) * teacher.sample(n, rng=rng) + np.sqrt(-np.expm1(-2 * t)) * rng.standard_normal((n, 1))
    direct = teacher.at_time(t).sample(n, rng=rng)
    for power in (1, 2, 3):
        error = np.sqrt((noised**power).var() / n + (direct**power).var() / n)
        assert abs((noised**power).mean() - (direct**power).mean()) < 5 * error


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_description_goes_through_json_and_back(teacher):
    back = teacher_from_description(json.loads(json.dumps(teacher.describe())))
    assert back == teacher
    assert hash(back) == hash(teacher)
    assert_array_equal(back.weights, teacher.weights)  # to the last bit, though the sum of ten 0.1 is not 1


def test_description_keeps_weights_whose_sum_rounds():
    teacher = GaussianMixture(np.arange(10.0)[:, None], weights=[0.1] * 10)
    assert sum(teacher.weights.tolist()) != 1.0
    assert teacher_from_description(teacher.describe()) == teacher
    assert_array_equal(teacher.at_time(1.0).weights, teacher.weights)


@pytest.mark.parametrize("teacher", TEACHERS, ids=repr)
def test_frozen_in_every_copy(teacher):
    for one in (teacher, pickle.loads(pickle.dumps(teacher)), copy.deepcopy(teacher), teacher.at_time(0.5)):
        with pytest.raises(ValueError, match="read-only"):
            one.means[0, 0] = 1.0
        with pytest.raises(AttributeError, match="frozen"):
            one.means = np.zeros((1, 1))
        with pytest.raises(AttributeError, match="frozen"):
            del one.means
    assert pickle.loads(pickle.dumps(teacher)) == teacher


def test_input_is_copied():
    mean = np.array([1.0, 2.0])
    teacher = Gaussian(mean)
    mean[0] = 9.0
    assert teacher.mean.tolist() == [1.0, 2.0]
    assert mean.flags.writeable


def test_repr_is_code_and_short():
    for teacher in TEACHERS:
        assert eval(repr(teacher)) == teacher
    assert len(repr(Gaussian(np.zeros(10**5)))) < 100


def test_equality_tells_apart():
    assert Gaussian([1.0]) != Gaussian([2.0])
    assert Gaussian([1.0]) != GaussianMixture([[1.0]])
    assert Gaussian([1.0]) != "Gaussian"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Gaussian([]), "mean is empty"),
        (lambda: Gaussian([[1.0, 2.0]]), "mean must have"),
        (lambda: Gaussian([np.nan]), "mean must be finite"),
        (lambda: Gaussian(["a"]), "mean must hold real numbers"),
        (lambda: Gaussian(1j), "mean must hold real numbers"),
        (lambda: Gaussian(None), "mean must hold real numbers"),
        (lambda: GaussianMixture([0.0, 3.0]), r"\[\[a\], \[b\]\]"),
        (lambda: GaussianMixture([]), "means is empty"),
        (lambda: GaussianMixture([[1.0], [1.0, 2.0]]), "means is not a rectangular"),
        (lambda: GaussianMixture([[1.0], [2.0]], weights=[1.0]), "weights must have one entry per component"),
        (lambda: GaussianMixture([[1.0], [2.0]], weights=[0.5, 0.6]), "weights must sum to 1"),
        (lambda: GaussianMixture([[1.0], [2.0]], weights=[1.5, -0.5]), "weights must not be negative"),
        (lambda: Gaussian(0.0).at_time(-1), "t must be"),
        (lambda: Gaussian(0.0).at_time(np.inf), "t must be"),
        (lambda: Gaussian(0.0).sample(0), "n must be"),
        (lambda: Gaussian(0.0).sample(2.5), "n must be"),
        (lambda: Gaussian(0.0).sample(2, rng="x"), "rng must be"),
        (lambda: Gaussian([0.0, 0.0]).score([1.0]), "x must have shape"),
        (lambda: Gaussian(0.0).score([1.0, 2.0]), r"x\[..., None\]"),
        (lambda: Gaussian(0.0).score([np.inf]), "x must be finite"),
        (lambda: teacher_from_description({"kind": "Gausian", "mean": [0.0]}), "Did you mean 'Gaussian'"),
        (lambda: teacher_from_description({"mean": [0.0]}), "'kind'"),
        (lambda: teacher_from_description("Gaussian"), "'kind'"),
        (lambda: teacher_from_description({"kind": "Gaussian", "average": [0.0]}), "does not fit"),
        (lambda: teacher_from_description({"kind": "Gaussian", "mean": ["x"]}), "mean must hold"),
    ],
)
def test_hostile_input_is_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_a_teacher_of_ones_own():
    class Laplace(Teacher):
        dimension = 1

        def sample(self, n, rng=None):
            return np.random.default_rng(rng).laplace(size=(n, 1))

        def score(self, x):
            return -np.sign(x)

    teacher = Laplace()
    assert teacher.describe() == {"kind": "Laplace"}
    assert teacher.at_time(0) is teacher
    with pytest.raises(NotImplementedError, match="Laplace does not define at_time"):
        teacher.at_time(0.5)
    with pytest.raises(ValueError, match="t must be"):
        teacher.at_time(-0.5)
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Teacher,), {"dimension": 1})()


# --- the softmax --------------------------------------------------------------------------------------------


def test_softmax_of_huge_logits_and_zero_weights():
    assert softmax(np.array([1e308, 0.0, -1e308])).tolist() == [1.0, 0.0, 0.0]
    assert softmax(np.array([-np.inf, 0.0])).tolist() == [0.0, 1.0]
    with np.errstate(all="raise"):
        weights = softmax(np.array([[5.0, 1.0, 1.0]]), np.array([0.0, 0.25, 0.75]))
    assert weights[0, 0] == 0.0
    assert_allclose(weights, [[0.0, 0.25, 0.75]], rtol=4 * EPS)
    assert np.isnan(softmax(np.array([np.nan, 0.0]))).all()


@pytest.mark.parametrize("shift", [0.0, 3.0, 1e3, 1e6])
def test_responsibilities_against_eighty_digits(shift):
    rng = np.random.default_rng(2)
    means = rng.normal(size=(5, 3)) * 2 + shift
    weights = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    x = rng.normal(size=(20, 3)) * 3 + shift
    got = responsibilities(x, means, weights)
    for row, point in zip(got, x, strict=True):
        # logits of size up to 200 carry 200 eps; all inputs are exact, so a far common shift costs nothing
        assert_allclose(row, [float(w) for w in exact_responsibilities(point, means, weights)], rtol=200 * EPS, atol=1e-300)


def test_a_far_component_does_not_blur_the_near_ones():
    # a reference in the middle (5e7) would form logits of 2.5e15 and round them by 0.5
    means = np.array([[0.0], [0.5], [1e8]])
    weights = np.full(3, 1 / 3)
    for x in ([0.3], [-4.0], [1e8 - 1.0]):
        exact = [float(w) for w in exact_responsibilities(x, means, weights)]
        assert_allclose(responsibilities(np.array(x), means, weights), exact, rtol=1e-14, atol=1e-300)


def test_tiny_deviations_are_seen():
    # w_i - 1/n is 1e-15 here: the difference of two responsibilities shows it where the logits keep it
    delta = 1e-15
    weights = responsibilities(np.array([4.0]), np.array([[delta], [-delta]]), np.full(2, 0.5))
    assert_allclose(weights[0] - weights[1], 4.0 * delta, atol=2 * EPS)
    assert_array_equal(responsibilities(np.array([4.0]), np.array([[1e-300], [-1e-300]]), np.full(2, 0.5)), 0.5)


@pytest.mark.parametrize("far", [1e12, 1e60, 1e130])
def test_extreme_separation_stays_finite(far):
    means = np.array([[far, 0.0], [-far, 0.0], [0.0, 0.0]])
    weights = np.full(3, 1 / 3)
    x = np.array([[0.0, 0.0], [far, 1.0], [-far / 3, 0.0], [0.7 * far, -far]])
    with np.errstate(over="raise", invalid="raise"):
        assert_array_equal(responsibilities(x, means, weights), [[0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0]])
        assert_array_equal(posterior_mean(x, means, weights), means[[2, 0, 2, 0]])


def test_posterior_mean_of_coincident_means_is_exact():
    mean = np.array([1 / 3, 1e5 / 7])
    x = np.random.default_rng(0).normal(size=(50, 2))
    # the mean of three equal numbers may round; what is added to it is exactly 0
    assert_allclose(posterior_mean(x, np.tile(mean, (3, 1)), np.full(3, 1 / 3)), np.tile(mean, (50, 1)), rtol=EPS)


def test_zero_weight_means_absent():
    means, weights = np.array([[0.0], [2.0], [0.1]]), np.array([0.5, 0.5, 0.0])
    x = np.linspace(-3, 5, 30)[:, None]
    got = responsibilities(x, means, weights)
    assert_array_equal(got[:, 2], 0.0)
    assert_allclose(got[:, :2], responsibilities(x, means[:2], weights[:2]), rtol=8 * EPS)
