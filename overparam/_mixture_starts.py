"""Starts of mixtures that learn mixtures: from the teacher, on a sphere, and in the bad region. Public as functions of `op.init`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from overparam._validation import check_count, check_real, check_rng
from overparam.teachers import Teacher

__all__ = ["bad_region", "from_teacher", "on_sphere"]


def from_teacher(teacher: Teacher, n: int, rng: Any = None) -> np.ndarray:
    r"""Return :math:`\mu_i\sim p^*`: independent draws from the teacher, a data set's own points among them.

    The start of Zhou et al. 2025 (arXiv 2506.06584) for gradient EM on a mixture [published], with weights :math:`\pi_i=1/n`; their
    theorem asks for :math:`n=\Omega(m\log m)`, so that every component is met.

    Parameters
    ----------
    teacher : Teacher
        Anything that can be sampled: Gaussian, GaussianMixture, DataSet, a teacher of your own.
    n : int
        Number of parameter vectors, at least 1.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If `teacher` is not a Teacher or another argument is out of range.

    Examples
    --------
    >>> import overparam as op
    >>> params = op.init.from_teacher(op.GaussianMixture([[-20.0, 0.0], [20.0, 0.0]]), n=8, rng=0)
    >>> params.shape, bool((abs(abs(params[:, 0]) - 20) < 5).all())
    ((8, 2), True)
    """
    if not isinstance(teacher, Teacher):
        raise ValueError(f"teacher must be an overparam.Teacher such as op.GaussianMixture(means); got {teacher!r}"[:300])
    return np.array(teacher.sample(check_count(n, "n"), check_rng(rng)), dtype=np.float64)


def on_sphere(n: int, radius: float, dimension: int, rng: Any = None) -> np.ndarray:
    r"""Return :math:`\mu_i=R_0\,\eta_i/\|\eta_i\|` with :math:`\eta_i\sim N(0,I_d)`: random directions on a sphere around the origin.

    The start of Tyurin 2026 (arXiv 2606.19876) for the reverse Fisher divergence [published].

    Parameters
    ----------
    n : int
        Number of parameter vectors, at least 1.
    radius : float
        :math:`R_0\ge0`.
    dimension : int
        The space's, d. In one dimension the sphere is the pair of points :math:`\pm R_0`.
    rng : None, int, SeedSequence, BitGenerator or Generator
        Source of randomness.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If an argument is out of range or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> params = op.init.on_sphere(n=4, radius=30.0, dimension=3, rng=0)
    >>> np.linalg.norm(params, axis=1).round(12).tolist()
    [30.0, 30.0, 30.0, 30.0]
    """
    n, d = check_count(n, "n"), check_count(dimension, "dimension")
    radius = check_real(radius, "radius", minimum=0.0)
    return radius * directions(n, d, check_rng(rng))


def directions(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """n random unit vectors (n, d)."""
    drawn = rng.standard_normal((n, d))
    found: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return found


def bad_region(n: int, dimension: int) -> np.ndarray:
    r"""Return :math:`\mu_1=12\sqrt d\,e_1`, :math:`\mu_2=-12\sqrt d\,e_1`, all others 0: where gradient EM stays for long.

    The start of the lower bound of Xu et al. 2024 (arXiv 2407.00490) for equal weights and the teacher :math:`N(0,I_d)`, :math:`n\ge3`:
    some :math:`\|\mu_i\|\ge10\sqrt d` for all steps up to :math:`\frac1{30\eta}e^d` [existence: published; constants: recalled]. The
    true escape time is far longer: at least about :math:`e^{12.5d}/\eta`, and of the order :math:`e^{18d}/\eta`, :math:`18=12^2/8`
    [derived; measured by the experiment ``xu2024.bad_region``].

    Parameters
    ----------
    n : int
        Number of parameter vectors, at least 3.
    dimension : int
        The space's, d.

    Returns
    -------
    (n, d) array

    Raises
    ------
    ValueError
        If n is below 3 or the dimension below 1.

    Examples
    --------
    >>> import overparam as op
    >>> op.init.bad_region(n=3, dimension=4).tolist()
    [[24.0, 0.0, 0.0, 0.0], [-24.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    n, d = check_count(n, "n", minimum=3), check_count(dimension, "dimension")
    params = np.zeros((n, d))
    params[0, 0], params[1, 0] = 12 * math.sqrt(d), -12 * math.sqrt(d)
    return params
