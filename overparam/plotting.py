"""Pictures of a run: functions of (trajectory, ax=None) that return the axes they drew on; and the finish of panels.

Without `ax` each makes a figure of its own, outside pyplot: nothing is left open and no display is needed. Colours are those of Okabe and
Ito, which stay apart for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import rates, regimes
from overparam._validation import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from overparam.trajectory import Trajectory

__all__ = ["COLOURS", "finish", "local_slope", "loss", "norms"]


def __dir__() -> list[str]:
    return sorted(__all__)  # what Tab shows


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

# What a run is drawn against: the records' values and the label of the axis.
_AXES: dict[str, tuple[Callable[[Any], np.ndarray], str]] = {
    "steps": (lambda traj: traj.steps, r"step $\tau$"),
    "time": (lambda traj: traj.times, r"flow time $t$"),
}
_DASHES = ("-", "--", ":")  # one for each round through the colours
_MANY = 8  # above this number of parameters a legend says less than it hides
_VISIBLE = 1e-3  # share of the loss below which an error band is thinner than the line


def norms(traj: Trajectory, ax: Axes | None = None, labels: Sequence[str] | bool | None = None, *, x: str = "steps",
          target: Any = None) -> Axes:
    r"""Draw :math:`\|\mu_i-\mu^*\|` for every parameter.

    Parameters that coincide are drawn as thinner lines on thicker ones, so that each can be seen.

    Parameters
    ----------
    traj : Trajectory
        A run on a single Gaussian target.
    ax : matplotlib Axes, optional
        Where to draw. None makes a figure.
    labels : sequence of n str, bool, optional
        Names for the legend. None and True take :math:`\mu_1\ldots\mu_n`, None only up to eight parameters; False leaves the legend out.
    x : {"steps", "time"}
        Horizontal axis: steps, or flow time.
    target : (d,) array, optional
        The point to measure from. None asks the trajectory for its target's mean.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If there is not one label per parameter, or the run has no single Gaussian target.

    Examples
    --------
    >>> import overparam as op
    >>> run = op.gradient_descent(op.ScoreMatching(op.Gaussian(mean=[0.0])), [[0.3], [-0.1]], step_size=0.1, steps=50)
    >>> ax = op.plotting.norms(run)
    >>> ax.get_xlabel(), len(ax.lines)
    ('step $\\tau$', 2)
    """
    radius = regimes.distances(traj, target)
    n = radius.shape[1]
    names = _labels(labels, n)
    ax = _axes(ax)
    values = _horizontal(ax, traj, x)
    widths = np.linspace(3.4, 1.0, n) if n > 1 else [1.6]
    for i in range(n):
        ax.plot(values, radius[:, i], color=COLOURS[i % len(COLOURS)], linestyle=_DASHES[i // len(COLOURS) % len(_DASHES)],
                linewidth=widths[i], solid_capstyle="butt", label=names[i] if names else None)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(r"distance $\|\mu_i-\mu^*\|$")
    if names:
        ax.legend(frameon=False, fontsize="small", handlelength=1.4)
    return ax


def loss(traj: Trajectory, ax: Axes | None = None, law: Any = None, *, x: str = "time") -> Axes:
    """Draw the loss, both axes logarithmic, with a band for its error where the eye can see one.

    Parameters
    ----------
    traj : Trajectory
        The run.
    ax : matplotlib Axes, optional
        Where to draw. None makes a figure.
    law : callable or (T,) array, optional
        A loss to compare with, dashed: a function of flow time, such as a :class:`~overparam.rates.PowerLaw`, or one value for each
        record (NaN where it does not apply).
    x : {"time", "steps"}
        Horizontal axis: flow time, or steps.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If `law` does not give one value for each record.

    Examples
    --------
    >>> import overparam as op
    >>> run = op.gradient_descent(op.ScoreMatching(op.Gaussian(mean=[0.0])), [[0.3], [-0.1]], step_size=0.1, steps=50)
    >>> ax = op.plotting.loss(run, law=op.rates.fit_power_law(run))
    >>> ax.get_yscale(), len(ax.lines)
    ('log', 2)
    """
    expected = None if law is None else _law_values(law, np.asarray(traj.times, dtype=np.float64))
    ax = _axes(ax)
    values = _horizontal(ax, traj, x)
    measured = _positive(traj.loss)
    ax.plot(values, measured, color=COLOURS[0], linewidth=1.6, label="loss")
    error = np.asarray(traj.loss_error, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        seen = error > _VISIBLE * measured
    if seen.any():
        low = np.maximum(measured - error, 1e-3 * measured)  # a band that reaches 0 would have no end on this axis
        ax.fill_between(values, low, measured + error, where=seen, color=COLOURS[0], alpha=0.25, linewidth=0, label="error")
    if expected is not None:
        ax.plot(values, _positive(expected), color="black", linestyle="--", linewidth=1.2, label="law")
        ax.legend(frameon=False, fontsize="small")
    if np.isfinite(measured).any():
        ax.set_yscale("log")
    ax.set_ylabel("loss $L$")
    return ax


def local_slope(traj: Trajectory, ax: Axes | None = None, *, x: str = "time") -> Axes:
    r"""Draw the local slope :math:`d\ln L/d\ln t` of the loss.

    Parameters
    ----------
    traj : Trajectory
        The run.
    ax : matplotlib Axes, optional
        Where to draw. None makes a figure.
    x : {"time", "steps"}
        Horizontal axis: flow time, or steps.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If fewer than two records have t > 0 and loss > 0.

    Examples
    --------
    >>> import overparam as op
    >>> run = op.gradient_descent(op.ScoreMatching(op.Gaussian(mean=[0.0])), [[0.3], [-0.1]], step_size=0.1, steps=50)
    >>> op.plotting.local_slope(run).get_xlabel()
    'flow time $t$'
    """
    slopes = rates.local_slope(traj)
    ax = _axes(ax)
    kept = np.isin(np.asarray(traj.times), slopes.times)
    values = _horizontal(ax, traj, x)[kept]
    ax.plot(values, slopes.slope, color=COLOURS[0], linewidth=1.6)
    ax.set_ylabel(r"slope $d\,\ln L\,/\,d\,\ln t$")
    return ax


def finish(panels: Iterable[Axes]) -> None:
    """Give the panels of a figure their letters a, b, c, ... in the order given, and take off what they do not need.

    Parameters
    ----------
    panels : iterable of matplotlib Axes
        After the 26th the letters begin again.

    Examples
    --------
    >>> import overparam as op
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots(1, 2)
    >>> op.plotting.finish(axes)
    >>> [ax.texts[0].get_text() for ax in axes]
    ['a', 'b']
    """
    for letter, ax in zip(cycle(ascii_lowercase), panels, strict=False):
        ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize="small")


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        if not hasattr(ax, "set_xscale"):
            raise ValueError(f"ax must be a matplotlib Axes, such as Figure().add_subplot(), or None for a new one; got {ax!r}"[:300])
        return ax
    from matplotlib.figure import Figure  # not pyplot, which would keep the figure alive

    return Figure(figsize=(3.5, 2.7), layout="constrained").add_subplot()


def _horizontal(ax: Axes, traj: Trajectory, x: str) -> np.ndarray:
    """Set up the horizontal axis and return the records' places on it; a log axis has none for step 0."""
    values_of, label = _AXES[check_choice(x, "x", _AXES)]
    try:
        values = np.asarray(values_of(traj), dtype=np.float64)
    except AttributeError:
        raise ValueError(f"traj must be an overparam.Trajectory; got {traj!r}"[:300]) from None
    if values[-1] > 0:
        ax.set_xscale("log")
        values = np.where(values > 0, values, np.nan)
    ax.set_xlabel(label)
    return values


def _positive(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.where(values > 0, values, np.nan)


def _labels(labels: Sequence[str] | bool | None, n: int) -> list[str]:
    if labels is False or (labels is None and n > _MANY):
        return []
    if labels is None or labels is True:
        return [rf"$\mu_{{{i + 1}}}$" for i in range(n)]
    names = [str(name) for name in labels]
    if len(names) != n:
        raise ValueError(f"labels must name each of the {n} parameters; got {len(names)}")
    return names


def _law_values(law: Any, times: np.ndarray) -> np.ndarray:
    if callable(law):
        with np.errstate(divide="ignore", invalid="ignore"):  # t = 0 is a record like any other
            law = law(times)
    values = np.asarray(law, dtype=np.float64)
    if values.shape != times.shape:
        raise ValueError(f"law must give one value for each of the {times.size} records; got shape {values.shape}")
    return np.where(np.isfinite(values), values, np.nan)
