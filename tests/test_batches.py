"""Batches of starts: every run is, to the last bit, the run that its start makes alone."""

import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import overparam as op
from overparam._core import descent
from overparam.drivers import batch
from overparam.drivers import descent as descent_driver
from overparam.drivers._gradients import Gradients
from overparam.drivers._velocity import VelocityStepper
from overparam.objectives.covariance_plan import CovariancePlan
from overparam.objectives.quadrature_plan import QuadraturePlan

RECORD = op.log_spaced(12)


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever the environment says: how many runs go on side by side, and whether their seconds overlap, hangs on it."""
    with op.threads(1):
        yield


def objective(kind, d):
    if kind == "mixture":
        return op.ScoreMatching(op.GaussianMixture([np.zeros(d), np.ones(d)]), rule=op.Auto(tol=1e-6))
    if kind == "KL":
        return op.KLDivergence(op.Gaussian(np.zeros(d)), rule=op.Auto(tol=1e-8))
    return op.ScoreMatching(op.Gaussian(np.zeros(d)), rule=op.Auto(tol=1e-8))


def same(run, other):
    for name in ("steps", "loss", "loss_error", "grad_norm", "params"):
        assert_array_equal(getattr(run, name), getattr(other, name))
    assert (run.status, run.message, run.evaluations) == (other.status, other.message, other.evaluations)


@pytest.mark.parametrize(("kind", "d"), [("one", 1), ("one", 2), ("one", 3), ("mixture", 1), ("KL", 2)])
def test_each_run_is_its_own(kind, d):
    starts = np.random.default_rng(d).normal(size=(4, 4, d)) * np.array([0.01, 0.5, 1.0, 1.5])[:, None, None]
    obj, settings = objective(kind, d), {"step_size": 0.05, "steps": 120, "record": RECORD}
    batch = op.gradient_descent(obj, starts, **settings)
    backwards = op.gradient_descent(obj, starts[::-1], **settings)[::-1]
    for run, again, start in zip(batch, backwards, starts, strict=True):
        same(run, again)
        same(run, op.gradient_descent(obj, start, **settings))


@pytest.mark.parametrize("driver", [op.gradient_descent, op.momentum])
@pytest.mark.parametrize("count", [1, 2])
def test_more_runs_than_go_on_side_by_side(driver, count):
    """Twenty runs, eight for each thread at a time, and some end early; schedules of step sizes have jobs of their own."""
    starts = np.random.default_rng(1).normal(size=(20, 3, 1)) * np.linspace(0.1, 2.0, 20)[:, None, None]
    obj = objective("one", 1)
    for size in (0.05, lambda step: 0.05 / (1 + step / 50)):
        settings = {"step_size": size, "steps": 150, "record": RECORD, "stop": lambda record: record.loss < 1e-3, "progress": False}
        with op.threads(count):
            batch = driver(obj, starts, **settings)
        assert {run.status for run in batch} == {"completed", "converged"}
        for run, start in zip(batch, starts, strict=True):
            same(run, driver(obj, start, **settings))


def test_a_bad_start_is_named():
    starts = np.array([[[0.5], [-0.4]], [[1e200], [-1e200]], [[0.5], [-0.4]]])
    with pytest.raises(ValueError) as caught:
        op.gradient_descent(objective("one", 1), starts, step_size=0.05, steps=50)
    assert "params0[1]" in caught.value.__notes__[0]


def test_what_had_ended_is_not_lost_with_a_bad_start():
    """Nine starts, of which eight go on side by side: the first have ended when the ninth cannot begin."""
    starts = np.array([[[0.5], [-0.4]]] * 8 + [[[1e200], [-1e200]]])
    with pytest.raises(ValueError) as caught:
        op.gradient_descent(objective("one", 1), starts, step_size=0.05, steps=20)
    runs = caught.value.runs
    assert runs and {run.status for run in runs} == {"completed"} and f"the {len(runs)} runs" in caught.value.__notes__[1]


def test_the_bar_counts_parts_of_runs(capsys):
    """Three long runs: it moves before the first has ended."""
    moved, update = [], batch._Part.update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch._Part, "update", lambda self, part: (moved.append(part), update(self, part)) and None)
        op.gradient_descent(objective("one", 1), np.random.default_rng(0).normal(size=(3, 2, 1)), step_size=0.05, steps=1000, progress=True)
    assert len(moved) > 30 and min(moved) > -1e-9 and abs(sum(moved) - 3) < 1e-9
    assert "/3 runs" in capsys.readouterr().err


def test_an_interrupt_while_an_ended_run_is_looked_at_ends_the_batch(monkeypatch):
    def pressed(self, state):
        raise KeyboardInterrupt

    monkeypatch.setattr(descent_driver._Descent, "rough_look", pressed)
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9, max_nodes=50))
    starts = np.array([[6.0], [6.0 + 1e-6]]) * np.ones((3, 1, 1))
    runs = op.gradient_descent(obj, starts, step_size=0.05, steps=5000, record=op.every(1000))
    assert [run.status for run in runs].count("too_hard") == 1 and runs[0].attributes["interrupted"]
    assert {run.status for run in runs[1:]} <= {"interrupted"}


def test_seconds_are_each_runs_own():
    """A run that waits for others does not count their time."""
    starts = np.random.default_rng(3).normal(size=(6, 3, 1))
    began = time.perf_counter()
    runs = op.gradient_descent(objective("one", 1), starts, step_size=0.05, steps=2000, record=RECORD)
    assert sum(run.wall_time for run in runs) <= time.perf_counter() - began
    assert min(run.wall_time for run in runs) > 0


def test_an_interrupt_between_jobs_keeps_all_runs_that_had_begun(monkeypatch):
    starts, rounds, run_jobs = np.random.default_rng(3).normal(size=(12, 3, 1)), [], descent.run

    def pressed(jobs, *more):
        rounds.append(len(jobs))
        if len(rounds) == 30:
            raise KeyboardInterrupt
        return run_jobs(jobs, *more)

    monkeypatch.setattr(descent, "run", pressed)
    runs = op.gradient_descent(objective("one", 1), starts, step_size=0.05, steps=10**6, record=RECORD)
    assert len(runs) == 8 and {run.status for run in runs} == {"interrupted"}
    for run, start in zip(runs, starts, strict=False):
        again = op.gradient_descent(objective("one", 1), start, step_size=0.05, steps=int(run.steps[-1]), record=op.every(10**6))
        assert run.steps[-1] > 0
        assert_array_equal(run.final, again.final)


def test_statuses_are_their_own():
    starts = [[[0.5], [-0.4]], [[80.0], [-80.0]], [[0.5], [-0.4]]]
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8, max_nodes=300))
    runs = op.gradient_descent(obj, starts, step_size=0.05, steps=50, stop=lambda record: record.loss < 0.02)
    assert [run.status for run in runs] == ["converged", "too_hard", "converged"]
    same(runs[0], runs[2])


@pytest.mark.parametrize("d", [2, 3])
def test_where_a_burst_pauses_does_not_matter(d, monkeypatch):
    """Compiled steps stop for the clock; the plan's axes are turned here, and going in and out of them rounds."""
    start = np.random.default_rng(d).normal(size=(5, d))
    obj, settings = objective("one", d), {"step_size": 0.05, "steps": 60, "record": op.every(60)}
    whole = op.gradient_descent(obj, start, **settings)
    moves, pieces = QuadraturePlan.moves, []

    def hasty(self, state, step_size, steps, ceiling):
        pieces.append(min(steps, 1 + len(pieces) % 3))
        return moves(self, state, step_size, pieces[-1], ceiling)

    monkeypatch.setattr(QuadraturePlan, "moves", hasty)
    hurried = op.gradient_descent(obj, start, **settings)
    assert len(pieces) > 25
    assert_array_equal(hurried.params, whole.params)
    assert_array_equal(hurried.loss, whole.loss)


