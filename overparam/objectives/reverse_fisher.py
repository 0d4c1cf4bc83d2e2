"""The reverse Fisher divergence: the squared difference of the scores where the student is."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam.data_sets import DataSet
from overparam.objectives.base import Objective, Plan
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.expectation import Expectation
from overparam.objectives.partial_plan import Part, PartialPlan, spread_rows
from overparam.objectives.reverse_plan import ReversePlan, losses
from overparam.quadrature import Rule
from overparam.state import State
from overparam.teachers import Teacher

__all__ = ["ReverseFisher"]


class _Partial(PartialPlan):
    """The plan of the means that have a weight; Hessians by differences."""

    def hessian(self, state: State) -> np.ndarray:
        rows, axes = self.view.rows, self.view.axes
        whole = np.zeros((state.n, state.k, state.n, state.k))
        whole[np.ix_(rows, axes, rows, axes)] = self.inner.hessian(self.view.part(state))
        return whole


class ReverseFisher(Expectation):
    r"""Reverse Fisher divergence of a mixture of n identity-covariance Gaussians from its teacher: the expectation is the student's.

    .. math:: F(\mu) = \mathbb E_{x\sim p_\mu}\big\|\nabla\ln p_\mu(x)-\nabla\ln p^*(x)\big\|^2 = \mathbb E_{p_\mu}\|D\|^2,\qquad
              D=v-v^*,\quad p_\mu=\sum_{i=1}^n\pi_i\,N(\mu_i, I)

    with the posterior means :math:`v=\sum_jw_j\mu_j` of the student and :math:`v^*` of the teacher. Its gradient is

    .. math:: \nabla_{\mu_i}F = 2\pi_i\,\mathbb E_{x\sim N(\mu_i,I)}\big[D-C^*D+(C-C^*)(\mu_i-v)\big],

    C and :math:`C^*` the posterior covariances; for a single Gaussian :math:`C^*=0`, and gradient descent converges from any start. All of
    a row lives where its own mean is: nodes move with the means, and every mean has all of them.

    Parameters
    ----------
    teacher : Gaussian or GaussianMixture
        Take ``teacher.at_time(t)`` for a noise time.
    weights : (n,) array, optional
        The student's mixture weights, fixed; equal by default.
    rule : Rule, optional
        ``Auto(tol=1e-10)`` by default; standard normal nodes around every mean.

    Raises
    ------
    ValueError
        For arguments of the wrong kind; by ``value`` and ``grad`` when ``Auto`` cannot meet its tolerance.

    Notes
    -----
    ``estimate(params).nodes`` and ``max_nodes`` count the nodes of all means together. Hessians are taken by differences of the gradient.

    References
    ----------
    Tyurin 2026 (arXiv 2606.19876), the divergence and its gradient for one Gaussian [published]; the gradient for mixtures [derived].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ReverseFisher(op.Gaussian([0.0]))
    >>> value, grad = obj.value_and_grad([[2.0]])        # one Gaussian: the squared distance
    >>> round(value, 10), grad.round(10).tolist()
    (4.0, [[4.0]])
    """

    def __init__(self, teacher: Teacher, weights: Any = None, rule: Rule | None = None) -> None:
        if isinstance(teacher, DataSet):
            raise ValueError("a DataSet has no score at the student's points: the reverse Fisher divergence needs an op.Gaussian or "
                             f"op.GaussianMixture as its teacher; got {teacher!r}")
        super().__init__(teacher, weights=weights, rule=rule)

    @property
    def follows_log_scale(self) -> bool:  # type: ignore[override]  # read of instances only, and never put
        """Whether a run can start from a State with a `log_scale`: against one Gaussian, where deviations that small stand still."""
        return len(self._present) == 1

    def hessian(self, params: Any) -> np.ndarray:
        return Objective.hessian(self, params)

    def hvp(self, params: Any, direction: Any) -> np.ndarray:
        return Objective.hvp(self, params, direction)

    hessian.__doc__, hvp.__doc__ = Objective.hessian.__doc__, Objective.hvp.__doc__

    def _plan_with(self, state: State, rule: Rule, previous: Plan | Any = None, roomy: bool = True) -> Any:
        """The plan of the means that have a weight."""
        weights, means, teacher_weights = self._weights_for(state.n), self._reduced_means(state), self.teacher.weights[self._present]
        present = weights > 0
        if present.all():
            whole = previous if isinstance(previous, ReversePlan) else None
            return ReversePlan(state, means, teacher_weights, weights, rule, whole, roomy)
        view = Part.of(state, means, present)
        known: Any = previous.inner if isinstance(previous, PartialPlan) and view.like(previous.view) else None
        inner: Any = ReversePlan(view.part(state), means[:, view.axes], teacher_weights, weights[present], rule, known, roomy)
        return _Partial(inner, view)

    def minibatch(self, params: np.ndarray, batch_size: int, rng: np.random.Generator, errors: bool = False) -> Evaluation:
        """Value and gradient at `params` on `batch_size` fresh draws by `rng`: what a minibatch step sees.

        The draws are of the noise z, at :math:`x=\\mu_i+z` for every i. With `errors` the value carries its standard error; the
        gradient's is not estimated (NaN).
        """
        from overparam._core.reverse_fisher import Evaluator

        weights = self._weights_for(len(params))
        present = weights > 0
        (n, d), own = params.shape, np.ascontiguousarray(params[present])
        z, means, shares = rng.standard_normal((batch_size, d)), self.teacher.means[self._present], self.teacher.weights[self._present]
        evaluator = Evaluator(np.ascontiguousarray(z.T), np.full(batch_size, 1 / batch_size), np.ascontiguousarray(means), np.log(shares),
                              np.log(weights[present]))
        rows = np.empty(own.shape)
        value = evaluator.evaluate(np.zeros(d), own, 1, np.empty(d), rows)
        error = np.nan
        if errors and batch_size > 1:
            error = float(losses(z, own, weights[present], means, shares).std(ddof=1) / np.sqrt(batch_size))
        return Evaluation(value, np.zeros(d), spread_rows(rows, present), error, np.full(n, np.nan))
