"""What someone new stumbles over: Tab, misspelt settings, forgotten ones; each ends in a word that helps."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import overparam as op

MODULES = ["init", "regimes", "rates", "distances", "plotting", "stationary", "factors", "theory", "experiments", "config", "measures",
           "store", "sweeps"]


@pytest.fixture(scope="module")
def objective():
    return op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-8))


@pytest.mark.parametrize("name", MODULES)
def test_tab_shows_the_public_names_of_a_module(name):
    module = importlib.import_module(f"overparam.{name}")
    assert sorted(dir(module)) == sorted(module.__all__)
    assert all(hasattr(module, shown) for shown in dir(module))
    assert name in dir(op)


def test_interop_loads_when_it_is_used():
    assert op.interop.scipy.wrap is importlib.import_module("overparam.interop.scipy").wrap
    assert "scipy" in dir(op.interop)
    assert "interop" in dir(op)
    with pytest.raises(AttributeError, match=r"'overparam.interop' has no attribute 'numpy'"):
        _ = op.interop.numpy


@pytest.mark.parametrize(("driver", "settings"), [
    ("gradient_descent", {"step_size": 0.1, "steps": 3}), ("momentum", {"step_size": 0.1, "steps": 3}),
    ("adam", {"step_size": 0.1, "steps": 3}), ("sgd", {"step_size": 0.1, "steps": 3, "batch_size": 4, "rng": 0}),
])
def test_extend_names_what_is_missing_and_what_is_not_known(objective, driver, settings):
    traj = getattr(op, driver)(objective, [[1.0, 0.0], [0.5, 0.1]], **settings)
    with pytest.raises(ValueError, match=r"extend needs steps: a run of \w+ is extended by trajectory.extend\(steps=...\)"):
        traj.extend()
    with pytest.raises(ValueError, match=r"setting 't_end' of extend is not known to \w+. Known: .*steps"):
        traj.extend(t_end=2.0)
    assert traj.extend(2).steps[-1] == 5
    assert np.array_equal(traj.extend(steps=2).final, traj.extend(2).final) or driver == "sgd"


class Wrong(op.Objective):
    """A loss whose `value_and_grad` returns what it is given."""

    def __init__(self, returned):
        self._returned = returned

    def value_and_grad(self, params):
        return self._returned(params)


@pytest.mark.parametrize(("returned", "message"), [
    (lambda p: p.sum(), "Wrong.value_and_grad must return two things, the loss and its gradient; got"),
    (lambda p: (p.sum(), p[0]), r"one number and a gradient of the shape of params, \(2, 3\); got shapes \(\) and \(3,\)"),
    (lambda p: (p, p), r"got shapes \(2, 3\) and \(2, 3\)"), (lambda p: (0.0, 0.0), r"got shapes \(\) and \(\)"),
    (lambda p: (0.0, p, p), "must return two things"), (lambda p: None, "must return two things.*got None"),
])
@pytest.mark.parametrize(("driver", "settings"), [
    ("gradient_descent", {"step_size": 0.1, "steps": 3}), ("gradient_flow", {"t_end": 1.0}), ("adam", {"step_size": 0.1, "steps": 3}),
])
def test_an_objective_of_ones_own_that_returns_something_else(returned, message, driver, settings):
    with pytest.raises(ValueError, match=message):
        getattr(op, driver)(Wrong(returned), np.ones((2, 3)), **settings)
    with pytest.raises(ValueError, match=message):
        Wrong(returned).estimate(np.ones((2, 3)))
    flat = op.interop.scipy.wrap(Wrong(returned), np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        flat(flat.x0)


def test_starts_of_unequal_shapes_are_named(objective):
    with pytest.raises(ValueError, match=r"params0 is not a rectangular array.*shapes \(3, 2\), \(1, 2\)$"):
        op.gradient_descent(objective, [np.ones((3, 2)), np.ones((1, 2))], step_size=0.1, steps=1)
    with pytest.raises(ValueError, match=r"got shape \(2,\). Write \[\[...\]\] for a single row$"):
        op.gradient_descent(objective, [1.0, 0.0], step_size=0.1, steps=1)


def test_times_weigh_the_same_unless_told():
    teacher, params = op.Gaussian([1.0, 0.0]), [[2.0, 0.5], [-1.0, 0.0]]
    plain, told = op.TimeAveraged(teacher, [0.0, 0.3, 1.0]), op.TimeAveraged(teacher, [0.0, 0.3, 1.0], [1 / 3] * 3)
    assert plain.time_weights.tolist() == told.time_weights.tolist()
    each = [op.ScoreMatching(teacher, t=t).value(np.exp(-t) * np.array(params)) for t in (0.0, 0.3, 1.0)]
    assert plain.value(params) == pytest.approx(np.mean(each), rel=1e-9)


def test_what_is_not_axes_is_named(objective):
    traj = op.gradient_descent(objective, [[1.0, 0.0]], step_size=0.1, steps=3)
    for draw in (op.plotting.loss, op.plotting.norms, op.plotting.local_slope):
        with pytest.raises(ValueError, match=r"ax must be a matplotlib Axes.*got 3"):
            draw(traj, ax=3)


def test_an_experiment_prints_its_summary():
    result = op.experiments.run("zhang2025.figure_1", M=(5.0,), steps=20, progress=False)
    assert str(result) == result.summary()
