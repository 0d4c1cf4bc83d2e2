/* One block of nodes: from logits to the sums of the gradient.
 *
 * Nodes run through the lanes, means are broadcast scalars. A block goes through four short phases that meet in L1:
 * weights, means, products, sums. Each phase runs over all chunks of the block before the next one starts, so that
 * the dependence chains of neighbouring chunks overlap (3 to 17 % faster than all phases chunk by chunk). Axes are
 * taken in groups of up to three, so that ranks 1 to 3 are a single group whose size the compiler knows: K and V below
 * are the rank and the number of varying axes, or 0 when known only at run time. LIKE is the likelihood's kernel, which
 * has no a and another value.
 */
#ifndef OP_SCORE_MATCHING_BLOCK_H
#define OP_SCORE_MATCHING_BLOCK_H

#include "score_matching.h"
#include "softmax.h"
#include "log_ratio.h"

#define OP_GROUP 3
#define OP_FOR_PARTS for (int v = 0; v < OP_PARTS; v++)
#define OP_AT(v) ((v) * OP_LANES)

/* Calls CALL(size, first axis, is first, is last) for groups that cover `count` axes; SIZE is the constant or 0. */
#define OP_FOR_GROUPS(SIZE, count, CALL)                                              \
    do {                                                                              \
        if (SIZE) {                                                                   \
            CALL(SIZE, 0, 1, 1);                                                      \
        } else {                                                                      \
            ptrdiff_t axis_ = 0, count_ = (count);                                    \
            for (; axis_ + OP_GROUP < count_; axis_ += OP_GROUP) CALL(OP_GROUP, axis_, axis_ == 0, 0); \
            if (count_ - axis_ == 3) CALL(3, axis_, axis_ == 0, 1);                   \
            else if (count_ - axis_ == 2) CALL(2, axis_, axis_ == 0, 1);              \
            else CALL(1, axis_, axis_ == 0, 1);                                       \
        }                                                                             \
    } while (0)

/* p_i = (base_i or p_i) + sum over the group of y_a delta_ia */
OP_INLINE void op_logits(const int G, ptrdiff_t a0, int first, const double *y, ptrdiff_t y_stride, const double *delta,
                         ptrdiff_t n, ptrdiff_t k, const double *base, double *p, ptrdiff_t stride)
{
    vec x[OP_GROUP][OP_PARTS];
    for (int g = 0; g < G; g++) OP_FOR_PARTS x[g][v] = op_load(y + (a0 + g) * y_stride + OP_AT(v));
    for (ptrdiff_t i = 0; i < n; i++) {
        vec d[OP_GROUP], start = op_splat(first ? base[i] : 0.0);
        for (int g = 0; g < G; g++) d[g] = op_splat(delta[i * k + a0 + g]);
        OP_FOR_PARTS {
            vec l = first ? start : op_load(p + i * stride + OP_AT(v));
            for (int g = 0; g < G; g++) l += x[g][v] * d[g];
            op_store(p + i * stride + OP_AT(v), l);
        }
    }
}

OP_INLINE void op_all_logits(const int V, const double *y, ptrdiff_t y_stride, ptrdiff_t varying, const double *delta,
                             ptrdiff_t n, ptrdiff_t k, const double *base, double *p, ptrdiff_t stride)
{
#define CALL(G, a0, is_first, is_last) op_logits(G, a0, is_first, y, y_stride, delta, n, k, base, p, stride)
    OP_FOR_GROUPS(V, varying, CALL);
#undef CALL
}

/* y = x - c on the varying axes of a chunk */
OP_INLINE void op_centre(const int V, const op_job *job, ptrdiff_t node, double *y, ptrdiff_t y_stride)
{
    const op_measure *m = job->measure;
    const ptrdiff_t varying = V ? V : job->varying;
    for (ptrdiff_t a = 0; a < varying; a++) OP_FOR_PARTS
        op_store(y + a * y_stride + OP_AT(v), op_load(m->nodes + a * m->inner + node + OP_AT(v)) - job->centre[a]);
}

