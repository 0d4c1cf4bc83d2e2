"""Lemma B.5: the operator norm of random starts on a sphere, by Monte Carlo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam import init
from overparam._validation import check_integer, check_positive
from overparam.theory.report import Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, register
from overparam.theory.tyurin2026 import common
from overparam.theory.zhang2025.random_start import binomial_interval

__all__ = ["LemmaB5", "delta_4", "operator_norms"]

_CONFIDENCE = 0.999  # of intervals of frequencies
_MOST = 20_000_000  # random numbers at most
_BLOCK = 1_000_000  # random numbers at a time


def delta_4(radius: float, n: int, d: int, rho: float) -> float:
    r"""Return :math:`\Delta_4=R_0\sqrt{\frac nd+\max\{\frac43\ln\frac{2d}\rho,\sqrt{\frac{4n}d\ln\frac{2d}\rho}\}}`.

    Examples
    --------
    >>> import math
    >>> from overparam.theory.tyurin2026.sphere import delta_4
    >>> round(delta_4(radius=2.0, n=3, d=1, rho=2 / math.e) - 2 * math.sqrt(3 + math.sqrt(12)), 12)       # the logarithm is 1
    0.0
    """
    log = math.log(2 * d / rho)
    return radius * math.sqrt(n / d + max(4 / 3 * log, math.sqrt(4 * n / d * log)))


def operator_norms(radius: float, n: int, d: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) operator norms of the matrices whose columns are starts of `op.init.on_sphere`."""
    found, block = [], max(1, _BLOCK // (n * d))
    for first in range(0, draws, block):
        size = min(block, draws - first)
        starts = init.on_sphere(size * n, radius, d, rng).reshape(size, n, d)
        found.append(np.linalg.norm(starts, 2, axis=(1, 2)))
    return np.concatenate(found)


@register
class LemmaB5(Theorem):
    r"""Lemma B.5: the operator norm of random starts :math:`\mu_\ell^0=R_0\eta_\ell/\|\eta_\ell\|` on a sphere.

    .. math:: \Pr\{\|[\mu_1^0\cdots\mu_n^0]\|_{op}\le\Delta_4\}\ge1-\rho,\qquad
              \Delta_4=R_0\sqrt{\frac nd+\max\Big\{\frac43\ln\frac{2d}\rho,\sqrt{\frac{4n}d\ln\frac{2d}\rho}\Big\}}

    The frequency over ``samples`` draws has a Clopper-Pearson interval: ``check(name, n=20, d=5, rho=0.1)``. The norm is never above
    :math:`R_0\sqrt n`; where :math:`\Delta_4` is, the lemma says nothing that is not clear.
    """

    name = "tyurin2026.lemma_b_5"
    title = "Lemma B.5 (operator norm of random starts)"
    source = common.PAPER
    statement = "The operator norm of n random starts on a sphere of radius R0 is at most Delta_4 with probability at least 1 - rho."
    latex = (r"\Pr\{\|[\mu_1^0\cdots\mu_n^0]\|_{op}\le\Delta_4\}\ge1-\rho,\ \Delta_4=R_0\sqrt{\tfrac nd+\max\{\tfrac43\ln\tfrac{2d}\rho,"
             r"\sqrt{\tfrac{4n}d\ln\tfrac{2d}\rho}\}}")
    constants = (Constant("n", 20, "given"), Constant("d", 5, "given"), Constant("R0", 30.0, "given"), Constant("rho", 0.1, "given"),
                 Constant("samples", 5000, "given"), Constant("seed", 0, "given"))

    def check(self, subject: Any = None, params0: Any = None, *, step_size: Any = None, confirm: bool = True, **constants: Any) -> Report:
        """Check on a sample of starts; the constants n, d, R0, rho, samples and seed say which."""
        if subject is not None or params0 is not None or step_size is not None:
            raise ValueError(f"{self.name} is about random starts and draws its own: check(name, n=20, d=5, R0=30, rho=0.1)")
        known = self.given(constants)
        n, d, samples, seed = (check_integer(known[key].value, key, minimum=least) for key, least in
                               (("n", 1), ("d", 1), ("samples", 1), ("seed", 0)))
        radius, rho = check_positive(known["R0"].value, "R0"), check_positive(known["rho"].value, "rho")
        if samples * n * d > _MOST:
            raise ValueError(f"samples must not be above {_MOST // (n * d)} for n = {n}, d = {d}; got {samples}")
        hypotheses = (Hypothesis("rho is a probability", r"\rho<1", rho, "<", 1.0),)
        if rho >= 1:
            return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses)
        bound = self._bound(radius, n, d, rho)
        norms = operator_norms(radius, n, d, samples, np.random.default_rng(seed))
        hits = int((norms <= bound * (1 + 1e-12)).sum())  # rounding of the norm
        low, high = binomial_interval(hits, samples, _CONFIDENCE)
        share, promised = hits / samples, 1 - rho
        frequency = Conclusion("the norm is at most Delta_4 at least as often as promised", r"\Pr\ge1-\rho", share, ">=", promised,
                               error=share - low if share >= promised else high - share,
                               note=f"{hits} of {samples} draws, {100 * _CONFIDENCE:g} % interval {low:.6g} to {high:.6g}")
        measured = {"share": share, "interval": [low, high], "Delta_4": bound, "largest norm drawn": float(norms.max()),
                    "quantile 1 - rho of the norm": float(np.quantile(norms, promised)), "R0 sqrt(n)": radius * math.sqrt(n)}
        return Report(self.name, self.title, self.statement, self.source, self.tag, hypotheses, (frequency,), (), measured)

    def hypotheses(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:  # pragma: no cover - about no setting
        return []

    def conclusions(self, setting: Setting, constants: Mapping[str, Constant]) -> list[Conclusion]:  # pragma: no cover - about no setting
        return []

    def examples(self) -> dict[str, Example]:
        return {"twenty in five dimensions": Example("verified", dict, "n=20, d=5, rho=0.1"),
                "many": Example("verified", lambda: {"n": 200, "d": 4, "rho": 0.01, "samples": 2000}, "n=200, d=4: below R0 sqrt(n)"),
                "few draws": Example("undecided", lambda: {"samples": 20}, "too few to tell"),
                "no probability": Example("vacuous", lambda: {"rho": 1.5}, "rho=1.5")}

    @staticmethod
    def _bound(radius: float, n: int, d: int, rho: float) -> float:
        return delta_4(radius, n, d, rho)
