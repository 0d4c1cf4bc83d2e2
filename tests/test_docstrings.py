"""Every public name says what it is: numpydoc's checks (those that pyproject.toml names), and some of our own."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import ERROR_MSGS, validate

import overparam as op

ROOT = Path(__file__).parents[1]
NAMED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["numpydoc_validation"]["checks"]
CODES = set(ERROR_MSGS) - set(NAMED)

MODULES = ("overparam", "overparam.config", "overparam.data_sets", "overparam.distances", "overparam.drivers", "overparam.experiments",
           "overparam.factors", "overparam.init", "overparam.interop.scipy", "overparam.nodes", "overparam.objectives",
           "overparam.planning", "overparam.plotting", "overparam.quadrature", "overparam.rates", "overparam.regimes",
           "overparam.sampling", "overparam.state", "overparam.stationary", "overparam.store", "overparam.sweeps", "overparam.teachers",
           "overparam.theory", "overparam.trajectory", "overparam.verification",
           *(f"overparam.interop.{name}" for name in ("torch", "jax") if importlib.util.find_spec(name)))

# In a module's __all__ for other modules of the package, not for users.
BETWEEN_MODULES = {"check_observe", "check_schedule", "schedule_from_description", "rule_from_description", "teacher_from_description",
                   "from_description", "offset_of", "hash_of", "versions_here", "from_tables", "parse", "read"}

DESCRIPTORS = property, classmethod, staticmethod, functools.cached_property


def public():
    """Classes and functions by where they are defined, each once."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            it = getattr(module, name)
            if callable(it) and not inspect.ismodule(it) and name not in BETWEEN_MODULES:
                found[f"{it.__module__}.{it.__qualname__}"] = it
    return found


PUBLIC = public()


def methods(cls):
    """Public methods and properties by where they are defined, those that this package's bases bring among them."""
    for base in cls.__mro__:
        if base.__module__.startswith("overparam"):
            for name, it in vars(base).items():
                if not name.startswith("_") and (inspect.isfunction(it) or isinstance(it, DESCRIPTORS)) and getattr(cls, name) is not None:
                    yield f"{base.__module__}.{base.__qualname__}.{name}", (cls, base, name)


METHODS = dict(method for it in PUBLIC.values() if inspect.isclass(it) for method in methods(it))


def complaints(path, codes):
    return [f"{code} {words}" for code, words in validate(path)["errors"] if code in codes]


def unmentioned(names, text):
    """Those of some names that a text does not speak of, in a list or in its sentences."""
    return [name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is None]


def said_by(cls):
    """The docstrings of a class and of its bases."""
    bases = [each for each in cls.__mro__ if each.__module__.startswith("overparam")]
    return "\n".join(inspect.cleandoc(each.__doc__ or "") for each in bases)


@pytest.mark.parametrize("path", PUBLIC)
def test_classes_and_functions(path):
    it = PUBLIC[path]
    fields = {field.name for field in dataclasses.fields(it) if not field.name.startswith("_")} if dataclasses.is_dataclass(it) else set()
    # Results, which users do not make, have attributes in place of parameters.
    assert complaints(path, CODES - {"PR01"} if fields else CODES) == []
    assert not fields or unmentioned(fields, said_by(it)) == []
    assert ">>>" in "\n".join(NumpyDocString(inspect.getdoc(it))["Examples"])


@pytest.mark.parametrize("path", METHODS)
def test_methods(path):
    """A sentence may do where it names the parameters, and what the class or a base says need not be said again."""
    cls, base, name = METHODS[path]
    it = vars(base)[name]
    texts = [vars(each)[name].__doc__ for each in cls.__mro__ if name in vars(each) and vars(each)[name].__doc__]
    assert texts
    if it.__doc__:
        assert complaints(path, CODES - {"EX01", "PR01", "RT01", "YD01"}) == []
    if not isinstance(it, (property, functools.cached_property)):
        parameters = set(inspect.signature(getattr(it, "__func__", it)).parameters) - {"self", "cls"}
        assert unmentioned(parameters, "\n".join([*texts, said_by(cls)])) == []


# Where a paper, or an author, is implemented.
SOURCED = [path for path in PUBLIC if re.match(r"overparam\.(objectives\.(score_matching|kl|reverse_fisher|relu_neuron|matrix_fac\w+)|"
                                               r"drivers\.(momentum|adaptive|minibatch|expectation_maximization))", path)]


@pytest.mark.parametrize("path", SOURCED)
def test_sources(path):
    """What implements a paper names it, with its tag."""
    text = said_by(PUBLIC[path]) if inspect.isclass(PUBLIC[path]) else inspect.getdoc(PUBLIC[path])
    assert re.search(r"(18|19|20)\d\d", text) and re.search(r"\[(published|derived|reconstructed|recalled|measured)", text)


@pytest.mark.parametrize("name", op.init.__all__)
def test_a_start_says_who_uses_it(name):
    assert re.search(r"\b20\d\d\b", inspect.getdoc(getattr(op.init, name)))


def test_every_public_name_is_looked_at():
    for name in op.__all__:
        it = getattr(op, name)
        assert isinstance(it, str) or inspect.ismodule(it) or f"{it.__module__}.{it.__qualname__}" in PUBLIC
    for module in (getattr(op, name) for name in op.__all__ if inspect.ismodule(getattr(op, name))):
        assert module.__name__ in MODULES and module.__doc__
