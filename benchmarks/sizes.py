"""What having the library costs: import time and memory beside NumPy's, sizes of its packages, dependencies: `python benchmarks/sizes.py`.

Imports are timed in fresh interpreters that take turns, by processor time, with bytecode cached as after an installation; the first of each
is thrown away. Memory is the process's peak, on Linux. `--dist DIR` looks at an sdist and a wheel there (`.ci/packages DIR` makes them)
instead of building them, which takes a minute and needs build; `--no-dist` leaves them out. What it prints is docs/sizes.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from rounds import spread

import overparam

ROOT = Path(__file__).parents[1]

#: What is imported, in words and in code.
IMPORTS = {
    "nothing": "pass",
    "`import numpy`": "import numpy",
    "`import overparam`": "import overparam",
    "its objectives and drivers": "from overparam import ScoreMatching, gradient_descent",
    "a first run": "import overparam as op\n"
                   "op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[2.0], [1.5]], step_size=0.1, steps=5)",
    "`import scipy.stats`": "import scipy.stats",
    "`import matplotlib.pyplot`": "import matplotlib.pyplot",
}

#: Why each dependency is one.
REASONS = {
    "numpy": "arrays, random numbers",
    "scipy": "BLAS for kernels, special functions, Hermite nodes, ODE solvers, Sobol points",
    "matplotlib": "figures of experiments, `plotting`",
    "xarray": "`to_xarray`, results with named axes",
    "h5netcdf": "netCDF files of trajectories and sweeps",
    "h5py": "what h5netcdf reads and writes HDF5 with",
    "joblib": "`sweep` over processes, threads and clusters",
    "threadpoolctl": "one thread of BLAS inside sweeps and beside the library's own threads",
    "tqdm": "progress bars",
    "typer": "the command line",
}

IMPORTS_IN_WORDS = """\
`import overparam` loads NumPy, the compiled core's first module and nothing else: a name loads its module when it is first used, SciPy's
submodules, matplotlib and xarray later still. Times are the processor's in fresh interpreters that take turns, with bytecode cached, median
and range of the ratios; memory is the process's peak.
"""

SCRIPT = """
import time
began = time.process_time()
{code}
spent = time.process_time() - began
try:  # of this program alone; getrusage also knows what started it
    peak = float(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
except OSError:
    peak = float("nan")
print(spent, peak)
"""


def fresh(code: str) -> tuple[float, float]:
    """Milliseconds of the processor, and MiB at the peak, in a new interpreter."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT.format(code=code)], check=True, capture_output=True, text=True, env=settings)
    spent, peak = map(float, done.stdout.split())
    return 1e3 * spent, peak / 2**10


def imports(rounds: int) -> None:
    found: dict[str, list] = {what: [] for what in IMPORTS}
    for _ in range(rounds + 1):
        for what, code in IMPORTS.items():
            found[what].append(fresh(code))
    table = {what: np.array(each[1:]) for what, each in found.items()}
    base = table["`import numpy`"]
    print(f"| {rounds} fresh processes each | processor time | over NumPy's | peak memory | above Python's own |\n|---|---|---|---|---|")
    for what, each in table.items():
        time, peak = np.median(each, axis=0)
        ratio = "" if what == "nothing" else spread(each[:, 0] / base[:, 0], 2)
        print(f"| {what} | {time:.1f} ms | {ratio} | {peak:.1f} MiB | {peak - np.median(table['nothing'][:, 1]):.1f} MiB |")


def packages(folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            folder = Path(made)
            subprocess.run([sys.executable, "-m", "build", "--outdir", made, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
        [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
        with zipfile.ZipFile(wheel) as archive:
            files = archive.infolist()
            whole = sum(file.file_size for file in files)
            core = sum(file.file_size for file in files if file.filename.endswith((".so", ".pyd")))
        print("| package | size |\n|---|---|")
        print(f"| sdist | {sdist.stat().st_size / 1e6:.2f} MB |")
        print(f"| wheel ({wheel.stem.split('-', 2)[2]}) | {wheel.stat().st_size / 1e6:.2f} MB |")
        print(f"| installed | {whole / 1e6:.2f} MB in {len(files)} files, {core / 1e6:.2f} MB of it the compiled core; without bytecode |")


def required(name: str, seen: set[str]) -> set[str]:
    """A distribution's dependencies and theirs, as installed here."""
    for line in importlib.metadata.requires(name) or []:
        spec, _, marker = line.partition(";")
        child = re.match(r"[\w.-]+", spec.strip())[0].lower().replace("_", "-")
        if child in seen or "extra" in marker:
            continue
        try:
            importlib.metadata.version(child)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system, or of another Python
        seen.add(child)
        required(child, seen)
    return seen


def size_of(name: str) -> float:
    """Megabytes of a distribution's files."""
    return sum(file.locate().stat().st_size for file in importlib.metadata.files(name) or [] if file.locate().is_file()) / 1e6


def dependencies() -> None:
    direct = [re.match(r"[\w.-]+", line)[0] for line in importlib.metadata.requires("overparam") if "extra ==" not in line]
    every = required("overparam", set())
    print(f"{len(direct)} dependencies; with theirs {len(every)}, {sum(map(size_of, every)):.0f} MB on disk. All but NumPy are imported "
          "when first used; Dask, PyTorch and JAX are extras.\n")
    print("| dependency | on disk | what for |\n|---|---|---|")
    for name in direct:
        print(f"| {name} {importlib.metadata.version(name)} | {size_of(name):.1f} MB | {REASONS[name]} |")
    rest = every - set(direct)
    print(f"| what these need | {sum(map(size_of, rest)):.1f} MB | {', '.join(sorted(rest))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dist", type=Path)
    parser.add_argument("--no-dist", action="store_true")
    arguments = parser.parse_args()
    print("# What having it costs\n")
    print(f"Printed by `python benchmarks/sizes.py`: overparam {overparam.__version__}, {datetime.date.today()}, {platform.system()} "
          f"{platform.machine()}, Python {platform.python_version()}.\n\n## Importing it\n")
    print(IMPORTS_IN_WORDS)
    imports(arguments.rounds)
    if not arguments.no_dist:
        print("\n## Packages\n")
        packages(arguments.dist)
    print("\n## Dependencies\n")
    dependencies()


if __name__ == "__main__":
    main()
