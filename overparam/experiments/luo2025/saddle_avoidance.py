"""The three stages of four-layer factorization from small Gaussian factors: alignment, saddle avoidance, local convergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import factors, init, plotting
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_descent
from overparam.drivers.loop import check_progress, check_steps
from overparam.experiments.registry import register
from overparam.experiments.running import RunsResult, one_by_one
from overparam.objectives import MatrixFactorization
from overparam.trajectory import Trajectory, log_spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Run", "SaddleAvoidanceResult", "saddle_avoidance"]

NAME = "luo2025.saddle_avoidance"
PAPER = "arXiv 2511.09925"
KINDS = {"complex": "complex", "positive": r"real, $\det W>0$ at the start", "negative": r"real, $\det W<0$ at the start"}
ALIGNED = 0.01  # of its first value, to which the balance error has fallen where alignment is taken to end
SERIES = {"least": (r"least $\sigma_{\min}(W_j)$", plotting.COLOURS[0]), "largest": (r"largest $\sigma_{\max}(W_j)$", plotting.COLOURS[1]),
          "hermitian": (r"$\frac{1}{2}\,\sigma_{\min}(W_1+W_2^{-1}W_3^HW_4^H)$", plotting.COLOURS[2]),
          "skew": (r"$\Vert W_1-W_2^{-1}W_3^HW_4^H\Vert_F$", plotting.COLOURS[3])}


@dataclass(frozen=True, eq=False)
class Run:
    """One start.

    Attributes
    ----------
    kind : str
        "complex", "positive" or "negative": the sign of the determinant of a real start.
    trajectory : Trajectory
        With what was observed: ``extremes`` (T, 2), ``balance`` (T,), ``hermitian`` and ``skew`` (T,), ``sign`` (T,).
    """

    kind: str
    trajectory: Trajectory

    def series(self, name: str) -> np.ndarray:
        """(T,) one of the four curves."""
        seen = self.trajectory.observed
        return seen["extremes"][:, ("least", "largest").index(name)] if name in ("least", "largest") else seen[name]

    @property
    def aligned(self) -> float:
        """First recorded step at which the balance error is a hundredth of its first value; inf if none is."""
        return self._first(self.trajectory.observed["balance"] <= ALIGNED * self.trajectory.observed["balance"][0])

    @property
    def local(self) -> float:
        r"""First recorded step at which :math:`\sigma_{\min}(W_1+W_2^{-1}W_3^HW_4^H)\ge2^{3/4}`, as in Theorem 11; inf if none is."""
        return self._first(2 * self.trajectory.observed["hermitian"] >= 2**0.75)

    @property
    def turned(self) -> float:
        """First recorded step at which a real product's determinant has the other sign than at the start; inf if none has."""
        signs = self.trajectory.observed["sign"]
        return self._first(signs != signs[0]) if self.kind != "complex" else np.inf

    def _first(self, marks: np.ndarray) -> float:
        if self.trajectory.status in ("unstable", "failed"):
            return np.inf  # a run that blows up has no stages
        return float(self.trajectory.steps[np.argmax(marks)]) if marks.any() else np.inf


