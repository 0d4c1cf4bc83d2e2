"""Corollary 3.6 of Zhang et al. 2025: how often does not exactly one student converge from a random start?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import init, plotting, regimes
from overparam._validation import check_array, check_integer, check_positive, check_real
from overparam.drivers import gradient_flow
from overparam.drivers.loop import check_progress
from overparam.experiments.registry import register
from overparam.experiments.running import StoppableResult, swept
from overparam.experiments.settings import check_jobs, check_store
from overparam.experiments.zhang2025.corollary_3_6_sampling import PairProposal, interval
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.zhang2025.random_start import binomial_interval
from overparam.trajectory import log_spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset

__all__ = ["Corollary36Result", "Estimate", "corollary_3_6", "pair_law"]

NAME = "zhang2025.corollary_3_6"
_HORIZON = 1e4
_FARTHEST = 35.0  # the failure, of order exp(-M^2/2), leaves float64's range at M = 38
_RTOL = 1e-4  # an outcome is asked for; at 1e-6 not one of 200 differs


@dataclass(frozen=True)
class Estimate:
    """Probability that not exactly one student converges, at one distance, by one kind of draw.

    Attributes
    ----------
    M : float
    kind : str
        "plain" or "pairs" (importance sampling).
    probability, low, high : float
        Estimate and 95 % interval. Undecided starts count as no failure in the lower end and as failures in the upper one.
    failures, undecided, samples : int
        Numbers of starts.
    """

    M: float
    kind: str
    probability: float
    low: float
    high: float
    failures: int
    undecided: int
    samples: int


@dataclass(frozen=True, eq=False)
class Corollary36Result(StoppableResult):
    """Result of :func:`corollary_3_6`.

    Attributes
    ----------
    name : str
    settings : dict
    estimates : tuple of Estimate
        Fewer if Ctrl-C came in between.
    stopped : str
        Where Ctrl-C came, in words; empty if it did not.
    """

    estimates: tuple[Estimate, ...]

    def finished(self) -> Corollary36Result | None:
        """Return what was computed; None if there is nothing."""
        return self if self.estimates else None

    def of(self, kind: str) -> list[Estimate]:
        """The estimates of one kind, "plain" or "pairs"."""
        return [one for one in self.estimates if one.kind == kind]

    def published(self, M: Any) -> Any:
        """The published bound on the failure, n^2 M^(-1/3); above 1 it says nothing."""
        return self.settings["n"] ** 2 * M ** (-1 / 3)

    @property
    def exponent(self) -> tuple[float, float] | None:
        r"""Slope of ln(failure) against :math:`M^2` over the pairs with :math:`M\ge3`, and its standard error; None below three of them."""
        found = [one for one in self.of("pairs") if one.M >= 3 and one.probability > 0 and one.high > one.low > 0]
        if len(found) < 3:
            return None
        x = np.array([one.M**2 for one in found])
        y = np.log([one.probability for one in found])
        errors = np.array([math.log(one.high / one.low) / 3.92 for one in found])
        w = errors**-2.0
        middle = (w * x).sum() / w.sum()
        spread = (w * (x - middle) ** 2).sum()
        return float((w * (x - middle) * y).sum() / spread), float(spread**-0.5)

    def figure(self) -> Figure:
        """Return the picture: failure probability against M, with the published bound and the laws."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.2, 3.8), layout="constrained")
        ax = figure.subplots()
        for number, (kind, label) in enumerate((("plain", "plain draws"), ("pairs", "importance sampling on pairs"))):
            found = self.of(kind)
            if found:
                centre = np.array([max(one.probability, one.high / 30) for one in found])
                ends = np.array([[max(one.low, one.high / 30) for one in found], [one.high for one in found]])
                ax.errorbar([one.M for one in found], centre, yerr=np.abs(ends - centre), fmt="os"[number], markersize=4, capsize=2,
                            color=plotting.COLOURS[number], markerfacecolor="none", linewidth=0.9, label=label)
        M = np.linspace(min(self.settings["M"]), max(self.settings["M"]), 100)
        ax.plot(M, np.minimum(self.published(M), 1.0), color="black", linestyle=":", label=r"published bound $\min(1,\,n^2M^{-1/3})$")
        ax.plot(M, np.minimum(np.exp(4 - M**2), 1.0), color="0.6", linestyle="-.", label=r"$e^{-M^2+4}$, both at distance $M$")
        if self.settings["d"] == 1:
            law = [pair_law(float(m), self.settings["n"]) for m in M]
            ax.plot(M, law, color=plotting.COLOURS[1], linestyle="--", label="pair law (no fit)")
        ax.set_yscale("log")
        ax.set_xlabel("distance $M$ of the mean of the starts")
        ax.set_ylabel("probability that not\nexactly one converges")
        ax.legend(frameon=False, fontsize="small")
        ax.spines[["top", "right"]].set_visible(False)
        return figure

    def to_xarray(self) -> Dataset:
        """Return the estimates over M and kind of draw; NaN where there is none."""
        import xarray

        distances, kinds = list(self.settings["M"]), ["plain", "pairs"]
        shape = len(distances), len(kinds)
        fields = {name: np.full(shape, np.nan) for name in ("probability", "low", "high")}
        counts = {name: np.zeros(shape, dtype=np.int64) for name in ("failures", "undecided", "samples")}
        for one in self.estimates:
            at = distances.index(one.M), kinds.index(one.kind)
            for group in (fields, counts):
                for name in group:
                    group[name][at] = getattr(one, name)
        data: dict[str, Any] = {name: (("M", "kind"), values) for name, values in {**fields, **counts}.items()}
        data["published"] = ("M", [self.published(m) for m in distances])
        if self.settings["d"] == 1:
            data["pair_law"] = ("M", [pair_law(m, self.settings["n"]) for m in distances])
        return xarray.Dataset(data, coords={"M": distances, "kind": kinds}, attrs=self.attributes())

    def summary(self) -> str:
        """Return a table with a row for each distance and kind of draw."""
        lines = ["     M  draws    fail  open  probability    95 % interval          published  e^(-M^2+4)  e^(-M^2/2)   pair law"]
        for one in self.estimates:
            law = f"{pair_law(one.M, self.settings['n']):10.2e}" if self.settings["d"] == 1 else "         -"
            square = one.M * one.M
            lines.append(f"{one.M:6.2f}  {one.kind:6s} {one.failures:3d}/{one.samples:<4d} {one.undecided:3d}  {one.probability:11.3e}  "
                         f"{one.low:9.2e} to {one.high:9.2e}  {min(self.published(one.M), 1.0):9.3f}  "
                         f"{min(math.exp(4 - square), 1.0):10.2e}  {math.exp(-square / 2):10.2e} {law}")
        lines.append("e^(-M^2+4): if all pairs were at distance M; e^(-M^2/2): order of those that start at M/2, which dominate in 1-D")
        if self.settings["d"] > 1:
            lines.append("d > 1: plain draws only, and no pair law: both are for the line")
        slope = self.exponent
        if slope is not None:
            lines.append(f"slope of ln(probability) against M^2, M >= 3: {slope[0]:.3f} +- {slope[1]:.3f} (pair law: -1/2)")
        return "\n".join(lines)


