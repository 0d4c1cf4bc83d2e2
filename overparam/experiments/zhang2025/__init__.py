"""Zhang et al., arXiv 2511.22069: over-parameterized score matching of a single Gaussian."""

from overparam.experiments.zhang2025 import corollary_3_6 as _corollary_3_6  # noqa: F401
from overparam.experiments.zhang2025 import covariance as _covariance  # noqa: F401
from overparam.experiments.zhang2025 import far_geometry as _far_geometry  # noqa: F401
from overparam.experiments.zhang2025 import figure_1 as _figure_1  # noqa: F401  importing it registers it
from overparam.experiments.zhang2025 import intermediate as _intermediate  # noqa: F401
from overparam.experiments.zhang2025 import long_horizon as _long_horizon  # noqa: F401
from overparam.experiments.zhang2025 import noise_averaging as _noise_averaging  # noqa: F401
from overparam.experiments.zhang2025 import optimizers as _optimizers  # noqa: F401
from overparam.experiments.zhang2025 import phase_boundary as _phase_boundary  # noqa: F401
from overparam.experiments.zhang2025 import phase_diagram as _phase_diagram  # noqa: F401
from overparam.experiments.zhang2025 import rounding as _rounding  # noqa: F401
from overparam.experiments.zhang2025 import sampling as _sampling  # noqa: F401
from overparam.experiments.zhang2025 import score_matching_vs_em as _score_matching_vs_em  # noqa: F401
from overparam.experiments.zhang2025 import sgd_border as _sgd_border  # noqa: F401
from overparam.experiments.zhang2025 import sharpness as _sharpness  # noqa: F401
from overparam.experiments.zhang2025 import staircase as _staircase  # noqa: F401
from overparam.experiments.zhang2025 import stationary_points as _stationary_points  # noqa: F401
from overparam.experiments.zhang2025 import unequal_weights as _unequal_weights  # noqa: F401
