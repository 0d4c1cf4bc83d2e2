"""The command line: ``overparam list``, ``overparam reproduce``, ``overparam info``.

A leaf: nothing imports it. What the library says with a ValueError becomes one line on stderr and exit code 2; Ctrl-C is exit code 130.
"""

from __future__ import annotations

import ast
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "main"]

BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(name="overparam", add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="What gradient descent does when an over-parameterized model learns a simple target, computed exactly.")


def main() -> None:
    """Entry point of the console command."""
    app(prog_name="overparam")


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the library's errors into one line and an exit code."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"overparam: error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        typer.echo("overparam: interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        import overparam

        typer.echo(f"overparam {overparam.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    pass


@app.command("list")
def list_experiments() -> None:
    """List the experiments that can be reproduced."""
    with _errors():
        from overparam import experiments
        from overparam.experiments.registry import summary_line

        names = experiments.list()
        width = max(map(len, names))
        for name in names:
            typer.echo(f"{name.ljust(width)}  {summary_line(name)}")


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="An experiment, as 'overparam list' shows them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the picture and the data; made if it is missing.")] = Path(),
    seed: Annotated[int | None, typer.Option(help="Seed of the start.", show_default=False)] = None,
    changes: Annotated[list[str] | None, typer.Option(
        "--set", metavar="KEY=VALUE", show_default=False,
        help="Change a setting, for example --set M=5 or --set 'M=(4, 5, 6)'. Repeatable.")] = None,
    minibatch: Annotated[bool, typer.Option("--minibatch", help="Also run the paper's minibatch descent: minutes.")] = False,
) -> None:
    """Compute a figure of a paper anew: writes NAME.png and NAME.nc and prints a summary."""
    with _errors():
        began = time.perf_counter()
        from overparam import experiments
        from overparam.experiments.registry import check_settings

        settings = _settings(changes or [], {"seed": seed, "minibatch": minibatch or None})
        check_settings(name, settings)
        picture, data = _prepared(out, name)
        result = experiments.run(name, **settings)
        typer.echo(result.summary())
        if result.interrupted:
            typer.echo("overparam: interrupted: nothing was written", err=True)
            raise typer.Exit(INTERRUPTED)
        result.draw(picture)
        result.save(data)
        typer.echo(f"\n  picture  {picture}\n  data     {data}\n  done in {time.perf_counter() - began:.1f} s")


@app.command()
def info() -> None:
    """Show versions, the CPU's features and the kernel in use."""
    with _errors():
        import overparam
        from overparam._core import cpu
        from overparam.drivers.loop import versions

        found = cpu.info()
        rows = {**versions(), "overparam": f"{overparam.__version__}  ({Path(overparam.__file__).parent})",
                "compiled core": Path(cpu.__file__).parent, "kernel in use": found["path"],
                "kernels supported": " ".join(found["supported"]), "CPU features": " ".join(found["features"])}
        if found.get("warning"):
            rows["warning"] = found["warning"]
        width = max(map(len, rows))
        for key, value in rows.items():
            typer.echo(f"{key.ljust(width)}  {value}")


def _settings(changes: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Settings from KEY=VALUE texts and from the options that were given."""
    settings = {key: value for key, value in options.items() if value is not None}
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ValueError(f"--set needs KEY=VALUE; got {change!r}")
        if key in settings:
            raise ValueError(f"setting {key!r} is given twice")
        settings[key] = _literal(text.strip())
    return settings


def _literal(text: str) -> Any:
    """A number, tuple, bool, None or quoted text as Python writes it; anything else is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _prepared(out: Path, name: str) -> tuple[Path, Path]:
    """Make the folder, see that files can be written there, and return the two paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"--out {str(out)!r} cannot be written to: {error.strerror or error}") from None
    paths = out / f"{name}.png", out / f"{name}.nc"
    for path in paths:
        if path.is_dir():
            raise ValueError(f"--out: {str(path)!r} is a folder, and a file is to be written there")
    return paths


