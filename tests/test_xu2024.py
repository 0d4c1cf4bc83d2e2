"""The statements of Xu et al. 2024: their numbers against independent ones, their verdicts, and wrong versions of them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.theory import Conclusion, check
from overparam.theory.xu2024 import bad_region, gradients, laws_global, laws_local, main_theorem, pair
from overparam.theory.xu2024.integrals import expectations, over_mixture

LINE = op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
START = [[1.0], [-0.5], [2.0]]


def named(report, part):
    claims = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(claims) == 1, [one.words for one in claims]
    return claims[0]


@pytest.fixture(scope="module")
def late():
    """Two directions, n = 4, late in a flow."""
    return op.gradient_flow(op.KLDivergence(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-9)),
                            [[0.4, 0.1], [-0.3, 0.3], [0.1, -0.5], [0.2, 0.2]], t_end=1e6, rtol=1e-9)


@pytest.fixture(scope="module")
def escape():
    """A pair from 6 that comes back within the run."""
    return op.gradient_flow(LINE, [[6.0], [-6.0], [0.0]], t_end=1e4, record=op.log_spaced(400))


# --- numbers ---------------------------------------------------------------------------------------------------------


def by_mpmath(params, weights, teacher, teacher_weights):
    """E[w_i], E[w_i (x - mu_i)] in one dimension by tanh-sinh quadrature in 25 digits."""
    with mpmath.workdps(25):
        def density(x, mean):
            return mpmath.exp(-((x - mean) ** 2) / 2) / mpmath.sqrt(2 * mpmath.pi)

        def share(x, i):
            return weights[i] * density(x, params[i]) / mpmath.fsum(w * density(x, p) for w, p in zip(weights, params, strict=True))

        cuts = [-14, *sorted({*params, *teacher, 0.0}), 14]
        found = []
        for i, mean in enumerate(params):
            def inside(x, power, i=i, mean=mean):
                true = mpmath.fsum(w * density(x, p) for w, p in zip(teacher_weights, teacher, strict=True))
                return true * share(x, i) * (x - mean) ** power
            found.append([float(mpmath.quad(lambda x, k=k: inside(x, k), cuts)) for k in (0, 1)])
    return np.array(found).T


def test_expectations_against_another_quadrature():
    params, weights = [1.5, -0.5, 0.25], [0.2, 0.5, 0.3]
    teacher, teacher_weights = [-1.0, 2.0], [0.25, 0.75]
    shares, moved = by_mpmath(params, weights, teacher, teacher_weights)
    found = over_mixture(np.array(params)[:, None], np.array(weights), np.array(teacher)[:, None], np.array(teacher_weights))
    assert_allclose(found.shares, shares, atol=1e-12)
    assert_allclose(found.moved[:, 0], moved, atol=1e-12)
    assert_allclose(found.grad[:, 0], -moved, atol=1e-12)  # Stein's identity, component by component
    assert (found.grad_error < 1e-11).all()


def test_expectations_leave_what_the_students_do_not_span():
    """Seen from a teacher off the plane of the students: rows of E[w_i v] by a plain sum over points of the whole space."""
    params, weights = np.array([[1.0, 0.5, 2.0], [-0.5, 0.5, 2.0]]), np.array([0.4, 0.6])
    line = np.arange(-60, 61) / 8.0
    x = np.stack([part.ravel() for part in np.meshgrid(line, line, line, indexing="ij")], axis=1)
    q = np.exp(-(x**2).sum(axis=1) / 2) / (2 * math.pi) ** 1.5 / 8.0**3
    logits = x @ params.T - (params**2).sum(axis=1) / 2 + np.log(weights)
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    found = expectations(params, weights)
    assert_allclose(found.grad, (q[:, None] * w).T @ (w @ params), atol=1e-10)
    assert_allclose(found.moved, (q[:, None] * w).T @ x - (q @ w)[:, None] * params, atol=1e-10)


@pytest.mark.parametrize("n", [3, 7])
@pytest.mark.parametrize("a", [0.3, 2.0, 6.0, 14.0])
def test_the_force_on_a_pair_is_the_gradient(n, a):
    params = op.init.symmetric_pair(n, a)
    grad = op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-12)).grad(params)
    assert_allclose(pair.log_force(a, n), math.log(grad[0, 0]), atol=1e-9)
    assert_allclose(grad[1], -grad[0], rtol=1e-9)


def test_the_force_far_out():
    """Against its leading order: with u = a (x - a/2) the integral of exp(3u/2)/(n - 2 + exp(u))^2 over all u, a Beta function."""
    a, n = 4000.0, 5
    with mpmath.workdps(40):
        leading = mpmath.log(mpmath.beta(1.5, 0.5)) - mpmath.log(2 * mpmath.pi) / 2 - mpmath.mpf(a) ** 2 / 8 - mpmath.log(n - 2) / 2
    assert_allclose(pair.log_force(a, n), float(leading), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("d", "least"), [(1, 8.9e5), (2, 3.3e11), (3, 1e17)])
def test_least_times_of_the_bad_region(d, least):
    """Figures of another quadrature, to two digits; against e^d/30 = 0.09, 0.25, 0.67."""
    found = math.exp(pair.log_least_time(12 * math.sqrt(d), 10 * math.sqrt(d), 3))
    assert least < found < 1.1 * least
    assert pair.log_time(12 * math.sqrt(d), 10 * math.sqrt(d), 3) > math.log(found)


def test_the_exponent_of_the_least_time():
    """12.5 d: the force at 10 sqrt(d) is of order exp(-100 d/8)."""
    times = [pair.log_least_time(12 * math.sqrt(d), 10 * math.sqrt(d), 3) for d in (50, 100)]
    assert_allclose(np.diff(times) / 50, 12.5, atol=0.02)


def test_the_flow_passes_at_the_time_of_the_quadrature(escape):
    sizes = np.array([np.linalg.norm(state.coordinates, axis=1).max() for state in escape.states])
    for size in (5.5, 4.0, 2.0):
        place = int(np.argmin(np.abs(sizes - size)))
        assert_allclose(pair.log_time(6.0, sizes[place], 3), math.log(escape.times[place]), atol=1e-5)
    report = check("xu2024.law_bad_region", escape, confirm=False)
    assert report.verdict == "verified" and named(report, "time of the quadrature").tested


def test_orders_against_fifty_digits():
    params, weights = np.array([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]]), np.array([0.2, 0.3, 0.5])
    with mpmath.workdps(50):
        total, largest, n, d = mpmath.mpf("15.25"), mpmath.sqrt(10), 3, 2
        step = mpmath.exp(-8 * total) * mpmath.mpf("0.2") ** 2 / (n**2 * d**2 * (1 / largest + largest) ** 2)
        rate = mpmath.exp(-16 * total) * mpmath.mpf("0.2") ** 4 / (n**2 * d**2 * (1 + largest * mpmath.sqrt(d * n)) ** 4)
        assert_allclose(main_theorem.log_step(params, weights), float(mpmath.log(step)), rtol=1e-14)
        assert_allclose(main_theorem.log_rate(params, weights), float(mpmath.log(rate)), rtol=1e-14)


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_the_late_law_in_two_directions(late):
    """L = tr S^2/4 and k n^2/(16 t^2), S^-1 = S0^-1 + 2t/n within 1 %, slopes -2 and -1."""
    report = check("xu2024.law_late", late, C=4.0)
    assert report.verdict == "verified", report.text()
    assert_allclose([report.measured["slope of the loss at the end"], report.measured["slope of the sum of pi_i |mu_i|^2 at the end"]],
                    [-2, -1], atol=1e-3)
    n, t = 4, late.times[-1]
    moment = late.final.T @ late.final / n
    assert_allclose(late.loss[-1], np.trace(moment @ moment) / 4, rtol=1e-3)
    assert_allclose(late.loss[-1], 2 * n**2 / (16 * t**2), rtol=1e-2)
    assert_allclose(np.linalg.inv(moment) / (2 * t / n), np.eye(2), atol=1e-2)


def test_the_constants_of_two_students():
    """n = 2 at +-a, with Y ~ N(0, 1) and logits 2 a Y: a E[tanh^2(a Y)] and E ln cosh, by their power series."""
    a, y = 1e-2, np.polynomial.hermite_e.hermegauss(60)
    mean = float(y[1] @ np.tanh(a * y[0]) ** 2 / y[1].sum())
    measured = check("xu2024.law_second_moment", op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-12)), [[a], [-a]]).measured
    # S = a^2, S' = -2 a g with g = a mean/2, to be -S^2
    assert_allclose(measured["smallest C_S"], abs(-(a**2) * mean + a**4) / a**6, rtol=1e-4)
    assert_allclose(measured["smallest C_S"], 2, rtol=1e-3)  # tanh^2 u = u^2 - 2 u^4/3, E Y^4 = 3


def test_growth_is_the_square_root_of_score_matching():
    start = op.State(np.array([3.0, 0.0]), 1e-30 * np.array([[1.0, 0.5], [-1.0, 0.25], [0.25, -0.75]]))
    obj = op.KLDivergence(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-9))
    flow = op.gradient_flow(obj, start, t_end=15.0, record=op.log_spaced(10))
    steps = op.em(obj, start, step_size=0.6, steps=20, update_weights=False, record=op.every(10))
    for run in (flow, steps):
        report = check("xu2024.law_growth", run, confirm=False)
        assert report.conclusions[0].holds and not report.failed, report.text()
        assert len(report.conclusions) == 2 and report.conclusions[1].left == report.conclusions[1].right == 0
    assert_allclose(check("xu2024.law_growth", flow, confirm=False).conclusions[0].left, 4.5 * (1 - math.exp(-10)), rtol=1e-5)
    total, distance = 0.0, 3.0
    for _ in range(20):
        total, distance = total + math.log1p(0.2 * distance**2), distance * 0.8
    assert_allclose(laws_local.Growth().expected(3.0, 0.0, 3, 0.6, 20), total, rtol=1e-13)


def test_no_border():
    """The same start: under score matching one of five converges, under the divergence all do."""
    start = laws_global.GlobalConvergence().examples()["above the border"].make()["subject"].states[0]
    scores = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8)), start, t_end=1e4)
    assert op.regimes.classify(scores).name == "one converges"
    assert check("xu2024.law_global_convergence", op.gradient_flow(LINE, start, t_end=1e4), confirm=False).verdict == "verified"
    assert check("xu2024.law_global_convergence", scores, confirm=False).verdict == "vacuous"  # another loss


def test_a_step_of_two_is_the_border_of_the_sum_of_squares():
    """One student goes to (1 - eta) mu; U stays at eta = 2 and grows beyond, where the statement supposes nothing."""
    for eta, verdict, falls in ((2.0, "verified", True), (2.01, "vacuous", False)):
        report = check("xu2024.law_sum_of_squares", op.em(LINE, [[1.0]], steps=20, step_size=eta))
        assert report.verdict == verdict
        assert named(report, "never larger").holds is falls
    full = op.em(LINE, START, steps=20)
    assert named(check("xu2024.law_sum_of_squares", full), "gradient EM").holds is False


def test_a_step_lowers_the_sum_of_squares_by_its_share():
    """Any weights, fixed or not: against U of the run's own parameters."""
    obj = op.KLDivergence(op.Gaussian([0.0, 0.0]), weights=[0.1, 0.6, 0.3], rule=op.Auto(tol=1e-10))
    for moving in (False, True):
        run = op.em(obj, [[2.0, 1.0], [-1.0, 0.5], [0.0, -2.0]], steps=10, step_size=1.5, update_weights=moving, record=op.every(1))
        report = check("xu2024.law_sum_of_squares", run)
        assert report.verdict == "verified" and "10 steps" in named(report, "a step lowers").note
        assert_allclose(laws_global.sums_of_squares(op.theory.Setting.of(run)), [(one**2).sum() for one in run.params], rtol=1e-12)


