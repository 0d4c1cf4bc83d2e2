"""What a function is, in a few letters: so that results of one version of it are not mixed with those of another."""

from __future__ import annotations

import dis
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from overparam._trajectory_file import plain

__all__ = ["describe_function"]


def describe_function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's name, what it was given beforehand, and a hash of what it does, in JSON's own types.

    The hash is of the compiled code without documentation and line numbers, of defaults, and of what the function refers to: plain
    values of its closure and its module, and functions of the same module, likewise. What it calls elsewhere is not seen.

    Parameters
    ----------
    function : callable
        A function, a ``functools.partial`` of one, a method or an object that can be called.

    Returns
    -------
    dict
        With "name" and "code"; "arguments" for a partial.

    Examples
    --------
    >>> from overparam._fingerprint import describe_function
    >>> def double(x):
    ...     return 2 * x
    >>> before = describe_function(double)
    >>> def double(x):
    ...     '''Another text, the same deeds.'''
    ...     return 2 * x
    >>> describe_function(double) == before
    True
    """
    given: dict[str, Any] = {}
    while isinstance(function, partial):
        arguments = {**{str(i): value for i, value in enumerate(function.args)}, **function.keywords}
        given = {**{key: _value(value) for key, value in arguments.items()}, **given}
        function = function.func
    owner, code = None, function
    if isinstance(function, MethodType):
        owner, code = function.__self__, function.__func__
    elif not isinstance(function, FunctionType | BuiltinFunctionType | type):  # an object with __call__
        owner, code = function, type(function).__call__
    if owner is not None:
        given = {**{key: _value(value) for key, value in getattr(owner, "__dict__", {}).items()}, **given}
    module = getattr(code, "__module__", None) or ""
    name = getattr(code, "__qualname__", type(function).__qualname__)
    found = {"name": name if module in ("", "__main__") else f"{module}.{name}", "code": _digest(_seen(code, module, set()))}
    return {**found, "arguments": given} if given else found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _value(value: Any) -> Any:
    """A value in JSON's types; arrays that are long by their hash, functions by theirs, other things by their type."""
    if isinstance(value, np.ndarray) and value.size > 64:
        return f"array {value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]}"
    if isinstance(value, partial | FunctionType):
        return describe_function(value)
    described = getattr(value, "describe", None)
    if callable(described) and not isinstance(value, type):  # objectives, teachers, rules
        try:
            return plain(described(), "")
        except (TypeError, ValueError, NotImplementedError):
            return f"a {type(value).__qualname__}"
    if isinstance(value, Mapping):
        return {str(key): _value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    try:
        return plain(value, "")
    except ValueError:
        return f"a {type(value).__qualname__}"


def _seen(function: Any, module: str, met: set[int]) -> Any:
    """What the hash is of."""
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, FunctionType):
        return f"{getattr(function, '__qualname__', type(function).__qualname__)}"
    if id(function) in met:
        return function.__qualname__
    met.add(id(function))
    code = function.__code__
    cells = {name: _cell(cell, module, met) for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)}
    names = _names(code)
    globals_ = {name: _refers(function.__globals__[name], module, met) for name in sorted(names) if name in function.__globals__}
    defaults = [_value(value) for value in function.__defaults__ or ()]
    keywords = {key: _value(value) for key, value in (function.__kwdefaults__ or {}).items()}
    return [_code(code), cells, {key: value for key, value in globals_.items() if value is not None}, defaults, keywords]


def _cell(cell: Any, module: str, met: set[int]) -> Any:
    try:
        inside = cell.cell_contents
    except ValueError:  # not filled yet
        return None
    found = _refers(inside, module, met)
    return _value(inside) if found is None else found


def _refers(value: Any, module: str, met: set[int]) -> Any:
    """A plain value, or a function of the same module, that a function refers to; None for anything else."""
    if isinstance(value, FunctionType):
        return _seen(value, module, met) if value.__module__ == module else None
    if isinstance(value, bool | int | float | complex | str | bytes | tuple | list | dict | np.ndarray | np.generic):
        return _value(repr(value) if isinstance(value, complex | bytes) else value)
    return None


def _names(code: CodeType) -> set[str]:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*(_names(one) for one in inner))


def _code(code: CodeType) -> list[Any]:
    """Instructions and what they work on, without what a comment or a docstring changes."""
    return [[one.opname, _code(one.argval) if isinstance(one.argval, CodeType) else _constant(one.argval)]
            for one in dis.get_instructions(code)]


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
