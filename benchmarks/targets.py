"""The targets that the kernels and runs are held to, each as a ratio measured in one run: `python benchmarks/targets.py` (two minutes).

Contenders take turns in rounds, and a ratio is the median over the rounds, with its range. Times are of the processor, so that other work
on the machine does not count; those of two threads are of the clock. What is not installed is skipped with a word.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from threading import Thread

import limits  # first: it puts BLAS on one thread
import numpy as np
import peers
import problems
from dimension import start as rotated
from flow import overparam_flow, scipy_lsoda
from rounds import interleaved, spread
from workers import reason_against

import overparam as op

STEPS = 20_000


@dataclass(frozen=True)
class Row:
    """A line of the table: a ratio that is to be at least or at most `limit`; no ratios where it could not be measured."""

    what: str
    sign: str
    limit: float
    ratios: np.ndarray | None
    note: str = ""

    def __str__(self) -> str:
        shown, verdict = "–", "skipped"
        if self.ratios is not None:
            found = float(np.median(self.ratios))
            shown = spread(self.ratios, 0 if found > 100 else 3 if found < 1 else 2)
            verdict = "met" if (found >= self.limit if self.sign == "≥" else found <= self.limit) else "**missed**"
        return f"| {self.what} | {self.sign} {self.limit:g} | {shown} | {'; '.join(filter(None, (verdict, self.note)))} |"


def bound_of_rows(objective: op.ScoreMatching, traj: op.Trajectory) -> float:
    """Largest relative bound on a row of the gradient at any record."""
    worst = 0.0
    for state in traj.states:
        found = objective.estimate(state)
        worst = max(worst, float((found.grad_error / np.linalg.norm(found.grad, axis=1)).max()))
    return worst


def exact_run(objective: op.ScoreMatching, params0: np.ndarray, records: int) -> Callable[[], op.Trajectory]:
    """The paper's run."""
    return partial(op.gradient_descent, objective, params0, step_size=peers.STEP_SIZE, steps=STEPS, record=op.log_spaced(records),
                   progress=False)


def figure_1(rounds: int) -> Iterator[Row]:
    """Whole runs of 20 000 steps against steps of PyTorch's Monte Carlo."""
    reason, peer_steps = peers.missing(peers.torch_monte_carlo), 20
    for M in (4.0, 6.0):
        what = f"Figure 1, M={M:g}, bound ≤ 1e-8 per row: PyTorch eager, batch 20 000, over it"
        if reason:
            yield Row(what, "≥", 1000, None, reason)
            continue
        objective, params0 = op.ScoreMatching(op.Gaussian(np.zeros(3)), rule=op.Auto(tol=1e-8)), peers.start(M)
        found = interleaved({**{str(records): exact_run(objective, params0, records) for records in (200, 20)},
                             "torch": partial(peers.torch_monte_carlo, params0, peer_steps)}, rounds)
        whole = found["torch"] * STEPS / peer_steps
        traj = exact_run(objective, params0, 200)()
        yield Row(what, "≥", 1000, whole / found["200"],
                  f"{1e6 * np.median(found['200']) / STEPS:.1f} µs a step, {len(traj)} records, the largest relative bound of a row "
                  f"{bound_of_rows(objective, traj):.0e}; with op.log_spaced(20) {np.median(whole / found['20']):,.0f}")


