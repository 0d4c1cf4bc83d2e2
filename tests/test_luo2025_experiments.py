"""Four-layer factorization: shares of converged starts, stages, loss curves; settings, Ctrl-C, command line."""

import functools
import json

import numpy as np
import pytest
import xarray
from numpy.testing import assert_allclose
from typer.testing import CliRunner

import overparam as op
from overparam import factors
from overparam.cli import app
from overparam.experiments.luo2025 import convergence, dichotomy, saddle_avoidance
from overparam.experiments.registry import check_settings

SHARES, STAGES, CURVES = "luo2025.dichotomy", "luo2025.saddle_avoidance", "luo2025.convergence"


@pytest.fixture(scope="module")
def shares():
    return op.experiments.run(SHARES, samples=12, scale=(0.4, 0.2), horizons=(2_000, 8_000))


@pytest.fixture(scope="module")
def stages():
    return op.experiments.run(STAGES, steps=20_000, records=200)


@pytest.fixture(scope="module")
def curves():
    return op.experiments.run(CURVES, samples=5, steps=4_000, records=80)


def test_only_the_negative_determinant_never_converges(shares):
    for scale in (0.4, 0.2):
        counts = {kind: shares.share(kind, scale, 8_000) for kind in dichotomy.KINDS}
        assert counts["complex"][1] == counts["positive"][1] + counts["negative"][1] == 12
        assert counts["negative"][0] == 0 and min(one.least for one in shares.of("negative", scale)) >= 0.5 - 1e-12
        assert all(np.isinf(one.wait) and one.status == "completed" for one in shares.of("negative", scale))
    assert shares.share("complex", 0.4, 8_000)[0] >= 9
    _, count, low, high = shares.share("negative", 0.4, 8_000)
    assert low == 0
    assert_allclose(high, 1 - 0.025 ** (1 / count))


def test_a_store_goes_on_where_it_was(tmp_path, monkeypatch):
    """Blocks are kept: two processes find the same, and nothing is computed again."""
    settings = {"samples": 13, "scale": 0.4, "horizons": 300, "store": str(tmp_path / "outcomes")}
    first = op.experiments.run(SHARES, **settings, n_jobs=2)
    assert first.outcomes == op.experiments.run(SHARES, **{**settings, "store": None}).outcomes and len(first.outcomes) == 26
    monkeypatch.setattr(dichotomy, "gradient_descent", None)
    assert op.experiments.run(SHARES, **settings).outcomes == first.outcomes


def test_a_wait_is_the_first_look_below_the_level(shares):
    """The first complex start again, at every step."""
    first = shares.of("complex", 0.4)[0]
    start = op.init.balanced_gaussian(4, 3, 0.4, np.random.default_rng([0, 1, 0]), complex=True)
    run = op.gradient_descent(op.MatrixFactorization(np.eye(3)), start, step_size=0.03, steps=8_000, record=op.every(1),
                              stop=lambda record: record.loss < 1e-6)
    assert first.wait - dichotomy.RECORD < run.steps[-1] <= first.wait


def test_stages_follow_each_other(stages):
    runs = {run.kind: run for run in stages.runs}
    done = runs["complex"]
    assert 0 < done.aligned < done.local < 20_000 and done.trajectory.loss[-1] < 1e-20
    for kind, sign in (("positive", 1), ("negative", -1)):
        assert runs[kind].trajectory.observed["sign"][0] == sign and runs[kind].turned == np.inf
    stuck = runs["negative"]
    assert stuck.local == np.inf and stuck.series("hermitian")[-1] < 1e-6 and stuck.trajectory.loss[-1] >= 0.5
    for run in stages.runs:
        last = run.trajectory.final
        assert_allclose(run.series("least")[-1], np.linalg.svd(last, compute_uv=False).min(), rtol=1e-12)
        assert_allclose(run.series("skew")[-1], factors.skew_error(last), atol=1e-6)


def test_the_other_target_has_its_own_plateau(curves):
    assert [len(curves.of(name, *kinds)) for name in ("identity", "other") for kinds in (("complex",), ("positive", "negative"))] == [5] * 4
    for name, bound in (("identity", 0.5), ("other", 0.125)):
        for run in curves.of(name, "negative"):
            assert not run.converged and run.trajectory.loss.min() >= bound - 1e-12
    assert any(run.converged for run in curves.of("other", "complex"))
    free = op.experiments.run(CURVES, samples=1, steps=10, records=10, start="gaussian", target=(2.0, 1.0))
    assert "not balanced" in free.summary() and free.runs[0].trajectory.final.shape == (4, 2, 2)


