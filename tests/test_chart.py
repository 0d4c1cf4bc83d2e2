"""The variables of a gradient flow: a state and back, and velocities by the chain rule."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from overparam.drivers._chart import Chart
from overparam.state import State

RNG = np.random.default_rng(3)
Z = RNG.standard_normal((4, 3))
FRAME = np.linalg.qr(RNG.standard_normal((3, 3)))[0]
STATES = {
    "far and small": (State(np.array([3.0, -2.0, 1.0]), 1e-100 * Z * [1.0, 1e-20, 1e-90]), True, None),
    "near": (State(np.array([1e-9, 2e-9, 0.0]), 1e-4 * (Z - Z.mean(axis=0))), True, None),
    "fixed centre": (State(np.array([1.0, 0.0, 2.0]), Z), False, None),
    "a column of zeros": (State(np.array([3.0, -2.0, 1.0]), 1e-5 * Z * [1.0, 0.0, 1.0]), True, None),
    "coincident": (State(np.array([3.0, -2.0, 1.0]), np.zeros((4, 3))), True, None),
    "some stay": (State(np.array([3.0, -2.0, 1.0]), np.vstack([1e-5 * Z[:3], [[7.0, 8.0, 9.0]]])), True, np.arange(4) < 3),
}


@pytest.mark.parametrize("frame", [np.eye(3), FRAME], ids=["plain", "turned"])
@pytest.mark.parametrize("name", STATES)
def test_a_state_and_back(name, frame):
    state, moving, rows = STATES[name]
    chart = Chart(state, moving, frame, rows)
    again = chart.state(chart.start)
    assert_allclose(again.coordinates, state.coordinates, rtol=1e-14)
    scale = np.abs(state.deviations).max()
    assert_allclose(again.true_deviations - again.true_deviations[0], state.deviations - state.deviations[0], rtol=1e-12,
                    atol=1e-14 * scale)


def test_columns_of_any_size_are_kept_apart():
    state = STATES["far and small"][0]
    again = Chart(state, True, np.eye(3)).state(Chart(state, True, np.eye(3)).start)
    found = again.deviations * np.exp(again.log_scale)
    assert_allclose(found[:, :2], (state.deviations - state.deviations.mean(axis=0))[:, :2], rtol=1e-12)


@pytest.mark.parametrize("log_scale", [-2000.0, -500.0, 0.0])
def test_below_float64s_range(log_scale):
    state = State(np.array([3.0, -2.0, 1.0]), 1e-3 * Z, log_scale=log_scale)
    chart = Chart(state, True, np.eye(3))
    again = chart.state(chart.start)
    assert_allclose(again.log_spread, state.log_spread, rtol=1e-12)
    assert (np.abs(chart.start) < 1e4).all() and np.isfinite(chart.start).all()


@pytest.mark.parametrize("name", ["far and small", "near", "fixed centre", "some stay"])
def test_velocities_by_the_chain_rule(name):
    """Following dy/dt for a moment moves centre and deviations by their velocities."""
    state, moving, rows = STATES[name]
    chart = Chart(state, moving, FRAME, rows)
    y = chart.start
    opened = chart.open(y)
    n = len(opened.z)
    velocity = RNG.standard_normal((n, 3)) * opened.amplitudes
    if moving:
        velocity -= velocity.mean(axis=0)
    own = opened.scale * RNG.standard_normal(3) if moving else np.zeros(3)
    rate, step = chart.slope(y, opened, own, velocity), 1e-6
    above, below = chart.open(y + step * rate), chart.open(y - step * rate)
    ratio = np.exp(above.shift - opened.shift), np.exp(below.shift - opened.shift)  # amplitudes are rescaled where they are tiny
    moved = above.amplitudes * above.z * ratio[0] - below.amplitudes * below.z * ratio[1]
    assert_allclose(moved / (2 * step * opened.amplitudes), velocity / opened.amplitudes, atol=1e-8)
    assert_allclose((above.centre - below.centre) / (2 * step * opened.scale), own / opened.scale, atol=1e-8)


def test_another_chart_when_the_centre_has_come_close():
    wide = 1e-4 * (Z - Z.mean(axis=0))
    far = Chart(State(np.array([1.0, 0.0, 0.0]), wide), True, np.eye(3))
    assert not far.outgrown(far.start)
    equal = 1e-4 * np.outer([1, -1, 1, -1], [1, 0, 0])
    close = Chart(State(np.array([1.1e-4, 0.0, 0.0]), equal), True, np.eye(3))
    assert close.far
    assert close.outgrown(close.start)
    fixed = Chart(State(np.array([2e-4, 0.0, 0.0]), wide), False, np.eye(3))
    assert not fixed.outgrown(fixed.start)


def test_ahead_is_wider_by_a_part():
    chart = Chart(State(np.array([3.0, 0.0, 0.0]), 1e-5 * Z), True, np.eye(3))
    rate = np.zeros_like(chart.start)
    assert chart.ahead(chart.start, rate) is None  # nothing grows
    rate[1:4] = [2.0, 1.0, 0.0]
    widest = int(np.argmax(chart.start[1:4]))
    rate[1 + widest] = 2.0
    found = chart.ahead(chart.start, rate)
    before, after = (np.ptp(one.deviations, axis=0)[widest] for one in (chart.state(chart.start), found))
    assert_allclose(after / before, np.exp(0.25), rtol=1e-12)
    rate[-1] = 1e3
    assert chart.ahead(chart.start, rate) is None  # no straight line


@pytest.mark.parametrize("name", ["far and small", "near", "fixed centre", "a column of zeros"])
@pytest.mark.parametrize("frame", [np.eye(3), FRAME], ids=["plain", "turned"])
def test_the_compiled_slope_is_the_same(name, frame):
    """Against Chart.slope with the plan's own gradient, and the plan's own box."""
    import overparam as op

    state = STATES[name][0]
    obj = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=1e-9))
    plan = obj.plan(obj.start(state))
    settled, moving = plan.settle(obj.start(state))
    chart = Chart(settled, moving, frame)
    motion, y = chart.motion(plan), chart.start
    opened = chart.open(y)
    expected = chart.slope(y, opened, *chart.velocity(*plan.gradient(chart.template, *chart.parts(opened))))
    out = np.empty(len(y))
    far = np.full(len(y), np.inf)
    assert motion.slope(y, -far, far, out)
    # columns far below the widest are rounding of the turn into the frame; what is kept still is 0 in both
    assert_allclose(out, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    assert motion.inside(y) is plan.covers(chart.state(y))
    jacobian = np.empty((len(y), len(y)))
    assert motion.jacobian(y, -far, far, 2.0**-26, jacobian)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(len(y))
    two = [np.empty(len(y)), np.empty(len(y))]
    for sign, slope in zip((1, -1), two):
        motion.slope(y + sign * 1e-6 * direction, -far, far, slope)
    # forward differences: their error is the increment times second derivatives, and rounding over the increment
    assert_allclose(jacobian @ direction, (two[0] - two[1]) / 2e-6, atol=1e-5 * max(1.0, np.abs(jacobian).max()))
    moved = y + 40.0 * (np.arange(len(y)) == int(chart.far))
    assert motion.inside(moved) is False and plan.covers(chart.state(moved)) is False
    cut = np.empty(len(y))
    assert motion.slope(moved, y, y, cut) and (cut == out).all()


def test_the_compiled_slope_refuses_what_does_not_fit():
    import overparam as op

    obj = op.ScoreMatching(op.Gaussian(np.zeros(3)))
    plan = obj.plan(obj.start(Z))
    settled, moving = plan.settle(obj.start(Z))
    motion = Chart(settled, moving, np.eye(3)).motion(plan)
    with pytest.raises(ValueError, match="y must have 15 entries, got 3"):
        motion.inside(np.zeros(3))
    tiny = obj.start(State(np.array([3.0, 0.0, 0.0]), 1e-200 * Z))
    plan = obj.plan(tiny)
    settled, moving = plan.settle(tiny)
    chart = Chart(settled, moving, np.eye(3))
    assert chart.motion(plan).inside(chart.start) is None  # amplitudes below e^-300 are handed over rescaled, by the other path
