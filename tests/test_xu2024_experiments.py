"""Gradient EM on one Gaussian: figure, late laws, escape from the bad region, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.integrate import quad
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.registry import check_settings
from overparam.experiments.xu2024 import bad_region, figure_1
from overparam.theory.xu2024 import laws

FIGURE, REGION = "xu2024.figure_1", "xu2024.bad_region"


@pytest.fixture(scope="module")
def figure():
    return op.experiments.run(FIGURE, n=(2, 3), weights_n=3, concentration=10.0, d=2, steps=20_000, records=60)


@pytest.fixture(scope="module")
def region():
    return op.experiments.run(REGION, n=(3, 10), d=(0.5, 1, 2))


def test_loss_and_distance_follow_their_late_laws(figure):
    for run in figure.runs:
        assert run.trajectory.status == "completed"
        assert abs(run.loss_slope.exponent + 2) < 0.05 and abs(run.distance_slope.exponent + 1) < 0.05
        if run.equal:  # what the start leaves over: n / (2 t lambda_min) of each eigenvalue
            start = run.trajectory.params[0]
            sizes = np.linalg.svd(start - start.mean(axis=0), compute_uv=False)[:run.directions] ** 2 / run.n
            left = 2 * run.n / (2 * run.trajectory.times[-1] * sizes.min())
            assert_allclose(run.trajectory.loss[-1], run.loss_law[-1], rtol=2 * left + 1e-2)
            assert_allclose(run.distance[-1], run.distance_law[-1], rtol=left + 1e-2)


def test_weights_are_those_of_the_runs(figure):
    names = [(run.n, run.weights_name) for run in figure.runs]
    assert names == [(2, "equal"), (3, "equal"), (3, "10")]
    for run in figure.runs:
        assert_allclose(run.weights.sum(), 1.0)
        assert_allclose(run.trajectory.final_weights, run.weights)
        direct = (run.weights * (run.trajectory.final**2).sum(axis=1)).sum()
        assert_allclose(run.distance[-1], direct, rtol=1e-10)


def test_figure_data_and_summary(figure, tmp_path):
    data = figure.to_xarray()
    assert dict(data.sizes) == {"run": 3, "step": len(figure.runs[0].trajectory), "parameter": 3}
    assert np.isnan(data.loss_law.values[2]).all()
    with xarray.open_dataset(figure.save(tmp_path / "figure.nc")) as again:
        assert json.loads(again.attrs["settings"])["n"] == [2, 3]
    assert len(figure.draw().axes) == 3
    assert "recalled" in figure.summary() and "Dirichlet(10)" in figure.summary()


def test_escape_times_are_the_integral_of_the_inverse_speed(region):
    objective = op.KLDivergence(op.Gaussian([0.0]))
    for one in region.escapes:
        def slowness(radius, n=one.n):
            params = np.zeros((n, 1))
            params[:2, 0] = radius, -radius
            return 1 / objective.grad(params)[0, 0]

        expected = quad(slowness, 10 * one.d**0.5, 12 * one.d**0.5, epsrel=1e-7, limit=100)[0]
        # the pair moves by rtol of r in each of up to a thousand steps, and d ln t = r dr / 4: 7e-5 at r = 17
        assert one.low * (1 - 1e-4) < expected < one.high * (1 + 1e-4)
        assert one.high - one.low <= 1e-3 * one.high and one.published < 1


def test_the_exponent_is_that_of_the_start(region):
    for n in (3, 10):
        exponent, error = region.exponent(n)
        assert abs(exponent - 18) < 0.3 and error < 0.1


def test_the_first_coordinate_is_all_that_counts():
    """From the start itself, in two dimensions: it is inside before the measured interval and outside after it."""
    one = op.experiments.run(REGION, n=3, d=2).escapes[0]
    objective = op.KLDivergence(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-8))
    flow = op.gradient_flow(objective, op.init.bad_region(3, 2), t_end=0.99 * one.low, rtol=1e-7, record=op.log_spaced(20))
    edge = 10 * 2**0.5
    assert np.linalg.norm(flow.final, axis=1).max() > edge
    assert_allclose(flow.final[:, 1], 0.0, atol=1e-12)


def test_laws_agree_with_their_integrals():
    expected = quad(lambda r: 1 / laws.escape_speed(r, 5), 7.0, 9.0, epsrel=1e-10)[0]
    assert_allclose(laws.escape_time(9.0, 7.0, 5), expected, rtol=1e-9)
    objective, ratios = op.KLDivergence(op.Gaussian([0.0])), []
    for radius in (10.0, 20.0, 30.0):
        ratios.append(objective.grad([[radius], [-radius], [0.0], [0.0]])[0, 0] / laws.escape_speed(radius, 4))
    assert np.all(np.diff(np.abs(np.array(ratios) - 1)) < 0) and abs(ratios[-1] - 1) < 0.01


def test_region_data_and_summary(region, tmp_path):
    data = region.to_xarray()
    assert dict(data.sizes) == {"n": 2, "d": 3} and float(data.time_low.sel(n=3, d=1)) == region.of(3)[1].low
    with xarray.open_dataset(region.save(tmp_path / "region.nc")) as again:
        assert json.loads(again.attrs["settings"])["d"] == [0.5, 1.0, 2.0]
    assert len(region.draw().axes) == 2 and "Recalled" in region.summary() and "a = " in region.summary()


@pytest.mark.parametrize(("name", "change", "message"), [
    (FIGURE, {"n": 1}, "n must be a whole number not below 2"), (FIGURE, {"n": (2, 2)}, "not name one twice"),
    (FIGURE, {"weights_n": 1}, "weights_n"), (FIGURE, {"concentration": 0.0}, "concentration must be"), (FIGURE, {"d": 0}, "d must be"),
    (FIGURE, {"scale": 0}, "scale"), (FIGURE, {"step_size": 0}, "step_size"), (FIGURE, {"steps": -1}, "steps"),
    (FIGURE, {"tol": 2}, "tol"), (FIGURE, {"records": 1}, "records"), (FIGURE, {"progress": 3}, "progress"),
    (REGION, {"n": 2}, "n must be a whole number not below 3"), (REGION, {"d": 4}, "d must be a number from 0.1 to 3"),
    (REGION, {"tol": 2}, "tol"), (REGION, {"rtol": 1}, "rtol"), (REGION, {"n_jobs": 0}, "n_jobs"), (REGION, {"progress": 3}, "progress"),
])
def test_bad_settings(name, change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(name, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    flow, run, calls = bad_region._escape, figure_1.em, []

    def impatient(work):
        def wrapped(*args, **options):
            calls.append(1)
            if len(calls) > finished:
                raise KeyboardInterrupt
            return work(*args, **options)
        return wrapped

    monkeypatch.setattr(bad_region, "_escape", impatient(flow))
    monkeypatch.setattr(figure_1, "em", impatient(run))
    small = {"n": (2, 3), "weights_n": 2, "d": 1, "steps": 50, "records": 10}
    for name, settings in ((REGION, {"n": 3, "d": (0.3, 0.5)}), (FIGURE, small)):
        calls.clear()
        if not finished:
            with pytest.raises(KeyboardInterrupt):
                op.experiments.run(name, **settings)
            continue
        result = op.experiments.run(name, **settings)
        assert result.interrupted and result.finished() is not None and "interrupted" in result.summary() and result.draw()


def test_command_line(tmp_path):
    arguments = [word for setting in ("n=2", "weights_n=2", "concentration=()", "steps=100") for word in ("--set", setting)]
    said = CliRunner().invoke(app, ["reproduce", FIGURE, "--out", str(tmp_path), *arguments])
    assert said.exit_code == 0, said.output
    said = CliRunner().invoke(app, ["reproduce", REGION, "--out", str(tmp_path), "--set", "n=3", "--set", "d=0.5"])
    assert said.exit_code == 0, said.output
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in (FIGURE, REGION))
