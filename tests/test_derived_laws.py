"""The library's own laws: for n = 2, 3, 5, 10, two profiles, d = 1 and 2; and wrong versions of them that must be found out."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.theory import check
from overparam.theory.zhang2025 import laws_far, laws_gradient, laws_growth, laws_late
from overparam.theory.zhang2025.lemmas_b import GradientPoint

PROFILES = ("equispaced", "uneven")
CASES = [(n, profile, d) for n in (2, 3, 5, 10) for profile in PROFILES for d in (1, 2)]
EACH = pytest.mark.parametrize(("n", "profile", "d"), CASES)


def shape(n, profile, d):
    """(n, d) deviations of mean 0 and root mean square 1 along the first axis; across it another shape of the same size."""
    line = np.linspace(-1, 1, n)
    along = line if profile == "equispaced" else line + 0.3 * line**2 + 0.1 * np.sin(5 * line)
    rows = np.stack([along, np.cos(2 * np.arange(n))], axis=1)[:, :d]
    rows = rows - rows.mean(axis=0)
    return rows / np.sqrt((rows**2).mean(axis=0))


def objective(d, weights=None, tol=1e-10):
    return op.ScoreMatching(op.Gaussian(np.zeros(d)), weights=weights, rule=op.Auto(tol=tol))


def uneven_weights(n, profile):
    weights = np.arange(1.0, n + 1) if profile == "uneven" else np.where(np.arange(n) == 0, 3.0, 1.0)
    return weights / weights.sum()


# --- the gradient --------------------------------------------------------------------------------------------------------


@EACH
def test_gradient_identities(n, profile, d):
    params = 0.4 * shape(n, profile, d) + 0.1
    for weights in (None, uneven_weights(n, profile)):
        obj = objective(d, weights)
        assert check("zhang2025.law_gradient_identity", obj, params).verdict == "verified"
        near = params / max(1.0, np.linalg.norm(params, axis=1).max())
        assert check("zhang2025.law_unit_ball", obj, near).verdict == "verified"
    assert check("zhang2025.law_gradient_weights", objective(d, uneven_weights(n, profile)), params).verdict == "verified"


@EACH
def test_first_order_about_a_common_point(n, profile, d):
    deviations = shape(n, profile, d) + 0.3
    for distance in (0.5, 3.0):
        point = GradientPoint(objective(d, tol=1e-12), op.State(np.r_[distance, np.zeros(d - 1)], np.zeros((n, d))), deviations)
        shift, along, across = laws_gradient.FirstOrder().sides(point)
        for found, exact, error, *_ in (shift, along, across):
            assert abs(found - exact) <= error <= 1e-5 * (1 + distance**2)
        assert (d == 1) == (across[:3] == (0.0, 0.0, 0.0))


@EACH
def test_unequal_weights_part_coincident_parameters(n, profile, d):
    weights, point = uneven_weights(n, profile), np.r_[1.5, -np.ones(d - 1)]
    obj = objective(d, weights)
    assert check("zhang2025.law_common_point", obj, np.tile(point, (n, 1))).verdict == "verified"
    assert_allclose(obj.grad(np.tile(point, (n, 1))), 2 * weights[:, None] * point, rtol=1e-9)


# --- the small-noise regime ----------------------------------------------------------------------------------------------


@EACH
def test_growth_of_a_flow_and_of_descent(n, profile, d):
    start = op.State(np.r_[3.0, np.zeros(d - 1)], 1e-30 * shape(n, profile, d))
    flow = op.gradient_flow(objective(d, tol=1e-9), start, t_end=3.0 * n, record=op.log_spaced(10))
    descent = op.gradient_descent(objective(d, tol=1e-9), start, step_size=0.05 * n, steps=60, record=op.every(30))
    for run in (flow, descent):
        report = check("zhang2025.law_growth", run, confirm=False)
        assert report.verdict == "verified", report.text()
        assert len(report.conclusions) == d
    growth = check("zhang2025.law_growth", flow, confirm=False).conclusions[0]
    assert_allclose(growth.left, 9 * (1 - math.exp(-12)), rtol=1e-5)


def test_growth_of_deviations_that_float64_cannot_hold():
    start = op.State(np.array([12.0]), np.array([[1.0], [-1.0]]), log_scale=-2000.0)
    report = check("zhang2025.law_growth", op.gradient_flow(objective(1, tol=1e-9), start, t_end=20.0), confirm=False)
    assert report.verdict == "verified" and report.conclusions[0].left > 140


@pytest.mark.parametrize(("n", "d", "scale"), [(2, 1, 1e-12), (2, 2, 1e-12), (3, 3, 1e-11), (5, 2, 1e-9), (3, 1, 1e-8), (5, 3, 1e-12)])
def test_growth_of_starts_that_float64_rounds(n, d, scale):
    """Deviations of a few units in the last place of the centre that they are stored with; and a centre that is gone in the end."""
    start = op.init.cluster(n=n, center=4 * np.ones(d) / math.sqrt(d), scale=scale, rng=1)
    obj = objective(d, tol=1e-9)
    runs = [op.gradient_flow(obj, start, t_end=t_end, record=op.log_spaced(20)) for t_end in (10.0, 100.0)]
    runs += [op.gradient_descent(obj, start, step_size=eta * n, steps=100, record=op.log_spaced(20)) for eta in (0.02, 0.25, 0.5)]
    for run in runs:
        report = check("zhang2025.law_growth", run, confirm=False)
        assert report.verdict == "verified", report.text()
        for claim in report.conclusions:
            assert abs(claim.left - claim.right) <= claim.error < 0.01


def test_growth_of_a_sampled_run_is_not_judged():
    start = op.init.cluster(n=3, center=[4.0, 0.0], scale=1e-12, rng=1)
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.MonteCarlo(500, rng=0))
    report = check("zhang2025.law_growth", op.gradient_descent(obj, start, step_size=0.05, steps=60), confirm=False)
    assert report.verdict == "undecided" and "op.Auto() would decide" in report.reason


def test_a_wrong_law_of_growth_is_violated(monkeypatch):
    run = op.gradient_descent(objective(1), op.State(np.array([3.0]), np.array([[1e-30], [-1e-30]])), step_size=0.05, steps=50)
    assert laws_growth.Growth().check(run, confirm=False).verdict == "verified"
    right = laws_growth.log_amplification
    monkeypatch.setattr(laws_growth, "log_amplification", lambda m, n, eta, steps: right(m, n, eta / 2, 2 * steps))
    assert laws_growth.Growth().check(run, confirm=False).verdict == "violated"


def test_amplification_of_descent():
    distance, n, eta = 3.0, 5, 0.1
    total, m = 0.0, distance
    for _ in range(5000):
        total += math.log1p(4 * eta * m**2 / n)
        m *= 1 - 2 * eta / n
    assert_allclose(laws_growth.log_amplification(distance, n, eta), total, rtol=1e-12)
    assert laws_growth.log_amplification(distance, n, None) == 9.0


@EACH
def test_the_staircase_falls(n, profile, d):
    converged = []
    for b in (2.0, 5.5):
        start = op.State(np.r_[3.0, np.zeros(d - 1)], math.exp(b - 9) * shape(n, profile, d))
        run = op.gradient_flow(objective(d, tol=1e-6), start, t_end=1e6, rtol=1e-6, stop=op.regimes.until_decided(np.zeros(d)))
        report = check("zhang2025.law_staircase", run, confirm=False)
        assert report.verdict == "verified", report.text()
        converged.append(op.regimes.classify(run).k)
    assert converged[0] == n > converged[1]


def test_every_step_of_the_staircase():
    """n = 5, equispaced, d = 1: k = 5, 4, 3, 2, 1 at these b."""
    found = []
    for b in (2.05, 2.6, 3.15, 4.05, 5.55):
        start = op.State(np.array([3.0]), math.exp(b - 9) * shape(5, "equispaced", 1))
        run = op.gradient_flow(objective(1, tol=1e-6), start, t_end=1e6, rtol=1e-6, stop=op.regimes.until_decided([0.0]))
        found.append(op.regimes.classify(run).k)
        report = check("zhang2025.law_staircase", run, confirm=False)
        assert report.verdict != "violated"
        assert_allclose(report.measured["b = ln eps + M0^2"], b, rtol=1e-12)
    assert found == [5, 4, 3, 2, 1]


def test_a_wrong_border_is_violated(monkeypatch):
    start = op.State(np.array([3.0]), math.exp(3.5 - 9) * shape(2, "equispaced", 1))
    run = op.gradient_flow(objective(1, tol=1e-6), start, t_end=100.0, rtol=1e-6)
    assert check("zhang2025.law_staircase", run, confirm=False).verdict == "verified"
    monkeypatch.setattr(laws_growth, "_BORDER", {2: (4.0, 4.0)})
    assert check("zhang2025.law_staircase", run, confirm=False).verdict == "violated"


# --- far parameters ------------------------------------------------------------------------------------------------------


@EACH
def test_far_asymptotics(n, profile, d):
    far = 1 if profile == "uneven" else n - 1
    for r in (8.0, 10.0, 12.0):
        params = np.zeros((n, d))
        params[:far] = r / math.sqrt(d)
        report = check("zhang2025.law_far_field", objective(d), params)
        assert report.verdict == "verified", report.text()


def test_the_errors_of_the_asymptotics_are_those_that_were_stated():
    """One far parameter: the asymptotic L is 7 % too large at r = 8, 4.6 % at 10, 3.3 % at 12; the band is pi^2/2 over r^2."""
    for r, stated in ((8.0, 0.07), (10.0, 0.046), (12.0, 0.033)):
        loss = objective(1).value([[0.0], [r]])
        ratio = math.sqrt(math.pi / 8) * r * math.exp(-(r**2) / 8) / loss
        assert abs(ratio - 1 - stated) < 0.0005 and 1 < ratio < 1 / (1 - math.pi**2 / (2 * r**2))


def test_wrong_asymptotics_are_violated():
    class Wrong(laws_far.FarField):
        """exp(-r^2/8) r^2 for the loss, in place of r."""

        def sides(self, point):
            found = super().sides(point)
            left, right, error = found[5]
            return [*found[:5], (left, right + math.log(point.radius), error), *found[6:]]

    assert Wrong().check().verdict == "violated"


# --- late ----------------------------------------------------------------------------------------------------------------


@EACH
def test_the_second_moment_and_the_loss(n, profile, d):
    for size in (1e-3, 0.02):
        params = shape(n, profile, d)
        params *= size / np.linalg.norm(params, axis=1).max()
        report = check("zhang2025.law_second_moment", objective(d), params, C_S=4.0, C_L=4.0)
        assert report.verdict == "verified", report.text()


def test_the_constants_of_two_parameters():
    """n = 2 at +-a: S' = -4 S^2 (1 - 3 a^2) and L = a^4 (1 - 2 a^2), by expanding E[tanh^2(a x)] a^2."""
    measured = check("zhang2025.law_second_moment", objective(1), [[0.01], [-0.01]]).measured
    assert_allclose([measured["smallest C_S"], measured["smallest C_L"]], [3, 2], rtol=1e-3)