def test_recalled_constants_are_shown_and_not_tested():
    run = op.gradient_flow(LINE, op.init.bad_region(3, 1), t_end=1.0)
    report = check("xu2024.bad_region", run, confirm=False)
    assert report.verdict == "undecided"
    recalled = [one for one in (*report.hypotheses, *report.conclusions) if one.tag == "recalled"]
    assert len(recalled) == 5 and not any(one.tested for one in recalled)
    assert all(one.tag == "recalled" for one in report.constants)
    assert all(one.holds for one in recalled)
    elsewhere = check("xu2024.bad_region", op.gradient_flow(LINE, op.init.symmetric_pair(3, 11.0), t_end=1.0), confirm=False)
    assert elsewhere.verdict == "undecided" and named(elsewhere, "a pair").holds is False
    lemma = check("xu2024.lemma_12")
    assert lemma.verdict == "undecided" and not any(one.tested for one in lemma.conclusions)
    step = named(check("xu2024.main_theorem", op.em(LINE, START, steps=5, step_size=0.5, update_weights=False)), "step size")
    assert step.tag == "recalled" and not step.tested and step.holds is False


def test_the_main_theorem(late):
    report = check("xu2024.main_theorem", late, gamma=0.1)
    assert report.verdict == "verified", report.text()
    found = report.measured["largest gamma of this run"]
    after = late.times > 0
    assert_allclose((late.loss[after] * np.sqrt(late.times[after] * found)).max(), 1, rtol=1e-12)
    assert check("xu2024.main_theorem", late, gamma=0.99 * found, confirm=False).verdict == "verified"
    assert check("xu2024.main_theorem", late, gamma=2 * found, confirm=False).verdict == "violated"  # a constant that is too large
    no_weight = op.KLDivergence(op.Gaussian([0.0]), weights=[0.0, 1.0], rule=op.Auto(tol=1e-8))
    assert named(check("xu2024.main_theorem", no_weight, [[1.0], [2.0]], step_size=0.1), "positive").holds is False


