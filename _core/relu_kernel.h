/* One compiled copy of the neuron's kernel: the including file sets OP_LANES, OP_RELU and, around this, the target. */
#include "evaluator.h"
#include "relu.h"
#include "vector.h"

/* Rows of a tile: with a chunk of columns their sums stay in registers. */
#define OP_TILE 4
/* From this many rows on the product is BLAS's; below, its call costs more than the loops. */
#define OP_RELU_BLAS_ROWS 12
#define OP_HALF_OVER_PI 0.15915494309189533577 /* 1/(2 pi) */

OP_INLINE vec op_root(vec x)
{
#if OP_X86_64 && OP_LANES == 8
    return (vec)_mm512_sqrt_pd((__m512d)x);
#elif OP_X86_64 && OP_LANES == 4
    return (vec)_mm256_sqrt_pd((__m256d)x);
#elif OP_X86_64 && OP_LANES == 2
    return (vec)_mm_sqrt_pd((__m128d)x);
#elif OP_LANES > 1
    vec y;
    for (int l = 0; l < OP_LANES; l++) y[l] = sqrt(x[l]);
    return y;
#else
    return sqrt(x);
#endif
}

OP_INLINE vec op_horner(vec z, const double *coefficients, int count)
{
    vec sum = op_splat(coefficients[count - 1]);
    for (int i = count - 2; i >= 0; i--) sum = sum * z + coefficients[i];
    return sum;
}

/* (atan(x)/x - 1)/x^2 in powers of x^2 for |x| <= tan(pi/8): Chebyshev interpolation of degree 11, wrong by 2e-19 of 1 */
static const double op_atan_powers[12] = {
    -0.33333333333333333217, 0.19999999999999804526, -0.14285714285659827605, 0.11111111105155446517, -0.090909087535008744273,
    0.076922963750320725183, -0.066664248857370002105, 0.058789289978203437244, -0.052304542705439557719, 0.045515932201417084935,
    -0.034570561968958593716, 0.016285756841402315377};
/* (th - sin th)/th^3 in powers of th^2: Taylor's, the next term is 4e-20 of 1/6 at th = 1 */
static const double op_sine_powers[9] = {
    0.16666666666666666667, -0.0083333333333333333333, 0.0001984126984126984127, -2.7557319223985890653e-6, 2.5052108385441718775e-8,
    -1.6059043836821614599e-10, 7.6471637318198164759e-13, -2.8114572543455207632e-15, 8.220635246624329717e-18};

/* Angle, h and g of unit vectors whose difference and sum have these squares. */
OP_INLINE void op_angle(vec difference2, vec sum2, vec *angle, vec *h, vec *g)
{
    const vec a = op_root(difference2), b = op_root(sum2);
    const vec small = op_min(a, b), large = op_max(a, b);
    const bits turned = OP_LESS(0.41421356237309504880 * large, small);
    const vec x = op_select(turned, small - large, small) / op_select(turned, small + large, large);
    const vec z = x * x;
    const vec half = op_select(turned, op_splat(0.78539816339744830962), op_splat(0.0)) + (x + x * z * op_horner(z, op_atan_powers, 12));
    const vec th = op_select(OP_LESS(b, a), 3.14159265358979323846 - 2.0 * half, 2.0 * half);
    const vec square = th * th;
    *angle = th;
    *h = op_select(OP_LESS(th, op_splat(1.0)), th * square * op_horner(square, op_sine_powers, 9), th - 0.5 * a * b);
    *g = 0.5 * th * difference2 - *h;
}

typedef struct op_relu_work {
    ptrdiff_t m;             /* n + 1, the target last, padded to whole chunks */
    double *angle;           /* (m, m) */
    double *unit, *columns;  /* v: (n, k) times s, and (k, m) as it is */
    double *s, *of_h, *of_angle; /* (m,): lengths; sums of s h and of s th */
    double *rest;            /* (k,): R */
} op_relu_work;

/* A row whose square leaves the range of doubles, times a power of 2; returns the power's exponent with its sign turned. */
static int op_relu_rescale(ptrdiff_t k, ptrdiff_t m, double *column, double *first2, double *across)
{
    double most = 0.0;
    int exponent;
    for (ptrdiff_t a = 0; a < k; a++) most = fmax(most, fabs(column[a * m]));
    if (most == 0.0 || !isfinite(most)) return 0;
    frexp(most, &exponent);
    for (ptrdiff_t a = 0; a < k; a++) column[a * m] = ldexp(column[a * m], -exponent);
    *first2 = column[0] * column[0];
    *across = 0.0;
    for (ptrdiff_t a = 1; a < k; a++) *across += column[a * m] * column[a * m];
    return exponent;
}

