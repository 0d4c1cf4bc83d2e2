"""Zhang et al. 2025, arXiv 2511.22069: over-parameterized score matching of one Gaussian. One module per statement or family."""

from overparam.theory.zhang2025 import (
    edges,
    large_noise,
    laws_far,
    laws_gradient,
    lemmas_a,
    lemmas_b,
    lemmas_d,
    lemmas_stage_one,
    one_offset,
    random_start,
    slow_loss,
    small_noise,
    stationary_point,
)

__all__ = ["edges",
    "large_noise",
    "laws_far",
    "laws_gradient",
    "lemmas_a",
    "lemmas_b",
    "lemmas_d",
    "lemmas_stage_one",
    "one_offset",
    "random_start",
    "slow_loss",
    "small_noise",
    "stationary_point",
]
