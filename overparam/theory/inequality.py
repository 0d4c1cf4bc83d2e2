"""Lemmas about points, "left <= C right wherever ...": the base of their checkers, also where C is not known."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from overparam.state import State
from overparam.theory import trends
from overparam.theory.certainty import guarded
from overparam.theory.report import Claim, Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import NO_TOLERANCE, Example, Setting, Theorem, confirmed, finer, without_meaning

__all__ = ["Bound", "Inequality"]

_ORDER = {False: 0, None: 1, True: 2}  # of comparisons, the worst first


@dataclass(frozen=True)
class Bound:
    """One inequality ``left relation C right`` of a lemma.

    Attributes
    ----------
    words, latex : str
        For the reader.
    relation : str
        ``<=``, ``>=``, or ``==`` for sides that agree within their error; no unknown constant goes with ``==``.
    constant : str
        Name of the lemma's constant C; empty for C = 1.
    tag : str
        Where the bound comes from; the constant's own tag is used where there is one.
    logarithmic : bool
        Whether the sides are natural logarithms.
    attained : bool
        Whether the sides of ``<=`` or ``>=`` may be equal: they then hold within their error (:class:`~overparam.theory.Claim`).
    """

    words: str
    latex: str = ""
    relation: str = "<="
    constant: str = ""
    tag: str = "published"
    logarithmic: bool = False
    attained: bool = False


class Inequality(Theorem):
    r"""Base of lemmas that bound one number by another, up to a constant, at all points of a domain.

    A subclass sets the attributes of :class:`~overparam.theory.theorem.Theorem` and implements :meth:`sample` and :meth:`sides`; for
    a given objective and start also :meth:`point`, and :meth:`hypotheses_at` if the domain is a part of the space.

    * *C known, or given by the user*: both sides are compared at `samples` points of random scale, at as many held-out ones, and at
      `shapes` points on each of the `scales`; the claim shown is the one with the least room.
    * *C unknown*: what comes out is the smallest C of a training sample. Whether there is a C at all is tested where it can fail:
      on a held-out sample, which may exceed the training maximum by the slack of :func:`overparam.theory.trends.slack` and no more,
      and along the family of scales, where the largest ratio of the sides must not grow like a power towards the ends named in
      `limits` (:func:`overparam.theory.trends.levels_off`). No sample proves a lemma: the report is never ``verified``.

    Attributes
    ----------
    bounds : tuple of Bound
        Empty: one bound, with the statement's words, `relation`, `logarithmic`, and the first of `constants` as its C.
    relation, logarithmic
        Of that one bound.
    scales : tuple of float
        The family of scales, rising.
    limits : tuple of str
        Towards which ends of the family the lemma is claimed without end: of ``"small"`` and ``"large"``.
    samples, shapes, seed : int
        Sizes of the samples and of each scale's part of the family, and the seed of all.
    records : int
        At most so many records of a run are looked at, its first and its last among them.

    Examples
    --------
    >>> import math
    >>> from overparam.theory import Constant
    >>> from overparam.theory.inequality import Inequality
    >>> class Cosine(Inequality):
    ...     name, title, source, tag = "doctest.cosine", "Cosine", "this docstring", "derived"
    ...     statement = "1 - cos x is at most C x^2."
    ...     constants = (Constant("C", None, "unknown"),)
    ...     scales, limits = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0), ("small", "large")
    ...     def sample(self, rng, scale):
    ...         return scale * rng.standard_normal()
    ...     def sides(self, x):
    ...         return 2 * math.sin(x / 2)**2, x**2, 1e-15 * x**2
    >>> report = Cosine().check()
    >>> report.verdict, round(report.measured["smallest C"], 4), report.conclusion_seen
    ('undecided', 0.5, True)
    >>> Cosine().check(C=0.5001).verdict, Cosine().check(C=0.4).verdict
    ('verified', 'violated')
    """

    bounds: ClassVar[tuple[Bound, ...]] = ()
    relation: ClassVar[str] = "<="
    logarithmic: ClassVar[bool] = False
    scales: ClassVar[tuple[float, ...]] = (1.0,)
    limits: ClassVar[tuple[str, ...]] = ()
    samples: ClassVar[int] = 100
    shapes: ClassVar[int] = 10
    seed: ClassVar[int] = 0
    records: ClassVar[int] = 20

    # --- what a lemma gives ------------------------------------------------------------------------------------------

    @abstractmethod
    def sample(self, rng: np.random.Generator, scale: float) -> Any:
        """A random point of the domain, of this size; the same draws at another scale must be the same point, scaled."""

    @abstractmethod
    def sides(self, point: Any) -> tuple[float, ...] | Sequence[tuple[float, ...]]:
        """``(left, right, error)`` at a point, right without C; of several `bounds` a list of them.

        `error` is the numerical error of left less C right, on their scale: absolute, or in logarithms for a logarithmic bound. For
        equalities whose sides may both be 0 a fourth number follows, the size beside which the error must be small.
        """

    def point(self, setting: Setting, state: State) -> Any:
        """The point that a state of a user's objective stands for; ValueError (the default) if the lemma is not about one."""
        raise ValueError(f"{self.name} is not about an objective's parameters: check it without a subject, on its own samples")

    def supposes(self, setting: Setting) -> list[Hypothesis]:
        """What the lemma supposes of a user's objective itself, before any point of it is looked at; structural where it has no meaning
        otherwise.
        """
        return []

    def hypotheses_at(self, point: Any) -> list[Hypothesis]:
        """What the lemma supposes of a point; sampled points where it fails are left out."""
        return []

    def further(self, families: Sequence[np.ndarray]) -> dict[str, Any]:
        """Further numbers worth knowing, from the (bounds, points, 4) sides, errors and sizes on each of the `scales`."""
        return {}

    # --- the checker -------------------------------------------------------------------------------------------------

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        """:meth:`hypotheses_at` at the points of `setting`, the worst of each."""
        return self._hypotheses(self._points(setting))

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        """The bounds at the points of `setting`."""
        return self._at_points(self._points(setting), constants)[0]

    def examples(self) -> dict[str, Example]:
        """The lemma's own samples."""
        known = all(one.value is not None and one.tag != "recalled" for one in self.constants)
        return {"own samples": Example("verified" if known else "undecided", dict, "points that the lemma draws itself")}

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check the lemma on its own samples, at a start, or at records of a run: see :func:`overparam.theory.check`."""
        known = self.given(constants)
        if subject is None:
            if params0 is not None or step_size is not None:
                raise ValueError("params0 and step_size go with an objective: check(name, obj, params0); without one the lemma draws "
                                 "its own points")
            (hypotheses, conclusions, measured), obstacle = guarded(lambda: self._at_samples(known), ([], [], {}))
        else:
            setting = Setting.of(subject, params0, step_size)
            if type(self).point is Inequality.point:
                self.point(setting, setting.state)  # which says that the lemma is about something else
            report = self._at_setting(setting, known)
            if not confirm or report.verdict not in ("verified", "violated"):
                return report
            again = finer(setting.objective)
            if again is None:
                return replace(report, confirmation=NO_TOLERANCE)
            return confirmed(report, self._at_setting(replace(setting, objective=again), known), "these points")
        return self._judged(known, hypotheses, conclusions, measured, obstacle=obstacle)

    def _at_setting(self, setting: Setting, known: Mapping[str, Constant]) -> Report:
        """The report on a start, or on the records of a run."""
        supposed = self.supposes(setting)
        skipped = without_meaning(supposed)
        if skipped:
            return self._judged(known, supposed, skipped=skipped)
        points, obstacle = guarded(lambda: self._points(setting), [])
        hypotheses, further = guarded(lambda: self._hypotheses(points), [])
        if obstacle or further:
            return self._judged(known, hypotheses, obstacle=obstacle or further)
        skipped = without_meaning(hypotheses)
        if skipped:
            return self._judged(known, hypotheses, skipped=skipped)
        (conclusions, measured), obstacle = guarded(lambda: self._at_points(points, known), ([], {}))
        report = self._judged(known, hypotheses, conclusions, measured, obstacle=obstacle)
        return replace(report, obstacle="", skipped=obstacle) if obstacle and report.failed else report

    def _judged(self, known: Mapping[str, Constant], hypotheses: Sequence[Hypothesis], conclusions: Sequence[Conclusion] = (),
                measured: Mapping[str, Any] | None = None, **more: str) -> Report:
        unknown = sorted({one.constant for one in self._bounds() if one.constant and known[one.constant].value is None})
        never = f"no sample proves that there is a constant {', '.join(unknown)}: the smallest that serves is shown" if unknown else ""
        return self._found(known, tuple(hypotheses), tuple(conclusions), measured, never_verified=never, **more)

    def _bounds(self) -> tuple[Bound, ...]:
        name = self.constants[0].name if self.constants else ""
        return self.bounds or (Bound(self.statement.rstrip("."), self.latex, self.relation, name, self.tag, self.logarithmic),)

    def _points(self, setting: Setting) -> list[Any]:
        if setting.run is None:
            return [self.point(setting, setting.state)]
        last = len(setting.run.states) - 1
        places = np.unique(np.linspace(0, last, min(last + 1, self.records)).round().astype(int))
        return [self.point(setting, setting.run.states[place]) for place in places]

    def _hypotheses(self, points: list[Any]) -> list[Hypothesis]:
        columns = zip(*(self.hypotheses_at(point) for point in points), strict=True)
        return [min(column, key=_room) for column in columns]

    def _inside(self, points: list[Any]) -> list[Any]:
        return [point for point in points if all(one.holds for one in self.hypotheses_at(point))]

    def _sides(self, points: list[Any]) -> np.ndarray:
        """(bounds, points, 4) left, right, error and scale; NaN for a scale that is not given."""
        found = np.full((len(self._bounds()), len(points), 4), np.nan)
        for place, point in enumerate(points):
            sides = self.sides(point)
            rows: Any = [sides] if np.ndim(sides[0]) == 0 else sides
            for row, values in enumerate(rows):
                found[row, place, :len(values)] = values
        return found

    # --- given points ------------------------------------------------------------------------------------------------

    def _at_points(self, points: list[Any], constants: Mapping[str, Constant]) -> tuple[list[Conclusion], dict[str, Any]]:
        conclusions: list[Conclusion] = []
        measured: dict[str, Any] = {}
        for bound, sides in zip(self._bounds(), self._sides(points), strict=True):
            constant = constants.get(bound.constant)
            if constant is None or constant.value is not None:
                conclusions.append(_worst(bound, constant, sides))
                _needed(bound, constant, sides, measured)
            else:
                conclusions.append(_smallest(bound, constant, sides, measured))
        return conclusions, measured

    # --- own samples -------------------------------------------------------------------------------------------------

    def _at_samples(self, constants: Mapping[str, Constant]) -> tuple[list[Hypothesis], list[Conclusion], dict[str, Any]]:
        low, high = math.log(self.scales[0]), math.log(self.scales[-1])

        def draw(stage: int) -> list[Any]:
            rngs = [np.random.default_rng([self.seed, stage, one]) for one in range(self.samples)]
            return self._inside([self.sample(rng, math.exp(rng.uniform(low, high))) for rng in rngs])

        def family(scale: float) -> list[Any]:  # the same draws at every scale: what differs is the scale
            return self._inside([self.sample(np.random.default_rng([self.seed, 2, one]), scale) for one in range(self.shapes)])

        training, held = draw(0), draw(1)
        families = [family(scale) for scale in self.scales]
        if len(training) < 2 or len(held) < 2 or not all(families):
            raise RuntimeError(f"{self.name}: sample() draws too few points for which the hypotheses hold")
        hypotheses = self._hypotheses([*training, *held, *(point for one in families for point in one)])
        trained, tested, along = self._sides(training), self._sides(held), [self._sides(one) for one in families]
        conclusions, measured = [], {"points": len(training) + len(held) + sum(map(len, families))}
        for row, bound in enumerate(self._bounds()):
            constant, scaled = constants.get(bound.constant), [one[row] for one in along]
            if constant is None or constant.value is not None:
                conclusions += [_worst(bound, constant, np.concatenate([trained[row], tested[row]]), ", sampled points"),
                                _worst(bound, constant, np.concatenate(scaled), f", scales {self.scales[0]:g} to {self.scales[-1]:g}")]
                _needed(bound, constant, np.concatenate([trained[row], tested[row], *scaled]), measured)
            else:
                conclusions.append(_smallest(bound, constant, trained[row], measured))
                conclusions += self._whether_any(bound, trained[row], tested[row], scaled, measured)
        return hypotheses, conclusions, {**measured, **self.further(along)}

    def _whether_any(self, bound: Bound, trained: np.ndarray, tested: np.ndarray, along: list[np.ndarray],
                     measured: dict[str, Any]) -> list[Conclusion]:
        """What can speak against any constant at all: the held-out sample, and the family of scales."""
        found, held = trends.log_ratios(trained, bound), trends.log_ratios(tested, bound)
        allowed = found.largest + trends.slack(found.values, len(held.values)) + found.error + held.error
        sign, looked_at = -1 if bound.relation == ">=" else 1, bound.tag != "recalled"
        conclusions = [Conclusion(
            f"held-out points need no other {bound.constant} than the training points", f"{bound.constant}_{{test}}", sign * held.largest,
            bound.relation, sign * allowed, tag="derived", logarithmic=True, tested=looked_at,
            note=f"a factor exp({allowed - found.largest:.3g}) is what the tail of the training sample gives chance in a thousand cases")]
        if len(self.scales) > 1 and self.limits:
            ratios = [trends.log_ratios(one, bound) for one in along]
            tops = np.array([one.largest for one in ratios])
            measured[f"ln {bound.constant} needed by scale"] = [round(sign * float(top), 6) for top in tops]
            error = max(one.error for one in ratios)
            for end in self.limits:
                level, note = trends.levels_off(self.scales, tops, error, end)
                words = f"{bound.constant} stays bounded towards {end} scales, or grows slower than a power"
                conclusions.append(Conclusion(words, fact=level, tag="derived", note=note, tested=looked_at))
        return conclusions


def _room(one: Claim) -> tuple[int, float]:
    margin = one.margin
    return _ORDER[one.holds], 0.0 if math.isnan(margin) else margin


def _claims(bound: Bound, constant: Constant | None, sides: np.ndarray, where: str) -> list[Conclusion]:
    value = 1.0 if constant is None else constant.value
    tag = bound.tag if constant is None else constant.tag
    right = sides[:, 1] + math.log(value) if bound.logarithmic else value * sides[:, 1]
    return [Conclusion(bound.words + where, bound.latex, float(left), bound.relation, float(other), tag=tag, error=float(error),
                       logarithmic=bound.logarithmic, attained=bound.attained, scale=None if np.isnan(scale) else float(scale),
                       note="" if left == left and other == other else "a side could not be evaluated: another point would decide")
            for left, other, error, scale in zip(sides[:, 0], right, sides[:, 2], sides[:, 3], strict=True)]


def _worst(bound: Bound, constant: Constant | None, sides: np.ndarray, where: str = "") -> Conclusion:
    """The comparison with the least room; of equalities the one that comes nearest to its error."""
    def key(one: Conclusion) -> tuple[int, float]:
        if bound.relation == "==" and one.left is not None and one.right is not None and one.error > 0:
            return _ORDER[one.holds], -abs(one.left - one.right) / one.error if math.isfinite(one.error) else -math.inf
        return _room(one)

    return min(_claims(bound, constant, sides, where), key=key)


def _needed(bound: Bound, constant: Constant | None, sides: np.ndarray, measured: dict[str, Any]) -> None:
    """Enter in `measured` how far from sharp a known constant is at these points."""
    if constant is not None:
        sign = -1 if bound.relation == ">=" else 1
        measured[f"{constant.name} needed at these points"] = math.exp(min(sign * trends.log_ratios(sides, bound).largest, 709.0))


def _smallest(bound: Bound, constant: Constant, sides: np.ndarray, measured: dict[str, Any]) -> Conclusion:
    """The constant that these points need, which is no test; entered in `measured`."""
    ratios = trends.log_ratios(sides, bound)
    sign, word = (-1, "largest") if bound.relation == ">=" else (1, "smallest")
    value = math.exp(min(sign * ratios.largest, 709.0))
    measured[f"{word} {constant.name}"] = value
    if ratios.unresolved:
        measured[f"points whose left side is below its error ({constant.name})"] = ratios.unresolved
    return Conclusion(bound.words, bound.latex, value, bound.relation, math.nan, tag="unknown", tested=False,
                      note=f"holds at these points for {constant.name} {bound.relation.translate({60: 62, 62: 60})} {value:.6g}; "
                           f"give {constant.name}=")
