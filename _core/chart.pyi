import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

@disjoint_base
class Motion:
    def __new__(
        cls,
        capsule: CapsuleType,
        turn: NDArray[np.float64],  # (k, k)
        fixed: NDArray[np.float64],  # (k,)
        levels: NDArray[np.float64],  # (k,)
        box: NDArray[np.float64],  # (4, k)
        moving: bool,
        far: bool,
        widest: int,
        alive: NDArray[np.float64],  # (k,)
        soft: float,
        least: float,
    ) -> Motion: ...
    @property
    def speed(self) -> float: ...
    def slope(
        self,
        y: NDArray[np.float64],
        lowest: NDArray[np.float64],
        highest: NDArray[np.float64],
        out: NDArray[np.float64],  # OUT
    ) -> bool: ...
    def jacobian(
        self,
        y: NDArray[np.float64],
        lowest: NDArray[np.float64],
        highest: NDArray[np.float64],
        increment: float,
        out: NDArray[np.float64],  # OUT
    ) -> bool: ...
    def inside(self, y: NDArray[np.float64]) -> bool | None: ...
