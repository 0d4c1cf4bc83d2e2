"""How many threads of the library's own work on one evaluation, and the pool itself for kernels (see threads.h)."""

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "threads.h":
    const char *OP_THREADS_CAPSULE
    int OP_MOST_THREADS
    ctypedef void (*op_task)(void *context, Py_ssize_t piece, void *workspace) noexcept nogil
    ctypedef struct op_threads:
        void (*run)(op_task task, void *context, Py_ssize_t count, size_t workspace_bytes, void *workspace) noexcept nogil
    void op_threads_run(op_task task, void *context, Py_ssize_t count, size_t workspace_bytes, void *workspace) noexcept nogil
    int op_threads_count() nogil
    void op_threads_set(int count) nogil
    int op_threads_supported() nogil

MOST = OP_MOST_THREADS
SUPPORTED = bool(op_threads_supported())

cdef op_threads _pool
_pool.run = op_threads_run

capsule = PyCapsule_New(&_pool, OP_THREADS_CAPSULE, NULL)


def count():
    """Threads that may work at a time, the caller's among them."""
    return op_threads_count()


def set_count(int count):
    if not 1 <= count <= OP_MOST_THREADS:
        raise ValueError(f"count must be between 1 and {OP_MOST_THREADS}, got {count}")
    op_threads_set(count)
