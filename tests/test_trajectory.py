"""The record of a run: lazy, read-only, lossless, extensible."""

import copy
import dataclasses
import errno
import json
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam import trajectory as module
from overparam.state import State
from overparam.trajectory import (
    Schedule,
    Trajectory,
    check_observe,
    check_schedule,
    every,
    load,
    log_spaced,
    schedule_from_description,
)

ARRAYS = ("steps", "times", "loss", "loss_error", "grad_norm", "centres", "deviations", "log_scales", "basis", "origin", "weights")
DICTS = ("settings", "problem", "attributes", "continuation")
SCALARS = ("status", "message", "driver", "evaluations", "wall_time")


def make(records=4, n=3, k=2, d=None, first=0, **changes):
    """A trajectory of made-up numbers; with d it lives in a basis."""
    rng = np.random.default_rng(records + 10 * n + first)
    fields = dict(
        steps=first + np.arange(records) * 10,
        times=0.1 * (first + np.arange(records) * 10),
        loss=rng.uniform(size=records),
        loss_error=1e-12 * rng.uniform(size=records),
        grad_norm=rng.uniform(size=records),
        centres=rng.normal(size=(records, k)),
        deviations=1e-300 * rng.normal(size=(records, n, k)),
        weights=np.full(n, 1 / n),
        message="all steps taken",
        observed={"norm": rng.uniform(size=(records, n))},
        driver="testing",
        settings={"step_size": 0.01, "steps": records, "seed": 2**100, "record": log_spaced(3).describe()},
        problem={"kind": "Mine", "teacher": {"kind": "Gaussian", "mean": [0.0] * k}, "rule": None},
        attributes={"tolerance": 1e-10, "versions": {"numpy": "2"}, "paper": None, "exact": True},
        evaluations=40,
        wall_time=0.1 + 0.2,
        continuation={"state": [1, 2**127]},
    )
    if d is not None:
        fields["basis"] = np.linalg.qr(rng.normal(size=(d, k)))[0]
        fields["origin"] = rng.normal(size=d)
    return Trajectory(**{**fields, **changes})


def assert_same(one, two):
    """Equal field by field, arrays to the last bit and in dtype."""
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), name
    assert list(one.observed) == list(two.observed)
    for name, values in one.observed.items():
        other = two.observed[name]
        assert values.dtype == other.dtype and values.shape == other.shape and values.tobytes() == other.tobytes(), name
    for name in DICTS + SCALARS:
        # through JSON: a NaN equals itself there
        assert json.dumps(getattr(one, name)) == json.dumps(getattr(two, name)), name
        assert type(getattr(one, name)) is type(getattr(two, name)), name


CASES = {
    "plain": lambda: make(),
    "in a basis": lambda: make(d=7),
    "one record, one parameter, one dimension": lambda: make(records=1, n=1, k=1),
    "no weights, nothing observed": lambda: make(weights=None, observed={}),
    "not finite": lambda: make(loss=[np.nan, np.inf, -np.inf, -0.0], loss_error=[5e-324, 0.0, -0.0, 1.0], status="unstable"),
    "below float64's range": lambda: make(deviations=1e-120 * np.random.default_rng(0).normal(size=(4, 3, 2)),
                                          log_scales=[-2000.5, -300.0, -2000.5, -1e6]),
    "many types observed": lambda: make(
        observed={
            "flag": np.array([True, False, True, True]),
            "count": np.arange(4, dtype=np.int16),
            "single": np.float32([1, 2, 3, -0.0]),
            "big": np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64),
            "wave": np.arange(8).reshape(4, 2) * (1 - 0.5j) + np.nan,
            "single wave": np.array([1j, -0.0, np.inf, 2], dtype=np.complex64),
            "half": np.float16([1, 2, 3, 4]),
            "long": np.longdouble([1, 2, 3, 4]),
            "long wave": np.clongdouble([1, 2j, 3, 4]),
            "swapped": np.arange(4, dtype=">f8"),
            "empty": np.empty((4, 0, 2)),
            "loss": np.arange(4.0),
            "time": np.arange(4.0),
            "a/b c": np.arange(4.0),
            "a_b_c": np.ones(4),
            "é": np.arange(4.0),
            "": np.zeros(4),
            "params": np.ones(4),
            "record": np.ones(4),
            "description": np.ones(4),
        }
    ),
    "odd texts": lambda: make(
        message='a\0b \ud800 \N{SNOWMAN}\n"quoted"',
        driver="d/e",
        attributes={"": "", "status": "x", "nan": float("nan")},
    ),
    "huge description": lambda: make(problem={"kind": "Far", "mean": [0.1] * 100_000}),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]()


