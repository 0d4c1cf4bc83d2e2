"""Arguments for benchmarks/fuzz.py: good ones, good ones of hostile size, and what no argument should be.

A `Values` is made of one generator, so that a call depends on its number alone.
"""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import overparam as op

SIZES = (0.0, 5e-324, 1e-300, 1e-160, 1e-100, 1e-30, 1e-8, 1e-3, 0.3, 1.0, 3.0, 9.0, 40.0, 1e3, 1e8, 1e16, 1e80, 1e150, 1e160,
         1e300)
USUAL = (0.0, 1e-8, 1e-3, 0.3, 1.0, 2.0, 3.0, 6.0)

#: Arguments that say how much work to do: a large number there is a long run, not a finding.
WORK = frozenset({"steps", "t_end", "max_iterations", "max_evaluations", "draws", "nodes", "replicates", "orders", "batch_size",
    "max_nodes",
                  "factor", "half_width", "records", "depth", "record", "max_runs"})


def _junk(rng: np.random.Generator, work: bool) -> Any:
    """What may stand where a number, an array or an object is wanted."""
    kinds: Sequence[Callable[[], Any]] = (
        lambda: 0, lambda: -1, lambda: 2, lambda: 0.5, lambda: -0.0, lambda: 1e300, lambda: -1e300, lambda: 1e-300, lambda: 5e-324,
        lambda: float("nan"), lambda: float("inf"), lambda: -float("inf"), lambda: 2**62, lambda: 2**64, lambda: -(2**63),
        lambda: 10**400, lambda: True, lambda: False, lambda: None, lambda: "3", lambda: "text", lambda: "", lambda: b"bytes",
        lambda: 1j, lambda: np.float16(65504), lambda: np.float32("nan"), lambda: np.longdouble("1e4000"), lambda: np.longdouble("1e-4000"),
        lambda: np.int8(-1), lambda: np.uint64(2**64 - 1), lambda: np.bool_(True), lambda: [], lambda: (), lambda: {}, lambda: set(),
        lambda: [1.0], lambda: [[1.0], [2.0, 3.0]], lambda: np.array(2.0), lambda: np.array([2.0]), lambda: np.zeros((0, 2)),
        lambda: np.zeros((2, 0)), lambda: np.zeros((0,)), lambda: np.ones((2, 2, 2)), lambda: np.ma.masked,
        lambda: np.ma.array([1.0, 2.0], mask=[True, False]), lambda: np.array([1.0, None]), lambda: np.array(["a"]),
        lambda: np.datetime64("2020-01-01"), lambda: np.timedelta64(3, "s"), lambda: object(), lambda: fractions.Fraction(1, 3),
        lambda: decimal.Decimal("0.1"), lambda: len, lambda: range(3), lambda: slice(None), lambda: (x for x in (1.0, 2.0)),
        lambda: memoryview(b"abcdefgh"), lambda: np.zeros(2, [("a", "f8")]), lambda: np.random.default_rng(0), lambda: {"kind": "Gaussian"},
        lambda: op.Gaussian([0.0]), lambda: op.Gaussian, lambda: op.GaussHermite(3), lambda: op.State.of([[1.0], [2.0]]),
        lambda: op.ScoreMatching(op.Gaussian([0.0])), lambda: NotImplemented, lambda: ..., lambda: type, lambda: "\0", lambda: "é" * 2000)
    while True:
        found = kinds[int(rng.integers(len(kinds)))]()
        if not (work and isinstance(found, (int, float, np.number)) and 50 < abs(found) < 2**64):
            return found


