"""Slopes and fitted exponents: known laws give known numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import linregress
from scipy.stats import t as student
from synthetic_runs import make_run

from overparam.rates import compare, fit_power_law, local_slope

LOG_TIMES = np.geomspace(0.01, 200.0, 120)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 1.3])
def test_a_power_law_has_its_exponent_as_slope_everywhere(exponent):
    found = local_slope(make_run(LOG_TIMES, 3.0 * LOG_TIMES**exponent))
    assert_allclose(found.times, LOG_TIMES, rtol=0)
    assert_allclose(found.slope, exponent, rtol=0, atol=1e-11)  # differences of logs of size 10 over 0.08: 1e-15 * 10 / 0.08


def test_slopes_are_second_order_in_the_logarithm_of_time_inside():
    # ln L = -(ln t)^2 has slope -2 ln t, which a second-order difference gives exactly also on uneven times
    times = np.sort(np.random.default_rng(3).uniform(1.0, 50.0, 40))
    found = local_slope(make_run(times, np.exp(-np.log(times) ** 2)))
    assert_allclose(found.slope[1:-1], -2 * np.log(times[1:-1]), rtol=0, atol=1e-10)
    first = np.log(times[0]) + np.log(times[1])
    assert_allclose(found.slope[0], -first, atol=1e-10)  # one-sided: the chord


def test_records_without_a_logarithm_are_left_out():
    found = local_slope(make_run([0.0, 1.0, 2.0, 4.0, 8.0], [9.0, 8.0, 4.0, 2.0, 0.0]))
    assert found.times.tolist() == [1.0, 2.0, 4.0]
    assert_allclose(found.slope, -1.0, atol=1e-14)


def test_one_usable_record_has_no_slope():
    with pytest.raises(ValueError, match=r"1 record\(s\).*at least 2"):
        local_slope(make_run([0.0, 1.0], [2.0, 1.0]))


def test_fit_finds_exponent_and_prefactor_inside_its_window_only():
    loss = np.where(LOG_TIMES < 5, 7.0, 3.0 * LOG_TIMES**-2.0)  # flat before the window
    law = fit_power_law(make_run(LOG_TIMES, loss), window=(5.0, 200.0))
    assert_allclose([law.exponent, law.prefactor], [-2.0, 3.0], rtol=1e-12)
    assert law.points == np.count_nonzero(LOG_TIMES >= 5)
    assert law.window[0] >= 5 and law.window[1] == 200.0
    assert law.interval[1] - law.interval[0] < 1e-12
    assert_allclose(law(np.array([10.0, 100.0])), [0.03, 0.0003], rtol=1e-11)


def test_interval_is_that_of_linear_regression():
    noise = np.random.default_rng(5).standard_normal(LOG_TIMES.size) * 0.1
    law = fit_power_law(make_run(LOG_TIMES, 2.0 * LOG_TIMES**-1.0 * np.exp(noise)), window=(LOG_TIMES[0], LOG_TIMES[-1]))
    oracle = linregress(np.log(LOG_TIMES), np.log(2.0) - np.log(LOG_TIMES) + noise)
    half = student.ppf(0.975, LOG_TIMES.size - 2) * oracle.stderr
    assert_allclose(law.exponent, oracle.slope, rtol=1e-12)
    assert_allclose(law.interval, [oracle.slope - half, oracle.slope + half], rtol=1e-9)
    assert law.interval[0] < -1.0 < law.interval[1]


def test_curvature_widens_the_interval():
    straight, bent = (fit_power_law(make_run(LOG_TIMES, np.exp(-np.log(LOG_TIMES) - c * np.log(LOG_TIMES) ** 2)), window=(2.0, 200.0))
                      for c in (0.0, 0.05))
    assert bent.interval[1] - bent.interval[0] > 0.01 > straight.interval[1] - straight.interval[0]


def test_default_window_is_the_last_decade():
    law = fit_power_law(make_run(LOG_TIMES, LOG_TIMES**-1.0))
    assert 20.0 <= law.window[0] < 22.0 and law.window[1] == 200.0


@pytest.mark.parametrize(("window", "said"), [
    ((5.0, 5.0), "must rise"), ((9.0, 5.0), "must rise"), ((0.0, 5.0), r"window\[0\]"), ((-1.0, 5.0), r"window\[0\]"),
    ((1.0, np.inf), r"window\[1\]"), ((1.0, np.nan), r"window\[1\]"), (("a", 5.0), r"window\[0\]"), (3.0, "two flow times"),
    ((1.0, 2.0, 3.0), "two flow times"), ((150.0, 160.0), "holds 0 record|holds 1 record"),
])
def test_bad_windows_are_named(window, said):
    with pytest.raises(ValueError, match=said):
        fit_power_law(make_run(LOG_TIMES, LOG_TIMES**-1.0), window=window)


def test_a_run_without_positive_losses_cannot_be_fitted():
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_power_law(make_run([0.0, 1.0], [1.0, 0.0]))


# --- comparison with a law -------------------------------------------------------------------------------------------


def test_ratio_deviation_and_drift_of_a_known_pair():
    """L = 2 t^-1.9 against 2 t^-2: the ratio is t^0.1, whatever the prefactor of the law is the drift is 0.1."""
    times = np.r_[0.0, np.geomspace(1.0, 1e4, 41)]
    loss = np.r_[5.0, 2.0 * times[1:] ** -1.9]
    for prefactor in (2.0, 14.0):
        found = compare(make_run(times, loss), lambda t, prefactor=prefactor: prefactor * t**-2.0, window=(10.0, 1e3))
        assert_allclose(found.times, times[(times >= 9.99) & (times <= 1001)])
        assert_allclose(found.ratio, 2 / prefactor * found.times**0.1, rtol=1e-12)
        assert_allclose(found.deviation, np.abs(found.ratio - 1).max())
        assert_allclose(found.drift, 0.1, rtol=1e-10)
        assert found.final == found.ratio[-1]


def test_a_law_may_be_an_array_with_gaps():
    times = np.geomspace(1.0, 100.0, 21)
    law = np.where(np.arange(21) < 15, np.nan, 1 / times)
    found = compare(make_run(times, 1 / times), law, window=(1.0, 100.0))
    assert found.times.size == 6 and found.deviation < 1e-12


def test_default_window_of_a_comparison_is_the_last_decade():
    times = np.geomspace(1.0, 1e4, 41)
    assert_allclose(compare(make_run(times, 1 / times), 1 / times).times[0], 1e3)


@pytest.mark.parametrize(("law", "window", "said"), [
    (lambda t: t[1:], None, r"law must give one loss for each of the 5 records; got shape \(4,\)"),
    (np.ones(4), None, r"law must give one loss"),
    (lambda t: -t, None, r"0 record\(s\) at which loss and law are above 0"),
    (lambda t: t, (2.0, 1.0), r"window must rise"),
    (lambda t: t, (1e5, 1e6), r"holds 0 record"),
])
def test_bad_comparisons_are_named(law, window, said):
    with pytest.raises(ValueError, match=said):
        compare(make_run(np.geomspace(1.0, 100.0, 5), np.ones(5)), law, window)


def test_slopes_over_sixteen_decades():
    """A law whose exponent drifts, L = 2 / (t ln t) from t = 10 to 1e17: slope -1 - 1 / ln t, to the second order of the differences."""
    times = np.geomspace(10.0, 1e17, 321)
    found = local_slope(SimpleNamespace(times=times, loss=2 / (times * np.log(times))))
    assert_allclose(found.slope[5:-1], -1 - 1 / np.log(times[5:-1]), atol=2e-4)


@pytest.mark.parametrize("call", [local_slope, fit_power_law, lambda traj: compare(traj, lambda t: 1 / t)])
@pytest.mark.parametrize("traj", [3, None, "run"])
def test_what_is_no_trajectory_is_named(call, traj):
    with pytest.raises(ValueError, match="traj must be an overparam"):
        call(traj)
