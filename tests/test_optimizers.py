"""Optimizers from the same starts: growth under each, borders, late rates, settings, Ctrl-C."""

import dataclasses
import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import optimizers, optimizers_growth, optimizers_runs
from overparam.experiments.zhang2025.phase_boundary_runs import growth

NAME = "zhang2025.optimizers"


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers_runs, "ADAM_STEPS", 10_000)  # no threshold is approached that closely here
        return op.experiments.run(NAME, M=(3.0, 4.5), n=3, d=2, scale=1e-6, steps=3000, resolution=2.0)


@pytest.mark.parametrize("method", list(optimizers_growth.GROWTHS))
def test_growth_is_that_of_a_run_with_tiny_deviations(method):
    """The driver follows deviations of 1e-9 from M = 3, where they grow by less than e^9, so that they stay small."""
    settings = {"n": 3, "step_size": 0.02, "momentum": 0.8, "adam_step_size": 0.02, "tol": 1e-10}
    z = np.array([1.0, 0.2, -1.2])
    start = op.init.around([3.0], 1e-9 * z[:, None])
    run = optimizers_runs._drive(method, op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-10)), start, settings, 4000)
    own = run.final_state.deviations[:, 0] - run.final_state.deviations.mean()
    grown = np.log(np.abs(own / (1e-9 * z)))
    rounded = 1e-3 if method == "Adam" else 1e-5  # Adam's absolute parameters: 4e-16 of 1e-9, and gradients to 1e-10
    assert_allclose(grown, optimizers_growth.GROWTHS[method](3.0, settings), atol=30 * rounded)


def test_growth_has_its_limits():
    for M in (2.0, 5.0):
        assert_allclose(optimizers_growth.descent_growth(M, 5, 0.01), growth(M, 5, 0.01), rtol=1e-9)
        assert_allclose(optimizers_growth.momentum_growth(M, 5, 1e-4, 0.5), M * M, rtol=2e-2)
        assert_allclose(optimizers_growth.momentum_growth(M, 5, 1e-4, 0.5, nesterov=True), M * M, rtol=2e-2)
    assert optimizers_growth.momentum_growth(30.0, 5, 1e-3, 0.5) > 240  # rescaled on the way


def test_the_growth_says_where_the_border_lies(result):
    """ln eps* + G is the same, to the intervals' width, for all methods, while G itself differs by many."""
    middles = [point.middle for point in result.borders.values()]
    assert len(middles) == 8 and all(point.found and not point.message for point in result.borders.values())
    assert max(middles) - min(middles) < 2.5 and 1.0 < min(middles) < 3.5
    assert result.growth("descent", 4.5) - result.growth("heavy ball", 4.5) > 8


def test_runs_from_the_cluster(result):
    numbers = {key: run.regime.k for key, run in result.runs.items()}
    assert numbers["descent", 4.5] == 1 and numbers["heavy ball", 4.5] == numbers["Nesterov", 4.5] == 3
    assert numbers["unequal weights", 3.0] != 3 and numbers["preconditioned", 3.0] == numbers["descent", 3.0] == 3
    assert result.runs["Adam", 3.0].trajectory.driver == "adam"


def test_late_rates(result):
    r"""Momentum makes time go 1/(1 - beta) times as fast in :math:`L=n^2/(64t^2)`."""
    assert_allclose(result.late["heavy ball"].rate.exponent, -2.0, atol=0.05)
    assert_allclose([result.constant(name) for name in ("heavy ball", "Nesterov")], 0.01, rtol=0.05)
    assert_allclose(result.constant("descent"), 1.0, rtol=0.3)  # flow time 30 is not late yet
    assert_allclose(result.constant("preconditioned"), result.constant("descent"), rtol=0.05)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes == {"optimizer": 6, "M": 2}
    assert float(data.converged.sel(optimizer="descent", M=4.5)) == 1
    assert np.isnan(data.border_low.sel(optimizer="preconditioned")).all()
    with xarray.open_dataset(result.save(tmp_path / "optimizers.nc")) as again:
        assert json.loads(again.attrs["settings"])["scale"] == 1e-6
    table = result.summary().splitlines()[1:8]
    assert all(line[table[0].index("M = 4.5") - 2:].startswith("  k = ") for line in table[1:])  # columns do not run together
    assert [("p = " in line) for line in table[1:]] == [True, True, True, False, True, True]
    legend = [text.get_text() for text in result.draw().legends[0].get_texts()]
    assert "$2.73-G$ (no fit)" in legend
    other = dataclasses.replace(result, settings={**result.settings, "n": 4})  # of which no constant is known
    assert not any("no fit" in text.get_text() or "flow" in text.get_text() for text in other.draw().legends[0].get_texts())
    assert len(result.draw().axes) == 3 and len(result.summary().splitlines()) == 2 + 6 + 1 + 6 + 1 + 8


@pytest.mark.parametrize(("change", "message"), [
    ({"M": 9.0}, "M must not be above 8"), ({"n": 1}, "n must be"), ({"d": 0}, "d must be"), ({"scale": 0}, "scale must be"),
    ({"momentum": 1.0}, "momentum must be"), ({"weight_spread": 0.5}, "weight_spread must be"), ({"adam_step_size": 0}, "adam_step_size"),
    ({"step_size": -1}, "step_size"), ({"steps": -1}, "steps"), ({"resolution": 0}, "resolution"), ({"seed": -1}, "seed"),
    ({"tol": 0}, "tol"), ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 2])
def test_interrupted(monkeypatch, finished):
    calls, part = [], optimizers._part

    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return part(*args)

    monkeypatch.setattr(optimizers, "_part", impatient)
    settings = {"M": 1.5, "n": 2, "d": 1, "steps": 200}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    found = op.experiments.run(NAME, **settings)
    assert found.interrupted and len(found.runs) == 2 and found.draw() and "interrupted after 2 of 16" in found.summary()
