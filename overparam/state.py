"""Parameters as centre + deviations, in coordinates of a basis."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from overparam._validation import check_array, check_params, check_real
from overparam.layout import Layout

__all__ = ["LARGEST_STORED", "State"]

#: Deviations that stand for smaller ones are stored with their largest entry in [_SMALLEST_STORED, LARGEST_STORED], put at _STORED
#: when they leave it: small enough that every equation is linear in them to relative 1e-100, large enough that their squares are
#: normal numbers and that entries 150 orders smaller than the largest are still there.
LARGEST_STORED = 1e-105
_STORED, _SMALLEST_STORED = 1e-130, 1e-150
_REPRESENTABLE = math.log(1e-150)  # from here on the deviations are stored as they are


def _windowed(deviations: np.ndarray, log_scale: float) -> tuple[np.ndarray, float]:
    """The same deviations with another scale: as they are (log_scale 0) if float64 holds them well, else inside the window."""
    peak = float(np.abs(deviations).max())
    if peak == 0.0:
        return deviations, 0.0
    if math.log(peak) + log_scale >= _REPRESENTABLE:
        half = math.exp(log_scale / 2)  # the whole factor may underflow where its product with the deviations does not
        return deviations * half * half, 0.0
    if _SMALLEST_STORED <= peak <= LARGEST_STORED:
        return deviations, log_scale
    shift = round(math.log2(_STORED) - math.log2(peak))
    return np.ldexp(deviations, shift), log_scale - shift * math.log(2)


def _view(array: np.ndarray) -> np.ndarray:
    """A read-only view: the state cannot be changed through it, and nothing is copied."""
    view = array.view()
    view.flags.writeable = False
    return view


def _is_new(array: np.ndarray, ndim: int) -> bool:
    """Whether a basis or origin has not been looked at yet: those of a million dimensions are checked once, not at every step."""
    return not (isinstance(array, np.ndarray) and array.dtype == np.float64 and array.ndim == ndim and not array.flags.writeable)


@dataclass(frozen=True, eq=False)
class State:
    r"""Parameters :math:`\mu_i = o + B\,(c + e^\lambda\delta_i)`, kept apart so that nothing is lost.

    A plain (n, d) array is the state with origin 0, identity basis and centre 0. Keeping the centre :math:`c` and the
    deviations :math:`\delta_i` apart keeps deviations of 1e-300 exact however far the centre is; the basis :math:`B` keeps
    states in a million dimensions small; and :math:`\lambda\le0`, 0 almost always, carries deviations below float64's range.

    Parameters
    ----------
    centre : (k,) array
        :math:`c`, in the coordinates of the basis.
    deviations : (n, k) array
        :math:`\delta_i`, one row per parameter vector.
    basis : (d, k) array, optional
        :math:`B`, orthonormal columns. None stands for the identity (then k = d).
    origin : (d,) array, optional
        :math:`o`. None stands for 0.
    log_scale : float
        :math:`\lambda\le0`: the deviations are :math:`e^\lambda` times the stored ones. Where float64 holds them (largest entry
        at least 1e-150) they are multiplied out and `log_scale` becomes 0; else a power of 2 is moved between the two, so that the
        largest stored entry lies between 1e-150 and 1e-105. Only the product has a meaning; `log_spread` tells its size.

    layout : Layout, optional
        Shape of the parameters whose rows these are, where it is not (n, d) real numbers: `params` has it.

    Raises
    ------
    ValueError
        If shapes do not fit, a number is not finite or `log_scale` is above 0.

    Notes
    -----
    With a `log_scale` one scale serves all deviations: entries more than 150 orders of magnitude below the largest become 0. Runs
    need equal weights then, since unequal ones split coincident parameters in one step; see :func:`overparam.gradient_descent`.

    Examples
    --------
    >>> import numpy as np
    >>> from overparam import State
    >>> state = State(centre=np.array([15.0]), deviations=np.array([[1e-97], [-1e-97]]))
    >>> state.n, state.d, state.spread == 2e-97
    (2, 1, True)
    >>> state.params.ravel().tolist()       # the sum rounds; the state does not
    [15.0, 15.0]
    >>> tiny = State(centre=np.array([40.0]), deviations=np.array([[1.0], [-1.0]]), log_scale=-2000.0)
    >>> round(tiny.log_spread, 9), tiny.spread     # ln 2 - 2000; float64 ends at e**-745
    (-1999.306852819, 0.0)
    """

    centre: np.ndarray
    deviations: np.ndarray
    basis: np.ndarray | None = field(default=None, repr=False)
    origin: np.ndarray | None = field(default=None, repr=False)
    log_scale: float = 0.0
    layout: Layout | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        centre = check_array(self.centre, "centre", ndim=1)
        deviations = check_params(self.deviations, "deviations")
        if deviations.shape[1] != centre.shape[0]:
            raise ValueError(f"deviations have {deviations.shape[1]} coordinates and the centre has {centre.shape[0]}: "
                             "they must agree")
        log_scale = check_real(self.log_scale, "log_scale", maximum=0.0)
        if log_scale:
            deviations, log_scale = _windowed(deviations, log_scale)
        object.__setattr__(self, "log_scale", log_scale)
        object.__setattr__(self, "centre", _view(centre))
        object.__setattr__(self, "deviations", _view(deviations))
        if self.basis is not None and _is_new(self.basis, 2):
            object.__setattr__(self, "basis", _view(check_params(self.basis, "basis")))
        if self.origin is not None and _is_new(self.origin, 1):
            object.__setattr__(self, "origin", _view(check_array(self.origin, "origin", ndim=1)))
        if self.basis is not None and self.basis.shape[1] != centre.shape[0]:
            raise ValueError(f"basis must have shape (d, {centre.shape[0]}); got {self.basis.shape}")
        if self.origin is not None and self.origin.shape != (self.d,):
            raise ValueError(f"origin must have shape ({self.d},); got {self.origin.shape}")
        if self.layout is not None and self.layout.rows != (self.n, self.d):
            raise ValueError(f"parameters of shape {self.layout.shape} have {self.layout.rows} rows and columns; got ({self.n}, {self.d})")

    def __setstate__(self, state: dict[str, Any]) -> None:  # unpickled arrays come back writable
        vars(self).update({name: _view(part) if isinstance(part, np.ndarray) else part for name, part in state.items()})

    @classmethod
    def of(cls, params: Any, name: str = "params") -> State:
        """Return `params` itself if it is a State, or the plain state of an (n, d) array; errors call it `name`."""
        if isinstance(params, State):
            return params
        array = check_params(params, name)
        return cls(centre=np.zeros(array.shape[1]), deviations=array)

    @classmethod
    def laid_out(cls, array: np.ndarray) -> State:
        """Return the plain state of an array of any shape, real or complex."""
        layout = Layout.of(array)
        rows = array if layout is None else layout.pack(array)
        return cls(centre=np.zeros(rows.shape[1]), deviations=rows, layout=layout)

    @property
    def n(self) -> int:
        """Number of parameter vectors."""
        found: int = self.deviations.shape[0]
        return found

    @property
    def k(self) -> int:
        """Number of reduced coordinates."""
        found: int = self.deviations.shape[1]
        return found

    @property
    def d(self) -> int:
        """Dimension of the space the parameters live in."""
        return self.k if self.basis is None else self.basis.shape[0]

    @property
    def true_deviations(self) -> np.ndarray:
        """(n, k) deviations with the scale multiplied out: 0 where they are below float64's range."""
        return self.deviations if self.log_scale == 0.0 else self.deviations * math.exp(self.log_scale)

    @property
    def coordinates(self) -> np.ndarray:
        """(n, k) array c + δ_i: rounded where the deviations are far below the centre."""
        found: np.ndarray = self.centre + self.true_deviations
        return found

    @property
    def params(self) -> np.ndarray:
        """(n, d) array of parameters in the full space, rounded to float64; of the layout's shape, where there is one."""
        return self.shaped(self.expand(self.coordinates))

    @property
    def spread(self) -> float:
        """Largest extent of the parameters along an axis of the basis; 0 where it is below float64's range."""
        return float(np.ptp(self.true_deviations, axis=0).max())

    @property
    def log_spread(self) -> float:
        """Natural logarithm of the spread, however small it is; -inf for coincident parameters."""
        stored = float(np.ptp(self.deviations, axis=0).max())
        return math.log(stored) + self.log_scale if stored > 0 else -math.inf

    def expand(self, coordinates: np.ndarray) -> np.ndarray:
        """Map (..., k) coordinates to (..., d) points of the full space."""
        points = coordinates if self.basis is None else coordinates @ self.basis.T
        return points if self.origin is None else points + self.origin

    def shaped(self, rows: np.ndarray) -> np.ndarray:
        """Map (..., n, d) rows to the parameters' own shape."""
        return rows if self.layout is None else self.layout.unpack(rows)

    def expand_gradient(self, rows: np.ndarray) -> np.ndarray:
        """Map (..., k) gradient rows to the full space: the origin does not take part."""
        return rows if self.basis is None else rows @ self.basis.T

    def moved(self, centre: np.ndarray, deviations: np.ndarray) -> State:
        """The same basis, origin and scale with other coordinates."""
        return replace(self, centre=centre, deviations=deviations)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.params, dtype=dtype)
