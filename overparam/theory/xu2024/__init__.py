"""Xu et al. 2024, arXiv 2407.00490: gradient EM of an over-parameterized mixture on one Gaussian. One module per statement or family."""

from overparam.theory.xu2024 import bad_region, gradients, laws_global, laws_local, main_theorem

__all__ = ["bad_region", "gradients", "laws_global", "laws_local", "main_theorem"]
