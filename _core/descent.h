/* Gradient descent without Python: steps under one plan until something is due or the plan's box is left. */
#ifndef OP_DESCENT_H
#define OP_DESCENT_H

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "evaluator.h"

enum { OP_DONE = 0, OP_LEFT_BOX = 1, OP_SHRUNK = 2, OP_DIVERGED = 3, OP_NOT_FINITE = 4 };

typedef struct op_burst {
    double step_size, value_floor, value_ceiling;
    int moving_centre;
    const double *low, *high, *spread_low, *spread_high; /* (k,): the box the plan is valid in */
    const double *row_floor;                             /* (n,) */
    double *mean_row, *rows, *new_centre, *new_deviations; /* (k,), (n, k), (k,), (n, k) */
    void *workspace;
} op_burst;

static int op_all_finite(const double *x, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

static int op_inside(const op_burst *b, ptrdiff_t n, ptrdiff_t k, const double *centre, const double *deviations)
{
    for (ptrdiff_t a = 0; a < k; a++) {
        double least = deviations[a], most = deviations[a];
        for (ptrdiff_t i = 1; i < n; i++) {
            double d = deviations[i * k + a];
            if (d < least) least = d;
            if (d > most) most = d;
        }
        double spread = most - least;
        if (!(centre[a] + least >= b->low[a] && centre[a] + most <= b->high[a] && spread >= b->spread_low[a] &&
              spread <= b->spread_high[a]))
            return 0;
    }
    return 1;
}

/* Is |row| below the floor? Divides by the largest entry first: rows of 1e-300 must not count as 0. */
static int op_below(const double *row, ptrdiff_t k, double floor)
{
    double largest = 0.0, sum = 0.0;
    if (!(floor > 0.0)) return 0;
    for (ptrdiff_t a = 0; a < k; a++)
        if (fabs(row[a]) > largest) largest = fabs(row[a]);
    if (largest == 0.0) return 1;
    if (largest >= floor) return 0;
    for (ptrdiff_t a = 0; a < k; a++) sum += (row[a] / largest) * (row[a] / largest);
    return largest * sqrt(sum) < floor;
}

/* In place on centre and deviations, which stay as they were before a step that would not be finite. */
static ptrdiff_t op_descend(const op_evaluator *e, const op_burst *b, double *centre, double *deviations,
                            ptrdiff_t steps, int *reason, double *value)
{
    const ptrdiff_t n = e->n, k = e->k, size = n * k;
    const double step = b->step_size;
    *value = NAN;
    *reason = OP_DONE;
    for (ptrdiff_t done = 0; done < steps; done++) {
        if (!op_inside(b, n, k, centre, deviations)) {
            int finite = op_all_finite(centre, k) && op_all_finite(deviations, size);
            *reason = finite ? OP_LEFT_BOX : OP_NOT_FINITE;
            return done;
        }
        e->evaluate(e->context, centre, deviations, b->moving_centre ? OP_DEVIATION_ROWS : OP_ABSOLUTE_ROWS, value,
                    b->mean_row, b->rows, b->workspace);
        if (!isfinite(*value) || !op_all_finite(b->rows, size) || !op_all_finite(b->mean_row, k)) {
            *reason = OP_NOT_FINITE;
            return done;
        }
        if (*value > b->value_ceiling) {
            *reason = OP_DIVERGED;
            return done;
        }
        int shrunk = *value < b->value_floor;
        for (ptrdiff_t i = 0; i < n && !shrunk; i++) shrunk = op_below(b->rows + i * k, k, b->row_floor[i]);
        if (shrunk) {
            *reason = OP_SHRUNK;
            return done;
        }
        for (ptrdiff_t a = 0; a < k; a++)
            b->new_centre[a] = b->moving_centre ? centre[a] - step * b->mean_row[a] : centre[a];
        for (ptrdiff_t i = 0; i < size; i++) b->new_deviations[i] = deviations[i] - step * b->rows[i];
        if (!op_all_finite(b->new_centre, k) || !op_all_finite(b->new_deviations, size)) {
            *reason = OP_NOT_FINITE;
            return done;
        }
        memcpy(centre, b->new_centre, (size_t)k * sizeof(double));
        memcpy(deviations, b->new_deviations, (size_t)size * sizeof(double));
    }
    return steps;
}

#endif
