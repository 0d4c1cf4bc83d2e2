/* The reverse-Fisher kernel: prepare a job, run it over all nodes, put the sums together.
 *
 * While all logits are small, weights are formed as a difference from pi (see softmax.h). With l_j = L_j + g_ij, L_j = <z, tilt_j> and
 * g_ij = -|delta_i - delta_j|^2/2, p_j = exp(l_j) - 1, P = sum_j pi_j p_j,
 *     w_j - pi_j = pi_j (p_j - P)/(1 + P).
 * Of sum_j (w_j - pi_j) delta_j the part pi_j (L_j - mean L) is linear in z and has the expectation 0: it is left out of the rows, which
 * are of third order in the deviations without it and would be rounding with it:
 *     w_j - pi_j - pi_j (L_j - mean L) = pi_j [(q_j - Q) - (L_j - mean L) P]/(1 + P),   q_j = p_j - L_j,  Q = sum_j pi_j q_j.
 */
#ifndef OP_REVERSE_FISHER_KERNEL_H
#define OP_REVERSE_FISHER_KERNEL_H

#include <math.h>

#include "reverse_fisher.h"
#include "softmax.h"

#define OP_REVERSE_SMALL 0.25   /* bound on |logit| up to which weights are formed as a difference; op_growth needs 0.34 */
#define OP_REVERSE_RANGE 600.0  /* above this range of the logits, products of factors could underflow where their sum does not */
#define OP_REVERSE_SLAB 32      /* chunks that are summed before their sum is added to the total */

#define OP_EACH_PART for (int v = 0; v < OP_PARTS; v++)
#define OP_LANE(v) ((v) * OP_LANES)

static double op_reverse_square(const double *x, const double *y, ptrdiff_t k)
{
    double sum = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) sum += (x[a] - y[a]) * (x[a] - y[a]);
    return sum;
}

/* Rows of log weights become exp over the row's largest. Returns the largest range of a row, entries of weight 0 apart. */
static double op_reverse_range(const double *gap, ptrdiff_t rows, ptrdiff_t columns)
{
    double widest = 0.0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        double high = -INFINITY, low = INFINITY;
        for (ptrdiff_t j = 0; j < columns; j++) {
            double g = gap[i * columns + j];
            if (g == -INFINITY) continue;
            if (!(g <= high)) high = g;
            if (!(g >= low)) low = g;
        }
        if (!(high - low <= widest)) widest = high - low;
    }
    return widest;
}

static void op_reverse_factors(double *gap, ptrdiff_t rows, ptrdiff_t columns)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        double high = -INFINITY;
        for (ptrdiff_t j = 0; j < columns; j++)
            if (!(gap[i * columns + j] <= high)) high = gap[i * columns + j];
        for (ptrdiff_t j = 0; j < columns; j++) gap[i * columns + j] = exp(gap[i * columns + j] - high);
    }
}

/* Less their mean; returns the largest length. */
static double op_reverse_centred(const double *points, ptrdiff_t count, ptrdiff_t k, double *tilt)
{
    double longest = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) {
        double mean = 0.0;
        for (ptrdiff_t j = 0; j < count; j++) mean += points[j * k + a];
        mean /= (double)count;
        for (ptrdiff_t j = 0; j < count; j++) tilt[j * k + a] = points[j * k + a] - mean;
    }
    for (ptrdiff_t j = 0; j < count; j++) {
        double square = 0.0;
        for (ptrdiff_t a = 0; a < k; a++) square += tilt[j * k + a] * tilt[j * k + a];
        if (!(square <= longest)) longest = square;
    }
    return sqrt(longest);
}

/* Equal weights are multiplied in last: their rounding would leave a mean where the deviations have none. */
static double op_reverse_prior_mean(const op_reverse_job *job, ptrdiff_t a)
{
    double sum = 0.0, lost = 0.0;
    for (ptrdiff_t i = 0; i < job->n; i++) {
        double term = job->delta[i * job->k + a] * (job->rule->equal_prior ? 1.0 : job->rule->prior[i]);
        double next = sum + term, taken = next - sum;
        lost += (sum - (next - taken)) + (term - taken);
        sum = next;
    }
    return (sum + lost) * (job->rule->equal_prior ? job->rule->prior[0] : 1.0);
}

