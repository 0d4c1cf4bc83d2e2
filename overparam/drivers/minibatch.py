"""Stochastic gradient descent: the papers' own experiments, with fresh draws from the teacher, and epochs over a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from overparam._validation import check_choice, check_count, check_rng
from overparam.data_sets import DataSet
from overparam.drivers._absolute import check_followed, loss_of_differences, remark_on
from overparam.drivers._overloads import one_or_many
from overparam.drivers._step_sizes import StepSizes, check_precondition, check_step_size, factors_of, resumed_step_size
from overparam.drivers.batch import Course, for_each_start
from overparam.drivers.loop import check_progress, check_steps, check_stop, course, start_of, steps_to_record
from overparam.drivers.stepper import Advance, OwnSteps
from overparam.objectives.base import Objective
from overparam.objectives.bursts import driven
from overparam.objectives.evaluation import Evaluation
from overparam.state import State
from overparam.trajectory import DRIVERS, Schedule, Trajectory, check_observe, check_schedule, log_spaced, schedule_from_description

__all__ = ["sgd"]


class _Batches(ABC):
    """Where the batches come from."""

    @abstractmethod
    def next(self, params: np.ndarray) -> Evaluation:
        """Value and gradient on the next batch."""

    @abstractmethod
    def look(self, state: State) -> Evaluation:
        """What a record says, without any effect on the batches."""

    @abstractmethod
    def stored(self) -> dict[str, Any]:
        """Where they stand, JSON-able."""

    @abstractmethod
    def restore(self, stored: dict[str, Any]) -> None:
        """Go back to where they stood."""


class _Fresh(_Batches):
    """New draws for every batch."""

    def __init__(self, objective: Objective, batch_size: int, rng: np.random.Generator, look_rng: np.random.Generator) -> None:
        self._objective, self._batch_size, self._rng, self._look_rng = objective, batch_size, rng, look_rng

    def next(self, params: np.ndarray) -> Evaluation:
        return self._objective.minibatch(params, self._batch_size, self._rng)

    def look(self, state: State) -> Evaluation:
        """On a batch of its own, so that looking does not change the run."""
        return self._objective.minibatch(state.params, self._batch_size, self._look_rng, errors=True)

    def stored(self) -> dict[str, Any]:
        return {"rng": _stored(self._rng), "look_rng": _stored(self._look_rng)}

    def restore(self, stored: dict[str, Any]) -> None:
        self._rng.bit_generator.state = stored["rng"]  # looks go on: they are no part of the run


class _Epochs(_Batches):
    """All nodes of a data set in random order, then all of them again in another; the last batch of an epoch may be smaller.

    A batch of b of the M nodes has their node weights times M/b: in the mean over orders, value and gradient are those of the data set.
    """

    def __init__(self, objective: Any, batch_size: int, rng: np.random.Generator, position: int = 0) -> None:  # an Expectation of data
        data, weights = objective.teacher, objective.weights
        self._objective, self._batch_size, self._rng = objective, batch_size, rng
        self._x, self._q, self._targets = data.nodes, data.node_weights, data.targets
        self._weights, self._position = weights, position
        self._begin()

    def _begin(self) -> None:
        self._before = _stored(self._rng)  # an order need not be stored: it is drawn again
        self._order = self._rng.permutation(len(self._x))

    def next(self, params: np.ndarray) -> Evaluation:
        if self._position >= len(self._x):
            self._position = 0
            self._begin()
        some = self._order[self._position:self._position + self._batch_size]
        self._position += len(some)
        n = len(params)
        weights = np.full(n, 1 / n) if self._weights is None else self._weights
        present = weights > 0
        targets = None if self._targets is None else self._targets[some]
        sums = self._objective.data_sums(self._x[some], self._q[some] * (len(self._x) / len(some)), targets, weights[present])
        found: Evaluation = sums.evaluation(params, present, False)
        return found

    def look(self, state: State) -> Evaluation:
        """On all nodes: exact."""
        found: Evaluation = self._objective.plan(state).evaluate(state)
        return found

    def stored(self) -> dict[str, Any]:
        return {"rng": self._before, "position": self._position}

    def restore(self, stored: dict[str, Any]) -> None:
        self._rng.bit_generator.state, self._position = stored["rng"], stored["position"]
        self._begin()


class _Minibatch(OwnSteps):
    """One batch a step, in full coordinates: the draws leave the span."""

    def __init__(self, batches: _Batches, sizes: StepSizes, factors: np.ndarray | None, first_step: int, remark: str) -> None:
        self._batches, self._sizes = batches, sizes
        self._factors = None if factors is None else factors[:, None]
        self._step, self._remark = first_step, remark
        self.evaluations = 0

    def look(self, state: State) -> Evaluation:
        self.evaluations += 1
        return self._batches.look(state)

    def advance(self, state: State, steps: int) -> Advance:
        before = self._step, self._batches.stored()
        try:
            return self._advance(state, steps)
        except BaseException:  # Ctrl-C: the steps since are not taken, and their draws come again
            self._step = before[0]
            self._batches.restore(before[1])
            raise

    def _advance(self, state: State, steps: int) -> Advance:
        params = state.params
        for done in range(steps):
            found = self._batches.next(params)
            self.evaluations += 1
            if not np.isfinite(found.value) or not np.isfinite(found.grad).all():
                return Advance(State.of(params), done, "not_finite")
            if found.value > self.ceiling:
                return Advance(State.of(params), done, "diverged")
            grad = found.grad if self._factors is None else self._factors * found.grad
            with np.errstate(over="ignore"):
                moved = params - self._sizes.at(self._step) * grad
            if not np.isfinite(moved).all():
                return Advance(State.of(params), done, "not_finite")
            params = moved
            self._step += 1
        return Advance(State.of(params), steps)

    def time(self, step: int) -> float:
        return self._sizes.time(step)

    def remark(self) -> str:
        return self._remark

    def continuation(self) -> dict[str, Any]:
        return self._batches.stored()


def _stored(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's state as JSON allows it."""
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return value.tolist() if isinstance(value, np.ndarray) else value

    found: dict[str, Any] = plain(rng.bit_generator.state)
    return found


