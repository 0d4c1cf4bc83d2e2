"""What the papers' theorems say of a run: checkers and their reports.

::

    op.theory.list()                                        # names of all statements
    op.theory.check("zhang2025.theorem_3_5", traj)          # a Report: verdict, hypotheses with margins, conclusions, tags
    op.theory.check(name, obj, params0, step_size=0.01)     # the hypotheses alone
    op.theory.sharpness("zhang2025.theorem_3_2", n=2)       # how much weaker a condition might be
"""

from overparam.theory import luo2025, tyurin2026, xu2023, xu2024, zhang2025, zhang2026, zhou2025
from overparam.theory.report import TAGS, VERDICTS, Claim, Conclusion, Constant, Hypothesis, Report
from overparam.theory.theorem import Example, Setting, Theorem, check, get, register
from overparam.theory.theorem import list_theorems as list
from overparam.theory.thresholds import Sharpness, sharpness

__all__ = ["TAGS", "VERDICTS", "Claim", "Conclusion", "Constant", "Example", "Hypothesis", "Report", "Setting", "Sharpness", "Theorem",
           "check", "get", "list", "luo2025", "register", "sharpness", "tyurin2026", "xu2023", "xu2024", "zhang2025", "zhang2026",
           "zhou2025"]


def __dir__() -> tuple[str, ...]:
    return tuple(__all__)  # what Tab shows
