"""The gallery: a script for every experiment, written for sphinx-gallery, which runs it while the site is built."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpydoc.docscrape import NumpyDocString

import overparam as op

PAPERS = {
    "zhang2025": "Zhang et al. 2025: score matching of one Gaussian", "tyurin2026": "Tyurin 2026: the reverse Fisher divergence",
    "xu2024": "Xu et al. 2024: gradient EM", "zhou2025": "Zhou et al. 2025: recovery of mixtures",
    "zhang2026": "Zhang et al. 2026: hybrid EM",
    "xu2023": "Xu and Du 2023: one ReLU neuron", "luo2025": "Luo et al. 2025: four-layer factorization",
}
# Settings other than the defaults, where these would take the site's builder a minute or more; docs/findings has what all of them give.
SHORTER: dict[str, dict[str, Any]] = {
    "zhang2025.covariance": {"along": (0.5, 1.0, 2.0), "M": (4.0, 6.0)},
    "zhang2025.far_geometry": {"angle": (0.05, 0.5, 2.0), "far": (2,)},
    "zhang2025.noise_averaging": {"T": (0.5, 1.0), "d": (1,)},
}


def write(folder: Path) -> None:
    """Write a folder for each paper, a script for each experiment."""
    _put(folder / "README.rst", "Gallery\n=======\n\nEvery experiment of the library, run while this site was built. Each is one call in "
                                "Python, or ``overparam reproduce NAME`` at a terminal.\n")
    for paper, title in PAPERS.items():
        _put(folder / paper / "README.rst", f"{title}\n{'-' * len(title)}\n")
    for name in op.experiments.list():
        paper, short = name.split(".")
        _put(folder / paper / f"plot_{paper}_{short}.py", _script(name))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _script(name: str) -> str:
    """What sphinx-gallery runs and shows: an experiment's docstring, its call, its picture, its data, its settings."""
    documentation = NumpyDocString(inspect.getdoc(op.experiments.registry._entry(name).function) or "")
    told = "\n".join([*documentation["Summary"], "", *documentation["Extended Summary"]])
    given = SHORTER.get(name, {})
    call = ", ".join([f'"{name}"', *(f"{key}={value!r}" for key, value in given.items())])
    note = "These are the experiment's own settings."
    if given:
        note = "These settings are smaller than the experiment's own, of which :doc:`/findings` tells."
    short = name.partition(".")[2]
    return f'''r"""
{short}
{"=" * len(short)}

{told}

{note} At a terminal: ``overparam reproduce {name}``.
"""

import overparam as op

result = op.experiments.run({call})
print(result.summary())

# %%
# ``result.draw("picture.png")`` writes the picture, ``result.save("data.nc")`` the data, which are:
result.to_xarray()

# %%
# Settings
# --------
#
{_commented(_settings(name, documentation["Parameters"]))}
'''


def _settings(name: str, parameters: list[Any]) -> list[str]:
    """Settings with their defaults, as a list of definitions."""
    defaults = op.experiments.registry.defaults(name)
    lines = []
    for names, kind, words in parameters:
        shown = [f"{each} = {defaults[each]!r}" if each in defaults else each for each in names.replace(" ", "").split(",")]
        lines += [", ".join(f"``{each}``" for each in shown), *(f"    {line}" for line in words or [f"*{kind}*"])]
    return [re.sub(r"^(    )(?=\w[.)])", r"\1\\ ", line) for line in lines]  # a sentence that begins like an item of a list is none


def _commented(lines: list[str]) -> str:
    return "\n".join(f"# {line}".rstrip() for line in lines)


def scraper(block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the picture of the experiment that a script's first block has run."""
    variables = block_vars["example_globals"]
    if "result" not in variables or "_drawn" in variables:
        return ""
    variables["_drawn"] = True
    paths: Iterator[str] = block_vars["image_path_iterator"]
    path = next(paths)
    variables["result"].figure().savefig(path, dpi=150)
    return f"\n.. image:: /{Path(path).relative_to(gallery_conf['src_dir']).as_posix()}\n   :alt: {variables['result'].name}\n\n"
