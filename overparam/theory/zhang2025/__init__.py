"""Zhang et al. 2025, arXiv 2511.22069: over-parameterized score matching of one Gaussian. One module per statement or family."""

from overparam.theory.zhang2025 import small_noise

__all__ = ["small_noise"]
