"""The theorems of Zhang et al. 2025: their numbers against independent ones, their verdicts, and wrong versions of them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binomtest

import overparam as op
from overparam.theory import Conclusion, Hypothesis, Setting
from overparam.theory.zhang2025 import far_start, one_offset, random_start
from overparam.theory.zhang2025.large_noise import Theorem21
from overparam.theory.zhang2025.one_offset import Theorem34
from overparam.theory.zhang2025.random_start import Corollary36, Theorem35
from overparam.theory.zhang2025.slow_loss import Theorem37
from overparam.theory.zhang2025.small_noise import Theorem32
from overparam.theory.zhang2025.stationary_point import Theorem31

LINE = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))


@pytest.fixture(scope="module")
def parted():
    """One converges, the other diverges, on the line from M0 = 6.5."""
    return op.gradient_flow(LINE, [[6.0], [7.0]], t_end=1e8, rtol=1e-6)


def named(report, part):
    claims = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(claims) == 1, [one.words for one in claims]
    return claims[0]


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [2.8, 4.0, 8.0, 20.0, 60.0])
def test_the_logarithm_of_the_force_is_that_of_the_gradient(r):
    grad = op.ScoreMatching(op.Gaussian([0.0])).grad([[0.0], [r]])[1, 0]
    assert_allclose(far_start.log_push(r), math.log(-grad), atol=1e-9)


def test_the_force_far_out():
    """Against its asymptotic series in 50 digits: I = pi/2 and the second moment of u follow from Gamma functions as r grows."""
    with mpmath.workdps(50):
        r = mpmath.mpf(10) ** 12
        # the integral of e^(-u/2) sigma(u)^2 is B(1/2, 3/2) = pi/2
        expected = mpmath.log(r) - r**2 / 8 - mpmath.log(2 * mpmath.pi) / 2 + mpmath.log(mpmath.beta(0.5, 1.5)) + mpmath.log(r / 4)
    assert_allclose(far_start.log_push(1e12), float(expected), rtol=1e-14)
    assert math.isnan(far_start.log_push(2.0))  # inside the saddle the force points inwards


def test_gaps_against_fifty_digits():
    rng = np.random.default_rng(1)
    centre, deviations = np.array([3e12, -4e12]), rng.standard_normal((4, 2))
    nearest, log_gaps = far_start.gaps(centre, deviations)
    with mpmath.workdps(50):
        radii = [mpmath.sqrt(sum((mpmath.mpf(float(c)) + mpmath.mpf(float(z))) ** 2 for c, z in zip(centre, row, strict=True)))
                 for row in deviations]
        assert nearest == min(range(4), key=lambda i: radii[i])
        expected = [float(mpmath.log(radius - radii[nearest])) for i, radius in enumerate(radii) if i != nearest]
    assert_allclose(log_gaps, expected, atol=1e-12)
    scaled = far_start.gaps(centre, deviations, -500.0)
    assert scaled[0] == nearest
    # e^-500 leaves no curvature: the gaps are the differences along the axis
    along = deviations @ (centre / np.linalg.norm(centre))
    assert_allclose(np.sort(scaled[1]), np.sort(np.log(np.delete(along, nearest) - along[nearest])) - 500.0, atol=1e-9)


def test_growth_against_the_product():
    product = mpmath.mpf(1)
    place = mpmath.mpf(3)
    for _ in range(20_000):
        product *= 1 + mpmath.mpf("0.002") * place**2  # 4 eta/n with eta = 0.001, n = 2
        place *= 1 - mpmath.mpf("0.001")
    assert_allclose(one_offset.growth(3.0, 0.001, 2), float(mpmath.log(product)), rtol=1e-6)


def test_intervals_of_frequencies():
    for hits, trials in ((0, 30), (7, 30), (30, 30)):
        expected = binomtest(hits, trials).proportion_ci(confidence_level=0.95, method="exact")
        assert_allclose(random_start.binomial_interval(hits, trials), (expected.low, expected.high), rtol=1e-9)


def test_conditions_on_single_draws():
    rng = np.random.default_rng(5)
    draws = rng.standard_normal((200, 3, 2))
    distance = 50.0
    expected = []
    for z in draws:
        radii = np.sort(np.linalg.norm(np.array([distance, 0.0]) + z, axis=1))
        expected.append(np.linalg.norm(z, axis=1).max() <= distance ** (1 / 3) and radii[1] - radii[0] >= 0.5 * distance ** (-1 / 3))
    assert random_start.conditions_hold(distance, draws).tolist() == expected
    assert 20 < sum(expected) < 180


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_noise_time_drops_out():
    start = [[0.06], [-0.05]]
    margins = [named(op.theory.check("zhang2025.theorem_2_1", LINE, start, step_size=0.01, **given), "noise time").margin
               for given in ({}, {"t": 0.5}, {"t": 7.0})]
    assert_allclose(margins, -math.log(0.06 * 2) - 2, atol=1e-12)
    # clean students and teacher at noise time t: e^-t times the clean ones
    t, clean, target = 4.0, np.array([[3.0], [-2.0]]), 0.5
    noisy = op.ScoreMatching(op.Gaussian([target]), t=t, rule=op.Auto(tol=1e-8))
    report = op.theory.check("zhang2025.theorem_2_1", noisy, math.exp(-t) * clean, step_size=0.01, t=t)
    claim = named(report, "noise time")
    assert_allclose([claim.left, claim.right], [t, math.log(2) + math.log(2.5) + 2], rtol=1e-12)
    assert claim.holds
    run = op.gradient_flow(noisy.with_rule(op.Auto(tol=1e-6)), math.exp(-t) * clean, t_end=5.0)
    for subject in (op.theory.check("zhang2025.theorem_2_1", noisy, math.exp(-t) * clean), op.theory.check("zhang2025.theorem_2_1", run)):
        assert named(subject, "noise time").left == t  # the objective's own
    assert op.ScoreMatching.from_description(noisy.describe()).noise_time == t
    for wrong in (3.0, -1.0):
        with pytest.raises(ValueError, match="t must"):
            op.theory.check("zhang2025.theorem_2_1", noisy, math.exp(-t) * clean, t=wrong)


def test_the_smallest_ball():
    from scipy.optimize import minimize

    from overparam.theory.zhang2025.enclosing import smallest_ball

    rng = np.random.default_rng(3)
    for n, d in ((2, 3), (4, 1), (3, 2), (6, 3)):
        points = rng.standard_normal((n, d))
        ball = smallest_ball(op.State(1e6 * np.ones(d), points, log_scale=-900.0))
        found = minimize(lambda c: c[-1], np.r_[points.mean(axis=0), 9.0], method="SLSQP", options={"ftol": 1e-14}, constraints={
            "type": "ineq", "fun": lambda c, at=points: c[-1] - ((at - c[:-1]) ** 2).sum(axis=1)})
        best = math.sqrt(found.x[-1])
        assert ball.log_least <= math.log(best) - 900 + 1e-6 and math.log(best) - 900 - 1e-6 <= ball.log_radius
        assert ball.log_radius - ball.log_least < 3e-3


def start_of_3_2(obj, start):
    return named(op.theory.check("zhang2025.theorem_3_2", obj, start, step_size=0.01), "exponentially close")


def test_any_point_serves_theorem_3_2():
    """The radius is 1/216 at the target itself for n = 2, d = 1, and e^(-25.875 - ln 216) at M0 = 1/2."""
    r = 1 / 216
    assert start_of_3_2(LINE, [[0.0], [r]]).holds  # about the middle
    assert start_of_3_2(LINE, [[r], [-0.9 * r]]).holds  # about the target
    assert start_of_3_2(LINE, [[0.0], [2.01 * r]]).holds is False
    assert start_of_3_2(LINE, [[0.3], [0.3 + r]]).holds is False
    assert start_of_3_2(LINE, op.State(np.array([5.0]), np.array([[1.0], [-1.0]]), log_scale=-20000.0)).holds is False
    assert start_of_3_2(LINE, op.State(np.array([5.0]), np.array([[1.0], [-1.0]]), log_scale=-30000.0)).holds
    plane = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    # two near each other and one apart: within the radius of their middle, not of their mean
    radius = math.exp(-106 * 6 / 8) / (108 * 6)
    three = radius * np.array([[0.0, 0.99], [0.0, 0.97], [0.0, -0.99]])
    assert np.linalg.norm(three - three.mean(axis=0), axis=1).max() > 1.3 * radius
    assert start_of_3_2(plane, op.State(np.array([0.5, 0.0]), three)).holds
    assert start_of_3_2(plane, op.State(np.array([0.5, 0.0]), 1.02 * three)).holds is False


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_0_throughout():
    run = op.gradient_flow(LINE, [[0.0], [0.0]], t_end=10.0)
    assert not run.loss.any()
    assert op.theory.check("zhang2025.theorem_3_2", run, C_L=1.0).verdict == "verified"
    assert op.theory.check("zhang2025.theorem_2_1", run, C_L=1.0).verdict == "verified"


def test_sampled_losses_verify_no_bound():
    sampled = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(400, rng=0))
    run = op.gradient_flow(sampled, [[0.06], [-0.05]], t_end=5.0)
    assert op.theory.check("zhang2025.theorem_2_1", run, C_L=1.0).verdict == "undecided"


def test_the_sharp_threshold_is_shown_where_it_is_known():
    def shown(n, distance):
        start = op.init.around([distance], 1e-20 * np.linspace(-1, 1, n)[:, None])
        measured = op.theory.check("zhang2025.theorem_3_2", op.gradient_flow(LINE, start, t_end=0.1)).measured
        return [value for key, value in measured.items() if "sharp threshold" in key]

    assert_allclose(shown(2, 3.0), [[3.11 - 9, 3.11 - 9]])
    assert_allclose(shown(3, 3.0), [[2.73 - 9, 3.17 - 9]])
    assert shown(2, 1.0) == shown(4, 3.0) == []


def test_local_law_of_theorem_2_1():
    run = op.gradient_flow(LINE, [[0.04], [-0.03], [0.01]], t_end=1e7)
    report = op.theory.check("zhang2025.theorem_2_1", run, C_L=1.0)
    assert report.verdict == "verified" and report.given == "given C_L = 1"
    assert_allclose(report.measured["loss over k n^2/(64 t^2) at the end (derived: tends to 1)"], 1.0, rtol=1e-3)
    assert op.theory.check("zhang2025.theorem_2_1", run, C_L=1e-9).verdict == "violated"  # a constant that is too small


@pytest.mark.parametrize(("n", "d"), [(3, 1), (4, 2), (5, 1), (7, 2)])
def test_stationary_points(n, d):
    report = op.theory.check("zhang2025.theorem_3_1", n=n, d=d)
    assert report.verdict == "verified", report.text()
    assert "changes sign" in named(report, "gradient").note
    assert report.measured["kind in the whole space (derived; the paper's maximum is along the curve)"] == "saddle"
    assert all(one.tag == "published" for one in report.conclusions)
    if n == 7:  # not in the table
        assert not any("s*" in key for key in report.measured)
    else:
        assert_allclose(report.measured["s"], report.measured["s* of the pair (derived)"], atol=1e-8)
        assert_allclose(report.measured["loss"], report.measured["loss at s* (derived)"], atol=1e-8)


def test_a_point_beside_the_pair_is_not_called_stationary():
    report = op.theory.check("zhang2025.theorem_3_1", LINE, op.init.symmetric_pair(3, 2.56))
    assert report.verdict == "undecided" and "another may be" in report.reason
    with pytest.raises(ValueError, match="leave them out"):
        op.theory.check("zhang2025.theorem_3_1", LINE, [[1.0], [2.0], [3.0]], n=3)


@pytest.mark.parametrize("rule", [op.GaussHermite(2), op.GaussHermite(12), op.MonteCarlo(400, rng=0), op.Auto(tol=1e-8), op.Auto(tol=0.1)])
@pytest.mark.parametrize("params", [[[2.55055099], [-2.55055099], [0.0]], [[2.54], [-2.54], [0.0]], [[0.0], [0.0], [0.0]],
                                    [[9.0], [9.0], [9.0]], [[4.0], [-4.0], [0.1]], [[1e-3], [-1e-3], [0.0]]])
def test_no_point_refutes_that_there_is_one(rule, params):
    report = op.theory.check("zhang2025.theorem_3_1", op.ScoreMatching(op.Gaussian([0.0]), rule=rule), params)
    exact = isinstance(rule, op.Auto) and params[0] == [2.55055099]
    assert report.verdict in (("verified", "undecided") if exact else ("undecided",)), report.text()
    assert report.verdict == "verified" or not (exact and rule.tol < 1e-6)


def test_offset_is_compared_in_logarithms():
    target = op.Gaussian([1e13, 0.0])
    shape = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    objective = op.ScoreMatching(target, rule=op.Auto(tol=1e-8))
    report = op.theory.check("zhang2025.theorem_3_4", objective, op.init.around([0.0, 0.0], shape, log_scale=-1e11))
    assert named(report, "exp(-M0/100)").holds and named(report, "offset towards").holds
    assert named(report, "far from").holds is False  # 10^9 sqrt 2 3^10 is above
    wrong = op.theory.check("zhang2025.theorem_3_4", objective, op.init.around([0.0, 0.0], -shape, log_scale=-9e10))
    assert named(wrong, "exp(-M0/100)").holds is False and named(wrong, "offset towards").holds is False
    apart = op.theory.check("zhang2025.theorem_3_4", objective, [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert named(apart, "all students but one").holds is False


def test_large_steps_do_not_part_the_students_of_theorem_3_4():
    """The published offset needs a growth of M0/100 nats; steps that do not shrink with M0 give some 10^4."""
    objective = op.ScoreMatching(op.Gaussian([1e13]), rule=op.Auto(tol=1e-8))
    start = op.init.around([0.0], [[1.0], [0.0]], log_scale=-1e11)
    run = op.gradient_descent(objective, start, step_size=0.1, steps=900, record=op.log_spaced(40))
    report = op.theory.check("zhang2025.theorem_3_4", run, confirm=False)
    assert report.verdict == "undecided" and report.conclusion_seen is False
    assert op.regimes.classify(run).name == "all converge"
    assert report.measured["growth of a difference at this step size, in nats (derived)"] < 1e5 < 1e11
    given = op.theory.check("zhang2025.theorem_3_4", run, confirm=False, C_eta=2.0)  # not the theorem, but its unknown constants
    assert given.verdict == "undecided" and "must depend on" in named(given, "small enough for the offset").note
    slow = op.gradient_descent(op.ScoreMatching(op.Gaussian([4.0]), rule=op.Auto(tol=1e-8)), op.init.one_offset(n=2, target=[4.0]),
                               step_size=0.01, steps=4000, record=op.log_spaced(60))
    assert named(op.theory.check("zhang2025.theorem_3_4", slow), "small enough for the offset").holds


def test_far_starts_are_judged_on_the_logarithm():
    report = op.theory.check("zhang2025.theorem_3_5", **random_start.far_example(3, 1e14), C_L=1.0)
    assert report.verdict == "verified"
    claim = named(report, "others diverge")
    assert claim.tag == "derived" and "logarithmic" in claim.note and "exp(-1.25e+27)" in claim.note
    assert named(report, "start close").tag == named(report, "nearer to the target").tag == "reconstructed"


def test_near_starts_are_judged_on_the_run(parted):
    report = op.theory.check("zhang2025.theorem_3_5", parted)
    assert report.verdict == "vacuous" and report.conclusion_seen
    assert named(report, "others diverge").tag == "published"
    law = report.measured["smallest C_L (at the records, at whose end L t falls)"]
    assert 0.1 < law < 1.0


def test_another_centre_may_do():
    """Skewed deviations lie within M0^(1/3) of one point, though not of their mean."""
    radius = 1e12 ** (1 / 3)
    z = radius * np.array([[-0.95], [0.9], [0.95], [0.95]])
    for factor, holds in ((1.0, True), (1.1, False)):
        report = op.theory.check("zhang2025.theorem_3_5", LINE, op.init.around([1e12], factor * z), step_size=0.01)
        assert named(report, "start close").holds is holds


def test_the_loss_is_not_judged_before_the_far_students_move():
    """What L t reaches at late times, from t = exp(r^2/8) on, is 16/r^2: a run that ends before knows nothing of it."""
    run = op.gradient_flow(LINE, op.init.around([20.0], [[-0.5], [0.5]]), t_end=1e4, rtol=1e-6)
    claim = named(op.theory.check("zhang2025.theorem_3_5", run, C_L=1e-6, confirm=False), "loss stays below")
    assert claim.holds is None and "hardly moved" in claim.note
    far = random_start.far_example(3, 1e14)
    assert far["subject"].loss.max() > 0
    assert named(op.theory.check("zhang2025.theorem_3_5", **far, C_L=3.3e-27, confirm=False), "loss stays below").holds
    claim = named(op.theory.check("zhang2025.theorem_3_5", **far, C_L=3.1e-27, confirm=False), "loss stays below")
    assert claim.holds is False and claim.left == pytest.approx(32e-28)


@pytest.mark.parametrize("first", [0, 1])
def test_the_order_of_two_students_does_not_matter(first):
    shape = np.array([[1.0], [0.0]]) if first == 0 else np.array([[0.0], [1.0]])
    far = op.ScoreMatching(op.Gaussian([1e13]), rule=op.Auto(tol=1e-8))
    report = op.theory.check("zhang2025.theorem_3_4", far, op.init.around([0.0], shape, log_scale=-1e11), step_size=0.01)
    assert named(report, "offset towards").holds and named(report, "exp(-M0/100)").holds
    assert Theorem34._offset(Setting.of(far, op.init.around([0.0], shape, log_scale=-1e11)))[0] == first
    given = {"C": 10.0, "subject": op.ScoreMatching(op.Gaussian([0.0]))}
    for params in ([[0.99], [1.0], [1.0]], [[1.0], [0.99], [1.0]], [[1.0], [1.0], [0.99]], [[0.99], [1.0]], [[1.0], [0.99]]):
        assert op.theory.check("zhang2025.lemma_d_5", **given, params0=params).verdict == "verified"


def test_random_starts():
    for n, d, distance in ((2, 2, 1e3), (3, 3, 1e4), (5, 3, 1e6)):
        report = op.theory.check("zhang2025.corollary_3_6", n=n, d=d, M0=distance, samples=4000)
        share = report.measured["share"]
        # theory: 0.972, 0.982, 0.994 by another Monte Carlo
        assert_allclose(share, {2: 0.972, 3: 0.982, 5: 0.994}[n], atol=0.01)
        assert named(report, "as often as promised").holds and report.verdict == "vacuous"
    line = op.theory.check("zhang2025.corollary_3_6", n=3, d=1, M0=1e3, samples=40_000).measured
    expected = line["share of draws expected to fail (2) in 1-D (derived)"]
    assert_allclose(1 - line["share"], expected, rtol=0.1)


@pytest.mark.filterwarnings("error")
def test_distances_whose_squares_are_no_floats():
    assert op.theory.check("zhang2025.corollary_3_6", M0=1e300, samples=100).verdict == "undecided"
    far = op.ScoreMatching(op.Gaussian([1e100]), rule=op.Auto(tol=1e-8))
    start = op.State(np.array([-1e100]), np.zeros((2, 1)))
    assert start_of_3_2(LINE, start).holds
    assert named(op.theory.check("zhang2025.theorem_3_5", LINE, start, step_size=0.1), "far from").holds
    assert named(op.theory.check("zhang2025.theorem_3_4", far, [[0.0], [0.0]], step_size=0.1), "all students but one").holds is False


@pytest.mark.parametrize(("given", "words"), [({"subject": LINE}, "draws its own"), ({"n": 2.5}, "n must"), ({"M0": -1.0}, "M0"),
                                              ({"sample": 5}, "Did you mean 'samples'")])
def test_random_starts_refuse(given, words):
    with pytest.raises(ValueError, match=words):
        op.theory.check("zhang2025.corollary_3_6", **given)


def test_slow_loss(parted):
    assert named(op.theory.check("zhang2025.theorem_3_7", parted, eps=0.1), "falls no faster").holds
    close = op.theory.check("zhang2025.theorem_3_7", parted, eps=0.01)
    assert named(close, "falls no faster").holds is None and "longer run" in named(close, "falls no faster").note
    unknown = named(op.theory.check("zhang2025.theorem_3_7", parted), "falls no faster")
    assert not unknown.tested and "eps > 0.05" in unknown.note
    together = op.gradient_flow(LINE, [[0.4], [-0.3]], t_end=1e4)
    assert named(op.theory.check("zhang2025.theorem_3_7", together, eps=0.1), "falls no faster").holds is False


# --- wrong theorems --------------------------------------------------------------------------------------------------


def without(hypotheses, *parts):
    return [one for one in hypotheses if not any(part in one.words for part in parts)]


class WrongExponent(Theorem21):
    """The loss bound with tau^-3 instead of tau^-1/2."""

    def conclusions(self, setting, constants):
        times = setting.run.times
        return [Conclusion("bound", left=float((setting.run.loss * times**3).max()), relation="<=", right=1.0)]


class WrongSign(Theorem32):
    """The radius with exp(+106 n d M0^3)."""

    def hypotheses(self, setting, constants):
        found = without(super().hypotheses(setting, constants), "exponentially close")
        distance = self._distance(setting)
        radius = -math.log(108 * setting.n * setting.d) + 106 * setting.n * setting.d * distance**3
        extent = math.log(np.ptp(setting.state.coordinates))
        return [*found, Hypothesis("close", left=extent, relation="<=", right=radius, logarithmic=True)]


class WrongWinner(Theorem35):
    """The farthest student converges."""

    def conclusions(self, setting, constants):
        farthest = int(np.argmax(setting.distances))
        return [far_start.nearest_converges(setting, farthest)]


class WrongOffset(Theorem34):
    """Without the distance: any M0, offset exp(-M0/100), and the others converge too."""

    def hypotheses(self, setting, constants):
        return without(super().hypotheses(setting, constants), "far from")

    def conclusions(self, setting, constants):
        regime = op.regimes.classify(setting.run)
        return [Conclusion("all converge", fact=None if regime.undecided else not regime.diverged)]


class WrongRate(Theorem37):
    """Without the distance, and with tau^-(1 - 1/2)."""

    def hypotheses(self, setting, constants):
        return without(super().hypotheses(setting, constants), "far from")

    def conclusions(self, setting, constants):
        slope, *_ = self._slope(setting)
        return [Conclusion("slow", left=slope, relation=">", right=-0.5, error=1e-3)]


class WrongKind(Theorem31):
    """The pair is a maximum in the whole space."""

    def conclusions(self, setting, constants):
        kind = op.stationary.find(setting.objective, setting.state.params, max_iterations=0, tol=1e-6).kind
        return [*super().conclusions(setting, constants), Conclusion("a maximum", fact=kind == "maximum")]


class WrongProbability(Corollary36):
    """1 - M0^(-2/3) instead of 1 - n^2 M0^(-1/3), and no distance asked for."""

    @staticmethod
    def _promised(n, distance):
        return 1 - distance ** (-2 / 3)

    def check(self, **given):
        report = super().check(**given)
        return type(report)(report.name, report.title, report.statement, report.source, report.tag,
                            tuple(without(report.hypotheses, "far from")), report.conclusions)


def test_wrong_theorems_are_violated(parted):
    small = op.gradient_flow(LINE, [[0.06], [-0.05]], t_end=1e4)
    assert WrongExponent().check(small).verdict == "violated"
    assert WrongSign().check(parted).verdict == "violated"
    assert WrongWinner().check(**random_start.far_example()).verdict == "violated"
    near = op.ScoreMatching(op.Gaussian([6.0]), rule=op.Auto(tol=1e-8))
    run = op.gradient_flow(near, op.init.one_offset(n=2, target=[6.0]), t_end=1e4)
    assert WrongOffset().check(run).verdict == "violated"
    assert WrongRate().check(parted, eps=0.1).verdict == "violated"
    assert WrongKind().check(n=3).verdict == "violated"
    assert WrongProbability().check(n=3, d=1, M0=1e3, samples=4000).verdict == "violated"


def test_settings_of_shared_parts():
    assert far_start.least_distance(2, 4) == 2 * 1024e9
    assert_allclose(math.exp(-2 * far_start.stage_one(50.0)) * 50.0, 1 / (8 * 50.0**3))
    setting = Setting.of(LINE, op.init.around([10.0], [[1.0], [-1.0]], log_scale=-50.0))
    assert_allclose(far_start.centre_distance(setting), 10.0)
