"""The results of a sweep as one xarray Dataset, and that Dataset in what netCDF can hold."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xarray import Dataset

    from overparam.store import Store

__all__ = ["DONE", "FAILED", "MISSING", "for_netcdf", "table"]

MISSING, DONE, FAILED = 0, 1, 2


def table(store: Store) -> Dataset:
    """The Dataset of :meth:`overparam.store.Store.collect`."""
    import xarray

    from overparam.store import StoreError

    failed = set(store.failures())
    found: dict[int, dict[str, np.ndarray]] = {}
    for index in range(len(store)):
        try:
            found[index] = store.get(index)
        except KeyError:
            continue
        except StoreError as error:
            warnings.warn(f"{error}; it counts as missing", stacklevel=3)
    state = np.array([DONE if i in found else FAILED if i in failed else MISSING for i in range(len(store))], dtype=np.int8)
    axes = store.grid.axes
    dims = ("point",) if axes is None else tuple(axes)
    shape = (len(store),) if axes is None else tuple(map(len, axes.values()))
    coordinates = _coordinates(store)
    data: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in found.values() for name in one):
        values = _stacked({index: one[name] for index, one in found.items() if name in one}, len(store))
        more = tuple(f"{name}_axis{i}" for i in range(1, values.ndim))
        data[_free(name, coordinates)] = ((*dims, *more), values.reshape(*shape, *values.shape[1:]))
    flags = {"flag_values": np.array([MISSING, DONE, FAILED], dtype=np.int8), "flag_meanings": "missing done failed"}
    data[_free("state", {*coordinates, *data})] = (dims, state.reshape(shape), flags)
    return xarray.Dataset(data, coords=coordinates, attrs=_attributes(store))


def for_netcdf(data: Dataset) -> Dataset:
    """The Dataset without complex numbers."""
    for name in [str(name) for name, one in data.data_vars.items() if one.dtype.kind == "c"]:
        data = data.assign({f"{name}_real": data[name].real, f"{name}_imag": data[name].imag}).drop_vars(name)
    return data


def _free(name: str, taken: Any) -> str:
    """A name for a result that is not that of an axis."""
    while name in taken:
        name += "_"
    return name


def _stacked(found: dict[int, np.ndarray], points: int) -> np.ndarray:
    """The arrays of all points in one, filled up where there is none or where it is shorter than others."""
    kinds = {one.dtype.kind for one in found.values()}
    rank = max(one.ndim for one in found.values())
    shape = tuple(max(one.shape[axis] if axis < one.ndim else 1 for one in found.values()) for axis in range(rank))
    whole = len(found) == points and all(one.shape == shape for one in found.values())
    fill: Any
    if "U" in kinds:
        dtype, fill = np.result_type(*(one.astype(str) for one in found.values())), ""
    else:
        dtype = np.result_type(*found.values())
        dtype, fill = (dtype, 0) if whole else (np.result_type(dtype, np.float64), np.nan)
    values = np.full((points, *shape), fill, dtype=dtype)
    for index, one in found.items():
        one = one.reshape((*one.shape, *(1,) * (rank - one.ndim)))
        place: tuple[Any, ...] = (index, *map(slice, one.shape))
        values[place] = one
    return values


def _coordinates(store: Store) -> dict[str, Any]:
    if store.grid.axes is not None:
        return {name: (name, _column(values)) for name, values in store.grid.axes.items()}
    names = dict.fromkeys(name for one in store.grid.points for name in one)
    columns = {name: ("point", _column([one.get(name) for one in store.grid.points])) for name in names}
    return {"point": np.arange(len(store)), **columns}


def _column(values: list[Any]) -> np.ndarray:
    """Values of a parameter as a coordinate: numbers (None is NaN) or texts; lists and mixtures as JSON."""
    if all(isinstance(one, bool) for one in values):
        return np.array(values)
    if all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in values) and values != [None]:
        return np.array([np.nan if one is None else one for one in values])
    return np.array([one if isinstance(one, str) else "" if one is None else json.dumps(one) for one in values])


def _attributes(store: Store) -> dict[str, str]:
    manifest = store.manifest
    rest = {key: value for key, value in manifest["configuration"].items() if key != "grid"}
    return {"sweep": manifest["hash"], "configuration": json.dumps(rest), "versions": json.dumps(manifest["versions"])}
