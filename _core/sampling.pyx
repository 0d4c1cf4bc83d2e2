"""Stratified standard normal points from given uniforms; Python draws the randomness."""

from scipy.special.cython_special cimport ndtri

# The smallest and largest probability whose normal quantile is used: 2**-53 is one ulp below 1, and by symmetry the
# distance kept from 0. The points stay within |x| < 8.3 and are always finite.
cdef double LOWEST = 2.0**-53
cdef double HIGHEST = 1.0 - 2.0**-53


def stratified_normal(
    const double[:, ::1] uniforms,  # IN (N, r), in [0, 1)
    const Py_ssize_t[:, ::1] strata,  # IN (N, r), cell of each point on each axis
    const Py_ssize_t[::1] counts,  # IN (r,), cells on each axis
    double[:, ::1] out,  # OUT (N, r)
):
    """out[b, a] = ndtri((strata[b, a] + uniforms[b, a]) / counts[a]), kept finite."""
    cdef Py_ssize_t points = uniforms.shape[0], axes = uniforms.shape[1], b, a
    cdef double p
    if strata.shape[0] != points or out.shape[0] != points:
        raise ValueError("uniforms, strata and out must have the same number of rows")
    if strata.shape[1] != axes or out.shape[1] != axes or counts.shape[0] != axes:
        raise ValueError("uniforms, strata, counts and out must have the same number of axes")
    with nogil:
        for b in range(points):
            for a in range(axes):
                p = (strata[b, a] + uniforms[b, a]) / counts[a]
                out[b, a] = ndtri(min(max(p, LOWEST), HIGHEST))
