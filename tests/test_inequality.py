"""The base of lemmas about points: what is known of C, and whether any C can exist."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.theory import Constant, Hypothesis, trends
from overparam.theory.inequality import Bound, Inequality

SCALES = tuple(10.0 ** np.arange(-4, 5))


class Sine(Inequality):
    """|sin x| <= C |x|: true for C = 1, the sharp constant."""

    name, title, source, tag = "tests.sine", "Sine", "the tests", "derived"
    statement = "|sin x| is at most C |x|."
    constants = (Constant("C", None, "unknown"),)
    scales, limits = SCALES, ("small", "large")
    power = 1.0

    def sample(self, rng, scale):
        return scale * rng.uniform(0.5, 1.0)

    def sides(self, x):
        return abs(math.sin(x)), x**self.power, 1e-15 * (1 + x)


class TooSteep(Sine):
    """|sin x| <= C |x|^(3/2) fails at 0."""

    name, power = "tests.too_steep", 1.5


class TooFlat(Sine):
    """x^2 <= C x^1.9 fails at infinity, slowly."""

    name, power = "tests.too_flat", 1.9

    def sides(self, x):
        return x**2, x**self.power, 1e-15 * x**2


class Logarithmic(Sine):
    """e^-x <= C e^-x (1 + 1/x), in logarithms that float64's numbers would not hold."""

    name = "tests.logarithmic"
    bounds = (Bound("e^-x", "", constant="C", tag="derived", logarithmic=True),)

    def sides(self, x):
        return -x, -x + math.log1p(1 / x), 1e-15 * x


def test_the_smallest_constant_and_that_it_is_never_verified():
    report = Sine().check()
    assert report.verdict == "undecided" and report.conclusion_seen is True
    assert 0.9 < report.measured["smallest C"] <= 1.0
    assert [one.tested for one in report.conclusions] == [False, True, True, True]
    assert "no sample proves" in report.reason


def test_a_given_constant_is_compared_everywhere():
    assert Sine().check(C=1.0 + 1e-9).verdict == "verified" and "given C = 1" in Sine().check(C=1.0 + 1e-9).text()
    report = Sine().check(C=0.5)
    assert report.verdict == "violated" and report.measured["C needed at these points"] > 0.9
    assert Sine().check(C=1.0).verdict == "verified"


@pytest.mark.parametrize(("lemma", "end"), [(TooSteep, "small"), (TooFlat, "large")])
def test_a_wrong_exponent_contradicts_every_constant(lemma, end):
    report = lemma().check()
    assert report.verdict == "violated" and report.conclusion_seen is False
    wrong = [one for one in report.conclusions if one.tested and one.holds is False]
    assert any(end in one.words and one.fact is False for one in wrong)
    assert "does not slow" in report.reason


def test_the_trend_has_the_slope_of_the_wrong_power():
    words = next(one.note for one in TooSteep().check().conclusions if "small" in one.words)
    assert_allclose(float(words.split("slope")[1].split("±")[0]), 0.5, atol=0.01)


def test_logarithmic_sides():
    report = Logarithmic().check()
    assert report.conclusion_seen is True and 0.999 < report.measured["smallest C"] < 1
    assert Logarithmic().check(C=1.0).verdict in ("verified", "undecided") and Logarithmic().check(C=0.9).verdict == "violated"


def test_a_held_out_sample_of_another_law_is_seen():
    class Drifting(Sine):
        """The second sample is worse by a factor that no tail explains."""

        name, scales, limits = "tests.drifting", (0.5, 1.0), ()
        drawn = 0

        def sample(self, rng, scale):
            type(self).drawn += 1
            return type(self).drawn > self.samples, scale * rng.uniform(0.5, 1.0)

        def sides(self, point):
            return (100.0 if point[0] else 1.0) * point[1], point[1] * (1 + 0.1 * point[1]), 0.0

    report = Drifting().check()
    assert report.verdict == "violated" and "held-out" in report.reason


def test_lower_bounds():
    class Lower(Sine):
        """1 + x >= C x^p."""

        name, relation = "tests.lower", ">="

        def sides(self, x):
            return 1 + x, x**self.power, 1e-15 * (1 + x)

    class WrongLower(Lower):
        name, power = "tests.wrong_lower", 1.2

    report = Lower().check()
    assert report.conclusion_seen is True and 1.0 < report.measured["largest C"] < 1.01
    assert Lower().check(C=0.9).verdict == "verified" and Lower().check(C=1.1).verdict == "violated"
    assert WrongLower().check().verdict == "violated"


