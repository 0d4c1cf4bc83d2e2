"""The statements of Zhou et al. 2025: their numbers against independent ones, their verdicts, and wrong versions of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import chi2, norm

import overparam as op
from overparam.theory import Conclusion, check
from overparam.theory.zhou2025 import clusters, gradients, hybrid, recovery

TEACHER = op.GaussianMixture([[-3.0], [3.0]], weights=[0.4, 0.6])
LINE = op.KLDivergence(TEACHER, rule=op.Auto(tol=1e-8))
START = [[-2.5], [2.0], [3.5], [-4.0]]


def named(report, part):
    claims = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(claims) == 1, [one.words for one in claims]
    return claims[0]


@pytest.fixture(scope="module")
def run():
    """The hybrid at eta = 1 to where the loss falls faster than 1/T."""
    return op.em(LINE, START, steps=400, step_size=1.0)


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_lemma_1_in_the_plane():
    """Two students and two components that span a plane, at a start and with unequal weights of both."""
    teacher = op.GaussianMixture([[0.0, 0.0], [1.5, -1.0]], weights=[0.3, 0.7])
    obj = op.KLDivergence(teacher, weights=[0.2, 0.8], rule=op.Auto(tol=1e-8))
    report = check("zhou2025.lemma_1", obj, [[1.0, 0.5], [-0.5, 1.0]], confirm=False)
    assert report.verdict == "verified", report.text()


def test_reductions_to_closed_forms():
    """n = 1: mu moves by eta times its distance from the teacher's mean. m = 1 and students together: the same, times the weight."""
    eta, mean = 0.7, 0.6
    one = op.em(LINE, [[2.0]], steps=1, step_size=eta)
    assert_allclose(one.final, [[2.0 - eta * (2.0 - mean)]], rtol=1e-8)
    assert_allclose(one.final_weights, [1.0])
    together = op.em(op.KLDivergence(op.Gaussian([0.5]), weights=[0.25, 0.75]), [[2.0], [2.0]], steps=1, step_size=eta)
    assert_allclose(together.final[:, 0], 2.0 - eta * np.array([0.25, 0.75]) * 1.5, rtol=1e-9)
    for traj in (one, together):
        assert check("zhou2025.hybrid_update", traj, confirm=False).verdict == "verified"
    with_one = check("zhou2025.lemma_1", op.KLDivergence(op.Gaussian([0.5])), [[2.0], [-1.0]])
    assert with_one.verdict == "verified"  # m = 1: the lemma of Xu et al.


def test_clusters_against_exact_masses():
    """Two components: a student at a has Phi of its distance to the border outside, exactly; the teacher's own besides."""
    means, params, weights = np.array([[-3.0], [3.0]]), np.array([[-2.0], [1.0], [4.0]]), np.array([0.3, 0.2, 0.5])
    owner, sums, outside = clusters.clusters(params, weights, means, np.array([0.4, 0.6]))
    assert owner.tolist() == [0, 1, 1] and sums.tolist() == [0.3, 0.7]
    assert_allclose(outside, weights @ norm.cdf(-np.abs(params[:, 0])) + norm.cdf(-3.0), rtol=1e-12)


def test_masses_outside_of_the_cells_are_bounds():
    """Three components in the plane, by sampling."""
    rng = np.random.default_rng(0)
    means, params = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 4.0]]), rng.normal(size=(6, 2)) * 2 + 1
    weights, teacher_weights = rng.dirichlet(np.ones(6)), np.array([0.2, 0.3, 0.5])
    owner, sums, outside = clusters.clusters(params, weights, means, teacher_weights)
    noise = rng.standard_normal((40_000, 1, 2))

    def away(points, own):
        cell = ((points + noise)[:, :, None] - means)
        return ((cell**2).sum(axis=3).argmin(axis=2) != own).mean(axis=0)

    exact = weights @ away(params, owner) + teacher_weights @ away(means, np.arange(3))
    assert exact < outside + 0.01 and outside < 1.5 * exact
    assert_allclose(sums.sum(), 1, rtol=1e-14)


def test_coincident_components_part_nothing():
    _, _, outside = clusters.clusters(np.array([[0.0]]), np.ones(1), np.array([[0.0], [0.0]]), np.array([0.5, 0.5]))
    assert outside == 2.0  # the bound is void, not NaN


def test_chance_of_a_start():
    start = np.array(START)
    distance = np.abs(start - np.array([-3.0, 3.0])).min(axis=1).max()
    claim = named(check("zhou2025.main_theorem", LINE, start, step_size=1.0), "may be draws")
    assert_allclose(claim.left, math.log(min(4 * chi2.sf(distance**2, 1), 1.0)), atol=1e-12)
    far = named(check("zhou2025.main_theorem", LINE, start + 12.0, step_size=1.0), "may be draws")
    assert_allclose(far.left, math.log(4 * chi2.sf(12.5**2, 1)), rtol=1e-9)
    assert far.holds is False


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_recovery(run):
    given = {"C_sep": 6.0, "C_n": 2.0, "largest_step": 1.0, "C_L": 10.0}
    report = check("zhou2025.main_theorem", run, **given, confirm=False)
    assert report.verdict == "verified", report.text()
    assert report.given == "given C_sep = 6, C_n = 2, largest_step = 1, C_L = 10"
    assert named(report, "faster than 1/T").tag == "derived"
    assert_allclose(report.measured["smallest C_L of this run"], (run.loss * run.times**2).max(), rtol=1e-14)
    bare = check("zhou2025.main_theorem", run, confirm=False)
    assert bare.verdict == "undecided"
    unknown = [one for one in (*bare.hypotheses, *bare.conclusions) if one.tag == "unknown"]
    assert len(unknown) == 4 and not any(one.tested for one in unknown)
    assert check("zhou2025.main_theorem", run, **{**given, "C_sep": 7.0}, confirm=False).verdict == "vacuous"
    assert check("zhou2025.main_theorem", run, **{**given, "C_L": 1e-6}, confirm=False).verdict == "violated"  # too small a constant


