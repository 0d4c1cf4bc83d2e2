"""The limits of the machine in the same run as all else: see limits.py."""

import limits
import pytest

UNITS = {"dgemm": ("Gflop/s", 1e-9), "exp": ("G/s", 1e-9), "divide": ("G/s", 1e-9), "read": ("GB/s", 1e-9)}


@pytest.mark.parametrize("name", UNITS)
def test_limit(benchmark, name):
    if name not in limits.contenders():
        pytest.skip("no C compiler here: what the machine can do is measured by a small C program")
    run, amount = limits.WORK[name]
    benchmark.group = "limits"
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    unit, scale = UNITS[name]
    benchmark.extra_info.update(path=limits.path(), rate=scale * amount / benchmark.stats.stats.median, unit=unit)
