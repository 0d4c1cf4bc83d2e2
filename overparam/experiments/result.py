"""What every experiment returns: data that draw, save and summarise themselves."""

from __future__ import annotations

import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overparam._netcdf import write_netcdf
from overparam.drivers.loop import versions

if TYPE_CHECKING:
    from typing import Self

    from matplotlib.figure import Figure
    from xarray import Dataset

    from overparam.verification import Verification

__all__ = ["ExperimentResult"]


@dataclass(frozen=True, eq=False)
class ExperimentResult(ABC):
    """Base of the results of all experiments.

    Attributes
    ----------
    name : str
        Name of the experiment.
    settings : dict
        Every setting it ran with, defaults included.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.figure_1", M=(4.0,), steps=100)
    >>> result.name, result.settings["steps"]
    ('zhang2025.figure_1', 100)
    """

    name: str
    settings: dict[str, Any]

    @abstractmethod
    def figure(self) -> Figure:
        """Return the picture as a matplotlib Figure that pyplot does not know."""

    @abstractmethod
    def to_xarray(self) -> Dataset:
        """Return the data with named dimensions."""

    @abstractmethod
    def summary(self) -> str:
        """Return what came out, on one screen."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C cut the experiment short; the data then are those reached."""
        return bool(self.reached)

    @property
    def reached(self) -> str:
        """Where Ctrl-C cut the experiment short, in words; empty if it ran to its end."""
        return ""

    @property
    def heading(self) -> str:
        """The name and the settings in one line, the first of most summaries."""
        return f"{self.name}: " + ", ".join(f"{key}={value}" for key, value in self.settings.items())

    def finished(self) -> Self | None:
        """Return the result without the runs that Ctrl-C cut short; None if no run came to its end."""
        return None if self.interrupted else self

    def verify(self, progress: bool | None = None) -> dict[str, Verification]:
        """Repeat every exact run at a hundredth of its tolerance: see :func:`overparam.verify`.

        Parameters
        ----------
        progress : bool, optional
            As in the drivers.

        Returns
        -------
        dict
            A :class:`~overparam.verification.Verification` for each run, by the run's name.

        Raises
        ------
        ValueError
            If the experiment has no run to verify.
        KeyboardInterrupt
            On Ctrl-C: half a check says nothing.
        """
        raise ValueError(f"experiment {self.name!r} has no run to verify")

    def draw(self, path: str | os.PathLike[str] | None = None) -> Figure | Path:
        """Draw the picture.

        Parameters
        ----------
        path : path, optional
            File to write; its ending says the format (PNG, PDF, SVG, ...; PNG without one). It appears whole or not at all.

        Returns
        -------
        Figure or Path
            The figure if no path is given, otherwise the path.

        Raises
        ------
        ValueError
            If the file cannot be written, or its format is not known.

        Examples
        --------
        >>> import overparam as op
        >>> result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)
        >>> type(result.draw()).__name__
        'Figure'
        """
        figure = self.figure()
        if path is None:
            return figure
        kind = Path(path).suffix.lstrip(".").lower() or "png"
        known = figure.canvas.get_supported_filetypes()
        if kind not in known:
            raise ValueError(f"path {os.fspath(path)!r} ends in .{kind}, which is not a picture format; known: {', '.join(sorted(known))}")
        return _write_whole(path, lambda temporary: figure.savefig(temporary, format=kind, dpi=200))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`to_xarray` as a netCDF file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write; one that exists is replaced.

        Returns
        -------
        Path
            The path.

        Raises
        ------
        ValueError
            If the file cannot be written.

        Examples
        --------
        >>> import overparam as op, tempfile, pathlib
        >>> result = op.experiments.run("zhang2025.figure_1", M=1.0, n=2, steps=100, tol=1e-6, records=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result.save(pathlib.Path(folder) / "figure_1.nc").name
        'figure_1.nc'
        """
        data = self.to_xarray()
        return _write_whole(path, lambda temporary: write_netcdf(data, temporary))

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from overparam._html_views import experiment_card

        return experiment_card(self)

    def attributes(self) -> dict[str, str]:
        """Return what a data file says about its origin: experiment, settings and versions; and where Ctrl-C came, if it did."""
        facts = {"experiment": self.name, "settings": json.dumps(self.settings), "versions": json.dumps(versions())}
        return {**facts, "interrupted": self.reached} if self.interrupted else facts


def _write_whole(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, then give it that name."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"path {os.fspath(path)!r} is a folder; the name of a file is needed")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.open("xb").close()  # says at once whether the folder is there and writable
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"path {os.fspath(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
