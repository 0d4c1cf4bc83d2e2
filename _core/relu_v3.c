/* The kernel of ReLU neurons for AVX2 with fused multiply-add (level x86-64-v3), four lanes. op_path_supported asks for the features
 * named here. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#if OP_X86_64
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi2")
#endif

#define OP_LANES 4
#define OP_RELU op_relu_v3
#include "relu_kernel.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
