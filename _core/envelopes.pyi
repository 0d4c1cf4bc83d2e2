import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class Envelopes:
    def __init__(
        self,
        params: NDArray[np.float64],  # (n, k)
        deviations: NDArray[np.float64],  # (n, k)
        weights: NDArray[np.float64],  # (n,)
        component: NDArray[np.float64],  # (k,)
        share: float,
        distances: NDArray[np.float64],  # (n,)
        widest: NDArray[np.float64],  # (n,)
    ) -> None: ...
    def steepest(self, points: NDArray[np.float64]) -> float: ...
    def beyond(
        self,
        axis: int,
        side: int,
        edges: NDArray[np.float64],  # (E,)
        modes: NDArray[np.float64],  # (n, k)
        steps: NDArray[np.float64],  # (k,)
        tails: NDArray[np.float64],  # OUT (E, n)
        moments: NDArray[np.float64],  # OUT (E, n)
        centres: NDArray[np.float64],  # OUT (E, n, k)
    ) -> None: ...
    def left_out(
        self,
        axis: int,
        side: int,
        edges: NDArray[np.float64],  # (E,)
        modes: NDArray[np.float64],  # (n, k)
        steps: NDArray[np.float64],  # (k,)
        rows: NDArray[np.float64],  # OUT (E, n)
        losses: NDArray[np.float64],  # OUT (E,)
    ) -> None: ...
    def reach(
        self,
        axis: int,
        side: int,
        edges: NDArray[np.float64],  # (E,)
        modes: NDArray[np.float64],  # (n, k)
        steps: NDArray[np.float64],  # (k,)
        targets: NDArray[np.float64],  # (n,)
        loss_target: float,
        rows: NDArray[np.float64],  # OUT (n,)
    ) -> tuple[int, float]: ...
