"""Write the figures and tables behind docs/findings.md: ``python docs/make_findings.py [FILE...]``.

Each experiment is run with the settings below; its picture goes to docs/findings/FILE.png and its summary, with the command that prints
it, to docs/findings/FILE.txt. The numbers in docs/findings.md are read off these summaries.
"""

from __future__ import annotations

import sys
from pathlib import Path

import overparam as op

DPI = 80
#: File: experiment, and its settings other than the defaults.
RUNS: dict[str, tuple[str, dict]] = {
    "noise_averaging": ("zhang2025.noise_averaging", {}),
    "optimizers": ("zhang2025.optimizers", {}),
    "sgd_border": ("zhang2025.sgd_border", {}),
    "intermediate": ("zhang2025.intermediate", {"samples": 100}),
    "intermediate_line": ("zhang2025.intermediate", {"d": (1,), "samples": 300}),
    "unequal_weights": ("zhang2025.unequal_weights", {}),
    "covariance": ("zhang2025.covariance", {}),
    "sampling": ("zhang2025.sampling", {}),
    "far_geometry": ("zhang2025.far_geometry", {}),
}


def main(files: list[str]) -> None:
    """Make the files named, or all."""
    folder = Path(__file__).with_name("findings")
    folder.mkdir(exist_ok=True)
    for file in files or RUNS:
        if file not in RUNS:
            raise SystemExit(f"{file} is not among {', '.join(RUNS)}")
        name, given = RUNS[file]
        result = op.experiments.run(name, **given)
        result.draw().savefig(folder / f"{file}.png", dpi=DPI, metadata={"Software": None})
        settings = "".join(f" --set '{key}={value}'" for key, value in given.items())
        (folder / f"{file}.txt").write_text(f"$ overparam reproduce {name}{settings}\n\n{result.summary()}\n", encoding="utf-8")
        print(f"{file}: {(folder / f'{file}.png').stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
