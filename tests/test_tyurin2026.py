"""The statements of Tyurin 2026: their numbers against independent ones, their verdicts, and wrong versions of them."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.theory import check
from overparam.theory.theorem import Setting
from overparam.theory.tyurin2026 import (
    assignment,
    common,
    global_convergence,
    gradients,
    laws_late,
    modes,
    sphere,
    step_size,
    total_variation,
)
from overparam.theory.tyurin2026.integrals import expectations


def named(report, part):
    claims = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(claims) == 1, [one.words for one in claims]
    return claims[0]


# --- numbers ---------------------------------------------------------------------------------------------------------


def by_mpmath(params, weights):
    """Gradient, E v^2, E C^2 and E C in one dimension by tanh-sinh quadrature in 25 digits."""
    with mpmath.workdps(25):
        def parts(x):
            shares = [w * mpmath.exp(-((x - p) ** 2) / 2) for w, p in zip(weights, params, strict=True)]
            total = mpmath.fsum(shares)
            v = mpmath.fsum(s * p for s, p in zip(shares, params, strict=True)) / total
            return v, mpmath.fsum(s * (p - v) ** 2 for s, p in zip(shares, params, strict=True)) / total

        def under(i, function):
            cuts = [params[i] + k for k in (-12, -4, 0, 4, 12)]
            return mpmath.quad(lambda x: mpmath.npdf(x, params[i]) * function(*parts(x)), cuts)

        rows = [2 * w * under(i, lambda v, c, i=i: v + c * (params[i] - v)) for i, w in enumerate(weights)]
        scalars = [mpmath.fsum(w * under(i, function) for i, w in enumerate(weights))
                   for function in (lambda v, c: v**2, lambda v, c: c**2, lambda v, c: c)]
        return np.array([float(one) for one in rows]), [float(one) for one in scalars]


def test_expectations_against_another_quadrature():
    params, weights = [1.5, -0.5, 3.0], [0.2, 0.5, 0.3]
    rows, (loss, squares, trace) = by_mpmath(params, weights)
    found = expectations(np.array(params)[:, None], np.array(weights))
    assert_allclose(found.grad[:, 0], rows, atol=1e-11)
    assert_allclose([found.loss, found.squares, found.trace], [loss, squares, trace], rtol=1e-12)
    assert found.loss_error < 1e-10 and found.squares_error < 1e-10 and (found.grad_error < 1e-10).all()


def test_the_distance_bound_is_above_its_recursion():
    step, least = 0.05, 0.1
    for total, rank in ((100.0, 2), (0.5, 1), (50.0, 0)):
        value, values = total, [total]
        for _ in range(3000):
            quadratic = least**2 * value**2 / (4 * rank) if rank else math.inf
            value -= 2 * step * min(least * value / 2, quadratic)
            values.append(value)
        bound = np.exp(step_size.log_distance_bound(total, step, least, rank, np.arange(3001)))
        assert (bound >= np.array(values) * (1 - 1e-12)).all()
        assert bound[-1] < 2 * values[-1]


def test_random_runs_never_raise_the_lyapunov_function():
    rng = np.random.default_rng(0)
    for _ in range(12):
        n, d = int(rng.integers(1, 5)), int(rng.integers(1, 3))
        weights, start = rng.dirichlet(np.full(n, 2.0)), rng.uniform(0.2, 2.0) * rng.standard_normal((n, d))
        step = step_size.largest_step(float((start**2).sum()), float(weights.max()))
        run = op.gradient_descent(common.at_target(d, weights, tol=1e-8), start, step_size=step, steps=30, record=op.every(1))
        report = check("tyurin2026.law_step_size", run, confirm=False)
        assert report.conclusion_seen is True, report.text()
        assert (np.diff(step_size.squared_distances(Setting.of(run))) <= 0).all()


def test_operator_norms_that_are_known():
    rng = np.random.default_rng(0)
    assert_allclose(sphere.operator_norms(3.0, 4, 1, 5, rng), 6.0)         # one dimension: R0 sqrt(n)
    assert_allclose(sphere.operator_norms(3.0, 1, 7, 5, rng), 3.0)
    norms = sphere.operator_norms(1.0, 2, 2, 20_000, rng)                  # two units at an angle: 1 + |cos|, of mean 1 + 2/pi
    assert_allclose((norms**2).mean(), 1 + 2 / math.pi, atol=0.01)


def setting_of(means, start, weights=None):
    return Setting.of(op.ReverseFisher(op.GaussianMixture(means, weights), rule=op.Auto(tol=1e-6)), start)


def test_chances_of_the_modes():
    start = op.init.on_sphere(4, 30.0, 3, rng=0)
    share, half, how = modes.chances(setting_of(8.0 * np.eye(3), start))
    assert how == "by symmetry" and (share == 1 / 3).all() and (half == 0).all()
    # in the plane, about (a, 0) and (0, b): nearer to the first where R0 (a cos t - b sin t) > (a^2 - b^2)/2
    a, b, size = 6.0, 10.0, 12.0
    share, half, _ = modes.chances(setting_of([[a, 0.0], [0.0, b]], op.init.on_sphere(4, size, 2, rng=0)))
    exact = math.acos((a**2 - b**2) / 2 / size / math.hypot(a, b)) / math.pi
    assert abs(share[0] - exact) < half[0] < 0.02
    # in space, nearer to (c, 0, 0) than to 0 where cos > c/(2 R0): of a uniform height (1 - c/(2 R0))/2
    share, half, _ = modes.chances(setting_of([[a, 0.0, 0.0], [0.0, 0.0, 0.0]], op.init.on_sphere(4, size, 3, rng=0)))
    assert abs(share[0] - (1 - a / (2 * size)) / 2) < half[0] < 0.02


def test_a_flow_has_no_number_of_steps():
    run = op.gradient_flow(op.ReverseFisher(op.GaussianMixture([[-8.0], [8.0]]), rule=op.Auto(tol=1e-8)), [[30.0], [-30.0]], t_end=10.0)
    report = check("tyurin2026.theorem_e_1", run, separation=1, R_min=1, delta_min=1, Delta_bar=0.3, confirm=False)
    assert report.verdict == "vacuous" and not report.obstacle and named(report, "stays nearest").holds is True


def test_the_nearest_mode_in_reduced_coordinates():
    rng = np.random.default_rng(1)
    means, start = 10 * rng.standard_normal((3, 9)), 10 * rng.standard_normal((4, 9))
    setting = setting_of(means, start)
    near, apart = modes.nearest(setting, setting.state)
    exact = np.linalg.norm(start[:, None] - means[None], axis=2)
    assert_allclose(apart, exact, rtol=1e-12)
    assert near.tolist() == exact.argmin(axis=1).tolist()


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_a_gradient_that_is_wrong_is_seen():
    class Bent(op.ReverseFisher):
        def estimate(self, params):
            from dataclasses import replace

            found = super().estimate(params)
            return replace(found, grad=1.001 * found.grad)

    obj = Bent(op.Gaussian([0.0]), rule=op.Auto(tol=1e-10))
    for name in ("tyurin2026.gradient", "tyurin2026.law_lyapunov"):
        assert check(name, obj, [[1.0], [-0.5]], confirm=False).verdict == "violated"


def test_a_mode_without_a_student_is_told():
    start = 30.0 * np.array([[0.0, 1.0], [0.1, math.sqrt(0.99)], [1.0, 0.0]])
    run = op.gradient_descent(assignment.triangle(), start, step_size=0.75, steps=20)
    report = check("tyurin2026.theorem_e_1", run, confirm=False)
    assert sorted(report.measured["students of each mode at the end"]) == [0, 1, 2]
    assert named(report, "stays nearest").holds is True and report.verdict == "undecided"


def test_the_end_of_the_contraction_must_be_a_record():
    start = op.init.on_sphere(n=4, radius=30.0, dimension=2, rng=0)
    run = op.gradient_descent(assignment.triangle(), start, step_size=1.0, steps=2)
    report = check("tyurin2026.theorem_e_1", run, separation=12, R_min=20, delta_min=1, Delta_bar=0.25, confirm=False)
    assert report.verdict == "undecided" and "K = 3" in report.reason + report.text()


def test_starts_off_the_sphere_and_unequal_weights():
    obj = op.ReverseFisher(op.GaussianMixture([[-8.0], [8.0]]), weights=[0.3, 0.7], rule=op.Auto(tol=1e-8))
    report = check("tyurin2026.theorem_3_3", obj, [[-30.0], [20.0]])
    assert report.verdict == "vacuous"
    assert named(report, "on a sphere").holds is False and named(report, "weights are equal").holds is False


@pytest.mark.parametrize("values", [{"n": 0}, {"rho": 0.0}, {"samples": 10**8}])
def test_lemma_b5_says_what_is_wrong(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        check("tyurin2026.lemma_b_5", **values)


# --- wrong versions --------------------------------------------------------------------------------------------------


class HalfIdentity(gradients.LyapunovIdentity):
    @staticmethod
    def factor():
        return 1.0


class SmallNorm(gradients.GradientNorm):
    @staticmethod
    def factor():
        return 0.5


class MoreGain(step_size.StepSize):
    @staticmethod
    def gain():
        return 4.0


class NoDeviation(sphere.LemmaB5):
    @staticmethod
    def _bound(radius, n, d, rho):
        return radius * math.sqrt(n / d)


class FasterContraction(assignment.TheoremE1):
    @staticmethod
    def contraction(setting):
        return 1 - 3 * setting.step_size / setting.n


class LikelihoodLevel(laws_late.LateLoss):
    @staticmethod
    def level():
        return 1 / 16


WRONG = [(HalfIdentity, "own samples"), (SmallNorm, "own samples"), (MoreGain, "line"), (NoDeviation, "many"),
         (FasterContraction, "triangle"), (LikelihoodLevel, "plane")]


@pytest.mark.parametrize(("theorem", "key"), WRONG)
def test_wrong_versions_are_violated(theorem, key):
    report = theorem().check(**theorem().examples()[key].make(), confirm=False)
    assert report.verdict == "violated", report.text()


def test_a_rate_that_is_too_small_is_violated():
    theorem = global_convergence.SingleTeacher()
    assert theorem.check(**{**theorem.examples()["descent"].make(), "C_rate": 0.1}, confirm=False).verdict == "violated"


def test_total_variation_needs_the_shares_to_match():
    """Without that hypothesis the theorem is wrong: F is next to 0, and a quarter of the mass is at the wrong mode."""
    theorem = total_variation.Theorem33()
    made = theorem.examples()["uneven shares"].make()
    run = made["subject"].extend(steps=600)
    report = theorem.check(**{**made, "subject": run, "match": 0.5}, confirm=False)
    assert run.loss[-1] < 1e-10
    assert report.verdict == "violated", report.text()


def test_counted_chances_do_not_ask_for_a_tolerance():
    """Modes without symmetry: the chance has an interval of fixed draws, which no tolerance makes narrower."""
    teacher = op.GaussianMixture([[-8.0, 0.0], [8.0, 1.0]], [0.3, 0.7])
    start = 30.0 * np.array([[-1.0, 0.0], [1.0, 0.0]])
    run = op.gradient_descent(op.ReverseFisher(teacher, rule=op.Auto(1e-4)), start, step_size=1.0, steps=2)
    left = named(check("tyurin2026.theorem_3_3", run), "chances of the modes").left
    found = named(check("tyurin2026.theorem_3_3", run, match=left, separation=12.0, R_min=20.0, epsilon=0.5), "chances of the modes")
    assert found.holds is None and "only a match= outside" in found.would_decide and "smaller tolerance" not in found.would_decide
