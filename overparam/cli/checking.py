"""``overparam check``: what statements say of a file's run, and the table of all built-in examples."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overparam.cli.frame import NOT_SO, ends_at_ctrl_c, errors, say, settings_from

if TYPE_CHECKING:
    from overparam.theory import Report

__all__ = ["check"]


def check(
    arguments: Annotated[list[str] | None, typer.Argument(
        metavar="THEOREM|FILE", show_default=False,
        help="Statements, as 'overparam list --theorems' shows them, or 'all' (default: those of the file's table [check]); then a TOML "
             "file that describes a run, or a run that was saved (.nc). Statements that draw their own points need no file.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Check the built-in examples of all statements, or of the named ones.")] = False,
    changes: Annotated[list[str] | None, typer.Option(
        "--set", metavar="CONSTANT=VALUE", show_default=False, help="Give a constant that the paper leaves open. Repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    confirm: Annotated[bool | None, typer.Option(
        "--confirm/--no-confirm", show_default=False,
        help="Repeat the run at a hundredth of its tolerance before a verdict stands (default: as the file says, else yes).")] = None,
) -> None:
    """Check statements of papers against a run; exit code 1 if one is violated, or with --all an example differs."""
    with errors():
        given = list(arguments or [])
        if every:
            if changes:
                raise ValueError("--set goes with a file: built-in examples bring their constants")
            _check_examples(_chosen(given), as_json, confirm is not False)
            return
        if not given:
            raise ValueError("check needs a statement or a file, or --all; see 'overparam check --help'")
        names, file = _parted(given)
        _check_file(names, file, settings_from(changes or [], {}), as_json, confirm)


def _chosen(names: list[str]) -> list[str]:
    from overparam import theory

    return theory.list() if not names or "all" in names else [theory.get(name).name for name in names]


def _parted(given: list[str]) -> tuple[list[str], str | None]:
    """Statements, and the file after them if there is one."""
    from overparam import theory

    last = given[-1]
    if last in (*theory.list(), "all"):
        return given, None
    if Path(last).suffix not in (".toml", ".nc") and not Path(last).exists():
        theory.get(last)  # whose error names the nearest statement
    return given[:-1], last


# --- a file -----------------------------------------------------------------------------------------------------------


def _check_file(names: list[str], file: str | None, constants: dict[str, Any], as_json: bool, confirm: bool | None) -> None:
    from overparam import config, theory

    problem, checks = None, config.Checks()
    if file is not None and Path(file).suffix != ".nc":
        problem = config.load(file)
        checks = problem.checks
    chosen = _chosen(names) if names else list(checks.theorems)
    if not chosen:
        raise ValueError(f"name a statement before {file!r}, or 'all'" + ("" if problem is None else ", or fill the file's table [check]"))
    confirm = checks.confirm if confirm is None else confirm
    constants = {**checks.constants, **constants}
    opened = {name: {one.name for one in theory.get(name).constants} for name in chosen}
    for key in constants:
        if not any(key in known for known in opened.values()):
            theory.get(chosen[0]).given({key: constants[key]})  # whose error names the nearest
    subject = _subject(problem, file)
    seen, strangers = [], []
    for name in chosen:
        own = {key: value for key, value in constants.items() if key in opened[name]}
        try:
            with ends_at_ctrl_c():
                seen.append(theory.check(name, *subject, confirm=confirm, **own))
        except ValueError as error:
            if len(chosen) == 1 and file is None:
                raise ValueError(f"{error}. On the command line: a file that describes a run, after the statement") from None
            if len(chosen) == 1:
                raise
            strangers.append((name, error))
            if "all" not in names:
                say(f"warning: {name} does not fit: {error}")
    if strangers and "all" in names:  # lemmas about other things than an objective's parameters, most of them
        say(f"{len(strangers)} of {len(chosen)} statements do not fit and were left out:")
        for name, why in strangers:
            say(f"{name}: {why}")
    if as_json:
        typer.echo(json.dumps([_jsonable(report.to_dict()) for report in seen], indent=2, allow_nan=False))
    else:
        typer.echo("\n\n".join(report.text() for report in seen))
        if len(seen) > 1:
            typer.echo("\n" + _overview(seen))
    if any(report.verdict == "violated" for report in seen):
        raise typer.Exit(NOT_SO)


def _subject(problem: Any, file: str | None) -> tuple[Any, ...]:
    """What is checked: a run; or the objective and the start, where the file has no driver; or nothing."""
    from overparam import trajectory

    if file is None:
        return ()
    if problem is None:
        return (trajectory.load(file),)
    if not problem.driver:
        return problem.objective, problem.start
    run = problem.run()
    if run.status == "interrupted":  # drivers keep what was reached; a check is over
        raise KeyboardInterrupt(run.message)
    return (run,)


def _overview(seen: list[Report]) -> str:
    width = max(len(report.name) for report in seen)
    return "\n".join(f"{report.name.ljust(width)}  {report.verdict}" + (f" ({report.given})" if report.given else "") for report in seen)


# --- the built-in examples --------------------------------------------------------------------------------------------

_COLUMNS = ("statement", "example", "expected", "verdict", "tag", "seconds")


def _check_examples(names: list[str], as_json: bool, confirm: bool) -> None:
    """Print a row for each example as soon as it is known, beneath it what differs."""
    from overparam import theory
    from overparam._progress import tqdm

    examples = [(name, label, example) for name in names for label, example in theory.get(name).examples().items()]
    widths = [max([len(column), *(len(str(row[number])) for row in examples)]) for number, column in enumerate(_COLUMNS[:2])]
    widths += [len("undecided"), len("undecided"), len("reconstructed"), len(_COLUMNS[-1])]
    if not as_json:
        typer.echo("  ".join(column.ljust(width) for column, width in zip(_COLUMNS, widths)).rstrip())
    rows = []
    with tqdm(total=len(examples), unit=" examples", disable=None, leave=False) as bar:
        for row in _rows(examples, confirm):  # what Ctrl-C leaves on the screen are the rows so far
            rows.append(row)
            if not as_json:
                cells = [str(row[column]).ljust(width) for column, width in zip(_COLUMNS[:-1], widths)]
                bar.clear()
                typer.echo("  ".join([*cells, f"{row['seconds']:.2f}".rjust(widths[-1])]))
            bar.update()
    wrong = [row for row in rows if row["verdict"] != row["expected"]]
    if as_json:
        typer.echo(json.dumps(_jsonable(rows), indent=2, allow_nan=False))
    else:
        total = sum(row["seconds"] for row in rows)
        typer.echo(f"\n{len(rows)} examples of {len(names)} statements in {total:.1f} s, {len(rows) - len(wrong)} as expected")
        for row in wrong:
            typer.echo(f"differs: {row['statement']}, {row['example']}: {row['verdict']} instead of {row['expected']}: {row['reason']}")
    if wrong:
        raise typer.Exit(NOT_SO)


def _rows(examples: list[tuple[str, str, Any]], confirm: bool) -> Iterator[dict[str, Any]]:
    from overparam import theory

    for name, label, example in examples:
        began = time.perf_counter()
        try:
            with ends_at_ctrl_c():
                report = theory.check(name, **{"confirm": confirm, **example.make()})
            verdict, reason = report.verdict, report.reason
        except Exception as error:  # one example that fails is a row like any other
            verdict, reason = "error", f"{type(error).__name__}: {error}"
        yield {"statement": name, "example": label, "expected": example.verdict, "verdict": verdict, "tag": theory.get(name).tag,
               "seconds": round(time.perf_counter() - began, 3), "reason": reason}


def _jsonable(value: Any) -> Any:
    """JSON has no infinities, and no NaN; nor has it NumPy's numbers."""
    if isinstance(value, dict):
        return {str(key): _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