@pytest.mark.parametrize("name", ["theorem_3_2", "theorem_3_5", "law_all_converge", "law_growth", "lemma_2_2", "law_far_field",
                                  "lemma_c_1"])
def test_statements_about_score_matching_say_nothing_of_another_loss(name):
    run = op.gradient_flow(LINE, [[1.0], [-0.5]], t_end=10.0)
    report = check(f"zhang2025.{name}", run, confirm=False)
    assert report.verdict == "vacuous", report.text()


# --- wrong statements ------------------------------------------------------------------------------------------------


class WrongFactor(gradients.Lemma1):
    """With the factor 2 of score matching."""

    def sides(self, point):
        (left, right, error), *rest = super().sides(point)
        return [(left, 2 * right, error), *rest]


class WrongInner(gradients.GradientInner):
    """The loss in place of E|v|^2."""

    def sides(self, point):
        left, _, error = super().sides(point)
        return left, point.objective.value(point.state), error


class WrongRate(main_theorem.MainTheorem):
    """L <= 1/(gamma t)^3."""

    def conclusions(self, setting, constants):
        run = setting.run
        return [Conclusion("bound", left=float((run.loss * run.times**3).max()), relation="<=", right=1.0)]


class WrongHorizon(bad_region.BadRegion):
    """The exponent 25 d in place of d."""

    def hypotheses(self, setting, constants):
        return [one for one in super().hypotheses(setting, constants) if one.tested]

    def conclusions(self, setting, constants):
        until, radius = 25.0 * setting.d, constants["radius"].value
        return [Conclusion("stays", left=float(bad_region._largest_norms(setting, until).min()), relation=">=", right=radius)]


