"""The experiment on Theorem 3.1: numbers over n and d, picture, data, summary, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

import overparam as op
from overparam import stationary
from overparam.experiments.registry import check_settings, defaults, summary_line

NAME = "zhang2025.stationary_points"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME)


def loss_of_a_pair(s, n):
    """L(s) on the line by adaptive quadrature: v = 2 s sinh(s x) / (2 cosh(s x) + (n - 2) e^{s^2/2})."""
    def density(x):
        v = s * (1 - np.exp(-2 * s * x)) / (1 + np.exp(-2 * s * x) + (n - 2) * np.exp(s * s / 2 - s * x))
        return 2 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * v**2

    return quad(density, 0, 12, epsabs=1e-13, epsrel=1e-13, limit=200, points=[s / 2, s])[0]


def test_numbers_against_one_dimensional_maximisation(result):
    for n in range(3, 11):
        best = minimize_scalar(lambda s, n=n: -loss_of_a_pair(s, n), bracket=(2.0, 2.7, 3.5), tol=1e-9)
        for d in (1, 2, 3):
            assert_allclose(result.points[n, d].value, -best.fun, rtol=1e-9)
            assert_allclose(result.distance(n, d), best.x, atol=1e-6)  # a maximum is known to the root of the loss's accuracy


def test_spectra(result):
    for (n, d), point in result.points.items():
        assert point.converged and point.kind == "saddle"
        # on the line two negative modes; each further direction brings a weak negative one, a rotation and n - 3 flat ones, and the rest
        assert (point.negative, point.null) == (d + 1, (d - 1) * (n - 2))
        assert point.negative + point.null + point.positive == n * d


def test_data(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"n": 8, "d": 3, "mode": 30}
    assert_allclose(float(data.distance.sel(n=3, d=2)), 2.55055099, atol=1e-8)
    assert int(data.negative.sel(n=4, d=3)) == 4 and str(data.kind.sel(n=4, d=3).item()) == "saddle"
    assert np.isfinite(data.eigenvalue.sel(n=4, d=2)).sum() == 8
    with xarray.open_dataset(result.save(tmp_path / "points.nc")) as again:
        assert_array_equal(again.eigenvalue.values, data.eigenvalue.values)
        assert json.loads(again.attrs["settings"])["n"] == list(range(3, 11))


def test_picture(result, tmp_path):
    figure = result.draw()
    assert len(figure.axes) == 5 and figure.axes[0].get_xlabel() == "number of parameters $n$"
    assert_allclose(figure.axes[0].lines[0].get_ydata()[0], 2.55055099, atol=1e-6)
    path = op.experiments.run(NAME, n=3, d=2).draw(tmp_path / "one.png")
    assert path.stat().st_size > 5000


def test_summary(result):
    lines = result.summary().splitlines()
    assert len(lines) == 1 + 24
    assert lines[1].split()[:4] == ["3", "1", "2.55055099", "0.94380027"] and lines[1].endswith("saddle")


def test_settings():
    assert summary_line(NAME).startswith("Stationary points with positive loss")
    assert defaults(NAME)["d"] == (1, 2, 3)
    single = op.experiments.run(NAME, n=4.0, d=[2], tol=1e-8, null_tolerance=1e-2)
    assert single.settings == {"n": (4,), "d": (2,), "tol": 1e-8, "null_tolerance": 1e-2}
    assert single.points[4, 2].negative == 2  # -0.0043 counts as null then


@pytest.mark.parametrize(("change", "message"), [
    ({"n": 2}, "n must be a whole number not below 3"), ({"n": (3, 3)}, "n must not name a number twice"), ({"n": 3.5}, "n must be"),
    ({"d": 0}, "d must be a whole number not below 1"), ({"d": "x"}, "d must be a whole number"), ({"d": True}, "d must be a whole number"),
    ({"n": 1000, "d": 3}, "must not make more than 2000"), ({"tol": 1.0}, "tol must be"), ({"null_tolerance": -1.0}, "null_tolerance must"),
    ({"m": 1}, "setting of zhang2025.stationary_points"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


def test_interrupted(monkeypatch):
    find, calls = stationary.find, []

    def impatient(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return find(*args, **options)

    monkeypatch.setattr(stationary, "find", impatient)
    partial = op.experiments.run(NAME, n=(3, 4), d=(1, 2))
    assert partial.interrupted and partial.reached == "in the search for n = 4, d = 1"
    assert list(partial.points) == [(3, 1), (3, 2)] and partial.finished() is partial
    assert np.isnan(partial.to_xarray().loss.sel(n=4)).all() and len(partial.draw().axes) == 4
    calls[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt, match="n = 3, d = 1"):
        op.experiments.run(NAME, n=3, d=1)
