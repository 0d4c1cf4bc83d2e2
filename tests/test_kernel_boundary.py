"""The kernels where they could go wrong: extreme parameters, NaN, shapes, lifetimes, threads, instruction sets."""

import datetime
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_problems import ROUNDING, evaluate, explicit, majorants, multiplied_out, problem, tensor, trapezoid
from numpy.testing import assert_allclose, assert_array_equal

from overparam import _reference as twin
from overparam._core import cpu, descent
from overparam._core.score_matching import Evaluator


class TestExtremes:
    @pytest.mark.parametrize("scale", [1e3, 1e12, 1e60])
    @pytest.mark.parametrize("build", ["tensor", "explicit"])
    def test_separations(self, scale, build):
        _, _, t, c, delta, log_weights = problem(5, 3, 3, constant=True, zero=True)
        axes, weights = trapezoid((64, 3, 3))
        x, q = multiplied_out(axes, weights)
        make = tensor(axes, weights, t, log_weights) if build == "tensor" else explicit(x, q, t, log_weights)
        for form in (1, 2):
            value, mean_row, rows = evaluate(make, c, scale * delta, form)
            assert np.isfinite(value)
            assert np.all(np.isfinite(mean_row))
            assert np.all(np.isfinite(rows))
        assert np.all(np.isfinite(np.hstack(majorants(make, c, scale * delta))))

    @pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-14])
    def test_distant_centre(self, scale):
        x, q, t, c, delta, log_weights = problem(5, 3, 40, equal=True)
        value, mean_row, rows = evaluate(explicit(x, q, t, log_weights), 1e12 * c, scale * delta, 2)
        assert np.isfinite(value)
        assert np.all(np.isfinite(mean_row))
        assert np.all(np.isfinite(rows))

    def test_a_far_parameter_is_frozen(self):
        """Its weight is below exp(-600) at every node and counts as 0: nothing of it is left in any row."""
        axes, weights = trapezoid((40,))
        evaluator = tensor(axes, weights, np.zeros(1), np.log([0.5, 0.5]))
        value, _, rows = evaluate(evaluator, np.zeros(1), np.array([[0.5], [1e9]]))
        assert_allclose(value, 0.25, rtol=1e-14)
        assert_array_equal(rows[1], 0.0)

    @pytest.mark.parametrize("where", ["nodes", "weights", "target", "log_weights", "centre", "deviations"])
    @pytest.mark.parametrize("scale", [1.0, 1e-5])
    def test_nan_comes_out(self, where, scale):
        for n, k, count in [(5, 3, 21), (4, 5, 9), (2, 1, 8)]:
            x, q, t, c, delta, log_weights = problem(n, k, count, scale=scale)
            names = ["nodes", "weights", "target", "centre", "deviations", "log_weights"]
            broken = dict(zip(names, (x, q, t, c, delta, log_weights)))[where]
            broken.flat[broken.size // 2] = np.nan
            value, mean_row, rows = evaluate(explicit(x, q, t, log_weights), c, delta)
            assert np.isnan(value)
            assert np.isnan(rows).any()
            assert np.isnan(mean_row).any()

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("scale", [1.0, 1e-5])
    def test_nan_comes_out_of_tensors(self, axis, scale):
        _, _, t, c, delta, log_weights = problem(4, 3, 3, constant=True, scale=scale)
        axes, weights = trapezoid((50, 4, 5))
        broken = delta.copy()
        broken[2, axis] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), c, broken)[0])
        broken = c.copy()
        broken[axis] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), broken, delta)[0])
        axes[axis][1] = np.nan
        assert np.isnan(evaluate(tensor(axes, weights, t, log_weights), c, delta)[0])

    def test_nan_passes_where_the_argument_of_exp_is_clamped(self):
        x, q, t, c, delta, log_weights = problem(3, 1, 9)
        delta[0], delta[1] = 1e8, np.nan
        assert np.isnan(evaluate(explicit(x, q, t, log_weights), c, delta)[0])


