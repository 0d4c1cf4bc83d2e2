"""What a driver writes down and when: record schedules, and the functions of ``observe=``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam._validation import check_array, check_choice, check_integer

__all__ = [
    "SCHEDULES",
    "Every",
    "Listed",
    "LogSpaced",
    "Schedule",
    "check_observe",
    "check_schedule",
    "every",
    "log_spaced",
    "schedule_from_description",
]

#: More records than this are surely a mistake: 10^8 of them would fill the memory before the run starts.
MOST_RECORDS = 10**8

#: Flow time of the first record of a flow after the start: log-spaced records of a flow have no step 1 to begin at.
_FIRST_TIME = 0.01


class Schedule(ABC):
    """Base of record schedules: a frozen object with `steps(total)`.

    Examples
    --------
    >>> import overparam as op
    >>> import numpy as np
    >>> from overparam.trajectory import Schedule
    >>> class Ends(Schedule):
    ...     def steps(self, total):
    ...         return np.unique([0, total])
    ...     def describe(self):
    ...         return {"kind": "ends"}
    >>> obj = op.ScoreMatching(op.Gaussian([0.0]))
    >>> op.gradient_descent(obj, [[2.0], [1.5]], step_size=0.1, steps=50, record=Ends()).steps.tolist()
    [0, 50]
    """

    @abstractmethod
    def steps(self, total: int) -> np.ndarray:
        """Return the steps to record of a run of `total` steps: strictly increasing int64, from 0 to `total`."""

    def times(self, t_end: float, t_start: float = 0.0) -> np.ndarray:
        """Return the flow times to record of a flow from `t_start` to `t_end`: strictly increasing, both ends included."""
        raise TypeError(f"{type(self).__name__} has no times(t_end, t_start=0.0), which gradient flow needs: implement it, or use "
                        "log_spaced(count) or every(interval)")

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a JSON-able description, for `schedule_from_description`."""


@dataclass(frozen=True, repr=False)
class LogSpaced(Schedule):
    """About `count` records evenly spaced in log(step), and step 0; made by `log_spaced`.

    Attributes
    ----------
    count : int
        Records after step 0.

    Examples
    --------
    >>> import overparam as op
    >>> op.log_spaced(3), op.log_spaced(3).steps(100).tolist()
    (log_spaced(3), [0, 1, 10, 100])
    """

    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", check_integer(self.count, "log_spaced count", minimum=1, maximum=MOST_RECORDS))

    def steps(self, total: int) -> np.ndarray:
        """Return the steps; see `Schedule.steps`. Early steps that round to the same integer are recorded once."""
        total = check_integer(total, "total", minimum=0, maximum=np.iinfo(np.int64).max)
        if total == 0:
            return np.zeros(1, dtype=np.int64)
        inner = np.rint(np.geomspace(1.0, float(total), self.count))
        inner = inner[inner < float(total)].astype(np.int64)  # the last one is appended: float(total) may round above total
        return np.unique(np.concatenate([[0], inner, [total]]).astype(np.int64))

    def times(self, t_end: float, t_start: float = 0.0) -> np.ndarray:
        """Return the flow times: about `count` evenly spaced in log t, from the earlier of 0.01 and t_end/1000 on."""
        first = max(min(_FIRST_TIME, 1e-3 * t_end), t_start) or t_end  # a thousandth of 1e-323 is 0
        inner = np.geomspace(first, t_end, self.count)
        return np.concatenate([[t_start], inner[(inner > t_start) & (inner < t_end)], [t_end]])

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "log_spaced", "count": ...}``."""
        return {"kind": "log_spaced", "count": self.count}

    def __repr__(self) -> str:
        return f"log_spaced({self.count})"


@dataclass(frozen=True, repr=False)
class Every(Schedule):
    """Every `interval`-th step, and the last one; made by `every`.

    Attributes
    ----------
    interval : int
        Steps between records.

    Examples
    --------
    >>> import overparam as op
    >>> op.every(40), op.every(40).steps(100).tolist()
    (every(40), [0, 40, 80, 100])
    """

    interval: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", check_integer(self.interval, "every interval", minimum=1))

    def steps(self, total: int) -> np.ndarray:
        """Return the steps; see `Schedule.steps`.

        Raises
        ------
        ValueError
            If there would be more than 10^8 records.
        """
        total = check_integer(total, "total", minimum=0, maximum=np.iinfo(np.int64).max)
        if total // self.interval >= MOST_RECORDS:
            raise ValueError(
                f"record every({self.interval}) of {total} steps is more than {MOST_RECORDS:g} records; use a larger interval or log_spaced"
            )
        steps = np.arange(total // self.interval + 1, dtype=np.int64) * self.interval if self.interval <= total else [0]
        return np.unique(np.append(steps, total).astype(np.int64))

    def times(self, t_end: float, t_start: float = 0.0) -> np.ndarray:
        """Return the multiples of the interval between `t_start` and `t_end`, and both ends.

        Raises
        ------
        ValueError
            If there would be more than 10^8 records.
        """
        if (t_end - t_start) / self.interval >= MOST_RECORDS:
            raise ValueError(f"record every({self.interval}) up to flow time {t_end:g} is more than {MOST_RECORDS:g} records; use a larger "
                             "interval or log_spaced")
        inner = self.interval * np.arange(np.floor(t_start / self.interval) + 1, np.ceil(t_end / self.interval))
        return np.concatenate([[t_start], inner[(inner > t_start) & (inner < t_end)], [t_end]])

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "every", "interval": ...}``."""
        return {"kind": "every", "interval": self.interval}

    def __repr__(self) -> str:
        return f"every({self.interval})"


