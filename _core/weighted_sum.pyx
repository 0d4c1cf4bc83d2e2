"""Weighted sums of evaluators at parameters of different scales, as one evaluator for the burst loop (see weighted_sum.h)."""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

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

cdef extern from "weighted_sum.h":
    ctypedef struct op_weighted_sum:
        Py_ssize_t n, k, parts
        const op_evaluator **evaluators
        const double *scales
        const double *weights
        const double *turns
        const int *straight

    size_t op_weighted_sum_own(const op_weighted_sum *s) nogil
    int op_weighted_sum_evaluate(
        const void *context, const double *centre, const double *deviations, int form,
        double *value, double *mean_row, double *rows, void *workspace,
    ) noexcept nogil


cdef void release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef inline void *aligned(void *memory) noexcept nogil:
    return <void *>((<uintptr_t>memory + 63) // 64 * 64)


cdef class WeightedSum:
    r"""The evaluator of :math:`\sum_kw_kL_k(s_k\mu)`, over the evaluators in `capsules`, which it keeps alive."""

    cdef op_weighted_sum sum
    cdef op_evaluator evaluator
    cdef tuple capsules
    cdef const op_evaluator **evaluators
    cdef double *numbers
    cdef int *straight

    def __init__(
        self,
        capsules,  # K of them, of evaluators for n parameters on k axes
        const double[:, :, ::1] turns,  # (K, k, k): axes of each in the sum's frame, as columns
        const double[::1] scales,  # (K,)
        const double[::1] weights,  # (K,)
    ):
        cdef Py_ssize_t parts = len(capsules), k = turns.shape[1], part, a, b, n = 0
        cdef size_t inner = 0
        cdef const op_evaluator *e
        if self.numbers != NULL:
            raise RuntimeError("a sum is made once")
        if parts < 1 or k < 1 or turns.shape[0] != parts or turns.shape[2] != k:
            raise ValueError(
                f"turns must have shape ({parts}, k, k) for {parts} evaluators, at least one; "
                f"got ({turns.shape[0]}, {turns.shape[1]}, {turns.shape[2]})"
            )
        if scales.shape[0] != parts or weights.shape[0] != parts:
            raise ValueError(f"scales and weights must have {parts} entries, got {scales.shape[0]} and {weights.shape[0]}")
        self.capsules = tuple(capsules)
        self.evaluators = <const op_evaluator **>malloc(<size_t>parts * sizeof(void *))
        self.numbers = <double *>malloc(<size_t>(parts * (2 + k * k)) * sizeof(double))
        self.straight = <int *>malloc(<size_t>parts * sizeof(int))
        if self.evaluators == NULL or self.numbers == NULL or self.straight == NULL:
            raise MemoryError
        for part in range(parts):
            e = <op_evaluator *>PyCapsule_GetPointer(self.capsules[part], OP_EVALUATOR_CAPSULE)
            n = e.n if part == 0 else n
            if e.n != n or e.k != k:
                raise ValueError(f"evaluators must all have shape ({n}, {k}), got ({e.n}, {e.k})")
            inner = max(inner, e.workspace_bytes)
            self.evaluators[part] = e
            self.numbers[part], self.numbers[parts + part] = scales[part], weights[part]
            self.straight[part] = 1
            for a in range(k):
                for b in range(k):
                    self.numbers[2 * parts + (part * k + a) * k + b] = turns[part, a, b]
                    if turns[part, a, b] != (1.0 if a == b else 0.0):
                        self.straight[part] = 0
        self.sum.n, self.sum.k, self.sum.parts = n, k, parts
        self.sum.evaluators, self.sum.straight = self.evaluators, self.straight
        self.sum.scales, self.sum.weights, self.sum.turns = self.numbers, self.numbers + parts, self.numbers + 2 * parts
        self.evaluator.evaluate = op_weighted_sum_evaluate
        self.evaluator.context = &self.sum
        self.evaluator.workspace_bytes = op_weighted_sum_own(&self.sum) + inner
        self.evaluator.n, self.evaluator.k = n, k

    def __dealloc__(self):
        free(self.evaluators)
        free(self.numbers)
        free(self.straight)

    @property
    def n(self):
        return self.sum.n

    @property
    def k(self):
        return self.sum.k

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
        cdef Py_ssize_t n = self.sum.n, k = self.sum.k
        if centre.shape[0] != k or deviations.shape[0] != n or deviations.shape[1] != k:
            raise ValueError(
                f"centre must have shape ({k},) and deviations ({n}, {k}), "
                f"got ({centre.shape[0]},) and ({deviations.shape[0]}, {deviations.shape[1]})"
            )
        if form < 0 or form > 2:
            raise ValueError(f"form must be 0, 1 or 2, got {form}")
        if form > 0:
            if mean_row is None or rows is None:
                raise ValueError("mean_row and rows are needed for forms 1 and 2")
            if mean_row.shape[0] != k or rows.shape[0] != n or rows.shape[1] != k:
                raise ValueError(f"mean_row must have shape ({k},) and rows ({n}, {k})")
            to_mean, to_rows = &mean_row[0], &rows[0, 0]
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            op_weighted_sum_evaluate(&self.sum, &centre[0], &deviations[0, 0], form, &value, to_mean, to_rows, aligned(workspace))
            free(workspace)
        return value
