"""Xu and Du 2023, arXiv 2302.10034: one ReLU neuron learned by n, population loss. One module per statement or family."""

from overparam.theory.xu2023 import bounds, gradients, laws, phases

__all__ = ["bounds", "gradients", "laws", "phases"]
