"""Every statement that can be checked, on its built-in examples."""

from __future__ import annotations

import json

import pytest

import overparam as op

EXAMPLES = [(name, key) for name in op.theory.list() for key in op.theory.get(name).examples()]


@pytest.mark.parametrize(("name", "key"), EXAMPLES)
def test_an_example_has_its_verdict(name, key):
    example = op.theory.get(name).examples()[key]
    report = op.theory.check(name, **example.make())
    assert report.verdict == example.verdict, report.text()
    assert example.words
    shown = report.text()
    for claim in (*report.hypotheses, *report.conclusions):
        assert f"[{claim.tag}]" in shown and claim.words in shown
        assert not (claim.tag == "recalled" and claim.tested)
    json.dumps(report.to_dict())


@pytest.mark.parametrize("name", op.theory.list())
def test_examples_of_every_verdict_that_can_occur(name):
    examples = op.theory.get(name).examples().values()
    verdicts = {example.verdict for example in examples}
    assert verdicts
    for example in examples:  # what is true is violated only by a constant that the user gives and that is not the statement's
        assert example.verdict != "violated" or "given a " in example.words
    if name.startswith(("zhang2025.theorem", "zhang2025.corollary")):
        assert verdicts - {"violated"} == {"verified", "vacuous", "undecided"}
