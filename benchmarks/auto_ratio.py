"""Worst error of Auto, in units of its tolerance, over the configurations of the test suite: `python benchmarks/auto_ratio.py`.

The same configurations, seeds and oracle as tests/test_auto.py, with the figures that the tests only compare.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from configurations import KINDS, draw
from test_auto import COUNTS, TOL, ratios


def main() -> None:
    print(f"tol {TOL:g}; error relative to the loss and to each gradient row, in units of tol (the oracle itself is good to 0.1)")
    total, overall = 0, 0.0
    for rank, count in COUNTS.items():
        worst, beyond = {}, 0
        for kind in KINDS:
            rng = np.random.default_rng([rank, KINDS.index(kind)])
            for _ in range(count):
                relative, against_bound = ratios(*draw(rng, rank, kind, high=10.0 if rank < 3 else 5.0), rng)
                worst[kind] = max(worst.get(kind, 0.0), float(relative.max()))
                beyond += bool((against_bound > 1).any())
                total += 1
        overall = max(overall, *worst.values())
        shown = ", ".join(f"{kind} {value:.1e}" for kind, value in worst.items())
        print(f"rank {rank}: {shown}; error above its bound {beyond} times")
    print(f"{total} configurations, worst {overall:.2e}")


if __name__ == "__main__":
    main()
