"""How a trajectory is written down: JSON-able facts, an xarray Dataset, a netCDF file.

Numbers go into variables, everything else into one JSON text, so that any netCDF reader sees the records and nothing is
lost.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._netcdf import write_netcdf
from overparam.layout import Layout

if TYPE_CHECKING:
    import xarray

    from overparam.trajectory import Trajectory

__all__ = ["dataset", "plain", "read", "storable", "write"]

FORMAT = "overparam trajectory"
VERSION = 4  # parameters of another shape than (n, d)
WEIGHED = 3  # weights over records
SCALED = 2  # log scales, and weights that do not move
PLAIN = 1  # neither: readers of the first format take it for what it is

#: Variables of the file: name -> (field of Trajectory, dimensions, what it is).
VARIABLES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "loss": ("loss", ("record",), "loss"),
    "loss_error": ("loss_error", ("record",), "bound or standard error of the loss"),
    "grad_norm": ("grad_norm", ("record",), "Euclidean norm of the whole gradient"),
    "centre": ("centres", ("record", "axis"), "centre of the parameters in the coordinates of the basis"),
    "deviation": (
        "deviations",
        ("record", "parameter", "axis"),
        "deviations from the centre in the coordinates of the basis",
    ),
    "log_scale": ("log_scales", ("record",), "logarithm of what the deviations are to be multiplied by"),
    "basis": ("basis", ("coordinate", "axis"), "orthonormal basis of the reduced space"),
    "origin": ("origin", ("coordinate",), "origin of the reduced space"),
    "weights": ("weights", ("parameter",), "mixture weights of the student"),
}
COORDS = {
    "step": ("steps", ("record",), "number of steps taken"),
    "time": ("times", ("record",), "flow time: step size times number of steps"),
}
#: Fields that travel in the JSON text.
FACTS = ("status", "message", "driver", "settings", "problem", "attributes", "evaluations", "wall_time", "continuation")
_TAKEN = {*VARIABLES, *COORDS, "params", "description", "record", "parameter", "coordinate", "axis"}


def plain(value: Any, name: str) -> Any:
    """Return a deep copy of `value` in JSON's own types: NumPy numbers and arrays, tuples and mappings are converted.

    Raises
    ------
    ValueError
        If something in it has no counterpart in JSON; the message names where.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(entry, f"{name}[{str(key)!r}]") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        if all(type(entry) is float for entry in value):  # the mean of a teacher in a million dimensions
            return list(value)
        return [plain(entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    raise ValueError(
        f"{name} must hold what JSON can hold (numbers, texts, None, lists, dicts with text keys); got a {type(value).__name__}"
    )


def storable(value: Any) -> np.ndarray:
    """An array in a type that netCDF has: half and extended floats become double, bytes the machine's order."""
    array = np.asarray(value)
    double = {"f": np.float64, "c": np.complex128}.get(array.dtype.kind)
    if double is not None and array.dtype.itemsize not in (np.dtype(double).itemsize, np.dtype(double).itemsize // 2):
        return array.astype(double)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _variable_names(observed: Mapping[str, Any]) -> dict[str, str]:
    """Map the users' names of observed quantities to names that a file can hold and that are free."""
    names: dict[str, str] = {}
    for given in observed:
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "_-+.@") else "_" for c in given)
        name = safe if safe[:1].isalpha() and safe not in _TAKEN else f"observed_{safe}"
        while name in names.values() or name in _TAKEN:
            name += "_"
        names[given] = name
    return names


def _attribute(value: Any) -> str | int | float:
    """A netCDF attribute: texts and numbers as they are; None, bool, huge integers, lists and dicts as JSON text."""
    if isinstance(value, str):  # netCDF would cut a text short at a NUL and refuse a lone surrogate
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    small = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if small or isinstance(value, float) else json.dumps(value)


def dataset(trajectory: Trajectory, *, expand: bool) -> xarray.Dataset:
    """Return the Dataset of a trajectory: its reduced coordinates always, `params` in the full space if `expand`."""
    import xarray

    data: dict[str, Any] = {}
    for name, (field, dims, meaning) in VARIABLES.items():
        if (array := getattr(trajectory, field)) is not None:
            dims = dims if array.ndim == len(dims) else ("record", *dims)  # weights that move
            data[name] = (dims, array, {"long_name": meaning})
    if expand:
        params = np.asarray(trajectory.params)
        axes = ("parameter", "coordinate") if trajectory.layout is None else tuple(f"params_axis{i}" for i in range(params.ndim - 1))
        data["params"] = (("record", *axes), params, {"long_name": "parameters"})
    for given, name in _variable_names(trajectory.observed).items():
        array = trajectory.observed[given]
        dims = ("record", *(f"{name}_axis{i}" for i in range(1, array.ndim)))
        data[name] = (dims, array, {"long_name": f"observed: {given}"})
    coords = {name: (dims, getattr(trajectory, field), {"long_name": meaning}) for name, (field, dims, meaning) in COORDS.items()}
    attributes = {
        name: _attribute(getattr(trajectory, name))
        for name in ("status", "message", "driver", "settings", "problem", "evaluations", "wall_time")
    }
    for name, value in trajectory.attributes.items():
        attributes[f"attribute_{name}" if not name or name in attributes else name] = _attribute(value)
    return xarray.Dataset(data, coords, attributes)


def write(trajectory: Trajectory, path: Any) -> None:
    """Write the file under a temporary name in the same folder and move it into place: there is never half a file."""
    target = _checked(path)
    if target.is_dir():
        raise ValueError(f"path {str(target)!r} is a folder; give the name of a file in it")
    if not target.parent.is_dir():
        raise ValueError(f"path {str(target)!r} cannot be written: there is no folder {str(target.parent)!r}")
    target = Path(os.path.realpath(target))  # a link stays a link
    facts = {name: getattr(trajectory, name) for name in FACTS}
    content = dataset(trajectory, expand=False)
    if trajectory.layout is not None:
        facts["layout"] = trajectory.layout.describe()
    facts["observed"] = _variable_names(trajectory.observed)
    facts["complex"] = [name for name in facts["observed"].values() if content[name].dtype.kind == "c"]
    for name in facts["complex"]:  # netCDF has no complex numbers: (real, imaginary) on an axis of their own
        values = content[name].values
        pairs = np.ascontiguousarray(values).view(values.real.dtype).reshape(*values.shape, 2)
        content[name] = ((*content[name].dims, "real_imaginary"), pairs, content[name].attrs)
    content["description"] = ((), json.dumps(facts), {"long_name": "everything that is not an array, as JSON"})
    # the description has them all: a text of a million numbers need not be written twice
    short = {name: value for name, value in content.attrs.items() if not isinstance(value, str) or len(value) < 10_000}
    content.attrs = {**short, "format": FORMAT, "format_version": _version(trajectory)}
    temporary = target.with_name(f".overparam-{secrets.token_hex(8)}.tmp")
    try:
        temporary.open("xb").close()
    except OSError as error:
        raise ValueError(f"path {str(target)!r} cannot be written: {error.strerror or error}") from error
    try:
        fills = {name: {"_FillValue": None} for name in content.variables if content[name].dtype.kind == "f"}
        write_netcdf(content, temporary, fills)
        os.replace(temporary, target)
    except OSError as error:
        raise ValueError(f"path {str(target)!r} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _version(trajectory: Trajectory) -> int:
    """The oldest format that can say what this trajectory has."""
    if trajectory.layout is not None:
        return VERSION
    if trajectory.weights is not None and trajectory.weights.ndim == 2:
        return WEIGHED
    return SCALED if trajectory.log_scales.any() else PLAIN


def read(path: Any) -> dict[str, Any]:
    """Return the fields of the trajectory in a file, by name; ValueError if it is not one."""
    import xarray

    source = _checked(path)
    if not source.is_file():
        what = "a folder" if source.is_dir() else "not there"
        raise ValueError(f"path {str(source)!r} is {what}; give the name of a saved trajectory")
    try:
        # as stored: no decoding of times, no masking of fill values
        with xarray.open_dataset(source, engine="h5netcdf", decode_times=False, mask_and_scale=False) as opened:
            content = opened.load()
    except PermissionError as error:
        raise ValueError(f"path {str(source)!r} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # HDF5 raises whatever comes first on bytes that it does not understand
        raise ValueError(f"path {str(source)!r} is not a netCDF file that can be read: {error}") from error
    if content.attrs.get("format") != FORMAT:
        raise ValueError(f"path {str(source)!r} is a netCDF file but not a trajectory written by Trajectory.save; open it with "
                         "xarray.open_dataset")
    if content.attrs.get("format_version", VERSION) > VERSION:
        raise ValueError(
            f"path {str(source)!r} was written by a newer version (format {content.attrs['format_version']}, "
            f"this one reads up to {VERSION}); update overparam"
        )
    try:
        facts = json.loads(str(content["description"].item()))
        fields = {name: facts[name] for name in FACTS}
        fields["layout"] = Layout.from_description(facts.get("layout"))
        fields["observed"] = {
            given: _from_pairs(content[name].values) if name in facts["complex"] else content[name].values
            for given, name in facts["observed"].items()
        }
        for name, (field, _, _) in {**COORDS, **VARIABLES}.items():
            if name in content.variables:
                fields[field] = content[name].values
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path {str(source)!r} is a damaged trajectory file: {error!r}") from error
    return fields


def _from_pairs(pairs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pairs).view(np.result_type(pairs.dtype, np.complex64))[..., 0]


def _checked(path: Any) -> Path:
    try:
        return Path(os.fsdecode(os.fspath(path)))
    except TypeError:
        raise ValueError(f"path must be a file name; got {path!r}"[:200]) from None
