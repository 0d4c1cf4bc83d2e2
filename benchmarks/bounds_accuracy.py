"""True error of Auto against its bound on many random configurations, rank by rank: `python benchmarks/bounds_accuracy.py`.

Oracles of another kind: SciPy's adaptive cubature of the Stein form (all of ranks 1 and 2, the first of rank 3), mpmath's adaptive
quadrature for some of rank 1, and for the rest of rank 3 the Stein form on a finer grid, shifted and rotated against the axes. The
test suite runs 200 configurations; the full count takes half an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracles
from configurations import KINDS, draw

import overparam as op

TOLERANCES = (1e-4, 1e-6, 1e-9)


def one(rank: int, number: int, cubatures: int, seed: int):
    """(bounds, errors, oracle errors) of the loss and every row of one configuration; None where max_nodes or the oracle gives up."""
    rng = np.random.default_rng([seed, rank, number])
    tol = TOLERANCES[number % len(TOLERANCES)]
    high = {1: 30.0, 2: 20.0, 3: 4.0}[rank]
    params, weights = draw(rng, rank, KINDS[number % len(KINDS)], low=1e-9, high=high)
    try:
        obj = op.ScoreMatching(op.Gaussian(np.zeros(rank)), weights=weights, rule=op.Auto(tol=tol))
        found = obj.estimate(params)
    except ValueError:
        return None
    if found.bounds is None:
        return None
    sizes = np.concatenate([[found.value], np.linalg.norm(found.grad, axis=1)])
    floor = 4e-15 * oracles.scales(params, weights)  # what float64 sums in the oracle may be off
    if rank == 1 and number % 20 == 0:
        value, grad, off = oracles.by_mpmath(params, weights)
    elif rank < 3 or number < cubatures:
        for off in (1e-3 * tol, 0.1 * tol):  # the first is out of float64's reach for some wide configurations
            try:
                value, grad = oracles.score_matching(params, weights, sizes, rtol=off, max_subdivisions=3000)
                break
            except RuntimeError:
                continue
        else:
            return None
        off = off * sizes + floor
    else:
        value, grad, off = oracles.on_a_rotated_grid(params, weights, rng)
    errors = np.concatenate([[abs(found.value - value)], np.linalg.norm(found.grad - grad, axis=1)])
    return np.concatenate([[found.value_error], found.grad_error]), errors, off


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, nargs=3, default=[1000, 800, 200], help="configurations of rank 1, 2 and 3")
    parser.add_argument("--cubatures", type=int, default=50, help="how many of rank 3 go to adaptive cubature")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for rank, count in zip((1, 2, 3), arguments.count, strict=True):
        if count == 0:
            continue
        began, broken, refused, ratios, quantities = time.perf_counter(), 0, 0, [], 0
        for number in range(count):
            found = one(rank, number, arguments.cubatures, arguments.seed)
            if found is None:
                refused += 1
                continue
            bounds, errors, off = found
            beyond = errors > bounds + off
            if beyond.any():
                broken += 1
                print(f"  rank {rank} number {number}: bound {bounds[beyond]}, error {errors[beyond]}, oracle {off[beyond]}", flush=True)
            resolved = errors > off
            ratios.extend(bounds[resolved] / errors[resolved])
            quantities += len(bounds)
        shown = ", ".join(f"{np.quantile(ratios, q):.2g}" for q in (0.05, 0.25, 0.5, 0.75, 0.95)) if ratios else "none"
        print(f"rank {rank}: {count - refused} configurations ({refused} beyond max_nodes or the oracle), {quantities} quantities; bound "
              f"broken {broken} times; bound / error of the {len(ratios)} whose error is above the oracle's, at quantiles 5, 25, 50, 75, "
              f"95 %: {shown}; {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
