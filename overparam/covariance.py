r"""The teacher :math:`N(\mu^*,\Sigma)`, its covariance, and the space that a student cannot leave against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from overparam._frozen import Frozen
from overparam._validation import check_array, check_count, check_real, check_rng
from overparam.state import State
from overparam.teachers import Gaussian, Teacher, _shown, check_points

__all__ = ["Covariance", "CovarianceGaussian", "closed_state"]

_ASYMMETRY = 1e-12  # of the largest entry: what a product of rounded matrices leaves of symmetry
_SINGULAR = 8 * np.finfo(np.float64).eps  # times the dimension, of the largest eigenvalue: a smaller one is rounding
_LEAST = 1e-20  # least eigenvalue, and part of the largest one: rounding of scores is 1e-6 for tiny ones, and all beyond
_LEAVES = 64 * np.finfo(np.float64).eps  # of the largest eigenvalue: a direction that moves out of a space by less stays in it


@dataclass(frozen=True, eq=False)
class Covariance:
    r"""A symmetric positive definite matrix :math:`\Sigma`, kept as its diagonal where it has no more.

    Attributes
    ----------
    matrix : (d, d) array, or (d,) array of a diagonal
    """

    matrix: np.ndarray

    @classmethod
    def of(cls, value: Any, d: int, name: str = "covariance") -> Covariance:
        """Check a covariance in d dimensions: (d, d) array, or (d,) array of its diagonal.

        Raises
        ------
        ValueError
            If the shape does not fit, an entry is not finite, the matrix is not symmetric, an eigenvalue is not above 0,
            or eigenvalues or their ratio are outside 1e-20 to 1e20.
        """
        matrix = check_array(value, name, ndim=(0, 1, 2))
        if matrix.ndim == 0 and d == 1:
            matrix = matrix[None]
        if matrix.shape not in ((d,), (d, d)):
            raise ValueError(f"{name} must have shape ({d}, {d}), or ({d},) for a diagonal, with a mean of {d} coordinate(s); got shape "
                             f"{matrix.shape}")
        if matrix.ndim == 2:
            apart = np.abs(matrix - matrix.T)
            if apart.max() > _ASYMMETRY * np.abs(matrix).max():
                i, j = np.unravel_index(int(apart.argmax()), apart.shape)
                raise ValueError(f"{name} must be symmetric; entries ({i}, {j}) and ({j}, {i}) are {matrix[i, j]:.17g} and "
                                 f"{matrix[j, i]:.17g}")
            matrix = (matrix + matrix.T) / 2
            if not np.count_nonzero(matrix - np.diag(np.diag(matrix))):
                matrix = np.diag(matrix)
        smallest, largest = (matrix.min(), matrix.max()) if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)[[0, -1]]
        if not smallest > (0.0 if matrix.ndim == 1 else _SINGULAR * d * largest):
            raise ValueError(f"{name} must have eigenvalues above 0 (a singular one has no density); the smallest is {smallest:.6g}, the "
                             f"largest {largest:.6g}")
        if not (_LEAST <= smallest and largest <= 1 / _LEAST and _LEAST * largest <= smallest):
            raise ValueError(f"{name} must have eigenvalues from {_LEAST:g} to {1 / _LEAST:g}, the largest up to {1 / _LEAST:g} times the "
                             f"smallest (nothing can be bounded in double precision beyond); got {smallest:.6g} to {largest:.6g}")
        matrix = matrix.copy()
        matrix.flags.writeable = False
        return cls(matrix)

    def __setstate__(self, state: dict[str, Any]) -> None:  # unpickled arrays come back writable
        state["matrix"].flags.writeable = False
        vars(self).update(state)

    @property
    def diagonal(self) -> bool:
        """Whether only a diagonal is kept."""
        return self.matrix.ndim == 1

    @cached_property
    def modes(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Eigenvalues (d,), and eigenvectors as columns (None where they are the coordinate axes)."""
        return (self.matrix, None) if self.diagonal else np.linalg.eigh(self.matrix)

    @property
    def is_identity(self) -> bool:
        """Whether it is the identity, exactly."""
        return self.diagonal and bool((self.matrix == 1).all())

    @property
    def condition(self) -> float:
        """Largest over smallest eigenvalue; 1 for a diagonal, whose inverse and root are right to rounding entry by entry."""
        return 1.0 if self.diagonal else float(self.modes[0][-1] / self.modes[0][0])

    def times(self, x: np.ndarray) -> np.ndarray:
        r""":math:`x\Sigma`, over the last axis of x (..., d)."""
        found: np.ndarray = x * self.matrix if self.diagonal else x @ self.matrix
        return found

    def apply(self, function: Any, x: np.ndarray) -> np.ndarray:
        r""":math:`x f(\Sigma)`, over the last axis of x (..., d), for a function f of the eigenvalues."""
        values, axes = self.modes
        found: np.ndarray = x * function(values) if axes is None else ((x @ axes) * function(values)) @ axes.T
        return found

    def inside(self, basis: np.ndarray) -> Covariance:
        """The covariance of the coordinates in a `basis` (d, k) of a space that it maps to itself."""
        if self.diagonal:
            values = self.matrix[np.abs(basis).argmax(axis=0)]
            if ((basis == 0) | (self.matrix[:, None] == values)).all():  # eigenvectors
                return Covariance(values)
        matrix = basis.T @ (self.matrix[:, None] * basis if self.diagonal else self.matrix @ basis)
        return Covariance.of((matrix + matrix.T) / 2, basis.shape[1])

    def noised(self, t: float) -> Covariance:
        r""":math:`e^{-2t}\Sigma+(1-e^{-2t})I`."""
        keep, new = np.exp(-2 * t), -np.expm1(-2 * t)
        return Covariance.of(keep * self.matrix + (new if self.diagonal else new * np.eye(len(self.matrix))), len(self.matrix))


