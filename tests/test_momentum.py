"""Heavy ball and Nesterov: the textbook iterations, tiny deviations, velocities that are kept."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

START = np.array([[2.0, 0.1], [1.0, -0.3], [-0.4, 0.5]])
OBJ = op.ScoreMatching(op.Gaussian([0.0, 0.0]), rule=op.Auto(tol=1e-11))
KINDS = pytest.mark.parametrize("nesterov", [False, True], ids=["heavy ball", "nesterov"])


class Bowl(op.Objective):
    """A user's own quadratic: sum of h_a x_ia^2 / 2."""

    CURVATURE = np.array([3.0, 0.4])

    def value_and_grad(self, params):
        return float((self.CURVATURE * params**2).sum() / 2), self.CURVATURE * params


def textbook(grad, start, step_size, beta, steps, nesterov, factors=1.0):
    """The iterations in two points, x_k and x_{k-1}, as they are usually written."""
    path = [np.array(start, dtype=float)]
    before = path[0]
    for step in range(steps):
        x = path[-1]
        ahead = x + beta * (x - before)
        eta = step_size(step) if callable(step_size) else step_size
        path.append(ahead - eta * factors * grad(ahead if nesterov else x))
        before = x
    return np.array(path)


# --- the numbers -----------------------------------------------------------------------------------------------------


@KINDS
def test_on_a_quadratic_it_is_the_textbook_iteration(nesterov):
    run = op.momentum(Bowl(), START, step_size=0.1, steps=60, momentum=0.8, nesterov=nesterov, record=op.every(1))
    path = textbook(lambda x: Bowl.CURVATURE * x, START, 0.1, 0.8, 60, nesterov)
    assert_allclose(np.asarray(run.params), path, rtol=1e-12, atol=1e-14)
    assert run.status == "completed" and run.driver == "momentum"
    assert_allclose(run.loss, [Bowl().value(x) for x in path], rtol=1e-12, atol=1e-26)


@KINDS
def test_on_a_quadratic_it_is_the_closed_form(nesterov):
    """x_k is a combination of the powers of the roots of z^2 - (1 + beta - eta h) z + beta, or of Nesterov's polynomial."""
    eta, beta, steps = 0.1, 0.8, 60
    run = op.momentum(Bowl(), START, step_size=eta, steps=steps, momentum=beta, nesterov=nesterov)
    for axis, h in enumerate(Bowl.CURVATURE):
        shrink = 1 - eta * h
        roots = np.roots([1.0, -(1 + beta) * shrink, beta * shrink] if nesterov else [1.0, -(beta + shrink), beta])
        amplitudes = np.linalg.solve([[1.0, 1.0], roots], [1.0, shrink])  # x_0 = 1, x_1 = 1 - eta h
        assert_allclose(run.final[:, axis], START[:, axis] * (amplitudes @ roots**steps).real, rtol=1e-11, atol=1e-15)


@KINDS
@pytest.mark.parametrize("weights", [None, [0.6, 0.3, 0.1], [0.7, 0.3, 0.0]])
@pytest.mark.parametrize("teacher", [op.Gaussian([0.3, 0.0]), op.GaussianMixture([[-1.0, 0.0], [0.8, 0.2]])], ids=["single", "mixture"])
def test_compiled_or_not_it_is_the_loop_of_exact_gradients(teacher, weights, nesterov):
    """The last weights ask for a plan of two of the means, which has no compiled bursts."""
    obj = op.ScoreMatching(teacher, weights=weights, rule=op.Auto(tol=1e-10))
    run = op.momentum(obj, START, step_size=0.05, steps=30, momentum=0.7, nesterov=nesterov, record=op.every(7))
    path = textbook(obj.grad, START, 0.05, 0.7, 30, nesterov)
    # 30 steps of 0.05/(1 - 0.7), gradients to 2e-10 each on either side; the loss' curvature is below 10
    assert_allclose(np.asarray(run.params), path[run.steps], atol=30 * 0.17 * 4e-10 * 10)
    assert_allclose(run.times, 0.05 * run.steps, rtol=1e-15)


def test_without_momentum_it_is_gradient_descent():
    one = op.momentum(OBJ, START, step_size=0.05, steps=50, momentum=0.0)
    assert_allclose(one.final, op.gradient_descent(OBJ, START, step_size=0.05, steps=50).final, rtol=1e-10)


def test_other_objectives_run_in_python():
    for obj in (op.ReverseFisher(op.Gaussian([0.0, 0.0])), op.KLDivergence(op.DataSet(np.random.default_rng(0).standard_normal((30, 2))))):
        run = op.momentum(obj, START, step_size=0.05, steps=15, momentum=0.5, nesterov=True)
        assert_allclose(run.final, textbook(obj.grad, START, 0.05, 0.5, 15, True)[-1], rtol=1e-8)


