"""Gradient descent: the loop's promises, exact tiny deviations, every way a run can end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

OBJ = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-11))
START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])


def by_hand(obj, params, step_size, steps):
    """All steps in Python, with a plan for every one."""
    path = [np.array(params, dtype=float)]
    for _ in range(steps):
        path.append(path[-1] - step_size * obj.grad(path[-1]))
    return np.array(path)


def same_run(one, two):
    assert one.status == two.status
    for name in ("steps", "times", "loss", "loss_error", "grad_norm", "centres", "deviations"):
        assert_array_equal(getattr(one, name), getattr(two, name))
    assert_array_equal(one.final, two.final)


class Quadratic(op.Objective):
    """A user's own objective: |params|^2."""

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params


# --- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, [0.6, 0.3, 0.1]])
@pytest.mark.parametrize("teacher", [op.Gaussian([0.3, 0.0]), op.GaussianMixture([[-1.0, 0.0], [0.8, 0.2]])])
def test_is_the_loop_of_exact_gradients(teacher, weights):
    obj = op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=1e-11))
    run = op.gradient_descent(obj, START, step_size=0.1, steps=60, record=op.every(7))
    path = by_hand(obj, START, 0.1, 60)
    assert run.status == "completed"
    assert run.steps.tolist() == [0, 7, 14, 21, 28, 35, 42, 49, 56, 60]
    # 60 steps of 0.1 with gradients to 2e-11 each on either side; the loss' curvature is below 10
    assert_allclose(np.asarray(run.params), path[run.steps], atol=60 * 0.1 * 4e-11 * 10)
    for record, step in enumerate(run.steps):
        value, grad = obj.value_and_grad(path[step])
        assert_allclose(run.loss[record], value, rtol=1e-8)
        assert_allclose(run.grad_norm[record], np.linalg.norm(grad), rtol=1e-8)
    assert (run.loss_error < 1.01e-11 * run.loss + 1e-14).all() and (run.loss_error > 0).all()
    assert_allclose(run.times, 0.1 * run.steps, rtol=1e-15)


def test_a_users_objective_runs_in_the_python_loop():
    run = op.gradient_descent(Quadratic(), START, step_size=0.125, steps=40, record=op.every(10))
    assert run.status == "completed" and run.problem == {"kind": "Quadratic"}
    assert_allclose(np.asarray(run.params), START * 0.75 ** np.array([0, 10, 20, 30, 40])[:, None, None], rtol=1e-13)
    assert np.isnan(run.loss_error).all()
    assert op.gradient_descent(Quadratic(), START, step_size=2.0, steps=400).status == "unstable"


def test_one_parameter_contracts_as_it_must():
    """n = 1: mu - mu* shrinks by (1 - 2 eta) a step."""
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([1.0, -1.0])), [[3.0, 2.0]], step_size=0.01, steps=500)
    assert_allclose(run.final, [[1, -1]] + 0.98**500 * np.array([[2.0, 3.0]]), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("scale", [1e-100, 1e-280])
def test_tiny_deviations_follow_the_first_order_law(n, scale):
    r"""\delta_i -> \delta_i + (4 eta |c|^2/n) P (\delta_i - mean), c -> (1 - 2 eta/n) c: exact to the order of the scale."""
    eta, steps = 0.05, 100
    centre = np.array([6.0, 0.0, 0.0])
    z = np.random.default_rng(1).standard_normal((n, 3))
    z -= z.mean(axis=0)
    obj = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=1e-12))
    run = op.gradient_descent(obj, op.init.around(centre, scale * z), step_size=eta, steps=steps)
    growth, at = 1.0, centre.copy()
    for _ in range(steps):
        growth *= 1 + 4 * eta * (at @ at) / n
        at *= 1 - 2 * eta / n
    state = run.final_state
    found = state.deviations - state.deviations.mean(axis=0)
    if state.basis is not None:
        found = found @ state.basis.T
    expected = scale * z * np.array([growth, 1.0, 1.0])
    assert growth > 1e8  # what a start rounded at 1e-16 would have lost
    # 100 steps, each row to 1e-12 of itself
    assert_allclose(found[:, 0], expected[:, 0], rtol=1e-9)
    # transverse deviations are neutral: they stay, to the tolerance of the row, which the longitudinal part dominates
    assert_allclose(found[:, 1:], expected[:, 1:], atol=1e-9 * np.abs(expected).max())
    assert_allclose(run.final.mean(axis=0), at, rtol=1e-9, atol=1e-12)


