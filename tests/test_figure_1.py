"""Figure 1 of Zhang et al. 2025: the two fates, the laws beside them, and what is written down."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.integrate import cumulative_simpson

import overparam as op
from overparam import experiments
from overparam.experiments.registry import check_settings, defaults, summary_line, verifiable
from overparam.regimes import classify, distances
from overparam.theory.zhang2025 import laws

NAME = "zhang2025.figure_1"
SHORT = {"M": 1.0, "n": 3, "d": 2, "scale": 0.1, "steps": 200, "tol": 1e-8, "records": 30}


@pytest.fixture(scope="module")
def figure():
    return op.experiments.run(NAME)


@pytest.fixture(scope="module")
def short():
    return op.experiments.run(NAME, **SHORT, minibatch=True, batch_size=200, minibatch_runs=2)


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_from_4_all_converge_and_from_6_one_does(figure):
    near, far = figure.runs
    assert [run.trajectory.status for run in figure.runs] == ["completed", "completed"]
    assert near.regime.name == "all converge" and far.regime.name == "one converges"
    assert near.norms[-1].max() < 0.15
    assert_allclose(near.trajectory.loss[-1], 1e-5, rtol=0.3)  # 1.1e-5; k n^2/(64 t^2) = 0.98e-5 from any start
    final = np.sort(far.norms[-1])
    assert_allclose(final[0], 7e-3, rtol=0.1)
    assert_allclose(final[1:], 7.45, atol=0.01)  # hardly depends on the draw
    assert_allclose(far.trajectory.loss[-1], 8.6e-3, rtol=0.01)


def test_losses_carry_a_bound_within_the_tolerance(figure):
    for run in figure.runs:
        assert (run.trajectory.loss_error <= 1e-10 * run.trajectory.loss).all()


def test_trajectory_does_not_move_with_the_tolerance(figure):
    finer = op.experiments.run(NAME, tol=1e-12)
    for run, other in zip(figure.runs, finer.runs, strict=True):
        assert_allclose(run.norms, other.norms, rtol=1e-8)
        assert_allclose(run.trajectory.loss, other.trajectory.loss, rtol=1e-8)


def test_late_slopes_and_laws(figure):
    near, far = figure.runs
    # -2 and -1 are approached from below; theory at t = 10^4 has -1.11, at t = 200 the curves are steeper
    assert -2.2 < near.late_slope < -2.0 and -1.3 < far.late_slope < -1.15
    assert 0.85 < near.law_ratio < 1.0  # (t - t0)^2 / t^2 with t0 of about 10 of 200
    assert 0.9 < far.law_ratio < 1.0  # 6 % at r = 7.45: next order in 1/r^2
    m = len(far.regime.diverged)
    leading = laws.far_parameters(200.0, far.norms[-1, list(far.regime.diverged)], leading=True)
    assert_allclose(leading, 16 * m / (200 * 7.45**2), rtol=1e-3)


def test_a_given_M_starts_alike_in_any_company(figure):
    alone = op.experiments.run(NAME, M=6, steps=10)
    assert alone.settings["M"] == (6.0,)
    assert_allclose(alone.runs[0].trajectory.params[0], figure.runs[1].trajectory.params[0], rtol=0)
    other = op.experiments.run(NAME, M=6, steps=10, seed=1)
    assert np.abs(other.runs[0].trajectory.params[0] - alone.runs[0].trajectory.params[0]).max() > 1e-8


def test_starts_are_the_papers(figure):
    for run in figure.runs:
        deviations = (run.trajectory.params[0] - [run.M, 0, 0]) / 1e-7
        assert deviations.shape == (5, 3) and 0.5 < deviations.std() < 1.5


# --- the laws themselves ----------------------------------------------------------------------------------------------


def test_all_converge_law_is_reached_with_the_right_number_of_directions():
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-6))
    start = np.array([[0.6, 0.1], [-0.3, 0.5], [-0.3, -0.6]])
    run = op.gradient_descent(objective, start, step_size=0.1, steps=20_000, record=op.log_spaced(20))
    k = laws.shrinking_directions(run.final, run.times[-1])
    assert k == 2
    assert_allclose(laws.all_converge(run.times[-1], 3, k) / run.loss[-1], 1.0, atol=0.02)  # 1/t corrections at t = 2000


@pytest.mark.parametrize("n", [2, 5])
def test_far_law_is_exact_to_first_order(n):
    # one near, n - 1 far at the same place: the flow dr/dt = -L'(r)/m, integrated on the exact loss from r = 4 to r
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9))
    m = n - 1
    radii = np.linspace(4.0, 16.0, 601)
    found = [objective.value_and_grad(np.array([0.0] + [r] * m)[:, None]) for r in radii]
    loss, speed = np.array([value for value, _ in found]), np.array([-grad[1, 0] for _, grad in found])
    times = cumulative_simpson(1 / speed, x=radii, initial=0)
    rest = []
    for r in (10.0, 13.0, 16.0):
        k = np.argmin(abs(radii - r))
        ratio = laws.far_parameters(times[k], np.full(m, r)) / loss[k]
        leading = laws.far_parameters(times[k], np.full(m, r), leading=True) / loss[k]
        rest.append(abs(ratio - 1) * r**4)
        assert leading < 1 - 14 / r**2 / (1 + 16 / r**2)  # the leading order alone is off by the whole first correction
    assert rest[0] > rest[1] > rest[2] > rest[0] / 2  # what is left falls like r^-4 and not slower


def test_far_law_says_nothing_near_the_target():
    assert np.isnan(laws.far_parameters(1.0, [4.0, 9.0]))


def test_no_law_while_undecided():
    result = op.experiments.run(NAME, M=4.0, steps=100)  # the cluster is still on its way
    assert result.runs[0].regime.name == "undecided" and result.runs[0].law is None and np.isnan(result.runs[0].law_ratio)
    assert "undecided" in result.summary()
    result.draw().canvas.draw()


# --- what is written --------------------------------------------------------------------------------------------------


def test_picture_is_written_whole_and_shows_every_run(figure, tmp_path):
    path = figure.draw(tmp_path / "figure.png")
    assert path == tmp_path / "figure.png" and path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert os.listdir(tmp_path) == ["figure.png"]
    drawing = figure.draw()
    assert len(drawing.axes) == 6
    drawn = drawing.axes[3].lines[0].get_ydata()  # second row, second column: the loss of M = 6
    assert_allclose(drawn[1:], figure.runs[1].trajectory.loss[1:])
    labels = [text.get_text() for text in drawing.axes[3].get_legend().get_texts()]
    assert any("m=4" in label for label in labels) and any("-1" in label for label in labels)


def test_formats_follow_the_ending(short, tmp_path):
    assert short.draw(tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"\.docx"):
        short.draw(tmp_path / "figure.docx")


@pytest.mark.parametrize("method", ["draw", "save"])
def test_files_that_cannot_be_written(short, tmp_path, method):
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "missing" / "x.png", tmp_path / "folder.png"):
        with pytest.raises(ValueError, match="path"):
            getattr(short, method)(path)
    assert os.listdir(tmp_path) == ["folder.png"]


def test_a_failed_write_leaves_the_old_file(short, tmp_path, monkeypatch):
    path = tmp_path / "figure.nc"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ValueError, match="No space left"):
        short.save(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["figure.nc"]


def test_data_set_holds_the_runs(short, tmp_path):
    with xarray.open_dataset(short.save(tmp_path / "figure.nc"), engine="h5netcdf") as data:
        data.load()
    run = short.runs[0]
    assert data.sizes["M"] == 1 and data.sizes["parameter"] == 3 and data.sizes["coordinate"] == 2 and data.sizes["repetition"] == 2
    assert_allclose(data.step, run.trajectory.steps)
    assert_allclose(data.time, run.trajectory.times)
    assert_allclose(data.loss.sel(M=1.0), run.trajectory.loss, rtol=0)
    assert_allclose(data.params.sel(M=1.0), np.asarray(run.trajectory.params), rtol=0)
    assert_allclose(data.norm.sel(M=1.0), distances(run.trajectory), rtol=0)
    assert_allclose(data.minibatch_loss[0, 1], run.minibatch[1].loss, rtol=0)
    assert json.loads(data.attrs["settings"])["batch_size"] == 200 and "2511.22069" in data.attrs["paper"]
    assert "overparam" in json.loads(data.attrs["versions"])
    assert str(data.regime.values[0]) == run.regime.name


def test_a_run_that_ends_early_is_padded_with_nan():
    result = op.experiments.run(NAME, M=(1.0, 6.0), step_size=6.0, steps=200, tol=1e-6)
    ends = [int(run.trajectory.steps[-1]) for run in result.runs]
    assert result.runs[1].trajectory.status in ("unstable", "too_hard") and ends[1] < 200
    data = result.to_xarray()
    assert np.isfinite(data.loss.values[1, data.step.values == ends[1]]).all()
    assert np.isnan(data.loss.values[1, data.step.values > ends[1]]).all()
    assert all(np.isfinite(run.trajectory.loss).all() for run in result.runs)
    assert result.runs[1].trajectory.status in result.summary()
    result.draw().canvas.draw()


def test_minibatch_runs_differ_from_each_other_and_repeat(short):
    first, second = short.runs[0].minibatch
    assert first.driver == "sgd" and np.abs(first.final - second.final).max() > 1e-6
    again = op.experiments.run(NAME, **SHORT, minibatch=True, batch_size=200, minibatch_runs=1)
    assert_allclose(again.runs[0].minibatch[0].final, first.final, rtol=1e-12)


def test_summary_fits_a_screen_and_says_what_is_needed(figure):
    text = figure.summary()
    lines = text.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 110
    for needed in ("M = 4", "M = 6", "all converge", "one converges", "1, 4", "5, 0", "late slope", "wall time", "1e-10"):
        assert needed in text


def test_verdicts_are_those_of_the_public_function(figure):
    assert [run.regime for run in figure.runs] == [classify(run.trajectory) for run in figure.runs]


@pytest.mark.parametrize("settings", [{"n": 1}, {"d": 1}, {"steps": 0}, {"steps": 1}, {"records": 1}, {"scale": 0.0}, {"M": 0.0}, {"n": 9}])
def test_edges_of_the_settings_can_be_summarised_drawn_and_saved(settings, tmp_path):
    result = op.experiments.run(NAME, **{**SHORT, "steps": 20, **settings})
    assert result.summary()
    result.draw(tmp_path / "figure.png")
    result.save(tmp_path / "figure.nc")


def test_trajectories_say_where_they_come_from(short, tmp_path):
    run = short.runs[0]
    for traj in (run.trajectory, *run.minibatch):
        assert "2511.22069" in traj.attributes["paper"] and traj.attributes["seed"] == 0 and traj.attributes["experiment"] == NAME
        assert {"versions", "rule", "tolerance"} <= set(traj.attributes)
    assert [traj.attributes["repetition"] for traj in run.minibatch] == [0, 1]
    run.trajectory.save(tmp_path / "run.nc")
    assert "2511.22069" in op.load(tmp_path / "run.nc").attributes["paper"]


def test_a_figure_is_no_trajectory_and_the_error_says_what_opens_it(short, tmp_path):
    with pytest.raises(ValueError, match=r"not a trajectory .* open it with xarray\.open_dataset"):
        op.load(short.save(tmp_path / "figure.nc"))


# --- the check of a run, and what Ctrl-C leaves -----------------------------------------------------------------------


def test_verify_repeats_each_exact_run():
    result = op.experiments.run(NAME, **{**SHORT, "M": (1.0, 1.5)})
    found = result.verify()
    assert list(found) == ["M = 1", "M = 1.5"]
    for run, check in zip(result.runs, found.values(), strict=True):
        assert check.tol == 1e-8 and check.verified_tol == pytest.approx(1e-10) and check.status == "completed"
        assert check.params_difference.max() < 1e-7 and check.steps.tolist() == run.trajectory.steps.tolist()


def test_other_experiments_have_nothing_to_verify_unless_they_say_so(short):
    from overparam.experiments import ExperimentResult

    with pytest.raises(ValueError, match=r"'zhang2025.figure_1' has no run to verify"):
        ExperimentResult.verify(short)
    assert verifiable(NAME)


def test_finished_leaves_out_what_was_cut_short(short):
    assert [run.M for run in short.finished().runs] == [1.0] and len(short.finished().runs[0].minibatch) == 2
    run = short.runs[0]
    cut = replace(run.trajectory, status="interrupted")
    assert replace(short, runs=(replace(run, trajectory=cut),), stopped="here").finished() is None
    noisy = (run.minibatch[0], replace(run.minibatch[1], status="interrupted"))
    half = replace(short, runs=(replace(run, minibatch=noisy),), stopped="in minibatch run 2")
    assert half.interrupted and half.reached == "in minibatch run 2" and "in minibatch run 2" in half.summary()
    assert half.finished().runs[0].minibatch == noisy[:1]
    assert half.finished().to_xarray().attrs["interrupted"] == "in minibatch run 2" and "interrupted" not in short.to_xarray().attrs


# --- settings and registry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "value"), [
    ("M", "six"), ("M", ()), ("M", (4.0, 4.0)), ("M", np.inf), ("M", [[4.0], [6.0]]), ("n", 0), ("n", 2.5), ("d", 0), ("d", True),
    ("scale", -1.0), ("scale", "tiny"), ("step_size", 0.0), ("step_size", np.nan), ("steps", -1), ("steps", "many"),
    ("seed", -1), ("seed", 1.5),
    ("tol", 0.0), ("records", 0), ("minibatch", "yes"), ("minibatch", 1), ("batch_size", 0), ("minibatch_runs", 0), ("progress", "loud"),
])
def test_bad_settings_are_named(key, value):
    with pytest.raises(ValueError, match=key):
        op.experiments.run(NAME, **{key: value})


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean 'zhang2025.figure_1'"):
        op.experiments.run("zhang2025.fig1")
    with pytest.raises(ValueError, match=r"Did you mean 'step_size'"):
        op.experiments.run(NAME, stepsize=0.1)
    with pytest.raises(ValueError, match="Known: M, batch_size"):
        check_settings(NAME, {"q": 1})
    for given, meant in {"m": "M", "step": "steps", "batch": "batch_size", "Seed": "seed", "tolerance": "tol"}.items():
        with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
            check_settings(NAME, {given: 1})


@pytest.mark.parametrize("given", ["nope", "q", "lr", "figure", ""])
def test_names_that_are_not_near_are_not_suggested(given):
    with pytest.raises(ValueError, match=r"is not known\. Known:"):
        check_settings(NAME, {given: 1})


def test_check_settings_looks_at_values_too():
    check_settings(NAME, {"M": (4, 5.5), "n": 8})
    for bad in ({"M": "nan"}, {"n": 0}, {"tol": 5.0}, {"records": 1e12}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            check_settings(NAME, bad)


def test_registry_lists_and_describes():
    assert NAME in op.experiments.list() and op.experiments.list() == sorted(op.experiments.list())
    assert defaults(NAME)["M"] == (4.0, 6.0) and "\n" not in summary_line(NAME) and summary_line(NAME)


def test_register_refuses_what_users_could_not_use():
    with pytest.raises(ValueError, match="taken"):
        experiments.register(NAME)(lambda: None)
    with pytest.raises(ValueError, match="docstring"):
        experiments.register("test.bare")(lambda: None)

    def needs(a):
        """Needs a."""

    with pytest.raises(ValueError, match="'a' needs a default"):
        experiments.register("test.needs")(needs)
    assert "test.bare" not in op.experiments.list() and "test.needs" not in op.experiments.list()
