"""Sweeps: grids, seeds, failures, resuming, equal results however points are shared out, workers and sweeps that are killed."""

import os
import signal
import threading
import time
from functools import partial

import joblib
import kill_sweep
import numpy as np
import pytest
import sweep_points as points
from numpy.testing import assert_array_equal

import overparam as op
from overparam import _claims, _limits
from overparam._grids import Grid, sampled
from overparam.cli import app
from overparam.measures import MEANINGS, MEASURES
from overparam.store import Store

distributed = pytest.importorskip("distributed")
GRID = {"M": [1.0, 3.0, 4.0], "scale": [1e-6, 0.1]}


def contents(store):
    return {path.name: path.read_bytes() for path in sorted((store.path / "points").glob("*.npz"))}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as running:
        yield running


@pytest.fixture(scope="module")
def alone():
    return contents(op.sweep(points.flow, GRID, seed=3, n_jobs=1))


# --- grids and seeds --------------------------------------------------------------------------------------------------


def test_a_product_runs_its_last_axis_fastest_and_survives_its_description():
    grid = Grid.of({"a": [1, 2], "b": np.array([0.5, 1.5]), "c": ["x"]})
    assert [tuple(one.values()) for one in grid.points] == [(1, 0.5, "x"), (1, 1.5, "x"), (2, 0.5, "x"), (2, 1.5, "x")]
    assert Grid.from_description(grid.describe()).points == grid.points
    listed = Grid.of([{"a": 1}, {"a": 2, "b": [1, 2]}])
    assert Grid.from_description(listed.describe()).points == listed.points and listed.axes is None


@pytest.mark.parametrize(("grid", "words"), [
    (3, "dict of lists"), ({}, "no parameters"), ([], "empty"), ({"a": []}, "empty"), ({"a": 3}, "list of values"), ({"a": "text"}, "list"),
    ({"a": [1, 1]}, "twice"), ({"rng": [1]}, "rng"), ([1], r"grid\[0\]"), ({"a": [object()]}, "JSON"), ({1: [1]}, "text"),
])
def test_grids_that_are_none_are_refused(grid, words):
    with pytest.raises(ValueError, match=words):
        op.sweep(points.fails_at_two, grid)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"point": 3}, "point"), ({"n_jobs": 0}, "n_jobs"), ({"n_jobs": 1.5}, "n_jobs"), ({"seed": -1}, "seed"), ({"seed": "a"}, "seed"),
    ({"measure": "losss"}, "Did you mean 'loss'"), ({"measure": 3}, "measure"), ({"progress": 1}, "progress"), ({"store": 3}, "store"),
])
def test_arguments_that_are_not_allowed_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        op.sweep(**{"point": points.fails_at_two, "grid": {"x": [1]}, **arguments})


def test_random_points_are_in_their_ranges_and_the_same_for_a_seed():
    ranges = {"u": (0.0, 2.0), "l": ("log_uniform", 1e-9, 1e-3), "i": ("integers", 1, 3), "c": ["a", "b"]}
    found = sampled(ranges, 400, rng=1)
    assert found == sampled(ranges, 400, rng=1) != sampled(ranges, 400, rng=2)
    u, log = np.array([one["u"] for one in found]), np.log10([one["l"] for one in found])
    assert 0 <= u.min() < 0.1 and 1.9 < u.max() <= 2 and abs(u.mean() - 1) < 4 * 2 / np.sqrt(12 * 400)
    assert -9 <= log.min() < -8.8 and -3.2 < log.max() <= -3 and abs(log.mean() + 6) < 4 * 6 / np.sqrt(12 * 400)
    assert {one["i"] for one in found} == {1, 2, 3} and {one["c"] for one in found} == {"a", "b"}
    for bad in ({"a": (1, 0)}, {"a": ("normal", 0, 1)}, {"a": ("log_uniform", 0.0, 1.0)}, {"a": 1}, {}):
        with pytest.raises(ValueError, match=r"ranges|grid"):
            sampled(bad, 3, rng=0)
    with pytest.raises(ValueError, match="rng"):
        sampled(ranges, 3, rng=None)


