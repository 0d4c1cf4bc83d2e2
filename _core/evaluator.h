/* The C interface between a kernel and the burst loop.
 *
 * Kernels are separate extension modules and cannot cimport each other's compiled functions in this layout, so a
 * kernel hands out a pointer to this struct in a PyCapsule and the loop calls through it. The owner of the capsule
 * keeps the context alive.
 */
#ifndef OP_EVALUATOR_H
#define OP_EVALUATOR_H

#include <stddef.h>

#define OP_EVALUATOR_CAPSULE "overparam._core.evaluator"

enum { OP_VALUE = 0, OP_ABSOLUTE_ROWS = 1, OP_DEVIATION_ROWS = 2 };

typedef struct op_evaluator {
    /* form: 0 value only; 1 absolute rows (mean_row is filled with their mean too); 2 deviation rows.
     * Parameters are centre (k,) + deviations (n, k); mean_row (k,), rows (n, k). Returns 0. Thread-safe as long as
     * each thread brings its own workspace. */
    int (*evaluate)(const void *context, const double *centre, const double *deviations, int form,
                    double *value, double *mean_row, double *rows, void *workspace);
    const void *context;
    size_t workspace_bytes; /* the caller allocates it once, 64-byte aligned */
    ptrdiff_t n, k;
} op_evaluator;

#endif
