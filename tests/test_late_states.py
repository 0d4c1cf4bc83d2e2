"""States around the target, late in a run in which all converge: rows like the cube of the deviations, the loss like their fourth power."""

import mpmath
import numpy as np
import pytest

import overparam as op


def by_mpmath(params, digits=70):
    """Loss and rows in 1-D by an equispaced sum of step 1/5 in 70 digits: its error is exp(-2 pi^2 25)."""
    with mpmath.workdps(digits):
        mus = [mpmath.mpf(float(m)) for m in params]
        n, h = len(mus), mpmath.mpf(1) / 5
        value, rows = mpmath.mpf(0), [mpmath.mpf(0)] * n
        for node in range(-90, 91):
            x = h * node
            q = h * mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
            terms = [mpmath.exp(x * mu - mu * mu / 2) for mu in mus]
            total = mpmath.fsum(terms)
            w = [term / total for term in terms]
            v = mpmath.fsum(a * b for a, b in zip(w, mus, strict=True))
            value += q * v * v
            for i in range(n):
                rows[i] += 2 * q * w[i] * (v + (mus[i] - v) * v * (x - mus[i]))
        return value, rows


@pytest.mark.parametrize("scale", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("shift", [0.0, 1e-3, 1.0])
def test_bounds_near_the_target_are_small_and_hold(scale, shift):
    """`shift` is the distance of the mean from the target in units of scale squared: then it counts in the loss as the spread does."""
    z = np.array([0.3, -1.2, 0.8, -0.4, 0.5])
    params = scale * (z - z.mean()) + shift * scale**2
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    found = obj.estimate(params[:, None])
    value, rows = by_mpmath(params)
    error = np.array([abs(float(mpmath.mpf(float(g)) - row)) for g, row in zip(found.grad[:, 0], rows, strict=True)])
    assert abs(float(mpmath.mpf(found.value) - value)) <= found.value_error <= 1e-9 * found.value
    assert (error <= found.grad_error).all()
    # the mean row carries rounding of the size of the squared deviations, the rows are of their cube: that is all that is lost.
    # certificate.tight_scales: (24 + 18/4) eps times 7/4 (k = 1) times 2/n times 3.1 delta^2 E(|y| + delta/2), E|y| < sqrt 2: that is
    # 90 eps delta^2
    lost = 100 * np.finfo(float).eps * np.abs(params).max() ** 2 * (1 + shift)
    assert (found.grad_error <= lost + 1e-9 * np.abs(found.grad[:, 0])).all()


def test_gradient_descent_meets_the_late_law_with_a_bound():
    z = np.array([0.3, -1.2, 0.8, -0.4, 0.5])
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    run = op.gradient_descent(obj, 1e-5 * (z - z.mean())[:, None], step_size=1.0, steps=50)
    assert run.status == "completed" and (run.loss_error < 1e-9 * run.loss).all()
    # S obeys S' = -(8/n) S^2, and the loss is S^2 up to relative order S
    spread = (1e-5 * (z - z.mean())) ** 2
    s = spread.mean()
    np.testing.assert_allclose(run.loss[-1], (1 / (1 / s + 8 / 5 * run.times[-1])) ** 2, rtol=1e-8)
