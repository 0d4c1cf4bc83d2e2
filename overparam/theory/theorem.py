"""Statements that can be checked: the base of all checkers, what they are given, and the list of them."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from overparam._validation import check_choice, check_positive, check_real
from overparam.objectives.base import Objective
from overparam.planning import Auto
from overparam.state import State
from overparam.theory.certainty import certain_claims, certain_run, guarded
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.trajectory import Trajectory
from overparam.verification import repeat

__all__ = ["NO_TOLERANCE", "Example", "Setting", "Theorem", "check", "confirmed", "finer", "get", "list_theorems", "register",
           "without_meaning"]

_FACTOR = 100.0  # by which a tolerance is divided to see whether a verdict stands


@dataclass(frozen=True, eq=False)
class Setting:
    """What a statement is checked on.

    Attributes
    ----------
    objective : Objective
    state : State
        The start, in the objective's reduced coordinates, whose origin is the target.
    step_size : float or None
        Of gradient descent; None where no run and no step size was given.
    run : Trajectory or None
        Its `loss_error` made a bound: inf where a sampled rule was at work (:func:`overparam.theory.certainty.certain_run`).

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.theory import Setting
    >>> setting = Setting.of(op.ScoreMatching(op.Gaussian([0.0, 0.0])), [[2.0, 0.0], [1.5, 0.0]], step_size=0.1)
    >>> setting.n, setting.d, setting.step_size
    (2, 2, 0.1)
    """

    objective: Any  # of the kind that the theorem's hypotheses ask for
    state: State
    step_size: float | Any = None  # not None where a conclusion is looked at, which mypy cannot know
    run: Trajectory | Any = None  # likewise

    @classmethod
    def of(cls, subject: Any, params0: Any = None, step_size: Any = None) -> Setting:
        """From a run as `subject`, or from an objective and a start, `params0`."""
        if isinstance(subject, Trajectory):
            if params0 is not None or step_size is not None:
                raise ValueError("a trajectory brings its own start and step size: leave params0 and step_size out")
            if subject.objective is None:
                held = ("what it learned was a data set, which is not in the file" if "DataSet" in str(subject.problem)
                        else "a user's own, from a file")
                raise ValueError(f"this trajectory has no objective ({held}): in Python, load it with op.load(path, objective=...)")
            step = subject.settings.get("step_size")
            return cls(subject.objective, subject.states[0], None if step is None else float(step), certain_run(subject))
        if not isinstance(subject, Objective):
            raise ValueError(f"check needs a trajectory, or an objective and a start: check(name, obj, params0); got {subject!r}"[:300])
        if params0 is None:
            raise ValueError("check needs a start beside the objective: check(name, obj, params0, step_size=...)")
        step = None if step_size is None else check_positive(step_size, "step_size")
        return cls(subject, subject.start(params0), step)

    @property
    def n(self) -> int:
        """Number of students."""
        return self.state.n

    @property
    def d(self) -> int:
        """Dimension."""
        return self.state.d

    @property
    def weights(self) -> np.ndarray:
        """(n,) mixture weights."""
        weights = self.objective.weights
        return np.full(self.n, 1 / self.n) if weights is None else weights

    @property
    def equal_weights(self) -> bool:
        """Whether all weights are the same."""
        return self.objective.weights is None or bool(np.ptp(self.objective.weights) == 0)

    @property
    def single_teacher(self) -> bool:
        """Whether the target is one Gaussian."""
        means = getattr(getattr(self.objective, "teacher", None), "means", None)
        return means is not None and len(means) == 1

    @property
    def distances(self) -> np.ndarray:
        r"""(n,) distances :math:`\|\mu_i-\mu^*\|` of the start from the target, small deviations around a far centre rounded."""
        found: np.ndarray = np.linalg.norm(self.state.coordinates, axis=1)
        return found


@dataclass(frozen=True)
class Example:
    """A built-in example of a verdict.

    Attributes
    ----------
    verdict : str
        What is expected.
    make : callable
        Returns the arguments of :func:`check` after the name, as a dict.
    words : str
        What the example is.

    Examples
    --------
    >>> import overparam as op
    >>> examples = op.theory.get("zhang2025.theorem_3_2").examples()
    >>> name, example = next(iter(examples.items()))
    >>> op.theory.check("zhang2025.theorem_3_2", **example.make()).verdict == example.verdict
    True
    """

    verdict: str
    make: Callable[[], Mapping[str, Any]] = field(repr=False)
    words: str = ""


class Theorem(ABC):
    """Base of all checkers; derive from it for a statement of your own, and :func:`overparam.theory.register` it.

    A subclass sets the class attributes and implements :meth:`hypotheses` and :meth:`conclusions`. Statements about points rather than
    runs overload :meth:`check` instead.

    Attributes
    ----------
    name, title, source, statement, latex : str
        "paper.statement", the statement's name in the paper, where it stands, and what it says in words and as mathematics.
    tag : str
        Where the statement comes from: see :data:`overparam.theory.claims.TAGS`.
    constants : tuple of Constant
        Constants that the paper leaves open, with a value where there is one; ``check(..., C=2.0)`` gives them.
    needs_run : bool
        Whether the conclusions are about a run; else they are about the start alone.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.theory import Conclusion, Hypothesis, Theorem
    >>> class Falls(Theorem):
    ...     name, title, source, tag = "doctest.falls", "Descent", "this docstring", "derived"
    ...     statement = "With a step size of at most 0.1 the loss falls."
    ...     def hypotheses(self, setting, constants):
    ...         return [Hypothesis("the step size is small", r"\\eta", setting.step_size, "<=", 0.1, tag="derived")]
    ...     def conclusions(self, setting, constants):
    ...         loss, error = setting.run.loss, setting.run.loss_error
    ...         return [Conclusion("the loss falls", "L", loss[-1], "<", loss[0], tag="derived", error=error[0] + error[-1])]
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.gradient_descent(obj, [[2.0], [1.5]], step_size=0.1, steps=100)
    >>> Falls().check(traj).verdict
    'verified'
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    statement: ClassVar[str]
    latex: ClassVar[str] = ""
    tag: ClassVar[str] = "published"
    constants: ClassVar[tuple[Constant, ...]] = ()
    needs_run: ClassVar[bool] = True

    @abstractmethod
    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        """What the statement supposes, compared at the start (and the step size) of `setting`."""

    @abstractmethod
    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        """What the statement promises, compared with the run of `setting`, which is not None."""

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        """Further numbers worth knowing."""
        return {}

    def examples(self) -> dict[str, Example]:
        """Built-in examples by name, at least one for each verdict that can occur."""
        return {}

    def given(self, values: Mapping[str, Any]) -> dict[str, Constant]:
        """The constants by name, with the user's `values` put in."""
        known = {one.name: one for one in self.constants}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{self.name} has no constant {key!r}.{hint} Its open constants: {', '.join(known) or 'none'}")
            value, before = check_real(value, key, minimum=0.0), known[key]
            recalled = before.tag == "recalled"  # and stays so: what nobody can look up is not tested, whatever is put in its place
            known[key] = Constant(key, value, "recalled", before.value) if recalled else Constant(key, value, "given")
        return known

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check the statement on `subject`, from `params0` if that is an objective; `confirm` and the rest are those of :func:`check`."""
        known = self.given(constants)
        setting = Setting.of(subject, params0, step_size)
        report = self._report(setting, known)
        if confirm and setting.run is not None and report.verdict in ("verified", "violated"):
            report = self._confirmed(report, setting, known)
        return report

    def _report(self, setting: Setting, constants: Mapping[str, Constant]) -> Report:
        supposed, obstacle = guarded(lambda: tuple(self.hypotheses(setting, constants)), ())
        if obstacle or (self.needs_run and setting.run is None):
            return self._found(constants, supposed, obstacle=obstacle)
        skipped = without_meaning(supposed)
        if skipped:
            return self._found(constants, supposed, skipped=skipped)
        seen: Any
        seen, obstacle = guarded(lambda: certain_claims(self.conclusions(setting, constants), setting.run), ())
        measured, unmeasured = guarded(lambda: self.measured(setting, constants), {})
        if unmeasured and not obstacle:
            measured = {"further numbers": unmeasured}
        report = self._found(constants, supposed, seen, measured, obstacle=obstacle)
        return replace(report, obstacle="", skipped=obstacle) if obstacle and report.failed else report

    def _found(self, constants: Mapping[str, Constant], hypotheses: tuple[Hypothesis, ...], conclusions: tuple[Conclusion, ...] = (),
               measured: Mapping[str, Any] | None = None, **more: str) -> Report:
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, conclusions, tuple(constants.values()),
                      dict(measured or {}), **more)

    def _confirmed(self, report: Report, setting: Setting, constants: Mapping[str, Constant]) -> Report:
        """The report, unless a repetition at a hundredth of the tolerance turns the verdict."""
        if not isinstance(getattr(setting.objective, "rule", None), Auto):
            return replace(report, confirmation=NO_TOLERANCE)
        try:
            again = repeat(setting.run, _FACTOR)
        except ValueError as error:
            return replace(report, confirmation=f"no: the run cannot be repeated ({error}): the claims' own errors decide")
        return confirmed(report, self._report(Setting.of(again), constants), "this run")

    def __repr__(self) -> str:
        return f"<{self.name}: {self.title}>"


def finer(objective: Any) -> Any:
    """The objective at a hundredth of its tolerance; None where its rule has none."""
    rule = getattr(objective, "rule", None)
    if not isinstance(rule, Auto):
        return None
    return objective.with_rule(Auto(**{**rule.settings(), "tol": max(rule.tol / _FACTOR, 1e-14)}))


def without_meaning(hypotheses: Sequence[Hypothesis]) -> str:
    """Why the conclusion is not to be looked at: the structural hypotheses that fail; empty if none does."""
    gone = [one.words for one in hypotheses if one.structural and one.tested and one.holds is False]
    return f"it has no meaning unless {' and '.join(gone)}" if gone else ""


def confirmed(report: Report, other: Report, what: str) -> Report:
    """A report beside the one of the same statement at a hundredth of the tolerance."""
    if other.verdict == report.verdict:
        return replace(report, confirmation="yes: the same verdict at a hundredth of the tolerance")
    if other.obstacle:
        return replace(report, confirmation=f"no: at a hundredth of the tolerance it {other.obstacle}; the claims' own errors decide")
    return replace(report, unstable=f"the verdict is {report.verdict!r} for {what} and {other.verdict!r} for its repetition at a "
                                    "hundredth of the tolerance: a smaller tolerance would decide")


#: Why a verdict was not confirmed under a rule that has no tolerance.
NO_TOLERANCE = "no: the objective's rule has no tolerance to divide, so the claims' own errors decide"

_THEOREMS: dict[str, Theorem] = {}


def register(theorem: Any) -> Any:
    """Enter a checker in the list that :func:`check` knows: a class, which this then decorates, or an instance.

    Parameters
    ----------
    theorem : subclass of Theorem, or an instance of one
        An instance for a family of statements that differ in numbers.

    Returns
    -------
    same as `theorem`

    Raises
    ------
    ValueError
        If it is no :class:`Theorem`, the name is taken, or an attribute is missing.

    Examples
    --------
    >>> import overparam as op
    >>> @op.theory.register
    ... class Few(op.theory.Theorem):
    ...     name, title, source, statement = "doctest.few", "Few", "this docstring", "There are at most nine students."
    ...     needs_run = False
    ...     def hypotheses(self, setting, constants):
    ...         return []
    ...     def conclusions(self, setting, constants):
    ...         return [op.theory.Conclusion("few students", "n", setting.n, "<=", 9, tag="derived")]
    >>> "doctest.few" in op.theory.list()
    True
    >>> op.theory.check("doctest.few", op.ScoreMatching(op.Gaussian([0.0])), [[2.0], [1.5]]).conclusions[0].holds
    True
    """
    kind = theorem if isinstance(theorem, type) else type(theorem)
    if not issubclass(kind, Theorem):
        raise ValueError(f"register needs a subclass of op.theory.Theorem or an instance of one; got {theorem!r}"[:300])
    missing = [name for name in ("name", "title", "source", "statement") if not getattr(theorem, name, "")]
    if missing:
        raise ValueError(f"{kind.__name__} needs {', '.join(missing)}")
    if theorem.name in _THEOREMS:
        raise ValueError(f"name {theorem.name!r} is taken by another theorem")
    _THEOREMS[theorem.name] = theorem() if isinstance(theorem, type) else theorem
    return theorem


def list_theorems() -> list[str]:
    """Return the names of all statements that can be checked, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import overparam as op
    >>> "zhang2025.theorem_3_5" in op.theory.list()
    True
    """
    return sorted(_THEOREMS)


def get(name: str) -> Theorem:
    """Return a checker by name.

    Parameters
    ----------
    name : str
        One of ``op.theory.list()``.

    Returns
    -------
    Theorem

    Raises
    ------
    ValueError
        If there is none; the message has the nearest name.

    Examples
    --------
    >>> import overparam as op
    >>> op.theory.get("zhang2025.theorem_3_5").tag
    'published'
    """
    return _THEOREMS[check_choice(name, "theorem", _THEOREMS)]


def check(name: str, subject: Any = None, params0: Any = None, *, step_size: float | None = None, confirm: bool = True,
          **constants: float) -> Report:
    """Check a published statement against a run, or its hypotheses against a start.

    Parameters
    ----------
    name : str
        One of ``op.theory.list()``.
    subject : Trajectory or Objective, optional
        A run; or an objective, with its start as `params0`, for the hypotheses alone. Lemmas about points may be called without: they
        bring their own samples.
    params0 : (n, d) array or State, optional
    step_size : float, optional
        For hypotheses about it.
    confirm : bool
        Repeat the run at a hundredth of its tolerance (points are evaluated again), and call the verdict ``undecided`` if it changes.
        The default; it costs a run. ``report.confirmation`` says what came of it; under a fixed rule, which has no tolerance, the
        claims' own errors decide.
    **constants
        Constants that the paper leaves open, by name; not negative. One that is recalled stays so, and is not tested.

    Returns
    -------
    Report
        With ``.verdict`` (verified, vacuous, violated, undecided), ``.reason``, hypotheses and conclusions with their margins and tags.

    Raises
    ------
    ValueError
        If the name or a constant is not known, or the statement is not about such a subject. A point or a run outside a statement's
        domain is no error but a report, ``vacuous`` or ``undecided``.

    Examples
    --------
    >>> import overparam as op
    >>> flow = op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), op.init.cluster(2, [2.0], 1e-9, rng=0), step_size=0.01, steps=100)
    >>> report = op.theory.check("zhang2025.theorem_3_2", flow)
    >>> report.verdict, len(report.hypotheses) > 0
    ('vacuous', True)
    """
    return get(name).check(subject, params0, step_size=step_size, confirm=confirm, **constants)
