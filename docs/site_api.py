"""Pages of the API reference: one for each public module, made from its ``__all__``, so that no public name is left out."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

# Modules and what they are for, in the order of the reference. tests/test_docstrings.py checks the docstrings of the same ones.
MODULES = {
    "overparam": "What most scripts need",
    "overparam.teachers": "Targets", "overparam.data_sets": "Data as a target", "overparam.objectives": "Losses",
    "overparam.planning": "Rules that choose nodes", "overparam.quadrature": "Grids", "overparam.sampling": "Samples",
    "overparam.init": "Starting points", "overparam.state": "States", "overparam.factors": "Factors of a product",
    "overparam.drivers": "Runs", "overparam.trajectory": "What a run returns", "overparam.verification": "How far a run can be trusted",
    "overparam.rates": "Slopes and laws", "overparam.regimes": "Regimes", "overparam.stationary": "Stationary points",
    "overparam.distances": "Distances of mixtures", "overparam.theory": "Statements and verdicts", "overparam.experiments": "Experiments",
    "overparam.sweeps": "Sweeps", "overparam.store": "Where sweeps are kept", "overparam.config": "Problems in files",
    "overparam.plotting": "Pictures", "overparam.interop.scipy": "In scipy.optimize",
}
BETWEEN_MODULES = {"check_observe", "check_schedule", "schedule_from_description", "rule_from_description", "teacher_from_description",
                   "from_description", "offset_of", "hash_of", "versions_here", "from_tables", "parse", "read"}


def names_of(module: str) -> list[str]:
    """Public classes and functions of a module, but those that the package itself offers: these stand on its page."""
    found = importlib.import_module(module)
    names = [name for name in found.__all__
             if name not in BETWEEN_MODULES and callable(getattr(found, name)) and not inspect.ismodule(getattr(found, name))]
    top = importlib.import_module("overparam")
    return [name for name in names if found is top or getattr(top, name, None) is not getattr(found, name)]


def write(folder: Path) -> None:
    """Write the pages into `folder`."""
    folder.mkdir(exist_ok=True)
    pages = {f"{module}.rst": _page(module, title) for module, title in MODULES.items()}
    rows = "\n".join(f"   {module}" for module in MODULES)
    pages["index.rst"] = f"API reference\n=============\n\nEvery public name, by module.\n\n.. toctree::\n   :maxdepth: 2\n\n{rows}\n"
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # unchanged pages are not built again
            path.write_text(text, encoding="utf-8")


def _page(module: str, title: str) -> str:
    heading = f"{title}: ``{module}``"
    classes = [name for name in names_of(module) if inspect.isclass(getattr(importlib.import_module(module), name))]
    functions = [name for name in names_of(module) if name not in classes]
    parts = [f"{heading}\n{'=' * len(heading)}\n\n.. currentmodule:: {module}\n"]
    for what, names in (("Classes", classes), ("Functions", functions)):
        if names:
            rows = "\n".join(f"   {name}" for name in names)
            parts.append(f"{what}\n{'-' * len(what)}\n\n.. autosummary::\n   :toctree: generated\n   :nosignatures:\n\n{rows}\n")
    return "\n".join(parts)