@pytest.mark.parametrize("nesterov", [False, True])
def test_where_momentum_pauses_does_not_matter(nesterov, monkeypatch):
    """Velocities are turned into the plan's axes as well."""
    start = np.random.default_rng(2).normal(size=(5, 2))
    obj, settings = objective("one", 2), {"step_size": 0.01, "steps": 90, "record": op.every(90), "nesterov": nesterov}
    whole = op.momentum(obj, start, **settings)
    moves = VelocityStepper.moves
    monkeypatch.setattr(VelocityStepper, "moves", lambda self, state, steps: moves(self, state, min(steps, 3)))
    assert_array_equal(op.momentum(obj, start, **settings).params, whole.params)


def test_where_a_burst_pauses_does_not_matter_with_a_covariance(monkeypatch):
    """Spreads of the whitened space are looked at every so many steps, whenever the clock pauses them."""
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0], [[2.0, 0.5], [0.5, 1.0]]), rule=op.Auto(tol=1e-8))
    starts, settings = np.random.default_rng(7).normal(size=(2, 3, 2)), {"step_size": 0.05, "steps": 150, "record": op.every(150)}
    whole = op.gradient_descent(obj, starts, **settings)
    moves = CovariancePlan.moves
    monkeypatch.setattr(CovariancePlan, "moves", lambda self, state, size, steps, ceiling: moves(self, state, size, min(steps, 3), ceiling))
    for run, start in zip(whole, starts, strict=True):
        assert_array_equal(op.gradient_descent(obj, start, **settings).params, run.params)


def test_one_interrupt_ends_a_batch_of_flows():
    """Drivers without compiled jobs run to their end when they begin: what follows must not begin."""
    seen = []

    def pressed(record):
        seen.append(record.time)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return False

    runs = op.gradient_flow(objective("one", 1), np.ones((3, 2, 1)) * [[1.0], [-0.5]], t_end=10.0, stop=pressed)
    assert [run.status for run in runs] == ["interrupted"] and len(seen) == 5


def test_momentum_interrupted_while_a_plan_is_made_can_go_on(monkeypatch):
    renewed, calls = Gradients.renewed, []

    def pressed(self, state):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return renewed(self, state)

    monkeypatch.setattr(Gradients, "renewed", pressed)
    start = op.init.cluster(3, center=[4.0, 0.0], scale=1e-3, rng=0)
    run = op.momentum(objective("one", 2), start, step_size=0.01, steps=3000)
    assert run.status == "interrupted" and len(calls) == 7
    assert run.extend(steps=5).status == "completed"


def test_a_burst_returns_in_time():
    """However long its steps: at least one, and then when the time is up."""
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.GaussHermite(100))
    state = obj.start(np.random.default_rng(0).normal(size=(30, 2)))
    plan = obj.plan(state)
    capsule, _, box = plan.compiled
    centre, deviations = plan.enter(state)
    limits = (False, *box, np.zeros(30), -np.inf, np.inf)
    args = (capsule, centre, deviations, 1e-9, 10**9, *limits)
    began = time.process_time()
    done, reason, _ = descent.burst(*args, seconds=0.05)
    assert 1 <= done < 10**6
    assert reason == descent.REASONS["done"]
    assert time.process_time() - began < 1.0
    assert descent.burst(*args, seconds=0.0)[0] == 1
