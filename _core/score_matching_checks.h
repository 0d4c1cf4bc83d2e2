/* What serves to judge the gradient: its Stein form, for tests, and the majorants of the error bounds, at every record and plan.
 *
 * What is rare is written as plain loops over the eight nodes of a chunk.
 */
#ifndef OP_SCORE_MATCHING_CHECKS_H
#define OP_SCORE_MATCHING_CHECKS_H

#include "score_matching_gradient.h"

#define OP_FOR_LANES for (int l = 0; l < OP_CHUNK; l++)

/* Normalised weights of one chunk in job->w; y = x - c on the varying axes in job->y. */
static void op_chunk_weights(op_job *job, ptrdiff_t node)
{
    vec sum[OP_PARTS];
    op_centre(0, job, node, job->y, job->stride);
    op_all_logits(0, job->y, job->stride, job->varying, job->delta, job->n, job->k, job->base, job->w, job->stride);
    op_softmax_unnormalised(job->w, job->n, job->stride, sum, NULL);
    for (ptrdiff_t i = 0; i < job->n; i++) OP_FOR_PARTS {
        double *entry = job->w + i * job->stride + OP_AT(v);
        op_store(entry, op_load(entry) / sum[v]);
    }
}

/* Adds one chunk to the Stein form; scratch holds v, s (k chunks each) and H (k k chunks). */
static void op_stein_chunk(const op_job *job, ptrdiff_t node, double outer_weight, double *scratch)
{
    const ptrdiff_t n = job->n, k = job->k, stride = job->stride;
    const double *w = job->w, *mu = job->delta, *q = job->measure->weights + node;
    double *v = scratch, *s = v + k * OP_CHUNK, *H = s + k * OP_CHUNK, square[OP_CHUNK] = {0};
    memset(scratch, 0, (size_t)(k * (k + 2) * OP_CHUNK) * sizeof(double));
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t a = 0; a < k; a++) {
            OP_FOR_LANES v[a * OP_CHUNK + l] += w[i * stride + l] * mu[i * k + a];
            for (ptrdiff_t b = 0; b < k; b++)
                OP_FOR_LANES H[(a * k + b) * OP_CHUNK + l] += w[i * stride + l] * (mu[i * k + a] * mu[i * k + b]);
        }
    for (ptrdiff_t a = 0; a < k; a++) OP_FOR_LANES square[l] += v[a * OP_CHUNK + l] * v[a * OP_CHUNK + l];
    for (ptrdiff_t a = 0; a < k; a++) {
        OP_FOR_LANES s[a * OP_CHUNK + l] = v[a * OP_CHUNK + l] * (1.0 + 3.0 * square[l]);
        for (ptrdiff_t b = 0; b < k; b++) OP_FOR_LANES {
            double *M = H + (a * k + b) * OP_CHUNK + l;
            s[a * OP_CHUNK + l] -= 2.0 * *M * v[b * OP_CHUNK + l];
            *M -= 2.0 * v[a * OP_CHUNK + l] * v[b * OP_CHUNK + l];
        }
    }
    OP_FOR_LANES job->sum_value[l] += q[l] * outer_weight * square[l];
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t a = 0; a < k; a++) {
            double r[OP_CHUNK];
            OP_FOR_LANES r[l] = s[a * OP_CHUNK + l];
            for (ptrdiff_t b = 0; b < k; b++)
                OP_FOR_LANES r[l] += H[(a * k + b) * OP_CHUNK + l] * mu[i * k + b];
            OP_FOR_LANES job->sum_rows[(i * k + a) * OP_CHUNK + l] += q[l] * outer_weight * w[i * stride + l] * r[l];
        }
}

/* Lemma 2.2 of arXiv 2511.22069 with mu shifted by the constant target t: row i is
 * 2 sum q [w_i v + w_i M mu_i - 2 w_i v v'mu_i - 2 w_i M v + 3 w_i |v|^2 v], v = sum w_j mu_j, M = sum w_j mu_j mu_j'. */
static int op_evaluate_stein(const op_measure *m, const double *params, double *value, double *rows, void *workspace)
{
    op_job job;
    const ptrdiff_t n = m->n, k = m->k;
    double *target = (double *)((char *)workspace + op_lay_out(&job, m, NULL));
    double *shifted = target + k, *scratch = shifted + n * k;
    for (ptrdiff_t a = 0; a < k; a++) target[m->axes[a]] = m->target[a];
    for (ptrdiff_t i = 0; i < n * k; i++) shifted[i] = params[i] - target[i % k];
    op_prepare(&job, m, target, shifted, -1, workspace);
    op_clear(&job);
    job.factored = 0;
    for (ptrdiff_t done = 0; done < m->outer;) {
        ptrdiff_t count = op_next_slab(&job, done);
        for (ptrdiff_t slot = 0; slot < count; slot++) {
            op_set_base(&job, slot);
            for (ptrdiff_t node = 0; node < m->inner; node += OP_CHUNK) {
                op_chunk_weights(&job, node);
                op_stein_chunk(&job, node, job.outer_weight[slot], scratch);
            }
        }
        done += count;
    }
    *value = op_total(job.sum_value, OP_CHUNK);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t a = 0; a < k; a++)
            rows[i * k + m->axes[a]] = 2.0 * op_total(job.sum_rows + (i * k + a) * OP_CHUNK, OP_CHUNK);
    return 0;
}

