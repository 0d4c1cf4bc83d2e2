"""TOML text of nested dicts: what the standard library reads but does not write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["dumps"]

_WIDTH = 120  # a longer array of arrays is written one row a line


def dumps(tables: Mapping[str, Any]) -> str:
    """Return TOML text of tables of numbers, texts, bools, arrays and tables; None becomes a comment, for TOML has no such value.

    Raises
    ------
    ValueError
        For a value that TOML cannot hold.

    Examples
    --------
    >>> from overparam._toml import dumps
    >>> print(dumps({"driver": {"kind": "sgd", "steps": 10, "rng": None}}))
    [driver]
    kind = "sgd"
    steps = 10
    # rng is not set
    <BLANKLINE>
    """
    return "\n".join(_table(name, table) for name, table in tables.items())


def _table(name: str, table: Mapping[str, Any]) -> str:
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [f"[{name}]"]
    for key, value in table.items():
        if key not in inner:
            lines.append(f"# {_key(key)} is not set" if value is None else f"{_key(key)} = {_value(value, key)}")
    text = "\n".join(lines) + "\n"
    return "\n".join([text, *(_table(f"{name}.{_key(key)}", value) for key, value in inner.items())])


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a text that is not Unicode cannot be written: {value!r} ({error.reason})") from None
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's; TOML escapes DEL too


def _value(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        items = [_value(item, key) for item in value]
        line = f"[{', '.join(items)}]"
        nested = len(line) > _WIDTH and any(isinstance(item, Sequence) and not isinstance(item, str) for item in value)
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]" if nested else line
    raise ValueError(f"{key} cannot be written as TOML: {value!r}"[:200])
