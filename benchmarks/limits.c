/* What one core can do at best: the loops behind limits.py, compiled there for the instruction set that the kernels use. */
#include "softmax.h"

#define UNROLLED 4 /* measured: 0.58 ns (AVX-512); 0.63, 0.60 and 0.65 for 1, 2 and 8 */
#define CHAINS 16 /* independent sums: more than latency times ports */

/* `rounds` times exp of `count` numbers (a multiple of 32) below zero: small arrays stay in L1. */
void limit_exp(const double *x, double *y, ptrdiff_t count, ptrdiff_t rounds)
{
    for (ptrdiff_t r = 0; r < rounds; r++)
        for (ptrdiff_t b = 0; b < count; b += UNROLLED * OP_LANES) {
            vec e[UNROLLED];
            for (int u = 0; u < UNROLLED; u++) e[u] = op_exp_nonpositive(op_load(x + b + u * OP_LANES));
            for (int u = 0; u < UNROLLED; u++) op_store(y + b + u * OP_LANES, e[u]);
        }
}

/* Sum of `count` numbers (a multiple of 128): reads memory, and hardly anything else. */
double limit_read(const double *x, ptrdiff_t count)
{
    vec sums[CHAINS];
    double lanes[CHAINS * OP_LANES] __attribute__((aligned(64)));
    for (int c = 0; c < CHAINS; c++) sums[c] = op_splat(0.0);
    for (ptrdiff_t b = 0; b < count; b += CHAINS * OP_LANES)
        for (int c = 0; c < CHAINS; c++) sums[c] += op_load(x + b + c * OP_LANES);
    for (int c = 0; c < CHAINS; c++) op_store(lanes + c * OP_LANES, sums[c]);
    return op_total(lanes, CHAINS * OP_LANES);
}

/* `rounds` times 1/x of `count` numbers (a multiple of 8): the kernels divide once a node. */
void limit_divide(const double *x, double *y, ptrdiff_t count, ptrdiff_t rounds)
{
    for (ptrdiff_t r = 0; r < rounds; r++)
        for (ptrdiff_t b = 0; b < count; b += OP_LANES) op_store(y + b, 1.0 / op_load(x + b));
}

typedef void (*gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *, int *);

/* The five products of `blocks` blocks of `m` nodes in the shapes of score_matching_blas.h, and nothing else: w, a (n, m), y, D (k, m),
 * nodes fastest, the tables (n, k). */
void limit_products(gemm multiply, ptrdiff_t blocks, int m, int n, int k, double *w, double *a, double *y, double *D, double *table,
                    double *rows)
{
    char plain = 'N', flip = 'T';
    double one = 1.0, none = 0.0;
    int stride = m + 8; /* as there: rows a power of two apart share cache sets */
    for (ptrdiff_t b = 0; b < blocks; b++) {
        multiply(&plain, &plain, &m, &n, &k, &one, y, &stride, table, &k, &none, w, &stride);
        multiply(&plain, &flip, &m, &k, &n, &one, w, &stride, table, &k, &none, D, &stride);
        multiply(&plain, &plain, &m, &n, &k, &one, D, &stride, table, &k, &none, a, &stride);
        multiply(&flip, &plain, &k, &n, &m, &one, D, &stride, w, &stride, &one, rows, &k);
        multiply(&flip, &plain, &k, &n, &m, &one, y, &stride, a, &stride, &one, rows, &k);
    }
}
