"""Write docs/theory: a page for every family of statements that can be checked, from the checkers' own words and a run of each example.

    python docs/make_theory_pages.py              # all pages, with all examples: minutes
    python docs/make_theory_pages.py lemma_c_1    # the pages on which these statements stand
    python docs/make_theory_pages.py --check      # no run: exit code 1 if a page is missing, left over, or behind its checker

A family is a module of `overparam.theory`. Its page opens with the module's docstring; a statement's part is made of the attributes and
the docstring of its class, which is the place for anything written by hand, and of the reports of its examples.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import overparam as op
from overparam.theory import TAGS, VERDICTS, Report, Theorem
from overparam.theory.inequality import Inequality

FOLDER = Path(__file__).with_name("theory")
MARK = "<!-- Written by docs/make_theory_pages.py from the checkers; change those, not this page. -->"


def families() -> dict[Path, list[Theorem]]:
    """The library's statements by the path of their page, relative to docs/theory."""
    found: dict[Path, list[Theorem]] = {}
    for name in op.theory.list():
        theorem = op.theory.get(name)
        if type(theorem).__module__.startswith("overparam."):
            paper, _, _ = name.partition(".")
            found.setdefault(Path(paper, type(theorem).__module__.rpartition(".")[2] + ".md"), []).append(theorem)
    return {path: sorted(found[path], key=lambda one: _natural(one.name)) for path in sorted(found)}


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


# --- what a checker says without a run --------------------------------------------------------------------------------


def opening(theorems: list[Theorem]) -> str:
    """The top of a page: the family's docstring."""
    first, _, rest = (inspect.getdoc(sys.modules[type(theorems[0]).__module__]) or "").partition("\n")
    return "\n".join([MARK, "", f"# {markdown(first.rstrip('.'))}", "", *([markdown(rest.strip()), ""] if rest.strip() else [])])


def part(theorem: Theorem) -> str:
    """The part of a page that a statement's own attributes make: what `--check`, and the tests, compare."""
    lines = [f"## {theorem.title}", "", f"`{theorem.name}` · {theorem.source} · **{theorem.tag}**: {TAGS[theorem.tag]}", "",
             f"> {theorem.statement}", ""]
    if theorem.latex:
        lines += ["$$", theorem.latex, "$$", ""]
    words = inspect.cleandoc(type(theorem).__doc__ or "")
    if words:
        lines += [markdown(words), ""]
    if theorem.constants:
        lines += ["| constant | value | tag |", "|---|---|---|"]
        lines += [f"| `{one.name}` | {'not known' if one.value is None else f'{one.value:g}'} | {one.tag}: {TAGS[one.tag]} |"
                  for one in theorem.constants]
        first = theorem.constants[0].name
        recalled = any(one.tag == "recalled" for one in theorem.constants)
        untested = " A recalled constant stays untested, whoever gives it." if recalled else ""
        lines += ["", f"Given with `op.theory.check(..., {first}=...)` or `--set {first}=...`.{untested}", ""]
    return "\n".join([*lines, method(theorem), ""])


def method(theorem: Theorem) -> str:
    """What the checker does, by its base."""
    own = type(theorem).check.__doc__
    if isinstance(theorem, Inequality) and type(theorem).check is Inequality.check:
        text = (f"*The checker* evaluates both sides at {theorem.samples} points of random scale, at as many held-out ones and at "
                f"{theorem.shapes} points on each of {len(theorem.scales)} scales from {theorem.scales[0]:g} to {theorem.scales[-1]:g}; "
                "with a start or a run, at its points. ")
        if all(one.value is not None for one in theorem.constants):
            return text + "The comparison with the least room decides."
        return text + ("While a constant is unknown it reports the smallest one that serves, which is no proof, and tests whether there "
                       "can be one: on the held-out points, and by its growth along the scales.")
    if type(theorem).check is Theorem.check:
        return ("*The checker* compares the hypotheses at the start of a run and the conclusions with its records, within their error "
                "bounds; a verdict has to stand when the run is repeated at a hundredth of its tolerance.")
    return f"*The checker*: {markdown(inspect.cleandoc(own))}" if own else "*The checker* has a way of its own, told above."


def markdown(text: str) -> str:
    """A docstring's roles and mathematics as Markdown."""
    text = re.sub(r"\.\. math::[ ]*\n?((?:.+\n?)(?:[ ]+\S.*\n?)*)",
                  lambda found: "$$\n" + inspect.cleandoc(found[1]).strip() + "\n$$\n", text)
    text = re.sub(r":math:`([^`]+)`", lambda found: f"${' '.join(found[1].split())}$", text)
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


# --- what a run shows -------------------------------------------------------------------------------------------------


