"""Imports go one way: docs/make_house.py reads them from the sources and draws them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("make_house", ROOT / "docs" / "make_house.py")
make = sys.modules["make_house"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

FOUND = list(make.imports())


def test_no_import_goes_up_and_every_module_has_its_place():
    assert make.complaints(FOUND) == []


def test_an_import_that_goes_up_is_named():
    said = make.complaints([make.Import("teachers", "drivers", "overparam/teachers.py:7")])
    assert "overparam/teachers.py:7: teachers (rules) imports drivers (drivers), which is above it" in said


def test_imports_inside_functions_are_seen():
    """`cli` imports experiments when a command needs them."""
    assert any(each.importer == "cli" and each.imported == "experiments" for each in FOUND)


def test_arrows_that_follow_from_others_are_left_out():
    drawn = make.arrows(FOUND)
    assert ("drivers", "trajectory") in drawn and ("trajectory", "objectives") in drawn and ("drivers", "objectives") not in drawn


def test_the_picture_shows_every_box():
    picture = make.PICTURE.read_text(encoding="utf-8")
    assert picture.startswith("<svg") and all(f">{box}</text>" in picture for box in make.FLOOR)
