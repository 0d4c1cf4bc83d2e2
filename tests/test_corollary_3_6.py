"""The experiment on Corollary 3.6: weights of the importance sampling, estimates, picture, data, settings, Ctrl-C."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import dblquad
from scipy.special import ndtr

import overparam as op
from overparam.experiments.registry import check_settings, defaults, summary_line
from overparam.experiments.zhang2025 import corollary_3_6 as module
from overparam.experiments.zhang2025.corollary_3_6_sampling import PairProposal, interval

NAME = "zhang2025.corollary_3_6"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, M=(1.5, 4.0), samples=24, plain_up_to=2.0)


@pytest.mark.parametrize(("M", "n"), [(1.0, 2), (4.0, 2), (3.0, 3), (5.0, 4)])
def test_weights_are_true_over_drawn_density(M, n):
    starts, log_weights = PairProposal.of(M, n).draw(100_000, np.random.default_rng(0))
    weights = np.exp(log_weights)
    assert weights.max() <= 4.0 + 1e-12
    error = weights.std() / math.sqrt(len(weights))
    assert abs(weights.mean() - 1) < 5 * error
    # moments of the true law, whatever was drawn
    mean = (weights[:, None] * starts).mean(axis=0)
    assert (np.abs(mean - M) < 5 * (weights[:, None] * starts).std(axis=0) / math.sqrt(len(weights))).all()


@pytest.mark.parametrize("M", [3.0, 6.0])
def test_a_rare_event_of_known_probability(M):
    """Two students closer than e^(4 - c^2), c their middle: against adaptive quadrature."""
    starts, log_weights = PairProposal.of(M, 2).draw(40_000, np.random.default_rng(1))
    middles, gap = starts.mean(axis=1), np.abs(starts[:, 0] - starts[:, 1])
    estimate, low, high = interval(gap < np.exp(4 - middles**2), np.exp(log_weights))
    # c ~ N(M, 1/2), the difference ~ N(0, 2)
    expected = dblquad(lambda x, c: math.exp(-((c - M) ** 2) - x * x / 4) / (math.sqrt(math.pi) * math.sqrt(4 * math.pi)), -4, M + 5,
                       lambda c: -min(math.exp(4 - c * c), 12.0), lambda c: min(math.exp(4 - c * c), 12.0), epsabs=1e-14)[0]
    assert low < estimate < high and high - low < 0.1 * expected
    assert_allclose(estimate, expected, rtol=0.08)


def test_interval_without_failures():
    estimate, low, high = interval(np.zeros(50, dtype=bool), np.full(50, 0.5))
    assert (estimate, low) == (0.0, 0.0)
    assert_allclose(high, 0.5 * (1 - 0.05 ** (1 / 50)), rtol=1e-12)


def test_pair_law():
    # n = 2, far out: the Gaussian integral in closed form; the cut at 6 does not matter there
    assert_allclose(module.pair_law(8.0, 2), math.exp(3.8 - 32) / math.sqrt(2 * math.pi), rtol=1e-4)
    c = np.linspace(-5, 14, 200_001)
    density = np.exp(-((c - 5.0) ** 2)) / (2 * np.pi) * ndtr(5.0 - c) ** 2 * np.minimum(np.exp(3.8 - c**2), 6.0)
    assert_allclose(module.pair_law(5.0, 4), 12 * density.sum() * (c[1] - c[0]), rtol=1e-4)


def test_outcomes_are_those_of_long_accurate_runs():
    """The experiment's loose tolerance and stop test against rtol 1e-8 to flow time 1e6."""
    starts, _ = PairProposal.of(3.0, 2).draw(4, np.random.default_rng(3))
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-9))
    for start in starts:
        run = op.gradient_flow(objective, start[:, None], t_end=1e6, rtol=1e-8)
        assert op.regimes.count(run) == module._converged(3.0, start[:, None] - 3.0, 1e-6)


def test_estimates(result):
    plain, pairs = result.of("plain"), result.of("pairs")
    assert [one.M for one in plain] == [1.5] and [one.M for one in pairs] == [1.5, 4.0]
    assert plain[0].low < pairs[0].high and pairs[0].low < plain[0].high  # both kinds agree where both can be had
    rare = pairs[1]
    assert rare.failures >= 3 and rare.undecided == 0
    # far above e^(-M^2 + 4) = 6e-6, about the law of pairs at M/2, far below the published bound (above 1)
    assert 10 * math.exp(4 - 16) < rare.low < rare.probability < rare.high < 2e-2
    assert rare.low < module.pair_law(4.0, 2) < 2 * rare.high
    assert result.published(4.0) > 1


