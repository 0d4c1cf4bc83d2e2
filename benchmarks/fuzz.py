"""Call everything with anything: random calls of the public functions, good arguments twisted into bad ones.

    python benchmarks/fuzz.py                         # 100 000 calls, two workers
    python benchmarks/fuzz.py --calls 2000 --seed 7   # the calls 7 ... 2006
    python benchmarks/fuzz.py --replay 4711           # call 4711 alone, with its arguments and its traceback
    python benchmarks/fuzz.py --only Objective        # those whose name holds that

A call depends on its number alone. It must end in *an error*, a ValueError or TypeError of the library's own whose message names an
argument (or one that its documentation names); or in *a value* without NaN, and finite but where infinity is what is documented. What else
there is, is a finding: another exception or one from deeper down, a warning, NaN, no answer within the limit, a worker that died.
A MemoryError is what arrays of a size beyond the worker's limit (4 GB) end in; it is counted apart.
"""

from __future__ import annotations

import argparse
import faulthandler
import inspect
import math
import multiprocessing as mp
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from fuzz_calls import CALLS, FIXED
from fuzz_values import Values

import overparam as op

_BATCH = 40
_TOO_BIG = re.compile("array is too big|Maximum allowed dimension exceeded|array size exceeds|Unable to allocate")  # in NumPy's words
_MEMORY = 4 << 30
_LIMIT = 20.0
_HOME = os.path.dirname(op.__file__)

#: Exceptions beside ValueError and TypeError that the documentation of these names.
DOCUMENTED: dict[str, tuple[type[Exception], ...]] = {
    "load": (OSError,), "Trajectory.save and load": (OSError,), "Teacher.at_time": (NotImplementedError,)}

#: What messages may call an argument.
ALSO = {"params0": ("params",), "p": ("means", "params"), "q": ("means", "params"), "name": ("experiment", "theorem", "setting"),
        "text": ("configuration",), "x": ("t",), "steps": ("t_end", "run"),
        "traj": ("params", "params0"), "trajectory": ("params", "params0"), "subject": ("params",)}


@dataclass(frozen=True)
class Outcome:
    """What became of a call: "error", "memory", "value" or "finding", which `what` tells."""

    number: int
    name: str
    kind: str
    what: str = ""


@dataclass(frozen=True)
class Drawn:
    """A call that has not been made; `names` are what its errors may name."""

    name: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    names: frozenset[str]


_NAMES = sorted(CALLS)
_OFTEN = np.cumsum([CALLS[name][1] for name in _NAMES])


def draw(number: int, among: list[str] | None = None) -> tuple[str, Callable[[], Drawn]]:
    """The name of call `number`, and what makes it: building the arguments is a call of public functions, too."""
    rng = np.random.default_rng(number)
    name = _NAMES[int(np.searchsorted(_OFTEN, rng.integers(_OFTEN[-1]), side="right"))]
    if among:
        name = among[int(rng.integers(len(among)))]
    return name, lambda: _made(name, rng)


def _made(name: str, rng: np.random.Generator) -> Drawn:
    v = Values(rng)
    try:
        function, arguments = CALLS[name][0](v)
    except Exception as error:
        error.known = frozenset(v.names | {word for key in v.names for word in ALSO.get(key, ())})  # type: ignore[attr-defined]
        raise
    known = set(arguments) | v.names
    try:
        known |= set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        pass
    known |= {word for key in known for word in ALSO.get(key, ())}
    for key in [key for key in arguments if key not in FIXED]:
        if rng.random() < 0.6 / len(arguments):
            arguments[key] = v.twisted(key, arguments[key])
    if rng.random() < 0.01 and arguments:
        del arguments[list(arguments)[int(rng.integers(len(arguments)))]]
    if rng.random() < 0.01:
        arguments["unknown"] = 1
    return Drawn(name, function, arguments, frozenset(known))


