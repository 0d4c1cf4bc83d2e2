import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

@disjoint_base
class Evaluator:
    def __init__(
        self,
        target: NDArray[np.float64],  # (d, k): k = d, or 2 d for complex numbers
        depth: int,
        balance: float,
    ) -> None: ...
    @property
    def k(self) -> int: ...
    @property
    def capsule(self) -> CapsuleType: ...