def test_the_seed_decides_and_distances_do_not_share_draws(result):
    again = op.experiments.run(NAME, M=1.5, samples=24, plain_up_to=0.0)
    assert again.of("pairs")[0] == result.of("pairs")[0]


def test_slope():
    points = tuple(module.Estimate(m, "pairs", math.exp(-m * m / 2), 0.8 * math.exp(-m * m / 2), 1.2 * math.exp(-m * m / 2), 9, 0, 30)
                   for m in (3.0, 4.0, 5.0))
    made = module.Corollary36Result(NAME, {"M": (3.0, 4.0, 5.0), "n": 2, "d": 1}, points)
    assert_allclose(made.exponent[0], -0.5)
    assert "slope" in made.summary()


def test_picture_data_summary(result, tmp_path):
    figure = result.draw()
    assert figure.axes[0].get_yscale() == "log" and len(figure.axes[0].get_legend().get_texts()) == 5
    data = result.to_xarray()
    assert dict(data.sizes) == {"M": 2, "kind": 2}
    assert np.isnan(data.probability.sel(M=4.0, kind="plain")) and int(data.samples.sel(M=4.0, kind="pairs")) == 24
    with xarray.open_dataset(result.save(tmp_path / "c.nc")) as saved:
        assert_array_equal(saved.probability.values, data.probability.values)
        assert json.loads(saved.attrs["settings"])["n"] == 2
    lines = result.summary().splitlines()
    assert len(lines) == 1 + 3 + 1 and "pairs" in lines[-2] and "e^(-M^2/2)" in lines[0]
    assert f"{math.exp(-8):.2e}" in lines[-2] and f"{math.exp(-12):.2e}" in lines[-2]  # M = 4


def test_settings():
    assert summary_line(NAME).startswith("How often not exactly one student converges")
    assert defaults(NAME)["n"] == 2
    for given, words in (({"M": -1.0}, "M must"), ({"M": (2.0, 2.0)}, "once"), ({"n": 1}, "n must"), ({"samples": 1}, "samples"),
                         ({"sample": 9}, "samples"), ({"tol": 0.0}, "tol")):
        with pytest.raises(ValueError, match=words):
            check_settings(NAME, given)
    plane = op.experiments.run(NAME, M=2.0, d=2, n=3, samples=3)
    assert [one.kind for one in plane.estimates] == ["plain"] and plane.to_xarray().sizes["M"] == 1
    assert plane.draw() is not None and "d > 1: plain draws only" in plane.summary()


def test_probabilities_end_at_1_and_at_float64():
    assert module.pair_law(1.0, 5) == 1.0 and module.pair_law(0.1, 10) == 1.0
    assert 0 < module.pair_law(35.0, 2) < 1e-260 and module.pair_law(1e300, 2) == 0.0
    with pytest.raises(ValueError, match="M must be at most 35"):
        op.experiments.run(NAME, M=1e300)
    far = op.experiments.run(NAME, M=35.0, samples=2)
    assert "slope" not in far.summary() and np.isfinite(far.estimates[0].probability)


def test_ctrl_c(monkeypatch):
    calls = []

    def stops(*given):
        calls.append(given)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return 1

    monkeypatch.setattr(module, "_converged", stops)
    half = op.experiments.run(NAME, M=(3.5, 4.0), samples=4)
    assert half.interrupted and half.reached == "in the pairs draws at M = 4" and half.finished() is half
    assert half.estimates[0].low == 0.0 < half.estimates[0].high
    with pytest.raises(KeyboardInterrupt, match=r"at M = 3\.5"):
        op.experiments.run(NAME, M=3.5, samples=4)


def test_a_store_is_gone_on_with(tmp_path, monkeypatch):
    calls = []

    def counts(M, deviations, tol):
        calls.append(M)
        return 1 if len(calls) % 2 else None

    monkeypatch.setattr(module, "_converged", counts)
    settings = {"M": 3.5, "samples": 4, "store": str(tmp_path / "store")}
    first, second = (op.experiments.run(NAME, **settings) for _ in range(2))
    assert len(calls) == 4 and first.estimates == second.estimates and first.estimates[0].undecided == 2
