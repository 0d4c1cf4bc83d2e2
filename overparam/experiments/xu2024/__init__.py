"""Xu et al., arXiv 2407.00490: gradient EM on a single Gaussian."""

from overparam.experiments.xu2024 import bad_region as _bad_region  # noqa: F401  importing it registers it
from overparam.experiments.xu2024 import figure_1 as _figure_1  # noqa: F401
