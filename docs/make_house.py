"""Draws the house: who imports whom in overparam, read from the sources: `python docs/make_house.py`.

Modules stand in layers, and import from their own layer or from those below. The script writes docs/house.svg and ends with exit code 1,
naming the line, where an import goes up, a module has no place below, or (with `--check`, which writes nothing) the picture is not current.
An arrow means "imports"; one that follows from others is left out, and so are imports for type checkers.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "house.svg"

#: From the ground up: a layer's name and what it is for; its modules; and the helpers that a module hides behind itself.
LAYERS: list[tuple[str, str, dict[str, tuple[str, ...]]]] = [
    ("kernels", "C and Cython: arrays in, arrays out", {"_core": ()}),
    ("foundations", "states and checks", {
        "state": ("layout", "_frozen"), "_validation": (), "_softmax": ("_reference",), "_threads": ("_limits",),
        "_html": ("_html_views",), "_netcdf": (), "_progress": (), "_version": ()}),
    ("rules", "teachers, starts, nodes, bounds", {
        "teachers": ("covariance",), "data_sets": (), "init": ("_matrix_starts", "_mixture_starts"), "factors": (), "geometry": (),
        "bounds": ("log_bounds",), "nodes": (), "quadrature": (), "sampling": (), "certificate": (), "planning": ()}),
    ("objectives", "a formula; at a state it makes a plan", {"objectives": ()}),
    ("results", "what every run leaves", {
        "trajectory": ("_schedules", "_fingerprint", "_trajectory_file", "_trajectory_joining", "_trajectory_views")}),
    ("drivers", "they know plans only", {"drivers": (), "interop": ()}),
    ("readings", "what a run did", {
        "rates": (), "regimes": (), "stationary": (), "distances": ("_total_variation",), "measures": (), "verification": (),
        "plotting": ()}),
    ("theory", "what the papers say of it", {"theory": ("_claims",)}),
    ("many runs", "files, stores, sweeps", {
        "config": ("_toml", "_arguments"), "store": ("_point_files", "_sweep_table"), "sweeps": ("_grids", "_sweep_task"),
        "sweep_config": (), "sweep_plots": ()}),
    ("experiments", "the papers' figures", {"experiments": ()}),
    ("command line", "a leaf", {"cli": ("__main__",)}),
]

FLOOR = {box: row for row, (_, _, boxes) in enumerate(LAYERS) for box in boxes}
BOX = {name: box for _, _, boxes in LAYERS for box, hidden in boxes.items() for name in (box, *hidden)}


@dataclass(frozen=True)
class Import:
    """A line of one module that imports another; both by their first name below overparam."""

    importer: str
    imported: str
    where: str


def imports() -> Iterator[Import]:
    """Every import inside the package, those inside functions too."""
    for path in sorted((ROOT / "overparam").rglob("*.py")):
        own = path.relative_to(ROOT / "overparam").with_suffix("").parts[0]
        if own == "__init__":
            continue  # the public names: above everything
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
                   for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if id(node) in skipped:
                continue
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "overparam" else [node.module or ""]
            for name in names:
                first, _, rest = name.partition(".")
                if first == "overparam" and rest and rest.split(".")[0] != own:
                    yield Import(own, rest.split(".")[0], f"{path.relative_to(ROOT)}:{node.lineno}")


def complaints(found: list[Import]) -> list[str]:
    """What is not as it should be."""
    on_disk = {path.stem for path in (ROOT / "overparam").iterdir()
               if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"}
    said = [f"overparam.{name} has no place in the house: give it one in docs/make_house.py" for name in sorted(on_disk - set(BOX))]
    said += [f"overparam.{name} is in the house but not on disk" for name in sorted(set(BOX) - on_disk - {"_core"})]
    for each in found:
        if each.importer in BOX and each.imported in BOX and FLOOR[BOX[each.imported]] > FLOOR[BOX[each.importer]]:
            upper, lower = (LAYERS[FLOOR[BOX[name]]][0] for name in (each.imported, each.importer))
            said.append(f"{each.where}: {each.importer} ({lower}) imports {each.imported} ({upper}), which is above it")
    return said


def arrows(found: list[Import]) -> list[tuple[str, str]]:
    """Pairs of boxes, (importer, imported) from a floor to a lower one, without those that others imply."""
    pairs = {(BOX[each.importer], BOX[each.imported]) for each in found if each.importer in BOX and each.imported in BOX}
    below: dict[str, set[str]] = {box: {to for of, to in pairs if of == box and FLOOR[to] < FLOOR[box]} for box in FLOOR}
    reach: dict[str, set[str]] = {}
    for box in sorted(FLOOR, key=FLOOR.__getitem__):
        reach[box] = below[box].union(*(reach[to] for to in below[box]))
    return sorted((box, to) for box in FLOOR for to in below[box] if not any(to in reach[other] for other in below[box]))


def places(drawn: list[tuple[str, str]], width: float) -> dict[str, tuple[float, float, float]]:
    """Left edge, top and width of each box; on its floor a box stands where what it imports stands, as far as there is room."""
    height = ROW * len(LAYERS)
    found: dict[str, tuple[float, float, float]] = {}
    for row, (_, _, boxes) in enumerate(LAYERS):
        middle = {}
        for number, box in enumerate(boxes):
            under = [found[to][0] + found[to][2] / 2 for of, to in drawn if of == box]
            middle[box] = sum(under) / len(under) if under else LEFT + (number + 1) * (width - LEFT) / (len(boxes) + 1)
        wide = {box: 22 + 7.4 * len(box) for box in boxes}
        gap = (width - LEFT - sum(wide.values())) / (len(boxes) + 1)
        x = LEFT + gap
        for box in sorted(boxes, key=lambda box: (middle[box], box)):
            found[box] = (x, height - ROW * (row + 1) + (ROW - HIGH) / 2, wide[box])
            x += wide[box] + gap
    return found


LEFT, ROW, HIGH, WIDTH = 250.0, 74.0, 30.0, 1180.0
COLOURS = ("#f3f4f6", "#ffffff")


def draw(found: list[Import]) -> str:
    """The picture, as SVG."""
    drawn = arrows(found)
    at = places(drawn, WIDTH)
    height = ROW * len(LAYERS)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" font-family="sans-serif" role="img">',
           "<title>The layers of overparam; an arrow means imports</title>",
           '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
           '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>',
           f'<rect width="{WIDTH:g}" height="{height:g}" fill="#ffffff"/>']
    for row, (name, words, _) in enumerate(LAYERS):
        top = height - ROW * (row + 1)
        out.append(f'<rect y="{top:g}" width="{WIDTH:g}" height="{ROW:g}" fill="{COLOURS[row % 2]}"/>')
        out.append(f'<text x="16" y="{top + 33:g}" font-size="15" font-weight="bold" fill="#0f172a">{name}</text>')
        out.append(f'<text x="16" y="{top + 52:g}" font-size="11.5" fill="#475569">{words}</text>')
    for of, to in drawn:
        (x, y, w), (u, v, s) = at[of], at[to]
        x, y, u = x + w / 2, y + HIGH, u + s / 2
        bend = min(34.0, (v - y) / 2)
        out.append(f'<path d="M{x:.1f} {y:.1f}C{x:.1f} {y + bend:.1f} {u:.1f} {v - bend:.1f} {u:.1f} {v - 1:.1f}" fill="none" '
                   'stroke="#64748b" stroke-opacity="0.6" marker-end="url(#tip)"/>')
    for box, (x, y, w) in sorted(at.items()):
        out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{HIGH:g}" rx="6" fill="#ffffff" stroke="#2563eb"/>')
        out.append(f'<text x="{x + w / 2:.1f}" y="{y + 20:.1f}" font-size="12.5" text-anchor="middle" font-family="monospace" '
                   f'fill="#0f172a">{box}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    found = list(imports())
    said = complaints(found)
    if not said:
        picture = draw(found)
        if not arguments.check:
            PICTURE.write_text(picture, encoding="utf-8")
        elif not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != picture:
            said = ["docs/house.svg is not current: run python docs/make_house.py"]
    print(*said or [f"{len(FLOOR)} boxes on {len(LAYERS)} floors, {len(found)} imports, none goes up"], sep="\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
