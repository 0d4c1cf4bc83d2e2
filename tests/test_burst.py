"""The compiled burst loop, and the stratified points."""

import numpy as np
import pytest
from kernel_problems import evaluate, explicit, problem
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtri

import overparam as op
from overparam import _reference as twin
from overparam._core import descent, sampling


def box(n, k, **changes):
    """Arguments of burst that never stop it."""
    wide = np.full(k, np.inf)
    limits = {
        "low": -wide,
        "high": wide,
        "spread_low": -wide,
        "spread_high": wide,
        "row_floor": np.zeros(n),
        "value_floor": -np.inf,
        "value_ceiling": np.inf,
    }
    return {**limits, **changes}


class TestBurst:
    def setup_method(self):
        # positive weights: descent on a bounded-below loss, and a well-conditioned trajectory
        x, q, self.target, self.c, self.delta, self.log_weights = problem(5, 3, 60, constant=True, equal=True)
        self.x, self.q = x, np.abs(q) / np.abs(q).sum()
        self.evaluator = explicit(self.x, self.q, self.target, self.log_weights)

    def burst(self, steps=1, moving=False, step_size=0.05, **changes):
        self.c, self.delta = self.c.copy(), self.delta.copy()
        return descent.burst(self.evaluator.capsule, self.c, self.delta, step_size, steps, moving, **box(5, 3, **changes))

    def value(self):
        return self.evaluator.evaluate(self.c, self.delta, 0, None, None)

    @pytest.mark.parametrize("moving", [False, True])
    def test_is_the_loop_of_the_twin(self, moving):
        params = self.c + self.delta
        centre = self.c
        expected = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 100)
        before_last = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 99)
        steps, reason, value = self.burst(100, moving)
        assert (steps, reason) == (100, descent.REASONS["done"])
        # 100 contracting steps add up to 100 roundings of 1e-15
        assert_allclose(self.c + self.delta, expected, rtol=0, atol=1e-12)
        last = twin.score_matching(self.x, self.q, self.target, before_last, self.log_weights)[0]
        assert_allclose(value, last, rtol=1e-11)
        assert np.array_equal(self.c, centre) != moving

    def test_bursts_concatenate(self):
        c, delta = self.c, self.delta
        self.burst(60, True)
        whole = self.c, self.delta
        self.c, self.delta = c, delta
        for steps in (1, 20, 39):
            self.burst(steps, True)
        assert_array_equal(self.c, whole[0])
        assert_array_equal(self.delta, whole[1])

    @pytest.mark.parametrize("factors", [None, [0.5, 1.0, 2.0, 1.5, 0.7]], ids=["alike", "factors"])
    @pytest.mark.parametrize("look_ahead", [False, True])
    @pytest.mark.parametrize("moving", [False, True])
    def test_velocity_factors_and_step_sizes(self, moving, look_ahead, factors):
        """Against the same steps in NumPy on absolute parameters; two bursts are one."""
        params, beta = self.c + self.delta, 0.7
        velocity = np.random.default_rng(2).standard_normal(params.shape)
        sizes = 0.05 / (1 + 0.1 * np.arange(40))
        own = velocity.mean(axis=0) if moving else np.zeros(3)
        pieces = own.copy(), np.ascontiguousarray(velocity - own)
        many = np.ones(5) if factors is None else np.array(factors)
        for size in sizes:
            ahead = params + beta * velocity * look_ahead
            rows = twin.score_matching(self.x, self.q, self.target, ahead, self.log_weights)[1]
            velocity = beta * velocity - size * many[:, None] * rows
            params = params + velocity
        for part in (sizes[:15], sizes[15:]):
            more = {"step_sizes": np.ascontiguousarray(part), "factors": None if factors is None else many, "momentum": beta,
                    "look_ahead": look_ahead, "centre_velocity": pieces[0], "velocity": pieces[1]}
            assert self.burst(len(part), moving, step_size=np.nan, **more)[:2] == (len(part), descent.REASONS["done"])
        assert_allclose(self.c + self.delta, params, rtol=0, atol=1e-12)
        assert_allclose(pieces[0] + pieces[1], velocity, rtol=0, atol=1e-12)
        assert pieces[0].any() == moving

    def test_velocities_stay_where_a_step_is_not_taken(self):
        pieces = np.zeros(3), np.full((5, 3), np.inf)
        before, own = self.delta, pieces[1].copy()
        assert self.burst(3, momentum=0.5, centre_velocity=pieces[0], velocity=pieces[1])[:2] == (0, descent.REASONS["not_finite"])
        assert_array_equal(self.delta, before)
        assert_array_equal(pieces[1], own)

    @pytest.mark.parametrize("bad", [{"velocity": np.zeros((5, 3))}, {"look_ahead": True}, {"factors": np.ones(4)},
                                     {"step_sizes": np.ones(3)}, {"velocity": np.zeros((4, 3)), "centre_velocity": np.zeros(3)}])
    def test_shapes_of_what_goes_with_a_velocity(self, bad):
        with pytest.raises(ValueError, match=r"must have|needed together"):
            self.burst(2, **bad)

    def test_no_steps(self):
        steps, reason, value = self.burst(0)
        assert (steps, reason) == (0, descent.REASONS["done"])
        assert np.isnan(value)

    @pytest.mark.parametrize("side", ["low", "high"])
    def test_leaves_the_box(self, side):
        """With a wall just where the first step crosses it, the state beyond and the last value inside come back."""
        params = self.c + self.delta
        after = twin.descent(self.x, self.q, self.target, params, self.log_weights, 0.05, 1)
        before, then = (edge(axis=0) for edge in ((params.min, after.min) if side == "low" else (params.max, after.max)))
        outwards = before - then if side == "low" else then - before
        axis = int(np.argmax(outwards))
        if outwards[axis] <= 0:  # everything moves inwards on this side: push the other way
            self.target = self.target + (-50.0 if side == "low" else 50.0)
            self.evaluator = explicit(self.x, self.q, self.target, self.log_weights)
            axis = 0
        wall = np.full(3, -np.inf if side == "low" else np.inf)
        wall[axis] = before[axis] - 1e-9 if side == "low" else before[axis] + 1e-9
        value = self.value()
        assert self.burst(1000, **{side: wall}) == (1, descent.REASONS["left_box"], value)
        reached = self.c[axis] + self.delta[:, axis]
        assert reached.min() < wall[axis] if side == "low" else reached.max() > wall[axis]

    @pytest.mark.parametrize("bound", ["low", "high", "spread_low", "spread_high"])
    def test_starts_outside_the_box(self, bound):
        limit = np.full(3, np.inf if bound.endswith("low") else -np.inf)
        steps, reason, value = self.burst(10, **{bound: limit})
        assert (steps, reason) == (0, descent.REASONS["left_box"])
        assert np.isnan(value)

    def test_shrunk_value(self):
        floor = 0.9 * self.value()
        steps, reason, value = self.burst(1000, value_floor=floor)
        assert reason == descent.REASONS["shrunk"]
        assert 0 < steps < 1000
        assert value < floor
        assert value == self.value()  # no step was taken from there

    def test_shrunk_row(self):
        _, _, rows = evaluate(self.evaluator, self.c, self.delta)
        norms = np.linalg.norm(rows, axis=1)
        floor = np.zeros(5)
        floor[3] = norms[3] * (1 + 1e-12)
        before = self.delta
        assert self.burst(5, row_floor=floor)[:2] == (0, descent.REASONS["shrunk"])
        assert_array_equal(self.delta, before)
        floor[3] = norms[3] * (1 - 1e-12)
        assert self.burst(1, row_floor=floor)[:2] == (1, descent.REASONS["done"])

    def test_tiny_rows_are_not_zero(self):
        self.delta = 1e-300 * self.delta
        _, _, rows = evaluate(self.evaluator, self.c, self.delta, 2)
        floor = 0.5 * np.abs(rows).max(axis=1)
        assert self.burst(1, True, row_floor=floor)[:2] == (1, descent.REASONS["done"])
        assert self.burst(1, True, row_floor=10 * floor)[:2] == (0, descent.REASONS["shrunk"])

    def test_diverged(self):
        steps, reason, value = self.burst(5, value_ceiling=0.5 * self.value())
        assert (steps, reason) == (0, descent.REASONS["diverged"])
        assert value == self.value()

    def test_not_finite(self):
        before = self.delta.copy()
        steps, reason, _ = self.burst(5, step_size=np.inf)
        assert (steps, reason) == (0, descent.REASONS["not_finite"])
        assert_array_equal(self.delta, before)
        self.delta[0, 0] = np.nan
        assert self.burst(5)[:2] == (0, descent.REASONS["not_finite"])

    def test_wrong_shapes(self):
        for name in ("low", "high", "spread_low", "spread_high"):
            with pytest.raises(ValueError, match=name):
                self.burst(1, **{name: np.zeros(2)})
        with pytest.raises(ValueError, match="row_floor"):
            self.burst(1, row_floor=np.zeros(4))