@dataclass(frozen=True, eq=False)
class SaddleAvoidanceResult(RunsResult):
    """Result of :func:`saddle_avoidance`.

    Attributes
    ----------
    name : str
    settings : dict
    runs : tuple of Run
        Complex, real with a positive and with a negative determinant; fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    def figure(self) -> Figure:
        """Return the picture: a column for each run, loss and balance error above, extreme singular values below; stages by shade."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.7 * len(self.runs), 6.0), layout="constrained")
        axes = figure.subplots(2, len(self.runs), sharex=True, squeeze=False)
        for (top, bottom), run in zip(axes.T, self.runs):
            steps = np.maximum(run.trajectory.steps, 0.7)  # step 0 at the left edge
            top.plot(steps, _shown(run.trajectory.loss), color="black", linewidth=1.6, label="loss")
            top.plot(steps, _shown(run.trajectory.observed["balance"]), color="0.55", linewidth=1.6,
                     label=r"balance error, $\max_j\Vert\Delta_{j,j+1}\Vert_F$")
            for name, (label, colour) in SERIES.items():
                bottom.plot(steps, _shown(run.series(name)), color=colour, linewidth=1.6, label=label)
            top.set_title(KINDS[run.kind], fontsize="medium")
            top.set_ylim(1e-10, 30)
            bottom.set_ylim(1e-4, 6)
            for ax in (top, bottom):
                ax.set_xscale("log")
                ax.set_yscale("log")
                ax.set_xlim(0.7, max(self.settings["steps"], 1))
                self._shade(ax, run, names=ax is top)
            bottom.set_xlabel("step (0 at the left edge)")
        axes[0, 0].set_ylabel("loss and balance error")
        axes[1, 0].set_ylabel("singular values")
        axes[0, 0].legend(frameon=False, fontsize="small", loc="lower left")
        figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize="small")
        plotting.finish(axes.ravel())
        return figure

    @staticmethod
    def _shade(ax: Axes, run: Run, names: bool) -> None:
        """The three stages, as far as the run has them."""
        end = float(run.trajectory.steps[-1])
        edges = [0.7, min(run.aligned, end), min(max(run.local, run.aligned), end), end]
        for number, name in enumerate(("alignment", "saddle avoidance", "local")):
            low, high = edges[number], edges[number + 1]
            if high < 25 * low:
                name = name.partition(" ")[0]
            if high <= low:
                continue
            ax.axvspan(low, high, color=("0.85", "white", "0.93")[number], linewidth=0, zorder=0)
            if names and high > 3 * low:
                ax.text(np.sqrt(low * high), 12, name, ha="center", va="center", fontsize="small", color="0.25")

    def to_xarray(self) -> Dataset:
        """Return the curves over run and step; NaN where a run ended early."""
        import xarray

        longest = max((run.trajectory for run in self.runs), key=len)
        names = ("loss", "balance", *SERIES)
        fields = {name: np.full((len(self.runs), len(longest)), np.nan) for name in names}
        for row, run in enumerate(self.runs):
            kept = np.isin(longest.steps, run.trajectory.steps)
            for name in names:
                values = run.trajectory.loss if name == "loss" else run.series(name)
                fields[name][row, kept] = values[np.isin(run.trajectory.steps, longest.steps)]
        data: dict[str, Any] = {name: (("run", "step"), values) for name, values in fields.items()}
        data |= {name: ("run", [getattr(run, name) for run in self.runs]) for name in ("aligned", "local", "turned")}
        data["status"] = "run", [run.trajectory.status for run in self.runs]
        return xarray.Dataset(data, coords={"run": [run.kind for run in self.runs], "step": longest.steps},
                              attrs={**self.attributes(), "paper": PAPER})

    def summary(self) -> str:
        """Return a table with a row for each run."""
        lines = [self.heading, "", f"{'start':<10} {'aligned at':>11} {'local from':>11}   {'sigma of the factors: start':<28} "
                 f"{'aligned':<20} {'end':<20} {'last loss':>10}"]
        for run in self.runs:
            seen = run.trajectory.observed["extremes"]
            place = int(np.searchsorted(run.trajectory.steps, run.aligned))
            cells = [f"{low:.3g} to {high:.3g}" for low, high in (seen[0], seen[min(place, len(seen) - 1)], seen[-1])]
            lines.append(f"{run.kind:<10} {_step(run.aligned):>11} {_step(run.local):>11}   {cells[0]:<28} {cells[1]:<20} {cells[2]:<20} "
                         f"{run.trajectory.loss[-1]:10.3g}")
            if np.isfinite(run.turned):
                lines.append(f"  the determinant's sign turns by step {int(run.turned)}: these factors are not balanced")
            if run.trajectory.status != "completed":
                lines.append(f"  {run.trajectory.status}: {run.trajectory.message}")
        lines += ["", f"aligned: the largest balance error is {ALIGNED:g} of its first value; local: the least singular value of "
                  "W_1 + W_2^-1 W_3^H W_4^H is 2^(3/4), as in Theorem 11.",
                  "Real products of negative determinant have no Hermitian part in one direction: its least singular value goes to 0 with",
                  "the balance error, and the loss stays at 1/2, unless the sign turns while the factors are not balanced."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs as far as they came"]
        return "\n".join(lines)


def _shown(values: np.ndarray) -> np.ndarray:
    """Values for a logarithmic axis: what is at or below rounding is left out."""
    return np.where(values > 1e-16, values, np.nan)


def _step(step: float) -> str:
    return str(int(step)) if np.isfinite(step) else "never"


def start_of_kind(kind: str, scale: float, seed: int) -> np.ndarray:
    """The first start of a kind, by rising seeds of the stream."""
    place = 0
    while True:
        start = init.small_gaussian(4, 3, scale, np.random.default_rng([seed, int(kind == "complex"), place]), kind == "complex")
        if kind == "complex" or (factors.determinant_sign(start) > 0) == (kind == "positive"):
            return start
        place += 1


def hermitian(params: np.ndarray) -> float:
    """Half of the least singular value of the layers' Hermitian part."""
    return float(np.linalg.svd(factors.layer_hermitian(params), compute_uv=False)[-1]) / 2


def _checked(scale: Any, step_size: Any, balance: Any, steps: Any, seed: Any, records: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    return {"scale": check_positive(scale, "scale"), "step_size": check_positive(step_size, "step_size"),
            "balance": check_real(balance, "balance", minimum=0.0), "steps": check_steps(steps),
            "seed": check_integer(seed, "seed", minimum=0), "records": check_integer(records, "records", minimum=10)}


@register(NAME, check=_checked, result=SaddleAvoidanceResult)
def saddle_avoidance(scale: float = 0.2, step_size: float = 0.003, balance: float = 50.0, steps: int = 60_000, seed: int = 0,
                     records: int = 400, progress: bool | None = None) -> SaddleAvoidanceResult:
    r"""Extreme singular values of four factors through alignment, saddle avoidance and local convergence, complex and real.

    Four 3-by-3 factors, target the identity: the balancing term first aligns the factors, while their extreme singular values keep
    their order (the Hermitian part's least oscillates); the Hermitian part then grows away from the saddle, unless the determinant is
    negative; the rest is linear convergence. One complex start and the first real one of either sign of the determinant.

    Parameters
    ----------
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
    SaddleAvoidanceResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Luo et al. 2025, arXiv 2511.09925, Figures 3 and 4 and the stages of Section 4 [published; their settings are not known].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("luo2025.saddle_avoidance", scale=0.4, steps=20_000, records=60)
    >>> [run.kind for run in result.runs], result.runs[0].aligned < result.runs[0].local
    (['complex', 'positive', 'negative'], True)
    """
    settings = _checked(scale, step_size, balance, steps, seed, records, progress)
    objective = MatrixFactorization(np.eye(3), balance=settings["balance"])
    watched = {"extremes": factors.factor_extremes, "balance": lambda params: factors.balance_errors(params).max(), "hermitian": hermitian,
               "skew": lambda params: np.linalg.norm(factors.layer_skew(params)), "sign": factors.determinant_sign}

    def work(kind: str) -> Run:
        return Run(kind, gradient_descent(objective, start_of_kind(kind, settings["scale"], settings["seed"]),
                                          step_size=settings["step_size"], steps=settings["steps"], record=log_spaced(settings["records"]),
                                          observe=watched, progress=progress))

    runs, where = one_by_one(work, [(f"in the run from a {kind} start", (kind,)) for kind in KINDS])
    return SaddleAvoidanceResult(NAME, settings, runs, stopped=where)
