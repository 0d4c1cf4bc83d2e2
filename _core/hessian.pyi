import numpy as np
from numpy.typing import NDArray

def hessian(
    nodes: NDArray[np.float64],  # IN (N, k)
    weights: NDArray[np.float64],  # IN (N,)
    target: NDArray[np.float64],  # IN (N, k), or (1, k): constant
    centre: NDArray[np.float64],  # IN (k,)
    deviations: NDArray[np.float64],  # IN (n, k)
    log_weights: NDArray[np.float64],  # IN (n,)
    direction: NDArray[np.float64] | None,  # IN (n, k)
    result: NDArray[np.float64],  # OUT (n k, n k), or (n, k) with a direction
    square: NDArray[np.float64] | None,  # OUT (n, n); both may be None with a direction
    unit: NDArray[np.float64] | None,  # OUT (n, n)
) -> None: ...
