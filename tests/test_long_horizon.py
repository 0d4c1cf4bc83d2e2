"""The experiment to the end of time: laws, crossing, picture, data, summary, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose

import overparam as op
from overparam.experiments.registry import check_settings, defaults, summary_line, verifiable
from overparam.experiments.zhang2025 import long_horizon
from overparam.theory.zhang2025 import laws

NAME = "zhang2025.long_horizon"
CONVERGE, NEAR, SMALL, LARGE = long_horizon.STARTS


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=(3, 5))


def test_where_all_converge(result):
    for n in (3, 5):
        run = result.run(CONVERGE, n)
        assert run.trajectory.status == "completed" and run.converges
        assert_allclose(run.slope.exponent, -2.0, atol=1e-3)
        late = run.trajectory.times >= 1e8
        assert_allclose(run.constant[late], 1.0, atol=1e-4)
        assert np.nanmax(run.moment_deviation[late]) < 1e-4
        assert_allclose(run.law[late], laws.all_converge(run.trajectory.times[late], n), rtol=1e-4)


def test_where_one_converges(result):
    for start in (NEAR, LARGE):
        for n in (3, 5):
            run = result.run(start, n)
            assert run.regime.name == "one converges" and run.expected_constant == n - 1
            assert -1.06 < run.slope.exponent < -1.02
            assert run.slope.interval[0] < run.slope.exponent < run.slope.interval[1]
            assert_allclose(run.constant[-1], n - 1, rtol=0.08)
            assert run.comparison.deviation < 5e-3  # with the next order in 1/r^2
    one, other = (result.run(start, 5).constant[-1] for start in (NEAR, LARGE))
    assert_allclose(one, other, rtol=1e-4)  # how it started is forgotten


def test_the_crossing(result):
    """64 t^2 L / n^2 goes from 1 to min(d, n - 1), as the whole matrix does what it should."""
    for n, directions in ((3, 2), (5, 3)):
        run = result.run(SMALL, n)
        times = run.trajectory.times
        assert times[-1] == 1e17
        middle = np.searchsorted(times, 1e10)
        assert_allclose(run.constant[middle], 1.0, atol=1e-4)
        assert directions - 0.1 < run.constant[-1] < directions
        assert_allclose(run.constant[-1], run.expected_constant, rtol=1e-4)
        assert np.nanmax(run.moment_deviation[times > 1e10]) < 2e-4
    # the wait ends where 8 t lambda / n is of order one, lambda the transverse second moment of the start
    run = result.run(SMALL, 5)
    start = run.trajectory.params[0][:, 1:]
    size = np.linalg.svd(start - start.mean(axis=0), compute_uv=False)[0] ** 2 / 5
    half = np.interp(1.5, run.constant[middle:], np.log(times[middle:]))
    assert 0.3 < np.exp(half) * 8 * size / 5 < 10


def test_second_moment_solves_its_equation():
    """dS/dt = -(8/n) S^2, by central differences, and the matrix form."""
    deviations = np.random.default_rng(0).normal(size=(4, 2)) * [1e-2, 1e-6]
    deviations -= deviations.mean(axis=0)
    start = deviations.T @ deviations / 4
    times = np.array([0.0, 1e3, 1e13])
    values, axes = laws.second_moment(deviations, times)
    for value, t in zip(values, times, strict=True):
        found = axes * value @ axes.T
        assert_allclose(found, np.linalg.inv(np.linalg.inv(start) + 2 * t * np.eye(2)), rtol=1e-7, atol=1e-9 * found.max())
    step = 1e9
    near, _ = laws.second_moment(deviations, [1e13 - step, 1e13 + step])
    assert_allclose((near[1] - near[0]) / (2 * step), -2 * values[2] ** 2, rtol=1e-6)
    assert laws.second_moment([[0.1, 0.0, 0.0], [-0.1, 0.0, 0.0]], 0.0)[0].shape == (1,)


def test_picture(result, tmp_path):
    figure = result.figure()
    assert len(figure.axes) == 6 and all(ax.get_xscale() == "log" for ax in figure.axes)
    assert result.draw(tmp_path / "horizon.png").stat().st_size > 20_000
    losses = figure.axes[0]
    drawn = [line.get_ydata() for line in losses.lines]
    assert any(np.array_equal(values, result.run(CONVERGE, 3).trajectory.loss[1:]) for values in drawn)


def test_data(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"run": 8, "record": 201, "parameter": 5}
    row = data.isel(run=[run.name for run in result.runs].index(f"{SMALL}, n=5"))
    assert_allclose(float(row.constant[-1]), result.run(SMALL, 5).constant[-1])
    assert str(row.regime.item()) == "all converge" and int(row.n) == 5
    with xarray.open_dataset(result.save(tmp_path / "horizon.nc")) as again:
        assert_allclose(again.loss.values, data.loss.values)
        assert json.loads(again.attrs["settings"])["t_crossing"] == 1e17


def test_summary(result):
    text = result.summary()
    assert all(run.start in text for run in result.runs) and "one converges" in text and "-2.00000" in text
    assert max(map(len, text.splitlines()[2:])) <= 140


def test_a_short_run_has_no_law_yet():
    short = op.experiments.run(NAME, n=2, t_end=1e-3, t_crossing=1e-3, records=10)
    assert np.isnan(short.runs[0].law).all() and short.runs[0].reference is None
    assert short.summary() and short.figure() and short.to_xarray().sizes["run"] == 4
    with pytest.raises(ValueError, match="there is no run"):
        short.run(CONVERGE, 7)


@pytest.mark.parametrize(("settings", "said"), [
    ({"n": 1}, "n must be a whole number not below 2, or several; got 1"),
    ({"n": (3, 3)}, "n must not name a number twice"),
    ({"t_end": 0}, "t_end must be a finite number above 0"),
    ({"t_crossing": np.inf}, "t_crossing must be a finite number above 0"),
    ({"t_end": 1e300}, "t_end must not be above 1e\\+30: the losses fall like 1/t"),
    ({"t_crossing": 1e31}, "t_crossing must not be above"),
    ({"scale": -1.0}, "scale must be"),
    ({"tol": 1.0}, "tol"),
    ({"rtol": 1e-20}, "rtol must be"),
    ({"records": 3}, "records must be a whole number not below 10"),
    ({"seed": -1}, "seed must be"),
])
def test_bad_settings(settings, said):
    with pytest.raises(ValueError, match=said):
        check_settings(NAME, settings)


def test_it_is_listed_and_can_be_verified():
    assert NAME in op.experiments.list() and defaults(NAME)["t_end"] == 1e14 and verifiable(NAME)
    assert "1e14" in summary_line(NAME)
    short = op.experiments.run(NAME, n=2, t_end=10.0, t_crossing=10.0, records=10, rtol=1e-6)
    found = short.verify()
    assert list(found) == [run.name for run in short.runs]
    assert all(check.loss_difference.max() < 1e-3 for check in found.values())


def test_ctrl_c_keeps_what_was_reached(monkeypatch):
    whole, calls = long_horizon.gradient_flow, []

    def cut_short(*args, **settings):
        calls.append(1)
        stop = (lambda record: (_ for _ in ()).throw(KeyboardInterrupt)) if len(calls) == 2 else None
        return whole(*args, **settings, stop=stop)

    monkeypatch.setattr(long_horizon, "gradient_flow", cut_short)
    found = op.experiments.run(NAME, n=(2, 3), t_end=10.0, t_crossing=10.0, records=10)
    assert found.interrupted and "n=3" in found.reached and len(found.runs) == 2
    assert len(found.finished().runs) == 1 and "interrupted in the run" in found.summary()
    assert found.to_xarray().attrs["interrupted"] == found.reached
    calls[:] = [1]  # the first flow is the one that ends: there is a record of it, but no finished run
    assert op.experiments.run(NAME, n=(2, 3), t_end=10.0, t_crossing=10.0, records=10).finished() is None
