"""What a second worker is worth to a sweep, how long the phase diagram takes, and a NumPy loop in joblib beside it.

    python benchmarks/sweep_scaling.py                # about ten minutes: the 100 x 100 diagram is in it
    python benchmarks/sweep_scaling.py --points 25

The machine's own gain from a second process is measured by plain arithmetic in the same minutes: on a machine that is shared it is below 2,
and a sweep cannot be above it.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from statistics import median

import joblib
import numpy as np

import overparam as op
from overparam import _reference, regimes
from overparam.experiments.zhang2025 import phase_diagram
from overparam.experiments.zhang2025.phase_boundary_runs import profile

N = 5
RTOL, ATOL = 1e-6, 1e-12  # of the NumPy loop's integrator: differences of 1e-6 between parameters are to be followed
NODES = np.linspace(-9.0, 9.0, 181)
WEIGHTS = np.exp(-NODES**2 / 2) / np.exp(-NODES**2 / 2).sum()


def spin(amount: int) -> float:
    """Arithmetic that shares nothing."""
    total = 0.0
    for i in range(amount):
        total += i % 7
    return total


def twin(M: float, log_epsilon: float) -> int | None:
    """How many parameters converge: the flow by SciPy's integrator on a fixed grid in NumPy, with the same verdict."""
    from scipy.integrate import solve_ivp

    def flow(_: float, at: np.ndarray) -> np.ndarray:
        return -_reference.score_matching(nodes, WEIGHTS, np.zeros(1), at[:, None], log_weights)[1].ravel()

    params, log_weights, nodes = M + np.exp(log_epsilon) * profile("equispaced", N), np.full(N, -np.log(N)), NODES[:, None]
    decided, now = regimes.until_decided([0.0]), 0.0
    for until in np.geomspace(0.01, 200 * N, 37):
        params, now = solve_ivp(flow, (now, until), params, rtol=RTOL, atol=ATOL).y[:, -1], until
        if decided(_Record(now, params[:, None])):
            return int((np.abs(params) <= 1).sum())
    return None


def measured(**params: object) -> dict[str, float]:
    """A point of the diagram, and this process's processor time before and after it."""
    params.pop("rng")
    before = time.process_time()
    found = phase_diagram._point(**params, n=N, tol=1e-4, rtol=1e-3)
    return {"k": found["k"], "process": os.getpid(), "before": before, "after": time.process_time()}


def processor_times(store: op.store.Store) -> list[float]:
    """Processor time of each process from its first point to its last, what is between points included."""
    data = store.collect()
    owner, before, after = (data[name].values.ravel() for name in ("process", "before", "after"))
    return [float(after[owner == one].max() - before[owner == one].min()) for one in np.unique(owner)]


class _Record:
    def __init__(self, at: float, params: np.ndarray) -> None:
        self.time, self.params = at, params


def timed(function, *arguments, **keywords):
    began = time.perf_counter()
    found = function(*arguments, **keywords)
    return time.perf_counter() - began, found


def scaling(rounds: int) -> None:
    """One worker process against two, the same sweep, interleaved; the workers are running already."""
    point = measured
    grid = {"M": np.linspace(2.0, 6.0, 20).tolist(), "log_epsilon": np.linspace(-30.0, 0.0, 15).tolist(), "profile": ["equispaced"]}
    warm = {**grid, "M": [2.0, 3.0], "log_epsilon": [-1.0, -2.0]}
    times: dict[str, list[float]] = {key: [] for key in ("sweep 1", "sweep 2", "spin 1", "spin 2")}
    spent: dict[int, list[list[float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for jobs in (1, 2):
            op.sweep(point, warm, n_jobs=jobs)
            took, store = timed(op.sweep, point, grid, n_jobs=jobs)
            times[f"sweep {jobs}"].append(took)
            spent[jobs].append(processor_times(store))
            shared = joblib.Parallel(n_jobs=jobs, batch_size=1)
            shared(joblib.delayed(spin)(1000) for _ in range(4))
            times[f"spin {jobs}"].append(timed(shared, [joblib.delayed(spin)(4_000_000) for _ in range(16)])[0])
    found = {key: median(values) for key, values in times.items()}
    print(f"300 points: 1 job {found['sweep 1']:.2f} s, 2 jobs {found['sweep 2']:.2f} s: {found['sweep 1'] / found['sweep 2']:.2f} times "
          f"(median of {rounds}; best of each {min(times['sweep 1']) / min(times['sweep 2']):.2f})")
    alone, together = median(sum(one) for one in spent[1]), median(sum(one) for one in spent[2])
    longest = median(max(one) for one in spent[2])
    print(f"processor time: {alone:.2f} s in one process; {together:.2f} s in two, {longest:.2f} s in the busier: with two processors free "
          f"{alone / longest:.2f} times, {2 * alone / together:.2f} if both have equally much to do")
    print(f"plain arithmetic: {found['spin 1']:.2f} s, {found['spin 2']:.2f} s: {found['spin 1'] / found['spin 2']:.2f} times "
          f"(best of each {min(times['spin 1']) / min(times['spin 2']):.2f})")


def against_numpy(jobs: int) -> None:
    """A subset that float64's plain coordinates can hold, by both; processor time in one process, and the clock with all."""
    grid = {"M": np.linspace(1.5, 3.0, 6).tolist(), "log_epsilon": np.linspace(-12.0, 0.0, 6).tolist(), "profile": ["equispaced"]}
    places = [(M, spread) for M in grid["M"] for spread in grid["log_epsilon"]]
    point = partial(phase_diagram._point, n=N, tol=1e-4, rtol=1e-3)
    op.sweep(point, {**grid, "M": [2.0], "log_epsilon": [-1.0, -2.0]}, n_jobs=jobs)
    joblib.Parallel(jobs)(joblib.delayed(twin)(2.0, -1.0) for _ in range(jobs))
    ours, store = timed(op.sweep, point, grid, n_jobs=jobs)
    theirs, counts = timed(joblib.Parallel(n_jobs=jobs), [joblib.delayed(twin)(*place) for place in places])
    k = store.collect().k.values.ravel()
    agree = sum(one == (np.nan if two is None else two) for one, two in zip(k, counts, strict=True))
    spent = []
    for run in (lambda: op.sweep(point, grid, n_jobs=1), lambda: [twin(*place) for place in places]):
        began = time.process_time()
        run()
        spent.append(1e3 * (time.process_time() - began) / len(places))
    print(f"{len(places)} points, {jobs} jobs: sweep {ours:.2f} s, NumPy in joblib {theirs:.2f} s; the same k at {agree}. "
          f"Processor time of a point: {spent[0]:.0f} ms and {spent[1]:.0f} ms")


def whole(points: int, jobs: int) -> None:
    took, result = timed(op.experiments.run, phase_diagram.NAME, points=points, n_jobs=jobs, progress=False)
    print(f"{points} x {points} diagram, {jobs} jobs: {took:.0f} s ({1e3 * took * jobs / points**2:.0f} ms of a worker each)")
    print(result.summary())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100, help="of the diagram; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
    scaling(given.rounds)
    against_numpy(given.jobs)
    if given.points:
        whole(given.points, given.jobs)
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
