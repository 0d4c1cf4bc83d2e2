"""Files of runs: whole or not at all, to the last bit."""

import errno
import json
import os

import numpy as np
import pytest
from made_trajectories import CASES, assert_same, make
from numpy.testing import assert_array_equal

import overparam as op
from overparam import trajectory as module
from overparam.trajectory import (
    load,
)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]()


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
