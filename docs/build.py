"""Build the documentation into docs/_build/html: `pip install '.[docs]' && python docs/build.py`.

Runs the examples of the pages as doctests, then Sphinx with warnings as errors (a link inside the site that leads nowhere is one), which
runs every experiment for the gallery. Some ten minutes on two cores at first; later builds run what has changed.
"""

from __future__ import annotations

import argparse
import doctest
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = ("tutorial.md", "howto.md")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "_build" / "html")
    parser.add_argument("--no-gallery", action="store_true", help="leave the experiments out: pages of the gallery are then empty")
    given = parser.parse_args()
    os.environ.update(MPLBACKEND="Agg", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    began, back = time.perf_counter(), Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # the examples write files, and the clone would hide the installed package
        os.chdir(folder)
        failed = sum(doctest.testfile(str(HERE / page), module_relative=False, encoding="utf-8").failed for page in PAGES)
        os.chdir(back)
        if failed:
            return 1
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-d", str(HERE / "_build" / "doctrees")]
        command += ["-D", "plot_gallery=0"] if given.no_gallery else []
        code = subprocess.run([*command, str(HERE), str(given.out.resolve())], cwd=folder).returncode
    print(f"{time.perf_counter() - began:.0f} s; {given.out / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
