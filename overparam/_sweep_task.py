"""One point of a sweep, in whatever process or thread it is computed: caught, recorded, written."""

from __future__ import annotations

import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from overparam._claims import claimed
from overparam._limits import one_thread
from overparam._point_files import arrays, encode
from overparam.measures import Measures, measured
from overparam.store import Store, StoreError, unwritable, versions_here
from overparam.trajectory import Trajectory

__all__ = ["Outcome", "Task"]

_MOST_TRACEBACK = 20_000  # characters


@dataclass(frozen=True)
class Outcome:
    """What became of a point.

    Attributes
    ----------
    index : int
    kind : str
        "done", "failed", "elsewhere" (another process computes it), "unwritable" (the store) or "other" (versions than the store's).
    payload : bytes, optional
        What is to be written, where the store is not within reach.
    message : str
    """

    index: int
    kind: str
    payload: bytes | None = None
    message: str = ""


@dataclass(frozen=True, eq=False, repr=False)  # Dask asks for a hash, which a dict among the fields has not
class Task:
    """What every point needs, small enough to be sent along with each.

    Attributes
    ----------
    point : callable
    wants_rng : bool
    measures : dict
    entropy, spawn_key :
        Of the seeds.
    path, id, hash : str
        Of the store.
    versions : dict
        That made it.
    """

    point: Callable[..., Any]
    wants_rng: bool
    measures: Measures
    entropy: Any
    spawn_key: tuple[int, ...]
    path: str
    id: str
    hash: str
    versions: dict[str, str]

    def __repr__(self) -> str:  # what Dask's pages show
        return "point"

    def __call__(self, index: int, params: dict[str, Any], wait: bool = False) -> Outcome:
        """Compute a point, unless it is done or another process is at it; `wait` for that one if so."""
        if self.versions != versions_here():  # a worker on another machine
            return Outcome(index, "other", message=f"a worker has {versions_here()}")
        store = _within_reach(self.path, self.id)
        if store is None:
            kind, data = self._compute(index, params)
            return Outcome(index, kind, payload=data)
        try:
            return self._claim(store, index, params, wait)
        except StoreError as error:
            return Outcome(index, "unwritable", message=str(error))

    def _claim(self, store: Store, index: int, params: dict[str, Any], wait: bool) -> Outcome:
        claim = store.claim_path(index)
        with unwritable(store.path), claimed(claim, wait) as ours:
            if ours is False:
                return Outcome(index, "elsewhere")
            if not store.has(index):
                kind, data = self._compute(index, params)
                store.put(index, data, failed=kind == "failed", alone=ours is True)
            if ours:
                claim.unlink(missing_ok=True)
            return Outcome(index, "failed" if store.failure_path(index).exists() else "done")

    def _compute(self, index: int, params: dict[str, Any]) -> tuple[str, bytes]:
        """("done" or "failed", the bytes of the point's file)."""
        given = dict(params)
        if self.wants_rng:
            given["rng"] = np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(*self.spawn_key, index)))
        try:
            with one_thread(), _ctrl_c_is_seen():
                found = self.point(**given)
                if isinstance(found, Trajectory):
                    if found.status == "interrupted":
                        raise KeyboardInterrupt
                    if not self.measures:
                        raise TypeError("point returned a Trajectory: name in measure= what is to be kept of it")
                    found = measured(found, self.measures)
                return "done", encode(arrays(found), index, self.hash)
        except (Exception, SystemExit) as error:
            last = "".join(traceback.format_exception_only(error)).strip()
            told = {"index": index, "error": last, "traceback": traceback.format_exc()[-_MOST_TRACEBACK:]}
            return "failed", json.dumps(told, indent=1).encode()


@lru_cache(maxsize=8)
def _within_reach(path: str, id: str) -> Store | None:
    """The store, if this machine sees it; on a cluster it may not."""
    try:
        store = Store.open(path)
    except StoreError:
        return None
    return store if store.manifest["id"] == id and os.access(store.path, os.W_OK) else None


@contextmanager
def _ctrl_c_is_seen() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if Ctrl-C came within, even if a driver took it as the end of its own run alone."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):  # whoever started this process wants it to go on
        yield
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
