"""Putting a run and its continuation together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from overparam.trajectory import Trajectory

__all__ = ["MOST_EXPANDED", "check_same_problem", "join"]

#: Parameters are expanded to the full space up to this many numbers (160 MB) without being asked.
MOST_EXPANDED = 20_000_000


def join(one: Trajectory, two: Trajectory) -> Trajectory:
    """Return `one` with its continuation `two`; see `Trajectory.joined`."""
    if type(two) is not type(one):
        raise ValueError(f"other must be an overparam.Trajectory; got {two!r}"[:300])
    if two.n != one.n or two.d != one.d or two.layout != one.layout:
        raise ValueError(f"other has {two.n} parameters in {two.d} dimension(s), this run {one.n} in {one.d}")
    if two.steps[0] != one.steps[-1]:
        raise ValueError(f"other begins at step {two.steps[0]}; it must begin at the last step here, {one.steps[-1]}")
    check_same_problem(one.problem, two.problem)
    first, second = (one, two) if _same_space(one, two) else (_in_full(one), _in_full(two))
    names = ("steps", "times", "loss", "loss_error", "grad_norm", "centres", "deviations", "log_scales")
    records: dict[str, Any] = {name: np.concatenate([getattr(first, name), getattr(second, name)[1:]]) for name in names}
    if one.weights is not None and two.weights is not None and 2 in (one.weights.ndim, two.weights.ndim):
        parts = [np.broadcast_to(weights, (len(run), run.n)) for run, weights in ((one, one.weights), (two, two.weights))]
        records["weights"] = np.concatenate([parts[0], parts[1][1:]])
    observed = {name: _joined_observation(name, one, two) for name in {**one.observed, **two.observed}}
    pieces = one.attributes.get("pieces", [{"from_step": int(one.steps[0]), "settings": one.settings}])
    later = two.attributes.get("pieces", [{"from_step": int(two.steps[0]), "settings": two.settings}])
    return replace(
        two,
        **records,
        basis=second.basis,
        origin=second.origin,
        observed=observed,
        evaluations=one.evaluations + two.evaluations,
        wall_time=one.wall_time + two.wall_time,
        attributes={**one.attributes, **two.attributes, "pieces": [*pieces, *later]},
    )


def check_same_problem(one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    """Two descriptions must agree, but for the rule: going on with another tolerance is allowed."""
    for name in {**one, **two} if one and two else ():
        if name != "rule" and one.get(name) != two.get(name):
            was, now = (repr(problem.get(name))[:150] for problem in (one, two))
            raise ValueError(f"the objective differs from the one of this trajectory: {name} is {now}, was {was}")


def _same_space(one: Trajectory, two: Trajectory) -> bool:
    pairs: tuple[tuple[Any, Any], ...] = ((one.basis, two.basis), (one.origin, two.origin))
    return all((a is None) == (b is None) and (a is b or np.array_equal(a, b)) for a, b in pairs)


def _in_full(run: Trajectory) -> Trajectory:
    """The run without basis and origin: the centres take the origin, the deviations stay apart."""
    if run.basis is None and run.origin is None:
        return run
    if len(run) * run.n * run.d > MOST_EXPANDED:
        raise ValueError(
            f"the pieces live in different bases, and {len(run)} records of {run.n} parameters in {run.d} dimensions "
            f"are too many to expand (more than {MOST_EXPANDED:g} numbers)"
        )
    centres = run.centres if run.basis is None else run.centres @ run.basis.T
    deviations = run.deviations if run.basis is None else run.deviations @ run.basis.T
    return replace(
        run,
        centres=centres if run.origin is None else centres + run.origin,
        deviations=deviations,
        basis=None,
        origin=None,
    )


def _joined_observation(name: str, one: Trajectory, two: Trajectory) -> np.ndarray:
    parts: list[Any] = [run.observed.get(name) for run in (one, two)]
    present = next(part for part in parts if part is not None)
    parts = [np.full((len(run), *present.shape[1:]), np.nan) if part is None else part for run, part in zip((one, two), parts, strict=True)]
    if parts[0].shape[1:] != parts[1].shape[1:]:
        raise ValueError(f"observed[{name!r}] has shape {parts[1].shape[1:]} per record; before it had {parts[0].shape[1:]}")
    return np.concatenate([parts[0], parts[1][1:]])
