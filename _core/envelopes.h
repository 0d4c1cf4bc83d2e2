/* What lies beyond the edges of a grid: overparam/geometry.py's Integrand, which has the formulas, in C for few means.
 *
 * F_i = ln w_i - |x - m|^2/2 at any point lies below F(y) + |g|^2/2 - |x - (y + g)|^2/2, g its gradient there.
 */
#ifndef OP_ENVELOPES_H
#define OP_ENVELOPES_H

#include <math.h>
#include <stddef.h>

#define OP_SQRT_2PI 2.5066282746310002
#define OP_PI 3.14159265358979323846

typedef struct op_envelopes {
    ptrdiff_t n, k;
    const double *params;    /* (n, k) */
    const double *tilt;      /* (n, k): means less their mean */
    const double *offset;    /* (n,): what logits are without y, log weights included */
    const double *component; /* (k,): m */
    double share;
    const double *distances, *widest; /* (n,): largest distance from a teacher mean, and from another mean */
    double *logits, *centre, *tails, *moments, *centres; /* (n,), (2, k), (n,), (n,), (n, k): room to work in */
} op_envelopes;

/* Gradient of F_i at y (k,); returns F_i. */
static double op_slope(const op_envelopes *e, ptrdiff_t i, const double *y, double *gradient)
{
    const ptrdiff_t n = e->n, k = e->k;
    double top = -INFINITY, sum = 0.0, square = 0.0;
    for (ptrdiff_t j = 0; j < n; j++) {
        double l = e->offset[j];
        for (ptrdiff_t a = 0; a < k; a++) l += y[a] * e->tilt[j * k + a];
        e->logits[j] = l;
        if (l > top) top = l;
    }
    const double own = e->logits[i] - top;
    for (ptrdiff_t j = 0; j < n; j++) {
        e->logits[j] = exp(e->logits[j] - top);
        sum += e->logits[j];
    }
    for (ptrdiff_t a = 0; a < k; a++) {
        double mean = 0.0, gap = y[a] - e->component[a];
        for (ptrdiff_t j = 0; j < n; j++) mean += e->logits[j] * e->tilt[j * k + a];
        gradient[a] = e->tilt[i * k + a] - mean / sum - gap;
        square += gap * gap;
    }
    return own - log(sum) - square / 2;
}

/* ln of the normal tail beyond x, or of a little more (four terms of its alternating series) where erfc would underflow. */
static double op_log_tail(double x)
{
    if (x < 20.0) return log(0.5 * erfc(x / 1.4142135623730951));
    const double y = 1.0 / (x * x);
    return -x * x / 2 - log(x * OP_SQRT_2PI) + log1p(y * (-1.0 + y * (3.0 + y * (-15.0 + 105.0 * y))));
}

/* Bounds on sums of phi and of z^2 phi over a full lattice of step h, or of a Gauss-Hermite rule where h is 0. */
static void op_lattice(double h, double *mass, double *square)
{
    if (!(h > 0.0)) {
        *mass = 1.0, *square = exp(1.0);
        return;
    }
    const double floor = h > 0.1 ? h : 0.1, y = 2 * OP_PI * OP_PI / (floor * floor);
    const double one = 2 * exp(-y) / -expm1(-y), two = 2.02 * (1 + 2 * y) * exp(-y);
    const double peak = h / OP_SQRT_2PI, peaks = 4 * h / (exp(1.0) * OP_SQRT_2PI);
    *mass = 1 + (one < peak ? one : peak);
    *square = 1 + (h <= 3 && two < peaks ? two : peaks);
}

/* Integrand.beyond at one edge: tails (n,), moments (n,), centres (n, k). */
static void op_beyond(const op_envelopes *e, ptrdiff_t axis, int side, double edge, const double *modes, const double *steps, double *tails,
                      double *moments, double *centres)
{
    const ptrdiff_t n = e->n, k = e->k;
    double theta = e->share, whole = 1.0, mass, square;
    const double h = steps[axis], top = exp(-0.5) / OP_SQRT_2PI;
    for (ptrdiff_t a = 0; a < k; a++) {
        op_lattice(steps[a], &mass, &square);
        if (a == axis)
            whole = mass;
        else
            theta *= mass;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (int moved = 0; moved < 2; moved++) { /* at the mode, and at the mode moved to the edge */
            double *y = e->centre, *g = e->centre + k, peak, length, tail, moment, squares = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) y[a] = modes[i * k + a];
            if (moved) y[axis] = edge;
            peak = op_slope(e, i, y, g);
            for (ptrdiff_t a = 0; a < k; a++) squares += g[a] * g[a];
            peak += squares / 2;
            length = side * (edge - (y[axis] + g[axis]));
            const double scale = theta * exp(peak);
            tail = theta * exp(peak + op_log_tail(length));
            const double falling = theta * exp(peak - length * length / 2) / OP_SQRT_2PI;
            if (length < 0.0) {
                const double all = whole * scale;
                tail += h * scale / OP_SQRT_2PI;
                if (all < tail) tail = all;
                moment = (2 / OP_SQRT_2PI + 2 * h * top) * scale - falling;
            } else {
                moment = falling + (length < 1.0 ? h * top * scale : 0.0);
            }
            if (moved && !(tail < tails[i])) continue;
            tails[i] = tail;
            moments[i] = moment;
            for (ptrdiff_t a = 0; a < k; a++) centres[i * k + a] = y[a] + g[a];
        }
}

/* Integrand.left_out at one edge: rows (n,); returns what the loss loses. */
static double op_left_out(const op_envelopes *e, ptrdiff_t axis, int side, double edge, const double *modes, const double *steps, double *rows)
{
    const ptrdiff_t n = e->n, k = e->k;
    double rest = 0.0, farthest = 0.0, loss = 0.0, mass, square;
    op_beyond(e, axis, side, edge, modes, steps, e->tails, e->moments, e->centres);
    for (ptrdiff_t a = 0; a < k; a++) {
        op_lattice(steps[a], &mass, &square);
        if (a != axis) rest += square;
    }
    rest = sqrt(rest);
    for (ptrdiff_t l = 0; l < n; l++)
        if (e->distances[l] > farthest) farthest = e->distances[l];
    const double unseen = 0.1 * (10 + 10.9 * sqrt((double)k) + farthest);
    for (ptrdiff_t i = 0; i < n; i++) {
        double own = 0.0, row = 0.0, shared = 0.0;
        for (ptrdiff_t step = 0; step <= n; step++) { /* its own first: the others are compared with it */
            const ptrdiff_t l = step == 0 ? i : step - 1;
            double apart = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) {
                const double gap = e->params[i * k + a] - e->centres[l * k + a];
                apart += gap * gap;
            }
            const double arm = 1.1 * (sqrt(apart) + rest) + unseen;
            const double weighted = e->tails[l] * (1.1 + e->widest[i] * arm) + 1.1 * e->widest[i] * e->moments[l];
            if (step == 0) {
                own = weighted;
                continue;
            }
            row += (own < weighted ? own : weighted) * e->distances[l];
            shared += (e->tails[i] < e->tails[l] ? e->tails[i] : e->tails[l]) * e->distances[l];
        }
        rows[i] = 2 * row;
        loss += shared * e->distances[i];
    }
    return 1.1 * loss;
}

#endif