def test_seeds_go_by_index_and_are_written_down(tmp_path):
    first = op.sweep(points.draws, {"x": [1], "y": [1, 2]}, store=tmp_path / "a")  # a seed is drawn
    entropy = first.manifest["configuration"]["seed"]["entropy"]
    second = op.sweep(points.draws, {"x": [1], "y": [1, 2]}, store=tmp_path / "b", seed=entropy)
    assert contents(first) == contents(second)
    assert contents(op.sweep(points.draws, {"x": [1], "y": [1, 2]}, store=tmp_path / "a")) == contents(first)  # goes on with its seed
    child = np.random.SeedSequence(7).spawn(3)[2]
    third = op.sweep(points.draws, {"x": [1], "y": [1, 2]}, seed=child)
    assert_array_equal(third.get(1)["draws"], np.random.default_rng(np.random.SeedSequence(7).spawn(3)[2].spawn(2)[1]).normal(size=3))


# --- what a point may return ------------------------------------------------------------------------------------------


def test_measures_reduce_a_trajectory():
    grid = {"M": [0.5, 1.0]}
    data = op.sweep(points.trajectory, grid, measure=list(MEASURES)).collect()
    runs = [points.trajectory(M) for M in grid["M"]]
    assert_array_equal(data.loss, [run.loss[-1] for run in runs])
    assert_array_equal(data.params, [run.final for run in runs])
    assert data.status.values.tolist() == ["completed"] * 2 and data.k.values.tolist() == [2, 2]
    assert set(MEANINGS) == set(MEASURES)
    own = op.sweep(points.trajectory, grid, measure={"records": len, "last": "loss"}).collect()
    assert_array_equal(own["last"], data.loss)
    assert own.records.values.tolist() == [len(run) for run in runs]


@pytest.mark.parametrize(("point", "words"), [
    (points.trajectory, "measure="), (lambda M: 3, "dict"), (lambda M: {}, "empty"), (lambda M: {"a": object()}, "'a'"),
    (lambda M: {1: 2}, "key"), (lambda N: {}, "unexpected keyword argument"), (lambda M: exit(3), "SystemExit: 3"),
])
def test_what_cannot_be_stored_is_a_failure_that_says_so(point, words):
    with pytest.warns(UserWarning, match="1 of 1 points failed"):
        store = op.sweep(point, {"M": [0.5]})
    assert words in store.failures()[0].error


def test_a_point_that_raises_is_recorded_and_does_not_stop_the_others():
    with pytest.warns(UserWarning, match=r"1 of 4 points failed, the first at \{'x': 2\}: ValueError: not this one"):
        store = op.sweep(points.fails_at_two, {"x": [1, 2, 3, 4]})
    failure = store.failures()[1]
    assert failure.params == {"x": 2} and "in fails_at_two" in failure.traceback and "raise ValueError" in failure.traceback
    assert_array_equal(store.collect().square, [1, np.nan, 9, 16])
    assert store.collect().state.values.tolist() == [1, 2, 1, 1] and store.status().complete


def test_failures_are_computed_again_only_if_asked(tmp_path):
    flag = tmp_path / "flag"
    point = partial(points.fails_unless, flag=str(flag))
    with pytest.warns(UserWarning, match="2 of 2"):
        op.sweep(point, {"x": [1, 2]}, store=tmp_path / "store")
    flag.touch()
    with pytest.warns(UserWarning, match="2 of 2"):
        op.sweep(point, {"x": [1, 2]}, store=tmp_path / "store")
    again = op.sweep(point, {"x": [1, 2]}, store=tmp_path / "store", retry_failed=True)
    assert again.collect().square.values.tolist() == [1, 4] and not again.failures()


# --- resuming, sharing ------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_computed_again(tmp_path):
    point = partial(points.counted, log=str(tmp_path / "log"))
    store = op.sweep(point, {"i": list(range(6))}, store=tmp_path / "store")
    for i in (1, 4):
        store.result_path(i).unlink()
    op.sweep(point, {"i": list(range(6))}, store=tmp_path / "store")
    begun = (tmp_path / "log").read_text().split()
    assert begun == ["0", "1", "2", "3", "4", "5", "1", "4"]