def test_cluster_weights_are_the_teachers_late(run):
    """From 1/2 and 1/2 to 0.4 and 0.6 within 1e-4, where the loss is about 1e-6."""
    report = check("zhou2025.law_cluster_weights", run, confirm=False)
    assert report.verdict == "verified", report.text()
    assert_allclose(report.measured["their weights"], [0.4, 0.6], atol=1e-4)
    assert report.measured["students of each component at the end"] == [2, 2]
    assert_allclose(run.final_weights[[0, 3]].sum(), 0.4, atol=1e-4)


def test_a_lost_component_shows_in_the_clusters():
    run = op.em(LINE, [[2.0], [3.5]], steps=3, step_size=0.1)
    report = check("zhou2025.law_cluster_weights", run, confirm=False)
    assert report.verdict == "verified"  # a large loss allows it
    assert report.measured["students of each component at the end"] == [0, 2]
    assert named(report, "at the end").left == pytest.approx(0.4)


def test_laws_of_the_hybrid(run):
    for name in ("law_monotone", "law_sum_of_weights", "hybrid_update"):
        report = check(f"zhou2025.{name}", run, confirm=False)
        assert report.verdict == "verified", report.text()
    assert np.abs(run.weights.sum(axis=1) - 1).max() < 1e-14


def test_one_student_diverges_beyond_a_step_of_two():
    obj = op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    for eta, verdict, falls in ((1.9, "verified", True), (2.5, "vacuous", False)):
        report = check("zhou2025.law_monotone", op.em(obj, [[1.0]], steps=30, step_size=eta), confirm=False)
        assert report.verdict == verdict and report.conclusions[0].holds is falls


def test_data_sets_have_no_components_but_their_likelihood_rises():
    data = op.KLDivergence(op.DataSet(TEACHER.sample(200, 0)))
    run = op.em(data, START, steps=30, step_size=1.0)
    assert check("zhou2025.law_monotone", run).verdict == "verified"
    assert check("zhou2025.law_sum_of_weights", run).verdict == "verified"
    for name in ("main_theorem", "hybrid_update", "law_cluster_weights", "lemma_1"):
        assert check(f"zhou2025.{name}", run).verdict == "vacuous"


# --- wrong statements ------------------------------------------------------------------------------------------------


class WrongUpdate(hybrid.HybridUpdate):
    """The hybrid is what full EM does."""

    def hypotheses(self, setting, constants):
        return super().hypotheses(setting, constants)[:2]

    def conclusions(self, setting, constants):  # full EM has no step size: 1 is put in its place
        return super().conclusions(type(setting)(setting.objective, setting.state, 1.0, setting.run), constants)


class WrongStep(hybrid.Monotone):
    """Any step size will do."""

    def hypotheses(self, setting, constants):
        return super().hypotheses(setting, constants)[:2]


class WrongSum(hybrid.SumOfWeights):
    """Every weight grows."""

    def conclusions(self, setting, constants):
        return [Conclusion("grows", fact=bool((setting.run.weights[-1] >= setting.run.weights[0]).all()))]


class WrongClusters(clusters.ClusterWeights):
    """L^2 in place of sqrt(L/2)."""

    def conclusions(self, setting, constants):
        right = self.claim(setting, -1)
        return [Conclusion(right.words, left=right.left, relation="<=", right=float(setting.run.loss[-1] ** 2))]


class WrongRate(recovery.MainTheorem):
    """The rate 1/T^3, of any constant: the slope at the end is below -3."""

    def conclusions(self, setting, constants):
        return [Conclusion("slope", left=float(op.rates.local_slope(setting.run).slope[-1]), relation="<", right=-3.0, error=0.01)]


class WrongLemma(gradients.Lemma1):
    """Without the teacher's means: E[w_i v] about the origin."""

    def sides(self, point):
        (_, _, error), *rest = super().sides(point)
        means, teacher_weights = gradients.common.teacher_in(point.objective, point.state)
        found = gradients.over_mixture(point.state.coordinates, point.weights, 0 * means, teacher_weights)
        worst = int(np.argmax(np.abs(found.grad[:, 0] - point.gradient()[0][:, 0])))
        return [(float(point.gradient()[0][worst, 0]), float(found.grad[worst, 0]), error), *rest]


class WrongWeights(gradients.WeightGradient):
    """-E[w_i], not divided by the weight."""

    def sides(self, point):
        left, _, error = super().sides(point)
        direction = point.direction[:, 0] - point.direction[:, 0].mean()
        return left, -float((direction * point.expectations().shares).sum()), error


def test_wrong_statements_about_points_are_violated():
    assert WrongLemma().check().verdict == "violated"
    assert WrongWeights().check().verdict == "violated"


def test_wrong_statements_about_runs_are_violated(run):
    assert WrongUpdate().check(op.em(LINE, START, steps=5), confirm=False).verdict == "violated"
    one = op.em(op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8)), [[1.0]], steps=20, step_size=2.5)
    assert WrongStep().check(one, confirm=False).verdict == "violated"
    assert WrongSum().check(run, confirm=False).verdict == "violated"
    assert WrongClusters().check(run, confirm=False).verdict == "violated"
    given = {"C_sep": 6.0, "C_n": 2.0, "largest_step": 1.0}
    assert WrongRate().check(run, **given, confirm=False).verdict == "violated"
