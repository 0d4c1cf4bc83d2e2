"""Score matching averaged over noise times: one parameter set for all of them, as a network that is given the time would have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_array, check_choice, check_integer, check_real
from overparam.objectives.averaged_plan import AveragedPlan
from overparam.objectives.averaged_terms import Terms
from overparam.objectives.base import Plan
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.expectation import Expectation
from overparam.objectives.partial_plan import Part, PartialPlan
from overparam.objectives.score_matching import ScoreMatching
from overparam.quadrature import Rule, rule_from_description
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture, Teacher, teacher_from_description

if TYPE_CHECKING:
    from typing import Self

__all__ = ["TIME_WEIGHTS", "TimeAveraged", "time_quadrature"]

#: Weights of noise times that have a name.
TIME_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": np.ones_like,
    "1-exp(-2t)": lambda t: -np.expm1(-2 * t),
    "exp(2t)": lambda t: np.exp(2 * t),
}

_LEAST = 1e-100  # sum of time weights: losses of 1e-50 and 1e50 times as much, and their squares, are still normal numbers


def time_quadrature(T: float, weight: str | Callable[..., Any] = "uniform", nodes: int = 16) -> tuple[np.ndarray, np.ndarray]:
    r"""Times and weights of the Gauss–Legendre rule for a mean over :math:`[0,T]`: :math:`\int_0^T\lambda f\,dt/\int_0^T\lambda\,dt`.

    Parameters
    ----------
    T : float
        Largest noise time, at least 0; at 0 one time is left, 0.
    weight : str or callable
        :math:`\lambda(t)\ge0` up to a factor: "uniform", "1-exp(-2t)" (the variance of the noise, as in denoising losses of unit
        weight for the noise), "exp(2t)", or a function of a (K,) array of times, or of one time.
    nodes : int
        K, at least 1.

    Returns
    -------
    times, weights : (K,) arrays
        The weights sum to 1.

    Raises
    ------
    ValueError
        If an argument is out of range, or a weight is no number, negative, not finite, or 0 at all nodes.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.objectives.time_averaged import time_quadrature
    >>> t, weight = time_quadrature(1.0, nodes=8)
    >>> bool(abs(weight @ np.exp(-2 * t) - (1 - np.exp(-2)) / 2) < 1e-14)
    True
    """
    T, nodes = check_real(T, "T", minimum=0.0, maximum=300.0), check_integer(nodes, "nodes", minimum=1, maximum=1000)
    density = weight if callable(weight) else TIME_WEIGHTS[check_choice(weight, "weight", TIME_WEIGHTS)]
    if T == 0.0:
        return np.zeros(1), np.ones(1)
    x, q = np.polynomial.legendre.leggauss(nodes)
    times = T * (x + 1) / 2
    found = _densities(density, times)
    if found.min() < 0 or not found.max() > 0:
        raise ValueError("weight must be a function of a (K,) array of times, or of one, with values not below 0 and not all 0; it "
                         f"returned {found.tolist()}"[:240])
    weights = q * (found / found.max())
    return times, weights / weights.sum()


def _densities(density: Callable[..., Any], times: np.ndarray) -> np.ndarray:
    """(K,) values of a function of all times at once, or else of one after the other."""
    try:
        found = np.asarray(density(times))
        whole = found.dtype.kind in "biuf" and found.shape in ((), times.shape)
    except (TypeError, ValueError):  # as math.exp(t) says of an array, and `if t < 1`
        whole = False
    if not whole:
        try:
            found = np.asarray([density(float(t)) for t in times])
        except (TypeError, ValueError) as error:
            raise ValueError(f"weight must be a function of a (K,) array of times, or of one; neither could be evaluated: {error}"[:300]) \
                from error
    if found.dtype.kind not in "biuf" or found.shape not in ((), times.shape):
        raise ValueError(f"weight must be a function of a (K,) array of times, or of one, that returns a number for each; got "
                         f"{found.tolist()!r}"[:240])
    return check_array(found * np.ones(len(times)), "weight(t)", ndim=1)


class _AtTime(Expectation):
    """Score matching at one of the times, in coordinates that are those of all times but for their scale."""

    integrands, data_sums = ScoreMatching.integrands, ScoreMatching.data_sums

    def __init__(self, teacher: Teacher, present: np.ndarray, weights: np.ndarray, means: np.ndarray) -> None:
        self.teacher, self._present, self._weights, self._means, self._data = teacher, present, weights, means, False

    def _reduced_means(self, state: State) -> np.ndarray:
        return self._means


class TimeAveraged(Expectation):
    r"""Score matching summed over noise times with one set of parameters: :math:`\mu_i` is where a mean is at time 0.

    .. math:: L(\mu)=\sum_k\lambda_k\,L_{t_k}(e^{-t_k}\mu),\qquad
              \nabla_{\mu_i}L=\sum_k\lambda_ke^{-t_k}\,(\nabla_iL_{t_k})(e^{-t_k}\mu)

    with :math:`L_t` the loss of :class:`ScoreMatching` against the teacher at time t. The student at time t is the mixture of the
    :math:`N(e^{-t}\mu_i,I)`: what the Ornstein–Uhlenbeck process makes of the mixture of the :math:`N(\mu_i,I)`.

    Parameters
    ----------
    teacher : Gaussian or GaussianMixture
        At time 0, of identity covariance.
    times : (K,) array
        :math:`t_k\ge0`, at most 300.
    time_weights : (K,) array, optional
        :math:`\lambda_k\ge0`; 1/K each by default, the mean over the times. They need not sum to 1, for the loss is the sum as it stands,
        but to something from 1e-100 to 1e100.
    weights : (n,) array, optional
        The student's mixture weights, fixed; equal by default.
    rule : Rule, optional
        ``Auto(tol=1e-10)`` by default, whose tolerance is one of the sum, row by row: a term that matters little need not be accurate
        relative to itself. ``max_nodes`` counts for each time. Any other rule is taken at every time.

    Raises
    ------
    ValueError
        For arguments of the wrong kind; by ``value`` and ``grad`` when ``Auto`` cannot meet its tolerance.

    See Also
    --------
    TimeAveraged.over : The mean over :math:`[0,T]` with a continuous weight.

    Notes
    -----
    A plan is one plan for each time, made together and once more where their tolerances turn out to have been shared badly: a run costs
    about K times what :class:`ScoreMatching` costs, and more where means move far. Descent of five means in :math:`d=3` from M = 6 at 16
    times, 2000 steps, took 12 s of processor time: half of it for 68 plans, a quarter for 141 records with their bounds, and a quarter
    for steps that are not compiled because a mean is out of sight at some time.

    Bounds are the sums of the bounds at every time, a gradient row's with :math:`\lambda_ke^{-t_k}`. :meth:`hessian` and :meth:`hvp` are
    sums too, with :math:`\lambda_ke^{-2t_k}`; the tolerance of each is relative to its own largest eigenvalue.

    References
    ----------
    Zhang et al. 2025 (arXiv 2511.22069) leave averaging over noise levels open; the objective is the usual one of diffusion models.

    Examples
    --------
    >>> import numpy as np
    >>> import overparam as op
    >>> teacher, params = op.Gaussian([1.0]), np.array([[2.0], [-1.0]])
    >>> obj = op.TimeAveraged(teacher, times=[0.0, 0.5], time_weights=[0.7, 0.3])
    >>> now, later = op.ScoreMatching(teacher), op.ScoreMatching(teacher, t=0.5)
    >>> abs(obj.value(params) - 0.7 * now.value(params) - 0.3 * later.value(np.exp(-0.5) * params)) < 1e-12
    True
    """

    integrands, data_sums = ScoreMatching.integrands, ScoreMatching.data_sums

    def __init__(self, teacher: Teacher, times: Any, time_weights: Any = None, weights: Any = None,
                 rule: Rule | None = None) -> None:
        if not isinstance(teacher, (Gaussian, GaussianMixture)) or getattr(teacher, "covariance", None) is not None:
            raise ValueError(f"teacher must be an op.Gaussian or op.GaussianMixture at time 0; got {teacher!r}"[:300])
        times = check_array(times, "times", ndim=1)
        time_weights = np.full(len(times), 1 / len(times)) if time_weights is None else check_array(time_weights, "time_weights", ndim=1)
        if times.min() < 0 or times.max() > 300:
            raise ValueError(f"times must be numbers from 0 to 300; got {times.tolist()}"[:300])
        if len(times) != len(time_weights):
            raise ValueError(f"time_weights has {len(time_weights)} entries and times {len(times)}: one weight per time is needed")
        if time_weights.min() < 0 or not time_weights.max() > 0:
            raise ValueError(f"time_weights must be numbers not below 0 and not all 0; got {time_weights.tolist()}"[:300])
        with np.errstate(over="ignore"):
            total = float(time_weights.sum())
        if not _LEAST <= total <= 1 / _LEAST:
            raise ValueError(f"time_weights must sum to a number from {_LEAST:g} to {1 / _LEAST:g}, for the loss is that much of score "
                             f"matching and must stay in float64's range; they sum to {total:g}: {time_weights.tolist()}"[:300])
        super().__init__(teacher, weights=weights, rule=rule)
        self._times, self._time_weights = times, time_weights
        for array in (times, time_weights):
            array.flags.writeable = False

    @classmethod
    def over(cls, teacher: Teacher, T: float, weight: str | Callable[..., Any] = "uniform", nodes: int = 16, weights: Any = None,
             rule: Rule | None = None) -> Self:
        r"""Return the mean over the noise times of :math:`[0,T]` with weight :math:`\lambda(t)`, by Gauss–Legendre.

        Parameters
        ----------
        teacher, weights, rule
            As for the class.
        T, weight, nodes
            As in :func:`overparam.objectives.time_averaged.time_quadrature`: "uniform", "1-exp(-2t)", "exp(2t)" or a function of t.

        Returns
        -------
        TimeAveraged
            With weights that sum to 1: at T = 0 it is score matching at time 0.

        Examples
        --------
        >>> import overparam as op
        >>> obj = op.TimeAveraged.over(op.Gaussian([0.0]), T=2.0, weight="1-exp(-2t)", nodes=8)
        >>> obj.times.shape, round(float(obj.time_weights.sum()), 12)
        ((8,), 1.0)
        """
        return cls(teacher, *time_quadrature(T, weight, nodes), weights=weights, rule=rule)

    @property
    def times(self) -> np.ndarray:
        """(K,) noise times."""
        found: np.ndarray = self._times
        return found

    @property
    def time_weights(self) -> np.ndarray:
        r"""(K,) weights :math:`\lambda_k`."""
        found: np.ndarray = self._time_weights
        return found

    def at_time(self, t: float) -> ScoreMatching:
        r"""Return the loss at one time: of the parameters there, :math:`e^{-t}\mu`, and without a weight."""
        return ScoreMatching(self.teacher, t=check_real(t, "t", minimum=0.0), weights=self._weights, rule=self.rule)

    def responsibilities(self, x: Any, params: Any, t: float = 0.0) -> np.ndarray:
        r"""Softmax weights :math:`w_i(x)` of the student at time t, (..., n) array; `params` are those at time 0."""
        return super().responsibilities(x, self._moved_to(params, t))

    def score(self, x: Any, params: Any, t: float = 0.0) -> np.ndarray:
        r"""The student's score at time t, :math:`\sum_iw_i(x)e^{-t}\mu_i-x`, (..., d) array; `params` are those at time 0."""
        return super().score(x, self._moved_to(params, t))

    def _moved_to(self, params: Any, t: float) -> State:
        state, scale = self._checked(params), np.exp(-check_real(t, "t", minimum=0.0))
        origin = None if state.origin is None else scale * state.origin
        return State(scale * state.centre, scale * state.deviations, state.basis, origin, state.log_scale)

    # --- plans and draws ---------------------------------------------------------------------------------------------

    def _plan_with(self, state: State, rule: Rule, previous: Plan | Any = None, roomy: bool = True) -> Any:
        """The plan of the means that have a weight, at all times."""
        weights, means = self._weights_for(state.n), self._reduced_means(state)
        present = weights > 0
        if present.all():
            whole = previous if isinstance(previous, AveragedPlan) else None
            return self._averaged(state, means, weights, rule, whole, roomy)
        view = Part.of(state, means, present)
        known: Any = previous.inner if isinstance(previous, PartialPlan) and view.like(previous.view) else None
        inner: Any = self._averaged(view.part(state), means[:, view.axes], weights[present], rule, known, roomy)
        return PartialPlan(inner, view)

    def _averaged(self, state: State, means: np.ndarray, weights: np.ndarray, rule: Rule, known: AveragedPlan | None,
                  roomy: bool) -> AveragedPlan:
        counted = self._time_weights > 0

        def make(at_time: np.ndarray) -> Callable[..., Plan]:
            return _AtTime(self.teacher, self._present, weights, at_time)._plan_with

        terms = Terms(np.exp(-self._times[counted]), self._time_weights[counted], means, make)
        return AveragedPlan(state, terms, weights, rule, known, roomy)

    def minibatch(self, params: np.ndarray, batch_size: int, rng: np.random.Generator, errors: bool = False) -> Evaluation:
        r"""Value and gradient at `params` on `batch_size` fresh draws by `rng`.

        Each is one of a time, with probability proportional to :math:`\lambda_k`, and of a point from the teacher at
        that time. With `errors` the value carries its standard error; the gradient's is not estimated (NaN).
        """
        total = float(self._time_weights.sum())
        counts = rng.multinomial(batch_size, self._time_weights / total)
        value, rows, square = 0.0, np.zeros(params.shape), 0.0
        for t, count in zip(self._times, counts, strict=True):
            if not count:
                continue
            scale, part = np.exp(-t), count / batch_size
            found = self.at_time(t).minibatch(scale * params, int(count), rng, errors)
            value += part * found.value
            rows += part * scale * found.rows
            within = 0.0 if count == 1 or not errors else count * found.value_error * found.value_error * (count - 1) / batch_size
            square += within + part * found.value * found.value  # ** would raise on overflow
        error = np.nan
        if errors and batch_size > 1:
            variance = square - value * value  # NaN where both overflow: then nothing is known of the error
            error = np.inf if np.isnan(variance) else total * np.sqrt(max(variance, 0.0) / (batch_size - 1))
        return Evaluation(total * value, np.zeros(params.shape[1]), total * rows, float(error), np.full(len(params), np.nan))

    # --- description -------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "times": self._times.tolist(), "time_weights": self._time_weights.tolist()}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Make the objective whose ``describe()`` returned `description`."""
        return cls(teacher_from_description(description["teacher"]), description["times"], description["time_weights"],
                   description["weights"], rule_from_description(description["rule"]))

    def with_rule(self, rule: Rule) -> Self:
        """The same objective under another rule."""
        return type(self)(self.teacher, self._times, self._time_weights, self._weights, rule)

    def __repr__(self) -> str:
        shown = ("" if self._weights is None else f", weights={self._weights.tolist()}") + f", rule={self.rule!r})"
        return f"TimeAveraged({self.teacher!r}, times={self._times.tolist()}, time_weights={self._time_weights.tolist()}{shown}"