def pair_law(M: float, n: int, kappa: float = 3.8) -> float:
    r"""Return the expected number of pairs on the line that survive together, at most 1: the failure probability where it is small.

    Two students at c both survive if they are closer than :math:`e^{\kappa-c^2}` (:math:`\kappa` = 3.8 for n = 2, up to 4.8 for more) and
    no third is nearer to the target:

    .. math:: n(n-1)\int\varphi(c-M)^2\,\Phi(M-c)^{n-2}\,e^{\kappa-c^2}\,dc,\qquad
              n=2:\ \frac{e^\kappa}{\sqrt{2\pi}}\,e^{-M^2/2}.

    So failures are pairs that start at M/2, not at M, and their probability falls like :math:`e^{-M^2/2}`. For c below 2 the exponential
    is no longer the gap allowed; it is cut at 6.

    Examples
    --------
    >>> import math
    >>> from overparam.experiments.zhang2025.corollary_3_6 import pair_law
    >>> round(pair_law(7.0, 2, kappa=4.0) / (math.exp(4 - 24.5) / math.sqrt(2 * math.pi)), 3)
    1.0
    """
    from scipy.special import ndtr

    if M > _FARTHEST:
        return 0.0  # below float64's range
    c = np.arange(-6.0, M + 8.0, 0.01)
    gap = np.minimum(np.exp(kappa - c**2), 6.0)
    density = np.exp(-((c - M) ** 2)) / (2 * math.pi) * ndtr(M - c) ** (n - 2)
    return min(float(n * (n - 1) * 0.01 * (density * gap).sum()), 1.0)


