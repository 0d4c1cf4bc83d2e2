"""Unequal weights: the law of their spread, borders, division by the weights, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from scipy.integrate import quad

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import unequal_weights
from overparam.experiments.zhang2025.unequal_weights_runs import Pair, decided_number, log_amplification, pair, weights_of

NAME = "zhang2025.unequal_weights"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, M=(3.0, 4.0), perturbation=(1e-6, 0.1), n=3, pairs=3, step_size=0.05, resolution=0.2)


@pytest.mark.parametrize(("M", "m"), [(1.0, 0.0), (3.0, 0.5), (6.0, 0.0), (5.0, 4.9)])
def test_amplification_is_an_integral(M, m):
    integral = quad(lambda u: np.exp(u**2 - M**2), m, M, epsabs=0, epsrel=1e-12)[0]
    assert log_amplification(M, m) == pytest.approx(np.log(integral) + M**2 - m**2, rel=1e-10, abs=1e-10)


def test_coincident_parameters_separate_by_the_law():
    M, rho, z = 3.0, 1e-7, np.array([-1.2, -0.3, 0.4, 1.1])
    z = z - z.mean()
    objective = op.ScoreMatching(op.Gaussian([0.0]), weights=weights_of(z, rho), rule=op.Auto(tol=1e-10))
    flow = op.gradient_flow(objective, np.full((4, 1), M), t_end=2 * np.log(M / 0.5), rtol=1e-9)  # m falls like exp(-2t/n)
    spread = flow.final[:, 0] - flow.final.mean()
    # terms of second order are 1e-7 * exp(9) / 6 = 1e-4 of it; m itself is 0.5 to the same accuracy
    np.testing.assert_allclose(spread, -rho * z * np.exp(log_amplification(M, 0.5)), rtol=1e-3)


def test_border_is_that_of_equal_weights(result):
    # the law is of first order in the perturbation, which is 1e-2 at M = 3 and 1e-5 at M = 4
    for M, slack in ((3.0, 0.15), (4.0, 0.05)):
        border = result.borders[M]
        assert border.message == "" and border.high - border.low <= 0.2 + 1e-9
        assert border.low - slack < result.reference.high and result.reference.low - slack < border.high


def test_plane_agrees_with_the_borders(result):
    for (M, size), k in result.numbers.items():
        b = np.log(size) + log_amplification(M)
        assert (k == 3) if b < result.borders[M].low else (k < 3)


def test_division_by_the_weights_restores_all(result):
    _, divided, count = result.restored()
    assert divided == count == 3
    heavy = pair(np.random.default_rng(1), 3, (4.5, 4.5 + 1e-9), (0.3, 0.3 + 1e-9), 1e-12, 0.05, 1e-6)
    assert heavy.M == pytest.approx(4.5) and (heavy.plain, heavy.divided) == (1, 3)


def test_equal_weights_never_split():
    assert decided_number(5.0, np.full(3, 1 / 3), 1e-7, 1e-6)[0] == 3


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"M": 2, "perturbation": 2, "pair": 3} and int(data.converged.sel(M=4.0, perturbation=0.1)) == 1
    with xarray.open_dataset(result.save(tmp_path / "weights.nc")) as again:
        assert json.loads(again.attrs["settings"])["n"] == 3
    assert len(result.draw().axes) == 2
    assert "divided by the weights in 3 of 3" in result.summary()


@pytest.mark.parametrize(("change", "message"), [
    ({"M": 7.0}, "M must not be above 6"), ({"M": 0}, "M must be"), ({"perturbation": 0.7}, "perturbation must be"),
    ({"perturbation": 0.6, "n": 10, "weights_profile": "one near"}, "leave every weight above 0"), ({"n": 1}, "n must be"),
    ({"weights_profile": "x"}, "weights_profile"), ({"pairs": -1}, "pairs"), ({"step_size": 0}, "step_size"),
    ({"resolution": 2.0}, "resolution"), ({"seed": -1}, "seed"), ({"tol": 0}, "tol"), ({"rtol": 0}, "rtol"), ({"n_jobs": 0}, "n_jobs"),
    ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    def impatient(*args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return {1e-6: 3, 0.1: None}

    calls = []
    monkeypatch.setattr(unequal_weights, "_part", impatient)
    settings = {"M": (3.0, 4.0), "perturbation": (1e-6, 0.1), "n": 3, "pairs": 0}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.numbers) == 2 and result.draw() and "interrupted after 1 of 5 parts" in result.summary()
    assert "open" in result.summary() and result.to_xarray().sizes["pair"] == 0


def test_pairs_of_known_outcome():
    found = unequal_weights.UnequalWeightsResult(NAME, {"n": 5}, {}, pairs=(Pair(3.0, 0.1, 1, 5), Pair(3.0, 0.1, None, 5)))
    assert found.restored() == (0, 2, 2)