def test_coincident_parameters_stay_together():
    start = op.init.around([3.0, 1.0], np.zeros((4, 2)))
    for teacher in (op.Gaussian([0.0, 0.0]), op.GaussianMixture([[-1.0, 0.0], [1.0, 0.0]])):
        run = op.gradient_descent(op.ScoreMatching(teacher), start, step_size=0.1, steps=300)
        assert run.status == "completed"
        assert (np.ptp(np.asarray(run.params), axis=1) == 0).all()


def test_tolerance_hardly_moves_the_trajectory():
    start = op.init.cluster(n=5, center=[4.0, 0, 0], scale=1e-7, rng=0)
    objectives = [op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=tol)) for tol in (1e-10, 1e-12)]
    coarse, fine = (op.gradient_descent(obj, start, step_size=0.05, steps=2000) for obj in objectives)
    assert_allclose(coarse.loss, fine.loss, rtol=1e-8)
    assert_allclose(np.asarray(coarse.params), np.asarray(fine.params), atol=1e-8 * np.abs(fine.final).max())


def test_100_000_dimensions_stay_reduced():
    """Five points span five directions: the run equals the one in their span, and no record is stored in full."""
    d, n = 100_000, 5
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((d, 3)))[0]
    small = np.array([[4.0, 0.0, 0.0], [4.0, 0.3, 0.0], [4.1, 0.0, 0.2], [3.9, 0.1, 0.1], [4.0, -0.2, 0.1]])
    mean = rng.standard_normal(d)
    settings = {"step_size": 0.05, "steps": 300, "record": op.every(3)}
    rule = op.Auto(tol=1e-11)
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian(mean), rule=rule), mean + small @ basis.T, **settings)
    reduced = op.gradient_descent(op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=rule), small, **settings)
    assert run.status == "completed" and run.basis.shape == (d, 3)
    assert run.deviations.shape == (101, n, 3)
    stored = run.deviations.nbytes + run.centres.nbytes + run.basis.nbytes + run.origin.nbytes
    assert stored < 5 * d * 8  # the basis, the origin and little else; 101 full records would be 500 times d
    assert run.params.shape == (101, n, d) and run.params[50].shape == (n, d)
    final = (run.final - mean) @ basis
    assert_allclose(final, reduced.final, atol=1e-10)
    assert_allclose(run.loss, reduced.loss, rtol=1e-9)
    assert np.abs(run.final - mean - final @ basis.T).max() < 1e-10  # nothing outside the span


# --- records, stop, observe, progress --------------------------------------------------------------------------------


def test_first_and_last_step_are_always_recorded():
    for record in (op.every(1000), op.log_spaced(1), op.log_spaced(7), op.every(3)):
        run = op.gradient_descent(OBJ, START, step_size=0.05, steps=50, record=record)
        assert run.steps[0] == 0 and run.steps[-1] == 50 and (np.diff(run.steps) > 0).all()
        assert run.steps.tolist() == record.steps(50).tolist()


def test_no_steps_is_one_record():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=0)
    assert run.steps.tolist() == [0] and run.status == "completed"
    assert_array_equal(run.final, START)


def test_records_do_not_change_the_run():
    """A record ends a burst and nothing else: to rounding, for a new plan may be made there a step earlier."""
    one, many = (op.gradient_descent(OBJ, START, step_size=0.05, steps=200, record=op.every(k)) for k in (200, 1))
    assert_allclose(many.final, one.final, rtol=1e-9)


