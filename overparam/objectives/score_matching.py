"""Score matching: the population Fisher divergence of a softmax student from its teacher."""

from __future__ import annotations

from overparam.objectives.covariance_objective import AgainstCovariance
from overparam.objectives.data_plan import ScoreMatchingSums
from overparam.objectives.integrands import ScoreMatchingIntegrands

__all__ = ["ScoreMatching"]


class ScoreMatching(AgainstCovariance):
    r"""Population score-matching loss of a mixture of n identity-covariance Gaussians.

    .. math:: L(\mu) = \mathbb E_{x\sim p^*}\Big\|\sum_{i=1}^n w_i(x)\,\mu_i - x - s^*(x)\Big\|^2,\qquad
              w_i(x) = \frac{\pi_i\varphi(x-\mu_i)}{\sum_j\pi_j\varphi(x-\mu_j)}

    with :math:`s^*` the teacher's score; for a single Gaussian :math:`x+s^*(x)=\mu^*`, with a covariance
    :math:`x-\Sigma^{-1}(x-\mu^*)`. There is no factor 1/2. The gradient is

    .. math:: \nabla_{\mu_i}L = 2\,\mathbb E\big[w_i D + w_i\,\langle\mu_i-v, D\rangle\,(x-\mu_i)\big],\qquad
              v = \sum_j w_j\mu_j,\quad D = v - x - s^*(x).

    Parameters
    ----------
    teacher : Gaussian, GaussianMixture or DataSet
        A Gaussian may have a covariance; the student keeps the identity, and its Hessian is then taken by differences.
        A data set needs t > 0: this is denoising score matching then, see :meth:`overparam.DataSet.at_time`.
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

    References
    ----------
    Zhang et al. 2025 (arXiv 2511.22069), loss of section 2 and Lemma 2.2 [published]; the gradient above is its form before
    Stein's identity [derived].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> value, grad = obj.value_and_grad([[2.0], [-1.0]])
    >>> grad.shape
    (2, 1)
    """

    integrands = ScoreMatchingIntegrands()
    data_sums = ScoreMatchingSums
