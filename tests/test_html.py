"""Results in notebooks: well-formed, escaped, light, with the numbers that they are about, and text as before elsewhere."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam import _html
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report

EVIL = "<script>alert('x')</script> & \"more\""


class Reader(HTMLParser):
    """Fails where tags do not match; gathers text, tags and attributes."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.text, self.tags, self.attributes = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "img":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def points(self):
        """The curve's points in the picture's units."""
        return np.array([[float(part) for part in pair.split(",")] for name, text in self.attributes if name == "points"
                         for pair in text.split()])


class Own(op.Objective):
    """The sum of squares."""

    def value_and_grad(self, params):
        return float((params**2).sum()), 2 * params


def descent(**more):
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    return op.gradient_descent(obj, op.init.cluster(n=3, center=[2.0, 0.0], scale=0.1, rng=0), step_size=0.1, **{"steps": 200, **more})


def report(**more):
    """A report whose every text is hostile."""
    parts = {"name": EVIL, "title": EVIL, "statement": EVIL, "source": EVIL, "tag": "published",
             "hypotheses": (Hypothesis(EVIL, latex=r"a<b", left=1.0, right=2.5), Hypothesis("open", fact=None, note=EVIL)),
             "conclusions": (Conclusion("wrong", left=3.25, right=2.0), Conclusion("recalled", tag="recalled", tested=False)),
             "constants": (Constant("C", 0.125, "given"),), "measured": {EVIL: 4.75}, "confirmation": EVIL}
    return Report(**{**parts, **more})


def experiment():
    return op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)


MADE = {
    "descent": descent,
    "flow": lambda: op.gradient_flow(Own(), np.ones((2, 2)), t_end=10.0),
    "one record": lambda: descent(steps=0),
    "em": lambda: op.em(op.KLDivergence(op.Gaussian([0.0])), [[1.0], [0.5]], steps=20),
    "factors": lambda: op.gradient_descent(op.MatrixFactorization(np.eye(2)), 0.9 * np.stack([np.eye(2)] * 4), step_size=0.1, steps=5),
    "report": report,
    "bounded": lambda: op.ScoreMatching(op.Gaussian([0.0])).estimate([[1.0], [0.5]]),
    "sampled": lambda: op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(2000, rng=0)).estimate([[1.0], [0.5]]),
    "no bound": lambda: Own().estimate(np.ones((2, 2))),
    "complex": lambda: op.MatrixFactorization(np.eye(2)).estimate(1j * np.stack([np.eye(2)] * 4)),
    "experiment": experiment,
}


@pytest.mark.parametrize("name", MADE)
def test_cards_are_well_formed_and_load_nothing(name):
    page = MADE[name]()._repr_html_()
    reader = Reader(page)
    assert not {"script", "style", "link", "iframe"} & set(reader.tags)
    names = dict(reader.attributes)
    assert not {"class", "id", "onclick"} & set(names)
    assert [value for key, value in reader.attributes if key in ("src", "href")] == [] or names["src"].startswith("data:image/png;base64,")
    assert "url(" not in page and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    # readable on any background: text takes the page's colour, but for badges, which bring their ground
    for value in (value for key, value in reader.attributes if key == "style"):
        assert not re.search(r"(?<![-\w])color:(?!#fff|inherit)", value)
        assert ("color:#fff" in value) <= ("background:#" in value)
    assert len(page) < (10_000 if name != "experiment" else 200_000)


def test_everything_is_escaped():
    page = report()._repr_html_()
    assert "<script" not in page and Reader(page).words.count("alert('x')") >= 7
    run = descent(steps=3)
    hostile = type(run)(**{**vars(run), "message": EVIL, "driver": EVIL, "problem": {"kind": EVIL}, "status": "failed"})
    page = hostile._repr_html_()
    assert "<script" not in page and Reader(page).words.count("alert('x')") == 3
    for made in (_html.badge(EVIL), _html.note(EVIL), _html.preformatted(EVIL), _html.facts([(EVIL, EVIL)]), _html.grid((EVIL,), []),
                 _html.curve([1, 2], [1, 2], EVIL, EVIL), _html.card(EVIL, EVIL, "plain", [], after=EVIL)):
        assert "<script" not in made and "alert" in Reader(made).words


