"""The compiled loops behind Integrand against its NumPy twin."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from overparam._core.envelopes import Envelopes
from overparam.geometry import Integrand
from overparam.objectives.likelihood import LikelihoodTails


class Plain(Integrand):
    compiled = None


class PlainTails(LikelihoodTails):
    compiled = None


def pair(n, k, scale, kinds=(Integrand, Plain), zero=False):
    rng = np.random.default_rng([n, k])
    deviations = scale * rng.normal(size=(n, k))
    params, component = deviations + rng.normal(size=k), rng.normal(size=k)
    weights = rng.dirichlet(np.ones(n))
    if zero:
        weights[0], weights[1] = 0.0, weights[0] + weights[1]
    distances = np.linalg.norm(params - component, axis=1)
    return [kind(params, deviations, weights, component, 0.7, distances) for kind in kinds]


CASES = [(1, 1, 1.0, False), (3, 1, 4.0, True), (5, 2, 1e-3, False), (5, 3, 2.0, True), (9, 4, 8.0, False), (4, 2, 60.0, True)]


@pytest.mark.parametrize(("n", "k", "scale", "zero"), CASES)
@pytest.mark.parametrize("lattice", [False, True])
def test_left_out_and_reach(n, k, scale, zero, lattice):
    own, plain = pair(n, k, scale, zero=zero)
    steps = np.array([0.0, 0.9, 4.0, 0.05])[:k] if lattice else np.zeros(k)
    steps = steps[::-1].copy() if k < 3 else steps
    modes = plain.modes()
    for axis in range(k):
        for side in (-1, 1):
            outermost = (side * modes[:, axis]).max()
            edges = side * (outermost + np.array([-3.0, -0.5, 0.5, 2.0, 6.0, 15.0]))
            for name in ("beyond", "left_out"):
                with np.errstate(invalid="ignore"):  # NumPy also forms what it does not take
                    found, wanted = (getattr(kind, name)(axis, side, edges, modes, steps) for kind in (own, plain))
                for mine, other in zip(found, wanted, strict=True):
                    assert_allclose(mine, other, rtol=1e-9, atol=1e-300)
            targets = np.full(n, 1e-7)
            with np.errstate(invalid="ignore"):
                found, wanted = (kind.reach(axis, side, modes, targets, 1e-8, steps) for kind in (own, plain))
            assert found[0] == wanted[0]
            assert_allclose(found[1], wanted[1], rtol=1e-9, atol=1e-300)
            assert found[2] == pytest.approx(wanted[2], rel=1e-9)


@pytest.mark.parametrize(("n", "k", "scale", "zero"), CASES)
def test_modes(n, k, scale, zero):
    own, plain = pair(n, k, scale, zero=zero)
    assert_allclose(own.modes(), plain.modes(), rtol=1e-12, atol=1e-12)
    start = plain.modes()
    assert own.modes(start) is not None
    assert own.compiled.steepest(start) == pytest.approx((plain.slopes(start)[1] ** 2).sum(axis=1).max(), rel=1e-9, abs=1e-24)


def test_likelihood_takes_them_too():
    own, plain = pair(5, 2, 1.5, (LikelihoodTails, PlainTails))
    modes, steps = plain.modes(), np.array([0.5, 0.0])
    edges = np.array([4.0, 7.0])
    for mine, other in zip(own.left_out(0, 1, edges, modes, steps), plain.left_out(0, 1, edges, modes, steps), strict=True):
        assert_allclose(mine, other, rtol=1e-9)


def test_many_means_are_left_to_numpy():
    own = pair(80, 20, 1.0)[0]
    assert own.compiled is None


def test_shapes_are_checked():
    own = pair(4, 2, 1.0)[0].compiled
    modes, rows = np.zeros((4, 2)), np.zeros((1, 4))
    with pytest.raises(ValueError, match="do not fit 4 means on 2 axes"):
        own.left_out(2, 1, np.ones(1), modes, np.zeros(2), rows, np.zeros(1))
    with pytest.raises(ValueError, match="must have 1 edges and 4 means"):
        own.left_out(0, 1, np.ones(1), modes, np.zeros(2), np.zeros((1, 3)), np.zeros(1))
    with pytest.raises(ValueError, match=r"points must have shape \(4, 2\)"):
        own.steepest(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="edges at least one"):
        own.reach(0, 1, np.ones(0), modes, np.zeros(2), np.zeros(4), 1.0, np.zeros(4))
    with pytest.raises(ValueError, match="do not fit 3 means on 1 axes"):
        Envelopes(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros(2), np.zeros(1), 1.0, np.zeros(3), np.zeros(3))