def test_stop_sees_a_record():
    seen = []

    def stop(record):
        seen.append(record.step)
        assert record.params.shape == START.shape and record.state.n == 3 and record.grad_norm > 0 and record.loss_error > 0
        assert record.time == pytest.approx(0.05 * record.step)
        assert_array_equal(np.asarray(record), record.params)
        return record.loss < 0.2

    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=5000, record=op.every(5), stop=stop)
    assert run.status == "converged" and str(run.steps[-1]) in run.message
    assert seen == run.steps.tolist()
    assert run.loss[-1] < 0.2 <= run.loss[-2]


def test_stop_at_the_start():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=100, stop=lambda record: True)
    assert run.status == "converged" and run.steps.tolist() == [0]


def test_observe():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=30, record=op.every(10),
                              observe={"norms": lambda p: np.linalg.norm(p, axis=1), "first": lambda p: p[0, 0],
                                       "large": lambda p: (p > 0).any()})
    assert run.observed["norms"].shape == (4, 3) and run.observed["first"].shape == (4,)
    assert_array_equal(run.observed["norms"], np.linalg.norm(np.asarray(run.params), axis=2))
    assert_array_equal(run.observed["first"], run.params[:, 0, 0])


def test_an_observer_cannot_change_the_run():
    def spoil(params):
        try:
            params[:] = 99.0
        except ValueError:
            pass
        return 0.0

    assert_array_equal(op.gradient_descent(OBJ, START, step_size=0.05, steps=30, observe={"x": spoil}).final,
                       op.gradient_descent(OBJ, START, step_size=0.05, steps=30).final)


def test_progress_is_silent_off_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr("overparam.drivers.loop._BAR_SECONDS", 0.0)
    for progress in (None, False):
        op.gradient_descent(OBJ, START, step_size=0.05, steps=50, progress=progress)
    found = capfd.readouterr()
    assert found.out == "" and found.err == ""
    op.gradient_descent(OBJ, START, step_size=0.05, steps=50, progress=True)
    found = capfd.readouterr()
    assert found.out == "" and "/50" in found.err


def test_input_is_neither_changed_nor_kept():
    start = START.copy()
    run = op.gradient_descent(OBJ, start, step_size=0.05, steps=5)
    assert_array_equal(start, START)
    start[:] = 0
    assert_array_equal(run.params[0], START)


# --- extend, save, batches, threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [START, op.init.around([4.0, 0.0], 1e-50 * START)], ids=["array", "state"])
def test_extend_is_one_long_run(start, tmp_path):
    """To the tolerance, for the plan is made anew where the pieces join: 1e-9 here; what was recorded before is kept as it was."""
    settings = {"step_size": 0.05, "record": op.every(25)}
    whole = op.gradient_descent(OBJ, start, steps=200, **settings)
    half = op.gradient_descent(OBJ, start, steps=100, **settings)
    half.save(tmp_path / "half.nc")
    for run in (half.extend(steps=100), op.load(tmp_path / "half.nc").extend(steps=100), half.extend(steps=60).extend(steps=40)):
        assert run.status == "completed"
        assert set(whole.steps) <= set(run.steps) and run.times[-1] == whole.times[-1]
        same = np.isin(run.steps, whole.steps)
        assert_array_equal(run.loss[run.steps <= 100], half.loss)
        assert_allclose(run.loss[same], whole.loss, rtol=1e-9)
        assert_allclose(run.deviations[-1] - run.deviations[-1].mean(axis=0), whole.deviations[-1] - whole.deviations[-1].mean(axis=0),
                        rtol=1e-8, atol=1e-9 * np.abs(whole.deviations[-1]).max())
        assert_allclose(run.final, whole.final, rtol=1e-9, atol=1e-12)
        assert run.settings["steps"] == 200


