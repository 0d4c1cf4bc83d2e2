"""One ReLU neuron learned by n: value, gradient and bounds against other methods, late laws, runs."""

import itertools
import math
import os
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

import overparam as op
from overparam._core import cpu
from overparam.theory.certainty import certain_run

KERNELS = ["x86-64-v4", "x86-64-v3", "x86-64", "portable"]


def angle(a, b):
    length = mpmath.norm(a) * mpmath.norm(b)
    if length == 0:
        return mpmath.mpf(0)
    a, b = a / mpmath.norm(a), b / mpmath.norm(b)
    return 2 * mpmath.atan2(mpmath.norm(a - b), mpmath.norm(a + b))


def exact(params, target):
    """Loss and gradient as they are published, in 50 digits."""
    with mpmath.workdps(50):
        w = [mpmath.matrix([mpmath.mpf(float(x)) for x in row]) for row in params]
        v, norm = mpmath.matrix([mpmath.mpf(float(x)) for x in target]), mpmath.norm

        def kernel(a, b):
            th = angle(a, b)
            return norm(a) * norm(b) / (2 * mpmath.pi) * (mpmath.sin(th) + (mpmath.pi - th) * mpmath.cos(th))

        loss = sum(kernel(a, b) for a in w for b in w) / 2 - sum(kernel(a, v) for a in w) + kernel(v, v) / 2
        rest, rows = sum(w, mpmath.zeros(len(v), 1)) - v, []
        for i, own in enumerate(w):
            if norm(own) == 0:
                rows.append(mpmath.zeros(len(v), 1))
                continue
            others = [x for j, x in enumerate(w) if j != i]
            radial = sum(norm(x) * mpmath.sin(angle(own, x)) for x in others) - norm(v) * mpmath.sin(angle(own, v))
            turn = sum((angle(own, x) * x for x in others), mpmath.zeros(len(v), 1)) - angle(own, v) * v
            rows.append(rest / 2 + (radial * own / norm(own) - turn) / (2 * mpmath.pi))
        return loss, rows


def off(found, loss, rows):
    """Errors of a value and of its rows, over their bounds."""
    with mpmath.workdps(50):
        value = abs(loss - mpmath.mpf(found.value)) / found.value_error
        return float(value), max(float(mpmath.norm(row - mpmath.matrix(got.tolist())) / bound)
                                 for row, got, bound in zip(rows, found.grad, found.grad_error))


def places(kind, rng):
    """A target and neurons: anywhere, near its direction, near its line, near another line, coincident."""
    n, d = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    target, apart = rng.normal(size=d), 10 ** rng.uniform(-12, 0.5)
    across, sizes, sides = apart * rng.normal(size=(n, d)), rng.uniform(0.1, 2, (n, 1)), rng.choice([-1, 1], (n, 1))
    made = {"anywhere": lambda: rng.normal(size=(n, d)),
            "near the target": lambda: sizes * target + across,
            "near its line": lambda: sizes * sides * target + across,
            "near a line": lambda: sides * rng.normal(size=d) + across,
            "coincident": lambda: np.repeat(rng.normal(size=(1, d)), n, axis=0) * apart}
    return target, made[kind]()


@pytest.mark.parametrize("kind", ["anywhere", "near the target", "near its line", "near a line", "coincident"])
def test_bounds_hold_against_fifty_digits(kind):
    rng, parts = np.random.default_rng(5), []
    for trial in range(25):
        target, params = places(kind, rng)
        if trial % 3 == 0:  # no change of basis: what the evaluation does alone
            target = np.eye(len(target))[0] * np.linalg.norm(target)
        parts.append(off(op.ReLUNeuron(target).estimate(params), *exact(params, target)))
    assert np.max(parts) <= 1
    assert np.max(parts) > 1e-5, "bounds that are far too wide say nothing"


