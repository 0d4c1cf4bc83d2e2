"""The public names as typed code uses them: mypy checks this file against the installed package (`.ci/types`), test_types.py runs it."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import overparam as op

OBJECTIVE = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-8))
START = op.init.around(center=[2.0, 0.0], deviations=[[0.1, 0.0], [-0.1, 0.0]])


def values() -> float:
    """Objectives give a number and an array, and an estimate."""
    value, grad = OBJECTIVE.value_and_grad([[1.0, 0.0], [0.0, 1.0]])
    assert_type(value, float)
    assert_type(grad, np.ndarray)
    assert_type(OBJECTIVE.hessian([[1.0, 0.0]]), np.ndarray)
    estimate = OBJECTIVE.estimate([[1.0, 0.0], [0.0, 1.0]])
    assert_type(estimate.value_error, float)
    assert_type(estimate.reliable, bool)
    return value


def one_run() -> op.Trajectory:
    """From a State every driver gives a Trajectory, known as such."""
    assert_type(START, op.State)
    run = op.gradient_descent(OBJECTIVE, START, step_size=0.1, steps=20, record=op.every(5), stop=lambda record: record.loss < 1e-12)
    assert_type(run, op.Trajectory)
    assert_type(run.status, str)
    assert_type(run.loss, np.ndarray)
    assert_type(run.final, np.ndarray)
    assert_type(run.final_state, op.State)
    assert_type(op.gradient_flow(OBJECTIVE, START, t_end=1.0, rtol=1e-6), op.Trajectory)
    assert_type(op.momentum(OBJECTIVE, START, step_size=0.1, steps=5, momentum=0.5), op.Trajectory)
    assert_type(op.adam(OBJECTIVE, START, step_size=lambda step: 0.1 / (1 + step), steps=5), op.Trajectory)
    assert_type(op.sgd(OBJECTIVE, START, step_size=0.1, steps=5, batch_size=8, rng=0), op.Trajectory)
    assert_type(op.em(op.KLDivergence(op.Gaussian([0.0, 0.0])), START, steps=5), op.Trajectory)
    return run


def from_arrays() -> list[Any]:
    """An array may be one start or a batch of them, which its type does not say: whoever passes it knows."""
    start = np.array([[2.0, 0.0], [0.0, 1.0]])
    one: op.Trajectory = op.gradient_descent(OBJECTIVE, start, step_size=0.1, steps=5)
    many: list[op.Trajectory] = op.gradient_descent(OBJECTIVE, np.stack([start, 2 * start]), step_size=0.1, steps=5)
    return [one, *many]


def after(run: op.Trajectory) -> float:
    """What reads a run."""
    assert_type(run.extend(steps=5), op.Trajectory)
    regime = op.regimes.classify(run)
    assert_type(regime.converged, tuple[int, ...])
    assert_type(op.theory.check("zhang2025.theorem_3_4", run).verdict, str)
    return float(run.loss[-1])