def twisted_array(rng: np.random.Generator, good: np.ndarray) -> Any:
    """The array with another type, memory, shape or entry; what is still the same numbers must give the same."""
    kind = int(rng.integers(22))
    with np.errstate(all="ignore"):
        if kind == 0:
            type_ = str(rng.choice(["f2", "f4", "g", "i1", "u8", "?", ">f8", "F", "D"]))
            return good.astype(type_ if good.dtype.kind != "c" else "F")
        if kind == 1:
            return good.astype(object)
    if kind == 2:
        return np.asfortranarray(good)
    if kind == 3:
        return np.repeat(good, 2, axis=-1)[..., ::2]
    if kind == 4:
        return good[..., ::-1][..., ::-1][::-1]
    if kind == 5:
        good = good.copy()
        good.flags.writeable = False
        return good
    if kind == 6:
        return good.tolist()
    if kind == 7:
        return good[None]
    if kind == 8:
        return good.ravel()
    if kind == 9:
        return good[:0]
    if kind == 10:
        return good[..., :0]
    if kind == 11:
        return np.ma.array(good, mask=rng.random(good.shape) < 0.3)
    if kind == 12:
        return np.broadcast_to(good.ravel()[:1].reshape((1,) * good.ndim), good.shape)
    if kind == 13:
        return good.T
    if kind == 14:
        return np.concatenate([good, good], axis=-1)
    if kind == 15:
        return good.astype(str)
    if kind == 16:
        return good * 1j
    if good.size == 0:
        return good
    good = good.copy() if good.dtype.kind == "c" else good.astype(float)
    entries = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e155, 1e-300, 5e-324, -0.0, 1e16, -40.0)
    where = int(rng.integers(good.size)) if kind < 21 else slice(None)
    good.reshape(-1)[where] = entries[int(rng.integers(len(entries)))]
    return good


