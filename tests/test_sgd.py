"""Minibatch descent: reproducible, unbiased, and not changed by being looked at."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])
TEACHERS = [op.Gaussian([0.3, 0.0]), op.GaussianMixture([[-1.0, 0.0], [0.8, 0.2]], [0.3, 0.7])]
SETTINGS = {"step_size": 0.1, "steps": 40, "batch_size": 50}


def obj(teacher=TEACHERS[0]):
    return op.ScoreMatching(teacher)


def test_reproducible_at_a_seed():
    one, same, other = (op.sgd(obj(), START, rng=seed, **SETTINGS) for seed in (1, 1, 2))
    for name in ("steps", "times", "loss", "loss_error", "grad_norm", "deviations"):
        assert_array_equal(getattr(one, name), getattr(same, name))
    assert np.abs(one.final - other.final).max() > 1e-4
    assert one.status == "completed" and one.steps[-1] == 40


def test_looking_does_not_change_the_run():
    often = op.sgd(obj(), START, rng=3, record=op.every(1), observe={"x": lambda p: p[0, 0]}, stop=lambda r: False, **SETTINGS)
    rarely = op.sgd(obj(), START, rng=3, record=op.every(40), **SETTINGS)
    assert_array_equal(often.final, rarely.final)
    middle = op.sgd(obj(), START, rng=3, record=op.every(7), **SETTINGS)
    assert_array_equal(np.asarray(middle.params), np.asarray(often.params)[middle.steps])


def test_extend_is_one_long_run(tmp_path):
    whole = op.sgd(obj(), START, rng=4, **SETTINGS)
    half = op.sgd(obj(), START, rng=4, **{**SETTINGS, "steps": 20})
    half.save(tmp_path / "half.nc")
    assert_array_equal(half.extend(steps=20).final, whole.final)
    assert_array_equal(op.load(tmp_path / "half.nc").extend(steps=20).final, whole.final)


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_bit_generator_can_go_on(bits, tmp_path):
    def run(steps):
        return op.sgd(obj(), START, rng=np.random.Generator(bits(5)), **{**SETTINGS, "steps": steps})

    run(20).save(tmp_path / "half.nc")
    assert_array_equal(op.load(tmp_path / "half.nc").extend(steps=20).final, run(40).final)


@pytest.mark.parametrize("weights", [None, [0.6, 0.3, 0.1]])
@pytest.mark.parametrize("teacher", TEACHERS, ids=["single", "mixture"])
def test_gradient_is_unbiased(teacher, weights):
    """One step from the same start at 400 seeds: its mean is the exact gradient within 4.5 standard errors in each of 6 entries."""
    objective = op.ScoreMatching(teacher, weights=weights)
    value, grad = objective.value_and_grad(START)
    runs = [op.sgd(objective, START, step_size=1.0, steps=1, batch_size=50, rng=seed) for seed in range(400)]
    found = np.array([START - run.final for run in runs])
    z = (found.mean(axis=0) - grad) / (found.std(axis=0, ddof=1) / 20)
    assert np.abs(z).max() < 4.5
    losses = np.array([run.loss[0] for run in runs])
    spread = losses.std(ddof=1)
    assert abs(losses.mean() - value) < 4.5 * spread / 20
    # the standard error of one batch, averaged, is the scatter between batches: known to 1/sqrt(800) = 3.5 %
    assert_allclose(np.mean([run.loss_error[0] for run in runs]), spread, rtol=0.15)


def test_large_batches_follow_the_exact_run():
    """Batch 20 000, 40 steps of 0.1: noise of the path below 4 * 0.1 * sqrt(40) * sd/sqrt(20 000), sd of a draw's gradient below 10."""
    noisy = op.sgd(obj(), START, step_size=0.1, steps=40, batch_size=20_000, rng=0)
    exact = op.gradient_descent(obj(), START, step_size=0.1, steps=40)
    assert_allclose(noisy.final, exact.final, atol=4 * 0.1 * 40**0.5 * 10 / 20_000**0.5)
    assert np.abs(noisy.final - exact.final).max() > 1e-6
    inside = np.abs(noisy.loss - exact.loss) < 6 * noisy.loss_error + 0.05 * exact.loss
    assert inside.all()


