/* What the reverse-Fisher kernels share with their Python class: the rule, the workspace, the function table.
 *
 * Student mean i is mu_i = c + delta_i, and its nodes are x = mu_i + z with one rule (z, q) for all, sum q = 1. With
 * w = softmax_j(z.delta_j - |delta_i - delta_j|^2/2 + log pi_j), u = sum_j w_j delta_j, v = c + u, m_i = delta_i - u and the teacher's
 * w*, t = sum_a w*_a m_a,
 *     value  F   = sum_i pi_i sum_b q |v - t|^2
 *     row    g_i = 2 pi_i sum_b q [v - t + C m_i - C* (mu_i - t)]
 * with the posterior covariances C m_i = sum_j w_j (delta_j - u) <delta_j - u, m_i> and C* likewise. The part of a logit that depends on
 * z does not depend on i, so exponentials are taken once per node and not once per node and mean.
 */
#ifndef OP_REVERSE_FISHER_H
#define OP_REVERSE_FISHER_H

#include <stddef.h>

#include "cpu.h"

#define OP_REVERSE_CHUNK 8 /* nodes at a time; OP_CHUNK of vector.h */

typedef struct op_reverse {
    ptrdiff_t n, k, m, count;     /* student means, axes, teacher means, nodes padded to whole chunks */
    const double *nodes;          /* (k, count); padding repeats the last node */
    const double *weights;        /* (count,), of sum 1; padding is 0 */
    double reach;                 /* at least max |z| */
    const double *log_prior;      /* (n,): log pi, may be -infinity */
    const double *prior;          /* (n,): pi, sums to 1 */
    int equal_prior;              /* all pi identical, hence exactly 1/n */
    const double *means;          /* (m, k) */
    const double *log_teacher;    /* (m,) */
} op_reverse;

typedef struct op_reverse_job {
    const op_reverse *rule;
    ptrdiff_t n, k, m;
    int form, small, factored, teacher_factored;
    double *delta, *tilt;         /* (n, k): deviations; the same less their mean */
    double *prior_mean;           /* (k,): sum_j pi_j delta_j, compensated */
    double *gap;                  /* (n, n): log pi_j - |delta_i - delta_j|^2/2, or its exp over the row's largest; when small expm1 */
    double *shift;                /* (n, k): c - m_a, m_a the teacher mean nearest to mu_i */
    double *relative;             /* (n, m, k): teacher means less that one; m > 1 only, like all that follow */
    double *teacher_tilt;         /* (m, k): teacher means less their mean */
    double *teacher_gap;          /* (n, m) */
    double *L, *E, *rest;         /* (n, CHUNK): <z, tilt_j>; exp over the largest, or expm1 when small; expm1 - L */
    double *mean_L;               /* (CHUNK,) */
    double *teacher_L, *teacher_E;/* (m, CHUNK) */
    double *p, *odd;              /* (n, CHUNK): weights; when small those of the first part of a row */
    double *teacher_p;            /* (m, CHUNK) */
    double *u, *own, *tau, *arm, *part; /* (k, CHUNK): u; m_i; t - m_a; mu_i - t; what a row is summed from */
    double *sum_rows, *total_rows;/* (n, k, CHUNK) */
    double *sum_value, *total_value; /* (CHUNK,) */
    double *distance, *apart;     /* scales only: (n, n), |mu_j - m_a|; (n, m), lengths of `relative` */
    double *sum_scales, *total_scales; /* scales only: (2 n + 2, CHUNK) */
} op_reverse_job;

typedef struct op_reverse_kernels {
    int (*evaluate)(const void *rule, const double *centre, const double *deviations, int form, double *value,
                    double *mean_row, double *rows, void *workspace);
    /* scales (n,): of the rows; slopes (n + 1,): what rows and value change by per unit of v - t. Returns the value's scale in *value. */
    int (*scales)(const op_reverse *rule, const double *centre, const double *deviations, double *value, double *scales,
                  double *slopes, void *workspace);
} op_reverse_kernels;

extern const op_reverse_kernels op_reverse_v4, op_reverse_v3, op_reverse_baseline, op_reverse_portable;

static inline double *op_reverse_take(char *base, size_t *used, size_t count)
{
    double *array = base ? (double *)(base + *used) : NULL;
    *used += (count * sizeof(double) + 63) / 64 * 64;
    return array;
}

/* Lays the arrays of a job out in the workspace; with workspace NULL only counts bytes. */
static inline size_t op_reverse_lay_out(op_reverse_job *job, const op_reverse *rule, void *workspace)
{
    char *base = (char *)workspace;
    size_t used = 0, n = (size_t)rule->n, k = (size_t)rule->k, m = (size_t)rule->m, c = OP_REVERSE_CHUNK;
    size_t several = m > 1 ? m : 0;
    job->rule = rule;
    job->n = rule->n;
    job->k = rule->k;
    job->m = rule->m;
    job->delta = op_reverse_take(base, &used, n * k);
    job->tilt = op_reverse_take(base, &used, n * k);
    job->prior_mean = op_reverse_take(base, &used, k);
    job->gap = op_reverse_take(base, &used, n * n);
    job->shift = op_reverse_take(base, &used, n * k);
    job->relative = op_reverse_take(base, &used, n * several * k);
    job->teacher_tilt = op_reverse_take(base, &used, several * k);
    job->teacher_gap = op_reverse_take(base, &used, n * several);
    job->L = op_reverse_take(base, &used, n * c);
    job->E = op_reverse_take(base, &used, n * c);
    job->rest = op_reverse_take(base, &used, n * c);
    job->mean_L = op_reverse_take(base, &used, c);
    job->teacher_L = op_reverse_take(base, &used, several * c);
    job->teacher_E = op_reverse_take(base, &used, several * c);
    job->p = op_reverse_take(base, &used, n * c);
    job->odd = op_reverse_take(base, &used, n * c);
    job->teacher_p = op_reverse_take(base, &used, several * c);
    job->u = op_reverse_take(base, &used, k * c);
    job->own = op_reverse_take(base, &used, k * c);
    job->tau = op_reverse_take(base, &used, k * c);
    job->arm = op_reverse_take(base, &used, k * c);
    job->part = op_reverse_take(base, &used, k * c);
    job->sum_rows = op_reverse_take(base, &used, n * k * c);
    job->total_rows = op_reverse_take(base, &used, n * k * c);
    job->sum_value = op_reverse_take(base, &used, c);
    job->total_value = op_reverse_take(base, &used, c);
    job->distance = op_reverse_take(base, &used, n * n);
    job->apart = op_reverse_take(base, &used, n * several);
    job->sum_scales = op_reverse_take(base, &used, (2 * n + 2) * c);
    job->total_scales = op_reverse_take(base, &used, (2 * n + 2) * c);
    return used;
}

static inline size_t op_reverse_workspace(const op_reverse *rule)
{
    op_reverse_job job;
    return op_reverse_lay_out(&job, rule, NULL);
}

/* The copy compiled for a path of cpu.h; a path that does not exist in this build never reaches here. */
static inline op_reverse_kernels op_reverse_choose(int path)
{
#if OP_X86_64
    if (path == OP_PATH_V4) return op_reverse_v4;
    if (path == OP_PATH_V3) return op_reverse_v3;
    if (path == OP_PATH_BASELINE) return op_reverse_baseline;
#endif
    (void)path;
    return op_reverse_portable;
}

#endif
