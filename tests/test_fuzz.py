"""benchmarks/fuzz.py: that it calls every public name, and says the same twice; and a few hundred of its calls."""

from __future__ import annotations

import math
import re

import fuzz
import fuzz_calls
import numpy as np
import pytest

import overparam as op

#: Bases, results, constants and types that others return; the experiments run for longer than a call may.
NOT_CALLED = {"Objective", "Rule", "Teacher", "TooHardError", "__version__"}
PARTS = {"distances", "factors", "init", "plotting", "rates", "regimes", "stationary"}
RESULTS = {"COLOURS", "Comparison", "Distance", "LocalSlope", "PowerLaw", "Regime", "StationaryPoint", "finish"}


def test_every_public_function_is_called():
    names = set(op.__all__) - NOT_CALLED
    wanted = {name for name in names if callable(getattr(op, name))}
    wanted |= {f"{part}.{name}" for part in PARTS for name in getattr(op, part).__all__ if name not in RESULTS}
    assert wanted <= set(fuzz_calls.CALLS), wanted - set(fuzz_calls.CALLS)


def test_a_call_depends_on_its_number_alone():
    for number in range(20, 40):
        one, two = fuzz.draw(number), fuzz.draw(number)
        assert one[0] == two[0]
        assert fuzz.judged(number, *one)[0] == fuzz.judged(number, *two)[0]


def test_calls_end_in_an_error_or_a_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = [fuzz.judged(number, *fuzz.draw(number))[0] for number in range(300_000, 300_400)]
    assert not [outcome for outcome in outcomes if outcome.kind == "finding"]
    assert sum(outcome.kind == "value" for outcome in outcomes) > 100 < sum(outcome.kind == "error" for outcome in outcomes)


def _drawn(function, **arguments):
    return lambda: fuzz.Drawn("name", function, arguments, frozenset(arguments))


def _unnamed(x):
    raise ValueError("no")


@pytest.mark.parametrize(("function", "said"), [
    (lambda x: math.nan, "nan in the result"),
    (lambda x: [1.0, np.array([np.inf])], r"inf in \[\]"),
    (lambda x: x.nothing, "AttributeError"),
    (lambda x: np.log(np.float64(0.0)), "RuntimeWarning"),
    (_unnamed, "from below"),
    (lambda x: np.linalg.inv(np.zeros((2, 2))), "LinAlgError"),
])
def test_findings_are_found(function, said):
    found, _ = fuzz.judged(0, "name", _drawn(function, x=1))
    assert found.kind == "finding"
    assert re.search(said, found.what)


def test_a_good_call_is_none():
    assert fuzz.judged(0, "name", _drawn(op.Gaussian, mean=[0.0]))[0].kind == "value"
    assert fuzz.judged(0, "name", _drawn(op.Gaussian, mean="text"))[0].kind == "error"
