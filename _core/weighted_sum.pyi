from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

@disjoint_base
class WeightedSum:
    def __init__(
        self,
        capsules: Sequence[CapsuleType],  # K of them
        turns: NDArray[np.float64],  # (K, k, k)
        scales: NDArray[np.float64],  # (K,)
        weights: NDArray[np.float64],  # (K,)
    ) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
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