def test_batch_of_starts_has_streams_of_its_own():
    runs = op.sgd(obj(), np.stack([START, START]), rng=0, **SETTINGS)
    again = op.sgd(obj(), np.stack([START, START]), rng=0, **SETTINGS)
    assert isinstance(runs, list) and len(runs) == 2
    assert np.abs(runs[0].final - runs[1].final).max() > 1e-6
    for one, two in zip(runs, again):
        assert_array_equal(one.final, two.final)


def test_a_batch_of_one_draw_has_no_standard_error():
    run = op.sgd(obj(), START, step_size=0.01, steps=5, batch_size=1, rng=0)
    assert run.status == "completed" and np.isfinite(run.loss).all()


@pytest.mark.parametrize("step_size", [1e3, 1e150, 1e308])
def test_too_large_a_step_size(step_size):
    run = op.sgd(obj(), START, step_size=step_size, steps=1000, batch_size=20, rng=0)
    assert run.status == "unstable" and "step size" in run.message
    assert np.isfinite(run.loss).all() and np.isfinite(run.final).all() and np.isfinite(run.grad_norm).all()


def test_stop_and_interrupt():
    run = op.sgd(obj(), START, rng=0, record=op.every(5), stop=lambda record: record.step >= 10, **SETTINGS)
    assert run.status == "converged" and run.steps.tolist() == [0, 5, 10]
    calls = []

    def interrupt(params):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return 0.0

    run = op.sgd(obj(), START, rng=0, record=op.every(5), observe={"x": interrupt}, **SETTINGS)
    assert run.status == "interrupted" and run.steps.tolist() == [0, 5, 10]


def test_a_users_minibatches():
    class Noisy(op.Objective):
        def value_and_grad(self, params):
            return float((params**2).sum()), 2 * params

        def minibatch(self, params, batch_size, rng, errors=False):
            from overparam.objectives import Evaluation

            value, grad = self.value_and_grad(params)
            return Evaluation(value, np.zeros(2), grad + rng.standard_normal(params.shape) / batch_size, 0.0, np.zeros(len(params)))

    run = op.sgd(Noisy(), START, step_size=0.1, steps=100, batch_size=10**6, rng=0)
    assert_allclose(run.final, START * 0.8**100, atol=1e-5)


def test_objective_without_minibatches():
    class Quadratic(op.Objective):
        def value_and_grad(self, params):
            return float((params**2).sum()), 2 * params

    with pytest.raises(TypeError, match=r"Quadratic has no minibatch.*implement it, or use op.gradient_descent"):
        op.sgd(Quadratic(), START, **SETTINGS)


@pytest.mark.parametrize(("settings", "message"), [
    ({"batch_size": 0}, r"batch_size must be a whole number not below 1; got 0"),
    ({"batch_size": 2.5}, r"batch_size must be a whole number; got 2.5"),
    ({"rng": "seed"}, r"rng must be a seed or a numpy.random.Generator; got 'seed'"),
    ({"rng": -3}, r"rng must be a seed"),
    ({"step_size": 0}, r"step_size must be a finite number above 0; got 0"),
    ({"steps": -2}, r"steps must be a whole number not below 0; got -2"),
    ({"record": "all"}, r"record must be a record schedule.*got 'all'"),
    ({"stop": 3}, r"stop must be a function"),
    ({"observe": [1]}, r"observe must be a dict"),
])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        op.sgd(obj(), START, **{**SETTINGS, **settings})


def test_bad_starts():
    with pytest.raises(ValueError, match=r"params0 must have 2 or 3 dimension"):
        op.sgd(obj(), [1.0], **SETTINGS)
    with pytest.raises(ValueError, match="3 coordinates"):
        op.sgd(obj(), np.zeros((2, 3)), **SETTINGS)


# --- epochs over a data set ------------------------------------------------------------------------------------------

RNG = np.random.default_rng(9)
DATA = op.DataSet(RNG.normal([0.5, 0.0], 1.0, (23, 2)), RNG.dirichlet(np.ones(23)))
OVER_DATA = {"likelihood": op.KLDivergence(DATA, weights=[0.5, 0.3, 0.2]), "denoising": op.ScoreMatching(DATA.at_time(0.4, draws=2))}
every_sum = pytest.mark.parametrize("objective", OVER_DATA.values(), ids=OVER_DATA)
EPOCHS = {"step_size": 0.1, "batch_size": 5, "batches": "epochs"}


