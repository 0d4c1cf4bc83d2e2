"""Teachers: the distributions that a student learns.

A teacher is anything that can be sampled and knows its score. `Gaussian` and `GaussianMixture` also show their means
and weights, which is what exact rules need.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam._frozen import Frozen
from overparam._softmax import posterior_mean, responsibilities
from overparam._validation import check_array, check_choice, check_count, check_real, check_rng, check_weights

__all__ = ["TEACHERS", "Gaussian", "GaussianMixture", "Teacher", "teacher_from_description"]


class Teacher(ABC):
    r"""Base of all teachers; derive from it for a teacher of your own.

    A subclass defines `dimension`, `sample` and `score`. It may define `at_time`, which objectives at a noise time
    t > 0 need, and `describe`, which saved trajectories carry.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> class Laplace(op.Teacher):
    ...     dimension = 1
    ...     def sample(self, n, rng=None):
    ...         return np.random.default_rng(rng).laplace(size=(n, 1))
    ...     def score(self, x):
    ...         return -np.sign(x)
    >>> Laplace().describe()
    {'kind': 'Laplace'}
    """

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Dimension d of the space the teacher lives in."""

    @abstractmethod
    def sample(self, n: int, rng: Any = None) -> np.ndarray:
        """Return n independent draws, shape (n, d)."""

    @abstractmethod
    def score(self, x: Any) -> np.ndarray:
        r"""Return :math:`s^*(x)=\nabla_x\ln p(x)` at points x of shape (..., d), in the same shape."""

    def at_time(self, t: float) -> Teacher:
        r"""Return the teacher after noise time t of the Ornstein-Uhlenbeck process :math:`dX=-X\,dt+\sqrt2\,dB`.

        Raises
        ------
        ValueError
            If t is not a finite number of at least 0.
        NotImplementedError
            If t > 0 and this teacher does not define `at_time`.
        """
        if check_real(t, "t", minimum=0.0) == 0.0:
            return self
        raise NotImplementedError(f"{type(self).__name__} does not define at_time(t), which a noise time above 0 needs")

    def describe(self) -> dict[str, Any]:
        """Return a JSON-able description; built-in teachers come back from it through `Teacher.from_description`."""
        return {"kind": type(self).__name__}

    @staticmethod
    def from_description(description: Mapping[str, Any]) -> Teacher:
        """Return the teacher whose ``describe()`` returned `description`; see `teacher_from_description`."""
        return teacher_from_description(description)


def check_points(x: Any, dimension: int) -> np.ndarray:
    """Return points x (..., d) as an array; ValueError if the last axis is not d or an entry is not finite."""
    points = check_array(x, "x", ndim=tuple(range(1, 9)), empty=True)
    if points.shape[-1] != dimension:
        hint = " (one-dimensional points need a last axis of length 1: x[..., None])" if dimension == 1 else ""
        raise ValueError(f"x must have shape (..., {dimension}), one point per last axis; got {points.shape}{hint}")
    return points


