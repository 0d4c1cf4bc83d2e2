"""The store of a sweep: whole files or none, nothing mixed, damage told, writing that fails."""

import errno
import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import sweep_points as points
import xarray
from numpy.testing import assert_array_equal

import overparam as op
from overparam import _point_files
from overparam._fingerprint import describe_function
from overparam._point_files import Damaged, decode, encode
from overparam.store import Store, StoreError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


def square(x):
    return {"square": x * x}


def test_a_point_file_gives_back_what_was_put_in_and_is_the_same_for_the_same():
    found = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(2j), "name": np.array("ω"), "flag": np.array(True), "n": np.array(7)}
    data = encode(found, 3, "abc")
    back = decode(data, 3, "abc")
    assert list(back) == list(found) and data == encode(found, 3, "abc")
    for name in found:
        assert_array_equal(back[name], found[name])
        assert back[name].dtype == found[name].dtype


def test_no_change_of_a_byte_gives_other_numbers():
    found = {"value": np.array([1.5, -2.25])}
    data = encode(found, 0, "abc")
    for place in range(0, len(data), 3):
        changed = bytearray(data)
        changed[place] ^= 0x10
        try:
            back = decode(bytes(changed), 0, "abc")
        except Damaged:
            continue
        assert_array_equal(back["value"], found["value"])  # what was hit says nothing, such as a date
    for cut in (0, 1, len(data) // 2, len(data) - 1):
        with pytest.raises(Damaged):
            decode(data[:cut], 0, "abc")


def test_files_of_another_point_or_sweep_are_not_taken(folder):
    store = op.sweep(square, {"x": [1, 2]}, store=folder)
    store.result_path(0).write_bytes(store.result_path(1).read_bytes())
    with pytest.raises(StoreError, match=r"of point 1 .* not of point 0"):
        store.get(0)


def test_collect_has_parameters_as_dimensions_and_netcdf_holds_it(folder):
    store = op.sweep(points.draws, {"x": [0, 1, 2], "y": [5, 7]}, store=folder, seed=4)
    data = store.collect()
    assert data["sum"].dims == ("x", "y") and data.x.values.tolist() == [0, 1, 2]
    assert data["sum"].values.tolist() == [[5, 7], [6, 8], [7, 9]] and data["sum"].dtype.kind == "i"
    seeds = np.random.SeedSequence(4).spawn(6)
    for i, (x, y) in enumerate((x, y) for x in (0, 1, 2) for y in (5, 7)):
        assert_array_equal(data.draws.sel(x=x, y=y), np.random.default_rng(seeds[i]).normal(size=3))
    assert_array_equal(data.counts.sel(x=1, y=5), [0, np.nan])  # shorter ones are filled up
    assert data["name"].sel(x=2, y=7) == "aa" and data.phase.sel(x=0, y=7) == 7j
    assert (data.state == 1).all()
    with xarray.open_dataset(store.save(), engine="h5netcdf") as saved:
        assert saved.phase_imag.sel(x=0, y=7) == 7 and json.loads(saved.attrs["configuration"])["seed"]["entropy"] == 4
        assert_array_equal(saved.draws, data.draws)
        assert saved["name"].values.tolist() == data["name"].values.tolist()


def test_a_list_of_points_is_a_dimension_with_their_parameters_along_it(folder):
    store = op.sweep(lambda x, kind="plain": {"x": x}, [{"x": 1.5}, {"x": 2.5, "kind": "other"}], store=folder)
    data = store.collect()
    assert data.x_.values.tolist() == [1.5, 2.5]  # a result of a parameter's name
    assert data.x.dims == ("point",) and data.kind.values.tolist() == ["", "other"]


def test_missing_points_are_nan_and_say_so(folder):
    store = op.sweep(square, {"x": [1, 2, 3]}, store=folder)
    store.result_path(1).unlink()
    data = Store.open(folder).collect()
    assert_array_equal(data.square, [1, np.nan, 9])
    assert data.state.values.tolist() == [1, 0, 1] and store.status().missing == 1


# --- never mixed ------------------------------------------------------------------------------------------------------


def times(x, factor=2):
    return {"value": x * factor}


@pytest.mark.parametrize(("change", "words"), [
    ({"grid": {"x": [1, 2, 4]}}, "grid.axes.x"),
    ({"grid": {"z": [1, 2, 3]}}, "grid.axes"),
    ({"seed": 6}, "seed.entropy was 5 there and is 6 here"),
    ({"point": points.fails_at_two}, "point.name"),
    ({"point": lambda x: {"value": 3 * x}}, "point"),
    ({"configuration": {"n": 3}}, "more.n is only here"),
])
def test_another_configuration_is_refused(folder, change, words):
    given = {"point": times, "grid": {"x": [1, 2, 3]}, "seed": 5}
    store = op.sweep(given["point"], given["grid"], store=folder, seed=5)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="another configuration or version") as told:
        changed = {**given, **change}
        op.sweep(changed.pop("point"), changed.pop("grid"), store=folder, **changed)
    assert words in str(told.value) and str(folder) in str(told.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert store.collect().value.values.tolist() == [2, 4, 6]


def test_another_version_is_refused_but_can_be_read(folder, monkeypatch):
    op.sweep(times, {"x": [1]}, store=folder)
    other = {**op.store.versions_here(), "kernel": "portable"}
    monkeypatch.setattr("overparam.store.versions_here", lambda: other)
    with pytest.raises(StoreError, match=r"kernel was .* there and is .*portable.* here"):
        op.sweep(times, {"x": [1]}, store=folder)
    assert Store.open(folder).collect().value.values.tolist() == [2]


def test_a_function_is_known_by_what_it_does():
    def made(factor, text="a"):
        def inner(x):
            return x * factor if text else 0
        return inner

    def same(x):
        """Documented."""
        # and commented
        return x + 1

    def other(x):
        return x + 2

    one = describe_function(same)
    same.__doc__ = "Otherwise."
    assert describe_function(same) == one and describe_function(other)["code"] != one["code"]
    assert describe_function(made(2)) == describe_function(made(2)) != describe_function(made(3))
    assert describe_function(partial(times, factor=3))["arguments"] == {"factor": 3}
    assert describe_function(partial(times, factor=3)) != describe_function(partial(times, factor=4))
    assert describe_function(partial(times, factor=np.arange(100.0))) != describe_function(partial(times, factor=np.arange(100.0) + 1))
    source = "\n".join(["def helper(x):", "    return {} * x", "def point(x):", "    return helper(x)"])
    first, second, third = ({"__name__": "m"} for _ in range(3))
    exec(source.format(2), first)
    exec(source.format(2), second)
    exec(source.format(3), third)
    assert describe_function(first["point"]) == describe_function(second["point"]) != describe_function(third["point"])


def test_a_function_is_known_in_another_process(tmp_path):
    code = "import sweep_points as p; from overparam._fingerprint import describe_function as d; print(d(p.flow), d(p.draws))"
    said = {subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.path.dirname(points.__file__),
                                                              "PYTHONHASHSEED": str(seed)},
                           capture_output=True, text=True, check=True, cwd=tmp_path).stdout.strip() for seed in (1, 2)}
    assert said == {f"{describe_function(points.flow)} {describe_function(points.draws)}"}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_damaged_files_are_told_set_aside_and_computed_again(folder):
    store = op.sweep(square, {"x": [1, 2, 3]}, store=folder)
    store.result_path(1).write_bytes(store.result_path(1).read_bytes()[:50])
    with pytest.warns(UserWarning, match="000001.npz' is damaged.*counts as missing"):
        assert store.collect().state.values.tolist() == [1, 0, 1]
    with pytest.warns(UserWarning, match="set aside as .*000001.npz.damaged"):
        again = op.sweep(square, {"x": [1, 2, 3]}, store=folder)
    assert again.collect().square.values.tolist() == [1, 4, 9]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "overparam sweep"}', '{"format": "something"}'])