# --- what it holds ------------------------------------------------------------------------------------------


def test_lazy_params_are_those_of_the_states(case):
    full = np.asarray(case.params)
    assert full.shape == case.params.shape == (len(case), case.n, case.d)
    for k in range(-len(case), len(case)):
        state = case.states[k]
        assert_array_equal(case.params[k], state.params)
        assert_array_equal(case.params[k], full[k])
        assert_array_equal(state.deviations, case.deviations[k])
        assert_array_equal(state.centre, case.centres[k])
    assert_array_equal(case.final, full[-1])
    assert_array_equal(case.final_state.params, full[-1])
    assert [p.tolist() for p in case.params] == full.tolist()


def test_params_index_like_an_array():
    run = make(records=6, d=4)
    full, lazy = np.asarray(run.params), run.params
    keys = [
        slice(None),
        slice(1, 5, 2),
        slice(None, None, -1),
        slice(4, 4),
        [0, 5, 2],
        np.array([True, False] * 3),
        (2, 1),
        (slice(None), 1),
        (slice(2, 4), slice(None), 0),
        (Ellipsis, 0),
        ([1, 2], 0),
        (),
        Ellipsis,
        (-1, slice(None), [0, 3]),
        np.int64(3),
        None,
    ]
    for key in keys:
        got = lazy[key]
        assert got.shape == full[key].shape
        assert_array_equal(got, full[key])
        assert not got.flags.writeable
    assert lazy[2, 1, 3] == full[2, 1, 3]
    assert lazy.ndim == 3 and lazy.dtype == np.float64 and len(lazy) == 6
    assert np.array(lazy, dtype=np.float32).dtype == np.float32
    assert_allclose(np.linalg.norm(lazy, axis=-1), np.linalg.norm(full, axis=-1))
    with pytest.raises(IndexError):
        lazy[6]
    with pytest.raises(IndexError):
        run.states[-7]
    with pytest.raises(ValueError, match="copy"):
        lazy.__array__(copy=False)


def test_states_are_a_sequence():
    run = make(records=5)
    assert len(run.states) == 5
    assert all(isinstance(state, State) for state in run.states)
    assert [s.centre.tolist() for s in run.states[1:3]] == run.centres[1:3].tolist()


def test_deviations_of_1e_300_survive_beside_a_centre_of_1e12():
    z = np.array([[1.0], [-1 / 3]])
    run = make(records=2, n=2, k=1, centres=np.full((2, 1), 1e12), deviations=np.stack([1e-300 * z, 3e-300 * z]))
    assert_array_equal(run.final_state.deviations, 3e-300 * z)
    assert_array_equal(run.final, 1e12)


def test_scales_of_deviations():
    z = np.array([[1.0], [-0.5]])
    run = make(records=3, n=2, k=1, centres=np.full((3, 1), 0.0), deviations=np.stack([1e-120 * z, 1e-120 * z, z]),
               log_scales=[-2000.0, -300.0, 0.0])
    assert [state.log_scale for state in run.states] == [-2000.0, -300.0, 0.0]
    assert_array_equal(run.params[0], 0.0)
    assert_allclose(run.params[1], np.exp(-300.0) * 1e-120 * z, rtol=1e-14)
    assert_array_equal(run.params[2], z)
    assert not make().log_scales.any()
    with pytest.raises(ValueError, match="read-only"):
        run.log_scales[0] = 0.0
    both = run.joined(make(records=2, n=2, k=1, first=20, log_scales=[0.0, -400.0], deviations=np.stack([1e-120 * z, 1e-120 * z])))
    assert both.log_scales.tolist() == [-2000.0, -300.0, 0.0, -400.0]


def test_files_without_scales_still_load(tmp_path):
    import xarray

    plain, scaled = make(), make(deviations=1e-120 * np.ones((4, 3, 2)), log_scales=[-900.0] * 4)
    plain.save(tmp_path / "plain.nc")
    scaled.save(tmp_path / "scaled.nc")
    with xarray.open_dataset(tmp_path / "plain.nc", engine="h5netcdf") as opened:
        old = opened.load()
    assert old.attrs["format_version"] == 1  # readers of the first format would take no harm
    old.drop_vars("log_scale").to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    assert_same(load(tmp_path / "old.nc"), plain)
    with xarray.open_dataset(tmp_path / "scaled.nc", engine="h5netcdf") as opened:
        assert opened.attrs["format_version"] == 2  # they would here


