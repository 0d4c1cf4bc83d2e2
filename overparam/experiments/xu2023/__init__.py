"""Xu and Du, arXiv 2302.10034: one ReLU neuron learned by n."""

from overparam.experiments.xu2023 import phases as _phases  # noqa: F401  importing it registers it
from overparam.experiments.xu2023 import slowdown as _slowdown  # noqa: F401
