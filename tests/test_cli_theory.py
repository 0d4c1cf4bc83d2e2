"""``overparam run``, ``overparam check`` and ``overparam list --theorems``: what they write, print and refuse."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from typer.testing import CliRunner

import overparam as op
from overparam import config
from overparam.cli import app
from overparam.drivers import BY_NAME
from overparam.theory import Conclusion, Constant, Example, Hypothesis, Theorem, certainty, theorem
from overparam.theory.inequality import Inequality

HOLDS, WRONG = "test.loss_falls", "test.loss_rises"
PROBLEM = """
[teacher]
kind = "Gaussian"
mean = [0.0]
[rule]
tol = 1e-8
[start]
params = [[2.0], [1.5]]
"""
DESCENT = """
[driver]
kind = "gradient_descent"
step_size = 0.1
steps = 30
"""


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


class LossFalls(Theorem):
    """Twice the loss is below C times where it began."""

    name, title, source, tag, statement = HOLDS, "Descent", "this test", "derived", "The loss falls by a factor of C."
    constants = (Constant("C", 1.0, "derived"),)

    def hypotheses(self, setting, constants):
        return [Hypothesis("the step size is small", r"\eta", setting.step_size or 0.0, "<=", 0.5, tag="derived")]

    def conclusions(self, setting, constants):
        loss = setting.run.loss
        return [Conclusion("the loss falls", "L", loss[-1], "<", constants["C"].value * loss[0], tag="derived")]

    def examples(self):
        return {"a pair": Example("verified", lambda: {"subject": short_run()}),
                "a stride": Example("vacuous", lambda: {"subject": short_run(0.6)})}


class LossRises(LossFalls):
    """Not so: the relation is turned."""

    name, title, statement = WRONG, "Ascent", "The loss rises."
    constants = ()

    def conclusions(self, setting, constants):
        return [Conclusion("the loss rises", "L", setting.run.loss[-1], ">", setting.run.loss[0], tag="derived")]

    def examples(self):
        return {"a pair": Example("verified", lambda: {"subject": short_run(), "confirm": False})}


def short_run(step_size=0.1):
    return op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6)), [[2.0], [1.5]], step_size=step_size, steps=5)


@pytest.fixture(autouse=True)
def statements(monkeypatch):
    """Two statements of the tests' own in place of all others, of which the second is wrong."""
    monkeypatch.setattr(theorem, "_THEOREMS", {HOLDS: LossFalls(), WRONG: LossRises()})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pair.toml"
    path.write_text(PROBLEM + DESCENT)
    return path


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_writes_trajectory_configuration_summary_and_picture(file, tmp_path):
    out = tmp_path / "new" / "folder"
    result = call("run", file, "--out", out)
    assert result.exit_code == 0, result.output
    assert sorted(os.listdir(out)) == ["effective.toml", "run.nc", "run.png", "run.txt"]
    assert (out / "run.png").read_bytes().startswith(b"\x89PNG")
    expected = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8)), [[2.0], [1.5]], step_size=0.1, steps=30)
    saved = op.load(out / "run.nc")
    np.testing.assert_array_equal(saved.params, expected.params)
    assert saved.settings == expected.settings
    text = (out / "run.txt").read_text()
    assert result.stdout.startswith(text) and "gradient_descent" in text and "regime      " in text
    for name in os.listdir(out):
        assert str(out / name) in result.stdout
    assert tomllib.loads((out / "effective.toml").read_text()) == {
        "teacher": {"kind": "Gaussian", "mean": [0.0], "t": 0.0}, "objective": {"kind": "ScoreMatching"},
        "rule": {"kind": "Auto", "tol": 1e-8, "max_nodes": 4_000_000, "sampling": False},
        "start": {"kind": "params", "params": [[2.0], [1.5]]},
        "driver": {"kind": "gradient_descent", "step_size": 0.1, "steps": 30, "record": "log_spaced(200)"}}