@every_sum
def test_an_epoch_has_every_node_once(objective):
    """Steps so small that parameters stay: gradients of one epoch, each weighted by the size of its batch, add up to the exact one."""
    nodes, tiny = len(objective.teacher.nodes), 1e-7
    steps = -(-nodes // 5)
    for first in (0, steps):  # the second epoch has another order
        run = op.sgd(objective, START, **{**EPOCHS, "step_size": tiny}, steps=first + steps, rng=1, record=op.every(1))
        grads = -np.diff(np.asarray(run.params), axis=0)[first:] / tiny
        sizes = np.full(steps, 5.0)
        sizes[-1] = nodes - 5 * (steps - 1)
        # rounding of START over the step: 2e-16/1e-7; parameters move by 1e-7 times gradients of order ten
        assert_allclose(np.einsum("s,sid->id", sizes / nodes, grads), objective.grad(START), atol=1e-5)
    assert np.abs(grads[0] - grads[1]).max() > 1e-2


@every_sum
def test_a_batch_of_all_nodes_is_gradient_descent(objective):
    run = op.sgd(objective, START, **{**EPOCHS, "batch_size": 1000}, steps=20, rng=0)
    exact = op.gradient_descent(objective, START, step_size=0.1, steps=20)
    assert_allclose(run.final, exact.final, rtol=1e-11)
    assert_allclose(run.loss, exact.loss, rtol=1e-11)  # records have the loss over all nodes
    assert (run.loss_error < 1e-11).all()


@every_sum
def test_the_mean_over_orders_is_the_exact_gradient(objective):
    found = np.array([START - op.sgd(objective, START, **{**EPOCHS, "step_size": 1.0}, steps=1, rng=seed).final for seed in range(300)])
    z = (found.mean(axis=0) - objective.grad(START)) / (found.std(axis=0, ddof=1) / 300**0.5)
    assert np.abs(z).max() < 4.5


@every_sum
def test_epochs_are_reproducible_and_go_on_inside_an_epoch(objective, tmp_path):
    whole, same, other = (op.sgd(objective, START, **EPOCHS, steps=40, rng=seed) for seed in (1, 1, 2))
    assert_array_equal(whole.final, same.final)
    assert np.abs(whole.final - other.final).max() > 1e-4
    half = op.sgd(objective, START, **EPOCHS, steps=17, rng=1)
    half.save(tmp_path / "half.nc")
    for again in (half.extend(steps=23), op.load(tmp_path / "half.nc", objective=objective).extend(steps=23),
                  half.extend(steps=0).extend(steps=23)):
        assert_array_equal(again.final, whole.final)


@pytest.mark.parametrize("batches", ["fresh", "epochs"])
def test_interrupted_inside_steps_and_extended(batches, monkeypatch):
    """Ctrl-C in the middle of a stretch of steps: they are not taken, and their draws come again."""
    from overparam.drivers import minibatch

    objective, source = OVER_DATA["likelihood"], {"fresh": minibatch._Fresh, "epochs": minibatch._Epochs}[batches]
    settings = {**EPOCHS, "batches": batches, "record": op.every(10)}
    whole = op.sgd(objective, START, **settings, steps=40, rng=1)
    calls, next_batch = [], source.next

    def impatient(self, params):
        calls.append(1)
        if len(calls) == 26:
            raise KeyboardInterrupt
        return next_batch(self, params)

    monkeypatch.setattr(source, "next", impatient)
    run = op.sgd(objective, START, **settings, steps=40, rng=1)
    assert run.status == "interrupted" and run.steps[-1] < 26
    assert_array_equal(run.extend(steps=40 - int(run.steps[-1])).final, whole.final)


def test_epochs_need_a_data_set():
    with pytest.raises(ValueError, match=r"batches='epochs' needs an objective over an op.DataSet"):
        op.sgd(obj(), START, **EPOCHS, steps=3)
    with pytest.raises(ValueError, match=r"batches 'all' is not known"):
        op.sgd(obj(), START, **{**EPOCHS, "batches": "all"}, steps=3)
