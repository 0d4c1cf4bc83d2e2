/* One compiled copy of the Hessian kernel: the including file sets OP_LANES, OP_HESSIAN and, around this, the target. */
#include "hessian.h"
#include "softmax.h"

typedef struct op_hessian_work {
    ptrdiff_t wide, few, rows;     /* n k and n padded to whole chunks; rows per chunk of nodes */
    double *row, *scaled, *sum;    /* (rows, wide) twice, (wide, wide): rows of the Hessian, times 2 q, their products */
    double *row_n, *scaled_n;      /* (rows, few) twice: rows of `square` and `unit` */
    double *square, *unit;         /* (few, few) */
    double *w, *y, *norm;          /* (n, chunk), (k, chunk): weights of a chunk, nodes less centre */
    double *e, *m, *mD;            /* (n, k), (n, k), (n,) of one node */
    double *own, *trace;           /* (n, k, k), (n,): the diagonal blocks; sum of 2 q w_i m_i.D */
    double *D, *u, *s;             /* (k,) */
    double *along, *half_norm;     /* (n,): e_j.r_j; log pi_i - |delta_i|^2/2 */
} op_hessian_work;

static double *op_hessian_take(double **free_, ptrdiff_t count)
{
    double *array = *free_;
    *free_ += op_hessian_padded(count);
    return array;
}

static void op_hessian_prepare(op_hessian_work *use, const op_hessian_job *job, double *workspace)
{
    const ptrdiff_t n = job->n, k = job->k;
    double *next = workspace;
    use->wide = job->direction ? 0 : op_hessian_padded(n * k);
    use->few = op_hessian_padded(n);
    use->rows = OP_CHUNK * (k + 2);
    use->row = op_hessian_take(&next, use->rows * use->wide);
    use->scaled = op_hessian_take(&next, use->rows * use->wide);
    use->sum = op_hessian_take(&next, use->wide * use->wide);
    use->row_n = op_hessian_take(&next, use->rows * use->few);
    use->scaled_n = op_hessian_take(&next, use->rows * use->few);
    use->square = op_hessian_take(&next, use->few * use->few);
    use->unit = op_hessian_take(&next, use->few * use->few);
    use->w = op_hessian_take(&next, n * OP_CHUNK);
    use->y = op_hessian_take(&next, k * OP_CHUNK);
    use->norm = op_hessian_take(&next, OP_CHUNK);
    use->e = op_hessian_take(&next, n * k);
    use->m = op_hessian_take(&next, n * k);
    use->mD = op_hessian_take(&next, n);
    use->own = op_hessian_take(&next, n * k * k);
    use->trace = op_hessian_take(&next, n);
    use->D = op_hessian_take(&next, k);
    use->u = op_hessian_take(&next, k);
    use->s = op_hessian_take(&next, k);
    use->along = op_hessian_take(&next, n);
    use->half_norm = op_hessian_take(&next, n);
    memset(workspace, 0, (size_t)(next - workspace) * sizeof(double)); /* padding of rows stays 0 */
    for (ptrdiff_t i = 0; i < n; i++) {
        double square = 0.0;
        for (ptrdiff_t a = 0; a < k; a++) square += job->delta[i * k + a] * job->delta[i * k + a];
        use->half_norm[i] = job->log_prior[i] - 0.5 * square;
    }
}

