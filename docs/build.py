"""Build the documentation into docs/_build/html: `pip install '.[docs]' && python docs/build.py`.

In this order: the examples of the tutorial and the how-to pages (those of the reference are docstrings, which the tests run as doctests),
the pages of the theory against their checkers, Sphinx with every warning an error (every experiment is run for the gallery), that every
public name and method is in the reference, and that every link inside the site leads somewhere. Later builds run only what has changed.
"""

from __future__ import annotations

import argparse
import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = ("tutorial.md", "howto.md")
PLAIN = {"sweeps.md": 2}  # how many blocks of a page without prompts run as they stand; the third of this one needs a cluster
MADE = ("_build", "_gallery", "gallery", "api")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "_build" / "html")
    parser.add_argument("--no-gallery", action="store_true", help="leave the experiments out: pages of the gallery are then empty")
    parser.add_argument("--fresh", action="store_true", help="forget earlier builds")
    given = parser.parse_args()
    out = given.out.resolve()
    os.environ.update(MPLBACKEND="Agg", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    began = time.perf_counter()
    if given.fresh:
        for name in MADE:
            shutil.rmtree(HERE / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:  # the examples write files, and the clone would hide the installed package
        os.chdir(folder)
        failed = sum(doctest.testfile(str(HERE / page), module_relative=False, encoding="utf-8", optionflags=doctest.ELLIPSIS).failed
                     for page in PAGES)
        if failed:
            return 1
        for page, count in PLAIN.items():
            blocks = re.findall(r"```python\n(.*?)```", (HERE / page).read_text(encoding="utf-8"), re.DOTALL)[:count]
            exec(compile("\n".join(blocks), page, "exec"), {"__name__": page})
        shutil.copyfile("run.png", HERE / "tutorial_run.png")  # what the tutorial has drawn
        os.chdir(HERE)
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html", "-d", str(HERE / "_build" / "doctrees")]
    sphinx += ["-D", "plot_gallery=0"] if given.no_gallery else []
    for command in ([sys.executable, str(HERE / "make_theory_pages.py"), "--check"], [*sphinx, str(HERE), str(out)]):
        code = subprocess.run(command).returncode
        if code:
            return code
    sys.path.insert(0, str(HERE))
    from site_api import missing
    from site_links import broken

    wrong = [f"not in the reference: {name}" for name in missing(out)] + [f"leads nowhere: {link}" for link in broken(out)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{time.perf_counter() - began:.0f} s, {sum(1 for _ in out.rglob('*.html'))} pages; {out / 'index.html'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