def test_data_picture_summary(shares, stages, curves, tmp_path):
    for result, axes, said in ((shares, 3, "heavy-tailed"), (stages, 6, "Theorem 11"), (curves, 4, "converged: last loss")):
        with xarray.open_dataset(result.save(tmp_path / f"{result.name}.nc")) as again:
            assert json.loads(again.attrs["settings"])["seed"] == 0
        assert len(result.draw().axes) == axes and said in result.summary()
    table = shares.to_xarray()
    assert float(table.converged.sel(kind="complex", scale=0.4, horizon=8_000)) == shares.share("complex", 0.4, 8_000)[0]
    assert stages.to_xarray().sizes["run"] == 3 and curves.to_xarray().loss.sizes["run"] == 20


@pytest.mark.parametrize(("name", "change", "message"), [
    (SHARES, {"samples": 0}, "samples"), (SHARES, {"scale": 0}, "scale must be"), (SHARES, {"scale": (0.1, 0.1)}, "name one twice"),
    (SHARES, {"d": 0}, "d must be"), (SHARES, {"depth": 1}, "depth"), (SHARES, {"step_size": 0}, "step_size"),
    (SHARES, {"balance": -1}, "balance"), (SHARES, {"horizons": (5, 2)}, "horizons must rise"), (SHARES, {"horizons": 0}, "horizons"),
    (SHARES, {"level": 0}, "level"), (SHARES, {"seed": -1}, "seed"), (SHARES, {"n_jobs": 0}, "n_jobs"),
    (SHARES, {"progress": 3}, "progress"),
    (STAGES, {"scale": 0}, "scale"), (STAGES, {"step_size": 0}, "step_size"), (STAGES, {"balance": -1}, "balance"),
    (STAGES, {"steps": -1}, "steps"), (STAGES, {"seed": -1}, "seed"), (STAGES, {"records": 1}, "records"),
    (STAGES, {"progress": 3}, "progress"),
    (CURVES, {"target": (1.0, 0.0)}, "target must be singular values above 0"), (CURVES, {"target": 1.0}, "target"),
    (CURVES, {"start": "other"}, "start"), (CURVES, {"samples": 0}, "samples"), (CURVES, {"scale": 0}, "scale"),
    (CURVES, {"step_size": 0}, "step_size"), (CURVES, {"balance": -1}, "balance"), (CURVES, {"steps": -1}, "steps"),
    (CURVES, {"seed": -1}, "seed"), (CURVES, {"records": 1}, "records"), (CURVES, {"progress": 3}, "progress"),
])
def test_bad_settings(name, change, message):
    with pytest.raises(ValueError, match=message):
        check_settings(name, change)


@pytest.mark.parametrize("finished", [0, 1])
def test_interrupted(monkeypatch, finished):
    calls = []

    def impatient(work):
        @functools.wraps(work)
        def wrapped(*args, **options):
            calls.append(1)
            if len(calls) > finished:
                raise KeyboardInterrupt
            return work(*args, **options)
        return wrapped

    monkeypatch.setattr(dichotomy, "follow", impatient(dichotomy.follow))
    for module in (saddle_avoidance, convergence):
        monkeypatch.setattr(module, "gradient_descent", impatient(module.gradient_descent))
    for name, settings in ((SHARES, {"samples": 2, "horizons": 50}), (STAGES, {"steps": 20}), (CURVES, {"samples": 2, "steps": 20})):
        calls.clear()
        if not finished:
            with pytest.raises(KeyboardInterrupt):
                op.experiments.run(name, **settings)
            continue
        result = op.experiments.run(name, **settings)
        assert result.interrupted and result.finished() is not None and "interrupted" in result.summary() and result.draw()


def test_command_line(tmp_path):
    for name, settings in ((SHARES, ("samples=2", "scale=0.4", "horizons=100")), (STAGES, ("steps=100",)),
                           (CURVES, ("samples=2", "steps=100"))):
        said = CliRunner().invoke(app, ["reproduce", name, "--out", str(tmp_path), *(word for one in settings for word in ("--set", one))])
        assert said.exit_code == 0, said.output
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
