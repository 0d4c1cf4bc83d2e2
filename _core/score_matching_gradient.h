/* Value and gradient: prepare a job, run it over all blocks, put the sums together. */
#ifndef OP_SCORE_MATCHING_GRADIENT_H
#define OP_SCORE_MATCHING_GRADIENT_H

#include <math.h>

#include "score_matching_block.h"

/* Up to this bound on |logit| the weights are formed as a difference from the prior weights; op_growth needs 0.34. */
#define OP_SMALL_LOGIT 0.25

/* Above this range of the partial logits, products of factors could underflow where the sum of logits does not. */
#define OP_FACTOR_RANGE 600.0

/* sum_j pi_j delta_j with compensated summation: around the target it is all that is left of D to first order. */
static double op_prior_mean(const op_job *job, ptrdiff_t a)
{
    const op_measure *m = job->measure;
    double sum = 0.0, lost = 0.0;
    for (ptrdiff_t i = 0; i < job->n; i++) {
        double term = job->delta[i * job->k + a] * (m->equal_prior ? 1.0 : m->prior[i]);
        double next = sum + term, taken = next - sum;
        lost += (sum - (next - taken)) + (term - taken);
        sum = next;
    }
    return (sum + lost) * (m->equal_prior ? m->prior[0] : 1.0);
}

/* Reads the parameters in the order of the measure's axes and decides the regime. A negative form asks for plain
 * softmax weights whatever the spread. */
static void op_prepare(op_job *job, const op_measure *m, const double *centre, const double *deviations, int form,
                       void *workspace)
{
    op_lay_out(job, m, workspace);
    const ptrdiff_t n = job->n, k = job->k;
    double norm = 0.0, largest = 0.0;
    job->form = form;
    for (ptrdiff_t a = 0; a < k; a++) {
        job->centre[a] = centre[m->axes[a]];
        job->shift[a] = m->targets ? 0.0 : job->centre[a] - m->target[a];
        norm += job->centre[a] * job->centre[a];
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        double square = 0.0;
        for (ptrdiff_t a = 0; a < k; a++) {
            double d = deviations[i * k + m->axes[a]];
            job->delta[i * k + a] = d;
            square += d * d;
        }
        job->half_norm[i] = -0.5 * square;
        job->outer_base[i] = 0.0;
        if (square > largest) largest = square; /* NaN: every weight becomes NaN in either regime */
    }
    job->small = form >= 0 && (m->reach + sqrt(norm)) * sqrt(largest) + 0.5 * largest < OP_SMALL_LOGIT;
    if (job->small) {
        for (ptrdiff_t a = 0; a < k; a++) job->prior_mean[a] = op_prior_mean(job, a);
        for (ptrdiff_t i = 0; i < n; i++) {
            /* exactly 0 for deviation rows and equal weights */
            job->offset[i] = form == 2 ? (m->equal_prior ? 0.0 : m->prior[i] - 1.0 / (double)n) : m->prior[i];
            for (ptrdiff_t a = 0; a < k; a++) job->prior_delta[i * k + a] = m->prior[i] * job->delta[i * k + a];
        }
    } else {
        for (ptrdiff_t i = 0; i < n; i++) {
            job->half_norm[i] += m->log_prior[i];
            /* a parameter of weight 0 must not be the largest on the outer axes either */
            if (m->log_prior[i] == -INFINITY) job->outer_base[i] = -INFINITY;
        }
    }
    memset(job->sum_rows, 0, (size_t)(n * k * OP_CHUNK) * sizeof(double));
    memset(job->sum_a, 0, (size_t)(n * OP_CHUNK) * sizeof(double));
    memset(job->sum_D, 0, (size_t)(k * OP_CHUNK) * sizeof(double));
    memset(job->sum_value, 0, OP_CHUNK * sizeof(double));
}

/* Factors exp(l_i - max l) of one side of a tensor rule, or exp(l_i) - 1 when small. Returns the largest range of the
 * l_i over the parameters of non-zero weight. */