class _Components(Frozen, Teacher):
    """What Gaussians and their mixtures share: everything follows from `means` (m, d) and `weights` (m,)."""

    means: np.ndarray
    weights: np.ndarray

    def __init__(self, means: np.ndarray, weights: np.ndarray) -> None:
        self.__setstate__({"means": means.copy(), "weights": weights.copy()})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return np.array_equal(self.means, other.means) and np.array_equal(self.weights, other.weights)

    def __hash__(self) -> int:
        return hash((type(self), self.means.tobytes(), self.weights.tobytes()))

    @property
    def dimension(self) -> int:
        """Dimension d of the space."""
        found: int = self.means.shape[1]
        return found

    def sample(self, n: int, rng: Any = None) -> np.ndarray:
        """Return n independent draws.

        Parameters
        ----------
        n : int
            Number of draws, at least 1.
        rng : None, int, SeedSequence, BitGenerator or Generator
            Source of randomness; a Generator is advanced.

        Returns
        -------
        (n, d) array

        Raises
        ------
        ValueError
            If n is not a whole number above 0 or rng is none of the above.
        """
        n = check_count(n, "n")
        rng = check_rng(rng)
        labels = rng.choice(len(self.weights), size=n, p=self.weights) if len(self.weights) > 1 else 0
        draws = rng.standard_normal((n, self.dimension))
        draws += self.means[labels]
        found: np.ndarray = draws
        return found

    def responsibilities(self, x: Any) -> np.ndarray:
        r"""Return the probability that x came from component i.

        .. math:: w_i(x)=\pi_i\phi(x|\mu_i)/\sum_j\pi_j\phi(x|\mu_j)

        Parameters
        ----------
        x : (..., d) or (d,) array

        Returns
        -------
        (..., m) array, summing to 1 over the last axis

        Raises
        ------
        ValueError
            If the last axis of x is not d or an entry is not finite.
        """
        return responsibilities(check_points(x, self.dimension), self.means, self.weights)

    def score(self, x: Any) -> np.ndarray:
        r"""Return the score :math:`s^*(x)=\sum_iw_i(x)\mu_i-x`.

        Parameters
        ----------
        x : (..., d) or (d,) array

        Returns
        -------
        array of the shape of x

        Raises
        ------
        ValueError
            If the last axis of x is not d or an entry is not finite.
        """
        points = check_points(x, self.dimension)
        found: np.ndarray = posterior_mean(points, self.means, self.weights) - points
        return found


class Gaussian(_Components):
    r"""The Gaussian :math:`N(\mu^*, I_d)`, with score :math:`\mu^*-x`; with a covariance :math:`N(\mu^*,\Sigma)`.

    Parameters
    ----------
    mean : (d,) array or float
        :math:`\mu^*`; one number is a teacher in one dimension.
    covariance : (d, d) or (d,) array, optional
        :math:`\Sigma`, symmetric with eigenvalues above 0, or its diagonal; the identity by default. With another one the teacher is a
        :class:`overparam.covariance.CovarianceGaussian`, which score matching takes and other objectives do not.

    Raises
    ------
    ValueError
        If `mean` is not a finite real vector with at least one entry, or `covariance` does not fit it, is asymmetric or singular.

    Notes
    -----
    The teacher of Zhang et al. 2025 (arXiv 2511.22069) with one component.

    Examples
    --------
    >>> import overparam as op
    >>> teacher = op.Gaussian([3.0, 0.0])
    >>> teacher.score([1.0, 1.0]).tolist()
    [2.0, -1.0]
    >>> teacher.at_time(0.0) == teacher
    True
    >>> op.Gaussian([3.0, 0.0], covariance=[4.0, 1.0]).score([1.0, 1.0]).tolist()
    [0.5, -1.0]
    """

    def __new__(cls, mean: Any, covariance: Any = None) -> Any:  # a Gaussian, or a CovarianceGaussian
        if covariance is None:
            return super().__new__(cls)
        from overparam.covariance import CovarianceGaussian

        made = CovarianceGaussian(mean, covariance)
        return Gaussian(made.mean) if made.shape.is_identity else made

    def __init__(self, mean: Any, covariance: Any = None) -> None:
        mean = np.atleast_1d(check_array(mean, "mean", ndim=(0, 1)))
        super().__init__(mean[None, :], np.ones(1))

    def __reduce__(self) -> tuple[type[Gaussian], tuple[np.ndarray]]:
        return type(self), (self.mean,)

    @property
    def mean(self) -> np.ndarray:
        r"""(d,) array :math:`\mu^*`."""
        found: np.ndarray = self.means[0]
        return found

    def at_time(self, t: float) -> Gaussian:
        r"""Return :math:`N(e^{-t}\mu^*, I)`: the Ornstein-Uhlenbeck process keeps the identity covariance.

        Parameters
        ----------
        t : float
            Noise time, finite and at least 0.

        Raises
        ------
        ValueError
            If t is negative or not finite.
        """
        return Gaussian(np.exp(-check_real(t, "t", minimum=0.0)) * self.mean)

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "Gaussian", "mean": [...]}``."""
        return {"kind": "Gaussian", "mean": self.mean.tolist()}

    def __repr__(self) -> str:
        return f"Gaussian(mean={_shown(self.mean)})"


class GaussianMixture(_Components):
    r"""The mixture :math:`\sum_a\pi_aN(\mu^*_a, I_d)`, with score :math:`\sum_aw_a(x)\mu^*_a-x`.

    Parameters
    ----------
    means : (m, d) array
        :math:`\mu^*_a`, one row per component.
    weights : (m,) array, optional
        :math:`\pi_a\ge0`, summing to 1 within 1e-9. None stands for equal weights.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or the weights are negative or do not sum to 1.

    Notes
    -----
    The general teacher of Zhang et al. 2025 (arXiv 2511.22069, section 2) and of Tyurin 2026 (arXiv 2606.19876).

    Examples
    --------
    >>> import overparam as op
    >>> teacher = op.GaussianMixture([[-2.0], [2.0]])
    >>> teacher.responsibilities([0.0]).tolist()
    [0.5, 0.5]
    >>> teacher.sample(4, rng=0).shape
    (4, 1)
    """

    def __init__(self, means: Any, weights: Any = None) -> None:
        means = check_array(means, "means", ndim=(1, 2))
        if means.ndim == 1:
            raise ValueError(
                f"means must have shape (m, d), one row per component; got shape {means.shape}. "
                "Write [[a], [b]] for components in one dimension"
            )
        super().__init__(means, _normalised(weights, len(means)))

    def at_time(self, t: float) -> GaussianMixture:
        r"""Return the mixture of :math:`N(e^{-t}\mu^*_a, I)` with the same weights.

        Parameters
        ----------
        t : float
            Noise time, finite and at least 0.

        Raises
        ------
        ValueError
            If t is negative or not finite.
        """
        return GaussianMixture(np.exp(-check_real(t, "t", minimum=0.0)) * self.means, self.weights)

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "GaussianMixture", "means": [[...], ...], "weights": [...]}``."""
        return {"kind": "GaussianMixture", "means": self.means.tolist(), "weights": self.weights.tolist()}

    def __repr__(self) -> str:
        return f"GaussianMixture(means={_shown(self.means)}, weights={_shown(self.weights)})"


