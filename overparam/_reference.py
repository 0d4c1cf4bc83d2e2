"""NumPy twins of the compiled kernels: the same formulas by broadcasting, without cleverness.

Tests compare the kernels with them and benchmarks use them as the baseline. Everything is in absolute float64
coordinates unless it says otherwise, so nothing here is fit for deviations far below 1e-8.

Shapes: ``nodes`` (N, k), ``weights`` (N,), ``target`` (N, k) or (k,), ``params`` (n, k), ``log_weights`` (n,).
"""

from __future__ import annotations

import numpy as np


def softmax_weights(x: np.ndarray, params: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Responsibilities w_i(x) of unit-covariance Gaussians, shape (N, n).

    ``w_i = pi_i exp(x.mu_i - |mu_i|^2/2) / sum_j (same)``.
    """
    logits = x @ params.T - 0.5 * np.sum(params**2, axis=1) + log_weights
    unnormalised = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = unnormalised / unnormalised.sum(axis=1, keepdims=True)
    return found


def score_matching(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray,
                   params: np.ndarray, log_weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient of ``L = sum_b q_b |v(x_b) - t_b|^2``, ``v = sum_i w_i mu_i``.

    ``g_i = 2 sum_b q w_i [D + ((mu_i - v).D)(x - mu_i)]`` with ``D = v - t``.
    """
    w = softmax_weights(nodes, params, log_weights)
    v = w @ params
    D = v - target
    a = w * np.sum((params - v[:, None, :]) * D[:, None, :], axis=2)
    terms = w[:, :, None] * D[:, None, :] + a[:, :, None] * (nodes[:, None, :] - params)
    return weights @ np.sum(D**2, axis=1), 2.0 * np.einsum("b,bik->ik", weights, terms)


def score_matching_stein(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray,
                         params: np.ndarray, log_weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient in the Stein form of arXiv 2511.22069, Lemma 2.2; constant target only.

    With ``mu`` shifted by the target, ``v = sum w_j mu_j`` and ``M = sum w_j mu_j mu_j'``:
    ``g_i = 2 sum_b q [w_i v + w_i M mu_i - 2 w_i v v'mu_i - 2 w_i M v + 3 w_i |v|^2 v]``.
    It equals the pathwise gradient in expectation over x ~ N(target, I), not node by node.
    """
    w = softmax_weights(nodes - target, params - target, log_weights)
    mu = params - target
    v = w @ mu
    M = np.einsum("bi,ik,il->bkl", w, mu, mu)
    square = np.sum(v**2, axis=1)
    common = v - 2.0 * np.einsum("bkl,bl->bk", M, v) + 3.0 * square[:, None] * v
    own = np.einsum("bkl,il->bik", M, mu) - 2.0 * v[:, None, :] * (v @ mu.T)[:, :, None]
    terms = w[:, :, None] * (common[:, None, :] + own)
    return weights @ square, 2.0 * np.einsum("b,bik->ik", weights, terms)


def deviation_rows(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray, centre: np.ndarray,
                   deviations: np.ndarray, log_weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, mean row (k,) and rows minus mean (n, k) of the gradient at ``centre + deviations``."""
    value, grad = score_matching(nodes, weights, target, centre + deviations, log_weights)
    mean = grad.mean(axis=0)
    return value, mean, grad - mean


def majorants(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray,
              params: np.ndarray, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """``(A, B, C, U2)``: the sums that the error bounds multiply with strip factors.

    With ``U = sum_l w_l |mu_l - t|``, ``V_i = sum_j w_j |mu_i - mu_j|`` (above 64 parameters the larger
    ``sqrt(sum_j w_j |mu_i - mu_j|^2)``) and sums over ``|q|``: ``A_i = 2 sum w_i U``,
    ``B_i = 2 sum w_i V_i U |x - mu_i|``, ``C_i = 2 sum w_i V_i U``, ``U2 = sum U^2``.
    """
    w = softmax_weights(nodes, params, log_weights)
    q = np.abs(weights)
    to_target = np.linalg.norm(params - np.reshape(target, (-1, 1, params.shape[1])), axis=2)
    U = np.sum(w * to_target, axis=1)
    pairs = np.linalg.norm(params[:, None, :] - params, axis=2)
    V = w @ pairs if len(params) <= 64 else np.sqrt(w @ pairs**2)
    reach = np.linalg.norm(nodes[:, None, :] - params, axis=2)
    A = 2.0 * (q * U) @ w
    B = 2.0 * (q * U) @ (w * V * reach)
    C = 2.0 * (q * U) @ (w * V)
    return A, B, C, q @ U**2


def descent(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray, params: np.ndarray,
            log_weights: np.ndarray, step_size: float, steps: int) -> np.ndarray:
    """Parameters after ``steps`` steps ``mu -= step_size * gradient``."""
    params = np.array(params, dtype=float)
    for _ in range(steps):
        params -= step_size * score_matching(nodes, weights, target, params, log_weights)[1]
    return params


def score_matching_hessian(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray,
                           params: np.ndarray, log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hessian (n, k, n, k) of ``L = sum_b q_b |v(x_b) - t_b|^2``, and the sums (n, n) for directions off the axes.

    ``H_ij = 2 sum_b q [J_i'J_j + S_ij]`` with ``D = v - t``, ``e_i = x - mu_i``, ``m_i = mu_i - v``,
    ``J_i = dv/dmu_i = w_i (I + m_i e_i')`` and the second derivatives contracted with D,
    ``S_ij = w_i (delta_ij - w_j)(D + (D.m_i) e_i) e_j' + w_i e_i (delta_ij D - w_j D - w_j (D.m_j) e_j)' - delta_ij w_i (D.m_i) I``.
    Of these, ``square_ij`` (n, n) multiplies ``e_i e_j'`` and ``unit_ij`` (n, n) multiplies I.
    """
    n, k = params.shape
    w = softmax_weights(nodes, params, log_weights)
    v = w @ params
    D = v - target
    e, m = nodes[:, None, :] - params, params - v[:, None, :]
    mD = np.einsum("bia,ba->bi", m, D)
    one, unit = np.eye(n), np.eye(k)
    J = np.einsum("bi,ac->biac", w, unit) + np.einsum("bi,bia,bic->biac", w, m, e)  # J[b, i, a, c] = dv_a / dmu_ic
    S = np.einsum("bi,bij,bia,bjc->biajc", w, one - w[:, None, :], D[:, None, :] + mD[:, :, None] * e, e)
    S += np.einsum("bi,bia,ij,bc->biajc", w, e, one, D)
    S -= np.einsum("bi,bia,bj,bjc->biajc", w, e, w, D[:, None, :] + mD[:, :, None] * e)
    S -= np.einsum("ij,bi,ac->biajc", one, w * mD, unit)
    hessian = 2.0 * np.einsum("b,biajc->iajc", weights, np.einsum("bisa,bjsc->biajc", J, J) + S)
    pair = np.einsum("bi,bj->bij", w, w)
    square = pair * (np.einsum("bia,bja->bij", m, m) - mD[:, :, None] - mD[:, None, :]) + np.einsum("ij,bi->bij", one, w * mD)
    flat = pair - np.einsum("ij,bi->bij", one, w * mD)
    return hessian, 2.0 * np.einsum("b,bij->ij", weights, square), 2.0 * np.einsum("b,bij->ij", weights, flat)


def log_density(x: np.ndarray, params: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """``ln sum_i pi_i exp(-|x - mu_i|^2/2)``, shape (N,)."""
    logits = log_weights - 0.5 * np.sum((x[:, None, :] - params) ** 2, axis=2)
    top = logits.max(axis=1)
    found: np.ndarray = top + np.log(np.sum(np.exp(logits - top[:, None]), axis=1))
    return found


def likelihood(nodes: np.ndarray, weights: np.ndarray, target: np.ndarray, log_teacher: np.ndarray,
               params: np.ndarray, log_weights: np.ndarray, near: bool = False) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and shares of the Kullback-Leibler divergence, ``L = -sum_b q_b r_b`` with ``r = ln p - ln p*``.

    ``log_teacher`` (N,) is ``ln p*`` without its constant, like :func:`log_density`. Where ``near`` the value is
    ``sum_b q_b (e^r - 1 - r)``, the same in expectation. ``g_i = sum_b q w_i (v - t)``, and the shares are ``sum_b q w_i``.
    """
    w = softmax_weights(nodes, params, log_weights)
    r = log_density(nodes, params, log_weights) - log_teacher
    terms = np.expm1(r) - r if near else -r
    return weights @ terms, np.einsum("b,bi,bk->ik", weights, w, w @ params - target), weights @ w


def likelihood_hessian(nodes: np.ndarray, weights: np.ndarray, params: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Hessian (n, k, n, k) of ``-sum_b q_b ln p(x_b)``.

    ``H_ij = sum_b q [w_i w_j e_i e_j' + delta_ij w_i (I - e_i e_i')]`` with ``e_i = x - mu_i``.
    """
    n, k = params.shape
    w = softmax_weights(nodes, params, log_weights)
    e = nodes[:, None, :] - params
    one = np.eye(n)
    pair = np.einsum("bi,bj->bij", w, w) - np.einsum("bi,ij->bij", w, one)
    found: np.ndarray = np.einsum("b,bij,bia,bjc->iajc", weights, pair, e, e) + np.einsum("b,bi,ij,ac->iajc", weights, w, one, np.eye(k))
    return found


def reverse_fisher(nodes: np.ndarray, weights: np.ndarray, params: np.ndarray, log_weights: np.ndarray,
                   means: np.ndarray, log_teacher: np.ndarray) -> tuple[float, np.ndarray]:
    """Value and gradient of the reverse Fisher divergence, nodes ``mu_i + z`` for the standard normal nodes z (N, k).

    ``F = sum_i pi_i sum_b q |v - t|^2`` and ``g_i = 2 pi_i sum_b q [D - C* D + (C - C*)(mu_i - v)]`` with ``D = v - t`` and the posterior
    covariances C of the student, C* of the teacher of `means` (m, k), all at ``mu_i + z_b``.
    """
    pi = np.exp(log_weights - log_weights.max())
    pi /= pi.sum()
    value, rows = 0.0, np.empty(params.shape)
    for i, mean in enumerate(params):
        x = mean + nodes
        w, teacher = softmax_weights(x, params, log_weights), softmax_weights(x, means, log_teacher)
        v, t = w @ params, teacher @ means
        off, off_teacher = params - v[:, None, :], means - t[:, None, :]
        C = np.einsum("bj,bja,bjc->bac", w, off, off)
        C_teacher = np.einsum("bj,bja,bjc->bac", teacher, off_teacher, off_teacher)
        D = v - t
        value += pi[i] * (weights @ np.sum(D * D, axis=1))
        term = D - np.einsum("bac,bc->ba", C_teacher, D) + np.einsum("bac,bc->ba", C - C_teacher, mean - v)
        rows[i] = 2.0 * pi[i] * (weights @ term)
    return value, rows
