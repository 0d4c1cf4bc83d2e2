"""``overparam sweep`` and ``overparam status``: many runs from a TOML file, into a folder that can be gone on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overparam.cli.frame import NOT_SO, ends_at_ctrl_c, errors, say

if TYPE_CHECKING:
    from overparam.store import Store
    from overparam.sweep_config import SweepPlan

__all__ = ["status", "sweep"]

EFFECTIVE = "effective.toml"
BACKENDS = ("loky", "threading", "dask")
_SHOWN = 5  # failures


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="A problem with a table [sweep]: see docs/config.md.",
                                         show_default=False)],
    out: Annotated[Path | None, typer.Option(metavar="DIR", show_default=False,
                                             help="Folder of the results; FILE.sweep in the current one by default.")] = None,
    backend: Annotated[str | None, typer.Option(metavar="loky|threading|dask", show_default=False,
                                                help="Processes of this machine (the default), threads, or a Dask cluster.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", show_default=False,
                                                  help="Dask's scheduler, such as tcp://node1:8786.")] = None,
    jobs: Annotated[int | None, typer.Option(
        metavar="N", show_default=False,
        help="Points at a time; as many as there are cores (or threads of the cluster) if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the results that are in DIR.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also compute those again that failed; with --resume.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Compute a problem at every point of a grid: writes a file for each point, results.nc and effective.toml."""
    with errors():
        began = time.perf_counter()
        from overparam import sweep_config
        from overparam.store import Store, StoreError

        plan = sweep_config.load(file)
        backend = _backend(backend, scheduler)
        if jobs == 0:
            raise ValueError("--jobs must be a whole number other than 0; got 0")
        out = Path(f"{file.stem}.sweep") if out is None else out
        try:
            before = Store.open(out).status() if (out / "manifest.json").exists() else None
        except StoreError as error:
            raise ValueError(f"--out: {error}") from None
        if dry_run:
            typer.echo(_describe(plan))
            typer.echo(f"store      {out}: {'new' if before is None else before}")
            return
        if before is not None and not resume and before.done + before.failed:
            raise ValueError(f"--out {str(out)!r} has results already ({before}): --resume goes on with them, another --out starts anew")
        import h5netcdf  # noqa: F401  what writing needs, before any work
        import xarray  # noqa: F401

        with _sharing(backend, scheduler, jobs), ends_at_ctrl_c():
            if before is None:
                _write_effective(plan, out, file)
            store = plan.run(out, retry_failed=retry_failed)
        results = store.save()
        found = store.status()
        typer.echo(f"{found}\n{_failures(store)}  data           {results}\n  configuration  {out / EFFECTIVE}\n"
                   f"  done in {time.perf_counter() - began:.1f} s; 'overparam plot {out}' draws it")
        if found.failed:
            raise typer.Exit(NOT_SO)


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a sweep.", show_default=False)],
) -> None:
    """Say how far a sweep is, and what failed; exit code 1 if a point failed or its file is damaged."""
    with errors():
        from overparam.store import Store, StoreError

        store = Store.open(folder)
        found = store.status()
        damaged = []
        for index in range(len(store)):
            try:
                store.get(index)
            except KeyError:
                continue
            except StoreError as error:
                damaged.append(str(error))
        typer.echo(f"{found}\n{_failures(store)}", nl=False)
        configuration, versions = store.manifest["configuration"], store.manifest["versions"]
        axes = configuration["grid"].get("axes")
        rows = {"function": configuration["point"]["name"], "made by": ", ".join(f"{key} {value}" for key, value in versions.items())}
        if axes is not None:
            rows["grid"] = " x ".join(f"{name} ({len(values)})" for name, values in axes.items())
        for key, value in rows.items():
            typer.echo(f"  {key:<9} {value}")
        for text in damaged:
            say(f"{text}; 'overparam sweep ... --resume' computes it again")
        if found.failed or damaged:
            raise typer.Exit(NOT_SO)


def _backend(backend: str | None, scheduler: str | None) -> str:
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"--backend must be one of {', '.join(BACKENDS)}; got {backend!r}")
    if scheduler is not None and backend not in (None, "dask"):
        raise ValueError(f"--scheduler is Dask's, and --backend is {backend}")
    if backend == "dask" and scheduler is None:
        raise ValueError("--backend dask needs --scheduler ADDRESS; 'dask scheduler' starts one: see docs/sweeps.md")
    return "dask" if scheduler is not None else backend or "loky"


@contextmanager
def _sharing(backend: str, scheduler: str | None, jobs: int | None) -> Iterator[Any]:
    """joblib's configuration for the sweep."""
    import joblib

    if backend != "dask":
        with joblib.parallel_config(backend=backend, n_jobs=-1 if jobs is None else jobs):
            yield
        return
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--backend dask needs Dask: pip install 'overparam[cluster]'") from None
    try:
        client = Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"--scheduler {scheduler!r} does not answer: {error}") from None
    with client, joblib.parallel_config(backend="dask", client=client, n_jobs=-1 if jobs is None else jobs):
        yield


def _write_effective(plan: SweepPlan, out: Path, file: Path) -> None:
    path = out / EFFECTIVE
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {str(out)!r} cannot be written to: {error.strerror or error}") from None
    if path.exists() and path.samefile(file):
        return  # it is what was run
    path.write_text(plan.dump(), encoding="utf-8")


def _describe(plan: SweepPlan) -> str:
    lines = [f"points     {len(plan.grid)}"]
    if plan.grid.axes is None:
        lines.append(f"sampled    {', '.join(plan.grid.points[0])}")
    for name, values in (plan.grid.axes or {}).items():
        shown = ", ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in values[:6])
        lines.append(f"  {name:<20} {len(values)} values: {shown}{', ...' if len(values) > 6 else ''}")
    return "\n".join([*lines, f"driver     {plan.problem.driver}", f"measured   {', '.join(plan.measure)}", f"stop       {plan.stop}"])


def _failures(store: Store) -> str:
    found = list(store.failures().values())
    lines = [f"  failed at {one.params}: {' '.join(one.error.split())}" for one in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"  ... and {len(found) - _SHOWN} more")
    return "".join(f"{line}\n" for line in lines)
