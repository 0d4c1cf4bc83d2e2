"""The paper's experiment, whole, against its peers step by step, in one run; table.py makes the README's table of it.

The exact runs are timed whole; peers take some steps, and `extra_info["us_per_step"]` is what to compare.
"""

import limits  # first: it puts BLAS on one thread
import numpy as np
import peers
import pytest

import overparam as op

STEPS = 20_000


@pytest.mark.parametrize("M", [4.0, 6.0])
@pytest.mark.parametrize("tol", [1e-8, 1e-10])
def test_exact_run(benchmark, M, tol):
    obj = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=tol))
    settings = {"step_size": peers.STEP_SIZE, "steps": STEPS, "progress": False}
    benchmark.group = f"Figure 1, M={M:g}"
    traj = benchmark.pedantic(op.gradient_descent, args=(obj, peers.start(M)), kwargs=settings, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(label=f"`op.gradient_descent`, `Auto({tol:g})`", M=M, path=limits.path(),
                                us_per_step=1e6 * benchmark.stats.stats.median / STEPS, evaluations=traj.evaluations, records=len(traj),
                                largest_relative_bound=float((traj.loss_error / traj.loss).max()))


@pytest.mark.filterwarnings("default")  # a peer's own deprecations are not ours
@pytest.mark.parametrize("M", [4.0, 6.0])
@pytest.mark.parametrize("label", peers.PEERS)
def test_peer(benchmark, label, M):
    peer, _, steps = peers.PEERS[label]
    reason = peers.missing(peer)
    if reason:
        pytest.skip(reason)
    benchmark.group = f"Figure 1, M={M:g}"
    benchmark.pedantic(peer, args=(peers.start(M), steps), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(label=label, M=M, us_per_step=1e6 * benchmark.stats.stats.median / steps)
