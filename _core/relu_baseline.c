/* The kernel of ReLU neurons for any 64-bit x86 processor (SSE2), two lanes. */
#include "cpu.h"

#if OP_X86_64
#define OP_LANES 2
#define OP_RELU op_relu_baseline
#include "relu_kernel.h"
#endif
