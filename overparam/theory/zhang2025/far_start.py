r"""What Theorems 3.4 to 3.7 share: starts far from the target, one student nearer than the others, and motions below any float.

From :math:`M_0=10^{12}` on the nearest student reaches the target within :math:`\frac12\ln(8M_0^4)` of flow time while the others stand
still as far as float64 can tell: the force on them is of order :math:`e^{-M_0^2/8}`. That force has a sign and a logarithm all the same,
and both are computed here (:func:`log_push`).
"""

from __future__ import annotations

import math

import numpy as np

from overparam import regimes
from overparam.theory.report import Conclusion, Hypothesis
from overparam.theory.theorem import Setting

__all__ = ["MOST_VISIBLE", "at_least_two", "centre_distance", "far_from_target", "gaps", "least_distance", "log_push", "nearest_converges",
           "others_diverge", "relative_loss_error", "stage_one"]

#: From here on (the others' distance from the target) the law's displacement is below float64's resolution in any run.
MOST_VISIBLE = 40.0

_ALONE = 1e-3  # |mu_near| r/2: what the nearest student's place adds to the logit at its border with a student at r


def centre_distance(setting: Setting) -> float:
    """M0: distance of the students' mean from the target."""
    state = setting.state
    return float(np.linalg.norm(state.centre + math.exp(state.log_scale) * state.deviations.mean(axis=0)))


def least_distance(n: int, d: int) -> float:
    r""":math:`10^9\sqrt d\,n^{10}`."""
    return 1e9 * math.sqrt(d) * float(n) ** 10


def far_from_target(setting: Setting, tag: str = "published", distance: float | None = None) -> Hypothesis:
    r""":math:`M_0>10^9\sqrt d\,n^{10}`; None takes the distance of the students' mean."""
    return Hypothesis("the start is far from the target", r"M_0>10^9\sqrt d\,n^{10}",
                      centre_distance(setting) if distance is None else distance, ">", least_distance(setting.n, setting.d), tag=tag)


def at_least_two(setting: Setting) -> Hypothesis:
    """There are two students or more."""
    return Hypothesis("there are at least two students", r"n\ge2", setting.n, ">=", 2)


def gaps(centre: np.ndarray, deviations: np.ndarray, log_scale: float = 0.0) -> tuple[int, np.ndarray]:
    r"""The nearest of :math:`c+e^\lambda\delta_i` to 0, and the logarithms of how much farther each other one is.

    Formed from differences, :math:`r_j-r_i=(\delta_j-\delta_i)\cdot(\mu_j+\mu_i)/(r_j+r_i)`: at :math:`10^{12}` the distances themselves
    are rounded by more than the gaps that matter.

    Returns
    -------
    nearest : int
    log_gaps : (n - 1,) array
        In the order of the other students; -inf for one at the same distance.
    """
    centre, deviations = np.asarray(centre, dtype=np.float64), np.asarray(deviations, dtype=np.float64)
    scale = math.exp(log_scale)
    points = centre + scale * deviations
    radii = np.linalg.norm(points, axis=1)

    def farther(i: int) -> np.ndarray:
        found: np.ndarray
        found = ((deviations - deviations[i]) * (points + points[i])).sum(axis=1) / np.maximum(radii + radii[i], np.finfo(float).tiny)
        return found

    nearest = int(np.argmin(farther(0)))
    with np.errstate(divide="ignore"):
        return nearest, np.log(np.delete(np.maximum(farther(nearest), 0.0), nearest)) + log_scale


