"""Error of Auto against adaptive cubature on many random configurations, rank by rank: `python benchmarks/auto_accuracy.py`.

The test suite runs 200 of them; this prints the distribution, with more of rank 3 (ten seconds each).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from configurations import KINDS, draw  # noqa: E402
from test_auto import TOL, ratios  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, nargs=3, default=[75, 65, 60], help="configurations of rank 1, 2 and 3")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(f"tol {TOL:g}: error / (tol x size) of the loss and every gradient row; bound / error")
    for rank, count in zip((1, 2, 3), arguments.count, strict=True):
        relative, slack = [], []
        for number in range(count):
            rng = np.random.default_rng([arguments.seed, rank, number])
            params, weights = draw(rng, rank, KINDS[number % len(KINDS)], high=10.0 if rank < 3 else 5.0)
            errors, against_bound = ratios(params, weights, rng)
            relative.append(errors.max())
            slack.append(against_bound.max())
        print(f"rank {rank}: {count} configurations, worst error {max(relative):.2e} tol, median {np.median(relative):.2e} tol, "
              f"{sum(entry > 10 for entry in relative)} above 10 tol; error above its bound: {sum(entry > 1 for entry in slack)} times",
              flush=True)


if __name__ == "__main__":
    main()
