"""Threads of the library's own: the same bits whatever their number, also in forked children and under many callers."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from kernel_problems import close, evaluate, explicit, multiplied_out, problem, trapezoid
from numpy.testing import assert_array_equal

import overparam as op
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core import threads as pool
from overparam._core.score_matching import Evaluator

COUNTS = (1, 2, 3, 7)


def grid(n, orders, likelihood=False):
    """An evaluator on a tensor grid, its nodes written out, and a student."""
    axes, weights = trapezoid(orders)
    k = len(orders)
    rng = np.random.default_rng(n)
    target, log_weights = rng.normal(size=k), np.log(rng.dirichlet(np.full(n, 5.0)))
    flat = np.concatenate(axes), np.concatenate(weights), np.array(orders, dtype=np.intp)
    evaluator = Evaluator.from_tensor(*flat, target, log_weights, likelihood)
    return evaluator, multiplied_out(axes, weights), target, rng.normal(size=k), rng.normal(size=(n, k)), log_weights


def listed(n, k, nodes, constant=False):
    x, q, target, centre, deviations, log_weights = problem(n, k, nodes, constant=constant)
    return explicit(x, q, target, log_weights), (x, q), target, centre, deviations, log_weights


CASES = {
    "one axis": lambda: grid(40, (30_000,)),
    "two axes": lambda: grid(5, (900, 120)),
    "three axes": lambda: grid(5, (70, 40, 40)),
    "many outer axes": lambda: grid(6, (60, 11, 9, 7, 5)),
    "list": lambda: listed(20, 3, 40_000),
    "list, constant target": lambda: listed(7, 2, 90_001, constant=True),
    "BLAS": lambda: listed(50, 12, 5_000),
}


@pytest.mark.parametrize("case", CASES)
def test_same_bits_and_right(case):
    evaluator, (x, q), target, centre, deviations, log_weights = CASES[case]()
    assert evaluator.pieces > 3
    for form in (1, 2):
        found = []
        for count in COUNTS:
            with op.threads(count):
                found += [evaluate(evaluator, centre, deviations, form) for _ in range(3)]
        for value, mean_row, rows in found[1:]:
            assert value == found[0][0]
            assert_array_equal(mean_row, found[0][1])
            assert_array_equal(rows, found[0][2])
    value, rows = twin.score_matching(x, q, target, centre + deviations, log_weights)
    own = evaluate(evaluator, centre, deviations, 1)
    close(own[0], value)
    close(own[2], rows)


@pytest.mark.parametrize("spread", [1.0, 0.3, 1e-3])
def test_likelihood_near_the_target_is_one_decision_for_all_pieces(spread):
    """Its value is one of three sums by what holds at all nodes; a coarser rule in one piece, also exact, gives the same."""
    deviations = spread * np.random.default_rng(0).normal(size=(5, 3))
    deviations -= deviations.mean(axis=0)
    values = []
    for orders in ((60, 40, 40), (48, 33, 33)):
        axes, weights = trapezoid(orders)
        flat = np.concatenate(axes), np.concatenate(weights), np.array(orders, dtype=np.intp)
        evaluator = Evaluator.from_tensor(*flat, np.zeros(3), np.full(5, -np.log(5)), True)
        values.append((evaluator.pieces, evaluator.near(np.zeros(3), deviations)))
        for count in (1, 2):
            with op.threads(count):
                values.append(evaluate(evaluator, np.zeros(3), deviations)[0])
    (pieces, near), first, second, (alone, also_near), *coarse = values
    assert pieces > 1 == alone
    assert near == also_near
    assert first == second
    assert coarse == pytest.approx([first] * 2, rel=1e-9)


def test_shares_of_a_likelihood():
    evaluator, (x, q), _, centre, deviations, log_weights = grid(5, (70, 40, 40), likelihood=True)
    responsibilities = twin.softmax_weights(x, centre + deviations, log_weights)
    found = []
    for count in COUNTS:
        with op.threads(count):
            shares, rows = np.empty(5), np.empty((5, 3))
            found.append((evaluator.evaluate_shares(centre, deviations, shares, rows), shares.tobytes(), rows.tobytes()))
            close(shares, q @ responsibilities)
    assert len(set(found)) == 1


def test_not_a_number_is_seen():
    evaluator, _, _, centre, deviations, _ = grid(5, (70, 40, 40))
    with op.threads(2):
        deviations[3, 1] = np.nan
        value, _, rows = evaluate(evaluator, centre, deviations)
    assert np.isnan(value)
    assert np.isnan(rows).any()


def test_small_evaluations_are_one_piece():
    assert grid(5, (64, 3, 3))[0].pieces == 1


def test_runs():
    start = np.random.default_rng(4).normal(size=(5, 3)) * 1.5
    obj, runs = op.ScoreMatching(op.Gaussian(np.zeros(3))), []
    for count in (1, 2):
        with op.threads(count):
            runs.append(op.gradient_descent(obj, start, step_size=0.05, steps=20, record=op.every(20)))
    assert_array_equal(runs[0].loss, runs[1].loss)
    assert_array_equal(runs[0].params, runs[1].params)


def test_many_callers_at_once():
    """One of them has the helpers, the others do without."""
    evaluator, _, _, centre, deviations, _ = grid(5, (70, 40, 40))
    wanted = evaluate(evaluator, centre, deviations)[2].tobytes()
    wrong = []

    def work():
        for _ in range(40):
            if evaluate(evaluator, centre, deviations)[2].tobytes() != wanted:
                wrong.append(1)

    with op.threads(3):
        callers = [threading.Thread(target=work) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        assert not any(caller.is_alive() for caller in callers)
    assert not wrong


FORK = """
import os, sys
import numpy as np
import overparam as op
obj = op.ScoreMatching(op.Gaussian(np.zeros(2)), rule=op.GaussHermite(300))
params = np.random.default_rng(0).normal(size=(9, 2))
op.threads(2)
grad = obj.grad(params)
for _ in range(5):
    child = os.fork()
    if child == 0:
        same = all((obj.grad(params) == grad).all() for _ in range(5)) and len(os.listdir("/proc/self/task")) >= 2
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (obj.grad(params) == grad).all()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and counts threads in /proc")
def test_a_forked_child_has_threads_of_its_own(tmp_path):
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60, cwd=tmp_path)


