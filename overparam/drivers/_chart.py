"""Variables in which a gradient flow is smooth from deviations of any size to flow time 1e14 and beyond.

A state is a centre and deviations whose columns may differ by hundreds of orders of magnitude, grow exponentially, and later fall like
a power of time. A :class:`Chart` writes column a as :math:`\\delta_{\\cdot a}=e^{g_a}z_a` with an amplitude that moves along,

.. math:: \\dot g_a=\\lambda_a,\\quad \\dot z_a=e^{-g_a}F_a-\\lambda_az_a,\\qquad
          \\lambda_a=\\frac{(e^{-g_a}F_a\\cdot z_a)\\,z_a\\cdot z_a}{(z_a\\cdot z_a)^2+(\\epsilon n)^2},

F the velocity of the deviations. The product obeys :math:`\\dot\\delta=F` whatever :math:`\\lambda` is; this choice keeps z of order one
through growth and decay, and lets it pass through 0. Amplitudes below float64's range are only ever seen through their logarithm.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from overparam.state import State

if TYPE_CHECKING:
    from overparam._core.chart import Motion
    from overparam.objectives.base import Plan

__all__ = ["Chart", "Opened"]

_SOFT = 1e-2  # epsilon above: z may shrink to a tenth before its amplitude stops following; before, it drifts by 1e-4 an e-fold
_APART = 300.0  # ln of the largest ratio between the amplitudes of columns: squares of smaller ones are not float64's
_SMALLEST = 1e-9  # times sqrt(rtol) and a distance of 20: its square is 4e-16 rtol, less than rtol of the loss at flow time 1e14
_OF_THE_CENTRE = 1e3  # rtol = 1e-8 times this has a square of 1e-10, far less than what rounding does to the centre at flow time 1e17
_NOTHING = 30.0  # a column that is exactly 0 starts with e^-30 of the largest amplitude
_LAUNCH, _STEEP = 10.0, 1e3  # times wider a velocity is than what it moves, where that is counted in units of the velocity: the centre's at
# a teacher that does not rest at the origin, and columns' (a rate of growth is never that large)
_LEAST_UNIT = 1e-8  # of such a centre: rounding of velocities of order one is 1e-8 of it, as is the usual tolerance
_NOISE = 30 * np.finfo(np.float64).eps  # of the widest column: what rounding does to velocities in all columns
_SMALL_CENTRE = 0.2  # of the unit that a far centre starts with: there its amplitude has not followed, and a new chart begins
_GONE = 1e-280  # a centre nearer to the target than this is seen from here: its velocity would leave float64's range, and all is linear
_FADED, _FADED_TWO = 1e-25, 1e-100  # of the deviations' mean, n eps^2 of them is lost, which here shows in a centre of their square's
# size; two have a mean without rounding, until their cubes leave float64's range
_LOST = 0.1  # a column in which that makes up more than this is kept still
_NARROW, _STRETCH = 13.0, 4.0  # ln of how much narrower a column is where noise shows, and of how much that may change under one chart
_PART = 0.25  # ln of how much wider: a box reaches down to about 0.7 of the spread it is made for
_STRAIGHT = 4.0  # times as fast as the amplitude anything may change where a state is extrapolated
_WILD = 10.0  # far more than an entry of y (logarithms, and numbers of order one) changes in a step
_LEAST = -300.0  # ln of the amplitude below which deviations are handed to the kernel rescaled: all is linear there


def _mean(deviations: np.ndarray) -> np.ndarray:
    """(k,) means of the columns, rounded once."""
    return np.array([math.fsum(column) for column in deviations.T]) / len(deviations)


def _like(template: State, centre: np.ndarray, deviations: np.ndarray) -> State:
    """`template` with other finite coordinates, made without looking at what is known: one is needed after every step."""
    state = object.__new__(State)
    vars(state).update(vars(template))
    for name, part in (("centre", centre), ("deviations", deviations)):
        part.flags.writeable = False
        vars(state)[name] = part
    return state


class Opened(NamedTuple):
    """What y stands for, in the frame: centre, amplitudes and z; the centre's amplitude; ln of what amplitudes are to be multiplied by."""

    centre: np.ndarray
    amplitudes: np.ndarray
    z: np.ndarray
    scale: float
    shift: float


