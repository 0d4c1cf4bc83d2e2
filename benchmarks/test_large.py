"""Large problems and far means: a compiled call of some evaluations each. targets.py has their ratios, measured in turns."""

import limits
import problems
import pytest

LARGE = {"n=50, r=10, N=2^16": (50, 10, 2**16, 0.3), "n=1000, r=200, N=2^14": (1000, 200, 2**14, 0.1)}


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("what", ["kernel", "products alone"])
def test_large(benchmark, size, what):
    n, k, nodes, width = LARGE[size]
    if what == "kernel":
        run = problems.drawn(n, k, nodes, width).run(1)
    elif limits.have_compiler():
        run = limits.products(n, k, nodes)
    else:
        pytest.skip("no C compiler here: what the machine can do is measured by a small C program")
    benchmark.group = size
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(gflops=10e-9 * n * k * nodes / benchmark.stats.stats.median, path=limits.path())


@pytest.mark.parametrize("spread", [1.0, 200.0])
@pytest.mark.parametrize("how", problems.FAR)
def test_far_means(benchmark, how, spread):
    problem = problems.FAR[how](spread)
    benchmark.group = f"far means, {how}"
    benchmark.pedantic(problem.run(300), rounds=7, warmup_rounds=1)
    benchmark.extra_info.update(spread=spread, ns_per_node=1e9 * benchmark.stats.stats.median / 300 / problem.nodes)
