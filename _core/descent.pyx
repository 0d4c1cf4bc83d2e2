"""The compiled burst loop, over any evaluator that comes in a capsule (see evaluator.h).

Python decides, this computes: it stops at the first thing that needs a decision and says which.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "evaluator.h":
    const char *OP_EVALUATOR_CAPSULE
    ctypedef struct op_evaluator:
        int (*evaluate)(const void *context, const double *centre, const double *deviations, int form, double *value,
                        double *mean_row, double *rows, void *workspace) noexcept nogil
        const void *context
        size_t workspace_bytes
        Py_ssize_t n, k

cdef extern from "descent.h":
    enum:
        OP_DONE
        OP_LEFT_BOX
        OP_SHRUNK
        OP_DIVERGED
        OP_NOT_FINITE
    ctypedef struct op_burst:
        double step_size, value_floor, value_ceiling
        int moving_centre
        const double *low
        const double *high
        const double *spread_low
        const double *spread_high
        const double *row_floor
        const double *step_sizes
        const double *factors
        double momentum
        int look_ahead
        double seconds
        double *centre_velocity
        double *velocity
        double *mean_row
        double *rows
        double *new_centre
        double *new_deviations
        double *new_centre_velocity
        double *new_velocity
        double *centre_ahead
        double *deviations_ahead
        void *workspace
    Py_ssize_t op_descend(const op_evaluator *e, const op_burst *b, double *centre, double *deviations,
                          Py_ssize_t steps, int *reason, double *value) noexcept nogil

REASONS = {
    "done": OP_DONE,
    "left_box": OP_LEFT_BOX,
    "shrunk": OP_SHRUNK,
    "diverged": OP_DIVERGED,
    "not_finite": OP_NOT_FINITE,
}


cdef inline char *aligned(void *memory) noexcept nogil:
    return <char *>((<uintptr_t>memory + 63) // 64 * 64)


cdef op_evaluator *unpack(object capsule) except NULL:
    return <op_evaluator *>PyCapsule_GetPointer(capsule, OP_EVALUATOR_CAPSULE)


cdef int check(str name, Py_ssize_t given, Py_ssize_t wanted) except -1:
    if given != wanted:
        raise ValueError(f"{name} must have {wanted} entries on its axis, got {given}")
    return 0


def evaluate(
    capsule,
    const double[::1] centre,  # IN (k,)
    const double[:, ::1] deviations,  # IN (n, k)
    int form,  # 0: value only; 1: absolute rows; 2: deviation rows
    double[::1] mean_row,  # OUT (k,); None for form 0
    double[:, ::1] rows,  # OUT (n, k); None for form 0
):
    """The value of any capsule's objective; mean_row and rows are written."""
    cdef op_evaluator *e = unpack(capsule)
    cdef double value
    cdef double *to_mean = NULL
    cdef double *to_rows = NULL
    cdef void *workspace
    check("centre", centre.shape[0], e.k)
    check("deviations", deviations.shape[0], e.n)
    check("deviations", deviations.shape[1], e.k)
    if form < 0 or form > 2:
        raise ValueError(f"form must be 0, 1 or 2, got {form}")
    if form > 0:
        if mean_row is None or rows is None:
            raise ValueError("mean_row and rows are needed for forms 1 and 2")
        check("mean_row", mean_row.shape[0], e.k)
        check("rows", rows.shape[0], e.n)
        check("rows", rows.shape[1], e.k)
        to_mean, to_rows = &mean_row[0], &rows[0, 0]
    workspace = malloc(e.workspace_bytes + 64)
    if workspace == NULL:
        raise MemoryError
    with nogil:
        e.evaluate(e.context, &centre[0], &deviations[0, 0], form, &value, to_mean, to_rows, aligned(workspace))
        free(workspace)
    return value


def burst(
    capsule,
    double[::1] centre,  # IN/OUT (k,)
    double[:, ::1] deviations,  # IN/OUT (n, k)
    double step_size,
    Py_ssize_t steps,
    bint moving_centre,  # descend in (centre, deviations); else in the deviations alone
    const double[::1] low,  # (k,): the box of the parameters
    const double[::1] high,
    const double[::1] spread_low,  # (k,): the box of max - min over the deviations
    const double[::1] spread_high,
    const double[::1] row_floor,  # (n,): stop before a step once a row is shorter
    double value_floor,
    double value_ceiling,
    const double[::1] step_sizes=None,  # (steps,): in place of step_size
    const double[::1] factors=None,  # (n,): of the gradient rows
    double momentum=0.0,
    bint look_ahead=False,  # gradients at x + momentum v
    double[::1] centre_velocity=None,  # IN/OUT (k,); both velocities or none
    double[:, ::1] velocity=None,  # IN/OUT (n, k)
    double seconds=0.05,  # return after about this long, at least one step on
):
    """Up to `steps` descent steps, with a velocity if there is one: see descent.h. Floors are those of the gradient without factors.

    Returns (steps done, reason, last value evaluated or NaN).
    """
    cdef op_evaluator *e = unpack(capsule)
    cdef op_burst b
    cdef Py_ssize_t n = e.n, k = e.k, done
    cdef int reason
    cdef double value
    cdef double *doubles
    cdef void *memory
    check("centre", centre.shape[0], k)
    check("deviations", deviations.shape[0], n)
    check("deviations", deviations.shape[1], k)
    check("low", low.shape[0], k)
    check("high", high.shape[0], k)
    check("spread_low", spread_low.shape[0], k)
    check("spread_high", spread_high.shape[0], k)
    check("row_floor", row_floor.shape[0], n)
    if step_sizes is not None:
        check("step_sizes", step_sizes.shape[0], steps)
    if factors is not None:
        check("factors", factors.shape[0], n)
    if (velocity is None) != (centre_velocity is None) or (look_ahead and velocity is None):
        raise ValueError("centre_velocity and velocity are needed together, and for look_ahead")
    if velocity is not None:
        check("centre_velocity", centre_velocity.shape[0], k)
        check("velocity", velocity.shape[0], n)
        check("velocity", velocity.shape[1], k)
    memory = malloc(e.workspace_bytes + 64 + <size_t>(4 * (k + n * k)) * sizeof(double))
    if memory == NULL:
        raise MemoryError
    b.workspace = aligned(memory)
    doubles = <double *>(aligned(memory) + e.workspace_bytes)
    b.mean_row, b.new_centre = doubles, doubles + k
    b.rows, b.new_deviations = doubles + 2 * k, doubles + 2 * k + n * k
    doubles = doubles + 2 * (k + n * k)
    b.new_centre_velocity, b.new_velocity = doubles, doubles + k
    doubles = doubles + k + n * k
    b.centre_ahead, b.deviations_ahead = doubles, doubles + k
    b.step_sizes = &step_sizes[0] if step_sizes is not None and steps > 0 else NULL
    b.factors = &factors[0] if factors is not None else NULL
    b.centre_velocity = &centre_velocity[0] if velocity is not None else NULL
    b.velocity = &velocity[0, 0] if velocity is not None else NULL
    b.momentum, b.look_ahead, b.seconds = momentum, look_ahead, seconds
    b.step_size, b.moving_centre = step_size, moving_centre
    b.value_floor, b.value_ceiling = value_floor, value_ceiling
    b.low, b.high = &low[0], &high[0]
    b.spread_low, b.spread_high = &spread_low[0], &spread_high[0]
    b.row_floor = &row_floor[0]
    with nogil:
        done = op_descend(e, &b, &centre[0], &deviations[0, 0], steps, &reason, &value)
        free(memory)
    return done, reason, value
