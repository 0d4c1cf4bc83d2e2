"""Print the README's comparison table: `python benchmarks/comparison.py` (outside the clone's top folder if installed plainly).

The exact runs are timed whole; a peer takes some seconds of steps in between, and its time for 20 000 steps is extrapolated from
their median. Everything runs on one thread, in one process, in turn, so that ratios hold on a machine whose speed drifts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

sys.path.insert(0, str(Path(__file__).parent))

import peers  # noqa: E402

import overparam as op  # noqa: E402

STEPS = 20_000


def exact(M: float, tol: float) -> tuple[float, op.Trajectory]:
    """Seconds and result of the exact run."""
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0, 0.0]), rule=op.Auto(tol=tol))
    params = peers.start(M)
    began = time.perf_counter()
    traj = op.gradient_descent(obj, params, step_size=peers.STEP_SIZE, steps=STEPS, progress=False)
    return time.perf_counter() - began, traj


def peer_step(peer, steps: int, M: float) -> float:
    """Seconds per step."""
    params = peers.start(M)
    began = time.perf_counter()
    peer(params, steps)
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tol", type=float, default=1e-10)
    arguments = parser.parse_args()
    others = {"NumPy, fixed grid of 64×3×3 nodes": (peers.numpy_quadrature, 400),
              "NumPy Monte Carlo, batch 20 000": (peers.numpy_monte_carlo, 20)}
    try:
        import torch

        torch.set_num_threads(1)
        others["PyTorch autograd Monte Carlo, batch 20 000"] = (peers.torch_monte_carlo, 20)
    except ImportError:
        print("PyTorch is not installed: its row is missing (pip install '.[bench]')\n")
    runs = {(name, M): [] for name in ["exact", *others] for M in (4.0, 6.0)}
    errors = {}
    exact(4.0, arguments.tol)  # warm-up: imports and caches
    for peer, _ in others.values():
        peer_step(peer, 3, 4.0)
    for _ in range(arguments.rounds):
        for M in (4.0, 6.0):
            seconds, traj = exact(M, arguments.tol)
            runs["exact", M].append(seconds)
            errors[M] = float((traj.loss_error / traj.loss).max())
            for name, (peer, steps) in others.items():
                runs[name, M].append(peer_step(peer, steps, M) * STEPS)
    median = {key: statistics.median(values) for key, values in runs.items()}
    print(f"{datetime.date.today()}, {platform.machine()}, {op_path()} kernel, 1 thread, Python {platform.python_version()}, "
          f"median of {arguments.rounds} interleaved rounds\n")
    print("| 20 000 steps, n=5, d=3 | M=4 | M=6 | times longer |")
    print("|---|---|---|---|")
    label = f"`op.gradient_descent`, tol {arguments.tol:g} (largest relative bound on the loss: {max(errors.values()):.0e})"
    print(f"| {label} | {median['exact', 4.0]:.2f} s | {median['exact', 6.0]:.2f} s | 1 |")
    for name in others:
        ratios = [median[name, M] / median["exact", M] for M in (4.0, 6.0)]
        print(f"| {name} | {median[name, 4.0]:.3g} s* | {median[name, 6.0]:.3g} s* | {ratios[0]:.0f}, {ratios[1]:.0f} |")
    print("\n\\* extrapolated from the time per step")


def op_path() -> str:
    """Instruction set of the kernel in use."""
    from overparam._core import cpu

    return cpu.info()["path"]


if __name__ == "__main__":
    main()
