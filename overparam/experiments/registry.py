"""Experiments by name."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from typing import Any

from overparam._validation import check_choice
from overparam.experiments.result import ExperimentResult

__all__ = ["check_settings", "defaults", "list", "register", "run", "summary_line"]

Experiment = Callable[..., ExperimentResult]
_EXPERIMENTS: dict[str, Experiment] = {}


def register(name: str) -> Callable[[Experiment], Experiment]:
    """Make a function an experiment: ``@register("paper.figure")``.

    The function takes settings, each with a default, and returns an :class:`~overparam.experiments.ExperimentResult`. The first
    line of its docstring is what ``overparam list`` shows.

    Parameters
    ----------
    name : str
        Paper and figure, with a dot between.

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
        _EXPERIMENTS[name] = function
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
    >>> op.experiments.list()
    ['zhang2025.figure_1']
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
    return _EXPERIMENTS[name](**settings)


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Raise ValueError if `name` is no experiment or one of `settings` is none of its settings."""
    check_choice(name, "experiment", _EXPERIMENTS)
    for key in settings:
        check_choice(key, f"setting of {name}", defaults(name))


def defaults(name: str) -> dict[str, Any]:
    """Return the settings of an experiment with their defaults."""
    check_choice(name, "experiment", _EXPERIMENTS)
    return {key: parameter.default for key, parameter in inspect.signature(_EXPERIMENTS[name]).parameters.items()}


def summary_line(name: str) -> str:
    """Return the one line that says what an experiment shows."""
    check_choice(name, "experiment", _EXPERIMENTS)
    return inspect.cleandoc(_EXPERIMENTS[name].__doc__ or "").splitlines()[0]
