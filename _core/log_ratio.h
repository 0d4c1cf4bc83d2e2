/* Logarithms for the likelihood kernels: ln x of sums of exponentials, and x - ln(1 + x) where it is all that is left.
 *
 * Both use ln((1 + s)/(1 - s)) = 2 s + 2 s^3 (1/3 + s^2/5 + s^4/7 + ...). For |s| <= 0.1716 the terms kept here leave
 * out less than 1e-18 of 2 s.
 */
#ifndef OP_LOG_RATIO_H
#define OP_LOG_RATIO_H

#include "vector.h"

/* 1/3 + z/5 + z^2/7 + ... for 0 <= z <= 0.02945 */
OP_INLINE vec op_arc(vec z)
{
    vec p = z * (1.0 / 25.0) + 1.0 / 23.0;
    p = p * z + 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    return p * z + 1.0 / 3.0;
}

/* ln x for positive normal x: x = 2^e m with m in [sqrt(1/2), sqrt(2)). NaN comes out as NaN. */
OP_INLINE vec op_log(vec x)
{
    const uint64_t half_root = 0x3fe6a09e667f3bcdULL, one = 0x3ff0000000000000ULL, magic = 0x4330000000000000ULL;
    bits shifted = OP_AS_BITS(x) + (one - half_root);
    vec e = OP_AS_VEC((shifted >> 52) | magic) - (4503599627370496.0 + 1023.0);
    vec m = OP_AS_VEC((shifted & 0x000fffffffffffffULL) + half_root);
    vec f = m - 1.0, s = f / (2.0 + f), z = s * s;
    /* 2 s = f - f s, which keeps the leading term exact; 32 bits of ln 2 make e ln 2 exact */
    vec log = e * 0.6931471803691238 + (f + (e * 1.9082149292705877e-10 - s * (f - 2.0 * z * op_arc(z))));
    return log + (x - x); /* NaN and infinity stay visible */
}

/* x - ln(1 + x) for |ln(1 + x)| <= 0.343, of which nothing cancels: s = x/(2 + x) gives x s - 2 s^3 (1/3 + ...). */
OP_INLINE vec op_log_excess(vec x)
{
    vec s = x / (2.0 + x), z = s * s;
    return s * (x - 2.0 * z * op_arc(z));
}

#endif