/* Euclidean norm of x + y (y may be NULL) that does not underflow: deviations may be 1e-300. */
static double op_norm(const double *x, const double *y, double sign, ptrdiff_t k)
{
    double largest = 0.0, sum = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) {
        double entry = fabs(x[a] + (y ? sign * y[a] : 0.0));
        if (!(entry <= largest)) largest = entry;
    }
    if (!(largest > 0.0)) return largest;
    for (ptrdiff_t a = 0; a < k; a++) {
        double entry = (x[a] + (y ? sign * y[a] : 0.0)) / largest;
        sum += entry * entry;
    }
    return largest * sqrt(sum);
}

typedef struct op_distances {
    double *pair;   /* (n, n): |mu_i - mu_j|, n <= OP_PAIRWISE */
    double *scaled; /* (n, k): delta / scale, n > OP_PAIRWISE */
    double scale;
    double *target; /* (n,): |mu_i - t|, constant target */
    double *A, *B, *C; /* (n, OP_CHUNK) */
} op_distances;

/* The bound sqrt(|delta_i - u|^2 + sum_j w_j |delta_j - u|^2) on V_i = sum_j w_j |mu_i - mu_j| */
static void op_mean_distance(const op_job *job, const op_distances *d, ptrdiff_t i, const double *u,
                             const double *spread, double *V)
{
    const ptrdiff_t k = job->k;
    OP_FOR_LANES V[l] = spread[l];
    for (ptrdiff_t a = 0; a < k; a++) OP_FOR_LANES {
        double gap = d->scaled[i * k + a] - u[a * OP_CHUNK + l];
        V[l] += gap * gap;
    }
    OP_FOR_LANES V[l] = d->scale * sqrt(V[l]);
}

/* u = sum_j w_j delta_j and sum_j w_j |delta_j - u|^2, in units of the scale */
static void op_mean_and_spread(const op_job *job, const op_distances *d, double *u, double *spread)
{
    const ptrdiff_t n = job->n, k = job->k, stride = job->stride;
    memset(u, 0, (size_t)(k * OP_CHUNK) * sizeof(double));
    OP_FOR_LANES spread[l] = 0.0;
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t a = 0; a < k; a++)
            OP_FOR_LANES u[a * OP_CHUNK + l] += job->w[j * stride + l] * d->scaled[j * k + a];
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t a = 0; a < k; a++) OP_FOR_LANES {
            double gap = d->scaled[j * k + a] - u[a * OP_CHUNK + l];
            spread[l] += job->w[j * stride + l] * gap * gap;
        }
}

/* |mu_i - t| at a chunk's nodes */
OP_INLINE void op_target_distance(const op_job *job, const op_distances *d, ptrdiff_t i, ptrdiff_t node, vec *apart)
{
    const op_measure *m = job->measure;
    if (!m->targets) {
        OP_FOR_PARTS apart[v] = op_splat(d->target[i]);
        return;
    }
    OP_FOR_PARTS apart[v] = op_splat(0.0);
    for (ptrdiff_t a = 0; a < job->k; a++) OP_FOR_PARTS {
        vec entry = op_splat(job->centre[a] + job->delta[i * job->k + a]) - op_load(m->targets + a * m->inner + node + OP_AT(v));
        apart[v] += entry * entry;
    }
    OP_FOR_PARTS apart[v] = op_sqrt(apart[v]);
}

