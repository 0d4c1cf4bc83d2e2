"""What a checker says: hypotheses, conclusions, and a verdict over them.

Every number carries where its constant comes from (a *tag*), every comparison its margin and its numerical error, and nothing is decided
that the error could overturn.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from overparam._validation import check_choice

__all__ = ["TAGS", "VERDICTS", "Claim", "Conclusion", "Constant", "Hypothesis", "Report"]

#: Where a constant or a claim comes from.
TAGS: dict[str, str] = {
    "published": "stated by the paper, or by a public note or follow-up of it",
    "derived": "proved by this library's authors from the definitions, and checked numerically; not the paper's claim",
    "reconstructed": "forced, or strongly suggested, by the published text around it",
    "recalled": "without a source at hand: shown, never tested against",
    "unknown": "not recoverable from the paper: given by the user, or measured",
    "standard": "a textbook fact",
    "given": "given by the user",
}

#: What a report can say.
VERDICTS: dict[str, str] = {
    "verified": "the hypotheses hold and the conclusion is seen",
    "vacuous": "a hypothesis fails, so the statement says nothing here",
    "violated": "the hypotheses hold and the conclusion is contradicted beyond the numerical error",
    "undecided": "the horizon, the accuracy, the number range or a constant is missing to decide",
}

_RELATIONS = {"<=": "≤", "<": "<", ">=": "≥", ">": ">", "==": "=", "->": "→"}

#: A numerical error above this part of what is compared shows nothing of an equality.
VAGUE = 0.1


@dataclass(frozen=True)
class Constant:
    """A constant of a statement.

    Attributes
    ----------
    name : str
        As in the statement, such as "C".
    value : float or None
        None where it is not known and nobody gave one.
    tag : str
        One of :data:`TAGS`. A recalled constant stays recalled whatever value is given for it.
    remembered : float or None
        Of a recalled constant for which the user gave another value: the one that is recalled.
    """

    name: str
    value: float | None
    tag: str
    remembered: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.tag, "tag", TAGS)

    @property
    def shown(self) -> str:
        """Name, value and tag for a reader; both values where one is recalled and another given."""
        value = "not known" if self.value is None else f"{self.value:.6g}"
        if self.remembered is not None:
            value = f"{self.remembered:.6g}, given {value}: not tested"
        return f"{self.name} = {value} [{self.tag}]"


@dataclass(frozen=True)
class Claim:
    r"""One comparison ``left relation right``, or a fact that is seen or not: the base of hypotheses and conclusions.

    Attributes
    ----------
    words, latex : str
        The claim for a reader, and as mathematics.
    left, right : float or None
        Both sides; None for a claim that is no comparison of numbers, whose `fact` is then given.
    relation : str
        One of ``<=  <  >=  >  ==  ->``; with ``==`` the sides must agree within `error`, and `error` must be small beside them.
    tag : str
        Where the claim's constants come from, one of :data:`TAGS`.
    error : float
        Numerical error of left less right, on their scale (absolute, or in logarithms): closer than that nothing is decided. NaN and
        inf stand for an error of which no bound is known.
    logarithmic : bool
        Whether left and right are natural logarithms, of numbers that float64 need not hold.
    fact : bool or None
        For claims that are no comparison: whether it is so; None where that is not decided.
    note : str
        What else a reader should know: why it is undecided, what would decide.
    tested : bool
        Whether the verdict rests on it. Never for a recalled constant, nor for an unknown one that nobody gave.
    attained : bool
        Whether ``<=`` or ``>=`` is known to be attained, sides that agree within `error` then count as holding.
    scale : float or None
        What `error` must be small beside for sides that agree to be an equality; None takes the larger side (1 for logarithms). To be
        given where both sides may be 0.
    structural : bool
        Of a hypothesis: without it the conclusion has no meaning (another loss, one student), and is not evaluated.
    strengthening : bool
        Of a conclusion: it goes beyond what the statement promises, which may be verified without it.
    """

    words: str
    latex: str = ""
    left: float | None = None
    relation: str = "<="
    right: float | None = None
    tag: str = "published"
    error: float = 0.0
    logarithmic: bool = False
    fact: bool | None = None
    note: str = ""
    tested: bool = field(default=True)
    attained: bool = False
    scale: float | None = None
    structural: bool = False
    strengthening: bool = False

    def __post_init__(self) -> None:
        check_choice(self.tag, "tag", TAGS)
        check_choice(self.relation, "relation", _RELATIONS)
        if (self.left is None) != (self.right is None):
            raise ValueError(f"a comparison has both sides: left is {self.left!r}, right is {self.right!r}")
        if self.tag == "recalled" and self.tested:
            object.__setattr__(self, "tested", False)

    @property
    def margin(self) -> float:
        r"""How much room there is, at least 0 where the claim holds.

        In logarithms, :math:`\ln(right/left)` or its negative by the relation's direction, where both sides are positive (or given as
        logarithms); else as a plain difference. NaN for a claim that is no comparison.
        """
        if self.left is None or self.right is None:
            return math.nan
        left, right = self.left, self.right
        if not self.logarithmic and left > 0 and right > 0 and self.relation not in ("==", "->"):
            room = math.log(right) - math.log(left)
        elif left == right:  # infinities too
            room = 0.0
        else:
            room = right - left
        if self.relation in (">=", ">"):
            room = -room
        return (-abs(room) if self.relation in ("==", "->") else room) + 0.0  # no -0

    @property
    def vague(self) -> bool:
        """Whether the error is too large, or not known, for sides within it to count as equal: above :data:`VAGUE` of their size."""
        if not math.isfinite(self.error):
            return True
        size = self.scale
        if size is None:
            size = 1.0 if self.logarithmic else max(abs(self.left or 0.0), abs(self.right or 0.0))
        return self.error > VAGUE * size

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None where the numerical error, or a missing fact, leaves it open."""
        if self.left is None or self.right is None:
            return self.fact
        if math.isnan(self.left) or math.isnan(self.right) or math.isnan(self.error):
            return None
        left, right = self.left, self.right
        apart = 0.0 if left == right else abs(right - left)
        if self.relation in ("==", "->"):
            return False if apart > self.error else None if self.vague else True
        strict = self.relation in ("<", ">")
        if self.error > 0 and apart <= self.error:
            return True if self.attained and not strict and not self.vague else None
        if apart == 0.0:
            return not strict
        return (left < right) == (self.relation in ("<=", "<"))

    def opened(self, why: str) -> Claim:
        """The claim with nothing decided: its error has no bound, or its fact is not known."""
        note = f"{self.note}; {why}" if self.note else why
        return replace(self, fact=None, error=math.inf, note=note)

    @property
    def would_decide(self) -> str:
        """Why the claim is open, and what would decide; empty if it is decided."""
        if self.holds is not None:
            return ""
        if self.left is None or self.right is None:
            return self.note or "not decided: a longer run or a smaller tolerance would decide"
        if math.isnan(self.left) or math.isnan(self.right):
            return self.note or "a side could not be evaluated: a point or a run for which it can be would decide"
        note = f"{self.note}; " if self.note else ""
        if not math.isfinite(self.error):
            return f"{note}no bound on the numerical error is known: a rule that has one, such as op.Auto, would decide"
        apart = 0.0 if self.left == self.right else abs(self.right - self.left)
        near = f"the numerical error {self.error:.3g} " + (
            f"is above {VAGUE:.0%} of what is compared" if self.relation in ("==", "->") or self.attained
            else f"covers the difference {apart:.3g}")
        return f"{note}{near}: a smaller tolerance would decide"

    @property
    def comparison(self) -> str:
        """Both sides in figures, with the margin."""
        if self.left is None or self.right is None:
            return ""
        shown = (f"exp({side:.6g})" if self.logarithmic else f"{side:.6g}" for side in (self.left, self.right))
        text = f" {_RELATIONS[self.relation]} ".join(shown)
        margin = self.margin
        if self.relation in ("==", "->") or math.isnan(margin):
            return text + (f" within {self.error:.2g}" if self.relation in ("==", "->") else "")
        unit = " in logarithms" if self.logarithmic or (self.left > 0 and self.right > 0) else ""
        return f"{text} (margin {margin:+.4g}{unit})"

    @property
    def mark(self) -> str:
        """"yes", "no" or "open", or "not tested"."""
        if not self.tested:
            return "not tested"
        return {True: "yes", False: "no", None: "open"}[self.holds]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: infinities as text, None for what is no number."""
        return _plain({"words": self.words, "latex": self.latex, "left": self.left, "relation": self.relation, "right": self.right,
                       "logarithmic": self.logarithmic, "error": self.error, "margin": self.margin, "holds": self.holds,
                       "tested": self.tested, "attained": self.attained, "tag": self.tag, "note": self.note})


class Hypothesis(Claim):
    """What a statement supposes; see :class:`Claim`."""


class Conclusion(Claim):
    """What a statement promises; see :class:`Claim`."""


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
        reasons += [f"{one.words}: {_why_not_tested(one)}" for one in self.hypotheses if not one.tested]
        if broken:
            reasons.append(f"contradicted, unless what was not tested fails: {broken}")
        if self.never_verified and not self.open:
            reasons.insert(0, self.never_verified)
        tested = [one for one in self.conclusions if one.tested]
        if tested and self.missing and not self.never_verified:
            seen = [one.words for one in tested if one.holds]
            reasons += [f"seen: {', '.join(seen)}"] * bool(seen)
            reasons += [f"not tested: {one.words}: {_why_not_tested(one)}" for one in self.missing]
        if not tested and self.tag != "recalled":
            reasons.append("no run was given: only the hypotheses were looked at" if not self.conclusions else
                           "no conclusion could be tested")
            reasons += [f"{one.words}: {_why_not_tested(one)}" for one in self.conclusions]
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
        return _plain({"name": self.name, "title": self.title, "statement": self.statement, "source": self.source, "tag": self.tag,
                       "verdict": self.verdict, "given": self.given, "reason": self.reason, "conclusion_seen": self.conclusion_seen,
                       "hypotheses": [one.to_dict() for one in self.hypotheses],
                       "conclusions": [one.to_dict() for one in self.conclusions],
                       "constants": [{"name": one.name, "value": one.value, "tag": one.tag, "remembered": one.remembered}
                                     for one in self.constants],
                       "measured": self.measured, "confirmation": self.confirmation})

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Report({self.name}: {self.verdict})"

    def _repr_html_(self) -> str:
        colours = {"verified": "#2a7d2a", "vacuous": "#777777", "violated": "#b00020", "undecided": "#a66a00"}
        left = "style='text-align:left'"
        rows = []
        for kind, one in self._rows():
            formula = f" \\({one.latex}\\)" if one.latex else ""
            cells = (kind, one.mark, html.escape(one.words) + html.escape(formula), html.escape(one.comparison), one.tag,
                     html.escape(one.note))
            rows.append("<tr>" + "".join(f"<td {left}>{cell}</td>" for cell in cells) + "</tr>")
        extra = [one.shown for one in self.constants]
        extra += [f"{name}: {_shown(value)}" for name, value in self.measured.items()]
        extra += [f"confirmation: {self.confirmation}"] * bool(self.confirmation)
        below = f"<div>{html.escape('; '.join(extra))}</div>" if extra else ""
        given = f" ({html.escape(self.given)})" if self.given else ""
        return (f"<div><b>{html.escape(self.name)}</b>: <b style='color:{colours[self.verdict]}'>{self.verdict}</b>{given}<br>"
                f"{html.escape(self.title)}, {html.escape(self.source)} [{self.tag}]. {html.escape(self.statement)}<br>"
                f"<i>{html.escape(self.reason)}</i><table>{''.join(rows)}</table>{below}</div>")


def _why_not_tested(claim: Claim) -> str:
    if claim.tag == "recalled":
        return "its constant is recalled, so it is not tested" + (f" ({claim.note})" if claim.note else "")
    return claim.note or f"its constant is {claim.tag}, so it is not tested"


def _plain(value: Any) -> Any:
    """As JSON has it: no infinities (text) and no NaN (None), no NumPy numbers, no other objects (text)."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, (int, float, str, type(None))) else str(value)


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