class TestSampling:
    def test_stratified_normal(self):
        rng = np.random.default_rng(0)
        counts = np.array([4, 3])
        strata = np.stack([grid.ravel() for grid in np.meshgrid(range(4), range(3), indexing="ij")], axis=1)
        uniforms = rng.random((12, 2))
        out = np.empty((12, 2))
        sampling.stratified_normal(uniforms, strata, counts, out)
        assert_allclose(out, ndtri((strata + uniforms) / counts), rtol=1e-15)

    def test_always_finite(self):
        uniforms = np.array([[0.0], [np.nextafter(1.0, 0.0)], [1.0]])
        out = np.empty((3, 1))
        sampling.stratified_normal(uniforms, np.zeros((3, 1), dtype=np.intp), np.ones(1, dtype=np.intp), out)
        assert np.all(np.isfinite(out))
        assert_allclose(out[0], -out[1], rtol=1e-12)

    def test_wrong_shapes(self):
        integers = np.zeros((3, 2), dtype=np.intp)
        for uniforms, counts, out in [((2, 2), 2, (3, 2)), ((3, 2), 1, (3, 2)), ((3, 2), 2, (3, 1))]:
            with pytest.raises(ValueError):
                sampling.stratified_normal(np.zeros(uniforms), integers, np.ones(counts, dtype=np.intp), np.empty(out))


