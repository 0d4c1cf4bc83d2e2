"""What a verdict may rest on: bounds and not standard errors, horizons, drivers, known constants, claims that were tested."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import overparam as op
from overparam.theory import Conclusion, Constant, Hypothesis, Report, Setting, Theorem, certainty, check, theorem
from overparam.theory.inequality import Bound, Inequality
from overparam.theory.zhang2025 import common

LINE = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
SAMPLED = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(2000, rng=0))
SMALL = [[0.06], [-0.05]]
CLOSE = op.init.exponentially_small(n=2, target=[0.5], rng=0)


class Falls(Theorem):
    """The loss ends below C times its start, and is positive."""

    name, title, source, tag = "tests.falls", "Descent", "the tests", "derived"
    statement = "The loss falls."
    constants = (Constant("C", 1.0, "derived"),)

    def hypotheses(self, setting, constants):
        return [common.gradient_motion(setting)]

    def conclusions(self, setting, constants):
        loss, error, C = setting.run.loss, setting.run.loss_error, constants["C"]
        return [Conclusion("the loss falls", "L", float(loss[-1]), "<", C.value * float(loss[0]), tag=C.tag, error=float(error.max())),
                Conclusion("it is seen", fact=True, tag="derived")]


def report(*claims, tag="derived", **more):
    return Report("tests.one", "One", "Words.", "the tests", tag, tuple(one for one in claims if isinstance(one, Hypothesis)),
                  tuple(one for one in claims if isinstance(one, Conclusion)), **more)


def descent(objective=LINE, start=((2.0,), (1.5,)), step_size=0.1, steps=200):
    return op.gradient_descent(objective, start, step_size=step_size, steps=steps)


# --- a sample's standard error is no bound -------------------------------------------------------------------------------------


def test_certain_numbers():
    found = SAMPLED.estimate([[1.0], [-1.0]])
    assert 0 < found.value_error < 1
    assert certainty.certain(found).value_error == math.inf and np.isinf(certainty.certain(found).grad_error).all()
    bound = LINE.estimate([[1.0], [-1.0]])
    assert certainty.certain(bound).value_error == bound.value_error and certainty.certain(bound).value == bound.value
    unknown = replace(bound, value_error=math.nan)
    assert certainty.certain(unknown).value_error == math.inf


def test_a_sampled_run_decides_nothing():
    assert Falls().check(descent()).verdict == "verified"
    found = Falls().check(descent(SAMPLED))
    assert found.verdict == "undecided" and found.conclusion_seen is None
    assert "standard errors are no bounds" in found.reason and "would decide" in found.reason
    wrong = type("Rises", (Falls,), {"conclusions": lambda self, setting, constants: [
        Conclusion("the loss rises", "L", float(setting.run.loss[-1]), ">", float(setting.run.loss[0]), tag="derived")]})
    assert wrong().check(descent()).verdict == "violated" and wrong().check(descent(SAMPLED)).verdict == "undecided"


def test_a_run_that_falls_back_to_samples_decides_nothing_from_there_on():
    run = descent()
    half = int(run.steps[len(run) // 2])
    late = Setting.of(replace(run, attributes={**run.attributes, "sampled_from_step": half})).run
    assert (np.isinf(late.loss_error) == (late.steps >= half)).all()
    assert check("zhang2025.theorem_3_2", replace(op.gradient_flow(LINE, CLOSE, t_end=1e3), attributes={"sampled_from_step": 0}),
                 C_L=1.0, confirm=False).verdict == "undecided"


@pytest.mark.parametrize("name", ["zhang2025.lemma_2_2", "zhang2025.law_gradient_weights", "zhang2025.law_gradient_identity"])
def test_points_of_a_sampled_rule_decide_nothing(name):
    assert check(name, SAMPLED, [[1.0], [-0.5]]).verdict == "undecided"
    assert check(name, op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-11)), [[1.0], [-0.5]]).verdict == "verified"


@pytest.mark.parametrize("name", ["zhang2025.lemma_c_10", "zhang2025.lemma_c_11", "zhang2025.lemma_c_14", "zhang2025.lemma_c_15"])
def test_far_points_of_a_sampled_rule_decide_nothing(name):
    given = {"C": 1.0} if name != "zhang2025.lemma_c_10" else {}
    given |= {"c": 0.1} if name.endswith("14") else {}
    step = {"step_size": 0.1} if name.endswith("15") else {}
    assert check(name, SAMPLED, [[1e-4], [7.0]], **step, **given).verdict == "undecided"


# --- a limit needs a horizon ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [
    lambda: op.gradient_flow(LINE, SMALL, t_end=1e-3), lambda: op.gradient_flow(LINE, SMALL, t_end=0.5),
    lambda: descent(start=SMALL, step_size=0.01, steps=1), lambda: descent(start=SMALL, step_size=1.0, steps=1),
    lambda: descent(start=SMALL, step_size=1.0, steps=2), lambda: op.gradient_flow(LINE, [[1e-6], [-1e-6]], t_end=100.0),
])
def test_no_horizon_shows_no_limit(run):
    """The last: two students that are opposite each other at 1e-6 do not move before t = 1e11."""
    claim = common.all_converge(Setting.of(run()))
    assert claim.holds is None and "would decide" in claim.note


def test_a_horizon_shows_the_limit():
    claim = common.all_converge(Setting.of(op.gradient_flow(LINE, SMALL, t_end=1e4)))
    assert claim.holds is True and "has fallen to" in claim.note
    parts = op.gradient_flow(LINE, [[6.0], [7.0]], t_end=1e4)
    assert common.all_converge(Setting.of(parts)).holds is False
    assert common.all_converge(Setting.of(op.gradient_flow(LINE, [[6.0], [7.0]], t_end=0.1))).holds is None
    assert check("zhang2025.theorem_2_1", op.gradient_flow(LINE, SMALL, t_end=1e-3), C_L=1.0).verdict == "undecided"


# --- drivers -------------------------------------------------------------------------------------------------------------------


def test_other_drivers_are_no_gradient_descent():
    stochastic = op.sgd(LINE, SMALL, step_size=0.01, steps=200, batch_size=4, rng=0)
    for run in (stochastic, replace(stochastic, driver="mine", settings={})):
        setting, one = Setting.of(run), {"C_eta": Constant("C_eta", 1.0, "given")}
        for claim in (common.gradient_motion(setting), common.small_step(setting, one)):
            assert claim.holds is False and run.driver in claim.note
        assert check("zhang2025.theorem_2_1", run, C_L=1.0, C_eta=1.0, confirm=False).verdict == "vacuous"
        assert Falls().check(run, confirm=False).verdict == "vacuous"
    flow = Setting.of(op.gradient_flow(LINE, SMALL, t_end=1.0))
    assert common.small_step(flow, {}).holds is True and common.gradient_motion(flow).holds is True
    steps = common.small_step(Setting.of(descent(start=SMALL)), {"C_eta": Constant("C_eta", 1.0, "given")})
    assert steps.left == 0.1 and steps.right == 1 / 16


# --- recalled constants --------------------------------------------------------------------------------------------------------


class Recalled(Falls):
    """The same with a constant that nobody can look up."""

    name = "tests.recalled"
    constants = (Constant("C", 1.0, "recalled"),)


@pytest.mark.parametrize("value", [1.0, 0.5, 1e-9, None])
def test_recalled_constants_are_never_tested(value):
    given = {} if value is None else {"C": value}
    found = Recalled().check(descent(), **given)
    assert found.verdict == "undecided" and not found.conclusions[0].tested and not found.given
    assert "recalled" in found.reason and found.constants[0].tag == "recalled"
    for shown in (found.text(), found.markdown(), found._repr_html_()):
        assert "C = 1" in shown and (value is None or f"given {value:g}" in shown)


def test_a_recalled_statement_is_neither_verified_nor_violated():
    for C in (5.0, 0.1, 1e-9, 100.0):
        found = check("zhang2025.lemma_b_2", C=C)
        assert found.verdict == "undecided" and "recalled" in found.reason and not any(one.tested for one in found.conclusions)
    for right in (0.0, 2.0):
        assert report(Conclusion("c", left=1.0, right=right, tag="derived"), tag="recalled").verdict == "undecided"
    steep = type("Steep", (Inequality,), {
        "name": "tests.steep", "title": "Steep", "source": "the tests", "statement": "x <= C x^1.5.", "tag": "derived",
        "constants": (Constant("C", None, "unknown"),), "bounds": (Bound("x <= C x^1.5", constant="C", tag="recalled"),),
        "scales": tuple(10.0 ** np.arange(-4, 1)), "limits": ("small",),
        "sample": lambda self, rng, scale: scale * rng.uniform(0.5, 1.0), "sides": lambda self, x: (x, x**1.5, 1e-15 * x)})
    assert steep().check().verdict == "undecided"


def test_negative_constants_are_refused():
    with pytest.raises(ValueError, match=r"C must be a finite number.*-1"):
        Falls().check(descent(), C=-1.0)


# --- what was not tested -------------------------------------------------------------------------------------------------------


def test_an_untested_conclusion_is_not_verified():
    seen = Conclusion("a is so", fact=True, tag="derived")
    open_one = Conclusion("b is so", left=1.0, right=math.nan, tag="unknown", tested=False, note="holds for C >= 1; give C=")
    found = report(seen, open_one)
    assert found.verdict == "undecided" and found.conclusion_seen is True
    assert found.reason == "seen: a is so; not tested: b is so: holds for C >= 1; give C="
    assert report(seen, replace(open_one, strengthening=True)).verdict == "verified"
    assert report(replace(seen, fact=False), open_one).verdict == "violated"
    unknown = report(Hypothesis("h", left=1.0, right=math.nan, tag="unknown", tested=False, note="give H="), replace(seen, fact=False))
    assert unknown.verdict == "undecided" and "give H=" in unknown.reason and "contradicted, unless" in unknown.reason


def test_theorem_3_2_without_the_constant_of_its_loss_bound():
    run = op.gradient_flow(LINE, [[0.5], [0.5]], t_end=1e4)
    found = check("zhang2025.theorem_3_2", run)
    assert found.verdict == "undecided" and "give C_L=" in found.reason
    assert "every student converges" in found.reason.partition("not tested")[0]


# --- structure, and failures ---------------------------------------------------------------------------------------------------


MIXTURE = op.ScoreMatching(op.GaussianMixture([[0.0], [1.0]]), rule=op.Auto(tol=1e-6))
DIVERGENCE = op.KLDivergence(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6))


def fits(name):
    """Whether a statement is about an objective's parameters."""
    statement = op.theory.get(name)
    return not (isinstance(statement, Inequality) and type(statement).point is Inequality.point)


