"""Processor time of a step against students, teacher components and dimension: `python benchmarks/step_cost.py` (a minute or two).

n students at normal draws, m components of equal weight at distance 3 from 0 (the only one at 0), on min(d, 2) axes that a random
orthonormal frame turns into d dimensions: rank and path are then the same in all of them, and what is left is what dimension costs. Each
entry is the median of several runs of a few steps each, plans and their bounds at the first and last step included, the basis not:
microseconds a step, nodes of the last plan / plans made (of each component, where a mixture is taken apart).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  one thread comes first

import overparam as op  # noqa: E402
from overparam.objectives.quadrature_plan import QuadraturePlan  # noqa: E402
from overparam.objectives.reverse_plan import ReversePlan  # noqa: E402

TOL, STEPS, STEP_SIZE, ROUNDS, RADIUS = 1e-8, 40, 0.1, 3, 3.0
COMPONENTS = (1, 2, 3)
CASES = (2, 1000), (5, 1000), (10, 1000), (5, 1), (5, 2), (5, 10), (5, 1_000_000)  # n, d
MADE: list[int] = []  # one entry for each plan


def problem(m: int, n: int, d: int) -> tuple[op.Teacher, np.ndarray]:
    """Teacher and start."""
    rng, axes = np.random.default_rng(7), min(d, 2)
    angles = 2 * np.pi * np.arange(m) / m
    means = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :axes] if axes > 1 else np.linspace(-RADIUS, RADIUS, m)[:, None]
    start = rng.standard_normal((n, axes))
    if d > axes:
        frame = np.linalg.qr(rng.standard_normal((d, axes)))[0].T
        means, start = means @ frame, start @ frame
    return (op.Gaussian(np.zeros(d)) if m == 1 else op.GaussianMixture(means)), start


RUNS: dict[str, tuple[type, Callable, dict]] = {
    "em, hybrid": (op.KLDivergence, op.em, {"step_size": STEP_SIZE}),
    "em, full": (op.KLDivergence, op.em, {}),
    "KL descent": (op.KLDivergence, op.gradient_descent, {"step_size": STEP_SIZE}),
    "reverse Fisher": (op.ReverseFisher, op.gradient_descent, {"step_size": STEP_SIZE}),
    "score matching": (op.ScoreMatching, op.gradient_descent, {"step_size": STEP_SIZE}),
}


def counting(kind: type) -> None:
    """Note every plan of a kind that is made."""
    whole = kind.__init__

    def counted(self, *arguments, **options):
        MADE.append(1)
        return whole(self, *arguments, **options)

    kind.__init__ = counted


def measured(kind: type, driver: Callable, settings: dict, teacher: op.Teacher, start: np.ndarray) -> str:
    """Microseconds a step, nodes and plans, of one kind of run."""
    obj, seconds = kind(teacher, rule=op.Auto(TOL)), []
    state = obj.start(start)
    for _ in range(ROUNDS):
        MADE.clear()
        began = time.process_time()
        traj = driver(obj, state, steps=STEPS, record=op.every(STEPS), progress=False, **settings)
        seconds.append(time.process_time() - began)
        plans = len(MADE)
    if traj.status != "completed":
        return traj.status
    last = obj if traj.final_weights is None else obj.with_weights(np.asarray(traj.final_weights))
    return f"{1e6 * median(seconds) / STEPS:,.0f} ({last.plan(traj.final_state).nodes:,} / {plans})"


def main() -> None:
    counting(QuadraturePlan)
    counting(ReversePlan)
    print(f"{STEPS} steps of size {STEP_SIZE}, Auto({TOL:g}): microseconds of processor time a step (nodes at the end / plans)")
    print("| m | n | d | " + " | ".join(RUNS) + " |\n|" + "---|" * (3 + len(RUNS)))
    for m in COMPONENTS:
        for n, d in CASES:
            teacher, start = problem(m, n, d)
            print(f"| {m} | {n} | {d:,} | " + " | ".join(measured(*run, teacher, start) for run in RUNS.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
