"""``import overparam`` stays light, and what it puts off is there when it is needed."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import overparam as op

HEAVY = ("scipy.special", "scipy.stats", "scipy.integrate", "scipy.linalg", "scipy.optimize", "xarray", "h5netcdf", "h5py", "matplotlib",
         "tqdm", "joblib", "threadpoolctl", "typer", "pandas", "dask", "torch", "jax")


def run(code, folder):
    """Standard output of a fresh interpreter, started outside the clone."""
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=folder, timeout=60)
    assert found.returncode == 0, found.stderr
    return found.stdout


def heavy(loaded):
    return [name for name in HEAVY if any(module == name or module.startswith(name + ".") for module in loaded)]


def test_import_is_light(tmp_path):
    loaded = run("import sys, overparam; print(' '.join(sys.modules))", tmp_path).split()
    assert "overparam._core.score_matching" in loaded and "numpy" in loaded
    assert not heavy(loaded) and "overparam.objectives" not in loaded


def test_objectives_and_drivers_are_light(tmp_path):
    code = "import sys\nfrom overparam import ScoreMatching, gradient_descent, init, load\nprint(' '.join(sys.modules))"
    loaded = run(code, tmp_path).split()
    assert "numpy" in loaded and not heavy(loaded)


def test_any_name_can_come_first(tmp_path):
    code = ("import sys, overparam\n"
            "names = overparam.__all__\n"
            "for name in names:\n"
            "    for module in [m for m in sys.modules if m.split('.')[0] == 'overparam' and '_core' not in m]:\n"
            "        del sys.modules[module]\n"
            "    import overparam\n"
            "    assert name in ('__version__', 'threads') or name not in vars(overparam)\n"
            "    getattr(overparam, name)\n"
            "print(len(names))")
    assert run(code, tmp_path).strip() == str(len(op.__all__))


def test_type_checkers_see_what_is_there():
    tree = ast.parse(Path(inspect.getsourcefile(op)).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    seen = {alias.name: line.module for line in block.body for alias in line.names}
    assert sorted([*seen, "__version__", "threads"]) == op.__all__
    for name, module in seen.items():
        assert getattr(op, name) is (sys.modules[f"overparam.{name}"] if module == "overparam" else getattr(sys.modules[module], name))


def test_star_import():
    names = {}
    exec("from overparam import *", names)
    assert set(op.__all__) <= set(names)


def test_modules_are_attributes(tmp_path):
    assert run("import overparam as op; print(op.store.__name__, op.bounds.__name__)", tmp_path) == "overparam.store overparam.bounds\n"


def test_a_run_needs_no_plots_and_no_files(tmp_path):
    code = ("import sys, overparam as op\n"
            "op.gradient_descent(op.ScoreMatching(op.Gaussian([0.0])), [[2.0], [1.5]], step_size=0.1, steps=5)\n"
            "print(' '.join(sys.modules))")
    loaded = run(code, tmp_path).split()
    assert not {"xarray", "matplotlib", "h5py", "joblib", "typer"} & set(loaded)


@pytest.mark.parametrize("name", op.__all__)
def test_every_public_name_is_there(name):
    assert getattr(op, name) is not None
    assert name in dir(op)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match=r"module 'overparam' has no attribute 'gradient_decent'"):
        _ = op.gradient_decent


def test_a_missing_core_says_so(tmp_path):
    code = ("import sys\n"
            "sys.modules['overparam._core'] = None\n"
            "try:\n    import overparam\nexcept ImportError as error:\n    print(error)")
    message = run(code, tmp_path)
    assert "compiled core is missing" in message and "pip install ." in message
