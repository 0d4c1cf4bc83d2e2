/* A product of square matrices against a target: value and gradient by prefix products and one sweep back.
 *
 * Parameters W_1 ... W_N are (N d) rows of d real numbers, or of 2 d: real and imaginary part in turn. With R = W_N ... W_1 - Sigma and
 * D_j = W_j W_j^H - W_{j+1}^H W_{j+1} for j = 1 ... N-1, D_0 = D_N = 0:
 *     value  L   = |R|^2/2 + a/4 sum_j |D_j|^2
 *     rows   G_j = (W_N ... W_{j+1})^H R (W_{j-1} ... W_1)^H + a (D_j W_j - W_j D_{j-1})
 * with |.| Frobenius norms. B_N = R, B_{j-1} = W_j^H B_j and P_j = W_j P_{j-1} give G_j = B_j P_{j-1}^H: 3 (N - 1) products; and for the
 * balancing 2 (N - 1) more, and 2 (N - 1) of which half is computed.
 */
#ifndef OP_FACTORIZATION_H
#define OP_FACTORIZATION_H

#include <stddef.h>
#include <string.h>

#include "evaluator.h"

/* From this many rows on a product is BLAS's; below, its call costs more than the loops. */
#define OP_BLAS_ROWS 12

typedef void (*op_gemm)(char *, char *, int *, int *, int *, double *, double *, int *, double *, int *, double *, double *, int *);

typedef void (*op_syrk)(char *, char *, int *, int *, double *, double *, int *, double *, double *, int *);

typedef struct op_factors {
    ptrdiff_t depth, d;
    int is_complex;
    double balance;
    const double *target; /* (d, k) */
    op_gemm gemm;         /* dgemm or zgemm */
    op_syrk syrk;         /* dsyrk or zherk */
} op_factors;

static size_t op_factorization_bytes(const op_factors *f)
{
    const size_t matrix = (size_t)(f->d * f->d) * (f->is_complex ? 2 : 1);
    return (size_t)(3 * f->depth + 2) * matrix * sizeof(double);
}

/* C = beta C + alpha A^(H) B^(H), row by row; alpha and beta real. */
static void op_small_real(ptrdiff_t d, int ha, const double *A, int hb, const double *B, double alpha, double beta, double *C)
{
    for (ptrdiff_t i = 0; i < d; i++) {
        double *c = C + i * d;
        for (ptrdiff_t j = 0; j < d; j++) c[j] = beta == 0.0 ? 0.0 : beta * c[j];
        for (ptrdiff_t l = 0; l < d; l++) {
            const double x = alpha * (ha ? A[l * d + i] : A[i * d + l]);
            if (hb)
                for (ptrdiff_t j = 0; j < d; j++) c[j] += x * B[j * d + l];
            else
                for (ptrdiff_t j = 0; j < d; j++) c[j] += x * B[l * d + j];
        }
    }
}

static void op_small_complex(ptrdiff_t d, int ha, const double *A, int hb, const double *B, double alpha, double beta, double *C)
{
    for (ptrdiff_t i = 0; i < d; i++) {
        double *c = C + 2 * i * d;
        for (ptrdiff_t j = 0; j < 2 * d; j++) c[j] = beta == 0.0 ? 0.0 : beta * c[j];
        for (ptrdiff_t l = 0; l < d; l++) {
            const double *a = A + 2 * (ha ? l * d + i : i * d + l);
            const double re = alpha * a[0], im = ha ? -alpha * a[1] : alpha * a[1];
            for (ptrdiff_t j = 0; j < d; j++) {
                const double *b = B + 2 * (hb ? j * d + l : l * d + j);
                const double to_re = b[0], to_im = hb ? -b[1] : b[1];
                c[2 * j] += re * to_re - im * to_im;
                c[2 * j + 1] += re * to_im + im * to_re;
            }
        }
    }
}

static void op_product(const op_factors *f, int ha, const double *A, int hb, const double *B, double alpha, double beta, double *C)
{
    if (f->d >= OP_BLAS_ROWS) {
        /* columns first: C^T = B^(H)T A^(H)T, and A^T is what BLAS sees in A */
        int d = (int)f->d;
        char a = ha ? 'C' : 'N', b = hb ? 'C' : 'N';
        double scale[2] = {alpha, 0.0}, keep[2] = {beta, 0.0};
        f->gemm(&b, &a, &d, &d, &d, scale, (double *)B, &d, (double *)A, &d, keep, C, &d);
    } else if (f->is_complex)
        op_small_complex(f->d, ha, A, hb, B, alpha, beta, C);
    else
        op_small_real(f->d, ha, A, hb, B, alpha, beta, C);
}

