"""Properties that hold for every input, tried on examples that hypothesis draws (the same ones every time)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

import overparam as op

FEW = settings(max_examples=15, derandomize=True, deadline=None, database=None,
               suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
RULE = op.Auto(tol=1e-8)
EPS = np.finfo(float).eps

coordinates = st.floats(-3, 3, width=32).map(lambda x: x if abs(x) > 1e-6 else 0.0)


@st.composite
def settings_of(draw, most=3):
    """(teacher means (m, d), students (n, d), weights (n,)) of moderate size."""
    d, n, m = draw(st.integers(1, 2)), draw(st.integers(1, most)), draw(st.integers(1, 2))
    means, params = draw(arrays(float, (m, d), elements=coordinates)), draw(arrays(float, (n, d), elements=coordinates))
    raw = draw(arrays(float, n, elements=st.floats(0.125, 1.0, width=32)))
    return means, params, raw / raw.sum()


MIXTURES = [op.ScoreMatching, op.KLDivergence, op.ReverseFisher,
            lambda teacher, **rest: op.TimeAveraged(teacher, [0.1, 1.0], [0.5, 0.5], **rest)]
NAMES = ["score matching", "likelihood", "reverse", "averaged"]


def close(one, two, error):
    """Equal but for the bounds of both, and rounding."""
    return abs(one - two) <= error + 1e-12 * (1 + abs(one))


def estimates(kind, means, params, weights, rule=RULE):
    return kind(op.GaussianMixture(means), weights=weights, rule=rule).estimate(params)


@pytest.mark.parametrize("kind", MIXTURES, ids=NAMES)
@given(case=settings_of(), data=st.data())
@FEW
def test_symmetries_within_the_bounds(kind, case, data):
    """Order of students and of components, translations and rotations change nothing but the gradient's own frame."""
    means, params, weights = case
    plain = estimates(kind, means, params, weights)
    assert plain.value >= -plain.value_error - 1e-15
    order = np.array(data.draw(st.permutations(range(len(params)))))
    angle = data.draw(st.floats(0, 6.3))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) if params.shape[1] == 2 else -np.eye(1)
    shift = 0.0 if kind is MIXTURES[3] else data.draw(st.floats(-2, 2, width=32))  # noise shrinks towards 0: no translations there
    moved = estimates(kind, (means @ turn.T + shift)[::-1], (params @ turn.T + shift)[order], weights[order])
    assert close(plain.value, moved.value, plain.value_error + moved.value_error)
    rows = np.linalg.norm(moved.grad - (plain.grad @ turn.T)[order], axis=1)
    assert (rows <= moved.grad_error + plain.grad_error[order] + 1e-12 * (1 + np.abs(plain.grad).max())).all()


@pytest.mark.parametrize("kind", MIXTURES, ids=NAMES)
@given(case=settings_of())
@FEW
def test_a_bound_holds_against_a_finer_rule(kind, case):
    rough, fine = (estimates(kind, *case, rule=op.Auto(tol=tol)) for tol in (1e-3, 1e-11))
    assert close(rough.value, fine.value, rough.value_error + fine.value_error)
    assert (np.linalg.norm(rough.grad - fine.grad, axis=1) <= rough.grad_error + fine.grad_error + 1e-13).all()


@pytest.mark.parametrize("kind", MIXTURES, ids=NAMES)
@given(case=settings_of())
@FEW
def test_the_parts_agree(kind, case):
    """value, grad, value_and_grad, estimate; and the derivative of the value along the gradient."""
    means, params, weights = case
    obj = kind(op.GaussianMixture(means), weights=weights, rule=op.Auto(tol=1e-10))
    value, grad = obj.value_and_grad(params)
    found = obj.estimate(params)
    assert value == obj.value(params) == found.value
    assert_array_equal(grad, obj.grad(params))
    assert_array_equal(grad, found.grad)
    size = np.linalg.norm(grad)
    if size > 1e-3:
        step = 1e-4 / size
        slope = (obj.value(params + step * grad) - obj.value(params - step * grad)) / (2 * step)
        assert_allclose(slope, size**2, rtol=1e-4)


@pytest.mark.parametrize("kind", [*MIXTURES, lambda teacher, **rest: op.ReLUNeuron(teacher.means[0] + [4.0])],
                         ids=[*NAMES, "neuron"])
@given(case=settings_of(), single=st.booleans())
@FEW
def test_memory_and_type_do_not_matter(kind, case, single):
    """The same numbers in any layout and any type that holds them give the same bits."""
    means, params, _ = case
    obj, base = kind(op.GaussianMixture(means), rule=op.Auto(tol=1e-6)), np.ascontiguousarray(params)
    if single:
        base = base.astype(np.float32).astype(float)
    frozen = base.copy()
    frozen.flags.writeable = False
    others = [np.asfortranarray(base), np.repeat(base, 2, axis=1)[:, ::2], base[::-1].copy()[::-1], base.tolist(), frozen, base.astype("g"),
              base.astype(">f8"), op.State.of(base), *([base.astype(np.float32)] if single else [])]
    value, grad = obj.value_and_grad(base)
    kept = base.copy()
    for other in others:
        again, rows = obj.value_and_grad(other)
        assert again == value
        assert_array_equal(rows, grad)
    assert_array_equal(base, kept)


@given(target=arrays(float, (2, 2), elements=coordinates), factors=arrays(float, (3, 2, 2), elements=coordinates), balance=st.floats(0, 2))
@FEW
def test_factorization(target, factors, balance):
    """Turning input and output space changes neither loss nor balance; the gradient is the differences' limit."""
    obj = op.MatrixFactorization(target, depth=3, balance=balance)
    value, grad = obj.value_and_grad(factors)
    assert value >= 0 and value == obj.value(np.asfortranarray(factors)) == obj.value(factors.tolist())
    turn, other = np.linalg.qr(target + 5 * np.eye(2))[0], np.linalg.qr(factors[0] - 7 * np.eye(2))[0]
    turned = np.stack([factors[0] @ other.T, factors[1], turn @ factors[2]])
    scale = 1 + value + np.abs(factors).max() ** 6
    assert abs(op.MatrixFactorization(turn @ target @ other.T, depth=3, balance=balance).value(turned) - value) <= 1e3 * EPS * scale
    step = 1e-4
    slope = (obj.value(factors + step * grad) - obj.value(factors - step * grad)) / (2 * step) if np.abs(grad).max() < 10 else None
    if slope is not None:
        assert_allclose(slope, (grad**2).sum(), rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("rule", [op.GaussHermite(40), op.Trapezoid(60, half_width=9.0), op.MonteCarlo(20_000, rng=1),
                                  op.Stratified(4096, rng=1), op.Sobol(4096, rng=1)], ids=lambda rule: type(rule).__name__)
@given(case=settings_of(2))
@FEW
def test_every_rule_agrees_with_auto(rule, case):
    """Bounds hold; eight standard errors of a reliable sample are enough, and the same seed gives the same value."""
    exact, found = (estimates(op.ScoreMatching, *case, rule=one) for one in (op.Auto(tol=1e-10), rule))
    factor = 1.0 if found.replicates is None else 8.0
    if found.reliable:
        assert close(found.value, exact.value, factor * found.value_error + exact.value_error)
    assert found.value == estimates(op.ScoreMatching, *case, rule=type(rule)(**rule.settings())).value
