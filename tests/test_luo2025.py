"""Matrix factorization: diagnostics against their constructions, the statements of Luo et al. 2025, and wrong versions of them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from numpy.testing import assert_allclose

import overparam as op
from overparam import factors
from overparam.theory import check
from overparam.theory.luo2025 import balanced_flow, common, convergence, descent, random_starts

SHAPES = list(itertools.product((2, 4, 6), (1, 3, 4), (False, True)))


def haar(rng, d, complex):
    return scipy.stats.unitary_group.rvs(d, random_state=rng) if complex and d > 1 else (
        np.exp(2j * np.pi * rng.random((1, 1))) if complex else
        scipy.stats.ortho_group.rvs(d, random_state=rng) if d > 1 else rng.choice([-1.0, 1.0], (1, 1)))


def built(depth, d, complex, seed=0):
    """Balanced factors from turns that are known, and those of both ends and the sizes."""
    rng = np.random.default_rng(seed)
    turns, sizes = [haar(rng, d, complex) for _ in range(depth + 1)], np.sort(rng.uniform(0.3, 1.5, d))[::-1]
    return np.stack([turns[j + 1] * sizes @ turns[j].conj().T for j in range(depth)]), turns[-1], turns[0], sizes


def named(report, part):
    claims = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(claims) == 1, [one.words for one in claims]
    return claims[0]


# --- diagnostics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "d", "complex"), SHAPES)
def test_parts_of_known_factors(depth, d, complex):
    params, left, right, sizes = built(depth, d, complex)
    for found, layer, sign in ((factors.skew_values, factors.layer_skew, -1), (factors.hermitian_values, factors.layer_hermitian, 1)):
        expected = np.linalg.svd((left + sign * right) * sizes, compute_uv=False)
        assert_allclose(found(params), expected, atol=1e-12)
        assert_allclose(np.linalg.svd(layer(params), compute_uv=False), expected, atol=1e-12)
    assert_allclose(factors.skew_error(params), np.linalg.norm((left - right) * sizes), atol=1e-12)
    target = np.diag(np.arange(d, 0.0, -1.0)) + 0.1
    assert_allclose(factors.skew_error(params, target), np.linalg.norm(scipy.linalg.sqrtm(target) @ (left - right) * sizes), atol=1e-12)
    assert factors.balance_errors(params).shape == (depth - 1,) and factors.balance_errors(params).max() < 1e-14 * depth
    assert_allclose(factors.product_singular_values(params), sizes**depth, rtol=1e-12)


@pytest.mark.parametrize("complex", [False, True])
def test_numbers_of_any_factors(complex):
    rng = np.random.default_rng(5)
    params = op.init.small_gaussian(3, 4, 0.7, rng, complex)
    whole = params[2] @ params[1] @ params[0]
    polar = whole + scipy.linalg.sqrtm(whole @ whole.conj().T)
    assert_allclose(factors.polar_values(params), scipy.linalg.svdvals(polar), atol=1e-9)
    determinant = np.linalg.det(whole)
    assert_allclose(factors.determinant_sign(params), determinant / abs(determinant), atol=1e-12)
    assert_allclose(factors.product(params), whole)
    sizes = [scipy.linalg.svdvals(one) for one in params]
    assert_allclose(factors.factor_singular_values(params), sizes)
    assert_allclose(factors.factor_extremes(params), [np.min(sizes), np.max(sizes)])
    gaps = [np.linalg.norm(one @ one.conj().T - two.conj().T @ two) for one, two in itertools.pairwise(params)]
    assert_allclose(factors.balance_errors(params), gaps)


def test_several_points_at_once_and_as_observed_along_a_run():
    names = [name for name in factors.__all__ if not name.startswith("layer")]
    obj = op.MatrixFactorization(np.eye(2), depth=4)
    run = op.gradient_descent(obj, op.init.balanced_gaussian(4, 2, 0.5, 1, complex=True), step_size=0.02, steps=40, record=op.every(10),
                              observe={name: getattr(factors, name) for name in [*names, "layer_skew", "layer_hermitian"]})
    for name, values in run.observed.items():
        assert_allclose(values, getattr(factors, name)(np.array(run.params)), atol=1e-13)


@pytest.mark.parametrize(("function", "args", "message"), [
    (factors.product, (np.eye(2),), r"shape \(\.\.\., N, d, d\)"), (factors.product, (np.eye(2)[None],), "two square"),
    (factors.balance_errors, (np.zeros((2, 2, 3)),), "params must have shape"),
    (factors.skew_values, ([["a"]],), "real or complex numbers"),
    (factors.determinant_sign, (np.full((2, 2, 2), np.nan),), "finite"), (factors.layer_skew, (np.ones((3, 1, 1)),), "even number"),
    (factors.layer_hermitian, (np.zeros((4, 1, 1)),), "invertible"), (factors.skew_error, (np.ones((2, 1, 1)), [[-1.0]]), "target must"),
    (factors.skew_error, (np.ones((2, 1, 1)), np.eye(2)), "target must"),
    (factors.skew_error, (np.ones((2, 2, 2)), [[1, 2.0], [0, 1]]), "target"),
])
def test_wrong_arguments(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


# --- what must hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.1, 0.4])
def test_real_balanced_starts_of_negative_determinant_never_converge(scale):
    """25 starts each, d = 3, identity, eta = 0.03, a = 1, 60 000 steps."""
    obj, left, seed = op.MatrixFactorization(np.eye(3), balance=1.0), 25, 0
    while left:
        start, seed = op.init.balanced_gaussian(4, 3, scale, seed), seed + 1
        if np.linalg.det(start[3] @ start[2] @ start[1] @ start[0]) > 0:
            continue
        left -= 1
        run = op.gradient_descent(obj, start, step_size=0.03, steps=60_000, record=op.log_spaced(40))
        assert run.status == "completed" and run.loss.min() > 0.49
        if left < 2:
            report = check("luo2025.law_determinant", run)
            assert report.verdict == "verified" and report.conclusions[0].right == 0.5


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_differences_are_conserved_to_the_tolerance(rtol, complex):
    start = op.init.small_gaussian(4, 3, 0.5, 2, complex)
    run = op.gradient_flow(op.MatrixFactorization(np.diag([2.0, 1.0, 0.5]), balance=0.0), start, t_end=30.0, rtol=rtol)

    def gaps(params):
        return np.array([one @ one.conj().T - two.conj().T @ two for one, two in itertools.pairwise(params)])

    moved = max(np.abs(gaps(params) - gaps(start)).max() for params in run.params)
    assert moved < 10 * rtol  # of 1: some steps of rtol each
    report = check("luo2025.law_conservation", run)
    assert report.verdict == "verified" and report.conclusions[0].error < 1e4 * rtol
    assert check("luo2025.theorem_4", run).verdict == "vacuous"  # no balanced start


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("complex", [False, True])
def test_parts_are_monotone_under_balanced_flow(seed, complex):
    """Theorems 4 and 5, with parts by the layers' formula."""
    run = op.gradient_flow(op.MatrixFactorization(np.eye(3), balance=0.0), op.init.balanced_gaussian(4, 3, 0.4, seed, complex), t_end=40.0,
                           rtol=1e-10)
    parts = [(one[0], np.linalg.inv(one[1]) @ (one[3] @ one[2]).conj().T) for one in run.params]
    skew = np.array([np.linalg.norm(one - other) ** 2 for one, other in parts])
    assert np.diff(skew).max() < 1e-9 and skew[-1] < 0.2 * skew[0]
    plus = np.array([scipy.linalg.svdvals(one + other) for one, other in parts])
    inside = np.array([np.linalg.norm(one[3] @ one[2] @ one[1] @ one[0], ord=2) <= 1 for one in run.params])
    both = inside[1:] & inside[:-1]
    assert both.sum() > 20 and np.diff(plus, axis=0)[both].min() > -1e-8
    for name in ("luo2025.theorem_4", "luo2025.theorem_5"):
        report = check(name, run)
        assert report.verdict == "verified", report.text()


