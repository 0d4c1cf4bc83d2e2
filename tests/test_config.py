"""Problems from TOML files: what they make, what is refused and how it is said, and that what is saved can be repeated."""

from __future__ import annotations

import inspect
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import overparam as op
from overparam import _toml, config
from overparam.drivers import BY_NAME
from overparam.objectives import BUILT_IN
from overparam.quadrature import Rule
from overparam.sampling import SampledRule
from overparam.teachers import TEACHERS
from overparam.trajectory import DRIVERS

TEACHER = 'teacher = {kind = "Gaussian", mean = [0.5, 0.0]}\n'
START = "start = {params = [[2.0, 0.0], [1.5, 0.5]]}\n"
DESCENT = '[driver]\nkind = "gradient_descent"\nstep_size = 0.1\nsteps = 20\n'
WHOLE = TEACHER + START + DESCENT


def made(*parts):
    return config.loads("\n".join(parts), "problem.toml")


# --- what is made -----------------------------------------------------------------------------------------------------


def test_a_file_makes_the_run_that_python_makes(tmp_path):
    file = tmp_path / "six.toml"
    file.write_text("""
        [teacher]
        kind = "GaussianMixture"
        means = [[0.0, 0.0], [1.0, 0.0]]
        weights = [0.25, 0.75]
        t = 0.5
        [objective]
        weights = [0.2, 0.3, 0.5]
        [rule]
        tol = 1e-8
        [start]
        kind = "cluster"
        n = 3
        center = [2.0, 0.0]
        scale = 0.1
        rng = 7
        [driver]
        kind = "gradient_descent"
        step_size = 0.05
        steps = 50
        record = "every(10)"
    """)
    found = config.load(file).run(progress=False)
    teacher = op.GaussianMixture([[0.0, 0.0], [1.0, 0.0]], [0.25, 0.75])
    obj = op.ScoreMatching(teacher, t=0.5, weights=[0.2, 0.3, 0.5], rule=op.Auto(tol=1e-8))
    start = op.init.cluster(n=3, center=[2.0, 0.0], scale=0.1, rng=7)
    expected = op.gradient_descent(obj, start, step_size=0.05, steps=50, record=op.every(10))
    assert found.problem == expected.problem and found.settings == expected.settings
    np.testing.assert_array_equal(found.params, expected.params)
    assert found.steps.tolist() == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("table", [
    'kind = "gradient_descent"\nstep_size = 0.1\nsteps = 5',
    'kind = "gradient_flow"\nt_end = 0.1\nrtol = 1e-4\nmax_evaluations = 1000',
    'kind = "sgd"\nstep_size = 0.1\nsteps = 1e1\nbatch_size = 8',
])
def test_every_driver_runs_and_what_is_saved_repeats_it(table):
    problem = made(TEACHER, START, "[driver]", table)
    first = problem.run(progress=False)
    again = config.loads(problem.dump())
    assert first.status == "completed" and again.dump() == problem.dump()
    np.testing.assert_array_equal(again.run(progress=False).final, first.final)


OWN_TABLES = {"MatrixFactorization": ('objective = {kind = "MatrixFactorization", target = [[1.0, 0.0], [0.0, 2.0]], depth = 3}',
                                      'start = {kind = "balanced_gaussian", depth = 3, d = 2, scale = 0.3, rng = 0}',
                                      'driver = {kind = "gradient_descent", step_size = 0.01, steps = 20}'),
              "ReLUNeuron": ('objective = {kind = "ReLUNeuron", target = [1.0, 0.5]}',
                             'start = {kind = "gaussian", n = 3, mean = [0.0, 0.0], scale = 0.1, rng = 0}',
                             'driver = {kind = "gradient_descent", step_size = 0.1, steps = 20}'),
              "TimeAveraged": (WHOLE, '[objective]\nkind = "TimeAveraged"\ntimes = [0.0, 0.5]\ntime_weights = [0.7, 0.3]')}