class TestBoundary:
    def test_read_only_inputs(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        arrays = [np.ascontiguousarray(x.T), q, np.ascontiguousarray(t.T), log_weights]
        for array in [*arrays, c, delta]:
            array.setflags(write=False)
        value = Evaluator.from_nodes(*arrays).evaluate(c, delta, 0, None, None)
        assert_allclose(value, twin.score_matching(x, q, t, c + delta, log_weights)[0], rtol=1e-10)
        orders = np.array([4, 3])
        flat = [np.arange(7.0), np.ones(7), orders, np.zeros(2), log_weights]
        for array in flat:
            array.setflags(write=False)
        assert Evaluator.from_tensor(*flat).nodes == 12

    def test_inputs_are_copied(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        evaluator = explicit(x, q, t, log_weights)
        before = evaluate(evaluator, c, delta)[0]
        for array in (q, log_weights):
            array[:] = np.nan
        assert evaluate(evaluator, c, delta)[0] == before

    @pytest.mark.parametrize(
        ("nodes", "weights", "target", "log_weights"),
        [
            ((3, 8), 7, (3, 8), 5),
            ((3, 8), 8, (3, 7), 5),
            ((3, 8), 8, (2, 8), 5),
            ((3, 8), 8, (2, 1), 5),
            ((3, 0), 0, (3, 1), 5),
            ((0, 8), 8, (0, 8), 5),
            ((3, 8), 8, (3, 8), 0),
        ],
    )
    def test_shapes_of_nodes(self, nodes, weights, target, log_weights):
        with pytest.raises(ValueError):
            Evaluator.from_nodes(np.ones(nodes), np.ones(weights), np.ones(target), np.ones(log_weights))

    @pytest.mark.parametrize(
        ("nodes", "weights", "orders", "target", "log_weights"),
        [
            (7, 7, [4, 4], 2, 5),
            (7, 6, [4, 3], 2, 5),
            (6, 7, [4, 3], 2, 5),
            (7, 7, [7, 0], 2, 5),
            (7, 7, [8, -1], 2, 5),
            (7, 7, [4, 3], 3, 5),
            (7, 7, [4, 3], 2, 0),
            (0, 0, [], 0, 5),
        ],
    )
    def test_shapes_of_tensors(self, nodes, weights, orders, target, log_weights):
        with pytest.raises(ValueError):
            Evaluator.from_tensor(np.ones(nodes), np.ones(weights), np.array(orders, dtype=np.intp), np.ones(target), np.ones(log_weights))

    def test_shapes_of_evaluate(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40, constant=True)
        evaluator = explicit(x, q, t, log_weights)
        mean_row, rows, vector = np.empty(3), np.empty((5, 3)), np.empty(5)
        for module_call in (evaluator.evaluate, lambda *args: descent.evaluate(evaluator.capsule, *args)):
            for args in [
                (c[:2], delta, 1, mean_row, rows),
                (c, delta[:4], 1, mean_row, rows),
                (c, np.ones((5, 2)), 1, mean_row, rows),
                (c, delta, 1, mean_row[:2], rows),
                (c, delta, 1, mean_row, rows[:4]),
                (c, delta, 1, None, rows),
                (c, delta, 2, mean_row, None),
                (c, delta, 3, mean_row, rows),
                (c, delta, -1, mean_row, rows),
            ]:
                with pytest.raises(ValueError):
                    module_call(*args)
        for args in [(delta[:4], rows), (delta, rows[:4])]:
            with pytest.raises(ValueError):
                evaluator.evaluate_stein(*args)
        for args in [(c[:2], delta, vector, vector, vector), (c, delta, vector, vector[:4], vector)]:
            with pytest.raises(ValueError):
                evaluator.majorants(*args)

    def test_none_is_no_array(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        evaluator = explicit(x, q, t, log_weights)
        for call in [
            lambda: evaluator.evaluate(None, delta, 0, None, None),
            lambda: evaluator.evaluate(c, None, 0, None, None),
            lambda: evaluator.majorants(c, delta, None, None, None),
            lambda: evaluator.evaluate_stein(None, None),
            lambda: Evaluator.from_nodes(None, None, None, None),
            lambda: Evaluator.from_tensor(None, None, None, None, None),
        ]:
            with pytest.raises((TypeError, ValueError)):
                call()

    def test_stein_needs_a_constant_target(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        with pytest.raises(ValueError, match="constant target"):
            explicit(x, q, t, log_weights).evaluate_stein(c + delta, np.empty((5, 3)))

    def test_no_bare_construction(self):
        with pytest.raises(TypeError, match="from_nodes"):
            Evaluator()

    def test_a_capsule_keeps_its_evaluator_alive(self):
        x, q, t, c, delta, log_weights = problem(5, 3, 40)
        expected = evaluate(explicit(x, q, t, log_weights), c, delta)[0]
        capsule = explicit(x, q, t, log_weights).capsule
        assert descent.evaluate(capsule, c, delta, 0, None, None) == expected

    def test_foreign_capsules_are_rejected(self):
        with pytest.raises(ValueError):
            descent.evaluate(datetime.datetime_CAPI, np.zeros(1), np.zeros((1, 1)), 0, None, None)


class TestThreads:
    def test_identical_results(self):
        """Results depend on the input alone: same bits from eight threads at once as from one."""
        axes, weights = trapezoid((64, 9, 9))
        evaluator = tensor(axes, weights, np.zeros(3), np.full(5, -np.log(5)))
        starts = [problem(5, 3, 1, rng=seed)[3:5] for seed in range(40)]
        alone = [evaluate(evaluator, *start) for start in starts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda start: evaluate(evaluator, *start), starts))
        for one, other in zip(alone, together):
            for ours, theirs in zip(one, other):
                assert_array_equal(ours, theirs)


PATH_SCRIPT = """
import json, sys
import numpy as np
from overparam import _reference as twin
from overparam._core import cpu
from overparam._core.score_matching import Evaluator

worst = 0.0
for n, k, nodes in [(5, 3, 100), (5, 1, 13), (4, 2, 40), (9, 7, 24), (70, 2, 17)]:
    for scale in (1.0, 1e-4):
        rng = np.random.default_rng([n, k, nodes])
        x, q, t = rng.normal(size=(nodes, k)), rng.random(nodes), rng.normal(size=k)
        c, delta, log_weights = rng.normal(size=k), scale * rng.normal(size=(n, k)), np.log(rng.dirichlet(np.ones(n)))
        orders = np.array([53, 5, 3][:k]) if k <= 3 else np.full(k, 2)
        flat, flat_weights = rng.normal(size=orders.sum()), rng.random(orders.sum())
        axes = np.split(flat, np.cumsum(orders)[:-1])
        grid = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
        grid_weights = np.ones(1)
        for weight in np.split(flat_weights, np.cumsum(orders)[:-1]):
            grid_weights = np.multiply.outer(grid_weights, weight).ravel()
        explicit = Evaluator.from_nodes(np.ascontiguousarray(x.T), q, t[:, None].copy(), log_weights)
        tensor = Evaluator.from_tensor(flat, flat_weights, orders, t, log_weights)
        for evaluator, where, how in [(explicit, x, q), (tensor, grid, grid_weights)]:
            def compare(ours, theirs):
                global worst
                worst = max(worst, float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs))))
            mean_row, rows, ABC = np.empty(k), np.empty((n, k)), np.empty((3, n))
            value, grad = twin.score_matching(where, how, t, c + delta, log_weights)
            compare(evaluator.evaluate(c, delta, 1, mean_row, rows), value)
            compare(rows, grad)
            compare(mean_row, grad.mean(axis=0))
            compare(evaluator.evaluate_stein(c + delta, rows), value)
            compare(rows, twin.score_matching_stein(where, how, t, c + delta, log_weights)[1])
            U2 = evaluator.majorants(c, delta, *ABC)
            *exact, exact_U2 = twin.majorants(where, how, t, c + delta, log_weights)
            compare(ABC[0], exact[0])
            compare(U2, exact_U2)
json.dump({"worst": worst, **cpu.info()}, sys.stdout)
"""


def on_path(name, tmp_path):
    """Runs the script above in a fresh process, outside the clone."""
    run = subprocess.run(
        [sys.executable, "-c", PATH_SCRIPT],
        env={**os.environ, "OVERPARAM_KERNEL": name},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


class TestPaths:
    @pytest.mark.parametrize("name", cpu.info()["supported"])
    def test_every_path_is_the_twin(self, name, tmp_path):
        info = on_path(name, tmp_path)
        assert info["path"] == name
        assert "warning" not in info
        assert info["worst"] < ROUNDING

    def test_an_unknown_path_falls_back(self, tmp_path):
        info = on_path("vax", tmp_path)
        assert info["path"] == info["supported"][0]
        assert "vax" in info["warning"]

    def test_info(self):
        info = cpu.info()
        assert info["path"] in info["supported"]
        assert "portable" in info["supported"]
        assert all(isinstance(feature, str) for feature in info["features"])
