"""How far from sharp a theorem's condition is: the value at which its conclusion really fails, by bisection on runs.

    op.theory.sharpness("zhang2025.theorem_3_2", n=2, M0=3.0)             # how much larger the initial spread may be
    op.theory.sharpness("zhang2025.theorem_3_5", n=3)                     # how much smaller M0 may be
    op.theory.sharpness("zhang2025.theorem_2_1", vary="step_size", n=3)   # a second condition of the same theorem
"""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from overparam._validation import check_choice, check_integer, check_positive
from overparam.drivers.loop import check_progress

__all__ = ["EDGES", "Edge", "Probe", "Sharpness", "register_edge", "sharpness"]

_NEAR = 5  # values tried around an undecided guess


@dataclass(frozen=True)
class Probe:
    """One value that was tried.

    Attributes
    ----------
    value : float
        The condition's quantity there, as natural logarithm (a noise time as it is).
    holds : bool or None
        Whether the conclusion was seen; None where that stayed open.
    words : str
        What was seen.
    """

    value: float
    holds: bool | None
    words: str


class Edge(ABC):
    """A condition of a theorem that is pushed until the conclusion fails; derive from it and :func:`register_edge`.

    Attributes
    ----------
    name, vary : str
        The theorem, and the condition's short name.
    quantity, latex : str
        What is varied, in words and as mathematics.
    rises : bool
        Whether the conclusion fails above a threshold (else below one).
    tag, tag_words : str
        Where the published threshold comes from (see :data:`overparam.theory.TAGS`), and what it is.
    defaults : dict
        The problem: names with default values.
    first : bool
        Whether it is the one that ``vary=None`` stands for.
    step : float
        First step of the search away from the guess.
    limits : (float, float)
        Values beyond which nothing is tried.
    resolution : float
        Width of the interval to end at.
    splits : tuple of float
        Where an interval is tried, until one of these values is decided.
    """

    name: ClassVar[str]
    vary: ClassVar[str]
    quantity: ClassVar[str]
    latex: ClassVar[str]
    rises: ClassVar[bool]
    tag: ClassVar[str]
    tag_words: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]]
    first: ClassVar[bool] = True
    step: ClassVar[float] = 1.0
    resolution: ClassVar[float] = 0.05
    limits: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    splits: ClassVar[tuple[float, ...]] = (0.5, 0.3, 0.7, 0.4, 0.6)

    def checked(self, problem: Mapping[str, Any]) -> dict[str, Any]:
        """The problem, complete and converted; ValueError for what is not known or not allowed."""
        for key in problem:
            check_choice(key, f"setting of {self.name}, vary={self.vary!r}:", self.defaults)
        whole = {**self.defaults, **problem}
        whole_numbers = {key for key, value in self.defaults.items() if isinstance(value, int)}
        return {key: check_integer(value, key, minimum=self.least(key)) if key in whole_numbers else check_positive(value, key)
                for key, value in whole.items()}

    def least(self, key: str) -> int:
        """Smallest whole number allowed."""
        return {"n": 2, "d": 1, "samples": 2}.get(key, 0)

    @abstractmethod
    def published(self, problem: Mapping[str, Any]) -> float:
        """The published threshold; an infinity where it is one."""

    @abstractmethod
    def guess(self, problem: Mapping[str, Any]) -> float:
        """Where the search begins."""

    @abstractmethod
    def probe(self, problem: Mapping[str, Any], value: float) -> Probe:
        """Try one value."""

    def derived(self, problem: Mapping[str, Any]) -> float | None:
        """What the derived laws expect, if they say something."""
        return None


#: All conditions by theorem and short name.
EDGES: dict[tuple[str, str], Edge] = {}


def register_edge(edge: type[Edge]) -> type[Edge]:
    """Class decorator: make a condition known to :func:`sharpness`."""
    EDGES[edge.name, edge.vary] = edge()
    return edge


