"""The README's table from a run of the suite.

    pytest benchmarks --benchmark-only --benchmark-json=run.json
    python benchmarks/table.py run.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

STEPS = 20_000
DISTANCES = (4.0, 6.0)


def seconds(amount: float) -> str:
    """Three digits, or two decimals."""
    return f"{amount:.2f} s" if amount < 10 else f"{amount:.3g} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="what pytest-benchmark wrote")
    run = json.loads(parser.parse_args().json.read_text())
    rows: dict[str, dict[float, dict]] = {}
    limits = []
    for benchmark in run["benchmarks"]:
        info = benchmark["extra_info"]
        if benchmark["group"] == "limits":
            limits.append(f"{benchmark['params']['name']} {info['rate']:.3g} {info['unit']}")
        if (benchmark["group"] or "").startswith("Figure 1"):
            rows.setdefault(info["label"], {})[info["M"]] = info
    if not rows:
        parser.error("no benchmark of Figure 1 in this file: was test_figure_1.py among those run?")
    exact = {label: found for label, found in rows.items() if "records" in next(iter(found.values()))}
    first = next(iter(exact.values()))
    path = next(iter(first.values()))["path"]
    print(f"{run['datetime'][:10]}, {run['machine_info']['machine']}, {path} kernel, Python {run['machine_info']['python_version']}, "
          f"processor time on one thread; limits: {', '.join(limits)}\n")
    print(f"| {STEPS:,} steps, n=5, d=3 | ".replace(",", " ", 1) + " | ".join(f"M={M:g}" for M in DISTANCES) + " | times longer |")
    print("|---|" + "---|" * (len(DISTANCES) + 1))
    for label, found in rows.items():
        times = [found[M]["us_per_step"] * STEPS / 1e6 for M in DISTANCES]
        longer = [found[M]["us_per_step"] / first[M]["us_per_step"] for M in DISTANCES]
        shown = "1" if found is first else ", ".join(f"{ratio:.3g}" for ratio in longer)
        if label in exact:
            label += f" (largest relative bound on the loss: {max(found[M]['largest_relative_bound'] for M in DISTANCES):.0e})"
            print(f"| {label} | " + " | ".join(map(seconds, times)) + f" | {shown} |")
        else:
            print(f"| {label} | " + " | ".join(f"{seconds(time)}*" for time in times) + f" | {shown} |")
    print("\n\\* extrapolated from the time per step")


if __name__ == "__main__":
    main()
