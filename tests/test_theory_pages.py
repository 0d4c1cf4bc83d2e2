"""Every statement has its page in docs/theory, and the pages say what the checkers say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import overparam as op
from overparam.theory import Constant, theorem

_spec = importlib.util.spec_from_file_location("make_theory_pages", Path(__file__).parents[1] / "docs" / "make_theory_pages.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def test_pages_are_up_to_date():
    assert not make.behind(make.families()), "run: python docs/make_theory_pages.py"


def test_every_statement_of_the_library_has_a_page_and_a_report_of_every_example():
    listed = {one.name: path for path, theorems in make.families().items() for one in theorems}
    own = {name for name in op.theory.list() if type(op.theory.get(name)).__module__.startswith("overparam.")}
    assert own and set(listed) == own
    for name, path in listed.items():
        text = (make.FOLDER / path).read_text(encoding="utf-8")
        for label, example in op.theory.get(name).examples().items():
            assert f"*{label}*" in text
            assert f"\n{name}: {example.verdict}" in text, f"{name}, {label}: run python docs/make_theory_pages.py"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A folder with the page of one statement."""
    name = "zhang2025.theorem_3_2"
    monkeypatch.setattr(theorem, "_THEOREMS", {name: op.theory.get(name)})
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["make_theory_pages.py"])
    monkeypatch.setattr(type(op.theory.get(name)), "examples", lambda self: {})
    make.main()
    return tmp_path / "zhang2025" / "small_noise.md"


def test_pages_that_fall_behind_are_found(page, monkeypatch):
    pages = make.families()
    assert not make.behind(pages)
    monkeypatch.setattr(type(op.theory.get("zhang2025.theorem_3_2")), "constants", (Constant("C_new", 2.0, "published"),))
    assert make.behind(pages) == ["zhang2025/small_noise.md is behind: zhang2025.theorem_3_2"]
    page.write_text(page.read_text().replace("Theorem 3.2", "Theorem 3.3"))
    (page.parent / "old.md").write_text(make.MARK)
    (page.parent / "by_hand.md").write_text("no mark: nobody's to remove")
    assert "zhang2025/old.md is left over" in make.behind(pages)
    make.main()
    assert not make.behind(pages) and sorted(path.name for path in page.parent.iterdir()) == ["by_hand.md", "small_noise.md"]
    page.unlink()
    assert make.behind(pages) == ["zhang2025/small_noise.md is missing"]


def test_docstrings_become_markdown():
    text = make.markdown("The\n:math:`a\n+b` of :func:`~overparam.load` and ``x``:\n\n.. math:: c\n    = d\n\nMore.")
    assert text == "The\n$a +b$ of `overparam.load` and `x`:\n\n$$\nc\n= d\n$$\n\nMore."
