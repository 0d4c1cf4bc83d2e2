"""Nodes that Auto takes in one dimension against the spread of the means: `python benchmarks/nodes.py`.

Worst case, two clusters of equal weight around the target (the table's D is their distance), for a single value, not a run. Beside it an
empirical fit of how many trapezoid nodes such a case needs for that error when nothing is proved,
m = 2 L D (ln(1/tol) + 7.5) / (2 pi^2) + 6 with L = 5.7, 7.2, 8.3 and m at least 2 L / 0.9 + 1.
"""

from __future__ import annotations

import numpy as np

import overparam as op

SPREADS = (0.5, 1.0, 3.0, 6.0, 10.0, 20.0)
TOLERANCES = {1e-6: 5.7, 1e-10: 7.2, 1e-13: 8.3}


def main() -> None:
    print("| spread D | " + " | ".join(f"tol {tol:g}: nodes / fit, true error" for tol in TOLERANCES) + " |")
    print("|---|" + "---|" * len(TOLERANCES))
    for spread in SPREADS:
        params = spread * np.array([[-0.5], [0.5]])
        truth = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(6000, half_width=40.0)).estimate(params)
        cells = []
        for tol, half_width in TOLERANCES.items():
            found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=tol)).estimate(params)
            fit = max(2 * half_width * spread * (np.log(1 / tol) + 7.5) / (2 * np.pi**2) + 6, 2 * half_width / 0.9 + 1)
            error = (np.linalg.norm(found.grad - truth.grad, axis=1) / np.linalg.norm(truth.grad, axis=1)).max()
            cells.append(f"{found.nodes} / {fit:.0f}, {error:.0e}")
        print(f"| {spread:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
