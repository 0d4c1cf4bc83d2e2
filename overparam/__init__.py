"""overparam: what gradient descent does when an over-parameterized model learns a simple target, exactly.

The public names, and nothing else. SciPy's submodules, xarray, matplotlib and tqdm load when first used.
"""

from importlib import import_module as _import_module

try:
    from overparam._core import score_matching as _compiled  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "overparam's compiled core is missing. If you are in a clone of the project, install it (pip install . , or "
        "pip install -e '.[test]' to develop) and start Python outside the clone's top folder: from inside, the source folder "
        f"hides the installed package. ({_error})") from None

from overparam import init
from overparam._threads import threads
from overparam._version import __version__
from overparam.data_sets import DataSet
from overparam.drivers import adam, em, gradient_descent, gradient_flow, momentum, sgd
from overparam.objectives import KLDivergence, MatrixFactorization, Objective, ReLUNeuron, ReverseFisher, ScoreMatching, TimeAveraged
from overparam.planning import Auto, TooHardError
from overparam.quadrature import GaussHermite, Rule, Trapezoid
from overparam.sampling import MonteCarlo, Sobol, Stratified
from overparam.state import State
from overparam.teachers import Gaussian, GaussianMixture, Teacher
from overparam.trajectory import Trajectory, every, load, log_spaced
from overparam.verification import verify

__all__ = [
    "Auto", "DataSet", "GaussHermite", "Gaussian", "GaussianMixture", "KLDivergence", "MatrixFactorization", "MonteCarlo", "Objective",
    "ReLUNeuron", "ReverseFisher", "Rule", "ScoreMatching", "Sobol", "State", "Stratified", "Teacher", "TimeAveraged", "TooHardError",
    "Trajectory", "Trapezoid", "__version__", "adam", "distances", "em", "every", "experiments", "factors", "gradient_descent",
    "gradient_flow", "init", "load", "log_spaced", "momentum", "plotting", "rates", "regimes", "sgd", "stationary", "sweep", "theory",
    "threads", "verify",
]

_LAZY = ("distances", "experiments", "factors", "plotting", "rates", "regimes", "stationary", "sweeps", "theory")


def __getattr__(name: str):
    if name == "sweep":
        return _import_module("overparam.sweeps").sweep
    if name in _LAZY:
        return _import_module(f"overparam.{name}")
    raise AttributeError(f"module 'overparam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
