"""Which steps and times are recorded, and checks of what a run is told to record."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from overparam.trajectory import (
    Schedule,
    check_observe,
    check_schedule,
    every,
    log_spaced,
    schedule_from_description,
)


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
