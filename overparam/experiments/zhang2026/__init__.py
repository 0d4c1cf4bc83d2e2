"""Zhang, Xu, Fazel, Zhou and Du 2026: is √d separation necessary?"""

from overparam.experiments.zhang2026 import separation as _separation  # noqa: F401  importing it registers it
