/* From nodes to value and rows: pieces of nodes summed apart, by several threads if there are, and put together in order. */
#ifndef OP_SCORE_MATCHING_SUMS_H
#define OP_SCORE_MATCHING_SUMS_H

#include "score_matching_gradient.h"

/* The lanes of a piece's sums added up. */
static void op_fold(const op_job *job, double *sums)
{
    const ptrdiff_t n = job->n, k = job->k;
    const int width = OP_LANES; /* op_reduce fills only the first lanes of its accumulators */
    double *rows = sums + OP_SUM_ROWS, *a = rows + n * k, *D = a + n;
    sums[OP_SUM_VALUE] = op_total(job->sum_value, OP_CHUNK);
    sums[OP_SUM_EXCESS] = sums[OP_MOST] = 0.0;
    if (job->measure->likelihood) {
        sums[OP_SUM_EXCESS] = op_total(job->sum_excess, OP_CHUNK);
        for (int b = 0; b < OP_CHUNK; b++)
            if (!(job->most[b] <= sums[OP_MOST])) sums[OP_MOST] = job->most[b]; /* a NaN stays */
    }
    if (job->form == 0) return;
    if (job->measure->gemm != NULL)
        memcpy(rows, job->blas_rows, (size_t)(n * k) * sizeof(double));
    else
        for (ptrdiff_t i = 0; i < n * k; i++) rows[i] = op_total(job->sum_rows + i * OP_CHUNK, width);
    for (ptrdiff_t i = 0; i < n; i++) a[i] = op_total(job->sum_a + i * OP_CHUNK, width);
    for (ptrdiff_t b = 0; b < k; b++) D[b] = op_total(job->sum_D + b * OP_CHUNK, OP_CHUNK);
}

/* The sums over the nodes of a job's piece. */
static void op_sum_piece(op_job *job, double *sums)
{
    op_runner run = op_choose_runner(job);
    op_clear(job);
    for (ptrdiff_t done = job->outer_from; done < job->outer_to;) {
        ptrdiff_t count = op_next_slab(job, done);
        for (ptrdiff_t slot = 0; slot < count; slot++) {
            if (!job->factored) op_set_base(job, slot);
            run(job, slot);
        }
        done += count;
    }
    op_fold(job, sums);
}

static void op_one_piece(void *context, ptrdiff_t number, void *workspace)
{
    const op_job *job = context;
    const op_measure *m = job->measure;
    const ptrdiff_t from = number * m->piece, to = from + m->piece;
    op_job own = *job;
    op_lay_out_piece(&own, workspace);
    if (m->outer > 1)
        own.outer_from = from, own.outer_to = to < m->outer ? to : m->outer;
    else
        own.inner_from = from, own.inner_to = to < m->inner ? to : m->inner;
    op_sum_piece(&own, job->sums + (size_t)number * op_sums_size(m));
}

/* The sums over all nodes: always the same pieces in the same order. */
static double *op_sum(op_job *job, void *workspace)
{
    const op_measure *m = job->measure;
    const size_t size = op_sums_size(m);
    double *sums = job->sums;
    op_factor_inner(job);
    if (m->pieces == 1) {
        op_sum_piece(job, sums);
        return sums;
    }
    m->threads->run(op_one_piece, job, m->pieces, op_piece_bytes(m), workspace);
    for (ptrdiff_t piece = 1; piece < m->pieces; piece++) {
        const double *more = sums + (size_t)piece * size;
        if (!(more[OP_MOST] <= sums[OP_MOST])) sums[OP_MOST] = more[OP_MOST];
        sums[OP_SUM_VALUE] += more[OP_SUM_VALUE];
        sums[OP_SUM_EXCESS] += more[OP_SUM_EXCESS];
        for (size_t i = OP_SUM_ROWS; i < size && job->form != 0; i++) sums[i] += more[i];
    }
    return sums;
}

/* 2 where r is formed from expm1, 1 where it turned out small at all nodes, else 0. */
static int op_nearness(const op_job *job, const double *sums)
{
    return job->near ? 2 : job->perhaps && sums[OP_MOST] < OP_NEAR_RATIO;
}