/* Weights of the chunk that begins at node `start`; beyond the last node the last one is repeated (its rows get weight 0). */
static void op_hessian_weights(const op_hessian_work *use, const op_hessian_job *job, ptrdiff_t start)
{
    const ptrdiff_t n = job->n, k = job->k;
    vec sum[OP_PARTS];
    for (int b = 0; b < OP_CHUNK; b++) {
        const ptrdiff_t node = start + b < job->count ? start + b : job->count - 1;
        for (ptrdiff_t a = 0; a < k; a++) use->y[a * OP_CHUNK + b] = job->nodes[node * k + a] - job->centre[a];
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (int v = 0; v < OP_PARTS; v++) {
            vec logit = op_splat(use->half_norm[i]);
            for (ptrdiff_t a = 0; a < k; a++) logit += op_load(use->y + a * OP_CHUNK + v * OP_LANES) * job->delta[i * k + a];
            op_store(use->w + i * OP_CHUNK + v * OP_LANES, logit);
        }
    op_softmax_unnormalised(use->w, n, OP_CHUNK, sum, NULL);
    for (int v = 0; v < OP_PARTS; v++) op_store(use->norm + v * OP_LANES, 1.0 / sum[v]);
}

/* e, m, m.D, D of node b of the chunk, and its share of the diagonal blocks. */
static void op_hessian_node(const op_hessian_work *use, const op_hessian_job *job, ptrdiff_t node, int b, double q)
{
    const ptrdiff_t n = job->n, k = job->k;
    const double *target = job->constant ? job->target : job->target + node * k;
    double *D = use->D, *u = use->u;
    for (ptrdiff_t a = 0; a < k; a++) u[a] = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double w = use->w[i * OP_CHUNK + b] *= use->norm[b];
        for (ptrdiff_t a = 0; a < k; a++) u[a] += w * job->delta[i * k + a];
    }
    for (ptrdiff_t a = 0; a < k; a++) D[a] = (job->centre[a] - target[a]) + u[a];
    for (ptrdiff_t i = 0; i < n; i++) {
        const double w = use->w[i * OP_CHUNK + b], *delta = job->delta + i * k;
        double *e = use->e + i * k, *m = use->m + i * k, mD = 0.0;
        for (ptrdiff_t a = 0; a < k; a++) {
            e[a] = use->y[a * OP_CHUNK + b] - delta[a];
            m[a] = delta[a] - u[a];
            mD += m[a] * D[a];
        }
        use->mD[i] = mD;
        const double qw = q * w, qwm = qw * mD; /* 0 for a weight of 0, however far the mean is */
        use->trace[i] += qwm;
        if (job->direction) {
            const double *r = job->direction + i * k;
            double er = 0.0, Dr = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) er += e[a] * r[a], Dr += D[a] * r[a];
            use->along[i] = er;
            for (ptrdiff_t a = 0; a < k; a++) job->result[i * k + a] += qw * (D[a] * er + e[a] * Dr) + qwm * (e[a] * er - r[a]);
            continue;
        }
        double *own = use->own + i * k * k;
        for (ptrdiff_t a = 0; a < k; a++) {
            const double f = qw * D[a] + qwm * e[a], g = qw * e[a];
            for (ptrdiff_t c = 0; c < k; c++) own[a * k + c] += f * e[c] + g * D[c];
            own[a * k + a] -= qwm;
        }
    }
}

/* The rows of a node: w_j (I + m_j e_j'), then w_j g_j and w_j e_j, each scaled by the other; off the axes what multiplies e_j in
 * them: w_j m_j, w_j m_j.D and w_j. */
static void op_hessian_rows(const op_hessian_work *use, const op_hessian_job *job, int b, double q)
{
    const ptrdiff_t n = job->n, k = job->k, wide = use->wide, few = use->few, first = (ptrdiff_t)b * (k + 2);
    for (ptrdiff_t c = 0; c < k + 2; c++) {
        const double factor = c < k ? q : -q;
        const ptrdiff_t partner = first + (c < k ? c : 2 * k + 1 - c);
        double *row = use->row + (first + c) * wide, *scaled = use->scaled + partner * wide;
        double *row_n = use->row_n + (first + c) * few, *scaled_n = use->scaled_n + partner * few;
        for (ptrdiff_t j = 0; j < n; j++) {
            const double w = use->w[j * OP_CHUNK + b], along = c < k ? w * use->m[j * k + c] : c == k ? w * use->mD[j] : w;
            row_n[j] = along;
            scaled_n[j] = factor * along;
            if (wide == 0) continue;
            for (ptrdiff_t a = 0; a < k; a++) row[j * k + a] = along * use->e[j * k + a];
            if (c < k) row[j * k + c] += w;
            if (c == k)
                for (ptrdiff_t a = 0; a < k; a++) row[j * k + a] += w * use->D[a];
            for (ptrdiff_t a = 0; a < k; a++) scaled[j * k + a] = factor * row[j * k + a];
        }
    }
}

