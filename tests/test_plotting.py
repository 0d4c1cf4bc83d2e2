"""Pictures: what is drawn is the data, and nothing leaks."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from synthetic_runs import make_run

from overparam import plotting
from overparam.rates import fit_power_law

TIMES = np.concatenate([[0.0], np.geomspace(0.01, 200.0, 60)])
RUN = make_run(TIMES, 3.0 / (1 + TIMES) ** 2, positions=np.stack([1 / (1 + TIMES), 2 + TIMES / 100], axis=1))
FUNCTIONS = [plotting.norms, plotting.loss, plotting.local_slope]


@pytest.mark.parametrize("draw", FUNCTIONS)
def test_axes_come_back_and_pyplot_stays_out(draw):
    ax = draw(RUN)
    assert isinstance(ax.figure, Figure)
    ax.figure.canvas.draw()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
    given = Figure().add_subplot()
    assert draw(RUN, given) is given


@pytest.mark.parametrize("draw", FUNCTIONS)
@pytest.mark.parametrize(("x", "label"), [("steps", "step"), ("time", "flow time")])
def test_horizontal_axis_is_named_and_logarithmic(draw, x, label):
    ax = draw(RUN, x=x)
    assert label in ax.get_xlabel() and ax.get_xscale() == "log" and ax.get_ylabel()
    last = RUN.steps[-1] if x == "steps" else RUN.times[-1]
    assert_allclose(ax.lines[0].get_xdata()[-1], last)


@pytest.mark.parametrize("draw", FUNCTIONS)
def test_unknown_axis_is_refused(draw):
    with pytest.raises(ValueError, match="time"):
        draw(RUN, x="tme")


def test_norms_draws_each_distance_and_names_it():
    ax = plotting.norms(RUN, labels=["near", "far"])
    assert_allclose([line.get_ydata() for line in ax.lines], [1 / (1 + TIMES), 2 + TIMES / 100])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["near", "far"]
    assert plotting.norms(RUN, labels=False).get_legend() is None
    many = make_run(TIMES, positions=np.ones((TIMES.size, 9)))
    assert plotting.norms(many).get_legend() is None and plotting.norms(many, labels=True).get_legend() is not None


@pytest.mark.parametrize("labels", [["one"], ["a", "b", "c"]])
def test_wrong_number_of_labels(labels):
    with pytest.raises(ValueError, match="labels"):
        plotting.norms(RUN, labels=labels)


def test_loss_shows_a_band_only_where_it_can_be_seen():
    def bands(error):
        return len(plotting.loss(make_run(TIMES, 1 / (1 + TIMES), loss_error=error)).collections)

    assert bands(1e-12) == 0
    assert bands(0.1) == 1
    assert bands(np.nan) == 0  # an objective that knows no error


@pytest.mark.parametrize("law", [lambda t: 3 / t**2, fit_power_law(RUN), 2.0 / (1 + TIMES)])
def test_loss_draws_a_law_beside_the_measurement(law):
    ax = plotting.loss(RUN, law=law)
    assert ax.get_yscale() == "log"
    assert_allclose(ax.lines[0].get_ydata(), RUN.loss)
    expected = law(TIMES[1:]) if callable(law) else law[1:]
    assert_allclose(ax.lines[1].get_ydata()[1:], expected)


def test_a_law_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="law"):
        plotting.loss(RUN, law=np.ones(3))


def test_local_slope_draws_the_slope():
    ax = plotting.local_slope(RUN)
    assert_allclose(ax.lines[0].get_ydata()[-1], -2.0, atol=0.02)  # (1 + t)^-2 at t = 200
    with pytest.raises(ValueError, match="at least 2"):
        plotting.local_slope(make_run([0.0]))


def test_a_run_of_one_record_and_a_loss_of_zero_can_be_drawn(recwarn):
    for draw in (plotting.norms, plotting.loss):
        draw(make_run([0.0], [0.0])).figure.canvas.draw()
    assert not recwarn.list
