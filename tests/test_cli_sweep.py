"""Sweeps from TOML files: the table [sweep], and overparam sweep, status, plot."""

import tomllib

import numpy as np
import pytest
import xarray
from typer.testing import CliRunner

import overparam as op
from overparam import sweep_config, sweep_plots
from overparam.cli import app
from overparam.store import Store

FILE = """
teacher = {kind = "Gaussian", mean = [0.0]}
rule = {tol = 1e-6}
start = {kind = "cluster", n = 2, center = [3.0], scale = 1e-6}
driver = {kind = "gradient_flow", t_end = 1000.0, rtol = 1e-4, record = "log_spaced(40)"}

[sweep]
seeds = 2
measure = ["k", "loss", "status", "distances"]
stop = "decided"

[sweep.vary.start]
scale = {log = [1e-6, 1e-2, 3]}
"center[0]" = [2.0, 4.0]
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pair.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    path = tmp_path_factory.mktemp("swept")
    (path / "pair.toml").write_text(FILE)
    result = call("sweep", path / "pair.toml", "--out", path / "out", "--backend", "threading", "--jobs", 1)
    assert result.exit_code == 0, result.output
    return path / "out", result.stdout


def test_the_grid_of_a_file_is_what_it_says(file):
    plan = sweep_config.load(file)
    assert list(plan.grid.axes) == ["start.scale", "start.center[0]", "seed"] and len(plan.grid) == 12
    np.testing.assert_allclose(plan.grid.axes["start.scale"], [1e-6, 1e-4, 1e-2], rtol=1e-12)
    assert plan.grid.axes["seed"] == [0, 1]


def test_a_point_is_the_run_of_the_file_with_its_values(swept):
    store = Store.open(swept[0])
    data = store.collect()
    target = op.Gaussian([0.0])
    for scale, center, seed in ((1e-4, 4.0, 1), (1e-6, 2.0, 0)):
        start = op.init.cluster(n=2, center=[center], scale=scale, rng=seed)
        run = op.gradient_flow(op.ScoreMatching(target, rule=op.Auto(tol=1e-6)), start, t_end=1000.0, rtol=1e-4,
                               record=op.log_spaced(40), stop=op.regimes.until_decided([0.0]))
        point = data.sel({"start.scale": scale, "start.center[0]": center, "seed": seed}, method="nearest")
        assert point.loss == run.loss[-1] and point.k == op.regimes.count(run) and point.status == run.status
        np.testing.assert_array_equal(point.distances, op.regimes.distances(run)[-1])


def test_sweep_writes_results_and_the_effective_configuration(swept, tmp_path):
    out, said = swept
    assert "12 points: 12 done" in said and str(out / "results.nc") in said
    with xarray.open_dataset(out / "results.nc", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"start.scale": 3, "start.center[0]": 2, "seed": 2, "distances_axis1": 2}
    effective = tomllib.loads((out / "effective.toml").read_text())
    assert effective["rule"]["max_nodes"] and effective["sweep"]["stop"] == "decided"
    again = tmp_path / "again.toml"
    again.write_text((out / "effective.toml").read_text())
    assert sweep_config.load(again).grid.axes == sweep_config.load(out / "effective.toml").grid.axes
    resumed = call("sweep", again, "--out", out, "--resume", "--jobs", 1)
    assert resumed.exit_code == 0 and "12 points: 12 done" in resumed.stdout


def test_results_that_are_there_need_resume(swept, tmp_path, file):
    out, _ = swept
    refused = call("sweep", file, "--out", out)
    assert refused.exit_code == 2 and "--resume" in refused.stderr and "12 done" in refused.stderr
    resumed = call("sweep", file, "--out", out, "--resume", "--jobs", 1)
    assert resumed.exit_code == 0 and "12 points: 12 done" in resumed.stdout
    file.write_text(FILE.replace("tol = 1e-6", "tol = 1e-5"))
    other = call("sweep", file, "--out", out, "--resume")
    assert other.exit_code == 2 and "tables.rule.tol was 1e-06 there and is 1e-05 here" in other.stderr


def test_a_dry_run_says_what_would_be_done_and_does_nothing(file, tmp_path):
    result = call("sweep", file, "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0 and "points     12" in result.stdout and "new" in result.stdout
    assert not (tmp_path / "out").exists()


def test_status_counts_and_tells_failures_and_damage(swept, tmp_path):
    found = call("status", swept[0])
    assert found.exit_code == 0 and found.stdout.startswith("12 points: 12 done") and "start.scale (3)" in found.stdout
    with pytest.warns(UserWarning, match="failed"):
        store = op.sweep(_odd, {"x": [1, 2, 3]}, store=tmp_path / "store")
    store.result_path(2).write_bytes(b"nothing")
    found = call("status", tmp_path / "store")
    assert found.exit_code == 1 and "failed at {'x': 2}: ValueError: two" in found.stdout and "damaged" in found.stderr
    assert call("status", tmp_path).exit_code == 2


def _odd(x):
    if x == 2:
        raise ValueError("two")
    return {"x2": x * x}


@pytest.mark.parametrize(("old", "new", "words"), [
    ("[sweep]", "[swept]", ["sweep"]),
    ("seeds = 2", "seed_s = 2", ["seed_s", "seeds"]),
    ("seeds = 2", "seeds = 0", ["seeds"]),
    ("seeds = 2", "", ["[start] needs an rng"]),
    ("scale = {log", "scal = {log", ["scal", "scale"]),
    ("[sweep.vary.start]", "[sweep.vary.begin]", ["begin"]),
    ("center[0]", "center[1]", ["no entry 1"]),
    ("{log = [1e-6", "{log = [0.0", ["scale"]),
    ("{log = [1e-6, 1e-2, 3]}", "{lag = [1e-6, 1e-2, 3]}", ["lag", "log"]),
    ("{log = [1e-6, 1e-2, 3]}", "[1e-6, -1.0]", ["scale"]),
    ('"loss"', '"losses"', ["losses", "loss"]),
    ('"decided"', '"soon"', ["soon", "decided"]),
    ('stop = "decided"', "samples = 3", ["'log' is not known", "log_uniform"]),
    ("seeds = 2", "seeds = 2\nseed = 1", ["seed is that of samples"]),
])
def test_mistakes_in_a_file_are_told_before_any_work(file, tmp_path, old, new, words):
    assert old in FILE
    file.write_text(FILE.replace(old, new))
    result = call("sweep", file, "--out", tmp_path / "out")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "word"), [
    (["--backend", "ray"], "loky"), (["--backend", "dask"], "--scheduler"), (["--backend", "loky", "--scheduler", "tcp://x:1"], "Dask"),
    (["--jobs", "0"], "--jobs"),
])
def test_options_that_do_not_fit_are_refused(file, tmp_path, arguments, word):
    result = call("sweep", file, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and word in result.stderr


def test_random_points_from_a_file(file, tmp_path):
    text = FILE.replace("seeds = 2", "samples = 4\nseed = 5\nseeds = [3]")
    text = text.replace("{log = [1e-6, 1e-2, 3]}", "{log_uniform = [1e-6, 1e-2]}")
    file.write_text(text.replace("[2.0, 4.0]", "{uniform = [2.0, 4.0]}"))
    plan = sweep_config.load(file)
    assert len(plan.grid) == 4 and plan.grid.axes is None and {one["seed"] for one in plan.grid.points} == {3}
    assert call("sweep", file, "--out", tmp_path / "out", "--backend", "threading").exit_code == 0
    assert call("plot", tmp_path / "out").exit_code == 0 and (tmp_path / "out" / "plot.png").stat().st_size > 5000


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_plot_draws_sweeps_and_runs(swept, tmp_path):
    out, _ = swept
    assert call("plot", out, "--out", tmp_path / "map.png").exit_code == 0 and (tmp_path / "map.png").exists()
    results = call("plot", out / "results.nc", "--variable", "loss", "--at", "seed=1", "--at", "start.center[0]=4.0",
                   "--out", tmp_path / "b.pdf")
    assert results.exit_code == 0 and (tmp_path / "b.pdf").read_bytes()[:4] == b"%PDF"
    op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[1.0], [0.5]], t_end=10.0).save(tmp_path / "run.nc")
    assert call("plot", tmp_path / "run.nc").exit_code == 0 and (tmp_path / "run.png").exists()


@pytest.mark.parametrize(("arguments", "word"), [
    (["--variable", "losss"], "loss"), (["--variable", "distances"], "array"), (["--at", "seed=9"], "no value 9"),
    (["--at", "sed=1"], "seed"), (["--out", "x.qqq"], ".qqq"),
])
def test_what_cannot_be_drawn_is_told(swept, arguments, word):
    result = call("plot", swept[0], *arguments)
    assert result.exit_code == 2 and word in result.stderr


def test_plot_of_nothing_is_told(tmp_path):
    assert "not there" in call("plot", tmp_path / "nowhere").stderr
    assert "holds no sweep" in call("plot", tmp_path).stderr
    (tmp_path / "text.nc").write_text("text")
    assert call("plot", tmp_path / "text.nc").exit_code == 2


def test_pictures_have_the_axes_and_values_of_the_results(swept):
    data = Store.open(swept[0]).collect()
    ax = sweep_plots.draw(data, "k", {"seed": 0}).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("start.scale", "start.center[0]", "log")
    drawn = ax.collections[0].get_array()
    np.testing.assert_array_equal(drawn, data.k.sel(seed=0).values.T)
    line = sweep_plots.draw(data, "loss", {"start.center[0]": 4.0}).axes[0]
    np.testing.assert_array_equal(line.lines[0].get_ydata(), data.loss.sel({"start.center[0]": 4.0}).mean("seed"))
    texts = sweep_plots.draw(data, "status", {"start.center[0]": 4.0, "seed": 0}).axes[0]
    assert [label.get_text() for label in texts.get_yticklabels()] == ["converged"]
    with pytest.raises(ValueError, match="one or two can be drawn"):
        sweep_plots.draw(data.isel({"start.scale": [0], "start.center[0]": [0], "seed": [0]}))
