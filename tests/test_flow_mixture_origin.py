"""Gradient flow from the first mean of a mixture teacher: the origin of its coordinates, where nothing rests."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import overparam as op

LINE, PLANE = [[0.0], [3.0]], [[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]]
NEAR = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]


def check(objective, start, t_end=2.0, most=1500):
    """The flow gets there in few evaluations, and where SciPy gets from plain coordinates."""
    start = np.array(start)
    flow = op.gradient_flow(objective, start, t_end=t_end, max_evaluations=most)
    assert flow.status == "completed", flow.message
    plain = solve_ivp(lambda t, x: -objective.grad(x.reshape(start.shape)).ravel(), (0, t_end), start.ravel(), method="DOP853", rtol=1e-9,
                      atol=1e-12).y[:, -1].reshape(start.shape)
    np.testing.assert_allclose(flow.final, plain, rtol=0, atol=3e-7)


@pytest.mark.parametrize("loss", [op.KLDivergence, op.ScoreMatching])
@pytest.mark.parametrize("start", [[[0.0]], [[0.0], [0.0]], [[1e-12], [1e-12]]])
def test_coincident_students_at_the_first_mean(loss, start):
    check(loss(op.GaussianMixture(LINE)), start)


@pytest.mark.parametrize("loss", [op.KLDivergence, op.ScoreMatching])
@pytest.mark.parametrize("apart", [1e-12, 1e-6, 1e-2, 0.1, 1.0])
def test_one_student_at_the_first_mean_and_others_near(loss, apart):
    check(loss(op.GaussianMixture([[2.0], [3.0]])), [[2.0], [2.0 + apart]])


def test_in_the_plane():
    flow = op.gradient_flow(op.KLDivergence(op.GaussianMixture(PLANE)), [[0.0, 0.0]], t_end=1.0, max_evaluations=1500)
    assert flow.status == "completed"  # one student falls straight to the teacher's mean (2, 2)
    np.testing.assert_allclose(flow.final, 2 * -np.expm1(-1.0), rtol=1e-7)


def test_a_column_of_width_0_that_the_teacher_widens():
    check(op.KLDivergence(op.GaussianMixture(NEAR)), [[1.0, 0.0], [-1.0, 0.0]])


@pytest.mark.parametrize("start", [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [2.0, 0.0]]])
def test_unequal_weights(start):
    check(op.KLDivergence(op.GaussianMixture(NEAR), weights=[0.3, 0.7]), start)


@pytest.mark.parametrize("loss", [op.KLDivergence, op.ScoreMatching])
def test_where_only_rounding_moves_the_centre(loss):
    flow = op.gradient_flow(loss(op.GaussianMixture([[0.0], [1.0], [-1.0]])), [[0.0]], t_end=3.0, max_evaluations=3000)
    assert flow.status == "completed" and abs(flow.final[0, 0]) < 1e-15
