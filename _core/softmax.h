/* The softmax of the project, written once: from logits, from factors, and as a difference from the prior weights.
 *
 * One polynomial serves both exponentials. With |r| <= ln(2)/2 * 1.0005,
 *     growth(r) = (exp(r) - 1)/r = 1 + r second_growth(r)
 * to 2.5e-17 relative (degree 10, interpolated at Chebyshev nodes in 40 digits).
 */
#ifndef OP_SOFTMAX_H
#define OP_SOFTMAX_H

#include "vector.h"

OP_INLINE vec op_second_growth(vec r)
{
    vec p = r * 2.5105259538448494e-08 + 2.7626426376580335e-07;
    p = p * r + 2.7557255297969643e-06;
    p = p * r + 2.4801504180837137e-05;
    p = p * r + 0.0001984126987490126;
    p = p * r + 0.0013888888932619635;
    p = p * r + 0.008333333333326112;
    p = p * r + 0.04166666666657277;
    p = p * r + 0.1666666666666667;
    return p * r + 0.5000000000000006;
}

OP_INLINE vec op_growth(vec r) { return op_second_growth(r) * r + 1.0; }

/* exp(x) - 1 for |x| <= 0.3466: relative accuracy however small x is. */
OP_INLINE vec op_expm1_small(vec x) { return x * op_growth(x); }

#define OP_EXP_LOWEST (-600.0)

/* exp(x) for x <= 0; exactly 0 below -600, long before results become denormal (those cost 15-28 times more).
 * x = n ln 2 + r; adding 1.5 * 2^52 rounds to the integer n and leaves it in the low bits of the sum. For x so low
 * that this fails the garbage is masked away; NaN passes the mask and comes out as NaN. */
OP_INLINE vec op_exp_nonpositive(vec x)
{
    const double round = 6755399441055744.0;
    vec shifted = x * 1.4426950408889634 + round;
    vec n = shifted - round;
    vec r = x - n * 0.6931471803691238; /* 32 bits of ln 2: the product is exact */
    r = r - n * 1.9082149292705877e-10;
    vec scale = OP_AS_VEC((OP_AS_BITS(shifted) + 1023) << 52);
    vec result = scale + scale * op_expm1_small(r);
    return OP_AS_VEC(OP_AS_BITS(result) & ~OP_LESS(x, op_splat(OP_EXP_LOWEST)));
}

/* One chunk of nodes; entry (i, node) of `p` is at p[i * stride + node]. Replaces logits by exp(logit - max) and
 * returns their sum, so that weight i is p_i / sum, and the maxima where `top` is not NULL. A NaN logit makes the sum
 * NaN, and so do logits that are all -infinity. */
OP_INLINE void op_softmax_unnormalised(double *p, ptrdiff_t n, ptrdiff_t stride, vec sum[OP_PARTS], vec *top)
{
    vec highest[OP_PARTS];
    for (int v = 0; v < OP_PARTS; v++) highest[v] = op_load(p + v * OP_LANES);
    for (ptrdiff_t i = 1; i < n; i++)
        for (int v = 0; v < OP_PARTS; v++) highest[v] = op_max(op_load(p + i * stride + v * OP_LANES), highest[v]);
    for (int v = 0; top && v < OP_PARTS; v++) top[v] = highest[v];
    for (int v = 0; v < OP_PARTS; v++) sum[v] = op_splat(0.0);
    for (ptrdiff_t i = 0; i < n; i++)
        for (int v = 0; v < OP_PARTS; v++) {
            double *entry = p + i * stride + v * OP_LANES;
            vec e = op_exp_nonpositive(op_load(entry) - highest[v]);
            op_store(entry, e);
            sum[v] += e;
        }
}

/* The same, from factors exp(partial logit - its own max): p_i = inner_i * outer_i. The caller guarantees that the
 * product of the smallest factors is above exp(-600), so that neither the sum nor a weight underflows. */
OP_INLINE void op_softmax_from_factors(const double *inner, ptrdiff_t inner_stride, const double *outer,
                                       ptrdiff_t outer_stride, double *p, ptrdiff_t n, ptrdiff_t stride,
                                       vec sum[OP_PARTS])
{
    for (int v = 0; v < OP_PARTS; v++) sum[v] = op_splat(0.0);
    for (ptrdiff_t i = 0; i < n; i++) {
        vec factor = op_splat(outer[i * outer_stride]);
        for (int v = 0; v < OP_PARTS; v++) {
            vec e = op_load(inner + i * inner_stride + v * OP_LANES) * factor;
            op_store(p + i * stride + v * OP_LANES, e);
            sum[v] += e;
        }
    }
}

/* Close to the prior weights pi: with p_i = exp(l_i) - 1 and P = sum_j pi_j p_j,
 *     w_i - pi_i = pi_i (p_i - P) / (1 + P),
 * which loses nothing however small the l_i are. Replaces logits by p_i and returns P. A caller who knows
 * sum_j pi_j l_j better than by summing it, since it nearly cancels, passes it as `linear`; else that is NULL. */
OP_INLINE void op_softmax_shift(double *p, ptrdiff_t n, ptrdiff_t stride, const double *prior, vec mean[OP_PARTS],
                                const vec *linear)
{
    for (int v = 0; v < OP_PARTS; v++) mean[v] = linear ? linear[v] : op_splat(0.0);
    for (ptrdiff_t i = 0; i < n; i++) {
        vec weight = op_splat(prior[i]);
        for (int v = 0; v < OP_PARTS; v++) {
            double *entry = p + i * stride + v * OP_LANES;
            vec l = op_load(entry);
            if (linear) {
                vec rest = l * l * op_second_growth(l);
                op_store(entry, l + rest);
                mean[v] += weight * rest;
            } else {
                vec e = op_expm1_small(l);
                op_store(entry, e);
                mean[v] += weight * e;
            }
        }
    }
}

/* The same from factors: exp(l + m) - 1 = p + q + p q with p and q of the two parts. `known` is NULL, or
 * sum_j pi_j (p_j + q_j). */
OP_INLINE void op_softmax_shift_from_factors(const double *inner, ptrdiff_t inner_stride, const double *outer,
                                             ptrdiff_t outer_stride, double *p, ptrdiff_t n, ptrdiff_t stride,
                                             const double *prior, vec mean[OP_PARTS], const vec *known)
{
    for (int v = 0; v < OP_PARTS; v++) mean[v] = known ? known[v] : op_splat(0.0);
    for (ptrdiff_t i = 0; i < n; i++) {
        double factor = outer[i * outer_stride];
        vec weight = op_splat(prior[i]);
        for (int v = 0; v < OP_PARTS; v++) {
            vec part = op_load(inner + i * inner_stride + v * OP_LANES);
            vec e = factor + part * (1.0 + factor);
            op_store(p + i * stride + v * OP_LANES, e);
            mean[v] += weight * (known ? part * factor : e);
        }
    }
}

#endif
