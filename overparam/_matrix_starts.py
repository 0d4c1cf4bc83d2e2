"""Starts of matrix factorization: small Gaussian factors, and balanced ones. Public as functions of `op.init`."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam._validation import check_count, check_positive, check_rng

__all__ = ["balanced_gaussian", "small_gaussian"]


def small_gaussian(depth: int, d: int, scale: float, rng: Any = None, complex: bool = False) -> np.ndarray:
    r"""Return factors :math:`W_j=\epsilon G_j` with independent standard Gaussian entries.

    Entries of complex :math:`G_j` have real and imaginary parts of variance 1/2. The random start of Luo et al. 2025 (arXiv 2511.09925,
    Theorems 1 and 6) [published].

    Parameters
    ----------
    depth : int
        Number of factors N, at least 2.
    d : int
        Rows of a factor.
    scale : float
        :math:`\epsilon>0`.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.
    complex : bool

    Returns
    -------
    (depth, d, d) array, float64 or complex128

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import overparam as op
    >>> op.init.small_gaussian(depth=4, d=3, scale=0.1, rng=0).shape
    (4, 3, 3)
    """
    depth, d = check_count(depth, "depth", minimum=2), check_count(d, "d")
    return check_positive(scale, "scale") * _gaussian(check_rng(rng), (depth, d, d), complex)


def balanced_gaussian(depth: int, d: int, scale: float, rng: Any = None, complex: bool = False) -> np.ndarray:
    r"""Return balanced factors :math:`W_j=s_j\,\epsilon\,Q_{j,j+1}\Sigma_GQ_{j-1,j}^H`, for which every :math:`W_jW_j^H=W_{j+1}^HW_{j+1}`.

    :math:`\Sigma_G` holds the singular values of one Gaussian matrix, :math:`Q_{01},\dots,Q_{N,N+1}` are independent and Haar distributed,
    and the :math:`s_j`, :math:`|s_j|=1`, are uniform: signs, or phases. The balanced start of Luo et al. 2025 (arXiv 2511.09925,
    Theorems 2 to 5) [reconstructed: the formula is forced by the balance and the distributions that the paper names].

    Parameters
    ----------
    depth, d, scale, rng, complex
        As in `small_gaussian`.

    Returns
    -------
    (depth, d, d) array, float64 or complex128

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> W = op.init.balanced_gaussian(depth=4, d=3, scale=0.4, rng=0, complex=True)
    >>> bool(np.abs(W[0] @ W[0].conj().T - W[1].conj().T @ W[1]).max() < 1e-15)
    True
    """
    depth, d = check_count(depth, "depth", minimum=2), check_count(d, "d")
    scale, rng = check_positive(scale, "scale"), check_rng(rng)
    sizes = scale * np.linalg.svd(_gaussian(rng, (d, d), complex), compute_uv=False)
    turns = [_haar(rng, d, complex) for _ in range(depth + 1)]
    phases = np.exp(2j * np.pi * rng.random(depth)) if complex else rng.choice([-1.0, 1.0], depth)
    return np.stack([phases[j] * (turns[j + 1] * sizes) @ turns[j].conj().T for j in range(depth)])


def _gaussian(rng: np.random.Generator, shape: tuple[int, ...], complex: bool) -> np.ndarray:
    if not isinstance(complex, bool | np.bool_):
        raise ValueError(f"complex must be True or False; got {complex!r}"[:300])
    real = rng.standard_normal(shape)
    return (real + 1j * rng.standard_normal(shape)) / np.sqrt(2) if complex else real


def _haar(rng: np.random.Generator, d: int, complex: bool) -> np.ndarray:
    """A Haar distributed orthogonal or unitary matrix: the Q of a Gaussian matrix whose R has a positive diagonal."""
    q, r = np.linalg.qr(_gaussian(rng, (d, d), complex))
    diagonal = np.diagonal(r)
    found: np.ndarray = q * (diagonal / np.abs(diagonal))
    return found
