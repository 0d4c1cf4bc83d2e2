from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import CapsuleType, disjoint_base

REASONS: dict[str, int]

def evaluate(
    capsule: CapsuleType,
    centre: NDArray[np.float64],  # IN (k,)
    deviations: NDArray[np.float64],  # IN (n, k)
    form: int,
    mean_row: NDArray[np.float64] | None,  # OUT (k,)
    rows: NDArray[np.float64] | None,  # OUT (n, k)
) -> float: ...
@disjoint_base
class Job:
    def __new__(
        cls,
        capsule: CapsuleType,
        centre: NDArray[np.float64],  # IN/OUT (k,)
        deviations: NDArray[np.float64],  # IN/OUT (n, k)
        step_size: float,
        steps: int,
        moving_centre: bool,
        low: NDArray[np.float64],  # (k,)
        high: NDArray[np.float64],  # (k,)
        spread_low: NDArray[np.float64],  # (k,)
        spread_high: NDArray[np.float64],  # (k,)
        row_floor: NDArray[np.float64],  # (n,)
        value_floor: float,
        value_ceiling: float,
        step_sizes: NDArray[np.float64] | None = None,  # (steps,)
        factors: NDArray[np.float64] | None = None,  # (n,)
        momentum: float = 0.0,
        look_ahead: bool = False,
        centre_velocity: NDArray[np.float64] | None = None,  # IN/OUT (k,)
        velocity: NDArray[np.float64] | None = None,  # IN/OUT (n, k)
    ) -> Job: ...
    @property
    def ran(self) -> bool: ...
    @property
    def found(self) -> tuple[int, int, float]: ...
    @property
    def seconds(self) -> float: ...
def run(jobs: list[Job], seconds: float = 0.05) -> None: ...
def burst(*arguments: Any, seconds: float = 0.05, **more: Any) -> tuple[int, int, float]: ...