/* Reads the parameters and decides the regime; `plain` asks for softmax weights whatever the spread. */
static void op_reverse_prepare(op_reverse_job *job, const op_reverse *rule, const double *centre, const double *deviations,
                               int plain, void *workspace)
{
    op_reverse_lay_out(job, rule, workspace);
    const ptrdiff_t n = job->n, k = job->k, m = job->m;
    memcpy(job->delta, deviations, (size_t)(n * k) * sizeof(double));
    double longest = op_reverse_centred(job->delta, n, k, job->tilt), widest = 0.0;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < n; j++) {
            double square = op_reverse_square(job->delta + i * k, job->delta + j * k, k);
            job->gap[i * n + j] = -0.5 * square;
            if (!(square <= widest)) widest = square;
        }
    job->small = !plain && rule->reach * longest + 0.5 * widest < OP_REVERSE_SMALL;
    if (job->small) {
        for (ptrdiff_t a = 0; a < k; a++) job->prior_mean[a] = op_reverse_prior_mean(job, a);
        for (ptrdiff_t i = 0; i < n * n; i++) job->gap[i] = expm1(job->gap[i]);
    } else {
        for (ptrdiff_t a = 0; a < k; a++) job->prior_mean[a] = 0.0;
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = 0; j < n; j++) job->gap[i * n + j] += rule->log_prior[j];
        job->factored = 2.0 * rule->reach * longest + op_reverse_range(job->gap, n, n) < OP_REVERSE_RANGE;
        if (job->factored) op_reverse_factors(job->gap, n, n);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t nearest = 0;
        double least = INFINITY;
        for (ptrdiff_t b = 0; b < m; b++) {
            double square = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) {
                double apart = job->delta[i * k + a] + (centre[a] - rule->means[b * k + a]);
                square += apart * apart;
            }
            if (square < least) least = square, nearest = b;
        }
        const double *mean = rule->means + nearest * k;
        for (ptrdiff_t a = 0; a < k; a++) job->shift[i * k + a] = centre[a] - mean[a];
        /* of log weights only differences count: |mu_i - m_a|^2 itself would round more */
        for (ptrdiff_t b = 0; m > 1 && b < m; b++) {
            double gain = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) {
                double to = rule->means[b * k + a] - mean[a];
                job->relative[(i * m + b) * k + a] = to;
                gain += to * (job->delta[i * k + a] + job->shift[i * k + a] - 0.5 * to);
            }
            job->teacher_gap[i * m + b] = rule->log_teacher[b] + gain;
        }
    }
    if (m > 1) {
        double apart = op_reverse_centred(rule->means, m, k, job->teacher_tilt);
        job->teacher_factored = 2.0 * rule->reach * apart + op_reverse_range(job->teacher_gap, n, m) < OP_REVERSE_RANGE;
        if (job->teacher_factored) op_reverse_factors(job->teacher_gap, n, m);
    }
}

/* <z, tilt_j> for one chunk of nodes. */
OP_INLINE void op_reverse_tilts(const op_reverse *rule, ptrdiff_t at, const double *tilt, ptrdiff_t count, ptrdiff_t k, double *L)
{
    for (ptrdiff_t j = 0; j < count; j++) OP_EACH_PART {
        vec sum = op_splat(0.0);
        for (ptrdiff_t a = 0; a < k; a++) sum += op_load(rule->nodes + a * rule->count + at + OP_LANE(v)) * tilt[j * k + a];
        op_store(L + j * OP_CHUNK + OP_LANE(v), sum);
    }
}

/* What all means have in common at a chunk of nodes. */
OP_INLINE void op_reverse_open(const op_reverse_job *job, ptrdiff_t at, ptrdiff_t k)
{
    const op_reverse *rule = job->rule;
    const ptrdiff_t n = job->n, m = job->m;
    vec sum[OP_PARTS];
    op_reverse_tilts(rule, at, job->tilt, n, k, job->L);
    if (job->small) {
        OP_EACH_PART sum[v] = op_splat(0.0);
        for (ptrdiff_t j = 0; j < n; j++) OP_EACH_PART {
            const ptrdiff_t entry = j * OP_CHUNK + OP_LANE(v);
            vec L = op_load(job->L + entry), rest = L * L * op_second_growth(L);
            op_store(job->rest + entry, rest);
            op_store(job->E + entry, L + rest);
            sum[v] += L * rule->prior[j];
        }
        OP_EACH_PART op_store(job->mean_L + OP_LANE(v), sum[v]);
    } else if (job->factored) {
        memcpy(job->E, job->L, (size_t)(n * OP_CHUNK) * sizeof(double));
        op_softmax_unnormalised(job->E, n, OP_CHUNK, sum, NULL);
    }
    if (m > 1) {
        op_reverse_tilts(rule, at, job->teacher_tilt, m, k, job->teacher_L);
        if (job->teacher_factored) {
            memcpy(job->teacher_E, job->teacher_L, (size_t)(m * OP_CHUNK) * sizeof(double));
            op_softmax_unnormalised(job->teacher_E, m, OP_CHUNK, sum, NULL);
        }
    }
}

