"""Batched starts beside a loop over them: seconds for the same runs, on one thread and on two, in one process and interleaved.

    python benchmarks/batch.py [--starts 24] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import overparam as op

PROBLEMS = {
    "score matching, n=5, d=3, means 1e-3 apart, 20 000 steps": (
        lambda: op.ScoreMatching(op.Gaussian(np.zeros(3))),
        lambda rng: np.array([4.0, 0.0, 0.0]) + 1e-3 * rng.normal(size=(5, 3)), {"step_size": 0.05, "steps": 20_000}),
    "four 3x3 factors, 20 000 steps": (
        lambda: op.MatrixFactorization(np.eye(3)), lambda rng: op.init.balanced_gaussian(4, 3, 0.1, rng),
        {"step_size": 0.03, "steps": 20_000}),
    "20 neurons, d=50, 2000 steps": (
        lambda: op.ReLUNeuron(np.eye(50)[0]), lambda rng: 0.1 * rng.normal(size=(20, 50)), {"step_size": 0.05, "steps": 2_000}),
}


def compared(name: str, problem: op.Objective, starts: np.ndarray, settings: dict[str, Any], rounds: int) -> None:
    """Time the three ways and print a line for each."""
    ways = {"a loop": (1, lambda: [op.gradient_descent(problem, start, **settings) for start in starts]),
            "a batch, one thread": (1, lambda: op.gradient_descent(problem, starts, **settings)),
            "a batch, two threads": (2, lambda: op.gradient_descent(problem, starts, **settings))}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    ends = []
    for _ in range(rounds + 1):  # the first warms up
        for way, (threads, work) in ways.items():
            with op.threads(threads):
                began = time.perf_counter()
                ends.append([run.final for run in work()])
                seconds[way].append(time.perf_counter() - began)
    if not all(np.array_equal(end, ends[0]) for end in ends):
        raise RuntimeError("runs of a batch must be those of their starts")
    print(f"{name}: {len(starts)} starts, the same to the last bit")
    ratios = {way: np.median(np.array(seconds["a loop"][1:]) / found[1:]) for way, found in seconds.items()}
    for way, found in seconds.items():
        print(f"  {way:<22}{1e3 * np.median(found[1:]) / len(starts):9.2f} ms a start{ratios[way]:8.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for name, (objective, draw, settings) in PROBLEMS.items():
        rng = np.random.default_rng(0)
        starts = np.array([draw(rng) for _ in range(given.starts)])
        compared(name, objective(), starts, {**settings, "record": op.log_spaced(50), "progress": False}, given.rounds)


if __name__ == "__main__":
    main()
