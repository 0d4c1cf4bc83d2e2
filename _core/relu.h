/* One ReLU neuron learned by n of them: what the kernel shares with its Python module.
 *
 * Parameters are n rows w_i in coordinates whose first axis is the target's direction, target = t e_1. With s_i = |w_i| and s_n = -t for the
 * target, u = w/|w|, R = sum_i w_i - t e_1 and the angle th_ij between rows i and j,
 *     h(th) = th - sin th,   g(th) = sin th - th cos th = th (1 - cos th) - h(th),
 *     value  L   = |R|^2/4 + (1/2 pi) sum_{i<j} s_i s_j g(th_ij)
 *     rows   G_i = R/2 - (1/2 pi) { sum_j s_j h(th_ij) u_i + sum_j s_j th_ij (u_j - u_i) }
 * over the target and all students, since E[a'x]_+[b'x]_+ = a'b/2 + |a||b| g/(2 pi). Near the optimum h and g are of third order, and
 * nothing cancels. Rows of length 0 have gradient 0.
 *
 * Unit vectors are kept as v_i = u_i - e_1 with first coordinate -|rest|^2/(1 + cos): differences of neighbours near e_1 are then right to
 * their own rounding, and so is the angle, 2 atan2(|u_i - u_j|, |u_i + u_j|).
 */
#ifndef OP_RELU_H
#define OP_RELU_H

#include <stddef.h>

#include "cpu.h"

typedef void (*op_relu_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *, int *);

typedef struct op_relu_problem {
    ptrdiff_t n, k;
    double target; /* its length, above 0 */
    op_relu_gemm gemm;
} op_relu_problem;

typedef int (*op_relu_kernel)(const void *context, const double *centre, const double *deviations, int form, double *value,
                              double *mean_row, double *rows, void *workspace);

int op_relu_v4(const void *, const double *, const double *, int, double *, double *, double *, void *);
int op_relu_v3(const void *, const double *, const double *, int, double *, double *, double *, void *);
int op_relu_baseline(const void *, const double *, const double *, int, double *, double *, double *, void *);
int op_relu_portable(const void *, const double *, const double *, int, double *, double *, double *, void *);

static inline ptrdiff_t op_relu_padded(ptrdiff_t count)
{
    return (count + 7) / 8 * 8;
}

static inline size_t op_relu_bytes(const op_relu_problem *p)
{
    const size_t m = (size_t)op_relu_padded(p->n + 1), few = (size_t)op_relu_padded(p->k);
    return (m * m + 2 * m * few + 3 * m + few) * sizeof(double);
}

/* The copy compiled for a path of cpu.h; a path that does not exist in this build never reaches here. */
static inline op_relu_kernel op_relu(int path)
{
#if OP_X86_64
    if (path == OP_PATH_V4) return op_relu_v4;
    if (path == OP_PATH_V3) return op_relu_v3;
    if (path == OP_PATH_BASELINE) return op_relu_baseline;
#endif
    (void)path;
    return op_relu_portable;
}

#endif
