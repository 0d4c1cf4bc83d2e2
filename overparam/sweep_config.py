"""The table [sweep] of a TOML file: the same problem many times, with some of its keys varied.

    [sweep]
    seeds = 5                                     # start.rng (and driver.rng) = 0, 1, 2, 3, 4
    measure = ["k", "loss"]

    [sweep.vary.start]
    scale = {log = [1e-12, 1e-2, 11]}
    "center[0]" = {linear = [2.0, 6.0, 9]}

docs/config.md tells it at length.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from overparam import _toml, config, regimes
from overparam._arguments import Place, parameters
from overparam._grids import Grid, sampled
from overparam._validation import check_choice, check_integer, check_positive, check_real
from overparam.drivers import BY_NAME
from overparam.measures import check_measures
from overparam.store import Store
from overparam.sweeps import sweep
from overparam.trajectory import Trajectory

__all__ = ["SweepPlan", "load"]

KEYS = ("vary", "seeds", "measure", "samples", "seed", "stop")
STOPS = ("never", "decided")
SEED = "seed"  # the axis of seeds
MEASURED = ("loss", "grad_norm", "status")
_RANGES = ("uniform", "log_uniform", "integers", "choice")


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What a file with a table [sweep] describes.

    Attributes
    ----------
    problem : Problem
        The base problem.
    grid : Grid
        Parameters are called as in the file: "start.scale"; seeds "seed".
    measure : tuple of str
        What is kept of every run.
    stop : str
        "never", or "decided": runs end once every parameter converges or diverges.
    source : str
        Name of the file.
    """

    problem: config.Problem
    grid: Grid
    measure: tuple[str, ...]
    stop: str
    source: str
    _tables: Mapping[str, Any]
    _sweep: Mapping[str, Any]

    def run(self, store: Any = None, *, n_jobs: int | None = None, progress: bool | None = None, retry_failed: bool = False) -> Store:
        """Compute all points: see :func:`overparam.sweep`."""
        return sweep(self.point, self.grid, store=store, n_jobs=n_jobs, seed=0, measure=self.measure, progress=progress,
                     retry_failed=retry_failed)

    @property
    def point(self) -> Any:
        """The function of a point's parameters."""
        return partial(_run, tables=dict(self._tables), source="sweep", stop=self.stop)

    def dump(self) -> str:
        """Return the effective configuration as TOML text, from which an equal sweep is made."""
        return f"{self.problem.dump()}\n{_toml.dumps({'sweep': self._sweep})}"


def load(path: Any) -> SweepPlan:
    """Read a sweep from a TOML file.

    Parameters
    ----------
    path : str or PathLike

    Returns
    -------
    SweepPlan

    Raises
    ------
    ValueError
        If the file cannot be read, or a table, a key or a value is not known or not allowed, that of a swept key included.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from overparam import sweep_config
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "pairs.toml")
    ...     _ = file.write_text('''
    ... teacher = {kind = "Gaussian", mean = [0.0]}
    ... start = {kind = "cluster", n = 2, center = [3.0], scale = 1e-6, rng = 0}
    ... driver = {kind = "gradient_flow", t_end = 1000.0, rtol = 1e-4}
    ... [sweep]
    ... measure = "k"
    ... vary.start.scale = [1e-6, 0.1]
    ... ''')
    ...     plan = sweep_config.load(file)
    >>> plan.run().collect().k.values.tolist()
    [2.0, 1.0]
    """
    source = str(path)
    tables = config.parse(config.read(path), source)
    table = tables.pop("sweep", None)
    if not isinstance(table, Mapping):
        raise ValueError(f"{source}: there is no table [sweep], so there is nothing to sweep")
    place = Place(source, "sweep")
    for key in table:
        check_choice(key, f"{place} key", KEYS)
    problem = config.from_tables(tables, source)
    if not problem.driver:
        raise ValueError(f"{source}: there is no table [driver], so there is nothing to run")
    tables.pop("check", None)  # statements are not checked here
    with place.errors():
        measure = tuple(check_measures(table.get("measure", list(MEASURED))))
        if not measure:
            raise ValueError("measure must name one thing at least")
        stop = check_choice(table.get("stop", "never"), "stop", STOPS)
        if stop == "decided":
            regimes.until_decided(_target(problem))
        axes, described = _axes(table, tables, problem)
        _check_seeds(tables, problem, axes)
        tables = _effective(tables, problem, axes)
        grid = _grid(table, axes)
    plan = SweepPlan(problem, grid, measure, stop, source, tables, {**described, "measure": list(measure), "stop": stop})
    _try(plan, place)
    return plan


