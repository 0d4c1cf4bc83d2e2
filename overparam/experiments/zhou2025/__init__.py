"""Zhou et al., arXiv 2506.06584: gradient EM on a mixture, with weights that move."""

from overparam.experiments.zhou2025 import recovery as _recovery  # noqa: F401  importing it registers it
