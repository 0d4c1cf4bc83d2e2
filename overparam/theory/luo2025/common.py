"""What the statements share: the setting of the paper, and factors seen in the frame of the target."""

from __future__ import annotations

from typing import Any

import numpy as np

from overparam import factors
from overparam.objectives import MatrixFactorization
from overparam.objectives.base import Objective
from overparam.state import State
from overparam.theory.report import Hypothesis
from overparam.theory.theorem import Setting

__all__ = ["EPS", "OWN", "PAPER", "balanced", "depth", "drift", "factorization", "factors_of", "flow", "identical", "in_frame", "is_one",
           "real", "scale_of", "sizes_of_target", "step_error", "to_frame"]

PAPER = "Luo et al. 2025 (arXiv 2511.09925)"
OWN = "this library, for the setting of Luo et al. 2025 (arXiv 2511.09925)"

EPS = float(np.finfo(np.float64).eps)


# --- factors ----------------------------------------------------------------------------------------------------------


def is_one(objective: Objective) -> bool:
    """Whether the objective is a matrix factorization."""
    return isinstance(objective, MatrixFactorization)


def factors_of(state: State) -> np.ndarray:
    """(N, d, d) factors of a state."""
    return np.asarray(state.params)


def to_frame(params: np.ndarray, target: np.ndarray) -> np.ndarray:
    r"""(..., N, d, d) factors in whose frame the target :math:`U_s\Sigma V_s^H` is diagonal: :math:`W_1V_s` and :math:`U_s^HW_N`.

    Loss and dynamics are the same in this frame, which is the paper's.
    """
    left, _, right = np.linalg.svd(target)
    moved = np.array(params, dtype=np.result_type(params, left))
    moved[..., 0, :, :] = moved[..., 0, :, :] @ right.conj().T
    moved[..., -1, :, :] = left.conj().T @ moved[..., -1, :, :]
    return moved


def in_frame(setting: Setting, state: State) -> np.ndarray:
    """(N, d, d) factors of a state in the frame of the target."""
    return to_frame(factors_of(state), setting.objective.target)


def sizes_of_target(objective: Any) -> np.ndarray:
    """(d,) singular values of the target, the largest first."""
    return np.linalg.svd(objective.target, compute_uv=False)


def scale_of(params: np.ndarray) -> float:
    """The largest singular value of all factors."""
    return float(factors.factor_extremes(params)[1])


# --- accuracy ---------------------------------------------------------------------------------------------------------


def flow(setting: Setting) -> bool:
    """Whether the run is a gradient flow."""
    return setting.run is not None and setting.run.driver == "gradient_flow"


def step_error(setting: Setting) -> float:
    """Relative error of one step: the integrator's tolerance and rounding."""
    return (setting.run.settings["rtol"] if flow(setting) else 0.0) + 16 * EPS


def drift(setting: Setting) -> float:
    r"""Error of what is quadratic in the factors at the end of a run: every step errs by at most its tolerance of :math:`\|W_j\|`."""
    largest = max(scale_of(factors_of(state)) for state in setting.run.states)
    return 4 * (1 + int(setting.run.steps[-1])) * step_error(setting) * largest**2


# --- hypotheses -------------------------------------------------------------------------------------------------------


def factorization(objective: Objective) -> Hypothesis:
    """The loss is that of matrix factorization."""
    return Hypothesis("the loss is that of matrix factorization",
                      r"L=\tfrac12\|\Sigma-W_N\cdots W_1\|_F^2+\tfrac a4\sum_j\|\Delta_{j,j+1}\|_F^2", fact=is_one(objective),
                      structural=True, note="" if is_one(objective) else f"it is {type(objective).__name__}")


def depth(objective: Any, wanted: int = 4) -> Hypothesis:
    """The product has so many factors."""
    return Hypothesis(f"there are {wanted} factors", f"N={wanted}", fact=objective.depth == wanted, structural=True,
                      note=f"N = {objective.depth}")


def identical(objective: Objective) -> Hypothesis:
    """All singular values of the target are the same."""
    sizes = sizes_of_target(objective)
    same = bool(np.ptp(sizes) <= 16 * len(sizes) * EPS * sizes[0] and sizes[0] > 0)
    return Hypothesis("the target's singular values are the same, above 0", r"\Sigma=\sigma_1I", fact=same, structural=True,
                      note=f"they reach from {sizes[-1]:.6g} to {sizes[0]:.6g}")


def balanced(setting: Setting) -> Hypothesis:
    """The factors of the start are balanced, to rounding."""
    params = factors_of(setting.state)
    size = scale_of(params) ** 2
    worst = float(factors.balance_errors(params).max())
    return Hypothesis("the start is balanced", r"W_jW_j^H=W_{j+1}^HW_{j+1}", worst, "<=", 0.0, attained=True,
                      error=64 * params.shape[-1] * EPS * size, scale=size)


def real(setting: Setting) -> Hypothesis:
    """The factors are real."""
    kind = factors_of(setting.state).dtype.kind
    return Hypothesis("the factors are real", r"W_j\in\mathbb R^{d\times d}", fact=kind == "f", structural=True)