static void op_relu_prepare(const op_relu_problem *p, const double *centre, const double *deviations, void *workspace, op_relu_work *use)
{
    const ptrdiff_t n = p->n, k = p->k, m = op_relu_padded(n + 1), few = op_relu_padded(k);
    double *next = workspace;
    use->m = m;
    use->angle = next, next += m * m;
    use->unit = next, next += m * few;
    use->columns = next, next += m * few;
    use->s = next, next += m;
    use->of_h = next, next += m;
    use->of_angle = next, next += m;
    use->rest = next;
    double *inverse = use->of_h, *across = use->of_angle; /* until they are needed */
    for (ptrdiff_t a = 0; a < k; a++) use->rest[a] = a == 0 ? -p->target : 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        double *v = use->unit + i * k;
        for (ptrdiff_t a = 0; a < k; a++) v[a] = centre[a] + deviations[i * k + a];
        for (ptrdiff_t a = 0; a < k; a++) use->rest[a] += v[a];
    }
    for (ptrdiff_t a = 0; a < k; a++) {
        double *column = use->columns + a * m;
        for (ptrdiff_t i = 0; i < n; i++) column[i] = use->unit[i * k + a];
        for (ptrdiff_t i = n; i < m; i++) column[i] = 0.0;
    }
    for (ptrdiff_t j = 0; j < m; j += OP_CHUNK) { /* rows side by side */
        vec sum[OP_PARTS];
        for (int v = 0; v < OP_PARTS; v++) sum[v] = op_splat(0.0);
        for (ptrdiff_t a = 1; a < k; a++)
            for (int v = 0; v < OP_PARTS; v++) {
                const vec x = op_load(use->columns + a * m + j + v * OP_LANES);
                sum[v] += x * x;
            }
        for (int v = 0; v < OP_PARTS; v++) op_store(across + j + v * OP_LANES, sum[v]);
    }
    for (ptrdiff_t i = 0; i < m; i++) {
        double *column = use->columns + i, first2 = column[0] * column[0], square = first2 + across[i];
        int exponent = 0;
        if (!(square > 1e-280 && square < 1e280)) {
            exponent = op_relu_rescale(k, m, column, &first2, across + i);
            square = first2 + across[i];
        }
        const double length = sqrt(square);
        inverse[i] = length == 0.0 ? 0.0 : 1.0 / length;
        use->s[i] = exponent == 0 ? length : ldexp(length, exponent);
        /* cosine less 1: where it is near 0 the square of the sine has its digits */
        if (column[0] > 0.0)
            column[0] = -across[i] / (square + column[0] * length);
        else
            column[0] = length == 0.0 ? 0.0 : column[0] * inverse[i] - 1.0;
        if (i < n) use->unit[i * k] = use->s[i] * column[0];
    }
    for (ptrdiff_t a = 1; a < k; a++)
        for (ptrdiff_t j = 0; j < m; j += OP_LANES) {
            double *at = use->columns + a * m + j;
            op_store(at, op_load(at) * op_load(inverse + j));
        }
    memset(use->of_h, 0, (size_t)(2 * m) * sizeof(double));
    use->s[n] = -p->target;
}

/* Squares of the differences (sign -1) or sums (sign 1) of unit vectors i ... i + 3 with those of the chunk at j. */
OP_INLINE void op_relu_squares(const op_relu_work *use, ptrdiff_t k, ptrdiff_t i, ptrdiff_t j, double sign, vec found[OP_TILE][OP_PARTS])
{
    const ptrdiff_t m = use->m;
    for (int r = 0; r < OP_TILE; r++)
        for (int v = 0; v < OP_PARTS; v++) {
            const vec x = op_load(use->columns + j + v * OP_LANES) + (sign * use->columns[i + r] + (1.0 + sign));
            found[r][v] = x * x;
        }
    for (ptrdiff_t a = 1; a < k; a++) {
        const double *row = use->columns + a * m;
        for (int v = 0; v < OP_PARTS; v++) {
            const vec other = op_load(row + j + v * OP_LANES);
            for (int r = 0; r < OP_TILE; r++) {
                const vec x = other + sign * row[i + r];
                found[r][v] += x * x;
            }
        }
    }
}