def test_what_a_run_wrote_down_runs_again(file, tmp_path):
    file.write_text(PROBLEM.replace("params = [[2.0], [1.5]]", 'kind = "gaussian"\nn = 2\nmean = [1.0]') + DESCENT)
    assert call("run", file, "--out", tmp_path / "one").exit_code == 0
    assert call("run", tmp_path / "one" / "effective.toml", "--out", tmp_path / "two").exit_code == 0
    np.testing.assert_array_equal(op.load(tmp_path / "one" / "run.nc").params, op.load(tmp_path / "two" / "run.nc").params)
    assert refused(call("run", tmp_path / "one" / "effective.toml", "--out", tmp_path / "one"), "effective.toml", "written over")


def test_a_mixture_is_drawn_without_distances(tmp_path):
    file = tmp_path / "mixture.toml"
    file.write_text(PROBLEM.replace('kind = "Gaussian"\nmean = [0.0]', 'kind = "GaussianMixture"\nmeans = [[0.0], [1.0]]') + DESCENT)
    result = call("run", file, "--out", tmp_path)
    assert result.exit_code == 0 and (tmp_path / "run.png").exists()


def test_a_run_that_ends_early_is_kept_and_is_exit_code_1(file, tmp_path):
    file.write_text(PROBLEM + DESCENT.replace("0.1", "50.0"))
    result = call("run", file, "--out", tmp_path)
    assert result.exit_code == 1 and "ended early" in result.stderr and str(tmp_path / "run.nc") in result.stderr
    assert result.stderr.count("\n") == 1 and op.load(tmp_path / "run.nc").status == "unstable"


def test_ctrl_c_in_a_run_keeps_what_was_reached(file, tmp_path, monkeypatch):
    def cut_short(objective, params0, *, step_size: float, steps: int, progress=None):
        def press(record):
            if record.step > 3:
                raise KeyboardInterrupt

        return op.gradient_descent(objective, params0, step_size=step_size, steps=steps, stop=press)

    monkeypatch.setitem(BY_NAME, "gradient_descent", cut_short)
    result = call("run", file, "--out", tmp_path / "out")
    assert result.exit_code == 130, result.output
    assert "interrupted" in result.stderr and op.load(tmp_path / "out" / "run.nc").status == "interrupted"
    result = call("check", HOLDS, file)
    assert result.exit_code == 130 and not result.stdout and result.stderr.startswith("overparam: interrupted: ")


@pytest.mark.parametrize(("text", "words"), [
    ("[driver", ["pair.toml: not TOML"]), (PROBLEM, ["no table [driver]"]),
    (PROBLEM + DESCENT + "stepsize = 1", ["pair.toml: [driver] key 'stepsize'", "'step_size'"]),
    (PROBLEM + DESCENT.replace("30", "-30"), ["pair.toml: [driver] steps must be", "-30"]),
])
def test_bad_files_are_one_line_and_leave_no_folder(file, tmp_path, text, words):
    file.write_text(text)
    assert refused(call("run", file, "--out", tmp_path / "new"), *words)
    assert os.listdir(tmp_path) == [file.name]


def test_errors_of_usage(file, tmp_path):
    assert refused(call("run"), "missing argument 'FILE.toml'")
    assert refused(call("run", tmp_path / "none.toml"), "none.toml", "No such file")
    assert refused(call("run", file, "--ou", tmp_path), "no such option: --ou")


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_prints_the_report_of_the_files_run(file):
    result = call("check", HOLDS, file)
    assert result.exit_code == 0, result.output
    assert result.stdout == op.theory.check(HOLDS, config.load(file).run()).text() + "\n"
    assert "verified" in result.stdout and "[derived]" in result.stdout


def test_a_statement_that_is_violated_is_exit_code_1(file):
    result = call("check", "all", file)
    assert result.exit_code == 1
    assert [line.split() for line in result.stdout.splitlines()[-2:]] == [[HOLDS, "verified"], [WRONG, "violated"]]


