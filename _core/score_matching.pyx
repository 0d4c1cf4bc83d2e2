"""Score matching and likelihood over (nodes, weights, target): value, gradient, Stein form, majorants.

The formulas are in score_matching.h. Whoever calls from Python has validated values; here only shapes are checked,
because a wrong shape would read foreign memory.
"""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_GetName, PyCapsule_GetPointer, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport INFINITY, exp, fabs, sqrt
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

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

cdef extern from "threads.h":
    const char *OP_THREADS_CAPSULE
    ctypedef struct op_threads:
        pass

cdef extern from "score_matching.h":
    ctypedef void (*op_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *,
                             int *) noexcept nogil
    ctypedef struct op_measure:
        Py_ssize_t n, k, varying, inner, outer, block
        const double *nodes
        const double *weights
        const double *targets
        const double *target
        const Py_ssize_t *axes
        const Py_ssize_t *orders
        const double *const *axis_nodes
        const double *const *axis_weights
        const double *low
        const double *high
        double reach
        const double *log_prior
        const double *prior
        int equal_prior
        int likelihood
        const double *log_teacher
        const Py_ssize_t *flat
        op_gemm gemm
        Py_ssize_t pieces, piece
        const op_threads *threads

    ctypedef struct op_kernels:
        int (*evaluate)(const void *measure, const double *centre, const double *deviations, int form, double *value,
                        double *mean_row, double *rows, void *workspace) noexcept nogil
        int (*evaluate_shares)(const op_measure *measure, const double *centre, const double *deviations, double *value,
                               double *shares, double *rows, void *workspace) noexcept nogil
        int (*near)(const op_measure *measure, const double *centre, const double *deviations,
                    void *workspace) noexcept nogil
        int (*evaluate_stein)(const op_measure *measure, const double *params, double *value, double *rows,
                              void *workspace) noexcept nogil
        int (*majorants)(const op_measure *measure, const double *centre, const double *deviations, double *value,
                         double *A, double *B, double *C, void *workspace) noexcept nogil

    const op_kernels *op_score_matching(int path) nogil
    size_t op_workspace_bytes(const op_measure *measure) nogil
    size_t op_sums_size(const op_measure *measure) nogil
    size_t op_check_bytes(const op_measure *measure) nogil

cdef enum:
    # Inner nodes of a tensor rule: the longest axis, and further ones while there are fewer than this. Below it the
    # outer loop costs more than the exponentials it saves (48 nodes are 12 AVX2 vectors).
    ENOUGH_INNER = 48
    # What a block keeps in L1 (w, a, D, y), nearly all of the usual 32 KiB; but no fewer nodes than this, or the cost
    # of starting each phase shows (n = 200: 1.6 times slower at 8 nodes).
    BLOCK_BYTES = 28672
    BLOCK_NODES = 24
    # From this many parameters times axes on, and this many of either, products are BLAS's, in blocks of so many nodes.
    BLAS_TABLE = 400
    BLAS_LEAST = 8
    BLAS_NODES = 256
    # Sums are taken in pieces from this many nodes * n * (k + 4) on, about 200 microseconds of work; pieces are a quarter of that, up to
    # so many of them, and their sums take up to so many doubles (or four pieces, if these are longer). Nothing here may depend on the
    # number of threads or the instruction set.
    PIECES_WORK = 1 << 21
    MOST_PIECES = 64
    PIECES_DOUBLES = 1 << 22

cdef int _refused = 0
cdef const op_kernels *_kernels = op_score_matching(op_path_choose(&_refused))


cdef op_gemm dgemm() except NULL:
    """SciPy's BLAS, imported when it is first wanted: `import overparam` stays light."""
    from overparam._threads import settle_blas
    from scipy.linalg import cython_blas

    settle_blas()
    capsule = cython_blas.__pyx_capi__["dgemm"]
    return <op_gemm>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef const op_threads *pool() except NULL:
    from overparam._core import threads

    return <const op_threads *>PyCapsule_GetPointer(threads.capsule, OP_THREADS_CAPSULE)


