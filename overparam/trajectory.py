"""The one result of every driver: a frozen record of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np

from overparam import _trajectory_file as _file
from overparam._schedules import (
    Every,
    LogSpaced,
    Schedule,
    check_observe,
    check_schedule,
    every,
    log_spaced,
    schedule_from_description,
)
from overparam._trajectory_joining import MOST_EXPANDED, check_same_problem, join
from overparam._trajectory_views import Params, States
from overparam._validation import check_choice
from overparam.layout import Layout
from overparam.state import State

if TYPE_CHECKING:
    import xarray

__all__ = [
    "DRIVERS",
    "STATUSES",
    "Every",
    "LogSpaced",
    "Schedule",
    "Trajectory",
    "check_observe",
    "check_schedule",
    "every",
    "load",
    "log_spaced",
    "schedule_from_description",
]

#: How a run can end, and what that means.
STATUSES: dict[str, str] = {
    "completed": "all steps were taken",
    "converged": "a stop test held",
    "unstable": "the step size is too large",
    "too_hard": "the accuracy asked for needs more nodes than allowed",
    "interrupted": "stopped by the user",
    "failed": "an error ended the run",
}

#: Drivers that can go on: name -> resume(trajectory, **settings) -> the continuation alone. The continuation's first
#: record is the last one of `trajectory`, and its steps and times count on from there. Drivers enter themselves when
#: they are imported.
DRIVERS: dict[str, Callable[..., Trajectory]] = {}


def _frozen(value: Any, dtype: Any = None, name: str = "value") -> np.ndarray:
    """A read-only array: `value` itself if it already is one, else a copy."""
    try:
        array = np.asarray(value)
        if dtype is not None and array.dtype.kind not in "biuf":
            raise TypeError(f"its dtype is {array.dtype}")
        array = np.asarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be an array of real numbers; got {value!r}"[:200] + f" ({error})") from None
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Trajectory:
    r"""What a driver recorded, over T records of n parameter vectors.

    Parameters are kept as :math:`\mu_i=o+B\,(c+e^\lambda\delta_i)`, in the coordinates of a basis, and expanded on access only:
    see `State`.

    Parameters
    ----------
    steps : (T,) int array
        Steps taken at each record; the first and last step are always recorded.
    times : (T,) array
        Flow time: step size times steps.
    loss, loss_error, grad_norm : (T,) array
        The loss, its bound or standard error, and the Euclidean norm of the whole gradient. An error is inf where it leaves float64's
        range, and NaN where none is known: for an objective of your own, and for batches of one.
    centres : (T, k) array
        :math:`c`.
    deviations : (T, n, k) array
        :math:`\delta_i`.
    basis : (d, k) array, optional
        :math:`B`. None stands for the identity (then k = d).
    origin : (d,) array, optional
        :math:`o`. None stands for 0.
    log_scales : (T,) array, optional
        :math:`\lambda\le0`, other than 0 only where deviations are below float64's range; see `State`. None stands for zeros.
    layout : Layout, optional
        Shape of parameters that are not (n, d) real numbers, a stack of matrices say: `params` then has it after T.
    weights : (n,) array or (T, n) array, optional
        The student's mixture weights: (T, n), over records, in runs of ``op.em``, whose weights may move; (n,) elsewhere. None where it
        has none. `final_weights` are those of the last record in both.
    status : str
        One of completed, converged (a stop test held), unstable (the step size is too large), too_hard (the accuracy
        asked for needs more nodes than allowed), interrupted, failed.
    message : str
        The status in words, with numbers.
    observed : dict of (T, ...) arrays
        What the functions of ``observe=`` returned.
    driver : str
        Name of the driver; `extend` looks it up in `DRIVERS`.
    settings, problem, attributes, continuation : dict
        JSON-able: the driver's settings, the description of the objective, facts about the run (versions, seed, rule,
        tolerance, paper), and what the driver needs to go on.
    objective : Objective, optional
        What was minimised; None for a file whose objective was a user's own.
    evaluations : int
        Number of gradients computed.
    wall_time : float
        Seconds.

    Raises
    ------
    ValueError
        If shapes do not fit, the status is not known, or a dict holds what JSON cannot.

    Notes
    -----
    All arrays are read-only. An array that is read-only when it comes in is kept without a copy.

    Examples
    --------
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0, 0.0]))
    >>> start = op.init.cluster(n=4, center=[1.0, 0.0], scale=0.1, rng=0)
    >>> traj = op.gradient_descent(obj, start, step_size=0.1, steps=100, record=op.every(10))
    >>> traj.status, len(traj), traj.params.shape, traj.final.shape
    ('completed', 11, (11, 4, 2), (4, 2))
    >>> traj.extend(steps=50).steps[-5:].tolist()
    [110, 120, 130, 140, 150]
    """

    steps: np.ndarray
    times: np.ndarray
    loss: np.ndarray
    loss_error: np.ndarray
    grad_norm: np.ndarray
    centres: np.ndarray
    deviations: np.ndarray
    basis: np.ndarray | None = None
    origin: np.ndarray | None = None
    log_scales: np.ndarray | Any = None  # None is made an array of zeros
    layout: Layout | None = None
    weights: np.ndarray | None = None
    status: str = "completed"
    message: str = ""
    observed: dict[str, np.ndarray] = field(default_factory=dict)
    driver: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] = field(default_factory=dict)
    objective: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 0
    wall_time: float = 0.0
    continuation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("deviations", _frozen(self.deviations, np.float64, "deviations"))
        if self.deviations.ndim != 3 or 0 in self.deviations.shape:
            raise ValueError(f"deviations must have shape (T, n, k) without zeros; got {self.deviations.shape}")
        records, n, k = self.deviations.shape
        put("steps", _frozen(self.steps, np.int64, "steps"))
        if self.log_scales is None:
            put("log_scales", np.zeros(records))
        for name in ("times", "loss", "loss_error", "grad_norm", "centres", "log_scales"):
            put(name, _frozen(getattr(self, name), np.float64, name))
        for name in ("basis", "origin", "weights"):
            if getattr(self, name) is not None:
                put(name, _frozen(getattr(self, name), np.float64, name))
        if self.basis is not None and (self.basis.ndim != 2 or self.basis.shape[1] != k):
            raise ValueError(f"basis must have shape (d, {k}); got {self.basis.shape}")
        if self.layout is not None and self.layout.rows != (n, self.d):
            raise ValueError(f"parameters of shape {self.layout.shape} have rows {self.layout.rows}; got {(n, self.d)}")
        shapes = {
            **dict.fromkeys(("steps", "times", "loss", "loss_error", "grad_norm", "log_scales"), (records,)),
            "centres": (records, k),
            "origin": (self.d,),
            "weights": (n,) if self.weights is None or self.weights.ndim < 2 else (records, n),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}; got {value.shape}")
        if self.steps[0] < 0 or (np.diff(self.steps) < 0).any():
            raise ValueError("steps must not be negative and must not fall")
        if not ((self.log_scales <= 0) & (self.log_scales > -np.inf)).all():
            raise ValueError("log_scales must be finite and not above 0")
        observed = {str(name): _frozen(_file.storable(values)) for name, values in self.observed.items()}
        for name, values in observed.items():
            if values.dtype.kind not in "biufc" or values.ndim < 1 or len(values) != records:
                raise ValueError(
                    f"observed[{name!r}] must hold numbers, one entry per record ({records}); "
                    f"got dtype {values.dtype}, shape {values.shape}"
                )
        put("observed", observed)
        for name in ("settings", "problem", "attributes", "continuation"):
            put(name, _file.plain(dict(getattr(self, name)), name))
        check_choice(self.status, "status", STATUSES)
        for name, convert in (("message", str), ("driver", str), ("evaluations", int), ("wall_time", float)):
            put(name, convert(getattr(self, name)))

    def __setstate__(self, state: dict[str, Any]) -> None:  # unpickled arrays come back writable
        vars(self).update(state)
        if state.get("log_scales") is None:  # pickled before there were any
            vars(self)["log_scales"] = np.zeros(len(self.steps))
        for array in (*vars(self).values(), *self.observed.values()):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def n(self) -> int:
        """Number of parameter vectors."""
        found: int = self.deviations.shape[1]
        return found

    @property
    def d(self) -> int:
        """Dimension of the space the parameters live in."""
        found: int = self.deviations.shape[2] if self.basis is None else self.basis.shape[0]
        return found

    @property
    def params(self) -> Params:
        """The parameters as a lazy (T, n, d) array: ``params[k]`` expands record k only."""
        return Params(self)

    @property
    def states(self) -> States:
        """The parameters as a sequence of T `State` objects, in which nothing is lost."""
        return States(self)

    @property
    def final(self) -> np.ndarray:
        """(n, d) array: the parameters of the last record."""
        found: np.ndarray = self.params[-1]
        return found

    @property
    def final_state(self) -> State:
        """The `State` of the last record."""
        found: State = self.states[-1]
        return found

    @property
    def final_weights(self) -> np.ndarray | None:
        """(n,) array: the student's mixture weights at the last record; None where it has none."""
        return self.weights if self.weights is None or self.weights.ndim == 1 else self.weights[-1]

    def extend(self, steps: int | None = None, *, objective: Any = None, **settings: Any) -> Trajectory:
        """Go on from the last record with the same driver, and return the whole run as a new trajectory.

        Parameters
        ----------
        steps : int, optional
            How many steps to add, for drivers that count steps. Others take their own word, as ``t_end=`` of the
            gradient flow.
        objective : Objective, optional
            What to minimise, if the file that this came from could not say (a user's own objective).
        **settings
            Settings of the driver to change from here on. Functions (``observe=``, ``stop=``) are not stored: give them
            again.

        Returns
        -------
        Trajectory
            Records of both pieces; the continuation's first record, the last one here, is not repeated.

        Raises
        ------
        ValueError
            If the run ended unstable or failed, no objective is known, the driver is not known, or it needs a setting that is not given or
            has none of a name that is.
        """
        if self.status in ("unstable", "failed"):
            raise ValueError(
                f"a run with status {self.status!r} ({STATUSES[self.status]}) cannot be extended; "
                f"start again from a record of it, such as states[0]. {self.message}".rstrip()
            )
        whole = self if objective is None else replace(self, objective=objective)
        if whole.objective is None:
            raise ValueError(
                f"this trajectory has no objective (its file says {self.problem.get('kind', 'nothing')!r}, not "
                f"a built-in one that can be made here); give it: extend(..., objective=...){_why_not_made(self.problem)}"
            )
        if objective is not None and callable(getattr(objective, "describe", None)):
            check_same_problem(self.problem, _file.plain(objective.describe(), "objective"))
        if self.driver not in DRIVERS:
            raise ValueError(
                f"the driver {self.driver!r} of this trajectory is not known here; import the module that defines it. "
                f"Known: {', '.join(sorted(DRIVERS)) or 'none'}"
            )
        if steps is not None:
            settings["steps"] = steps
        resume = DRIVERS[self.driver]
        _check_settings(self.driver, resume, settings)
        return whole.joined(resume(whole, **settings))

    def joined(self, other: Trajectory) -> Trajectory:
        """Return this run with its continuation `other`, whose first record is the last one here and is dropped.

        Status, message, settings, objective, weights (where they are not over records) and continuation are those of
        `other`; evaluations and wall time are added; ``attributes["pieces"]`` lists where each piece began and its
        settings. What was observed in one piece only is NaN in the other. Pieces in different bases are both brought to
        full coordinates, deviations apart from centres.

        Raises
        ------
        ValueError
            If `other` does not begin at the last step here, or its problem or shapes differ.
        """
        return join(self, other)

    def to_xarray(self) -> xarray.Dataset:
        """Return an xarray Dataset with dimensions record, parameter, coordinate and axis.

        Its coordinates are step and time; its variables loss, loss_error, grad_norm, centre, deviation, log_scale,
        weights, what was observed, basis and origin where there are any, and params, unless that would be more than 2e7 numbers.
        Attributes that netCDF does not allow (None, bool, dicts) are JSON texts.
        """
        return _file.dataset(self, expand=len(self) * self.n * self.d <= MOST_EXPANDED)

    def save(self, path: Any) -> None:
        """Write everything, losslessly, to a netCDF file, which `load` and any netCDF reader read.

        The file appears complete or not at all; a file of that name is replaced.

        Parameters
        ----------
        path : str or PathLike
            Name of the file, in a folder that exists. It is netCDF whatever the name ends in; ``.nc`` is usual.

        Raises
        ------
        ValueError
            If `path` is a folder, its folder is missing, or it cannot be written.
        """
        _file.write(self, path)

    def summary(self) -> str:
        """Return a few lines that say how the run went."""
        return "\n".join(f"{name:<12}{value}" for name, value in self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        status = f"{self.status} ({self.message or STATUSES[self.status]})"
        rule = self.attributes.get("rule")
        named = rule.get("kind", rule) if isinstance(rule, dict) else rule
        facts = [
            ("driver", self.driver or "unknown"),
            ("status", status),
            ("problem", f"{self.problem.get('kind', 'unknown')}, {self._shape_in_words()}"),
            (
                "records",
                f"{len(self)}, steps {self.steps[0]} to {self.steps[-1]}{self._times_in_words()}",
            ),
            ("loss", f"{self.loss[0]:.6g} -> {self.loss[-1]:.6g} ({self._errors_in_words()})"),
            ("gradient", f"{self.grad_norm[0]:.3g} -> {self.grad_norm[-1]:.3g}"),
            ("rule", f"{named}"),
            ("sampled", self._sampled_in_words()),
            ("cost", f"{self.evaluations} gradients in {self.wall_time:.3g} s"),
        ]
        return [fact for fact in facts if (fact[0] != "rule" or rule) and fact[1]]

    def _times_in_words(self) -> str:
        """From which flow time to which; nothing for full EM, whose times are its steps."""
        if self.driver == "em" and self.settings.get("step_size") is None:
            return ""
        return f", flow time {self.times[0]:.6g} to {self.times[-1]:.6g}"

    def _errors_in_words(self) -> str:
        """The last error, and the largest one relative to its loss."""
        last = f"last error {self.loss_error[-1]:.2g}"
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            relative = np.where(self.loss_error == 0, 0.0, self.loss_error / np.abs(self.loss))
        if not np.isfinite(relative).any():
            return last
        return f"{last}, relative to the loss up to {np.nanmax(relative):.2g} at step {self.steps[np.nanargmax(relative)]}"

    def _sampled_in_words(self) -> str:
        """From where on errors are no bounds; empty for a run whose errors all are."""
        start = self.attributes.get("sampled_from_step")
        return "" if start is None else f"from step {start} on the rule's tolerance could not be met: errors are standard errors of samples"

    def _shape_in_words(self) -> str:
        if self.layout is None:
            return f"{self.n} parameter vectors in {self.d} dimension(s)"
        return f"{'complex ' if self.layout.complex else ''}parameters of shape {self.layout.shape}"

    def __repr__(self) -> str:
        sizes = f"n={self.n}, d={self.d}" if self.layout is None else f"shape={self.layout.shape}"
        return (
            f"Trajectory({self.driver or 'unknown driver'}, {self.status}, "
            f"{len(self)} records to step {self.steps[-1]}, {sizes}, "
            f"loss {self.loss[0]:.4g} -> {self.loss[-1]:.4g})"
        )

    def _repr_html_(self) -> str:
        from overparam._html_views import trajectory_card

        return trajectory_card(self, self._facts(), self.message or STATUSES[self.status])


def load(path: Any, objective: Any = None) -> Trajectory:
    """Read a trajectory that `Trajectory.save` wrote.

    Parameters
    ----------
    path : str or PathLike
        Name of the file.
    objective : Objective, optional
        What was minimised. The file describes built-in objectives; a user's own must be given here before `extend`.

    Returns
    -------
    Trajectory
        With everything that was recorded, and what it takes to go on.

    Raises
    ------
    ValueError
        If the file is missing, is not a netCDF file, is not a trajectory, or describes another objective than the given
        one.

    Examples
    --------
    >>> import tempfile
    >>> import overparam as op
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> traj = op.gradient_descent(obj, [[2.0], [1.5]], step_size=0.1, steps=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     traj.save(f"{folder}/run.nc")
    ...     again = op.load(f"{folder}/run.nc")
    >>> bool((again.deviations == traj.deviations).all()), again.extend(steps=5).steps[-1].item()
    (True, 25)
    """
    fields = _file.read(path)
    try:
        run = Trajectory(**fields, objective=objective)
    except (TypeError, ValueError) as error:
        raise ValueError(f"path {str(path)!r} is a damaged trajectory file: {error}") from error
    if objective is None:
        return replace(run, objective=_built_in(run.problem))
    if callable(getattr(objective, "describe", None)):
        check_same_problem(run.problem, _file.plain(objective.describe(), "objective"))
    return run


def _built_in(problem: Mapping[str, Any]) -> Any:
    """The objective that a description names, or None if it is a user's own or cannot be built here."""
    if "kind" not in problem:
        return None
    try:  # late: reading a file must work where the compiled kernels are missing
        from overparam.objectives import from_description
    except ImportError:
        return None
    try:
        return from_description(dict(problem))
    except (ValueError, KeyError, TypeError):
        return None


def _check_settings(driver: str, resume: Callable[..., Trajectory], settings: Mapping[str, Any]) -> None:
    """Raise ValueError, in the words of ``extend``, if a setting is missing or not one of the driver's."""
    taken = list(signature(resume).parameters.values())[1:]  # the first is the run
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken):
        return
    names = [parameter.name for parameter in taken]
    for name in settings:
        if name not in names:
            raise ValueError(f"setting {name!r} of extend is not known to {driver}. Known: {', '.join(sorted(names))}")
    missing = [parameter.name for parameter in taken if parameter.default is Parameter.empty and parameter.name not in settings]
    if missing:
        raise ValueError(f"extend needs {' and '.join(missing)}: a run of {driver} is extended by "
                         f"trajectory.extend({', '.join(f'{name}=...' for name in missing)})")


def _why_not_made(problem: Mapping[str, Any]) -> str:
    """What a teacher that its description does not bring back says of that."""
    from overparam.teachers import teacher_from_description

    try:
        teacher_from_description(problem["teacher"])
    except (ValueError, KeyError, TypeError) as error:
        return f". {error}" if isinstance(error, ValueError) else ""
    return ""
