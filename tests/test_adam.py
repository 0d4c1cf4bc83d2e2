"""Adam: the algorithm of the paper, moments that are kept, full coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])


class Bowl(op.Objective):
    """A user's own quadratic."""

    CURVATURE = np.array([3.0, 0.4])

    def value_and_grad(self, params):
        return float((self.CURVATURE * params**2).sum() / 2), self.CURVATURE * params


def textbook(grad, start, steps, step_size=0.05, beta1=0.9, beta2=0.999, eps=1e-8):
    """Algorithm 1 of Kingma and Ba, one coordinate at a time."""
    x = [float(number) for number in np.ravel(start)]
    m, v, path = [0.0] * len(x), [0.0] * len(x), [np.array(start, dtype=float)]
    for t in range(1, steps + 1):
        g = np.ravel(grad(np.reshape(x, np.shape(start))))
        for j in range(len(x)):
            m[j] = beta1 * m[j] + (1 - beta1) * g[j]
            v[j] = beta2 * v[j] + (1 - beta2) * g[j] ** 2
            x[j] -= step_size * (m[j] / (1 - beta1**t)) / ((v[j] / (1 - beta2**t)) ** 0.5 + eps)
        path.append(np.reshape(x, np.shape(start)))
    return np.array(path)


@pytest.mark.parametrize("settings", [{}, {"beta1": 0.0, "beta2": 0.5}, {"eps": 0.3, "step_size": 0.2}])
def test_on_a_quadratic_it_is_the_textbook_iteration(settings):
    run = op.adam(Bowl(), START, steps=80, record=op.every(1), **{"step_size": 0.05, **settings})
    path = textbook(lambda x: Bowl.CURVATURE * x, START, 80, **settings)
    # without much of a mean a coordinate that swings around 0 forgets by how much: roundings grow by the inverse of its size
    assert_allclose(np.asarray(run.params), path, rtol=1e-9, atol=1e-12)
    assert run.status == "completed" and run.driver == "adam"


def test_with_a_large_eps_it_is_the_mean_of_gradients():
    """eps = 1e9 and no means: descent with the step size step_size/eps."""
    run = op.adam(Bowl(), START, step_size=1e8, steps=30, beta1=0.0, beta2=0.0, eps=1e9)
    assert_allclose(run.final, START * (1 - 0.1 * Bowl.CURVATURE) ** 30, rtol=1e-6)  # |g|/eps of it


@pytest.mark.parametrize("weights", [None, [0.7, 0.3, 0.0]])
@pytest.mark.parametrize("teacher", [op.Gaussian([0.3, 0.0]), op.GaussianMixture([[-1.0, 0.0], [0.8, 0.2]])], ids=["single", "mixture"])
def test_it_is_the_loop_of_exact_gradients(teacher, weights):
    obj = op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=1e-10))
    run = op.adam(obj, START, step_size=0.05, steps=30, record=op.every(7))
    path = textbook(obj.grad, START, 30)
    # the error of a gradient over its size, 1e-8 at the smallest coordinates here, moves 30 steps of 0.05
    assert_allclose(np.asarray(run.params), path[run.steps], atol=30 * 0.05 * 1e-7)
    assert_allclose(run.loss, [obj.value(x) for x in path[run.steps]], rtol=1e-5)


def test_it_leaves_the_span_and_runs_in_full_coordinates():
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0, 0.0]), rule=op.Auto(tol=1e-9))
    start = np.array([[2.0, 1.0, 0.5], [1.0, 0.5, 0.25]])  # on a line through the target
    run = op.adam(obj, start, step_size=0.05, steps=20)
    assert run.basis is None and np.linalg.svd(run.final)[1][1] > 1e-3
    assert_allclose(run.final, textbook(obj.grad, start, 20)[-1], atol=1e-7)


def test_extended_is_the_longer_run_bit_for_bit(tmp_path):
    whole, half = (op.adam(Bowl(), START, step_size=0.05, steps=steps) for steps in (40, 15))
    half.save(tmp_path / "half.nc")
    for again in (half.extend(steps=25), op.load(tmp_path / "half.nc", objective=Bowl()).extend(steps=25),
                  half.extend(steps=5).extend(steps=20)):
        assert_array_equal(again.final, whole.final)
        assert again.loss[-1] == whole.loss[-1] and again.times[-1] == whole.times[-1]


def test_extended_under_plans_is_the_longer_run(tmp_path):
    obj = op.ScoreMatching(op.Gaussian([0.5, 0.0, 0.0, 0.0]), rule=op.Auto(tol=1e-8))  # more dimensions than parameters
    start = np.array([[2.0, 0.1, 0.0, 1.0], [1.0, -0.3, 0.2, 0.4]])
    whole, half = (op.adam(obj, start, step_size=0.02, steps=steps) for steps in (30, 12))
    half.save(tmp_path / "half.nc")
    assert_allclose(op.load(tmp_path / "half.nc").extend(steps=18).final, whole.final, atol=1e-6)
    assert op.verify(op.adam(obj, start, step_size=0.02, steps=10)).params_difference.max() < 1e-6


def test_schedule_stop_batch_and_interrupt():
    def fading(step):
        return 0.05 / (1 + step)

    start = START + np.sign(START)
    run = op.adam(Bowl(), start, step_size=fading, steps=10, beta1=0.0, beta2=0.0, eps=1e-300, record=op.every(1))
    lengths = 0.05 * np.cumsum(1 / np.arange(1, 11))
    assert_allclose(run.final, start - np.sign(start) * lengths[-1], rtol=1e-12)  # signs of gradients: no coordinate gets to 0
    assert_allclose(run.times[1:], lengths, rtol=1e-15)
    runs = op.adam(Bowl(), np.stack([START, -START]), step_size=0.1, steps=20, record=op.every(5), stop=lambda record: record.step >= 10)
    assert [one.status for one in runs] == ["converged"] * 2
    assert_array_equal(runs[0].final, -runs[1].final)


@pytest.mark.parametrize("step_size", [1e160, 1e308])
def test_too_large_a_step_size(step_size):
    run = op.adam(Bowl(), START, step_size=step_size, steps=50)
    assert run.status == "unstable" and np.isfinite(run.final).all()


def test_deviations_that_it_would_not_move_are_refused():
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    with pytest.raises(ValueError, match=r"below float64's range.*op.adam.*use op.momentum or op.gradient_descent"):
        op.adam(obj, op.init.around([3.0], [[1.0], [-1.0]], log_scale=-2000), step_size=0.1, steps=3)


@pytest.mark.parametrize(("settings", "message"), [
    ({"beta1": 1.0}, r"beta1 must be a finite number not below 0 and below 1; got 1.0"), ({"beta2": -0.1}, r"beta2 must be"),
    ({"eps": 0.0}, r"eps must be a finite number above 0"),
    ({"step_size": -1}, r"step_size must be"), ({"steps": 1.5}, r"steps must be"), ({"stop": 3}, r"stop must be"),
])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        op.adam(Bowl(), START, **{"step_size": 0.1, "steps": 3, **settings})