def test_extend_by_nothing():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=20)
    again = run.extend(steps=0)
    assert_array_equal(again.steps, run.steps)
    assert_array_equal(again.final, run.final)


def test_extend_a_users_objective(tmp_path):
    run = op.gradient_descent(Quadratic(), START, step_size=0.125, steps=10)
    run.save(tmp_path / "own.nc")
    loaded = op.load(tmp_path / "own.nc")
    with pytest.raises(ValueError, match="objective"):
        loaded.extend(steps=10)
    again = loaded.extend(steps=10, objective=Quadratic())
    assert_allclose(again.final, START * 0.75**20, rtol=1e-13)


def test_extend_refuses_what_would_not_fit():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=20)
    with pytest.raises(ValueError, match=r"step_size.*must stay 0.05.*got 0.1"):
        run.extend(steps=10, step_size=0.1)
    with pytest.raises(ValueError, match=r"steps must be a whole number not below 0; got -1"):
        run.extend(steps=-1)
    unstable = op.gradient_descent(Quadratic(), START, step_size=2.0, steps=400)
    with pytest.raises(ValueError, match="unstable"):
        unstable.extend(steps=10)


def test_batch_of_starts():
    batch = np.stack([START, START + 0.5, -START])
    runs = op.gradient_descent(OBJ, batch, step_size=0.05, steps=40)
    assert isinstance(runs, list) and len(runs) == 3
    for run, start in zip(runs, batch):
        same_run(run, op.gradient_descent(OBJ, start, step_size=0.05, steps=40))
    assert len(op.gradient_descent(OBJ, batch[:1], step_size=0.05, steps=4)) == 1


def test_batch_of_states():
    states = [op.init.around([4.0, 0.0], 1e-60 * START), op.init.around([3.0, 1.0], 1e-60 * START[:2])]
    runs = op.gradient_descent(OBJ, states, step_size=0.05, steps=40)
    assert [run.n for run in runs] == [3, 2]
    for run, state in zip(runs, states):
        same_run(run, op.gradient_descent(OBJ, state, step_size=0.05, steps=40))


def test_a_bad_start_in_a_batch_is_found_before_any_work():
    looked = []
    states = [op.State.of(START), op.State.of(np.ones((2, 3)))]
    with pytest.raises(ValueError, match=r"3 coordinates.*2 dimension"):
        op.gradient_descent(OBJ, states, step_size=0.05, steps=4, observe={"x": lambda p: looked.append(1) or 0.0})
    assert not looked


def test_runs_repeat_to_the_last_bit_also_in_threads():
    starts = [START, op.init.cluster(n=4, center=[3.0, 0], scale=1e-3, rng=1)] * 3

    def run(start):
        return op.gradient_descent(OBJ, start, step_size=0.05, steps=300, record=op.every(50))

    alone = [run(start) for start in starts[:2]] * 3
    with ThreadPoolExecutor(4) as pool:
        for one, two in zip(alone, pool.map(run, starts)):
            same_run(one, two)


# --- how a run ends --------------------------------------------------------------------------------------------------


def all_finite(run):
    return all(np.isfinite(getattr(run, name)).all() for name in ("times", "loss", "grad_norm", "centres", "deviations", "weights")) \
        and not np.isnan(run.loss_error).any() and np.isfinite(run.final).all()


def test_too_large_a_step_size_on_the_papers_start():
    """eta = 6 at M = 6: the spread reaches 1e63 while still finite."""
    start = op.init.cluster(n=5, center=[6.0, 0, 0], scale=1e-7, rng=0)
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian(np.zeros(3))), start, step_size=6.0, steps=20_000)
    assert run.status in ("unstable", "too_hard")
    assert "step size" in run.message or "max_nodes" in run.message
    assert run.steps[-1] < 100 and all_finite(run)


