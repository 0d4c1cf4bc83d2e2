"""What a point's result looks like in a file, and how a file comes into being whole or not at all."""

from __future__ import annotations

import io
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Damaged", "arrays", "decode", "encode", "write_whole"]

_HEADER = "__point__"  # of an npz: which point of which sweep it is


class Damaged(ValueError):
    """A file that is not what was written."""


def arrays(found: Any) -> dict[str, np.ndarray]:
    """A point's mapping as arrays of numbers or texts; TypeError for what has no place in a store."""
    if not isinstance(found, Mapping):
        raise TypeError("point must return a dict of numbers, texts or arrays, or a Trajectory, with measure=; "
                        f"got a {type(found).__name__}")
    if not found:
        raise TypeError("point returned an empty dict: there is nothing to store")
    made = {}
    for name, value in found.items():
        if not isinstance(name, str) or not name or "/" in name or name == _HEADER:
            raise TypeError(f"point returned a dict with the key {name!r}: keys must be texts without '/'")
        array = np.asarray(np.nan if value is None else value)
        if array.dtype.kind not in "biufcU":
            raise TypeError(f"point returned {name!r} of type {type(value).__name__} (dtype {array.dtype}): numbers, texts and arrays "
                            "of them can be stored")
        made[name] = array
    return made


def encode(found: Mapping[str, np.ndarray], index: int, sweep: str) -> bytes:
    """The bytes of an npz file: the same for the same result."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {_HEADER: np.array(json.dumps({"index": index, "sweep": sweep})), **found}
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def decode(data: bytes, index: int, sweep: str) -> dict[str, np.ndarray]:
    """The result of point `index` from the bytes of its file.

    Raises
    ------
    Damaged
        If they are not those of this point of this sweep, or not whole.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            broken = opened.testzip()  # reads all of it against its checksums
        if broken is not None:
            raise Damaged(f"its part {broken!r} does not fit its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as opened:
            found = {name: opened[name] for name in opened.files}
        header = json.loads(str(found.pop(_HEADER)))
        if header != {"index": index, "sweep": sweep}:
            raise Damaged(f"it is of point {header.get('index')} of the sweep {header.get('sweep')}, not of point {index} of {sweep}")
    except Damaged:
        raise
    except Exception as error:  # zip and npy readers raise whatever comes first on bytes that they do not understand
        raise Damaged(f"it is not a whole npz file ({type(error).__name__}: {error})") from error
    return found


def write_whole(path: Path, data: bytes, temporary: Path | None = None) -> None:
    """Write a file under a temporary name beside it and give it its own; OSError where that fails, and then no temporary file stays.

    `temporary` is for callers who know that nobody else writes this file at the time.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp") if temporary is None else temporary
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass
        raise