def small_kernel(rounds: int) -> Iterator[Row]:
    """n=5 on the grid of 64×3×3 nodes: against JAX and against what the core can issue."""
    evaluations = 4000
    tensor, explicit = problems.tensor(peers.grid_axes(), 5, 1.0), problems.listed(*peers.grid(), 5, 1.0)
    params = tensor.centre + tensor.deviations
    reason = peers.missing(peers.jax_fused_quadrature)
    contenders: dict[str, Callable] = {**limits.contenders(), "tensor": tensor.run(evaluations), "list": explicit.run(evaluations)}
    if not reason:
        contenders["jax"] = lambda: peers.jax_fused_quadrature(params, evaluations, problems.STILL)
    found = interleaved(contenders, rounds)
    what = "n=5, 64×3×3 nodes: JAX jit with the gradient fused by hand over the kernel"
    if reason:
        yield Row(what, "≥", 5, None, reason)
    else:
        yield Row(what, "≥", 5, found["jax"] / found["tensor"],
                  f"the same nodes as a plain list: {np.median(found['jax'] / found['list']):.1f}")
    for name, problem, how in (("tensor", tensor, "tensor rule"), ("list", explicit, "plain list of nodes")):
        what = f"the same, {how}: kernel over its exp and flop issue bound"
        if not limits.have_compiler():
            yield Row(what, "≤", 1.6, None, "no C compiler")
            continue
        units = limits.by_round(found)
        yield Row(what, "≤", 1.6, found[name] / evaluations / problem.issue_bound(units),
                  f"over exponentials and the five products alone {np.median(found[name] / evaluations / problem.bound(units)):.2f}")


def large_kernels(rounds: int) -> Iterator[Row]:
    """Where products are BLAS's."""
    for n, k, nodes, power, evaluations, least, width in ((50, 10, 2**16, 16, 5, 0.7, 0.3), (1000, 200, 2**14, 14, 1, 0.8, 0.1)):
        what = f"n={n}, r={k}, N=2^{power}: exp and flops at dgemm's peak, over the kernel"
        if not limits.have_compiler():
            yield Row(what, "≥", least, None, "no C compiler")
            continue
        problem = problems.drawn(n, k, nodes, width)
        found = interleaved({**limits.contenders(), "kernel": problem.run(evaluations), "products": limits.products(n, k, nodes)}, rounds)
        units = limits.by_round(found)
        alone = np.median(units["dgemm"] * problem.flops / found["products"])
        share = np.median(found["products"] * evaluations / found["kernel"])
        yield Row(what, "≥", least, problem.bound(units) * evaluations / found["kernel"],
                  f"the products alone, in the kernel's blocks, by the same BLAS: {alone:.0%} of dgemm's peak, {share:.0%} of the "
                  f"kernel's time; exp is {np.median(problem.exps * units['exp'] * evaluations / found['kernel']):.0%}")


def on_two(run: Callable[[], None]) -> None:
    """`run` on two threads."""
    with op.threads(2):
        run()


def alone() -> None:
    """Some milliseconds of exponentials."""
    for _ in range(20):
        limits.exponentials()


