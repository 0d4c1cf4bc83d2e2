"""How cost grows with students, dimension, rank, separation, tolerance and threads: `python benchmarks/growth.py` (two minutes).

Writes a picture and a CSV. At each point a plan is made for fixed parameters, then value and gradient are evaluated many times in one
compiled call. Times are medians of the processor's; those of the threads are of the clock, the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import limits  # first: it puts BLAS on one thread
import numpy as np
from problems import STILL
from rounds import interleaved
from workers import reason_against

import overparam as op

TARGET = 0.05  # seconds for each measurement of many evaluations
COLUMNS = ("panel", "x", "nodes", "evaluation_us", "plan_us", "basis_us", "settings")


def evaluations(plan: Any, state: op.State, count: int) -> None:
    """`count` values and gradients in one compiled call."""
    while count:  # a burst may return early, to let Python look at signals
        found = plan.burst(state, STILL, count, np.inf)
        if not found.steps or found.reason != "done":
            raise RuntimeError(f"{found.steps} of {count} evaluations: {found.reason}")
        count -= found.steps


def enough(run: Callable[[int], None]) -> int:
    """How many evaluations take about TARGET seconds."""
    run(1)
    began = time.process_time()
    run(3)
    return int(np.clip(3 * TARGET / max(time.process_time() - began, 1e-6), 1, 100_000))


def point(panel: str, x: float, params: np.ndarray, tol: float, rounds: int, settings: str, rule: Any = None) -> dict[str, Any]:
    """One line of the CSV."""
    objective = op.ScoreMatching(op.Gaussian(np.zeros(params.shape[1])), rule=rule or op.Auto(tol=tol))
    state = objective.start(params)
    plan = objective.plan(state)
    state, _ = plan.settle(state)
    count = enough(lambda count: evaluations(plan, state, count))
    found = interleaved({"evaluation": lambda: evaluations(plan, state, count), "plan": lambda: objective.plan(state),
                         "basis": lambda: objective.start(params)}, rounds, warm_up=params.size < 10**6)
    middle = {name: 1e6 * float(np.median(times)) for name, times in found.items()}
    return {"panel": panel, "x": x, "nodes": plan.nodes, "evaluation_us": middle["evaluation"] / count, "plan_us": middle["plan"],
            "basis_us": middle["basis"], "settings": settings}


def turned(small: np.ndarray, d: int, seed: int = 1) -> np.ndarray:
    """`small` (n, k) in d dimensions, by a random orthonormal frame."""
    if d == small.shape[1]:
        return small
    return small @ np.linalg.qr(np.random.default_rng(seed).standard_normal((d, small.shape[1])))[0].T


def normal(n: int, k: int, spread: float = 1.0) -> np.ndarray:
    """Normal draws, the same for all that share n and k."""
    return spread * np.random.default_rng([n, k]).standard_normal((n, k))


def clusters(distance: float, n: int = 4) -> np.ndarray:
    """Two clusters on a line around the target."""
    return distance * np.where(np.arange(n) % 2, 0.5, -0.5)[:, None] + 1e-3 * normal(n, 1)


def single_threaded(rounds: int) -> Iterator[dict[str, Any]]:
    """All panels but the last."""
    for n in (2, 5, 10, 20, 50, 100, 200, 500):
        yield point("students n", n, normal(n, 2), 1e-8, rounds if n < 200 else 3, "normal draws on 2 axes, Auto(1e-8)")
    for d in (2, 10, 100, 1000, 10_000, 100_000, 1_000_000):
        yield point("dimension d", d, turned(normal(5, 2), d), 1e-8, rounds if d < 10**5 else 3, "n=5, normal draws on 2 axes, Auto(1e-8)")
    spans = np.array([1.9, 1.3, 0.7])
    for rank in (1, 2, 3):
        yield point("rank", rank, normal(5, 3)[:, :rank] * (spans / np.ptp(normal(5, 3), axis=0))[:rank], 1e-8, rounds,
                    "n=5, the means 1.9, 1.3, 0.7 wide along the axes, Auto(1e-8)")
    for distance in (1e-6, 1e-3, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0):
        yield point("separation", distance, clusters(distance), 1e-8, rounds, "n=4, two clusters on a line, Auto(1e-8)")
    for exponent in range(2, 14):
        yield point("tolerance", 10.0**-exponent, normal(5, 2), 10.0**-exponent, rounds, "n=5, normal draws on 2 axes")


def with_threads(rounds: int) -> Iterator[dict[str, Any]]:
    """The last panel: a large evaluation on one thread and more, in turns."""
    params, rule = normal(5, 2, 3.0), op.GaussHermite(600)
    objective = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=rule)
    state = objective.start(params)
    plan = objective.plan(state)
    state, _ = plan.settle(state)
    count = enough(lambda count: evaluations(plan, state, count))

    def run(threads: int) -> None:
        with op.threads(threads):
            evaluations(plan, state, count)

    tried = [threads for threads in (1, 2, 4, 8) if not reason_against(threads)]
    found = interleaved({str(threads): lambda threads=threads: run(threads) for threads in tried}, 3 * rounds, clock=time.perf_counter)
    for threads in tried:
        yield {"panel": "threads", "x": threads, "nodes": plan.nodes, "evaluation_us": 1e6 * found[str(threads)].min() / count,
               "plan_us": "", "basis_us": "", "settings": "n=5, rank 2, 600×600 nodes; by the clock, fastest round"}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Six panels, or five where there are no threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = list(dict.fromkeys(row["panel"] for row in rows))
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), sharey=True, layout="constrained")
    axes[0, 0].set_ylim(0.1, 1e7)
    for ax, panel in zip(axes.flat, panels):
        ax.tick_params(labelleft=True)
        here = [row for row in rows if row["panel"] == panel]
        x = [row["x"] for row in here]
        ax.plot(x, [row["evaluation_us"] for row in here], "o-", color="C0", label="one evaluation (value and gradient)")
        if panel != "threads":
            ax.plot(x, [row["plan_us"] for row in here], "s--", color="C1", label="making a plan and its bounds")
        if panel == "dimension d":
            ax.plot(x, [row["basis_us"] for row in here], "^:", color="C2", label="finding the basis, once")
        ax.plot(x, [row["nodes"] for row in here], ".", color="0.6", zorder=0, label="nodes, their number")
        ax.set_yscale("log")
        if panel in ("rank", "threads"):
            ax.set_xticks(x)
            ax.margins(x=0.15)
        else:
            ax.set_xscale("log")
        if panel == "tolerance":
            ax.invert_xaxis()
        ax.set_xlabel(panel)
        ax.set_ylabel("µs (grey: number)")
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_title(here[0]["settings"], fontsize=8.5)
    for ax in axes.flat[len(panels):]:
        ax.axis("off")
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("."), help="where cost_growth.png and cost_growth.csv go")
    arguments = parser.parse_args()
    rows = []

    def add(found: Iterator[dict[str, Any]]) -> None:
        for row in found:
            rows.append(row)
            shown = ", ".join(f"{name[:-3]} {row[name]:,.3g} µs" for name in ("evaluation_us", "plan_us", "basis_us") if row[name] != "")
            print(f"{row['panel']} {row['x']:g}: {row['nodes']:,} nodes, {shown}", flush=True)

    print(f"{limits.path()} kernel")
    add(single_threaded(arguments.rounds))
    if reason_against(2):
        print(f"threads: skipped, {reason_against(2)}")
    else:
        add(with_threads(arguments.rounds))
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "cost_growth.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows)
    draw(rows, arguments.out / "cost_growth.png")


if __name__ == "__main__":
    main()
