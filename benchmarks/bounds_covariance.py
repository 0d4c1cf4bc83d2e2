"""True error against its bound where the teacher has a covariance, on random configurations: `python benchmarks/bounds_covariance.py`.

Students of 1 to 6 means in one and two dimensions, near coincident to wide, with equal weights and weights down to 1e-8, under `Auto` and
under fixed rules, most of them too coarse. The oracle is a trapezoid rule in the whole space over the axes of a Cholesky factor.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from covariance_oracle import oracle

import overparam as op


def draw(rng, d):
    """Parameters, weights, mean, covariance."""
    n, root, mean = int(rng.integers(1, 7)), rng.normal(size=(d, d)) * 10 ** rng.uniform(-0.4, 0.4), rng.normal(size=d)
    size = 10 ** rng.uniform(-5, 1.1 if d == 1 else 0.7)
    params = mean + rng.normal(size=d) * rng.uniform(0, 4) + rng.normal(size=(n, d)) * size
    weights = np.maximum(rng.dirichlet(np.ones(n) / 2), 1e-8) if rng.integers(2) else np.ones(n)
    return params, weights / weights.sum(), mean, root @ root.T + 0.1 * np.eye(d)


def main(configurations: int, seed: int) -> None:
    """Print how many bounds hold, and how wide they are."""
    rng = np.random.default_rng(seed)
    for d in (1, 2):
        quantities = broken = 0
        ratios = []
        for _ in range(configurations if d == 1 else configurations // 2):
            params, weights, mean, covariance = draw(rng, d)
            value, rows = oracle(params, weights, mean, covariance)
            own = 1e-14 * (1 + value + np.abs(rows).max()) * max(1.0, np.abs(params).max() ** 2) * np.linalg.cond(covariance)
            for rule in (op.Auto(1e-3), op.Auto(1e-6), op.Trapezoid(int(rng.integers(5, 40))), op.GaussHermite(int(rng.integers(2, 20)))):
                found = op.ScoreMatching(op.Gaussian(mean, covariance=covariance), weights=weights, rule=rule).estimate(params)
                errors = np.append(np.linalg.norm(found.grad - rows, axis=1), abs(found.value - value))
                bounds = np.append(found.grad_error, found.value_error)
                quantities, broken = quantities + errors.size, broken + int((errors > bounds + own).sum())
                if isinstance(rule, op.Auto):
                    ratios += (bounds / np.maximum(errors, 1e-300))[errors > 10 * own].tolist()
        print(f"d={d}: {quantities} quantities, {broken} bounds broken, {len(ratios)} errors of Auto above the oracle's; bound / error at "
              f"5, 25, 50, 75, 95 %: {', '.join(f'{ratio:.3g}' for ratio in np.quantile(ratios, [0.05, 0.25, 0.5, 0.75, 0.95]))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configurations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
