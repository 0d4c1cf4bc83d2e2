"""Runs that go on, and runs that are joined."""

import dataclasses

import numpy as np
import pytest
from made_trajectories import make
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam import trajectory as module
from overparam.state import State
from overparam.trajectory import (
    Trajectory,
    every,
    load,
)


@pytest.fixture
def halving(monkeypatch):
    """A driver that halves the parameters at every step."""

    def run(state, first, steps, step_size=0.1, objective="something", observe=True):
        centres, deviations = [state.centre], [state.deviations]
        for _ in range(steps):
            centres.append(centres[-1] / 2)
            deviations.append(deviations[-1] / 2)
        counts = first + np.arange(steps + 1)
        loss = np.array([(c**2).sum() for c in centres])
        return Trajectory(
            steps=counts,
            times=step_size * counts,
            loss=loss,
            loss_error=0 * loss,
            grad_norm=loss,
            centres=centres,
            deviations=deviations,
            basis=state.basis,
            origin=state.origin,
            driver="halving",
            evaluations=steps,
            wall_time=1.0,
            observed={"loss2": loss**2} if observe else {},
            objective=objective,
            settings={"step_size": step_size, "steps": steps},
            continuation={"last": int(counts[-1])},
        )

    def resume(trajectory, *, steps, **changes):
        settings = {"step_size": trajectory.settings["step_size"], **changes}
        return run(trajectory.final_state, int(trajectory.steps[-1]), steps, objective=trajectory.objective, **settings)

    monkeypatch.setitem(module.DRIVERS, "halving", resume)
    return run


START = State(centre=np.array([3.0, -1.0]), deviations=1e-200 * np.array([[1.0, 2.0], [-1.0, 0.5]]))


def test_extended_is_the_longer_run(halving, tmp_path):
    once = halving(START, 0, 30)
    twice = halving(START, 0, 12).extend(steps=10).extend(8)
    for name in ("steps", "times", "loss", "grad_norm", "centres", "deviations"):
        assert_array_equal(getattr(twice, name), getattr(once, name))
    assert_array_equal(twice.observed["loss2"], once.observed["loss2"])
    assert (twice.evaluations, twice.wall_time, twice.continuation) == (30, 3.0, {"last": 30})
    assert [piece["from_step"] for piece in twice.attributes["pieces"]] == [0, 12, 22]
    assert twice.objective == "something"
    saved = halving(START, 0, 12)
    saved.save(tmp_path / "run.nc")
    back = load(tmp_path / "run.nc", objective="given").extend(steps=18)
    assert_array_equal(back.deviations, once.deviations)
    assert back.objective == "given"


def test_a_saved_run_of_gradient_descent_goes_on(tmp_path):
    objective = op.ScoreMatching(op.GaussianMixture([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    start = op.init.around([2.0, 0.5, -1.0], 1e-3 * np.random.default_rng(0).normal(size=(3, 3)))
    settings = dict(step_size=0.1, record=every(10), observe={"norms": lambda params: np.linalg.norm(params, axis=1)})
    once = op.gradient_descent(objective, start, steps=60, **settings)
    half = op.gradient_descent(objective, start, steps=30, **settings)
    half.save(tmp_path / "half.nc")
    twice = load(tmp_path / "half.nc").extend(steps=30, observe=settings["observe"])
    assert twice.status == "completed"
    assert_array_equal(twice.steps, once.steps)
    assert_array_equal(twice.times, once.times)
    # the two may plan at other steps: each gradient is within 1e-10 of the truth, and 60 steps of 0.1 add up
    for name in ("loss", "grad_norm"):
        assert_allclose(getattr(twice, name), getattr(once, name), rtol=1e-8)
    assert_allclose(twice.params, once.params, atol=1e-9)
    assert_allclose(twice.observed["norms"], once.observed["norms"], atol=1e-9)
    assert twice.settings == once.settings


def test_extend_with_other_settings(halving):
    run = halving(START, 0, 3).extend(steps=2, step_size=0.5)
    assert run.settings["step_size"] == 0.5
    assert [piece["settings"]["step_size"] for piece in run.attributes["pieces"]] == [0.1, 0.5]
    run = halving(START, 0, 3).extend(steps=2, observe=False)
    assert_array_equal(np.isnan(run.observed["loss2"]), [False] * 4 + [True] * 2)
    run = halving(START, 0, 3, observe=False).extend(steps=2, observe=True)
    assert_array_equal(np.isnan(run.observed["loss2"]), [True] * 4 + [False] * 2)


def test_extend_refuses_in_words(halving, monkeypatch):
    run = halving(START, 0, 3)
    for status in ("unstable", "failed"):
        with pytest.raises(ValueError, match=f"status '{status}'"):
            dataclasses.replace(run, status=status).extend(steps=1)
    for status in ("converged", "interrupted", "too_hard"):
        assert len(dataclasses.replace(run, status=status).extend(steps=1)) == 5
    with pytest.raises(ValueError, match="objective="):
        dataclasses.replace(run, objective=None).extend(steps=1)
    with pytest.raises(ValueError, match="driver 'walking'"):
        dataclasses.replace(run, driver="walking").extend(steps=1)
    monkeypatch.setitem(module.DRIVERS, "halving", lambda trajectory, **settings: halving(START, 0, 3))
    with pytest.raises(ValueError, match="must begin at the last step here, 3"):
        run.extend(steps=1)


def test_joined_in_different_bases_keeps_centres_and_deviations_apart():
    one, two = make(d=6), make(d=6, first=30)
    both = one.joined(two)
    assert both.basis is None and both.origin is None and len(both) == 7
    assert_allclose(both.params[:4], one.params, rtol=1e-13, atol=1e-14)  # same sums, taken in another order
    assert_allclose(both.params[3:], np.concatenate([one.params[3:], two.params[1:]]), rtol=1e-13, atol=1e-14)
    assert_allclose(both.deviations[-1], two.deviations[-1] @ two.basis.T, rtol=1e-12)
    assert 0 < abs(both.deviations).max() < 1e-298
    same = one.joined(make(d=6, first=30, basis=one.basis.copy(), origin=one.origin.copy()))
    assert_array_equal(same.basis, one.basis)


def test_joined_refuses_what_does_not_fit():
    run = make()
    for other, match in [
        (make(first=20), "begins at step 20"),
        (make(first=30, n=4), "4 parameters"),
        (make(first=30, problem={"kind": "Other"}), "kind is 'Other', was 'Mine'"),
        (make(first=30, observed={"norm": np.zeros((4, 2))}), r"observed\['norm'\] has shape"),
    ]:
        with pytest.raises(ValueError, match=match):
            run.joined(other)
    d = 10**6
    one, two = (make(records=4, k=1, first=first, basis=np.eye(d, 1, shift), origin=None) for first, shift in ((0, 0), (30, -1)))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("overparam._trajectory_joining.MOST_EXPANDED", 1000)
        with pytest.raises(ValueError, match="different bases"):
            one.joined(two)