def test_ctrl_c_keeps_what_is_done_and_takes_no_cut_short_run_for_a_result(tmp_path):
    point = partial(points.interrupts, log=str(tmp_path / "log"))
    with pytest.raises(KeyboardInterrupt, match=r"8 points: 3 done, 5 missing; they are kept"):
        op.sweep(point, {"i": list(range(8))}, store=tmp_path / "store")
    assert Store.open(tmp_path / "store").collect().square.values[:3].tolist() == [0, 1, 4]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_sweeps_on_one_store_share_the_points(tmp_path):
    point, found = partial(points.counted, log=str(tmp_path / "log")), []

    def work():
        found.append(op.sweep(point, {"i": list(range(12))}, store=tmp_path / "store", seed=1))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(12))  # each once
    assert all(store.collect().square.values.tolist() == [i * i for i in range(12)] for store in found)


def test_claims_are_one_persons_until_it_dies(tmp_path):
    path = tmp_path / "claim"
    with _claims.claimed(path, wait=False) as first, _claims.claimed(path, wait=False) as second:
        assert first and second is False and _claims.is_claimed(path)
    assert path.exists() and not _claims.is_claimed(path)


def test_limits_overlap_and_are_lifted_by_the_last():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        before = blas()
        first, second = _limits.one_thread(), _limits.one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas() == {1}
        second.__exit__(None, None, None)
        assert blas() == before


@pytest.mark.parametrize(("backend", "jobs"), [("loky", 2), ("threading", 2), (None, None)])
def test_results_are_the_same_to_the_last_bit_however_points_are_shared_out(alone, backend, jobs):
    if backend is None:
        assert contents(op.sweep(points.flow, GRID, seed=3)) == alone
        return
    with joblib.parallel_config(backend=backend, n_jobs=jobs):  # which n_jobs=None honours
        assert contents(op.sweep(points.flow, GRID, seed=3)) == alone


def test_a_cluster_gives_the_same_and_loses_nothing_when_workers_are_killed(alone, cluster, tmp_path):
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        with joblib.parallel_config(backend="dask", client=client):
            assert contents(op.sweep(points.flow, GRID, seed=3)) == alone
        folder, log = tmp_path / "store", tmp_path / "log"
        log.touch()
        killed = []

        def kill():
            while len(log.read_bytes().split()) < 10:
                time.sleep(0.01)
            victim = next(iter(cluster.workers.values())).process.pid
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

        killer = threading.Thread(target=kill)
        killer.start()
        with joblib.parallel_config(backend="dask", client=client):
            store = op.sweep(partial(points.counted, log=str(log)), {"i": list(range(60))}, store=folder)
        killer.join()
    assert killed and store.collect().square.values.tolist() == [i * i for i in range(60)]
    begun = log.read_text().split()
    assert len(set(begun)) == 60 and len(begun) <= 61  # one was in flight where the worker died


def test_the_command_line_takes_a_schedulers_address(cluster, tmp_path):
    from test_cli_sweep import FILE
    from typer.testing import CliRunner

    file = tmp_path / "pair.toml"
    file.write_text(FILE)
    said = [CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path / name), *more]) for name, more in
            (("dask", ["--scheduler", cluster.scheduler_address]), ("threads", ["--backend", "threading", "--jobs", "1"]))]
    assert all(one.exit_code == 0 for one in said), said[0].output + said[1].output
    assert contents(Store.open(tmp_path / "dask")) == contents(Store.open(tmp_path / "threads"))


def test_a_store_out_of_a_workers_reach_is_written_by_the_sweep_itself(monkeypatch, alone):
    monkeypatch.setattr("overparam._sweep_task._within_reach", lambda path, id: None)
    assert contents(op.sweep(points.flow, GRID, seed=3, n_jobs=1)) == alone


# --- killed -----------------------------------------------------------------------------------------------------------


def test_a_point_that_kills_its_worker_does_not_take_the_others_with_it(tmp_path):
    told = r"being computed: 3\. 8 points: 7"
    with pytest.warns(UserWarning, match="a worker process died"), pytest.raises(ChildProcessError, match=told):
        op.sweep(points.dies_at_three, {"x": list(range(8))}, store=tmp_path / "store", n_jobs=2)
    assert Store.open(tmp_path / "store").abandoned() == [3]


def test_killed_sweeps_lose_nothing_and_compute_nothing_twice():
    for one in kill_sweep.rounds(3, points=40, seed=1):
        assert one.good, one