@pytest.mark.parametrize("kind", [kind.__name__ for kind in BUILT_IN])
def test_every_objective_is_known(kind):
    problem = made(*OWN_TABLES.get(kind, (WHOLE, f'[objective]\nkind = "{kind}"\n[rule]\ntol = 1e-6')))
    run = problem.run(progress=False)
    assert run.status == "completed" and run.problem["kind"] == kind and run.loss[-1] < run.loss[0]
    assert config.loads(problem.dump()).dump() == problem.dump()


def test_all_drivers_that_resume_can_begin():
    assert set(BY_NAME) | {"scheduled_descent", "preconditioned_descent"} == set(DRIVERS)  # the latter begin as gradient_descent


def test_a_seed_that_was_not_given_is_drawn_and_written_down():
    text = TEACHER + 'start = {kind = "gaussian", n = 2, mean = [1.0, 0.0]}\nrule = {kind = "Sobol", n = 64}\n'
    one, other = made(text), made(text)
    seeds = [problem.describe()[table]["rng"] for problem in (one, other) for table in ("start", "rule")]
    assert len(set(seeds)) == 4
    again = config.loads(one.dump())
    np.testing.assert_array_equal(again.start, one.start)
    assert again.objective.value(again.start) == one.objective.value(one.start)


def test_defaults_are_in_the_effective_configuration():
    described = made(WHOLE).describe()
    assert described["rule"] == {"kind": "Auto", "tol": 1e-10, "max_nodes": 4_000_000, "sampling": False}
    assert described["objective"] == {"kind": "ScoreMatching", "weights": None}
    assert described["driver"]["record"] == "log_spaced(200)" and described["teacher"]["t"] == 0.0
    assert list(described) == [name for name in config.TABLES if name != "check"]
    described["driver"]["steps"] = 0
    assert made(WHOLE).describe()["driver"]["steps"] == 20


def test_the_record_that_is_written_down_is_the_drivers_own_default():
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[1.0]], step_size=0.1, steps=1)
    assert run.settings["record"] == made(WHOLE).arguments["record"].describe()


@pytest.mark.parametrize(("text", "steps"), [("'log_spaced(3)'", [0, 1, 4, 20]), ("' every( 10 ) '", [0, 10, 20]),
                                             ("{kind = 'every', interval = 8}", [0, 8, 16, 20])])
def test_records(text, steps):
    assert made(WHOLE, f"record = {text}").run(progress=False).steps.tolist() == steps


def test_a_start_that_float64_does_not_hold():
    problem = made(TEACHER, "start = {centre = [40.0, 0.0], deviations = [[1.0, 0.0], [-1.0, 0.0]], log_scale = -2000.0}")
    assert problem.start.log_spread == pytest.approx(math.log(2) - 2000)
    assert config.loads(problem.dump()).start.log_spread == problem.start.log_spread


def test_the_teacher_can_be_the_target_of_a_start():
    problem = made('teacher = {kind = "Gaussian", mean = [3.0, 0.0], t = 1.0}', 'start = {kind = "one_offset", n = 2, target = "teacher"}')
    np.testing.assert_array_equal(problem.start, op.init.one_offset(n=2, target=op.Gaussian([3.0, 0.0]).at_time(1.0)))


def test_what_is_registered_is_known(monkeypatch):
    class Midpoints(SampledRule):
        def __init__(self, n: int = 32, shift: float = 0.5, rng=None):
            super().__init__(n, rng=0)
            self.shift = shift

        def _draw(self, size, rank, rng):
            return rng.standard_normal((size, rank)) + 0.0 * self.shift

    try:
        problem = made(WHOLE, '[rule]\nkind = "Midpoints"\nshift = 1')
        assert isinstance(problem.objective.rule, Midpoints) and problem.objective.rule.shift == 1
        with pytest.raises(ValueError, match=r"problem.toml: \[rule\] shift must be a number; got 'left'"):
            made(WHOLE, '[rule]\nkind = "Midpoints"\nshift = "left"')
    finally:
        del Rule.registry["Midpoints"]
    monkeypatch.setitem(TEACHERS, "Point", lambda where: op.Gaussian(where))
    assert made('teacher = {kind = "Point", where = [1.0, 2.0]}', START).objective.teacher == op.Gaussian([1.0, 2.0])

    def still(objective, params0, *, steps: int, progress=None):
        return steps

    monkeypatch.setitem(BY_NAME, "still", still)
    assert made(TEACHER, START, 'driver = {kind = "still", steps = 3}').run() == 3


