"""Tyurin, arXiv 2606.19876: the reverse Fisher divergence."""

from overparam.experiments.tyurin2026 import forward_vs_reverse as _forward_vs_reverse  # noqa: F401  importing it registers it
from overparam.experiments.tyurin2026 import mixture_teacher as _mixture_teacher  # noqa: F401
