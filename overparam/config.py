"""A problem, a start, a driver and a horizon, described in a TOML file::

    [teacher]                            [start]
    kind = "Gaussian"                    kind = "cluster"
    mean = [0.0, 0.0, 0.0]               n = 5
                                         center = [6.0, 0.0, 0.0]
    [rule]                               scale = 1e-7
    tol = 1e-10                          rng = 0

    [driver]                             [check]
    kind = "gradient_descent"            theorems = ["zhang2025.theorem_3_2"]
    step_size = 0.01
    steps = 20000

What a table may hold is read off what there is: the teachers, rules and objectives that are registered, the functions of `op.init`, the
drivers, and their own arguments. docs/config.md tells it at length.
"""

from __future__ import annotations

import copy
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from overparam import _toml, init
from overparam._arguments import Call, Place, checked, parameters, signature
from overparam._validation import check_array, check_choice, check_real
from overparam._version import __version__
from overparam.data_sets import DataSet
from overparam.drivers import BY_NAME
from overparam.objectives import BUILT_IN, Objective
from overparam.quadrature import Rule
from overparam.state import State
from overparam.teachers import TEACHERS, Teacher
from overparam.trajectory import Trajectory

__all__ = ["TABLES", "Checks", "Problem", "from_tables", "load", "loads", "parse", "read"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


#: What a file may hold; a table [sweep] beside it is :mod:`overparam.sweep_config`'s business.
TABLES: dict[str, str] = {
    "teacher": "the target, and its noise time t",
    "objective": "the loss and the student's weights",
    "rule": "how expectations are computed",
    "start": "where the run begins",
    "driver": "what moves the parameters, and how far",
    "check": "statements to check, and constants that papers leave open",
}


@dataclass(frozen=True)
class Checks:
    """The table [check].

    Attributes
    ----------
    theorems : tuple of str
        Names of ``op.theory.list()``.
    constants : dict
        Values of constants that papers leave open.
    confirm : bool
        Whether a verdict is confirmed by a repetition at a hundredth of the tolerance.

    Examples
    --------
    >>> from overparam import config
    >>> checks = config.loads('''
    ... teacher = {kind = "Gaussian", mean = [0.0]}
    ... start = {params = [[2.0], [1.5]]}
    ... check = {theorems = ["zhang2025.theorem_3_2"], confirm = false}
    ... ''').checks
    >>> checks.theorems, checks.confirm
    (('zhang2025.theorem_3_2',), False)
    """

    theorems: tuple[str, ...] = ()
    constants: Mapping[str, float] = field(default_factory=dict)
    confirm: bool = True


@dataclass(frozen=True, eq=False)
class Problem:
    """What a file describes.

    Attributes
    ----------
    objective : Objective
    start : (n, d) array or State
    driver : str
        Name of the driver; empty where the file has none.
    arguments : dict
        The driver's settings.
    checks : Checks
    source : str
        Name of the file.

    Examples
    --------
    >>> from overparam import config
    >>> problem = config.loads('''
    ... teacher = {kind = "Gaussian", mean = [0.0]}
    ... start = {params = [[2.0], [1.5]]}
    ... driver = {kind = "gradient_descent", step_size = 0.1, steps = 100}
    ... ''')
    >>> problem.driver, problem.arguments["steps"], len(problem.run().steps) > 20
    ('gradient_descent', 100, True)
    """

    objective: Objective
    start: np.ndarray | State
    driver: str
    arguments: Mapping[str, Any]
    checks: Checks
    source: str
    _settings: Mapping[str, Any] = field(repr=False)

    def run(self, progress: bool | None = None) -> Trajectory:
        """Run the driver from the start.

        Parameters
        ----------
        progress : bool, optional
            A progress bar: by default on a terminal after two seconds.

        Raises
        ------
        ValueError
            If the file has no [driver], or a setting of it is not allowed; before any work is done.
        """
        if not self.driver:
            raise ValueError(f"{self.source}: there is no table [driver], so there is nothing to run")
        with Place(self.source, "driver").errors():
            found: Trajectory = BY_NAME[self.driver](self.objective, self.start, **self.arguments, progress=progress)
            return found

    def describe(self) -> dict[str, Any]:
        """Return the effective configuration, defaults included, as dicts by table; None for what is not set."""
        return copy.deepcopy(dict(self._settings))

    def dump(self) -> str:
        """Return the effective configuration as TOML text, from which :func:`loads` makes an equal problem."""
        return f"# effective configuration, defaults included (overparam {__version__})\n\n{_toml.dumps(self._settings)}"


def load(path: Any) -> Problem:
    """Read a problem from a TOML file.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        If the file cannot be read, is not TOML, or a table, a key or a value is not known or not allowed; the message names all three,
        and the nearest name that is known.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from overparam import config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "pair.toml")
    ...     _ = file.write_text('''
    ... teacher = {kind = "Gaussian", mean = [0.0]}
    ... start = {params = [[2.0], [1.5]]}
    ... driver = {kind = "gradient_flow", t_end = 100.0}
    ... ''')
    ...     problem = config.load(file)
    >>> problem.run().status, problem.describe()["rule"]["tol"]
    ('completed', 1e-10)
    """
    return loads(read(path), str(path))


def read(path: Any) -> str:
    """The text of a TOML file; ValueError if it cannot be read."""
    try:
        return Path(path).read_bytes().decode("utf-8")
    except TypeError:
        raise ValueError(f"path must be a file name; got {path!r}"[:200]) from None
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not TOML, whose texts are UTF-8: {error}") from None


def loads(text: str, source: str = "configuration") -> Problem:
    """Make a problem from TOML text.

    Parameters
    ----------
    text : str
        What :func:`load` reads from a file.
    source : str
        What errors call it.

    Returns
    -------
    Problem

    Raises
    ------
    ValueError
        As :func:`load`.

    Examples
    --------
    >>> from overparam import config
    >>> problem = config.loads('''
    ... teacher = {kind = "Gaussian", mean = [0.0]}
    ... start = {params = [[2.0], [1.5]]}
    ... driver = {kind = "gradient_descent", step_size = 0.1, steps = 100}
    ... ''')
    >>> problem.objective.teacher
    Gaussian(mean=[0.0])
    """
    return from_tables(parse(text, source), source)


def parse(text: str, source: str = "configuration") -> dict[str, Any]:
    """The tables of TOML text; ValueError if it is none."""
    if not isinstance(text, str):
        raise ValueError(f"{source}: text must be TOML text; got {text!r}"[:300])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from None


def from_tables(tables: Mapping[str, Any], source: str = "configuration") -> Problem:
    """Make a problem from tables, dicts as TOML has them; [sweep] is not looked at. See :func:`load`."""
    for name, table in tables.items():
        check_choice(name, f"{source}: table", (*TABLES, "sweep"))
        if not isinstance(table, dict):
            raise ValueError(f"{source}: {name} must be a table, [{name}]; got {table!r}"[:300])
    settings: dict[str, Any] = {}
    objective = _objective(tables, source, settings)
    place = Place(source, "start")
    call = Call.of(place, _needed(tables, "start", source), _starts(), _start_kind(tables["start"]))
    settings["start"] = call.settings()
    with place.errors():
        start = call.make(**_of_objective(call, objective))
        objective.start(start)  # whose checks of the shape are wanted here
    driver, arguments = "", {}
    if "driver" in tables:
        run = Call.of(Place(source, "driver"), tables["driver"], BY_NAME, placed=("objective", "params0", "progress"))
        driver, arguments, settings["driver"] = run.kind, run.arguments, run.settings()
    checks = _checks(Place(source, "check"), tables.get("check", {}))
    if "check" in tables:
        settings["check"] = {"theorems": list(checks.theorems), "confirm": checks.confirm}
        if checks.constants:
            settings["check"]["constants"] = dict(checks.constants)
    ordered = {name: settings[name] for name in TABLES if name in settings}
    return Problem(objective, start, driver, arguments, checks, source, ordered)


# --- tables -----------------------------------------------------------------------------------------------------------


def _needed(tables: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    if name not in tables:
        raise ValueError(f"{source}: table [{name}] is missing: {TABLES[name]}")
    found: Mapping[str, Any] = tables[name]
    return found


def _objective(tables: Mapping[str, Any], source: str, settings: dict[str, Any]) -> Objective:
    """The loss, from [objective] and the tables that it takes."""
    kinds = {kind.__name__: kind for kind in BUILT_IN}
    place = Place(source, "objective")
    call = Call.of(place, tables.get("objective", {}), kinds, BUILT_IN[0].__name__, placed=("teacher", "rule", "t"))
    parts: dict[str, Any] = {}
    takes = inspect.signature(call.function).parameters
    for name, build in (("teacher", _teacher), ("rule", _rule)):
        if name == "rule" and name not in tables and isinstance(parts.get("teacher"), DataSet):
            continue  # a finite sum needs none
        if name in takes:
            table = _needed(tables, name, source) if name == "teacher" else tables.get(name, {})
            parts[name] = build(Place(source, name), table, settings)
        elif name in tables:
            raise ValueError(f"{source}: table [{name}] is of no use: {call.kind} takes no {name}")
    settings["objective"] = call.settings()
    t = settings.get("teacher", {}).get("t")
    if t and "times" in takes:
        raise ValueError(f"{source}: [teacher] t must be 0, or left out, with [objective] kind = \"{call.kind}\", which has times of its "
                         f"own; got {t!r}. Add it to each of them if that is what you mean")
    with place.errors():
        made = call.make(**parts)
    if hasattr(made, "noise_time") and settings.get("teacher", {}).get("t"):
        made.noise_time = float(settings["teacher"]["t"])  # as if it had been given to the objective, which the statements ask
    found: Objective = made
    return found


def _teacher(place: Place, table: Mapping[str, Any], settings: dict[str, Any]) -> Any:
    """The teacher at its noise time; further arguments of its `at_time` are keys of the table, too."""
    call = Call.of(place, table, TEACHERS, more=_noise)
    settings["teacher"] = call.settings()
    noise = {key: call.arguments.pop(key) for key in _noise(call.function)}
    with place.errors():
        t = check_real(noise.pop("t"), "t", minimum=0.0)
        teacher = call.make()
        return teacher.at_time(t, **noise) if t else teacher


def _noise(teacher: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What `at_time` takes; t is 0 by default."""
    found = parameters(getattr(teacher, "at_time", Teacher.at_time), placed=("self", "t"))
    return {"t": inspect.Parameter("t", inspect.Parameter.KEYWORD_ONLY, default=0.0, annotation=float), **found}


def _rule(place: Place, table: Mapping[str, Any], settings: dict[str, Any]) -> Rule:
    call = Call.of(place, table, {name: kind for name, kind in Rule.registry.items() if not inspect.isabstract(kind)}, "Auto")
    settings["rule"] = call.settings()
    with place.errors():
        found: Rule = call.make()
        return found


def _params(params: list[Any]) -> np.ndarray:
    return check_array(params, "params", ndim=(1, 2, 3))  # how many axes there are to be is the objective's business


def _state(centre: list[Any], deviations: list[Any], log_scale: float = 0.0) -> State:
    given: dict[str, Any] = {"centre": centre, "deviations": deviations}  # which a State makes arrays of
    return State(**given, log_scale=log_scale)


def _starts() -> dict[str, Callable[..., Any]]:
    """What makes a start: the functions of `op.init` that return one, and numbers as they stand."""
    functions = {name: getattr(init, name) for name in init.__all__}
    starts = {name: one for name, one in functions.items() if signature(one).return_annotation in (np.ndarray, State)}
    return {**starts, "params": _params, "state": _state}


def _of_objective(call: Call, objective: Any) -> dict[str, Any]:
    """Arguments of a start that the objective's teacher gives."""
    asked = {"target"} if call.arguments.get("target") == "teacher" else set()
    asked |= {"teacher"} & set(signature(call.function).parameters)
    if asked and not hasattr(objective, "teacher"):
        raise ValueError(f"{call.kind} starts from the objective's teacher, and a {type(objective).__name__} has none: give another kind, "
                         "or params")
    return {name: objective.teacher for name in asked}


def _start_kind(table: Mapping[str, Any]) -> str | None:
    return "params" if "params" in table else "state" if "centre" in table else None


def _checks(place: Place, table: Mapping[str, Any]) -> Checks:
    from overparam import theory

    for key in table:
        check_choice(key, f"{place} key", ("theorems", "constants", "confirm"))
    theorems, constants, confirm = table.get("theorems", []), table.get("constants", {}), table.get("confirm", True)
    theorems = [theorems] if isinstance(theorems, str) else theorems
    if not isinstance(theorems, list):
        raise ValueError(f"{place} theorems must be an array of names; got {theorems!r}"[:300])
    if "all" in theorems:
        theorems = theory.list()
    for name in theorems:
        check_choice(name, f"{place} theorems:", theory.list())
    if not isinstance(constants, dict):
        raise ValueError(f"{place} constants must be a table of numbers; got {constants!r}"[:300])
    open_ones = {one.name for name in theorems or theory.list() for one in theory.get(name).constants}
    for key, value in constants.items():
        check_choice(key, f"{place} constants:", open_ones)
        with place.errors():
            check_real(value, f"constants: {key}")
    return Checks(tuple(theorems), constants, checked(place, "confirm", confirm, bool))
