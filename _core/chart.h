/* The variables of a gradient flow (see overparam/drivers/_chart.py, which is the twin of this file) and their velocity.
 *
 * y = [ln of the centre's amplitude, only where it is far] [g (k,)] [z (n, k)] [c (k,), only where the centre moves], and
 * delta_ia = exp(levels_a + g_a) z_ia in the chart's frame; the plan's axes are `turn` (k, k) in that frame, as columns.
 */
#ifndef OP_CHART_H
#define OP_CHART_H

#include <math.h>
#include <stddef.h>

#include "evaluator.h"

/* A centre nearer to the target than this is seen from here: its velocity would leave the range of doubles, and all is linear. */
#define OP_GONE 1e-280

typedef struct op_chart {
    ptrdiff_t n, k, widest;
    int moving, far, straight; /* straight: turn is the identity */
    double soft, least;
    const double *turn, *fixed, *alive;                  /* (k, k); (k,): a centre that stands still, in the frame; 0 or 1 */
    const double *levels;                                /* (k,): ln of the amplitudes that the g of y are counted from */
    const double *low, *high, *spread_low, *spread_high; /* (k,): the plan's box */
    double *amplitude, *centre, *own;                    /* (k,) each */
    double *z, *velocity;                                /* (n, k) each, in the frame */
    double *middle, *turned, *mean_row, *rows;           /* (k,), (n, k), (k,), (n, k), on the plan's axes */
    double scale;                                        /* amplitude of the centre */
    void *workspace;
} op_chart;

/* Centre and deviations of y on the plan's axes. Returns 0 where the amplitudes are below the range in which they are
 * handed over as they are: then this is not the code to ask. */
static int op_chart_open(op_chart *c, const double *y)
{
    const ptrdiff_t n = c->n, k = c->k;
    const double *g = y + (c->far ? 1 : 0), *z = g + k, *at = z + n * k;
    double most = -INFINITY;
    for (ptrdiff_t a = 0; a < k; a++) {
        c->amplitude[a] = exp(c->levels[a] + g[a]);
        if (c->levels[a] + g[a] > most) most = c->levels[a] + g[a];
    }
    if (!(most >= c->least)) return 0;
    for (ptrdiff_t a = 0; a < k; a++) {
        double mean = 0.0;
        if (c->moving) {
            for (ptrdiff_t i = 0; i < n; i++) mean += z[i * k + a];
            mean /= (double)n;
        }
        for (ptrdiff_t i = 0; i < n; i++) c->z[i * k + a] = z[i * k + a] - mean;
    }
    c->scale = !c->moving ? 1.0 : fmax(c->far ? exp(y[0]) : c->amplitude[c->widest] * c->amplitude[c->widest], OP_GONE);
    for (ptrdiff_t a = 0; a < k; a++) c->centre[a] = c->moving ? c->scale * at[a] : c->fixed[a];
    for (ptrdiff_t b = 0; b < k; b++) {
        double sum = 0.0, lost = 0.0, m = 0.0;
        if (c->straight) m = c->centre[b];
        else
            for (ptrdiff_t a = 0; a < k; a++) m += c->centre[a] * c->turn[a * k + b];
        for (ptrdiff_t i = 0; i < n; i++) {
            double d = 0.0;
            if (c->straight) d = c->amplitude[b] * c->z[i * k + b];
            else
                for (ptrdiff_t a = 0; a < k; a++) d += c->amplitude[a] * c->z[i * k + a] * c->turn[a * k + b];
            c->turned[i * k + b] = d;
            double next = sum + d, taken = next - sum;
            lost += (sum - (next - taken)) + (d - taken);
            sum = next;
        }
        /* the deviations' mean is meant to be 0: what rounding makes of it is taken from the centre */
        c->middle[b] = c->moving ? m - (sum + lost) / (double)n : m;
    }
    return 1;
}

/* Is y inside the plan's box? -1: not the code to ask. */
static int op_chart_inside(op_chart *c, const double *y)
{
    const ptrdiff_t n = c->n, k = c->k;
    if (!op_chart_open(c, y)) return -1;
    for (ptrdiff_t b = 0; b < k; b++) {
        double low = c->turned[b], high = low;
        for (ptrdiff_t i = 1; i < n; i++) {
            double d = c->turned[i * k + b];
            if (d < low) low = d;
            if (d > high) high = d;
        }
        if (!(c->middle[b] + low >= c->low[b] && c->middle[b] + high <= c->high[b] && high - low >= c->spread_low[b] &&
              high - low <= c->spread_high[b]))
            return 0;
    }
    return 1;
}

/* dy/dt into `out`, and the largest velocity of a deviation into *speed. Returns 0 where this is not the code to ask. */
static int op_chart_slope(op_chart *c, const op_evaluator *e, const double *y, double *out, double *speed)
{
    const ptrdiff_t n = c->n, k = c->k, first = c->far ? 1 : 0;
    const double *at = y + first + k + n * k;
    double value, follow = 0.0, *rate = out + first, *to_z = rate + k, *to_c = to_z + n * k;
    if (!op_chart_open(c, y)) return 0;
    e->evaluate(e->context, c->middle, c->turned, c->moving ? OP_DEVIATION_ROWS : OP_ABSOLUTE_ROWS, &value, c->mean_row, c->rows,
                c->workspace);
    *speed = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) {
        double along = 0.0, square = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double v = 0.0;
            if (c->straight) v = -c->rows[i * k + a];
            else
                for (ptrdiff_t b = 0; b < k; b++) v -= c->rows[i * k + b] * c->turn[a * k + b];
            if (!(fabs(v) <= *speed)) *speed = fabs(v); /* a NaN stays */
            v = c->alive[a] != 0.0 ? v / c->amplitude[a] : 0.0;
            c->velocity[i * k + a] = v;
            along += v * c->z[i * k + a];
            square += c->z[i * k + a] * c->z[i * k + a];
        }
        rate[a] = along * square / (square * square + c->soft * c->soft * (double)n * (double)n);
        for (ptrdiff_t i = 0; i < n; i++) to_z[i * k + a] = c->velocity[i * k + a] - rate[a] * c->z[i * k + a];
    }
    if (!c->moving) return 1;
    double along = 0.0, square = 0.0;
    for (ptrdiff_t a = 0; a < k; a++) {
        double v = 0.0;
        if (c->straight) v = -c->mean_row[a];
        else
            for (ptrdiff_t b = 0; b < k; b++) v -= c->mean_row[b] * c->turn[a * k + b];
        c->own[a] = v / c->scale;
        along += c->own[a] * at[a];
        square += at[a] * at[a];
    }
    follow = c->far ? along * square / (square * square + c->soft * c->soft) : 2.0 * rate[c->widest];
    for (ptrdiff_t a = 0; a < k; a++) to_c[a] = c->own[a] - follow * at[a];
    if (c->far) out[0] = follow;
    return 1;
}

#endif
