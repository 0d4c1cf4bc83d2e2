"""What numbers may be counted on: a proved bound may, a sample's standard error may not; and evaluations that fail are said to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from overparam.objectives.evaluation import Estimate, Evaluation
from overparam.theory.report import Claim
from overparam.trajectory import Trajectory

__all__ = ["STRICT", "certain", "certain_claims", "certain_run", "guarded", "is_sampled"]

#: Whether errors of a checker that are no statement about its domain (:func:`guarded`) are raised rather than reported; for tests.
STRICT = False

_SAMPLED = "the run followed sampled gradients, whose standard errors are no bounds: a rule with a bound would decide"

Numbers = TypeVar("Numbers", Estimate, Evaluation)
Found = TypeVar("Found")


def certain(found: Numbers) -> Numbers:
    """An estimate or evaluation whose errors are bounds: inf where they are standard errors of a sample, or not known.

    A standard error says how far chance moves a mean of the points that were drawn. It is no bound, and knows nothing of places that no
    point saw; a verdict is never to rest on it.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.theory.certainty import certain
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.MonteCarlo(1000, rng=0))
    >>> found = obj.estimate([[1.0], [-1.0]])
    >>> found.value_error < 1, certain(found).value_error
    (True, inf)
    """
    if found.replicates is not None:
        return replace(found, value_error=float("inf"), grad_error=np.full_like(np.asarray(found.grad_error, dtype=np.float64), np.inf))
    return replace(found, value_error=float(_known(found.value_error)), grad_error=_known(found.grad_error))


def is_sampled(run: Trajectory) -> bool:
    """Whether some of a run's gradients were sampled."""
    return "sampled_from_step" in run.attributes


def certain_run(run: Trajectory) -> Trajectory:
    """A run whose `loss_error` is a bound: inf from the step on at which a sampled rule took over, and where none is known."""
    errors = _known(run.loss_error)
    if is_sampled(run):
        errors = np.where(np.asarray(run.steps) >= run.attributes["sampled_from_step"], np.inf, errors)
    return run if np.array_equal(errors, run.loss_error) else replace(run, loss_error=errors)


def certain_claims(claims: Sequence[Claim], run: Trajectory | None) -> tuple[Claim, ...]:
    """Claims about a run; all of them open where its gradients were sampled, whatever they compare: its path is a random one."""
    open_ends = run is not None and is_sampled(run)
    return tuple(one.opened(_SAMPLED) if open_ends and one.tested else one for one in claims)


def guarded(evaluate: Callable[[], Found], otherwise: Any) -> tuple[Found, str]:
    """What `evaluate` returns, and an empty text; or `otherwise`, and why it could not be evaluated.

    A ValueError or an arithmetic error is how a formula says that it is outside its domain or float64's. Any other exception is a mistake
    of the checker: it is reported too, and raised where :data:`STRICT` is set.
    """
    try:
        with np.errstate(all="ignore"):  # what leaves float64's range becomes inf or NaN, which claims leave open
            return evaluate(), ""
    except (ValueError, ArithmeticError) as error:
        return otherwise, _failure(error)
    except Exception as error:
        if STRICT:
            raise
        return otherwise, _failure(error)


def _failure(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"could not be evaluated: {said} ({type(error).__name__})" if said else f"could not be evaluated: {type(error).__name__}"


def _known(errors: Any) -> np.ndarray:
    errors = np.asarray(errors, dtype=np.float64)
    return np.where(np.isnan(errors), np.inf, errors)