OP_INLINE void op_reverse_softmax(int factored, const double *L, const double *E, const double *gap, double *p, ptrdiff_t count,
                                  vec inverse[OP_PARTS])
{
    if (factored) {
        op_softmax_from_factors(E, OP_CHUNK, gap, 1, p, count, OP_CHUNK, inverse);
    } else {
        for (ptrdiff_t j = 0; j < count; j++)
            OP_EACH_PART op_store(p + j * OP_CHUNK + OP_LANE(v), op_load(L + j * OP_CHUNK + OP_LANE(v)) + gap[j]);
        op_softmax_unnormalised(p, count, OP_CHUNK, inverse, NULL);
    }
    OP_EACH_PART inverse[v] = 1.0 / inverse[v];
}

/* p = pi_j (p_j - P) and odd = pi_j [(q_j - Q) - (L_j - mean L) P] of mean i; returns 1/(1 + P). */
OP_INLINE void op_reverse_shifts(const op_reverse_job *job, const double *gap, vec inverse[OP_PARTS])
{
    const double *prior = job->rule->prior;
    vec P[OP_PARTS], Q[OP_PARTS];
    OP_EACH_PART P[v] = Q[v] = op_splat(0.0);
    for (ptrdiff_t j = 0; j < job->n; j++) OP_EACH_PART {
        const ptrdiff_t entry = j * OP_CHUNK + OP_LANE(v);
        vec e = op_load(job->E + entry), more = gap[j] * (1.0 + e);
        vec p = e + more, q = op_load(job->rest + entry) + more;
        op_store(job->p + entry, p);
        op_store(job->odd + entry, q);
        P[v] += p * prior[j];
        Q[v] += q * prior[j];
    }
    for (ptrdiff_t j = 0; j < job->n; j++) OP_EACH_PART {
        const ptrdiff_t entry = j * OP_CHUNK + OP_LANE(v);
        vec L = op_load(job->L + entry) - op_load(job->mean_L + OP_LANE(v));
        op_store(job->odd + entry, (op_load(job->odd + entry) - Q[v] - L * P[v]) * prior[j]);
        op_store(job->p + entry, (op_load(job->p + entry) - P[v]) * prior[j]);
    }
    OP_EACH_PART inverse[v] = 1.0 / (1.0 + P[v]);
}

/* part += sign * sum_j w_j (x_j - mean) <x_j - mean, arm>, w_j = (p_j + base_j) inverse. */
OP_INLINE void op_reverse_covariance(const double *x, const double *p, const double *base, ptrdiff_t count, ptrdiff_t k, const double *mean,
                                     const double *arm, const vec inverse[OP_PARTS], double sign, double *part)
{
    OP_EACH_PART {
        for (ptrdiff_t j = 0; j < count; j++) {
            vec s = op_splat(0.0), w = op_load(p + j * OP_CHUNK + OP_LANE(v));
            for (ptrdiff_t a = 0; a < k; a++)
                s += (x[j * k + a] - op_load(mean + a * OP_CHUNK + OP_LANE(v))) * op_load(arm + a * OP_CHUNK + OP_LANE(v));
            if (base) w = w * inverse[v] + base[j];
            else w = w * inverse[v];
            s = s * w * sign;
            for (ptrdiff_t a = 0; a < k; a++) {
                double *to = part + a * OP_CHUNK + OP_LANE(v);
                op_store(to, op_load(to) + s * (x[j * k + a] - op_load(mean + a * OP_CHUNK + OP_LANE(v))));
            }
        }
    }
}

