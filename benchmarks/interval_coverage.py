"""Coverage of the nominal 95 % intervals of sampled rules: `python benchmarks/interval_coverage.py`.

Random configurations of rank 1 to 3 against a single Gaussian (spreads up to 10) and against mixtures of 2 or 3 components, 1 to 6
apart, with weights down to 1e-6; the truth is Auto's value at a tolerance far below the standard errors. Only configurations that are
flagged reliable count; the share of the others and what their intervals would cover are printed beside.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from configurations import KINDS, draw
from test_rules import draw_mixture

import overparam as op

RULES = {rule.__name__: rule for rule in (op.MonteCarlo, op.Stratified, op.Sobol)}
HIGH = {"single": (10.0, 8.0, 4.0), "mixture": (8.0, 4.0, 2.0)}  # widest spreads by rank: what the truth can be had for in a second


def configuration(family: str, number: int) -> tuple[np.ndarray, np.ndarray, op.GaussianMixture | op.Gaussian]:
    """(params, weights, teacher) of one configuration."""
    rng = np.random.default_rng([7, number])
    rank = 1 + number % 3
    params, weights = draw(rng, rank, KINDS[number // 3 % len(KINDS)], high=HIGH[family][rank - 1])
    if family == "single":
        return params, weights, op.Gaussian(np.zeros(rank))
    return params, weights, op.GaussianMixture(*draw_mixture(rng, rank))


def inside(found: op.Estimate, truth: op.Estimate) -> np.ndarray:
    """Which intervals hold the truth: the loss's, then one for every component of the gradient."""
    (low, high), (below, above) = found.interval(0.95)
    return np.append(low <= truth.value <= high, (below <= truth.grad) & (truth.grad <= above))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=108, help="configurations of each family")
    parser.add_argument("--seeds", type=int, default=5, help="draws of a rule for each")
    parser.add_argument("--nodes", type=int, default=8192, help="points of a rule, for every teacher component")
    arguments = parser.parse_args()
    for family in HIGH:
        hits: dict[tuple[str, bool], list[np.ndarray]] = {(name, flag): [] for name in RULES for flag in (True, False)}
        hard = 0
        for number in range(arguments.count):
            params, weights, teacher = configuration(family, number)
            truth = op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=1e-8, max_nodes=1_000_000)).estimate(params)
            if truth.bounds is None:
                hard += 1
                continue
            for (name, rule), draw_number in product(RULES.items(), range(arguments.seeds)):
                drawn = rule(arguments.nodes, rng=arguments.seeds * number + draw_number)
                found = op.ScoreMatching(teacher, weights=weights, rule=drawn).estimate(params)
                hits[name, found.reliable].append(inside(found, truth))
        print(f"{family}: {arguments.count - hard} configurations, {arguments.seeds} draws each ({hard} left out: no truth within 1e6 "
              "nodes)")
        for name in RULES:
            kept, flagged = hits[name, True], hits[name, False]
            # components of one draw go together: the standard error is that of a ratio over draws
            share = np.mean(np.concatenate(kept))
            off = np.array([(one - share).sum() for one in kept])
            error = np.sqrt((off**2).sum()) / sum(one.size for one in kept)
            rest = f", which would cover {100 * np.mean(np.concatenate(flagged)):.1f} %" if flagged else ""
            print(f"  {name}({arguments.nodes}): reliable {len(kept)} draws, {sum(one.size for one in kept)} components, covered "
                  f"{100 * share:.1f} +- {100 * error:.1f} % (loss {100 * np.mean([one[0] for one in kept]):.1f} %); "
                  f"flagged unreliable {100 * len(flagged) / (len(kept) + len(flagged)):.1f} %{rest}", flush=True)


if __name__ == "__main__":
    main()
