"""What an objective is found to be at a point: values and gradients with their errors, and what steps came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from overparam._validation import check_real
from overparam.certificate import Bounds
from overparam.state import State

__all__ = ["Burst", "Estimate", "Evaluation", "check_representable"]

@dataclass(frozen=True, eq=False)
class Evaluation:
    r"""Value and gradient at a state, in the state's coordinates.

    Attributes
    ----------
    value : float
    centre_grad : (k,) array
        What the centre moves along: the mean of the gradient rows for a state that is tight around its centre, else 0.
    grad : (n, k) array
        What the deviations move along; the gradient row of :math:`\mu_i` is ``centre_grad + grad[i]``.
    value_error : float
        Bound (deterministic rules) or standard error (sampled rules); NaN where an objective knows none.
    grad_error : (n,) array
        The same for each row's norm.
    bounds : Bounds, optional
        The bound by its parts, where the plan has one.
    replicates : (R, n, k) array, optional
        Gradient rows of each independent replicate, for sampled rules.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    >>> state = obj.start([[2.0, 0.0], [-1.0, 0.0]])
    >>> found = obj.plan(state).evaluate(state)
    >>> found.centre_grad.shape == state.centre.shape, found.grad.shape == state.deviations.shape
    (True, True)
    """

    value: float
    centre_grad: np.ndarray
    grad: np.ndarray
    value_error: float
    grad_error: np.ndarray
    bounds: Bounds | Any = None  # None for some plans, which those who read it know
    replicates: np.ndarray | Any = None

    @property
    def sampled(self) -> bool:
        """Whether the errors are standard errors."""
        return self.replicates is not None

    @property
    def rows(self) -> np.ndarray:
        """(n, k) gradient rows."""
        found: np.ndarray = self.centre_grad + self.grad
        return found

    @property
    def grad_norm(self) -> float:
        """Norm of the whole gradient; inf where its square overflows."""
        with np.errstate(over="ignore"):
            return float(np.linalg.norm(self.rows))


@dataclass(frozen=True, eq=False)
class Estimate:
    """What ``objective.estimate`` returns.

    Attributes
    ----------
    value, grad : float and (n, d) array
    value_error, grad_error : float and (n,) array
        Bound or standard error, the gradient's one per row.
    reliable : bool
        False where the errors are not to be trusted: fewer than 100 effective samples for some i, or a sample whose logits are
        dominated by rounding; and where a sampled row of the gradient is smaller than its standard error, or an error overflows.
        Finite bounds are reliable, but for those of teachers with a covariance where rounding misses the tolerance by far.
    nodes : int
    rule : str
        The rule that was used, which is not the objective's own where that could not meet its tolerance.
    bounds : Bounds, optional
        For deterministic rules the bound by its parts: discretisation, truncation, rounding. None for sampled ones.
    component_error : (n, d) array, optional
        For sampled rules the standard error of every component of the gradient.
    replicates : int, optional
        For sampled rules the number of independent replicates behind the standard errors.
    effective_samples : (n,) array, optional
        For sampled rules the effective sample size of the weights :math:`q_kw_i(x_k)`.

    Examples
    --------
    >>> import overparam as op
    >>> found = op.ScoreMatching(op.Gaussian([0.0])).estimate([[2.0], [-1.0]])
    >>> found.grad.shape, found.grad_error.shape, found.reliable
    ((2, 1), (2,), True)
    >>> bool(found.value_error < 1e-9 * found.value)
    True
    """

    value: float
    grad: np.ndarray = field(repr=False)
    value_error: float
    grad_error: np.ndarray
    reliable: bool
    nodes: int
    rule: str
    bounds: Bounds | None = field(default=None, repr=False)
    component_error: np.ndarray | None = field(default=None, repr=False)
    replicates: int | None = None
    effective_samples: np.ndarray | None = field(default=None, repr=False)

    def interval(self, level: float = 0.95) -> tuple[tuple[float, float], tuple[np.ndarray, np.ndarray]]:
        """Intervals ((low, high) of the value, (low, high) of every gradient component, two (n, d) arrays).

        For a sampled rule Student's t intervals at confidence `level`, from the replicates. For a deterministic one the bounds, in
        which the truth lies whatever the level.
        """
        level = check_real(level, "level", minimum=0.0, maximum=1.0)
        if self.replicates is None:
            value, grad = self.value_error, self.grad_error.reshape(self.grad.shape[:-1])[..., None]
            if self.grad.dtype.kind == "c":  # of both parts
                grad = grad * (1 + 1j)
        else:
            from scipy.special import stdtrit

            quantile = float(stdtrit(self.replicates - 1, (1 + level) / 2))
            spread: Any = self.component_error  # which sampled rules have
            value, grad = quantile * self.value_error, quantile * spread
        return (self.value - value, self.value + value), (self.grad - grad, self.grad + grad)

    def _repr_html_(self) -> str:
        from overparam._html_views import estimate_card

        return estimate_card(self)


@dataclass(frozen=True, eq=False)
class Burst:
    """Steps of descent taken under one plan.

    Attributes
    ----------
    state : State
        Where the steps ended.
    steps : int
        How many were taken.
    reason : str
        "done", "replan" (the plan no longer serves), "diverged" (value above the ceiling) or "not_finite"; in the last two the
        state is the one at which it was found.
    value : float
        The last value seen; NaN if none.
    """

    state: State
    steps: int
    reason: str
    value: float


def check_representable(state: State, *found: Any, what: str = "the loss or its gradient") -> None:
    """Raise ValueError if something that was found at `state` is not finite."""
    if not all(np.isfinite(one).all() for one in found):
        raise ValueError(f"{what} overflows at these params (largest coordinate {np.abs(state.coordinates).max():.3g}); start closer to "
                         "the target")