@pytest.mark.parametrize("apart", [1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.3, 0.8, 1.0, 1.5])
@pytest.mark.parametrize("far", [False, True])
def test_angles_keep_their_own_accuracy(apart, far):
    """Two neurons that stand apart by an angle, or by pi less that, from the target: relative accuracy where nothing cancels."""
    side = -1.0 if far else 1.0
    params = np.array([[side * 0.5 * math.cos(apart), 0.5 * math.sin(apart)], [side * 0.5 * math.cos(apart), -0.5 * math.sin(apart)]])
    objective = op.ReLUNeuron([1.0, 0.0])
    loss, rows = exact(params, [1.0, 0.0])
    found = objective.estimate(params)
    assert max(off(found, loss, rows)) <= 1
    assert found.value == pytest.approx(float(loss), rel=1e-13 if apart > 1e-6 or far else 1e-3)
    for got, row in zip(found.grad, rows):  # across the target every digit
        assert got[1] == pytest.approx(float(row[1]), rel=1e-12)


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (2, 1), (3, 2), (7, 3)])
def test_loss_is_the_integral_over_directions(n, seed):
    """In two dimensions the outputs are r f(phi), and E r^2 = 2: L = (1/2 pi) times the integral of f^2 over the circle."""
    rng = np.random.default_rng(seed)
    params, target = rng.normal(size=(n, 2)), rng.normal(size=2)

    def square(phi):
        x = np.array([math.cos(phi), math.sin(phi)])
        return float(np.maximum(params @ x, 0).sum() - max(target @ x, 0)) ** 2

    normals = [math.atan2(y, x) for x, y in [*params, target]]
    kinks = sorted({(a + s * math.pi / 2) % (2 * math.pi) for a in normals for s in (-1, 1)})
    ends = [0.0, *kinks, 2 * math.pi]
    integral = sum(quad(square, a, b, epsabs=1e-14, epsrel=1e-13)[0] for a, b in itertools.pairwise(ends))
    assert op.ReLUNeuron(target).value(params) == pytest.approx(integral / (2 * math.pi), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(1, 4), (2, 3), (5, 2), (3, 9), (14, 20), (30, 6)])
def test_gradient_agrees_with_differences(n, d):
    rng = np.random.default_rng(n)
    target, params = rng.normal(size=d), rng.normal(size=(n, d))
    objective = op.ReLUNeuron(target)
    value, grad = objective.value_and_grad(params)
    assert value == objective.value(params) and grad.shape == params.shape
    for _ in range(3):
        direction = rng.normal(size=params.shape)
        direction /= np.linalg.norm(direction)
        step = 2e-3
        moved = {m: objective.value(params + m * step * direction) for m in (-3, -2, -1, 1, 2, 3)}
        found = (45 * (moved[1] - moved[-1]) - 9 * (moved[2] - moved[-2]) + moved[3] - moved[-3]) / (60 * step)
        assert found == pytest.approx(float((grad * direction).sum()), abs=1e-9 * max(1.0, np.linalg.norm(grad)))


def test_gradient_agrees_with_automatic_differentiation():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start, target = rng.normal(size=(6, 9)), rng.normal(size=9)
    w, v = torch.tensor(start, requires_grad=True), torch.tensor(target)
    rows = torch.cat([w, v[None]])
    signs = torch.ones(7, dtype=torch.float64)
    signs[-1] = -1
    norms = rows.norm(dim=1)
    cosines = ((rows @ rows.T) / norms[:, None] / norms).clamp(-1, 1)
    inside = cosines * (1 - torch.eye(7, dtype=torch.float64))  # acos has no derivative at 1, where the kernel is |w|^2/2
    angles = torch.arccos(inside)
    pairs = norms[:, None] * norms / (2 * math.pi) * (torch.sin(angles) + (math.pi - angles) * torch.cos(angles))
    pairs = torch.where(torch.eye(7, dtype=torch.bool), torch.diag(norms**2 / 2), pairs)
    loss = (signs[:, None] * signs * pairs).sum() / 2
    loss.backward()
    value, grad = op.ReLUNeuron(target).value_and_grad(start)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(grad, w.grad.numpy(), atol=1e-12)


