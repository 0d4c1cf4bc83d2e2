"""Interleaved timing: every contender once in each round, so that ratios hold on a machine whose speed drifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def interleaved(contenders: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.process_time,
                warm_up: bool = True) -> dict[str, np.ndarray]:
    """Seconds of each contender, (rounds,). The clock is the processor's: other work on the machine does not count."""
    if warm_up:
        for run in contenders.values():
            run()
    times = {name: np.empty(rounds) for name in contenders}
    for r in range(rounds):
        for name, run in contenders.items():
            began = clock()
            run()
            times[name][r] = clock() - began
    return times


def spread(ratios: np.ndarray, digits: int = 2) -> str:
    """Median and range, for a table."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (ratios.min(), np.median(ratios), ratios.max()))
    return f"{middle} ({low} to {high})"