cdef void release(object capsule) noexcept:
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


cdef int check_parameters(Evaluator self, const double[::1] centre, const double[:, ::1] deviations) except -1:
    if centre.shape[0] != self.measure.k:
        raise ValueError(f"centre must have shape ({self.measure.k},), got ({centre.shape[0]},)")
    return check_rows(self, deviations, "deviations")


cdef int check_rows(Evaluator self, const double[:, ::1] rows, str name) except -1:
    if rows.shape[0] != self.measure.n or rows.shape[1] != self.measure.k:
        raise ValueError(
            f"{name} must have shape ({self.measure.n}, {self.measure.k}), got ({rows.shape[0]}, {rows.shape[1]})"
        )
    return 0


cdef inline char *aligned(void *memory) noexcept nogil:
    return <char *>((<uintptr_t>memory + 63) // 64 * 64)


cdef inline Py_ssize_t padded(Py_ssize_t count) noexcept nogil:
    return (count + 7) // 8 * 8


cdef class Evaluator:
    """One measure with one set of prior weights; immutable, usable from several threads at once."""

    cdef op_measure measure
    cdef op_evaluator evaluator
    cdef size_t check_bytes
    cdef void *memory
    cdef double *doubles  # the unused rest of the memory
    cdef readonly Py_ssize_t nodes

    def __init__(self):
        raise TypeError("use Evaluator.from_nodes or Evaluator.from_tensor")

    def __dealloc__(self):
        free(self.memory)

    @property
    def n(self):
        return self.measure.n

    @property
    def k(self):
        return self.measure.k

    @property
    def pieces(self):
        """In how many pieces the nodes are summed, by several threads if they may."""
        return self.measure.pieces

    @property
    def capsule(self):
        """For the burst loop; keeps this object alive."""
        capsule = PyCapsule_New(&self.evaluator, OP_EVALUATOR_CAPSULE, release)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <void *>self)
        return capsule

    cdef double *take(self, Py_ssize_t count) noexcept:
        cdef double *array = self.doubles
        self.doubles += padded(count)
        return array

    cdef int allocate(self, Py_ssize_t doubles) except -1:
        # every array is padded to a whole cache line, hence at most 16 arrays * 8 more
        self.memory = malloc(<size_t>(doubles + 16 * 8 + 8) * sizeof(double))
        if self.memory == NULL:
            raise MemoryError
        self.doubles = <double *>aligned(self.memory)
        return 0

    cdef int set_prior(self, const double[::1] log_weights) except -1:
        """Copies log pi and forms pi, normalised; identical log weights give exactly 1/n."""
        cdef op_measure *m = &self.measure
        cdef Py_ssize_t i, n = log_weights.shape[0]
        cdef double *log_prior = self.take(n)
        cdef double *prior = self.take(n)
        cdef double highest = -INFINITY, total = 0.0
        m.n = n
        m.equal_prior = 1
        for i in range(n):
            log_prior[i] = log_weights[i]
            highest = max(highest, log_prior[i])
            if log_prior[i] != log_prior[0]:
                m.equal_prior = 0
        for i in range(n):
            prior[i] = exp(log_prior[i] - highest)
            total += prior[i]
        for i in range(n):
            prior[i] /= total
        m.log_prior = log_prior
        m.prior = prior
        return 0

    cdef int cut(self) except -1:
        """Decides the pieces in which sums are taken."""
        cdef op_measure *m = &self.measure
        cdef double work = <double>m.inner * m.outer * m.n * (m.k + 4)
        cdef Py_ssize_t unit = m.block, nodes = m.inner, most
        if m.outer > 1:
            unit, nodes = 8, m.outer
        m.pieces, m.piece, m.threads = 1, nodes, NULL
        if work < PIECES_WORK:
            return 0
        most = min(MOST_PIECES, max(4, PIECES_DOUBLES // <Py_ssize_t>op_sums_size(m)))
        most = min(most, <Py_ssize_t>(4 * work / PIECES_WORK))
        m.piece = ((nodes + most - 1) // most + unit - 1) // unit * unit
        m.pieces = (nodes + m.piece - 1) // m.piece
        if m.pieces > 1:
            m.threads = pool()
        return 0

    cdef int finish(self) except -1:
        cdef op_measure *m = &self.measure
        cdef Py_ssize_t bytes_per_node = 8 * (2 * m.n + m.k + m.varying)
        m.gemm = NULL
        if m.outer == 1 and m.varying == m.k and m.n * m.k >= BLAS_TABLE and m.n >= BLAS_LEAST and m.k >= BLAS_LEAST:
            m.gemm = dgemm()
        m.block = BLAS_NODES if m.gemm != NULL else max(BLOCK_BYTES // bytes_per_node // 8 * 8, BLOCK_NODES)
        m.block = min(m.block, m.inner)
        self.cut()
        self.check_bytes = op_check_bytes(m)
        self.evaluator.evaluate = _kernels.evaluate
        self.evaluator.context = m
        self.evaluator.workspace_bytes = op_workspace_bytes(m)
        self.evaluator.n = m.n
        self.evaluator.k = m.k
        return 0

    @staticmethod
    def from_nodes(
        const double[:, ::1] nodes,  # (k, N)
        const double[::1] weights,  # (N,)
        const double[:, ::1] target,  # (k, N), or (k, 1): constant
        const double[::1] log_weights,  # (n,)
        bint likelihood=False,
        const double[::1] log_teacher=None,  # (N,): see score_matching.h; needed unless the target is constant
    ):
        """An explicit list of nodes, copied and padded."""
        cdef Evaluator self = Evaluator.__new__(Evaluator)
        cdef op_measure *m = &self.measure
        cdef Py_ssize_t k = nodes.shape[0], count = nodes.shape[1], n = log_weights.shape[0], inner = padded(count)
        cdef Py_ssize_t a, b
        cdef bint constant = target.shape[1] == 1
        cdef double *x
        cdef double *q
        cdef double *t
        cdef double *low
        cdef double *high
        cdef double *log_density = NULL
        cdef double square
        cdef Py_ssize_t *integers
        if k < 1 or count < 1 or n < 1:
            raise ValueError(f"at least one axis, node and parameter is needed, got {k}, {count}, {n}")
        if weights.shape[0] != count:
            raise ValueError(f"weights has {weights.shape[0]} entries for {count} nodes")
        if target.shape[0] != k or not (constant or target.shape[1] == count):
            raise ValueError(
                f"target must have shape ({k}, {count}) or ({k}, 1), got ({target.shape[0]}, {target.shape[1]})"
            )
        if likelihood and not constant and (log_teacher is None or log_teacher.shape[0] != count):
            raise ValueError(f"log_teacher needs {count} entries where the target is not constant")
        self.allocate((k + 2) * inner + k * (1 if constant else inner) + 2 * padded(n) + 5 * padded(k) + 64)
        self.set_prior(log_weights)
        x, q, low, high = self.take(k * inner), self.take(inner), self.take(k), self.take(k)
        t = self.take(k if constant else k * inner)
        for b in range(inner):
            square = 0.0
            for a in range(k):
                x[a * inner + b] = nodes[a, min(b, count - 1)]
                square += x[a * inner + b] ** 2
                if not constant:
                    t[a * inner + b] = target[a, min(b, count - 1)]
            q[b] = weights[b] if b < count else 0.0
            if not sqrt(square) <= m.reach:  # a NaN stays
                m.reach = sqrt(square)
        integers = <Py_ssize_t *>self.take(3 * k)  # as wide as a double, or narrower
        for a in range(k):
            low[a], high[a] = -m.reach, m.reach
            integers[a], integers[k + a], integers[2 * k + a] = a, count, constant
            if constant:
                t[a] = target[a, 0]
                for b in range(count):
                    if x[a * inner + b] != t[a]:
                        integers[2 * k + a] = 0
                        break
        if likelihood and not constant:
            log_density = self.take(inner)
            for b in range(inner):
                log_density[b] = log_teacher[min(b, count - 1)]
        m.likelihood, m.log_teacher, m.flat = likelihood, log_density, integers + 2 * k
        m.k = m.varying = k
        m.inner, m.outer = inner, 1
        m.nodes, m.weights, m.low, m.high = x, q, low, high
        if constant:
            m.target, m.targets = t, NULL
        else:
            m.target, m.targets = NULL, t
        m.axes, m.orders = integers, integers + k
        self.nodes = count
        self.finish()
        return self

    @staticmethod
    def from_tensor(
        const double[::1] axis_nodes,  # nodes of all axes, one axis after the other
        const double[::1] axis_weights,
        const Py_ssize_t[::1] orders,  # (k,): how many on each axis
        const double[::1] target,  # (k,)
        const double[::1] log_weights,  # (n,)
        bint likelihood=False,
    ):
        """A tensor rule: only the longest axes are multiplied out, the others are streamed."""
        cdef Evaluator self = Evaluator.__new__(Evaluator)
        cdef op_measure *m = &self.measure
        cdef Py_ssize_t k = orders.shape[0], n = log_weights.shape[0], a, b, s, rest, total = 0, inner = 1, count
        cdef Py_ssize_t varying = 0
        cdef double *x
        cdef double *q
        cdef double *t
        cdef double *low
        cdef double *high
        cdef double *flat
        cdef Py_ssize_t *axes
        cdef Py_ssize_t *lengths
        cdef Py_ssize_t *flat_axes
        cdef const double **starts
        cdef double reach = 0.0
        if k < 1 or n < 1:
            raise ValueError(f"at least one axis and parameter is needed, got {k}, {n}")
        for a in range(k):
            if orders[a] < 1:
                raise ValueError(f"orders must be positive, got {orders[a]} on axis {a}")
            total += orders[a]
        if total != axis_nodes.shape[0] or total != axis_weights.shape[0]:
            raise ValueError(
                f"orders add up to {total}, but there are {axis_nodes.shape[0]} axis nodes "
                f"and {axis_weights.shape[0]} axis weights"
            )
        if target.shape[0] != k:
            raise ValueError(f"target must have shape ({k},), got ({target.shape[0]},)")
        longest_first = [(-orders[a], a) for a in range(k)]
        longest_first.sort()
        for s in range(k):
            if inner >= ENOUGH_INNER:
                break
            inner *= orders[longest_first[s][1]]
            varying += 1
        count = padded(inner)
        self.allocate((varying + 1) * count + 2 * total + 2 * padded(n) + 8 * padded(k) + 64)
        self.set_prior(log_weights)
        x, q, t, flat = self.take(varying * count), self.take(count), self.take(k), self.take(2 * total)
        low, high = self.take(k), self.take(k)
        axes, lengths, flat_axes = <Py_ssize_t *>self.take(k), <Py_ssize_t *>self.take(k), <Py_ssize_t *>self.take(k)
        starts = <const double **>self.take(2 * k)
        for a in range(total):
            flat[a], flat[total + a] = axis_nodes[a], axis_weights[a]
        for s in range(k):
            a = longest_first[s][1]
            axes[s], lengths[s], t[s] = a, orders[a], target[a]
            rest = 0
            for b in range(a):
                rest += orders[b]
            starts[s], starts[k + s] = flat + rest, flat + total + rest
            low[s] = high[s] = starts[s][0]
            for b in range(lengths[s]):
                # comparisons that keep a NaN
                if not starts[s][b] >= low[s]:
                    low[s] = starts[s][b]
                if not starts[s][b] <= high[s]:
                    high[s] = starts[s][b]
            reach += max(fabs(low[s]), fabs(high[s])) ** 2
            flat_axes[s] = low[s] == high[s] == t[s]
        m.likelihood, m.log_teacher, m.flat = likelihood, NULL, flat_axes
        for b in range(count):
            rest = min(b, inner - 1)
            q[b] = 1.0 if b < inner else 0.0
            for s in range(varying - 1, -1, -1):
                x[s * count + b] = starts[s][rest % lengths[s]]
                q[b] *= starts[k + s][rest % lengths[s]]
                rest //= lengths[s]
        m.k, m.varying, m.inner, m.outer = k, varying, count, 1
        for s in range(varying, k):
            m.outer *= lengths[s]
        m.nodes, m.weights, m.target, m.targets = x, q, t, NULL
        m.low, m.high, m.reach = low, high, sqrt(reach)
        m.axes, m.orders, m.axis_nodes, m.axis_weights = axes, lengths, starts, starts + k
        self.nodes = inner * m.outer
        self.finish()
        return self

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
            if mean_row.shape[0] != self.measure.k:
                raise ValueError(f"mean_row must have shape ({self.measure.k},), got ({mean_row.shape[0]},)")
            check_rows(self, rows, "rows")
            to_mean, to_rows = &mean_row[0], &rows[0, 0]
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.evaluate(&self.measure, &centre[0], &deviations[0, 0], form, &value, to_mean, to_rows,
                              aligned(workspace))
            free(workspace)
        return value

    def evaluate_shares(
        self,
        const double[::1] centre,  # IN (k,)
        const double[:, ::1] deviations,  # IN (n, k)
        double[::1] shares,  # OUT (n,): sum of q w_i
        double[:, ::1] rows,  # OUT (n, k): absolute rows
    ):
        """The value of a likelihood; shares and rows are written."""
        cdef double value
        cdef void *workspace
        check_parameters(self, centre, deviations)
        check_rows(self, rows, "rows")
        if not self.measure.likelihood:
            raise ValueError("shares come from a likelihood's evaluator")
        if shares.shape[0] != self.measure.n:
            raise ValueError(f"shares must have shape ({self.measure.n},), got ({shares.shape[0]},)")
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.evaluate_shares(&self.measure, &centre[0], &deviations[0, 0], &value, &shares[0], &rows[0, 0],
                                     aligned(workspace))
            free(workspace)
        return value

    def near(self, const double[::1] centre, const double[:, ::1] deviations):
        """Whether a likelihood's value there is the sum of exp(r) - 1 - r, all r being small, instead of -r: 2 from expm1, 1 from r, or 0."""
        cdef void *workspace
        cdef int near
        check_parameters(self, centre, deviations)
        if not self.measure.likelihood:
            return 0
        workspace = malloc(self.evaluator.workspace_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            near = _kernels.near(&self.measure, &centre[0], &deviations[0, 0], aligned(workspace))
            free(workspace)
        return near

    def evaluate_stein(self, const double[:, ::1] params, double[:, ::1] rows):
        """Value and rows in the form of Lemma 2.2; absolute parameters, constant target."""
        cdef double value
        cdef void *workspace
        if self.measure.targets != NULL:
            raise ValueError("the Stein form needs a constant target")
        check_rows(self, params, "params")
        check_rows(self, rows, "rows")
        workspace = malloc(self.check_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.evaluate_stein(&self.measure, &params[0, 0], &value, &rows[0, 0], aligned(workspace))
            free(workspace)
        return value

    def majorants(
        self,
        const double[::1] centre,
        const double[:, ::1] deviations,
        double[::1] A,  # OUT (n,)
        double[::1] B,  # OUT (n,)
        double[::1] C,  # OUT (n,)
    ):
        """The sum of |q| U^2; A, B and C are written."""
        cdef double value
        cdef void *workspace
        check_parameters(self, centre, deviations)
        if not A.shape[0] == B.shape[0] == C.shape[0] == self.measure.n:
            raise ValueError(
                f"A, B and C must have shape ({self.measure.n},), got {A.shape[0]}, {B.shape[0]}, {C.shape[0]} entries"
            )
        workspace = malloc(self.check_bytes + 64)
        if workspace == NULL:
            raise MemoryError
        with nogil:
            _kernels.majorants(&self.measure, &centre[0], &deviations[0, 0], &value, &A[0], &B[0], &C[0],
                               aligned(workspace))
            free(workspace)
        return value
