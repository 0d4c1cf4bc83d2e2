/* What the score-matching kernels share with their Python class: the measure, the workspace, the function table.
 *
 * Student mean i is mu_i = c + delta_i. With y = x - c, w = softmax(y.delta_i - |delta_i|^2/2 + log pi_i),
 * u = sum_j w_j delta_j, D = (c - t) + u and a_i = w_i (delta_i - u).D:
 *     value  L   = sum_b q |D|^2
 *     row    g_i = 2 sum_b q [w_i D + a_i (y - delta_i)]          (gradient of L with respect to mu_i)
 * Nodes are (inner node) x (outer node): an explicit list of nodes is all inner; of a tensor rule the longest axes are
 * inner and stored, the others are streamed. Axes are permuted so that the inner ones come first.
 *
 * With `likelihood` set the objective is the Kullback-Leibler divergence from the teacher's density p* instead: with
 * r = ln(p/p*), p the student's density,
 *     value  L   = -sum_b q r, or sum_b q (e^r - 1 - r) where all r are small (the expectation of e^r is 1),
 *                  of one Gaussian only; from expm1 where logits are small as well, else from r
 *     row    g_i = sum_b q w_i D
 * For one Gaussian at t and s = c - t, r = g + ln sum_i pi_i exp(y.delta_i - |delta_i|^2/2), g = y.s + |s|^2/2; for
 * other teachers -|y|^2/2 - log_teacher stands for g. An axis on which all nodes are at t (`flat`) adds
 * (s + sum_i pi_i delta_i)^2/2 exactly, and has no part in the small r.
 */
#ifndef OP_SCORE_MATCHING_H
#define OP_SCORE_MATCHING_H

#include <stddef.h>

#include "cpu.h"
#include "threads.h"

typedef void (*op_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *, int *);

typedef struct op_measure {
    ptrdiff_t n, k;               /* parameters, axes */
    ptrdiff_t varying;            /* axes that vary over the inner nodes */
    ptrdiff_t inner, outer;       /* inner nodes, padded to whole chunks; outer nodes, 1 when all axes are inner */
    ptrdiff_t block;              /* nodes per block: w, a and D of a block stay in the L1 cache */
    const double *nodes;          /* (varying, inner); padding repeats the last node */
    const double *weights;        /* (inner,); padding is 0 */
    const double *targets;        /* (k, inner), or NULL when the target is constant */
    const double *target;         /* (k,) */
    const ptrdiff_t *axes;        /* (k,): axis a here is axis axes[a] of the caller */
    const ptrdiff_t *orders;      /* (k,): nodes on each axis; only those of the outer axes are used */
    const double *const *axis_nodes;   /* (k,): pointers, only those of the outer axes are used */
    const double *const *axis_weights;
    const double *low, *high;     /* (k,): range of the nodes on each axis */
    double reach;                 /* at least max |x| */
    const double *log_prior;      /* (n,): log pi, may be -infinity */
    const double *prior;          /* (n,): pi, sums to 1 */
    int equal_prior;              /* all pi identical, hence exactly 1/n */
    int likelihood;
    const double *log_teacher;    /* (inner,): ln sum_a pi*_a exp(-|x - m_a|^2/2), or NULL for one Gaussian */
    const ptrdiff_t *flat;        /* (k,): whether all nodes are at the target on axis a, one Gaussian only */
    op_gemm gemm;                 /* dgemm where products are BLAS's (all axes are inner then), else NULL */
    ptrdiff_t pieces, piece;      /* pieces that are summed apart, and nodes of each: outer ones, or inner ones of a list */
    const op_threads *threads;    /* who does them; needed from 2 pieces on */
} op_measure;

/* Outer nodes are prepared this many at a time, whatever their number: nothing grows with it. */
#define OP_SLAB 64