def _run(*, tables: Mapping[str, Any], source: str, stop: str, rng: Any = None, **params: Any) -> Trajectory:
    """The run of a point; what it draws has its seed in the tables, and `rng` is of no use."""
    problem = config.from_tables(_changed(tables, params), source)
    arguments = dict(problem.arguments)
    if stop == "decided":
        arguments["stop"] = regimes.until_decided(_target(problem))
    found: Trajectory = BY_NAME[problem.driver](problem.objective, problem.start, **arguments, progress=False)
    return found


def _target(problem: config.Problem) -> np.ndarray:
    teacher = getattr(problem.objective, "teacher", None)
    means: Any = [] if teacher is None else np.atleast_2d(getattr(teacher, "means", np.empty((0, 1))))
    if len(means) != 1:
        raise ValueError("stop = \"decided\" is for a single Gaussian target")
    found: np.ndarray = means[0]
    return found


def _check_seeds(tables: Mapping[str, Any], problem: config.Problem, axes: Mapping[str, Any]) -> None:
    """Raise ValueError where something would be drawn anew by everyone who reads the file."""
    given = [name for name, table in tables.items() if isinstance(table, Mapping) and ("rng" in table or "entropy" in table)]
    open_ones = [name for name, settings in problem.describe().items() if "rng" in settings and name not in given
                 and settings["rng"] is not None and f"{name}.rng" not in axes and not (SEED in axes and name in _seeded(problem))]
    if open_ones:
        raise ValueError(f"[{open_ones[0]}] needs an rng, or this table seeds: a sweep that is gone on with must draw the same numbers")


