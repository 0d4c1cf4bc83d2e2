/* Value and gradient: prepare a job, run it over all blocks, put the sums together. */
#ifndef OP_SCORE_MATCHING_GRADIENT_H
#define OP_SCORE_MATCHING_GRADIENT_H

#include <math.h>

#include "score_matching_block.h"
#include "score_matching_blas.h"

/* Up to this bound on |logit| the weights are formed as a difference from the prior weights; op_growth needs 0.34. */
#define OP_SMALL_LOGIT 0.25

/* Together with that: up to this bound on |g| of score_matching.h the likelihood's r is formed without cancellation. */
#define OP_NEAR_SHIFT 0.09

/* Where |r| can be up to this at some node it is looked at whether it is up to OP_NEAR_RATIO at all, which is what
 * op_second_growth is good for. */
#define OP_PERHAPS_RATIO 2.0
#define OP_NEAR_RATIO 0.346

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

/* Whether r is, or may be, small at all nodes, and what it is formed from. `logit` is a bound on all logits. */
static void op_prepare_likelihood(op_job *job, const op_measure *m, double centre_norm, double logit)
{
    double shift = 0.0;
    job->near = job->perhaps = 0;
    job->flat_value = job->linear_base = 0.0;
    for (ptrdiff_t a = 0; a < m->k; a++) shift += job->shift[a] * job->shift[a];
    for (ptrdiff_t i = 0; i < m->n && job->small; i++) job->linear_base += m->prior[i] * job->half_norm[i];
    if (m->log_teacher) return;
    shift = (m->reach + centre_norm) * sqrt(shift) + 0.5 * shift;
    job->perhaps = !job->small && logit + shift < OP_PERHAPS_RATIO;
    if (!job->small && !job->perhaps) return;
    for (ptrdiff_t a = 0; a < m->k; a++)
        if (m->flat[a]) job->flat_value += 0.5 * (job->shift[a] + job->prior_mean[a]) * (job->shift[a] + job->prior_mean[a]);
    job->near = job->small && shift + job->flat_value < OP_NEAR_SHIFT;
    if (!job->near && !job->perhaps) job->flat_value = 0.0;
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
    const double logit = (m->reach + sqrt(norm)) * sqrt(largest) + 0.5 * largest;
    job->small = form >= 0 && logit < OP_SMALL_LOGIT;
    if (job->small || m->likelihood)
        for (ptrdiff_t a = 0; a < k; a++) job->prior_mean[a] = op_prior_mean(job, a);
    if (job->small) {
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
    if (m->likelihood) op_prepare_likelihood(job, m, sqrt(norm), logit);
    job->inner_from = job->outer_from = 0;
    job->inner_to = m->inner, job->outer_to = m->outer;
}

/* No sums yet. */
static void op_clear(op_job *job)
{
    const size_t n = (size_t)job->n, k = (size_t)job->k, d = sizeof(double);
    if (job->measure->gemm == NULL || job->form < 0)
        memset(job->sum_rows, 0, n * k * OP_CHUNK * d);
    else
        memset(job->blas_rows, 0, n * k * d);
    memset(job->sum_a, 0, n * OP_CHUNK * d);
    memset(job->sum_D, 0, k * OP_CHUNK * d);
    memset(job->sum_value, 0, OP_CHUNK * d);
    if (!job->measure->likelihood) return;
    memset(job->sum_excess, 0, OP_CHUNK * d);
    memset(job->most, 0, OP_CHUNK * d);
}

/* Factors exp(l_i - max l) of one side of a tensor rule, or exp(l_i) - 1 when small. Returns the largest range of the
 * l_i over the parameters of non-zero weight. For the likelihood `known` gets the maximum, or sum_i pi_i p_i, which
 * starts from `linear`, sum_i pi_i l_i. */
static double op_factors(const op_job *job, const double *y, ptrdiff_t y_stride, ptrdiff_t axes, const double *delta,
                         const double *base, double *p, ptrdiff_t stride, const vec *linear, double *known)
{
    const ptrdiff_t n = job->n;
    vec range[OP_PARTS], sum[OP_PARTS];
    double widest = 0.0;
    op_all_logits(0, y, y_stride, axes, delta, n, job->k, base, p, stride);
    if (job->small) {
        op_softmax_shift(p, n, stride, job->measure->prior, sum, linear);
        if (known) OP_FOR_PARTS op_store(known + OP_AT(v), sum[v]);
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
    vec top[OP_PARTS];
    op_softmax_unnormalised(p, n, stride, sum, top);
    if (known) OP_FOR_PARTS op_store(known + OP_AT(v), top[v]);
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
        vec linear[OP_PARTS];
        op_centre(0, job, node, job->y, OP_CHUNK);
        if (m->likelihood) op_linear(0, job, job->y, OP_CHUNK, job->linear_base, linear);
        double here = op_factors(job, job->y, OP_CHUNK, m->varying, job->delta, job->half_norm,
                                 job->inner_factor + node, m->inner, m->likelihood ? linear : NULL,
                                 m->likelihood ? job->inner_known + node : NULL);
        if (!(here <= inner)) inner = here;
    }
    job->factored = inner + range < OP_FACTOR_RANGE;
}

/* What the outer axes add to sum_i pi_i l_i and to g. */
static void op_slot_sums(op_job *job, ptrdiff_t s)
{
    double linear = 0.0, shift = 0.0;
    for (ptrdiff_t a = 0; a < job->k; a++) shift += 0.5 * job->shift[a] * job->shift[a];
    for (ptrdiff_t a = job->varying; a < job->k; a++) {
        double y = job->outer_y[(a - job->varying) * OP_SLAB + s];
        shift += y * job->shift[a];
        if (job->small) linear += y * job->prior_mean[a];
    }
    job->slot_linear[s] = linear;
    job->slot_shift[s] = shift;
}

/* The outer node with number `outer` is the next. */
static void op_seek(op_job *job, ptrdiff_t outer)
{
    for (ptrdiff_t a = job->k - 1; a >= job->varying; a--) {
        job->odometer[a] = outer % job->measure->orders[a];
        outer /= job->measure->orders[a];
    }
}

/* The next slab of outer nodes: coordinates minus centre, weights, and factors if in use. Returns how many. */
static ptrdiff_t op_next_slab(op_job *job, ptrdiff_t done)
{
    const op_measure *m = job->measure;
    const ptrdiff_t k = m->k, varying = m->varying, left = job->outer_to - done, count = left < OP_SLAB ? left : OP_SLAB;
    if (done == job->outer_from) op_seek(job, done);
    for (ptrdiff_t s = 0; s < count; s++) {
        double weight = 1.0;
        for (ptrdiff_t a = varying; a < k; a++) {
            job->outer_y[(a - varying) * OP_SLAB + s] = m->axis_nodes[a][job->odometer[a]] - job->centre[a];
            weight *= m->axis_weights[a][job->odometer[a]];
        }
        job->outer_weight[s] = weight;
        if (m->likelihood) op_slot_sums(job, s);
        for (ptrdiff_t a = k - 1; a >= varying; a--) {
            if (++job->odometer[a] < m->orders[a]) break;
            job->odometer[a] = 0;
        }
    }
    if (job->factored) {
        for (ptrdiff_t s = count; s < OP_ROUND_UP(count); s++) /* padding of the last chunk */
            for (ptrdiff_t a = 0; a < k - varying; a++)
                job->outer_y[a * OP_SLAB + s] = job->outer_y[a * OP_SLAB + count - 1];
        for (ptrdiff_t s = 0; s < count; s += OP_CHUNK) {
            vec linear[OP_PARTS];
            if (m->likelihood) OP_FOR_PARTS linear[v] = op_load(job->slot_linear + s + OP_AT(v));
            op_factors(job, job->outer_y + s, OP_SLAB, k - varying, job->delta + varying, job->outer_base,
                       job->outer_factor + s, OP_SLAB, m->likelihood ? linear : NULL,
                       m->likelihood ? job->outer_known + s : NULL);
        }
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

#define OP_RUN(K, V, SMALL, LIKE)                                                                           \
    static void op_run_##K##_##V##_##SMALL##_##LIKE(const op_job *job, ptrdiff_t slot)                      \
    {                                                                                                       \
        const ptrdiff_t end = job->inner_to, block = job->measure->block;                                   \
        for (ptrdiff_t start = job->inner_from; start < end; start += block)                                \
            op_block(K, V, SMALL, LIKE, job, start, end - start < block ? end - start : block, slot);       \
    }
#define OP_RUN_ALL(K, V) OP_RUN(K, V, 0, 0) OP_RUN(K, V, 1, 0) OP_RUN(K, V, 0, 1) OP_RUN(K, V, 1, 1)

OP_RUN_ALL(0, 0)
OP_RUN_ALL(1, 1)
OP_RUN_ALL(2, 1)
OP_RUN_ALL(2, 2)
OP_RUN_ALL(3, 1)
OP_RUN_ALL(3, 2)
OP_RUN_ALL(3, 3)

typedef void (*op_runner)(const op_job *, ptrdiff_t);

static op_runner op_choose_runner(const op_job *job)
{
    const int like = job->measure->likelihood;
    if (job->measure->gemm != NULL)
        return like ? (job->small ? op_run_blas_1_1 : op_run_blas_0_1) : (job->small ? op_run_blas_1_0 : op_run_blas_0_0);
#define OP_RUNNER(K, V)                                                \
    (like ? (job->small ? op_run_##K##_##V##_1_1 : op_run_##K##_##V##_0_1) \
          : (job->small ? op_run_##K##_##V##_1_0 : op_run_##K##_##V##_0_0))
#define OP_CHOICE(K, V) \
    if (job->k == K && job->varying == V) return OP_RUNNER(K, V)
    OP_CHOICE(1, 1);
    OP_CHOICE(2, 1);
    OP_CHOICE(2, 2);
    OP_CHOICE(3, 1);
    OP_CHOICE(3, 2);
    OP_CHOICE(3, 3);
    return OP_RUNNER(0, 0);
}

#endif