typedef struct op_job {
    const op_measure *measure;
    /* stride: measure->block, made an odd number of cache lines: rows a power of two apart share cache sets */
    ptrdiff_t n, k, varying, stride;
    ptrdiff_t inner_from, inner_to, outer_from, outer_to; /* the nodes of this piece */
    int form, small, factored;
    /* what all pieces read */
    double *centre, *shift;       /* (k,): c; c - t */
    double *delta, *prior_delta;  /* (n, k) */
    double *prior_mean;           /* (k,): sum_j pi_j delta_j, compensated */
    double *offset;               /* (n,): what is added to w_i - pi_i before it multiplies D */
    double *half_norm;            /* (n,): log pi_i - |delta_i|^2/2 */
    double *inner_factor;         /* (n, inner) */
    double *outer_base;           /* (n,) */
    double *inner_known;          /* likelihood only, (inner,): of the inner factors the largest logit, or when small sum_j pi_j p_j */
    double *sums;                 /* (pieces, op_sums_size): what pieces leave behind */
    /* what a piece writes */
    double *base;                 /* (n,): the part of the logits that is the same over the inner nodes */
    double *outer_factor;         /* (n, OP_SLAB) */
    double *outer_y;              /* (k - varying, OP_SLAB) */
    double *outer_weight;         /* (OP_SLAB,) */
    ptrdiff_t *odometer;          /* (k,) */
    double *y;                    /* (varying, stride) */
    double *w, *a;                /* (n, stride): the logits, then q w_i and q a_i */
    double *D;                    /* (k, stride) */
    double *norm, *scale, *uD;    /* (stride,): sum or mean of the softmax, what it is divided by, u.D */
    double *sum_rows;             /* (n, k, OP_CHUNK) */
    double *sum_a;                /* (n, OP_CHUNK) */
    double *sum_D;                /* (k, OP_CHUNK) */
    double *sum_value;            /* (OP_CHUNK,) */
    double *blas_rows;            /* (n, k): what sum_rows adds up to where products are BLAS's */
    /* likelihood only */
    int near;                     /* all r are small, and so are logits */
    int perhaps;                  /* r may turn out small at all nodes: both sums are taken */
    double *sum_excess, *most;    /* (OP_CHUNK,): sum q (e^r - 1 - r), largest |r| */
    double flat_value, linear_base; /* sum over flat axes; sum_i pi_i (l_i without y) */
    double *top;                  /* (stride,): largest logit */
    double *outer_known;          /* (OP_SLAB,): inner_known for the outer factors */
    double *slot_linear, *slot_shift; /* (OP_SLAB,): over the outer axes sum y pm, sum y s + |s|^2/2 */
} op_job;

typedef struct op_kernels {
    int (*evaluate)(const void *measure, const double *centre, const double *deviations, int form, double *value,
                    double *mean_row, double *rows, void *workspace);
    int (*evaluate_shares)(const op_measure *measure, const double *centre, const double *deviations, double *value,
                           double *shares, double *rows, void *workspace); /* likelihood: sum_b q w_i and the rows */
    int (*near)(const op_measure *measure, const double *centre, const double *deviations, void *workspace);
    int (*evaluate_stein)(const op_measure *measure, const double *params, double *value, double *rows,
                          void *workspace);
    int (*majorants)(const op_measure *measure, const double *centre, const double *deviations, double *value,
                     double *A, double *B, double *C, void *workspace);
} op_kernels;

extern const op_kernels op_score_matching_v4, op_score_matching_v3, op_score_matching_baseline,
    op_score_matching_portable;

/* Lays the arrays of a job out in the workspace; with workspace NULL only counts bytes. */
static inline void *op_take(char *workspace, size_t *used, size_t count, size_t size)
{
    void *array = workspace ? workspace + *used : NULL;
    *used += (count * size + 63) / 64 * 64;
    return array;
}

