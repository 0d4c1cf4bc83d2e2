/* Gradient descent without Python: steps under one plan until something is due or the plan's box is left.
 *
 * With a velocity v: v <- momentum v - step gradient, x <- x + v; the gradient is that at x, or at x + momentum v (look_ahead).
 */
#ifndef OP_DESCENT_H
#define OP_DESCENT_H

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "evaluator.h"

enum { OP_DONE = 0, OP_LEFT_BOX = 1, OP_SHRUNK = 2, OP_DIVERGED = 3, OP_NOT_FINITE = 4 };

typedef struct op_burst {
    double step_size, value_floor, value_ceiling;
    int moving_centre;
    const double *low, *high, *spread_low, *spread_high; /* (k,): the box the plan is valid in */
    const double *row_floor;                             /* (n,) */
    const double *step_sizes;                            /* one a step; NULL: step_size throughout */
    const double *factors;                               /* (n,) of the gradient rows; NULL: 1 */
    double momentum;
    int look_ahead;
    double seconds; /* return after about this long, whatever is left to do: signals wait for Python */
    double *centre_velocity, *velocity;                    /* (k,), (n, k); NULL: none */
    double *mean_row, *rows, *new_centre, *new_deviations; /* (k,), (n, k), (k,), (n, k) */
    double *new_centre_velocity, *new_velocity;            /* (k,), (n, k); with a velocity */
    double *centre_ahead, *deviations_ahead;               /* (k,), (n, k); with look_ahead */
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

/* Does the box have no walls? Then it need not be looked at: thousands of rows are read column by column for it. */
static int op_no_walls(const op_burst *b, ptrdiff_t k)
{
    for (ptrdiff_t a = 0; a < k; a++)
        if (!(b->low[a] == -INFINITY && b->high[a] == INFINITY && b->spread_low[a] <= 0.0 && b->spread_high[a] == INFINITY)) return 0;
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

/* Gradient rows times their factors, split again into a mean row and deviation rows where the centre moves. */
static void op_scale_rows(const op_burst *b, ptrdiff_t n, ptrdiff_t k)
{
    double mean = 0.0;
    if (b->factors == NULL) return;
    for (ptrdiff_t i = 0; i < n; i++) mean += b->factors[i];
    mean /= (double)n;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t a = 0; a < k; a++) {
            double row = b->factors[i] * b->rows[i * k + a];
            b->rows[i * k + a] = b->moving_centre ? row + (b->factors[i] - mean) * b->mean_row[a] : row;
        }
    for (ptrdiff_t a = 0; a < k; a++) b->mean_row[a] *= mean;
}

/* x - step row, or with a velocity that is renewed first */
static void op_move(const double *x, const double *row, ptrdiff_t size, double step, double momentum, const double *velocity,
                    double *new_velocity, double *new_x)
{
    if (velocity == NULL) {
        for (ptrdiff_t i = 0; i < size; i++) new_x[i] = x[i] - step * row[i];
        return;
    }
    for (ptrdiff_t i = 0; i < size; i++) {
        new_velocity[i] = momentum * velocity[i] - step * row[i];
        new_x[i] = x[i] + new_velocity[i];
    }
}

static double op_clock(void)
{
    struct timespec t;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Looks at the clock after every step where steps are long, after every 1024th where they are short. */
typedef struct op_watch {
    double started, looked;
    ptrdiff_t every, left;
} op_watch;

static int op_time_is_up(op_watch *watch, double seconds)
{
    if (--watch->left > 0) return 0;
    const double now = op_clock(), since = now - watch->looked;
    if (now - watch->started > seconds) return 1;
    if (since < seconds / 64 && watch->every < 1024) watch->every *= 2;
    if (since > seconds / 16 && watch->every > 1) watch->every /= 2;
    watch->looked = now;
    watch->left = watch->every;
    return 0;
}

/* In place on centre, deviations and velocities, which stay as they were before a step that would not be finite. */
static ptrdiff_t op_descend(const op_evaluator *e, const op_burst *b, double *centre, double *deviations,
                            ptrdiff_t steps, int *reason, double *value)
{
    const ptrdiff_t n = e->n, k = e->k, size = n * k;
    const int no_walls = op_no_walls(b, k);
    op_watch watch = {op_clock(), 0.0, 1, 1};
    watch.looked = watch.started;
    *value = NAN;
    *reason = OP_DONE;
    for (ptrdiff_t done = 0; done < steps; done++) {
        const double step = b->step_sizes == NULL ? b->step_size : b->step_sizes[done];
        const double *at = centre, *around = deviations;
        if (b->look_ahead) {
            for (ptrdiff_t a = 0; a < k; a++) b->centre_ahead[a] = centre[a] + b->momentum * b->centre_velocity[a];
            for (ptrdiff_t i = 0; i < size; i++) b->deviations_ahead[i] = deviations[i] + b->momentum * b->velocity[i];
            at = b->centre_ahead, around = b->deviations_ahead;
        }
        if (!no_walls && !op_inside(b, n, k, at, around)) {
            int finite = op_all_finite(at, k) && op_all_finite(around, size);
            *reason = finite ? OP_LEFT_BOX : OP_NOT_FINITE;
            return done;
        }
        e->evaluate(e->context, at, around, b->moving_centre ? OP_DEVIATION_ROWS : OP_ABSOLUTE_ROWS, value, b->mean_row, b->rows,
                    b->workspace);
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
        op_scale_rows(b, n, k);
        if (b->moving_centre)
            op_move(centre, b->mean_row, k, step, b->momentum, b->centre_velocity, b->new_centre_velocity, b->new_centre);
        else
            memcpy(b->new_centre, centre, (size_t)k * sizeof(double));
        op_move(deviations, b->rows, size, step, b->momentum, b->velocity, b->new_velocity, b->new_deviations);
        if (!op_all_finite(b->new_centre, k) || !op_all_finite(b->new_deviations, size)) {
            *reason = OP_NOT_FINITE;
            return done;
        }
        memcpy(centre, b->new_centre, (size_t)k * sizeof(double));
        memcpy(deviations, b->new_deviations, (size_t)size * sizeof(double));
        if (b->velocity != NULL) {
            if (b->moving_centre) memcpy(b->centre_velocity, b->new_centre_velocity, (size_t)k * sizeof(double));
            memcpy(b->velocity, b->new_velocity, (size_t)size * sizeof(double));
        }
        if (op_time_is_up(&watch, b->seconds)) return done + 1;
    }
    return steps;
}

/* One burst among others; what came of it is written here. */
typedef struct op_job {
    const op_evaluator *evaluator;
    op_burst burst;
    double *centre, *deviations;
    ptrdiff_t steps, done;
    int reason;
    double value, seconds;
} op_job;

/* A piece of work for threads.h: `context` is an array of pointers to jobs, each with a workspace of its own. */
static void op_run_job(void *context, ptrdiff_t piece, void *workspace)
{
    op_job *job = ((op_job **)context)[piece];
    const double started = op_clock();
    (void)workspace;
    job->done = op_descend(job->evaluator, &job->burst, job->centre, job->deviations, job->steps, &job->reason, &job->value);
    job->seconds = op_clock() - started;
}

#endif
