"""Where the time of the Figure 1 runs goes: `python benchmarks/figure_1_profile.py`.

Processor time of a run without a profiler and of its steps repeated alone (the same plans, the same counts, no Python in between); then,
under cProfile, which makes Python calls dearer than they are, the functions that take most and the share of each part.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable

import limits  # noqa: F401  first: it puts BLAS on one thread
import numpy as np
import peers

import overparam as op
from overparam.objectives.quadrature_plan import QuadraturePlan

STEPS = 20_000


def timed(run: Callable[[], object]) -> float:
    """Processor seconds."""
    began = time.process_time()
    run()
    return time.process_time() - began


def bursts(run: Callable[[], object]) -> list[tuple]:
    """Arguments of every compiled burst of a run, with the steps that it took."""
    from overparam._core import descent

    jobs, whole = [], descent.Job

    def noted(capsule, centre, deviations, *rest):
        before = centre.copy(), deviations.copy()
        jobs.append((whole(capsule, centre, deviations, *rest), capsule, *before, *rest))
        return jobs[-1][0]

    descent.Job = noted
    try:
        run()
    finally:
        descent.Job = whole
    return [(*given[:4], job.found[0], *given[5:]) for job, *given in jobs]


def replayed(taken: list[tuple]) -> Callable[[], None]:
    """The same bursts, and nothing else."""
    from overparam._core.descent import burst

    def run() -> None:
        for capsule, centre, deviations, *rest in taken:
            if rest[1]:
                burst(capsule, centre.copy(), deviations.copy(), *rest)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-8)
    parser.add_argument("--functions", type=int, default=12, help="how many functions to list")
    arguments = parser.parse_args()
    made, whole = [], QuadraturePlan.__init__

    def counted(self, *given, **named):
        made.append(1)
        return whole(self, *given, **named)

    for M in (4.0, 6.0):
        objective, params0 = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=arguments.tol)), peers.start(M)

        def run(records: int = 200, objective=objective, params0=params0) -> op.Trajectory:
            return op.gradient_descent(objective, params0, step_size=peers.STEP_SIZE, steps=STEPS, record=op.log_spaced(records),
                                       progress=False)

        steps = replayed(bursts(run))
        QuadraturePlan.__init__ = counted
        made.clear()
        traj = run()
        QuadraturePlan.__init__ = whole
        times = {name: np.median([timed(what) for _ in range(arguments.rounds)]) for name, what in
                 {"run": run, "steps": steps, "few": lambda: run(20)}.items()}
        print(f"M={M:g}, tol {arguments.tol:g}: {1e3 * times['run']:.0f} ms for {STEPS:,} steps, {len(traj)} records, {len(made)} plans; "
              f"the compiled steps alone {1e3 * times['steps']:.0f} ms ({times['steps'] / times['run']:.0%}), "
              f"{1e6 * times['steps'] / STEPS:.2f} µs each; with op.log_spaced(20) {1e3 * times['few']:.0f} ms")
        profile = cProfile.Profile(time.process_time)
        profile.runcall(run)
        stats = pstats.Stats(profile)
        total = stats.total_tt
        print(f"under cProfile ({1e3 * total:.0f} ms), functions by their own time and with what they call:")
        rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])
        for (file, line, name), (_, calls, own, together, _) in rows[:arguments.functions]:
            where = f"{'/'.join(file.split('/')[-2:])}:{line} {name}" if line else name
            print(f"  {own / total:6.1%} {together / total:7.1%} {calls:7,d} calls  {where}")
        print("parts, with what they call (a look at a record may make a plan, and counts it again):")
        for name, label in {"__init__ quadrature_plan": "making plans", "look descent": "looking at records: value, gradient, bounds",
                            "moves quadrature_plan": "arguments of the compiled steps"}.items():
            function, file = name.split()
            share = sum(entry[3] for (path, _, called), entry in stats.stats.items() if called == function and file in path)
            print(f"  {share / total:6.1%}  {label}")


if __name__ == "__main__":
    main()
