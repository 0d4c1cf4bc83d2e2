"""Experiments by name."""

from __future__ import annotations

import builtins
import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from overparam.experiments.result import ExperimentResult

__all__ = ["Entry", "check_settings", "defaults", "list", "register", "run", "summary_line", "verifiable"]

Experiment = Callable[..., ExperimentResult]

_NEAR = 0.7  # similarity (difflib) from which a name is worth suggesting: "stepsize" for step_size has 0.94, "nope" for n 0.4
_PART = 3  # letters from which a part of a name stands for it


@dataclass(frozen=True)
class Entry:
    """What is known of an experiment: its function, its check of settings, and the type of its result."""

    function: Experiment
    check: Callable[..., object] | None = None
    result: type[Any] = ExperimentResult


_EXPERIMENTS: dict[str, Entry] = {}


def register(name: str, *, check: Callable[..., object] | None = None,
             result: type[Any] = ExperimentResult) -> Callable[[Experiment], Experiment]:
    """Make a function an experiment: ``@register("paper.figure")``.

    The function takes settings, each with a default, and returns an :class:`~overparam.experiments.ExperimentResult`. The first
    line of its docstring is what ``overparam list`` shows.

    Parameters
    ----------
    name : str
        Paper and figure, with a dot between.
    check : callable, optional
        Takes the settings as keywords and raises ValueError where one is not allowed, before any work.
    result : type
        What the function returns; if it has its own ``verify``, so has the experiment.

    Returns
    -------
    callable
        A decorator that returns the function as it is.

    Raises
    ------
    ValueError
        If the name is taken, the docstring is missing, or a parameter has no default.

    Examples
    --------
    >>> from overparam import experiments
    >>> @experiments.register("doctest.nothing")
    ... def nothing(seed=0):
    ...     '''Nothing at all.'''
    >>> "doctest.nothing" in experiments.list()
    True
    >>> from overparam.experiments import registry
    >>> _ = registry._EXPERIMENTS.pop("doctest.nothing")
    """

    def add(function: Experiment) -> Experiment:
        if name in _EXPERIMENTS:
            raise ValueError(f"name {name!r} is taken by another experiment")
        if not (function.__doc__ or "").strip():
            raise ValueError(f"experiment {name!r} needs a docstring: its first line is what users see")
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is parameter.empty:
                raise ValueError(f"experiment {name!r}: setting {parameter.name!r} needs a default")
        _EXPERIMENTS[name] = Entry(function, check, result)
        return function

    return add


def list() -> builtins.list[str]:
    """Return the names of all experiments, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import overparam as op
    >>> "zhang2025.figure_1" in op.experiments.list()
    True
    """
    return sorted(_EXPERIMENTS)


def run(name: str, **settings: Any) -> ExperimentResult:
    """Run an experiment.

    Parameters
    ----------
    name : str
        One of :func:`list`.
    **settings
        What to change from the defaults; they are the parameters of the experiment's function.

    Returns
    -------
    ExperimentResult
        Data with ``.draw(path)``, ``.to_xarray()``, ``.save(path)`` and ``.summary()``.

    Raises
    ------
    ValueError
        If the name or a setting is not known (the message names the nearest), or a value is not allowed.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)
    >>> result.runs[0].regime.name
    'all converge'
    """
    check_settings(name, settings)
    return _EXPERIMENTS[name].function(**settings)


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Raise ValueError if `name` is no experiment, one of `settings` is none of its settings, or a value is not allowed."""
    known = defaults(name)
    for key in settings:
        _check_name(key, f"setting of {name}", known)
    check = _EXPERIMENTS[name].check
    if check is not None:
        check(**known | settings)


def defaults(name: str) -> dict[str, Any]:
    """Return the settings of an experiment with their defaults."""
    return {key: parameter.default for key, parameter in inspect.signature(_entry(name).function).parameters.items()}


def summary_line(name: str) -> str:
    """Return the one line that says what an experiment shows."""
    return inspect.cleandoc(_entry(name).function.__doc__ or "").splitlines()[0]


def verifiable(name: str) -> bool:
    """Whether the result of an experiment can repeat its runs: see :meth:`ExperimentResult.verify`."""
    return _entry(name).result.verify is not ExperimentResult.verify


def _entry(name: str) -> Entry:
    return _EXPERIMENTS[_check_name(name, "experiment", _EXPERIMENTS)]


def _check_name(given: Any, what: str, known: Iterable[str]) -> str:
    """Return `given` if it is known; the error suggests a name only where one is really near."""
    names = sorted(known)
    if isinstance(given, str) and given in names:
        return given
    near = _nearest(str(given), names)
    shown = repr(given)
    raise ValueError(f"{what} {shown if len(shown) <= 80 else shown[:77] + '...'} is not known."
                     f"{'' if near is None else f' Did you mean {near!r}?'} Known: {', '.join(names) or 'none'}")


def _nearest(given: str, names: builtins.list[str]) -> str | None:
    """The name that `given` begins, is a slip of or a part of, letter case aside."""
    given = given.lower()
    lowered = {name.lower(): name for name in reversed(names)}
    longer = [name for name in lowered if name.startswith(given)] if len(given) >= _PART else []
    near = difflib.get_close_matches(given, longer, n=1, cutoff=0) or difflib.get_close_matches(given, lowered, n=1, cutoff=_NEAR)
    parts = [name for name in lowered if min(len(given), len(name)) >= _PART and (given in name or given.startswith(name))]
    return lowered[(near or parts)[0]] if near or parts else None