/* u and m_i of mean i; the weights are left in job->p. */
OP_INLINE void op_reverse_student(const op_reverse_job *job, ptrdiff_t i, ptrdiff_t k, double *u, double *own, double *part,
                                  vec inverse[OP_PARTS])
{
    const ptrdiff_t n = job->n;
    const double *gap = job->gap + i * n;
    if (job->small) op_reverse_shifts(job, gap, inverse);
    else op_reverse_softmax(job->factored, job->L, job->E, gap, job->p, n, inverse);
    for (ptrdiff_t a = 0; a < k; a++) OP_EACH_PART {
        const ptrdiff_t entry = a * OP_CHUNK + OP_LANE(v);
        vec sum = op_splat(0.0), odd = op_splat(0.0);
        for (ptrdiff_t j = 0; j < n; j++) sum += op_load(job->p + j * OP_CHUNK + OP_LANE(v)) * job->delta[j * k + a];
        sum *= inverse[v];
        if (job->small) {
            for (ptrdiff_t j = 0; j < n; j++) odd += op_load(job->odd + j * OP_CHUNK + OP_LANE(v)) * job->delta[j * k + a];
            op_store(part + entry, odd * inverse[v]);
            sum += job->prior_mean[a];
        } else {
            op_store(part + entry, sum);
        }
        op_store(u + entry, sum);
        op_store(own + entry, job->delta[i * k + a] - sum);
    }
}

/* t - m_a and mu_i - t of mean i; the weights are left in job->teacher_p. */
OP_INLINE void op_reverse_teacher(const op_reverse_job *job, ptrdiff_t i, ptrdiff_t k, double *tau, double *arm, vec inverse[OP_PARTS])
{
    const ptrdiff_t m = job->m;
    op_reverse_softmax(job->teacher_factored, job->teacher_L, job->teacher_E, job->teacher_gap + i * m, job->teacher_p, m, inverse);
    for (ptrdiff_t a = 0; a < k; a++) OP_EACH_PART {
        vec sum = op_splat(0.0);
        for (ptrdiff_t b = 0; b < m; b++)
            sum += op_load(job->teacher_p + b * OP_CHUNK + OP_LANE(v)) * job->relative[(i * m + b) * k + a];
        sum *= inverse[v];
        op_store(tau + a * OP_CHUNK + OP_LANE(v), sum);
        op_store(arm + a * OP_CHUNK + OP_LANE(v), job->shift[i * k + a] + job->delta[i * k + a] - sum);
    }
}

/* One chunk of nodes, all means. Short vectors over the axes live on the stack where their number is known. */
OP_INLINE void op_reverse_chunk(const op_reverse_job *job, ptrdiff_t at, ptrdiff_t k, double *u, double *own, double *tau, double *arm,
                                double *part)
{
    const ptrdiff_t n = job->n, m = job->m;
    op_reverse_open(job, at, k);
    for (ptrdiff_t i = 0; i < n; i++) {
        vec inverse[OP_PARTS], teacher_inverse[OP_PARTS];
        op_reverse_student(job, i, k, u, own, part, inverse);
        if (m > 1) op_reverse_teacher(job, i, k, tau, arm, teacher_inverse);
        OP_EACH_PART {
            vec square = op_splat(0.0);
            for (ptrdiff_t a = 0; a < k; a++) {
                vec D = job->shift[i * k + a] + op_load(u + a * OP_CHUNK + OP_LANE(v));
                if (m > 1) D -= op_load(tau + a * OP_CHUNK + OP_LANE(v));
                square += D * D;
            }
            vec q = op_load(job->rule->weights + at + OP_LANE(v)) * job->rule->prior[i];
            double *to = job->sum_value + OP_LANE(v);
            op_store(to, op_load(to) + q * square);
        }
        if (job->form == 0) continue;
        op_reverse_covariance(job->delta, job->p, job->small ? job->rule->prior : NULL, n, k, u, own, inverse, 1.0, part);
        if (m > 1)
            op_reverse_covariance(job->relative + i * m * k, job->teacher_p, NULL, m, k, tau, arm, teacher_inverse, -1.0, part);
        for (ptrdiff_t a = 0; a < k; a++) OP_EACH_PART {
            vec term = op_load(part + a * OP_CHUNK + OP_LANE(v));
            if (m > 1) term -= op_load(tau + a * OP_CHUNK + OP_LANE(v));
            double *to = job->sum_rows + (i * k + a) * OP_CHUNK + OP_LANE(v);
            op_store(to, op_load(to) + op_load(job->rule->weights + at + OP_LANE(v)) * term);
        }
    }
}

#if defined(__GNUC__) || defined(__clang__)
#define OP_REVERSE_ALIGNED __attribute__((aligned(64)))
#elif defined(_MSC_VER)
#define OP_REVERSE_ALIGNED __declspec(align(64))
#else
#define OP_REVERSE_ALIGNED
#endif