/* sum_i pi_i l_i over the varying axes, from the prior's own mean: around it, that nearly cancels */
OP_INLINE void op_linear(const int V, const op_job *job, const double *y, ptrdiff_t y_stride, double base, vec *linear)
{
    const ptrdiff_t varying = V ? V : job->varying;
    OP_FOR_PARTS linear[v] = op_splat(base);
    for (ptrdiff_t a = 0; a < varying; a++) OP_FOR_PARTS
        linear[v] += op_load(y + a * y_stride + OP_AT(v)) * job->prior_mean[a];
}

/* D and what needs it at once: |D|^2, u.D. The stored p are exp(logit - max), or exp(logit) - 1 when SMALL. */
OP_INLINE void op_mean(const int G, const int SMALL, const int LIKE, ptrdiff_t a0, const op_job *job, ptrdiff_t node,
                       ptrdiff_t b, const vec *q, const vec *scale, const vec *P, vec *uD, vec *DD)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k, stride = job->stride;
    const double *p = job->w + b, *table = (SMALL ? job->prior_delta : job->delta) + a0;
    vec u[OP_GROUP][OP_PARTS];
    for (int g = 0; g < G; g++) OP_FOR_PARTS u[g][v] = op_splat(0.0);
    for (ptrdiff_t i = 0; i < n; i++) OP_FOR_PARTS {
        vec e = op_load(p + i * stride + OP_AT(v));
        for (int g = 0; g < G; g++) u[g][v] += e * table[i * k + g];
    }
    for (int g = 0; g < G; g++) {
        const ptrdiff_t a = a0 + g;
        OP_FOR_PARTS {
            vec mean = SMALL ? job->prior_mean[a] + (u[g][v] - P[v] * job->prior_mean[a]) * scale[v]
                             : u[g][v] * scale[v];
            vec shift = m->targets ? job->centre[a] - op_load(m->targets + a * m->inner + node + OP_AT(v))
                                   : op_splat(job->shift[a]);
            vec D = shift + mean;
            if (!LIKE) {
                uD[v] += mean * D;
                DD[v] += D * D;
            }
            op_store(job->D + a * stride + b + OP_AT(v), D);
            if (SMALL) {
                double *sum = job->sum_D + a * OP_CHUNK + OP_AT(v);
                op_store(sum, op_load(sum) + q[v] * D);
            }
        }
    }
}

/* q w_i and q a_i, where a_i = w_i (delta_i.D - u.D). When SMALL, what is stored as "w_i" is w_i - pi_i + offset_i. */
OP_INLINE void op_products(const int G, const int SMALL, ptrdiff_t a0, int first, int last, const op_job *job,
                           ptrdiff_t b, const vec *q, const vec *scale, const vec *P, const vec *uD)
{
    const ptrdiff_t n = job->n, k = job->k, stride = job->stride;
    const double *delta = job->delta + a0, *prior = job->measure->prior, *offset = job->offset;
    double *w = job->w + b, *a = job->a + b;
    vec D[OP_GROUP][OP_PARTS], weight[OP_PARTS];
    for (int g = 0; g < G; g++) OP_FOR_PARTS D[g][v] = op_load(job->D + (a0 + g) * stride + b + OP_AT(v));
    OP_FOR_PARTS weight[v] = q[v] * scale[v];
    for (ptrdiff_t i = 0; i < n; i++) {
        vec d[OP_GROUP];
        for (int g = 0; g < G; g++) d[g] = op_splat(delta[i * k + g]);
        OP_FOR_PARTS {
            double *to_w = w + i * stride + OP_AT(v), *to_a = a + i * stride + OP_AT(v);
            vec t = first ? -uD[v] : op_load(to_a);
            for (int g = 0; g < G; g++) t += D[g][v] * d[g];
            if (!last) {
                op_store(to_a, t);
            } else if (SMALL) {
                vec difference = prior[i] * (op_load(to_w) - P[v]) * scale[v];
                op_store(to_a, q[v] * (prior[i] + difference) * t);
                op_store(to_w, q[v] * (offset[i] + difference));
            } else {
                vec qw = op_load(to_w) * weight[v];
                op_store(to_a, qw * t);
                op_store(to_w, qw);
            }
        }
    }
}

