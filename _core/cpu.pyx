"""Instruction sets: what this CPU has and which copy of the kernels is in use."""

import os

cdef extern from "cpu.h":
    enum:
        OP_PATHS
        OP_FEATURES
    const char *op_path_names[]
    const char *op_feature_names[]
    int op_path_supported(int path) nogil
    int op_path_choose(int *refused) nogil
    int op_feature_supported(int feature) nogil


# Chosen at import, like in the kernel modules: a later change of the environment changes neither.
cdef int _refused = 0
cdef int _path = op_path_choose(&_refused)
_wanted = os.environ.get("OVERPARAM_KERNEL", "")


def info():
    """The path in use, the paths this machine supports and its CPU features, as a dict.

    A key "warning" is present when OVERPARAM_KERNEL named a path that does not exist or cannot run here.
    """
    result = {
        "path": op_path_names[_path].decode(),
        "supported": [op_path_names[p].decode() for p in range(OP_PATHS) if op_path_supported(p)],
        "features": [op_feature_names[f].decode() for f in range(OP_FEATURES) if op_feature_supported(f)],
    }
    if _refused:
        result["warning"] = (
            f"OVERPARAM_KERNEL={_wanted!r} is unknown or not supported on this machine; "
            f"using {result['path']!r}. Supported: {', '.join(result['supported'])}."
        )
    return result
