"""The types' marker and the core's stubs are installed, and typed code runs."""

from __future__ import annotations

from importlib.resources import files

import public_types
import pytest

import overparam as op
from overparam._core import chart, cpu, descent, envelopes, factorization, hessian, relu, reverse_fisher, sampling, score_matching, threads
from overparam._core import weighted_sum as weighted

KERNELS = (chart, cpu, descent, envelopes, factorization, hessian, relu, reverse_fisher, sampling, score_matching, threads, weighted)


def test_the_marker_is_installed():
    assert (files("overparam") / "py.typed").is_file()


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__.rpartition(".")[2])
def test_every_kernel_module_has_its_stub_beside_it(kernel):
    stub = (files("overparam._core") / f"{kernel.__name__.rpartition('.')[2]}.pyi").read_text()
    for name, one in vars(kernel).items():  # what else is in it, stubtest compares
        if not name.startswith("_") and getattr(one, "__module__", None) == kernel.__name__:
            assert f"def {name}(" in stub or f"class {name}:" in stub, name


def test_typed_code_runs():
    assert isinstance(public_types.values(), float)
    run = public_types.one_run()
    assert isinstance(run, op.Trajectory) and public_types.after(run) < run.loss[0]
    assert [type(one) for one in public_types.from_arrays()] == [op.Trajectory] * 3
