"""``overparam run``: a problem from a TOML file, its trajectory, a summary and a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overparam.cli.frame import INTERRUPTED, NOT_SO, errors, folder, paths, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from overparam.trajectory import Trajectory

__all__ = ["picture_of", "run"]

NAMES = ("run.nc", "run.png", "run.txt", "effective.toml")


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="A problem, a start and a driver: see docs/config.md.",
                                         show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what is written; made if it is missing.")] = Path(),
) -> None:
    """Run what a TOML file describes: writes run.nc, run.png, run.txt and effective.toml, the configuration with all defaults."""
    with errors():
        began = time.perf_counter()
        from overparam import config

        problem = config.load(file)
        if not problem.driver:
            raise ValueError(f"{file}: there is no table [driver], so there is nothing to run")
        with folder(out):
            data, picture, text, effective = paths(out, *NAMES)
            if effective.exists() and effective.samefile(file):
                raise ValueError(f"--out: {str(effective)!r} would be written over the file that is run: choose another folder, or name")
            import h5netcdf  # noqa: F401  what writing needs, before any work: a Ctrl-C in an import could not be made good
            import matplotlib.figure  # noqa: F401
            import xarray  # noqa: F401

            traj = problem.run()
            traj.save(data)
            effective.write_text(problem.dump(), encoding="utf-8")
            summary = _summary(traj)
            text.write_text(summary + "\n", encoding="utf-8")
            typer.echo(summary)
            picture_of(traj).savefig(picture, dpi=150)
        typer.echo(f"\n  picture        {picture}\n  data           {data}\n  summary        {text}\n  configuration  {effective}\n"
                   f"  done in {time.perf_counter() - began:.1f} s")
        if traj.status == "interrupted":
            say(f"interrupted: {traj.message}; what was reached is in {data}")
            raise typer.Exit(INTERRUPTED)
        if traj.status not in ("completed", "converged"):
            say(f"the run ended early: {traj.message or traj.status}; what was reached is in {data}")
            raise typer.Exit(NOT_SO)


def _summary(traj: Trajectory) -> str:
    """How the run went and, on a single Gaussian, what became of the parameters."""
    from overparam import regimes

    try:
        regime = regimes.classify(traj)
    except ValueError:  # of other targets there is none
        return traj.summary()
    return f"{traj.summary()}\n{'regime':<12}{f'{regime.name} {regime.reason}'.strip()}"


def picture_of(traj: Trajectory) -> Figure:
    """Loss and distances side by side; the loss alone where the target is not a single point."""
    from matplotlib.figure import Figure

    from overparam import plotting, regimes

    try:
        regimes.distances(traj)
        panels = 2
    except ValueError:
        panels = 1
    figure = Figure(figsize=(3.6 * panels, 2.8), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    plotting.loss(traj, axes[0])
    if panels == 2:
        plotting.norms(traj, axes[1], x="time")
    return figure