def _effective(tables: Mapping[str, Any], problem: config.Problem, axes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with their defaults, so that the file and its effective configuration are one sweep; as given where the kind varies."""
    written = {name: {key: value for key, value in settings.items() if value is not None}
               for name, settings in problem.describe().items() if name != "check"}
    for name in _seeded(problem) if SEED in axes else ():
        written[name].pop("rng", None)
    return {name: dict(tables.get(name, {})) if f"{name}.kind" in axes else settings for name, settings in written.items()}


# --- what varies ------------------------------------------------------------------------------------------------------


def _axes(table: Mapping[str, Any], tables: Mapping[str, Any], problem: config.Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values (or ranges) by the name of what varies, and the table [sweep] with its defaults."""
    vary = table.get("vary", {})
    described: dict[str, Any] = {key: table[key] for key in ("samples", "seed", "seeds", "vary") if key in table}
    if not isinstance(vary, Mapping):
        raise ValueError(f"vary must be a table of tables, such as [sweep.vary.start]; got {vary!r}"[:300])
    axes: dict[str, Any] = {}
    for name, keys in vary.items():
        check_choice(name, "vary: table", [one for one in config.TABLES if one != "check"])
        if not isinstance(keys, Mapping) or not keys:
            raise ValueError(f"vary.{name} must be a table of keys and their values; got {keys!r}"[:300])
        for key, given in keys.items():
            axes[f"{name}.{key}"] = _values(given, f"vary.{name}.{key}", "samples" in table)
    if "seeds" in table:
        if not _seeded(problem):
            raise ValueError("seeds: neither the start nor the driver draws anything")
        for name in _seeded(problem):
            if f"{name}.rng" in axes:
                raise ValueError(f"seeds: {name}.rng varies already")
        seeds = table["seeds"]
        count = isinstance(seeds, int) and not isinstance(seeds, bool)
        values = list(range(check_integer(seeds, "seeds", minimum=1))) if count else seeds
        if not isinstance(values, list) or not values:
            raise ValueError(f"seeds must be a number of seeds, or an array of them; got {seeds!r}"[:300])
        axes[SEED] = [check_integer(one, "seeds", minimum=0) for one in values]
    if not axes:
        raise ValueError("nothing varies: it needs [sweep.vary] or seeds")
    return axes, described


def _seeded(problem: config.Problem) -> list[str]:
    """The tables whose rng is that of the seeds."""
    described = problem.describe()
    drawn = ["start"] if "rng" in described["start"] else []
    return drawn + (["driver"] if "rng" in parameters(BY_NAME[problem.driver]) else [])


def _values(given: Any, name: str, samples: bool) -> Any:
    """The values of an axis; for random points a range as :func:`sampled` takes it."""
    if isinstance(given, list):
        return given
    kinds = _RANGES if samples else ("linear", "log")
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError(f"{name} must be an array of values or a table such as {{{kinds[0]} = [...]}}; got {given!r}"[:300])
    kind, numbers = next(iter(given.items()))
    check_choice(kind, f"{name}:", kinds)
    if not isinstance(numbers, list):
        raise ValueError(f"{name}: {kind} must be an array; got {numbers!r}"[:300])
    if kind == "choice":
        return numbers
    if len(numbers) != (2 if samples else 3):
        raise ValueError(f"{name}: {kind} must be [from, to{'' if samples else ', number of values'}]; got {numbers!r}"[:300])
    if samples:
        return (kind, *numbers)
    low, high = ((check_positive if kind == "log" else check_real)(one, name) for one in numbers[:2])
    count = check_integer(numbers[2], f"{name}: the number of values", minimum=2, maximum=1_000_000)
    if low == high:
        raise ValueError(f"{name}: both ends are {low:g}")
    values = np.linspace(low, high, count) if kind == "linear" else np.geomspace(low, high, count)
    return values.tolist()


def _grid(table: Mapping[str, Any], axes: Mapping[str, Any]) -> Grid:
    if "samples" not in table:
        if "seed" in table:
            raise ValueError("seed is that of samples; the runs' own are seeds")
        return Grid.of(dict(axes))
    if "seed" not in table:
        raise ValueError("samples needs a seed, for the same points to be drawn again")
    return Grid.of(sampled(axes, check_integer(table["samples"], "samples", minimum=1), check_integer(table["seed"], "seed", minimum=0)))


def _changed(tables: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with a point's values in them."""
    changed = copy.deepcopy(dict(tables))
    for name, value in params.items():
        if name == SEED:
            described = config.from_tables(changed, "sweep")
            for table in _seeded(described):
                changed.setdefault(table, {})["rng"] = value
            continue
        table, _, key = name.partition(".")
        matched = re.fullmatch(r"(\w+)((?:\[\d+\])*)", key)
        if matched is None:
            raise ValueError(f"vary.{name}: a key, or an entry of one such as \"center[0]\", is needed")
        holder, last = changed.setdefault(table, {}), matched[1]
        for index in map(int, re.findall(r"\d+", matched[2])):
            if isinstance(holder, dict) and last not in holder:
                raise ValueError(f"vary.{name}: [{table}] has no {last}, of which an entry is to vary")
            holder, last = holder[last], index
            if not isinstance(holder, list) or index >= len(holder):
                raise ValueError(f"vary.{name}: there is no entry {index} in {holder!r}"[:300])
        holder[last] = value
    return changed


def _try(plan: SweepPlan, place: Place) -> None:
    """Make the problem of every value once, the others at their first: mistakes are told before any work."""
    points = plan.grid.points
    if plan.grid.axes is None:
        tried = [points[0], points[-1]]
    else:
        first = points[0]
        tried = [first, *({**first, name: value} for name, values in plan.grid.axes.items() for value in values[1:])]
    for params in tried:
        with place.errors():
            problem = config.from_tables(_changed(plan._tables, params), "a point")
            if plan.stop == "decided":
                _target(problem)
