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