def test_a_million_dimensions_stay_small():
    make().to_xarray()  # importing xarray takes memory of its own
    d, records, n, k = 10**6, 200, 5, 3
    basis = np.zeros((d, k))
    basis[[0, 1, 2], [0, 1, 2]] = 1.0
    basis.flags.writeable = False  # what comes in read-only is not copied
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(records, n, k))
    tracemalloc.start()
    run = make(records=records, n=n, k=k, deviations=deviations, centres=np.zeros((records, k)), basis=basis, origin=None)
    run.to_xarray(), repr(run), run.summary(), run._repr_html_(), run.params, run.states, run.params.shape
    longer = run.joined(make(records=records, n=n, k=k, first=1990, deviations=deviations, basis=basis))
    _, peak = tracemalloc.get_traced_memory()
    assert peak < 10e6  # one expanded record is 40 MB, all of them 8 GB
    tracemalloc.stop()
    assert run.d == longer.d == d
    assert_array_equal(run.params[7][:, :3], deviations[7])
    assert "params" not in run.to_xarray()


def test_everything_is_read_only_in_every_copy(case):
    for run in (case, copy.deepcopy(case), pickle.loads(pickle.dumps(case))):
        assert_same(run, case)
        arrays = [getattr(run, name) for name in ARRAYS] + [*run.observed.values(), run.final, run.params[:]]
        assert not any(array.flags.writeable for array in arrays if array is not None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.loss = None


def test_what_comes_in_is_not_aliased():
    loss, settings = np.zeros(4), {"inner": {"a": [1.0, 2.0]}}
    run = make(loss=loss, settings=settings)
    loss[0] = 5.0
    settings["inner"]["a"][0] = 7.0
    assert run.loss[0] == 0.0
    assert run.settings == {"inner": {"a": [1.0, 2.0]}}
    assert loss.flags.writeable


def test_dicts_become_json_types():
    run = make(
        settings={
            "a": np.float64(0.5),
            "b": np.arange(3),
            "c": (1, np.int8(2)),
            "d": {1: np.bool_(True)},
            "e": np.array([[0.5]]),
        }
    )
    assert run.settings == {"a": 0.5, "b": [0, 1, 2], "c": [1, 2], "d": {"1": True}, "e": [[0.5]]}
    assert type(run.settings["a"]) is float and run.settings["d"]["1"] is True


def test_text_forms():
    run = make(status="too_hard", message="<b>needs & more</b>", attributes={"rule": "Auto", "tolerance": 1e-10})
    assert repr(run).startswith("Trajectory(testing, too_hard, 4 records to step 30, n=3, d=2, loss ")
    assert "\n" not in repr(run) and len(repr(run)) < 120
    assert "<b>needs & more</b>" in run.summary() and "Auto" in run.summary()
    assert "&lt;b&gt;needs &amp; more" in run._repr_html_() and "<b>" not in run._repr_html_()
    for other in CASES.values():
        assert len(other().summary().splitlines()) >= 6


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"status": "complete"}, "Did you mean 'completed'"),
        ({"loss": np.zeros(3)}, r"loss must have shape \(4,\)"),
        ({"centres": np.zeros((4, 3))}, r"centres must have shape \(4, 2\)"),
        ({"deviations": np.zeros((4, 2))}, "deviations must have shape"),
        ({"deviations": np.zeros((0, 3, 2))}, "deviations must have shape"),
        ({"weights": np.ones(4)}, r"weights must have shape \(3,\)"),
        ({"basis": np.ones((5, 3))}, r"basis must have shape \(d, 2\)"),
        ({"origin": np.ones(3)}, r"origin must have shape \(2,\)"),
        ({"log_scales": np.zeros(3)}, r"log_scales must have shape \(4,\)"),
        ({"log_scales": [0, 0, 0, 1.0]}, "log_scales must be"),
        ({"log_scales": [0, 0, 0, np.nan]}, "log_scales must be"),
        ({"steps": [0, 2, 1, 3]}, "steps must not"),
        ({"steps": [-1, 0, 1, 3]}, "steps must not"),
        ({"observed": {"a": np.zeros(3)}}, r"observed\['a'\]"),
        ({"observed": {"a": np.array(["x"] * 4)}}, r"observed\['a'\]"),
        ({"observed": {"a": 1.0}}, r"observed\['a'\]"),
        (
            {"settings": {"a": [1, {"b": object()}]}},
            r"settings\['a'\]\[1\]\['b'\] must hold what JSON can hold.*object",
        ),
        ({"attributes": {"z": 1j}}, r"attributes\['z'\]"),
    ],
)
def test_bad_fields_are_named(changes, match):
    with pytest.raises(ValueError, match=match):
        make(**changes)


