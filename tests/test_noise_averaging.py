"""Averaging over noise times: the border's exponent, the radius from which escaped means come back, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from scipy.integrate import quad
from scipy.optimize import brentq

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import noise_averaging
from overparam.experiments.zhang2025.noise_averaging import WIDE
from overparam.experiments.zhang2025.noise_averaging_runs import AveragedDynamics, Border, averaged, exponent, radius_at_rest, returns
from overparam.experiments.zhang2025.phase_boundary_runs import Bracket

NAME = "zhang2025.noise_averaging"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, weight="uniform", T=(0.5, 1.0, 2.0), d=1, rest_T=(0.0, 2.0), nodes=5, resolution=0.5)


def loss_of_one_far(r, n=5):
    """Loss at time 0 of one mean at r and n - 1 at the target, by adaptive quadrature."""
    def integrand(x):
        w = 1 / (1 + (n - 1) * np.exp(r * r / 2 - r * x))
        return (w * r) ** 2 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)

    return quad(integrand, -9.0, r + 9.0, points=[0.0, r / 2, r], epsabs=0, epsrel=1e-11, limit=200)[0]


@pytest.mark.parametrize("T", [0.5, 1.0, 2.0])
def test_the_border_has_the_predicted_exponent(result, T):
    one = result.borders["uniform", T, 1]
    assert not any(point.message for point in one.points) and all(point.high - point.low <= 0.5 + 1e-9 for point in one.points)
    # the quadrature of five times leaves 1e-4 of the means, the intervals (one.error, the worst case) half a per cent of the slope at least
    assert one.predicted == pytest.approx({0.5: 0.684, 1.0: 0.568, 2.0: 0.509}[T], abs=1e-3)
    assert one.predicted == pytest.approx((1 + np.exp(-2 * T)) / 2, rel=2e-4)
    assert one.measured == pytest.approx(one.predicted, rel=0.02)


def test_the_uniform_radius_is_where_early_and_late_losses_are_equal():
    """The uniform force is (l(r) - l(r exp(-T))) / r: two values of an adaptive quadrature say where it vanishes."""
    for T, predicted in ((1.0, 4.2), (3.0, 6.9)):
        wanted = brentq(lambda r, T=T: loss_of_one_far(r) - loss_of_one_far(r * np.exp(-T)), 2.8, 12.0)
        assert radius_at_rest("uniform", T, 5, nodes=16) == pytest.approx(wanted, rel=2e-3)
        assert wanted == pytest.approx(predicted, abs=0.05)


@pytest.mark.parametrize(("weight", "density", "predicted"), [("1-exp(-2t)", lambda t: -np.expm1(-2 * t), 8.0),
                                                              ("exp(2t)", lambda t: np.exp(2 * t), 13.5)])
def test_radii_of_other_weights(weight, density, predicted):
    T, step = 2.0, 1e-3

    def averaged_loss(r):  # the force is its derivative
        return quad(lambda t: density(t) * loss_of_one_far(r * np.exp(-t)), 0.0, T, epsrel=1e-9)[0]

    found = radius_at_rest(weight, T, 5, nodes=12)
    inside, outside = ((averaged_loss(r + step) - averaged_loss(r - step)) for r in (0.997 * found, 1.003 * found))
    assert inside > 0 > outside
    assert found == pytest.approx(predicted, abs=0.1)


def test_no_radius_within_reach_and_the_same_in_every_dimension():
    assert radius_at_rest("exp(2t)", 3.0, 5, nodes=12, most=20.0) == np.inf
    r = radius_at_rest("uniform", 1.0, 5, nodes=8)
    rows = [averaged("uniform", 1.0, 3, 8, 1e-6).grad(np.outer([scale * r, 0, 0, 0, 0], [0.6, 0.0, 0.8]))[0] for scale in (0.99, 1.01)]
    assert rows[0] @ [0.6, 0.0, 0.8] > 0 > rows[1] @ [0.6, 0.0, 0.8]


def test_means_that_are_free_change_the_radius_little(result):
    found = result.returns["uniform", 2.0, 1]
    assert found.found and not found.message
    assert abs(found.middle / radius_at_rest("uniform", 2.0, 5, nodes=5) - 1) < 0.05
    dynamics = AveragedDynamics(None, 1e-6, 1e-6, weight="uniform", T=0.5, nodes=4, beyond=3.43)
    plane = returns(dynamics, 3, 2, 3.0, 3.6, 0.3)
    assert plane.found and 3.0 <= plane.low < plane.high <= 3.6


def test_averaging_moves_the_bad_regime_out_and_does_not_remove_it(result):
    assert result.radii["uniform", 0.0] == pytest.approx(2.72, abs=0.01) and result.radii["uniform", 2.0] == pytest.approx(5.65, abs=0.02)
    counts = dict(zip(WIDE, result.wide["uniform", 2.0], strict=True))
    assert counts[0.5] == 5 and 1 <= counts[1.25] < 5 and list(counts.values()) == sorted(counts.values(), reverse=True)


def test_the_unit_of_time_is_that_of_parameters_near_the_target():
    obj = averaged("exp(2t)", 1.5, 1, 6, 1e-8)
    assert obj.time_weights @ np.exp(-2 * obj.times) == pytest.approx(1.0, rel=1e-12)
    assert exponent("exp(2t)", 1.5) == pytest.approx((1 - np.exp(-3.0)) / 3.0, rel=1e-12)


def test_slope_of_known_borders():
    points = tuple(Bracket(low, low + 0.2, 1) for low in (3.0, 3.1, 2.9))
    one = Border(0.5, (2.0, 4.0, 6.0), points)
    assert one.log_epsilon.tolist() == pytest.approx([1.1, -4.8, -15.0])
    assert one.measured == pytest.approx(-np.polyfit([4.0, 16.0, 36.0], one.log_epsilon, 1)[0]) and one.error == pytest.approx(0.2 / 32)
    assert np.isnan(Border(0.5, (2.0, 4.0), (Bracket(-np.inf, 3.0, 1, "no change"), points[0])).measured)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert float(data.exponent.sel(weight="uniform", T=1.0, d=1)) == result.borders["uniform", 1.0, 1].measured
    assert data.radius_at_rest.values.ravel().tolist() == list(result.radii.values())
    with xarray.open_dataset(result.save(tmp_path / "averaging.nc")) as again:
        assert json.loads(again.attrs["settings"])["nodes"] == 5
    assert len(result.draw().axes) == 3
    assert len(result.summary().splitlines()) == 1 + 3 + 1 + 1 + 1 + 1 + 1 + 1


@pytest.mark.parametrize(("change", "message"), [
    ({"weight": "x"}, "weight must be"), ({"T": 5.0}, "T must be"), ({"d": 0}, "d must be"), ({"n": 1}, "n must be"),
    ({"rest_T": -1.0}, "rest_T must be"), ({"nodes": 3}, "nodes must be"), ({"resolution": 2.0}, "resolution"), ({"tol": 0}, "tol"),
    ({"rtol": 0}, "rtol"), ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 2])
def test_interrupted(monkeypatch, finished):
    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return 3.0

    calls = []
    monkeypatch.setattr(noise_averaging, "_part", impatient)
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME)
        return
    result = op.experiments.run(NAME)
    assert result.interrupted and len(result.radii) == 2 and result.draw() and "interrupted after" in result.summary()
