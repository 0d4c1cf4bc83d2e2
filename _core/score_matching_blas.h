/* The block of score_matching_block.h for many parameters on many axes: its four products go to BLAS.
 *
 * Arrays are as there, nodes fastest, so BLAS, which counts columns first, sees (nodes x parameters) and (nodes x axes) matrices of
 * leading dimension `stride`, and tables (n, k) as (k x n). What lies between the products is the same arithmetic on the same chunks.
 */
#ifndef OP_SCORE_MATCHING_BLAS_H
#define OP_SCORE_MATCHING_BLAS_H

#include "score_matching_block.h"

/* C (rows x columns) = A B + beta C; flip transposes B */
static void op_gemm_nodes(const op_job *job, int flip, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t inner, const double *A, const double *B,
                          double beta, double *C)
{
    int m = (int)rows, n = (int)columns, l = (int)inner, stride = (int)job->stride, k = (int)job->k;
    double one = 1.0;
    char plain = 'N', other = flip ? 'T' : 'N';
    job->measure->gemm(&plain, &other, &m, &n, &l, &one, (double *)A, &stride, (double *)B, &k, &beta, C, &stride);
}

/* R (k x n) += A^T B over `count` nodes */
static void op_gemm_sums(const op_job *job, ptrdiff_t count, const double *A, const double *B)
{
    int k = (int)job->k, n = (int)job->n, l = (int)count, stride = (int)job->stride;
    double one = 1.0;
    char flip = 'T', plain = 'N';
    job->measure->gemm(&flip, &plain, &k, &n, &l, &one, (double *)A, &stride, (double *)B, &stride, &one, job->blas_rows, &k);
}

/* Logits and their softmax: what op_weights does where nothing is factored. */
OP_INLINE void op_weights_blas(const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start, ptrdiff_t count, ptrdiff_t slot)
{
    const ptrdiff_t n = job->n, stride = job->stride;
    vec P[OP_PARTS], known[OP_PARTS];
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) op_centre(0, job, start + b, job->y + b, stride);
    for (ptrdiff_t i = 0; i < n; i++) {
        const vec base = op_splat(job->base[i]);
        for (ptrdiff_t b = 0; b < count; b += OP_LANES) op_store(job->w + i * stride + b, base);
    }
    /* -infinity + 0 * y stays -infinity */
    op_gemm_nodes(job, 0, count, n, job->k, job->y, job->delta, 1.0, job->w);
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        if (LIKE && SMALL) op_linear(0, job, job->y + b, stride, job->linear_base + job->slot_linear[slot], known);
        if (SMALL)
            op_softmax_shift(job->w + b, n, stride, job->measure->prior, P, LIKE ? known : NULL);
        else
            op_softmax_unnormalised(job->w + b, n, stride, P, LIKE ? known : NULL);
        OP_FOR_PARTS op_store(job->norm + b + OP_AT(v), P[v]);
        if (LIKE && !SMALL) OP_FOR_PARTS op_store(job->top + b + OP_AT(v), known[v]);
    }
}

/* D, the value, and what the products need: op_means and op_mean, with the sums over parameters already in D. */
OP_INLINE void op_means_blas(const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start, ptrdiff_t count, ptrdiff_t slot)
{
    const op_measure *m = job->measure;
    const ptrdiff_t k = job->k, stride = job->stride;
    const double outer_weight = job->outer_weight[slot];
    vec value[OP_PARTS];
    op_gemm_nodes(job, 1, count, k, job->n, job->w, SMALL ? job->prior_delta : job->delta, 0.0, job->D);
    OP_FOR_PARTS value[v] = op_load(job->sum_value + OP_AT(v));
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        vec q[OP_PARTS], scale[OP_PARTS], P[OP_PARTS], uD[OP_PARTS], DD[OP_PARTS];
        OP_FOR_PARTS {
            P[v] = op_load(job->norm + b + OP_AT(v));
            q[v] = op_load(m->weights + start + b + OP_AT(v)) * outer_weight;
            scale[v] = SMALL ? 1.0 / (1.0 + P[v]) : 1.0 / P[v];
            uD[v] = DD[v] = op_splat(0.0);
        }
        for (ptrdiff_t a = 0; a < k; a++) OP_FOR_PARTS {
            double *to = job->D + a * stride + b + OP_AT(v);
            vec u = op_load(to);
            vec mean = SMALL ? job->prior_mean[a] + (u - P[v] * job->prior_mean[a]) * scale[v] : u * scale[v];
            vec shift = m->targets ? job->centre[a] - op_load(m->targets + a * m->inner + start + b + OP_AT(v)) : op_splat(job->shift[a]);
            vec D = shift + mean;
            if (!LIKE) {
                uD[v] += mean * D;
                DD[v] += D * D;
            }
            op_store(to, D);
            if (SMALL) {
                double *sum = job->sum_D + a * OP_CHUNK + OP_AT(v);
                op_store(sum, op_load(sum) + q[v] * D);
            }
        }
        if (LIKE) op_log_ratio(0, SMALL, job, start + b, b, slot, q, P, DD);
        OP_FOR_PARTS {
            value[v] += q[v] * DD[v];
            op_store(job->scale + b + OP_AT(v), scale[v]);
            if (!LIKE) op_store(job->uD + b + OP_AT(v), uD[v]);
        }
    }
    OP_FOR_PARTS op_store(job->sum_value + OP_AT(v), value[v]);
}

