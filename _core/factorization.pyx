"""Products of square matrices against a target, as an evaluator (see factorization.h and evaluator.h)."""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc
from scipy.linalg.cython_blas cimport dgemm, dsyrk, zgemm, zherk

cdef extern from "evaluator.h":
    const char *OP_EVALUATOR_CAPSULE
    ctypedef struct op_evaluator:
        int (*evaluate)(const void *context, const double *centre, const double *deviations, int form, double *value,
                        double *mean_row, double *rows, void *workspace) noexcept nogil
        const void *context
        size_t workspace_bytes
        Py_ssize_t n, k

cdef extern from "factorization.h":
    ctypedef void (*op_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *,
                             int *) noexcept nogil
    ctypedef void (*op_syrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *, int *) noexcept nogil
    ctypedef struct op_factors:
        Py_ssize_t depth, d
        int is_complex
        double balance
        const double *target
        op_gemm gemm
        op_syrk syrk
    size_t op_factorization_bytes(const op_factors *f) nogil
    int op_factorization(const void *context, const double *centre, const double *deviations, int form, double *value,
                         double *mean_row, double *rows, void *workspace) noexcept nogil


cdef void release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef class Evaluator:
    """One target, one depth; immutable, usable from several threads at once."""

    cdef op_factors factors
    cdef op_evaluator evaluator
    cdef double *target

    def __init__(
        self,
        const double[:, ::1] target,  # (d, k): k = d, or 2 d for complex numbers, real and imaginary part in turn
        Py_ssize_t depth,
        double balance,
    ):
        cdef Py_ssize_t d = target.shape[0], k = target.shape[1], i, a
        cdef op_factors *f = &self.factors
        if self.target != NULL:
            raise RuntimeError("an evaluator is made once")
        if depth < 2 or d < 1 or (k != d and k != 2 * d):
            raise ValueError(f"target must have shape (d, d) or (d, 2 d) and depth be at least 2, got ({d}, {k}) and {depth}")
        self.target = <double *>malloc(<size_t>(d * k) * sizeof(double))
        if self.target == NULL:
            raise MemoryError
        for i in range(d):
            for a in range(k):
                self.target[i * k + a] = target[i, a]
        f.depth, f.d, f.is_complex, f.balance, f.target = depth, d, k == 2 * d, balance, self.target
        f.gemm = <op_gemm>zgemm if k == 2 * d else <op_gemm>dgemm
        f.syrk = <op_syrk>zherk if k == 2 * d else <op_syrk>dsyrk
        self.evaluator.evaluate = op_factorization
        self.evaluator.context = f
        self.evaluator.workspace_bytes = op_factorization_bytes(f)
        self.evaluator.n, self.evaluator.k = depth * d, k

    def __dealloc__(self):
        free(self.target)

    @property
    def k(self):
        """Columns of the rows: d, or 2 d for complex numbers."""
        return self.evaluator.k

    @property
    def capsule(self):
        """What the burst loop and the gradient flow call; keeps this evaluator alive."""
        capsule = PyCapsule_New(&self.evaluator, OP_EVALUATOR_CAPSULE, release)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule
