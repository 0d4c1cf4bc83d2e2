"""Functions called from tables: which arguments a signature takes, of which types, and errors that say where."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np

from overparam._schedules import SCHEDULES, Schedule, log_spaced, schedule_from_description
from overparam._validation import check_choice

__all__ = ["Call", "Place", "checked", "parameters", "signature"]

_RECORD = log_spaced(200)  # the drivers' own default, written out so that what is saved can be repeated
_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", list: "an array", Schedule:
          f"a text such as \"log_spaced(200)\" or a table with a kind ({', '.join(SCHEDULES)})"}


@dataclass(frozen=True)
class Place:
    """A table of a file, for messages."""

    source: str
    table: str

    def __str__(self) -> str:
        return f"{self.source}: [{self.table}]"

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Say where it was; the checks behind name the argument, which is the key."""
        try:
            yield
        except (ValueError, TypeError, NotImplementedError, OverflowError) as error:
            raise ValueError(f"{self} {error}") from error


@dataclass(frozen=True)
class Call:
    """A function and what a table says of its arguments."""

    kind: str
    function: Callable[..., Any]
    arguments: dict[str, Any]

    @classmethod
    def of(cls, place: Place, table: Mapping[str, Any], kinds: Mapping[str, Callable[..., Any]], default: str | None = None,
           placed: Collection[str] = (), more: Callable[[Callable[..., Any]], Mapping[str, inspect.Parameter]] | None = None) -> Call:
        """From a table with a "kind", one of `kinds`; the other keys are arguments, without those that are `placed` from elsewhere.

        `more` tells further ones of a kind's function.
        """
        if "kind" not in table and default is None:
            raise ValueError(f"{place} needs a kind: {', '.join(sorted(kinds))}")
        kind = check_choice(table.get("kind", default), f"{place} kind", kinds)
        known = parameters(kinds[kind], placed)
        known.update({} if more is None else more(kinds[kind]))
        arguments = {}
        for key, value in table.items():
            if key == "kind":
                continue
            check_choice(key, f"{place} key", [*known, "kind"], near=0.6)  # another kind's key is no misspelling
            arguments[key] = checked(place, key, value, known[key].annotation)
        missing = [key for key, one in known.items() if one.default is one.empty and key not in arguments]
        if missing:
            raise ValueError(f"{place} needs {', '.join(missing)}: {kind} takes {', '.join(known)}")
        arguments = {key: arguments.get(key, one.default) for key, one in known.items()}
        for key, one in known.items():
            if arguments[key] is None and Schedule in _alternatives(one.annotation):
                arguments[key] = _RECORD
        if arguments.get("rng", 0) is None and arguments.get("entropy") is None:
            arguments["rng"] = int(np.random.SeedSequence().generate_state(1)[0])  # written down, so that the run can be repeated
        return cls(kind, kinds[kind], arguments)

    def make(self, **changes: Any) -> Any:
        return self.function(**{**self.arguments, **changes})

    def settings(self) -> dict[str, Any]:
        return {"kind": self.kind, **{key: _schedule_text(value) if isinstance(value, Schedule) else value
                                      for key, value in self.arguments.items()}}


def signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # annotations for type checkers alone
        return inspect.signature(function)


def parameters(function: Callable[..., Any], placed: Collection[str] = ()) -> dict[str, inspect.Parameter]:
    """The arguments that a table may set: neither those that are `placed` nor functions and objects."""
    return {name: one for name, one in signature(function).parameters.items()
            if name not in placed and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and _writable(one.annotation)}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows; none where it says nothing that can be checked."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(one for part in get_args(annotation) for one in _alternatives(part))
    return (annotation,)


def _plain(kind: Any) -> Any:
    """The type that TOML has for it."""
    bare = get_origin(kind) or kind
    return list if bare in (list, tuple, np.ndarray) else Callable if bare is Callable else kind


def _writable(annotation: Any) -> bool:
    kinds = {_plain(one) for one in _alternatives(annotation)} - {NoneType}
    return bool(kinds & set(_WORDS)) or any(kind in (Any, inspect.Parameter.empty) or isinstance(kind, str) for kind in kinds)


def checked(place: Place, key: str, value: Any, annotation: Any) -> Any:
    """The value, if it is of a type that the argument takes."""
    kinds = [_plain(one) for one in _alternatives(annotation)]
    kinds = [kind for kind in kinds if kind not in (NoneType, Callable)]  # a file has no functions
    if not set(kinds) <= set(_WORDS):  # Any: the function's own checks have to do
        return value
    if Schedule in kinds:
        return _schedule(place, key, value)
    if not any(_fits(value, kind) for kind in kinds):
        raise ValueError(f"{place} {key} must be {' or '.join(_WORDS[kind] for kind in kinds)}; got {value!r}"[:400])
    return value


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, (int, float) if kind is float else kind)


def _schedule(place: Place, key: str, value: Any) -> Schedule:
    """A record schedule from "log_spaced(200)" or {kind = "log_spaced", count = 200}."""
    with place.errors():
        if isinstance(value, dict):
            return schedule_from_description(value)
        call = re.fullmatch(r"\s*(\w+)\((.*)\)\s*", value) if isinstance(value, str) else None
        if call is None:
            raise ValueError(f"{key} must be {_WORDS[Schedule]}; got {value!r}"[:400])
        build = SCHEDULES[check_choice(call[1], key, SCHEDULES)]
        try:
            found: Schedule = build(*ast.literal_eval(f"({call[2]},)" if call[2].strip() else "()"))
            return found
        except (TypeError, SyntaxError) as error:
            raise ValueError(f"{key} {value!r} does not fit: {error}") from None


def _schedule_text(schedule: Schedule) -> str:
    described = schedule.describe()
    return f"{described.pop('kind')}({', '.join(map(repr, described.values()))})"
