from typing import Never

import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

@disjoint_base
class Evaluator:
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...  # raises TypeError: from_nodes and from_tensor make one
    @staticmethod
    def from_nodes(
        nodes: NDArray[np.float64],  # (k, N)
        weights: NDArray[np.float64],  # (N,)
        target: NDArray[np.float64],  # (k, N), or (k, 1): constant
        log_weights: NDArray[np.float64],  # (n,)
        likelihood: bool = False,
        log_teacher: NDArray[np.float64] | None = None,  # (N,)
    ) -> Evaluator: ...
    @staticmethod
    def from_tensor(
        axis_nodes: NDArray[np.float64],
        axis_weights: NDArray[np.float64],
        orders: NDArray[np.intp],  # (k,)
        target: NDArray[np.float64],  # (k,)
        log_weights: NDArray[np.float64],  # (n,)
        likelihood: bool = False,
    ) -> Evaluator: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def pieces(self) -> int: ...
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
    def evaluate_shares(
        self,
        centre: NDArray[np.float64],  # IN (k,)
        deviations: NDArray[np.float64],  # IN (n, k)
        shares: NDArray[np.float64],  # OUT (n,)
        rows: NDArray[np.float64],  # OUT (n, k)
    ) -> float: ...
    def near(self, centre: NDArray[np.float64], deviations: NDArray[np.float64]) -> int: ...
    def evaluate_stein(
        self,
        params: NDArray[np.float64],  # IN (n, k)
        rows: NDArray[np.float64],  # OUT (n, k)
    ) -> float: ...
    def majorants(
        self,
        centre: NDArray[np.float64],  # IN (k,)
        deviations: NDArray[np.float64],  # IN (n, k)
        A: NDArray[np.float64],  # OUT (n,)
        B: NDArray[np.float64],  # OUT (n,)
        C: NDArray[np.float64],  # OUT (n,)
    ) -> float: ...
