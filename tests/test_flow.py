"""Gradient flow: against small steps, another integrator, closed forms and late laws; every way a run can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import solve_ivp

import overparam as op
from overparam import _reference as twin

START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])
OBJ = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-12))
LINE = op.ScoreMatching(op.Gaussian([0.0]))
FEW = op.log_spaced(20)


def by_another_integrator(start, t_end, weights=None, teacher=None):
    """SciPy's DOP853 in plain variables on the NumPy twin, 60 x 60 nodes."""
    teacher = op.Gaussian(np.zeros(2)) if teacher is None else teacher
    n = len(start)
    weights = np.full(n, 1 / n) if weights is None else np.asarray(weights)
    axis, step = np.linspace(-9.0, 9.0, 60, retstep=True)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    squares = ((nodes[:, None] - teacher.means) ** 2).sum(axis=2)
    density = step**2 * np.exp(-squares / 2) @ teacher.weights / (2 * np.pi)

    def slope(_, y):
        return -twin.score_matching(nodes, density, nodes + teacher.score(nodes), y.reshape(n, 2), np.log(weights))[1].ravel()

    found = solve_ivp(slope, (0.0, t_end), start.ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return found.y[:, -1].reshape(n, 2)


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_is_the_limit_of_gradient_descent():
    flow = op.gradient_flow(OBJ, START, t_end=8.0, rtol=1e-10, record=FEW).final
    steps = (0.04, 0.02, 0.01, 0.005)
    runs = [op.gradient_descent(OBJ, START, step_size=h, steps=round(8 / h), record=op.log_spaced(2)).final for h in steps]
    errors = [np.abs(run - flow).max() for run in runs]
    assert_allclose(np.divide(errors[:-1], errors[1:]), 2.0, rtol=0.005)  # first order in the step size
    first = [2 * small - large for large, small in pairwise(runs)]
    second = [(4 * small - large) / 3 for large, small in pairwise(first)]
    assert_allclose((8 * second[1] - second[0]) / 7, flow, atol=1e-9)


@pytest.mark.parametrize("weights", [None, [0.6, 0.3, 0.1]])
def test_agrees_with_another_integrator(weights):
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), weights=weights, rule=op.Auto(tol=1e-11))
    flow = op.gradient_flow(obj, START, t_end=4.0, rtol=1e-10, record=FEW)
    assert_allclose(flow.final, by_another_integrator(START, 4.0, weights), atol=2e-9)


def test_a_mixture_teacher():
    teacher = op.GaussianMixture([[-1.0, 0.0], [0.8, 0.2]], weights=[0.4, 0.6])
    flow = op.gradient_flow(op.ScoreMatching(teacher, rule=op.Auto(tol=1e-9)), START, t_end=4.0, rtol=1e-8, record=FEW)
    assert flow.status == "completed"
    assert_allclose(flow.final, by_another_integrator(START, 4.0, teacher=teacher), atol=2e-7)


def test_one_parameter():
    """n = 1: the loss is |mu|^2 and mu falls like e^{-2t}."""
    flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([1.0, -1.0])), [[3.0, 2.0]], t_end=8.0, rtol=1e-10, record=op.every(1))
    assert_array_equal(flow.times, np.arange(9.0))
    assert_allclose(flow.params[:] - [1.0, -1.0], np.array([2.0, 3.0]) * np.exp(-2 * flow.times)[:, None, None], rtol=1e-7, atol=1e-9)


def test_coincident_parameters_stay_together():
    """The centre falls like e^{-2t/n}, and nothing splits what coincides."""
    flow = op.gradient_flow(OBJ, op.init.around([3.0, 1.0], np.zeros((4, 2))), t_end=30.0, rtol=1e-10, record=FEW)
    assert (np.ptp(flow.params[:], axis=1) == 0).all()
    assert_allclose(flow.params[:][:, 0], np.exp(-flow.times / 2)[:, None] * [3.0, 1.0], rtol=1e-8)
    mixture = op.ScoreMatching(op.GaussianMixture([[-1.0, 0.0], [1.0, 0.0]]), rule=op.Auto(tol=1e-8))
    assert (np.ptp(op.gradient_flow(mixture, op.init.around([3.0, 1.0], np.zeros((4, 2))), t_end=5.0, record=FEW).final, axis=0) == 0).all()


