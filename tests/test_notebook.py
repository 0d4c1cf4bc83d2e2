"""The example notebooks run from top to bottom in a kernel of their own, and show what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
# In a process of its own: the warnings of Jupyter's packages are not this project's.
RUN = """
import sys
import nbclient
import nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=120, startup_timeout=120, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def executed(name, folder):
    """The outputs of each code cell by the cell's id; what it puts into files lands in `folder`."""
    # a kernel of this environment, whatever kernels and settings the user has
    own = {key: str(folder / key) for key in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    environment = {key: value for key, value in os.environ.items() if key not in ("JUPYTER_PATH", "MPLBACKEND")}
    command = [sys.executable, "-c", RUN, str(EXAMPLES / name), str(folder / name)]
    found = subprocess.run(command, env=environment | own | {"JUPYTER_PREFER_ENV_PATH": "1"}, cwd=folder, timeout=240, capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr[-4000:]
    cells = json.loads((folder / name).read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: cell["outputs"] for cell in cells if cell["cell_type"] == "code"}


def shown(outputs, kind):
    """What a cell shows as `kind`, joined."""
    return "".join("".join(one["data"].get(kind, "")) for one in outputs if "data" in one)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_first_run(tmp_path):
    cells = executed("first_run.ipynb", tmp_path)
    streams = [one for outputs in cells.values() for one in outputs if one["output_type"] == "stream"]
    assert not [one for one in streams if one["name"] == "stderr"]  # no warnings
    assert "one converges" in "".join(streams[0]["text"])
    for cell, word in (("estimate", "reliable"), ("run", "<svg"), ("theory", "zhang2025.theorem_3_5"), ("further", "steps 0 to 40000")):
        assert word in shown(cells[cell], "text/html")
        assert shown(cells[cell], "text/plain")  # what a terminal shows stays
    assert shown(cells["norms"], "image/png")
    assert (tmp_path / "first_run.nc").stat().st_size > 0