static double op_factors(const op_job *job, const double *y, ptrdiff_t y_stride, ptrdiff_t axes, const double *delta,
                         const double *base, double *p, ptrdiff_t stride)
{
    const ptrdiff_t n = job->n;
    vec range[OP_PARTS], sum[OP_PARTS];
    double widest = 0.0;
    op_all_logits(0, y, y_stride, axes, delta, n, job->k, base, p, stride);
    if (job->small) {
        op_softmax_shift(p, n, stride, job->measure->prior, sum);
        return 0.0;
    }
    OP_FOR_PARTS {
        vec high = op_splat(-INFINITY), low = op_splat(INFINITY);
        for (ptrdiff_t i = 0; i < n; i++) {
            if (base[i] == -INFINITY) continue;
            vec l = op_load(p + i * stride + OP_AT(v));
            high = op_max(high, l);
            low = op_min(low, l);
        }
        range[v] = high - low;
    }
    op_softmax_unnormalised(p, n, stride, sum);
    double lane[OP_CHUNK];
    memcpy(lane, range, sizeof lane);
    for (int b = 0; b < OP_CHUNK; b++)
        if (!(lane[b] <= widest)) widest = lane[b];
    return widest;
}

/* Tables the inner factors of a tensor rule, unless the range of the logits forbids it. */
static void op_factor_inner(op_job *job)
{
    const op_measure *m = job->measure;
    double range = 0.0, inner = 0.0;
    job->factored = 0;
    if (m->outer == 1) return;
    for (ptrdiff_t a = m->varying; a < m->k && !job->small; a++) {
        double least = INFINITY, most = -INFINITY;
        for (ptrdiff_t i = 0; i < m->n; i++) {
            if (job->outer_base[i] == -INFINITY) continue;
            double d = job->delta[i * m->k + a];
            if (!(d >= least)) least = d;
            if (!(d <= most)) most = d;
        }
        double below = fabs(m->low[a] - job->centre[a]), above = fabs(m->high[a] - job->centre[a]);
        range += (most - least) * (below > above ? below : above);
    }
    if (!(range < OP_FACTOR_RANGE)) return;
    for (ptrdiff_t node = 0; node < m->inner; node += OP_CHUNK) {
        op_centre(0, job, node, job->y, OP_CHUNK);
        double here = op_factors(job, job->y, OP_CHUNK, m->varying, job->delta, job->half_norm,
                                 job->inner_factor + node, m->inner);
        if (!(here <= inner)) inner = here;
    }
    job->factored = inner + range < OP_FACTOR_RANGE;
}

/* The next slab of outer nodes: coordinates minus centre, weights, and factors if in use. Returns how many. */
static ptrdiff_t op_next_slab(op_job *job, ptrdiff_t done)
{
    const op_measure *m = job->measure;
    const ptrdiff_t k = m->k, varying = m->varying, left = m->outer - done, count = left < OP_SLAB ? left : OP_SLAB;
    if (done == 0) memset(job->odometer, 0, (size_t)k * sizeof(ptrdiff_t));
    for (ptrdiff_t s = 0; s < count; s++) {
        double weight = 1.0;
        for (ptrdiff_t a = varying; a < k; a++) {
            job->outer_y[(a - varying) * OP_SLAB + s] = m->axis_nodes[a][job->odometer[a]] - job->centre[a];
            weight *= m->axis_weights[a][job->odometer[a]];
        }
        job->outer_weight[s] = weight;
        for (ptrdiff_t a = k - 1; a >= varying; a--) {
            if (++job->odometer[a] < m->orders[a]) break;
            job->odometer[a] = 0;
        }
    }
    if (job->factored) {
        for (ptrdiff_t s = count; s < OP_ROUND_UP(count); s++) /* padding of the last chunk */
            for (ptrdiff_t a = 0; a < k - varying; a++)
                job->outer_y[a * OP_SLAB + s] = job->outer_y[a * OP_SLAB + count - 1];
        for (ptrdiff_t s = 0; s < count; s += OP_CHUNK)
            op_factors(job, job->outer_y + s, OP_SLAB, k - varying, job->delta + varying, job->outer_base,
                       job->outer_factor + s, OP_SLAB);
    }
    return count;
}

/* The part of the logits that is the same over the inner nodes. */
static void op_set_base(op_job *job, ptrdiff_t slot)
{
    const ptrdiff_t n = job->n, k = job->k, varying = job->varying;
    for (ptrdiff_t i = 0; i < n; i++) {
        double l = job->half_norm[i];
        for (ptrdiff_t a = varying; a < k; a++)
            l += job->outer_y[(a - varying) * OP_SLAB + slot] * job->delta[i * k + a];
        job->base[i] = l;
    }
}

