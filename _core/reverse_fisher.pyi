import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

@disjoint_base
class Evaluator:
    def __init__(
        self,
        nodes: NDArray[np.float64],  # (k, N)
        weights: NDArray[np.float64],  # (N,)
        means: NDArray[np.float64],  # (m, k)
        log_teacher: NDArray[np.float64],  # (m,)
        log_weights: NDArray[np.float64],  # (n,)
    ) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def nodes(self) -> int: ...
    @property
    def capsule(self) -> CapsuleType: ...
    def evaluate(
        self,
        centre: NDArray[np.float64],  # IN (k,)
        deviations: NDArray[np.float64],  # IN (n, k)
        form: int,
        mean_row: NDArray[np.float64] | None,  # OUT (k,)
        rows: NDArray[np.float64] | None,  # OUT (n, k)
    ) -> float: ...
    def scales(
        self,
        centre: NDArray[np.float64],  # IN (k,)
        deviations: NDArray[np.float64],  # IN (n, k)
        scales: NDArray[np.float64],  # OUT (n,)
        slopes: NDArray[np.float64],  # OUT (n + 1,)
    ) -> float: ...