/* q w_i and q a_i, and their sums over the nodes. */
OP_INLINE void op_products_blas(const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start, ptrdiff_t count, ptrdiff_t slot)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, stride = job->stride;
    if (!LIKE) op_gemm_nodes(job, 0, count, n, job->k, job->D, job->delta, 0.0, job->a);
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        vec q[OP_PARTS], scale[OP_PARTS], P[OP_PARTS], uD[OP_PARTS];
        OP_FOR_PARTS {
            P[v] = op_load(job->norm + b + OP_AT(v));
            q[v] = op_load(m->weights + start + b + OP_AT(v)) * job->outer_weight[slot];
            scale[v] = op_load(job->scale + b + OP_AT(v));
            if (!LIKE) uD[v] = op_load(job->uD + b + OP_AT(v));
        }
        if (LIKE) {
            op_share(SMALL, job, b, q, scale, P);
            continue;
        }
        for (ptrdiff_t i = 0; i < n; i++) OP_FOR_PARTS {
            double *to_w = job->w + i * stride + b + OP_AT(v), *to_a = job->a + i * stride + b + OP_AT(v);
            vec t = op_load(to_a) - uD[v];
            if (SMALL) {
                vec difference = m->prior[i] * (op_load(to_w) - P[v]) * scale[v];
                op_store(to_a, q[v] * (m->prior[i] + difference) * t);
                op_store(to_w, q[v] * (job->offset[i] + difference));
            } else {
                vec qw = op_load(to_w) * (q[v] * scale[v]);
                op_store(to_a, qw * t);
                op_store(to_w, qw);
            }
        }
    }
    const double *summed = LIKE ? job->w : job->a;
    for (ptrdiff_t i = 0; i < n; i++) {
        double *to = job->sum_a + i * OP_CHUNK;
        vec sum = op_load(to);
        for (ptrdiff_t b = 0; b < count; b += OP_LANES) sum += op_load(summed + i * stride + b);
        op_store(to, sum);
    }
    op_gemm_sums(job, count, job->D, job->w);
    if (!LIKE) op_gemm_sums(job, count, job->y, job->a);
}

OP_INLINE void op_run_blas(const int SMALL, const int LIKE, const op_job *job, ptrdiff_t slot)
{
    const ptrdiff_t end = job->inner_to, block = job->measure->block;
    for (ptrdiff_t start = job->inner_from; start < end; start += block) {
        const ptrdiff_t count = end - start < block ? end - start : block;
        op_weights_blas(SMALL, LIKE, job, start, count, slot);
        op_means_blas(SMALL, LIKE, job, start, count, slot);
        if (job->form) op_products_blas(SMALL, LIKE, job, start, count, slot);
    }
}

static void op_run_blas_0_0(const op_job *job, ptrdiff_t slot) { op_run_blas(0, 0, job, slot); }
static void op_run_blas_1_0(const op_job *job, ptrdiff_t slot) { op_run_blas(1, 0, job, slot); }
static void op_run_blas_0_1(const op_job *job, ptrdiff_t slot) { op_run_blas(0, 1, job, slot); }
static void op_run_blas_1_1(const op_job *job, ptrdiff_t slot) { op_run_blas(1, 1, job, slot); }

#endif