# --- files --------------------------------------------------------------------------------------------------


def test_round_trip_to_the_last_bit(case, tmp_path):
    case.save(tmp_path / "run.nc")
    back = load(str(tmp_path / "run.nc"))
    assert_same(back, case)
    assert back.objective is None
    assert os.listdir(tmp_path) == ["run.nc"]
    back.save(tmp_path / "run.nc")  # over itself
    assert_same(load(tmp_path / "run.nc"), case)


def test_other_readers_see_the_records(tmp_path):
    import xarray

    run = make(d=5)
    run.save(tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as opened:
        assert_array_equal(opened["loss"], run.loss)
        assert_array_equal(opened["norm"], run.observed["norm"])
        assert opened.attrs["status"] == "completed"
        assert opened["time"].dtype == np.float64  # flow time, not a date


def test_file_permissions_follow_the_umask_and_links_stay(tmp_path):
    old = os.umask(0o027)
    try:
        make().save(tmp_path / "run.nc")
    finally:
        os.umask(old)
    assert (tmp_path / "run.nc").stat().st_mode & 0o777 == 0o640
    (tmp_path / "link.nc").symlink_to(tmp_path / "run.nc")
    make(records=2).save(tmp_path / "link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    assert len(load(tmp_path / "run.nc")) == 2


@pytest.mark.parametrize("where", ["to_netcdf", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where, error):
    import xarray

    old = make(records=2)
    old.save(tmp_path / "run.nc")
    write = xarray.Dataset.to_netcdf

    def break_after_writing(*args, **kwargs):
        if where == "to_netcdf":
            write(*args, **kwargs)
        raise error

    monkeypatch.setattr(xarray.Dataset if where == "to_netcdf" else os, where, break_after_writing)
    with pytest.raises(ValueError if isinstance(error, OSError) else KeyboardInterrupt):
        make(records=9).save(tmp_path / "run.nc")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["run.nc"]
    assert_same(load(tmp_path / "run.nc"), old)


def test_paths_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    run = make()
    (tmp_path / "file").write_text("x")
    for path, match in [
        (tmp_path, "is a folder"),
        ("", "is a folder"),
        (tmp_path / "none" / "run.nc", "there is no folder"),
        (tmp_path / "file" / "run.nc", "there is no folder"),
        (3, "path must be a file name"),
        (None, "path must be a file name"),
    ]:
        with pytest.raises(ValueError, match=match) as caught:
            run.save(path)
        assert str(path) in str(caught.value)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ValueError, match=r"run\.nc' cannot be written: Permission denied"):
        run.save(tmp_path / "run.nc")
    assert os.listdir(tmp_path) == ["file"]


def test_files_that_are_not_trajectories_are_named(tmp_path):
    import xarray

    (tmp_path / "text.nc").write_text("not a netCDF file")
    (tmp_path / "empty.nc").write_bytes(b"")
    xarray.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    make().save(tmp_path / "good.nc")
    whole = (tmp_path / "good.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    with xarray.open_dataset(tmp_path / "good.nc", engine="h5netcdf") as opened:
        good = opened.load()
    good.drop_vars("loss").to_netcdf(tmp_path / "lossless.nc", engine="h5netcdf")
    good.drop_vars("description").to_netcdf(tmp_path / "bare.nc", engine="h5netcdf")
    good.assign_attrs(format_version=99).to_netcdf(tmp_path / "newer.nc", engine="h5netcdf")
    good.assign(description="{").to_netcdf(tmp_path / "garbled.nc", engine="h5netcdf")
    for name, match in [
        ("text.nc", "not a netCDF file"),
        ("empty.nc", "not a netCDF file"),
        ("cut.nc", "not a netCDF file"),
        ("other.nc", "not a trajectory"),
        ("bare.nc", "damaged"),
        ("garbled.nc", "damaged"),
        ("lossless.nc", "damaged"),
        ("newer.nc", "newer version"),
        ("missing.nc", "not there"),
        ("", "a folder"),
    ]:
        with pytest.raises(ValueError, match=match) as caught:
            load(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(ValueError, match="path must be"):
        load(None)


def test_loading_builds_built_in_objectives_and_checks_given_ones(tmp_path, monkeypatch):
    class Mine:
        def __init__(self, **description):
            self.description = description

        def describe(self):
            return self.description

    problem = make().problem
    make().save(tmp_path / "run.nc")
    same = Mine(**{**problem, "rule": "another"})
    assert load(tmp_path / "run.nc", objective=same).objective is same
    with pytest.raises(ValueError, match="teacher is"):
        load(tmp_path / "run.nc", objective=Mine(**{**problem, "teacher": None}))
    seen = []
    monkeypatch.setattr(module, "_built_in", lambda description: seen.append(description) or same)
    assert load(tmp_path / "run.nc").objective is same
    assert seen == [problem]


def test_built_in_objectives_come_back(tmp_path):
    objective = op.ScoreMatching(op.Gaussian([0.0, 1.0]))
    make(objective=objective, problem=objective.describe()).save(tmp_path / "run.nc")
    back = load(tmp_path / "run.nc").objective
    assert isinstance(back, op.ScoreMatching)
    assert json.dumps(back.describe()) == json.dumps(objective.describe())


# --- xarray -------------------------------------------------------------------------------------------------


def test_to_xarray_names_its_dimensions():
    run = make(d=5)
    data = run.to_xarray()
    assert data["params"].dims == ("record", "parameter", "coordinate")
    assert data["deviation"].dims == ("record", "parameter", "axis")
    assert data["centre"].dims == ("record", "axis")
    assert data["basis"].dims == ("coordinate", "axis")
    assert data["norm"].dims[0] == "record"
    assert set(data.coords) == {"step", "time"}
    assert dict(data.sizes) == {"record": 4, "parameter": 3, "coordinate": 5, "axis": 2, "norm_axis1": 3}
    for name, values in [
        ("loss", run.loss),
        ("deviation", run.deviations),
        ("step", run.steps),
        ("time", run.times),
        ("params", run.params),
    ]:
        assert_array_equal(data[name], values)
    assert data.attrs["status"] == "completed" and data.attrs["driver"] == "testing"
    assert json.loads(data.attrs["settings"]) == run.settings
    assert json.loads(data.attrs["problem"]) == run.problem
    assert data.attrs["tolerance"] == 1e-10 and json.loads(data.attrs["versions"]) == {"numpy": "2"}
    assert data.attrs["paper"] == "null" and data.attrs["exact"] == "true"


def test_to_xarray_can_be_written_by_xarray_itself(case, tmp_path):
    case.to_xarray().drop_vars(["wave", "single_wave", "long_wave"], errors="ignore").to_netcdf(tmp_path / "own.nc", engine="h5netcdf")


# --- going on -----------------------------------------------------------------------------------------------


@pytest.fixture
def halving(monkeypatch):
    """A driver that halves the parameters at every step."""

    def run(state, first, steps, step_size=0.1, objective="something", observe=True):
        centres, deviations = [state.centre], [state.deviations]
        for _ in range(steps):
            centres.append(centres[-1] / 2)
            deviations.append(deviations[-1] / 2)
        counts = first + np.arange(steps + 1)
        loss = np.array([(c**2).sum() for c in centres])
        return Trajectory(
            steps=counts,
            times=step_size * counts,
            loss=loss,
            loss_error=0 * loss,
            grad_norm=loss,
            centres=centres,
            deviations=deviations,
            basis=state.basis,
            origin=state.origin,
            driver="halving",
            evaluations=steps,
            wall_time=1.0,
            observed={"loss2": loss**2} if observe else {},
            objective=objective,
            settings={"step_size": step_size, "steps": steps},
            continuation={"last": int(counts[-1])},
        )

    def resume(trajectory, *, steps, **changes):
        settings = {"step_size": trajectory.settings["step_size"], **changes}
        return run(trajectory.final_state, int(trajectory.steps[-1]), steps, objective=trajectory.objective, **settings)

    monkeypatch.setitem(module.DRIVERS, "halving", resume)
    return run


START = State(centre=np.array([3.0, -1.0]), deviations=1e-200 * np.array([[1.0, 2.0], [-1.0, 0.5]]))


def test_extended_is_the_longer_run(halving, tmp_path):
    once = halving(START, 0, 30)
    twice = halving(START, 0, 12).extend(steps=10).extend(8)
    for name in ("steps", "times", "loss", "grad_norm", "centres", "deviations"):
        assert_array_equal(getattr(twice, name), getattr(once, name))
    assert_array_equal(twice.observed["loss2"], once.observed["loss2"])
    assert (twice.evaluations, twice.wall_time, twice.continuation) == (30, 3.0, {"last": 30})
    assert [piece["from_step"] for piece in twice.attributes["pieces"]] == [0, 12, 22]
    assert twice.objective == "something"
    saved = halving(START, 0, 12)
    saved.save(tmp_path / "run.nc")
    back = load(tmp_path / "run.nc", objective="given").extend(steps=18)
    assert_array_equal(back.deviations, once.deviations)
    assert back.objective == "given"


def test_a_saved_run_of_gradient_descent_goes_on(tmp_path):
    objective = op.ScoreMatching(op.GaussianMixture([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    start = op.init.around([2.0, 0.5, -1.0], 1e-3 * np.random.default_rng(0).normal(size=(3, 3)))
    settings = dict(step_size=0.1, record=every(10), observe={"norms": lambda params: np.linalg.norm(params, axis=1)})
    once = op.gradient_descent(objective, start, steps=60, **settings)
    half = op.gradient_descent(objective, start, steps=30, **settings)
    half.save(tmp_path / "half.nc")
    twice = load(tmp_path / "half.nc").extend(steps=30, observe=settings["observe"])
    assert twice.status == "completed"
    assert_array_equal(twice.steps, once.steps)
    assert_array_equal(twice.times, once.times)
    # the two may plan at other steps: each gradient is within 1e-10 of the truth, and 60 steps of 0.1 add up
    for name in ("loss", "grad_norm"):
        assert_allclose(getattr(twice, name), getattr(once, name), rtol=1e-8)
    assert_allclose(twice.params, once.params, atol=1e-9)
    assert_allclose(twice.observed["norms"], once.observed["norms"], atol=1e-9)
    assert twice.settings == once.settings


def test_extend_with_other_settings(halving):
    run = halving(START, 0, 3).extend(steps=2, step_size=0.5)
    assert run.settings["step_size"] == 0.5
    assert [piece["settings"]["step_size"] for piece in run.attributes["pieces"]] == [0.1, 0.5]
    run = halving(START, 0, 3).extend(steps=2, observe=False)
    assert_array_equal(np.isnan(run.observed["loss2"]), [False] * 4 + [True] * 2)
    run = halving(START, 0, 3, observe=False).extend(steps=2, observe=True)
    assert_array_equal(np.isnan(run.observed["loss2"]), [True] * 4 + [False] * 2)


def test_extend_refuses_in_words(halving, monkeypatch):
    run = halving(START, 0, 3)
    for status in ("unstable", "failed"):
        with pytest.raises(ValueError, match=f"status '{status}'"):
            dataclasses.replace(run, status=status).extend(steps=1)
    for status in ("converged", "interrupted", "too_hard"):
        assert len(dataclasses.replace(run, status=status).extend(steps=1)) == 5
    with pytest.raises(ValueError, match="objective="):
        dataclasses.replace(run, objective=None).extend(steps=1)
    with pytest.raises(ValueError, match="driver 'walking'"):
        dataclasses.replace(run, driver="walking").extend(steps=1)
    monkeypatch.setitem(module.DRIVERS, "halving", lambda trajectory, **settings: halving(START, 0, 3))
    with pytest.raises(ValueError, match="must begin at the last step here, 3"):
        run.extend(steps=1)


def test_joined_in_different_bases_keeps_centres_and_deviations_apart():
    one, two = make(d=6), make(d=6, first=30)
    both = one.joined(two)
    assert both.basis is None and both.origin is None and len(both) == 7
    assert_allclose(both.params[:4], one.params, rtol=1e-13, atol=1e-14)  # same sums, taken in another order
    assert_allclose(both.params[3:], np.concatenate([one.params[3:], two.params[1:]]), rtol=1e-13, atol=1e-14)
    assert_allclose(both.deviations[-1], two.deviations[-1] @ two.basis.T, rtol=1e-12)
    assert 0 < abs(both.deviations).max() < 1e-298
    same = one.joined(make(d=6, first=30, basis=one.basis.copy(), origin=one.origin.copy()))
    assert_array_equal(same.basis, one.basis)


def test_joined_refuses_what_does_not_fit():
    run = make()
    for other, match in [
        (make(first=20), "begins at step 20"),
        (make(first=30, n=4), "4 parameters"),
        (make(first=30, problem={"kind": "Other"}), "kind is 'Other', was 'Mine'"),
        (make(first=30, observed={"norm": np.zeros((4, 2))}), r"observed\['norm'\] has shape"),
    ]:
        with pytest.raises(ValueError, match=match):
            run.joined(other)
    d = 10**6
    one, two = (make(records=4, k=1, first=first, basis=np.eye(d, 1, shift), origin=None) for first, shift in ((0, 0), (30, -1)))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("overparam._trajectory_joining.MOST_EXPANDED", 1000)
        with pytest.raises(ValueError, match="different bases"):
            one.joined(two)


# --- schedules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [log_spaced(1), log_spaced(2), log_spaced(200), every(1), every(7), every(10**9)], ids=repr)
@pytest.mark.parametrize("total", [0, 1, 2, 6, 7, 8, 20_000])
def test_schedules_contain_both_ends_once(schedule, total):
    steps = schedule.steps(total)
    assert steps.dtype == np.int64
    assert steps[0] == 0 and steps[-1] == total
    assert (np.diff(steps) > 0).all()
    assert schedule_from_description(json.loads(json.dumps(schedule.describe()))) == schedule
    assert eval(repr(schedule)) == schedule and hash(eval(repr(schedule))) == hash(schedule)


def test_log_spaced_is_even_in_the_logarithm():
    steps = log_spaced(200).steps(10**15)
    late = np.log10(steps[steps > 1000])
    assert_allclose(np.diff(late), 15 / 199, rtol=0.02)  # rounding to integers moves log10(1000) by 2e-4 of 0.075
    assert 180 < len(steps) <= 201
    assert log_spaced(50).steps(2**63 - 1)[-1] == 2**63 - 1
    assert log_spaced(1).steps(100).tolist() == [0, 1, 100]


def test_every_counts_evenly():
    assert every(3).steps(9).tolist() == [0, 3, 6, 9]
    assert every(3).steps(10).tolist() == [0, 3, 6, 9, 10]
    assert every(1e3).steps(1e4).tolist() == list(range(0, 10001, 1000))


@pytest.mark.parametrize(
    ("make_it", "match"),
    [
        (lambda: log_spaced(0), "log_spaced count"),
        (lambda: log_spaced(2.5), "log_spaced count"),
        (lambda: log_spaced(10**12), "log_spaced count"),
        (lambda: every(0), "every interval"),
        (lambda: every("often"), "every interval"),
        (lambda: every(1).steps(10**12), "use a larger interval or log_spaced"),
        (lambda: every(1).steps(-1), "total must be"),
        (lambda: log_spaced(3).steps(2**63), "total must be"),
        (lambda: check_schedule(200), r"log_spaced\(count\)"),
        (lambda: schedule_from_description({"kind": "evry"}), "Did you mean 'every'"),
        (lambda: schedule_from_description({"kind": "every", "count": 3}), "does not fit"),
        (lambda: schedule_from_description(3), "'kind'"),
        (lambda: check_observe([print]), "dict of functions"),
        (lambda: check_observe({"a": 3}), "dict of functions"),
        (lambda: check_observe({"": print}), "dict of functions"),
    ],
)
def test_hostile_schedules_are_named(make_it, match):
    with pytest.raises(ValueError, match=match):
        make_it()


def test_checks_pass_what_is_right_through():
    assert check_schedule(every(2)) == every(2)
    assert isinstance(every(2), Schedule)
    assert check_observe(None) == {}
    assert check_observe({"a": abs}) == {"a": abs}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room cannot be asked for in advance here")
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    """HDF5 ends the process when a disk is full: room is asked for before."""
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[2.0], [1.5]], step_size=0.1, steps=10)
    result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=50, tol=1e-6, records=20)
    for name, kept in (("run.nc", run), ("figure.nc", result)):
        kept.save(tmp_path / name)
        before = (tmp_path / name).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
            with pytest.raises(ValueError, match=f"{name}.* cannot be written: No space left"):
                kept.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.nc", "run.nc"]
