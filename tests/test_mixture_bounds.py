"""Bounds against mixture teachers, whose weights have phases of their own off the real axis."""

from __future__ import annotations

import numpy as np
import pytest

import overparam as op


@pytest.mark.parametrize("tol", [0.1, 1e-3, 1e-6])
@pytest.mark.parametrize("apart", [1e-3, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("components", [2, 3])
def test_close_components_with_students_between(tol, apart, components):
    """Where the target at real nodes lies near the students, the majorant must still know how far each component is."""
    rng = np.random.default_rng(components)
    means = apart * np.linspace(-1, 1, components)[:, None]
    teacher = op.GaussianMixture(means, rng.dirichlet(np.full(components, 3.0)))
    for n in (1, 2, 5):
        params = 0.3 * apart * rng.standard_normal((n, 1))
        truth = op.ScoreMatching(teacher, rule=op.Auto(tol=1e-13)).estimate(params)
        for rule in (op.Auto(tol=tol), op.Trapezoid(13), op.GaussHermite(2)):
            found = op.ScoreMatching(teacher, rule=rule).estimate(params)
            assert abs(found.value - truth.value) <= found.value_error + truth.value_error
            assert (np.linalg.norm(found.grad - truth.grad, axis=1) <= found.grad_error + truth.grad_error).all()


@pytest.mark.parametrize(("far", "light"), [(2.0, 1e-3), (4.0, 1e-3), (4.0, 1e-6)])
def test_a_light_component_does_not_hang_on_a_few_points(far, light):
    """Every point counts by all components' densities; plain weights covered 63 % here, and were off by up to 145 standard errors."""
    teacher = op.GaussianMixture([[0.0], [far]], [1 - light, light])
    truth = op.ScoreMatching(teacher).value([[0.1], [-0.1]])
    off = []
    for seed in range(60):
        found = op.ScoreMatching(teacher, rule=op.MonteCarlo(4096, rng=seed)).estimate([[0.1], [-0.1]])
        off.append(abs(found.value - truth) / found.value_error)
    assert np.mean(np.array(off) < 2.13) > 0.85  # t quantile of 95 % with 15 degrees of freedom; binomial noise 0.028
    assert np.max(off) < 6


@pytest.mark.parametrize("light", [1e-8, 1e-12, 1e-18])
def test_light_student_rows_are_accurate_by_themselves(light):
    """The row of a mean of weight w is about 2 w m: it must not be lost beside the others' rows."""
    found = op.ScoreMatching(op.Gaussian([0.0]), weights=[1 - light, light], rule=op.Auto(tol=1e-10)).estimate([[1.05], [0.95]])
    long = op.Trapezoid(4001, half_width=20.0)
    truth = op.ScoreMatching(op.Gaussian([0.0]), weights=[1 - light, light], rule=long).estimate([[1.05], [0.95]])
    assert (found.grad_error < 1e-9 * np.abs(found.grad[:, 0])).all()
    np.testing.assert_allclose(found.grad, truth.grad, rtol=1e-9)


@pytest.mark.parametrize("nodes", [100_001, 1_000_001])
def test_the_step_of_a_long_trapezoid_is_not_rounded(nodes):
    found = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Trapezoid(nodes, half_width=9.1)).estimate([[1.0], [-0.5]])
    truth = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-13)).estimate([[1.0], [-0.5]])
    assert abs(found.value - truth.value) <= found.value_error + truth.value_error
