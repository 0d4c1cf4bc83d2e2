"""Times of the suite are of the processor, so that other work on the machine does not count, unless a benchmark names its own timer."""

import time
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        marker = item.get_closest_marker("benchmark")
        if here in item.path.parents and not (marker and "timer" in marker.kwargs):
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))