def test_two_bounds_and_points_outside_the_domain():
    class Two(Sine):
        name = "tests.two"
        constants = (Constant("A", None, "unknown"), Constant("B", 2.0, "derived"))
        bounds = (Bound("first", constant="A", tag="derived"), Bound("second", constant="B", tag="derived"))
        scales, limits = (0.1, 1.0), ()

        def hypotheses_at(self, x):
            return [Hypothesis("x is below 0.9", "x<0.9", x, "<", 0.9, tag="derived")]

        def sides(self, x):
            assert x < 0.9
            return [(x, 1.0, 0.0), (x, 1.0, 0.0)]

    report = Two().check()
    assert [one.words for one in report.conclusions][:1] == ["first"] and report.hypotheses[0].holds
    assert report.measured["smallest A"] < 0.9 and report.measured["B needed at these points"] < 0.9


def test_recalled_constants_are_shown_and_not_tested():
    class Recalled(Sine):
        name = "tests.recalled"
        constants = (Constant("C", 1.0, "recalled"),)
        bounds = (Bound("|sin x| <= C|x|", constant="C", tag="recalled"),)

    report = Recalled().check()
    assert report.verdict == "undecided" and not any(one.tested for one in report.conclusions)
    assert "C = 1 [recalled]" in report.text()


def test_equalities_are_judged_by_their_error():
    class Equal(Sine):
        name, constants, relation = "tests.equal", (), "=="
        shift = 0.0

        def sides(self, x):
            return math.sin(2 * x), 2 * math.sin(x) * math.cos(x) + self.shift, 1e-14 + 1e-15 * x

    class NotEqual(Equal):
        name, shift = "tests.not_equal", 1e-9

    assert Equal().check().verdict == "verified" and NotEqual().check().verdict == "violated"


def test_unresolved_sides_are_left_out_and_counted():
    class Noisy(Sine):
        name = "tests.noisy"

        def sides(self, x):
            return (x, x, 1e-3 * x) if x > 1e-3 else (1.0, x, 2.0)

    measured = Noisy().check().measured
    assert_allclose(measured["smallest C"], 1.0)
    assert measured["points whose left side is below its error (C)"] > 0


def test_subjects():
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    with pytest.raises(ValueError, match="own samples"):
        Sine().check(obj, [[1.0]])
    with pytest.raises(ValueError, match="go with an objective"):
        Sine().check(params0=[[1.0]])
    with pytest.raises(ValueError, match="no constant 'D'"):
        Sine().check(D=1.0)


def test_a_run_is_checked_at_its_records():
    class Norm(Sine):
        name = "tests.norm"

        def point(self, setting, state):
            return float(np.linalg.norm(state.coordinates))

    obj = op.ScoreMatching(op.Gaussian([0.0]))
    run = op.gradient_descent(obj, [[1.0], [0.5]], step_size=0.1, steps=20)
    report = Norm().check(run)
    last = float(np.linalg.norm(run.params[-1]))
    assert_allclose(report.measured["smallest C"], math.sin(last) / last)  # sin x / x is largest at the smallest x
    assert Norm().check(run, C=1.0).verdict == "verified"
    seen = []
    Norm.point = lambda self, setting, state: seen.append(state) or 1.0
    Norm().check(op.gradient_descent(obj, [[1.0], [0.5]], step_size=0.1, steps=100, record=op.every(1)))
    assert len(seen) == Norm.records


def test_slack_is_what_chance_adds():
    rng = np.random.default_rng(1)
    exceeded = 0
    for _ in range(4000):
        old, new = rng.exponential(size=(2, 40))
        exceeded += new.max() > old.max() + trends.slack(old, 40)
    assert exceeded < 15  # 4 expected: a Poisson number above 14 has probability 2e-5
    assert trends.slack(np.ones(10), 10) == 0.0


@pytest.mark.parametrize("end", ["small", "large"])
def test_levels_off(end):
    scales = np.geomspace(1e-4, 1e4, 9)
    toward = 1 / scales if end == "small" else scales
    cases = {True: [np.zeros(9), -np.log(toward), -1 / (1 + toward), np.log(2 - np.exp(-toward))],
             False: [0.01 * np.log(toward), np.log(toward) ** 3, toward, np.log1p(toward)]}
    for expected, tops in cases.items():
        for top in tops:
            assert trends.levels_off(scales, top, 1e-9, end)[0] is expected
    assert trends.levels_off(scales[:3], np.zeros(3), 0.0, end)[0] is None
    assert trends.levels_off(scales, np.where(toward > 10, np.inf, 0.0), 0.0, end)[0] is False
