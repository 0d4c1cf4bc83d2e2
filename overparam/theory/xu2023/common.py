"""What the statements share: the setting of the paper, the neurons' geometry, and where the phases of a run begin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from overparam.objectives import ReLUNeuron
from overparam.objectives.base import Objective
from overparam.objectives.relu_geometry import unit_offsets
from overparam.state import State
from overparam.theory import trends
from overparam.theory.report import Constant, Hypothesis
from overparam.theory.theorem import Setting
from overparam.trajectory import Trajectory

__all__ = ["OPEN", "OWN", "PAPER", "Neurons", "balanced", "flow", "levels", "local_phase", "motion", "neuron", "neurons", "random_start",
           "several", "since"]

PAPER = "Xu and Du 2023 (arXiv 2302.10034)"
OWN = "this library, for the setting of Xu and Du 2023 (arXiv 2302.10034)"

#: Constants of the start and the step, whose exponents are not known either.
OPEN = (Constant("C_sigma", None, "unknown"), Constant("C_d", None, "unknown"))

_BINS, _SPAN = 8, 1e-4  # bins, and the part of the time where the first begins, of which a trend is read off
_FLAT = 1e-3  # exponent that is none: the statements' are whole numbers, and shapes may settle like a logarithm


@dataclass(frozen=True, eq=False)
class Neurons:
    r"""Neurons seen from the target's direction.

    Attributes
    ----------
    lengths, along, angles : (n,) arrays
        :math:`\|w_i\|`, :math:`\langle w_i,\bar v\rangle` and :math:`\theta_i`.
    across : (n, k - 1) array
        :math:`z_i=w_i-\langle w_i,\bar v\rangle\bar v`.
    target : float
        :math:`\|v\|`.
    """

    lengths: np.ndarray
    along: np.ndarray
    angles: np.ndarray
    across: np.ndarray
    target: float

    @property
    def potential(self) -> float:
        r""":math:`Z=\sum_{i<j}\|z_i-z_j\|`."""
        gaps = np.linalg.norm(self.across[:, None] - self.across, axis=2)
        return float(gaps.sum()) / 2

    @property
    def residual(self) -> float:
        r""":math:`\|\sum_iw_i-v\|`."""
        return float(np.hypot(self.along.sum() - self.target, np.linalg.norm(self.across.sum(axis=0))))


def neurons(objective: ReLUNeuron, state: State) -> Neurons:
    """The geometry of a state."""
    rows = objective.start(state).coordinates
    lengths, offsets = unit_offsets(rows)
    apart = np.linalg.norm(offsets, axis=1)
    sums = offsets.copy()
    sums[:, 0] += 2
    return Neurons(lengths, rows[:, 0], 2 * np.arctan2(apart, np.linalg.norm(sums, axis=1)), rows[:, 1:], objective.length)


def neuron(objective: Objective) -> Hypothesis:
    """The loss is that of one ReLU neuron."""
    return Hypothesis("the loss is that of n ReLU neurons against one", r"L=\tfrac12\mathbb E(\sum_i[w_i^\top x]_+-[v^\top x]_+)^2",
                      fact=isinstance(objective, ReLUNeuron), structural=True)


def several(setting: Setting, tag: str = "published") -> Hypothesis:
    """There are at least two students."""
    return Hypothesis("there are at least two neurons", r"n\ge2", fact=setting.n >= 2, structural=True, tag=tag)


def flow(setting: Setting, tag: str = "published") -> Hypothesis:
    """The run is a gradient flow."""
    return Hypothesis("the run is a gradient flow", r"\dot w_i=-\nabla_iL", tag=tag,
                      fact=None if setting.run is None else setting.run.driver == "gradient_flow")


def motion(setting: Setting, tag: str = "published") -> Hypothesis:
    """The run is gradient descent, or its limit of small steps."""
    words, latex = "the run is gradient descent, or its flow", r"w_i^+=w_i-\eta\nabla_iL"
    if setting.run is None:
        return Hypothesis(words, latex, note="no run was given", tag=tag)
    plain = setting.run.driver == "gradient_descent" and setting.step_size is not None and "precondition" not in setting.run.settings
    driver = setting.run.driver
    return Hypothesis(words, latex, fact=plain or driver == "gradient_flow", note=f"the driver is {driver}", tag=tag)


def random_start(setting: Setting, constants: Mapping[str, Constant]) -> list[Hypothesis]:
    """The start is small and the dimension large: how small and how large is not known."""
    lengths = np.linalg.norm(setting.state.coordinates, axis=1)
    target = setting.objective.length if isinstance(setting.objective, ReLUNeuron) else math.nan
    small, wide = constants["C_sigma"], constants["C_d"]
    words = "the random start is small beside the target", "the dimension is large beside ln n"
    latex = r"\max_i\|w_i(0)\|\le C_\sigma\|v\|", r"d\ge C_d\ln n"
    found = []
    for place, (constant, left, relation, unit) in enumerate(((small, float(lengths.max()), "<=", target),
                                                              (wide, float(setting.d), ">=", math.log(max(setting.n, 1))))):
        if constant.value is None:
            ratio = left / unit if unit else math.inf
            found.append(Hypothesis(words[place], latex[place], left, relation, math.nan, tag="unknown", tested=False,
                                    note=f"the ratio is {ratio:.3g}; the polynomial that is needed is not known: give {constant.name}="))
        else:
            found.append(Hypothesis(words[place], latex[place], left, relation, constant.value * unit, tag=constant.tag))
    return found


def balanced(found: Neurons) -> bool:
    r"""Whether :math:`\|w_i\|\in[\|v\|/(3n),3\|v\|/n]` for all i."""
    share = found.target / len(found.lengths)
    return bool((found.lengths >= share / 3).all() and (found.lengths <= 3 * share).all())


def local_phase(run: Trajectory) -> int | None:
    """The first record at which all lengths are balanced, the paper's T_2; None if there is none."""
    for record, state in enumerate(run.states):
        if balanced(neurons(run.objective, state)):
            return record
    return None