static void op_majorants_chunk(const op_job *job, const op_distances *d, ptrdiff_t node, ptrdiff_t slot, double *u)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k, stride = job->stride;
    double spread[OP_CHUNK] = {0}, far[OP_CHUNK];
    vec q[OP_PARTS], U[OP_PARTS];
    OP_FOR_PARTS {
        vec signed_q = op_load(m->weights + node + OP_AT(v)) * job->outer_weight[slot];
        q[v] = op_max(signed_q, -signed_q);
        U[v] = op_splat(0.0);
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        vec apart[OP_PARTS];
        op_target_distance(job, d, i, node, apart);
        OP_FOR_PARTS U[v] += op_load(job->w + i * stride + OP_AT(v)) * apart[v];
    }
    OP_FOR_PARTS {
        double *to = job->sum_value + OP_AT(v);
        op_store(to, op_load(to) + q[v] * U[v] * U[v]);
    }
    if (n > OP_PAIRWISE) op_mean_and_spread(job, d, u, spread);
    for (ptrdiff_t i = 0; i < n; i++) {
        vec reach[OP_PARTS], V[OP_PARTS];
        double outside = 0.0;
        for (ptrdiff_t a = job->varying; a < k; a++) {
            double gap = job->outer_y[(a - job->varying) * OP_SLAB + slot] - job->delta[i * k + a];
            outside += gap * gap;
        }
        OP_FOR_PARTS reach[v] = op_splat(outside);
        for (ptrdiff_t a = 0; a < job->varying; a++) OP_FOR_PARTS {
            vec gap = op_load(job->y + a * stride + OP_AT(v)) - op_splat(job->delta[i * k + a]);
            reach[v] += gap * gap;
        }
        if (n <= OP_PAIRWISE) {
            OP_FOR_PARTS V[v] = op_splat(0.0);
            for (ptrdiff_t j = 0; j < n; j++) OP_FOR_PARTS
                V[v] += op_load(job->w + j * stride + OP_AT(v)) * d->pair[i * n + j];
        } else {
            op_mean_distance(job, d, i, u, spread, far);
            memcpy(V, far, sizeof far);
        }
        OP_FOR_PARTS {
            double *A = d->A + i * OP_CHUNK + OP_AT(v), *B = d->B + i * OP_CHUNK + OP_AT(v), *C = d->C + i * OP_CHUNK + OP_AT(v);
            vec first = 2.0 * q[v] * op_load(job->w + i * stride + OP_AT(v)) * U[v], second = first * V[v];
            op_store(A, op_load(A) + first);
            op_store(B, op_load(B) + second * op_sqrt(reach[v]));
            op_store(C, op_load(C) + second);
        }
    }
}

/* With U = sum_l w_l |mu_l - t| and V_i as above, all sums with |q|:
 * A_i = 2 sum w_i U, B_i = 2 sum w_i V_i U |x - mu_i|, C_i = 2 sum w_i V_i U; the value is sum U^2. */
static int op_majorants(const op_measure *m, const double *centre, const double *deviations, double *value, double *A,
                        double *B, double *C, void *workspace)
{
    op_job job;
    op_distances d;
    const ptrdiff_t n = m->n, k = m->k;
    double *free_space = (double *)((char *)workspace + op_lay_out(&job, m, NULL)), *u = free_space;
    d.A = u + k * OP_CHUNK;
    d.B = d.A + n * OP_CHUNK;
    d.C = d.B + n * OP_CHUNK;
    d.target = d.C + n * OP_CHUNK;
    d.scaled = d.target + n;
    d.pair = d.scaled + n * k;
    d.scale = 0.0;
    memset(d.A, 0, (size_t)(3 * n * OP_CHUNK) * sizeof(double));
    op_prepare(&job, m, centre, deviations, -1, workspace);
    op_clear(&job);
    job.factored = 0;
    for (ptrdiff_t i = 0; i < n * k; i++)
        if (!(fabs(job.delta[i]) <= d.scale)) d.scale = fabs(job.delta[i]);
    for (ptrdiff_t i = 0; i < n; i++) {
        d.target[i] = op_norm(job.shift, job.delta + i * k, 1.0, k);
        for (ptrdiff_t a = 0; a < k; a++) d.scaled[i * k + a] = d.scale > 0.0 ? job.delta[i * k + a] / d.scale : 0.0;
        for (ptrdiff_t j = 0; j < n && n <= OP_PAIRWISE; j++)
            d.pair[i * n + j] = op_norm(job.delta + i * k, job.delta + j * k, -1.0, k);
    }
    for (ptrdiff_t done = 0; done < m->outer;) {
        ptrdiff_t count = op_next_slab(&job, done);
        for (ptrdiff_t slot = 0; slot < count; slot++) {
            op_set_base(&job, slot);
            for (ptrdiff_t node = 0; node < m->inner; node += OP_CHUNK) {
                op_chunk_weights(&job, node);
                op_majorants_chunk(&job, &d, node, slot, u);
            }
        }
        done += count;
    }
    *value = op_total(job.sum_value, OP_CHUNK);
    for (ptrdiff_t i = 0; i < n; i++) {
        A[i] = op_total(d.A + i * OP_CHUNK, OP_CHUNK);
        B[i] = op_total(d.B + i * OP_CHUNK, OP_CHUNK);
        C[i] = op_total(d.C + i * OP_CHUNK, OP_CHUNK);
    }
    return 0;
}

#endif
