"""Two components in few and in many dimensions: integrals on a line, batches in law, data, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.special import expit
from typer.testing import CliRunner

import overparam as op
from overparam._softmax import responsibilities
from overparam.cli import app
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2026 import separation
from overparam.experiments.zhang2026.batches import Students
from overparam.experiments.zhang2026.separation_runs import WEIGHTS, by_batches, collapse_constant, pair, population

NAME = "zhang2026.separation"
SMALL = {"d": (10, 500), "n": (2, 4), "steps": 60, "batch_size": 32, "far_d": 10_000, "far_n": 2, "far_steps": 100, "far_batch_size": 64,
         "tol": 1e-4, "points": 128, "records": 8}
SOBOL = op.Sobol(128, rng=0)


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, **SMALL)


def two_students(d, apart, steps, step_size, seed):
    """Hybrid EM of two students by integrals on the line along which their responsibilities vary: no nodes in the span."""
    teacher = pair(d, apart)
    means, weights = op.init.from_teacher(teacher, 2, rng=seed), np.array([0.5, 0.5])
    z = np.linspace(-8.0, 8.0, 40_001)
    density = np.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)
    for _ in range(steps):
        u = means[0] - means[1]
        length, middle = np.linalg.norm(u), (means[0] + means[1]) / 2
        share, moment = np.zeros(2), np.zeros((2, d))
        for true, part in zip(teacher.means, WEIGHTS, strict=True):
            with np.errstate(divide="ignore"):
                logits = u @ (true - middle) + np.log(weights[0]) - np.log(weights[1]) + length * z
            for i, w in enumerate((expit(logits), expit(-logits))):
                share[i] += part * (density @ w)
                moment[i] += part * ((density @ w) * true + (density @ (w * z)) * u / length)
        means = means + step_size * (moment - share[:, None] * means)
        weights = share / share.sum()
    return weights, means


@pytest.mark.parametrize(("exponent", "factor", "active"), [(0.45, 1.0, 2), (0.5, 0.45, 1)])
def test_certified_runs_agree_with_integrals_on_a_line(exponent, factor, active):
    d = 10_000
    apart = factor * d**exponent
    weights, means = two_students(d, apart, 80, 0.05, 0)
    run = population(d, apart, 2, op.Auto(tol=1e-10), SOBOL, 0.05, 80, 0, op.every(80), False)
    assert run.status == "completed" and run.exact and run.active == active == int((weights >= 0.01).sum())
    # 80 steps at 1e-10, near 0.55 sqrt(d) amplified some thousandfold while the boundary crosses the lighter component
    assert_allclose(run.weights[-1], weights, atol=1e-6)
    assert_allclose(run.along[-1], means[:, 0], atol=1e-6 * apart)
    assert_allclose(run.across[-1], np.linalg.norm(means[:, 1:], axis=1), atol=1e-6 * apart)
    sampled = population(d, apart, 2, op.Sobol(2048, rng=0), SOBOL, 0.05, 80, 0, op.every(80), False)
    assert_allclose(sampled.weights[-1], weights, atol=0.01)


def test_a_tolerance_out_of_reach_is_sampled_and_says_so():
    run = population(10, 6.0, 3, op.Auto(tol=1e-8, max_nodes=50), SOBOL, 0.05, 2, 0, op.every(2), False)
    assert run.status == "completed" and not run.exact and run.message.startswith("sampled, since at step 0: tol=1e-08")


def test_the_constant_is_the_largest_difference_of_two_shrinking_parts():
    best = minimize_scalar(lambda t: np.exp(-1.4 * t) - np.exp(-0.6 * t), bounds=(0.0, 10.0), method="bounded", options={"xatol": 1e-9})
    assert_allclose(collapse_constant(), -best.fun, rtol=1e-12)


@pytest.mark.parametrize(("part", "active"), [(0.85, 1), (1.15, 2)])
def test_two_students_end_as_one_below_the_constant(part, active):
    d = 10_000
    weights, _ = two_students(d, part * np.sqrt(collapse_constant() * d), 100, 0.05, 0)
    assert int((weights >= 0.01).sum()) == active


def test_a_step_on_a_batch_is_the_population_s_in_the_mean():
    record, size = op.every(1), 200_000
    batch = by_batches(3, 4.0, 2, size, 0.5, 1, 1, record)
    exact = population(3, 4.0, 2, op.Auto(tol=1e-6), SOBOL, 0.5, 1, 1, record, False)
    deviation = 5 / np.sqrt(size)  # five standard errors of what has at most the variance of a coordinate, about 4
    assert_allclose(batch.weights, exact.weights, atol=deviation)
    assert_allclose(batch.along, exact.along, atol=0.5 * 3 * deviation)
    assert_allclose(batch.across, exact.across, atol=0.5 * 3 * deviation)


@pytest.mark.parametrize("d", [9, 40])
def test_a_step_on_reduced_draws_is_the_step_on_the_draws(d):
    """Actual draws of the whole space, split as the class's are: the same Gram matrix, first coordinates and weights."""
    n, size, rng = 3, 6, np.random.default_rng(0)
    params, weights, z = 2 * rng.standard_normal((n, d)), np.array([0.2, 0.3, 0.5]), rng.standard_normal((size, d))
    w = responsibilities(z, params, weights)
    moved = params + 0.5 * (w.T @ z / size - w.mean(axis=0)[:, None] * params)
    students = Students.of(params, weights)
    axes = np.concatenate([np.eye(d)[:, :1], np.linalg.qr(np.concatenate([np.zeros((1, n)), params[:, 1:].T]))[0]], axis=1)
    signs = np.sign(np.sum((params @ axes)[:, 1:] * students.means[:, 1:], axis=0))  # a QR factor's rows have either sign
    axes[:, 1:] *= signs
    assert_allclose(params @ axes, students.means, atol=1e-12)
    beyond = z - z @ axes @ axes.T
    found = students.updated(z @ axes, np.linalg.qr(beyond.T, mode="r").T if d < 12 else beyond, 0.5)
    assert found.means.shape == (n, n + 1)
    assert_allclose(found.means @ found.means.T, moved @ moved.T, atol=1e-11)
    assert_allclose(found.means[:, 0], moved[:, 0], atol=1e-13)
    assert_allclose(found.weights, w.mean(axis=0), atol=1e-13)


