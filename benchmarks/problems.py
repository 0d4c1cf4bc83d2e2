"""Problems for the kernels alone, fixed nodes and parameters, many evaluations in one compiled call; and what these cost at least.

Two lower bounds, from the limits of limits.py. Of large problems: their exponentials at the rate of exp in L1, plus five products of 2 n k
flops a node (logits, mean, inner products, two sums) at the rate of a large dgemm; maxima, divisions, smaller sums and memory are left out.
Of small ones, where these are not small, the issue bound: all arithmetic of the method, one instruction for a multiplication with its
addition, at the rate at which dgemm issues them, and one division a node; loads, stores, what is not done node by node are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._core import descent
from overparam._core.score_matching import Evaluator

STILL = 1e-30  # a step size that moves nothing: every evaluation costs the same


@dataclass(frozen=True)
class Problem:
    """An evaluator, where it is evaluated, and its size.

    `exps` is how many exponentials its method needs. A `factored` tensor rule multiplies exponentials of its axes instead of taking
    logits, and sums over all but the longest axis once for a line of nodes.
    """

    evaluator: Evaluator
    centre: np.ndarray
    deviations: np.ndarray
    exps: int
    factored: bool = False

    @property
    def n(self) -> int:
        """Parameters."""
        return len(self.deviations)

    @property
    def k(self) -> int:
        """Axes."""
        return len(self.centre)

    @property
    def nodes(self) -> int:
        """Nodes, without padding."""
        return self.evaluator.nodes

    @property
    def flops(self) -> float:
        """Of the five products."""
        return 10.0 * self.n * self.k * self.nodes

    @property
    def operations(self) -> float:
        """All arithmetic over the nodes, one for a multiplication with its addition.

        For each parameter: logits k, maximum, difference and sum of the softmax (factored: one product and the sum); mean k; inner
        product with D k; two weights; sums k, k (factored: 1), 1. For each node: y = x - c (k), mean, D, u.D and |D|^2
        (4 k), value and two weights.
        """
        n, k = self.n, self.k
        each = 3 * k + 6 if self.factored else 5 * k + 6
        return float(self.nodes * (n * each + (1 if self.factored else k) + 4 * k + 3))

    def bound(self, unit: Mapping[str, Any]) -> Any:
        """Seconds for exponentials and the five products."""
        return self.exps * unit["exp"] + self.flops * unit["dgemm"]

    def issue_bound(self, unit: Mapping[str, Any]) -> Any:
        """Seconds for exponentials, all arithmetic and divisions."""
        return self.exps * unit["exp"] + 2 * self.operations * unit["dgemm"] + self.nodes * unit["divide"]

    def run(self, evaluations: int) -> Callable[[], None]:
        """Steps of gradient descent that move nothing, value and gradient each, in one compiled call."""
        wide = np.full(self.k, np.inf)
        limits = (-wide, wide, -wide, wide, np.zeros(self.n), -np.inf, np.inf)

        def steps() -> None:
            left = evaluations
            while left:  # a burst may return early, to let Python look at signals
                done, reason, _ = descent.burst(self.evaluator.capsule, self.centre, self.deviations, STILL, left, True, *limits)
                if not done or reason != descent.REASONS["done"]:
                    raise RuntimeError(f"{done} of {left} steps, reason {reason}")
                left -= done

        return steps


def placed(n: int, k: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Centre and normal deviations."""
    return np.eye(k)[0], spread * np.random.default_rng(seed).normal(size=(n, k))


def listed(nodes: np.ndarray, weights: np.ndarray, n: int, spread: float) -> Problem:
    """An explicit list of nodes (N, k) against a Gaussian at 0: one exponential for each node and parameter."""
    k = nodes.shape[1]
    evaluator = Evaluator.from_nodes(np.ascontiguousarray(nodes.T), weights, np.zeros((k, 1)), np.full(n, -np.log(n)))
    return Problem(evaluator, *placed(n, k, spread), exps=n * len(weights))


def tensor(axes: list[tuple[np.ndarray, np.ndarray]], n: int, spread: float) -> Problem:
    """A tensor rule against a Gaussian at 0: exponentials along the axes only, where their products serve."""
    orders = np.array([len(nodes) for nodes, _ in axes], dtype=np.intp)
    flat = [np.concatenate(parts) for parts in zip(*axes)]
    evaluator = Evaluator.from_tensor(*flat, orders, np.zeros(len(axes)), np.full(n, -np.log(n)))
    return Problem(evaluator, *placed(n, len(axes), spread), exps=n * int(orders.sum()), factored=True)


def drawn(n: int, k: int, nodes: int, spread: float) -> Problem:
    """Normal draws as nodes."""
    return listed(np.random.default_rng(1).standard_normal((nodes, k)), np.full(nodes, 1 / nodes), n, spread)


def even_axes(orders: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Evenly spaced nodes of equal weight on [-7, 7], axis by axis."""
    return [(np.linspace(-7, 7, order), np.full(order, 1 / order)) for order in orders]


def multiplied_out(axes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (N, k) and weights (N,) of a tensor rule."""
    nodes = np.stack([part.ravel() for part in np.meshgrid(*(axis[0] for axis in axes), indexing="ij")], axis=1)
    weights = np.ones(1)
    for _, axis_weights in axes:
        weights = np.multiply.outer(weights, axis_weights).ravel()
    return nodes, weights


# The same 4096 nodes in two ways, n = 5, as functions of the spread: far means make nearly all weights tiny.
FAR_ORDERS = (256, 16)
FAR: dict[str, Callable[[float], Problem]] = {
    "plain list of nodes": lambda spread: listed(*multiplied_out(even_axes(FAR_ORDERS)), 5, spread),
    "tensor rule": lambda spread: tensor(even_axes(FAR_ORDERS), 5, spread),
}