#define OP_REVERSE_CHUNK_OF(K)                                                                                                      \
    static void op_reverse_chunk_##K(const op_reverse_job *job, ptrdiff_t at)                                                       \
    {                                                                                                                               \
        OP_REVERSE_ALIGNED double u[K * OP_CHUNK], own[K * OP_CHUNK], tau[K * OP_CHUNK], arm[K * OP_CHUNK], part[K * OP_CHUNK];     \
        op_reverse_chunk(job, at, K, u, own, tau, arm, part);                                                                       \
    }
OP_REVERSE_CHUNK_OF(1)
OP_REVERSE_CHUNK_OF(2)
OP_REVERSE_CHUNK_OF(3)

static void op_reverse_chunk_any(const op_reverse_job *job, ptrdiff_t at)
{
    op_reverse_chunk(job, at, job->k, job->u, job->own, job->tau, job->arm, job->part);
}

static void op_reverse_add(double *total, double *sum, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count * OP_CHUNK; i++) total[i] += sum[i];
    memset(sum, 0, (size_t)(count * OP_CHUNK) * sizeof(double));
}

static int op_reverse_evaluate(const void *context, const double *centre, const double *deviations, int form, double *value,
                               double *mean_row, double *rows, void *workspace)
{
    const op_reverse *rule = (const op_reverse *)context;
    op_reverse_job job;
    op_reverse_prepare(&job, rule, centre, deviations, 0, workspace);
    const ptrdiff_t n = job.n, k = job.k;
    void (*const chunk)(const op_reverse_job *, ptrdiff_t) =
        k == 1 ? op_reverse_chunk_1 : k == 2 ? op_reverse_chunk_2 : k == 3 ? op_reverse_chunk_3 : op_reverse_chunk_any;
    job.form = form;
    memset(job.sum_rows, 0, (size_t)(n * k * OP_CHUNK) * sizeof(double));
    memset(job.total_rows, 0, (size_t)(n * k * OP_CHUNK) * sizeof(double));
    memset(job.sum_value, 0, OP_CHUNK * sizeof(double));
    memset(job.total_value, 0, OP_CHUNK * sizeof(double));
    for (ptrdiff_t at = 0; at < rule->count; at += OP_CHUNK * OP_REVERSE_SLAB) {
        const ptrdiff_t end = at + OP_CHUNK * OP_REVERSE_SLAB < rule->count ? at + OP_CHUNK * OP_REVERSE_SLAB : rule->count;
        for (ptrdiff_t b = at; b < end; b += OP_CHUNK) chunk(&job, b);
        op_reverse_add(job.total_value, job.sum_value, 1);
        if (form) op_reverse_add(job.total_rows, job.sum_rows, n * k);
    }
    *value = op_total(job.total_value, OP_CHUNK);
    if (!form) return 0;
    for (ptrdiff_t a = 0; a < k; a++) {
        /* the shift is the same for all means when the teacher has one: rows differ by what is summed */
        const int apart = form == 2 && rule->m == 1;
        double mean = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double sum = op_total(job.total_rows + (i * k + a) * OP_CHUNK, OP_CHUNK);
            if (!apart) sum += job.shift[i * k + a] + job.prior_mean[a];
            rows[i * k + a] = 2.0 * rule->prior[i] * sum;
            mean += rows[i * k + a];
        }
        mean /= (double)n;
        for (ptrdiff_t i = 0; form == 2 && i < n; i++) {
            rows[i * k + a] -= mean;
            if (apart) rows[i * k + a] += 2.0 * (rule->prior[i] - 1.0 / (double)n) * (job.shift[a] + job.prior_mean[a]);
        }
        mean_row[a] = apart ? mean + 2.0 / (double)n * (job.shift[a] + job.prior_mean[a]) : mean;
    }
    return 0;
}

