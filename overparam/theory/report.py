"""What a checker says: hypotheses, conclusions, and a verdict over them.

Every number carries where its constant comes from (a *tag*), every comparison its margin and its numerical error, and nothing is decided
that the error could overturn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from overparam._validation import check_choice
from overparam.theory.claims import TAGS, Claim, Conclusion, Constant, Hypothesis, plain, why_not_tested

__all__ = ["TAGS", "VERDICTS", "Claim", "Conclusion", "Constant", "Hypothesis", "Report"]

#: What a report can say.
VERDICTS: dict[str, str] = {
    "verified": "the hypotheses hold and the conclusion is seen",
    "vacuous": "a hypothesis fails, so the statement says nothing here",
    "violated": "the hypotheses hold and the conclusion is contradicted beyond the numerical error",
    "undecided": "the horizon, the accuracy, the number range or a constant is missing to decide",
}


@dataclass(frozen=True, eq=False)
class Report:
    """What a checker found.

    Attributes
    ----------
    name, title : str
        "zhang2025.theorem_3_5", and the statement's name in the paper.
    statement : str
        The statement in words.
    source : str
        Paper and place.
    tag : str
        Where the statement itself comes from, one of :data:`TAGS`: "derived" marks the library's own.
    hypotheses, conclusions : tuple of Claim
    constants : tuple of Constant
        Those that were not the paper's to give.
    measured : dict
        Further numbers worth knowing, such as the smallest constant for which an inequality held.
    never_verified : str
        Why the statement cannot count as verified however the comparisons come out (an unknown constant that was fitted to the run);
        empty where it can.
    unstable : str
        Why numerical error may turn the verdict, as a repetition at a hundredth of the tolerance showed; empty if it did not.
    obstacle : str
        Why the statement could not be evaluated; empty if it could.
    skipped : str
        Why the conclusions were not looked at, where a hypothesis fails; empty if they were.
    confirmation : str
        Whether a repetition at a hundredth of the tolerance confirmed the verdict, or why there was none; empty if none was asked for.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> report = op.theory.check("zhang2025.theorem_3_2", obj, [[2.0], [1.5]], step_size=0.01)
    >>> report.name, report.tag, report.verdict
    ('zhang2025.theorem_3_2', 'published', 'vacuous')
    """

    name: str
    title: str
    statement: str
    source: str
    tag: str
    hypotheses: tuple[Hypothesis, ...] = ()
    conclusions: tuple[Conclusion, ...] = ()
    constants: tuple[Constant, ...] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    never_verified: str = ""
    unstable: str = ""
    obstacle: str = ""
    skipped: str = ""
    confirmation: str = ""

    def __post_init__(self) -> None:
        check_choice(self.tag, "tag", TAGS)
        if self.tag == "recalled":  # what has no source at hand is shown and never tested
            object.__setattr__(self, "conclusions", tuple(replace(one, tested=False) for one in self.conclusions))

    @property
    def failed(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that fail."""
        return tuple(one for one in self.hypotheses if one.tested and one.holds is False)

    @property
    def open(self) -> tuple[Claim, ...]:
        """The hypotheses and conclusions that are not decided."""
        return tuple(one for one in (*self.hypotheses, *self.conclusions) if one.tested and one.holds is None)

    @property
    def missing(self) -> tuple[Conclusion, ...]:
        """The conclusions that the statement promises and that were not tested."""
        return tuple(one for one in self.conclusions if not one.tested and not one.strengthening)

    @property
    def conclusion_seen(self) -> bool | None:
        """Whether all tested conclusions are seen; None where that is open, or where there is nothing to see."""
        marks = [one.holds for one in self.conclusions if one.tested]
        if not marks:
            return None
        return False if False in marks else None if None in marks else True

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`."""
        if self.failed:  # what fails beyond its error fails whatever else is open
            return "undecided" if self.unstable else "vacuous"
        if self.unstable or self.obstacle or self.tag == "recalled" or any(one.tested and one.holds is None for one in self.hypotheses):
            return "undecided"
        untested = any(not one.tested for one in self.hypotheses)
        seen = self.conclusion_seen
        if seen is False:  # a hypothesis that was not tested may be what fails
            return "undecided" if untested else "violated"
        return "verified" if seen and not untested and not self.missing and not self.never_verified else "undecided"

    @property
    def given(self) -> str:
        """The constants that the user gave, in words: a verdict holds given them."""
        given = [f"{one.name} = {one.value:g}" for one in self.constants if one.tag == "given" and one.value is not None]
        return f"given {', '.join(given)}" if given else ""

    @property
    def reason(self) -> str:
        """One sentence: what the verdict rests on."""
        verdict, seen = self.verdict, self.conclusion_seen
        if self.unstable:
            return self.unstable
        if verdict == "vacuous":
            fails = "; ".join(f"{one.words}: {one.comparison or one.note or 'it does not hold'}" for one in self.failed)
            open_ends = "the conclusion was not looked at" if self.skipped else "no run was given"
            shown = {True: "the conclusion is seen all the same", False: "the conclusion is not seen",
                     None: "whether the conclusion is seen is open" if self.conclusions else open_ends}[seen]
            return f"fails: {fails}; {shown}" + (f": {self.skipped}" if self.skipped else "")
        broken = "; ".join(f"{one.words}: {one.comparison or one.note or 'it is not so'}" for one in self.conclusions
                           if one.tested and one.holds is False)
        if verdict == "violated":
            return f"contradicted: {broken}"
        if verdict == "verified":
            return "all hypotheses hold and the conclusion is seen"
        return "; ".join(self._undecided(broken))

    def _undecided(self, broken: str) -> list[str]:
        """What keeps the verdict open, and what would decide."""
        if self.obstacle:
            return [self.obstacle]
        reasons = ["the statement is recalled, with no source at hand: it is shown and never tested"] if self.tag == "recalled" else []
        reasons += [f"{one.words}: {one.would_decide}" for one in self.open]
        reasons += [f"{one.words}: {why_not_tested(one)}" for one in self.hypotheses if not one.tested]
        if broken:
            reasons.append(f"contradicted, unless what was not tested fails: {broken}")
        if self.never_verified and not self.open:
            reasons.insert(0, self.never_verified)
        tested = [one for one in self.conclusions if one.tested]
        if tested and self.missing and not self.never_verified:
            seen = [one.words for one in tested if one.holds]
            reasons += [f"seen: {', '.join(seen)}"] * bool(seen)
            reasons += [f"not tested: {one.words}: {why_not_tested(one)}" for one in self.missing]
        if not tested and self.tag != "recalled":
            reasons.append("no run was given: only the hypotheses were looked at" if not self.conclusions else
                           "no conclusion could be tested")
            reasons += [f"{one.words}: {why_not_tested(one)}" for one in self.conclusions]
        return reasons

    # --- for readers -------------------------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, Claim]]:
        return [("hypothesis", one) for one in self.hypotheses] + [("conclusion", one) for one in self.conclusions]

    def text(self) -> str:
        """The report for a terminal."""
        head = f"{self.name}: {self.verdict}" + (f" ({self.given})" if self.given else "")
        lines = [head, f"  {self.title}, {self.source} [{self.tag}]", f"  {self.statement}", f"  {self.reason}"]
        for kind, one in self._rows():
            compared = f": {one.comparison}" if one.comparison else ""
            note = f" -- {one.note}" if one.note else ""
            lines.append(f"  {kind:<10} {one.mark:<10} {one.words}{compared} [{one.tag}]{note}")
        lines += [f"  constant   {constant.shown}" for constant in self.constants]
        lines += [f"  measured   {name}: {_shown(value)}" for name, value in self.measured.items()]
        lines += [f"  confirmed  {self.confirmation}"] * bool(self.confirmation)
        return "\n".join(lines)

    def markdown(self) -> str:
        """The report as Markdown."""
        lines = [f"### `{self.name}`: {self.verdict}" + (f" ({self.given})" if self.given else ""), "",
                 f"{self.title}, {self.source} [{self.tag}]. {self.statement}", "", f"*{self.reason}*", "",
                 "| | | claim | compared | constants | |", "|---|---|---|---|---|---|"]
        for kind, one in self._rows():
            formula = f" ${_formula_cell(one.latex)}$" if one.latex else ""
            lines.append(f"| {kind} | {one.mark} | {_cell(one.words)}{formula} | {_cell(one.comparison)} | {one.tag} | {_cell(one.note)} |")
        if self.constants:
            lines += ["", "Constants: " + ", ".join(one.shown for one in self.constants)]
        if self.measured:
            lines += ["", "Measured: " + ", ".join(f"{name}: {_shown(value)}" for name, value in self.measured.items())]
        if self.confirmation:
            lines += ["", f"Confirmation: {self.confirmation}"]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, also by ``json.dumps(..., allow_nan=False)``: infinities as text, None for what is no number."""
        found: dict[str, Any]
        found = plain({"name": self.name, "title": self.title, "statement": self.statement, "source": self.source, "tag": self.tag,
                       "verdict": self.verdict, "given": self.given, "reason": self.reason, "conclusion_seen": self.conclusion_seen,
                       "hypotheses": [one.to_dict() for one in self.hypotheses],
                       "conclusions": [one.to_dict() for one in self.conclusions],
                       "constants": [{"name": one.name, "value": one.value, "tag": one.tag, "remembered": one.remembered}
                                     for one in self.constants],
                       "measured": self.measured, "confirmation": self.confirmation})
        return found

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Report({self.name}: {self.verdict})"

    def _repr_html_(self) -> str:
        from overparam._html_views import report_card

        extra = [one.shown for one in self.constants]
        extra += [f"{name}: {_shown(value)}" for name, value in self.measured.items()]
        return report_card(self, extra + [f"confirmation: {self.confirmation}"] * bool(self.confirmation))


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", r"\|")


def _formula_cell(latex: str) -> str:
    r"""LaTeX in a cell of a Markdown table, where no bar may stand: ``\|`` is ``\Vert`` and ``|`` is ``\vert``."""
    return latex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_shown(one) for one in value)
    return str(value)
