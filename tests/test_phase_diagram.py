"""The phase diagram: its lines against bisection, its map against single runs, cut short and gone on with."""

import numpy as np
import pytest
import sweep_scaling
import xarray
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import phase_diagram as module
from overparam.experiments.zhang2025.phase_boundary_runs import Dynamics, profile
from overparam.store import Store

NAME = "zhang2025.phase_diagram"
SMALL = {"points": 7, "M": (2.5, 4.0), "log_epsilon": (-13.0, -1.0), "n": 3}


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, **SMALL, profile=("equispaced", 1))


def test_lines_enclose_the_border_that_bisection_finds(result):
    border = op.experiments.run("zhang2025.phase_boundary", n=3, d=1, M=6.0, profile="equispaced", resolution=0.05)
    (point,) = border.points.values()  # at another distance, by finer runs
    line = result.line(0, 3)
    assert line.low < line.high and line.columns >= 3
    assert line.low < point.high + 0.05 and point.low - 0.05 < line.high
    assert result.line(0, 2).low > line.low


def test_the_map_is_what_finer_runs_give(result):
    dynamics = Dynamics(None, 1e-8, 1e-7)
    for i, j in ((0, 0), (3, 4), (6, 6), (6, 2)):
        fate = dynamics.fate(result.M[i], 1, profile("equispaced", 3), result.log_epsilon[j])
        assert fate.k == result.k[0, i, j]
    falls = np.diff(result.k[0], axis=1)
    assert (falls <= 0).all() and not result.reasons  # fewer converge from wider starts


def test_scipys_integrator_in_numpy_finds_the_same():
    """Far enough above rounding for plain coordinates; n = 5, on both sides of every line."""
    for M, b in ((2.0, 2.0), (2.5, 2.8), (2.5, 3.4), (2.5, 4.4), (2.5, 5.6), (3.0, 2.3)):
        assert module._point(M, b - M**2, "equispaced", n=5, tol=1e-4, rtol=1e-3)["k"] == sweep_scaling.twin(M, b - M**2)


def test_it_draws_saves_and_says_itself(result, tmp_path):
    assert result.draw(tmp_path / "a.png").stat().st_size > 10_000
    with xarray.open_dataset(result.save(tmp_path / "a.nc"), engine="h5netcdf") as data:
        np.testing.assert_array_equal(data.k, result.k)
        assert data.line_low.sel(profile="equispaced", level=3) == result.line(0, 3).low
    assert f"{2 * 49} runs" in result.summary() and "at least 3 converge" in result.summary()


def test_many_profiles_are_drawn_as_their_mean():
    several = op.experiments.run(NAME, points=2, M=(2.0, 2.5), n=2, profile=(0, 1, 2, 3))
    figure = several.figure()
    assert figure.axes[0].get_title() == "mean of 4 profiles"


def test_a_store_is_gone_on_with_and_a_diagram_cut_short_is_kept(tmp_path, monkeypatch):
    settings = {"points": 3, "M": (2.0, 3.0), "n": 2, "store": str(tmp_path / "store")}
    calls, real = [], Dynamics.fate

    def fate(self, *arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(module.Dynamics, "fate", fate)
    cut = op.experiments.run(NAME, **settings)
    assert cut.reached == "after 4 of 9 runs" and np.isfinite(cut.k).sum() == 4 and cut.finished() is cut
    whole = op.experiments.run(NAME, **settings)
    assert len(calls) == 5 + 5 and np.isfinite(whole.k).all() and not whole.interrupted
    assert Store.open(tmp_path / "store").status().complete


@pytest.mark.parametrize("settings", [{"points": 1}, {"M": 3.0}, {"M": (3.0, 2.0)}, {"n": 1}, {"profile": "none"}, {"store": 3},
                                      {"log_epsilon": (0.0, 5.0)}, {"n_jobs": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        check_settings(NAME, settings)


def test_the_command_line_reproduces_it(tmp_path):
    changes = [argument for one in ("points=2", "n=2", "M=(1.0, 2.0)") for argument in ("--set", one)]
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *changes])
    assert said.exit_code == 0 and (tmp_path / f"{NAME}.png").exists(), said.output