static double op_relu_pairs(const op_relu_problem *p, const op_relu_work *use, int store)
{
    static const double places[OP_CHUNK] = {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0};
    const ptrdiff_t n = p->n, k = p->k, m = use->m;
    double total = 0.0, lanes[OP_LANES];
    for (ptrdiff_t i = 0; i < n; i += OP_TILE) {
        vec of_g = op_splat(0.0), of_h[OP_TILE], of_angle[OP_TILE];
        for (int r = 0; r < OP_TILE; r++) of_h[r] = of_angle[r] = op_splat(0.0);
        for (ptrdiff_t j = i / OP_CHUNK * OP_CHUNK; j < m; j += OP_CHUNK) {
            vec apart[OP_TILE][OP_PARTS], along[OP_TILE][OP_PARTS];
            op_relu_squares(use, k, i, j, -1.0, apart);
            vec most = apart[0][0]; /* is any angle above a right one, whose sum of unit vectors may be small? */
            for (int r = 0; r < OP_TILE; r++)
                for (int v = 0; v < OP_PARTS; v++) {
                    most = op_max(most, apart[r][v]);
                    along[r][v] = 4.0 - apart[r][v];
                }
            memcpy(lanes, &most, sizeof lanes);
            int wide = 0;
            for (int l = 0; l < OP_LANES; l++) wide |= lanes[l] > 2.0;
            if (wide) {
                vec direct[OP_TILE][OP_PARTS];
                op_relu_squares(use, k, i, j, 1.0, direct);
                for (int r = 0; r < OP_TILE; r++)
                    for (int v = 0; v < OP_PARTS; v++)
                        along[r][v] = op_select(OP_LESS(op_splat(2.0), apart[r][v]), direct[r][v], along[r][v]);
            }
            for (int v = 0; v < OP_PARTS; v++) {
                const ptrdiff_t at = j + v * OP_LANES;
                const vec s = op_load(use->s + at);
                vec place, to_h = op_load(use->of_h + at), to_angle = op_load(use->of_angle + at);
                memcpy(&place, places + v * OP_LANES, sizeof place);
                for (int r = 0; r < OP_TILE; r++) {
                    vec angle, h, g;
                    op_angle(apart[r][v], along[r][v], &angle, &h, &g);
                    /* every pair once: the partner comes after i + r */
                    const bits after = OP_LESS(op_splat((double)(i + r - j)), place);
                    const vec weight = op_select(after, s, op_splat(0.0)), own = op_select(after, op_splat(use->s[i + r]), op_splat(0.0));
                    of_g += use->s[i + r] * (weight * g);
                    of_h[r] += weight * h;
                    of_angle[r] += weight * angle;
                    to_h += own * h;
                    to_angle += own * angle;
                    if (store) op_store(use->angle + (i + r) * m + at, angle);
                }
                op_store(use->of_h + at, to_h);
                op_store(use->of_angle + at, to_angle);
            }
        }
        for (int r = 0; r < OP_TILE; r++) {
            memcpy(lanes, &of_h[r], sizeof lanes);
            use->of_h[i + r] += op_total(lanes, OP_LANES);
            memcpy(lanes, &of_angle[r], sizeof lanes);
            use->of_angle[i + r] += op_total(lanes, OP_LANES);
        }
        memcpy(lanes, &of_g, sizeof lanes);
        total += op_total(lanes, OP_LANES);
    }
    for (ptrdiff_t i = OP_CHUNK; store && i < n; i++) /* the other triangle */
        for (ptrdiff_t j = 0; j < i / OP_CHUNK * OP_CHUNK; j++) use->angle[i * m + j] = use->angle[j * m + i];
    return total;
}

/* rows = -(1/2 pi) sum_j th_ij s_j v_j */
static void op_relu_product(const op_relu_problem *p, const op_relu_work *use, double *rows)
{
    const ptrdiff_t n = p->n, k = p->k;
    if (n >= OP_RELU_BLAS_ROWS) {
        /* columns first: the transposed product, and the angles are symmetric */
        int count = (int)n, width = (int)k, stride = (int)use->m;
        char plain = 'N';
        double scale = -OP_HALF_OVER_PI, none = 0.0;
        p->gemm(&plain, &plain, &width, &count, &count, &scale, use->unit, &width, use->angle, &stride, &none, rows, &width);
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        double *row = rows + i * k;
        for (ptrdiff_t a = 0; a < k; a++) row[a] = 0.0;
        for (ptrdiff_t j = 0; j < n; j++) {
            const double x = -OP_HALF_OVER_PI * use->angle[i * use->m + j];
            for (ptrdiff_t a = 0; a < k; a++) row[a] += x * use->unit[j * k + a];
        }
    }
}

int OP_RELU(const void *context, const double *centre, const double *deviations, int form, double *value, double *mean_row, double *rows,
            void *workspace)
{
    const op_relu_problem *p = context;
    const ptrdiff_t n = p->n, k = p->k;
    op_relu_work use;
    op_relu_prepare(p, centre, deviations, workspace, &use);
    double square = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) square += use.rest[a] * use.rest[a];
    *value = 0.25 * square + OP_HALF_OVER_PI * op_relu_pairs(p, &use, form != OP_VALUE);
    if (form == OP_VALUE) return 0;
    op_relu_product(p, &use, rows);
    for (ptrdiff_t a = 0; a < k; a++) mean_row[a] = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const double along = OP_HALF_OVER_PI * use.of_angle[i], lost = OP_HALF_OVER_PI * use.of_h[i];
        double *row = rows + i * k;
        if (use.s[i] == 0.0) /* a neuron that is silent everywhere */
            for (ptrdiff_t a = 0; a < k; a++) row[a] = 0.0;
        else {
            for (ptrdiff_t a = 0; a < k; a++) row[a] += 0.5 * use.rest[a] + (along - lost) * use.columns[a * use.m + i];
            row[0] -= lost;
        }
        for (ptrdiff_t a = 0; a < k; a++) mean_row[a] += row[a] / (double)n;
    }
    if (form == OP_DEVIATION_ROWS)
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t a = 0; a < k; a++) rows[i * k + a] -= mean_row[a];
    return 0;
}
