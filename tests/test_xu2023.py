"""The statements of Xu and Du 2023: their numbers against independent ones, their verdicts, and wrong versions of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import overparam as op
from overparam.theory import check
from overparam.theory.xu2023 import common, gradients, phases

GIVEN = {"C_sigma": 0.1, "C_d": 2.0}


def claim(report, part):
    found = [one for one in (*report.hypotheses, *report.conclusions) if part in one.words]
    assert len(found) == 1, [one.words for one in found]
    return found[0]


@pytest.fixture(scope="module")
def three():
    return op.gradient_flow(op.ReLUNeuron(np.eye(5)[0]), op.init.gaussian(3, np.zeros(5), scale=0.01, rng=0), t_end=1e5, rtol=1e-10)


@pytest.fixture(scope="module")
def pair():
    return op.gradient_flow(op.ReLUNeuron([0.0, 2.0]), [[0.3, 0.4], [-0.1, 1.2]], t_end=1e5, rtol=1e-10)


def test_geometry_is_that_of_the_full_space():
    rng = np.random.default_rng(0)
    target, params = rng.normal(size=4), rng.normal(size=(3, 4))
    objective = op.ReLUNeuron(target)
    found = common.neurons(objective, objective.start(params))
    unit = target / np.linalg.norm(target)
    across = params - (params @ unit)[:, None] * unit
    np.testing.assert_allclose(found.lengths, np.linalg.norm(params, axis=1), rtol=1e-14)
    np.testing.assert_allclose(found.angles, np.arccos(params @ unit / found.lengths), rtol=1e-12)
    gaps = [np.linalg.norm(across[i] - across[j]) for i in range(3) for j in range(i)]
    assert found.potential == pytest.approx(sum(gaps), rel=1e-14)
    assert found.residual == pytest.approx(np.linalg.norm(params.sum(axis=0) - target), rel=1e-14)


def test_published_gradient_is_the_derivative_of_the_loss():
    rng = np.random.default_rng(1)
    target, params, direction = rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    objective, step = op.ReLUNeuron(target), 1e-3
    values = {m: objective.value(params + m * step * direction) for m in (-2, -1, 1, 2)}
    found = (8 * (values[1] - values[-1]) - values[2] + values[-2]) / (12 * step)
    assert found == pytest.approx(float((gradients.published(params, target) * direction).sum()), rel=1e-8)


@pytest.mark.parametrize(("power", "bounded", "away"), [(0.0, True, True), (0.1, None, True), (-0.1, True, None)])
def test_levels_tell_a_power_from_a_constant(power, bounded, away):
    times = np.geomspace(1, 1e6, 120)
    values = times**power * (1 + 1 / times)
    assert common.levels(times, values, True, 0.0)[0] is bounded
    assert common.levels(times, values, False, 0.0)[0] is away
    assert common.levels(times[:5], values[:5], True, 0.0)[0] is None
    assert common.levels(times[::20], values[::20], True, 0.0)[0] is None


def test_bounds_of_three_neurons(three):
    upper, lower = check("xu2023.upper_bound", three, C=0.1, **GIVEN), check("xu2023.lower_bound", three, c=1e-3, **GIVEN)
    assert upper.verdict == lower.verdict == "verified"
    exponent, interval = upper.measured["exponent over the last decade"], upper.measured["its interval, of a straight line"]
    assert interval[0] < exponent < interval[1] and abs(exponent + 3) < 0.01
    assert -3.01 < upper.measured["slope at the end"] < -2.98
    # the constant that is shown is the largest ratio of the records
    start = common.local_phase(three)
    times = three.times[start + 1:] - three.times[start]
    shown = claim(check("xu2023.upper_bound", three, **GIVEN), "stays below")
    assert shown.left == pytest.approx((three.loss[start + 1:] * times**3).max() / 81, rel=1e-12) and not shown.tested
    assert check("xu2023.upper_bound", three, C=0.99 * shown.left, **GIVEN).verdict == "violated"
    assert check("xu2023.upper_bound", three, C=1.01 * shown.left, **GIVEN).verdict == "verified"


@pytest.mark.parametrize(("name", "power", "constant"), [("upper_bound", 0.1, {"C": 1e3}), ("lower_bound", -0.1, {"c": 1e-4})])
def test_a_loss_that_falls_like_another_power_is_not_verified(three, name, power, constant):
    """The run with a loss that is a power of t times the true one."""
    wrong = replace(three, loss=three.loss * (1 + three.times) ** power, loss_error=three.loss_error * (1 + three.times) ** power)
    assert check(f"xu2023.{name}", three, **constant, **GIVEN).verdict == "verified"
    report = check(f"xu2023.{name}", wrong, confirm=False, **constant, **GIVEN)
    assert report.verdict == "undecided" and claim(report, "L T^3 stays").holds is None and claim(report, "the loss stays").holds


def test_start_and_step_are_looked_at(three):
    report = check("xu2023.upper_bound", three, C_sigma=1e-3, C_d=2.0, C=1.0)
    assert report.verdict == "vacuous" and claim(report, "start is small").holds is False
    assert check("xu2023.upper_bound", three, C_sigma=0.1, C_d=10.0).verdict == "vacuous"
    run = op.gradient_descent(three.objective, three.params[0], step_size=0.5, steps=2000)
    assert claim(check("xu2023.upper_bound", run, C_eta=0.1, **GIVEN), "step size").holds is False
    assert claim(check("xu2023.upper_bound", run, **GIVEN), "step size").tested is False
    assert claim(check("xu2023.lower_bound", run, **GIVEN), "gradient flow").holds is False
    adam = op.adam(three.objective, three.params[0], step_size=0.01, steps=100)
    assert claim(check("xu2023.phases", adam, **GIVEN), "gradient descent, or its flow").holds is False
    other = op.ScoreMatching(op.Gaussian([0.0]))
    for name in ("upper_bound", "lower_bound", "phases", "balancing", "potential", "law_pair", "law_one_neuron"):
        report = check(f"xu2023.{name}", op.gradient_flow(other, [[1.0], [2.0]], t_end=1.0))
        assert report.verdict == "vacuous", report.text()


def test_phases_and_balancing_of_starts_that_are_not_the_papers():
    """One long neuron leaves the short ones short: the interval is not reached, and the report says so."""
    objective = op.ReLUNeuron([1.0, 0.0])
    run = op.gradient_flow(objective, [[0.7, 0.1], [1e-3, 1e-3], [1e-3, -2e-3]], t_end=1e4)
    report = check("xu2023.phases", run, C_sigma=1.0, C_d=1.0)
    sizes = np.linalg.norm(run.final, axis=1) * 3
    assert sizes.min() < 1 / 3 and claim(report, "at some record").holds is False
    assert report.verdict == "violated" and check("xu2023.phases", run, **GIVEN).verdict == "vacuous"
    found = claim(check("xu2023.balancing", run, C_sigma=1.0, C_d=1.0), "factor 9")
    assert found.left == pytest.approx(sizes.max() / sizes.min(), rel=1e-12)
    assert found.holds is bool(found.left <= 9)


def test_phases_are_in_order(three):
    assert 0 < phases.grown(three) and common.local_phase(three) is not None
    report = check("xu2023.phases", three, **GIVEN)
    assert report.verdict == "verified"
    assert report.measured["half grown: largest angle"] < claim(report, "largest angle").right
    whole = common.neurons(three.objective, three.states[-1])
    assert common.balanced(whole) and not common.balanced(replace(whole, lengths=whole.lengths * np.array([1, 1, 0.3])))


def test_potential_falls_like_one_over_time(three):
    report = check("xu2023.potential", three)
    assert report.verdict == "verified" and report.measured["d ln Z/d ln T at the end"] == pytest.approx(-1, abs=2e-3)
    wrong = replace(three, loss=three.loss * (1 + three.times) ** 0.2)
    assert check("xu2023.potential", wrong, confirm=False).verdict == "undecided"


def test_the_law_of_two_is_sharp(pair):
    report = check("xu2023.law_pair", pair, C=1.0)
    assert report.verdict == "verified"
    assert report.measured["L t^3 at the end"] == pytest.approx(report.measured["of the law"], rel=1e-3)
    assert check("xu2023.law_pair", replace(pair, loss=1.01 * pair.loss), confirm=False, C=1.0).verdict == "violated"
    assert check("xu2023.law_pair", replace(pair, times=1.01 * pair.times), confirm=False, C=1.0).verdict == "violated"


@pytest.mark.parametrize("step_size", [0.05, 0.5, 1.0])
def test_one_neuron_falls_at_its_rate(step_size):
    run = op.gradient_descent(op.ReLUNeuron([0.0, 3.0]), [[0.1, -0.2]], step_size=step_size, steps=math.ceil(60 / step_size))
    report = check("xu2023.law_one_neuron", run)
    assert report.verdict == "verified" and run.loss[-1] < 1e-16
    late = np.flatnonzero((run.loss < 1e-6) & (run.loss > 1e-14))
    rate = np.diff(np.log(run.loss[late])) / np.diff(run.steps[late])
    np.testing.assert_allclose(rate, 2 * math.log(1 - step_size / 2), rtol=2e-3)
    assert check("xu2023.law_one_neuron", replace(run, loss=run.loss**0.9), confirm=False).verdict == "violated"
    big = op.gradient_descent(op.ReLUNeuron([0.0, 3.0]), [[0.1, 0.2]], step_size=1.5, steps=40)
    assert check("xu2023.law_one_neuron", big).verdict == "vacuous"


def test_loss_near_the_optimum_is_of_third_order():
    objective = op.ReLUNeuron([1.0, 0.0])
    report = check("xu2023.law_near_optimum", objective, [[0.5, 0.02], [0.5, -0.02]])
    bound = claim(report, "third-order part")
    assert report.verdict == "verified" and 0.2 < bound.left / bound.right < 1
    wrong = type("Wrong", (gradients.NearOptimum,), {
        "name": "wrong", "sides": lambda self, point: (gradients.NearOptimum.sides(self, point)[0], *(
            0.1 * one for one in gradients.NearOptimum.sides(self, point)[1:2]), *gradients.NearOptimum.sides(self, point)[2:])})
    assert wrong().check(objective, [[0.5, 0.02], [0.5, -0.02]]).verdict == "violated"
