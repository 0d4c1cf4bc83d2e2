"""States: centre and deviations kept apart, in a basis, checked once, and never changed."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam.geometry import reduce_state

PARAMS = np.array([[2.0, 0.1, 1.0], [1.0, -0.3, 1.0], [-0.4, 0.5, 1.0]])


def with_basis(d=7, k=3, seed=0):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((d, k)))[0]
    return op.State(rng.standard_normal(k), rng.standard_normal((4, k)), basis, rng.standard_normal(d))


def test_array_is_a_state_with_centre_0():
    state = op.State.of(PARAMS)
    assert (state.n, state.k, state.d) == (3, 3, 3)
    assert_array_equal(state.params, PARAMS)
    assert_array_equal(state.centre, np.zeros(3))
    assert_array_equal(np.asarray(state), PARAMS)
    assert np.asarray(state, dtype=np.float32).dtype == np.float32
    assert op.State.of(state) is state


def test_params_are_origin_plus_basis_times_sum():
    state = with_basis()
    assert (state.n, state.k, state.d) == (4, 3, 7)
    for i in range(4):
        assert_allclose(state.params[i], state.origin + state.basis @ (state.centre + state.deviations[i]), rtol=1e-14)
    rows = np.arange(12.0).reshape(4, 3)
    assert_allclose(state.expand_gradient(rows), rows @ state.basis.T)
    assert_allclose(state.expand(state.coordinates), state.params)


def test_spread_is_of_the_deviations():
    assert op.State(np.array([1e12]), np.array([[1e-300], [-1e-300]])).spread == 2e-300
    assert op.State.of(PARAMS).spread == 2.4


def test_moved_keeps_basis_and_origin():
    state = with_basis()
    moved = state.moved(np.zeros(3), np.ones((4, 3)))
    assert moved.basis is state.basis and moved.origin is state.origin
    assert_allclose(moved.params, np.tile(state.origin + state.basis.sum(axis=1), (4, 1)))


def test_nothing_can_be_changed_through_a_state():
    state = with_basis()
    for name in ("centre", "deviations", "basis", "origin"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(state, name)[0] = 1.0
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(state, name, None)


def pickled(state):
    return pickle.loads(pickle.dumps(state))


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickled])
def test_copies(clone):
    state = with_basis()
    again = clone(state)
    for name in ("centre", "deviations", "basis", "origin"):
        assert_array_equal(getattr(again, name), getattr(state, name))
        assert not getattr(again, name).flags.writeable


BAD = {
    "centre": (([[0.0]], [[1.0]]), r"centre must have 1 dimension.*\(1, 1\)"),
    "deviations": (([0.0], [1.0]), r"deviations must have 2 dimension.*\(1,\)"),
    "no deviations": (([0.0], np.zeros((0, 1))), r"deviations is empty"),
    "sizes": (([0.0, 0.0], [[1.0]]), r"deviations have 1 coordinates and the centre has 2"),
    "NaN": (([np.nan], [[1.0]]), r"centre must be finite; entry \(0,\) is nan"),
    "infinity": (([0.0], [[np.inf]]), r"deviations must be finite; entry \(0, 0\) is inf"),
    "complex": (([0.0], [[1j]]), r"deviations must hold real numbers; got dtype complex128"),
    "basis shape": (([0.0], [[1.0]], np.eye(2)), r"basis must have shape \(d, 1\); got \(2, 2\)"),
    "basis dimension": (([0.0], [[1.0]], np.ones(2)), r"basis must have 2 dimension"),
    "NaN in the basis": (([0.0], [[1.0]], [[np.nan]]), r"basis must be finite"),
    "origin shape": (([0.0], [[1.0]], None, [1.0, 2.0]), r"origin must have shape \(1,\); got \(2,\)"),
    "origin dimension": (([0.0], [[1.0]], None, [[1.0]]), r"origin must have 1 dimension"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parts(case):
    parts, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        op.State(*parts)


@pytest.mark.parametrize(("basis", "origin", "message"), [
    (np.ones(2), None, "basis must"), (np.ones((2, 3)), None, "basis must"), (None, np.ones((1, 1)), "origin must"),
])
def test_bad_read_only_parts(basis, origin, message):
    for part in (basis, origin):
        if part is not None:
            part.flags.writeable = False
    with pytest.raises(ValueError, match=message):
        op.State([0.0], [[1.0]], basis, origin)


# --- below float64's range -------------------------------------------------------------------------------------------


def test_scale_is_multiplied_out_where_float64_holds_the_deviations():
    z = np.array([[1.5], [-0.25]])
    for log_scale in (-1e-3, -10.0, -345.0):
        state = op.State([3.0], z, log_scale=log_scale)
        assert state.log_scale == 0.0
        assert_allclose(state.deviations, z * np.exp(log_scale), rtol=1e-15)
    huge = op.State([3.0], 1e300 * z, log_scale=-1000.0)  # the factor alone underflows
    assert huge.log_scale == 0.0
    assert_allclose(np.log(huge.deviations[0, 0]), np.log(1.5) + 300 * np.log(10) - 1000, rtol=1e-15)
    assert op.State([3.0], 0 * z, log_scale=-1000.0).log_scale == 0.0  # coincident at any scale


@pytest.mark.parametrize("amplitude", [1.0, 1e-100, 1e-104, 1e-120, 1e-149, 1e-200, 1e300])
@pytest.mark.parametrize("log_scale", [-3000.0, -1e6])
def test_stored_deviations_stay_in_their_window(amplitude, log_scale):
    z = amplitude * np.array([[1.0, 1e-100], [-1.0 / 3, 0.0]])
    state = op.State([3.0, 0.0], z, log_scale=log_scale)
    peak = np.abs(state.deviations).max()
    assert 1e-150 <= peak <= 1e-105 and state.log_scale < 0
    assert_allclose(state.deviations / peak, z / amplitude, rtol=1e-14)
    assert_allclose(state.log_spread, np.log(4 / 3) + np.log(amplitude) + log_scale, rtol=2e-16 * 4)
    assert state.spread == 0.0 and (state.true_deviations == 0).all()
    assert_array_equal(state.params, [[3.0, 0.0]] * 2)
    again = op.State(state.centre, state.deviations, log_scale=state.log_scale)  # nothing is left to do
    assert again.log_scale == state.log_scale
    assert_array_equal(again.deviations, state.deviations)


def test_between_the_window_and_the_end_of_float64_values_are_true():
    state = op.State([0.0], [[1.0], [-1.0]], log_scale=-600.0)
    assert state.log_scale < 0
    assert_allclose(state.params.ravel(), np.exp(-600.0) * np.array([1.0, -1.0]), rtol=1e-12)
    assert_allclose(state.spread, 2 * np.exp(-600.0), rtol=1e-12)


def test_moved_renormalises():
    state = op.State([3.0], [[1.0], [-1.0]], log_scale=-2000.0)
    same = state.moved([2.0], state.deviations * 1e10)
    assert_allclose(same.log_spread - state.log_spread, np.log(1e10), rtol=0, atol=1e-12)
    assert np.abs(state.moved([2.0], state.deviations * 1e40).deviations).max() <= 1e-105
    assert same.centre.tolist() == [2.0]
    back = state.moved([2.0], state.deviations * np.exp(500.0)).moved([2.0], [[1e300], [-1e300]])
    assert back.log_scale <= 0.0


def test_log_spread_of_ordinary_states():
    assert op.State([0.0], [[1.0], [-1.0]]).log_spread == np.log(2)
    assert op.State([0.0], [[1.0], [1.0]]).log_spread == -np.inf
    tiny = op.State([0.0], [[1e-300], [-1e-300]])
    assert tiny.log_scale == 0.0
    assert_allclose(tiny.log_spread, np.log(2e-300), rtol=1e-15)


def test_scales_survive_copies():
    state = op.State([3.0], [[1.0], [-1.0]], log_scale=-2000.0)
    for clone in (copy.copy, copy.deepcopy, pickled):
        assert clone(state).log_scale == state.log_scale
        assert_array_equal(clone(state).deviations, state.deviations)


@pytest.mark.parametrize("log_scale", [1.0, np.nan, -np.inf, "small"])
def test_bad_scales(log_scale):
    with pytest.raises(ValueError, match="log_scale must be"):
        op.State([3.0], [[1.0]], log_scale=log_scale)


# --- reduction to the span -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", [np.full((1, 50), 0.3), np.random.default_rng(3).standard_normal((2, 50))])
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e-100])
def test_reduction_is_exact(scale, teacher):
    rng = np.random.default_rng(1)
    z = rng.standard_normal((4, 50))
    state = op.init.around(rng.standard_normal(50) * 5, scale * z)
    reduced = reduce_state(state, teacher)
    assert reduced.k == 4 + len(teacher) - 1 and reduced.d == 50  # three differences, the offset, the teacher's differences
    assert_allclose(reduced.basis.T @ reduced.basis, np.eye(reduced.k), atol=1e-14)
    assert_allclose(reduced.params, state.params, rtol=0, atol=1e-13)
    differences = (reduced.deviations - reduced.deviations[0]) @ reduced.basis.T
    assert_allclose(differences, scale * (z - z[0]), rtol=0, atol=1e-13 * scale * np.abs(z).max() * 10)


def test_reduction_of_a_reduced_state_keeps_its_deviations():
    state = with_basis()
    reduced = reduce_state(state, np.zeros((1, 7)))
    assert reduced.k == 4  # the origin lies outside the span
    assert_array_equal(reduced.deviations[:, :3], state.deviations)
    assert_allclose(reduced.params, state.params, atol=1e-14)
    again = reduce_state(reduced, np.zeros((1, 7)))
    assert again.k == 4
    assert_allclose(again.params, state.params, atol=1e-14)


def test_reduction_of_a_point_on_the_teacher():
    reduced = reduce_state(op.State.of(np.ones((2, 30))), np.ones((1, 30)))
    assert reduced.k >= 1
    assert_array_equal(reduced.params, np.ones((2, 30)))
