"""Runs of an experiment, one by one or in parallel, and what Ctrl-C leaves of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

from overparam._threads import threads
from overparam.experiments.result import ExperimentResult
from overparam.store import Store
from overparam.sweeps import sweep

__all__ = ["RunsResult", "StoppableResult", "gather", "in_parallel", "one_by_one", "swept"]


@dataclass(frozen=True, eq=False)
class StoppableResult(ExperimentResult):
    """A result that knows where Ctrl-C came.

    Attributes
    ----------
    name : str
    settings : dict
    stopped : str
        Where Ctrl-C came, in words; empty if it did not. By keyword only.
    """

    stopped: str = field(default="", kw_only=True)

    @property
    def reached(self) -> str:
        """Where Ctrl-C cut the experiment short, in words; empty if it ran to its end."""
        return self.stopped


@dataclass(frozen=True, eq=False)
class RunsResult(StoppableResult):
    """A result made of runs, each with its ``trajectory``.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple
        Fewer if Ctrl-C came in between; the last one then may be cut short.
    stopped : str
    """

    runs: tuple[Any, ...]

    def finished(self) -> Self | None:
        """Return the result without the run that Ctrl-C cut short; None if no run came to its end."""
        whole = tuple(run for run in self.runs if run.trajectory.status != "interrupted")
        return replace(self, runs=whole) if whole else None


def one_by_one(work: Callable[..., Any], tasks: Iterable[tuple[str, tuple[Any, ...]]]) -> tuple[tuple[Any, ...], str]:
    """Do runs in turn until the last, or until Ctrl-C.

    Parameters
    ----------
    work : callable
        Returns a run, which has a ``trajectory``.
    tasks : iterable of (str, tuple)
        Where each task is, in words ("in the run n=3"), and the arguments of `work`.

    Returns
    -------
    runs : tuple
        Those that were done; the last one as far as it came where Ctrl-C met its driver.
    where : str
        Where Ctrl-C came; empty if it did not.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C before the first run had anything to show, with the place in its message.
    """
    runs: list[Any] = []
    for where, arguments in tasks:
        try:
            runs.append(work(*arguments))
        except KeyboardInterrupt:
            if not runs:
                raise KeyboardInterrupt(where) from None
            return tuple(runs), where
        if runs[-1].trajectory.status == "interrupted":
            return tuple(runs), where
    return tuple(runs), ""


def _on_one_thread(function: Callable[..., Any], *task: Any) -> Any:
    """A sweep's tasks share the processors out among themselves."""
    with threads(1):
        return function(*task)


def in_parallel(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int | None, progress: bool | None, total: int,
                done: int = 0) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (task, function(*task)) for each task in order, through joblib, with a bar that starts at `done` of `total`."""
    import joblib

    from overparam._progress import tqdm

    results = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(joblib.delayed(_on_one_thread)(function, *task) for task in tasks)
    with tqdm(total=total, initial=done, unit="point", leave=False, delay=2.0 if progress is None else 0.0,
              disable=None if progress is None else not progress) as bar:
        for task, result in zip(tasks, results, strict=True):
            bar.update()
            yield task, result


@contextmanager
def swept(point: Callable[..., Any], grid: Any, store: str | None, n_jobs: int | None, progress: bool | None,
          failures: bool = False) -> Iterator[tuple[Store, bool]]:
    """Sweep a grid into a folder, or into a temporary one for a ``with`` block.

    Parameters
    ----------
    point, grid, n_jobs, progress
        As in :func:`overparam.sweep`.
    store : str, optional
        The folder; None for a temporary one.
    failures : bool
        Whether points may fail.

    Yields
    ------
    store : Store
    interrupted : bool
        Whether Ctrl-C came in between; the store then has what was done.

    Raises
    ------
    RuntimeError
        If a point failed and may not; with its traceback.

    Examples
    --------
    >>> from overparam.experiments.running import swept
    >>> with swept(lambda x: {"square": x * x}, {"x": [1, 2]}, None, None, False) as (store, interrupted):
    ...     store.collect().square.values.tolist(), interrupted
    ([1, 4], False)
    """
    with tempfile.TemporaryDirectory(prefix="overparam-") as folder:
        place = folder if store is None else store
        try:
            found, interrupted = sweep(point, grid, store=place, seed=0, n_jobs=n_jobs, progress=progress), False
        except KeyboardInterrupt:
            found, interrupted = Store.open(place), True
        failed = {} if failures else found.failures()
        if failed:
            first = next(iter(failed.values()))
            raise RuntimeError(f"{len(failed)} of {len(found)} points failed, the first at {first.params}:\n{first.traceback}")
        yield found, interrupted


def gather(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int | None, progress: bool | None,
           what: str = "points") -> tuple[tuple[Any, ...], str]:
    """Do tasks in parallel until the last, or until Ctrl-C.

    Parameters
    ----------
    function : callable
    tasks : sequence of tuple
        Its arguments.
    n_jobs : int, optional
        As in joblib.
    progress : bool, optional
        As in the drivers.
    what : str
        What the tasks are, for the place where Ctrl-C came.

    Returns
    -------
    found : tuple
        The first of the tasks' results, in order: all of them, or as many as there were.
    where : str
        Where Ctrl-C came ("after 3 of 8 points"); empty if it did not.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C before the first result.

    Examples
    --------
    >>> from overparam.experiments.running import gather
    >>> gather(pow, [(2, 3), (3, 2)], n_jobs=None, progress=False)
    ((8, 9), '')
    """
    found: list[Any] = []
    try:
        for _, one in in_parallel(function, tasks, n_jobs, progress, len(tasks)):
            found.append(one)
    except KeyboardInterrupt:
        where = f"after {len(found)} of {len(tasks)} {what}"
        if not found:
            raise KeyboardInterrupt(where) from None
        return tuple(found), where
    return tuple(found), ""