@pytest.mark.parametrize("name", [name for name in op.init.__all__ if name not in ("log_radius", "small_gaussian", "balanced_gaussian")])
def test_every_start_of_op_init_is_known(name):
    needed = {"n": "3", "radius": "2.0", "center": "[1.0, 0.0]", "mean": "[1.0, 0.0]", "scale": "0.1",
              "deviations": "[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]",
              "target": "[1.0, 0.0]", "s": "1.5", "dimension": "2"}
    takes = inspect.signature(getattr(op.init, name)).parameters
    arguments = ", ".join(f"{key} = {value}" for key, value in needed.items() if key in takes)
    problem = made(TEACHER, f'start = {{kind = "{name}", {arguments}}}')
    assert op.State.of(problem.start).n == 3
    np.testing.assert_array_equal(op.State.of(config.loads(problem.dump()).start).params, op.State.of(problem.start).params)


@pytest.mark.parametrize("name", ["small_gaussian", "balanced_gaussian"])
def test_starts_of_matrices_are_known(name):
    problem = made(OWN_TABLES["MatrixFactorization"][0], f'start = {{kind = "{name}", depth = 3, d = 2, scale = 0.1}}')
    assert problem.start.shape == (3, 2, 2)
    np.testing.assert_array_equal(config.loads(problem.dump()).start, problem.start)
    written = made(OWN_TABLES["MatrixFactorization"][0], f"start = {{params = {problem.start.tolist()}}}")
    np.testing.assert_array_equal(written.start, problem.start)
    with pytest.raises(ValueError, match=r"\[start\] params must have 3 dimension"):
        made(OWN_TABLES["MatrixFactorization"][0], "start = {params = [[1.0, 2.0]]}")


def test_a_start_from_the_teacher_needs_one():
    with pytest.raises(ValueError, match=r"\[start\] from_teacher starts from the objective's teacher, and a MatrixFactorization has none"):
        made(OWN_TABLES["MatrixFactorization"][0], 'start = {kind = "from_teacher", n = 3, rng = 0}')