/* -r, or e^r - 1 - r, of a chunk at inner nodes b. of the block; see score_matching.h. */
OP_INLINE void op_log_ratio(const int V, const int SMALL, const op_job *job, ptrdiff_t node, ptrdiff_t b,
                            ptrdiff_t slot, const vec *q, const vec *P, vec *ratio)
{
    const op_measure *m = job->measure;
    const ptrdiff_t varying = V ? V : job->varying, stride = job->stride;
    vec g[OP_PARTS];
    if (m->log_teacher) { /* all axes vary */
        OP_FOR_PARTS g[v] = op_splat(0.0);
        for (ptrdiff_t a = 0; a < varying; a++) OP_FOR_PARTS {
            vec y = op_load(job->y + a * stride + b + OP_AT(v));
            g[v] -= y * y;
        }
        OP_FOR_PARTS g[v] = 0.5 * g[v] - op_load(m->log_teacher + node + OP_AT(v));
    } else {
        OP_FOR_PARTS g[v] = op_splat(job->slot_shift[slot]);
        for (ptrdiff_t a = 0; a < varying; a++) OP_FOR_PARTS
            g[v] += op_load(job->y + a * stride + b + OP_AT(v)) * job->shift[a];
    }
    if (!SMALL) {
        OP_FOR_PARTS ratio[v] = -(g[v] + op_load(job->top + b + OP_AT(v))) - op_log(P[v]);
        if (job->perhaps) OP_FOR_PARTS {
            double *most = job->most + OP_AT(v), *sum = job->sum_excess + OP_AT(v);
            vec r = job->flat_value - ratio[v];
            op_store(most, op_max(op_max(r, -r), op_load(most)));
            op_store(sum, op_load(sum) + q[v] * (r * r * op_second_growth(r)));
        }
    } else if (job->near) {
        OP_FOR_PARTS {
            vec G = op_expm1_small(g[v] + job->flat_value);
            ratio[v] = op_log_excess(G + P[v] + G * P[v]);
        }
    } else {
        OP_FOR_PARTS ratio[v] = op_log_excess(P[v]) - P[v] - g[v];
    }
}

/* q w_i alone; when SMALL, of w_i - pi_i + offset_i. */
OP_INLINE void op_share(const int SMALL, const op_job *job, ptrdiff_t b, const vec *q, const vec *scale, const vec *P)
{
    const ptrdiff_t n = job->n, stride = job->stride;
    const double *prior = job->measure->prior, *offset = job->offset;
    double *w = job->w + b;
    vec weight[OP_PARTS];
    OP_FOR_PARTS weight[v] = q[v] * scale[v];
    for (ptrdiff_t i = 0; i < n; i++) OP_FOR_PARTS {
        double *to = w + i * stride + OP_AT(v);
        if (SMALL)
            op_store(to, q[v] * offset[i] + weight[v] * (prior[i] * (op_load(to) - P[v])));
        else
            op_store(to, op_load(to) * weight[v]);
    }
}

/* Sums over a block: rows[i..i+I) += sum q w_i D + sum q a_i y on GD axes of which GY vary, and, WITH_A, sum q a_i
 * with what it brings on the outer axes. LIKE: sum q w_i D and, WITH_A, sum q w_i. Separate accumulators for the two sums keep dependence chains short. */