@pytest.mark.parametrize("name", [name for name in op.theory.list() if name.startswith("zhang2025.lemma_c") and fits(name)])
@pytest.mark.parametrize("params", [[[0.1], [-0.1]], [[7.0], [7.0]], [[0.0], [0.0]], [[7.0]], [[1e300], [0.1]], [[0.0], [1e300]]])
def test_outside_their_domain_the_far_lemmas_say_so(name, params):
    found = check(name, LINE, params, step_size=0.1)
    if name in ("zhang2025.lemma_c_5", "zhang2025.lemma_c_6", "zhang2025.lemma_c_9", "zhang2025.lemma_c_7"):  # these are about any points
        expected = ("vacuous",) if len(params) == 1 else ("verified", "vacuous", "undecided")
    else:
        expected = ("undecided",) if params == [[0.0], [1e300]] else ("vacuous",)
    assert found.verdict in expected, found.text()
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("subject", [MIXTURE, DIVERGENCE])
@pytest.mark.parametrize("name", [name for name in op.theory.list() if name.startswith("zhang2025.lemma") and fits(name)])
def test_another_target_or_loss_is_named(name, subject):
    found = check(name, subject, [[1e-4], [7.0]], step_size=0.1)
    if any(one.words in ("the loss is score matching", "the target is a single Gaussian") for one in found.hypotheses):
        assert found.verdict == "vacuous"
        fails = "the loss is score matching" if subject is DIVERGENCE else "the target is a single Gaussian"
        assert fails in found.reason and not found.conclusions


