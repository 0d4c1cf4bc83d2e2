"""The checks at the boundary: what they let pass, what they return, and that messages name argument, value and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from overparam._validation import (
    check_array,
    check_choice,
    check_integer,
    check_params,
    check_positive,
    check_real,
    check_rng,
    check_weights,
)


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.uint8), np.array([[1, 2], [3, 4]], dtype=">f4"),
                                   np.asfortranarray([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, 0, 2], [3, 0, 4]])[:, ::2],
                                   np.array([[1, 2], [3, 4]], dtype=np.longdouble), ((1, 2), (3, 4))])
def test_arrays_become_contiguous_float64(value):
    found = check_array(value, "x", ndim=2)
    assert found.dtype == np.float64 and found.flags.c_contiguous and found.dtype.isnative
    assert_array_equal(found, [[1, 2], [3, 4]])


def test_a_fitting_array_is_not_copied():
    array = np.ones((3, 2))
    assert np.shares_memory(check_array(array, "x", ndim=2), array)


def test_booleans_are_numbers():
    assert_array_equal(check_array([[True, False]], "x", ndim=2), [[1.0, 0.0]])


@pytest.mark.parametrize(("value", "message"), [
    (np.ones(3), r"x must have 2 dimension\(s\); got shape \(3,\)"),
    ([[1.0, 2.0], [3.0]], r"x is not a rectangular array of numbers"),
    ([["a"]], r"x must hold real numbers; got dtype <U1"),
    ([[None]], r"x must hold real numbers; got dtype object"),
    ([[10**400]], r"x must hold real numbers; got dtype object"),
    ([[1j]], r"x must hold real numbers; got dtype complex128"),
    (np.zeros((1, 1), "timedelta64[s]"), r"x must hold real numbers; got dtype timedelta64"),
    (np.zeros((0, 2)), r"x is empty \(shape \(0, 2\)\); it must hold at least one number"),
    ([[0.0, np.nan]], r"x must be finite; entry \(0, 1\) is nan"),
    ([[np.inf]], r"x must be finite; entry \(0, 0\) is inf"),
    (np.full((1, 1), np.longdouble("1e4000")), r"x must be finite; entry \(0, 0\) is inf"),
])
def test_bad_arrays(value, message):
    with pytest.raises(ValueError, match=message):
        check_array(value, "x", ndim=2)


def test_several_dimensions_and_empty_arrays():
    assert check_array(3.0, "x", ndim=(0, 1)).shape == ()
    assert check_array([], "x", ndim=1, empty=True).shape == (0,)
    with pytest.raises(ValueError, match=r"x must have 0 or 1 dimension"):
        check_array([[1.0]], "x", ndim=(0, 1))


def test_params_of_a_dimension():
    assert check_params([[1, 2]], dimension=2).shape == (1, 2)
    with pytest.raises(ValueError, match=r"params has shape \(1, 3\).*2 dimension\(s\): \(n, 2\) is needed"):
        check_params([[1, 2, 3]], dimension=2)


def test_weights():
    assert_array_equal(check_weights(None, 4), np.full(4, 0.25))
    given = np.full(3, 1 / 3)
    assert_array_equal(check_weights(given, 3), given)
    assert abs(check_weights([0.3, 0.7 + 5e-10], 2).sum() - 1) < 1e-15  # near 1: divided by the sum
    assert_array_equal(check_weights([1, 0], 2), [1.0, 0.0])
    assert check_weights(np.full(10**6, 1e-6), 10**6).shape == (10**6,)


@pytest.mark.parametrize(("value", "message"), [
    ([0.5], r"w must have one entry per component: 2 expected, got shape \(1,\)"),
    ([-0.1, 1.1], r"w must not be negative; got \[-0.1, 1.1\]"),
    ([0.5, 0.4], r"w must sum to 1; they sum to 0.9"),
    ([0.5, 0.5 + 1e-8], r"w must sum to 1"),
    ([np.nan, 1.0], r"w must be finite"),
    (1.0, r"w must have 1 dimension"),
    ("equal", r"w must hold real numbers"),
])
def test_bad_weights(value, message):
    with pytest.raises(ValueError, match=message):
        check_weights(value, 2, "w")


@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), np.array(2)])
def test_numbers(value):
    for found in (check_real(value, "x"), check_positive(value, "x")):
        assert found == 2.0 and type(found) is float
    found = check_integer(value, "x")
    assert found == 2 and type(found) is int


@pytest.mark.parametrize("value", [True, "2", None, [2.0], 2j, np.array([2.0]), 10**400])
def test_what_is_no_number(value):
    for check in (check_real, check_positive):
        with pytest.raises(ValueError, match="x must be"):
            check(value, "x")
    if not isinstance(value, int) or isinstance(value, bool):  # 10**400 is a whole number
        with pytest.raises(ValueError, match="x must be a whole number; got"):
            check_integer(value, "x")


@pytest.mark.parametrize(("call", "message"), [
    (lambda: check_real(-1.0, "x", minimum=0.0), r"x must be a finite number not below 0; got -1.0"),
    (lambda: check_real(3, "x", minimum=0.0, maximum=2.0), r"x must be a finite number not below 0 and not above 2; got 3"),
    (lambda: check_real(np.nan, "x"), r"x must be a finite number; got nan"),
    (lambda: check_positive(0, "x"), r"x must be a finite number above 0; got 0"),
    (lambda: check_positive(np.inf, "x"), r"x must be a finite number above 0; got inf"),
    (lambda: check_integer(-1, "x"), r"x must be a whole number not below 0; got -1"),
    (lambda: check_integer(9, "x", minimum=1, maximum=8), r"x must be a whole number not below 1 and not above 8; got 9"),
    (lambda: check_integer(0.5, "x"), r"x must be a whole number; got 0.5"),
    (lambda: check_integer(np.nan, "x"), r"x must be a whole number; got nan"),
    (lambda: check_rng("a", "seed"), r"seed must be a seed or a numpy.random.Generator; got 'a'"),
    (lambda: check_choice("figure1", "name", ["figure_1", "other"]),
     r"name 'figure1' is not known. Did you mean 'figure_1'\? Known: figure_1, other"),
    (lambda: check_choice("zzz", "name", ["abc"]), r"name 'zzz' is not known. Known: abc"),
    (lambda: check_choice(["abc"], "name", ["abc"]), r"name \['abc'\] is not known"),
    (lambda: check_real("x" * 500, "x"), r"x must be one real number; got 'x{70,79}\.\.\."),
])
def test_messages_name_argument_value_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_floats_count():
    assert check_integer(2e4, "steps") == 20_000


def test_generators():
    rng = np.random.default_rng(0)
    assert check_rng(rng) is rng
    for seed in (None, 3, np.random.SeedSequence(3), np.random.PCG64(3), [1, 2]):
        assert isinstance(check_rng(seed), np.random.Generator)
