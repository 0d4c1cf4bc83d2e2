"""The papers' figures, each a function that computes it anew and returns data that draw themselves.

A new experiment is one file whose function carries :func:`~overparam.experiments.registry.register`, and one line below.
"""

from overparam.experiments import luo2025 as luo2025
from overparam.experiments import tyurin2026 as tyurin2026
from overparam.experiments import xu2023 as xu2023
from overparam.experiments import xu2024 as xu2024
from overparam.experiments import zhang2025 as zhang2025
from overparam.experiments import zhang2026 as zhang2026
from overparam.experiments import zhou2025 as zhou2025
from overparam.experiments.registry import list, register, run
from overparam.experiments.result import ExperimentResult

__all__ = ["ExperimentResult", "list", "luo2025", "register", "run", "tyurin2026", "xu2023", "xu2024", "zhang2025", "zhang2026", "zhou2025"]


def __dir__() -> tuple[str, ...]:
    return tuple(__all__)  # what Tab shows