def test_conclusions_about_a_point_are_guarded_too():
    """Theorem 3.1 has a way of its own to come by its point."""
    found = check("zhang2025.theorem_3_1", DIVERGENCE, [[1.0], [-1.0], [0.0]])
    assert found.verdict == "vacuous" and not found.conclusions and "the loss is score matching: it is KLDivergence" in found.reason
    assert check("zhang2025.theorem_3_1", LINE, [[1e300], [1.0], [0.0]]).verdict == "undecided"


class Broken(Falls):
    """A checker with a mistake."""

    name, where, kind = "tests.broken", "conclusions", KeyError
    holds = True

    def hypotheses(self, setting, constants):
        return [Hypothesis("supposed", fact=self.holds, tag="derived"), *self.fail("hypotheses")]

    def conclusions(self, setting, constants):
        return [*super().conclusions(setting, constants), *self.fail("conclusions")]

    def measured(self, setting, constants):
        return dict(self.fail("measured"))

    def fail(self, where):
        if where == self.where:
            raise self.kind("its text")
        return []


@pytest.mark.parametrize("where", ["hypotheses", "conclusions", "measured"])
@pytest.mark.parametrize("kind", [KeyError, ValueError, ZeroDivisionError, OverflowError])
def test_a_checker_that_fails_reports_it(monkeypatch, where, kind):
    broken, run = type("One", (Broken,), {"where": where, "kind": kind})(), descent()
    if kind is KeyError:
        with pytest.raises(KeyError):
            broken.check(run, confirm=False)
    monkeypatch.setattr(certainty, "STRICT", False)
    found = broken.check(run, confirm=False)
    assert f"({kind.__name__})" in found.text() and "its text" in found.text()
    assert found.verdict == ("verified" if where == "measured" else "undecided")
    fails = type("Two", (Broken,), {"where": where, "kind": kind, "holds": False})().check(run, confirm=False)
    assert fails.verdict == ("undecided" if where == "hypotheses" else "vacuous")


