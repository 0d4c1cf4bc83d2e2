"""Verdicts about runs: on formulas whose fate is known, and on real runs cut short at every record."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from synthetic_runs import make_run

import overparam as op
from overparam.regimes import FAR, classify, count, distances, outward_speed, until_decided

TIMES = np.concatenate([[0.0], np.geomspace(0.01, 200.0, 150)])
SHRINKING = 0.5 / np.sqrt(1 + TIMES)
RUNAWAY = np.sqrt(8 * np.log(100 + 30 * TIMES))  # 6.07 to 8.4


def run_of(*columns, **fields):
    return make_run(TIMES, positions=np.stack(np.broadcast_arrays(*columns), axis=1), **fields)


@pytest.mark.parametrize(("columns", "name", "groups"), [
    ((SHRINKING, -SHRINKING / 2), "all converge", ((0, 1), (), ())),
    ((RUNAWAY, SHRINKING, RUNAWAY + 0.1), "one converges", ((1,), (0, 2), ())),
    ((SHRINKING, SHRINKING, -RUNAWAY), "2 converge", ((0, 1), (2,), ())),
    ((RUNAWAY, -RUNAWAY), "none converge", ((), (0, 1), ())),
    ((SHRINKING, np.full_like(TIMES, 1.7)), "undecided", ((0,), (), (1,))),
    ((SHRINKING, 3.0 + 1 / (1 + TIMES)), "undecided", ((0,), (), (1,))),  # far, but on its way back
])
def test_verdicts_on_known_motions(columns, name, groups):
    regime = classify(run_of(*columns))
    assert regime.name == name
    assert (regime.converged, regime.diverged, regime.undecided) == groups


def test_one_parameter_alone_is_all_of_them():
    assert classify(run_of(SHRINKING)).name == "all converge"


def test_a_saddle_is_no_divergence_even_outside_the_radius():
    # Theorem 3.1 with n = 5: s = 2.67374938 > 2.5508; the pair stands still, but for rounding
    s = 2.67374938 + 1e-15 * np.arange(TIMES.size)
    regime = classify(run_of(s, -s, 0 * TIMES, 0 * TIMES, 0 * TIMES))
    assert regime.name == "undecided" and regime.undecided == (0, 1) and regime.converged == (2, 3, 4)


def test_a_parameter_too_far_to_be_seen_moving_has_diverged():
    frozen = np.full_like(TIMES, 20.0)
    assert outward_speed(20.0) * 200 < 1e-15  # the premise
    assert classify(run_of(SHRINKING, frozen)).diverged == (1,)
    assert classify(run_of(SHRINKING, 10.0 + 0 * TIMES)).undecided == (1,)  # here the law says 1e-3 a unit of time


def test_a_parameter_that_swings_through_the_target_converges_with_its_group():
    swing = 0.3 * np.exp(-TIMES / 100) * np.abs(np.cos(TIMES / 20))
    assert classify(run_of(swing, 0.6 / (1 + TIMES) ** 0.25)).name == "all converge"


def test_growth_inside_the_unit_ball_is_not_convergence():
    assert classify(run_of(0.2 + 0.003 * TIMES)).name == "undecided"


@pytest.mark.parametrize("status", ["unstable", "failed"])
def test_a_broken_run_has_no_regime(status):
    regime = classify(run_of(RUNAWAY, 10.0**60 * (1 + TIMES), status=status))
    assert regime.name == "undecided" and regime.undecided == (0, 1) and status in regime.reason


def test_no_time_no_verdict():
    regime = classify(make_run([0.0], positions=[[5.0, 0.1]]))
    assert regime.name == "undecided" and "no flow time" in regime.reason


def test_reason_says_numbers():
    reason = classify(run_of(RUNAWAY, SHRINKING)).reason
    assert f"{RUNAWAY[-1]:.4g}" in reason and f"{SHRINKING[-1]:.3g}" in reason and "200" in reason


def test_distances_agree_with_the_expanded_parameters_in_a_basis_off_the_target():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 2)))[0]
    fields = {"centres": rng.standard_normal((TIMES.size, 2)), "deviations": rng.standard_normal((TIMES.size, 3, 2)), "basis": basis,
              "origin": rng.standard_normal(6), "problem": {"teacher": {"mean": rng.standard_normal(6).tolist()}}}
    run = make_run(TIMES, positions=np.zeros((TIMES.size, 3)), **fields)
    expected = np.linalg.norm(np.asarray(run.params) - fields["problem"]["teacher"]["mean"], axis=2)
    assert_allclose(distances(run), expected, rtol=1e-13)
    assert_allclose(distances(run, target=np.ones(6)), np.linalg.norm(np.asarray(run.params) - 1.0, axis=2), rtol=1e-13)


def test_distances_keep_tiny_deviations_at_a_far_target():
    run = make_run([0.0, 1.0], positions=np.full((2, 1), 1e-200), target=[5.0], centres=np.full((2, 1), 5.0))
    assert_allclose(distances(run), 1e-200, rtol=1e-14)


def test_a_mixture_target_is_refused():
    objective = op.ScoreMatching(op.GaussianMixture([[0.0], [4.0]]))
    run = op.gradient_descent(objective, [[0.1]], step_size=0.1, steps=3)
    with pytest.raises(ValueError, match="single Gaussian"):
        classify(run)
    assert classify(run, target=[0.0]).name in ("all converge", "undecided")


@pytest.mark.parametrize("target", [[0.0, 0.0], [[0.0]], [np.nan], ["x"]])
def test_bad_targets_are_named(target):
    with pytest.raises(ValueError, match="target"):
        classify(run_of(SHRINKING), target=target)


def test_outward_speed_is_the_speed_of_an_exact_run():
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    gradient = objective.grad([[0.0], [9.0]])
    # the law is the leading order at large r; its next factor 1 - 4/r^2 and the loss's own correction make it 10 % at r = 9
    assert_allclose(-gradient[1, 0], outward_speed(9.0), rtol=0.15)


@pytest.mark.parametrize(("start", "expected"), [
    ([1.0, -0.5, 0.2], "all converge"),
    ([4.1, 3.2, 4.4], "one converges"),
    ([2.5, 3.1, 3.0, 2.55, 2.9], "2 converge"),
    ([8.0, 9.0], "one converges"),
    ([3.001, 3.0, 2.999], "all converge"),
])
def test_real_runs_cut_anywhere_are_never_judged_wrongly(start, expected):
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    run = op.gradient_descent(objective, np.array(start)[:, None], step_size=0.02, steps=10_000, record=op.log_spaced(60))
    assert classify(run).name == expected
    names = set()
    for records in range(2, len(run.steps)):
        cut = make_run(run.times[:records], positions=distances(run)[:records])
        names.add(classify(cut).name)
    assert names <= {"undecided", expected}


def test_verdict_survives_a_file(tmp_path):
    run = op.gradient_descent(op.ScoreMatching(op.Gaussian([1.0, 2.0])), [[1.2, 2.0], [0.9, 2.1]], step_size=0.1, steps=50)
    run.save(tmp_path / "run.nc")
    assert classify(op.load(tmp_path / "run.nc")) == classify(run)
    assert classify(run).name == "all converge" and FAR > 1


@pytest.mark.parametrize(("column", "end"), [
    (6 * np.exp(-TIMES / 50), 50 * np.log(6)),  # within 1 from here on
    (2.0 + TIMES / 1000, 550.55),  # beyond 2.5508 from here on
    (np.where(TIMES < 180, 1.05, 0.9) - TIMES / 1e4, 180.0),
])
def test_undecided_says_what_would_decide(column, end):
    times = TIMES[TIMES <= min(200.0, 1.5 * end)]
    regime = classify(make_run(times, positions=column[:times.size, None]))
    assert regime.name == "undecided" and regime.k is None and f"{regime.horizon:.3g}" in regime.reason
    assert_allclose(regime.horizon, np.e * end, rtol=0.06)  # records are 7 % apart


def test_a_stationary_point_is_not_decided_by_time():
    regime = classify(run_of(np.full_like(TIMES, 2.0), SHRINKING))
    assert regime.horizon is None and "stationary" in regime.reason and "another start" in regime.reason
    assert "smaller step size" in classify(run_of(SHRINKING, status="unstable")).reason


@pytest.mark.parametrize("t_end", [3.0, 8.0, 20.0])
def test_the_horizon_of_a_cluster_on_its_way_decides(t_end):
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    start = op.init.around([6.0], [[1e-17], [0.0], [-1e-17]])
    regime = classify(op.gradient_flow(objective, start, t_end=t_end, rtol=1e-7))
    if regime.horizon is not None:
        assert count(op.gradient_flow(objective, start, t_end=1.5 * regime.horizon, rtol=1e-7)) is not None
    else:
        assert regime.k is not None


def test_count_on_a_flow_over_sixteen_decades_from_below_float64():
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    start = op.init.around([25.0], [[1.0], [0.0], [-1.0]], log_scale=1.0 - 625.0)
    flow = op.gradient_flow(objective, start, t_end=1e14, rtol=1e-7, record=op.log_spaced(100))
    assert flow.log_scales[0] < 0 and count(flow) == 3


@pytest.mark.parametrize(("start", "expected"), [([1.0, -0.5, 0.2], 3), ([2.5, 3.1, 3.0, 2.55, 2.9], 2), ([8.0, 9.0], 1)])
def test_until_decided_stops_at_the_verdict_of_the_whole_run(start, expected):
    objective = op.ScoreMatching(op.Gaussian([1.0]), rule=op.Auto(tol=1e-8))
    params, stop = np.array(start)[:, None] + 1.0, until_decided([1.0])
    for _ in range(2):  # a second run with the same test starts anew
        flow = op.gradient_flow(objective, params, t_end=1e6, rtol=1e-7, record=op.log_spaced(80), stop=stop)
        assert flow.status == "converged" and flow.times[-1] < 1e4 and count(flow) == expected
        assert count(flow, target=[1.0]) == expected
    assert count(op.gradient_flow(objective, params, t_end=1e6, rtol=1e-7, record=op.log_spaced(80))) == expected
