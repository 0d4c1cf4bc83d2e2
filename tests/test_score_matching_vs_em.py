"""The same starts under both losses: fates, yardstick, data, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments import two_losses
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import score_matching_vs_em

NAME = "zhang2025.score_matching_vs_em"
STARTS, (SCORE, EM) = score_matching_vs_em.STARTS, score_matching_vs_em.LOSSES


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=3, records=40)


def test_one_converges_in_score_matching_and_all_do_in_gradient_em(result):
    for start in STARTS:
        score, likelihood = result.run(start, SCORE), result.run(start, EM)
        assert_allclose(score.trajectory.params[0], likelihood.trajectory.params[0])
        assert (score.regime.k, likelihood.regime.k) == (1, 3)
        assert score.time_to(1e-3) == np.inf and 1 < likelihood.time_to(1e-3) < 1e6
        # one of three at the target, the others far: the density there is a third of the teacher's
        assert_allclose(score.divergence[-1], np.log(3), rtol=1e-5)
        assert score.trajectory.loss[-1] < 1e-5


def test_the_yardstick_is_the_divergence_of_the_very_student(result):
    run = result.run("random directions", SCORE)
    for record in (0, 20, len(run.trajectory) - 1):
        expected = op.KLDivergence(op.Gaussian([0.0, 0.0])).value(run.trajectory.params[record])
        assert_allclose(run.divergence[record], expected, rtol=1e-6)
    late = result.run("random directions", EM)
    end = late.trajectory.times[-1]
    assert_allclose(late.divergence[-1], 2 * 3**2 / (16 * end**2), rtol=0.02)  # the late law, two directions


def test_the_time_is_where_the_interpolated_divergence_goes_below_for_good():
    times = np.array([0.0, 1.0, 2.0, 4.0])
    run = score_matching_vs_em.Run("", "", type("T", (), {"times": times})(), None, np.array([1.0, 0.1, 2.0, 0.5]))
    assert_allclose(run.time_to(1.0), 2 * 2**0.5)  # 2 / (t/2)^2 between the last two records
    assert run.time_to(5.0) == 0.0 and run.time_to(0.01) == np.inf
    assert two_losses.time_below(times, np.array([2.0, 0.1, 0.1, 0.0]), 1.0) == 1.0  # no logarithm of time 0: the next record
    assert two_losses.time_below(times, np.array([2.0, np.nan, 0.1, 0.0]), 1.0) == 2.0


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["run"] == 8 and data.sizes["parameter"] == 3
    assert data.converged.values.tolist() == [1, 3] * 4
    with xarray.open_dataset(result.save(tmp_path / "both.nc")) as again:
        assert json.loads(again.attrs["settings"])["M"] == 6.0
    assert len(result.draw().axes) == 8
    assert result.summary().count("never") == 4 and "1.0986" in result.summary()
    with pytest.raises(ValueError, match="there is no run"):
        result.run("nowhere", EM)


@pytest.mark.parametrize(("change", "message"), [
    ({"n": 1}, "n must be"), ({"d": 0}, "d must be"), ({"M": 0}, "M must be"), ({"scale": 0}, "scale"), ({"t_end": 0}, "t_end"),
    ({"threshold": 0}, "threshold"), ({"seed": -1}, "seed"), ({"tol": 2}, "tol"), ({"rtol": 1}, "rtol"), ({"records": 1}, "records"),
    ({"progress": 3}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    flow, calls = two_losses.gradient_flow, []

    def impatient(*args, **options):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return flow(*args, **options)

    monkeypatch.setattr(two_losses, "gradient_flow", impatient)
    settings = {"n": 2, "d": 1, "t_end": 10.0, "records": 10}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.runs) == 1 and "interrupted in the run" in result.summary() and result.draw()
    assert result.to_xarray().attrs["interrupted"] == result.reached


def test_command_line(tmp_path):
    arguments = [word for setting in ("n=2", "d=1", "t_end=100", "records=20") for word in ("--set", setting)]
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *arguments])
    assert said.exit_code == 0, said.output
    assert (tmp_path / f"{NAME}.png").stat().st_size > 5000
