"""Expectation maximisation: full, gradient and hybrid, over a whole distribution or a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overparam._validation import check_array, check_positive, check_weights
from overparam.drivers._overloads import one_or_many
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.descent import _Descent
from overparam.drivers.loop import by_sampling, check_progress, check_steps, check_stop, course, start_of, steps_to_record
from overparam.drivers.stepper import Advance, OwnSteps, Stepper
from overparam.objectives import KLDivergence
from overparam.objectives.base import Plan, check_objective
from overparam.objectives.bursts import driven
from overparam.objectives.evaluation import Evaluation
from overparam.objectives.shares import Shares, apart, meets, renewed, reweighted, shares
from overparam.planning import Auto, TooHardError
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["em"]

# By which weights may have moved against each other since nodes were last looked at: majorants and edges of a row are off by at most
# the square of it, relative to the row's share. Bounds at records are those of their own weights.
_DRIFT = 1.5
_RESERVE = 0.1  # part of the tolerance that is planned for
_LOST = np.finfo(np.float64).tiny / np.finfo(np.float64).eps  # a share below has no digits left to divide by


@dataclass(frozen=True, eq=False)
class _Student(State):
    """A state with its mixture weights, which travel together: Ctrl-C never finds one moved without the other."""

    weights: np.ndarray | Any = None  # always given: None is there since fields without a default cannot follow State's


class _Maximization(OwnSteps):
    """Steps on the nodes of one plan after another."""

    def __init__(self, objective: KLDivergence, step_size: float | None, update_weights: bool, weights0: np.ndarray) -> None:
        self._objective, self._step_size, self._update = objective, step_size, update_weights
        self._planner = objective
        if isinstance(objective.rule, Auto):
            self._planner = objective.with_rule(objective.rule.sparing(_RESERVE))
        self._plan: Plan | Any = None
        self._weights: np.ndarray | Any = None  # those that the plan was made or renewed for
        self._lost: set[int] = set()
        self._without = np.flatnonzero(weights0 == 0)
        self.evaluations = 0

    # --- plans -------------------------------------------------------------------------------------------------------

    def _made(self, state: _Student) -> Plan:
        """A plan for these means and these very weights."""
        self._plan, self._weights = self._planner.with_weights(state.weights).plan(state, self._plan), state.weights
        return self._plan

    def _renewed(self, state: _Student) -> Plan:
        """The plan for other means or weights, if its nodes are good enough for them; else a new one."""
        plan = None if self._plan is None else renewed(self._plan, state, state.weights)
        if plan is None:
            return self._made(state)
        self._plan, self._weights = plan, state.weights
        return plan

    def _serves(self, state: _Student) -> bool:
        """Whether means and weights are still near those for which the plan was last looked at."""
        if self._plan is None:
            return False
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where((self._weights == 0) & (state.weights == 0), 1.0, state.weights / self._weights)
        there = self._weights > 0
        return bool((there == (state.weights > 0)).all() and moved[there].max() <= _DRIFT * moved[there].min()
                    and self._plan.covers(state))

    def look(self, state: Any) -> Evaluation:  # all states here are _Student
        self.evaluations += 1
        plan = self._plan if self._serves(state) else self._renewed(state)
        if not np.array_equal(self._weights, state.weights):
            plan = reweighted(plan, state.weights)
        if plan is not None:
            found = plan.evaluate(state)
            if meets(plan, found):
                return found
        return self._made(state).evaluate(state)

    def rough_look(self, state: Any) -> Evaluation:
        return by_sampling(self._objective.with_weights(state.weights), state)

    def _shares(self, state: _Student) -> Shares:
        self.evaluations += 1
        if self._serves(state):
            found = shares(self._plan, state, state.weights)
            if found.holds:
                return found
        return shares(self._renewed(state), state, state.weights)

    # --- steps -------------------------------------------------------------------------------------------------------

    def advance(self, state: Any, steps: int) -> Advance:
        for done in range(steps):
            with np.errstate(over="ignore", invalid="ignore"):
                found = self._shares(state)
                if found.value < -1.0:  # no divergence is: nothing but rounding is left of it
                    raise TooHardError("squares of the means' distances exceed what float64 resolves: rounding of the logits makes the "
                                       f"divergence {found.value:.3g}, which is never negative. Bring teacher and students closer together")
                if not (np.isfinite(found.value) and np.isfinite(found.rows).all()):
                    return Advance(state, done, "not_finite")
                if found.value > self.ceiling:
                    return Advance(state, done, "diverged")
                centre, deviations = self._means(state, found)
            if not (np.isfinite(centre).all() and np.isfinite(deviations).all()):
                return Advance(state, done, "not_finite")
            weights = state.weights
            if self._update:
                weights = found.shares / found.shares.sum()
                self._lost.update(np.flatnonzero((weights == 0) & (state.weights > 0)).tolist())
            state = replace(state, centre=centre, deviations=deviations, weights=weights)
        return Advance(state, steps)

    def _means(self, state: _Student, found: Shares) -> tuple[np.ndarray, np.ndarray]:
        """Centre and deviations after a step."""
        if self._step_size is not None:
            return state.centre, state.deviations - self._step_size * found.rows
        alive = found.shares >= _LOST
        self._lost.update(np.flatnonzero(~alive & (state.weights > 0)).tolist())
        if not self._update and np.ptp(state.weights) == 0:
            tight = apart(self._plan, state)
            if tight is not None:  # 1/E[w_i] - n = -n e/E[w_i], e the excess
                share = 1 / state.n + tight.excess[:, None]
                return (tight.state.centre - state.n * tight.centre_grad,
                        tight.state.deviations - (tight.grad - state.n * tight.excess[:, None] * tight.centre_grad) / share)
        deviations = state.deviations.copy()
        deviations[alive] -= found.rows[alive] / found.shares[alive, None]
        return state.centre, deviations

    # --- what the loop asks ------------------------------------------------------------------------------------------

    def time(self, step: int) -> float:
        return float(step) if self._step_size is None else step * self._step_size

    def weights_of(self, state: Any) -> np.ndarray:
        weights: np.ndarray = state.weights
        return weights

    def remark(self) -> str:
        return "; ".join(filter(None, (_weightless(self._without), self._lost_in_words())))

    def _lost_in_words(self) -> str:
        if not self._lost:
            return ""
        return (f"parameters {sorted(self._lost)} lost all responsibility (E[w_i] is 0 in float64): their means stay where they were "
                "then")


def _weightless(rows: np.ndarray) -> str:
    """A remark on the parameters that have no weight from the start."""
    return f"parameters {rows.tolist()} have weight 0: their means stay where they are" if len(rows) else ""


class _FixedWeights(_Descent):
    """Gradient EM with weights that stay: gradient descent, compiled."""

    _idle = _without = np.array([], dtype=int)  # until something was looked at

    def weights_of(self, state: State) -> np.ndarray:
        weights = self._objective.weights
        return np.full(state.n, 1 / state.n) if weights is None else weights

    def look(self, state: State) -> Evaluation:
        found = super().look(state)
        weights = self.weights_of(state)
        self._idle = np.flatnonzero((weights > 0) & self._unseen(state, found))
        self._without = np.flatnonzero(weights == 0)
        return found

    def _unseen(self, state: State, found: Evaluation) -> np.ndarray:
        """(n,) which students have no responsibility: gradients of exactly 0, in a plan that leaves them out."""
        plan = self._plan
        view = getattr(getattr(plan, "part", plan), "view", None)
        return np.zeros(state.n, dtype=bool) if view is None else ~view.rows & ~found.rows.any(axis=1)

    def remark(self) -> str:
        idle = f"parameters {self._idle.tolist()} have no responsibility (E[w_i] is 0 in float64): their means do not move" \
            if len(self._idle) else ""
        return "; ".join(filter(None, (super().remark(), _weightless(self._without), idle)))


@one_or_many
def em(objective: KLDivergence, params0: Any, *, weights0: Any = None, steps: int, step_size: float | None = None,
       update_weights: bool = True, record: Schedule | None = None, stop: Callable[..., Any] | None = None,
       observe: dict[str, Callable[..., Any]] | None = None, progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Expectation maximisation of a mixture of identity-covariance Gaussians: population EM, or EM on a data set.

    With :math:`w_i` the responsibilities and expectations under the teacher, all at the parameters before the step,

    .. math:: \mu_i\leftarrow\frac{\mathbb E[w_ix]}{\mathbb E[w_i]}=\mu_i-\frac{\nabla_{\mu_i}L}{\mathbb E[w_i]}\quad\text{(full EM)},\qquad
              \mu_i\leftarrow\mu_i-\eta\,\nabla_{\mu_i}L=\mu_i+\eta\,\mathbb E[w_i(x-\mu_i)]\quad\text{(gradient EM)},

    and :math:`\pi_i\leftarrow\mathbb E[w_i]` in both if `update_weights`. With a step size and moving weights this is the hybrid of Zhou
    et al. 2025: the gradient is not divided by the weight.

    Parameters
    ----------
    objective : KLDivergence
        Its weights are the start's. Of a ``DataSet`` this is EM on data.
    params0 : (n, d) array or State
        The start; a batch of starts gives a list of trajectories.
    weights0 : (n,) array, optional
        Weights to start from, in place of the objective's.
    steps : int
        Number of steps, at least 0.
    step_size : float, optional
        :math:`\eta>0` of gradient EM; full EM by default.
    update_weights : bool
        Whether the weights move too.
    record, stop, observe, progress
        As in :func:`overparam.gradient_descent`; the record that `stop` is given has ``weights`` as well.

    Returns
    -------
    Trajectory
        ``trajectory.weights`` (T, n) are those of every record, ``final_weights`` (n,) the last ones; ``loss`` is the divergence at both.
        Times are :math:`\eta\tau` with a step size and steps without.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.

    Notes
    -----
    No step of full EM, nor of the hybrid for :math:`\eta\le1`, increases the divergence. A mean whose responsibility is 0 in float64
    stays where it is, and so does one of weight 0; the message says which. Weights are divided by their sum after every step, which
    differs from 1 by the error of the nodes. Between records nodes are those of a plan whose bounds were looked at near by, and met the
    tolerance there. Equal weights that do not move keep tiny deviations to full relative accuracy, as gradient descent does; moving ones
    are followed in plain coordinates.

    References
    ----------
    Zhou et al. 2025 (arXiv 2506.06584), the update [published]; Xu et al. 2024 (arXiv 2407.00490), gradient EM with fixed weights
    [published].

    Examples
    --------
    >>> import overparam as op
    >>> teacher = op.GaussianMixture([[-2.0], [2.0]], weights=[0.3, 0.7])
    >>> traj = op.em(op.KLDivergence(teacher), [[-1.0], [1.0]], steps=300)
    >>> traj.final.ravel().round(6).tolist(), traj.final_weights.round(6).tolist()
    ([-2.0, 2.0], [0.3, 0.7])
    >>> traj.weights.shape == (len(traj), 2)
    True
    """
    if not isinstance(check_objective(objective), KLDivergence):
        raise ValueError(f"objective must be an op.KLDivergence, which expectation maximisation descends; got {objective!r}"[:300])
    if not isinstance(update_weights, (bool, np.bool_)):
        raise ValueError(f"update_weights must be True or False; got {update_weights!r}"[:300])
    if weights0 is not None:
        objective = objective.with_weights(check_weights(weights0, len(check_array(weights0, "weights0", ndim=1)), "weights0"))
    settings: dict[str, Any] = {"step_size": None if step_size is None else check_positive(step_size, "step_size"),
                                "steps": check_steps(steps), "update_weights": bool(update_weights),
                                "record": check_schedule(log_spaced(200) if record is None else record),
                                "stop": check_stop(stop), "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    found: Trajectory | list[Trajectory] = for_each_start(_run, objective, params0, **settings)
    return found


def _run(objective: KLDivergence, params0: Any, *, step_size: float | None, update_weights: bool, steps: int, record: Schedule,
         weights: np.ndarray | None = None, first_step: int = 0, **options: Any) -> Course:
    state = start_of(objective, params0)
    if step_size is not None and not update_weights:
        stepper: Stepper = _FixedWeights(objective, step_size)
    else:
        if state.log_scale:
            raise ValueError(f"params0 has deviations below float64's range (log_spread {state.log_spread:.6g}), which only gradient EM "
                             "with equal weights that stay follows: give step_size= and update_weights=False")
        if weights is None:
            weights = np.full(state.n, 1 / state.n) if objective.weights is None else objective.weights
        state = _Student(state.centre, state.deviations, state.basis, state.origin, weights=weights)
        stepper = _Maximization(objective, step_size, update_weights, weights)
    return course(stepper, objective, state, driver="em", schedule=steps_to_record(record, steps, first_step),
               settings={"step_size": step_size, "steps": first_step + steps, "update_weights": update_weights,
                         "record": record.describe()}, **options)


def _resume(trajectory: Trajectory, *, steps: int, record: Schedule | None = None, stop: Callable[..., Any] | None = None,
            observe: dict[str, Callable[..., Any]] | None = None, progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps from the last means and weights."""
    stored = trajectory.settings
    return driven(_run(trajectory.objective, trajectory.final_state, weights=trajectory.final_weights, step_size=stored["step_size"],
                update_weights=stored["update_weights"], steps=check_steps(steps),
                record=schedule_from_description(stored["record"]) if record is None else check_schedule(record), stop=check_stop(stop),
                observe=check_observe(observe), progress=progress, first_step=int(trajectory.steps[-1]),
                first_loss=trajectory.continuation.get("first_loss")))


DRIVERS["em"] = _resume
