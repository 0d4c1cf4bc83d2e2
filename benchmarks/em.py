"""Processor time and number of plans of hybrid EM against mixtures: the table of docs/numerics.md, under "Weights that move".

    python benchmarks/em.py                 # a few seconds
"""

from __future__ import annotations

import time

import numpy as np

import overparam as op
from overparam.objectives.quadrature_plan import QuadraturePlan

CASES = (1, 3, 1), (3, 5, 1), (1, 3, 2), (2, 4, 2), (3, 3, 2), (3, 10, 2)
STEPS, RADIUS, TOL = 300, 3.0, 1e-6


def problem(m: int, n: int, d: int) -> tuple[op.KLDivergence, np.ndarray]:
    """m components at distance RADIUS from 0 in random directions (evenly spaced on a line), and n draws to start from."""
    means = np.random.default_rng(0).standard_normal((m, d))
    means *= RADIUS / np.linalg.norm(means, axis=1)[:, None]
    if d == 1:
        means = np.linspace(-RADIUS, RADIUS, m)[:, None] if m > 1 else np.zeros((1, 1))
    teacher = op.GaussianMixture(means) if m > 1 else op.Gaussian(means[0])
    return op.KLDivergence(teacher, rule=op.Auto(TOL)), teacher.sample(n, rng=0)


def main() -> None:
    made, whole = [], QuadraturePlan.__init__

    def counted(self, *arguments, **options):
        made.append(1)
        return whole(self, *arguments, **options)

    QuadraturePlan.__init__ = counted
    print(f"{'m, n, d':>10} {'seconds':>8} {'plans':>6} {'loss':>10} {'largest bound':>14}")
    for case in CASES:
        obj, start = problem(*case)
        made.clear()
        began = time.process_time()
        run = op.em(obj, start, steps=STEPS, step_size=0.5, progress=False)
        seconds = time.process_time() - began
        print(f"{', '.join(map(str, case)):>10} {seconds:>8.2f} {len(made):>6} {run.loss[-1]:>10.2e} {run.loss_error.max():>14.1e}")


if __name__ == "__main__":
    main()
