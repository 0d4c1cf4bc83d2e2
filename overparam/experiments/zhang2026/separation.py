"""Two components a given distance apart, learned by hybrid EM in few and in many dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.result import ExperimentResult
from overparam.experiments.settings import check_several
from overparam.experiments.zhang2026.separation_runs import ACTIVE, Run, by_batches, collapse_constant, population
from overparam.experiments.zhang2026.separation_views import draw
from overparam.planning import Auto
from overparam.sampling import Sobol
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["SeparationResult", "separation"]

NAME = "zhang2026.separation"
NEAR = 6.0  # distance of the true means in the first part [published: +-3 e_1]
EXACT = 3  # students up to which expectations are certified: they differ along two axes


@dataclass(frozen=True, eq=False)
class SeparationResult(ExperimentResult):
    """Result of :func:`separation`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Problem by problem, population before minibatch; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    runs: tuple[Run, ...]
    stopped: str = ""

    @property
    def reached(self) -> str:
        """Where Ctrl-C cut the experiment short, in words; empty if it ran to its end."""
        return self.stopped

    def finished(self) -> SeparationResult | None:
        """Return the result without the run that Ctrl-C cut short; None if no run came to its end."""
        whole = tuple(run for run in self.runs if run.status != "interrupted")
        return replace(self, runs=whole) if whole else None

    def of(self, method: str) -> list[Run]:
        """The runs by "population" or by "minibatch"."""
        return [run for run in self.runs if run.method == method]

    def figure(self) -> Figure:
        """Return the picture: see :func:`overparam.experiments.zhang2026.separation_views.draw`."""
        return draw(self.runs)

    def to_xarray(self) -> Dataset:
        """Return the data over run, record and student; NaN where there is none."""
        import xarray

        shape = len(self.runs), max((len(run.times) for run in self.runs), default=0)
        students = max((run.n for run in self.runs), default=0)
        fields = {name: np.full(shape, np.nan) for name in ("time", "loss", "loss_error")}
        places = {name: np.full((*shape, students), np.nan) for name in ("weight", "along", "across")}
        for row, run in enumerate(self.runs):
            for name, values in zip(fields, (run.times, run.loss, run.loss_error), strict=True):
                fields[name][row, :len(values)] = values
            for name, values in zip(places, (run.weights, run.along, run.across), strict=True):
                places[name][row, :len(values), :run.n] = values
        data: dict[str, Any] = {name: (("run", "record"), values) for name, values in fields.items()}
        data |= {name: (("run", "record", "student"), values) for name, values in places.items()}
        data |= {name: ("run", [getattr(run, name) for run in self.runs])
                 for name in ("d", "n", "separation", "method", "exact", "active", "status")}
        return xarray.Dataset(data, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each run."""
        lines = [f"{self.name}: " + ", ".join(f"{key}={value}" for key, value in self.settings.items()), "",
                 f"{'d':>8} {'Delta':>8} {'Delta/sqrt d':>12} {'n':>3}  {'expectations':<13}{'active':>6}  {'weight at +, -':<16}"
                 f"{'loss at the end':>20}  {'error':<17}heaviest at (x_1, |rest|)"]
        for run in self.runs:
            top = int(run.weights[-1].argmax())
            kind = "exact" if run.exact else "minibatch" if run.method == "minibatch" else "Sobol points"
            loss = "-" if np.isnan(run.loss[-1]) else f"{run.loss[-1]:.7g}"
            error = "" if np.isnan(run.loss[-1]) else f"{run.loss_error[-1]:.1g} ({'bound' if run.exact else 's.e.'})"
            lines.append(f"{run.d:8d} {run.separation:8.5g} {run.separation / math.sqrt(run.d):12.3g} {run.n:3d}  {kind:<13}"
                         f"{run.active:6d}  {'{:.3f}, {:.3f}'.format(*run.shares):<16}{loss:>20}  {error:<17}"
                         f"({run.along[-1, top]:.4g}, {run.across[-1, top]:.3g})")
            lost = _lost(run)
            if lost is not None:
                lines.append(f"  one side has no weight from t = {lost:.4g} on: a batch with few draws of a component, or none, can end "
                             "the students there")
            if run.status != "completed" or run.message.startswith("sampled"):
                lines.append(f"  {run.status}: {run.message}")
        lines += ["", "exact: every step's expectation to a proved bound, that of the loss beside it. s.e.: standard error.",
                  f"active: weight of at least {ACTIVE:g}. Weights at +, -: of the students on the side of each true mean (0.3, 0.7).",
                  f"Two students, one of each component, end as one if Delta/sqrt d < {math.sqrt(collapse_constant()):.3f} (large d)."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _lost(run: Run) -> float | None:
    """Flow time from which on the students on one side of a minibatch run have weight 0 to rounding; None elsewhere.

    A batch without a draw of a component leaves next to no weight to what stands there, and hybrid EM cannot give it back.
    """
    if run.method != "minibatch" or run.separation < math.sqrt(run.d) or not all(start.any() for start in _sides(run, 0)):
        return None
    gone = np.array([min(run.weights[record][side].sum() for side in _sides(run, 0)) < 1e-12 for record in range(len(run.times))])
    return float(run.times[len(gone) - gone[::-1].argmin()]) if gone[-1] else None


def _sides(run: Run, record: int) -> tuple[np.ndarray, np.ndarray]:
    """Which students are on the sides of the two true means."""
    return run.along[record] > 0, run.along[record] < 0


def _checked(d: Any, n: Any, step_size: Any, steps: Any, batch_size: Any, far_d: Any, far_n: Any, far_steps: Any, far_batch_size: Any,
             tol: Any, points: Any, seed: Any, records: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)

    def whole(value: Any, name: str) -> tuple[int, ...]:
        return check_several(value, name, "a whole number not below 2", lambda one: check_integer(one, name, minimum=2))

    return {"d": whole(d, "d"), "n": whole(n, "n"), "step_size": check_positive(step_size, "step_size"), "steps": check_steps(steps),
            "batch_size": check_integer(batch_size, "batch_size", minimum=1), "far_d": check_integer(far_d, "far_d", minimum=2),
            "far_n": whole(far_n, "far_n"), "far_steps": check_steps(far_steps),
            "far_batch_size": check_integer(far_batch_size, "far_batch_size", minimum=1),
            "tol": check_real(tol, "tol", minimum=1e-14, maximum=0.1), "points": check_integer(points, "points", minimum=32),
            "seed": check_integer(seed, "seed", minimum=0), "records": check_integer(records, "records", minimum=2)}


def _tasks(settings: dict[str, Any], progress: bool | None) -> list[tuple[str, Callable[[], Run]]]:
    """All runs, each with its name."""
    eta, seed, record = settings["step_size"], settings["seed"], log_spaced(settings["records"])
    far, sampled, exact = settings["far_d"], Sobol(settings["points"], rng=0), Auto(settings["tol"])
    problems = [(d, NEAR, n, settings["steps"], settings["batch_size"]) for d in settings["d"] for n in settings["n"]]
    problems += [(far, apart, n, settings["far_steps"], settings["far_batch_size"])
                 for apart in (far**0.45, 10 * far**0.5) for n in settings["far_n"]]
    tasks: list[tuple[str, Callable[[], Run]]] = []
    for d, apart, n, steps, batch in problems:
        rule, name = exact if n <= EXACT else sampled, f"d={d}, Delta={apart:.4g}, n={n}"
        tasks.append((f"{name}, population", lambda d=d, apart=apart, n=n, k=steps, rule=rule:  # type: ignore[misc]
                      population(d, apart, n, rule, sampled, eta, k, seed, record, progress)))
        tasks.append((f"{name}, minibatch",
                      lambda d=d, apart=apart, n=n, b=batch, k=steps:  # type: ignore[misc]
                      by_batches(d, apart, n, b, eta, k, seed, record)))
    return tasks


@register(NAME, check=_checked, result=SeparationResult)
def separation(d: Any = (10, 500), n: Any = (2, 3, 10), step_size: float = 0.05, steps: int = 1000, batch_size: int = 128,
               far_d: int = 1_000_000, far_n: Any = (2, 3), far_steps: int = 500, far_batch_size: int = 64, tol: float = 1e-8,
               points: int = 512, seed: int = 0, records: int = 30, progress: bool | None = None) -> SeparationResult:
    r"""Hybrid EM on two components: one student takes all where they are nearer than about √d, both are found where they are farther.

    Target: weights 0.3 and 0.7 at :math:`\pm\frac\Delta2e_1`; students start at draws from it, with equal weights. First part: n students,
    :math:`\Delta=6`, dimensions `d`. Second part: `far_n` students in dimension `far_d`, :math:`\Delta=d^{0.45}` and
    :math:`10\sqrt d`. Each problem is run with the population's expectation and, beside it, on fresh batches. Up to three students the
    expectation is certified, in any dimension: they differ along two axes. More are seen by scrambled Sobol points in the span of true
    means and start. Less than a minute.

    Parameters
    ----------
    d, n : int or sequence of int
        Dimensions and students of the first part.
    step_size : float
        :math:`\eta`.
    steps : int
        Steps of the first part.
    batch_size : int
        Draws a step of the first part's batches.
    far_d : int
        Dimension of the second part.
    far_n : int or sequence of int
        Its students.
    far_steps, far_batch_size : int
        Its steps, and draws a step.
    tol : float
        Relative tolerance of certified steps.
    points : int
        Sobol points for each component.
    seed : int
        Of starts and batches.
    records : int
        Records of each run, evenly spaced in the logarithm of the step.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SeparationResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    Notes
    -----
    The paper has n = 10 in the first part and 2 in the second, 2000 steps and batches of 8192 there, of 16 here; its theorems are about at
    least three components, these experiments have two. With seed 0 the first two students are drawn from different components: two from the
    same one cannot find both. In :math:`d=10^6` the smaller distance is :math:`0.501\sqrt d`, close to the constant 0.550 below which two
    students end as one. Batches move that constant with the shares that they see in the first twenty steps, so a run on them may end either
    way; and one batch without a draw of the lighter component, every 300th of 16 draws, ends its student for good at any distance.

    Batches are drawn in law (:mod:`overparam.experiments.zhang2026.batches`), certified expectations are those of each component alone
    (:mod:`overparam.objectives.student_axes`). A student that changes less than 1e-25 of anything under a component may be left out there;
    the bounds have what that costs.

    References
    ----------
    Zhang, Xu, Fazel, Zhou, Du 2026, experiments [published: target, n = 10 and 2, step size, distances, dimensions, steps]; that the
    population is seen without batches, and the constant of
    :func:`~overparam.experiments.zhang2026.separation_runs.collapse_constant` [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2026.separation", d=500, n=2, steps=40, batch_size=16, far_n=2, far_steps=40)
    >>> [(run.active, run.exact) for run in result.of("population")]
    [(1, True), (1, True), (2, True)]
    """
    settings = _checked(d, n, step_size, steps, batch_size, far_d, far_n, far_steps, far_batch_size, tol, points, seed, records, progress)
    runs: list[Run] = []
    where = "before any run"
    try:
        for name, work in _tasks(settings, progress):
            where = f"in the run {name}"
            runs.append(work())
            if runs[-1].status == "interrupted":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        if not runs:
            raise KeyboardInterrupt(where) from None
        return SeparationResult(NAME, settings, tuple(runs), where)
    return SeparationResult(NAME, settings, tuple(runs))
