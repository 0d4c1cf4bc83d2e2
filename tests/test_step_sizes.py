"""Step sizes that are functions of the step, and descent preconditioned by the weights."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])
OBJ = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-10))


def fading(step):
    return 0.1 / (1 + 0.05 * step)


class Bowl(op.Objective):
    """A user's own quadratic."""

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params


def drive(name, objective, step_size, steps, **more):
    settings = {"sgd": {"batch_size": 20, "rng": 0}}.get(name, {})
    return getattr(op, name)(objective, START, step_size=step_size, steps=steps, **settings, **more)


DRIVERS = pytest.mark.parametrize("name", ["gradient_descent", "momentum", "adam", "sgd"])


@DRIVERS
def test_a_function_is_asked_for_every_step_and_times_add_up(name):
    run = drive(name, OBJ, fading, 60, record=op.every(20))
    sizes = np.array([fading(step) for step in range(60)])
    assert_allclose(run.times, np.concatenate([[0.0], np.cumsum(sizes)])[run.steps], rtol=1e-15)
    assert run.status == "completed" and run.settings["step_size"] is None
    assert run.settings["step_size_function"].endswith("fading")
    constant = drive(name, OBJ, lambda step: 0.1, 30)
    assert_allclose(constant.final, drive(name, OBJ, 0.1, 30).final, rtol=1e-7, atol=1e-9)


def test_descent_with_a_schedule_is_the_product_of_its_steps():
    run = op.gradient_descent(Bowl(), START, step_size=fading, steps=40)
    assert_allclose(run.final, START * np.prod([1 - 2 * fading(step) for step in range(40)]), rtol=1e-13)
    path = START
    for step in range(40):
        path = path - fading(step) * OBJ.grad(path)
    assert_allclose(op.gradient_descent(OBJ, START, step_size=fading, steps=40).final, path, atol=40 * 0.1 * 4e-10 * 10)


@DRIVERS
def test_extended_with_the_function_it_is_the_longer_run(name, tmp_path):
    objective = OBJ if name == "sgd" else Bowl()
    whole, half = (drive(name, objective, fading, steps) for steps in (40, 15))
    half.save(tmp_path / "half.nc")
    for run in (half, op.load(tmp_path / "half.nc", objective=None if name == "sgd" else objective)):
        again = run.extend(steps=25, step_size=fading)
        assert_array_equal(again.final, whole.final)
        assert again.times[-1] == whole.times[-1]
    with pytest.raises(ValueError, match=r"step_size of this run is a function \(.*fading\), which is not stored: give it again"):
        half.extend(steps=25)
    with pytest.raises(ValueError, match=r"step_size must be the function of this run \(.*fading\), whose first 15 steps make"):
        half.extend(steps=25, step_size=lambda step: 0.1)
    with pytest.raises(ValueError, match=r"step_size of a run that is extended must stay 0.1"):
        drive(name, objective, 0.1, 3).extend(steps=3, step_size=fading)


@DRIVERS
def test_functions_that_return_no_step_size(name):
    with pytest.raises(ValueError, match=r"step_size\(0\) must be a finite number not below 0; got 'x'"):
        drive(name, OBJ, lambda step: "x", 3)
    run = drive(name, OBJ, lambda step: -1.0 if step == 7 else 0.01, 20, record=op.every(5))
    assert run.status == "failed" and "step_size(7) must be" in run.message and run.steps.tolist() == [0, 5]


@DRIVERS
@pytest.mark.parametrize(("function", "said"), [(lambda: 0.1, "too many positional"), (lambda step, loss: 0.1, "'loss'")])
def test_functions_of_other_than_one_argument(name, function, said):
    with pytest.raises(ValueError, match=rf"step_size must be a number or a function of one argument.*step_size\(0\): .*{said}"):
        drive(name, OBJ, function, 3)