class TestJobs:
    """Several bursts in one call."""

    def jobs(self, count, **more):
        self.places, jobs = [], []
        for number in range(count):
            x, q, target, c, delta, log_weights = problem(5, 3, 60 + number, constant=True, equal=True)
            evaluator = explicit(x, np.abs(q) / np.abs(q).sum(), target, log_weights)
            limits = box(5, 3)
            self.places.append((evaluator, c.copy(), delta.copy(), limits))
            jobs.append(descent.Job(evaluator.capsule, c, delta, 0.05, 20 + number, False, **limits, **more))
            self.places[-1] += (c, delta)
        return jobs

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_together_as_alone(self, count):
        with op.threads(count):
            jobs = self.jobs(7)
            descent.run(jobs, 10.0)
        for number, (job, (evaluator, c, delta, limits, moved_c, moved)) in enumerate(zip(jobs, self.places, strict=True)):
            assert job.found == descent.burst(evaluator.capsule, c, delta, 0.05, 20 + number, False, **limits, seconds=10.0)
            assert job.found[0] == 20 + number and job.seconds > 0
            assert_array_equal(moved_c, c)
            assert_array_equal(moved, delta)

    def test_at_least_one_step_each(self):
        jobs = self.jobs(3)
        descent.run(jobs, 0.0)
        assert [job.found[0] for job in jobs] == [1, 1, 1]

    def test_a_job_runs_once(self):
        first, second = self.jobs(2)
        with pytest.raises(RuntimeError, match="has not run"):
            _ = first.found
        with pytest.raises(ValueError, match="runs once"):
            descent.run([first, first])
        descent.run([first])
        with pytest.raises(ValueError, match="runs once"):
            descent.run([second, first])
        assert not second.ran
        descent.run([])
        with pytest.raises(TypeError, match="must be Jobs"):
            descent.run([1])
