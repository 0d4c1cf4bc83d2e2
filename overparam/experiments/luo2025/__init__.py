"""Luo et al. 2025, arXiv 2511.09925: gradient descent on four-layer matrix factorization."""

from overparam.experiments.luo2025 import convergence, dichotomy, saddle_avoidance

__all__ = ["convergence", "dichotomy", "saddle_avoidance"]