@pytest.mark.parametrize("log_scale", [np.log(1e-200), -2000.0])
def test_small_spreads_follow_the_first_order_law(log_scale):
    """Deviations along the centre grow by exp(M0^2 - M(t)^2); transverse ones keep still; the centre falls like e^{-2t/n}."""
    n, centre = 4, np.array([6.0, 0.0])
    z = np.array([[1.0, 0.5], [-2.0, 0.3], [0.7, -1.0], [0.3, 0.2]])
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-11))
    flow = op.gradient_flow(obj, op.init.around(centre, z, log_scale=log_scale), t_end=20.0, rtol=1e-11, record=op.every(2))
    for state, t in zip(flow.states, flow.times):
        middle = 6.0 * np.exp(-2 * t / n)
        deviations = state.deviations - state.deviations.mean(axis=0)
        if state.basis is not None:
            deviations = deviations @ state.basis.T
        with np.errstate(divide="ignore"):
            growth = np.log(np.abs(deviations)) + state.log_scale - np.log(np.abs(z)) - log_scale
        assert_allclose(growth[:, 0], 36 - middle**2, rtol=0, atol=1e-8)
        assert_allclose(growth[:, 1], 0.0, rtol=0, atol=1e-8)
        assert_allclose(state.params.mean(axis=0)[0], middle, rtol=1e-9)


def test_means_without_weight_stand_still():
    near = np.array([[5.0, 0.0], [5.0, 1e-9], [5.0 + 1e-9, 0.0]])
    both = op.ScoreMatching(op.Gaussian([0.0, 0.0]), weights=[1 / 3, 1 / 3, 1 / 3, 0.0])
    run = op.gradient_flow(both, np.vstack([near, [[3.0, 1.0]]]), t_end=1e4, record=FEW)
    alone = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0, 0.0])), near, t_end=1e4, record=FEW)
    assert_allclose(run.loss, alone.loss, rtol=1e-7)
    assert_allclose(run.final[:3], alone.final, atol=1e-6)
    assert_allclose(run.params[:][:, 3], np.full((len(run), 2), [3.0, 1.0]), rtol=1e-14)


def test_100_000_dimensions_stay_reduced():
    d = 100_000
    rng = np.random.default_rng(0)
    basis, mean = np.linalg.qr(rng.standard_normal((d, 2)))[0], rng.standard_normal(d)
    run = op.gradient_flow(op.ScoreMatching(op.Gaussian(mean)), mean + START @ basis.T, t_end=5.0, record=FEW)
    small = op.gradient_flow(op.ScoreMatching(op.Gaussian(np.zeros(2))), START, t_end=5.0, record=FEW)
    assert run.basis.shape == (d, 2)
    assert_allclose((run.final - mean) @ basis, small.final, atol=1e-7)
    assert_allclose(run.loss, small.loss, rtol=1e-7)


def test_sampled_rules():
    """Until its points are turned with the means, a sampled rule makes the loss a function like any other; Auto may fall back on one."""
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.MonteCarlo(4000, rng=0))
    flow = op.gradient_flow(obj, START, t_end=0.1, rtol=1e-9, record=op.log_spaced(3))
    slow = op.gradient_descent(obj, START, step_size=5e-4, steps=200, record=op.log_spaced(2))
    fast = op.gradient_descent(obj, START, step_size=1e-3, steps=100, record=op.log_spaced(2))
    assert_allclose(flow.final, 2 * slow.final - fast.final, atol=1e-6)
    three = np.random.default_rng(0).normal(size=(4, 3))
    target = op.Gaussian(np.zeros(3))
    hard = op.gradient_flow(op.ScoreMatching(target, rule=op.Auto(tol=1e-8, max_nodes=1000)), three, t_end=1.0, record=FEW)
    assert hard.status == "too_hard" and "max_nodes=1000" in hard.message and len(hard) == 1
    sampling = op.ScoreMatching(target, rule=op.Auto(tol=1e-8, max_nodes=1000, sampling=True))
    flow = op.gradient_flow(sampling, three, t_end=0.5, rtol=1e-5, record=op.log_spaced(3))
    exact = op.gradient_flow(op.ScoreMatching(target, rule=op.Auto(tol=1e-6)), three, t_end=0.5, rtol=1e-6, record=op.log_spaced(3))
    assert flow.status == "completed" and flow.attributes["sampled_from_step"] == 0
    assert_allclose(flow.loss, exact.loss, rtol=5e-3)


