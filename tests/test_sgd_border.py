"""The border under minibatches: the vectorised descent, its linear law, thresholds over seeds, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import sgd_border, sgd_border_runs
from overparam.experiments.zhang2025.phase_boundary_runs import profile
from overparam.experiments.zhang2025.sgd_border_runs import Borders, log_variance

NAME = "zhang2025.sgd_border"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, batch_size=(4, 300), M=2.5, n=3, step_size=0.1, seeds=48, resolution=0.05)


def test_rows_are_those_of_the_objective_on_the_same_draws():
    rng = np.random.default_rng(0)
    params, x = rng.standard_normal((4, 3)) + 2, rng.standard_normal((4, 7))

    class Given(op.Gaussian):
        def sample(self, n, rng=None):
            return x[self.seed][:, None]

    for seed in range(4):
        teacher = Given([0.0])
        vars(teacher)["seed"] = seed
        found = op.ScoreMatching(teacher).minibatch(params[seed][:, None], 7, rng).grad[:, 0]
        assert_allclose(sgd_border_runs.rows(params, x)[seed], found, rtol=1e-12)


def test_the_linear_law_of_a_batch():
    """Gradient rows at a common point are 2/n (c + 2 c (x - c) delta_i), to first order in the deviations."""
    c, delta, x = 2.5, 1e-6 * profile("equispaced", 4), np.random.default_rng(1).standard_normal((1, 30))
    found = sgd_border_runs.rows((c + delta)[None], x)[0]
    assert_allclose(found.mean(), c / 2, rtol=1e-10)
    assert_allclose(found - found.mean(), 2 / 4 * 2 * c * (x.mean() - c) * delta, rtol=1e-4)


def test_the_variance_of_the_growth():
    """Of small steps 4 eta M^2/(n B); of others that of the product of random factors."""
    assert_allclose(log_variance(4.0, 5, 1e-4, 7), 4 * 1e-4 * 16 / 35, rtol=2e-3)  # 1 + 4 eta c^2/n is not 1 yet
    M, n, eta, B = 3.0, 5, 0.05, 50
    rng = np.random.default_rng(2)
    c = sgd_border_runs.centres(M, n, eta, 600)
    logs = np.log1p(4 * eta / n * c * (c - rng.standard_normal((4000, 600)) / B**0.5)).sum(axis=1)
    assert_allclose(logs.var(ddof=1), log_variance(M, n, eta, B), rtol=5 * (2 / 4000) ** 0.5)
    shift = np.log1p(4 * eta / n * c * c).sum() - logs.mean()
    assert abs(shift - log_variance(M, n, eta, B) / 2) < 5 * logs.std() / 4000**0.5


def test_borders_scatter_as_the_law_says(result):
    small, large = result.batches
    assert len(small.found) == 48 and len(large.found) == 21  # of 6400 draws
    for one in result.batches:
        assert np.isfinite(one.found).all()
        # known to 1/sqrt(2 (S - 1)); to first order in the noise, and before deviations are of order one
        assert_allclose(one.deviation, result.variance(one.batch_size) ** 0.5, rtol=5 / (2 * (len(one.found) - 1)) ** 0.5)
        assert abs(one.mean - result.exact.middle) < result.variance(one.batch_size) + 4 * one.error + 0.05
        assert one.correlation > 0.5
    assert 2.3 < result.exact.low < result.exact.high < 3.2


@pytest.mark.parametrize("batch_size", [7, 300])
def test_both_ways_to_draw_have_gradients_on_the_draws_that_they_show(batch_size):
    draws = sgd_border_runs._Draws(3, 4, batch_size)
    params = np.random.default_rng(0).standard_normal((4, 3)) + 2
    draws.begin()
    seen = [draws.next(), draws.next()]
    draws.begin()
    for x in seen:
        assert x.shape == (4, batch_size) and len(np.unique(x)) == x.size
        assert_allclose(draws.gradient(params), sgd_border_runs.rows(params, x), rtol=1e-10)


def test_statistics_of_known_thresholds():
    one = Borders(1, np.array([1.0, 2.0, 3.0, np.nan]), np.zeros(4), 0)
    assert (one.mean, one.deviation) == (2.0, 1.0) and np.isnan(one.correlation)
    assert np.isnan(Borders(1, np.array([1.0]), np.zeros(1), 0).deviation)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes == {"batch_size": 2, "seed": 48} and np.isnan(data.border.sel(batch_size=300)[-1])
    assert_allclose(data.estimate, 4 * 0.1 * 6.25 / (3 * np.array([4, 300])))
    with xarray.open_dataset(result.save(tmp_path / "sgd.nc")) as again:
        assert json.loads(again.attrs["settings"])["seeds"] == 48
    assert len(result.draw().axes) == 3 and len(result.summary().splitlines()) == 5


@pytest.mark.parametrize(("change", "message"), [
    ({"batch_size": 0}, "batch_size must be"), ({"M": 6.0}, "M must be one number, not above 5.5"), ({"M": (3, 4)}, "M must be one number"),
    ({"n": 1}, "n must be"), ({"step_size": 0}, "step_size must be"), ({"step_size": 1.0}, "step_size must keep"), ({"seeds": 1}, "seeds"),
    ({"resolution": 0}, "resolution"), ({"seed": -1}, "seed"), ({"tol": 0}, "tol"),
    ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 2])
def test_interrupted(monkeypatch, finished):
    calls, part = [], sgd_border._part

    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return part(*args)

    monkeypatch.setattr(sgd_border, "_part", impatient)
    settings = {"batch_size": (1, 2, 3), "M": 2.0, "n": 3, "step_size": 0.1, "seeds": 4, "resolution": 0.5}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    found = op.experiments.run(NAME, **settings)
    assert not any("+-" in line for line in found.summary().splitlines()[3:])  # of four seeds
    assert found.interrupted and len(found.batches) == 1 and found.draw() and "interrupted after 2 of 4" in found.summary()
