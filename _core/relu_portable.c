/* The kernel of ReLU neurons for every other processor, and for compilers without vector types. 64-bit ARM has two lanes. */
#if defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define OP_LANES 2
#else
#define OP_LANES 1
#endif
#define OP_RELU op_relu_portable
#include "relu_kernel.h"
