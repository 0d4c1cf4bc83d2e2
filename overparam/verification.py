"""Is a run what it claims to be? Repeat it at a hundredth of the tolerance, and once more nudged by rounding.

A bound is about loss and gradient at given parameters. What it means for a whole run is found by running again: through a phase
in which differences grow, an error of one step is amplified, and so is rounding, which no tolerance removes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overparam._schedules import Listed
from overparam._validation import check_real
from overparam.planning import Auto
from overparam.state import State
from overparam.trajectory import DRIVERS, Trajectory

__all__ = ["Verification", "repeat", "verify"]

_NUDGE = 1e-15  # a few units in the last place of the deviations
_DOMINATES = 0.3  # rounding is named where it explains this part of the difference
_ROUNDING = 8 * np.finfo(np.float64).eps  # of the coordinates of a record: nudge, and the rounding of sums


@dataclass(frozen=True, eq=False)
class Verification:
    """How far a run moves when it is repeated at a smaller tolerance, and when its start is nudged by rounding.

    Attributes
    ----------
    steps, times : (T,) arrays
        The records that all runs have, by flow time.
    tol, verified_tol : float
        Tolerance of the run, and of its repetition.
    loss_difference, loss_bound : (T,) arrays
        Relative difference of the losses, and the run's own relative bound on its loss at its own parameters.
    params_difference : (T,) array
        Largest distance of a parameter vector from its repetition, relative to its distance from the target. A move within the
        rounding of the record's coordinates (8ε of the largest) counts relative to these: a parameter exactly on the target has no
        distance of its own.
    rounding_difference : (T,) array
        The same between the repetition and one whose start was moved by relative 1e-15 in every deviation from the mean.
    status : str
        Status of the repetition.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    >>> found = op.verify(op.gradient_descent(obj, [[2.0], [1.9]], step_size=0.1, steps=100))
    >>> found.tol, found.verified_tol, found.status
    (1e-08, 1e-10, 'completed')
    >>> bool((found.loss_difference < 1e-6).all())
    True
    """

    steps: np.ndarray
    times: np.ndarray
    tol: float
    verified_tol: float
    loss_difference: np.ndarray
    loss_bound: np.ndarray
    params_difference: np.ndarray
    rounding_difference: np.ndarray
    status: str

    @property
    def rounding_dominates(self) -> np.ndarray:
        """(T,) where the difference is rounding amplified by the dynamics rather than the rule's error."""
        return (self.params_difference > 1e-15) & (self.rounding_difference > _DOMINATES * self.params_difference)

    def summary(self) -> str:
        """A few lines of text."""
        worst = int(np.argmax(self.params_difference))
        lines = [f"repeated at tol {self.verified_tol:g} instead of {self.tol:g} ({self.status}):",
                 f"  parameters move by at most {self.params_difference[worst]:.1e} of their distance from the target, "
                 f"at step {self.steps[worst]}",
                 f"  loss moves by at most {self.loss_difference.max():.1e}; largest bound at given parameters {self.loss_bound.max():.1e}",
                 f"  deviations nudged by 1e-15 at the start move parameters by at most {self.rounding_difference.max():.1e}"]
        where = self.steps[self.rounding_dominates]
        if where.size:
            lines.append(f"  rounding through an unstable phase dominates at {where.size} of {len(self.steps)} records, "
                         f"steps {where[0]} to {where[-1]}")
        else:
            lines.append("  rounding dominates nowhere")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def verify(traj: Trajectory, *, factor: float = 100.0, progress: bool | None = None) -> Verification:
    """Repeat a run at its tolerance divided by `factor`, and again from a start nudged by rounding; report how far it moves.

    Parameters
    ----------
    traj : Trajectory
        A run under ``Auto``, from its first step.
    factor : float
        Above 1.
    progress : bool, optional
        As in the drivers.

    Returns
    -------
    Verification

    Raises
    ------
    ValueError
        If the run was not made under ``Auto``, draws at random (``op.sgd``), was sampled because its tolerance could not be met, its
        driver or objective is not known, or `factor` is not above 1.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    >>> traj = op.gradient_descent(obj, [[2.0], [1.9]], step_size=0.1, steps=100)
    >>> bool(op.verify(traj).params_difference.max() < 1e-7)
    True
    """
    finer = _finer(traj, factor)
    rule, objective = traj.objective.rule, traj.objective.with_rule(finer)
    state = traj.states[0]
    mean = state.deviations.mean(axis=0)
    nudged = state.moved(state.centre + np.exp(state.log_scale) * mean, (state.deviations - mean) * (1 + _NUDGE * _signs(state)))
    again, other = (_repeated(traj, objective, start, progress, factor) for start in (state, nudged))
    common = np.intersect1d(np.intersect1d(traj.times, again.times), other.times)
    at, at_again, at_other = (np.searchsorted(run.times, common) for run in (traj, again, other))
    loss, exact, bound = traj.loss[at], again.loss[at_again], traj.loss_error[at]
    with np.errstate(divide="ignore", invalid="ignore"):
        losses, bounds = np.abs(loss / exact - 1), bound / loss
    sampled = again.attributes.get("sampled_from_step")
    if sampled is not None:
        raise ValueError(f"the repetition at tol {finer.tol:g} had to be sampled from step {sampled} on: it is less exact than "
                         "the run. Use a smaller factor, or raise max_nodes")
    return Verification(
        steps=traj.steps[at], times=common, tol=rule.tol, verified_tol=finer.tol,
        loss_difference=np.where(loss == exact, 0.0, losses), loss_bound=np.nan_to_num(bounds, nan=0.0),
        params_difference=_differences(traj, at, again, at_again),
        rounding_difference=_differences(again, at_again, other, at_other), status=again.status)


