"""Tyurin 2026, arXiv 2606.19876: the reverse Fisher divergence of a mixture of Gaussians. One module per statement or family."""

from overparam.theory.tyurin2026 import assignment, global_convergence, gradients, laws_late, sphere, step_size, total_variation

__all__ = ["assignment", "global_convergence", "gradients", "laws_late", "sphere", "step_size", "total_variation"]