# --- tiny deviations -------------------------------------------------------------------------------------------------


def move_in_mpmath(centre, deviations, step_size, beta, steps, nesterov):
    """Absolute parameters in 130 digits: the pathwise gradient by a trapezoid rule of 35 nodes.

    The integrands are a normal density times what is a polynomial to relative 1e-100, so the rule of step h errs by about
    exp(-2 pi^2/h^2) = 1e-17 at h = 0.7.
    """
    with mpmath.workdps(130):
        h = mpmath.mpf("0.7")
        nodes = [h * k for k in range(-17, 18)]
        shares = [h * mpmath.npdf(x) for x in nodes]
        means = [mpmath.mpf(centre) + mpmath.mpf(delta) for delta in deviations]
        velocity = [mpmath.mpf(0)] * len(means)
        eta, beta = mpmath.mpf(step_size), mpmath.mpf(beta)
        for _ in range(steps):
            at = [m + beta * v for m, v in zip(means, velocity, strict=True)] if nesterov else means
            grad = [mpmath.mpf(0)] * len(means)
            for x, q in zip(nodes, shares, strict=True):
                terms = [mpmath.exp(x * mean - mean**2 / 2) for mean in at]
                total = mpmath.fsum(terms)
                w = [term / total for term in terms]
                v = mpmath.fsum(a * b for a, b in zip(w, at, strict=True))
                grad = [g + 2 * q * a * (v + (mean - v) * v * (x - mean)) for g, a, mean in zip(grad, w, at, strict=True)]
            velocity = [beta * v - eta * g for v, g in zip(velocity, grad, strict=True)]
            means = [mean + v for mean, v in zip(means, velocity, strict=True)]
        middle = mpmath.fsum(means) / len(means)
        return float(middle), [float(mean - middle) for mean in means]


@KINDS
def test_deviations_of_1e_100_against_130_digits(nesterov):
    start = op.State([2.1], 1e-100 * np.array([[1.0], [0.35], [-0.8]]))
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    run = op.momentum(obj, start, step_size=0.01, steps=80, momentum=0.875, nesterov=nesterov)
    middle, exact = move_in_mpmath(2.1, start.deviations[:, 0].tolist(), 0.01, 0.875, 80, nesterov)
    own = run.final_state.deviations[:, 0] - run.final_state.deviations.mean()
    assert_allclose(own, exact, rtol=1e-10)
    assert_allclose(run.final_state.centre[0], middle, rtol=1e-12)
    assert abs(exact[0]) > 2e-100  # they have grown


@KINDS
@pytest.mark.parametrize("precondition", [None, "weights"])
def test_below_floats_range_the_scale_does_not_matter(nesterov, precondition):
    """Deviations of e^-2000, that grow through the scales of a State, against those of 1e-200."""
    z = np.array([[1.1, 0.0], [0.2, 0.5], [-1.3, -0.5]])
    obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    runs = [op.momentum(obj, start, step_size=0.002, steps=600, momentum=0.8, nesterov=nesterov, record=op.every(200),
                        precondition=precondition)
            for start in (op.init.around([30.0, 0.0], z, log_scale=-2000.0), op.init.around([30.0, 0.0], 1e-300 * z))]
    grown = [np.diff([state.log_spread for state in run.states]) for run in runs]
    assert grown[0].sum() > 100 and runs[0].log_scales.all()
    assert_allclose(*grown, rtol=0, atol=2e-11)  # logarithms of 2000 to 4e-13, and some
    assert_allclose(*([state.expand(state.centre) for state in run.states] for run in runs), rtol=1e-11, atol=1e-13)


def test_from_deviations_below_floats_range_to_absolute_parameters():
    """One run through log scales, a moving centre and absolute parameters ends where its pieces do, whose velocities are handed over."""
    obj = op.ScoreMatching(op.Gaussian([0.0]))
    start = op.init.around([21.5], [[1.1], [0.2], [-1.3]], log_scale=-347.5)
    run = op.momentum(obj, start, step_size=0.0005, steps=8000, momentum=0.5, record=op.every(1000))
    assert run.status == "completed" and run.log_scales[0] < 0 and run.log_scales[-1] == 0
    assert run.centres[3, 0] > 2 and run.centres[-1, 0] == 0  # seen from their own mean, and from the target
    pieces = op.momentum(obj, start, step_size=0.0005, steps=3500, momentum=0.5).extend(steps=4500)
    assert_allclose(pieces.final, run.final, rtol=1e-8)


