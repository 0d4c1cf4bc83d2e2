"""How fast a run goes: local slopes of the loss, power laws fitted to a window of it, and comparison with a predicted law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_array, check_positive

if TYPE_CHECKING:
    from overparam.trajectory import Trajectory

__all__ = ["Comparison", "LocalSlope", "PowerLaw", "compare", "fit_power_law", "local_slope"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class LocalSlope:
    """The local log-log slope of a loss.

    Attributes
    ----------
    times : (K,) array
        Flow times of the records that have a logarithm: t > 0 and loss > 0.
    slope : (K,) array
        d ln L / d ln t there.

    Examples
    --------
    >>> import overparam as op
    >>> flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[0.9], [-0.8], [0.1]], t_end=1e8)
    >>> found = op.rates.local_slope(flow)
    >>> found.times.shape == found.slope.shape, round(float(found.slope[-1]), 3)
    (True, -2.0)
    """

    times: np.ndarray
    slope: np.ndarray


@dataclass(frozen=True)
class PowerLaw:
    r"""The law :math:`L = A\,t^p` that fits a window of a run best.

    Attributes
    ----------
    exponent : float
        :math:`p`.
    interval : (float, float)
        The 95 % interval of :math:`p` that a straight line with independent errors would have. The losses of an exact run
        carry no noise: what the residuals show is curvature, a slope that drifts through the window. So the interval
        says how straight the window is; it does not say where the exponent at infinite time lies.
    prefactor : float
        :math:`A`, at flow time 1.
    window : (float, float)
        Flow times of the first and the last record used.
    points : int
        Number of records used.

    Examples
    --------
    >>> import overparam as op
    >>> flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[0.9], [-0.8], [0.1]], t_end=1e8)
    >>> law = op.rates.fit_power_law(flow, window=(1e6, 1e8))
    >>> round(law.exponent, 3), round(law.prefactor, 2)       # n^2 / (64 t^2)
    (-2.0, 0.14)
    """

    exponent: float
    interval: tuple[float, float]
    prefactor: float
    window: tuple[float, float]
    points: int

    def __call__(self, times: Any) -> np.ndarray:
        """Return the law's loss at flow times `times`."""
        return self.prefactor * np.asarray(times, dtype=np.float64) ** self.exponent


@dataclass(frozen=True, eq=False)
class Comparison:
    r"""A loss against a predicted law.

    Attributes
    ----------
    times : (K,) array
        Flow times of the records in the window at which both have a logarithm.
    ratio : (K,) array
        Measured loss over the law's: 1 where the law holds.
    deviation : float
        Largest :math:`|\text{ratio}-1|`.
    drift : float
        Slope of ln(ratio) against ln t by least squares: measured exponent minus the law's. A law that is off by a constant has drift 0,
        one of another exponent has not.

    Examples
    --------
    >>> import overparam as op
    >>> flow = op.gradient_flow(op.ScoreMatching(op.Gaussian([0.0])), [[0.9], [-0.8], [0.1]], t_end=1e8)
    >>> found = op.rates.compare(flow, lambda t: 9 / (64 * t**2), window=(1e6, 1e8))
    >>> found.deviation < 1e-3, abs(found.drift) < 1e-3
    (True, True)
    """

    times: np.ndarray
    ratio: np.ndarray
    deviation: float
    drift: float

    @property
    def final(self) -> float:
        """Ratio at the last record."""
        return float(self.ratio[-1])


def local_slope(traj: Trajectory) -> LocalSlope:
    r"""Return :math:`d\ln L/d\ln t` at the records of a run.

    The slopes are differences of ln L, second order in ln t inside the run and one-sided at its ends. They come from the loss and
    not from :math:`-t\,\|\nabla L\|^2/L`, which magnifies whatever error the gradient has.

    Parameters
    ----------
    traj : Trajectory
        The run. Records with t = 0 or with a loss that is not above 0 have no logarithm and are left out.

    Returns
    -------
    LocalSlope
        `times` and `slope`, one entry for each record kept.

    Raises
    ------
    ValueError
        If `traj` has no times and loss, or fewer than two records are left.

    Examples
    --------
    A loss that halves whenever the time doubles has slope -1:

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> run = SimpleNamespace(times=np.array([0.0, 1.0, 2.0, 4.0]), loss=np.array([9.0, 8.0, 4.0, 2.0]))
    >>> from overparam.rates import local_slope
    >>> local_slope(run).slope.round(12).tolist()
    [-1.0, -1.0, -1.0]
    """
    times, loss = _logarithmic(traj)
    if times.size < 2:
        raise ValueError(f"traj has {times.size} record(s) with t > 0 and loss > 0; a slope needs at least 2")
    return LocalSlope(times=times, slope=np.gradient(np.log(loss), np.log(times)))


