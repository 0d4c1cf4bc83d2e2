"""What goes in comes out: files, states, weights, scalars, seeds and short runs, on examples that hypothesis draws (always the same)."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op
from overparam._validation import check_integer, check_real, check_weights
from overparam.layout import Layout

FEW = settings(max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=60)

anything = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-2, 2, width=32)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 3))


@given(deviations=shapes.flatmap(lambda shape: arrays(float, shape, elements=st.floats(-1e150, 1e150))),
       log_scale=st.one_of(st.just(0.0), st.floats(-1e6, 0.0)), far=st.floats(-1e6, 1e6))
@MANY
def test_states(deviations, log_scale, far):
    """Pickles and copies are the state; scale and deviations may be shared out anew, their product may not."""
    n, k = deviations.shape
    state = op.State(np.full(k, far), deviations, log_scale=log_scale)
    for other in (pickle.loads(pickle.dumps(state)), op.State.of(state), state.moved(state.centre, state.deviations)):
        assert_array_equal(other.params, state.params)
        assert (other.log_scale, other.log_spread, other.n, other.d) == (state.log_scale, state.log_spread, n, k)
    given_ = np.ptp(deviations, axis=0).max()
    if given_ > 1e-290:
        assert_allclose(state.log_spread, np.log(given_) + log_scale, rtol=1e-12, atol=1e-10)
    assert state.params.shape == (n, k) and np.isfinite(state.params).all()


@given(params=shapes.flatmap(lambda shape: arrays(float, shape, elements=anything)))
@MANY
def test_plain_states(params):
    assert_array_equal(op.State.of(params).params, params)
    assert_array_equal(np.asarray(op.State.of(params)), params)


@given(array=st.lists(st.integers(1, 3), min_size=1, max_size=4).flatmap(lambda shape: arrays(complex, tuple(shape))), real=st.booleans())
@MANY
def test_layouts(array, real):
    array = array.real.copy() if real else array
    layout = Layout(array.shape, not real)
    packed = layout.pack(array)
    assert packed.shape == layout.rows and packed.dtype == np.float64
    assert layout.unpack(packed).tobytes() == array.tobytes()
    assert Layout.from_description(layout.describe()) == layout


@given(raw=arrays(float, st.integers(1, 30), elements=st.floats(0, 1e300)))
@MANY
def test_weights_sum_to_one(raw):
    if not 1e-300 < raw.max():
        return
    weights = raw / raw.max()
    weights = weights / weights.sum()
    found = check_weights(weights, len(raw))
    assert abs(found.sum() - 1) <= len(raw) * np.finfo(float).eps
    assert_allclose(found, weights, rtol=1e-9)
    assert_array_equal(check_weights(found, len(raw)), found)  # twice is once
    assert_array_equal((found == 0), (weights == 0))


@given(number=st.integers(-(2**53), 2**53))
@MANY
def test_scalars_of_any_kind(number):
    for kind in (int, float, np.float64, np.int64, np.longdouble, lambda one: np.array(one, dtype=np.int64)):
        assert check_integer(kind(number), "x", minimum=-(2**53)) == number
        assert check_real(kind(number), "x") == number


@given(start=shapes.flatmap(lambda shape: arrays(float, shape, elements=moderate)), kind=st.integers(0, 4), steps=st.integers(0, 6))
@FEW
def test_runs_come_back_from_files(start, kind, steps, tmp_path_factory):
    """Bits of all records; and a run that is continued from a file is the run that went on."""
    obj = (op.ScoreMatching, op.KLDivergence)[kind % 2](op.Gaussian(np.zeros(start.shape[1])), rule=op.Auto(tol=1e-6))
    run = (lambda: op.gradient_descent(obj, start, step_size=0.1, steps=steps), lambda: op.em(obj, start, steps=steps),
           lambda: op.momentum(obj, start, step_size=0.1, steps=steps), lambda: op.adam(obj, start, step_size=0.1, steps=steps),
           lambda: op.gradient_flow(obj, start, t_end=0.5, rtol=1e-4))[0 if kind == 1 and isinstance(obj, op.ScoreMatching) else kind]()
    path = Path(tmp_path_factory.mktemp("runs")) / "run.nc"
    run.save(path)
    back = op.load(path)
    for name in ("steps", "times", "loss", "loss_error", "grad_norm", "centres", "deviations", "log_scales"):
        assert_array_equal(getattr(back, name), getattr(run, name))
    assert (back.status, back.driver, back.settings, back.problem) == (run.status, run.driver, run.settings, run.problem)
    assert_array_equal(back.params, run.params)
    if run.driver != "gradient_flow" and run.status == "completed":
        assert_array_equal(back.extend(steps=3).final, run.extend(steps=3).final)


@given(start=shapes.flatmap(lambda shape: arrays(float, shape, elements=moderate)), data=st.data())
@FEW
def test_runs_do_not_care_for_order_and_batches(start, data):
    """Descent of permuted starts is the permuted run, up to rounding; a batch is its runs, to the bit."""
    obj = op.ScoreMatching(op.Gaussian(np.zeros(start.shape[1])), rule=op.Auto(tol=1e-9))
    order = data.draw(st.permutations(range(len(start))))
    one, two = (op.gradient_descent(obj, first, step_size=0.1, steps=8) for first in (start, start[order]))
    assert_allclose(two.final, one.final[order], atol=1e-6)
    assert (np.diff(one.loss) <= one.loss_error[:-1] + one.loss_error[1:] + 1e-9).all()
    batch = op.gradient_descent(obj, np.stack([start, start[order]]), step_size=0.1, steps=8)
    for run, alone in zip(batch, (one, two), strict=True):
        assert_array_equal(run.final, alone.final)
        assert_array_equal(run.loss, alone.loss)


@given(n=st.integers(2, 6), d=st.integers(1, 4), seed=st.integers(0, 2**32), scale=st.floats(0, 1e6))
@MANY
def test_starts(n, d, seed, scale):
    """A seed is a start; shapes, distances and sums that hold exactly or to rounding."""
    centre = np.arange(float(d))
    for make in (lambda: op.init.gaussian(n, centre, scale, seed), lambda: op.init.on_sphere(n, scale, d, seed),
                 lambda: op.init.small_gaussian(n, d, scale or 1.0, seed), lambda: op.init.balanced_gaussian(n, d, scale or 1.0, seed),
                 lambda: op.init.from_teacher(op.Gaussian(centre), n, seed)):
        assert_array_equal(make(), make())
        assert np.isfinite(make()).all()
    assert_allclose(np.linalg.norm(op.init.on_sphere(n, scale, d, seed), axis=1), scale, rtol=1e-12)
    assert (np.linalg.norm(op.init.exponentially_small(n, centre, seed, radius=max(scale, 1e-3)).params, axis=1) <= max(scale, 1e-3)).all()
    pair = op.init.symmetric_pair(n, 1.5, target=centre)
    assert_allclose(pair.mean(axis=0), centre, atol=1e-12)
    if n > 2:
        assert_array_equal(pair[2:], np.broadcast_to(centre, (n - 2, d)))
    state = op.init.around(centre, np.ones((n, d)) * scale)
    assert_array_equal(state.params, op.State(centre, np.full((n, d), scale)).params)


@given(means=shapes.flatmap(lambda shape: arrays(float, shape, elements=anything)), seed=st.integers(0, 10**6), t=st.floats(0, 50))
@MANY
def test_teachers_come_back_from_descriptions(means, seed, t):
    teacher = op.GaussianMixture(np.clip(means, -1e300, 1e300))
    again = op.Teacher.from_description(teacher.describe())
    assert again == teacher and hash(again) == hash(teacher)
    assert_array_equal(again.sample(3, seed), teacher.sample(3, seed))
    late = teacher.at_time(t)
    with np.errstate(under="ignore"):
        assert_allclose(late.means, np.exp(-t) * teacher.means, rtol=1e-14, atol=1e-307)
    shares = teacher.responsibilities(teacher.means[:1])
    assert_allclose(shares.sum(axis=-1), 1.0, rtol=1e-12)
    assert np.isfinite(teacher.score(teacher.means[:1])).all()


@pytest.mark.parametrize("kind", [op.MonteCarlo, op.Stratified, op.Sobol])
@given(seed=st.integers(0, 10**6), size=st.integers(32, 600), replicates=st.integers(2, 16))
@FEW
def test_sampled_rules_come_back_from_descriptions(kind, seed, size, replicates):
    rule = kind(size, rng=seed, replicates=replicates)
    obj = op.KLDivergence(op.Gaussian([0.5, 0.0]), rule=rule)
    params = [[1.0, 0.2], [-0.3, 0.1]]
    assert type(obj).from_description(obj.describe()).value(params) == obj.value(params)
