"""Loss curves of four-layer factorization: the identity and another target, complex and real factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import factors, init, plotting
from overparam._validation import check_array, check_choice, check_integer, check_positive, check_real
from overparam.drivers import gradient_descent
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import RunsResult, one_by_one
from overparam.objectives import MatrixFactorization
from overparam.theory.luo2025.determinant import least_loss
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["ConvergenceResult", "Run", "convergence"]

NAME = "luo2025.convergence"
PAPER = "arXiv 2511.09925"
STARTS: dict[str, Callable[..., np.ndarray]] = {"balanced": init.balanced_gaussian, "gaussian": init.small_gaussian}
KINDS = {"complex": ("complex", plotting.COLOURS[0]), "positive": (r"$\det W>0$", plotting.COLOURS[1]),
         "negative": (r"$\det W<0$", plotting.COLOURS[2])}
CONVERGED = 1e-6
_FLOOR = 1e-10  # of the picture


@dataclass(frozen=True, eq=False)
class Run:
    """One start.

    Attributes
    ----------
    target : str
        "identity" or "other".
    kind : str
        "complex", or the sign of the determinant of the start's product: "positive", "negative".
    trajectory : Trajectory
    """

    target: str
    kind: str
    trajectory: Trajectory

    @property
    def converged(self) -> bool:
        """Whether the last loss is below 1e-6."""
        return bool(self.trajectory.loss[-1] < CONVERGED)


@dataclass(frozen=True, eq=False)
class ConvergenceResult(RunsResult):
    """Result of :func:`convergence`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def of(self, target: str, *kinds: str) -> tuple[Run, ...]:
        """The runs to one target of some kinds."""
        return tuple(run for run in self.runs if run.target == target and run.kind in kinds)

    def target(self, name: str) -> np.ndarray:
        """(d,) diagonal of a target."""
        other = np.array(self.settings["target"])
        return np.ones(len(other)) if name == "identity" else other

    def figure(self) -> Figure:
        """Return the picture: the losses of all runs, targets in rows, complex and real factors in columns."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.4, 6.2), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        for row, target in zip(axes, ("identity", "other")):
            named = "identity" if target == "identity" else f"diag({', '.join(f'{one:g}' for one in self.target(target))})"
            for ax, kinds in zip(row, (("complex",), ("positive", "negative"))):
                for kind in kinds:
                    self._draw(ax, target, kind)
                if "negative" in kinds:
                    bound = float(least_loss(np.diag(self.target(target))))
                    ax.axhline(bound, color="black", linestyle="--", linewidth=0.9,
                               label=rf"$\frac{{1}}{{2}}\sigma_{{\min}}(\Sigma)^2={bound:g}$")
                ax.set_title(f"target {named}, {'complex' if 'complex' in kinds else 'real'} factors", fontsize="medium")
                if ax.get_legend_handles_labels()[0]:
                    ax.legend(frameon=False, fontsize="small", loc="lower left", handlelength=1.6, title="runs that converge",
                              title_fontsize="small", alignment="left")
            row[0].set_ylabel("loss $L$")
        for ax in axes.ravel():
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_xlim(1, max(self.settings["steps"], 2))
            ax.set_ylim(_FLOOR, 30 * max(float((self.target(name) ** 2).sum()) for name in ("identity", "other")))
        for ax in axes[1]:
            ax.set_xlabel("step")
        plotting.finish(axes.ravel())
        return figure

    def _draw(self, ax: Axes, target: str, kind: str) -> None:
        label, colour = KINDS[kind]
        runs = self.of(target, kind)
        done = sum(run.converged for run in runs)
        for number, run in enumerate(runs):
            later = run.trajectory.steps > 0
            ax.plot(run.trajectory.steps[later], run.trajectory.loss[later], color=colour, linewidth=1.1, alpha=0.8,
                    label=f"{label}: {done} of {len(runs)}" if number == 0 else None)

    def to_xarray(self) -> Dataset:
        """Return the losses over run and step; NaN where a run ended early."""
        import xarray

        steps = max((run.trajectory for run in self.runs), key=len).steps
        loss = np.full((2, len(self.runs), len(steps)), np.nan)
        for row, run in enumerate(self.runs):
            kept, own = np.isin(steps, run.trajectory.steps), np.isin(run.trajectory.steps, steps)
            loss[0, row, kept], loss[1, row, kept] = run.trajectory.loss[own], run.trajectory.loss_error[own]
        data: dict[str, Any] = {"loss": (("run", "step"), loss[0]), "loss_error": (("run", "step"), loss[1]),
                                "target": ("run", [run.target for run in self.runs]), "kind": ("run", [run.kind for run in self.runs]),
                                "status": ("run", [run.trajectory.status for run in self.runs])}
        return xarray.Dataset(data, coords={"step": steps}, attrs={**self.attributes(), "paper": PAPER})

    def summary(self) -> str:
        """Return a table with a row for each target and kind."""
        lines = [self.heading, "", f"{'target':<10} {'starts':<16} {'converged':>10}  {'last losses':<24} {'bound':>8}"]
        for target in ("identity", "other"):
            for kind, name in (("complex", "complex"), ("positive", "real, det W > 0"), ("negative", "real, det W < 0")):
                runs = self.of(target, kind)
                if not runs:
                    continue
                last = np.array([run.trajectory.loss[-1] for run in runs])
                bound = f"{least_loss(np.diag(self.target(target))):8.4g}" if kind == "negative" else f"{'-':>8}"
                lines.append(f"{target:<10} {name:<16} {f'{sum(run.converged for run in runs)} of {len(runs)}':>10}  "
                             f"{f'{last.min():.3g} to {last.max():.3g}':<24} {bound}")
        lines += [f"{run.target}, {run.kind}: {run.trajectory.status}: {run.trajectory.message}" for run in self.runs
                  if run.trajectory.status not in ("completed", "interrupted")]
        lines += ["", f"converged: last loss below {CONVERGED:g}; the rest is still on a plateau, for a time or for ever.",
                  "bound: below it no real product of negative determinant has its loss; balanced ones keep their sign."]
        if self.settings["start"] == "gaussian":
            lines += ["These starts are not balanced: the determinant of a real product may change its sign."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _checked(target: Any, start: Any, samples: Any, scale: Any, step_size: Any, balance: Any, steps: Any, seed: Any, records: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    sizes = check_array(target, "target", ndim=1)
    if not (sizes > 0).all():
        raise ValueError(f"target must be singular values above 0; got {target!r}")
    return {"target": tuple(sizes.tolist()), "start": check_choice(start, "start", STARTS),
            "samples": check_integer(samples, "samples", minimum=1), "scale": check_positive(scale, "scale"),
            "step_size": check_positive(step_size, "step_size"), "balance": check_real(balance, "balance", minimum=0.0),
            "steps": check_steps(steps), "seed": check_integer(seed, "seed", minimum=0),
            "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=ConvergenceResult)
def convergence(target: Sequence[float] = (1.5, 1.0, 0.5), start: str = "balanced", samples: int = 12, scale: float = 0.4,
                step_size: float = 0.03, balance: float = 1.0, steps: int = 30_000, seed: int = 0, records: int = 300,
                progress: bool | None = None) -> ConvergenceResult:
    r"""Losses of four-layer factorization to the identity and to another target: complex factors converge, real ones in half of the cases.

    Gradient descent from `samples` complex and as many real random starts for each target; the real ones by the sign of their determinant.
    Dashed: :math:`\frac12\sigma_{\min}(\Sigma)^2`, below which no real product of negative determinant has its loss.

    Parameters
    ----------
    target : sequence of float
        Singular values of the other target; their number is d.
    start : {"balanced", "gaussian"}
        Starts of ``init.balanced_gaussian`` or ``init.small_gaussian``. The latter may change their sign.
    samples : int
    scale : float
        :math:`\epsilon`.
    step_size : float
    balance : float
        a.
    steps : int
    seed : int
    records : int
        Evenly spaced in the logarithm of the step.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    ConvergenceResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Luo et al. 2025, arXiv 2511.09925, Figures 1 and 2 [published: identity and other targets; their settings are not known].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("luo2025.convergence", samples=3, steps=2_000, records=50)
    >>> len(result.runs), any(run.converged for run in result.of("identity", "negative"))
    (12, False)
    """
    settings = _checked(target, start, samples, scale, step_size, balance, steps, seed, records, progress)
    d, tasks = len(settings["target"]), []
    for name in ("identity", "other"):
        for complex in (True, False):
            tasks += [(f"in run {place} to the {name} target", (name, complex, place)) for place in range(settings["samples"])]

    def work(name: str, complex: bool, place: int) -> Run:
        matrix = np.eye(d) if name == "identity" else np.diag(settings["target"])
        rng = np.random.default_rng([settings["seed"], int(complex), place])
        first = STARTS[settings["start"]](4, d, settings["scale"], rng, complex)
        kind = "complex" if complex else "negative" if factors.determinant_sign(first) < 0 else "positive"
        return Run(name, kind, gradient_descent(MatrixFactorization(matrix, balance=settings["balance"]), first,
                                                step_size=settings["step_size"], steps=settings["steps"],
                                                record=log_spaced(settings["records"]), progress=progress))

    runs, where = one_by_one(work, tasks)
    return ConvergenceResult(NAME, settings, runs, stopped=where)
