"""What benchmarks/fuzz.py calls: every public function, with good arguments that the script then twists.

Each entry of `CALLS` makes, of a `fuzz_values.Values`, a function and its arguments by name. `FIXED` arguments are never twisted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from fuzz_values import Values

import overparam as op

Call = tuple[Callable[..., Any], dict[str, Any]]

#: How often each is called, relative to the others.
OFTEN, USUAL, SELDOM = 6, 3, 1

CALLS: dict[str, tuple[Callable[[Values], Call], int]] = {}
FIXED = frozenset({"progress", "n_jobs", "ax", "confirm", "observe", "stop", "panels", "state", "array"})


def call(name: str, often: int = USUAL) -> Callable[[Callable[[Values], Call]], Callable[[Values], Call]]:
    def add(make: Callable[[Values], Call]) -> Callable[[Values], Call]:
        CALLS[name] = make, often
        return make

    return add


def simple(name: str, function: Any, often: int = USUAL, /, **arguments: Callable[[Values], Any]) -> None:
    """A function whose arguments do not depend on each other."""
    CALLS[name] = (lambda v: (function, {key: make(v) for key, make in arguments.items()})), often


def method(name: str, owner: Callable[[Values], Any], attribute: str, often: int = USUAL, /, **arguments: Callable[[Values], Any]) -> None:
    CALLS[name] = (lambda v: (getattr(owner(v), attribute), {key: make(v) for key, make in arguments.items()})), often


def few(v: Values) -> int:
    return v.n


def params(v: Values) -> np.ndarray:
    return v.params()


def vector(v: Values) -> np.ndarray:
    return v.vector()


def size(v: Values) -> float:
    return v.size()


def seed(v: Values) -> Any:
    return v.seed()


def factors_of(v: Values) -> np.ndarray:
    d = int(v.rng.integers(1, 4))
    return v.array(int(v.rng.integers(1, 6)), d, d) * (1j if v.chance(0.3) else 1)


# --- teachers, rules, states --------------------------------------------------------------------------------------------

simple("Gaussian", op.Gaussian, mean=vector, covariance=lambda v: v.pick((None, v.covariance())))
simple("GaussianMixture", op.GaussianMixture, means=params, weights=lambda v: v.pick((None, v.weights())))
simple("DataSet", op.DataSet, x=params, weights=lambda v: v.pick((None, v.weights())))
for _name in ("score", "responsibilities"):
    method(f"GaussianMixture.{_name}", Values.mixture, _name, x=params)
method("Teacher.score", Values.teacher, "score", x=params)
method("Teacher.sample", Values.teacher, "sample", n=few, rng=seed)
method("Teacher.at_time", Values.teacher, "at_time", t=lambda v: v.time())
method("Teacher.describe", Values.teacher, "describe")
simple("Teacher.from_description", op.Teacher.from_description, description=lambda v: v.teacher(False).describe())
method("DataSet.at_time", lambda v: op.DataSet(v.params()), "at_time", t=lambda v: v.time(), draws=few, rng=seed)
method("DataSet.draw", lambda v: op.DataSet(v.params(), v.weights()), "draw", n=few, rng=seed)
simple("Auto", op.Auto, tol=lambda v: v.pick((1e-3, 1e-10, 0.5)), max_nodes=lambda v: 300, sampling=lambda v: v.chance(0.5))
simple("GaussHermite", op.GaussHermite, orders=lambda v: v.pick((3, (2, 5), [3])))
simple("Trapezoid", op.Trapezoid, orders=lambda v: v.pick((3, (2, 5))), half_width=lambda v: v.pick((None, 3.0, v.size())))
for _rule in (op.MonteCarlo, op.Stratified, op.Sobol):
    simple(_rule.__name__, _rule, n=lambda v: 64, rng=seed, replicates=lambda v: v.pick((2, 16)))
simple("State", op.State, centre=vector, deviations=params, basis=lambda v: v.pick((None, np.eye(v.d))), origin=lambda v: v.pick((None,
       v.vector())),
       log_scale=lambda v: v.pick((0.0, -1.0, -1e5, -1e300)))
simple("State.of", op.State.of, params=params)
simple("State.laid_out", lambda array: op.State.laid_out(array).params, array=factors_of)


@call("State's views")
def _(v: Values) -> Call:
    def views(state: op.State) -> Any:
        found = state.params, state.spread, state.true_deviations, state.coordinates, np.asarray(state)
        assert state.log_spread <= 709  # -inf for coincident parameters
        return found

    return views, {"state": v.state()}


# --- objectives ---------------------------------------------------------------------------------------------------------

simple("ScoreMatching", op.ScoreMatching, teacher=lambda v: v.teacher(), t=lambda v: v.time(), weights=lambda v: v.pick((None,
       v.weights())),
       rule=lambda v: v.rule())
simple("KLDivergence", op.KLDivergence, teacher=lambda v: v.teacher(), t=lambda v: v.time(), weights=lambda v: v.pick((None, v.weights())),
       rule=lambda v: v.rule())
simple("ReverseFisher", op.ReverseFisher, teacher=lambda v: v.teacher(), weights=lambda v: v.pick((None, v.weights())),
       rule=lambda v: v.rule())
simple("TimeAveraged", op.TimeAveraged, teacher=lambda v: v.teacher(), times=lambda v: np.abs(v.array(3)),
       time_weights=lambda v: v.weights(3),
       weights=lambda v: v.pick((None, v.weights())), rule=lambda v: v.rule())
simple("TimeAveraged.over", op.TimeAveraged.over, teacher=lambda v: v.teacher(False), T=lambda v: v.positive(),
       weight=lambda v: v.pick(("uniform", lambda t: 1 + 0 * t, lambda t: t)), nodes=few, weights=lambda v: v.pick((None, v.weights())))
simple("ReLUNeuron", op.ReLUNeuron, target=vector)
simple("MatrixFactorization", op.MatrixFactorization, target=lambda v: v.array(v.d, v.d), depth=few, balance=size)


def of_problem(attribute: str, *more: str, often: int = OFTEN) -> None:
    @call(f"Objective.{attribute}", often)
    def _(v: Values) -> Call:
        obj, at = v.problem()
        rest = {"direction": v.array(*at.shape)} if "direction" in more else {}
        return getattr(obj, attribute), {"params": at if v.chance(0.9) or at.ndim != 2 else op.State.of(at), **rest}


of_problem("value_and_grad", often=2 * OFTEN)
of_problem("estimate", often=3 * OFTEN)
for _name in ("value", "grad", "start", "hessian"):
    of_problem(_name, often=USUAL)
of_problem("hvp", "direction", often=USUAL)
method("Objective.score", Values.mixtures, "score", x=params, params=params)
method("Objective.responsibilities", Values.mixtures, "responsibilities", x=params, params=params)
method("Objective.with_weights", Values.mixtures, "with_weights", weights=lambda v: v.weights())
method("Objective.with_rule", Values.mixtures, "with_rule", rule=lambda v: v.rule())
method("Objective.describe", Values.objective, "describe")
method("TimeAveraged.at_time", lambda v: op.TimeAveraged(v.mixture(), [0.1, 1.0], [0.5, 0.5]), "at_time", t=lambda v: v.time())
method("MatrixFactorization.product", lambda v: op.MatrixFactorization(np.eye(2), depth=2), "product", params=lambda v: v.array(2, 2, 2))


@call("Estimate.interval", USUAL)
def _(v: Values) -> Call:
    obj, at = v.problem()
    v.names.add("params")
    found = obj.estimate(at)
    return found.interval, {"level": v.pick((0.5, 0.95))}


# --- starts -------------------------------------------------------------------------------------------------------------

simple("init.around", op.init.around, center=vector, deviations=params, log_scale=lambda v: v.pick((0.0, -5.0, -1e5)))
simple("init.bad_region", op.init.bad_region, n=few, dimension=lambda v: v.d)
simple("init.balanced_gaussian", op.init.balanced_gaussian, depth=few, d=lambda v: min(v.d, 9), scale=size, rng=seed,
       complex=lambda v: v.chance(0.5))
simple("init.small_gaussian", op.init.small_gaussian, depth=few, d=lambda v: min(v.d, 9), scale=size, rng=seed,
       complex=lambda v: v.chance(0.5))
simple("init.cluster", op.init.cluster, n=few, center=vector, scale=size, rng=seed)
simple("init.exponentially_small", op.init.exponentially_small, n=few, target=vector, rng=seed, radius=lambda v: v.pick((None, v.size())),
       log_scale=lambda v: v.pick((0.0, -5.0, -1e5)))
simple("init.from_teacher", op.init.from_teacher, teacher=lambda v: v.teacher(), n=few, rng=seed)
simple("init.gaussian", op.init.gaussian, n=few, mean=vector, scale=size, rng=seed)
simple("init.log_radius", op.init.log_radius, n=few, target=vector)
simple("init.on_sphere", op.init.on_sphere, n=few, radius=size, dimension=lambda v: v.d, rng=seed)
simple("init.one_offset", op.init.one_offset, n=few, target=vector, offset=lambda v: v.pick((None, v.size())))
simple("init.symmetric_pair", op.init.symmetric_pair, n=few, s=size, dimension=lambda v: v.pick((None, v.d)),
       target=lambda v: v.pick((None, v.vector())))

# --- drivers and what they return ---------------------------------------------------------------------------------------

_DRIVERS: dict[str, tuple[Callable[..., Any], dict[str, Callable[[Values], Any]]]] = {
    "gradient_descent": (op.gradient_descent, {"precondition": lambda v: v.pick((None, None, "weights"))}),
    "momentum": (op.momentum, {"momentum": lambda v: v.pick((0.9, 0.0)), "nesterov": lambda v: v.chance(0.5)}),
    "adam": (op.adam, {"beta1": lambda v: v.pick((0.9, 0.0)), "beta2": lambda v: 0.99, "eps": lambda v: v.pick((1e-8, v.positive()))}),
    "sgd": (op.sgd, {"batch_size": lambda v: v.pick((1, 4, 30)), "rng": seed, "batches": lambda v: v.pick(("fresh", "epochs"))}),
}


def steps(v: Values) -> int:
    return int(v.rng.integers(0, 25))


def step_size(v: Values) -> Any:
    return v.pick((0.01, 0.1, 0.1, v.positive(), lambda step: 0.1 / (1 + step)))


for _name, (_function, _more) in _DRIVERS.items():
    def _driver(v: Values, function: Any = _function, more: Any = _more) -> Call:
        obj, at = v.problem()
        return function, {"objective": obj, "params0": at, "step_size": step_size(v), "steps": steps(v), "record": v.schedule(),
                          **{key: make(v) for key, make in more.items() if v.chance(0.7) or key == "batch_size"}, "progress": False}

    CALLS[_name] = _driver, USUAL


@call("gradient_flow")
def _(v: Values) -> Call:
    obj, at = v.problem()
    return op.gradient_flow, {"objective": obj, "params0": at, "t_end": v.pick((0.1, 3.0, v.positive())), "rtol": v.pick((1e-3, 1e-6)),
                              "max_evaluations": 200, "record": v.schedule(), "progress": False}


@call("em")
def _(v: Values) -> Call:
    obj = v.build(op.KLDivergence, teacher=v.teacher(), t=v.pick((0.0, 0.5)), weights=v.pick((None, v.weights())), rule=v.rule())
    return op.em, {"objective": obj, "params0": v.params(), "weights0": v.pick((None, v.weights())), "steps": steps(v),
                   "step_size": v.pick((None, None, 0.5, v.positive())), "update_weights": v.chance(0.5), "progress": False}


@call("stationary.find")
def _(v: Values) -> Call:
    obj, at = v.problem()
    return op.stationary.find, {"obj": obj, "params0": at, "tol": v.pick((1e-6, 1e-10)), "max_iterations": 5, "null_tolerance": 1e-7}


simple("every", op.every, interval=few)
simple("log_spaced", op.log_spaced, count=few)
simple("verify", op.verify, SELDOM, trajectory=lambda v: v.run(), factor=lambda v: v.pick((100.0, 2.0)), progress=lambda v: False)
method("Trajectory.extend", Values.run, "extend", SELDOM, steps=steps)
method("Trajectory.joined", Values.run, "joined", SELDOM, other=Values.run)
method("Trajectory.to_xarray", Values.run, "to_xarray", SELDOM)
method("Trajectory.summary", Values.run, "summary", SELDOM)


@call("Trajectory")
def _(v: Values) -> Call:
    count = v.pick((1, 3))
    return op.Trajectory, {
        "steps": np.arange(count), "times": 0.1 * np.arange(count), "loss": np.abs(v.array(count)), "loss_error": np.zeros(count),
        "grad_norm": np.abs(v.array(count)), "centres": v.array(count, v.d), "deviations": v.array(count, v.n, v.d),
        "weights": v.pick((None, v.weights())), "status": v.pick(("completed", "unstable")), "message": "words"}


@call("Trajectory.save and load", SELDOM)
def _(v: Values) -> Call:
    run = v.run()

    def there_and_back(path: Any) -> Any:
        run.save(path)
        try:
            back = op.load(path)
        finally:
            os.unlink(path)
        assert np.array_equal(back.params, run.params) and np.array_equal(back.loss, run.loss)
        return back

    v.names.add("path")
    return there_and_back, {"path": "run.nc"}


@call("load", SELDOM)
def _(v: Values) -> Call:
    with open("noise.nc", "wb") as file:
        file.write(v.pick((b"", b"\x89HDF\r\n\x1a\n", b"CDF\x01")) + v.rng.bytes(int(v.rng.integers(300))))
    return op.load, {"path": v.pick(("noise.nc", "nowhere.nc", "."))}


for _name in ("classify", "count", "distances"):
    simple(f"regimes.{_name}", getattr(op.regimes, _name), traj=Values.run, target=lambda v: v.pick((None, v.vector())))
simple("regimes.outward_speed", op.regimes.outward_speed, radius=lambda v: np.abs(v.array(3)), weight=lambda v: v.pick((0.5, 0.0, 1.0)))
simple("regimes.until_decided", op.regimes.until_decided, target=vector)
simple("rates.local_slope", op.rates.local_slope, traj=Values.run)
simple("rates.fit_power_law", op.rates.fit_power_law, traj=Values.run, window=lambda v: v.pick((None, (0.1, 1.0))))
simple("rates.compare", op.rates.compare, traj=Values.run, law=lambda v: v.pick((lambda t: 1 / (1 + t), lambda t: t)),
       window=lambda v: v.pick((None, (0.1, 1.0))))

# --- what measures and tells --------------------------------------------------------------------------------------------

for _name in ("fisher", "kullback_leibler", "total_variation"):
    simple(f"distances.{_name}", getattr(op.distances, _name), p=lambda v: v.teacher(False), q=lambda v: v.teacher(False),
           tol=lambda v: v.pick((1e-2, 1e-3, 1e-6)))
for _name in op.factors.__all__:
    simple(f"factors.{_name}", getattr(op.factors, _name), SELDOM, params=factors_of)
simple("threads", op.threads, SELDOM, count=lambda v: v.pick((1, 2)))


@call("theory.check")
def _(v: Values) -> Call:
    obj, at = v.problem()
    return op.theory.check, {"name": v.pick(op.theory.list()), "subject": obj, "params0": at, "step_size": v.pick((None, 0.1,
        v.positive())),
                             "confirm": False}


@call("theory.check of a run", SELDOM)
def _(v: Values) -> Call:
    return op.theory.check, {"name": v.pick(op.theory.list()), "subject": v.run(), "confirm": False}


simple("theory.get", op.theory.get, SELDOM, name=lambda v: v.pick(op.theory.list()))


@call("experiments.run", SELDOM)
def _(v: Values) -> Call:
    """The settings are not known: what is tested is that this is said, and quickly."""
    return op.experiments.run, {"name": v.pick(("zhang2025.figure_2", "text", v.pick(op.experiments.list()))), "sed": 3}


@call("experiments.run of a figure", SELDOM)
def _(v: Values) -> Call:
    return op.experiments.run, {"name": "zhang2025.figure_1", "M": v.pick((1.0, 2.0)), "n": 2, "steps": 20, "tol": 1e-4, "records": 5}


def _point(x: float, y: float) -> dict[str, float]:
    return {"sum": x + y}


@call("sweep", SELDOM)
def _(v: Values) -> Call:
    return op.sweep, {"point": _point, "grid": {"x": [1.0, 2.0], "y": [0.5]}, "n_jobs": 1, "seed": v.seed(), "progress": False}


for _name in ("loss", "norms", "local_slope"):
    simple(f"plotting.{_name}", getattr(op.plotting, _name), SELDOM, traj=Values.run, x=lambda v: v.pick(("time", "steps")))


@call("config.loads", SELDOM)
def _(v: Values) -> Call:
    from overparam import config

    mean, params = (v.vector().tolist(), v.params().tolist()) if v.d < 9 else ([0.0], [[0.0]])
    kind = v.pick(("ScoreMatching", "KLDivergence"))
    table = ["[teacher]", f"mean = {mean}", "[objective]", f'kind = "{kind}"', "[start]", f"params = {params}",
             "[driver]", 'kind = "gradient_descent"', "step_size = 0.1", "steps = 3"]
    if v.chance(0.7):
        spoilt = int(v.rng.integers(len(table)))
        table[spoilt] = v.pick(("", "[", table[spoilt] + "0", table[spoilt].upper(), "x = nan", "[sweep]", table[spoilt].replace("=",
            "= -")))
    return config.loads, {"text": "\n".join(table)}


@call("interop.scipy.wrap", SELDOM)
def _(v: Values) -> Call:
    from overparam.interop import scipy

    obj, at = v.problem()

    def wrapped(objective: Any, params0: Any) -> Any:
        flat = scipy.wrap(objective, params0)
        return flat(flat.x0)

    return wrapped, {"objective": obj, "params0": at}