def side_by_side() -> None:
    """The same on each of two threads at once."""
    loops = [Thread(target=alone) for _ in range(2)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()


def two_threads(rounds: int) -> Iterator[Row]:
    """One thread over two, by the clock: the fastest of the rounds, since others' work counts here.

    Beside it what two independent loops of exponentials gain on this machine now, and what the processor's time says, which others' work
    does not touch: twice the time on one over that of both together is the gain of two free processors.
    """
    reason = reason_against(2)
    for n, k, nodes, power in ((5, 3, 2**17, 17), (50, 10, 2**16, 16), (1000, 200, 2**14, 14)):
        what = f"n={n}, r={k}, N=2^{power}: one thread over two"
        if reason:
            yield Row(what, "≥", 1.9, None, reason)
            continue
        evaluations = 1 if n == 1000 else 10
        run = problems.drawn(n, k, nodes, 0.1 if n == 1000 else 1.0 if n == 5 else 0.3).run(evaluations)
        contenders = {"one": run, "two": partial(on_two, run)}
        if limits.have_compiler():
            contenders |= {"exp": alone, "two exps": side_by_side}
        found = interleaved(contenders, 3 * rounds, clock=time.perf_counter)
        busy = interleaved({"one": run, "two": partial(on_two, run)}, rounds)
        free = f"; two loops of exp gain {2 * found['exp'].min() / found['two exps'].min():.2f} here" if "exp" in found else ""
        yield Row(what, "≥", 1.9, np.array([found["one"].min() / found["two"].min()]),
                  f"fastest of {3 * rounds} rounds by the clock, {1e3 * found['one'].min() / evaluations:.1f} ms an evaluation{free}; "
                  f"by the processor's time {2 * np.median(busy['one'] / busy['two']):.2f}")


def dimension(rounds: int) -> Iterator[Row]:
    """The same run in d = 5 and, rotated, in d = 10^6."""
    small = 1e-7 * np.random.default_rng(0).standard_normal((5, 5))
    small[:, 0] += 6.0
    runs = {}
    for d in (5, 1_000_000):
        objective = op.ScoreMatching(op.Gaussian(np.zeros(d)), rule=op.Auto(tol=1e-10))
        state = objective.start(rotated(d, small))
        runs[str(d)] = (objective, state)

    def run(d: str) -> op.Trajectory:
        objective, state = runs[d]
        return op.gradient_descent(objective, state, step_size=0.01, steps=STEPS, progress=False)

    found = interleaved({d: lambda d=d: run(d) for d in runs}, rounds)
    nodes = {d: runs[d][0].plan(run(d).final_state).nodes for d in runs}
    yield Row("d=10^6, n=5, 20 000 steps after the basis: over d=5", "≤", 1.1, found["1000000"] / found["5"],
              f"{1e6 * np.median(found['1000000']) / STEPS:.1f} µs a step; nodes at the end {nodes['1000000']:,} and {nodes['5']:,}")


def flow(rounds: int) -> Iterator[Row]:
    """Gradient flow of the M=6 run to flow time 1e14."""
    found = interleaved({"ours": overparam_flow, "scipy": scipy_lsoda}, rounds)
    yield Row("flow of the M=6 run to 1e14, 1-D, rtol 1e-9: over SciPy's LSODA on 600 nodes", "≤", 0.3, found["ours"] / found["scipy"],
              f"{overparam_flow()[1]:,} and {scipy_lsoda()[1]:,} evaluations")


def imports(rounds: int) -> Iterator[Row]:
    """Processor time of the import statement in a fresh interpreter, bytecode cached as after an installation."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(module: str) -> float:
        code = f"import time; began = time.process_time(); import {module}; print(time.process_time() - began)"
        return float(subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, env=settings).stdout)

    found = {"numpy": [], "overparam": []}
    for _ in range(3 * rounds + 1):  # the first writes the bytecode
        for module, times in found.items():
            times.append(seconds(module))
    ours, numpy = (np.array(found[module][1:]) for module in ("overparam", "numpy"))
    yield Row("import overparam over import numpy", "≤", 1.5, ours / numpy,
              f"{1e3 * np.median(ours):.0f} and {1e3 * np.median(numpy):.0f} ms")


def far_means(rounds: int) -> Iterator[Row]:
    """No slow path through denormal numbers: far means make most weights tiny."""
    made = {(how, spread): make(spread).run(300) for how, make in problems.FAR.items() for spread in (1.0, 200.0)}
    found = interleaved(made, 3 * rounds)
    for how in problems.FAR:
        beside = np.median(found[how, 200.0] / found["plain list of nodes", 200.0])
        yield Row(f"{how}, 256×16 nodes, n=5: spread 200 over spread 1", "≤", 1.5, found[how, 200.0] / found[how, 1.0],
                  "" if how == "plain list of nodes" else
                  f"at spread 1 exponentials are taken along the axes only; at 200 they underflow, and it costs {beside:.2f} of the list")


SECTIONS = {"figure_1": figure_1, "small_kernel": small_kernel, "large_kernels": large_kernels, "two_threads": two_threads,
            "dimension": dimension, "flow": flow, "imports": imports, "far_means": far_means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    arguments = parser.parse_args()
    print(f"{datetime.date.today()}, {platform.machine()}, {limits.path()} kernel, one thread unless it says otherwise, Python "
          f"{platform.python_version()}; {arguments.rounds} interleaved rounds, processor time, median and range of the ratios")
    print(limits.described(limits.units(interleaved(limits.contenders(), arguments.rounds))) + "\n")
    print("| what | target | measured | |\n|---|---|---|---|")
    for name in arguments.only:
        for row in SECTIONS[name](arguments.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
