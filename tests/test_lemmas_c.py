"""Lemmas C.1 to C.15: each evaluated side against an integral of another kind, and wrong lemmas that are found out."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import cubature, quad

import overparam as op
from overparam.theory.inequality import Bound
from overparam.theory.zhang2025 import (
    lemmas_c_gradients,
    lemmas_c_hyperplanes,
    lemmas_c_integrals,
    lemmas_c_points,
    lemmas_c_runs,
    lemmas_c_steps,
    lemmas_c_weights,
)
from overparam.theory.zhang2025.lemmas_c_points import FarPoint

NAMES = [f"zhang2025.lemma_c_{number}" for number in range(1, 16)]
LINES = {"one": [0.0, 8.0], "both sides": [1e-4, 7.0, -7.0, 9.5], "together": [-2e-5, 12.0, 12.0, 12.3], "far out": [0.0, 40.0]}
PLANE = [[1e-4, -2e-4], [6.0, 0.0], [3.0, -5.5]]


def line(name):
    return FarPoint(np.array(LINES[name])[:, None])


def weights_1d(x, means):
    """Responsibilities at one x, by the definition."""
    logs = [-0.5 * (x - mu) ** 2 for mu in means]
    top = max(logs)
    terms = [math.exp(one - top) for one in logs]
    return np.array(terms) / sum(terms)


def scaled_mean(function, means):
    """e^{M^2/8} times the mean of function(x, w) over N(0, 1), by adaptive integration in pieces around the crossings."""
    M = np.sort(np.abs(means))[1]
    ends = sorted({s * c for s in (-1, 1) for c in (0.0, M / 2 - 2, M / 2, M / 2 + 2, M / 2 + 9)} | {-M - 9, M + 9})

    def integrand(x):
        return math.exp(M * M / 8 - 0.5 * x * x) / math.sqrt(2 * math.pi) * function(x, weights_1d(x, means))

    return sum(quad(integrand, low, high, epsabs=1e-13, epsrel=1e-11, limit=500)[0] for low, high in pairwise(ends))


# --- open constants, and the domain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if op.theory.get(name).constants and name != "zhang2025.lemma_c_7"])
def test_with_an_unknown_constant_nothing_is_verified(name):
    lemma = op.theory.get(name)
    given = {"C_eta": 1.0} if "C_eta" in {one.name for one in lemma.constants} else {}
    for label, example in lemma.examples().items():
        arguments = {key: value for key, value in example.make().items() if key in ("subject", "params0", "step_size")}
        if example.verdict == "verified":
            assert op.theory.check(name, **arguments, **given).verdict == "undecided", label


def test_unequal_weights_and_another_target_are_outside():
    start = [[1e-4], [7.0], [-8.0]]
    unequal = op.ScoreMatching(op.Gaussian([0.0]), weights=[0.4, 0.3, 0.3], rule=op.Auto(tol=1e-8))
    mixture = op.ScoreMatching(op.GaussianMixture([[0.0], [1.0]]), rule=op.Auto(tol=1e-8))
    for obj in (unequal, mixture):
        assert op.theory.check("zhang2025.lemma_c_2", obj, start).verdict == "vacuous"
    shifted = op.ScoreMatching(op.Gaussian([3.0]), rule=op.Auto(tol=1e-8))
    report = op.theory.check("zhang2025.lemma_c_2", shifted, np.add(start, 3.0), C_0=1.0, C_2=1.0)
    assert report.verdict == "verified"


# --- each side against an integral of another kind ---------------------------------------------------------------------


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("power", [0, 2])
def test_mean_weights(name, power):
    point = line(name)
    for j in point.far:
        if point.distances[j] > point.M + 1:
            continue  # e^{M^2/8} is not its scale: the adaptive oracle has an absolute tolerance
        expected = scaled_mean(lambda x, w, j=j: w[j] * abs(x) ** power, LINES[name])
        found = lemmas_c_integrals.log_weight(point, int(j), power) + point.M**2 / 8
        assert_allclose(found, math.log(expected), rtol=0, atol=1e-9)


def test_mean_weights_in_the_plane():
    means = np.array(PLANE)
    M2 = (means**2).sum(axis=1)[1:].min()

    def integrand(x):
        logits = x @ means.T - 0.5 * (means**2).sum(axis=1)
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        return w[:, 1:] * np.exp(M2 / 8 - 0.5 * (x**2).sum(axis=1))[:, None] / (2 * np.pi)

    expected = cubature(integrand, [-8, -12], [12, 8], rtol=1e-9, atol=1e-11, max_subdivisions=20_000)
    assert expected.status == "converged"
    found = [lemmas_c_integrals.log_weight(FarPoint(means), j) + M2 / 8 for j in (1, 2)]
    assert_allclose(found, np.log(expected.estimate), rtol=0, atol=1e-8)
    in_space = FarPoint(np.column_stack([means @ [[0.6, 0.8], [-0.8, 0.6]], np.zeros(3)]))
    assert_allclose([lemmas_c_integrals.log_weight(in_space, j) + M2 / 8 for j in (1, 2)], found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LINES)
def test_the_near_row_beyond_its_own_pull(name):
    """The oracle integrates the difference as it stands, 2 E[w v + w <a - v, v>(x - a)] - 2 a, at 60 digits."""
    point, means = line(name), [mp.mpf(mu) for mu in LINES[name]]
    found, error = lemmas_c_points.near_excess(point, point.M**2 / 8)
    a, M = means[0], mp.mpf(point.M)

    def integrand(x):
        phis = [mp.exp(-((x - mu) ** 2) / 2) for mu in means]
        w = [one / sum(phis) for one in phis]
        v = sum(one * mu for one, mu in zip(w, means, strict=True))
        return 2 * mp.npdf(x) * (w[0] * v + w[0] * (a - v) * v * (x - a) - a)

    step = mp.mpf("0.25") / M  # the trapezoid rule, at a step of its own: the poles are at pi/M and farther
    with mp.workdps(60 if point.M < 20 else 120):
        reach = int((M + 18) / step)
        expected = step * mp.fsum(integrand(k * step) for k in range(-reach, reach + 1)) * mp.exp(M * M / 8)
    # on "both sides", the widest against its step, the rule leaves e^{-2 pi (pi/16.5)/step} = e^-33
    assert abs(found[0] - float(expected)) <= max(error, 1e-9 * abs(float(expected)))


def test_the_near_row_is_the_library_s_gradient_less_its_own_pull():
    point = FarPoint(np.array(PLANE))
    found = lemmas_c_points.near_excess(point, 0.0)[0]
    assert_allclose(point.found.grad[0] - 2 * point.means[0], found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("r", [6.0, 10.0, 25.0, 45.0])
def test_loss_and_gradient_of_two_students(r):
    """In closed form up to E = int exp(-2 y^2/r^2) sech(y) dy: L = r phi(r/2) E/2, since E[w^2] = E[w]/2."""
    def inner(weight):
        return quad(lambda y: weight(y) * math.exp(-2 * (y / r) ** 2) / math.cosh(y), 0, 60, epsabs=1e-13, epsrel=1e-12)[0] * 2

    log_loss = math.log(r * inner(lambda y: 1.0) / 2) - r * r / 8 - 0.5 * math.log(2 * math.pi)
    rate = r / 4 - 1 / r - inner(lambda y: 4 * y * y / r**3) / inner(lambda y: 1.0)
    point = FarPoint(np.array([[0.0], [r]]), step_size=0.1)
    assert_allclose(op.theory.get("zhang2025.lemma_c_14").sides(point)[0][0], log_loss, rtol=0, atol=1e-8)
    left, right, _ = op.theory.get("zhang2025.lemma_c_11").sides(point)
    assert_allclose(left, log_loss + math.log(rate), rtol=0, atol=1e-8)
    assert_allclose(right, 2 * math.log(r) - r * r / 8, rtol=1e-12)
    push = math.exp(log_loss + math.log(rate) + r * r / 8)
    assert_allclose(op.theory.get("zhang2025.lemma_c_10").sides(point)[0], -push / r**2, rtol=1e-8)
    assert_allclose(op.theory.get("zhang2025.lemma_c_15").sides(point)[1][0], push / r**2, rtol=1e-8)
    assert_allclose(lemmas_c_integrals.log_weight(point, 1), log_loss + math.log(2 / r**2), rtol=0, atol=1e-8)


def test_a_step_that_no_digit_of_the_distance_shows():
    point = FarPoint(np.array([[0.0, 0.0], [0.0, 20.0], [12.0, -16.0]]), step_size=0.3)
    with mp.workdps(60):
        norms = [mp.norm([mp.mpf(float(mu)) - mp.mpf(0.3) * mp.mpf(float(g)) for mu, g in zip(means, grads, strict=True)], 2)
                 for means, grads in zip(point.means[1:], point.found.grad[1:], strict=True)]
        expected = float((min(norms) - 20) * mp.exp(50) / (mp.mpf(0.3) * 400))
    left, _, error = op.theory.get("zhang2025.lemma_c_15").sides(point)[0]
    assert 0 < error < 1e-6 * left
    assert_allclose(left, expected, rtol=1e-12)


@pytest.mark.parametrize(("b", "width"), [(0.0, 1e-6), (-0.4, 0.8), (-5.0, 1e-3), (3.0, 2.0), (30.0, 0.02), (38.0, 5.0), (-9.0, 30.0),
                                          (-1e-9, 1e-9)])
def test_slabs(b, width):
    with mp.workdps(60):
        expected = mp.log((mp.erfc(mp.mpf(b) / mp.sqrt(2)) - mp.erfc((mp.mpf(b) + mp.mpf(width)) / mp.sqrt(2))) / 2)
    assert_allclose(lemmas_c_hyperplanes.log_slab(b, width), float(expected), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("M", [6.0, 40.0, 1000.0])
def test_comparable_weights(M):
    a = 1 / (8 * M**3)
    left, right, error = op.theory.get("zhang2025.lemma_c_8").sides(FarPoint(np.array([[a, 0.0], [0.0, M], [1.2 * M, 0.0]])))[0]
    with mp.workdps(40):
        expected = -mp.inf
        for mu in ((0, mp.mpf(M)), (mp.mpf(1.2 * M), 0)):
            D = mp.hypot(mu[0] - mp.mpf(a), mu[1])
            b = (mu[0] ** 2 + mu[1] ** 2 - mp.mpf(a) ** 2) / (2 * D)
            ratio = mp.erfc((b + 2 * mp.log(M) / D) / mp.sqrt(2)) / mp.erfc(b / mp.sqrt(2))
            expected = max(expected, mp.log(ratio))
    assert abs(left - float(expected)) <= error
    assert_allclose(right, -math.log(M))


def test_sharp_bounds_are_sharp_and_meet_their_own_integrals():
    for name in LINES:
        point = line(name)
        for j in point.far:
            D, b, kappa = point.crossing(int(j))
            integral = quad(lambda s, D=D, k=kappa: math.cosh(k * s) / (2 * math.cosh(D * s / 2)), -60 / D, 60 / D, epsabs=1e-14)[0]
            expected = -b * b / 2 + math.log(integral / math.sqrt(2 * math.pi))
            assert_allclose(lemmas_c_integrals.log_sharp(point, int(j)), expected, atol=1e-10)
            split = mp.ncdf(-b) + mp.exp(mp.mpf(D) ** 2 / 2 - mp.mpf(D) * b) * mp.ncdf(b - D)
            assert_allclose(lemmas_c_integrals.log_split(point, int(j)), float(mp.log(split)), atol=1e-9)
    for r in (8.0, 40.0):
        point = FarPoint(np.array([[0.0], [r]]))
        gap = lemmas_c_integrals.log_sharp(point, 1) - lemmas_c_integrals.log_weight(point, 1)
        assert 0 < gap < 1.1 * math.pi**2 / (2 * r * r)
        assert_allclose(lemmas_c_integrals.log_sharp(point, 1), 0.5 * math.log(math.pi / 2) - r * r / 8 - math.log(r))


def test_pointwise_sides_against_the_student():
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    rng = np.random.default_rng(7)
    means, x = 3 * rng.standard_normal((4, 2)), 4 * rng.standard_normal((30, 2))
    look = lemmas_c_weights._At(means, x, 1.7)
    assert_allclose(np.exp(look.log_w), obj.responsibilities(x, means), atol=1e-14)
    spread = [(x / np.linalg.norm(x, axis=1, keepdims=True) * (obj.score(s * x, means) + s * x)).sum(axis=1) for s in (1.0, 1.7)]
    worst = (spread[1] - spread[0]).argmin()
    left, right, *_ = op.theory.get("zhang2025.lemma_c_9").sides(look)[0]
    assert_allclose([left, right], [spread[0][worst], spread[1][worst]], atol=1e-10)


# --- wrong lemmas ------------------------------------------------------------------------------------------------------


def wrong(base, bounds, change):
    """A lemma with `bounds`, and `change` applied to its sides."""
    return type("Wrong", (base,), {"bounds": bounds, "sides": lambda self, point: change(point, base.sides(self, point))})()


def quarter(row):
    """The exponent -M^2/4 for -M^2/8 in one bound."""
    def change(point, sides):
        left, right, error = sides[row] if isinstance(sides, list) else sides
        return left, right - point.M**2 / 8, error
    return change


WRONG_EXPONENTS = {"C.2": (lemmas_c_integrals.LemmaC2, 0), "C.3": (lemmas_c_integrals.LemmaC3, 1), "C.11": (lemmas_c_gradients.LemmaC11, 0),
                   "C.12": (lemmas_c_gradients.LemmaC12, 0), "C.14": (lemmas_c_gradients.LemmaC14, 1)}


@pytest.mark.parametrize("name", WRONG_EXPONENTS)
def test_a_wrong_exponent_is_found_out(name):
    base, row = WRONG_EXPONENTS[name]
    lemma = wrong(base, (base.bounds[row],), quarter(row))
    report = lemma.check()
    assert report.verdict == "violated" and "stays bounded" in report.reason
    assert lemma.check(**{base.bounds[row].constant: 10.0}).verdict == "violated"


def flipped(base, row):
    """One bound of a lemma with the relation turned round."""
    bound = base.bounds[row]
    turned = Bound(bound.words, bound.latex, {"<=": ">=", ">=": "<="}[bound.relation], tag=bound.tag, logarithmic=bound.logarithmic)

    def pick(point, sides):
        return sides[row] if isinstance(sides, list) else sides

    return wrong(base, (turned,), pick)


FLIPPED = {"C.4": (lemmas_c_integrals.LemmaC4, 0), "C.5": (lemmas_c_weights.LemmaC5, 0), "C.9": (lemmas_c_weights.LemmaC9, 0),
           "C.10": (lemmas_c_gradients.LemmaC10, 0), "C.15": (lemmas_c_steps.LemmaC15, 0),
           "sharp C.2": (lemmas_c_integrals.LemmaC2, 3), "sharp C.8": (lemmas_c_hyperplanes.LemmaC8, 1)}


@pytest.mark.parametrize("name", FLIPPED)
def test_a_flipped_sign_is_found_out(name):
    assert flipped(*FLIPPED[name]).check().verdict == "violated"


def test_wrong_constants_are_found_out():
    assert op.theory.check("zhang2025.lemma_c_7", C=0.79).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_8", C=0.9).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_2", C_0=0.1, C_2=1.0).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_14", c=0.7, C=10.0).verdict == "violated"
    whole = wrong(lemmas_c_weights.LemmaC5, lemmas_c_weights.LemmaC5.bounds[:1], lambda point, sides: (sides[0][0], 2 * sides[0][1], 0.0))
    assert whole.check().verdict == "violated"
    twice = wrong(lemmas_c_weights.LemmaC6, lemmas_c_weights.LemmaC6.bounds[:1],
                  lambda point, sides: (sides[0][0], sides[0][1] + math.log(2), 0.0))
    assert twice.check().verdict == "violated"
    square = wrong(lemmas_c_hyperplanes.LemmaC8, lemmas_c_hyperplanes.LemmaC8.bounds[:1],
                   lambda point, sides: (sides[0][0], 2 * sides[0][1], sides[0][2]))
    assert square.check().verdict == "violated"


def test_the_loss_needs_the_near_student_to_have_arrived():
    """With no more than |mu_i0| <= 1/(8 M^3) the upper bound of C.14 is false."""
    base = lemmas_c_gradients.LemmaC14
    lemma = type("Wrong", (base,), {"hypotheses_at": lemmas_c_points.FarLemma.hypotheses_at, "radius": lemmas_c_points.FarLemma.radius})()
    report = lemma.check()
    assert report.verdict == "violated" and "C stays bounded" in report.reason


@pytest.fixture(scope="module")
def run():
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    return op.gradient_flow(obj, [[5e-5], [12.0]], t_end=1e12, rtol=1e-7)


@pytest.mark.parametrize("change", [{"direction": -1}, {"upper": 1.5}, {"lower": 0.5}])
def test_a_wrong_second_stage_is_found_out(run, change):
    given = {"C_near": 1.0, "C_L": 1e12, "eps": 0.1}
    assert op.theory.check("zhang2025.lemma_c_1", run, confirm=False, **given).verdict == "verified"
    assert type("Wrong", (lemmas_c_runs.LemmaC1,), change)().check(run, confirm=False, **given).verdict == "violated"
    report = op.theory.check("zhang2025.lemma_c_1", run, confirm=False)
    assert report.verdict == "undecided" and report.conclusion_seen
    assert abs(report.measured["L eta tau M^2/16 at the end (tends to the number of far students at M; derived)"] - 1) < 0.08


def test_the_second_stage_at_a_given_constant(run):
    given = {"C_near": 1.0, "eps": 0.1}
    assert op.theory.check("zhang2025.lemma_c_1", run, confirm=False, C_L=0.01, **given).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_1", run, confirm=False, C_L=0.2, C_near=0.01, eps=0.1).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_1", run, confirm=False, C_L=0.2, C_near=1.0, eps=0.001).verdict == "undecided"


def test_the_time_to_arrive_is_half_the_logarithm():
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    traj = op.gradient_descent(obj, [[1e-5], [20.0], [-21.0]], step_size=0.01, steps=2000, record=op.every(10))
    report = op.theory.check("zhang2025.lemma_c_13", traj, C_eta=2.0, C_T=0.6)
    assert report.verdict == "verified"
    assert_allclose(report.measured["time of arrival over its law (derived: tends to 1)"], 1, rtol=1e-6)
    assert op.theory.check("zhang2025.lemma_c_13", traj, C_eta=2.0, C_T=0.4).verdict == "violated"
    assert op.theory.check("zhang2025.lemma_c_13", traj, C_eta=2.0).verdict == "undecided"


def test_slopes_of_known_laws():
    times = np.concatenate([[0.0], np.geomspace(1e-2, 1e14, 400)])
    loss = 1 / ((1 + times) * (3 + np.log1p(times)))
    last, limit, off = lemmas_c_runs.limiting_slope(times, loss)
    assert -1.05 < last < -1 and abs(limit + 1) < abs(last + 1) / 2 and off > abs(limit + 1)
    last, limit, off = lemmas_c_runs.limiting_slope(times, (1 + times) ** -2.0)
    assert_allclose([last, limit], -2, atol=1e-6)
    assert lemmas_c_runs.limiting_slope(times[:150], loss[:150]) is None


# --- what cannot be checked is said ----------------------------------------------------------------------------------------


def test_what_is_missing_is_named():
    plane = op.ScoreMatching(op.Gaussian([0.0, 0.0, 0.0]), rule=op.Auto(tol=1e-6))
    cases = {"c_15": ([[0.0, 0, 0], [7.0, 0, 0]], "undecided", "give step_size="),
             "c_2": (np.vstack([np.zeros(3), 7 * np.eye(3)]), "undecided", "span up to two dimensions"),
             "c_10": ([[0.0, 0, 0]], "vacuous", "at least two students"), "c_7": (np.ones((2, 3)), "vacuous", "two students differ")}
    for name, (params, verdict, words) in cases.items():
        report = op.theory.check(f"zhang2025.lemma_{name}", plane, params)
        assert report.verdict == verdict and words in report.reason, report.text()
    with pytest.raises(ValueError, match="too far apart"):
        lemmas_c_integrals.log_weight(FarPoint(np.array([[0.0], [2000.0], [-2000.0]])), 1)
    with pytest.raises(ValueError, match="nodes"):
        lemmas_c_integrals.log_weight(FarPoint(np.array([[0.0, 0.0], [45.0, 0.0], [0.0, 45.0]])), 1)
    with pytest.raises(ValueError, match="R must be at least"):
        lemmas_c_integrals.log_cut_off(2.0, 0.0, 3)


def test_a_sampled_gradient_decides_nothing():
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(2000, rng=0))
    for number, given in ((10, {}), (11, {"C": 1.0})):
        assert op.theory.check(f"zhang2025.lemma_c_{number}", obj, [[0.0], [9.0]], **given).verdict == "undecided"


def test_constants_of_the_paper_are_never_shown_as_published():
    for name in NAMES:
        for one in op.theory.get(name).constants:
            assert one.tag == ("unknown" if one.value is None else "derived")