#define OP_RUN(K, V, SMALL)                                                                                 \
    static void op_run_##K##_##V##_##SMALL(const op_job *job, ptrdiff_t slot)                               \
    {                                                                                                       \
        const ptrdiff_t inner = job->measure->inner, block = job->measure->block;                           \
        for (ptrdiff_t start = 0; start < inner; start += block)                                            \
            op_block(K, V, SMALL, job, start, inner - start < block ? inner - start : block, slot);         \
    }
#define OP_RUN_BOTH(K, V) OP_RUN(K, V, 0) OP_RUN(K, V, 1)

OP_RUN_BOTH(0, 0)
OP_RUN_BOTH(1, 1)
OP_RUN_BOTH(2, 1)
OP_RUN_BOTH(2, 2)
OP_RUN_BOTH(3, 1)
OP_RUN_BOTH(3, 2)
OP_RUN_BOTH(3, 3)

typedef void (*op_runner)(const op_job *, ptrdiff_t);

static op_runner op_choose_runner(const op_job *job)
{
#define OP_CHOICE(K, V) \
    if (job->k == K && job->varying == V) return job->small ? op_run_##K##_##V##_1 : op_run_##K##_##V##_0
    OP_CHOICE(1, 1);
    OP_CHOICE(2, 1);
    OP_CHOICE(2, 2);
    OP_CHOICE(3, 1);
    OP_CHOICE(3, 2);
    OP_CHOICE(3, 3);
    return job->small ? op_run_0_0_1 : op_run_0_0_0;
}

/* From the sums to the rows: g_i = 2 (R_i - A_i delta_i), where R_i = sum q (w_i D + a_i y), A_i = sum q a_i.
 * Deviation rows subtract the mean over i. Where weights are near the prior it is subtracted term by term
 * (sum_i w_i = 1 and sum_i a_i = 0 give the mean in closed form), else after summing. */
static void op_finish(const op_job *job, double *mean_row, double *rows)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k;
    const double per_row = 1.0 / (double)n;
    const int by_term = job->small && job->form == 2;
    const int width = OP_LANES; /* op_reduce fills only the first lanes of its accumulators */
    double *A = job->base;
    for (ptrdiff_t i = 0; i < n; i++) A[i] = op_total(job->sum_a + i * OP_CHUNK, width);
    for (ptrdiff_t a = 0; a < k; a++) {
        const ptrdiff_t to = m->axes[a];
        double moved = 0.0, mean = 0.0;
        if (by_term)
            for (ptrdiff_t i = 0; i < n; i++) moved += A[i] * job->delta[i * k + a];
        moved *= per_row;
        for (ptrdiff_t i = 0; i < n; i++) {
            double R = op_total(job->sum_rows + (i * k + a) * OP_CHUNK, width);
            rows[i * k + to] = 2.0 * (R - (A[i] * job->delta[i * k + a] - moved));
            mean += rows[i * k + to];
        }
        mean *= per_row;
        mean_row[to] = by_term ? 2.0 * (op_total(job->sum_D + a * OP_CHUNK, OP_CHUNK) * per_row - moved) : mean;
        if (job->form == 2 && !by_term)
            for (ptrdiff_t i = 0; i < n; i++) rows[i * k + to] -= mean;
    }
}

static int op_evaluate(const void *measure, const double *centre, const double *deviations, int form, double *value,
                       double *mean_row, double *rows, void *workspace)
{
    const op_measure *m = measure;
    op_job job;
    op_prepare(&job, m, centre, deviations, form, workspace);
    op_factor_inner(&job);
    op_runner run = op_choose_runner(&job);
    for (ptrdiff_t done = 0; done < m->outer;) {
        ptrdiff_t count = op_next_slab(&job, done);
        for (ptrdiff_t slot = 0; slot < count; slot++) {
            if (!job.factored) op_set_base(&job, slot);
            run(&job, slot);
        }
        done += count;
    }
    *value = op_total(job.sum_value, OP_CHUNK);
    if (form != 0) op_finish(&job, mean_row, rows);
    return 0;
}

#endif
