"""``overparam plot``: a picture of a sweep's results or of a saved run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overparam.cli.frame import errors, settings_from

__all__ = ["plot"]


def plot(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The folder of a sweep, its results.nc, or a saved run (run.nc).",
                                         show_default=False)],
    variable: Annotated[str | None, typer.Option(metavar="NAME", show_default=False,
                                                 help="Which result of a sweep; k, or the first that is a number.")] = None,
    at: Annotated[list[str] | None, typer.Option("--at", metavar="KEY=VALUE", show_default=False,
                                                 help="Hold a swept parameter at a value. Repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", show_default=False,
                                             help="The picture; beside the data by default.")] = None,
) -> None:
    """Draw a sweep (a heat map over two parameters, a line over one) or a saved run (loss and distances)."""
    with errors():
        held = settings_from(at or [], {})
        folder = path.is_dir()
        if not path.exists():
            raise ValueError(f"{str(path)!r} is not there: the folder of a sweep or a saved run is needed")
        figure = _of_sweep(path, variable, held) if folder else _of_file(path, variable, held)
        out = (path / "plot.png" if folder else path.with_suffix(".png")) if out is None else out
        kind = out.suffix.lstrip(".").lower() or "png"
        known = figure.canvas.get_supported_filetypes()
        if kind not in known:
            raise ValueError(f"--out {str(out)!r} ends in .{kind}, which is not a picture format; known: {', '.join(sorted(known))}")
        figure.savefig(out, dpi=150, format=kind)
        typer.echo(f"  picture  {out}")


def _of_sweep(path: Path, variable: str | None, held: dict[str, Any]) -> Any:
    from overparam import sweep_plots
    from overparam.store import Store

    store = Store.open(path)
    if not store.status().done:
        raise ValueError(f"{str(path)!r} has no results yet ({store.status()})")
    return sweep_plots.draw(store.collect(), variable, held)


def _of_file(path: Path, variable: str | None, held: dict[str, Any]) -> Any:
    """The picture of a saved run, or of collected results."""
    import xarray

    from overparam import sweep_plots
    from overparam.cli.running import picture_of
    from overparam.trajectory import load

    try:
        with xarray.open_dataset(path, engine="h5netcdf") as opened:
            swept = opened.load() if "sweep" in opened.attrs else None
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read as netCDF: {error}") from None
    except Exception as error:  # HDF5 raises whatever comes first on bytes that it does not understand
        raise ValueError(f"{str(path)!r} is not a netCDF file: {error}") from None
    if swept is not None:
        return sweep_plots.draw(swept, variable, held)
    if variable is not None or held:
        raise ValueError("--variable and --at are for sweeps, and this is a run")
    return picture_of(load(path))
