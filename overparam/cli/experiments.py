"""``overparam reproduce``: a figure of a paper, computed anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from overparam.cli.frame import errors, folder, literal, paths, settings_from

__all__ = ["reproduce"]


def reproduce(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An experiment, as 'overparam list' shows them.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the picture and the data; made if it is missing.")] = Path(),
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seed of the start: a whole number.", show_default=False)] = None,
    changes: Annotated[list[str] | None, typer.Option(
        "--set", metavar="KEY=VALUE", show_default=False,
        help="Change a setting, for example --set M=5 or --set 'M=(4, 5, 6)'; one that is not known is answered with those that are. "
             "Repeatable.")] = None,
    minibatch: Annotated[bool, typer.Option("--minibatch", help="Also run the paper's minibatch descent: minutes.")] = False,
    verify: Annotated[bool, typer.Option(
        "--verify", help="Also repeat each exact run at a hundredth of its tolerance, and say how far it moves.")] = False,
) -> None:
    """Compute a figure of a paper anew: writes NAME.png and NAME.nc and prints a summary."""
    with errors():
        began = time.perf_counter()
        from overparam import experiments
        from overparam.experiments.registry import check_settings, verifiable

        options = {} if seed is None else {"seed": literal(seed)}
        settings = settings_from(changes or [], {**options, "minibatch": True} if minibatch else options)
        check_settings(name, settings)
        if verify and not verifiable(name):
            raise ValueError(f"--verify: experiment {name!r} has no run to verify")
        with folder(out):
            picture, data, partial = paths(out, f"{name}.png", f"{name}.nc", f"{name}.partial.nc")
            import h5netcdf  # noqa: F401  what writing needs, before any work: a Ctrl-C in an import could not be made good
            import matplotlib.figure  # noqa: F401
            import xarray  # noqa: F401

            result: Any = None
            written: list[Any] = []
            try:
                result = experiments.run(name, **settings)
                typer.echo(result.summary())
                if result.interrupted:
                    raise KeyboardInterrupt(result.reached)
                written.append(result.save(data))
                written.append(result.draw(picture))
                if verify:
                    for label, found in result.verify().items():
                        typer.echo(f"\n{label}, {found.summary()}")
            except KeyboardInterrupt as stopped:
                kept = None if result is None or written else result.finished()
                if kept is not None:
                    written.append(kept.save(partial if result.interrupted else data))
                what = f"what was finished is in {', '.join(map(str, written))}" if written else "nothing was finished, nothing was written"
                raise KeyboardInterrupt(f"{stopped}; {what}".lstrip("; ")) from None
        typer.echo(f"\n  picture  {picture}\n  data     {data}\n  done in {time.perf_counter() - began:.1f} s")
