"""Recovery of a mixture: grid against exact rules, known probabilities, data, settings, Ctrl-C, command line."""

import itertools
import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from typer.testing import CliRunner

import overparam as op
from overparam.cli import app
from overparam.experiments.modes import polygon
from overparam.experiments.registry import check_settings
from overparam.experiments.zhou2025 import recovery
from overparam.experiments.zhou2025.recovery import grid, surjections

NAME = "zhou2025.recovery"


@pytest.fixture(scope="module")
def result():
    return op.experiments.run(NAME, m=(2, 3), n=(2, 3, 8), starts=8, steps=150)


def test_fewer_parameters_than_components_never_recover_and_many_always_do(result):
    points = {(point.m, point.n): point for point in result.points}
    assert len(points) == 6 and all(len(point.outcomes) == 8 for point in points.values())
    assert points[3, 2].recovered == 0 and points[2, 8].recovered == 8
    low, high = points[3, 2].interval
    assert low == 0
    assert_allclose(high, 1 - 0.025 ** (1 / 8))


def test_a_recovered_teacher_has_its_weights(result):
    for point in result.points:
        for one in point.outcomes:
            assert_allclose(sum(one.shares), 1.0, atol=1e-12)
            if one.recovered:
                assert one.divergence < 0.01 and np.abs(np.array(one.shares) - 1 / point.m).max() < 0.02


def test_the_grid_does_what_exact_rules_do(result):
    assert max(point.grid_error for point in result.points) < 1e-3
    target = polygon(2, 6.0)
    start = op.init.from_teacher(target, 3, rng=1)
    exact = op.em(op.KLDivergence(target, rule=op.Auto(tol=1e-8)), start, steps=5, step_size=1.0, record=op.every(5))
    errors = []
    for nodes in (20, 80):
        found = op.em(op.KLDivergence(grid(target, nodes)), start, steps=5, step_size=1.0, record=op.every(5))
        errors.append(np.abs(np.column_stack([found.final - exact.final, found.final_weights - exact.final_weights])).max())
    assert errors[0] < 5e-3 and errors[1] < 1e-6  # the rule converges geometrically


@pytest.mark.parametrize(("n", "m"), [(1, 2), (3, 2), (3, 3), (5, 3)])
def test_the_probability_that_every_component_is_met(n, m):
    draws = list(itertools.product(range(m), repeat=n))
    assert_allclose(surjections(n, m), np.mean([len(set(draw)) == m for draw in draws]), atol=1e-15)


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_neighbours_are_as_far_apart_as_asked(m):
    means = polygon(m, 7.0).means
    assert_allclose(np.linalg.norm(means - np.roll(means, 1, axis=0), axis=1), 7.0)


def test_data_picture_summary(result, tmp_path):
    data = result.to_xarray()
    assert dict(data.sizes) == {"m": 2, "n": 3, "start": 8}
    assert_allclose(data.recovered.mean("start"), data.probability)
    with xarray.open_dataset(result.save(tmp_path / "recovery.nc")) as again:
        assert json.loads(again.attrs["settings"])["starts"] == 8
    assert len(result.draw().axes) == 2
    assert "recovered: KL < 0.01" in result.summary() and "certified" in result.summary()


@pytest.mark.parametrize(("change", "message"), [
    ({"m": 1}, "m must be a whole number not below 2"), ({"n": 0}, "n must be"), ({"starts": 0}, "starts"),
    ({"separation": 0}, "separation"),
    ({"step_size": -1}, "step_size"), ({"steps": -1}, "steps"), ({"threshold": 0}, "threshold"), ({"weight_error": 2}, "weight_error"),
    ({"nodes": 2}, "nodes"), ({"seed": -1}, "seed"), ({"n_jobs": 0}, "n_jobs"), ({"progress": 3}, "progress"),
])
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(NAME, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    whole, calls = recovery._point, []

    def impatient(rng, **given):  # which draws what it needs from the setting's seed
        calls.append(1)
        if len(calls) > finished:
            raise KeyboardInterrupt
        return whole(**given)

    monkeypatch.setattr(recovery, "_point", impatient)
    settings = {"m": 2, "n": (2, 3), "starts": 1, "steps": 10}
    if not finished:
        with pytest.raises(KeyboardInterrupt):
            op.experiments.run(NAME, **settings)
        return
    result = op.experiments.run(NAME, **settings)
    assert result.interrupted and len(result.points) == 1 and result.finished() is result
    assert "interrupted after" in result.summary() and result.draw()


def test_command_line(tmp_path):
    arguments = [word for setting in ("m=2", "n=3", "starts=2", "steps=30") for word in ("--set", setting)]
    said = CliRunner().invoke(app, ["reproduce", NAME, "--out", str(tmp_path), *arguments])
    assert said.exit_code == 0, said.output
    assert (tmp_path / f"{NAME}.png").stat().st_size > 5000 and (tmp_path / f"{NAME}.nc").exists()