/* D = W W^H - V^H V: half of it, and its mirror image, where BLAS computes it. */
static void op_difference(const op_factors *f, const double *W, const double *V, double *D)
{
    if (f->d < OP_BLAS_ROWS) {
        op_product(f, 0, W, 1, W, 1.0, 0.0, D);
        op_product(f, 1, V, 0, V, -1.0, 1.0, D);
        return;
    }
    int d = (int)f->d;
    double one = 1.0, less = -1.0, zero = 0.0;
    char half = 'L', flip = 'C', plain = 'N'; /* BLAS sees transposes: its lower half is our upper one */
    f->syrk(&half, &flip, &d, &d, &one, (double *)W, &d, &zero, D, &d);
    f->syrk(&half, &plain, &d, &d, &less, (double *)V, &d, &one, D, &d);
    for (ptrdiff_t i = 0; i < f->d; i++)
        for (ptrdiff_t j = 0; j < i; j++) {
            if (f->is_complex) {
                D[2 * (i * f->d + j)] = D[2 * (j * f->d + i)];
                D[2 * (i * f->d + j) + 1] = -D[2 * (j * f->d + i) + 1];
            } else
                D[i * f->d + j] = D[j * f->d + i];
        }
}

static double op_square(const double *x, ptrdiff_t size)
{
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    ptrdiff_t i = 0;
    for (; i + 4 <= size; i += 4)
        for (int s = 0; s < 4; s++) sum[s] += x[i + s] * x[i + s];
    for (; i < size; i++) sum[0] += x[i] * x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static int op_factorization(const void *context, const double *centre, const double *deviations, int form, double *value,
                            double *mean_row, double *rows, void *workspace)
{
    const op_factors *f = context;
    const ptrdiff_t N = f->depth, d = f->d, k = d * (f->is_complex ? 2 : 1), size = d * k;
    double *around = workspace, *P = around + N * size, *D = P + N * size, *B = D + N * size, *next = B + size;
    const double *W = deviations;
    int moved = 0;
    for (ptrdiff_t a = 0; a < k; a++) moved |= centre[a] != 0.0; /* a NaN counts */
    if (moved) {
        W = around;
        for (ptrdiff_t i = 0; i < N * d; i++)
            for (ptrdiff_t a = 0; a < k; a++) around[i * k + a] = deviations[i * k + a] + centre[a];
    }
    memcpy(P, W, (size_t)size * sizeof(double));
    for (ptrdiff_t j = 1; j < N; j++) op_product(f, 0, W + j * size, 0, P + (j - 1) * size, 1.0, 0.0, P + j * size);
    for (ptrdiff_t i = 0; i < size; i++) B[i] = P[(N - 1) * size + i] - f->target[i];
    double loss = 0.5 * op_square(B, size), balance = 0.0;
    if (f->balance != 0.0)
        for (ptrdiff_t j = 0; j + 1 < N; j++) {
            op_difference(f, W + j * size, W + (j + 1) * size, D + j * size);
            balance += op_square(D + j * size, size);
        }
    *value = loss + 0.25 * f->balance * balance;
    if (form == OP_VALUE) return 0;
    for (ptrdiff_t j = N - 1; j >= 0; j--) {
        double *G = rows + j * size;
        if (j > 0)
            op_product(f, 0, B, 1, P + (j - 1) * size, 1.0, 0.0, G);
        else
            memcpy(G, B, (size_t)size * sizeof(double));
        if (f->balance != 0.0) {
            if (j + 1 < N) op_product(f, 0, D + j * size, 0, W + j * size, f->balance, 1.0, G);
            if (j > 0) op_product(f, 0, W + j * size, 0, D + (j - 1) * size, -f->balance, 1.0, G);
        }
        if (j > 0) {
            op_product(f, 1, W + j * size, 0, B, 1.0, 0.0, next);
            double *swap = B;
            B = next;
            next = swap;
        }
    }
    for (ptrdiff_t a = 0; a < k; a++) mean_row[a] = 0.0;
    for (ptrdiff_t i = 0; i < N * d; i++)
        for (ptrdiff_t a = 0; a < k; a++) mean_row[a] += rows[i * k + a];
    for (ptrdiff_t a = 0; a < k; a++) mean_row[a] /= (double)(N * d);
    if (form == OP_DEVIATION_ROWS)
        for (ptrdiff_t i = 0; i < N * d; i++)
            for (ptrdiff_t a = 0; a < k; a++) rows[i * k + a] -= mean_row[a];
    return 0;
}

#endif
