"""A folder with the results of a sweep, one file a point: whole or absent, whatever ends the process that writes it.

::

    manifest.json            what was swept: configuration, versions, entropy of the seeds, and a hash of them
    points/000017.npz        the result of point 17
    points/000018.failed     why point 18 failed, with its traceback (JSON)
    points/.000019.claim     point 19 is being computed, or was when its process died
    results.nc               all results together, once they were collected

Files appear by a temporary name and a rename. A store is never added to by another configuration or version than made it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overparam import _claims
from overparam._grids import Grid
from overparam._netcdf import write_netcdf
from overparam._point_files import Damaged, decode, write_whole
from overparam.drivers.loop import versions

if TYPE_CHECKING:
    import numpy as np
    from xarray import Dataset

__all__ = ["Failure", "Status", "Store", "StoreError", "hash_of", "versions_here"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


FORMAT = "overparam sweep"
VERSION = 1
MANIFEST = "manifest.json"
POINTS = "points"
RESULTS = "results.nc"


class StoreError(ValueError):
    """A store that cannot be used: another configuration made it, it is damaged, or it cannot be written to.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.store import Store, StoreError
    >>> try:
    ...     Store.open("no/such/folder")
    ... except StoreError as error:
    ...     print(type(error).__mro__[1].__name__)
    ValueError
    """


@dataclass(frozen=True)
class Failure:
    """Why a point has no result.

    Attributes
    ----------
    index : int
    params : dict
        The swept parameters there.
    error : str
        The last line of the traceback: type and message.
    traceback : str

    Examples
    --------
    >>> import overparam as op
    >>> import warnings
    >>> def point(x):
    ...     return {"root": x**0.5 if x >= 0 else 1 / 0}
    >>> with warnings.catch_warnings(action="ignore"):
    ...     store = op.sweep(point, {"x": [4.0, -1.0]}, seed=0)
    >>> failure = store.failures()[1]
    >>> failure.params, failure.error
    ({'x': -1.0}, 'ZeroDivisionError: division by zero')
    """

    index: int
    params: dict[str, Any]
    error: str
    traceback: str


@dataclass(frozen=True)
class Status:
    """How far a sweep is.

    Attributes
    ----------
    points, done, failed, running, missing : int
        All points; those with a result, those that failed, those that a living process computes at this moment (seen on the machine
        where it runs), and all others.

    Examples
    --------
    >>> import overparam as op
    >>> store = op.sweep(lambda x: {"square": x**2}, {"x": [1, 2, 3]}, seed=0)
    >>> status = store.status()
    >>> status.points, status.done, status.missing
    (3, 3, 0)
    """

    points: int
    done: int
    failed: int
    running: int
    missing: int

    @property
    def complete(self) -> bool:
        """Whether every point has a result or a failure."""
        return self.done + self.failed == self.points

    def __str__(self) -> str:
        parts = {"done": self.done, "failed": self.failed, "running": self.running, "missing": self.missing}
        said = ", ".join(f"{number} {name}" for name, number in parts.items() if number or name == "done")
        return f"{self.points} points: {said}"


@lru_cache(maxsize=1)
def versions_here() -> dict[str, str]:
    """Versions that results depend on: of the package, the kernel in use, NumPy, SciPy and Python (major and minor)."""
    import overparam._core.cpu as cpu

    found = versions()
    return {**found, "python": ".".join(found["python"].split(".")[:2]), "kernel": cpu.info()["path"]}


def hash_of(configuration: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """A hash of what results depend on."""
    text = json.dumps([configuration, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """The results of a sweep, in a folder.

    Made by :func:`overparam.sweep`; ``Store.open(path)`` reads one that is there.

    Parameters
    ----------
    path : Path
        The folder.
    manifest : dict
        What is swept, and by which versions: see :meth:`open` and :meth:`create`.

    Attributes
    ----------
    path : Path
    manifest : dict
    grid : Grid
        ``grid.points[i]`` are the parameters of point i.

    Examples
    --------
    >>> import overparam as op
    >>> def point(x, rng):
    ...     if x == 2:
    ...         raise ValueError("not this one")
    ...     return {"square": x**2, "noise": rng.normal(size=2)}
    >>> with __import__("warnings").catch_warnings(action="ignore"):
    ...     store = op.sweep(point, {"x": [0, 1, 2]}, seed=1)
    >>> str(store.status()), store.failures()[2].error
    ('3 points: 2 done, 1 failed', 'ValueError: not this one')
    >>> store.collect().square.values.tolist()
    [0.0, 1.0, nan]
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.grid = Grid.from_description(manifest["configuration"]["grid"])
        self._points = path / POINTS

    # --- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Return the store in a folder.

        Raises
        ------
        StoreError
            If there is none, it was made by a newer version, or its manifest is damaged.
        """
        path = _folder(path)
        manifest = _read_manifest(path)
        if manifest is None:
            raise StoreError(f"store {str(path)!r} holds no sweep: there is no {MANIFEST}")
        return cls(path, manifest)

    @classmethod
    def create(cls, path: str | os.PathLike[str], configuration: Mapping[str, Any], entropy: Any = None) -> Store:
        """Return the store of a configuration in a folder, made if it is missing.

        Parameters
        ----------
        path : path
        configuration : dict
            What is swept, in JSON's own types, with the grid's description; without the seed's entropy.
        entropy : dict, optional
            Of the seeds. None takes that of a store that is there, or draws a new one.

        Raises
        ------
        StoreError
            If the folder has a store of another configuration or version, or cannot be written to.
        """
        path = _folder(path)
        found = _read_manifest(path)
        if found is None:
            found = cls._write_manifest(path, configuration, entropy)
        store = cls(path, found)
        store._check_same(configuration, entropy)
        return store

    @staticmethod
    def _write_manifest(path: Path, configuration: Mapping[str, Any], entropy: Any) -> dict[str, Any]:
        """Write the manifest of a new store; the one that is there if another process was first."""
        configuration = {**configuration, "seed": {"entropy": secrets.randbits(128), "spawn_key": []} if entropy is None else entropy}
        here = versions_here()
        manifest = {"format": FORMAT, "format_version": VERSION, "id": secrets.token_hex(8), "hash": hash_of(configuration, here),
                    "versions": here, "configuration": configuration}
        temporary = path / f".{MANIFEST}.{secrets.token_hex(8)}.tmp"
        with unwritable(path):
            (path / POINTS).mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
                try:
                    os.link(temporary, path / MANIFEST)  # fails if another process was first, which a rename would not
                except FileExistsError:
                    pass
                except OSError:  # a file system without links
                    os.replace(temporary, path / MANIFEST)
            finally:
                temporary.unlink(missing_ok=True)
        return _read_manifest(path) or manifest

    def _check_same(self, configuration: Mapping[str, Any], entropy: Any) -> None:
        """Raise StoreError if another configuration or version made the store, and say where they differ."""
        stored = self.manifest["configuration"]
        given = {**configuration, "seed": stored["seed"] if entropy is None else entropy}
        differ = [*_differences(stored, given), *_differences(self.manifest["versions"], versions_here())]
        if differ:
            raise StoreError(f"store {str(self.path)!r} was made by another configuration or version, and results are not mixed: "
                             f"{'; '.join(differ[:4])}. Give another store=, or sweep what it was made for (Store.open reads it)")

    # --- points -------------------------------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """Of the configuration and the versions."""
        found: str = self.manifest["hash"]
        return found

    def __len__(self) -> int:
        return len(self.grid)

    def result_path(self, index: int) -> Path:
        """The file of point `index`'s result."""
        return self._points / f"{index:06d}.npz"

    def failure_path(self, index: int) -> Path:
        """The file that says why point `index` failed."""
        return self._points / f"{index:06d}.failed"

    def claim_path(self, index: int) -> Path:
        """The file whose lock says that point `index` is being computed."""
        return self._points / f".{index:06d}.claim"

    def has(self, index: int) -> bool:
        """Whether point `index` has a result or a failure."""
        return self.result_path(index).exists() or self.failure_path(index).exists()

    def put(self, index: int, data: bytes, *, failed: bool = False, alone: bool = False) -> None:
        """Write the file of point `index`, `data` or why it `failed`; `alone` if its claim is held. StoreError where that fails."""
        path = self.failure_path(index) if failed else self.result_path(index)
        with unwritable(self.path):
            write_whole(path, data, path.with_name(f".{path.name}.tmp") if alone else None)

    def get(self, index: int) -> dict[str, np.ndarray]:
        """Return the result of point `index`.

        Raises
        ------
        KeyError
            If it has none.
        StoreError
            If its file is damaged.
        """
        path = self.result_path(index)
        try:
            return decode(path.read_bytes(), index, self.hash)
        except FileNotFoundError:
            raise KeyError(index) from None
        except OSError as error:
            raise StoreError(f"point file {str(path)!r} cannot be read: {error.strerror or error}") from error
        except Damaged as error:
            raise StoreError(f"point file {str(path)!r} is damaged: {error}") from error

    def failures(self) -> dict[int, Failure]:
        """The points that failed, by index."""
        return {index: self._failure(index) for index in sorted(self._named()[1])}

    def _failure(self, index: int) -> Failure:
        try:
            told = json.loads(self.failure_path(index).read_bytes())
            return Failure(index, self.grid.points[index], str(told["error"]), str(told["traceback"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            return Failure(index, self.grid.points[index], f"not known: its file is damaged ({error})", "")

    def status(self) -> Status:
        """How many points are done, failed, running and missing; files are counted, not read."""
        done, failed, claims = self._named()
        running = sum(_claims.is_claimed(self.claim_path(index)) for index in claims - done - failed)
        return Status(len(self), len(done), len(failed - done), running, len(self) - len(done | failed) - running)

    def abandoned(self) -> list[int]:
        """Points that were being computed when their process died."""
        done, failed, claims = self._named()
        return sorted(index for index in claims - done - failed if not _claims.is_claimed(self.claim_path(index)))

    def missing(self) -> list[int]:
        """Points without a result or a failure, in order."""
        done, failed, _ = self._named()
        return [index for index in range(len(self)) if index not in done and index not in failed]

    def set_aside_damaged(self) -> list[Path]:
        """Read all results, and rename the files of those that are damaged to .npz.damaged; returns their new names."""
        moved = []
        for index in sorted(self._named()[0]):
            try:
                self.get(index)
            except StoreError:
                path = self.result_path(index)
                with unwritable(self.path):
                    moved.append(path.rename(path.with_name(path.name + ".damaged")))
        return moved

    def forget_failures(self) -> None:
        """Take away what is known of points that failed: they are missing then."""
        with unwritable(self.path):
            for index in self._named()[1]:
                self.failure_path(index).unlink(missing_ok=True)

    def _named(self) -> tuple[set[int], set[int], set[int]]:
        """Indices that have a result, a failure, a claim, by the names of files."""
        found: dict[str, set[int]] = {"npz": set(), "failed": set(), "claim": set()}
        try:
            with os.scandir(self._points) as entries:
                for entry in entries:
                    stem, _, ending = entry.name.removeprefix(".").partition(".")
                    if ending in found and stem.isdecimal() and int(stem) < len(self):
                        found[ending].add(int(stem))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"store {str(self.path)!r} cannot be read: {error.strerror or error}") from error
        return found["npz"], found["failed"], found["claim"]

    # --- all together -------------------------------------------------------------------------------------------------

    def collect(self) -> Dataset:
        """Return all results as one xarray Dataset.

        Returns
        -------
        xarray.Dataset
            Over the swept parameters (over "point" for a list of points), and over further axes for arrays. NaN (empty for texts) where
            there is no result; the variable ``state`` says why: 0 missing, 1 done, 2 failed. A file that is damaged is warned of and
            counts as missing.
        """
        from overparam._sweep_table import table

        return table(self)

    def save(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write :meth:`collect` as a netCDF file, whole or not at all; complex numbers as NAME_real and NAME_imag.

        Parameters
        ----------
        path : path, optional
            ``results.nc`` in the store's folder by default.

        Returns
        -------
        Path

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        from overparam._sweep_table import for_netcdf

        path = self.path / RESULTS if path is None else Path(path)
        data = for_netcdf(self.collect())
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        with unwritable(path.parent):
            try:
                write_netcdf(data, temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        return path

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {self.status()})"


class unwritable:
    """Turn the system's errors of writing into a StoreError that says that what was there is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            why = " ".join((error.strerror or str(error)).split())
            raise StoreError(f"store {str(self._path)!r} cannot be written to: {why}. What is in it is kept; the same sweep goes on from "
                             "there") from error


def _folder(path: Any) -> Path:
    try:
        found = Path(os.fsdecode(os.fspath(path)))
    except TypeError:
        raise StoreError(f"store must be the name of a folder; got {path!r}"[:200]) from None
    if found.exists() and not found.is_dir():
        raise StoreError(f"store {str(found)!r} is a file; the name of a folder is needed")
    return found.absolute()


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """What the manifest says; None if there is none."""
    file = path / MANIFEST
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"store {str(path)!r}: {MANIFEST} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        manifest = json.loads(text)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        if manifest["format_version"] > VERSION:
            raise StoreError(f"store {str(path)!r} was made by a newer version of overparam (format {manifest['format_version']}, this one "
                             f"reads up to {VERSION})")
        if manifest["hash"] != hash_of(manifest["configuration"], manifest["versions"]):
            raise ValueError("what it says does not fit its hash")
    except StoreError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"store {str(path)!r}: {MANIFEST} is damaged, or of something else: {error}") from error
    return manifest


def _differences(stored: Any, given: Any, at: str = "") -> Iterator[str]:
    """Where two configurations differ, in words."""
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        for key in dict.fromkeys((*stored, *given)):
            inner = f"{at}.{key}" if at else str(key)
            if key not in given or key not in stored:
                where, one = ("here", given[key]) if key not in stored else ("there", stored[key])
                yield f"{inner} is only {where}: {_short(one)}"
            else:
                yield from _differences(stored[key], given[key], inner)
    elif json.dumps(stored) != json.dumps(given):
        yield f"{at} was {_short(stored)} there and is {_short(given)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