def fit_power_law(traj: Trajectory, window: tuple[float, float] | None = None) -> PowerLaw:
    r"""Fit :math:`\ln L = \ln A + p \ln t` by least squares over a window of flow time.

    Parameters
    ----------
    traj : Trajectory
        The run.
    window : (float, float), optional
        First and last flow time that count. None takes the last decade of the run.

    Returns
    -------
    PowerLaw
        Exponent, its 95 % interval (of a straight line: see :class:`PowerLaw`), prefactor, and the window as it was used.

    Raises
    ------
    ValueError
        If `traj` has no times and loss, `window` is not two flow times 0 < t0 < t1, or it holds fewer than three records with a
        positive loss.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> t = np.geomspace(1.0, 100.0, 21)
    >>> from overparam.rates import fit_power_law
    >>> law = fit_power_law(SimpleNamespace(times=t, loss=3.0 * t**-2.0), window=(10.0, 100.0))
    >>> round(law.exponent, 9), round(law.prefactor, 9), law.points
    (-2.0, 3.0, 11)
    """
    times, loss = _logarithmic(traj)
    start, stop = _window(window, times)
    inside = (times >= start * (1 - 1e-12)) & (times <= stop * (1 + 1e-12))  # a limit given as a decimal may miss by an ulp
    times, loss = times[inside], loss[inside]
    if times.size < 3:
        raise ValueError(f"window ({start:g}, {stop:g}) holds {times.size} record(s) with a positive loss; a fit with an "
                         "interval needs at least 3: widen the window or record more often")
    x, y = np.log(times), np.log(loss)
    centred = x - x.mean()
    exponent = float(centred @ y / (centred @ centred))
    intercept = float(y.mean() - exponent * x.mean())
    freedom = times.size - 2
    residual = y - intercept - exponent * x
    error = float(np.sqrt(residual @ residual / freedom / (centred @ centred)))
    half = _student_quantile(freedom) * error
    return PowerLaw(exponent=exponent, interval=(exponent - half, exponent + half), prefactor=float(np.exp(intercept)),
                    window=(float(times[0]), float(times[-1])), points=int(times.size))


def compare(traj: Trajectory, law: Any, window: tuple[float, float] | None = None) -> Comparison:
    """Compare the loss of a run with a predicted law over a window of flow time.

    Parameters
    ----------
    traj : Trajectory
        The run.
    law : callable or (T,) array
        The predicted loss: a function of an array of flow times, such as a :class:`PowerLaw`, or one value for each record of the run
        (NaN where it does not apply).
    window : (float, float), optional
        First and last flow time that count. None takes the last decade of the run.

    Returns
    -------
    Comparison
        Ratio at the records, largest relative deviation, drift.

    Raises
    ------
    ValueError
        If `traj` has no times and loss, `law` does not give one number for each record, `window` is not two flow times
        0 < t0 < t1, or it holds fewer than two records at which the loss and the law are above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> t = np.geomspace(1.0, 1e4, 41)
    >>> from overparam.rates import compare
    >>> found = compare(SimpleNamespace(times=t, loss=3.3 / t**2), lambda times: 3 / times**2, window=(100.0, 1e4))
    >>> round(found.deviation, 9), abs(round(found.drift, 9)), found.times.size
    (0.1, 0.0, 21)
    """
    times, loss = _recorded(traj)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # t = 0 is a record like any other
        predicted = law(times) if callable(law) else law
    try:
        predicted = np.asarray(predicted, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"law must give one loss for each of the {times.size} records; got {predicted!r}"[:300]) from None
    if predicted.shape != times.shape:
        raise ValueError(f"law must give one loss for each of the {times.size} records; got shape {predicted.shape}")
    kept = (times > 0) & (loss > 0) & np.isfinite(loss) & (predicted > 0) & np.isfinite(predicted)
    start, stop = _window(window, times[times > 0])
    kept &= (times >= start * (1 - 1e-12)) & (times <= stop * (1 + 1e-12))
    if np.count_nonzero(kept) < 2:
        raise ValueError(f"window ({start:g}, {stop:g}) holds {np.count_nonzero(kept)} record(s) at which loss and law are above 0; a "
                         "comparison needs at least 2")
    ratio, x = loss[kept] / predicted[kept], np.log(times[kept])
    centred = x - x.mean()
    return Comparison(times=times[kept], ratio=ratio, deviation=float(np.abs(ratio - 1).max()),
                      drift=float(centred @ np.log(ratio) / (centred @ centred)))


def _logarithmic(traj: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Times and losses of the records that have a logarithm."""
    times, loss = _recorded(traj)
    kept = (times > 0) & (loss > 0) & np.isfinite(loss)
    return times[kept], loss[kept]


def _recorded(traj: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """Times and losses of a run, or of anything that has both."""
    try:
        times, loss = traj.times, traj.loss
    except AttributeError:
        raise ValueError(f"traj must be an overparam.Trajectory, which has times and loss; got {traj!r}"[:300]) from None
    times, loss = check_array(times, "traj.times", ndim=1, empty=True), np.asarray(loss, dtype=np.float64)
    if loss.shape != times.shape:
        raise ValueError(f"traj.loss must have one entry for each of the {times.size} times; got shape {loss.shape}")
    return times, loss


def _window(window: tuple[float, float] | None, times: np.ndarray) -> tuple[float, float]:
    if window is None:
        if times.size == 0:
            raise ValueError("traj has no record with t > 0 and loss > 0: there is nothing to fit")
        return float(times[-1]) / 10, float(times[-1])
    try:
        start, stop = window
    except (TypeError, ValueError):
        raise ValueError(f"window must be two flow times (t0, t1); got {window!r}") from None
    start, stop = check_positive(start, "window[0]"), check_positive(stop, "window[1]")
    if start >= stop:
        raise ValueError(f"window must rise, t0 < t1; got ({start:g}, {stop:g})")
    return start, stop


def _student_quantile(freedom: int) -> float:
    from scipy.special import stdtrit  # loaded here: importing overparam stays light

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
