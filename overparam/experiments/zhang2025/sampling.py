"""What a diffusion model samples when its students have learned the score with one parameter and lost the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import distances, plotting
from overparam._validation import check_integer, check_real
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, gather
from overparam.experiments.settings import check_jobs
from overparam.experiments.zhang2025.phase_boundary_runs import check_distances
from overparam.experiments.zhang2025.sampling_runs import Chain, Training, train
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Model", "Sampling", "SamplingResult", "sampling"]

NAME = "zhang2025.sampling"
_FIRST = 1.0  # training time from which samples are taken
_PER_DECADE = 2
_KINDS = ("separate", "shared")


@dataclass(frozen=True)
class Model:
    """A diffusion model's samples against the teacher.

    Attributes
    ----------
    variation, divergence : float
        Total variation, and KL(teacher, samples), of the law of the samples.
    bound : float
        The chain rule's bound on the divergence: the losses of its students, summed over noise time.
    drawn : float
        Largest difference of the empirical distribution function of samples from the teacher's: an estimate of a lower bound on the
        total variation.
    """

    variation: float
    divergence: float
    bound: float
    drawn: float


@dataclass(frozen=True)
class Sampling:
    """One start after one training time.

    Attributes
    ----------
    M : float
        Distance of the start.
    time : float
        Training time (flow time).
    k : int
        Parameters within 1 of the target at noise time 0.
    loss : float
        Score-matching loss at noise time 0.
    variation, divergence : float
        Total variation of the student at noise time 0, as a mixture density, from the teacher; KL(teacher, student).
    separate, shared : Model
        The diffusion models of students trained at each noise time, and of the one student of noise time 0 at every noise time.
    """

    M: float
    time: float
    k: int
    loss: float
    variation: float
    divergence: float
    separate: Model
    shared: Model


@dataclass(frozen=True, eq=False)
class SamplingResult(StoppableResult):
    """Result of :func:`sampling`.

    Attributes
    ----------
    name : str
    settings : dict
    found : tuple of Sampling
        By M, then by training time; fewer if Ctrl-C came in between.
    losses : dict
        For each M (noise times, losses of separate students, losses of the shared one) after the last training time.
    messages : tuple of str
        Trainings that ended early, in words.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    found: tuple[Sampling, ...]
    losses: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]]
    messages: tuple[str, ...] = ()

    def finished(self) -> SamplingResult | None:
        """Return what was computed; None if there is nothing."""
        return self if self.found else None

    def of(self, M: float) -> list[Sampling]:
        """What was found from one start, by training time."""
        return [one for one in self.found if one.M == M]

    @property
    def noise(self) -> float:
        """95 % half-width of every ``drawn`` (Dvoretzky, Kiefer, Wolfowitz, Massart)."""
        return math.sqrt(math.log(2 / 0.05) / (2 * self.settings["samples"]))

    def figure(self) -> Figure:
        """Return the picture: total variations against training time for each start, losses against noise time, variation against loss."""
        from matplotlib.figure import Figure

        starts = self.settings["M"]
        figure = Figure(figsize=(3.3 * (len(starts) + 2) + 1.2, 3.4), layout="constrained")
        axes = figure.subplots(1, len(starts) + 2, squeeze=False)[0]
        looks = {"density": (plotting.COLOURS[1], "-", "student as a density"),
                 "shared": (plotting.COLOURS[2], "--", "samples, one student"),
                 "separate": (plotting.COLOURS[0], "-", "samples, a student at\neach noise time")}
        for M, ax in zip(starts, axes, strict=False):
            self._draw_variation(ax, M, looks)
            ax.set_title(f"$M={M:g}$", fontsize="medium")
            ax.set_ylim(1e-6, 1.5)
        ax = axes[-2]
        for number, M in enumerate(starts):
            if M in self.losses:
                noise, separate, shared = self.losses[M]
                for values, kind in ((separate, "separate"), (shared, "shared")):
                    ax.plot(noise, values, color=looks[kind][0], linestyle=("-", ":", "-.", "--")[number % 4], linewidth=1.2)
                ax.plot([], [], color="black", linestyle=("-", ":", "-.", "--")[number % 4], label=f"$M={M:g}$")
        ax.set_yscale("log")
        ax.set_ylim(bottom=1e-16)
        ax.set_xlabel("noise time")
        ax.set_ylabel("loss after the last training time")
        ax.legend(frameon=False, fontsize="small")
        ax = axes[-1]
        last = max(starts)
        for kind, (colour, _, _) in looks.items():
            points = [(one.loss, one.variation if kind == "density" else getattr(one, kind).variation) for one in self.of(last)]
            if points:
                ax.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, linewidth=0.8)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"$M={last:g}$", fontsize="medium")
        ax.set_xlabel("loss at noise time 0")
        ax.set_ylabel("total variation from the teacher")
        for letter, ax in zip("abcdefghijklmnopqrstuvwxyz", axes):
            ax.text(0.0, 1.02, letter, transform=ax.transAxes, fontweight="bold", ha="left", va="bottom")
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize="small")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize="small")
        return figure

    def _draw_variation(self, ax: Axes, M: float, looks: dict[str, tuple[str, str, str]]) -> None:
        rows = self.of(M)
        times = [one.time for one in rows]
        colour, style, label = looks["density"]
        ax.plot(times, [one.variation for one in rows], color=colour, linestyle=style, linewidth=3.0, alpha=0.5, label=label)
        for kind in ("shared", "separate"):
            colour, style, label = looks[kind]
            models = [getattr(one, kind) for one in rows]
            ax.plot(times, [model.variation for model in models], color=colour, linestyle=style, linewidth=1.2, label=label)
            seen = [(time, model.drawn) for time, model in zip(times, models, strict=True) if model.drawn > 2 * self.noise]
            if seen:
                seen_times, drawn = zip(*seen, strict=True)
                ax.errorbar(seen_times, drawn, yerr=self.noise, fmt="o", color=colour, markersize=3, linewidth=0.7, capsize=1.5)
        ax.plot(times, [min(math.sqrt(one.separate.bound / 2), 1.0) for one in rows], color="0.5", linestyle=":", linewidth=1.0,
                label="bound from the losses\nat each noise time")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("training time")
        ax.set_ylabel("total variation from the teacher")

    def to_xarray(self) -> Dataset:
        """Return everything over M and training time, the models' numbers also over model; NaN where there is none."""
        import xarray

        starts, times = self.settings["M"], sorted({one.time for one in self.found})
        fields = {name: np.full((len(starts), len(times)), np.nan) for name in ("k", "loss", "density_variation", "density_divergence")}
        models = {name: np.full((len(starts), len(times), 2), np.nan) for name in ("variation", "divergence", "bound", "drawn")}
        for one in self.found:
            at = starts.index(one.M), times.index(one.time)
            for name, value in (("k", one.k), ("loss", one.loss), ("density_variation", one.variation),
                                ("density_divergence", one.divergence)):
                fields[name][at] = value
            for place, kind in enumerate(_KINDS):
                for name, values in models.items():
                    values[(*at, place)] = getattr(getattr(one, kind), name)
        data: dict[str, Any] = {name: (("M", "time"), values) for name, values in fields.items()}
        data |= {name: (("M", "time", "model"), values) for name, values in models.items()}
        return xarray.Dataset(data, coords={"M": list(starts), "time": times, "model": list(_KINDS)}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a row for each start and training time."""
        model = f"{'TV':>8} {'KL':>8} {'bound':>8} {'drawn':>7}"
        lines = [f"n = {self.settings['n']}, one dimension: the student at noise time 0 as a density; samples with a student for each "
                 "noise time; samples with one student",
                 f"    M  training  near     loss | density: TV     KL | {model} | {model}"]
        for one in self.found:
            cells = " | ".join(f"{model.variation:8.2e} {model.divergence:8.2e} {model.bound:8.2e} {model.drawn:7.4f}"
                               for model in (one.separate, one.shared))
            lines.append(f"{one.M:5.2f}  {one.time:8.2e}  {one.k:4d} {one.loss:8.2e} | {one.variation:8.4f} {one.divergence:8.2e} | "
                         f"{cells}")
        lines.append("bound: on KL(teacher, samples), from the losses at all noise times")
        lines.append(f"drawn: largest difference of the distribution functions, {self.settings['samples']} samples, 95 % within "
                     f"+-{self.noise:.4f}; at most the TV")
        lines += list(self.messages)
        if self.interrupted:
            lines.append(f"interrupted {self.reached}: these are the starts that were finished")
        return "\n".join(lines)


def _checked(M: Any, n: Any, spread: Any, t_end: Any, noise_times: Any, noise_end: Any, samples: Any, seed: Any, tol: Any, rtol: Any,
             n_jobs: Any, progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    starts = check_distances(M)
    if max(starts) > 20:
        raise ValueError(f"M must be at most 20: the lattice of the samples' law grows with it; got {M!r}")
    settings: dict[str, Any] = {"M": starts, "n": check_integer(n, "n", minimum=2),
                                "spread": check_real(spread, "spread", minimum=1e-100, maximum=1.0),
                                "t_end": check_real(t_end, "t_end", minimum=_FIRST, maximum=1e12),
                                "noise_times": check_integer(noise_times, "noise_times", minimum=2, maximum=1000),
                                "noise_end": check_real(noise_end, "noise_end", minimum=1.0, maximum=20.0),
                                "samples": check_integer(samples, "samples", minimum=100), "seed": check_integer(seed, "seed", minimum=0),
                                "tol": Auto(tol=tol).tol, "rtol": check_real(rtol, "rtol", minimum=1e-13, maximum=1e-2)}
    if not 0.02 <= settings["noise_end"] / settings["noise_times"] <= 1.0:
        raise ValueError(f"noise_times={noise_times!r} must make intervals of length 0.02 to 1 of noise_end={noise_end!r}")
    return settings


@register(NAME, check=_checked, result=SamplingResult)
def sampling(M: float | Sequence[float] = (4.0, 6.0), n: int = 5, spread: float = 1e-7, t_end: float = 1e6, noise_times: int = 50,
             noise_end: float = 5.0, samples: int = 20_000, seed: int = 0, tol: float = 1e-7, rtol: float = 1e-6,
             n_jobs: int | None = None, progress: bool | None = None) -> SamplingResult:
    r"""What diffusion models of "one converges" students sample: the wrong mixture with one student, nearly the teacher with many.

    Where one parameter converges and n - 1 diverge, the score-matching loss is small since the teacher's samples do not see the far
    means; as a density the student has :math:`(n-1)/n` of its mass there. Two diffusion models are sampled, from :math:`N(0,1)` at noise
    time T down to 0 (:mod:`overparam.experiments.zhang2025.sampling_runs` has the discretisation, and a bound):

    * *one student*, trained at noise time 0, with means :math:`e^{-t}\mu_i` at noise time t; its reverse process leads to its own
      density, up to the discretisation (intervals of 0.1 take 0.03 from a total variation of 0.8);
    * *a student for each noise time*, trained there from :math:`e^{-t}` times the same start. At noise times with
      :math:`e^{-2t}M^2` below the border all parameters converge, and at smaller ones samples already are where the score is right.

    One dimension: the starts lie on a line, across which every model has the teacher's score. The teacher's mean is 0; with another the
    process is the same around it, but for the start at T. About a quarter of a
    minute.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the start from the target.
    n : int
        Number of parameters.
    spread : float
        Root mean square of the places about the start.
    t_end : float
        Training (flow) time.
    noise_times, noise_end : int, float
        Number of intervals of noise time, with a student in the middle of each, and T.
    samples : int
        Drawn from each model.
    seed : int
        The draws are those of ``default_rng([seed, number of M, record, model])``.
    tol : float
        Relative tolerance of each gradient row.
    rtol : float
        Relative tolerance of the integrator.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    SamplingResult

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Theorem 3.5 [published: one converges, the loss goes to 0]; what is sampled [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.sampling", M=5.0, n=2, t_end=1e3, noise_times=10, samples=1000)
    >>> last = result.found[-1]
    >>> last.k, last.loss < 1e-2, round(last.variation, 2), last.separate.variation < 0.02
    (1, True, 0.5, True)
    """
    settings = _checked(M, n, spread, t_end, noise_times, noise_end, samples, seed, tol, rtol, n_jobs, progress)
    h = settings["noise_end"] / settings["noise_times"]
    middles = [0.0] + [h * (k + 0.5) for k in range(settings["noise_times"])]
    records = round(_PER_DECADE * math.log10(settings["t_end"] / 0.01)) + 1
    common = (settings["t_end"], records, settings["tol"], settings["rtol"])
    tasks = [(m, settings["n"], settings["spread"], t, *common) for m in settings["M"] for t in middles]
    trained, where = gather(train, tasks, n_jobs, progress, "trainings")
    found: list[Sampling] = []
    losses: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    messages = tuple(f"M = {task[0]:g}, noise time {task[3]:g}: {one.message}" for task, one in zip(tasks, trained, strict=False)
                     if one.message)
    for number, m in enumerate(settings["M"]):
        own = trained[number * len(middles):(number + 1) * len(middles)]
        if len(own) == len(middles):
            rows, losses[m] = _sampled(number, m, own[0], own[1:], settings)
            found += rows
    if where and not found:
        raise KeyboardInterrupt(where)
    return SamplingResult(NAME, settings, tuple(found), losses, messages, stopped=where)


def _sampled(number: int, M: float, clean: Training, noisy: Sequence[Training],
             settings: dict[str, Any]) -> tuple[list[Sampling], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What the models of one start sample after each training time, and their losses at the end."""
    h, target = settings["noise_end"] / settings["noise_times"], Gaussian([0.0])
    objective = ScoreMatching(target, rule=Auto(tol=settings["tol"]))
    whole = min(len(one.times) for one in (clean, *noisy))  # fewer records where a training ended early
    noise = np.array([one.t for one in noisy])
    rows, last = [], (noise, np.full(len(noise), np.nan), np.full(len(noise), np.nan))
    for record in np.flatnonzero(clean.times[:whole] >= 0.999 * _FIRST):
        student = clean.means[record]
        shrunk = np.exp(-noise)[:, None] * student
        means = {"separate": np.stack([one.means[record] for one in noisy]), "shared": shrunk}
        own = {"separate": np.array([one.loss[record] for one in noisy]),
               "shared": np.array([objective.value(one[:, None]) for one in shrunk])}
        models = {}
        for place, kind in enumerate(_KINDS):
            chain = Chain(means[kind], h)
            drawn = chain.draw(settings["samples"], np.random.default_rng([settings["seed"], number, int(record), place]))
            models[kind] = Model(*chain.distances(), chain.divergence_bound(own[kind]), _largest_difference(drawn))
        rows.append(Sampling(M, float(clean.times[record]), int((np.abs(student) < 1).sum()), float(clean.loss[record]),
                             distances.total_variation(student[:, None], target).value,
                             distances.kullback_leibler(target, student[:, None]).value, **models))
        last = noise, own["separate"], own["shared"]
    return rows, last


def _largest_difference(drawn: np.ndarray) -> float:
    """Kolmogorov's distance of the samples from N(0, 1)."""
    from scipy.special import ndtr

    exact = ndtr(np.sort(drawn))
    count = len(drawn)
    return float(max((np.arange(1, count + 1) / count - exact).max(), (exact - np.arange(count) / count).max()))
