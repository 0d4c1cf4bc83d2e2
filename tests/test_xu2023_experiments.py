"""One ReLU neuron learned by n: slowdown and phases, settings, Ctrl-C, files, command line."""

import json

import numpy as np
import pytest
import xarray
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.registry import check_settings
from overparam.experiments.xu2023 import slowdown as module

SLOWDOWN, PHASES = "xu2023.slowdown", "xu2023.phases"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(SLOWDOWN, n=(1, 2, 3), d=(3, 5), starts=3, t_end=1e5)


@pytest.fixture(scope="module")
def phases():
    return op.experiments.run(PHASES, t_end=1e4, records=80)


def test_one_neuron_is_exponential_and_several_are_cubic(result):
    assert [(run.n, run.d, run.seed) for run in result.runs[:4]] == [(1, 3, 0), (1, 3, 1), (1, 3, 2), (1, 5, 0)]
    assert not any(run.message for run in result.runs)
    for run in result.runs:
        if run.n == 1:
            assert run.loss[-1] < 1e-16 and np.isnan(run.exponent)
            inside = (run.loss < 1e-4) & (run.loss > 1e-12)
            rates = np.diff(np.log(run.loss[inside])) / np.diff(run.times[inside])
            np.testing.assert_allclose(rates, -1, atol=0.02)
    # in three dimensions three neurons settle more slowly
    assert all(abs(run.exponent + 3) < 0.02 for run in result.of(2, 3) + result.of(2, 5) + result.of(3, 5))
    for run in result.of(2, 5):  # (8 pi^2/3) (l1 l2)^2, the shares from the ratio of the lengths
        share = run.ratio / (1 + run.ratio) ** 2
        assert run.loss[-1] * run.times[-1] ** 3 == pytest.approx(8 * np.pi**2 / 3 * share**2, rel=5e-3)


def test_quantiles_are_those_of_the_runs(result):
    times, (low, middle, high) = result.quantiles(3, 5)
    losses = np.array([run.loss for run in result.of(3, 5)])
    np.testing.assert_allclose(middle, np.median(losses, axis=0))
    assert (low <= middle).all() and (middle <= high).all() and times[-1] == 1e5


def test_data_picture_and_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["run"] == 18 and list(data.n.values[:6]) == [1] * 6
    with xarray.open_dataset(result.save(tmp_path / "slow.nc")) as again:
        assert json.loads(again.attrs["settings"])["n"] == [1, 2, 3]
    assert len(result.draw().axes) == 3 and result.draw(tmp_path / "slow.png").stat().st_size > 10_000
    text = result.summary()
    assert "exponential" in text and f"{np.pi**2 / 6:.4f}" in text and text.count("\n  3 ") + text.count("\n  2 ") == 4


def test_phases_are_those_of_the_paper(phases):
    half, local = phases.borders
    assert 0 < half < 2 and 0 < local < 2
    first, last = phases.neurons[0], phases.neurons[-1]
    assert first.angles.max() > 1 and last.angles.max() < 1e-2
    np.testing.assert_allclose(last.lengths, np.linalg.norm(phases.trajectory.final, axis=1), rtol=1e-12)
    assert last.lengths.sum() == pytest.approx(1.0, abs=1e-3)
    data = phases.to_xarray()
    assert data.angle.shape == (len(phases.trajectory), 6) and data.attrs["half_grown"] == half
    assert len(phases.draw().axes) == 3 and "local phase" in phases.summary()
    report = op.theory.check("xu2023.phases", phases.trajectory, C_sigma=0.1, C_d=2.0)
    assert report.verdict == "verified", report.text()


def test_a_run_that_ends_early_and_one_neuron_have_their_picture():
    short = op.experiments.run(PHASES, n=1, d=2, t_end=1.0, scale=1e-3, records=20)
    assert "not reached" in short.summary() or short.borders[0] <= 1
    assert len(short.draw().axes) == 3
    alone = op.experiments.run(SLOWDOWN, n=1, d=2, starts=1, t_end=20.0)
    assert len(alone.draw().axes) == 3 and "exponential" in alone.summary()


def test_ctrl_c_leaves_what_was_finished(monkeypatch):
    real, done = module._run, []

    def run(*task):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(real(*task))
        return done[-1]

    monkeypatch.setattr(module, "_run", run)
    result = op.experiments.run(SLOWDOWN, n=(2, 3), d=4, starts=2, t_end=100.0, progress=False)
    assert result.interrupted and len(result.runs) == 2 and "interrupted after 2 of 4 runs" in result.summary()
    assert len(result.draw().axes) == 3 and result.finished() is result


@pytest.mark.parametrize(("name", "settings", "words"), [
    (SLOWDOWN, {"n": 0}, "n must be a whole number not below 1"),
    (SLOWDOWN, {"d": (3, 3)}, "d must not name one twice"),
    (SLOWDOWN, {"t_end": 1.0}, "t_end must be"),
    (SLOWDOWN, {"scale": 0.0}, "scale must be"),
    (SLOWDOWN, {"n_jobs": 0}, "n_jobs must be"),
    (PHASES, {"d": 1}, "d must be"),
    (PHASES, {"records": 3}, "records must be"),
])
def test_bad_settings_are_named(name, settings, words):
    with pytest.raises(ValueError, match=words):
        check_settings(name, settings)


def test_command_line_reproduces(tmp_path):
    found = CliRunner().invoke(app, ["reproduce", PHASES, "--set", "n=2", "--set", "t_end=100", "--set", "records=20", "--out",
                                     str(tmp_path)])
    assert found.exit_code == 0, found.output
    assert {path.suffix for path in tmp_path.iterdir()} >= {".png", ".nc"}
