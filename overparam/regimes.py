"""What a run did: which parameters converge to the target, which diverge, which are undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_array

if TYPE_CHECKING:
    from collections.abc import Callable

    from overparam.trajectory import Trajectory

__all__ = ["Regime", "classify", "count", "distances", "outward_speed", "until_decided"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


# Inside the unit ball about the target the sum of squared distances cannot grow under gradient flow:
# sum_i <grad_i, mu_i> >= 2 E[|v|^2 (1 - |v|^2)] >= 0 as soon as every |mu_i| <= 1.
NEAR = 1.0
# Zhang et al. 2025, Theorem 3.1: two parameters at +-s and the others on the target are stationary at s = 2.5508 for n = 3 (2.67 for
# n = 5, 2.89 for n = 10). Outside, the pair runs away; inside, it comes back.
FAR = 2.55055099
# A drift is told from standing still if it has at least this share of the slowest speed that the late law allows.
SHARE = 0.1
# Distances are wrong by some ulps of the coordinates; this many are taken for standing still.
_FLOW_FLOOR = 1e-8  # times sqrt(rtol): what a flow may leave of a near parameter's distance (1e-9 sqrt(rtol) a step, of 20)
_ROUNDINGS = 64
_STANDING = 1e3  # distance from which on the late law's speed is 0 in float64


@dataclass(frozen=True)
class Regime:
    """What a run did, parameter by parameter.

    Attributes
    ----------
    name : str
        "all converge", "k converge" (k = 2 ... n-1, written as the number), "one converges", "none converge", or "undecided" as soon as
        one parameter is.
    converged, diverged, undecided : tuple of int
        Indices of the parameters.
    reason : str
        What the verdict rests on, in numbers; for undecided parameters also why, and what would decide.
    horizon : float or None
        Flow time at which the undecided ones are expected to be decided, at their present motion; None where nothing is undecided, or
        no longer run would help.

    Examples
    --------
    >>> import overparam as op
    >>> flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[2.5], [3.1], [3.0], [2.55], [2.9]], t_end=1e3, rtol=1e-6)
    >>> found = op.regimes.classify(flow)
    >>> found.name, found.converged, found.diverged
    ('2 converge', (0, 3), (1, 2, 4))
    """

    name: str
    converged: tuple[int, ...]
    diverged: tuple[int, ...]
    undecided: tuple[int, ...]
    reason: str
    horizon: float | None = None

    @property
    def k(self) -> int | None:
        """Number of parameters that converge; None while one is undecided."""
        return None if self.undecided else len(self.converged)


def classify(traj: Trajectory, target: Any = None) -> Regime:
    r"""Say which parameters of a score-matching run converge to a single Gaussian target and which diverge.

    Let :math:`r_i(t)=\|\mu_i-\mu^*\|`, and look at the last e-fold of flow time: from the last record at or before
    :math:`t_{end}/e` to the end.

    * A parameter *converges* if :math:`r_i\le 1` throughout and the sum of squares of all that do is smaller at the end than
      at the start. Within the unit ball that sum cannot grow under gradient flow, so this is a state that lasts. The sum and
      not each distance: a parameter may pass through the target and swing back.
    * A parameter *diverges* if :math:`r_i > 2.5508` throughout, it never comes back, and it moves outwards at least at a tenth of the
      slowest speed that the law of a far parameter allows, :math:`\dot r = 2\pi_i\sqrt{\pi/8}\,\frac{r^2}{4}e^{-r^2/8}`, or that law
      is slower than float64 can show. 2.5508 is the distance of the saddle of Theorem 3.1 for n = 3, the
      smallest there is; the speed is asked for because the pair of that theorem stands still, wherever n puts it.
    * All others are *undecided*. A run that ended ``unstable`` or ``failed`` is undecided as a whole: what its last
      records show is the step size, not the loss.

    Parameters
    ----------
    traj : Trajectory
        A run on a single Gaussian target.
    target : (d,) array, optional
        The target's mean. None asks the trajectory's objective, or its description in a loaded file.

    Returns
    -------
    Regime
        Name, indices and reason.

    Raises
    ------
    ValueError
        If the target is not a single Gaussian of identity covariance, or `target` is not a vector of the parameters' dimension.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorems 3.1, 3.2, 3.4 and 3.5.

    Examples
    --------
    >>> import overparam as op
    >>> objective = op.ScoreMatching(op.Gaussian(mean=[0.0]))
    >>> run = op.gradient_descent(objective, [[0.3], [0.2], [-0.4]], step_size=0.05, steps=400)
    >>> regime = op.regimes.classify(run)
    >>> regime.name, regime.converged
    ('all converge', (0, 1, 2))
    """
    _recorded(traj, "problem", "status", "times")
    if target is None and ((traj.problem or {}).get("teacher") or {}).get("covariance") is not None:
        raise ValueError("traj is a run against a Gaussian with a covariance, whose parameters need not come to its mean: the criteria of "
                         "classify do not hold there. Use regimes.distances, or pass target= to apply them all the same")
    radius = distances(traj, target)
    n = radius.shape[1]
    everyone = tuple(range(n))
    if traj.status in ("unstable", "failed"):
        cure = "; a smaller step size would decide" if traj.status == "unstable" else ""
        return Regime("undecided", (), (), everyone, f"the run ended {traj.status}: its motion is the step size's, not the loss's{cure}")
    times = np.asarray(traj.times, dtype=np.float64)
    end = float(times[-1])
    if times.size < 2 or end <= 0:
        return Regime("undecided", (), (), everyone, "no flow time has passed")
    first, stretch = _last_e_fold(times, radius)
    rounding = _ROUNDINGS * np.finfo(np.float64).eps * _scale(traj)
    settings = getattr(traj, "settings", {})
    if "rtol" in settings:  # a flow follows a parameter near the target, beside far ones, to this part of their distance
        rounding = max(rounding, _FLOW_FLOOR * np.sqrt(settings["rtol"]) * _scale(traj))
    weights: Any = np.full(n, 1 / n) if traj.weights is None else traj.final_weights
    converged, diverged = _verdicts(times[first:], stretch, weights, rounding)
    groups = [tuple(np.flatnonzero(mask).tolist()) for mask in (converged, diverged, ~(converged | diverged))]
    reason, horizon = _reason(groups, stretch, times[first], end), None
    if groups[2]:
        why, horizon = _outlook(times[first:], stretch[:, list(groups[2])], rounding)
        reason = f"{reason}: {why}"
    near, far, open_ = groups
    return Regime(_name(n, near, far, open_), near, far, open_, reason=reason, horizon=horizon)


def count(traj: Trajectory, target: Any = None) -> int | None:
    """Return how many parameters converge; None while one is undecided.

    Parameters
    ----------
    traj, target
        As in :func:`classify`.

    Returns
    -------
    int or None

    Examples
    --------
    >>> import overparam as op
    >>> objective = op.ScoreMatching(op.Gaussian(mean=[0.0]))
    >>> flow = op.gradient_flow(objective, [[2.5], [3.1], [3.0], [2.55], [2.9]], t_end=1e3, rtol=1e-6)
    >>> op.regimes.count(flow)
    2
    """
    return classify(traj, target).k


def until_decided(target: Any) -> Callable[[Any], bool]:
    r"""Return a stop test for a driver's ``stop=``: it holds as soon as every parameter converges or diverges.

    The criteria are those of :func:`classify`, asked at every record for equal weights; records must not be so rare that an e-fold
    of flow time holds less than three of them. Make a new test for each run.

    Parameters
    ----------
    target : (d,) array
        The mean of the single Gaussian target.

    Returns
    -------
    callable
        ``stop(record) -> bool``.

    Raises
    ------
    ValueError
        If `target` is not a vector.

    Examples
    --------
    >>> import overparam as op
    >>> objective = op.ScoreMatching(op.Gaussian(mean=[0.0]))
    >>> flow = op.gradient_flow(objective, [[1.5], [0.2]], t_end=1e9, stop=op.regimes.until_decided([0.0]))
    >>> flow.status, bool(flow.times[-1] < 100), op.regimes.classify(flow).name
    ('converged', True, 'all converge')
    """
    target = check_array(target, "target", ndim=1)
    times: list[float] = []
    radii: list[np.ndarray] = []

    def decided(record: Any) -> bool:
        if times and record.time <= times[-1]:  # another run
            times.clear()
            radii.clear()
        params = np.asarray(record.params)
        times.append(float(record.time))
        radii.append(np.linalg.norm(params - target, axis=1))
        if times[-1] <= 0 or times[0] > times[-1] / math.e:
            return False
        so_far = np.array(times)
        first, stretch = _last_e_fold(so_far, np.array(radii))
        n = stretch.shape[1]
        rounding = _ROUNDINGS * np.finfo(np.float64).eps * (1.0 + float(np.abs(params).max()))
        converged, diverged = _verdicts(so_far[first:], stretch, np.full(n, 1 / n), rounding)
        return bool((converged | diverged).all())

    return decided


def distances(traj: Trajectory, target: Any = None) -> np.ndarray:
    r"""Return :math:`\|\mu_i-\mu^*\|` at every record.

    The norms are taken in the reduced coordinates: a run in a million dimensions is not expanded.

    Parameters
    ----------
    traj : Trajectory
        A run on a single Gaussian target.
    target : (d,) array, optional
        The target's mean. None asks the trajectory's objective or its description.

    Returns
    -------
    (T, n) array
        Distances, one row for each record.

    Raises
    ------
    ValueError
        If the target is not a single Gaussian, or `target` is not a vector of the parameters' dimension.

    Examples
    --------
    >>> import overparam as op
    >>> objective = op.ScoreMatching(op.Gaussian(mean=[1.0, 0.0]))
    >>> run = op.gradient_descent(objective, [[1.0, 3.0]], step_size=0.25, steps=1)
    >>> op.regimes.distances(run).ravel().tolist()
    [3.0, 1.5]
    """
    _recorded(traj, "centres", "deviations", "basis", "origin")
    target = _target_mean(_recorded(traj, "objective", "problem")) if target is None else check_array(target, "target", ndim=1)
    centres, deviations = np.asarray(traj.centres), _deviations(traj)
    dimension = centres.shape[1] if traj.basis is None else traj.basis.shape[0]
    if target.shape != (dimension,):
        raise ValueError(f"target must have the parameters' {dimension} coordinate(s); got shape {target.shape}")
    shift = -target if traj.origin is None else traj.origin - target
    outside = 0.0  # the part of the shift that the reduced coordinates cannot reach
    if traj.basis is not None:
        inside = traj.basis.T @ shift
        outside = math.hypot(*(shift - traj.basis @ inside))  # scaled: squares may overflow
        shift = inside
    offset = (centres + shift)[:, None, :] + deviations  # shift first: it cancels the centre, not the deviation
    peak = np.abs(offset).max(axis=2)
    peak = np.where(peak > 0, peak, 1.0)
    within = peak * np.linalg.norm(offset / peak[:, :, None], axis=2)  # scaled: 1e-200 squared would be 0
    found: np.ndarray = within if outside == 0.0 else np.hypot(within, outside)
    return found


def outward_speed(radius: Any, weight: Any = 0.5) -> np.ndarray:
    r"""Return the speed :math:`2\pi_i\sqrt{\pi/8}\,\frac{r^2}{4}\,e^{-r^2/8}` at which a far parameter at least moves away in the end.

    For one far and one near parameter of equal weight, :math:`\pi_i=1/2`, it is the speed itself at large r:
    :math:`L\simeq\sqrt{\pi/8}\,r\,e^{-r^2/8}` and :math:`\dot r=-\partial_r L`. One of several far parameters at one place, of total
    weight :math:`\pi_{far}` beside near ones of total weight :math:`\pi_0`, moves :math:`\pi_i/\sqrt{\pi_{far}\pi_0}\ge 2\pi_i`
    times as fast.

    Parameters
    ----------
    radius : array
        Distances r from the target.
    weight : array, optional
        Mixture weights :math:`\pi_i`.

    Returns
    -------
    array
        Speeds in flow time, of the shape that the two have together.

    Raises
    ------
    ValueError
        If an argument holds anything but finite numbers, a weight is outside [0, 1], or their shapes do not fit each other.

    Examples
    --------
    >>> from overparam.regimes import outward_speed
    >>> bool(outward_speed(8.0) > outward_speed(9.0) > 0)
    True
    """
    anything = tuple(range(9))
    radius, weight = check_array(radius, "radius", ndim=anything, empty=True), check_array(weight, "weight", ndim=anything, empty=True)
    if ((weight < 0) | (weight > 1)).any():
        raise ValueError("weight must hold mixture weights, numbers from 0 to 1")
    try:
        np.broadcast_shapes(radius.shape, weight.shape)
    except ValueError:
        raise ValueError(f"radius and weight must have shapes that fit each other; got {radius.shape} and {weight.shape}") from None
    return _late_speed(radius, weight)


def _late_speed(radius: np.ndarray, weight: np.ndarray) -> np.ndarray:
    radius = np.clip(radius, -_STANDING, _STANDING)
    found: np.ndarray = 2 * weight * np.sqrt(np.pi / 8) * (radius**2 / 4 * np.exp(-(radius**2) / 8))
    return found


def _last_e_fold(times: np.ndarray, radius: np.ndarray) -> tuple[int, np.ndarray]:
    """The last record at or before the end over e (0 if there is none), and the distances from there on."""
    before = np.flatnonzero(times <= times[-1] / math.e)
    first = int(before[-1]) if before.size else 0
    return first, radius[first:]


def _verdicts(times: np.ndarray, stretch: np.ndarray, weights: np.ndarray, rounding: float) -> tuple[Any, Any]:
    """Which parameters converge and which diverge, (n,) bool each, by the rules of :func:`classify`."""
    near = (stretch <= NEAR).all(axis=0)
    squares = (stretch[:, near] ** 2).sum(axis=1)
    shrinking = squares.size > 0 and bool(squares[-1] < squares[0] or squares[-1] <= stretch.shape[1] * rounding**2)
    law = _late_speed(stretch[-1], weights) * (times[-1] - times[0])
    gain = stretch[-1] - stretch[0]
    rising = (np.diff(stretch, axis=0) >= -rounding).all(axis=0)
    return near & shrinking, (stretch > FAR).all(axis=0) & rising & (gain >= SHARE * law - rounding)


def _outlook(times: np.ndarray, stretch: np.ndarray, rounding: float) -> tuple[str, float | None]:
    """Why the parameters of these columns are undecided, and when they will be if they go on as between the last two records."""
    end, now = float(times[-1]), stretch[-1]
    speed = (now - stretch[-2]) / (end - times[-2])
    still = np.abs(now - stretch[-2]) <= rounding
    if still.any():
        return f"{np.count_nonzero(still)} still to rounding, as at a stationary point; another start would decide, not a longer run", None
    waiting = np.zeros(now.size)  # the flow time at which each will have settled for good
    for i, (r, v) in enumerate(zip(now, speed, strict=True)):
        settled = stretch[:, i] <= NEAR if r <= NEAR else (stretch[:, i] > FAR) & (np.append(np.diff(stretch[:, i]), v) > 0)
        if (r <= NEAR or r > FAR) and settled[-1] and (r > FAR or v < 0):
            outside = np.flatnonzero(~settled)
            waiting[i] = times[min(outside[-1] + 1, times.size - 1)] if outside.size else end
        elif v < 0:  # towards the target, like an exponential
            waiting[i] = end + max(np.log(r / NEAR) * r / -v, 0.0)
        else:
            waiting[i] = end + max(FAR - r, 0.0) / v
    horizon = float(max(math.e * waiting.max(), 1.1 * end))
    moving = {"on the way in": int(np.count_nonzero(speed < 0)), "on the way out": int(np.count_nonzero(speed > 0))}
    said = " and ".join(f"{number} {way}" for way, number in moving.items() if number)
    return f"{said}, not for an e-fold of time yet or too slowly; flow time {horizon:.3g} is expected to decide", horizon


def _recorded(traj: Any, *names: str) -> Any:
    """A run, or whatever has what is needed of one."""
    if not all(hasattr(traj, name) for name in names):
        raise ValueError(f"traj must be an overparam.Trajectory; got {traj!r}"[:300])
    return traj


def _target_mean(traj: Trajectory) -> np.ndarray:
    teacher = getattr(traj.objective, "teacher", None)
    described = (traj.problem or {}).get("teacher") or {}
    means = getattr(teacher, "means", described.get("mean"))
    means = None if means is None else np.atleast_2d(np.asarray(means, dtype=np.float64))
    if means is None or means.shape[0] != 1:
        raise ValueError("traj must be a run on a single Gaussian target; pass target= to measure from a point of your own")
    found: np.ndarray = means[0]
    return found


def _deviations(traj: Trajectory) -> np.ndarray:
    """(T, n, k) deviations with their scales multiplied out; 0 where they are below float64's range."""
    scales = getattr(traj, "log_scales", None)
    return traj.deviations if scales is None or not scales.any() else traj.deviations * np.exp(scales)[:, None, None]


