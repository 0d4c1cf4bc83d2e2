/* Vectors of OP_LANES doubles, in the compiler's own vector extension (plain doubles when OP_LANES is 1).
 *
 * The width is fixed per instruction set: a 64-byte vector type compiled for AVX2 is several times slower than a
 * 32-byte one. Nodes are processed in chunks of OP_CHUNK whatever the width, so padding and layout are the same
 * everywhere.
 */
#ifndef OP_VECTOR_H
#define OP_VECTOR_H

#include <stddef.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#if OP_X86_64
#include <immintrin.h>
#endif

#define OP_CHUNK 8
#define OP_PARTS (OP_CHUNK / OP_LANES)
#define OP_ROUND_UP(count) (((count) + OP_CHUNK - 1) / OP_CHUNK * OP_CHUNK)

#if defined(__GNUC__) || defined(__clang__)
#define OP_INLINE static inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define OP_INLINE static __forceinline
#else
#define OP_INLINE static inline
#endif

#if OP_LANES > 1
typedef double vec __attribute__((vector_size(8 * OP_LANES)));
typedef uint64_t bits __attribute__((vector_size(8 * OP_LANES)));
#define OP_AS_VEC(x) ((vec)(x))
#define OP_AS_BITS(x) ((bits)(x))
#define OP_LESS(x, y) ((bits)((x) < (y))) /* all ones where true; false for NaN */
#else
typedef double vec;
typedef uint64_t bits;
OP_INLINE vec OP_AS_VEC(bits x) { vec y; memcpy(&y, &x, sizeof y); return y; }
OP_INLINE bits OP_AS_BITS(vec x) { bits y; memcpy(&y, &x, sizeof y); return y; }
#define OP_LESS(x, y) ((bits)0 - (bits)((x) < (y)))
#endif

OP_INLINE vec op_splat(double x)
{
#if OP_LANES == 8
    return (vec){x, x, x, x, x, x, x, x};
#elif OP_LANES == 4
    return (vec){x, x, x, x};
#elif OP_LANES == 2
    return (vec){x, x};
#else
    return x;
#endif
}

/* All arrays the kernels touch are 64-byte aligned and padded to whole chunks. */
OP_INLINE vec op_load(const double *p) { return *(const vec *)p; }
OP_INLINE void op_store(double *p, vec x) { *(vec *)p = x; }

OP_INLINE vec op_select(bits mask, vec yes, vec no)
{
    return OP_AS_VEC((OP_AS_BITS(yes) & mask) | (OP_AS_BITS(no) & ~mask));
}

/* NaN in x is dropped, NaN in y stays. One instruction on x86, which the compiler does not find by itself. */
OP_INLINE vec op_max(vec x, vec y)
{
#if OP_X86_64 && OP_LANES == 8
    return (vec)_mm512_max_pd((__m512d)x, (__m512d)y);
#elif OP_X86_64 && OP_LANES == 4
    return (vec)_mm256_max_pd((__m256d)x, (__m256d)y);
#elif OP_X86_64 && OP_LANES == 2
    return (vec)_mm_max_pd((__m128d)x, (__m128d)y);
#else
    return op_select(OP_LESS(y, x), x, y);
#endif
}

OP_INLINE vec op_min(vec x, vec y) { return op_select(OP_LESS(x, y), x, y); }

OP_INLINE vec op_sqrt(vec x)
{
#if OP_X86_64 && OP_LANES == 8
    return (vec)_mm512_sqrt_pd((__m512d)x);
#elif OP_X86_64 && OP_LANES == 4
    return (vec)_mm256_sqrt_pd((__m256d)x);
#elif OP_X86_64 && OP_LANES == 2
    return (vec)_mm_sqrt_pd((__m128d)x);
#else
    double lane[OP_LANES];
    memcpy(lane, &x, sizeof lane);
    for (int i = 0; i < OP_LANES; i++) lane[i] = sqrt(lane[i]);
    memcpy(&x, lane, sizeof lane);
    return x;
#endif
}

/* Sum of the first `count` stored doubles, in a fixed order. */
OP_INLINE double op_total(const double *p, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++) sum += p[i];
    return sum;
}

#endif
