"""How far from sharp the conditions are: measured thresholds against independent ones, and what the search does with open values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import overparam as op
from overparam.experiments.registry import check_settings, summary_line
from overparam.experiments.zhang2025 import sharpness as module
from overparam.theory import sharpness as measure
from overparam.theory.thresholds import EDGES, Edge, Probe, _bisect


class Made(Edge):
    """A threshold at 0.3 with an undecided band around it, and limits."""

    name, vary, quantity, latex, rises = "made", "x", "x", "x", True
    tag, tag_words, defaults, limits = "derived", "nothing", {}, (-9.0, 9.0)

    def __init__(self, edge=0.3, band=0.0, rises=True, start=0.0):
        self.edge, self.band, self.rises, self.start = edge, band, rises, start

    def published(self, problem):
        return -5.0

    def guess(self, problem):
        return self.start

    def probe(self, problem, value):
        return Probe(value, None if abs(value - self.edge) < self.band else (value < self.edge) == self.rises, "made")


def search(edge, width=0.01, most=60):
    return _bisect(edge, {}, lambda value: edge.probe({}, value), width, most)


@pytest.mark.parametrize("rises", [True, False])
@pytest.mark.parametrize("start", [-3.0, 0.0, 4.0])
def test_bisection(rises, start):
    probes, holds, fails, stopped = search(Made(rises=rises, start=start))
    assert stopped == "" and abs(holds - fails) <= 0.01
    assert min(holds, fails) <= 0.3 <= max(holds, fails) and (holds < fails) == rises
    assert len(probes) < 20


def test_open_values_move_no_end():
    probes, holds, fails, stopped = search(Made(band=0.05))
    assert holds <= 0.25 and fails >= 0.35 and "undecided" in stopped
    assert sum(one.holds is None for one in probes) >= 1
    probes, holds, fails, stopped = search(Made(start=0.3, band=0.2))
    assert holds <= 0.1 and fails >= 0.5
    assert search(Made(start=0.3, band=50.0))[1:] == (None, None, "nothing near the guess could be decided")


def test_limits():
    _, holds, fails, stopped = search(Made(edge=20.0))
    assert holds == 9.0 and fails is None and "still holds" in stopped
    _, holds, fails, stopped = search(Made(), width=1e-9, most=5)
    assert "5 values" in stopped and holds < 0.3 < fails


# --- measured thresholds ---------------------------------------------------------------------------------------------


def two_on_the_line(t, mu):
    """Minus the gradient for n = 2, d = 1, target 0: quadrature on a fixed fine grid, in difference and mean."""
    x = np.arange(-14.0, 14.0, 0.02)
    a, b = mu
    w = 1 / (1 + np.exp(-np.clip(x * (a - b) - (a * a - b * b) / 2, -700, 700)))
    q = 0.02 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    v = w * a + (1 - w) * b
    return [-2 * (q * w * (v + (a - v) * v * (x - a))).sum(), -2 * (q * (1 - w) * (v + (b - v) * v * (x - b))).sum()]


def test_spread_against_another_integration():
    """Theorem 3.2, n = 2, M0 = 2.5: SciPy's DOP853 on a plain grid, bisected in the logarithm of the spread."""
    def parts(log_spread):
        eps = math.exp(log_spread)
        end = solve_ivp(two_on_the_line, (0, 25.0), [2.5 + eps, 2.5 - eps], method="DOP853", rtol=1e-9, atol=1e-12).y[:, -1]
        return 1.0 if np.abs(end).max() > 2.0 else -1.0

    expected = brentq(parts, -6.0, -1.0, xtol=0.02)
    found = measure("zhang2025.theorem_3_2", n=2, M0=2.5)
    assert found.interval[1] - found.interval[0] <= 0.05
    assert_allclose(found.measured, expected, atol=0.06)
    assert_allclose(found.published, -math.log(216) - 212 * 2.5**3)
    assert found.nats == found.measured - found.published and found.at_published.holds


def test_weights_law():
    """What unequal weights feed grows on the way: -M0^2 + kappa - ln D(M0), D Dawson's integral."""
    found = measure("zhang2025.theorem_3_2", vary="weights", M0=3.0, resolution=0.2)
    assert found.published == -math.inf and found.nats == math.inf and found.at_published is None
    assert_allclose(found.measured, found.derived, atol=0.12)
    integral = np.exp(np.linspace(0, 3, 30_001)[1:] ** 2).sum() * 1e-4
    assert_allclose(found.derived, 3.11 - math.log(integral), atol=1e-3)


def test_very_unequal_weights_let_all_converge_again():
    edge = EDGES["zhang2025.theorem_3_2", "weights"]
    problem = edge.checked({"M0": 3.0})
    assert [edge.probe(problem, math.log(delta)).holds for delta in (1e-3, 0.1, 0.9)] == [True, False, True]
    nowhere = measure("zhang2025.theorem_3_2", vary="weights", M0=2.5, resolution=1.0)
    assert nowhere.interval is None and nowhere.nats is None and "still holds" in nowhere.text() and nowhere.derived is None


