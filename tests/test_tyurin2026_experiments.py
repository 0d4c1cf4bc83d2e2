"""Experiments on the reverse Fisher divergence: fates, laws, assignment, total variation, data, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.integrate import dblquad
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments import two_losses
from overparam.experiments.modes import nearest, polygon
from overparam.experiments.registry import check_settings
from overparam.experiments.tyurin2026 import forward_vs_reverse, mixture_teacher
from overparam.experiments.tyurin2026.mixture_teacher import WITHOUT

BOTH, MIXTURE = "tyurin2026.forward_vs_reverse", "tyurin2026.mixture_teacher"


@pytest.fixture(scope="module")
def both():
    return op.experiments.run(BOTH, d=1, records=60)


@pytest.fixture(scope="module")
def mixture():
    return op.experiments.run(MIXTURE, n=4, steps=60, seeds=0, tol=1e-4, records=8)


def test_one_converges_forward_and_all_do_in_reverse(both):
    for start in forward_vs_reverse.STARTS:
        forward, reverse = both.run(start, "forward"), both.run(start, "reverse")
        assert_allclose(forward.trajectory.params[0], reverse.trajectory.params[0])
        assert (forward.regime.k, reverse.regime.k) == (1, 3)
        assert forward.time_home(0.1) == np.inf and 1 < reverse.time_home(0.1) < 1e3
        assert forward.farthest[-1] > 6 > 1e-2 > reverse.farthest[-1]


def test_a_tight_cluster_comes_home_linearly_and_stays_tight(both):
    reverse, forward = both.run("tight cluster", "reverse"), both.run("tight cluster", "forward")
    times = np.asarray(reverse.trajectory.times)
    early = times <= 10.0
    assert_allclose(reverse.farthest[early], 6.0 * np.exp(-2 * times[early] / 3), rtol=1e-3)  # the mean's equation, the spread aside
    assert_allclose(reverse.spread, reverse.spread[0], rtol=1e-3)  # it never grows
    assert forward.spread.max() > 1


def test_the_late_loss_follows_its_law(both):
    run = both.run("one near, others far", "reverse")
    end = run.trajectory.times[-1]
    assert_allclose(run.trajectory.loss[-1], 3**2 / (64 * end**2), rtol=0.01)  # in one direction
    for run in both.runs:
        assert_allclose(run.law[-1] if run.start != "tight cluster" or run.loss == "forward" else 0, run.trajectory.loss[-1], rtol=0.03,
                        atol=1e-25)
    assert "a = 0.6667 (2/n = 0.6667)" in both.summary()


def test_students_stay_with_their_nearest_mode(mixture):
    means = polygon(3, 12.0).means
    for run in mixture.runs:
        assert run.trajectory.status == "completed" and run.kept and sum(run.counts) == 4
        assert run.farthest[-1] < 0.2
        assert_allclose(run.total_variation[-1], run.least, atol=0.01)
        assert nearest(run.trajectory.params[0], means).tolist() == run.assigned[0].tolist()
    assert_allclose(np.linalg.norm(means - np.roll(means, 1, axis=0), axis=1), 12.0)


def test_a_mode_without_a_student_is_hardly_seen(mixture):
    run = mixture.run(WITHOUT)
    assert run.counts == (2, 2, 0) and run.trajectory.loss[-1] < 1e-3 and run.total_variation[-1] > 0.33
    student, teacher = run.trajectory.final, polygon(3, 12.0).means

    def gap(y, x):
        densities = [np.exp(-((means - (x, y)) ** 2).sum(axis=1) / 2).mean() for means in (student, teacher)]
        return abs(densities[0] - densities[1]) / (2 * np.pi) / 2

    # the missing mode by integration around it: a third of the teacher, half of which is a third of 1/2
    centre = teacher[2]
    part = dblquad(gap, centre[0] - 5, centre[0] + 5, centre[1] - 5, centre[1] + 5, epsabs=1e-5)[0]
    assert_allclose(part, 1 / 6, atol=1e-4)


def test_the_late_law_of_modes_is_that_of_their_students_alone(mixture):
    run = mixture.run(WITHOUT)
    start, t = run.trajectory.params[0], run.trajectory.times[-1]
    sizes = [np.linalg.norm(np.diff(start[run.assigned[0] == mode], axis=0)) ** 2 / 4 for mode in (0, 1)]
    left = 4 / (8 * t * np.array(sizes))  # 1/lambda(t) = 1/lambda(0) + 8 t/n for the one direction of each pair
    assert_allclose(run.law[-1], (0.5 + 0.5) * 4**2 / (64 * t**2))
    assert_allclose(run.trajectory.loss[-1], run.law[-1] * np.mean((1 + left) ** -2.0), rtol=0.02)


def test_data_pictures_summaries(both, mixture, tmp_path):
    data = both.to_xarray()
    assert data.sizes["run"] == 6 and data.converged.values.tolist() == [1, 3] * 3
    assert len(both.draw().axes) == 6 and "never" in both.summary()
    with xarray.open_dataset(both.save(tmp_path / "both.nc")) as again:
        assert json.loads(again.attrs["settings"])["M"] == 6.0
    data = mixture.to_xarray()
    assert data.sizes["run"] == 2 and (data["mode"].values[:, 0] == [run.assigned[0] for run in mixture.runs]).all()
    assert len(mixture.draw().axes) == 3 and WITHOUT in mixture.summary()
    with xarray.open_dataset(mixture.save(tmp_path / "mixture.nc")) as again:
        assert json.loads(again.attrs["settings"])["seeds"] == [0]
    with pytest.raises(ValueError, match="there is no run"):
        both.run("nowhere", "forward")
    with pytest.raises(ValueError, match="there is no run"):
        mixture.run("nowhere")


@pytest.mark.parametrize(("name", "change", "message"), [
    (BOTH, {"n": 1}, "n must be"), (BOTH, {"d": 0}, "d must be"), (BOTH, {"M": 0}, "M must be"), (BOTH, {"scale": 0}, "scale"),
    (BOTH, {"t_end": 0}, "t_end"), (BOTH, {"threshold": 0}, "threshold"), (BOTH, {"home": 0}, "home"), (BOTH, {"seed": -1}, "seed"),
    (BOTH, {"tol": 2}, "tol"), (BOTH, {"rtol": 1}, "rtol"), (BOTH, {"records": 1}, "records"), (BOTH, {"progress": 3}, "progress"),
    (MIXTURE, {"n": 1}, "n must be"), (MIXTURE, {"separation": 5}, "separation"), (MIXTURE, {"radius": 6}, "radius must be at least"),
    (MIXTURE, {"steps": -1}, "steps"), (MIXTURE, {"step_size": 0}, "step_size"), (MIXTURE, {"seeds": -1}, "seeds must be"),
    (MIXTURE, {"seeds": (1, 1)}, "name one twice"), (MIXTURE, {"tol": 2}, "tol"), (MIXTURE, {"records": 1}, "records"),
])
def test_bad_settings(name, change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(name, change)


@pytest.mark.parametrize("finished", [0, 1])
@pytest.mark.parametrize(("module", "driver", "name", "settings"), [
    (two_losses, "gradient_flow", BOTH, {"n": 2, "d": 1, "t_end": 10.0, "records": 10}),
    (mixture_teacher, "gradient_descent", MIXTURE, {"n": 2, "steps": 2, "seeds": 0, "tol": 1e-3, "records": 2}),
])
def test_interrupted(monkeypatch, module, driver, name, settings, finished):
    work, calls = getattr(module, driver), []

    def impatient(*args, **options):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return work(*args, **options)

    monkeypatch.setattr(module, driver, impatient)
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(name, **settings)
        return
    result = op.experiments.run(name, **settings)
    assert result.interrupted and len(result.runs) == 1 and "interrupted in the run" in result.summary() and result.draw()
    assert result.finished().runs == result.runs


def test_command_line(tmp_path):
    for name, settings in ((BOTH, ("n=2", "d=1", "t_end=10", "records=10")), (MIXTURE, ("n=2", "steps=2", "seeds=0", "tol=1e-3"))):
        said = CliRunner().invoke(app, ["reproduce", name, "--out", str(tmp_path), *(w for one in settings for w in ("--set", one))])
        assert said.exit_code == 0, said.output
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
