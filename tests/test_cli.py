"""The command line: what it prints, what it writes, how it refuses."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    ([NAME, "--set", "M=six"], ["M must be a number or a tuple of numbers", "'six'"]),
    ([NAME, "--set", "M=nan"], ["M must be a number or a tuple of numbers", "'nan'"]),
    ([NAME, "--set", "M=(4,float('nan'))"], ["M must be a number or a tuple of numbers", "(4,float('nan'))"]),
    ([NAME, "--set", "M=True"], ["M must be a number or a tuple of numbers", "True"]),
    ([NAME, "--set", "scale=tiny"], ["scale must be a finite number not below 0", "'tiny'"]),
    ([NAME, "--set", "tol=nan"], ["tol must be a finite number above 0", "'nan'"]),
    ([NAME, "--set", "step_size=0"], ["step_size must be a finite number above 0", "got 0"]),
    ([NAME, "--set", "n=1e30"], ["n must be a whole number not below 1 and not above"]),
    ([NAME, "--set", "records=1e12"], ["records must"]),
    ([NAME, "--set", "steps=1e30"], ["steps must"]),
    ([NAME, "--set", "tol=5"], ["tol must", "5.0"]),
    ([NAME, "--set", "progress=loud"], ["progress must", "'loud'"]),
    ([NAME, "--seed", "x"], ["seed must be a whole number", "'x'"]),
    ([NAME, "--seed", "None"], ["seed must be a whole number", "None"]),
    ([NAME, "--foo"], ["no such option: --foo", "overparam reproduce --help"]),
    ([NAME, "--minbatch"], ["--minibatch"]),
    ([NAME, "again"], ["unexpected", "again"]),
    ([], ["missing argument 'NAME'"]),
    ([NAME, "--set", "n=0"], ["n must", "0"]),
    ([NAME, "--set", "step_size=-0.1"], ["step_size", "-0.1"]),
    ([NAME, "--seed", "-1"], ["seed", "-1"]),
    ([NAME, "--set", "M=__import__('os')"], ["M"]),
])
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, words):
    assert refused(call("reproduce", *arguments, "--out", tmp_path), *words)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("arguments", "words"), [
    (["frob"], ["no such command 'frob'"]), (["--foo"], ["no such option: --foo"]), (["info", "--foo"], ["--foo"]),
    (["list", "x"], ["unexpected", "x"]), (["reproduce", NAME, "--out"], ["--out", "requires an argument"]),
])
def test_errors_of_usage_are_one_line_too(arguments, words):
    assert refused(call(*arguments), *words)


@pytest.mark.parametrize("arguments", [["nope=3"], ["q=1"]])
def test_names_that_are_not_near_are_not_suggested(arguments):
    result = call("reproduce", NAME, "--set", *arguments)
    assert refused(result, "is not known", "Known: M, batch_size") and "Did you mean" not in result.stderr


def test_far_options_are_not_suggested():
    assert "--out" not in call("reproduce", NAME, "--foo").stderr


def with_experiment(monkeypatch, function):
    """Put a function in the place of Figure 1."""
    monkeypatch.setitem(registry._EXPERIMENTS, NAME, registry.Entry(function))


def test_folder_is_checked_before_any_work(tmp_path, monkeypatch):
    with_experiment(monkeypatch, lambda seed=0: pytest.fail("work was done"))
    (tmp_path / "file").write_text("")
    assert refused(call("reproduce", NAME, "--out", tmp_path / "file"), "--out", "file")
    assert refused(call("reproduce", NAME, "--out", tmp_path / "file" / "below"), "--out")
    (tmp_path / f"{NAME}.nc").mkdir()
    assert refused(call("reproduce", NAME, "--out", tmp_path), "is a folder")
    if os.path.isdir("/proc/self"):  # not writable even for root
        assert refused(call("reproduce", NAME, "--out", "/proc/self"), "--out")


@pytest.mark.parametrize("arguments", [
    ["nothing"], [NAME, "--set", "M=nan"], [NAME, "--set", "n=0"],  # found before any work
    [NAME, "--set", "n=1e8", "--set", "d=1e5"],  # found while working: not enough memory
])
def test_a_failed_command_leaves_no_folder(tmp_path, arguments):
    assert refused(call("reproduce", *arguments, "--out", tmp_path / "new" / "er"))
    assert not os.listdir(tmp_path)


def test_a_folder_that_was_there_stays(tmp_path, monkeypatch):
    def fail(seed=0):
        raise ValueError("no")

    with_experiment(monkeypatch, fail)
    (tmp_path / "old").mkdir()
    assert refused(call("reproduce", NAME, "--out", tmp_path / "old" / "new"), "no")
    assert os.listdir(tmp_path) == ["old"] and not os.listdir(tmp_path / "old")


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_a_path(tmp_path):
    result = call("reproduce", NAME, "--out", tmp_path, "--set", "M=1e12", "--set", "scale=1e-9", "--set", "steps=0")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("overparam: warning: scale 1e-09 is below the spacing of float64") and ".py" not in result.stderr
    assert all(line.startswith("overparam: ") for line in lines)


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def pressed(result, *words):
    """Exit code 130, one line on stderr."""
    assert result.exit_code == 130, result.output
    assert result.stderr.startswith("overparam: interrupted: ") and result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    return True


def press_in_run(monkeypatch, driver, number, after):
    """Ctrl-C in the given run of a driver, after so many steps; None: before its first record."""
    from overparam.experiments.zhang2025 import figure_1

    whole, calls = getattr(figure_1, driver), []

    def cut_short(objective, start, **settings):
        calls.append(start)

        def press(record):
            if record.step > after:
                raise KeyboardInterrupt

        if len(calls) != number:
            return whole(objective, start, **settings)
        if after is None:
            raise KeyboardInterrupt
        return whole(objective, start, **settings, stop=press)

    monkeypatch.setattr(figure_1, driver, cut_short)


def test_ctrl_c_before_a_run_has_begun(tmp_path, monkeypatch):
    def stop(seed=0):
        raise KeyboardInterrupt

    with_experiment(monkeypatch, stop)
    assert pressed(call("reproduce", NAME, "--out", tmp_path / "new"), "nothing was finished, nothing was written")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("after", "where"), [(10, "in the exact run of M = 1, at step "),
                                              (None, "before the first step of the exact run of M = 1")])
def test_ctrl_c_in_the_first_run_says_what_was_reached(tmp_path, monkeypatch, after, where):
    press_in_run(monkeypatch, "gradient_descent", 1, after)
    assert pressed(call("reproduce", NAME, "--out", tmp_path, *SHORT), where, "nothing was finished, nothing was written")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("after", [10, None])
def test_ctrl_c_keeps_the_runs_that_are_finished(tmp_path, monkeypatch, after):
    press_in_run(monkeypatch, "gradient_descent", 2, after)
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT[2:], "--set", "M=(1.0, 1.5)")
    file = tmp_path / f"{NAME}.partial.nc"
    assert pressed(result, "exact run of M = 1.5", str(file)) and "interrupted" in result.stdout
    assert os.listdir(tmp_path) == [file.name]
    with xarray.open_dataset(file, engine="h5netcdf") as data:
        assert data.M.values.tolist() == [1.0] and data.status.values.tolist() == ["completed"]
        assert data.step.values[-1] == 50 and "M = 1.5" in data.attrs["interrupted"]


def test_ctrl_c_in_a_minibatch_run_keeps_the_exact_ones(tmp_path, monkeypatch):
    press_in_run(monkeypatch, "sgd", 2, 10)
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT[2:], "--set", "M=(1.0, 1.5)", "--minibatch", "--set", "batch_size=20",
                  "--set", "minibatch_runs=2")
    assert pressed(result, "in minibatch run 2 of 2 of M = 1, at step ", ".partial.nc")
    with xarray.open_dataset(tmp_path / f"{NAME}.partial.nc", engine="h5netcdf") as data:
        assert data.M.values.tolist() == [1.0] and data.sizes["repetition"] == 1
        assert np.isfinite(data.loss.values[0, -1]) and np.isfinite(data.minibatch_loss.values[0, 0, -1])


@pytest.mark.parametrize("method", ["save", "draw"])
def test_ctrl_c_after_the_runs_loses_nothing(tmp_path, monkeypatch, method):
    from overparam.experiments import ExperimentResult

    whole, calls = getattr(ExperimentResult, method), []

    def press(self, path):
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return whole(self, path)

    monkeypatch.setattr(ExperimentResult, method, press)
    assert pressed(call("reproduce", NAME, "--out", tmp_path, *SHORT), f"what was finished is in {tmp_path / NAME}.nc")
    assert os.listdir(tmp_path) == [f"{NAME}.nc"]


def test_ctrl_c_while_the_command_line_is_read(monkeypatch):
    def stop(seed=0):
        raise KeyboardInterrupt

    monkeypatch.setattr("overparam.cli._show_version", stop)
    monkeypatch.setattr("typer.core.TyperGroup.invoke", lambda *_: stop())
    result = call("list")
    assert result.exit_code == 130 and "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_real_ctrl_c(tmp_path):
    arguments = [sys.executable, "-m", "overparam", "reproduce", NAME, "--minibatch", "--set", "M=1.0", "--set", "n=2", "--set", "tol=1e-6",
                 "--set", "progress=True"]
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        seen = ""
        while "minibatch run" not in seen:  # the line above the bar
            seen += process.stderr.read(1) or pytest.fail(seen)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in rest
    assert "minibatch run 1 of 1 of M = 1" in rest.splitlines()[-1] and os.listdir(tmp_path) == [f"{NAME}.partial.nc"]


# --- the check of a run -----------------------------------------------------------------------------------------------


def test_verify_reports_on_every_exact_run(tmp_path):
    result = call("reproduce", NAME, "--out", tmp_path, *SHORT[2:], "--set", "M=(1.0, 1.5)", "--verify")
    assert result.exit_code == 0, result.output
    table, first, second, files = re.split(r"\nM = 1, |\nM = 1.5, |\n  picture  ", result.stdout)
    assert "all converge" in table and str(tmp_path) in files
    for text in (first, second):
        assert text.startswith("repeated at tol 1e-08 instead of 1e-06 (completed)") and "rounding" in text
    assert sorted(os.listdir(tmp_path)) == [f"{NAME}.nc", f"{NAME}.png"]


def test_nothing_to_verify_is_said_before_any_work(tmp_path, monkeypatch):
    with_experiment(monkeypatch, lambda seed=0: pytest.fail("work was done"))
    assert refused(call("reproduce", NAME, "--verify", "--out", tmp_path / "new"), "--verify", NAME, "no run to verify")
    assert not os.listdir(tmp_path)


def test_ctrl_c_in_a_check_keeps_the_files(tmp_path, monkeypatch):
    from overparam.experiments.zhang2025 import figure_1

    def press(trajectory, progress=None):
        found = op.verify(trajectory, progress=progress)
        return dataclasses.replace(found, status="interrupted")

    monkeypatch.setattr(figure_1, "verify", press)
    assert pressed(call("reproduce", NAME, "--out", tmp_path, *SHORT, "--verify"), "in the check of M = 1", f"{NAME}.nc", f"{NAME}.png")
    assert sorted(os.listdir(tmp_path)) == [f"{NAME}.nc", f"{NAME}.png"]


# --- the rest ---------------------------------------------------------------------------------------------------------


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
    alone = call()
    assert alone.exit_code == 0 and "reproduce" in alone.stdout and "--set" in call("reproduce", "--help").output


def test_gitignore_covers_what_reproduce_leaves():
    top = Path(__file__).parents[1]
    if not (top / ".git").exists():
        pytest.skip("not a clone")
    left = [f"{NAME}.png", f"{NAME}.nc", f"{NAME}.partial.nc"]
    found = subprocess.run(["git", "check-ignore", "--no-index", *left, "docs/figure_1.png"], cwd=top, capture_output=True, text=True,
                           check=False)
    assert found.stdout.split() == left


def test_as_a_process_with_its_own_streams(tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "overparam", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("reproduce", NAME, *SHORT)
    assert done.returncode == 0, done.stderr
    assert "all converge" in done.stdout and done.stderr == ""  # no progress bar, no warnings
    assert sorted(os.listdir(tmp_path)) == [f"{NAME}.nc", f"{NAME}.png"]
    bad = run("reproduce", "zhang2025.figure_2")
    assert bad.returncode == 2 and bad.stdout == "" and bad.stderr.count("\n") == 1 and "zhang2025.figure_1" in bad.stderr
