r"""Diagnostics of matrix factorization: functions of the factors, for a point, a run's records, or ``observe=``.

With the singular value decomposition :math:`W=W_N\cdots W_1=U\Sigma_w^NV^H` of the product, N factors that are balanced are
:math:`W_j=Q_{j+1}\Sigma_wQ_j^H` with :math:`Q_1=V,\ Q_{N+1}=U`. Then

* :math:`(U-V)\Sigma_w`, the *skew part*, vanishes where the product is Hermitian and positive;
* :math:`(U+V)\Sigma_w`, the *Hermitian part*, is singular where the real product has a negative determinant;
* both can be had without a decomposition, in the *layer form* :math:`W_1\mp W_2^{-1}W_3^HW_4^H=Q_2\Sigma_w(V\mp U)^H` (four layers).

All functions take factors of shape (N, d, d), real or complex, ``params[0]`` being :math:`W_1`, or several of them, (..., N, d, d)::

    import overparam as op
    watched = {"skew": op.factors.skew_error, "sizes": op.factors.product_singular_values}
    op.gradient_descent(obj, start, step_size=0.03, steps=20_000, observe=watched)

What comes from the decomposition of the product has the product's own rounding: singular values of W below :math:`\epsilon\|W\|`, and so
entries of :math:`\Sigma_w` below :math:`(\epsilon\|W\|)^{1/N}`, come with vectors that are noise. The layer form has it of one factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam._validation import check_array

__all__ = ["balance_errors", "determinant_sign", "factor_extremes", "factor_singular_values", "hermitian_values", "layer_hermitian",
           "layer_skew", "polar_values", "product", "product_singular_values", "skew_error", "skew_values"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


def product(params: Any) -> np.ndarray:
    r"""Return the product :math:`W=W_N\cdots W_1`.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., d, d) array

    Raises
    ------
    ValueError
        If the shape is another, an entry is not finite, or the product overflows. So do all functions of this module.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> op.factors.product([[[0.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]]]).tolist()
    [[0.0, 2.0], [0.0, 0.0]]
    """
    factors = _checked(params)
    found = factors[..., 0, :, :]
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(1, factors.shape[-3]):
            found = factors[..., j, :, :] @ found
    return _finite(found, "products")


def balance_errors(params: Any) -> np.ndarray:
    r"""Return :math:`\|\Delta_{j,j+1}\|_F,\ \Delta_{j,j+1}=W_jW_j^H-W_{j+1}^HW_{j+1}`.

    Conserved by gradient flow without the balancing term.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., N - 1) array

    Examples
    --------
    >>> import overparam as op
    >>> op.factors.balance_errors([[[3.0]], [[1.0]], [[2.0]]]).tolist()
    [8.0, 3.0]
    """
    factors = _checked(params)
    before, after = factors[..., :-1, :, :], factors[..., 1:, :, :]
    with np.errstate(over="ignore", invalid="ignore"):
        found: np.ndarray = np.linalg.norm(before @ _adjoint(before) - _adjoint(after) @ after, axis=(-2, -1))
    return _finite(found, "squares")


def factor_singular_values(params: Any) -> np.ndarray:
    """Return the singular values of each factor, the largest first.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., N, d) array

    Examples
    --------
    >>> import overparam as op
    >>> op.factors.factor_singular_values([[[0.0, 2.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]]).round(12).tolist()
    [[2.0, 1.0], [3.0, 1.0]]
    """
    return _singular_values(_checked(params))


def factor_extremes(params: Any) -> np.ndarray:
    r"""Return the extreme singular values over all factors: :math:`\min_{j}\sigma_{\min}(W_j),\ \max_{j}\sigma_{\max}(W_j)`.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., 2) array

    Examples
    --------
    >>> import overparam as op
    >>> op.factors.factor_extremes([[[0.0, 2.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]]).round(12).tolist()
    [1.0, 3.0]
    """
    values = factor_singular_values(params)
    return np.stack([values.min(axis=(-2, -1)), values.max(axis=(-2, -1))], axis=-1)


def product_singular_values(params: Any) -> np.ndarray:
    """Return the singular values of the product, the largest first.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., d) array

    Examples
    --------
    >>> import overparam as op
    >>> op.factors.product_singular_values([[[0.0, 2.0], [-1.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]]).round(12).tolist()
    [3.0, 2.0]
    """
    return _singular_values(product(params))


def determinant_sign(params: Any) -> Any:
    r"""Return the sign of :math:`\det W`, or its phase :math:`\det W/|\det W|` for complex factors; 0 where a factor is singular.

    From the factors' own determinants: right where that of the product is below its rounding.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    float, complex, or (...) array

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> float(op.factors.determinant_sign(np.stack([np.diag([1e-90, -1.0]), np.eye(2), np.diag([1e-90, 1.0])])))
    -1.0
    """
    return np.linalg.slogdet(_checked(params))[0].prod(axis=-1)


def skew_values(params: Any) -> np.ndarray:
    r"""Return the singular values of the skew part :math:`(U-V)\Sigma_w`, the largest first.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., d) array

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> op.factors.skew_values(np.stack([np.diag([1.0, -1.0]), np.diag([4.0, 9.0])])).round(12).tolist()     # U - V = diag(0, 2)
    [6.0, 0.0]
    """
    left, sizes, right = frames(params)
    return _singular_values((left - right) * sizes[..., None, :])


def skew_error(params: Any, target: Any = None) -> Any:
    r"""Return the skew error :math:`\|(U-V)\Sigma_w\|_F`, or :math:`\|\Sigma^{1/2}(U-V)\Sigma_w\|_F` for a positive semidefinite target.

    Its square does not rise along gradient flow from a balanced start (Theorem 4).

    Parameters
    ----------
    params : (..., N, d, d) array
    target : (d, d) array, optional
        :math:`\Sigma`, Hermitian without a negative eigenvalue. None is the identity.

    Returns
    -------
    float or (...) array

    Raises
    ------
    ValueError
        Also if the target is not positive semidefinite.

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925), Theorem 4 [published].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> W = np.stack([np.diag([1.0, -1.0]), np.diag([4.0, 9.0])])
    >>> round(float(op.factors.skew_error(W)), 12), round(float(op.factors.skew_error(W, target=np.diag([1.0, 4.0]))), 12)
    (6.0, 12.0)
    """
    left, sizes, right = frames(params)
    skew = (left - right) * sizes[..., None, :]
    if target is not None:
        target = check_array(target, "target", ndim=2, complex=True)
        vectors: Any
        values, vectors = np.linalg.eigh((target + target.conj().T) / 2) if target.shape[0] == target.shape[1] else (np.array([-1.0]), None)
        if target.shape != skew.shape[-2:] or np.abs(target - target.conj().T).max() > 1e-12 * np.abs(target).max() or values[0] < \
                -1e-12 * abs(values[-1]):
            raise ValueError(f"target must be a Hermitian {skew.shape[-2:]} matrix without a negative eigenvalue")
        skew = np.sqrt(np.maximum(values, 0.0))[:, None] * (vectors.conj().T @ skew)
    return np.linalg.norm(skew, axis=(-2, -1))


def hermitian_values(params: Any) -> np.ndarray:
    r"""Return the singular values :math:`\sigma_k((U+V)\Sigma_w)` of the Hermitian part, the largest first.

    Of real factors whose product has a negative determinant the last is 0. Under balanced flow to a multiple of the identity they rise
    until :math:`\|W\|` reaches it (Theorem 5).

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., d) array

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925), Theorems 3 and 5 [published].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> op.factors.hermitian_values(np.stack([np.diag([1.0, -1.0]), np.diag([4.0, 9.0])])).round(12).tolist()
    [4.0, 0.0]
    """
    left, sizes, right = frames(params)
    return _singular_values((left + right) * sizes[..., None, :])


def polar_values(params: Any) -> np.ndarray:
    r"""Return the singular values of :math:`W+(WW^H)^{1/2}=U\Sigma_w^N(U+V)^H`, the largest first.

    The Hermitian part to which the balancing term leads unbalanced factors (Theorem 6): its last value is 0 for real factors of negative
    determinant.

    Parameters
    ----------
    params : (..., N, d, d) array

    Returns
    -------
    (..., d) array

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925), Theorem 6 [published].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> op.factors.polar_values(np.stack([np.diag([1.0, -1.0]), np.diag([4.0, 9.0])])).round(12).tolist()
    [8.0, 0.0]
    """
    left, sizes, right = frames(params)
    power = _checked(params).shape[-3]
    return _singular_values((left + right) * sizes[..., None, :] ** power)


def layer_skew(params: Any) -> np.ndarray:
    r"""Return the matrix :math:`W_1-W_2^{-1}W_3^HW_4^H`, whose singular values are those of the skew part where the factors are balanced.

    For any even N = 2m it is :math:`W_1-(W_m\cdots W_2)^{-1}(W_N\cdots W_{m+1})^H`.

    Parameters
    ----------
    params : (..., N, d, d) array, N even

    Returns
    -------
    (..., d, d) array

    Raises
    ------
    ValueError
        Also for an odd number of factors, or a singular one among :math:`W_2,\dots,W_m`.

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925), Theorem 11 [published]; other even N [derived].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> W = op.init.balanced_gaussian(depth=4, d=3, scale=0.4, rng=0)
    >>> bool(abs(np.linalg.norm(op.factors.layer_skew(W)) - op.factors.skew_error(W)) < 1e-12)
    True
    """
    first, other = _layers(params)
    found: np.ndarray = first - other
    return found


def layer_hermitian(params: Any) -> np.ndarray:
    r"""Return the matrix :math:`W_1+W_2^{-1}W_3^HW_4^H`, whose singular values are those of the Hermitian part for balanced factors.

    Parameters
    ----------
    params : (..., N, d, d) array, N even

    Returns
    -------
    (..., d, d) array

    Raises
    ------
    ValueError
        As :func:`layer_skew`.

    References
    ----------
    Luo et al. 2025 (arXiv 2511.09925), Theorem 11 [published].

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> W = op.init.balanced_gaussian(depth=4, d=3, scale=0.4, rng=0)
    >>> bool(np.allclose(np.linalg.svd(op.factors.layer_hermitian(W))[1], op.factors.hermitian_values(W)))
    True
    """
    first, other = _layers(params)
    found: np.ndarray = first + other
    return found


def frames(params: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""U (..., d, d), the diagonal of :math:`\Sigma_w` (..., d), and V (..., d, d) of :math:`W=U\Sigma_w^NV^H`."""
    factors = _checked(params)
    try:
        left, sizes, right = np.linalg.svd(product(factors))
    except np.linalg.LinAlgError:
        raise ValueError(_OUT_OF_RANGE.format("singular values")) from None
    return left, sizes ** (1 / factors.shape[-3]), _adjoint(right)


