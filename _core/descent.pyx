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
    ctypedef struct op_job:
        const op_evaluator *evaluator
        op_burst burst
        double *centre
        double *deviations
        Py_ssize_t steps, done
        int reason
        double value, seconds
    void op_run_job(void *context, Py_ssize_t piece, void *workspace) noexcept nogil

cdef extern from "threads.h":
    const char *OP_THREADS_CAPSULE
    ctypedef void (*op_task)(void *context, Py_ssize_t piece, void *workspace) noexcept nogil
    ctypedef struct op_threads:
        void (*run)(op_task task, void *context, Py_ssize_t count, size_t workspace_bytes, void *workspace) noexcept nogil

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


cdef class Job:
    """Up to `steps` descent steps that are to be taken, with a velocity if there is one: see descent.h and :func:`run`.

    Floors are those of the gradient without factors. Centre, deviations and velocities are moved in place.
    """

    cdef op_job job
    cdef void *memory
    cdef object capsule  # what the pointers point to, from here on
    cdef double[::1] centre, centre_velocity
    cdef double[:, ::1] deviations, velocity
    cdef tuple limits
    cdef readonly bint ran

    def __cinit__(
        self,
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
    ):
        cdef op_evaluator *e = unpack(capsule)
        cdef op_burst *b = &self.job.burst
        cdef Py_ssize_t n = e.n, k = e.k
        cdef double *doubles
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
        self.memory = malloc(e.workspace_bytes + 64 + <size_t>(4 * (k + n * k)) * sizeof(double))
        if self.memory == NULL:
            raise MemoryError
        self.capsule, self.centre, self.deviations = capsule, centre, deviations
        self.centre_velocity, self.velocity = centre_velocity, velocity
        self.limits = (low.base, high.base, spread_low.base, spread_high.base, row_floor.base,
                       None if step_sizes is None else step_sizes.base, None if factors is None else factors.base)
        b.workspace = aligned(self.memory)
        doubles = <double *>(aligned(self.memory) + e.workspace_bytes)
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
        b.momentum, b.look_ahead = momentum, look_ahead
        b.step_size, b.moving_centre = step_size, moving_centre
        b.value_floor, b.value_ceiling = value_floor, value_ceiling
        b.low, b.high = &low[0], &high[0]
        b.spread_low, b.spread_high = &spread_low[0], &spread_high[0]
        b.row_floor = &row_floor[0]
        self.job.evaluator, self.job.steps = e, steps
        self.job.centre, self.job.deviations = &centre[0], &deviations[0, 0]

    def __dealloc__(self):
        free(self.memory)

    @property
    def found(self):
        """(steps done, reason, last value evaluated or NaN) of a job that has run."""
        if not self.ran:
            raise RuntimeError("this job has not run")
        return self.job.done, self.job.reason, self.job.value

    @property
    def seconds(self):
        """How long it took."""
        return self.job.seconds


def run(list jobs, double seconds=0.05):
    """Run all of `jobs`, several at a time where the library may use threads, and return after about `seconds`, at least one step on.

    What comes of a job does not depend on the others, but for where it pauses.
    """
    cdef Py_ssize_t count = len(jobs), i
    cdef op_job **table
    cdef Job job
    cdef object threads
    cdef const op_threads *pool
    if count == 0:
        return
    from overparam._core import threads

    pool = <const op_threads *>PyCapsule_GetPointer(threads.capsule, OP_THREADS_CAPSULE)
    for item in jobs:
        if not isinstance(item, Job):
            raise TypeError(f"jobs must be Jobs, got {type(item).__name__}")
        if (<Job>item).ran:
            raise ValueError("a job runs once")
    if len(set(jobs)) < count:
        raise ValueError("a job runs once")
    table = <op_job **>malloc(<size_t>count * sizeof(op_job *))
    if table == NULL:
        raise MemoryError
    for i in range(count):
        job = jobs[i]
        job.ran = True
        job.job.burst.seconds = seconds * min(threads.count(), count) / count
        table[i] = &job.job
    with nogil:
        if count == 1:
            op_run_job(table, 0, NULL)
        else:
            pool.run(op_run_job, table, count, 64, NULL)
        free(table)


def burst(*arguments, double seconds=0.05, **more):
    """One :class:`Job` of these arguments, run at once: (steps done, reason, last value evaluated or NaN)."""
    job = Job(*arguments, **more)
    run([job], seconds)
    return job.found