def log_push(r: float) -> float:
    r"""Return :math:`\ln(-\partial_rL)` for one student at the target and one at distance r, of equal weight; NaN where it is not positive.

    With :math:`x=\frac r2+\frac ur` along the axis, :math:`L(r)=\frac{r\,e^{-r^2/8}}{\sqrt{2\pi}}I(r)`,
    :math:`I(r)=\int e^{-u/2-u^2/2r^2}\sigma(u)^2du`, exactly; so :math:`-\partial_rL=L\,(\frac r4-\frac1r-\frac{I'}I)` with
    :math:`I'=r^{-3}\int u^2\dots`, and no number underflows before the logarithm is taken.

    Examples
    --------
    >>> import math
    >>> from overparam.theory.zhang2025.far_start import log_push
    >>> round(math.exp(log_push(8.0)) / (math.sqrt(math.pi / 8) * 16 * math.exp(-8)), 2)      # the leading order
    0.87
    >>> log_push(1e12) < -1e23, math.isnan(log_push(1.0))
    (True, True)
    """
    u = np.arange(-60.0, 160.0, 0.02)  # trapezoid rule on an integrand analytic for |Im u| < pi: exact to rounding
    scaled = u / r
    log_integrand = -u / 2 - scaled**2 / 2 - 2 * np.logaddexp(0.0, -u)
    values = np.exp(log_integrand)
    slope = r / 4 - 1 / r - float((scaled**2 * values).sum() / values.sum()) / r
    if not slope > 0:
        return math.nan
    return math.log(r) - r * r / 8 - math.log(2 * math.pi) / 2 + math.log(0.02 * float(values.sum())) + math.log(slope)


def stage_one(distance: float) -> float:
    r"""Flow time :math:`\frac12\ln(8M_0^4)` after which the nearest student is at :math:`1/(8M_0^3)` [reconstructed]."""
    return (math.log(8) + 4 * math.log(distance)) / 2 if distance > 0 else 0.0


def relative_loss_error(setting: Setting) -> float:
    """Largest relative error of the loss at the records where the loss is not 0."""
    loss, error = np.asarray(setting.run.loss), np.asarray(setting.run.loss_error)
    seen = loss > 0
    return float((error[seen] / loss[seen]).max(initial=0.0))


def nearest_converges(setting: Setting, nearest: int) -> Conclusion:
    r""":math:`\mu_{i_0}\to\mu^*`, as :func:`overparam.regimes.classify` sees it."""
    regime = regimes.classify(setting.run)
    fact = None if nearest in regime.undecided else nearest in regime.converged
    return Conclusion(f"student {nearest + 1}, the nearest, converges to the target", r"\mu_{i_0}\to\mu^*", fact=fact, note=regime.reason)


def others_diverge(setting: Setting, nearest: int) -> Conclusion:
    r"""All other students diverge: seen in the run, or where that motion is below any float, on the logarithm of the force.

    Beyond :data:`MOST_VISIBLE` it is asked that the converging student is so near the target that the nearest of the others, at r, is
    pushed as by one student at the target (:math:`\|\mu_{i_0}\|\,r/2\le10^{-3}`), outwards: :math:`r^2/8\simeq\ln t`. Those behind it
    can only end farther out.
    """
    words, latex = "all others diverge", r"\|\mu_j\|\to\infty,\ j\ne i_0"
    run, regime = setting.run, regimes.classify(setting.run)
    others = [i for i in range(setting.n) if i != nearest]
    distances = regimes.distances(run)[-1]
    if any(i in regime.converged for i in others):
        return Conclusion(words, latex, fact=False, note=regime.reason)
    if any(i in regime.undecided for i in others):
        return Conclusion(words, latex, note=regime.reason)
    closest = float(distances[others].min())
    if closest < MOST_VISIBLE:
        return Conclusion(words, latex, fact=True, note=regime.reason)
    force, bound = log_push(closest), 2 * _ALONE / closest
    if math.isnan(force) or not distances[nearest] <= bound or nearest not in regime.converged:
        return Conclusion(words, latex, note=f"their motion is below float64, and stage 1 has not ended: a longer run in which student "
                                             f"{nearest + 1} comes within {bound:.3g} of the target would decide")
    return Conclusion(words, latex, fact=True, tag="derived",
                      note="their motion is below float64: judged on the logarithmic asymptotics. The nearest of them, at "
                           f"{closest:.6g}, is pushed outwards with exp({force:.6g}), so r^2/8 grows like ln t")
