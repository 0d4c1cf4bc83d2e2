r"""Diffusion models made of students: training at every noise time, the exact law of what they sample, and samples.

The teacher is :math:`N(0,1)`, which the Ornstein–Uhlenbeck process :math:`dX=-X\,dt+\sqrt2\,dB` leaves as it is; its score is
:math:`-x`, a student's is :math:`v_t(x)-x`. The reverse process :math:`dX=(-X+2v_t(X))\,ds+\sqrt2\,dB`, from :math:`N(0,1)` at noise time T
down to 0, is stepped by the exponential integrator over intervals of length h, v frozen where a step begins and the student that of the
interval's middle:

.. math:: X'=e^{-h}X+2(1-e^{-h})\,v(X)+\sqrt{1-e^{-2h}}\,Z .

With v = 0 this is exact. In one dimension the law of X is followed on a lattice, so that its distance from the teacher carries no sampling
noise. The chain rule of the Kullback–Leibler divergence over the steps gives, for any students,

.. math:: \mathrm{KL}(N(0,1)\,\|\,\text{samples})\le\sum_k2\tanh\tfrac h2\,L_{t_k}\;\to\;\int_0^TL_t\,dt,\qquad
          \mathrm{TV}\le\sqrt{\mathrm{KL}/2} :

two kernels :math:`N(a,s^2)`, :math:`N(a+2(1-e^{-h})v,s^2)` have the divergence
:math:`2(1-e^{-h})^2v^2/(1-e^{-2h})=2\tanh\frac h2\,v^2`, and :math:`E\,v^2` under the teacher is the loss L at that noise time.
[standard; derived here for this chain]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from overparam import init
from overparam._softmax import softmax
from overparam.drivers import gradient_flow
from overparam.experiments.zhang2025.phase_boundary_runs import profile
from overparam.objectives import ScoreMatching
from overparam.planning import Auto
from overparam.teachers import Gaussian
from overparam.trajectory import log_spaced

__all__ = ["Chain", "Training", "train"]

_LATTICE = 0.1  # steps of the law: a kernel's standard deviation is four of them at h = 0.1, where sums are exact in float64
_FINE = 0.01  # of the last law, of which absolute differences are summed
_MARGIN = 9.0  # standard deviations beyond the outermost mean


@dataclass(frozen=True, eq=False)
class Training:
    """Students of one start, trained at one noise time.

    Attributes
    ----------
    t : float
        Noise time.
    times : (R,) array
        Training times (flow times) of the records.
    means : (R, n) array
    loss : (R,) array
    message : str
        Empty, or how the flow ended before its time.
    """

    t: float
    times: np.ndarray
    means: np.ndarray
    loss: np.ndarray
    message: str


def train(M: float, n: int, spread: float, t: float, t_end: float, records: int, tol: float, rtol: float) -> Training:
    r"""Gradient flow at noise time t from :math:`e^{-t}(M+\epsilon z_i)`, z equispaced of mean 0 and root mean square 1."""
    shrink = math.exp(-t)
    start = init.around([shrink * M], shrink * spread * profile("equispaced", n)[:, None])
    run = gradient_flow(ScoreMatching(Gaussian([0.0]), rule=Auto(tol=tol)), start, t_end=t_end, rtol=rtol, record=log_spaced(records),
                        progress=False)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    means = np.stack([run.params[k][:, 0] for k in range(len(run.times))])
    message = "" if run.status == "completed" else f"{run.status}: {run.message}"
    return Training(t, np.asarray(run.times), means, np.asarray(run.loss), message)


@dataclass(frozen=True, eq=False)
class Chain:
    """The reverse process with one student for each interval of noise time.

    Attributes
    ----------
    means : (K, n) array
        Means of the students of equal weights, by noise time.
    h : float
        Length of an interval.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.experiments.zhang2025.sampling_runs import Chain
    >>> right = Chain(np.zeros((20, 3)), 0.1)                       # the teacher's own score
    >>> all(abs(number) < 1e-10 for number in right.distances())
    True
    """

    means: np.ndarray
    h: float

    def score_mean(self, k: int, x: np.ndarray) -> np.ndarray:
        """v of interval k at x."""
        means = self.means[k]
        found: np.ndarray = softmax(np.outer(x, means) - means**2 / 2) @ means
        return found

    def moved(self, k: int, x: np.ndarray) -> np.ndarray:
        """Mean of the step through interval k from x."""
        return math.exp(-self.h) * x - 2 * math.expm1(-self.h) * self.score_mean(k, x)

    @property
    def width(self) -> float:
        """Standard deviation of a step."""
        return math.sqrt(-math.expm1(-2 * self.h))

    def law(self) -> tuple[np.ndarray, np.ndarray]:
        """Lattice and density of the samples there."""
        reach = float(np.abs(self.means).max()) + _MARGIN
        coarse = _LATTICE * np.arange(-math.ceil(reach / _LATTICE), math.ceil(reach / _LATTICE) + 1)
        fine = _FINE * np.arange(-math.ceil(reach / _FINE), math.ceil(reach / _FINE) + 1)
        density = np.exp(-(coarse**2) / 2) / math.sqrt(2 * math.pi)
        for k in range(len(self.means) - 1, -1, -1):
            places = fine if k == 0 else coarse
            centres = self.moved(k, coarse)
            kernel = np.exp(-(((places[:, None] - centres) / self.width) ** 2) / 2)
            density = kernel @ density * (_LATTICE / (self.width * math.sqrt(2 * math.pi)))
        return fine, density

    def distances(self) -> tuple[float, float]:
        """Total variation of the samples from the teacher, and KL(teacher, samples)."""
        x, density = self.law()
        log_teacher = -(x**2) / 2 - math.log(2 * math.pi) / 2
        teacher = np.exp(log_teacher)
        seen = teacher > 1e-40  # the samples' density is above that wherever a kernel from the teacher's bulk reaches
        with np.errstate(divide="ignore"):
            divergence = teacher[seen] @ (log_teacher[seen] - np.log(density[seen]))
        return float(_FINE * np.abs(density - teacher).sum() / 2), float(_FINE * divergence)

    def divergence_bound(self, losses: np.ndarray) -> float:
        """The chain rule's bound on KL(teacher, samples) from the (K,) losses of the students."""
        return float(2 * math.tanh(self.h / 2) * np.sum(losses))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` samples."""
        x = rng.standard_normal(count)
        for k in range(len(self.means) - 1, -1, -1):
            x = self.moved(k, x) + self.width * rng.standard_normal(count)
        return x