/* The arrays that a piece writes. */
static inline size_t op_lay_out_piece(op_job *job, void *workspace)
{
    const op_measure *m = job->measure;
    char *base = (char *)workspace;
    size_t used = 0, n = (size_t)m->n, k = (size_t)m->k, block = (size_t)job->stride, d = sizeof(double);
    job->w = op_take(base, &used, n * block, d);
    job->a = op_take(base, &used, n * block, d);
    job->D = op_take(base, &used, k * block, d);
    job->y = op_take(base, &used, k * block, d);
    job->norm = op_take(base, &used, block, d);
    job->scale = op_take(base, &used, block, d);
    job->uD = op_take(base, &used, block, d);
    job->sum_rows = op_take(base, &used, n * k * 8, d);
    job->sum_a = op_take(base, &used, n * 8, d);
    job->sum_D = op_take(base, &used, k * 8, d);
    job->sum_value = op_take(base, &used, 8, d);
    job->blas_rows = op_take(base, &used, m->gemm ? n * k : 0, d);
    job->base = op_take(base, &used, n, d);
    job->outer_factor = op_take(base, &used, n * OP_SLAB, d);
    job->outer_y = op_take(base, &used, k * OP_SLAB, d);
    job->outer_weight = op_take(base, &used, OP_SLAB, d);
    job->odometer = op_take(base, &used, k, sizeof(ptrdiff_t));
    if (m->likelihood) {
        job->top = op_take(base, &used, block, d);
        job->outer_known = op_take(base, &used, OP_SLAB, d);
        job->slot_linear = op_take(base, &used, OP_SLAB, d);
        job->slot_shift = op_take(base, &used, OP_SLAB, d);
        job->sum_excess = op_take(base, &used, 8, d);
        job->most = op_take(base, &used, 8, d);
    }
    return used;
}

/* What is left of a piece's sums: value, excess and largest |r|, then rows (n, k), a (n,) and D (k,). */
enum { OP_SUM_VALUE, OP_SUM_EXCESS, OP_MOST, OP_SUM_ROWS };

static inline size_t op_sums_size(const op_measure *m)
{
    return ((size_t)OP_SUM_ROWS + (size_t)(m->n * m->k + m->n + m->k) + 7) / 8 * 8;
}

/* All arrays of a job, its piece's first. */
static inline size_t op_lay_out(op_job *job, const op_measure *m, void *workspace)
{
    char *base = (char *)workspace;
    size_t used, n = (size_t)m->n, k = (size_t)m->k, d = sizeof(double);
    size_t inner = m->outer > 1 ? (size_t)m->inner : 0;
    job->measure = m;
    job->n = m->n;
    job->k = m->k;
    job->varying = m->varying;
    job->stride = m->block + (m->block / 8 % 2 ? 0 : 8);
    used = op_lay_out_piece(job, workspace);
    job->centre = op_take(base, &used, k, d);
    job->shift = op_take(base, &used, k, d);
    job->delta = op_take(base, &used, n * k, d);
    job->prior_delta = op_take(base, &used, n * k, d);
    job->prior_mean = op_take(base, &used, k, d);
    job->offset = op_take(base, &used, n, d);
    job->half_norm = op_take(base, &used, n, d);
    job->outer_base = op_take(base, &used, n, d);
    job->inner_factor = op_take(base, &used, n * inner, d);
    job->inner_known = op_take(base, &used, m->likelihood ? inner : 0, d);
    job->sums = op_take(base, &used, (size_t)m->pieces * op_sums_size(m), d);
    return used;
}

static inline size_t op_piece_bytes(const op_measure *m)
{
    op_job job;
    job.measure = m;
    job.stride = m->block + (m->block / 8 % 2 ? 0 : 8);
    return op_lay_out_piece(&job, NULL);
}

static inline size_t op_workspace_bytes(const op_measure *m)
{
    op_job job;
    return op_lay_out(&job, m, NULL);
}

/* Pairwise distances up to this many parameters; above it Jensen's inequality, which costs n instead of n^2. */
#define OP_PAIRWISE 64

/* The Stein form and the majorants need more: see score_matching_checks.h. */
static inline size_t op_check_bytes(const op_measure *m)
{
    size_t n = (size_t)m->n, k = (size_t)m->k;
    size_t stein = k + n * k + k * (k + 2) * 8;
    size_t majorants = 8 * k + 3 * 8 * n + n + n * k + (n <= OP_PAIRWISE ? n * n : 0);
    return op_workspace_bytes(m) + (stein > majorants ? stein : majorants) * sizeof(double);
}

/* The copy compiled for a path of cpu.h; a path that does not exist in this build never reaches here. */
static inline const op_kernels *op_score_matching(int path)
{
#if OP_X86_64
    if (path == OP_PATH_V4) return &op_score_matching_v4;
    if (path == OP_PATH_V3) return &op_score_matching_v3;
    if (path == OP_PATH_BASELINE) return &op_score_matching_baseline;
#endif
    (void)path;
    return &op_score_matching_portable;
}

#endif
