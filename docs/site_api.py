"""Pages of the API reference: one for each public module, made from its ``__all__``, so that no public name is left out."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sphinx.ext.autodoc.mock import mock
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inventory import InventoryFile

# Modules and what they are for, in the order of the reference. tests/test_docstrings.py checks the docstrings of the same ones.
MODULES = {
    "overparam.teachers": "Targets", "overparam.data_sets": "Data as a target", "overparam.objectives": "Losses",
    "overparam.planning": "Rules that choose nodes", "overparam.quadrature": "Rules of a fixed size",
    "overparam.sampling": "Samples", "overparam.nodes": "What rules make: nodes",
    "overparam.init": "Starting points", "overparam.state": "States", "overparam.factors": "Factors of a product",
    "overparam.drivers": "Runs", "overparam.trajectory": "What a run returns", "overparam.verification": "How far a run can be trusted",
    "overparam.rates": "Slopes and laws", "overparam.regimes": "Regimes", "overparam.stationary": "Stationary points",
    "overparam.distances": "Distances of mixtures", "overparam.theory": "Statements and verdicts", "overparam.experiments": "Experiments",
    "overparam.sweeps": "Sweeps", "overparam.store": "Where sweeps are kept", "overparam.measures": "What sweeps keep of a run",
    "overparam.config": "Problems in files", "overparam.plotting": "Pictures", "overparam.interop.torch": "In PyTorch",
    "overparam.interop.jax": "In JAX", "overparam.interop.scipy": "In scipy.optimize",
}
EXTRAS = ["torch", "jax"]  # need not be installed: the pages of what wraps them are made without
# In a module's __all__ for other modules of the package, not for users.
BETWEEN_MODULES = {"check_observe", "check_schedule", "schedule_from_description", "rule_from_description", "teacher_from_description",
                   "from_description", "offset_of", "hash_of", "versions_here", "from_tables", "parse", "read", "check_measures",
                   "measured"}
TOP = "overparam"


def import_extras() -> None:
    """Import what wraps the extras, with something in the place of those that are not installed."""
    with mock([name for name in EXTRAS if importlib.util.find_spec(name) is None]):
        for name in EXTRAS:
            extra: Any = importlib.import_module(name)
            if name == "torch" and getattr(extra, "__sphinx_mock__", False):
                extra.autograd = SimpleNamespace(Function=type("Function", (), {"apply": None}))  # a base, of which more is asked
            importlib.import_module(f"{TOP}.interop.{name}")


def names_of(module: str) -> dict[str, Any]:
    """Public classes and functions of a module."""
    found = importlib.import_module(module)
    members = {name: getattr(found, name) for name in found.__all__ if name not in BETWEEN_MODULES}
    return {name: it for name, it in members.items() if callable(it) and not inspect.ismodule(it)}


def constants_of(module: str) -> dict[str, Any]:
    """Public tables and numbers of a module."""
    found = importlib.import_module(module)
    members = {name: getattr(found, name) for name in found.__all__ if not name.startswith("__")}
    return {name: it for name, it in members.items() if not callable(it) and not inspect.ismodule(it)}


def path_of(module: str, name: str) -> str:
    """The name by which users reach it: from the package itself where that has it."""
    return f"{TOP}.{name}" if names_of(TOP).get(name) is names_of(module)[name] else f"{module}.{name}"


def paths() -> Iterator[str]:
    """Every public class, function and constant."""
    yield from (f"{TOP}.{name}" for name in names_of(TOP))
    for module in MODULES:
        yield from (path_of(module, name) for name in names_of(module))
        yield from (f"{module}.{name}" for name in constants_of(module))


def missing(built: Path) -> list[str]:
    """Public names, and public methods of classes, that the site in a folder does not describe."""
    import_extras()
    with (built / "objects.inv").open("rb") as stream:
        inventory: Any = InventoryFile.load(stream, "", lambda base, path: path)  # newer ones of Sphinx keep the entries in `data`
    described = {name for kind, entries in getattr(inventory, "data", inventory).items() if kind.startswith("py:") for name in entries}
    wanted = set(paths())
    for path in paths():
        module, _, name = path.rpartition(".")
        it = names_of(module).get(name)
        if inspect.isclass(it):
            wanted |= {f"{path}.{key}" for base in it.__mro__ if base.__module__.startswith(TOP) for key, member in vars(base).items()
                       if not key.startswith("_") and inspect.isfunction(member)}
    return sorted(wanted - described)


def write(folder: Path) -> None:
    """Write the pages into `folder`."""
    import_extras()
    folder.mkdir(exist_ok=True)
    pages = {f"{module}.rst": _page(module, title) for module, title in MODULES.items()}
    pages["index.rst"] = _index()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # unchanged pages are not built again
            path.write_text(text, encoding="utf-8")


def _index() -> str:
    rows = "\n".join(f"   {title} <{module}>" for module, title in MODULES.items())
    tables = [_table(what, names, toctree=False) for what, names in _sorted(names_of(TOP))]
    current = f".. currentmodule:: {TOP}\n"  # names below are from there on
    alone = [name for name in names_of(TOP) if not any(name in names_of(module) for module in MODULES)]  # have no module of their own
    modules = "\n".join(f"   * - :doc:`{module} <{module}>`\n     - {title}" for module, title in MODULES.items())
    return "\n".join([
        _heading("API reference"), "Every public name. Those of the first two tables are in ``overparam`` itself, which scripts import as "
        "``op``; the others are in its modules, ``op.rates.fit_power_law`` for one.\n",
        f".. toctree::\n   :hidden:\n   :maxdepth: 2\n\n{rows}\n", current, *tables,
        _heading("Modules", "-"), f".. list-table::\n   :widths: auto\n\n{modules}\n", _table("Of no module", alone)])


def _page(module: str, title: str) -> str:
    parts = [_heading(title), f"``{module}``\n", f".. automodule:: {module}\n   :no-members:\n",
             f".. currentmodule:: {TOP}\n"]
    parts += [_table(what, [path_of(module, name).removeprefix(f"{TOP}.") for name in names]) for what, names in _sorted(names_of(module))]
    if constants := constants_of(module):
        parts += [_heading("Constants", "-"), *(_constant(module, name, it) for name, it in constants.items())]
    return "\n".join(parts)


def _constant(module: str, name: str, it: Any) -> str:
    """What the comment above a constant says, and what the constant holds."""
    said = ""
    for home in sorted(sys.modules):
        if home.startswith(module) and vars(sys.modules[home]).get(name) is it:
            said = said or " ".join(ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), [])).replace("**", r"\*\*")
    entries = it.items() if isinstance(it, dict) else [(each, None) for each in (it if isinstance(it, tuple) else (it,))]
    held = [f"``{getattr(key, '__name__', key)}``" + (f": {words}" if isinstance(words, str) else "") for key, words in entries]
    texts = any(isinstance(words, str) for _, words in entries)
    lines = [said, "", *(f"* {each}" for each in held)] if texts else [said, "", ", ".join(held)]
    return "\n".join([f".. py:data:: {module.removeprefix(f'{TOP}.')}.{name}\n", *(f"   {line}".rstrip() for line in lines), ""])


def _sorted(members: dict[str, Any]) -> list[tuple[str, list[str]]]:
    classes = [name for name, it in members.items() if inspect.isclass(it)]
    functions = [name for name in members if name not in classes]
    return [(what, names) for what, names in (("Classes", classes), ("Functions", functions)) if names]


def _table(what: str, names: list[str], toctree: bool = True) -> str:
    rows = "\n".join(f"   ~{name}" if "." in name else f"   {name}" for name in names)
    option = "   :toctree: generated\n" if toctree else ""
    return f"{_heading(what, '-')}\n.. autosummary::\n{option}   :nosignatures:\n\n{rows}\n"


def _heading(text: str, mark: str = "=") -> str:
    return f"{text}\n{mark * len(text)}\n"
