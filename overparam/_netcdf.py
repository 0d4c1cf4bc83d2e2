"""The one place that writes netCDF."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["write_netcdf"]

_OVERHEAD = 100_000  # bytes of a netCDF file beside its numbers


def write_netcdf(data: Dataset, path: Path, encoding: Any = None) -> None:
    """Write `data` to `path`, whatever is there; OSError where it has no room."""
    _reserve(path, data.nbytes + data.nbytes // 20 + _OVERHEAD)
    data.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def _reserve(path: Path, size: int) -> None:
    """Raise OSError where a file of that size has no room: HDF5 ends the process, later, if it finds out by itself."""
    with open(path, "wb") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