@pytest.mark.parametrize("step_size", [3.0, 50.0, 1e10, 1e150, 1e308])
@pytest.mark.parametrize("start", [[[2.0], [1.5]], [[3.0], [-2.9]], [[2.0]]])
def test_absurd_step_sizes_end_soon_and_finite(step_size, start):
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8, max_nodes=100_000)), start,
                              step_size=step_size, steps=10_000)
    assert run.status in ("unstable", "too_hard", "completed")
    if len(start) == 1 or step_size > 1e9:
        assert run.status in ("unstable", "too_hard")
    assert all_finite(run) and (run.message or run.status == "completed")


def test_overflow_in_a_users_objective():
    for step_size in (1e160, 1e308):
        run = op.gradient_descent(Quadratic(), START, step_size=step_size, steps=100)
        assert run.status == "unstable" and np.isfinite(run.loss).all() and np.isfinite(run.final).all()


def test_nan_from_a_users_objective():
    class Breaks(Quadratic):
        def value_and_grad(self, params):
            value, grad = super().value_and_grad(params)
            return (value if value > 1 else np.nan), grad

    run = op.gradient_descent(Breaks(), START, step_size=0.05, steps=100, record=op.every(40))
    assert run.status == "unstable" and np.isfinite(run.loss).all() and len(run) >= 1
    with pytest.raises(ValueError, match="params0"):
        op.gradient_descent(Breaks(), 0.1 * START, step_size=0.05, steps=10)


def test_an_error_later_on_keeps_what_was_found():
    def fussy(params):
        if params[0, 0] < 1.5:
            raise RuntimeError("enough of this")
        return params[0, 0]

    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=1000, record=op.every(1), observe={"x": fussy})
    assert run.status == "failed" and "RuntimeError: enough of this" in run.message
    assert len(run) > 1 and (run.observed["x"] >= 1.5).all() and all_finite(run)
    assert len(run.steps) == len(run.observed["x"])


def test_an_error_at_once_is_raised():
    def broken(params):
        raise RuntimeError("never")

    with pytest.raises(ValueError, match=r"observe\['x'\] failed at step 0: RuntimeError: never"):
        op.gradient_descent(OBJ, START, step_size=0.05, steps=10, observe={"x": broken})


def test_one_interrupt_ends_a_batch():
    def interrupt(record):
        if record.step == 20:
            raise KeyboardInterrupt
        return False

    runs = op.gradient_descent(OBJ, np.stack([START, START, START]), step_size=0.05, steps=40, record=op.every(10), stop=interrupt)
    assert runs and {run.status for run in runs} == {"interrupted"}  # all that had begun
    assert runs[0].steps[-1] == 20 and all(run.steps[-1] <= 20 and all_finite(run) for run in runs)


@pytest.mark.parametrize("progress", ["x", 1, 0.0])
def test_progress_is_none_true_or_false(progress):
    with pytest.raises(ValueError, match="progress must be None"):
        op.gradient_descent(OBJ, START, step_size=0.05, steps=10, progress=progress)


def test_sampling_takes_over_where_auto_cannot_go_on():
    """Allowed to sample, a run whose nodes run out goes on with a standard error and says since when; else it ends too_hard."""
    params = np.random.default_rng(0).normal(size=(4, 3))
    target = op.Gaussian(np.zeros(3))
    few = op.gradient_descent(op.ScoreMatching(target, rule=op.Auto(tol=1e-8, max_nodes=1000)), params, step_size=0.1, steps=20)
    assert few.status == "too_hard"
    obj = op.ScoreMatching(target, rule=op.Auto(tol=1e-8, max_nodes=1000, sampling=True))
    sampled = op.gradient_descent(obj, params, step_size=0.1, steps=20)
    exact = op.gradient_descent(op.ScoreMatching(target, rule=op.Auto(tol=1e-8)), params, step_size=0.1, steps=20)
    assert sampled.status == "completed" and sampled.attributes["sampled_from_step"] == 0
    assert (np.abs(sampled.loss - exact.loss) < 6 * sampled.loss_error + 1e-3 * exact.loss).all()  # the run drifts a little as well
    assert (sampled.loss_error > 100 * exact.loss_error).all()
    assert "sampled_from_step" not in exact.attributes


