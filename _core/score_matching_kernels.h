/* One compiled copy of the kernels: the including file sets OP_LANES, OP_TABLE and, around this, the target. */
#include "score_matching_sums.h"
#include "score_matching_checks.h"

const op_kernels OP_TABLE = {op_evaluate, op_evaluate_shares, op_is_near, op_evaluate_stein, op_majorants};
