"""zhang2025.covariance: growth by the first-order law, borders that follow it, who stays, settings."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025.covariance import CovarianceResult
from overparam.experiments.zhang2025.covariance_runs import growth, run, staying
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, profile

NAME = "zhang2025.covariance"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=3, along=(0.5, 1.0, 2.0), across=0.5, M=(4.0, 6.0), resolution=0.2)


@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_small_differences_grow_by_the_law(variance):
    objective, M, n = op.ScoreMatching(op.Gaussian([0.0], covariance=[variance])), 4.0, 5
    times = n / 2 * np.log(M / np.array([M, 2.0, 1.0]))  # of centres at M, 2 and 1
    flow = op.gradient_flow(objective, op.init.around([M], 1e-60 * profile("equispaced", n)[:, None]), t_end=times[-1], rtol=1e-10,
                            record=op.log_spaced(60))
    spread = np.log([flow.states[k].spread / flow.states[0].spread for k in range(len(flow.times))])
    centre = np.array([float(flow.states[k].centre[0] + flow.states[k].deviations.mean()) for k in range(len(flow.times))])
    assert_allclose(centre, M * np.exp(-2 * flow.times / n), rtol=1e-7)
    law = M**2 - centre**2 + 2 * (variance - 1) * np.log(M / centre)
    assert_allclose(spread, law, atol=1e-6)
    assert_allclose(spread[-1], growth(M, variance) - 1, atol=1e-6)


def test_the_constant_of_the_law_does_not_hang_on_the_distance(result):
    for variance in (0.5, 1.0, 2.0):
        near, far = (point for point in result.points if (point.direction, point.variance) == ("along", variance))
        assert near.border.found and far.border.found and near.border.high - near.border.low <= 0.2 + 1e-9
        assert abs(near.border.middle - far.border.middle) <= 0.2 + 1e-9
        # without the eigenvalue in it, it would: the border moves by 2 |lambda - 1| ln(6/4) = 0.8 |lambda - 1|
        moved = (far.log_epsilon + 36) - (near.log_epsilon + 16)
        assert abs(moved + 2 * (variance - 1) * np.log(1.5)) <= 0.2 + 1e-9
        assert abs(result.exponent("along", variance) + 2 * (variance - 1)) <= 0.2 / np.log(1.5) + 1e-9


def test_the_identity_has_the_border_of_all_converging(result):
    plain = next(point for point in result.points if point.variance == 1.0)
    assert plain.staying == 2
    dynamics = Dynamics()
    assert dynamics.fate(4.0, 1, profile("equispaced", 3), plain.border.low - 16).k == 3
    assert dynamics.fate(4.0, 1, profile("equispaced", 3), plain.border.high - 16).k == 2


def test_across_the_eigenvector_the_border_is_that_of_the_identity(result):
    plain = next(point for point in result.points if point.variance == 1.0)
    for point in result.points:
        if point.direction == "across":
            assert abs(point.border.middle - plain.border.middle) <= 0.2 + 1e-9


def test_those_that_stay_rest_at_a_stationary_point_of_two_sides_where_the_teacher_is_wide(result):
    objective = op.ScoreMatching(op.Gaussian([0.0], covariance=[2.0]))
    wide = next(point for point in result.points if point.variance == 2.0)
    ends = wide.radius * np.array([[-1.0], [0.0], [1.0]])
    assert np.abs(objective.grad(ends)).max() < 1e-6 and objective.value(ends) < objective.value(np.zeros((3, 1)))
    narrow = next(point for point in result.points if point.variance == 0.5)
    assert narrow.radius < 1e-6


def test_staying_and_escaping():
    there = run(3, "along", 2.0, 4.0, "equispaced", 12.0 - growth(4.0, 2.0), 3000.0, 1e-7, 1e-6)
    assert staying(there, 1.185) == (2, "")
    assert staying(there, np.abs(there.final).max() - 1.8)[0] is None  # farther than one that stays, nearer than one that escapes
    short = run(3, "along", 2.0, 4.0, "equispaced", -5.0 - growth(4.0, 2.0), 1.0, 1e-7, 1e-6)
    assert staying(short, 1.185)[0] is None


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes == {"direction": 2, "variance": 3, "M": 2} and np.isnan(data.radius.sel(direction="across", variance=2.0)).all()
    with xarray.open_dataset(result.save(tmp_path / "borders.nc")) as again:
        assert json.loads(again.attrs["settings"])["along"] == [0.5, 1.0, 2.0]
    assert result.draw(tmp_path / "borders.png").stat().st_size > 10_000
    summary = result.summary()
    assert "first-order law -2.00" in summary and "lambda=0.5" in summary
    few = CovarianceResult(NAME, result.settings, result.points[:1], stopped="after 1 of 8 points")
    assert few.interrupted and "after 1 of 8" in few.summary() and few.finished() is few
    assert CovarianceResult(NAME, result.settings, (), stopped="after 0").finished() is None


@pytest.mark.parametrize("setting", [{"n": 1}, {"along": -1.0},
                                     {"along": 0.0}, {"across": 20.0}, {"M": 1.0}, {"M": 20.0}, {"along": (), "across": ()},
                                     {"profile": ("equispaced", 0)}, {"resolution": 0.0}, {"n_jobs": 0}, {"along": (1.0, 1.0)}])
def test_settings_that_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        check_settings(NAME, setting)
