"""Write docs/figure_1.png, the picture of the README: ``python docs/make_figure_1.py``.

The figure is that of ``overparam reproduce zhang2025.figure_1``, at a resolution for a web page.
"""

from pathlib import Path

import overparam as op

DPI = 110
LARGEST = 200_000  # bytes: a README loads with every visit


def main() -> None:
    """Run the experiment and write the picture beside this file."""
    path = Path(__file__).with_name("figure_1.png")
    figure = op.experiments.run("zhang2025.figure_1").draw()
    figure.savefig(path, dpi=DPI, metadata={"Software": None})  # without the version of matplotlib: the same picture, the same bytes
    size = path.stat().st_size
    print(f"{path}: {size / 1000:.0f} kB")
    if size > LARGEST:
        raise SystemExit(f"that is above {LARGEST / 1000:.0f} kB: lower DPI")


if __name__ == "__main__":
    main()
