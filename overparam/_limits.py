"""One thread for each point of a sweep: results do not depend on how many there are, and workers do not crowd each other out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from overparam._threads import threads

__all__ = ["one_thread"]

_lock = threading.Lock()
_inside = 0
_outer = ExitStack()
_controller: Any = None
_modules = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of BLAS and of the library's own for a ``with`` block, in the whole process.

    Blocks may overlap in several threads: the first sets the limit, the last one out lifts it.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _enter()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _outer.close()


def _enter() -> None:
    global _controller, _modules
    import scipy.linalg  # noqa: F401  it has a BLAS of its own beside NumPy's, which is only seen once it is loaded
    from threadpoolctl import ThreadpoolController

    if _controller is None or _modules != len(sys.modules):  # what was imported since may have brought another
        _controller, _modules = ThreadpoolController(), len(sys.modules)
    _outer.enter_context(_controller.limit(limits=1, user_api="blas"))
    _outer.enter_context(threads(1))
