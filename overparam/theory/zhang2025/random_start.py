"""Theorem 3.5 and Corollary 3.6: far starts of which one student is the nearest, and how often a random start is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init, regimes
from overparam._validation import check_integer, check_positive
from overparam.drivers import gradient_flow
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.zhang2025 import common, far_start
from overparam.theory.zhang2025.enclosing import smallest_ball

__all__ = ["Corollary36", "Theorem35", "binomial_interval", "conditions", "conditions_hold", "far_example"]

_CONFIDENCE = 0.999  # of intervals of frequencies
_RUNNABLE = 1e70  # fourth powers of distances are finite


def conditions(setting: Setting) -> list[Hypothesis]:
    r"""Conditions (1) and (2) of Theorem 3.5, in logarithms; both exponents are reconstructed.

    (1) all start within :math:`M_0^{1/3}` of one point at distance :math:`M_0`; (2) one is nearer to the target than every other by
    :math:`\frac12M_0^{-1/3}`.
    """
    state, distance, ball = setting.state, far_start.centre_distance(setting), smallest_ball(setting.state)
    third = math.log(distance) / 3 if distance > 0 else -math.inf
    extent, stored = common.log_extent(setting), state.deviations
    close = ("all students start close to one point (the exponent is reconstructed)", r"\|\mu_i^{(0)}-\mu\|\le M_0^{1/3}")
    if extent > third and ball.log_radius <= math.log(max(ball.distance, 1e-300)) / 3:  # the point may be any: the mean mostly serves
        first = Hypothesis(*close, ball.log_radius, "<=", math.log(ball.distance) / 3, logarithmic=True, tag="reconstructed",
                           note=f"mu is the centre of the smallest ball around them, at distance M0 = {ball.distance:.6g}")
    elif extent > third and 3 * ball.log_least <= math.log(distance + math.exp(min(extent, 700.0))):  # no other point is farther away
        first = Hypothesis(*close, tag="reconstructed", note="neither about their mean nor about the middle of the smallest ball; "
                                                             "another point may do")
    else:
        first = Hypothesis(*close, extent, "<=", third, logarithmic=True, tag="reconstructed",
                           note=f"mu is their mean, at distance M0 = {distance:.6g}")
    _, log_gaps = far_start.gaps(state.centre, stored, state.log_scale)
    least = float(log_gaps.min()) if log_gaps.size else math.inf
    rounding = 0.0 if not math.isfinite(least) else 16 * np.finfo(float).eps * math.exp(min(extent - least, 700.0))
    second = Hypothesis("one student is nearer to the target than all others (the exponent is reconstructed)",
                        r"\|\mu_j^{(0)}-\mu^*\|\ge\|\mu_{i_0}^{(0)}-\mu^*\|+\tfrac12M_0^{-1/3}", least, ">=", -math.log(2) - third,
                        logarithmic=True, error=rounding, tag="reconstructed")
    return [first, second]


def far_example(n: int = 2, distance: float = 1e13, *, run: bool = True, t_end: float = 400.0) -> dict[str, Any]:
    """A start of Theorem 3.5 on the line, in arguments of ``check``: the nearest student ahead of the others by one."""
    objective = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
    start = init.around([distance], np.concatenate([[[-1.0]], np.linspace(0.0, 1.0, n - 1)[:, None]]))
    return {"subject": gradient_flow(objective, start, t_end=t_end, rtol=1e-6)} if run else {"subject": objective, "params0": start}


@register
class Theorem35(Theorem):
    r"""Theorem 3.5: far from the target, the nearest student converges and all others diverge."""

    name = "zhang2025.theorem_3_5"
    title = "Theorem 3.5"
    source = common.PAPER
    statement = ("From M0 > 10^9 sqrt(d) n^10 away, (1) all close to one point and (2) one nearer to the target than the rest, that one "
                 "converges, all others diverge, and after stage 1 the loss is O(1/(eta tau)). Reconstructed: close is within M0^(1/3), "
                 "nearer is by M0^(-1/3)/2.")
    latex = (r"M_0>10^9\sqrt d\,n^{10},\ (1),\ (2)\ \Rightarrow\ \mu_{i_0}\to\mu^*,\ \|\mu_j\|\to\infty\ (j\ne i_0),\ "
             r"L\le O(1/(\eta\tau))\ \text{for}\ \tau>T\qquad[\text{reconstructed: }(1)\ \|\mu_i^{(0)}-\mu\|\le M_0^{1/3},\ "
             r"(2)\ \|\mu_j^{(0)}-\mu^*\|\ge\|\mu_{i_0}^{(0)}-\mu^*\|+\tfrac12M_0^{-1/3}]")
    constants = (common.STEP_CONSTANT, Constant("C_L", None, "unknown"))

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
        return [common.single_gaussian(setting), common.equal_weights(setting), far_start.at_least_two(setting),
                far_start.far_from_target(setting), *conditions(setting), common.small_step(setting, constants)]

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:
        nearest, _ = far_start.gaps(setting.state.centre, setting.state.deviations, setting.state.log_scale)
        return [far_start.nearest_converges(setting, nearest), far_start.others_diverge(setting, nearest), self._loss(setting, constants)]

    def measured(self, setting: Setting, constants: Mapping[str, Constant]) -> dict[str, Any]:
        needed, why = self._needed(setting)
        return {"M0": far_start.centre_distance(setting), f"smallest C_L ({why})" if math.isfinite(needed) else "smallest C_L": needed,
                "flow time T of stage 1 (reconstructed)": far_start.stage_one(far_start.centre_distance(setting))}

    def examples(self) -> dict[str, Example]:
        def near() -> dict[str, Any]:
            objective = ScoreMatching(Gaussian([0.0]), rule=Auto(tol=1e-8))
            return {"subject": gradient_flow(objective, [[6.0], [7.0]], t_end=1e6, rtol=1e-6)}

        return {"published distance": Example("verified", lambda: {**far_example(), "C_L": 1.0}, "n=2, d=1, M0=1e13, deviations of 1"),
                "three students": Example("verified", lambda: {**far_example(3, 1e14), "C_L": 1.0}, "n=3, d=1, M0=1e14"),
                "seven": Example("vacuous", near, "n=2, d=1, M0=6.5: one converges all the same"),
                "stage 1 cut short": Example("undecided", lambda: far_example(t_end=20.0), "the nearest has not arrived yet"),
                "no run": Example("undecided", lambda: far_example(run=False), "the hypotheses alone")}

    def _loss(self, setting: Setting, constants: Mapping[str, Constant]) -> Conclusion:
        (needed, why), constant = self._needed(setting), constants["C_L"]
        words, latex = "the loss stays below its bound after stage 1 (T is reconstructed)", r"L\le C_L/(\eta\tau),\ \tau>T"
        if math.isnan(needed):
            return Conclusion(words, latex, tested=constant.value is not None, note=why)
        if constant.value is None:
            return Conclusion(words, latex, needed, "<=", math.nan, tag="unknown", tested=False,
                              note=f"{why}: holds for C_L >= {needed:.3g}; give C_L=")
        return Conclusion(words, latex, needed, "<=", constant.value, tag=constant.tag,
                          error=needed * far_start.relative_loss_error(setting), note=why)

    @staticmethod
    def _needed(setting: Setting) -> tuple[float, str]:
        r"""Smallest :math:`C_L` after stage 1, and what it rests on; NaN, and what is missing, where that is open.

        :math:`L\,t` rises as long as the far students have not moved, and then falls like :math:`\sum16/r_j^2`: the records speak for
        later times only where it has stopped rising. Where the motion is below any float it is at most :math:`\sum16/(r_j^2-16)`, by the
        law that :func:`overparam.theory.zhang2025.laws.far_parameters` has [derived], since each is an increasing function of time
        until its student moves and that student's law afterwards.
        """
        times = common.flow_times(setting)
        after = times > far_start.stage_one(far_start.centre_distance(setting))
        if not after.any():
            return math.nan, "the run ends before T: a longer one would decide"
        level = setting.run.loss[after] * times[after]
        nearest, _ = far_start.gaps(setting.state.centre, setting.state.deviations, setting.state.log_scale)
        far = np.delete(regimes.distances(setting.run)[-1], nearest)
        if far.size and far.min() >= far_start.MOST_VISIBLE:
            if far_start.others_diverge(setting, nearest).holds is not True:
                return math.nan, "the far students have not moved, and stage 1 has not ended: a longer run would decide"
            return (float(max(level.max(), (16 / (far**2 - 16)).sum())),
                    "the far students' motion is below float64, L t is at most the sum of 16/(r^2 - 16) from then on [derived]")
        late = times[after] >= times[-1] / math.e
        if late.sum() < 2 or level[-1] > level[late][0] * (1 + 1e-6):
            return math.nan, "L t has not begun to fall, the far students have hardly moved: a longer run would decide"
        return float(level.max()), "at the records, at whose end L t falls"


def conditions_hold(distance: float, deviations: np.ndarray) -> np.ndarray:
    r"""Whether starts :math:`\mu_i=M_0e_1+z_i` meet (1) and (2) of Theorem 3.5 about :math:`\mu=M_0e_1`.

    Parameters
    ----------
    distance : float
        :math:`M_0`.
    deviations : (R, n, d) array
        :math:`z_i` of R starts.

    Returns
    -------
    (R,) array of bool
    """
    third = distance ** (1 / 3)
    squares = (deviations**2).sum(axis=2)
    along, apart = deviations[:, :, 0], squares / distance
    # what |M0 e_1 + z| exceeds M0 by, without cancellation and without squares of M0
    excess = (2 * along + apart) / (1 + np.sqrt(np.maximum(1 + (2 * along + apart) / distance, 0.0)))
    excess.sort(axis=1)
    found: np.ndarray = (np.sqrt(squares.max(axis=1)) <= third) & (excess[:, 1] - excess[:, 0] >= 0.5 / third)
    return found


def binomial_interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a probability from `hits` in `trials`.

    Examples
    --------
    >>> from overparam.theory.zhang2025.random_start import binomial_interval
    >>> [round(end, 4) for end in binomial_interval(0, 10)]      # 1 - (0.025)**(1/10)
    [0.0, 0.3085]
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


@register
class Corollary36(Theorem):
    r"""Corollary 3.6: students drawn from :math:`N(\mu,I)` meet the conditions of Theorem 3.5 with probability :math:`\ge1-n^2M_0^{-1/3}`.

    Checked on ``samples`` draws of n students in d dimensions at distance ``M0``: ``check(name, n=2, d=2, M0=1e13)``. The frequency of the
    conditions has a Clopper-Pearson interval; what follows from them is Theorem 3.5's, and the first draw that meets them is run.
    """

    name = "zhang2025.corollary_3_6"
    title = "Corollary 3.6"
    source = common.PAPER
    statement = ("From n students drawn from N(mu, I), mu at M0 > 10^9 sqrt(d) n^10 from the target, exactly one converges with "
                 "probability at least 1 - n^2 M0^(-1/3).")
    latex = r"\mu_i^{(0)}\sim N(\mu,I_d)\ \Rightarrow\ \Pr[(1),(2)]\ge1-n^2M_0^{-1/3}"
    constants = (Constant("n", 2, "given"), Constant("d", 1, "given"), Constant("M0", 1e13, "given"), Constant("samples", 200_000, "given"),
                 Constant("seed", 0, "given"))

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on a sample of starts; the constants n, d, M0, samples and seed say which."""
        if subject is not None or params0 is not None or step_size is not None:
            raise ValueError(f"{self.name} is about random starts and draws its own: check(name, n=2, d=1, M0=1e13, samples=1000, seed=0)")
        known = self.given(constants)
        n, d = (check_integer(known[key].value, key, minimum=least) for key, least in (("n", 1), ("d", 1)))
        trials, seed = check_integer(known["samples"].value, "samples", minimum=1), check_integer(known["seed"].value, "seed")
        distance = check_positive(known["M0"].value, "M0")
        hypotheses = (Hypothesis("there are at least two students", r"n\ge2", n, ">=", 2),
                      Hypothesis("the start is far from the target", r"M_0>10^9\sqrt d\,n^{10}", distance, ">",
                                 far_start.least_distance(n, d)))
        if n < 2:
            return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses)
        hits, good = self._frequency(n, d, distance, trials, seed)
        low, high = binomial_interval(hits, trials, _CONFIDENCE)
        bound = self._promised(n, distance)
        share = hits / trials
        error = share - low if share >= bound else high - share
        frequency = Conclusion("the conditions of Theorem 3.5 hold at least as often as promised", r"\Pr[(1),(2)]\ge1-n^2M_0^{-1/3}", share,
                               ">=", bound, error=error,
                               tag="reconstructed", note=f"{hits} of {trials} draws, {100 * _CONFIDENCE:g} % interval {low:.6g} to "
                                                         f"{high:.6g}; the conditions' exponents are reconstructed")
        measured = {"share": share, "interval": [low, high], "promised": bound,
                    "leading order of ln(share of starts of which not exactly one converges), -M0^2/2 in 1-D (derived)":
                    -distance * distance / 2,
                    "share of draws expected to fail (2) in 1-D (derived)":
                    n * (n - 1) / 2 * distance ** (-1 / 3) / 2 * _nearest_density(n)}
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, (frequency, *self._run(distance, good)),
                      (), measured)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:  # pragma: no cover - about no setting
        return []

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:  # pragma: no cover - about no setting
        return []

    def examples(self) -> dict[str, Example]:
        return {"published distance": Example("verified", lambda: {"n": 2, "d": 1, "M0": 1e13}, "n=2, d=1"),
                "a million": Example("vacuous", lambda: {"n": 3, "d": 2, "M0": 1e6}, "n=3, d=2: it is kept all the same"),
                "few draws": Example("undecided", lambda: {"n": 2, "d": 1, "M0": 1e13, "samples": 100}, "too few to tell")}

    @staticmethod
    def _promised(n: int, distance: float) -> float:
        found: float = 1 - n**2 * distance ** (-1 / 3)
        return found

    @staticmethod
    def _frequency(n: int, d: int, distance: float, trials: int, seed: int) -> tuple[int, np.ndarray | None]:
        """How many draws meet the conditions, and the first that does."""
        rng, hits, good = np.random.default_rng(seed), 0, None
        block = max(1, 2_000_000 // (n * d))
        for first in range(0, trials, block):
            deviations = rng.standard_normal((min(block, trials - first), n, d))
            held = conditions_hold(distance, deviations)
            if good is None and held.any():
                good = deviations[int(np.argmax(held))]
            hits += int(held.sum())
        return hits, good

    @staticmethod
    def _run(distance: float, deviations: np.ndarray | None) -> list[Conclusion]:
        """Theorem 3.5's conclusions for one draw."""
        if deviations is None:
            return []
        if distance > _RUNNABLE:
            return [Conclusion("one converges and all others diverge",
                               note=f"no run beyond M0 = {_RUNNABLE:g}, where products leave float64's range: a smaller M0 would decide")]
        centre = np.zeros(deviations.shape[1])
        centre[0] = distance
        objective = ScoreMatching(Gaussian(np.zeros(len(centre))), rule=Auto(tol=1e-8))
        run = gradient_flow(objective, init.around(centre, deviations), t_end=max(400.0, 4 * far_start.stage_one(distance)), rtol=1e-6)
        setting = Setting.of(run)
        nearest, _ = far_start.gaps(setting.state.centre, setting.state.deviations, setting.state.log_scale)
        return [far_start.nearest_converges(setting, nearest), far_start.others_diverge(setting, nearest)]


def _nearest_density(n: int) -> float:
    r"""Density at 0 of the gap between the two nearest of n standard normal numbers, over their n(n-1)/2 pairs.

    :math:`2\int\phi(x)^2(1-\Phi(x))^{n-2}dx`; :math:`1/\sqrt\pi` for n = 2.
    """
    from scipy.special import ndtr

    x = np.arange(-12.0, 12.0, 0.01)
    return float(0.01 * 2 * (np.exp(-(x**2)) / (2 * math.pi) * ndtr(-x) ** (n - 2)).sum())
