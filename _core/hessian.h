/* What the Hessian kernels share with their Python module: the job, its workspace, the function table.
 *
 * With y = x - c, w = softmax(y.delta_i - |delta_i|^2/2 + log pi_i), u = sum_j w_j delta_j, D = (c - t) + u, m_i = delta_i - u,
 * e_i = y - delta_i and g_i = D + (m_i.D) e_i, the Hessian of sum_b q |D|^2 with respect to mu_i and mu_j is
 *     H_ij = 2 sum_b q { w_i w_j [(I + e_i m_i') (I + m_j e_j') - g_i e_j' - e_i g_j']
 *                        + [i = j] w_i [g_i e_i' + e_i D' - (m_i.D) I] },
 * per node k outer products of a row with itself, one symmetric pair of rows, and the diagonal blocks. (With m_i - D in place of m_i
 * the pair becomes -|D|^2 e_i e_j', which cancels against terms far larger than H when the target is far.)
 * Two (n, n) sums go with it:
 *     square_ij = 2 sum_b q { w_i w_j (m_i.m_j - m_i.D - m_j.D) + [i = j] w_i m_i.D }   multiplies e_i e_j',
 *     unit_ij   = 2 sum_b q { w_i w_j - [i = j] w_i m_i.D }                             multiplies I;
 * along a direction in which x is a standard normal of its own the block of H is square + unit.
 */
#ifndef OP_HESSIAN_H
#define OP_HESSIAN_H

#include <stddef.h>

#include "cpu.h"

#define OP_HESSIAN_CHUNK 8 /* nodes at a time; OP_CHUNK of vector.h */

typedef struct op_hessian_job {
    ptrdiff_t n, k, count;     /* parameters, axes, nodes */
    const double *nodes;       /* (count, k) */
    const double *weights;     /* (count,) */
    const double *target;      /* (count, k), or (k,) when constant */
    int constant;
    const double *centre, *delta, *log_prior; /* (k,), (n, k), (n,) */
    const double *direction;   /* (n, k): sums the product H * direction; NULL: sums H itself */
    double *result;            /* OUT (n k, n k) symmetric, or (n, k) */
    double *square, *unit;     /* OUT (n, n) symmetric; NULL with a direction: not wanted, they cost more than the product */
} op_hessian_job;

/* Sums over the nodes of a job; result, square and unit are overwritten. */
typedef void (*op_hessian_kernel)(const op_hessian_job *job, double *workspace);

void op_hessian_v4(const op_hessian_job *job, double *workspace);
void op_hessian_v3(const op_hessian_job *job, double *workspace);
void op_hessian_baseline(const op_hessian_job *job, double *workspace);
void op_hessian_portable(const op_hessian_job *job, double *workspace);

static inline ptrdiff_t op_hessian_padded(ptrdiff_t count)
{
    return (count + 7) / 8 * 8;
}

/* Doubles of workspace: rows and their scaled copies, the padded sums, and what belongs to one node. */
static inline size_t op_hessian_workspace(const op_hessian_job *job)
{
    size_t n = (size_t)job->n, k = (size_t)job->k, few = (size_t)op_hessian_padded(job->n);
    size_t wide = job->direction ? 0 : (size_t)op_hessian_padded(job->n * job->k);
    size_t rows = OP_HESSIAN_CHUNK * (k + 2);
    return 2 * rows * wide + wide * wide + 2 * rows * few + 2 * few * few + OP_HESSIAN_CHUNK * (n + few) + 3 * n * k + n * k * k + 4 * n +
           5 * k + OP_HESSIAN_CHUNK * k + 32 * 8;
}

/* The copy compiled for a path of cpu.h; a path that does not exist in this build never reaches here. */
static inline op_hessian_kernel op_hessian(int path)
{
#if OP_X86_64
    if (path == OP_PATH_V4) return op_hessian_v4;
    if (path == OP_PATH_V3) return op_hessian_v3;
    if (path == OP_PATH_BASELINE) return op_hessian_baseline;
#endif
    (void)path;
    return op_hessian_portable;
}

#endif
