"""What the machine can do at best, on one thread: `python benchmarks/limits.py` prints it.

* dgemm of 2048 x 2048 matrices through SciPy's BLAS, the one that the kernels call;
* the kernels' own exp (AVX-512: 8 lanes) over arrays that stay in L1, compiled here from `limits.c` for the instruction set in use;
* divisions, likewise;
* reading memory: the sum of 256 MiB.

Times are of the processor, so that other work on the machine does not count, though it may still take cache, bandwidth and clock.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402  one thread comes first

CORE = Path(__file__).resolve().parent.parent / "_core"
FLAGS = {  # as setup.py and the target pragmas of _core/*_v4.c, *_v3.c
    "x86-64-v4": ["-DOP_LANES=8", "-mavx2", "-mfma", "-mbmi2", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
    "x86-64-v3": ["-DOP_LANES=4", "-mavx2", "-mfma", "-mbmi2"],
    "x86-64": ["-DOP_LANES=2"],
    "portable": ["-DOP_LANES=1"],
}
SIZE = 2048
EXPS, EXP_ROUNDS = 1024, 1000
READ = 2**25


def path() -> str:
    """Instruction set of the kernels in use."""
    from overparam._core import cpu

    return cpu.info()["path"]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The loops of limits.c; None without a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "limits.so"
        command = [*compiler.split(), "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
                   "-ffp-contract=fast", *FLAGS[path()], f"-I{CORE}", str(Path(__file__).with_name("limits.c")), "-o", str(made), "-lm"]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(made))
    library.limit_read.restype = ctypes.c_double
    return library


def _needed() -> ctypes.CDLL:
    library = _library()
    if library is None:
        raise RuntimeError("this limit needs a C compiler: set CC")
    return library


def _aligned(count: int) -> np.ndarray:
    """(count,) array that begins on a cache line."""
    memory = np.empty(8 * count + 64, dtype=np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first:first + 8 * count].view(np.float64)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@lru_cache(maxsize=1)
def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return tuple(np.asfortranarray(rng.standard_normal((SIZE, SIZE))) for _ in range(3))


def dgemm() -> None:
    """One product, SIZE^3 multiplications and as many additions."""
    from scipy.linalg.blas import dgemm

    a, b, c = _matrices()
    dgemm(1.0, a, b, c=c, overwrite_c=True)


@lru_cache(maxsize=1)
def _exponents() -> tuple[np.ndarray, np.ndarray]:
    x, y = _aligned(EXPS), _aligned(EXPS)
    x[:] = -np.random.default_rng(0).uniform(0, 50, EXPS)
    return x, y


def exponentials() -> np.ndarray:
    """EXPS * EXP_ROUNDS exponentials."""
    x, y = _exponents()
    _needed().limit_exp(_pointer(x), _pointer(y), ctypes.c_ssize_t(EXPS), ctypes.c_ssize_t(EXP_ROUNDS))
    return y


def divisions() -> np.ndarray:
    """EXPS * EXP_ROUNDS divisions."""
    x, y = _exponents()
    _needed().limit_divide(_pointer(x), _pointer(y), ctypes.c_ssize_t(EXPS), ctypes.c_ssize_t(EXP_ROUNDS))
    return y


@lru_cache(maxsize=1)
def _memory() -> np.ndarray:
    array = _aligned(READ)
    array[:] = 1.0
    return array


def read() -> float:
    """Sum of READ numbers."""
    return _needed().limit_read(_pointer(_memory()), ctypes.c_ssize_t(READ))


def products(n: int, k: int, nodes: int, block: int = 256) -> Callable[[], None]:
    """The five products of `nodes` nodes in the kernel's blocks by the kernel's BLAS, and nothing else."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__["dgemm"]
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    gemm = ctypes.c_void_p(pointer(capsule, name(capsule)))
    arrays = [_aligned(count) for count in (*(n * (block + 8),) * 2, *(k * (block + 8),) * 2, n * k, n * k)]
    for number, array in enumerate(arrays):
        array[:] = 1e-3 * np.random.default_rng(number).standard_normal(len(array))

    def run() -> None:
        arrays[-1][:] = 0.0
        _needed().limit_products(gemm, ctypes.c_ssize_t(nodes // block), block, n, k, *map(_pointer, arrays))

    return run


def have_compiler() -> bool:
    """Whether exp, divisions and memory can be measured."""
    return _library() is not None


WORK = {"dgemm": (dgemm, 2.0 * SIZE**3), "exp": (exponentials, EXPS * EXP_ROUNDS), "divide": (divisions, EXPS * EXP_ROUNDS),
        "read": (read, 8.0 * READ)}  # and how much each does


def contenders() -> dict[str, Callable]:
    """The limits that can be measured here, to be timed beside other work."""
    return {name: run for name, (run, _) in WORK.items() if name == "dgemm" or have_compiler()}


def units(times: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Median seconds of one flop, exponential, division, byte."""
    return {name: float(np.median(times[name])) / amount for name, (_, amount) in WORK.items() if name in times}


def by_round(times: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, round by round."""
    return {name: times[name] / amount for name, (_, amount) in WORK.items() if name in times}


def described(unit: Mapping[str, float]) -> str:
    """In words."""
    said = f"dgemm {SIZE}^3 {1e-9 / unit['dgemm']:.1f} Gflop/s"
    if "exp" not in unit:
        return said + "; exp, division and memory: no C compiler"
    return said + (f", exp in L1 {1e9 * unit['exp']:.2f} ns, division {1e9 * unit['divide']:.2f} ns, "
                   f"memory read {1e-9 / unit['read']:.1f} GB/s")


def main() -> None:
    from rounds import interleaved

    print(f"{path()} kernel, one thread, medians of 7 interleaved rounds of processor time")
    print(described(units(interleaved(contenders(), rounds=7))))


if __name__ == "__main__":
    main()