static int op_reverse_scales(const op_reverse *rule, const double *centre, const double *deviations, double *value, double *scales,
                             double *slopes, void *workspace)
{
    op_reverse_job job;
    op_reverse_prepare(&job, rule, centre, deviations, 1, workspace);
    const ptrdiff_t n = job.n, k = job.k, m = job.m;
    double *sums = job.sum_scales;
    memset(sums, 0, (size_t)((2 * n + 2) * OP_CHUNK) * sizeof(double));
    memset(job.total_scales, 0, (size_t)((2 * n + 2) * OP_CHUNK) * sizeof(double));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < n; j++) {
            double square = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) square += pow(job.delta[j * k + a] + job.shift[i * k + a], 2);
            job.distance[i * n + j] = sqrt(square);
        }
    for (ptrdiff_t i = 0; m > 1 && i < n * m; i++) {
        double square = 0.0;
        for (ptrdiff_t a = 0; a < k; a++) square += job.relative[i * k + a] * job.relative[i * k + a];
        job.apart[i] = sqrt(square);
    }
    for (ptrdiff_t at = 0; at < rule->count; at += OP_CHUNK) {
        op_reverse_open(&job, at, k);
        for (ptrdiff_t i = 0; i < n; i++) {
            vec inverse[OP_PARTS], teacher_inverse[OP_PARTS];
            op_reverse_student(&job, i, k, job.u, job.own, job.part, inverse);
            OP_EACH_PART teacher_inverse[v] = op_splat(0.0);
            if (m > 1) op_reverse_teacher(&job, i, k, job.tau, job.arm, teacher_inverse);
            OP_REVERSE_ALIGNED double far[OP_CHUNK], spread[OP_CHUNK], own[OP_CHUNK], others[OP_CHUNK], arm[OP_CHUNK];
            OP_EACH_PART {
                vec length = op_splat(0.0), square = op_splat(0.0), to_own = op_splat(0.0);
                for (ptrdiff_t j = 0; j < n; j++) {
                    vec p = op_load(job.p + j * OP_CHUNK + OP_LANE(v));
                    length += p * job.distance[i * n + j];
                    for (ptrdiff_t a = 0; a < k; a++) {
                        vec off = job.delta[j * k + a] - op_load(job.u + a * OP_CHUNK + OP_LANE(v));
                        square += p * off * off;
                    }
                }
                for (ptrdiff_t a = 0; a < k; a++) {
                    vec off = op_load(job.own + a * OP_CHUNK + OP_LANE(v));
                    to_own += off * off;
                }
                length *= inverse[v];
                op_store(spread + OP_LANE(v), square * inverse[v]);
                op_store(own + OP_LANE(v), to_own);
                square = op_splat(0.0);
                to_own = op_splat(0.0);
                if (m > 1) {
                    vec more = op_splat(0.0);
                    for (ptrdiff_t c = 0; c < m; c++) {
                        vec p = op_load(job.teacher_p + c * OP_CHUNK + OP_LANE(v));
                        more += p * job.apart[i * m + c];
                        for (ptrdiff_t a = 0; a < k; a++) {
                            vec off = job.relative[(i * m + c) * k + a] - op_load(job.tau + a * OP_CHUNK + OP_LANE(v));
                            square += p * off * off;
                        }
                    }
                    for (ptrdiff_t a = 0; a < k; a++) {
                        vec off = op_load(job.arm + a * OP_CHUNK + OP_LANE(v));
                        to_own += off * off;
                    }
                    length += more * teacher_inverse[v];
                    square *= teacher_inverse[v];
                }
                op_store(far + OP_LANE(v), length);
                op_store(others + OP_LANE(v), square);
                op_store(arm + OP_LANE(v), to_own);
            }
            for (int b = 0; b < OP_CHUNK; b++) {
                double q = 2.0 * rule->prior[i] * rule->weights[at + b];
                sums[i * OP_CHUNK + b] += q * (far[b] + spread[b] * sqrt(own[b]) + others[b] * sqrt(arm[b]));
                sums[(n + i) * OP_CHUNK + b] += q * (1.0 + others[b]);
                sums[2 * n * OP_CHUNK + b] += q * far[b];
                sums[(2 * n + 1) * OP_CHUNK + b] += 0.5 * q * far[b] * far[b];
            }
        }
        if (at / OP_CHUNK % OP_REVERSE_SLAB == OP_REVERSE_SLAB - 1 || at + OP_CHUNK >= rule->count)
            op_reverse_add(job.total_scales, sums, 2 * n + 2);
    }
    for (ptrdiff_t i = 0; i < n; i++) scales[i] = op_total(job.total_scales + i * OP_CHUNK, OP_CHUNK);
    for (ptrdiff_t i = 0; i <= n; i++) slopes[i] = op_total(job.total_scales + (n + i) * OP_CHUNK, OP_CHUNK);
    *value = op_total(job.total_scales + (2 * n + 1) * OP_CHUNK, OP_CHUNK);
    return 0;
}

const op_reverse_kernels OP_TABLE = {op_reverse_evaluate, op_reverse_scales};

#endif
