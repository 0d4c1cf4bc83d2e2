"""How many threads work on one evaluation."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from overparam._core import threads as _pool
from overparam._validation import check_integer

__all__ = ["thread_facts", "threads"]

_VARIABLE = "OVERPARAM_THREADS"


class threads:
    """Let `count` threads of the library's own share each evaluation that is long enough, from now on or in a ``with`` block.

    An evaluation that takes more than about 0.2 ms (score matching and the Kullback–Leibler divergence, in a driver or called alone) is
    cut into pieces of nodes, always the same ones, which are summed apart and added in order: results are the same to the last bit
    whatever `count` is. Shorter ones stay on one thread. The setting is the whole process's; 1 at first, or what the environment variable
    ``OVERPARAM_THREADS`` said when overparam was imported. Sweeps over many runs always take one thread a run. A call that comes
    while the threads are at work for another one does without them.

    Products of large n·d are BLAS's, which may have threads of its own: set ``OPENBLAS_NUM_THREADS=1`` (or what your BLAS reads) with
    more than one here.

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

    def __enter__(self) -> threads:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _pool.set_count(self._before)

    def __repr__(self) -> str:
        return f"threads({self.count})"


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