def _checked(M: Any, n: Any, d: Any, samples: Any, plain_up_to: Any, seed: Any, tol: Any, store: Any, n_jobs: Any,
             progress: Any) -> dict[str, Any]:
    """The settings, converted, in the order in which they are written down."""
    check_progress(progress)
    check_jobs(n_jobs)
    check_store(store)
    try:
        if isinstance(M, bool):
            raise ValueError
        distances = tuple(check_positive(value, "M") for value in check_array(M, "M", ndim=(0, 1)).ravel().tolist())
    except ValueError:
        raise ValueError(f"M must be a number above 0, or several; got {M!r}") from None
    if max(distances, default=0.0) > _FARTHEST:
        raise ValueError(f"M must be at most {_FARTHEST:g}: beyond, exp(-M^2/2) is below float64's range; got {M!r}")
    if len(set(distances)) < len(distances) or not distances:
        raise ValueError(f"M must name each distance once; got {M!r}")
    settings: dict[str, Any] = {"M": distances, "n": check_integer(n, "n", minimum=2), "d": check_integer(d, "d", minimum=1),
                                "samples": check_integer(samples, "samples", minimum=2),
                                "plain_up_to": check_real(plain_up_to, "plain_up_to"),
                                "seed": check_integer(seed, "seed"), "tol": Auto(tol=tol).tol}
    if settings["d"] > 1 and settings["plain_up_to"] < max(distances):
        settings["plain_up_to"] = max(distances)  # importance sampling is for the line
    return settings


