"""The staircase above the border, the survival of a second mean, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import staircase
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, profile
from overparam.experiments.zhang2025.staircase import Staircase

NAME = "zhang2025.staircase"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=3, profile=("equispaced", "one far"), others=6.0, resolution=0.2)


@pytest.mark.parametrize(("b", "k"), [(2.05, 5), (2.6, 4), (3.15, 3), (4.05, 2), (5.55, 1)])
def test_five_equispaced_means_converge_in_every_number(b, k):
    assert Dynamics().fate(5.0, 1, profile("equispaced", 5), b - 25.0).k == k


def test_thresholds_are_ordered_and_as_narrow_as_asked(result):
    stair = result.stairs[3, "equispaced"]
    ends = [stair.threshold(k) for k in (3, 2)]
    assert all(0 < high - low <= 0.2 + 1e-9 for low, high in ends) and ends[0][0] < ends[1][0]
    assert list(stair.b) == sorted(stair.b) and sorted(stair.k, reverse=True) == list(stair.k) and not any(stair.reasons)


def test_two_nearest_at_one_place_stay_together(result):
    stair = result.stairs[3, "one far"]
    assert set(stair.k) == {3, 2} and stair.threshold(2)[1] == np.inf


def test_a_second_mean_survives_up_to_a_gap_that_agrees_with_the_staircase(result):
    gap = result.survival[3, 6.0]
    assert gap.message == "" and gap.high - gap.low <= 0.2 + 1e-9
    # of three equispaced means the middle one is lost at the same gap, where the third is as far away as it then is: not much else matters
    low, high = result.stairs[3, "equispaced"].threshold(2)
    spacing = np.log(np.diff(profile("equispaced", 3))[0])
    assert gap.low - 0.2 < high + spacing and low + spacing < gap.high + 0.2


def test_threshold_of_known_runs():
    stair = Staircase((1.0, 2.0, 3.0, 4.0), (3, 2, None, 1))
    assert stair.threshold(3) == (1.0, 2.0) and stair.threshold(2) == (2.0, 4.0) and stair.threshold(1) == (4.0, np.inf)
    assert Staircase((1.0,), (2,)).threshold(3) == (-np.inf, 1.0)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["profile"] == 2 and data.k.values.tolist() == [2, 3]
    assert float(data.gap_low.sel(n=3, others=6.0)) == result.survival[3, 6.0].low
    with xarray.open_dataset(result.save(tmp_path / "stairs.nc")) as again:
        assert json.loads(again.attrs["settings"])["M"] == 6.0
    assert len(result.draw().axes) == 2
    assert len(result.summary().splitlines()) == 1 + 2 + 1 + 1


@pytest.mark.parametrize(("change", "message"), [
    ({"n": 1}, "n must be"), ({"profile": "x"}, "profile must be"), ({"M": (4, 5)}, "M must be one number"), ({"M": 0}, "M must be"),
    ({"others": 1.0}, "others must be"), ({"resolution": 2.0}, "resolution"), ({"tol": 0}, "tol"), ({"rtol": 0}, "rtol"),
    ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return Staircase((2.0, 3.0), (2, 1))

    calls = []
    monkeypatch.setattr(staircase, "_stairs", impatient)
    settings = {"n": 2, "profile": ("equispaced", 0, 1)}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.stairs) == 1 and result.draw() and "interrupted after" in result.summary()