def from_arccos(params, target):
    """The published gradient, angles by arccos."""
    n, units = len(params), params / np.linalg.norm(params, axis=1)[:, None]
    angles = np.arccos(np.clip(units @ np.concatenate([units, target[None] / np.linalg.norm(target)]).T, -1, 1))
    angles[np.arange(n), np.arange(n)] = 0
    signed = np.append(np.linalg.norm(params, axis=1), -np.linalg.norm(target))
    turn = angles @ np.concatenate([params, -target[None]])
    return (params.sum(axis=0) - target) / 2 + ((np.sin(angles) @ signed)[:, None] * units - turn) / (2 * np.pi)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_copy_of_the_kernel_agrees(kernel, tmp_path):
    supported, rng = cpu.info()["supported"], np.random.default_rng(0)
    cases = {str(n): rng.normal(size=(n + 1, 12)) for n in (1, 3, 7, 8, 15, 33)}
    np.savez(tmp_path / "in.npz", **cases)
    code = ("import sys, numpy as np, overparam as op; found = {}\n"
            "for name, rows in np.load(sys.argv[1]).items():\n"
            "    v, g = op.ReLUNeuron(rows[0]).value_and_grad(rows[1:]); found[name] = np.vstack([np.full(12, v), g])\n"
            "np.savez(sys.argv[2], **found)")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")], check=True, cwd=tmp_path,
                   env={**os.environ, "OVERPARAM_KERNEL": kernel if kernel in supported else supported[0]})
    for name, found in np.load(tmp_path / "out.npz").items():
        target, params = cases[name][0], cases[name][1:]
        value, grad = op.ReLUNeuron(target).value_and_grad(params)
        assert found[0, 0] == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(found[1:], grad, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found[1:], from_arccos(params, target), atol=1e-12)


def test_neurons_of_any_size():
    objective, rng = op.ReLUNeuron([1.0, 0.0, 0.0]), np.random.default_rng(1)
    params = rng.normal(size=(3, 3))
    params[1] = 0.0
    value, grad = objective.value_and_grad(params)
    assert (grad[1] == 0).all() and value == pytest.approx(float(exact(params, [1.0, 0, 0])[0]), rel=1e-13)
    tiny = rng.normal(size=(3, 3)) * np.array([[1e-200], [1e-5], [1e-310]])
    loss, rows = exact(tiny, [1.0, 0, 0])
    found = objective.estimate(tiny)
    assert found.value == pytest.approx(float(loss), rel=1e-13)
    for got, row in zip(found.grad[:2], rows):
        np.testing.assert_allclose(got, [float(x) for x in row], rtol=1e-10, atol=1e-15)
    assert np.isfinite(found.grad).all()
    huge = objective.value_and_grad(1e150 * params)
    assert huge[0] == pytest.approx(1e300 * op.ReLUNeuron([1e-150, 0, 0]).value(params), rel=1e-12)


def test_the_loss_does_not_depend_on_where_the_axes_are_nor_on_the_order():
    rng = np.random.default_rng(2)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    params, target, order = rng.normal(size=(4, 5)), rng.normal(size=5), rng.permutation(4)
    value, grad = op.ReLUNeuron(target).value_and_grad(params)
    turned = op.ReLUNeuron(target @ turn).value_and_grad(params @ turn)
    assert turned[0] == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(turned[1], grad @ turn, atol=1e-13)
    np.testing.assert_allclose(op.ReLUNeuron(target).grad(params[order]), grad[order], atol=1e-14)
    assert op.ReLUNeuron(3 * target).value(3 * params) == pytest.approx(9 * value, rel=1e-13)


def test_a_million_dimensions_are_a_few():
    rng = np.random.default_rng(3)
    target, params = np.zeros(1_000_000), 0.01 * rng.normal(size=(3, 1_000_000))
    target[17] = 1.0
    objective = op.ReLUNeuron(target)
    state = objective.start(params)
    assert state.k == 4 and np.abs(state.params - params).max() < 1e-14
    run = op.gradient_descent(objective, params, step_size=0.1, steps=2000)
    assert run.status == "completed" and run.loss[-1] < 1e-4 and run.states[0].d == 1_000_000


