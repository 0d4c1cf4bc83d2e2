import numpy as np
from numpy.typing import NDArray

def stratified_normal(
    uniforms: NDArray[np.float64],  # IN (N, r), in [0, 1)
    strata: NDArray[np.intp],  # IN (N, r)
    counts: NDArray[np.intp],  # IN (r,)
    out: NDArray[np.float64],  # OUT (N, r)
) -> None: ...
