/* The reverse-Fisher kernel for any 64-bit x86 processor (SSE2), two lanes. */
#include "cpu.h"

#if OP_X86_64
#define OP_LANES 2
#define OP_TABLE op_reverse_baseline
#include "reverse_fisher_kernel.h"
#endif