@pytest.mark.parametrize("n", [3, 5])
def test_noise_time_ends_at_the_saddle(n):
    found = measure("zhang2025.theorem_2_1", n=n, M=2.0)
    saddle = {3: 2.55055099, 5: 2.67374938}[n]
    assert found.interval[0] < math.log(2.0 / saddle) < found.interval[1]
    assert not found.rises and found.holds > found.fails and 3 < found.nats < 6


def test_step_size_ends_at_the_stability_limit():
    found = measure("zhang2025.theorem_2_1", vary="step_size", n=2, d=2)
    assert found.interval[0] - 0.05 < math.log(2) < found.interval[1] + 0.05
    assert found.published == -4 * math.log(2) - 2 * math.log(2) and found.tag == "unknown"


@pytest.mark.parametrize(("name", "problem"), [("theorem_3_4", {}), ("theorem_3_5", {"n": 3}), ("theorem_3_7", {})])
def test_distances(name, problem):
    found = measure(f"zhang2025.{name}", resolution=0.2, **problem)
    low, high = found.interval
    assert 0.3 < low < high < 1.2  # M0 of 2 or so, where 1e12 is asked for
    assert found.holds == high and found.nats > 25
    assert found.at_published.holds is (None if name == "theorem_3_7" else True)


def test_random_distance():
    found = measure("zhang2025.corollary_3_6", samples=6, failure=0.5, resolution=1.0, max_runs=3)
    assert all("of 6 starts fail" in one.words for one in found.probes)
    assert found.interval is None or found.interval[0] > -1
    assert found.at_published.holds is None
    assert_allclose(found.published, math.log(1024e9))


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_text_and_dict():
    found = measure("zhang2025.theorem_2_1", n=3, resolution=0.5)
    text = found.text()
    for part in ("zhang2025.theorem_2_1", "n=3", "[published: ln n + ln M + 2]", "[derived: by runs]", "nats", "values tried"):
        assert part in text
    again = json.loads(json.dumps(found.to_dict()))
    assert again["measured"] == found.measured and len(again["probes"]) == len(found.probes)
    assert "<pre>" in found._repr_html_() and "theorem_2_1" in repr(found)
    weights = measure("zhang2025.theorem_3_2", vary="weights", M0=1.5, resolution=5.0)
    assert json.loads(json.dumps(weights.to_dict()))["published"] == "-inf"


def test_settings():
    assert {name for name, _ in EDGES} <= set(op.theory.list())
    for given, words in (({"name": "zhang2025.theorem_9"}, "theorem"), ({"vary": "spred"}, "Did you mean 'spread'"), ({"m": 2}, "setting"),
                         ({"n": 1}, "n must"), ({"M0": 0.0}, "M0"), ({"resolution": -1.0}, "resolution")):
        with pytest.raises(ValueError, match=words):
            measure(**{"name": "zhang2025.theorem_3_2", **given})
    with pytest.raises(ValueError, match="failure"):
        measure("zhang2025.corollary_3_6", failure=1.5)


# --- the experiment --------------------------------------------------------------------------------------------------

NAME = "zhang2025.sharpness"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, n=3, M0=2.5, samples=0, resolution=1.0)


def test_experiment(result, tmp_path):
    assert [len(result.of("theorem_3_2", vary)) for vary in ("spread", "weights")] == [1, 1]
    assert [one.problem["n"] for one in result.of("theorem_2_1", "noise_time")] == [3]
    for one in result.thresholds:
        assert one.interval is None or one.interval[1] - one.interval[0] <= 1.0
    assert len(result.summary().splitlines()) == 1 + len(result.thresholds) == 1 + 7
    data = result.to_xarray()
    assert data.sizes["threshold"] == 7 and str(data.tag[0].item()) == "published"
    with xarray.open_dataset(result.save(tmp_path / "s.nc")) as saved:
        assert_allclose(saved.measured.values, data.measured.values)
        assert json.loads(saved.attrs["settings"])["M0"] == [2.5]
    figure = result.draw()
    assert len(figure.axes) == 4 and figure.axes[0].get_yscale() == "log"


def test_experiment_settings():
    for given, words in (({"n": 1}, "n must"), ({"M0": (2.0, 2.0)}, "once"), ({"samples": -1}, "samples"),
                         ({"resolution": 0}, "resolution"), ({"m0": 2.0}, "not known")):
        with pytest.raises(ValueError, match=words):
            check_settings(NAME, given)
    assert summary_line(NAME).startswith("How far from sharp")


def test_experiment_and_ctrl_c(monkeypatch):
    calls = []

    def stops(*given, **more):
        calls.append(given)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return measure("zhang2025.theorem_2_1", vary="step_size", n=2, resolution=5.0)

    monkeypatch.setattr(module, "measure", stops)
    half = op.experiments.run(NAME, n=2, M0=3.0)
    assert half.interrupted and half.reached == "in theorem_3_2, weights, n = 2, M0 = 3" and half.finished() is half
    with pytest.raises(KeyboardInterrupt, match="theorem_3_2, spread"):
        op.experiments.run(NAME, n=2, M0=3.0)
