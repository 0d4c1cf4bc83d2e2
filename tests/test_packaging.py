"""What a package is made of, looked at in the sources: `.ci/packages` builds both kinds and looks inside."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import overparam as op

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def extensions():
    """The calls of `extension(...)` in setup.py: name, C sources, headers."""
    names = {}
    for node in ast.parse(SETUP).body:
        if isinstance(node, ast.Assign):
            try:
                names[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    found = {}
    for call in ast.walk(ast.parse(SETUP)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "extension":
            given = {word.arg: names[word.value.id] if isinstance(word.value, ast.Name) else ast.literal_eval(word.value)
                     for word in call.keywords}
            found[ast.literal_eval(call.args[0])] = given
    return found


def included(path):
    """The headers of ours that a file of _core/ includes, with theirs."""
    seen, wanted = set(), [path]
    while wanted:
        text = wanted.pop().read_text(encoding="utf-8")
        names = re.findall(r'#include "([^"]+)"|cdef extern from "([^"]+)"', text)
        for name in {a or b for a, b in names} - seen:
            seen.add(name)
            wanted.append(ROOT / "_core" / name)
    return {name for name in seen if name.endswith(".h")}


def shipped(path):
    """Whether MANIFEST.in has a line for a file."""
    name = path.relative_to(ROOT).as_posix()
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        command, *words = line.split()
        if command == "include" and name in words:
            return True
        if command == "recursive-include" and name.startswith(words[0] + "/") and any(fnmatch(path.name, word) for word in words[1:]):
            return True
    return False


def test_packages_are_those_on_disk():
    on_disk = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "overparam").rglob("__init__.py")
               if not {"_core", "__pycache__"} & set(path.parts)}
    assert sorted(SETTINGS["tool"]["setuptools"]["packages"]) == sorted(on_disk | {"overparam._core"})


def test_every_kernel_is_built_and_has_its_stub():
    kernels = {path.stem for path in (ROOT / "_core").glob("*.pyx")}
    assert set(extensions()) == kernels
    assert {path.stem for path in (ROOT / "_core").glob("*.pyi")} == kernels


@pytest.mark.parametrize("name", extensions())
def test_a_change_of_any_header_builds_anew(name):
    """The headers that setup.py lists for an extension are those that it includes."""
    given = extensions()[name]
    sources = [ROOT / "_core" / f"{name}.pyx", *(ROOT / "_core" / f"{source}.c" for source in given.get("sources", []))]
    assert set(given.get("headers", [])) == set().union(*map(included, sources))


def test_no_source_is_left_over():
    """Every C file and header of _core/ belongs to an extension."""
    given = extensions().values()
    used = {f"{source}.c" for each in given for source in each.get("sources", [])} | {h for each in given for h in each.get("headers", [])}
    assert {path.name for path in (ROOT / "_core").iterdir() if path.suffix in {".c", ".h"}} == used


def test_the_manifest_covers_what_builds_and_tests_need():
    folders = {"_core": (".py", ".pyx", ".pyi", ".h", ".c"), "overparam": (".py", ".typed"), "tests": (".py",), "benchmarks": (".py", ".c"),
               "docs": (".md", ".py", ".png", ".csv", ".svg"), "examples": (".ipynb", ".py")}
    files = [path for folder, kinds in folders.items() for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    assert len(files) > 400
    assert [path for path in files if not shipped(path)] == []
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        assert shipped(ROOT / name)


def test_the_version_is_in_one_place():
    """CITATION.cff has to say it once more, and an unreleased heading of the changelog may."""
    assert importlib.metadata.version("overparam") == op.__version__
    assert "version" in SETTINGS["project"]["dynamic"]
    assert SETTINGS["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "overparam._version.__version__"}
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1] == op.__version__
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1] == op.__version__


def test_every_dependency_is_used():
    """What pip installs is imported somewhere in the package, and nothing else is, but for extras."""
    imported = set()
    for path in (ROOT / "overparam").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    project = SETTINGS["project"]
    required, extras = ({re.match(r"[\w-]+", line)[0] for line in lines} for lines in (
        project["dependencies"], [line for name in ("cluster", "torch", "jax") for line in project["optional-dependencies"][name]]))
    foreign = imported - set(sys.stdlib_module_names) - {"overparam"}
    assert required - {"h5py"} <= foreign <= required | extras  # h5netcdf works through h5py, which it does not install