def test_a_report_shows_its_numbers_and_marks():
    words = Reader(report()._repr_html_()).words
    for part in ("1 ≤ 2.5", "3.25 ≤ 2", "C = 0.125 [given]", "4.75", "yes", "no", "open", "not tested", r"\(a<b\)", "undecided"):
        assert part in words
    unknown = Hypothesis("small step", left=0.01, right=math.nan, tag="unknown", tested=False)
    assert "0.01 ≤ what is not known" in Reader(report(hypotheses=(unknown,))._repr_html_()).words
    assert "violated" in Reader(report(hypotheses=())._repr_html_()).words


def test_a_trajectory_shows_its_facts_and_its_loss():
    run = descent()
    reader = Reader(run._repr_html_())
    assert "completed" in reader.words and "steps 0 to 200" in reader.words and f"{run.loss[-1]:.6g}" in reader.words
    points, later = reader.points(), run.times > 0
    assert len(points) == later.sum()
    # the picture is the logarithm of the data up to a shift and a scale on each axis
    for column, values, falls in ((0, run.times, False), (1, run.loss, True)):
        wanted = np.log10(values[later])
        slope = (points[-1, column] - points[0, column]) / (wanted[-1] - wanted[0])
        assert (slope < 0) == falls or column == 0
        assert_allclose(points[:, column], points[0, column] + slope * (wanted - wanted[0]), atol=0.11)  # rounded to 0.1
    assert "flow time" in reader.words and "step" in Reader(MADE["em"]()._repr_html_()).words


@pytest.mark.parametrize(("y", "count"), [([0.0, 0.0], 0), ([1.0, np.nan], 0), ([np.nan, np.inf, -1.0, 2.0], 0), ([1.0, 1.0], 2),
                                          ([1e-300, 1e300], 2), ([5e-324, 1.0, 0.0], 2), (np.ones(10_000), 200)])
def test_curves_show_what_can_be_shown(y, count):
    made = _html.curve(np.arange(1.0, len(y) + 1), y, "x", "y")
    assert bool(made) == bool(count)
    if made:
        points = Reader(made).points()
        assert len(points) == count and np.isfinite(points).all()
        assert (points >= 0).all() and (points[:, 0] <= _html._WIDTH).all() and (points[:, 1] <= _html._HEIGHT).all()


@pytest.mark.parametrize(("low", "high", "count"), [(1e-3, 1e2, 6), (1e-300, 1e300, 7), (2.0, 3.0, 2), (0.9, 40.0, 4)])
def test_ticks_are_where_they_say(low, high, count):
    axis = _html._Axis.of(np.array([low, high]), 0.0, 100.0)
    ticks = axis.ticks(7)
    assert len(ticks) == count
    for place, words in ticks:
        power = re.fullmatch(r"10<tspan.*>(−?\d+)</tspan>", words)
        value = float(power[1].replace("−", "-")) if power else math.log10(float(words))
        assert_allclose(place, 100 * (value - axis.low) / (axis.high - axis.low), atol=0.5)


def test_an_estimate_shows_value_error_and_parts():
    found = MADE["bounded"]()
    words = Reader(found._repr_html_()).words
    for part in (f"{found.value:.10g} ± {found.value_error:.2g} (bound)", "discretisation", f"{found.bounds.rounding.value:.2g}",
                 "reliable"):
        assert part in words
    sampled = MADE["sampled"]()
    words = Reader(sampled._repr_html_()).words
    assert f"± {sampled.value_error:.2g} (standard error)" in words and f"replicates {sampled.replicates}" in words
    assert "no error is known" in Reader(MADE["no bound"]()._repr_html_()).words


def test_text_is_as_before():
    run = descent(steps=3)
    assert repr(run).startswith("Trajectory(gradient_descent, completed") and "<" not in run.summary().replace("->", "")
    assert repr(report(name="n")) == "Report(n: undecided)"
    assert repr(MADE["bounded"]()).startswith("Estimate(value=")