def test_two_neurons_follow_the_sharp_law():
    objective = op.ReLUNeuron([1.0, 0.0, 0.0])
    flow = op.gradient_flow(objective, [[0.5, 0.3, 0.1], [0.5, -0.3, -0.1]], t_end=1e5)
    assert flow.status == "completed"
    for record in np.flatnonzero(flow.times > 3e2):
        rows = flow.states[record].coordinates
        zeta = np.linalg.norm(rows[0, 1:] - rows[1, 1:]) / 2
        law = zeta**3 / (3 * np.pi * rows[0, 0] * rows[1, 0])
        assert flow.loss[record] == pytest.approx(law, rel=1e-3 if zeta > 1e-3 else 1e-6)
    assert flow.loss[-1] * flow.times[-1] ** 3 == pytest.approx(np.pi**2 / 6, rel=1e-3)
    # the plain closed form is 2 to 6 % wrong here
    assert flow.loss_error[-1] < 1e-10 * flow.loss[-1]


def test_the_late_form_holds_where_the_loss_is_far_below_rounding():
    zeta = 1e-80
    value, grad = op.ReLUNeuron([1.0, 0.0]).value_and_grad([[0.25, zeta], [0.75, -zeta]])
    assert value == pytest.approx(zeta**3 / (3 * np.pi * 0.25 * 0.75), rel=1e-12)
    # zeta' = -zeta^2/(2 pi l1 l2)
    np.testing.assert_allclose(grad[:, 1], np.array([1, -1]) * zeta**2 / (2 * np.pi * 0.25 * 0.75), rtol=1e-12)


def test_two_unequal_neurons_and_a_longer_target():
    objective = op.ReLUNeuron([0.0, 3.0])  # L ~ (8 pi^2/3) (lambda_1 lambda_2)^2 |v|^2/t^3
    flow = op.gradient_flow(objective, [[0.4, 1.0], [-0.4, 2.0]], t_end=1e5)
    share = flow.final[:, 1] / 3
    assert flow.loss[-1] * flow.times[-1] ** 3 == pytest.approx(8 * np.pi**2 / 3 * 9 * (share[0] * share[1]) ** 2, rel=1e-3)
    assert abs(share[0] - 0.5) > 0.05 and share.sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_neurons_have_slope_minus_three(seed):
    start = op.init.gaussian(3, np.zeros(5), scale=0.01, rng=seed)
    run = op.gradient_descent(op.ReLUNeuron(np.eye(5)[0]), start, step_size=0.5, steps=2_000_000)
    assert run.times[-1] == 1e6 and -3.01 < op.rates.local_slope(run).slope[-1] < -2.98


@pytest.mark.parametrize("side", [-1, 1])
def test_a_flow_crosses_the_plane_behind_which_a_neuron_starts(side):
    flow = op.gradient_flow(op.ReLUNeuron([1.0, 0.0]), [[0.001 * side, 0.015]], t_end=60.0)
    assert flow.loss[-1] < 1e-16 and np.interp(20.0, flow.times, np.log(flow.loss)) < -15


def test_one_neuron_is_linear():
    run = op.gradient_descent(op.ReLUNeuron(np.eye(5)[0]), op.init.gaussian(1, np.zeros(5), scale=0.01, rng=0), step_size=0.1, steps=1000)
    assert run.loss[-1] < 1e-16 and run.steps[np.argmax(run.loss < 1e-16)] < 600


def test_compiled_descent_is_the_textbook_iteration():
    rng = np.random.default_rng(4)
    target, params = rng.normal(size=6), 0.3 * rng.normal(size=(3, 6))
    objective = op.ReLUNeuron(target)
    run = op.gradient_descent(objective, params, step_size=0.05, steps=40)
    expected = params
    for _ in range(40):
        rows = exact(expected, target)[1]
        expected = expected - 0.05 * np.array([[float(x) for x in row] for row in rows])
    np.testing.assert_allclose(run.final, expected, rtol=1e-11, atol=1e-13)
    sizes = [np.linalg.norm(rows, axis=1).sum() + objective.length for rows in run.params]
    assert (certain_run(run).loss_error < 1e-13 * np.square(sizes)).all()