# --- errors --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "relation", "right", "error", "holds"), [
    (1.0, "==", 1.0, 0.0, True), (1.0, "==", 1.05, 0.09, True), (1.0, "==", 1.05, 0.2, None), (1.0, "==", 2.0, 0.2, False),
    (1.0, "==", 1.0, math.inf, None), (1.0, "==", 1.0, math.nan, None), (0.0, "==", 0.0, 0.0, True), (1e-9, "==", 0.0, 1e-8, None),
    (1.0, "<=", 2.0, math.nan, None), (1.0, "<=", 2.0, math.inf, None), (2.0, "<=", 1.0, math.nan, None), (1.0, "<=", 2.0, 0.5, True),
    (2.0, "<=", 1.0, 0.5, False), (1.0, "<=", 1.5, 0.5, None), (1.0, ">", 0.5, math.inf, None)])
def test_an_error_as_large_as_the_claim_shows_nothing(left, relation, right, error, holds):
    claim = Conclusion("c", left=left, relation=relation, right=right, error=error, tag="derived")
    assert claim.holds is holds
    assert ("would decide" in claim.would_decide) is (holds is None)
    assert report(claim).verdict == {True: "verified", False: "violated", None: "undecided"}[holds]
    assert holds is not None or "would decide" in report(claim).reason


def test_a_scale_where_both_sides_may_be_0():
    claim = Conclusion("c", left=1e-9, relation="==", right=0.0, error=1e-8, scale=1.0, tag="derived")
    assert claim.holds is True and replace(claim, scale=1e-8).holds is None and replace(claim, left=1e-7).holds is False


@pytest.mark.parametrize(("left", "error", "holds"), [(1.0, 1e-9, True), (1 + 5e-10, 1e-9, True), (1 + 5e-9, 1e-9, False), (1.0, 0.2, None),
                                                      (1.0, math.inf, None), (0.5, 1e-9, True)])
def test_bounds_that_are_attained_hold_within_a_small_error(left, error, holds):
    claim = Conclusion("c", left=left, relation="<=", right=1.0, error=error, tag="derived", attained=True)
    assert claim.holds is holds
    assert replace(claim, relation="<", left=1.0, error=1e-9).holds is None