def flaws(value: Any, at: str = "", seen: int = 0) -> Iterator[str]:
    """Where a result holds NaN or infinity."""
    if isinstance(value, float | complex | np.generic | np.ndarray):
        array = np.asarray(value)
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            yield f"{'nan' if np.isnan(array).any() else 'inf'} in {at or 'the result'}"
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from flaws(one, f"{at}[{key!r}]", seen + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from flaws(one, f"{at}[]", seen + 1)
    elif is_dataclass(value) and not isinstance(value, type) and seen < 6:
        for one in fields(value):
            if one.name not in ("objective", "bounds", "make"):
                yield from flaws(getattr(value, one.name), f"{at}.{one.name}", seen + 1)


def allowed(name: str, value: Any, flaw: str) -> bool:
    """Infinities and NaN that the documentation promises."""
    where = flaw.split(" in ")[1]
    if name.startswith("theory.check"):  # what has no meaning for a setting is NaN, and the claim open
        return where.startswith((".hypotheses", ".conclusions"))
    if name == "Trajectory":  # holds what it is given
        return True
    if isinstance(value, op.Trajectory):
        return where == ".loss_error" and (flaw.startswith("inf") or name == "sgd")
    if name == "Objective.estimate" and flaw.startswith("inf"):
        return where == ".effective_samples" or (where.endswith("_error") and not value.reliable)
    if name == "init.log_radius":
        return value == -math.inf
    return False


def judged(number: int, name: str, make: Callable[[], Drawn]) -> tuple[Outcome, BaseException | None]:
    """Make the call and say what came of it."""
    names: frozenset[str] = frozenset()
    drawn = None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            drawn = make()
            names = drawn.names
            value = drawn.function(**drawn.arguments)
            found = [flaw for flaw in flaws(value) if not allowed(name, value, flaw)]
        except Exception as error:
            if isinstance(error, MemoryError) or _TOO_BIG.search(str(error)):
                return Outcome(number, name, "memory"), error
            names = names or getattr(error, "known", names)
            said = _complaint(name, error, names, drawn)
            return Outcome(number, name, "finding" if said else "error", said), error
    leaked = [w for w in warned if not (w.category is UserWarning and _names_one(str(w.message), names))]
    if leaked:
        first = leaked[0]
        place = f"{os.path.relpath(first.filename, _HOME)}:{first.lineno}"
        found.append(f"{first.category.__name__}: {str(first.message)[:90]} ({place})")
    return Outcome(number, name, "finding" if found else "value", "; ".join(found[:3])), None


def _complaint(name: str, error: Exception, names: frozenset[str], drawn: Drawn | None) -> str:
    """What is wrong with an error; nothing if it is a clear one."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    where = f"{os.path.relpath(last.filename, _HOME)}:{last.lineno}"
    said = f"{type(error).__name__}: {str(error)[:110]} ({where})".replace("\n", " ")
    if isinstance(error, DOCUMENTED.get(name, ())):
        return ""
    if not isinstance(error, (ValueError, TypeError)) or isinstance(error, np.linalg.LinAlgError):
        return said
    called = last.filename == __file__ and drawn is not None  # by Python itself, of the call's arguments
    if not (last.filename.startswith(_HOME) or called):
        return f"from below: {said}"
    if not (called or _names_one(str(error), names) or isinstance(error, op.TooHardError)):
        return f"names no argument: {said}"
    return ""


def _names_one(text: str, names: frozenset[str]) -> bool:
    return any(re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", text) for name in names)


# --- workers ------------------------------------------------------------------------------------------------------------


def _work(pipe: Any, now: Any, began: Any, among: list[str] | None) -> None:
    """A worker: takes numbers, gives outcomes, and says which call it is in."""
    faulthandler.enable()
    if os.name == "posix" and "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which reserves terabytes
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        while (numbers := pipe.recv()) is not None:
            outcomes = []
            for number in numbers:
                began.value, now.value = time.monotonic(), number
                outcome, _ = judged(number, *draw(number, among))
                outcomes.append((outcome, time.monotonic() - began.value))
                _tidy()
            now.value = -1
            pipe.send(outcomes)
        os.chdir("/")


def _tidy() -> None:
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    op.threads(1)


_stopped: list[int] = []  # signals that ended the run: what was seen so far is told


class _Worker:
    """A process, and what it was given to do."""

    def __init__(self, among: list[str] | None) -> None:
        context = mp.get_context("spawn")
        self.among = among
        self.now, self.began = context.Value("q", -1, lock=False), context.Value("d", 0.0, lock=False)
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.now, self.began, among), daemon=True)
        self.process.start()
        other.close()
        self.todo: list[int] = []

    def give(self, numbers: list[int]) -> None:
        self.todo = numbers
        self.pipe.send(numbers)

    def ended(self, limit: float) -> list[tuple[Outcome, float]] | None:
        """Outcomes, if there are any yet. Of a dead or stuck worker: that call's; the rest of the batch is made again."""
        if self.pipe.poll(0.02):
            try:
                found: list[tuple[Outcome, float]] = self.pipe.recv()
                self.todo = []
                return found
            except (EOFError, ConnectionResetError):
                self.process.join()
                return self._lost(f"the worker died: exit code {self.process.exitcode}", 0.0)
        if not self.process.is_alive() and not self.pipe.poll():
            return self._lost(f"the worker died: exit code {self.process.exitcode}", 0.0)
        if self.now.value >= 0 and time.monotonic() - self.began.value > limit:
            self.process.kill()
            self.process.join()
            return self._lost(f"no answer within {limit:g} s", limit)
        return None

    def _lost(self, what: str, seconds: float) -> list[tuple[Outcome, float]]:
        number = self.now.value
        self.todo = [one for one in self.todo if one != number]
        return [(Outcome(number, draw(number, self.among)[0], "finding", what), seconds)]


def run(numbers: range, jobs: int, limit: float, among: list[str] | None = None, tell: bool = True) -> list[tuple[Outcome, float]]:
    """Make the calls, `jobs` at a time."""
    waiting = [list(numbers[i:i + _BATCH]) for i in range(0, len(numbers), _BATCH)][::-1]
    workers, outcomes, told = [_Worker(among) for _ in range(jobs)], [], time.monotonic()
    while (waiting or any(worker.todo for worker in workers)) and not _stopped:
        for place, worker in enumerate(workers):
            if not worker.todo and waiting:
                worker.give(waiting.pop())
            if worker.todo and (found := worker.ended(limit)) is not None:
                outcomes += found
                if not worker.process.is_alive():
                    waiting += [worker.todo] if worker.todo else []
                    workers[place] = _Worker(among)
        if tell and time.monotonic() - told > 30:
            told = time.monotonic()
            count = Counter(outcome.kind for outcome, _ in outcomes)
            print(f"{len(outcomes)} of {len(numbers)}: {dict(count)}", file=sys.stderr, flush=True)
    for worker in workers:
        if _stopped:
            worker.process.kill()
        else:
            worker.pipe.send(None)
        worker.process.join(5)
    return outcomes


def table(outcomes: list[tuple[Outcome, float]]) -> str:
    """Counts by function."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    longest: dict[str, float] = defaultdict(float)
    for outcome, seconds in outcomes:
        rows[outcome.name][outcome.kind] += 1
        longest[outcome.name] = max(longest[outcome.name], seconds)
    rows["all"] = Counter()
    for name in [name for name in rows if name != "all"]:
        rows["all"] += rows[name]
    longest["all"] = max(longest.values(), default=math.nan)
    lines = [f"{'':32}{'calls':>8}{'errors':>8}{'values':>8}{'memory':>8}{'findings':>10}{'longest':>10}"]
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        row = rows[name]
        counts = "".join(f"{row[kind]:>8}" for kind in ("error", "value", "memory"))
        lines.append(f"{name:32}{row.total():>8}{counts}{row['finding']:>10}{longest[name]:>8.1f} s")
    return "\n".join(lines)


def kinds(outcomes: list[tuple[Outcome, float]]) -> str:
    """Findings, those alike together, each with the number of the first call."""
    alike: dict[str, list[Outcome]] = defaultdict(list)
    for outcome, _ in outcomes:
        if outcome.kind == "finding":
            alike[re.sub(r"\d[\d.e+-]*", "#", f"{outcome.name}: {outcome.what}")].append(outcome)
    return "\n".join(f"{len(group):>6}  {group[0].name}: {group[0].what}  [--replay {min(one.number for one in group)}]"
                     for group in sorted(alike.values(), key=len, reverse=True))


def replay(number: int, among: list[str] | None) -> None:
    """One call, aloud."""
    name, make = draw(number, among)
    print(f"call {number}: {name}")
    again = draw(number, among)[1]
    try:
        drawn = again()
        print(f"of {getattr(drawn.function, '__self__', '')!r}"[:300])
        for key, value in drawn.arguments.items():
            print(f"    {key} = {value!r}"[:1500])
    except Exception as error:
        print(f"    its arguments cannot be built: {error!r}")
    outcome, error = judged(number, name, make)
    print(f"{outcome.kind}: {outcome.what}")
    if error is not None:
        traceback.print_exception(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="number of the first call")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=float, default=_LIMIT, help="seconds for a call")
    parser.add_argument("--only", help="only functions whose name holds this text")
    parser.add_argument("--replay", type=int, metavar="NUMBER")
    given = parser.parse_args()
    among = [name for name in _NAMES if given.only in name] if given.only else None
    if given.replay is not None:
        return replay(given.replay, among)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, frame: _stopped.append(number))
    outcomes = run(range(given.seed, given.seed + given.calls), given.jobs, given.limit, among)
    print(table(outcomes))
    print(f"\n{kinds(outcomes) or 'no findings'}")
    sys.exit(any(outcome.kind == "finding" for outcome, _ in outcomes))


if __name__ == "__main__":
    main()
