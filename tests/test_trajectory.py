"""The record of a run: lazy, read-only, lossless; in xarray."""

import copy
import dataclasses
import json
import pickle
import tracemalloc

import numpy as np
import pytest
from made_trajectories import ARRAYS, CASES, assert_same, make
from numpy.testing import assert_allclose, assert_array_equal

from overparam.state import State


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]()


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
