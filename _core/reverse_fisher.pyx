"""The reverse Fisher divergence over one rule that moves with every student mean: value, rows, and what rounding is proportional to.

The formulas are in reverse_fisher.h. Whoever calls from Python has validated values; here only shapes are checked, because a
wrong shape would read foreign memory.
"""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY, exp, sqrt
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "cpu.h":
    int op_path_choose(int *refused) nogil

cdef extern from "evaluator.h":
    const char *OP_EVALUATOR_CAPSULE
    ctypedef struct op_evaluator:
        int (*evaluate)(
            const void *context, const double *centre, const double *deviations, int form,
            double *value, double *mean_row, double *rows, void *workspace,
        ) noexcept nogil
        const void *context
        size_t workspace_bytes
        Py_ssize_t n, k

cdef extern from "reverse_fisher.h":
    const int OP_REVERSE_CHUNK
    ctypedef struct op_reverse:
        Py_ssize_t n, k, m, count
        const double *nodes
        const double *weights
        double reach
        const double *log_prior
        const double *prior
        int equal_prior
        const double *means
        const double *log_teacher

    ctypedef struct op_reverse_kernels:
        int (*evaluate)(
            const void *rule, const double *centre, const double *deviations, int form,
            double *value, double *mean_row, double *rows, void *workspace,
        ) noexcept nogil
        int (*scales)(
            const op_reverse *rule, const double *centre, const double *deviations,
            double *value, double *scales, double *slopes, void *workspace,
        ) noexcept nogil

    op_reverse_kernels op_reverse_choose(int path) nogil
    size_t op_reverse_workspace(const op_reverse *rule) nogil

cdef int _refused = 0
cdef op_reverse_kernels _kernels = op_reverse_choose(op_path_choose(&_refused))


