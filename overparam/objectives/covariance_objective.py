r"""What score matching does where its teacher has a covariance other than the identity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from overparam.covariance import Covariance, CovarianceGaussian, closed_state
from overparam.geometry import reduce_state
from overparam.objectives.base import Objective, Plan
from overparam.objectives.covariance_plan import CovariancePlan
from overparam.objectives.evaluation import Estimate, Evaluation
from overparam.objectives.expectation import Expectation
from overparam.objectives.measure import Measure
from overparam.quadrature import Rule
from overparam.state import State

__all__ = ["AgainstCovariance"]


class AgainstCovariance(Expectation):
    r"""An expectation under :math:`N(\mu^*,\Sigma)` where the teacher is one, and else as its base.

    States live in the smallest space that holds the means, seen from :math:`\mu^*`, and is closed under :math:`\Sigma`; what the loss has
    outside it, :math:`\mathrm{tr}(\Sigma-2I+\Sigma^{-1})` there, does not depend on the parameters and is added. Hessians are taken by
    differences of the gradient.
    """

    takes_covariance: ClassVar[bool] = True
    _known_shape: tuple[Any, ...] | None = None

    @property
    def _wide(self) -> bool:
        return isinstance(self.teacher, CovarianceGaussian)

    def start(self, params: Any) -> State:
        """Validate `params` and reduce them to the span that the dynamics never leave."""
        if not self._wide:
            return super().start(params)
        state = self._checked(params)
        if (self._weights_for(state.n) == 0).any():
            raise ValueError("weights must be above 0 against a teacher with a covariance: leave out the parameters of weight 0")
        if state.log_scale:
            raise ValueError(f"params have deviations below float64's range (log_spread {state.log_spread:.6g}), which are not followed "
                             "against a teacher with a covariance: start from deviations of at least 1e-150")
        with np.errstate(over="ignore", invalid="ignore"):
            return closed_state(reduce_state(state, self.teacher.mean[None]), self.teacher.shape)

    def _plan_with(self, state: State, rule: Rule, previous: Plan | Any = None, roomy: bool = True, **reserve: float) -> Any:
        if not self._wide:
            return super()._plan_with(state, rule, previous, roomy, **reserve)
        shape, outside = self._inside(state)
        with np.errstate(over="ignore", invalid="ignore"):
            return CovariancePlan(state, shape, outside, self._weights_for(state.n), rule, roomy)

    def _inside(self, state: State) -> tuple[Covariance, float]:
        r"""The covariance of the state's coordinates, and the sum of :math:`\lambda-2+1/\lambda` over the other eigenvalues."""
        known = self._known_shape
        if known is None or known[0] is not state.basis:
            shape = whole = self.teacher.shape
            outside = 0.0
            if state.basis is not None:
                shape = whole.inside(state.basis)
                terms = [np.sort((one.modes[0] - 1) ** 2 / one.modes[0]) for one in (whole, shape)]
                outside = max(0.0, float(terms[0].sum() - terms[1].sum()))
                outside = outside if outside > 1e-13 * float(terms[0].sum()) else 0.0
            known = self._known_shape = state.basis, shape, outside
        return known[1:]

    def estimate(self, params: Any) -> Estimate:
        """Value and gradient at `params` with their errors.

        `reliable` is False, too, where rounding misses the tolerance by more than a thousand times.
        """
        found = super().estimate(params)
        if not self._wide or found.bounds is None:
            return found
        state, _, plan = self._look(params)
        return replace(found, reliable=found.reliable and plan.meets_tolerance(state))

    def hessian(self, params: Any) -> np.ndarray:
        if not self._wide:
            return super().hessian(params)
        return Objective.hessian(self, self._checked(params))

    def hvp(self, params: Any, direction: Any) -> np.ndarray:
        if not self._wide:
            return super().hvp(params, direction)
        return Objective.hvp(self, self._checked(params), direction)

    def minibatch(self, params: np.ndarray, batch_size: int, rng: np.random.Generator, errors: bool = False) -> Evaluation:
        if not self._wide:
            return super().minibatch(params, batch_size, rng, errors)
        x, weights = self.teacher.sample(batch_size, rng), self._weights_for(len(params))
        measure = Measure(None, x, np.full(batch_size, 1 / batch_size), x + self.teacher.score(x))
        evaluator = self.integrands.evaluator(measure, np.log(weights))
        (n, d), means = params.shape, np.ascontiguousarray(params)
        rows, error = np.empty((n, d)), np.nan
        value = evaluator.evaluate(np.zeros(d), means, 1, np.empty(d), rows)
        if errors and batch_size > 1:
            error = float(self.integrands.losses(measure, means, weights).std(ddof=1) / np.sqrt(batch_size))
        return Evaluation(value, np.zeros(d), rows, error, np.full(n, np.nan))


AgainstCovariance.hessian.__doc__ = Expectation.hessian.__doc__
AgainstCovariance.hvp.__doc__ = Expectation.hvp.__doc__
AgainstCovariance.minibatch.__doc__ = Expectation.minibatch.__doc__
