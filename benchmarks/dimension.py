"""What a million dimensions cost: `python benchmarks/dimension.py` prints time and memory of the same run in d = 5 and d = 10^6.

The start in d = 10^6 is the one in d = 5, rotated into the larger space by a random orthonormal frame, so both runs take the same
path. The basis is found once; the peak is what the run adds to it.
"""

from __future__ import annotations

import resource
import time
import tracemalloc

import numpy as np

import overparam as op

STEPS = 20_000


def start(d: int, small: np.ndarray) -> np.ndarray:
    """The start `small` (n, 5) in d dimensions."""
    if d == small.shape[1]:
        return small
    frame = np.linalg.qr(np.random.default_rng(1).standard_normal((d, small.shape[1])))[0]
    return small @ frame.T


def main() -> None:
    rng = np.random.default_rng(0)
    small = 1e-7 * rng.standard_normal((5, 5))
    small[:, 0] += 6.0
    finals = {}
    for d in (5, 5, 1_000_000):  # the first one warms up
        obj = op.ScoreMatching(op.Gaussian(np.zeros(d)), rule=op.Auto(tol=1e-10))
        params0 = start(d, small)
        began = time.perf_counter()
        state = obj.start(params0)
        basis_time = time.perf_counter() - began
        began = time.process_time()  # of the processor: other work on the machine does not count
        traj = op.gradient_descent(obj, state, step_size=0.01, steps=STEPS, progress=False)
        seconds = time.process_time() - began
        tracemalloc.start()
        op.gradient_descent(obj, state, step_size=0.01, steps=STEPS // 20, progress=False)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        finals[d] = np.sort(np.linalg.norm(traj.final_state.coordinates, axis=1))
        stored = sum(part.nbytes for part in (traj.centres, traj.deviations)) / 2**20
        print(f"d = {d:>9,}: basis {basis_time:6.3f} s once, then {1e6 * seconds / STEPS:6.1f} us of processor time a step; "
              f"a run adds at most {peak:.1f} MiB; trajectory {stored:.2f} MiB for {len(traj)} records; "
              f"nodes at the end {obj.plan(traj.final_state).nodes}", flush=True)
    apart = np.abs(finals[5] / finals[1_000_000] - 1).max()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"final norms agree to {apart:.1e}; peak resident size of the process {resident:.2f} GiB")


if __name__ == "__main__":
    main()