def test_arguments_of_noise_are_the_teachers_own(monkeypatch):
    class Shifted(op.Gaussian):
        def at_time(self, t, shift: float = 0.0):
            return op.Gaussian(np.exp(-t) * self.mean + shift)

    monkeypatch.setitem(TEACHERS, "Shifted", Shifted)
    problem = made('teacher = {kind = "Shifted", mean = [1.0], t = 0.5, shift = 3}', "start = {params = [[1.0]]}")
    assert problem.objective.teacher == op.Gaussian([math.exp(-0.5) + 3])
    assert problem.describe()["teacher"] == {"kind": "Shifted", "mean": [1.0], "covariance": None, "t": 0.5, "shift": 3}
    with pytest.raises(ValueError, match=r"\[teacher\] key 'shift' is not known.*Known: covariance, kind, mean, t$"):
        made('teacher = {kind = "Gaussian", mean = [1.0], t = 0.5, shift = 3}', START)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "words"), [
    ("a = ]", ["not TOML", "line 1"]),
    ("[techer]", ["table 'techer'", "Did you mean 'teacher'"]),
    ("steps = 4", ["'steps'", "is not known"]),
    ("driver = 4", ["driver must be a table", "got 4"]),
    (START, ["table [teacher] is missing"]),
    (TEACHER, ["table [start] is missing"]),
    ('teacher = {kind = "Gausian", mean = [0.0]}\n' + START, ["[teacher] kind", "'Gausian'", "Did you mean 'Gaussian'"]),
    ("teacher = {mean = [0.0]}\n" + START, ["[teacher] needs a kind", "Gaussian"]),
    ('teacher = {kind = "Gaussian"}\n' + START, ["[teacher] needs mean"]),
    ('teacher = {kind = "Gaussian", mean = "far"}\n' + START, ["[teacher] mean must hold real numbers"]),
    ('teacher = {kind = "Gaussian", mean = [0.0], t = "late"}\n' + START, ["[teacher] t must be a number; got 'late'"]),
    ('teacher = {kind = "Gaussian", mean = [0.0], t = 0.5}\n' + START
     + '[objective]\nkind = "TimeAveraged"\ntimes = [0.1]\ntime_weights = [1.0]',
     ["[teacher] t must be 0, or left out", '"TimeAveraged"', "got 0.5"]),
    ('teacher = {kind = "Gaussian", mean = [0.0], t = -1.0}\n' + START, ["[teacher] t must be", "got -1"]),
    (WHOLE + "[objective]\nt = 1.0", ["[objective] key 't'", "Known: kind, weights"]),
    (WHOLE + "[objective]\nweights = [0.5, 0.4]", ["[objective] weights must sum to 1"]),
    (WHOLE + "[objective]\nweights = [0.5, 0.25, 0.25]", ["[start] weights has 3 entries"]),
    (WHOLE + "[rule]\ntolerance = 1e-8", ["[rule] key 'tolerance'", "Known: kind, max_nodes, sampling, tol"]),
    (WHOLE + "[rule]\ntol = 5.0", ["[rule] tol must be", "got 5.0"]),
    (WHOLE + '[rule]\nkind = "Trapezoid"\norders = "many"', ["[rule] orders must be a whole number or an array; got 'many'"]),
    (WHOLE + "[rule]\nsampling = 1", ["[rule] sampling must be true or false; got 1"]),
    (WHOLE + '[rule]\nkind = "SampledRule"\nn = 64', ["[rule] kind 'SampledRule' is not known"]),
    (TEACHER + "start = {n = 3}", ["[start] needs a kind", "cluster", "params"]),
    (TEACHER + 'start = {kind = "log_radius", n = 3}', ["[start] kind 'log_radius' is not known"]),
    (TEACHER + "start = {params = [[1.0]]}", ["[start]", "(n, 2)"]),
    (TEACHER + "start = {params = [[1.0, 0.0], [1.0]]}", ["[start] params is not a rectangular array"]),
    (TEACHER + 'start = {kind = "cluster", n = 2.5, center = [0.0, 0.0], scale = 1}', ["[start] n must be a whole number; got 2.5"]),
    (TEACHER + 'start = {kind = "cluster", n = 2, centre = [0.0, 0.0], scale = 1}', ["[start] key 'centre'", "'center'"]),
    (TEACHER + START + '[driver]\nkind = "gradient_decent"', ["[driver] kind", "Did you mean 'gradient_descent'"]),
    (TEACHER + START + '[driver]\nkind = "sgd"\nsteps = 3', ["[driver] needs step_size, batch_size"]),
    (WHOLE + "stepsize = 0.1", ["[driver] key 'stepsize'", "Did you mean 'step_size'"]),
    (WHOLE + "observe = 1", ["[driver] key 'observe'"]),
    (WHOLE + "record = 'log_space(3)'", ["[driver] record 'log_space' is not known", "Did you mean 'log_spaced'"]),
    (WHOLE + "record = 'every()'", ["[driver] record 'every()' does not fit"]),
    (WHOLE + "record = 'every(x)'", ["[driver]"]),
    (WHOLE + "record = 5", ["[driver] record must be a text such as"]),
    (WHOLE.replace("0.1", "true"), ["[driver] step_size must be a number; got True"]),
    (WHOLE + "[check]\ntheorem = 'x'", ["[check] key 'theorem'", "'theorems'"]),
    (WHOLE + "[check]\ntheorems = ['zhang2025.theorem_32']", ["[check] theorems:", "Did you mean 'zhang2025.theorem_3_2'"]),
    (WHOLE + "[check]\ntheorems = 3", ["[check] theorems must be an array"]),
    (WHOLE + "[check]\nconfirm = 'no'", ["[check] confirm must be true or false"]),
    (WHOLE + "[check]\ntheorems = 'zhang2025.theorem_3_2'\nconstants = {C_l = 1.0}", ["[check] constants:", "Did you mean 'C_L'"]),
    (WHOLE + "[check]\nconstants = {C_L = 'large'}", ["[check] constants: C_L must be one real number"]),
    (WHOLE + "[check]\nconstants = 3", ["[check] constants must be a table"]),
])
def test_what_is_wrong_is_said_with_file_table_and_key(text, words):
    with pytest.raises(ValueError, match=r"^problem\.toml: ") as error:
        config.loads(text, "problem.toml")
    for word in words:
        assert word in str(error.value)


