"""Repeating a run at a hundredth of its tolerance."""

from __future__ import annotations

import numpy as np
import pytest

import overparam as op
from overparam.verification import Verification


def paper_run(M, tol, steps=400):
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=tol))
    params0 = op.init.cluster(n=3, center=[M, 0.0], scale=1e-7, rng=0)
    return op.gradient_descent(obj, params0, step_size=0.02, steps=steps, record=op.every(20))


def test_difference_is_below_the_tolerance_for_a_calm_run():
    found = op.verify(paper_run(2.0, 1e-8))
    assert found.status == "completed" and len(found.steps) == 21
    assert found.verified_tol == pytest.approx(1e-10)
    assert found.params_difference.max() < 1e-8  # contraction: errors of single steps do not grow
    assert found.loss_difference.max() < 1e-7
    assert found.rounding_difference.max() < 1e-12
    assert "tol 1e-10 instead of 1e-08" in str(found)


def test_a_coarse_tolerance_shows():
    """With two digits the repetition must differ by far more than with eight: the check can fail."""
    coarse, fine = op.verify(paper_run(5.0, 1e-2)), op.verify(paper_run(5.0, 1e-8))
    assert coarse.params_difference.max() > 100 * fine.params_difference.max()
    assert not coarse.rounding_dominates.any()


def test_rounding_is_named_where_it_dominates():
    """Where the nudged run moves as far as the repetition does, and not where it moves far less or nothing moves."""
    moved = np.array([0.0, 1e-12, 1e-9, 1e-6])
    found = Verification(steps=np.array([0, 10, 20, 30]), times=np.arange(4.0), tol=1e-10, verified_tol=1e-12, loss_difference=moved,
                         loss_bound=moved, params_difference=moved, rounding_difference=np.array([0.0, 1e-12, 4e-10, 1e-10]),
                         status="completed")
    assert found.rounding_dominates.tolist() == [False, True, True, False]
    assert "rounding through an unstable phase dominates at 2 of 4 records, steps 10 to 20" in found.summary()


def test_coincident_digits_say_that_rounding_dominates_nowhere():
    assert "rounding dominates nowhere" in op.verify(paper_run(5.0, 1e-4)).summary()


def test_a_sampled_run_is_not_cleared_by_its_own_draws():
    """Six means in six dimensions, 3 steps on Sobol points: the repetition would take the same ones and differ by 0."""
    params = np.random.default_rng(0).standard_normal((5, 5))
    few = op.Auto(1e-8, max_nodes=1000, sampling=True)
    run = op.gradient_descent(op.ReverseFisher(op.Gaussian(np.zeros(5)), rule=few), params, step_size=0.1, steps=3)
    assert run.attributes["sampled_from_step"] == 0
    with pytest.raises(ValueError, match="sampled from step 0 on: a repetition would draw the same points"):
        op.verify(run)
    text = run.summary()
    assert "errors are standard errors of samples" in text and "from step 0 on" in text
    worst = int(np.argmax(run.loss_error / run.loss))
    assert f"up to {run.loss_error[worst] / run.loss[worst]:.2g} at step {run.steps[worst]}" in text
    assert "standard errors" not in paper_run(2.0, 1e-4, steps=20).summary()


def test_a_repetition_that_has_to_be_sampled_verifies_nothing():
    obj = op.ReverseFisher(op.Gaussian([0.0, 0.0]), rule=op.Auto(1e-2, max_nodes=3000, sampling=True))
    run = op.gradient_descent(obj, [[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], step_size=0.1, steps=2)
    assert "sampled_from_step" not in run.attributes
    with pytest.raises(ValueError, match="had to be sampled from step 0 on"):
        op.verify(run, factor=1e8)


@pytest.mark.parametrize(("run", "match"), [
    (None, "traj must be an overparam.Trajectory"),
    ("fixed", "needs a run under op.Auto"),
    ("sgd", "draws at random"),
])
def test_what_cannot_be_verified(run, match):
    if run == "fixed":
        obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.GaussHermite(30))
        run = op.gradient_descent(obj, [[1.0], [0.5]], step_size=0.1, steps=5)
    elif run == "sgd":
        run = op.sgd(line(), [[1.0], [0.5]], step_size=0.1, steps=5, batch_size=10, rng=0)
    with pytest.raises(ValueError, match=match):
        op.verify(run)


@pytest.mark.parametrize("factor", [0.5, 1.0, np.nan])
def test_factor_is_checked(factor):
    with pytest.raises(ValueError, match="factor"):
        op.verify(paper_run(1.0, 1e-6, steps=2), factor=factor)


def line(**settings):
    return op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(**settings))


def test_an_extended_flow_is_compared_at_its_own_times():
    """Records of two schedules: the repetition has the very same, though it runs in one piece."""
    start = [[0.9], [-0.8], [0.1]]
    run = op.gradient_flow(line(), start, t_end=1e3, record=op.log_spaced(20)).extend(t_end=1e4, record=op.log_spaced(7))
    found, single = op.verify(run), op.verify(op.gradient_flow(line(), start, t_end=1e4, record=op.log_spaced(20)))
    assert found.times.tolist() == run.times.tolist()
    # the integrator's error, relative to a parameter that passes close to the target: that of a run in one piece
    assert found.params_difference.max() < 10 * single.params_difference.max() < 1e-3
    assert found.loss_difference.max() < 1e-6


def test_an_extended_descent_is_compared_at_its_own_steps():
    run = op.gradient_descent(line(), [[0.9], [-0.8], [0.1]], step_size=0.05, steps=50, record=op.every(7)).extend(
        steps=100, record=op.every(20))
    found = op.verify(run)
    assert found.steps.tolist() == run.steps.tolist() and found.params_difference.max() < 1e-9


def test_a_parameter_on_the_target_has_no_distance_of_its_own():
    found = op.verify(op.gradient_descent(line(), [[0.0], [1.0], [0.7]], step_size=0.05, steps=20))
    assert found.rounding_difference[0] < 1e-14 and found.params_difference[0] == 0


def test_listed_records_come_back_from_their_description():
    from overparam._schedules import Listed, schedule_from_description

    listed = Listed([5, 1, 5, 30])
    assert schedule_from_description(listed.describe()) == listed
    assert listed.steps(20).tolist() == [0, 1, 5, 20] and listed.times(7.5, 1.0).tolist() == [1.0, 5.0, 7.5]
    with pytest.raises(ValueError, match="listed places"):
        Listed([-1])