class Quadratic(op.Objective):
    """A user's own objective: |params|^2."""

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params


def test_a_users_objective(tmp_path):
    flow = op.gradient_flow(Quadratic(), START, t_end=4.0, rtol=1e-10, record=op.every(1))
    assert flow.status == "completed" and np.isnan(flow.loss_error).all()
    assert_allclose(flow.params[:], START * np.exp(-2 * flow.times)[:, None, None], rtol=1e-8, atol=1e-10)
    flow.save(tmp_path / "run.nc")
    assert_allclose(op.load(tmp_path / "run.nc").extend(t_end=5.0, objective=Quadratic()).final, START * np.exp(-10), rtol=1e-7)


# --- the end of time -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_law_where_all_converge(n):
    """L = n^2 / (64 t^2) from spreads of order one."""
    flow = op.gradient_flow(LINE, np.linspace(-1.0, 1.0, n)[:, None] + 0.05, t_end=1e14, record=op.log_spaced(100))
    slopes, late = op.rates.local_slope(flow), flow.times >= 1e8
    assert flow.status == "completed"
    assert_allclose(slopes.slope[slopes.times >= 1e8], -2.0, atol=1e-3)
    assert_allclose(flow.loss[late] * 64 * flow.times[late] ** 2 / n**2, 1.0, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_law_where_one_converges(n):
    """Slope -1 - O(1/ln t), L t r^2/16 -> m, and a loss that is the same on a finer and far wider grid."""
    flow = op.gradient_flow(LINE, np.r_[0.3, np.linspace(5.5, 6.5, n - 1)][:, None], t_end=1e14)
    assert flow.status == "completed"
    assert -1.06 < op.rates.fit_power_law(flow, window=(1e11, 1e13)).exponent < -1.02
    radius = np.abs(flow.final[1:, 0])
    assert_allclose(flow.loss[-1] * 1e14 / 16, (radius**-2).sum(), rtol=0.08)
    for rule in (op.Auto(tol=1e-12), op.Trapezoid(4000, half_width=18.0)):
        value, grad = op.ScoreMatching(op.Gaussian([0.0]), rule=rule).value_and_grad(flow.final_state)
        assert_allclose(flow.loss[-1], value, rtol=1e-6)
        assert (np.abs(grad[1:]) > 0).all()
    assert (flow.loss_error <= 1e-10 * flow.loss).all()


def test_bounds_hold_to_the_end():
    """A plan made where the loss was larger does not serve for ever: late bounds are as good as early ones."""
    flow = op.gradient_flow(LINE, [[0.9], [-0.8], [0.1]], t_end=1e12, record=op.log_spaced(40))
    assert (flow.loss_error <= 1.01e-10 * flow.loss).all()


def test_deviations_before_and_after_the_crossing():
    """Transverse deviations of 1e-4 wait until 8 t lambda / n is of order one, then fall with the rest: S^-1 = S_0^-1 + 8t/n."""
    n = 3
    start = np.array([[0.6, 1e-4], [-0.5, -2e-4], [-0.1, 1e-4]])
    flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0, 0.0])), start, t_end=1e12, record=op.log_spaced(60))
    second = np.einsum("tia,tib->tab", flow.params[:], flow.params[:]) / n
    assert_allclose(8 * flow.times[-1] / n * second[-1], np.eye(2), atol=1e-4)
    inverse = np.linalg.inv(second)[:, 1, 1]
    early = (flow.times > 1e5)
    grown = inverse[early] - inverse[early][0]
    assert_allclose(grown[10:], 8 / n * (flow.times[early] - flow.times[early][0])[10:], rtol=1e-3)


# --- records, stop, observe, extend, batches -------------------------------------------------------------------------


def test_records():
    flow = op.gradient_flow(LINE, [[2.0], [1.0]], t_end=10.0, record=op.every(3))
    assert_array_equal(flow.times, [0, 3, 6, 9, 10])
    assert (np.diff(flow.steps) > 0).all() and flow.steps[0] == 0
    dense = op.gradient_flow(LINE, [[2.0], [1.0]], t_end=10.0, record=op.log_spaced(150))
    assert dense.times[0] == 0 and dense.times[-1] == 10.0 and len(dense) == 151
    assert_allclose(dense.final, flow.final, atol=1e-7)
    ratios = dense.times[2:] / dense.times[1:-1]
    assert_allclose(ratios, ratios[0], rtol=1e-9)
    short = op.gradient_flow(LINE, [[2.0], [1.0]], t_end=1e-9)
    assert short.status == "completed" and short.times[-1] == 1e-9


