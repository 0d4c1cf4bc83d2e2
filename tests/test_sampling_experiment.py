"""Samples of diffusion models made of students: the chain's law, its bound, samples, settings, Ctrl-C."""

import json
import math

import numpy as np
import pytest
import xarray
from scipy.integrate import quad
from scipy.stats import kstest, norm

import overparam as op
from overparam.experiments.registry import check_settings
from overparam.experiments.zhang2025 import sampling
from overparam.experiments.zhang2025.sampling_runs import Chain, Training, train

NAME = "zhang2025.sampling"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, M=6.0, n=3, t_end=1e3, noise_times=12, noise_end=4.0, samples=4000)


def test_one_step_is_a_gaussian_convolution():
    means, h = np.array([[0.3, 2.0]]), 0.4
    chain = Chain(means, h)
    x, density = chain.law()

    def v(y):
        a, b = math.exp(0.3 * y - 0.045), math.exp(2.0 * y - 2.0)
        return (0.3 * a + 2.0 * b) / (a + b)

    spread = math.sqrt(1 - math.exp(-2 * h))
    for place in (-1.0, 0.7, 3.0):
        exact = quad(lambda y, at=place: norm.pdf(y) * norm.pdf(at, math.exp(-h) * y + 2 * (1 - math.exp(-h)) * v(y), spread), -9, 9,
                     epsabs=1e-13, limit=200)[0]
        assert density[np.abs(x - place).argmin()] == pytest.approx(exact, rel=1e-9)


def test_short_steps_lead_to_the_students_own_density():
    # means e^(-t) mu at noise time t: the reverse process of the mixture, which the exponential integrator follows to first order in h
    mu, total = np.array([0.0, 4.0]), 5.0
    exact = op.distances.total_variation(op.Gaussian([0.0]), mu[:, None]).value
    off = []
    for count in (50, 100):
        h = total / count
        middles = h * (np.arange(count) + 0.5)
        off.append(exact - Chain(np.exp(-middles)[:, None] * mu, h).distances()[0])
    assert 0 < off[1] < 0.6 * off[0] < 0.05  # what is left of T, 4 exp(-5) / 2 of half of the mass, is below 0.003


def test_laws_are_normalised_and_samples_follow_them():
    rng = np.random.default_rng(0)
    chain = Chain(rng.uniform(-1, 4, size=(15, 3)), 0.2)
    x, density = chain.law()
    assert density.sum() * 0.01 == pytest.approx(1, abs=1e-10)
    cdf = np.cumsum(density) * 0.01
    assert kstest(chain.draw(5000, rng), lambda at: np.interp(at, x + 0.005, cdf)).pvalue > 1e-3  # fails once in a thousand seeds


def test_divergence_is_within_the_sum_of_losses():
    rng = np.random.default_rng(1)
    for h in (0.05, 0.3, 1.0):
        means = rng.uniform(-2, 3, size=(8, 2))
        chain = Chain(means, h)
        losses = [op.ScoreMatching(op.Gaussian([0.0])).value(row[:, None]) for row in means]
        variation, divergence = chain.distances()
        assert 0 < divergence <= chain.divergence_bound(np.array(losses)) and variation <= math.sqrt(divergence / 2)
    # one student at one place shifts a single Gaussian step: the bound is attained in the limit of one step from a known law
    single, loss = Chain(np.array([[0.5, 0.5]]), 12.0), 0.25
    shift = 2 * (1 - math.exp(-12.0)) * 0.5
    assert single.distances()[1] == pytest.approx(shift**2 / 2, rel=1e-8) == single.divergence_bound(np.array([loss]))


def test_far_means_are_in_the_density_but_not_in_the_samples(result):
    last = result.found[-1]
    assert last.k == 1 and last.loss < 5e-3
    assert last.variation == pytest.approx(2 / 3, abs=1e-3) and last.divergence == pytest.approx(math.log(3), abs=1e-2)
    assert last.separate.variation < 5e-3 and last.shared.variation > 0.5
    assert last.shared.drawn > 0.5 and last.separate.drawn < result.noise


def test_bounds_hold_and_one_student_sums_to_its_own_divergence(result):
    for one in result.found:
        for model in (one.separate, one.shared):
            assert model.divergence <= model.bound * (1 + 1e-9) and model.variation <= math.sqrt(model.divergence / 2) + 1e-9
            assert model.drawn <= model.variation + 2 * result.noise  # 95 % within one
        # KL(teacher, student) is the integral of the loss over noise time; the sum at middles of intervals of 1/3 is good to some percent
        assert one.shared.bound == pytest.approx(one.divergence, rel=0.05)


def test_training_is_a_flow_at_its_noise_time():
    found = train(6.0, 3, 1e-7, 1.0, 100.0, 9, 1e-6, 1e-6)
    assert found.message == "" and found.means[0] == pytest.approx([6 / math.e] * 3, rel=1e-6)
    assert (np.abs(found.means[-1]) < 0.5).all()  # 6/e = 2.2: all converge, as they do not at noise time 0


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert data.sizes["model"] == 2 and float(data.density_variation[0, -1]) == result.found[-1].variation
    with xarray.open_dataset(result.save(tmp_path / "samples.nc")) as again:
        assert json.loads(again.attrs["settings"])["noise_times"] == 12
    assert len(result.draw().axes) == 3
    assert len(result.summary().splitlines()) == 2 + len(result.found) + 2


@pytest.mark.parametrize(("change", "message"), [
    ({"M": 0}, "M must be"), ({"M": 30.0}, "M must be at most 20"), ({"n": 1}, "n must be"), ({"spread": 0}, "spread"),
    ({"t_end": 0.1}, "t_end"), ({"noise_times": 1}, "noise_times"), ({"noise_times": 2, "noise_end": 5.0}, "must make intervals"),
    ({"noise_end": 0.1}, "noise_end"), ({"samples": 10}, "samples"), ({"seed": -1}, "seed"), ({"tol": 0}, "tol"), ({"rtol": 0}, "rtol"),
    ({"n_jobs": 0}, "n_jobs"), ({"progress": 1}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [2, 4])
def test_interrupted(monkeypatch, finished):
    def impatient(M, n, spread, t, *args):
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return Training(t, np.array([0.0, 1.0]), np.array([[2.0, 2.0], [0.5, 1.5]]), np.array([4.0, 1.0]), "")

    calls = []
    monkeypatch.setattr(sampling, "train", impatient)
    settings = {"M": (2.0, 3.0), "n": 2, "noise_times": 2, "noise_end": 2.0, "samples": 100}
    if finished < 3:  # no start has all of its trainings: at noise time 0 and in two intervals
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    found = op.experiments.run(NAME, **settings)
    assert found.interrupted and [one.M for one in found.found] == [2.0] and found.draw()
    assert "interrupted after 4 of 6 trainings" in found.summary()
