"""Build of the compiled core; everything else about the package is in pyproject.toml."""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No -ffast-math: gcc would then set flush-to-zero for the whole process, and NaN checks would vanish.
# Each relaxation below leaves infinities, NaN and the order of additions alone.
GNU_FLAGS = [
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffp-contract=fast",
]
MSVC_FLAGS = ["/O2"]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": True,
}

KERNELS = ["score_matching_v4", "score_matching_v3", "score_matching_baseline", "score_matching_portable"]
HEADERS = [
    "evaluator.h",
    "cpu.h",
    "vector.h",
    "softmax.h",
    "log_ratio.h",
    "score_matching.h",
    "score_matching_block.h",
    "score_matching_blas.h",
    "score_matching_gradient.h",
    "score_matching_sums.h",
    "threads.h",
    "score_matching_checks.h",
    "score_matching_kernels.h",
]
HESSIAN_KERNELS = ["hessian_v4", "hessian_v3", "hessian_baseline", "hessian_portable"]
HESSIAN_HEADERS = ["cpu.h", "vector.h", "softmax.h", "hessian.h", "hessian_kernel.h"]
RELU_KERNELS = ["relu_v4", "relu_v3", "relu_baseline", "relu_portable"]
RELU_HEADERS = ["evaluator.h", "cpu.h", "vector.h", "relu.h", "relu_kernel.h"]
REVERSE_KERNELS = ["reverse_fisher_v4", "reverse_fisher_v3", "reverse_fisher_baseline", "reverse_fisher_portable"]
REVERSE_HEADERS = ["evaluator.h", "cpu.h", "vector.h", "softmax.h", "reverse_fisher.h", "reverse_fisher_kernel.h"]


def extension(name, sources=(), headers=()):
    return Extension(
        f"overparam._core.{name}",
        [f"_core/{name}.pyx", *(f"_core/{source}.c" for source in sources)],
        include_dirs=["_core"],
        depends=[f"_core/{header}" for header in headers],
    )


class BuildCore(build_ext):
    """Passes each compiler the flags it understands, and compiles as many extensions at a time as there are processors."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        flags = MSVC_FLAGS if self.compiler.compiler_type == "msvc" else GNU_FLAGS
        libraries = [] if sys.platform == "win32" else ["m", "pthread"]
        for ext in self.extensions:
            ext.extra_compile_args = flags
            ext.libraries = libraries
        super().build_extensions()


extensions = [
    extension("cpu", headers=["cpu.h"]),
    extension("envelopes", headers=["envelopes.h"]),
    extension("threads", sources=["pool"], headers=["threads.h"]),
    extension("score_matching", sources=KERNELS, headers=HEADERS),
    extension("descent", headers=["evaluator.h", "descent.h", "threads.h"]),
    extension("chart", headers=["evaluator.h", "chart.h"]),
    extension("sampling"),
    extension("hessian", sources=HESSIAN_KERNELS, headers=HESSIAN_HEADERS),
    extension("factorization", headers=["evaluator.h", "factorization.h"]),
    extension("relu", sources=RELU_KERNELS, headers=RELU_HEADERS),
    extension("reverse_fisher", sources=REVERSE_KERNELS, headers=REVERSE_HEADERS),
    extension("weighted_sum", headers=["evaluator.h", "weighted_sum.h"]),
]

setup(
    ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, build_dir="build/cython"),
    cmdclass={"build_ext": BuildCore},
)
