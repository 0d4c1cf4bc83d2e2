"""Far means in different directions: the law of their loss and angle, runs beside it, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from scipy.integrate import dblquad, quad

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import far_geometry
from overparam.experiments.zhang2025.far_geometry_law import attraction, log_loss, log_quotient, turn

NAME = "zhang2025.far_geometry"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, angle=(0.1, 0.8), far=(2, 3), t_end=1e4, tol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("delta", [0.0, 0.3, 4.0, 20.0])
def test_attraction_is_an_expectation(delta):
    def density(z):
        y = abs(delta * z / 2)
        return np.exp((y + np.log1p(np.exp(-2 * y)) - np.log(2)) / 2 - z**2 / 2 - delta**2 / 32) / np.sqrt(2 * np.pi)

    assert attraction(delta) == pytest.approx(2 * quad(density, 0, 30, points=[delta / 4], epsabs=0, epsrel=1e-11)[0], rel=1e-10)


@pytest.mark.parametrize(("rho", "theta"), [(12.0, 0.05), (12.0, 0.4), (16.0, 0.2), (16.0, 1.2), (16.0, 1.9)])
def test_law_of_the_loss_is_leading(rho, theta):
    # what is left out is of relative order pi^2 / (2 rho^2): e^(-s^2/2r^2) with a mean square of s of pi^2
    points = rho * np.array([[0.0, 0.0], [1.0, 0.0], [np.cos(theta), np.sin(theta)]])
    exact = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-8)).value(points)
    assert -1.2 < (np.log(exact) - log_loss(rho, theta)) * 2 * rho**2 / np.pi**2 < 0


def test_loss_over_that_of_one_is_an_integral():
    # the definition of what the law approximates, |v|^2 over the plane, by adaptive integration
    rho, theta = 12.0, 0.25
    half = rho * np.array([np.cos(theta / 2), np.sin(theta / 2)])

    def integrand(y, x, means):
        logits = np.array([m @ (x, y) - m @ m / 2 for m in means])
        top = max(logits.max(), 0.0)
        share = np.exp(logits - top)
        v = share @ means / (share.sum() + np.exp(-top))
        return v @ v * np.exp(-(x * x + y * y) / 2 + rho**2 / 8)

    box = (rho / 2 - 3, rho / 2 + 5, -5.5, 5.5)
    two, one = (dblquad(integrand, *box, args=(means,), epsabs=0, epsrel=1e-5)[0]
                for means in (np.array([half, half * [1, -1]]), np.array([[rho, 0.0]])))
    assert np.log(two / one) == pytest.approx(log_quotient(rho, theta), abs=2 / rho**2)  # it differs from the law to the next order


def test_angles_close_like_the_inverse_distance_while_far_means_are_together():
    rho = np.linspace(8.0, 20.0, 5)
    # to next order, delta^(-2) falls by ln(20/8) / 2 = 0.46 and the law is relative to 4 / rho^2
    np.testing.assert_allclose(turn(rho, 0.01) * rho / 0.08, 1.0, rtol=4 / 8**2)
    assert turn(rho, 1.5)[-1] == pytest.approx(1.5, rel=1e-3)
    np.testing.assert_array_equal(turn(np.array([8.0, 8.0]), 0.3), [0.3, 0.3])


def test_leading_order_is_the_attraction():
    # Q -> sqrt(2) G(delta) for delta fixed and rho large; both corrections are of order 1 / rho^2
    for delta in (0.5, 3.0):
        rho = 300.0
        assert np.exp(log_quotient(rho, delta / rho)) == pytest.approx(np.sqrt(2) * attraction(delta), rel=1e-3)


def test_measured_angles_follow_the_law(result):
    for angle, off in ((0.1, 0.02), (0.8, 5e-3)):  # of relative order 1 / rho^2, 1/36 at the start, of the change
        fan = result.fans[2, angle]
        assert fan.status == "completed" and abs(fan.gap[-1] / fan.law[-1] - 1) < off
    near, wide = result.fans[2, 0.1], result.fans[2, 0.8]
    assert near.gap[-1] < 0.065 and near.separation[-1] > near.separation[0]  # the angle closes, the distance does not
    assert wide.gap[-1] > 0.76 and result.fans[3, 0.8].law is None


def test_far_means_even_their_distances_out():
    fan = op.experiments.run(NAME, angle=0.5, far=2, ahead=1.0, t_end=1e6, tol=1e-7, rtol=1e-6).fans[2, 0.5]
    assert fan.unevenness[0] == 1.0 and fan.unevenness[-1] < 0.01 and fan.law is None


def test_bad_angle():
    with pytest.raises(ValueError, match="theta must lie in"):
        log_quotient(8.0, 2.2)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["far"] == 2 and float(data.gap.sel(far=2, angle=0.1)[0]) == pytest.approx(0.1)
    assert np.isnan(data.law.sel(far=3)).all()
    with xarray.open_dataset(result.save(tmp_path / "far.nc")) as again:
        assert json.loads(again.attrs["settings"])["radius"] == 6.0
    assert len(result.draw().axes) == 3
    assert len(result.summary().splitlines()) == 1 + 4 + 1


@pytest.mark.parametrize(("change", "message"), [
    ({"angle": 3.0}, "angle must be"), ({"angle": 0.0}, "angle must be"), ({"far": 1}, "far must be"),
    ({"far": 4}, "far must be at most 3"),
    ({"radius": 1.0}, "radius"), ({"ahead": -1.0}, "ahead"), ({"t_end": 0.0}, "t_end"), ({"tol": 0}, "tol"), ({"rtol": 0}, "rtol"),
    ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, result, finished):
    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return result.fans[2, 0.1]

    calls = []
    monkeypatch.setattr(far_geometry, "_run", impatient)
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, far=2)
        return
    found = op.experiments.run(NAME, far=2)
    assert found.interrupted and len(found.fans) == 1 and found.draw() and "interrupted after 1 of 5 runs" in found.summary()
