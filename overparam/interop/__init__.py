"""Objectives inside other people's code: :mod:`overparam.interop.torch`, :mod:`overparam.interop.jax`, :mod:`overparam.interop.scipy`.

Each has one function, ``wrap``, and loads when it is first used: ``op.interop.scipy.wrap`` works after ``import overparam as op``. PyTorch
and JAX are extras, ``pip install 'overparam[torch]'`` and ``pip install 'overparam[jax]'``, that nothing else here imports.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING

_MODULES = ("jax", "scipy", "torch")

if not TYPE_CHECKING:  # checkers would take it to mean that any name exists

    def __getattr__(name: str) -> object:
        """A module of this package, with whatever it says if what it wraps is not installed."""
        if name in _MODULES:
            return _import_module(f"overparam.interop.{name}")
        raise AttributeError(f"module 'overparam.interop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [name for name in _MODULES if _find_spec(name) is not None]  # those that would load: help() looks at each
