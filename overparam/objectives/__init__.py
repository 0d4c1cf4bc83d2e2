"""Objectives, one file each; `BUILT_IN` is the list that descriptions and contract tests go by."""

from __future__ import annotations

from typing import Any

from overparam._validation import check_choice
from overparam.objectives.base import Objective, Plan
from overparam.objectives.evaluation import Estimate, Evaluation
from overparam.objectives.kl import KLDivergence
from overparam.objectives.matrix_factorization import MatrixFactorization
from overparam.objectives.relu_neuron import ReLUNeuron
from overparam.objectives.reverse_fisher import ReverseFisher
from overparam.objectives.score_matching import ScoreMatching
from overparam.objectives.time_averaged import TimeAveraged

__all__ = [
    "BUILT_IN", "Estimate", "Evaluation", "KLDivergence", "MatrixFactorization", "Objective", "Plan", "ReLUNeuron", "ReverseFisher",
    "ScoreMatching", "TimeAveraged", "from_description",
]

BUILT_IN = (ScoreMatching, KLDivergence, ReverseFisher, MatrixFactorization, ReLUNeuron, TimeAveraged)


def from_description(description: dict[str, Any]) -> Objective:
    """Make the built-in objective that ``objective.describe()`` described; ValueError for any other kind."""
    kinds = {kind.__name__: kind for kind in BUILT_IN}
    return kinds[check_choice(description.get("kind"), "objective", kinds)].from_description(description)
