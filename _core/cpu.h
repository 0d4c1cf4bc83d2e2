/* Which compiled copy of a kernel this process uses.
 *
 * The kernels are compiled once per instruction set. The choice is made when an extension module is imported: the
 * best set this CPU has, or the one named by the environment variable OVERPARAM_KERNEL (for tests, and for comparing
 * machines). An unknown or unsupported name falls back to the best; overparam._core.cpu.info() says so.
 */
#ifndef OP_CPU_H
#define OP_CPU_H

#include <stdlib.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define OP_X86_64 1
#else
#define OP_X86_64 0
#endif

enum { OP_PATH_V4, OP_PATH_V3, OP_PATH_BASELINE, OP_PATH_PORTABLE, OP_PATHS };

static const char *const op_path_names[OP_PATHS] = {"x86-64-v4", "x86-64-v3", "x86-64", "portable"};

/* Asks for exactly the features that the kernels' target pragmas name (see score_matching_v3.c and _v4.c). */
static inline int op_path_supported(int path)
{
#if OP_X86_64
    __builtin_cpu_init();
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    switch (path) {
    case OP_PATH_V4:
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    case OP_PATH_V3:
        return v3;
    case OP_PATH_BASELINE:
        return 1;
    }
#endif
    return path == OP_PATH_PORTABLE;
}

/* The path in use; *refused is set when OVERPARAM_KERNEL named one that cannot be used. */
static inline int op_path_choose(int *refused)
{
    const char *wanted = getenv("OVERPARAM_KERNEL");
    int best = 0;
    *refused = 0;
    while (!op_path_supported(best)) best++;
    if (wanted == NULL || wanted[0] == '\0') return best;
    for (int path = 0; path < OP_PATHS; path++)
        if (strcmp(wanted, op_path_names[path]) == 0 && op_path_supported(path)) return path;
    *refused = 1;
    return best;
}

#define OP_FEATURES 12

static const char *const op_feature_names[OP_FEATURES] = {
    "sse2", "sse4.2", "avx", "avx2", "fma", "bmi", "bmi2", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"};

static inline int op_feature_supported(int feature)
{
#if OP_X86_64
    __builtin_cpu_init();
    switch (feature) { /* the builtin wants literals */
    case 0: return __builtin_cpu_supports("sse2") != 0;
    case 1: return __builtin_cpu_supports("sse4.2") != 0;
    case 2: return __builtin_cpu_supports("avx") != 0;
    case 3: return __builtin_cpu_supports("avx2") != 0;
    case 4: return __builtin_cpu_supports("fma") != 0;
    case 5: return __builtin_cpu_supports("bmi") != 0;
    case 6: return __builtin_cpu_supports("bmi2") != 0;
    case 7: return __builtin_cpu_supports("avx512f") != 0;
    case 8: return __builtin_cpu_supports("avx512bw") != 0;
    case 9: return __builtin_cpu_supports("avx512cd") != 0;
    case 10: return __builtin_cpu_supports("avx512dq") != 0;
    case 11: return __builtin_cpu_supports("avx512vl") != 0;
    }
#else
    (void)feature;
#endif
    return 0;
}

#endif
