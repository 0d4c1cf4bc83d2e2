"""Trajectories of made-up numbers, of every kind that has to survive."""

import json

import numpy as np

from overparam.trajectory import (
    Trajectory,
    log_spaced,
)

ARRAYS = ("steps", "times", "loss", "loss_error", "grad_norm", "centres", "deviations", "log_scales", "basis", "origin", "weights")
DICTS = ("settings", "problem", "attributes", "continuation")
SCALARS = ("status", "message", "driver", "evaluations", "wall_time")


def make(records=4, n=3, k=2, d=None, first=0, **changes):
    """A trajectory of made-up numbers; with d it lives in a basis."""
    rng = np.random.default_rng(records + 10 * n + first)
    fields = dict(
        steps=first + np.arange(records) * 10,
        times=0.1 * (first + np.arange(records) * 10),
        loss=rng.uniform(size=records),
        loss_error=1e-12 * rng.uniform(size=records),
        grad_norm=rng.uniform(size=records),
        centres=rng.normal(size=(records, k)),
        deviations=1e-300 * rng.normal(size=(records, n, k)),
        weights=np.full(n, 1 / n),
        message="all steps taken",
        observed={"norm": rng.uniform(size=(records, n))},
        driver="testing",
        settings={"step_size": 0.01, "steps": records, "seed": 2**100, "record": log_spaced(3).describe()},
        problem={"kind": "Mine", "teacher": {"kind": "Gaussian", "mean": [0.0] * k}, "rule": None},
        attributes={"tolerance": 1e-10, "versions": {"numpy": "2"}, "paper": None, "exact": True},
        evaluations=40,
        wall_time=0.1 + 0.2,
        continuation={"state": [1, 2**127]},
    )
    if d is not None:
        fields["basis"] = np.linalg.qr(rng.normal(size=(d, k)))[0]
        fields["origin"] = rng.normal(size=d)
    return Trajectory(**{**fields, **changes})


def assert_same(one, two):
    """Equal field by field, arrays to the last bit and in dtype."""
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), name
    assert list(one.observed) == list(two.observed)
    for name, values in one.observed.items():
        other = two.observed[name]
        assert values.dtype == other.dtype and values.shape == other.shape and values.tobytes() == other.tobytes(), name
    for name in DICTS + SCALARS:
        # through JSON: a NaN equals itself there
        assert json.dumps(getattr(one, name)) == json.dumps(getattr(two, name)), name
        assert type(getattr(one, name)) is type(getattr(two, name)), name


CASES = {
    "plain": lambda: make(),
    "in a basis": lambda: make(d=7),
    "one record, one parameter, one dimension": lambda: make(records=1, n=1, k=1),
    "no weights, nothing observed": lambda: make(weights=None, observed={}),
    "not finite": lambda: make(loss=[np.nan, np.inf, -np.inf, -0.0], loss_error=[5e-324, 0.0, -0.0, 1.0], status="unstable"),
    "below float64's range": lambda: make(deviations=1e-120 * np.random.default_rng(0).normal(size=(4, 3, 2)),
                                          log_scales=[-2000.5, -300.0, -2000.5, -1e6]),
    "many types observed": lambda: make(
        observed={
            "flag": np.array([True, False, True, True]),
            "count": np.arange(4, dtype=np.int16),
            "single": np.float32([1, 2, 3, -0.0]),
            "big": np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64),
            "wave": np.arange(8).reshape(4, 2) * (1 - 0.5j) + np.nan,
            "single wave": np.array([1j, -0.0, np.inf, 2], dtype=np.complex64),
            "half": np.float16([1, 2, 3, 4]),
            "long": np.longdouble([1, 2, 3, 4]),
            "long wave": np.clongdouble([1, 2j, 3, 4]),
            "swapped": np.arange(4, dtype=">f8"),
            "empty": np.empty((4, 0, 2)),
            "loss": np.arange(4.0),
            "time": np.arange(4.0),
            "a/b c": np.arange(4.0),
            "a_b_c": np.ones(4),
            "é": np.arange(4.0),
            "": np.zeros(4),
            "params": np.ones(4),
            "record": np.ones(4),
            "description": np.ones(4),
        }
    ),
    "odd texts": lambda: make(
        message='a\0b \ud800 \N{SNOWMAN}\n"quoted"',
        driver="d/e",
        attributes={"": "", "status": "x", "nan": float("nan")},
    ),
    "huge description": lambda: make(problem={"kind": "Far", "mean": [0.1] * 100_000}),
}