def _restored(stored: dict[str, Any]) -> np.random.Generator:
    """The generator whose state was stored."""
    bits = getattr(np.random, stored["bit_generator"])()
    bits.state = stored
    return np.random.Generator(bits)


@one_or_many
def sgd(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, batch_size: int, rng: Any = None,
        batches: str = "fresh", precondition: str | None = None, record: Schedule | None = None, stop: Callable[..., Any] | None = None,
        observe: dict[str, Callable[..., Any]] | None = None, progress: bool | None = None) -> Trajectory | list[Trajectory]:
    r"""Gradient descent on minibatches: :math:`\mu_i \leftarrow \mu_i - \eta\,\hat\nabla_{\mu_i}L(\mu)`, in full coordinates.

    The gradient is that of the loss on `batch_size` draws at every step: new ones from the teacher, or the next ones of a data set that is
    gone through in random order, epoch after epoch.

    Parameters
    ----------
    objective : Objective
        One that has ``minibatch``, such as ScoreMatching.
    params0 : (n, d) array or State
        The start, or a batch of starts. Steps move absolute parameters: a State of whose deviations nothing would be left when they are
        added to its centre, or that are below float64's range, is refused; where they lose more than a thousandth,
        ``trajectory.message`` says how much.
    step_size, steps, precondition, record, stop, observe, progress
        As in :func:`overparam.gradient_descent`.
    batch_size : int
        Draws per step, at least 1.
    rng : seed or numpy.random.Generator, optional
        At a given seed a run is reproducible; the runs of a batch have streams of their own.
    batches : "fresh" or "epochs"
        "fresh": independent draws from the teacher (from a data set with replacement, its noise drawn anew). "epochs", for an objective
        over a :class:`overparam.DataSet`: every node once an epoch, each epoch in an order of its own, the last batch of one smaller
        where `batch_size` does not divide their number; a data set at noise time t > 0 keeps the noise that it has. An epoch has
        ceil(M / batch_size) steps for M nodes.

    Returns
    -------
    Trajectory
        For fresh batches its loss at a record is a minibatch's too, drawn for that record alone, and ``loss_error`` is its standard error;
        use ``objective.value(trajectory.params[k])`` for the exact loss. With epochs it is the loss over the whole data set.

    Raises
    ------
    ValueError
        For bad arguments, before any work is done.
    TypeError
        If the objective has no minibatches.

    Notes
    -----
    In the mean over draws, or over orders, a step has the exact gradient. ``trajectory.extend(steps=...)`` goes on with the stream of
    random numbers, and inside the epoch, where the run stopped; saved files keep both. The data themselves are given again (see
    :class:`overparam.DataSet`).

    References
    ----------
    Zhang et al. 2025 (arXiv 2511.22069), experiments: batch 20 000, step size 0.01 [published].

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.sgd(obj, [[2.0], [1.5]], step_size=0.1, steps=50, batch_size=100, rng=0)
    >>> traj.status
    'completed'
    """
    if isinstance(objective, Objective) and type(objective).minibatch is Objective.minibatch:
        objective.minibatch(np.empty(0), 1, np.random.default_rng(0))  # which says what is missing
    seed = int(rng) if isinstance(rng, (int, np.integer)) else None
    rng = check_rng(rng)
    if check_choice(batches, "batches", ("fresh", "epochs")) == "epochs" and not isinstance(getattr(objective, "teacher", None), DataSet):
        raise ValueError(f"batches='epochs' needs an objective over an op.DataSet, which there is one pass after another through; got "
                         f"{objective!r}"[:300])
    settings: dict[str, Any] = {"attributes": {"seed": seed}, "step_size": check_step_size(step_size), "steps": check_steps(steps),
                                "batch_size": check_count(batch_size, "batch_size"), "rng": rng, "batches": batches,
                                "precondition": check_precondition(precondition),
                                "record": check_schedule(log_spaced(200) if record is None else record), "stop": check_stop(stop),
                                "observe": check_observe(observe), "progress": check_progress(progress)}
    settings["record"].steps(settings["steps"])  # too many records are refused here, before any work
    check_followed(params0, _rows, "op.sgd", "op.gradient_descent or op.momentum")
    found: Trajectory | list[Trajectory] = for_each_start(_run, objective, params0, **settings)
    return found


