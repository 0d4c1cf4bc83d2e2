"""Two components in few and in many dimensions: against integrals on a line, one step by batches, data, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.special import expit
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2026 import separation
from overparam.experiments.zhang2026.separation_runs import WEIGHTS, by_batches, collapse_constant, pair, population

NAME = "zhang2026.separation"
SMALL = {"d": (10, 500), "n": 3, "steps": 60, "batch_size": 32, "far_d": 10_000, "far_steps": 100, "far_batch_steps": 40, "points": 128,
         "records": 8}


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


@pytest.mark.parametrize(("exponent", "factor", "active"), [(0.45, 1.0, 2), (0.5, 0.45, 1), (0.5, 10.0, 2)])
def test_runs_in_the_span_agree_with_integrals_on_a_line(exponent, factor, active):
    d = 10_000
    apart = factor * d**exponent
    weights, means = two_students(d, apart, 80, 0.05, 0)
    errors = []
    for points in (128, 2048):
        run = population(d, apart, 2, op.Sobol(points, rng=0), 0.05, 80, 0, op.every(80), False)
        assert run.status == "completed" and run.active == active == int((weights >= 0.01).sum())
        places = np.abs(run.along[-1] - means[:, 0]).max(), np.abs(run.across[-1] - np.linalg.norm(means[:, 1:], axis=1)).max()
        errors.append((np.abs(run.weights[-1] - weights).max(), max(places) / apart))
    assert max(errors[1]) < 0.01 and errors[1][1] <= errors[0][1] + 1e-4, errors


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
    exact = population(3, 4.0, 2, op.Auto(tol=1e-6), 0.5, 1, 1, record, False)
    deviation = 5 / np.sqrt(size)  # five standard errors of what has at most the variance of a coordinate, about 4
    assert_allclose(batch.weights, exact.weights, atol=deviation)
    assert_allclose(batch.along, exact.along, atol=0.5 * 3 * deviation)
    assert_allclose(batch.across, exact.across, atol=0.5 * 3 * deviation)


def test_high_dimension_leaves_one_and_low_keeps_both(result):
    low, high, near, far = result.of("population")
    assert low.active >= 2 and high.active == 1
    assert (near.active, far.active) == (2, 2)  # 10^4 is too few: d^0.45 = 0.63 sqrt(d) is still above the constant 0.55
    assert_allclose(far.shares, WEIGHTS, atol=0.01)
    for run, beside in zip(result.of("population"), result.of("minibatch"), strict=True):
        assert_allclose(run.weights.sum(axis=1), 1.0)
        assert (run.d, run.separation) == (beside.d, beside.separation)
        assert_allclose(run.along[0], beside.along[0], atol=1e-9 * run.separation)
    assert [run.active for run in result.of("minibatch")[2:]] == [2, 2]


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["run"] == 8 and data.sizes["student"] == 3
    assert np.isnan(data.weight.values[-1, :, 2]).all() and data.active.values.tolist() == [run.active for run in result.runs]
    with xarray.open_dataset(result.save(tmp_path / "separation.nc")) as again:
        assert json.loads(again.attrs["settings"])["far_d"] == 10_000
    assert len(result.draw().axes) == 8 and "active" in result.summary()


@pytest.mark.parametrize(("change", "message"), [
    ({"d": 1}, "d must be a whole number not below 2"), ({"d": (10, 10)}, "name one twice"), ({"n": 1}, "n must be"),
    ({"step_size": 0}, "step_size"), ({"steps": -1}, "steps"), ({"batch_size": 0}, "batch_size"), ({"far_d": 1}, "far_d"),
    ({"far_n": 1}, "far_n"),
    ({"far_steps": -1}, "steps"), ({"far_batch_size": 0}, "far_batch_size"), ({"far_batch_steps": -1}, "steps"), ({"points": 3}, "points"),
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
    settings = ("d=2", "n=2", "steps=2", "far_d=4", "far_steps=2", "far_batch_steps=0", "points=32", "batch_size=4")
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *(word for one in settings for word in ("--set", one))])
    assert said.exit_code == 0, said.output
    assert (tmp_path / f"{NAME}.png").stat().st_size > 5000
