"""True error of Auto against its bound on many random configurations, rank by rank: `python benchmarks/bounds_accuracy.py`.

Oracles of another kind. Against a single Gaussian: SciPy's adaptive cubature of the Stein form (all of ranks 1 and 2, the first of rank
3), mpmath's adaptive quadrature for some of rank 1, and for the rest of rank 3 the Stein form on a finer grid, shifted and rotated
against the axes. Against mixtures of two and three components, every other with one of weight 1e-3 to 1e-6: adaptive cubature of the
loss, differentiated by complex steps. The test suite runs 200 and 16 configurations; the full count takes half an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import oracles
from configurations import KINDS, draw, draw_mixture

import overparam as op

TOLERANCES = (1e-4, 1e-6, 1e-9)


def estimated(obj, params):
    """(estimate, its sizes) with certified bounds; None where max_nodes gives up."""
    try:
        found = obj.estimate(params)
    except ValueError:
        return None
    return None if found.bounds is None else (found, np.concatenate([[found.value], np.linalg.norm(found.grad, axis=1)]))


def adaptively(oracle, tol, sizes):
    """(value, grad, relative oracle error) by cubature; None where it gives up."""
    for off in (1e-5 * tol, 1e-3 * tol, 0.1 * tol):  # the first ones are out of float64's reach for small tolerances or wide means
        if off < 1e-12:
            continue
        try:
            return *oracle(sizes, off), off
        except RuntimeError:
            continue
    return None


def compared(found, value, grad, off):
    """(bounds, errors, oracle errors) of the loss and every row."""
    errors = np.concatenate([[abs(found.value - value)], np.linalg.norm(found.grad - grad, axis=1)])
    return np.concatenate([[found.value_error], found.grad_error]), errors, off


def single(rank: int, number: int, cubatures: int, seed: int):
    """One configuration against N(0, I): what :func:`compared` returns; None where max_nodes or the oracle gives up."""
    rng = np.random.default_rng([seed, rank, number])
    tol = TOLERANCES[number % len(TOLERANCES)]
    high = {1: 30.0, 2: 20.0, 3: 4.0}[rank]
    params, weights = draw(rng, rank, KINDS[number % len(KINDS)], low=1e-9, high=high)
    known = estimated(op.ScoreMatching(op.Gaussian(np.zeros(rank)), weights=weights, rule=op.Auto(tol=tol)), params)
    if known is None:
        return None
    found, sizes = known
    if rank == 1 and number % 20 == 0:
        return compared(found, *oracles.by_mpmath(params, weights))
    if rank == 3 and number >= cubatures:
        return compared(found, *oracles.on_a_rotated_grid(params, weights, rng))
    truth = adaptively(lambda scale, off: oracles.score_matching(params, weights, scale, rtol=off, max_subdivisions=3000), tol, sizes)
    if truth is None:
        return None
    floor = 4e-15 * oracles.scales(params, weights)  # what float64 sums in the oracle may be off
    return compared(found, truth[0], truth[1], truth[2] * sizes + floor)


def mixture(rank: int, number: int, seed: int):
    """One configuration against a mixture teacher, likewise."""
    rng = np.random.default_rng([seed, 10 + rank, number])
    tol = TOLERANCES[number % len(TOLERANCES)]
    params, weights, means, shares = draw_mixture(rng, rank, KINDS[number % len(KINDS)], high={1: 12.0, 2: 5.0}[rank])
    known = estimated(op.ScoreMatching(op.GaussianMixture(means, shares), weights=weights, rule=op.Auto(tol=tol)), params)
    if known is None:
        return None
    found, sizes = known
    truth = adaptively(lambda scale, off: oracles.mixture_score_matching(params, weights, means, shares, scale, rtol=off,
                                                                         max_subdivisions=1500), tol, sizes)
    if truth is None:
        return None
    return compared(found, truth[0], truth[1], truth[2] * sizes + 4e-15 * oracles.mixture_scales(params, weights, means, shares))


def family(name: str, function, count: int, jobs: int, *arguments) -> None:
    """Run `count` configurations and print what was found."""
    from joblib import Parallel, delayed

    began, broken, refused, ratios, quantities = time.perf_counter(), 0, 0, [], 0
    results = Parallel(n_jobs=jobs, return_as="generator", batch_size=4)(delayed(function)(*arguments[:1], number, *arguments[1:])
                                                                        for number in range(count))
    for number, found in enumerate(results):
        if found is None:
            refused += 1
            continue
        bounds, errors, off = found
        beyond = errors > bounds + off
        if beyond.any():
            broken += 1
            print(f"  {name} number {number}: bound {bounds[beyond]}, error {errors[beyond]}, oracle {off[beyond]}", flush=True)
        resolved = errors > off
        ratios.extend(bounds[resolved] / errors[resolved])
        quantities += len(bounds)
    shown = ", ".join(f"{np.quantile(ratios, q):.2g}" for q in (0.05, 0.25, 0.5, 0.75, 0.95)) if ratios else "none"
    print(f"{name}: {count - refused} configurations ({refused} beyond max_nodes or the oracle), {quantities} quantities; bound "
          f"broken {broken} times; bound / error of the {len(ratios)} whose error is above the oracle's, at quantiles 5, 25, 50, 75, "
          f"95 %: {shown}; {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, nargs=3, default=[1000, 800, 200], help="configurations of rank 1, 2 and 3")
    parser.add_argument("--mixtures", type=int, nargs=2, default=[600, 200], help="configurations of rank 1 and 2 against mixtures")
    parser.add_argument("--cubatures", type=int, default=50, help="how many of rank 3 go to adaptive cubature")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    for rank, count in zip((1, 2), arguments.mixtures, strict=True):
        if count:
            family(f"mixtures, rank {rank}", mixture, count, arguments.jobs, rank, arguments.seed)
    for rank, count in zip((1, 2, 3), arguments.count, strict=True):
        if count:
            family(f"rank {rank}", single, count, arguments.jobs, rank, arguments.cubatures, arguments.seed)


if __name__ == "__main__":
    main()
