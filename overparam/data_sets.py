"""Data sets as teachers: nodes of given weight, and their noised versions for denoising score matching."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from overparam._frozen import Frozen
from overparam._softmax import softmax
from overparam._validation import check_array, check_count, check_real, check_rng, check_weights
from overparam.teachers import TEACHERS, Teacher, check_points

__all__ = ["DataSet"]

_ENTRIES = 5_000_000  # logits formed at once by the score of a noised data set


class DataSet(Frozen, Teacher):
    r"""The empirical distribution :math:`\sum_kq_k\delta_{x_k}` of a data set.

    It gives sample versions of what the other teachers give in population. Expectations are finite sums, so there is no rule to choose
    and the only error is rounding; there is no reduced space either.

    * ``KLDivergence(DataSet(x))``: the negative mean log-likelihood of the data, for gradient descent and ``op.em``.
    * ``ScoreMatching(DataSet(x), t=t)``, t > 0: denoising score matching. At t = 0 points have no score, and it is refused.

    Parameters
    ----------
    x : (N, d) array
        One point per row.
    weights : (N,) array, optional
        :math:`q_k\ge0`, summing to 1 within 1e-9; equal by default.

    Attributes
    ----------
    x, weights : (N, d) and (N,) arrays
        As given.
    t : float
        Noise time; 0 for the data themselves.
    nodes, node_weights : (M, d) and (M,) arrays
        What expectations sum over: the data themselves, or M = N times `draws` noised points.
    targets : (M, d) array or None
        At t > 0 node plus conditional score, what denoising score matching compares the student's posterior mean with.

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is not finite, or the weights are negative or do not sum to 1.

    Notes
    -----
    A saved trajectory describes a data set by shape and hash and does not hold it: give the objective again, made from the same data,
    as ``objective=`` when loading.

    Examples
    --------
    >>> import overparam as op
    >>> data = op.DataSet(op.GaussianMixture([[-2.0], [2.0]]).sample(100, rng=0))
    >>> data.x.shape, data.at_time(0.5, draws=4).nodes.shape
    ((100, 1), (400, 1))
    """

    x: np.ndarray
    weights: np.ndarray
    t: float
    draws: int
    nodes: np.ndarray
    node_weights: np.ndarray
    targets: np.ndarray | None

    def __init__(self, x: Any, weights: Any = None) -> None:
        x = check_array(x, "x", ndim=(1, 2))
        if x.ndim == 1:
            raise ValueError(f"x must have shape (N, d), one point per row; got shape {x.shape}. Write x[:, None] for points in one "
                             "dimension")
        weights = check_weights(weights, len(x))
        self._put(x=x.copy(), weights=weights.copy(), t=0.0, draws=1, nodes=None, node_weights=None, targets=None)

    def _put(self, **fields: Any) -> None:
        if fields["nodes"] is None:
            fields.update(nodes=fields["x"], node_weights=fields["weights"])
        self.__setstate__(fields)

    def __eq__(self, other: object) -> bool:
        return self.describe() == other.describe() if isinstance(other, DataSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._digest())

    @property
    def dimension(self) -> int:
        """Dimension d of the space."""
        found: int = self.x.shape[1]
        return found

    def at_time(self, t: float, draws: int = 16, rng: Any = 0) -> DataSet:
        r"""Return the data after noise time t more of the Ornstein-Uhlenbeck process, as fixed pairs of nodes and targets.

        Every point has `draws` nodes :math:`x_t=e^{-t}x_k+\sigma z`, :math:`\sigma^2=1-e^{-2t}`, :math:`z\sim N(0,I)`, and each node the
        target :math:`x_t+\nabla_{x_t}\ln p(x_t|x_k)=x_t-z/\sigma`. Score matching then is denoising score matching,

        .. math:: \mathbb E_{x,z}\|s_\mu(x_t)+z/\sigma\|^2=\mathbb E\|s_\mu(x_t)-s_t(x_t)\|^2+C,

        :math:`s_t` the score of the noised data: in expectation over the noise it is explicit score matching plus a constant that does
        not depend on the parameters, so that the gradients agree. The constant is large where t is small
        (:math:`C\le d/\sigma^2`), and then so is the variance: it asks for more draws.

        Parameters
        ----------
        t : float
            Noise time, finite and at least 0; 0 returns this data set.
        draws : int
            Draws of the noise per point, at least 1. They are fixed here, so that the loss is a function of the parameters.
        rng : int, SeedSequence, BitGenerator or Generator
            Source of the noise; a seed by default, so that the same call makes the same objective. None stands for fresh noise.

        Raises
        ------
        ValueError
            If an argument is out of range.

        References
        ----------
        Vincent 2011, A connection between score matching and denoising autoencoders [published].

        Examples
        --------
        >>> import numpy as np
        >>> import overparam as op
        >>> noised = op.DataSet([[3.0]]).at_time(0.5, draws=2)
        >>> sigma = np.sqrt(1 - np.exp(-1.0))
        >>> z = (noised.nodes - 3.0 * np.exp(-0.5)) / sigma
        >>> bool(abs(noised.targets - (noised.nodes - z / sigma)).max() < 1e-12)
        True
        """
        t, draws, rng = check_real(t, "t", minimum=0.0), check_count(draws, "draws"), check_rng(rng)
        if t == 0.0:
            return self
        made = DataSet.__new__(DataSet)
        nodes, targets = _noised(np.repeat(self.x, draws, axis=0), self.t + t, rng)
        made._put(x=self.x, weights=self.weights, t=self.t + t, draws=draws, nodes=nodes,
                  node_weights=np.repeat(self.weights, draws) / draws, targets=targets)
        return made

    def draw(self, n: int, rng: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return n independent draws (n, d) from the (noised) data, the noise fresh, and their targets (n, d); None at t = 0."""
        n, rng = check_count(n, "n"), check_rng(rng)
        x = self.x[rng.choice(len(self.x), size=n, p=self.weights)]
        return _noised(x, self.t, rng) if self.t else (x, None)

    def sample(self, n: int, rng: Any = None) -> np.ndarray:
        """Return n independent draws with replacement, noised afresh at t > 0.

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
        return self.draw(n, rng)[0]

    def score(self, x: Any) -> np.ndarray:
        r"""Return the exact score of the noised data, the mixture of :math:`N(e^{-t}x_k,\sigma^2I)`, at points x (..., d).

        Raises
        ------
        ValueError
            At t = 0, where the distribution has no density; and if the last axis of x is not d or an entry is not finite.
        """
        if self.t == 0.0:
            raise ValueError(NO_SCORE)
        points = check_points(x, self.dimension)
        flat, means, variance = points.reshape(-1, self.dimension), np.exp(-self.t) * self.x, -np.expm1(-2 * self.t)
        out, block = np.empty_like(flat), max(1, _ENTRIES // self.x.size)
        for first in range(0, len(flat), block):
            some = flat[first:first + block]
            logits = -((some[:, None] - means) ** 2).sum(axis=-1) / (2 * variance)
            out[first:first + block] = (softmax(logits, self.weights) @ means - some) / variance
        return out.reshape(points.shape)

    def _digest(self) -> str:
        found = hashlib.sha256()
        for array in (self.nodes, self.node_weights, self.targets):
            if array is not None:
                found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return kind, shape, noise time, draws and a SHA-256 hash: enough to know the data again, not to make them."""
        return {"kind": "DataSet", "shape": list(self.x.shape), "t": self.t, "draws": self.draws, "hash": self._digest()}

    @classmethod
    def described(cls, **description: Any) -> DataSet:
        """Say that a description does not hold the data.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError(f"a data set (here of shape {description.get('shape')}) is described by its hash and not saved: make the "
                         "objective again from the same data, with the same noise, and give it as objective=")

    def __repr__(self) -> str:
        noise = f" at t={self.t:g}, {self.draws} draws each" if self.t else ""
        return f"DataSet(<{len(self.x)} points in {self.dimension} dimension(s)>{noise})"


#: What score matching says of a data set without noise.
NO_SCORE = ("a data set has no score at noise time t = 0: its distribution has no density. Give a noise time t > 0 "
            "(denoising score matching), or learn it with KLDivergence, which needs no score")


def _noised(x: np.ndarray, t: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points after noise time t, and their targets."""
    sigma = np.sqrt(-np.expm1(-2 * t))
    z = rng.standard_normal(x.shape)
    nodes = np.exp(-t) * x + sigma * z
    return nodes, nodes - z / sigma


TEACHERS["DataSet"] = DataSet
