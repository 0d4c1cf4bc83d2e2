/* The kernel of ReLU neurons for AVX-512 (level x86-64-v4), eight lanes. op_path_supported asks for the features named here. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#if OP_X86_64
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2,avx512f,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi2,avx512f,avx512dq,avx512vl,prefer-vector-width=512")
#endif

#define OP_LANES 8
#define OP_RELU op_relu_v4
#include "relu_kernel.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
