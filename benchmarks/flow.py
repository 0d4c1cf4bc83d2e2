"""Gradient flow of the M=6 run to flow time 1e14 (1-D, n=5, rtol 1e-9) against SciPy's LSODA: `python benchmarks/flow.py`.

The peer is what one would write without this library: solve_ivp in s = ln(1+t), plain parameters, the NumPy twin on 600 fixed nodes,
enough for the widest state. Its nodes carry no bound, and it gives no losses. Rounds are interleaved and timed by the processor's clock;
ours is timed with the final state only, as the peer is, and with 200 records, each with loss, bound and gradient norm.
"""

from __future__ import annotations

import os
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # both sides on one thread
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  the threads come first

import overparam as op  # noqa: E402
from overparam import _reference as twin  # noqa: E402

T_END, RTOL, N = 1e14, 1e-9, 5
NODES, HALF_WIDTH = 600, 14.0
ATOL = 1e-12  # of the peer: its start has a spread of 1e-7, to be followed while it grows by e^36
ROUNDS = 9


def start() -> np.ndarray:
    """The paper's start on the line."""
    return 6.0 + 1e-7 * np.random.default_rng(0).standard_normal((N, 1))


def scipy_lsoda() -> tuple[np.ndarray, int]:
    """Final parameters and evaluations of the peer."""
    from scipy.integrate import solve_ivp

    nodes, step = np.linspace(-HALF_WIDTH, HALF_WIDTH, NODES, retstep=True)
    weights = step * np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    log_weights, target = np.full(N, -np.log(N)), np.zeros(1)

    def slope(s: float, y: np.ndarray) -> np.ndarray:
        return -np.exp(s) * twin.score_matching(nodes[:, None], weights, target, y[:, None], log_weights)[1].ravel()

    found = solve_ivp(slope, (0.0, np.log1p(T_END)), start().ravel(), method="LSODA", rtol=RTOL, atol=ATOL)
    return found.y[:, -1], found.nfev


def overparam_flow(records: int = 1) -> tuple[np.ndarray, int]:
    """Final parameters and evaluations of ours."""
    objective = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-10))
    flow = op.gradient_flow(objective, start(), t_end=T_END, rtol=RTOL, record=op.log_spaced(records), progress=False)
    if flow.status != "completed":
        raise RuntimeError(f"{flow.status}: {flow.message}")
    return flow.final.ravel(), flow.evaluations


def main() -> None:
    contenders = {"scipy": scipy_lsoda, "overparam": overparam_flow, "overparam, 200 records": lambda: overparam_flow(200)}
    results = {name: run() for name, run in contenders.items()}  # warms up
    times = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    finals = {name: np.sort(np.abs(final)) for name, (final, _) in results.items()}
    for name, (_, evaluations) in results.items():
        ratios = np.divide(times[name], times["scipy"])
        apart = np.abs(finals[name][1:] / finals["scipy"][1:] - 1).max()
        print(f"{name:24s} {1e3 * np.median(times[name]):7.1f} ms   {evaluations:5d} evaluations   ratio to scipy: median "
              f"{np.median(ratios):.2f}, {ratios.min():.2f} to {ratios.max():.2f}   far parameters apart by {apart:.1e}   "
              f"near one at {finals[name][0]:.1e}")


if __name__ == "__main__":
    main()
