"""Many runs in one call: on one machine or a cluster, resumable, the same to the last bit however they are shared out."""

from __future__ import annotations

import inspect
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from overparam._fingerprint import describe_function
from overparam._grids import Grid, sampled
from overparam._limits import one_thread
from overparam._sweep_task import Outcome, Task
from overparam._validation import check_integer
from overparam.drivers.loop import check_progress
from overparam.measures import check_measures
from overparam.store import Store, StoreError

__all__ = ["sampled", "sweep"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


_ATTEMPTS = 3  # times that workers may die before the sweep gives up


def sweep(point: Callable[..., Any], grid: Any, *, store: Any = None, n_jobs: int | None = None, seed: Any = None, measure: Any = (),
          progress: bool | None = None, retry_failed: bool = False, configuration: Mapping[str, Any] | None = None) -> Store:
    """Compute a function at every point of a grid, in parallel, into a store that a killed sweep loses nothing of.

    Points that are in the store already are not computed again: the same call after a crash, a Ctrl-C or a full disk goes on from there.
    A point that raises is recorded with its traceback and does not stop the others. Points are shared out by joblib: processes of this
    machine by default; threads, or a Dask cluster, inside ``joblib.parallel_config(backend="threading")`` or ``backend="dask"``.
    Each point has one thread of BLAS and a generator of its own, seeded by its place in the grid, so that results do not depend on how
    they are shared out.

    Parameters
    ----------
    point : callable
        ``point(**params, rng=generator)``, without rng if it takes none. Returns a dict of numbers, texts or arrays; or a Trajectory, of
        which `measure` says what is kept.
    grid : dict of lists, or list of dicts
        The product of the lists, or the points themselves: see :func:`sampled` for random ones. Values are numbers, texts, None, and
        lists of them.
    store : path, optional
        Folder of the results; made if it is missing. None takes a temporary one that goes with the returned object.
    n_jobs : int, optional
        As in joblib: -1 is all cores. None takes what ``joblib.parallel_config`` says, one process if it says nothing.
    seed : int or SeedSequence, optional
        Point i has ``numpy.random.SeedSequence(seed).spawn(i + 1)[i]``. None takes the store's, or draws one that is written down.
    measure : str, sequence of str, or dict of functions
        For trajectories: names of ``overparam.measures.MEASURES`` ("k", "loss", "status", ...), or functions of a trajectory by name.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.
    retry_failed : bool
        Compute those again that failed before.
    configuration : dict, optional
        Whatever else results depend on, in JSON's types: stored, and compared when the store is used again. The function's name, code,
        defaults and the functions of its module that it uses are compared anyway.

    Returns
    -------
    Store
        With ``.collect()`` (an xarray Dataset), ``.save()`` (netCDF), ``.status()``, ``.failures()``.

    Raises
    ------
    ValueError
        If an argument is not allowed; a ``StoreError`` if the store was made by another configuration or version, or cannot be written.
    ChildProcessError
        If workers died three times. What was done is kept.
    KeyboardInterrupt
        On Ctrl-C; what was done is kept.

    Examples
    --------
    >>> import overparam as op
    >>> def point(M, scale, rng):
    ...     objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-6))
    ...     start = op.init.cluster(n=2, center=[M], scale=scale, rng=rng)
    ...     return op.gradient_flow(objective, start, t_end=1e3, rtol=1e-4)
    >>> store = op.sweep(point, {"M": [1.0, 3.0], "scale": [1e-6, 0.1]}, seed=0, measure=["k", "loss"])
    >>> store.collect().k.values.astype(int).tolist()
    [[2, 2], [2, 1]]
    """
    if not callable(point):
        raise ValueError(f"point must be a function; got {point!r}"[:200])
    grid, measures = Grid.of(grid), check_measures(measure)
    check_progress(progress)
    if n_jobs is not None and (check_integer(n_jobs, "n_jobs", minimum=-2**31) == 0):
        raise ValueError("n_jobs must be None (joblib's own setting) or a whole number other than 0; got 0")
    described = {"point": describe_function(point), "grid": grid.describe(),
                 "measure": {name: describe_function(one) if callable(one) else one for name, one in measures.items()},
                 "more": dict(configuration or {})}
    kept = Store.create(tempfile.mkdtemp(prefix="overparam-sweep-") if store is None else store, described, _entropy(seed))
    if store is None:
        weakref.finalize(kept, shutil.rmtree, kept.path, ignore_errors=True)
    for path in kept.set_aside_damaged():
        warnings.warn(f"a damaged point file was set aside as {str(path)!r}; the point is computed again", stacklevel=2)
    if retry_failed:
        kept.forget_failures()
    stored = kept.manifest["configuration"]["seed"]
    task = Task(point, _takes_rng(point), measures, stored["entropy"], tuple(stored["spawn_key"]), os.fspath(kept.path),
                kept.manifest["id"], kept.hash, kept.manifest["versions"])
    _compute_all(task, kept, n_jobs, progress)
    failed = kept.status().failed
    if failed:
        first = next(iter(kept.failures().values()))
        warnings.warn(f"{failed} of {len(kept)} points failed, the first at {first.params}: {first.error}; see failures() of the store",
                      stacklevel=2)
    return kept


def _entropy(seed: Any) -> dict[str, Any] | None:
    if seed is None:
        return None
    try:
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        entropy: Any = sequence.entropy
        entropy = [int(one) for one in entropy] if isinstance(entropy, Sequence | np.ndarray) else int(entropy)
        return {"entropy": entropy, "spawn_key": [int(one) for one in sequence.spawn_key]}
    except (TypeError, ValueError):
        raise ValueError(f"seed must be None, a whole number not below 0, several, or a SeedSequence; got {seed!r}"[:200]) from None


def _takes_rng(point: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(point).parameters
    except (TypeError, ValueError):  # of some compiled functions nothing is known
        return True
    return "rng" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


# --- sharing out ------------------------------------------------------------------------------------------------------


def _compute_all(task: Task, store: Store, n_jobs: int | None, progress: bool | None) -> None:
    """Compute what is missing, again where workers died."""
    from overparam._progress import tqdm

    missing, deaths, wait = store.missing(), 0, False
    with tqdm(total=len(store), initial=len(store) - len(missing), unit="point", leave=False, delay=2.0 if progress is None else 0.0,
              disable=None if progress is None else not progress) as bar:
        while missing:
            try:
                _pass(task, store, missing, n_jobs, wait, bar)
                wait = True  # what is missing now is being computed by another process
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"{store.status()}; they are kept in {str(store.path)!r}") from None
            except Exception as error:
                if not _is_death(error):
                    raise
                deaths += 1
                last = store.abandoned()
                if deaths == _ATTEMPTS:
                    raise ChildProcessError(f"worker processes died {deaths} times ({_first_line(error)}); points that were being "
                                            f"computed: {_few(last)}. {store.status()}; what is done is kept") from error
                warnings.warn(f"a worker process died ({_first_line(error)}); the sweep goes on", stacklevel=3)
            suspects = set(store.abandoned())
            missing = sorted(store.missing(), key=lambda index: index in suspects)  # what may have killed a worker comes last


def _pass(task: Task, store: Store, indices: list[int], n_jobs: int | None, wait: bool, bar: Any) -> None:
    import joblib

    points = store.grid.points
    with one_thread(), _quietly_closed(joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
            joblib.delayed(task)(index, points[index], wait) for index in indices)) as outcomes:
        for outcome in _checked(outcomes, store):
            if outcome.payload is not None:  # from a worker that does not see the folder
                store.put(outcome.index, outcome.payload, failed=outcome.kind == "failed")
            if outcome.kind in ("done", "failed"):
                bar.update()


@contextmanager
def _quietly_closed(outcomes: Any) -> Iterator[Any]:
    """Close joblib's generator at the end, without its warning that tasks are left: whoever leaves early says why."""
    try:
        yield outcomes
    finally:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*unnecessary computation time")
            outcomes.close()


def _checked(outcomes: Iterator[Outcome], store: Store) -> Iterator[Outcome]:
    for outcome in outcomes:
        if outcome.kind == "unwritable":
            raise StoreError(outcome.message)
        if outcome.kind == "other":
            raise StoreError(f"{outcome.message}, and the store {str(store.path)!r} is of {store.manifest['versions']}: "
                             "results are not mixed")
        yield outcome


def _is_death(error: Exception) -> bool:
    """Whether the error says that a worker process died: joblib's executors, or Dask's scheduler, which gives up after some deaths."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:160].rstrip(": ")


def _few(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:8])) or "not known"
    return shown if len(indices) <= 8 else f"{shown}, ... ({len(indices)})"
