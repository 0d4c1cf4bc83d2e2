"""Zhou et al. 2025, arXiv 2506.06584: the hybrid of EM and gradient EM on mixtures. One module per statement or family."""

from overparam.theory.zhou2025 import clusters, gradients, hybrid, recovery

__all__ = ["clusters", "gradients", "hybrid", "recovery"]