class Chart:
    """Coordinates y of the states around `state`.

    Parameters
    ----------
    state : State
        In the form in which its plan moves it (see :meth:`overparam.objectives.base.Plan.settle`).
    moving : bool
        Whether the centre moves on its own.
    frame : (k, k) array
        Orthonormal axes of the columns.
    rows : (n,) bool array, optional
        The parameters that move; all by default. The others stay where they are and have no variables.
    pull : float
        Speed of the centre where all parameters are at the origin, which is not 0 for a mixture teacher: its first mean is there.
    velocity : (n, k) array, optional
        What deviations of the state move along, in its coordinates: columns of width 0 need not stay so under such a teacher.
    """

    def __init__(self, state: State, moving: bool, frame: np.ndarray, rows: np.ndarray | None = None, pull: float = 0.0,
                 velocity: np.ndarray | None = None) -> None:
        self.moving, self.frame, self.template, self.rows = moving, frame, replace(state, log_scale=0.0), rows
        if rows is not None and state.log_scale:
            raise ValueError("parameters that stay where they are have no common scale with deviations below float64's range")
        centre, deviations = state.centre @ frame, (state.deviations if rows is None else state.deviations[rows]) @ frame
        n, k = self._shape = deviations.shape
        self._straight = np.array_equal(frame, np.eye(k))
        if moving:  # the split is then unique: deviations of mean 0
            mean = _mean(deviations)
            deviations = deviations - mean
            centre = centre + mean * np.exp(state.log_scale)
        speeds = np.zeros(k)
        if velocity is not None:
            speeds = np.abs((velocity if rows is None else velocity[rows]) @ frame).max(axis=0)
            speeds[speeds <= _NOISE * max(speeds.max(), pull)] = 0.0  # rounding
        peak = np.abs(deviations).max()
        scaled = deviations / (peak if peak > 0 else 1.0)
        with np.errstate(divide="ignore"):
            log_amplitudes = np.log(np.sqrt((scaled**2).mean(axis=0)))
            self.log_extent = float(np.log(peak)) + state.log_scale if peak > 0 else -np.inf
        self._coincident = peak == 0
        if self._coincident:  # all coincide, and stay so: z is 0 and the amplitude has no meaning, but must count as small
            log_amplitudes, offset = np.zeros(k), -200.0
        else:
            offset = self.log_extent
            log_amplitudes = np.where(np.isfinite(log_amplitudes), np.maximum(log_amplitudes, -_APART), -_NOTHING)
        # what moves by far more than its width begins as a part of its velocity, not as a long way of e-folds
        with np.errstate(divide="ignore", over="ignore"):
            fast = np.log(speeds) - offset
        steep = (speeds > 0) & ((np.abs(scaled).max(axis=0) == 0) | (fast > log_amplitudes + math.log(_STEEP)))
        if steep.any():
            log_amplitudes = np.where(steep, fast, log_amplitudes)
            log_amplitudes = np.maximum(log_amplitudes, log_amplitudes.max() - _APART)
        self._apart = log_amplitudes.max() - log_amplitudes
        #: columns in which nothing would move but rounding: far narrower than the widest, or 0 by symmetry
        self.still = (_NOISE * np.exp(self._apart) > _LOST) | ((np.abs(scaled).max(axis=0) == 0) & (centre == 0) & (speeds == 0))
        z = (deviations if steep.any() else scaled) / np.exp(log_amplitudes + (offset if steep.any() else 0.0))
        distance = float(np.linalg.norm(centre))
        #: far: the centre is wider than the deviations and has an amplitude of its own; near: that of the widest column, squared, because
        #: the loss is of fourth order in the deviations and of second order in the centre
        #: launched: far, from nearly the origin where it does not rest; its unit is its speed there
        self._launched = moving and pull > _LAUNCH * max(distance, np.exp(self.log_extent))
        if self._launched:
            distance = max(pull, _LEAST_UNIT)
        self.far = moving and distance > 0 and np.log(distance) > self.log_extent
        self._levels = log_amplitudes + offset  # g is counted from here, so that a tolerance relative to it is one of what has changed
        self._fixed, parts = centre, [np.zeros(k), z.ravel()]
        self._widest = int(np.argmax(log_amplitudes))
        if self.far:
            parts = [[np.log(distance)], *parts, centre / distance]
        elif moving:
            unit = math.exp(min(-2 * self._levels[self._widest], 700.0))  # where even that is too small the centre is 0 as well
            parts = [*parts, centre * unit]
        self.start = np.concatenate(parts)
        first = int(self.far)
        self._g, self._z = slice(first, first + k), slice(first + k, first + k + n * k)
        self._c = slice(first + k + n * k, None)

    def tolerances(self, rtol: float) -> np.ndarray:
        """Absolute tolerances of the entries of y.

        Far below `rtol` in the z of wide columns where the centre does not move: one parameter may be at the target there while others are
        far from it, and the loss has the square of its distance, so that it is the root of `rtol` that counts. Far above it in a centre
        near the target, whose part of the loss is its square in units of the deviations' part. And in columns far narrower than the widest
        no less than what rounding of the velocities does there.
        """
        found = np.full(len(self.start), rtol)
        noise = np.minimum(_NOISE * np.exp(np.minimum(self._apart, 100.0)), _LOST)
        column = np.full(self._shape[1], rtol)
        if not self.moving:
            column = np.minimum(rtol, _SMALLEST * np.sqrt(rtol) * np.exp(np.minimum(self._apart, 100.0)))
        column = np.where(self._apart > _NARROW, np.maximum(column, noise), column)
        found[self._z] = np.tile(column, self._shape[0])
        found[self._g] = np.maximum(rtol, column)
        if self.moving and not self.far:
            found[self._c] = _OF_THE_CENTRE * rtol
        return found

    def open(self, y: np.ndarray) -> Opened:
        """What y stands for."""
        g, z = self._levels + y[self._g], y[self._z].reshape(self._shape)
        if self.moving:  # errors of the integrator must not make a second centre
            z = z - np.add.reduce(z) / len(z)
        shift = min(0.0, float(g.max()) - _LEAST) if self.far and self.rows is None else 0.0
        amplitudes = np.exp(g - shift)
        if not self.moving:
            return Opened(self._fixed, amplitudes, z, 1.0, shift)
        scale = max(float(np.exp(y[0])) if self.far else float(amplitudes[self._widest]) ** 2, _GONE)
        return Opened(scale * y[self._c], amplitudes, z, scale, shift)

    def state(self, y: np.ndarray) -> State:
        """The state at y."""
        opened = self.open(y)
        centre, deviations = self.parts(opened)
        if self.moving and self.rows is None:  # their mean is meant to be 0: late what rounding makes of it is more than the centre
            centre = centre - _mean(deviations) * np.exp(opened.shift)
        if opened.shift or not np.isfinite(y).all():
            return replace(self.template, centre=centre, deviations=deviations, log_scale=opened.shift)
        return _like(self.template, centre, deviations)

    def parts(self, opened: Opened) -> tuple[np.ndarray, np.ndarray]:
        """Centre (k,) and (rescaled) deviations (n, k) in the state's coordinates."""
        centre, deviations = opened.centre, opened.amplitudes * opened.z
        if not self._straight:
            centre, deviations = centre @ self.frame.T, deviations @ self.frame.T
        if self.rows is None:
            return centre, deviations
        whole = self.template.deviations + (self.template.centre - centre)
        whole[self.rows] = deviations
        return centre, whole

    def velocity(self, centre_grad: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Velocities of the centre and of the deviations that move, in the frame, where these are what state and centre move along."""
        grad = grad if self.rows is None else grad[self.rows]
        return (-centre_grad, -grad) if self._straight else (-(centre_grad @ self.frame), -(grad @ self.frame))

    def slope(self, y: np.ndarray, opened: Opened, centre_velocity: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """dy/dt from the velocities of centre (k,) and of the (rescaled) deviations (n, k), in the frame."""
        _, amplitudes, z, scale, _ = opened
        relative = np.where(self.still, 0.0, velocity / amplitudes)
        square = np.add.reduce(z * z)
        rate = np.add.reduce(relative * z) * square / (square * square + (_SOFT * self._shape[0]) ** 2)
        out = np.empty_like(y)
        out[self._g] = rate
        out[self._z] = (relative - rate * z).ravel()
        if self.moving:
            own, c = centre_velocity / scale, y[self._c]
            size = float(c @ c)
            follow = float(own @ c) * size / (size * size + _SOFT**2) if self.far else 2 * float(rate[self._widest])
            out[self._c] = own - follow * c
            if self.far:
                out[0] = follow
        return out

    def ahead(self, y: np.ndarray, rate: np.ndarray) -> State | None:
        """The state at which the widest column, growing as y does at `rate`, will be wider by a part; None if it does not grow, or not
        faster than the rest changes: no straight line leads there.
        """
        growth = float(rate[self._g][int(np.argmax(self._levels + y[self._g]))])
        if growth <= 0 or np.abs(rate).max() > _STRAIGHT * growth:
            return None
        return self.state(y + _PART / growth * rate)

    def room(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest entries that a step from y may lead to.

        Amplitudes far below 1 may grow to it at once, whatever their logarithm is: all is linear there. And a centre that falls
        exponentially falls through all orders in one step of logarithmic time.
        """
        far = _WILD + np.abs(y)
        lowest, highest = y - far, y + far
        highest[self._g] = np.maximum(highest[self._g], -self._levels)
        if self.far:
            lowest[0] -= 1000.0 + np.abs(y[0])
        return lowest, highest

    def motion(self, plan: Plan) -> Motion | None:
        """This chart's slope and the plan's box in compiled form; None where the plan has none, or some parameters do not move."""
        from overparam._core.chart import Motion

        if self.rows is not None or plan.compiled is None:
            return None
        capsule, axes, box = plan.compiled
        return Motion(capsule, np.ascontiguousarray(self.frame.T @ axes), np.ascontiguousarray(self._fixed), self._levels, box,
                      self.moving, self.far, self._widest, np.where(self.still, 0.0, 1.0), _SOFT, _LEAST)

    def faded(self, y: np.ndarray) -> bool:
        """Whether deviations around the target have fallen to where their centre is not known any more."""
        if self.far or not self.moving or self._coincident:
            return False
        least = math.log(_FADED if self._shape[0] > 2 else _FADED_TWO)
        return float((self._levels + y[self._g]).max()) < least < self.log_extent

    def outgrown(self, y: np.ndarray) -> bool:
        """Whether another chart serves better: the centre has come closer than the deviations are wide, or the other way round, or a
        narrow column is much narrower, or wider, than it was.
        """
        if not self.moving and len(self._levels) == 1:
            return False
        g = self._levels + y[self._g]
        apart = g.max() - g
        changed = (np.abs(apart - self._apart) > _STRETCH) & (np.maximum(apart, self._apart) > _NARROW)
        if (changed & ~(self.still & (_NOISE * np.exp(np.minimum(apart, 100.0)) > _LOST))).any():
            return True
        if not self.moving:
            return False
        widest = float(g.max())
        if self.far:
            unit = float(np.linalg.norm(y[self._c]))
            together = self._coincident and not y[self._z].any()  # nothing has split them yet
            least = 0.0 if self._launched else _SMALL_CENTRE
            return (widest > y[0] - 0.5 and not together) or not least <= unit < 1 / _SMALL_CENTRE
        found: bool = float(np.abs(y[self._c]).max()) * np.exp(g[self._widest]) > 4.0
        return found