def test_values_that_only_the_driver_knows_are_refused_before_any_work():
    with pytest.raises(ValueError, match=r"^problem\.toml: \[driver\] steps must be a whole number not below 0.*; got -20"):
        made(WHOLE.replace("20", "-20")).run()


def test_without_a_driver_there_is_nothing_to_run():
    with pytest.raises(ValueError, match=r"no table \[driver\]"):
        made(TEACHER, START).run()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match=r"none.toml' cannot be read: No such file"):
        config.load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        config.load(tmp_path)
    with pytest.raises(ValueError, match=r"path must be a file name; got 3\.5"):
        config.load(3.5)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ValueError, match="UTF-8"):
        config.load(tmp_path / "latin.toml")


def test_checks():
    checks = made(WHOLE, "[check]\ntheorems = 'all'\nconfirm = false\nconstants = {C_L = 2}").checks
    assert checks.theorems == tuple(op.theory.list()) and checks.constants == {"C_L": 2} and checks.confirm is False
    assert made(WHOLE).checks == config.Checks()


# --- the text ---------------------------------------------------------------------------------------------------------

VALUES = st.recursive(st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
                      lambda inner: st.lists(inner, max_size=30), max_leaves=60)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["a", "b-c", "d"]), st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), VALUES)))
def test_what_is_written_is_read_back(tables):
    assert tomllib.loads(_toml.dumps(tables)) == tables


def test_tables_in_tables_and_what_is_not_set():
    text = _toml.dumps({"check": {"constants": {"C": 1.5}, "confirm": True, "rng": None}})
    assert tomllib.loads(text) == {"check": {"constants": {"C": 1.5}, "confirm": True}} and "# rng is not set" in text
    with pytest.raises(ValueError, match="key cannot be written"):
        _toml.dumps({"table": {"key": object()}})
    with pytest.raises(ValueError, match="not Unicode"):
        _toml.dumps({"table": {"key": "\ud800"}})


# --- what the documentation says --------------------------------------------------------------------------------------

DOCS = (Path(__file__).parents[1] / "docs" / "config.md").read_text(encoding="utf-8")


def test_the_documented_example_makes_a_problem():
    text = re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)[1]
    problem = config.loads(text)
    assert set(tomllib.loads(text)) == set(config.TABLES) and problem.start.shape == (5, 3) and problem.arguments["steps"] == 2000
    assert problem.checks.constants == {"C_L": 1.0}


def test_the_documented_errors_are_those_that_are_raised():
    shown = re.search(r"```text\n(.*?)```", DOCS, re.DOTALL)[1].splitlines()
    for text, message in zip([WHOLE + "stepsize = 1", WHOLE + "[rule]\ntol = 5.0"], shown, strict=True):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            config.loads(text, "six.toml")


def test_the_documentation_names_every_kind_and_key():
    kinds = [*TEACHERS, *BY_NAME, *(kind.__name__ for kind in BUILT_IN)]
    kinds += [name for name, kind in Rule.registry.items() if not inspect.isabstract(kind) and kind.__module__.startswith("overparam.")]
    for name in kinds:
        assert f"`{name}`" in DOCS or f'"{name}"' in DOCS, f"docs/config.md does not name {name}"
    described = [config.loads(f"{TEACHER}{START}driver = {driver}").describe()["driver"] for driver in (
        '{kind = "gradient_descent", step_size = 1, steps = 1}', '{kind = "gradient_flow", t_end = 1.0}',
        '{kind = "sgd", step_size = 1, steps = 1, batch_size = 1}', '{kind = "momentum", step_size = 1, steps = 1}',
        '{kind = "adam", step_size = 1, steps = 1}')]
    for key in set().union(*described) - {"kind"}:
        assert f"`{key}`" in DOCS