@EACH
def test_the_late_law_where_all_converge(n, profile, d):
    start = 0.05 * shape(n, profile, d) / n**0.5
    run = op.gradient_flow(objective(d), start, t_end=1e5, record=op.log_spaced(30))
    report = check("zhang2025.law_all_converge", run, confirm=False, C=4.0)
    assert report.verdict == "verified", report.text()
    moment = np.linalg.inv(laws_late.second_moment(run.final_state))
    axes = np.linalg.svd(start, full_matrices=False)[2] if min(n - 1, d) == d else None
    if axes is not None:  # the matrix has full rank: both eigenvalues rise alike
        assert_allclose(np.linalg.eigvalsh(moment), np.linalg.eigvalsh(np.linalg.inv(start.T @ start / n) + 8e5 / n * np.eye(d)), rtol=1e-2)


@EACH
def test_the_late_law_where_some_diverge(n, profile, d):
    far = 1 if profile == "uneven" else n - 1
    params = 0.1 * shape(n, profile, d)
    params[:far, 0] += 4.0 * (-1.0) ** np.arange(far)  # on both sides
    run = op.gradient_flow(objective(d, tol=1e-7), params, t_end=1e8, rtol=1e-6, record=op.log_spaced(60))
    report = check("zhang2025.law_one_converges", run, confirm=False)
    assert report.verdict == "verified", report.text()


def test_wrong_late_laws_are_violated(monkeypatch):
    run = op.gradient_flow(objective(1), [[0.1], [-0.08], [-0.02]], t_end=1e5, record=op.log_spaced(30))
    right = laws_late.second_moment
    assert check("zhang2025.law_all_converge", run, confirm=False, C=4.0).verdict == "verified"
    monkeypatch.setattr(laws_late, "second_moment", lambda state: 2 * right(state))  # as if S^-1 rose by 4/n
    assert check("zhang2025.law_all_converge", run, confirm=False, C=4.0).verdict == "violated"
    monkeypatch.undo()
    far = op.gradient_flow(objective(1, tol=1e-8), [[0.0], [4.0]], t_end=1e8, record=op.log_spaced(60))
    monkeypatch.setattr(laws_late.laws, "far_parameters", lambda t, r, leading=False: 8 / t * (1 / (r**2 - 16)).sum())
    assert check("zhang2025.law_one_converges", far, confirm=False).verdict == "violated"
