/* An evaluator that is the weighted sum of others, each at parameters of its own scale and on axes of its own:
 *
 *     L(mu) = sum_k weight_k L_k(scale_k mu),   grad L = sum_k weight_k scale_k grad L_k.
 *
 * Everything is written in order, so that a sum does not depend on how its parts were made.
 */
#ifndef OP_WEIGHTED_SUM_H
#define OP_WEIGHTED_SUM_H

#include <stddef.h>

#include "evaluator.h"

typedef struct op_weighted_sum {
    ptrdiff_t n, k, parts;
    const op_evaluator *const *evaluators; /* (parts,) */
    const double *scales, *weights;        /* (parts,) each */
    const double *turns;                   /* (parts, k, k): a part's axes as columns */
    const int *straight;                   /* (parts,): the turn is the identity */
} op_weighted_sum;

/* What comes before the parts' own workspace: a centre, a mean row, deviations and rows, in whole cache lines. */
static size_t op_weighted_sum_own(const op_weighted_sum *s)
{
    return ((size_t)(2 * s->k + 2 * s->n * s->k) * sizeof(double) + 63) / 64 * 64;
}

/* to = scale * from turned onto a part's axes; (count, k). */
static void op_onto(const op_weighted_sum *s, ptrdiff_t part, ptrdiff_t count, const double *from, double *to)
{
    const ptrdiff_t k = s->k;
    const double scale = s->scales[part], *turn = s->turns + part * k * k;
    if (s->straight[part]) {
        for (ptrdiff_t i = 0; i < count * k; i++) to[i] = scale * from[i];
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++)
        for (ptrdiff_t b = 0; b < k; b++) {
            double sum = 0.0;
            for (ptrdiff_t a = 0; a < k; a++) sum += from[i * k + a] * turn[a * k + b];
            to[i * k + b] = scale * sum;
        }
}

/* to += factor * from turned back; (count, k). */
static void op_add_back(const op_weighted_sum *s, ptrdiff_t part, ptrdiff_t count, double factor, const double *from, double *to)
{
    const ptrdiff_t k = s->k;
    const double *turn = s->turns + part * k * k;
    if (s->straight[part]) {
        for (ptrdiff_t i = 0; i < count * k; i++) to[i] += factor * from[i];
        return;
    }
    for (ptrdiff_t i = 0; i < count; i++)
        for (ptrdiff_t a = 0; a < k; a++) {
            double sum = 0.0;
            for (ptrdiff_t b = 0; b < k; b++) sum += from[i * k + b] * turn[a * k + b];
            to[i * k + a] += factor * sum;
        }
}

static int op_weighted_sum_evaluate(const void *context, const double *centre, const double *deviations, int form, double *value,
                                    double *mean_row, double *rows, void *workspace)
{
    const op_weighted_sum *s = (const op_weighted_sum *)context;
    const ptrdiff_t k = s->k, size = s->n * s->k;
    double *own_centre = (double *)workspace, *own_mean = own_centre + k;
    double *own_deviations = own_mean + k, *own_rows = own_deviations + size;
    void *inner = (char *)workspace + op_weighted_sum_own(s);
    *value = 0.0;
    if (form != OP_VALUE) {
        for (ptrdiff_t a = 0; a < k; a++) mean_row[a] = 0.0;
        for (ptrdiff_t i = 0; i < size; i++) rows[i] = 0.0;
    }
    for (ptrdiff_t part = 0; part < s->parts; part++) {
        const op_evaluator *e = s->evaluators[part];
        double found, factor = s->weights[part] * s->scales[part];
        op_onto(s, part, 1, centre, own_centre);
        op_onto(s, part, s->n, deviations, own_deviations);
        e->evaluate(e->context, own_centre, own_deviations, form, &found, own_mean, own_rows, inner);
        *value += s->weights[part] * found;
        if (form == OP_VALUE) continue;
        op_add_back(s, part, 1, factor, own_mean, mean_row);
        op_add_back(s, part, s->n, factor, own_rows, rows);
    }
    return 0;
}

#endif
