"""The border of the small-noise regime: its law in a part of the experiment, bisection, profiles, settings, Ctrl-C, command line."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.registry import check_settings, defaults
from overparam.experiments.zhang2025 import phase_boundary_runs as runs
from overparam.experiments.zhang2025.phase_boundary_em import measure_growth
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, bisect, first_order_bias, growth, profile

NAME = "zhang2025.phase_boundary"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=3, d=(1, 2), M=(3.0, 12.0), profile="equispaced", resolution=0.05)


def test_the_border_is_minus_m_squared_plus_a_constant_in_one_and_two_dimensions(result):
    ends = [(point.low, point.high) for point in result.points.values()]
    assert len(ends) == 4 and all(point.message == "" for point in result.points.values())
    low, high = np.array(ends).T
    assert (high - low <= 0.05 + 1e-9).all()
    assert high.max() - low.min() < 0.1  # one constant for M = 3 and 12 and both d, whatever the place inside the intervals


def test_gradient_descent_has_the_same_border_with_its_exact_growth(result):
    step_size = 0.02  # at M = 6 the exact sum is 1.6 away from its first order, and 6.8 from M^2
    descent = op.experiments.run(NAME, n=3, d=1, M=6.0, profile="equispaced", resolution=0.05, step_size=step_size)
    flow, point = result.points[3, 1, "equispaced", 12.0], descent.points[3, 1, "equispaced", 6.0]
    # the constant itself moves with the step size, like a step against the time of the last e-fold
    assert abs(point.middle - flow.middle) < 0.05 + 5 * step_size
    low, high = descent.log_epsilon(3, 1, "equispaced", 6.0)
    assert_allclose([low, high], [point.low - growth(6.0, 3, step_size), point.high - growth(6.0, 3, step_size)])
    assert "first order" in descent.summary()


def test_fifteen_away_a_spread_of_3e_98_decides():
    dynamics, positions = Dynamics(), profile("equispaced", 5)
    assert dynamics.fate(15.0, 1, positions, -225.0 + 0.5).k == 5
    fate = dynamics.fate(15.0, 1, positions, -225.0 + 20.0)
    assert fate.k is not None and fate.k < 5


def test_growth_is_the_product_of_the_factors_of_the_steps():
    centre, total, eta, n = 6.0, 0.0, 0.03, 4
    for _ in range(20_000):
        total += np.log1p(4 * eta * centre**2 / n)
        centre *= 1 - 2 * eta / n
    assert_allclose(growth(6.0, n, eta), total, rtol=1e-12)
    assert growth(6.0, n) == 36.0
    small = 1e-5
    assert_allclose(36.0 - growth(6.0, n, small), first_order_bias(6.0, n, small), rtol=1e-3)


def test_under_gradient_em_a_small_spread_grows_by_half_the_square_of_the_distance(result):
    for (_, M), one in result.em.items():
        assert one.message == "" and abs(one.measured - M**2 / 2) < 1e-5 * M**2
    eta, centre, total = 0.02, 6.0, 0.0
    while centre > 6e-4:
        total, centre = total + np.log1p(eta / 3 * centre**2), centre * (1 - eta / 3)
    descent = measure_growth(3, 6.0, profile("equispaced", 3), eta, 1e-7, 1e-6)
    assert_allclose([descent.measured, descent.predicted], total, rtol=1e-9)


@pytest.mark.parametrize("name", ["equispaced", "one near", "one far", 0, 7])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_profiles_have_mean_0_and_root_mean_square_1(name, n):
    z = profile(name, n)
    assert z.shape == (n,) and (np.diff(z) >= 0).all()
    assert_allclose([z.mean(), (z**2).mean()], [0.0, 1.0], atol=1e-15 * n)


@pytest.mark.parametrize("border", [2.53, -7.1, 20.3])
def test_bisection_finds_a_border_in_and_outside_the_expected_place(border):
    found = bisect(lambda b: (b < border, ""), 2.0, 3.6, 0.01)
    assert found.low < border <= found.high and found.high - found.low <= 0.01 * (1 + 1e-9) and found.message == ""
    assert found.runs <= 17


def test_bisection_says_where_it_could_not_go_on():
    found = bisect(lambda b: (None if 2.4 < b < 2.6 else b < 2.5, "it stands still"), 2.0, 3.6, 0.01)
    assert found.low <= 2.4 and found.high >= 2.6 and "undecided at b = " in found.message and "it stands still" in found.message
    assert "no change" in bisect(lambda b: (True, ""), 2.0, 3.6, 0.01).message


def test_an_undecided_run_starts_again_with_a_longer_horizon(monkeypatch):
    monkeypatch.setattr(runs, "HORIZON", 0.1)
    assert Dynamics().fate(4.0, 1, profile("equispaced", 3), -20.0).k == 3
    monkeypatch.setattr(runs, "ATTEMPTS", 1)
    fate = Dynamics().fate(4.0, 1, profile("equispaced", 3), -20.0)
    assert fate.k is None and "flow time" in fate.reason


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"n": 1, "d": 2, "profile": 1, "M": 2}
    assert_allclose(data.kappa_low - data.log_epsilon_low, data.growth)
    with xarray.open_dataset(result.save(tmp_path / "border.nc")) as again:
        assert json.loads(again.attrs["settings"])["M"] == [3.0, 12.0]
    assert len(result.draw().axes) == 3
    assert_allclose(data.em_growth.sel(n=3), [4.5, 72.0], rtol=1e-4)
    said = result.summary()
    assert [said.count(part) for part in ("equispaced", "over M = 12 to 12", "72.0001")] == [1 + 4 + 2, 2, 1]
    assert f"{op.init.log_radius(3, [12.0]):.4g}" in said  # the published radius beside the border


@pytest.mark.parametrize(("change", "message"), [
    ({"n": 1}, "n must be a whole number not below 2"), ({"n": ()}, "n must be"), ({"d": 0}, "d must be"), ({"M": -1.0}, "M must be"),
    ({"M": (3, 3)}, "M must not name one twice"), ({"M": "x"}, "M must be"),
    ({"profile": "two near"}, "'one near'"), ({"profile": -1}, "seed"),
    ({"step_size": 0.0}, "step_size must be"), ({"step_size": 2.0}, "step_size must be below n/2"), ({"resolution": 0.0}, "resolution"),
    ({"tol": 1.0}, "tol must be"), ({"rtol": 1.0}, "rtol must be"), ({"n_jobs": 0}, "n_jobs"), ({"progress": 3}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


def test_interrupted(monkeypatch):
    fate, calls = Dynamics.fate, []

    def impatient(*args):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return fate(*args)

    monkeypatch.setattr(Dynamics, "fate", impatient)
    settings = {"n": 2, "d": 1, "M": (3.0, 4.0, 5.0), "profile": "equispaced", "resolution": 0.2}
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and 1 <= len(result.points) < 3 and result.finished() is result
    assert "interrupted after" in result.summary() and result.draw()
    calls[:] = range(11)  # now the very first run is the one
    with pytest.raises(KeyboardInterrupt):
        op.experiments.run(NAME, **settings)


def test_command_line_and_joblib(tmp_path):
    settings = ("n=2", "d=1", "M=(3,4)", "profile=one near", "resolution=0.2", "n_jobs=1")
    arguments = [word for setting in settings for word in ("--set", setting)]
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *arguments])
    assert said.exit_code == 0, said.output
    assert (tmp_path / f"{NAME}.png").stat().st_size > 5000 and "kappa" in said.stdout
    assert defaults(NAME)["step_size"] is None