static double op_likelihood_value(const op_job *job, const double *sums)
{
    const int near = op_nearness(job, sums);
    if (near == 0) return sums[OP_SUM_VALUE];
    return job->flat_value + sums[near == 2 ? OP_SUM_VALUE : OP_SUM_EXCESS];
}

/* From the sums to the rows: g_i = 2 (R_i - A_i delta_i), where R_i = sum q (w_i D + a_i y), A_i = sum q a_i.
 * Deviation rows subtract the mean over i. Where weights are near the prior it is subtracted term by term
 * (sum_i w_i = 1 and sum_i a_i = 0 give the mean in closed form), else after summing. */
static void op_finish(const op_job *job, const double *sums, double *mean_row, double *rows)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k;
    const double per_row = 1.0 / (double)n, *R = sums + OP_SUM_ROWS, *A = R + n * k, *D = A + n;
    const int by_term = job->small && job->form == 2;
    for (ptrdiff_t a = 0; a < k; a++) {
        const ptrdiff_t to = m->axes[a];
        double moved = 0.0, mean = 0.0;
        if (by_term)
            for (ptrdiff_t i = 0; i < n; i++) moved += A[i] * job->delta[i * k + a];
        moved *= per_row;
        for (ptrdiff_t i = 0; i < n; i++) {
            rows[i * k + to] = 2.0 * (R[i * k + a] - (A[i] * job->delta[i * k + a] - moved));
            mean += rows[i * k + to];
        }
        mean *= per_row;
        mean_row[to] = by_term ? 2.0 * (D[a] * per_row - moved) : mean;
        if (job->form == 2 && !by_term)
            for (ptrdiff_t i = 0; i < n; i++) rows[i * k + to] -= mean;
    }
}

/* The same for the likelihood, g_i = R_i = sum q w_i D, whose rows add up to sum q D. */
static void op_finish_likelihood(const op_job *job, const double *sums, double *mean_row, double *rows)
{
    const op_measure *m = job->measure;
    const ptrdiff_t n = job->n, k = job->k;
    const double *R = sums + OP_SUM_ROWS, *D = R + n * k + n;
    const int by_term = job->small && job->form == 2;
    for (ptrdiff_t a = 0; a < k; a++) {
        const ptrdiff_t to = m->axes[a];
        double mean = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            rows[i * k + to] = R[i * k + a];
            mean += rows[i * k + to];
        }
        if (by_term) mean = D[a];
        mean /= (double)n;
        mean_row[to] = mean;
        if (job->form == 2 && !by_term)
            for (ptrdiff_t i = 0; i < n; i++) rows[i * k + to] -= mean;
    }
}

static int op_evaluate(const void *measure, const double *centre, const double *deviations, int form, double *value,
                       double *mean_row, double *rows, void *workspace)
{
    const op_measure *m = measure;
    op_job job;
    op_prepare(&job, m, centre, deviations, form, workspace);
    const double *sums = op_sum(&job, workspace);
    *value = m->likelihood ? op_likelihood_value(&job, sums) : sums[OP_SUM_VALUE];
    if (form == 0) return 0;
    if (m->likelihood)
        op_finish_likelihood(&job, sums, mean_row, rows);
    else
        op_finish(&job, sums, mean_row, rows);
    return 0;
}

static int op_evaluate_shares(const op_measure *m, const double *centre, const double *deviations, double *value,
                              double *shares, double *rows, void *workspace)
{
    op_job job;
    op_prepare(&job, m, centre, deviations, 1, workspace);
    const double *sums = op_sum(&job, workspace), *R = sums + OP_SUM_ROWS;
    *value = op_likelihood_value(&job, sums);
    memcpy(shares, R + m->n * m->k, (size_t)m->n * sizeof(double));
    for (ptrdiff_t i = 0; i < m->n; i++)
        for (ptrdiff_t a = 0; a < m->k; a++) rows[i * m->k + m->axes[a]] = R[i * m->k + a];
    return 0;
}

static int op_is_near(const op_measure *m, const double *centre, const double *deviations, void *workspace)
{
    op_job job;
    op_prepare(&job, m, centre, deviations, 0, workspace);
    const double most[OP_SUM_ROWS] = {0.0, 0.0, INFINITY};
    return op_nearness(&job, job.perhaps ? op_sum(&job, workspace) : most);
}

#endif
