"""Which balanced starts of four-layer factorization converge, and by when: complex, real of either sign of the determinant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import factors, init, plotting
from overparam._validation import check_integer, check_positive, check_real
from overparam.drivers import gradient_descent
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, swept
from overparam.experiments.settings import check_jobs, check_numbers, check_several, check_store
from overparam.objectives import MatrixFactorization
from overparam.theory.luo2025.determinant import least_loss
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.trajectory import every

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["DichotomyResult", "Outcome", "dichotomy"]

NAME = "luo2025.dichotomy"
PAPER = "arXiv 2511.09925"
RECORD = 50  # steps between two looks at the loss: the resolution of a waiting time
BLOCK = 10  # starts of one task
KINDS = {"complex": "complex", "positive": r"real, $\det W>0$", "negative": r"real, $\det W<0$"}
COLOURS = dict(zip(KINDS, plotting.COLOURS))


@dataclass(frozen=True)
class Outcome:
    """What became of one start.

    Attributes
    ----------
    kind : str
        "complex", or the sign of the determinant of a real product: "positive", "negative".
    scale : float
    wait : float
        First looked-at step with a loss below the level; inf if there was none.
    least : float
        Least loss of all records.
    last : float
        Loss at the last.
    status : str
    """

    kind: str
    scale: float
    wait: float
    least: float
    last: float
    status: str


@dataclass(frozen=True, eq=False)
class DichotomyResult(StoppableResult):
    """Result of :func:`dichotomy`.

    Attributes
    ----------
    name : str
    settings : dict
    outcomes : tuple of Outcome
        Fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    outcomes: tuple[Outcome, ...]

    def finished(self) -> DichotomyResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.outcomes else None

    def of(self, kind: str, scale: float) -> tuple[Outcome, ...]:
        """The outcomes of one kind at one scale."""
        return tuple(one for one in self.outcomes if one.kind == kind and one.scale == scale)

    def waits(self, kind: str, scale: float) -> np.ndarray:
        """Their waiting times in steps, sorted; inf where a run did not converge."""
        return np.sort([one.wait for one in self.of(kind, scale)])

    def share(self, kind: str, scale: float, horizon: float) -> tuple[int, int, float, float]:
        """Starts converged by a step, all starts, and Clopper and Pearson's 95 % interval of the share; NaN without a start."""
        waits = self.waits(kind, scale)
        hits = int((waits <= horizon).sum())
        return (hits, len(waits), *(binomial_interval(hits, len(waits)) if len(waits) else (np.nan, np.nan)))

    def figure(self) -> Figure:
        """Return the picture: the share of converged runs against the step for each scale, and the share that still waits."""
        from matplotlib.figure import Figure

        scales = self.settings["scale"]
        figure = Figure(figsize=(3.6 * (len(scales) + 1), 3.7), layout="constrained")
        axes = figure.subplots(1, len(scales) + 1, squeeze=False)[0]
        for ax, scale in zip(axes, scales):
            for kind in KINDS:
                self._draw_share(ax, kind, scale)
            ax.set_ylim(-0.03, 1.03)
            ax.set_ylabel(rf"share of runs with $L<{_power(self.settings['level'])}$")
            ax.set_title(rf"initial scale $\epsilon={scale:g}$", fontsize="medium")
        axes[0].legend(frameon=False, fontsize="small", loc="upper left", handlelength=1.4)
        for scale, dash in zip(scales, ("-", "--", ":", "-.") * len(scales)):
            for kind in ("complex", "positive"):
                steps, shares = self._curve(kind, scale)
                if steps.size:
                    axes[-1].plot(steps, 1 - shares, drawstyle="steps-post", color=COLOURS[kind], linestyle=dash, linewidth=1.5,
                                  label=rf"$\epsilon={scale:g}$" if kind == "complex" else None)
        axes[-1].set_yscale("log")
        axes[-1].set_ylim(0.5 / max(len(self.of("complex", scales[0])), 1), 1.1)
        axes[-1].set_ylabel("share of runs that still wait")
        axes[-1].set_title("waiting times (colours as before)" if len(scales) < 3 else "waiting times", fontsize="medium")
        axes[-1].legend(frameon=False, fontsize="small", loc="lower left")
        for ax in axes:
            ax.set_xscale("log")
            ax.set_xlim(self._first(), self.settings["horizons"][-1])
            ax.set_xlabel("step")
        plotting.finish(axes)
        return figure

    def _first(self) -> float:
        """Where the axes of steps begin: below the first run that converged."""
        waits = [one.wait for one in self.outcomes if np.isfinite(one.wait)]
        found: float = min(max(RECORD, 0.7 * min(waits, default=RECORD)), self.settings["horizons"][-1] / 2)
        return found

    def _curve(self, kind: str, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Steps and the share that has converged by them, from the first step drawn to the last horizon."""
        waits = self.waits(kind, scale)
        if not waits.size:
            return waits, waits
        done = waits[np.isfinite(waits)]
        steps = np.concatenate([[self._first()], done, [self.settings["horizons"][-1]]])
        counts = np.concatenate([[0], np.arange(1, len(done) + 1), [len(done)]])
        return steps, counts / len(waits)

    def _draw_share(self, ax: Axes, kind: str, scale: float) -> None:
        steps, shares = self._curve(kind, scale)
        if not steps.size:
            return
        count = len(self.of(kind, scale))
        ends = np.array([binomial_interval(round(share * count), count) for share in shares])
        label = KINDS[kind] if scale == self.settings["scale"][0] else None
        ax.plot(steps, shares, drawstyle="steps-post", color=COLOURS[kind], linewidth=1.6, label=label)
        ax.fill_between(steps, ends[:, 0], ends[:, 1], step="post", color=COLOURS[kind], alpha=0.18, linewidth=0)

    def to_xarray(self) -> Dataset:
        """Return every start's outcome, and the shares over kind, scale and horizon."""
        import xarray

        scales, horizons = self.settings["scale"], self.settings["horizons"]
        table = np.array([[[self.share(kind, scale, horizon) for horizon in horizons] for scale in scales] for kind in KINDS])
        data: dict[str, Any] = {name: (("kind", "scale", "horizon"), table[..., place])
                                for place, name in enumerate(("converged", "starts", "low", "high"))}
        for name in ("wait", "least", "last"):
            data[name] = "start", np.array([getattr(one, name) for one in self.outcomes])
        data |= {"start_kind": ("start", [one.kind for one in self.outcomes]),
                 "start_scale": ("start", [one.scale for one in self.outcomes]),
                 "status": ("start", [one.status for one in self.outcomes])}
        return xarray.Dataset(data, coords={"kind": list(KINDS), "scale": list(scales), "horizon": list(horizons)},
                              attrs={**self.attributes(), "paper": PAPER})

    def summary(self) -> str:
        """Return the table of shares by horizon, and the losses of those that cannot converge."""
        scales, horizons = self.settings["scale"], self.settings["horizons"]
        lines = [self.heading, "", f"{'eps':>5}  {'starts':<16}" + "".join(f"{f'by step {horizon}':>24}" for horizon in horizons)
                 + f"{'median wait':>14}"]
        for scale in scales:
            for kind in KINDS:
                waits = self.waits(kind, scale)
                if not waits.size:
                    continue
                cells = []
                for horizon in horizons:
                    hits, count, low, high = self.share(kind, scale, horizon)
                    cells.append(f"{f'{hits}/{count} [{low:.2f}, {high:.2f}]':>24}")
                median = waits[(len(waits) - 1) // 2]
                name = {"complex": "complex", "positive": "real, det W > 0", "negative": "real, det W < 0"}[kind]
                lines.append(f"{scale:5g}  {name:<16}" + "".join(cells) + f"{'-' if np.isinf(median) else format(int(median)):>14}")
        least = least_loss(np.eye(self.settings["d"]))
        for scale in scales:
            stuck = self.of("negative", scale)
            if stuck:
                above, last = min(one.least for one in stuck) - least, max(one.last for one in stuck)
                lines.append(f"real, det W < 0, eps={scale:g}: the loss never falls below {least:g} {above:+.2g}, and ends at or below "
                             f"{last:.6f}")
        bad = [one for one in self.outcomes if one.status not in ("completed", "converged")]
        lines += [f"{len(bad)} runs ended otherwise: {', '.join(sorted({one.status for one in bad}))}"] if bad else []
        lines += ["", f"converged: loss below {self.settings['level']:g}, looked at every {RECORD} steps; in brackets 95 % Clopper-Pearson "
                  "intervals of the share.",
                  "A share belongs to its horizon: waits are heavy-tailed. Only det W < 0 is absolute (balanced start, small steps).",
                  "published: probability 1 - delta (complex), (1 - delta)/2 (real), at least 1/2 of the real ones never."]
        if self.interrupted:
            lines += ["", f"interrupted {self.reached}: these are the runs up to there"]
        return "\n".join(lines)


def _power(level: float) -> str:
    exponent = int(np.floor(np.log10(level)))
    factor = level / 10.0**exponent
    return rf"10^{{{exponent}}}" if abs(factor - 1) < 1e-9 else rf"{factor:g}\times10^{{{exponent}}}"


def follow(scale: float, complex: bool, block: int, *, samples: int, d: int, depth: int, step_size: float, balance: float, steps: int,
           level: float, seed: int) -> dict[str, np.ndarray]:
    """A block of starts of one scale, as a batch, each from random numbers of its own: (B,) arrays of what became of them."""
    objective = MatrixFactorization(np.eye(d), depth=depth, balance=balance)
    starts = np.array([init.balanced_gaussian(depth, d, scale, np.random.default_rng([seed, int(complex), place]), complex)
                       for place in range(block * BLOCK, min((block + 1) * BLOCK, samples))])
    runs = gradient_descent(objective, starts, step_size=step_size, steps=steps, record=every(RECORD),
                            stop=lambda record: record.loss < level, progress=False)
    if runs[-1].status == "interrupted":
        raise KeyboardInterrupt
    kinds = ["complex" if complex else "negative" if factors.determinant_sign(start) < 0 else "positive" for start in starts]
    return {"kind": np.array(kinds),
            "wait": np.array([float(run.steps[-1]) if run.loss[-1] < level else np.inf for run in runs]),
            "least": np.array([run.loss.min() for run in runs]), "last": np.array([run.loss[-1] for run in runs]),
            "status": np.array([run.status for run in runs])}


def _outcomes(scale: float, found: dict[str, np.ndarray]) -> list[Outcome]:
    columns = (found[name].tolist() for name in ("kind", "wait", "least", "last", "status"))
    return [Outcome(kind, scale, wait, least, last, status) for kind, wait, least, last, status in zip(*columns, strict=True)]


def _checked(samples: Any, scale: Any, d: Any, depth: Any, step_size: Any, balance: Any, horizons: Any, level: Any, seed: Any, store: Any,
             n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_store(store)
    check_jobs(n_jobs)
    steps = check_numbers(horizons, "horizons", 1)
    if list(steps) != sorted(steps):
        raise ValueError(f"horizons must rise; got {horizons!r}")
    return {"samples": check_integer(samples, "samples", minimum=1),
            "scale": check_several(scale, "scale", "a positive number", lambda item: check_positive(item, "scale")),
            "d": check_integer(d, "d", minimum=1), "depth": check_integer(depth, "depth", minimum=2),
            "step_size": check_positive(step_size, "step_size"), "balance": check_real(balance, "balance", minimum=0.0), "horizons": steps,
            "level": check_positive(level, "level"), "seed": check_integer(seed, "seed", minimum=0)}


@register(NAME, check=_checked, result=DichotomyResult)
def dichotomy(samples: int = 100, scale: float | Sequence[float] = (0.4, 0.1), d: int = 3, depth: int = 4, step_size: float = 0.03,
              balance: float = 1.0, horizons: int | Sequence[int] = (5_000, 15_000, 30_000, 60_000), level: float = 1e-6, seed: int = 0,
              store: str | None = None, n_jobs: int | None = None, progress: bool | None = None) -> DichotomyResult:
    r"""Balanced starts of four-layer factorization: real ones with det W < 0 never converge, complex ones do, after heavy-tailed waits.

    Gradient descent to the identity from `samples` complex and as many real balanced Gaussian starts for every scale
    :math:`\epsilon`. Converged is a loss below `level`; the share of runs that are by a step has a Clopper-Pearson interval. Real products
    with a negative determinant stay at or above :math:`L=\frac12` (``luo2025.law_determinant``).

    Parameters
    ----------
    samples : int
        Complex starts for each scale, and real ones.
    scale : float or sequence of float
        :math:`\epsilon`. The same starts, scaled.
    d, depth : int
        Rows of a factor, and N. For even d as well real starts divide by the sign of their determinant.
    step_size : float
    balance : float
        a.
    horizons : int or sequence of int
        Steps at which shares are given, rising; the last one ends the runs.
    level : float
    seed : int
    store : str, optional
        Folder of the outcomes, a file for each block of 10 starts, which the same settings go on with.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    DichotomyResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Luo et al. 2025, arXiv 2511.09925, Theorems 1 to 3 [published: the two probabilities]; settings and horizons are this library's.

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("luo2025.dichotomy", samples=4, scale=0.4, horizons=(2_000, 4_000))
    >>> result.share("negative", 0.4, 4_000)[0], min(one.least for one in result.of("negative", 0.4)) > 0.49
    (0, True)
    """
    settings = _checked(samples, scale, d, depth, step_size, balance, horizons, level, seed, store, n_jobs, progress)
    constants = {name: settings[name] for name in ("samples", "d", "depth", "step_size", "balance", "level", "seed")}
    blocks = {"scale": list(settings["scale"]), "complex": [True, False], "block": range(-(-settings["samples"] // BLOCK))}
    outcomes: list[Outcome] = []
    with swept(partial(follow, **constants, steps=settings["horizons"][-1]), blocks, store, n_jobs, progress) as (kept, interrupted):
        for index, (one, _, _) in enumerate(product(*blocks.values())):
            if kept.has(index):  # not, where Ctrl-C came
                outcomes += _outcomes(one, kept.get(index))
        where = f"after {kept.status().done} of {len(kept)} blocks of up to {BLOCK} starts" if interrupted else ""
    if interrupted and not outcomes:
        raise KeyboardInterrupt(where)
    return DichotomyResult(NAME, settings, tuple(outcomes), stopped=where)