def _scale(traj: Trajectory) -> float:
    """Size of the coordinates: what distances are rounded relative to."""
    parts = [traj.centres, _deviations(traj)] + ([] if traj.origin is None else [traj.origin])
    return 1.0 + max(float(np.abs(part).max()) for part in parts)


def _name(n: int, converged: tuple[int, ...], diverged: tuple[int, ...], undecided: tuple[int, ...]) -> str:
    if undecided:
        return "undecided"
    if len(converged) == n:
        return "all converge"
    return {0: "none converge", 1: "one converges"}.get(len(converged), f"{len(converged)} converge")


def _reason(groups: list[tuple[int, ...]], stretch: np.ndarray, start: float, end: float) -> str:
    converged, diverged, undecided = groups
    said = []
    if converged:
        largest = stretch[-1, list(converged)].max()
        said.append(f"{len(converged)} within {NEAR:g} of the target and closing in (largest distance {largest:.3g})")
    if diverged:
        smallest = stretch[-1, list(diverged)].min()
        said.append(f"{len(diverged)} beyond {FAR:.4g} and moving away (smallest distance {smallest:.4g})")
    if undecided:
        ends = stretch[-1, list(undecided)]
        span = f"{ends[0]:.4g}" if ends.size == 1 else f"{ends.min():.4g} to {ends.max():.4g}"
        said.append(f"{len(undecided)} neither (distance {span})")
    return f"over flow time {start:.3g} to {end:.3g}: " + "; ".join(said)