def test_stop_and_observe():
    flow = op.gradient_flow(LINE, [[2.0], [1.0]], t_end=1e6, record=op.every(5), stop=lambda record: record.loss < 1e-3,
                            observe={"mean": lambda params: params.mean()})
    assert flow.status == "converged" and "flow time" in flow.message
    assert flow.loss[-1] < 1e-3 <= flow.loss[-2]
    assert_allclose(flow.observed["mean"], flow.params[:].mean(axis=(1, 2)))


def test_extend_is_one_long_run(tmp_path):
    start = op.init.around([4.0], 1e-8 * np.array([[1.0], [-2.0], [1.0]]))
    first = op.gradient_flow(LINE, start, t_end=3.0, rtol=1e-9, record=FEW)
    first.save(tmp_path / "run.nc")
    whole = op.gradient_flow(LINE, start, t_end=1e8, rtol=1e-9, record=FEW)
    for run in (first, op.load(tmp_path / "run.nc")):
        longer = run.extend(t_end=1e8)
        assert longer.status == "completed" and longer.times[-1] == 1e8 and (np.diff(longer.times) > 0).all()
        assert (np.diff(longer.steps) >= 0).all() and longer.settings["t_end"] == 1e8
        assert_allclose(longer.loss[-1], whole.loss[-1], rtol=1e-6)
    looser = first.extend(t_end=5.0, rtol=1e-4, record=op.every(1))
    assert looser.settings["rtol"] == 1e-4 and looser.times[-2:].tolist() == [4.0, 5.0]


def test_batches():
    starts = np.stack([START, START + 0.1])
    runs = op.gradient_flow(OBJ, starts, t_end=1.0, rtol=1e-6, record=FEW)
    assert [run.status for run in runs] == ["completed"] * 2
    assert_array_equal(runs[1].final, op.gradient_flow(OBJ, starts[1], t_end=1.0, rtol=1e-6, record=FEW).final)
    states = op.gradient_flow(LINE, [op.init.around([2.0], [[1e-9], [-1e-9]]), op.init.around([1.0], [[0.1], [0.2], [0.3]])], t_end=1.0)
    assert [run.n for run in states] == [2, 3]


def test_verify_divides_both_tolerances():
    flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-7)), [[2.0], [1.0], [-1.5]], t_end=20.0, rtol=1e-5,
                            record=FEW)
    found = op.verify(flow)
    assert found.status == "completed" and len(found.times) == len(flow) and found.verified_tol == pytest.approx(1e-9)
    assert 1e-8 < found.params_difference.max() < 1e-2  # the integrator's part is seen: the rule alone would leave 1e-7


# --- the ways a run ends ---------------------------------------------------------------------------------------------


def test_a_maximum_of_work():
    flow = op.gradient_flow(OBJ, START, t_end=1e6, max_evaluations=300)
    assert flow.status == "too_hard" and "max_evaluations=300" in flow.message and "was reached" in flow.message
    assert 0 < flow.times[-1] < 1e6 and flow.evaluations < 320
    again = flow.extend(t_end=float(flow.times[-1]) * 1.5, max_evaluations=5000)
    assert again.status == "completed"


@pytest.mark.parametrize("where", ["observe", "stop"])
def test_ctrl_c_keeps_the_run_so_far(where):
    calls = []

    def interrupt(_):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 0

    settings = {"observe": {"x": interrupt}} if where == "observe" else {"stop": interrupt}
    run = op.gradient_flow(OBJ, START, t_end=50.0, rtol=1e-6, record=op.every(1), **settings)
    assert run.status == "interrupted" and run.times[-1] in (2.0, 3.0) and np.isfinite(run.loss).all()
    assert run.extend(t_end=5.0).status == "completed"


