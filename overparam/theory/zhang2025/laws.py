r"""What the loss of a score-matching run on a single Gaussian does late, equal weights, at flow time :math:`t=\eta\tau`.

Derived from the loss and checked against exact runs; neither law has a fitted constant. The paper states orders of magnitude:
a bound :math:`O(\tau^{-1/2})` where all converge (Theorem 3.2); :math:`O(\tau^{-1})`, but not below
:math:`\tau^{-1-\epsilon}`, where one does (Theorems 3.5 and 3.7).
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["all_converge", "far_parameters", "second_moment", "shrinking_directions"]


def all_converge(times: Any, n: int, k: int = 1) -> np.ndarray:
    r"""Return :math:`L = k n^2/(64 t^2)`.

    When all n parameters are near the target, their second moment :math:`S=\frac1n\sum\mu_i\mu_i^\top` about it obeys
    :math:`S^{-1}(t)=S^{-1}(0)+\frac8n t`, and :math:`L=\mathrm{tr}\,S^2`. In the k directions in which S was not tiny at the start it
    ends as :math:`n/(8t)`, whatever it was.

    Parameters
    ----------
    times : array
        Flow times t > 0.
    n : int
        Number of parameters.
    k : int
        Number of directions: see :func:`shrinking_directions`.

    Returns
    -------
    array
        Losses.

    Examples
    --------
    >>> from overparam.theory.zhang2025 import laws
    >>> float(laws.all_converge(10.0, n=8))
    0.01
    """
    return k * n**2 / (64 * np.asarray(times, dtype=np.float64) ** 2)


def shrinking_directions(deviations: Any, time: float) -> int:
    r"""Return the number of directions that obey the law of :func:`all_converge` at flow time `time`.

    Where the start is forgotten the eigenvalue of S is :math:`n/(8t)`; where S was far smaller than that at the start it has not moved.
    Half of :math:`n/(8t)` parts the two.

    Parameters
    ----------
    deviations : (n, d) array
        Parameters minus the target's mean.
    time : float
        Flow time t > 0.

    Returns
    -------
    int

    Examples
    --------
    >>> from overparam.theory.zhang2025 import laws
    >>> laws.shrinking_directions([[0.05, 1e-7], [-0.05, 0.0]], time=100.0)
    1
    """
    deviations = np.asarray(deviations, dtype=np.float64)
    n = deviations.shape[0]
    sizes = np.linalg.svd(deviations, compute_uv=False) ** 2 / n
    return int(np.count_nonzero(sizes > 0.5 * n / (8 * time)))


def second_moment(deviations: Any, times: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Return :math:`S(t)`, :math:`S^{-1}(t)=S^{-1}(0)+\frac8nt`, as eigenvalues and axes.

    The axes stay; an eigenvalue :math:`\lambda` becomes :math:`\lambda/(1+8\lambda t/n)`. The loss is the sum of their squares.

    Parameters
    ----------
    deviations : (n, d) array
        Parameters minus the target's mean, at time 0: all near the target, their mean far nearer.
    times : (...,) array
        Flow times that have passed.

    Returns
    -------
    eigenvalues : (..., r) array, axes : (d, r) array
        r = min(d, n - 1), widest first; singular values of the deviations, so that small ones are exact as well.

    Examples
    --------
    >>> from overparam.theory.zhang2025 import laws
    >>> values, axes = laws.second_moment([[0.01, 0.0], [-0.01, 0.0]], [0.0, 1e12])
    >>> values.shape, round(float(values[1, 0] * 8e12 / 2), 6)
    ((2, 1), 1.0)
    """
    deviations = np.asarray(deviations, dtype=np.float64)
    n, d = deviations.shape
    _, sizes, axes = np.linalg.svd(deviations - deviations.mean(axis=0), full_matrices=False)
    rank = min(d, n - 1)
    values = sizes[:rank] ** 2 / n
    return values / (1 + 8 / n * values * np.asarray(times, dtype=np.float64)[..., None]), axes[:rank].T


def far_parameters(times: Any, radius: Any, *, leading: bool = False) -> np.ndarray:
    r"""Return :math:`L = \frac{16}{t}\sum_i\frac{1}{r_i^2-16}`, the sum over the m parameters that diverge.

    To leading order in 1/r it is :math:`16m/(t r^2)`. The next order follows too: m parameters at distance r have the loss
    :math:`L\propto r\,e^{-r^2/8}(1+a/r^2+\dots)`, the flow is :math:`m\dot r=-\partial_r L`, and integrated they give
    :math:`L t r^2/(16m) = 1+16/r^2+O(r^{-4})`, whatever a is. Written as :math:`1/(1-16/r^2)` it is 6 % below the truth at
    r = 7.45, where a run to t = 200 ends, 1 % at r = 12 and 0.2 % at r = 17; the leading order alone is 33, 12 and 6 % below.

    Parameters
    ----------
    times : (...,) array
        Flow times t > 0.
    radius : (..., m) array
        Distances of the diverged parameters from the target at those times.
    leading : bool
        Leave the next order out.

    Returns
    -------
    (...,) array
        Losses; NaN where a distance is 4 or less, too near for an expansion in 1/r.

    Examples
    --------
    >>> from overparam.theory.zhang2025 import laws
    >>> round(float(laws.far_parameters(10.0, [6.0, 6.0])), 12), round(float(laws.far_parameters(10.0, [8.0], leading=True)), 12)
    (0.16, 0.025)
    """
    squares = np.asarray(radius, dtype=np.float64) ** 2
    squares = np.where(squares > 16, squares, np.nan)
    found: np.ndarray = 16 / np.asarray(times, dtype=np.float64) * (1 / (squares if leading else squares - 16)).sum(axis=-1)
    return found