def test_observations_that_change_shape_fail():
    lengths = iter([1, 1, 2, 1])
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=30, record=op.every(10), observe={"x": lambda p: np.zeros(next(lengths))})
    assert run.status == "failed" and "same shape" in run.message and len(run) == 2


def test_too_hard_keeps_the_run_so_far():
    """A grid of 150 nodes serves while the two stay together and no longer when they have parted."""
    obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9, max_nodes=50))
    run = op.gradient_descent(obj, [[6.0], [6.0 + 1e-6]], step_size=0.05, steps=5000, record=op.every(10))
    assert run.status == "too_hard" and "max_nodes=50" in run.message and all_finite(run)
    assert 0 < run.steps[-1] < 5000
    again = run.extend(steps=100, objective=op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9)))
    assert again.status == "completed" and again.steps[-1] == run.steps[-1] + 100


def test_too_hard_from_the_start_is_a_record():
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(max_nodes=20))
    run = op.gradient_descent(obj, START, step_size=0.05, steps=100)
    assert run.status == "too_hard" and run.steps.tolist() == [0] and all_finite(run)
    assert run.loss_error[0] > 0  # a standard error: the loss was sampled


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("where", ["observe", "stop"])
def test_ctrl_c_keeps_the_run_so_far(where, stubborn):
    """Also where the function that is interrupted would be again."""
    calls = []

    def interrupt(_):
        calls.append(1)
        if len(calls) == 4 or (stubborn and len(calls) > 4):
            raise KeyboardInterrupt
        return 0

    settings = {"observe": {"x": interrupt}} if where == "observe" else {"stop": interrupt}
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=500, record=op.every(10), **settings)
    assert run.status == "interrupted" and run.steps[-1] in (20, 30) and "of 500" in run.message
    assert all_finite(run) and len(run.observed.get("x", run.steps)) == len(run)
    whole = op.gradient_descent(OBJ, START, step_size=0.05, steps=100, record=op.every(10))
    again = run.extend(steps=100 - int(run.steps[-1]))
    assert again.status == "completed"
    assert_allclose(again.final, whole.final, rtol=1e-9)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT of a child is another thing on Windows")
def test_a_real_sigint(tmp_path):
    code = textwrap.dedent("""
        import overparam as op
        obj = op.ScoreMatching(op.Gaussian([0.0]))
        run = op.gradient_descent(obj, [[2.0], [1.5], [0.3]], step_size=1e-4, steps=10**9, progress=False,
                                  observe={"x": lambda p: print("seen", flush=True) or 0.0}, record=op.every(10**5))
        print(run.status, int(run.steps[-1]) >= 10**5, len(run) == len(run.observed["x"]))
    """)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             cwd=tmp_path)
    try:
        for _ in range(2):  # at the start, and after 100 000 steps
            assert child.stdout.readline() == "seen\n"
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.communicate()
    assert out.splitlines()[-1] == "interrupted True True", (out, err)
    assert child.returncode == 0


# --- bad input -------------------------------------------------------------------------------------------------------

