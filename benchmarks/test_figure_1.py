"""The paper's experiment, whole, against its peers step by step, in one run.

Times of the peers are for PEER_STEPS steps; `extra_info["us_per_step"]` is what to compare.
"""

import pytest
from peers import STEP_SIZE, numpy_monte_carlo, numpy_quadrature, start, torch_monte_carlo

import overparam as op

STEPS = 20_000
PEER_STEPS = 20


@pytest.mark.parametrize("M", [4.0, 6.0])
def test_exact_run(benchmark, M):
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0, 0.0]), rule=op.Auto(tol=1e-10))
    traj = benchmark.pedantic(op.gradient_descent, args=(obj, start(M)), kwargs={"step_size": STEP_SIZE, "steps": STEPS, "progress": False},
                              rounds=5, warmup_rounds=1)
    benchmark.group = f"Figure 1, M={M:g}"
    benchmark.extra_info.update(us_per_step=1e6 * benchmark.stats.stats.median / STEPS, evaluations=traj.evaluations,
                                largest_relative_bound=float((traj.loss_error / traj.loss).max()))


@pytest.mark.parametrize("M", [4.0, 6.0])
@pytest.mark.parametrize("peer", [numpy_quadrature, numpy_monte_carlo, torch_monte_carlo], ids=lambda peer: peer.__name__)
def test_peer(benchmark, peer, M):
    if peer is torch_monte_carlo:
        torch = pytest.importorskip("torch")
        torch.set_num_threads(1)
    benchmark.pedantic(peer, args=(start(M), PEER_STEPS), rounds=5, warmup_rounds=1)
    benchmark.group = f"Figure 1, M={M:g}"
    benchmark.extra_info.update(us_per_step=1e6 * benchmark.stats.stats.median / PEER_STEPS)
