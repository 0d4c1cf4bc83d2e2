"""Certified runs in many dimensions against the same runs in the few that they need: equal to 1e-10 of the distances."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import overparam as op
from overparam.objectives.student_axes import ComponentPlan

START = np.array([[1.5, 0.4], [-0.7, 1.1], [0.2, -1.3]])
MEANS = np.array([[1.8, 0.5], [-1.2, -0.6]])
RULE = op.Auto(tol=1e-11)
RUNS = {
    "KL": lambda teacher, start: op.gradient_descent(op.KLDivergence(teacher, rule=RULE), start, step_size=0.3, steps=20, progress=False),
    "reverse Fisher": lambda teacher, start: op.gradient_descent(op.ReverseFisher(teacher, rule=RULE), start, step_size=0.1, steps=20,
                                                                 progress=False),
    "score matching": lambda teacher, start: op.gradient_descent(op.ScoreMatching(teacher, rule=RULE), start, step_size=0.1, steps=20,
                                                                 progress=False),
    "em": lambda teacher, start: op.em(op.KLDivergence(teacher, rule=RULE), start, steps=12, progress=False),
    "em, hybrid": lambda teacher, start: op.em(op.KLDivergence(teacher, rule=RULE), start, step_size=0.3, steps=12, progress=False),
    "em, fixed weights": lambda teacher, start: op.em(op.KLDivergence(teacher, rule=RULE), start, update_weights=False, steps=12,
                                                      progress=False),
}
DIMENSION = {"em, hybrid": 1_000_000, "reverse Fisher": 1_000_000}


@pytest.fixture(scope="module")
def frame():
    """Two orthonormal columns in a million dimensions; the first 10^5 rows are made orthonormal where fewer are asked for."""
    return np.random.default_rng(3).standard_normal((1_000_000, 2))


def compared(run, means, weights, start, frame):
    """The two runs, after their losses, weights, lengths and inner products were found equal."""
    gaussian = len(means) == 1
    small = run(op.Gaussian(means[0]) if gaussian else op.GaussianMixture(means, weights), start)
    turned = means @ frame.T
    large = run(op.Gaussian(turned[0]) if gaussian else op.GaussianMixture(turned, weights), start @ frame.T)
    assert small.status == large.status == "completed"
    size = np.abs(start).max()
    final = np.asarray(large.final)
    assert_allclose(final @ frame, small.final, rtol=0, atol=1e-10 * size)
    assert np.linalg.norm(final - np.asarray(small.final) @ frame.T, axis=1).max() < 1e-10 * size  # nothing outside the span
    assert_allclose(large.loss, small.loss, rtol=1e-10, atol=2 * (small.loss_error + large.loss_error).max())
    if small.weights is not None:
        assert_allclose(large.weights, small.weights, rtol=0, atol=1e-10)
    return small, large


@pytest.mark.parametrize("several", [False, True], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_in_many_dimensions_is_the_run_in_its_span(kind, several, frame):
    d = DIMENSION.get(kind, 100_000) if several else 20_000
    axes = np.linalg.qr(frame[:d])[0]
    compared(RUNS[kind], MEANS if several else MEANS[:1] * 0.1, [0.3, 0.7], START, axes)


@pytest.mark.parametrize("kind", ["KL", "em, hybrid"])
def test_by_components_as_well(kind):
    """Two students and two components in directions of their own: three axes for both, one for each component alone."""
    rng = np.random.default_rng(5)
    means, start = 3 * rng.standard_normal((2, 4)), 3 * rng.standard_normal((2, 4))
    obj = op.KLDivergence(op.GaussianMixture(means, [0.4, 0.6]), rule=RULE)
    assert isinstance(obj.plan(obj.start(start)), ComponentPlan)
    small, _ = compared(RUNS[kind], means, [0.4, 0.6], start, np.linalg.qr(rng.standard_normal((100_000, 4)))[0])
    assert (np.diff(small.loss) < 0).all()
