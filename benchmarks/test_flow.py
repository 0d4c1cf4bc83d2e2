"""The flow to 1e14 against SciPy's LSODA on the NumPy twin, in one run: see flow.py."""

import numpy as np
import pytest
from flow import overparam_flow, scipy_lsoda


@pytest.mark.parametrize("records", [1, 200])
def test_flow_to_1e14(benchmark, records):
    benchmark.group = "gradient flow to 1e14"
    final, evaluations = benchmark.pedantic(overparam_flow, args=(records,), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(evaluations=evaluations, farthest=float(np.abs(final).max()))


def test_peer(benchmark):
    benchmark.group = "gradient flow to 1e14"
    final, evaluations = benchmark.pedantic(scipy_lsoda, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(evaluations=evaluations, farthest=float(np.abs(final).max()))
