"""What every objective that is an expectation over the teacher has in common: the student, plans, estimates, Hessians, minibatches."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from overparam import _softmax
from overparam._validation import check_array, check_real, check_weights
from overparam.covariance import CovarianceGaussian
from overparam.data_sets import DataSet
from overparam.geometry import reduce_state
from overparam.objectives.base import Objective, Plan, check_direction, check_hessian_size
from overparam.objectives.data_plan import DataPlan, DataSums, in_full
from overparam.objectives.evaluation import Estimate, Evaluation, check_representable
from overparam.objectives.far_means import FarPlan, Scene
from overparam.objectives.hessian_plan import Curvature
from overparam.objectives.integrands import Integrands
from overparam.objectives.measure import Measure
from overparam.objectives.partial_plan import Part, PartialPlan, rejoined, spread_rows
from overparam.objectives.quadrature_plan import QuadraturePlan
from overparam.planning import Auto, TooHardError
from overparam.quadrature import Rule, rule_from_description
from overparam.state import State
from overparam.teachers import Teacher, teacher_from_description

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Expectation", "plan_for", "scene_of"]

_SQUARES = 1e150  # coordinates whose squares leave float64
_FEW = 100  # effective samples below which a standard error is not to be trusted


def scene_of(state: State, means: np.ndarray, teacher_weights: np.ndarray, weights: np.ndarray, integrands: Integrands,
             **faint: float) -> tuple[Scene, np.ndarray, np.ndarray]:
    """The means that have a weight as a :class:`Scene`, (n,) which do, and which of these can be seen."""
    present = weights > 0  # exactly: a tiny weight has a tiny row, which must be accurate relative to itself
    scene = Scene(weights[present], means, teacher_weights, integrands, **faint)
    kept = np.ones(len(scene.weights), dtype=bool)
    if len(kept) > 1 and not state.log_scale:
        kept = scene.kept(state.centre, state.deviations[present])
    return scene, present, kept


def plan_for(state: State, means: np.ndarray, teacher_weights: np.ndarray, weights: np.ndarray, rule: Rule, integrands: Integrands,
             previous: Plan | None = None, roomy: bool = True, **faint: float) -> Plan:
    """The plan of the means that matter: those with a weight whose effect is not below float64's range, or that of `faint`.

    Teacher `means` (m, k) are in the state's coordinates; the rest is as for :class:`QuadraturePlan` and :class:`Scene`.
    """
    scene, present, kept = scene_of(state, means, teacher_weights, weights, integrands, **faint)
    rows = present.copy()
    rows[present] = kept
    view = None if rows.all() else Part.of(state, means, rows)
    known: Any = previous.part if isinstance(previous, FarPlan) else previous
    if isinstance(known, PartialPlan):
        known = known.inner if view is not None and view.like(known.view) else None
    elif view is not None:
        known = None
    try:
        plan = QuadraturePlan(state if view is None else view.part(state), means if view is None else means[:, view.axes],
                              teacher_weights, weights[rows] if kept.all() else weights[rows] / weights[rows].sum(), rule,
                              integrands, known, roomy)
    except TooHardError:
        largest = np.abs(state.coordinates).max()
        if largest < _SQUARES:
            raise
        raise TooHardError(f"squares of these params overflow (largest coordinate {largest:.3g}), so no rule can be planned; start "
                           "closer to the target") from None
    if view is None:
        return plan
    return PartialPlan(plan, view) if kept.all() else FarPlan(PartialPlan(plan, view), scene, present, kept, state)


class Expectation(Objective):
    """Base of the objectives over a mixture of n identity-covariance Gaussians that are expectations under the teacher.

    A subclass names its :class:`overparam.objectives.integrands.Integrands`; nodes, bounds, reduced spaces, runs and estimates follow.
    """

    follows_log_scale = True

    #: Kernel, majorants and tails of the objective.
    integrands: ClassVar[Integrands]
    #: The same over the points of a data set.
    data_sums: ClassVar[type[DataSums]]

    #: Whether the teacher may be a Gaussian with a covariance other than the identity.
    takes_covariance: ClassVar[bool] = False

    #: The noise time, where it was given as t > 0; None where the teacher may have been put at one before.
    noise_time: float | None = None
    teacher: Any  # with means, a DataSet or a CovarianceGaussian: what reads more of it knows which
    rule: Any  # None for a data set

    def __init__(self, teacher: Teacher, t: float = 0.0, weights: Any = None, rule: Rule | None = None) -> None:
        if not isinstance(teacher, Teacher):
            raise ValueError(f"teacher must be an overparam.Teacher such as op.Gaussian(mean); got {teacher!r}")
        self._data = isinstance(teacher, DataSet)
        if isinstance(teacher, CovarianceGaussian) and not self.takes_covariance:
            raise ValueError(f"{type(self).__name__} needs a teacher of identity covariance; got {teacher!r}. "
                             "op.ScoreMatching takes others")
        if not (self._data or hasattr(teacher, "means") or (self.takes_covariance and isinstance(teacher, CovarianceGaussian))):
            raise ValueError(f"{type(teacher).__name__} has no means: exact rules need an op.Gaussian or op.GaussianMixture")
        if rule is not None and not isinstance(rule, Rule):
            raise ValueError(f"rule must be an overparam.Rule such as op.Auto(tol=1e-10); got {rule!r}")
        t = check_real(t, "t", minimum=0.0)
        self.teacher = teacher.at_time(t) if t else teacher
        if t:
            self.noise_time = t
        self._present = self.teacher.weights > 0  # a component without weight asks for no nodes, however far it is
        self.rule = Auto() if rule is None else rule
        if self._data:
            if rule is not None:
                raise ValueError(f"rule does not apply to a data set, whose expectations are finite sums: leave it out; got {rule!r}")
            self.rule = None
            self.data_sums.accept(self.teacher)
        self._known_means: tuple[Any, ...] | None = None
        self._known_plan: DataPlan | None = None
        self._weights = None if weights is None else check_weights(weights, len(check_array(weights, "weights", ndim=1)))

    # --- the student -------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> np.ndarray | None:
        """The student's mixture weights, or None for equal ones."""
        return self._weights

    def responsibilities(self, x: Any, params: Any) -> np.ndarray:
        r"""Softmax weights :math:`w_i(x)`.

        Parameters
        ----------
        x : (..., d) array
        params : (n, d) array or State

        Returns
        -------
        (..., n) array
        """
        state, points, weights = self._student(x, params)
        return _softmax.responsibilities(points, state.expand_gradient(state.deviations), weights)

    def score(self, x: Any, params: Any) -> np.ndarray:
        r"""The student's score :math:`\sum_i w_i(x)\mu_i - x`, (..., d) array."""
        state, points, weights = self._student(x, params)
        found: np.ndarray = _softmax.posterior_mean(points, state.expand_gradient(state.deviations), weights) - points
        return found

    def _student(self, x: Any, params: Any) -> tuple[State, np.ndarray, np.ndarray]:
        """The state, x seen from its centre (so that small deviations are not rounded away), and the weights."""
        state = self._checked(params)
        points = check_array(x, "x", ndim=tuple(range(1, 9)))
        if points.shape[-1] != state.d:
            raise ValueError(f"x must have shape (..., {state.d}), like the parameters; got {points.shape}")
        return state, points - state.expand(state.centre), self._weights_for(state.n)

    # --- value and gradient ------------------------------------------------------------------------------------------

    def value(self, params: Any) -> float:
        """Loss at `params` ((n, d) array or State), to the rule's tolerance."""
        return self._look(params)[1].value

    def value_and_grad(self, params: Any) -> tuple[float, np.ndarray]:
        """Loss and (n, d) gradient at `params` ((n, d) array or State), to the rule's tolerance."""
        state, found, _ = self._look(params)
        return found.value, state.expand_gradient(found.rows)

    def hessian(self, params: Any) -> np.ndarray:
        r"""Hessian at `params` ((n, d) array or State), (n, d, n, d), exact under the integral and symmetric.

        Under ``Auto(tol)`` discretisation and truncation move no eigenvalue by more than `tol` times the largest one (a proved bound
        on the error's spectral norm; rounding is not in it, nor is the relative error of single entries). A fixed or sampled rule
        uses its own nodes and nothing is bounded. For a data set it is taken by differences, as :meth:`Objective.hvp` says.

        Raises
        ------
        ValueError
            For bad parameters, for more than 5000 coordinates n·d (use :meth:`hvp`), and where ``Auto`` cannot meet its tolerance.

        Examples
        --------
        >>> import overparam as op
        >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
        >>> obj.hessian([[1.0, 0.5]]).reshape(2, 2).round(12).tolist()      # one Gaussian: the loss is |mu|^2
        [[2.0, 0.0], [0.0, 2.0]]
        """
        state = self._checked(params)
        if self._data:
            return super().hessian(params)
        check_hessian_size(state.n * state.d)
        state, found = self._curvature(params)
        if state.basis is None:
            return found.hessian
        basis = state.basis
        inside = np.einsum("pa,iajb,qb->ipjq", basis, found.hessian, basis, optimize=True)
        result: np.ndarray = inside + np.einsum("ij,pq->ipjq", found.outside, np.eye(state.d) - basis @ basis.T)
        return result

    def hvp(self, params: Any, direction: Any) -> np.ndarray:
        """Product of the :meth:`hessian` at `params` with `direction`, (n, d) array; nothing d × d is formed.

        Raises
        ------
        ValueError
            As :meth:`hessian`, and if `direction` has another shape than `params`.

        Examples
        --------
        >>> import numpy as np
        >>> import overparam as op
        >>> obj = op.ScoreMatching(op.Gaussian(np.zeros(100_000)))
        >>> obj.hvp(np.ones((2, 100_000)), np.ones((2, 100_000)))[0, :2].round(8).tolist()     # 2/n: both means move alike
        [1.0, 1.0]
        """
        self._checked(params)
        if self._data:
            return super().hvp(params, direction)
        direction = check_direction(params, direction)
        state = self.start(params)
        if state.basis is None:
            return self._curvature(state, direction)[1].product
        inside = direction @ state.basis
        found = self._curvature(state, inside)[1]
        result: np.ndarray = (found.product - found.outside @ inside) @ state.basis.T + found.outside @ direction
        return result

    def _curvature(self, params: Any, direction: np.ndarray | None = None) -> tuple[State, Curvature]:
        """The reduced state, and the Hessian or its product with a reduced `direction` there."""
        state, _, plan = self._look(params)
        tol, most = (self.rule.tol, self.rule.max_nodes) if isinstance(self.rule, Auto) else (None, 0)
        try:
            found = plan.curvature(state, direction, tol, most)
        except TooHardError:
            if not (isinstance(self.rule, Auto) and self.rule.sampling):
                raise
            found = self._plan_with(state, self.rule.fallback, roomy=False).curvature(state, direction)
        check_representable(state, found.hessian if direction is None else found.product, what="the Hessian")
        return state, found

    def estimate(self, params: Any) -> Estimate:
        """Value and gradient with their errors; where ``Auto`` cannot meet its tolerance, by scrambled Sobol points instead.

        Returns
        -------
        Estimate
            With bounds by their parts for deterministic rules, standard errors and ``interval(level)`` for sampled ones;
            ``estimate.rule`` says which was used.
        """
        state, found, plan = self._look(params, fall_back=True)
        samples = plan.effective_samples(state)
        known = bool(np.isfinite(found.value_error) and np.isfinite(found.grad_error).all())
        estimate = Estimate(found.value, state.expand_gradient(found.rows), found.value_error, found.grad_error, known, plan.nodes,
                            plan.rule, found.bounds)
        if samples is None:
            return estimate
        centred = found.replicates - found.replicates.mean(axis=0)
        basis = np.eye(state.k) if state.basis is None else state.basis
        variance = np.zeros((state.n, state.d))
        with np.errstate(over="ignore"):
            for replicate in centred:
                variance += (replicate @ basis.T) ** 2
        count = len(centred)
        with np.errstate(over="ignore", invalid="ignore"):  # far beyond float64's range of squares an error may be infinite
            floor = np.nan_to_num(np.sqrt(np.maximum(found.grad_error**2 - (centred**2).sum(axis=(0, 2)) / (count * (count - 1)), 0.0)),
                                  nan=np.inf, posinf=np.inf)
            seen = (found.grad_error <= np.linalg.norm(found.rows, axis=1)).all()  # below its error not even a row's direction is known
        return replace(estimate, reliable=bool(known and seen and (samples >= _FEW).all() and plan.carries_integrand(state, _FEW)
                                                and plan.logits_are_exact(state)), replicates=count,
                       component_error=np.hypot(np.sqrt(variance / (count * (count - 1))), floor[:, None]), effective_samples=samples)

    def _look(self, params: Any, fall_back: bool = False) -> tuple[State, Evaluation, Any]:
        """The state, what is found there, and the plan it was found with: one for this state alone."""
        state = self.start(params)
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                plan = self._plan_with(state, self.rule, roomy=False)
            except TooHardError:
                if not fall_back:
                    raise
                plan = self._plan_with(state, self.rule.fallback, roomy=False)
            found = plan.evaluate(state)
        check_representable(state, found.value, found.rows)
        return state, found, plan

    # --- what drivers ask for ----------------------------------------------------------------------------------------

    def start(self, params: Any) -> State:
        """Validate `params` and reduce them to the span that the dynamics never leave."""
        state = self._checked(params)
        if self._data:
            return in_full(state)
        present = self._weights_for(state.n) > 0
        with np.errstate(over="ignore", invalid="ignore"):  # of squares beyond 1e308: plans say what that means
            if present.all() or state.log_scale:
                return self._reduced(state)
            return rejoined(state, self._reduced(replace(state, deviations=state.deviations[present])), present)

    def _reduced(self, state: State) -> State:
        means = self.teacher.means[self._present]
        if not state.log_scale:
            return reduce_state(state, means)
        reduced = reduce_state(replace(state, log_scale=0.0), means)
        if reduced.basis is not None and state.basis is None:  # a deviation was added to the centre, as if it were that large
            centre = state.centre - (means[0] if state.origin is None else means[0] - state.origin)
            reduced = replace(reduced, centre=centre @ reduced.basis)
        return replace(reduced, log_scale=state.log_scale)

    def plan(self, state: State, previous: Plan | None = None) -> Plan:
        """Nodes, box and kernel for the means of `state` (a state that ``start`` returned, or one that a run reached)."""
        found: Plan = self._plan_with(state, self.rule, previous)
        return found

    def _plan_with(self, state: State, rule: Rule, previous: Plan | Any = None, roomy: bool = True) -> Any:
        """The plan of the means that matter: those with a weight whose effect is not below float64's range."""
        if self._data:
            return self._data_plan(state.n)
        return plan_for(state, self._reduced_means(state), self.teacher.weights[self._present], self._weights_for(state.n), rule,
                        self.integrands, previous, roomy)

    def _data_plan(self, n: int) -> DataPlan:
        """The plan of a data set, made once: it is valid everywhere."""
        if self._known_plan is None or len(self._known_plan.present) != n:
            weights, data = self._weights_for(n), self.teacher
            sums = self.data_sums(data.nodes, data.node_weights, data.targets, weights[weights > 0])
            self._known_plan = DataPlan(sums, weights > 0)
        return self._known_plan

    def _reduced_means(self, state: State) -> np.ndarray:
        """(m, k) teacher means in the state's coordinates; kept, since in a million dimensions they cost as much as many steps."""
        known = self._known_means
        if known is None or known[0] is not state.basis or known[1] is not state.origin:
            means = self.teacher.means[self._present] - state.origin
            known = self._known_means = state.basis, state.origin, means if state.basis is None else means @ state.basis
        found: np.ndarray = known[2]
        return found

    def minibatch(self, params: np.ndarray, batch_size: int, rng: np.random.Generator, errors: bool = False) -> Evaluation:
        """Value and gradient at `params` on `batch_size` fresh draws from the teacher by `rng`: what a minibatch step sees.

        With `errors` the value carries its standard error; the gradient's is not estimated (NaN). From a data set they are drawn with
        replacement and, at t > 0, with noise of their own: in the mean that is the loss with infinitely many draws of the noise.
        """
        weights = self._weights_for(len(params))
        present = weights > 0
        if self._data:
            x, targets = self.teacher.draw(batch_size, rng)
            sums = self.data_sums(x, np.full(batch_size, 1 / batch_size), targets, weights[present])
            return sums.evaluation(params, present, errors)
        x = self.teacher.sample(batch_size, rng)
        measure = Measure.at(x, np.full(batch_size, 1 / batch_size), self.teacher.means[self._present], self.teacher.weights[self._present])
        evaluator = self.integrands.evaluator(measure, np.log(weights[present]))
        (n, d), means = params.shape, np.ascontiguousarray(params[present])
        mean_row, rows = np.empty(d), np.empty(means.shape)
        value = evaluator.evaluate(np.zeros(d), means, 1, mean_row, rows)
        error = np.nan
        if errors and batch_size > 1:
            losses = self.integrands.losses(measure, means, weights[present])
            error = float(losses.std(ddof=1) / np.sqrt(batch_size))
        return Evaluation(value, np.zeros(d), spread_rows(rows, present), error, np.full(n, np.nan))

    def _checked(self, params: Any) -> State:
        state = State.of(params)
        if state.d != self.teacher.dimension:
            raise ValueError(f"params have {state.d} coordinates and the teacher lives in {self.teacher.dimension} dimension(s); they "
                             f"must have shape (n, {self.teacher.dimension})")
        self._weights_for(state.n)
        return state

    def _weights_for(self, n: int) -> np.ndarray:
        if self._weights is not None and len(self._weights) != n:
            raise ValueError(f"weights has {len(self._weights)} entries and params {n} rows: one weight per parameter vector is needed")
        return np.full(n, 1.0 / n) if self._weights is None else self._weights

    # --- description -------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        described = {"kind": type(self).__name__, "teacher": self.teacher.describe(), "rule": None if self._data else self.rule.describe(),
                     "weights": None if self._weights is None else self._weights.tolist()}
        return described if self.noise_time is None else {**described, "noise_time": self.noise_time}

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Make the objective whose ``describe()`` returned `description`."""
        made = cls(teacher_from_description(description["teacher"]), weights=description["weights"],
                   rule=rule_from_description(description["rule"]))
        made.noise_time = description.get("noise_time")
        return made

    def with_weights(self, weights: np.ndarray) -> Self:
        """The same objective for a student with other mixture weights (n,), not negative, which are taken as they are."""
        other = copy(self)
        other._weights, other._known_plan = check_array(weights, "weights", ndim=1), None
        if (other._weights < 0).any():
            raise ValueError(f"weights must not be negative; got {other._weights.tolist()}"[:300])
        return other

    def with_rule(self, rule: Rule) -> Self:
        """The same objective under another rule."""
        other = type(self)(self.teacher, weights=self._weights, rule=rule)
        other.noise_time = self.noise_time
        return other

    def __repr__(self) -> str:
        weights = "" if self._weights is None else f", weights={self._weights.tolist()}"
        return f"{type(self).__name__}({self.teacher!r}{weights}" + (")" if self._data else f", rule={self.rule!r})")
