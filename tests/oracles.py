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
    return np.concatenate([square[:, None], rows.reshape(len(x), -1)], axis=1)


def score_matching(params, weights, scale, rtol=1e-11):
    """Loss and (n, d) gradient against N(0, I), every row to `rtol` of its entry in `scale` (loss first, then rows)."""
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
    unit = np.where(unit > 0, unit, 1.0)

    def integrand(x):
        density = np.exp(-0.5 * (x**2).sum(axis=1)) / (2 * np.pi) ** (d / 2)
        return stein_integrand(x, params, weights) * density[:, None] / unit

    low = np.minimum(params.min(axis=0), 0) / 2 - HALF_WIDTH
    high = np.maximum(params.max(axis=0), 0) / 2 + HALF_WIDTH
    found = cubature(integrand, low, high, rule="gk21", rtol=0, atol=rtol, max_subdivisions=20_000)
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


def mixture_score_matching(params, weights, means, teacher_weights, scale, rtol=1e-11):
    """Loss and (n, d) gradient against a mixture teacher, every row to `rtol` of its entry in `scale` (loss first, then rows).

    Only the loss is written down, an expectation of |v - v*|^2 under p*; its derivatives are complex steps of 1e-30, exact to
    rounding because the integrand is analytic in the parameters.
    """
    n, d = params.shape
    unit = np.concatenate([[scale[0]], np.repeat(scale[1:], d)])
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
    found = cubature(integrand, low, high, rule="gk21", rtol=0, atol=rtol, max_subdivisions=20_000)
    if found.status != "converged":
        raise RuntimeError("the oracle did not converge")
    result = found.estimate * unit
    return result[0], result[1:].reshape(n, d)
