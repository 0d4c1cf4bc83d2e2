"""Zhang, Xu, Fazel, Zhou and Du 2026, "Is sqrt(d) separation necessary": hybrid EM of mixtures in high dimension."""

from overparam.theory.zhang2026 import initialisation, loss_bounds, separation, tails

__all__ = ["initialisation", "loss_bounds", "separation", "tails"]
