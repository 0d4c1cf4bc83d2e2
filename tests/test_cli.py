"""The command line: what it prints, what it writes, how it refuses."""

import json
import os
import re
import subprocess
import sys

import pytest
import xarray
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments import registry

NAME = "zhang2025.figure_1"
SHORT = [argument for setting in ("M=1.0", "n=2", "steps=50", "tol=1e-6", "records=20") for argument in ("--set", setting)]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result, *words):
    """One line on stderr, exit code 2, nothing else."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("overparam: error: ") and result.stderr.count("\n") == 1
    assert not result.stdout
    for word in words:
        assert word in result.stderr
    return True


def test_list_shows_each_experiment_with_its_line():
    result = call("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == op.experiments.list()
    assert registry.summary_line(NAME) in result.stdout


def test_reproduce_writes_picture_and_data_and_says_so(tmp_path):
    out = tmp_path / "made" / "by the way"
    result = call("reproduce", NAME, "--out", out, *SHORT)
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(out)) == [f"{NAME}.nc", f"{NAME}.png"]
    for path in (out / f"{NAME}.png", out / f"{NAME}.nc"):
        assert str(path) in result.stdout
    assert "all converge" in result.stdout and re.search(r"done in \d+\.\d s", result.stdout)
    with xarray.open_dataset(out / f"{NAME}.nc", engine="h5netcdf") as data:
        assert json.loads(data.attrs["settings"])["n"] == 2 and data.sizes["parameter"] == 2


def test_default_folder_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("reproduce", NAME, *SHORT).exit_code == 0
    assert sorted(os.listdir()) == [f"{NAME}.nc", f"{NAME}.png"]


def test_seed_minibatch_and_tuples_reach_the_experiment(tmp_path):
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT[2:], "--set", "M=(1, 1.5)", "--seed", 7, "--minibatch",
                  "--set", "batch_size=50")
    assert result.exit_code == 0, result.output
    with xarray.open_dataset(tmp_path / f"{NAME}.nc", engine="h5netcdf") as data:
        settings = json.loads(data.attrs["settings"])
        assert data.M.values.tolist() == [1.0, 1.5] and "minibatch_loss" in data
    assert settings["seed"] == 7 and settings["minibatch"] is True


@pytest.mark.parametrize(("arguments", "words"), [
    (["zhang2025.figure1"], ["zhang2025.figure_1"]),
    ([NAME, "--set", "stepsize=0.1"], ["stepsize", "step_size"]),
    ([NAME, "--set", "steps"], ["KEY=VALUE", "steps"]),
    ([NAME, "--set", "=5"], ["KEY=VALUE"]),
    ([NAME, "--set", "n=2", "--set", "n=3"], ["'n'", "twice"]),
    ([NAME, "--seed", "3", "--set", "seed=3"], ["'seed'", "twice"]),
    ([NAME, "--set", "M=six"], ["M", "must"]),
    ([NAME, "--set", "n=0"], ["n must", "0"]),
    ([NAME, "--set", "step_size=-0.1"], ["step_size", "-0.1"]),
    ([NAME, "--seed", "-1"], ["seed", "-1"]),
    ([NAME, "--set", "M=__import__('os')"], ["M"]),
])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    assert refused(call("reproduce", *arguments, "--out", tmp_path), *words)
    assert not os.listdir(tmp_path)


def test_folder_is_checked_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_EXPERIMENTS", {**registry._EXPERIMENTS, NAME: lambda seed=0: pytest.fail("work was done")})
    (tmp_path / "file").write_text("")
    assert refused(call("reproduce", NAME, "--out", tmp_path / "file"), "--out", "file")
    assert refused(call("reproduce", NAME, "--out", tmp_path / "file" / "below"), "--out")
    (tmp_path / f"{NAME}.nc").mkdir()
    assert refused(call("reproduce", NAME, "--out", tmp_path), "is a folder")
    if os.path.isdir("/proc/self"):  # not writable even for root
        assert refused(call("reproduce", NAME, "--out", "/proc/self"), "--out")


def test_unknown_name_makes_no_folder(tmp_path):
    assert refused(call("reproduce", "nothing", "--out", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_ctrl_c_between_runs_is_exit_code_130(tmp_path, monkeypatch):
    def stop(seed=0):
        raise KeyboardInterrupt

    monkeypatch.setitem(registry._EXPERIMENTS, NAME, stop)
    result = call("reproduce", NAME, "--out", tmp_path)
    assert result.exit_code == 130 and "interrupted" in result.stderr and not os.listdir(tmp_path)


def test_ctrl_c_during_a_run_says_what_was_reached(tmp_path, monkeypatch):
    from overparam.experiments.zhang2025 import figure_1

    whole = figure_1.gradient_descent

    def cut_short(objective, start, **settings):
        def press(record):
            if record.step > 10:
                raise KeyboardInterrupt

        return whole(objective, start, **settings, stop=press)

    monkeypatch.setattr(figure_1, "gradient_descent", cut_short)
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT)
    assert result.exit_code == 130 and "interrupted at step" in result.stdout and not os.listdir(tmp_path)


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "No space left" in result.stderr and not os.listdir(tmp_path)


def test_info_names_versions_and_the_kernel():
    from overparam._core import cpu

    result = call("info")
    assert result.exit_code == 0
    rows = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert rows["overparam"].startswith(op.__version__) and rows["kernel in use"] == cpu.info()["path"]
    assert {"numpy", "scipy", "python", "CPU features"} <= set(rows)


def test_version():
    result = call("--version")
    assert result.exit_code == 0 and result.stdout == f"overparam {op.__version__}\n"


def test_help_without_arguments():
    assert "reproduce" in call().output and "--set" in call("reproduce", "--help").output


def test_as_a_process_with_its_own_streams(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "overparam", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("reproduce", NAME, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "all converge" in done.stdout and done.stderr == ""  # no progress bar, no warnings
    assert sorted(os.listdir(tmp_path)) == [f"{NAME}.nc", f"{NAME}.png"]
    bad = run("reproduce", "zhang2025.figure_2")
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1 and "zhang2025.figure_1" in bad.stderr
