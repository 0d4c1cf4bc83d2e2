"""The velocity of a gradient flow's variables, over any evaluator that comes in a capsule (see chart.h)."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport fabs, fmax
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "evaluator.h":
    const char *OP_EVALUATOR_CAPSULE
    ctypedef struct op_evaluator:
        size_t workspace_bytes
        Py_ssize_t n, k

cdef extern from "chart.h":
    ctypedef struct op_chart:
        Py_ssize_t n, k, widest
        int moving, far, straight
        double soft, least, scale
        const double *turn
        const double *fixed
        const double *alive
        const double *levels
        const double *low
        const double *high
        const double *spread_low
        const double *spread_high
        double *amplitude
        double *centre
        double *own
        double *z
        double *velocity
        double *middle
        double *turned
        double *mean_row
        double *rows
        void *workspace
    int op_chart_inside(op_chart *c, const double *y) noexcept nogil
    int op_chart_slope(op_chart *c, const op_evaluator *e, const double *y, double *out, double *speed) noexcept nogil


cdef class Motion:
    """One chart under one plan. Not for several threads at once: it owns the memory that it works in."""

    cdef op_chart chart
    cdef op_evaluator *evaluator
    cdef object capsule
    cdef double *memory
    cdef double *cut
    cdef double *here
    cdef double *there
    cdef void *workspace
    cdef readonly double speed
    cdef Py_ssize_t entries

    def __cinit__(
        self,
        capsule,
        const double[:, ::1] turn,  # (k, k): the plan's axes in the chart's frame, as columns
        const double[::1] fixed,  # (k,): the centre where it stands still, in the frame
        const double[::1] levels,  # (k,): ln of the amplitudes that the g of y are counted from
        const double[:, ::1] box,  # (4, k): low, high, spread_low, spread_high on the plan's axes
        bint moving,
        bint far,
        Py_ssize_t widest,
        const double[::1] alive,  # (k,): 0 for columns that are kept still, else 1
        double soft,
        double least,
    ):
        cdef op_chart *c = &self.chart
        cdef Py_ssize_t n, k, a, b
        cdef double *free_from
        self.capsule = capsule  # keeps the evaluator alive
        self.evaluator = <op_evaluator *>PyCapsule_GetPointer(capsule, OP_EVALUATOR_CAPSULE)
        n, k = self.evaluator.n, self.evaluator.k
        if turn.shape[0] != k or turn.shape[1] != k or fixed.shape[0] != k or box.shape[0] != 4 or box.shape[1] != k \
                or alive.shape[0] != k or levels.shape[0] != k:
            raise ValueError(f"turn, fixed, levels, box and alive must have shapes ({k}, {k}), ({k},), ({k},), (4, {k}) and ({k},)")
        if not 0 <= widest < k:
            raise ValueError(f"widest must be an axis, 0 to {k - 1}; got {widest}")
        self.entries = (1 if far else 0) + k + n * k + (k if moving else 0)
        self.memory = <double *>malloc(<size_t>(k * k + 12 * k + 4 * n * k + 3 * self.entries) * sizeof(double))
        self.workspace = malloc(self.evaluator.workspace_bytes + 64)
        if self.memory == NULL or self.workspace == NULL:
            raise MemoryError
        free_from = self.memory
        for a in range(k):
            for b in range(k):
                free_from[a * k + b] = turn[a, b]
        c.turn, free_from = free_from, free_from + k * k
        for a in range(k):
            free_from[a] = fixed[a]
            for b in range(4):
                free_from[(1 + b) * k + a] = box[b, a]
        c.fixed, c.low, c.high = free_from, free_from + k, free_from + 2 * k
        c.spread_low, c.spread_high = free_from + 3 * k, free_from + 4 * k
        for a in range(k):
            free_from[5 * k + a], free_from[6 * k + a] = alive[a], levels[a]
        c.alive, c.levels, free_from = free_from + 5 * k, free_from + 6 * k, free_from + 7 * k
        c.amplitude, c.centre, c.own, c.middle, c.mean_row = (
            free_from, free_from + k, free_from + 2 * k, free_from + 3 * k, free_from + 4 * k)
        free_from += 5 * k
        c.z, c.velocity, c.turned, c.rows = free_from, free_from + n * k, free_from + 2 * n * k, free_from + 3 * n * k
        self.cut = free_from + 4 * n * k
        self.here, self.there = self.cut + self.entries, self.cut + 2 * self.entries
        c.workspace = <void *>((<uintptr_t>self.workspace + 63) // 64 * 64)
        c.n, c.k, c.widest, c.moving, c.far, c.soft, c.least = n, k, widest, moving, far, soft, least
        c.straight = 1
        for a in range(k):
            for b in range(k):
                if turn[a, b] != (1.0 if a == b else 0.0):
                    c.straight = 0

    def __dealloc__(self):
        free(self.memory)
        free(self.workspace)

    cdef int check(self, Py_ssize_t given) except -1:
        if given != self.entries:
            raise ValueError(f"y must have {self.entries} entries, got {given}")
        return 0

    def slope(
        self,
        const double[::1] y,
        const double[::1] lowest,  # y is cut to these, entry by entry
        const double[::1] highest,
        double[::1] out,  # OUT
    ):
        """Writes dy/dt and leaves the largest velocity of a deviation in `speed`; False where amplitudes are too small for this code."""
        cdef int done
        self.check(y.shape[0])
        self.check(lowest.shape[0])
        self.check(highest.shape[0])
        self.check(out.shape[0])
        with nogil:
            self.put(&y[0], &lowest[0], &highest[0])
            done = op_chart_slope(&self.chart, self.evaluator, self.cut, &out[0], &self.speed)
        return done != 0

    cdef void put(self, const double *y, const double *lowest, const double *highest) noexcept nogil:
        cdef Py_ssize_t j
        cdef double value
        for j in range(self.entries):
            value = y[j]
            if value < lowest[j]:
                value = lowest[j]
            if value > highest[j]:
                value = highest[j]
            self.cut[j] = value

    def jacobian(
        self,
        const double[::1] y,
        const double[::1] lowest,
        const double[::1] highest,
        double increment,  # of entry j: times max(1, |y_j|)
        double[:, ::1] out,  # OUT
    ):
        """Writes d(dy/dt)/dy by forward differences; False where amplitudes are too small for this code."""
        cdef int done
        cdef Py_ssize_t i, j, size = self.entries
        cdef double speed, kept, step
        self.check(y.shape[0])
        self.check(lowest.shape[0])
        self.check(highest.shape[0])
        self.check(out.shape[0])
        self.check(out.shape[1])
        with nogil:
            self.put(&y[0], &lowest[0], &highest[0])
            done = op_chart_slope(&self.chart, self.evaluator, self.cut, self.here, &speed)
            for j in range(size):
                if done == 0:
                    break
                kept = self.cut[j]
                step = increment * fmax(1.0, fabs(kept))
                self.cut[j] = kept + step
                step = self.cut[j] - kept
                done = op_chart_slope(&self.chart, self.evaluator, self.cut, self.there, &speed)
                self.cut[j] = kept
                for i in range(size):
                    out[i, j] = (self.there[i] - self.here[i]) / step
        return done != 0

    def inside(self, const double[::1] y):
        """Whether y is in the plan's box; None where amplitudes are too small for this code."""
        cdef int found
        self.check(y.shape[0])
        with nogil:
            found = op_chart_inside(&self.chart, &y[0])
        return None if found < 0 else found != 0
