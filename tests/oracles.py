"""Oracles that share nothing with the library: the cubic (Stein) form of the gradient under SciPy's adaptive cubature.

The library integrates the pathwise form with fixed rules in a reduced frame; here Lemma 2.2's integrand is integrated adaptively
over the space itself, by code of another kind.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import cubature

HALF_WIDTH = 9.5  # beyond it the Gaussian weight is 1e-20; means add their own reach


def stein_integrand(x, params, weights):
    """(N, 1 + n d): loss density and the rows of Lemma 2.2 for a standard normal teacher, without the weight."""
    logits = x @ params.T - 0.5 * (params**2).sum(axis=1) + np.log(weights)
    logits -= logits.max(axis=1, keepdims=True)
    w = np.exp(logits)
    w /= w.sum(axis=1, keepdims=True)
    v = w @ params
    inner = v @ params.T
    pairs = np.einsum("jk,ji->jik", params, params @ params.T).reshape(len(params), -1)
    m_mu = (w @ pairs).reshape(len(x), *params.shape)
    m_v = (w * inner) @ params
    square = (v**2).sum(axis=1)
    rows = v[:, None] + m_mu - 2 * v[:, None] * inner[:, :, None] - 2 * m_v[:, None] + 3 * (square[:, None] * v)[:, None]
    rows = 2 * w[:, :, None] * rows
    return np.concatenate([square[:, None], rows.reshape(len(x), params.size)], axis=1)


def score_matching(params, weights, scale, rtol=1e-11, max_subdivisions=20_000):
    """Loss and (n, d) gradient against N(0, I), every row to `rtol` of its entry in `scale` (loss first, then rows)."""
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
    unit = np.where(unit > 0, unit, 1.0)

    def integrand(x):
        density = np.exp(-0.5 * (x**2).sum(axis=1)) / (2 * np.pi) ** (d / 2)
        return stein_integrand(x, params, weights) * density[:, None] / unit

    low = np.minimum(params.min(axis=0), 0) / 2 - HALF_WIDTH
    high = np.maximum(params.max(axis=0), 0) / 2 + HALF_WIDTH
    found = cubature(integrand, low, high, rule="gk21", rtol=0, atol=rtol, max_subdivisions=max_subdivisions)
    if found.status != "converged":
        raise RuntimeError("the oracle did not converge")
    result = found.estimate * unit
    return result[0], result[1:].reshape(n, d)


def _weights_and_mean(x, params, weights):
    """Responsibilities (N, n) and v (N, d), for real or complex parameters."""
    logits = x @ params.T - 0.5 * (params**2).sum(axis=1) + np.log(weights)
    logits = logits - logits.real.max(axis=1, keepdims=True)
    w = np.exp(logits)
    w = w / w.sum(axis=1, keepdims=True)
    return w, w @ params


def mixture_score_matching(params, weights, means, teacher_weights, scale, rtol=1e-11, max_subdivisions=20_000):
    """Loss and (n, d) gradient against a mixture teacher, every row to `rtol` of its entry in `scale` (loss first, then rows).

    Only the loss is written down, an expectation of |v - v*|^2 under p*; its derivatives are complex steps of 1e-30, exact to
    rounding because the integrand is analytic in the parameters.
    """
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
    unit = np.where(unit > 0, unit, 1.0)
    step = 1e-30

    def integrand(x):
        target = _weights_and_mean(x, means, teacher_weights)[1]
        square = ((x[:, None] - means) ** 2).sum(axis=2)
        density = np.exp(-0.5 * square) @ teacher_weights / (2 * np.pi) ** (d / 2)
        parts = [((_weights_and_mean(x, params, weights)[1] - target) ** 2).sum(axis=1)]
        for i in range(n):
            for k in range(d):
                moved = params.astype(complex)
                moved[i, k] += 1j * step
                parts.append(((_weights_and_mean(x, moved, weights)[1] - target) ** 2).sum(axis=1).imag / step)
        return np.stack(parts, axis=1) * density[:, None] / unit

    low = np.minimum(params.min(axis=0), means.min(axis=0)) / 2 + means.min(axis=0) / 2 - HALF_WIDTH
    high = np.maximum(params.max(axis=0), means.max(axis=0)) / 2 + means.max(axis=0) / 2 + HALF_WIDTH
    found = cubature(integrand, low, high, rule="gk21", rtol=0, atol=rtol, max_subdivisions=max_subdivisions)
    if found.status != "converged":
        raise RuntimeError("the oracle did not converge")
    result = found.estimate * unit
    return result[0], result[1:].reshape(n, d)


def reverse_fisher(params, weights, means, teacher_weights, scale, rtol=1e-11, max_subdivisions=20_000):
    """Reverse Fisher divergence and its (n, d) gradient, every row to `rtol` of its entry in `scale` (loss first, then rows).

    Only |v - v*|^2 times the student's density is written down; derivatives are complex steps of both factors.
    """
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
    unit = np.where(unit > 0, unit, 1.0)
    step = 1e-30

    def product(x, at, target):
        density = np.exp(-0.5 * ((x[:, None] - at) ** 2).sum(axis=2)) @ weights / (2 * np.pi) ** (d / 2)
        return density * ((_weights_and_mean(x, at, weights)[1] - target) ** 2).sum(axis=1)

    def integrand(x):
        target = _weights_and_mean(x, means, teacher_weights)[1]
        parts = [product(x, params, target)]
        for i in range(n):
            for k in range(d):
                moved = params.astype(complex)
                moved[i, k] += 1j * step
                parts.append(product(x, moved, target).imag / step)
        return np.stack(parts, axis=1) / unit

    found = cubature(integrand, params.min(axis=0) - HALF_WIDTH, params.max(axis=0) + HALF_WIDTH, rule="gk21", rtol=0, atol=rtol,
                     max_subdivisions=max_subdivisions)
    if found.status != "converged":
        raise RuntimeError("the oracle did not converge")
    result = found.estimate * unit
    return result[0], result[1:].reshape(n, d)


def mixture_scales(params, weights, means, teacher_weights):
    """(1 + n,) integrals, roughly, of what the terms of loss and rows add up to in size: what rounding is proportional to."""
    d = params.shape[1]
    low = np.minimum(params.min(axis=0), means.min(axis=0)) / 2 + means.min(axis=0) / 2 - 8
    high = np.maximum(params.max(axis=0), means.max(axis=0)) / 2 + means.max(axis=0) / 2 + 8
    lines = [np.linspace(a, b, {1: 2000, 2: 150}[d]) for a, b in zip(low, high, strict=True)]
    x = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")], axis=1)
    density = np.exp(-0.5 * ((x[:, None] - means) ** 2).sum(axis=2)) @ teacher_weights / (2 * np.pi) ** (d / 2)
    density *= np.prod([line[1] - line[0] for line in lines])
    w, w_star = _weights_and_mean(x, params, weights)[0], _weights_and_mean(x, means, teacher_weights)[0]
    apart = ((w @ np.linalg.norm(params[:, None] - means, axis=2)) * w_star).sum(axis=1)
    arm = np.linalg.norm(params[:, None] - params, axis=2)
    reach = 1 + (w @ arm) * np.linalg.norm(x[:, None] - params, axis=2)
    return np.concatenate([[density @ apart**2], 2 * (density * apart) @ (w * reach)])


def scales(params, weights):
    """(1 + n,) integrals of the absolute Stein integrands, roughly: what rounding in an oracle is proportional to."""
    n, d = params.shape
    low, high = np.minimum(params.min(axis=0), 0) / 2 - 8, np.maximum(params.max(axis=0), 0) / 2 + 8
    lines = [np.linspace(a, b, {1: 2000, 2: 150, 3: 40}[d]) for a, b in zip(low, high, strict=True)]
    x = np.stack([part.ravel() for part in np.meshgrid(*lines, indexing="ij")], axis=1)
    density = np.exp(-0.5 * (x**2).sum(axis=1)) / (2 * np.pi) ** (d / 2) * np.prod([line[1] - line[0] for line in lines])
    sums = density @ np.abs(stein_integrand(x, params, weights))
    return np.concatenate([[sums[0]], np.linalg.norm(sums[1:].reshape(n, d), axis=1)])


def by_mpmath(params, weights, digits=30):
    """Loss, (n, 1) gradient and error estimates in rank 1, by tanh-sinh quadrature of the pathwise form in 30 digits."""
    import mpmath

    with mpmath.workdps(digits):
        mus, pis = [mpmath.mpf(float(m)) for m in params[:, 0]], [mpmath.mpf(float(w)) for w in weights]

        def parts(x):
            terms = [pi * mpmath.exp(-((x - mu) ** 2) / 2) for pi, mu in zip(pis, mus, strict=True)]
            total = mpmath.fsum(terms)
            w = [term / total for term in terms]
            v = mpmath.fsum(weight * mu for weight, mu in zip(w, mus, strict=True))
            return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi), w, v

        means = [float(m) for m in params[:, 0]]
        inner = sorted({0.0, *(m / 2 for m in means), *((a + b) / 2 for a in means for b in means)})
        cuts = [-16.0, *[cut for cut in inner if abs(cut) < 16], 16.0]

        def integral(function):
            return mpmath.quad(function, cuts, error=True, maxdegree=9)

        found = [integral(lambda x: parts(x)[0] * parts(x)[2] ** 2)]
        for i, mu in enumerate(mus):
            def row(x, i=i, mu=mu):
                gauss, w, v = parts(x)
                return 2 * gauss * w[i] * (v + (mu - v) * v * (x - mu))

            found.append(integral(row))
        values = np.array([float(value) for value, _ in found])
        errors = np.array([float(error) for _, error in found]) + 1e-16 * np.abs(values)
    return values[0], values[1:, None], errors


def on_a_rotated_grid(params, weights, rng, nodes=160):
    """Loss, gradient and error estimates in rank 3: the Stein form on a shifted grid turned against the axes, compared with half its nodes.

    The equispaced sum converges geometrically, so what halving the nodes changes is far more than the error of all of them.
    """
    from scipy.stats import special_ortho_group

    n, d = params.shape
    turn = special_ortho_group.rvs(d, random_state=rng)
    turned = params @ turn
    low, high = np.minimum(turned.min(axis=0), 0) / 2 - 8.8, np.maximum(turned.max(axis=0), 0) / 2 + 8.8
    sums = np.zeros((2, 1 + n * d))
    steps = (high - low) / nodes
    lines = [low[axis] + steps[axis] * (np.arange(nodes) + rng.random()) for axis in range(d)]
    even = np.arange(nodes) % 2 == 0
    y, z = np.meshgrid(lines[1], lines[2], indexing="ij")
    coarse = np.outer(even, even).ravel()
    for place, x in enumerate(lines[0]):
        points = np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()])
        density = np.exp(-0.5 * (points**2).sum(axis=1)) / (2 * np.pi) ** (d / 2) * np.prod(steps)
        kept = density > 1e-26
        values = stein_integrand(points[kept], turned, weights) * density[kept, None]
        sums[0] += np.ascontiguousarray(values.T).sum(axis=1)  # pairwise
        if even[place]:
            sums[1] += 8 * np.ascontiguousarray(values[coarse[kept]].T).sum(axis=1)
    value, grad = sums[0, 0], sums[0, 1:].reshape(n, d) @ turn.T
    apart = sums[1] - sums[0]
    off = np.concatenate([[abs(apart[0])], np.linalg.norm(apart[1:].reshape(n, d), axis=1)])
    # halving the step squares the error of a geometrically converging sum, up to its size
    size = scales(params, weights)
    return value, grad, off * np.minimum(1.0, np.sqrt(off / size)) + 4e-15 * size


def _log_density(x, params, weights):
    """ln of sum_i pi_i exp(-|x - mu_i|^2/2), for real or complex parameters."""
    logits = np.log(weights) - 0.5 * ((x[:, None] - params) ** 2).sum(axis=2)
    top = logits.real.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def likelihood(params, weights, means, teacher_weights, scale, rtol=1e-11, max_subdivisions=20_000):
    """KL divergence and its (n, d) gradient, every row to `rtol` of its entry in `scale` (loss first, then rows).

    Only -ln p is written down; its derivatives are complex steps of 1e-30, with no use of Stein's identity.
    """
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
    unit = np.where(unit > 0, unit, 1.0)
    step = 1e-30

    def integrand(x):
        log_teacher = _log_density(x, means, teacher_weights)
        density = np.exp(log_teacher) / (2 * np.pi) ** (d / 2)
        parts = [log_teacher - _log_density(x, params, weights)]
        for i in range(n):
            for k in range(d):
                moved = params.astype(complex)
                moved[i, k] += 1j * step
                parts.append(-_log_density(x, moved, weights).imag / step)
        return np.stack(parts, axis=1) * density[:, None] / unit

    everything = np.concatenate([means, params])
    low, high = np.minimum(means.min(axis=0) - HALF_WIDTH, everything.min(axis=0) / 2 - HALF_WIDTH), \
        np.maximum(means.max(axis=0) + HALF_WIDTH, everything.max(axis=0) / 2 + HALF_WIDTH)
    found = cubature(integrand, low, high, rule="gk21", rtol=0, atol=rtol, max_subdivisions=max_subdivisions)
    if found.status != "converged":
        raise RuntimeError("the oracle did not converge")
    result = found.estimate * unit
    return result[0], result[1:].reshape(n, d)
