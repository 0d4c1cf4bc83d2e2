/* Threads of the library's own for work that comes in numbered pieces.
 *
 * Kernels are separate extension modules: overparam._core.threads hands this table out in a PyCapsule, and a kernel keeps it with its
 * measure. Which thread does which piece is left open; a kernel keeps the pieces' results apart and adds them in order, so that no sum
 * depends on the number of threads.
 */
#ifndef OP_THREADS_H
#define OP_THREADS_H

#include <stddef.h>

#define OP_THREADS_CAPSULE "overparam._core.threads"
#define OP_MOST_THREADS 256

/* One piece of work; `workspace` is 64-byte aligned, this thread's alone, and may hold anything at first. */
typedef void (*op_task)(void *context, ptrdiff_t piece, void *workspace);

typedef struct op_threads {
    /* Does `count` pieces and returns when all are done. The caller's own thread takes part, with the workspace that it brings. With one
     * thread, or where others are busy with another caller's work, it does them alone and in order. */
    void (*run)(op_task task, void *context, ptrdiff_t count, size_t workspace_bytes, void *workspace);
} op_threads;

void op_threads_run(op_task task, void *context, ptrdiff_t count, size_t workspace_bytes, void *workspace);
int op_threads_count(void);          /* how many may work at a time, the caller among them */
void op_threads_set(int count);      /* 1 to OP_MOST_THREADS */
int op_threads_supported(void);      /* whether there can be more than one */

#endif