@dataclass(frozen=True, eq=False)
class Sharpness:
    """What :func:`sharpness` found.

    Attributes
    ----------
    name, vary, quantity, latex, rises, tag, tag_words
        As in ``Edge``.
    problem : dict
    published : float
        The published threshold, a natural logarithm (a noise time as it is).
    holds, fails : float or None
        The last value at which the conclusion was seen, and the first at which it failed, of those tried: the threshold lies between
        them, as far as the runs tell. None where the limits of the search were reached.
    derived : float or None
        What the derived laws expect.
    probes : tuple of Probe
        Everything that was tried, in order.
    at_published : Probe or None
        The run at the published threshold itself; None where there is none.
    stopped : str
        Why the interval is wider than asked for; empty if it is not.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.theory.sharpness("zhang2025.theorem_3_2", n=2, M0=2.0, resolution=0.5)
    >>> found.vary, len(found.probes) > 0
    ('spread', True)
    >>> min(found.holds, found.fails) <= found.measured <= max(found.holds, found.fails)
    True
    """

    name: str
    vary: str
    quantity: str
    latex: str
    rises: bool
    tag: str
    tag_words: str
    problem: dict[str, Any]
    published: float
    holds: float | None
    fails: float | None
    derived: float | Any  # or None
    probes: tuple[Probe, ...]
    at_published: Probe | None
    stopped: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The two ends in ascending order; None if one is missing."""
        if self.holds is None or self.fails is None:
            return None
        return min(self.holds, self.fails), max(self.holds, self.fails)

    @property
    def measured(self) -> float | Any:
        """Middle of the interval."""
        ends = self.interval
        return None if ends is None else (ends[0] + ends[1]) / 2

    @property
    def nats(self) -> float | None:
        """Room between the published threshold and the measured one, in nats: how much weaker the condition might be."""
        measured = self.measured
        return None if measured is None else (measured - self.published) * (1 if self.rises else -1)

    @property
    def undecided(self) -> int:
        """Number of values whose outcome stayed open."""
        return sum(one.holds is None for one in self.probes)

    def text(self) -> str:
        """A few lines for a terminal."""
        given = ", ".join(f"{key}={value:g}" for key, value in self.problem.items())
        side = "above" if self.rises else "below"
        lines = [f"{self.name}, {self.quantity} ({given})",
                 f"  published threshold  {self.published:.6g} [{self.tag}: {self.tag_words}]"]
        if self.at_published is not None:
            seen = {True: "seen", False: "not seen", None: "open"}[self.at_published.holds]
            lines.append(f"    a run there: the conclusion is {seen}; {self.at_published.words}")
        if self.interval is None:
            lines.append(f"  measured threshold   not found: {self.stopped}")
        else:
            low, high = self.interval
            lines.append(f"  measured threshold   {low:.6g} to {high:.6g} [derived: by runs]; the conclusion fails {side} it")
            lines.append(f"  room                 {self.nats:.6g} nats")
        if self.derived is not None:
            lines.append(f"  expected             {self.derived:.6g} [derived]")
        lines.append(f"  runs                 {len(self.probes)} values tried, {self.undecided} undecided"
                     + (f"; {self.stopped}" if self.stopped and self.interval is not None else ""))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; infinities as text."""
        def plain(value: float | None) -> Any:
            return value if value is None or math.isfinite(value) else str(value)

        return {"name": self.name, "vary": self.vary, "quantity": self.quantity, "rises": self.rises, "tag": self.tag,
                "tag_words": self.tag_words, "problem": dict(self.problem), "published": plain(self.published), "holds": self.holds,
                "fails": self.fails, "measured": self.measured, "nats": None if self.nats is None else plain(self.nats),
                "derived": self.derived, "stopped": self.stopped,
                "probes": [{"value": one.value, "holds": one.holds, "words": one.words} for one in self.probes],
                "at_published": None if self.at_published is None else self.at_published.holds}

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Sharpness({self.name}, {self.vary}: {self.interval})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"


