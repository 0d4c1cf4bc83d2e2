"""ReLU neurons that learn one, as an evaluator (see relu.h and evaluator.h)."""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from scipy.linalg.cython_blas cimport dgemm

cdef extern from "cpu.h":
    int op_path_choose(int *refused) nogil

cdef extern from "evaluator.h":
    const char *OP_EVALUATOR_CAPSULE
    ctypedef struct op_evaluator:
        int (*evaluate)(const void *context, const double *centre, const double *deviations, int form, double *value,
                        double *mean_row, double *rows, void *workspace) noexcept nogil
        const void *context
        size_t workspace_bytes
        Py_ssize_t n, k

cdef extern from "relu.h":
    ctypedef void (*op_relu_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *,
                                  int *) noexcept nogil
    ctypedef struct op_relu_problem:
        Py_ssize_t n, k
        double target
        op_relu_gemm gemm
    ctypedef int (*op_relu_kernel)(const void *context, const double *centre, const double *deviations, int form, double *value,
                                   double *mean_row, double *rows, void *workspace) noexcept nogil
    op_relu_kernel op_relu(int path) nogil
    size_t op_relu_bytes(const op_relu_problem *p) nogil

cdef int _refused = 0
cdef op_relu_kernel _kernel = op_relu(op_path_choose(&_refused))


cdef void release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef class Evaluator:
    """One target length, n neurons of k coordinates, the first along the target; immutable, usable from several threads at once."""

    cdef op_relu_problem problem
    cdef op_evaluator evaluator

    def __init__(self, Py_ssize_t n, Py_ssize_t k, double target):
        if n < 1 or k < 1 or not target > 0:
            raise ValueError(f"at least one neuron and coordinate and a target longer than 0 are needed, got {n}, {k}, {target}")
        self.problem.n, self.problem.k, self.problem.target, self.problem.gemm = n, k, target, <op_relu_gemm>dgemm
        self.evaluator.evaluate = _kernel
        self.evaluator.context = &self.problem
        self.evaluator.workspace_bytes = op_relu_bytes(&self.problem)
        self.evaluator.n, self.evaluator.k = n, k

    @property
    def k(self):
        """Coordinates of a row."""
        return self.evaluator.k

    @property
    def capsule(self):
        """What the burst loop and the gradient flow call; keeps this evaluator alive."""
        capsule = PyCapsule_New(&self.evaluator, OP_EVALUATOR_CAPSULE, release)
        PyCapsule_SetContext(capsule, <void *>self)
        Py_INCREF(self)
        return capsule
