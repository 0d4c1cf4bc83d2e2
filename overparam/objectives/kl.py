"""The Kullback–Leibler divergence from the teacher: what gradient EM descends."""

from __future__ import annotations

from typing import Any

from overparam.objectives.base import Plan
from overparam.objectives.data_plan import LikelihoodSums
from overparam.objectives.expectation import Expectation
from overparam.objectives.likelihood import LikelihoodIntegrands
from overparam.objectives.student_axes import Mixture, plan_of_mixture
from overparam.quadrature import Rule
from overparam.state import State

__all__ = ["KLDivergence"]


class KLDivergence(Expectation):
    r"""Kullback–Leibler divergence of a mixture of n identity-covariance Gaussians from its teacher.

    .. math:: L(\mu) = \mathrm{KL}(p^*\,\|\,p_\mu) = \mathbb E_{x\sim p^*}[\ln p^*(x)-\ln p_\mu(x)],\qquad
              p_\mu = \sum_{i=1}^n\pi_i\,N(\mu_i, I)

    Its gradient is the first part of score matching's, without the factor 2; gradient EM is gradient descent on it:

    .. math:: \nabla_{\mu_i}L = -\mathbb E[w_i(x-\mu_i)] = \mathbb E\big[w_i\,(v-x-s^*(x))\big],\qquad v=\sum_jw_j\mu_j,

    with :math:`w_i` the responsibilities and :math:`s^*` the teacher's score (Stein's identity; for a single Gaussian
    :math:`x+s^*(x)=\mu^*`).

    Parameters
    ----------
    teacher : Gaussian, GaussianMixture or DataSet
        Of a data set, whose own entropy does not exist, the value is the negative mean log-likelihood :math:`-\sum_kq_k\ln p_\mu(x_k)`,
        the :math:`\frac d2\ln2\pi` included: the negative of what scikit-learn's ``GaussianMixture.score`` returns. The gradient is that
        before Stein's identity.
    t : float
        Noise time; short for ``teacher.at_time(t)``. The parameters are those at time t.
    weights : (n,) array, optional
        The student's mixture weights, fixed; equal by default.
    rule : Rule, optional
        ``Auto(tol=1e-10)`` by default. Not for data sets, whose sums are finite.

    Raises
    ------
    ValueError
        For arguments of the wrong kind; by ``value`` and ``grad`` when ``Auto`` cannot meet its tolerance.

    Notes
    -----
    Around a single Gaussian the loss is summed as :math:`E[e^r-1-r]`, :math:`r=\ln(p/p^*)`, which keeps its relative accuracy
    however late a run is. Elsewhere it is :math:`-E\,r`, good to rounding of the size of r: against a mixture that the student meets
    exactly it is 0 to about 1e-15, of either sign. Against components so far apart that nothing else fits into ``Auto``'s nodes,
    gradient rows below 1e-25 are known to that only; the bounds of ``estimate`` say where.

    References
    ----------
    Xu et al. 2024, Lemma 1, and Zhou et al. 2025 (arXiv 2506.06584), Lemma 1, for the gradient [published]; the loss's form above
    [derived].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.KLDivergence(op.Gaussian([0.0]))
    >>> value, grad = obj.value_and_grad([[2.0]])        # one Gaussian: half the squared distance
    >>> round(value, 10), grad.round(10).tolist()
    (2.0, [[2.0]])
    """

    integrands = LikelihoodIntegrands()
    data_sums = LikelihoodSums

    def _plan_with(self, state: State, rule: Rule, previous: Plan | Any = None, roomy: bool = True) -> Any:
        ordinary = super()._plan_with
        if self._data:
            return ordinary(state, rule, previous, roomy)
        mixture = Mixture(self._reduced_means(state), self.teacher.weights[self._present], self._weights_for(state.n), self.integrands)
        return plan_of_mixture(mixture, state, rule, previous, roomy, ordinary)