def test_a_pause_is_allowed():
    run = op.gradient_descent(OBJ, START, step_size=lambda step: 0.0 if step < 10 else 0.1, steps=20, record=op.every(5))
    assert_array_equal(run.final_state.deviations.shape, START.shape)
    assert_allclose(run.params[2], START, rtol=1e-14)
    assert run.loss[-1] < run.loss[2] and run.times.tolist() == pytest.approx([0, 0, 0, 0.5, 1.0])


# --- preconditioning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [[0.6, 0.3, 0.1], [0.7, 0.3, 0.0], None])
@pytest.mark.parametrize("name", ["gradient_descent", "momentum"])
def test_preconditioned_rows_are_divided_by_the_weights(name, weights):
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]), weights=weights, rule=op.Auto(tol=1e-10))
    beta = 0.9 if name == "momentum" else 0.0
    shares = np.full(3, 1 / 3) if weights is None else np.array(weights)
    factors = np.divide(1, shares, out=np.zeros(3), where=shares > 0)[:, None]
    x, v = START, np.zeros_like(START)
    for _ in range(20):
        v = beta * v - 0.02 * factors * objective.grad(x)
        x = x + v
    run = drive(name, objective, 0.02, 20, precondition="weights")
    assert_allclose(run.final, x, atol=1e-7)
    assert run.settings["precondition"] == "weights"
    assert_allclose(drive(name, objective, 0.02, 8, precondition="weights").extend(steps=12).final, x, atol=1e-7)
    assert drive(name, objective, 0.02, 5).settings.get("precondition") is None


def test_preconditioned_minibatches_are_unbiased():
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]), weights=[0.6, 0.3, 0.1])
    found = np.array([START - op.sgd(objective, START, step_size=1.0, steps=1, batch_size=50, rng=seed, precondition="weights").final
                      for seed in range(200)])
    exact = objective.grad(START) / np.array([[0.6], [0.3], [0.1]])
    assert np.abs((found.mean(axis=0) - exact) / (found.std(axis=0, ddof=1) / 200**0.5)).max() < 4.5


def test_unequal_weights_keep_coincident_parameters_together_only_when_preconditioned():
    r"""At a common point m the gradient rows are :math:`2\pi_im`: divided by the weights they are equal, but for rounding."""
    objective = op.ScoreMatching(op.Gaussian([0.0]), weights=[0.4, 0.35, 0.25], rule=op.Auto(tol=1e-12))
    start = op.init.around([3.0], np.zeros((3, 1)))
    plain, divided = (op.gradient_descent(objective, start, step_size=step_size, steps=1500, precondition=precondition)
                      for step_size, precondition in ((0.03, None), (0.01, "weights")))
    assert op.regimes.classify(divided).name == "all converge"
    assert divided.final_state.spread < 1e-9  # rounding of 1e-16, grown by e^9 at the most
    assert op.regimes.classify(plain).name != "all converge"


def test_statements_about_descent_are_not_about_other_motions():
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    start, steps = op.init.around([3.0], 1e-12 * np.array([[1.0], [0.2], [-1.2]])), {"steps": 600}
    runs = [op.gradient_descent(objective, start, step_size=0.02, **steps),
            op.gradient_descent(objective, start, step_size=lambda step: 0.02, **steps),
            op.gradient_descent(objective, start, step_size=0.01, precondition="weights", **steps),
            op.momentum(objective, start, step_size=lambda step: 0.01, **steps), op.adam(objective, start, step_size=0.01, **steps)]
    assert [run.driver for run in runs] == ["gradient_descent", "scheduled_descent", "preconditioned_descent", "momentum", "adam"]
    verdicts = [op.theory.check("zhang2025.law_growth", run).verdict for run in runs]
    assert verdicts == ["verified"] + 4 * ["vacuous"]
    assert op.theory.check("zhang2025.law_all_converge", runs[1]).verdict == "vacuous"


@pytest.mark.parametrize("name", ["gradient_descent", "momentum", "sgd"])
def test_bad_preconditioner(name):
    with pytest.raises(ValueError, match=r"precondition must be None or 'weights' \(gradient rows divided.*got 'hessian'"):
        drive(name, OBJ, 0.1, 3, precondition="hessian")