def test_constants_are_given_to_those_that_have_them(file):
    result = call("check", HOLDS, WRONG, file, "--set", "C=0.001")
    assert result.exit_code == 1 and f"{HOLDS}: violated (given C = 0.001)" in result.stdout and f"{WRONG}: violated\n" in result.stdout
    assert refused(call("check", HOLDS, file, "--set", "c=2"), "no constant 'c'")
    assert refused(call("check", HOLDS, file, "--set", "C"), "KEY=VALUE")
    assert refused(call("check", HOLDS, file, "--set", "C=big"), "C must be one real number")


def test_the_files_own_table_is_the_default(file):
    file.write_text(PROBLEM + DESCENT + f"[check]\ntheorems = '{HOLDS}'\nconfirm = false\nconstants = {{C = 0.001}}")
    result = call("check", file, "--json")
    (report,) = json.loads(result.stdout)
    assert result.exit_code == 1 and report["verdict"] == "violated" and report["given"] == "given C = 0.001"
    result = call("check", file, "--set", "C=3", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["given"] == "given C = 3"


def test_without_a_driver_the_hypotheses_are_checked(file):
    file.write_text(PROBLEM)
    result = call("check", HOLDS, file)
    assert result.exit_code == 0 and "undecided" in result.stdout and "no run was given" in result.stdout


def test_a_saved_run_is_checked_as_it_is(file, tmp_path):
    config.load(file).run().save(tmp_path / "saved.nc")
    result = call("check", HOLDS, tmp_path / "saved.nc", "--json", "--no-confirm")
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["verdict"] == "verified"


class Sines(Inequality):
    """About numbers that it draws itself."""

    name, title, source, tag, statement = "test.sines", "Sines", "this test", "standard", "|sin x| is at most C."
    constants = (Constant("C", 1.0, "standard"),)

    def sample(self, rng, scale):
        return scale * rng.standard_normal()

    def sides(self, x):
        return abs(math.sin(x)), 1.0, 1e-15


def test_a_lemma_that_draws_its_own_points_needs_no_file(monkeypatch):
    monkeypatch.setitem(theorem._THEOREMS, "test.sines", Sines())
    result = call("check", "test.sines")
    assert result.exit_code == 0 and result.stdout.startswith("test.sines: verified")
    assert call("check", "test.sines", "--set", "C=0.5").exit_code == 1
    result = call("check", "all")
    assert result.exit_code == 0 and "2 of 3 statements do not fit and were left out:\n" in result.stderr
    assert all(f"\noverparam: {name}: " in result.stderr for name in (HOLDS, WRONG))  # each with its reason


def test_json_has_no_infinities(file, monkeypatch):
    monkeypatch.setattr(LossFalls, "measured", lambda *_: {"inf": float("inf"), "nan": [float("nan")], "number": np.float64(2.0)})
    (report,) = json.loads(call("check", HOLDS, file, "--json").stdout, parse_constant=pytest.fail)
    assert report["measured"] == {"inf": "inf", "nan": [None], "number": 2.0}


def test_a_statement_that_does_not_fit_does_not_stop_the_others(file, monkeypatch):
    monkeypatch.setattr(theorem, "_THEOREMS", {HOLDS: LossFalls(), "test.sines": Sines()})
    result = call("check", HOLDS, "test.sines", file)
    assert result.exit_code == 0 and "warning: test.sines does not fit: test.sines is not about" in result.stderr
    assert "verified" in result.stdout
    result = call("check", "all", file)
    assert result.exit_code == 0 and "1 of 2 statements do not fit and were left out:\noverparam: test.sines: " in result.stderr
    assert refused(call("check", "test.sines", file), "not about an objective's parameters")


@pytest.mark.parametrize("kind", [ValueError, OverflowError, IndexError, AttributeError])
def test_a_checker_that_fails_is_undecided_and_no_traceback(file, monkeypatch, kind):
    def refuse(*_):
        raise kind("two students are needed")

    monkeypatch.setattr(certainty, "STRICT", False)
    for method in ("hypotheses", "conclusions"):
        with monkeypatch.context() as patch:
            patch.setattr(LossRises, method, refuse)
            result = call("check", WRONG, file)
        assert result.exit_code == 0 and not result.stderr
        assert f"{WRONG}: undecided" in result.stdout and f"two students are needed ({kind.__name__})" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of a POSIX shell")
def test_a_pipe_that_is_closed_ends_quietly(tmp_path):
    command = f"{sys.executable} -m overparam check zhang2025.lemma_c_7 --json | {sys.executable} -c 'import os; os.close(0)'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert not done.stderr, done.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    ([], ["needs a statement or a file, or --all"]), ([HOLDS], ["check needs a trajectory", "a file that describes a run"]),
    (["test.loss_fall"], ["'test.loss_fall' is not known", f"Did you mean '{HOLDS}'"]),
    (["test.loss_fall", "FILE"], ["'test.loss_fall' is not known", f"Did you mean '{HOLDS}'"]),
    (["FILE"], ["name a statement before", "[check]"]), ([HOLDS, "none.toml"], ["'none.toml' cannot be read"]),
    ([HOLDS, "none.nc"], ["none.nc", "not there"]), (["--all", "--set", "C=2"], ["--set goes with a file"]),
    (["--all", "test.loss_fall"], [f"Did you mean '{HOLDS}'"]), ([HOLDS, "FILE", "--sett", "C=2"], ["no such option: --sett"]),
])
def test_what_cannot_be_checked(file, arguments, words):
    assert refused(call("check", *[file if argument == "FILE" else argument for argument in arguments]), *words)


