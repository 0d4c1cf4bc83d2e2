"""Hessian of score matching over (nodes, weights, target), or its product with a direction.

The formulas are in hessian.h. Whoever calls from Python has validated values; here only shapes are checked, because a
wrong shape would read foreign memory.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "cpu.h":
    int op_path_choose(int *refused) nogil

cdef extern from "hessian.h":
    ctypedef struct op_hessian_job:
        Py_ssize_t n, k, count
        const double *nodes
        const double *weights
        const double *target
        int constant
        const double *centre
        const double *delta
        const double *log_prior
        const double *direction
        double *result
        double *square
        double *unit

    ctypedef void (*op_hessian_kernel)(const op_hessian_job *job, double *workspace) noexcept nogil

    op_hessian_kernel op_hessian(int path) nogil
    size_t op_hessian_workspace(const op_hessian_job *job) nogil

cdef int _refused = 0
cdef op_hessian_kernel _kernel = op_hessian(op_path_choose(&_refused))


cdef int check(tuple found, tuple wanted, str name) except -1:
    if found != wanted:
        raise ValueError(f"{name} must have shape {wanted}, got {found}")
    return 0


cdef inline tuple shape(const double[:, ::1] array):
    return array.shape[0], array.shape[1]


def hessian(
    const double[:, ::1] nodes,  # IN (N, k)
    const double[::1] weights,  # IN (N,)
    const double[:, ::1] target,  # IN (N, k), or (1, k): constant
    const double[::1] centre,  # IN (k,)
    const double[:, ::1] deviations,  # IN (n, k)
    const double[::1] log_weights,  # IN (n,)
    const double[:, ::1] direction,  # IN (n, k) or None
    double[:, ::1] result,  # OUT (n k, n k), or (n, k) with a direction
    double[:, ::1] square,  # OUT (n, n); both may be None with a direction
    double[:, ::1] unit,  # OUT (n, n)
):
    """The Hessian, or its product with `direction`, and the two sums for directions off the axes; overwritten."""
    cdef op_hessian_job job
    cdef Py_ssize_t n = deviations.shape[0], k = deviations.shape[1], count = nodes.shape[0]
    cdef void *memory
    if n < 1 or k < 1 or count < 1:
        raise ValueError(f"at least one parameter, axis and node is needed, got {n}, {k}, {count}")
    check(shape(nodes), (count, k), "nodes")
    check((weights.shape[0],), (count,), "weights")
    check(shape(target), (1 if target.shape[0] == 1 else count, k), "target")
    check((centre.shape[0],), (k,), "centre")
    check((log_weights.shape[0],), (n,), "log_weights")
    if square is not None and unit is not None:
        check(shape(square), (n, n), "square")
        check(shape(unit), (n, n), "unit")
        job.square, job.unit = &square[0, 0], &unit[0, 0]
    elif direction is None:
        raise ValueError("square and unit are needed without a direction")
    else:
        job.square = job.unit = NULL
    if direction is None:
        check(shape(result), (n * k, n * k), "result")
        job.direction = NULL
    else:
        check(shape(direction), (n, k), "direction")
        check(shape(result), (n, k), "result")
        job.direction = &direction[0, 0]
    job.n, job.k, job.count = n, k, count
    job.nodes, job.weights, job.target, job.constant = &nodes[0, 0], &weights[0], &target[0, 0], target.shape[0] == 1
    job.centre, job.delta, job.log_prior = &centre[0], &deviations[0, 0], &log_weights[0]
    job.result = &result[0, 0]
    memory = malloc(op_hessian_workspace(&job) * sizeof(double) + 64)
    if memory == NULL:
        raise MemoryError
    with nogil:
        _kernel(&job, <double *>((<uintptr_t>memory + 63) // 64 * 64))
        free(memory)