def _run(objective: Objective, params0: Any, *, step_size: float | Callable[[int], float], steps: int, batch_size: int,
         rng: np.random.Generator, batches: str, precondition: str | None, record: Schedule, saved: dict[str, Any] | None = None,
         first_step: int = 0, **options: Any) -> Course:
    start_of(objective, params0)
    # its checks are all that is used; the coordinates stay as they are, for moving the origin and back would round them
    state = State.of(State.of(params0).params)
    lost = loss_of_differences(params0, _rows(params0)) if isinstance(params0, State) and first_step == 0 else 0.0
    saved = saved or {}
    if batches == "epochs":
        source: _Batches = _Epochs(objective, batch_size, rng, saved.get("position", 0))
    else:
        look_rng = _restored(saved["look_rng"]) if saved else np.random.default_rng(rng.integers(0, 2**32, size=4).tolist())
        source = _Fresh(objective, batch_size, rng, look_rng)
    sizes = StepSizes(step_size)
    settings = {**sizes.settings(), "steps": first_step + steps, "batch_size": batch_size, "batches": batches,
                "precondition": precondition, "record": record.describe()}
    stepper = _Minibatch(source, sizes, factors_of(objective, state.n, precondition), first_step, remark_on(lost))
    return course(stepper, objective, state, driver="sgd", schedule=steps_to_record(record, steps, first_step), settings=settings,
                  **options)


def _rows(given: State) -> np.ndarray:
    """The absolute parameters of a State, a row each."""
    return given.expand(given.coordinates)


def _resume(trajectory: Trajectory, *, steps: int, step_size: Any = None, record: Schedule | None = None,
            stop: Callable[..., Any] | None = None, observe: dict[str, Callable[..., Any]] | None = None,
            progress: bool | None = None) -> Trajectory:
    """Go on for `steps` more steps with the same streams of random numbers."""
    stored, saved = trajectory.settings, trajectory.continuation
    return driven(_run(trajectory.objective, trajectory.final_state, step_size=resumed_step_size(trajectory, step_size),
                steps=check_steps(steps), batch_size=stored["batch_size"], rng=_restored(saved["rng"]),
                batches=stored.get("batches", "fresh"), precondition=stored.get("precondition"), saved=saved,
                record=schedule_from_description(stored["record"]) if record is None else check_schedule(record),
                stop=check_stop(stop), observe=check_observe(observe), progress=progress, first_step=int(trajectory.steps[-1]),
                first_loss=saved.get("first_loss")))


DRIVERS["sgd"] = _resume