@pytest.mark.skipif(os.name == "nt", reason="SIGINT of a child is another thing on Windows")
def test_a_real_sigint(tmp_path):
    code = textwrap.dedent("""
        import time
        import overparam as op
        class Slow(op.Objective):
            def value_and_grad(self, params):
                time.sleep(0.01)
                return float((params**2).sum()), 2 * params
        run = op.gradient_flow(Slow(), [[2.0], [1.5]], t_end=1e6, rtol=1e-12, progress=False,
                               observe={"x": lambda p: print("started", flush=True) or 0.0}, record=op.every(10**6))
        print(run.status, len(run))
    """)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert child.stdout.readline() == "started\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.communicate()
    assert out.splitlines()[-1].startswith("interrupted"), (out, err)
    assert child.returncode == 0


def test_an_objective_that_fails_later_on():
    class Failing(Quadratic):
        def value_and_grad(self, params):
            if np.abs(params).max() < 0.5:
                raise ZeroDivisionError("no more")
            return super().value_and_grad(params)

    run = op.gradient_flow(Failing(), START, t_end=10.0, record=op.log_spaced(50))
    assert run.status == "failed" and "no more" in run.message and len(run) > 1


class Untouched(op.Objective):
    """An objective that must not be asked anything."""

    def value_and_grad(self, params):
        raise AssertionError("work was done before the arguments were checked")

    plan = start = value_and_grad


@pytest.mark.parametrize(("settings", "message"), [
    ({"t_end": 0.0}, r"t_end must be a finite number above 0; got 0.0"),
    ({"t_end": -1.0}, r"t_end must be a finite number above 0; got -1.0"),
    ({"t_end": np.inf}, r"t_end must be a finite number above 0; got inf"),
    ({"t_end": "1"}, r"t_end must be one real number; got '1'"),
    ({"rtol": 0.0}, r"rtol must be .*1e-13.*got 0.0"),
    ({"rtol": 1e-14}, r"rtol must be .*1e-13.*got 1e-14"),
    ({"rtol": 0.5}, r"rtol must be .*0.01.*got 0.5"),
    ({"record": 10}, r"record must be a record schedule.*got 10"),
    ({"t_end": 1e10, "record": op.every(1)}, r"record every\(1\).*more than 1e\+08 records"),
    ({"max_evaluations": 0}, r"max_evaluations must be a whole number not below 1; got 0"),
    ({"stop": 3}, r"stop must be a function of a record"),
    ({"observe": 3}, r"observe must be a dict"),
    ({"progress": "x"}, r"progress must be None"),
])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        op.gradient_flow(Untouched(), START, **{"t_end": 1.0, **settings})


def test_bad_extensions():
    run = op.gradient_flow(LINE, [[2.0], [1.0]], t_end=1.0, record=FEW)
    for settings, message in (({"steps": 10}, r"extend\(t_end=...\)"), ({}, r"extend\(t_end=...\)"),
                              ({"t_end": 1.0}, r"t_end must be above the flow time 1"), ({"t_end": 2.0, "rtol": 1.0}, r"rtol must be")):
        with pytest.raises(ValueError, match=message):
            run.extend(**settings)


@pytest.mark.parametrize("distance, log_scale", [(1e6, -1e4), (1e13, -1e11)])
def test_growth_by_any_number_of_nats_in_one_step_of_the_integrator(distance, log_scale):
    """From 0, one of two is offset towards the target by e^log_scale: it takes the target (Theorem 3.4), the other stays."""
    obj = op.ScoreMatching(op.Gaussian([distance]), rule=op.Auto(tol=1e-8))
    flow = op.gradient_flow(obj, op.init.around([0.0], [[1.0], [0.0]], log_scale=log_scale), t_end=400.0, rtol=1e-6, record=FEW)
    assert flow.status == "completed"
    assert_allclose(flow.final.ravel(), [distance, 0.0], atol=0.1)  # of the other's way: it moves by about 1/M0 times ln M0


def test_means_that_turn_do_not_cost_a_plan_a_step(monkeypatch):
    """Two means in a plane: the axis between them turns by about a radian."""
    from overparam.objectives.expectation import Expectation

    made, plan = [], Expectation.plan
    monkeypatch.setattr(Expectation, "plan", lambda self, *args: made.append(1) or plan(self, *args))
    flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0, 0.0])), [[1.0, 2.0], [0.0, -1.0]], t_end=10.0)
    assert flow.status == "completed" and len(made) < 60 and flow.evaluations < 1000


