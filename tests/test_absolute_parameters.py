"""Drivers that move absolute parameters: deviations that these do not hold are refused, rounding is said."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.drivers._absolute import loss_of_differences

OBJ = op.ScoreMatching(op.Gaussian([0.0]))
Z = np.array([[1.0], [0.0], [-1.0]])
DRIVERS = pytest.mark.parametrize(("name", "settings"), [("adam", {}), ("sgd", {"batch_size": 5, "rng": 0})])


def drive(name, start, settings, objective=OBJ):
    return getattr(op, name)(objective, start, step_size=0.01, steps=2, **settings)


@pytest.mark.parametrize("spread", [1e-15, 1e-13, 1e-9])
def test_the_loss_is_that_of_exact_arithmetic(spread):
    """Sums of floats, rounded by the processor, beside fractions."""
    z = spread * np.random.default_rng(3).standard_normal((5, 1))
    state = op.State([7.3], z)
    sums, exact = [Fraction(float(x)) for x in (7.3 + z)[:, 0]], [Fraction(float(x)) for x in z[:, 0]]
    worst = max(abs((sums[i] - sums[j]) / (exact[i] - exact[j]) - 1) for i in range(5) for j in range(i))
    assert_allclose(loss_of_differences(state, state.expand(state.coordinates)), float(worst), rtol=1e-9, atol=1e-11)


def test_neither_coincident_parameters_nor_neighbouring_floats_count():
    assert loss_of_differences(op.State([6.0], np.zeros((3, 1))), np.full((3, 1), 6.0)) == 0
    close = op.State([0.1], [[3.0], [np.nextafter(3.0, 4.0)], [-1.0]])
    assert loss_of_differences(close, close.params) < 1e-15


@DRIVERS
@pytest.mark.parametrize("spread", [1e-300, 1e-17, 1e-16])
def test_deviations_that_vanish_are_refused(name, settings, spread):
    lost = op.State([6.0], spread * Z)
    for start in (lost, [op.State([6.0], Z), lost]):
        with pytest.raises(ValueError, match=rf"params0 has deviations that vanish.*\(spread 2e-.*op.{name}.*use op\..*params0.params"):
            drive(name, start, settings)
    with pytest.raises(ValueError, match=rf"below float64's range.*op.{name}"):
        drive(name, op.State([6.0], Z, log_scale=-2000.0), settings)
    run = drive(name, lost.params, settings)
    assert run.status == "completed" and not run.message  # an array is what it is


@DRIVERS
def test_deviations_that_are_rounded_are_said_and_others_are_not(name, settings):
    for spread, percent in ((1e-15, "11.2%"), (1e-14, "2.3%")):  # of 2^-50, the distance of floats below 8
        run = drive(name, op.State([6.0], spread * Z), settings)
        assert run.status == "completed" and f"rounded by up to {percent} of themselves" in run.message
    for start in (op.State([6.0], 1e-11 * Z), op.State([6.0], 0 * Z), 6.0 + 1e-15 * Z, op.State([0.0], 1e-200 * Z)):
        assert drive(name, start, settings).message == ""


def test_adam_measures_from_the_target():
    run = drive("adam", op.State([6.0], 1e-17 * Z), {}, op.ScoreMatching(op.Gaussian([6.0])))
    assert run.status == "completed" and run.message == "" and np.ptp(run.deviations[0]) == 2e-17