OP_INLINE void op_reduce(const int I, const int GD, const int GY, const int WITH_A, const int LIKE, const op_job *job,
                         ptrdiff_t i, ptrdiff_t a0, ptrdiff_t count, ptrdiff_t slot)
{
    const ptrdiff_t stride = job->stride, k = job->k;
    const double *w = job->w + i * stride, *a = job->a + i * stride;
    const double *D = job->D + a0 * stride, *y = job->y + a0 * stride;
    vec sum_w[4][OP_GROUP], sum_y[4][OP_GROUP], sum_a[4];
    for (int s = 0; s < I; s++) {
        for (int g = 0; g < OP_GROUP; g++) sum_w[s][g] = sum_y[s][g] = op_splat(0.0);
        sum_a[s] = op_splat(0.0);
    }
    for (ptrdiff_t b = 0; b < count; b += OP_LANES)
        for (int s = 0; s < I; s++) {
            vec qw = op_load(w + s * stride + b), qa = LIKE ? qw : op_load(a + s * stride + b);
            for (int g = 0; g < GD; g++) sum_w[s][g] += qw * op_load(D + g * stride + b);
            for (int g = 0; g < GY; g++) sum_y[s][g] += qa * op_load(y + g * stride + b);
            if (WITH_A) sum_a[s] += qa;
        }
    for (int s = 0; s < I; s++) {
        double *rows = job->sum_rows + (i + s) * k * OP_CHUNK;
        for (int g = 0; g < GD; g++) {
            double *to = rows + (a0 + g) * OP_CHUNK;
            vec sum = sum_w[s][g];
            if (g < GY) sum += sum_y[s][g];
            op_store(to, op_load(to) + sum);
        }
        if (WITH_A) {
            double *to = job->sum_a + (i + s) * OP_CHUNK;
            op_store(to, op_load(to) + sum_a[s]);
            for (ptrdiff_t o = job->varying; !LIKE && o < k; o++) {
                double *row = rows + o * OP_CHUNK;
                op_store(row, op_load(row) + sum_a[s] * job->outer_y[(o - job->varying) * OP_SLAB + slot]);
            }
        }
    }
}

/* Accumulators of the rows summed at a time. More would fit, but measured slower (AVX2, n = 5 and 50, rank 3). */
#define OP_ACCUMULATORS 8

OP_INLINE void op_reduce_rows(const int GD, const int GY, const int WITH_A, const int LIKE, const op_job *job,
                              ptrdiff_t a0, ptrdiff_t count, ptrdiff_t slot)
{
    const int fit = OP_ACCUMULATORS / (GD + GY + WITH_A), I = fit > 4 ? 4 : fit < 1 ? 1 : fit;
    ptrdiff_t i = 0;
    for (; i + I <= job->n; i += I) op_reduce(I, GD, GY, WITH_A, LIKE, job, i, a0, count, slot);
    for (; i < job->n; i++) op_reduce(1, GD, GY, WITH_A, LIKE, job, i, a0, count, slot);
}

/* The phases of a block, each over all its chunks. First: p (see op_mean) and its norm, the sum or mean of softmax.h. */
OP_INLINE void op_weights(const int V, const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start,
                          ptrdiff_t count, ptrdiff_t slot)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k, inner = m->inner, stride = job->stride, varying = V ? V : job->varying;
    const double *factor = job->inner_factor + start, *outer = job->outer_factor + slot, *prior = m->prior;
    const double *delta = job->delta, *base = job->base;
    double *y = job->y, *w = job->w, *norm = job->norm;
    vec P[OP_PARTS], known[OP_PARTS];
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) op_centre(V, job, start + b, y + b, stride);
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        if (job->factored) {
            if (LIKE) OP_FOR_PARTS
                known[v] = op_load(job->inner_known + start + b + OP_AT(v)) + job->outer_known[slot];
            if (SMALL)
                op_softmax_shift_from_factors(factor + b, inner, outer, OP_SLAB, w + b, n, stride, prior, P,
                                              LIKE ? known : NULL);
            else
                op_softmax_from_factors(factor + b, inner, outer, OP_SLAB, w + b, n, stride, P);
        } else {
            op_all_logits(V, y + b, stride, varying, delta, n, k, base, w + b, stride);
            if (LIKE && SMALL) op_linear(V, job, y + b, stride, job->linear_base + job->slot_linear[slot], known);
            if (SMALL)
                op_softmax_shift(w + b, n, stride, prior, P, LIKE ? known : NULL);
            else
                op_softmax_unnormalised(w + b, n, stride, P, LIKE ? known : NULL);
        }
        OP_FOR_PARTS op_store(norm + b + OP_AT(v), P[v]);
        if (LIKE && !SMALL) OP_FOR_PARTS op_store(job->top + b + OP_AT(v), known[v]);
    }
}

