/* The Hessian kernel for any 64-bit x86 processor (SSE2), two lanes. */
#include "cpu.h"

#if OP_X86_64
#define OP_LANES 2
#define OP_HESSIAN op_hessian_baseline
#include "hessian_kernel.h"
#endif