def test_facts_that_are_open_say_what_would_decide():
    assert "would decide" in report(Conclusion("c", tag="derived")).reason
    assert "would decide" in report(Conclusion("c", left=math.nan, right=1.0, tag="derived")).reason


def test_confirmation_is_told():
    assert Falls().check(descent()).confirmation.startswith("yes")
    fixed = op.ScoreMatching(op.Gaussian([0.0]), rule=op.GaussHermite(60))
    found = Falls().check(descent(fixed))
    assert found.confirmation == theorem.NO_TOLERANCE and found.confirmation in found.text()
    assert Falls().check(descent(), confirm=False).confirmation == ""
    unknown = replace(descent(), driver="mine")
    free = type("Free", (Falls,), {"hypotheses": lambda *_: []})
    assert "cannot be repeated" in free().check(unknown).confirmation


class Value(Inequality):
    """What the loss is at a point, against what it is at one tolerance: a verdict that the tolerance makes."""

    name, title, source, tag, statement = "tests.value", "Value", "the tests", "derived", "The tolerance is at most 1e-5."
    relation, limit = ">=", 1e-5

    def sample(self, rng, scale):
        return 1.0

    def point(self, setting, state):
        return setting.objective.rule.tol if isinstance(setting.objective.rule, op.Auto) else 1.0

    def sides(self, point):
        return point, self.limit, 0.0


def test_points_are_evaluated_again_at_a_hundredth_of_the_tolerance():
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-4))
    found = Value().check(obj, [[1.0]])
    assert found.verdict == "undecided" and "hundredth of the tolerance" in found.reason
    assert Value().check(obj, [[1.0]], confirm=False).verdict == "verified"
    assert Value().check(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-2)), [[1.0]]).confirmation.startswith("yes")
    assert Value().check(op.ScoreMatching(op.Gaussian([0.0]), rule=op.GaussHermite(20)), [[1.0]]).confirmation == theorem.NO_TOLERANCE


# --- shown, written, registered ------------------------------------------------------------------------------------------------


def test_markdown_tables_keep_their_columns():
    claim = Conclusion("|x| is small", r"\|x\|\le|y|\Rightarrow z", 1.0, "<=", 2.0, tag="derived", note="a | b\nc")
    row = next(line for line in report(claim).markdown().splitlines() if line.startswith("| conclusion"))
    assert row.replace(r"\|", "").count("|") == 7
    assert r"\Vert x\Vert \le\vert y\vert \Rightarrow z" in row and r"\|x\| is small" in row and r"a \| b c" in row


def test_dictionaries_are_json():
    claims = [Conclusion("c", left=-math.inf, right=math.nan, error=math.inf, tag="derived"), Conclusion("d", fact=True, tag="derived")]
    found = report(*claims, measured={"a": math.inf, "b": [np.float64(1.0), math.nan], "c": np.arange(2), "d": (1, 2), "e": object()},
                   constants=(Constant("C", math.inf, "derived"),))
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["conclusions"][0]["left"] == "-inf" and read["conclusions"][0]["right"] is None
    assert read["measured"]["a"] == "inf" and read["measured"]["b"] == [1.0, None] and read["measured"]["c"] == [0, 1]
    assert read["constants"][0]["value"] == "inf" and read["conclusions"][1]["margin"] is None


def test_registering(monkeypatch):
    monkeypatch.setattr(theorem, "_THEOREMS", {})
    instance = Falls()
    assert op.theory.register(instance) is instance and op.theory.get("tests.falls") is instance
    with pytest.raises(ValueError, match="taken"):
        op.theory.register(Falls)
    assert op.theory.register(Recalled) is Recalled and isinstance(op.theory.get("tests.recalled"), Recalled)
    for wrong in (3, "name", object, None):
        with pytest.raises(ValueError, match=r"subclass of op\.theory\.Theorem"):
            op.theory.register(wrong)
    with pytest.raises(ValueError, match="Nameless needs name"):
        op.theory.register(type("Nameless", (Falls,), {"name": ""}))