GOOD = {"step_size": 0.1, "steps": 10}
BAD = {
    "step size 0": ({"step_size": 0.0}, r"step_size must be a finite number above 0; got 0.0"),
    "negative step size": ({"step_size": -0.1}, r"step_size must be a finite number above 0; got -0.1"),
    "NaN step size": ({"step_size": np.nan}, r"step_size must be a finite number above 0; got nan"),
    "infinite step size": ({"step_size": np.inf}, r"step_size must be a finite number above 0; got inf"),
    "step size of text": ({"step_size": "0.1"}, r"step_size must be one real number; got '0.1'"),
    "complex step size": ({"step_size": 0.1j}, r"step_size must be one real number; got 0.1j"),
    "step sizes": ({"step_size": [0.1, 0.2]}, r"step_size must be one real number; got \[0.1, 0.2\]"),
    "no step size": ({"step_size": None}, r"step_size must be one real number; got None"),
    "negative steps": ({"steps": -1}, r"steps must be a whole number not below 0; got -1"),
    "half a step": ({"steps": 1.5}, r"steps must be a whole number; got 1.5"),
    "infinite steps": ({"steps": np.inf}, r"steps must be a whole number; got inf"),
    "true steps": ({"steps": True}, r"steps must be a whole number; got True"),
    "too many steps": ({"steps": 10**19}, r"steps must be a whole number below 2\*\*62; got 10{19}"),
    "record": ({"record": 10}, r"record must be a record schedule.*got 10"),
    "too many records": ({"steps": 10**10, "record": op.every(1)}, r"record every\(1\).*more than 1e\+08 records"),
    "stop": ({"stop": 1e-6}, r"stop must be a function of a record.*got 1e-06"),
    "observe": ({"observe": {"x": 3}}, r"observe must be a dict of functions by name.*got \{'x': 3\}"),
    "observe, a function": ({"observe": np.linalg.norm}, r"observe must be a dict of functions"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case):
    settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        op.gradient_descent(Untouched(), START, **{**GOOD, **settings})


class Untouched(op.Objective):
    """An objective that must not be asked anything."""

    def value_and_grad(self, params):
        raise AssertionError("work was done before the arguments were checked")

    plan = start = value_and_grad


@pytest.mark.parametrize(("params0", "message"), [
    ([1.0, 2.0], r"params0 must have 2 or 3 dimension.*\(2,\)"),
    (np.zeros((1, 2, 3, 4)), r"params0 must have 2 or 3 dimension"),
    (np.zeros((0, 3, 2)), r"params0 is empty"),
    ([], r"params0"),
    ([[np.nan, 0.0]], r"params0 must be finite; entry \(0, 0\) is nan"),
    (START + 0j, r"params0 must hold real numbers; got dtype complex128"),
    (None, r"params0 must hold real numbers"),
    ("start", r"params0 must hold real numbers"),
    (np.zeros((2, 3)), r"params.* have 3 coordinates.*2 dimension"),
])
def test_bad_starts(params0, message):
    with pytest.raises(ValueError, match=message):
        op.gradient_descent(OBJ, params0, **GOOD)


def test_bad_objective():
    with pytest.raises(ValueError, match=r"objective must be an overparam.Objective.*got Gaussian"):
        op.gradient_descent(op.Gaussian([0.0, 0.0]), START, **GOOD)


def test_settings_are_keywords_only():
    with pytest.raises(TypeError):
        op.gradient_descent(OBJ, START, 0.1, 10)


def test_result_carries_what_is_needed_to_do_it_again():
    run = op.gradient_descent(OBJ, START, step_size=0.05, steps=10)
    assert run.attributes["tolerance"] == 1e-11 and "Auto" in run.attributes["rule"]
    assert run.attributes["versions"]["overparam"] == op.__version__
    assert run.settings["step_size"] == 0.05 and run.settings["record"] == {"kind": "log_spaced", "count": 200}
    assert run.evaluations >= 10 and run.wall_time > 0
    assert_allclose(run.weights, np.full(3, 1 / 3))
    assert "completed" in repr(run) and isinstance(io.StringIO(run.summary()).read(), str)


def test_axes_without_any_spread_leave_room_for_the_one_that_has():
    """One row passes through 0 while two axes of spread 0 ask for room as well: the tolerance is shared among all three."""
    deviations = np.zeros((5, 3))
    deviations[0, 0] = -2.4e-7
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian(np.zeros(3))), op.init.around([4.0, 0.0, 0.0], deviations), step_size=0.01,
                              steps=2000)
    assert run.status == "completed" and op.regimes.classify(run).name == "all converge"
