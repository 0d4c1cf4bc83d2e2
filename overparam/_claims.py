"""Who computes a point: a lock on a file that the system lets go when its process dies, however it dies."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two processes on one store may then compute a point twice, no more
    fcntl = None  # type: ignore[assignment]  # typeshed has no word for a module that may be missing

__all__ = ["claimed", "is_claimed"]

_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool | None]:
    """Hold the claim `path` for a ``with`` block.

    The value is True where it is ours, False where another process or thread has it (never with `wait`), and None where the file system
    has no locks. The file stays if the process dies within, and goes if the block says so with ``path.unlink``.

    Raises
    ------
    OSError
        If the file cannot be made.
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours: bool | None = True
        except OSError as error:
            ours = False if error.errno in _TAKEN and not wait else None
        yield ours
    finally:
        os.close(descriptor)  # which lets go of the lock


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the claim `path`."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _TAKEN
    finally:
        os.close(descriptor)
    return False
