"""Luo et al. 2025, arXiv 2511.09925: gradient descent on four-layer matrix factorization. One module per statement or family."""

from overparam.theory.luo2025 import balanced_flow, convergence, descent, determinant, random_starts, skew_and_hermitian

__all__ = ["balanced_flow", "convergence", "descent", "determinant", "random_starts", "skew_and_hermitian"]