def since(run: Trajectory, record: int) -> np.ndarray:
    """Flow times counted from a record."""
    found: np.ndarray = run.times - run.times[record]
    return found


def levels(times: np.ndarray, values: np.ndarray, upper: bool, error: float) -> tuple[bool | None, str]:
    r"""Whether `values` are seen to stay bounded (`upper`) or away from 0, on the last four decades of `times`; else None.

    The largest (smallest) value in each of eight bins of the logarithm of time, by :func:`overparam.theory.trends.levels_off`. `error` is
    that of their logarithms; a drift like a power below 0.001 over the last two decades counts as none. No finite run contradicts a bound
    whose constant is not known: a drift that goes on is not decided.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam.theory.xu2023.common import levels
    >>> times = np.geomspace(1, 1e5, 200)
    >>> levels(times, 1 - 1 / times, True, 0.0)[0], levels(times, times**0.1, True, 0.0)[0]
    (True, None)
    """
    if not (len(times) > _BINS and times[-1] > 0):
        return None, "there are too few records: a longer run would decide"
    edges = times[-1] * np.geomspace(_SPAN, 1, _BINS + 1)
    edges[-1] *= 1 + 1e-9
    bins = [values[(times >= low) & (times < high)] for low, high in itertools.pairwise(edges)]
    if any(one.size == 0 for one in bins):
        return None, "half a decade of the last four has no record: a longer run, or more records, would decide"
    with np.errstate(divide="ignore", invalid="ignore"):
        tops = np.array([math.log(one.max()) if upper else -math.log(one.min()) if one.min() > 0 else math.inf for one in bins])
    level, note = trends.levels_off(edges[1:], tops, error, "large")
    half = _BINS // 2
    drift = float(tops[-1] - tops[half]) / math.log(edges[-1] / edges[half + 1])
    if abs(drift) <= _FLAT:
        return True, f"{note}; an exponent of {drift:+.2g}"
    return (True, note) if level else (None, f"{note}: a longer run would decide")