cdef void release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef inline void *aligned(void *memory) noexcept nogil:
    return <void *>((<uintptr_t>memory + 63) // 64 * 64)


cdef inline Py_ssize_t padded(Py_ssize_t count) noexcept:
    return (count + OP_REVERSE_CHUNK - 1) // OP_REVERSE_CHUNK * OP_REVERSE_CHUNK


cdef int check_parameters(Evaluator self, const double[::1] centre, const double[:, ::1] deviations) except -1:
    if centre.shape[0] != self.rule.k or deviations.shape[0] != self.rule.n or deviations.shape[1] != self.rule.k:
        raise ValueError(
            f"centre must have shape ({self.rule.k},) and deviations ({self.rule.n}, {self.rule.k}), "
            f"got ({centre.shape[0]},) and ({deviations.shape[0]}, {deviations.shape[1]})"
        )
    return 0


cdef class Evaluator:
    """One rule at every student mean, for a student of fixed weights and a teacher of m means."""

    cdef op_reverse rule
    cdef op_evaluator evaluator
    cdef void *memory
    cdef readonly Py_ssize_t nodes

    def __init__(
        self,
        const double[:, ::1] nodes,  # (k, N), standard normal
        const double[::1] weights,  # (N,), of sum 1
        const double[:, ::1] means,  # (m, k): the teacher's
        const double[::1] log_teacher,  # (m,): log of its weights
        const double[::1] log_weights,  # (n,): log of the student's
    ):
        cdef op_reverse *r = &self.rule
        cdef Py_ssize_t k = nodes.shape[0], count = nodes.shape[1], m = means.shape[0], n = log_weights.shape[0]
        cdef Py_ssize_t whole = padded(count), a, b, used = 0
        cdef double *start
        cdef double *x
        cdef double *q
        cdef double *log_prior
        cdef double *prior
        cdef double *teacher
        cdef double *log_shares
        cdef double highest = -INFINITY, total = 0.0, square
        if self.memory != NULL:
            raise RuntimeError("an evaluator is made once")
        if k < 1 or count < 1 or m < 1 or n < 1:
            raise ValueError(f"at least one axis, node and mean of each is needed, got {k}, {count}, {m}, {n}")
        if weights.shape[0] != count:
            raise ValueError(f"weights has {weights.shape[0]} entries for {count} nodes")
        if means.shape[1] != k or log_teacher.shape[0] != m:
            raise ValueError(
                f"means must have shape (m, {k}) and log_teacher (m,), "
                f"got ({m}, {means.shape[1]}) and ({log_teacher.shape[0]},)"
            )
        self.memory = malloc(<size_t>((k + 1) * whole + 2 * padded(n) + padded(m * k) + padded(m) + 8) * sizeof(double))
        if self.memory == NULL:
            raise MemoryError
        start = <double *>aligned(self.memory)
        x, q = start, start + k * whole
        log_prior = q + whole
        prior = log_prior + padded(n)
        teacher = prior + padded(n)
        log_shares = teacher + padded(m * k)
        r.reach, r.equal_prior = 0.0, 1
        for b in range(whole):
            square = 0.0
            for a in range(k):
                x[a * whole + b] = nodes[a, min(b, count - 1)]
                square += x[a * whole + b] ** 2
            q[b] = weights[b] if b < count else 0.0
            if not sqrt(square) <= r.reach:  # a NaN stays
                r.reach = sqrt(square)
        for a in range(n):
            log_prior[a] = log_weights[a]
            highest = max(highest, log_prior[a])
            if log_prior[a] != log_prior[0]:
                r.equal_prior = 0
        for a in range(n):
            prior[a] = exp(log_prior[a] - highest)
            total += prior[a]
        for a in range(n):
            prior[a] /= total
        for b in range(m):
            log_shares[b] = log_teacher[b]
            for a in range(k):
                teacher[b * k + a] = means[b, a]
        r.n, r.k, r.m, r.count = n, k, m, whole
        r.nodes, r.weights, r.log_prior, r.prior, r.means, r.log_teacher = x, q, log_prior, prior, teacher, log_shares
        self.nodes = count
        self.evaluator.evaluate = _kernels.evaluate
        self.evaluator.context = r
        self.evaluator.workspace_bytes = op_reverse_workspace(r)
        self.evaluator.n, self.evaluator.k = n, k

    def __dealloc__(self):
        free(self.memory)

    @property
    def n(self):
        return self.rule.n

    @property
    def k(self):
        return self.rule.k

    @property
    def capsule(self):
        """For the burst loop; keeps this object alive."""
        capsule = PyCapsule_New(&self.evaluator, OP_EVALUATOR_CAPSULE, release)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <void *>self)
        return capsule

    def evaluate(
        self,
        const double[::1] centre,  # IN (k,)
        const double[:, ::1] deviations,  # IN (n, k)
        int form,  # 0: value only; 1: absolute rows; 2: deviation rows
        double[::1] mean_row,  # OUT (k,); None for form 0
        double[:, ::1] rows,  # OUT (n, k); None for form 0
    ):
        """The value; mean_row and rows are written."""
        cdef double value
        cdef void *workspace
        cdef double *to_mean = NULL
        cdef double *to_rows = NULL
        check_parameters(self, centre, deviations)
        if form < 0 or form > 2:
            raise ValueError(f"form must be 0, 1 or 2, got {form}")
        if form > 0:
            if mean_row is None or rows is None:
                raise ValueError("mean_row and rows are needed for forms 1 and 2")
            if mean_row.shape[0] != self.rule.k or rows.shape[0] != self.rule.n or rows.shape[1] != self.rule.k:
                raise ValueError(f"mean_row must have shape ({self.rule.k},) and rows ({self.rule.n}, {self.rule.k})")
            to_mean, to_rows = &mean_row[0], &rows[0, 0]
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.evaluate(&self.rule, &centre[0], &deviations[0, 0], form, &value, to_mean, to_rows, aligned(workspace))
            free(workspace)
        return value

    def scales(
        self,
        const double[::1] centre,
        const double[:, ::1] deviations,
        double[::1] scales,  # OUT (n,)
        double[::1] slopes,  # OUT (n + 1,)
    ):
        """The value's scale; those of the rows, and what rows and value change by per unit of v - t, are written."""
        cdef double value
        cdef void *workspace
        check_parameters(self, centre, deviations)
        if scales.shape[0] != self.rule.n or slopes.shape[0] != self.rule.n + 1:
            raise ValueError(
                f"scales and slopes must have {self.rule.n} and {self.rule.n + 1} entries, "
                f"got {scales.shape[0]} and {slopes.shape[0]}"
            )
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.scales(&self.rule, &centre[0], &deviations[0, 0], &value, &scales[0], &slopes[0], aligned(workspace))
            free(workspace)
        return value