@register(NAME, check=_checked, result=Corollary36Result)
def corollary_3_6(M: float | Sequence[float] = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0), n: int = 2, d: int = 1, samples: int = 60,
                  plain_up_to: float = 3.0, seed: int = 0, tol: float = 1e-6, store: str | None = None, n_jobs: int | None = None,
                  progress: bool | None = None) -> Corollary36Result:
    r"""How often not exactly one student converges from a random start: far less often than bounded, and for pairs nearer than the mean.

    Corollary 3.6: from :math:`\mu_i\sim N(Me_1,I_d)` exactly one student converges with probability at least :math:`1-n^2M^{-1/3}`, for
    :math:`M>10^9\sqrt d\,n^{10}`. The failure is measured on gradient flows: by plain draws for small M, and in one dimension by
    importance sampling on pairs of students that start almost together (see
    :mod:`overparam.experiments.zhang2025.corollary_3_6_sampling`). A pair at c survives if it is closer than about :math:`e^{-c^2+4}`; so
    if all were at distance M the failure would be :math:`e^{-M^2+4}`, but it is dominated by pairs that start at M/2, and falls like
    :math:`e^{-M^2/2}`: ``pair_law``.

    Parameters
    ----------
    M : float or sequence of float
        Distances of the mean of the starts from the target, at most 35.
    n, d : int
        Number of students, dimension. For d > 1 there are plain draws only.
    samples : int
        Starts of each kind at each M.
    plain_up_to : float
        Largest M with plain draws as well.
    seed : int
        The draws at M are those of ``default_rng([seed, number of M, kind])``.
    tol : float
        Relative tolerance of the gradient rows.
    store : str, optional
        Folder of the outcomes, a file for each start, which the same settings go on with.
    n_jobs : int, optional
        As in joblib; None takes joblib's own setting, one process by default.
    progress : bool, optional
        None shows a bar on a terminal after two seconds.

    Returns
    -------
    Corollary36Result

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Zhang et al., arXiv 2511.22069, Corollary 3.6 [published: the bound]; everything measured [derived].

    Examples
    --------
    >>> import overparam as op
    >>> result = op.experiments.run("zhang2025.corollary_3_6", M=3.5, samples=8)
    >>> [(one.kind, one.samples) for one in result.estimates]
    [('pairs', 8)]
    """
    settings = _checked(M, n, d, samples, plain_up_to, seed, tol, store, n_jobs, progress)
    n, d, samples = settings["n"], settings["d"], settings["samples"]
    plan = [(m, kind) for m in settings["M"] for kind in ("plain", "pairs")
            if (kind == "plain" and m <= settings["plain_up_to"]) or (kind == "pairs" and d == 1)]
    point = partial(_point, distances=settings["M"], n=n, d=d, samples=samples, seed=settings["seed"], tol=settings["tol"])
    grid = [{"M": m, "kind": kind, "start": start} for m, kind in plan for start in range(samples)]
    found: list[Estimate] = []
    with swept(point, grid, store, n_jobs, progress) as (kept, interrupted):
        for number, (m, kind) in enumerate(plan):
            block = range(number * samples, (number + 1) * samples)
            if not all(kept.has(index) for index in block):
                where = f"in the {kind} draws at M = {m:g}"
                if interrupted and found:
                    return Corollary36Result(NAME, settings, tuple(found), stopped=where)
                raise KeyboardInterrupt(where)
            numbers = [float(kept.get(index)["k"]) for index in block]
            weights = _draws(settings["M"], m, kind, n, d, samples, settings["seed"])[1]
            found.append(_estimate(m, kind, [None if math.isnan(k) else int(k) for k in numbers], weights))
    return Corollary36Result(NAME, settings, tuple(found))


@lru_cache(maxsize=64)
def _draws(distances: tuple[float, ...], M: float, kind: str, n: int, d: int, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Deviations of all starts from M e_1, and their weights."""
    rng = np.random.default_rng([seed, distances.index(M), kind == "pairs"])
    if kind == "plain":
        return rng.standard_normal((samples, n, d)), np.ones(samples)
    starts, log_weights = PairProposal.of(M, n).draw(samples, rng)
    return starts[:, :, None] - M, np.exp(log_weights)


def _point(M: float, kind: str, start: int, *, distances: tuple[float, ...], n: int, d: int, samples: int, seed: int,
           tol: float) -> dict[str, int | None]:
    """How many students converge from one of the starts."""
    return {"k": _converged(M, _draws(distances, M, kind, n, d, samples, seed)[0][start], tol)}


def _converged(M: float, deviations: np.ndarray, tol: float) -> int | None:
    """How many students converge from M e_1 + deviations."""
    target = np.zeros(deviations.shape[1])
    centre = target.copy()
    centre[0] = M
    run = gradient_flow(ScoreMatching(Gaussian(target), rule=Auto(tol=tol)), init.around(centre, deviations), t_end=_HORIZON, rtol=_RTOL,
                        record=log_spaced(60), stop=regimes.until_decided(target), progress=False)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    return regimes.count(run)


def _estimate(M: float, kind: str, numbers: list[int | None], weights: np.ndarray) -> Estimate:
    """The estimate from the numbers of converged students."""
    failed = np.array([number is not None and number != 1 for number in numbers])
    unclear = np.array([number is None for number in numbers])
    hits, undecided, count = int(failed.sum()), int(unclear.sum()), len(numbers)
    if kind == "plain":
        low, high = binomial_interval(hits, count)[0], binomial_interval(hits + undecided, count)[1]
        return Estimate(M, kind, hits / count, low, high, hits, undecided, count)
    probability, low, _ = interval(failed, weights)
    return Estimate(M, kind, probability, low, interval(failed | unclear, weights)[2], hits, undecided, count)
