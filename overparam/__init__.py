"""overparam: what gradient descent does when an over-parameterized model learns a simple target, exactly.

The public names, and nothing else. Each loads its module when it is first used, so that ``import overparam`` costs little more than NumPy;
modules of the package are attributes too. SciPy's submodules, xarray, matplotlib and tqdm load later still.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

try:
    from overparam._core import score_matching as _compiled  # noqa: F401
except ImportError as _error:
    raise ImportError(
        "overparam's compiled core is missing. If you are in a clone of the project, install it (pip install . , or "
        "pip install -e '.[test]' to develop) and start Python outside the clone's top folder: from inside, the source folder "
        f"hides the installed package. ({_error})") from None

from overparam._threads import threads  # with what the environment says of them
from overparam._version import __version__

if TYPE_CHECKING:  # what __getattr__ finds; tests compare the two
    from overparam import distances, experiments, factors, init, plotting, rates, regimes, stationary, theory
    from overparam.data_sets import DataSet
    from overparam.drivers.adaptive import adam
    from overparam.drivers.descent import gradient_descent
    from overparam.drivers.expectation_maximization import em
    from overparam.drivers.flow import gradient_flow
    from overparam.drivers.minibatch import sgd
    from overparam.drivers.momentum import momentum
    from overparam.objectives import KLDivergence, MatrixFactorization, Objective, ReLUNeuron, ReverseFisher, ScoreMatching, TimeAveraged
    from overparam.planning import Auto, TooHardError
    from overparam.quadrature import GaussHermite, Rule, Trapezoid
    from overparam.sampling import MonteCarlo, Sobol, Stratified
    from overparam.state import State
    from overparam.sweeps import sweep
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

_HOMES = {
    "data_sets": ("DataSet",),
    "drivers": ("adam", "em", "gradient_descent", "gradient_flow", "momentum", "sgd"),
    "objectives": ("KLDivergence", "MatrixFactorization", "Objective", "ReLUNeuron", "ReverseFisher", "ScoreMatching", "TimeAveraged"),
    "planning": ("Auto", "TooHardError"),
    "quadrature": ("GaussHermite", "Rule", "Trapezoid"),
    "sampling": ("MonteCarlo", "Sobol", "Stratified"),
    "state": ("State",),
    "sweeps": ("sweep",),
    "teachers": ("Gaussian", "GaussianMixture", "Teacher"),
    "trajectory": ("Trajectory", "every", "load", "log_spaced"),
    "verification": ("verify",),
}
_MODULES = ("config", "interop", "measures", "store", "sweeps")  # not in __all__, but public: the documentation names them
_HOME_OF = {_name: _module for _module, _names in _HOMES.items() for _name in _names}

if not TYPE_CHECKING:  # checkers would take it to mean that any name exists

    def __getattr__(name: str) -> object:
        """A public name from its module, or a module of the package."""
        if name in _HOME_OF:
            found = getattr(_import_module(f"overparam.{_HOME_OF[name]}"), name)
            globals()[name] = found  # from now on without this function
            return found
        if not name.startswith("_"):
            try:
                return _import_module(f"overparam.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"overparam.{name}":
                    raise
        raise AttributeError(f"module 'overparam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
