"""Bounds on what lies beyond the edges of a grid, for few means (see envelopes.h and overparam/geometry.py)."""

from libc.math cimport log
from libc.stdlib cimport free, malloc

cdef extern from "envelopes.h":
    ctypedef struct op_envelopes:
        Py_ssize_t n, k
        const double *params
        const double *tilt
        const double *offset
        const double *component
        double share
        const double *distances
        const double *widest
        double *logits
        double *centre
        double *tails
        double *moments
        double *centres

    double op_slope(const op_envelopes *e, Py_ssize_t i, const double *y, double *gradient) nogil
    void op_beyond(const op_envelopes *e, Py_ssize_t axis, int side, double edge, const double *modes, const double *steps, double *tails,
                   double *moments, double *centres) nogil
    double op_left_out(const op_envelopes *e, Py_ssize_t axis, int side, double edge, const double *modes, const double *steps,
                       double *rows) nogil


cdef class Envelopes:
    """The functions of one Integrand. Not for several threads at once: it has one set of buffers."""

    cdef op_envelopes e
    cdef double *memory

    def __init__(
        self,
        const double[:, ::1] params,  # (n, k)
        const double[:, ::1] deviations,  # (n, k)
        const double[::1] weights,  # (n,)
        const double[::1] component,  # (k,)
        double share,
        const double[::1] distances,  # (n,)
        const double[::1] widest,  # (n,)
    ):
        cdef Py_ssize_t n = params.shape[0], k = params.shape[1], i, a
        cdef double mean, middle, square
        cdef double *p
        if self.memory != NULL:
            raise RuntimeError("envelopes are made once")
        if (n < 1 or k < 1 or deviations.shape[0] != n or deviations.shape[1] != k or weights.shape[0] != n or component.shape[0] != k
                or distances.shape[0] != n or widest.shape[0] != n):
            raise ValueError(f"arrays do not fit {n} means on {k} axes")
        self.memory = <double *>malloc(<size_t>(3 * n * k + 6 * n + 3 * k) * sizeof(double))
        if self.memory == NULL:
            raise MemoryError
        p = self.memory
        for i in range(n):
            p[3 * n * k + i] = log(weights[i]) if weights[i] > 0 else float("-inf")
            p[3 * n * k + n + i], p[3 * n * k + 2 * n + i] = distances[i], widest[i]
        for a in range(k):
            mean = middle = 0.0
            for i in range(n):
                mean += deviations[i, a]
                middle += params[i, a]
            mean, middle = mean / n, middle / n
            for i in range(n):
                p[i * k + a] = params[i, a]
                p[(n + i) * k + a] = deviations[i, a] - mean
                p[3 * n * k + i] -= (deviations[i, a] - mean) * (params[i, a] + middle) / 2
            p[3 * n * k + 3 * n + a] = component[a]
        self.e.n, self.e.k, self.e.share = n, k, share
        self.e.params, self.e.tilt, self.e.centres = p, p + n * k, p + 2 * n * k
        p = p + 3 * n * k
        self.e.offset, self.e.distances, self.e.widest, self.e.component = p, p + n, p + 2 * n, p + 3 * n
        p = p + 3 * n + k
        self.e.logits, self.e.tails, self.e.moments, self.e.centre = p, p + n, p + 2 * n, p + 3 * n

    def __dealloc__(self):
        free(self.memory)

    cdef int check(self, Py_ssize_t axis, int side, const double[:, ::1] modes, const double[::1] steps) except -1:
        if not 0 <= axis < self.e.k or side not in (-1, 1) or modes.shape[0] != self.e.n or modes.shape[1] != self.e.k \
                or steps.shape[0] != self.e.k:
            raise ValueError(f"axis, side, modes or steps do not fit {self.e.n} means on {self.e.k} axes")
        return 0

    def steepest(self, const double[:, ::1] points):
        """The largest squared gradient of any F_i at its own point of `points` (n, k)."""
        cdef Py_ssize_t i, a
        cdef double most = 0.0, square
        if points.shape[0] != self.e.n or points.shape[1] != self.e.k:
            raise ValueError(f"points must have shape ({self.e.n}, {self.e.k})")
        for i in range(self.e.n):
            op_slope(&self.e, i, &points[i, 0], self.e.centre)
            square = 0.0
            for a in range(self.e.k):
                square += self.e.centre[a] ** 2
            if not square <= most:  # a NaN stays
                most = square
        return most

    def beyond(self, Py_ssize_t axis, int side, const double[::1] edges, const double[:, ::1] modes, const double[::1] steps,
               double[:, ::1] tails, double[:, ::1] moments, double[:, :, ::1] centres):
        """Integrand.beyond at `edges` (E,): tails (E, n), moments (E, n) and centres (E, n, k) are written."""
        cdef Py_ssize_t number, count = edges.shape[0]
        self.check(axis, side, modes, steps)
        if not tails.shape[0] == moments.shape[0] == centres.shape[0] == count or not (
                tails.shape[1] == moments.shape[1] == centres.shape[1] == self.e.n) or centres.shape[2] != self.e.k:
            raise ValueError(f"what is written must have {count} edges, {self.e.n} means and {self.e.k} axes")
        for number in range(count):
            op_beyond(&self.e, axis, side, edges[number], &modes[0, 0], &steps[0], &tails[number, 0], &moments[number, 0],
                      &centres[number, 0, 0])

    def left_out(self, Py_ssize_t axis, int side, const double[::1] edges, const double[:, ::1] modes, const double[::1] steps,
                 double[:, ::1] rows, double[::1] losses):
        """Integrand.left_out at `edges` (E,): rows (E, n) and losses (E,) are written."""
        cdef Py_ssize_t number, count = edges.shape[0]
        self.check(axis, side, modes, steps)
        if rows.shape[0] != count or losses.shape[0] != count or rows.shape[1] != self.e.n:
            raise ValueError(f"what is written must have {count} edges and {self.e.n} means")
        for number in range(count):
            losses[number] = op_left_out(&self.e, axis, side, edges[number], &modes[0, 0], &steps[0], &rows[number, 0])

    def reach(self, Py_ssize_t axis, int side, const double[::1] edges, const double[:, ::1] modes, const double[::1] steps,
              const double[::1] targets, double loss_target, double[::1] rows):
        """Number of the first of `edges` beyond which no more than targets (n,) and loss_target lie, or the last; and what the loss loses.

        rows (n,) are written.
        """
        cdef Py_ssize_t number, i, count = edges.shape[0], n = self.e.n
        cdef double loss = 0.0
        cdef bint enough
        self.check(axis, side, modes, steps)
        if count < 1 or targets.shape[0] != n or rows.shape[0] != n:
            raise ValueError(f"targets and rows must have {n} entries, and edges at least one")
        for number in range(count):
            loss = op_left_out(&self.e, axis, side, edges[number], &modes[0, 0], &steps[0], &rows[0])
            enough = loss <= loss_target
            for i in range(n):
                enough = enough and rows[i] <= targets[i]
            if enough:
                break
        return number, loss