def test_equation_11_at_many_balanced_points():
    for depth, d, complex in SHAPES:
        for seed in range(20):
            params, left, right, sizes = built(depth, d, complex, seed)
            plus = scipy.linalg.svdvals((left + right) * sizes)
            skew = scipy.linalg.svdvals((left - right) * sizes)[0]
            assert (plus / 2 <= sizes + 1e-12).all() and (sizes <= np.sqrt(plus**2 + skew**2) / 2 + 1e-12).all()
            report = check("luo2025.equation_11", op.MatrixFactorization(np.eye(d), depth=depth), params)
            assert report.verdict == "verified"
            assert_allclose(named(report, "sqrt(2)/2").right, math.sqrt(0.5) * np.sqrt(plus**2 + skew**2)[np.argmin(
                math.sqrt(0.5) * np.sqrt(plus**2 + skew**2) - sizes)], rtol=1e-10)


# --- the library's own steps of the proofs ---------------------------------------------------------------------------


def test_singular_values_of_balanced_factors_obey_an_equation_of_their_own():
    r"""s' = N (u^H Sigma v - s) s^(2 - 2/N), by differences along the loss's own gradient."""
    target = np.array([[2.0, 0.3, 0.0], [0.1, 1.0, -0.4], [0.0, 0.2, 0.5]])
    for depth, complex in ((2, False), (3, True), (4, False)):
        params, left, right, sizes = built(depth, 3, complex, seed=7)
        grad = op.MatrixFactorization(target, depth=depth, balance=3.0).grad(params)
        step = 1e-5
        ends = [factors.product_singular_values(params - sign * step * grad) for sign in (1, -1)]
        along = np.array([(left[:, k].conj() @ target @ right[:, k]).real for k in range(3)])
        assert_allclose((ends[0] - ends[1]) / (2 * step), depth * sizes ** (2 * depth - 2) * (along - sizes**depth), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("complex", [False, True])
def test_one_step_at_the_border_of_its_conditions(complex):
    """Theorem 8 with the second order eta^2 max |grad|^2 for the largest and none for the least, at and below its step size."""
    rng = np.random.default_rng(8)
    for _ in range(600):
        depth, d, a = int(rng.integers(2, 5)), int(rng.integers(1, 4)), float(rng.choice([0.0, 0.3, 3.0, 30.0]))
        params = op.init.small_gaussian(depth, d, float(rng.choice([0.3, 1.0])), rng, complex)
        if rng.random() < 0.5:
            params = op.init.balanced_gaussian(depth, d, 0.7, rng, complex) + 0.1 * params
        target = float(rng.choice([0.1, 2.0])) * op.init.small_gaussian(2, d, 1.0, rng, complex)[0]
        obj, plain = (op.MatrixFactorization(target, depth=depth, balance=one) for one in (a, 0.0))
        grad, g = obj.grad(params), np.linalg.norm(plain.grad(params), ord=2, axis=(1, 2)).max()
        low, high = factors.factor_extremes(params)
        for condition in (4 * a * high**2, a * (4 * high**2 + high**4 / (2 * low**2)) + g / low):
            eta = float(rng.uniform(0.3, 1.0)) / condition if condition > 0 else 0.1
            after = factors.factor_extremes(params - eta * grad)
            if 4 * eta * a * high**2 <= 1:
                second = eta**2 * np.linalg.norm(grad, ord=2, axis=(1, 2)).max() ** 2
                room = 2 * eta * high * g + second - (after[1] ** 2 - high**2)
                assert room > -1e-12 * high**2
                assert second <= 4 * eta**2 * (g + a * high**3) ** 2 * (1 + 1e-12)
        assert low**2 - after[0] ** 2 <= 2 * eta * low * g + 1e-12 * high**2  # eta of the last condition
    one = op.MatrixFactorization([[2.0]], balance=0.0)  # the bound is attained by factors that all rise
    grad = one.grad(np.full((4, 1, 1), 0.5))[0, 0, 0]
    assert_allclose(factors.factor_extremes(np.full((4, 1, 1), 0.5 - 0.1 * grad))[1] ** 2 - 0.25, 0.1 * abs(grad) + 0.01 * grad**2)


def test_theorem_8_without_its_second_order_is_contradicted():
    one = {"subject": op.MatrixFactorization([[1.0]]), "params0": np.full((4, 1, 1), 0.5), "step_size": 0.1}
    g = (1 - 0.5**4) * 0.5**3
    report = check("luo2025.theorem_8", **one)
    assert_allclose(report.conclusions[0].left, 0.2 * 0.5 * g + 0.01 * g**2)
    assert_allclose(report.conclusions[0].right, 0.2 * 0.5 * g + 4 * 0.01 * (g + 0.125) ** 2)
    assert check("luo2025.theorem_8", **one, C=0.0).verdict == "violated"


def test_the_local_rate_is_eight_times_the_bound():
    for sigma in (1.0, 16.0):
        obj = op.MatrixFactorization(sigma * np.eye(2))
        start = np.stack([0.99 * sigma**0.25 * np.eye(2)] * 4)
        run = op.gradient_descent(obj, start, step_size=1e-3 / sigma**1.5, steps=2000, record=op.every(50))
        report = check("luo2025.theorem_11", run, eta_max=1.0, skew=1.0)
        assert report.verdict == "verified", report.text()
        rate = next(value for key, value in report.measured.items() if key.startswith("rate"))
        assert_allclose(rate, 8, rtol=0.02)
    assert check("luo2025.theorem_11", run, eta_max=1e-9, skew=1.0).verdict == "vacuous"
    assert check("luo2025.theorem_11", run).verdict == "undecided"


# --- frames, starts, waiting -----------------------------------------------------------------------------------------


def test_the_frame_of_the_target_leaves_the_loss():
    rng = np.random.default_rng(3)
    target = op.init.small_gaussian(2, 3, 1.0, rng, complex=True)[0]
    params = op.init.small_gaussian(4, 3, 0.5, rng, complex=True)
    moved, sizes = common.to_frame(params, target), np.linalg.svd(target, compute_uv=False)
    assert_allclose(op.MatrixFactorization(np.diag(sizes)).value(moved), op.MatrixFactorization(target).value(params), rtol=1e-12)
    several = common.to_frame(np.stack([params, 2 * params]), target)
    assert_allclose(several[0], moved)


@pytest.mark.parametrize("d", [2, 3])
def test_signs_of_balanced_starts(d):
    """det U V^T = -1 makes the Hermitian part singular in any dimension; +1 does not."""
    drawn = random_starts.Theorem3().draw(4, d, False, 300, np.random.default_rng(0))
    assert drawn.small[drawn.negative].max() < 1e-12 < drawn.small[~drawn.negative].min()
    assert 110 < drawn.negative.sum() < 190


def test_theorem_6_by_hand():
    rng = np.random.default_rng(4)
    drawn = random_starts.Theorem6().draw(4, 2, False, 20, rng)
    rng = np.random.default_rng(4)
    for place in range(20):
        params = op.init.small_gaussian(4, 2, 1.0, rng, False)
        sizes = np.array([scipy.linalg.svdvals(one) for one in params])
        assert_allclose(drawn.large[place], max(sizes.max() / math.sqrt(2), 1 / (sizes.min() * math.sqrt(2))))
        whole = params[3] @ params[2] @ params[1] @ params[0]
        polar = scipy.linalg.svdvals(whole + scipy.linalg.polar(whole, side="left")[1])[-1]
        assert_allclose(drawn.small[place], polar, atol=1e-10)
        assert drawn.negative[place] == (np.linalg.det(whole) < 0)
    report = check("luo2025.theorem_6", samples=500, delta=0.2)
    needed = dict(zip(report.measured["delta"], report.measured["C1 needed"]))
    assert_allclose(report.conclusions[0].left, needed[0.2])
    assert check("luo2025.theorem_6", samples=500, delta=0.2, C1=1.5 * needed[0.2], C2=1.0).verdict == "verified"


def test_constants_that_serve_serve():
    report = check("luo2025.theorem_3", samples=1000, complex=0)
    C1, C2 = (report.measured[f"C{k} needed"][2] for k in (1, 2))
    assert report.measured["delta"][2] == 0.1 and report.verdict == "undecided"
    share = named(check("luo2025.theorem_3", samples=1000, complex=0, C1=C1, C2=C2), "as often as promised").left
    assert 0.9 <= share < 0.95  # half of delta each
    for name in ("luo2025.theorem_1", "luo2025.theorem_2", "luo2025.theorem_3", "luo2025.theorem_6"):
        with pytest.raises(ValueError, match="draws its own"):
            check(name, op.MatrixFactorization(np.eye(2)), np.zeros((4, 2, 2)))
    with pytest.raises(ValueError, match="samples must not be above"):
        check("luo2025.theorem_3", samples=10**6)


def test_waiting_times():
    obj = op.MatrixFactorization(np.eye(1), depth=2)
    run = op.gradient_descent(obj, np.full((2, 1, 1), 0.5), step_size=0.1, steps=100, record=op.every(1))
    level = float(run.loss[30])
    assert convergence.waiting_time(run, level) == run.times[31]
    assert convergence.waiting_time(run, 0.0) == math.inf and convergence.waiting_time(run, 10.0) == 0.0


# --- wrong versions --------------------------------------------------------------------------------------------------


def test_a_skew_error_that_rises_is_seen(monkeypatch):
    run = balanced_flow.example()["subject"]
    errors = balanced_flow.Theorem4._errors
    monkeypatch.setattr(balanced_flow.Theorem4, "_errors", staticmethod(lambda setting: errors(setting)[::-1]))
    assert check("luo2025.theorem_4", run).verdict == "violated"


def test_a_hermitian_part_that_falls_or_rises_too_fast_is_seen(monkeypatch):
    run = balanced_flow.example(t_end=10.0)["subject"]
    rises = balanced_flow.rises
    monkeypatch.setattr(balanced_flow, "rises", lambda setting, state: (4 * rises(setting, state)[0], *rises(setting, state)[1:]))
    report = check("luo2025.theorem_5", run)
    assert named(report, "no faster").holds is False and report.verdict == "violated"
    values = factors.hermitian_values
    monkeypatch.setattr(factors, "hermitian_values", lambda params: 1 / (1 + values(params)))
    assert named(check("luo2025.theorem_5", run), "rises from record").holds is False


def test_a_determinant_that_turns_is_no_case_of_the_law():
    """Unbalanced real factors of negative determinant, some of which do converge."""
    obj, turned = op.MatrixFactorization(np.eye(3), balance=4.0), 0
    for seed in range(12):
        start = op.init.small_gaussian(4, 3, 0.4, seed)
        if factors.determinant_sign(start) > 0:
            continue
        run = op.gradient_descent(obj, start, step_size=0.01, steps=20_000, record=op.log_spaced(30))
        report = check("luo2025.law_determinant", run)
        assert report.verdict == "vacuous"
        turned += factors.determinant_sign(run.final) > 0
    assert turned > 0


@pytest.mark.parametrize("name", [name for name in op.theory.list() if name.startswith("luo2025") and "theorem_3" not in name
                                  and "theorem_6" not in name and name not in ("luo2025.theorem_1", "luo2025.theorem_2")])
def test_another_loss_is_named(name):
    report = check(name, op.ScoreMatching(op.Gaussian([0.0])), [[1.0], [-0.5]], step_size=0.1)
    assert report.verdict == "vacuous" and "matrix factorization" in report.reason


def test_steps_of_a_run_are_those_of_the_driver():
    obj, start = op.MatrixFactorization(np.eye(2), depth=3), op.init.small_gaussian(3, 2, 0.5, 0)
    run = op.gradient_descent(obj, start, step_size=0.05, steps=1)
    step = descent.step_at(obj, run.states[0], 0.05)
    assert_allclose([step.least_after, step.largest_after], factors.factor_extremes(run.final), rtol=1e-12)
