"""Random students that a rule must cope with: spread means, clusters, one far mean, coincident means, unequal weights."""

from __future__ import annotations

import numpy as np

KINDS = ("spread", "clusters", "one far", "unequal weights", "near coincident", "coincident")


def draw(rng, rank, kind, low=0.01, high=10.0):
    """(params (n, rank), weights (n,)), n from 2 to 8; extents log-uniform in [low, high] per axis, the first axis the widest."""
    n = int(rng.integers(max(2, rank + 1) if kind not in ("clusters", "coincident") else 4, 9))
    extents = np.sort(np.exp(rng.uniform(np.log(low), np.log(high), rank)))[::-1]
    params = rng.uniform(-0.5, 0.5, (n, rank))
    weights = np.full(n, 1 / n)
    if kind == "clusters":
        params = rng.uniform(-0.5, 0.5, (2, rank))[rng.integers(0, 2, n)] + 1e-3 * rng.standard_normal((n, rank))
    elif kind == "one far":
        params = 0.05 * params
        params[0, 0] += rng.choice([-1.0, 1.0])
        extents[0] = max(extents[0], min(high, rng.uniform(5.0, 20.0)))
    elif kind == "unequal weights":
        weights = rng.dirichlet(np.full(n, 0.3)) * (1 - n * 1e-6) + 1e-6
        weights /= weights.sum()
    elif kind == "near coincident":
        params[1:] = params[1] + 1e-6 * rng.standard_normal((n - 1, rank))
    elif kind == "coincident":
        params = params[rng.integers(0, 3, n)]
    width = np.ptp(params, axis=0)
    params = (params - params.mean(axis=0)) / np.where(width > 1e-9, width, 1.0) * extents  # all coincident stay so
    offset = rng.uniform(-0.5, 0.5, rank) * min(3.0, high)
    return params + offset, weights


def draw_mixture(rng, rank, kind, high):
    """(params (n, rank), weights, means (m, rank), teacher weights), m = 2 or 3, every other teacher with a light component.

    Components lie up to `high` apart, a light one has weight 1e-3 to 1e-6; students as in :func:`draw`, at most five of them.
    """
    components = int(rng.integers(2, 4))
    means = rng.standard_normal((components, rank)) * np.exp(rng.uniform(np.log(0.02), np.log(high / 2)))
    teacher_weights = rng.dirichlet(np.full(components, 3.0))
    if rng.random() < 0.5:
        light = 10.0 ** rng.uniform(-6, -3)
        teacher_weights[-1] = 0.0
        teacher_weights *= (1 - light) / teacher_weights.sum()
        teacher_weights[-1] = light
    params, weights = draw(rng, rank, kind, low=1e-3, high=high)
    kept = np.sort(rng.permutation(len(params))[:5])
    return params[kept] + teacher_weights @ means, weights[kept] / weights[kept].sum(), means, teacher_weights