PATHS = """
import sys
import numpy as np
import overparam as op
from test_threads import CASES
from kernel_problems import evaluate
with op.threads(2):
    for case in CASES:
        evaluator, _, _, centre, deviations, _ = CASES[case]()
        value, mean, rows = evaluate(evaluator, centre, deviations)
        print(evaluator.pieces, value, *rows.ravel())
"""


def test_instruction_sets_agree(tmp_path):
    """They cut alike, and differ by rounding."""
    lines = []
    for name in cpu.info()["supported"]:
        paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])])
        run = subprocess.run([sys.executable, "-c", PATHS], env={**os.environ, "OVERPARAM_KERNEL": name, "PYTHONPATH": paths}, cwd=tmp_path,
                             capture_output=True, text=True, check=True, timeout=120)
        lines.append([np.array(line.split(), dtype=float) for line in run.stdout.splitlines()])
    assert len(lines[0]) == len(CASES)
    for other in lines[1:]:
        for own, reference in zip(other, lines[0], strict=True):
            assert own[0] == reference[0]
            close(own[1], reference[1])
            close(own[2:], reference[2:])


class TestSetting:
    def test_with_restores(self):
        before = pool.count()
        with op.threads(5) as setting:
            assert (setting.count, pool.count(), repr(setting)) == (5, 5, "threads(5)")
        assert pool.count() == before

    def test_stays_without_with(self):
        before = pool.count()
        op.threads(4)
        assert pool.count() == 4
        op.threads(before)

    @pytest.mark.parametrize("count", [0, -1, 257, 1.5, "two", None, True])
    def test_bad_counts(self, count):
        with pytest.raises(ValueError, match="count must be"):
            op.threads(count)

    def test_core_refuses_bad_counts(self):
        with pytest.raises(ValueError, match="between 1 and 256"):
            pool.set_count(0)

    @pytest.mark.parametrize(("given", "count", "words"), [("3", 3, "3 an evaluation"), ("", 1, "1 an evaluation"),
                                                           ("many", 1, "OVERPARAM_THREADS='many' is not a whole number")])
    def test_environment(self, given, count, words, tmp_path):
        script = "from overparam._core import threads; print(threads.count()); from overparam.cli import main; main()"
        run = subprocess.run([sys.executable, "-c", script, "info"], env={**os.environ, "OVERPARAM_THREADS": given}, cwd=tmp_path,
                             capture_output=True, text=True, check=False, timeout=60)
        assert run.stdout.splitlines()[0] == str(count)
        assert words in run.stdout

    def test_blas_is_held_to_one_thread(self):
        """Only in the meantime."""
        import threadpoolctl

        CASES["BLAS"]()  # loads it

        def own():
            return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]

        before = own()
        with op.threads(2):
            assert set(own()) == {1}
            with op.threads(3):
                assert set(own()) == {1}
            assert set(own()) == {1}
            with op.threads(1):
                assert own() == before
        assert own() == before

    def test_sweeps_take_one_thread_a_run(self):
        from overparam.experiments.running import in_parallel

        with op.threads(2):
            assert [found for _, found in in_parallel(_count_here, [(0,), (1,)], 1, False, 2)] == [1, 1]
            assert pool.count() == 2


def _count_here(number):
    return pool.count()