def runs(theorem: Theorem) -> str:
    """The examples' reports; hypotheses and conclusions of the first as a table, without what was given."""
    lines: list[str] = []
    for label, example in theorem.examples().items():
        made = dict(example.make())
        if not lines:
            bare = {key: value for key, value in made.items() if key not in {one.name for one in theorem.constants}}
            lines += [*claims(op.theory.check(theorem.name, **{**bare, "confirm": False})), "### Examples", ""]
        report = op.theory.check(theorem.name, **made)
        print(f"  {theorem.name}, {label}: {report.verdict}" + ("" if report.verdict == example.verdict else f", not {example.verdict}"))
        lines += [f"*{label}*" + (f": {example.words}." if example.words else "."), "", "```text", report.text(), "```", ""]
    return "\n".join(lines)


def claims(report: Report) -> list[str]:
    """What is supposed and what is promised, with where their constants come from."""
    lines = ["| | claim | constants |", "|---|---|---|"]
    for kind, ones in (("supposed", report.hypotheses), ("promised", report.conclusions)):
        for one in ones:
            latex = one.latex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")  # a bar would end the cell
            words = one.words.replace("|", "&#124;").replace("<", "&lt;")
            lines.append(f"| {kind} | {words}{f' ${latex}$' if latex else ''} | {one.tag}{'' if one.tested else ', not tested'} |")
    return [*lines, ""]


def index(pages: dict[Path, list[Theorem]]) -> str:
    """The list of all pages."""
    lines = [MARK, "", "# Statements that can be checked", "",
             "`op.theory.check(name, traj)` in Python, `overparam check NAME FILE.toml` on the command line; `overparam check --all` runs "
             "every example below. A verdict is *verified*, *vacuous* (a hypothesis fails), *violated* or *undecided*.", "",
             "*Verified* takes every hypothesis and every conclusion tested and seen, each beyond its numerical error, which must be a "
             "proved bound: a sample's standard error decides nothing. What is recalled, or rests on a constant that nobody gave, is shown "
             "and not tested. The reason of an *undecided* verdict says what would decide.", "",
             "| statement | | page | source of the statement |", "|---|---|---|---|"]
    for path, theorems in pages.items():
        titles = {one.name: one.title.replace("|", "&#124;") for one in theorems}
        lines += [f"| {titles[one.name]} | `{one.name}` | [{path.stem}]({path.as_posix()}) | {one.tag} |" for one in theorems]
    lines += ["", "| tag | |", "|---|---|", *(f"| {tag} | {words} |" for tag, words in TAGS.items()), ""]
    lines += ["## What `overparam check --all` finds", "",
              "The examples by their verdicts; the tests run each of them. *Violated* is a true statement only by a constant that was "
              "given and is not the statement's.", "",
              f"| statement | {' | '.join(VERDICTS)} |", "|---|" + "---|" * len(VERDICTS)]
    for theorems in pages.values():
        for one in theorems:
            examples = one.examples()
            cells = (", ".join(label for label, example in examples.items() if example.verdict == verdict) for verdict in VERDICTS)
            lines.append(f"| `{one.name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "## How far from sharp", "",
                      "`op.theory.sharpness(name, vary=...)` pushes one condition until the conclusion fails; the experiment "
                      "`zhang2025.sharpness` does so for all of them and draws published beside measured thresholds:", "",
                      "```sh",
                      "python -c 'import overparam as op; print(op.experiments.run(\"zhang2025.sharpness\").summary())'", "```", ""])


# --- files ------------------------------------------------------------------------------------------------------------


def behind(pages: dict[Path, list[Theorem]]) -> list[str]:
    """What is missing, left over or not up to date, one line each."""
    wrong = []
    for path, theorems in {**pages, Path("README.md"): []}.items():
        if not (FOLDER / path).is_file():
            wrong.append(f"{path} is missing")
            continue
        text = (FOLDER / path).read_text(encoding="utf-8")
        parts = {"its opening": opening(theorems), **{one.name: part(one) for one in theorems}} if theorems else {"its list": index(pages)}
        wrong += [f"{path} is behind: {name}" for name, words in parts.items() if words not in text]
    return wrong + [f"{path.relative_to(FOLDER)} is left over" for path in left_over(pages)]


def left_over(pages: dict[Path, list[Theorem]]) -> list[Path]:
    """Written pages of families that are no more."""
    written = [path for path in sorted(FOLDER.rglob("*.md")) if path.read_text(encoding="utf-8").startswith(MARK)]
    return [path for path in written if path.relative_to(FOLDER) not in {*pages, Path("README.md")}]


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description="Write docs/theory from the checkers.")
    parser.add_argument("names", nargs="*", help="parts of names of statements; default: all")
    parser.add_argument("--check", action="store_true", help="compare only")
    given = parser.parse_args()
    pages = families()
    if given.check:
        wrong = behind(pages)
        print("\n".join(wrong) or f"{len(pages)} pages are up to date")
        raise SystemExit(bool(wrong))
    for path, theorems in pages.items():
        if given.names and not any(name in one.name for name in given.names for one in theorems):
            continue
        print(path)
        text = "\n".join([opening(theorems), *(f"{part(one)}\n{runs(one)}" for one in theorems)])
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text.rstrip() + "\n", encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "README.md").write_text(index(pages), encoding="utf-8")
    for path in left_over(pages):
        path.unlink()


if __name__ == "__main__":
    main()