/* result_i += q w_i { s + e_i (m_i.s - h) - g_i f }, s = sum_j w_j (r_j + m_j (e_j.r_j)), f = sum_j w_j e_j.r_j, h = sum_j w_j g_j.r_j */
static void op_hessian_product(const op_hessian_work *use, const op_hessian_job *job, int b, double q)
{
    const ptrdiff_t n = job->n, k = job->k;
    double f = 0.0, h = 0.0, *s = use->s;
    for (ptrdiff_t a = 0; a < k; a++) s[a] = 0.0;
    for (ptrdiff_t j = 0; j < n; j++) {
        const double w = use->w[j * OP_CHUNK + b], along = use->along[j];
        f += w * along;
        h += w * use->mD[j] * along;
        for (ptrdiff_t a = 0; a < k; a++) {
            s[a] += w * (job->direction[j * k + a] + use->m[j * k + a] * along);
            h += w * use->D[a] * job->direction[j * k + a];
        }
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        const double w = q * use->w[i * OP_CHUNK + b], wmD = w * use->mD[i];
        double part = -h;
        for (ptrdiff_t a = 0; a < k; a++) part += use->m[i * k + a] * s[a];
        for (ptrdiff_t a = 0; a < k; a++)
            job->result[i * k + a] += w * (s[a] - use->D[a] * f) + (w * part - wmD * f) * use->e[i * k + a];
    }
}

/* sum += rows' scaled, on and above the diagonal, over every `stride`-th row: four columns by one vector stay in registers. */
static void op_hessian_update(const double *row, const double *scaled, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t stride,
                              ptrdiff_t wide, double *sum)
{
    for (ptrdiff_t c = 0; c < wide; c += 4)
        for (ptrdiff_t v = c / OP_LANES * OP_LANES; v < wide; v += OP_LANES) {
            vec total[4];
            for (int s = 0; s < 4; s++) total[s] = op_load(sum + (c + s) * wide + v);
            for (ptrdiff_t r = first; r < rows; r += stride) {
                const vec x = op_load(row + r * wide + v);
                for (int s = 0; s < 4; s++) total[s] += x * scaled[r * wide + c + s];
            }
            for (int s = 0; s < 4; s++) op_store(sum + (c + s) * wide + v, total[s]);
        }
}

static void op_hessian_finish(const op_hessian_work *use, const op_hessian_job *job)
{
    const ptrdiff_t n = job->n, k = job->k, size = n * k;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = i; j < n; j++) {
            double unit = use->unit[i * use->few + j], square = use->square[i * use->few + j];
            if (i == j) unit -= use->trace[i], square += use->trace[i];
            job->unit[i * n + j] = job->unit[j * n + i] = unit;
            job->square[i * n + j] = job->square[j * n + i] = square;
        }
    if (job->direction) return;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t a = 0; a < k; a++)
            for (ptrdiff_t c = a; c < k; c++) use->sum[(i * k + a) * use->wide + i * k + c] += use->own[(i * k + a) * k + c];
    for (ptrdiff_t r = 0; r < size; r++)
        for (ptrdiff_t c = r; c < size; c++) job->result[r * size + c] = job->result[c * size + r] = use->sum[r * use->wide + c];
}

void OP_HESSIAN(const op_hessian_job *job, double *workspace)
{
    op_hessian_work work;
    const ptrdiff_t k = job->k;
    op_hessian_prepare(&work, job, workspace);
    if (job->direction) memset(job->result, 0, (size_t)(job->n * k) * sizeof(double));
    for (ptrdiff_t start = 0; start < job->count; start += OP_CHUNK) {
        op_hessian_weights(&work, job, start);
        for (int b = 0; b < OP_CHUNK; b++) {
            const ptrdiff_t node = start + b < job->count ? start + b : job->count - 1;
            const double q = start + b < job->count ? 2.0 * job->weights[node] : 0.0;
            op_hessian_node(&work, job, node, b, q);
            if (job->square) op_hessian_rows(&work, job, b, q);
            if (job->direction) op_hessian_product(&work, job, b, q);
        }
        if (job->square == NULL) continue;
        if (work.wide) op_hessian_update(work.row, work.scaled, work.rows, 0, 1, work.wide, work.sum);
        op_hessian_update(work.row_n, work.scaled_n, work.rows, 0, 1, work.few, work.square);
        for (int b = 0; b < OP_CHUNK; b++) { /* the last row of a node is w: now with itself */
            const double q = start + b < job->count ? 2.0 * job->weights[start + b] : 0.0;
            const double *row = work.row_n + ((ptrdiff_t)b * (k + 2) + k + 1) * work.few;
            double *scaled = work.scaled_n + (row - work.row_n);
            for (ptrdiff_t j = 0; j < job->n; j++) scaled[j] = q * row[j];
        }
        op_hessian_update(work.row_n, work.scaled_n, work.rows, k + 1, k + 2, work.few, work.unit);
    }
    if (job->square) op_hessian_finish(&work, job);
}