# --- check --all ------------------------------------------------------------------------------------------------------


def test_all_examples_are_a_table_and_what_differs_is_exit_code_1():
    result = call("check", "--all")
    assert result.exit_code == 1, result.output
    header, *rows, blank, total, differs = result.stdout.splitlines()
    assert header.split() == ["statement", "example", "expected", "verdict", "tag", "seconds"] and not blank
    assert [row.split()[0] for row in rows] == [HOLDS, HOLDS, WRONG]
    assert [row.split()[3:6] for row in rows] == [["verified", "verified", "derived"], ["vacuous", "vacuous", "derived"],
                                                   ["verified", "violated", "derived"]]
    assert total.startswith("3 examples of 2 statements in ") and total.endswith("2 as expected")
    assert differs.startswith(f"differs: {WRONG}, a pair: violated instead of verified: contradicted")


def test_examples_of_one_statement():
    result = call("check", "--all", HOLDS, "--json")
    assert result.exit_code == 0
    assert [(row["example"], row["verdict"]) for row in json.loads(result.stdout)] == [("a pair", "verified"), ("a stride", "vacuous")]


def test_an_example_that_fails_is_a_row(monkeypatch):
    def fail():
        raise ZeroDivisionError("nothing")

    monkeypatch.setattr(LossFalls, "examples", lambda self: {"broken": Example("verified", fail)})
    result = call("check", "--all", HOLDS)
    assert result.exit_code == 1 and "error instead of verified: ZeroDivisionError: nothing" in result.stdout


def test_ctrl_c_in_an_example_ends_the_table(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(LossFalls, "hypotheses", stop)
    result = call("check", "--all")
    assert result.exit_code == 130 and result.stderr.startswith("overparam: interrupted") and len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--all"], [HOLDS, "FILE"]])
def test_a_ctrl_c_that_a_driver_takes_for_its_own_ends_the_check_all_the_same(file, monkeypatch, arguments):
    def stopped(*_):
        def press(record):
            signal.raise_signal(signal.SIGINT)

        run = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[2.0], [1.5]], step_size=0.1, steps=5, stop=press)
        assert run.status == "interrupted"
        return []

    monkeypatch.setattr(LossFalls, "hypotheses", stopped)
    before = signal.getsignal(signal.SIGINT)
    result = call("check", *[file if argument == "FILE" else argument for argument in arguments])
    assert result.exit_code == 130 and result.stderr.startswith("overparam: interrupted") and signal.getsignal(signal.SIGINT) is before


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_shows_statements_with_tag_and_words():
    result = call("list", "--theorems")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [HOLDS, WRONG]
    assert "[derived] Descent: The loss falls by a factor of C." in result.stdout
