"""What all commands share: errors and warnings in one line each, settings from texts, folders that are made and go again."""

from __future__ import annotations

import ast
import difflib
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["BAD_INPUT", "INTERRUPTED", "NOT_SO", "Commands", "ends_at_ctrl_c", "errors", "folder", "literal", "paths", "say",
           "settings_from"]

NOT_SO = 1  # the command did its work, and what it was to find is not so
BAD_INPUT = 2
INTERRUPTED = 130


class Commands(TyperGroup):
    """The commands, whose errors of usage are one line like all others."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        inner: Any = super().main
        if not standalone_mode:
            return inner(*args, standalone_mode=False, **extra)
        try:
            with _warnings_in_a_line():
                code = inner(*args, standalone_mode=False, **extra)
        except (KeyboardInterrupt, typer.Abort):
            say("interrupted: nothing was written")
            code = INTERRUPTED
        except Exception as error:
            if not hasattr(error, "format_message"):  # not of usage but a mistake in this program: worth its traceback
                raise
            say(f"error: {_usage(error)}")
            code = BAD_INPUT
        sys.exit(code if isinstance(code, int) else 0)


def say(text: str) -> None:
    """One line on stderr."""
    typer.echo(f"overparam: {' '.join(text.split())}", err=True)


def _usage(error: Any) -> str:
    """What is wrong with how a command was called."""
    if getattr(error, "possibilities", None):  # names that share two letters are no help
        error.possibilities = difflib.get_close_matches(str(error.option_name), error.possibilities, cutoff=0.75)
    text = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    found: str = text[:1].lower() + text[1:] + (f"; see '{context.command_path} --help'" if context is not None else "")
    return found


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Show warnings as users know messages, without the place in the source."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        yield


@contextmanager
def errors() -> Iterator[None]:
    """Turn the library's errors into one line and an exit code."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough: typer ends quietly, with exit code 1
        raise
    except (ValueError, OSError, OverflowError, Warning) as error:  # a Warning is raised only where users ask for that (python -W error)
        say(f"error: {error}")
        raise typer.Exit(BAD_INPUT) from None
    except MemoryError as error:
        say(f"error: not enough memory: {error}".rstrip(": "))
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as error:
        say(f"interrupted: {str(error) or 'nothing was written'}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def ends_at_ctrl_c() -> Iterator[None]:
    """End at a Ctrl-C even if a driver within took it as the end of its own run, of which it keeps what was reached."""
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def settings_from(changes: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Settings from KEY=VALUE texts and from the options that were given."""
    settings = dict(options)
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ValueError(f"--set needs KEY=VALUE; got {change!r}")
        if key in settings:
            raise ValueError(f"setting {key!r} is given twice")
        settings[key] = literal(text.strip())
    return settings


def literal(text: str) -> Any:
    """A number, tuple, bool, None or quoted text as Python writes it; anything else is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


@contextmanager
def folder(out: Path) -> Iterator[None]:
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


def paths(out: Path, *names: str) -> list[Path]:
    """The files to be written in `out`."""
    paths = [out / name for name in names]
    for path in paths:
        if path.is_dir():
            raise ValueError(f"--out: {str(path)!r} is a folder, and a file is to be written there")
    return paths