/* Second: D, the value, and what the products need. */
OP_INLINE void op_means(const int K, const int V, const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start,
                        ptrdiff_t count, ptrdiff_t slot)
{
    const double outer_weight = job->outer_weight[slot];
    const double *weights = job->measure->weights + start;
    vec value[OP_PARTS];
    OP_FOR_PARTS value[v] = op_load(job->sum_value + OP_AT(v));
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        vec q[OP_PARTS], scale[OP_PARTS], P[OP_PARTS], uD[OP_PARTS], DD[OP_PARTS];
        OP_FOR_PARTS {
            P[v] = op_load(job->norm + b + OP_AT(v));
            q[v] = op_load(weights + b + OP_AT(v)) * outer_weight;
            scale[v] = SMALL ? 1.0 / (1.0 + P[v]) : 1.0 / P[v];
            uD[v] = DD[v] = op_splat(0.0);
        }
#define CALL(G, a0, is_first, is_last) op_mean(G, SMALL, LIKE, a0, job, start + b, b, q, scale, P, uD, DD)
        OP_FOR_GROUPS(K, job->k, CALL);
#undef CALL
        if (LIKE) op_log_ratio(V, SMALL, job, start + b, b, slot, q, P, DD);
        OP_FOR_PARTS {
            value[v] += q[v] * DD[v];
            op_store(job->scale + b + OP_AT(v), scale[v]);
            if (!LIKE) op_store(job->uD + b + OP_AT(v), uD[v]);
        }
    }
    OP_FOR_PARTS op_store(job->sum_value + OP_AT(v), value[v]);
}

/* Third: q w_i and q a_i. */
OP_INLINE void op_all_products(const int K, const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start,
                               ptrdiff_t count, double outer_weight)
{
    const double *weights = job->measure->weights + start;
    for (ptrdiff_t b = 0; b < count; b += OP_CHUNK) {
        vec q[OP_PARTS], scale[OP_PARTS], P[OP_PARTS], uD[OP_PARTS];
        OP_FOR_PARTS {
            P[v] = op_load(job->norm + b + OP_AT(v));
            q[v] = op_load(weights + b + OP_AT(v)) * outer_weight;
            scale[v] = op_load(job->scale + b + OP_AT(v));
            if (!LIKE) uD[v] = op_load(job->uD + b + OP_AT(v));
        }
        if (LIKE) {
            op_share(SMALL, job, b, q, scale, P);
            continue;
        }
#define CALL(G, a0, is_first, is_last) op_products(G, SMALL, a0, is_first, is_last, job, b, q, scale, P, uD)
        OP_FOR_GROUPS(K, job->k, CALL);
#undef CALL
    }
}

/* A block of `count` nodes from inner node `start` on, at the outer node in `slot` of the current slab. */
OP_INLINE void op_block(const int K, const int V, const int SMALL, const int LIKE, const op_job *job, ptrdiff_t start,
                        ptrdiff_t count, ptrdiff_t slot)
{
    const ptrdiff_t k = job->k, varying = job->varying;
    op_weights(V, SMALL, LIKE, job, start, count, slot);
    op_means(K, V, SMALL, LIKE, job, start, count, slot);
    if (job->form == 0) return;
    op_all_products(K, SMALL, LIKE, job, start, count, job->outer_weight[slot]);
    if (K) {
        op_reduce_rows(K, LIKE ? 0 : V, 1, LIKE, job, 0, count, slot);
        return;
    }
    op_reduce_rows(0, 0, 1, LIKE, job, 0, count, slot);
#define CALL(G, a0, is_first, is_last) op_reduce_rows(G, LIKE ? 0 : G, 0, LIKE, job, a0, count, slot)
    OP_FOR_GROUPS(0, varying, CALL);
#undef CALL
    if (varying < k) {
#define CALL(G, a0, is_first, is_last) op_reduce_rows(G, 0, 0, LIKE, job, varying + (a0), count, slot)
        OP_FOR_GROUPS(0, k - varying, CALL);
#undef CALL
    }
}

#endif