def test_batches_in_law_are_batches_in_the_whole_space():
    """Means (of squares, too) over 1000 runs of three steps on four draws in d = 40: within five standard errors."""
    d, n, size, runs, rng = 40, 3, 4, 1000, np.random.default_rng(1)
    teacher = pair(d, 6.0)
    params, found = op.init.from_teacher(teacher, n, rng=1), ([], [])
    for _ in range(runs):
        means, weights, students = params, np.full(n, 1 / n), Students.of(params, np.full(n, 1 / n))
        for _ in range(3):
            x = np.asarray(teacher.sample(size, rng))
            w = responsibilities(x, means, weights)
            weights = w.mean(axis=0)
            means = means + 0.5 * (w.T @ x / size - weights[:, None] * means)
            students = students.stepped(6.0, WEIGHTS[0], 0.5, size, rng)
        for seen, one, share in zip(found, (means, students.means), (weights, students.weights), strict=True):
            seen.append(np.concatenate([(one @ one.T)[np.triu_indices(n)], one[:, 0], share]))
    whole, law = np.concatenate([found, np.square(found)], axis=2)
    error = np.sqrt((whole.var(axis=0) + law.var(axis=0)) / runs)
    assert (np.abs(whole.mean(axis=0) - law.mean(axis=0)) < 5 * error).all()


def test_high_dimension_leaves_one_and_low_keeps_both(result):
    runs = result.of("population")
    low, sampled_low, high, sampled_high, near, far = runs
    assert [run.exact for run in runs] == [True, False, True, False, True, True]
    assert low.active == 2 and sampled_low.active >= 2 and high.active == sampled_high.active == 1
    assert (near.active, far.active) == (2, 2)  # 10^4 is too few: d^0.45 = 0.63 sqrt(d) is still above the constant 0.55
    assert_allclose(far.shares, WEIGHTS, atol=1e-4)
    for run, beside in zip(runs, result.of("minibatch"), strict=True):
        assert_allclose(run.weights.sum(axis=1), 1.0)
        assert (run.d, run.separation, run.n) == (beside.d, beside.separation, beside.n)
        assert_allclose(run.along[0], beside.along[0], atol=1e-9 * run.separation)
        assert_allclose(run.across[0], beside.across[0], rtol=1e-9)
        assert not run.exact or (run.loss_error <= 1.01 * SMALL["tol"] * (run.loss + 1)).all()
    assert [run.active for run in result.of("minibatch")[4:]] == [2, 2]


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["run"] == 12 and data.sizes["student"] == 4
    assert np.isnan(data.weight.values[-1, :, 3]).all() and data.active.values.tolist() == [run.active for run in result.runs]
    with xarray.open_dataset(result.save(tmp_path / "separation.nc")) as again:
        assert json.loads(again.attrs["settings"])["far_d"] == 10_000 and again.exact.values.sum() == 4
    axes = result.draw().axes
    assert len(axes) == 12 and sum(ax.get_visible() for ax in axes) == 4 + 4 + 2
    said = [line for line in result.summary().splitlines() if "exact" in line and "(bound)" in line]
    assert len(said) == 4 and "Sobol points" in result.summary() and "(s.e.)" in result.summary()


@pytest.mark.parametrize(("change", "message"), [
    ({"d": 1}, "d must be a whole number not below 2"), ({"d": (10, 10)}, "name one twice"), ({"n": 1}, "n must be"),
    ({"step_size": 0}, "step_size"), ({"steps": -1}, "steps"), ({"batch_size": 0}, "batch_size"), ({"far_d": 1}, "far_d"),
    ({"far_n": 1}, "far_n"),
    ({"far_steps": -1}, "steps"), ({"far_batch_size": 0}, "far_batch_size"), ({"tol": 0.5}, "tol"), ({"points": 3}, "points"),
    ({"seed": -1}, "seed"), ({"records": 1}, "records"), ({"progress": 3}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    work, calls = separation.population, []

    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return work(*args)

    monkeypatch.setattr(separation, "population", impatient)
    settings = {"d": (2, 3), "n": 2, "steps": 2, "far_d": 4, "far_n": 2, "points": 32, "batch_size": 4}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.runs) == 2 and "interrupted in the run" in result.summary() and result.draw()


def test_command_line(tmp_path):
    settings = ("d=2", "n=2", "steps=2", "far_d=4", "far_n=2", "far_steps=2", "points=32", "batch_size=4")
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *(word for one in settings for word in ("--set", one))])
    assert said.exit_code == 0, said.output
    assert (tmp_path / f"{NAME}.png").stat().st_size > 5000