def test_a_damaged_manifest_is_told(folder, text):
    op.sweep(square, {"x": [1]}, store=folder)
    (folder / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        Store.open(folder)


def test_a_changed_manifest_is_told(folder):
    op.sweep(square, {"x": [1]}, store=folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"x"', '"y"'))
    with pytest.raises(StoreError, match="does not fit its hash"):
        Store.open(folder)


def test_no_store_and_what_is_no_folder_are_told(tmp_path):
    with pytest.raises(StoreError, match="holds no sweep"):
        Store.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="is a file"):
        op.sweep(square, {"x": [1]}, store=tmp_path / "file")
    with pytest.raises(StoreError, match="cannot be written to"):
        op.sweep(square, {"x": [1]}, store="/proc/nowhere/store")


def test_a_full_disk_ends_the_sweep_with_a_message_and_keeps_the_rest(folder, monkeypatch):
    written = []

    def full(temporary, path):
        if len(written) == 2 and str(path).endswith(".npz"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        return rename(temporary, path)

    rename = os.replace
    monkeypatch.setattr(_point_files.os, "replace", full)
    with pytest.raises(StoreError, match=r"cannot be written to: No space left on device\. What is in it is kept"):
        op.sweep(square, {"x": [1, 2, 3, 4]}, store=folder)
    monkeypatch.undo()
    assert not [path for path in folder.rglob("*.tmp")]
    assert Store.open(folder).status().done == 2
    assert op.sweep(square, {"x": [1, 2, 3, 4]}, store=folder).collect().square.values.tolist() == [1, 4, 9, 16]


def test_collected_results_that_have_no_room_are_told(folder, monkeypatch):
    store = op.sweep(square, {"x": [1, 2]}, store=folder)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match="No space left on device"):
        store.save()
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "points"]


def test_a_limit_on_files_is_told_in_a_real_process(folder, tmp_path):
    code = ("import resource, numpy as np, overparam as op\n"
            "def point(x): return {'a': np.zeros(50 if x < 2 else 100_000)}\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            f"op.sweep(point, {{'x': [0, 1, 2, 3]}}, store={str(folder)!r})\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "StoreError" in done.stderr and "File too large" in done.stderr and "What is in it is kept" in done.stderr
    assert sorted(path.name for path in (folder / "points").glob("*.npz")) == ["000000.npz", "000001.npz"]
