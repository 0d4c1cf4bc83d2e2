"""The library's own threads, where this build has them."""

from __future__ import annotations

import os

import overparam as op


def reason_against(count: int) -> str:
    """Why `count` threads cannot be tried here, in words; empty if they can."""
    if not hasattr(op, "threads"):
        return "this version has no threads"
    with op.threads(count) as setting:
        if setting.count != count:
            return "built without threads"
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "" if processors >= count else f"this process may use {processors} processor(s)"
