"""The command line: ``overparam list``, ``overparam reproduce``, ``overparam info``.

A leaf: nothing imports it. Whatever fails is one line on stderr and exit code 2, warnings are one line each; Ctrl-C is exit code 130.
"""

from __future__ import annotations

try:
    import ast
    import difflib
    import sys
    import tempfile
    import time
    import warnings
    from collections.abc import Iterator
    from contextlib import contextmanager
    from pathlib import Path
    from typing import Annotated, Any

    import typer
    from typer.core import TyperGroup
except KeyboardInterrupt:  # the console script imports this module before there is anything to catch it
    raise SystemExit(130) from None

__all__ = ["app", "main"]

BAD_INPUT = 2
INTERRUPTED = 130


class _Commands(TyperGroup):
    """The commands, whose errors of usage are one line like all others."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        try:
            with _warnings_in_a_line():
                code = super().main(*args, standalone_mode=False, **extra)
        except (KeyboardInterrupt, typer.Abort):
            _say("interrupted: nothing was written")
            code = INTERRUPTED
        except Exception as error:
            if not hasattr(error, "format_message"):  # not of usage but a mistake in this program: worth its traceback
                raise
            _say(f"error: {_usage(error)}")
            code = BAD_INPUT
        sys.exit(code if isinstance(code, int) else 0)


app = typer.Typer(name="overparam", cls=_Commands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="What gradient descent does when an over-parameterized model learns a simple target, computed exactly.")


def main() -> None:
    """Entry point of the console command."""
    app(prog_name="overparam")


def _say(text: str) -> None:
    """One line on stderr."""
    typer.echo(f"overparam: {' '.join(text.split())}", err=True)


def _usage(error: Any) -> str:
    """What is wrong with how a command was called."""
    if getattr(error, "possibilities", None):  # names that share two letters are no help
        error.possibilities = difflib.get_close_matches(str(error.option_name), error.possibilities, cutoff=0.75)
    text = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return text[:1].lower() + text[1:] + (f"; see '{context.command_path} --help'" if context is not None else "")


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Show warnings as users know messages, without the place in the source."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
        yield


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the library's errors into one line and an exit code."""
    try:
        yield
    except (ValueError, OSError, OverflowError, Warning) as error:  # a Warning is raised only where users ask for that (python -W error)
        _say(f"error: {error}")
        raise typer.Exit(BAD_INPUT) from None
    except MemoryError as error:
        _say(f"error: not enough memory: {error}".rstrip(": "))
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as error:
        _say(f"interrupted: {str(error) or 'nothing was written'}")
        raise typer.Exit(INTERRUPTED) from None


def _show_version(wanted: bool) -> None:
    if wanted:
        import overparam

        typer.echo(f"overparam {overparam.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
    name: Annotated[str, typer.Argument(metavar="NAME", help="An experiment, as 'overparam list' shows them.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the picture and the data; made if it is missing.")] = Path(),
    seed: Annotated[str | None, typer.Option(metavar="N", help="Seed of the start: a whole number.", show_default=False)] = None,
    changes: Annotated[list[str] | None, typer.Option(
        "--set", metavar="KEY=VALUE", show_default=False,
        help="Change a setting, for example --set M=5 or --set 'M=(4, 5, 6)'. Repeatable.")] = None,
    minibatch: Annotated[bool, typer.Option("--minibatch", help="Also run the paper's minibatch descent: minutes.")] = False,
    verify: Annotated[bool, typer.Option(
        "--verify", help="Also repeat each exact run at a hundredth of its tolerance, and say how far it moves.")] = False,
) -> None:
    """Compute a figure of a paper anew: writes NAME.png and NAME.nc and prints a summary."""
    with _errors():
        began = time.perf_counter()
        from overparam import experiments
        from overparam.experiments.registry import check_settings, verifiable

        options = {} if seed is None else {"seed": _literal(seed)}
        settings = _settings(changes or [], {**options, "minibatch": True} if minibatch else options)
        check_settings(name, settings)
        if verify and not verifiable(name):
            raise ValueError(f"--verify: experiment {name!r} has no run to verify")
        with _folder(out):
            picture, data, partial = _paths(out, f"{name}.png", f"{name}.nc", f"{name}.partial.nc")
            import h5netcdf  # noqa: F401  what writing needs, before any work: a Ctrl-C in an import could not be made good
            import matplotlib.figure  # noqa: F401
            import xarray  # noqa: F401

            result, written = None, []
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
    settings = dict(options)
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


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make the folder and see that files can be written there; at the end, what was made and is empty goes again."""
    made = [path for path in (out, *out.parents) if not path.exists()]  # the innermost first
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
        except OSError as error:
            raise ValueError(f"--out {str(out)!r} cannot be written to: {error.strerror or error}") from None
        yield
    finally:
        for path in made:
            try:
                path.rmdir()
            except OSError:  # there is something in it, or it was never made
                continue


def _paths(out: Path, *names: str) -> list[Path]:
    """The files to be written in `out`."""
    paths = [out / name for name in names]
    for path in paths:
        if path.is_dir():
            raise ValueError(f"--out: {str(path)!r} is a folder, and a file is to be written there")
    return paths
