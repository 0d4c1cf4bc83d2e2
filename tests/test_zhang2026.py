"""The paper on sqrt(d) separation: its lemmas against independent oracles, its theorems on runs, and wrong versions of all of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

import overparam as op
from overparam.theory import Constant
from overparam.theory.zhang2026 import common, initialisation, loss_bounds, separation, tails

# --- the least dimension ----------------------------------------------------------------------------------------------


def test_the_least_dimension():
    for c0, eps, n, rho in ((1.0, 0.01, 10, 0.1), (3.0, 0.005, 50, 0.02), (1e-9, 0.01, 4, 0.3), (20.0, 0.01, 4, 0.3)):
        with mpmath.workdps(30):
            direct = max(mpmath.log(c0) + 15 / mpmath.mpf(eps) * mpmath.log(100 * n / mpmath.mpf(rho)),
                         c0 / mpmath.mpf(eps) * mpmath.log(c0 / mpmath.mpf(eps)))
        assert_allclose(common.ln_least_dimension(math.log(c0), eps, n, rho), float(direct), rtol=1e-12)
    assert common.ln_least_dimension(-math.inf, 0.01, 10, 0.1) == 0.0
    assert common.ln_least_dimension(0.0, 0.01, 10, 0.0) == math.inf


@pytest.mark.parametrize("ln_d", [2.0, 1e3, 1.5e4, 1e6])
def test_the_largest_constant_is_its_inverse(ln_d):
    largest = common.largest_ln_c0(ln_d, 0.01, 10, 0.1)
    assert common.ln_least_dimension(largest - 1e-9, 0.01, 10, 0.1) <= ln_d <= common.ln_least_dimension(largest + 1e-6, 0.01, 10, 0.1)


# --- both sides, by other means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3, 10, 1000])
def test_the_density_of_the_norm(d):
    left, _, error = tails.Lemma12().sides(d)
    assert abs(left - stats.chi.logpdf(math.sqrt(d - 1), d)) < 1e-10 + error
    assert stats.chi.logpdf(np.linspace(0.01, 4 * math.sqrt(d), 2001), d).max() <= left + 1e-10


@pytest.mark.parametrize(("d", "radius"), [(1, 1e-3), (1, 1.0), (2, 0.5), (7, 2.0), (200, 14.0), (200, 1e-4)])
def test_the_lower_tail_of_the_norm(d, radius):
    with mpmath.workdps(40):
        exact = mpmath.log(mpmath.gammainc(mpmath.mpf(d) / 2, 0, mpmath.mpf(radius) ** 2 / 2, regularized=True))
    assert_allclose(tails.log_chi_cdf(d, radius), float(exact), rtol=1e-13, atol=1e-13)


def test_the_tail_of_a_sum_of_events():
    assert_allclose(tails.log_count_tail(np.full(30, 0.1), 9), stats.binom.logsf(8, 30, 0.1), rtol=1e-12)
    chances = np.array([0.3, 0.02, 0.5, 0.11])
    exact = sum(math.prod(p if bit else 1 - p for p, bit in zip(chances, bits)) for bits in itertools.product((0, 1), repeat=4)
                if sum(bits) >= 2)
    assert_allclose(tails.log_count_tail(chances, 2), math.log(exact), rtol=1e-13)
    assert tails.log_count_tail(chances, 5) == -math.inf


def test_the_nearest_matching():
    rng = np.random.default_rng(0)
    for _ in range(20):
        m, n = 3, 4
        means = rng.normal(0, 5, (m, 1))
        students = np.concatenate([means[rng.permutation(m)] + rng.normal(0, 0.05, (m, 1)), rng.normal(0, 5, (1, 1))])
        weights, shares = rng.dirichlet(np.full(m, 9.0)), rng.dirichlet(np.full(n, 9.0))
        costs = np.maximum(np.abs(means - students.T), np.abs(weights[:, None] - shares))
        best = min(itertools.permutations(range(n), m), key=lambda chosen: sum(costs[i, j] for i, j in enumerate(chosen)))
        assert loss_bounds.matching(loss_bounds.Pair(1, means, weights, students, shares)) == max(costs[i, j] for i, j in enumerate(best))
    assert loss_bounds.matching(loss_bounds.Pair(1, means, weights, students[:2], shares[:2])) == math.inf


def test_the_enclosure_of_a_divergence():
    rng = np.random.default_rng(1)
    for _ in range(10):
        pair = loss_bounds.Pair(1, rng.normal(0, 4, (3, 1)), rng.dirichlet(np.ones(3)), rng.normal(0, 4, (4, 1)), rng.dirichlet(np.ones(4)))
        low, high = pair.enclosed()
        assert low <= pair.divergence()[0] <= high


# --- Lemma 6 ----------------------------------------------------------------------------------------------------------


def test_events_of_explicit_starts_are_distributed_as_those_drawn_without_vectors():
    d, n, draws = 50, 6, 400
    teacher = separation.triangle(d, 60.0)
    drawn = initialisation.draw_events(teacher.weights, n, math.log(d), 20_000, np.random.default_rng(0))
    objective = op.KLDivergence(teacher)
    seen = []
    for seed in range(draws):
        setting = op.theory.Setting.of(objective, op.init.from_teacher(teacher, n, rng=seed))
        seen.append(initialisation.events_at(setting)[0])
    for name in ("fewest", "gap", "norm"):
        assert stats.ks_2samp([getattr(one, name) for one in seen], getattr(drawn, name)).pvalue > 1e-3, name
    # a plane holds the triangle, and three axes the triangle and the origin, as the lemma has it
    inside = np.array([one.inside for one in seen])
    assert stats.kstest(inside, lambda r: stats.chi.cdf(r, 2) ** n).pvalue > 1e-3
    assert stats.kstest(drawn.inside, lambda r: stats.chi.cdf(r, 3) ** n).pvalue > 1e-3


def test_events_by_hand():
    teacher = op.GaussianMixture([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]], [0.6, 0.4])
    start = [[1.0, 3.0, 4.0], [9.5, 0.0, -2.0], [0.0, 6.0, 8.0]]
    events, cosine = initialisation.events_at(op.theory.Setting.of(op.KLDivergence(teacher), start))
    assert_allclose([events.fewest, events.gap, events.inside, events.norm], [1, 3, 1, 10 - math.sqrt(3)], rtol=1e-12)
    assert_allclose(cosine, 1.0)
    alone = initialisation.events_at(op.theory.Setting.of(op.KLDivergence(teacher), start[::2]))[0]
    assert alone.fewest == 0


def test_the_limit_law_of_norms_meets_the_exact_one():
    below = initialisation.draw_events(np.ones(3) / 3, 5, math.log(0.99e12), 20_000, np.random.default_rng(0))
    above = initialisation.draw_events(np.ones(3) / 3, 5, math.log(1.01e12), 20_000, np.random.default_rng(1))
    for one, other in zip(below[1:], above[1:]):
        assert stats.ks_2samp(one, other).pvalue > 1e-3


def test_lemma_6_says_what_it_draws():
    report = op.theory.check("zhang2026.lemma_6", m=4, n=40, C0=1.0, ln_d=3e4, samples=2000)
    assert report.verdict == "verified", report.text()
    assert report.given == "given C0 = 1"
    few = op.theory.check("zhang2026.lemma_6", C0=1.0, samples=5)
    assert few.verdict == "undecided"
    for wrong, words in (({"m": 1}, "m must be"), ({"gap": 1.0}, "gap must be below 1"), ({"samples": 10**8}, "samples must not be above"),
                         ({"ln_d": 0.5}, "ln_d must be")):
        with pytest.raises(ValueError, match=words):
            op.theory.check("zhang2026.lemma_6", **wrong)
    with pytest.raises(ValueError, match="draws its own"):
        op.theory.check("zhang2026.lemma_6", op.KLDivergence(op.Gaussian([0.0])), [[1.0]])


# --- lemmas at runs and points ----------------------------------------------------------------------------------------


def test_lemma_43_follows_the_weights_of_a_run():
    teacher = op.GaussianMixture([[-6.0], [6.0]], [0.3, 0.7])
    run = op.em(op.KLDivergence(teacher, rule=op.Auto(tol=1e-8)), [[-5.9], [6.1]], weights0=[0.35, 0.65], steps=20, step_size=0.5)
    report = op.theory.check("zhang2026.lemma_43", run)
    assert report.verdict == "verified", report.text()
    pairs = loss_bounds.Lemma43()._points(op.theory.Setting.of(run))
    assert_allclose(pairs[-1].shares, run.final_weights)
    assert loss_bounds.matching(pairs[-1]) < 0.01 < loss_bounds.matching(pairs[0])
    assert_allclose(pairs[0].loss[0], op.KLDivergence(teacher, weights=[0.35, 0.65]).value([[-5.9], [6.1]]), rtol=1e-6)


def test_lemma_11_needs_its_standing_assumptions():
    """Its first hypothesis alone holds on the line, and its conclusion does not."""
    report = op.theory.check("zhang2026.lemma_11", **loss_bounds.Lemma11().examples()["on the line"].make())
    assert report.verdict == "vacuous" and report.conclusion_seen is False
    assert [one.holds for one in report.hypotheses[:3]] == [True, True, True]


def test_the_paper_is_about_the_divergence_from_a_mixture():
    with pytest.raises(ValueError, match=r"must be an op\.KLDivergence"):
        common.target(op.theory.Setting.of(op.ScoreMatching(op.Gaussian([0.0])), [[1.0]]))
    descent = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[1.0], [0.5]], step_size=0.1, steps=3)
    for name in ("zhang2026.theorem_2", "zhang2026.theorem_4", "zhang2026.lemma_11", "zhang2026.lemma_43"):
        report = op.theory.check(name, descent)
        assert report.verdict == "vacuous" and len(report.hypotheses) == 1 and not report.conclusions


# --- theorems ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    return separation._small(6.0, steps=60)["subject"]


def test_two_components_are_the_papers_own_experiment(run):
    report = op.theory.check("zhang2026.theorem_2", run)
    assert report.verdict == "vacuous"
    assert "the paper's own experiments have two" in report.text()
    assert report.measured["students with a weight of at least 0.01 at the last record"] >= 1


def test_hypotheses_that_fail_are_named():
    made = separation._no_run(1, 400**0.4901)
    hypotheses = {one.words: one for one in op.theory.check("zhang2026.theorem_2", **made).hypotheses}
    assert all(one.holds for one in hypotheses.values())
    assert_allclose(hypotheses["the step size is small"].right, -10 * math.log(11) - 0.6 * math.log(400))
    bad = {**made, "C0": 1.0, "step_size": 1e-3, "largest_cosine": 1e-3}
    failed = {one.words for one in op.theory.check("zhang2026.theorem_2", **bad).failed}
    assert failed == {"the dimension is large", "the step size is small", "orthogonal parts are nearly orthogonal"}
    far = op.theory.check("zhang2026.theorem_2", **separation._no_run(1, 200.0))
    assert {one.words for one in far.failed} == {"the separation is a little below sqrt(d)", "the dimension is large"}  # eps < 0
    near = op.theory.check("zhang2026.theorem_4", **separation._no_run(1, 199.0))
    assert {one.words for one in near.failed} == {"all true means are far apart"}
    crowded = {**made, "params0": np.concatenate([made["params0"][:1]] * 11)}
    gone = {one.words for one in op.theory.check("zhang2026.theorem_2", **crowded).failed}
    assert {"every true mean has a student (Lemma 6)", "orthogonal norms are apart (Lemma 6)"} <= gone


class _Bare:
    """Without hypotheses: only the conclusion is left, so that a run can contradict it."""

    def hypotheses(self, setting, constants):
        return []


class Theorem2Bare(_Bare, separation.Theorem2):
    name = "test.theorem_2"


class Theorem2Wrong(_Bare, separation.Theorem2):
    name = "test.theorem_2_wrong"

    @staticmethod
    def _bound(target):
        return 3 * float(target.weights[0]) ** 2  # of the largest weight, not of the others, and times 3


class Theorem4Bare(_Bare, separation.Theorem4):
    name = "test.theorem_4"


class Theorem4Wrong(_Bare, separation.Theorem4):
    name = "test.theorem_4_wrong"

    @staticmethod
    def _window(d, least):
        return -math.inf, math.log(2.0)

    @staticmethod
    def _ln_bound(d):
        return -20.0 * d


class Theorem4Long(Theorem4Bare):
    @staticmethod
    def _window(d, least):
        return math.log(0.1), 300.0


def test_wrong_theorems_are_found_out(run):
    assert Theorem2Bare().check(run, confirm=False).conclusion_seen is True  # exp(1/100) of flow time is past at once
    assert Theorem2Wrong().check(run, confirm=False).verdict == "violated"
    assert Theorem4Wrong().check(run, confirm=False).verdict == "violated"
    assert "is empty" in Theorem4Bare().check(run, confirm=False).conclusions[0].note


def test_a_horizon_that_is_not_reached_leaves_theorems_open(run):
    class Long(Theorem2Bare):
        @staticmethod
        def _bound(target):
            return -1.0

    early = op.em(run.objective, run.params[0], step_size=0.05, steps=5)
    assert Long().check(early).verdict == "undecided"

    class Small(Theorem4Long):
        @staticmethod
        def _ln_bound(d):
            return 5.0

    found = Small().check(run, confirm=False)
    assert found.verdict == "undecided" and "at its records so far" in found.conclusions[0].note


# --- wrong lemmas -----------------------------------------------------------------------------------------------------


class Wrong12(tails.Lemma12):
    name = "test.lemma_12"

    def sides(self, point):
        left, _, error = super().sides(point)
        return left, math.log(0.6), error


class Wrong14(tails.Lemma14):
    name = "test.lemma_14"

    def sides(self, point):
        return [(left, 2 * right, error) for left, right, error in super().sides(point)]


class Wrong15(tails.Lemma15):
    name = "test.lemma_15"

    def sides(self, point):
        left, right, error = super().sides(point)
        return left, 4 * right, error


class Wrong43(loss_bounds.Lemma43):
    name = "test.lemma_43"

    def sides(self, point):
        value, _, error = super().sides(point)
        return value, loss_bounds.matching(point) ** 2 / 50, error


class Wrong11(loss_bounds.Lemma11):
    name = "test.lemma_11"

    @staticmethod
    def _least(heaviest):
        return 1e9 * (1 - heaviest) ** 2 / 3


class Wrong6(initialisation.Lemma6):
    name = "test.lemma_6"

    @staticmethod
    def _promised(m):
        return 1 - m**-4.0


@pytest.mark.parametrize(("wrong", "constants"), [(Wrong12, {}), (Wrong14, {}), (Wrong15, {}), (Wrong43, {}), (Wrong11, {"C0": 0.0}),
                                                  (Wrong6, {"C0": 1.0})])
def test_wrong_lemmas_are_found_out(wrong, constants):
    assert wrong().check(**constants).verdict == "violated"


def test_constants_by_name():
    assert op.theory.get("zhang2026.theorem_2").constants == (Constant("C0", None, "unknown"), Constant("largest_cosine", None, "unknown"))
    with pytest.raises(ValueError, match="no constant 'C_0'"):
        op.theory.check("zhang2026.lemma_11", C_0=1.0)