def sharpness(name: str, *, vary: str | None = None, resolution: float | None = None, max_runs: int = 40, progress: bool | None = None,
              **problem: Any) -> Sharpness:
    """Measure how much weaker a theorem's condition may be before its conclusion fails.

    From a guess on, values are tried (each one a run, or a sample of runs) until the conclusion holds at one and fails at another; the
    interval between them is then bisected. A value whose outcome stays open moves neither end: others beside it are tried.

    Parameters
    ----------
    name : str
        A theorem with such a condition: zhang2025.theorem_2_1, theorem_3_2, theorem_3_4, theorem_3_5, corollary_3_6, theorem_3_7.
    vary : str, optional
        Which condition, where there are several: "noise_time" or "step_size" for Theorem 2.1, "spread" or "weights" for 3.2. None takes
        the first.
    resolution : float, optional
        Width of the interval to end at, in nats. None takes the condition's own: 0.05, or 0.2 for Corollary 3.6.
    max_runs : int
        Values tried at most.
    progress : bool, optional
        As in the drivers.
    **problem
        Such as n, d and M0; the condition's ``defaults`` are the rest.

    Returns
    -------
    Sharpness
        Published threshold, measured interval, room in nats, all that was tried.

    Raises
    ------
    ValueError
        If the theorem, the condition or a setting is not known.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.theory.sharpness("zhang2025.theorem_3_2", n=2, M0=2.0, resolution=0.5)
    >>> found.published < -1700, -2 < found.measured < 0          # e^-1701 is asked for, e^-1.2 would do
    (True, True)
    """
    edge = _edge(name, vary)
    whole = edge.checked(problem)
    width = edge.resolution if resolution is None else check_positive(resolution, "resolution")
    most = check_integer(max_runs, "max_runs", minimum=2)
    check_progress(progress)
    from overparam._progress import tqdm

    with tqdm(total=None, desc=f"{name} {edge.vary}", delay=2.0, leave=False, disable=None if progress is None else not progress) as bar:
        def attempt(value: float) -> Probe:
            found = edge.probe(whole, value)
            bar.update()
            return found

        probes, holds, fails, stopped = _bisect(edge, whole, attempt, width, most)
        published = edge.published(whole)
        there = attempt(published) if math.isfinite(published) else None
    return Sharpness(name, edge.vary, edge.quantity, edge.latex, edge.rises, edge.tag, edge.tag_words, whole, published, holds, fails,
                     edge.derived(whole), tuple(probes), there, stopped)


def _edge(name: str, vary: str | None) -> Edge:
    check_choice(name, "theorem", sorted({theorem for theorem, _ in EDGES}))
    mine = {one: edge for (theorem, one), edge in EDGES.items() if theorem == name}
    if vary is None:
        return next(edge for edge in mine.values() if edge.first)
    return mine[check_choice(vary, "vary", mine)]


def _bisect(edge: Edge, problem: Mapping[str, Any], attempt: Callable[[float], Probe], width: float,
            most: int) -> tuple[list[Probe], float | None, float | None, str]:
    """All probes, the last value that holds, the first that fails, and why it ended early."""
    probes: list[Probe] = []

    def outcome(value: float) -> bool | None:
        probes.append(attempt(value))
        return probes[-1].holds

    ends: dict[bool, float | Any] = {True: None, False: None}  # None until one is found
    towards_failure = 1.0 if edge.rises else -1.0
    value, step = edge.guess(problem), edge.step
    first = outcome(value)
    while first is None and len(probes) < most and len(probes) < _NEAR:  # beside an open guess
        first = outcome(value + edge.step * (len(probes) // 2 + 1) * (-1) ** len(probes) / 2)
    if first is None:
        return probes, None, None, "nothing near the guess could be decided"
    ends[first] = value = probes[-1].value
    direction = towards_failure if first else -towards_failure
    while ends[not first] is None:
        if len(probes) >= most:
            return probes, ends[True], ends[False], f"{most} values were tried"
        low, high = edge.limits
        if not low < value < high:
            return probes, ends[True], ends[False], f"the conclusion {'still holds' if first else 'still fails'} at the limit {value:.4g}"
        value = min(max(value + direction * step, low), high)
        seen = outcome(value)
        if seen is not None:
            ends[seen] = value
        step *= 2
    while abs(ends[True] - ends[False]) > width:
        for share in edge.splits:
            if len(probes) >= most:
                return probes, ends[True], ends[False], f"{most} values were tried"
            value = ends[True] + share * (ends[False] - ends[True])
            seen = outcome(value)
            if seen is not None:
                ends[seen] = value
                break
        else:
            return probes, ends[True], ends[False], "the values in between stay undecided"
    return probes, ends[True], ends[False], ""