class WrongLeast(bad_region.PairStays):
    """The pair stays for ever."""

    def conclusions(self, setting, constants):
        return [Conclusion("stays", left=float(bad_region._largest_norms(setting, math.inf).min()), relation=">=", right=5.0)]


class WrongStep(laws_global.SumOfSquares):
    """Any step size will do."""

    def hypotheses(self, setting, constants):
        return [one for one in super().hypotheses(setting, constants) if "step size" not in one.words]


class WrongGrowth(laws_local.Growth):
    """Score matching's growth."""

    def expected(self, distance, now, n, step_size, steps):
        return 2 * super().expected(distance, now, n, step_size, steps)


class WrongMoment(laws_local.Late):
    """Score matching's rate 8/n and loss tr S^2."""

    rate, level = 8.0, 1.0


def test_wrong_statements_about_points_are_violated():
    assert WrongFactor().check(LINE, START).verdict == "violated"
    assert WrongInner().check(LINE, START).verdict == "violated"
    wrong = type("WrongLoss", (laws_local.SecondMoment,), {"level": 0.5})
    assert wrong().check(LINE, [[0.01], [-0.01]], C_S=10.0, C_L=10.0).verdict == "violated"


def test_wrong_statements_about_runs_are_violated(late, escape):
    assert WrongRate().check(late).verdict == "violated"
    assert WrongMoment().check(late, C=4.0, confirm=False).verdict == "violated"
    assert WrongLeast().check(escape, confirm=False).verdict == "violated"
    assert WrongStep().check(op.em(LINE, [[1.0]], steps=20, step_size=2.01)).verdict == "violated"
    start = op.State(np.array([2.0]), np.array([[1e-30], [-1e-30]]))
    assert WrongGrowth().check(op.gradient_flow(LINE, start, t_end=5.0)).verdict == "violated"
    gone = op.gradient_flow(LINE, op.init.bad_region(3, 1), t_end=1e9)
    assert WrongHorizon().check(gone, confirm=False).verdict == "violated"
    report = check("xu2024.bad_region", gone, confirm=False)
    assert all(one.holds for one in report.conclusions)  # up to the recalled T, which the run has left behind


def test_a_loss_of_exactly_0_has_fallen():
    run = op.em(op.KLDivergence(op.Gaussian([0.0])), [[1.0]], steps=5, step_size=1.0, update_weights=False)
    assert run.loss[-1] == 0
    assert check("xu2024.main_theorem", run, gamma=0.1, C_eta=1e30).verdict == "verified"
    report = check("zhou2025.main_theorem", op.em(op.KLDivergence(op.Gaussian([0.0])), [[1.0]], steps=5, step_size=1.0))
    assert "could not be evaluated" not in report.text()