def repeat(traj: Trajectory, factor: float = 100.0, *, progress: bool | None = None) -> Trajectory:
    """Return the same run again, from its first record, at its tolerance divided by `factor`.

    Parameters
    ----------
    traj, factor, progress
        As for :func:`verify`.

    Returns
    -------
    Trajectory
        With the same records.

    Raises
    ------
    ValueError
        As :func:`verify`.
    KeyboardInterrupt
        On Ctrl-C: half a repetition says nothing.

    Examples
    --------
    >>> import overparam as op
    >>> from overparam.verification import repeat
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]), rule=op.Auto(tol=1e-8))
    >>> again = repeat(op.gradient_descent(obj, [[2.0], [1.9]], step_size=0.1, steps=100), factor=100.0, progress=False)
    >>> again.objective.rule.tol
    1e-10
    """
    finer = _finer(traj, factor)
    return _repeated(traj, traj.objective.with_rule(finer), traj.states[0], progress, factor)


def _finer(traj: Trajectory, factor: float) -> Auto:
    """The run's rule with its tolerance divided; ValueError where there is none."""
    if not check_real(factor, "factor") > 1:
        raise ValueError(f"factor must be above 1, or the repetition is no finer than the run; got {factor!r}")
    if not isinstance(traj, Trajectory):
        raise ValueError(f"traj must be an overparam.Trajectory; got {traj!r}"[:300])
    rule = getattr(traj.objective, "rule", None)
    if not isinstance(rule, Auto):
        used = f"this one used {rule!r}"
        if rule is None:
            used = "its objective is not known here" if traj.objective is None else f"{type(traj.objective).__name__} has no rule"
        raise ValueError(f"verify needs a run under op.Auto, which has a tolerance to divide; {used}")
    if traj.driver not in DRIVERS:
        raise ValueError(f"the driver {traj.driver!r} of this trajectory is not known here, so it cannot be repeated")
    if "rng" in traj.continuation:
        raise ValueError(f"a run of op.{traj.driver} draws at random: other draws move it by far more than a "
                         "tolerance. Repeat it with other seeds instead")
    sampled = traj.attributes.get("sampled_from_step")
    if sampled is not None:  # the repetition would draw the very same points, and agree with whatever they are wrong by
        raise ValueError(f"this run could not meet its tolerance and was sampled from step {sampled} on: a repetition would draw the same "
                         "points. Its losses carry standard errors (loss_error); to see how far the run depends on the draw, run it again "
                         "under a sampling rule with other seeds and more points, e.g. op.Sobol(2**18, rng=1)")
    return Auto(**{**rule.settings(), "tol": max(rule.tol / factor, 1e-14)})


def _signs(state: State) -> np.ndarray:
    """A fixed pattern of ±1, one for each coordinate."""
    return np.random.default_rng(0).choice([-1.0, 1.0], size=state.deviations.shape)


def _repeated(traj: Trajectory, objective: Any, start: State, progress: bool | None, factor: float) -> Trajectory:
    """The same run again under another objective, from `start`."""
    first = {name: getattr(traj, name)[:1] for name in ("steps", "times", "loss", "loss_error", "grad_norm")}
    if traj.weights is not None and traj.weights.ndim == 2:
        first["weights"] = traj.weights[:1]
    beginning = replace(traj, **first, centres=start.centre[None], deviations=start.deviations[None],
                        log_scales=np.array([start.log_scale]), observed={}, objective=objective, problem=objective.describe(),
                        status="completed")
    places: Any
    if "t_end" in traj.settings:  # a flow has a tolerance of its own
        places, length = traj.times, {"t_end": float(traj.times[-1]), "rtol": max(traj.settings["rtol"] / factor, 1e-13)}
    else:
        places, length = traj.steps, {"steps": int(traj.steps[-1] - traj.steps[0])}
    # the very records of the run: one that was extended has those of several schedules
    repeated = DRIVERS[traj.driver](beginning, **length, record=Listed(places), progress=progress)
    if repeated.status == "interrupted":  # half a repetition verifies nothing
        raise KeyboardInterrupt
    return repeated


def _differences(one: Trajectory, records_one: np.ndarray, two: Trajectory, records_two: np.ndarray) -> np.ndarray:
    """(R,) largest relative distance of parameter vectors, in the common reduced coordinates (origin: the target)."""
    found = np.zeros(len(records_one))
    for place, (first, second) in enumerate(zip(records_one, records_two, strict=True)):
        deviations = [run.deviations[record] * np.exp(run.log_scales[record]) for run, record in ((one, first), (two, second))]
        apart = one.centres[first] - two.centres[second] + (deviations[0] - deviations[1])
        size = np.linalg.norm(two.centres[second] + deviations[1], axis=1)
        distance, largest = np.linalg.norm(apart, axis=1), size.max()
        size = np.where(distance <= _ROUNDING * largest, largest, size)
        found[place] = np.where(distance > 0, distance / np.maximum(size, 1e-300), 0.0).max()
    return found