class Values:
    """Good arguments, and `twisted` ones. `names` collects those of what is built on the way, for the messages' sake."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.names: set[str] = set()
        self.hostile = bool(rng.random() < 0.5)  # sizes from 5e-324 to 1e300, or usual ones
        self.d = self.pick((1, 1, 2, 2, 3, 4)) if rng.random() > 0.01 else self.pick((100, 10_000, 300_000))
        self.n = self.pick((1, 2, 2, 3, 5, 8))

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def size(self) -> float:
        return float(self.pick(SIZES if self.hostile else USUAL))

    def positive(self) -> float:
        return self.size() or 0.5

    def array(self, *shape: int) -> np.ndarray:
        """Numbers of one size, with coincident, aligned, far and zero ones among them."""
        with np.errstate(over="ignore"):
            return np.clip(self._array(shape), -1e301, 1e301)

    def _array(self, shape: tuple[int, ...]) -> np.ndarray:
        array = self.size() * self.rng.standard_normal(shape)
        if self.chance(0.3):
            array += self.size()
        kind = int(self.rng.integers(8))
        if kind == 0:
            array[...] = array[:1]
        elif kind == 1 and shape[-1] > 1:
            array[..., 1:] = 0
        elif kind == 2:
            array[0] *= self.size()
        elif kind == 3:
            array = np.round(array)
        elif kind == 4 and shape[0] > 1:
            array[1] = -array[0]
        return array

    def params(self, n: int | None = None) -> np.ndarray:
        return self.array(self.n if n is None else n, self.d)

    def vector(self) -> np.ndarray:
        return self.array(self.d)

    def weights(self, n: int | None = None) -> np.ndarray:
        n = self.n if n is None else n
        found = self.rng.random(n) + 0.01
        if self.chance(0.3):
            found[int(self.rng.integers(n))] = self.pick((0.0, 1e-300, 1e-12))
        return found / found.sum() if found.sum() > 0 else np.full(n, 1 / n)

    def seed(self) -> Any:
        return self.pick((0, 1, None)) if self.chance(0.1) else int(self.rng.integers(1000))

    def build(self, kind: Callable[..., Any], **arguments: Any) -> Any:
        self.names.update(arguments)
        return kind(**arguments)

    # --- what the library's own types are made of ---

    def covariance(self) -> Any:
        d = self.d
        if d > 4 or self.chance(0.3):
            return self.pick((2.0, self.positive(), np.full(d, 0.5)))
        root = self.rng.standard_normal((d, d))
        return root @ root.T + 0.1 * np.eye(d)

    def mixture(self) -> Any:
        k = int(self.rng.integers(1, 4))
        return self.build(op.GaussianMixture, means=self.params(k), weights=self.weights(k) if self.chance(0.5) else None)

    def teacher(self, data: bool = True) -> Any:
        kind = int(self.rng.integers(6))
        if kind < 3:
            return self.build(op.Gaussian, mean=self.vector())
        if kind == 3:
            return self.build(op.Gaussian, mean=self.vector(), covariance=self.covariance())
        if kind == 4 and data and self.d < 100:
            return self.build(op.DataSet, x=self.params(int(self.rng.integers(1, 20))))
        return self.mixture()

    def rule(self) -> Any:
        kind = int(self.rng.integers(10))
        if kind < 6:
            return op.Auto(tol=self.pick((1e-3, 1e-6, 1e-10, 1e-14)), max_nodes=self.pick((1, 300, 3000, 20_000)),
                sampling=self.chance(0.3))
        if kind == 6:
            return op.GaussHermite(self.pick((1, 2, 5, 20)) if self.d > 2 else self.pick((1, 7, 60)))
        if kind == 7:
            return op.Trapezoid(self.pick((2, 5, 9)), half_width=self.pick((None, 1.0, 9.0, 1e-300)))
        return self.pick((op.MonteCarlo, op.Stratified, op.Sobol))(self.pick((16, 64, 256)), rng=0, replicates=self.pick((2, 16)))

    def objective(self) -> Any:
        """Any objective of (n, d) parameters."""
        return self.build(op.ReLUNeuron, target=self.vector()) if self.chance(0.12) else self.mixtures()

    def mixtures(self) -> Any:
        """Any objective of mixtures."""
        rest = {"weights": self.weights() if self.chance(0.3) else None, "rule": self.rule()}
        kind = int(self.rng.integers(7))
        if kind < 3:
            return self.build(op.ScoreMatching, teacher=self.teacher(), t=self.time(), **rest)
        if kind < 5:
            return self.build(op.KLDivergence, teacher=self.teacher(), t=self.time(), **rest)
        if kind == 5:
            return self.build(op.ReverseFisher, teacher=self.teacher(False), **rest)
        return self.build(op.TimeAveraged, teacher=self.teacher(False), times=[0.1, 1.0], time_weights=[0.5, 0.5], **rest)

    def problem(self) -> tuple[Any, np.ndarray]:
        """Any objective, and parameters for it."""
        if self.chance(0.15):
            d, depth = int(self.rng.integers(1, 4)), int(self.rng.integers(1, 6))
            factors = self.array(depth, d, d)
            return (self.build(op.MatrixFactorization, target=self.array(d, d), depth=depth, balance=self.size()),
                    factors * 1j if self.chance(0.1) else factors)
        return self.objective(), self.params()

    def time(self) -> float:
        return self.pick((0.0, 0.0, 0.1, 1.0, 50.0, self.size()))

    def state(self) -> Any:
        log_scale = self.pick((0.0, 0.0, -1.0, -700.0, -1e5, -1e300))
        return self.build(op.State, centre=self.vector(), deviations=self.params(), log_scale=log_scale)

    def schedule(self) -> Any:
        return self.pick((None, op.log_spaced(5), op.every(2)))

    def run(self) -> Any:
        """A short trajectory."""
        self.names.update(("params", "params0"))
        kind = int(self.rng.integers(4))
        obj = self.build(self.pick((op.ScoreMatching, op.KLDivergence)), teacher=self.build(op.Gaussian, mean=self.vector()),
                         rule=op.Auto(tol=1e-6, max_nodes=3000))
        settings = {"progress": False, "record": op.log_spaced(8)}
        if kind == 0:
            return op.gradient_flow(obj, self.params(), t_end=1.0, rtol=1e-4, max_evaluations=500, **settings)
        if kind == 1:
            return op.momentum(obj, self.params(), step_size=0.05, steps=9, **settings)
        return op.gradient_descent(obj, self.params(), step_size=self.pick((0.05, 0.3, 1e3)), steps=int(self.rng.integers(0, 40)),
            **settings)

    def twisted(self, name: str, good: Any) -> Any:
        """Something else in the place of `good`."""
        if isinstance(good, np.ndarray) and good.ndim and self.chance(0.7):
            return twisted_array(self.rng, good)
        if isinstance(good, (bool, int, float)) and self.chance(0.2):
            with np.errstate(over="ignore"):
                single = np.float32(good)
            return self.pick((np.array(good), np.float64(good), single, float(good), -good, np.array([good])))
        return _junk(self.rng, name in WORK)