def test_hessian_products_flow_and_descent_agree():
    rng = np.random.default_rng(6)
    objective, params = op.ReLUNeuron([1.0, 0.5, 0.0]), rng.normal(size=(3, 3))
    direction = rng.normal(size=(3, 3))
    found = objective.hvp(params, direction)
    step = 1e-5
    twice = (objective.grad(params + step * direction) - objective.grad(params - step * direction)) / (2 * step)
    np.testing.assert_allclose(found, twice, rtol=1e-7, atol=1e-8)
    small = op.gradient_descent(objective, params, step_size=1e-3, steps=5000)
    flow = op.gradient_flow(objective, params, t_end=5.0)
    np.testing.assert_allclose(small.final, flow.final, atol=2e-3)
    for run in (op.momentum(objective, params, step_size=0.05, steps=50), op.adam(objective, params, step_size=0.01, steps=50)):
        assert run.status == "completed" and run.loss[-1] < run.loss[0] and (run.loss_error < 1e-11).all()


def test_coordinates_that_no_start_made_serve_too():
    rng = np.random.default_rng(9)
    objective, params = op.ReLUNeuron(rng.normal(size=4)), rng.normal(size=(3, 4))
    value, grad = objective.value_and_grad(params)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for state in (op.State.of(params), op.State(centre=np.zeros(4), deviations=params @ basis, basis=basis)):
        found = objective.plan(state).evaluate(state)
        assert found.value == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(state.expand_gradient(found.rows), grad, atol=1e-13)


def test_files_bring_the_objective_back_and_runs_go_on(tmp_path):
    objective, params = op.ReLUNeuron([0.3, -1.0, 0.2]), op.init.gaussian(3, np.zeros(3), scale=0.1, rng=0)
    run = op.gradient_descent(objective, params, step_size=0.05, steps=20)
    run.save(tmp_path / "run.nc")
    again = op.load(tmp_path / "run.nc").extend(steps=10)
    whole = op.gradient_descent(objective, params, step_size=0.05, steps=30)
    np.testing.assert_array_equal(again.final, whole.final)
    assert "0.3, -1.0, 0.2" in repr(again.objective)
    flow = op.gradient_flow(objective, params, t_end=10.0).extend(t_end=100.0)
    assert flow.status == "completed" and flow.times[-1] == 100.0


def test_states_of_any_kind_are_starts():
    objective, rng = op.ReLUNeuron([0.0, 2.0, 1.0]), np.random.default_rng(8)
    params = rng.normal(size=(2, 3))
    plain, split = objective.start(params), objective.start(op.State(centre=params[0], deviations=params - params[0]))
    np.testing.assert_allclose(plain.params, params, atol=1e-15)
    np.testing.assert_allclose(split.params, params, atol=1e-15)
    assert objective.start(plain) is plain
    np.testing.assert_allclose(plain.basis[:, 0], np.array([0, 2, 1]) / math.sqrt(5), atol=1e-16)
    np.testing.assert_allclose(plain.basis.T @ plain.basis, np.eye(plain.k), atol=1e-15)
    assert objective.value(plain) == pytest.approx(objective.value(params), rel=1e-14)
    batch = op.gradient_descent(objective, np.stack([params, -params]), step_size=0.1, steps=3)
    assert len(batch) == 2


@pytest.mark.parametrize(("make", "words"), [
    (lambda: op.ReLUNeuron([0.0, 0.0]), "target must not be 0"),
    (lambda: op.ReLUNeuron([[1.0]]), "target must have 1 dimension"),
    (lambda: op.ReLUNeuron([np.inf]), "must be finite"),
    (lambda: op.ReLUNeuron([1.0, 0.0]).value(np.ones((3, 3))), r"shape \(n, 2\), one row per neuron; got \(3, 3\)"),
    (lambda: op.ReLUNeuron([1.0, 0.0]).value(np.ones(2)), "params must have 2 dimension"),
])
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_step_size_that_is_too_large_is_said():
    assert op.gradient_descent(op.ReLUNeuron([1.0, 0.0]), 3 * np.eye(2), step_size=20.0, steps=500).status == "unstable"
