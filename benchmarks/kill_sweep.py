"""Kill a sweep at random moments and go on with it: what is lost, what is wrong, what is computed twice.

    python benchmarks/kill_sweep.py                 # 50 rounds
    python benchmarks/kill_sweep.py --rounds 5 --points 60 --seed 3

Each round sweeps into a new store with one job, two processes or two threads in turn, and kills it (SIGKILL) up to three times: all of
its processes at once, or its main process alone, whose workers then live on for a while. The last start runs to its end. Every point writes
a line to a log when it begins, so that what is computed twice is counted; its result is known independently of the sweep. A point may be
begun again only if it was in flight (begun, without a file) when it was killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

KINDS = (("one job", ["--jobs", "1"]), ("two processes", ["--jobs", "2"]), ("two threads", ["--jobs", "2", "--backend", "threading"]))
ROOT = 11  # of the seeds
WORK = 0.01  # seconds of a point
_PATIENCE = 120.0


@dataclass
class Round:
    """What a round saw."""

    kind: str
    kills: int
    in_flight: int
    again: int
    lost: int
    wrong: int
    beyond: int  # begun again though it was not in flight

    @property
    def good(self) -> bool:
        return self.lost == self.wrong == self.beyond == 0


def point(i: int, log: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A result that takes a moment, after a line in the log."""
    with open(log, "ab", buffering=0) as file:
        file.write(f"{i}\n".encode())
    until = time.perf_counter() + WORK
    while time.perf_counter() < until:
        pass
    return {"draws": rng.normal(size=50), "square": np.array(float(i) ** 2)}


def child(folder: str, log: str, points: int, jobs: int, backend: str) -> None:
    """The sweep that is killed."""
    from functools import partial

    import joblib

    import overparam as op

    with joblib.parallel_config(backend=backend):
        op.sweep(partial(point, log=log), {"i": list(range(points))}, store=folder, n_jobs=jobs, seed=ROOT, progress=False)


def one_round(kind: str, options: list[str], points: int, rng: np.random.Generator, folder: Path) -> Round:
    """Kill a sweep at random moments, let it end, and count."""
    log, store = folder / "log", folder / "store"
    log.touch()
    command = [sys.executable, __file__, "--child", str(store), "--log", str(log), "--points", str(points), *options]
    kills, flights, groups, beyond = int(rng.integers(1, 4)), 0, [], 0
    flown: dict[int, int] = {}
    known: set[int] = set()  # done at the last kill
    lines = 0
    try:
        for attempt in range(kills + 1):
            with open(folder / "errors", "wb") as errors:  # no pipe: workers that live on would hold it open
                process = subprocess.Popen(command, start_new_session=True, stderr=errors)
            groups.append(process.pid)
            if attempt < kills:
                _wait(process, log, lines + 1)
                time.sleep(float(rng.uniform(0.0, 0.6 * points * WORK / kills)))
                if rng.random() < 0.5:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            process.wait(timeout=_PATIENCE)
            if attempt == kills and process.returncode != 0:
                raise RuntimeError(f"the last run failed: {(folder / 'errors').read_text()[-2000:]}")
            begun = _begun(log)
            beyond += sum(one in known for one in begun[lines:])  # done, and begun again
            lines, known = len(begun), _done(store)
            for one in set(begun) - known:
                flown[one] = flown.get(one, 0) + 1
                flights += 1
    finally:
        for group in groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass
    begun = _begun(log)
    again = len(begun) - len(set(begun))
    beyond += sum(max(begun.count(one) - 1 - flown.get(one, 0), 0) for one in set(begun))
    lost, wrong = _compare(store, points)
    return Round(kind, kills, flights, again, lost, wrong, beyond)


def _compare(folder: Path, points: int) -> tuple[int, int]:
    """How many results are not there, and how many are not what they should be."""
    from overparam.store import Store

    store, seeds = Store.open(folder), np.random.SeedSequence(ROOT).spawn(points)
    lost = wrong = 0
    for i in range(points):
        try:
            found = store.get(i)
        except KeyError:
            lost += 1
            continue
        right = np.array_equal(found["draws"], np.random.default_rng(seeds[i]).normal(size=50)) and found["square"] == i * i
        wrong += not right
    return lost, wrong


def _wait(process: subprocess.Popen, log: Path, lines: int) -> None:
    """Until the log has that many lines, or the process ends."""
    began = time.monotonic()
    while len(_begun(log)) < lines and process.poll() is None and time.monotonic() - began < _PATIENCE:
        time.sleep(0.005)


def _begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_bytes().split()]


def _done(store: Path) -> set[int]:
    return {int(path.stem) for path in (store / "points").glob("*.npz")}


def rounds(number: int, points: int, seed: int) -> list[Round]:
    """Rounds over the three kinds in turn."""
    rng, found = np.random.default_rng(seed), []
    for one in range(number):
        kind, options = KINDS[one % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            found.append(one_round(kind, options, points, rng, Path(folder)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--backend", default="loky")
    parser.add_argument("--child")
    parser.add_argument("--log")
    given = parser.parse_args()
    if given.child:
        child(given.child, given.log, given.points, given.jobs, given.backend)
        return
    found = rounds(given.rounds, given.points, given.seed)
    print(f"{'':14} rounds  kills  in flight  begun again  lost  wrong  done twice")
    for kind, _ in (*KINDS, ("all", None)):
        mine = [one for one in found if kind in ("all", one.kind)]
        counts = [sum(getattr(one, name) for one in mine) for name in ("kills", "in_flight", "again", "lost", "wrong", "beyond")]
        print(f"{kind:14} {len(mine):6d} {counts[0]:6d} {counts[1]:10d} {counts[2]:12d} {counts[3]:5d} {counts[4]:6d} {counts[5]:11d}")
    if not all(one.good for one in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