# --- going on --------------------------------------------------------------------------------------------------------


@KINDS
def test_extended_is_the_longer_run_bit_for_bit(nesterov, tmp_path):
    settings = {"step_size": 0.1, "momentum": 0.8, "nesterov": nesterov}
    whole, half = (op.momentum(Bowl(), START, steps=steps, **settings) for steps in (40, 15))
    half.save(tmp_path / "half.nc")
    for again in (half.extend(steps=25), op.load(tmp_path / "half.nc", objective=Bowl()).extend(steps=25),
                  half.extend(steps=5).extend(steps=20), half.extend(steps=0).extend(steps=25)):
        assert_array_equal(again.final, whole.final)
        assert again.loss[-1] == whole.loss[-1] and again.times[-1] == whole.times[-1]


@KINDS
def test_extended_under_plans_is_the_longer_run(nesterov, tmp_path):
    """To the tolerance, for the plan is made anew where the pieces join."""
    settings = {"step_size": 0.05, "momentum": 0.8, "nesterov": nesterov}
    whole, half = (op.momentum(OBJ, START, steps=steps, **settings) for steps in (60, 25))
    half.save(tmp_path / "half.nc")
    assert_allclose(op.load(tmp_path / "half.nc").extend(steps=35).final, whole.final, rtol=1e-8, atol=1e-10)
    line = op.ScoreMatching(op.Gaussian([0.0]), rule=op.GaussHermite(64))  # fixed nodes on one axis: nothing is planned anew
    whole, half = (op.momentum(line, [[2.0], [1.0]], steps=steps, **settings) for steps in (60, 25))
    assert_allclose(half.extend(steps=35).final, whole.final, rtol=1e-13)


def test_verified_as_any_run_is():
    run = op.momentum(op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-7)), [[2.0], [1.9]], step_size=0.05, steps=60)
    found = op.verify(run)
    assert 0 < found.params_difference.max() < 1e-6


def test_interrupted_and_extended(monkeypatch):
    class Impatient(Bowl):
        calls = 0

        def value_and_grad(self, params):
            Impatient.calls += 1
            if Impatient.calls == 40:
                raise KeyboardInterrupt
            return super().value_and_grad(params)

    whole = op.momentum(Bowl(), START, step_size=0.1, steps=60, record=op.every(10))
    run = op.momentum(Impatient(), START, step_size=0.1, steps=60, record=op.every(10))
    assert run.status == "interrupted" and 0 < run.steps[-1] < 60
    assert_array_equal(run.extend(steps=60 - int(run.steps[-1])).final, whole.final)


# --- how runs end, and settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_size", [1.5, 1e3, 1e300])
@KINDS
def test_too_large_a_step_size(step_size, nesterov):
    run = op.momentum(Bowl(), START, step_size=step_size, steps=2000, momentum=0.99, nesterov=nesterov)
    assert run.status == "unstable" and "step size" in run.message
    assert np.isfinite(run.loss).all() and np.isfinite(run.final).all()


@pytest.mark.parametrize("step_size", [150.0, 1e5, 1e300])
@KINDS
def test_under_plans_it_ends_as_descent_does(step_size, nesterov):
    run = op.momentum(OBJ, START, step_size=step_size, steps=50, nesterov=nesterov)
    assert run.status == op.gradient_descent(OBJ, START, step_size=step_size, steps=50).status != "completed"
    assert np.isfinite(run.loss).all() and np.isfinite(run.final).all()


def test_batch_stop_and_observe():
    runs = op.momentum(OBJ, np.stack([START, -START]), step_size=0.05, steps=20, record=op.every(5), observe={"x": lambda p: p[0, 0]},
                       stop=lambda record: record.step >= 10)
    assert [run.status for run in runs] == ["converged"] * 2 and runs[0].steps.tolist() == [0, 5, 10]
    assert_allclose(runs[0].observed["x"], -runs[1].observed["x"], rtol=1e-9)


@pytest.mark.parametrize(("settings", "message"), [
    ({"momentum": 1.0}, r"momentum must be a finite number not below 0 and below 1; got 1.0"),
    ({"momentum": -0.1}, r"momentum must be"), ({"nesterov": 1}, r"nesterov must be True or False; got 1"),
    ({"precondition": "x"}, r"precondition must be None or 'weights'.*got 'x'"), ({"step_size": 0}, r"step_size must be"),
    ({"steps": -1}, r"steps must be"), ({"record": 3}, r"record must be"),
])
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        op.momentum(OBJ, START, **{"step_size": 0.1, "steps": 3, **settings})