def _normalised(weights: Any, m: int) -> np.ndarray:
    checked = check_weights(weights, m)
    if weights is None:
        return checked
    given = np.asarray(weights, dtype=np.float64)
    # dividing again by a sum that differs from 1 by rounding alone would change a described teacher on its way back
    return given if abs(given.sum() - 1.0) <= m * np.finfo(float).eps else checked


def _shown(array: np.ndarray) -> str:
    return str(array.tolist()) if array.size <= 12 else f"<array of shape {array.shape}>"


#: Teachers that come back from their description, by the "kind" in it: called with the other entries as keywords.
TEACHERS: dict[str, Any] = {"Gaussian": Gaussian, "GaussianMixture": GaussianMixture}


def teacher_from_description(description: Mapping[str, Any]) -> Teacher:
    """Return the teacher that a `describe` described.

    Parameters
    ----------
    description : mapping
        "kind", a name in `TEACHERS`, and the keyword arguments of that teacher.

    Raises
    ------
    ValueError
        If the kind is not known or the other entries do not fit it.

    Examples
    --------
    >>> import overparam as op
    >>> op.Teacher.from_description({"kind": "Gaussian", "mean": [0.0, 1.0]})
    Gaussian(mean=[0.0, 1.0])
    """
    if not isinstance(description, Mapping) or "kind" not in description:
        raise ValueError(f"description must be a mapping with a 'kind'; got {description!r}"[:200])
    arguments = {str(name): value for name, value in description.items() if name != "kind"}
    build = TEACHERS[check_choice(description["kind"], "teacher kind", TEACHERS)]
    build = getattr(build, "described", build)
    try:
        found: Teacher = build(**arguments)
        return found
    except TypeError as error:
        raise ValueError(f"description of a {description['kind']} does not fit: {error}") from None