class CovarianceGaussian(Frozen, Teacher):
    r"""The Gaussian :math:`N(\mu^*,\Sigma)`, with score :math:`-\Sigma^{-1}(x-\mu^*)`: what ``op.Gaussian(mean, covariance)`` makes.

    Parameters
    ----------
    mean : (d,) array or float
        :math:`\mu^*`.
    covariance : (d, d) or (d,) array
        :math:`\Sigma`, or its diagonal.

    Raises
    ------
    ValueError
        If `mean` is not a finite real vector, or `covariance` is asymmetric, singular, not finite, of another size, or has eigenvalues,
        or ratios of them, outside 1e-20 to 1e20.

    Notes
    -----
    It has no `means`, so that nothing meant for identity covariances takes it for one of them. A student of finitely many
    identity-covariance Gaussians cannot represent it: the smallest loss is above 0, and means do not all come to :math:`\mu^*` where an
    eigenvalue is above 1.

    Examples
    --------
    >>> import overparam as op
    >>> teacher = op.Gaussian([3.0, 0.0], covariance=[4.0, 1.0])
    >>> teacher.score([1.0, 1.0]).tolist()
    [0.5, -1.0]
    >>> teacher.at_time(0.5).covariance.round(4).tolist()
    [[2.1036, 0.0], [0.0, 1.0]]
    """

    shown_as = "Gaussian"
    #: One component.
    weights = np.ones(1)
    weights.flags.writeable = False
    mean: np.ndarray
    shape: Covariance

    def __init__(self, mean: Any, covariance: Any) -> None:
        mean = np.atleast_1d(check_array(mean, "mean", ndim=(0, 1))).copy()
        shape = covariance if isinstance(covariance, Covariance) else Covariance.of(covariance, len(mean))
        self.__setstate__({"mean": mean, "shape": shape})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return np.array_equal(self.mean, other.mean) and np.array_equal(self.shape.matrix, other.shape.matrix)

    def __hash__(self) -> int:
        return hash((type(self), self.mean.tobytes(), self.shape.matrix.tobytes()))

    @property
    def dimension(self) -> int:
        """Dimension d of the space."""
        return len(self.mean)

    @property
    def covariance(self) -> np.ndarray:
        r"""(d, d) array :math:`\Sigma`."""
        return np.diag(self.shape.matrix) if self.shape.diagonal else self.shape.matrix

    def sample(self, n: int, rng: Any = None) -> np.ndarray:
        """Return n independent draws (n, d); ValueError if n is not a whole number above 0 or rng is no source of randomness."""
        n, rng = check_count(n, "n"), check_rng(rng)
        found: np.ndarray = self.mean + self.shape.apply(np.sqrt, rng.standard_normal((n, self.dimension)))
        return found

    def score(self, x: Any) -> np.ndarray:
        r"""Return :math:`-\Sigma^{-1}(x-\mu^*)` at points x (..., d); ValueError for another last axis or entries that are not finite."""
        points = check_points(x, self.dimension)
        return self.shape.apply(lambda values: -1 / values, points - self.mean)

    def at_time(self, t: float) -> Teacher:
        r"""Return :math:`N(e^{-t}\mu^*,e^{-2t}\Sigma+(1-e^{-2t})I)`; ValueError if t is negative or not finite."""
        t = check_real(t, "t", minimum=0.0)
        shape = self.shape.noised(t)
        return Gaussian(np.exp(-t) * self.mean) if shape.is_identity else CovarianceGaussian(np.exp(-t) * self.mean, shape)

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "Gaussian", "mean": [...], "covariance": [[...], ...]}``, or the diagonal alone."""
        return {"kind": "Gaussian", "mean": self.mean.tolist(), "covariance": self.shape.matrix.tolist()}

    def __repr__(self) -> str:
        return f"Gaussian(mean={_shown(self.mean)}, covariance={_shown(self.shape.matrix)})"


def closed_state(state: State, shape: Covariance) -> State:
    r"""A reduced state in a basis that :math:`\Sigma` maps to itself, or in full coordinates where there is no smaller one.

    The dynamics against :math:`N(\mu^*,\Sigma)` never leave the smallest space that contains the means, seen from :math:`\mu^*`, and is
    closed under :math:`\Sigma` (then it is closed under the inverse, too): its Krylov space. For a diagonal of few values it is small.

    Parameters
    ----------
    state : State
        With its origin at the teacher's mean, reduced to the span of the means.
    shape : Covariance
    """
    if state.basis is None:
        return state
    basis = state.basis
    scale = float(np.abs(shape.modes[0]).max())
    front = basis
    if shape.diagonal:  # the sum of its parts in the eigenspaces: eigenvectors, which round nothing
        parts = _parts(basis, shape.matrix)
        if sum(axes.shape[1] for _, axes in parts) < state.d:
            basis, column = np.zeros((state.d, sum(axes.shape[1] for _, axes in parts))), 0
            for group, axes in parts:
                basis[group, column:column + axes.shape[1]] = axes
                column += axes.shape[1]
            return State(centre=state.expand_gradient(state.centre) @ basis, deviations=state.expand_gradient(state.deviations) @ basis,
                         basis=basis, origin=state.origin)
        return State(centre=state.expand_gradient(state.centre), deviations=state.expand_gradient(state.deviations), origin=state.origin)
    while front.shape[1] and basis.shape[1] < state.d:
        image = shape.times(front.T).T / scale
        for _ in range(2):  # once more for what rounding left of the first
            image = image - basis @ (basis.T @ image)
        axes, sizes, _ = np.linalg.svd(image, full_matrices=False)
        front = np.ascontiguousarray(axes[:, sizes > _LEAVES * np.sqrt(state.d)])
        front = front[:, :state.d - basis.shape[1]]
        basis = np.concatenate([basis, front], axis=1)
    if basis.shape[1] >= state.d:
        return State(centre=state.expand_gradient(state.centre), deviations=state.expand_gradient(state.deviations), origin=state.origin)
    more = basis.shape[1] - state.k
    if not more:
        return state
    return State(centre=np.append(state.centre, np.zeros(more)), deviations=np.pad(state.deviations, ((0, 0), (0, more))),
                 basis=np.ascontiguousarray(basis), origin=state.origin)


def _parts(basis: np.ndarray, values: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each eigenspace of a diagonal the coordinates in it, and orthonormal axes in these of what `basis` (d, k) has there."""
    found, (_, place) = [], np.unique(values, return_inverse=True)
    order, least = np.argsort(place, kind="stable"), _LEAVES * np.sqrt(len(values))
    for group in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        if len(group) == 1:
            axes = np.ones((1, int(np.linalg.norm(basis[group]) > least)))
        else:
            axes, sizes, _ = np.linalg.svd(basis[group], full_matrices=False)
            axes = axes[:, sizes > least]
        if axes.shape[1]:
            found.append((group, axes))
    return found