@pytest.mark.parametrize("t_end", [1e14, 1e17])
@pytest.mark.parametrize("start", [[[0.9], [-0.8], [0.1]], [[0.3], [6.0], [6.5]]], ids=["all converge", "one converges"])
def test_flows_go_on_from_any_time(start, t_end):
    """An integrator that begins late has to begin with steps far below the spacing of ln t."""
    part = op.gradient_flow(LINE, start, t_end=t_end, record=FEW)
    whole = op.gradient_flow(LINE, start, t_end=10 * t_end, record=FEW)
    extended = part.extend(t_end=10 * t_end)
    assert extended.status == "completed"
    assert_allclose(extended.loss[-1], whole.loss[-1], rtol=1e-5)
    assert op.regimes.classify(extended).name == op.regimes.classify(whole).name != "undecided"


def test_exponential_convergence_keeps_its_relative_accuracy():
    flow = op.gradient_flow(LINE, [[1.0]], t_end=100.0)
    assert_allclose(flow.loss, np.exp(-4 * flow.times), rtol=1e-5)
    coincident = op.gradient_flow(LINE, [[4.0]] * 3, t_end=1e3)
    assert coincident.status == "completed" and (np.diff(coincident.loss) <= 0).all()


@pytest.mark.parametrize(("kind", "rate", "share"), [(op.ScoreMatching, 8, 1.0), (op.KLDivergence, 2, 0.25), (op.ReverseFisher, 8, 1.0)])
def test_laws_hold_to_flow_time_1e34(kind, rate, share):
    """S^-1 = S_0^-1 + rate t/n, and a loss of share S^2: its centre, of size S, is not lost beside deviations of size sqrt(S)."""
    flow = op.gradient_flow(kind(op.Gaussian([0.0])), [[0.9], [-0.8], [0.1]], t_end=1e34, record=FEW)
    assert flow.status == "completed"
    params = flow.final_state.deviations[:, 0]
    square = 3 / (rate * 1e34)
    assert_allclose((params**2).mean(), square, rtol=2e-6)
    assert_allclose(flow.loss[-1], share * square**2, rtol=5e-6)


def test_a_horizon_beyond_float64_says_so():
    flow = op.gradient_flow(LINE, [[0.9], [-0.8], [0.1]], t_end=1e60, record=FEW)
    assert flow.status == "too_hard" and "set t_end to at most" in flow.message and flow.evaluations < 5000
    assert flow.times[-1] > 1e40
    assert_allclose(flow.loss[-1] * 64 * flow.times[-1] ** 2 / 9, 1.0, rtol=0.1)


@pytest.mark.parametrize(("start", "t_start"), [([[0.9], [-0.8], [0.1]], 1e20), ([[0.3], [6.0], [6.5]], 1e25)])
def test_a_late_flow_can_be_extended(start, t_start):
    longer = op.gradient_flow(LINE, start, t_end=t_start, record=FEW).extend(t_end=1e4 * t_start, max_evaluations=20_000)
    whole = op.gradient_flow(LINE, start, t_end=1e4 * t_start, record=FEW)
    assert longer.status == "completed" and longer.evaluations < 10_000
    assert_allclose(longer.loss[-1], whole.loss[-1], rtol=1e-5)


def test_coincident_parameters_at_a_strict_tolerance():
    """Their centre falls like e^-t, far below float64's range."""
    flow = op.gradient_flow(op.KLDivergence(op.Gaussian([0.0])), [[24.0], [24.0]], t_end=1e6, rtol=1e-12, record=FEW)
    assert flow.status == "completed" and flow.evaluations < 20_000


@pytest.mark.parametrize(("seed", "rests"), [(0, True), (1, False)])
def test_no_plan_wears_out_at_rest_or_beside_a_wide_teacher(monkeypatch, seed, rests):
    """Rows that have fallen to their rounding, and students that are narrow beside the teacher, serve with the plan they have."""
    made, plan = [], op.ReverseFisher.plan

    def counted(self, *given):
        made.append(1)
        return plan(self, *given)

    monkeypatch.setattr(op.ReverseFisher, "plan", counted)
    rng = np.random.default_rng(seed)
    obj = op.ReverseFisher(op.GaussianMixture(3 * rng.normal(size=(2, 2))))
    flow = op.gradient_flow(obj, 3 * rng.normal(size=(3, 2)), t_end=1e4, record=FEW)
    assert flow.status == "completed" and len(made) < 60 and flow.evaluations < 4000
    assert (flow.grad_norm[-1] < 1e-12 and flow.loss[-1] > 1e-3) == rests
