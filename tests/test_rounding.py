"""The experiment on rounding: starts, scripts, a small part of the table, data, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import rounding
from overparam.experiments.zhang2025.rounding import STARTS, starting_point
from overparam.experiments.zhang2025.rounding_script import descend, rule

NAME = "zhang2025.rounding"
OBJECTIVE = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, M=(1.0, 4.0), n=3, d=1, steps=2500, step_size=0.04, tol=1e-8, records=60)


def test_starts():
    z = 1e-7 * np.random.default_rng(3).standard_normal((4, 2))
    drawn = starting_point("drawn", 6.0, 4, 2, 1e-7, 3)
    assert_array_equal(drawn.deviations, z)
    for name in ("float64", "float32"):
        dtype = np.dtype(name).type
        params = starting_point(f"drawn, {name}", 6.0, 4, 2, 1e-7, 3).params
        assert_array_equal(params, (np.array([6.0, 0.0]) + z).astype(dtype))
        ulp = starting_point(f"one ulp in {name}", 6.1, 4, 2, 1e-7, 3)
        assert ulp.spread == np.spacing(dtype(6.1)) and not ulp.deviations[1:].any() and not ulp.params[:, 1].any()
        assert_array_equal(ulp.params.astype(dtype).astype(float), ulp.params)
    assert starting_point("coincident", 6.0, 4, 2, 1e-7, 3).spread == 0.0


def test_the_scripts_rule_integrates_what_a_line_needs():
    nodes, weights = rule(3)
    assert_allclose(weights.sum(), 1.0, rtol=1e-14)
    assert_allclose(weights @ nodes[:, 0] ** 4, 3.0, rtol=1e-12)
    assert_allclose(weights @ (nodes[:, 1] ** 2 * nodes[:, 2] ** 2 * np.exp(nodes[:, 0])), np.exp(0.5), rtol=1e-10)


def test_a_script_in_float64_follows_the_exact_run_where_nothing_grows():
    start = np.array([[1.0], [0.4], [-0.3]])
    exact = op.gradient_descent(OBJECTIVE, start, step_size=0.02, steps=300, record=op.log_spaced(30))
    script = descend(OBJECTIVE, start, np.float64, 0.02, 300, 30)
    assert_array_equal(script.steps, exact.steps)
    assert_allclose(script.params, exact.params, rtol=0, atol=1e-8)
    assert_allclose(script.loss, exact.loss, rtol=1e-7)


def test_a_script_in_float32_is_float32_throughout():
    script = descend(OBJECTIVE, np.array([[1.0], [0.4], [-0.3]]), np.float32, 0.02, 50, 10)
    final = np.asarray(script.final)
    assert_array_equal(final.astype(np.float32).astype(float), final)
    assert script.attributes["dtype"] == "float32" and script.status == "completed"


def test_near_the_target_rounding_decides_nothing_and_coincident_parameters_converge(result):
    assert result.decided_by(1.0) == []
    for M in (1.0, 4.0):
        assert {result.k(M, "coincident", arithmetic) for arithmetic in STARTS["coincident"]} == {3}
    assert len(result.outcomes) == 2 * sum(len(arithmetics) for arithmetics in STARTS.values())


def test_one_ulp_of_single_precision_parts_the_regimes_where_the_border_says_so():
    # one near, two at one place: a root mean square of 0.47 ulp; with the growth 21.8 of this step size from M = 5 its logarithm comes to
    # 6.5 in float32 and -13.6 in float64; the border lies near 3
    result = op.experiments.run(NAME, M=5.0, scale=0.0, n=3, d=1, steps=4000, step_size=0.02, tol=1e-8, records=60)
    assert result.k(5.0, "drawn") == result.k(5.0, "coincident") == result.k(5.0, "one ulp in float64") == 3
    assert result.k(5.0, "one ulp in float32") == 1
    assert any("start one ulp in float32: k = 1 instead of 3" in text for text in result.decided_by(5.0))


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"M": 2, "start": 6, "arithmetic": 3, "parameter": 3}
    assert int(data.converged.sel(M=1.0, start="coincident", arithmetic="float32")) == 3
    assert np.isnan(data.converged.sel(M=1.0, start="drawn", arithmetic="float32"))
    with xarray.open_dataset(result.save(tmp_path / "rounding.nc")) as again:
        assert json.loads(again.attrs["settings"])["n"] == 3
    assert len(result.draw().axes) == 12
    lines = result.summary().splitlines()
    assert len(lines) == 1 + len(result.outcomes) + 2 and lines[-2].startswith("M = 1: rounding changes nothing")


@pytest.mark.parametrize(("change", "message"), [
    ({"M": 0.0}, "M must be"), ({"n": 1}, "n must"), ({"d": 9}, "d must"), ({"scale": 0.1}, "scale must not be above"),
    ({"scale": -1.0}, "scale must"), ({"step_size": 0}, "step_size"), ({"steps": -1}, "steps"), ({"seed": -1}, "seed"),
    ({"tol": 2.0}, "tol"), ({"records": 0}, "records"), ({"n_jobs": 0}, "n_jobs"), ({"progress": "x"}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 4])
def test_interrupted(monkeypatch, finished):
    whole, calls = rounding._outcome, []

    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(rounding, "_outcome", impatient)
    settings = {"M": 1.0, "n": 2, "d": 1, "steps": 20, "tol": 1e-6, "records": 10}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and 0 < len(result.outcomes) <= finished and result.finished() is result
    assert "interrupted after" in result.summary() and result.draw()
