"""Random starts of every width: counts, intervals, undecided starts, settings, Ctrl-C."""

import json

import numpy as np
import pytest
import xarray
from scipy.stats import binomtest

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import intermediate
from overparam.experiments.zhang2025.intermediate import IntermediateResult, Numbers

NAME = "zhang2025.intermediate"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, d=(1, 3), sigma=(1e-8, 1e-2, 4.0), samples=6, reach=1.0)


def test_narrow_starts_converge_together_and_wider_ones_do_not(result):
    # sigma = 1e-8 is 5 below the border in ln sigma, and 1e-2 is 7 above where a second of three is lost (zhang2025.staircase)
    for d in (1, 3):
        narrow, middle = result.of(d)[:2]
        assert narrow.counts == (0, 0, 0, 6) and middle.counts == (0, 6, 0, 0) and narrow.undecided == middle.undecided == 0


def test_starts_are_those_of_plain_descent(result):
    # the same starts by an explicit Euler scheme on a dense grid of nodes: another integrator and another rule
    draws = np.random.default_rng([0, 1, 2]).standard_normal((6, 3, 1))
    x = np.linspace(-9, 9, 301)
    weight = np.exp(-(x**2) / 2)
    weight /= weight.sum()
    found = []
    for z in draws[:4, :, 0]:
        means = 4.0 + 4.0 * z
        for _ in range(1000):
            logits = -((x[:, None] - means) ** 2) / 2
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            v = share @ means
            pull = share * (means - v[:, None]) * v[:, None]
            means = means - 0.05 * 2 * weight @ (share * v[:, None] + pull * (x[:, None] - means))
        found.append(int((np.abs(means) < 1).sum()))
    # of a mean that has neither arrived nor gone far this says nothing; there is none here
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6))
    flows = op.gradient_flow(objective, 4.0 + 4.0 * draws[:4], t_end=1e14, rtol=1e-4, record=op.log_spaced(130),
                             stop=op.regimes.until_decided([0.0]))
    assert [op.regimes.count(run) for run in flows] == found
    counts = result.of(1)[2].counts
    assert all(counts[k] >= found.count(k) for k in range(4))


def test_too_wide_starts_are_left_out_where_quadrature_is_in_the_plane(result):
    assert [cell.sigma for cell in result.of(3)] == [1e-8, 1e-2] and len(result.of(1)) == 3
    assert "left out, wider than reach = 1: sigma = 4 in d = 3" in result.summary()


def test_shares_have_clopper_pearson_intervals_that_know_of_undecided_starts():
    cell = Numbers(1, 1.0, (0, 7, 2), 1, ("why",))
    exact = binomtest(2, 10).proportion_ci(0.95).low, binomtest(3, 10).proportion_ci(0.95).high
    np.testing.assert_allclose(cell.share(2), (0.2, *exact), rtol=1e-12)
    assert cell.samples == 10 and cell.several == cell.share(2) and cell.mean == 11 / 9
    assert np.isnan(Numbers(1, 1.0, (0, 0, 0), 3).mean)


def test_rebound_of_known_counts():
    settings = {"d": (1,), "sigma": (1e-8, 1e-2, 1.0, 4.0), "n": 2, "M": 4.0, "samples": 50, "reach": 4.0}
    cells = tuple(Numbers(1, sigma, (0, 50 - k, k)) for sigma, k in zip(settings["sigma"], (50, 0, 0, 20), strict=True))
    result = IntermediateResult(NAME, settings, cells)
    assert [cell.sigma for cell in result.rebound(1)] == [1e-2, 4.0] and ": above it by its interval" in result.summary()
    assert IntermediateResult(NAME, settings, cells[:1]).rebound(1) is None


def test_widest_starts_may_be_those_of_which_two_or_more_converge_most_rarely():
    settings = {"d": (1,), "sigma": (1e-2, 1.0, 4.0), "n": 2, "M": 4.0, "samples": 50, "reach": 4.0}
    cells = tuple(Numbers(1, sigma, (0, 50 - k, k)) for sigma, k in zip(settings["sigma"], (50, 30, 10), strict=True))
    result = IntermediateResult(NAME, settings, cells)
    assert result.rebound(1) == (cells[-1], None)
    last = result.summary().splitlines()[-1]
    assert last.startswith("d = 1: P(k >= 2) is least, 0.200 [")
    assert last.endswith("at sigma = 4, the widest of these starts: it does not come back")
    level = IntermediateResult(NAME, settings, tuple(Numbers(1, sigma, (0, 50, 0)) for sigma in settings["sigma"]))
    assert level.rebound(1)[0].sigma == 1e-2 and "at most 0.000" in level.summary()  # the narrowest of equals


def test_undecided_starts_are_counted_apart_and_their_reason_is_said(monkeypatch):
    monkeypatch.setattr(intermediate, "_HORIZON", 0.5)
    found = op.experiments.run(NAME, d=1, sigma=1e-2, samples=3)
    assert found.cells[0].undecided == 3 and sum(found.cells[0].counts) == 0
    assert "undecided: over flow time" in found.summary() and found.draw().axes


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"d": 2, "sigma": 3, "k": 4} and int(data["count"].sel(d=1, sigma=1e-8, k=3)) == 6
    assert np.isnan(data.share.sel(d=3, sigma=4.0)).all()
    with xarray.open_dataset(result.save(tmp_path / "k.nc")) as again:
        assert json.loads(again.attrs["settings"])["samples"] == 6
    assert len(result.draw().axes) == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"d": 0}, "d must be"), ({"sigma": -1.0}, "sigma must be"), ({"M": -1.0}, "M must be"), ({"n": 1}, "n must be"),
    ({"samples": 0}, "samples"), ({"reach": 0.0}, "reach"), ({"sigma": 8.0}, "leaves no sigma in d = 3"), ({"seed": -1}, "seed"),
    ({"tol": 0}, "tol"), ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
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
        return Numbers(1, 1e-8, (0, 0, 0, 4))

    calls = []
    monkeypatch.setattr(intermediate, "_cell", impatient)
    settings = {"d": 1, "sigma": (1e-8, 1e-2), "samples": 4}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.cells) == 1 and result.draw() and "interrupted after 1 of 2 widths" in result.summary()
