"""How many threads work on one evaluation."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Any

import overparam._core.threads as _pool
from overparam._validation import check_integer

__all__ = ["settle_blas", "thread_facts", "threads"]

_VARIABLE = "OVERPARAM_THREADS"
_held: Any = None  # threadpoolctl's memory of what BLAS had, while it is held to one thread
_holding = threading.RLock()


class threads:
    """Let `count` threads of the library's own share each evaluation that is long enough, from now on or in a ``with`` block.

    An evaluation that takes more than about 0.2 ms (score matching and the Kullback–Leibler divergence, in a driver or called alone) is
    cut into pieces of nodes, always the same ones, which are summed apart and added in order: results are the same to the last bit
    whatever `count` is. Shorter ones stay on one thread. The setting is the whole process's; 1 at first, or what the environment variable
    ``OVERPARAM_THREADS`` said when overparam was imported. Sweeps over many runs always take one thread a run. A call that comes
    while the threads are at work for another one does without them.

    Products of large n·d are BLAS's, which may have threads of its own. They and these would get in each other's way: while `count` is
    above 1, and from the first such evaluation on, BLAS is held to one thread in this process.

    Parameters
    ----------
    count : int
        From 1, which is off, to 256. Where the system has no POSIX threads it stays 1.

    Attributes
    ----------
    count : int
        What is in force from here on.

    Raises
    ------
    ValueError
        For a count outside this range.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.GaussHermite(300))
    >>> alone = obj.value([[1.0, 0.5], [-1.0, 2.0]])
    >>> with op.threads(2):
    ...     together = obj.value([[1.0, 0.5], [-1.0, 2.0]])
    >>> alone == together
    True
    """

    def __init__(self, count: int) -> None:
        count = check_integer(count, "count", minimum=1, maximum=_pool.MOST)
        self._before = _pool.count()
        self.count = count if _pool.SUPPORTED else 1
        _pool.set_count(self.count)
        settle_blas()

    def __enter__(self) -> threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _pool.set_count(self._before)
        settle_blas()

    def __repr__(self) -> str:
        return f"threads({self.count})"


def settle_blas() -> None:
    """Hold BLAS to one thread where kernels use it and have threads of their own; else let go of it."""
    global _held
    with _holding:
        alone = _pool.count() > 1 and "scipy.linalg.cython_blas" in sys.modules
        if alone and _held is None:
            import threadpoolctl

            _held = threadpoolctl.threadpool_limits(1, user_api="blas")
        elif _held is not None and not alone:
            _held.restore_original_limits()
            _held = None


def thread_facts() -> dict[str, Any]:
    """What ``overparam info`` says of threads: how many are in force, and a warning if the environment asked for something else."""
    wanted = os.environ.get(_VARIABLE, "")
    facts: dict[str, Any] = {"count": _pool.count(), "supported": _pool.SUPPORTED}
    if wanted and _from_environment() is None:
        facts["warning"] = f"{_VARIABLE}={wanted!r} is not a whole number from 1 to {_pool.MOST}; evaluations take one thread."
    return facts


def _from_environment() -> int | None:
    """The count that the environment asks for; None if it is not one."""
    wanted = os.environ.get(_VARIABLE, "").strip()
    return int(wanted) if wanted.isdecimal() and 1 <= int(wanted) <= _pool.MOST else None


threads(_from_environment() or 1)
