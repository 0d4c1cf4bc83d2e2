"""What a statement supposes and promises: comparisons with a margin, a numerical error, and a tag of where the constant comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from overparam._validation import check_choice

__all__ = ["TAGS", "VAGUE", "Claim", "Conclusion", "Constant", "Hypothesis", "plain", "why_not_tested"]

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

    Examples
    --------
    >>> from overparam.theory import Constant
    >>> Constant("C", 2.0, tag="recalled").value
    2.0
    """

    name: str
    value: float | Any  # or None: a statement knows which of its constants have one
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

    Examples
    --------
    >>> from overparam.theory import Claim
    >>> Claim("the loss falls", left=1.0, relation="<", right=1.1, tag="derived", error=0.01).holds
    True
    >>> print(Claim("too close to say", left=1.0, relation="<", right=1.1, tag="derived", error=0.2).holds)
    None
    """

    words: str
    latex: str = ""
    left: float | Any = None
    relation: str = "<="
    right: float | Any = None
    tag: str = "published"
    error: float = 0.0
    logarithmic: bool = False
    fact: bool | None = None
    note: str = ""
    tested: bool = True
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
        """Whether the error is too large, or not known, for sides within it to count as equal: above ``VAGUE`` of their size."""
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
        """The claim with nothing decided, and `why`: its error has no bound, or its fact is not known."""
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
        remedy = "" if "would decide" in self.note else ": a smaller tolerance would decide"  # a note may name another way
        return f"{note}{near}{remedy}"

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
        found: dict[str, Any]
        found = plain({"words": self.words, "latex": self.latex, "left": self.left, "relation": self.relation, "right": self.right,
                       "logarithmic": self.logarithmic, "error": self.error, "margin": self.margin, "holds": self.holds,
                       "tested": self.tested, "attained": self.attained, "tag": self.tag, "note": self.note})
        return found


class Hypothesis(Claim):
    """What a statement supposes; see :class:`Claim`.

    Examples
    --------
    >>> from overparam.theory import Hypothesis
    >>> Hypothesis("there are at least three students", "n", 2, ">=", 3, tag="published").holds
    False
    """


class Conclusion(Claim):
    """What a statement promises; see :class:`Claim`.

    Examples
    --------
    >>> from overparam.theory import Conclusion
    >>> Conclusion("the loss falls", "L", 1.0, "<", 1.1, tag="derived").holds
    True
    """


def why_not_tested(claim: Claim) -> str:
    """Why a claim that is shown does not count."""
    if claim.tag == "recalled":
        return "its constant is recalled, so it is not tested" + (f" ({claim.note})" if claim.note else "")
    return claim.note or f"its constant is {claim.tag}, so it is not tested"


def plain(value: Any) -> Any:
    """As JSON has it: no infinities (text) and no NaN (None), no NumPy numbers, no other objects (text)."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, (int, float, str, type(None))) else str(value)
