"""The command line: ``overparam list``, ``reproduce``, ``run``, ``sweep``, ``status``, ``plot``, ``check``, ``info``.

A leaf: nothing imports it. Whatever fails is one line on stderr and exit code 2, warnings are one line each; Ctrl-C is exit code 130. Exit
code 1 says that the work was done and something is not so: a run that ended early, a statement that is contradicted.
"""

from __future__ import annotations

try:
    from pathlib import Path
    from typing import Annotated

    import typer

    from overparam.cli.checking import check
    from overparam.cli.experiments import reproduce
    from overparam.cli.frame import Commands, errors
    from overparam.cli.plotting import plot
    from overparam.cli.running import run
    from overparam.cli.sweeping import status, sweep
except KeyboardInterrupt:  # the console script imports this module before there is anything to catch it
    raise SystemExit(130) from None

__all__ = ["app", "main"]

app = typer.Typer(name="overparam", cls=Commands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  help="What gradient descent does when an over-parameterized model learns a simple target, computed exactly.")


def main() -> None:
    """Entry point of the console command."""
    app(prog_name="overparam")


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
def list_names(
    theorems: Annotated[bool, typer.Option("--theorems", help="List the statements that can be checked instead.")] = False,
) -> None:
    """List the experiments that can be reproduced, or the statements that can be checked."""
    with errors():
        if theorems:
            from overparam import theory

            rows = {name: f"[{theory.get(name).tag}] {theory.get(name).title}: {theory.get(name).statement}" for name in theory.list()}
        else:
            from overparam import experiments
            from overparam.experiments.registry import summary_line

            rows = {name: summary_line(name) for name in experiments.list()}
        width = max(map(len, rows))
        for name, line in rows.items():
            typer.echo(f"{name.ljust(width)}  {line}")


for _command in (reproduce, run, sweep, status, plot, check):
    app.command()(_command)


@app.command()
def info() -> None:
    """Show versions, the CPU's features and the kernel in use."""
    with errors():
        import overparam
        from overparam._core import cpu
        from overparam._threads import thread_facts
        from overparam.drivers.loop import versions

        found, threads = cpu.info(), thread_facts()
        rows = {**versions(), "overparam": f"{overparam.__version__}  ({Path(overparam.__file__).parent})",
                "compiled core": Path(cpu.__file__).parent, "kernel in use": found["path"],
                "kernels supported": " ".join(found["supported"]), "CPU features": " ".join(found["features"]),
                "BLAS for large n·d": _blas(), "threads": f"{threads['count']} an evaluation"
                + ("" if threads["supported"] else " (this system has no POSIX threads)")}
        warnings = [facts["warning"] for facts in (found, threads) if "warning" in facts]
        if warnings:
            rows["warning"] = " ".join(warnings)
        width = max(map(len, rows))
        for key, value in rows.items():
            typer.echo(f"{key.ljust(width)}  {value}")


def _blas() -> str:
    """The BLAS that SciPy brings, whose dgemm the kernels take, and its threads."""
    import threadpoolctl
    from scipy.linalg import cython_blas

    package = Path(cython_blas.__file__).parents[1].name
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    own = [pool for pool in pools if Path(pool["filepath"]).parent.name.startswith(package)] or pools
    facts = [(pool["internal_api"], pool["version"], pool.get("architecture"), f"threads: {pool['num_threads']}") for pool in own]
    return ", ".join(" ".join(filter(None, each)) for each in facts) or "SciPy's"
