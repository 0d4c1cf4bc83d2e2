"""Write the figures and tables behind docs/findings.md: ``python docs/make_findings.py [NAME...]``.

Each experiment is run with the settings below; its picture goes to docs/findings/NAME.png and its summary, with the settings, to
docs/findings/NAME.txt. The numbers in docs/findings.md are read off these summaries.
"""

from __future__ import annotations

import sys
from pathlib import Path

import overparam as op

DPI = 80
#: Experiment: settings other than its defaults.
RUNS: dict[str, dict] = {
    "zhang2025.noise_averaging": {},
    "zhang2025.optimizers": {},
    "zhang2025.sgd_border": {},
    "zhang2025.intermediate": {"d": (1,), "samples": 300},
    "zhang2025.unequal_weights": {},
    "zhang2025.covariance": {},
    "zhang2025.sampling": {},
    "zhang2025.far_geometry": {},
}


def main(names: list[str]) -> None:
    """Run the experiments named, or all."""
    folder = Path(__file__).with_name("findings")
    folder.mkdir(exist_ok=True)
    for name in names or RUNS:
        if name not in RUNS:
            raise SystemExit(f"{name} is not among {', '.join(RUNS)}")
        result = op.experiments.run(name, **RUNS[name])
        result.draw().savefig(folder / f"{name}.png", dpi=DPI, metadata={"Software": None})
        settings = "".join(f" --set {key}={value!r}".replace(" ", "") .replace("--set", " --set ") for key, value in RUNS[name].items())
        text = f"$ overparam reproduce {name}{settings}\n\n{result.summary()}\n"
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"{name}: {(folder / f'{name}.png').stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
