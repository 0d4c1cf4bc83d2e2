r"""The growth of a small spread under gradient EM, beside the border of score matching: it grows by half as many nats, and has no border.

About a common point c the Kullback–Leibler gradient moves c by :math:`-c/n` and a deviation along c by :math:`+\|c\|^2\delta/n`, to first
order. So small differences along c grow by :math:`\int\|c\|^2dt/n=M^2/2` nats on the way to the target in gradient flow, where score
matching has :math:`M^2`; a step of gradient EM multiplies them by :math:`1+\eta\|c\|^2/n` and c by :math:`1-\eta/n` [derived].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overparam import init
from overparam.drivers import em, gradient_flow
from overparam.objectives import KLDivergence
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import log_spaced

__all__ = ["Growth", "growth_under_em", "measure_growth"]

LOG_SPREAD = -200 * np.log(10.0)  # of the start: 1e-200, so that M^2/2 nats stay within the first order for every M up to 29
CLOSE = 1e-4  # part of its distance at which the centre has arrived: what is left of the growth is 1e-8 of it
RECORDS = 20


@dataclass(frozen=True)
class Growth:
    """Nats by which a spread of 1e-200 grew on the way to the target.

    Attributes
    ----------
    measured : float
        NaN if the run did not end well.
    predicted : float
        :func:`growth_under_em`.
    message : str
        Empty, or how the run ended.
    """

    measured: float
    predicted: float
    message: str = ""


def growth_under_em(M: float, n: int, step_size: float | None = None, close: float = 0.0) -> float:
    r"""Nats that the first order predicts while the centre goes from M to `close` M: :math:`\frac{M^2}2(1-close^2)` in gradient flow.

    Gradient EM: :math:`\sum_k\ln(1+\eta M_k^2/n)`, :math:`M_{k+1}=(1-\eta/n)M_k`.

    Examples
    --------
    >>> from overparam.experiments.zhang2025.phase_boundary_em import growth_under_em
    >>> growth_under_em(6.0, 5), round(growth_under_em(6.0, 5, 0.02), 3)
    (18.0, 17.423)
    """
    if step_size is None:
        return float(M) ** 2 / 2 * (1 - close**2)
    ratio = 1 - step_size / n
    centres = float(M) * ratio ** np.arange(_steps(n, step_size, close or 1e-9))
    return float(np.log1p(step_size / n * centres**2).sum())


def _steps(n: int, step_size: float, close: float) -> int:
    """Steps after which the centre is at `close` of its distance."""
    return int(np.ceil(np.log(close) / np.log1p(-step_size / n)))


def measure_growth(n: int, M: float, positions: np.ndarray, step_size: float | None, tol: float, rtol: float) -> Growth:
    """Follow :math:`M+10^{-200}z_i` in one dimension until the centre is near the target, and compare the spread with that at the start."""
    start = init.around([M], positions[:, None], log_scale=LOG_SPREAD)
    objective = KLDivergence(Gaussian([0.0]), rule=Auto(tol=tol))
    if step_size is None:
        traj = gradient_flow(objective, start, t_end=-n * np.log(CLOSE), rtol=rtol, record=log_spaced(RECORDS), progress=False)
    else:
        traj = em(objective, start, steps=_steps(n, step_size, CLOSE), step_size=step_size, update_weights=False,
                  record=log_spaced(RECORDS), progress=False)
    if traj.status == "interrupted":
        raise KeyboardInterrupt
    predicted = growth_under_em(M, n, step_size, CLOSE)
    if traj.status != "completed":
        return Growth(np.nan, predicted, f"{traj.status}: {traj.message}")
    final = traj.final_state
    return Growth(float(np.log(np.ptp(final.deviations) / np.ptp(start.deviations)) + final.log_scale - start.log_scale), predicted)