def _layers(params: Any) -> tuple[np.ndarray, np.ndarray]:
    factors = _checked(params)
    depth = factors.shape[-3]
    if depth % 2:
        raise ValueError(f"params must hold an even number of factors for the layer form; got {depth}")
    half = depth // 2
    other = _adjoint(product(factors[..., half:, :, :])) if half > 1 else _adjoint(factors[..., 1, :, :])
    try:
        for j in range(half - 1, 0, -1):  # one factor after the other, each with its own condition
            other = np.linalg.solve(factors[..., j, :, :], other)
    except np.linalg.LinAlgError:
        raise ValueError(f"params must have invertible factors W_2 to W_{half} for the layer form") from None
    return factors[..., 0, :, :], other


_OUT_OF_RANGE = "params are too large or too small: their {} leave float64's range"


def _finite(found: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(found).all():
        raise ValueError(_OUT_OF_RANGE.format(what))
    return found


def _singular_values(matrices: np.ndarray) -> np.ndarray:
    if np.isfinite(matrices).all():
        try:
            return _finite(np.linalg.svd(matrices, compute_uv=False), "singular values")
        except np.linalg.LinAlgError:
            pass
    raise ValueError(_OUT_OF_RANGE.format("singular values"))


def _adjoint(matrices: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrices.conj(), -1, -2)


def _checked(params: Any) -> np.ndarray:
    try:
        factors = np.asarray(params)
    except ValueError as error:
        raise ValueError(f"params is not a rectangular array of numbers: {error}") from None
    if factors.dtype.kind not in "biufc":
        raise ValueError(f"params must be an array of real or complex numbers; got {type(params).__name__}")
    factors = factors.astype(np.complex128 if factors.dtype.kind == "c" else np.float64, copy=False)
    if factors.ndim < 3 or factors.shape[-1] != factors.shape[-2] or factors.shape[-3] < 2:
        raise ValueError(f"params must have shape (..., N, d, d), at least two square factors; got {factors.shape}")
    if not np.isfinite(factors).all():
        raise ValueError("params must hold finite numbers")
    return factors