@dataclass(frozen=True, repr=False)
class Listed(Schedule):
    """Exactly the listed records, where a run reaches them, and both ends: how a run is repeated record by record.

    `places` are steps, or flow times of a flow, none below 0. There is no function that makes one: drivers' users choose by law.
    """

    places: tuple[float, ...]

    def __post_init__(self) -> None:
        places = check_array(self.places, "listed places", ndim=1)
        if (places < 0).any():
            raise ValueError(f"listed places must not be below 0; got {places.min():g}")
        object.__setattr__(self, "places", tuple(np.unique(places).tolist()))

    def steps(self, total: int) -> np.ndarray:
        """Return the listed steps below `total`, and both ends; see `Schedule.steps`."""
        total = check_integer(total, "total", minimum=0, maximum=np.iinfo(np.int64).max)
        inner = np.array([int(place) for place in self.places if place < total], dtype=np.int64)
        return np.unique(np.concatenate([[0], inner, [total]]).astype(np.int64))

    def times(self, t_end: float, t_start: float = 0.0) -> np.ndarray:
        """Return the listed flow times between `t_start` and `t_end`, and both ends."""
        inner = np.array([place for place in self.places if t_start < place < t_end])
        return np.concatenate([[t_start], inner, [t_end]])

    def describe(self) -> dict[str, Any]:
        """Return ``{"kind": "listed", "places": [...]}``."""
        return {"kind": "listed", "places": list(self.places)}

    def __repr__(self) -> str:
        return f"Listed({len(self.places)} places)"


def log_spaced(count: int) -> LogSpaced:
    """Return the schedule of about `count` records evenly spaced in log(step), and step 0.

    Parameters
    ----------
    count : int
        Number of records after step 0, at least 1. Early steps that round to the same integer are recorded once.

    Returns
    -------
    LogSpaced
        For ``record=`` of a driver.

    Raises
    ------
    ValueError
        If `count` is not a whole number from 1 to 10^8.

    Examples
    --------
    >>> import overparam as op
    >>> op.log_spaced(4).steps(1000).tolist()
    [0, 1, 10, 100, 1000]
    """
    return LogSpaced(count)


def every(interval: int) -> Every:
    """Return the schedule that records every `interval`-th step, and the last one.

    Parameters
    ----------
    interval : int
        Number of steps between records, at least 1.

    Returns
    -------
    Every
        For ``record=`` of a driver.

    Raises
    ------
    ValueError
        If `interval` is not a whole number above 0.

    Examples
    --------
    >>> import overparam as op
    >>> op.every(4).steps(10).tolist()
    [0, 4, 8, 10]
    """
    return Every(interval)


def check_schedule(value: Any, name: str = "record") -> Schedule:
    """Return `value` if it is a schedule; otherwise say which there are."""
    if not isinstance(value, Schedule):
        raise ValueError(f"{name} must be a record schedule, log_spaced(count) or every(interval); got {value!r}"[:300])
    return value


def check_observe(value: Any, name: str = "observe") -> dict[str, Callable[..., Any]]:
    """Return ``observe=`` as a dict of functions by name; None is none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key and callable(function) for key, function in value.items()):
        raise ValueError(f"{name} must be a dict of functions by name, such as {{'norm': np.linalg.norm}}; got {value!r}"[:300])
    return dict(value)


#: Schedules that come back from their description, by its "kind".
SCHEDULES: dict[str, Any] = {"log_spaced": LogSpaced, "every": Every, "listed": Listed}


def schedule_from_description(description: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a `describe` described; ValueError if the kind is not known."""
    if not isinstance(description, Mapping) or "kind" not in description:
        raise ValueError(f"record description must be a mapping with a 'kind'; got {description!r}"[:300])
    arguments = {str(name): value for name, value in description.items() if name != "kind"}
    build = SCHEDULES[check_choice(description["kind"], "record schedule", SCHEDULES)]
    try:
        found: Schedule = build(**arguments)
        return found
    except TypeError as error:
        raise ValueError(f"description of the record schedule {description['kind']} does not fit: {error}") from None
