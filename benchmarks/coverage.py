"""Coverage of the nominal 95 % intervals of sampled rules: `python benchmarks/coverage.py`.

Random configurations of rank 1 to 3 with spreads up to 10; the truth is Auto's value at a tolerance far below the standard errors. Only
configurations that are flagged reliable count; the share of the others and what their intervals would cover are printed beside.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from configurations import KINDS, draw

import overparam as op

RULES = {f"{rule.__name__}(16384)": lambda seed, rule=rule: rule(16_384, rng=seed) for rule in (op.MonteCarlo, op.Stratified, op.Sobol)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    hits: dict[tuple[str, bool], list[np.ndarray]] = {}
    configurations: dict[tuple[str, bool], int] = {}
    for number in range(arguments.count):
        rng = np.random.default_rng([7, number])
        rank = 1 + number % 3
        params, weights = draw(rng, rank, KINDS[number % len(KINDS)], high=(10.0, 8.0, 4.0)[rank - 1])
        target = op.Gaussian(np.zeros(rank))
        truth = op.ScoreMatching(target, weights=weights, rule=op.Auto(tol=1e-9)).estimate(params)
        for name, rule in RULES.items():
            found = op.ScoreMatching(target, weights=weights, rule=rule(number)).estimate(params)
            (low, high), (below, above) = found.interval(0.95)
            inside = np.append((below <= truth.grad) & (truth.grad <= above), low <= truth.value <= high)
            hits.setdefault((name, found.reliable), []).append(inside)
            configurations[name, found.reliable] = configurations.get((name, found.reliable), 0) + 1
    for (name, reliable), found in sorted(hits.items()):
        inside = np.concatenate(found)
        print(f"{name}, {'reliable' if reliable else 'flagged unreliable'}: {configurations[name, reliable]} configurations, "
              f"{inside.size} components, {100 * inside.mean():.1f} % covered")


if __name__ == "__main__":
    main()
