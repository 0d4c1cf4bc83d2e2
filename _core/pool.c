/* The pool of threads.h: started when first needed, asleep when there is nothing to do, made anew in a forked child.
 *
 * Waking a sleeping thread costs about 100 microseconds, so one that has just worked looks out for more for a while first: between two
 * steps of a burst there is very little. No thread here ever sees Python, and all signals are left to Python's own threads.
 */
#include "threads.h"

#if (defined(__GNUC__) || defined(__clang__)) && (defined(__unix__) || defined(__APPLE__))
#define OP_PTHREADS 1
#else
#define OP_PTHREADS 0
#endif

static int op_wanted = 1;

static void op_alone(op_task task, void *context, ptrdiff_t count, void *workspace)
{
    for (ptrdiff_t piece = 0; piece < count; piece++) task(context, piece, workspace);
}

int op_threads_supported(void) { return OP_PTHREADS; }

#if OP_PTHREADS

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define OP_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define OP_PAUSE() __asm__ volatile("yield")
#else
#define OP_PAUSE() ((void)0)
#endif

#define OP_LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define OP_STORE(x, to) __atomic_store_n(&(x), to, __ATOMIC_SEQ_CST)
#define OP_ADD(x, by) __atomic_fetch_add(&(x), by, __ATOMIC_SEQ_CST)

enum { OP_LOOKS = 64, OP_PATIENCE = 300000 }; /* looks between two readings of the clock; nanoseconds until a thread sleeps */

static struct {
    pthread_mutex_t mutex; /* of `sleepers` going to sleep and being woken */
    pthread_cond_t wake;
    int started, refused;  /* helpers that exist; whether the system gave no more */
    int busy;              /* a caller has work in hand */
    int open, inside;      /* helpers may come in; how many are in */
    int helpers;           /* how many of them may, by number */
    int sleepers;
    unsigned round;
    op_task task;
    void *context;
    ptrdiff_t count, next;
    size_t workspace_bytes;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* In a forked child there are no helpers, whatever the parent was doing. */
static void op_forget(void)
{
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.started = pool.refused = pool.busy = pool.open = pool.inside = pool.sleepers = 0;
}

static int64_t op_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void op_take_pieces(void *workspace)
{
    for (;;) {
        ptrdiff_t piece = OP_ADD(pool.next, 1);
        if (piece >= pool.count) return;
        pool.task(pool.context, piece, workspace);
    }
}

static void op_await_round(unsigned seen)
{
    const int64_t started = op_now();
    do
        for (int look = 0; look < OP_LOOKS; look++) {
            if (OP_LOAD(pool.round) != seen) return;
            OP_PAUSE();
        }
    while (op_now() - started < OP_PATIENCE);
    pthread_mutex_lock(&pool.mutex);
    OP_ADD(pool.sleepers, 1);
    while (OP_LOAD(pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
    OP_ADD(pool.sleepers, -1);
    pthread_mutex_unlock(&pool.mutex);
}

static void *op_help(void *number)
{
    const int own = (int)(intptr_t)number;
    unsigned seen = 0;
    size_t size = 0;
    char *memory = NULL;
    for (;;) {
        op_await_round(seen);
        seen = OP_LOAD(pool.round);
        /* First in, then a look at the door: a caller that shuts it waits for those who are in. */
        OP_ADD(pool.inside, 1);
        if (OP_LOAD(pool.open) && own < pool.helpers) {
            if (size < pool.workspace_bytes) {
                free(memory);
                size = pool.workspace_bytes;
                memory = malloc(size + 64);
                if (memory == NULL) size = 0;
            }
            if (memory != NULL) op_take_pieces((void *)(((uintptr_t)memory + 63) / 64 * 64));
        }
        OP_ADD(pool.inside, -1);
    }
    return NULL;
}

/* Helpers up to `count`; fewer if the system has no more. */
static void op_start(int count)
{
    static int watching = 0;
    sigset_t all, before;
    pthread_attr_t attributes;
    if (!watching) watching = pthread_atfork(NULL, NULL, op_forget) == 0;
    if (!watching || pthread_attr_init(&attributes) != 0) {
        pool.refused = 1;
        return;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.started < count && !pool.refused) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, op_help, (void *)(intptr_t)pool.started) == 0)
            pool.started++;
        else
            pool.refused = 1;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void op_threads_run(op_task task, void *context, ptrdiff_t count, size_t workspace_bytes, void *workspace)
{
    int free_pool = 0, helpers = OP_LOAD(op_wanted) - 1;
    if (helpers > count - 1) helpers = (int)(count - 1);
    if (helpers < 1 || !__atomic_compare_exchange_n(&pool.busy, &free_pool, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        op_alone(task, context, count, workspace);
        return;
    }
    if (pool.started < helpers && !pool.refused) op_start(helpers);
    pool.task = task, pool.context = context;
    pool.count = count, pool.workspace_bytes = workspace_bytes, pool.helpers = helpers;
    OP_STORE(pool.next, 0);
    OP_STORE(pool.open, 1);
    OP_ADD(pool.round, 1);
    if (OP_LOAD(pool.sleepers) > 0) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
    op_take_pieces(workspace);
    OP_STORE(pool.open, 0);
    for (int look = 1; OP_LOAD(pool.inside) != 0; look++) {
        OP_PAUSE();
        if (look % OP_LOOKS == 0) sched_yield(); /* a helper in the middle of its piece may be waiting for this processor */
    }
    OP_STORE(pool.busy, 0);
}

int op_threads_count(void) { return OP_LOAD(op_wanted); }
void op_threads_set(int count) { OP_STORE(op_wanted, count); }

#else

void op_threads_run(op_task task, void *context, ptrdiff_t count, size_t workspace_bytes, void *workspace)
{
    (void)workspace_bytes;
    op_alone(task, context, count, workspace);
}

int op_threads_count(void) { return op_wanted; }
void op_threads_set(int count) { op_wanted = count; }

#endif
